"""From an HTTP request to who asks and what: the bearer token, the trace, the headers that change an answer."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request as HttpRequest
from starlette.types import Scope

from app.api.coding import expanded, is_gzip
from app.api.forwarded import Proxies
from app.api.preferences import returned
from app.api.representation import is_xml_body
from app.api.turnstile import Turnstile
from app.asked import Asked
from app.audit.entry import Interaction
from app.errors import BadRequest, NotAuthenticated, TooLarge, UnsupportedMediaType
from app.fhir.xml import from_xml
from app.ports import Clock, TokenVerifier
from app.vocabulary import Caller, Request

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}\Z")


_LARGE = 64 * 1024


class Door:
    """What every interaction needs before a use case is called."""

    def __init__(
        self, verifier: TokenVerifier, clock: Clock, base_url: str, proxies: Proxies | None = None
    ) -> None:
        self._verifier = verifier
        self._clock = clock
        self._proxies = proxies
        self.base_url = base_url
        self.turnstile = Turnstile()

    def asked(self, http: HttpRequest, interaction: Interaction) -> Asked:
        """The request and its caller. Raises NotAuthenticated."""
        headers = dict(http.scope["headers"])
        caller = self._caller(headers)
        asked = Asked(self.request(http), caller, interaction)
        if b"prefer" in headers:
            asked.prefers = returned(http.scope["headers"])
        if self._proxies is not None:
            asked.links_under = self._proxies.seen(http.scope).base_url
        return asked

    def request(self, http: HttpRequest) -> Request:
        """What arrived, whoever sent it."""
        scope = http.scope
        headers = dict(scope["headers"])
        query = scope["query_string"].decode("latin-1")
        return Request(
            trace_id=trace_id(_text(headers, b"traceparent")),
            request_id=request_id(_text(headers, b"x-request-id")),
            at=self._clock.now(),
            method=scope["method"],
            target=f"{scope['path']}?{query}" if query else scope["path"],
            client_address=self._client_address(scope),
            base_url=self.base_url,
        )

    def _client_address(self, scope: Scope) -> str:
        if self._proxies is not None:
            return self._proxies.seen(scope).client_address
        client = scope.get("client")
        return client[0] if client else ""

    def _caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        scheme, _, token = (_text(headers, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated
        return self._verifier.verify(token.strip())


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    found = headers.get(name)
    return None if found is None else found.decode("latin-1")


def trace_id(traceparent: str | None) -> str:
    """The trace-id of a well-formed ``traceparent`` (W3C Trace Context, 3.2), or a new one."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    return found[1] if found and found[1] != "0" * 32 else os.urandom(16).hex()


def request_id(given: str | None) -> str:
    return given if given and _REQUEST_ID.match(given) else os.urandom(16).hex()


async def resource_body(http: HttpRequest, limit: int) -> bytes | str:
    """The body as JSON text, at most ``limit`` bytes as sent; XML is read into it.

    Raises UnsupportedMediaType, TooLarge or MalformedBody.
    """
    is_xml = is_xml_body(http.headers.get("content-type", ""))
    sent = await body(http, limit)
    if not is_xml:
        return sent
    # Out of the event loop, when it takes long.
    return await asyncio.to_thread(from_xml, sent) if len(sent) > _LARGE else from_xml(sent)


async def form_body(http: HttpRequest, limit: int) -> str:
    media = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("Send application/x-www-form-urlencoded.")
    try:
        return (await body(http, limit)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("The form is not UTF-8.") from error


async def body(http: HttpRequest, limit: int) -> bytes:
    """At most ``limit`` bytes, as sent and once more when they are expanded. Raises TooLarge, UnsupportedMediaType."""
    packed = is_gzip(http.headers.get("content-encoding", ""))
    announced = http.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and len(announced) < 20 and int(announced) > limit:
        raise TooLarge
    sent = _sent(http, limit)
    return await expanded(sent, limit) if packed else b"".join([piece async for piece in sent])


async def _sent(http: HttpRequest, limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in http.stream():
        size += len(piece)
        if size > limit:
            raise TooLarge
        yield piece
