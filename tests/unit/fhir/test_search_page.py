"""The page about searching holds: each example is read, and each refusal on it is one (docs/interactions/search.md)."""

import re
from pathlib import Path

import pytest

from app.errors import BadRequest, UnsupportedSearch
from app.fhir.query import parse_search

PAGE = Path(__file__).parents[3] / "docs" / "interactions" / "search.md"
SUPPORTED, _, REFUSED = PAGE.read_text().partition("## What is not")


def _examples(text: str) -> list[str]:
    return [one.replace("\\|", "|") for one in re.findall(r"`GET\s+([A-Z][A-Za-z]*\?[^`]*)`", text)]


def _parse(example: str) -> None:
    resource_type, _, query = example.partition("?")
    pairs = [(name, value) for name, _, value in (one.partition("=") for one in query.split("&"))]
    parse_search(resource_type, pairs, strict=True, base_url="http://node.example/fhir")


@pytest.mark.parametrize("example", _examples(SUPPORTED))
def test_an_example_is_answered(example: str) -> None:
    _parse(example)


@pytest.mark.parametrize("example", _examples(REFUSED))
def test_what_is_said_to_be_refused_is_refused(example: str) -> None:
    with pytest.raises(BadRequest) as refused:
        _parse(example)
    assert isinstance(refused.value, UnsupportedSearch)


def test_the_page_has_examples() -> None:
    assert len(_examples(SUPPORTED)) >= 50 and len(_examples(REFUSED)) > 5
