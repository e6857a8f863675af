"""Searches: of one person, asked of every source; or of everybody, each under their own directives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.asked import Asked, Release
from app.consent.decision import Decision
from app.disclosure.answers import Answering, Answers, Chosen, kept_of
from app.disclosure.finding import (
    EVERYBODY,
    MOST_CANDIDATES,
    Finding,
    Permitted,
    Within,
    question_of,
    sortable,
)
from app.disclosure.gate import Gate, Reading
from app.disclosure.lookups import Lookups
from app.disclosure.sources import Sources
from app.errors import NotFound, TooCostly
from app.fhir.compartments import in_patient_compartment
from app.fhir.criteria import ChainCriterion, Criterion, ReferenceCriterion
from app.fhir.lastn import last_of_each
from app.fhir.query import SearchQuery
from app.fhir.several import SeveralQuery
from app.fhir.sorting import Sortable, ordered
from app.records.federation import Answer
from app.records.reading import Who
from app.records.results import ResultSet
from app.records.searching import Question
from app.smart import scopes
from app.vocabulary import PatientIdentity

_CANDIDATES = 200
"""Of everybody's records, read and decided at first: most answers are shorter."""


class Searches:
    """search-type, its pages, and those of ``$everything`` (R4 search)."""

    def __init__(
        self,
        at: Reading,
        gate: Gate,
        finding: Finding,
        lookups: Lookups,
        answers: Answers,
        sources: Sources,
    ) -> None:
        self._at = at
        self._gate = gate
        self._finding = finding
        self._lookups = lookups
        self._answers = answers
        self._sources = sources

    async def search(self, asked: Asked, query: SearchQuery) -> Release:
        for resource_type in (query.resource_type, *sorted(query.types_looked_at)):
            self._gate.may(asked, resource_type, "s")
        if query.patient_scope is not None:
            return await self._of_patient(asked, query, query.patient_scope)
        if (chain := query.chain_to_patient) is not None:
            return await self._of_whom_it_means(asked, query, chain)
        return await self._of_everybody(asked, query)

    async def last_of_each(self, asked: Asked, query: SearchQuery, address: str, *, most: int) -> Release:
        """Observation/$lastn: of what matches, the ``most`` newest of each code; of one patient, from every source.

        What is withheld was never among them, so that it leaves no gap.
        """
        self._gate.may(asked, "Observation", "s")
        for resource_type in sorted(query.types_looked_at):
            self._gate.may(asked, resource_type, "s")
        who, decision = await self._about(asked, query.patient_scope or "")
        if who is None or decision is None or not decision.permitted:
            return await self._nothing(asked, query, decision, address)
        within = Within.one_person(who.identity, decision)
        one = Answering(asked, query, query.count, within, address=address)
        return await self._gathered(one, query, who, ask=is_federated(asked, who), most=most)

    async def _of_whom_it_means(self, asked: Asked, query: SearchQuery, chain: ChainCriterion) -> Release:
        """``patient.identifier=…`` and the like: when that is one person, it is a question about that person."""
        found = await self._lookups.targets(asked, chain, EVERYBODY)
        people = {one.owner.person if one.owner else None for one in found}
        if not found:
            return await self._nothing(asked, query, None)
        if len(people) == 1 and None not in people and _are_patients(found):
            bound = query.bound_to(chain, [one.record.id for one in found])
            return await self._of_patient(asked, bound, bound.patient_scope or "")
        return await self._of_everybody(asked, query)

    async def page(self, asked: Asked, position: Mapping[str, Any]) -> Release:
        """A page after the first: of the same answer, decided again."""
        query = SearchQuery.restore(position["query"]) if position["query"] else None
        if query is not None:
            self._gate.may(asked, query.resource_type, "s")
        within = await self._still_within(asked, position["patient"])
        answer = await self._at.result_sets.thaw(dict(position))
        supports = frozenset(answer.kept[position["matches"] :]) if query is None else frozenset()
        one = Answering(
            asked, query, position["count"], within, answer.lines, position["self"], supports=supports
        )
        return await self._answers.later(one, answer, position)

    async def _still_within(self, asked: Asked, patient_id: str | None) -> Within:
        if patient_id is None:
            await self._gate.known(asked)
            return EVERYBODY
        who, decision = await self._about(asked, patient_id)
        if who is None or decision is None or not decision.permitted:
            raise NotFound
        return Within.one_person(who.identity, decision)

    # Of one person.

    async def _about(self, asked: Asked, patient_id: str) -> tuple[Who | None, Decision | None]:
        """The person, and what is decided; neither for an unknown id. Raises NotFound in an emergency about another."""
        who = await self._gate.who(asked, patient_id)
        if who is not None:
            return who, await self._gate.decide(asked, who.identity)
        if asked.caller.purpose.is_emergency:
            raise NotFound  # as for a patient whom the emergency is not about
        return None, None

    async def _of_patient(self, asked: Asked, query: SearchQuery, patient_id: str) -> Release:
        who, decision = await self._about(asked, patient_id)
        if who is None or decision is None or not decision.permitted:
            return await self._nothing(asked, query, decision)
        one = Answering(asked, query, query.count, Within.one_person(who.identity, decision))
        if is_federated(asked, who):
            return await self._gathered(one, query, who, ask=True)
        return await self._own(replace(one, lines=self._sources.fresh(who.identity)), query, who)

    async def _nothing(
        self, asked: Asked, query: SearchQuery, decision: Decision | None, address: str = ""
    ) -> Release:
        """The same answer for a patient who is unknown and for one whose record is closed to this caller."""
        lines = await self._sources.no_record(asked)
        one = Answering(asked, query, query.count, EVERYBODY, lines, address)
        if decision is None:
            return await self._answers.empty(one, "No such patient.", None)
        words = "Refused by consent; answered as for an unknown patient."
        return await self._answers.empty(one, words, decision)

    async def _own(self, one: Answering, query: SearchQuery, who: Who) -> Release:
        """Of this node's own records, straight from the index where it can put them in order."""
        if not query.is_sorted_by_index:
            return await self._gathered(one, query, who, ask=False)
        question = await self._question(one, query, limit=query.count, count=True)
        page = await self._finding.page(one.asked, question)
        if page.shared:
            # SQL knows one person's decision: only here can the others' be counted too.
            return await self._gathered(one, query, who, ask=False)
        if page.more and query.count:
            pointers = await self._finding.point(question)
            answer = ResultSet(pointers.found, page.total, beyond=pointers.beyond)
            return await self._answers.first(one, answer, None)
        # The in-memory check must agree with the residual; where it does not, withhold.
        found = await self._finding.permitted(one.asked, page.rows, one.within)
        return await self._answers.whole(one, found, page.total)

    async def _question(
        self, one: Answering, query: SearchQuery, *, limit: int, count: bool = False
    ) -> Question:
        criteria = await self._criteria(one, query)
        kind, sort = query.resource_type, query.sort
        return question_of(one.asked, kind, criteria, one.within, limit=limit, sort=sort, count=count)

    async def _criteria(self, one: Answering, query: SearchQuery) -> tuple[Criterion, ...]:
        criteria = tuple(_for_all_of(it, query, one.within.identity) for it in query.criteria)
        return await self._lookups.resolved(one.asked, query.resource_type, criteria, one.within)

    async def _gathered(
        self, one: Answering, query: SearchQuery, who: Who, *, ask: bool, most: int | None = None
    ) -> Release:
        """All of it, from every source at once, put in order here. ``most``: of each code no more than the last."""
        own, answers = await self._sources.beside(one, who, self._everything_here(one, query), ask=ask)
        lines = [*self._sources.fresh(who.identity), *(answer.line for answer in answers)]
        chosen = self._merged(one, query, own, answers)
        if most is not None:
            chosen = last_of_each(chosen, _body, most=most)
        answer = ResultSet(tuple(map(kept_of, chosen)), len(chosen), tuple(lines))
        return await self._answers.first(replace(one, lines=lines), answer, chosen)

    async def _everything_here(self, one: Answering, query: SearchQuery) -> list[Permitted]:
        """All of this node's own matches: what one person has, never what the database holds."""
        criteria = await self._criteria(one, query)
        found = await self._finding.all(one.asked, query.resource_type, criteria, one.within)
        return [
            it
            for it in found
            if self._gate.scoped(one.asked, it.record.resource_type, it.record.custodian)
            and in_patient_compartment(it.record.resource_type)
        ]

    def _merged(
        self, one: Answering, query: SearchQuery, own: Sequence[Permitted], answers: Sequence[Answer]
    ) -> list[Chosen]:
        """Own and foreign resources in the order asked for; each foreign one is decided here as well."""
        base = one.asked.request.base_url

        def seen(it: Chosen) -> Sortable:
            return sortable(it, base) if isinstance(it, Permitted) else it.sortable()

        every: list[Chosen] = [*own, *self._sources.released(one, answers)]
        return ordered(every, query.sort_keys, seen)

    # Of several types.

    async def several(self, asked: Asked, several: SeveralQuery) -> Release:
        """The same question of several types: of this node's own records, put in order here."""
        queries = [one for one in several.queries if several.named or self._may_search(asked, one)]
        for query in queries or several.queries[:1]:
            for resource_type in (query.resource_type, *sorted(query.types_looked_at)):
                self._gate.may(asked, resource_type, "s")
        first, address = queries[0], asked.request.base_url + several.link
        one = Answering(asked, first, first.count, EVERYBODY, (), address)
        patient_id = _one_patient(queries)
        if patient_id is not None:
            who, decision = await self._about(asked, patient_id)
            if who is None or decision is None or not decision.permitted:
                return await self._nothing(asked, first, decision, address)
            lines = self._sources.fresh(who.identity)
            if is_federated(asked, who):
                lines += [answer.line for answer in await self._sources.not_supported()]
            one = replace(one, within=Within.one_person(who.identity, decision), lines=lines)
        found = [it for query in queries for it in await self._all_of(one, query, patient_id)]
        if len(found) > MOST_CANDIDATES:
            raise TooCostly("More than 10,000 resources match. Narrow the question, e.g. by _type.")
        base = asked.request.base_url
        return await self._first(
            one, ordered(found, first.sort_keys, lambda it: sortable(it, base)), len(found)
        )

    def _may_search(self, asked: Asked, query: SearchQuery) -> bool:
        return scopes.permits(asked.caller.scopes, query.resource_type, "s")

    async def _all_of(self, one: Answering, query: SearchQuery, patient_id: str | None) -> list[Permitted]:
        if query.patient_scope is None or query.patient_scope != patient_id:
            one = replace(one, within=EVERYBODY)
        criteria = await self._criteria(one, query)
        return await self._finding.all(one.asked, query.resource_type, criteria, one.within)

    # Of everybody.

    async def _of_everybody(self, asked: Asked, query: SearchQuery) -> Release:
        """Each candidate is decided under its own person's directives.

        The total is counted where it is asked for, up to so many candidates; otherwise it is known when everything is
        on the first page.
        """
        one = Answering(asked, query, query.count, EVERYBODY)
        counting = query.count == 0 or query.total in ("estimate", "accurate")
        if counting or not query.is_sorted_by_index:
            return await self._counted(one, query)
        question = await self._question(one, query, limit=max(_CANDIDATES, query.count + 1))
        page = await self._finding.page(one.asked, question)
        if page.more:
            pointers = await self._finding.point(question)
            return await self._answers.first(
                one, ResultSet(pointers.found, None, beyond=pointers.beyond), None
            )
        found = await self._finding.permitted(asked, page.rows, EVERYBODY)
        return await self._first(one, found, len(found) if len(found) <= query.count else None)

    async def _counted(self, one: Answering, query: SearchQuery) -> Release:
        criteria = await self._criteria(one, query)
        found = await self._finding.all(one.asked, query.resource_type, criteria, EVERYBODY, query.sort_keys)
        return await self._first(one, found, len(found))

    async def _first(self, one: Answering, found: Sequence[Permitted], total: int | None) -> Release:
        return await self._answers.first(one, ResultSet(tuple(map(kept_of, found)), total), found)


def _body(one: Chosen) -> Mapping[str, Any]:
    text = one.record.content if isinstance(one, Permitted) else one.content
    # Times and codes are looked at, and no numbers: the quicker reading will do.
    found: Mapping[str, Any] = json.loads(text)
    return found


def _one_patient(queries: Sequence[SearchQuery]) -> str | None:
    """Whom all those queries are about that are about one patient; None where they are about several."""
    named = {query.patient_scope for query in queries} - {None}
    return named.pop() if len(named) == 1 else None


def _are_patients(found: Sequence[Permitted]) -> bool:
    return all(one.record.resource_type == "Patient" for one in found)


def is_federated(asked: Asked, who: Who) -> bool:
    """Whether other sources are asked, too: not again for what another node passed on."""
    return asked.caller.via is None and who.has_sources and who.identity.nhs_number is not None


def _for_all_of(criterion: Criterion, query: SearchQuery, identity: PatientIdentity | None) -> Criterion:
    """A criterion that names the patient names every local Patient of that person."""
    if identity and isinstance(criterion, ReferenceCriterion) and criterion in query.scope_criteria:
        return criterion.widened([one.id for one in identity.local])
    return criterion
