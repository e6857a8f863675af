"""What this node's own store holds of an answer: asked within somebody's records, decided, never more than released."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.asked import Asked
from app.consent.decision import TRUE, Decision
from app.consent.predicate import CustodianIn, all_of
from app.disclosure.gate import NEVER_BY_WILDCARD, Gate, Reading
from app.disclosure.matches import Match
from app.disclosure.recording import disclosed
from app.errors import Conflict, NotAuthenticated, TooCostly
from app.fhir.query import Criterion
from app.fhir.sorting import Sortable, SortKey, ordered
from app.fhir.text import parse
from app.records import reading, searching
from app.records.reading import Pointer, Record, Whose
from app.records.searching import After, Page, Question, Row, Sort
from app.vocabulary import NO_PATIENT, PatientIdentity, PatientKey

MOST_CANDIDATES = 10_000
"""Resources that one answer may be looked for among, withheld ones included."""


@dataclass(frozen=True, slots=True)
class Within:
    """Whose records a question is asked of: one person's, under one decision; some Patients'; or everybody's."""

    identity: PatientIdentity | None = None
    decision: Decision | None = None
    patients: tuple[PatientKey, ...] | None = None

    def holds(self, key: PatientKey) -> bool:
        """Whether a record with this key is among them; what is nobody's always is."""
        return self.patients is None or key == NO_PATIENT or key in self.patients

    @classmethod
    def one_person(cls, identity: PatientIdentity, decision: Decision) -> Within:
        return cls(identity, decision, tuple(one.key for one in identity.local))


EVERYBODY = Within()


@dataclass(frozen=True, slots=True)
class Permitted:
    """A record that may be released, whose it is, and by which decision."""

    record: Record
    owner: Whose | PatientIdentity | None
    decision: Decision


