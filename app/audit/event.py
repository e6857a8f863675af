"""The body of an entry: a FHIR R4 AuditEvent in the shapes of IHE BALP 1.1.4 (ITI TF BALP, volume 3).

A profile is claimed only where it holds: those of the operation describe success, those of the token hold either way.
A refused or failed operation has the same shape as a successful one, with the outcome, its reason in words and the
request as it arrived. Written as text from templates: a model would cost forty times as much per entry.
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Final, Literal, NamedTuple

from app.audit.entry import Disclosed, Entry, Interaction
from app.vocabulary import NHS_NUMBER_SYSTEM, ODS_SYSTEM, PURPOSE_SYSTEM, Caller

_BALP: Final = "https://profiles.ihe.net/ITI/BALP/"
_PROFILE: Final = _BALP + "StructureDefinition/"
_BASIC: Final = _PROFILE + "IHE.BasicAudit."
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_REST: Final = "http://hl7.org/fhir/restful-interaction"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
_USER_AGENTS: Final = _BALP + "CodeSystem/UserAgentTypes"

Direction = Literal["out", "in", "removal", "token", "decision"]
"""Who is DICOM's source (110153) and who its destination (110152): the server of a read, the client of the rest."""


@dataclass(frozen=True, slots=True)
class NodeNames:
    """How this node appears in its own events."""

    site_ods: str
    """ODS code of the organisation that runs the node."""
    observer_system: str
    observer_value: str
    """Identifier of the node as the reporter of its events."""
    base_url: str
    """FHIR base, without a trailing slash."""
    nhs_number_system: str = NHS_NUMBER_SYSTEM


class _Shape(NamedTuple):
    action: str
    type: str
    subtypes: str
    direction: Direction
    profile: str | None
    """Last part of the BALP profile's name, without ``Patient``."""
    asks: bool
    """The event is about the question (a query entity) rather than about one resource (a data entity)."""


def _coding(system: str, code: str) -> str:
    return f'{{"system":"{system}","code":"{code}"}}'


def _rest(
    action: str, codes: tuple[str, ...], direction: Direction, profile: str | None, *, asks: bool
) -> _Shape:
    subtypes = ",".join(_coding(_REST, code) for code in codes)
    return _Shape(
        action, _coding(_TERMINOLOGY + "audit-event-type", "rest"), subtypes, direction, profile, asks
    )


_SHAPES: Final = {
    Interaction.READ: _rest("R", ("read",), "out", "Read", asks=False),
    Interaction.VREAD: _rest("R", ("vread",), "out", "Read", asks=False),
    Interaction.SEARCH: _rest("E", ("search-type",), "in", "Query", asks=True),
    Interaction.HISTORY: _rest("R", ("history",), "out", None, asks=True),
    # $everything is a query whose answer is the compartment: it claims Query beside naming the operation.
    Interaction.EVERYTHING: _rest("E", ("search", "operation"), "in", "Query", asks=True),
    Interaction.OPERATION: _rest("E", ("operation",), "in", None, asks=True),
    Interaction.CREATE: _rest("C", ("create",), "in", "Create", asks=False),
    Interaction.UPDATE: _rest("U", ("update",), "in", "Update", asks=False),
    Interaction.PATCH: _rest("U", ("patch",), "in", "Update", asks=False),
    Interaction.DELETE: _rest("D", ("delete",), "removal", "Delete", asks=False),
    Interaction.TRANSACTION: _rest("E", ("transaction",), "in", None, asks=True),
    Interaction.BATCH: _rest("E", ("batch",), "in", None, asks=True),
    Interaction.CONSENT: _Shape(
        "E",
        _coding(_DCM, "110113"),
        _coding(_BALP + "CodeSystem/AuthZsubType", "AuthZ-Consent"),
        "decision",
        "AuthZconsent",
        False,
    ),
    Interaction.AUDIT_READ: _Shape(
        "R", _coding(_DCM, "110101"), _coding(_REST, "search-type"), "out", None, False
    ),
    Interaction.TOKEN: _Shape(
        "E", _coding(_DCM, "110114"), _coding("urn:ihe:event-type-code", "ITI-71"), "token", None, True
    ),
    Interaction.ADMINISTRATION: _Shape(
        "E", _coding(_DCM, "110100"), _coding(_REST, "operation"), "in", None, True
    ),
}

