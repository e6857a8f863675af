"""The PostgreSQL that tests run on: an embedded one, or the one that CANDOUR_TEST_DATABASE_URL leads to as a superuser.

A given server is for tests only: they make and drop databases, and the role of the application there gets the
superuser's password. Every database is named for this run, so that runs do not meet.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import asyncpg

from app.db import APPLICATION_ROLE
from app.embedded import EmbeddedPostgres

VARIABLE = "CANDOUR_TEST_DATABASE_URL"
SUPERUSER = "postgres"
_left: list[str] = []


class Server(Protocol):
    """Where a test's database is; ``SUPERUSER`` stands for whoever that is."""

    def url(self, user: str = SUPERUSER, database: str = "candour") -> str:
        """How ``user`` connects to ``database``."""


class GivenServer:
    """A server that somebody else started and will stop."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)

    def url(self, user: str = SUPERUSER, database: str = "candour") -> str:
        login, _, host = self._parts.netloc.rpartition("@")
        superuser, colon, password = login.partition(":")
        named = superuser if user == SUPERUSER else user
        return self._parts._replace(netloc=f"{named}{colon}{password}@{host}", path=f"/{database}").geturl()

    def introduce(self) -> None:
        """Makes the application's role, which logs in as the superuser does."""
        asyncio.run(self._introduce(unquote(self._parts.password or "")))

    async def _introduce(self, password: str) -> None:
        admin = await asyncpg.connect(self.url(database="postgres"))
        if not await admin.fetchval("SELECT to_regrole($1) IS NOT NULL", APPLICATION_ROLE):
            await admin.execute(f"CREATE ROLE {APPLICATION_ROLE} LOGIN NOINHERIT")
        quoted = await admin.fetchval("SELECT quote_literal($1)", password)
        await admin.execute(f"ALTER ROLE {APPLICATION_ROLE} PASSWORD {quoted}")
        await admin.close()


def given_server() -> GivenServer | None:
    url = os.environ.get(VARIABLE)
    return GivenServer(url) if url else None


@contextmanager
def a_server() -> Iterator[Server]:
    """The given server, or an embedded one until the block ends."""
    given = given_server()
    if given is not None:
        given.introduce()
        yield given
        return
    # Not under pytest's own folder: another run of pytest closes that to other users, the server's among them.
    with tempfile.TemporaryDirectory(prefix="candour-tests-", ignore_cleanup_errors=True) as home:
        server = EmbeddedPostgres(Path(home))
        server.start()
        # Each test has a database of its own, which need not outlive a power cut; a killed process loses nothing by it.
        as_superuser(server, lambda admin: admin.execute("ALTER SYSTEM SET fsync = off"))
        as_superuser(server, lambda admin: admin.execute("SELECT pg_reload_conf()"))
        yield server
        server.stop()


def named(name: str) -> str:
    """A database's name in this run."""
    return f"candour_{os.getpid()}_{name}".replace("-", "_")


@asynccontextmanager
async def a_database(server: Server, name: str, *, template: str = "template0") -> AsyncIterator[str]:
    """A database made as a copy, gone when the block ends; gives its name."""
    made = named(name)
    admin = await asyncpg.connect(server.url(database="postgres"))
    # Copying files is the faster way for what is small, and before PostgreSQL 15 the only one.
    strategy = " STRATEGY file_copy" if admin.get_server_version().major >= 15 else ""
    await admin.execute(f"CREATE DATABASE {made} TEMPLATE {template}{strategy}")
    try:
        yield made
    finally:
        await admin.execute(f"DROP DATABASE {made} WITH (FORCE)")
        await admin.close()


def a_kept_database(server: Server, name: str) -> str:
    """The URL of an empty database that ``drop_kept`` will drop."""
    made = named(name)
    as_superuser(server, lambda admin: admin.execute(f"CREATE DATABASE {made} TEMPLATE template0"))
    _left.append(made)
    return server.url(database=made)


def drop_kept() -> None:
    server = given_server()
    if server is None or not _left:
        return

    async def drop(admin: asyncpg.Connection) -> None:
        while _left:
            await admin.execute(f"DROP DATABASE IF EXISTS {_left.pop()} WITH (FORCE)")

    as_superuser(server, drop)


def as_superuser(server: Server, work: Callable[[asyncpg.Connection], Awaitable[object]]) -> None:
    async def connected() -> None:
        admin = await asyncpg.connect(server.url(database="postgres"))
        try:
            await work(admin)
        finally:
            await admin.close()

    asyncio.run(connected())
