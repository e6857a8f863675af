"""Index values: every parameter's values are extracted, by R4's table for each datatype."""

import lzma
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fhir.composites import composite_plan
from app.fhir.criteria import escape
from app.fhir.dates import BEGINNING, END
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.fhirpath import selectors
from app.fhir.indexing import (
    NOT_EXTRACTED,
    DateRow,
    IndexValues,
    Position,
    QuantityRow,
    Reference,
    StringRow,
    extract,
)
from app.fhir.keys import key64, token_keys
from app.fhir.measures import INFINITY, implied_range
from app.fhir.parameters import parameters_of
from app.fhir.query import is_supported, parse_search
from app.fhir.text import parse
from app.fhir.ucum import UCUM
from app.fhir.writers import MAKERS, WITHOUT_ROWS, systems_of

BASE = "https://node.example/fhir"


def index(resource_type: str, **members: Any) -> IndexValues:
    return extract({"resourceType": resource_type, **members}, BASE)


def finds(values: IndexValues, resource_type: str, name: str, value: str) -> bool:
    """Whether the parsed search's keys are among the resource's tokens, as the store compares them."""
    [criterion] = parse_search(resource_type, [(name, value)], strict=True, base_url=BASE).criteria
    keys = getattr(criterion, "keys")  # noqa: B009  # every criterion that is asked here has keys
    return bool(set(keys) & set(values.tokens))


# Tokens.

CONCEPTS = {
    1: {"coding": [{"system": "s1", "code": "c1"}]},
    2: {"coding": [{"system": "s2", "code": "c2"}]},
    3: {"text": "text only"},
    4: {"coding": [{"system": "s1", "code": "c2"}]},
    5: {"coding": [{"code": "c3"}]},
    6: {"coding": [{"system": "s3", "code": "c3"}]},
}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("c2", {2, 4}),
        ("s2|c2", {2}),
        ("|c3", {5}),
        ("s3|", {6}),
        ("c3", {5, 6}),
        ("s1|c1,s3|c3", {1, 6}),
        ("C2", set()),
        ("s1|c3", set()),
    ],
)
def test_each_form_of_a_token_finds_what_r4_says(asked: str, expected: set[int]) -> None:
    kept = {number: index("Observation", valueCodeableConcept=one) for number, one in CONCEPTS.items()}
    assert {n for n, one in kept.items() if finds(one, "Observation", "value-concept", asked)} == expected


def test_a_codes_system_is_implied_by_its_binding() -> None:
    patient = index("Patient", gender="male", active=True)
    for name, value in [
        ("gender", "male"),
        ("gender", "http://hl7.org/fhir/administrative-gender|male"),
        ("gender", "http://hl7.org/fhir/administrative-gender|"),
        ("active", "true"),
        ("active", "http://hl7.org/fhir/special-values|true"),
    ]:
        assert finds(patient, "Patient", name, value), (name, value)
    for name, value in [
        ("gender", "|male"),
        ("gender", "female"),
        ("gender", "other|male"),
        ("active", "false"),
    ]:
        assert not finds(patient, "Patient", name, value), (name, value)


def test_a_code_whose_binding_has_no_end_has_no_system_unless_r4_names_one() -> None:
    assert systems_of("http://hl7.org/fhir/ValueSet/mimetypes") == {}
    document = index("DocumentReference", content=[{"attachment": {"contentType": "text/plain"}}])
    assert finds(document, "DocumentReference", "contenttype", "urn:ietf:bcp:13|text/plain")


def test_a_contact_point_has_its_use_where_a_system_stands() -> None:
    patient = index("Patient", telecom=[{"system": "phone", "use": "home", "value": "555"}])
    assert finds(patient, "Patient", "telecom", "home|555")
    assert finds(patient, "Patient", "phone", "555")
    assert not finds(patient, "Patient", "email", "555")
    assert not finds(patient, "Patient", "telecom", "phone|555")


def test_an_identifier_is_found_by_system_and_value_and_by_its_type() -> None:
    system = "http://terminology.hl7.org/CodeSystem/v2-0203"
    kind = {"coding": [{"system": system, "code": "MR"}], "text": "Hospital number"}
    patient = index("Patient", identifier=[{"type": kind, "system": "urn:x", "value": "446053"}])
    assert finds(patient, "Patient", "identifier", "urn:x|446053")
    assert not finds(patient, "Patient", "identifier", "|446053")
    assert key64("identifier", "of-type", system, "MR", "446053") in patient.tokens
    assert StringRow("identifier:text", "hospital number", "Hospital number") in patient.strings


