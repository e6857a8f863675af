"""What is said in JSON is said in XML, and back: every value, every digit, whatever the order of members."""

import json
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CandourError, MalformedBody, NotAcceptable
from app.fhir.definitions import RESOURCE_TYPES, Element, is_primitive, json_names
from app.fhir.text import DEEPEST, parse
from app.fhir.validation import validate
from app.fhir.xml import from_xml, to_xml
from app.fhir.xml_tables import attributes_of

GOLDEN = Path(__file__).parents[2] / "golden" / "xml"
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'


class Number(str):
    """A number of JSON as it is written, which no string equals."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and str(self) == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def values(text: str) -> Any:
    return json.loads(text, parse_float=Number, parse_int=Number)


def written(value: Any) -> str:
    """``value`` as JSON, numbers to the digit."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{written(name)}:{written(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def well_formed(document: str) -> bool:
    parser = expat.ParserCreate(namespace_separator=" ")
    try:
        parser.Parse(document, True)
    except expat.ExpatError:
        return False
    return True


# What others wrote


def examples(shared_data: Path) -> Iterator[str]:
    for path in sorted((shared_data / "hl7" / "examples").glob("*.ndjson.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            yield from lines


def test_hl7s_examples_come_back_from_xml_as_they_were(shared_data: Path) -> None:
    count = 0
    for text in examples(shared_data):
        document = to_xml(text)
        assert values(from_xml(document)) == values(text)
        assert from_xml(to_xml(text, pretty=True)) == from_xml(document)
        count += 1
    assert count == 584


def test_members_order_in_json_is_nothing_to_xml(shared_data: Path) -> None:
    for text in list(examples(shared_data))[::10]:
        assert to_xml(written(backwards(values(text)))) == to_xml(text)


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: backwards(value[name]) for name in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


def test_uk_cores_xml_says_what_another_converter_read_in_it(shared_data: Path) -> None:
    documents = sorted((shared_data / "uk" / "uk-core" / "examples-xml").glob("*.xml"))
    assert len(documents) == 147
    for document in documents:
        text = (document.parents[1] / "examples" / f"{document.stem}.json").read_text(encoding="utf-8")
        assert values(from_xml(document.read_bytes())) == values(text), document.stem


def test_r4s_attributes_are_ours(shared_data: Path) -> None:
    found: dict[str, dict[str, None]] = {name: {} for name in RESOURCE_TYPES}
    for structure in structure_definitions(shared_data):
        for element in structure["snapshot"]["element"]:
            parent, _, member = element["path"].rpartition(".")
            if "xmlAttr" in element.get("representation", ()) and parent[:1].isupper():
                found.setdefault(parent, {})[member] = None
    assert len(found) > len(RESOURCE_TYPES) + 500
    assert {name: attributes_of(name) for name in found} == {name: tuple(all) for name, all in found.items()}


def structure_definitions(shared_data: Path) -> Iterator[dict[str, Any]]:
    for name in ("types", "resources"):
        path = shared_data / "hl7" / "definitions" / f"structuredefinitions-{name}.json.xz"
        with lzma.open(path, "rt", encoding="utf-8") as file:
            for entry in json.load(file)["entry"]:
                if entry["resource"].get("derivation") in (None, "specialization"):
                    yield (
                        entry["resource"]
                        if "snapshot" in entry["resource"]
                        else {"snapshot": {"element": []}}
                    )


# What lasts


def test_a_resource_with_everything_is_written_as_it_was_last_year() -> None:
    text = (GOLDEN / "patient-1.json").read_text(encoding="utf-8")
    validate(parse(text).value)
    assert to_xml(text, pretty=True).encode() == (GOLDEN / "patient-1.xml").read_bytes()


def test_a_resource_with_everything_is_read_as_it_was_last_year() -> None:
    document = (GOLDEN / "patient-1.xml").read_bytes()
    assert from_xml(document).encode() + b"\n" == (GOLDEN / "patient-1.read.json").read_bytes()
    assert from_xml(document.decode()) == from_xml(document)
    assert to_xml(from_xml(document), pretty=True).encode() == document


# What always holds

DIVS = [
    f"<div {XHTML}>x</div>",
    f"<div {XHTML}/>",
    f"<div {XHTML} ></div >",
    f"<div {XHTML}><div>a<br/>&amp;&#160;<!-- c --></div>\n</div>",
    f"<div\n{XHTML} id='1'><p title=\"&lt;\">é<![CDATA[</div>]]></p></div>",
]
UNCARRIED = "".join(map(chr, [*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF]))
strings = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=UNCARRIED), max_size=8)
wholes = st.integers(-999, 999).map(lambda value: Number(str(value)))
decimals = st.from_regex(
    r"\A-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?\Z", fullmatch=True
).map(Number)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "decimal": decimals,
    "integer": wholes,
    "positiveInt": wholes,
    "unsignedInt": wholes,
    "xhtml": st.sampled_from(DIVS),
}
TYPES = ["Bundle", "ExampleScenario", "List", "MedicationRequest", "Observation", "Parameters", "Patient"]


