"""A Bundle's own URLs move to another base; what is a custodian's stays byte for byte."""

import json

from hypothesis import given
from hypothesis import strategies as st

from app.fhir import bundle

BASE, TO = "http://127.0.0.1:8080/fhir", "https://care.example/north/fhir"
RESOURCE = (
    f'{{"resourceType":"Basic","id":"b","implicitRules":"{BASE}/x","code":{{"text":"{BASE}/Basic/b"}}}}'
)


def test_links_and_full_urls_move_and_the_resource_does_not() -> None:
    entries = [
        bundle.Entry(f"{BASE}/Basic/b", RESOURCE),
        bundle.Entry("http://127.0.0.1:8080/fhir2/Basic/c", RESOURCE),
        bundle.Entry("https://other.example/fhir/Basic/d", RESOURCE),
    ]
    text = bundle.searchset(
        entries, links=[("self", f"{BASE}/Basic?_id=b"), ("x", BASE)], total=3, outcome=None
    )
    found = json.loads(bundle.moved(text, BASE, TO))
    assert [one["url"] for one in found["link"]] == [f"{TO}/Basic?_id=b", TO]
    assert [one["fullUrl"] for one in found["entry"]] == [
        f"{TO}/Basic/b",
        "http://127.0.0.1:8080/fhir2/Basic/c",
        "https://other.example/fhir/Basic/d",
    ]
    assert bundle.moved(text, BASE, TO).count(RESOURCE) == 3


def test_locations_move() -> None:
    entry = bundle.response_entry(
        status="201 Created", location=f"{BASE}/Basic/b/_history/1", resource=RESOURCE
    )
    text = bundle.response("transaction-response", [entry, bundle.response_entry(status="204 No Content")])
    found = json.loads(bundle.moved(text, BASE, TO))
    assert found["entry"][0]["response"]["location"] == f"{TO}/Basic/b/_history/1"
    assert RESOURCE in bundle.moved(text, BASE, TO)


@given(st.lists(st.sampled_from(["Basic/1", "Basic/é", 'Basic/"', "_page?_cursor=a&b=c"]), max_size=5))
def test_moved_there_and_back_is_where_it_was(addresses: list[str]) -> None:
    entries = [bundle.Entry(f"{BASE}/{one}", RESOURCE) for one in addresses]
    links = [("next", f"{BASE}/{one}") for one in addresses]
    text = bundle.searchset(entries, links=links, total=None, outcome='{"resourceType":"OperationOutcome"}')
    assert bundle.moved(bundle.moved(text, BASE, TO), TO, BASE) == text
