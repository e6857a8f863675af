"""The HTTP requests that a question to a source becomes, and what it means when one is refused."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.records.sources import KnownPatients, Source
from app.records.unanswered import Down, NoRecord, NotSupported, NotUnderstood, Refused, Throttled, Unanswered
from app.vocabulary import Caller, NhsNumber, OdsCode, PatientIdentity

_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class RemoteQuestion:
    """What every source is asked about one person, on behalf of one caller."""

    resource_type: str | None
    """None: everything."""
    pairs: Sequence[tuple[str, str]]
    """Search parameters as asked, the one that named the patient removed."""
    identity: PatientIdentity
    nhs_number_system: str
    caller: Caller
    trace_id: str
    request_id: str
    deadline: float | None = None
    """Loop time after which no answer is of use."""
    known: Mapping[OdsCode, KnownPatients] = field(default_factory=dict)
    birth_date: str | None = None
    """When given, a Patient born on another day is not the person, whatever the number."""
    narrowing: Mapping[OdsCode, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """What one source is asked besides, in its own ids."""
    in_compartment: bool = False
    """Ask for the Patient's compartment, whichever parameter puts a resource there."""
    patient_parameter: str | None = None
    """The parameter that named the patient; None: the usual one of the type."""


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, and what it means when the source answers 404 or 400 to it."""

    method: str
    url: str
    params: Sequence[tuple[str, str]] = ()
    form: Mapping[str, str] | None = None
    criteria: tuple[str, ...] = ()
    """Names of the parameters that narrow the answer: without them it would be to another question."""
    missing: type[Unanswered] = Down
    misunderstood: type[Unanswered] = Down


@dataclass(frozen=True, slots=True)
class Reply:
    """``url`` is the address that was asked, ``body`` decompressed."""

    status: int
    url: str
    body: bytes
    retry_after: str | None


def lookup(source: Source, question: RemoteQuestion, number: NhsNumber) -> Call:
    """Who has this number. By POST where that is sure to be offered: no address and no proxy's log holds it then."""
    identifier = f"{question.nhs_number_system}|{number.digits}"
    base = f"{source.base_url}/Patient"
    if source.kind == "candour":
        return Call("POST", f"{base}/_search", form={"identifier": identifier})
    return Call("GET", base, [("identifier", identifier)])


def search(source: Source, question: RemoteQuestion, id: str) -> Call:
    """What is asked about the source's Patient ``id``."""
    count = ("_count", str(_PAGE))
    if question.resource_type is None:
        # A node answers 404 as well when consent closes the record: it has nothing to show.
        missing = NoRecord if source.kind == "candour" else NotSupported
        url = f"{source.base_url}/Patient/{id}/$everything"
        return Call("GET", url, [count], missing=missing, misunderstood=NotUnderstood)
    asked = (*question.pairs, *question.narrowing.get(source.ods_code, ()))
    pairs = [pair for pair in asked if pair[0].partition(":")[0] not in _NOT_PASSED_ON]
    if question.in_compartment:
        return _question(source, f"Patient/{id}/{question.resource_type}", [*pairs, count], pairs)
    name = question.patient_parameter or PATIENT_PARAMETERS.get(question.resource_type, "patient")
    patient = (name, id if name == "_id" else f"Patient/{id}")
    return _question(source, question.resource_type, [patient, *pairs, count], pairs)


def _question(
    source: Source, address: str, params: Sequence[tuple[str, str]], criteria: Sequence[tuple[str, str]]
) -> Call:
    return Call(
        "GET",
        f"{source.base_url}/{address}",
        params,
        criteria=tuple(name for name, _ in criteria),
        missing=NotSupported,
        misunderstood=NotUnderstood,
    )


PATIENT_PARAMETERS: Final[Mapping[str, str]] = {
    "AdverseEvent": "subject",
    "Group": "member",
    "Patient": "_id",
    "Schedule": "actor",
    "SupplyRequest": "subject",
}
"""The types in a Patient's compartment that have no ``patient`` parameter, and the one that they have."""

_NOT_PASSED_ON: Final = frozenset(
    {
        "_contained",
        "_containedType",
        "_count",
        "_elements",
        "_format",
        "_include",
        "_maxresults",
        "_pretty",
        "_revinclude",
        "_sort",
        "_summary",
        "_total",
    }
)
"""How an answer is to look is this node's business: sources are asked for all of it, whole."""


def headers(question: RemoteQuestion) -> dict[str, str]:
    """What joins both ends' audit entries (W3C Trace Context), and what makes the answer strict and fresh."""
    sent = {
        "Accept": "application/fhir+json",
        "Cache-Control": "no-cache",
        "Prefer": "handling=strict",
        "traceparent": f"00-{question.trace_id}-{secrets.token_hex(8)}-01",
    }
    if re.fullmatch(r"[\x21-\x7e]{1,200}", question.request_id):
        sent["X-Request-Id"] = question.request_id
    return sent


def failure(reply: Reply, call: Call) -> Unanswered:
    """A status other than 200 as what it means."""
    status, text = reply.status, f"status {reply.status}"
    if status in (401, 403):
        return Refused(text)
    if status == 429 or (status == 503 and reply.retry_after is not None):
        return Throttled(text)
    if status in (404, 405, 410, 501):
        return call.missing(text)
    return call.misunderstood(text) if 400 <= status < 500 else Down(text)
