"""Units of measure: what a UCUM code means in base units, exactly (Unified Code for Units of Measure, 2.2).

``canonical("mg")`` is a thousandth of ``g``, ``canonical("mm[Hg]")`` is 133.322 times 1000 ``g.m-1.s-2``. Values can
be compared when their canonical units are equal. UCUM's table is read whole and unchanged from the package that
carries it, since its licence allows no other made from it (docs/adr/0013).

Where UCUM says "number" for what is more than one, a search would find what is not alike. So moles, equivalents
and osmoles (how one becomes another depends on the substance), microscope fields, units of turbidity and the like
are kept apart, as UCUM itself keeps its arbitrary units: each can be compared with its own multiples only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache, lru_cache
from importlib.util import find_spec
from math import lcm
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree

from app.fhir.systems import canonical_system

UCUM: Final = "http://unitsofmeasure.org"

_LONGEST: Final = 200
"""Characters of a code; the longest that R4 lists has 32."""
_MOST_BITS: Final = 1_000
"""Of a factor's numerator and denominator; the codes that R4 lists need 219."""

_EXACT: Final = Context(prec=2_000)
_ROUNDED: Final = Context(prec=40)
"""For what does not end in decimals, as beats a minute in seconds do not."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """A value of a unit is ``factor`` times as many of ``unit``, plus ``offset``: 20 ``Cel`` is 293.15 ``K``.

    ``unit`` is a product of base units whatever order it was written in (``g.m-1.s-2``; ``1`` for a number), is a
    UCUM code itself, and its own canonical unit. A scale that bends (pH, decibel) has its own name there.
    """

    factor: Fraction
    offset: Fraction
    unit: str
    _times: Decimal = field(init=False, repr=False, compare=False)
    _plus: Decimal = field(init=False, repr=False, compare=False)
    _over: Decimal | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        over = _without_twos_and_fives(lcm(self.factor.denominator, self.offset.denominator))
        object.__setattr__(self, "_times", _decimal(self.factor * over))
        object.__setattr__(self, "_plus", _decimal(self.offset * over))
        object.__setattr__(self, "_over", Decimal(over) if over > 1 else None)

    def of(self, number: Decimal) -> Decimal:
        """``number`` in the canonical unit: exact, or to 40 digits when it does not end. Infinity stays.

        Never turns an order round, and gives equal values for equal measures, whatever units they come in.
        """
        product = _EXACT.fma(number, self._times, self._plus)
        return product if self._over is None else _ROUNDED.divide(product, self._over)


def _without_twos_and_fives(number: int) -> int:
    for prime in (2, 5):
        while number % prime == 0:
            number //= prime
    return number


def _decimal(fraction: Fraction) -> Decimal:
    """``fraction`` ends in decimals."""
    return _EXACT.divide(Decimal(fraction.numerator), Decimal(fraction.denominator))


def unit_of(system: str, code: str) -> Canonical | None:
    """The unit that a Quantity's system and code name; None when they name none of UCUM's."""
    if not code or (system != UCUM and canonical_system(system) != UCUM):
        return None
    return canonical(code)


def canonical(code: str) -> Canonical | None:
    """What ``code`` (case-sensitive) means; None when it is no UCUM code."""
    return _canonical(code) if 0 < len(code) <= _LONGEST else None


class _NotAUnit(ValueError):
    pass


@lru_cache(maxsize=4_096)
def _canonical(code: str) -> Canonical | None:
    try:
        tokens = _tokens(code)
        return _special(tokens) or _ordinary(code, tokens)
    except _NotAUnit:
        return None


# "5 {log_copies}/mL" is not 5 a millilitre, though UCUM says that braces mean nothing.
_LOGARITHM: Final = re.compile(r"\{(?:log|lg)", re.IGNORECASE)


def _ordinary(code: str, tokens: list[str]) -> Canonical:
    product = _Reader(tokens).unit()
    if _LOGARITHM.search(code):
        return Canonical(Fraction(1), Fraction(0), code)
    return Canonical(product.factor, Fraction(0), product.text())


_ZEROS: Final = {"Cel": Fraction("273.15"), "degF": Fraction("459.67"), "degRe": Fraction("218.52")}
"""How far below its 0 a scale of temperature begins, by UCUM's name of its function."""


def _special(tokens: list[str]) -> Canonical | None:
    """A unit with a scale of its own, alone: such "cannot take part in any algebraic operations" (UCUM, 22)."""
    if len(tokens) > 2 or not all(token[0] == "{" for token in tokens[1:]):
        return None
    factor, code = _split(tokens[0]) or (Fraction(1), "")
    atom = _ATOMS.get(code)
    if atom is None or not atom.scale:
        return None
    if atom.scale not in _ZEROS:
        return Canonical(factor, Fraction(0), code)
    degree = _Reader(_tokens(atom.unit)).unit()
    size = atom.value * degree.factor
    return Canonical(factor * size, _ZEROS[atom.scale] * size, degree.text())


# What is written (UCUM, 2).


class _Product(NamedTuple):
    """``powers`` of base units, and how many of that."""

    factor: Fraction
    powers: Mapping[str, int]

    def times(self, other: "_Product", exponent: int = 1) -> "_Product":
        factor = self.factor * other.factor**exponent
        if max(factor.numerator.bit_length(), factor.denominator.bit_length()) > _MOST_BITS:
            raise _NotAUnit
        powers = dict(self.powers)
        for unit, power in other.powers.items():
            powers[unit] = powers.get(unit, 0) + power * exponent
        return _Product(factor, powers)

    def text(self) -> str:
        parts = [
            unit + (str(power) if power != 1 else "") for unit, power in sorted(self.powers.items()) if power
        ]
        return ".".join(parts) or "1"


