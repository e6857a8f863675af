"""The last of each kind: R4's own examples, and what always holds of the grouping."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fhir.lastn import last_of_each

Body = Mapping[str, Any]


def an(codes: str = "a", day: int | None = 1, text: str | None = None) -> dict[str, Any]:
    """An Observation with one coding for each letter."""
    concept = {"coding": [{"system": "s", "code": one} for one in codes]} if codes else {}
    found = {"resourceType": "Observation", "code": concept | ({"text": text} if text else {})}
    return found | ({"effectiveDateTime": f"2026-01-{day:02}"} if day else {})


def last(observations: Sequence[Body], most: int = 1) -> list[int]:
    """Places of what is chosen."""
    places = list(range(len(observations)))
    return last_of_each(places, lambda one: observations[one], most=most)


@pytest.mark.parametrize(
    ("codes", "groups"), [(("a", "b", "c"), 3), (("a", "b", "ac"), 2), (("a", "b", "ab"), 1)]
)
def test_grouping_is_r4s_table(codes: tuple[str, ...], groups: int) -> None:
    assert len(last([an(one, day) for day, one in enumerate(codes, 1)])) == groups


def test_texts_are_kinds_as_they_are_written_where_nothing_is_coded() -> None:
    texts = [an("", day, text) for day, text in enumerate(("text", "Text", "t e x t", "text"), 1)]
    assert last(texts) == [3, 2, 1]
    assert last([an("a", 1, "one"), an("a", 2, "two")]) == [1]


def test_the_same_code_of_another_system_or_of_none_is_another_kind() -> None:
    other = {"resourceType": "Observation", "code": {"coding": [{"system": "t", "code": "a"}]}}
    without = {"resourceType": "Observation", "code": {"coding": [{"code": "a"}]}}
    assert len(last([an("a"), other, without])) == 3


def test_the_newest_come_first_and_ties_come_together() -> None:
    observations = [an("a", 1), an("a", 3), an("b", 2), an("a", 2), an("a", 2)]
    assert last(observations) == [1, 2]
    assert last(observations, 2) == [1, 2, 3, 4]
    assert last(observations, 3) == [1, 2, 3, 4]
    assert last(observations, 4) == [1, 2, 3, 4, 0]


def test_what_tells_no_time_is_older_than_what_does() -> None:
    assert last([an("a", None), an("a", 1)]) == [1]
    assert last([an("a", None), an("a", 1)], 2) == [1, 0]
    assert last([an("a", None), an("a", None)]) == [0, 1]


@pytest.mark.parametrize(
    "effective",
    [
        {"effectivePeriod": {"start": "2026-02-01", "end": "2026-02-03"}},
        {"effectiveInstant": "2026-02-01T00:00:00Z"},
        {"effectiveTiming": {"event": ["2026-02-01"]}},
    ],
)
def test_any_effective_time_counts(effective: Body) -> None:
    assert last([an("a", 31), {**an("a", None), **effective}]) == [1]


@pytest.mark.parametrize("code", [None, 7, {}, {"coding": 7}, {"coding": [7, {}, {"code": 7}]}, {"text": 7}])
def test_what_has_no_kind_is_one_of_its_own(code: Any) -> None:
    strange = {"resourceType": "Observation", "code": code}
    assert len(last([strange, strange, an("a")])) == 3


_bodies = st.lists(
    st.builds(an, st.text("abcdef", max_size=3), st.none() | st.integers(1, 9)), min_size=1, max_size=12
)


def components(observations: Sequence[Body]) -> list[set[int]]:
    """The same grouping, told slowly: joined until nothing more can be."""
    found = [
        ({place}, {one["code"] for one in body["code"].get("coding", [])})
        for place, body in enumerate(observations)
    ]
    while True:
        for one in found:
            other = next((two for two in found if two is not one and two[1] & one[1]), None)
            if other is not None:
                found = [two for two in found if two not in (one, other)]
                found.append((one[0] | other[0], one[1] | other[1]))
                break
        else:
            return [places for places, _ in found]


@given(_bodies, st.integers(1, 4))
def test_each_group_gives_its_newest_and_their_ties(observations: list[Body], most: int) -> None:
    chosen = set(last(observations, most))
    for group in components(observations):
        days = sorted((observations[one].get("effectiveDateTime", "") for one in group), reverse=True)
        least = days[:most][-1]
        assert chosen & group == {
            one for one in group if observations[one].get("effectiveDateTime", "") >= least
        }


@given(_bodies, st.integers(1, 4))
def test_nothing_depends_on_the_order_they_are_found_in(observations: list[Body], most: int) -> None:
    backwards = observations[::-1]
    assert {len(observations) - 1 - one for one in last(backwards, most)} == set(last(observations, most))


@given(_bodies, st.integers(1, 4))
def test_the_answer_is_from_newest_to_oldest(observations: list[Body], most: int) -> None:
    days = [observations[one].get("effectiveDateTime", "") for one in last(observations, most)]
    assert days == sorted(days, reverse=True)
