"""The terminology operations answer R4 resources, and name the parameter that they cannot use."""

import json
import lzma
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import (
    CandourError,
    InvalidDefinition,
    InvalidInput,
    NotEnumerable,
    TooCostly,
    UnknownCodes,
    UnsupportedInput,
)
from app.fhir import packaged
from app.fhir import terminology_operations as operations
from app.fhir.terminology import ON_BOARD, Terminology
from app.fhir.terminology_capability import terminology_capabilities
from app.fhir.terminology_operations import (
    EXPAND,
    LOOKUP,
    SUBSUMES,
    VALIDATE_CODE,
    VALIDATE_IN_SYSTEM,
    Given,
    expand,
    lookup,
    subsumes,
    validate_code,
    validate_in_system,
)
from app.fhir.text import parse
from app.fhir.validation import validate

NOW = "2026-02-03T10:00:00Z"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
GENDER = "http://hl7.org/fhir/administrative-gender"
GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"
WAYS = "https://example.org/ways"

Resource = dict[str, Any]


def ways(**changes: Any) -> Resource:
    return {
        "resourceType": "CodeSystem",
        "url": WAYS,
        "version": "2",
        "name": "Ways",
        "status": "active",
        "content": "complete",
        "caseSensitive": True,
        "concept": [
            {
                "code": "road",
                "display": "Road",
                "definition": "Paved.",
                "property": [{"code": "notSelectable", "valueBoolean": True}],
                "concept": [
                    {
                        "code": "lane",
                        "display": "Lane",
                        "designation": [
                            {"language": "de", "value": "Gasse"},
                            {"use": {"system": "https://example.org/uses", "code": "short"}, "value": "Ln"},
                        ],
                        "property": [
                            {"code": "width", "valueDecimal": Decimal("2.50")},
                            {"code": "kind", "valueCoding": {"system": WAYS, "code": "road"}},
                            {"code": "since", "valueDateTime": "1066"},
                            {"code": "lanes", "valueInteger": 1},
                            {"code": "inactive", "valueBoolean": True},
                        ],
                    }
                ],
            },
            {"code": "river", "display": "River"},
        ],
    } | changes


def all_ways(**compose: Any) -> Resource:
    return {
        "resourceType": "ValueSet",
        "url": "https://example.org/all-ways",
        "version": "3",
        "name": "AllWays",
        "title": "All ways",
        "status": "draft",
        "experimental": True,
        "copyright": "Nobody's",
        "compose": {"include": [{"system": WAYS}], **compose},
    }


HERE = Terminology([ways(), all_ways()])


def parameters(**values: Any) -> Resource:
    """``url="x"`` as valueUri, other values by their own kind; ``_`` in a name stands for ``-``."""

    def part(name: str, value: Any) -> Resource:
        name = name.replace("_", "-")
        if isinstance(value, dict) and "resourceType" in value:
            return {"name": name, "resource": value}
        kind = {bool: "Boolean", int: "Integer", str: "String"}.get(type(value))
        return {
            "name": name,
            "value" + (kind or ("CodeableConcept" if "coding" in value else "Coding")): value,
        }

    listed = [
        part(name, one)
        for name, value in values.items()
        for one in (value if type(value) is list else [value])
    ]
    return {"resourceType": "Parameters", "parameter": listed}


def resource(text: str) -> Resource:
    """What was answered, which is R4."""
    parsed = parse(text)
    validate(parsed.value)
    return parsed.value


def said(text: str) -> Mapping[str, Any]:
    """Name → value of a Parameters resource."""
    return {
        one["name"]: next(one[key] for key in one if key != "name") for one in resource(text)["parameter"]
    }


def properties(text: str) -> list[tuple[str, Any]]:
    found = []
    for one in resource(text)["parameter"]:
        if one["name"] == "property":
            code, value = one["part"]
            found.append((code["valueCode"], next(value[key] for key in value if key != "name")))
    return found


# $expand


