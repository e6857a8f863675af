"""The manifest: one line for every source that was expected to answer, as one OperationOutcome.

Silence is an answer and keeps its name: a searchset carries the outcome as its one entry of mode ``outcome``.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from app.errors import CandourError, Issue
from app.fhir.instants import instant
from app.vocabulary import ODS_SYSTEM, OdsCode

SOURCE_STATE_SYSTEM: Final = "https://candour.example/fhir/CodeSystem/source-state"
"""CodeSystem of ``issue.details.coding``: the codes are the values of ``SourceState``."""

SOURCE_EXTENSION: Final = "https://candour.example/fhir/StructureDefinition/source"
"""Extension of ``issue``: ``custodian`` (Identifier, its ODS code), ``asOf`` (instant), ``count`` (unsignedInt)."""


class SourceState(StrEnum):
    """What became of asking one source."""

    fresh = "fresh"
    no_record = "no-record"
    timed_out = "timed-out"
    down = "down"
    refused = "refused"
    throttled = "throttled"
    partial = "partial"
    not_supported = "not-supported"
    identity_uncertain = "identity-uncertain"
    not_asked = "not-asked"


@dataclass(frozen=True, slots=True)
class _Meaning:
    severity: str
    code: str
    complete: bool
    sentence: str


_MEANINGS: Final[Mapping[SourceState, _Meaning]] = {
    SourceState.fresh: _Meaning("information", "informational", True, "answered at {at}."),
    SourceState.no_record: _Meaning("information", "not-found", True, "had nothing to show at {at}."),
    # What was never read is missing, however willing the source.
    SourceState.not_supported: _Meaning(
        "warning",
        "not-supported",
        False,
        "does not offer what was asked for, as of {at}; what it holds is missing here.",
    ),
    SourceState.partial: _Meaning(
        "warning", "incomplete", False, "gave only part of an answer at {at}; the rest is missing here."
    ),
    SourceState.timed_out: _Meaning(
        "warning", "timeout", False, "had not answered in time at {at}; what it holds is missing here."
    ),
    SourceState.down: _Meaning(
        "warning", "transient", False, "gave no usable answer at {at}; what it holds is missing here."
    ),
    SourceState.throttled: _Meaning(
        "warning", "throttled", False, "was too busy to answer at {at}; what it holds is missing here."
    ),
    SourceState.refused: _Meaning(
        "warning", "forbidden", False, "refused to answer at {at}; what it holds is missing here."
    ),
    SourceState.identity_uncertain: _Meaning(
        "warning", "multiple-matches", False, "was left out at {at}: whose record it holds is in doubt."
    ),
    SourceState.not_asked: _Meaning(
        "warning",
        "incomplete",
        False,
        "was not asked at {at}, from within a transaction; what it holds is missing here.",
    ),
}


@dataclass(frozen=True, slots=True)
class SourceLine:
    """What one source answered. ``count`` is shown when given: never a number that tells what was withheld."""

    custodian: OdsCode
    name: str
    state: SourceState
    as_of: datetime
    count: int | None = None


class BrokenManifest(CandourError):
    """A source that was expected has no line, or one that has a line was not expected: nothing is released."""


def manifest(expected: Iterable[OdsCode], lines: Iterable[SourceLine]) -> tuple[SourceLine, ...]:
    """``lines`` in the order of their custodians. Raises BrokenManifest unless they are ``expected``, each once."""
    closed = tuple(sorted(lines, key=lambda line: line.custodian))
    if Counter(line.custodian for line in closed) != Counter(set(expected)):
        raise BrokenManifest
    return closed


def is_complete(lines: Iterable[SourceLine]) -> bool:
    """Whether nothing is missing for want of an answer; only then may a total be given."""
    return all(_MEANINGS[line.state].complete for line in lines)


def outcome(lines: Sequence[SourceLine], extra_issues: Sequence[Issue]) -> str:
    """One OperationOutcome as text: an issue per line, then ``extra_issues``, e.g. ignored search parameters."""
    issues = [_line(line) for line in lines] + [_written(_extra_issue(issue)) for issue in extra_issues]
    # OperationOutcome.issue is 1..*: an outcome without any would not be one.
    return f'{{"resourceType":"OperationOutcome","issue":[{",".join(issues or [_NOBODY_ASKED])}]}}'


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_NOBODY_ASKED: Final = _written(
    {
        "severity": "information",
        "code": "informational",
        "details": {"text": "No source was expected to hold anything."},
    }
)


def _line(line: SourceLine) -> str:
    """One issue. Every answer has some, and all but the instant of a line is mostly the same."""
    return instant(line.as_of).join(_line_around(line.custodian, line.name, line.state, line.count))


@lru_cache(maxsize=4096)
def _line_around(custodian: OdsCode, name: str, state: SourceState, count: int | None) -> list[str]:
    """An issue's text, cut where the instant belongs."""
    return _written(_line_issue(custodian, name, state, count)).split(_HERE)


