"""Opening a node's database: start the embedded server or use the one given, migrate, and say how to connect."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.db import APPLICATION_ROLE
from app.embedded import EmbeddedPostgres, claim_home
from app.migrate import migrate
from app.reindexing import index_anew
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Opened:
    """Where the database is: for the owner, who migrates, and for the application's role."""

    owner_url: str
    url: str
    role: str | None
    """Set when the application connects as the owner and must step down to its own role."""


@contextmanager
def opened(settings: Settings, *, serving: bool = False) -> Iterator[Opened]:
    """A migrated database, until the block ends. ``serving``: this process is the home's one service.

    Raises NotStarted when another service has the home, or the server cannot be started.
    """
    lock = claim_home(settings.home) if serving else None
    try:
        if settings.database_url is None:
            with _embedded(settings, watch=serving) as found:
                yield found
        else:
            yield _given(settings)
    finally:
        if lock is not None:
            lock.close()


@contextmanager
def _embedded(settings: Settings, *, watch: bool) -> Iterator[Opened]:
    server = EmbeddedPostgres(settings.home)
    try:
        server.start()
        owner = server.url()
        _up_to_date(owner, settings)
        if watch:
            server.watch()
        yield Opened(owner, server.url(user=APPLICATION_ROLE), None)
    finally:
        server.stop()


def _given(settings: Settings) -> Opened:
    url = settings.database_url or ""
    owner = settings.database_owner_url or url
    _up_to_date(owner, settings)
    # One URL for both: connected as the owner, each connection steps down to the application's role.
    return Opened(owner, url, APPLICATION_ROLE if owner == url else None)


def _up_to_date(owner_url: str, settings: Settings) -> None:
    """The schema, and the index values of what is kept."""
    asyncio.run(migrate(owner_url))
    index_anew(owner_url, settings.fhir_base)
