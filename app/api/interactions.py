"""The FHIR RESTful interactions (R4 http): parse, call one use case, render."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.api.caller import Door, form_body, resource_body
from app.api.errors import log_failure
from app.api.outcome import outcome, refusal
from app.api.representation import PLAIN_JSON, Representation, wanted
from app.asked import Asked, Release
from app.audit.entry import Interaction, Receipt
from app.disclosure import Disclosure
from app.errors import (
    BadRequest,
    CandourError,
    MalformedSearch,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    TooManyTurnedAway,
    UnknownType,
)
from app.exchange import Exchange, Part, parts_of
from app.fhir import bundle
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.instants import http_date, instant
from app.fhir.query import parse_search
from app.fhir.text import Parsed, parse
from app.submission import Submission

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_WHOLE = re.compile(r"[0-9]{1,18}\Z")
_VERSION = re.compile(r"[1-9][0-9]{0,9}\Z")
DEFAULT_COUNT = 20


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the routes may call."""

    door: Door
    disclosure: Disclosure
    submission: Submission
    exchange: Exchange
    max_body_bytes: int


Handler = Callable[[UseCases, Asked, HttpRequest], Awaitable[Release]]


Answering = Callable[[HttpRequest], Awaitable[Response]]


def endpoint(use: UseCases, interaction: Interaction, handler: Handler) -> Answering:
    """An interaction as an HTTP endpoint: who asks is proved first, and every failure is an OperationOutcome."""

    async def answer(http: HttpRequest) -> Response:
        shape = PLAIN_JSON
        try:
            asked = use.door.asked(http, interaction)
        except NotAuthenticated as error:
            return refusal(await turned_away(use, http, interaction, error))
        try:
            shape = wanted(http.scope, dict(http.scope["headers"]))
            return rendered(asked, await handler(use, asked, http), shape)
        except CandourError as error:
            if type(error) is CandourError:
                log_failure(error.__cause__ or error, http.method)
            return refusal(await recorded(use, asked, error), shape)
        except Exception as error:  # noqa: BLE001  # the outermost: recorded and answered, whatever it was
            log_failure(error, http.method)
            return refusal(await recorded(use, asked, CandourError()), shape)

    return answer


async def turned_away(
    use: UseCases, http: HttpRequest, interaction: Interaction, error: NotAuthenticated
) -> CandourError:
    """The refusal of somebody unknown, after it was recorded; of too many of them, nothing is recorded."""
    if not use.door.turnstile.admits():
        return TooManyTurnedAway()
    try:
        await use.disclosure.turn_away(use.door.request(http), interaction, error)
    except CandourError as unrecorded:
        return unrecorded
    return error


async def recorded(use: UseCases, asked: Asked, error: CandourError) -> CandourError:
    """The refusal to answer with, after it was recorded: a 503 instead when it cannot be."""
    if asked.recorded or error.status == 503:
        return error
    try:
        await use.disclosure.refuse(asked, error)
    except CandourError as unrecorded:
        return unrecorded
    return error


def rendered(asked: Asked, release: Release, shape: Representation) -> Response:
    headers = {"Cache-Control": "no-store", "X-Request-Id": asked.request.request_id}
    if release.etag is not None:
        headers["ETag"] = release.etag
    if release.last_modified is not None:
        headers["Last-Modified"] = http_date(release.last_modified)
    if release.location is not None:
        headers["Location"] = release.location
        if not asked.prefers_representation:
            return shape.response("", release.status, headers)
    if release.status in (204, 304):
        return Response(None, release.status, headers)
    return shape.response(release.body, release.status, headers)


# One record.