def test_a_value_set_is_answered_with_its_codes() -> None:
    answer = resource(expand(ON_BOARD, [("url", GENDERS)], timestamp=NOW))
    assert list(answer) == ["resourceType", "url", "version", "name", "status", "experimental", "expansion"]
    expansion = answer["expansion"]
    assert (expansion["timestamp"], expansion["total"], expansion["offset"]) == (NOW, 4, 0)
    assert expansion["contains"][1] == {"system": GENDER, "code": "female", "display": "Female"}
    assert expansion["parameter"] == [{"name": "version", "valueUri": f"{GENDER}|4.0.1"}]


def test_flags_designations_and_the_definition_are_answered_where_asked() -> None:
    text = expand(
        HERE,
        parameters(url="https://example.org/all-ways", includeDesignations=True, includeDefinition=True),
        timestamp=NOW,
    )
    answer = resource(text)
    assert answer["compose"] == {"include": [{"system": WAYS}]}
    assert (answer["title"], answer["copyright"], answer["experimental"]) == ("All ways", "Nobody's", True)
    assert answer["expansion"]["contains"] == [
        {"system": WAYS, "abstract": True, "code": "road", "display": "Road"},
        {
            "system": WAYS,
            "inactive": True,
            "code": "lane",
            "display": "Lane",
            "designation": [
                {"language": "de", "value": "Gasse"},
                {"use": {"system": "https://example.org/uses", "code": "short"}, "value": "Ln"},
            ],
        },
        {"system": WAYS, "code": "river", "display": "River"},
    ]
    without = resource(expand(HERE, [("url", "https://example.org/all-ways")], timestamp=NOW))
    assert "compose" not in without and "designation" not in without["expansion"]["contains"][1]


def test_a_definition_comes_back_as_it_was_sent() -> None:
    compose = {
        "lockedDate": "2020-01-01",
        "inactive": True,
        "include": [
            {"system": WAYS, "version": "2", "concept": [{"code": "river", "display": "Stream"}]},
            {
                "system": WAYS,
                "version": "2",
                "filter": [{"property": "concept", "op": "is-a", "value": "road"}],
            },
        ],
        "exclude": [{"valueSet": [GENDERS]}],
    }
    given = parameters(valueSet=all_ways(**compose), includeDefinition=True)
    assert resource(expand(HERE, given, timestamp=NOW))["compose"] == compose


def found_codes(*pairs: tuple[str, str]) -> list[str]:
    given = [("url", "https://example.org/all-ways"), *pairs]
    return [
        one["code"] for one in resource(expand(HERE, given, timestamp=NOW))["expansion"].get("contains", [])
    ]


@pytest.mark.parametrize(
    ("name", "value", "codes"),
    [
        ("filter", "ri", "river"),
        ("filter", "gass", "lane"),
        ("activeOnly", "true", "road river"),
        ("activeOnly", "false", "road lane river"),
        ("excludeNotForUI", "true", "lane river"),
        ("excludeNested", "false", "road lane river"),
        ("excludePostCoordinated", "true", "road lane river"),
        ("exclude-system", WAYS, ""),
        ("exclude-system", GENDER, "road lane river"),
        ("offset", "1", "lane river"),
        ("count", "2", "road lane"),
        ("count", "0", ""),
        ("filter", "", "road lane river"),
        ("_format", "json", "road lane river"),
    ],
)
def test_a_parameter_narrows_the_expansion(name: str, value: str, codes: str) -> None:
    assert found_codes((name, value)) == codes.split()


def test_displays_are_in_the_language_asked_for() -> None:
    text = expand(HERE, [("url", "https://example.org/all-ways"), ("displayLanguage", "de")], timestamp=NOW)
    assert [one["display"] for one in resource(text)["expansion"]["contains"]] == ["Road", "Gasse", "River"]