def test_what_a_person_reads_of_a_token_stands_under_text() -> None:
    code = {"coding": [{"system": "s", "code": "c", "display": "Hæmoglobin"}], "text": "Hb"}
    rows = {(row.parameter, row.exact) for row in index("Observation", code=code).strings}
    assert {("code:text", "Hæmoglobin"), ("code:text", "Hb")} <= rows


def test_labels_and_profiles_of_the_metadata_are_found() -> None:
    meta = {
        "tag": [{"system": "t", "code": "1"}],
        "security": [{"system": "s", "code": "R"}],
        "profile": ["http://p|2"],
        "source": "urn:trust",
    }
    values = index("Basic", id="b", meta=meta)
    for name, value in [
        ("_tag", "t|1"),
        ("_security", "s|R"),
        ("_profile", "http://p"),
        ("_profile", "http://p|2"),
        ("_source", "urn:trust"),
    ]:
        assert finds(values, "Basic", name, value), (name, value)
    assert not finds(values, "Basic", "_profile", "http://p|1")
    assert key64("_id", "c", "b") in values.tokens


def test_the_living_are_found_as_not_deceased() -> None:
    assert finds(index("Patient"), "Patient", "deceased", "false")
    assert finds(index("Patient", deceasedDateTime="2020"), "Patient", "deceased", "true")


# References.

ABSOLUTE = {"reference": f"{BASE}/Patient/123"}
FOREIGN = {"reference": "http://other/fhir/Patient/123"}


@pytest.mark.parametrize(
    ("name", "asked", "own", "foreign"),
    [
        ("subject", "123", True, False),
        ("subject", "Patient/123", True, False),
        ("subject:Patient", "123", True, False),
        ("subject", f"{BASE}/Patient/123", True, False),
        ("patient", "123", True, False),
        ("subject", "http://other/fhir/Patient/123", False, True),
        ("subject:Device", "123", False, False),
        ("subject", "patient/123", False, False),
        ("subject", "Patient/123/_history/2", False, False),
        ("subject", "Patient/12", False, False),
    ],
)
def test_a_reference_is_found_in_all_spellings(name: str, asked: str, own: bool, foreign: bool) -> None:
    for subject, expected in [({"reference": "Patient/123"}, own), (ABSOLUTE, own), (FOREIGN, foreign)]:
        assert finds(index("Observation", subject=subject), "Observation", name, asked) is expected


def test_a_reference_to_a_version_is_found_with_it_and_without() -> None:
    values = index("Observation", subject={"reference": "Patient/123/_history/2"})
    assert finds(values, "Observation", "subject", "Patient/123/_history/2")
    assert finds(values, "Observation", "subject", "Patient/123")
    assert not finds(values, "Observation", "subject", "Patient/123/_history/1")


def test_a_logical_reference_is_found_by_its_identifier_only() -> None:
    values = index("Observation", subject={"identifier": {"system": "http://sys", "value": "9"}})
    assert finds(values, "Observation", "subject:identifier", "http://sys|9")
    assert not finds(values, "Observation", "subject", "9")
    assert values.references == ()


def test_references_are_listed_with_what_they_name_and_contained_ones_are_not() -> None:
    performer = [
        {"reference": "Practitioner/7"},
        {"reference": "urn:uuid:1"},
        {"reference": "#inner"},
        {"display": "somebody"},
    ]
    assert index("Observation", performer=performer).references == (
        Reference("performer", "Practitioner", "7", None),
        Reference("performer", None, None, "urn:uuid:1"),
    )


def test_a_canonical_is_found_with_its_version_and_without() -> None:
    values = index("CarePlan", instantiatesCanonical=["http://p/PlanDefinition/1|3"])
    for value in ("http://p/PlanDefinition/1|3", "http://p/PlanDefinition/1"):
        assert finds(values, "CarePlan", "instantiates-canonical", value)
    assert not finds(values, "CarePlan", "instantiates-canonical", "http://p/PlanDefinition/1|2")


def test_the_first_resource_of_a_document_is_its_composition() -> None:
    entry = [{"resource": {"resourceType": "Composition", "id": "c1"}}]
    assert finds(index("Bundle", type="document", entry=entry), "Bundle", "composition", "Composition/c1")


# Dates, strings, numbers.


