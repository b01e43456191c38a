"""Holds a run's evidence against what this service promises.

Reads items and events by itself, by the table's documented shapes: what the code under test would misread, it must not
misread as well.
"""

import itertools
import json
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from tests.faults import asked, batches, hardness, schemas, spreading
from tests.faults.evidence import Asked, Attempt, BatchAttempt, Evidence, Snapshot
from tests.faults.settings import SUBSCRIPTION_CHANGED, Rule, Settings, stamp
from tests.faults.stored import (
    Counted,
    Fact,
    Notice,
    announcements_in,
    fact_in,
    key_of,
    limit_in,
    name_of,
    notice_in,
    of_kind,
    period_of,
    rules_in,
    shards_in,
    start_of,
)
from tests.faults.workload import ORGANIZATIONS, EventSent, secret_of

# How old what is known of organizations and plans may be.
_REMEMBERED_S = 60.0
# How old the total of a counter of several pages may be, but for what who tells it has counted himself: about a second.
_READ_AGAIN_S = 1.5
_KINDS = ("usage", "notice", "counter", "organization", "plan", "features")


def violations(evidence: Evidence, *, is_quick: bool = False) -> list[str]:
    """Every promise that was broken, in words; empty if all were kept.

    If it is to be quick, of events that are alike only the first is held against its schema.
    """
    return list(_Check(evidence, schemas.errors_by_shape if is_quick else schemas.errors).all())


@dataclass(frozen=True)
class Summary:
    """What there was to be checked."""

    records: int
    """Usage records that there ever were, those included that have expired and are gone."""
    notices: int
    refused: int
    """Requests that were refused at a hard limit."""
    firm: int
    """Counters whose records can only have been counted under hard limits."""
    statuses: Counter[str]
    """What was told of the records of batches."""
    pages: int
    """Further pages of counters, on which something was counted."""


def summarized(evidence: Evidence) -> Summary:
    check = _Check(evidence)
    refused = sum(attempt.body.get("recorded") is False for attempt in evidence.attempts)
    return Summary(
        records=len(check.facts),
        notices=len(check.notices),
        refused=refused,
        firm=len(check.firm),
        statuses=Counter(str(result.get("status")) for batch in evidence.batches for result in batch.results),
        pages=len(spreading.used_pages(evidence.snapshots)),
    )


