"""Who stated, ordered, performed or signed a resource (R4 consent-data-meaning ``authoredby``; W5 ``author``).

An author may be named by a reference, by an identifier, or by both. A rule that names them the other way cannot
tell them apart; markers among the keys say so, and a denial then applies.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from app.fhir.keys import key64
from app.fhir.names import identifier_text_key, local_reference, reference_key
from app.fhir.systems import canonical_system
from app.vocabulary import ODS_SYSTEM

AuthorKind = Literal["organisation", "person"]

UNKNOWN_AUTHOR: Final = key64("author", "unknown")
"""Among the authors when one of them, or every one, cannot be told."""

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
"""The elements that name the authors of each type."""

_AUTHOR_PATHS: Final = {kind: tuple(p.split(".") for p in paths.split()) for kind, paths in AUTHORS.items()}


def lacking(kind: AuthorKind, name: Literal["identifier", "reference"]) -> int:
    """The marker of an author who is named without an identifier, or without a literal reference."""
    return key64("author", kind, f"no {name}")


def kind_of_reference(reference: str) -> AuthorKind:
    return "organisation" if "Organization" in reference.split("/") else "person"


def kind_of_identifier(identifier: str) -> AuthorKind:
    """``identifier`` is ``system|value``."""
    return "organisation" if canonical_system(identifier.rpartition("|")[0]) == ODS_SYSTEM else "person"


def authors_of(resource: Mapping[str, Any], base: str) -> set[int]:
    """Keys of every author, and markers; ``base`` is the FHIR base of the resource with its slash, or ''."""
    keys: set[int] = set()
    inside = {f"#{one.get('id')}": one for one in _objects(resource.get("contained"))}
    for path in _AUTHOR_PATHS.get(str(resource.get("resourceType", "")), ()):
        for reference in _at(resource, path):
            keys |= _author(reference, inside, base)
    return keys or {UNKNOWN_AUTHOR}


def _author(reference: Mapping[str, Any], inside: Mapping[str, Mapping[str, Any]], base: str) -> set[int]:
    literal = reference.get("reference")
    literal = literal if isinstance(literal, str) else ""
    identifiers = [reference.get("identifier"), *_objects(inside.get(literal, {}).get("identifier"))]
    named = [
        f"{one.get('system', '')}|{one['value']}"
        for one in identifiers
        if isinstance(one, dict) and isinstance(one.get("value"), str)
    ]
    target = local_reference(literal, base)
    if not named and not target:
        return {UNKNOWN_AUTHOR}
    keys = {identifier_text_key(one) for one in named}
    if not target:
        return keys | {lacking(kind_of_identifier(one), "reference") for one in named}
    if not named:
        keys.add(lacking(kind_of_reference(target), "identifier"))
    return keys | {reference_key(target)}


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


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
