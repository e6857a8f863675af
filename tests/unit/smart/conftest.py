"""What is slow to make is made once here: one database, emptied of callers for each test, and one key store."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.db import APPLICATION_ROLE, Database
from app.smart.keys import KeyStore
from tests.servers import Server, a_database


@pytest.fixture(scope="session")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("keys"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def callers(postgres: Server, template: str) -> AsyncIterator[tuple[Database, Database]]:
    """The database of all tests of clients: as the application's role, and as its owner."""
    async with a_database(postgres, "callers", template=template) as name:
        application = await Database.connect(postgres.url(user=APPLICATION_ROLE, database=name), size=6)
        owner = await Database.connect(postgres.url(database=name), size=2)
        yield application, owner
        await application.close()
        await owner.close()


@pytest_asyncio.fixture(loop_scope="session")
async def owner(callers: tuple[Database, Database]) -> Database:
    return callers[1]


@pytest_asyncio.fixture(loop_scope="session")
async def database(callers: tuple[Database, Database], owner: Database) -> Database:
    await owner.pool.execute("TRUNCATE client, assertion_jti")
    return callers[0]
