"""Partial dates as intervals in the civil time of the jurisdiction."""

from datetime import UTC, datetime

import pytest

from app.fhir.civil import interval


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("2026-02", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("2026-12-31", "2026-12-31T00:00", "2027-01-01T00:00"),
        # British summer time: the day starts an hour earlier in UTC.
        ("2026-07-01", "2026-06-30T23:00", "2026-07-01T23:00"),
        # The clocks go forward and back: 23 and 25 hours.
        ("2026-03-29", "2026-03-29T00:00", "2026-03-29T23:00"),
        ("2026-10-25", "2026-10-24T23:00", "2026-10-26T00:00"),
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00", "2026-01-01T10:00:01"),
        ("2026-01-01T10:00:00.5+02:00", "2026-01-01T08:00:00.5", "2026-01-01T08:00:00.6"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59", "2017-01-01T00:00:01"),
    ],
)
def test_a_date_means_all_its_instants(text: str, start: str, end: str) -> None:
    assert interval(text) == (utc(start), utc(end))


def test_the_last_day_of_the_calendar_has_no_end() -> None:
    assert interval("9999-12-31") == (utc("9999-12-31T00:00"), None)


def test_an_instant_before_the_calendar_has_no_start() -> None:
    assert interval("0001-01-01T00:00:00+14:00")[0] is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "26",
        "2026-13",
        "2026-02-30",
        "2026-1-1",
        "2026-01-01T10:00",
        "2026-01-01T10:00:00",
        "2026-01-01T25:00:00Z",
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    with pytest.raises(ValueError, match=r"date|month|day|hour|second"):
        interval(text)