def test_the_parameters_that_were_used_are_answered_and_no_page_is() -> None:
    pairs = [("url", "https://example.org/all-ways"), ("filter", "r"), ("activeOnly", "true"), ("count", "1")]
    expansion = resource(expand(HERE, pairs, timestamp=NOW))["expansion"]
    assert expansion["parameter"] == [
        {"name": "filter", "valueString": "r"},
        {"name": "activeOnly", "valueBoolean": True},
        {"name": "version", "valueUri": f"{WAYS}|2"},
    ]
    assert expansion["total"] == 2 and len(expansion["contains"]) == 1


def identifier(terminology: Terminology, *pairs: tuple[str, str], timestamp: str = NOW) -> str:
    given = [("url", "https://example.org/all-ways"), *pairs]
    found: str = resource(expand(terminology, given, timestamp=timestamp))["expansion"]["identifier"]
    return found


def test_an_expansion_has_one_identifier_on_all_its_pages_and_at_any_time() -> None:
    first = identifier(HERE)
    assert first.startswith("urn:uuid:")
    assert identifier(HERE, ("count", "1"), ("offset", "2")) == first
    assert identifier(HERE, timestamp="2027-01-01T00:00:00Z") == first
    assert identifier(HERE, ("filter", "r")) != first
    other = Terminology([ways(concept=[{"code": "river"}]), all_ways()])
    assert identifier(other) != first


def test_an_expansion_over_a_part_of_a_code_system_says_that_it_is_open() -> None:
    fragment = Terminology([ways(content="fragment"), all_ways()])
    answer = resource(expand(fragment, [("url", "https://example.org/all-ways")], timestamp=NOW))
    assert answer["expansion"]["extension"] == [
        {"url": "http://hl7.org/fhir/StructureDefinition/valueset-unclosed", "valueBoolean": True}
    ]
    assert "extension" not in resource(expand(HERE, [("url", GENDERS)], timestamp=NOW))["expansion"]


def test_a_value_set_can_be_sent_or_be_the_one_invoked_on() -> None:
    sent = all_ways(include=[{"system": WAYS, "concept": [{"code": "river"}]}])
    by_body = resource(expand(HERE, parameters(valueSet=sent), timestamp=NOW))
    by_address = resource(expand(HERE, [], value_set=sent, timestamp=NOW))
    assert by_body == by_address
    assert [one["code"] for one in by_body["expansion"]["contains"]] == ["river"]


@pytest.mark.parametrize("given", [[], [("filter", "a")]])
def test_a_value_set_has_to_be_named(given: Given) -> None:
    with pytest.raises(InvalidInput, match=r"^url: exactly one"):
        expand(HERE, given, timestamp=NOW)


def test_only_one_value_set_can_be_named() -> None:
    with pytest.raises(InvalidInput, match=r"^url: exactly one"):
        expand(HERE, [("url", GENDERS)], value_set=all_ways(), timestamp=NOW)
    with pytest.raises(InvalidInput, match=r"^url: exactly one"):
        expand(HERE, parameters(url=GENDERS, valueSet=all_ways()), timestamp=NOW)


def test_a_version_of_a_value_set_can_be_asked_for_in_two_ways() -> None:
    for pairs in ([("url", f"{GENDERS}|4.0.1")], [("url", GENDERS), ("valueSetVersion", "4.0.1")]):
        assert resource(expand(ON_BOARD, pairs, timestamp=NOW))["version"] == "4.0.1"
    with pytest.raises(UnknownCodes, match="version 9"):
        expand(ON_BOARD, [("url", GENDERS), ("valueSetVersion", "9")], timestamp=NOW)


def test_an_unknown_value_set_is_not_found() -> None:
    with pytest.raises(UnknownCodes, match=r"https://example\.org/none is not known here\.") as refusal:
        expand(ON_BOARD, [("url", "https://example.org/none")], timestamp=NOW)
    assert refusal.value.status == 404 and refusal.value.issues[0].code == "not-found"


def test_a_value_set_over_an_absent_code_system_is_not_supported() -> None:
    with pytest.raises(NotEnumerable, match=r"http://snomed\.info/sct") as refusal:
        expand(ON_BOARD, [("url", "http://hl7.org/fhir/ValueSet/condition-code")], timestamp=NOW)
    assert refusal.value.status == 422 and refusal.value.issues[0].code == "not-supported"


