"""When data was clinically relevant: the published date rule of each type (R4 Consent.provision.dataPeriod).

The first element of a rule that is present counts. ``a..b`` is an interval from the first to the second; without
the second it is still going on. An element that is present but tells no date, and a type without a rule, give an
undated resource: a denial for a period covers it, a permission for a period does not.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from app.fhir.civil import UNDATED, Interval, interval

RULES: Final[Mapping[str, str]] = {
    "Account": "servicePeriod",
    "AdverseEvent": "date detected recordedDate",
    "AllergyIntolerance": "onset..lastOccurrence recordedDate",
    "Appointment": "start..end requestedPeriod created",
    "AppointmentResponse": "start..end",
    "AuditEvent": "period recorded",
    "Basic": "created",
    "Binary": "",
    "CarePlan": "period created",
    "CareTeam": "period",
    "ChargeItem": "occurrence enteredDate",
    "Claim": "billablePeriod created",
    "ClaimResponse": "created",
    "ClinicalImpression": "effective date",
    "Communication": "sent..received received",
    "CommunicationRequest": "occurrence authoredOn",
    "Composition": "event.period date",
    "Condition": "onset..abatement recordedDate",
    "Consent": "dateTime",
    "Coverage": "period",
    "CoverageEligibilityRequest": "serviced created",
    "CoverageEligibilityResponse": "serviced created",
    "DetectedIssue": "identified",
    "DeviceRequest": "occurrence authoredOn",
    "DeviceUseStatement": "timing recordedOn",
    "DiagnosticReport": "effective issued",
    "DocumentManifest": "created",
    "DocumentReference": "context.period date",
    "Encounter": "period",
    "EnrollmentRequest": "created",
    "EpisodeOfCare": "period",
    "ExplanationOfBenefit": "billablePeriod created",
    "FamilyMemberHistory": "date",
    "Flag": "period",
    "Goal": "start statusDate",
    "ImagingStudy": "started",
    "Immunization": "occurrence recorded",
    "ImmunizationEvaluation": "date",
    "ImmunizationRecommendation": "date",
    "Invoice": "date",
    "List": "date",
    "MeasureReport": "period date",
    "Media": "created issued",
    "MedicationAdministration": "effective",
    "MedicationDispense": "whenHandedOver whenPrepared",
    "MedicationRequest": "authoredOn",
    "MedicationStatement": "effective dateAsserted",
    "NutritionOrder": "dateTime",
    "Observation": "effective issued",
    "Procedure": "performed",
    "Provenance": "occurred recorded",
    "QuestionnaireResponse": "authored",
    "RequestGroup": "authoredOn",
    "ResearchSubject": "period",
    "RiskAssessment": "occurrence",
    "Schedule": "planningHorizon",
    "ServiceRequest": "occurrence authoredOn",
    "Specimen": "collection.collected receivedTime",
    "SupplyDelivery": "occurrence",
    "SupplyRequest": "occurrence authoredOn",
    "Task": "executionPeriod authoredOn",
    "VisionPrescription": "dateWritten created",
}
"""Elements in order of preference; a choice element is named without its type."""

_Find = Callable[[Mapping[str, Any]], Interval | None]


def relevant_interval(resource: Mapping[str, Any]) -> Interval:
    """[from, until) of a resource, in UTC; a bound that is None is open, both None is undated."""
    for find in _RULES.get(resource.get("resourceType", ""), ()):
        found = find(resource)
        if found is not None:
            return found if _is_forwards(found) else UNDATED
    return UNDATED


def _is_forwards(found: Interval) -> bool:
    """What ends before it starts tells nothing."""
    return found[0] is None or found[1] is None or found[0] < found[1]


def _rule(text: str) -> _Find:
    if ".." in text:
        first, last = (_element(name) for name in text.split(".."))
        return lambda resource: _from_to(first(resource), last(resource))
    container, dot, name = text.partition(".")
    find = _element(name if dot else container)
    return (lambda resource: _hull(resource.get(container), find)) if dot else find


def _element(name: str) -> _Find:
    """None when neither the element nor any type of a choice of that name is present."""
    names = (name, *(name + kind for kind in ("DateTime", "Period", "Instant", "Date", "Timing")))
    undatable = tuple(name + kind for kind in ("Age", "Range", "String", "CodeableConcept", "Boolean"))

    def find(resource: Mapping[str, Any]) -> Interval | None:
        for present in names:
            if present in resource:
                return _value(resource[present])
        return UNDATED if any(present in resource for present in undatable) else None

    return find


def _from_to(first: Interval | None, last: Interval | None) -> Interval | None:
    """From the start of the first to the end of the last. An end without a start leaves the start open."""
    if first is None:
        return None if last is None or last == UNDATED else (None, last[1])
    return UNDATED if first == UNDATED else (first[0], last[1] if last is not None else None)


def _hull(container: Any, find: _Find) -> Interval | None:
    """The interval over a part of the resource, or over several of them."""
    parts = container if isinstance(container, list) else [container]
    found = [one for part in parts if isinstance(part, dict) and (one := find(part)) is not None]
    return _over(found) if found else None


def _over(intervals: list[Interval]) -> Interval:
    if UNDATED in intervals:
        return UNDATED
    return (
        _outer([one[0] for one in intervals], min),
        _outer([one[1] for one in intervals], max),
    )


def _outer(bounds: list[datetime | None], pick: Callable[[list[datetime]], datetime]) -> datetime | None:
    closed = [bound for bound in bounds if bound is not None]
    return pick(closed) if len(closed) == len(bounds) else None


def _value(value: Any) -> Interval:
    """A date, a Period, or a Timing: its bounds, else the span of its events."""
    if isinstance(value, str):
        return _date(value)
    if not isinstance(value, dict):
        return UNDATED
    repeat = value.get("repeat")
    if isinstance(repeat, dict) and isinstance(repeat.get("boundsPeriod"), dict):
        return _period(repeat["boundsPeriod"])
    events = value.get("event")
    if isinstance(events, list) and events:
        return _over([_value(event) for event in events])
    return _period(value)


def _period(period: Mapping[str, Any]) -> Interval:
    start, end = period.get("start"), period.get("end")
    lower = _date(start)[0] if isinstance(start, str) else None
    return lower, _date(end)[1] if isinstance(end, str) else None


def _date(text: str) -> Interval:
    try:
        return interval(text)
    except ValueError:
        return UNDATED


_RULES: Final = {kind: tuple(_rule(one) for one in rule.split()) for kind, rule in RULES.items()}
