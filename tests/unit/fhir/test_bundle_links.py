"""Which strings of a resource are links to other entries, and what they become (R4 http, 3.1.0.11.2)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest
from app.fhir.bundle_links import BundleLinks, Links, referring

BASE = "https://node.example/fhir"
URN = "urn:uuid:00000000-0000-4000-8000-000000000001"
FOREIGN = "http://a.example/fhir/Patient/0"
LINKS = BundleLinks(
    {URN: "Patient/1", FOREIGN: "Patient/2", f"{BASE}/Patient/3": "Patient/3", "Patient/4": "Patient/4"}, BASE
)


def of(text: str, *, full_url: str | None = None, **versions: int) -> Links:
    known = {name.replace("_", "/"): version for name, version in versions.items()}
    return LINKS.of(text, full_url=full_url, versions=known)


def referring_to(reference: str) -> str:
    return json.dumps({"resourceType": "Observation", "subject": {"reference": reference}})


@pytest.mark.parametrize(
    ("reference", "full_url", "becomes"),
    [
        (URN, None, "Patient/1"),
        (FOREIGN, None, "Patient/2"),
        ("Patient/0", "http://a.example/fhir/Observation/1", "Patient/2"),
        ("Patient/0", "http://b.example/fhir/Observation/1", None),
        ("Patient/0", None, None),
        (f"{BASE}/Patient/3", None, None),
        ("Patient/3", f"{BASE}/Observation/1", None),
        ("Patient/4", None, None),
        (f"{URN}0", None, None),
        (f"{URN}/_history/9", None, "Patient/1/_history/5"),
        ("Patient/0/_history/9", "http://a.example/fhir/Observation/1", "Patient/2/_history/6"),
        (f"{BASE}/Patient/3/_history/2", None, None),
    ],
)
def test_a_link_becomes_the_reference_here(reference: str, full_url: str | None, becomes: str | None) -> None:
    found = of(referring_to(reference), full_url=full_url, Patient_1=5, Patient_2=6)
    assert found.known == ({reference: becomes} if becomes else {})
    assert found.are_known


def test_a_version_that_is_not_known_yet_is_said_to_be_missing() -> None:
    found = of(referring_to(f"{URN}/_history/9"))
    assert (found.known, found.versions) == ({}, {f"{URN}/_history/9": "Patient/1"})
    assert not found.are_known


@pytest.mark.parametrize(
    "text",
    [
        referring_to("Patient?identifier=a|b"),
        referring_to("Patient?identifier=a|b").replace("?", "\\u003f"),
        '{"subject":{\n"reference" :\t"Patient?identifier=a|b"}}',
    ],
)
def test_a_reference_that_is_a_search_is_found_however_it_is_written(text: str) -> None:
    assert of(text).searches == {"Patient?identifier=a|b"}


@pytest.mark.parametrize(
    "text",
    [
        '{"valueString":"Patient?identifier=a"}',
        json.dumps({"note": '{"reference":"Patient?identifier=a"}'}),
        referring_to("http://b.example/fhir/Patient?identifier=a"),
        referring_to("#a?b=c"),
        referring_to("urn:x?y"),
    ],
)
def test_other_questions_are_no_searches(text: str) -> None:
    assert of(text).are_known


def test_a_search_is_of_a_type_and_may_begin_with_our_base() -> None:
    reference = f"{BASE}/Patient?identifier=a"
    assert of(referring_to(reference)).searches == {reference}
    assert (
        LINKS.search_of(reference) == LINKS.search_of("Patient?identifier=a") == ("Patient", "identifier=a")
    )
    for wrong in ("patient?identifier=a", "Nonsense?identifier=a"):
        with pytest.raises(BadRequest):
            of(referring_to(wrong))


def test_a_json_patch_has_a_search_by_its_form() -> None:
    patch = json.dumps([{"op": "add", "path": "/subject/reference", "value": "Patient?identifier=a|b"}])
    found = LINKS.of(patch, full_url=None, versions={}, is_json_patch=True)
    assert found.searches == {"Patient?identifier=a|b"}
    prose = json.dumps([{"op": "add", "path": "/note/-", "value": {"text": "Patient? name = ?"}}])
    assert LINKS.of(prose, full_url=None, versions={}, is_json_patch=True).are_known


def test_a_link_of_a_narrative_is_found() -> None:
    div = f"<div><a href='{FOREIGN}'>x</a><img src=\"{URN}\"/></div>"
    assert of(json.dumps({"text": {"div": div}})).known == {FOREIGN: "Patient/2", URN: "Patient/1"}


@given(st.lists(st.text(max_size=20), max_size=5), st.booleans())
def test_a_link_is_found_between_whatever_other_strings(others: list[str], first: bool) -> None:
    strings = [URN, *others] if first else [*others, URN]
    for escaped in (True, False):
        text = json.dumps({"x": strings, "\\": "\\", '"': '"'}, ensure_ascii=escaped)
        assert of(text).known == {URN: "Patient/1"}


def test_places_that_refer_are_told() -> None:
    texts = [referring_to(URN), None, referring_to("Patient/1"), referring_to(FOREIGN)]
    assert list(referring(texts, frozenset({URN}))) == [0]
