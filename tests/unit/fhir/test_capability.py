"""What the CapabilityStatement says can be searched by is what searches answer, no more and no less."""

import json
from typing import Any

import pytest

from app.errors import UnsupportedSearch
from app.fhir.capability import capability_statement
from app.fhir.parameters import parameters_of
from app.fhir.query import KEPT_APART, parse_search

STATEMENT = json.loads(
    capability_statement("http://x/fhir", "http://x/token", date="2026-01-01", version="0")
)
RESOURCES: list[dict[str, Any]] = STATEMENT["rest"][0]["resource"]
VALUES = {
    "token": "a|b",
    "reference": "Patient/1",
    "date": "2020",
    "string": "x",
    "uri": "urn:x",
    "number": "5",
    "quantity": "5",
    "special": "1|2|3|km",
}


def value_of(resource_type: str, code: str, kind: str) -> str:
    if kind == "composite":
        parts = parameters_of(resource_type)[code].components
        return "$".join(VALUES[part.type] for part in parts)
    return {"_filter": "_id eq 1", "_list": "1"}.get(code, VALUES[kind])


@pytest.mark.parametrize("resource", RESOURCES, ids=[one["type"] for one in RESOURCES])
def test_what_is_advertised_is_answered_and_what_is_answered_is_advertised(resource: dict[str, Any]) -> None:
    kind = resource["type"]
    if kind in KEPT_APART:
        return
    named = {one["name"]: one["type"] for one in resource["searchParam"]}
    for code, of in named.items():
        assert parse_search(kind, [(code, value_of(kind, code, of))], strict=True).criteria, (kind, code)
    for code in parameters_of(kind).keys() - named.keys():
        with pytest.raises(UnsupportedSearch):
            parse_search(kind, [(code, "x")], strict=True)


def test_near_sounds_words_and_filters_are_advertised_where_they_work() -> None:
    by_type = {one["type"]: {it["name"] for it in one["searchParam"]} for one in RESOURCES}
    assert "near" in by_type["Location"] and "near" not in by_type["Organization"]
    assert {one for one, names in by_type.items() if "phonetic" in names} == {
        *("InsurancePlan", "Organization", "Patient", "Person", "Practitioner", "RelatedPerson"),
    }
    assert {"_text", "_content", "_filter"} <= by_type["Patient"]
    assert "_text" not in by_type["Binary"] and "_content" in by_type["Binary"]


def test_no_type_is_advertised_twice() -> None:
    for resource in RESOURCES:
        names = [one["name"] for one in resource["searchParam"]]
        assert len(names) == len(set(names)), resource["type"]
