"""Slices: what belongs to which, how often, in what order, and when that cannot be told."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UnusableProfile
from app.fhir.profiles.conformance import validate_profile
from tests.profile_builder import HERE, check, codes, element, errors, extension, library, structure

Json = dict[str, Any]

LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"


def sliced(*by: tuple[str, str], rules: str = "open", **more: Any) -> Json:
    """A slicing by (type of discriminator, path) pairs."""
    return {"discriminator": [{"type": type, "path": path} for type, path in by], "rules": rules, **more}


def patient(*systems: str) -> Json:
    return {"resourceType": "Patient", "identifier": [{"system": system, "value": "1"} for system in systems]}


def observation(**more: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "a"}, **more}


def numbers(*elements: Json, **slicing: Any) -> Json:
    """A profile that tells identifiers apart by their system."""
    return structure(
        "Numbers",
        "Patient",
        element("Patient.identifier", slicing=sliced(("value", "system"), **slicing)),
        element("Patient.identifier:nhs", min=1, max="1"),
        element("Patient.identifier:nhs.system", fixedUri="urn:nhs"),
        element("Patient.identifier:local", min=0, max="2"),
        element("Patient.identifier:local.system", fixedUri="urn:local"),
        *elements,
    )


IN_IDENTIFIER = "Patient.identifier"


@pytest.mark.parametrize(
    ("systems", "found"),
    [
        (["urn:nhs"], []),
        (["urn:other", "urn:nhs", "urn:local", "urn:local", "urn:other"], []),
        (["urn:other"], [("required", IN_IDENTIFIER)]),
        (["urn:nhs", "urn:nhs"], [("structure", IN_IDENTIFIER)]),
        (["urn:nhs", "urn:local", "urn:local", "urn:local"], [("structure", IN_IDENTIFIER)]),
    ],
)
def test_each_slice_has_a_cardinality_of_its_own(systems: list[str], found: list[tuple[str, str]]) -> None:
    assert errors(patient(*systems), numbers()) == found


def test_a_slice_is_missed_where_its_element_is_missing_too() -> None:
    [issue] = check({"resourceType": "Patient"}, numbers())
    assert issue.text == "Numbers requires at least 1 of Patient.identifier:nhs; there is none."


def test_what_a_slice_asks_is_asked_of_what_belongs_to_it_alone() -> None:
    profile = numbers(element("Patient.identifier:nhs.use", min=1))
    assert errors(patient("urn:other", "urn:nhs", "urn:local"), profile) == [
        ("required", "Patient.identifier[1].use")
    ]


def test_what_the_sliced_element_asks_is_asked_of_all() -> None:
    profile = numbers()
    profile["differential"]["element"].insert(2, element("Patient.identifier.use", min=1))
    found = errors(patient("urn:other", "urn:nhs"), profile)
    assert found == [("required", "Patient.identifier[0].use"), ("required", "Patient.identifier[1].use")]


@pytest.mark.parametrize(
    ("rules", "systems", "conforms"),
    [
        ("closed", ["urn:local", "urn:nhs"], True),
        ("closed", ["urn:nhs", "urn:other"], False),
        ("openAtEnd", ["urn:local", "urn:nhs", "urn:other", "urn:other"], True),
        ("openAtEnd", ["urn:other", "urn:nhs"], False),
        ("open", ["urn:other", "urn:nhs"], True),
    ],
)
def test_the_rules_say_where_other_values_may_stand(rules: str, systems: list[str], conforms: bool) -> None:
    assert (errors(patient(*systems), numbers(rules=rules)) == []) is conforms


@pytest.mark.parametrize(
    ("systems", "conforms"),
    [
        (["urn:nhs", "urn:local"], True),
        (["urn:nhs", "urn:other", "urn:local", "urn:local"], True),
        (["urn:local", "urn:nhs"], False),
        (["urn:nhs", "urn:local", "urn:nhs"], False),
    ],
)
def test_ordered_slices_come_in_the_profiles_order(systems: list[str], conforms: bool) -> None:
    assert (errors(patient(*systems), numbers(ordered=True)) == []) is conforms


SYSTEMS = ["urn:nhs", "urn:local", "urn:other"]


@given(
    st.lists(st.sampled_from(SYSTEMS), max_size=6),
    st.sampled_from(["open", "closed", "openAtEnd"]),
    st.booleans(),
)
def test_slices_are_judged_as_counting_them_would(systems: list[str], rules: str, ordered: bool) -> None:
    profile = library(numbers(rules=rules, ordered=ordered)).profile(HERE + "Numbers")
    assert profile is not None
    resource = patient(*systems) if systems else {"resourceType": "Patient"}
    known = [system for system in systems if system != "urn:other"]
    expected = systems.count("urn:nhs") == 1 and systems.count("urn:local") <= 2
    expected &= rules != "closed" or known == systems
    expected &= rules != "openAtEnd" or systems[: len(known)] == known
    expected &= not ordered or known == sorted(known, reverse=True)
    assert (validate_profile(resource, profile) == []) is expected


def test_what_belongs_to_no_other_slice_belongs_to_the_default() -> None:
    profile = numbers(
        element("Patient.identifier:@default", min=0, max="1"),
        element("Patient.identifier:@default.use", min=1),
        rules="closed",
    )
    found = errors(patient("urn:nhs", "urn:other"), profile)
    assert found == [("required", "Patient.identifier[1].use")]


def test_a_default_slice_that_asks_nothing_opens_a_closed_slicing() -> None:
    profile = numbers(element("Patient.identifier:@default"), rules="closed")
    assert errors(patient("urn:nhs", "urn:other"), profile) == []


def test_a_slice_has_bounds_of_its_own() -> None:
    profile = numbers(element("Patient.identifier:local.value", maxLength=3))
    long = {"system": "urn:local", "value": "1234"}
    resource = {"resourceType": "Patient", "identifier": [{"system": "urn:nhs", "value": "1234"}, long]}
    assert errors(resource, profile) == [("too-long", "Patient.identifier[1].value")]
    named = structure(
        "Named",
        "Patient",
        element("Patient.name.given", slicing=sliced(("value", "$this"))),
        element("Patient.name.given:initial", patternString="Ab", maxLength=1),
    )
    assert errors({"resourceType": "Patient", "name": [{"given": ["Ab", "Abc"]}]}, named) == [
        ("too-long", "Patient.name[0].given[0]")
    ]


def test_slices_of_what_r4_does_not_have_are_missed() -> None:
    profile = structure("Odd", "Patient", element("Patient.nickname:short", min=1))
    assert errors({"resourceType": "Patient"}, profile) == [("required", "Patient.nickname")]


# Ways to tell slices apart.

CODES = structure(
    "Codes",
    "Observation",
    element("Observation.code.coding", slicing=sliced(("value", "code"), ("value", "system"))),
    element("Observation.code.coding:weight", min=1, max="1"),
    element("Observation.code.coding:weight.system", min=1, fixedUri=LOINC),
    element("Observation.code.coding:weight.code", min=1, fixedCode="29463-7"),
)


@pytest.mark.parametrize(
    ("codings", "conforms"),
    [
        ([(LOINC, "29463-7")], True),
        ([(SNOMED, "27113001"), (LOINC, "29463-7")], True),
        ([(SNOMED, "29463-7")], False),
        ([(LOINC, "8302-2")], False),
    ],
)
def test_every_discriminator_has_to_be_met(codings: list[tuple[str, str]], conforms: bool) -> None:
    coded = observation(code={"coding": [{"system": system, "code": code} for system, code in codings]})
    assert (errors(coded, CODES) == []) is conforms


def test_what_meets_every_discriminator_counts() -> None:
    twice = observation(code={"coding": [{"system": LOINC, "code": "29463-7"}] * 2})
    assert errors(twice, CODES) == [("structure", "Observation.code.coding")]


def test_a_path_through_a_required_slice_leads_to_what_that_slice_says() -> None:
    """As HL7's blood pressure has it: components are told apart by one of their codings, whatever the others."""
    systolic = "Observation.component:systolic"
    profile = structure(
        "Pressure",
        "Observation",
        element("Observation.component", slicing=sliced(("value", "code.coding.code"))),
        element(systolic, min=1, max="1"),
        element(f"{systolic}.code.coding", slicing=sliced(("value", "code"))),
        element(f"{systolic}.code.coding:sbp", min=1, max="1"),
        element(f"{systolic}.code.coding:sbp.code", fixedCode="8480-6"),
        element(f"{systolic}.value[x]", min=1),
    )
    component: Json = {"code": {"coding": [{"code": "8480-6"}, {"system": SNOMED, "code": "271649006"}]}}
    assert errors(observation(component=[component]), profile) == [
        ("required", "Observation.component[0].value")
    ]
    assert errors(observation(component=[component | {"valueInteger": 120}]), profile) == []
    other = {"code": {"coding": [{"code": "8462-4"}]}}
    assert errors(observation(component=[other]), profile) == [("required", "Observation.component")]


