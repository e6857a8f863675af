"""Brings a database to this release's schema (Alembic), as its owner."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import sqlalchemy as sa
from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from app.connecting import address
from app.db import connect, translated
from app.errors import NotStarted
from app.rights import check_application, check_owner, check_server

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

# Two services that start at once must not both migrate.
_LOCK = 0x43414E444F5552


async def migrate(owner_url: str) -> str:
    """Runs what is missing, under a lock; gives the revision reached. Raises NotStarted or DatabaseUnavailable.

    What the roles may do is checked each time, and before a migration is committed. Where nothing is missing the
    application's own login may call it too.
    """
    where = address(owner_url)
    connection = await connect(owner_url)
    try:
        with translated(), _refused(where):
            await check_server(connection, where)
            return await _migrated(connection, where)
    finally:
        await connection.close()


async def _migrated(connection: asyncpg.Connection, where: str) -> str:
    async with _engine(connection).begin() as alembic:
        await alembic.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if not await alembic.run_sync(_is_current):
            await check_owner(connection, where)
            await alembic.run_sync(_upgrade)
        await check_application(connection, where)
    return str(_scripts().get_current_head())


def execute(script: str) -> None:
    """Runs a script of several statements in the migration's transaction (asyncpg prepares only one at a time)."""
    raw = op.get_bind().connection.driver_connection
    await_only(raw.execute(script))  # type: ignore[union-attr]  # the bind is always connected here


def _engine(connection: asyncpg.Connection) -> AsyncEngine:
    """For Alembic, on a connection that is there: SQLAlchemy does not understand every URL that asyncpg does."""

    async def given() -> asyncpg.Connection:
        return connection

    return create_async_engine("postgresql+asyncpg://", async_creator=given, poolclass=NullPool)


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _is_current(connection: sa.Connection) -> bool:
    current, scripts = MigrationContext.configure(connection).get_current_revision(), _scripts()
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise NotStarted(
            f"The database's schema ({current}) is of a newer release of Candour than this one "
            f"({scripts.get_current_head()}). Start that release."
        )
    return current == scripts.get_current_head()


def _upgrade(connection: sa.Connection) -> None:
    command.upgrade(_config(connection), "head")


@contextmanager
def _refused(where: str) -> Iterator[None]:
    """Turns what the database refuses to the login, and what SQLAlchemy wraps, into the service's own errors."""
    try:
        yield
    except (asyncpg.InsufficientPrivilegeError, DBAPIError) as error:
        found = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig is not None else error
        if not isinstance(found, asyncpg.InsufficientPrivilegeError):
            raise found or error from error
        raise NotStarted(
            f"The database at {where} refused the migration: {found.message}. Give the login that owns the tables "
            "in DATABASE_OWNER_URL, or run `candour migrate` with it."
        ) from error
