"""Work that waits is done together, and nobody waits for ever."""

import asyncio
from collections.abc import Sequence

import pytest

from app.errors import CandourError, NotFound
from app.together import Together


class Work:
    """Doubles numbers; remembers what came together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.fail: BaseException | None = None

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await asyncio.sleep(0.01)
        if self.fail is not None:
            raise self.fail
        return [2 * item for item in items]


async def test_what_comes_while_work_runs_shares_the_next_piece() -> None:
    work = Work()
    together = Together(work, at_once=1, most=64)
    first = asyncio.create_task(together.ask(1))
    await asyncio.sleep(0.002)
    rest = [asyncio.create_task(together.ask(n)) for n in range(2, 6)]
    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8, 10]
    assert work.batches == [[1], [2, 3, 4, 5]]


async def test_no_piece_is_larger_than_allowed() -> None:
    work = Work()
    together = Together(work, at_once=2, most=3)
    assert await asyncio.gather(*(together.ask(n) for n in range(10))) == [2 * n for n in range(10)]
    assert max(map(len, work.batches)) == 3


async def test_an_error_is_everybodys_and_the_next_piece_is_tried() -> None:
    work = Work()
    together = Together(work, at_once=1, most=64)
    work.fail = NotFound()
    answers = await asyncio.gather(together.ask(1), together.ask(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [NotFound, NotFound]
    work.fail = None
    assert await together.ask(3) == 6


async def test_a_caller_who_went_away_holds_nobody_up() -> None:
    together = Together(Work(), at_once=1, most=64)
    gone, waiting = asyncio.create_task(together.ask(1)), asyncio.create_task(together.ask(2))
    await asyncio.sleep(0.002)
    gone.cancel()
    assert await waiting == 4


async def test_a_failure_nobody_foresaw_is_told_to_those_who_wait() -> None:
    work = Work()
    together = Together(work, at_once=1, most=64)
    work.fail = ValueError("unforeseen")
    with pytest.raises(CandourError) as told:
        await together.ask(1)
    assert isinstance(told.value.__cause__, ValueError)
    work.fail = None
    assert await together.ask(2) == 4


async def test_asking_at_the_moment_the_last_piece_ends_is_not_forgotten() -> None:
    async def at_once(items: Sequence[int]) -> list[int]:
        return [2 * item for item in items]

    together = Together(at_once, at_once=1, most=64)

    async def again_and_again(start: int) -> list[int]:
        return [await together.ask(start + n) for n in range(50)]

    answers = await asyncio.wait_for(asyncio.gather(*(again_and_again(100 * n) for n in range(8))), 10)
    assert answers == [[2 * (100 * n + k) for k in range(50)] for n in range(8)]
