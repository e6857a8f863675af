"""Opening a node's database: start the embedded server or use the one given, migrate, and say how to connect."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.db import APPLICATION_ROLE
from app.embedded import EmbeddedPostgres, claim_home
from app.errors import NotStarted
from app.migrate import migrate
from app.reindexing import index_anew
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Opened:
    """Where the database is: for the owner, who migrates, and for the application."""

    owner_url: str
    url: str
    """May be the owner's: each of the application's connections steps down to its own role."""


@contextmanager
def opened(settings: Settings, *, serving: bool = False) -> Iterator[Opened]:
    """A migrated database, until the block ends. ``serving``: this process is the home's one service.

    Raises NotStarted when another service has the home, or the server cannot be started or used.
    """
    if settings.database_url is None and settings.database_owner_url is not None:
        raise NotStarted("DATABASE_OWNER_URL is given without DATABASE_URL. Give both, or neither.")
    lock = claim_home(settings.home) if serving else None
    try:
        if settings.database_url is None:
            with _embedded(settings, watch=serving) as found:
                yield found
        else:
            yield _given(settings, settings.database_url, settings.database_owner_url)
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
        yield Opened(owner, server.url(user=APPLICATION_ROLE))
    finally:
        server.stop()


def _given(settings: Settings, url: str, owner_url: str | None) -> Opened:
    owner = owner_url or url
    _up_to_date(owner, settings)
    return Opened(owner, url)


def _up_to_date(owner_url: str, settings: Settings) -> None:
    """The schema, and the index values of what is kept."""
    asyncio.run(migrate(owner_url))
    index_anew(owner_url, settings.fhir_base)
