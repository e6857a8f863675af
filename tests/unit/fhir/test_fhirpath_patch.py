"""A FHIRPath Patch does what R4 says, on the text: what it does not touch keeps every byte."""

import json
import lzma
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fhirpathpy import evaluate as ask_oracle
from fhirpathpy.models import models
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BusinessRule, MalformedPatch, TooCostly, UnprocessablePatch
from app.fhir.definitions import is_primitive, type_definition
from app.fhir.expressions import read
from app.fhir.patching.document import MOST_OPERATIONS, Document, RefusedError
from app.fhir.patching.elements import Place
from app.fhir.patching.fhirpath_patch import apply_fhirpath_patch
from app.fhir.patching.paths import Finder
from app.fhir.text import Parsed, parse
from app.fhir.validation import validate

Parts = dict[str, Any]
"""Part name → value in its member, ``{"valueCode": "add"}``; or a list of parts."""


def parameters(*operations: Any) -> Parsed:
    return parse(json.dumps({"resourceType": "Parameters", "parameter": list(operations)}))


def part(name: str, given: Any) -> Any:
    return {"name": name, "part": given} if isinstance(given, list) else {"name": name, **given}


def operation(kind: str, path: str, **parts: Any) -> Any:
    given: Parts = {"type": {"valueCode": kind}, "path": {"valueString": path}}
    for name, value in parts.items():
        match value:
            case int():
                given[name] = {"valueInteger": value}
            case str():
                given[name] = {"valueString": value}
            case _:
                given[name] = value
    return {"name": "operation", "part": [part(name, value) for name, value in given.items()]}


def patched(text: str, *operations: Any) -> str:
    return apply_fhirpath_patch(text, parameters(*operations))


def patient(**members: Any) -> str:
    return json.dumps(
        {"resourceType": "Patient"} | {name.rstrip("_"): value for name, value in members.items()}
    )


def given_names(*names: str) -> list[dict[str, Any]]:
    return [{"text": name} for name in names]


def refused(told: str, text: str, *operations: Any, expression: str = "Parameters.parameter[0]") -> None:
    with pytest.raises(UnprocessablePatch, match=re.escape(told)) as raised:
        patched(text, *operations)
    assert raised.value.issues[0].expression == expression
    assert raised.value.status == 422


# The five operations.


def test_a_patch_without_operations_changes_nothing() -> None:
    text = ' { "resourceType":"Patient" , "multipleBirthInteger":2 }\n'
    assert apply_fhirpath_patch(text, parse('{"resourceType":"Parameters"}')) == text


def test_add_sets_an_element_that_is_not_there() -> None:
    added = operation("add", "Patient", name="birthDate", value={"valueDate": "1930-01-01"})
    assert patched(patient(), added) == '{"resourceType": "Patient","birthDate":"1930-01-01"}'
    refused("the element birthDate of Patient is there already", patient(birthDate="1920"), added)


def test_add_appends_to_an_element_that_repeats_and_makes_its_first() -> None:
    added = operation("add", "Patient", name="name", value={"valueHumanName": {"text": "b"}})
    assert patched(patient(), added) == '{"resourceType": "Patient","name":[{"text": "b"}]}'
    assert json.loads(patched(patient(name=given_names("a")), added))["name"] == given_names("a", "b")


def test_add_reaches_a_nested_element() -> None:
    added = operation("add", "Patient.contact[0]", name="gender", value={"valueCode": "male"})
    assert '{"name": {"text": "a"},"gender":"male"}' in patched(
        patient(contact=[{"name": {"text": "a"}}]), added
    )


def test_add_needs_the_element_that_it_adds_to() -> None:
    added = operation("add", "Patient.identifier.period", name="end", value={"valueDateTime": "2021"})
    refused("its path finds no elements, and one is needed", patient(identifier=[{"value": "1"}]), added)
    refused("its path finds no elements, and one is needed", patient(), added)


@pytest.mark.parametrize(
    ("index", "names"), [(0, ["new", "a", "b"]), (1, ["a", "new", "b"]), (2, ["a", "b", "new"])]
)
def test_insert_puts_before_the_item_at_its_index_or_behind_the_last(index: int, names: list[str]) -> None:
    inserted = operation("insert", "Patient.name", index=index, value={"valueHumanName": {"text": "new"}})
    assert json.loads(patched(patient(name=given_names("a", "b")), inserted))["name"] == given_names(*names)


@pytest.mark.parametrize("index", [3, -1, 2**31, 10**60])
def test_insert_refuses_an_index_beyond_the_list(index: int) -> None:
    inserted = operation("insert", "Patient.name", index=index, value={"valueHumanName": {"text": "new"}})
    refused("its index may be 0 to 2", patient(name=given_names("a", "b")), inserted)


def test_insert_needs_a_list_that_is_there_and_is_one() -> None:
    def inserted(path: str) -> Any:
        return operation("insert", path, index=0, value={"valueString": "x"})

    two = patient(name=[{"given": ["a"]}, {"given": ["b"]}], birthDate="1930")
    refused(
        "no element is at its path; add makes the first one",
        patient(name=[{"text": "a"}]),
        inserted("name.given"),
    )
    refused("its path finds 2 elements, and one is needed", two, inserted("Patient.name.given"))
    refused("the element birthDate of Patient does not repeat", two, inserted("Patient.birthDate"))
    refused("its path has to end with the name of an element that repeats", two, inserted("Patient.name[0]"))
    refused("its path has to end with the name", two, inserted("Patient.name.where(text = 'a')"))
    refused("its path has to end with the name", two, inserted("Patient"))
    assert '"given": ["x","b"]' in patched(two, inserted("Patient.name[1].given"))


def test_delete_takes_one_element_away() -> None:
    text = patient(birthDate="1930", name=given_names("a", "b"))
    assert patched(text, operation("delete", "Patient.birthDate")) == patient(name=given_names("a", "b"))
    assert patched(text, operation("delete", "Patient.name[0]")) == patient(
        birthDate="1930", name=given_names("b")
    )
    refused(
        "its path finds 2 elements, and only one can be deleted", text, operation("delete", "Patient.name")
    )
    refused("the whole resource cannot be replaced or deleted", text, operation("delete", "Patient"))