class _Check:
    """The evidence, and what follows from it."""

    def __init__(
        self, evidence: Evidence, errors_of: Callable[[Mapping[str, Any]], list[str]] = schemas.errors
    ) -> None:
        self.evidence = evidence
        self.errors_of = errors_of
        self.damaged: list[dict[str, Any]] = []
        self.facts: dict[str, Fact] = {}
        self.notices: dict[str, Notice] = {}
        self.wrong: list[str] = []
        self._collect()
        self.settings = Settings(evidence.done)
        self.requests: list[Attempt | BatchAttempt | Asked] = [*evidence.attempts, *evidence.batches, *evidence.asked]
        self.sent = evidence.sent
        self._known: dict[tuple[str, str, float, float], set[Rule]] = {}

    def all(self) -> Iterator[str]:
        yield from self.wrong
        yield from self.counters_are_the_sum_of_the_records()
        yield from spreading.wrong_in(self.evidence.snapshots, self.evidence.changes)
        yield from self.events_are_the_records_and_notices()
        yield from self.every_record_was_asked_for_and_is_what_was_sent()
        yield from self.keys_are_held_for_the_retention()
        yield from self.answers_are_true()
        yield from (wrong for batch in self.evidence.batches for wrong in batches.wrong_in(batch))
        yield from self.queries_tell_what_there_is()
        yield from self.hard_limits_hold()
        yield from self.hard_counters_are_one_item()
        yield from self.hard_limits_are_lifted_by_what_is_read()
        yield from self.what_is_noticed_is_true()
        yield from self.what_is_reached_is_noticed_once()
        yield from self.organizations_are_what_was_said_last()
        yield from self.limits_are_what_was_set_last()
        yield from self.malformed_events_are_queued()
        yield from self.refusals_are_problems()
        yield from self.told_totals_are_the_sum()
        yield from self.nobody_sees_anothers_data()
        yield from self.what_cannot_be_published_is_kept()
        yield from (f"{what} was never done" for what in self.evidence.abandoned)
        yield from (f"{invocation} did not end" for invocation in self.evidence.hung)

    # What stands in the table

    def _collect(self) -> None:
        """All records and notices that ever stood at a phase's end. They may go when they have expired, not change."""
        before: dict[str, Fact | Notice] = {}
        damaged: dict[tuple[str, str], dict[str, Any]] = {}
        for snapshot in self.evidence.snapshots:
            now: dict[str, Fact | Notice] = {}
            for item in snapshot.items:
                pk, sk = item["pk"]["S"], item["sk"]["S"]
                kind = pk.partition("#")[0]
                if kind not in _KINDS:
                    self.wrong.append(f"item {pk} is of no kind that is known")
                if kind not in ("usage", "notice"):
                    continue
                found = fact_in(item) if kind == "usage" else notice_in(item)
                if found is None:
                    damaged[pk, sk] = item
                elif found.event_id in now:
                    self.wrong.append(f"{name_of(now[found.event_id])} and {name_of(found)} have one event id")
                else:
                    now[found.event_id] = found
            for event_id, found in before.items():
                if event_id in now and now[event_id] != found:
                    self.wrong.append(f"{name_of(found)} was changed after it was written")
                if event_id not in now and found.expires_at_s > snapshot.at_s + _LATENESS_S:
                    self.wrong.append(f"{name_of(found)} is gone before it expired")
            self.facts |= {event_id: found for event_id, found in now.items() if isinstance(found, Fact)}
            self.notices |= {event_id: found for event_id, found in now.items() if isinstance(found, Notice)}
            before = now
        for item in self.evidence.images:
            found = fact_in(item) if item["pk"]["S"].startswith("usage#") else notice_in(item)
            if found is None:
                damaged[item["pk"]["S"], item["sk"]["S"]] = item
            elif (known := self.facts.get(found.event_id) or self.notices.get(found.event_id) or found) != found:
                self.wrong.append(f"{name_of(known)} was changed after it was written")
            elif isinstance(found, Fact):
                self.facts[found.event_id] = found
            else:
                self.notices[found.event_id] = found
        self.damaged = list(damaged.values())

    @cached_property
    def by_key(self) -> dict[tuple[str, str], list[Fact]]:
        found: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        for fact in self.facts.values():
            found[fact.organization, fact.key].append(fact)
        for facts in found.values():
            facts.sort(key=lambda fact: fact.recorded_at)
        return found

    @cached_property
    def sender_of(self) -> dict[str, Attempt]:
        """Who asked for each record, by event id: of a batch's equal records the first; missing if nobody did."""
        by_trace: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in self.sent:
            by_trace[attempt.trace_id].append(attempt)
        found = {}
        for fact in self.facts.values():
            attempts = by_trace.get(fact.trace_id, [])
            of_key = [each for each in attempts if (each.organization, each.key) == (fact.organization, fact.key)]
            same = [each for each in of_key if each.content == fact.content]
            # If none is the one, whichever: it is told that this is not what it sent.
            if candidates := same or of_key or attempts:
                found[fact.event_id] = candidates[0]
        return found

    @cached_property
    def recorded_by(self) -> dict[tuple[str, int | None], Fact]:
        """The record that each attempt has made, by trace and place in the batch."""
        return {(sender.trace_id, sender.index): self.facts[event_id] for event_id, sender in self.sender_of.items()}

    def own(self, attempt: Attempt) -> Fact | None:
        """The record that the attempt has made."""
        return self.recorded_by.get((attempt.trace_id, attempt.index))

    @cached_property
    def last_items(self) -> list[dict[str, Any]]:
        return self.evidence.snapshots[-1].items

    @cached_property
    def recorded(self) -> dict[Counted, int]:
        return _sums((fact.counter, fact.quantity) for fact in self.facts.values())

    @cached_property
    def wide(self) -> set[Counted]:
        return spreading.wide_counters(self.evidence.snapshots)

    def may_be_known(self, request: Attempt | Asked) -> bool:
        """Whether its organization may have been known at some moment of the request."""
        return any(done.began < request.ended for done in self.settings.creations[request.organization])

    def may_be_unknown(self, request: Attempt | Asked) -> bool:
        """Whether its organization may have been unknown at some moment of the request."""
        return all(done.ended > request.began for done in self.settings.creations[request.organization])

    def statuses(self, request: Attempt | Asked) -> set[str]:
        """What the function may have known of the organization's status."""
        since_s = self.remembered_since_s(request.began_at_s)
        return self.settings.statuses(request.organization, since_s, request.ended_at_s)

    def remembered_since_s(self, at_s: float) -> float:
        """From when on what is remembered of organizations and plans at this moment may have been read."""
        return self._known_since_s(at_s, _REMEMBERED_S)

    def _known_since_s(self, at_s: float, remembered_s: float) -> float:
        # Clocks may have been set back by as much as they may differ, and by what invocations have slept.
        return at_s - remembered_s - 2 * self.evidence.skew_s - self.evidence.lateness_s

    def rules(self, attempt: Attempt) -> set[Rule]:
        """What the function may have known of the feature's limit."""
        since_s = self.remembered_since_s(attempt.began_at_s)
        feature = str(attempt.content["feature"])
        return self.settings.rules(attempt.organization, feature, since_s, attempt.ended_at_s)

    def rules_known(self, attempt: Attempt, period: str) -> set[Rule]:
        """The rules under which the attempt may have recorded in this period, with what was remembered."""
        # What was read in the former period is forgotten. A millisecond is what is stored.
        read_in_period_s = start_of(period) - self.evidence.skew_s - 0.001
        return self._rules_to_record(attempt, max(self.remembered_since_s(attempt.began_at_s), read_in_period_s))

    def rules_then(self, attempt: Attempt) -> set[Rule]:
        """The rules under which the attempt may have recorded by what it read while it was under way."""
        return self._rules_to_record(attempt, attempt.began_at_s)

    def _rules_to_record(self, attempt: Attempt, since_s: float) -> set[Rule]:
        asked = attempt.organization, str(attempt.content["feature"]), since_s, attempt.ended_at_s
        if asked not in self._known:
            states = self.settings.states(*asked)
            # If it was never active, another check says so; the limits are then held against any of its states.
            active = [state for state in states if state.is_active] or states
            self._known[asked] = {state.rule or Rule(None) for state in active}
        return self._known[asked]

    @cached_property
    def rules_of(self) -> dict[str, set[Rule]]:
        """What each record may have been counted under, by event id."""
        return {
            event_id: self.rules_known(sender, self.facts[event_id].period)
            for event_id, sender in self.sender_of.items()
        }

    # The promises

    def counters_are_the_sum_of_the_records(self) -> Iterator[str]:
        """For every organization, feature and period, quantity and count; and shard by shard."""
        shards = {shard.key: shard.total for shard in shards_in(self.last_items)}
        totals = _sums((shard.counter, shard.total) for shard in shards_in(self.last_items))
        counts = _sums((shard.counter, shard.count) for shard in shards_in(self.last_items))
        records = Counter(fact.counter for fact in self.facts.values())
        yield from _differences("the counter", totals, "the records add up to", self.recorded)
        yield from _differences("the counter's count", counts, "the number of records is", records)
        by_shard = _sums((fact.shard, fact.quantity) for fact in self.facts.values())
        yield from _differences("the counter's shard", shards, "the records that name it add up to", by_shard)

    def events_are_the_records_and_notices(self) -> Iterator[str]:
        """Each record and each notice has its event, each event one of them; repeats are equal."""
        details: dict[str, Any] = {}
        for event in self.evidence.events:
            detail = event["detail"]
            event_id = detail.get("id")
            if event_id in details:
                if details[event_id] != detail:
                    yield f"event {event_id} was delivered with two contents"
                continue
            details[event_id] = detail
            if event["source"] != "saas.billing":
                yield f"event {event_id} comes from {event['source']}"
            for error in self.errors_of(event):
                yield f"event {event_id} breaks its schema: {error}"
            told = self.facts.get(event_id) or self.notices.get(event_id)
            if told is None:
                yield f"event {event_id} tells of no record"
                continue
            if detail["key"] != key_of(told) or detail["payload"] != told.payload:
                yield f"event {event_id} does not tell what its record holds: {detail}"
            if detail.get("traceId") != (told.trace_id if isinstance(told, Fact) else None):
                yield f"event {event_id} has the trace of another: {detail}"
            if detail["occurredAt"] != (told.recorded_at if isinstance(told, Fact) else told.noticed_at):
                yield f"event {event_id} occurred at another time than its record says"
        unpublished = self.evidence.refused_for_ever - details.keys()
        for event_id in self.facts.keys() - details.keys() - unpublished:
            fact = self.facts[event_id]
            yield f"record {fact.organization} {fact.key} of {fact.trace_id} was never published"
        for event_id in self.notices.keys() - details.keys() - unpublished:
            yield f"{self.notices[event_id].name} was never published"
        published = _sums(
            (self.facts[event_id].counter, details[event_id]["payload"]["quantity"])
            for event_id in details.keys() & self.facts.keys()
        )
        never = [self.facts[event_id] for event_id in unpublished & self.facts.keys()]
        kept = _sums((fact.counter, fact.quantity) for fact in never)
        yield from _differences("what was published", _plus(published, kept), "the records add up to", self.recorded)

    def every_record_was_asked_for_and_is_what_was_sent(self) -> Iterator[str]:
        """A record belongs to one attempt, whole: nobody's else, nothing else."""
        seen: Counter[tuple[str, str, str]] = Counter()
        for fact in self.facts.values():
            name = f"record {fact.organization} {fact.key}"
            attempt = self.sender_of.get(fact.event_id)
            if attempt is None:
                yield f"{name}: nobody asked for it"
                continue
            # A batch may hold the same key again, which is nothing new.
            seen[attempt.trace_id, attempt.organization, attempt.key] += 1
            if seen[attempt.trace_id, attempt.organization, attempt.key] > 1:
                yield f"{attempt.name} was recorded more than once"
            if (fact.organization, fact.key) != (attempt.organization, attempt.key) or fact.content != attempt.content:
                yield f"{name} is not what {attempt.name} sent"
            earliest_s = attempt.began_at_s - self.evidence.skew_s - 0.001
            if not earliest_s <= fact.recorded_at_s <= attempt.ended_at_s + self.evidence.skew_s + _LATENESS_S:
                yield f"{name} was recorded at {fact.recorded_at}, when {attempt.name} was not under way"
            if fact.period != period_of(fact.recorded_at_s):
                yield f"{name} of {fact.recorded_at} is in the period {fact.period}"
            if "active" not in self.statuses(attempt) or not self.may_be_known(attempt):
                yield f"{name} was recorded for an organization that may not record"

    def keys_are_held_for_the_retention(self) -> Iterator[str]:
        """A key belongs to one record at a time, for the retention to the second."""
        for (organization, key), facts in self.by_key.items():
            for fact in facts:
                if fact.expires_at_s != int(fact.recorded_at_s) + int(self.evidence.retention_s):
                    yield f"record {organization} {key} of {fact.recorded_at} expires at {fact.expires_at_s}"
            for earlier, later in itertools.pairwise(facts):
                if int(later.recorded_at_s) < earlier.expires_at_s:
                    yield f"record {organization} {key} of {earlier.recorded_at} was counted again: {later.recorded_at}"

    def answers_are_true(self) -> Iterator[str]:
        """Recorded is recorded, a replay is a replay, a reuse a reuse, and a refusal has its reason."""
        for attempt in self.sent:
            own = self.own(attempt)
            others = [
                fact
                for fact in self.by_key.get((attempt.organization, attempt.key), [])
                if fact is not own and self._valid_within(fact, attempt)
            ]
            match attempt.status:
                case None | 503:
                    continue
                case 200 if attempt.body.get("recorded") is False:
                    yield from self._refusal_is_due(attempt, own, others)
                case 200:
                    same = [fact for fact in others if fact.content == attempt.content]
                    yield from self._limit_is_told(attempt)
                    if not attempt.recorded:
                        yield f"{attempt.name} was answered {attempt.body}"
                    elif own is not None and attempt.replayed:
                        yield f"{attempt.name} was recorded by itself and told that it is a replay"
                    elif own is None and not attempt.replayed:
                        yield f"{attempt.name} was told that it was recorded, and was not"
                    elif own is None and not same:
                        yield f"{attempt.name} was told that it is a replay, and there is nothing to replay"
                    else:
                        yield from self._total_is_possible(attempt, own, same)
                case 422:
                    if self._is_of_unknown_feature(attempt):
                        if any(self._was_there(fact, attempt) for fact in others):
                            yield f"{attempt.name} was refused although its usage had been counted"
                    elif attempt.body.get("code") != "IDEMPOTENCY_KEY_REUSED":
                        yield f"{attempt.name} was answered {attempt.body}"
                    elif own is not None or not any(fact.content != attempt.content for fact in others):
                        yield f"{attempt.name} was told that its key was reused, and it was not"
                case 403 | 404:
                    inactive = "inactive" in self.statuses(attempt)
                    unknown = self.may_be_unknown(attempt)
                    if not (inactive if attempt.status == 403 else unknown):
                        yield f"{attempt.name} of {attempt.organization} was refused with {attempt.status}"
                    elif any(self._was_there(fact, attempt) for fact in others):
                        yield f"{attempt.name} was refused although its usage had been counted"
                case _:
                    yield f"{attempt.name} was answered {attempt.status}: {attempt.body}"

    def _is_of_unknown_feature(self, attempt: Attempt) -> bool:
        """Whether it was refused for its feature, and nobody may have known that."""
        issues = attempt.body.get("issues", [])
        if not self.evidence.rejects_unknown_features or [each.get("code") for each in issues] != ["feature_unknown"]:
            return False
        feature = str(attempt.content["feature"])
        since_s = self.remembered_since_s(attempt.began_at_s)
        states = self.settings.states(attempt.organization, feature, since_s, attempt.ended_at_s)
        is_unknown = any(state.rule is None and state.is_active for state in states)
        return is_unknown and self.settings.may_be_in_no_plan(feature, since_s, attempt.ended_at_s)

    def _limit_is_told(self, attempt: Attempt) -> Iterator[str]:
        """One that may have been known; and that it is reached if the total is at it."""
        limit = attempt.body.get("limit")
        known = {rule.limit for rule in self.rules(attempt)}
        if attempt.index is not None and "currentUsage" not in attempt.body:
            # There was no time left to read the total.
            if "limitReached" in attempt.body or limit not in {*known, None}:
                yield f"{attempt.name} was told of a limit, and not of the total: {attempt.body}"
            return
        if limit not in known:
            yield f"{attempt.name} was told the limit {limit}, and it can only have been one of {known}"
        reached = limit is not None and attempt.body.get("currentUsage", 0) >= limit
        if attempt.body.get("limitReached") is not reached:
            yield f"{attempt.name} was told that a limit is {'not ' * reached}reached: {attempt.body}"

    def _refusal_is_due(self, attempt: Attempt, own: Fact | None, others: Sequence[Fact]) -> Iterator[str]:
        """Refused is what does not fit a hard limit, and nothing of it is there."""
        body, quantity = attempt.body, int(attempt.content["quantity"])
        limits = {rule.limit for rule in self.rules(attempt) if rule.hard and rule.limit is not None}
        if own is not None:
            yield f"{attempt.name} was told that it was refused, and was recorded"
        if any(self._was_told(fact, attempt.began) and self._valid_to_the_end(fact, attempt) for fact in others):
            yield f"{attempt.name} was refused although its usage had been counted"
        if attempt.replayed or body.get("limitReached") is not True or body.get("limit") not in limits:
            yield f"{attempt.name} was refused with {body}, and hard limits can only have been {limits}"
            return
        skew_s = self.evidence.skew_s
        periods = {period_of(attempt.began_at_s - skew_s), period_of(attempt.ended_at_s + skew_s)}
        counters = [(attempt.organization, str(attempt.content["feature"]), period) for period in periods]
        if all(
            self.perhaps_there.get(counter, _NOTHING).before(attempt.ended) - self._behind(attempt, counter) + quantity
            <= body["limit"]
            for counter in counters
        ):
            yield f"{attempt.name} of {quantity} was refused although it fits, before what comes after it: {body}"
        if all(self.softened.get(counter, attempt.ended) < attempt.began for counter in counters):
            yield f"{attempt.name} was refused in a period in which no hard limit can hold"
        if attempt.index is not None and "currentUsage" not in body:
            return
        if body["currentUsage"] + quantity <= body["limit"]:
            yield f"{attempt.name} of {quantity} was refused although it fits: {body}"
        ranges = [
            (
                self.surely_there.get(counter, _NOTHING).before(attempt.began) + self._in_batch(attempt, counter),
                self.perhaps_there.get(counter, _NOTHING).before(attempt.ended),
            )
            for counter in counters
        ]
        if not any(least <= body["currentUsage"] <= most for least, most in ranges):
            yield f"{attempt.name} was told a total of {body['currentUsage']}, and it can only have been in {ranges}"

    def _behind(self, attempt: Attempt, counter: Counted) -> int:
        """What comes after it in its batch, and was counted there."""
        return sum(
            fact.quantity
            for fact in self.recorded_in[attempt.trace_id]
            if fact.counter == counter and (self.sender_of[fact.event_id].index or 0) > (attempt.index or 0)
        )

    def _in_batch(self, attempt: Attempt, counter: Counted) -> int:
        """What its batch has counted there and was told of, and nobody had been told of before."""
        return sum(
            fact.quantity
            for fact in self.told_in[attempt.trace_id]
            if fact.counter == counter and not self._was_told(fact, attempt.began)
        )

    def queries_tell_what_there_is(self) -> Iterator[str]:
        """At least what was acknowledged before, and at most what was begun until they were answered."""
        for query in self.evidence.asked:
            yield from asked.wrong_in(query, self._known_to(query))

    def _known_to(self, query: Asked) -> asked.Known:
        since_s = self.remembered_since_s(query.began_at_s)
        return asked.Known(
            periods=asked.periods_of(query, self.evidence.skew_s),
            range_of=lambda counter: (
                self.surely_there.get(counter, _NOTHING).before(query.began),
                self.perhaps_there.get(counter, _NOTHING).before(query.ended),
            ),
            counters=list(self.recorded),
            states=lambda feature: self.settings.states(query.organization, feature, since_s, query.ended_at_s),
            may_be_unknown=self.may_be_unknown(query),
            under_key=lambda key: [
                fact for fact in self.by_key.get((query.organization, key), []) if self._valid_within(fact, query)
            ],
            must_hold=lambda fact: self._was_told(fact, query.began) and self._valid_to_the_end(fact, query),
        )

    def _valid_within(self, fact: Fact, request: Attempt | Asked) -> bool:
        return fact.valid_within(request.began_at_s, request.ended_at_s, self.evidence.skew_s)

    def _valid_to_the_end(self, fact: Fact, request: Attempt | Asked) -> bool:
        return fact.valid_after(request.ended_at_s, self.evidence.skew_s)

    def _was_there(self, fact: Fact, attempt: Attempt) -> bool:
        """Whether it was recorded when the attempt began, and kept its key all the while."""
        is_old = fact.recorded_at_s < attempt.began_at_s - _LATENESS_S
        return (is_old or self._was_told(fact, attempt.began)) and self._valid_to_the_end(fact, attempt)

    def _was_told(self, fact: Fact, before: int) -> bool:
        told = self.acknowledged.get(fact.event_id)
        return told is not None and told.ended < before

    @cached_property
    def recorded_in(self) -> dict[str, list[Fact]]:
        """The records that each request has made."""
        found: dict[str, list[Fact]] = defaultdict(list)
        for event_id, sender in self.sender_of.items():
            found[sender.trace_id].append(self.facts[event_id])
        return found

    @cached_property
    def told_in(self) -> dict[str, list[Fact]]:
        """The records that each request was told of, as recorded or replayed."""
        found: dict[str, dict[str, Fact]] = defaultdict(dict)
        for attempt in self.sent:
            if attempt.recorded:
                found[attempt.trace_id] |= {fact.event_id: fact for fact in self._answered_by(attempt)}
        return defaultdict(list, {trace_id: list(facts.values()) for trace_id, facts in found.items()})

    @cached_property
    def softened(self) -> dict[Counted, int]:
        """When it was first answered that usage was counted which cannot have been under a hard limit."""
        found: dict[Counted, int] = {}
        for event_id, told in self.acknowledged.items():
            fact = self.facts[event_id]
            if not any(rule.hard and rule.limit is not None for rule in self.rules_of.get(event_id, [])):
                found[fact.counter] = min(found.get(fact.counter, told.ended), told.ended)
        return found

    @cached_property
    def firm(self) -> dict[Counted, list[Fact]]:
        """The counters whose records can only have been counted under hard limits, with those records."""
        return {
            counter: facts
            for counter, facts in self.facts_of.items()
            if all(
                rule.hard and rule.limit is not None
                for fact in facts
                for rule in self.rules_of.get(fact.event_id, {Rule(None)})
            )
        }

    def hard_limits_hold(self) -> Iterator[str]:
        """No record takes its counter beyond what its writer can have known, nor all of them together."""
        for counter, facts in self.firm.items():
            most = max(self._hard_limit(fact) for fact in facts)
            if self.recorded[counter] > most:
                yield f"{counter} is {self.recorded[counter]}, beyond its hard limit {most}"
            for fact in facts:
                sender = self.sender_of[fact.event_id]
                # With what else its batch has counted: that came in one go.
                beside = sum(each.quantity for each in self.recorded_in[sender.trace_id] if each.counter == counter)
                total = self.surely_there.get(counter, _NOTHING).before(sender.began) + beside
                if total > self._hard_limit(fact):
                    yield f"record {fact.organization} {fact.key} took {counter} to {total}, beyond its hard limit"

    def hard_counters_are_one_item(self) -> Iterator[str]:
        """What says that a hard limit relies on it holds all there is, and no more than somebody's hard limit."""
        shards: dict[Counted, list[dict[str, Any]]] = defaultdict(list)
        for shard in shards_in(self.last_items):
            shards[shard.counter].append(shard.item)
        announced = {found.counter for found in announcements_in(self.last_items)}
        limits: dict[Counted, list[int]] = defaultdict(list)
        for fact in self.facts.values():
            hard = [rule.limit for rule in self.rules_of.get(fact.event_id, ()) if rule.hard and rule.limit is not None]
            limits[fact.counter].append(max(hard, default=-1))
        for counter, items in shards.items():
            if not any("hard" in item for item in items):
                continue
            if len(items) > 1 or not items[0]["sk"]["S"].endswith("#0"):
                yield f"{counter} is under a hard limit and in {len(items)} items"
            if counter in announced:
                yield f"{counter} is under a hard limit and has pages"
            if min(limits[counter], default=0) < 0:
                yield f"{counter} is under a hard limit and holds what was counted without one"
            elif self.recorded.get(counter, 0) > max(limits[counter], default=0):
                yield f"{counter} is {self.recorded[counter]}, beyond every hard limit that it was counted under"

    def hard_limits_are_lifted_by_what_is_read(self) -> Iterator[str]:
        """Not by what is remembered; and no change of a counter goes beyond what its request may have known."""
        writers = hardness.by_shard(
            (fact.shard, sender.trace_id, fact.quantity, self.rules_of[event_id], self.rules_then(sender))
            for event_id, sender in self.sender_of.items()
            for fact in [self.facts[event_id]]
        )
        yield from hardness.wrong_in(self.evidence.changes, writers)
        yield from hardness.wrong_between(self.evidence.snapshots, writers)

    def _hard_limit(self, fact: Fact) -> int:
        return max(rule.limit or 0 for rule in self.rules_of[fact.event_id])

    def what_is_noticed_is_true(self) -> Iterator[str]:
        """A notice is of a threshold that was set just then, and that the total had reached; it is kept for long."""
        for notice in self.notices.values():
            noticed_at_s = datetime.fromisoformat(notice.noticed_at).timestamp()
            since_s, until_s = noticed_at_s - _LOOK_S - self.evidence.skew_s, noticed_at_s + self.evidence.skew_s
            rules = self.settings.rules(notice.organization, notice.feature, since_s, until_s)
            if not any(rule.limit == notice.limit and notice.percentage in rule.thresholds for rule in rules):
                yield f"{notice.name} is of a threshold that was not set at {notice.noticed_at}"
            if notice.expires_at_s != int(noticed_at_s) + int(self.evidence.retention_s):
                yield f"{notice.name} of {notice.noticed_at} expires at {notice.expires_at_s}"
            if not 1 <= notice.usage <= self.recorded.get(notice.counter, 0):
                yield f"{notice.name} tells of {notice.usage}, and it is {self.recorded.get(notice.counter, 0)}"
            if notice.usage * 100 < notice.percentage * notice.limit:
                yield f"{notice.name} tells of {notice.usage}, which is less"

    def what_is_reached_is_noticed_once(self) -> Iterator[str]:
        """For each organization, feature, period, limit and threshold; never two, never none."""
        keys = Counter((*notice.counter, notice.limit, notice.percentage) for notice in self.notices.values())
        yield from (f"{key} was noticed {number} times" for key, number in keys.items() if number > 1)
        for snapshot in self.evidence.snapshots:
            if snapshot.settled:
                for key in self._reached(snapshot) - keys.keys():
                    yield f"{key} was reached by {_utc(snapshot.at_s)}, and nobody has noticed"

    @cached_property
    def last_used_s(self) -> dict[Counted, float]:
        """When the last request began that counted something in it."""
        found: dict[Counted, float] = {}
        for fact in self.facts.values():
            if (attempt := self.sender_of.get(fact.event_id)) is not None:
                found[fact.counter] = max(found.get(fact.counter, _BEGINNING_S), attempt.began_at_s)
        return found

    def _reached(self, snapshot: Snapshot) -> set[tuple[str, str, str, int, int]]:
        """What must have been noticed when the stream's readers had caught up."""
        found: set[tuple[str, str, str, int, int]] = set()
        totals = _sums((shard.counter, shard.total) for shard in shards_in(snapshot.items))
        # Nobody was at work any more.
        after_s = snapshot.at_s + 1
        for (organization, feature, period), total in totals.items():
            last_used_s = self.last_used_s.get((organization, feature, period), _BEGINNING_S)
            if last_used_s < self.settings.overlooked_until_s(organization, after_s, self.evidence.index_lag_s):
                # Its next usage meets the change.
                continue
            touched_s = self.settings.touched_s(organization, feature, after_s)
            since_s = after_s
            if period < period_of(touched_s + _LATENESS_S):
                # What was set in a later period says nothing about this one: only what has held since it was used.
                since_s = last_used_s
            rules = self.settings.rules(organization, feature, since_s, after_s)
            if len(rules) > 1:
                continue
            (rule,) = rules
            if rule.limit is not None and total >= 1:
                reached = [each for each in rule.thresholds if total * 100 >= each * rule.limit]
                found |= {(organization, feature, period, rule.limit, each) for each in reached}
        return found

    def organizations_are_what_was_said_last(self) -> Iterator[str]:
        """Whatever the events' order was: each attribute is what the latest event that has it says."""
        by_organization: dict[str, list[Any]] = defaultdict(list)
        for done in self.evidence.done:
            if isinstance(done.deed, EventSent) and not done.deed.malformed:
                event = done.deed.event
                by_organization[event["detail"]["payload"]["organizationId"]].append(event)
        found = {item["pk"]["S"].partition("#")[2]: item for item in of_kind("organization", self.last_items)}
        created = [organization for organization, creations in self.settings.creations.items() if creations]
        for organization in sorted({*created, *found}):
            changes = [each for each in by_organization[organization] if each["detail-type"] == SUBSCRIPTION_CHANGED]
            expected = _said_last(sorted(changes, key=stamp))
            item = found.get(organization, {})
            stored = {name: next(iter(item[name].values())) for name in _SUBSCRIPTION if name in item}
            statuses = self.settings.statuses_at_last(organization)
            if stored not in [{**expected, "status": status} for status in statuses]:
                yield f"{organization} is {stored}, and what was said last is {expected}, {' or '.join(statuses)}"

    def limits_are_what_was_set_last(self) -> Iterator[str]:
        """Plans are as somebody applied them last, listed with their features; and so are organizations' own limits."""
        stored = {item["pk"]["S"].partition("#")[2]: rules_in(item) for item in of_kind("plan", self.last_items)}
        for plan, applied in self.settings.plans_at_last().items():
            if stored.get(plan) not in applied:
                yield f"plan {plan} is {stored.get(plan)}, and what was applied last is {applied}"
        features = {feature for rules in stored.values() for feature in rules}
        for listed in of_kind("features", self.last_items):
            if set(listed["plans"]["SS"]) != stored.keys():
                yield f"plans {stored.keys()} are listed as {listed['plans']['SS']}"
            if set(listed.get("known", {}).get("SS", ())) != features:
                yield f"features {features} are listed as {listed.get('known')}"
        organizations = {item["pk"]["S"].partition("#")[2]: item for item in of_kind("organization", self.last_items)}
        for (organization, feature), set_last in self.settings.own_limits_at_last().items():
            own = organizations.get(organization, {}).get("limits", {"M": {}})["M"]
            limit = limit_in(own[feature]) if feature in own else "plan"
            if limit not in set_last:
                yield f"{organization} has {limit} of {feature}, and what was set last is {set_last}"

    def malformed_events_are_queued(self) -> Iterator[str]:
        """With their reason, and nothing else is."""
        sent = [done.deed for done in self.evidence.done if isinstance(done.deed, EventSent)]
        malformed = [deed.event for deed in sent if deed.malformed]
        queued = [json.loads(message) for message in self.evidence.queued]
        for event in malformed:
            if event not in [message["event"] for message in queued]:
                yield f"the malformed event {event['detail']['id']} is nowhere"
        for message in queued:
            if message["event"] not in malformed:
                yield f"the event {message['event']['detail']['id']} was rejected, and nothing is wrong with it"
            if not message.get("reason"):
                yield f"the event {message['event']['detail']['id']} was rejected without a reason"

    def refusals_are_problems(self) -> Iterator[str]:
        """Whatever is not a success says what to do, in the contract's form."""
        for request in self.requests:
            if request.status in (None, 200):
                continue
            body, headers = request.body, request.headers
            if headers.get("Content-Type") != "application/problem+json" or body.get("status") != request.status:
                yield f"{request.name} was answered {request.status} without a problem: {body}"
            elif request.status == 503 and not (body.get("retryable") and headers.get("Retry-After")):
                yield f"{request.name} was not told when to try again: {headers} {body}"

    @cached_property
    def acknowledged(self) -> dict[str, Attempt | Asked]:
        """Who was first told of each record that it is there, by event id; or was shown it."""
        found: dict[str, Attempt | Asked] = {}
        for query in self.evidence.asked:
            event_id = asked.shown(query)
            if event_id in self.facts and query.ended < found.setdefault(event_id, query).ended:
                found[event_id] = query
        for attempt in self.sent:
            if not attempt.recorded:
                continue
            for fact in self._answered_by(attempt):
                first = found.setdefault(fact.event_id, attempt)
                if attempt.ended < first.ended:
                    found[fact.event_id] = attempt
        return found

    def _answered_by(self, attempt: Attempt) -> list[Fact]:
        own = self.own(attempt)
        if own is not None:
            return [own]
        same = [
            fact
            for fact in self.by_key.get((attempt.organization, attempt.key), [])
            if self._valid_within(fact, attempt) and fact.content == attempt.content
        ]
        # At the second of expiry it may be either of two: then it proves nothing about either.
        return same if len(same) == 1 else []

    @cached_property
    def surely_there(self) -> "dict[Counted, _Steps]":
        """How much was acknowledged by a moment."""
        known = [fact for fact in self.facts.values() if fact.event_id in self.acknowledged]
        return _steps((fact.counter, self.acknowledged[fact.event_id].ended, fact.quantity) for fact in known)

    @cached_property
    def perhaps_there(self) -> "dict[Counted, _Steps]":
        """How much was at least begun by a moment."""
        began = {event_id: sender.began for event_id, sender in self.sender_of.items()}
        return _steps((fact.counter, began.get(fact.event_id, 0), fact.quantity) for fact in self.facts.values())

    def _total_is_possible(self, attempt: Attempt, own: Fact | None, same: Sequence[Fact]) -> Iterator[str]:
        """At least what must be known to who tells it, and at most what was begun until then."""
        told = attempt.body.get("currentUsage")
        if attempt.index is not None and told is None:
            return
        for fact in [own] if own is not None else same:
            least = self._least_told(attempt, fact)
            most = self.perhaps_there[fact.counter].before(attempt.ended)
            if isinstance(told, int) and least <= told <= most:
                return
        yield f"{attempt.name} was told a total of {told}, and it can only have been {least} to {most}"

    def _least_told(self, attempt: Attempt, fact: Fact) -> int:
        """What was acknowledged before it was asked, and what it was told of itself, its whole batch included.

        On a counter of several pages, what others have counted and were told in the last second need not be in it.
        """
        counter = fact.counter
        if counter not in self.wide:
            least = self.surely_there.get(counter, _NOTHING).before(attempt.began) + self._in_batch(attempt, counter)
            if not self._was_told(fact, attempt.began) and fact not in self.told_in[attempt.trace_id]:
                least += fact.quantity
            return least
        facts = self.facts_of[counter]
        return sum(each.quantity for each in facts if each == fact or self._must_be_known(each, attempt))

    def _must_be_known(self, fact: Fact, attempt: Attempt) -> bool:
        """Whether the total that is told on a counter of several pages must hold this record."""
        sender = self.sender_of.get(fact.event_id)
        told = self.acknowledged.get(fact.event_id)
        if sender is None or told is None:
            return False
        if sender.environment == attempt.environment and sender.recorded:
            # It has counted it and said so: before, or just now.
            return sender.ended < attempt.began or sender.trace_id == attempt.trace_id
        read_at_s = self._known_since_s(attempt.began_at_s, _READ_AGAIN_S)
        return told.ended < attempt.began and told.ended_at_s < read_at_s

    @cached_property
    def facts_of(self) -> dict[Counted, list[Fact]]:
        found: dict[Counted, list[Fact]] = defaultdict(list)
        for fact in self.facts.values():
            found[fact.counter].append(fact)
        return found

    def told_totals_are_the_sum(self) -> Iterator[str]:
        """What is told when nobody is at work; and where all were answered, the sum of what was acknowledged."""
        for attempt in self.sent:
            if attempt.operation >= 0:
                continue
            fact = next(iter(self._answered_by(attempt)), None)
            if not attempt.recorded or fact is None:
                yield f"{attempt.name}: sent again at the end, it was answered {attempt.status} {attempt.body}"
            elif (told := attempt.body["currentUsage"]) != self.recorded[fact.counter]:
                yield f"at the end {fact.counter} was told as {told}, and it is {self.recorded[fact.counter]}"
        known = [fact for fact in self.facts.values() if fact.event_id in self.acknowledged]
        acknowledged = _sums((fact.counter, fact.quantity) for fact in known)
        for counter, total in self.recorded.items():
            if counter[:2] not in self.left_open and acknowledged.get(counter, 0) != total:
                yield f"{counter}: clients were told of {acknowledged.get(counter, 0)}, all of them, and it is {total}"

    @cached_property
    def left_open(self) -> set[tuple[str, str]]:
        """Organizations and features of which some client never heard how it ended for every content that it sent."""
        by_content: dict[tuple[int, str, str], list[Attempt]] = defaultdict(list)
        for attempt in self.sent:
            by_content[attempt.operation, attempt.key, json.dumps(attempt.content, sort_keys=True)].append(attempt)
        ambiguous = {
            (attempt.organization, attempt.content["feature"])
            for attempt in self.sent
            if attempt.recorded and not self._answered_by(attempt)
        }
        return ambiguous | {
            (attempts[0].organization, attempts[0].content["feature"])
            for attempts in by_content.values()
            if not any(_settles(attempt, attempts) for attempt in attempts)
        }

    def nobody_sees_anothers_data(self) -> Iterator[str]:
        """No answer names another organization or holds what only that one sent."""
        for request in self.requests:
            for organization in _others_in(json.dumps([request.headers, request.body]), request.organization):
                yield f"{request.name} of {request.organization} was shown data of {organization}"

    def what_cannot_be_published_is_kept(self) -> Iterator[str]:
        """Spoilt records and refused events are in the failure store with their reason, and nothing else is."""
        images: list[Any] = []
        for key, body in self.evidence.kept.items():
            kept = json.loads(body)
            image = kept["record"]["dynamodb"]["NewImage"]
            if image in images:
                yield f"{key} was kept before under another name"
            images.append(image)
            if re.fullmatch(r"failures/unpublishable/[0-9a-f]{64}\.json", key) is None:
                yield f"{key} was kept where nobody looks for it"
            if not kept.get("reason"):
                yield f"{key} was kept without a reason"
            event_id = image.get("eventId", {}).get("S")
            if image not in self.damaged and event_id not in self.evidence.refused_for_ever:
                yield f"{key} was kept, and nothing is wrong with it: {kept['reason']}"
        for item in self.damaged:
            if item not in images:
                yield f"the spoilt record {item['pk']['S']} is nowhere"
        kept_ids = {image.get("eventId", {}).get("S") for image in images}
        for event_id in self.evidence.refused_for_ever - kept_ids:
            yield f"the refused event {event_id} is nowhere"


