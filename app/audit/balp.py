"""IHE BALP 1.1.4 as constants: its profiles, and what each kind of event is called in DICOM and HL7 codes."""

from typing import Final, Literal, NamedTuple

from app.audit.entry import Interaction

BALP: Final = "https://profiles.ihe.net/ITI/BALP/"
PROFILE: Final = BALP + "StructureDefinition/"
BASIC: Final = PROFILE + "IHE.BasicAudit."
DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
REST: Final = "http://hl7.org/fhir/restful-interaction"
TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
USER_AGENTS: Final = BALP + "CodeSystem/UserAgentTypes"

DISCLOSURE: Final = "PrivacyDisclosure.Source"
"""Of one patient's data, and always of a patient's."""

Direction = Literal["out", "in", "removal", "token", "decision"]
"""Who is DICOM's source (110153) and who its destination (110152): a read goes out, all else comes in."""


class Shape(NamedTuple):
    action: str
    type: str
    subtypes: str
    direction: Direction
    profile: str | None
    """Last part of the BALP profile's name, without ``Patient``."""
    asks: bool
    """The event is about the question (a query entity) rather than about one resource (a data entity)."""


def coding(system: str, code: str) -> str:
    return f'{{"system":"{system}","code":"{code}"}}'


def _rest(
    action: str, codes: tuple[str, ...], direction: Direction, profile: str | None, *, asks: bool
) -> Shape:
    subtypes = ",".join(coding(REST, code) for code in codes)
    return Shape(action, coding(TERMINOLOGY + "audit-event-type", "rest"), subtypes, direction, profile, asks)


SHAPES: Final = {
    Interaction.READ: _rest("R", ("read",), "out", "Read", asks=False),
    Interaction.VREAD: _rest("R", ("vread",), "out", "Read", asks=False),
    Interaction.SEARCH: _rest("E", ("search-type",), "in", "Query", asks=True),
    Interaction.HISTORY: _rest("R", ("history",), "out", None, asks=True),
    # $everything is a query whose answer is the compartment: it claims Query beside naming the operation.
    Interaction.EVERYTHING: _rest("E", ("search", "operation"), "in", "Query", asks=True),
    Interaction.OPERATION: _rest("E", ("operation",), "in", None, asks=True),
    Interaction.EXPORT: Shape(
        "R",
        coding(DCM, "110106"),
        coding(TERMINOLOGY + "iso-21089-lifecycle", "disclose"),
        "out",
        DISCLOSURE,
        False,
    ),
    Interaction.CREATE: _rest("C", ("create",), "in", "Create", asks=False),
    Interaction.UPDATE: _rest("U", ("update",), "in", "Update", asks=False),
    Interaction.PATCH: _rest("U", ("patch",), "in", "Update", asks=False),
    Interaction.DELETE: _rest("D", ("delete",), "removal", "Delete", asks=False),
    Interaction.TRANSACTION: _rest("E", ("transaction",), "in", None, asks=True),
    Interaction.BATCH: _rest("E", ("batch",), "in", None, asks=True),
    Interaction.CONSENT: Shape(
        "E",
        coding(DCM, "110113"),
        coding(BALP + "CodeSystem/AuthZsubType", "AuthZ-Consent"),
        "decision",
        "AuthZconsent",
        False,
    ),
    Interaction.AUDIT_READ: Shape(
        "R", coding(DCM, "110101"), coding(REST, "search-type"), "out", None, False
    ),
    Interaction.TOKEN: Shape(
        "E", coding(DCM, "110114"), coding("urn:ihe:event-type-code", "ITI-71"), "token", None, True
    ),
    Interaction.ADMINISTRATION: Shape(
        "E", coding(DCM, "110100"), coding(REST, "operation"), "in", None, True
    ),
}

WRITES: Final = frozenset(
    {Interaction.CREATE, Interaction.UPDATE, Interaction.PATCH, Interaction.TRANSACTION, Interaction.BATCH}
)

SOURCE, DESTINATION, APPLICATION = (coding(DCM, code) for code in ("110153", "110152", "110150"))
USER: Final = coding(TERMINOLOGY + "v3-ParticipationType", "IRCP")
AUTHOR: Final = coding(TERMINOLOGY + "v3-ParticipationType", "AUT")
TOKEN_USER: Final = coding(USER_AGENTS, "UserOauthAgent")
CUSTODIAN: Final = coding(TERMINOLOGY + "provenance-participant-type", "custodian")
TRANSMITTER: Final = coding(TERMINOLOGY + "provenance-participant-type", "transmitter")
ORGANISATION: Final = coding(TERMINOLOGY + "v3-RoleClass", "PROV")
AUTHORISER: Final = coding(TERMINOLOGY + "extra-security-role-type", "authserver")
TOKEN_SERVER: Final = coding(USER_AGENTS, "AuthzOauthService")

CLIENT_CODINGS: Final = {
    "out": f"{DESTINATION},{APPLICATION}",
    "in": f"{SOURCE},{APPLICATION}",
    "removal": APPLICATION,
    "token": APPLICATION,
    "decision": APPLICATION,
}
SERVER_CODINGS: Final = {
    "out": SOURCE,
    "in": DESTINATION,
    "removal": CUSTODIAN,
    "token": TOKEN_SERVER,
    "decision": AUTHORISER,
}

PATIENT_TYPE: Final = (
    f'"type":{coding(TERMINOLOGY + "audit-entity-type", "1")},'
    f'"role":{coding(TERMINOLOGY + "object-role", "1")}'
)
OBJECT_TYPE: Final = f'"type":{coding(TERMINOLOGY + "audit-entity-type", "2")},"role":'
DOMAIN_RESOURCE, QUERY, SECURITY_RESOURCE = (
    coding(TERMINOLOGY + "object-role", code) for code in ("4", "24", "13")
)
TRANSACTION_TYPE: Final = f'"type":{coding(BALP + "CodeSystem/BasicAuditEntityType", "XrequestId")}'
CONSENT_TYPE: Final = '"type":{"system":"http://hl7.org/fhir/resource-types","code":"Consent"}'
APPLICATION_SERVER: Final = coding(TERMINOLOGY + "security-source-type", "4")
