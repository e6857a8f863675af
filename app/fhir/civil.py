"""FHIR's partial dates as half-open intervals of instants, in the civil time of the jurisdiction.

Used wherever a date decides about consent. Consent and data must be read in the same zone, or data of 1 July
would fall outside a permission for July.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

JURISDICTION: Final = ZoneInfo("Europe/London")

_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d))?)?)?", re.ASCII
)

Interval = tuple[datetime | None, datetime | None]
"""[from, until) in UTC; None is open. (None, None) means that nothing is known."""

UNDATED: Final[Interval] = (None, None)


@lru_cache(maxsize=65_536)
def interval(text: str) -> Interval:
    """The instants that a FHIR date, dateTime or instant may mean: a year, a month, a day, a second or less.

    A bound beyond the calendar (``9999-12-31`` ends there) is open. Raises ValueError for anything else.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a FHIR date or dateTime")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    if hour is not None:
        return _instants(
            int(year), int(month), int(day), int(hour), int(minute), int(second), fraction, _zone(zone)
        )
    first = datetime(int(year), int(month or 1), int(day or 1))
    return _utc(first, JURISDICTION), _next(first, month, day)


def _instants(
    year: int, month: int, day: int, hour: int, minute: int, second: int, fraction: str | None, zone: tzinfo
) -> Interval:
    # R4 allows a leap second; Python's calendar has none. It is counted to the second before it.
    start = datetime(year, month, day, hour, minute, min(second, 59))
    width = timedelta(seconds=1)
    if fraction:
        digits = fraction[:6]
        start += timedelta(microseconds=int(digits.ljust(6, "0")))
        width = timedelta(microseconds=10 ** (6 - len(digits)))
    if second == 60:
        width += timedelta(seconds=1)
    lower = _utc(start, zone)
    return lower, _utc(start, zone, width)


def _next(first: datetime, month: str | None, day: str | None) -> datetime | None:
    """The start of the year, month or day after."""
    try:
        if day is not None:
            following = first + timedelta(days=1)
        elif month is not None:
            following = (first + timedelta(days=31)).replace(day=1)
        else:
            following = first.replace(year=first.year + 1)
    except (OverflowError, ValueError):
        return None
    return _utc(following, JURISDICTION)


def _utc(local: datetime, zone: tzinfo, later: timedelta = timedelta()) -> datetime | None:
    try:
        return local.replace(tzinfo=zone).astimezone(UTC) + later
    except (OverflowError, ValueError):
        return None


@lru_cache(maxsize=128)
def _zone(text: str) -> tzinfo:
    if text == "Z":
        return UTC
    parsed = datetime.strptime(text, "%z").tzinfo
    if parsed is None:
        raise ValueError("not an offset")
    return parsed
