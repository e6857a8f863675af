"""A resource's text keeps the digits of its decimals."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.demo.json_text import to_text

_decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4)
_texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"))


def test_zeros_after_the_point_are_written() -> None:
    assert (
        to_text({"value": Decimal("6.30"), "low": Decimal("4.0"), "n": 12})
        == '{"value":6.30,"low":4.0,"n":12}'
    )


def test_a_small_number_is_written_without_an_exponent() -> None:
    assert to_text({"value": Decimal("0.0000001")}) == '{"value":0.0000001}'


@given(st.dictionaries(_texts, _texts | _decimals | st.integers() | st.booleans()))
def test_what_is_written_is_read_back_digit_for_digit(resource: dict[str, object]) -> None:
    read = json.loads(to_text(resource), parse_float=Decimal)
    assert {name: str(value) for name, value in read.items()} == {
        name: f"{value:f}" if isinstance(value, Decimal) else str(value) for name, value in resource.items()
    }


def test_a_text_that_looks_like_a_marked_number_stays_a_text() -> None:
    assert json.loads(to_text({"a": '\\u00006.30"', "b": "u00001.5"})) == {
        "a": '\\u00006.30"',
        "b": "u00001.5",
    }


def test_a_value_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold a set"):
        to_text({"value": {1}})
