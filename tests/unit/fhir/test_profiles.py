"""A resource conforms to a profile exactly when each element has what the profile asks of it, beyond R4."""

import copy
from typing import Any

import pytest

from app.fhir.profiles.conformance import Library, compile_profile, validate_claims, validate_profile
from tests.profile_builder import HERE, R4, check, codes, element, errors, extension, library, structure

Json = dict[str, Any]

PATIENT: Json = {
    "resourceType": "Patient",
    "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009"}],
    "name": [{"family": "Chalmers", "given": ["Peter", "James"]}],
    "birthDate": "1974-12-25",
    "gender": "male",
}
OBSERVATION: Json = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    "subject": {"reference": "Patient/p1"},
    "valueQuantity": {"value": 70, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
}


def patient(**more: Any) -> Json:
    return copy.deepcopy(PATIENT) | more


def observation(**more: Any) -> Json:
    return copy.deepcopy(OBSERVATION) | more


def without(resource: Json, *names: str) -> Json:
    return {name: value for name, value in resource.items() if name not in names}


# Cardinality.


def test_what_asks_nothing_is_conformed_to_by_everything() -> None:
    assert check(patient(), structure("Anyone", "Patient")) == []


def test_an_element_that_the_profile_requires_is_missed() -> None:
    profile = structure("Dated", "Patient", element("Patient.birthDate", min=1))
    assert errors(patient(), profile) == []
    [issue] = check(without(PATIENT, "birthDate"), profile)
    assert (issue.severity, issue.code, issue.expression) == ("error", "required", "Patient.birthDate")
    assert issue.text == "Dated requires at least 1 of Patient.birthDate; there is none."


def test_a_primitive_with_an_extension_alone_is_there() -> None:
    absent = {"extension": [{"url": R4 + "data-absent-reason", "valueCode": "unknown"}]}
    profile = structure("Dated", "Patient", element("Patient.birthDate", min=1))
    assert errors(without(PATIENT, "birthDate") | {"_birthDate": absent}, profile) == []


def test_an_element_inside_is_required_only_where_its_parent_is() -> None:
    profile = structure("Named", "Patient", element("Patient.name.family", min=1))
    assert errors(without(PATIENT, "name"), profile) == []
    found = errors(patient(name=[{"family": "A"}, {"text": "B"}]), profile)
    assert found == [("required", "Patient.name[1].family")]


@pytest.mark.parametrize(("count", "found"), [(1, []), (2, []), (3, [("structure", "Patient.name")])])
def test_an_element_occurs_no_more_often_than_the_profile_allows(
    count: int, found: list[tuple[str, str]]
) -> None:
    profile = structure("TwoNames", "Patient", element("Patient.name", max="2"))
    assert errors(patient(name=[{"text": "A"}] * count), profile) == found


def test_an_element_that_the_profile_forbids_is_an_error() -> None:
    profile = structure("NoGender", "Patient", element("Patient.gender", max="0"))
    [issue] = check(patient(), profile)
    assert issue.text == "NoGender does not allow Patient.gender."


def test_nulls_beside_extensions_count_as_items() -> None:
    told = {"extension": [{"url": "urn:x", "valueString": "B"}]}
    untold = structure("OneGiven", "Patient", element("Patient.name.given", min=1, max="1"))
    assert errors(patient(name=[{"_given": [told]}]), untold) == []
    # Base R4 refuses more extensions than values; here they are counted all the same.
    known = library(untold).profile(untold["url"])
    assert known is not None
    longer = patient(name=[{"given": ["A"], "_given": [None, told]}])
    assert [issue.code for issue in validate_profile(longer, known) if issue.severity == "error"] == [
        "structure"
    ]
    name = {"given": ["A", None], "_given": [None, {"extension": [{"url": "urn:x", "valueString": "B"}]}]}
    profile = structure("TwoGiven", "Patient", element("Patient.name.given", min=2, max="2"))
    assert errors(patient(name=[name]), profile) == []
    assert errors(patient(name=[{"given": ["A"]}]), profile) == [("required", "Patient.name[0].given")]


# Values.


def test_a_fixed_value_is_that_value_and_no_other() -> None:
    profile = structure("Final", "Observation", element("Observation.status", fixedCode="final"))
    assert errors(observation(), profile) == []
    assert errors(observation(status="amended"), profile) == [("value", "Observation.status")]


def test_a_fixed_concept_has_nothing_more_and_a_pattern_may() -> None:
    code = {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}
    more = {"coding": [{"system": "urn:x", "code": "w"}, *code["coding"]], "text": "Weight"}
    fixed = structure("Fixed", "Observation", element("Observation.code", fixedCodeableConcept=code))
    pattern = structure("Pattern", "Observation", element("Observation.code", patternCodeableConcept=code))
    assert errors(observation(code=code), fixed) == errors(observation(code=more), pattern) == []
    assert errors(observation(code=more), fixed) == [("value", "Observation.code")]
    assert errors(observation(code={"text": "Weight"}), pattern) == [("value", "Observation.code")]


