"""Binary: bytes go in and come out the same, and what stands for them is named or refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BusinessRule
from app.fhir.binaries import Content, media_type, security_context, stands_for, unwrapped, wrapped
from app.fhir.validation import validate

BASE = "https://node.example/fhir"


@given(st.binary(max_size=500), st.sampled_from(["application/pdf", "text/plain; charset=utf-8"]))
def test_bytes_come_out_as_they_went_in_and_the_resource_is_valid(data: bytes, kind: str) -> None:
    content = Content(data, kind, "Patient/1")
    text = wrapped(content, "b1")
    assert unwrapped(text) == content
    validate(json.loads(text), expected_type="Binary")


def test_an_empty_binary_has_no_data() -> None:
    text = wrapped(Content(b"", "text/plain"), None)
    assert json.loads(text) == {"resourceType": "Binary", "contentType": "text/plain"}
    assert unwrapped(text) == Content(b"", "text/plain")


def test_base64_may_be_spaced_and_escaped() -> None:
    found = unwrapped('{"resourceType":"Binary","contentType":"a/b","data":"\\/\\/79\\n AQID"}')
    assert found is not None and found.data == b"\xff\xfe\xfd\x01\x02\x03"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("text/plain", "text/plain"),
        (" text/plain;  charset=utf-8 ", "text/plain; charset=utf-8"),
        ('multipart/related; boundary="a b"', 'multipart/related; boundary="a b"'),
        ("text", None),
        ("", None),
        ("text/plain, text/html", None),
        ("text/plain; charset", None),
        ("text/pläin", None),
        ("text/plain\u0000", None),
    ],
)
def test_a_media_type_is_one_or_none(text: str, found: str | None) -> None:
    assert media_type(text) == found


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("Patient/1", "Patient/1"),
        (f"{BASE}/DocumentReference/d", "DocumentReference/d"),
        ("DocumentReference/d/_history/3", "DocumentReference/d"),
    ],
)
def test_a_resource_of_ours_stands_for_the_bytes(reference: str, meant: str) -> None:
    binary = {"resourceType": "Binary", "securityContext": {"reference": reference}}
    assert stands_for(binary, BASE) == meant
    assert stands_for(security_context(json.dumps(binary)), BASE) == meant


@pytest.mark.parametrize(
    "text", ['{"resourceType":"Binary"}', '{"resourceType":"Binary","data":"securityContext"}']
)
def test_no_context_is_no_context(text: str) -> None:
    assert stands_for(json.loads(text), BASE) is None
    assert stands_for(security_context(text), BASE) is None


@pytest.mark.parametrize(
    "context",
    [
        {"reference": "https://other.example/fhir/Patient/1"},
        {"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"},
        {"reference": "#patient"},
        {"reference": "Binary/other"},
        {"reference": "patient/1"},
        {"reference": "Patient"},
        {"reference": "Patient?identifier=1"},
        {"identifier": {"system": "s", "value": "1"}},
        {"display": "somebody"},
        {"reference": None},
        {},
        None,
        [],
        "Patient/1",
    ],
)
def test_a_context_that_does_not_tell_whose_the_bytes_are_is_refused(context: Any) -> None:
    with pytest.raises(BusinessRule) as refused:
        stands_for({"resourceType": "Binary", "securityContext": context}, BASE)
    assert refused.value.issues[0].expression == "Binary.securityContext"
