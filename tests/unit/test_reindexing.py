"""What was indexed by older rules is indexed again; searches then find it, and nothing else about it has changed."""

import asyncio
from typing import Any

from app.db import Database
from app.records import store
from app.reindexing import index_anew
from tests.api.conftest import rx1, world
from tests.servers import Server
from tests.world import World

__all__ = ["rx1", "world"]


async def _rows(owner: Database, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await owner.pool.fetch(statement)]


async def test_records_of_older_rules_are_indexed_anew(
    world: World, rx1: dict[str, str], owner: Database, postgres: Server, database_name: str
) -> None:
    await world.patient(rx1, "p1")
    quantity = {"valueQuantity": {"value": 5, "system": "http://unitsofmeasure.org", "code": "mg"}}
    body = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **quantity}
    made = await world.post("Observation", {**body, "subject": {"reference": "Patient/p1"}}, rx1)
    gone = await world.post("Observation", {**body, "subject": {"reference": "Patient/p1"}}, rx1)
    await world.delete(f"Observation/{gone.json()['id']}", rx1)
    everything = "SELECT * FROM resource ORDER BY resource_type, id"
    values = "SELECT * FROM index_quantity ORDER BY resource_type, id, parameter, canonical_unit, lo"
    texts = "SELECT * FROM index_string ORDER BY resource_type, id, parameter, exact"
    before = [await _rows(owner, one) for one in (everything, values, texts)]
    await owner.pool.execute("DELETE FROM index_quantity; DELETE FROM index_string")
    await owner.pool.execute("UPDATE resource SET indexed = 0, tokens = '{}'")
    assert await store.count_stale(owner) == 3
    url = postgres.url(database=database_name)
    assert await asyncio.to_thread(index_anew, url, world.base) == 3
    assert [await _rows(owner, one) for one in (everything, values, texts)] == before
    assert await asyncio.to_thread(index_anew, url, world.base) == 0
    found = await world.get("Observation?patient=p1&value-quantity=0.005|http://unitsofmeasure.org|g", rx1)
    assert [one["resource"]["id"] for one in found.json()["entry"][:1]] == [made.json()["id"]]


async def test_what_the_first_rules_did_not_write_is_found_afterwards(
    world: World, rx1: dict[str, str], owner: Database, postgres: Server, database_name: str
) -> None:
    await world.patient(rx1, "p1")
    place = {"resourceType": "Location", "id": "l1", "position": {"latitude": 53.8, "longitude": -1.55}}
    assert (await world.put("Location/l1", place, rx1)).status_code == 201
    await owner.pool.execute("DELETE FROM index_position")
    await owner.pool.execute("UPDATE resource SET indexed = 1, tokens = '{}'")
    assert await asyncio.to_thread(index_anew, postgres.url(database=database_name), world.base) == 2
    for question, id in {"Location?near=53.8|-1.55|1|km": "l1", "Patient?phonetic=okaphor": "p1"}.items():
        answer = await world.get(question, rx1)
        assert [one["resource"]["id"] for one in answer.json()["entry"][:1]] == [id], question