def test_the_sentence_tells_the_fixed_value_and_not_the_given_one() -> None:
    profile = structure("Final", "Observation", element("Observation.status", fixedCode="final"))
    [issue] = check(observation(status="amended"), profile)
    assert issue.text == 'Final requires Observation.status to be exactly "final".'


@pytest.mark.parametrize(
    ("element_id", "facts", "change", "code"),
    [
        ("Patient.name.family", {"maxLength": 8}, {"name": [{"family": "Chalmerss"}]}, "too-long"),
        ("Patient.birthDate", {"minValueDate": "1900-01-01"}, {"birthDate": "1899-12-31"}, "value"),
        ("Patient.birthDate", {"maxValueDate": "2020"}, {"birthDate": "2021-01"}, "value"),
        ("Patient.multipleBirth[x]", {"maxValueInteger": 8}, {"multipleBirthInteger": 9}, "value"),
        ("Patient.multipleBirth[x]", {"minValueInteger": 1}, {"multipleBirthInteger": 0}, "value"),
    ],
)
def test_a_value_beyond_its_bounds_is_an_error(element_id: str, facts: Json, change: Json, code: str) -> None:
    profile = structure("Bounded", "Patient", element(element_id, **facts))
    assert errors(patient(multipleBirthInteger=8), profile) == []
    assert [found for found, _ in errors(patient(**change), profile)] == [code]


def test_a_value_that_is_not_told_is_not_compared() -> None:
    absent = {"extension": [{"url": R4 + "data-absent-reason", "valueCode": "unknown"}]}
    profile = structure("Bounded", "Patient", element("Patient.birthDate", minValueDate="1900", maxLength=4))
    found = check(without(PATIENT, "birthDate") | {"_birthDate": absent}, profile)
    assert [issue.severity for issue in found] == ["information"], "of the extension alone"


def test_a_quantity_is_compared_only_in_the_same_unit() -> None:
    bound = {"value": 300, "system": "http://unitsofmeasure.org", "code": "kg"}
    profile = structure("Light", "Observation", element("Observation.value[x]", maxValueQuantity=bound))
    assert errors(observation(), profile) == []
    assert errors(observation(valueQuantity=bound | {"value": 300.5}), profile) == [
        ("value", "Observation.value")
    ]
    [issue] = check(observation(valueQuantity={"value": 4000, "unit": "stone"}), profile)
    assert (issue.severity, issue.text[:12]) == ("warning", "Not checked:")


# Types.


def test_a_choice_has_one_of_the_types_that_are_left() -> None:
    profile = structure(
        "Measured", "Observation", element("Observation.value[x]", type=[{"code": "Quantity"}])
    )
    assert errors(observation(), profile) == []
    text = without(OBSERVATION, "valueQuantity") | {"valueString": "70 kg"}
    assert errors(text, profile) == [("structure", "Observation.value")]
    two = [{"code": "Quantity"}, {"code": "string"}]
    either = structure("Measured", "Observation", element("Observation.value[x]", type=two))
    assert errors(observation(), either) == errors(text, either) == []


def test_what_is_inside_a_choice_is_found_by_its_type() -> None:
    profile = structure(
        "InKilograms",
        "Observation",
        element("Observation.value[x]", type=[{"code": "Quantity"}]),
        element("Observation.value[x].code", fixedCode="kg"),
    )
    assert errors(observation(), profile) == []
    grams = {"value": 70_000, "code": "g", "system": "http://unitsofmeasure.org"}
    assert errors(observation(valueQuantity=grams), profile) == [("value", "Observation.value.code")]


def test_a_specialisation_will_do_for_its_type() -> None:
    profile = structure("Onset", "Condition", element("Condition.onset[x]", type=[{"code": "Age"}]))
    condition = {"resourceType": "Condition", "subject": {"reference": "Patient/p1"}}
    age = {"value": 3, "system": "http://unitsofmeasure.org", "code": "a"}
    assert errors(condition | {"onsetAge": age}, profile) == []
    assert errors(condition | {"onsetString": "3"}, profile) == [("structure", "Condition.onset")]


ABOUT_PATIENTS = structure(
    "AboutPatients",
    "Observation",
    element("Observation.subject", type=[{"code": "Reference", "targetProfile": [HERE + "Ours"]}]),
)
OURS = structure("Ours", "Patient")


@pytest.mark.parametrize(
    ("reference", "conforms"),
    [
        ({"reference": "Patient/p1"}, True),
        ({"reference": "https://elsewhere.example/fhir/Patient/p1/_history/3"}, True),
        ({"reference": "Group/g1"}, False),
        ({"reference": "urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8", "type": "Group"}, False),
        ({"reference": "urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8"}, True),
        ({"identifier": {"value": "1"}}, True),
        ({"identifier": {"value": "1"}, "type": "Group"}, False),
        ({"display": "somebody"}, True),
    ],
)
def test_a_reference_is_to_a_type_that_the_profile_allows(reference: Json, conforms: bool) -> None:
    found = errors(observation(subject=reference), ABOUT_PATIENTS, OURS)
    assert found == ([] if conforms else [("structure", "Observation.subject")])


