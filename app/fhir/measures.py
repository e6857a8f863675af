"""Numbers as searches compare them: quantities, amounts, ranges, samples and positions become rows.

Sinks as in ``app.fhir.writers``.
"""

from decimal import Context, Decimal, InvalidOperation
from typing import Any

from app.fhir.definitions import Element
from app.fhir.fhirpath import Sink
from app.fhir.rows import Found, Position, QuantityRow, text_of
from app.fhir.ucum import unit_of

CURRENCY_SYSTEM = "urn:iso:std:iso:4217"
INFINITY = Decimal("Infinity")
_HALF = Decimal("0.5")
_EXACT = Context(prec=400)
_FARTHEST = 100
"""Powers of ten beyond which a number is not indexed: nothing is measured there, and sums would lose digits."""


def number_of(value: Any) -> Decimal | None:
    """A JSON number with the digits it was written with; None when it is none, or beyond measure."""
    if type(value) is not Decimal and type(value) is not int:
        return None
    number = Decimal(value)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_FARTHEST or number.adjusted() > _FARTHEST:
        return None
    return number


def implied_range(number: Decimal) -> tuple[Decimal, Decimal]:
    """Half a unit of the last written digit to either side: ``5.40`` is ``[5.395, 5.405)`` (R4 search, number).

    That is what a search asks for. What is stored is the value itself: R4's table has ``100`` search for "values
    in the range [99.5 ... 100.5)", not for such whose own digits leave no more open than that.
    """
    exponent = number.as_tuple().exponent
    half = _HALF.scaleb(int(exponent), _EXACT)
    return _EXACT.subtract(number, half), _EXACT.add(number, half)


def write_number(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if (number := number_of(value)) is not None:
            found.quantities.append(QuantityRow(parameter, number, number, value=number))

    return write


def write_quantity(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        number = number_of(value.get("value")) if type(value) is dict else None
        if number is None:
            return
        comparator = text_of(value, "comparator") or ""
        found.quantities.append(_row(parameter, _compared(comparator, number), value, number, comparator))

    return write


def _compared(comparator: str, number: Decimal) -> tuple[Decimal, Decimal]:
    """``<`` and ``<=`` are everything below, ``>`` and ``>=`` everything above (Quantity.comparator)."""
    if comparator.startswith("<"):
        return -INFINITY, number
    if comparator.startswith(">"):
        return number, INFINITY
    return number, number


def _row(
    parameter: str,
    bounds: tuple[Decimal, Decimal],
    quantity: Any,
    value: Decimal | None = None,
    comparator: str = "",
) -> QuantityRow:
    """``bounds`` in the unit of ``quantity``, and in UCUM's base units when it is one of UCUM's."""
    system, code, unit = _unit(quantity)
    known = unit_of(system, code)
    if known is None:
        return QuantityRow(parameter, *bounds, system, code, unit, value, comparator)
    lo, hi = bounds
    least = known.of(lo)
    most = least if hi is lo else known.of(hi)
    return QuantityRow(parameter, lo, hi, system, code, unit, value, comparator, least, most, known.unit)


def _unit(quantity: Any) -> tuple[str, str, str]:
    return (
        text_of(quantity, "system") or "",
        text_of(quantity, "code") or "",
        text_of(quantity, "unit") or "",
    )


def write_money(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        number = number_of(value.get("value")) if type(value) is dict else None
        if number is not None:
            unit = (CURRENCY_SYSTEM, text_of(value, "currency") or "", "")
            found.quantities.append(QuantityRow(parameter, number, number, *unit, number))

    return write


def write_range(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if type(value) is not dict:
            return
        low, high = value.get("low"), value.get("high")
        least = number_of(low.get("value")) if type(low) is dict else None
        most = number_of(high.get("value")) if type(high) is dict else None
        if (least is None and most is None) or _differ(low, high):
            return
        bounds = (-INFINITY if least is None else least, INFINITY if most is None else most)
        found.quantities.append(_row(parameter, bounds, high if least is None else low))

    return write


def _differ(low: Any, high: Any) -> bool:
    """Whether they name two units, which R4 forbids ("the elements SHALL match"): nothing lies between them."""
    codes = [_unit(end)[:2] for end in (low, high) if text_of(end, "code")]
    return len(set(codes)) > 1


def write_sampled(parameter: str, element: Element | None) -> Sink:
    """From the least to the greatest sample; ``E``, ``L`` and ``U`` are no samples (SampledData.data)."""

    def write(value: Any, found: Found) -> None:
        origin = value.get("origin") if type(value) is dict else None
        zero = number_of(origin.get("value")) if type(origin) is dict else None
        samples = _samples(text_of(value, "data") or "")
        if zero is None or not samples:
            return
        factor = number_of(value.get("factor", 1)) or Decimal(1)
        lo, hi = sorted(_EXACT.fma(sample, factor, zero) for sample in (min(samples), max(samples)))
        found.quantities.append(_row(parameter, (lo, hi), origin))

    return write


def _samples(text: str) -> list[Decimal]:
    numbers = []
    for word in text.split():
        try:
            number = number_of(Decimal(word))
        except InvalidOperation:
            continue
        if number is not None:
            numbers.append(number)
    return numbers


def write_position(parameter: str, element: Element | None) -> Sink:
    """A place that is nowhere on Earth has no row (Location.position: "the same as … in KML")."""

    def write(value: Any, found: Found) -> None:
        if type(value) is not dict:
            return
        latitude, longitude = number_of(value.get("latitude")), number_of(value.get("longitude"))
        if latitude is None or longitude is None:
            return
        if abs(latitude) <= 90 and abs(longitude) <= 180:
            found.positions.append(Position(parameter, latitude, longitude))

    return write
