"""Definitions become profiles: snapshots as they are, differentials over what they derive from, or a refusal."""

import traceback
from typing import Any

import pytest

from app.errors import UnusableProfile
from app.fhir.profiles.conformance import Library, compile_profile, validate_claims, validate_profile
from app.fhir.profiles.elements import MOST_NODES
from tests.profile_builder import HERE, R4, check, element, errors, extension, library, structure

Json = dict[str, Any]

BY_SYSTEM: Json = {"discriminator": [{"type": "value", "path": "system"}], "rules": "open"}
PATIENT: Json = {"resourceType": "Patient", "name": [{"family": "A"}]}


def nowhere(canonical: str) -> None:
    return None


# Deriving.


def test_a_derived_profile_asks_what_its_bases_ask_too() -> None:
    base = structure("Base", "Patient", element("Patient.name", min=1))
    middle = structure("Middle", "Patient", element("Patient.gender", min=1), baseDefinition=base["url"])
    derived = structure(
        "Derived", "Patient", element("Patient.birthDate", min=1), baseDefinition=middle["url"] + "|1.2"
    )
    found = errors({"resourceType": "Patient"}, derived, middle, base)
    assert {where for _, where in found} == {"Patient.name", "Patient.gender", "Patient.birthDate"}
    assert len(errors({"resourceType": "Patient"}, base)) == 1


def test_a_derived_profile_narrows_the_slices_of_its_base() -> None:
    base = structure(
        "Base",
        "Patient",
        element(
            "Patient.identifier",
            slicing=BY_SYSTEM,
        ),
        element("Patient.identifier:nhs", max="1"),
        element("Patient.identifier:nhs.system", fixedUri="urn:nhs"),
    )
    derived = structure(
        "Derived",
        "Patient",
        element("Patient.identifier:nhs", min=1),
        element("Patient.identifier:nhs.value", min=1),
        baseDefinition=base["url"],
    )
    assert errors(PATIENT, derived, base) == [("required", "Patient.identifier")]
    empty = PATIENT | {"identifier": [{"system": "urn:nhs", "use": "old"}]}
    assert errors(empty, derived, base) == [("required", "Patient.identifier[0].value")]
    assert errors(PATIENT, base) == []


def test_a_derived_profile_may_change_the_strength_of_a_binding_alone() -> None:
    bound = {"strength": "required", "valueSet": "urn:vs"}
    base = structure("Base", "Patient", element("Patient.maritalStatus", binding=bound))
    derived = structure(
        "Derived",
        "Patient",
        element("Patient.maritalStatus", binding={"strength": "preferred"}),
        baseDefinition=base["url"],
    )
    married = PATIENT | {"maritalStatus": {"coding": [{"code": "M"}]}}
    assert [issue.severity for issue in check(married, derived, base)] == ["information"]


def test_a_constraint_with_the_key_of_the_bases_says_it_anew() -> None:
    def ruled(name: str, expression: str, **more: Any) -> Json:
        rule = {"key": "x-1", "severity": "error", "human": name, "expression": expression}
        return structure(name, "Patient", element("Patient", constraint=[rule]), **more)

    base = ruled("Base", "false")
    derived = ruled("Derived", "name.exists()", baseDefinition=base["url"])
    assert errors(PATIENT, derived, base) == []


def test_a_base_of_r4_is_read_when_the_caller_has_it() -> None:
    rule = {"key": "own-1", "severity": "error", "human": "Active.", "expression": "active.exists()"}
    own = structure("Patient", "Patient", snapshot=True, url=R4 + "Patient", derivation="specialization")
    own["snapshot"]["element"][0]["constraint"] = [rule]
    derived = structure("Derived", "Patient", element("Patient.name", min=1))
    assert errors(PATIENT, derived, own) == [("invariant", "Patient")]
    assert errors(PATIENT, derived) == []


def test_a_snapshot_stands_alone() -> None:
    definition = structure("Alone", "Patient", element("Patient.name", min=1), snapshot=True)
    definition["baseDefinition"] = HERE + "Nowhere"
    assert errors({"resourceType": "Patient"}, definition) == [("required", "Patient.name")]


def test_both_forms_of_one_profile_ask_the_same() -> None:
    facts = [
        element("Patient.name", min=1, max="2"),
        element("Patient.name.family", min=1, max="1", fixedString="A"),
        element("Patient.deceased[x]", min=0, max="1", type=[{"code": "boolean"}]),
    ]
    one, other = (structure("Same", "Patient", *facts, snapshot=snapshot) for snapshot in (True, False))
    for resource in (
        PATIENT,
        PATIENT | {"name": [{"family": "B"}, {}, {"text": "C"}]},
        {"resourceType": "Patient", "deceasedDateTime": "2020"},
    ):
        found = [validate_profile(resource, compile_profile(each, nowhere)) for each in (one, other)]
        assert found[0] == found[1]


# Ids.


