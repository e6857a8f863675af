"""What of a value is kept so that a search finds it: how each R4 datatype becomes keys and rows.

One table for each type of search parameter (R4 search, 3.1.1.4): FHIR datatype → a maker of sinks. A sink takes a
JSON value and writes into a ``Found``. Sinks never fail: a value of another shape than R4's leaves no row.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any, NamedTuple

from app.fhir.dates import Span, period_span, span_of, timing_span
from app.fhir.definitions import Element, value_set
from app.fhir.fhirpath import Sink
from app.fhir.keys import fold, fresh_key64, fresh_token_keys, key64, token_keys
from app.fhir.references import read_reference

BOOLEAN_SYSTEM = "http://hl7.org/fhir/special-values"
CURRENCY_SYSTEM = "urn:iso:std:iso:4217"

# Systems that R4 names for codes whose value set cannot be enumerated.
_NAMED_SYSTEMS = {"http://hl7.org/fhir/ValueSet/mimetypes": "urn:ietf:bcp:13"}


class DateRow(NamedTuple):
    """A stored range; ``hi`` is out."""

    parameter: str
    lo: datetime
    hi: datetime


class StringRow(NamedTuple):
    parameter: str
    folded: str
    exact: str


class QuantityRow(NamedTuple):
    """A quantity, number or amount. ``lo`` and ``hi`` are what its precision or comparator leaves open.

    ``value`` is the number itself, None for a Range or SampledData; bounds may be infinite.
    """

    parameter: str
    lo: Decimal
    hi: Decimal
    system: str = ""
    code: str = ""
    unit: str = ""
    value: Decimal | None = None
    comparator: str = ""


class Reference(NamedTuple):
    """A reference to a record: of this base (``type`` and ``id``), or whatever ``url`` names."""

    parameter: str
    type: str | None
    id: str | None
    url: str | None


class Position(NamedTuple):
    """Decimal degrees, WGS 84."""

    parameter: str
    latitude: Decimal
    longitude: Decimal


class IndexValues(NamedTuple):
    """All that searches may find one resource by."""

    tokens: tuple[int, ...] = ()
    """Keys of tokens, references and URIs; sorted, each once."""
    dates: tuple[DateRow, ...] = ()
    strings: tuple[StringRow, ...] = ()
    quantities: tuple[QuantityRow, ...] = ()
    references: tuple[Reference, ...] = ()
    composites: tuple["Composite", ...] = ()
    positions: tuple[Position, ...] = ()


class Composite(NamedTuple):
    """One element's values for a composite: a search must find all of its parts here, not spread over elements."""

    parameter: str
    components: tuple[IndexValues, ...]
    """In the composite's order, each under its component's own code."""


class Found:
    """What has been written so far for one resource."""

    __slots__ = (
        "base_url",
        "composites",
        "dates",
        "positions",
        "quantities",
        "references",
        "resource",
        "strings",
        "tokens",
    )

    def __init__(self, resource: Mapping[str, Any], base_url: str) -> None:
        self.resource = resource
        self.base_url = base_url
        self.tokens: list[int] = []
        self.dates: list[DateRow] = []
        self.strings: list[StringRow] = []
        self.quantities: list[QuantityRow] = []
        self.references: list[Reference] = []
        self.composites: list[Composite] = []
        self.positions: list[Position] = []

    def values(self) -> IndexValues:
        return IndexValues(
            tuple(sorted(set(self.tokens))),
            tuple(dict.fromkeys(self.dates)),
            tuple(dict.fromkeys(self.strings)),
            tuple(dict.fromkeys(self.quantities)),
            tuple(dict.fromkeys(self.references)),
            tuple(self.composites),
            tuple(dict.fromkeys(self.positions)),
        )


Maker = Callable[[str, Element | None], Sink]
"""From the parameter's code and the element it finds."""


def _text(value: Any, name: str) -> str | None:
    """A member that is a string and not empty."""
    found = value.get(name) if type(value) is dict else None
    return found if type(found) is str and found else None


def _texts(value: Any, name: str) -> Iterator[str]:
    found = value.get(name) if type(value) is dict else None
    for one in found if type(found) is list else ():
        if type(one) is str and one:
            yield one


def _members(value: Any, name: str) -> list[Any]:
    found = value.get(name) if type(value) is dict else None
    return found if type(found) is list else []


# Tokens. They are compared exactly: a code system says whether its case matters, and most do not say; R4 lets a
# server choose. What a person may read of a token stands as a string under ``parameter:text``.


def _coding(parameter: str, element: Element | None) -> Sink:
    labelled = parameter + ":text"

    def write(value: Any, found: Found) -> None:
        found.tokens += token_keys(parameter, _text(value, "system"), _text(value, "code"))
        if display := _text(value, "display"):
            found.strings.append(StringRow(labelled, fold(display), display))

    return write


def _concept(parameter: str, element: Element | None) -> Sink:
    labelled, coding = parameter + ":text", _coding(parameter, element)

    def write(value: Any, found: Found) -> None:
        for one in _members(value, "coding"):
            coding(one, found)
        if text := _text(value, "text"):
            found.strings.append(StringRow(labelled, fold(text), text))

    return write


