"""Dates as ranges: a date, dateTime, instant, Period or Timing is an interval ``[lo, hi)`` (R4 search, date).

``2020-05`` is the whole of May. Bounds are aware, in UTC, and half-open; an open end is BEGINNING or END. A
date without a time zone means the day in ``CIVIL_ZONE``: R4 leaves it to the server, and UTC is the choice
here because every source must index the same text alike and a search for a day find what was written for it.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Literal, NamedTuple

CIVIL_ZONE: tzinfo = UTC
"""The zone of a date without one. To change it, change this and index again."""

# A microsecond within what a datetime can be: asyncpg turns the very ends into PostgreSQL's infinities, and those
# back into datetimes without a zone.
BEGINNING = datetime.min.replace(tzinfo=UTC, microsecond=1)
END = datetime.max.replace(tzinfo=UTC, microsecond=999_998)

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
DateComparison = Prefix | Literal["co"]
"""``co`` is ``_filter``'s: no value of a single search begins with it."""


class Span(NamedTuple):
    """``lo`` is in, ``hi`` is out."""

    lo: datetime
    hi: datetime


_DATE = r"(\d{4})(?:-(\d\d)(?:-(\d\d)"
_STORED = re.compile(_DATE + r"(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d))?)?)?", re.ASCII)
# In a search, seconds and the zone may be left out, and a ``+`` that was not escaped arrives as a space.
_ASKED = re.compile(_DATE + r"(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+ -]\d\d:\d\d)?)?)?)?", re.ASCII)


@lru_cache(maxsize=4_096)
def span_of(text: str) -> Span | None:
    """The range of a stored date, dateTime or instant by its precision; None when it is none of them."""
    found = _STORED.fullmatch(text)
    return _span(found) if found else None


def asked_span(text: str) -> Span | None:
    """The range of a date in a search; None when it is not one, or no such day exists."""
    found = _ASKED.fullmatch(text)
    return _span(found) if found else None


def _span(found: re.Match[str]) -> Span | None:
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        if hour is None:
            return _days(int(year), month, day)
        return _instants(int(year), int(month), int(day), int(hour), int(minute), second, fraction, zone)
    except ValueError:
        return None


def _days(year: int, month: str | None, day: str | None) -> Span:
    lo = datetime(year, int(month or 1), int(day or 1), tzinfo=CIVIL_ZONE)
    if day is not None:
        return Span(_utc(lo), _later(lo, timedelta(days=1)))
    year, following = (year + 1, 1) if month is None or month == "12" else (year, int(month) + 1)
    return Span(_utc(lo), _utc(datetime(year, following, 1, tzinfo=CIVIL_ZONE)) if year <= 9999 else END)


def _instants(
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: int,
    second: str | None,
    fraction: str | None,
    zone: str | None,
) -> Span:
    # A leap second (``:60``, which R4 allows) is the second after :59, as in PostgreSQL.
    leap = second == "60"
    seconds = 59 if leap else int(second or 0)
    micros = int((fraction or "")[:6].ljust(6, "0"))
    lo = datetime(year, month, day, hour, minute, seconds, micros, tzinfo=_zone(zone))
    width = timedelta(minutes=1) if second is None else _width(fraction)
    return Span(_later(lo, timedelta(seconds=leap)), _later(lo, timedelta(seconds=leap) + width))


def _width(fraction: str | None) -> timedelta:
    """One unit of the last digit that was written, but not less than a microsecond."""
    return timedelta(microseconds=10 ** max(0, 6 - len(fraction or "")))


def _zone(text: str | None) -> tzinfo:
    if text is None:
        return CIVIL_ZONE
    if text == "Z":
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 14 or minutes > 59:
        raise ValueError("no such offset")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def _utc(moment: datetime) -> datetime:
    try:
        return min(max(moment.astimezone(UTC), BEGINNING), END)
    except OverflowError:
        return BEGINNING if moment.year == 1 else END


def _later(moment: datetime, by: timedelta) -> datetime:
    try:
        return min(_utc(moment) + by, END)
    except OverflowError:
        return END


def period_span(period: Any) -> Span | None:
    """A Period's range; a missing end is open. None when it has neither, or is not a Period."""
    if not isinstance(period, dict):
        return None
    start, end = _bound(period.get("start")), _bound(period.get("end"))
    if start is None and end is None:
        return None
    lo, hi = start.lo if start else BEGINNING, end.hi if end else END
    return Span(lo, max(lo, hi))


def timing_span(timing: Any) -> Span | None:
    """A Timing's outer limits, its events and its bounds; "the details are ignored" (R4 search, date)."""
    if not isinstance(timing, dict):
        return None
    events = timing.get("event")
    spans = [_bound(event) for event in events] if isinstance(events, list) else []
    repeat = timing.get("repeat")
    if isinstance(repeat, dict):
        spans.append(period_span(repeat.get("boundsPeriod")))
    known = [span for span in spans if span]
    return Span(min(span.lo for span in known), max(span.hi for span in known)) if known else None


def _bound(text: Any) -> Span | None:
    return span_of(text) if isinstance(text, str) else None


def matches(
    prefix: DateComparison, target_lo: datetime, target_hi: datetime, lo: datetime, hi: datetime
) -> bool:
    """Whether a stored range ``[target_lo, target_hi)`` is found by asking ``prefix`` of ``[lo, hi)``.

    R4 search, prefixes, to the letter: ``eq`` is containment ("the range of the search value fully contains
    the range of the target value"), not overlap. As SQL over a stored row, with a and b the range asked:

    ======  =============================================================
    eq      ``lo >= a AND hi <= b``
    ne      ``NOT (lo >= a AND hi <= b)``
    gt      ``hi > b``: some of the target is above
    lt      ``lo < a``: some of the target is below
    ge      ``hi > b OR (lo >= a AND hi <= b)``
    le      ``lo < a OR (lo >= a AND hi <= b)``
    sa      ``lo >= b``: all of the target is after
    eb      ``hi <= a``: all of the target is before
    ap      ``lo < b AND hi > a``: they overlap. Nothing is widened.
    co      ``lo <= a AND hi >= b``: the target includes the range asked
    ======  =============================================================
    """
    contained = target_lo >= lo and target_hi <= hi
    match prefix:
        case "eq":
            return contained
        case "ne":
            return not contained
        case "gt":
            return target_hi > hi
        case "lt":
            return target_lo < lo
        case "ge":
            return target_hi > hi or contained
        case "le":
            return target_lo < lo or contained
        case "sa":
            return target_lo >= hi
        case "eb":
            return target_hi <= lo
        case "ap":
            return target_lo < hi and target_hi > lo
        case "co":
            return target_lo <= lo and target_hi >= hi