def test_ids_are_made_of_paths_and_slice_names_where_they_are_missing() -> None:
    with_ids = structure(
        "Ids",
        "Patient",
        element(
            "Patient.identifier",
            slicing=BY_SYSTEM,
        ),
        element("Patient.identifier:a", min=1),
        element("Patient.identifier:a.system", fixedUri="urn:a"),
        element("Patient.identifier:b", max="1"),
        element("Patient.identifier:b.system", fixedUri="urn:b"),
        element("Patient.contact.name.family", min=1),
        element("Patient.link", max="0"),
    )
    without: Json = structure("Ids", "Patient")
    without["differential"]["element"] = [
        {name: value for name, value in each.items() if name != "id"}
        for each in with_ids["differential"]["element"]
    ]
    for systems in (["urn:a"], ["urn:b"], ["urn:a", "urn:b", "urn:b"]):
        resource = {
            "resourceType": "Patient",
            "identifier": [{"system": system} for system in systems],
            "contact": [{"name": {"text": "A"}}],
            "link": [{"other": {"reference": "Patient/x"}, "type": "seealso"}],
        }
        found = errors(resource, without)
        assert found == errors(resource, with_ids)
        assert len(found) >= 2


def test_an_element_that_r4_does_not_have_asks_in_vain() -> None:
    """Whatever stands there is R4's own check's to refuse."""
    definition = structure("Odd", "Patient", element("Patient.nickname.family", min=1))
    assert errors(PATIENT, definition) == []


# Going into the profile of a type.


def test_a_differential_goes_on_where_the_profile_of_the_type_left_off() -> None:
    """UK Core goes into the parts of an extension whose definition alone has their urls."""
    known = extension(
        "Proficiency",
        element("Extension.extension:level", max="1"),
        element("Extension.extension:level.url", fixedUri="level"),
        element("Extension.extension:level.value[x]", type=[{"code": "Coding"}]),
        context="Patient.communication",
    )
    typed = [{"code": "Extension", "profile": [known["url"]]}]
    at = "Patient.communication.extension:proficiency"
    profile = structure(
        "Speaker", "Patient", element(at, type=typed), element(f"{at}.extension:level", min=1)
    )

    def speaking(*parts: Json) -> Json:
        said = {"url": known["url"], "extension": list(parts)}
        return PATIENT | {"communication": [{"language": {"text": "Welsh"}, "extension": [said]}]}

    level = {"url": "level", "valueCoding": {"code": "good"}}
    other = {"url": "type", "valueCoding": {"code": "spoken"}}
    assert check(speaking(level), profile, known) == []
    assert errors(speaking(other), profile, known) == [
        ("required", "Patient.communication[0].extension[0].extension")
    ]
    assert len(errors(speaking(level, level), profile, known)) == 1, "said once, though asked twice"


def test_a_profile_that_goes_into_itself_comes_to_an_end() -> None:
    typed = [{"code": "HumanName", "profile": [HERE + "Self"]}]
    own = structure("Self", "HumanName", element("HumanName", type=typed), element("HumanName.family", min=1))
    profile = structure(
        "Named", "Patient", element("Patient.name", type=typed), element("Patient.name.given", min=1)
    )
    assert errors({"resourceType": "Patient", "name": [{"text": "A"}]}, profile, own) == [
        ("required", "Patient.name[0].family"),
        ("required", "Patient.name[0].given"),
    ]


def test_profiles_that_double_in_one_another_are_refused() -> None:
    def doubling(depth: int) -> Json:
        typed = [{"code": "Extension", "profile": [f"{HERE}Deep{depth + 1}"]}]
        sides = [f"Extension.extension:{side}" for side in ("left", "right")]
        inner = [element(side, type=typed) for side in sides]
        return extension(f"Deep{depth}", *inner, *(element(f"{side}.extension", min=1) for side in sides))

    known = library(*map(doubling, range(30)))
    with pytest.raises(UnusableProfile, match=f"more than {MOST_NODES} elements"):
        [known.profile(f"{HERE}Deep{depth}") for depth in reversed(range(30))]


@pytest.mark.parametrize("depth", [30, 500])
def test_profiles_that_go_ever_deeper_come_to_an_end(depth: int) -> None:
    def deeper(number: int) -> Json:
        typed = [{"code": "Extension", "profile": [f"{HERE}Deep{number + 1}"]}]
        at = "Extension.extension:inner"
        return extension(f"Deep{number}", element(at, type=typed), element(f"{at}.extension:inner", min=0))

    known = library(*map(deeper, range(depth)))
    for number in (0, depth - 1):
        assert known.profile(f"{HERE}Deep{number}") is not None


def test_elements_without_end_are_refused() -> None:
    odd = structure("Odd", "Questionnaire", element("Questionnaire" + ".item" * 1_000, min=1))
    with pytest.raises(UnusableProfile, match="more than 64 levels deep"):
        compile_profile(odd, nowhere)
    nested: Json = {"url": "urn:x", "valueString": "x"}
    for _ in range(3_000):
        nested = {"url": "urn:x", "extension": [nested]}
    with pytest.raises(UnusableProfile, match="nested too deeply"):
        compile_profile(structure("Odd", "Patient", extension=[nested]), nowhere)


