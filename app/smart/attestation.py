"""What an authenticated client attests beside itself: the user, their role, why they ask, for whom they ask.

IHE IUA's names under ``extensions.ihe_iua`` of the assertion (ITI TF Supplement IUA, 3.71.4.1.2.1). The purpose and
the reason of an emergency may also come as form parameters. A node that passes on another's question says whose
under ``extensions.candour_on_behalf_of``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.smart.oauth import OAuthError
from app.vocabulary import PURPOSE_SYSTEM, Caller, EmergencyReason, OdsCode, PurposeOfUse, ods_code

ON_BEHALF_OF = "candour_on_behalf_of"

_PURPOSE_SYSTEMS = (PURPOSE_SYSTEM, "urn:oid:2.16.840.1.113883.5.8", "2.16.840.1.113883.5.8", None)
_EMERGENCY = ("emergency_reason_code", "emergency_reason_text", "patient")
_MOST_ROLES = 20
_LONGEST = 200
_LONGEST_REASON = 1000


@dataclass(frozen=True, slots=True)
class OnBehalfOf:
    """Whose question a node passes on, as that node's own token endpoint knew them."""

    subject: str
    organisation: OdsCode
    organisation_name: str


@dataclass(frozen=True, slots=True)
class Attestation:
    """Not yet checked against what the client is registered for."""

    purpose: PurposeOfUse | None = None
    name: str = ""
    roles: tuple[str, ...] = ()
    practitioner: str = ""
    emergency: EmergencyReason | None = None
    on_behalf_of: OnBehalfOf | None = None


def read_attestation(claims: Mapping[str, Any], form: Mapping[str, str]) -> Attestation:
    """What the verified claims and the form say. Raises OAuthError."""
    extensions = _object(claims, "extensions")
    attested = _object(extensions, "ihe_iua")
    if ON_BEHALF_OF in extensions:
        return _passed_on(_object(extensions, ON_BEHALF_OF), attested, form)
    return Attestation(
        purpose=_purpose(_one(attested, form, "purpose_of_use")),
        name=_text(attested, "subject_name"),
        roles=_roles(attested, "subject_role"),
        practitioner=_identifier(attested, "practitioner"),
        emergency=_emergency(attested, form),
    )


def passing_on(caller: Caller) -> dict[str, Any]:
    """``extensions`` of the assertion by which this node asks another for ``caller``."""
    whose: dict[str, Any] = {
        "sub": caller.subject,
        "client_id": caller.client_id,
        "organisation": caller.organisation,
        "organisation_name": caller.organisation_name,
        "purpose": caller.purpose.value,
        "name": caller.name,
        "roles": list(caller.roles),
        "practitioner": caller.practitioner,
    }
    if caller.emergency is not None:
        reason = caller.emergency
        whose["emergency"] = {
            "emergency_reason_code": reason.code,
            "emergency_reason_text": reason.text,
            "patient": reason.patient_identifier,
        }
    return {ON_BEHALF_OF: whose}


def _passed_on(whose: Mapping[str, Any], attested: Mapping[str, Any], form: Mapping[str, str]) -> Attestation:
    if attested or not form.keys().isdisjoint(("purpose_of_use", *_EMERGENCY)):
        raise OAuthError(
            "invalid_request", f"With '{ON_BEHALF_OF}' say who asks and why there, and nowhere else."
        )
    return Attestation(
        purpose=_purpose(whose.get("purpose")),
        name=_text(whose, "name"),
        roles=_roles(whose, "roles"),
        practitioner=_identifier(whose, "practitioner"),
        emergency=_emergency(_object(whose, "emergency"), {}),
        on_behalf_of=OnBehalfOf(
            subject=_text(whose, "sub", needed=True),
            organisation=_organisation(whose),
            organisation_name=_text(whose, "organisation_name"),
        ),
    )


def _one(attested: Mapping[str, Any], form: Mapping[str, str], name: str) -> object:
    """What the form or the assertion says; both may only say the same."""
    if name not in form:
        return attested.get(name)
    if name in attested and attested[name] not in (form[name], [form[name]]):
        raise OAuthError("invalid_request", f"'{name}' differs between the form and the assertion.")
    return form[name]


def _purpose(given: object) -> PurposeOfUse | None:
    """Exactly one code of HL7 v3 ActReason: a text, a coding, or an array of one of them."""
    if given is None:
        return None
    if isinstance(given, list):
        if len(given) != 1:
            raise OAuthError("invalid_request", "'purpose_of_use' must hold exactly one purpose.")
        given = given[0]
    if isinstance(given, dict):
        given = given.get("code") if given.get("system") in _PURPOSE_SYSTEMS else None
    try:
        return PurposeOfUse(given if isinstance(given, str) else "")
    except ValueError as error:
        known = ", ".join(PurposeOfUse)
        raise OAuthError("invalid_request", f"'purpose_of_use' must be one of {known}.") from error


def _roles(members: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Each a code, or a coding that becomes ``system|code``."""
    given = members.get(name, [])
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or len(given) > _MOST_ROLES:
        raise OAuthError("invalid_request", f"'{name}' must be an array of at most {_MOST_ROLES} codes.")
    return tuple(_role(role, name) for role in given)


def _role(given: object, name: str) -> str:
    if isinstance(given, dict):
        system, code = given.get("system", ""), given.get("code", "")
        given = f"{system}|{code}" if system and code else code
    if not isinstance(given, str) or not 0 < len(given) <= _LONGEST:
        raise OAuthError("invalid_request", f"'{name}' holds something that is not a code.")
    return given


def _emergency(attested: Mapping[str, Any], form: Mapping[str, str]) -> EmergencyReason | None:
    """All three members or none: an override says why, and for which one person."""
    members = {name: _one(attested, form, name) for name in _EMERGENCY}
    given = {name: value for name, value in members.items() if value is not None}
    if not given:
        return None
    return EmergencyReason(
        patient_identifier=_identifier(given, "patient", needed=True),
        code=_text(given, "emergency_reason_code", needed=True),
        text=_text(given, "emergency_reason_text", needed=True, longest=_LONGEST_REASON),
    )


def _identifier(members: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    text = _text(members, name, needed=needed)
    system, _, value = text.partition("|")
    if text and not (system and value):
        raise OAuthError("invalid_request", f"'{name}' must be an identifier as system|value.")
    return text


def _organisation(whose: Mapping[str, Any]) -> OdsCode:
    try:
        return ods_code(_text(whose, "organisation", needed=True))
    except ValueError as error:
        raise OAuthError("invalid_request", "'organisation' must be an ODS code.") from error


def _object(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = members.get(name, {})
    if not isinstance(value, dict):
        raise OAuthError("invalid_request", f"'{name}' must be a JSON object.")
    return value


def _text(members: Mapping[str, Any], name: str, *, needed: bool = False, longest: int = _LONGEST) -> str:
    value = members.get(name, "")
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise OAuthError(
            "invalid_request", f"'{name}' must be a text of at most {longest} printable characters."
        )
    if needed and not value.strip():
        raise OAuthError("invalid_request", f"'{name}' is missing.")
    return value
