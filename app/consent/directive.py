"""FHIR Consent to directive: every word is understood at the write, or the Consent is refused (R4 Consent; IHE PCF).

Nothing is left to be found out when somebody asks for the record.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from app.consent.provision import ACTIVE, DELETED, PRIVACY, Directive, Effect, Provision
from app.consent.reading import Reader
from app.consent.stored import from_json, to_json
from app.errors import InvalidResource, Issue
from app.fhir.civil import interval
from app.fhir.systems import ACT_CODE, canonical_system

__all__ = ["ACTIVE", "DELETED", "PRIVACY", "Directive", "from_json", "normalise", "references_in", "to_json"]

DEEPEST: Final = 8
"""Levels of provisions, the root among them."""
MOST_PROVISIONS: Final = 256
MOST_VALUES: Final = 4_096
"""Actors, codes, labels and the like in one Consent."""

_SCOPES: Final = frozenset({PRIVACY, "research", "treatment", "adr"})
_OPT: Final = {
    "OPTIN": Effect.PERMIT,
    "OPTINR": Effect.PERMIT,
    "OPTOUT": Effect.DENY,
    "OPTOUTE": Effect.DENY,
}
_LISTS: Final = ("actor", "action", "securityLabel", "purpose", "class", "code", "data")
_ELEMENTS: Final = frozenset({"type", "period", "dataPeriod", "provision", *_LISTS})
_CLOCKS_DIFFER: Final = timedelta(days=1)


def normalise(
    consent: Mapping[str, Any],
    *,
    version: int,
    server_time: datetime,
    base_url: str = "",
    resolve: Mapping[str, Collection[str]] | None = None,
    refers_to: Mapping[str, Collection[str]] | None = None,
) -> Directive:
    """The directive of one version of a Consent, kept at ``server_time``.

    ``resolve`` gives, for a ``Type/id`` of ``references_in(consent)``, the identifiers (``system|value``) of whoever
    it is, ``refers_to`` the references out of it. Who is not resolved is unknown: a denial applies to everyone they
    might be, a permission to nobody else. Raises InvalidResource with an issue for every element that cannot be
    understood; a Consent that is not active is never refused, for it has no effect.
    """
    base = base_url.rstrip("/") + "/" if base_url else ""
    reader = Reader(base, resolve or {}, refers_to or {}, _contained(consent), _claims_ihe(consent))
    status = str(consent.get("status", ""))
    if status != ACTIVE:
        rule = Provision(Effect.DENY, "Consent.provision")
        scope = _scope(consent, Reader(base, {}, {}, {}, as_ihe=False))
    else:
        _limits(consent)
        rule, scope = _root(consent, reader), _scope(consent, reader)
        _understood(consent, reader)
    recorded_at = _recorded_at(consent, server_time, reader)
    if reader.issues and status == ACTIVE:
        raise InvalidResource(reader.issues)
    return Directive(
        consent_id=str(consent.get("id", "")),
        version=version,
        status=status,
        scope=scope,
        slot=_slot(consent, scope, reader),
        recorded_at=recorded_at,
        server_time=server_time,
        rule=rule,
    )


def references_in(consent: Mapping[str, Any]) -> tuple[str, ...]:
    """Every literal reference of an actor or of data, as written: what ``normalise`` would have resolved."""
    found = {
        reference
        for _, provision in _provisions(consent)
        for name in ("actor", "data")
        for one in _listed(provision.get(name))
        if isinstance(one, dict) and isinstance(one.get("reference"), dict)
        if isinstance(reference := one["reference"].get("reference"), str) and not reference.startswith("#")
    }
    return tuple(sorted(found))


def _limits(consent: Mapping[str, Any]) -> None:
    """Refuses at once what is too large to be weighed in microseconds at every read."""
    values = 0
    for count, (level, provision) in enumerate(_provisions(consent), start=1):
        values += sum(len(_listed(provision.get(name))) for name in _LISTS)
        if level > DEEPEST:
            raise _too_large(f"Provisions may be nested {DEEPEST} deep.")
        if count > MOST_PROVISIONS:
            raise _too_large(f"A Consent may have {MOST_PROVISIONS} provisions.")
        if values > MOST_VALUES:
            raise _too_large(f"A Consent may name {MOST_VALUES} actors, codes and labels.")


def _too_large(text: str) -> InvalidResource:
    return InvalidResource([Issue("error", "too-costly", text, "Consent.provision")])


def _provisions(consent: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(level, provision) of all of them, without recursion: what arrives may be nested without end."""
    waiting = [(1, consent.get("provision"))]
    while waiting:
        level, provision = waiting.pop()
        if isinstance(provision, dict):
            yield level, provision
            waiting.extend((level + 1, child) for child in _listed(provision.get("provision")))


def _root(consent: Mapping[str, Any], reader: Reader) -> Provision:
    """The root may state its type (IHE PCF) or leave it to the policy (R4); R4's examples do either."""
    provision = consent.get("provision")
    node = provision if isinstance(provision, dict) else {}
    implied = _opt(consent)
    if "type" not in node and implied is None:
        reader.refuse(
            "Consent.provision.type",
            "Whether this permits or denies must be said: by provision.type, or by OPTIN or OPTOUT as policyRule.",
        )
    return _provision(node, "Consent.provision", implied or Effect.DENY, reader)


