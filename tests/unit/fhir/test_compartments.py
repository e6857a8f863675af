"""Membership follows CompartmentDefinition, and what may mean a patient without telling which is reported."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fhir.compartments import Membership, compartment_parameters, in_patient_compartment, patients_of
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.parameters import parameters_of

BASE = "https://node.example/fhir"
HERE = {"reference": "Patient/1"}


def membership(resource_type: str, **members: Any) -> Membership:
    return patients_of({"resourceType": resource_type, **members}, BASE)


def test_the_definitions_parameters_are_as_hl7_lists_them() -> None:
    assert compartment_parameters("Patient", "Observation") == ("subject", "performer")
    assert compartment_parameters("Encounter", "Encounter") == ("{def}",)
    assert compartment_parameters("Patient", "Organization") == ()
    with pytest.raises(KeyError):
        compartment_parameters("Organization", "Observation")


def test_every_parameter_of_the_patient_compartment_is_a_reference_of_its_type() -> None:
    for resource_type in RESOURCE_TYPES:
        for code in compartment_parameters("Patient", resource_type):
            assert parameters_of(resource_type)[code].type == "reference"


def test_some_types_belong_to_patients_and_others_never_do() -> None:
    assert all(map(in_patient_compartment, ("Patient", "Observation", "Consent", "Appointment", "Group")))
    assert not any(
        map(in_patient_compartment, ("Practitioner", "Organization", "Location", "Task", "Medication"))
    )


@pytest.mark.parametrize(
    ("resource_type", "members", "patients"),
    [
        ("Observation", {"subject": HERE}, ("1",)),
        ("Observation", {"subject": {"reference": f"{BASE}/Patient/1/_history/3"}}, ("1",)),
        ("Observation", {"performer": [{"reference": "Patient/2"}], "subject": HERE}, ("1", "2")),
        ("Observation", {"subject": {"reference": "Group/g"}, "focus": [HERE]}, ()),
        (
            "Observation",
            {"subject": {"reference": "Device/d"}, "performer": [{"reference": "Patient/2"}]},
            ("2",),
        ),
        ("Coverage", {"policyHolder": {"reference": "Patient/9"}, "beneficiary": HERE}, ("1", "9")),
        (
            "Appointment",
            {"participant": [{"actor": HERE}, {"actor": {"reference": "Practitioner/2"}}]},
            ("1",),
        ),
        ("Group", {"member": [{"entity": HERE}, {"entity": {"reference": "Patient/2"}}]}, ("1", "2")),
        ("Provenance", {"target": [{"reference": "Observation/o"}, HERE]}, ("1",)),
        ("AuditEvent", {"entity": [{"what": HERE}]}, ("1",)),
        ("Patient", {"id": "1", "link": [{"other": {"reference": "Patient/2"}}]}, ("1",)),
        ("Practitioner", {"id": "1"}, ()),
        ("Observation", {"subject": {"display": "a phantom"}}, ()),
        ("Observation", {}, ()),
        ("Patient", {}, ()),
    ],
)
def test_a_resource_is_in_the_compartments_its_parameters_name(
    resource_type: str, members: dict[str, Any], patients: tuple[str, ...]
) -> None:
    assert membership(resource_type, **members) == Membership(patients, ())


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": "http://other/fhir/Patient/1"},
        {"reference": "urn:uuid:1b4e28ba-2fa1-11d2-883f-0016d3cca427"},
        {"reference": "Patient?identifier=1"},
        {"reference": "patient/1"},
        {"reference": "#p"},
        {"reference": "#nobody"},
        {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009"}},
        {"identifier": {"value": "1"}, "type": "Patient"},
        "Patient/1",
        [HERE],
    ],
)
def test_a_subject_that_does_not_tell_which_patient_of_ours_is_unresolved(subject: Any) -> None:
    contained = [{"resourceType": "Patient", "id": "p"}]
    found = membership("Observation", subject=subject, contained=contained)
    assert found == Membership((), ("subject",))


def test_a_contained_subject_that_is_no_patient_is_nobody() -> None:
    contained = [{"resourceType": "Device", "id": "d"}]
    assert membership("Observation", subject={"reference": "#d"}, contained=contained) == Membership((), ())


def test_a_performer_known_by_identifier_does_not_bar_a_record_whose_subject_is_known() -> None:
    organisation = {"identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "RX1"}}
    assert membership("Observation", subject=HERE, performer=[organisation]) == Membership(("1",), ())
    assert membership("Observation", performer=[organisation]) == Membership((), ("performer",))
    typed = {**organisation, "type": "Organization"}
    assert membership("Observation", performer=[typed]) == Membership((), ())


def test_a_patient_of_another_base_is_unresolved_beside_a_known_one() -> None:
    performer = [{"reference": "http://other/fhir/Patient/2"}]
    assert membership("Observation", subject=HERE, performer=performer) == Membership(("1",), ("performer",))


def test_an_encounter_whose_subject_is_known_by_identifier_is_unresolved_though_r4_filters_by_type() -> None:
    assert parameters_of("Encounter")["patient"].expression.count(
        "Encounter.subject.where(resolve() is Patient)"
    )
    assert membership("Encounter", subject={"identifier": {"value": "1"}}).unresolved == ("subject",)


def test_synthea_records_belong_to_their_one_patient(shared_data: Path) -> None:
    path = min((shared_data / "synthea" / "base-2019").glob("*.json.xz"))
    with lzma.open(path, "rt", encoding="utf-8") as file:
        resources = [
            entry["resource"] for entry in json.loads(file.read().replace("urn:uuid:", "Patient/"))["entry"]
        ]
    [patient] = [one["id"] for one in resources if one["resourceType"] == "Patient"]
    of_patients = [one for one in resources if in_patient_compartment(one["resourceType"])]
    assert len(of_patients) > 50
    for one in of_patients:
        assert patient in patients_of(one, BASE).patients, one["resourceType"]


@given(st.sampled_from(["Observation", "Group", "Coverage", "Claim"]), st.data())
def test_no_json_makes_membership_fail(resource_type: str, data: st.DataObject) -> None:
    values = st.recursive(
        st.none() | st.booleans() | st.text(max_size=8) | st.sampled_from(["Patient/1", "#a", "Patient"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["reference", "type", "identifier", "entity", "id", "party"]), inner
            )
        ),
    )
    names = st.sampled_from(
        ["subject", "performer", "member", "beneficiary", "contained", "patient", "payee"]
    )
    resource = data.draw(st.dictionaries(names, values))
    found = patients_of({**resource, "resourceType": resource_type}, BASE)
    assert set(found.patients) <= {"1"}