# An invocation lasts no longer than this.
_LATENESS_S = 75.0
# The watcher's look at a batch lasts no longer, by its own clock.
_LOOK_S = 300.0 + _LATENESS_S
_BEGINNING_S = float("-inf")
_WORD = re.compile("[A-Za-z0-9_-]+")
_SECRET = re.compile("secret-[0-9a-f]{16}")
# What events say of an organization; and what only an operator does.
_SUBSCRIPTION = (
    "planId",
    "planName",
    "subscriptionId",
    "subscriptionStatus",
    "currentPeriodStart",
    "currentPeriodEnd",
    "trialEndsAt",
    "cancelAtPeriodEnd",
    "status",
)


@dataclass(frozen=True)
class _Steps:
    """A sum that grows with time."""

    moments: list[int]
    sums: list[int]

    def before(self, moment: int) -> int:
        """The sum of what came before the moment."""
        index = bisect_left(self.moments, moment)
        return self.sums[index - 1] if index else 0


_NOTHING = _Steps([], [])


def _steps(entries: Iterable[tuple[Counted, int, int]]) -> dict[Counted, _Steps]:
    by_counter: dict[Counted, list[tuple[int, int]]] = defaultdict(list)
    for counter, moment, quantity in entries:
        by_counter[counter].append((moment, quantity))
    found = {}
    for counter, pairs in by_counter.items():
        pairs.sort()
        total, sums = 0, []
        for _, quantity in pairs:
            total += quantity
            sums.append(total)
        found[counter] = _Steps([moment for moment, _ in pairs], sums)
    return found


