"""A JSON Patch does what RFC 6902 says, on the text: what it does not touch keeps every byte."""

import json
import re
import time
from contextlib import suppress
from copy import deepcopy
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import (
    BusinessRule,
    MalformedBody,
    MalformedPatch,
    TooCostly,
    UnprocessablePatch,
)
from app.fhir.patching.document import MOST_OPERATIONS
from app.fhir.patching.json_patch import apply_json_patch
from app.fhir.text import array_item_spans, member_spans, parse


def patched(document: str, *operations: dict[str, Any]) -> str:
    return apply_json_patch(document, json.dumps(operations))


def op(name: str, path: str, **members: Any) -> dict[str, Any]:
    return {"op": name, "path": path} | {key.rstrip("_"): value for key, value in members.items()}


# RFC 6902, appendix A.


@pytest.mark.parametrize(
    ("before", "operations", "after"),
    [
        pytest.param(
            '{"foo":"bar"}',
            [op("add", "/baz", value="qux")],
            '{"foo":"bar","baz":"qux"}',
            id="A.1 add a member",
        ),
        pytest.param(
            '{"foo":["bar","baz"]}',
            [op("add", "/foo/1", value="qux")],
            '{"foo":["bar","qux","baz"]}',
            id="A.2 add an item",
        ),
        pytest.param(
            '{"baz":"qux","foo":"bar"}', [op("remove", "/baz")], '{"foo":"bar"}', id="A.3 remove a member"
        ),
        pytest.param(
            '{"foo":["bar","qux","baz"]}',
            [op("remove", "/foo/1")],
            '{"foo":["bar","baz"]}',
            id="A.4 remove an item",
        ),
        pytest.param(
            '{"baz":"qux","foo":"bar"}',
            [op("replace", "/baz", value="boo")],
            '{"baz":"boo","foo":"bar"}',
            id="A.5 replace",
        ),
        pytest.param(
            '{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}',
            [op("move", "/qux/thud", from_="/foo/waldo")],
            '{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}',
            id="A.6 move a member",
        ),
        pytest.param(
            '{"foo":["all","grass","cows","eat"]}',
            [op("move", "/foo/3", from_="/foo/1")],
            '{"foo":["all","cows","eat","grass"]}',
            id="A.7 move an item",
        ),
        pytest.param(
            '{"baz":"qux","foo":["a",2,"c"]}',
            [op("test", "/baz", value="qux"), op("test", "/foo/1", value=2)],
            '{"baz":"qux","foo":["a",2,"c"]}',
            id="A.8 test, successfully",
        ),
        pytest.param(
            '{"foo":"bar"}',
            [op("add", "/child", value={"grandchild": {}})],
            '{"foo":"bar","child":{"grandchild": {}}}',
            id="A.10 add a nested member",
        ),
        pytest.param(
            '{"foo":"bar"}',
            [op("add", "/baz", value="qux", xyz=123)],
            '{"foo":"bar","baz":"qux"}',
            id="A.11 ignore unknown members of an operation",
        ),
        pytest.param(
            '{"/":9,"~1":10}', [op("test", "/~01", value=10)], '{"/":9,"~1":10}', id="A.14 ~ escapes"
        ),
        pytest.param(
            '{"foo":["bar"]}',
            [op("add", "/foo/-", value=["abc", "def"])],
            '{"foo":["bar",["abc", "def"]]}',
            id="A.16 add an array",
        ),
    ],
)
def test_the_examples_of_the_rfc(before: str, operations: list[dict[str, Any]], after: str) -> None:
    assert patched(before, *operations) == after


@pytest.mark.parametrize(
    ("before", "operation"),
    [
        pytest.param('{"baz":"qux"}', op("test", "/baz", value="bar"), id="A.9 test, in vain"),
        pytest.param('{"foo":"bar"}', op("add", "/baz/bat", value="qux"), id="A.12 add to nothing"),
        pytest.param('{"/":9,"~1":10}', op("test", "/~01", value="10"), id="A.15 a string is no number"),
    ],
)
def test_the_examples_of_the_rfc_that_fail(before: str, operation: dict[str, Any]) -> None:
    with pytest.raises(UnprocessablePatch, match=r"^Operation 1 of 1 \((test|add)\) cannot be applied: "):
        patched(before, operation)


