"""R4's invariants that integrators rely on, written by hand: one function each, named by R4's key.

Each gets the JSON of an element whose structure is known to be right and says whether the rule holds. Rules
of severity warning in R4 are not here: a warning refuses nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Invariant:
    key: str
    text: str
    holds: Callable[[Json], bool]


def _has(element: Json, name: str) -> bool:
    """Whether the element or choice ``name`` is there, with a value or only an extension."""
    prefixes = (name, "_" + name)
    return any(member.startswith(prefixes) for member in element)


def _codes(concept: Json | None, system: str) -> set[str]:
    codings = (concept or {}).get("coding", [])
    return {coding.get("code", "") for coding in codings if coding.get("system") == system}


# Datatypes


def ext_1(extension: Json) -> bool:
    return ("extension" in extension) != _has(extension, "value")


def qty_3(quantity: Json) -> bool:
    return "code" not in quantity or "system" in quantity or "_system" in quantity


def per_1(period: Json) -> bool:
    start, end = period.get("start"), period.get("end")
    return start is None or end is None or not _is_after(start, end)


def rng_2(element: Json) -> bool:
    """Only ranges whose ends are in one unit can be compared."""
    low, high = element.get("low", {}), element.get("high", {})
    if any(low.get(name) != high.get(name) for name in ("unit", "system", "code")):
        return True
    return "value" not in low or "value" not in high or bool(low["value"] <= high["value"])


def cpt_2(contact: Json) -> bool:
    return "value" not in contact or "system" in contact or "_system" in contact


def att_1(attachment: Json) -> bool:
    return "data" not in attachment or "contentType" in attachment or "_contentType" in attachment


def _is_after(start: str, end: str) -> bool:
    """Whether ``start`` is surely later than ``end``: both may be partial, and a date has no zone."""
    if "T" in start and "T" in end:
        return _moment(start) > _moment(end)
    if "T" in start or "T" in end:
        return _mixed_is_after(start, end)
    shared = min(len(start), len(end))
    return start[:shared] > end[:shared]


def _mixed_is_after(start: str, end: str) -> bool:
    """A day of grace, for the zone that the date does not tell."""
    if len(start) < 10 or len(end) < 10:
        shared = min(len(start), len(end))
        return start[:shared] > end[:shared]
    return date.fromisoformat(start[:10]) - date.fromisoformat(end[:10]) > timedelta(days=1)


def _moment(text: str) -> tuple[int, str]:
    """Seconds since year 0 in UTC, then the fraction's digits, ordered like text. A leap second is :59."""
    fraction = _FRACTION.search(text)
    whole = datetime.fromisoformat(_SECOND_60.sub(":59", _FRACTION.sub("", text)))
    since_midnight = whole.hour * 3600 + whole.minute * 60 + whole.second
    offset = whole.utcoffset() or timedelta()
    seconds = whole.toordinal() * 86_400 + since_midnight - int(offset.total_seconds())
    return seconds, fraction[0].rstrip("0") if fraction else "."


_SECOND_60 = re.compile(r"(?<=T..:..):60")
_FRACTION = re.compile(r"\.[0-9]+")


# Resources

CLINICAL_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
CLINICAL_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFIED_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"


def obs_6(observation: Json) -> bool:
    return "dataAbsentReason" not in observation or not _has(observation, "value")


def obs_7(observation: Json) -> bool:
    if "component" not in observation or not _has(observation, "value"):
        return True
    codings = observation.get("code", {}).get("coding", [])
    components = (component.get("code", {}).get("coding", []) for component in observation["component"])
    return not any(coding in codings for component in components for coding in component)


def ait_1(allergy: Json) -> bool:
    return _is_error(allergy, CLINICAL_ALLERGY) or "clinicalStatus" in allergy


def ait_2(allergy: Json) -> bool:
    return not _is_error(allergy, CLINICAL_ALLERGY) or "clinicalStatus" not in allergy


def con_4(condition: Json) -> bool:
    codes = _codes(condition.get("clinicalStatus"), CLINICAL_CONDITION)
    return not _has(condition, "abatement") or bool(codes & {"resolved", "remission", "inactive"})


def con_5(condition: Json) -> bool:
    return not _is_error(condition, VERIFIED_CONDITION) or "clinicalStatus" not in condition


def _is_error(resource: Json, system: str) -> bool:
    return "entered-in-error" in _codes(resource.get("verificationStatus"), system)


def pat_1(contact: Json) -> bool:
    return any(_has(contact, name) for name in ("name", "telecom", "address", "organization"))


def org_1(organization: Json) -> bool:
    return "identifier" in organization or _has(organization, "name")


# Bundle

_WITH_REQUEST = frozenset({"batch", "transaction", "history"})
_WITH_RESPONSE = frozenset({"batch-response", "transaction-response", "history"})


