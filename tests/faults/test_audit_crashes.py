"""Killed at any instant: what was acknowledged is in the log, and the log is whole."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sized
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
import pytest

from app.audit.log import AuditLog
from app.audit.verify import verify
from app.db import APPLICATION_ROLE, Database
from app.embedded import EmbeddedPostgres
from app.errors import AuditUnavailable, Unavailable
from app.migrate import migrate
from tests.fakes_audit import NODE, FixedClock, an_entry
from tests.servers import Server

ROOT = Path(__file__).resolve().parents[2]


class Recorder:
    """A process of ``recorder.py`` and what it has told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.acknowledged: set[UUID] = set()

    async def listen_until(self, count: int) -> None:
        assert self.process.stdout is not None
        while len(self.acknowledged) < count:
            line = await asyncio.wait_for(self.process.stdout.readline(), 30)
            assert line, "the recorder ended by itself"
            self.acknowledged.add(UUID(line.decode().strip()))

    async def kill(self) -> None:
        """SIGKILL, then whatever it had told before."""
        self.process.kill()
        assert self.process.stdout is not None
        rest = await self.process.stdout.read()
        # The last line may be cut off in the middle.
        self.acknowledged.update(UUID(line) for line in rest.decode().split("\n") if len(line) == 36)
        await self.process.wait()


