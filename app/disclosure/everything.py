"""``$everything`` of a Patient and of an Encounter (R4 patient-operation-everything, encounter-operation-everything).

What is in the compartment is a match; what is added because it is referred to is an include, as R4 speaks of "included
resources". Everything is decided, and recorded, before the first byte leaves; what is in it is read while it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.asked import Asked, Release
from app.disclosure.answers import Answering, Answers, Chosen, kept_of
from app.disclosure.finding import Finding, Permitted, Within, sortable
from app.disclosure.gate import Gate
from app.disclosure.searches import is_federated
from app.disclosure.sources import Sources
from app.disclosure.supporting import Supporting
from app.errors import Gone, Issue, NotFound
from app.fhir.compartments import compartment_parameters, in_patient_compartment
from app.fhir.criteria import TokenCriterion
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.extent import Extent
from app.fhir.keys import fresh_key64
from app.fhir.query import MOST_COUNT
from app.fhir.sorting import Sortable, ordered
from app.records.federation import Answer
from app.records.results import Foreign, ResultSet
from app.vocabulary import NO_PATIENT


class Everything:
    """All that there is about a patient, or about one encounter."""

    def __init__(
        self,
        gate: Gate,
        finding: Finding,
        supporting: Supporting,
        sources: Sources,
        answers: Answers,
    ) -> None:
        self._gate = gate
        self._finding = finding
        self._supporting = supporting
        self._sources = sources
        self._answers = answers

    async def of_patient(self, asked: Asked, patient_id: str, extent: Extent) -> Release:
        """The whole compartment, from every source that may hold something."""
        self._gate.may(asked, "Patient", "s")
        who = await self._gate.who(asked, patient_id)
        if who is None:
            raise NotFound
        decision = await self._gate.decide(asked, who.identity)
        if not decision.permitted:
            raise NotFound
        one = Answering(asked, None, 0, Within.one_person(who.identity, decision))
        ask = is_federated(asked, who)
        own, answers = await self._sources.beside(one, who, self._compartment(one), ask=ask)
        lines = [*self._sources.fresh(who.identity), *(answer.line for answer in answers)]
        return await self._answered(replace(one, lines=lines), own, answers, extent)

    async def of_encounter(self, asked: Asked, id: str, extent: Extent) -> Release:
        """The encounter, what refers to it as R4's Encounter compartment has it, and what those refer to."""
        found, decision = await self._gate.visible(asked, "Encounter", id)
        if found.record.deleted:
            raise Gone
        within = Within(patients=(NO_PATIENT,))
        if found.whose is not None:
            who = await self._gate.who(asked, found.whose.patient.id)
            if who is None:
                raise NotFound
            within = Within.one_person(who.identity, await self._gate.decide(asked, who.identity))
        one = Answering(asked, None, 0, within)
        encounter = Permitted(found.record, within.identity, decision)
        own = [encounter, *await self._of_the_encounter(one, id)]
        return await self._answered(one, own, (), extent, any_type=True)

    async def _compartment(self, one: Answering) -> list[Permitted]:
        found = await self._finding.all(one.asked, None, (), one.within, bare=True)
        return [
            it for it in found if in_patient_compartment(it.record.resource_type) and self._scoped(one, it)
        ]

    async def _of_the_encounter(self, one: Answering, id: str) -> list[Permitted]:
        every: dict[str, Permitted] = {}
        for code, types in _ENCOUNTER_TYPES.items():
            keys = (fresh_key64(code, "r", f"Encounter/{id}"),)
            refer = await self._finding.all(
                one.asked, None, [TokenCriterion("", (), keys)], one.within, bare=True
            )
            every |= {
                it.record.reference: it
                for it in refer
                if it.record.resource_type in types and self._scoped(one, it)
            }
        return list(every.values())

    def _scoped(self, one: Answering, it: Permitted) -> bool:
        return self._gate.scoped(one.asked, it.record.resource_type, it.record.custodian)

    async def _answered(
        self,
        one: Answering,
        own: Sequence[Permitted],
        answers: Sequence[Answer],
        extent: Extent,
        *,
        any_type: bool = False,
    ) -> Release:
        own = [it for it in own if _covers(extent, it)]
        foreign = [it for it in self._sources.released(one, answers) if _covers(extent, it)]
        added: list[Permitted] = []
        issues: list[Issue] = []
        if any_type or not extent.types or not all(map(in_patient_compartment, extent.types)):
            added, issues = await self._supporting.of(one.asked, own, one.within, any_type=any_type)
        matches: list[Chosen] = [*own, *(it for it in foreign if in_patient_compartment(it.resource_type))]
        includes: list[Chosen] = [
            *added,
            *(it for it in foreign if not in_patient_compartment(it.resource_type)),
        ]
        return await self._released(
            replace(one, issues=issues),
            self._in_order(one, matches, extent),
            self._in_order(one, includes, extent),
            extent,
        )

    def _in_order(self, one: Answering, found: Sequence[Chosen], extent: Extent) -> list[Chosen]:
        """By type and id; of what was asked for. ``_type`` takes nothing away but the other types."""
        base = one.asked.request.base_url

        def seen(it: Chosen) -> Sortable:
            return sortable(it, base) if isinstance(it, Permitted) else it.sortable()

        return ordered((it for it in found if extent.wants(_type(it))), (), seen)

    async def _released(
        self, one: Answering, matches: list[Chosen], includes: list[Chosen], extent: Extent
    ) -> Release:
        chosen = [*matches, *includes]
        supports = frozenset(map(kept_of, includes))
        one = replace(one, supports=supports, count=min(extent.count or MOST_COUNT, MOST_COUNT))
        answer = ResultSet(tuple(map(kept_of, chosen)), len(matches), tuple(one.lines))
        if extent.count == 0:
            return await self._answers.whole(one, [], answer.total)
        if extent.count is None:
            return await self._answers.streamed(one, chosen, answer.total)
        return await self._answers.first(one, answer, None)


def _covers(extent: Extent, it: Chosen) -> bool:
    facets = it.record.facets if isinstance(it, Permitted) else it.facets()
    last_updated = it.record.last_updated if isinstance(it, Permitted) else it.sortable().last_updated
    return extent.covers(facets.relevant_from, facets.relevant_until, last_updated)


def _type(it: Chosen) -> str:
    return it.resource_type if isinstance(it, Foreign) else it.record.resource_type


def _encounter_types() -> dict[str, frozenset[str]]:
    """The search parameters that put a resource into an Encounter's compartment, and the types of each."""
    found: dict[str, set[str]] = {}
    for resource_type in RESOURCE_TYPES - {"Encounter"}:
        for code in compartment_parameters("Encounter", resource_type):
            found.setdefault(code, set()).add(resource_type)
    return {code: frozenset(types) for code, types in sorted(found.items())}


_ENCOUNTER_TYPES = _encounter_types()
