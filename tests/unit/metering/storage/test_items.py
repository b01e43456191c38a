from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering.model.moments import to_epoch_s, to_timestamp
from metering.model.names import FEATURE_PATTERN, KEY_PATTERN, ORGANIZATION_PATTERN, TRACE_ID_PATTERN
from metering.model.periods import billing_period_of, day_in_period, expiry
from metering.model.usage import MAX_QUANTITY, Usage
from metering.storage.counter_items import counter_key, counter_total
from metering.storage.organization_items import organization_key
from metering.storage.signals import MalformedItem
from metering.storage.usage_records import stored_usage_from_item, usage_from_item, usage_item, usage_key

NOW = datetime(2026, 11, 23, 0, 20, 4, 123000, UTC)
USAGE = Usage("demo-org", "api_calls", 1, "abc-123", "1:f", "e-1", NOW, "2026-11", 1_800_000_000, "t-1", "s", "", "{}")

usages = st.builds(
    Usage,
    organization=st.from_regex(ORGANIZATION_PATTERN, fullmatch=True),
    feature=st.from_regex(FEATURE_PATTERN, fullmatch=True),
    quantity=st.integers(1, MAX_QUANTITY),
    idempotency_key=st.from_regex(KEY_PATTERN, fullmatch=True),
    fingerprint=st.just("1:f"),
    event_id=st.uuids().map(str),
    recorded_at=st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 30), timezones=st.just(UTC)).map(  # noqa: DTZ001
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    ),
    billing_period=st.just("2026-11"),
    expires_at=st.integers(0, 10**11),
    trace_id=st.none() | st.from_regex(TRACE_ID_PATTERN, fullmatch=True),
    source_id=st.none() | st.text(),
    source_type=st.none() | st.text(),
    metadata=st.none() | st.just("{}"),
)


@given(usages, st.integers(0, 7))
def test_a_stored_usage_reads_back_unchanged(usage: Usage, shard: int) -> None:
    assert usage_from_item(usage_item(usage, shard)) == usage


@pytest.mark.parametrize(
    "total", [{}, {"total": {"S": "7"}}, {"total": {"N": "1.5"}}, {"total": {"N": "-1"}}, {"total": {"N": "1E+20"}}]
)
def test_a_shard_without_a_total_is_malformed(total: Any) -> None:
    assert counter_total({**counter_key(USAGE.counter, 0), "total": {"N": "9" * 38}}) == 10**38 - 1
    with pytest.raises(MalformedItem):
        counter_total({**counter_key(USAGE.counter, 0), **total})


@given(usages, usages)
def test_two_keys_are_one_only_if_all_their_parts_are(one: Usage, other: Usage) -> None:
    same = (one.organization, one.idempotency_key) == (other.organization, other.idempotency_key)
    keys = [usage_key(usage.organization, usage.idempotency_key) for usage in (one, other)]
    assert (keys[0] == keys[1]) == same


def test_the_keys_are_the_documented_ones() -> None:
    assert usage_key("demo-org", "a#b") == {"pk": {"S": "usage#demo-org#81"}, "sk": {"S": "a#b"}}
    assert counter_key(USAGE.counter, 3) == {"pk": {"S": "counter#demo-org#2026-11"}, "sk": {"S": "api_calls#3"}}
    assert organization_key("acme") == {"pk": {"S": "organization#acme"}, "sk": {"S": "organization"}}


def test_the_record_names_the_shard_it_was_added_to() -> None:
    assert usage_item(USAGE, 3)["counter"] == {"M": {**counter_key(USAGE.counter, 3), "day": {"N": "23"}}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            (name, None)
            for name in (
                "pk",
                "sk",
                "organizationId",
                "feature",
                "quantity",
                "eventId",
                "recordedAt",
                "billingPeriod",
                "fingerprint",
                "expiresAt",
            )
        ],
        ("pk", {"S": "usage#demo-org"}),
        ("pk", {"S": "usage#demo-org#00"}),
        ("sk", {"S": "no key"}),
        ("pk", {"S": "counter#demo-org#2026-11"}),
        ("organizationId", {"S": "demo org"}),
        ("feature", {"S": "no feature"}),
        ("quantity", {"S": "1"}),
        ("quantity", {"N": "0"}),
        ("quantity", {"N": "-1"}),
        ("quantity", {"N": "1.5"}),
        ("quantity", {"N": "1E3"}),
        ("quantity", {"N": "1000000001"}),
        ("quantity", {"N": 1}),
        ("eventId", {"S": ""}),
        ("eventId", {"S": "x" * 65}),
        ("recordedAt", {"S": "2026-11-23"}),
        ("recordedAt", {"S": "2026-13-23T00:20:04.123Z"}),
        ("billingPeriod", {"S": "2026-13"}),
        ("sourceId", {"N": "1"}),
        ("traceId", {"S": "t" * 129}),
        ("traceId", {"S": ""}),
        ("feature", "api_calls"),
    ],
)
def test_an_item_that_breaks_its_form_is_malformed(name: str, value: Any) -> None:
    item = usage_item(USAGE, 0) | {name: value}
    if value is None:
        del item[name]
    with pytest.raises(MalformedItem, match="pk" if name == "pk" else name):
        usage_from_item(item)


