"""A UCUM code means exactly so many base units, or is refused; nothing is converted that is not alike."""

import csv
import json
import lzma
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from app.fhir.ucum import UCUM, Canonical, canonical, unit_of

TABLE = Path(str(find_spec("ucumvert").origin)).parent / "vendor"  # type: ignore[union-attr]  # it is installed
ESSENCE = ElementTree.parse(TABLE / "ucum-essence.xml").getroot()  # an installed file


def codes(kind: str) -> list[str]:
    return [one.attrib["Code"] for one in ESSENCE.iter(f"{{http://unitsofmeasure.org/ucum-essence}}{kind}")]


ATOMS = [*codes("base-unit"), *codes("unit")]


def known(code: str) -> Canonical:
    unit = canonical(code)
    assert unit is not None, code
    return unit


def measure(text: str) -> tuple[Decimal, str]:
    number, code = text.split(maxsplit=1)
    return known(code).of(Decimal(number)), known(code).unit


@pytest.mark.parametrize(
    ("code", "factor", "unit"),
    [
        ("g", 1, "g"),
        ("mg", Fraction(1, 1000), "g"),
        ("ug", Fraction(1, 1_000_000), "g"),
        ("kg/m2", 1000, "g.m-2"),
        ("mmol/L", 1, "m-3.mol"),
        ("mm[Hg]", 133_322, "g.m-1.s-2"),
        ("m[H2O]", 9_806_650, "g.m-1.s-2"),
        ("10*9/L", 10**12, "m-3"),
        ("10*-3", Fraction(1, 1000), "1"),
        ("/min", Fraction(1, 60), "s-1"),
        ("%", Fraction(1, 100), "1"),
        ("{score}", 1, "1"),
        ("1", 1, "1"),
        ("[iU]/L", 1000, "[iU].m-3"),
        ("[pH]", 1, "[pH]"),
        ("dB", Fraction(1, 10), "B"),
        ("[degF]", Fraction(5, 9), "K"),
        ("[ft_us]", Fraction(1200, 3937), "m"),
    ],
)
def test_a_code_is_so_many_base_units(code: str, factor: Fraction | int, unit: str) -> None:
    assert (known(code).factor, known(code).unit) == (factor, unit)


@pytest.mark.parametrize(
    "equal",
    [
        ("5.4 mg", "0.0054 g", "5400 ug", "0.0000054 kg"),
        ("1 [lb_av]", "0.45359237 kg", "16 [oz_av]"),
        ("1 [stone_av]", "14 [lb_av]", "6350.29318 g"),
        ("1 [in_i]", "2.54 cm", "0.0254 m"),
        ("37 Cel", "98.6 [degF]", "310.15 K", "37000 mCel"),
        ("-40 Cel", "-40 [degF]"),
        ("100 Cel", "80 [degRe]", "212 [degF]", "671.67 [degR]", "100 Cel{body}"),
        ("120 mm[Hg]", "12 cm[Hg]", "15.99864 kPa"),
        ("72 /min", "72 {beats}/min", "1.2 /s", "1.2 Hz", "4320 /h", "72 1/min", "72 min-1"),
        ("5 %", "0.05 1", "50 [ppth]", "0.05 {ratio}", "5 %{Hemoglobin}"),
        ("4.5 10*9/L", "4.5 10*3/uL", "4500 /mm3", "4500 {cells}/uL", "4.5 10^9/L"),
        ("98 mg/dL", "0.98 g/L", "980 ug/mL", "98 mg%", "98 mg/dl"),
        ("30 U/L", "30 umol/(min.L)", "30 umol/min/L", "0.5 ukat/L"),
        ("1 [IU]/mL", "1000 [iU]/L", "1 k[iU]/L"),
        ("2.5 mL/min/{1.73_m2}", "2.5 mL/min"),
        ("1 a", "12 mo", "365.25 d", "31557600 s"),
        ("3 g/(8.h){shift}", "3 g/(8.h)", "9 g/d"),
        ("1 N", "1 kg.m/s2", "1 m.kg.s-2", "1 kg.m.s-2", "1 J/m"),
        ("7 g/cm-2", "7 g.cm2"),
        ("1 10.L/min", "10 L/min"),
        ("100 /100{WBC}", "1 {WBC}", "1 {any other}"),
        ("20 dB", "2 B"),
    ],
)
def test_equal_measures_have_equal_canonical_values(equal: tuple[str, ...]) -> None:
    assert len({measure(one) for one in equal}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("g", "L"),
        ("m", "M"),
        ("mol/L", "/L"),
        ("mol/L", "eq/L"),
        ("mol/kg", "osm/kg"),
        ("eq/L", "osm/L"),
        ("[iU]/L", "[arb'U]/L"),
        ("[iU]/L", "U/L"),
        ("[iU]/L", "/L"),
        ("[CFU]/mL", "[PFU]/mL"),
        ("/[HPF]", "/[LPF]"),
        ("/[HPF]", "1"),
        ("[NTU]", "[FNU]"),
        ("[hnsf'U]", "1"),
        ("deg", "1"),
        ("[pH]", "1"),
        ("B", "1"),
        ("B", "B[V]"),
        ("{log_copies}/mL", "{copies}/mL"),
        ("{lgCopies}/ml", "/ml"),
        ("{Log}", "{Log_IU}"),
        ("Cel", "[pH]"),
    ],
)
def test_what_is_not_alike_is_never_compared(one: str, other: str) -> None:
    first, second = canonical(one), canonical(other)
    assert first is not None
    assert second is None or first.unit != second.unit