@pytest.mark.parametrize("path", ["Patient.gender", "Patient.name[1]", "Patient.contact.name.text", "gender"])
def test_to_delete_what_is_not_there_is_no_error(path: str) -> None:
    text = patient(name=given_names("a"))
    assert patched(text, operation("delete", path)) == text


def test_delete_leaves_no_element_without_value_or_children() -> None:
    contact = patient(contact=[{"name": {"text": "a"}, "gender": "male"}], active=True)
    name = operation("delete", "Patient.contact[0].name.text")
    assert patched(contact, name) == patient(contact=[{"gender": "male"}], active=True)
    assert patched(contact, name, operation("delete", "Patient.contact.gender")) == patient(active=True)
    assert (
        patched(contact, operation("delete", "Patient.contact"), operation("delete", "active")) == patient()
    )


def test_replace_changes_one_element_in_its_place() -> None:
    text = patient(maritalStatus={"id": "1", "text": "a"}, name=given_names("a", "b"), active=True)
    answer = patched(
        text,
        operation("replace", "Patient.maritalStatus", value={"valueCodeableConcept": {"id": "2"}}),
        operation("replace", "Patient.name[1]", value={"valueHumanName": {"text": "c"}}),
        operation("replace", "Patient.active", value={"valueBoolean": False}),
    )
    assert answer == patient(maritalStatus={"id": "2"}, name=given_names("a", "c"), active=False)


def test_replace_needs_exactly_one_element() -> None:
    replaced = operation("replace", "Patient.name", value={"valueHumanName": {"text": "c"}})
    refused("its path finds no elements, and one is needed", patient(), replaced)
    refused("its path finds 2 elements, and one is needed", patient(name=given_names("a", "b")), replaced)
    assert patched(patient(name=given_names("a")), replaced) == patient(name=given_names("c"))


def test_replace_does_not_take_the_whole_resource() -> None:
    whole = {"name": "value", "resource": {"resourceType": "Patient"}}
    replaced = operation("replace", "Patient")
    replaced["part"].append(whole)
    refused("the whole resource cannot be replaced", patient(), replaced)


@pytest.mark.parametrize(
    ("source", "destination", "names"),
    [(3, 1, "adbc"), (3, 0, "dabc"), (3, 2, "abdc"), (0, 3, "bcda"), (1, 0, "bacd"), (2, 2, "abcd")],
)
def test_move_takes_an_item_to_the_index_that_it_has_afterwards(
    source: int, destination: int, names: str
) -> None:
    moved = operation("move", "Patient.name", source=source, destination=destination)
    assert json.loads(patched(patient(name=given_names(*"abcd")), moved))["name"] == given_names(*names)


@pytest.mark.parametrize(("source", "destination"), [(2, 0), (0, 2), (-1, 0), (0, -1), (10**60, 0)])
def test_move_refuses_places_beyond_the_list(source: int, destination: int) -> None:
    moved = operation("move", "Patient.name", source=source, destination=destination)
    refused("its source and destination may be 0 to 1", patient(name=given_names("a", "b")), moved)


def test_operations_are_applied_in_order_each_to_the_result_of_the_one_before() -> None:
    answer = patched(
        patient(name=given_names("a")),
        operation("add", "Patient", name="name", value={"valueHumanName": {"text": "b"}}),
        operation("move", "Patient.name", source=1, destination=0),
        operation("replace", "Patient.name[0].text", value="c"),
        operation("delete", "Patient.name[1]"),
    )
    assert answer == patient(name=given_names("c"))


def test_one_failing_operation_fails_the_patch_and_is_named() -> None:
    fine = operation("add", "Patient", name="active", value={"valueBoolean": True})
    refused(
        "Operation 2 of 2 (add) cannot be applied: the element active of Patient is there already.",
        patient(),
        fine,
        fine,
        expression="Parameters.parameter[1]",
    )


# Choices.


def test_a_choice_is_named_without_its_type_and_written_with_it() -> None:
    added = operation("add", "Patient", name="deceased", value={"valueDateTime": "2020"})
    assert patched(patient(), added) == '{"resourceType": "Patient","deceasedDateTime":"2020"}'
    refused("the element deceased of Patient is there already", patient(deceasedBoolean=False), added)
    refused("the element deceased of Patient is there already", patient(_deceasedBoolean={"id": "1"}), added)
    refused(
        "the element deceased of Patient is written without its type",
        patient(),
        operation("add", "Patient", name="deceasedDateTime", value={"valueDateTime": "2020"}),
    )
    refused(
        "the element deceased may not be a valueDate",
        patient(),
        operation("add", "Patient", name="deceased", value={"valueDate": "2020"}),
    )


OBSERVATION = (
    '{"resourceType":"Observation","id":"o1",\n "valueQuantity":{"value":1.50,"unit":"mg"},\n'
    ' "status" : "final", "component":[{"valueInteger":19},{"valueQuantity":{"value":1.0E2}}]}'
)


def test_a_choice_replaced_by_another_type_stays_in_its_place() -> None:
    replaced = operation("replace", "Observation.value", value={"valueString": "x"})
    assert patched(OBSERVATION, replaced) == OBSERVATION.replace(
        '"valueQuantity":{"value":1.50,"unit":"mg"}', '"valueString":"x"'
    )


def test_a_choice_replaced_leaves_nothing_of_the_old_type() -> None:
    text = '{"resourceType":"Observation","_valueString":{"id":"1"},"valueString":"x","status":"final"}'
    replaced = operation("replace", "Observation.value", value={"valueQuantity": {"unit": "mg"}})
    assert patched(text, replaced) == (
        '{"resourceType":"Observation","valueQuantity":{"unit": "mg"},"status":"final"}'
    )
    with_companion = operation("replace", "value", value={"valueTime": "10:00:00", "_valueTime": {"id": "2"}})
    assert patched(text, with_companion) == (
        '{"resourceType":"Observation","valueTime":"10:00:00","status":"final","_valueTime":{"id": "2"}}'
    )


@pytest.mark.parametrize(
    "path",
    [
        "Observation.value.unit",
        "Observation.value.as(Quantity).unit",
        "Observation.value.ofType(Quantity).unit",
        "(Observation.value as Quantity).unit",
        "value.unit",
        "Observation.`value`.unit",
    ],
)
def test_an_element_of_a_choice_is_reached(path: str) -> None:
    assert patched(OBSERVATION, operation("replace", path, value="g")) == OBSERVATION.replace('"mg"', '"g"')