def test_a_contained_target_is_known_by_what_it_is() -> None:
    group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
    inside = observation(contained=[group], subject={"reference": "#g"})
    assert errors(inside, ABOUT_PATIENTS, OURS) == [("structure", "Observation.subject")]


def test_a_target_by_an_unknown_profile_is_not_judged() -> None:
    [issue] = check(observation(subject={"reference": "Group/g1"}), ABOUT_PATIENTS)
    assert (issue.severity, issue.code) == ("warning", "not-found")
    assert issue.text.startswith("Not checked: ")


def test_a_value_satisfies_the_profile_of_its_type() -> None:
    surname = structure("Surname", "HumanName", element("HumanName.family", min=1))
    profile = structure(
        "Named", "Patient", element("Patient.name", type=[{"code": "HumanName", "profile": [surname["url"]]}])
    )
    assert errors(patient(), profile, surname) == []
    assert errors(patient(name=[{"text": "A"}]), profile, surname) == [("required", "Patient.name[0].family")]


def test_one_of_several_profiles_of_a_type_is_enough() -> None:
    surname = structure("Surname", "HumanName", element("HumanName.family", min=1))
    spoken = structure("Spoken", "HumanName", element("HumanName.text", min=1))
    either = [{"code": "HumanName", "profile": [surname["url"], spoken["url"]]}]
    profile = structure("Named", "Patient", element("Patient.name", type=either))
    for name in ({"family": "A"}, {"text": "B"}):
        assert errors(patient(name=[name]), profile, surname, spoken) == []
    found = errors(patient(name=[{"given": ["C"]}]), profile, surname, spoken)
    assert found == [("structure", "Patient.name[0]")]


def test_r4s_own_definition_of_a_type_is_satisfied_by_whatever_is_of_it() -> None:
    named = structure("Named", "Person", element("Person.name", min=1))
    either = [{"code": "Resource", "profile": [R4 + "Patient", named["url"]]}]
    profile = structure("Either", "Bundle", element("Bundle.entry.resource", type=either))
    for resource, found in (({"resourceType": "Patient"}, 0), ({"resourceType": "Person"}, 1)):
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": resource}]}
        assert len(check(bundle, profile, named)) == found


def test_an_unknown_profile_of_a_type_is_said_not_to_have_been_checked() -> None:
    typed = element("Patient.name", type=[{"code": "HumanName", "profile": [HERE + "Nowhere"]}])
    [issue] = check(patient(name=[{"text": "A"}, {"text": "B"}]), structure("Named", "Patient", typed))
    assert (issue.severity, issue.expression) == ("warning", "Patient.name[0]")
    assert issue.text == f"Not checked: the profile {HERE}Nowhere; it is not known here."


def test_r4s_own_simple_quantity_needs_no_definition() -> None:
    typed = [{"code": "Quantity", "profile": [R4 + "SimpleQuantity"]}]
    profile = structure("Simple", "Observation", element("Observation.value[x]", type=typed))
    assert check(observation(), profile) == []
    more = observation(valueQuantity={"value": 70, "comparator": ">"})
    assert errors(more, profile) == [("structure", "Observation.value.comparator")]


# Content that is defined elsewhere.


def survey(*facts: Json, **more: Any) -> Json:
    """A profile of Questionnaires whose items' items are described as the items are."""
    items = element("Questionnaire.item", min=0, max="*")
    within = element("Questionnaire.item.item", min=0, max="*", contentReference="#Questionnaire.item")
    return structure("Survey", "Questionnaire", items, *facts, within, snapshot=True, **more)


ITEM = {"linkId": "1", "type": "group", "text": "a"}
NESTED = ITEM | {"item": [ITEM | {"linkId": "2", "item": [{"linkId": "3", "type": "string"}]}]}
QUESTIONNAIRE = {"resourceType": "Questionnaire", "status": "active", "item": [NESTED]}
UNTOLD = ("required", "Questionnaire.item[0].item[0].item[0].text")


def test_items_within_items_are_asked_the_same_when_the_profile_refers_to_its_own() -> None:
    assert errors(QUESTIONNAIRE, survey(element("Questionnaire.item.text", min=1, max="1"))) == [UNTOLD]


def test_a_reference_to_r4s_own_content_asks_nothing_more() -> None:
    profile = survey(element("Questionnaire.item.text", min=1, max="1"))
    profile["snapshot"]["element"][-1]["contentReference"] = R4 + "Questionnaire#Questionnaire.item"
    assert errors(QUESTIONNAIRE, profile) == []


