"""What breaks R4 is refused by the element's name and the rule; what R4 allows is never refused."""

from decimal import Decimal
from typing import Any

import pytest

from app.errors import InvalidResource, Issue
from app.fhir.findings import MOST_ISSUES
from app.fhir.validation import validate

Json = dict[str, Any]

OBSERVATION: Json = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
NULL_FLAVOUR: Json = {"extension": [{"url": "u", "valueCode": "unknown"}]}
PATIENT: Json = {"resourceType": "Patient"}
XHTML = '<div xmlns="http://www.w3.org/1999/xhtml">'


def issues(resource: Any, expected_type: str | None = None) -> list[Issue]:
    try:
        validate(resource, expected_type=expected_type)
    except InvalidResource as error:
        return list(error.issues)
    return []


def places(resource: Any) -> list[tuple[str, str | None]]:
    return [(issue.code, issue.expression) for issue in issues(resource)]


def test_a_nonsense_status_is_refused_by_its_path_and_value_set() -> None:
    (issue,) = issues(OBSERVATION | {"status": "nonsense"})
    assert (issue.severity, issue.code, issue.expression) == ("error", "code-invalid", "Observation.status")
    assert "http://hl7.org/fhir/ValueSet/observation-status" in issue.text
    assert "entered-in-error" in issue.text
    assert "nonsense" not in issue.text


@pytest.mark.parametrize(
    ("change", "code", "expression"),
    [
        ({"statuss": "final"}, "structure", "Observation.statuss"),
        ({"status": 1}, "value", "Observation.status"),
        ({"status": ["final"]}, "structure", "Observation.status"),
        ({"status": None}, "structure", "Observation.status"),
        ({"category": {"text": "x"}}, "structure", "Observation.category"),
        ({"category": []}, "structure", "Observation.category"),
        ({"category": [None]}, "structure", "Observation.category[0]"),
        ({"category": [{"text": "a"}, "b"]}, "structure", "Observation.category[1]"),
        ({"code": {"text": ""}}, "value", "Observation.code.text"),
        ({"code": {}}, "invariant", "Observation.code"),
        ({"code": {"id": "a"}}, "invariant", "Observation.code"),
        ({"code": "x"}, "structure", "Observation.code"),
        (
            {"component": [{"code": {"text": "a"}}, {"valueString": "x"}]},
            "required",
            "Observation.component[1].code",
        ),
        ({"valueString": "x", "valueBoolean": True}, "structure", "Observation.value"),
        ({"valueString": "x", "_valueBoolean": NULL_FLAVOUR}, "structure", "Observation.value"),
        ({"valueDecimal": 1}, "structure", "Observation.valueDecimal"),
        ({"value": 1}, "structure", "Observation.value"),
        ({"valueQuantity": {"value": "1.5"}}, "value", "Observation.value.value"),
        ({"valueQuantity": {"value": True}}, "value", "Observation.value.value"),
        ({"effectiveDateTime": "2021-02-29"}, "value", "Observation.effective"),
        ({"issued": "2021-02-28"}, "value", "Observation.issued"),
        ({"subject": {"reference": "Practitioner/1"}}, "structure", "Observation.subject"),
        (
            {"performer": [{"reference": "http://x.org/fhir/Location/1/_history/2"}]},
            "structure",
            "Observation.performer[0]",
        ),
        ({"performer": [{"reference": "Location?identifier=1"}]}, "structure", "Observation.performer[0]"),
        ({"subject": {"reference": "#p"}}, "invariant", "Observation.subject"),
        ({"extension": [{"valueString": "x"}]}, "required", "Observation.extension[0].url"),
        ({"extension": [{"url": "u"}]}, "invariant", "Observation.extension[0]"),
        (
            {"extension": [{"url": "u", "valueString": "x", "extension": [{"url": "v", "valueCode": "y"}]}]},
            "invariant",
            "Observation.extension[0]",
        ),
        ({"_status": {"extension": [{"url": "u"}]}}, "invariant", "Observation.status.extension[0]"),
        ({"_status": {}}, "invariant", "Observation.status"),
        ({"_id": {"id": "a"}}, "structure", "Observation._id"),
        ({"_code": {"id": "a"}}, "structure", "Observation._code"),
        ({"_category": [{"id": "a"}]}, "structure", "Observation._category"),
        ({"text": {"status": "generated", "div": "<p>x</p>"}}, "invalid", "Observation.text.div"),
        ({"text": {"div": XHTML + "x</div>"}}, "required", "Observation.text.status"),
        ({"fhir_comments": ["x"]}, "structure", None),
        ({"9434765919": "x"}, "structure", "Observation"),
        ({"meta": {"lastUpdated": "2020"}}, "value", "Observation.meta.lastUpdated"),
        ({"id": "a_b"}, "value", "Observation.id"),
        ({"dataAbsentReason": {"text": "x"}, "valueString": "y"}, "invariant", "Observation"),
    ],
)
def test_what_breaks_a_rule_is_refused_where_it_stands(
    change: Json, code: str, expression: str | None
) -> None:
    assert places(OBSERVATION | change) == [(code, expression or "Observation")]