async def read(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    return await use.disclosure.read(
        asked, resource_type, id, if_none_match=http.headers.get("if-none-match")
    )


async def vread(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    version = http.path_params["version"]
    if not _VERSION.match(version):
        raise NotFound
    return await use.disclosure.vread(asked, resource_type, id, version)


async def history(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    return await use.disclosure.history(asked, resource_type, id, count=_count(http))


async def create(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type = _type(http)
    body = await resource_body(http, use.max_body_bytes)
    criteria = http.headers.get("if-none-exist")
    if criteria is not None:
        return await use.exchange.create_if_none_exist(asked, resource_type, body, criteria)
    return await use.submission.create(asked, resource_type, body)


async def update(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    return await use.submission.update(
        asked,
        resource_type,
        id,
        await resource_body(http, use.max_body_bytes),
        if_match=http.headers.get("if-match"),
        if_none_match=http.headers.get("if-none-match"),
    )


async def delete(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    return await use.submission.delete(asked, resource_type, id, if_match=http.headers.get("if-match"))


# Many.


async def search(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    return await _search(use, asked, http, _pairs(http.scope["query_string"].decode("latin-1")))


async def search_by_post(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """POST _search: the parameters of the form and of the address together (R4 search, 3.1.1.2)."""
    form = _pairs(await form_body(http, use.max_body_bytes))
    return await _search(use, asked, http, _pairs(http.scope["query_string"].decode("latin-1")) + form)


async def _search(use: UseCases, asked: Asked, http: HttpRequest, pairs: list[tuple[str, str]]) -> Release:
    resource_type = _type(http)
    if resource_type == "AuditEvent":
        asked.interaction = Interaction.AUDIT_READ
        return await _audit_events(use, asked, dict(pairs))
    query = parse_search(
        resource_type, pairs, strict=_strict(http), base_url=use.door.base_url, default_count=DEFAULT_COUNT
    )
    return await use.disclosure.search(asked, query)


async def _audit_events(use: UseCases, asked: Asked, given: dict[str, str]) -> Release:
    unknown = set(given) - {"patient", "_count", "_before", "_format"}
    if unknown or "patient" not in given:
        raise MalformedSearch("AuditEvent is searched by patient, with _count; nothing else is supported.")
    count = given.get("_count", "50")
    before = given.get("_before")
    if not _WHOLE.match(count) or (before is not None and not _WHOLE.match(before)):
        raise MalformedSearch("_count and _before are whole numbers.")
    return await use.disclosure.audit_events(
        asked,
        given["patient"].removeprefix("Patient/"),
        count=max(1, min(int(count), 1000)),
        before=int(before) if before else None,
    )


async def everything(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    id = http.path_params["id"]
    if not _ID.match(id):
        raise NotFound
    unknown = {name for name, _ in _pairs(http.scope["query_string"].decode("latin-1"))} - {
        "_count",
        "_format",
    }
    if unknown:
        raise MalformedSearch(f"$everything does not support {', '.join(sorted(unknown))} here.")
    return await use.disclosure.everything(asked, id, count=_count(http))


async def next_page(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    return await use.disclosure.next_page(asked, http.query_params.get("_cursor", ""))


async def exchange(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    parsed = parse(await resource_body(http, use.max_body_bytes))
    if parsed.value.get("resourceType") != "Bundle":
        raise BadRequest("Only a Bundle of type transaction or batch is accepted here.", expression="Bundle")
    kind = parsed.value.get("type")
    if kind == "transaction":
        return await use.exchange.transaction(asked, parsed)
    if kind == "batch":
        return await batch(use, asked, parsed)
    raise BadRequest("Only a Bundle of type transaction or batch is accepted here.", expression="Bundle.type")


async def batch(use: UseCases, asked: Asked, parsed: Parsed) -> Release:
    """Each entry is a request of its own, with its own outcome and audit entry (R4 http, 3.1.0.11.1)."""
    receipts: list[Receipt] = []
    entries: list[str] = []
    for place, part in enumerate(parts_of(parsed)):
        one = replace(asked, recorded=False, whose=None, interaction=part.interaction)
        one.request = replace(asked.request, method=part.method, target=f"/fhir/{part.url}")
        try:
            release = await _carry_out(use, one, part)
        except CandourError as error:
            error = await recorded(use, one, error)
            error.at_entry(place)
            entries.append(bundle.response_entry(status=_status(error.status), outcome=outcome(error.issues)))
        else:
            receipts += release.receipts
            entries.append(_response(release))
    return Release(bundle.response("batch-response", entries), receipts)


async def _carry_out(use: UseCases, asked: Asked, part: Part) -> Release:
    address, _, query = part.url.partition("?")
    resource_type, _, id = address.partition("/")
    if resource_type not in RESOURCE_TYPES:
        raise UnknownType
    if part.method == "GET" and not id and resource_type == "AuditEvent":
        asked.interaction = Interaction.AUDIT_READ
        return await _audit_events(use, asked, dict(_pairs(query)))
    if part.method == "GET" and not id:
        parsed = parse_search(
            resource_type,
            _pairs(query),
            strict=False,
            base_url=use.door.base_url,
            default_count=DEFAULT_COUNT,
        )
        return await use.disclosure.search(asked, parsed)
    if part.method == "POST" and not id and part.if_none_exist is not None:
        return await use.exchange.create_if_none_exist(asked, resource_type, part.body, part.if_none_exist)
    if part.method == "POST" and not id:
        return await use.submission.create(asked, resource_type, part.body)
    if not _ID.match(id) or query:
        raise BadRequest("In a batch, request.url is [type], [type]?[parameters] or [type]/[id].")
    if part.method == "GET":
        return await use.disclosure.read(asked, resource_type, id)
    if part.method == "PUT":
        return await use.submission.update(asked, resource_type, id, part.body, if_match=part.if_match)
    if part.method == "DELETE":
        return await use.submission.delete(asked, resource_type, id, if_match=part.if_match)
    raise MethodNotAllowed(["GET", "POST", "PUT", "DELETE"])


def _response(release: Release) -> str:
    return bundle.response_entry(
        status=_status(release.status),
        location=release.location or "",
        etag=release.etag or "",
        last_modified=instant(release.last_modified) if release.last_modified else "",
        resource=release.body or None,
    )


def _status(code: int) -> str:
    return f"{int(code)} {HTTPStatus(code).phrase}"


# Parts.


def _type(http: HttpRequest) -> str:
    resource_type: str = http.path_params["type"]
    if resource_type not in RESOURCE_TYPES:
        raise UnknownType
    return resource_type


def _instance(http: HttpRequest) -> tuple[str, str]:
    resource_type, id = _type(http), http.path_params["id"]
    if not _ID.match(id):
        raise NotFound
    return resource_type, id


def _count(http: HttpRequest) -> int | None:
    count = http.query_params.get("_count")
    if count is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", count, re.ASCII):
        raise MalformedSearch("_count is a whole number.")
    return int(count)


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=200)
    except (ValueError, UnicodeDecodeError) as error:
        raise MalformedSearch("The parameters are not UTF-8, or too many.") from error


def _strict(http: HttpRequest) -> bool:
    return "handling=strict" in http.headers.get("prefer", "").replace(" ", "")


class _TypeSegment(StringConvertor):
    """What has the form of a resource type; anything else is at no address."""

    regex = "[A-Z][A-Za-z]+"


class _IdSegment(StringConvertor):
    """An id of R4's form."""

    regex = r"[A-Za-z0-9\-.]{1,64}"


register_url_convertor("r4type", _TypeSegment())
register_url_convertor("r4id", _IdSegment())


class Address:
    """The interactions at one address, by method, as an ASGI application.

    A plain function would be wrapped once more by the framework, in what every answer here has already: a handler of
    every failure. Every method comes here, so that a wrong one is answered as FHIR wants it.
    """

    def __init__(self, by_method: Mapping[str, Answering]) -> None:
        self._by_method = by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._by_method.get(scope["method"])
        if answer is None:
            response = refusal(MethodNotAllowed(sorted(self._by_method)))
        else:
            response = await answer(HttpRequest(scope, receive, send))
        await response(scope, receive, send)


def routes(use: UseCases) -> list[Route]:
    """The FHIR interactions under the base, the most frequent first."""
    one, kind = "/fhir/{type:r4type}/{id:r4id}", "/fhir/{type:r4type}"

    def route(path: str, **handlers: tuple[Interaction, Handler]) -> Route:
        by_method = {method: endpoint(use, *handler) for method, handler in handlers.items()}
        if "GET" in by_method:
            by_method["HEAD"] = by_method["GET"]
        return Route(path, Address(by_method))

    return [
        route(
            one,
            GET=(Interaction.READ, read),
            PUT=(Interaction.UPDATE, update),
            DELETE=(Interaction.DELETE, delete),
        ),
        route(kind, GET=(Interaction.SEARCH, search), POST=(Interaction.CREATE, create)),
        route(f"{kind}/_search", POST=(Interaction.SEARCH, search_by_post)),
        route("/fhir/_page", GET=(Interaction.SEARCH, next_page)),
        route("/fhir/Patient/{id:r4id}/$everything", GET=(Interaction.EVERYTHING, everything)),
        route(f"{one}/_history", GET=(Interaction.HISTORY, history)),
        route(f"{one}/_history/{{version}}", GET=(Interaction.VREAD, vread)),
        route("/fhir", POST=(Interaction.TRANSACTION, exchange)),
        route("/fhir/", POST=(Interaction.TRANSACTION, exchange)),
    ]
