"""FHIR JSON to FHIR XML (xml.html). The rule for a member is made when one is first met, from ``definitions``."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

from app.errors import NotAcceptable
from app.fhir.definitions import RESOURCE_TYPES, Element, is_primitive, json_names
from app.fhir.text import parse
from app.fhir.xml_narrative import REPLACEMENT, UNCARRIED, div_in_xml
from app.fhir.xml_tables import FHIR, attributes_of, shown

Write = Callable[[Any, dict[str, Any], list[str]], None]
"""Appends to the list what a member is in XML; the second argument is the object that has the member.

Each item of the list is one opening tag, one closing tag or something whole."""

Rule = tuple[int, str, Write]
"""Where the member's element stands among the others, the member's name, and how it is written."""

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'


def to_xml(text: str, *, pretty: bool = False) -> str:
    """A resource's JSON ``text`` as FHIR XML, to be encoded as UTF-8; ``pretty`` gives each element its own line.

    Raises MalformedBody when ``text`` is not strict JSON (``text.parse``), and NotAcceptable, which names the element,
    when something has no place in FHIR XML: a member that R4 does not know, a list where R4 has one value. A null
    or an empty list says nothing and is left out; ``{}`` is an empty element.
    """
    resource = _LITERALLY.decode(parse(text).text)
    written: list[str] = []
    try:
        _write_resource(resource, written, f' xmlns="{FHIR}"')
    except _UnwritableError as error:
        error.steps.append(_type_of(resource) or "Resource")
        raise NotAcceptable(str(error), expression=".".join(reversed(error.steps))) from error
    return _DECLARATION + ("\n" + "\n".join(_lines(written)) + "\n" if pretty else "".join(written))


# A number is the characters that it was written with, as it will be in XML.
_LITERALLY = json.JSONDecoder(parse_float=str, parse_int=str)


class _UnwritableError(Exception):
    """What has no place in XML. ``steps`` say where, innermost first; each caller adds its own on the way out."""

    def __init__(self, sentence: str, step: str | None = None) -> None:
        super().__init__(f"The answer cannot be written as FHIR XML, only as JSON: {sentence}")
        self.steps = [step] if step else []


def _lines(written: Sequence[str]) -> Iterator[str]:
    depth = 0
    for item in written:
        closes = item.startswith("</")
        depth -= closes
        yield "  " * depth + item
        # A div is one item with several tags; in a value, < is escaped.
        depth += not (closes or item.endswith("/>") or "<" in item[1:])


# Objects


def _type_of(resource: Any) -> str | None:
    name = resource.get("resourceType") if isinstance(resource, dict) else None
    return name if isinstance(name, str) and name in RESOURCE_TYPES else None


def _write_resource(resource: Any, written: list[str], declaration: str = "") -> None:
    name = _type_of(resource)
    if name is None:
        raise _UnwritableError("here has to be a resource with a resourceType of R4.")
    _write_object(f"<{name}{declaration}", f"</{name}>", _members(name), resource, written)


def _write_object(
    opening: str, closing: str, members: "_Members", value: dict[str, Any], written: list[str]
) -> None:
    """``opening`` lacks its end, which depends on whether there is anything inside."""
    written.append(opening + ">")
    before = len(written)
    for _, name, write in sorted([members[name] for name in value]):
        write(value[name], value, written)
    if len(written) > before:
        written.append(closing)
    else:
        written[-1] = opening + "/>"


class _Members(dict[str, Rule]):
    """JSON member → rule, made when the member is first met. Names that R4 does not know are not kept."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.names = json_names(type_name)
        self.order = {name: place for place, name in enumerate(self.names)}
        self.attributes = attributes_of(type_name)

    def __missing__(self, name: str) -> Rule:
        self[name] = rule = self._made(name)
        return rule

    def _made(self, name: str) -> Rule:
        if name in self.attributes or (name == "resourceType" and self.type_name in RESOURCE_TYPES):
            return (-1, name, _write_nothing)
        if name in self.names:
            return (self.order[name], name, _rule(name, *self.names[name]))
        plain = name.removeprefix("_")
        element, concrete = self.names.get(plain, (None, ""))
        if element is None or plain in self.attributes or concrete == "xhtml" or not is_primitive(concrete):
            raise _UnwritableError("R4 knows no such element here.", shown(name))
        return (self.order[plain], name, _companion_rule(plain, element))


@cache
def _members(type_name: str) -> _Members:
    return _Members(type_name)


def _write_nothing(value: Any, parent: dict[str, Any], written: list[str]) -> None:
    """It is a tag's name or an attribute."""


# Elements

WriteItem = Callable[[Any, list[str]], None]


def _rule(name: str, element: Element, concrete: str) -> Write:
    if concrete == "xhtml":
        return _placed(element, _write_div)
    if is_primitive(concrete):
        return _primitive_rule(name, element)
    return _placed(element, _wrapped_resource(name) if concrete == "Resource" else _complex(name, concrete))