def test_a_missing_element_and_a_missing_choice_are_named() -> None:
    assert places({"resourceType": "Observation"}) == [
        ("required", "Observation.status"),
        ("required", "Observation.code"),
    ]
    assert ("required", "MedicationRequest.medication") in places({"resourceType": "MedicationRequest"})


@pytest.mark.parametrize(
    "resource",
    [
        [],
        "x",
        None,
        1,
        {},
        {"resourceType": "observation"},
        {"resourceType": ["Patient"]},
        {"resourceType": {}},
        {"resourceType": "Resource"},
        {"resourceType": None},
    ],
)
def test_what_is_no_resource_of_r4_is_refused(resource: Any) -> None:
    assert places(resource) == [("structure", "Resource")]


def test_another_type_than_expected_is_refused() -> None:
    (issue,) = issues(PATIENT, "Observation")
    assert (issue.code, issue.expression) == ("invalid", "Patient")
    assert "Observation" in issue.text
    assert issues(PATIENT | {"active": True}, "Patient") == []


def test_an_issue_never_repeats_a_value() -> None:
    number = "9434765919"
    resource = PATIENT | {
        number: 1,
        "gender": number,
        "birthDate": number,
        "name": [number],
        "id": number + "_",
    }
    assert len(issues(resource)) == 5
    assert not [issue for issue in issues(resource) if number in issue.text + (issue.expression or "")]


def test_the_list_of_issues_ends_at_a_hundred() -> None:
    assert len(issues(OBSERVATION | {"category": ["x"] * 1000})) == MOST_ISSUES == 100