@pytest.mark.parametrize("discriminator", ["value", "pattern"])
def test_a_pattern_tells_slices_apart(discriminator: str) -> None:
    laboratory = {"coding": [{"system": "urn:cat", "code": "laboratory"}]}
    profile = structure(
        "Laboratory",
        "Observation",
        element("Observation.category", slicing=sliced((discriminator, "$this")), min=1),
        element("Observation.category:lab", min=1, max="1", patternCodeableConcept=laboratory),
    )
    more = {"coding": [{"code": "x"}, *laboratory["coding"]], "text": "Lab"}
    assert errors(observation(category=[{"text": "other"}, more]), profile) == []
    assert errors(observation(category=[{"text": "Lab"}]), profile) == [("required", "Observation.category")]


def test_a_required_value_set_tells_slices_apart() -> None:
    binding = {"strength": "required", "valueSet": "urn:vs"}
    profile = structure(
        "Tagged",
        "Observation",
        element("Observation.meta.tag", slicing=sliced(("value", "$this"))),
        element("Observation.meta.tag:colour", min=1, max="1", binding=binding),
    )
    members = codes({"urn:vs": [("urn:c", "red")]})
    red, blue = {"system": "urn:c", "code": "red"}, {"system": "urn:c", "code": "blue"}
    assert errors(observation(meta={"tag": [blue, red]}), profile, members=members) == []
    assert errors(observation(meta={"tag": [blue]}), profile, members=members) == [
        ("required", "Observation.meta.tag")
    ]
    unknown = check(observation(meta={"tag": [blue]}), profile)
    assert [issue.severity for issue in unknown] == ["warning"]


