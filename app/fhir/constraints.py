"""What an element adds to the rules of its type: which types it may refer to, which codes it requires."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from app.fhir import definitions
from app.fhir.definitions import RESOURCE_TYPES, Element
from app.fhir.findings import Findings, Place

Check = Callable[[Any, Place, Findings], None]

# A literal reference to a type: relative, absolute, with a version, or conditional.
_LITERAL = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://.*/)?([A-Z][A-Za-z]+)(?:/[A-Za-z0-9.-]{1,64}(?:/_history/.*)?|\?.*)"
)


def constrained(check: Check, element: Element, concrete: str) -> Check:
    """``check`` of a value of type ``concrete``, and what ``element`` demands of it."""
    if concrete == "Reference" and element.targets and "Resource" not in element.targets:
        return _with_targets(check, element.targets)
    if concrete == "CodeableConcept" and element.binding and definitions.value_set(element.binding):
        return _with_codings(check, element.binding)
    return check


def _with_targets(check: Check, targets: Sequence[str]) -> Check:
    """Only where a Patient is named or expected, because that decides whose record it is.

    HL7's own examples break other target lists (DeviceMetric.parent, MedicationRequest.dispenseRequest.performer).
    """
    allowed = frozenset(targets)
    text = f"is not allowed here, only to: {', '.join(sorted(allowed))}."
    matches = _LITERAL.fullmatch

    def checked(value: Any, place: Place, findings: Findings) -> None:
        check(value, place, findings)
        literal = value.get("reference") if value.__class__ is dict else None
        if literal.__class__ is str and (found := matches(literal)):
            target = found[1]
            concerns_patient = "Patient" in (target, *allowed)
            if concerns_patient and target not in allowed and target in RESOURCE_TYPES:
                findings.add("structure", place, f"A reference to {target} {text}")

    return checked


def _with_codings(check: Check, canonical: str) -> Check:
    """At least one coding from the value set (terminologies.html#required), or an extension instead."""
    table = definitions.value_set(canonical) or {}

    def checked(value: Any, place: Place, findings: Findings) -> None:
        before = len(findings.issues)
        check(value, place, findings)
        if len(findings.issues) > before or "extension" in value:
            return
        codings = value.get("coding", [])
        if not any(coding.get("code") in table.get(coding.get("system", ""), ()) for coding in codings):
            findings.add("code-invalid", place, f"At least one coding has to be {from_value_set(canonical)}.")

    return checked


def from_value_set(canonical: str) -> str:
    """``from the value set …``, with its codes when they are few."""
    names = sorted(definitions.codes(canonical) or ())
    listed = f": {', '.join(names)}" if len(names) <= 20 else ""
    return f"from the value set {canonical}{listed}"
