"""One line per request in the application's log, and its metrics: never who or whose, that is the audit log's."""

import time
from functools import lru_cache

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("candour_requests", "Answered requests", ["method", "status"])
SECONDS = Histogram(
    "candour_request_seconds",
    "Time to answer",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)

log = structlog.get_logger("candour.request")


class Journal:
    """ASGI middleware; plain, because it stands in every request's way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._tell(scope, status, time.perf_counter() - started)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        _counter(scope["method"], status).inc()
        SECONDS.observe(seconds)
        log.info(
            "answered",
            method=scope["method"],
            route=_route(scope),
            status=status,
            ms=round(seconds * 1000, 2),
        )


@lru_cache(maxsize=256)
def _counter(method: str, status: int) -> Counter:
    return REQUESTS.labels(method, str(status))


def _route(scope: Scope) -> str:
    """The route's pattern, not the path: a path may hold an identifier."""
    route = scope.get("route")
    return getattr(route, "path", "-")
