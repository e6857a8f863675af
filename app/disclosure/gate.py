"""The gate that every way out goes through: who is asked about, what is decided, and what that releases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.asked import Asked, Whose
from app.audit.log import AuditLog
from app.consent.decider import Decider
from app.consent.decision import OPEN, Decision
from app.db import Database
from app.errors import BusinessRule, InsufficientScope, NotAuthenticated, NotFound
from app.fhir.binaries import security_context, stands_for
from app.fhir.compartments import in_patient_compartment
from app.fhir.links import with_links
from app.ports import AuditSink, Clock
from app.records import reading
from app.records.cursor import CursorSeal
from app.records.exports import Exports
from app.records.federation import Federation
from app.records.reading import Found, Reader, Record, Who
from app.records.reading import Whose as Owner
from app.records.results import ResultSets
from app.smart import scopes
from app.vocabulary import NO_PATIENT, Caller, OdsCode, PatientIdentity

NEVER_BY_WILDCARD = frozenset({"Consent", "AuditEvent"})
"""Types that a caller sees only as the custodian who keeps them, whatever the scopes say."""


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
    exports: Exports
    clock: Clock
    nhs_number_system: str
    custodians: Sequence[OdsCode]


class Gate:
    """One decision for (caller, purpose, person), and the same rule in memory for everything that leaves."""

    def __init__(self, at: Reading) -> None:
        self._at = at

    # What may be asked.

    def may(self, asked: Asked, resource_type: str, letter: str) -> None:
        """Raises InsufficientScope."""
        if not scopes.permits(asked.caller.scopes, resource_type, letter):
            raise InsufficientScope(scopes.suffices(resource_type, letter))

    def scoped(self, asked: Asked, resource_type: str, custodian: OdsCode) -> bool:
        """Whether the caller's scopes reach a record of this type and custodian at all."""
        if resource_type in NEVER_BY_WILDCARD and custodian != asked.caller.organisation:
            return False
        return any(scopes.permits(asked.caller.scopes, resource_type, letter) for letter in "rs")

    async def known(self, asked: Asked) -> None:
        """Raises NotAuthenticated when the client is registered no more."""
        if not await reading.client_is_active(self._at.database, asked.caller.client_id):
            raise NotAuthenticated

    # Whom and what it is about.

    async def visible(self, asked: Asked, resource_type: str, id: str) -> tuple[Found, Decision]:
        """The record and the decision that releases its current version. Raises NotFound otherwise."""
        self.may(asked, resource_type, "r")
        found = await self._at.reader.read(resource_type, id, asked.caller.client_id)
        if found is None:
            await self.known(asked)
            raise NotFound
        if not found.client_active:
            raise NotAuthenticated
        asked.whose = found.whose
        decision = await self.decide(asked, found.whose)
        if not await self.releases(asked, found.record, found.whose, decision):
            raise NotFound
        return found, decision

    async def who(self, asked: Asked, patient_id: str) -> Who | None:
        """The person of a local Patient id, whom the request is about from now on."""
        who = await self._at.reader.who(patient_id, asked.caller.client_id)
        if who is None:
            await self.known(asked)
            return None
        if not who.client_active:
            raise NotAuthenticated
        asked.whose = who.identity
        return who

    # What is decided.

    async def decide(self, asked: Asked, whose: Whose | PatientIdentity | None) -> Decision:
        """Raises NotFound for an emergency that is about somebody else."""
        if whose is None:
            return OPEN
        if asked.caller.purpose.is_emergency:
            self._for_one_person(asked.caller, whose.nhs_number.digits if whose.nhs_number else None)
        return await self._at.decider.decide(whose, asked.caller, self._at.clock.now())

    async def decide_quietly(self, asked: Asked, whose: Whose | PatientIdentity | None) -> Decision | None:
        """None where nothing may be released at all because an emergency is about somebody else."""
        try:
            return await self.decide(asked, whose)
        except NotFound:
            return None

    def _for_one_person(self, caller: Caller, digits: str | None) -> None:
        """Emergency access is for the one person it was asked for (consent notes, B6)."""
        wanted = f"{self._at.nhs_number_system}|{digits}"
        if caller.emergency is None or digits is None or caller.emergency.patient_identifier != wanted:
            raise NotFound

    # What that releases.

    async def releases(
        self, asked: Asked, record: Record, whose: Whose | PatientIdentity | None, decision: Decision
    ) -> bool:
        """The same decision in memory; a record about several people must be releasable for each of them."""
        return (
            self._releases_for_one(asked, record, whose, decision)
            and (not record.also_patients or whose is None or await self._others_release(asked, record))
            and (record.resource_type != "Binary" or await self._context_releases(asked, record))
        )

    def _releases_for_one(
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

    async def _others_release(self, asked: Asked, record: Record) -> bool:
        # A search reads what the first person's decision looks at; another's may look at more.
        found = await self._at.reader.read(record.resource_type, record.id, asked.caller.client_id)
        if found is None:
            return False
        current = found.record
        told = [current] if record.version == current.version else [current, record]
        # Whom the record in hand names besides, not the current one: read in another's compartment that is the
        # person whom it is about, and an old version may name people whom the current one does not.
        people = await reading.whose(self._at.database, record.also_patients)
        for key in record.also_patients:
            decision = await self.decide_quietly(asked, people[key]) if key in people else None
            if decision is None or not all(decision.releases(one.facets) for one in told):
                return False
        return True

    async def _context_releases(self, asked: Asked, binary: Record) -> bool:
        """What stands for a Binary is decided on as it is now: bytes are withheld with the document they are of.

        Without a securityContext it cannot be told whose the bytes are: they stay with their custodian (ADR 0018).
        """
        content = await self._content_of(binary)
        try:
            context = stands_for(security_context(content), asked.request.base_url) if content else None
        except BusinessRule:
            return False
        is_somebodys = binary.patient_key != NO_PATIENT
        if context is None:
            return binary.custodian == asked.caller.organisation or (is_somebodys and content != "")
        resource_type, _, id = context.partition("/")
        if resource_type == "Patient" and is_somebodys:
            return True  # under this patient's decision already
        found = await self._at.reader.read(resource_type, id, asked.caller.client_id)
        if found is None or found.record.deleted:
            return False
        decision = await self.decide_quietly(asked, found.whose)
        return decision is not None and await self.releases(asked, found.record, found.whose, decision)

    async def _content_of(self, binary: Record) -> str:
        """Its text; of a deleted one what was there last, so that the deletion tells nobody else of it."""
        if not binary.deleted:
            return binary.content
        before = await reading.versions(self._at.database, binary)
        return next((one.content for one in before if one.version < binary.version and one.content), "")

    async def as_released(
        self, asked: Asked, record: Record, owner: Owner | PatientIdentity | None, decision: Decision
    ) -> str:
        """The custodian's text; a Patient's also names the person's other local Patients (docs/adr)."""
        if record.resource_type != "Patient" or owner is None or owner.alone:
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