def test_more_codes_than_fit_into_one_answer_are_given_in_pages() -> None:
    concepts = [{"code": str(place)} for place in range(operations.MOST_CODES + 1)]
    large = Terminology([ways(concept=concepts), all_ways()])
    with pytest.raises(TooCostly, match="count"):
        expand(large, [("url", "https://example.org/all-ways")], timestamp=NOW)
    page = resource(expand(large, [("url", "https://example.org/all-ways"), ("count", "10")], timestamp=NOW))
    assert page["expansion"]["total"] == 10_001 and len(page["expansion"]["contains"]) == 10


# What was sent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", "-1"),
        ("count", "ten"),
        ("count", "٣"),
        ("count", "1" * 5000),
        ("offset", "1.5"),
        ("activeOnly", "yes"),
        ("includeDesignations", "TRUE"),
        ("valueSet", "{}"),
        ("exclude-system", f"{WAYS}|2"),
        ("filter", "a" * 201),
        ("filter", "a\x00"),
        ("filter", "\ud800"),
        ("displayLanguage", "de\x1b"),
    ],
)
def test_a_value_of_another_form_is_refused_with_the_parameters_name(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: ") as refusal:
        expand(HERE, [("url", GENDERS), (name, value)], timestamp=NOW)
    assert refusal.value.status == 400
    assert refusal.value.issues[0].expression == f"Parameters.parameter.where(name = '{name}')"


@pytest.mark.parametrize(
    "name",
    ["context", "date", "designation", "system-version", "force-system-version", "limitedExpansion", "URL"],
)
def test_a_parameter_that_is_not_supported_is_refused_and_not_passed_over(name: str) -> None:
    with pytest.raises(UnsupportedInput, match=f"^{name}: ") as refusal:
        expand(HERE, [("url", GENDERS), (name, "2020")], timestamp=NOW)
    assert refusal.value.status == 400 and refusal.value.issues[0].code == "not-supported"


def test_a_name_that_nobody_would_choose_is_shown_without_harm() -> None:
    with pytest.raises(UnsupportedInput) as refusal:
        expand(HERE, [("url", GENDERS), ("x')\x1b[31m\n", "2020")], timestamp=NOW)
    assert refusal.value.issues[0].expression is None
    assert "\x1b" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_parameter_that_stands_once_is_refused_twice() -> None:
    with pytest.raises(InvalidInput, match=r"^count: "):
        expand(HERE, [("url", GENDERS), ("count", "1"), ("count", "2")], timestamp=NOW)


@pytest.mark.parametrize(
    "part",
    [
        {"name": "count"},
        {"name": "count", "valueString": "1"},
        {"name": "count", "valueInteger": True},
        {"name": "count", "valueInteger": -1},
        {"name": "count", "valueInteger": 1, "valueString": "1"},
        {"name": "filter", "valueString": 5},
        {"name": "filter", "valueString": ""},
        {"name": "filter", "valueString": "a\x01"},
        {"name": "activeOnly", "valueBoolean": "true"},
        {"name": "valueSet", "resource": {"resourceType": "Patient"}},
        {"name": "valueSet", "valueString": "x"},
        {"name": "url", "part": []},
    ],
)
def test_a_part_of_another_type_is_refused_with_its_name(part: Resource) -> None:
    with pytest.raises(InvalidInput, match=f"^{part['name']}: "):
        expand(HERE, {"resourceType": "Parameters", "parameter": [part]}, timestamp=NOW)


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "ValueSet"},
        {},
        {"resourceType": "Parameters", "parameter": {}},
        {"resourceType": "Parameters", "parameter": [1]},
        {"resourceType": "Parameters", "parameter": [{"name": 5}]},
    ],
)
def test_a_body_that_is_no_parameters_is_refused(body: Resource) -> None:
    with pytest.raises(InvalidInput):
        expand(HERE, body, timestamp=NOW)


