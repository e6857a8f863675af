"""What $everything is asked for, and what of a record that covers."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, UnsupportedInput
from app.fhir.extent import OF_A_PATIENT, OF_AN_ENCOUNTER, Extent, read_extent
from app.fhir.references import references_in

_T0 = datetime(2026, 7, 1, tzinfo=UTC)
_instants = st.integers(0, 40).map(lambda hours: _T0 + timedelta(hours=hours))
_bounds = st.none() | _instants
_extents = st.builds(Extent, _bounds, _bounds, _bounds)


def test_days_are_those_of_the_civil_time_that_records_are_read_in() -> None:
    read = read_extent([("start", "2026-07-01"), ("end", "2026-07-01")], OF_A_PATIENT)
    assert read.start == datetime(2026, 6, 30, 23, tzinfo=UTC)  # British summer time
    assert read.end == datetime(2026, 7, 1, 23, tzinfo=UTC)


def test_an_address_and_a_body_say_the_same() -> None:
    pairs = [
        ("start", "2026"),
        ("_since", "2026-01-01T00:00:00Z"),
        ("_type", "Patient,List"),
        ("_count", "3"),
    ]
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "start", "valueDate": "2026"},
            {"name": "_since", "valueInstant": "2026-01-01T00:00:00Z"},
            {"name": "_type", "valueCode": "Patient"},
            {"name": "_type", "valueCode": "List"},
            {"name": "_count", "valueInteger": 3},
        ],
    }
    assert read_extent(pairs, OF_A_PATIENT) == read_extent(body, OF_A_PATIENT)


def test_nothing_asked_for_is_everything() -> None:
    for empty in ([], [("_type", "")], {"resourceType": "Parameters"}):
        assert read_extent(empty, OF_A_PATIENT) == Extent()


def test_an_encounter_has_no_care_dates() -> None:
    with pytest.raises(UnsupportedInput):
        read_extent([("start", "2026")], OF_AN_ENCOUNTER)


@given(st.text(max_size=12))
def test_a_text_is_a_date_or_refused(text: str) -> None:
    try:
        read_extent([("start", text)], OF_A_PATIENT)
    except InvalidInput:
        return
    assert text == "" or text[:4].isdigit()


@given(_extents, _bounds, _bounds, _bounds)
def test_asking_for_less_never_gives_more(
    extent: Extent, lo: datetime | None, hi: datetime | None, made: datetime | None
) -> None:
    if extent.covers(lo, hi, made):
        for wider in (
            Extent(None, extent.end, extent.since),
            Extent(extent.start, None, extent.since),
            Extent(extent.start, extent.end, None),
        ):
            assert wider.covers(lo, hi, made)


@given(_extents)
def test_what_tells_nothing_is_always_in(extent: Extent) -> None:
    assert extent.covers(None, None, None)


@given(_instants, _instants, _instants)
def test_it_covers_what_it_overlaps(start: datetime, lo: datetime, hi: datetime) -> None:
    day = timedelta(hours=24)
    overlaps = lo < start + day and hi > start
    assert Extent(start, start + day).covers(lo, hi, None) is overlaps


def test_every_reference_is_found_wherever_it_stands() -> None:
    text = """{"resourceType":"Observation","subject":{"reference":"Patient/1"},"contained":[{"resourceType":
    "List","id":"c","entry":[{"item":{"reference":"Device/2"}}]}],"extension":[{"url":"u","valueReference":
    {"reference":"http:\\/\\/here/fhir\\/Location/3"}}],"note":[{"text":"\\"reference\\":\\"Patient/4\\""}],
    "valueQuantity":{"value":1E400},"performer":[{"reference":"#c"},{"reference":"http://there/fhir/Device/5"},
    {"reference":7}]}"""
    found = {one.text: one.where for one in references_in(text, "http://here/fhir")}
    assert found == {
        "Patient/1": "here",
        "Device/2": "here",
        "http://here/fhir/Location/3": "here",
        "#c": "contained",
        "http://there/fhir/Device/5": "elsewhere",
    }
