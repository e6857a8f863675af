"""What others wrote is accepted, except where it breaks R4 and we can say how."""

import csv
import lzma
from pathlib import Path
from typing import Any

from app.errors import InvalidResource, Issue
from app.fhir.text import parse
from app.fhir.validation import validate

Json = dict[str, Any]


def issues(resource: Any, expected_type: str | None = None) -> list[Issue]:
    try:
        validate(resource, expected_type=expected_type)
    except InvalidResource as error:
        return list(error.issues)
    return []


def rows(index: Path) -> list[dict[str, str]]:
    with index.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def unpacked(path: Path) -> str:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return file.read()


# HL7's own examples break R4 here; JSON Schema does not see it.
REFUSED_HL7 = {"Questionnaire-qs1.json": ("required", "Questionnaire.item[0].item[0].linkId")}
# JSON Schema's findings in them are its own mistakes: a no-break space in a display, an element that is called
# resourceType, nulls that align an array of primitives with its extensions.
ACCEPTED_HL7 = {
    "DiagnosticReport-gingival-mass.json",
    "ExampleScenario-example.json",
    "StructureDefinition-example-composition.json",
}


def test_hl7s_examples_are_accepted_but_for_one_that_breaks_r4(shared_data: Path) -> None:
    refused, findings, count = {}, set(), 0
    for row in rows(shared_data / "hl7" / "examples-index.csv"):
        name, count = row["name_in_package"], count + 1
        if row["json_schema_finding"]:
            findings.add(name)
        if told := issues(_example(shared_data / "hl7", row), row["resource_type"]):
            refused[name] = (told[0].code, told[0].expression)
    assert count == 584
    assert refused == REFUSED_HL7
    assert findings == ACCEPTED_HL7


def _example(directory: Path, row: dict[str, str]) -> Json:
    return parse(unpacked(directory / row["file"]).split("\n")[int(row["line"]) - 1]).value


# Refused by us, not by JSON Schema: what is wrong with them.
REFUSED_UK = {
    "bars/HealthcareService-post_HealthcareService_Atomic.json": "HealthcareService.providedBy",  # an array
    "bars/HealthcareService-success_bundle.json": "Bundle.entry[0].resource.providedBy",
    "bars/message_definition-MessageDefinition_ServiceRequest-request_CaseTransfer.json": (
        "Bundle.entry[0].resource.useContext[0].code"  # an array
    ),
    "immunisation/spec-Immunization-id-get-200.json": "Immunization.contained[0]",  # dom-3
    "pds/sandbox-mocks-Personal_Details_RelatedPersonBundle.json": "Bundle.entry[0].resource.patient",  # {}
    "scr/uat-upload_scr-bad_request-1-missingComposition.request.json": "Bundle",  # meant to be bad
    "scr/gp_summary-partials-additional_information_gp_summary_1_composition.json": "Composition.title",
    "scr/gp_summary-partials-standard_gp_summary_composition.json": "Composition.title",
    "sds/tests-examples-multiple_devices.json": "Bundle",  # bdl-7
    "sds/tests-examples-multiple_endpoints.json": "Bundle",  # bdl-7
    "sds/EndpointBundle.json": "Bundle.entry[0].resource",  # without resourceType
    "uk-core/examples/Extension-UKCore-ConditionEpisode-Example.json": "Condition.extension[0].value",  # two
    "vrs/responses-GET_Consent-no-relationships.json": "Bundle.entry",  # []
}


def test_uk_examples_are_refused_where_json_schema_does_and_where_we_say_why(shared_data: Path) -> None:
    refused = {}
    for row in rows(shared_data / "uk" / "examples-index.csv"):
        if row["fhir_release"] != "R4":
            continue
        told = issues(parse((shared_data / "uk" / row["file"]).read_bytes()).value)
        assert told or not row["json_schema_finding"], row["file"]
        if told and not row["json_schema_finding"]:
            refused[row["file"]] = told[0].expression
    assert refused == REFUSED_UK


def test_synthea_bundles_are_accepted_whole(shared_data: Path) -> None:
    files = sorted((shared_data / "synthea").glob("*/*.json.xz"))
    assert len(files) > 100
    for path in files[::12]:
        assert issues(parse(unpacked(path)).value, "Bundle") == [], path.name