_HERE: Final = "\ue000"
"""In place of the instant: a character of nobody's language, dropped from a name that has it."""


def _line_issue(custodian: OdsCode, name: str, state: SourceState, count: int | None) -> dict[str, Any]:
    meaning = _MEANINGS[state]
    parts: list[dict[str, Any]] = [
        {"url": "custodian", "valueIdentifier": {"system": ODS_SYSTEM, "value": custodian}},
        {"url": "asOf", "valueInstant": _HERE},
    ]
    if count is not None:
        parts.append({"url": "count", "valueUnsignedInt": count})
    who = f"{custodian} {name}".replace(_HERE, "").rstrip()
    return {
        "extension": [{"url": SOURCE_EXTENSION, "extension": parts}],
        "severity": meaning.severity,
        "code": meaning.code,
        "details": {
            "coding": [{"system": SOURCE_STATE_SYSTEM, "code": state.value}],
            "text": f"{who} {meaning.sentence.format(at=_HERE)}",
        },
    }


def _extra_issue(issue: Issue) -> dict[str, Any]:
    written: dict[str, Any] = {
        "severity": issue.severity,
        "code": issue.code,
        "details": {"text": issue.text},
    }
    return written | ({"expression": [issue.expression]} if issue.expression else {})


# Another's outcome: a node's manifest, or whatever a FHIR server says beside its matches.

_GAPS: Final = frozenset(
    {
        "exception",
        "expired",
        "forbidden",
        "incomplete",
        "multiple-matches",
        "not-supported",
        "processing",
        "suppressed",
        "throttled",
        "timeout",
        "too-costly",
        "transient",
    }
)
"""Issue codes of a warning that mean: there is more than this, or something else was searched for."""


def tells_a_gap(operation_outcome: Mapping[str, Any]) -> bool:
    """Whether an OperationOutcome beside the matches says that the answer is not all there is.

    A line of another node's manifest is read by its state, an unknown state as a gap; any other issue by its
    severity and code. What is not an outcome's form tells a gap as well.
    """
    issues = operation_outcome.get("issue")
    return not isinstance(issues, list) or any(_is_gap(issue) for issue in issues)


def _is_gap(issue: Any) -> bool:
    if not isinstance(issue, dict):
        return True
    state = _state(issue.get("details"))
    if state is not None:
        known = SourceState(state) if state in set(SourceState) else None
        return known is None or not _MEANINGS[known].complete
    severity, code = (
        value if isinstance(value := issue.get(name), str) else None for name in ("severity", "code")
    )
    return severity in ("fatal", "error") or (severity == "warning" and (code in _GAPS or code is None))


def _state(details: Any) -> str | None:
    """The code that ``details`` has in our code system."""
    codings = details.get("coding") if isinstance(details, dict) else None
    for coding in codings if isinstance(codings, list) else ():
        if isinstance(coding, dict) and coding.get("system") == SOURCE_STATE_SYSTEM:
            return str(coding.get("code"))
    return None
