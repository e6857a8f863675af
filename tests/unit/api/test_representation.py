"""What a caller gets: JSON or XML by ``_format`` or ``Accept``, and nothing that was not asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.representation import Representation, is_xml_body, wanted
from app.errors import NotAcceptable, UnsupportedMediaType


def asked(accept: str | None, query: str = "") -> Representation:
    headers = {} if accept is None else {b"accept": accept.encode()}
    return wanted({"query_string": query.encode()}, headers)


@pytest.mark.parametrize(
    ("accept", "is_xml"),
    [
        (None, False),
        ("*/*", False),
        ("application/fhir+json", False),
        ("application/json", False),
        ("application/fhir+xml", True),
        ("application/xml", True),
        ("text/xml", True),
        ("application/fhir+xml, application/fhir+json", False),
        ("application/fhir+xml, */*", True),
        ("application/fhir+xml;q=0.5, application/fhir+json;q=0.4", True),
        ("application/fhir+json;q=0.1, application/fhir+xml;q=0.9", True),
        ("text/html, application/xhtml+xml, */*;q=0.8", False),
        ("application/fhir+json; fhirVersion=4.0", False),
        ("application/fhir+xml; fhirVersion=4.0.1", True),
        ("application/fhir+json;q=0, application/*", True),
    ],
)
def test_accept_chooses_by_weight_and_json_where_nobody_minds(accept: str | None, is_xml: bool) -> None:
    assert asked(accept).is_xml is is_xml


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain",
        "text/html",
        "application/fhir+json;q=0",
        "*/*;q=0",
        "application/fhir+json; fhirVersion=3.0",
        "",
    ],
)
def test_what_is_neither_is_not_acceptable(accept: str) -> None:
    if accept == "":
        assert not asked(accept).is_xml
        return
    with pytest.raises(NotAcceptable):
        asked(accept)


@pytest.mark.parametrize(
    ("query", "is_xml"),
    [
        ("_format=xml", True),
        ("_format=json", False),
        ("_format=application/fhir+xml", True),
        ("_format=application/fhir%2Bxml", True),
        ("_format=text/xml&_count=3", True),
        ("_format=application%2Fjson", False),
    ],
)
def test_format_wins_over_accept(query: str, is_xml: bool) -> None:
    for accept in ("application/fhir+json", "application/fhir+xml", "text/plain"):
        assert asked(accept, query).is_xml is is_xml


@pytest.mark.parametrize("given_format", ["ttl", "html", "application/fhir+turtle", "nonsense"])
def test_a_format_that_is_not_offered_is_not_acceptable(given_format: str) -> None:
    with pytest.raises(NotAcceptable):
        asked("*/*", f"_format={given_format}")


def test_pretty_is_only_what_says_so() -> None:
    assert asked(None, "_pretty=true").is_pretty
    assert not asked(None, "_pretty=false").is_pretty
    assert not asked(None, "pretty=true").is_pretty


@pytest.mark.parametrize("media", ["application/fhir+xml", "application/xml; charset=utf-8", "TEXT/XML"])
def test_an_xml_body_says_so(media: str) -> None:
    assert is_xml_body(media)


@pytest.mark.parametrize("media", ["", "xml", "json", "text/plain", "application/fhir+json; fhirVersion=5.0"])
def test_a_body_of_another_kind_is_refused(media: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        is_xml_body(media)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_asked_only_our_own_refusal_comes_out(accept: str, query: str) -> None:
    try:
        found = wanted({"query_string": query.encode()}, {b"accept": accept.encode()})
    except NotAcceptable:
        return
    assert isinstance(found, Representation)
