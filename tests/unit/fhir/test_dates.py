"""Dates are ranges by their precision, and equality is containment (R4 search, date and prefixes)."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db import Database
from app.fhir.dates import (
    BEGINNING,
    END,
    Prefix,
    Span,
    asked_span,
    matches,
    period_span,
    span_of,
    timing_span,
)


def at(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, micro: int = 0
) -> datetime:
    return datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("1980", at(1980, 1, 1), at(1981, 1, 1)),
        ("1980-12", at(1980, 12, 1), at(1981, 1, 1)),
        ("2020-02", at(2020, 2, 1), at(2020, 3, 1)),
        ("2020-02-29", at(2020, 2, 29), at(2020, 3, 1)),
        ("1980-05-11T16:32:15Z", at(1980, 5, 11, 16, 32, 15), at(1980, 5, 11, 16, 32, 16)),
        (
            "1980-05-11T16:32:15.5Z",
            at(1980, 5, 11, 16, 32, 15, 500_000),
            at(1980, 5, 11, 16, 32, 15, 600_000),
        ),
        (
            "1980-05-11T16:32:15.500+01:00",
            at(1980, 5, 11, 15, 32, 15, 500_000),
            at(1980, 5, 11, 15, 32, 15, 501_000),
        ),
        (
            "2020-01-01T00:00:00.123456789-05:30",
            at(2020, 1, 1, 5, 30, 0, 123_456),
            at(2020, 1, 1, 5, 30, 0, 123_457),
        ),
        ("2016-12-31T23:59:60Z", at(2017, 1, 1), at(2017, 1, 1, 0, 0, 1)),
        ("9999", at(9999, 1, 1), END),
        ("9999-12-31", at(9999, 12, 31), END),
        ("0001-01-01T00:00:00+14:00", BEGINNING, BEGINNING + timedelta(seconds=1)),
        ("9999-12-31T23:59:59.999999Z", END, END),
    ],
)
def test_a_stored_date_spans_what_its_precision_leaves_open(text: str, lo: datetime, hi: datetime) -> None:
    span = span_of(text)
    assert span == Span(lo, hi)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "xx",
        "80",
        "1980-13",
        "1973-02-30",
        "1980-5-1",
        "0000",
        "2020-01-01T10:00Z",
        "2020-01-01T10:00:00",
        "2020-01-01T24:00:00Z",
        "2020-01-01T10:00:00+15:00",
        "2020-01-01T10:00:00Z ",
        "2020-01-01\n",
        "٢٠٢٠",
    ],
)
def test_what_is_no_stored_date_spans_nothing(text: str) -> None:
    assert span_of(text) is None


def test_a_search_may_leave_out_seconds_and_zone_and_forget_to_escape_the_plus() -> None:
    assert asked_span("2020-01-01T10:00") == Span(at(2020, 1, 1, 10), at(2020, 1, 1, 10, 1))
    assert asked_span("2020-01-01T10:00:30") == Span(at(2020, 1, 1, 10, 0, 30), at(2020, 1, 1, 10, 0, 31))
    assert asked_span("2020-01-01T10:00:00 01:00") == asked_span("2020-01-01T10:00:00+01:00")
    assert asked_span("1973-02-30") is None
    assert asked_span("2020-01-01T") is None


async def test_open_ends_come_back_from_postgresql_as_they_went(database: Database) -> None:
    async with database.connection() as connection:
        for end in (BEGINNING, END):
            assert await connection.fetchval("SELECT $1::timestamptz", end) == end


def test_a_period_without_an_end_is_open_and_one_without_both_is_nothing() -> None:
    assert period_span({"start": "2020", "end": "2021-03"}) == Span(at(2020, 1, 1), at(2021, 4, 1))
    assert period_span({"start": "2020"}) == Span(at(2020, 1, 1), END)
    assert period_span({"end": "2020"}) == Span(BEGINNING, at(2021, 1, 1))
    assert period_span({}) is None
    assert period_span("2020") is None
    assert period_span({"start": "2021", "end": "2020"}) == Span(at(2021, 1, 1), at(2021, 1, 1))


def test_a_timing_spans_its_outer_limits() -> None:
    timing = {"event": ["2020-03-01", "2020-01-05"], "repeat": {"boundsPeriod": {"end": "2020-06"}}}
    assert timing_span(timing) == Span(BEGINNING, at(2020, 7, 1))
    assert timing_span({"event": ["2020-03-01", "2020-01-05"]}) == Span(at(2020, 1, 5), at(2020, 3, 2))
    assert timing_span({"repeat": {"frequency": 1}}) is None
    assert timing_span(None) is None


# The table of observations A to H and what each question finds among them.
STORED = {
    "A": span_of("1979-12-31"),
    "B": span_of("1980"),
    "C": span_of("1980-05"),
    "D": span_of("1980-05-11"),
    "E": span_of("1980-05-11T16:32:15Z"),
    "F": span_of("1980-05-11T16:32:15.500Z"),
    "G": span_of("1981-01-01"),
    "H": period_span({"start": "1980-05-16", "end": "1980-05-17"}),
}
QUESTIONS = ("eq", "ne", "gt", "ge", "lt", "le", "sa", "eb")
FOUND = {
    "1980": ("BCDEFH", "AG", "G", "BCDEFGH", "A", "ABCDEFH", "G", "A"),
    "1980-01": ("", "ABCDEFGH", "BCDEFGH", "BCDEFGH", "A", "A", "CDEFGH", "A"),
    "1980-05": ("CDEFH", "ABG", "BG", "BCDEFGH", "AB", "ABCDEFH", "G", "A"),
    "1980-05-10": ("", "ABCDEFGH", "BCDEFGH", "BCDEFGH", "ABC", "ABC", "DEFGH", "A"),
    "1980-05-11": ("DEF", "ABCGH", "BCGH", "BCDEFGH", "ABC", "ABCDEF", "GH", "A"),
    "1980-05-11T16:32:15Z": ("EF", "ABCDGH", "BCDGH", "BCDEFGH", "ABCD", "ABCDEF", "GH", "A"),
    "1980-05-11T16:32:15.500Z": ("F", "ABCDEGH", "BCDEGH", "BCDEFGH", "ABCDE", "ABCDEF", "GH", "A"),
    "1980-05-16": ("", "ABCDEFGH", "BCGH", "BCGH", "ABCDEF", "ABCDEF", "G", "ADEF"),
    "1981-01-01": ("G", "ABCDEFH", "", "G", "ABCDEFH", "ABCDEFGH", "", "ABCDEFH"),
}


@pytest.mark.parametrize("value", FOUND)
def test_each_prefix_finds_what_r4_says(value: str) -> None:
    asked = asked_span(value)
    assert asked is not None
    for prefix, expected in zip(QUESTIONS, FOUND[value], strict=True):
        found = "".join(
            name for name, span in STORED.items() if span and matches(_prefix(prefix), *span, *asked)
        )
        assert found == expected, prefix


def _prefix(text: str) -> Prefix:
    return next(known for known in get_args(Prefix) if known == text)


def test_a_birth_year_is_not_found_by_a_month_of_it_but_overlaps_with_it() -> None:
    year, month = span_of("2000"), asked_span("2000-03")
    assert year is not None
    assert month is not None
    assert not matches("eq", *year, *month)
    assert matches("ap", *year, *month)


moments = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31))  # noqa: DTZ001
spans = st.tuples(
    moments, st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=400))
).map(lambda drawn: Span(drawn[0].replace(tzinfo=UTC), min(END, drawn[0].replace(tzinfo=UTC) + drawn[1])))


@given(moments)
def test_a_more_precise_date_lies_within_a_less_precise_one(moment: datetime) -> None:
    full = moment.strftime("%Y").zfill(4) + moment.strftime("-%m-%dT%H:%M:%S") + f".{moment.microsecond:06d}Z"
    texts = [full[:4], full[:7], full[:10], full[:19] + "Z", full[:23] + "Z", full]
    widths = [span for span in map(span_of, texts) if span]
    assert len(widths) == len(texts)
    for outer, inner in pairwise(widths):
        assert outer.lo <= inner.lo < inner.hi <= outer.hi


@given(spans, spans)
def test_prefixes_keep_their_relations(target: Span, asked: Span) -> None:
    answer = {prefix: matches(prefix, *target, *asked) for prefix in get_args(Prefix)}
    assert answer["ne"] is not answer["eq"]
    assert answer["ge"] is (answer["gt"] or answer["eq"])
    assert answer["le"] is (answer["lt"] or answer["eq"])
    assert answer["ap"] is not (answer["sa"] or answer["eb"])
    assert not answer["sa"] or answer["gt"]
    assert not answer["eb"] or answer["lt"]
    assert matches("co", *target, *asked) is matches("eq", *asked, *target)


@given(st.text(max_size=40))
def test_no_text_makes_a_date_fail(text: str) -> None:
    for span in (span_of(text), asked_span(text)):
        assert span is None or span.lo <= span.hi
