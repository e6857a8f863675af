"""R4 resources as a UK system would write them, each from a few plain values; nothing is decided here."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from app.demo.catalogue import (
    ACT_CODE,
    LOINC,
    NO_KNOWN_ALLERGY,
    SNOMED,
    UCUM,
    Allergen,
    Code,
    Medicine,
    Vaccine,
)
from app.demo.chart import Chart, moment
from app.demo.findings import written
from app.demo.json_text import Resource
from app.demo.measures import BLOOD_PRESSURE, MEASURES, SMOKING_STATUS, Measure, Panel
from app.demo.organisations import Professional

_HL7 = "http://terminology.hl7.org/CodeSystem"


def concept(*codes: Code) -> Resource:
    """A CodeableConcept with one or more codings."""
    return {"coding": [{"system": code.system, "code": code.code, "display": code.display} for code in codes]}


def _hl7(name: str, code: str, display: str | None = None) -> Resource:
    coding: Resource = {"system": f"{_HL7}/{name}", "code": code}
    return {"coding": [coding if display is None else {**coding, "display": display}]}


def condition(
    chart: Chart,
    code: Code,
    since: date,
    *,
    ended: date | None = None,
    on_problem_list: bool = True,
    by: Professional,
    encounter: Resource | None = None,
) -> Resource:
    """A diagnosis: a problem list item, or what one encounter was about (con-3, con-4)."""
    category = (
        ("problem-list-item", "Problem List Item")
        if on_problem_list
        else ("encounter-diagnosis", "Encounter Diagnosis")
    )
    return {
        "resourceType": "Condition",
        "clinicalStatus": _hl7("condition-clinical", "active" if ended is None else "resolved"),
        "verificationStatus": _hl7("condition-ver-status", "confirmed"),
        "category": [_hl7("condition-category", *category)],
        "code": concept(code),
        "subject": chart.patient,
        **({} if encounter is None else {"encounter": encounter}),
        "onsetDateTime": since.isoformat(),
        **({} if ended is None else {"abatementDateTime": ended.isoformat()}),
        "recordedDate": since.isoformat(),
        "recorder": by.reference,
    }


def encounter(
    chart: Chart,
    class_: tuple[str, str],
    kind: Code,
    day: date,
    hour: int,
    *,
    by: Professional,
    nights: int = 0,
    reason: Code | None = None,
    place: int = 0,
) -> Resource:
    """A finished contact: twenty minutes long, or as many nights as are given."""
    end = moment(day + timedelta(days=nights), 14, 30) if nights else moment(day, hour, 20)
    return {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": ACT_CODE, "code": class_[0], "display": class_[1]},
        "type": [concept(kind)],
        "subject": chart.patient,
        "participant": [
            {
                "type": [_hl7("v3-ParticipationType", "ATND", "attender")],
                "individual": by.reference,
            }
        ],
        "period": {"start": moment(day, hour), "end": end},
        **({} if reason is None else {"reasonCode": [concept(reason)]}),
        "location": [{"location": chart.organisation.place(place)}],
        "serviceProvider": chart.organisation.reference,
    }


def _quantity(measure: Measure, number: object) -> Resource:
    return {"value": number, "unit": measure.unit, "system": UCUM, "code": measure.ucum or measure.unit}


def _interpreted(measure: Measure, number: object) -> Resource:
    """The reference range and how the value lies to it, as a laboratory prints them."""
    low, high = written(measure.low, measure.places), written(measure.high, measure.places)
    value = float(str(number))
    mark = ("L", "Low") if value < low else ("H", "High") if value > high else ("N", "Normal")
    return {
        "interpretation": [_hl7("v3-ObservationInterpretation", *mark)],
        "referenceRange": [{"low": _quantity(measure, low), "high": _quantity(measure, high)}],
    }


def _observed(
    chart: Chart, category: tuple[str, str], codes: Iterable[Code], at: str, seen: Resource | None
) -> Resource:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [_hl7("observation-category", *category)],
        "code": concept(*codes),
        "subject": chart.patient,
        **({} if seen is None else {"encounter": seen}),
        "effectiveDateTime": at,
    }


def vital_sign(
    chart: Chart, name: str, number: object, at: str, seen: Resource, by: Professional
) -> Resource:
    """A measured quantity of the examination (category vital-signs)."""
    measure = MEASURES[name]
    return {
        **_observed(chart, ("vital-signs", "Vital Signs"), measure.codes, at, seen),
        "performer": [by.reference],
        "valueQuantity": _quantity(measure, number),
    }


def blood_pressure(
    chart: Chart, systolic: object, diastolic: object, at: str, seen: Resource, by: Professional
) -> Resource:
    """Both pressures as components of one Observation."""
    parts = (("systolic", systolic), ("diastolic", diastolic))
    return {
        **_observed(chart, ("vital-signs", "Vital Signs"), BLOOD_PRESSURE, at, seen),
        "performer": [by.reference],
        "component": [
            {"code": concept(*MEASURES[name].codes), "valueQuantity": _quantity(MEASURES[name], number)}
            for name, number in parts
        ],
    }


def laboratory_result(chart: Chart, name: str, number: object, at: str, seen: Resource | None) -> Resource:
    """One analyte with its reference range (category laboratory)."""
    measure = MEASURES[name]
    return {
        **_observed(chart, ("laboratory", "Laboratory"), measure.codes, at, seen),
        "issued": at,
        "performer": [chart.organisation.reference],
        "valueQuantity": _quantity(measure, number),
        **_interpreted(measure, number),
    }


def survey_score(
    chart: Chart, name: str, number: object, at: str, seen: Resource, by: Professional
) -> Resource:
    """The total of a questionnaire (category survey)."""
    measure = MEASURES[name]
    return {
        **_observed(chart, ("survey", "Survey"), measure.codes, at, seen),
        "performer": [by.reference],
        "valueQuantity": _quantity(measure, number),
    }


def smoking_status(chart: Chart, status: Code, at: str, seen: Resource, by: Professional) -> Resource:
    return {
        **_observed(chart, ("social-history", "Social History"), SMOKING_STATUS, at, seen),
        "performer": [by.reference],
        "valueCodeableConcept": concept(status),
    }


def report(
    chart: Chart, panel: Panel, results: Sequence[Resource], at: str, seen: Resource | None
) -> Resource:
    """A laboratory report that groups ``results``, references to Observations."""
    return {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "category": [_hl7("v2-0074", "LAB", "Laboratory")],
        "code": concept(panel.code),
        "subject": chart.patient,
        **({} if seen is None else {"encounter": seen}),
        "effectiveDateTime": at,
        "issued": at,
        "performer": [chart.organisation.reference],
        "result": list(results),
    }


def _dosage(medicine: Medicine) -> Resource:
    return {
        "text": medicine.dosage,
        "timing": {"repeat": {"frequency": medicine.per_day, "period": 1, "periodUnit": "d"}},
    }


def prescription(
    chart: Chart,
    medicine: Medicine,
    day: date,
    *,
    by: Professional,
    repeats: bool,
    stopped: bool = False,
    reason: Resource | None = None,
    seen: Resource | None = None,
) -> Resource:
    """An order, repeat or acute (MedicationRequest)."""
    course = (
        ("continuous", "Continuous long term therapy")
        if repeats
        else ("acute", "Short course (acute) therapy")
    )
    return {
        "resourceType": "MedicationRequest",
        "status": "active" if repeats and not stopped else "completed",
        "intent": "order",
        "category": [_hl7("medicationrequest-category", "community", "Community")],
        "medicationCodeableConcept": concept(medicine.code),
        "subject": chart.patient,
        **({} if seen is None else {"encounter": seen}),
        "authoredOn": day.isoformat(),
        "requester": by.reference,
        **({} if reason is None else {"reasonReference": [reason]}),
        "courseOfTherapyType": _hl7("medicationrequest-course-of-therapy", *course),
        "dosageInstruction": [_dosage(medicine)],
        "dispenseRequest": {
            **({"numberOfRepeatsAllowed": 11} if repeats else {}),
            "expectedSupplyDuration": {
                "value": 28 if repeats else 7,
                "unit": "day",
                "system": UCUM,
                "code": "d",
            },
        },
    }


def medication_taken(chart: Chart, medicine: Medicine, day: date, seen: Resource) -> Resource:
    """What the person said they take, on admission (MedicationStatement)."""
    return {
        "resourceType": "MedicationStatement",
        "status": "active",
        "medicationCodeableConcept": concept(medicine.code),
        "subject": chart.patient,
        "context": seen,
        "effectivePeriod": {"start": day.isoformat()},
        "dateAsserted": day.isoformat(),
        "informationSource": chart.patient,
        "dosage": [_dosage(medicine)],
    }


def _allergy(chart: Chart, code: Code, recorded: date, by: Professional) -> Resource:
    return {
        "resourceType": "AllergyIntolerance",
        "clinicalStatus": _hl7("allergyintolerance-clinical", "active"),
        "verificationStatus": _hl7("allergyintolerance-verification", "confirmed"),
        "code": concept(code),
        "patient": chart.patient,
        "recordedDate": recorded.isoformat(),
        "recorder": by.reference,
    }


def no_known_allergy(chart: Chart, recorded: date, by: Professional) -> Resource:
    return _allergy(chart, NO_KNOWN_ALLERGY, recorded, by)


def allergy(chart: Chart, allergen: Allergen, recorded: date, by: Professional) -> Resource:
    return {
        **_allergy(chart, allergen.code, recorded, by),
        "type": "allergy",
        "category": [allergen.category],
        "criticality": "high" if allergen.high_risk else "low",
        "reaction": [{"manifestation": [concept(allergen.reaction)], "severity": allergen.severity}],
    }


def vaccination(chart: Chart, vaccine: Vaccine, day: date, dose: int, by: Professional) -> Resource:
    return {
        "resourceType": "Immunization",
        "status": "completed",
        "vaccineCode": concept(vaccine.code),
        "patient": chart.patient,
        "occurrenceDateTime": day.isoformat(),
        "recorded": day.isoformat(),
        "primarySource": True,
        "lotNumber": f"LK{day:%y%m}{dose:02d}",
        "performer": [{"actor": by.reference}],
        "protocolApplied": [{"targetDisease": [concept(vaccine.disease)], "doseNumberPositiveInt": dose}],
    }


def procedure(chart: Chart, code: Code, day: date, seen: Resource, by: Professional) -> Resource:
    return {
        "resourceType": "Procedure",
        "status": "completed",
        "code": concept(code),
        "subject": chart.patient,
        "encounter": seen,
        "performedDateTime": day.isoformat(),
        "performer": [{"actor": by.reference, "onBehalfOf": chart.organisation.reference}],
    }


def letter(
    chart: Chart, kind: Code, title: str, text: str, at: str, seen: Resource, by: Professional
) -> Resource:
    """A letter as plain text inside the resource (Attachment.data is base64)."""
    octets = text.encode()
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "docStatus": "final",
        "type": concept(kind),
        "category": [concept(Code(LOINC, "34133-9", "Summarization of episode note"))],
        "subject": chart.patient,
        "date": at,
        "author": [by.reference],
        "custodian": chart.organisation.reference,
        "content": [
            {
                "attachment": {
                    "contentType": "text/plain; charset=utf-8",
                    "language": "en-GB",
                    "data": b64encode(octets).decode(),
                    "size": len(octets),
                    "title": title,
                    "creation": at,
                }
            }
        ],
        "context": {"encounter": [seen]},
    }


def referral(chart: Chart, to: Resource, reason: Code, day: date, by: Professional) -> Resource:
    """A practice's referral to a trust (ServiceRequest)."""
    return {
        "resourceType": "ServiceRequest",
        "status": "completed",
        "intent": "order",
        "priority": "routine",
        "code": concept(Code(SNOMED, "3457005", "Patient referral")),
        "subject": chart.patient,
        "authoredOn": day.isoformat(),
        "requester": by.reference,
        "performer": [to],
        "reasonCode": [concept(reason)],
    }


def appointment(chart: Chart, day: date, hour: int, with_: Professional) -> Resource:
    """A booked appointment of half an hour, on the Monday when ``day`` is at a weekend. Its times are instants."""
    day += timedelta(days=7 - day.weekday() if day.weekday() > 4 else 0)
    return {
        "resourceType": "Appointment",
        "status": "booked",
        "description": "Follow-up appointment",
        "start": moment(day, hour),
        "end": moment(day, hour, 30),
        "participant": [
            {"actor": chart.patient, "status": "accepted"},
            {"actor": with_.reference, "status": "accepted"},
            {"actor": chart.organisation.place(-1), "status": "accepted"},
        ],
    }
