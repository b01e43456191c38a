from datetime import UTC, datetime

import pytest

from tests.testing import months

pytestmark = pytest.mark.verify


@pytest.mark.parametrize(
    ("now", "expected_s"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), 0.0),
        (datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC), 0.0),
        (datetime(2026, 11, 30, 23, 59, 30, 1, tzinfo=UTC), 29.999999),
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), 1.0),
        (datetime(2026, 12, 1, tzinfo=UTC), 0.0),
        (datetime(2026, 12, 31, 23, 59, 50, tzinfo=UTC), 10.0),
        # The next two midnights end no month.
        (datetime(2026, 11, 29, 23, 59, 59, tzinfo=UTC), 0.0),
        (datetime(2026, 12, 30, 23, 59, 59, tzinfo=UTC), 0.0),
        (datetime(2027, 2, 28, 23, 59, 59, tzinfo=UTC), 1.0),
        (datetime(2028, 2, 28, 23, 59, 59, tzinfo=UTC), 0.0),
        (datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC), 1.0),
    ],
)
def test_only_a_month_that_ends_too_soon_is_waited_out(now: datetime, expected_s: float) -> None:
    assert months.wait_s(now, lasts_s=30) == expected_s
