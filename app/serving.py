"""Running the server: one process, uvloop, and a clean end on Ctrl-C or SIGTERM."""

import logging
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import structlog
import uvicorn
import uvloop

from app.main import collect_seldom, create_app, services
from app.opening import Opened
from app.settings import Settings


def run(settings: Settings, database: Opened) -> None:
    """Serves until it is asked to stop; requests under way are finished first."""
    configure_log(settings.log_level)
    uvloop.run(_serve(settings, database))


async def _serve(settings: Settings, database: Opened) -> None:
    async with services(settings, database.url) as node:
        config = uvicorn.Config(
            create_app(node),
            host=settings.host,
            port=settings.port,
            http="httptools",
            access_log=False,
            # Whom to believe is a setting of ours (app/api/forwarded); the server would believe whoever is local.
            proxy_headers=False,
            log_config=None,
            server_header=False,
            date_header=True,
            lifespan="off",
            timeout_graceful_shutdown=20,
            backlog=1024,
        )
        collect_seldom()
        await _Server(config).serve()


class _Server(uvicorn.Server):
    """Ends when asked to, and no more: what started it still has an audit log and a PostgreSQL to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signal again at the end, which for SIGTERM ends the process on the spot."""
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def configure_log(level: str) -> None:
    """JSON lines on standard error. No value that names a patient is ever bound to an event."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Retold(logging.WARNING)], force=True)


class _Retold(logging.Handler):
    """What a library logs, as a line like our own: its words without the values, where it failed and not with what."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        frames = traceback.extract_tb(error.__traceback__) if error else []
        structlog.get_logger(record.name).warning(
            str(record.msg).strip().partition("\n")[0],
            library=record.name,
            kind=type(error).__name__ if error else None,
            at=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-4:]],
        )