def test_a_path_through_a_choice_of_another_type_finds_nothing() -> None:
    assert patched(OBSERVATION, operation("delete", "Observation.value.as(string)")) == OBSERVATION
    refused(
        "the element value of Observation is written without its type",
        OBSERVATION,
        operation("delete", "Observation.valueQuantity"),
    )


# Types.


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("gender", {"valueString": "male"}, "the element gender has to be a valueCode and not a valueString"),
        (
            "active",
            {"valueString": "true"},
            "the element active has to be a valueBoolean and not a valueString",
        ),
        ("birthDate", {"valueDateTime": "2020"}, "has to be a valueDate and not a valueDateTime"),
        ("name", {"valueString": "x"}, "has to be a valueHumanName and not a valueString"),
        ("contact", {"valueHumanName": {"text": "x"}}, "has to be parts and not a valueHumanName"),
        ("text", {"valueString": "x"}, "has to be parts and not a valueString"),
        ("contained", {"valueString": "x"}, "has to be a resource and not a valueString"),
        ("birthDate", [{"name": "value", "valueDate": "2020"}], "has to be a valueDate and not parts"),
        ("deceased", [{"name": "value", "valueDate": "2020"}], "the element deceased may not be parts"),
        ("contained", [{"name": "id", "valueId": "x"}], "has to be a resource and not parts"),
        ("nothing", {"valueString": "x"}, "Patient has no element of the name that the patch gives"),
        ("9434765919", {"valueString": "x"}, "Patient has no element of the name that the patch gives"),
        ("_birthDate", {"valueString": "x"}, "Patient has no element of the name that the patch gives"),
        ("resourceType", {"valueCode": "x"}, "Patient has no element of the name that the patch gives"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name: str, value: Any, told: str) -> None:
    refused(told, patient(), operation("add", "Patient", name=name, value=value))


@pytest.mark.parametrize(
    ("path", "name", "value", "member"),
    [
        ("Questionnaire", "url", {"valueUrl": "http://a"}, '"url":"http://a"'),
        ("Questionnaire", "title", {"valueMarkdown": "a"}, '"title":"a"'),
        ("Questionnaire.text", "div", {"valueString": "<div>a</div>"}, '"div":"<div>a</div>"'),
    ],
)
def test_a_special_kind_of_the_type_that_is_needed_is_taken(
    path: str, name: str, value: Any, member: str
) -> None:
    text = '{"resourceType":"Questionnaire","text":{"status":"generated"}}'
    assert member in patched(text, operation("add", path, name=name, value=value))


def test_what_no_parameter_can_hold_is_built_from_parts() -> None:
    value = [
        {"name": "name", "valueHumanName": {"text": "a"}},
        {"name": "telecom", "valueContactPoint": {"value": "1"}},
        {"name": "gender", "valueCode": "male"},
        {"name": "telecom", "valueContactPoint": {"value": "2"}},
        {
            "name": "extension",
            "part": [{"name": "url", "valueUri": "u"}, {"name": "value", "valueDecimal": 1}],
        },
    ]
    assert patched(patient(), operation("add", "Patient", name="contact", value=value)) == (
        '{"resourceType": "Patient","contact":[{"name":{"text": "a"},"telecom":[{"value": "1"},{"value": "2"}],'
        '"gender":"male","extension":[{"url":"u","valueDecimal":1}]}]}'
    )


def test_parts_are_held_to_their_types_too() -> None:
    def contact(*value: Any) -> Any:
        return operation("add", "Patient", name="contact", value=list(value))

    refused("Patient.contact has no element of the name", patient(), contact({"name": "x", "valueCode": "y"}))
    refused("has to be a valueCode", patient(), contact({"name": "gender", "valueString": "y"}))
    twice = {"name": "gender", "valueCode": "male"}
    refused("the element gender of Patient.contact is there already", patient(), contact(twice, twice))


def test_a_whole_datatype_may_be_built_from_parts_and_so_may_a_replacement() -> None:
    text = '{"resourceType":"ServiceRequest","occurrenceTiming":{"repeat":{"count":1}}}'
    replaced = operation(
        "replace", "ServiceRequest.occurrence.repeat", value=[{"name": "count", "valuePositiveInt": 3}]
    )
    assert patched(text, replaced) == text.replace("1", "3")
    name = operation("add", "Patient", name="name", value=[{"name": "given", "valueString": "a"}])
    assert patched(patient(), name) == '{"resourceType": "Patient","name":[{"given":["a"]}]}'


def test_a_resource_is_added_among_the_contained() -> None:
    added = operation("add", "Patient", name="contained")
    added["part"].append({"name": "value", "resource": {"resourceType": "Organization", "id": "x"}})
    text = patched(patient(), added, operation("add", "Patient.contained[0]", name="name", value="N"))
    assert json.loads(text)["contained"] == [{"resourceType": "Organization", "id": "x", "name": "N"}]


# Primitives: a value, and beside it an id and extensions.

EXTENDED = (
    '{"resourceType":"Patient","birthDate":"1930","_birthDate":{"extension":[{"url":"u","valueDecimal":1.50}]},'
    '"name":[{"given":["a",null,"c"],"_given":[null,{"id":"g"}]}],"gender":"male"}'
)


def test_a_primitive_is_deleted_and_replaced_with_its_extensions() -> None:
    birth = ',"birthDate":"1930","_birthDate":{"extension":[{"url":"u","valueDecimal":1.50}]}'
    assert patched(EXTENDED, operation("delete", "Patient.birthDate")) == EXTENDED.replace(birth, "")
    replaced = operation("replace", "Patient.birthDate", value={"valueDate": "1931"})
    assert patched(EXTENDED, replaced) == EXTENDED.replace(birth, ',"birthDate":"1931"')


def test_the_extensions_of_a_primitive_are_elements_of_it() -> None:
    assert patched(
        EXTENDED, operation("replace", "birthDate.extension('u').value", value="x")
    ) == EXTENDED.replace('"valueDecimal":1.50', '"valueString":"x"')
    without = EXTENDED.replace(',"_birthDate":{"extension":[{"url":"u","valueDecimal":1.50}]}', "")
    assert patched(EXTENDED, operation("delete", "Patient.birthDate.extension")) == without
    value = [{"name": "url", "valueUri": "u"}, {"name": "value", "valueDecimal": 2}]
    assert patched(without, operation("add", "Patient.birthDate", name="extension", value=value)) == (
        without[:-1] + ',"_birthDate":{"extension":[{"url":"u","valueDecimal":2}]}}'
    )


