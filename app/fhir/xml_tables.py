"""How R4's elements stand in XML: what may be inside what, what is an attribute, how values are written (xml.html)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from json.encoder import encode_basestring

from app.errors import MalformedBody
from app.fhir.definitions import RESOURCE_TYPES, Element, is_primitive, json_names, type_definition
from app.fhir.narrative import XHTML
from app.fhir.text import LONGEST_NUMBER, parse

FHIR = "http://hl7.org/fhir"

Encode = Callable[[str], str | None]
"""A primitive's value in XML as JSON; None when it has not the form of its type."""


@dataclass(frozen=True, slots=True)
class Place:
    """An element as it may stand inside another. Members are JSON's, with quotes and colon."""

    step: str
    """Its part of a FHIRPath: ``value`` for ``valueQuantity``."""
    member: str
    """Empty for a resource, which is the value of the element around it and no member."""
    companion: str
    """The member that has a primitive's id and extensions."""
    repeats: bool
    type_name: str
    """What is inside; ``Resource`` for an element around a resource, ``Element`` for a primitive."""
    is_primitive: bool
    holds_resource: bool
    attributes: Mapping[str, str]
    """Attribute → member; a primitive's ``value`` is not among them."""
    encode: Encode


def attributes_of(type_name: str) -> tuple[str, ...]:
    """The members of a type that XML writes as attributes.

    They are "extension URLs in the url attribute on an extension, and the id property on elements (but not on
    resources, where the resource id is an element)" (xml.html).
    """
    if type_definition(type_name).kind == "resource":
        return ()
    return ("id", "url") if type_name == "Extension" else ("id",)


def shown(name: str) -> str | None:
    """A name of the sender's may hold anything, a patient's identifier too; only a FHIR-like one is repeated."""
    return name if re.fullmatch(r"_?[A-Za-z][A-Za-z0-9]{0,63}", name, re.ASCII) else None


@cache
def inside(type_name: str) -> Mapping[str, Place]:
    """Name, after its namespace and a space → what may stand inside an element of this type."""
    if type_name == "Resource":
        return {f"{FHIR} {name}": _resource(name) for name in RESOURCE_TYPES}
    attributes = attributes_of(type_name)
    return {
        f"{XHTML if concrete == 'xhtml' else FHIR} {name}": _place(name, element, concrete)
        for name, (element, concrete) in json_names(type_name).items()
        if name not in attributes
    }


def _resource(name: str) -> Place:
    return Place(name, "", "", False, name, False, name == "Resource", {}, encode_basestring)


OUTERMOST = _resource("Resource")
"""The document itself, as an element around the resource."""


def _place(name: str, element: Element, concrete: str) -> Place:
    simple = is_primitive(concrete)
    type_name = "Element" if simple else concrete
    return Place(
        step=element.name,
        member=f'"{name}":',
        companion=f'"_{name}":',
        repeats=element.repeats,
        type_name=type_name,
        is_primitive=simple,
        holds_resource=concrete == "Resource",
        attributes={attribute: f'"{attribute}":' for attribute in attributes_of(type_name)},
        encode=_ENCODINGS.get(concrete, encode_basestring),
    )


# Values that JSON writes without quotes.

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)|\+[1-9][0-9]*")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?P<exponent>[eE][+-]?[0-9]+)?")


def _whole(value: str) -> str | None:
    """R4 allows a plus sign, JSON does not (datatypes.html#integer)."""
    return value.removeprefix("+") if len(value) <= LONGEST_NUMBER and _WHOLE.fullmatch(value) else None


def _decimal(value: str) -> str | None:
    """R4's form is JSON's, to the digit; an exponent may lead beyond what ``parse`` reads."""
    found = _DECIMAL.fullmatch(value) if len(value) <= LONGEST_NUMBER else None
    return value if found and not (found["exponent"] and _is_out_of_range(value)) else None


def _is_out_of_range(number: str) -> bool:
    try:
        parse(f'{{"number":{number}}}')
    except MalformedBody:
        return True
    return False


_ENCODINGS: Mapping[str, Encode] = {
    "boolean": {"true": "true", "false": "false"}.get,
    "decimal": _decimal,
    "integer": _whole,
    "positiveInt": _whole,
    "unsignedInt": _whole,
}
