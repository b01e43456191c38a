from datetime import UTC, datetime, timedelta, timezone

from metering.plans import known_features, known_plans, stamp

NOW = datetime(2026, 11, 23, 0, 20, 4, 123456, UTC)


def test_a_later_stamp_is_the_greater_text_whoever_stamped() -> None:
    assert stamp(NOW, "e-1") == "2026-11-23T00:20:04.123Z#e-1"
    assert stamp(NOW, "zzz") < stamp(NOW + timedelta(milliseconds=1), "by-hand")
    assert stamp(NOW, "e-1") < stamp(NOW, "e-2")


def test_a_stamp_is_the_same_wherever_its_clock_stands() -> None:
    assert stamp(NOW.astimezone(timezone(timedelta(hours=14))), "e-1") == stamp(NOW, "e-1")


def test_what_is_listed_nowhere_is_not_known() -> None:
    assert known_features(None) == known_plans(None) == known_features({"version": {"N": "1"}}) == frozenset()
    assert known_plans({"plans": {"SS": ["pro", "free"]}}) == {"free", "pro"}