def test_a_primitive_without_a_value_goes_when_its_last_extension_does() -> None:
    text = '{"resourceType":"Patient","_birthDate":{"extension":[{"url":"u","valueCode":"unknown"}]}}'
    assert patched(text, operation("delete", "Patient.birthDate.extension")) == '{"resourceType":"Patient"}'
    replaced = operation("replace", "Patient.birthDate", value={"valueDate": "1931"})
    assert patched(text, replaced) == '{"resourceType":"Patient","birthDate":"1931"}'


def test_an_element_with_only_extensions_can_be_brought() -> None:
    value = {"_valueDate": {"extension": [{"url": "u", "valueCode": "unknown"}]}}
    assert patched(patient(), operation("add", "Patient", name="birthDate", value=value)) == (
        '{"resourceType": "Patient","_birthDate":{"extension": [{"url": "u", "valueCode": "unknown"}]}}'
    )


@pytest.mark.parametrize(
    ("change", "names", "beside"),
    [
        (operation("delete", "name.given[0]"), [None, "c"], [{"id": "g"}, None]),
        (operation("delete", "name.given[1]"), ["a", "c"], None),
        (operation("delete", "name.given[2]"), ["a", None], [None, {"id": "g"}]),
        (
            operation("insert", "name.given", index=1, value="x"),
            ["a", "x", None, "c"],
            [None, None, {"id": "g"}, None],
        ),
        (
            operation(
                "insert", "name.given", index=0, value={"valueString": "x", "_valueString": {"id": "h"}}
            ),
            ["x", "a", None, "c"],
            [{"id": "h"}, None, {"id": "g"}, None],
        ),
        (
            operation("add", "name", name="given", value="x"),
            ["a", None, "c", "x"],
            [None, {"id": "g"}, None, None],
        ),
        (
            operation("move", "name.given", source=1, destination=0),
            [None, "a", "c"],
            [{"id": "g"}, None, None],
        ),
        (operation("replace", "name.given[1]", value="x"), ["a", "x", "c"], None),
        (
            operation("replace", "name.given[2]", value={"valueString": "c", "_valueString": {"id": "h"}}),
            ["a", None, "c"],
            [None, {"id": "g"}, {"id": "h"}],
        ),
        (operation("replace", "name.given[1].id", value="h"), ["a", None, "c"], [None, {"id": "h"}]),
        (operation("delete", "name.given[1].id"), ["a", "c"], None),
    ],
)
def test_values_and_extensions_of_a_list_stay_side_by_side(
    change: Any, names: list[Any], beside: Any
) -> None:
    answer = json.loads(patched(EXTENDED, change))["name"][0]
    assert answer["given"] == names
    assert answer.get("_given") == beside


elements = st.tuples(st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, None, "1", "2"])).filter(
    any
)


def as_lists(items: list[tuple[str | None, str | None]]) -> dict[str, Any]:
    values, ids = [value for value, _ in items], [{"id": one} if one else None for _, one in items]
    lists: dict[str, list[Any]] = {"given": values, "_given": ids}
    return {name: array for name, array in lists.items() if any(array)}


def from_lists(name: dict[str, Any]) -> list[tuple[str | None, str | None]]:
    values, ids = name.get("given", []), [one and one["id"] for one in name.get("_given", [])]
    count = max(len(values), len(ids))
    return [(([*values, *[None] * count])[index], ([*ids, *[None] * count])[index]) for index in range(count)]


@given(st.lists(elements, min_size=1, max_size=5), st.data())
def test_a_list_of_primitives_is_a_list_of_elements(
    items: list[tuple[str | None, str | None]], data: st.DataObject
) -> None:
    text, path = patient(name=[{"text": "t", **as_lists(items)}]), "Patient.name.given"
    expected = list(items)
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["insert", "add", "delete", "replace", "move"]))
        count = len(expected)
        index, other = (data.draw(st.integers(0, max(count - 1, 0))) for _ in range(2))
        value, own_id = data.draw(elements)
        brought = ({"valueString": value} if value else {}) | (
            {"_valueString": {"id": own_id}} if own_id else {}
        )
        if kind == "add" or not count:
            change = operation("add", "Patient.name", name="given", value=brought)
            expected.append((value, own_id))
        elif kind == "insert":
            change = operation("insert", path, index=index, value=brought)
            expected.insert(index, (value, own_id))
        elif kind == "replace":
            change = operation("replace", f"{path}[{index}]", value=brought)
            expected[index] = (value, own_id)
        elif kind == "move":
            change = operation("move", path, source=index, destination=other)
            expected.insert(other, expected.pop(index))
        else:
            change = operation("delete", f"{path}[{index}]")
            del expected[index]
        text = patched(text, change)
        [name] = json.loads(text)["name"]
        assert from_lists(name) == expected
        assert all(any(name[member]) for member in ("given", "_given") if member in name)


# Paths.

CHART = {
    "resourceType": "Patient",
    "id": "p1",
    "contained": [
        {"resourceType": "Organization", "id": "o", "name": "inside"},
        {"resourceType": "Patient", "id": "q", "generalPractitioner": [{"reference": "#"}]},
    ],
    "active": True,
    "name": [
        {"use": "official", "family": "A", "given": ["x", "y"], "period": {"start": "2000"}},
        {"use": "usual", "given": ["z"]},
        {"use": "old", "family": "O'B", "given": ["w"]},
    ],
    "telecom": [{"system": "phone", "value": "1", "rank": 1}, {"system": "email", "value": "2", "rank": 2}],
    "gender": "male",
    "birthDate": "1930-01-01",
    "deceasedBoolean": False,
    "extension": [
        {"url": "u", "valueDecimal": 1.5},
        {"url": "v", "extension": [{"url": "w", "valueCode": "x"}]},
    ],
    "contact": [{"gender": "male", "name": {"text": "n"}}, {"gender": "female", "name": {"family": "m"}}],
    "generalPractitioner": [{"reference": "#o"}, {"reference": "Practitioner/2"}, {"type": "Organization"}],
}


def found(path: str, resource: dict[str, Any]) -> list[Any]:
    """What our finder finds: the JSON of each element."""
    document = Document(json.dumps(resource), "")
    places = Finder(document).find(read(path))
    return [json.loads(one.content.value.text) if one.content.value is not None else None for one in places]


