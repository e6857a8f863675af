"""Numbers and quantities as searches ask for them, and which rows each prefix finds (R4 search, 3.1.1.4.5, 6 and 11).

``100`` asks for all that rounds to it, ``[99.5, 100.5)``, and ``100.00`` for ``[99.995, 100.005)``. With ``gt``,
``lt``, ``ge``, ``le``, ``sa`` and ``eb`` "the implicit precision of the number is ignored": there ``100`` is 100.
"""

import re
from dataclasses import dataclass
from decimal import Context, Decimal

from app.fhir.dates import Prefix
from app.fhir.measures import implied_range, number_of
from app.fhir.rows import QuantityRow

_EXACT = Context(prec=400)
_TENTH = Decimal("0.1")


@dataclass(frozen=True, slots=True)
class NumberAlternative:
    """``prefix`` of the number: ``eq`` and ``ne`` of ``[lo, hi)``, ``ap`` of ``[lo, hi]``; else it is both."""

    prefix: Prefix
    lo: Decimal
    hi: Decimal


@dataclass(frozen=True, slots=True)
class QuantityAlternative(NumberAlternative):
    """A number of a unit; without ``system`` and ``code``, of any.

    ``code`` without ``system`` is a code or the text of a unit. With a ``canonical_unit`` the unit is UCUM's, and
    its canonical bounds say it all: a row is compared by its own.
    """

    system: str = ""
    code: str = ""
    canonical_lo: Decimal | None = None
    canonical_hi: Decimal | None = None
    canonical_unit: str = ""


# In a search, a ``+`` that was not escaped arrives as a space.
_ASKED = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+ -]?[0-9]{1,3})?")
_LONE_DIGIT = re.compile(r"-?[0-9][eE][+ ]?[0-9]+")


def asked_bounds(prefix: Prefix, text: str) -> tuple[Decimal, Decimal] | None:
    """What ``prefix`` of a number compares with; None when ``text`` is no number, or beyond measure (1E100).

    ``ap`` is 10 % to either side, and never less than ``eq`` finds.
    """
    number = number_of(Decimal(text.replace(" ", "+"))) if _ASKED.fullmatch(text) else None
    if number is None:
        return None
    if prefix in ("eq", "ne"):
        return _meant(text, number)
    if prefix == "ap":
        lo, hi = _meant(text, number)
        tenth = _EXACT.multiply(abs(number), _TENTH)
        return min(lo, _EXACT.subtract(number, tenth)), max(hi, _EXACT.add(number, tenth))
    return number, number


def _meant(text: str, number: Decimal) -> tuple[Decimal, Decimal]:
    """The range that the digits imply. R4 has ``1e2`` mean ``[95, 105)``: one digit more than is written."""
    if _LONE_DIGIT.fullmatch(text) and number.as_tuple().exponent != 0:
        number = _EXACT.multiply(number, Decimal("1.0"))
    return implied_range(number)


def matches(row: QuantityRow, alternative: NumberAlternative) -> bool:
    """Whether a search for ``alternative`` finds ``row``, a row of its parameter.

    As SQL over a stored row, ``a`` and ``b`` the bounds asked, the canonical ones on both sides when there are any:

    ======  ==========================================================
    eq      ``lo >= a AND hi < b``
    ne      ``NOT (lo >= a AND hi < b)``
    gt      ``hi > a``: it may be above
    lt      ``lo < a``: it may be below
    ge      ``NOT (hi < a OR hi = a AND comparator = '<')``: not ``eb``
    le      ``NOT (lo > a OR lo = a AND comparator = '>')``: not ``sa``
    sa      ``lo > a OR lo = a AND comparator = '>'``: it is above
    eb      ``hi < a OR hi = a AND comparator = '<'``: it is below
    ap      ``lo <= b AND hi >= a``
    ======  ==========================================================

    Only what can be compared is found, by ``ne`` too. By what is asked:

    ============================  ===============================================
    ``5.4``                       every row
    ``5.4||mg``                   ``code = 'mg' OR unit = 'mg'``
    ``5.4|system|mg``, not UCUM   ``system = 'system' AND code = 'mg'``
    ``5.4|system|``               ``system = 'system'``
    a unit of UCUM                ``canonical_unit = 'g'``
    ============================  ===============================================
    """
    asked = alternative.lo, alternative.hi
    given = row.lo, row.hi
    if isinstance(alternative, QuantityAlternative):
        if alternative.canonical_lo is not None and alternative.canonical_hi is not None:
            if row.canonical_lo is None or row.canonical_hi is None:
                return False
            asked = alternative.canonical_lo, alternative.canonical_hi
            given = row.canonical_lo, row.canonical_hi
        if not _comparable(row, alternative):
            return False
    return _found(alternative.prefix, *given, row.comparator, *asked)


def _comparable(row: QuantityRow, alternative: QuantityAlternative) -> bool:
    if alternative.canonical_unit:
        return row.canonical_unit == alternative.canonical_unit
    if alternative.system:
        return row.system == alternative.system and alternative.code in ("", row.code)
    return alternative.code in ("", row.code, row.unit)


def _found(prefix: Prefix, lo: Decimal, hi: Decimal, comparator: str, a: Decimal, b: Decimal) -> bool:
    contained = lo >= a and hi < b
    above = lo > a or (lo == a and comparator == ">")
    below = hi < a or (hi == a and comparator == "<")
    match prefix:
        case "eq":
            return contained
        case "ne":
            return not contained
        case "gt":
            return hi > a
        case "lt":
            return lo < a
        case "ge":
            return not below
        case "le":
            return not above
        case "sa":
            return above
        case "eb":
            return below
        case "ap":
            return lo <= b and hi >= a