# Refusals.


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"differential": None}, "It has neither a snapshot nor a differential."),
        ({"type": "Patience"}, "It is not about a type of R4."),
        ({"type": "Patient.contact"}, "It is not about a type of R4."),
        ({"kind": "logical", "type": "https://example.org/Animal"}, "It is not about a type of R4."),
        ({"baseDefinition": HERE + "Nowhere"}, "the definition that it derives from is not known here"),
        ({"baseDefinition": None}, "the definition that it derives from is not known here"),
        ({"baseDefinition": HERE + "Odd"}, "Its base definitions never end at a type of R4."),
        ({"name": None}, "It breaks R4's own rules: This element is required."),
        ({"kind": 7}, "It breaks R4's own rules"),
        ({"resourceType": "Patient"}, "It breaks R4's own rules"),
        (
            {"differential": {"element": [{"path": "Patient.name", "max": "many"}]}},
            "The max of Patient.name is",
        ),
        ({"differential": {"element": [{"path": "Patient", "min": -1}]}}, "It breaks R4's own rules"),
    ],
)
def test_what_nothing_can_be_checked_against_is_refused_with_a_sentence(change: Json, sentence: str) -> None:
    definition = structure("Odd", "Patient") | change
    definition = {name: value for name, value in definition.items() if value is not None}
    with pytest.raises(UnusableProfile) as refused:
        compile_profile(definition, {HERE + "Odd": definition}.get)
    assert sentence in str(refused.value)


def test_bases_in_a_circle_are_refused() -> None:
    one = structure("One", "Patient", baseDefinition=HERE + "Two")
    two = structure("Two", "Patient", baseDefinition=HERE + "One")
    known = library(one, two)
    for name in ("One", "Two"):
        with pytest.raises(UnusableProfile, match="never end"):
            known.profile(HERE + name)


def test_a_long_chain_of_bases_is_refused() -> None:
    bases = [R4 + "Patient", *(f"{HERE}P{number}" for number in range(100))]
    chain = [structure(f"P{number}", "Patient", baseDefinition=bases[number]) for number in range(100)]
    with pytest.raises(UnusableProfile, match="never end"):
        library(*chain).profile(HERE + "P99")
    assert library(*chain[:20]).profile(HERE + "P19") is not None


def test_a_claim_to_a_profile_of_no_use_is_said_not_to_have_been_checked() -> None:
    odd = structure("Odd", "Patient", baseDefinition=HERE + "Nowhere")
    claiming = PATIENT | {"meta": {"profile": [odd["url"]]}}
    [issue] = validate_claims(claiming, library(odd))
    assert (issue.severity, issue.expression) == ("warning", "Patient.meta.profile[0]")
    assert issue.text.startswith("Not checked: this profile. It has no snapshot")


def test_an_extension_of_no_use_is_not_understood() -> None:
    odd = extension("Odd", baseDefinition=HERE + "Nowhere")
    said = {"url": odd["url"], "valueString": "x"}
    anyone = structure("Anyone", "Patient")
    [issue] = check(PATIENT | {"extension": [said]}, anyone, odd)
    assert (issue.severity, issue.code) == ("information", "not-found")
    assert errors(PATIENT | {"modifierExtension": [said]}, anyone, odd) == [
        ("extension", "Patient.modifierExtension[0]")
    ]


# The library.


def test_a_definition_is_asked_for_once() -> None:
    asked: list[str] = []
    definition = structure("Once", "Patient")

    def resolve(canonical: str) -> Json | None:
        asked.append(canonical)
        return definition if canonical == definition["url"] else None

    known = Library(resolve)
    first = known.profile(definition["url"])
    assert known.profile(definition["url"] + "|2.0") is first is not None
    assert asked == [definition["url"], R4 + "Patient"]


def test_what_callers_name_and_nobody_has_is_not_kept() -> None:
    known = Library(nowhere)
    names = [f"urn:{number}" for number in range(100)]
    named = {
        "resourceType": "Patient",
        "meta": {"profile": names},
        "extension": [{"url": name} for name in names],
    }
    validate_claims(named, known)
    kept = [value for value in vars(known).values() if isinstance(value, dict | set)]
    assert len(kept) == 4 and not any(kept)


def test_a_refusal_is_remembered_without_a_trace() -> None:
    known = library(structure("Odd", "Patient", baseDefinition=HERE + "Nowhere"))

    def frames() -> int:
        with pytest.raises(UnusableProfile) as refused:
            known.profile(HERE + "Odd")
        return len(traceback.extract_tb(refused.value.__traceback__))

    frames()
    assert len({frames() for _ in range(5)}) == 1


def test_another_kind_of_resource_under_a_canonical_is_no_profile() -> None:
    known = Library({"urn:vs": {"resourceType": "ValueSet", "url": "urn:vs"}}.get)
    assert known.profile("urn:vs") is None


def test_decimals_are_compared_whichever_parser_read_the_definition() -> None:
    quantity = {"value": 0.1, "unit": "kg"}
    definition = structure("Tenth", "Observation", element("Observation.value[x]", patternQuantity=quantity))
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "a"},
        "valueQuantity": quantity,
    }
    assert errors(resource, definition) == []
