"""The body of an entry: a FHIR R4 AuditEvent in the shapes of IHE BALP 1.1.4 (see ``balp``).

A profile is claimed only where it holds: those of the operation describe success, those of the token hold
either way. A refused or failed operation has the same shape as a successful one, with the outcome, its
reason in words and the request as it arrived. Written as text from templates: a model would cost forty
times as much.
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Final
from urllib.parse import quote

from app.audit.balp import (
    APPLICATION_SERVER,
    AUTHOR,
    BASIC,
    CLIENT_CODINGS,
    CONSENT_TYPE,
    DCM,
    DISCLOSURE,
    DOMAIN_RESOURCE,
    OBJECT_TYPE,
    ORGANISATION,
    PATIENT_TYPE,
    PROFILE,
    QUERY,
    SECURITY_RESOURCE,
    SERVER_CODINGS,
    SHAPES,
    TOKEN_USER,
    TRANSACTION_TYPE,
    TRANSMITTER,
    USER,
    WRITES,
    Direction,
    Shape,
    coding,
)
from app.audit.entry import Disclosed, Entry, Interaction
from app.vocabulary import NHS_NUMBER_SYSTEM, ODS_SYSTEM, PURPOSE_SYSTEM, Caller


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


_NOT_FHIR: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_URI: Final = re.compile(r"[!-~]+")
_CODE: Final = re.compile(r"[!-~]+( [!-~]+)*")


def audit_event(entry: Entry, *, node: NodeNames, recorded: datetime) -> bytes:
    """The AuditEvent of ``entry`` as UTF-8 JSON; ``recorded`` is the server's clock, aware. Never raises."""
    shape = SHAPES[entry.interaction]
    at = _instant(recorded)
    return (
        f'{{"resourceType":"AuditEvent","id":"{entry.id}","meta":{{"versionId":"1","lastUpdated":"{at}"'
        f'{_profiles(entry, shape)}}},"type":{shape.type},"subtype":[{_subtypes(entry, shape)}],'
        f'"action":"{shape.action}","recorded":"{at}","outcome":"{entry.outcome}"{_outcome_words(entry)}'
        f"{_involved(entry.caller, entry.request.client_address, entry.interaction, node)},"
        f'"entity":[{",".join(_entities(entry, shape, node))}]}}'
    ).encode("ascii")


def _instant(at: datetime) -> str:
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat(timespec="milliseconds")


def _quoted(text: str) -> str:
    """A JSON string of FHIR's ``string`` type. What that may not hold is replaced: nothing stops an entry."""
    if not text.isprintable():
        text = _NOT_FHIR.sub("\ufffd", text)
    return encode_basestring_ascii(text if text and not text.isspace() else "-")


def _profiles(entry: Entry, shape: Shape) -> str:
    return _claimed(
        shape,
        entry.outcome,
        known=entry.caller is not None,
        patient=entry.patient_reference is not None,
        resources=bool(entry.resources),
        basis=bool(entry.basis),
    )


@lru_cache
def _claimed(shape: Shape, outcome: str, *, known: bool, patient: bool, resources: bool, basis: bool) -> str:
    """``meta.profile``: the profile of the operation, if this event meets it, and those of the token's use."""
    claimed = []
    if shape.direction == "token":
        claimed += [PROFILE + "IHE.IUA.71"] if outcome == "0" else []
    elif shape.direction == "decision":
        claimed += [BASIC + "AuthZconsent"] if known and patient and basis else []
    elif shape.profile == DISCLOSURE:
        claimed += [BASIC + DISCLOSURE] if outcome == "0" and patient and resources else []
    elif shape.profile is not None and outcome == "0" and (shape.asks or resources):
        claimed.append(f"{BASIC}{'Patient' if patient else ''}{shape.profile}")
    if known and shape.direction not in ("token", "decision"):
        claimed += [BASIC + "OAUTHaccessTokenUse.Minimal", BASIC + "OAUTHaccessTokenUse.Comprehensive"]
    written = ",".join(f'"{profile}"' for profile in claimed)
    return f',"profile":[{written}]' if claimed else ""


def _subtypes(entry: Entry, shape: Shape) -> str:
    if shape.direction == "token" and entry.outcome != "0":
        return coding(DCM, "110122")
    return shape.subtypes


def _outcome_words(entry: Entry) -> str:
    return f',"outcomeDesc":{_quoted(entry.description)}' if entry.description else ""


def _purpose(caller: Caller | None, element: str) -> str:
    if caller is None:
        return ""
    code = coding(PURPOSE_SYSTEM, caller.purpose.value)
    reason = caller.emergency
    words = f',"text":{_quoted(f"{reason.code}: {reason.text}")}' if reason is not None else ""
    return f',"{element}":[{{"coding":[{code}]{words}}}]'


# Agents: who took part.


