"""What is asked for while a piece of work runs is done together in the next one: no timer, no extra wait.

An idle service does one thing at a time at once; a busy one shares a statement, or a commit, among many.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.errors import CandourError

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
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, item: Item) -> Result:
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._busy < self._at_once:
            self._busy += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self) -> None:
        # ``_busy`` goes down in the same step in which nothing was found waiting: who asks next starts work anew.
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._answer(batch)
        except BaseException:
            _fail(self._waiting, CandourError())
            self._waiting = []
            raise
        finally:
            self._busy -= 1

    async def _answer(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._carry_out([item for item, _ in batch])
        except CandourError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001  # nobody may wait for ever; each caller reports it as its own
            failure = CandourError()
            failure.__cause__ = error
            _fail(batch, failure)
        except BaseException:
            _fail(batch, CandourError())
            raise
        else:
            for (_, answer), result in zip(batch, results, strict=True):
                if not answer.done():
                    answer.set_result(result)


def _fail(batch: Sequence[tuple[Item, asyncio.Future[Result]]], error: CandourError) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
