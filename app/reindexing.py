"""Index values written by older rules, written again by today's: the records' texts and versions stay as they are.

Run with every migration, because a search by values that were never written would find too little and not say so. May
be stopped at any time: what is done is done.
"""

import asyncio

from rich.console import Console
from rich.progress import Progress

from app.db import Database
from app.fhir.indexing import extract
from app.fhir.text import parse
from app.records import store

_BATCH = 250


def index_anew(owner_url: str, base_url: str) -> int:
    """How many records were indexed again. ``base_url`` tells references to our own records from others."""
    return asyncio.run(_index_anew(owner_url, base_url))


async def _index_anew(owner_url: str, base_url: str) -> int:
    database = await Database.connect(owner_url, size=1)
    try:
        return await _in_batches(database, base_url)
    finally:
        await database.close()


async def _in_batches(database: Database, base_url: str) -> int:
    left = await store.count_stale(database)
    if left == 0:
        return 0
    done = 0
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("Indexing records anew", total=left)
        while batch := await _next_batch(database, base_url):
            done += batch
            progress.advance(task, batch)
    return done


async def _next_batch(database: Database, base_url: str) -> int:
    async with database.transaction() as connection:
        batch = await store.stale(connection, _BATCH)
        for one in batch:
            index = extract(parse(one.content).value, base_url) if one.content is not None else None
            await store.index_anew(connection, one, index)
        return len(batch)
