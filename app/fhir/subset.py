"""A part of a resource, as ``_summary`` and ``_elements`` ask for it (R4 search, 3.1.1.9 and 3.1.1.10).

Members are cut out of the text; what stays keeps every byte. A part is marked SUBSETTED, so that nobody takes it for
the whole and writes it back.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.errors import MalformedSearch
from app.fhir.definitions import json_names
from app.fhir.text import Cut, array_item_spans, cut, member_spans, with_tag

Summary = Literal["", "text", "data", "true"]

SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
_ALWAYS = frozenset({"resourceType", "id", "meta"})


@dataclass(frozen=True, slots=True)
class Subset:
    """Which elements are wanted: those of a summary, or those that are named. Mandatory elements always come along."""

    summary: Summary = ""
    elements: tuple[str, ...] = ()
    """Names of root elements, or ``Type.element`` for one type."""

    def of(self, text: str) -> str:
        """The part of the resource ``text``."""
        spans = member_spans(text)
        resource_type = json.loads(text[slice(*spans["resourceType"])])
        cuts = self._cuts(text, resource_type, 0, at_root=True)
        return with_tag(cut(text, cuts), SUBSETTED)

    def _cuts(self, text: str, type_name: str, start: int, *, at_root: bool) -> list[Cut]:
        names = json_names(type_name)
        cuts: list[Cut] = []
        for name, (begin, end) in member_spans(text, start).items():
            known = names.get(name.removeprefix("_"))
            if known is not None and not self._keeps(type_name, known[0], at_root=at_root):
                cuts.append(Cut(start, name))
            elif known is not None and self.summary == "true" and known[0].path_type is not None:
                starts = [begin] if text[begin] == "{" else [one for one, _ in array_item_spans(text, begin)]
                cuts += [
                    one
                    for place in starts
                    if text[place] == "{"
                    for one in self._cuts(text, known[0].path_type, place, at_root=False)
                ]
            del end
        return cuts

    def _keeps(self, type_name: str, element: Any, *, at_root: bool) -> bool:
        if element.name in _ALWAYS or element.min > 0:
            return True
        match self.summary:
            case "true":
                return bool(element.is_summary)
            case "text":
                return bool(element.name == "text" or element.is_modifier)
            case "data":
                return bool(element.name != "text")
        # What changes the meaning of the rest is never left away.
        named = element.name in self.elements or f"{type_name}.{element.name}" in self.elements
        return bool(named or element.is_modifier) or not at_root


def read_subset(summary: str | None, elements: str | None) -> Subset | None:
    """None for the whole. ``count`` is not a part of a resource. Raises MalformedSearch."""
    match summary:
        case "true" | "text" | "data":
            if elements is not None:
                raise MalformedSearch("_summary and _elements cannot be asked together.")
            return Subset(summary=summary)
        case None | "false" | "count":
            names = _names((elements or "").split(","))
            return Subset(elements=names) if names else None
    raise MalformedSearch("_summary: true, false, text, data or count.")


def _names(given: Sequence[str]) -> tuple[str, ...]:
    names = tuple(one.strip() for one in given if one.strip())
    if not all(part.isalnum() and part.isascii() for one in names for part in one.split(".", 1)):
        raise MalformedSearch("_elements: names of elements, separated by commas.")
    return names