def test_an_operation_that_says_twice_what_it_is_is_malformed() -> None:
    with pytest.raises(MalformedBody, match=r"\(op\) occurs twice"):
        apply_json_patch('{"foo":"bar"}', '[{"op":"add","path":"/baz","value":"qux","op":"remove"}]')


RFC_6901 = (
    '{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i'
    '\\\\j":5,"k\\"l":6," ":7,"m~n":8,"é":9,"\\u00ea":10}'
)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        ("/é", 9),
        ("/ê", 10),
        ("", json.loads(RFC_6901)),
    ],
)
def test_a_pointer_of_rfc_6901_finds_its_value(pointer: str, value: Any) -> None:
    assert patched(RFC_6901, op("test", pointer, value=value)) == RFC_6901


# What a test holds equal (RFC 6902, 4.6).


@pytest.mark.parametrize("text", ["1.5", "1.50", "15e-1", "0.15E1", "1500e-3"])
def test_numbers_are_equal_by_value(text: str) -> None:
    body = '{"value":1.50}'
    assert apply_json_patch(body, f'[{{"op":"test","path":"/value","value":{text}}}]') == body


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("1", "true"),
        ("0", "false"),
        ("true", "1"),
        ("false", "0.0"),
        ("null", "false"),
        ('""', "null"),
        ('"1"', "1"),
        ("[]", "{}"),
        ("{}", "[]"),
        ("[1,2]", "[2,1]"),
        ("[1]", "[1,1]"),
        ('{"a":1}', '{"a":1,"b":1}'),
        ('{"a":[true]}', '{"a":[1]}'),
        ("1.50", "1.5000000000000000000000000001"),
        ('"\\u00e9"', '"e\\u0301"'),
    ],
)
def test_values_that_differ_in_type_or_content_are_not_equal(text: str, other: str) -> None:
    with pytest.raises(UnprocessablePatch, match="what is at /value is not equal to its value"):
        apply_json_patch(f'{{"value":{text}}}', f'[{{"op":"test","path":"/value","value":{other}}}]')


def test_members_are_equal_in_any_order_and_strings_however_they_are_escaped() -> None:
    body = '{"value": {"a": [1, {"c": "\\u00e9"}], "b": null}}'
    patch = '[{"op":"test","path":"/value","value":{"b":null,"a":[1.0,{"c":"é"}]}}]'
    assert apply_json_patch(body, patch) == body


# The text.

PRETTY = """ {
  "resourceType" : "Observation",
  "id": "o1",
  "valueQuantity": { "value": 1.50 , "unit":"mg" },
  "component": [
    { "valueInteger": 19 },
    { "valueQuantity": {"value": 1.0E2} }
  ]
}
"""


@pytest.mark.parametrize(
    ("patch", "old", "new"),
    [
        ('[{"op":"remove","path":"/component"}]', PRETTY[PRETTY.index(',\n  "component"') : -3], ""),
        ('[{"op":"remove","path":"/component/0"}]', '{ "valueInteger": 19 },\n    ', ""),
        ('[{"op":"remove","path":"/component/1"}]', ',\n    { "valueQuantity": {"value": 1.0E2} }', ""),
        ('[{"op":"remove","path":"/valueQuantity/value"}]', '"value": 1.50 , ', ""),
        ('[{"op":"remove","path":"/valueQuantity/unit"}]', ' , "unit":"mg"', ""),
        ('[{"op":"replace","path":"/valueQuantity/value","value": 2.0e0 }]', "1.50", "2.0e0"),
        ('[{"op":"add","path":"/valueQuantity/value","value":7.00}]', "1.50", "7.00"),
        ('[{"op":"add","path":"/valueQuantity/code","value":[ 0.10 ]}]', '"mg"', '"mg","code":[ 0.10 ]'),
        ('[{"op":"add","path":"/component/0","value":{ }}]', '{ "valueInteger"', '{ },{ "valueInteger"'),
        ('[{"op":"add","path":"/component/-","value":1e0}]', "1.0E2} }", "1.0E2} },1e0"),
        (
            '[{"op":"copy","from":"/valueQuantity/value","path":"/component/0"}]',
            '{ "valueI',
            '1.50,{ "valueI',
        ),
        ('[{"op":"move","from":"/id","path":"/id"}]', "", ""),
        ("[ ]", "", ""),
    ],
)
def test_every_byte_that_is_not_touched_stays(patch: str, old: str, new: str) -> None:
    assert apply_json_patch(PRETTY, patch) == PRETTY.replace(old, new, 1)


