"""A request on its way through a use case, what leaves at its end, and the audit entry that binds the two."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from app.audit.entry import Disclosed, Entry, Interaction, Outcome, Receipt
from app.consent.decision import Decision
from app.fhir.manifest import SourceLine
from app.vocabulary import Caller, LocalPatient, NhsNumber, PatientIdentity, PersonKey, Request


class Whose(Protocol):
    """The person a record is about, as of one snapshot of the database."""

    @property
    def person(self) -> PersonKey: ...
    @property
    def patient(self) -> LocalPatient: ...
    @property
    def nhs_number(self) -> NhsNumber | None: ...
    @property
    def consent_epoch(self) -> int: ...


@dataclass(slots=True)
class Asked:
    """One request, and what its audit entry must tell should it be refused."""

    request: Request
    caller: Caller
    interaction: Interaction
    whose: Whose | PatientIdentity | None = None
    recorded: bool = False
    prefers_representation: bool = True
    """``Prefer: return=minimal`` asks for no body after a write."""


@dataclass(frozen=True, slots=True)
class Release:
    """What leaves. There is none without the receipts of its durable audit entries."""

    body: str
    receipts: Sequence[Receipt]
    status: int = 200
    etag: str | None = None
    last_modified: datetime | None = None
    location: str | None = None


def entry_for(
    asked: Asked,
    outcome: Outcome,
    description: str,
    *,
    resources: Sequence[Disclosed] = (),
    decision: Decision | None = None,
    lines: Sequence[SourceLine] = (),
    whose: Whose | PatientIdentity | None = None,
    interaction: Interaction | None = None,
) -> Entry:
    """The audit entry of one patient's part in a request; of nobody's part when ``whose`` is None."""
    patient = _patient(whose)
    return Entry(
        id=uuid4(),
        interaction=interaction or asked.interaction,
        outcome=outcome,
        description=description,
        request=asked.request,
        caller=asked.caller,
        patient_key=patient.key if patient else None,
        person_key=whose.person if whose else None,
        patient_reference=f"Patient/{patient.id}" if patient else None,
        nhs_number=whose.nhs_number if whose else None,
        resources=tuple(resources),
        basis=decision.basis if decision else (),
        decision_id=None,
        sources=tuple(f"{line.custodian} {line.state}" for line in lines),
    )


def _patient(whose: Whose | PatientIdentity | None) -> LocalPatient | None:
    if whose is None:
        return None
    return whose.asked if isinstance(whose, PatientIdentity) else whose.patient
