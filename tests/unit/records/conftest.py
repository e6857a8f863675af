"""What every test of the sources needs: one database, emptied for each test."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from app.db import APPLICATION_ROLE, Database
from app.embedded import EmbeddedPostgres


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sources_database(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Database]:
    admin = await asyncpg.connect(postgres.url(database="postgres"))
    await admin.execute(f"CREATE DATABASE sources TEMPLATE {template} STRATEGY file_copy")
    connected = await Database.connect(postgres.url(user=APPLICATION_ROLE, database="sources"), size=4)
    yield connected
    await connected.close()
    await admin.execute("DROP DATABASE sources WITH (FORCE)")
    await admin.close()