def test_the_last_of_a_list_or_an_object_takes_the_white_space_inside_with_it() -> None:
    patch = '[{"op":"remove","path":"/a/0"},{"op":"remove","path":"/b/c"}]'
    assert apply_json_patch('{ "a": [ 1 ], "b": {\n"c":1 } }', patch) == '{ "a": [], "b": {} }'


def test_a_value_moved_through_others_keeps_its_digits() -> None:
    patch = (
        '[{"op":"add","path":"/x","value":{"y":[0.0000001]}},{"op":"copy","from":"/x/y","path":"/z"},'
        '{"op":"move","from":"/z/0","path":"/a"},{"op":"copy","from":"/x","path":"/x/y/0"}]'
    )
    assert apply_json_patch("{}", patch) == '{"x":{"y":[{"y":[0.0000001]},0.0000001]},"z":[],"a":0.0000001}'


def test_a_name_is_found_however_it_is_escaped_and_keeps_its_escapes() -> None:
    body = '{"\\u0061\\/b":1,"c":2}'
    assert patched(body, op("replace", "/a~1b", value=3), op("remove", "/c")) == '{"\\u0061\\/b":3}'
    assert patched(body, op("add", '/"é\n', value=3)) == '{"\\u0061\\/b":1,"c":2,"\\"é\\n":3}'


def test_a_byte_order_mark_before_a_patch_is_dropped() -> None:
    assert apply_json_patch("{}", b'\xef\xbb\xbf [{"op":"add","path":"/a","value":1}]\n') == '{"a":1}'


# What is refused.


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ('{"op":"add"}', "an array is needed"),
        ("", "line 1"),
        ("[", "line 1"),
        (b'["\xff"]', "UTF-8"),
        ('[{"op":"add","path":"/a","value":"\\ud800"}]', "surrogate"),
        ('[{"op":"add","path":"/\\udc00","value":1}]', "surrogate"),
        ('[{"op":"add","path":"/\\u0000","value":1}]', "U+0000"),
        ('[{"op":"add","path":"/a","value":{"b":1,"b":2}}]', "(b) occurs twice"),
        ('[{"op":"add","path":"/a","value":1e999}]', "out of range"),
        ('[{"op":"add","path":"/a","value":NaN}]', "NaN"),
        ("[" * 100 + "]" * 100, "more than 64 levels"),
    ],
)
def test_what_is_not_strict_json_is_a_malformed_body(patch: str | bytes, told: str) -> None:
    with pytest.raises(MalformedBody, match=re.escape(told)):
        apply_json_patch("{}", patch)


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (1, "it is not an object"),
        (None, "it is not an object"),
        ({}, "op has to be one of add, remove, replace, move, copy, test"),
        ({"op": "delete", "path": "/a"}, "op has to be one of"),
        ({"op": ["add"], "path": "/a"}, "op has to be one of"),
        ({"op": "add", "value": 1}, "it needs a path"),
        ({"op": "add", "path": None, "value": 1}, "it needs a path"),
        ({"op": "add", "path": ["a"], "value": 1}, "it needs a path"),
        ({"op": "add", "path": "/a"}, "it needs a value"),
        ({"op": "replace", "path": "/a"}, "it needs a value"),
        ({"op": "test", "path": "/a"}, "it needs a value"),
        ({"op": "move", "path": "/a"}, "it needs a from"),
        ({"op": "copy", "path": "/a", "from": 1}, "it needs a from"),
        ({"op": "add", "path": "a", "value": 1}, "its path has to be empty or begin with /"),
        ({"op": "copy", "path": "/a", "from": "b"}, "its from has to be empty or begin with /"),
        ({"op": "remove", "path": "/a~2"}, "its path has a ~ that neither 0 nor 1 follows"),
        ({"op": "remove", "path": "/a~"}, "its path has a ~ that neither 0 nor 1 follows"),
        ({"op": "move", "from": "/a", "path": "/a/b"}, "a value cannot be moved into itself"),
        ({"op": "move", "from": "", "path": "/a"}, "a value cannot be moved into itself"),
    ],
)
def test_a_malformed_operation_is_named_by_number(operation: Any, told: str) -> None:
    fine = {"op": "remove", "path": "/not/there"}
    with pytest.raises(
        MalformedPatch, match=f"^Operation 2 of 3 is malformed: .*{re.escape(told)}"
    ) as raised:
        apply_json_patch("{}", json.dumps([fine, operation, fine]))
    assert raised.value.status == 400


