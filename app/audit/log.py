"""The audit log of this process: requests hand in entries and wait; one task commits them in batches.

There is no timer. A batch is whatever came while the one before it was being committed, so an idle log
answers after one commit and a busy one amortises it. Any number of processes may do this on one database:
the head row's lock orders them. When an entry cannot be made durable its caller gets an error and releases
nothing.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import asyncpg
import sqlalchemy as sa

from app.audit import tables
from app.audit.entry import Entry, Receipt
from app.audit.event import NodeNames
from app.audit.packing import unpack
from app.audit.sequence import OVERTAKEN, Head, Prepared, append, append_after, prepare
from app.db import GONE, Database, Statement
from app.db import OVERTAKEN as IN_THE_WAY
from app.errors import AuditUnavailable, NotStarted, Overloaded
from app.vocabulary import PatientKey

BATCH_ENTRIES: Final = 1_000
"""Larger batches are slower: measured."""
_UNDIVIDED: Final = 40
"""So few are committed together, for a commit costs as much as some entries."""
_PREPARED_AT_ONCE: Final = 50
_APPENDED_AT_ONCE: Final = 500
"""Of a transaction's many entries: in between, the event loop is given back."""
DEADLINE_SECONDS: Final = 8.0
"""How long a caller waits at most; then recording has failed for it, though the entry may still be kept."""
_CONNECT_SECONDS: Final = 2.0


Item = TypeVar("Item")


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, aware."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One entry as the log keeps it."""

    index: int
    entry_id: UUID
    recorded: datetime
    patient_key: PatientKey
    body: bytes | None
    """The exact bytes of its AuditEvent; None when they were erased."""


@dataclass(slots=True)
class _Waiting:
    """Entries of one caller, all or none of which will be kept, and where it awaits their receipts."""

    prepared: list[Prepared]
    receipts: asyncio.Future[list[Receipt]]
    since: float


