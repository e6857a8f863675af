"""THE READ: resolve, decide, gather, withhold, record, release.

Every public method either returns a Release, which carries the receipt of its durable audit entries, or raises after
the refusal has been recorded: every answered request to a patient's data leaves exactly one entry per patient
(ARCHITECTURE 3.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.asked import Asked, Release, accounted, entry_for, entry_of_nobody, refusal_in_words
from app.audit.entry import Disclosed, Entry, Interaction, Outcome, Receipt
from app.audit.log import AuditLog
from app.consent.decider import Decider, fingerprint
from app.consent.decision import OPEN, TRUE, Decision
from app.consent.predicate import CustodianIn, all_of
from app.db import Database
from app.errors import (
    CandourError,
    Gone,
    InsufficientScope,
    Issue,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    TooCostly,
)
from app.fhir import bundle, criteria, manifest
from app.fhir.compartments import in_patient_compartment
from app.fhir.history import HistoryWindow
from app.fhir.instants import instant
from app.fhir.links import with_links
from app.fhir.manifest import SourceLine, SourceState
from app.fhir.query import Criterion, Ignored, ReferenceCriterion, SearchQuery
from app.fhir.subset import Subset
from app.fhir.text import parse
from app.ports import AuditSink, Clock
from app.records import reading, searching
from app.records.cursor import CursorSeal
from app.records.federation import Answer, Federation
from app.records.merge import FrozenEntry, ResultSets, merged
from app.records.reading import Found, Reader, Record, Who, Whose
from app.records.remote import RemoteQuestion
from app.records.searching import After, Question, Sort
from app.smart import scopes
from app.vocabulary import Caller, OdsCode, PatientIdentity, Request

NEVER_BY_WILDCARD = frozenset({"Consent", "AuditEvent"})
"""Types that a caller sees only as the custodian who keeps them, whatever the scopes say."""

EVERYTHING_PAGE = 1_000
_CANDIDATES = 200
Part = tuple[Disclosed, Sequence[int]]
"""What was released, and the keys of the Patients it is about where they are several."""

_MOST_CANDIDATES = 10_000
_MOST_DEFINITIONS = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """Where answers come from, bound together once by the composition root."""

    database: Database
    reader: Reader
    decider: Decider
    audit: AuditSink
    log: AuditLog
    federation: Federation
    seal: CursorSeal
    result_sets: ResultSets
    clock: Clock
    nhs_number_system: str
    custodians: Sequence[OdsCode]


class Disclosure:
    """The use cases that let records leave."""

    def __init__(self, reading: Reading) -> None:
        self._at = reading

    # One record.

    @accounted
    async def read(
        self,
        asked: Asked,
        resource_type: str,
        id: str,
        *,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
    ) -> Release:
        """The current version, or NotFound, or Gone. What is withheld is NotFound like what never was."""
        found, decision = await self._visible(asked, resource_type, id)
        record = found.record
        if record.deleted:
            raise Gone
        not_modified = _not_modified(record, if_none_match, if_modified_since)
        receipts = await self._account(asked, "0", _SERVED, [_part(record)], decision)
        text = "" if not_modified else await self._as_released(asked, record, decision)
        return Release(text, receipts, 304 if not_modified else 200, record.etag, record.last_updated)

    async def seen(self, asked: Asked, resource_type: str, id: str) -> int:
        """The version that the caller may read now, for a write that depends on it: nothing is released or recorded.

        Raises NotFound, Gone or InsufficientScope, as a read would.
        """
        found, _ = await self._visible(asked, resource_type, id)
        if found.record.deleted:
            raise Gone
        return found.record.version

    @accounted
    async def vread(self, asked: Asked, resource_type: str, id: str, version: str) -> Release:
        """One version. It must be releasable itself, and so must the current one: the stricter of both counts."""
        found, decision = await self._visible(asked, resource_type, id)
        record = await self._version(found.record, version)
        if not await self._releases(asked, record, found.whose, decision):
            raise NotFound
        if record.deleted:
            raise Gone
        receipts = await self._account(asked, "0", _SERVED, [_part(record)], decision)
        return Release(record.content, receipts, 200, record.etag, record.last_updated)

    @accounted
    async def history(
        self, asked: Asked, resource_type: str, id: str, window: HistoryWindow, *, count: int | None = None
    ) -> Release:
        """The versions of ``window`` that may be released, newest first."""
        return await self._history_page(asked, resource_type, id, window, count=count)

    async def _history_page(
        self,
        asked: Asked,
        resource_type: str,
        id: str,
        window: HistoryWindow,
        *,
        count: int | None,
        before: int | None = None,
    ) -> Release:
        """``before`` is the last version of the page before: versions never change, so no page skips or repeats one."""
        found, decision = await self._visible(asked, resource_type, id)
        every = [found.record, *await reading.versions(self._at.database, found.record)]
        told = [
            one
            for one, until in zip(every, [None, *(one.last_updated for one in every)], strict=False)
            if window.holds(one.last_updated, until)
            and await self._releases(asked, one, found.whose, decision)
        ]
        left = [one for one in told if before is None or one.version < before]
        shown = left[:count]
        links = [("self", f"{asked.request.base_url}/{resource_type}/{id}/_history{window.query(count)}")]
        if shown and len(left) > len(shown):
            position = {"kind": "history", "type": resource_type, "id": id, "count": count}
            position |= {"before": shown[-1].version, **window.saved()}
            sealed = self._at.seal.seal(position, bound_to=_binding(asked.caller))
            links.append(("next", f"{asked.request.base_url}/_page?_cursor={sealed}"))
        receipts = await self._account(asked, "0", _SERVED, [_part(one) for one in shown], decision)
        entries = [_history_entry(asked.request.base_url, one) for one in shown]
        return Release(bundle.history(entries, links=links, total=len(told)), receipts)

    # Many records.

    @accounted
    async def search(self, asked: Asked, query: SearchQuery) -> Release:
        """A page of what matches; bound to one patient it is asked of every source that may hold something."""
        self._may(asked, query.resource_type, "s")
        if query.patient_scope is not None:
            return await self._search_patient(asked, query, query.patient_scope)
        return await self._search_everybody(asked, query, None)

    @accounted
    async def everything(self, asked: Asked, patient_id: str, *, count: int | None) -> Release:
        """Patient/$everything: the whole compartment from every source (R4 patient-operation-everything)."""
        self._may(asked, "Patient", "s")
        who = await self._who(asked, patient_id)
        if who is None:
            raise NotFound
        decision = await self._decide(asked, who.identity)
        if not decision.permitted:
            raise NotFound
        return await self._gather(asked, who, decision, None, min(count or EVERYTHING_PAGE, EVERYTHING_PAGE))

    @accounted
    async def next_page(self, asked: Asked, sealed: str) -> Release:
        """A page after the first. The link must be this caller's; the decision is made again."""
        position = self._at.seal.open(sealed, bound_to=_binding(asked.caller))
        if position["kind"] == "frozen":
            return await self._frozen_page(asked, position)
        if position["kind"] == "history":
            asked.interaction = Interaction.HISTORY
            window, before = HistoryWindow.restore(position), position["before"]
            return await self._history_page(
                asked, position["type"], position["id"], window, count=position["count"], before=before
            )
        query = SearchQuery.restore(position["query"])
        self._may(asked, query.resource_type, "s")
        after = _restored(position)
        if query.patient_scope is None:
            return await self._search_everybody(asked, query, after, position["total"])
        who = await self._who(asked, query.patient_scope)
        if who is None:
            raise NotFound
        decision = await self._decide(asked, who.identity)
        return await self._local_page(asked, who, decision, query, after, position["total"])

    @accounted
    async def audit_events(self, asked: Asked, patient_id: str, *, count: int, before: int | None) -> Release:
        """Who looked at a person's record: for a custodian who keeps one of it, under a scope that names AuditEvent."""
        self._may(asked, "AuditEvent", "s")
        who = await self._who(asked, patient_id)
        keepers = {one.custodian for one in who.identity.local} if who else set()
        if who is None or asked.caller.organisation not in keepers:
            raise NotPermitted("Only a custodian of the patient's record reads its audit trail.")
        # The reading is itself an access: recorded first, so that it stands in the trail it returns.
        receipts = await self._account(asked, "0", "The audit trail was read.", [], None)
        keys = [one.key for one in who.identity.local]
        found = await self._at.log.events(keys, limit=count + 1, before=before)
        return Release(self._audit_bundle(asked, patient_id, found, count), receipts)

    @accounted
    async def of_nobody(self, asked: Asked, resource_type: str, text: str, *, letters: str = "s") -> Release:
        """An answer made of definitions alone, which holds nothing of anybody: recorded all the same.

        By whoever has a scope for the type with one of ``letters``.
        """
        if not any(scopes.permits(asked.caller.scopes, resource_type, letter) for letter in letters):
            raise InsufficientScope(scopes.suffices(resource_type, letters[-1]))
        if not await reading.client_is_active(self._at.database, asked.caller.client_id):
            raise NotAuthenticated
        receipts = await self._at.audit.record([entry_for(asked, "0", _SERVED)])
        asked.recorded = True
        return Release(text, receipts)

    async def definitions(self, resource_type: str, urls: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Definitions kept here by their canonical URL, for the service's own use; of several, the latest written.

        ``resource_type`` is one of nobody's records (StructureDefinition, ValueSet …).
        """
        if in_patient_compartment(resource_type):
            raise NotFound
        if not urls:
            return {}
        question = Question(
            resource_type, None, (criteria.uri("url", urls),), TRUE, Sort(descending=False), _MOST_DEFINITIONS
        )
        page = await searching.search(self._at.database, question)
        found = (parse(row.record.content).value for row in page.rows)
        return {one["url"]: one for one in found if one.get("url") in urls}

    # Recording, for this module and for those that answer before a use case is reached.

    async def refuse(self, asked: Asked, error: CandourError, *, outcome: Outcome = "4") -> None:
        """Records that the request was refused, and why, before the refusal leaves."""
        await self._account(asked, outcome, refusal_in_words(error), [], None)

    async def turn_away(self, request: Request, interaction: Interaction, error: CandourError) -> None:
        """Records that somebody asked who showed no valid token."""
        await self._at.audit.record([entry_of_nobody(request, interaction, refusal_in_words(error))])

    async def _account(
        self,
        asked: Asked,
        outcome: Outcome,
        description: str,
        parts: Sequence[Part],
        decision: Decision | None,
        lines: Sequence[SourceLine] = (),
    ) -> Sequence[Receipt]:
        entry = entry_for(
            asked,
            outcome,
            description,
            resources=[one for one, _ in parts],
            decision=decision,
            lines=lines,
            whose=asked.whose,
        )
        told = {asked.whose.person} if asked.whose else set()
        receipts = await self._at.audit.record([entry, *await self._entries_of_others(asked, parts, told)])
        asked.recorded = True
        return receipts

    async def _entries_of_others(
        self, asked: Asked, parts: Sequence[Part], told: Collection[int]
    ) -> list[Entry]:
        """An entry for everybody else whom something released is about; ``told`` are persons who have theirs."""
        shared = [(one, keys) for one, keys in parts if keys]
        if not shared:
            return []
        people = await reading.whose(self._at.database, [key for _, keys in shared for key in keys])
        theirs: dict[int, tuple[Whose, dict[str, Disclosed]]] = {}
        for one, keys in shared:
            for key in keys:
                if key in people and people[key].person not in told:
                    theirs.setdefault(people[key].person, (people[key], {}))[1][one.reference] = one
        return [
            entry_for(
                asked,
                "0",
                _SERVED,
                resources=tuple(resources.values()),
                decision=await self._decide_quietly(asked, whose),
                whose=whose,
            )
            for whose, resources in theirs.values()
        ]

    # Steps.

    def _may(self, asked: Asked, resource_type: str, letter: str) -> None:
        if not scopes.permits(asked.caller.scopes, resource_type, letter):
            raise InsufficientScope(scopes.suffices(resource_type, letter))

    async def _visible(self, asked: Asked, resource_type: str, id: str) -> tuple[Found, Decision]:
        """The record and the decision that releases its current version. Raises NotFound otherwise."""
        self._may(asked, resource_type, "r")
        found = await self._at.reader.read(resource_type, id, asked.caller.client_id)
        if found is None:
            if not await reading.client_is_active(self._at.database, asked.caller.client_id):
                raise NotAuthenticated
            raise NotFound
        if not found.client_active:
            raise NotAuthenticated
        asked.whose = found.whose
        decision = await self._decide(asked, found.whose)
        if not await self._releases(asked, found.record, found.whose, decision):
            raise NotFound
        return found, decision

    async def _decide(self, asked: Asked, whose: Whose | PatientIdentity | None) -> Decision:
        if whose is None:
            return OPEN
        if asked.caller.purpose.is_emergency:
            self._for_one_person(asked.caller, whose.nhs_number.digits if whose.nhs_number else None)
        return await self._at.decider.decide(whose, asked.caller, self._at.clock.now())

    def _for_one_person(self, caller: Caller, digits: str | None) -> None:
        """Emergency access is for the one person it was asked for (consent notes, B6)."""
        wanted = f"{self._at.nhs_number_system}|{digits}"
        if caller.emergency is None or digits is None or caller.emergency.patient_identifier != wanted:
            raise NotFound

    async def _releases(
        self, asked: Asked, record: Record, whose: Whose | PatientIdentity | None, decision: Decision
    ) -> bool:
        """The same decision in memory; a record about several people must be releasable for each of them."""
        return self._releases_here(asked, record, whose, decision) and (
            not record.also_patients or whose is None or await self._others_release(asked, record)
        )

    def _releases_here(
        self, asked: Asked, record: Record, whose: Whose | PatientIdentity | None, decision: Decision
    ) -> bool:
        """As far as the one person's decision goes whose record it was found in."""
        if record.resource_type in NEVER_BY_WILDCARD and record.custodian != asked.caller.organisation:
            return False
        if whose is not None:
            return decision.releases(record.facets)
        if not in_patient_compartment(record.resource_type):
            return True
        return record.custodian == asked.caller.organisation or not record.also_patients

    async def _released(
        self, asked: Asked, records: Sequence[Record], whose: PatientIdentity, decision: Decision
    ) -> list[Record]:
        """Those of one person's ``records`` that may be released."""
        return [
            one
            for one in records
            if self._releases_here(asked, one, whose, decision)
            and (not one.also_patients or await self._others_release(asked, one))
        ]

    async def _others_release(self, asked: Asked, record: Record) -> bool:
        # A search reads what the first person's decision looks at; another's may look at more.
        found = await self._at.reader.read(record.resource_type, record.id, asked.caller.client_id)
        if found is None:
            return False
        current = found.record
        told = [current] if record.version == current.version else [current, record]
        # Whom the record in hand names besides, not the current one: read in another's compartment that is the
        # person whom it is about, and an old version may name people whom the current one does not.
        return await self._each_releases(asked, record.also_patients, told)

    async def _each_releases(self, asked: Asked, patients: Sequence[int], told: Sequence[Record]) -> bool:
        people = await reading.whose(self._at.database, patients)
        for key in patients:
            decision = await self._decide_quietly(asked, people[key]) if key in people else None
            if decision is None or not all(decision.releases(one.facets) for one in told):
                return False
        return True

    async def _version(self, current: Record, version: str) -> Record:
        if str(current.version) == version:
            return current
        for one in await reading.versions(self._at.database, current):
            if str(one.version) == version:
                return one
        raise NotFound

    async def _who(self, asked: Asked, patient_id: str) -> Who | None:
        who = await self._at.reader.who(patient_id, asked.caller.client_id)
        if who is None:
            if not await reading.client_is_active(self._at.database, asked.caller.client_id):
                raise NotAuthenticated
            return None
        if not who.client_active:
            raise NotAuthenticated
        asked.whose = who.identity
        return who

    async def _search_patient(self, asked: Asked, query: SearchQuery, patient_id: str) -> Release:
        who = await self._who(asked, patient_id)
        if who is None and asked.caller.purpose.is_emergency:
            raise NotFound  # as for a patient whom the emergency is not about
        decision = await self._decide(asked, who.identity) if who else None
        if who is None or decision is None or not decision.permitted:
            return await self._nothing(asked, query, decision)
        return await self._gather(asked, who, decision, query, query.count)

    async def _nothing(self, asked: Asked, query: SearchQuery, decision: Decision | None) -> Release:
        """The same answer for a patient who is unknown and for one whose record is closed to this caller."""
        refused = decision is not None
        lines = await self._no_record_lines(asked)
        outcome = manifest.outcome(lines, _ignored(query.ignored))
        links = [("self", query.self_link(asked.request.base_url))]
        text = bundle.searchset([], links=links, total=_told(query, 0), outcome=outcome)
        description = (
            "Refused by consent; answered as for an unknown patient." if refused else "No such patient."
        )
        receipts = await self._account(asked, "4" if refused else "0", description, [], decision)
        return Release(text, receipts)

    async def _no_record_lines(self, asked: Asked) -> list[SourceLine]:
        expected = [(code, "") for code in self._at.custodians]
        if asked.caller.via is None:
            expected += [(one.ods_code, one.name) for one in await self._at.federation.sources()]
        now = self._at.clock.now()
        return [SourceLine(code, name, SourceState.no_record, now) for code, name in sorted(set(expected))]

    async def _gather(
        self, asked: Asked, who: Who, decision: Decision, query: SearchQuery | None, count: int
    ) -> Release:
        if asked.caller.via is not None or not who.has_sources or who.identity.nhs_number is None:
            if query is not None:
                return await self._local_page(asked, who, decision, query, None, None)
            return await self._federated(asked, who, decision, None, count, ask=False)
        return await self._federated(asked, who, decision, query, count, ask=True)

    async def _local_page(
        self,
        asked: Asked,
        who: Who,
        decision: Decision,
        query: SearchQuery,
        after: After | None,
        total: int | None,
    ) -> Release:
        """A page of this node's own records, straight from the index."""
        if not decision.permitted:
            return await self._nothing(asked, query, decision)
        question = _question(asked, query, who.identity, decision, after)
        page = await searching.search(self._at.database, question)
        if page.shared:
            # SQL knows one person's decision: only here can the others' be counted too.
            return await self._federated(asked, who, decision, query, query.count, ask=False)
        # The in-memory check must agree with the residual; where it does not, withhold.
        records = await self._released(asked, [row.record for row in page.rows], who.identity, decision)
        total = page.total if total is None else total
        links = [("self", query.self_link(asked.request.base_url))]
        if page.more and page.rows:
            last = page.rows[-1]
            links.append(("next", self._next(asked, query, After(last.key, last.record.id), total)))
        lines = self._fresh_lines(who.identity)
        entries = await self._found_entries(asked, records, decision, query.subset)
        outcome = manifest.outcome(lines, _ignored(query.ignored))
        text = bundle.searchset(entries, links=links, total=_told(query, total), outcome=outcome)
        receipts = await self._account(asked, "0", _SERVED, [_part(one) for one in records], decision, lines)
        return Release(text, receipts)

    async def _federated(
        self, asked: Asked, who: Who, decision: Decision, query: SearchQuery | None, count: int, *, ask: bool
    ) -> Release:
        """Every source at once, this node's store among them; frozen when it is more than a page."""
        asking = asyncio.create_task(self._ask(asked, who, query)) if ask else None
        try:
            own = await self._everything_here(asked, who, decision, query)
        except BaseException:
            if asking is not None:
                asking.cancel()
            raise
        answers = await asking if asking is not None else ()
        lines = [*self._fresh_lines(who.identity), *(answer.line for answer in answers)]
        frozen = merged(own, answers, decision, _sort(query) if query else None)
        return await self._release_frozen(asked, who.identity, decision, frozen, lines, query, count)

    async def _ask(self, asked: Asked, who: Who, query: SearchQuery | None) -> tuple[Answer, ...]:
        question = RemoteQuestion(
            resource_type=query.resource_type if query else None,
            pairs=query.pairs_without_patient if query else (),
            identity=who.identity,
            birth_date=who.birth_date,
            patient_parameter=_patient_parameter(query),
            nhs_number_system=self._at.nhs_number_system,
            caller=asked.caller,
            trace_id=asked.request.trace_id,
            request_id=asked.request.request_id,
        )
        return await self._at.federation.ask(question)

    async def _everything_here(
        self, asked: Asked, who: Who, decision: Decision, query: SearchQuery | None
    ) -> list[FrozenEntry]:
        """All of this node's own matches: what one person has, never what the database holds."""
        question = _question(asked, query, who.identity, decision, None, limit=_MOST_CANDIDATES)
        page = await searching.search(self._at.database, question)
        if page.more:
            raise TooCostly("More than 10,000 resources match. Narrow the question, e.g. by date.")
        base = asked.request.base_url
        # A record about two local Patients of one person is found twice.
        once = {(row.record.resource_type, row.record.id): row for row in page.rows}
        return [
            FrozenEntry.of_record(
                base, row.record, row.key, content=await self._as_released(asked, row.record, decision)
            )
            for row in once.values()
            if self._scoped(asked, row.record)
            and in_patient_compartment(row.record.resource_type)
            and await self._releases(asked, row.record, who.identity, decision)
        ]

    def _scoped(self, asked: Asked, one: Record | FrozenEntry) -> bool:
        resource_type = one.resource_type
        if resource_type in NEVER_BY_WILDCARD and one.custodian != asked.caller.organisation:
            return False
        return scopes.permits(asked.caller.scopes, resource_type, "r") or scopes.permits(
            asked.caller.scopes, resource_type, "s"
        )

    async def _release_frozen(
        self,
        asked: Asked,
        identity: PatientIdentity,
        decision: Decision,
        frozen: Sequence[FrozenEntry],
        lines: Sequence[SourceLine],
        query: SearchQuery | None,
        count: int,
    ) -> Release:
        shown = [one for one in frozen if self._scoped(asked, one)]
        base = asked.request.base_url
        link = query.self_link(base) if query else base + asked.request.target.removeprefix("/fhir")
        links = [("self", link)]
        outcome = manifest.outcome(lines, _ignored(query.ignored if query else ()))
        total = _told(query, len(shown)) if manifest.is_complete(lines) else None
        subset = query.subset if query else None
        if 0 < count < len(shown):
            position = await self._at.result_sets.freeze(identity.person, shown, outcome, total)
            position |= {
                "kind": "frozen",
                "patient": identity.asked.id,
                "at": count,
                "count": count,
                "self": link,
                "subset": [subset.summary, *subset.elements] if subset else None,
            }
            sealed = self._at.seal.seal(position, bound_to=_binding(asked.caller))
            links.append(("next", f"{base}/_page?_cursor={sealed}"))
        entries = [bundle.Entry(one.full_url, _part_of(one.content, subset)) for one in shown[:count]]
        text = bundle.searchset(entries, links=links, total=total, outcome=outcome)
        parts = [(one.disclosed, one.patients) for one in shown[:count]]
        receipts = await self._account(asked, "0", _SERVED, parts, decision, lines)
        return Release(text, receipts)

    async def _frozen_page(self, asked: Asked, position: dict[str, Any]) -> Release:
        """A later page of a frozen answer: read back, decided again."""
        who = await self._who(asked, position["patient"])
        decision = await self._decide(asked, who.identity) if who else None
        if who is None or decision is None or not decision.permitted:
            raise NotFound
        every, outcome, total = await self._at.result_sets.thaw(position)
        start, count, base = position["at"], position["count"], asked.request.base_url
        page = [
            one
            for one in every[start : start + count]
            if self._scoped(asked, one)
            and decision.releases(one.facets(base))
            and await self._others_still_release(asked, one)
        ]
        links = [("self", position["self"])]
        if len(every) > start + count:
            sealed = self._at.seal.seal({**position, "at": start + count}, bound_to=_binding(asked.caller))
            links.append(("next", f"{base}/_page?_cursor={sealed}"))
        asked_part = position["subset"]
        subset = Subset(asked_part[0], tuple(asked_part[1:])) if asked_part else None
        entries = [bundle.Entry(one.full_url, _part_of(one.content, subset)) for one in page]
        text = bundle.searchset(entries, links=links, total=total, outcome=outcome)
        parts = [(one.disclosed, one.patients) for one in page]
        receipts = await self._account(asked, "0", _SERVED, parts, decision)
        return Release(text, receipts)

    async def _others_still_release(self, asked: Asked, one: FrozenEntry) -> bool:
        """Everybody whom a record of this node's own is about, should they have changed their minds."""
        if not one.patients:
            return True
        found = await self._at.reader.read(one.resource_type, one.id, asked.caller.client_id)
        return found is not None and await self._each_releases(asked, one.patients, [found.record])

    async def _search_everybody(
        self, asked: Asked, query: SearchQuery, after: After | None, total: int | None = None
    ) -> Release:
        """A search bound to no patient: each candidate is decided under its own person's directives, page by page.

        ``total`` is what an earlier page has counted. It is counted where it is asked for, up to so many candidates;
        otherwise it is known when everything is on the first page.
        """
        if not await reading.client_is_active(self._at.database, asked.caller.client_id):
            raise NotAuthenticated
        counting = after is None and (query.count == 0 or query.total in ("estimate", "accurate"))
        first = after is None
        chosen: list[tuple[Record, Whose | None, Decision, Any]] = []
        more, scanned, matches = True, 0, 0
        while more and (counting or len(chosen) <= query.count):
            question = _question(asked, query, None, None, after, limit=max(_CANDIDATES, query.count + 1))
            page = await searching.search(self._at.database, question)
            owners = await reading.whose(self._at.database, [row.record.patient_key for row in page.rows])
            for row in page.rows:
                owner = owners.get(row.record.patient_key)
                decision = await self._decide_quietly(asked, owner)
                if decision is not None and await self._releases(asked, row.record, owner, decision):
                    matches += 1
                    if len(chosen) <= query.count:
                        chosen.append((row.record, owner, decision, row.key))
            more, scanned = page.more, scanned + len(page.rows)
            if page.rows:
                after = After(page.rows[-1].key, page.rows[-1].record.id)
            if scanned > _MOST_CANDIDATES:
                raise TooCostly
        if counting or (first and len(chosen) <= query.count):
            total = matches
        return await self._release_everybody(asked, query, chosen, total)

    async def _decide_quietly(self, asked: Asked, owner: Whose | None) -> Decision | None:
        try:
            return await self._decide(asked, owner)
        except NotFound:
            return None

    async def _release_everybody(
        self, asked: Asked, query: SearchQuery, chosen: Sequence[Any], total: int | None
    ) -> Release:
        shown = chosen[: query.count]
        links = [("self", query.self_link(asked.request.base_url))]
        if len(chosen) > query.count:
            record, _, _, key = shown[-1] if shown else chosen[0]
            if shown:
                links.append(("next", self._next(asked, query, After(key, record.id), total)))
        entries = [
            entry
            for record, _, decision, _ in shown
            for entry in await self._found_entries(asked, [record], decision, query.subset)
        ]
        issues = _ignored(query.ignored)
        outcome = manifest.outcome((), issues) if issues else None
        text = bundle.searchset(entries, links=links, total=_told(query, total), outcome=outcome)
        receipts = await self._account_each(asked, shown)
        return Release(text, receipts)

    async def _account_each(self, asked: Asked, shown: Sequence[Any]) -> Sequence[Receipt]:
        """One entry per patient of a multi-patient answer; one without a patient when there is none."""
        per_person: dict[int | None, tuple[Whose | None, Decision | None, list[Disclosed]]] = {}
        for record, owner, decision, _ in shown:
            person = owner.person if owner else None
            per_person.setdefault(person, (owner, decision, []))[2].append(_disclosed(record))
        entries = [
            entry_for(asked, "0", _SERVED, resources=resources, decision=decision, whose=owner)
            for owner, decision, resources in per_person.values()
        ] or [entry_for(asked, "0", _SERVED)]
        told = {person for person in per_person if person is not None}
        entries += await self._entries_of_others(asked, [_part(record) for record, *_ in shown], told)
        receipts = await self._at.audit.record(entries)
        asked.recorded = True
        return receipts

    def _fresh_lines(self, identity: PatientIdentity) -> list[SourceLine]:
        now = self._at.clock.now()
        return [
            SourceLine(code, "", SourceState.fresh, now)
            for code in sorted({one.custodian for one in identity.local})
        ]

    def _next(self, asked: Asked, query: SearchQuery, after: After, total: int | None) -> str:
        key = after.key if isinstance(after.key, str) else after.key.isoformat()
        position = {"kind": "local", "query": query.saved(), "key": key, "id": after.id, "total": total}
        sealed = self._at.seal.seal(position, bound_to=_binding(asked.caller))
        return f"{asked.request.base_url}/_page?_cursor={sealed}"

    async def _found_entries(
        self, asked: Asked, records: Sequence[Record], decision: Decision, subset: Subset | None
    ) -> list[bundle.Entry]:
        base = asked.request.base_url
        whole = [
            one.content if one.resource_type != "Patient" else await self._as_released(asked, one, decision)
            for one in records
        ]
        return [
            bundle.Entry(f"{base}/{one.resource_type}/{one.id}", _part_of(text, subset))
            for one, text in zip(records, whole, strict=True)
        ]

    async def _as_released(self, asked: Asked, record: Record, decision: Decision) -> str:
        """The custodian's text; a Patient's also names the person's other local Patients (docs/adr)."""
        if record.resource_type != "Patient" or record.patient_key == 0:
            return record.content
        who = await self._at.reader.who(record.id, asked.caller.client_id)
        if who is None or len(who.identity.local) == 1:
            return record.content
        others = [one for one in who.identity.local if one.id != record.id]
        visible = [one.id for one in others if await self._patient_visible(asked, one.id, decision)]
        return with_links(record.content, visible)

    async def _patient_visible(self, asked: Asked, patient_id: str, decision: Decision) -> bool:
        found = await self._at.reader.read("Patient", patient_id, asked.caller.client_id)
        return found is not None and not found.record.deleted and decision.releases(found.record.facets)

    def _audit_bundle(self, asked: Asked, patient_id: str, found: Sequence[Any], count: int) -> str:
        base = asked.request.base_url
        shown = found[:count]
        links = [("self", f"{base}/AuditEvent?patient=Patient/{patient_id}")]
        if len(found) > count:
            links.append(
                (
                    "next",
                    f"{base}/AuditEvent?patient=Patient/{patient_id}&_count={count}&_before={shown[-1].index}",
                )
            )
        entries = [bundle.Entry(f"{base}/AuditEvent/{one.entry_id}", one.body.decode()) for one in shown]
        return bundle.searchset(entries, links=links, total=None, outcome=None)


_SERVED = "Served."


def _question(
    asked: Asked,
    query: SearchQuery | None,
    identity: PatientIdentity | None,
    decision: Decision | None,
    after: After | None,
    *,
    limit: int | None = None,
) -> Question:
    """The local store's part of a question, narrowed by the decision before it is asked."""
    asked_for = query.criteria if query else ()
    residual = decision.residual if decision else TRUE
    if query and query.resource_type in NEVER_BY_WILDCARD:
        residual = all_of(residual, CustodianIn(frozenset({asked.caller.organisation})))
    return Question(
        resource_type=query.resource_type if query else None,
        patients=tuple(one.key for one in identity.local) if identity else None,
        criteria=tuple(_for_all_of(one, query, identity) for one in asked_for)
        if query and identity
        else asked_for,
        residual=residual,
        sort=_sort(query) if query else Sort("_id", descending=False),
        limit=limit or (query.count if query else EVERYTHING_PAGE),
        after=after,
        count=identity is not None and after is None,
    )


def _patient_parameter(query: SearchQuery | None) -> str | None:
    """The parameter that bound the question to a patient, e.g. ``performer``."""
    naming = query.scope_criteria if query else ()
    return next((one.param for one in naming if isinstance(one, ReferenceCriterion)), None)


def _for_all_of(criterion: Criterion, query: SearchQuery, identity: PatientIdentity) -> Criterion:
    """A criterion that names the patient names every local Patient of that person."""
    if isinstance(criterion, ReferenceCriterion) and criterion in query.scope_criteria:
        return criterion.widened(one.id for one in identity.local)
    return criterion


def _sort(query: SearchQuery) -> Sort:
    return Sort(query.sort.parameter, query.sort.descending) if query.sort else Sort()


def _restored(position: dict[str, Any]) -> After:
    return After(datetime.fromisoformat(position["key"]), position["id"])


def _binding(caller: Caller) -> str:
    """What a page link is bound to: another caller, organisation or purpose cannot use it."""
    return repr(fingerprint(caller))


def _not_modified(record: Record, if_none_match: str | None, since: datetime | None) -> bool:
    """RFC 9110, 13.2.2: the tag, where there is one, and else the date, which knows no fractions of a second."""
    if if_none_match is not None:
        return _matches(if_none_match, record.etag)
    return since is not None and record.last_updated.replace(microsecond=0) <= since


def _matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2)."""
    candidates = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return "*" in candidates or etag.removeprefix("W/") in candidates


def _told(query: SearchQuery | None, total: int | None) -> int | None:
    """``_total=none`` asks for no total."""
    return None if query is not None and query.total == "none" else total


def _part_of(text: str, subset: Subset | None) -> str:
    return text if subset is None else subset.of(text)


def _disclosed(record: Record) -> Disclosed:
    return Disclosed(record.reference, ())


def _part(record: Record) -> Part:
    return _disclosed(record), record.all_patients


def _ignored(ignored: Sequence[Ignored]) -> list[Issue]:
    return [Issue("warning", "not-supported", f"{one.name} was ignored: {one.reason}") for one in ignored]


def _history_entry(base: str, record: Record) -> bundle.Entry:
    url = f"{record.resource_type}/{record.id}"
    method = "DELETE" if record.deleted else ("POST" if record.version == 1 else "PUT")
    return bundle.Entry(
        full_url=f"{base}/{url}",
        content=None if record.deleted else record.content,
        method=method,
        url=record.resource_type if method == "POST" else url,
        status={"DELETE": "204", "POST": "201", "PUT": "200"}[method],
        etag=record.etag,
        last_modified=instant(record.last_updated),
    )