SHARED_PATHS = [
    "Patient",
    "Patient.name",
    "name",
    "Patient.name[0]",
    "Patient.name[3]",
    "Patient.name.given",
    "Patient.name.given[2]",
    "Patient.name[0].given[1]",
    "Patient.name.first().given.last()",
    "Patient.name.last()",
    "Patient.name.first().first().given.first()",
    "Patient.contact[1].name.family",
    "Patient.name.where(use = 'official')",
    "Patient.name.where(use = 'official').given[0]",
    "Patient.name.where(use != 'official').given",
    "Patient.name.where(family.exists())",
    "Patient.name.where(family.empty())",
    "Patient.name.where(family.exists().not())",
    "Patient.name.where(family = 'O\\'B')",
    "Patient.name.where(use = 'official' or use = 'old').family",
    "Patient.name.where(use = 'official' and family = 'A')",
    "Patient.name.where(use = 'usual' or use = 'official' and family = 'none').given",
    "Patient.name.where((use = 'usual' or use = 'official') and family = 'none')",
    "Patient.name.where(family = 'A' or family.exists().not())",
    "Patient.name.where(period.start = '2000')",
    "Patient.name[0].given.where($this = 'y')",
    "Patient.name.where(given = 'z')",
    "Patient.telecom.where(rank = 2).value",
    "Patient.telecom.where(rank = 1.0).value",
    "Patient.telecom.where(system = 'phone').where(rank = 1)",
    "Patient.telecom.where(true)",
    "Patient.telecom.where(false)",
    "Patient.extension.where(url = 'u').value",
    "Patient.extension('u').value",
    "Patient.extension('v').extension('w').value",
    "Patient.extension('none')",
    "Patient.extension.value.ofType(decimal)",
    "Patient.extension('v').extension.value.ofType(code)",
    "Patient.deceased",
    "Patient.deceased.ofType(boolean)",
    "Patient.deceased.ofType(dateTime)",
    "(Patient.deceased as boolean)",
    "Patient.where(active).gender",
    "Patient.where(active = true).gender",
    "Patient.where(active.not()).gender",
    "Patient.contained.name",
    "Patient.contained.where(id = 'o')",
    "Patient.contact.where(%resource.active).gender",
    "Patient.contact.where(gender = %resource.gender).name.text",
    "Patient.`name`[1].`given`",
    "( Patient . name ) [ 1 ]",
]


@pytest.mark.parametrize("path", SHARED_PATHS)
def test_a_path_finds_what_an_independent_fhirpath_finds(path: str) -> None:
    # The oracle makes a type of each dateTime, so that it does not compare one with a text.
    expected = ask_oracle(CHART, path.replace("= '2000'", "= @2000"), {"resource": CHART}, models["r4"])
    assert found(path, CHART) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Patient.generalPractitioner[0].resolve().name", ["inside"]),
        ("Patient.generalPractitioner.where(resolve() is Organization).reference", ["#o"]),
        ("Patient.generalPractitioner.where(resolve() is Organization)[1].type", ["Organization"]),
        ("Patient.generalPractitioner.where(resolve() is Practitioner).reference", ["Practitioner/2"]),
        ("Patient.generalPractitioner.where(resolve() is Device)", []),
        ("Resource.id", ["p1"]),
        ("DomainResource.gender", ["male"]),
        ("Patient.where(deceased is boolean).gender", ["male"]),
        ("Patient.where(deceased is dateTime).gender", []),
        ("Patient.where(multipleBirth is boolean).gender", []),
        ("Patient.where(name.exists() and multipleBirth).gender", []),
        ("Patient.where(multipleBirth or active).gender", ["male"]),
        ("Patient.where(multipleBirth.not()).gender", []),
        ("Patient.birthDate.extension", []),
        ("Patient.where(deceased).gender", []),
        ("Patient.where(active = 1).gender", []),
        ("Patient.name.where(family = 'O\\u0027B').use", ["old"]),
        ("Patient.name" + ".where(true)" * 20 + ".use[0]", ["official"]),
        ("Patient.where((multipleBirth or deceased).not()).gender", []),
        ("Patient.where((multipleBirth and deceased).not()).gender", ["male"]),
        ("Patient.contained.generalPractitioner.resolve().gender", ["male"]),
        ("Patient.contact.where(extension.value).gender", []),
    ],
)
def test_a_path_finds_what_r4_says(path: str, expected: list[Any]) -> None:
    assert found(path, CHART) == expected


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("Observation.status", "its path begins with another type than that of the resource"),
        ("Patient.nothing", "Patient has no element of the name that the patch gives"),
        ("Patient.name.gender", "HumanName has no element"),
        ("Patient.birthDate.value", "date has no element"),
        ("Patient.photo.ofType(Thing)", "its path names a type that R4 does not have"),
        ("Patient.name.where(photo is Thing)", "its path names a type that R4 does not have"),
        ("Patient.name.ofType(Thing)", "its path names a type that R4 does not have"),
        ("Patient.generalPractitioner[1].resolve()", "resolve() in its path leads out of the resource"),
        ("Patient.generalPractitioner[2].resolve()", "resolve() in its path leads out of the resource"),
        (
            "Patient.name.where(given = given.first() and family)",
            "a condition in its path is neither true nor false",
        ),
        ("Patient.name.where(given)", "a condition in its path finds 2 values where one is needed"),
        ("Patient.where(name = name)", "a condition in its path compares more than a primitive value"),
        ("Patient.name.where(name)", "HumanName has no element"),
        ("'text'", "its path gives a value and not an element"),
        ("true", "its path gives a value and not an element"),
        ("Patient.active = true", "its path gives a value and not an element"),
        ("Patient.name | Patient.contact", "its path has | in it, and cannot"),
        ("'text'.name", "a value in its path has no elements"),
    ],
)
def test_a_path_that_cannot_be_followed_says_why(path: str, told: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(told)):
        found(path, CHART)


