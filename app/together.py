"""What is asked for while a piece of work runs is done together in the next one: no timer, no extra wait.

An idle service does one thing at a time at once; a busy one shares a statement, or a commit, among many.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.errors import CandourError, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class Together(Generic[Item, Result]):
    """``carry_out`` gets the items that waited and gives a result for each, in order; what it raises all get.

    At most ``at_once`` run side by side, each with at most ``most`` items.
    """

    def __init__(
        self, carry_out: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, at_once: int, most: int
    ) -> None:
        self._carry_out = carry_out
        self._at_once = at_once
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def ask(self, item: Item) -> Result:
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if len(self._running) < self._at_once:
            task = asyncio.create_task(self._work())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                results = await self._carry_out([item for item, _ in batch])
            except CandourError as error:
                _fail(batch, error)
            except BaseException:
                # Nobody may wait for ever; the cause goes on to whoever watches the task.
                _fail(batch, Unavailable())
                raise
            else:
                for (_, answer), result in zip(batch, results, strict=True):
                    if not answer.done():
                        answer.set_result(result)


def _fail(batch: Sequence[tuple[Item, asyncio.Future[Result]]], error: CandourError) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
