"""What an export asks for, and the lines that it answers with."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest, InvalidInput, MalformedSearch, TooCostly, UnsupportedInput
from app.fhir.export import (
    ExportQuestion,
    File,
    Pair,
    deletions,
    export_manifest,
    exportable,
    group_members,
    line,
    noted,
    pairs_of_parameters,
    read_export,
)
from app.fhir.text import parse

BASE = "https://node.example/fhir"


def asked(*pairs: Pair, lenient: bool = False, posted: bool = False) -> ExportQuestion:
    return read_export("patient", pairs, lenient=lenient, base_url=BASE, posted=posted)


def test_types_and_elements_may_be_given_together_or_apart() -> None:
    assert asked(("_type", "Patient,Observation")) == asked(("_type", "Observation"), ("_type", "Patient"))
    assert asked(("_elements", "id,code")) == asked(("_elements", "id"), ("_elements", "code"))
    assert asked().types is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-24T10:00:00Z", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24T10:00:00.5+01:00", datetime(2026, 11, 24, 9, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-24T10:00:00 01:00", datetime(2026, 11, 24, 9, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_also_where_its_plus_became_a_space(text: str, meant: datetime) -> None:
    assert asked(("_since", text)).since == meant
    assert asked(("_until", text)).until == meant


@pytest.mark.parametrize(
    "text", ["2026-11-24", "2026-11-24T10:00:00", "20261124T100000Z", "", "now", "2026-13-01T00:00:00Z"]
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    for name in ("_since", "_until"):
        with pytest.raises(InvalidInput, match=name):
            asked((name, text))


def test_a_comma_within_a_filter_does_not_end_it() -> None:
    found = asked(
        ("_typeFilter", "Observation?code=a,b&status=final,Condition?code=c\\,Patient?x,Patient?name=A,B")
    )
    assert found.filters == (
        ("Observation", "code=a,b&status=final"),
        ("Condition", "code=c\\,Patient?x"),
        ("Patient", "name=A,B"),
    )


def test_a_filter_is_decoded_once_more_and_keeps_its_plus() -> None:
    [plain] = asked(("_typeFilter", "Observation?date=2026-01-01T00:00:00+01:00")).queries(
        "Observation", BASE
    )
    [escaped] = asked(("_typeFilter", "Observation?date=2026-01-01T00%3A00%3A00%2B01:00")).queries(
        "Observation", BASE
    )
    assert plain.criteria == escaped.criteria


@pytest.mark.parametrize(
    "text",
    ["Observation?", "Observation?code=", "Observation?_sort=date", "Observation?code=a&_total=none", "?code=a",
     "Observation?code=a&_summary=count", "Observation?_revinclude=*", "Observation?code=%ff", "observation?code=a",
     "Organization?name=a", "Observation?subject.nonsense=a", "Observation?code=a&_include:iterate=*",
     "Observation?code=a&_elements=id",
     "Observation?code=a&_pretty=true", "Observation?code=a&_count=1",
     "Observation?_filter=code eq a and status eq final&_sort=date", "Observation?_filter=nonsense eq a"],
)  # fmt: skip
def test_what_is_no_filter_is_refused_also_leniently(text: str) -> None:
    for lenient in (False, True):
        with pytest.raises(InvalidInput, match="_typeFilter"):
            asked(("_typeFilter", text), lenient=lenient)


def test_a_request_has_its_bounds() -> None:
    with pytest.raises(TooCostly):
        asked(*[("_typeFilter", "Observation?code=a")] * 51)
    with pytest.raises(TooCostly):
        asked(*(("patient", f"Patient/{number}") for number in range(1001)), posted=True)


def test_what_is_not_supported_is_refused_or_noted() -> None:
    for pair in (
        ("_type", "Organization"),
        ("_type", "Nonsense"),
        ("organizeOutputBy", "Patient"),
        ("patient", "x"),
    ):
        with pytest.raises(UnsupportedInput):
            asked(("_type", "Patient"), pair)
        assert len(asked(("_type", "Patient"), pair, lenient=True).notes) == 1
    with pytest.raises(InvalidInput):
        asked(("_type", "Organization"), lenient=True)
    with pytest.raises(MalformedSearch):
        asked(("_elements", "a b"), lenient=True)


def test_patients_are_named_by_reference_in_a_posted_request() -> None:
    found = asked(
        ("patient", "Patient/a"), ("patient", f"{BASE}/Patient/b"), ("patient", "Patient/a"), posted=True
    )
    assert found.patients == ("a", "b")
    for value in ("a", "Group/a", "https://other.example/Patient/a", "#a", "urn:uuid:x"):
        with pytest.raises(InvalidInput):
            asked(("patient", value), posted=True)


def test_a_systems_export_names_no_patients() -> None:
    with pytest.raises(UnsupportedInput):
        read_export("system", [("patient", "Patient/a")], lenient=False, base_url=BASE, posted=True)


def test_for_patients_their_compartment_is_exported() -> None:
    assert {"Patient", "Observation", "Provenance", "Group"} <= exportable("patient") == exportable("group")
    assert not {"Organization", "Binary", "AuditEvent"} & exportable("patient")
    assert exportable("patient") < exportable("system")
    assert "AuditEvent" not in exportable("system")


texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


@given(
    st.lists(st.sampled_from(["Patient", "Observation", "Condition"])),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.lists(st.tuples(texts, texts)),
    st.lists(texts),
)
def test_a_question_that_was_saved_is_the_same(
    types: list[str], since: datetime | None, filters: list[Pair], notes: list[str]
) -> None:
    question = ExportQuestion(
        "group", tuple(types) or None, since=since, filters=tuple(filters), notes=tuple(notes), elements="id"
    )
    assert ExportQuestion.restore(json.loads(json.dumps(question.saved()))) == question


@given(
    st.text(max_size=30) | st.sampled_from(["_type", "_typeFilter", "patient", "_since"]),
    st.text(max_size=60),
)
def test_no_request_breaks_it(name: str, value: str) -> None:
    for lenient in (True, False):
        with suppress(BadRequest, TooCostly):
            asked((name, value), ("_type", "Patient,Observation"), lenient=lenient, posted=True)


# Parameters.


def test_parameters_are_read_by_name_and_value() -> None:
    body = {
        "parameter": [
            {"name": "_type", "valueString": "Patient"},
            {"name": "_type", "valueCode": "Observation"},
            {"name": "patient", "valueReference": {"reference": "Patient/a", "display": "A"}},
            {"name": "allowPartialManifests", "valueBoolean": False},
        ]
    }
    assert pairs_of_parameters(body) == [
        ("_type", "Patient"),
        ("_type", "Observation"),
        ("patient", "Patient/a"),
        ("allowPartialManifests", "false"),
    ]
    assert pairs_of_parameters({}) == []


@pytest.mark.parametrize(
    "part",
    [
        {"name": "_type"},
        {"name": "_type", "valueString": "a", "valueCode": "b"},
        {"name": "patient", "valueReference": {"identifier": {"value": "x"}}},
        {"name": "_since", "valueInteger": 3},
        {"name": "x", "part": []},
    ],
)
def test_a_parameter_without_one_plain_value_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        pairs_of_parameters({"parameter": [part]})


def test_members_are_patients_here_that_are_active() -> None:
    members = [
        {"entity": {"reference": "Patient/a"}},
        {"entity": {"reference": f"{BASE}/Patient/b"}, "inactive": False},
        {"entity": {"reference": "Patient/c"}, "inactive": True},
        {"entity": {"reference": "Practitioner/d"}},
        {"entity": {"reference": "https://other.example/Patient/e"}},
        {"entity": {"identifier": {"value": "f"}}},
        {"entity": {"reference": "Patient/a"}},
    ]
    assert group_members({"member": members}, BASE) == ("a", "b")
    assert group_members({}, BASE) == ()


# Lines.

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(blacklist_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@given(
    st.dictionaries(st.sampled_from("abc"), values),
    st.sampled_from([None, 2, "\r\n", "\n\r\n\t"]),
    st.booleans(),
)
def test_a_line_says_what_the_text_says_and_has_one_end(
    value: dict[str, Any], indent: Any, ascii: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    found = line(text)
    assert found.count("\n") == 1 and found.endswith("\n") and "\r" not in found
    assert json.loads(found) == value
    assert [one for one in found if one not in " \t\r\n"] == [one for one in text if one not in " \t\r\n"]


def test_a_line_keeps_every_digit() -> None:
    assert line('{\n"value"\r\n:\n1.50e+01,\n"b":"\u2028 \\n"}') == '{"value":1.50e+01,"b":"\u2028 \\n"}\n'


def test_deletions_and_notes_are_lines_of_resources() -> None:
    bundle = parse(deletions(["Observation/a", "Patient/b"])).value
    assert bundle["type"] == "transaction"
    assert [one["request"] for one in bundle["entry"]] == [
        {"method": "DELETE", "url": "Observation/a"},
        {"method": "DELETE", "url": "Patient/b"},
    ]
    first, second, end = noted(["a\nb", "c"]).split("\n")
    assert end == ""
    assert json.loads(first)["issue"][0]["diagnostics"] == "a\nb"
    assert json.loads(second)["issue"][0]["severity"] == "warning"


def test_a_manifest_tells_what_there_is_and_never_how_much() -> None:
    at = datetime(2026, 11, 24, 10, 0, 0, 123_000, tzinfo=UTC)
    text = export_manifest(
        at=at,
        request=f"{BASE}/$export",
        output=[File("Patient", "u1")],
        deleted=[File("Bundle", "u2")],
        error=[],
    )
    assert json.loads(text) == {
        "transactionTime": "2026-11-24T10:00:00.123Z",
        "request": f"{BASE}/$export",
        "requiresAccessToken": True,
        "output": [{"type": "Patient", "url": "u1"}],
        "deleted": [{"type": "Bundle", "url": "u2"}],
        "error": [],
    }
