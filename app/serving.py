"""Running the server: one process, uvloop, and a clean end on Ctrl-C or SIGTERM."""

import logging
import sys

import orjson
import structlog
import uvicorn
import uvloop

from app.main import create_app, services
from app.opening import Opened
from app.settings import Settings


def run(settings: Settings, database: Opened) -> None:
    """Serves until it is asked to stop; requests under way are finished first."""
    configure_log(settings.log_level)
    uvloop.run(_serve(settings, database))


async def _serve(settings: Settings, database: Opened) -> None:
    async with services(settings, database.url, role=database.role) as node:
        config = uvicorn.Config(
            create_app(node),
            host=settings.host,
            port=settings.port,
            http="httptools",
            access_log=False,
            log_level="warning",
            server_header=False,
            date_header=True,
            lifespan="off",
            timeout_graceful_shutdown=20,
            backlog=1024,
        )
        await uvicorn.Server(config).serve()


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
