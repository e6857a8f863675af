"""What no index tells is settled first: chains, ``_has`` and ``_list`` by other resources, words by reading.

Each hop of a chain is a search under the same gate. What is withheld there is found by no chain, so that a chain tells
nothing that a search for its target would not; and the question that is left over speaks of the searched resources
alone, of which ``_text`` and ``_content`` name those that were read and have the words. It is decided like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.asked import Asked
from app.disclosure.finding import (
    EVERYBODY,
    MOST_CANDIDATES,
    Finding,
    Permitted,
    Within,
    body_of,
    question_of,
)
from app.disclosure.gate import Gate
from app.errors import TooCostly
from app.fhir.compartments import in_patient_compartment
from app.fhir.criteria import (
    HIERARCHIES,
    NOTHING,
    ChainCriterion,
    Criterion,
    HasCriterion,
    HierarchyCriterion,
    IdCriterion,
    ListCriterion,
    NotCriterion,
    WordsCriterion,
    is_looked_up,
    is_open,
    parts_of,
    referring_to,
    with_parts,
)
from app.fhir.indexing import references_of
from app.records.searching import After, Question
from app.vocabulary import NO_PATIENT

_FEW = 200
"""Candidates by the other criteria to which a question of everybody is narrowed before it is looked up."""
_MOST_LEVELS = 20
_MOST_PARTS = 1_000
"""Of a hierarchy that ``:above`` or ``:below`` goes along."""
_AT_ONCE = 100
"""Resources that are read for their words before anything else has its turn."""


class Lookups:
    """Resolves criteria into such as the store can compile."""

    def __init__(self, gate: Gate, finding: Finding) -> None:
        self._gate = gate
        self._finding = finding

    async def resolved(
        self, asked: Asked, resource_type: str, criteria: Sequence[Criterion], within: Within
    ) -> tuple[Criterion, ...]:
        """The same question without chains and words. Raises InsufficientScope and TooCostly."""
        if not any(map(is_open, criteria)):
            return tuple(criteria)
        within = await self._narrowed(asked, resource_type, criteria, within)
        # Those with words last: of what all others leave over, each resource is read.
        looked_up = [one for one in criteria if not _is_read(one)]
        left = question_of(
            asked,
            resource_type,
            [await self._resolved(asked, resource_type, one, within, None) for one in looked_up],
            within,
            limit=_AT_ONCE,
        )
        read = [one for one in criteria if _is_read(one)]
        named = [await self._resolved(asked, resource_type, one, within, left) for one in read]
        return (*left.criteria, *named)

    async def _narrowed(
        self, asked: Asked, resource_type: str, criteria: Sequence[Criterion], within: Within
    ) -> Within:
        """Where few match the other criteria, what refers to them is looked for in those people's records only.

        Not so under a negation: what is not found there must not be found anywhere.
        """
        plain = [one for one in criteria if not is_open(one)]
        if within.patients is not None or not plain or not in_patient_compartment(resource_type):
            return within
        if not any(map(is_looked_up, criteria)) or any(map(_is_denied, criteria)):
            return within
        page = await self._finding.page(asked, question_of(asked, resource_type, plain, within, limit=_FEW))
        if page.more:
            return within
        keys = {row.record.patient_key for row in page.rows}
        return within if NO_PATIENT in keys else replace(within, patients=tuple(sorted(keys)))

    async def _resolved(
        self,
        asked: Asked,
        resource_type: str,
        criterion: Criterion,
        within: Within,
        left: Question | None,
    ) -> Criterion:
        """``left`` asks for what is read for words."""
        match criterion:
            case _ if not is_open(criterion):
                return criterion
            case WordsCriterion() if left is not None:
                return await self._having(asked, criterion, left)
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
            case HierarchyCriterion(param, modifier, references):
                return referring_to(param, await self._connected(asked, references, modifier))
        parts = parts_of(criterion)
        return with_parts(
            criterion, [await self._resolved(asked, resource_type, one, within, left) for one in parts]
        )

    async def _connected(self, asked: Asked, references: Sequence[str], modifier: str) -> Sequence[str]:
        """These, and what is a part of them, or what they are a part of, however far. Raises TooCostly."""
        every = dict.fromkeys(references)
        edge = list(references)
        for _ in range(_MOST_LEVELS):
            neighbours = [await self._next_to(asked, kind, edge, modifier) for kind in HIERARCHIES]
            edge = [one for found in neighbours for one in found if one not in every]
            every |= dict.fromkeys(edge)
            if not edge:
                return list(every)
            if len(every) > _MOST_PARTS:
                break
        raise TooCostly(f"The hierarchy has more than {_MOST_PARTS:,} parts, or {_MOST_LEVELS} levels.")

    async def _next_to(self, asked: Asked, kind: str, edge: Sequence[str], modifier: str) -> list[str]:
        """One level on from those of ``edge`` that are of the type."""
        named, param = [one for one in edge if one.startswith(f"{kind}/")], HIERARCHIES[kind]
        if not named:
            return []
        if modifier == "below":
            parts = await self._all(asked, kind, referring_to(param, named), EVERYBODY)
            return [f"{kind}/{one.record.id}" for one in parts]
        ids = IdCriterion(tuple(one.removeprefix(f"{kind}/") for one in named))
        return [
            f"{whole.type}/{whole.id}"
            for one in await self._all(asked, kind, ids, EVERYBODY)
            for whole in references_of(body_of(one.record.content), [param], asked.request.base_url)
            if whole.type == kind and whole.id
        ]

    async def _having(self, asked: Asked, criterion: WordsCriterion, left: Question) -> IdCriterion:
        """Those that ``left`` asks for and that have the words, read a few at a time. Raises TooCostly."""
        ids: dict[str, None] = {}
        for _ in range(MOST_CANDIDATES // _AT_ONCE):
            page = await self._finding.page(asked, left)
            read = (row.record for row in page.rows)
            ids |= dict.fromkeys(one.id for one in read if criterion.matches(body_of(one.content)))
            if not page.more:
                return IdCriterion(tuple(ids))
            left = replace(left, after=After(page.rows[-1].key, page.rows[-1].record.id))
        raise TooCostly(
            f"{criterion.param}: more than {MOST_CANDIDATES:,} resources would have to be read. Narrow the question, "
            "e.g. to one patient."
        )

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


def _is_read(criterion: Criterion) -> bool:
    """Whether it asks for words, itself or a part of it."""
    return isinstance(criterion, WordsCriterion) or any(map(_is_read, parts_of(criterion)))


def _ids_named(resource_type: str, told: Iterable[Permitted], param: str, base_url: str) -> IdCriterion:
    """Those of the type that ``told`` refer to by ``param``."""
    ids = {
        reference.id: None
        for one in told
        for reference in references_of(body_of(one.record.content), [param], base_url)
        if reference.type == resource_type and reference.id is not None
    }
    return IdCriterion(tuple(ids))
