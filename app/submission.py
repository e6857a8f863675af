"""THE WRITE: validate, check custody, keep the record and its audit entry in one transaction.

Either both are durable when a method returns, or neither is (ARCHITECTURE 3.3, section 4).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any
from uuid import uuid4

import asyncpg

from app.asked import Asked, Release, accounted, entry_for, refusal_in_words
from app.audit.entry import Disclosed, Entry, Outcome, Receipt
from app.audit.log import AuditLog
from app.consent import directive
from app.consent.labels import label
from app.consent.register import ConsentRegister
from app.db import Database
from app.errors import (
    BadRequest,
    BusinessRule,
    CandourError,
    Conflict,
    InsufficientScope,
    NotAuthenticated,
    NotTheCustodian,
    PreconditionFailed,
    in_entry,
)
from app.fhir.binaries import stands_for
from app.fhir.compartments import in_patient_compartment, patients_named, patients_of
from app.fhir.facets import Facets, facets_of
from app.fhir.indexing import IndexValues, extract
from app.fhir.instants import instant
from app.fhir.model import second_reading
from app.fhir.text import Parsed, parse, with_server_fields
from app.fhir.validation import validate
from app.identity import register as identity
from app.identity.register import Registered
from app.ports import Clock
from app.records import store
from app.records.store import Kept, Version
from app.smart import scopes
from app.smart.clients import client_is_active
from app.together import Together
from app.vocabulary import NO_PATIENT, Caller, OdsCode, PatientKey

NOT_WRITTEN_HERE = frozenset({"AuditEvent"})
"""Types that only the service itself writes."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A valid resource that has not been kept yet: its text, and all that is derived from it."""

    resource_type: str
    id: str
    text: str
    body: dict[str, Any]
    custodian: OdsCode
    patients: tuple[str, ...]
    labels: tuple[dict[str, str], ...]
    facets: Facets
    index: IndexValues
    entry: int | None = None
    """Its place in the Bundle that it came in."""
    context: str | None = None
    """The resource, as ``Type/id``, whose patients a Binary belongs to, as long as they are not among its own yet."""

    @property
    def reference(self) -> str:
        return f"{self.resource_type}/{self.id}"

    @property
    def named(self) -> in_entry:
        """Whatever is refused inside names the entry."""
        return in_entry(self.entry)


@dataclass(frozen=True, slots=True)
class Written:
    """What a write left behind: the version kept, and whose it is."""

    reference: str
    version: int
    last_updated: datetime
    content: str | None
    created: bool
    whose: Registered | None
    changed: bool = True
    others: tuple[Registered, ...] = ()
    """Everybody else it is about, or was about before."""

    @property
    def owners(self) -> tuple[Registered | None, ...]:
        """Each person it concerns, once; None alone when it is nobody's record."""
        everybody = {one.person: one for one in (self.whose, *self.others) if one is not None}
        return tuple(everybody.values()) or (None,)

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'

    @property
    def versioned(self) -> str:
        return f"{self.reference}/_history/{self.version}"


@dataclass(frozen=True, slots=True)
class Writing:
    """What a write needs, bound together once by the composition root."""

    database: Database
    log: AuditLog
    consents: ConsentRegister
    clock: Clock
    nhs_number_system: str
    base_url: str


