"""The command RecordUsages: what happens to a batch of usages, each of which is answered for itself.

What comes out is what recording them one by one, in their order, would have come to; what it costs is less.

    plan      in input order: each key once; under a hard limit what still fits, each usage whole
    try       one transaction of up to 100 items, with one update per counter; all of it lands or none
    settle    what stands under a key answers everything of the batch that has this key
    …         what a cancellation shows to be recorded is taken out, what others hold is set aside; the rest goes again
    refuse    what is left fits no limit, or may not be recorded: unless it was recorded before
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

from metering.model.errors import KeyReused, OrganizationInactive, OrganizationUnknown, Refused, Unavailable
from metering.model.usage import CounterId, Usage
from metering.storage import ledger
from metering.storage.counter_items import FIRST_SHARD
from metering.storage.ledger import MOST_ACTIONS, Addition, Cancellation, Recorded
from metering.storage.retry import Effort, until_free
from metering.storage.signals import LimitExceeded, MalformedItem, StoreBusy
from metering.storage.usage_records import StoredUsage
from metering.usage.command import Books, RecordUsage, Terms, terms_of, usage_of

_OF_EVERYBODY = OrganizationUnknown | OrganizationInactive
# A round takes something out, learns of a limit, or waits; waits alone come to the deadline in fewer. Whatever happens,
# a batch does not keep the table busy for longer.
_MOST_ROUNDS = 100
# A record and the update of its counter are two actions.
_MOST_COUNTERS = MOST_ACTIONS // 2


class Standing(NamedTuple):
    """A usage of the batch that stands in the ledger, by this request or before."""

    recorded: Recorded
    current_usage: int | None
    """Its feature's total in its own billing period, after the batch; None: not known by the deadline."""
    limit: int | None
    """What the organization's plan has for the feature now; None: no limit."""


class NotFitting(NamedTuple):
    """A usage of the batch that did not fit a hard limit. Nothing of it is stored, and its key is still free."""

    current_usage: int | None
    limit: int | None


# Refused: nothing is stored under its key, or something else. Unavailable: it may have been recorded. MalformedItem:
# what stands under its key, or its counter, cannot be read.
Outcome: TypeAlias = Standing | NotFitting | Refused | Unavailable | MalformedItem


def record_usages(commands: Sequence[RecordUsage], books: Books, effort: Effort, now: datetime) -> list[Outcome]:
    """Record each usage as of `now`, or find it recorded, or say why not. They are of one organization.

    Returns: one outcome for each command, in their order.
    Raises:
        OrganizationUnknown, OrganizationInactive: none of them is recorded, now or before.
        Unavailable: the deadline came before anything was tried.
    """
    if not commands:
        return []
    # Fixed once per request, as for a single usage.
    usages = [usage_of(command, books.retention, now) for command in commands]
    books.directory.enter(usages[0].billing_period)
    batch = _Batch(usages, terms_of(usages, books, effort), books, effort)
    try:
        batch.record()
    except Unavailable as unavailable:
        batch.give_up(unavailable)
    return batch.outcomes()


@dataclass
class _Entry:
    """One usage of the batch, and what has become of it."""

    usage: Usage
    terms: Terms
    outcome: Recorded | LimitExceeded | Refused | Unavailable | MalformedItem | None = None
    """None: it is open."""


