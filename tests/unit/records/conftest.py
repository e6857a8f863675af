"""What every test of the sources needs: one database, emptied for each test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from app.db import APPLICATION_ROLE, Database
from tests.servers import Server, a_database


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sources_database(postgres: Server, template: str) -> AsyncIterator[Database]:
    async with a_database(postgres, "sources", template=template) as name:
        connected = await Database.connect(postgres.url(user=APPLICATION_ROLE, database=name), size=4)
        yield connected
        await connected.close()
