"""What is loaded: valid R4, closed under reference, loadable twice, plausible over a life."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from statistics import median
from typing import Any

from app.demo.bundles import bundles_for, consents_for, directory_bundle, to_text
from app.demo.catalogue import DMD, MEDICINES
from app.demo.person import DemoPerson
from app.demo.problems import PROBLEMS, TERMINATION
from app.fhir.validation import validate
from app.vocabulary import NHS_NUMBER_SYSTEM

from .conftest import Population

Resource = dict[str, Any]

_TYPES = {
    *(
        "Patient",
        "Condition",
        "MedicationRequest",
        "MedicationStatement",
        "AllergyIntolerance",
        "Observation",
    ),
    *("Encounter", "DiagnosticReport", "Immunization", "Procedure", "DocumentReference", "ServiceRequest"),
    *("Appointment", "Consent"),
}
_STAFF = {"Organization", "Location", "Practitioner", "PractitionerRole"}


def _values(value: Any) -> Iterator[Any]:
    """Every value inside ``value``, itself included."""
    yield value
    if isinstance(value, dict):
        for child in value.values():
            yield from _values(child)
    elif isinstance(value, list):
        for child in value:
            yield from _values(child)


def _references(resource: Resource) -> set[str]:
    return {
        value["reference"]
        for value in _values(resource)
        if isinstance(value, dict) and isinstance(value.get("reference"), str)
    }


def _codes(resource: Resource) -> set[str]:
    return {
        value["code"]
        for value in _values(resource)
        if isinstance(value, dict) and isinstance(value.get("code"), str)
    }


def _labels(resource: Resource) -> set[str]:
    return {label["code"] for label in resource.get("meta", {}).get("security", ())}


def test_every_resource_is_valid_r4(population: Population) -> None:
    for resource in population.directory:
        validate(json.loads(to_text(resource), parse_float=Decimal))
    for _, _, resource in population.resources():
        validate(json.loads(to_text(resource), parse_float=Decimal))


def test_every_promised_type_occurs(population: Population) -> None:
    assert {resource["resourceType"] for _, _, resource in population.resources()} == _TYPES
    assert {resource["resourceType"] for resource in population.directory} == _STAFF


def test_every_reference_resolves_in_its_bundle_or_in_the_directory(population: Population) -> None:
    staff = {f"{each['resourceType']}/{each['id']}" for each in population.directory}
    assert all(_references(each) <= staff for each in population.directory)
    for person in population.people:
        for ods, resources in population.records[person.nhs_number.digits].items():
            inside = {f"urn:uuid:{resource['id']}" for resource in resources}
            for resource in resources:
                assert _references(resource) <= inside | staff, (ods, resource["resourceType"])


def test_a_consent_refers_to_the_patient_that_its_custodian_keeps(population: Population) -> None:
    staff = {f"{each['resourceType']}/{each['id']}" for each in population.directory}
    consents = [found for found in population.resources() if found[2]["resourceType"] == "Consent"]
    assert len(consents) > 15
    for person, ods, consent in consents:
        patient = next(
            resource
            for resource in population.records[person.nhs_number.digits][ods]
            if resource["resourceType"] == "Patient"
        )
        assert consent["patient"]["reference"] == f"Patient/{patient['id']}"
        assert _references(consent) <= {*staff, f"Patient/{patient['id']}"}


def test_every_entry_is_a_put_under_an_id_of_its_own(population: Population) -> None:
    seen: set[str] = set()
    bundles = [directory_bundle()]
    for person in population.people:
        bundles += [bundle for _, bundle in (*bundles_for(person), *consents_for(person))]
    for bundle in bundles:
        assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
        for entry in _entries(bundle):
            url = f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
            assert entry["request"] == {"method": "PUT", "url": url}
            assert entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}"
            assert url not in seen
            seen.add(url)


def _entries(bundle: Any) -> list[Resource]:
    entries: list[Resource] = bundle["entry"]
    return entries


def test_every_resource_has_an_identifier_of_its_custodian(population: Population) -> None:
    for _, _, resource in population.resources():
        assert all(each["system"] and each["value"] for each in resource["identifier"])


def test_each_custodian_keeps_one_patient_with_the_verified_number_and_its_own(
    population: Population,
) -> None:
    local = Counter[tuple[str, str]]()
    for person in population.people:
        for ods in person.custodians:
            resources = population.records[person.nhs_number.digits][ods]
            (patient,) = (each for each in resources if each["resourceType"] == "Patient")
            national, own = patient["identifier"]
            assert patient["id"] == person.patient_id(ods)
            assert (national["system"], national["value"]) == (NHS_NUMBER_SYSTEM, person.nhs_number.digits)
            assert _codes(national["extension"][0]) == {"01"}
            assert patient["birthDate"] == person.born.isoformat()
            local[own["system"], own["value"]] += 1
    assert set(local.values()) == {1}


def test_numbers_keep_the_digits_that_a_laboratory_writes(population: Population) -> None:
    trailing = 0
    for _, _, resource in population.resources():
        if resource["resourceType"] != "Observation" or "valueQuantity" not in resource:
            continue
        value = resource["valueQuantity"]["value"]
        assert not isinstance(value, float)
        text = to_text(resource["valueQuantity"])
        assert text.startswith(f'{{"value":{value},')
        trailing += str(value).endswith(".0") or (isinstance(value, Decimal) and str(value).endswith("0"))
    assert trailing > 50


def test_no_value_is_a_binary_fraction(population: Population) -> None:
    for _, _, resource in population.resources():
        assert not any(isinstance(value, float) for value in _values(resource))


def _dates(resource: Resource) -> Iterator[date]:
    """When a resource says that something happened; what is booked or decided is left out."""
    for name in (
        "effectiveDateTime",
        "onsetDateTime",
        "abatementDateTime",
        "recordedDate",
        "authoredOn",
        "issued",
    ):
        if name in resource:
            yield date.fromisoformat(resource[name][:10])
    for name in ("occurrenceDateTime", "performedDateTime", "date"):
        if name in resource:
            yield date.fromisoformat(resource[name][:10])
    for day in resource.get("period", {}).values():
        yield date.fromisoformat(day[:10])


def test_nothing_happens_before_birth_or_after_the_last_day(population: Population) -> None:
    found = 0
    for person, _, resource in population.resources():
        for day in _dates(resource):
            found += 1
            assert person.born <= day <= person.last_day, (person.nhs_number, resource["resourceType"])
    assert found > 5_000


def test_nobody_allergic_to_penicillin_is_given_any(population: Population) -> None:
    penicillins = {each.code.code for each in MEDICINES.values() if each.penicillin}
    given_to = {
        person.nhs_number
        for person, _, resource in population.resources()
        if resource["resourceType"] == "MedicationRequest" and _codes(resource) & penicillins
    }
    allergic = {person.nhs_number for person in population.people if "penicillin" in person.allergies}
    assert given_to
    assert allergic
    assert not given_to & allergic


def test_medicines_are_coded_in_dmd_under_one_system(population: Population) -> None:
    for _, _, resource in population.resources():
        if "medicationCodeableConcept" in resource:
            assert [coding["system"] for coding in resource["medicationCodeableConcept"]["coding"]] == [DMD]


def test_sensitive_records_are_labelled_and_nothing_else_is(population: Population) -> None:
    sensitive = {
        problem.code.code: set(problem.sensitivity) for problem in PROBLEMS.values() if problem.sensitivity
    }
    sensitive[TERMINATION.code] = {"SEX"}
    people = set()
    for person, _, resource in population.resources():
        if resource["resourceType"] == "Consent":
            continue
        of = set().union(*(sensitive.get(code, set()) for code in _codes(resource)))
        if of:
            people.add(person.nhs_number)
            assert _labels(resource) == {"R", *of}
        if _labels(resource):
            assert person.illnesses or person.procedures
            assert "R" in _labels(resource)
    assert 6 <= len(people) <= 16


def test_a_person_has_a_record_of_plausible_size(population: Population) -> None:
    sizes = [sum(map(len, population.records[each.nhs_number.digits].values())) for each in population.people]
    assert 60 <= median(sizes) <= 150
    assert min(sizes) >= 25
    assert max(sizes) <= 500


def test_measured_values_are_humanly_possible(population: Population) -> None:
    bounds = {
        "8480-6": (60, 230),
        "8462-4": (35, 140),
        "8867-4": (35, 200),
        "8310-5": (34, 42),
        "59408-5": (70, 100),
        "29463-7": (2, 200),
        "8302-2": (40, 210),
        "39156-5": (10, 60),
        "59261-8": (15, 160),
        "2823-3": (2, 8),
        "718-7": (60, 220),
    }
    seen = Counter[str]()
    for _, _, resource in population.resources():
        for part in (resource, *resource.get("component", ())):
            if "valueQuantity" in part and (code := part["code"]["coding"][0]["code"]) in bounds:
                least, most = bounds[code]
                assert least <= part["valueQuantity"]["value"] <= most, (code, part["valueQuantity"])
                seen[code] += 1
    assert set(seen) == set(bounds)


def test_a_child_grows(population: Population) -> None:
    children = [person for person in population.people if 6 <= person.age() < 14]
    assert children
    for child in children:
        heights = sorted(_heights(population, child))
        assert [height for _, height in heights] == sorted(height for _, height in heights)
        assert heights[0][1] < heights[-1][1]


def _heights(population: Population, child: DemoPerson) -> Iterator[tuple[str, Any]]:
    for resource in population.records[child.nhs_number.digits][child.practice]:
        if resource["resourceType"] == "Observation" and "8302-2" in _codes(resource):
            yield resource["effectiveDateTime"], resource["valueQuantity"]["value"]


def test_appointments_lie_ahead_on_working_days(population: Population) -> None:
    booked = [
        (person, date.fromisoformat(resource["start"][:10]))
        for person, _, resource in population.resources()
        if resource["resourceType"] == "Appointment"
    ]
    assert booked
    assert all(day > person.as_of and day.weekday() < 5 and person.died is None for person, day in booked)
