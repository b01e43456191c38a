"""Holds a run's evidence against what this service promises.

Reads items and events by itself, by the table's documented shapes: what the code under test would misread, it must not
misread as well.
"""

import itertools
import json
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema

from tests.faults.evidence import Attempt, Evidence
from tests.faults.history import ORGANIZATIONS, RETENTION_S, secret_of

_SCHEMA_FILE = Path(__file__).parent.parent.parent / "events" / "billing.usage.recorded.schema.json"

# Organization, feature, billing period.
Counted: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Fact:
    """A usage record as it stood in the table."""

    event_id: str
    organization: str
    key: str
    feature: str
    quantity: int
    period: str
    recorded_at: str
    expires_at_s: int
    trace_id: str
    source_id: str | None
    source_type: str | None
    metadata: str | None
    shard: tuple[str, str]
    """Partition and sort key of the counter's item that it was added to."""

    @property
    def counter(self) -> Counted:
        return self.organization, self.feature, self.period

    @property
    def recorded_at_s(self) -> float:
        return datetime.fromisoformat(self.recorded_at).timestamp()

    @property
    def content(self) -> dict[str, Any]:
        """What the client must have sent for it."""
        optional = {
            "sourceId": self.source_id,
            "sourceType": self.source_type,
            "metadata": None if self.metadata is None else json.loads(self.metadata),
        }
        sent = {"feature": self.feature, "quantity": self.quantity}
        return sent | {name: value for name, value in optional.items() if value is not None}

    def valid_within(self, attempt: Attempt) -> bool:
        """Whether it may have held its key at some moment of the attempt."""
        # A millisecond is what is stored; the world's clock is a binary fraction.
        return self.recorded_at_s <= attempt.ended_at_s + 0.001 and self.expires_at_s > int(attempt.began_at_s)


def violations(evidence: Evidence) -> list[str]:
    """Every promise that was broken, in words; empty if all were kept."""
    return list(_Check(evidence).all())


def records_ever(evidence: Evidence) -> int:
    """How many usage records there ever were, those included that have expired and are gone."""
    return len(_Check(evidence).facts)