def test_null_is_a_value() -> None:
    assert patched("{}", op("add", "/a", value=None), op("test", "/a", value=None)) == '{"a":null}'


@pytest.mark.parametrize(
    "index",
    [
        "2",
        "-1",
        "00",
        "01",
        "1.0",
        "1e0",
        "+1",
        " 1",
        "٣",
        "²",
        "9" * 5_000,
        "18446744073709551616",
        "",
        "~1",
    ],
)
@pytest.mark.parametrize("name", ["add", "remove", "replace", "test", "copy"])
def test_what_is_no_index_of_the_array_is_refused(name: str, index: str) -> None:
    with pytest.raises(UnprocessablePatch, match=rf"^Operation 1 of 1 \({name}\) cannot be applied: "):
        patched('{"a":[1]}', op(name, f"/a/{index}", value=1, from_=f"/a/{index}"))


def test_behind_the_last_item_something_can_only_be_added() -> None:
    for name in ("remove", "replace", "test"):
        with pytest.raises(UnprocessablePatch, match="/a/- is no place of the array there"):
            patched('{"a":[1]}', op(name, "/a/-", value=1))
    assert patched('{"a":[1]}', op("add", "/a/1", value=2)) == '{"a":[1,2]}'
    assert patched('{"a":[]}', op("add", "/a/0", value=2)) == '{"a":[2]}'
    assert patched('{"-":1}', op("remove", "/-")) == "{}"


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (op("remove", "/b"), "nothing is at /b."),
        (op("remove", "/a/b/c"), "nothing is at /a/b."),
        (op("replace", "/b", value=1), "nothing is at /b."),
        (op("replace", "/a/x", value=1), "nothing is at /a/x."),
        (op("test", "/b", value=None), "nothing is at /b."),
        (op("copy", "/c", from_="/b"), "nothing is at /b."),
        (op("move", "/c", from_="/b"), "nothing is at /b."),
        (op("move", "/b", from_="/b"), "nothing is at /b."),
        (op("add", "/a/x", value=1), "what is at /a has neither members nor items."),
        (op("remove", ""), "the whole resource cannot be removed."),
        (op("remove", "/9434765919/x"), "nothing is at /…."),
        (op("remove", "/list/9434765919"), "/list/… is no place of the array there."),
        (op("remove", "/" + "x/" * 100), "nothing is at /x."),
        (op("test", "", value=1), "what is at the root is not equal to its value."),
    ],
)
def test_a_place_that_is_not_there_is_named_without_what_may_be_an_identifier(
    operation: dict[str, Any], told: str
) -> None:
    with pytest.raises(UnprocessablePatch, match=re.escape(told) + "$") as raised:
        patched('{"a":"text","list":[]}', operation)
    assert raised.value.status == 422


def test_one_failing_operation_fails_the_patch() -> None:
    with pytest.raises(UnprocessablePatch, match=r"Operation 3 of 3 \(test\)"):
        patched("{}", op("add", "/a", value=1), op("add", "/b", value=1), op("test", "/b", value=2))


@pytest.mark.parametrize(
    "operations",
    [
        [op("replace", "/id", value="other")],
        [op("remove", "/id")],
        [op("replace", "/id", value=1)],
        [op("add", "", value={"resourceType": "Observation"})],
        [op("move", "/x", from_="/id"), op("add", "/id", value="o2")],
    ],
)
def test_the_id_cannot_be_changed(operations: list[dict[str, Any]]) -> None:
    with pytest.raises(BusinessRule, match="A patch may not change a resource's id") as raised:
        patched(PRETTY, *operations)
    assert raised.value.issues[0].expression == "Observation.id"


