"""The last Observations of each kind (R4 observation-operation-lastn): grouped by code, the newest of each group.

Codes of one system are the same, translations of a code "are assumed to be equal and the grouping by code SHALL follow
the transitive property of equality"; where nothing is coded, the text counts as it is written.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from app.fhir.indexing import sinks_of
from app.fhir.rows import Found

T = TypeVar("T")
Code = tuple[str, str]
"""System and code; of a text alone ("text", text)."""


def last_of_each(observations: Sequence[T], body: Callable[[T], Mapping[str, Any]], *, most: int) -> list[T]:
    """Of each group the ``most`` newest, and those that are as old as the last of them; all newest first.

    In the order of ``observations`` where they are of one time. What tells no time is older than what does.
    """
    bodies = [body(one) for one in observations]
    times = [_effective(one) for one in bodies]
    chosen: list[int] = []
    for group in _groups([_codes(one) for one in bodies]):
        newest = sorted(group, key=lambda place: _newest_first(times[place]))
        # "In case of a tie both will be returned": more than were asked for.
        last = times[newest[most - 1]] if len(newest) >= most else None
        chosen += [one for rank, one in enumerate(newest) if rank < most or times[one] == last]
    return [observations[one] for one in sorted(sorted(chosen), key=lambda one: _newest_first(times[one]))]


def _newest_first(time: datetime | None) -> tuple[bool, float]:
    return time is None, -time.timestamp() if time else 0.0


def _effective(body: Mapping[str, Any]) -> datetime | None:
    """When it was true, as a search sorts it: of a period the beginning."""
    found = Found(body, "")
    for sink in sinks_of("Observation", "date"):
        sink(body, found)
    return max((row.lo for row in found.dates), default=None)


def _codes(body: Mapping[str, Any]) -> list[Code]:
    concept = body.get("code")
    if not isinstance(concept, dict):
        return []
    codings = concept.get("coding")
    listed = codings if isinstance(codings, list) else []
    codes = [
        (str(one.get("system", "")), one["code"])
        for one in listed
        if isinstance(one, dict) and isinstance(one.get("code"), str)
    ]
    text = concept.get("text")
    return codes or ([("text", text)] if isinstance(text, str) else [])


def _groups(coded: Sequence[Sequence[Code]]) -> list[list[int]]:
    """Places of what has a code in common, or each a code in common with another one of them."""
    same: dict[Code, Code] = {}

    def root(code: Code) -> Code:
        while same.setdefault(code, code) != code:
            same[code] = same[same[code]]
            code = same[code]
        return code

    for codes in coded:
        for code in codes:
            same[root(code)] = root(codes[0])
    groups: dict[Code | int, list[int]] = {}
    for place, codes in enumerate(coded):
        groups.setdefault(root(codes[0]) if codes else place, []).append(place)
    return list(groups.values())
