"""Prefer: one header or several, in any spelling; of two of a kind the first counts (RFC 7240)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.preferences import preferred


def asked(*headers: str, name: str = "return") -> str | None:
    return preferred([(b"host", b"x"), *((b"prefer", one.encode()) for one in headers)], name)


@pytest.mark.parametrize(
    ("headers", "wish"),
    [
        ((), None),
        (("return=minimal",), "minimal"),
        (("Return = Minimal",), "minimal"),
        (('return="minimal"',), "minimal"),
        (("return=OperationOutcome",), "operationoutcome"),
        (("handling=strict, return=representation",), "representation"),
        (("handling=strict", "return=minimal"), "minimal"),
        (("return=minimal; foo=bar",), "minimal"),
        (("return=minimal, return=representation",), "minimal"),
        (("return=minimalist",), "minimalist"),
        (("noreturn=minimal",), None),
        (("respond-async",), None),
        (("return",), ""),
    ],
)
def test_a_preference_is_read(headers: tuple[str, ...], wish: str | None) -> None:
    assert asked(*headers) == wish


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_any_header_is_read_or_passed_over(header: str) -> None:
    preferred([(b"prefer", header.encode("latin-1"))], "return")
