"""How each R4 datatype becomes keys and rows, by the type of search parameter (R4 search, 3.1.1.4).

One table: parameter type → FHIR datatype → maker. A maker gives a sink, which takes a JSON value and writes into a
``Found``. Sinks never fail: a value of another shape than R4's leaves no row.
"""

from collections.abc import Callable, Mapping
from typing import Any

from app.fhir.dates import Span, period_span, span_of, timing_span
from app.fhir.definitions import Element, value_set
from app.fhir.fhirpath import Sink
from app.fhir.keys import below_keys, fold, fresh_key64, fresh_token_keys, key64, token_keys
from app.fhir.measures import (
    write_money,
    write_number,
    write_position,
    write_quantity,
    write_range,
    write_sampled,
)
from app.fhir.references import read_reference
from app.fhir.rows import DateRow, Found, Reference, StringRow, members_of, text_of, texts_of
from app.fhir.sounds import sound_key, sounds_of

BOOLEAN_SYSTEM = "http://hl7.org/fhir/special-values"

# Systems that R4 names for codes whose value set cannot be enumerated.
_NAMED_SYSTEMS = {"http://hl7.org/fhir/ValueSet/mimetypes": "urn:ietf:bcp:13"}

Maker = Callable[[str, Element | None], Sink]
"""From the parameter's code and the element it finds."""


# Tokens. They are compared exactly: a code system says whether its case matters, and most do not say; R4 lets a
# server choose. What a person may read of a token stands as a string under ``parameter:text``.


def _coding(parameter: str, element: Element | None) -> Sink:
    labelled = parameter + ":text"

    def write(value: Any, found: Found) -> None:
        found.tokens += token_keys(parameter, text_of(value, "system"), text_of(value, "code"))
        if display := text_of(value, "display"):
            found.strings.append(StringRow(labelled, fold(display), display))

    return write


def _concept(parameter: str, element: Element | None) -> Sink:
    labelled, coding = parameter + ":text", _coding(parameter, element)

    def write(value: Any, found: Found) -> None:
        for one in members_of(value, "coding"):
            coding(one, found)
        if text := text_of(value, "text"):
            found.strings.append(StringRow(labelled, fold(text), text))

    return write


def _identifier(parameter: str, element: Element | None) -> Sink:
    labelled = parameter + ":text"

    def write(value: Any, found: Found) -> None:
        text = text_of(value, "value")
        found.tokens += fresh_token_keys(parameter, text_of(value, "system"), text)
        kind = value.get("type") if type(value) is dict else None
        for one in members_of(kind, "coding") if text else ():
            system, code = text_of(one, "system"), text_of(one, "code")
            if system and code and text:
                found.tokens.append(fresh_key64(parameter, "of-type", system, code, text))
        if label := text_of(kind, "text"):
            found.strings.append(StringRow(labelled, fold(label), label))

    return write


def _contact(parameter: str, element: Element | None) -> Sink:
    """R4's table of token forms puts ``use`` where the system stands: ``telecom=home|555``."""

    def write(value: Any, found: Found) -> None:
        if text := text_of(value, "value"):
            found.tokens += fresh_token_keys(parameter, text_of(value, "use"), text)

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
        if text := text_of(value, "reference"):
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
        kind, id = text_of(value, "resourceType"), text_of(value, "id")
        if kind and id:
            _write_reference(parameter, f"{kind}/{id}", found)

    return write


def _uri(parameter: str, element: Element | None) -> Sink:
    def write(value: Any, found: Found) -> None:
        if type(value) is str:
            found.tokens.append(key64(parameter, "u", value))

    return write


def _uri_with_starts(parameter: str, element: Element | None) -> Sink:
    """Of a uri parameter, which ``:below`` may ask for; of a canonical also without its version."""

    def write(value: Any, found: Found) -> None:
        if type(value) is str:
            found.tokens.append(key64(parameter, "u", value))
            if "|" in value:
                found.tokens.append(key64(parameter, "u", value.partition("|")[0]))
            found.tokens += below_keys(parameter, value)

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
                if text := text_of(value, name):
                    found.strings.append(StringRow(parameter, fold(text), text))
                for one in texts_of(value, name):
                    found.strings.append(StringRow(parameter, fold(one), one))

        return write

    return make


def _sounding(*names: str) -> Maker:
    """The words of a text, or of these parts of a name, by their sound (``app.fhir.sounds``)."""

    def make(parameter: str, element: Element | None) -> Sink:
        def write(value: Any, found: Found) -> None:
            texts = [value] if type(value) is str else [text_of(value, name) or "" for name in names]
            texts += [one for name in names for one in texts_of(value, name)]
            for text in texts:
                found.tokens += [sound_key(parameter, sound) for sound in sounds_of(text)]

        return write

    return make


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
    "uri": {"uri": _uri_with_starts, "url": _uri_with_starts, "canonical": _uri_with_starts},
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
    "phonetic": {"HumanName": _sounding("family", "given", "text"), "string": _sounding()},
    "number": {"integer": write_number, "decimal": write_number, "Range": write_range},
    "quantity": {
        "Quantity": write_quantity,
        "Age": write_quantity,
        "Duration": write_quantity,
        "Money": write_money,
        "Range": write_range,
        "SampledData": write_sampled,
    },
    "special": {"Location.position": write_position},
}
"""Search parameter type, or its usage where that is another, → FHIR datatype → maker."""

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