def _identifier(parameter: str, element: Element | None) -> Sink:
    labelled = parameter + ":text"

    def write(value: Any, found: Found) -> None:
        text = _text(value, "value")
        found.tokens += fresh_token_keys(parameter, _text(value, "system"), text)
        kind = value.get("type") if type(value) is dict else None
        for one in _members(kind, "coding") if text else ():
            system, code = _text(one, "system"), _text(one, "code")
            if system and code and text:
                found.tokens.append(fresh_key64(parameter, "of-type", system, code, text))
        if label := _text(kind, "text"):
            found.strings.append(StringRow(labelled, fold(label), label))

    return write


def _contact(parameter: str, element: Element | None) -> Sink:
    """R4's table of token forms puts ``use`` where the system stands: ``telecom=home|555``."""

    def write(value: Any, found: Found) -> None:
        if text := _text(value, "value"):
            found.tokens += fresh_token_keys(parameter, _text(value, "use"), text)

    return write


def _code(parameter: str, element: Element | None) -> Sink:
    """A code's system is implied by its required binding."""
    systems = systems_of(element.binding) if element and element.binding else {}
    every = _NAMED_SYSTEMS.get(element.binding or "") if element else None

    def write(value: Any, found: Found) -> None:
        if type(value) is str:
            for system in systems.get(value, (every,)):
                found.tokens += token_keys(parameter, system, value)

    return write


def systems_of(canonical: str) -> Mapping[str, tuple[str, ...]]:
    """Code → the systems that a value set takes it from; empty when it cannot be enumerated."""
    systems: dict[str, tuple[str, ...]] = {}
    for system, codes in (value_set(canonical) or {}).items():
        for code in codes:
            systems[code] = (*systems.get(code, ()), system)
    return systems