class AuditLog:
    """``start`` before use, ``stop`` at the end. One for each event loop."""

    def __init__(
        self,
        database: Database,
        node: NodeNames,
        *,
        origin: str,
        max_waiting: int,
        clock: Clock,
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self.origin = origin
        self._database = database
        self._node = node
        self._clock = clock
        self._max_waiting = max_waiting
        self._deadline = deadline
        self._queue: deque[_Waiting] = deque()
        self._committing: list[_Waiting] = []
        self._entries = 0
        self._came = asyncio.Event()
        self._idle = asyncio.Event()
        self._connection: Any = None
        self._head: Head | None = None
        """Where this process left the tree, if it seems to be the only one that appends."""
        self._left_at = -1
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False

    async def start(self) -> None:
        """Names the log, if it has none yet, and begins to take entries.

        Raises NotStarted when the database keeps the log of another node, DatabaseUnavailable without a
        database.
        """
        row = await self._database.fetchrow(_BEGIN, origin=self.origin)
        stored = str(row["origin"]) if row is not None else ""
        if stored.partition("/")[0] != self.origin.partition("/")[0]:
            raise NotStarted(
                f"this database keeps the audit log of {stored!r}, not of {self.origin!r}; "
                "a log keeps its node's name for ever. Give this node a database of its own, or its old name."
            )
        self.origin = stored
        self._open = True
        self._tasks = [
            asyncio.create_task(self._commit_for_ever(), name="audit-log"),
            asyncio.create_task(self._expire_for_ever(), name="audit-deadline"),
        ]

    async def stop(self) -> None:
        """Takes no more entries, commits those that wait, and lets the connection go."""
        self._open = False
        while self._entries and self._tasks and not self._tasks[0].done():
            self._idle.clear()
            await self._idle.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._disconnect()

    @property
    def running(self) -> bool:
        """Whether entries are being taken; a service whose log does not run is not ready."""
        return self._open and not any(task.done() for task in self._tasks)

    async def record(self, entries: Sequence[Entry]) -> Sequence[Receipt]:
        """Receipts in the order of ``entries``; every entry is durable when this returns.

        All or none are kept. Raises AuditUnavailable when they could not be, or Overloaded when too many
        wait. A caller that is cancelled while waiting takes nothing back: its entries are kept all the
        same.
        """
        if not entries:
            return ()
        if not self.running:
            raise AuditUnavailable
        if self._entries and self._entries + len(entries) > self._max_waiting:
            raise Overloaded
        loop = asyncio.get_running_loop()
        now = self._clock.now()
        prepared = [prepare(entry, node=self._node, recorded=now) for entry in entries]
        waiting = _Waiting(prepared, loop.create_future(), loop.time())
        self._queue.append(waiting)
        self._entries += len(prepared)
        self._came.set()
        return await waiting.receipts

    async def append(self, connection: asyncpg.Connection, entries: Sequence[Entry]) -> Sequence[Receipt]:
        """Appends inside the caller's open transaction: the record and its entry are kept together or not
        at all.

        The last thing to do before the commit, for it takes the lock that orders the whole log. An entry
        that the log has already gets the receipt it had. Raises AuditUnavailable when the lock cannot be
        had in time.
        """
        if not entries:
            return ()
        now = self._clock.now()
        prepared: list[Prepared] = []
        for some in _slices(entries, _PREPARED_AT_ONCE):
            if prepared:
                await asyncio.sleep(0)
            prepared += [prepare(entry, node=self._node, recorded=now) for entry in some]
        self._head = None  # whether it grows depends on the caller's commit
        receipts: list[Receipt] = []
        try:
            for each in _slices(prepared, _APPENDED_AT_ONCE):
                receipts += (await append(connection, each, now=now, repeat=True))[0]
        except IN_THE_WAY as error:
            raise AuditUnavailable from error
        return receipts

    # Reading.

    async def events(
        self,
        patient: Sequence[PatientKey],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Logged]:
        """AuditEvents about any of ``patient``'s keys, newest first, with ``since <= recorded < until``.

        ``before`` is the index of the last one seen: indices never change, so that pages neither skip nor repeat an
        entry while new ones come. Raises DatabaseUnavailable.
        """
        rows = await self._database.fetch(
            _EVENTS, patients=list(patient), since=since, until=until, before_index=before, limit=limit
        )
        return [_logged(row) for row in rows]

    async def event(self, entry_id: UUID) -> Logged | None:
        """One entry by its id (the AuditEvent's own). Raises DatabaseUnavailable."""
        row = await self._database.fetchrow(_ONE, entry_id=entry_id)
        return None if row is None else _logged(row)

    # Committing.

    async def _commit_for_ever(self) -> None:
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                while self._queue:
                    await self._commit_next()
                self._idle.set()
        finally:
            # Whoever still waits must not wait for ever.
            self._fail([*self._committing, *self._queue], None)
            self._idle.set()

    async def _commit_next(self) -> None:
        self._committing = self._take()
        try:
            receipts = await self._commit(self._committing)
        except Exception as error:  # noqa: BLE001  # the outermost handler of this task: refuse, and go on
            self._fail(self._committing, error)
        else:
            self._answer(self._committing, receipts)
        self._entries -= sum(len(waiting.prepared) for waiting in self._committing)
        self._committing = []

    def _take(self) -> list[_Waiting]:
        """The longest waiting, up to a batch; one caller's entries are never split.

        Of many, half: who is answered prepares the next entries while the database keeps the others.
        """
        most = min(BATCH_ENTRIES, max(_UNDIVIDED, (self._entries + 1) // 2))
        taken = [self._queue.popleft()]
        size = len(taken[0].prepared)
        while self._queue and size + len(self._queue[0].prepared) <= most:
            taken.append(self._queue.popleft())
            size += len(taken[-1].prepared)
        return taken

    async def _commit(self, batch: list[_Waiting]) -> list[Receipt]:
        """Tries a second time when the first may or may not have been kept: then every entry is looked up
        first.

        The second transaction waits for the head's lock, which the first one holds until the server has
        settled it, so what it finds is final.
        """
        prepared = [one for waiting in batch for one in waiting.prepared]
        try:
            return await self._transact(prepared, repeat=False)
        except (asyncpg.UniqueViolationError, *GONE):
            return await self._transact(prepared, repeat=True)

    async def _transact(self, prepared: list[Prepared], *, repeat: bool) -> list[Receipt]:
        try:
            connection = await self._connected()
            if self._head is not None and not repeat:
                with suppress(*OVERTAKEN):
                    return await self._continue(connection, self._head, prepared)
            return await self._lock_and_continue(connection, prepared, repeat=repeat)
        except BaseException:
            # Nothing is known of this connection's state any more; a new one costs a millisecond.
            await self._disconnect()
            raise

    async def _continue(self, connection: Any, head: Head, prepared: list[Prepared]) -> list[Receipt]:
        """In one round trip, from where this process left the tree: nobody else has appended in between."""
        self._head = None
        receipts = await append_after(connection, head, prepared, now=self._clock.now())
        self._head, self._left_at = head, head.size
        return receipts

    async def _lock_and_continue(
        self, connection: Any, prepared: list[Prepared], *, repeat: bool
    ) -> list[Receipt]:
        """In four round trips, from wherever the tree is: the way of processes that append in turns."""
        self._head = None
        async with connection.transaction():
            receipts, head = await append(connection, prepared, now=self._clock.now(), repeat=repeat)
        # While others append too, it will most likely have to be asked for again.
        self._head = head if head.size == self._left_at + len(prepared) else None
        self._left_at = head.size
        return receipts

    async def _connected(self) -> Any:
        """A connection of the log's own: requests that wait for their entries may hold all the others."""
        if self._connection is None:
            self._connection = await self._database.pool.acquire(timeout=_CONNECT_SECONDS)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            with suppress(*GONE):
                await self._database.pool.release(connection)

    # Answering.

    @staticmethod
    def _answer(batch: list[_Waiting], receipts: list[Receipt]) -> None:
        start = 0
        for waiting in batch:
            end = start + len(waiting.prepared)
            # A caller that was cancelled, or told that it took too long, has gone.
            if not waiting.receipts.done():
                waiting.receipts.set_result(receipts[start:end])
            start = end

    @staticmethod
    def _fail(batch: Sequence[_Waiting], error: BaseException | None) -> None:
        for waiting in batch:
            if not waiting.receipts.done():
                unavailable = AuditUnavailable()
                unavailable.__cause__ = error
                waiting.receipts.set_exception(unavailable)

    async def _expire_for_ever(self) -> None:
        """Answers those who have waited too long; who is still in the queue then is not recorded at all."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._deadline / 8)
            oldest = loop.time() - self._deadline
            while self._queue and self._queue[0].since < oldest:
                waiting = self._queue.popleft()
                self._entries -= len(waiting.prepared)
                self._fail([waiting], None)
            self._fail([waiting for waiting in self._committing if waiting.since < oldest], None)


def _slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _logged(row: Any) -> Logged:
    body = None if row["body"] is None else unpack(row["body"])
    return Logged(row["idx"], row["entry_id"], row["recorded"], PatientKey(row["patient_key"]), body)


_BEGIN: Final = Statement(
    sa.select(sa.func.audit_begin(sa.bindparam("origin", type_=sa.Text)).label("origin"))
)

_COLUMNS: Final = (
    tables.bodies.c.idx,
    tables.leaves.c.entry_id,
    tables.bodies.c.recorded,
    tables.bodies.c.patient_key,
    tables.bodies.c.body,
)
_JOINED: Final = tables.bodies.join(tables.leaves, tables.leaves.c.idx == tables.bodies.c.idx)


def _unless_null(
    parameter: sa.BindParameter[Any], condition: sa.ColumnElement[bool]
) -> sa.ColumnElement[bool]:
    return sa.or_(parameter.is_(None), condition)


def _events() -> Statement:
    patients = sa.bindparam("patients", type_=sa.ARRAY(sa.BigInteger))
    since = sa.bindparam("since", type_=sa.DateTime(timezone=True))
    until = sa.bindparam("until", type_=sa.DateTime(timezone=True))
    before = sa.bindparam("before_index", type_=sa.BigInteger)
    bodies = tables.bodies.c
    return Statement(
        sa.select(*_COLUMNS)
        .select_from(_JOINED)
        .where(
            bodies.patient_key == sa.any_(patients),
            _unless_null(since, bodies.recorded >= since),
            _unless_null(until, bodies.recorded < until),
            _unless_null(before, bodies.idx < before),
        )
        .order_by(bodies.idx.desc())
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


_EVENTS: Final = _events()
_ONE: Final = Statement(
    sa.select(*_COLUMNS)
    .select_from(_JOINED)
    .where(tables.leaves.c.entry_id == sa.bindparam("entry_id", type_=sa.Uuid))
)