@pytest.mark.parametrize(
    "operations",
    [
        [op("replace", "/resourceType", value="Patient")],
        [op("remove", "/resourceType")],
        [op("add", "", value={})],
        [op("move", "", from_="/valueQuantity")],
    ],
)
def test_the_type_cannot_be_changed(operations: list[dict[str, Any]]) -> None:
    with pytest.raises(BusinessRule, match="A patch may not change a resource's type"):
        patched(PRETTY, *operations)


@pytest.mark.parametrize("value", [1, "text", [], None])
def test_what_is_left_has_to_be_an_object(value: Any) -> None:
    with pytest.raises(UnprocessablePatch, match="it would leave no JSON object"):
        patched("{}", op("add", "", value=value))


def test_the_whole_resource_may_be_replaced_by_one_of_the_same_type_and_id() -> None:
    whole = {"id": "o1", "resourceType": "Observation", "status": "final"}
    assert patched(PRETTY, op("replace", "", value=whole)) == f" {json.dumps(whole)}\n"


# What would cost too much.


def test_a_patch_has_a_limited_number_of_operations() -> None:
    operation = op("test", "", value={})
    assert patched("{}", *[operation] * MOST_OPERATIONS) == "{}"
    with pytest.raises(MalformedPatch, match="may have 1000 operations"):
        patched("{}", *[operation] * (MOST_OPERATIONS + 1))


def test_copies_that_double_are_stopped() -> None:
    doubling = [op("copy", "/a/-", from_="/a")] * 100
    with pytest.raises(TooCostly, match="copies too much"):
        patched('{"a":["' + "x" * 1_000 + '"]}', *doubling)


def test_copies_that_deepen_are_stopped() -> None:
    deepening = [op("copy", "/a" + "/b" * (2**n), from_="/a") for n in range(7)]
    assert patched('{"a":{}}', *deepening[:5]).count("{") == 33
    with pytest.raises(UnprocessablePatch, match="more than 64 levels"):
        patched('{"a":{}}', *deepening)


def test_values_that_are_nested_into_each_other_are_stopped() -> None:
    nested = json.loads('{"b":' * 50 + "1" + "}" * 50)
    operations = [op("add", "/a" + "/b" * (50 * n), value=nested) for n in range(30)]
    with pytest.raises(UnprocessablePatch, match=r"^The patch cannot be applied: .* more than 64 levels"):
        patched("{}", *operations)
    with pytest.raises(UnprocessablePatch, match=r"^Operation 31 of 31 \(copy\) .* more than 64 levels"):
        patched("{}", *operations, op("copy", "/c", from_="/a"))


@pytest.mark.parametrize(
    "operation",
    [
        op("test", "/a", value={}),
        op("copy", "/b", from_="/a/0"),
        op("move", "/a/0", from_="/a/2000"),
        op("add", "/a/0", value=1),
        op("remove", "/a/0"),
        op("replace", "/a/1000", value={"x": 1}),
        op("test", "/a/1000/y", value="x" * 100),
        op("add", "/" + "a/" * 1_000, value=1),
    ],
)
def test_many_operations_on_a_large_text_take_a_time_in_proportion(operation: dict[str, Any]) -> None:
    large = json.dumps({"a": [{"y": "x" * 100, "z": [1, 2, 3]}] * 5_000})
    began = time.process_time()
    with suppress(UnprocessablePatch):
        patched(large, *[operation] * 900)
    assert time.process_time() - began < 2


def test_reading_the_same_text_over_and_over_is_stopped() -> None:
    deep = '{"a":' * 60 + json.dumps(["x" * 10] * 200_000) + "}" * 60
    with pytest.raises(TooCostly, match="Send it in parts"):
        patched(deep, op("remove", "/a" * 60 + "/0"))


# Against a model on values.


class Digits(str):
    """A number as it is written."""


