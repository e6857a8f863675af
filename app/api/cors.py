"""Browser apps of other origins, where the operator names them (Fetch, "CORS protocol"; SMART App Launch, CORS).

No credentials: a token is sent by the app itself, so no cookie or certificate of a visitor can be borrowed.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.outcome import refusal
from app.errors import NotPermitted

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_MAY_BE_SENT = (
    "Authorization",
    "Content-Encoding",
    "If-Match",
    "If-Modified-Since",
    "If-None-Exist",
    "If-None-Match",
    "Prefer",
    "Traceparent",
    "X-Request-Id",
    "X-Security-Context",
)
_MAY_BE_READ = (
    "Content-Location",
    "ETag",
    "Expires",
    "Last-Modified",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Progress",
    "X-Request-Id",
    "X-Security-Context",
)
_ADDRESSES = ("/fhir", "/oauth/token", "/.well-known/")


class CrossOrigin(CORSMiddleware):
    """Starlette's, for the addresses that apps call, and with refusals as this service writes them."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_MAY_BE_SENT,
            expose_headers=_MAY_BE_READ,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_ADDRESSES):
            await self.app(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            allowed = [one for one in answer.raw_headers if not one[0].startswith(b"content-")]
            answer = Response(None, 204)
            answer.raw_headers = allowed
            return answer
        refused = refusal(NotPermitted("This origin, or what it wants to send, is not allowed here."))
        refused.headers["Vary"] = answer.headers["Vary"]
        return refused
