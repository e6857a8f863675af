"""What a decision looks at in a resource: its facets, computed once, when it is written (R4 Consent)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from app.fhir.keys import key64
from app.fhir.relevance import relevant_interval
from app.fhir.sensitivity import LEVELS, MARKS, SENSITIVITIES, UNKNOWN, UNLABELLED, with_wider
from app.fhir.systems import (
    ACT_CODE,
    ACT_REASON,
    CONFIDENTIALITY,
    MIME_TYPES,
    RESOURCE_TYPES,
    URIS,
    canonical_system,
)
from app.vocabulary import OdsCode

UNKNOWN_AUTHOR: Final = key64("author", "unknown")
"""Among the authors when one of them, or every one, cannot be told."""
AUTHOR_WITHOUT_IDENTIFIER: Final = key64("author", "no identifier")
"""Among the authors when one is named by a literal reference alone: it may be whom an identifier names."""
AUTHOR_WITHOUT_REFERENCE: Final = key64("author", "no reference")
"""Among the authors when one is named by an identifier alone: it may be whom a reference names."""

AUTHORS: Final[Mapping[str, str]] = {
    "AdverseEvent": "recorder contributor",
    "AllergyIntolerance": "recorder asserter",
    "Appointment": "participant.actor",
    "AppointmentResponse": "actor",
    "CarePlan": "author contributor",
    "CareTeam": "managingOrganization",
    "ChargeItem": "performer.actor performingOrganization enterer",
    "Claim": "enterer provider",
    "ClinicalImpression": "assessor",
    "Communication": "sender",
    "CommunicationRequest": "requester sender",
    "Composition": "author attester.party section.author",
    "Condition": "recorder asserter",
    "Consent": "performer",
    "DetectedIssue": "author mitigation.author",
    "DeviceRequest": "requester performer",
    "DeviceUseStatement": "source",
    "DiagnosticReport": "performer resultsInterpreter",
    "DocumentManifest": "author",
    "DocumentReference": "author authenticator",
    "Encounter": "participant.individual serviceProvider",
    "EpisodeOfCare": "careManager managingOrganization",
    "ExplanationOfBenefit": "enterer provider",
    "Flag": "author",
    "Goal": "expressedBy",
    "ImagingStudy": "referrer interpreter series.performer.actor",
    "Immunization": "performer.actor",
    "ImmunizationRecommendation": "authority",
    "List": "source",
    "MeasureReport": "reporter",
    "Media": "operator",
    "MedicationAdministration": "performer.actor",
    "MedicationDispense": "performer.actor",
    "MedicationRequest": "requester recorder performer reportedReference",
    "MedicationStatement": "informationSource",
    "MolecularSequence": "performer",
    "NutritionOrder": "orderer",
    "Observation": "performer",
    "Procedure": "performer.actor performer.onBehalfOf recorder asserter",
    "Provenance": "agent.who agent.onBehalfOf",
    "QuestionnaireResponse": "author source",
    "RequestGroup": "author",
    "RiskAssessment": "performer",
    "ServiceRequest": "requester performer",
    "Specimen": "collection.collector",
    "SupplyDelivery": "supplier",
    "SupplyRequest": "requester",
    "Task": "requester owner",
    "VisionPrescription": "prescriber",
}
"""Who stated, ordered, performed or signed: the elements that name the author of each type."""

_DOCUMENT_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "Composition": ("type", "category"),
    "DiagnosticReport": ("code", "category"),
    "DocumentManifest": ("type",),
    "DocumentReference": ("type", "category"),
}
_AUTHOR_PATHS: Final = {kind: tuple(p.split(".") for p in paths.split()) for kind, paths in AUTHORS.items()}

# A Quantity has a code as well, of its unit.
_NOT_OF_A_CODING: Final = ("value", "unit", "comparator")

_HARMLESS_LABELS: Final = (
    ACT_REASON,
    "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "https://fhir.nhs.uk/England/CodeSystem/England-NHSIdentityProofingLevel",
)
"""Systems whose labels say for what, how sure or by what proof, not how sensitive."""


@dataclass(frozen=True, slots=True)
class Facets:
    """Everything of one resource version that any rule may ask about. Keys are ``app.fhir.keys.key64``."""

    resource_type: str
    id: str
    custodian: OdsCode
    confidentiality: int = UNLABELLED
    """0 unlabelled, 1 U, 2 L, 3 M, 4 N, 5 R, 6 V: the highest anywhere in it."""
    sensitivity: frozenset[str] = frozenset()
    """Codes of ActCode with everything they fall under; UNKNOWN for a label that is not understood."""
    codes: Sequence[int] = ()
    """('code', system, code) and ('code', '', code) of every Coding anywhere in it, labels apart; of one without
    a system ('code', 'no system', code)."""
    kinds: Sequence[int] = ()
    """('kind', system, code) of its type, profiles, document types and MIME types; ('kind inside', …) of those of
    resources inside it."""
    authors: Sequence[int] = ()
    """('ref', Type/id) and ('id', system, value) of its authors."""
    edges: Sequence[int] = ()
    """('ref', …) of every reference out of it; Type/id for those of the same base."""
    relevant_from: datetime | None = None
    relevant_until: datetime | None = None
    """[from, until); None is open, both None is undated."""
    also_patients: tuple[int, ...] = ()


@dataclass(slots=True)
class _Walk:
    """What one pass over the tree has found."""

    base: str
    root: Mapping[str, Any]
    confidentiality: int = UNLABELLED
    sensitivity: set[str] = field(default_factory=set)
    codes: set[int] = field(default_factory=set)
    kinds: set[int] = field(default_factory=set)
    edges: set[int] = field(default_factory=set)

    def over(self) -> None:
        stack: list[Any] = [self.root]
        while stack:
            node = stack.pop()
            if isinstance(node, list):
                stack.extend(node)
            elif isinstance(node, dict):
                self._node(node, stack)

    def _node(self, node: dict[str, Any], stack: list[Any]) -> None:
        for name, value in node.items():
            if isinstance(value, str):
                if name == "code":
                    self._coding(node, value)
                elif name == "reference":
                    self._edge(value)
                elif name == "contentType":
                    self.kinds.add(kind_key(MIME_TYPES, value.partition(";")[0].strip().lower()))
                elif name == "resourceType":
                    self._resource(node, value)
                elif name == "url" and value.endswith("inline-sec-label"):
                    self.label(node.get("valueCoding"))
            elif isinstance(value, dict):
                stack.append(self._meta(node, value) if name == "meta" else value)
            elif isinstance(value, list):
                stack.append(value)

    def _coding(self, node: Mapping[str, Any], code: str) -> None:
        if not any(name in node for name in _NOT_OF_A_CODING):
            system = node.get("system")
            if isinstance(system, str) and system:
                self.codes.update(code_keys(system, code))
            else:
                self.codes.update((*code_keys("", code), bare_code_key(code)))

    def _edge(self, reference: str) -> None:
        if target := local_reference(reference, self.base):
            self.edges.add(key64("ref", target))

    def _meta(self, node: Mapping[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
        """Labels and profiles are taken here; the rest is walked on."""
        for coding in _listed(meta.get("security")):
            self.label(coding)
        for profile in _listed(meta.get("profile")):
            if isinstance(profile, str):
                self._kind(node, URIS, profile.partition("|")[0])
        return {name: value for name, value in meta.items() if name != "security"}

    def _resource(self, node: Mapping[str, Any], resource_type: str) -> None:
        """Of the resource itself and of each one inside it: a container is as sensitive as what it holds."""
        self._kind(node, RESOURCE_TYPES, resource_type)
        for name in _DOCUMENT_TYPES.get(resource_type, ()):
            for coding in _codings(node.get(name)):
                if isinstance(code := coding.get("code"), str):
                    self._kind(node, str(coding.get("system", "")), code)
        if resource_type == "DocumentReference":
            for coding in _codings(node.get("securityLabel")):
                self.label(coding)
        if resource_type == "Composition" and "confidentiality" in node:
            self.label({"system": CONFIDENTIALITY, "code": node["confidentiality"]})

    def _kind(self, node: Mapping[str, Any], system: str, code: str) -> None:
        self.kinds.add(kind_key(system, code) if node is self.root else inner_kind_key(system, code))

    def label(self, coding: Any) -> None:
        """One security label raises the confidentiality, adds a sensitivity, is harmless, or is unknown."""
        if not isinstance(coding, dict):
            return
        system = canonical_system(str(coding.get("system", "")))
        code = coding.get("code")
        if system == CONFIDENTIALITY and code in LEVELS:
            self.confidentiality = max(self.confidentiality, LEVELS[code])
        elif system == ACT_CODE and code in SENSITIVITIES:
            self.sensitivity |= with_wider(code)
        elif not (system in _HARMLESS_LABELS or (system == ACT_CODE and code in MARKS)):
            self.sensitivity.add(UNKNOWN)


def facets_of(resource: dict[str, Any], *, custodian: OdsCode, base_url: str) -> Facets:
    """The facets of a parsed resource. ``base_url`` is the FHIR base it was kept under."""
    walk = _Walk(base_url.rstrip("/") + "/" if base_url else "", resource)
    walk.over()
    relevant_from, relevant_until = relevant_interval(resource)
    return Facets(
        resource_type=str(resource.get("resourceType", "")),
        id=str(resource.get("id", "")),
        custodian=custodian,
        confidentiality=walk.confidentiality,
        sensitivity=frozenset(walk.sensitivity),
        codes=tuple(walk.codes),
        kinds=tuple(walk.kinds),
        authors=tuple(_authors(resource, walk.base)),
        edges=tuple(walk.edges),
        relevant_from=relevant_from,
        relevant_until=relevant_until,
    )


def code_keys(system: str, code: str) -> tuple[int, ...]:
    """By system and code, and by code alone; the system under its one name."""
    alone = key64("code", "", code)
    return (alone,) if not system else (key64("code", canonical_system(system), code), alone)


def bare_code_key(code: str) -> int:
    """Of a code that stands without its system: it may be of the one that a denial means."""
    return key64("code", "no system", code)


def kind_key(system: str, code: str) -> int:
    return key64("kind", canonical_system(system), code)


def inner_kind_key(system: str, code: str) -> int:
    """Of a resource inside another one: a denial reaches the container, a permission does not."""
    return key64("kind inside", canonical_system(system), code)


def identifier_key(system: str, value: str) -> int:
    return key64("id", canonical_system(system), value)


def local_reference(reference: str, base: str) -> str | None:
    """``Type/id`` under ``base`` (with its slash); others as they are; None for one into itself."""
    if reference.startswith("#"):
        return None
    target = reference.removeprefix(base) if base else reference
    return target.partition("/_history/")[0].partition("#")[0]


def _authors(resource: Mapping[str, Any], base: str) -> set[int]:
    keys: set[int] = set()
    inside = {f"#{one.get('id')}": one for one in _listed(resource.get("contained")) if isinstance(one, dict)}
    for path in _AUTHOR_PATHS.get(str(resource.get("resourceType", "")), ()):
        for reference in _at(resource, path):
            keys |= _author(reference, inside, base)
    return keys or {UNKNOWN_AUTHOR}


def _author(reference: Mapping[str, Any], inside: Mapping[str, Mapping[str, Any]], base: str) -> set[int]:
    literal = reference.get("reference")
    literal = literal if isinstance(literal, str) else ""
    identifiers = [reference.get("identifier"), *_listed(inside.get(literal, {}).get("identifier"))]
    by_identifier = {
        identifier_key(str(one.get("system", "")), one["value"])
        for one in identifiers
        if isinstance(one, dict) and isinstance(one.get("value"), str)
    }
    target = local_reference(literal, base)
    by_reference = {key64("ref", target)} if target else set()
    if by_identifier and by_reference:
        return by_identifier | by_reference
    if by_identifier:
        return by_identifier | {AUTHOR_WITHOUT_REFERENCE}
    return by_reference | {AUTHOR_WITHOUT_IDENTIFIER} if by_reference else {UNKNOWN_AUTHOR}


def _at(node: Any, path: Sequence[str]) -> Iterable[Mapping[str, Any]]:
    """Every object at a path, through arrays."""
    if isinstance(node, list):
        for one in node:
            yield from _at(one, path)
    elif isinstance(node, dict):
        if not path:
            yield node
        elif path[0] in node:
            yield from _at(node[path[0]], path[1:])


def _codings(concepts: Any) -> Iterable[Mapping[str, Any]]:
    for concept in concepts if isinstance(concepts, list) else [concepts]:
        if isinstance(concept, dict):
            yield from (coding for coding in _listed(concept.get("coding")) if isinstance(coding, dict))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
