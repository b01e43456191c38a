"""Moments are read as RFC 3339 defines them, and no other text is a moment."""

from datetime import UTC, datetime

import pytest
from metering.model import moments


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T00:20:04Z", datetime(2026, 11, 23, 0, 20, 4, tzinfo=UTC)),
        ("2026-11-23t00:20:04z", datetime(2026, 11, 23, 0, 20, 4, tzinfo=UTC)),
        ("2026-11-23T00:20:04-00:00", datetime(2026, 11, 23, 0, 20, 4, tzinfo=UTC)),
        ("2026-11-23T01:50:04.5+01:30", datetime(2026, 11, 23, 0, 20, 4, 500_000, UTC)),
        ("2026-11-23T00:20:04.1234567Z", datetime(2026, 11, 23, 0, 20, 4, 123_456, UTC)),
        ("2026-11-30T23:59:59.99999999z", datetime(2026, 11, 30, 23, 59, 59, 999_999, UTC)),
        # Leap seconds, in UTC and elsewhere.
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("1990-12-31T15:59:60-08:00", datetime(1990, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2016-12-31T23:59:60.75Z", datetime(2016, 12, 31, 23, 59, 59, 750_000, UTC)),
        ("2026-11-23T00:20:60Z", datetime(2026, 11, 23, 0, 20, 59, tzinfo=UTC)),
    ],
)
def test_a_moment_of_rfc_3339_is_read(text: str, moment: datetime) -> None:
    assert moments.parse(text) == moment
    assert moments.parse(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026-11-23", "20261123T002004Z", "2026-W48-1T00:20:04Z", "2026-11-23T00:20:04"),
        *("2026-11-23 00:20:04Z", "2026-11-23T00:20Z", "2026-11-23T00:20:04,5Z", "2026-11-23T00:20:04.Z"),
        *("2026-11-23T00:20:04+01", "2026-11-23T00:20:04+0100", "2026-11-23T00:20:04+24:00", "2026-11-23T00:20:04 Z"),
        *("2026-11-23T24:00:00Z", "2026-11-23T00:60:00Z", "2026-11-23T00:20:61Z", "2026-11-23T00:20:04Z\n"),
        *("2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z", "2026-11-31T00:00:00Z"),
        *("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "٢٠٢٦-11-23T00:20:04Z", "+002026-11-23T00:20:04Z"),
    ],
)
def test_nothing_else_is_a_moment(text: str) -> None:
    with pytest.raises(ValueError, match="not a moment"):
        moments.parse(text)