def test_a_slice_is_told_by_what_its_children_have_fixed() -> None:
    profile = structure(
        "Concepts",
        "Observation",
        element("Observation.component", slicing=sliced(("value", "code"), rules="closed")),
        element("Observation.component:a", max="1"),
        element("Observation.component:a.code.coding.code", fixedCode="a"),
    )
    assert errors(observation(component=[{"code": {"coding": [{"code": "a"}]}}]), profile) == []
    assert errors(observation(component=[{"code": {"coding": [{"code": "b"}]}}]), profile) == [
        ("structure", "Observation.component[0]")
    ]


def test_a_path_may_lead_into_the_profile_of_a_type() -> None:
    woman = structure("Woman", "Patient", element("Patient.gender", min=1, fixedCode="female"))
    profile = structure(
        "Mothers",
        "Bundle",
        element("Bundle.entry", slicing=sliced(("value", "resource.gender"), ("exists", "resource.photo"))),
        element("Bundle.entry:mother", min=1, max="1"),
        element("Bundle.entry:mother.resource", type=[{"code": "Patient", "profile": [woman["url"]]}]),
    )

    def bundle(*genders: str) -> Json:
        entries = [{"resource": {"resourceType": "Patient", "gender": gender}} for gender in genders]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}

    assert errors(bundle("male", "female"), profile, woman) == []
    assert errors(bundle("male"), profile, woman) == [("required", "Bundle.entry")]
    assert errors(bundle("female", "female"), profile, woman) == [("structure", "Bundle.entry")]


