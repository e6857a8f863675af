"""Keys are a lasting format that PostgreSQL computes alike; folded text compares without accents or case."""

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db import Database
from app.fhir.keys import SQL_KEY64, fold, fresh_key64, key64, token_keys

texts = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=20)


def test_a_key_has_the_same_value_as_last_year() -> None:
    assert key64("code", "c", "718-7") == 411516019867227175
    assert key64("code", "s|c", "http://loinc.org", "718-7") == 5577396172277717355
    assert key64("name", "Müller") == -3444059937987778139


def test_parts_are_not_run_together() -> None:
    assert key64("a", "bc") != key64("ab", "c")
    assert key64("a", "") != key64("a")


@given(st.lists(texts, min_size=1, max_size=5))
def test_a_key_is_a_signed_integer_of_64_bits_cached_or_not(parts: list[str]) -> None:
    assert -(2**63) <= key64(*parts) < 2**63
    assert key64(*parts) == fresh_key64(*parts)


async def test_postgresql_computes_the_same_key(database: Database) -> None:
    cases = [("code", "c", "718-7"), ("name", "Müller", ""), ("x",), ("𝄞", "a b", "|,$\\'")]
    async with database.connection() as connection:
        for parts in cases:
            sql = f"SELECT {SQL_KEY64.format(parts='$1')}"
            assert await _value(connection, sql, list(parts)) == key64(*parts)


async def _value(connection: asyncpg.Connection, sql: str, parts: list[str]) -> int:
    return int(await connection.fetchval(sql, parts))


@pytest.mark.parametrize(
    ("system", "code", "asked"),
    [
        ("s", "c", {("s|c", "s", "c"), ("c", "c"), ("s|", "s")}),
        (None, "c", {("|c", "c"), ("c", "c")}),
        ("", "c", {("|c", "c"), ("c", "c")}),
        ("s", None, {("s|", "s")}),
        (None, None, set()),
    ],
)
def test_a_token_is_found_by_the_four_forms_that_fit_it(
    system: str | None, code: str | None, asked: set[tuple[str, ...]]
) -> None:
    assert set(token_keys("p", system, code)) == {key64("p", *parts) for parts in asked}


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("MÜLLER", "muller"),
        ("  Mary\tAnn \n Lee ", "mary ann lee"),
        ("Straße", "strasse"),
        ("Ångström", "angstrom"),
        ("ΑΘΉΝΑ", "αθηνα"),
        ("ﬁne", "fine"),
        ("İstanbul", "istanbul"),
        ("O'Brien-Smith", "o'brien-smith"),
        ("李", "李"),
        ("\u0301", ""),
    ],
)
def test_folding_leaves_what_string_searches_compare(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)