def test_what_was_sent_and_is_no_value_set_is_refused_with_its_place() -> None:
    broken = all_ways(exclude="everything")
    with pytest.raises(InvalidDefinition) as refusal:
        expand(HERE, parameters(valueSet=broken), timestamp=NOW)
    assert refusal.value.issues[0].expression == "ValueSet.compose.exclude"


# ValueSet/$validate-code


def test_a_code_of_the_value_set_is_valid() -> None:
    pairs = [("url", GENDERS), ("system", GENDER), ("code", "female"), ("display", "Female")]
    assert said(validate_code(ON_BOARD, pairs)) == {"result": True, "display": "Female"}


def test_a_code_that_is_not_valid_is_answered_with_the_reason() -> None:
    answer = said(validate_code(ON_BOARD, [("url", GENDERS), ("system", GENDER), ("code", "femal")]))
    assert answer == {"result": False, "message": f"There is no such code in {GENDER}."}
    wrong_display = [("url", GENDERS), ("system", GENDER), ("code", "female"), ("display", "Male")]
    answer = said(validate_code(ON_BOARD, wrong_display))
    assert answer["result"] is False and answer["display"] == "Female"


def test_a_coding_and_a_concept_are_looked_at_as_codes_are() -> None:
    female, unheard_of = {"system": GENDER, "code": "female"}, {"system": GENDER, "code": "x"}
    for sent, expected in (
        (parameters(url=GENDERS, coding=female), True),
        (parameters(url=GENDERS, coding=unheard_of), False),
        (parameters(url=GENDERS, codeableConcept={"coding": [unheard_of, female]}), True),
        (parameters(url=GENDERS, codeableConcept={"coding": [unheard_of]}), False),
        (parameters(url=GENDERS, codeableConcept={"coding": []}), False),
    ):
        assert said(validate_code(ON_BOARD, sent))["result"] is expected