@lru_cache(maxsize=4096)
def _involved(caller: Caller | None, address: str, interaction: Interaction, node: NodeNames) -> str:
    """Why, who took part and who reports it: the same for everything that one token does from one place."""
    agents = _agents(caller, address, interaction, node)
    return f'{_purpose(caller, "purposeOfEvent")},"agent":[{",".join(agents)}],{_reporter(node)}'


def _agents(caller: Caller | None, address: str, interaction: Interaction, node: NodeNames) -> list[str]:
    direction = SHAPES[interaction].direction
    agents = [_server(node, direction), _client(caller, address, direction)]
    if caller is None:
        return agents
    if direction == "token":
        return agents if caller.subject == caller.client_id else [*agents, _user(caller, USER, plain=True)]
    codings = f"{AUTHOR},{USER}" if direction == "removal" or interaction in WRITES else USER
    agents.append(_user(caller, codings, plain=direction == "decision"))
    agents.append(_organisation(caller.organisation, caller.organisation_name))
    if caller.via is not None and direction != "decision":
        agents.append(
            f'{{"type":{{"coding":[{TRANSMITTER}]}},"who":{{"type":"Device","identifier":'
            f'{{"value":{_quoted(caller.via)}}}}},"requestor":false}}'
        )
    return agents


def _server(node: NodeNames, direction: Direction) -> str:
    network = f',"network":{{"address":{_quoted(node.base_url)},"type":"5"}}'
    return (
        f'{{"type":{{"coding":[{SERVER_CODINGS[direction]}]}},"who":{_observer(node)},"requestor":false'
        f"{'' if direction == 'decision' else network}}}"
    )


def _observer(node: NodeNames) -> str:
    system, value = _quoted(node.observer_system), _quoted(node.observer_value)
    return f'{{"type":"Device","identifier":{{"system":{system},"value":{value}}},"display":{value}}}'


def _reporter(node: NodeNames) -> str:
    site = _quoted(node.site_ods)
    return f'"source":{{"site":{site},"observer":{_observer(node)},"type":[{APPLICATION_SERVER}]}}'


def _client(caller: Caller | None, address: str, direction: Direction) -> str:
    if caller is None:
        who = '"display":"not known: no valid token was shown"'
    else:
        who = f'"type":"Device","identifier":{{"value":{_quoted(caller.client_id)}}}'
    address = address or "unknown"
    # R4 network-type: 2 is an IP address, 1 a machine's name.
    kind = "2" if address[-1] in "0123456789abcdef:" and ("." in address or ":" in address) else "1"
    return (
        f'{{"type":{{"coding":[{CLIENT_CODINGS[direction]}]}},"who":{{{who}}},"requestor":false,'
        f'"network":{{"address":{_quoted(address)},"type":"{kind}"}}}}'
    )


def _user(caller: Caller, codings: str, *, plain: bool) -> str:
    """``plain``: without what AuthZconsent and the token profile forbid (altId, the token's own coding)."""
    system = f'"system":{_quoted(caller.issuer)},' if caller.issuer else ""
    kind = "Practitioner" if caller.practitioner else "Device" if caller.subject == caller.client_id else ""
    who = f'"type":"{kind}",' if kind else ""
    name = f',"name":{_quoted(caller.name)}' if caller.name else ""
    roles = f',"role":[{",".join(_role(role) for role in caller.roles)}]' if caller.roles else ""
    alternative = f',"altId":{_quoted(caller.practitioner)}' if caller.practitioner and not plain else ""
    return (
        f'{{"type":{{"coding":[{codings if plain else f"{codings},{TOKEN_USER}"}]}}{roles},'
        f'"who":{{{who}"identifier":{{{system}"value":{_quoted(caller.subject)}}}}}{alternative}{name}'
        f',"requestor":true,"policy":[{_quoted(_token_urn(caller.token_id))}]'
        f"{_purpose(caller, 'purposeOfUse')}}}"
    )


def _token_urn(token_id: str) -> str:
    """``policy`` is a URI: what a URI cannot hold is percent-encoded."""
    plain = _URI.fullmatch(token_id) is not None
    return "urn:ietf:params:oauth:jti:" + (token_id if plain else quote(token_id, errors="replace"))


def _role(role: str) -> str:
    system, _, code = role.rpartition("|")
    if _URI.fullmatch(system) and _CODE.fullmatch(code):
        return f'{{"coding":[{{"system":{_quoted(system)},"code":{_quoted(code)}}}]}}'
    return f'{{"text":{_quoted(role)}}}'


def _organisation(code: str, name: str) -> str:
    display = f',"display":{_quoted(name)}' if name else ""
    return (
        f'{{"type":{{"coding":[{ORGANISATION}]}},"who":{{"type":"Organization","identifier":'
        f'{{"system":"{ODS_SYSTEM}","value":{_quoted(code)}}}'
        f'{display}}},"requestor":false}}'
    )


