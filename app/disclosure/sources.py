"""What other sources are asked, and in which words: nothing that would let them tell by what we might withhold.

A chain within somebody's record depends on resources that this node may withhold though their custodian would not. So
the far end of the chain is asked for first, decided here like anything else, and only what is released of it narrows
the question (``encounter=Encounter/e7``), for each source by its own ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from app.asked import Asked
from app.disclosure.answers import Answering
from app.disclosure.finding import body_of
from app.disclosure.gate import Gate, Reading
from app.fhir import manifest
from app.fhir.compartments import in_patient_compartment
from app.fhir.criteria import (
    ChainCriterion,
    Criterion,
    HasCriterion,
    ListCriterion,
    ReferenceCriterion,
    is_looked_up,
    parts_of,
)
from app.fhir.indexing import references_of
from app.fhir.manifest import SourceLine, SourceState
from app.fhir.query import SearchQuery
from app.records.federation import Answer
from app.records.reading import Who
from app.records.remote import RemoteQuestion
from app.records.results import Foreign
from app.vocabulary import OdsCode, PatientIdentity

Own = TypeVar("Own")
Pair = tuple[str, str]
_MOST_IDS = 200
"""Ids that a narrowed question names in its address."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One criterion as it can be asked: the far end's type and parameter, and where its ids belong."""

    resource_type: str
    pair: Pair
    narrows: str
    """The parameter of the question that is narrowed: the chain's own, or ``_id``."""
    along: str
    """For ``_has``: the parameter along which what was found refers back; empty for a chain."""


class Sources:
    """The sources beside this node's own store, as one person's records are asked of them."""

    def __init__(self, at: Reading, gate: Gate) -> None:
        self._at = at
        self._gate = gate

    async def ask(self, one: Answering, who: Who) -> tuple[Answer, ...]:
        """One Answer for every source. Raises DatabaseUnavailable."""
        query = one.query
        if query is None or not query.is_looked_up:
            if query is not None and query.compartment and query.compartment.kind != "Patient":
                return await self.not_supported()
            return await self._at.federation.ask(self._question(one, who, query, _pairs(query)))
        steps = _steps(query)
        if steps is None:
            return await self.not_supported()
        return await self._narrowed(one, who, query, steps)

    async def beside(
        self, one: Answering, who: Who, here: Coroutine[Any, Any, Own], *, ask: bool
    ) -> tuple[Own, tuple[Answer, ...]]:
        """What is found ``here``, and what the sources say, who are asked meanwhile unless not to ``ask``."""
        if not ask:
            return await here, ()
        asking = asyncio.create_task(self.ask(one, who))
        try:
            own = await here
        except BaseException:
            # Also when the caller went away: nobody waits for the sources any more.
            asking.cancel()
            raise
        return own, await asking

    async def not_supported(self) -> tuple[Answer, ...]:
        """Of a question that no source is asked."""
        now = self._at.clock.now()
        return tuple(
            Answer(SourceLine(source.ods_code, source.name, SourceState.not_supported, now))
            for source in await self._at.federation.sources()
        )

    async def no_record(self, asked: Asked) -> list[SourceLine]:
        """The lines of an answer that is empty for whatever reason, and tells none."""
        expected = [(code, "") for code in self._at.custodians]
        if asked.caller.via is None:
            expected += [(one.ods_code, one.name) for one in await self._at.federation.sources()]
        now = self._at.clock.now()
        return [SourceLine(code, name, SourceState.no_record, now) for code, name in sorted(set(expected))]

    def fresh(self, identity: PatientIdentity) -> list[SourceLine]:
        """The lines of this node's own custodians."""
        now = self._at.clock.now()
        return [
            SourceLine(code, "", SourceState.fresh, now)
            for code in sorted({one.custodian for one in identity.local})
        ]

    # A question whose criteria look elsewhere.

    async def _narrowed(
        self, one: Answering, who: Who, query: SearchQuery, steps: Sequence[_Step]
    ) -> tuple[Answer, ...]:
        deadline = asyncio.get_running_loop().time() + self._at.federation.deadline_seconds
        found = await asyncio.gather(
            *(self._far_end(one, who, query.resource_type, step, deadline) for step in steps)
        )
        settled: dict[OdsCode, Answer] = {}
        narrowing: dict[OdsCode, list[Pair]] = {}
        for step, answers in zip(steps, found, strict=True):
            for answer, ids in answers:
                code = answer.line.custodian
                if ids and len(ids) <= _MOST_IDS and manifest.is_complete([answer.line]):
                    narrowing.setdefault(code, []).append((step.narrows, ",".join(ids)))
                elif ids and manifest.is_complete([answer.line]):
                    settled[code] = Answer(replace(answer.line, state=SourceState.not_supported))
                else:
                    settled.setdefault(code, Answer(answer.line))
        asked = {code: pairs for code, pairs in narrowing.items() if code not in settled}
        question = replace(
            self._question(one, who, query, _plain_pairs(query)), narrowing=asked, deadline=deadline
        )
        told = {
            answer.line.custodian: answer
            for answer in await self._at.federation.ask(question, only=frozenset(asked))
        }
        return tuple((settled | told)[code] for code in sorted(settled | told))

    async def _far_end(
        self, one: Answering, who: Who, resource_type: str, step: _Step, deadline: float
    ) -> list[tuple[Answer, list[str]]]:
        """For every source what narrows the question there: references for a chain, ids for ``_has``."""
        question = replace(
            self._question(one, who, None, [step.pair]), resource_type=step.resource_type, deadline=deadline
        )
        return [
            (answer, self._ids(one, answer, resource_type, step))
            for answer in await self._at.federation.ask(question)
        ]

    def _ids(self, one: Answering, answer: Answer, resource_type: str, step: _Step) -> list[str]:
        released = self.released(one, [answer])
        if not step.along:
            return [f"{step.resource_type}/{it.id}" for it in released]
        return list(
            dict.fromkeys(
                reference.id
                for it in released
                for reference in references_of(body_of(it.content), [step.along], it.base_url)
                if reference.type == resource_type and reference.id
            )
        )

    def released(self, one: Answering, answers: Iterable[Answer]) -> list[Foreign]:
        """What of it may be released, by facets computed from its own text: the stricter end wins."""
        decision = one.within.decision
        foreign = [Foreign.of(record) for answer in answers for record in answer.records]
        return [
            it
            for it in foreign
            if decision is not None
            and decision.releases(it.facets())
            and self._gate.scoped(one.asked, it.resource_type, it.custodian)
        ]

    def _question(
        self, one: Answering, who: Who, query: SearchQuery | None, pairs: Sequence[Pair]
    ) -> RemoteQuestion:
        asked = one.asked
        return RemoteQuestion(
            resource_type=query.resource_type if query else None,
            pairs=pairs,
            identity=who.identity,
            birth_date=who.birth_date,
            patient_parameter=_patient_parameter(query),
            in_compartment=query is not None and query.compartment is not None,
            nhs_number_system=self._at.nhs_number_system,
            caller=asked.caller,
            trace_id=asked.request.trace_id,
            request_id=asked.request.request_id,
        )


