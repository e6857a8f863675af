"""PostgreSQL: the tables' MetaData, statements compiled once, and the pool they run on.

Statements are built with SQLAlchemy Core and run on asyncpg directly: SQLAlchemy's own execution costs more per
request than the query itself (docs/adr). Foreign exceptions become ours here, so that a lost database is a 503.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from app.connecting import NO_ANSWER, connecting, plain_url
from app.errors import Conflict, DatabaseUnavailable, NotStarted

metadata = sa.MetaData()

APPLICATION_ROLE = "candour_app"
"""Reads and appends; owns nothing, and cannot change the past of the audit log."""

SESSION = {
    "application_name": "candour",
    "search_path": "public",
    "default_transaction_isolation": "read committed",
}
"""Of every connection, whatever a role's or a database's own settings say: the tables are in ``public``, and the
statements are written for READ COMMITTED."""

CONNECT_SECONDS = 5.0

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # SQLAlchemy's own lack

GONE = (
    *NO_ANSWER,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that was lost while it was being cancelled
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)
"""What a missing, starting, full or read-only database raises."""

OVERTAKEN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
"""Another transaction was in the way: the request may be repeated."""


class Statement:
    """A Core statement compiled once. ``sql`` and the order of its parameters never change afterwards."""

    __slots__ = ("_defaults", "_names", "sql")

    def __init__(self, clause: sa.ClauseElement) -> None:
        compiled = clause.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        self.sql = str(compiled)
        names = getattr(compiled, "positiontup", None) or ()
        self._names: tuple[str, ...] = tuple(names)
        self._defaults: Mapping[str, Any] = dict(compiled.params)

    def args(self, values: Mapping[str, Any]) -> list[Any]:
        """Positional arguments; a parameter without a value keeps the one bound in the clause."""
        return [values[name] if name in values else self._defaults[name] for name in self._names]


async def connect(url: str) -> asyncpg.Connection:
    """One connection, for administration. Raises NotStarted or DatabaseUnavailable."""
    with connecting(url):
        return await asyncpg.connect(plain_url(url), timeout=CONNECT_SECONDS, server_settings=SESSION)


def _must_be(role: str) -> Callable[[asyncpg.Connection], Awaitable[None]]:
    """A pooler in between can be told to drop what a connection asks for: then it is still whoever logged in."""

    async def check(connection: asyncpg.Connection) -> None:
        found = await connection.fetchval("SELECT current_user")
        if found != role:
            raise NotStarted(
                f"The connection runs as {found} though it asked for the role {role}, as behind a pooler that drops "
                f"such settings. Connect directly, or log in as {role}."
            )

    return check


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg's base is untyped
    """Without asyncpg's reset on release: it costs a round trip, and no request leaves session state behind."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """A pool on one database, as one role."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    @classmethod
    async def connect(cls, url: str, *, role: str | None = None, size: int = 8) -> Database:
        """Opens at least one connection, each of which becomes ``role``. Raises NotStarted or DatabaseUnavailable."""
        settings = {**SESSION, "jit": "off", "plan_cache_mode": "force_generic_plan"}
        if role is not None:
            settings["role"] = role
        with connecting(url):
            pool = await asyncpg.create_pool(
                plain_url(url),
                min_size=1,
                max_size=size,
                connection_class=_Connection,
                server_settings=settings,
                init=None if role is None else _must_be(role),
                statement_cache_size=512,
                max_inactive_connection_lifetime=0,
                command_timeout=60,
                timeout=CONNECT_SECONDS,
            )
        return cls(pool)

    async def close(self) -> None:
        await self.pool.close()

    async def fetch(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        with translated():
            return list(await self.pool.fetch(statement.sql, *statement.args(values)))

    async def fetchrow(self, statement: Statement, **values: Any) -> asyncpg.Record | None:
        with translated():
            return await self.pool.fetchrow(statement.sql, *statement.args(values))

    async def execute(self, statement: Statement, **values: Any) -> str:
        with translated():
            return str(await self.pool.execute(statement.sql, *statement.args(values)))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        with translated():
            async with self.pool.acquire() as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """One transaction at READ COMMITTED, durable when the block has ended without an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection


class Transaction(Database):
    """An open transaction, with the interface of a database: it sees what was written in it, and nobody else does.

    One statement at a time; those that are asked for side by side take turns.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    async def fetch(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        async with self._turn:
            with translated():
                return list(await self._connection.fetch(statement.sql, *statement.args(values)))

    async def fetchrow(self, statement: Statement, **values: Any) -> asyncpg.Record | None:
        async with self._turn:
            with translated():
                return await self._connection.fetchrow(statement.sql, *statement.args(values))

    async def execute(self, statement: Statement, **values: Any) -> str:
        async with self._turn:
            with translated():
                return str(await self._connection.execute(statement.sql, *statement.args(values)))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._turn:
            with translated():
                yield self._connection


class Fetching(Protocol):
    """What can be read from: the pool, or an open transaction."""

    async def fetch(self, statement: Statement, **values: Any) -> list[asyncpg.Record]: ...


class translated:  # noqa: N801  # reads as a clause: ``with translated():``
    """Turns what a lost or busy database raises into the service's own errors."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # The last one by its exact type: it is what a database closed to connections raises, and has children.
        if isinstance(error, GONE) or type(error) is asyncpg.ObjectNotInPrerequisiteStateError:
            raise DatabaseUnavailable from error
        if isinstance(error, OVERTAKEN):
            raise Conflict from error