_WRITES: Final = frozenset(
    {Interaction.CREATE, Interaction.UPDATE, Interaction.PATCH, Interaction.TRANSACTION, Interaction.BATCH}
)

_SOURCE, _DESTINATION, _APPLICATION = (_coding(_DCM, code) for code in ("110153", "110152", "110150"))
_USER: Final = _coding(_TERMINOLOGY + "v3-ParticipationType", "IRCP")
_AUTHOR: Final = _coding(_TERMINOLOGY + "v3-ParticipationType", "AUT")
_TOKEN_USER: Final = _coding(_USER_AGENTS, "UserOauthAgent")
_CUSTODIAN: Final = _coding(_TERMINOLOGY + "provenance-participant-type", "custodian")
_TRANSMITTER: Final = _coding(_TERMINOLOGY + "provenance-participant-type", "transmitter")
_ORGANISATION: Final = _coding(_TERMINOLOGY + "v3-RoleClass", "PROV")
_AUTHORISER: Final = _coding(_TERMINOLOGY + "extra-security-role-type", "authserver")
_TOKEN_SERVER: Final = _coding(_USER_AGENTS, "AuthzOauthService")

_CLIENT_CODINGS: Final = {
    "out": f"{_DESTINATION},{_APPLICATION}",
    "in": f"{_SOURCE},{_APPLICATION}",
    "removal": _APPLICATION,
    "token": _APPLICATION,
    "decision": _APPLICATION,
}
_SERVER_CODINGS: Final = {
    "out": _SOURCE,
    "in": _DESTINATION,
    "removal": _CUSTODIAN,
    "token": _TOKEN_SERVER,
    "decision": _AUTHORISER,
}

_PATIENT_TYPE: Final = f'"type":{_coding(_TERMINOLOGY + "audit-entity-type", "1")},"role":{_coding(_TERMINOLOGY + "object-role", "1")}'
_OBJECT_TYPE: Final = f'"type":{_coding(_TERMINOLOGY + "audit-entity-type", "2")},"role":'
_DOMAIN_RESOURCE, _QUERY, _SECURITY_RESOURCE = (
    _coding(_TERMINOLOGY + "object-role", code) for code in ("4", "24", "13")
)
_TRANSACTION_TYPE: Final = f'"type":{_coding(_BALP + "CodeSystem/BasicAuditEntityType", "XrequestId")}'
_CONSENT_TYPE: Final = '"type":{"system":"http://hl7.org/fhir/resource-types","code":"Consent"}'
_APPLICATION_SERVER: Final = _coding(_TERMINOLOGY + "security-source-type", "4")

_NOT_FHIR: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def audit_event(entry: Entry, *, node: NodeNames, recorded: datetime) -> bytes:
    """The AuditEvent of ``entry`` as UTF-8 JSON; ``recorded`` is the server's clock, aware. Never raises."""
    shape = _SHAPES[entry.interaction]
    at = _instant(recorded)
    return (
        f'{{"resourceType":"AuditEvent","id":"{entry.id}","meta":{{"versionId":"1","lastUpdated":"{at}"'
        f'{_profiles(entry, shape)}}},"type":{shape.type},"subtype":[{_subtypes(entry, shape)}],'
        f'"action":"{shape.action}","recorded":"{at}","outcome":"{entry.outcome}"{_outcome_words(entry)}'
        f'{_purpose(entry.caller, "purposeOfEvent")},"agent":[{",".join(_agents(entry, shape, node))}],'
        f'{_reporter(node)},"entity":[{",".join(_entities(entry, shape, node))}]}}'
    ).encode("ascii")


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _quoted(text: str) -> str:
    """A JSON string of FHIR's ``string`` type: what that may not hold becomes U+FFFD, so that nothing stops an entry."""
    if not text.isprintable():
        text = _NOT_FHIR.sub("\ufffd", text)
    return encode_basestring_ascii(text if text and not text.isspace() else "-")