@pytest.mark.parametrize(
    "change",
    [
        {"valueQuantity": {"value": Decimal("1.50")}},
        {"valueQuantity": {"value": 1}},
        {"valueQuantity": {"value": 1.5}},
        {"valueInteger": -5},
        {"_status": {"extension": [{"url": "u", "valueString": "x"}]}},
        {"_valueDateTime": {"extension": [{"url": "u", "valueCode": "unknown"}]}},
        {"valueString": "line\r\n\tnext\u00a0\u2028", "_valueString": {"id": "a"}},
        {"subject": {"reference": "urn:uuid:4b2cbdd5-0d52-4d5d-8ddb-0f0d1c8a8f10"}},
        {"subject": {"reference": "https://elsewhere.example/Practitioner-list/1"}},
        {"subject": {"identifier": {"value": "1"}, "type": "Patient"}},
        {"focus": [{"reference": "Account/1"}]},
        {"effectiveDateTime": "2020-02-29"},
        {"effectiveDateTime": "1990"},
        {"effectiveDateTime": "2015-06-30T23:59:60Z"},
        {"issued": "2021-02-28T10:00:00.123456789+14:00"},
        {"extension": [{"url": "u", "_valueString": {"extension": [{"url": "v", "valueCode": "y"}]}}]},
        {"contained": [{"resourceType": "Patient", "id": "p"}], "subject": {"reference": "#p"}},
        {
            "contained": [
                {
                    "resourceType": "List",
                    "id": "l",
                    "status": "current",
                    "mode": "working",
                    "subject": {"reference": "#"},
                }
            ]
        },
    ],
)
def test_what_r4_allows_is_accepted(change: Json) -> None:
    assert issues(OBSERVATION | change) == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"given": ["A", None], "_given": [{"id": "x"}, NULL_FLAVOUR]}, []),
        ({"_given": [NULL_FLAVOUR]}, []),
        ({"_given": [{"id": "x"}]}, [("invariant", "Patient.name[0].given[0]")]),
        ({"given": ["A", "B"], "_given": [{"id": "x"}]}, []),
        ({"given": ["A"], "_given": [None, NULL_FLAVOUR]}, [("structure", "Patient.name[0].given")]),
        ({"given": ["A", None], "_given": [{"id": "x"}]}, [("structure", "Patient.name[0].given[1]")]),
        ({"given": [None]}, [("structure", "Patient.name[0].given[0]")]),
        ({"_given": [None]}, [("structure", "Patient.name[0].given[0]")]),
        ({"given": [None], "_given": [None]}, [("structure", "Patient.name[0].given[0]")] * 2),
        ({"given": ["A"], "_given": {"id": "x"}}, [("structure", "Patient.name[0].given")]),
        ({"given": ["A"], "_given": [{"x": 1}]}, [("structure", "Patient.name[0].given[0].x")]),
    ],
)
def test_primitives_and_their_extensions_are_aligned_by_nulls(
    names: Json, expected: list[tuple[str, str]]
) -> None:
    assert places(PATIENT | {"name": [names]}) == expected


def contained(**change: Any) -> Json:
    return OBSERVATION | {
        "contained": [{"resourceType": "Patient", "id": "p"} | change],
        "subject": {"reference": "#p"},
    }


def test_what_is_contained_has_no_life_of_its_own() -> None:
    assert places(contained()) == []
    assert ("invariant", "Observation.contained[0]") in places(contained(meta={"versionId": "1"}))
    assert ("invariant", "Observation.contained[0]") in places(contained(meta={"security": [{"code": "R"}]}))
    assert ("invariant", "Observation.contained[0]") in places(contained(id="q"))
    assert ("structure", "Observation.contained[0].x") in places(contained(x=1))
    nested = places(contained(contained=[{"resourceType": "Organization", "name": "x", "id": "o"}]))
    assert ("invariant", "Observation.contained[0]") in nested


def test_a_local_reference_stays_inside_its_own_bundle_entry() -> None:
    other = {"resource": OBSERVATION | {"subject": {"reference": "#p"}}}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": contained()}, other]}
    assert places(bundle) == [("invariant", "Bundle.entry[1].resource.subject")]


def test_an_issue_in_a_bundle_names_the_entry() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": OBSERVATION | {"status": "x"}}],
    }
    assert places(bundle) == [("code-invalid", "Bundle.entry[0].resource.status")]


CLINICAL = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"coding": [{"system": CLINICAL, "code": "active"}]}, []),
        ({"coding": [{"system": "urn:mine", "code": "x"}, {"system": CLINICAL, "code": "active"}]}, []),
        ({"extension": [{"url": "u", "valueCode": "unknown"}]}, []),
        ({"coding": [{"system": CLINICAL, "code": "x"}]}, ["code-invalid"]),
        ({"coding": [{"system": "urn:mine", "code": "active"}]}, ["code-invalid"]),
        ({"text": "active"}, ["code-invalid"]),
    ],
)
def test_a_required_concept_needs_one_coding_from_the_value_set(status: Json, expected: list[str]) -> None:
    allergy = {
        "resourceType": "AllergyIntolerance",
        "patient": {"reference": "Patient/1"},
        "clinicalStatus": status,
    }
    assert [issue.code for issue in issues(allergy)] == expected