def _settles(attempt: Attempt, attempts: Iterable[Attempt]) -> bool:
    """Whether its answer tells how it ended for all attempts that sent the same."""
    if attempt.status in (None, 503):
        return False
    if attempt.recorded:
        return True
    # One that is still under way may know of another limit or state, or meet a key that has expired meanwhile. It may
    # record what this one was refused.
    return all(other.status not in (None, 503) or other.ended < attempt.began for other in attempts)


def _said_last(changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The attributes that the changes of a subscription come to, in the order of their stamps."""
    found: dict[str, Any] = {}
    for event in changes:
        payload = event["detail"]["payload"]
        found |= {"planId": payload["newPlan"], "subscriptionStatus": payload["newStatus"]}
        if "planName" in payload:
            # The name of another plan is no name of this one.
            found["planName"] = {"plan": {"S": payload["newPlan"]}, "name": {"S": payload["planName"]}}
        for name in ("currentPeriodStart", "currentPeriodEnd", "trialEndsAt"):
            if name in payload:
                moment = payload[name]
                found[name] = None if moment is None else moment.removesuffix("Z") + ".000Z"
        for name in ("subscriptionId", "cancelAtPeriodEnd"):
            if name in payload:
                found[name] = payload[name]
    return {name: value for name, value in found.items() if value is not None}


def _utc(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def _others_in(text: str, organization: str) -> list[str]:
    """Other organizations whose name is in it as a word of its own, or what only they ever send."""
    secrets = {secret_of(each): each for each in ORGANIZATIONS}
    named = {*ORGANIZATIONS} & {*_WORD.findall(text)}
    sent = {secrets[each] for each in secrets.keys() & {*_SECRET.findall(text)}}
    return sorted((named | sent) - {organization})


def _sums(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    found: Counter[Any] = Counter()
    for key, quantity in pairs:
        found[key] += quantity
    return found


def _plus(some: Mapping[Any, int], more: Mapping[Any, int]) -> dict[Any, int]:
    return _sums([*some.items(), *more.items()])


def _differences(what: str, found: Mapping[Any, int], expected_is: str, expected: Mapping[Any, int]) -> Iterator[str]:
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key, 0) != expected.get(key, 0):
            yield f"{key}: {what} is {found.get(key, 0)}, {expected_is} {expected.get(key, 0)}"