def _entries(bundle: Json) -> list[Json]:
    entries: list[Json] = bundle.get("entry", [])
    return entries


def bdl_1(bundle: Json) -> bool:
    return "total" not in bundle or bundle["type"] in ("searchset", "history")


def bdl_2(bundle: Json) -> bool:
    return bundle["type"] == "searchset" or not any("search" in entry for entry in _entries(bundle))


def bdl_3(bundle: Json) -> bool:
    expected = bundle["type"] in _WITH_REQUEST
    return all(("request" in entry) == expected for entry in _entries(bundle))


def bdl_4(bundle: Json) -> bool:
    expected = bundle["type"] in _WITH_RESPONSE
    return all(("response" in entry) == expected for entry in _entries(bundle))


def bdl_5(entry: Json) -> bool:
    return "resource" in entry or "request" in entry or "response" in entry


def bdl_7(bundle: Json) -> bool:
    if bundle["type"] == "history":
        return True
    named = [
        (entry["fullUrl"], entry.get("resource", {}).get("meta", {}).get("versionId"))
        for entry in _entries(bundle)
        if "fullUrl" in entry
    ]
    return len(named) == len(set(named))


def bdl_8(entry: Json) -> bool:
    return "/_history/" not in entry.get("fullUrl", "")


def bdl_9(bundle: Json) -> bool:
    identifier = bundle.get("identifier", {})
    return bundle["type"] != "document" or ("system" in identifier and "value" in identifier)


def bdl_10(bundle: Json) -> bool:
    return bundle["type"] != "document" or "timestamp" in bundle


def bdl_11(bundle: Json) -> bool:
    return bundle["type"] != "document" or _first_type(bundle) == "Composition"


def bdl_12(bundle: Json) -> bool:
    return bundle["type"] != "message" or _first_type(bundle) == "MessageHeader"


def _first_type(bundle: Json) -> str | None:
    first = next(iter(_entries(bundle)), {})
    name: str | None = first.get("resource", {}).get("resourceType")
    return name


_QUANTITY = (
    Invariant("qty-3", "If a code for the unit is present, the system SHALL also be present", qty_3),
)

INVARIANTS: Mapping[str, tuple[Invariant, ...]] = {
    "Extension": (Invariant("ext-1", "Must have either extensions or value[x], not both", ext_1),),
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), _QUANTITY),
    "Period": (Invariant("per-1", "If present, start SHALL have a lower value than end", per_1),),
    "Range": (Invariant("rng-2", "If present, low SHALL have a lower value than high", rng_2),),
    "ContactPoint": (Invariant("cpt-2", "A system is required if a value is provided", cpt_2),),
    "Attachment": (Invariant("att-1", "If the Attachment has data, it SHALL have a contentType", att_1),),
    "Observation": (
        Invariant("obs-6", "dataAbsentReason SHALL only be present if value[x] is not present", obs_6),
        Invariant("obs-7", "With a component of the same code as the Observation, it has no value", obs_7),
    ),
    "AllergyIntolerance": (
        Invariant("ait-1", "clinicalStatus SHALL be present unless entered in error", ait_1),
        Invariant("ait-2", "clinicalStatus SHALL NOT be present if entered in error", ait_2),
    ),
    "Condition": (
        Invariant("con-4", "If abated, clinicalStatus must be inactive, resolved or remission", con_4),
        Invariant("con-5", "clinicalStatus SHALL NOT be present if entered in error", con_5),
    ),
    "Patient.contact": (
        Invariant("pat-1", "SHALL have a contact's details or a reference to an organization", pat_1),
    ),
    "Organization": (
        Invariant("org-1", "The organization SHALL at least have a name or an identifier", org_1),
    ),
    "Bundle": (
        Invariant("bdl-1", "total only when a search or history", bdl_1),
        Invariant("bdl-2", "entry.search only when a search", bdl_2),
        Invariant(
            "bdl-3", "entry.request mandatory for batch, transaction and history, else prohibited", bdl_3
        ),
        Invariant("bdl-4", "entry.response mandatory for responses and history, else prohibited", bdl_4),
        Invariant("bdl-7", "fullUrl must be unique, or entries with the same differ in versionId", bdl_7),
        Invariant("bdl-9", "A document must have an identifier with a system and a value", bdl_9),
        Invariant("bdl-10", "A document must have a date", bdl_10),
        Invariant("bdl-11", "A document must have a Composition as the first resource", bdl_11),
        Invariant("bdl-12", "A message must have a MessageHeader as the first resource", bdl_12),
    ),
    "Bundle.entry": (
        Invariant("bdl-5", "must be a resource unless there is a request or response", bdl_5),
        Invariant("bdl-8", "fullUrl cannot be a version specific reference", bdl_8),
    ),
}
