"""A PostgreSQL of the operator's own: migrated, served, and its audit log out of the service's reach."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from app.audit.tables import bodies, head, leaves, patient_heads
from app.db import APPLICATION_ROLE, Database
from tests.processes import Home, System, a_home, free_port
from tests.world import a_patient

RX1 = System("rx1", "RX1")
AUDIT_TABLES = [one.name for one in (leaves, bodies, head, patient_heads)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A service whose database is another home's server, empty at first, given by DATABASE_URL alone."""
    other = a_home(tmp_path_factory, "other")
    with other.serving():
        _make_empty_database(other.owner_url())
        url = other.owner_url().replace("/candour?", "/operators?")
        home = Home(
            tmp_path_factory.mktemp("given") / "home",
            free_port(),
            {"DATABASE_URL": url, "CANDOUR_CUSTODIANS": "RX1", "CANDOUR_NODE_NAME": "given.example"},
        )
        with home.serving():
            home.register(RX1.registration())
            yield home


def _make_empty_database(url: str) -> None:
    async def make() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE DATABASE operators TEMPLATE template0")
        await connection.close()

    asyncio.run(make())


def test_it_serves_and_records(node: Home) -> None:
    bearer = RX1.bearer(node)
    made = httpx.put(f"{node.base}/Patient/p1", json=a_patient("p1"), headers=bearer)
    assert made.status_code == 201, made.text
    assert httpx.get(f"{node.base}/Patient/p1", headers=bearer).status_code == 200
    assert not (node.path / "postgres").exists(), "no embedded server beside the one given"
    verified = node.candour("verify")
    assert verified.stdout.startswith("The audit log is whole: 2 entries"), verified.stderr


@pytest.mark.parametrize("table", AUDIT_TABLES)
@pytest.mark.parametrize(
    "verb", ["DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}", "ALTER TABLE {} DISABLE TRIGGER ALL"]
)
def test_the_applications_role_cannot_change_the_past(node: Home, verb: str, table: str) -> None:
    async def attempt(database: Database) -> Any:
        async with database.connection() as connection:
            await connection.execute(f"SET ROLE {APPLICATION_ROLE}")
            await connection.execute(verb.format(table))

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        node.as_owner(attempt)


def test_the_applications_role_cannot_rewrite_an_entry(node: Home) -> None:
    async def attempt(database: Database) -> Any:
        async with database.connection() as connection:
            await connection.execute(f"SET ROLE {APPLICATION_ROLE}")
            await connection.execute("UPDATE audit_body SET body = body")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        node.as_owner(attempt)


def test_the_service_runs_as_the_applications_role(node: Home) -> None:
    """Connected with the owner's URL, each connection of the service has stepped down."""

    async def backends(database: Database) -> set[str]:
        async with database.connection() as connection:
            await connection.execute(f"SET ROLE {APPLICATION_ROLE}")
            rows = await connection.fetch(
                "SELECT has_table_privilege($1, 'audit_leaf', 'UPDATE') AS may, current_user::text AS name",
                APPLICATION_ROLE,
            )
        return {f"{row['name']} {row['may']}" for row in rows}

    assert node.as_owner(backends) == {f"{APPLICATION_ROLE} False"}
