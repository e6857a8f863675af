"""Instants as FHIR and HTTP write them."""

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache


def instant(moment: datetime) -> str:
    """``2026-11-24T10:15:30.123Z``: milliseconds, UTC (R4 instant)."""
    in_utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return in_utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def http_date(moment: datetime) -> str:
    """``Tue, 24 Nov 2026 10:15:30 GMT`` (RFC 9110, 5.6.7)."""
    return _http_date(moment.replace(microsecond=0))


@lru_cache(maxsize=4096)
def _http_date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def read_http_date(text: str | None) -> datetime | None:
    """An HTTP date; None for what is none, which a server ignores (RFC 9110, 13.1.3)."""
    try:
        found = parsedate_to_datetime(text or "")
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