class Submission:
    """The use cases by which a custodian changes its own records."""

    def __init__(self, writing: Writing) -> None:
        self._at = writing
        self._creations = Together(self._create_together, at_once=1, most=64)

    @accounted
    async def create(self, asked: Asked, resource_type: str, body: bytes | str) -> Release:
        """POST: an id of the server's choosing."""
        self.may(asked.caller, resource_type, "c")
        draft = self.draft(asked, resource_type, str(uuid4()), body)
        outcome = await self._creations.ask((asked, draft))
        if isinstance(outcome, CandourError):
            raise outcome
        return outcome

    async def _create_together(self, asked: Sequence[tuple[Asked, Draft]]) -> list[Release | CandourError]:
        """First versions that came while another commit ran, in one commit; one by one when that fails."""
        if len(asked) > 1:
            try:
                return list(await self._create_all(asked))
            except Exception:  # noqa: BLE001  # whatever one of them did, the others are not to suffer for it
                for one, _ in asked:
                    one.recorded = False
        return [await self._create_alone(one) for one in asked]

    async def _create_alone(self, asked: tuple[Asked, Draft]) -> Release | CandourError:
        try:
            [release] = await self._create_all([asked])
        except CandourError as error:
            return error
        except Exception as error:  # noqa: BLE001  # reported as this caller's own failure
            failure = CandourError()
            failure.__cause__ = error
            return failure
        return release

    async def _create_all(self, asked: Sequence[tuple[Asked, Draft]]) -> list[Release]:
        callers = [one.caller for one, _ in asked]
        async with self.transaction(*callers) as connection:
            kept = await self._keep_each(connection, asked)
            entries = [self._entries(one, [written]) for (one, _), written in zip(asked, kept, strict=True)]
            receipts = iter(await self._at.log.append(connection, list(chain.from_iterable(entries))))
        for one, _ in asked:
            one.recorded = True
        return [
            release_of(one, written, list(islice(receipts, len(own))))
            for (one, _), written, own in zip(asked, kept, entries, strict=True)
        ]

    async def _keep_each(
        self, connection: asyncpg.Connection, asked: Sequence[tuple[Asked, Draft]]
    ) -> list[Written]:
        """Custodian by custodian, because each writes for its own Patients only; in the order given."""
        places: dict[OdsCode, list[int]] = {}
        for place, (_, draft) in enumerate(asked):
            places.setdefault(draft.custodian, []).append(place)
        kept: dict[int, Written] = {}
        for own in places.values():
            written = await self.keep_new(connection, asked[own[0]][0], [asked[place][1] for place in own])
            kept |= dict(zip(own, written, strict=True))
        for place, (one, _) in enumerate(asked):
            one.whose = kept[place].whose
        return [kept[place] for place in range(len(asked))]

    @accounted
    async def update(
        self,
        asked: Asked,
        resource_type: str,
        id: str,
        body: bytes | str,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Release:
        """PUT: a later version, or the first under the caller's id."""
        self.may(asked.caller, resource_type, "u")
        draft = self.draft(asked, resource_type, id, body, keep_id=True)
        async with self.transaction(asked.caller) as connection:
            written = await self.keep(
                connection, asked, draft, if_match=if_match, if_none_match=if_none_match
            )
            receipts = await self.record(connection, asked, [written])
        return release_of(asked, written, receipts)

    @accounted
    async def patch(
        self,
        asked: Asked,
        resource_type: str,
        id: str,
        apply: Callable[[str], str],
        *,
        seen: int,
        if_match: str | None = None,
    ) -> Release:
        """PATCH: what ``apply`` makes of the current text, as a later version (R4 http, 3.1.0.6).

        ``seen`` is the version that the caller was found to be allowed to read: a patch tests and returns what is kept.
        """
        self.may(asked.caller, resource_type, "u")
        async with self.transaction(asked.caller) as connection:
            text = await self.patched(
                connection, asked, resource_type, id, apply, seen=seen, if_match=if_match
            )
            draft = self.draft(asked, resource_type, id, text, keep_id=True)
            written = await self.keep(connection, asked, draft)
            receipts = await self.record(connection, asked, [written])
        return release_of(asked, written, receipts)

    @accounted
    async def delete(
        self, asked: Asked, resource_type: str, id: str, *, if_match: str | None = None
    ) -> Release:
        """DELETE: what was kept stays in history; a second time changes nothing."""
        self.may(asked.caller, resource_type, "d")
        async with self.transaction(asked.caller) as connection:
            written = await self.remove(connection, asked, resource_type, id, if_match=if_match)
            receipts = await self.record(connection, asked, [written] if written else [])
        if written is None:
            return Release("", receipts, 204)
        return Release("", receipts, 204, written.etag, written.last_updated)

    async def refuse(self, asked: Asked, error: CandourError, *, outcome: Outcome = "4") -> None:
        """Records that the write was refused, and why."""
        await self._at.log.record([entry_for(asked, outcome, refusal_in_words(error), whose=asked.whose)])
        asked.recorded = True

    # Steps, shared with bundles and with loading.

    def may(self, caller: Caller, resource_type: str, letter: str) -> None:
        if not scopes.permits(caller.scopes, resource_type, letter):
            raise InsufficientScope(scopes.suffices(resource_type, letter))
        if resource_type in NOT_WRITTEN_HERE:
            raise BusinessRule(f"{resource_type} is written by the service alone.")

    def draft(
        self, asked: Asked, resource_type: str, id: str, body: bytes | str, *, keep_id: bool = False
    ) -> Draft:
        """The body, read, validated and indexed. Raises MalformedBody, InvalidResource or BusinessRule."""
        parsed = parse(body)
        if keep_id and parsed.value.get("id") != id:
            # R4 http, 3.1.0.4: the server SHALL respond with 400.
            raise BadRequest(
                f"The body's id must be {id}, as in the address.", expression=f"{resource_type}.id"
            )
        return self.draft_parsed(asked, resource_type, id, parsed)

    def draft_parsed(
        self, asked: Asked, resource_type: str, id: str, parsed: Parsed, *, entry: int | None = None
    ) -> Draft:
        validate(parsed.value, expected_type=resource_type)
        second_reading(resource_type, parsed.text)
        base, custodian = asked.request.base_url, asked.caller.organisation
        body = {**parsed.value, "id": id}
        facets = facets_of(body, custodian=custodian, base_url=base)
        facets, labels = label(body, facets)
        body = _labelled(body, labels)
        return Draft(
            resource_type,
            id,
            parsed.text,
            body,
            custodian,
            self._patients(resource_type, body, base),
            labels,
            facets,
            extract(body, base),
            entry,
            stands_for(body, base) if resource_type == "Binary" else None,
        )

    async def patched(
        self,
        connection: asyncpg.Connection,
        asked: Asked,
        resource_type: str,
        id: str,
        apply: Callable[[str], str],
        *,
        seen: int,
        if_match: str | None = None,
    ) -> str:
        """What ``apply`` makes of the current text, which nobody else changes until the transaction ends."""
        before = await store.current(connection, resource_type, id)
        if before is None or before.content is None or before.version != seen:
            raise Conflict
        _only_the_custodian(before, asked.caller.organisation)
        _in_the_state(before, if_match)
        # Out of the event loop: a patch may be made to take long.
        return await asyncio.to_thread(apply, before.content)

    def transaction(self, *callers: Caller) -> AbstractAsyncContextManager[asyncpg.Connection]:
        return _authorised(self._at.database, callers)

    async def keep_new(
        self, connection: asyncpg.Connection, asked: Asked, drafts: Sequence[Draft]
    ) -> list[Written]:
        """First versions of many, in one round trip a batch. Raises Conflict when an id is taken."""
        now = self._now()
        drafts = [await self.settled(connection, draft, drafts) for draft in drafts]
        whose = await self._registered(connection, drafts, asked.caller.organisation)
        versions = [_version(draft, whose, 1, now) for draft in drafts]
        await store.create(connection, versions)
        written = [
            Written(
                f"{one.resource_type}/{one.id}",
                1,
                now,
                one.content,
                True,
                _owner(draft, whose),
                others=_others(draft, whose),
            )
            for one, draft in zip(versions, drafts, strict=True)
        ]
        for draft, one in zip(drafts, written, strict=True):
            with draft.named:
                await self._told(connection, draft, one)
        asked.whose = _one_person(written)
        return written

    async def keep(
        self,
        connection: asyncpg.Connection,
        asked: Asked,
        draft: Draft,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Written:
        """The first version of one resource, or the next; none when the text says nothing new."""
        before = await store.current(connection, draft.resource_type, draft.id)
        if before is None:
            if if_match is not None:
                raise PreconditionFailed
            return (await self.keep_new(connection, asked, [draft]))[0]
        return await self.keep_next(
            connection, asked, draft, before, if_match=if_match, if_none_match=if_none_match
        )

    async def keep_next(
        self,
        connection: asyncpg.Connection,
        asked: Asked,
        draft: Draft,
        before: Kept,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Written:
        """The version after ``before``, which was locked when it was read."""
        _only_the_custodian(before, draft.custodian)
        _in_the_state(before, if_match)
        _not_in_the_state(before, if_none_match)
        draft = await self.settled(connection, draft, ())
        whose = await self._registered(connection, [draft], draft.custodian)
        owner = _owner(draft, whose)
        asked.whose = owner
        others = (*_others(draft, whose), *await self._concerned(connection, before))
        if _says_the_same(draft, before):
            return Written(
                draft.reference,
                before.version,
                before.last_updated,
                before.content,
                False,
                owner,
                changed=False,
                others=others,
            )
        version = _version(draft, whose, before.version + 1, self._now(before.last_updated))
        if version.home != before.patient_key:
            raise BusinessRule("A resource stays in the record of the patient it was first written for.")
        await store.replace(connection, version, before)
        written = Written(
            draft.reference,
            version.version,
            version.last_updated,
            version.content,
            before.deleted,
            owner,
            others=others,
        )
        await self._told(connection, draft, written)
        return written

    async def remove(
        self,
        connection: asyncpg.Connection,
        asked: Asked,
        resource_type: str,
        id: str,
        *,
        if_match: str | None = None,
    ) -> Written | None:
        before = await store.current(connection, resource_type, id)
        if before is None:
            return None
        _only_the_custodian(before, asked.caller.organisation)
        _in_the_state(before, if_match)
        owner = await identity.by_key(connection, before.patient_key)
        asked.whose = owner
        if before.deleted:
            return None
        now = self._now(before.last_updated)
        version = await store.tombstone(connection, resource_type, id, before, now)
        if resource_type == "Consent" and owner is not None:
            await self._at.consents.register(connection, owner.patient.key, owner.person, id, version, None)
        others = await self._concerned(connection, before)
        return Written(f"{resource_type}/{id}", version, now, None, False, owner, others=others)

    async def _concerned(self, connection: asyncpg.Connection, before: Kept) -> tuple[Registered, ...]:
        """Whom else the version before was about."""
        found = [await identity.by_key(connection, PatientKey(key)) for key in before.also_patients]
        return tuple(one for one in found if one is not None)

    async def about(
        self, connection: asyncpg.Connection, asked: Asked, resource_type: str, id: str
    ) -> Written:
        """A resource that is left as it is, and whose record it is in, for the audit entry."""
        kept = await store.current(connection, resource_type, id)
        if kept is None:
            raise Conflict
        asked.whose = await identity.by_key(connection, kept.patient_key)
        return Written(
            f"{resource_type}/{id}",
            kept.version,
            kept.last_updated,
            None,
            False,
            asked.whose,
            changed=False,
        )

    async def settled(self, connection: asyncpg.Connection, draft: Draft, beside: Iterable[Draft]) -> Draft:
        """A Binary with the patients of the resource that stands for it: one of those ``beside`` it, or kept already.

        Raises BusinessRule when its custodian keeps no such resource: what others keep is not told.
        """
        if draft.context is None:
            return draft
        written = next((one for one in beside if one.reference == draft.context), None)
        if written is not None:
            patients = written.patients
        else:
            with draft.named:
                patients = await self._patients_of(connection, draft.context, draft.custodian)
        together = tuple(dict.fromkeys((*draft.patients, *patients)))
        return replace(draft, patients=together, context=None)

    async def _patients_of(
        self, connection: asyncpg.Connection, reference: str, custodian: OdsCode
    ) -> tuple[str, ...]:
        resource_type, _, id = reference.partition("/")
        if resource_type == "Patient":
            return (id,)
        kept = await store.seen(connection, resource_type, id)
        if kept is None or kept.deleted or kept.custodian != custodian:
            raise BusinessRule(
                "securityContext refers to nothing that your organisation keeps here. Write that resource first, or "
                "both in one transaction, or refer to your own Patient.",
                expression="Binary.securityContext",
            )
        keys = [key for key in (kept.patient_key, *kept.also_patients) if key != NO_PATIENT]
        found = [await identity.by_key(connection, PatientKey(key)) for key in keys]
        return tuple(one.patient.id for one in found if one is not None)

    async def _registered(
        self, connection: asyncpg.Connection, drafts: Sequence[Draft], custodian: OdsCode
    ) -> dict[str, Registered]:
        """The local Patients that the drafts belong to; a Patient among them is joined to its person."""
        whose = await identity.patients(
            connection, (id for draft in drafts for id in draft.patients), custodian
        )
        for draft in drafts:
            if any(whose[id].patient.custodian != custodian for id in draft.patients):
                with draft.named:
                    raise NotTheCustodian(
                        "It refers to a Patient that is not one of your organisation's own."
                    )
        for draft in drafts:
            if draft.resource_type == "Patient":
                number = identity.verified_nhs_number(draft.body, self._at.nhs_number_system)
                own = whose[draft.id]
                person = await identity.identify(connection, own, number, draft.body.get("birthDate"))
                whose[draft.id] = replace(own, person=person, nhs_number=number)
        return whose

    def _patients(self, resource_type: str, body: dict[str, Any], base: str) -> tuple[str, ...]:
        """Whose record it is in. A type outside the compartment that names a patient all the same, as Task does, is
        kept with that patient, so that their consent reaches it.
        """
        if not in_patient_compartment(resource_type):
            return patients_named(body, base)
        membership = patients_of(body, base)
        if membership.unresolved:
            raise BusinessRule(
                "It refers to a patient in a way that does not tell whose record it belongs to. "
                "Refer to one of your own Patients, as Patient/[id].",
                expression=resource_type,
            )
        return membership.patients

    async def _told(self, connection: asyncpg.Connection, draft: Draft, written: Written) -> None:
        """A Consent becomes a directive in the transaction that keeps it."""
        if draft.resource_type != "Consent":
            return
        if written.whose is None:
            raise BusinessRule("A Consent must name its patient.", expression="Consent.patient")
        normalised = directive.normalise(
            draft.body, version=written.version, server_time=written.last_updated
        )
        await self._at.consents.register(
            connection, written.whose.patient.key, written.whose.person, draft.id, written.version, normalised
        )

    async def record(
        self,
        connection: asyncpg.Connection,
        asked: Asked,
        written: Sequence[Written],
        *,
        beside: Sequence[Entry] = (),
    ) -> Sequence[Receipt]:
        """One entry per person whose record was written; last, because it takes the log's lock until commit.

        ``beside``: entries of what was read in the same transaction.
        """
        entries = [*self._entries(asked, written), *beside] or [
            entry_for(asked, "0", "Nothing was there to change.", whose=asked.whose)
        ]
        receipts = await self._at.log.append(connection, entries)
        asked.recorded = True
        return receipts

    async def as_identified(
        self, connection: asyncpg.Connection, written: Sequence[Written]
    ) -> list[Written]:
        """With the persons whom the Patients are now: who wrote a Patient last may have said who it is."""
        keys = {one.patient.key for each in written for one in each.owners if one is not None}
        now = await identity.by_keys(connection, keys)
        return [
            replace(
                each,
                whose=each.whose and now[each.whose.patient.key],
                others=tuple(now[one.patient.key] for one in each.others),
            )
            for each in written
        ]

    def _entries(self, asked: Asked, written: Sequence[Written]) -> list[Entry]:
        """One for each person's part in a write."""
        parts: dict[int | None, tuple[Registered | None, list[Written]]] = {}
        for one in written:
            for owner in one.owners:
                parts.setdefault(owner.person if owner else None, (owner, []))[1].append(one)
        return [
            entry_for(
                asked,
                "0",
                _description(own),
                resources=[Disclosed(one.versioned, ()) for one in own],
                whose=owner,
            )
            for owner, own in parts.values()
        ]

    def _now(self, after: datetime | None = None) -> datetime:
        """The present, to the millisecond, and later than the version before."""
        now = self._at.clock.now()
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return now if after is None or now > after else after + timedelta(milliseconds=1)


@asynccontextmanager
async def _authorised(database: Database, callers: Sequence[Caller]) -> AsyncIterator[asyncpg.Connection]:
    """One transaction of clients that are all still registered."""
    async with database.transaction() as connection:
        for client_id in {caller.client_id for caller in callers}:
            if not await client_is_active(connection, client_id):
                raise NotAuthenticated
        yield connection


def _labelled(body: dict[str, Any], labels: Sequence[dict[str, str]]) -> dict[str, Any]:
    """The body with the labels that its text will have, for the index."""
    if not labels:
        return body
    meta = body.get("meta", {})
    return {**body, "meta": {**meta, "security": [*meta.get("security", ()), *labels]}}


def _version(draft: Draft, whose: dict[str, Registered], number: int, at: datetime) -> Version:
    keys = tuple(whose[id].patient.key for id in draft.patients) or (NO_PATIENT,)
    return Version(
        draft.resource_type,
        draft.id,
        number,
        at,
        draft.custodian,
        _content(draft, number, at),
        keys,
        draft.facets,
        draft.index,
    )


def _content(draft: Draft, number: int, at: datetime) -> str:
    return with_server_fields(
        draft.text, id=draft.id, version_id=str(number), last_updated=instant(at), security=draft.labels
    )


def _says_the_same(draft: Draft, before: Kept) -> bool:
    """Whether the text is the kept one but for what the server itself writes."""
    return not before.deleted and _content(draft, before.version, before.last_updated) == before.content


def _owner(draft: Draft, whose: dict[str, Registered]) -> Registered | None:
    return whose[draft.patients[0]] if draft.patients else None


def _others(draft: Draft, whose: dict[str, Registered]) -> tuple[Registered, ...]:
    return tuple(whose[id] for id in draft.patients[1:])


def _one_person(written: Sequence[Written]) -> Registered | None:
    persons = {one.whose.person: one.whose for one in written if one.whose}
    return next(iter(persons.values())) if len(persons) == 1 else None


def _only_the_custodian(before: Kept, organisation: OdsCode) -> None:
    if before.custodian != organisation:
        raise NotTheCustodian


def _in_the_state(before: Kept, if_match: str | None) -> None:
    """If-Match names the version that the caller has seen (R4 http, 3.1.0.5)."""
    if if_match is not None and if_match.strip().removeprefix("W/") != f'"{before.version}"':
        raise PreconditionFailed


def _not_in_the_state(before: Kept, if_none_match: str | None) -> None:
    """If-None-Match names versions that must not be there, ``*`` any (R4 http, 3.1.0.8.1; RFC 9110, 13.1.2)."""
    if if_none_match is None or before.deleted:
        return
    named = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    if "*" in named or f'"{before.version}"' in named:
        raise PreconditionFailed


def _description(written: Sequence[Written]) -> str:
    return "Kept." if any(one.changed for one in written) else "Nothing new was said; no new version."


def release_of(asked: Asked, written: Written, receipts: Sequence[Receipt]) -> Release:
    return Release(
        written.content or "",
        receipts,
        201 if written.created else 200,
        written.etag,
        written.last_updated,
        f"{asked.request.base_url}/{written.versioned}",
    )