def test_the_word_for_an_abstract_code_is_heard() -> None:
    road = {"system": WAYS, "code": "road"}
    at = "https://example.org/all-ways"
    assert said(validate_code(HERE, parameters(url=at, coding=road)))["result"] is False
    assert said(validate_code(HERE, parameters(url=at, coding=road, abstract=True)))["result"] is True


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([("url", GENDERS)], "code"),
        ([("url", GENDERS), ("code", "female")], "system"),
        ([("url", GENDERS), ("display", "Female"), ("system", GENDER)], "code"),
        (parameters(url=GENDERS, code="a", system=GENDER, coding={"code": "a"}), "code"),
        (parameters(url=GENDERS, display="a", coding={"code": "a"}), "display"),
        (parameters(url=GENDERS, coding={"system": GENDER}), "coding"),
        (parameters(url=GENDERS, coding={"system": 5, "code": "a"}), "coding"),
        (parameters(url=GENDERS, codeableConcept={"coding": [5]}), "codeableConcept"),
        (parameters(url=GENDERS, codeableConcept={"coding": "a"}), "codeableConcept"),
        ([("url", GENDERS), ("coding", "a")], "coding"),
        ([("code", "a"), ("system", GENDER)], "url"),
    ],
)
def test_what_is_to_be_validated_has_to_be_said_once_and_whole(given: Given, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: "):
        validate_code(ON_BOARD, given)


def test_what_cannot_be_validated_is_neither_valid_nor_invalid() -> None:
    conditions = "http://hl7.org/fhir/ValueSet/condition-code"
    snomed = [("url", conditions), ("system", "http://snomed.info/sct"), ("code", "1")]
    with pytest.raises(NotEnumerable):
        validate_code(ON_BOARD, snomed)
    gender = [("url", conditions), ("system", GENDER), ("code", "male")]
    assert said(validate_code(ON_BOARD, gender))["result"] is False


# CodeSystem/$validate-code


def test_a_code_of_the_code_system_is_valid() -> None:
    assert said(validate_in_system(HERE, [("url", WAYS), ("code", "river")])) == {
        "result": True,
        "display": "River",
    }
    assert (
        said(validate_in_system(HERE, [("url", WAYS), ("version", "2"), ("code", "river")]))["result"] is True
    )
    assert said(validate_in_system(HERE, [("url", WAYS), ("code", "rivers")]))["result"] is False
    assert said(validate_in_system(HERE, [("code", "river")], code_system=ways()))["result"] is True
    sent = parameters(codeSystem=ways(), coding={"system": WAYS, "code": "river", "display": "Fluss"})
    assert said(validate_in_system(ON_BOARD, sent))["result"] is False


def test_a_coding_of_another_system_is_not_valid() -> None:
    answer = said(validate_in_system(HERE, parameters(url=WAYS, coding={"system": GENDER, "code": "river"})))
    assert answer == {"result": False, "message": f"The system is not {WAYS}."}


def test_a_version_that_is_not_the_code_systems_is_no_ground_for_an_answer() -> None:
    coding = {"system": WAYS, "version": "1", "code": "river"}
    with pytest.raises(NotEnumerable, match="Version 1"):
        validate_in_system(HERE, parameters(url=WAYS, coding=coding))
    with pytest.raises(NotEnumerable, match="Version 1"):
        validate_in_system(HERE, [("version", "1"), ("code", "river")], code_system=ways())


def test_a_code_system_has_to_be_named_and_known() -> None:
    with pytest.raises(InvalidInput, match=r"^url: "):
        validate_in_system(HERE, [("code", "river")])
    for url in ("https://example.org/none", "http://snomed.info/sct"):
        with pytest.raises(UnknownCodes, match="is not known here"):
            validate_in_system(HERE, [("url", url), ("code", "1")])
    with pytest.raises(UnknownCodes, match="version 7"):
        validate_in_system(HERE, [("url", WAYS), ("version", "7"), ("code", "river")])
    fragment = Terminology([ways(content="fragment")])
    with pytest.raises(NotEnumerable):
        validate_in_system(fragment, [("url", WAYS), ("code", "canal")])


# CodeSystem/$lookup


def test_a_code_is_looked_up_with_all_that_is_known_of_it() -> None:
    text = lookup(HERE, [("system", WAYS), ("code", "lane")])
    assert {name: said(text)[name] for name in ("name", "version", "display")} == {
        "name": "Ways",
        "version": "2",
        "display": "Lane",
    }
    assert properties(text) == [
        ("inactive", True),
        ("notSelectable", False),
        ("parent", "road"),
        ("width", Decimal("2.50")),
        ("kind", {"system": WAYS, "code": "road"}),
        ("since", "1066"),
        ("lanes", 1),
    ]
    assert '"valueDecimal":2.50' in text
    designations = [one["part"] for one in resource(text)["parameter"] if one["name"] == "designation"]
    assert designations == [
        [{"name": "language", "valueCode": "de"}, {"name": "value", "valueString": "Gasse"}],
        [
            {"name": "use", "valueCoding": {"system": "https://example.org/uses", "code": "short"}},
            {"name": "value", "valueString": "Ln"},
        ],
    ]


def test_a_group_names_its_children_and_its_definition() -> None:
    assert properties(lookup(HERE, [("system", WAYS), ("code", "road")])) == [
        ("definition", "Paved."),
        ("inactive", False),
        ("notSelectable", True),
        ("child", "lane"),
    ]


def test_properties_are_those_asked_for() -> None:
    def asked(*names: str) -> list[tuple[str, Any]]:
        return properties(
            lookup(HERE, [("system", WAYS), ("code", "lane"), *(("property", name) for name in names)])
        )

    assert asked("parent") == [("parent", "road")]
    assert asked("width", "lanes") == [("width", Decimal("2.50")), ("lanes", 1)]
    assert asked("nothing") == []

    def designated(name: str) -> int:
        text = lookup(HERE, [("system", WAYS), ("code", "lane"), ("property", name)])
        return sum(one["name"] == "designation" for one in resource(text)["parameter"])

    assert (designated("designation"), designated("lang.de"), designated("lang.fr")) == (2, 1, 0)


def test_a_coding_can_be_looked_up_and_in_its_language() -> None:
    given = parameters(coding={"system": WAYS, "version": "2", "code": "lane"}, displayLanguage="de")
    assert said(lookup(HERE, given))["display"] == "Gasse"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([("code", "lane")], "system"),
        ([("system", WAYS)], "code"),
        (parameters(code="lane", system=WAYS, coding={"system": WAYS, "code": "lane"}), "code"),
        ([("code", "lane"), ("system", WAYS), ("date", "2020")], "date"),
    ],
)
def test_what_is_to_be_looked_up_has_to_be_said_once_and_whole(given: Given, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: "):
        lookup(HERE, given)


@pytest.mark.parametrize(
    ("system", "code"),
    [
        (WAYS, "canal"),
        ("https://example.org/none", "lane"),
        ("http://snomed.info/sct", "1"),
        (f"{WAYS}|7", "lane"),
    ],
)
def test_what_is_not_known_is_not_found(system: str, code: str) -> None:
    with pytest.raises(UnknownCodes) as refusal:
        lookup(HERE, [("system", system), ("code", code)])
    assert refusal.value.status == 404


@pytest.mark.parametrize("url", [url for kind, url in packaged.index() if kind == "CodeSystem"][::60])
def test_every_code_on_board_is_looked_up(url: str) -> None:
    system = ON_BOARD.code_system(url)
    assert system is not None
    for code in list(system.concepts)[:5]:
        text = lookup(ON_BOARD, [("system", url), ("code", code)])
        assert resource(text)["parameter"][0]["name"] == "name"


# CodeSystem/$subsumes


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ("_ActInformationSensitivityPolicy", "HIV", "subsumes"),
        ("HIV", "_ActInformationSensitivityPolicy", "subsumed-by"),
        ("HIV", "HIV", "equivalent"),
        ("HIV", "SEX", "not-subsumed"),
    ],
)
def test_one_code_stands_to_another_as_the_hierarchy_says(a: str, b: str, outcome: str) -> None:
    assert said(subsumes(ON_BOARD, [("system", ACT_CODE), ("codeA", a), ("codeB", b)])) == {
        "outcome": outcome
    }
    codings = parameters(codingA={"system": ACT_CODE, "code": a}, codingB={"system": ACT_CODE, "code": b})
    assert said(subsumes(ON_BOARD, codings)) == {"outcome": outcome}


