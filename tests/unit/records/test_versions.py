"""The walk over versions: every one once, in one order, by index alone."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from app.db import Database
from app.fhir.dates import BEGINNING, END
from app.records.versions import Made, Walk, _walk, restored, saved, walk

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TYPES = ("Condition", "Encounter", "Observation")


async def kept(owner: Database, seed: int = 0) -> None:
    """Many versions of many resources of three types, a lot of them of the same instants."""
    chance = random.Random(seed)
    rows = []
    for number in range(120):
        resource_type, id = chance.choice(_TYPES), f"{chance.choice('aBz-.')}{number}"
        instants = sorted(chance.sample(range(12), chance.randint(1, 4)))
        rows += [
            (resource_type, id, version, _START + timedelta(seconds=second), version == len(instants))
            for version, second in enumerate(instants, start=1)
        ]
    async with owner.connection() as connection:
        for resource_type, id, version, made, current in rows:
            await connection.execute(
                f"""INSERT INTO {"resource" if current else "resource_history"}
                (patient_key, resource_type, id, custodian, version, last_updated, deleted, content)
                VALUES (7, $1, $2, 'RX1', $3, $4, $5, '')""",
                resource_type,
                id,
                version,
                made,
                current and version % 3 == 0,
            )


async def walked(database: Database, asked: Walk, limit: int) -> list[Made]:
    found: list[Made] = []
    while True:
        batch = await walk(database, asked, limit)
        found += batch
        if len(batch) < limit:
            return found
        after = restored(saved(batch[-1].place))
        asked = Walk(asked.types, asked.since, asked.before, after)


@pytest.mark.parametrize("types", [_TYPES, ("Observation",), ("Condition", "Observation")])
async def test_a_walk_in_pieces_is_the_walk_in_one(
    types: tuple[str, ...], owner: Database, database: Database
) -> None:
    await kept(owner)
    whole = await walk(database, Walk(types), 10_000)
    async with owner.connection() as connection:
        count = await connection.fetchval(
            """SELECT count(*) FROM (SELECT resource_type FROM resource
            UNION ALL SELECT resource_type FROM resource_history) every WHERE resource_type = ANY ($1)""",
            list(types),
        )
    assert len(whole) == len({one.pointer for one in whole}) == count
    assert [one.made for one in whole] == sorted((one.made for one in whole), reverse=True)
    for limit in (1, 2, 7, 50):
        assert await walked(database, Walk(types), limit) == whole


async def test_a_walk_has_a_beginning_and_an_end(owner: Database, database: Database) -> None:
    await kept(owner)
    since, before = _START + timedelta(seconds=3), _START + timedelta(seconds=8)
    whole = await walk(database, Walk(_TYPES), 10_000)
    found = await walked(database, Walk(_TYPES, since, before), 5)
    assert [one.pointer for one in found] == [one.pointer for one in whole if since <= one.made < before]


async def test_a_version_was_current_until_the_next_was_made(owner: Database, database: Database) -> None:
    await kept(owner)
    made = {one.pointer: one for one in await walk(database, Walk(_TYPES, before=END), 10_000)}
    for pointer, one in made.items():
        following = made.get(pointer._replace(version=pointer.version + 1))
        assert one.until == (following.made if following else None)


async def test_a_walk_reads_nothing_but_its_page(owner: Database) -> None:
    values = {"types": ["Observation"], "instants": [END], "ids": [""]}
    args = _walk().args({**values, "since": BEGINNING, "ends": False, "limit": 10})
    async with owner.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        await connection.execute("SET enable_sort = on; SET enable_bitmapscan = off")
        plan = await connection.fetch(f"EXPLAIN {_walk().sql}", *args)
    text = "\n".join(row[0] for row in plan)
    for index in ("resource_updated", "resource_deleted", "resource_history_updated"):
        assert f"Index Scan Backward using {index}" in text
    assert "Seq Scan" not in text
