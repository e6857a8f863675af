"""The custodian's text is read strictly and changed only where the server may."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedBody
from app.fhir.text import (
    array_item_spans,
    member_spans,
    parse,
    replace_references,
    with_server_fields,
)

STAMP: dict[str, Any] = {"id": "new", "version_id": "7", "last_updated": "2026-11-02T10:00:00.123Z"}
LABEL = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}


def test_numbers_keep_their_digits_in_the_value_and_the_text() -> None:
    body = '{"a":1.50,"b":1.0E2,"c":0.0000001,"d":10.91968939701716128,"e":19,"f":-0.0}'
    parsed = parse(body.encode())
    assert parsed.text == body
    assert [str(parsed.value[name]) for name in "abcde"] == [
        "1.50",
        "1.0E+2",
        "1E-7",
        "10.91968939701716128",
        "19",
    ]
    assert type(parsed.value["a"]) is Decimal and type(parsed.value["e"]) is int


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"a":1,}', "line 1, column 8"),
        ('{\n "a": 1\n "b": 2}', "line 3, column 2"),
        ('{"a":NaN}', "NaN"),
        ('{"a":-Infinity}', "-Infinity"),
        ('{"status":1,"status":2}', "(status) occurs twice"),
        ('{"9434765919":1,"9434765919":2}', "(not shown) occurs twice"),
        ('{"a":{"b":[{"c":1,"c":1}]}}', "(c) occurs twice"),
        ("[]", "an object is needed"),
        ('"x"', "an object is needed"),
        ("", "line 1, column 1"),
        ('{"a":1} x', "line 1, column 9"),
        ('{"a":"\\ud800"}', "surrogate"),
        ('{"\\udc00":"x"}', "surrogate"),
        ('{"a":"\\u0000"}', "U+0000"),
        ('{"a":"\x00"}', "line 1, column 7"),
        ('{"a":1e999999999}', "out of range"),
        ('{"a":1e99999999999999999999999}', "out of range"),
        ('{"a":1' + "0" * 5000 + "}", "out of range"),
        ('{"a":0.' + "1" * 5000 + "}", "out of range"),
        ('{"a":01}', "line 1"),
        ('{"a":' * 64 + "1" + "}" * 64 + "}", "line 1"),
        ('{"a":' * 65 + "1" + "}" * 65, "more than 64 levels"),
        ('{"a":' + "[" * 64 + "]" * 64 + "}", "more than 64 levels"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "more than 64 levels"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_its_place_or_reason(body: str, told: str) -> None:
    with pytest.raises(MalformedBody) as raised:
        parse(body)
    assert told in str(raised.value)
    assert "9434765919" not in str(raised.value)


@pytest.mark.parametrize(
    "body", [b'{"a":"\xff"}', b"\xff\xfe{\x00}\x00", '{"a":"é"}'.encode("latin-1"), '{"a":"\ud800"}']
)
def test_what_is_not_utf_8_is_refused(body: bytes | str) -> None:
    with pytest.raises(MalformedBody, match="UTF-8"):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        '{"a":' * 64 + "1" + "}" * 64,
        '{"a":[' + "{}," * 500 + "{}]}",
        '{"a":"\\\\u0000 is text about an escape"}',
        '{"a":"\\ud83d\\ude00"}',
        '{"a":"\\\\ud800"}',
        ' {\r\n\t"a" : [ ] } \n',
    ],
)
def test_what_is_strict_json_is_read_and_kept(body: bytes | str) -> None:
    assert parse(body).text == body
    assert parse(body.encode()).value == json.loads(body)


def test_a_byte_order_mark_is_dropped() -> None:
    assert parse(b'\xef\xbb\xbf{"a":1}').text == '{"a":1}'


def test_server_fields_are_inserted_behind_the_type_and_nothing_else_changes() -> None:
    text = '{"resourceType" : "Basic", "code":{"text":"1.50"} , "x":1.50\n}'
    assert with_server_fields(text, **STAMP) == (
        '{"resourceType" : "Basic","id":"new",'
        '"meta":{"versionId":"7","lastUpdated":"2026-11-02T10:00:00.123Z"}'
        ', "code":{"text":"1.50"} , "x":1.50\n}'
    )


def test_server_fields_replace_those_of_the_sender_where_they_stand() -> None:
    text = (
        '{"meta": {"lastUpdated" : "2001-01-01T00:00:00Z", "profile":["p"],"source":"s"}, '
        '"id":"old", "resourceType":"Basic"}'
    )
    assert with_server_fields(text, **STAMP) == (
        '{"meta": {"versionId":"7","lastUpdated" : "2026-11-02T10:00:00.123Z", '
        '"profile":["p"],"source":"s"}, '
        '"id":"new", "resourceType":"Basic"}'
    )
    assert '"source":"urn:x"' in with_server_fields(text, **STAMP, source="urn:x")


@pytest.mark.parametrize(
    "text", ["{}", ' { "meta" : { } } ', '{"a":[{"id":"inner","meta":{}}]}', '{"\\u0069d":"old"}']
)
def test_only_the_outermost_fields_are_the_servers(text: str) -> None:
    before, after = json.loads(text), json.loads(with_server_fields(text, **STAMP))
    assert after.pop("id") == "new" and after.pop("meta") == {
        "versionId": "7",
        "lastUpdated": STAMP["last_updated"],
    }
    before.pop("id", None), before.pop("meta", None)
    assert before == after


@pytest.mark.parametrize(
    ("meta", "security"),
    [
        ("", [LABEL]),
        (',"meta":{}', [LABEL]),
        (',"meta":{"security":[]}', [LABEL]),
        (
            ',"meta":{"security": [ {"code":"X","display":"mine"} ]}',
            [{"code": "X", "display": "mine"}, LABEL],
        ),
        (',"meta":{"security":[' + json.dumps(LABEL | {"display": "d"}) + "]}", [LABEL | {"display": "d"}]),
    ],
)
def test_a_label_is_added_once_and_those_of_the_sender_stay(
    meta: str, security: list[dict[str, str]]
) -> None:
    text = '{"resourceType":"Basic"' + meta + "}"
    once = with_server_fields(text, **STAMP, security=[LABEL])
    assert json.loads(once)["meta"]["security"] == security
    assert with_server_fields(once, **STAMP, security=[LABEL]) == once


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
decimals = st.from_regex(r"-?(0|[1-9][0-9]{0,5})\.[0-9]{1,6}([eE][+-]?[0-9]{1,2})?", fullmatch=True)


@st.composite
def resource_texts(draw: st.DrawFn) -> str:
    """Objects with and without id and meta, with odd white space, escapes and decimals."""
    members = draw(st.dictionaries(texts, json_values, max_size=5))
    if draw(st.booleans()):
        optional = {"versionId": st.just("1"), "security": st.just([]), "tag": json_values}
        members["meta"] = draw(st.fixed_dictionaries({}, optional=optional))
    for name in draw(st.sets(st.sampled_from(["id", "resourceType"]))):
        members[name] = "Basic"
    order = draw(st.permutations(list(members)))
    gap = draw(st.sampled_from(["", " ", "\n  "]))
    ascii_only = draw(st.booleans())
    written = [
        json.dumps(name, ensure_ascii=ascii_only)
        + ":"
        + gap
        + json.dumps(members[name], ensure_ascii=ascii_only)
        for name in order
    ]
    written += [f'"n{index}":{number}' for index, number in enumerate(draw(st.lists(decimals, max_size=3)))]
    return "{" + gap + ("," + gap).join(written) + gap + "}"


@given(resource_texts())
def test_stamping_is_idempotent_and_keeps_every_other_member_byte_for_byte_and_in_order(text: str) -> None:
    stamped = with_server_fields(text, **STAMP, security=[LABEL])
    assert with_server_fields(stamped, **STAMP, security=[LABEL]) == stamped
    before, after = member_spans(text), member_spans(stamped)
    assert [n for n in before if n not in ("id", "meta")] == [n for n in after if n not in ("id", "meta")]
    for name in before.keys() - {"id", "meta"}:
        assert text[slice(*before[name])] == stamped[slice(*after[name])]
    assert parse(stamped).value["meta"].items() >= {"versionId": "7"}.items()


@given(resource_texts())
def test_spans_cut_out_exactly_what_the_members_are(text: str) -> None:
    value = json.loads(text, parse_float=str)
    spans = member_spans(text)
    assert list(spans) == list(value)
    for name, (start, end) in spans.items():
        assert json.loads(text[start:end], parse_float=str) == value[name]


@given(st.lists(json_values), st.sampled_from(["", " ", "\r\n\t"]))
def test_array_items_are_cut_out_exactly(items: list[Any], gap: str) -> None:
    text = "[" + gap + (gap + "," + gap).join(map(json.dumps, items)) + gap + "]"
    assert [json.loads(text[start:end]) for start, end in array_item_spans(text, 0)] == items


def test_a_bundles_resources_are_cut_out_as_they_were_sent() -> None:
    text = (
        '{"resourceType":"Bundle","entry":[ '
        '{"resource" : {"resourceType":"Basic", "v":1.50} , "fullUrl":"u"},{"request":{}} ]}'
    )
    entries = array_item_spans(text, member_spans(text)["entry"][0])
    spans = [member_spans(text, start) for start, _ in entries]
    assert text[slice(*spans[0]["resource"])] == '{"resourceType":"Basic", "v":1.50}'
    assert "resource" not in spans[1]


URN = "urn:uuid:4b2cbdd5-0d52-4d5d-8ddb-0f0d1c8a8f10"


def test_references_are_replaced_where_they_stand_as_references_and_nowhere_else() -> None:
    text = f"""{{"resourceType":"Observation", "value":1.50,
      "text":{{"div":"<div>{URN} <a href=\\"{URN}\\">x</a> <img\\nsrc='{URN}'/> href={URN}</div>"}},
      "subject": {{"reference" : "{URN}", "display":"{URN}"}},
      "identifier":[{{"system":"{URN}","value":"{URN}"}}],
      "note":[{{"text":"{URN}","authorReference":{{"reference":"{URN}"}}}}],
      "extension":[{{"url":"x","valueUri":"{URN}"}},{{"url":"x","valueString":"{URN}"}}],
      "contained":[{{"resourceType":"Media","content":{{"url":"{URN}"}},"reasonCode":[{{"text":"{URN}"}}]}},
                   {{"resourceType":"PlanDefinition","library":["a canonical","{URN}"]}}],
      "valueString":"{URN}", "performer":[{{"reference":"{URN}/more"}},{{"reference":"{URN}"}}]}}"""
    expected = (
        text.replace(f'href=\\"{URN}', 'href=\\"Patient/1')
        .replace(f"src='{URN}", "src='Patient/1")
        .replace(f'"reference" : "{URN}"', '"reference" : "Patient/1"')
        .replace(f'"reference":"{URN}"', '"reference":"Patient/1"')
        .replace(f'"system":"{URN}"', '"system":"Patient/1"')
        .replace(f'"valueUri":"{URN}"', '"valueUri":"Patient/1"')
        .replace(f'"url":"{URN}"', '"url":"Patient/1"')
    )
    replaced = replace_references(text, {URN: "Patient/1"})
    assert replaced == expected
    assert replace_references(replaced, {URN: "Patient/1"}) == replaced


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|9999999989", None),
        ("http:\\/\\/example.com\\/fhir\\/Patient\\/0", "http://example.com/fhir/Patient/0"),
        ("\\u0050atient/0", "Patient/0"),
        ("Patient?name=O'Brien&x=y", None),
    ],
)
def test_every_spelling_of_a_reference_is_found(written: str, key: str | None) -> None:
    text = '{"resourceType":"Observation","subject":{"reference":"' + written + '"}}'
    assert json.loads(replace_references(text, {key or written: "Patient/9"}))["subject"] == {
        "reference": "Patient/9"
    }


def test_a_narrative_link_is_unescaped_to_compare_and_escaped_to_write() -> None:
    text = '{"resourceType":"Basic","text":{"div":"<div><a href=\\"Patient?a=1&amp;b=2\\">x</a></div>"}}'
    replaced = replace_references(text, {"Patient?a=1&b=2": 'Patient/1?x=1&y="2"'})
    assert (
        json.loads(replaced)["text"]["div"] == '<div><a href="Patient/1?x=1&amp;y=&quot;2&quot;">x</a></div>'
    )


@given(resource_texts(), st.dictionaries(st.text(min_size=1, max_size=6), st.text(max_size=6)))
def test_without_a_reference_nothing_is_replaced(text: str, mapping: dict[str, str]) -> None:
    assert replace_references(text, mapping) == text