@st.composite
def resources(draw: st.DrawFn, depth: int = 3) -> dict[str, Any]:
    name = draw(st.sampled_from(TYPES))
    return {"resourceType": name} | draw(objects(name, depth))


@st.composite
def objects(draw: st.DrawFn, type_name: str, depth: int) -> dict[str, Any]:
    """Members that R4 has there, whatever rules they break."""
    names = json_names(type_name)
    found: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(sorted(names)), max_size=3, unique=True)):
        element, concrete = names[name]
        if is_primitive(concrete):
            is_plain = name in attributes_of(type_name) or concrete == "xhtml"
            found |= draw(primitives(name, element, concrete, 0 if is_plain else depth))
        elif depth:
            inner = resources(depth - 1) if concrete == "Resource" else objects(concrete, depth - 1)
            found[name] = draw(st.lists(inner, min_size=1, max_size=2)) if element.repeats else draw(inner)
    return found


@st.composite
def primitives(draw: st.DrawFn, name: str, element: Element, concrete: str, depth: int) -> dict[str, Any]:
    """A value, what stands beside it, or both; in arrays, with the nulls that json.html asks for."""
    value = VALUES.get(concrete, strings)
    beside = st.none() if depth == 0 else st.none() | objects("Element", depth - 1).filter(bool)
    alone = st.tuples(value, st.none())
    pairs = (
        alone
        if depth == 0
        else alone | st.tuples(value, beside) | st.tuples(st.none(), objects("Element", depth - 1))
    )
    if not element.repeats:
        first, second = draw(pairs)
        found = {name: first, "_" + name: second}
        return {name: member for name, member in found.items() if member is not None}
    drawn = draw(st.lists(pairs, min_size=1, max_size=3))
    arrays = {name: [first for first, _ in drawn], "_" + name: [second for _, second in drawn]}
    return {name: array for name, array in arrays.items() if any(item is not None for item in array)}


@given(resources(), st.booleans())
def test_whatever_r4_can_say_comes_back_from_xml(resource: dict[str, Any], pretty: bool) -> None:
    document = to_xml(written(resource), pretty=pretty)
    assert well_formed(document)
    text = from_xml(document.encode())
    assert values(text) == values(written(resource))
    assert to_xml(text, pretty=pretty) == document
    assert to_xml(written(backwards(resource)), pretty=pretty) == document
    parse(text)


@given(st.text(st.characters(exclude_categories=["Cs"]).filter(lambda character: character != "\0")))
def test_any_string_becomes_well_formed_xml(string: str) -> None:
    carried = "".join("\ufffd" if character in UNCARRIED else character for character in string)
    text = written(
        {"resourceType": "Basic", "id": string, "text": {"div": string}, "extension": [{"url": string}]}
    )
    document = to_xml(text)
    assert well_formed(document)
    read = values(from_xml(document))
    assert read["id"] == carried and read["extension"] == [{"url": carried}]


@given(decimals)
def test_a_decimal_keeps_its_characters(literal: str) -> None:
    text = f'{{"resourceType":"Observation","valueQuantity":{{"value":{literal}}}}}'
    assert f'<value value="{literal}"/>' in to_xml(text)
    assert from_xml(to_xml(text)) == text


# Whatever comes in


def is_json_or_refused(convert: Callable[[], str]) -> bool:
    read = outcome(convert)
    return isinstance(read, MalformedBody) or (isinstance(read, str) and parse(read).text == read)


