"""The tables say what R4 4.0.1 says, and are what the script derives."""

import runpy
from pathlib import Path

import pytest

from app.fhir import definitions
from app.fhir.definitions import RESOURCE_TYPES, json_names, type_definition, value_set

ROOT = Path(__file__).resolve().parents[3]


def test_r4_has_146_concrete_resource_types_and_none_of_another_release() -> None:
    assert len(RESOURCE_TYPES) == 146
    assert {"Patient", "Binary", "Bundle", "Parameters", "MedicinalProduct"} <= RESOURCE_TYPES
    assert not {"Resource", "DomainResource", "MetadataResource", "Citation", "Ingredient"} & RESOURCE_TYPES


def test_an_element_carries_its_cardinality_targets_binding_and_flags() -> None:
    elements = type_definition("Observation").elements
    assert list(elements)[:4] == ["id", "meta", "implicitRules", "language"]
    assert elements["id"].types == ("id",)
    assert (elements["status"].min, elements["status"].max) == (1, 1)
    assert elements["status"].binding == "http://hl7.org/fhir/ValueSet/observation-status"
    assert (
        elements["status"].is_modifier and elements["status"].is_summary and not elements["note"].is_summary
    )
    assert elements["subject"].targets == ("Patient", "Group", "Device", "Location")
    assert elements["category"].repeats and not elements["code"].repeats


def test_a_choice_is_one_element_with_a_json_name_for_each_type() -> None:
    names = json_names("Observation")
    assert [name for name in names if name.startswith("effective")] == [
        "effectiveDateTime",
        "effectivePeriod",
        "effectiveTiming",
        "effectiveInstant",
    ]
    element, concrete = names["valueQuantity"]
    assert (element.name, element.is_choice, concrete) == ("value", True, "Quantity")
    assert "value" not in names
    assert len(json_names("Extension")) == 3 + 50


def test_a_nested_element_leads_to_its_own_type_and_a_content_reference_is_followed() -> None:
    assert json_names("Observation")["component"][1] == "Observation.component"
    assert json_names("Observation.component")["referenceRange"][1] == "Observation.referenceRange"
    assert json_names("Bundle.entry")["link"][1] == "Bundle.link"
    assert json_names("Timing")["repeat"][1] == "Timing.repeat"
    assert json_names("Bundle.entry")["resource"][1] == "Resource"


@pytest.mark.parametrize(
    ("name", "kind", "base"),
    [
        ("Observation", "resource", "DomainResource"),
        ("Bundle", "resource", "Resource"),
        ("Age", "complex", "Quantity"),
        ("code", "primitive", "string"),
        ("Observation.component", "backbone", "BackboneElement"),
        ("Timing.repeat", "backbone", "Element"),
    ],
)
def test_a_type_knows_its_kind_and_its_base(name: str, kind: str, base: str) -> None:
    assert (type_definition(name).kind, type_definition(name).base) == (kind, base)


def test_specialisation_is_followed_to_the_root() -> None:
    assert definitions.specialises("Age", "Quantity") and definitions.specialises("Age", "Element")
    assert definitions.specialises("Patient", "Resource") and not definitions.specialises(
        "Bundle", "DomainResource"
    )


def test_every_type_that_is_referred_to_is_defined() -> None:
    for name in definitions._type_rows():
        for element, concrete in json_names(name).values():
            assert definitions.is_primitive(concrete) == (type_definition(concrete).kind == "primitive")
            assert all(target in RESOURCE_TYPES | {"Resource"} for target in element.targets)


def test_an_unknown_type_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        type_definition("observation")


def test_a_value_set_gives_its_codes_by_system() -> None:
    genders = value_set("http://hl7.org/fhir/ValueSet/administrative-gender")
    intents = definitions.codes("http://hl7.org/fhir/ValueSet/task-intent")
    assert genders is not None
    assert intents is not None
    assert dict(genders) == {
        "http://hl7.org/fhir/administrative-gender": frozenset({"male", "female", "other", "unknown"})
    }
    assert intents >= {"unknown", "order"}


def test_every_required_binding_is_checked_but_three_that_cannot_be_enumerated() -> None:
    assert definitions.unchecked_value_sets() == {
        "http://hl7.org/fhir/ValueSet/mimetypes",
        "http://hl7.org/fhir/ValueSet/ucum-units",
        "http://loinc.org/vs/LL379-9",
    }
    checked = definitions.bound_value_sets() - definitions.unchecked_value_sets()
    assert len(checked) == 221
    assert all(definitions.codes(canonical) for canonical in checked)


def test_the_tables_are_what_the_script_derives_byte_for_byte(shared_data: Path) -> None:
    derive = runpy.run_path(str(ROOT / "scripts" / "derive_definitions.py"))["derive"]
    derived = derive(shared_data / "hl7")
    assert sum(map(len, derived.values())) < 1_500_000
    for name, content in derived.items():
        assert (ROOT / "app" / "fhir" / "r4" / name).read_bytes() == content, name
