"""A request on its way through a use case, what leaves at its end, and the audit entry that binds the two."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from uuid import uuid4

from app.audit.entry import Disclosed, Entry, Interaction, Outcome, Receipt
from app.consent.decision import Decision
from app.errors import CandourError, Unavailable
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


class Preference(StrEnum):
    """What a write is answered with: ``Prefer: return=…`` (R4 http, 3.1.0.1.9)."""

    REPRESENTATION = "representation"
    MINIMAL = "minimal"
    OUTCOME = "OperationOutcome"


@dataclass(slots=True)
class Asked:
    """One request, and what its audit entry must tell should it be refused."""

    request: Request
    caller: Caller
    interaction: Interaction
    whose: Whose | PatientIdentity | None = None
    recorded: bool = False
    prefers: Preference = Preference.REPRESENTATION
    links_under: str | None = None
    """The FHIR base as the caller reaches it, where a trusted proxy says that it is another than the configured one.

    For links alone. What is ours is decided under ``request.base_url``, whatever a header says.
    """


@dataclass(frozen=True, slots=True)
class Release:
    """What leaves. There is none without the receipts of its durable audit entries."""

    body: str
    receipts: Sequence[Receipt]
    status: int = 200
    etag: str | None = None
    last_modified: datetime | None = None
    location: str | None = None
    pieces: Callable[[], AsyncIterator[str]] | None = None
    """In place of ``body``: the text, read while it is sent. Everything in it is recorded before."""

    async def whole(self) -> "Release":
        """With its text in ``body``, for who needs all of it at once."""
        if self.pieces is None:
            return self
        return replace(self, body="".join([piece async for piece in self.pieces()]), pieces=None)


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


def entry_of_nobody(request: Request, interaction: Interaction, description: str) -> Entry:
    """The audit entry of a refused request whose sender showed no valid token."""
    return Entry(
        id=uuid4(),
        interaction=interaction,
        outcome="4",
        description=description,
        request=request,
        caller=None,
        patient_key=None,
        person_key=None,
        patient_reference=None,
        nhs_number=None,
    )


def refusal_in_words(error: CandourError) -> str:
    """What the audit entry of a refusal says."""
    return f"Refused: {error.status.value} {error.code}. {error}"


def _patient(whose: Whose | PatientIdentity | None) -> LocalPatient | None:
    if whose is None:
        return None
    return whose.asked if isinstance(whose, PatientIdentity) else whose.patient


class Refusing(Protocol):
    """A use case that can record a refusal."""

    async def refuse(self, asked: Asked, error: CandourError, *, outcome: Outcome = "4") -> None:
        """Records that the request was refused, and why, before the refusal leaves."""


S = TypeVar("S", bound=Refusing)
P = ParamSpec("P")


def accounted(
    method: Callable[Concatenate[S, Asked, P], Awaitable[Release]],
) -> Callable[Concatenate[S, Asked, P], Coroutine[Any, Any, Release]]:
    """Records a refusal or failure that ``method`` did not record itself, then lets it go on.

    A database or log that cannot be reached is not recorded, because it cannot be: nothing leaves then but a 503.
    """

    @functools.wraps(method)
    async def answer(self: S, asked: Asked, *args: P.args, **kwargs: P.kwargs) -> Release:
        try:
            return await method(self, asked, *args, **kwargs)
        except Unavailable:
            raise
        except CandourError as error:
            if not asked.recorded:
                await self.refuse(asked, error)
            raise
        except Exception as error:
            if not asked.recorded:
                await self.refuse(asked, CandourError(), outcome="12")
            raise CandourError from error

    return answer  # type: ignore[return-value]  # the same call, but mypy knows its first two by name