def test_a_derived_profile_does_not_change_what_its_base_refers_to() -> None:
    base = survey(element("Questionnaire.item.text", min=1, max="1"))
    derived = structure(
        "Derived", "Questionnaire", element("Questionnaire.item.prefix", min=1), baseDefinition=base["url"]
    )
    assert set(errors(QUESTIONNAIRE, derived, base)) == {("required", "Questionnaire.item[0].prefix"), UNTOLD}


def test_references_in_a_circle_come_to_an_end() -> None:
    profile = survey()
    profile["snapshot"]["element"][1]["contentReference"] = "#Questionnaire.item.item"
    assert errors(QUESTIONNAIRE, profile) == []


def test_a_content_reference_of_a_snapshot_is_followed() -> None:
    profile = structure(
        "Ranged",
        "Observation",
        element("Observation.referenceRange", min=0, max="*"),
        element("Observation.referenceRange.text", min=1, max="1"),
        element("Observation.component", min=0, max="*"),
        element(
            "Observation.component.referenceRange",
            min=0,
            max="*",
            contentReference="#Observation.referenceRange",
        ),
        snapshot=True,
    )
    component = {"code": {"text": "a"}, "referenceRange": [{"low": {"value": 1}}]}
    found = errors(observation(component=[component]), profile)
    assert found == [("required", "Observation.component[0].referenceRange[0].text")]


# Bindings.

COLOURS = codes({"urn:colours": [("urn:c", "red"), ("urn:c", "green")]})


def bound(strength: str, value_set: str = "urn:colours|1.0", **more: Any) -> Json:
    binding = {"strength": strength, "valueSet": value_set, **more}
    return structure("Coloured", "Observation", element("Observation.code", binding=binding))


def coded(*codings: tuple[str, str], **more: Any) -> Json:
    return observation(code={"coding": [{"system": s, "code": c} for s, c in codings], **more})


@pytest.mark.parametrize(
    ("strength", "severity"), [("required", "error"), ("extensible", "warning"), ("preferred", "information")]
)
def test_a_code_from_elsewhere_weighs_as_much_as_the_binding(strength: str, severity: str) -> None:
    assert check(coded(("urn:c", "red")), bound(strength), members=COLOURS) == []
    assert check(coded(("urn:d", "x"), ("urn:c", "green")), bound(strength), members=COLOURS) == []
    for other in (coded(("urn:c", "blue")), coded(("urn:d", "red"))):
        [issue] = check(other, bound(strength), members=COLOURS)
        assert (issue.severity, issue.code, issue.expression) == (
            severity,
            "code-invalid",
            "Observation.code",
        )


def test_an_example_binding_binds_nobody() -> None:
    assert check(coded(("urn:d", "x")), bound("example"), members=COLOURS) == []


def test_text_alone_will_do_unless_the_binding_is_required() -> None:
    text = observation(code={"text": "reddish"})
    assert check(text, bound("extensible"), members=COLOURS) == []
    assert errors(text, bound("required"), members=COLOURS) == [("code-invalid", "Observation.code")]


@pytest.mark.parametrize(
    ("strength", "severity"),
    [("required", "warning"), ("extensible", "warning"), ("preferred", "information")],
)
def test_an_unknown_value_set_is_said_not_to_have_been_checked(strength: str, severity: str) -> None:
    [issue] = check(coded(("urn:c", "red")), bound(strength, "urn:unknown"), members=COLOURS)
    assert (issue.severity, issue.code) == (severity, "not-found")
    assert issue.text.startswith("Not checked: the value set urn:unknown is not known here")


def test_an_extensible_binding_may_have_a_limit() -> None:
    limit = {"url": R4 + "elementdefinition-maxValueSet", "valueCanonical": "urn:all"}
    profile = bound("preferred", extension=[limit])
    members = codes({"urn:colours": [("urn:c", "red")], "urn:all": [("urn:c", "red"), ("urn:c", "blue")]})
    [issue] = check(coded(("urn:c", "blue")), profile, members=members)
    assert issue.severity == "information"
    assert errors(coded(("urn:c", "black")), profile, members=members) == [
        ("code-invalid", "Observation.code")
    ]


@pytest.mark.parametrize(
    ("element_id", "good", "bad", "where"),
    [
        ("Patient.gender", {"gender": "male"}, {"gender": "other"}, "Patient.gender"),
        (
            "Patient.meta.tag",
            {"meta": {"tag": [{"system": "urn:c", "code": "male"}]}},
            {"meta": {"tag": [{"system": "urn:d", "code": "male"}]}},
            "Patient.meta.tag[0]",
        ),
    ],
)
def test_codes_and_codings_are_bound_too(element_id: str, good: Json, bad: Json, where: str) -> None:
    binding = {"strength": "required", "valueSet": "urn:g"}
    profile = structure("Bound", "Patient", element(element_id, binding=binding))
    members = codes({"urn:g": [("urn:c", "male")]})
    assert errors(patient(**good), profile, members=members) == []
    assert errors(patient(**bad), profile, members=members) == [("code-invalid", where)]


