"""What of a history is asked for: ``_since``, ``_at`` and ``_count`` (R4 http, 3.1.0.10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from app.errors import MalformedSearch, UnsupportedSearch
from app.fhir.dates import Span, asked_span

_PRESENTATION = ("_format", "_pretty")
_MOST = 1_000


@dataclass(frozen=True, slots=True)
class HistoryWindow:
    """``since``: versions made at or after it; ``at``: those that were current at some time within it."""

    since: str | None = None
    at: str | None = None

    def holds(self, made: datetime, until: datetime | None) -> bool:
        """Of a version made at ``made`` and current ``until`` the next one; None: to this day."""
        if self.since is not None and made < _span("_since", self.since).lo:
            return False
        if self.at is None:
            return True
        asked = _span("_at", self.at)
        return made < asked.hi and (until is None or until > asked.lo)

    @property
    def since_instant(self) -> datetime | None:
        """No version made before it is held."""
        return None if self.since is None else _span("_since", self.since).lo

    @property
    def before_instant(self) -> datetime | None:
        """No version made at or after it is held."""
        return None if self.at is None else _span("_at", self.at).hi

    def query(self, count: int | None) -> str:
        """For the ``self`` link: what was used."""
        given = {"_since": self.since, "_at": self.at, "_count": count}
        used = {name: value for name, value in given.items() if value is not None}
        return f"?{urlencode(used)}" if used else ""

    def saved(self) -> dict[str, str | None]:
        return {"since": self.since, "at": self.at}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> "HistoryWindow":
        return cls(saved["since"], saved["at"])


def history_window(pairs: Sequence[tuple[str, str]]) -> tuple[HistoryWindow, int | None]:
    """The window and the versions a page. Raises MalformedSearch for any other parameter, and for one given twice."""
    given = {name: value for name, value in pairs if name not in _PRESENTATION}
    if len(given) < sum(name not in _PRESENTATION for name, _ in pairs):
        raise MalformedSearch("Each parameter of a history may be given once only.")
    if "_list" in given:
        raise UnsupportedSearch("_list is not supported in a history.")
    if given.keys() - {"_since", "_at", "_count"}:
        raise MalformedSearch(
            "A history is asked for with _since, _at and _count; nothing else is supported."
        )
    for name in ("_since", "_at"):
        if name in given:
            _span(name, given[name])
    return HistoryWindow(given.get("_since"), given.get("_at")), _count(given.get("_count"))


def _span(name: str, text: str) -> Span:
    span = asked_span(text)
    if span is None:
        raise MalformedSearch(f"{name}: a date or instant, such as 2026-11-24 or 2026-11-24T10:00:00Z.")
    return span


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) == 0:
        raise MalformedSearch("_count: a whole number, 1 or more.")
    return min(int(text), _MOST)