class _Batch:
    """A batch on its way: what is open, and what was learned about its counters."""

    def __init__(self, usages: Sequence[Usage], terms: dict[str, Terms], books: Books, effort: Effort) -> None:
        self._entries = [_Entry(usage, terms[usage.feature]) for usage in usages]
        self._books = books
        self._effort = effort
        # Keys whose records other transactions hold.
        self._aside: set[str] = set()
        # Counters with a hard limit that does not hold in this period.
        self._soft: set[CounterId] = set()
        # Counters under a hard limit that the terms, as they are stored now, do not have: the next addition ends it.
        self._lifted: set[CounterId] = set()
        # What hard-limited counters hold at the least.
        self._at_least: dict[CounterId, int] = defaultdict(int)
        # Of which it is known whether their hard limits hold; and those that did not answer that since the last wait.
        self._known: set[CounterId] = set()
        self._unread: set[CounterId] = set()
        # The shards that were last held by others.
        self._held: dict[CounterId, int] = {}
        # Counters that were busy, and how many are tried together: one that is busy cancels what is recorded on all.
        self._busy: set[CounterId] = set()
        self._together = _MOST_COUNTERS
        self._waits = 0

    def record(self) -> None:
        """Settle everything.

        Raises:
            Unavailable: the deadline came first; what is open may have been recorded.
        """
        for _ in range(_MOST_ROUNDS):
            if not self._open():
                return
            self._look_at_limits()
            additions = self._plan()
            if additions:
                self._try(additions)
            elif self._aside or self._unread:
                self._wait()
                self._aside.clear()
            else:
                self._refuse()
                return
        raise Unavailable(retry_after_s=1)

    def give_up(self, unavailable: Unavailable) -> None:
        """Leave what is open as it is."""
        for entry in self._open():
            entry.outcome = unavailable

    def outcomes(self) -> list[Outcome]:
        """What has become of each usage, when nothing is open any more.

        Raises:
            OrganizationUnknown, OrganizationInactive: that, and nothing else, has become of all of them.
        """
        refusals = [entry.outcome for entry in self._entries if isinstance(entry.outcome, _OF_EVERYBODY)]
        if len(refusals) == len(self._entries):
            raise refusals[0]
        totals = self._totals()
        return [_outcome(entry, totals) for entry in self._entries]

    def _open(self) -> list[_Entry]:
        return [entry for entry in self._entries if entry.outcome is None]

    def _hard_limit(self, entry: _Entry) -> int | None:
        return None if entry.usage.counter in self._soft else entry.terms.hard_limit

    def _look_at_limits(self) -> None:
        """Ask what those counters hold whose hard limits may refuse something: what fits anyway needs no question."""
        wanted: dict[CounterId, int] = defaultdict(int)
        for entry in self._open():
            counter, limit = entry.usage.counter, self._hard_limit(entry)
            if entry.terms.refusal is not None or limit is None:
                continue
            if counter in self._known or counter in self._unread:
                continue
            wanted[counter] += entry.usage.quantity
            if self._at_least[counter] + wanted[counter] > limit:
                self._look(counter)

    def _look(self, counter: CounterId) -> None:
        self._effort.check()
        try:
            first = self._books.counters.look(counter)
        except StoreBusy:
            # What fits goes on: its transaction's condition knows. Only likely rejections wait for this read.
            self._unread.add(counter)
            return
        except MalformedItem as malformed:
            self._known.add(counter)
            self._pass_over_counter(counter, malformed)
            return
        self._known.add(counter)
        self._at_least[counter] = first.total
        if first.is_soft:
            self._soft.add(counter)

    def _plan(self) -> list[Addition]:
        """What the next transaction is to record: in input order what may be, fits and is not set aside."""
        # By key: what the first one of the batch sends under it that may be recorded.
        claimed: dict[str, str] = {}
        waiting: set[CounterId] = set()
        chosen: dict[CounterId, list[_Entry]] = defaultdict(list)
        wanted: dict[CounterId, int] = defaultdict(int)
        for entry in self._open():
            usage, limit = entry.usage, self._hard_limit(entry)
            if entry.terms.refusal is not None:
                continue
            if usage.idempotency_key in claimed:
                # Who is later under the same key waits for what becomes of the first, and, as other content may then
                # take room under a hard limit, so does what comes after it.
                if limit is not None and claimed[usage.idempotency_key] != usage.fingerprint:
                    waiting.add(usage.counter)
                continue
            if limit is not None and self._at_least[usage.counter] + wanted[usage.counter] + usage.quantity > limit:
                # What takes its room now may turn out to stand already, and the limit not to hold: until that is known
                # nobody else may have its key.
                if usage.counter in self._unread or self._at_least[usage.counter] + usage.quantity <= limit:
                    claimed[usage.idempotency_key] = usage.fingerprint
                continue
            claimed[usage.idempotency_key] = usage.fingerprint
            if usage.idempotency_key in self._aside:
                # Later records must not take the room of this one. The limit that counts is the one that holds now:
                # the transaction that met the held record may have known none.
                if limit is not None:
                    waiting.add(usage.counter)
            elif usage.counter not in waiting:
                wanted[usage.counter] += usage.quantity
                chosen[usage.counter].append(entry)
        return self._packed(chosen)

    def _packed(self, chosen: dict[CounterId, list[_Entry]]) -> list[Addition]:
        """As much of it as one transaction takes. Counter by counter: each costs an update in every transaction.

        Those that were busy come last, where they hold nobody up.
        """
        additions: list[Addition] = []
        left = MOST_ACTIONS
        for counter in sorted(chosen, key=self._busy.__contains__)[: self._together]:
            # A record and the update of its counter.
            if left < 2:
                break
            packed = chosen[counter][: left - 1]
            left -= len(packed) + 1
            limit = self._hard_limit(packed[0])
            # Under a hard limit, all of the counter is in the first shard.
            shard = FIRST_SHARD if limit is not None else self._shard(counter)
            usages = [entry.usage for entry in packed]
            additions.append(Addition(usages, shard, limit, lifts=counter in self._lifted))
        return additions

    def _shard(self, counter: CounterId) -> int:
        return self._books.counters.shard(counter, self._effort.random, self._held.get(counter))

    def _try(self, additions: Sequence[Addition]) -> None:
        self._effort.check()
        try:
            cancelled = ledger.record_together(self._books.client, self._books.table, additions)
        except StoreBusy:
            # Also when it did land: the next try finds each by its event id.
            self._wait()
            return
        if cancelled is not None:
            self._heed(cancelled, additions)
            return
        # A crash here loses the answer and nothing else: to whoever sends the batch again these are replays.
        self._waits = 0
        self._together = min(2 * self._together, _MOST_COUNTERS)
        for addition in additions:
            self._at_least[addition.counter] += addition.quantity
            if addition.hard_limit is not None:
                self._known.add(addition.counter)
            self._books.counters.landed(addition.counter, addition.shard, addition.quantity)
            for usage in addition.usages:
                self._settle(StoredUsage(usage))

    def _heed(self, cancelled: Cancellation, additions: Sequence[Addition]) -> None:
        """Learn from why a transaction was cancelled what to do otherwise in the next one."""
        if cancelled.hard:
            self._renew_terms(cancelled.hard)
        ours = {usage.event_id: addition.shard for addition in additions for usage in addition.usages}
        for stored in cancelled.stored:
            usage = stored.usage
            if usage.event_id in ours:
                self._books.counters.landed(usage.counter, ours[usage.event_id], usage.quantity)
            self._settle(stored)
        self._pass_over(cancelled.malformed)
        for counter, unreadable in cancelled.unreadable.items():
            self._pass_over_counter(counter, unreadable)
        self._aside |= {usage.idempotency_key for usage in cancelled.busy_records}
        self._at_least |= cancelled.full
        self._soft |= set(cancelled.soft)
        self._known |= cancelled.full.keys()
        self._effort.conflicts += cancelled.conflict
        # A rival for a record most likely sends the same batch: that says nothing about the counters.
        if not cancelled.busy_records:
            self._learn(cancelled, [addition for addition in additions if addition.hard_limit is None])
        if cancelled.busy_shards:
            self._busy |= cancelled.busy_shards.keys()
            self._together = max(1, len(additions) // 2)
            self._wait()

    def _renew_terms(self, hard: Sequence[CounterId]) -> None:
        """Go by the terms that hold now: those remembered are from before the hard limits of these counters."""
        terms = terms_of([entry.usage for entry in self._entries], self._books, self._effort, now=True)
        for entry in self._open():
            entry.terms = terms[entry.usage.feature]
        # Those that turn out to have a hard limit now are recorded under it, and end none.
        self._lifted |= set(hard)

    def _learn(self, cancelled: Cancellation, additions: Sequence[Addition]) -> None:
        """Tell the policy which shards were busy, and which would have taken what was to be added."""
        for addition in additions:
            throttled = cancelled.busy_shards.get(addition.counter)
            if throttled is None:
                self._books.counters.let_in(addition.counter, addition.shard)
            else:
                self._turn_away(addition.counter, addition.shard, throttled=throttled)

    def _turn_away(self, counter: CounterId, shard: int, *, throttled: bool) -> None:
        self._held[counter] = shard
        try:
            if self._books.counters.turned_away(counter, shard, self._effort, throttled=throttled):
                # Among more shards, the next try is a first one.
                self._waits = 0
        except MalformedItem as malformed:
            self._pass_over_counter(counter, malformed)

    def _wait(self) -> None:
        self._effort.back_off(self._waits)
        self._waits += 1
        self._unread.clear()

    def _settle(self, stored: StoredUsage) -> None:
        """Answer everything open that has the key under which this is stored."""
        usage = stored.usage
        alike = [entry for entry in self._open() if entry.usage.idempotency_key == usage.idempotency_key]
        ids = [entry.usage.event_id for entry in alike]
        ours = ids.index(usage.event_id) if usage.event_id in ids else 0
        # What comes before the one that was recorded was not to be, or did not fit.
        for entry in alike[:ours]:
            entry.outcome = self._refusal(entry)
        for entry in alike[ours:]:
            try:
                entry.outcome = ledger.stored_before(stored, entry.usage)
            except KeyReused as reused:
                entry.outcome = reused

    def _refuse(self) -> None:
        """Refuse what is left, but for what was recorded before: that is acknowledged for ever after."""
        left = {entry.usage.idempotency_key: entry.usage for entry in self._open()}
        # What others hold may be these very usages, counted already.
        until_free(list(left.values()), self._refuse_unless_stored, self._effort)

    def _refuse_unless_stored(self, usages: Sequence[Usage]) -> Sequence[Usage]:
        """Answer everything that has the keys of these; or nothing, and say which of their records are held."""
        looked = ledger.stored_among(self._books.client, self._books.table, usages)
        if looked.held:
            return looked.held
        for stored in looked.stored:
            self._settle(stored)
        self._pass_over(looked.malformed)
        keys = {usage.idempotency_key for usage in usages}
        for entry in self._open():
            if entry.usage.idempotency_key in keys:
                entry.outcome = self._refusal(entry)
        return []

    def _pass_over(self, malformed: dict[str, MalformedItem]) -> None:
        """Let what cannot be read hold up nobody but those who have the same key."""
        for entry in self._open():
            if entry.usage.idempotency_key in malformed:
                entry.outcome = malformed[entry.usage.idempotency_key]

    def _pass_over_counter(self, counter: CounterId, malformed: MalformedItem) -> None:
        for entry in self._open():
            if entry.usage.counter == counter:
                entry.outcome = malformed

    def _refusal(self, entry: _Entry) -> Refused | LimitExceeded:
        return entry.terms.refusal or LimitExceeded(self._at_least[entry.usage.counter])

    def _totals(self) -> dict[CounterId, int | MalformedItem]:
        """What the counters come to that the answers tell of: as many as are read by the deadline, and can be.

        What was found, and is not in its counter by then, is no longer answered as recorded: a later total may lack it.
        """
        at_once: dict[CounterId, bool] = defaultdict(bool)
        unsure: dict[CounterId, list[Recorded]] = defaultdict(list)
        for entry in self._entries:
            if isinstance(entry.outcome, Recorded):
                counter = entry.outcome.usage.counter
                # What was recorded elsewhere, just now or long ago, is in the total that a replay is told.
                at_once[counter] |= entry.outcome.replayed
                if entry.outcome.shard is not None:
                    unsure[counter].append(entry.outcome)
            elif isinstance(entry.outcome, LimitExceeded):
                at_once[entry.usage.counter] = True
        totals: dict[CounterId, int | MalformedItem] = {}

        def read(counters: Sequence[CounterId]) -> Sequence[CounterId]:
            if held := self._unconfirmed([each for counter in counters for each in unsure.get(counter, ())]):
                return held
            for counter in counters:
                unsure.pop(counter, None)
            for counter in counters:
                totals[counter] = self._total(counter, at_once=at_once[counter])
            return []

        try:
            until_free(list(at_once), read, self._effort)
        except Unavailable as unavailable:
            for entry in self._entries:
                recorded = entry.outcome
                if isinstance(recorded, Recorded) and recorded in unsure.get(recorded.usage.counter, ()):
                    entry.outcome = unavailable
        return totals

    def _unconfirmed(self, found: Sequence[Recorded]) -> Sequence[CounterId]:
        """Counters that may not show some of these usages yet. Then nothing is sure about the others either."""
        for start in range(0, len(found), ledger.MOST_CONFIRMED):
            self._effort.check()
            chunk = found[start : start + ledger.MOST_CONFIRMED]
            if held := ledger.confirm(self._books.client, self._books.table, chunk):
                return list({each.usage.counter for each in held})
        return []

    def _total(self, counter: CounterId, *, at_once: bool) -> int | MalformedItem:
        try:
            return self._books.counters.total(counter, self._effort, at_once=at_once)
        except MalformedItem as malformed:
            return malformed


def _outcome(entry: _Entry, totals: dict[CounterId, int | MalformedItem]) -> Outcome:
    if entry.outcome is None:
        raise AssertionError("a usage of the batch is open")
    if not isinstance(entry.outcome, Recorded | LimitExceeded):
        return entry.outcome
    usage = entry.outcome.usage if isinstance(entry.outcome, Recorded) else entry.usage
    total = totals.get(usage.counter)
    # As if it had been sent alone: that it stands is told when the counter can be read again.
    if isinstance(total, MalformedItem):
        return total
    if isinstance(entry.outcome, Recorded):
        return Standing(entry.outcome, total, entry.terms.limit)
    return NotFitting(total, entry.terms.limit)