def test_the_unit_of_a_quantity_is_bound() -> None:
    binding = {"strength": "required", "valueSet": "urn:units"}
    profile = structure("Units", "Observation", element("Observation.value[x]", binding=binding))
    members = codes({"urn:units": [("http://unitsofmeasure.org", "kg")]})
    assert errors(observation(), profile, members=members) == []
    stones = {"value": 11, "system": "http://unitsofmeasure.org", "code": "[stone_av]"}
    assert errors(observation(valueQuantity=stones), profile, members=members) == [
        ("code-invalid", "Observation.value")
    ]


def test_a_value_set_that_r4_requires_is_known_without_terminology() -> None:
    binding = {"strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/observation-status"}
    profile = structure("Tagged", "Observation", element("Observation.meta.tag", binding=binding))
    system = "http://hl7.org/fhir/observation-status"
    good = observation(meta={"tag": [{"system": system, "code": "final"}]})
    assert check(good, profile) == []
    bad = observation(meta={"tag": [{"system": system, "code": "never"}]})
    assert errors(bad, profile) == [("code-invalid", "Observation.meta.tag[0]")]


def test_what_r4_requires_and_knows_is_left_to_the_base_check() -> None:
    binding = {"strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/observation-status"}
    profile = structure("Same", "Observation", element("Observation.status", binding=binding))
    nothing = codes({binding["valueSet"]: []})
    assert check(observation(), profile, members=nothing) == []


def test_what_r4_requires_and_nobody_can_list_is_said_not_to_have_been_checked() -> None:
    binding = {"strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/mimetypes"}
    photo = structure("Photo", "Patient", element("Patient.photo.contentType", binding=binding))
    [issue] = check(patient(photo=[{"contentType": "image/png", "data": "AAAA"}]), photo)
    assert (issue.severity, issue.code) == ("warning", "not-found")


# Extensions.

RANK = extension(
    "Rank",
    element("Extension.value[x]", min=1, type=[{"code": "positiveInt"}]),
    context="Patient.contact",
)
ANYONE = structure("Anyone", "Patient")


def contact(*extensions: Json) -> Json:
    return patient(contact=[{"name": {"text": "A"}, "extension": list(extensions)}])


def test_a_known_extension_conforms_to_its_definition() -> None:
    assert check(contact({"url": RANK["url"], "valuePositiveInt": 1}), ANYONE, RANK) == []
    assert errors(contact({"url": RANK["url"], "valueString": "1"}), ANYONE, RANK) == [
        ("structure", "Patient.contact[0].extension[0].value")
    ]


def test_an_extension_stands_only_where_it_may() -> None:
    at_the_root = patient(extension=[{"url": RANK["url"], "valuePositiveInt": 1}])
    assert errors(at_the_root, ANYONE, RANK) == [("extension", "Patient.extension[0]")]


@pytest.mark.parametrize(
    ("context", "may"),
    [
        ("Element", True),
        ("string", True),
        ("HumanName.family", True),
        ("Patient.name.family", True),
        ("HumanName", False),
        ("Patient", False),
        ("Patient.name", False),
        ("HumanName.given", False),
        ("DomainResource", False),
    ],
)
def test_a_context_names_an_element_by_its_path_or_type(context: str, may: bool) -> None:
    known = extension("Own", element("Extension.value[x]", type=[{"code": "string"}]), context=context)
    family = {"extension": [{"url": known["url"], "valueString": "von"}]}
    found = errors(patient(name=[{"family": "A", "_family": family}]), ANYONE, known)
    assert found == ([] if may else [("extension", "Patient.name[0].family.extension[0]")])


@pytest.mark.parametrize(
    ("context", "may"),
    [("Patient", True), ("DomainResource", True), ("Resource", True), ("Person", False), ("Element", True)],
)
def test_a_context_may_be_a_resource_or_any(context: str, may: bool) -> None:
    known = extension("Own", element("Extension.value[x]", type=[{"code": "string"}]), context=context)
    found = errors(patient(extension=[{"url": known["url"], "valueString": "x"}]), ANYONE, known)
    assert found == ([] if may else [("extension", "Patient.extension[0]")])


def test_a_context_may_be_another_extension() -> None:
    outer = extension("Outer")
    inner = extension("Inner", element("Extension.value[x]", type=[{"code": "string"}]))
    inner["context"] = [{"type": "extension", "expression": outer["url"]}]
    part = {"url": inner["url"], "valueString": "x"}
    assert errors(patient(extension=[{"url": outer["url"], "extension": [part]}]), ANYONE, outer, inner) == []
    assert errors(patient(extension=[part]), ANYONE, outer, inner) == [("extension", "Patient.extension[0]")]