class Finding:
    """Asks the store, and lets through what the gate releases."""

    def __init__(self, at: Reading, gate: Gate) -> None:
        self._at = at
        self._gate = gate

    async def page(self, asked: Asked, question: Question) -> Page:
        """Candidates with their content: not decided yet where each has a decision of its own.

        Raises NotAuthenticated when the client is registered no more.
        """
        page = await searching.search(self._at.database, question)
        if question.each_asked_by is not None and page.client_active is None:
            await self._gate.known(asked)
        if page.client_active is False:
            raise NotAuthenticated
        return page

    async def point(self, question: Question) -> searching.Pointers:
        """All candidates of one snapshot, as pointers."""
        return await searching.point(self._at.database, replace(question, count=False, limit=MOST_CANDIDATES))

    async def permitted(self, asked: Asked, rows: Iterable[Row], within: Within) -> list[Permitted]:
        """Those of ``rows`` that may be released, each once, in their order.

        Within one person's records nothing is decided that is somebody else's: a Patient may have been found to be
        another person since an answer was frozen.
        """
        every = {(row.record.resource_type, row.record.id): row for row in rows}
        found = []
        for row in every.values():
            if not within.holds(row.record.patient_key):
                continue
            owner = within.identity if within.identity and row.record.patient_key != NO_PATIENT else row.owner
            decision = within.decision or await self._gate.decide_quietly(asked, owner)
            if decision is not None and await self._gate.releases(asked, row.record, owner, decision):
                found.append(Permitted(row.record, owner, decision))
        return found

    async def owned(self, records: Sequence[Record], within: Within) -> list[Row]:
        """Records that were read by themselves, with whose they are as of now."""
        keys = {one.patient_key for one in records} - {NO_PATIENT}
        known = await reading.whose(self._at.database, sorted(keys)) if keys and not within.identity else {}
        return [Row(one, one.last_updated, known.get(one.patient_key)) for one in records]

    async def all(
        self,
        asked: Asked,
        resource_type: str | None,
        criteria: Sequence[Criterion],
        within: Within,
        sort: Sequence[SortKey] = (),
        *,
        bare: bool = False,
    ) -> list[Permitted]:
        """Everything that matches and may be released, in order. Raises TooCostly beyond MOST_CANDIDATES.

        ``bare``: without content, which ``contents`` reads later.
        """
        question = question_of(asked, resource_type, criteria, within, limit=MOST_CANDIDATES)
        page = await self.page(asked, replace(question, bare=bare))
        if page.more:
            raise TooCostly("More than 10,000 resources match. Narrow the question, e.g. by date.")
        found = await self.permitted(asked, page.rows, within)
        base = asked.request.base_url
        return ordered(found, sort, lambda one: sortable(one, base)) if sort else found

    async def pointed(
        self, asked: Asked, pointers: Sequence[Pointer], within: Within
    ) -> dict[Pointer, Permitted]:
        """Of an earlier answer what may still be released: as it was then, unless it was deleted since.

        Both versions must be releasable, as for a vread: the one that is shown and the one that is current.
        """
        versions = await reading.pointed(self._at.database, pointers)
        current = [one[0] for one in versions if one and not one[0].deleted]
        still = {
            (one.record.resource_type, one.record.id): one
            for one in await self.permitted(asked, await self.owned(current, within), within)
        }
        found: dict[Pointer, Permitted] = {}
        for pointer, records in zip(pointers, versions, strict=True):
            one = still.get((pointer.resource_type, pointer.id))
            if one is not None and records:
                shown = records[-1]
                if await self._gate.releases(asked, shown, one.owner, one.decision):
                    found[pointer] = Permitted(shown, one.owner, one.decision)
        return found

    async def single(
        self, asked: Asked, resource_type: str, id: str, version: str | None = None
    ) -> Permitted | None:
        """One record as a read would release it, for whoever has a scope for it at all.

        ``version``: as it was then, as a vread would.
        """
        found = await self._at.reader.read(resource_type, id, asked.caller.client_id)
        if found is None or found.record.deleted:
            return None
        record = found.record
        if not self._gate.scoped(asked, resource_type, record.custodian):
            return None
        decision = await self._gate.decide_quietly(asked, found.whose)
        if decision is None or not await self._gate.releases(asked, record, found.whose, decision):
            return None
        if version is not None and version != str(record.version):
            older = await reading.versions(self._at.database, record)
            before = next((one for one in older if str(one.version) == version and not one.deleted), None)
            if before is None or not await self._gate.releases(asked, before, found.whose, decision):
                return None
            record = before
        return Permitted(record, found.whose, decision)

    async def contents(self, permitted: Sequence[Permitted]) -> list[Permitted]:
        """The same versions with their content, which never changes. Raises Conflict where one cannot be read."""
        found = await reading.pointed(self._at.database, [one.record.pointer for one in permitted])
        if not all(found):
            raise Conflict
        return [replace(one, record=versions[-1]) for one, versions in zip(permitted, found, strict=True)]

    async def match(self, asked: Asked, one: Permitted, *, mode: str = "match") -> Match:
        text = await self._gate.as_released(asked, one.record, one.owner, one.decision)
        return replace(named(asked, one, mode), content=text)


def named(asked: Asked, one: Permitted, mode: str = "match") -> Match:
    """Without its content: as it is recorded."""
    record = one.record
    return Match(
        record.resource_type,
        record.id,
        f"{asked.request.base_url}/{record.resource_type}/{record.id}",
        "",
        disclosed(record),
        one.owner,
        one.decision,
        record.all_patients,
        mode,
    )


def question_of(
    asked: Asked,
    resource_type: str | None,
    criteria: Sequence[Criterion],
    within: Within,
    *,
    limit: int,
    sort: Sequence[SortKey] = (),
    after: After | None = None,
    count: bool = False,
) -> Question:
    """The store's part of a question, narrowed by the decision before it is asked. ``sort``: as an index can."""
    residual = within.decision.residual if within.decision else TRUE
    if resource_type in NEVER_BY_WILDCARD:
        residual = all_of(residual, CustodianIn(frozenset({asked.caller.organisation})))
    return Question(
        resource_type=resource_type,
        patients=within.patients,
        criteria=tuple(criteria),
        residual=residual,
        sort=_sort(sort) if resource_type else Sort("_id", descending=False),
        limit=limit,
        after=after,
        count=count,
        each_asked_by=None if within.decision else asked.caller.client_id,
    )


def _sort(keys: Sequence[SortKey]) -> Sort:
    return Sort(keys[0].parameter, keys[0].descending) if keys else Sort()


def sortable(one: Permitted, base_url: str) -> Sortable:
    record = one.record
    return Sortable(
        (record.resource_type, record.id, record.custodian),
        record.last_updated,
        lambda: body_of(record.content),
        base_url,
    )


def body_of(content: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = parse(content).value
    return found