def _profiles(entry: Entry, shape: _Shape) -> str:
    claimed = []
    if operation := _operation_profile(entry, shape):
        claimed.append(f'"{operation}"')
    if entry.caller is not None and shape.direction not in ("token", "decision"):
        claimed.append(f'"{_BASIC}OAUTHaccessTokenUse.Minimal"')
        claimed.append(f'"{_BASIC}OAUTHaccessTokenUse.Comprehensive"')
    return f',"profile":[{",".join(claimed)}]' if claimed else ""


def _operation_profile(entry: Entry, shape: _Shape) -> str | None:
    """The profile of the operation itself, if this event meets it."""
    if shape.direction == "token":
        return _PROFILE + "IHE.IUA.71" if entry.outcome == "0" else None
    if shape.direction == "decision":
        complete = entry.caller is not None and entry.patient_reference is not None and entry.basis
        return _BASIC + "AuthZconsent" if complete else None
    if shape.profile is None or entry.outcome != "0" or not (shape.asks or entry.resources):
        return None
    return f"{_BASIC}{'Patient' if entry.patient_reference else ''}{shape.profile}"


def _subtypes(entry: Entry, shape: _Shape) -> str:
    if shape.direction == "token" and entry.outcome != "0":
        return _coding(_DCM, "110122")
    return shape.subtypes


def _outcome_words(entry: Entry) -> str:
    return f',"outcomeDesc":{_quoted(entry.description)}' if entry.description else ""


def _purpose(caller: Caller | None, element: str) -> str:
    if caller is None:
        return ""
    coding = f'"coding":[{_coding(PURPOSE_SYSTEM, caller.purpose.value)}]'
    reason = caller.emergency
    words = f',"text":{_quoted(f"{reason.code}: {reason.text}")}' if reason is not None else ""
    return f',"{element}":[{{{coding}{words}}}]'


# Agents: who took part.


def _agents(entry: Entry, shape: _Shape, node: NodeNames) -> list[str]:
    caller, direction = entry.caller, shape.direction
    agents = [_server(node, direction), _client(entry, direction)]
    if caller is None:
        return agents
    if direction == "token":
        return agents if caller.subject == caller.client_id else [*agents, _user(caller, _USER, plain=True)]
    codings = f"{_AUTHOR},{_USER}" if direction == "removal" or entry.interaction in _WRITES else _USER
    agents.append(_user(caller, codings, plain=direction == "decision"))
    agents.append(_organisation(caller))
    if caller.via is not None and direction != "decision":
        agents.append(
            f'{{"type":{{"coding":[{_TRANSMITTER}]}},"who":{{"type":"Device","identifier":'
            f'{{"value":{_quoted(caller.via)}}}}},"requestor":false}}'
        )
    return agents


@lru_cache(maxsize=64)
def _server(node: NodeNames, direction: Direction) -> str:
    network = f',"network":{{"address":{_quoted(node.base_url)},"type":"5"}}'
    return (
        f'{{"type":{{"coding":[{_SERVER_CODINGS[direction]}]}},"who":{_observer(node)},"requestor":false'
        f"{'' if direction == 'decision' else network}}}"
    )


@lru_cache(maxsize=16)
def _observer(node: NodeNames) -> str:
    system, value = _quoted(node.observer_system), _quoted(node.observer_value)
    return f'{{"type":"Device","identifier":{{"system":{system},"value":{value}}},"display":{value}}}'


@lru_cache(maxsize=16)
def _reporter(node: NodeNames) -> str:
    return f'"source":{{"site":{_quoted(node.site_ods)},"observer":{_observer(node)},"type":[{_APPLICATION_SERVER}]}}'