def test_a_record_of_another_organization_than_its_partitions_is_malformed() -> None:
    with pytest.raises(MalformedItem, match="pk"):
        usage_from_item(usage_item(USAGE, 0) | {"organizationId": {"S": "acme"}})


@pytest.mark.parametrize(
    "counter",
    [
        counter_key(USAGE.counter, 0),
        {**counter_key(USAGE.counter, 0), "day": {"N": "22"}},
        {**counter_key(USAGE.counter, 0), "day": {"N": "32"}},
        {**counter_key(USAGE.counter, 0), "day": {"S": "23"}},
        {**counter_key(USAGE.counter._replace(feature="exports"), 0), "day": {"N": "23"}},
    ],
)
def test_a_record_that_names_another_counter_or_day_is_malformed(counter: Any) -> None:
    assert stored_usage_from_item(usage_item(USAGE, 0)).usage == USAGE
    with pytest.raises(MalformedItem):
        stored_usage_from_item(usage_item(USAGE, 0) | {"counter": {"M": counter}})


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), 1),
        (datetime(2026, 11, 30, 23, 59, 59, 999_000, UTC), 30),
        (datetime(2026, 12, 1, 1, 0, 0, 0, timezone(timedelta(hours=2))), 30),
    ],
)
def test_the_day_is_counted_in_utc_from_the_first_day_of_the_period(moment: datetime, day: int) -> None:
    assert day_in_period("2026-11", moment) == day


def test_keys_spread_over_256_partitions_of_their_organization() -> None:
    partitions = Counter(usage_key("demo-org", f"key-{number}")["pk"]["S"] for number in range(25_600))
    assert partitions.keys() == {f"usage#demo-org#{bucket:02x}" for bucket in range(256)}
    assert max(partitions.values()) < 160


def test_the_billing_period_is_the_utc_month() -> None:
    east = timezone(timedelta(hours=2))
    assert billing_period_of(datetime(2026, 12, 1, 1, 59, 59, 999999, east)) == "2026-11"
    assert billing_period_of(datetime(2026, 12, 1, 2, 0, 0, 0, east)) == "2026-12"


def test_moments_are_written_in_utc_with_milliseconds() -> None:
    assert to_timestamp(datetime(2026, 11, 23, 2, 20, 4, 0, timezone(timedelta(hours=2)))) == "2026-11-23T00:20:04.000Z"


@pytest.mark.parametrize("microsecond", [999_000, 999_500, 999_999])
def test_moments_are_cut_to_milliseconds_and_not_rounded(microsecond: int) -> None:
    last = datetime(2026, 11, 30, 23, 59, 59, microsecond, UTC)
    assert to_timestamp(last) == "2026-11-30T23:59:59.999Z"
    assert to_epoch_s(last) == int(datetime(2026, 11, 30, 23, 59, 59, 0, UTC).timestamp())
    assert billing_period_of(last) == "2026-11"


def test_a_record_expires_after_its_retention_to_the_second() -> None:
    assert expiry(NOW, timedelta(days=400)) == to_epoch_s(replace(USAGE).recorded_at + timedelta(days=400))


def test_a_record_names_the_shard_that_counts_it() -> None:
    item = usage_item(USAGE, 9)
    assert stored_usage_from_item(item) == (USAGE, counter_key(USAGE.counter, 9))


@pytest.mark.parametrize(
    "counter",
    [
        None,
        {"S": "api_calls#0"},
        {"M": {}},
        {"M": {**counter_key(USAGE.counter, 0), "more": {"S": "1"}}},
        # The shard of another feature, period or organization, and a key that is no shard.
        {"M": counter_key(replace(USAGE, feature="storage_gb").counter, 0)},
        {"M": counter_key(replace(USAGE, billing_period="2026-10").counter, 0)},
        {"M": counter_key(replace(USAGE, organization="acme").counter, 0)},
        {"M": {**counter_key(USAGE.counter, 0), "sk": {"S": "api_calls#pages"}}},
    ],
)
def test_a_record_that_names_no_shard_of_its_counter_is_malformed(counter: Any) -> None:
    item = usage_item(USAGE, 0)
    changed = {name: value for name, value in item.items() if name != "counter"}
    with pytest.raises(MalformedItem, match=r"counter|pk and sk|sk is malformed"):
        stored_usage_from_item(changed if counter is None else {**changed, "counter": counter})