def test_dates_are_rows_with_what_their_precision_leaves_open() -> None:
    assert index("Patient", birthDate="2000-03").dates == (
        DateRow("birthdate", datetime(2000, 3, 1, tzinfo=UTC), datetime(2000, 4, 1, tzinfo=UTC)),
    )
    [row] = index("Encounter", period={"start": "2020"}).dates
    assert (row.parameter, row.hi) == ("date", END)
    assert index("Observation", effectiveTiming={"repeat": {"boundsPeriod": {"end": "2020"}}}).dates == (
        DateRow("date", BEGINNING, datetime(2021, 1, 1, tzinfo=UTC)),
    )
    assert index("Immunization", occurrenceString="last spring").dates == ()
    assert index("Patient", birthDate="2000-02-30").dates == ()


def test_names_and_addresses_are_found_by_their_parts() -> None:
    name = {"family": "Müller", "given": ["Ana", None, "José"], "text": "Ana José Müller"}
    address = {"line": ["1 High St"], "city": "Leeds", "postalCode": "LS1 4AP"}
    rows = {(row.parameter, row.folded) for row in index("Patient", name=[name], address=[address]).strings}
    assert rows == {
        ("name", "muller"),
        ("name", "ana"),
        ("name", "jose"),
        ("name", "ana jose muller"),
        ("family", "muller"),
        ("given", "ana"),
        ("given", "jose"),
        ("address", "1 high st"),
        ("address", "leeds"),
        ("address", "ls1 4ap"),
        ("address-city", "leeds"),
        ("address-postalcode", "ls1 4ap"),
    }


def test_a_quantity_keeps_its_value_as_given_and_in_base_units() -> None:
    unit = {"unit": "mg", "system": UCUM, "code": "mg"}
    value, grams = Decimal("5.40"), Decimal("0.0054")
    rows = index("Observation", valueQuantity={"value": value, **unit}).quantities
    assert {row.parameter for row in rows} == {"value-quantity", "combo-value-quantity"}
    assert {row[1:] for row in rows} == {(value, value, UCUM, "mg", "mg", value, "", grams, grams, "g")}
    assert {str(row.value) for row in rows} == {"5.40"}


@pytest.mark.parametrize(
    ("quantity", "lo", "hi"),
    [
        ({"value": 100}, Decimal(100), Decimal(100)),
        ({"value": Decimal("100.0")}, Decimal(100), Decimal(100)),
        ({"value": 5, "comparator": "<"}, -INFINITY, Decimal(5)),
        ({"value": 5, "comparator": ">="}, Decimal(5), INFINITY),
    ],
)
def test_a_comparator_leaves_one_side_open(quantity: dict[str, Any], lo: Decimal, hi: Decimal) -> None:
    rows = [
        row
        for row in index("Observation", valueQuantity=quantity).quantities
        if row.parameter == "value-quantity"
    ]
    assert [(row.lo, row.hi) for row in rows] == [(lo, hi)]


@pytest.mark.parametrize(
    ("system", "code", "unit", "value"),
    [
        (UCUM, "[degF]", "K", Decimal("310.15")),
        (UCUM + "/", "[degF]", "K", Decimal("310.15")),
        ("urn:oid:2.16.840.1.113883.6.8", "[degF]", "K", Decimal("310.15")),
        (UCUM, "/min", "s-1", Decimal("1.643333333333333333333333333333333333333")),
        (UCUM, "tablets", "", None),
        ("http://snomed.info/sct", "mg", "", None),
        ("", "mg", "", None),
        (UCUM, "", "", None),
    ],
)
def test_only_what_ucum_knows_is_converted(system: str, code: str, unit: str, value: Decimal | None) -> None:
    quantity = {"value": Decimal("98.6"), "system": system, "code": code}
    for row in index("Observation", valueQuantity=quantity).quantities:
        assert (row.canonical_lo, row.canonical_hi, row.canonical_unit) == (value, value, unit)
        assert (row.lo, row.hi, row.system, row.code) == (Decimal("98.6"), Decimal("98.6"), system, code)


def test_open_ends_ranges_ages_and_samples_are_converted_too() -> None:
    def canonical(
        name: str, resource_type: str, **members: Any
    ) -> tuple[Decimal | None, Decimal | None, str]:
        [row] = [one for one in index(resource_type, **members).quantities if one.parameter == name]
        return row.canonical_lo, row.canonical_hi, row.canonical_unit

    kilograms, years = {"system": UCUM, "code": "kg"}, {"system": UCUM, "code": "a"}
    below = {"value": 2, "comparator": "<", **kilograms}
    assert canonical("value-quantity", "Observation", valueQuantity=below) == (-INFINITY, Decimal(2000), "g")
    least = {"low": {"value": 30, **years}}
    seconds = Decimal("365.25") * 86_400
    assert canonical("onset-age", "Condition", onsetRange=least) == (30 * seconds, INFINITY, "s")
    assert canonical("onset-age", "Condition", onsetAge=least["low"]) == (30 * seconds, 30 * seconds, "s")
    samples = {"origin": {"value": 1, "system": UCUM, "code": "mV"}, "factor": 2, "data": "-1 3"}
    volts = canonical("value-quantity", "Observation", valueSampledData=samples)
    assert volts == (Decimal(-1), Decimal(7), "C-1.g.m2.s-2")


