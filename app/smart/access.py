"""What an access token says: a Caller as the claims of RFC 9068, with IHE IUA's extension, and back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from app.errors import NotAuthenticated
from app.smart.jose import Demands
from app.vocabulary import Caller, EmergencyReason, PurposeOfUse, ods_code

TYPE = "at+jwt"
LONGEST_LIFETIME = timedelta(seconds=300)
"""SMART Backend Services: ``expires_in`` SHOULD NOT exceed 300 seconds."""

_LEEWAY = timedelta(seconds=5)  # between the clocks of this node's own processes


def demands(issuer: str, audience: str) -> Demands:
    """What this node asks of an access token: its own issue, for this FHIR base, of this type only."""
    return Demands(
        types=(TYPE,), audiences=(audience,), max_lifetime=LONGEST_LIFETIME, leeway=_LEEWAY, issuer=issuer
    )


def claims_of(caller: Caller, audience: str, *, issued_at: datetime) -> dict[str, Any]:
    """The claims of ``caller``'s token. ``caller`` brings ``token_id``, ``issuer`` and ``expires_at``."""
    claims: dict[str, Any] = {
        "iss": caller.issuer,
        "sub": caller.subject,
        "aud": audience,
        "exp": int(caller.expires_at.timestamp()),
        "iat": int(issued_at.timestamp()),
        "jti": caller.token_id,
        "client_id": caller.client_id,
        "scope": " ".join(caller.scopes),
        "extensions": {"ihe_iua": _iua(caller)},
    }
    if caller.via is not None:
        claims["act"] = {"sub": caller.via}
    if caller.emergency is not None:
        reason = caller.emergency
        claims["extensions"]["candour_emergency"] = [reason.patient_identifier, reason.code, reason.text]
    return claims


def caller_of(claims: Mapping[str, Any]) -> Caller:
    """The caller whom verified claims name. Raises NotAuthenticated when they are of another making."""
    try:
        return _caller(claims)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotAuthenticated(
            "The token was not made by this version of the service; ask for a new one."
        ) from error


def _iua(caller: Caller) -> dict[str, Any]:
    iua: dict[str, Any] = {
        "subject_organization_id": caller.organisation,
        "subject_organization": caller.organisation_name,
        "subject_name": caller.name,
        "subject_role": list(caller.roles),
        "purpose_of_use": [caller.purpose.value],
        "practitioner": caller.practitioner,
    }
    return {name: value for name, value in iua.items() if value}


def _caller(claims: Mapping[str, Any]) -> Caller:
    iua = claims["extensions"]["ihe_iua"]
    (purpose,) = iua["purpose_of_use"]
    emergency = claims["extensions"].get("candour_emergency")
    caller = Caller(
        subject=claims["sub"],
        client_id=claims["client_id"],
        organisation=ods_code(iua["subject_organization_id"]),
        purpose=PurposeOfUse(purpose),
        scopes=tuple(claims["scope"].split(" ")),
        token_id=claims["jti"],
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        organisation_name=iua.get("subject_organization", ""),
        name=iua.get("subject_name", ""),
        roles=tuple(iua.get("subject_role", ())),
        practitioner=iua.get("practitioner", ""),
        via=claims["act"]["sub"] if "act" in claims else None,
        issuer=claims["iss"],
    )
    return caller if emergency is None else replace(caller, emergency=EmergencyReason(*emergency))
