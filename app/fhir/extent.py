"""How much of a record ``$everything`` is asked for (R4 patient-operation-everything, encounter-operation-everything).

``start`` and ``end`` relate to "care dates, not record currency dates": the interval in which a resource was clinically
relevant, by the published date rule of its type (``app.fhir.relevance``), which consent for a period goes by, too, and
in the same civil time. What overlaps the days asked for is in, and so is what tells no date. ``_since`` goes by when a
version was kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.errors import InvalidInput
from app.fhir.civil import UNDATED, Interval, interval
from app.fhir.dates import asked_span
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.terminology_inputs import Inputs, Kind, from_pairs, from_parameters

OF_AN_ENCOUNTER: Final[Mapping[str, Kind]] = {"_since": "date", "_type": "text", "_count": "whole"}
OF_A_PATIENT: Final[Mapping[str, Kind]] = {"start": "date", "end": "date", **OF_AN_ENCOUNTER}

Given = Iterable[tuple[str, str]] | Mapping[str, object]
"""What an operation was sent: the pairs of an address, or a Parameters resource."""


@dataclass(frozen=True, slots=True)
class Extent:
    """``start`` and ``end`` are in; ``types`` empty: every type; ``count`` None: all of it on one page."""

    start: datetime | None = None
    end: datetime | None = None
    """Out: the instant after the last one asked for."""
    since: datetime | None = None
    types: frozenset[str] = frozenset()
    count: int | None = None

    def covers(
        self, relevant_from: datetime | None, relevant_until: datetime | None, last_updated: datetime | None
    ) -> bool:
        """Whether a version is asked for that was relevant in [from, until) and kept at ``last_updated``.

        None is open, or not known: what tells no date was perhaps relevant, and perhaps changed.
        """
        if self.since is not None and last_updated is not None and last_updated < self.since:
            return False
        if self.end is not None and relevant_from is not None and relevant_from >= self.end:
            return False
        return self.start is None or relevant_until is None or relevant_until > self.start

    def wants(self, resource_type: str) -> bool:
        return not self.types or resource_type in self.types


def read_extent(given: Given, kinds: Mapping[str, Kind]) -> Extent:
    """Raises InvalidInput and UnsupportedInput, which name the parameter."""
    if isinstance(given, Mapping):
        inputs = from_parameters(given, kinds, repeating=("_type",))
    else:
        inputs = from_pairs(given, kinds, repeating=("_type",))
    start, end = _days(inputs, "start")[0], _days(inputs, "end")[1]
    if start is not None and end is not None and end <= start:
        raise InvalidInput("end", "it is before the start.")
    return Extent(start, end, _since(inputs), _types(inputs), inputs.number("_count"))


def _days(inputs: Inputs, name: str) -> Interval:
    text = inputs.text(name)
    try:
        return UNDATED if text is None else interval(text)
    except ValueError as error:
        raise InvalidInput(name, "a date is needed, such as 2026-11-24, 2026-11 or 2026.") from error


def _since(inputs: Inputs) -> datetime | None:
    text = inputs.text("_since")
    if text is None:
        return None
    found = asked_span(text)
    if found is None:
        raise InvalidInput("_since", "an instant is needed, such as 2026-11-24T10:00:00Z.")
    return found.lo


def _types(inputs: Inputs) -> frozenset[str]:
    types = [one.strip() for text in inputs.texts("_type") for one in text.split(",")]
    if not all(one in RESOURCE_TYPES for one in types):
        raise InvalidInput("_type", "resource types of FHIR R4 are needed, separated by commas.")
    return frozenset(types)
