"""The table of search parameters is HL7's, and every expression in it is understood."""

import runpy
from pathlib import Path

import pytest

from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.fhirpath import selectors
from app.fhir.parameters import Component, parameter, parameters_of

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_EXPRESSION = {"_text", "_content", "_query"}
EVERY = [
    (resource_type, one)
    for resource_type in sorted(RESOURCE_TYPES)
    for one in parameters_of(resource_type).values()
]


def test_a_parameter_says_its_type_expression_targets_and_meaning() -> None:
    patient = parameter("Observation", "patient")
    assert patient is not None
    assert (patient.type, patient.targets) == ("reference", ("Patient", "Group"))
    assert "Observation.subject.where(resolve() is Patient)" in patient.expression
    assert patient.documentation == "The subject that the observation is about (if patient)"
    assert parameter("Condition", "patient") != patient
    assert parameter("Observation", "nope") is None


def test_a_composite_names_the_type_of_its_components() -> None:
    found = parameter("Observation", "code-value-quantity")
    assert found is not None
    assert found.components == (
        Component("code", "token", "code"),
        Component("value-quantity", "quantity", "value.as(Quantity)"),
    )


def test_the_swapped_components_of_a_document_relationship_are_put_right() -> None:
    found = parameter("DocumentReference", "relationship")
    assert found is not None
    assert found.components == (
        Component("relation", "token", "code"),
        Component("relatesto", "reference", "target"),
    )


def test_every_type_has_the_parameters_of_all_resources() -> None:
    for resource_type in RESOURCE_TYPES:
        common = {"_id", "_lastUpdated", "_tag", "_profile", "_security", "_source"}
        assert common <= parameters_of(resource_type).keys()
    assert "_text" in parameters_of("Patient")
    assert "_text" not in parameters_of("Bundle")


def test_an_unknown_type_has_no_parameters() -> None:
    with pytest.raises(KeyError):
        parameters_of("Observations")


@pytest.mark.parametrize("resource_type", sorted(RESOURCE_TYPES))
def test_every_expression_finds_something_in_every_type_it_is_for(resource_type: str) -> None:
    for one in parameters_of(resource_type).values():
        if one.code in WITHOUT_EXPRESSION:
            assert one.expression == ""
            continue
        found = selectors(one.expression, resource_type)
        assert found, one.code
        for component in one.components:
            for base in found:
                assert selectors(component.expression, base.type, resource_type), (one.code, component)


def test_nothing_of_the_1375_definitions_is_left_out() -> None:
    # 1,375 definitions, many for several types: 1,706 pairs; those of Resource and DomainResource are for all types.
    for_all = 8 * len(RESOURCE_TYPES) + sum("_text" in parameters_of(name) for name in RESOURCE_TYPES)
    assert len(EVERY) == 1_706 - 9 + for_all


def test_the_tables_are_what_the_script_derives(shared_data: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "derive_search_parameters.py"))
    for name, content in script["derive"](shared_data / "hl7").items():
        assert (ROOT / "app" / "fhir" / "r4" / name).read_bytes() == content, name