def _provision(node: Mapping[str, Any], path: str, implied: Effect, reader: Reader) -> Provision:
    """``implied`` is the type of a provision without one: the opposite of its parent's."""
    reader.understood(node, path, "provision", set(_ELEMENTS))
    effect = _effect(node, path, implied, reader)

    def read(name: str, how: Any) -> Any:
        return how(_as_list(node[name]), effect, f"{path}.{name}") if name in node else None

    return Provision(
        effect=effect,
        path=path,
        period=reader.period(node.get("period"), f"{path}.period"),
        actors=read("actor", reader.actors),
        purposes=read("purpose", reader.purposes),
        actions=read("action", reader.actions),
        labels=read("securityLabel", reader.labels),
        classes=read("class", reader.classes),
        codes=read("code", reader.codes),
        data_period=reader.period(node.get("dataPeriod"), f"{path}.dataPeriod"),
        instances=read("data", reader.instances),
        exceptions=tuple(
            _provision(
                child if isinstance(child, dict) else {},
                f"{path}.provision[{index}]",
                effect.opposite,
                reader,
            )
            for index, child in enumerate(_as_list(node.get("provision", [])))
        ),
    )


def _effect(node: Mapping[str, Any], path: str, implied: Effect, reader: Reader) -> Effect:
    if "type" not in node:
        return implied
    try:
        return Effect(node["type"])
    except ValueError:
        reader.refuse(f"{path}.type", "A provision permits or denies.", code="value")
        return implied


def _opt(consent: Mapping[str, Any]) -> Effect | None:
    effects = {
        _OPT[code]
        for system, code in _codings(consent.get("policyRule"))
        if system == ACT_CODE and code in _OPT
    }
    return effects.pop() if len(effects) == 1 else None


def _scope(consent: Mapping[str, Any], reader: Reader) -> str:
    """``patient-privacy`` is enforced; other scopes are kept and have no effect on who may read."""
    codes = {code for _, code in _codings(consent.get("scope"))}
    known = sorted(codes & _SCOPES)
    if len(known) != 1:
        reader.refuse(
            "Consent.scope", "One scope of consentscope is needed, e.g. patient-privacy.", code="value"
        )
        return ""
    return known[0]


def _understood(consent: Mapping[str, Any], reader: Reader) -> None:
    for name in ("modifierExtension", "implicitRules"):
        if consent.get(name):
            reader.refuse(f"Consent.{name}", "This changes the meaning in a way that is not understood.")


def _recorded_at(consent: Mapping[str, Any], server_time: datetime, reader: Reader) -> datetime:
    """When the choice was made. A date counts as its first instant, so an instant of the same day is newer."""
    text = consent.get("dateTime")
    if text is None:
        return server_time
    try:
        made = interval(text)[0] or server_time
    except (TypeError, ValueError):
        reader.refuse("Consent.dateTime", "This is not a date or dateTime.", code="value")
        return server_time
    if made > server_time + _CLOCKS_DIFFER:
        # It would hold its slot against every later choice until that day.
        reader.refuse("Consent.dateTime", "A choice cannot have been made in the future.")
    return made


def _slot(consent: Mapping[str, Any], scope: str, reader: Reader) -> str:
    """The first 32 hex digits of SHA-256 over what makes a later Consent replace an earlier one."""
    provision = consent.get("provision")
    root = provision if isinstance(provision, dict) else {}
    grantees = [one.get("reference") for one in _listed(root.get("actor")) if isinstance(one, dict)]
    policies = [
        one.get("uri") or one.get("authority")
        for one in _listed(consent.get("policy"))
        if isinstance(one, dict)
    ]
    rules = [f"{system}|{code}" for system, code in _codings(consent.get("policyRule")) if code not in _OPT]
    parts = [
        [_name(consent.get("patient"), reader)],
        sorted(_name(one, reader) for one in _listed(consent.get("organization"))),
        sorted({*(str(one) for one in policies if one), *rules}),
        [scope],
        sorted(_name(one, reader) for one in grantees),
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()[:32]


def _name(reference: Any, reader: Reader) -> str:
    literal, identifiers, _ = reader.referred(reference)
    return literal or next(iter(identifiers), "")


def _claims_ihe(consent: Mapping[str, Any]) -> bool:
    meta = consent.get("meta")
    profiles = _listed(meta.get("profile")) if isinstance(meta, dict) else []
    return any(str(profile).startswith("https://profiles.ihe.net/ITI/PCF/") for profile in profiles)


def _contained(consent: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {f"#{one.get('id')}": one for one in _listed(consent.get("contained")) if isinstance(one, dict)}


def _codings(concept: Any) -> Iterator[tuple[str, str]]:
    for coding in _listed(concept.get("coding")) if isinstance(concept, dict) else []:
        if isinstance(coding, dict) and isinstance(coding.get("code"), str):
            yield canonical_system(str(coding.get("system", ""))), coding["code"]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