def test_each_slice_may_be_told_at_a_path_of_its_own() -> None:
    profile = structure(
        "Either",
        "Patient",
        element("Patient.identifier", slicing=sliced(("value", "system"), ("value", "use"))),
        element("Patient.identifier:nhs", max="1"),
        element("Patient.identifier:nhs.system", fixedUri="urn:nhs"),
        element("Patient.identifier:old", max="1"),
        element("Patient.identifier:old.use", fixedCode="old"),
    )
    nhs, old = {"system": "urn:nhs"}, {"system": "urn:other", "use": "old"}
    for identifiers, count in (([nhs, old], 0), ([nhs, nhs], 1), ([old, old], 1), ([nhs, nhs, old, old], 2)):
        assert len(errors({"resourceType": "Patient", "identifier": identifiers}, profile)) == count


def test_existence_tells_slices_apart() -> None:
    profile = structure(
        "Periods",
        "Patient",
        element("Patient.name", slicing=sliced(("exists", "period.end"), rules="closed")),
        element("Patient.name:former", max="1"),
        element("Patient.name:former.period.end", min=1),
        element("Patient.name:current", min=1, max="1"),
        element("Patient.name:current.period.end", max="0"),
    )
    former, current = {"text": "A", "period": {"end": "2001"}}, {"text": "B", "period": {"start": "2001"}}
    for names, count in (
        ([former, current], 0),
        ([current], 0),
        ([former], 1),
        ([former, former, current], 1),
    ):
        resource = {"resourceType": "Patient", "name": names}
        assert len(errors(resource, profile)) == count


def quantities(*more: Json, rules: str = "open") -> Json:
    slicing = sliced(("type", "$this"), rules=rules)
    return structure("Values", "Observation", element("Observation.value[x]", slicing=slicing), *more)


def test_the_type_tells_slices_of_a_choice_apart() -> None:
    quantity = "Observation.value[x]:valueQuantity"
    profile = quantities(element(quantity, type=[{"code": "Quantity"}]), element(f"{quantity}.code", min=1))
    assert errors(observation(valueString="x"), profile) == []
    assert errors(observation(valueQuantity={"value": 1}), profile) == [
        ("required", "Observation.value.code")
    ]
    closed = quantities(element(quantity, type=[{"code": "Quantity"}]), rules="closed")
    assert errors(observation(valueQuantity={"value": 1}), closed) == []
    assert errors(observation(valueString="x"), closed) == [("structure", "Observation.value")]


@pytest.mark.parametrize("id", ["Observation.value[x]:valueQuantity", "Observation.valueQuantity"])
def test_the_name_alone_tells_the_type_of_a_choice(id: str) -> None:
    profile = structure("Values", "Observation", element(id, max="1"), element(f"{id}.code", min=1))
    assert errors(observation(valueQuantity={"value": 1}), profile) == [
        ("required", "Observation.value.code")
    ]
    assert errors(observation(valueString="x"), profile) == []