class _Check:
    """The evidence, and what follows from it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.damaged: list[dict[str, Any]] = []
        self.facts: dict[str, Fact] = {}
        self.wrong: list[str] = []
        self._collect_facts()

    def all(self) -> Iterator[str]:
        yield from self.wrong
        yield from self.counters_are_the_sum_of_the_records()
        yield from self.events_are_the_records()
        yield from self.every_record_was_asked_for_and_is_what_was_sent()
        yield from self.keys_are_held_for_the_retention()
        yield from self.answers_are_true()
        yield from self.refusals_are_problems()
        yield from self.told_totals_are_the_sum()
        yield from self.nobody_sees_anothers_data()
        yield from self.what_cannot_be_published_is_kept()
        yield from (f"stream record {number} was never done" for number in self.evidence.abandoned)
        yield from (f"{invocation} did not end" for invocation in self.evidence.hung)

    # What stands in the table

    def _collect_facts(self) -> None:
        """All records that ever stood at a phase's end. They may go when they have expired; they may not change."""
        before: dict[str, Fact] = {}
        damaged: dict[str, dict[str, Any]] = {}
        for snapshot in self.evidence.snapshots:
            now: dict[str, Fact] = {}
            for item in snapshot.items:
                pk = item["pk"]["S"]
                if not pk.startswith("usage#"):
                    if pk.partition("#")[0] not in ("counter", "organization"):
                        self.wrong.append(f"item {pk} is of no kind that is known")
                    continue
                fact = _fact(item)
                if fact is None:
                    damaged[pk] = item
                elif fact.event_id in now:
                    self.wrong.append(f"records {now[fact.event_id].key} and {fact.key} have one event id")
                else:
                    now[fact.event_id] = fact
            for event_id, fact in before.items():
                if event_id in now and now[event_id] != fact:
                    self.wrong.append(f"record {fact.organization} {fact.key} was changed after it was written")
                if event_id not in now and fact.expires_at_s > snapshot.at_s + _LATENESS_S:
                    self.wrong.append(f"record {fact.organization} {fact.key} is gone before it expired")
            self.facts |= now
            before = now
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
    def by_trace(self) -> dict[str, Fact]:
        return {fact.trace_id: fact for fact in self.facts.values()}

    @cached_property
    def last_items(self) -> list[dict[str, Any]]:
        return self.evidence.snapshots[-1].items

    @cached_property
    def recorded(self) -> dict[Counted, int]:
        return _sums((fact.counter, fact.quantity) for fact in self.facts.values())

    # The promises

    def counters_are_the_sum_of_the_records(self) -> Iterator[str]:
        """For every organization, feature and period, quantity and count; and shard by shard."""
        totals: Counter[Counted] = Counter()
        counts: Counter[Counted] = Counter()
        shards: dict[tuple[str, str], int] = {}
        for item in self.last_items:
            pk, sk = item["pk"]["S"], item["sk"]["S"]
            if not pk.startswith("counter#"):
                continue
            _, organization, period = pk.split("#")
            feature, _, _ = sk.rpartition("#")
            shards[pk, sk] = int(item["total"]["N"])
            totals[organization, feature, period] += int(item["total"]["N"])
            counts[organization, feature, period] += int(item["count"]["N"])
        records = Counter(fact.counter for fact in self.facts.values())
        yield from _differences("the counter", totals, "the records add up to", self.recorded)
        yield from _differences("the counter's count", counts, "the number of records is", records)
        by_shard = _sums((fact.shard, fact.quantity) for fact in self.facts.values())
        yield from _differences("the counter's shard", shards, "the records that name it add up to", by_shard)

    def events_are_the_records(self) -> Iterator[str]:
        """Each record has its event, each event its record; repeats are equal."""
        schema = jsonschema.Draft202012Validator(
            json.loads(_SCHEMA_FILE.read_text()), format_checker=jsonschema.FormatChecker()
        )
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
            for error in schema.iter_errors(event):
                yield f"event {event_id} breaks its schema: {error.message}"
            if event_id not in self.facts:
                yield f"event {event_id} tells of no record"
                continue
            fact = self.facts[event_id]
            told = {
                "organizationId": fact.organization,
                "feature": fact.feature,
                "quantity": fact.quantity,
                "billingPeriod": fact.period,
                "recordedAt": fact.recorded_at,
            }
            if detail["payload"] != told or detail.get("traceId") != fact.trace_id:
                yield f"event {event_id} does not tell what its record holds: {detail}"
            if detail["occurredAt"] != fact.recorded_at:
                yield f"event {event_id} occurred at another time than its record says"
        unpublished = self.evidence.refused_for_ever - details.keys()
        for event_id in self.facts.keys() - details.keys() - unpublished:
            fact = self.facts[event_id]
            yield f"record {fact.organization} {fact.key} of {fact.trace_id} was never published"
        published = _sums(
            (self.facts[event_id].counter, details[event_id]["payload"]["quantity"])
            for event_id in details.keys() & self.facts.keys()
        )
        never = [self.facts[event_id] for event_id in unpublished & self.facts.keys()]
        kept = _sums((fact.counter, fact.quantity) for fact in never)
        yield from _differences("what was published", _plus(published, kept), "the records add up to", self.recorded)

    def every_record_was_asked_for_and_is_what_was_sent(self) -> Iterator[str]:
        """A record belongs to one attempt, whole: nobody's else, nothing else."""
        attempts = {attempt.trace_id: attempt for attempt in self.evidence.attempts}
        seen: Counter[str] = Counter()
        for fact in self.facts.values():
            name = f"record {fact.organization} {fact.key}"
            attempt = attempts.get(fact.trace_id)
            seen[fact.trace_id] += 1
            if attempt is None:
                yield f"{name}: nobody asked for it"
                continue
            if seen[fact.trace_id] > 1:
                yield f"{attempt.name} was recorded more than once"
            if (fact.organization, fact.key) != (attempt.organization, attempt.key) or fact.content != attempt.content:
                yield f"{name} is not what {attempt.name} sent"
            if not attempt.began_at_s - 0.001 <= fact.recorded_at_s <= attempt.ended_at_s + _LATENESS_S:
                yield f"{name} was recorded at {fact.recorded_at}, when {attempt.name} was not under way"
            if fact.period != datetime.fromtimestamp(fact.recorded_at_s, UTC).strftime("%Y-%m"):
                yield f"{name} of {fact.recorded_at} is in the period {fact.period}"
            if fact.organization in (*self.evidence.inactive[attempt.phase], *self.evidence.unknown):
                yield f"{name} was recorded for an organization that may not record"

    def keys_are_held_for_the_retention(self) -> Iterator[str]:
        """A key belongs to one record at a time, for the retention to the second."""
        for (organization, key), facts in self.by_key.items():
            for fact in facts:
                if fact.expires_at_s != int(fact.recorded_at_s) + int(RETENTION_S):
                    yield f"record {organization} {key} of {fact.recorded_at} expires at {fact.expires_at_s}"
            for earlier, later in itertools.pairwise(facts):
                if int(later.recorded_at_s) < earlier.expires_at_s:
                    yield f"record {organization} {key} of {earlier.recorded_at} was counted again: {later.recorded_at}"

    def answers_are_true(self) -> Iterator[str]:
        """Recorded is recorded, a replay is a replay, a reuse a reuse, and a refusal has its reason."""
        for attempt in self.evidence.attempts:
            own = self.by_trace.get(attempt.trace_id)
            others = [
                fact
                for fact in self.by_key.get((attempt.organization, attempt.key), [])
                if fact is not own and fact.valid_within(attempt)
            ]
            match attempt.status:
                case None | 503:
                    continue
                case 200:
                    same = [fact for fact in others if fact.content == attempt.content]
                    if attempt.body.get("recorded") is not True or attempt.body.get("limitReached") is not False:
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
                    if attempt.body.get("code") != "IDEMPOTENCY_KEY_REUSED":
                        yield f"{attempt.name} was answered {attempt.body}"
                    elif own is not None or not any(fact.content != attempt.content for fact in others):
                        yield f"{attempt.name} was told that its key was reused, and it was not"
                case 403 | 404:
                    inactive = attempt.organization in self.evidence.inactive[attempt.phase]
                    unknown = attempt.organization in self.evidence.unknown
                    if not (inactive if attempt.status == 403 else unknown):
                        yield f"{attempt.name} of {attempt.organization} was refused with {attempt.status}"
                    elif any(fact.recorded_at_s < attempt.began_at_s - _LATENESS_S for fact in others):
                        yield f"{attempt.name} was refused although its usage had been counted"
                case _:
                    yield f"{attempt.name} was answered {attempt.status}: {attempt.body}"

    def refusals_are_problems(self) -> Iterator[str]:
        """Whatever is not a success says what to do, in the contract's form."""
        for attempt in self.evidence.attempts:
            if attempt.status in (None, 200):
                continue
            body, headers = attempt.body, attempt.headers
            if headers.get("Content-Type") != "application/problem+json" or body.get("status") != attempt.status:
                yield f"{attempt.name} was answered {attempt.status} without a problem: {body}"
            elif attempt.status == 503 and not (body.get("retryable") and headers.get("Retry-After")):
                yield f"{attempt.name} was not told when to try again: {headers} {body}"

    @cached_property
    def acknowledged(self) -> dict[str, int]:
        """When each record was first answered as recorded, by event id."""
        found: dict[str, int] = {}
        for attempt in self.evidence.attempts:
            if attempt.status != 200:
                continue
            for fact in self._answered_by(attempt):
                found[fact.event_id] = min(found.get(fact.event_id, attempt.ended), attempt.ended)
        return found

    def _answered_by(self, attempt: Attempt) -> list[Fact]:
        own = self.by_trace.get(attempt.trace_id)
        if own is not None:
            return [own]
        same = [
            fact
            for fact in self.by_key.get((attempt.organization, attempt.key), [])
            if fact.valid_within(attempt) and fact.content == attempt.content
        ]
        # At the second of expiry it may be either of two: then it proves nothing about either.
        return same if len(same) == 1 else []

    @cached_property
    def surely_there(self) -> "dict[Counted, _Steps]":
        """How much was acknowledged by a moment."""
        known = [fact for fact in self.facts.values() if fact.event_id in self.acknowledged]
        return _steps((fact.counter, self.acknowledged[fact.event_id], fact.quantity) for fact in known)

    @cached_property
    def perhaps_there(self) -> "dict[Counted, _Steps]":
        """How much was at least begun by a moment."""
        began = {attempt.trace_id: attempt.began for attempt in self.evidence.attempts}
        return _steps((fact.counter, began.get(fact.trace_id, 0), fact.quantity) for fact in self.facts.values())

    def _total_is_possible(self, attempt: Attempt, own: Fact | None, same: Sequence[Fact]) -> Iterator[str]:
        """At least what was acknowledged before it was asked, and this record; at most what was begun until then."""
        told = attempt.body.get("currentUsage")
        for fact in [own] if own is not None else same:
            sure = self.surely_there.get(fact.counter, _NOTHING)
            least = sure.before(attempt.began)
            if self.acknowledged.get(fact.event_id, attempt.ended) >= attempt.began:
                least += fact.quantity
            most = self.perhaps_there[fact.counter].before(attempt.ended)
            if isinstance(told, int) and least <= told <= most:
                return
        yield f"{attempt.name} was told a total of {told}, and it can only have been {least} to {most}"

    def told_totals_are_the_sum(self) -> Iterator[str]:
        """What is told when nobody is at work; and where all were answered, the sum of what was acknowledged."""
        for attempt in self.evidence.attempts:
            if attempt.operation >= 0:
                continue
            fact = next(iter(self._answered_by(attempt)), None)
            if attempt.status != 200 or fact is None:
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
        answered = {
            (attempt.operation, json.dumps(attempt.content, sort_keys=True))
            for attempt in self.evidence.attempts
            if attempt.status not in (None, 503)
        }
        ambiguous = {
            (attempt.organization, attempt.content["feature"])
            for attempt in self.evidence.attempts
            if attempt.status == 200 and not self._answered_by(attempt)
        }
        return ambiguous | {
            (attempt.organization, attempt.content["feature"])
            for attempt in self.evidence.attempts
            if (attempt.operation, json.dumps(attempt.content, sort_keys=True)) not in answered
        }

    def nobody_sees_anothers_data(self) -> Iterator[str]:
        """No answer names another organization or holds what only that one sent."""
        of_others = {organization: _data_of(organization) for organization in ORGANIZATIONS}
        for attempt in self.evidence.attempts:
            text = json.dumps([attempt.headers, attempt.body])
            for organization, data in of_others.items():
                if organization != attempt.organization and data.search(text):
                    yield f"{attempt.name} of {attempt.organization} was shown data of {organization}"

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