def test_nothing_lies_between_ends_in_two_units() -> None:
    low, high = ({"value": 1, "system": UCUM, "code": code} for code in ("mg", "g"))
    assert not index("Condition", onsetRange={"low": low, "high": high}).quantities
    assert index("Condition", onsetRange={"low": low, "high": {"value": 2}}).quantities


def test_ranges_money_samples_and_plain_numbers_become_rows_too() -> None:
    low = {"value": 1, "code": "a"}
    [onset] = index("Condition", onsetRange={"low": low}).quantities
    assert onset == QuantityRow("onset-age", Decimal(1), INFINITY, "", "a", "")
    [price] = index("ChargeItem", priceOverride={"value": Decimal("9.99"), "currency": "GBP"}).quantities
    assert (price.system, price.code, price.value) == ("urn:iso:std:iso:4217", "GBP", Decimal("9.99"))
    samples = {"origin": {"value": 10, "code": "mV"}, "factor": Decimal("0.5"), "data": "2 E -4 U L 8"}
    [sampled] = [
        row
        for row in index("Observation", valueSampledData=samples).quantities
        if row.parameter == "value-quantity"
    ]
    assert (sampled.lo, sampled.hi, sampled.code) == (Decimal(8), Decimal(14), "mV")
    [factor] = index("ChargeItem", factorOverride=Decimal("0.8")).quantities
    assert (factor.lo, factor.hi, factor.value) == (Decimal("0.8"), Decimal("0.8"), Decimal("0.8"))


@pytest.mark.parametrize("value", [Decimal("1E+101"), Decimal("1E-101"), True, "5", None, [], 10**200])
def test_a_number_beyond_measure_and_what_is_no_number_leave_no_row(value: Any) -> None:
    assert index("Observation", valueQuantity={"value": value}).quantities == ()


def test_a_location_has_its_position() -> None:
    position = {"latitude": Decimal("53.8"), "longitude": Decimal("-1.55"), "altitude": 0}
    assert index("Location", position=position).positions == (
        Position("near", Decimal("53.8"), Decimal("-1.55")),
    )


# Composites.


def test_a_composite_pairs_what_stands_in_one_element() -> None:
    def component(code: str, value: int) -> dict[str, Any]:
        return {"code": {"coding": [{"code": code}]}, "valueQuantity": {"value": value}}

    values = index("Observation", component=[component("sys", 140), component("dia", 80), {"code": {}}])
    pairs = [one for one in values.composites if one.parameter == "component-code-value-quantity"]
    assert [(one.components[0].tokens, one.components[1].quantities[0].value) for one in pairs] == [
        (tuple(sorted(token_keys("component-code", None, "sys"))), Decimal(140)),
        (tuple(sorted(token_keys("component-code", None, "dia"))), Decimal(80)),
    ]


def test_a_composite_of_the_whole_is_left_to_the_parameters_that_say_the_same() -> None:
    code = {"coding": [{"code": "c"}]}
    values = index(
        "Observation", code=code, valueString="x", component=[{"code": code, "valueQuantity": {"value": 1}}]
    )
    assert {one.parameter for one in values.composites} == {
        "combo-code-value-quantity",
        "component-code-value-quantity",
    }
    assert set(token_keys("code", None, "c")) <= set(values.tokens)
    assert StringRow("value-string", "x", "x") in values.strings
    for parameter, same in (
        ("code-value-string", ("code", "value-string")),
        ("code-value-quantity", ("code", "value-quantity")),
        ("combo-code-value-concept", ("code", "value-concept")),
        ("component-code-value-concept", ()),
    ):
        assert composite_plan("Observation", parameter).as_conjunction == same


def test_a_composite_may_take_a_part_from_the_whole_resource() -> None:
    values = index(
        "MolecularSequence",
        referenceSeq={"chromosome": {"coding": [{"code": "17"}]}},
        variant=[{"start": 5, "end": 6}],
    )
    [pair] = [one for one in values.composites if one.parameter == "chromosome-variant-coordinate"]
    assert [bool(part) for part in pair.components[0]] == [True, *[False] * 7]
    assert [part.quantities[0].value for part in pair.components[1:]] == [Decimal(5), Decimal(6)]


