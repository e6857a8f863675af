"""One embedded PostgreSQL for the whole run, migrated once; each database a test gets is a copy of it."""

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from app.db import APPLICATION_ROLE, Database
from app.embedded import EmbeddedPostgres
from app.migrate import migrate

SHARED_DATA = Path(
    os.environ.get("CANDOUR_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
_copies = itertools.count()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data that nobody here wrote; beside the checkout in CI, absent from a plain clone."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data set is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    # Not under pytest's own folder: another run of pytest closes that to other users, the server's among them.
    with tempfile.TemporaryDirectory(prefix="candour-tests-", ignore_cleanup_errors=True) as home:
        server = EmbeddedPostgres(Path(home))
        server.start()
        yield server
        server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated, empty database."""
    await migrate(postgres.url())
    return "candour"


@pytest_asyncio.fixture(loop_scope="session")
async def database_name(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """A database of this test's own."""
    name = f"test_{next(_copies)}"
    admin = await asyncpg.connect(postgres.url(database="postgres"))
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield name
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest_asyncio.fixture(loop_scope="session")
async def database(postgres: EmbeddedPostgres, database_name: str) -> AsyncIterator[Database]:
    """Connected as the application's role, as the service is."""
    connected = await Database.connect(postgres.url(user=APPLICATION_ROLE, database=database_name), size=6)
    yield connected
    await connected.close()


@pytest_asyncio.fixture(loop_scope="session")
async def owner(postgres: EmbeddedPostgres, database_name: str) -> AsyncIterator[Database]:
    """Connected as the owner of the tables: what a database administrator can do."""
    connected = await Database.connect(postgres.url(database=database_name), size=3)
    yield connected
    await connected.close()
