"""Every failure under the FHIR base as an OperationOutcome (R4 http, 3.1.0.4.1)."""

import json
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from app.errors import CandourError, Issue

FHIR_JSON = "application/fhir+json; charset=utf-8"


def outcome(issues: Sequence[Issue]) -> str:
    """An OperationOutcome's text."""
    return json.dumps(
        {"resourceType": "OperationOutcome", "issue": [_issue(one) for one in issues]},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def refusal(error: CandourError) -> Response:
    headers = {"Cache-Control": "no-store", **error.headers}
    return Response(outcome(error.issues), error.status.value, headers, FHIR_JSON)


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
