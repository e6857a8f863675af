"""FHIR's partial dates as half-open intervals of instants, in the civil time of the jurisdiction.

Used wherever a date decides about consent. Consent and data must be read in the same zone, or data of 1 July
would fall outside a permission for July. Search reads dates by itself (``app.fhir.dates``).
"""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
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
    year, month, day, *_, zone = match.groups()
    first = date(int(year), int(month or 1), int(day or 1))
    if zone is not None:
        return _instants(first, match, _zone(zone))
    return _midnight(first), _midnight(_next(first, month, day))


def _instants(day: date, match: re.Match[str], zone: tzinfo) -> Interval:
    hour, minute, second = (int(match[group]) for group in (4, 5, 6))
    fraction = (match[7] or "")[:6]
    # R4 allows a leap second; Python's calendar has none. It is counted to the second before it.
    leap = second == 60
    whole = time(hour, minute, second - leap, int(fraction.ljust(6, "0")), tzinfo=zone)
    width = timedelta(microseconds=10 ** (6 - len(fraction))) + timedelta(seconds=leap)
    start = datetime.combine(day, whole)
    return _utc(start), _utc(start, width)


def _next(first: date, month: str | None, day: str | None) -> date | None:
    """The first day of the year, month or day after."""
    try:
        if day is not None:
            return first + timedelta(days=1)
        if month is not None:
            return (first + timedelta(days=31)).replace(day=1)
        return first.replace(year=first.year + 1)
    except (OverflowError, ValueError):
        return None


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else _utc(datetime.combine(day, time(tzinfo=JURISDICTION)))


def _utc(local: datetime, later: timedelta = timedelta()) -> datetime | None:
    try:
        return local.astimezone(UTC) + later
    except (OverflowError, ValueError):
        return None


@lru_cache(maxsize=128)
def _zone(text: str) -> tzinfo:
    """Raises ValueError for an offset of 24 hours or more."""
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:]))
    return timezone(-offset if text[0] == "-" else offset)
