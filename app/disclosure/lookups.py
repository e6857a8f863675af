"""Chains, ``_has`` and ``_list``: what other resources say is looked up first, each hop a search under the same gate.

What is withheld there is found by no chain, so that a chain tells nothing that a search for its target would not; and
the question that is left over speaks of the searched resources alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.asked import Asked
from app.disclosure.finding import Finding, Permitted, Within, body_of, question_of
from app.disclosure.gate import Gate
from app.fhir.compartments import in_patient_compartment
from app.fhir.criteria import (
    NOTHING,
    ChainCriterion,
    Criterion,
    HasCriterion,
    IdCriterion,
    ListCriterion,
    NotCriterion,
    is_looked_up,
    parts_of,
    referring_to,
    with_parts,
)
from app.fhir.indexing import references_of
from app.vocabulary import NO_PATIENT

_FEW = 200
"""Candidates by the other criteria to which a question of everybody is narrowed before it is looked up."""


class Lookups:
    """Resolves criteria into such as the store can compile."""

    def __init__(self, gate: Gate, finding: Finding) -> None:
        self._gate = gate
        self._finding = finding

    async def resolved(
        self, asked: Asked, resource_type: str, criteria: Sequence[Criterion], within: Within
    ) -> tuple[Criterion, ...]:
        """The same question without chains. Raises InsufficientScope and TooCostly."""
        if not any(map(is_looked_up, criteria)):
            return tuple(criteria)
        within = await self._narrowed(asked, resource_type, criteria, within)
        return await self._each_resolved(asked, resource_type, criteria, within)

    async def _each_resolved(
        self, asked: Asked, resource_type: str, criteria: Sequence[Criterion], within: Within
    ) -> tuple[Criterion, ...]:
        return tuple([await self._resolved(asked, resource_type, one, within) for one in criteria])

    async def _narrowed(
        self, asked: Asked, resource_type: str, criteria: Sequence[Criterion], within: Within
    ) -> Within:
        """Where few match the other criteria, what refers to them is looked for in those people's records only.

        Not so under a negation: what is not found there must not be found anywhere.
        """
        plain = [one for one in criteria if not is_looked_up(one)]
        if within.patients is not None or not plain or not in_patient_compartment(resource_type):
            return within
        if any(map(_is_denied, criteria)):
            return within
        page = await self._finding.page(asked, question_of(asked, resource_type, plain, within, limit=_FEW))
        if page.more:
            return within
        keys = {row.record.patient_key for row in page.rows}
        return within if NO_PATIENT in keys else replace(within, patients=tuple(sorted(keys)))

    async def _resolved(
        self, asked: Asked, resource_type: str, criterion: Criterion, within: Within
    ) -> Criterion:
        if not is_looked_up(criterion):
            return criterion
        match criterion:
            case ChainCriterion():
                found = await self.targets(asked, criterion, within)
                named = [f"{one.record.resource_type}/{one.record.id}" for one in found]
                return referring_to(criterion.param, named) if named else NOTHING
            case HasCriterion(kind, param, inner):
                told = await self._all(asked, kind, inner, within)
                return _ids_named(resource_type, told, param, asked.request.base_url)
            case ListCriterion(ids):
                lists = await self._all(asked, "List", IdCriterion(ids), within)
                return _ids_named(resource_type, lists, "item", asked.request.base_url)
        parts = await self._each_resolved(asked, resource_type, parts_of(criterion), within)
        return with_parts(criterion, parts)

    async def targets(self, asked: Asked, chain: ChainCriterion, within: Within) -> list[Permitted]:
        """What the chain's reference must be to."""
        return [one for kind, inner in chain.targets for one in await self._all(asked, kind, inner, within)]

    async def _all(
        self, asked: Asked, resource_type: str, criterion: Criterion, within: Within
    ) -> list[Permitted]:
        self._gate.may(asked, resource_type, "s")
        if not in_patient_compartment(resource_type):
            within = Within()
        criteria = await self.resolved(asked, resource_type, [criterion], within)
        return await self._finding.all(asked, resource_type, criteria, within)


def _is_denied(criterion: Criterion) -> bool:
    """Whether what other resources say counts by its absence."""
    denied = isinstance(criterion, NotCriterion) and is_looked_up(criterion)
    return denied or any(map(_is_denied, parts_of(criterion)))


def _ids_named(resource_type: str, told: Iterable[Permitted], param: str, base_url: str) -> IdCriterion:
    """Those of the type that ``told`` refer to by ``param``."""
    ids = {
        reference.id: None
        for one in told
        for reference in references_of(body_of(one.record.content), [param], base_url)
        if reference.type == resource_type and reference.id is not None
    }
    return IdCriterion(tuple(ids))