def _client(entry: Entry, direction: Direction) -> str:
    if entry.caller is None:
        who = '"display":"not known: no valid token was shown"'
    else:
        who = f'"type":"Device","identifier":{{"value":{_quoted(entry.caller.client_id)}}}'
    address = entry.request.client_address or "unknown"
    # R4 network-type: 2 is an IP address, 1 a machine's name.
    kind = "2" if address[-1] in "0123456789abcdef:" and ("." in address or ":" in address) else "1"
    return (
        f'{{"type":{{"coding":[{_CLIENT_CODINGS[direction]}]}},"who":{{{who}}},"requestor":false,'
        f'"network":{{"address":{_quoted(address)},"type":"{kind}"}}}}'
    )


def _user(caller: Caller, codings: str, *, plain: bool) -> str:
    """``plain``: without what AuthZconsent and the token profile forbid (altId, the token's own coding)."""
    system = f'"system":{_quoted(caller.issuer)},' if caller.issuer else ""
    kind = "Practitioner" if caller.practitioner else "Device" if caller.subject == caller.client_id else ""
    who = f'"type":"{kind}",' if kind else ""
    name = caller.name
    roles = f',"role":[{",".join(_role(role) for role in caller.roles)}]' if caller.roles else ""
    alternative = f',"altId":{_quoted(caller.practitioner)}' if caller.practitioner and not plain else ""
    return (
        f'{{"type":{{"coding":[{codings if plain else f"{codings},{_TOKEN_USER}"}]}}{roles},'
        f'"who":{{{who}"identifier":{{{system}"value":{_quoted(caller.subject)}}}}}{alternative}'
        f"{f',"name":{_quoted(name)}' if name else ''},"
        f'"requestor":true,"policy":[{_quoted(f"urn:ietf:params:oauth:jti:{caller.token_id}")}]'
        f"{_purpose(caller, 'purposeOfUse')}}}"
    )


def _role(role: str) -> str:
    system, bar, code = role.rpartition("|")
    if bar and system and code:
        return f'{{"coding":[{{"system":{_quoted(system)},"code":{_quoted(code)}}}]}}'
    return f'{{"text":{_quoted(role)}}}'


def _organisation(caller: Caller) -> str:
    name = caller.organisation_name
    return (
        f'{{"type":{{"coding":[{_ORGANISATION}]}},"who":{{"type":"Organization","identifier":'
        f'{{"system":"{ODS_SYSTEM}","value":{_quoted(caller.organisation)}}}'
        f'{f",{_display(name)}" if name else ""}}},"requestor":false}}'
    )


def _display(text: str) -> str:
    return f'"display":{_quoted(text)}'


# Entities: what it was about.


def _entities(entry: Entry, shape: _Shape, node: NodeNames) -> list[str]:
    if shape.direction == "decision":
        return _decision_entities(entry, node)
    if shape.direction == "token":
        return [_question(entry, _traced(entry))]
    entities = []
    if entry.patient_reference is not None:
        entities.append(_patient(entry, node, detailed=True))
    rest = entry.resources
    if entry.interaction is Interaction.AUDIT_READ:
        entities.append(_log_read(entry, node))
    elif shape.asks or not rest or entry.outcome != "0":
        entities.append(_question(entry))
    else:
        entities.append(
            f'{{"what":{{"reference":{_quoted(rest[0].reference)}}},{_OBJECT_TYPE}{_DOMAIN_RESOURCE}{_labels(rest[0])}}}'
        )
        rest = rest[1:]
    entities.extend(_released(resource) for resource in rest)
    entities.append(_transaction(entry))
    entities.extend(_basis(basis) for basis in entry.basis)
    return entities


