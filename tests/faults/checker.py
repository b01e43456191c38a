"""Checks a run's evidence against the promises of this service.

The checker reads items and events with its own code, by the table's documented shapes. It must not share a defect with
the code under test.
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
from typing import Any, TypeVar

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

T = TypeVar("T")

# The organization cache keeps organizations and plans for up to a minute.
_CACHED_S = 60.0
# An environment caches the total of a counter of several pages for about a second. It always adds its own usage.
_READ_AGAIN_S = 1.5
_KINDS = ("usage", "notice", "counter", "organization", "plan", "features")


def violations(evidence: Evidence, *, is_quick: bool = False) -> list[str]:
    """List every broken promise as a sentence; empty if the run kept all promises.

    With `is_quick`, only the first of several similar events is checked against its schema.
    """
    return list(_Check(evidence, schemas.errors_by_shape if is_quick else schemas.errors).all())


@dataclass(frozen=True)
class Summary:
    """How much evidence a run gave to the checker."""

    records: int
    """All usage records of the run, including those that expired and were deleted."""
    notices: int
    refused: int
    """Requests that a hard limit refused."""
    firm: int
    """Counters whose every record was certainly counted under a hard limit."""
    statuses: Counter[str]
    """The statuses of batch records in the answers."""
    pages: int
    """Counter pages after the first that hold usage."""


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
    """The evidence, and the facts derived from it."""

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
        yield from self.every_record_matches_its_request()
        yield from self.keys_are_held_for_the_retention()
        yield from self.answers_are_true()
        yield from (wrong for batch in self.evidence.batches for wrong in batches.wrong_in(batch))
        yield from self.queries_are_true()
        yield from self.hard_limits_hold()
        yield from self.hard_counters_are_one_item()
        yield from self.only_a_read_lifts_a_hard_limit()
        yield from self.notices_are_true()
        yield from self.each_reached_threshold_is_noticed_once()
        yield from self.organizations_match_the_latest_events()
        yield from self.plans_and_limits_match_the_last_write()
        yield from self.malformed_events_are_queued()
        yield from self.refusals_are_problems()
        yield from self.final_totals_are_the_sum()
        yield from self.no_answer_holds_anothers_data()
        yield from self.unpublishable_items_are_kept()
        yield from (f"{what} was never completed" for what in self.evidence.abandoned)
        yield from (f"{invocation} did not end" for invocation in self.evidence.hung)

    # The items in the table

    def _collect(self) -> None:
        """Collect the records and notices of all snapshots and stream images.

        An item may disappear after it expires. It must never change.
        """
        before: dict[str, Fact | Notice] = {}
        damaged: dict[tuple[str, str], dict[str, Any]] = {}
        for snapshot in self.evidence.snapshots:
            now: dict[str, Fact | Notice] = {}
            for item in snapshot.items:
                pk, sk = item["pk"]["S"], item["sk"]["S"]
                kind = pk.partition("#")[0]
                if kind not in _KINDS:
                    self.wrong.append(f"item {pk} has an unknown kind")
                if kind not in ("usage", "notice"):
                    continue
                found = fact_in(item) if kind == "usage" else notice_in(item)
                if found is None:
                    damaged[pk, sk] = item
                elif found.event_id in now:
                    self.wrong.append(f"{name_of(now[found.event_id])} and {name_of(found)} share one event id")
                else:
                    now[found.event_id] = found
            for event_id, found in before.items():
                if event_id in now and now[event_id] != found:
                    self.wrong.append(f"{name_of(found)} was changed after it was written")
                if event_id not in now and found.expires_at_s > snapshot.at_s + _LATENESS_S:
                    self.wrong.append(f"{name_of(found)} disappeared before it expired")
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
        """The attempt that asked for each record, by event id.

        If a batch holds the same record twice, the first counts. A record that no attempt asked for is missing.
        """
        by_trace: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in self.sent:
            by_trace[attempt.trace_id].append(attempt)
        found = {}
        for fact in self.facts.values():
            attempts = by_trace.get(fact.trace_id, [])
            of_key = [each for each in attempts if (each.organization, each.key) == (fact.organization, fact.key)]
            same = [each for each in of_key if each.content == fact.content]
            # Without a match any attempt will do: another check reports that the record differs from what it sent.
            if candidates := same or of_key or attempts:
                found[fact.event_id] = candidates[0]
        return found

    @cached_property
    def recorded_by(self) -> dict[tuple[str, int | None], Fact]:
        """The record that each attempt created, by trace id and index in the batch."""
        return {(sender.trace_id, sender.index): self.facts[event_id] for event_id, sender in self.sender_of.items()}

    def own(self, attempt: Attempt) -> Fact | None:
        """The record that the attempt created."""
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
        """Return whether the function may have found the organization at some moment of the request."""
        return any(done.began < request.ended for done in self.settings.creations[request.organization])

    def may_be_unknown(self, request: Attempt | Asked) -> bool:
        """Return whether the function may have found no organization at some moment of the request."""
        return all(done.ended > request.began for done in self.settings.creations[request.organization])

    def statuses(self, request: Attempt | Asked) -> set[str]:
        """The statuses of the organization that the function may have read or cached."""
        since_s = self.cached_since_s(request.began_at_s)
        return self.settings.statuses(request.organization, since_s, request.ended_at_s)

    def cached_since_s(self, at_s: float) -> float:
        """The earliest time at which an organization that is cached at `at_s` can have been read."""
        return self._read_since_s(at_s, _CACHED_S)

    def _read_since_s(self, at_s: float, cached_s: float) -> float:
        # An environment's clock may have moved back by the whole skew and by the time that invocations slept.
        return at_s - cached_s - 2 * self.evidence.skew_s - self.evidence.lateness_s

    def rules(self, attempt: Attempt) -> set[Rule]:
        """The rules for the feature that the function may have read or cached."""
        since_s = self.cached_since_s(attempt.began_at_s)
        feature = str(attempt.content["feature"])
        return self.settings.rules(attempt.organization, feature, since_s, attempt.ended_at_s)

    def rules_known(self, attempt: Attempt, period: str) -> set[Rule]:
        """The rules under which the attempt may have recorded in this period, including cached rules."""
        # The function drops rules that it read in an earlier period. Stored times have a resolution of 1 ms.
        read_in_period_s = start_of(period) - self.evidence.skew_s - 0.001
        return self._rules_to_record(attempt, max(self.cached_since_s(attempt.began_at_s), read_in_period_s))

    def rules_then(self, attempt: Attempt) -> set[Rule]:
        """The rules under which the attempt may have recorded, by its own reads alone."""
        return self._rules_to_record(attempt, attempt.began_at_s)

    def _rules_to_record(self, attempt: Attempt, since_s: float) -> set[Rule]:
        lookup = attempt.organization, str(attempt.content["feature"]), since_s, attempt.ended_at_s
        if lookup not in self._known:
            states = self.settings.states(*lookup)
            # Another check reports a record of an inactive organization. The limits of all states apply to it here.
            active = [state for state in states if state.is_active] or states
            self._known[lookup] = {state.rule or Rule(None) for state in active}
        return self._known[lookup]

    @cached_property
    def rules_of(self) -> dict[str, set[Rule]]:
        """The rules under which each record may have been counted, by event id."""
        return {
            event_id: self.rules_known(sender, self.facts[event_id].period)
            for event_id, sender in self.sender_of.items()
        }

    # The promises

    def counters_are_the_sum_of_the_records(self) -> Iterator[str]:
        """Quantities and counts match for every organization, feature, period and shard."""
        shards = {shard.key: shard.total for shard in shards_in(self.last_items)}
        totals = _sums((shard.counter, shard.total) for shard in shards_in(self.last_items))
        counts = _sums((shard.counter, shard.count) for shard in shards_in(self.last_items))
        records = Counter(fact.counter for fact in self.facts.values())
        yield from _differences("the counter", totals, "the records add up to", self.recorded)
        yield from _differences("the counter's count", counts, "the number of records is", records)
        by_shard = _sums((fact.shard, fact.quantity) for fact in self.facts.values())
        yield from _differences("the counter's shard", shards, "the records that name it add up to", by_shard)
        days = {(*shard.key, day): sum_ for shard in shards_in(self.last_items) for day, sum_ in shard.days.items()}
        by_day = _sums(((*fact.shard, fact.day), fact.quantity) for fact in self.facts.values())
        yield from _differences("the shard's day", days, "the records that name it add up to", by_day)
        for shard in shards_in(self.last_items):
            if sum(shard.days.values()) != shard.total:
                yield f"the days of the shard {shard.key} add up to {sum(shard.days.values())}, not {shard.total}"
        for fact in self.facts.values():
            if fact.day != datetime.fromisoformat(fact.recorded_at).day:
                yield f"{name_of(fact)} counts on day {fact.day}, but was recorded at {fact.recorded_at}"

    def events_are_the_records_and_notices(self) -> Iterator[str]:
        """Each record and notice has its event, and each event its record or notice. Repeated deliveries are equal."""
        details: dict[str, Any] = {}
        for event in self.evidence.events:
            detail = event["detail"]
            event_id = detail.get("id")
            if event_id in details:
                if details[event_id] != detail:
                    yield f"event {event_id} was delivered with different contents"
                continue
            details[event_id] = detail
            if event["source"] != "saas.billing":
                yield f"event {event_id} has the source {event['source']}"
            for error in self.errors_of(event):
                yield f"event {event_id} breaks its schema: {error}"
            item = self.facts.get(event_id) or self.notices.get(event_id)
            if item is None:
                yield f"event {event_id} belongs to no record or notice"
                continue
            if detail["key"] != key_of(item) or detail["payload"] != item.payload:
                yield f"event {event_id} differs from its stored item: {detail}"
            if detail.get("traceId") != (item.trace_id if isinstance(item, Fact) else None):
                yield f"event {event_id} has the trace id of another request: {detail}"
            if detail["occurredAt"] != (item.recorded_at if isinstance(item, Fact) else item.noticed_at):
                yield f"event {event_id} has another time than its stored item"
        unpublished = self.evidence.unpublishable - details.keys()
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
        yield from _differences(
            "the published quantity", _plus(published, kept), "the records add up to", self.recorded
        )

    def every_record_matches_its_request(self) -> Iterator[str]:
        """Each record belongs to exactly one attempt and holds exactly the content of that attempt."""
        seen: Counter[tuple[str, str, str]] = Counter()
        for fact in self.facts.values():
            name = f"record {fact.organization} {fact.key}"
            attempt = self.sender_of.get(fact.event_id)
            if attempt is None:
                yield f"{name} belongs to no request"
                continue
            # A batch may hold a key twice. The second record is then a replay or a conflict.
            seen[attempt.trace_id, attempt.organization, attempt.key] += 1
            if seen[attempt.trace_id, attempt.organization, attempt.key] > 1:
                yield f"{attempt.name} was recorded more than once"
            if (fact.organization, fact.key) != (attempt.organization, attempt.key) or fact.content != attempt.content:
                yield f"{name} differs from what {attempt.name} sent"
            earliest_s = attempt.began_at_s - self.evidence.skew_s - 0.001
            if not earliest_s <= fact.recorded_at_s <= attempt.ended_at_s + self.evidence.skew_s + _LATENESS_S:
                yield f"{name} was recorded at {fact.recorded_at}, before or after {attempt.name}"
            if fact.period != period_of(fact.recorded_at_s):
                yield f"{name} of {fact.recorded_at} is in the period {fact.period}"
            if "active" not in self.statuses(attempt) or not self.may_be_known(attempt):
                yield f"{name} was recorded for an unknown or inactive organization"

    def keys_are_held_for_the_retention(self) -> Iterator[str]:
        """A key belongs to one record at a time, for exactly the retention in seconds."""
        for (organization, key), facts in self.by_key.items():
            for fact in facts:
                expected_s = int(fact.recorded_at_s) + int(self.evidence.retention_s)
                if fact.expires_at_s != expected_s:
                    yield f"record {organization} {key} expires at {fact.expires_at_s}, expected {expected_s}"
            for earlier, later in itertools.pairwise(facts):
                if int(later.recorded_at_s) < earlier.expires_at_s:
                    moments = f"at {earlier.recorded_at} and again at {later.recorded_at}"
                    yield f"record {organization} {key} was counted {moments}, before its key expired"

    def answers_are_true(self) -> Iterator[str]:
        """Every answer is correct: recorded, replayed, a conflict, or refused for a valid reason."""
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
                    yield from self._limit_is_possible(attempt)
                    if not attempt.recorded:
                        yield f"{attempt.name} was answered {attempt.body}"
                    elif own is not None and attempt.replayed:
                        yield f"{attempt.name} was recorded, but was answered as a replay"
                    elif own is None and not attempt.replayed:
                        yield f"{attempt.name} was answered as recorded, but has no record"
                    elif own is None and not same:
                        yield f"{attempt.name} was answered as a replay, but there is no record to replay"
                    else:
                        yield from self._total_is_possible(attempt, own, same)
                case 422:
                    if self._is_of_unknown_feature(attempt):
                        if any(self._was_there(fact, attempt) for fact in others):
                            yield f"{attempt.name} was answered 422 although its usage had been counted"
                    elif attempt.body.get("code") != "IDEMPOTENCY_KEY_REUSED":
                        yield f"{attempt.name} was answered {attempt.body}"
                    elif own is not None or not any(fact.content != attempt.content for fact in others):
                        yield f"{attempt.name} was answered as a conflict, but its key held no other content"
                case 403 | 404:
                    inactive = "inactive" in self.statuses(attempt)
                    unknown = self.may_be_unknown(attempt)
                    if not (inactive if attempt.status == 403 else unknown):
                        yield f"{attempt.name} of {attempt.organization} was wrongly answered {attempt.status}"
                    elif any(self._was_there(fact, attempt) for fact in others):
                        yield f"{attempt.name} was answered {attempt.status} although its usage had been counted"
                case _:
                    yield f"{attempt.name} was answered {attempt.status}: {attempt.body}"

    def _is_of_unknown_feature(self, attempt: Attempt) -> bool:
        """Return whether the answer calls the feature unknown, and the feature may have been in no plan."""
        issues = attempt.body.get("issues", [])
        if not self.evidence.rejects_unknown_features or [each.get("code") for each in issues] != ["feature_unknown"]:
            return False
        feature = str(attempt.content["feature"])
        since_s = self.cached_since_s(attempt.began_at_s)
        states = self.settings.states(attempt.organization, feature, since_s, attempt.ended_at_s)
        is_unknown = any(state.rule is None and state.is_active for state in states)
        return is_unknown and self.settings.may_be_in_no_plan(feature, since_s, attempt.ended_at_s)

    def _limit_is_possible(self, attempt: Attempt) -> Iterator[str]:
        """The answer holds a limit that was possible, and `limitReached` matches the answered total."""
        limit = attempt.body.get("limit")
        known = {rule.limit for rule in self.rules(attempt)}
        if attempt.index is not None and "currentUsage" not in attempt.body:
            # No time was left to read the total.
            if "limitReached" in attempt.body or limit not in {*known, None}:
                yield f"{attempt.name} got a limit without a total: {attempt.body}"
            return
        if limit not in known:
            yield f"{attempt.name} got the limit {limit}, expected one of {known}"
        reached = limit is not None and attempt.body.get("currentUsage", 0) >= limit
        if attempt.body.get("limitReached") is not reached:
            yield f"{attempt.name} got a wrong limitReached, expected {reached}: {attempt.body}"

    def _refusal_is_due(self, attempt: Attempt, own: Fact | None, others: Sequence[Fact]) -> Iterator[str]:
        """The usage exceeds a hard limit, and no record of it exists."""
        body, quantity = attempt.body, int(attempt.content["quantity"])
        limits = {rule.limit for rule in self.rules(attempt) if rule.hard and rule.limit is not None}
        if own is not None:
            yield f"{attempt.name} was answered as refused, but was recorded"
        if any(
            self._was_acknowledged(fact, attempt.began) and self._valid_to_the_end(fact, attempt) for fact in others
        ):
            yield f"{attempt.name} was refused although its usage had been counted"
        if attempt.replayed or body.get("limitReached") is not True or body.get("limit") not in limits:
            yield f"{attempt.name} was refused with {body}, but the possible hard limits are {limits}"
            return
        skew_s = self.evidence.skew_s
        periods = {period_of(attempt.began_at_s - skew_s), period_of(attempt.ended_at_s + skew_s)}
        counters = [(attempt.organization, str(attempt.content["feature"]), period) for period in periods]
        if all(
            self.begun_sums.get(counter, _NOTHING).before(attempt.ended)
            - self._later_in_batch(attempt, counter)
            + quantity
            <= body["limit"]
            for counter in counters
        ):
            yield f"{attempt.name} of {quantity} was refused although it fits before later records of its batch: {body}"
        if all(self.softened.get(counter, attempt.ended) < attempt.began for counter in counters):
            yield f"{attempt.name} was refused, but no hard limit can apply in its period"
        if attempt.index is not None and "currentUsage" not in body:
            return
        if body["currentUsage"] + quantity <= body["limit"]:
            yield f"{attempt.name} of {quantity} was refused although it fits: {body}"
        ranges = [
            (
                self.acknowledged_sums.get(counter, _NOTHING).before(attempt.began) + self._in_batch(attempt, counter),
                self.begun_sums.get(counter, _NOTHING).before(attempt.ended),
            )
            for counter in counters
        ]
        if not any(least <= body["currentUsage"] <= most for least, most in ranges):
            yield f"{attempt.name} got a total of {body['currentUsage']}, expected one within {ranges}"

    def _later_in_batch(self, attempt: Attempt, counter: Counted) -> int:
        """The usage that later records of the same batch added to the counter."""
        return sum(
            fact.quantity
            for fact in self.recorded_in[attempt.trace_id]
            if fact.counter == counter and (self.sender_of[fact.event_id].index or 0) > (attempt.index or 0)
        )

    def _in_batch(self, attempt: Attempt, counter: Counted) -> int:
        """The usage in `counter` that the answer of the attempt's request was the first to acknowledge."""
        return sum(
            fact.quantity
            for fact in self.answered_in[attempt.trace_id]
            if fact.counter == counter and not self._was_acknowledged(fact, attempt.began)
        )

    def queries_are_true(self) -> Iterator[str]:
        """Answers include all usage acknowledged before the query, and only usage begun before the answer."""
        for query in self.evidence.asked:
            yield from asked.wrong_in(query, self._known_to(query))

    def _known_to(self, query: Asked) -> asked.Known:
        since_s = self.cached_since_s(query.began_at_s)
        return asked.Known(
            periods=asked.periods_of(query, self.evidence.skew_s),
            range_of=lambda counter: (
                self.acknowledged_sums.get(counter, _NOTHING).before(query.began),
                self.begun_sums.get(counter, _NOTHING).before(query.ended),
            ),
            days_of=lambda counter: {
                date: (
                    self.acknowledged_days.get((counter, date), _NOTHING).before(query.began),
                    self.begun_days[counter, date].before(query.ended),
                )
                for date in self.dates.get(counter, ())
            },
            counters=list(self.recorded),
            states=lambda feature: self.settings.states(query.organization, feature, since_s, query.ended_at_s),
            may_be_unknown=self.may_be_unknown(query),
            under_key=lambda key: [
                fact for fact in self.by_key.get((query.organization, key), []) if self._valid_within(fact, query)
            ],
            records=[fact for fact in self.facts.values() if fact.organization == query.organization],
            must_hold=lambda fact: self._was_acknowledged(fact, query.began) and self._valid_to_the_end(fact, query),
        )

    def _valid_within(self, fact: Fact, request: Attempt | Asked) -> bool:
        return fact.valid_within(request.began_at_s, request.ended_at_s, self.evidence.skew_s)

    def _valid_to_the_end(self, fact: Fact, request: Attempt | Asked) -> bool:
        return fact.valid_after(request.ended_at_s, self.evidence.skew_s)

    def _was_there(self, fact: Fact, attempt: Attempt) -> bool:
        """Return whether the record existed when the attempt began and held its key during the whole attempt."""
        is_old = fact.recorded_at_s < attempt.began_at_s - _LATENESS_S
        return (is_old or self._was_acknowledged(fact, attempt.began)) and self._valid_to_the_end(fact, attempt)

    def _was_acknowledged(self, fact: Fact, before: int) -> bool:
        acknowledged_by = self.acknowledged.get(fact.event_id)
        return acknowledged_by is not None and acknowledged_by.ended < before

    @cached_property
    def recorded_in(self) -> dict[str, list[Fact]]:
        """The records that each request created, by trace id."""
        found: dict[str, list[Fact]] = defaultdict(list)
        for event_id, sender in self.sender_of.items():
            found[sender.trace_id].append(self.facts[event_id])
        return found

    @cached_property
    def answered_in(self) -> dict[str, list[Fact]]:
        """The records that the answer to each request acknowledged as recorded or replayed, by trace id."""
        found: dict[str, dict[str, Fact]] = defaultdict(dict)
        for attempt in self.sent:
            if attempt.recorded:
                found[attempt.trace_id] |= {fact.event_id: fact for fact in self._answered_by(attempt)}
        return defaultdict(list, {trace_id: list(facts.values()) for trace_id, facts in found.items()})

    @cached_property
    def softened(self) -> dict[Counted, int]:
        """The first acknowledgement in each counter of usage that certainly had no hard limit."""
        found: dict[Counted, int] = {}
        for event_id, acknowledged_by in self.acknowledged.items():
            fact = self.facts[event_id]
            if not any(rule.hard and rule.limit is not None for rule in self.rules_of.get(event_id, [])):
                found[fact.counter] = min(found.get(fact.counter, acknowledged_by.ended), acknowledged_by.ended)
        return found

    @cached_property
    def firm(self) -> dict[Counted, list[Fact]]:
        """The counters whose every record was certainly counted under a hard limit, with their records."""
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
        """Neither one record nor the sum of all exceeds the largest hard limit that its writers can have known."""
        for counter, facts in self.firm.items():
            most = max(self._hard_limit(fact) for fact in facts)
            if self.recorded[counter] > most:
                yield f"{counter} is {self.recorded[counter]}, beyond its hard limit {most}"
            for fact in facts:
                sender = self.sender_of[fact.event_id]
                # The records of one batch are counted together.
                beside = sum(each.quantity for each in self.recorded_in[sender.trace_id] if each.counter == counter)
                total = self.acknowledged_sums.get(counter, _NOTHING).before(sender.began) + beside
                if total > self._hard_limit(fact):
                    yield f"record {fact.organization} {fact.key} took {counter} to {total}, beyond its hard limit"

    def hard_counters_are_one_item(self) -> Iterator[str]:
        """A counter marked `hard` is one item with all usage. It stays within a hard limit of one of its writers."""
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
                yield f"{counter} is under a hard limit, but has {len(items)} items"
            if counter in announced:
                yield f"{counter} is under a hard limit, but has pages"
            if min(limits[counter], default=0) < 0:
                yield f"{counter} is under a hard limit, but holds usage that was counted without one"
            elif self.recorded.get(counter, 0) > max(limits[counter], default=0):
                yield f"{counter} is {self.recorded[counter]}, beyond every hard limit that it was counted under"

    def only_a_read_lifts_a_hard_limit(self) -> Iterator[str]:
        """Cached rules never lift a hard limit, and no write exceeds the limits that its request may have known."""
        writers = hardness.by_shard(
            (fact.shard, sender.trace_id, fact.quantity, self.rules_of[event_id], self.rules_then(sender))
            for event_id, sender in self.sender_of.items()
            for fact in [self.facts[event_id]]
        )
        yield from hardness.wrong_in(self.evidence.changes, writers)
        yield from hardness.wrong_between(self.evidence.snapshots, writers)

    def _hard_limit(self, fact: Fact) -> int:
        return max(rule.limit or 0 for rule in self.rules_of[fact.event_id])

    def notices_are_true(self) -> Iterator[str]:
        """The total had reached a threshold that was set at that time, and the notice is kept for the retention."""
        for notice in self.notices.values():
            noticed_at_s = datetime.fromisoformat(notice.noticed_at).timestamp()
            since_s, until_s = noticed_at_s - _LOOK_S - self.evidence.skew_s, noticed_at_s + self.evidence.skew_s
            rules = self.settings.rules(notice.organization, notice.feature, since_s, until_s)
            if not any(rule.limit == notice.limit and notice.percentage in rule.thresholds for rule in rules):
                yield f"{notice.name} has a threshold that was not set at {notice.noticed_at}"
            expected_s = int(noticed_at_s) + int(self.evidence.retention_s)
            if notice.expires_at_s != expected_s:
                yield f"{notice.name} expires at {notice.expires_at_s}, expected {expected_s}"
            counted = self.recorded.get(notice.counter, 0)
            if not 1 <= notice.usage <= counted:
                yield f"{notice.name} has a usage of {notice.usage}, but the counter is {counted}"
            if notice.usage * 100 < notice.percentage * notice.limit:
                yield f"{notice.name} has a usage of {notice.usage}, below its threshold"

    def each_reached_threshold_is_noticed_once(self) -> Iterator[str]:
        """Each organization, feature, period, limit and threshold has exactly one notice once it is reached."""
        keys = Counter((*notice.counter, notice.limit, notice.percentage) for notice in self.notices.values())
        yield from (f"{key} was noticed {number} times" for key, number in keys.items() if number > 1)
        for snapshot in self.evidence.snapshots:
            if snapshot.settled:
                for key in self._reached(snapshot) - keys.keys():
                    yield f"{key} was reached by {_utc(snapshot.at_s)}, but has no notice"

    @cached_property
    def last_used_s(self) -> dict[Counted, float]:
        """The start of the last request that counted usage in each counter, in seconds since 1970."""
        found: dict[Counted, float] = {}
        for fact in self.facts.values():
            if (attempt := self.sender_of.get(fact.event_id)) is not None:
                found[fact.counter] = max(found.get(fact.counter, _BEGINNING_S), attempt.began_at_s)
        return found

    def _reached(self, snapshot: Snapshot) -> set[tuple[str, str, str, int, int]]:
        """The thresholds that must have a notice after the stream's consumers caught up."""
        found: set[tuple[str, str, str, int, int]] = set()
        totals = _sums((shard.counter, shard.total) for shard in shards_in(snapshot.items))
        # All clients and actions had ended by then.
        after_s = snapshot.at_s + 1
        for (organization, feature, period), total in totals.items():
            last_used_s = self.last_used_s.get((organization, feature, period), _BEGINNING_S)
            if last_used_s < self.settings.overlooked_until_s(organization, after_s, self.evidence.index_lag_s):
                # The next usage of the counter notices the change.
                continue
            touched_s = self.settings.touched_s(organization, feature, after_s)
            since_s = after_s
            if period < period_of(touched_s + _LATENESS_S):
                # A rule of a later period does not apply here. Only rules in force since the last usage do.
                since_s = last_used_s
            rules = self.settings.rules(organization, feature, since_s, after_s)
            if len(rules) > 1:
                continue
            (rule,) = rules
            if rule.limit is not None and total >= 1:
                reached = [each for each in rule.thresholds if total * 100 >= each * rule.limit]
                found |= {(organization, feature, period, rule.limit, each) for each in reached}
        return found

    def organizations_match_the_latest_events(self) -> Iterator[str]:
        """Each attribute has the value of the latest event that holds it, in any order of delivery."""
        by_organization: dict[str, list[Any]] = defaultdict(list)
        for done in self.evidence.done:
            if isinstance(done.action, EventSent) and not done.action.malformed:
                event = done.action.event
                by_organization[event["detail"]["payload"]["organizationId"]].append(event)
        found = {item["pk"]["S"].partition("#")[2]: item for item in of_kind("organization", self.last_items)}
        created = [organization for organization, creations in self.settings.creations.items() if creations]
        for organization in sorted({*created, *found}):
            changes = [each for each in by_organization[organization] if each["detail-type"] == SUBSCRIPTION_CHANGED]
            expected = _latest_subscription(sorted(changes, key=stamp))
            item = found.get(organization, {})
            stored = {name: next(iter(item[name].values())) for name in _SUBSCRIPTION if name in item}
            statuses = self.settings.statuses_at_last(organization)
            if stored not in [{**expected, "status": status} for status in statuses]:
                yield f"{organization} is {stored}, but the latest events say {expected}, {' or '.join(statuses)}"

    def plans_and_limits_match_the_last_write(self) -> Iterator[str]:
        """Plans, the list of plans and features, and organizations' own limits have the values of the last write."""
        stored = {item["pk"]["S"].partition("#")[2]: rules_in(item) for item in of_kind("plan", self.last_items)}
        for plan, applied in self.settings.plans_at_last().items():
            if stored.get(plan) not in applied:
                yield f"plan {plan} is {stored.get(plan)}, but the last apply wrote one of {applied}"
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
                yield f"{organization} has the limit {limit} of {feature}, but the last write was one of {set_last}"

    def malformed_events_are_queued(self) -> Iterator[str]:
        """The queue holds every malformed event with its reason, and no other event."""
        sent = [done.action for done in self.evidence.done if isinstance(done.action, EventSent)]
        malformed = [action.event for action in sent if action.malformed]
        queued = [json.loads(message) for message in self.evidence.queued]
        for event in malformed:
            if event not in [message["event"] for message in queued]:
                yield f"the malformed event {event['detail']['id']} is not in the queue"
        for message in queued:
            if message["event"] not in malformed:
                yield f"the event {message['event']['detail']['id']} was rejected, but is valid"
            if not message.get("reason"):
                yield f"the event {message['event']['detail']['id']} was rejected without a reason"

    def refusals_are_problems(self) -> Iterator[str]:
        """Every failed request gets a problem that says what to do, in the contract's format."""
        for request in self.requests:
            if request.status in (None, 200):
                continue
            body, headers = request.body, request.headers
            if headers.get("Content-Type") != "application/problem+json" or body.get("status") != request.status:
                yield f"{request.name} was answered {request.status} without a problem: {body}"
            elif request.status == 503 and not (body.get("retryable") and headers.get("Retry-After")):
                yield f"{request.name} was answered 503 without a time to try again: {headers} {body}"

    @cached_property
    def acknowledged(self) -> dict[str, Attempt | Asked]:
        """The first request or query whose answer acknowledged each record, by event id."""
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
        # In the second of the expiry the answer may mean either of two records, and so proves neither.
        return same if len(same) == 1 else []

    @cached_property
    def acknowledged_sums(self) -> "dict[Counted, _Steps]":
        """The acknowledged usage of each counter over time."""
        return _steps((fact.counter, ended, fact.quantity) for fact, ended in self._acknowledged_facts)

    @cached_property
    def acknowledged_days(self) -> "dict[tuple[Counted, str], _Steps]":
        """The same for each date."""
        return _steps(((fact.counter, fact.date), ended, fact.quantity) for fact, ended in self._acknowledged_facts)

    @cached_property
    def _acknowledged_facts(self) -> list[tuple[Fact, int]]:
        known = self.acknowledged
        return [(fact, known[fact.event_id].ended) for fact in self.facts.values() if fact.event_id in known]

    @cached_property
    def begun_sums(self) -> "dict[Counted, _Steps]":
        """The usage of each counter over time, counted from the start of its request."""
        return _steps((fact.counter, began, fact.quantity) for fact, began in self._begun_facts)

    @cached_property
    def begun_days(self) -> "dict[tuple[Counted, str], _Steps]":
        """The same for each date."""
        return _steps(((fact.counter, fact.date), began, fact.quantity) for fact, began in self._begun_facts)

    @cached_property
    def _begun_facts(self) -> list[tuple[Fact, int]]:
        began = {event_id: sender.began for event_id, sender in self.sender_of.items()}
        return [(fact, began.get(fact.event_id, 0)) for fact in self.facts.values()]

    @cached_property
    def dates(self) -> dict[Counted, set[str]]:
        """The dates on which each counter ever held usage."""
        found: dict[Counted, set[str]] = defaultdict(set)
        for fact in self.facts.values():
            found[fact.counter].add(fact.date)
        return found

    def _total_is_possible(self, attempt: Attempt, own: Fact | None, same: Sequence[Fact]) -> Iterator[str]:
        """The total includes all usage that the function must know, and only usage begun before the answer."""
        total = attempt.body.get("currentUsage")
        if attempt.index is not None and total is None:
            return
        for fact in [own] if own is not None else same:
            least = self._least_total(attempt, fact)
            most = self.begun_sums[fact.counter].before(attempt.ended)
            if isinstance(total, int) and least <= total <= most:
                return
        yield f"{attempt.name} got a total of {total}, expected {least} to {most}"

    def _least_total(self, attempt: Attempt, fact: Fact) -> int:
        """The usage acknowledged before the attempt, plus the usage that the attempt and its batch acknowledge.

        On a counter of several pages, the total may lack usage of other environments from the last second.
        """
        counter = fact.counter
        if counter not in self.wide:
            least = self.acknowledged_sums.get(counter, _NOTHING).before(attempt.began) + self._in_batch(
                attempt, counter
            )
            if not self._was_acknowledged(fact, attempt.began) and fact not in self.answered_in[attempt.trace_id]:
                least += fact.quantity
            return least
        facts = self.facts_of[counter]
        return sum(each.quantity for each in facts if each == fact or self._must_be_known(each, attempt))

    def _must_be_known(self, fact: Fact, attempt: Attempt) -> bool:
        """Return whether the answered total of a counter of several pages must include this record."""
        sender = self.sender_of.get(fact.event_id)
        acknowledged_by = self.acknowledged.get(fact.event_id)
        if sender is None or acknowledged_by is None:
            return False
        if sender.environment == attempt.environment and sender.recorded:
            # The same environment counted and acknowledged the record, before or in this answer.
            return sender.ended < attempt.began or sender.trace_id == attempt.trace_id
        read_at_s = self._read_since_s(attempt.began_at_s, _READ_AGAIN_S)
        return acknowledged_by.ended < attempt.began and acknowledged_by.ended_at_s < read_at_s

    @cached_property
    def facts_of(self) -> dict[Counted, list[Fact]]:
        found: dict[Counted, list[Fact]] = defaultdict(list)
        for fact in self.facts.values():
            found[fact.counter].append(fact)
        return found

    def final_totals_are_the_sum(self) -> Iterator[str]:
        """Totals answered at the end are exact. If every request was answered, they equal the acknowledged usage."""
        for attempt in self.sent:
            if attempt.operation >= 0:
                continue
            fact = next(iter(self._answered_by(attempt)), None)
            if not attempt.recorded or fact is None:
                yield f"{attempt.name} was sent again at the end and answered {attempt.status} {attempt.body}"
            elif (total := attempt.body["currentUsage"]) != self.recorded[fact.counter]:
                yield f"at the end {fact.counter} was answered as {total}, but is {self.recorded[fact.counter]}"
        known = [fact for fact in self.facts.values() if fact.event_id in self.acknowledged]
        acknowledged = _sums((fact.counter, fact.quantity) for fact in known)
        for counter, total in self.recorded.items():
            if counter[:2] not in self.left_open and (sum_ := acknowledged.get(counter, 0)) != total:
                yield f"{counter} is {total}, but answers acknowledged {sum_}, and no request is left open"

    @cached_property
    def left_open(self) -> set[tuple[str, str]]:
        """The organizations and features for which some sent content never got a final answer."""
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

    def no_answer_holds_anothers_data(self) -> Iterator[str]:
        """No answer names another organization or holds content that only the other one sends."""
        for request in self.requests:
            for organization in _others_in(json.dumps([request.headers, request.body]), request.organization):
                yield f"{request.name} of {request.organization} was shown data of {organization}"

    def unpublishable_items_are_kept(self) -> Iterator[str]:
        """The failure bucket holds every damaged item and unpublishable event with its reason, and nothing else."""
        images: list[Any] = []
        for key, body in self.evidence.kept.items():
            kept = json.loads(body)
            image = kept["record"]["dynamodb"]["NewImage"]
            if image in images:
                yield f"{key} was kept before under another name"
            images.append(image)
            if re.fullmatch(r"failures/unpublishable/[0-9a-f]{64}\.json", key) is None:
                yield f"{key} was kept under an unexpected key"
            if not kept.get("reason"):
                yield f"{key} was kept without a reason"
            event_id = image.get("eventId", {}).get("S")
            if image not in self.damaged and event_id not in self.evidence.unpublishable:
                yield f"{key} was kept, but its item is valid: {kept['reason']}"
        for item in self.damaged:
            if item not in images:
                yield f"the damaged item {item['pk']['S']} {item['sk']['S']} is not in the failure bucket"
        kept_ids = {image.get("eventId", {}).get("S") for image in images}
        for event_id in self.evidence.unpublishable - kept_ids:
            yield f"the unpublishable event {event_id} is not in the failure bucket"


