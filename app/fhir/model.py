"""A second reading by the ``fhir.resources`` library, an opinion that is independent of our tables.

It has models of R4B (4.3.0), none of R4 (4.0.1), so it is asked only where the two agree. Its models are thrown
away: they would change the digits of numbers and the text of instants (ARCHITECTURE 3.1). Nobody else imports it.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from app.errors import InvalidResource, Issue
from app.fhir.definitions import json_names
from app.fhir.findings import MOST_ISSUES

ABSENT_TYPES = frozenset(
    {
        "EffectEvidenceSynthesis",
        "MedicinalProduct",
        "MedicinalProductAuthorization",
        "MedicinalProductContraindication",
        "MedicinalProductIndication",
        "MedicinalProductIngredient",
        "MedicinalProductInteraction",
        "MedicinalProductManufactured",
        "MedicinalProductPackaged",
        "MedicinalProductPharmaceutical",
        "MedicinalProductUndesirableEffect",
        "RiskEvidenceSynthesis",
        "SubstanceNucleicAcid",
        "SubstancePolymer",
        "SubstanceProtein",
        "SubstanceReferenceInformation",
        "SubstanceSourceMaterial",
        "SubstanceSpecification",
    }
)
"""Resource types of R4 that R4B no longer has."""

DIFFERENT_TYPES = frozenset({"Evidence", "EvidenceVariable"})
"""Resource types that R4B rewrote. (R4B only adds ``subjectCanonical`` to ActivityDefinition and PlanDefinition.)"""

OTHER_MEMBERS = frozenset({"valueMeta", "defaultValueMeta", "fixedMeta", "patternMeta"})
"""R4's elements that R4B took away from types that otherwise agree. ``Extension``'s ``_url`` and ``_value…`` too are
unknown to the library, so no member that begins with ``_`` is held against a resource."""

OTHER_FORMATS = frozenset({"uuid_version", "string_pattern_mismatch"})
"""Where the library is stricter than R4: random UUIDs only, no string of no-break spaces. Formats are checked by
``primitives``, exactly."""

_SKIPPED = ABSENT_TYPES | DIFFERENT_TYPES
_TYPES_NAMED = re.compile(r'"resourceType"\s*:\s*"([A-Za-z]+)"')

_TEXTS = {
    "extra_forbidden": ("structure", "The FHIR model knows no such element here."),
    "missing": ("required", "The FHIR model requires this element."),
}
_REFUSED = ("invalid", "The FHIR model refuses this element.")


def second_reading(resource_type: str, text: str) -> None:
    """Raises InvalidResource when the library's model of ``resource_type`` refuses ``text``.

    ``text`` is one that ``validation.validate`` accepted. A resource that is, contains or bundles a type on which R4
    and R4B differ is not read. About 120 µs for an Observation; the first call imports the library.
    """
    if not _SKIPPED.isdisjoint((resource_type, *_TYPES_NAMED.findall(text))):
        return
    try:
        _model(resource_type).model_validate_json(text)
    except ValidationError as error:
        found = [_issue(resource_type, one) for one in error.errors() if _counts(one)]
        if found:
            raise InvalidResource(found[:MOST_ISSUES]) from error


@cache
def _model(resource_type: str) -> Any:
    from fhir.resources.R4B import get_fhir_model_class

    return get_fhir_model_class(resource_type)


def _counts(error: Mapping[str, Any]) -> bool:
    if error["type"] in OTHER_FORMATS:
        return False
    last = str(error["loc"][-1]) if error["loc"] else ""
    return error["type"] != "extra_forbidden" or not (last in OTHER_MEMBERS or last.startswith("_"))


def _issue(resource_type: str, error: Mapping[str, Any]) -> Issue:
    """The library's own message may repeat a value; ours does not."""
    code, text = _TEXTS.get(error["type"], _REFUSED)
    return Issue("error", code, text, ".".join(_path(resource_type, error["loc"])))


def _path(resource_type: str, location: tuple[str | int, ...]) -> Iterator[str]:
    """FHIRPath parts of a place that pydantic names by JSON members and indices; ends where R4 knows no more."""
    part, names = resource_type, json_names(resource_type)
    for step in location:
        if isinstance(step, int):
            part = f"{part}[{step}]"
            continue
        yield part
        if step.lstrip("_") not in names:
            return
        element, concrete = names[step.lstrip("_")]
        part = element.name
        names = json_names(concrete) if concrete[0].isupper() else {}
    yield part