def _decision_entities(entry: Entry, node: NodeNames) -> list[str]:
    """AuthZconsent closes the slicing: patient, consents and token, nothing else."""
    entities = [] if entry.patient_reference is None else [_patient(entry, node, detailed=True)]
    entities.extend(_basis(basis) for basis in entry.basis)
    if entry.caller is not None:
        entities.append(
            f'{{"what":{{"identifier":{{"value":{_quoted(entry.caller.token_id)}}}}},"type":{_TOKEN_USER}}}'
        )
    return entities or [_question(entry)]


def _patient(entry: Entry, node: NodeNames, *, detailed: bool) -> str:
    number = entry.nhs_number
    identifier = (
        f',"identifier":{{"system":{_quoted(node.nhs_number_system)},"value":"{number.digits}"}}'
        if number is not None
        else ""
    )
    detail = _details(entry) if detailed else ""
    return f'{{"what":{{"reference":{_quoted(entry.patient_reference or "")}{identifier}}},{_PATIENT_TYPE}{detail}}}'


def _question(entry: Entry, detail: str = "") -> str:
    request = entry.request
    raw = f"{request.method} {request.target}\r\nAccept: {request.accept}\r\n".encode(errors="replace")
    return (
        f'{{{_OBJECT_TYPE}{_QUERY},"description":{_quoted(request.target)},'
        f'"query":"{b64encode(raw).decode()}"{detail}}}'
    )


def _log_read(entry: Entry, node: NodeNames) -> str:
    return (
        f'{{"what":{{"reference":{_quoted(node.base_url + "/AuditEvent")}}},{_OBJECT_TYPE}{_SECURITY_RESOURCE},'
        f'"name":"Security Audit Log","description":{_quoted(entry.request.target)}}}'
    )


def _released(resource: Disclosed) -> str:
    """A resource of a longer answer. Its entity type is its own, because BALP counts the objects of type 2."""
    kind = resource.reference.partition("/")[0]
    return (
        f'{{"what":{{"reference":{_quoted(resource.reference)}}},'
        f'"type":{{"system":"http://hl7.org/fhir/resource-types","code":{_quoted(kind)}}},'
        f'"role":{_DOMAIN_RESOURCE}{_labels(resource)}}}'
    )


def _labels(resource: Disclosed) -> str:
    if not resource.labels:
        return ""
    codings = (f'{{"system":{_quoted(system)},"code":{_quoted(code)}}}' for system, code in resource.labels)
    return f',"securityLabel":[{",".join(codings)}]'


def _transaction(entry: Entry) -> str:
    request = entry.request
    detail = _traced(entry) if entry.patient_reference is not None else _details(entry, request.trace_id)
    value = _quoted(request.request_id or request.trace_id)
    return f'{{"what":{{"identifier":{{"value":{value}}}}},{_TRANSACTION_TYPE}{detail}}}'


def _traced(entry: Entry) -> str:
    return f',"detail":[{_detail("trace-id", entry.request.trace_id)}]'


def _details(entry: Entry, trace: str | None = None) -> str:
    """The decision's id and the manifest's lines; on the patient's entity, or failing that on the transaction's."""
    found = [_detail("source", line) for line in entry.sources]
    if entry.decision_id is not None:
        found.insert(0, _detail("decision", entry.decision_id))
    if trace is not None:
        found.insert(0, _detail("trace-id", trace))
    return f',"detail":[{",".join(found)}]' if found else ""


def _detail(kind: str, value: str) -> str:
    return f'{{"type":"{kind}","valueString":{_quoted(value)}}}'


def _basis(basis: str) -> str:
    uri, bar, version = basis.rpartition("|")
    if bar:
        what = f'{{"type":"Consent","identifier":{{"system":{_quoted(uri)},"value":{_quoted(version)}}}}}'
    elif "/" in basis:
        what = f'{{"reference":{_quoted(basis)},"type":"Consent"}}'
    else:
        what = f'{{"type":"Consent","identifier":{{"value":{_quoted(basis)}}}}}'
    return f'{{"what":{what},{_CONSENT_TYPE}}}'