# No invocation lasts longer.
_LATENESS_S = 75.0
# The watcher never spends longer on a batch, by its own clock.
_LOOK_S = 300.0 + _LATENESS_S
_BEGINNING_S = float("-inf")
_WORD = re.compile("[A-Za-z0-9_-]+")
_SECRET = re.compile("secret-[0-9a-f]{16}")
# The attributes that events set, and the status, which only an operator sets.
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
    """A sum that grows over time."""

    moments: list[int]
    sums: list[int]

    def before(self, moment: int) -> int:
        """The sum of all entries before `moment`."""
        index = bisect_left(self.moments, moment)
        return self.sums[index - 1] if index else 0


_NOTHING = _Steps([], [])


def _steps(entries: Iterable[tuple[T, int, int]]) -> dict[T, _Steps]:
    by_counter: dict[T, list[tuple[int, int]]] = defaultdict(list)
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
    """Return whether the attempt's answer is final for all attempts with the same content."""
    if attempt.status in (None, 503):
        return False
    if attempt.recorded:
        return True
    # A running attempt may have read another limit or state, or may find that the key has expired since then. It may
    # still record the usage that this attempt could not.
    return all(other.status not in (None, 503) or other.ended < attempt.began for other in attempts)


def _latest_subscription(changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The attributes after all changes of a subscription. `changes` are in the order of their stamps."""
    found: dict[str, Any] = {}
    for event in changes:
        payload = event["detail"]["payload"]
        found |= {"planId": payload["newPlan"], "subscriptionStatus": payload["newStatus"]}
        if "planName" in payload:
            # The stored name carries its plan id, so that a plan never gets the name of another plan.
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
    """The other organizations whose name, as a whole word, or whose secret is in `text`."""
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