@pytest.mark.parametrize(
    "code",
    [
        "",
        " ",
        "mg ",
        "m g",
        "(score)",
        "ea",
        "TAB",
        "mcg",
        "mEq",
        "ml/hr",
        "mmin",
        "k%",
        "m²",
        "µg",
        "mg/",
        "mg//L",
        "(mg",
        "mg)",
        "()",
        "{",
        "{a}{b}",
        "{a{b}}",
        "m{é}",
        "[lb_av",
        "lb_av]",
        "2mg",
        "0",
        "mg/0",
        "m+-2",
        "m100",
        "Cel/min",
        "Cel{a}{b}",
        "Cel.{a}",
        "Cel2",
        "(Cel)",
        "m.[pH]",
        "Torr",
        "１",
        "m２",
    ],
)
def test_what_ucum_does_not_know_is_no_unit(code: str) -> None:
    assert canonical(code) is None


@pytest.mark.parametrize(
    "code",
    [
        "g" * 10**6,
        "(" * 150 + "g",
        "(" * 90 + "g" + ")" * 90,
        "Ym99.Ym99.Ym99",
        ".".join(["10*99"] * 30),
        "/".join(["10*99"] * 30),
        "m\x00",
        "{\x00}",
        "\ud800",
    ],
)
def test_a_hostile_code_costs_nothing_and_is_refused_or_small(code: str) -> None:
    unit = canonical(code)
    assert unit is None or unit.factor.numerator.bit_length() <= 1_000


def test_a_code_has_at_most_200_characters() -> None:
    assert canonical(".".join(["1"] * 100)) == canonical("1")
    assert canonical(".".join(["1"] * 101)) is None


@given(st.text(max_size=60) | st.text("mgkL%10*^.,/(){}[]'+-2 iUuH", max_size=60))
def test_no_text_makes_reading_fail(text: str) -> None:
    unit = canonical(text)
    assert unit is None or unit.factor > 0


def test_only_quantities_that_say_ucum_are_units() -> None:
    assert unit_of(UCUM, "mg") == unit_of("http://unitsofmeasure.org/", "mg") == canonical("mg")
    assert unit_of("urn:oid:2.16.840.1.113883.6.8", "mg") == canonical("mg")
    assert unit_of("", "mg") is None
    assert unit_of("http://snomed.info/sct", "mg") is None
    assert unit_of(UCUM, "") is None


# All of UCUM's table.


@pytest.mark.parametrize("code", ATOMS)
def test_every_unit_of_the_table_means_something_and_its_base_units_mean_themselves(code: str) -> None:
    unit = known(code)
    assert unit.factor > 0
    assert canonical(unit.unit) == Canonical(Fraction(1), Fraction(0), unit.unit)


def test_no_prefix_makes_one_unit_of_another() -> None:
    """Else ``cd`` could be a hundredth of a day."""
    spelt: dict[str, set[tuple[str, str]]] = {atom: {("", atom)} for atom in ATOMS}
    for prefix in codes("prefix"):
        for atom in ATOMS:
            if canonical(prefix + atom) is not None:
                spelt.setdefault(prefix + atom, set()).add((prefix, atom))
    metric = {one.attrib["Code"] for one in ESSENCE.iter() if one.get("isMetric") == "yes"} | set(
        codes("base-unit")
    )
    for ways in spelt.values():
        assert len({way for way in ways if way[0] == "" or way[1] in metric}) == 1, ways


def test_every_common_code_is_understood_but_the_one_that_the_table_lacks() -> None:
    with (TABLE / "ucum_examples.tsv").open(encoding="utf-8", newline="") as lines:
        common = [row["UCUM_CODE"] for row in csv.DictReader(lines, delimiter="\t")]
    assert len(common) > 800
    assert {code for code in common if canonical(code) is None} == {"Torr"}


def test_the_package_that_carries_the_table_is_not_loaded() -> None:
    question = (
        "import sys, app.fhir.ucum; print([n for n in ('ucumvert', 'pint', 'lark') if n in sys.modules])"
    )
    asked = subprocess.run([sys.executable, "-c", question], capture_output=True, check=True, text=True)
    assert asked.stdout.strip() == "[]"


# Laws.

linear = st.sampled_from([code for code in ATOMS if not known(code).offset and canonical(f"({code})")])
powers = st.integers(-3, 3).filter(bool)
numbers = st.decimals(-10_000, 10_000, places=6)