def _boolean(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if type(value) is bool:
            found.tokens += token_keys(parameter, BOOLEAN_SYSTEM, "true" if value else "false")

    return write


def _plain(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if type(value) is str:
            found.tokens += fresh_token_keys(parameter, None, value)

    return write


# References and URIs.


def _reference(parameter: str, element: Element | None) -> Sink:
    identifier = _identifier(parameter + ":identifier", None)

    def write(value: Any, found: Found) -> None:
        if type(value) is not dict:
            return
        if text := _text(value, "reference"):
            _write_reference(parameter, text, found)
        if "identifier" in value:
            identifier(value["identifier"], found)

    return write


def _write_reference(parameter: str, text: str, found: Found) -> None:
    """A contained resource is part of the record and never found by itself; everything else is kept."""
    literal = read_reference(text, found.base_url)
    if literal.where == "contained":
        return
    if literal.where == "here":
        found.tokens.append(fresh_key64(parameter, "r", literal.relative))
        if literal.version:
            found.tokens.append(fresh_key64(parameter, "r", f"{literal.relative}/_history/{literal.version}"))
        found.references.append(Reference(parameter, literal.type, literal.id, None))
    else:
        found.tokens.append(fresh_key64(parameter, "r", text))
        found.references.append(Reference(parameter, None, None, text))


def _whole_resource(parameter: str, element: Element | None) -> Sink:
    """Bundle.entry[0].resource: the reference is to the resource that stands there."""

    def write(value: Any, found: Found) -> None:
        kind, id = _text(value, "resourceType"), _text(value, "id")
        if kind and id:
            _write_reference(parameter, f"{kind}/{id}", found)

    return write


def _uri(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if type(value) is str:
            found.tokens.append(key64(parameter, "u", value))

    return write


def _canonical(parameter: str, element: Element | None) -> Sink:
    """Found with its version and without."""

    def write(value: Any, found: Found) -> None:
        if type(value) is str:
            found.tokens.append(key64(parameter, "u", value))
            if "|" in value:
                found.tokens.append(key64(parameter, "u", value.partition("|")[0]))

    return write


# Dates.


def _dates(span: Callable[[Any], Span | None]) -> Maker:
    def make(parameter: str, element: Element | None) -> Sink:
        def write(value: Any, found: Found) -> None:
            if (range_ := span(value)) is not None:
                found.dates.append(DateRow(parameter, *range_))

        return write

    return make


def _moment(value: Any) -> Span | None:
    return span_of(value) if type(value) is str else None


# Strings.


def _string(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if type(value) is str and value:
            found.strings.append(StringRow(parameter, fold(value), value))

    return write


def _parts(*names: str) -> Maker:
    """The parts of a name or an address, each found by itself; a part may be a string or a list of them."""

    def make(parameter: str, element: Element | None) -> Sink:
        def write(value: Any, found: Found) -> None:
            for name in names:
                if text := _text(value, name):
                    found.strings.append(StringRow(parameter, fold(text), text))
                for one in _texts(value, name):
                    found.strings.append(StringRow(parameter, fold(one), one))

        return write

    return make


# Quantities and numbers.

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
    """Half a unit of the last written digit to either side: ``5.40`` is ``[5.395, 5.405)`` (R4 search, number)."""
    exponent = number.as_tuple().exponent
    half = _HALF.scaleb(int(exponent), _EXACT)
    return _EXACT.subtract(number, half), _EXACT.add(number, half)


def _number(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if (number := number_of(value)) is not None:
            found.quantities.append(QuantityRow(parameter, *implied_range(number), value=number))

    return write


def _quantity(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        number = number_of(value.get("value")) if type(value) is dict else None
        if number is None:
            return
        comparator = _text(value, "comparator") or ""
        lo, hi = _compared(comparator, number)
        found.quantities.append(QuantityRow(parameter, lo, hi, *_unit(value), number, comparator))

    return write


def _compared(comparator: str, number: Decimal) -> tuple[Decimal, Decimal]:
    """``<`` and ``<=`` are everything below, ``>`` and ``>=`` everything above (Quantity.comparator)."""
    if comparator.startswith("<"):
        return -INFINITY, number
    if comparator.startswith(">"):
        return number, INFINITY
    return implied_range(number)


def _unit(quantity: Any) -> tuple[str, str, str]:
    return (
        _text(quantity, "system") or "",
        _text(quantity, "code") or "",
        _text(quantity, "unit") or "",
    )


def _money(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        number = number_of(value.get("value")) if type(value) is dict else None
        if number is not None:
            unit = (CURRENCY_SYSTEM, _text(value, "currency") or "", "")
            found.quantities.append(QuantityRow(parameter, *implied_range(number), *unit, number))

    return write


def _range(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if type(value) is not dict:
            return
        low, high = value.get("low"), value.get("high")
        least = number_of(low.get("value")) if type(low) is dict else None
        most = number_of(high.get("value")) if type(high) is dict else None
        if least is None and most is None:
            return
        bounds = (-INFINITY if least is None else least, INFINITY if most is None else most)
        found.quantities.append(QuantityRow(parameter, *bounds, *_unit(high if least is None else low)))

    return write


def _sampled(parameter: str, element: Element | None) -> Sink:
    """From the least to the greatest sample; ``E``, ``L`` and ``U`` are no samples (SampledData.data)."""

    def write(value: Any, found: Found) -> None:
        origin = value.get("origin") if type(value) is dict else None
        zero = number_of(origin.get("value")) if type(origin) is dict else None
        samples = _samples(_text(value, "data") or "")
        if zero is None or not samples:
            return
        factor = number_of(value.get("factor", 1)) or Decimal(1)
        lo, hi = sorted(_EXACT.fma(sample, factor, zero) for sample in (min(samples), max(samples)))
        found.quantities.append(QuantityRow(parameter, lo, hi, *_unit(origin)))

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


def _position(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if type(value) is not dict:
            return
        latitude, longitude = number_of(value.get("latitude")), number_of(value.get("longitude"))
        if latitude is not None and longitude is not None:
            found.positions.append(Position(parameter, latitude, longitude))

    return write


NAME_PARTS = ("family", "given", "prefix", "suffix", "text")
ADDRESS_PARTS = ("line", "city", "district", "state", "postalCode", "country", "text")

MAKERS: Mapping[str, Mapping[str, Maker]] = {
    "token": {
        "Coding": _coding,
        "CodeableConcept": _concept,
        "Identifier": _identifier,
        "ContactPoint": _contact,
        "code": _code,
        "boolean": _boolean,
        "string": _plain,
        "id": _plain,
        "uri": _plain,
    },
    "reference": {
        "Reference": _reference,
        "Resource": _whole_resource,
        "canonical": _canonical,
        "uri": _uri,
    },
    "uri": {"uri": _uri, "url": _uri, "canonical": _canonical},
    "date": {
        "date": _dates(_moment),
        "dateTime": _dates(_moment),
        "instant": _dates(_moment),
        "Period": _dates(period_span),
        "Timing": _dates(timing_span),
    },
    "string": {
        "string": _string,
        "markdown": _string,
        "HumanName": _parts(*NAME_PARTS),
        "Address": _parts(*ADDRESS_PARTS),
    },
    "number": {"integer": _number, "decimal": _number, "Range": _range},
    "quantity": {
        "Quantity": _quantity,
        "Age": _quantity,
        "Duration": _quantity,
        "Money": _money,
        "Range": _range,
        "SampledData": _sampled,
    },
    "special": {"Location.position": _position},
}
"""Search parameter type → FHIR datatype → maker."""

WITHOUT_ROWS = frozenset(
    {
        ("date", "string"),  # Immunization.occurrenceString, Procedure.performedString: words
        ("date", "Age"),  # Procedure.performedAge, performedRange: relative to a birth
        ("date", "Range"),
        ("reference", "Attachment"),  # Consent.sourceAttachment: the document itself
        ("token", "Quantity"),  # Group.characteristic.value in the composite of tokens
        ("token", "Range"),
        ("token", "Reference"),
    }
)
"""Datatypes that an expression reaches and that hold nothing its type of search could compare."""
