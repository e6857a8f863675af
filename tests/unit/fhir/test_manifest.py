"""Every source that was expected has one line, and a total is given only when none of them is missing."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Issue
from app.fhir.manifest import (
    SOURCE_STATE_SYSTEM,
    BrokenManifest,
    SourceLine,
    SourceState,
    is_complete,
    manifest,
    outcome,
    tells_a_gap,
)
from app.fhir.validation import validate
from app.vocabulary import OdsCode

AT = datetime(2026, 11, 2, 10, 0, 0, 123_000, tzinfo=UTC)
CODES = [OdsCode(f"RX{n}") for n in range(5)]
GOLDEN = Path(__file__).parents[2] / "golden" / "manifest-v1.json"

lines = st.builds(
    SourceLine,
    custodian=st.sampled_from(CODES),
    name=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20),
    state=st.sampled_from(SourceState),
    as_of=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    count=st.none() | st.integers(0, 2000),
)


def a_line(state: SourceState, code: OdsCode = CODES[1]) -> SourceLine:
    return SourceLine(code, "Example Trust", state, AT)


@pytest.mark.parametrize(
    ("state", "severity", "code", "complete"),
    [
        ("fresh", "information", "informational", True),
        ("no-record", "information", "not-found", True),
        ("not-supported", "warning", "not-supported", False),
        ("partial", "warning", "incomplete", False),
        ("timed-out", "warning", "timeout", False),
        ("down", "warning", "transient", False),
        ("throttled", "warning", "throttled", False),
        ("refused", "warning", "forbidden", False),
        ("identity-uncertain", "warning", "multiple-matches", False),
        ("not-asked", "warning", "incomplete", False),
    ],
)
def test_each_state_has_its_severity_code_and_completeness(
    state: str, severity: str, code: str, complete: bool
) -> None:
    line = a_line(SourceState(state))
    issue = json.loads(outcome([line], ()))["issue"][0]
    assert (issue["severity"], issue["code"], is_complete([line])) == (severity, code, complete)
    assert issue["details"]["coding"] == [{"system": SOURCE_STATE_SYSTEM, "code": state}]
    assert issue["details"]["text"].startswith("RX1 Example Trust ")
    assert "2026-11-02T10:00:00.123Z" in issue["details"]["text"]


def test_the_table_of_states_leaves_none_out() -> None:
    table = test_each_state_has_its_severity_code_and_completeness.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {row[0] for row in table} == set(SourceState)


def test_the_outcome_is_written_as_last_year() -> None:
    every = [a_line(state, OdsCode(f"RX{n}")) for n, state in enumerate(SourceState)]
    every[0] = replace(every[0], count=12)
    text = outcome(every, [Issue("warning", "not-supported", "value-set was ignored", "Observation.code")])
    assert text == GOLDEN.read_text("utf-8").rstrip("\n")


def test_an_outcome_without_lines_still_has_an_issue() -> None:
    assert len(json.loads(outcome([], []))["issue"]) == 1


@given(st.lists(lines, max_size=6))
def test_an_outcome_is_valid_r4_and_says_one_thing_a_line(given_lines: list[SourceLine]) -> None:
    text = outcome(given_lines, ())
    parsed = json.loads(text)
    validate(parsed)
    assert len(parsed["issue"]) == max(1, len(given_lines))


@given(st.lists(lines, max_size=8), st.sets(st.sampled_from(CODES)))
def test_a_manifest_closes_exactly_when_every_expected_source_has_one_line(
    given_lines: list[SourceLine], expected: set[OdsCode]
) -> None:
    told = sorted(line.custodian for line in given_lines)
    if told == sorted(expected):
        assert [line.custodian for line in manifest(expected, given_lines)] == told
    else:
        with pytest.raises(BrokenManifest):
            manifest(expected, given_lines)


@given(st.sets(st.sampled_from(CODES), min_size=1), st.data())
def test_a_missing_or_doubled_line_never_passes(expected: set[OdsCode], data: st.DataObject) -> None:
    whole = [a_line(SourceState.fresh, code) for code in sorted(expected)]
    chosen = data.draw(st.sampled_from(whole))
    for broken in ([line for line in whole if line is not chosen], [*whole, chosen]):
        with pytest.raises(BrokenManifest):
            manifest(expected, broken)


@given(st.lists(lines, min_size=1, max_size=6))
def test_another_node_reads_a_gap_out_of_an_outcome_exactly_when_it_was_not_complete(
    given_lines: list[SourceLine],
) -> None:
    assert tells_a_gap(json.loads(outcome(given_lines, ()))) is not is_complete(given_lines)


@pytest.mark.parametrize(
    ("issue", "gap"),
    [
        ({"severity": "information", "code": "informational"}, False),
        ({"severity": "warning", "code": "business-rule"}, False),
        ({"severity": "warning", "code": "incomplete"}, True),
        ({"severity": "warning", "code": "timeout"}, True),
        ({"severity": "warning", "code": "not-supported"}, True),
        ({"severity": "error", "code": "informational"}, True),
        ({"severity": "fatal"}, True),
        (
            {
                "severity": "information",
                "details": {"coding": [{"system": SOURCE_STATE_SYSTEM, "code": "new"}]},
            },
            True,
        ),
        ({"severity": "warning", "code": [], "details": {"coding": {}}}, True),
        ("not an issue", True),
    ],
)
def test_a_foreign_outcome_is_read_by_severity_and_code(issue: object, gap: bool) -> None:
    assert tells_a_gap({"issue": [issue]}) is gap


def test_what_is_no_outcome_tells_a_gap() -> None:
    assert tells_a_gap({"issue": {"severity": "information"}})
    assert tells_a_gap({})


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["issue", "severity", "code", "details", "coding", "system"]), inner
            )
        ),
    )
)
def test_reading_an_outcome_never_fails(anything: object) -> None:
    assert tells_a_gap({"issue": [anything]}) in (True, False)
