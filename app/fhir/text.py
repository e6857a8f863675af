"""The custodian's text is the record: read it strictly, change it only where the server may.

Everything here works on spans of the text and leaves every other byte as it was sent.
"""

import html
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, NamedTuple, NoReturn

from app.errors import MalformedBody
from app.fhir.definitions import RESOURCE_TYPES, json_names

DEEPEST = 64
"""Objects and arrays inside one another, the outermost counted."""

LONGEST_NUMBER = 64
LARGEST_EXPONENT = 400

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A body as text and as a value to look at; the value is never written back."""

    text: str
    value: dict[str, Any]


def parse(body: str | bytes) -> Parsed:
    """``body`` as one strict JSON object in UTF-8: decimals as Decimal, integers as int.

    Refused with MalformedBody, which names line and column where it can: other encodings, NaN and Infinity,
    a member name twice in one object, more than ``DEEPEST`` levels, lone surrogates, U+0000, numbers beyond
    any use, anything but an object. A byte order mark is dropped (RFC 8259 section 8.1).
    """
    text, value = _read(body)
    if not isinstance(value, dict):
        raise _malformed("an object is needed")
    _refuse_unusable(text, value)
    return Parsed(text, value)


def parse_array(body: str | bytes) -> tuple[str, list[Any]]:
    """``body`` as text and as a value, read as strictly as by ``parse``, but one JSON array."""
    text, value = _read(body)
    if not isinstance(value, list):
        raise _malformed("an array is needed")
    _refuse_unusable(text, value)
    return text, value


def read_value(text: str) -> Any:
    """The value of a piece of a text that was parsed: decimals as Decimal, integers as int."""
    return _STRICT.decode(text)


def _read(body: str | bytes) -> tuple[str, Any]:
    text = _decoded(body)
    try:
        return text, _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise _malformed(error.msg, text, error.pos) from error
    except _TwiceError as error:
        raise _malformed(f"a member name ({_shown(error.name)}) occurs twice in an object") from error
    except RecursionError as error:
        raise _malformed(f"more than {DEEPEST} levels") from error
    except (InvalidOperation, ValueError) as error:
        raise _malformed("a number is out of range") from error


def _refuse_unusable(text: str, value: dict[str, Any] | list[Any]) -> None:
    _refuse_depth(text, value)
    _refuse_unstorable_characters(text, value)


def _decoded(body: str | bytes) -> str:
    try:
        if isinstance(body, bytes):
            return body.decode("utf-8").removeprefix("\ufeff")
        if not body.isascii():
            body.encode("utf-8")
    except UnicodeError as error:
        raise _malformed("it is not UTF-8") from error
    return body.removeprefix("\ufeff")


class _TwiceError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return members


def _number(literal: str) -> Decimal:
    value = Decimal(literal) if len(literal) <= LONGEST_NUMBER else Decimal("Infinity")
    if not -LARGEST_EXPONENT < value.adjusted() < LARGEST_EXPONENT or value.is_infinite():
        raise InvalidOperation
    return value


def _whole(literal: str) -> int:
    if len(literal) > LONGEST_NUMBER:
        raise InvalidOperation
    return int(literal)


def _no_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is not JSON")


_STRICT = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_int=_whole, parse_constant=_no_constant
)


def _malformed(reason: str, text: str = "", position: int | None = None) -> MalformedBody:
    where = ""
    if position is not None:
        column = position - text.rfind("\n", 0, position)
        where = f" at line {text.count(chr(10), 0, position) + 1}, column {column}"
    return MalformedBody(f"The body is not well-formed JSON: {reason.removesuffix(' at')}{where}.")


def _shown(name: str) -> str:
    """A member name may hold anything, a patient's identifier too; only a FHIR-like one is shown."""
    return name if re.fullmatch(r"_?[A-Za-z]{1,64}", name, re.ASCII) else "not shown"


