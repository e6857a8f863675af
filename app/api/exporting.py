"""Bulk Data export over HTTP: kick-off, status, files, removal (HL7 FHIR Bulk Data Access 2.0.0)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from app.api.caller import resource_body
from app.api.coding import coding, streamed
from app.api.endpoints import Address, UseCases, endpoint, pairs_of
from app.api.outcome import outcome
from app.api.preferences import preferred
from app.api.representation import FHIR_JSON, PLAIN_JSON, VARIES, Representation
from app.asked import Asked, Release
from app.audit.entry import Interaction
from app.errors import BadRequest, Issue, NotAcceptable
from app.fhir.export import FORMATS, NDJSON, Level, Pair, pairs_of_parameters, read_export
from app.fhir.instants import http_date
from app.fhir.text import parse

_BEGUN = Issue(
    "information", "informational", "The export was begun. Content-Location says where to ask for it."
)
_REMOVED = Issue("information", "informational", "The export was removed.")


async def kick_off(level: Level, use: UseCases, asked: Asked, http: HttpRequest) -> Response:
    headers = http.scope["headers"]
    if preferred(headers, "respond-async") is None:
        raise BadRequest("An export is made in the background. Ask for it with Prefer: respond-async.")
    posted = http.method == "POST"
    pairs = pairs_of(http.scope["query_string"].decode("latin-1"))
    if posted:
        pairs += await _posted(http, use.max_body_bytes)
    question = read_export(
        level,
        pairs,
        lenient=preferred(headers, "handling") == "lenient",
        base_url=use.door.base_url,
        posted=posted,
    )
    release = await use.disclosure.exporting.begin(asked, question, group_id=http.path_params.get("id"))
    issues = [_BEGUN, *(Issue("warning", "not-supported", one) for one in question.notes)]
    told = {**_headers(asked), "Content-Location": release.location or ""}
    return Response(outcome(issues), release.status, told, FHIR_JSON)


async def status(use: UseCases, asked: Asked, http: HttpRequest) -> Response:
    found = await use.disclosure.exporting.status(asked, http.path_params["job"])
    headers = _headers(asked)
    if found.retry_after is not None:
        # In words that are always the same: how far it has come would tell how much was looked at.
        headers |= {"X-Progress": "in progress", "Retry-After": str(found.retry_after)}
        return Response(None, found.release.status, headers)
    if found.expires is not None:
        headers["Expires"] = http_date(found.expires)
    return Response(found.release.body, found.release.status, headers, "application/json")


async def remove(use: UseCases, asked: Asked, http: HttpRequest) -> Response:
    release = await use.disclosure.exporting.remove(asked, http.path_params["job"])
    return Response(outcome([_REMOVED]), release.status, _headers(asked), FHIR_JSON)


async def download(use: UseCases, asked: Asked, http: HttpRequest) -> Response:
    """The first slice is there before the answer begins, so that a refusal is one. Later the connection breaks."""
    accepted = coding(dict(http.scope["headers"]).get(b"accept-encoding"))
    slices = use.disclosure.exporting.download(asked, http.path_params["job"], http.path_params["file"])
    first = await anext(slices)
    return streamed(_texts(first, slices), first.status, {**_headers(asked), **VARIES}, NDJSON, accepted)


async def _texts(first: Release, slices: AsyncIterator[Release]) -> AsyncIterator[str]:
    yield first.body
    async for slice in slices:
        yield slice.body


async def _posted(http: HttpRequest, limit: int) -> list[Pair]:
    """The parameters of a Parameters resource; none in an empty body."""
    if http.headers.get("content-length") == "0":
        return []
    body = parse(await resource_body(http, limit)).value
    if body.get("resourceType") != "Parameters":
        raise BadRequest("An operation is sent a Parameters resource.", expression="Parameters")
    return pairs_of_parameters(body)


def _headers(asked: Asked) -> dict[str, str]:
    return {"Cache-Control": "no-store", "X-Request-Id": asked.request.request_id}


def _as_ndjson(scope: Scope, headers: Mapping[bytes, bytes]) -> Representation:
    """A file is NDJSON and nothing else; a refusal of it is JSON. Raises NotAcceptable."""
    accepted = headers.get(b"accept", b"*/*").decode("latin-1").lower().split(",")
    if not FORMATS.isdisjoint(one.partition(";")[0].strip() for one in accepted):
        return PLAIN_JSON
    if any(one.partition(";")[0].strip() in ("*/*", "application/*", "") for one in accepted):
        return PLAIN_JSON
    raise NotAcceptable(f"A file of an export is written as {NDJSON}.")


def routes(use: UseCases) -> list[Route]:
    """Without HEAD: asking what an export would answer must not begin one, nor record that a file was read."""

    def kick_offs(path: str, level: Level) -> Route:
        answer = endpoint(use, Interaction.OPERATION, partial(kick_off, level))
        return Route(path, Address({"GET": answer, "POST": answer}))

    asking = {
        "GET": endpoint(use, Interaction.OPERATION, status),
        "DELETE": endpoint(use, Interaction.OPERATION, remove),
    }
    return [
        kick_offs("/fhir/$export", "system"),
        kick_offs("/fhir/Patient/$export", "patient"),
        kick_offs("/fhir/Group/{id:r4id}/$export", "group"),
        Route("/fhir/_export/{job}", Address(asking)),
        Route(
            "/fhir/_export/{job}/{file}",
            Address({"GET": endpoint(use, Interaction.EXPORT, download, _as_ndjson)}),
        ),
    ]