@asynccontextmanager
async def recorder(url: str, callers: int) -> AsyncIterator[Recorder]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.recorder",
        url,
        str(callers),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    running = Recorder(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            await running.kill()


async def assert_kept(owner: Database, acknowledged: set[UUID]) -> int:
    """Every acknowledged entry is in the log, and the log is whole; gives its size."""
    async with owner.connection() as connection:
        verdict = await verify(connection)
        rows = await connection.fetch("SELECT entry_id FROM audit_leaf")
    assert verdict.reason is None, verdict
    assert acknowledged <= {row["entry_id"] for row in rows}
    assert len(acknowledged) > 0
    return verdict.size


@pytest.fixture
def application_url(postgres: Server, database_name: str) -> str:
    return postgres.url(user=APPLICATION_ROLE, database=database_name)


async def test_no_acknowledged_entry_is_lost_when_a_process_is_killed(
    application_url: str, owner: Database
) -> None:
    acknowledged: set[UUID] = set()
    dice = random.Random(5)
    for _ in range(4):
        async with recorder(application_url, 32) as running:
            await running.listen_until(dice.randrange(50, 400))
            await running.kill()
        acknowledged |= running.acknowledged
        await assert_kept(owner, acknowledged)


async def test_processes_in_parallel_share_one_tree_though_one_is_killed(
    application_url: str, owner: Database
) -> None:
    async with recorder(application_url, 32) as first, recorder(application_url, 32) as second:
        await asyncio.gather(first.listen_until(200), second.listen_until(200))
        await first.kill()
        await second.listen_until(len(second.acknowledged) + 200)
        await second.kill()
    size = await assert_kept(owner, first.acknowledged | second.acknowledged)
    assert size >= 600


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that only this test stops."""
    server = EmbeddedPostgres(tmp_path)
    server.start()
    yield server
    server.stop()


async def test_no_acknowledged_entry_is_lost_when_postgres_stops_at_once(
    own_postgres: EmbeddedPostgres,
) -> None:
    await migrate(own_postgres.url())
    own_postgres.watch()
    database = await Database.connect(own_postgres.url(user=APPLICATION_ROLE), size=4)
    log = AuditLog(database, NODE, origin="rx1.example/audit", max_waiting=999, clock=FixedClock())
    await log.start()
    acknowledged: set[UUID] = set()
    refused: list[Unavailable] = []
    stop = asyncio.Event()

    async def record_until_stopped() -> None:
        while not stop.is_set():
            entry = an_entry()
            try:
                await log.record([entry])
                acknowledged.add(entry.id)
            except Unavailable as error:
                refused.append(error)
                await asyncio.sleep(0.02)

    callers = [asyncio.create_task(record_until_stopped()) for _ in range(16)]
    for _ in range(2):
        await _more(acknowledged, 300)
        refused.clear()
        _stop_at_once(own_postgres)
        await _more(refused, 16)
    await _more(acknowledged, 100)
    stop.set()
    await asyncio.gather(*callers)
    await log.stop()
    await database.close()
    owner = await Database.connect(own_postgres.url(), size=1)
    await assert_kept(owner, acknowledged)
    await owner.close()


def _stop_at_once(server: EmbeddedPostgres) -> None:
    """SIGQUIT to the postmaster is its immediate shutdown: as if the machine had lost its power."""
    postmaster = (server.home / "postgres" / "postmaster.pid").read_text().split("\n")[0]
    os.kill(int(postmaster), signal.SIGQUIT)


async def _more(growing: Sized, count: int) -> None:
    enough = len(growing) + count
    async with asyncio.timeout(60):
        while len(growing) < enough:  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.01)


class LossyWire:
    """Between the log and PostgreSQL: cuts one connection at the next message with ``at`` in it, before or after
    passing it on.
    """

    def __init__(self, server: str, listening: Path, at: bytes) -> None:
        self._server, self._listening, self._at = urlsplit(server), listening, at
        self.cut: str | None = None
        self.cuts = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with await asyncio.start_unix_server(self._connected, self._listening):
            yield

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await self._connect()
        back = asyncio.create_task(self._pass_on(up_reader, writer))
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                if self.cut is not None and self._at in chunk:
                    await self._cut(chunk, up_reader, up_writer, back)
                    break
                up_writer.write(chunk)
                await up_writer.drain()
        up_writer.close()
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        folders = parse_qs(self._server.query).get("host")
        if folders:
            return await asyncio.open_unix_connection(f"{folders[0]}/{self._listening.name}")
        return await asyncio.open_connection(self._server.hostname, self._server.port or 5432)

    async def _cut(
        self,
        chunk: bytes,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        back: asyncio.Task[None],
    ) -> None:
        """``after``: PostgreSQL commits and its answer is lost. ``before``: it never hears of the commit."""
        back.cancel()
        with suppress(asyncio.CancelledError):
            await back
        if self.cut == "after":
            up_writer.write(chunk)
            await up_writer.drain()
            await up_reader.read(1)
        self.cut = None
        self.cuts += 1

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
            writer.close()


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("already", [1, 3], ids=["under the lock", "in one statement"])
async def test_a_commit_whose_answer_is_lost_is_settled_by_looking(
    cut: str, already: int, postgres: Server, database_name: str, owner: Database, tmp_path: Path
) -> None:
    server = urlsplit(postgres.url(user=APPLICATION_ROLE, database=database_name))
    entries = [an_entry() for _ in range(20)]
    at = b"COMMIT;\x00" if already == 1 else entries[-1].id.bytes
    wire = LossyWire(server.geturl(), tmp_path / ".s.PGSQL.5432", at)
    login = server.netloc.rpartition("@")[0]
    url = server._replace(netloc=f"{login}@", query=f"host={tmp_path}").geturl()
    async with wire.open():
        database = await Database.connect(url, size=2)
        log = AuditLog(database, NODE, origin="rx1.example/audit", max_waiting=99, clock=FixedClock())
        await log.start()
        first = [(await log.record([entry]))[0] for entry in entries[:already]]
        wire.cut = cut
        receipts = await asyncio.gather(*(log.record([entry]) for entry in entries[already:]))
        assert wire.cuts == 1
        await log.stop()
        await database.close()
    indices = [receipt.index for receipt in [*first, *(receipt for [receipt] in receipts)]]
    assert indices == list(range(20)), "one leaf for each"
    assert await assert_kept(owner, {entry.id for entry in entries}) == 20


async def test_without_a_database_nothing_is_acknowledged(
    postgres: Server, database_name: str, owner: Database
) -> None:
    database = await Database.connect(postgres.url(user=APPLICATION_ROLE, database=database_name), size=2)
    log = AuditLog(database, NODE, origin="rx1.example/audit", max_waiting=99, clock=FixedClock())
    await log.start()
    admin = await asyncpg.connect(postgres.url(database="postgres"))
    await admin.execute(f"ALTER DATABASE {database_name} ALLOW_CONNECTIONS false")
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = $2",
        database_name,
        APPLICATION_ROLE,
    )
    with pytest.raises(AuditUnavailable):
        await log.record([an_entry()])
    await admin.execute(f"ALTER DATABASE {database_name} ALLOW_CONNECTIONS true")
    [receipt] = await log.record([an_entry()])
    assert receipt.index == 0
    await log.stop()
    await database.close()
    await admin.close()
