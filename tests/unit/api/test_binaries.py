"""Whether the bytes of a Binary are wanted or the resource: what Accept names decides, and whether they are shown."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.binaries import prefers_bytes, wanted_of_binary
from app.errors import NotAcceptable

PDF = "application/pdf"


@pytest.mark.parametrize(
    ("accept", "native", "is_bytes"),
    [
        ("*/*", PDF, True),
        ("", PDF, True),
        ("application/pdf", PDF, True),
        ("application/*", PDF, True),
        ("image/png", PDF, True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", PDF, True),
        ("text/html,application/xml", PDF, False),
        ("image/png, application/json", PDF, False),
        ("application/fhir+json", PDF, False),
        ("application/fhir+xml", PDF, False),
        ("application/fhir+json, */*", PDF, False),
        ("application/fhir+json, */*;q=0.1", PDF, False),
        ("application/fhir+json;q=0.5, application/pdf", PDF, True),
        ("application/fhir+json, application/pdf;q=0.5", PDF, False),
        ("application/fhir+json, application/pdf", PDF, False),
        ("application/fhir+json;q=0.1, */*;q=0.5", PDF, True),
        ("application/fhir+json;q=0, */*", PDF, True),
        ("application/pdf;q=0, */*", PDF, False),
        ("application/json", PDF, False),
        ("application/json", "application/json", True),
        ("application/json", "application/fhir+json", False),
        ("application/json, application/fhir+json", "application/json", False),
        ("application/json, text/plain, */*", "text/plain", True),
        ("application/json, text/plain, */*", PDF, True),
        ("text/xml", "text/xml", True),
        ("application/xml", "text/xml", False),
        ("application/fhir+json", "application/fhir+json", False),
        ("*/*", "application/fhir+json", True),
    ],
)
def test_accept_chooses_between_the_bytes_and_the_resource(accept: str, native: str, is_bytes: bool) -> None:
    assert prefers_bytes(accept, native) is is_bytes


@pytest.mark.parametrize(
    "accept",
    ["application/pdf;q=0", "*/*;q=0", "application/fhir+json;q=0", "application/fhir+json; fhirVersion=5.0"],
)
def test_who_accepts_neither_gets_neither(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        prefers_bytes(accept, PDF)


def _answer(content_type: str, data: bytes = b"hello", accept: str = "*/*", **more: object) -> dict[str, str]:
    text = json.dumps(
        {
            "resourceType": "Binary",
            "id": "b",
            "contentType": content_type,
            **more,
            "data": base64.b64encode(data).decode(),
        }
    )
    shape = wanted_of_binary({"query_string": b""}, {b"accept": accept.encode()})
    answer = shape.response(text, 200, {"ETag": 'W/"1"'})
    assert bytes(answer.body) == data
    return dict(answer.headers)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/xml",
        "application/javascript",
        "text/javascript",
        "text/css",
        "application/zip",
        "application/x-unheard-of",
        "not a media type",
        "text/plain\r\nSet-Cookie: a=b",
        'text/plain; x="é"',
        "téxt/plain",
        "",
    ],
)
def test_what_a_browser_may_run_is_for_saving_and_never_runs(content_type: str) -> None:
    headers = _answer(content_type)
    assert headers["content-disposition"] == "attachment"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert "\n" not in headers["content-type"] and "set-cookie" not in headers


@pytest.mark.parametrize("content_type", ["application/pdf", "image/png", "text/plain; charset=utf-8"])
def test_what_is_inert_may_be_shown_sandboxed_as_it_is(content_type: str) -> None:
    headers = _answer(content_type)
    assert headers["content-type"] == content_type
    assert "content-disposition" not in headers
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"


def test_the_security_context_is_told_unless_a_header_cannot_hold_it() -> None:
    told = _answer(PDF, securityContext={"reference": "DocumentReference/d"})
    assert told["x-security-context"] == "DocumentReference/d"
    odd: object
    for odd in ({"reference": "a\nb"}, {"reference": "é"}, {"display": "nobody"}, {"reference": 7}, []):
        assert "x-security-context" not in _answer(PDF, securityContext=odd)


def test_bytes_that_are_no_base64_stay_in_the_resource() -> None:
    shape = wanted_of_binary({"query_string": b""}, {b"accept": b"*/*"})
    answer = shape.response('{"resourceType":"Binary","contentType":"a/b","data":"a"}', 200, {})
    assert answer.headers["content-type"].startswith("application/fhir+json")


@given(st.binary(max_size=200), st.text(max_size=30), st.text(max_size=30))
def test_any_binary_is_answered_with_headers_that_are_well_formed(
    data: bytes, content_type: str, reference: str
) -> None:
    headers = _answer(content_type, data, securityContext={"reference": reference})
    assert all(value.isprintable() and value.isascii() for value in headers.values())


@given(
    st.text(st.characters(codec="latin-1"), max_size=60),
    st.sampled_from([PDF, "text/plain", "application/json"]),
)
def test_whatever_is_accepted_only_our_own_refusal_comes_out(accept: str, native: str) -> None:
    try:
        prefers_bytes(accept, native)
    except NotAcceptable:
        return