def test_the_type_of_a_resource_tells_entries_apart() -> None:
    profile = structure(
        "Document",
        "Bundle",
        element("Bundle.entry", slicing=sliced(("type", "resource"), rules="closed")),
        element("Bundle.entry:patient", min=1, max="1"),
        element("Bundle.entry:patient.resource", min=1, type=[{"code": "Patient"}]),
        element("Bundle.entry:note", max="*"),
        element("Bundle.entry:note.resource", type=[{"code": "Basic"}]),
    )
    of = {name: {"resource": {"resourceType": name, "code": {"text": "x"}}} for name in ("Basic",)}
    of |= {name: {"resource": {"resourceType": name}} for name in ("Patient", "Person")}

    def bundle(*names: str) -> Json:
        return {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [copy.deepcopy(of[name]) for name in names],
        }

    assert errors(bundle("Basic", "Patient", "Basic"), profile) == []
    assert errors(bundle("Basic"), profile) == [("required", "Bundle.entry")]
    assert errors(bundle("Patient", "Person"), profile) == [("structure", "Bundle.entry[1]")]


NAMED = structure("Named", "Patient", element("Patient.name", min=1))
MEMBERS = structure(
    "Members",
    "List",
    element("List.entry", slicing=sliced(("profile", "item.resolve()"))),
    element("List.entry:named", min=1, max="1"),
    element("List.entry:named.item", type=[{"code": "Reference", "targetProfile": [NAMED["url"]]}]),
)
A_LIST: Json = {
    "resourceType": "List",
    "status": "current",
    "mode": "working",
    "entry": [{"item": {"reference": "#p"}}],
}


@pytest.mark.parametrize(("name", "found"), [({"text": "A"}, []), (None, [("required", "List.entry")])])
def test_the_profile_of_a_contained_target_tells_slices_apart(
    name: Json | None, found: list[tuple[str, str]]
) -> None:
    target: Json = {"resourceType": "Patient", "id": "p"} | ({"name": [name]} if name else {})
    assert errors(A_LIST | {"contained": [target]}, MEMBERS, NAMED) == found


def test_the_profile_of_another_entry_tells_slices_apart() -> None:
    def bundle(reference: str, name: list[Json]) -> Json:
        member = A_LIST | {
            "entry": [{"item": {"reference": reference}}],
            "meta": {"profile": [MEMBERS["url"]]},
        }
        target = {"resourceType": "Patient", "id": "p", **({"name": name} if name else {})}
        entries = [
            {"resource": member},
            {"resource": target, "fullUrl": "https://elsewhere.example/fhir/Patient/p"},
        ]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}

    anything = structure("Anything", "Bundle")
    for reference in ("Patient/p", "https://elsewhere.example/fhir/Patient/p"):
        assert errors(bundle(reference, [{"text": "A"}]), anything, MEMBERS, NAMED) == []
        assert errors(bundle(reference, []), anything, MEMBERS, NAMED) == [
            ("required", "Bundle.entry[0].resource.entry")
        ]


def test_a_target_that_is_not_here_is_not_judged_unless_its_type_tells() -> None:
    [issue] = check(A_LIST | {"entry": [{"item": {"reference": "Patient/p"}}]}, MEMBERS, NAMED)
    assert (issue.severity, issue.text[:12]) == ("warning", "Not checked:")
    found = errors(A_LIST | {"entry": [{"item": {"reference": "Group/g"}}]}, MEMBERS, NAMED)
    assert found == [("required", "List.entry")]


def test_a_value_of_the_target_tells_slices_apart() -> None:
    """As HL7's lipid profile has it."""
    target = structure("Triglyceride", "Observation", element("Observation.code.text", fixedString="t"))
    profile = structure(
        "Lipids",
        "DiagnosticReport",
        element("DiagnosticReport.result", slicing=sliced(("value", "resolve().code"), rules="closed")),
        element(
            "DiagnosticReport.result:t",
            min=1,
            type=[{"code": "Reference", "targetProfile": [target["url"]]}],
        ),
    )
    report = {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "lipids"}}
    for text, count in (("t", 0), ("u", 2)):
        result = observation(code={"text": text}) | {"id": "r"}
        resource = report | {"contained": [result], "result": [{"reference": "#r"}]}
        assert len(errors(resource, profile, target)) == count