def outcome(convert: Callable[[], str]) -> str | CandourError:
    try:
        return convert()
    except (MalformedBody, NotAcceptable) as error:
        return error


PIECES = [
    *(b'<Patient xmlns="http://hl7.org/fhir">', b"</Patient>", b"<contained>", b"</contained>", b"<Patient>"),
    *(b"<name>", b"</name>", b"<given>", b"</given>", b'<given value="a"/>', b'<active value="true"/>'),
    *(b'<extension url="u">', b"</extension>", b'<valueDecimal value="1.50"/>', b"<text>", b"</text>"),
    *(b'<div xmlns="http://www.w3.org/1999/xhtml">', b"</div>", b"<b>", b"</b>", b"<br/>", b"x", b" ", b"&#10;"),
    *(b"<!DOCTYPE x [", b'<!ENTITY a "b">', b"]>", b"&a;", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?p ?>"),
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xe2\x82", b'<?xml version="1.0"?>', b'id="i"', b">", b"'", b'"', b"/"),
    *(b'<x:div xmlns:x="http://www.w3.org/1999/xhtml">', b"</x:div>", b' x:y="z"', b'xmlns=""', b"<x:b/>"),
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=30).map(b"".join))
def test_whatever_is_read_is_json_or_refused(document: bytes) -> None:
    assert is_json_or_refused(lambda: from_xml(document))


@given(st.data())
def test_a_damaged_document_is_read_as_json_or_refused(data: st.DataObject) -> None:
    document = (GOLDEN / "patient-1.xml").read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(document)))
        end = data.draw(st.integers(begin, min(len(document), begin + 40)))
        document = document[:begin] + data.draw(st.sampled_from([b"", *PIECES])) + document[end:]
    assert is_json_or_refused(lambda: from_xml(document))


scalars = st.none() | st.booleans() | strings | decimals | wholes | st.sampled_from(TYPES)
NAMES = ["resourceType", "id", "_id", "name", "given", "_given", "text", "div", "extension", "url", "_url",
         "valueDecimal", "_valueDecimal", "contained", "entry", "resource", "meta", "active",
         "photo", "9434765919"]  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
)


@given(st.dictionaries(st.sampled_from(NAMES), trees, max_size=6), st.sampled_from(TYPES))
def test_whatever_is_written_is_xml_or_refused(resource: dict[str, Any], name: str) -> None:
    document = outcome(lambda: to_xml(written({"resourceType": name} | resource), pretty=True))
    assert isinstance(document, CandourError) or well_formed(document)
    assert "9434765919" not in str(document) or not isinstance(document, CandourError)


@given(st.text(max_size=20))
def test_what_is_no_json_is_not_written(text: str) -> None:
    assert isinstance(outcome(lambda: to_xml(text)), CandourError)


# Size


def nested(levels: int) -> str:
    """Objects and arrays of JSON ``levels`` deep, by twos: an extension is an array and an object."""
    inside = '"extension":[{"url":"u",' * (levels // 2) + '"id":"x"' + "}]" * (levels // 2)
    return f'{{"resourceType":"Basic",{inside}}}'


def test_as_deep_as_json_may_be_xml_is_written_and_read() -> None:
    text = nested(DEEPEST - 2)
    assert values(from_xml(to_xml(text))) == values(text)
    deepest = text.replace('"id":"x"', '"valuePeriod":{"id":"x"}')
    assert values(from_xml(to_xml(deepest))) == values(deepest)


@pytest.mark.parametrize("convert", [to_xml, lambda text: from_xml(to_xml(text))], ids=["to XML", "and back"])
def test_twice_as_much_is_twice_the_work(convert: Callable[[str], str]) -> None:
    text = (GOLDEN / "patient-1.json").read_text(encoding="utf-8")

    def bundle(entries: int) -> str:
        return '{"resourceType":"Bundle","entry":[' + ",".join([f'{{"resource":{text}}}'] * entries) + "]}"

    convert(bundle(1))
    once, twice = (calls(lambda size=size: convert(bundle(size))) for size in (40, 80))  # type: ignore[misc]  # its own
    assert 1.8 < twice / once < 2.2


def calls(work: Callable[[], object]) -> int:
    """How many functions ``work`` calls, the interpreter's own among them."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event.endswith("call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
