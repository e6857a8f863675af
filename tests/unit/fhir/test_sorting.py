"""What ``_sort`` does with any resources (R4 search, 3.1.1.5.2)."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fhir.sorting import Sortable, SortKey, ordered

BASE = "https://candour.test/fhir"
KEYS = [
    SortKey(code, descending)
    for code in ("code", "date", "value-quantity", "encounter", "status", "_id", "_lastUpdated")
    for descending in (False, True)
]


def seen(one: dict[str, Any]) -> Sortable:
    at = one.get("meta", {}).get("lastUpdated")
    return Sortable((one["id"],), datetime.fromisoformat(at) if at else None, lambda: one, BASE)


@st.composite
def observations(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for place in range(draw(st.integers(0, 8))):
        one: dict[str, Any] = {"resourceType": "Observation", "id": f"o{place}", "status": "final"}
        if draw(st.booleans()):
            codes = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2))
            one["code"] = {"coding": [{"system": "urn:s", "code": code} for code in codes]}
        if draw(st.booleans()):
            one["effectiveDateTime"] = draw(st.sampled_from(["2025", "2025-03", "2026-03-01T10:00:00Z"]))
        if draw(st.booleans()):
            unit = draw(st.sampled_from(["g", "mg", "{x}"]))
            one["valueQuantity"] = {
                "value": draw(st.integers(-3, 3)),
                "system": "http://unitsofmeasure.org",
                "code": unit,
            }
        if draw(st.booleans()):
            one["encounter"] = {"reference": f"Encounter/{draw(st.sampled_from('12'))}"}
        if draw(st.booleans()):
            one["meta"] = {"lastUpdated": datetime(2026, 1, draw(st.integers(1, 3)), tzinfo=UTC).isoformat()}
        found.append(one)
    return draw(st.permutations(found))


@given(observations(), st.lists(st.sampled_from(KEYS), max_size=3))
def test_the_order_does_not_depend_on_how_the_resources_came(
    found: list[dict[str, Any]], keys: list[SortKey]
) -> None:
    there, back = ordered(found, keys, seen), ordered(found[::-1], keys, seen)
    assert there == back
    assert sorted(one["id"] for one in there) == sorted(one["id"] for one in found)


@given(observations(), st.sampled_from(KEYS[:10]))
def test_what_has_no_value_comes_last_in_both_directions(found: list[dict[str, Any]], key: SortKey) -> None:
    members = {
        "code": "code",
        "date": "effectiveDateTime",
        "value-quantity": "valueQuantity",
        "encounter": "encounter",
        "status": "status",
    }
    there = [members[key.parameter] in one for one in ordered(found, [key], seen)]
    assert there == sorted(there, reverse=True)


@given(observations(), st.sampled_from(KEYS[:10]), st.lists(st.sampled_from(KEYS), max_size=2))
def test_a_later_key_counts_only_where_the_earlier_ones_are_equal(
    found: list[dict[str, Any]], first: SortKey, others: list[SortKey]
) -> None:
    by_all = [one["id"] for one in ordered(found, [first, *others], seen)]
    for one in found:
        for other in found:
            if _differ(one, other, first):
                alone = [it["id"] for it in ordered([one, other], [first], seen)]
                assert [id for id in by_all if id in alone] == alone


def _differ(one: dict[str, Any], other: dict[str, Any], key: SortKey) -> bool:
    """Whether the key alone puts them in order, whichever has the id that comes first."""
    if one is other:
        return False
    firsts = [
        ordered([{**one, "id": mine}, {**other, "id": theirs}], [key], seen)[0]["id"] == mine
        for mine, theirs in (("a", "b"), ("b", "a"))
    ]
    return bool(firsts[0] == firsts[1])


@pytest.mark.parametrize("broken", [{"code": 7}, {"code": {"coding": "x"}}, {"effectiveDateTime": {"a": 1}}])
def test_a_shape_that_is_not_r4s_counts_as_no_value(broken: dict[str, Any]) -> None:
    odd = {"resourceType": "Observation", "id": "a", **broken}
    fine = {
        "resourceType": "Observation",
        "id": "b",
        "code": {"coding": [{"code": "x"}]},
        "effectiveDateTime": "2025",
    }
    for key in (SortKey("code", False), SortKey("date", True)):
        if set(broken) & {"code" if key.parameter == "code" else "effectiveDateTime"}:
            assert [one["id"] for one in ordered([odd, fine], [key], seen)] == ["b", "a"]