def test_a_path_may_lead_through_an_extension() -> None:
    kind = extension("Kind", element("Extension.value[x]", type=[{"code": "code"}]))
    path = f"extension('{kind['url']}').value"
    slice_id = "Patient.contact:kin"
    profile = structure(
        "Kin",
        "Patient",
        element("Patient.contact", slicing=sliced(("value", path))),
        element(slice_id, min=1),
        element(f"{slice_id}.extension:kind", min=1, type=[{"code": "Extension", "profile": [kind["url"]]}]),
        element(f"{slice_id}.extension:kind.value[x]", fixedCode="kin"),
    )

    def resource(code: str) -> Json:
        said = {"url": kind["url"], "valueCode": code}
        return {"resourceType": "Patient", "contact": [{"name": {"text": "A"}, "extension": [said]}]}

    assert errors(resource("kin"), profile, kind) == []
    assert errors(resource("friend"), profile, kind) == [("required", "Patient.contact")]


def test_a_path_may_choose_a_type() -> None:
    other = extension("Other", element("Extension.value[x]", type=[{"code": "Identifier"}]))
    nationally = {"coding": [{"code": "NI"}]}
    one = "Patient.extension:national"
    profile = structure(
        "National",
        "Patient",
        element(
            "Patient.extension", slicing=sliced(("value", "url"), ("value", "value.ofType(Identifier).type"))
        ),
        element(one, min=1, max="1", type=[{"code": "Extension", "profile": [other["url"]]}]),
        element(f"{one}.value[x].type", patternCodeableConcept=nationally),
    )
    national, local = (
        {"url": other["url"], "valueIdentifier": {"type": {"coding": [{"code": code}]}}}
        for code in ("NI", "LI")
    )
    assert errors({"resourceType": "Patient", "extension": [local, national]}, profile, other) == []
    assert errors({"resourceType": "Patient", "extension": [local]}, profile, other) == [
        ("required", "Patient.extension")
    ]


@pytest.mark.parametrize(
    "slicing", [None, sliced(("value", "where(a = 'b')")), sliced(("value", "assigner"))]
)
def test_slices_that_nothing_tells_apart_are_said_not_to_have_been_checked(slicing: Json | None) -> None:
    said = {} if slicing is None else {"slicing": slicing}
    profile = structure(
        "Unclear",
        "Patient",
        element("Patient.identifier", **said),
        element("Patient.identifier:one", min=1),
        element("Patient.identifier:one.use", min=1),
        element("Patient.identifier:one.assigner"),
    )
    [issue] = check(patient("urn:nhs"), profile)
    assert (issue.severity, issue.expression) == ("warning", "Patient.identifier")
    assert issue.text == "Not checked: which slice of Patient.identifier a value belongs to (Unclear)."
    # But what is not there at all is missed.
    assert errors({"resourceType": "Patient"}, profile) == [("required", "Patient.identifier")]


# Extensions are sliced without saying so.

RACE = extension("Race", element("Extension.value[x]", min=1, type=[{"code": "code"}]), context="Patient")
RACED = structure(
    "Raced",
    "Patient",
    element("Patient.extension:race", min=1, max="1", type=[{"code": "Extension", "profile": [RACE["url"]]}]),
)


def test_a_slice_of_extensions_is_told_by_the_definition_that_it_names() -> None:
    race = {"url": RACE["url"], "valueCode": "x"}
    other = {"url": "urn:other", "valueCode": "x"}
    assert errors({"resourceType": "Patient", "extension": [other, race]}, RACED, RACE) == []
    assert errors({"resourceType": "Patient", "extension": [other]}, RACED, RACE) == [
        ("required", "Patient.extension")
    ]
    assert errors({"resourceType": "Patient", "extension": [race, race]}, RACED, RACE) == [
        ("structure", "Patient.extension")
    ]


