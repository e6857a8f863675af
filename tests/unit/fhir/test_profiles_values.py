"""Fixed values are equal JSON, patterns are part of it, and bounds are kept only where an order is sure."""

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fhir.profiles.elements import Fixed
from app.fhir.profiles.values import contains, matches, ordering, same, shown

SCALARS = st.booleans() | st.integers(-9, 9) | st.decimals(-9, 9, places=1) | st.text(max_size=3)
NAMES = st.sampled_from(["a", "b", "c"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_everything_is_the_same_as_its_copy_and_contains_it(value: Any) -> None:
    assert same(value, copy.deepcopy(value))
    assert contains(value, copy.deepcopy(value))


@given(JSON, JSON)
def test_what_is_the_same_is_contained_both_ways(one: Any, other: Any) -> None:
    if same(one, other):
        assert contains(one, other) and contains(other, one)


@given(JSON, JSON, JSON)
def test_containing_is_passed_on(one: Any, two: Any, three: Any) -> None:
    if contains(one, two) and contains(two, three):
        assert contains(one, three)


@given(
    st.dictionaries(NAMES, JSON, min_size=1), st.dictionaries(st.sampled_from(["x", "y"]), JSON, min_size=1)
)
def test_more_members_are_allowed_by_a_pattern_alone(pattern: dict[str, Any], more: dict[str, Any]) -> None:
    assert contains(pattern | more, pattern)
    assert not same(pattern | more, pattern)
    assert not contains(pattern, pattern | more)


@given(st.lists(JSON, max_size=3), st.lists(JSON, max_size=3))
def test_a_pattern_finds_its_items_anywhere(items: list[Any], more: list[Any]) -> None:
    assert contains([*more, *items], items)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1, True),
        (True, 1),
        (0, False),
        ("1", 1),
        (None, "a"),
        (None, False),
        ([], {}),
        ({}, []),
        ("a", ["a"]),
    ],
)
def test_values_of_different_kinds_differ(value: Any, wanted: Any) -> None:
    assert not matches(value, Fixed(wanted, exact=True))
    assert not matches(value, Fixed(wanted, exact=False))


def test_numbers_are_compared_by_value() -> None:
    assert same(Decimal("1.50"), Decimal("1.5")) and same(0.1, Decimal("0.1")) and same(1, Decimal("1.0"))


@pytest.mark.parametrize(
    ("value", "bound", "order"),
    [
        (1, 2, -1),
        (Decimal("2.0"), 2, 0),
        (3, Decimal("2.5"), 1),
        ("2020-05-11", "2020-05", 0),
        ("2020-04", "2020-05-01", -1),
        ("2020-06", "2020-05-31", 1),
        ("2020-05-11T10:00:00+02:00", "2020-05-11T08:00:00Z", 0),
        ("2020-05-11T10:00:01+02:00", "2020-05-11T08:00:00Z", 1),
        ("10:00:00", "11:00:00", -1),
        ("10:00:00", "2020", None),
        ("abc", "abd", None),
        ({"value": 1, "code": "kg"}, {"value": 2, "code": "kg"}, -1),
        ({"value": 1, "code": "g"}, {"value": 2, "code": "kg"}, None),
        ({"unit": "kg"}, {"value": 2}, None),
        (None, 1, None),
        ("1", 1, None),
    ],
)
def test_an_order_is_told_only_where_it_is_sure(value: Any, bound: Any, order: int | None) -> None:
    assert ordering(value, bound) == order


@given(st.integers() | st.decimals(allow_nan=False), st.integers() | st.decimals(allow_nan=False))
def test_an_order_is_the_others_reversed(one: Any, other: Any) -> None:
    assert ordering(one, other) == -(ordering(other, one) or 0)


def test_a_long_value_is_shown_in_part() -> None:
    assert shown({"text": "x" * 500}).endswith("x…")
    assert len(shown("x" * 500)) == 120
    assert shown("x" * 118) == '"' + "x" * 118 + '"'
    assert shown({"value": Decimal("1.50"), "text": "é"}) == '{"value": "1.50", "text": "é"}'