_NUMBER_ONE: Final = _Product(Fraction(1), {})

_TOKEN: Final = re.compile(
    r"[./()]"
    r"|\{[ -z|~]*\}"  # R4 lists codes with a space in braces, which UCUM has not foreseen
    r"|(?:[^./(){}\[\]\s]|\[[^\[\]{}\s]*\])+"
)
_SIMPLE: Final = re.compile(r"(10[*^]|(?:[^0-9+\-\[\]]|\[[^\[\]]*\])+)([+-]?[0-9]{1,2})?")


def _tokens(code: str) -> list[str]:
    tokens = _TOKEN.findall(code)
    if "".join(tokens) != code:
        raise _NotAUnit
    return tokens


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self._left = tokens[::-1]

    def unit(self) -> _Product:
        product = self._term(_NUMBER_ONE if self._next() == "/" else self._component())
        if self._left:
            raise _NotAUnit
        return product

    def _next(self) -> str:
        return self._left[-1] if self._left else ""

    def _take(self) -> str:
        if not self._left:
            raise _NotAUnit
        return self._left.pop()

    def _term(self, product: _Product) -> _Product:
        while self._next() in (".", "/"):
            sign = 1 if self._take() == "." else -1
            product = product.times(self._component(), sign)
        return product

    def _component(self) -> _Product:
        token = self._take()
        if token[0] == "{":
            return _NUMBER_ONE
        product = self._inside() if token == "(" else _simple(token)  # noqa: S105  # a parenthesis
        if self._next().startswith("{"):
            self._take()
        return product

    def _inside(self) -> _Product:
        product = self._term(self._component())
        if self._take() != ")":
            raise _NotAUnit
        return product


def _simple(token: str) -> _Product:
    if token.isdecimal() and token.isascii():
        return _Product(_positive(int(token)), {})
    found = _SIMPLE.fullmatch(token)
    split = _split(found[1]) if found else None
    if found is None or split is None:
        raise _NotAUnit
    factor, code = split
    return _NUMBER_ONE.times(_Product(factor, {}).times(_meaning(code)), int(found[2] or 1))


def _positive(number: int) -> Fraction:
    if not number:
        raise _NotAUnit
    return Fraction(number)


def _split(symbol: str) -> tuple[Fraction, str] | None:
    """The prefix's factor and the unit; None when ``symbol`` is no unit, or one that takes no prefix has one."""
    if symbol in _ATOMS:
        return Fraction(1), symbol
    for prefix, factor in _PREFIXES.items():
        atom = _ATOMS.get(symbol.removeprefix(prefix)) if symbol.startswith(prefix) else None
        if atom and atom.metric:
            return factor, symbol.removeprefix(prefix)
    return None


@cache
def _meaning(code: str) -> _Product:
    atom = _ATOMS[code]
    if atom.scale:
        raise _NotAUnit
    if not atom.unit:
        return _Product(Fraction(1), {code: 1})
    return _Product(atom.value, {}).times(_Reader(_tokens(atom.unit)).unit())


# The table.


class _Atom(NamedTuple):
    metric: bool
    """Takes prefixes."""
    value: Fraction = Fraction(1)
    unit: str = ""
    """What ``value`` counts; empty for a base unit and what is kept apart like one."""
    scale: str = ""
    """The function's name when values are not simply multiplied."""


_IN_XML: Final = "{http://unitsofmeasure.org/ucum-essence}"
_KEPT_APART: Final = frozenset({"mol", "eq", "osm"})


def _table() -> Path:
    # Found without being imported: the package builds a parser and loads a library of units, neither needed here.
    package = find_spec("ucumvert")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "the table of units comes with the package ucumvert, which is not installed"
        )
    return Path(package.origin).parent / "vendor" / "ucum-essence.xml"


def _read_atom(element: ElementTree.Element) -> _Atom:
    value = next(element.iter(_IN_XML + "value"))
    metric = element.attrib["isMetric"] == "yes"
    if element.get("isSpecial") == "yes":
        function = next(value.iter(_IN_XML + "function"))
        name, size, unit = (function.attrib[key] for key in ("name", "value", "Unit"))
        return _Atom(metric, Fraction(size), unit, name)
    if element.attrib["Code"] in _KEPT_APART or _is_called_a_number(element, value):
        return _Atom(metric)
    return _Atom(metric, Fraction(value.attrib["value"]), value.attrib["Unit"])


def _is_called_a_number(element: ElementTree.Element, value: ElementTree.Element) -> bool:
    return value.attrib["Unit"] == "1" and element.get("class") != "dimless"


def _read() -> tuple[Mapping[str, Fraction], Mapping[str, _Atom]]:
    root = ElementTree.parse(_table()).getroot()  # noqa: S314  # a file of an installed package, not input
    prefixes = {
        one.attrib["Code"]: Fraction(next(one.iter(_IN_XML + "value")).attrib["value"])
        for one in root.iter(_IN_XML + "prefix")
    }
    atoms = {one.attrib["Code"]: _Atom(metric=True) for one in root.iter(_IN_XML + "base-unit")}
    atoms |= {one.attrib["Code"]: _read_atom(one) for one in root.iter(_IN_XML + "unit")}
    return prefixes, atoms


_PREFIXES, _ATOMS = _read()