def test_an_extension_of_r4s_own_may_stand_where_r4_itself_has_it() -> None:
    """R4 says that it belongs to a type's code, and uses it in the type."""
    name = "structuredefinition-fhir-type"
    value = element("Extension.value[x]", type=[{"code": "url"}])
    known = extension(name, value, context="ElementDefinition.type.code", url=R4 + name)
    known["differential"]["element"][-1]["fixedUri"] = R4 + name
    said = {"extension": [{"url": R4 + name, "valueUrl": "string"}]}
    types = [{"code": "string", **said}]
    definition = structure("Typed", "Patient", element("Patient.id", type=types))
    anything = structure("Anything", "StructureDefinition")
    assert errors(definition, anything, known) == []
    assert errors(definition | said, anything, known) == [("extension", "StructureDefinition.extension[0]")]


def test_a_context_by_fhirpath_is_said_not_to_have_been_checked() -> None:
    known = extension("Own", element("Extension.value[x]", type=[{"code": "string"}]))
    known["context"] = [{"type": "fhirpath", "expression": "Patient.name.where(use = 'official')"}]
    [issue] = check(patient(extension=[{"url": known["url"], "valueString": "x"}]), ANYONE, known)
    assert (issue.severity, issue.text[:12]) == ("information", "Not checked:")


def test_a_context_may_have_a_condition() -> None:
    value = element("Extension.value[x]", type=[{"code": "boolean"}])
    rule = ["active.exists() or %extension.value = false"]
    known = extension("Own", value, context="Patient", contextInvariant=rule)
    said = [{"url": known["url"], "valueBoolean": True}]
    assert errors(patient(extension=said, active=True), ANYONE, known) == []
    assert errors(patient(extension=[{"url": known["url"], "valueBoolean": False}]), ANYONE, known) == []
    assert errors(patient(extension=said), ANYONE, known) == [("extension", "Patient.extension[0]")]


def test_an_unknown_extension_is_said_not_to_have_been_checked() -> None:
    [issue] = check(contact({"url": "urn:unknown", "valueString": "x"}), ANYONE)
    assert (issue.severity, issue.expression) == ("information", "Patient.contact[0].extension[0]")
    assert issue.text == "Not checked: this extension; its definition is not known here."


def test_an_unknown_modifier_extension_is_an_error() -> None:
    resource = patient(modifierExtension=[{"url": "urn:unknown", "valueString": "x"}])
    assert errors(resource, ANYONE) == [("extension", "Patient.modifierExtension[0]")]


def test_a_modifier_extension_and_another_do_not_change_places() -> None:
    value = element("Extension.value[x]", type=[{"code": "boolean"}])
    negated = extension("Negated", value, context="Patient")
    negated["differential"]["element"][0] |= {"isModifier": True, "isModifierReason": "It negates."}
    plain = extension("Plain", value, context="Patient")
    one, other = ({"url": each["url"], "valueBoolean": True} for each in (negated, plain))
    assert errors(patient(modifierExtension=[one], extension=[other]), ANYONE, negated, plain) == []
    assert errors(patient(modifierExtension=[other], extension=[one]), ANYONE, negated, plain) == [
        ("extension", "Patient.modifierExtension[0]"),
        ("extension", "Patient.extension[0]"),
    ]


def test_the_parts_of_an_extension_are_described_by_the_whole() -> None:
    known = extension(
        "Key",
        element("Extension.extension:type", min=1, max="1"),
        element("Extension.extension:type.url", fixedUri="type"),
        element("Extension.extension:type.value[x]", min=1, type=[{"code": "code"}]),
        element("Extension.value[x]", max="0"),
    )
    part = {"url": "type", "valueCode": "x"}

    def keyed(*parts: Json) -> Json:
        return patient(extension=[{"url": known["url"], "extension": list(parts)}])

    assert check(keyed(part), ANYONE, known) == []
    assert check(keyed(part, {"url": "more", "valueString": "y"}), ANYONE, known) == []
    assert errors(keyed(part, part), ANYONE, known) == [("structure", "Patient.extension[0].extension")]
    assert errors(keyed({"url": "type", "valueString": "x"}), ANYONE, known) == [
        ("structure", "Patient.extension[0].extension[0].value")
    ]


# Invariants.


def ruled(expression: str | None, severity: str = "error", at: str = "Patient") -> Json:
    rule = {"key": "x-1", "severity": severity, "human": "Born in peace.", "expression": expression}
    rule = {name: value for name, value in rule.items() if value is not None}
    return structure("Ruled", "Patient", element(at, constraint=[rule]))


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_an_invariant_that_does_not_hold_is_said_as_its_author_does(severity: str) -> None:
    profile = ruled("birthDate.exists() and name.exists()", severity)
    assert check(patient(), profile) == []
    [issue] = check(without(PATIENT, "birthDate"), profile)
    assert (issue.severity, issue.code, issue.expression) == (severity, "invariant", "Patient")
    assert issue.text == "Born in peace (x-1)."


def test_an_invariant_is_asked_of_every_value_of_its_element() -> None:
    profile = ruled("family.exists() or text.exists()", at="Patient.name")
    resource = patient(name=[{"family": "A"}, {"given": ["B"]}, {"text": "C"}])
    assert errors(resource, profile) == [("invariant", "Patient.name[1]")]


