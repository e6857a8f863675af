"""A node with two trusts' systems registered: RX1 and RX2."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from app.db import APPLICATION_ROLE, Database
from tests.servers import Server
from tests.world import World, a_world


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    postgres: Server, database_name: str, owner: Database, tmp_path: Path
) -> AsyncIterator[World]:
    url = postgres.url(user=APPLICATION_ROLE, database=database_name)
    async with a_world(url, owner, tmp_path) as made:
        await made.client("rx1", "RX1")
        await made.client("rx2", "RX2")
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def rx1(world: World) -> dict[str, str]:
    return await world.bearer("rx1")


@pytest_asyncio.fixture(loop_scope="session")
async def rx2(world: World) -> dict[str, str]:
    return await world.bearer("rx2")