# Entities: what it was about.


def _entities(entry: Entry, shape: Shape, node: NodeNames) -> list[str]:
    if shape.direction == "decision":
        return _decision_entities(entry, node)
    if shape.direction == "token":
        return [_question(entry, _traced(entry))]
    entities = []
    if entry.patient_reference is not None:
        entities.append(_patient(entry, node, _details(entry)))
    rest = entry.resources
    if entry.interaction is Interaction.AUDIT_READ:
        entities.append(_log_read(entry, node))
    elif shape.asks or not rest or entry.outcome != "0":
        entities.append(_question(entry))
    else:
        entities.append(
            f'{{"what":{{"reference":{_quoted(rest[0].reference)}}},{OBJECT_TYPE}{DOMAIN_RESOURCE}{_labels(rest[0])}}}'
        )
        rest = rest[1:]
    entities.extend(_released(resource) for resource in rest)
    entities.append(_transaction(entry))
    entities.extend(_basis(basis) for basis in entry.basis)
    return entities


def _decision_entities(entry: Entry, node: NodeNames) -> list[str]:
    """AuthZconsent closes the slicing: patient, consents and token, nothing else."""
    if entry.patient_reference is None:
        entities = [_question(entry, _traced(entry))]  # and then the profile is not claimed
    else:
        entities = [_patient(entry, node, _details(entry, entry.request.trace_id))]
    entities.extend(_basis(basis) for basis in entry.basis)
    if entry.caller is not None:
        entities.append(
            f'{{"what":{{"identifier":{{"value":{_quoted(entry.caller.token_id)}}}}},"type":{TOKEN_USER}}}'
        )
    return entities


def _patient(entry: Entry, node: NodeNames, detail: str) -> str:
    number = entry.nhs_number
    identifier = ""
    if number is not None:
        identifier = f',"identifier":{{"system":{_quoted(node.nhs_number_system)},"value":"{number.digits}"}}'
    reference = _quoted(entry.patient_reference or "")
    return f'{{"what":{{"reference":{reference}{identifier}}},{PATIENT_TYPE}{detail}}}'


def _question(entry: Entry, detail: str = "") -> str:
    request = entry.request
    raw = f"{request.method} {request.target}\r\nAccept: {request.accept}\r\n".encode(errors="replace")
    return (
        f'{{{OBJECT_TYPE}{QUERY},"description":{_quoted(request.target)},'
        f'"query":"{b64encode(raw).decode()}"{detail}}}'
    )


def _log_read(entry: Entry, node: NodeNames) -> str:
    log = _quoted(node.base_url + "/AuditEvent")
    return (
        f'{{"what":{{"reference":{log}}},{OBJECT_TYPE}{SECURITY_RESOURCE},'
        f'"name":"Security Audit Log","description":{_quoted(entry.request.target)}}}'
    )


def _released(resource: Disclosed) -> str:
    """A resource of a longer answer. Its entity type is its own: BALP counts the objects of type 2."""
    around = _released_as(resource.reference.partition("/")[0])
    return f'{{"what":{{"reference":{_quoted(resource.reference)}}}{around}{_labels(resource)}}}'


@lru_cache(maxsize=1024)
def _released_as(kind: str) -> str:
    return (
        f',"type":{{"system":"http://hl7.org/fhir/resource-types","code":{_quoted(kind)}}}'
        f',"role":{DOMAIN_RESOURCE}'
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
    return f'{{"what":{{"identifier":{{"value":{value}}}}},{TRANSACTION_TYPE}{detail}}}'


def _traced(entry: Entry) -> str:
    return f',"detail":[{_detail("trace-id", entry.request.trace_id)}]'


def _details(entry: Entry, trace: str | None = None) -> str:
    """The decision's id and the manifest's lines; on the patient's entity, or else on the transaction's."""
    found = [_detail("source", line) for line in entry.sources]
    if entry.decision_id is not None:
        found.insert(0, _detail("decision", entry.decision_id))
    if trace is not None:
        found.insert(0, _detail("trace-id", trace))
    return f',"detail":[{",".join(found)}]' if found else ""


def _detail(kind: str, value: str) -> str:
    return f'{{"type":"{kind}","valueString":{_quoted(value)}}}'


@lru_cache(maxsize=4096)
def _basis(basis: str) -> str:
    uri, bar, version = basis.rpartition("|")
    if bar:
        what = f'{{"type":"Consent","identifier":{{"system":{_quoted(uri)},"value":{_quoted(version)}}}}}'
    elif "/" in basis:
        what = f'{{"reference":{_quoted(basis)},"type":"Consent"}}'
    else:
        what = f'{{"type":"Consent","identifier":{{"value":{_quoted(basis)}}}}}'
    return f'{{"what":{what},{CONSENT_TYPE}}}'