def test_subsumption_is_told_in_the_code_system_that_was_invoked_on() -> None:
    answer = subsumes(ON_BOARD, [("codeA", "road"), ("codeB", "lane")], code_system=ways())
    assert said(answer) == {"outcome": "subsumes"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([("codeA", "a"), ("codeB", "b")], "system"),
        ([("system", WAYS), ("codeA", "road")], "codeB"),
        (
            parameters(codingA={"system": WAYS, "code": "road"}, codingB={"system": GENDER, "code": "male"}),
            "codingB",
        ),
        (
            parameters(
                system=GENDER,
                codingA={"system": WAYS, "code": "road"},
                codingB={"system": WAYS, "code": "lane"},
            ),
            "system",
        ),
    ],
)
def test_codes_that_cannot_be_compared_are_refused(given: Given, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: "):
        subsumes(HERE, given)


def test_a_relation_that_cannot_be_told_is_an_error() -> None:
    with pytest.raises(UnknownCodes):
        subsumes(HERE, [("system", WAYS), ("codeA", "road"), ("codeB", "canal")])
    with pytest.raises(UnknownCodes):
        subsumes(HERE, [("system", "http://snomed.info/sct"), ("codeA", "1"), ("codeB", "2")])
    parts = Terminology([ways(hierarchyMeaning="part-of")])
    with pytest.raises(NotEnumerable):
        subsumes(parts, [("system", WAYS), ("codeA", "road"), ("codeB", "lane")])


# TerminologyCapabilities


def test_the_capabilities_are_those_of_the_tables() -> None:
    answer = resource(terminology_capabilities("https://node.example/fhir", date=NOW, version="0.1.0"))
    systems = {one["uri"]: one for one in answer["codeSystem"]}
    assert len(systems) == len(answer["codeSystem"]) > 1_000
    assert systems[ACT_CODE] == {
        "uri": ACT_CODE,
        "version": [{"code": "2018-08-12", "isDefault": True}],
        "subsumption": True,
    }
    assert systems[GENDER]["subsumption"] is False
    assert "http://snomed.info/sct" not in systems
    assert "http://terminology.hl7.org/CodeSystem/service-type" not in systems, (
        "an example is not the code system"
    )
    named = {one["name"] for one in answer["expansion"]["parameter"]}
    assert named == {name for name, kind in EXPAND.items() if kind != "unsupported"}


def test_the_capabilities_are_the_same_text_while_nothing_changes() -> None:
    first = terminology_capabilities("https://node.example/fhir", date=NOW, version="0.1.0")
    assert first == terminology_capabilities("https://node.example/fhir", date=NOW, version="0.1.0")


@pytest.mark.parametrize(
    ("id", "kinds"),
    [
        ("ValueSet-expand", EXPAND),
        ("ValueSet-validate-code", VALIDATE_CODE),
        ("CodeSystem-validate-code", VALIDATE_IN_SYSTEM),
        ("CodeSystem-lookup", LOOKUP),
        ("CodeSystem-subsumes", SUBSUMES),
    ],
)
def test_each_operation_has_the_parameters_that_r4_defines(
    id: str, kinds: Mapping[str, str], r4: Mapping[str, Any]
) -> None:
    assert set(kinds) == {one["name"] for one in r4[id]["parameter"] if one["use"] == "in"}


@pytest.fixture(scope="module")
def r4(shared_data: Path) -> Mapping[str, Any]:
    path = shared_data / "hl7" / "definitions" / "structuredefinitions-resources.json.xz"
    with lzma.open(path, "rt", encoding="utf-8") as file:
        listed = [entry["resource"] for entry in json.load(file)["entry"]]
    return {one["id"]: one for one in listed if one["resourceType"] == "OperationDefinition"}


# Anything at all

NAMES = sorted({*EXPAND, *VALIDATE_CODE, *LOOKUP, *SUBSUMES, *VALIDATE_IN_SYSTEM})
SMALL = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [GENDERS, GENDER, WAYS, "https://example.org/all-ways", "lane", "true", "1", "road", "url"]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | SMALL,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SMALL, inner, max_size=3),
    max_leaves=6,
)
VALUES = [
    "valueString",
    "valueUri",
    "valueBoolean",
    "valueInteger",
    "valueCoding",
    "valueCodeableConcept",
    "resource",
]
BODIES = st.fixed_dictionaries(
    {
        "resourceType": st.just("Parameters"),
        "parameter": st.lists(
            st.dictionaries(st.sampled_from(["name", *VALUES]), st.sampled_from(NAMES) | JSON, max_size=3),
            max_size=4,
        ),
    }
)
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), SMALL), max_size=5)


@settings(max_examples=300, deadline=None)
@given(PAIRS | BODIES)
def test_whatever_is_sent_is_answered_in_r4_or_refused_with_a_sentence(given: Any) -> None:
    operations_: list[Callable[[], str]] = [
        lambda: expand(HERE, given, timestamp=NOW),
        lambda: validate_code(HERE, given),
        lambda: validate_in_system(HERE, given),
        lambda: lookup(HERE, given),
        lambda: subsumes(HERE, given),
    ]
    for operation in operations_:
        status, told = answered(operation)
        assert status in (200, 400, 404, 422) and told


def answered(operation: Callable[[], str]) -> tuple[int, str]:
    try:
        return 200, str(resource(operation())["resourceType"])
    except CandourError as refusal:
        return refusal.status.value, str(refusal)
