"""FHIR XML to FHIR JSON (xml.html, json.html): one pass over the document, and no tree."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from json.encoder import encode_basestring
from typing import Any, NoReturn
from xml.parsers import expat

from app.errors import MalformedBody
from app.fhir.narrative import XHTML
from app.fhir.text import DEEPEST
from app.fhir.xml_narrative import div_in_json
from app.fhir.xml_tables import FHIR, OUTERMOST, Place, inside, shown

DEEPEST_NARRATIVE = 512
"""Elements of a narrative inside one another; browsers stop there too."""

_TOO_DEEP = f"there are more than {DEEPEST} levels"
_SPACE = " \t\r\n"
_DIV = f"{XHTML} div"
_CLOSING_DIV = re.compile(rb"</(?:[^\s<>/:]+:)?div[ \t\r\n]*>")
_NARRATIVE = inside("Narrative")[_DIV]
_SCHEMA_LOCATION = "http://www.w3.org/2001/XMLSchema-instance schemaLocation"


def from_xml(data: bytes | str) -> str:
    """The resource in XML that ``data`` is, as a JSON text that ``text.parse`` accepts.

    Raises MalformedBody with line, column and, where there is one, the element as FHIRPath. Refused are: what is not
    well-formed XML 1.0 in UTF-8; document type declarations, and with them every entity; elements that R4 does not
    know or that are in another namespace (XInclude's too); attributes and text where R4 has none; a second value where
    R4 has one; numbers and booleans that JSON cannot write as such; more than ``DEEPEST`` levels of JSON. An
    ``xsi:schemaLocation`` of the outermost element is ignored: "Exchanged content SHALL NOT" have it, and often has.
    """
    return _Reading(_utf_8(data)).json()


def _utf_8(data: bytes | str) -> bytes:
    try:
        document = data.encode("utf-8") if isinstance(data, str) else data
        document.decode("utf-8")
    except UnicodeError as error:
        raise MalformedBody("The body is not well-formed XML: it is not UTF-8.") from error
    # Expat would take it for UTF-16, whatever encoding it is told, and no XML has U+0000.
    if b"\0" in document:
        raise MalformedBody("The body is not well-formed XML: it is not UTF-8, or has U+0000.")
    return document


class _Open:
    """An element that has begun, as far as it is known as JSON."""

    __slots__ = ("has_companions", "inside", "level", "members", "place", "value")

    def __init__(self, place: Place, level: int) -> None:
        self.place = place
        self.inside = inside(place.type_name)
        self.level = level
        """How many objects and arrays of JSON its members are in."""
        self.members: dict[str, Any] = {}
        """Member → JSON, or a list of JSON."""
        self.value: str | None = None
        """A primitive's, as JSON."""
        self.has_companions = False

    def json(self) -> str:
        if self.place.holds_resource:
            resource: str = self.members[""]
            return resource
        if self.has_companions:
            _align(self.members)
        members = [
            name + (json if json.__class__ is str else f"[{','.join(json)}]")
            for name, json in self.members.items()
        ]
        return "{" + ",".join(members) + "}"

    def keep(self, place: Place, json: str) -> None:
        if place.repeats:
            self.members.setdefault(place.member, []).append(json)
        else:
            self.members[place.member] = json

    def keep_primitive(self, place: Place, value: str | None, beside: str | None) -> None:
        """``beside`` are its id and extensions."""
        if not place.repeats:
            self.members |= {place.member: value} if value else {}
            self.members |= {place.companion: beside} if beside else {}
            return
        values = self.members.setdefault(place.member, [])
        values.append(value or "null")
        if beside:
            companions = self.members.setdefault(place.companion, [])
            companions += ["null"] * (len(values) - 1 - len(companions))
            companions.append(beside)
            self.has_companions = True


def _align(members: dict[str, Any]) -> None:
    """Nulls fill up the shorter of an array of primitives and the one beside it (json.html#primitive)."""
    for companion in [name for name in members if name.startswith('"_')]:
        name = '"' + companion[2:]
        if isinstance(members[companion], list):
            values = members[name]
            members[companion] += ["null"] * (len(values) - len(members[companion]))
            if values.count("null") == len(values):
                del members[name]


class _Reading:
    """One document on its way. Its methods are called by the parser, those at the end by themselves."""

    def __init__(self, document: bytes) -> None:
        self.document = document
        self.open = [_Open(OUTERMOST, 1)]
        self.top = self.open[0]
        self.primitive: Place | None = None
        """One that has begun with nothing but a value. It joins the open elements only when more comes."""
        self.value = ""
        """That value as JSON."""
        self.declared: dict[str, list[str]] = {}
        """Prefix → the namespaces that it stands for, innermost last."""
        self.narrative = (0, 0)
        """Where a div begins, and how many elements are open in it."""
        self.parser = expat.ParserCreate("utf-8", " ")

    def json(self) -> str:
        self.parser.ordered_attributes = True
        self.parser.XmlDeclHandler = self.xml_declaration
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.StartNamespaceDeclHandler = self.namespace
        self.parser.EndNamespaceDeclHandler = self.namespace_end
        self.read_elements()
        try:
            self.parser.Parse(self.document, True)
        except expat.ExpatError as error:
            raise self.refusal(expat.ErrorString(error.code), what="well-formed XML") from error
        finally:
            # The parser and its handlers know each other; parted, they do not wait for the garbage collector.
            del self.parser
        return self.top.json()

    # The document

    def xml_declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if version != "1.0":
            self.refuse("XML 1.0 is needed")
        if encoding is not None and encoding.upper() != "UTF-8":
            self.refuse("UTF-8 is needed, and it declares another encoding")

    def doctype(self, *_: Any) -> None:
        self.refuse("a document type declaration is not allowed")

    def namespace(self, prefix: str | None, uri: str | None) -> None:
        self.declared.setdefault(prefix or "", []).append(uri or "")

    def namespace_end(self, prefix: str | None) -> None:
        self.declared[prefix or ""].pop()

    # Elements

    def read_elements(self) -> None:
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text

    def start(self, name: str, attributes: Sequence[str]) -> None:
        if self.primitive is not None:
            self.push(self.primitive).value = self.value
            self.primitive = None
        top = self.top
        place = top.inside.get(name)
        if place is None:
            self.refuse_element(name)
        if place.repeats:
            if top.level >= DEEPEST:
                self.refuse(_TOO_DEEP, place)
        elif place.member in top.members or place.companion in top.members:
            self.refuse("R4 has this element only once", place)
        if place.is_primitive and len(attributes) == 2 and attributes[0] == "value":
            self.value = place.encode(attributes[1]) or self.refuse_value(place)
            self.primitive = place
        elif name == _DIV:
            self.start_narrative()
        else:
            self.push(place)
            if attributes:
                self.take(place, attributes)

    def push(self, place: Place) -> _Open:
        is_resource = self.top.place.holds_resource
        level = self.top.level + (0 if is_resource else 1 + place.repeats)
        if level > DEEPEST:
            self.refuse(_TOO_DEEP, place)
        self.top = _Open(place, level)
        self.open.append(self.top)
        if is_resource:
            self.top.members['"resourceType":'] = f'"{place.step}"'
        return self.top

    def take(self, place: Place, attributes: Sequence[str]) -> None:
        for name, value in zip(attributes[::2], attributes[1::2], strict=True):
            if name == "value" and place.is_primitive:
                self.top.value = place.encode(value) or self.refuse_value()
            elif name in place.attributes:
                self.top.members[place.attributes[name]] = encode_basestring(value)
            elif name != _SCHEMA_LOCATION or len(self.open) > 2:
                self.refuse("R4 has no such attribute here")

    def end(self, name: str) -> None:
        if self.primitive is not None:
            self.top.keep(self.primitive, self.value)
            self.primitive = None
            return
        ended, place = self.top, self.top.place
        if place.holds_resource and not ended.members:
            self.refuse("a resource is needed here")
        self.open.pop()
        self.top = self.open[-1]
        if not place.is_primitive:
            self.top.keep(place, ended.json())
        elif ended.members or ended.value is None:
            self.top.keep_primitive(place, ended.value, ended.json())
        else:
            self.top.keep_primitive(place, ended.value, None)

    def text(self, text: str) -> None:
        if text.strip(_SPACE):
            self.refuse("there is text between elements, where R4 has none")

    # A narrative's div, which stays as it is

    def start_narrative(self) -> None:
        self.narrative = (self.parser.CurrentByteIndex, 1)
        self.parser.StartElementHandler = self.start_in_narrative
        self.parser.EndElementHandler = self.end_in_narrative
        self.parser.CharacterDataHandler = None

    def start_in_narrative(self, name: str, attributes: Sequence[str]) -> None:
        if not name.startswith(XHTML + " "):
            self.refuse("an element in a narrative is not in XHTML's namespace", _NARRATIVE)
        begin, depth = self.narrative
        if depth >= DEEPEST_NARRATIVE:
            self.refuse(f"there are more than {DEEPEST_NARRATIVE} levels in a narrative", _NARRATIVE)
        self.narrative = (begin, depth + 1)

    def end_in_narrative(self, name: str) -> None:
        begin, depth = self.narrative
        self.narrative = (begin, depth - 1)
        if depth > 1:
            return
        markup = self.document[begin : self.end_of_narrative()].decode("utf-8")
        try:
            div = div_in_json(markup, self.declared)
        except ValueError as error:
            raise self.refusal("an attribute in a narrative is in a namespace", _NARRATIVE) from error
        self.top.keep(_NARRATIVE, encode_basestring(div))
        self.read_elements()

    def end_of_narrative(self) -> int:
        """The parser is at the closing tag; or, when that is the opening one too, already behind it."""
        here = self.parser.CurrentByteIndex
        closing = _CLOSING_DIV.match(self.document, here)
        return closing.end() if closing else here

    # What is refused

    def refuse_element(self, name: str) -> NoReturn:
        namespace, _, local = name.rpartition(" ")
        step = shown(local)
        if f"{XHTML} {local}" in self.top.inside:
            self.refuse(f"a narrative's div has to be in the namespace {XHTML}", step)
        if namespace != FHIR:
            self.refuse(f"an element is not in the namespace {FHIR}", step)
        if self.top.place.holds_resource:
            self.refuse("the element is not a resource type of R4, and a resource is needed here", step)
        self.refuse("R4 knows no such element here", step)

    def refuse_value(self, at: Place | None = None) -> NoReturn:
        self.refuse("the value has not the form of its type", at)

    def refuse(self, reason: str, at: Place | str | None = None) -> NoReturn:
        raise self.refusal(reason, at)

    def refusal(self, reason: str, at: Place | str | None = None, *, what: str = "FHIR XML") -> MalformedBody:
        """``at`` is an element that is about to begin, or a name for one."""
        line, column = self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        return MalformedBody(
            f"The body is not {what}: {reason}, at line {line}, column {column}.",
            expression=".".join(self.steps(at)) or None,
        )

    def steps(self, at: Place | str | None) -> Iterator[str]:
        """The parts of a FHIRPath; a resource is one only when nothing is around it."""
        for around, opened in pairwise(self.open):
            yield from _steps(around, opened.place)
        if self.primitive is not None:
            yield from _steps(self.top, self.primitive)
        if isinstance(at, str):
            yield at
        elif at is not None:
            yield from _steps(self.top, at)


def _steps(around: _Open, place: Place) -> Iterator[str]:
    if place.repeats:
        yield f"{place.step}[{len(around.members.get(place.member, ()))}]"
    elif place.member or around.place is OUTERMOST:
        yield place.step