@pytest.mark.parametrize(
    "path",
    [
        "",
        " ",
        ".",
        "Patient.",
        "Patient..name",
        "Patient.name[",
        "Patient.name[]",
        "Patient.name[-1]",
        "Patient.name[1.0]",
        "Patient.name['a']",
        "Patient.name[99999999999999999999]",
        "Patient.name[١]",
        "Patient.nàme",
        "Patient.name.where(",
        "Patient.name.where()",
        "Patient.name.where(use = 'official'",
        "Patient.name.extension(url)",
        "Patient.name.startsWith('a')",
        "Patient.repeat(name)",
        "Patient.descendants()",
        "Patient.name.where(use = 'a\\q')",
        "Patient.name.where(use = 'a)",
        "Patient.name.where(rank > 1)",
        "Patient.name.`given",
        "%context.name",
        "$index",
        "Patient.birthDate + 1",
        "Patient.name and",
        "name" + ".name" * 2_000,
        f"name.where(family = '{'x' * 4_000}')",
        "(" * 500 + "name" + ")" * 500,
        "name.where(" * 20 + "true" + ")" * 20,
        "name" + "[0]" * 100,
    ],
)
def test_what_is_no_path_of_a_patch_is_malformed(path: str) -> None:
    change = operation("delete", "Patient.name")
    change["part"][1]["valueString"] = path
    with pytest.raises(MalformedPatch) as raised:
        patched(json.dumps(CHART), change)
    assert str(raised.value) == (
        "Operation 1 of 1 is malformed: its path is not of the FHIRPath that this service understands."
    )
    assert raised.value.issues[0].expression == "Parameters.parameter[0].part[1]"


def test_a_path_that_looks_at_everything_for_everything_is_stopped() -> None:
    text = patient(contact=[{"gender": "male"}] * 500)
    inner = "gender = 'female'"
    for _ in range(6):
        inner = f"%resource.contact.where({inner}).exists()"
    began = time.process_time()
    with pytest.raises(TooCostly, match="Send it in parts"):
        patched(text, operation("delete", f"Patient.contact.where({inner})"))
    assert time.process_time() - began < 6


def test_one_item_of_a_long_list_is_found_without_looking_at_all() -> None:
    text = patient(contact=[{"gender": "male"}] * 20_000)
    changes = [
        operation("replace", "Patient.contact[3].gender", value={"valueCode": "female"})
    ] * MOST_OPERATIONS
    began = time.process_time()
    assert patched(text, *changes).count("female") == 1
    assert time.process_time() - began < 2


# The text.

PRETTY = """ {
  "resourceType" : "Observation",
  "id": "o1",
  "valueQuantity": { "value": 1.50 , "unit":"mg" },
  "component": [
    { "valueInteger": 19 },
    { "valueQuantity": {"value": 1.0E2} }
  ]
}
"""


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [
        (operation("delete", "component[0]"), '{ "valueInteger": 19 },\n    ', ""),
        (operation("delete", "component[1].value.value"), ',\n    { "valueQuantity": {"value": 1.0E2} }', ""),
        (operation("delete", "value.value"), '"value": 1.50 , ', ""),
        (operation("replace", "value.value", value={"valueDecimal": 2}), "1.50", "2"),
        (operation("replace", "component[0].value", value={"valueInteger": 7}), "19", "7"),
        (operation("add", "value", name="code", value={"valueCode": "mg"}), '"mg"', '"mg","code":"mg"'),
        (operation("move", "component", source=0, destination=0), "", ""),
    ],
)
def test_every_byte_that_is_not_touched_stays(change: Any, old: str, new: str) -> None:
    assert patched(PRETTY, change) == PRETTY.replace(old, new, 1)


def test_a_value_that_the_patch_brings_keeps_its_digits_and_white_space() -> None:
    patch = """{"resourceType":"Parameters","parameter":[{"name":"operation","part":[
        {"name":"type","valueCode":"add"},{"name":"path","valueString":"Observation"},
        {"name":"name","valueString":"component"},{"name":"value","part":[
            {"name":"value","valueQuantity": { "value" : 0.0000001 , "unit":"\\u00b5g" } }]}]}]}"""
    expected = '{"valueQuantity":{ "value" : 0.0000001 , "unit":"\\u00b5g" }}'
    assert apply_fhirpath_patch(OBSERVATION, parse(patch)) == OBSERVATION[:-2] + f",{expected}]}}"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            operation("replace", "Observation.id", value={"valueId": "o2"}),
            "A patch may not change a resource's id.",
        ),
        (operation("delete", "Observation.id"), "A patch may not change a resource's id."),
    ],
)
def test_the_id_cannot_be_changed(change: Any, told: str) -> None:
    with pytest.raises(BusinessRule, match=re.escape(told)):
        patched(PRETTY, change)
    assert patched(PRETTY, operation("replace", "id", value={"valueId": "o1"})) == PRETTY


# What is malformed.


@pytest.mark.parametrize(
    ("patch", "told", "expression"),
    [
        ({"resourceType": "Patient"}, "A FHIRPath Patch is a Parameters resource", None),
        ({}, "A FHIRPath Patch is a Parameters resource", None),
        ({"resourceType": "Parameters", "parameter": []}, "at least one item", "Parameters.parameter"),
        ({"resourceType": "Parameters", "parameter": {}}, "at least one item", "Parameters.parameter"),
        ({"resourceType": "Parameters", "parameter": [1]}, "JSON object", "Parameters.parameter[0]"),
        ({"resourceType": "Parameters", "parameter": [{}]}, "needs a name", "Parameters.parameter[0]"),
    ],
)
def test_what_is_no_parameters_resource_is_malformed(patch: Any, told: str, expression: str | None) -> None:
    with pytest.raises(MalformedPatch, match=told) as raised:
        apply_fhirpath_patch(patient(), parse(json.dumps(patch)))
    assert raised.value.issues[0].expression == expression


ADD = {
    "type": {"valueCode": "add"},
    "path": {"valueString": "Patient"},
    "name": {"valueString": "active"},
    "value": {"valueBoolean": True},
}
INSERT = {"type": {"valueCode": "insert"}, "path": {"valueString": "name"}, "index": {"valueInteger": 0}}


def changed(parts: Parts, name: str, **members: Any) -> Parts:
    return (
        {**parts, name: members} if members else {key: value for key, value in parts.items() if key != name}
    )


