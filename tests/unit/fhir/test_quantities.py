"""What a search for a number or a quantity finds, by prefix, precision and unit (R4 search, 3.1.1.4.5, 6 and 11)."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db import Database
from app.errors import MalformedSearch
from app.fhir import criteria
from app.fhir.criteria import NumberCriterion, QuantityCriterion, escape
from app.fhir.dates import Prefix
from app.fhir.indexing import QuantityRow, extract
from app.fhir.measures import INFINITY
from app.fhir.quantities import NumberAlternative, QuantityAlternative, asked_bounds, matches
from app.fhir.ucum import UCUM, canonical

PREFIXES: tuple[Prefix, ...] = get_args(Prefix)


def rows(value: Any, *, name: str = "valueQuantity", parameter: str = "value-quantity") -> list[QuantityRow]:
    resource = {"resourceType": "Observation", name: value}
    return [one for one in extract(resource, "https://node.example").quantities if one.parameter == parameter]


def row(value: str, code: str = "", system: str = UCUM, **more: Any) -> QuantityRow:
    """Of ``5.4``, or ``<5.4``."""
    number = value.lstrip("<>=")
    quantity = {"value": Decimal(number), "code": code, "system": system, **more}
    [only] = rows({**quantity, "comparator": value.removesuffix(number)})
    return only


def finds(asked: str, row: QuantityRow) -> bool:
    [alternative] = criteria.quantity("value-quantity", [asked]).alternatives
    return matches(row, alternative)


def found(asked: str, values: tuple[str, ...], code: str = "") -> list[str]:
    return [value for value in values if finds(asked, row(value, code))]


# The digits of the question count, those of the answer do not.

VALUES = ("99", "99.5", "99.99", "100", "100.4", "100.5", "101")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("100", "99.5 99.99 100 100.4"),
        ("eq100", "99.5 99.99 100 100.4"),
        ("eq100.00", "100"),
        ("eq1e2", "99 99.5 99.99 100 100.4 100.5 101"),
        ("eq1.00e2", "99.5 99.99 100 100.4"),
        ("gt100", "100.4 100.5 101"),
        ("gt100.00", "100.4 100.5 101"),
        ("ge100", "100 100.4 100.5 101"),
        ("lt100", "99 99.5 99.99"),
        ("le100", "99 99.5 99.99 100"),
        ("sa100", "100.4 100.5 101"),
        ("eb100", "99 99.5 99.99"),
        ("ne100", "99 100.5 101"),
        ("ne100.00", "99 99.5 99.99 100.4 100.5 101"),
        ("ap100", "99 99.5 99.99 100 100.4 100.5 101"),
        ("ap110.5", "99.5 99.99 100 100.4 100.5 101"),
        ("ap92", "99 99.5 99.99 100 100.4 100.5 101"),
        ("ap90", "99"),
    ],
)
def test_a_number_finds_what_it_rounds_from(asked: str, expected: str) -> None:
    assert found(asked, VALUES) == expected.split()
    [alternative] = criteria.number("probability", [asked]).alternatives
    assert [value for value in VALUES if matches(row(value), alternative)] == expected.split()


@pytest.mark.parametrize("stored", ["100", "100.0", "100.00", "1E+2", "1.0E2"])
def test_how_many_digits_the_record_has_does_not_matter(stored: str) -> None:
    for asked in ("100", "100.00", "1e2", "ge100", "le100.0", "ap100"):
        assert finds(asked, row(stored))
    for asked in ("ne100", "gt100", "lt100", "sa100", "eb100", "101", "100.1"):
        assert not finds(asked, row(stored))


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("100", "99.5", "100.5"),
        ("100.00", "99.995", "100.005"),
        ("1e2", "95", "105"),
        ("1E2", "95", "105"),
        ("1e+2", "95", "105"),
        ("1e 2", "95", "105"),
        ("-1e2", "-105", "-95"),
        ("1.0e2", "95", "105"),
        ("1.00e2", "99.5", "100.5"),
        ("12e2", "1150", "1250"),
        ("1e0", "0.5", "1.5"),
        ("8e-1", "0.75", "0.85"),
        ("0.8", "0.75", "0.85"),
        ("5.40e-3", "0.005395", "0.005405"),
        ("5.4", "5.35", "5.45"),
        ("005.4", "5.35", "5.45"),
        ("0", "-0.5", "0.5"),
        ("-5.4", "-5.45", "-5.35"),
    ],
)
def test_a_range_is_half_a_unit_of_the_last_digit_to_either_side(text: str, lo: str, hi: str) -> None:
    assert asked_bounds("eq", text) == asked_bounds("ne", text) == (Decimal(lo), Decimal(hi))


@pytest.mark.parametrize("prefix", ["gt", "lt", "ge", "le", "sa", "eb"])
def test_an_order_is_asked_of_the_number_itself(prefix: Prefix) -> None:
    assert asked_bounds(prefix, "1e2") == (Decimal(100), Decimal(100))
    assert asked_bounds(prefix, "5.40") == (Decimal("5.4"), Decimal("5.4"))


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("100", "90", "110"),
        ("-100", "-110", "-90"),
        ("5.4", "4.86", "5.94"),
        ("1", "0.5", "1.5"),
        ("0", "-0.5", "0.5"),
    ],
)
def test_approximately_is_a_tenth_and_no_less_than_equal(text: str, lo: str, hi: str) -> None:
    assert asked_bounds("ap", text) == (Decimal(lo), Decimal(hi))


def test_approximately_includes_both_its_ends() -> None:
    assert found("ap100", ("89.9", "90", "110", "110.1")) == ["90", "110"]


# Open ends, ranges and samples.


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("<5", {"ne": "4 5 6", "gt": "4", "ge": "4", "lt": "4 5 6", "le": "4 5 6", "eb": "5 6", "ap": "4 5"}),
        (
            "<=5",
            {"ne": "4 5 6", "gt": "4", "ge": "4 5", "lt": "4 5 6", "le": "4 5 6", "eb": "6", "ap": "4 5"},
        ),
        (">5", {"ne": "4 5 6", "gt": "4 5 6", "ge": "4 5 6", "lt": "6", "le": "6", "sa": "4 5", "ap": "5 6"}),
        (
            ">=5",
            {"ne": "4 5 6", "gt": "4 5 6", "ge": "4 5 6", "lt": "6", "le": "5 6", "sa": "4", "ap": "5 6"},
        ),
    ],
)
def test_a_comparator_leaves_one_side_open(stored: str, expected: dict[str, str]) -> None:
    for prefix in PREFIXES:
        asked = [number for number in "456" if finds(prefix + number, row(stored))]
        assert " ".join(asked) == expected.get(prefix, ""), prefix


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("eq10", False),
        ("eq0.1e2", True),
        ("ne10", True),
        ("gt11", True),
        ("gt12", False),
        ("ge12", True),
        ("lt9", True),
        ("lt8", False),
        ("le8", True),
        ("sa7", True),
        ("sa8", False),
        ("eb13", True),
        ("eb12", False),
        ("ap13.3", True),
        ("ap14", False),
    ],
)
def test_samples_from_8_to_12_are_a_range_of_which_both_ends_are_part(asked: str, expected: bool) -> None:
    samples = {"origin": {"value": 10, "code": "mV", "system": UCUM}, "data": "-2 E 2"}
    [sampled] = rows(samples, name="valueSampledData")
    assert finds(asked, sampled) is expected
    assert finds(f"{asked}|{UCUM}|mV", sampled) is expected


def test_an_age_is_found_in_any_unit_of_time_and_a_range_of_ages_by_its_ends() -> None:
    years = {"system": UCUM, "code": "a", "unit": "years"}

    def onset(**members: Any) -> QuantityRow:
        [only] = extract({"resourceType": "Condition", **members}, "https://node.example").quantities
        return only

    age, between = {"value": 2, **years}, {"low": {"value": 30, **years}, "high": {"value": 40, **years}}
    assert finds(f"24|{UCUM}|mo", onset(onsetAge=age))
    assert finds("2||years", onset(onsetAge=age))
    assert not finds(f"2|{UCUM}|mo", onset(onsetAge=age))
    assert finds(f"ge480|{UCUM}|mo", onset(onsetRange=between))
    assert not finds(f"gt480|{UCUM}|mo", onset(onsetRange=between))
    assert finds(f"gt100|{UCUM}|a", onset(onsetRange={"low": {"value": 30, **years}}))


def test_money_is_found_by_its_currency() -> None:
    price = {"resourceType": "ChargeItem", "priceOverride": {"value": Decimal("9.99"), "currency": "GBP"}}
    [only] = extract(price, "https://node.example").quantities
    for asked in ("9.99", "9.99||GBP", "9.99|urn:iso:std:iso:4217|GBP", "gt9.98|urn:iso:std:iso:4217|", "10"):
        assert finds(asked, only)
    for asked in ("9.99||EUR", "9.99|urn:iso:std:iso:4217|EUR", f"9.99|{UCUM}|GBP"):
        assert not finds(asked, only)


# Units.


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("5.4", True),
        ("5.4||mg", True),
        ("5.4||milligram", True),
        (f"5.4|{UCUM}|mg", True),
        (f"5.40|{UCUM}|mg", True),
        (f"5.4|{UCUM}|", True),
        (f"0.0054|{UCUM}|g", True),
        (f"5.40e-3|{UCUM}|g", True),
        (f"5400|{UCUM}|ug", True),
        (f"0.005|{UCUM}|g", True),
        (f"5.4|{UCUM}/|mg", True),
        (f"le5.4|{UCUM}|mg", True),
        (f"ap5.8|{UCUM}|mg", True),
        (f"lt1|{UCUM}|[gr]", True),
        (f"ne5.4|{UCUM}|g", True),
        (f"5.4|{UCUM}|g", False),
        (f"5.4|{UCUM}|mL", False),
        (f"ne5.4|{UCUM}|mL", False),
        (f"gt0|{UCUM}|1", False),
        (f"5.4|{UCUM}|MG", False),
        (f"5.4|{UCUM}|milligram", False),
        ("5.4||MG", False),
        ("5.4||g", False),
        ("0.0054||g", False),
        ("5.4|http://snomed.info/sct|mg", False),
        ("5.4|http://snomed.info/sct|", False),
        ("5.5", False),
    ],
)
def test_a_quantity_is_found_by_its_unit_and_by_what_converts_into_it(asked: str, expected: bool) -> None:
    assert finds(asked, row("5.4", "mg", unit="milligram")) is expected


def test_a_unit_that_is_not_understood_is_found_as_it_is_written() -> None:
    score = row("12", "(score)", unit="score")
    for asked in ("12", f"12|{UCUM}|(score)", "12||(score)", "12||score", f"gt11|{UCUM}|(score)"):
        assert finds(asked, score)
    for asked in (f"12|{UCUM}|{{score}}", f"12|{UCUM}|1", f"13|{UCUM}|(score)", "12|urn:x|(score)"):
        assert not finds(asked, score)


def test_a_unit_of_no_system_is_found_by_its_name_alone() -> None:
    plain = row("5.4", "", "", unit="mg")
    assert finds("5.4", plain) and finds("5.4||mg", plain)
    assert not finds(f"5.4|{UCUM}|mg", plain)


@pytest.mark.parametrize(
    ("asked", "value", "code"),
    [
        (f"37|{UCUM}|Cel", "98.6", "[degF]"),
        (f"gt310|{UCUM}|K", "37", "Cel"),
        (f"98.6|{UCUM}|[degF]", "37.0", "Cel"),
        (f"16|{UCUM}|kPa", "120", "mm[Hg]"),
        (f"72|{UCUM}|{{beats}}/min", "72", "/min"),
        (f"7.4|{UCUM}|[pH]", "7.40", "[pH]"),
        (f"4.5|{UCUM}|10*9/L", "4500", "/uL"),
        (f"5|{UCUM}|%", "0.05", "1"),
        (f"ap11|{UCUM}|[stone_av]", "70", "kg"),
        (f"5|{UCUM}|[iU]/L", "5", "m[IU]/mL"),
    ],
)
def test_clinical_units_are_converted(asked: str, value: str, code: str) -> None:
    assert finds(asked, row(value, code))


def test_the_question_of_a_composite_is_asked_of_its_component() -> None:
    component = {
        "code": {"coding": [{"code": "8480-6"}]},
        "valueQuantity": {"value": 120, "system": UCUM, "code": "mm[Hg]"},
    }
    values = extract({"resourceType": "Observation", "component": [component]}, "https://node.example")
    [pair] = [one for one in values.composites if one.parameter == "component-code-value-quantity"]
    [pressure] = pair.components[1].quantities
    assert finds(f"16|{UCUM}|kPa", pressure)


# Parsing.


def test_a_number_becomes_a_criterion_of_its_parameter() -> None:
    parsed = criteria.number("probability", ["gt0.8", "0.50"])
    assert parsed == NumberCriterion(
        "probability",
        (
            NumberAlternative("gt", Decimal("0.8"), Decimal("0.8")),
            NumberAlternative("eq", Decimal("0.495"), Decimal("0.505")),
        ),
    )


def test_a_quantity_becomes_a_criterion_with_what_its_unit_means() -> None:
    parsed = criteria.quantity("value-quantity", ["lt7", f"eq5.4|{UCUM}|mg", r"5||a\|b"])
    bounds = Decimal("5.35"), Decimal("5.45")
    grams = Decimal("0.00535"), Decimal("0.00545")
    assert parsed == QuantityCriterion(
        "value-quantity",
        (
            QuantityAlternative("lt", Decimal(7), Decimal(7)),
            QuantityAlternative("eq", *bounds, UCUM, "mg", *grams, "g"),
            QuantityAlternative("eq", Decimal("4.5"), Decimal("5.5"), "", "a|b"),
        ),
    )


NOT_NUMBERS = [
    "",
    "eq",
    "x",
    "5,4",
    "1/2",
    ".5",
    "5.",
    "+5",
    "--5",
    "5 ",
    " 5",
    "0x10",
    "1e",
    "1e1.5",
    "1_000",
    "NaN",
]
NOT_NUMBERS += [
    "Infinity",
    "-inf",
    "gtgt5",
    "eq 5",
    "GT5",
    "１",
    "1e101",
    "1e-101",
    "1e999999999",
    "1" * 200,
    "5\n",
]
NOT_NUMBERS += ["5\x00", "~5", ">5", "5mg", "5-6", r"\5", "5e٣"]


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_is_no_number_is_refused_by_name(text: str) -> None:
    for parse in (criteria.number, criteria.quantity):
        with pytest.raises(MalformedSearch, match=r"^p: ") as refused:
            parse("p", [text])
        assert refused.value.status == 400


@pytest.mark.parametrize(
    "text",
    ["5.4|mg", "5.4|", "5.4||", "|s|c", "5.4|s|c|d", "5.4|s|c|", r"5.4|s|a\b", "5.4|s|\x00", "5.4|s|\ud800"],
)
def test_a_quantity_in_another_form_is_refused_by_name(text: str) -> None:
    with pytest.raises(MalformedSearch, match=r"^p: "):
        criteria.quantity("p", [text])


def test_one_bad_alternative_spoils_the_search() -> None:
    with pytest.raises(MalformedSearch):
        criteria.quantity("p", ["5.4||mg", "x||mg"])


@given(st.text(max_size=30) | st.text("0123456789.eE+-|gtlap\\ ", max_size=15))
def test_any_other_text_is_parsed_or_refused(text: str) -> None:
    for parse in (criteria.number, criteria.quantity):
        try:
            parsed = parse("p", [text])
        except MalformedSearch:
            continue
        assert len(parsed.alternatives) == 1


# Laws.

numbers = st.decimals(-1_000, 1_000, places=2).map(str) | st.integers(-1_000, 1_000).map(str)
comparators = st.sampled_from(["", "<", "<=", ">", ">="])
units = st.sampled_from(["mg", "g", "[lb_av]", "Cel", "[degF]", "/min", "/h", "%", "[pH]", "(score)", ""])
stored = st.builds(
    lambda comparator, number, code: row(comparator + number, code), comparators, numbers, units
)
asked_of = st.builds(lambda number, code: f"{number}|{UCUM}|{code}" if code else number, numbers, units)


@given(stored, asked_of)
def test_eq_or_ne_finds_whatever_can_be_compared_and_never_both(row: QuantityRow, asked: str) -> None:
    comparable = finds("ge" + asked, row) or finds("le" + asked, row)
    assert finds("eq" + asked, row) + finds("ne" + asked, row) == comparable


@given(stored, asked_of)
def test_what_is_not_below_is_at_least_as_much_and_what_is_not_above_at_most(
    row: QuantityRow, asked: str
) -> None:
    ge, le, eb, sa, gt, lt = (finds(prefix + asked, row) for prefix in ("ge", "le", "eb", "sa", "gt", "lt"))
    comparable = ge or le
    assert ge + eb == le + sa == comparable
    assert gt <= ge and lt <= le and sa <= gt and eb <= lt


@given(st.builds(row, numbers, units), asked_of)
def test_a_value_is_less_equal_or_more(row: QuantityRow, asked: str) -> None:
    gt, lt, ge, le = (finds(prefix + asked, row) for prefix in ("gt", "lt", "ge", "le"))
    assert (gt, lt) == (finds("sa" + asked, row), finds("eb" + asked, row))
    if ge or le:
        assert gt + lt + (ge and le) == 1


@given(stored, asked_of)
def test_what_is_equal_is_approximately_so(row: QuantityRow, asked: str) -> None:
    assert finds("ap" + asked, row) or not finds(asked, row)


@given(st.builds(row, numbers, units), st.sampled_from(PREFIXES), st.data())
def test_a_value_is_found_in_its_own_unit_as_without_any(
    row: QuantityRow, prefix: Prefix, data: st.DataObject
) -> None:
    number = data.draw(st.just(str(row.value)) | numbers)
    in_unit = f"{prefix}{number}|{UCUM}|{escape(row.code)}" if row.code else f"{prefix}{number}"
    assert finds(in_unit, row) is finds(f"{prefix}{number}", row)


@given(st.decimals(-1_000, 1_000, places=3), st.sampled_from(["mg", "kPa", "mmol/L", "Cel", "mL"]))
def test_a_value_converted_exactly_is_found_where_it_came_from(number: Decimal, code: str) -> None:
    unit = canonical(code)
    assert unit is not None
    asked = f"{unit.of(number):f}|{UCUM}|{unit.unit}"
    assert finds(f"ge{asked}", row(str(number), code)) and finds(f"le{asked}", row(str(number), code))


# As SQL.


def conditions() -> Iterator[tuple[str, str]]:
    """(prefix, condition) of the table that says how a store asks."""
    for line in (matches.__doc__ or "").splitlines():
        prefix, _, rest = line.strip().partition("  ")
        if prefix in PREFIXES:
            yield prefix, rest.split("``")[1]


async def test_postgresql_finds_by_the_written_conditions_what_the_function_does(database: Database) -> None:
    written = dict(conditions())
    assert set(written) == set(PREFIXES)
    texts = ["<5", "<=5", ">5", ">=5", "4", "5", "5.0", "5.04", "5.5", "6", "-5", "0"]
    stored = [row(text, "mg") for text in texts]
    stored += rows({"low": {"value": 4}, "high": {"value": 6}}, name="valueRange")
    stored += rows({"origin": {"value": 5}, "data": "-0.2 0.2"}, name="valueSampledData")
    assert len(stored) == len(texts) + 1
    async with database.connection() as connection:
        for prefix, condition in written.items():
            for number in ("5", "5.0", "-5", "0", "6"):
                [asked] = criteria.quantity("p", [prefix + number]).alternatives
                sql = condition.replace(" a", " $1").replace(" b", " $2")
                found = await connection.fetch(
                    f"SELECT n, {sql} AS found FROM unnest($3::numeric[], $4::numeric[], $5::text[])"
                    " WITH ORDINALITY AS t (lo, hi, comparator, n)"
                    " WHERE ($1::numeric, $2::numeric) IS NOT NULL ORDER BY n",
                    asked.lo,
                    asked.hi,
                    [one.lo for one in stored],
                    [one.hi for one in stored],
                    [one.comparator for one in stored],
                )
                assert [one["found"] for one in found] == [matches(one, asked) for one in stored], (
                    prefix,
                    number,
                )


async def test_canonical_bounds_come_back_from_postgresql_as_they_went(database: Database) -> None:
    one = row("<72", "/min")
    async with database.connection() as connection:
        for bound in (one.canonical_lo, one.canonical_hi, INFINITY):
            assert await connection.fetchval("SELECT $1::numeric", bound) == bound
