"""Whose record a resource belongs to, as R4's CompartmentDefinitions say and nothing else (ARCHITECTURE 3.6).

Only the parameters that a definition nominates count: ``Observation.subject`` and ``performer`` do,
``Observation.focus`` does not. A Patient is in its own compartment alone: ``Patient.link`` joins records of one
person, which is identity's business, and must not carry one Patient's record into another's.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from app.fhir.fhirpath import Selector, Sink, selectors
from app.fhir.parameters import parameters_of
from app.fhir.references import read_reference

_DEFINITIONS = Path(__file__).with_name("r4") / "compartments.json"

COMPARTMENTS = frozenset({"Device", "Encounter", "Patient", "Practitioner", "RelatedPerson"})
"""The types that R4 defines a compartment for."""

_FIRST = ("patient", "subject", "beneficiary", "individual")
"""Parameters that name whom a resource is about, before those that name who took part."""

_PROFESSIONALS = frozenset({"Practitioner", "PractitionerRole", "Organization"})


@dataclass(frozen=True, slots=True)
class Membership:
    """The Patients whose compartments a resource is in, whom it is about first."""

    patients: tuple[str, ...]
    """Ids of Patients of our own base, each once."""
    unresolved: tuple[str, ...]
    """JSON paths of references that mean a patient, or may, without telling which of ours: ``subject``.

    A caller must refuse or hold such a resource. They are references to a Patient under another base, by
    identifier only, by ``urn:uuid:``, or to one that is contained. Where the element also allows professionals or
    organisations, a reference that does not tell its type counts only if nothing else names a patient: else every
    performer given by an ODS code would bar the way.
    """


@cache
def compartment_parameters(compartment: str, resource_type: str) -> tuple[str, ...]:
    """Codes of the parameters that put a ``resource_type`` into a ``compartment`` (``Patient``, ``Encounter`` …).

    ``{def}`` stands for the resource itself. Raises KeyError for a compartment that R4 does not define.
    """
    return tuple(_definitions()[compartment].get(resource_type, ()))


@cache
def in_patient_compartment(resource_type: str) -> bool:
    """Whether resources of this type belong to patients: Observation does, Practitioner does not."""
    return resource_type == "Patient" or bool(compartment_parameters("Patient", resource_type))


def patients_of(resource: Mapping[str, Any], base_url: str) -> Membership:
    """Whose record ``resource`` is part of. Never fails on a shape that is not R4's.

    Raises KeyError when ``resourceType`` is not one of R4's.
    """
    if resource["resourceType"] == "Patient":
        id = resource.get("id")
        return Membership((id,) if isinstance(id, str) and id else (), ())
    found = _Found(base_url, _contained_types(resource))
    for walk in _walks(resource["resourceType"]):
        walk(resource, found)
    vague = [] if found.patients or found.unresolved else found.vague
    return Membership(tuple(dict.fromkeys(found.patients)), tuple(dict.fromkeys([*found.unresolved, *vague])))


def patients_named(resource: Mapping[str, Any], base_url: str) -> tuple[str, ...]:
    """Ids of every Patient of ours that ``resource`` refers to anywhere, for types that are in no compartment."""
    found: dict[str, None] = {}
    waiting: list[Any] = [resource]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(reference := one.get("reference"), str):
                literal = read_reference(reference, base_url)
                if literal.where == "here" and literal.type == "Patient" and literal.id:
                    found[literal.id] = None
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return tuple(found)


@dataclass(slots=True)
class _Found:
    base_url: str
    contained: Mapping[str, str]
    patients: list[str] = field(default_factory=list)
    unresolved: list[str] = field(default_factory=list)
    vague: list[str] = field(default_factory=list)


@cache
def _walks(resource_type: str) -> tuple[Sink, ...]:
    codes = compartment_parameters("Patient", resource_type)
    parameters = parameters_of(resource_type)
    ordered = sorted(codes, key=lambda code: _FIRST.index(code) if code in _FIRST else len(_FIRST))
    # ``where(resolve() is Patient)`` would pass over what does not tell its type: look at every reference.
    every = dict.fromkeys(
        one.without_resolve()
        for code in ordered
        for one in selectors(parameters[code].expression, resource_type)
        if one.type == "Reference" and _may_be_patient(one)
    )
    return tuple(one.walk(_judge(one)) for one in every)


def _may_be_patient(selector: Selector) -> bool:
    return not selector.targets or "Patient" in selector.targets


def _judge(selector: Selector) -> Sink:
    """What a reference found by ``selector`` says about membership."""
    path = ".".join(selector.path)
    named = selector.element.targets if selector.element else ()
    clearly = "Resource" not in named and bool(named) and not _PROFESSIONALS & set(named)

    def judge(reference: Any, found: _Found) -> None:
        kind, id = _meant(reference, found)
        if kind == "Patient" and id:
            found.patients.append(id)
        elif kind == "Patient":
            found.unresolved.append(path)
        elif kind is None:
            (found.unresolved if clearly else found.vague).append(path)

    return judge


def _meant(reference: Any, found: _Found) -> tuple[str | None, str]:
    """(type if it can be told, id if it is a record of ours)."""
    if type(reference) is not dict:
        return None, ""
    text, said = reference.get("reference"), reference.get("type")
    if isinstance(text, str):
        literal = read_reference(text, found.base_url)
        if literal.type is not None:
            return literal.type, literal.id if literal.where == "here" else ""
        if literal.where == "contained" and text[1:] in found.contained:
            return found.contained[text[1:]], ""
    if isinstance(said, str) and said:
        return said, ""
    # Neither a reference nor an identifier: a display text at most, which means nobody's record.
    means_something = isinstance(text, str) or "identifier" in reference
    return (None if means_something else "", "")


def _contained_types(resource: Mapping[str, Any]) -> Mapping[str, str]:
    contained = resource.get("contained")
    inner: Iterable[Any] = contained if isinstance(contained, list) else ()
    return {
        one["id"]: one["resourceType"]
        for one in inner
        if isinstance(one, dict)
        and isinstance(one.get("id"), str)
        and isinstance(one.get("resourceType"), str)
    }


@cache
def _definitions() -> Mapping[str, Mapping[str, list[str]]]:
    definitions: dict[str, dict[str, list[str]]] = json.loads(_DEFINITIONS.read_text("utf-8"))
    return definitions