names = st.sampled_from(
    ["a", "b", "id", "a/b", "m~n", "~1", "", "é", "\u2028", "😀", '"', "0", "-"]
) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
numbers = st.sampled_from(
    ["0", "-0", "1.50", "1.5", "1.0E2", "100", "0.0000001", "10.91968939701716128"]
).map(Digits)
scalars = (
    st.none()
    | st.booleans()
    | numbers
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
randoms = st.integers(0, 2**32).map(Random)


def written(value: Any, random: Random) -> str:
    """JSON with white space and escapes anywhere."""

    def space() -> str:
        return random.choice(["", "", "", " ", "\n  ", "\t\r\n"])

    def plain(scalar: Any) -> str:
        return json.dumps(scalar, ensure_ascii=random.random() < 0.5)

    def some(inner: Any) -> str:
        return space() + written(inner, random) + space()

    match value:
        case Digits():
            return str(value)
        case dict():
            pairs = [f"{space()}{plain(name)}{space()}:{some(inner)}" for name, inner in value.items()]
            return "{" + (",".join(pairs) or space()) + "}"
        case list():
            return "[" + (",".join(some(inner) for inner in value) or space()) + "]"
        case _:
            return plain(value)


def digits(text: str) -> Any:
    """Read with every number as it is written."""
    return json.loads(text, parse_float=Digits, parse_int=Digits)


class Failed(Exception):
    pass


def model(document: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902 on values, slowly: the whole document is copied for each operation, and walked from the top."""
    for operation in operations:
        document = model_step(deepcopy(document), operation)
    return document


def model_step(document: Any, operation: dict[str, Any]) -> Any:
    path = tokens(operation["path"])
    match operation["op"]:
        case "add":
            return model_add(document, path, operation["value"])
        case "remove":
            return model_remove(document, path)
        case "replace":
            if not path:
                return operation["value"]
            place = model_place(document, path)
            parent = model_get(document, path[:-1])
            parent[place] = operation["value"]
            return document
        case "copy":
            return model_add(document, path, deepcopy(model_get(document, tokens(operation["from"]))))
        case "move":
            source = tokens(operation["from"])
            value = model_get(document, source)
            return document if source == path else model_add(model_remove(document, source), path, value)
        case _:
            if not model_same(model_get(document, path), operation["value"]):
                raise Failed
            return document


def tokens(pointer: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")][1:]


def model_get(document: Any, path: list[str]) -> Any:
    for depth in range(len(path)):
        place = model_place(document, path[depth : depth + 1])
        document = document[place]
    return document


def model_place(document: Any, path: list[str]) -> Any:
    parent, last = model_get(document, path[:-1]), path[-1]
    if isinstance(parent, list) and last in [str(index) for index in range(len(parent))]:
        return int(last)
    if isinstance(parent, dict) and last in parent:
        return last
    raise Failed


def model_add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = model_get(document, path[:-1])
    if isinstance(parent, list) and path[-1] in ["-", *map(str, range(len(parent) + 1))]:
        parent.insert(len(parent) if path[-1] == "-" else int(path[-1]), value)
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise Failed
    return document


def model_remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise Failed
    place = model_place(document, path)
    del model_get(document, path[:-1])[place]
    return document


def model_same(left: Any, right: Any) -> bool:
    match left, right:
        case Digits(), Digits():
            return Decimal(left) == Decimal(right)
        case dict(), dict():
            return left.keys() == right.keys() and all(model_same(left[name], right[name]) for name in left)
        case list(), list():
            return len(left) == len(right) and all(map(model_same, left, right))
        case _:
            return type(left) is type(right) and left == right


def pointers(value: Any) -> list[str]:
    """Of everything in ``value``, itself included."""
    found = [""]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        token = str(name).replace("~", "~0").replace("/", "~1")
        found += [f"/{token}{rest}" for rest in pointers(inner)]
    return found


@st.composite
def patches(draw: st.DrawFn, document: Any) -> list[dict[str, Any]]:
    """Operations that mostly can be applied, each drawn for what the ones before have made of the document."""
    operations: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 6))):
        try:
            there = pointers(model(document, operations))
        except Failed:
            there = [""]
        known = st.sampled_from(there)
        near = known.flatmap(
            lambda path: st.sampled_from([path + "/0", path + "/-", path + "/new", path + "/é", path])
        )
        name = draw(st.sampled_from(["add", "add", "remove", "replace", "move", "copy", "test"]))
        path, source = draw(near if name in ("add", "move", "copy") else known), draw(known)
        if name == "move" and path.startswith(f"{source}/"):
            continue
        operation = op(name, path)
        if name in ("move", "copy"):
            operation["from"] = source
        if name in ("add", "replace", "test"):
            try:
                present = model_get(model(document, operations), tokens(path))
            except Failed:
                present = None
            operation["value"] = draw(st.just(present) | values) if name == "test" else draw(values)
        operations.append(operation)
    return operations


documents = st.dictionaries(names, values, max_size=5)


@given(st.data(), documents, randoms)
def test_a_patch_of_the_text_equals_a_patch_of_the_value(
    data: st.DataObject, document: dict[str, Any], random: Random
) -> None:
    operations = data.draw(patches(document))

    text = f" {written(document, random)}\n"
    patch = written(operations, random)
    try:
        expected = model(document, operations)
    except Failed:
        with pytest.raises(UnprocessablePatch):
            apply_json_patch(text, patch)
        return
    if not isinstance(expected, dict):
        with pytest.raises(UnprocessablePatch, match="no JSON object"):
            apply_json_patch(text, patch)
    elif not model_same(expected.get("id"), document.get("id")):
        with pytest.raises(BusinessRule, match="id"):
            apply_json_patch(text, patch)
    else:
        answer = apply_json_patch(text, patch)
        assert digits(answer) == expected
        assert list(digits(answer)) == list(expected), "the members stand in another order"
        assert parse(answer).text == answer
        assert answer[0] == " " and answer[-1] == "\n"


def span(text: str, pointer: str) -> tuple[int, int]:
    """Where what is at ``pointer`` stands."""
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    for token in tokens(pointer):
        if text[start] == "{":
            start, end = member_spans(text, start)[token]
        else:
            start, end = array_item_spans(text, start)[int(token)]
    return start, end


def raw(text: str, pointer: str) -> str:
    start, end = span(text, pointer)
    return text[start:end]


@given(st.data(), documents, randoms)
def test_what_one_operation_does_not_touch_keeps_its_bytes(
    data: st.DataObject, document: dict[str, Any], random: Random
) -> None:
    text = written(document, random)
    there = [pointer for pointer in pointers(document) if pointer and not pointer.startswith("/id")]
    if not there:
        return
    pointer = data.draw(st.sampled_from(there))
    name = data.draw(st.sampled_from(["add", "remove", "replace"]))
    answer = apply_json_patch(text, json.dumps([op(name, pointer, value={"new": [1, 2]})]))

    holder, _, last = pointer.rpartition("/")
    (start, end), (_, new_end) = span(text, holder), span(answer, holder)
    assert answer[:start] == text[:start]
    assert answer[new_end:] == text[end:]
    before, after = text[start:end], answer[start:new_end]
    if before[0] == "{":
        [changed] = tokens(f"/{last}")
        old, new = member_spans(before), member_spans(after)
        assert [name for name in new if name != changed] == [name for name in old if name != changed]
        for member in old.keys() - {changed}:
            assert before[slice(*old[member])] == after[slice(*new[member])]
    else:
        items = [before[slice(*one)] for one in array_item_spans(before, 0)]
        kept = [after[slice(*one)] for one in array_item_spans(after, 0)]
        place = int(last)
        added, gone = {"add": (1, 0), "remove": (0, 1), "replace": (1, 1)}[name]
        assert kept[:place] + kept[place + added :] == items[:place] + items[place + gone :]


@given(documents, randoms)
def test_looking_into_everything_changes_nothing(document: dict[str, Any], random: Random) -> None:
    text = written(document, random)
    patch = [
        '{"op":"test","path":' + json.dumps(pointer) + ',"value":' + raw(text, pointer) + "}"
        for pointer in pointers(document)
    ]
    assert apply_json_patch(text, "[" + ",".join(patch) + "]") == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["op", "path", "from", "value"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=20,
)
operations = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]) | json_values,
        "path": st.sampled_from(["", "/", "/id", "/component/0", "/component/-", "/valueQuantity/value"])
        | json_values,
        "from": st.sampled_from(["", "/id", "/component", "/component/1/valueQuantity"]) | json_values,
        "value": json_values,
    },
)


@given(
    st.binary(max_size=30)
    | st.lists(operations | json_values, max_size=6).map(json.dumps)
    | st.text(max_size=30)
)
def test_whatever_comes_in_an_error_of_ours_comes_out_or_a_text_that_is_read_again(
    patch: bytes | str,
) -> None:
    with suppress(MalformedBody, MalformedPatch, UnprocessablePatch, BusinessRule, TooCostly):
        assert parse(apply_json_patch(PRETTY, patch)).value["id"] == "o1"