@pytest.mark.parametrize(
    ("parts", "told", "place"),
    [
        (changed(ADD, "type"), "it needs a part called type", ""),
        (changed(ADD, "path"), "it needs a part called path", ""),
        (changed(ADD, "name"), "it needs a part called name", ""),
        (changed(ADD, "value"), "it needs a part called value", ""),
        (changed(INSERT, "index"), "it needs a part called index", ""),
        (INSERT, "it needs a part called value", ""),
        (
            changed(ADD, "type", valueCode="append"),
            "type has to be one of add, insert, delete, replace, move",
            0,
        ),
        (changed(ADD, "type", valueString="add"), "type has to be a valueCode", 0),
        (changed(ADD, "type", valueCode=1), "type has to be a valueCode", 0),
        (changed(ADD, "path", valueCode="Patient"), "path has to be a valueString", 1),
        (changed(ADD, "path", valueString=None), "path has to be a valueString", 1),
        (changed(ADD, "name", valueString=["a"]), "name has to be a valueString", 2),
        (changed(INSERT, "index", valueInteger=True), "index has to be a valueInteger", 2),
        (changed(INSERT, "index", valueInteger="0"), "index has to be a valueInteger", 2),
        (changed(INSERT, "index", valueInteger=1.0), "index has to be a valueInteger", 2),
        (changed(INSERT, "index", valuePositiveInt=1), "index has to be a valueInteger", 2),
        (changed(ADD, "index", valueInteger=0), "the parts of add are type, path, name, value", 4),
        (changed(ADD, "destination", valueInteger=0), "the parts of add are type, path, name, value", 4),
        (changed(ADD, "value", valueThing=1), "R4 has no such member in a parameter or part", 3),
        (changed(ADD, "value", name_=1), "R4 has no such member in a parameter or part", 3),
        (changed(ADD, "value", _part={}), "R4 has no such member in a parameter or part", 3),
        (changed(ADD, "value", modifierExtension=[]), "R4 has no such member in a parameter or part", 3),
        (
            changed(ADD, "value", valueRange={}, _valueRange={}),
            "R4 has no such member in a parameter or part",
            3,
        ),
        (
            changed(ADD, "value", valueBoolean=True, valueCode="x"),
            "exactly one of a value, a resource and parts",
            3,
        ),
        (
            changed(ADD, "value", valueBoolean=True, part=[]),
            "exactly one of a value, a resource and parts",
            3,
        ),
        (changed(ADD, "value", id="x"), "exactly one of a value, a resource and parts", 3),
        (changed(ADD, "value", part=[]), "at least one item", "3].part"),
        (changed(ADD, "value", part="x"), "at least one item", "3].part"),
        (changed(ADD, "value", part=[{"name": 1}]), "needs a name", "3].part[0"),
        (changed(ADD, "value", resource=1), "a resourceType of FHIR R4", 3),
        (changed(ADD, "value", resource={"resourceType": ["x"]}), "a resourceType of FHIR R4", 3),
        (changed(ADD, "value", resource={"resourceType": "Resource"}), "a resourceType of FHIR R4", 3),
    ],
)
def test_a_malformed_operation_says_what_is_wrong_and_where(
    parts: Parts, told: str, place: int | str
) -> None:
    fine = operation("delete", "Patient.gender")
    given = {"name": "operation", "part": [{"name": name, **value} for name, value in parts.items()]}
    expression = "Parameters.parameter[1]"
    if place != "":
        expression += f".part[{place}" + ("" if str(place).endswith("part") else "]")
    with pytest.raises(MalformedPatch, match=re.escape(told)) as raised:
        patched(patient(), fine, given)
    assert raised.value.status == 400
    assert raised.value.issues[0].expression == expression


@pytest.mark.parametrize(
    "parameter",
    [
        {"name": "operations", "part": [{"name": "type", "valueCode": "delete"}]},
        {"name": "operation", "valueString": "delete"},
        {"name": "operation", "resource": {"resourceType": "Patient"}},
    ],
)
def test_every_parameter_is_an_operation(parameter: Any) -> None:
    with pytest.raises(MalformedPatch, match="every parameter has to be called operation and have parts"):
        patched(patient(), parameter)


def test_a_part_is_there_once() -> None:
    change = operation("delete", "Patient.gender")
    change["part"].append({"name": "path", "valueString": "Patient.name"})
    with pytest.raises(MalformedPatch, match="path is there twice"):
        patched(patient(), change)


def test_an_element_that_only_some_of_a_mixed_collection_can_have_is_found_in_those() -> None:
    resources = [{"resourceType": "Organization", "name": "N"}, {"resourceType": "Patient", "gender": "male"}]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": one} for one in resources]}
    assert found("Bundle.entry.resource.gender", bundle) == ["male"]
    with pytest.raises(RefusedError, match="has no element"):
        found("Bundle.entry.resource.onset", bundle)


@pytest.mark.parametrize("resource", ['{"resourceType":"Thing"}', '{"resourceType":["Patient"]}', "{}"])
def test_a_resource_of_no_type_of_r4_is_refused(resource: str) -> None:
    refused("the resource's type is not one of FHIR R4", resource, operation("delete", "gender"))


def test_a_condition_without_a_value_does_not_hold() -> None:
    text = patient(_active={"id": "1"}, name=given_names("a"))
    assert patched(text, operation("delete", "Patient.where(active).name")) == text
    assert patched(text, operation("delete", "Patient.where(active.not()).name")) == text
    assert patched(text, operation("delete", "Patient.where(active = false).name")) == text


def test_a_patch_has_a_limited_number_of_operations() -> None:
    change = operation("delete", "Patient.gender")
    assert patched(patient(), *[change] * MOST_OPERATIONS) == patient()
    with pytest.raises(MalformedPatch, match="may have 1000 operations"):
        patched(patient(), *[change] * (MOST_OPERATIONS + 1))


def test_no_text_of_an_error_repeats_what_may_be_an_identifier() -> None:
    secret = "9434765919"
    for change in (
        operation("delete", f"Patient.x{secret}"),
        operation("replace", f"Patient.identifier.where(value = '{secret}')", value={"valueIdentifier": {}}),
        operation("add", "Patient", name=f"x{secret}", value={"valueCode": secret}),
        operation("delete", f"X{secret}"),
        operation("delete", f"Patient.name.ofType(X{secret})"),
        operation("delete", f"Patient.name.where('{secret}"),
        operation(f"x{secret}", "Patient"),
    ):
        with pytest.raises((MalformedPatch, UnprocessablePatch)) as raised:
            patched(patient(), change)
        assert secret not in str(raised.value)


