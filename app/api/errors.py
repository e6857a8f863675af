"""What no route answered: unknown addresses, wrong methods, and whatever failed unexpectedly."""

import traceback
from http import HTTPStatus

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from app.api.outcome import refusal
from app.api.representation import wanted_or_plain
from app.errors import BadRequest, CandourError, MethodNotAllowed, UnknownRoute

log = structlog.get_logger()


def answer_failures(app: FastAPI) -> None:
    """Makes every failure an OperationOutcome; a traceback goes to the log, never to a caller."""
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(CandourError, _named)
    app.add_exception_handler(Exception, _unexpected)


async def _unrouted(http: HttpRequest, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "GET") if isinstance(error, HTTPException) else "GET"
        return refusal(
            MethodNotAllowed([one.strip() for one in allowed.split(",")]), wanted_or_plain(http.scope)
        )
    return refusal(
        UnknownRoute() if status == HTTPStatus.NOT_FOUND else BadRequest(), wanted_or_plain(http.scope)
    )


async def _named(http: HttpRequest, error: Exception) -> Response:
    return refusal(error if isinstance(error, CandourError) else CandourError(), wanted_or_plain(http.scope))


async def _unexpected(http: HttpRequest, error: Exception) -> Response:
    log_failure(error, http.method)
    return refusal(CandourError(), wanted_or_plain(http.scope))


def log_failure(error: BaseException, method: str) -> None:
    """Where it failed, not with what: a message or a local variable may hold an identifier."""
    frames = [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    log.error("unexpected failure", kind=type(error).__name__, method=method, at=frames[-8:])
