"""The parts of a Consent, read one by one; what is not understood is refused or made to over-block.

In a permission, a value that is not understood is refused: it would open too much or, silently, nothing. In a
denial it is accepted and taken to mean everything it could.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.consent.decision import CLIENT_SYSTEM, via_key
from app.consent.provision import (
    Actions,
    Actor,
    ActorKind,
    Actors,
    Classes,
    Codes,
    Effect,
    Instance,
    Instances,
    Labels,
    Period,
    Purposes,
)
from app.consent.purposes import PURPOSES
from app.errors import Issue
from app.fhir.civil import interval
from app.fhir.definitions import RESOURCE_TYPES as TYPES
from app.fhir.facets import bare_code_key, code_keys
from app.fhir.keys import key64
from app.fhir.names import identifier_text_key, local_reference, reference_key
from app.fhir.sensitivity import LEVELS, SENSITIVITIES
from app.fhir.systems import (
    ACT_CODE,
    ACT_REASON,
    CONFIDENTIALITY,
    MIME_TYPES,
    RESOURCE_TYPES,
    URIS,
    canonical_system,
    is_known_system,
)
from app.vocabulary import NHS_NUMBER_SYSTEM, ODS_SYSTEM

ACTIONS: Final = frozenset({"collect", "access", "use", "disclose", "correct"})
RECIPIENTS: Final = frozenset({"IRCP", "PRCP", "TRC", "NOT", "REFB", "REFT"})
"""Roles of ParticipationType by which an actor receives information."""

_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_LOCAL: Final = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")

_KINDS: Final = {
    "Organization": ActorKind.ORGANISATION,
    "Practitioner": ActorKind.PERSON,
    "PractitionerRole": ActorKind.PERSON,
    "Patient": ActorKind.RELATED,
    "RelatedPerson": ActorKind.RELATED,
    "Device": ActorKind.CLIENT,
}
_KINDS_BY_SYSTEM: Final = {
    ODS_SYSTEM: ActorKind.ORGANISATION,
    NHS_NUMBER_SYSTEM: ActorKind.RELATED,
    CLIENT_SYSTEM: ActorKind.CLIENT,
}


@dataclass(slots=True)
class Reader:
    """Reads the elements of one Consent and gathers every reason to refuse it."""

    base: str
    """FHIR base of this service with its slash, or ''."""
    resolve: Mapping[str, Collection[str]]
    """``Type/id`` to the identifiers, ``system|value``, of whoever or whatever it is."""
    refers_to: Mapping[str, Collection[str]]
    """``Type/id`` of a resource to the references out of it."""
    contained: Mapping[str, Mapping[str, Any]]
    as_ihe: bool
    """The Consent claims an IHE PCF profile, in which ``related`` also means what refers to the instance."""
    issues: list[Issue] = field(default_factory=list)

    def refuse(self, path: str, text: str, *, code: str = "business-rule") -> None:
        self.issues.append(Issue("error", code, text, path))

    def doubt(self, effect: Effect, path: str, text: str) -> bool:
        """True: what is there is not understood."""
        if effect is Effect.PERMIT:
            self.refuse(path, text)
        return True

    # Elements of a provision.

    def period(self, value: Any, path: str) -> Period | None:
        if value is None:
            return None
        bounds = value if isinstance(value, dict) else {}
        start = self._bound(bounds.get("start"), f"{path}.start", 0)
        end = self._bound(bounds.get("end"), f"{path}.end", 1)
        if "start" not in bounds and "end" not in bounds:
            self.refuse(path, "A period needs a start or an end.")
        if start is not None and end is not None and start >= end:
            self.refuse(path, "The period ends before it starts.", code="value")
        # Open at both ends is no constraint: an end that no calendar reaches.
        return Period(start, end) if start is not None or end is not None else None

    def _bound(self, value: Any, path: str, side: int) -> Any:
        if value is None:
            return None
        try:
            return interval(value)[side]
        except (TypeError, ValueError):
            self.refuse(path, "This is not a date or dateTime.", code="value")
            return None

    def purposes(self, values: list[Any], effect: Effect, path: str) -> Purposes:
        codes: set[str] = set()
        unknown = not values and self.doubt(effect, path, "The list is empty.")
        for at, system, code in self._codings(values, path):
            if code is None or (system in ("", ACT_REASON) and code not in PURPOSES):
                unknown = self.doubt(effect, at, "This is not a purpose of use of v3 ActReason.")
            elif system in ("", ACT_REASON):
                codes.add(code)
            else:
                # No caller here can state it: a permission opens nothing, a denial may mean anything.
                codes.add(f"{system}|{code}")
                unknown = unknown or effect is Effect.DENY
        return Purposes(frozenset(codes), unknown)

    def actions(self, values: list[Any], effect: Effect, path: str) -> Actions:
        codes: set[str] = set()
        unknown = not values and self.doubt(effect, path, "The list is empty.")
        for at, codings in self._concepts(values, path):
            understood = {code for _, code in codings if code in ACTIONS}
            if not understood:
                unknown = self.doubt(
                    effect, at, f"Only these actions are understood: {', '.join(sorted(ACTIONS))}."
                )
            codes |= understood
        return Actions(frozenset(codes), unknown)

    def labels(self, values: list[Any], effect: Effect, path: str) -> Labels:
        levels: set[int] = set()
        sensitivities: set[str] = set()
        unknown = not values and self.doubt(effect, path, "The list is empty.")
        for at, system, code in self._codings(values, path):
            if code in LEVELS and system == CONFIDENTIALITY:
                levels.add(LEVELS[code])
            elif code in SENSITIVITIES and system == ACT_CODE:
                sensitivities.add(code)
            else:
                unknown = self.doubt(
                    effect,
                    at,
                    "Only labels of v3 Confidentiality and sensitivities of v3 ActCode are understood.",
                )
        return Labels(frozenset(levels), frozenset(sensitivities), unknown)

    def classes(self, values: list[Any], effect: Effect, path: str) -> Classes:
        types: set[str] = set()
        kinds: set[tuple[str, str]] = set()
        unknown = not values and self.doubt(effect, path, "The list is empty.")
        for at, system, code in self._codings(values, path):
            if code is not None and system == RESOURCE_TYPES and code in TYPES:
                types.add(code)
            elif code is not None and system == MIME_TYPES:
                kinds.add((system, code.lower()))
            elif (
                code is not None
                and system not in ("", RESOURCE_TYPES)
                and (system == URIS or is_known_system(system))
            ):
                kinds.add((system, code))
            else:
                unknown = self.doubt(
                    effect, at, "This is not a resource type, profile, document type or MIME type known here."
                )
        return Classes(frozenset(types), frozenset(kinds), unknown)

    def codes(self, values: list[Any], effect: Effect, path: str) -> Codes:
        keys: set[int] = set()
        unknown = not values and self.doubt(effect, path, "The list is empty.")
        for at, codings in self._concepts(values, path):
            known = [
                (system, code) for system, code in codings if code is not None and is_known_system(system)
            ]
            if not known:
                unknown = self.doubt(
                    effect, at, "A code of a code system known here is needed; text is not enough."
                )
            # With its system it means that code alone; without, the code of any system.
            keys |= {code_keys(system, code)[0] for system, code in known}
            if effect is Effect.DENY:
                keys |= {bare_code_key(code) for _, code in known}
        return Codes(frozenset(keys), unknown)

    def actors(self, values: list[Any], effect: Effect, path: str) -> Actors:
        found: list[Actor] = []
        unknown = not values and self.doubt(effect, path, "The list is empty.")
        for index, value in enumerate(values):
            at, node = f"{path}[{index}]", value if isinstance(value, dict) else {}
            self.understood(node, at, "actor", {"role", "reference"})
            actor = self._actor(node.get("reference"), effect)
            if not self._receives(node.get("role")):
                unknown = self.doubt(
                    effect, f"{at}.role", "Only actors who receive information (IRCP) are understood."
                )
            elif actor is None:
                unknown = self.doubt(
                    effect, f"{at}.reference", "An actor needs a reference or an identifier."
                )
            else:
                found.append(actor)
        return Actors(tuple(found), unknown)

    def _receives(self, role: Any) -> bool:
        if role is None:
            return True
        codings = [one for _, found in self._concepts([role], "") for one in found]
        return any(system in ("", _PARTICIPATION) and code in RECIPIENTS for system, code in codings)

    def _actor(self, reference: Any, effect: Effect) -> Actor | None:
        literal, identifiers, declared = self.referred(reference)
        if not literal and not identifiers:
            return None
        systems = frozenset(canonical_system(one.rpartition("|")[0]) for one in identifiers)
        kind = _KINDS.get(declared) or next(
            (_KINDS_BY_SYSTEM[system] for system in sorted(systems) if system in _KINDS_BY_SYSTEM),
            ActorKind.OTHER,
        )
        if declared == "PractitionerRole" and not literal:
            kind = ActorKind.ROLE
        keys = {identifier_text_key(one) for one in identifiers}
        values = [one.rpartition("|")[2] for one in identifiers]
        if literal:
            keys.add(reference_key(literal))
        if kind is ActorKind.ROLE:
            keys |= {key64("role", value) for value in values}
        if kind is ActorKind.CLIENT and effect is Effect.DENY:
            keys |= {via_key(value) for value in values}
        return Actor(kind, frozenset(keys), systems)

    def instances(self, values: list[Any], effect: Effect, path: str) -> Instances:
        found: list[Instance] = []
        unknown = not values and self.doubt(effect, path, "The list is empty.")
        for index, value in enumerate(values):
            at, node = f"{path}[{index}]", value if isinstance(value, dict) else {}
            self.understood(node, at, "data", {"meaning", "reference"})
            instance = self._instance(node, effect)
            if instance is None:
                unknown = self.doubt(
                    effect, at, "A meaning that R4 knows and a reference to a resource kept here are needed."
                )
            else:
                found.append(instance)
        return Instances(tuple(found), unknown)

    def _instance(self, node: Mapping[str, Any], effect: Effect) -> Instance | None:
        literal, identifiers, _ = self.referred(node.get("reference"))
        if node.get("meaning") == "authoredby":
            authors = frozenset(identifiers) | ({literal} if literal else set())
            return Instance(frozenset(), frozenset(), authors) if authors else None
        deny = effect is Effect.DENY
        # A foreign copy may be the one that is kept here: a denial takes it to be.
        near = "/".join(literal.split("/")[-2:]) if deny else literal
        if not _LOCAL.fullmatch(near):
            return None
        itself, referrers = frozenset({near}), frozenset({near, literal})
        match node.get("meaning"):
            case "instance":
                return Instance(itself, frozenset(), frozenset())
            case "dependents":
                return Instance(itself, referrers, frozenset())
            case "related":
                # By its definition the instance and what it refers to; IHE PCF means what refers to it.
                targets = (one for one in self.refers_to.get(near, ()) if _LOCAL.fullmatch(one))
                reach = referrers if deny or self.as_ihe else frozenset()
                return Instance(itself | frozenset(targets), reach, frozenset())
        return None

    # Parts of elements.

    def referred(self, reference: Any) -> tuple[str, tuple[str, ...], str]:
        """(``Type/id`` or URL or '', identifiers as ``system|value``, type or '') of a Reference."""
        node = reference if isinstance(reference, dict) else {}
        written = node.get("reference")
        literal = written if isinstance(written, str) else ""
        identifiers = [node.get("identifier")]
        declared = str(node.get("type", "")).rpartition("/")[2]
        if literal.startswith("#"):
            inside = self.contained.get(literal, {})
            listed = inside.get("identifier")
            identifiers += listed if isinstance(listed, list) else []
            declared, literal = str(inside.get("resourceType", "")), ""
        literal = local_reference(literal, self.base) or ""
        if "/" in literal:
            declared = literal.split("/")[-2]
        own = {
            f"{one.get('system', '')}|{one['value']}"
            for one in identifiers
            if isinstance(one, dict) and isinstance(one.get("value"), str)
        }
        return literal, tuple(sorted(own | set(self.resolve.get(literal, ())))), declared

    def understood(self, node: Mapping[str, Any], path: str, name: str, elements: set[str]) -> None:
        """Refuses what could change the meaning and is not known; extensions cannot (R4 extensibility)."""
        if node.get("modifierExtension"):
            self.refuse(
                f"{path}.modifierExtension", "This changes the meaning in a way that is not understood."
            )
        known = elements | {"id", "extension", "modifierExtension"} | {f"_{one}" for one in elements}
        for unknown in sorted(node.keys() - known):
            self.refuse(f"{path}.{unknown}", f"This is not an element of a {name}.", code="structure")

    def _codings(self, values: list[Any], path: str) -> Iterator[tuple[str, str, str | None]]:
        """(path, canonical system or '', code or None) of each Coding."""
        for index, value in enumerate(values):
            system, code = _coding(value)
            yield f"{path}[{index}]", system, code

    def _concepts(self, values: list[Any], path: str) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
        """(path, its codings) of each CodeableConcept."""
        for index, value in enumerate(values):
            codings = value.get("coding") if isinstance(value, dict) else None
            yield f"{path}[{index}]", [_coding(one) for one in codings] if isinstance(codings, list) else []


def _coding(value: Any) -> tuple[str, str | None]:
    node = value if isinstance(value, dict) else {}
    system, code = node.get("system"), node.get("code")
    return canonical_system(system) if isinstance(system, str) else "", code if isinstance(
        code, str
    ) else None