# Whatever comes in.

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names_and_signs = (
    "Patient name given contact value extension active birthDate period contained . . . . ( ) [ ] 0 1 where first() "
    "last() ofType( as is = != and or not() exists() resolve() $this %resource 'a' | Organization boolean"
)
words = st.sampled_from(names_and_signs.split(" "))
paths = (
    st.sampled_from(SHARED_PATHS)
    | st.lists(words, max_size=10).map(" ".join)
    | st.lists(words, max_size=10).map("".join)
    | texts
)
given_values = st.one_of(
    st.fixed_dictionaries({"name": st.just("value"), "valueString": texts | json_values}),
    st.fixed_dictionaries({"name": st.just("value"), "valueHumanName": json_values}),
    st.fixed_dictionaries({"name": st.just("value"), "_valueDate": json_values}),
    st.fixed_dictionaries(
        {
            "name": st.just("value"),
            "part": st.lists(
                st.fixed_dictionaries(
                    {"name": st.sampled_from(["url", "value", "gender"]), "valueCode": json_values}
                )
            ),
        }
    ),
)
given_operations = st.builds(
    lambda kind, path, name, index, value, kept: {
        "name": "operation",
        "part": [
            one
            for one, keep in zip(
                [
                    {"name": "type", "valueCode": kind},
                    {"name": "path", "valueString": path},
                    {"name": "name", "valueString": name},
                    {"name": "index", "valueInteger": index},
                    {"name": "source", "valueInteger": index},
                    {"name": "destination", "valueInteger": 0},
                    value,
                ],
                [True, True, *kept],
                strict=True,
            )
            if keep
        ],
    },
    st.sampled_from(["add", "insert", "delete", "replace", "move"]),
    paths,
    st.sampled_from(["name", "given", "extension", "deceased", "active", "contact", "id"]),
    st.integers(-2, 4),
    given_values,
    st.lists(st.booleans(), min_size=5, max_size=5)
    | st.sampled_from([[True, False, False, False, True], [False] * 5, [False, False, True, True, False]]),
)


@given(st.lists(given_operations | json_values, max_size=4) | json_values)
def test_whatever_comes_in_an_error_of_ours_comes_out_or_a_text_that_is_read_again(
    given_parameters: Any,
) -> None:
    text = json.dumps(CHART)
    patch = parse(json.dumps({"resourceType": "Parameters", "parameter": given_parameters}))
    with suppress(MalformedPatch, UnprocessablePatch, BusinessRule, TooCostly):
        assert parse(apply_fhirpath_patch(text, patch)).value["id"] == "p1"


@given(st.lists(given_operations, min_size=2, max_size=4), st.data())
def test_a_resource_that_is_not_of_r4s_shape_is_refused_or_patched_and_never_crashed_on(
    operations: list[Any], data: st.DataObject
) -> None:
    members = st.sampled_from(
        ["name", "_birthDate", "contact", "extension", "active", "contained", "birthDate"]
    )
    resource = {**CHART, **data.draw(st.dictionaries(members, json_values, max_size=4))}
    with suppress(MalformedPatch, UnprocessablePatch, BusinessRule, TooCostly):
        parse(apply_fhirpath_patch(json.dumps(resource), parameters(*operations)))


# On HL7's own examples.


def walked(place: Place, path: str) -> Iterator[tuple[str, Place]]:
    yield path, place
    if place.inside is None:
        return
    for element in type_definition(place.type).elements.values():
        if is_primitive(place.type) and element.name == "value":
            continue
        for child in place.children(element):
            name = f"{path}.{element.name}" + (f"[{child.index}]" if child.index is not None else "")
            yield from walked(child, name)


def replacement(place: Place) -> str | None:
    """The element as it is, as the value of a patch; None when no parameter can hold its type."""
    kind = "string" if place.type == "xhtml" else place.type
    member = f"value{kind[0].upper()}{kind[1:]}"
    if kind not in type_definition("Parameters.parameter").elements["value"].types:
        return None
    parts = [(member, place.content.value), (f"_{member}", place.content.companion)]
    written = [f'"{name}":{value.text}' for name, value in parts if value is not None]
    return "{" + ",".join(['"name":"value"', *written]) + "}"


def test_each_element_of_every_example_is_found_at_its_path_and_replaced_by_itself(shared_data: Path) -> None:
    elements = resources = 0
    for file in sorted((shared_data / "hl7" / "examples").glob("*.ndjson.xz")):
        with lzma.open(file, "rt", encoding="utf-8") as lines:
            for text in map(str.strip, lines):
                if len(text) > 20_000:
                    continue
                document = Document(text, "")
                root = Finder(document).single(read(document.resource_type))
                operations: list[str] = []
                for path, place in walked(root, document.resource_type):
                    elements += 1
                    [again] = Finder(document).find(read(path))
                    assert again.content == place.content, path
                    if (value := replacement(place)) and len(operations) < MOST_OPERATIONS:
                        operations.append(
                            '{"name":"operation","part":[{"name":"type","valueCode":"replace"},'
                            f'{{"name":"path","valueString":"{path}"}},{value}]}}'
                        )
                patch = parse(f'{{"resourceType":"Parameters","parameter":[{",".join(operations)}]}}')
                assert apply_fhirpath_patch(text, patch) == text
                resources += 1
    assert resources > 500
    assert elements > 30_000


def test_what_a_patch_makes_of_a_valid_resource_is_valid() -> None:
    text = (
        '{"resourceType":"Observation","status":"final","code":{"text":"weight"},"valueQuantity":{"value":1.50},'
        '"component":[{"code":{"text":"a"},"valueString":"x"}]}'
    )
    component = [
        {"name": "code", "valueCodeableConcept": {"text": "b"}},
        {"name": "value", "valueInteger": 2},
    ]
    answer = patched(
        text,
        operation("replace", "Observation.status", value={"valueCode": "amended"}),
        operation("insert", "Observation.component", index=0, value=component),
        operation("delete", "Observation.value.value"),
        operation("add", "Observation", name="value", value={"valueBoolean": True}),
    )
    validate(parse(answer).value, expected_type="Observation")
    assert answer == (
        '{"resourceType":"Observation","status":"amended","code":{"text":"weight"},'
        '"component":[{"code":{"text": "b"},"valueInteger":2},{"code":{"text":"a"},"valueString":"x"}],'
        '"valueBoolean":true}'
    )
