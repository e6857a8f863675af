"""Every source asked at once, under one deadline; silence is an answer and keeps its name (notes 6.5, 6.6, 6.15)."""

import asyncio
import random
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from app.errors import Unavailable
from app.fhir.manifest import SourceLine, SourceState, manifest
from app.records.remote import RemoteQuestion, RemoteRecord, Remotes
from app.records.sources import Source, SourceRegister
from app.records.unanswered import Unanswered, WrongPatient
from app.vocabulary import OdsCode

log = structlog.get_logger("candour.federation")

FAILURES: Final = 5
"""Straight failures after which a source is left alone for a while."""
PAUSE_SECONDS: Final = 15.0
_GRACE_SECONDS: Final = 0.05
"""After the deadline, in which a task says itself that it is late; then it is late without saying so."""
_JITTER: Final = 0.2
_FAILED: Final = frozenset({SourceState.down, SourceState.timed_out})


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source said. ``records`` is empty unless its line says fresh or partial.

    The line has no count: beside what is shown, the number of what came would tell what was withheld.
    """

    line: SourceLine
    records: tuple[RemoteRecord, ...] = ()


class Breaker:
    """Leaves a failing source alone: open after ``FAILURES`` straight failures, then one probe at a time.

    One process's saving of time and of the source's strength, no more; another process learns it for itself.
    """

    __slots__ = ("_failures", "_open_until", "_probing")

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    def admits(self, now: float, *, forced: bool = False) -> bool:
        """Whether the source may be asked at loop time ``now``; what is admitted must be settled or abandoned."""
        if self._failures < FAILURES or forced:
            return True
        if self._probing or now < self._open_until:
            return False
        self._probing = True
        return True

    def settle(self, now: float, *, failed: bool) -> None:
        self._probing = False
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= FAILURES:
            self._open_until = now + PAUSE_SECONDS * random.uniform(1 - _JITTER, 1 + _JITTER)

    def abandon(self) -> None:
        """The caller went away before the source could answer: nothing was learned. Harmless once settled."""
        self._probing = False


class Federation:
    """The sources beside this node's own store."""

    def __init__(self, register: SourceRegister, remotes: Remotes, deadline_seconds: float) -> None:
        self._register = register
        self._remotes = remotes
        self._deadline = deadline_seconds
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._running: set[asyncio.Task[Answer]] = set()

    async def sources(self) -> tuple[Source, ...]:
        """Every source that is expected to answer."""
        return await self._register.active()

    @property
    def deadline_seconds(self) -> float:
        return self._deadline

    async def ask(self, question: RemoteQuestion, *, only: Set[OdsCode] | None = None) -> tuple[Answer, ...]:
        """One Answer for every source, in the order of their ODS codes, at the latest after the deadline.

        ``only``: of these sources alone. A question that has a deadline of its own keeps it. Raises
        ValueError for a question that another node passed on, and DatabaseUnavailable.
        """
        if question.caller.via is not None:
            raise ValueError("a question that another node passed on is never passed on again")
        deadline = question.deadline or asyncio.get_running_loop().time() + self._deadline
        sources = [one for one in await self._register.active() if only is None or one.ods_code in only]
        known = await self._register.patient_ids(question.identity.person)
        tasks = self._start(sources, replace(question, deadline=deadline, known=known))
        try:
            if tasks:
                left = deadline - asyncio.get_running_loop().time()
                await asyncio.wait(tasks, timeout=max(left, 0) + _GRACE_SECONDS)
            answers = [self._answer_of(task, source) for task, source in tasks.items()]
        finally:
            for task in tasks:
                task.cancel()
        return _closed(sources, answers)

    async def close(self) -> None:
        """Stops what is still running and closes every connection."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        await self._remotes.close()

    def _start(
        self, sources: Iterable[Source], question: RemoteQuestion
    ) -> dict[asyncio.Task[Answer], Source]:
        """One independent task a source: what fails or is late stops nobody else."""
        tasks = {}
        for source in sources:
            task = asyncio.create_task(self._ask(source, question))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            tasks[task] = source
        return tasks

    async def _ask(self, source: Source, question: RemoteQuestion) -> Answer:
        """The source's Answer, and what is to be learned from it about the source."""
        if source.quarantined:
            return Answer(_line(source, SourceState.identity_uncertain))
        breaker = self._breakers.setdefault((source.ods_code, source.base_url), Breaker())
        time = asyncio.get_running_loop().time
        if not breaker.admits(time(), forced=question.caller.purpose.is_emergency):
            return Answer(_line(source, SourceState.down))
        try:
            answer = await self._asked(source, question)
            breaker.settle(time(), failed=answer.line.state in _FAILED)
        finally:
            breaker.abandon()
        return answer

    async def _asked(self, source: Source, question: RemoteQuestion) -> Answer:
        try:
            answer = await self._remotes.to(source).ask(question)
        except WrongPatient as error:
            await self._register.quarantine(source.ods_code)
            log.warning("source quarantined", source=source.ods_code, trace=question.trace_id, why=str(error))
            return Answer(_line(source, error.state))
        except Unanswered as error:
            log.info(
                "source gave nothing",
                source=source.ods_code,
                trace=question.trace_id,
                state=error.state,
                why=str(error),
            )
            return Answer(_line(source, error.state))
        state = SourceState.partial if answer.gap else SourceState.fresh
        return Answer(_line(source, state), answer.records)

    def _answer_of(self, task: asyncio.Task[Answer], source: Source) -> Answer:
        """What a task came to. One that is still running is late; one that broke is our fault, and one line."""
        if not task.done() or task.cancelled():
            return Answer(_line(source, SourceState.timed_out))
        error = task.exception()
        if isinstance(error, Unavailable):
            raise error
        if error is not None:
            log.error("a source's answer could not be read", source=source.ods_code, why=type(error).__name__)
            return Answer(_line(source, SourceState.down))
        return task.result()


class NotAsked(Federation):
    """The sources as they stand in a transaction: named, and not asked.

    To wait for others would hold its locks for as long, and it can wait for no second connection.
    """

    def __init__(self, register: SourceRegister) -> None:
        self._register = register
        self._deadline = 0.0

    async def ask(self, question: RemoteQuestion, *, only: Set[OdsCode] | None = None) -> tuple[Answer, ...]:
        return tuple(
            Answer(_line(one, SourceState.not_asked))
            for one in await self.sources()
            if only is None or one.ods_code in only
        )

    async def close(self) -> None:
        """There is nothing to close."""


def _line(source: Source, state: SourceState) -> SourceLine:
    return SourceLine(source.ods_code, source.name, state, datetime.now(UTC))


def _closed(sources: Iterable[Source], answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """The answers, when there is exactly one for every source. Raises BrokenManifest."""
    ordered = tuple(sorted(answers, key=lambda answer: answer.line.custodian))
    manifest((source.ods_code for source in sources), (answer.line for answer in ordered))
    return ordered