def _pairs(query: SearchQuery | None) -> Sequence[Pair]:
    return query.pairs_without_patient if query else ()


def _patient_parameter(query: SearchQuery | None) -> str | None:
    """The parameter that bound the question to a patient, e.g. ``performer``."""
    naming = query.scope_criteria if query else ()
    return next((one.param for one in naming if isinstance(one, ReferenceCriterion)), None)


def _asked_pairs(query: SearchQuery) -> Mapping[Criterion, Pair]:
    return dict(zip(query.criteria, query.criterion_pairs, strict=True))


def _plain_pairs(query: SearchQuery) -> list[Pair]:
    """How those criteria were asked that a source may answer by itself: also what chains into directories alone."""
    return [
        pair
        for criterion, pair in _asked_pairs(query).items()
        if criterion not in query.scope_criteria and not _needs_a_step(criterion)
    ]


def _needs_a_step(criterion: Criterion) -> bool:
    """Whether it looks into records, which may be withheld; a directory is open to whoever may search it."""
    return any(in_patient_compartment(kind) for kind in _looked_at(criterion))


def _looked_at(criterion: Criterion) -> list[str]:
    match criterion:
        case ChainCriterion(targets=targets):
            return [one for kind, inner in targets for one in (kind, *_looked_at(inner))]
        case HasCriterion(resource_type=kind, criterion=inner):
            return [kind, *_looked_at(inner)]
        case ListCriterion():
            return ["List"]
    return [one for part in parts_of(criterion) for one in _looked_at(part)]


def _steps(query: SearchQuery) -> list[_Step] | None:
    """How to ask for each far end; None when one cannot be asked for: several hops or types, a List, a ``_filter``."""
    if query.compartment and query.compartment.kind != "Patient":
        return None
    steps = [
        _step(criterion, pair) for criterion, pair in _asked_pairs(query).items() if _needs_a_step(criterion)
    ]
    known = [one for one in steps if one is not None]
    return known if len(known) == len(steps) else None


def _step(criterion: Criterion, pair: Pair) -> _Step | None:
    name, value = pair
    match criterion:
        case _ if name == "_filter":
            return None
        case ChainCriterion(param, ((kind, inner),)) if not is_looked_up(inner):
            return _Step(kind, (name.partition(".")[2], value), param, "")
        case HasCriterion(kind, param, inner) if not is_looked_up(inner):
            return _Step(kind, (name.split(":", 3)[3], value), "_id", param)
    return None