def _fact(item: Mapping[str, Any]) -> Fact | None:
    """The record that the item holds; None if it is spoilt."""
    try:
        _, organization, key = item["pk"]["S"].split("#", 2)
        if item["organizationId"]["S"] != organization:
            return None
        datetime.strptime(item["billingPeriod"]["S"], "%Y-%m").replace(tzinfo=UTC)
        return Fact(
            event_id=item["eventId"]["S"],
            organization=organization,
            key=key,
            feature=item["feature"]["S"],
            quantity=int(item["quantity"]["N"]),
            period=item["billingPeriod"]["S"],
            recorded_at=item["recordedAt"]["S"],
            expires_at_s=int(item["expiresAt"]["N"]),
            trace_id=item["traceId"]["S"],
            source_id=item.get("sourceId", {}).get("S"),
            source_type=item.get("sourceType", {}).get("S"),
            metadata=item.get("metadata", {}).get("S"),
            shard=(item["counter"]["M"]["pk"]["S"], item["counter"]["M"]["sk"]["S"]),
        )
    except (KeyError, ValueError):
        return None


def _data_of(organization: str) -> re.Pattern[str]:
    """Its name as a word of its own, or what only it ever sends."""
    return re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(organization)}(?![A-Za-z0-9_-])|{secret_of(organization)}")


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