def _refuse_depth(text: str, value: dict[str, Any] | list[Any]) -> None:
    if text.count("{") + text.count("[") <= DEEPEST:
        return
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [
            child for container in level for child in _children(container) if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _malformed(f"more than {DEEPEST} levels")


def _children(container: dict[str, Any] | list[Any]) -> Sequence[Any]:
    return container if isinstance(container, list) else list(container.values())


def _refuse_unstorable_characters(text: str, value: dict[str, Any] | list[Any]) -> None:
    """Only an escape can hide a lone surrogate or U+0000; without one there is nothing to look for."""
    if not _SUSPECT.search(text):
        return
    plain = json.dumps(value, ensure_ascii=False, default=str)
    if _LONE.search(plain):
        raise _malformed("a lone surrogate is not a character")
    # dumps writes U+0000 as an escape again; an even number of backslashes before it would be text about an
    # escape.
    if _NUL.search(plain):
        raise _malformed("U+0000 is not allowed")


_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_LONE = re.compile("[\ud800-\udfff]")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


# Spans. The text is one that ``parse`` accepted.

# typeshed leaves scan_once out; raw_decode wraps it and costs as much again.
_scan: Callable[[str, int], tuple[Any, int]]
_scan = json.JSONDecoder(parse_float=str).scan_once  # type: ignore[attr-defined]
_SPACE = re.compile(r"[ \t\n\r]*")
_NAME = re.compile(
    r"""[ \t\n\r]*[{,]
        [ \t\n\r]*"([^"\\]*(?:\\.[^"\\]*)*)"
        [ \t\n\r]*:[ \t\n\r]*""",
    re.VERBOSE,
)
_ITEM = re.compile(r"[ \t\n\r]*[\[,][ \t\n\r]*(?=[^\] \t\n\r])")


def member_spans(text: str, start: int = 0) -> dict[str, Span]:
    """Member name → span of its value, for the object that begins at ``start``, white space aside."""
    return {name: (begin, end) for name, begin, end, _ in _members(text, start)}


def array_item_spans(text: str, start: int) -> list[Span]:
    """The span of each item of the array that begins at ``start``."""
    return [(begin, end) for begin, end, _ in _items(text, start)]


def _members(text: str, start: int) -> Iterator[tuple[str, int, int, Any]]:
    """Name, span of the value, value. An opening brace or a comma stands before each name."""
    _opening(text, start, "{")
    position = start
    while name := _NAME.match(text, position):
        begin, raw = name.end(), name[1]
        value, position = _scan(text, begin)
        yield (json.loads(f'"{raw}"') if "\\" in raw else raw), begin, position, value


def _items(text: str, start: int) -> Iterator[tuple[int, int, Any]]:
    _opening(text, start, "[")
    position = start
    while item := _ITEM.match(text, position):
        value, position = _scan(text, item.end())
        yield item.end(), position, value


def _opening(text: str, start: int, bracket: str) -> int:
    """Behind the bracket that opens at ``start``, white space skipped."""
    for space in _SPACE.finditer(text, start):
        if text.startswith(bracket, space.end()):
            return space.end() + 1
        break
    raise ValueError(f"there is no {bracket} at {start}")


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    replacement: str


def _apply(text: str, edits: list[_Edit]) -> str:
    pieces, position = [], 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        pieces += [text[position : edit.start], edit.replacement]
        position = edit.end
    return "".join([*pieces, text[position:]])


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# What the server writes.


def with_server_fields(
    text: str,
    *,
    id: str,
    version_id: str,
    last_updated: str,
    source: str | None = None,
    security: Sequence[Mapping[str, str]] = (),
) -> str:
    """``text`` with ``id``, ``meta.versionId``, ``meta.lastUpdated`` and, when given, ``meta.source`` set.

    ``security`` are Codings to be added to ``meta.security`` unless one with the same system and code is
    there. Everything else stays byte for byte. The same call on the answer changes nothing.
    """
    spans = member_spans(text)
    fields = {"versionId": version_id, "lastUpdated": last_updated} | ({"source": source} if source else {})
    inserted: dict[str, Any] = {} if "id" in spans else {"id": id}
    edits = [_Edit(*spans["id"], _written(id))] if "id" in spans else []
    whole = fields | ({"security": list(security)} if security else {})
    if "meta" not in spans:
        inserted["meta"] = whole
    elif text[spans["meta"][0]] == "{":
        edits += _meta_edits(text, spans["meta"][0], fields, security)
    else:
        edits.append(_Edit(*spans["meta"], _written(whole)))
    if inserted:
        edits.append(_insertion(text, spans, inserted))
    return _apply(text, edits)


def _insertion(text: str, spans: Mapping[str, Span], members: Mapping[str, Any]) -> _Edit:
    """``members`` behind resourceType, where readers look for them; otherwise as the object's first."""
    written = _written(members)[1:-1]
    if "resourceType" in spans:
        end = spans["resourceType"][1]
        return _Edit(end, end, "," + written)
    return _first_members(text, _opening(text, 0, "{"), bool(spans), written)


def _first_members(text: str, inside: int, others: bool, written: str) -> _Edit:
    return _Edit(inside, inside, written + "," * others)


def _meta_edits(
    text: str, start: int, fields: Mapping[str, str], security: Sequence[Mapping[str, str]]
) -> list[_Edit]:
    members = {name: (begin, end, value) for name, begin, end, value in _members(text, start)}
    edits = [_Edit(*members[name][:2], _written(value)) for name, value in fields.items() if name in members]
    missing: dict[str, Any] = {name: value for name, value in fields.items() if name not in members}
    if "security" in members:
        edits += _label_edits(*members["security"], security)
    elif security:
        missing["security"] = list(security)
    if missing:
        edits.append(_first_members(text, _opening(text, start, "{"), bool(members), _written(missing)[1:-1]))
    return edits


def _label_edits(
    begin: int, end: int, present: list[Any], security: Sequence[Mapping[str, str]]
) -> list[_Edit]:
    known = {(label.get("system"), label.get("code")) for label in present if isinstance(label, dict)}
    added = [label for label in security if (label.get("system"), label.get("code")) not in known]
    if not added:
        return []
    return [_Edit(end - 1, end - 1, "," * bool(present) + _written(added)[1:-1])]


# Parts of a resource.


class Cut(NamedTuple):
    """The member ``name`` of the object that begins at ``start``."""

    start: int
    name: str


def cut(text: str, cuts: Sequence[Cut]) -> str:
    """``text`` without these members, each with one of the commas around it; every other byte stays."""
    by_object: dict[int, set[str]] = {}
    for one in cuts:
        by_object.setdefault(one.start, set()).add(one.name)
    edits = [edit for start, names in by_object.items() for edit in _member_cuts(text, start, names)]
    return _apply(text, edits)


def _member_cuts(text: str, start: int, names: Collection[str]) -> Iterator[_Edit]:
    """From the end of the member before, so that its comma goes too; after a first one that goes, the next one's."""
    inside = _opening(text, start, "{")
    end_before, kept_one = inside, False
    for name, begin, end, _ in _members(text, start):
        if name in names:
            yield _Edit(end_before, end, "")
        else:
            if not kept_one and end_before > inside:
                # Everything before it goes, and with that the comma in front of it.
                comma = text.index(",", end_before)
                yield _Edit(comma, comma + 1, "")
            kept_one = True
        end_before = end
        del begin


def with_tag(text: str, tag: Mapping[str, str]) -> str:
    """``text`` with the Coding in ``meta.tag``, unless it is there. Everything else stays byte for byte."""
    spans = member_spans(text)
    if "meta" not in spans or text[spans["meta"][0]] != "{":
        return _apply(text, [_insertion(text, spans, {"meta": {"tag": [tag]}})])
    start = spans["meta"][0]
    members = {name: (begin, end, value) for name, begin, end, value in _members(text, start)}
    if "tag" in members:
        return _apply(text, _label_edits(*members["tag"], [tag]))
    added = _written({"tag": [tag]})[1:-1]
    return _apply(text, [_first_members(text, _opening(text, start, "{"), bool(members), added)])


# References that a transaction rewrites.

_URI_TYPES = frozenset({"uri", "url", "oid", "uuid"})
"""Not canonical: "Elements of type canonical are not replaced" (R4 http, 3.1.0.11.2)."""


def replace_references(text: str, mapping: Mapping[str, str]) -> str:
    """A resource's ``text`` with every reference that is a key of ``mapping`` replaced by its value.

    Looked at are ``Reference.reference``, values of type uri, url, oid and uuid, and the ``href``
    and ``src`` attributes of narratives (http.html#transaction), contained resources and extensions
    included. The same characters anywhere else, in an ``Identifier.value`` or a note, stay; so does every
    other byte.
    """
    return reference_rewriter(mapping)(text)


def reference_rewriter(mapping: Mapping[str, str]) -> Callable[[str], str]:
    """``replace_references`` prepared for many resources with one mapping, as a transaction has them."""
    if not mapping:
        return lambda text: text
    beginnings = re.compile(f'(?:{"|".join(sorted({re.escape(key[:4]) for key in mapping}))})[^"\\\\]*')

    def rewrite(text: str) -> str:
        search = _ReferenceSearch(text, mapping, _candidates(text, mapping, beginnings))
        return _apply(text, list(search.in_object(0, "Resource"))) if search.may_hold(0, len(text)) else text

    return rewrite


@dataclass(frozen=True, slots=True)
class _ReferenceSearch:
    """Finds the spans to be replaced. A value without a candidate inside costs one scan."""

    text: str
    mapping: Mapping[str, str]
    candidates: Sequence[int] | None

    def may_hold(self, begin: int, end: int) -> bool:
        if self.candidates is None:
            return True
        index = bisect_left(self.candidates, begin)
        return index < len(self.candidates) and self.candidates[index] < end

    def in_object(self, start: int, type_name: str) -> Iterator[_Edit]:
        members = list(_members(self.text, start))
        if type_name == "Resource":
            type_name = next((value for name, _, _, value in members if name == "resourceType"), "")
            if type_name not in RESOURCE_TYPES:
                return
        places = _places(type_name)
        for name, begin, end, value in members:
            if name in places and self.may_hold(begin, end):
                yield from self.in_value(begin, end, value, places[name])

    def in_value(self, begin: int, end: int, value: Any, kind: str) -> Iterator[_Edit]:
        if isinstance(value, list):
            for item_begin, item_end, item in _items(self.text, begin):
                if not isinstance(item, list):
                    yield from self.in_value(item_begin, item_end, item, kind)
        elif isinstance(value, dict):
            if kind not in ("uri", "xhtml"):
                yield from self.in_object(begin, kind)
        elif isinstance(value, str) and kind == "xhtml":
            yield from self.in_narrative(begin, end)
        elif isinstance(value, str) and kind == "uri" and value in self.mapping:
            yield _Edit(begin, end, _written(self.mapping[value]))

    def in_narrative(self, begin: int, end: int) -> Iterator[_Edit]:
        for link in _LINK.finditer(self.text, begin, end):
            group = "double" if link["double"] is not None else "single"
            target = html.unescape(json.loads(f'"{link[group]}"'))
            if target in self.mapping:
                written = _written(html.escape(self.mapping[target]))[1:-1]
                yield _Edit(*link.span(group), written)


# Inside a JSON string: an attribute's double quotes are escaped, and so may be the white space before its
# name.
_LINK = re.compile(
    r"(?:\s|\\[nrt])(?:href|src)(?:\s|\\[nrt])*=(?:\s|\\[nrt])*"
    r"(?:\\\"(?P<double>[^\"<>]*?)\\\"|'(?P<single>[^'\"<>]*)')"
)


@cache
def _places(type_name: str) -> Mapping[str, str]:
    """JSON member → ``uri`` (compare it), ``xhtml`` (look for links) or the type to descend into."""
    places = {}
    for name, (_, kind) in json_names(type_name).items():
        if kind in _URI_TYPES or (type_name, name) == ("Reference", "reference"):
            places[name] = "uri"
        elif kind == "xhtml" or kind[0].isupper():
            places[name] = kind
    return places


def _candidates(text: str, mapping: Mapping[str, str], beginnings: re.Pattern[str]) -> list[int] | None:
    """Where a key may stand, ascending; None when escapes could hide one anywhere."""
    if "\\/" in text or "\\u" in text:
        return None
    return [
        match.start()
        for match in beginnings.finditer(text)
        if match[0] in mapping or "'" in match[0] or "&" in match[0]
    ]


# For people.

_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+')


def pretty(text: str) -> str:
    """JSON ``text`` with white space for people: every string and number stays as it is written."""
    written: list[str] = []
    depth, opened = 0, False
    for piece in _PIECES.findall(text):
        if piece in "}]":
            depth -= 1
            written.append(piece if opened else f"\n{'  ' * depth}{piece}")
        elif piece == ",":
            written.append(f",\n{'  ' * depth}")
        elif piece == ":":
            written.append(": ")
        else:
            written.append(f"\n{'  ' * depth}{piece}" if opened else piece)
        if opened := piece in "{[":
            depth += 1
    return "".join(written)
