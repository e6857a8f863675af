"""The nouns every part of Candour shares; values only, no I/O (ARCHITECTURE section 1)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

OdsCode = NewType("OdsCode", str)
"""An organisation's code in the Organisation Data Service, upper case, e.g. ``RX1``."""

PersonKey = NewType("PersonKey", int)
"""One human, on this node only. Never leaves the node."""

PatientKey = NewType("PatientKey", int)
"""One local Patient: the unit of locality, consent and sharding. 0 means: in no patient's compartment."""

NO_PATIENT = PatientKey(0)

ODS_SYSTEM = "https://fhir.nhs.uk/Id/ods-organization-code"
NHS_NUMBER_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
PURPOSE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

_ODS = re.compile(r"[A-Z0-9]{2,12}\Z")


def ods_code(text: str) -> OdsCode:
    """``text`` as an ODS code, upper-cased. Raises ValueError when it cannot be one."""
    code = text.strip().upper()
    if not _ODS.match(code):
        raise ValueError("an ODS code is 2 to 12 letters and digits")
    return OdsCode(code)


@dataclass(frozen=True, slots=True)
class NhsNumber:
    """Ten digits whose last is a modulus-11 check digit. ``str()`` masks it, so that a log never holds one."""

    digits: str

    def __post_init__(self) -> None:
        if not valid_nhs_number(self.digits):
            raise ValueError("not an NHS number: ten digits with a valid check digit are needed")

    @classmethod
    def parse(cls, text: str) -> "NhsNumber":
        """An NHS number written with or without spaces or hyphens. Raises ValueError."""
        return cls(re.sub(r"[\s-]", "", text))

    def __str__(self) -> str:
        return "NHS ******" + self.digits[-2:]

    def __repr__(self) -> str:
        return f"NhsNumber({self!s})"


def valid_nhs_number(digits: str) -> bool:
    """Weights 10 to 2; 11 minus the remainder, 11 counts as 0 and 10 is never issued (NHS Data Dictionary)."""
    if not re.fullmatch(r"[0-9]{10}", digits, re.ASCII):
        return False
    total = sum(weight * int(digit) for weight, digit in zip(range(10, 1, -1), digits, strict=False))
    return (11 - total % 11) % 11 == int(digits[9])


class PurposeOfUse(StrEnum):
    """HL7 v3 ActReason codes that a caller may be registered for. A token carries exactly one."""

    TREAT = "TREAT"
    ETREAT = "ETREAT"
    BTG = "BTG"
    CAREMGT = "CAREMGT"
    HOPERAT = "HOPERAT"
    HPAYMT = "HPAYMT"
    HRESCH = "HRESCH"
    PUBHLTH = "PUBHLTH"
    PATRQT = "PATRQT"
    FAMRQT = "FAMRQT"
    PWATRNY = "PWATRNY"
    HLEGAL = "HLEGAL"
    HSYSADMIN = "HSYSADMIN"

    @property
    def is_emergency(self) -> bool:
        return self in (PurposeOfUse.ETREAT, PurposeOfUse.BTG)


@dataclass(frozen=True, slots=True)
class EmergencyReason:
    """Why consent is overridden, and for whom: one person only. Both ends audit it."""

    patient_identifier: str
    """``system|value`` of the person, as the caller knows them."""
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, as proved by a verified token (IHE IUA names in brackets)."""

    subject: str
    client_id: str
    organisation: OdsCode
    """[subject_organization_id] The organisation on whose behalf the question is asked."""
    purpose: PurposeOfUse
    """[purpose_of_use]"""
    scopes: tuple[str, ...]
    token_id: str
    """``jti`` of the access token."""
    expires_at: datetime
    organisation_name: str = ""
    """[subject_organization]"""
    name: str = ""
    """[subject_name] as it was when the token was issued."""
    roles: tuple[str, ...] = ()
    """[subject_role] codes."""
    practitioner: str = ""
    """``system|value`` identifier of the professional, when the caller acts for one."""
    emergency: EmergencyReason | None = None
    via: str | None = None
    """Client id of the node that passes on another's question; such a question is never passed on again."""
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived, as far as an audit entry must tell it."""

    trace_id: str
    """32 lower-case hex digits, the trace-id of W3C Trace Context, shared by every node that answers."""
    request_id: str
    """X-Request-Id, the caller's or ours."""
    at: datetime
    method: str
    target: str
    """Path and query as asked, without scheme and host."""
    client_address: str
    base_url: str
    """Our FHIR base, as the caller reaches it, without a trailing slash."""
    accept: str = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class LocalPatient:
    """A custodian's own Patient for a person."""

    key: PatientKey
    id: str
    custodian: OdsCode


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """One person and every local Patient they have on this node (verified NHS number or by themselves)."""

    person: PersonKey
    asked: LocalPatient
    """The local Patient that the question named."""
    local: tuple[LocalPatient, ...]
    nhs_number: NhsNumber | None
    consent_epoch: int
    """Grows with every change to the person's directives or links; a cached decision is void under another."""
    identifiers: Mapping[str, str] = field(default_factory=dict)

    @property
    def alone(self) -> bool:
        """Whether they have no other local Patient."""
        return len(self.local) == 1
