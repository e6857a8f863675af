"""Codes mean here what their code systems say; what cannot be told is refused, never answered in part."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import CandourError, InvalidDefinition, NotEnumerable, TooCostly
from app.fhir import packaged
from app.fhir.concepts import CodeSystem, read_code_system
from app.fhir.membership import Decision, Enumeration, Undecided
from app.fhir.terminology import ON_BOARD, Coding, Terminology
from app.fhir.valuesets import ValueSet, read_value_set

ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
GENDER = "http://hl7.org/fhir/administrative-gender"
GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"
SNOMED = "http://snomed.info/sct"
BODIES = "https://example.org/bodies"

Resource = dict[str, Any]


def bodies(**changes: Any) -> Resource:
    """A small code system: celestial bodies, with a planet that is also a dwarf."""
    return {
        "resourceType": "CodeSystem",
        "url": BODIES,
        "version": "1.0",
        "name": "Bodies",
        "status": "active",
        "content": "complete",
        "valueSet": "https://example.org/all-bodies",
        "property": [{"code": "rings", "type": "boolean"}, {"code": "moons", "type": "integer"}],
        "concept": [
            {
                "code": "planet",
                "display": "Planet",
                "property": [{"code": "notSelectable", "valueBoolean": True}],
                "concept": [
                    {"code": "earth", "display": "Earth", "property": [{"code": "moons", "valueInteger": 1}]},
                    {
                        "code": "saturn",
                        "display": "Saturn",
                        "property": [{"code": "rings", "valueBoolean": True}],
                    },
                    {
                        "code": "vulcan",
                        "display": "Vulcan",
                        "property": [{"code": "inactive", "valueBoolean": True}],
                    },
                ],
            },
            {
                "code": "dwarf",
                "display": "Dwarf planet",
                "concept": [
                    {
                        "code": "pluto",
                        "display": "Pluto",
                        "property": [{"code": "parent", "valueCode": "planet"}],
                        "designation": [{"language": "de-AT", "value": "Pluto der Zwerg"}],
                    }
                ],
            },
        ],
    } | changes


def value_set(*include: Resource, url: str = "https://example.org/vs", **compose: Any) -> Resource:
    compose = {"include": list(include), **compose}
    return {"resourceType": "ValueSet", "url": url, "status": "active", "compose": compose}


def filtered(*filters: tuple[str, str, str], system: str = BODIES) -> Resource:
    return {
        "system": system,
        "filter": [{"property": name, "op": op, "value": value} for name, op, value in filters],
    }


def listed(system: str, *codes: str) -> Resource:
    return {"system": system, "concept": [{"code": code} for code in codes]}


WITH_BODIES = Terminology([bodies()])


def codes(resource: Resource, terminology: Terminology = WITH_BODIES, **asked: Any) -> list[str]:
    return [one.code for one in terminology.expand(read_value_set(resource), **asked).contains]


def in_it(
    resource: Resource, system: str, code: str, terminology: Terminology = WITH_BODIES
) -> bool | Undecided:
    return Decision(terminology, system, code).in_value_set(read_value_set(resource))


# What is on board


def test_nothing_is_read_before_it_is_asked_for() -> None:
    packaged.index.cache_clear()
    Terminology([bodies()]).code_system(f"{BODIES}|1.0")
    assert packaged.index.cache_info().currsize <= 1
    packaged.packaged_code_system.cache_clear()
    assert ON_BOARD.value_set(GENDERS) is not None
    assert packaged.packaged_code_system.cache_info().currsize == 0


def test_a_concept_has_its_display_definition_and_place() -> None:
    system = ON_BOARD.code_system(ACT_CODE)
    assert system is not None and system.version == "2018-08-12"
    concept = system.concept("HIV")
    assert concept is not None
    assert concept.display == "HIV/AIDS information sensitivity"
    assert concept.definition is not None and concept.definition.startswith("Policy for handling HIV or AIDS")
    assert concept.parents == ("_ActInformationSensitivityPolicy",)
    assert not concept.is_abstract
    group = system.concept("_ActInformationSensitivityPolicy")
    assert group is not None and group.is_abstract


def test_a_second_parent_counts() -> None:
    """v3 names it by the property child of the parent."""
    assert {"_BillingArrangement", "FFS", "FF", "FFC"} & ON_BOARD.above(ACT_CODE, "FFCS") >= {
        "FFS",
        "FFC",
        "FF",
    }


def test_what_is_retired_is_inactive_and_what_is_deprecated_is_not() -> None:
    system = ON_BOARD.code_system(ACT_CODE)
    interpretations = ON_BOARD.code_system(
        "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
    )
    assert system is not None and interpretations is not None
    assert system.concepts["STORE"].is_inactive
    assert not interpretations.concepts["MS"].is_inactive


def test_the_tables_are_read_at_the_place_that_the_index_names() -> None:
    for kind, url in packaged.index():
        found: CodeSystem | ValueSet | None
        found = ON_BOARD.code_system(url) if kind == "CodeSystem" else ON_BOARD.value_set(url)
        assert found is not None and found.url == url
        assert found.version == packaged.index()[kind, url].version


def test_no_table_says_anything_twice_or_of_a_concept_that_is_not_there() -> None:
    """Reading refuses a code that is there twice and a circle; every parent is a concept."""
    for kind, url in packaged.index():
        if kind == "CodeSystem":
            system = ON_BOARD.code_system(url)
            assert system is not None
            concepts = system.concepts.values()
            assert {parent for one in concepts for parent in one.parents} <= system.concepts.keys()
            assert all(one.definition is None or type(one.definition) is str for one in concepts)


def test_a_value_set_of_all_codes_is_known_by_the_name_that_the_code_system_gives_it() -> None:
    dicom = ON_BOARD.value_set("http://hl7.org/fhir/ValueSet/dicom-dcim")
    assert dicom is not None and len(ON_BOARD.expand(dicom).codes) == 3_156
    given = WITH_BODIES.value_set("https://example.org/all-bodies")
    assert given is not None and [one.code for one in WITH_BODIES.expand(given).codes][:2] == [
        "planet",
        "earth",
    ]
    assert WITH_BODIES.value_set("https://example.org/all-bodies|2.0") is None


def test_an_expansion_that_was_published_whole_stands_in_for_an_absent_code_system() -> None:
    members = ON_BOARD.members("http://hl7.org/fhir/ValueSet/currencies")
    assert members is not None and len(members) == 182 and ("urn:iso:std:iso:4217", "GBP") in members
    answer = ON_BOARD.validate_code(
        found(ON_BOARD, "http://hl7.org/fhir/ValueSet/currencies"), [Coding("urn:iso:std:iso:4217", "XXL")]
    )
    assert not answer.result


def found(terminology: Terminology, canonical: str) -> ValueSet:
    value_set = terminology.value_set(canonical)
    assert value_set is not None
    return value_set


# Versions


def test_the_newest_version_counts_and_any_can_be_picked() -> None:
    terminology = Terminology(
        [bodies(version=version, title=version) for version in ("1.2", "1.10", "1.10-beta", "1.9")]
        + [bodies(version=None)]
    )
    newest = terminology.code_system(BODIES)
    assert newest is not None and newest.title == "1.10"
    picked = terminology.code_system(f"{BODIES}|1.9")
    assert picked is not None and picked.title == "1.9"
    assert terminology.code_system(f"{BODIES}|2") is None and terminology.code_system(f"{BODIES}|") is None


def test_a_resource_that_is_given_replaces_what_is_on_board_when_it_is_not_older() -> None:
    def gender(version: str | None) -> str | None:
        system = Terminology([bodies(url=GENDER, version=version, title="given")]).code_system(GENDER)
        return system.title if system else "none"

    assert gender("4.0.0") is None and gender(None) is None
    assert gender("4.0.1") == gender("4.0.10") == gender("5") == "given"
    packaged_one = Terminology([bodies(url=GENDER, version="5")]).code_system(f"{GENDER}|4.0.1")
    assert packaged_one is not None and packaged_one.concept("female")


def test_of_two_with_one_version_the_last_counts() -> None:
    system = Terminology([bodies(title="first"), bodies(title="second")]).code_system(BODIES)
    assert system is not None and system.title == "second"


def test_a_url_with_a_bar_of_its_own_is_found() -> None:
    assert ON_BOARD.code_system("http://terminology.hl7.org/CodeSystem/v2-0360|2.7") is not None


@given(st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=1, max_size=6, unique=True))
def test_numbers_in_versions_count_as_numbers(versions: list[tuple[int, ...]]) -> None:
    written = {".".join(map(str, version)): version for version in versions}
    system = Terminology([bodies(version=version) for version in written]).code_system(BODIES)
    assert system is not None and system.version is not None
    assert written[system.version] == max(versions)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6))
@example(["9" * 5000, "1" * 5000])
@example(["٣", "²", "-", "|"])
def test_one_version_is_chosen_whatever_they_are_called(versions: list[str]) -> None:
    system = Terminology([bodies(version=version) for version in versions]).code_system(BODIES)
    assert system is not None and system.version in versions


# Content


def test_a_whole_code_system_is_listed_in_its_order() -> None:
    assert codes(value_set({"system": BODIES})) == ["planet", "earth", "saturn", "vulcan", "dwarf", "pluto"]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (("concept", "is-a", "planet"), "planet earth saturn vulcan pluto"),
        (("concept", "descendent-of", "planet"), "earth saturn vulcan pluto"),
        (("concept", "is-not-a", "planet"), "dwarf"),
        (("concept", "generalizes", "pluto"), "planet dwarf pluto"),
        (("concept", "in", "pluto, earth"), "earth pluto"),
        (("concept", "not-in", "pluto,earth,planet"), "saturn vulcan dwarf"),
        (("code", "=", "earth"), "earth"),
        (("code", "regex", "[a-z]{5}"), "earth dwarf pluto"),
        (("code", "regex", "p.*t"), "planet"),
        (("display", "=", "Dwarf planet"), "dwarf"),
        (("parent", "=", "planet"), "earth saturn vulcan pluto"),
        (("child", "=", "pluto"), "planet dwarf"),
        (("child", "exists", "false"), "earth saturn vulcan pluto"),
        (("rings", "=", "true"), "saturn"),
        (("rings", "exists", "true"), "saturn"),
        (("moons", "=", "1"), "earth"),
        (("inactive", "=", "true"), "vulcan"),
        (("inactive", "=", "false"), "planet earth saturn dwarf pluto"),
        (("notSelectable", "exists", "false"), "earth saturn vulcan dwarf pluto"),
    ],
)
def test_a_filter_selects_by_hierarchy_or_property(one: tuple[str, str, str], expected: str) -> None:
    assert codes(value_set(filtered(one))) == expected.split()


def test_all_filters_of_a_part_have_to_be_passed() -> None:
    part = filtered(("concept", "is-a", "planet"), ("concept", "is-a", "dwarf"))
    assert codes(value_set(part)) == ["pluto"]


def test_includes_add_and_excludes_take_away() -> None:
    resource = value_set(
        listed(BODIES, "saturn"),
        filtered(("concept", "is-a", "planet")),
        exclude=[listed(BODIES, "planet", "vulcan")],
    )
    assert codes(resource) == ["saturn", "earth", "pluto"]


def test_value_sets_of_one_part_are_intersected_and_those_of_several_joined() -> None:
    planets = value_set(filtered(("concept", "is-a", "planet")), url="https://example.org/planets")
    dwarfs = value_set(filtered(("concept", "is-a", "dwarf")), url="https://example.org/dwarfs")
    terminology = Terminology([bodies(), planets, dwarfs])
    names = [planets["url"], dwarfs["url"]]
    assert codes(value_set({"valueSet": names}), terminology) == ["pluto"]
    both = filtered(("concept", "is-a", "dwarf")) | {"valueSet": names}
    assert codes(value_set(both), terminology) == ["pluto"]
    assert codes(value_set(*({"valueSet": [name]} for name in names)), terminology) == [
        "planet", "earth", "saturn", "vulcan", "pluto", "dwarf",
    ]  # fmt: skip
    assert codes(value_set(listed(BODIES, "earth", "dwarf") | {"valueSet": names[:1]}), terminology) == [
        "earth"
    ]


def test_a_whole_absent_system_and_a_value_set_are_the_codes_of_that_system_in_it() -> None:
    mixed = value_set(listed(SNOMED, "1", "2"), listed(BODIES, "earth"), url="https://example.org/mixed")
    terminology = Terminology([bodies(), mixed])
    resource = value_set({"system": SNOMED, "valueSet": [mixed["url"]]})
    assert codes(resource, terminology) == ["1", "2"]
    assert in_it(resource, SNOMED, "2", terminology) is True
    assert in_it(resource, SNOMED, "3", terminology) is False


def test_inactive_codes_are_in_it_unless_the_value_set_or_the_caller_says_otherwise() -> None:
    assert "vulcan" in codes(value_set({"system": BODIES}))
    assert "vulcan" not in codes(value_set({"system": BODIES}, inactive=False))
    assert "vulcan" not in codes(value_set({"system": BODIES}), active_only=True)
    assert in_it(value_set({"system": BODIES}, inactive=False), BODIES, "vulcan") is False
    assert "planet" not in codes(value_set({"system": BODIES}), selectable_only=True)


def test_a_listed_code_that_its_code_system_does_not_have_is_not_in_the_value_set() -> None:
    resource = value_set(listed(BODIES, "earth", "nibiru"))
    assert codes(resource) == ["earth"]
    assert in_it(resource, BODIES, "nibiru") is False


def test_a_value_set_says_what_its_codes_are_called() -> None:
    resource = value_set(
        {"system": BODIES, "concept": [{"code": "earth", "display": "Terra"}, {"code": "pluto"}]}
    )
    shown = WITH_BODIES.expand(read_value_set(resource), language="de")
    assert [one.display for one in shown.contains] == ["Terra", "Pluto der Zwerg"]


def test_of_a_code_that_is_included_twice_the_first_word_counts() -> None:
    twice = value_set(
        {"system": BODIES, "concept": [{"code": "earth", "display": "Terra"}]}, {"system": BODIES}
    )
    expansion = WITH_BODIES.expand(read_value_set(twice))
    assert (expansion.total, expansion.contains[0].display) == (6, "Terra")


def test_a_text_filter_looks_for_the_beginnings_of_words() -> None:
    whole = value_set({"system": BODIES})
    assert codes(whole, filter="pla") == ["planet", "dwarf"]
    assert codes(whole, filter="PLA dw") == ["dwarf"]
    assert codes(whole, filter="zwerg") == ["pluto"]
    assert codes(whole, filter="lanet") == []
    assert codes(whole, filter=" .* ") == codes(whole)


def test_systems_can_be_left_out() -> None:
    resource = value_set(listed(SNOMED, "1"), listed(BODIES, "earth"))
    assert codes(resource, without_systems=[SNOMED]) == ["earth"]


def test_a_value_set_names_what_has_to_be_at_hand_for_it() -> None:
    resource = value_set(
        {"system": BODIES, "version": "1.0"},
        {"valueSet": [NAMES[1]]},
        exclude=[listed(SNOMED, "1"), {"valueSet": [NAMES[2], NAMES[1]]}],
    )
    assert read_value_set(resource).references() == {f"{BODIES}|1.0", SNOMED, NAMES[1], NAMES[2]}


def test_a_resource_is_read_once() -> None:
    terminology = Terminology([bodies(), value_set({"system": BODIES})])
    assert terminology.code_system(BODIES) is terminology.code_system(f"{BODIES}|1.0")
    assert terminology.value_set("https://example.org/vs") is terminology.value_set("https://example.org/vs")
    assert terminology.members("https://example.org/vs") is terminology.members("https://example.org/vs")


# What cannot be told


@pytest.mark.parametrize(
    "part",
    [
        {"system": SNOMED},
        filtered(("concept", "is-a", "404684003"), system=SNOMED),
        {"system": "https://example.org/unheard-of"},
        {"system": BODIES, "version": "0.9"},
        {"valueSet": ["https://example.org/unheard-of"]},
        filtered(("taste", "=", "cheese")),
        filtered(("concept", "is-a", "nibiru")),
        filtered(("rings", "is-a", "true")),
        filtered(("code", "regex", "(a|b)")),
    ],
)
def test_what_is_not_known_makes_a_list_no_shorter(part: Resource) -> None:
    resource = value_set(listed(BODIES, "earth"), part)
    with pytest.raises(NotEnumerable) as refusal:
        codes(resource)
    assert str(refusal.value).endswith(".")
    with pytest.raises(NotEnumerable):
        Terminology([bodies(), resource]).members(resource["url"])


def test_whether_one_code_is_in_it_can_be_told_where_all_cannot() -> None:
    resource = value_set(
        listed(SNOMED, "1"), filtered(("concept", "is-a", "2"), system=SNOMED), {"system": BODIES}
    )
    assert in_it(resource, SNOMED, "1") is True
    assert in_it(resource, BODIES, "earth") is True
    assert in_it(resource, BODIES, "nibiru") is False
    assert in_it(resource, GENDER, "male") is False
    assert isinstance(in_it(resource, SNOMED, "3"), Undecided)


def test_an_exclude_that_cannot_be_told_leaves_open_what_it_is_about_and_nothing_else() -> None:
    absent = filtered(("concept", "is-a", "2"), system=SNOMED)
    assert codes(value_set({"system": BODIES}, exclude=[absent])) == codes(value_set({"system": BODIES}))
    with pytest.raises(NotEnumerable):
        codes(value_set(listed(SNOMED, "1"), exclude=[absent]))
    assert isinstance(in_it(value_set(listed(SNOMED, "1"), exclude=[absent]), SNOMED, "1"), Undecided)
    assert in_it(value_set(listed(SNOMED, "1"), exclude=[absent]), SNOMED, "7") is False


def test_an_exclude_of_a_whole_code_system_needs_to_know_none_of_its_codes() -> None:
    resource = value_set(listed(SNOMED, "1"), listed(BODIES, "earth"), exclude=[{"system": SNOMED}])
    assert codes(resource) == ["earth"]
    assert in_it(resource, SNOMED, "1") is False and in_it(resource, BODIES, "earth") is True
    one_version = value_set(listed(SNOMED, "1"), exclude=[{"system": SNOMED, "version": "2"}])
    assert isinstance(in_it(one_version, SNOMED, "1"), Undecided)


def test_a_locked_date_is_followed_only_where_no_version_depends_on_it() -> None:
    assert codes(value_set(listed(BODIES, "earth"), lockedDate="2020-01-01")) == ["earth"]
    with pytest.raises(NotEnumerable, match="2020-01-01"):
        codes(value_set({"system": BODIES}, lockedDate="2020-01-01"))


@pytest.mark.parametrize("content", ["fragment", "example"])
def test_a_part_of_a_code_system_is_listed_as_open_and_is_no_ground_for_a_no(content: str) -> None:
    terminology = Terminology([bodies(content=content), value_set({"system": BODIES})])
    expansion = terminology.expand(found(terminology, "https://example.org/vs"))
    assert expansion.total == 6 and not expansion.is_closed
    with pytest.raises(NotEnumerable):
        terminology.members("https://example.org/vs")
    with pytest.raises(NotEnumerable):
        terminology.below(BODIES, "planet")
    assert terminology.validate_code(
        found(terminology, "https://example.org/vs"), [Coding(BODIES, "earth")]
    ).result
    with pytest.raises(NotEnumerable):
        terminology.validate_code(found(terminology, "https://example.org/vs"), [Coding(BODIES, "nibiru")])


def test_an_expansion_that_was_given_counts_only_when_it_is_whole() -> None:
    def given_with(**expansion: Any) -> Resource:
        contains = [{"system": SNOMED, "code": "1", "contains": [{"system": SNOMED, "code": "2"}]}]
        return value_set({"system": SNOMED}) | {"expansion": {"contains": contains, **expansion}}

    assert codes(given_with()) == codes(given_with(total=2)) == ["1", "2"]
    assert in_it(given_with(), SNOMED, "2") is True and in_it(given_with(), SNOMED, "3") is False
    unclosed = {"url": "http://hl7.org/fhir/StructureDefinition/valueset-unclosed", "valueBoolean": True}
    for part in (given_with(total=3), given_with(offset=2), given_with(extension=[unclosed])):
        with pytest.raises(NotEnumerable):
            codes(part)


def test_members_are_those_of_the_expansion() -> None:
    assert ON_BOARD.members(GENDERS) == frozenset(
        (GENDER, code) for code in ("male", "female", "other", "unknown")
    )
    assert ON_BOARD.members("https://example.org/unheard-of") is None
    assert ON_BOARD.members(f"{GENDERS}|4.0.1") == ON_BOARD.members(GENDERS)
    assert ON_BOARD.members(f"{GENDERS}|9") is None


# Validation


def checked(coding: Coding, **asked: Any) -> tuple[bool, str | None, str | None]:
    resource = value_set({"system": BODIES}, {"system": SNOMED, "concept": [{"code": "1"}]})
    answer = WITH_BODIES.validate_code(read_value_set(resource), [coding], **asked)
    return answer.result, answer.message, answer.display


def test_a_code_is_valid_when_it_is_in_the_value_set_and_called_what_it_is_called_there() -> None:
    assert checked(Coding(BODIES, "earth")) == (True, None, "Earth")
    assert checked(Coding(BODIES, "earth", display=" earth ")) == (True, None, "Earth")
    assert checked(Coding(BODIES, "pluto", display="pluto der zwerg"), language="de") == (
        True,
        None,
        "Pluto der Zwerg",
    )
    assert checked(Coding(BODIES, "earth", display="Mars"))[::2] == (False, "Earth")
    assert checked(Coding(BODIES, "nibiru"))[0] is False
    assert checked(Coding(GENDER, "male"))[::2] == (False, "Male")
    assert checked(Coding(None, "earth"))[0] is False


def test_an_inactive_code_is_valid_with_a_word_about_it() -> None:
    assert checked(Coding(BODIES, "vulcan")) == (True, "The code is inactive.", "Vulcan")


def test_an_abstract_code_is_valid_only_where_the_caller_says_so() -> None:
    assert checked(Coding(BODIES, "planet"))[0] is False
    assert checked(Coding(BODIES, "planet"), allow_abstract=True) == (True, None, "Planet")


def test_a_display_that_nobody_here_knows_is_not_held_against_the_code() -> None:
    result, message, display = checked(Coding(SNOMED, "1", display="Anything"))
    assert result and message is not None and display is None


def test_a_version_that_is_not_known_is_no_ground_for_an_answer() -> None:
    assert checked(Coding(BODIES, "earth", version="1.0"))[0]
    with pytest.raises(NotEnumerable, match=r"0\.9"):
        checked(Coding(BODIES, "earth", version="0.9"))
    # The value set lists the code, whatever edition it is from.
    assert checked(Coding(SNOMED, "1", version="http://snomed.info/sct/83821000000107"))[0]


def test_one_valid_coding_of_several_is_enough_and_a_no_needs_all() -> None:
    resource = read_value_set(value_set({"system": BODIES}, {"system": SNOMED}))
    unknown, wrong, right = Coding(SNOMED, "1"), Coding(BODIES, "nibiru"), Coding(BODIES, "earth")
    assert WITH_BODIES.validate_code(resource, [unknown, wrong, right]).result
    assert not WITH_BODIES.validate_code(resource, [wrong]).result
    with pytest.raises(NotEnumerable):
        WITH_BODIES.validate_code(resource, [wrong, unknown])
    assert not WITH_BODIES.validate_code(resource, []).result


def test_case_counts_unless_the_code_system_says_that_it_does_not() -> None:
    resource = read_value_set(value_set(listed(BODIES, "earth")))
    careless = Terminology([bodies(caseSensitive=False)])
    assert careless.validate_code(resource, [Coding(BODIES, "EARTH")]).result
    for caring in (bodies(), bodies(caseSensitive=True)):
        assert not Terminology([caring]).validate_code(resource, [Coding(BODIES, "EARTH")]).result
    assert careless.below(BODIES, "PLANET") == careless.below(BODIES, "planet")


# Hierarchy


def test_what_is_below_and_above_is_told_with_the_code_itself() -> None:
    assert WITH_BODIES.below(BODIES, "dwarf") == {"dwarf", "pluto"}
    assert WITH_BODIES.above(BODIES, "pluto") == {"pluto", "dwarf", "planet"}
    assert WITH_BODIES.below(BODIES, "nibiru") == {"nibiru"}
    policies = ON_BOARD.below(ACT_CODE, "_ActInformationSensitivityPolicy")
    assert {"HIV", "SEX", "_ActInformationSensitivityPolicy"} <= policies


@pytest.mark.parametrize("system", [SNOMED, "https://example.org/unheard-of"])
def test_the_hierarchy_of_an_absent_code_system_is_not_made_up(system: str) -> None:
    for ask in (ON_BOARD.below, ON_BOARD.above):
        with pytest.raises(NotEnumerable):
            ask(system, "404684003")


@pytest.mark.parametrize("meaning", ["part-of", "grouped-by"])
def test_a_hierarchy_of_parts_is_none_of_kinds(meaning: str) -> None:
    parts = Terminology([bodies(hierarchyMeaning=meaning)])
    with pytest.raises(NotEnumerable, match=meaning):
        parts.below(BODIES, "planet")
    with pytest.raises(NotEnumerable, match=meaning):
        codes(value_set(filtered(("concept", "is-a", "planet"))), parts)


def test_a_property_means_what_its_uri_says_whatever_it_is_called() -> None:
    uri = "http://hl7.org/fhir/concept-properties#"
    declared = [{"code": "withdrawn", "uri": uri + "inactive", "type": "boolean"}]
    concept = {"code": "x", "property": [{"code": "withdrawn", "valueBoolean": True}]}
    system = read_code_system(bodies(property=declared, concept=[concept]))
    assert system.concepts["x"].is_inactive


@st.composite
def code_systems(draw: st.DrawFn) -> Resource:
    """Up to nine concepts, some inside others, each with any of the earlier ones as further parents."""
    size = draw(st.integers(1, 9))
    nodes: list[Resource] = [{"code": f"c{place}", "property": [], "concept": []} for place in range(size)]
    roots = [nodes[0]]
    for place in range(1, size):
        inside = draw(st.none() | st.integers(0, place - 1))
        (roots if inside is None else nodes[inside]["concept"]).append(nodes[place])
        for parent in draw(st.sets(st.integers(0, place - 1), max_size=2)):
            if draw(st.booleans()):
                nodes[place]["property"].append({"code": "parent", "valueCode": f"c{parent}"})
            else:
                nodes[parent]["property"].append({"code": "child", "valueCode": f"c{place}"})
        if draw(st.booleans()):
            nodes[place]["property"].append({"code": "inactive", "valueBoolean": True})
    return bodies(concept=roots)


@given(code_systems())
def test_subsumption_is_a_partial_order(resource: Resource) -> None:
    system = read_code_system(resource)
    known = list(system.concepts)
    pairs = {(a, b) for a in known for b in known if system.subsumes(a, b)}
    assert all((a, a) in pairs for a in known)
    assert all(a == b for a, b in pairs if (b, a) in pairs)
    assert all((a, d) in pairs for a, b in pairs for c, d in pairs if b == c)


@given(code_systems())
def test_below_and_above_are_each_others_inverse(resource: Resource) -> None:
    terminology = Terminology([resource])
    system = read_code_system(resource)
    for a in system.concepts:
        for b in system.concepts:
            is_below = b in terminology.below(BODIES, a)
            assert is_below == (a in terminology.above(BODIES, b)) == system.subsumes(a, b)
            expected = "equivalent" if a == b else "subsumes" if is_below else None
            assert expected is None or terminology.subsumption(system, a, b) == expected


@given(code_systems())
def test_a_parent_by_any_way_to_name_it_subsumes_its_child(resource: Resource) -> None:
    system = read_code_system(resource)

    def check(concept: Resource) -> None:
        for inner in concept["concept"]:
            assert system.subsumes(concept["code"], inner["code"])
            check(inner)
        for one in concept["property"]:
            match one["code"]:
                case "parent":
                    assert system.subsumes(one["valueCode"], concept["code"])
                case "child":
                    assert system.subsumes(concept["code"], one["valueCode"])

    for root in resource["concept"]:
        check(root)


PLACES = st.sampled_from([f"c{place}" for place in range(10)])
SYSTEMS = st.sampled_from([BODIES, SNOMED])
OPS = st.sampled_from(["is-a", "descendent-of", "is-not-a", "generalizes", "=", "in", "not-in"])
FILTERS = st.builds(lambda op, code: ("concept", op, code), OPS, PLACES)
NAMES = [f"https://example.org/vs{place}" for place in range(4)]
PARTS = st.one_of(
    st.builds(
        lambda system, chosen: listed(system, *chosen), SYSTEMS, st.lists(PLACES, min_size=1, max_size=4)
    ),
    st.builds(
        lambda system, chosen: filtered(*chosen, system=system),
        SYSTEMS,
        st.lists(FILTERS, min_size=1, max_size=2),
    ),
    st.builds(lambda system: {"system": system}, SYSTEMS),
    st.builds(lambda names: {"valueSet": names}, st.lists(st.sampled_from(NAMES), min_size=1, max_size=2)),
    st.builds(
        lambda names, system: {"system": system, "valueSet": names},
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
        SYSTEMS,
    ),
)
VALUE_SETS = st.builds(
    lambda include, exclude, inactive, url: value_set(*include, url=url, exclude=exclude, inactive=inactive),
    st.lists(PARTS, min_size=1, max_size=3),
    st.lists(PARTS, max_size=2),
    st.sampled_from([None, True, False]),
    st.sampled_from(NAMES),
)


@settings(max_examples=200, deadline=None)
@given(code_systems(), st.lists(VALUE_SETS, min_size=1, max_size=5))
def test_a_code_is_in_a_value_set_exactly_when_it_is_among_all_its_codes(
    system: Resource, sets: list[Resource]
) -> None:
    terminology = Terminology([system, *sets])
    for name in {one["url"] for one in sets}:
        one = found(terminology, name)
        try:
            members = terminology.members(name)
        except (NotEnumerable, InvalidDefinition):
            continue
        assert members is not None
        for system_url in (BODIES, SNOMED, GENDER):
            for code in [f"c{place}" for place in range(10)]:
                assert Decision(terminology, system_url, code).in_value_set(one) is (
                    (system_url, code) in members
                )


@settings(max_examples=150, deadline=None)
@given(code_systems(), st.lists(VALUE_SETS, min_size=1, max_size=5), code_systems())
def test_what_is_certain_stays_so_when_more_becomes_known(
    system: Resource, sets: list[Resource], snomed: Resource
) -> None:
    """An answer that was given without SNOMED CT is the answer that is given with it."""
    before, after = Terminology([system, *sets]), Terminology([system, *sets, snomed | {"url": SNOMED}])
    has = read_code_system(snomed).concepts
    for name in {one["url"] for one in sets}:
        for system_url, code in ((at, f"c{place}") for at in (BODIES, SNOMED) for place in range(10)):
            if system_url == SNOMED and code not in has:
                continue  # A list may name what the code system turns out not to have.
            try:
                early = Decision(before, system_url, code).in_value_set(found(before, name))
                late = Decision(after, system_url, code).in_value_set(found(after, name))
            except InvalidDefinition:
                continue
            inactive = system_url == SNOMED and has[code].is_inactive
            assert isinstance(early, Undecided) or inactive or late is early


PAGED = [
    GENDERS,
    "http://terminology.hl7.org/ValueSet/v3-ActReason",
    "http://hl7.org/fhir/ValueSet/languages",
]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(PAGED),
    st.integers(7, 400),
    st.sampled_from(["", "a", "de", "in"]),
)
def test_pages_join_to_the_whole(canonical: str, count: int, words: str) -> None:
    one = found(ON_BOARD, canonical)
    whole = ON_BOARD.expand(one, filter=words)
    pages = [
        ON_BOARD.expand(one, filter=words, offset=offset, count=count)
        for offset in range(0, whole.total + 1, count)
    ]
    assert [code for page in pages for code in page.contains] == list(whole.contains)
    assert {page.total for page in pages} == {whole.total}
    assert ON_BOARD.expand(one, filter=words, count=0).contains == ()
    assert ON_BOARD.expand(one, filter=words, offset=whole.total + 5).contains == ()


# Hostile input


def test_a_hierarchy_in_a_circle_is_refused() -> None:
    def named(parent: str) -> Mapping[str, Any]:
        return {"code": "parent", "valueCode": parent}

    circle: list[Resource] = [
        {"code": "a", "property": [named("b")]},
        {"code": "b", "property": [named("a")]},
    ]
    for concepts in (circle, [{"code": "a", "property": [named("a")]}]):
        with pytest.raises(InvalidDefinition, match="circle"):
            read_code_system(bodies(concept=concepts))


def test_a_code_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="csd-1"):
        read_code_system(bodies(concept=[{"code": "a", "concept": [{"code": "a"}]}]))


def test_a_parent_that_is_not_there_counts_for_nothing() -> None:
    system = read_code_system(
        bodies(concept=[{"code": "a", "property": [{"code": "parent", "valueCode": "gone"}]}])
    )
    assert system.ancestors("a") == frozenset()


def test_a_value_set_that_is_a_part_of_itself_is_refused() -> None:
    first = value_set({"valueSet": [NAMES[1]]}, url=NAMES[0])
    second = value_set({"valueSet": [NAMES[0]]}, url=NAMES[1])
    terminology = Terminology([first, second])
    with pytest.raises(InvalidDefinition, match="part of itself"):
        terminology.members(NAMES[0])
    with pytest.raises(InvalidDefinition, match="part of itself"):
        terminology.validate_code(found(terminology, NAMES[0]), [Coding(BODIES, "earth")])


def chain(length: int, width: int) -> list[Resource]:
    """Each value set has the next ``width`` times; the last has a list."""
    names = [f"https://example.org/link{place}" for place in range(length + 1)]
    links = [
        value_set(*({"valueSet": [names[place + 1]]} for _ in range(width)), url=names[place])
        for place in range(length)
    ]
    return [*links, value_set(listed(SNOMED, *map(str, range(100))), url=names[length])]


def test_value_sets_inside_one_another_cost_no_more_than_there_are() -> None:
    terminology = Terminology(chain(30, 30))
    start = time.perf_counter()
    members = terminology.members("https://example.org/link0")
    assert members is not None and len(members) == 100
    one = found(terminology, "https://example.org/link0")
    assert terminology.validate_code(one, [Coding(SNOMED, "7")]).result
    assert not terminology.validate_code(one, [Coding(SNOMED, "-")]).result
    assert time.perf_counter() - start < 5


def test_value_sets_are_followed_no_deeper_than_is_sensible() -> None:
    terminology = Terminology(chain(2_000, 1))
    with pytest.raises(TooCostly):
        terminology.members("https://example.org/link0")
    with pytest.raises(TooCostly):
        terminology.validate_code(found(terminology, "https://example.org/link0"), [Coding(SNOMED, "-")])


def test_a_value_set_that_costs_too_much_is_refused_soon() -> None:
    many = value_set(
        *(filtered(("concept", "is-a", "_ActPolicyType"), system=ACT_CODE) for _ in range(20_000))
    )
    one = read_value_set(many)
    start = time.perf_counter()
    with pytest.raises(TooCostly):
        ON_BOARD.expand(one)
    with pytest.raises(TooCostly):
        ON_BOARD.validate_code(one, [Coding(ACT_CODE, "STORE")])
    assert time.perf_counter() - start < 10


def test_concepts_may_stand_inside_one_another_deeply() -> None:
    concept: Resource = {"code": "c0"}
    for place in range(1, 5_000):
        concept = {"code": f"c{place}", "concept": [concept]}
    system = read_code_system(bodies(concept=[concept]))
    assert len(system.ancestors("c0")) == 4_999
    deep: list[Resource] = [{"contains": [{"system": SNOMED, "code": "1"}]}]
    for _ in range(5_000):
        deep = [{"contains": deep}]
    assert codes(value_set({"system": SNOMED}) | {"expansion": {"contains": deep}}) == ["1"]


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "a*a*a*b",
        "a?a?a?b",
        r"\\*\\*\\*b",
        "[a--z]",
        "x{1000}",
        "[",
        "a{2}{3}",
        "a**",
        "^a",
        "a" * 101,
        "\\1",
    ],
)
def test_a_regular_expression_that_may_take_long_is_not_followed(pattern: str) -> None:
    with pytest.raises(NotEnumerable, match="regular expression"):
        codes(value_set(filtered(("code", "regex", pattern))))


def test_a_regular_expression_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="regular expression"):
        codes(value_set(filtered(("code", "regex", "[z-a]"))))


@settings(deadline=2_000)
@given(st.text(alphabet=r"ab.*+?{}12,[]\d^-()|$", max_size=30), st.text(alphabet="ab.", max_size=200))
def test_whatever_regular_expression_is_sent_is_answered_soon(pattern: str, code: str) -> None:
    terminology = Terminology([bodies(concept=[{"code": code or "a"}])])
    with suppress(NotEnumerable, InvalidDefinition):
        codes(value_set(filtered(("code", "regex", pattern or "a"))), terminology)


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        ({"compose": []}, "ValueSet.compose"),
        ({"compose": {"include": {}}}, "ValueSet.compose.include"),
        ({"compose": {"include": [1]}}, "ValueSet.compose.include"),
        ({"compose": {"include": [{}]}}, "ValueSet.compose.include[0].system"),
        ({"compose": {"include": [{"system": 5}]}}, "ValueSet.compose.include[0].system"),
        ({"compose": {"include": [{"system": ""}]}}, "ValueSet.compose.include[0].system"),
        ({"compose": {"include": [{"concept": [{"code": "a"}]}]}}, "ValueSet.compose.include[0].system"),
        (
            {"compose": {"include": [{"valueSet": ["v"], "concept": [{"code": "a"}]}]}},
            "ValueSet.compose.include[0].system",
        ),
        (
            {"compose": {"include": [{"system": "s", "concept": [{}]}]}},
            "ValueSet.compose.include[0].concept[0].code",
        ),
        (
            {"compose": {"include": [{"system": "s", "filter": [{"property": "p", "op": "="}]}]}},
            "ValueSet.compose.include[0].filter[0].value",
        ),
        (
            {
                "compose": {
                    "include": [
                        {
                            "system": "s",
                            "concept": [{"code": "a"}],
                            "filter": [{"property": "p", "op": "=", "value": "v"}],
                        }
                    ]
                }
            },
            "ValueSet.compose.include[0].filter",
        ),
        ({"compose": {"include": [{"valueSet": "v"}]}}, "ValueSet.compose.include[0].valueSet"),
        ({"compose": {"include": [{"valueSet": [7]}]}}, "ValueSet.compose.include[0].valueSet"),
        ({"compose": {"inactive": "no", "include": [{"system": "s"}]}}, "ValueSet.compose.inactive"),
        ({"compose": {"include": [{"system": "s"}], "exclude": "all"}}, "ValueSet.compose.exclude"),
        ({"url": 5}, "ValueSet.url"),
        ({"expansion": {"contains": [{"code": "a"}]}}, "ValueSet.expansion.contains[0].system"),
    ],
)
def test_what_is_no_value_set_is_refused_with_its_place(broken: Resource, place: str) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        read_value_set({"resourceType": "ValueSet", **broken})
    assert refusal.value.issues[0].expression == place


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        ({"content": None}, "CodeSystem.content"),
        ({"concept": "a"}, "CodeSystem.concept"),
        ({"concept": [{"display": "a"}]}, "CodeSystem.concept[0].code"),
        ({"concept": [{"code": "a", "concept": [{"code": 1}]}]}, "CodeSystem.concept[0].concept[0].code"),
        (
            {"concept": [{"code": "a", "property": [{"code": "p"}]}]},
            "CodeSystem.concept[0].property[0].value",
        ),
        (
            {"concept": [{"code": "a", "property": [{"code": "p", "valueCode": 1}]}]},
            "CodeSystem.concept[0].property[0].value",
        ),
        (
            {"concept": [{"code": "a", "property": [{"code": "p", "valueInteger": True}]}]},
            "CodeSystem.concept[0].property[0].value",
        ),
        (
            {"concept": [{"code": "a", "property": [{"code": "p", "valueCode": "x", "valueString": "x"}]}]},
            "CodeSystem.concept[0].property[0].value",
        ),
        ({"caseSensitive": "yes"}, "CodeSystem.caseSensitive"),
        ({"property": [{}]}, "CodeSystem.property[0].code"),
        ({"concept": [{"code": "a", "designation": [{}]}]}, "CodeSystem.concept[0].designation[0].value"),
    ],
)
def test_what_is_no_code_system_is_refused_with_its_place(broken: Resource, place: str) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        read_code_system(bodies(**broken))
    assert refusal.value.issues[0].expression == place


FIELDS = [
    *(
        "url",
        "version",
        "compose",
        "include",
        "exclude",
        "system",
        "concept",
        "code",
        "filter",
        "property",
        "op",
    ),
    *("value", "valueSet", "inactive", "lockedDate", "expansion", "contains", "total", "content", "display"),
    *("designation", "language", "use", "hierarchyMeaning", "valueCode", "valueBoolean"),
]
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([BODIES, SNOMED, "concept", "is-a", "planet", "", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=6))
def test_whatever_is_sent_is_answered_or_refused(fields: Resource) -> None:
    any_url = "https://example.org/any"
    for kind in ("ValueSet", "CodeSystem"):
        terminology = Terminology([bodies(), {**fields, "resourceType": kind, "url": any_url}])
        with suppress(CandourError):
            terminology.members(any_url)
        with suppress(CandourError):
            terminology.below(any_url, "planet")
        with suppress(CandourError):
            if (one := terminology.value_set(any_url)) is not None:
                terminology.validate_code(one, [Coding(BODIES, "planet")])


def test_what_is_neither_a_code_system_nor_a_value_set_counts_for_nothing() -> None:
    assert (
        Terminology(
            [{"resourceType": "Patient", "url": BODIES}, {}, {"resourceType": "CodeSystem"}]
        ).code_system(BODIES)
        is None
    )


def test_an_enumeration_stays_usable_after_a_part_that_was_refused() -> None:
    """A published expansion stands in for a value set whose import fails; the import itself is asked for again."""
    broken = value_set({"system": SNOMED}, url=NAMES[1])
    whole = value_set({"valueSet": [NAMES[1]]}, url=NAMES[0]) | {
        "expansion": {"contains": [{"system": SNOMED, "code": "1"}]}
    }
    terminology = Terminology([broken, whole])
    enumeration = Enumeration(terminology)
    assert list(enumeration.of(found(terminology, NAMES[0]))) == [(SNOMED, "1")]
    with pytest.raises(NotEnumerable):
        enumeration.of(read_value_set(value_set({"valueSet": [NAMES[1]]})))


def test_a_name_from_outside_is_made_fit_for_a_text() -> None:
    strange = "https://example.org/\n\x1b[31m" + "x" * 500
    with pytest.raises(NotEnumerable) as refusal:
        codes(value_set({"system": strange}))
    assert "\n" not in str(refusal.value) and "\x1b" not in str(refusal.value)
    assert len(str(refusal.value)) < 400