@pytest.mark.parametrize("expression", ["birthDate.conformsTo('x')", "))", "today() > birthDate", None])
def test_an_invariant_that_cannot_be_evaluated_is_said_not_to_have_been_checked(
    expression: str | None,
) -> None:
    [issue] = check(patient(), ruled(expression))
    assert (issue.severity, issue.code) == ("information", "not-supported")
    assert issue.text == "Not checked: Born in peace (x-1)."


def test_without_invariants_none_is_evaluated() -> None:
    profile = library(ruled("false")).profile(HERE + "Ruled")
    assert profile is not None
    assert validate_profile(patient(), profile, invariants=False) == []
    assert len(validate_profile(patient(), profile)) == 1


# Resources within the resource.

DATED = structure("Dated", "Patient", element("Patient.birthDate", min=1))
CLAIMING = {"resourceType": "Patient", "meta": {"profile": [DATED["url"]]}}


def test_a_contained_resource_is_checked_against_what_it_claims() -> None:
    resource = observation(contained=[CLAIMING | {"id": "p"}], subject={"reference": "#p"})
    found = errors(resource, structure("Any", "Observation"), DATED)
    assert found == [("required", "Observation.contained[0].birthDate")]


def test_entries_of_a_bundle_are_checked_against_what_they_claim() -> None:
    entries = [{"resource": resource} for resource in (PATIENT, CLAIMING, CLAIMING | {"birthDate": "2001"})]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    found = errors(bundle, structure("Any", "Bundle"), DATED)
    assert found == [("required", "Bundle.entry[1].resource.birthDate")]


def test_parts_of_parameters_are_checked_against_what_they_claim() -> None:
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": CLAIMING}]}
    found = errors(parameters, structure("Any", "Parameters"), DATED)
    assert found == [("required", "Parameters.parameter[0].resource.birthDate")]


def test_a_claim_to_an_unknown_profile_is_said_not_to_have_been_checked() -> None:
    [issue] = validate_claims(CLAIMING, Library(lambda canonical: None))
    assert (issue.severity, issue.expression) == ("warning", "Patient.meta.profile[0]")
    assert issue.text == "Not checked: this profile is not known here."


def test_a_claim_to_r4s_own_type_needs_no_definition() -> None:
    claim = {"resourceType": "Patient", "meta": {"profile": [R4 + "Patient", R4 + "Resource"]}}
    assert validate_claims(claim, Library(lambda canonical: None)) == []
    wrong = {"resourceType": "Patient", "meta": {"profile": [R4 + "Person"]}}
    assert [issue.severity for issue in validate_claims(wrong, Library(lambda canonical: None))] == [
        "warning"
    ]


def test_every_claim_counts() -> None:
    named = structure("Named", "Patient", element("Patient.name", min=1))
    both = {"resourceType": "Patient", "meta": {"profile": [DATED["url"], named["url"] + "|2.0"]}}
    found = validate_claims(both, library(DATED, named))
    assert [issue.expression for issue in found] == ["Patient.birthDate", "Patient.name"]


def test_the_resource_of_an_entry_has_the_profile_that_the_bundle_asks() -> None:
    typed = [{"code": "Patient", "profile": [DATED["url"]]}]
    profile = structure("Dates", "Bundle", element("Bundle.entry.resource", type=typed))
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": {"resourceType": "Patient"}}],
    }
    assert errors(bundle, profile, DATED) == [("required", "Bundle.entry[0].resource.birthDate")]
    bundle["entry"] = [{"resource": copy.deepcopy(OBSERVATION)}]
    assert errors(bundle, profile, DATED) == [("structure", "Bundle.entry[0].resource")]


def test_invariants_of_a_resource_within_are_asked_of_that_resource() -> None:
    rule = {"key": "x-1", "severity": "error", "human": "Named.", "expression": "%resource.name.exists()"}
    named = structure("Named", "Patient", element("Patient", constraint=[rule]))
    typed = [{"code": "Patient", "profile": [named["url"]]}]
    profile = structure("Names", "Bundle", element("Bundle.entry.resource", type=typed))
    entries = [{"resource": PATIENT}, {"resource": {"resourceType": "Patient"}}]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    assert errors(bundle, profile, named) == [("invariant", "Bundle.entry[1].resource")]