# All of it.


def test_every_datatype_that_a_parameter_reaches_is_written_or_named_as_without_rows() -> None:
    for resource_type in RESOURCE_TYPES:
        for one in parameters_of(resource_type).values():
            if one.code in NOT_EXTRACTED or one.type == "composite":
                continue
            for found in selectors(one.expression, resource_type):
                assert found.type in MAKERS[one.type] or (one.type, found.type) in WITHOUT_ROWS, one.code


def test_only_what_is_named_is_not_extracted() -> None:
    assert set(NOT_EXTRACTED) == {"_lastUpdated", "_text", "_content", "_query"}


def test_an_unknown_type_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        index("Observations")


def examples(shared_data: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((shared_data / "hl7" / "examples").glob("*.ndjson.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            yield from (parse(line).value for line in lines)


def questions(resource: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Searches, by name and value, that must find ``resource`` because of what it says."""
    for one in parameters_of(resource["resourceType"]).values():
        if one.code == "_id" or not is_supported(one) or one.type not in ("token", "reference"):
            continue
        for found in selectors(one.expression, resource["resourceType"]):
            for value in found.select(resource):
                yield from ((one.code, asked) for asked in spellings(found.type, value))


def spellings(kind: str, value: Any) -> Iterator[str]:
    if kind == "CodeableConcept":
        for coding in value.get("coding", []):
            yield from spellings("Coding", coding)
    elif kind in ("Coding", "Identifier"):
        code = value.get("code" if kind == "Coding" else "value")
        if code:
            yield f"{escape(value.get('system', ''))}|{escape(code)}"
            yield escape(code)
    elif kind in ("code", "id", "string"):
        yield escape(value)
    elif kind == "Reference" and "reference" in value and not value["reference"].startswith("#"):
        yield escape(value["reference"])


def test_every_example_of_hl7_is_indexed_and_found_by_its_own_values(shared_data: Path) -> None:
    seen: set[str] = set()
    for resource in examples(shared_data):
        values = extract(resource, BASE)
        assert list(values.tokens) == sorted(set(values.tokens))
        assert all(row.lo <= row.hi for row in values.dates), resource["id"]
        assert all(row.lo <= row.hi for row in values.quantities), resource["id"]
        for name, asked in questions(resource):
            assert finds(values, resource["resourceType"], name, asked), (resource["id"], name, asked)
        seen.add(resource["resourceType"])
    assert len(seen) == 137


MEMBERS = ["value", "coding", "code", "system", "reference", "identifier", "type", "text", "start", "event"]
MEMBERS += ["low", "origin", "data", "factor", "given", "latitude", "component", "valueQuantity", "meta"]
PROPERTIES = [
    "id",
    "meta",
    "code",
    "category",
    "subject",
    "performer",
    "identifier",
    "name",
    "address",
    "telecom",
]
PROPERTIES += [
    "valueQuantity",
    "valueSampledData",
    "valueString",
    "component",
    "effectiveTiming",
    "birthDate",
]
PROPERTIES += [
    "effectivePeriod",
    "deceasedBoolean",
    "position",
    "entry",
    "gender",
    "active",
    "onsetRange",
    "period",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)
properties = st.sampled_from(PROPERTIES)


@given(st.sampled_from(["Observation", "Patient", "Bundle", "Location", "Condition"]), st.data())
def test_no_json_makes_extraction_fail(resource_type: str, data: st.DataObject) -> None:
    resource = data.draw(st.dictionaries(properties, json_values, max_size=8))
    values = extract({**resource, "resourceType": resource_type}, BASE)
    assert values == extract({**resource, "resourceType": resource_type}, BASE)


decimals = st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(
    lambda number: abs(number.adjusted()) < 90 and abs(int(number.as_tuple().exponent)) < 90
)


@given(decimals)
def test_a_number_lies_in_the_middle_of_what_its_digits_leave_open(number: Decimal) -> None:
    lo, hi = implied_range(number)
    assert lo < number < hi
    assert number - lo == hi - number or len(number.as_tuple().digits) > 26


@given(decimals, st.integers(0, 5))
def test_more_digits_leave_less_open(number: Decimal, digits: int) -> None:
    exponent = int(number.as_tuple().exponent)
    longer = Decimal((number.as_tuple().sign, number.as_tuple().digits + (0,) * digits, exponent - digits))
    lo, hi = implied_range(number)
    inner_lo, inner_hi = implied_range(longer)
    assert lo <= inner_lo < inner_hi <= hi