@given(linear, linear)
def test_the_canonical_of_a_product_is_the_product(one: str, other: str) -> None:
    product, quotient = known(f"({one}).({other})"), known(f"({one})/({other})")
    assert product.factor == known(one).factor * known(other).factor
    assert quotient.factor == known(one).factor / known(other).factor
    assert known(f"({product.unit})/({known(other).unit})").unit == known(one).unit
    assert known(f"({quotient.unit}).({known(other).unit})").unit == known(one).unit


@given(linear, powers)
def test_a_power_is_a_product_repeated(code: str, power: int) -> None:
    repeated = ("." if power > 0 else "/").join([code] * abs(power))
    assert known(f"{code}{power}") == known(repeated if power > 0 else f"1/{repeated}")


@given(st.lists(st.tuples(linear, powers), min_size=1, max_size=4), st.randoms())
def test_the_order_of_a_product_does_not_matter(parts: list[tuple[str, int]], random: Any) -> None:
    shuffled = random.sample(parts, len(parts))
    one, other = (".".join(f"{code}{power}" for code, power in order) for order in (parts, shuffled))
    assert canonical(one) == canonical(other)


@given(st.sampled_from(["mg", "mmol/L", "[lb_av]", "Cel", "[iU]/mL"]), st.text("abcXYZ 019_#", max_size=9))
def test_what_stands_in_braces_does_not_matter(code: str, note: str) -> None:
    assume(not note.lower().startswith(("lg", "log")))
    assert known(code) == known(f"{code}{{{note}}}")


@given(st.sampled_from(ATOMS), numbers)
@example("[degF]", Decimal("98.6"))
@example("Cel", Decimal("-273.15"))
@example("[ft_us]", Decimal(1))
def test_converting_back_gives_the_value_that_was_converted(code: str, number: Decimal) -> None:
    unit = known(code)
    exact = Fraction(number) * unit.factor + unit.offset
    converted = unit.of(number)
    assert abs(Fraction(converted) - exact) <= abs(exact) / 10**39
    back = (Fraction(converted) - unit.offset) / unit.factor
    assert abs(back - Fraction(number)) <= (abs(Fraction(number)) + abs(unit.offset / unit.factor)) / 10**38


@given(st.sampled_from(["mg", "mm[Hg]", "Cel", "10*9/L", "%", "[lb_av]"]), numbers)
def test_what_ends_in_decimals_is_converted_without_rounding(code: str, number: Decimal) -> None:
    assert Fraction(known(code).of(number)) == Fraction(number) * known(code).factor + known(code).offset


@given(st.sampled_from(ATOMS), numbers, numbers)
def test_conversion_keeps_the_order(code: str, one: Decimal, other: Decimal) -> None:
    unit = known(code)
    assert (one < other) == (unit.of(one) < unit.of(other))


@given(
    numbers, st.sampled_from([("/min", "/h", 60), ("/s", "/min", 60), ("L/h", "L/d", 24), ("/d", "/wk", 7)])
)
def test_values_that_do_not_end_are_equal_when_their_measures_are(
    number: Decimal, units: tuple[str, str, int]
) -> None:
    one, other, times = units
    assert known(one).of(number) == known(other).of(number * times)


@pytest.mark.parametrize("code", ["mg", "/min", "Cel", "[degF]"])
def test_infinity_stays_infinite(code: str) -> None:
    for infinity in (Decimal("Infinity"), Decimal("-Infinity")):
        assert known(code).of(infinity) == infinity


def test_a_code_is_read_once() -> None:
    assert canonical("mmol/(24.h)") is canonical("mmol/(24.h)")


# What others wrote.

NOT_UNDERSTOOD = {"(score)", "TAB", "drop", "ea", "mEq", "mcg", "ml/hr", "tbl"}
"""Said to be UCUM by Synthea ("(score)") and by examples of R4, and not: they are found as they are written."""


def quantities(value: Any) -> Iterator[str]:
    """Codes of UCUM, of quantities and in value sets alike."""
    if isinstance(value, dict):
        if value.get("system") == UCUM:
            yield from (
                one["code"] for one in (value, *value.get("concept", ())) if isinstance(one.get("code"), str)
            )
        for member in value.values():
            yield from quantities(member)
    elif isinstance(value, list):
        for member in value:
            yield from quantities(member)


def documents(path: Path) -> Iterator[Any]:
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        if ".ndjson" in path.name:
            yield from map(json.loads, lines)
        else:
            yield json.load(lines)


def test_every_code_in_the_shared_data_is_understood_or_named_as_not(shared_data: Path) -> None:
    written: set[str] = set()
    for path in sorted(shared_data.rglob("*")):
        if path.name.endswith((".json", ".ndjson", ".json.xz", ".ndjson.xz")):
            for document in documents(path):
                written |= set(quantities(document))
    assert len(written) > 1_000
    assert {"mg/dL", "mm[Hg]", "{score}", "/min", "Cel", "[pH]", "10*9/L"} <= written
    assert {code for code in written if canonical(code) is None} == NOT_UNDERSTOOD