def test_the_url_alone_tells_it_when_the_definition_is_unknown() -> None:
    race = {"url": RACE["url"], "valueCode": "x"}
    found = check({"resourceType": "Patient", "extension": [race]}, RACED)
    assert [issue.severity for issue in found] == ["warning", "information"]
    other = {"url": "urn:other", "valueCode": "x"}
    for extensions, code in (([other], "required"), ([race, other, race], "structure")):
        assert errors({"resourceType": "Patient", "extension": extensions}, RACED) == [
            (code, "Patient.extension")
        ]


def test_extensions_of_a_primitive_are_sliced_where_they_stand() -> None:
    time = extension("Time", element("Extension.value[x]", type=[{"code": "dateTime"}]), context="date")
    typed = [{"code": "Extension", "profile": [time["url"]]}]
    profile = structure("Timed", "Patient", element("Patient.birthDate.extension:time", min=1, type=typed))
    told = {"extension": [{"url": time["url"], "valueDateTime": "1974-12-25T14:35:45+01:00"}]}
    born = {"resourceType": "Patient", "birthDate": "1974-12-25"}
    assert errors(born | {"_birthDate": told}, profile, time) == []
    assert errors(born, profile, time) == [("required", "Patient.birthDate.extension")]


# Slices of slices.


def test_a_slice_may_be_sliced_again() -> None:
    profile = numbers(
        element("Patient.identifier:local", slicing=sliced(("value", "use"), rules="closed")),
        element("Patient.identifier:local/old", max="1"),
        element("Patient.identifier:local/old.use", min=1, fixedCode="old"),
        element("Patient.identifier:local/usual", max="1"),
        element("Patient.identifier:local/usual.use", min=1, fixedCode="usual"),
    )
    nhs = {"system": "urn:nhs"}

    def found(*uses: str) -> list[tuple[str, str]]:
        local = [{"system": "urn:local", "use": use} for use in uses]
        return errors({"resourceType": "Patient", "identifier": [nhs, *local]}, profile)

    assert found("old", "usual") == []
    assert found("old", "old") == [("structure", "Patient.identifier")]
    assert found("temp") == [("structure", "Patient.identifier[1]")]


# Hostile input.


@pytest.mark.parametrize("count", [1, 60])
def test_many_values_and_many_slices_are_judged(count: int) -> None:
    slices = [
        part
        for number in range(count)
        for part in (
            element(f"Patient.identifier:s{number}", min=1),
            element(f"Patient.identifier:s{number}.system", fixedUri=f"urn:s{number}"),
        )
    ]
    by_system = element("Patient.identifier", slicing=sliced(("value", "system"), rules="closed"))
    profile = structure("Many", "Patient", by_system, *slices)
    systems = [f"urn:s{number % count}" for number in range(3_000)]
    assert errors(patient(*systems), profile) == []
    assert len(errors(patient(*systems, *["urn:other"] * 500), profile)) == 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "#", "#p", "Patient", "urn:nhs", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["resourceType", "id", "entry", "item", "resource", "reference", "contained", "fullUrl", "coding",
                 "code", "system", "identifier", "_identifier", "url", "extension", "meta", "profile", "value",
                 "valueQuantity", "name", "component"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)  # fmt: skip


PROFILES = [numbers(), CODES, MEMBERS, RACED, quantities()]


@given(st.sampled_from(PROFILES), st.dictionaries(st.text(max_size=3), JSON), JSON)
def test_whatever_shape_the_json_has_there_is_an_answer(profile: Json, members: Json, value: Any) -> None:
    known = library(profile, NAMED, RACE).profile(profile["url"])
    assert known is not None
    inner = value if isinstance(value, dict) else {"entry": value, "contained": value, "extension": value}
    resource = {**members, **inner, "resourceType": profile["type"]}
    for issue in validate_profile(resource, known):
        assert issue.severity in ("error", "warning", "information")
        assert issue.expression is None or issue.expression.startswith(profile["type"])


def test_other_words_for_the_rules_are_refused() -> None:
    with pytest.raises(UnusableProfile, match="It breaks R4's own rules"):
        library(numbers(rules="shut")).profile(HERE + "Numbers")