@pytest.mark.parametrize(
    ("full_url", "reference", "found"),
    [
        (None, "Group/g", True),
        ("https://one.example/Group/g", "Group/g", True),
        ("https://one.example/Group/g", "https://one.example/Group/g", True),
        ("https://one.example/Group/g", "https://two.example/Group/g", False),
        (
            "urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            "urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            True,
        ),
        ("urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8", "Group/g", False),
    ],
)
def test_a_reference_is_resolved_in_its_bundle(full_url: str | None, reference: str, found: bool) -> None:
    """The Group is told from a target that is not here by an invariant, which cannot be evaluated then."""
    rule = {"key": "x", "severity": "error", "human": "x", "expression": "subject.resolve().actual = false"}
    profile = structure("Ruled", "Observation", element("Observation", constraint=[rule]))
    group = {"resource": {"resourceType": "Group", "id": "g", "type": "person", "actual": True}}
    claiming = observation(subject={"reference": reference}, meta={"profile": [profile["url"]]})
    entries = [{"resource": claiming}, group | ({"fullUrl": full_url} if full_url else {})]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    [issue] = check(bundle, structure("Any", "Bundle"), profile)
    assert issue.severity == ("error" if found else "information")


# Wrong and hostile input.


def test_a_resource_of_another_type_is_an_issue() -> None:
    assert errors(observation(), DATED) == [("structure", "Observation")]


@pytest.mark.parametrize("resource", [[], "x", None, {}, {"resourceType": "Nope"}, {"resourceType": 7}])
def test_what_is_no_resource_is_an_issue(resource: Any) -> None:
    profile = compile_profile(DATED, lambda canonical: None)
    [issue] = validate_profile(resource, profile)
    assert (issue.severity, issue.code) == ("error", "structure")


def test_an_issue_repeats_no_value_of_the_resource() -> None:
    secret = "9434765919"
    profile = structure(
        "Strict",
        "Patient",
        element("Patient.identifier.value", fixedString="x"),
        element("Patient.identifier.system", maxLength=3),
        element("Patient.name.family", binding={"strength": "required", "valueSet": "urn:g"}),
        element("Patient.birthDate", max="0"),
    )
    resource = patient(
        identifier=[{"system": f"urn:{secret}", "value": secret}],
        name=[{"family": secret, "extension": [{"url": f"urn:{secret}", "valueString": secret}]}],
        meta={"profile": [f"urn:{secret}"]},
    )
    found = check(resource, profile, members=codes({"urn:g": []}))
    assert len(found) == 5
    assert secret not in repr(found)


def test_profiles_that_name_one_another_come_to_an_end() -> None:
    def named(name: str, other: str) -> Json:
        typed = [{"code": "HumanName", "profile": [HERE + other]}]
        return structure(name, "HumanName", element("HumanName", type=typed), snapshot=True)

    profile = structure(
        "Circle", "Patient", element("Patient.name", type=[{"code": "HumanName", "profile": [HERE + "A"]}])
    )
    assert check(patient(), profile, named("A", "B"), named("B", "A")) == []


def test_profiles_of_a_primitive_that_double_come_to_an_end() -> None:
    def doubling(depth: int) -> Json:
        one = {"code": "string", "profile": [f"{HERE}Deep{depth + 1}"]}
        named = structure(f"Deep{depth}", "string", element("string", type=[one, one]), snapshot=True)
        return named | {"kind": "primitive-type"}

    typed = [{"code": "string", "profile": [HERE + "Deep0"]}]
    profile = structure("Deep", "Patient", element("Patient.name.family", type=typed))
    found = check(patient(), profile, *map(doubling, range(40)))
    assert [issue.text for issue in found] == [
        f"Not checked: the profile {HERE}Deep40; it is not known here."
    ]


def test_a_crowd_of_contained_resources_is_gone_through_once() -> None:
    crowd = [{"resourceType": "Basic", "id": f"c{number}"} for number in range(20_000)]
    references = [{"reference": f"#c{number}"} for number in range(20_000)]
    typed = [{"code": "Reference", "targetProfile": [R4 + "Practitioner"]}]
    profile = library(structure("Crowd", "Patient", element("Patient.generalPractitioner", type=typed)))
    known = profile.profile(HERE + "Crowd")
    assert known is not None
    found = validate_profile(patient(contained=crowd, generalPractitioner=references), known)
    assert len(found) == 100


def test_a_hundred_errors_are_enough() -> None:
    profile = structure("Named", "Patient", element("Patient.name.family", min=1))
    found = check(patient(name=[{"text": "A"}] * 5_000), profile)
    assert len(found) == 100


def test_remarks_do_not_crowd_out_an_error() -> None:
    profile = structure("Dated", "Patient", element("Patient.birthDate", min=1))
    remarks = [{"url": "urn:unknown", "valueString": "x"}] * 500
    lacking = without(PATIENT, "birthDate") | {"name": [{"text": "A", "extension": remarks}]}
    found = check(lacking, profile)
    assert [issue.severity for issue in found].count("error") == 1
    assert len(found) == 102
    assert found[-1].text == "There are more than 100 of these; the rest is left out."


def test_nesting_without_end_is_an_issue() -> None:
    resource: Json = {"url": "urn:x"}
    for _ in range(3_000):
        resource = {"url": "urn:x", "extension": [resource]}
    profile = compile_profile(ANYONE, lambda canonical: None)
    found = validate_profile({"resourceType": "Patient", "extension": [resource]}, profile)
    assert found[-1].code == "too-costly"
