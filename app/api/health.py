"""Whether the process lives, whether it can answer safely, and its metrics."""

import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.audit.log import AuditLog
from app.db import Database, Statement
from app.errors import CandourError

_PING = Statement(sa.select(sa.literal(1)))


def routes(database: Database, log: AuditLog) -> list[Route]:
    async def hello(http: HttpRequest) -> Response:
        """The bare route that every figure of ``make bench`` is a ratio to."""
        return JSONResponse({"candour": "hello"})

    async def live(http: HttpRequest) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(http: HttpRequest) -> Response:
        try:
            await database.fetch(_PING)
        except CandourError as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, 503)
        if not log.running:
            return JSONResponse({"status": "not ready", "reason": "the audit log is not being written"}, 503)
        return JSONResponse({"status": "ready"})

    async def metrics(http: HttpRequest) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/hello", hello),
        Route("/healthz", live),
        Route("/readyz", ready),
        Route("/metrics", metrics),
    ]
