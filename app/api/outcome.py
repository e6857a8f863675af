"""Every failure under the FHIR base as an OperationOutcome (R4 http, 3.1.0.4.1)."""

import json
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from app.api.representation import PLAIN_JSON, Representation
from app.errors import CandourError, Issue


def outcome(issues: Sequence[Issue]) -> str:
    """An OperationOutcome's text."""
    return json.dumps(
        {"resourceType": "OperationOutcome", "issue": [_issue(one) for one in issues]},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def refusal(error: CandourError, shape: Representation = PLAIN_JSON) -> Response:
    headers = {"Cache-Control": "no-store", **error.headers}
    return shape.response(outcome(error.issues), error.status.value, headers)


def _issue(issue: Issue) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "severity": issue.severity,
        "code": issue.code,
        "details": {"text": issue.text},
        "diagnostics": issue.text,
    }
    if issue.expression is not None:
        rendered["expression"] = [issue.expression]
    return rendered
