"""Processes that load side by side: reading, checking and indexing a record costs more than keeping it.

They share nothing but the database, where any number of processes may write.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import uvloop

from app.errors import DatabaseUnavailable
from app.loading.keeping import Document, Done, Keeper
from app.main import collect_seldom, services
from app.settings import Settings
from app.vocabulary import OdsCode

Keep = Callable[[Sequence[Document]], Awaitable[Done]]


@asynccontextmanager
async def here(settings: Settings, database_url: str, custodian: OdsCode) -> AsyncIterator[Keep]:
    """Keeps batches in this process."""
    async with services(settings, database_url, makes_exports=False) as node:
        collect_seldom()
        yield Keeper(node, custodian).keep


@asynccontextmanager
async def beside(
    settings: Settings, database_url: str, custodian: OdsCode, processes: int
) -> AsyncIterator[Keep]:
    """Keeps batches in so many processes, which end with this one however it ends."""
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(settings, database_url, custodian, os.getpid()),
    )

    async def keep(batch: Sequence[Document]) -> Done:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, _keep, batch)
        except BrokenProcessPool as error:
            raise DatabaseUnavailable(
                "A process that loads ended before its time. What was loaded is kept; run the same command again."
            ) from error

    try:
        yield keep
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class _Worker:
    loop: asyncio.AbstractEventLoop
    keeper: Keeper
    services: AsyncExitStack
    """Held, because services that nobody holds are closed."""


_worker: list[_Worker] = []
"""This process's, once it has started."""


def _start(settings: Settings, database_url: str, custodian: OdsCode, parent: int) -> None:
    # Ctrl-C reaches the whole group: the parent lets each finish the batch it has.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    stack = AsyncExitStack()
    node = loop.run_until_complete(
        stack.enter_async_context(services(settings, database_url, makes_exports=False))
    )
    collect_seldom()
    _worker.append(_Worker(loop, Keeper(node, custodian), stack))


def _keep(batch: Sequence[Document]) -> Done:
    [worker] = _worker
    return worker.loop.run_until_complete(worker.keeper.keep(batch))


def _end_with(parent: int) -> None:
    """A parent that was killed cannot say so."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