def _placed(element: Element, write: WriteItem) -> Write:
    """``write`` for the element's value, or for each of its values; what fails is told where it stands."""
    step = element.name

    def one(value: Any, parent: dict[str, Any], written: list[str]) -> None:
        if value is None:
            return
        try:
            write(value, written)
        except _UnwritableError as error:
            error.steps.append(step)
            raise

    def many(values: Any, parent: dict[str, Any], written: list[str]) -> None:
        for index, item in enumerate(_items(values, step)):
            if item is not None:
                try:
                    write(item, written)
                except _UnwritableError as error:
                    error.steps.append(f"{step}[{index}]")
                    raise

    return many if element.repeats else one


def _items(values: Any, step: str) -> list[Any]:
    if values is None:
        return []
    if values.__class__ is not list:
        raise _UnwritableError("here has to be an array.", step)
    items: list[Any] = values
    return items


def _complex(name: str, concrete: str) -> WriteItem:
    opening, closing, members = f"<{name}", f"</{name}>", _members(concrete)

    def write(value: Any, written: list[str]) -> None:
        _refuse_all_but_objects(value)
        _write_object(opening + _attributes(members, value), closing, members, value, written)

    return write


def _refuse_all_but_objects(value: Any) -> None:
    if value.__class__ is not dict:
        raise _UnwritableError("here has to be an object.")


def _attributes(members: "_Members", value: dict[str, Any]) -> str:
    written = ""
    for name in members.attributes:
        if (attribute := value.get(name)) is not None:
            if attribute.__class__ is not str:
                raise _UnwritableError("here has to be a string.", name)
            written += f' {name}="{_value(attribute)}"'
    return written


def _wrapped_resource(name: str) -> WriteItem:
    opening, closing = f"<{name}>", f"</{name}>"

    def write(value: Any, written: list[str]) -> None:
        written.append(opening)
        _write_resource(value, written)
        written.append(closing)

    return write


def _write_div(value: Any, written: list[str]) -> None:
    if value.__class__ is not str:
        raise _UnwritableError("here has to be a string of XHTML.")
    written.append(div_in_xml(value))


# Primitives


def _primitive_rule(name: str, element: Element) -> Write:
    beginning, companion, is_single = f'<{name} value="', "_" + name, not element.repeats

    def write_value(value: Any, written: list[str]) -> None:
        written.append(f'{beginning}{_value(value)}"/>')

    plain = _placed(element, write_value)
    extended = _placed(element, _extended(name))

    def write(value: Any, parent: dict[str, Any], written: list[str]) -> None:
        if companion in parent:
            extended(_paired(element, value, parent[companion]), parent, written)
        elif is_single and value.__class__ is str:
            written.append(f'{beginning}{_value(value)}"/>')
        else:
            plain(value, parent, written)

    return write


def _companion_rule(name: str, element: Element) -> Write:
    """``_name``: id and extensions of a primitive (json.html#primitive). With a value, that has written both."""
    extended = _placed(element, _extended(name))

    def write(companion: Any, parent: dict[str, Any], written: list[str]) -> None:
        if name not in parent:
            extended(_paired(element, None, companion), parent, written)

    return write


def _paired(element: Element, value: Any, companion: Any) -> Any:
    """Each value with what stands beside it; in arrays, nulls keep the two aligned."""
    if not element.repeats:
        return _pair(value, companion)
    values, companions = _items(value, element.name), _items(companion, element.name)
    return [_pair(*both) for both in zip_longest(values, companions)]


def _pair(value: Any, companion: Any) -> tuple[Any, Any] | None:
    return None if value is None and companion is None else (value, companion)


def _extended(name: str) -> WriteItem:
    opening, closing, members = f"<{name}", f"</{name}>", _members("Element")

    def write(pair: tuple[Any, Any], written: list[str]) -> None:
        value, companion = pair[0], {} if pair[1] is None else pair[1]
        _refuse_all_but_objects(companion)
        plain = "" if value is None else f' value="{_value(value)}"'
        _write_object(opening + _attributes(members, companion) + plain, closing, members, companion, written)

    return write


def _value(value: Any) -> str:
    """A primitive's value as it stands between double quotes."""
    if value.__class__ is str:
        # Most have nothing to escape, and search is faster than sub.
        return _NEEDS_ESCAPE.sub(_escape, value) if _NEEDS_ESCAPE.search(value) else value
    if value is True or value is False:
        return "true" if value else "false"
    raise _UnwritableError("here has to be a string, a number or a boolean.")


_NEEDS_ESCAPE = re.compile(f'[&<"\t\n\r{UNCARRIED.pattern[1:]}')
# Unescaped, an attribute's white space would be read as spaces (XML 1.0, section 3.3.3).
_ESCAPES = {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}


def _escape(character: re.Match[str]) -> str:
    return _ESCAPES.get(character[0], REPLACEMENT)
