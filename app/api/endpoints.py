"""What every address under the FHIR base has in common: who asks is proved, every failure is an OperationOutcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.caller import Door
from app.api.coding import streamed
from app.api.errors import log_failure
from app.api.forwarded import linked
from app.api.outcome import refusal
from app.api.preferences import preferred
from app.api.representation import FHIR_JSON, PLAIN_JSON, VARIES, Representation, wanted, wanted_or_plain
from app.asked import Asked, Preference, Release
from app.audit.entry import Interaction
from app.disclosure import Disclosure
from app.errors import (
    CandourError,
    MalformedSearch,
    MethodNotAllowed,
    NotAuthenticated,
    TooManyTurnedAway,
)
from app.exchange import Exchange
from app.exchange.responses import said
from app.fhir.bundle import under
from app.fhir.instants import http_date
from app.submission import Submission


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the routes may call."""

    door: Door
    disclosure: Disclosure
    submission: Submission
    exchange: Exchange
    max_body_bytes: int


_LARGE = 64 * 1024
"""Characters of a body that is written as XML, or for people, out of the event loop."""

Handler = Callable[[UseCases, Asked, HttpRequest], Awaitable[Release]]

AnyHandler = Callable[[UseCases, Asked, HttpRequest], Awaitable[Release | Response]]
"""May also give a whole answer, where what leaves is not a resource."""

Answering = Callable[[HttpRequest], Awaitable[Response]]

Shaping = Callable[[Scope, Mapping[bytes, bytes]], Representation]
"""How the answer is to be written; raises NotAcceptable."""


def endpoint(
    use: UseCases, interaction: Interaction, handler: AnyHandler, shaped: Shaping = wanted
) -> Answering:
    """An interaction as an HTTP endpoint: who asks is proved first, and every failure is an OperationOutcome."""

    async def answer(http: HttpRequest) -> Response:
        shape = PLAIN_JSON
        try:
            asked = use.door.asked(http, interaction)
        except NotAuthenticated as error:
            return refusal(await turned_away(use, http, interaction, error), wanted_or_plain(http.scope))
        try:
            shape = shaped(http.scope, dict(http.scope["headers"]))
            release = await handler(use, asked, http)
            if isinstance(release, Response):
                return release
            if release.pieces is not None and not shape.takes_long and asked.links_under is None:
                headers = {**_headers(asked), **VARIES}
                return streamed(release.pieces(), release.status, headers, FHIR_JSON, shape.coding)
            release = await release.whole()
            if len(release.body) > _LARGE and shape.takes_long:
                return await asyncio.to_thread(rendered, asked, release, shape)
            return rendered(asked, release, shape)
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
    headers = _headers(asked)
    if release.etag is not None:
        headers["ETag"] = release.etag
    if release.last_modified is not None:
        headers["Last-Modified"] = http_date(release.last_modified)
    if release.location is not None:
        headers["Location"] = _reachable(asked, release.location)
        if asked.prefers is Preference.MINIMAL:
            return shape.response("", release.status, headers)
        if asked.prefers is Preference.OUTCOME:
            return shape.response(said(release.status), release.status, headers)
    if release.status in (204, 304):
        return Response(None, release.status, headers if release.status == 204 else {**headers, **VARIES})
    text = linked(release.body, asked.interaction, asked.request.base_url, asked.links_under)
    return shape.response(text, release.status, headers)


def _reachable(asked: Asked, url: str) -> str:
    return url if asked.links_under is None else under(url, asked.request.base_url, asked.links_under)


def _headers(asked: Asked) -> dict[str, str]:
    return {"Cache-Control": "no-store", "X-Request-Id": asked.request.request_id}


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
            response = refusal(MethodNotAllowed(sorted(self._by_method)), wanted_or_plain(scope))
        else:
            response = await answer(HttpRequest(scope, receive, send))
        await response(scope, receive, send)


def pairs_of(query: str) -> list[tuple[str, str]]:
    """The decoded parameters of a query or form. Raises MalformedSearch."""
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=200)
    except (ValueError, UnicodeDecodeError) as error:
        raise MalformedSearch("The parameters are not UTF-8, or too many.") from error


def is_strict(http: HttpRequest) -> bool:
    """Whether a parameter that is not supported is to be refused (R4 search, 3.1.1.1)."""
    return preferred(http.scope["headers"], "handling") == "strict"
