"""The library's models agree with our tables where they are asked, and refuse nothing that R4 allows."""

import csv
import json
import lzma
import typing
from pathlib import Path
from types import UnionType
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from app.errors import InvalidResource
from app.fhir.definitions import RESOURCE_TYPES, is_primitive, json_names
from app.fhir.model import ABSENT_TYPES, DIFFERENT_TYPES, OTHER_MEMBERS, second_reading
from app.fhir.text import parse
from app.fhir.validation import validate

ADDED_BY_R4B = {
    "ActivityDefinition.subjectCanonical",
    "PlanDefinition.subjectCanonical",
    "PlanDefinition.action.subjectCanonical",
}


def shape(annotation: Any) -> tuple[bool, Any]:
    """Whether a pydantic annotation is a list, and of what."""
    repeats = False
    while origin := typing.get_origin(annotation):
        arguments = typing.get_args(annotation)
        if origin in (typing.Union, UnionType):
            annotation = next(one for one in arguments if one is not type(None))
        elif origin is list:
            repeats, annotation = True, arguments[0]
        else:
            return repeats, arguments[0]
    return repeats, annotation


def differences(type_name: str, model: Any, path: str, seen: set[str]) -> set[str]:
    """Elements, by path, on which our table and the library's model disagree."""
    ours = json_names(type_name)
    theirs = {field.alias or name: field for name, field in model.model_fields.items()}
    named = {name for name in theirs if name[0] != "_"} - {"fhir_comments", "resource_type"}
    found = {f"{path}.{name}" for name in named ^ set(ours)}
    for name in named & set(ours):
        element, concrete = ours[name]
        repeats, kind = shape(theirs[name].annotation)
        extra = theirs[name].json_schema_extra or {}
        required = theirs[name].is_required() or "element_required" in extra
        if repeats != element.repeats or (not element.is_choice and required != (element.min > 0)):
            found.add(f"{path}.{name}")
        if "." in concrete and concrete not in seen:
            seen.add(concrete)
            found |= differences(concrete, kind.get_model_klass(), f"{path}.{name}", seen)
        elif not is_primitive(concrete) and "." not in concrete and kind.__name__ != concrete + "Type":
            found.add(f"{path}.{name}")
    return found


def test_the_types_that_are_skipped_are_those_that_r4b_does_not_have() -> None:
    def is_absent(name: str) -> bool:
        try:
            get_fhir_model_class(name)
        except (KeyError, ValueError):
            return True
        return False

    assert {name for name in RESOURCE_TYPES if is_absent(name)} == ABSENT_TYPES


def test_every_other_resource_type_has_the_same_elements_in_r4b() -> None:
    found: set[str] = set()
    for name in RESOURCE_TYPES - ABSENT_TYPES - DIFFERENT_TYPES:
        found |= differences(name, get_fhir_model_class(name), name, set())
    assert found == ADDED_BY_R4B
    for name in DIFFERENT_TYPES:
        assert differences(name, get_fhir_model_class(name), name, set())


def test_extensions_differ_only_where_the_constant_says() -> None:
    found = differences("Extension", get_fhir_model_class("Extension"), "Extension", set())
    assert {name.removeprefix("Extension.") for name in found} - OTHER_MEMBERS == {
        "valueCodeableReference",
        "valueRatioRange",
    }


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Observation", "status": "final"}, ("required", "Observation.code")),
        (
            {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "a"},
                "component": [{"x": 1}],
            },
            ("required", "Observation.component[0].code"),
        ),
        (
            {"resourceType": "Patient", "deceasedBoolean": "maybe"},
            ("invalid", "Patient.deceased"),
        ),
        ({"resourceType": "Patient", "name": [{"x": "9434765919"}]}, ("structure", "Patient.name[0]")),
        ({"resourceType": "Patient", "name": {}}, ("invalid", "Patient.name")),
    ],
)
def test_what_the_model_refuses_is_an_issue_without_a_value(
    resource: dict[str, Any], expected: tuple[str, str]
) -> None:
    with pytest.raises(InvalidResource) as raised:
        second_reading(resource["resourceType"], json.dumps(resource))
    issues = raised.value.issues
    assert (issues[0].code, issues[0].expression) == expected
    assert not [issue for issue in issues if "9434765919" in issue.text]


@pytest.mark.parametrize(
    "extension",
    [
        {"url": "u", "_valueString": {"extension": [{"url": "v", "valueCode": "x"}]}},
        {"url": "u", "valueMeta": {"tag": [{"code": "x"}]}},
        {"url": "u", "valueUuid": "urn:uuid:4b2cbdd5-0d52-1d5d-8ddb-0f0d1c8a8f10"},
        {"url": "u", "valueString": "\u00a0"},
        {"url": "u", "valueDateTime": "9999-12-31T23:59:60-14:00"},
        {"url": "u", "valueDate": "0001"},
        {"url": "u", "valueBase64Binary": "AAAA\nAA=="},
    ],
)
def test_the_model_does_not_refuse_what_r4_allows(extension: dict[str, Any]) -> None:
    resource = {"resourceType": "Basic", "code": {"text": "x"}, "extension": [extension]}
    validate(resource)
    second_reading("Basic", json.dumps(resource))


def test_a_type_that_differs_is_not_read_even_inside_another() -> None:
    product = {"resourceType": "MedicinalProduct", "id": "p"}
    second_reading("MedicinalProduct", json.dumps(product))
    second_reading("Bundle", json.dumps({"resourceType": "Bundle", "entry": [{"resource": product}]}))


def test_the_model_agrees_on_every_example_that_we_accept(shared_data: Path) -> None:
    read = 0
    for index, kept in (("hl7/examples-index.csv", None), ("uk/examples-index.csv", "R4")):
        with (shared_data / index).open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("fhir_release") == kept]
        for row in rows:
            text = _text(shared_data / index.split("/")[0] / row["file"], int(row.get("line", 1)))
            if _is_valid(text):
                second_reading(row["resource_type"], text)
                read += 1
    assert read > 900


def _text(path: Path, line: int) -> str:
    if path.suffix != ".xz":
        return path.read_text(encoding="utf-8")
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return file.read().split("\n")[line - 1]


def _is_valid(text: str) -> bool:
    try:
        validate(parse(text).value)
    except InvalidResource:
        return False
    return True
