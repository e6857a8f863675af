"""The requests of a Bundle are read strictly, each resource's text as it was sent (R4 http, 3.1.0.11)."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest, MalformedBody, TooLarge
from app.fhir.bundled import METHODS, MOST_ENTRIES, BundleRequest, read_bundle, root_of
from tests.bundles import entry, json_patch

BASE = "https://node.example/fhir"


def read(*entries: Any, kind: str = "transaction") -> tuple[BundleRequest, ...]:
    body = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
    return read_bundle(json.dumps(body), BASE).requests


def one(method: str, url: str, resource: Any = None, **conditions: str) -> BundleRequest:
    [found] = read(entry(method, url, resource, **conditions))
    return found


def test_a_resource_keeps_every_character_and_its_place() -> None:
    text = '{ "resourceType":"Observation",  "valueQuantity":{"value":1.50}, "id":"a\\u0062" }'
    body = (
        '{"entry":[{"request":{"url":"Observation","method":"POST"} , "resource" : '
        + text
        + '},{"request":{"method":"GET","url":"Patient/p1"}}],"type":"batch","resourceType":"Bundle"}'
    )
    bundled = read_bundle(body.encode(), BASE)
    first, second = bundled.requests
    assert bundled.kind == "batch"
    assert (first.text, first.resource_type, first.given_id) == (text, "Observation", "ab")
    assert (second.place, second.method, second.path, second.text) == (1, "GET", "Patient/p1", None)


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("Patient/p1", "Patient/p1", ""),
        (f"{BASE}/Patient/p1", "Patient/p1", ""),
        (BASE, "", ""),
        ("", "", ""),
        ("Patient/p%31", "Patient/p1", ""),
        ("Patient?name=a%26b&x=y?z", "Patient", "name=a%26b&x=y?z"),
        (f"Patient?_source={BASE}/x", "Patient", f"_source={BASE}/x"),
        ("?_type=Patient", "", "_type=Patient"),
    ],
)
def test_an_address_is_below_the_base_and_decoded_once(url: str, path: str, query: str) -> None:
    found = one("GET", url)
    assert (found.path, found.query) == (path, query)
    assert found.url == (f"{path}?{query}" if query else path)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-24T10:15:30Z", datetime(2026, 11, 24, 10, 15, 30, tzinfo=UTC)),
        ("2026-11-24T10:15:30.123456789+01:00", datetime(2026, 11, 24, 9, 15, 30, 123456, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_with_its_zone(text: str, instant: datetime) -> None:
    assert one("GET", "Patient/p1", ifModifiedSince=text).if_modified_since == instant


def test_what_no_resource_can_say_is_sent_in_a_binary() -> None:
    patch = [{"op": "remove", "path": "/note"}]
    media_type, body = one("PATCH", "Observation/o1", json_patch(*patch)).sent
    assert (media_type, json.loads(body)) == ("application/json-patch+json", patch)
    assert one("POST", "Patient/_search").sent == ("application/x-www-form-urlencoded", b"")
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="}
    media_type, body = one("POST", "Binary", binary).sent
    assert (media_type, json.loads(body)) == ("application/fhir+json", binary)
    assert one("GET", "Patient/p1").sent == ("application/fhir+json", b"")
    for data in ("eA", "e A==!", "ä"):
        with pytest.raises(BadRequest):
            assert one("PATCH", "Observation/o1", {**binary, "data": data}).sent


def test_the_order_is_r4s() -> None:
    found = read(*(entry(method, "Patient/p1") for method in reversed(METHODS)))
    ordered = [request.method for request in sorted(found, key=lambda request: request.order)]
    assert ordered[:2] == ["DELETE", "POST"]
    assert (set(ordered[2:4]), set(ordered[4:])) == ({"PUT", "PATCH"}, {"GET", "HEAD"})
    assert {request.method for request in found if request.reads} == {"GET", "HEAD"}


def test_as_many_entries_as_there_may_be_and_not_one_more() -> None:
    reading = entry("GET", "Patient/p1")
    assert len(read(*[reading] * MOST_ENTRIES)) == MOST_ENTRIES
    with pytest.raises(TooLarge, match="5,001"):
        read(*[reading] * (MOST_ENTRIES + 1))


@pytest.mark.parametrize(
    ("full_url", "root"),
    [
        ("http://a.example/fhir/Patient/1", "http://a.example/fhir"),
        ("https://a.example/Patient/1", "https://a.example"),
        ("http://a.example/fhir/Nonsense/1", None),
        ("urn:uuid:00000000-0000-4000-8000-000000000001", None),
        ("Patient/1", None),
        (None, None),
    ],
)
def test_the_root_is_that_of_a_restful_address(full_url: str | None, root: str | None) -> None:
    assert root_of(full_url) == root


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
members = st.dictionaries(
    st.sampled_from(["request", "resource", "fullUrl", "link", "x", "_fullUrl"]),
    jsons
    | st.dictionaries(
        st.sampled_from(["method", "url", "ifMatch", "ifNoneMatch", "ifModifiedSince", "ifNoneExist", "id"]),
        jsons
        | st.sampled_from([*METHODS, "Patient/p1", "Patient?x=y", "http://a.example/Patient/1", "/x", "%f"]),
    ),
)


@given(st.lists(members | jsons, max_size=3), st.sampled_from(["transaction", "batch"]))
def test_whatever_is_sent_is_read_or_refused_in_words_that_name_the_entry(
    entries: list[Any], kind: str
) -> None:
    with suppress(MalformedBody, TooLarge):
        try:
            read(*entries, kind=kind)
        except BadRequest as error:
            if isinstance(error, MalformedBody):
                raise
            named = [issue for issue in error.issues if (issue.expression or "").startswith("Bundle.entry")]
            if len(named) < len(error.issues):
                raise AssertionError(error.issues) from error
