"""The list of usage records: complete, nothing twice, within its limits."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from metering.http import strict_json
from metering.http.endpoint import RESERVE_S
from metering.http.operations import USAGE_GET, USAGE_LIST
from metering.model.moments import whole_milliseconds
from metering.model.periods import billing_period_of, expiry
from metering.model.usage import RecordFilter, Usage
from metering.storage.retry import RetryBudget
from metering.storage.usage_records import BUCKETS, bucket_of, usage_item, usage_key
from metering.usage import listing
from metering.usage.cursors import START

from tests.testing.contention import answer_with, failed
from tests.testing.payloads import example, query_request, record_request
from tests.testing.problems import assert_problem
from tests.testing.service import Clock, Context, Longest, QueryFunction, RecordFunction

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Several of these keys share a bucket, and some buckets have none.
KEYS = [f"k-{number}" for number in range(150)]
# Lambda's limit for an answer. Source: Lambda developer guide, Lambda quotas.
LAMBDA_BYTES = 6 * 1024 * 1024


def _record(function: RecordFunction, keys: list[str], **members: Any) -> None:
    """Store usage records as the record function does, in a tenth of the time."""
    now = function.clock.now()
    for key in keys:
        usage = Usage(
            organization="demo-org",
            feature=members.get("feature", "api_calls"),
            quantity=1,
            idempotency_key=key,
            fingerprint="1:0",
            event_id=f"event-{key}",
            recorded_at=whole_milliseconds(now),
            billing_period=billing_period_of(now),
            expires_at=expiry(now, timedelta(days=400)),
            source_id=members.get("sourceId"),
            source_type=members.get("sourceType"),
            metadata=strict_json.compact(members["metadata"]) if "metadata" in members else None,
        )
        function.client.put_item(TableName="usage", Item=usage_item(usage, 0))


def _pages(ask: QueryFunction, **parameters: str) -> Iterator[dict[str, Any]]:
    """The pages of the list, each asked for when it is needed."""
    while True:
        page = ask(query_request(USAGE_LIST, parameters)).body
        yield page
        if "nextCursor" not in page:
            return
        parameters["cursor"] = page["nextCursor"]


def _keys(ask: QueryFunction, **parameters: str) -> list[str]:
    return [record["idempotencyKey"] for page in _pages(ask, **parameters) for record in page["records"]]


def _in_pages_of(client: "DynamoDBClient", records: int) -> None:
    """End each query after this many read records, as DynamoDB does after 1 MB."""

    def limit(params: Any, **_: Any) -> None:
        params["Limit"] = min(params.get("Limit", records), records)

    events: Any = client.meta.events
    events.register("provide-client-params.dynamodb.Query", limit)


# --- complete, nothing twice -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [20, 149, 150, 1000])
def test_the_pages_hold_each_record_once(function: RecordFunction, ask: QueryFunction, page_size: int) -> None:
    _record(function, KEYS)
    pages = list(_pages(ask, pageSize=str(page_size)))
    listed = [record["idempotencyKey"] for page in pages for record in page["records"]]
    assert sorted(listed) == sorted(KEYS)
    assert {len(page["records"]) for page in pages[:-1]} <= {page_size}


def test_a_listed_record_is_the_one_that_usage_get_returns(function: RecordFunction, ask: QueryFunction) -> None:
    _record(function, ["a"], sourceId="request-7", sourceType="request", metadata={"a": [1, {"b": None}]})
    _record(function, ["b"])
    listed = {record["idempotencyKey"]: record for record in ask(query_request(USAGE_LIST)).body["records"]}
    assert listed == {key: ask(query_request(USAGE_GET, idempotencyKey=key)).body for key in ("a", "b")}


def test_a_few_records_are_listed_in_one_request_of_256_consistent_queries(
    function: RecordFunction, ask: QueryFunction
) -> None:
    _record(function, KEYS[:10])
    queries = answer_with(ask.client, "Query", [])
    assert len(_keys(ask)) == 10
    assert len(queries) == BUCKETS
    assert all(query["ConsistentRead"] for query in queries)


def test_a_full_page_reads_hardly_more_than_it_returns(function: RecordFunction, ask: QueryFunction) -> None:
    crowded = [key for key in (f"k-{number}" for number in range(20_000)) if bucket_of(key) == 0][:40]
    _record(function, crowded)
    queries = answer_with(ask.client, "Query", [])
    assert len(next(_pages(ask, pageSize="20"))["records"]) == 20
    assert [query["Limit"] for query in queries] == [20]


def test_another_organizations_records_are_never_listed(function: RecordFunction, ask: QueryFunction) -> None:
    for organization in ("acme", "demo-org"):
        function(record_request(example(idempotencyKey=f"of-{organization}"), claims={"org_id": organization}))
    assert _keys(ask) == ["of-demo-org"]


@pytest.mark.parametrize("records", [1, 2])
def test_a_filter_finds_every_match_however_the_queries_end(
    function: RecordFunction, ask: QueryFunction, records: int
) -> None:
    _record(function, KEYS[:24])
    _record(function, KEYS[24:36], feature="exports")
    function.clock.pass_by(days=8)
    _record(function, KEYS[36:48])
    _in_pages_of(ask.client, records)
    assert sorted(_keys(ask, feature="exports", pageSize="7")) == sorted(KEYS[24:36])
    assert sorted(_keys(ask, billingPeriod="2026-12", pageSize="7")) == sorted(KEYS[36:48])
    assert sorted(_keys(ask, billingPeriod="2026-11", feature="api_calls")) == sorted(KEYS[:24])
    assert _keys(ask, billingPeriod="2026-12", feature="exports") == []
    assert sorted(_keys(ask)) == sorted(KEYS[:48])


def test_what_others_write_meanwhile_moves_no_record(function: RecordFunction, ask: QueryFunction) -> None:
    _record(function, KEYS[:50])
    listed: Counter[str] = Counter()
    for number, page in enumerate(_pages(ask, pageSize="5")):
        listed.update(record["idempotencyKey"] for record in page["records"])
        _record(function, [f"new-{number}-{each}" for each in range(10)])
        # TTL deletes a record that is listed already, also the one that the cursor names.
        if page["records"]:
            last = page["records"][-1]["idempotencyKey"]
            ask.client.delete_item(TableName="usage", Key=usage_key("demo-org", last))
    assert set(listed.values()) == {1}
    assert set(KEYS[:50]) <= listed.keys()


def test_an_expired_record_is_left_out_from_the_second_of_its_expiry_on(
    function: RecordFunction, ask: QueryFunction
) -> None:
    _record(function, ["old"])
    function.clock.pass_by(days=399)
    _record(function, ["new"])
    function.clock.pass_by(days=1)
    function.clock.at = function.clock.at.replace(microsecond=0)
    function.clock.pass_by(seconds=-1)
    assert sorted(_keys(ask)) == ["new", "old"]
    function.clock.pass_by(seconds=1)
    assert _keys(ask) == ["new"]


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_page_ends_after_the_most_read_records_and_can_be_empty(
    function: RecordFunction, ask: QueryFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    _record(function, KEYS)
    _record(function, ["x"], feature="exports")
    monkeypatch.setattr(listing, "MAX_EXAMINED", 20)
    pages = list(_pages(ask, feature="exports"))
    assert len(pages) > 5
    assert [page["records"] for page in pages].count([]) == len(pages) - 1


def test_an_answer_of_the_largest_records_fits_lambdas_limit_and_loses_none(
    function: RecordFunction, ask: QueryFunction
) -> None:
    # These characters take the most bytes in an answer. Both levels of JSON escape a quote. Lambda's runtime can write
    # a character outside the Basic Multilingual Plane as two escapes.
    quotes, wide = '"' * 2040, "\U00010437" * 1020
    keys = [f"k-{number}" for number in range(450)]
    for number, key in enumerate(keys):
        long = (wide if number % 3 else quotes)[:255]
        _record(function, [key], metadata={"a": quotes if number % 2 else wide}, sourceId=long, sourceType=long)
    context: Any = Context(ask.clock)
    listed: list[str] = []
    parameters = {"pageSize": "1000"}
    for _ in range(10):
        answer = ask.answer(query_request(USAGE_LIST, parameters), context)
        assert len(json.dumps(answer)) <= LAMBDA_BYTES
        body = json.loads(answer["body"])
        listed += [record["idempotencyKey"] for record in body["records"]]
        if "nextCursor" not in body:
            break
        # A page without an end by size would hold more.
        assert len(json.dumps(answer)) > LAMBDA_BYTES / 2
        parameters["cursor"] = body["nextCursor"]
    assert sorted(listed) == sorted(keys)


def test_a_page_ends_at_the_deadline_and_the_next_one_continues(function: RecordFunction, ask: QueryFunction) -> None:
    _record(function, KEYS)

    def slowly(**_: Any) -> None:
        ask.clock.pass_by(seconds=0.1)

    events: Any = ask.client.meta.events
    events.register("provide-client-params.dynamodb.Query", slowly)
    sizes, listed = [], []
    parameters: dict[str, str] = {"pageSize": "1000"}
    while True:
        began = ask.clock.monotonic()
        page = ask(query_request(USAGE_LIST, parameters)).body
        # A started round of queries ends.
        assert ask.clock.monotonic() - began <= ask.timeout_s - RESERVE_S + listing.AT_ONCE * 0.1
        sizes.append(len(page["records"]))
        listed += [record["idempotencyKey"] for record in page["records"]]
        if "nextCursor" not in page:
            break
        parameters["cursor"] = page["nextCursor"]
    assert len(sizes) > 3
    assert sorted(listed) == sorted(KEYS)


def test_a_throttled_bucket_ends_the_page_before_it(function: RecordFunction, ask: QueryFunction) -> None:
    _record(function, KEYS)
    throttled = _throttle(ask.client, {100})
    page = ask(query_request(USAGE_LIST, {"pageSize": "1000"})).body
    buckets = {bucket_of(record["idempotencyKey"]) for record in page["records"]}
    assert max(buckets) < 100
    assert json.loads(ask.log.getvalue().splitlines()[-1])["retries"] > 3
    throttled.clear()
    rest = _keys(ask, pageSize="1000", cursor=page["nextCursor"])
    assert sorted([*(record["idempotencyKey"] for record in page["records"]), *rest]) == sorted(KEYS)


def test_a_list_whose_first_bucket_does_not_answer_is_unavailable(function: RecordFunction, ask: QueryFunction) -> None:
    _record(function, ["a"])
    _throttle(ask.client, {0})
    assert_problem(ask(query_request(USAGE_LIST), 503), 503, "SERVICE_UNAVAILABLE", "dependency")


def test_a_record_that_cannot_be_read_is_an_error_and_no_gap(function: RecordFunction, ask: QueryFunction) -> None:
    _record(function, KEYS[:3])
    ask.client.update_item(
        TableName="usage",
        Key=usage_key("demo-org", KEYS[1]),
        UpdateExpression="REMOVE quantity",
    )
    assert_problem(ask(query_request(USAGE_LIST), 500), 500, "INTERNAL_ERROR", "internal")


def test_queries_run_side_by_side_and_not_too_many() -> None:
    client = _Crowded()
    clock = Clock()
    budget = RetryBudget(clock.monotonic() + 5, clock.monotonic, clock.sleep, Longest())
    page = listing.read_page(client, "usage", "demo-org", RecordFilter(), START, 100, budget, clock.now())  # type: ignore[arg-type]
    assert page == ([], None)
    assert client.most == listing.AT_ONCE


class _Crowded:
    """A client of an empty table that counts its queries in progress."""

    def __init__(self) -> None:
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()

    def query(self, **_: Any) -> Any:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        time.sleep(0.005)
        with self._lock:
            self._inside -= 1
        return {"Items": [], "ScannedCount": 0}


def _throttle(client: "DynamoDBClient", buckets: set[int]) -> set[int]:
    """Throttle the queries of these buckets. The caller may change the set."""
    answer = failed("ThrottlingException")

    def respond(params: Any, **_: Any) -> Any:
        partition = json.loads(params["body"])["ExpressionAttributeValues"][":pk"]["S"]
        is_throttled = partition.startswith("usage#") and int(partition[-2:], 16) in buckets
        return (
            (answer, {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 400}})
            if is_throttled
            else None
        )

    events: Any = client.meta.events
    events.register("before-call.dynamodb.Query", respond)
    return buckets
