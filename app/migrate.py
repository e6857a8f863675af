"""Brings a database to this release's schema (Alembic), as its owner."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from app.db import plain_url, translated
from app.errors import NotStarted

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
OLDEST_POSTGRES = 14

# Two services that start at once must not both migrate.
_LOCK = 0x43414E444F5552


async def migrate(owner_url: str) -> str:
    """Runs what is missing, under a lock; gives the revision reached. Raises NotStarted or DatabaseUnavailable."""
    engine = create_async_engine(plain_url(owner_url).replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        with translated():
            async with engine.begin() as connection:
                return await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def execute(script: str) -> None:
    """Runs a script of several statements in the migration's transaction (asyncpg prepares only one at a time)."""
    raw = op.get_bind().connection.driver_connection
    await_only(raw.execute(script))  # type: ignore[union-attr]  # the bind is always connected here


def _upgrade(connection: sa.Connection) -> str:
    version = connection.execute(sa.text("SHOW server_version_num")).scalar_one()
    if int(version) < OLDEST_POSTGRES * 10_000:
        raise NotStarted(
            f"PostgreSQL {OLDEST_POSTGRES} or newer is needed; this server is {int(version) // 10_000}"
        )
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    current = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(config).get_current_head()
    if current != head:
        command.upgrade(config, "head")
    return str(head)
