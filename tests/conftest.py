"""One PostgreSQL for the whole run, migrated once; each database a test gets is a copy of it."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.db import APPLICATION_ROLE, Database
from app.embedded import EmbeddedPostgres
from app.migrate import migrate
from tests.servers import VARIABLE, Server, a_database, a_server, drop_kept

SHARED_DATA = Path(
    os.environ.get("CANDOUR_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
_copies = itertools.count()


def pytest_report_header() -> str:
    return f"PostgreSQL: {os.environ.get(VARIABLE, '').rpartition('@')[2] or 'embedded'}"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """What gzip makes is called by its place: it holds the time, and every process must name a test the same."""
    return argname if isinstance(val, bytes) and val.startswith(b"\x1f\x8b\x08") else None


def pytest_sessionfinish() -> None:
    drop_kept()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data that nobody here wrote; beside the checkout in CI, absent from a plain clone."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data set is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with a_server() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(postgres: Server) -> AsyncIterator[str]:
    """The name of a migrated, empty database."""
    if isinstance(postgres, EmbeddedPostgres):
        await migrate(postgres.url())
        yield "candour"
        return
    async with a_database(postgres, "template") as name:
        await migrate(postgres.url(database=name))
        yield name


@pytest_asyncio.fixture(loop_scope="session")
async def database_name(postgres: Server, template: str) -> AsyncIterator[str]:
    """A database of this test's own."""
    async with a_database(postgres, f"test_{next(_copies)}", template=template) as name:
        yield name


@pytest_asyncio.fixture(loop_scope="session")
async def database(postgres: Server, database_name: str) -> AsyncIterator[Database]:
    """Connected as the application's role, as the service is."""
    connected = await Database.connect(postgres.url(user=APPLICATION_ROLE, database=database_name), size=6)
    yield connected
    await connected.close()


@pytest_asyncio.fixture(loop_scope="session")
async def owner(postgres: Server, database_name: str) -> AsyncIterator[Database]:
    """Connected as the owner of the tables: what a database administrator can do."""
    connected = await Database.connect(postgres.url(database=database_name), size=3)
    yield connected
    await connected.close()
