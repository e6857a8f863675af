"""What became of each entry, as an entry of the answer (R4 http, 3.1.0.11.3)."""

from http import HTTPStatus

from app.asked import Asked, Preference, Release
from app.errors import Issue
from app.exchange.steps import Step
from app.fhir import bundle, manifest
from app.fhir.instants import instant
from app.submission import Written


def status_line(code: int) -> str:
    """``201 Created``."""
    return f"{int(code)} {HTTPStatus(code).phrase}"


def kept_as(asked: Asked, step: Step, written: Written | None) -> str:
    """Of an entry that wrote; None: there was nothing to delete."""
    if written is None:
        return bundle.response_entry(status=status_line(204))
    deleted = step.method == "DELETE"
    status = 204 if deleted else 201 if written.created else 200
    return bundle.response_entry(
        status=status_line(status),
        location="" if deleted else f"{asked.request.base_url}/{written.versioned}",
        etag=written.etag,
        last_modified=instant(written.last_updated),
        resource=written.content if asked.prefers is Preference.REPRESENTATION else None,
        outcome=_said(asked, status),
    )


def released_as(asked: Asked, release: Release, method: str) -> str:
    """Of an entry that was carried out as a request of its own."""
    wrote = release.location is not None
    shown = method != "HEAD" and (not wrote or asked.prefers is Preference.REPRESENTATION)
    return bundle.response_entry(
        status=status_line(release.status),
        location=release.location or "",
        etag=release.etag or "",
        last_modified=instant(release.last_modified) if release.last_modified else "",
        resource=release.body or None if shown else None,
        outcome=_said(asked, release.status) if wrote else None,
    )


def _said(asked: Asked, status: int) -> str | None:
    return said(status) if asked.prefers is Preference.OUTCOME else None


_SENTENCES = {200: "Done: nothing was wrong with it.", 201: "Created.", 204: "It is not there any more."}


def said(status: int) -> str:
    """The OperationOutcome of a write that succeeded."""
    return manifest.outcome((), [Issue("information", "informational", _SENTENCES[status])])
