"""``_include`` and ``_revinclude``: what goes along with a page, every hop through the same gate as a read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from functools import cache

from app.asked import Asked
from app.disclosure.finding import MOST_CANDIDATES, Finding, Permitted, Within, body_of, question_of
from app.disclosure.gate import Gate
from app.disclosure.matches import Match
from app.errors import Issue, TooCostly
from app.fhir.compartments import in_patient_compartment
from app.fhir.criteria import TokenCriterion
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.includes import Include, reference_codes
from app.fhir.indexing import references_of
from app.fhir.keys import fresh_key64

MOST_INCLUDED = 1_000
"""Resources that a page brings along; an answer that has more says so."""

_TOO_MANY = Issue(
    "warning", "incomplete", f"More than {MOST_INCLUDED} resources would be included; the rest is left out."
)
_Found = dict[str, Match]


class Inclusion:
    """Finds what a page's matches refer to, and what refers to them."""

    def __init__(self, gate: Gate, finding: Finding) -> None:
        self._gate = gate
        self._finding = finding

    async def of(
        self, asked: Asked, includes: Sequence[Include], matches: Sequence[Match], within: Within
    ) -> tuple[list[Match], list[Issue]]:
        """What goes along with ``matches``, each once, and what there is to say about it."""
        if not includes or not matches:
            return [], []
        seen = {one.reference for one in matches}
        every: list[Match] = []
        latest, applied = list(matches), list(includes)
        while latest and applied:
            found = await self._next(asked, applied, latest, within, seen, MOST_INCLUDED + 1 - len(every))
            seen |= found.keys()
            every += found.values()
            latest, applied = list(found.values()), [one for one in includes if one.iterate]
            if len(every) > MOST_INCLUDED:
                return every[:MOST_INCLUDED], [_TOO_MANY]
        return every, []

    async def _next(
        self,
        asked: Asked,
        includes: Sequence[Include],
        latest: Sequence[Match],
        within: Within,
        seen: set[str],
        most: int,
    ) -> _Found:
        found: _Found = {}
        for include in includes:
            known = seen | found.keys()
            if include.reverse:
                permitted = await self._referring(asked, include, latest, within, known)
            else:
                permitted = await self._referred(asked, include, latest, known, most - len(found))
            for one in permitted[: most - len(found)]:
                match = await self._finding.match(asked, one, mode="include")
                found[match.reference] = match
        return found

    async def _referred(
        self, asked: Asked, include: Include, latest: Sequence[Match], known: Set[str], most: int
    ) -> list[Permitted]:
        """Forward: each reference is read as a single record is."""
        base = asked.request.base_url
        wanted = {
            (one.type, one.id): None
            for match in latest
            if include.source in ("*", match.resource_type) and match.is_at(base)
            for one in references_of(body_of(match.content), _along(include, match.resource_type), base)
            if one.type and one.id and include.target in ("", one.type)
        }
        missing = [(kind, id) for kind, id in wanted if f"{kind}/{id}" not in known]
        read = await asyncio.gather(*(self._finding.single(asked, kind, id) for kind, id in missing[:most]))
        return [one for one in read if one is not None]

    async def _referring(
        self, asked: Asked, include: Include, latest: Sequence[Match], within: Within, known: Set[str]
    ) -> list[Permitted]:
        """Reversed: a search for any of the references. Raises TooCostly."""
        keys = _keys(include, latest, asked.request.base_url)
        resource_type = None if include.source == "*" else include.source
        if resource_type is not None and not in_patient_compartment(resource_type):
            within = Within()
        question = question_of(
            asked, resource_type, [TokenCriterion("", (), keys)], within, limit=MOST_CANDIDATES
        )
        page = await self._finding.page(asked, question)
        if page.more:
            raise TooCostly("Too much refers to what was found. Narrow the question.")
        rows = [
            row
            for row in page.rows
            if f"{row.record.resource_type}/{row.record.id}" not in known
            and self._gate.scoped(asked, row.record.resource_type, row.record.custodian)
        ]
        return await self._finding.permitted(asked, rows, within)


def _keys(include: Include, latest: Sequence[Match], base_url: str) -> tuple[int, ...]:
    """Under which everything is indexed that refers to one of ``latest`` in the way asked for."""
    codes = _every_code() if include.source == "*" else _along(include, include.source)
    return tuple(
        fresh_key64(code, "r", match.reference)
        for match in latest
        if include.target in ("", match.resource_type) and match.is_at(base_url)
        for code in codes
    )


def _along(include: Include, resource_type: str) -> tuple[str, ...]:
    return reference_codes(resource_type) if include.parameter == "*" else (include.parameter,)


@cache
def _every_code() -> tuple[str, ...]:
    return tuple(sorted({code for one in RESOURCE_TYPES for code in reference_codes(one)}))
