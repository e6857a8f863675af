"""The log on PostgreSQL: batches, what the application's role may do, and what it answers when it cannot record."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio

from app.audit.entry import Interaction
from app.audit.event import audit_event
from app.audit.log import BATCH_ENTRIES, AuditLog
from app.audit.verify import verify
from app.db import Database
from app.errors import AuditUnavailable, NotStarted, Overloaded
from app.vocabulary import PatientKey
from tests.fakes_audit import CALLER, NODE, NOON, REQUEST, FixedClock, an_entry

ORIGIN = "candour.rx1.example/audit"

CHANGES = (
    "UPDATE audit_leaf SET leaf = leaf",
    "DELETE FROM audit_leaf",
    "TRUNCATE audit_leaf",
    "UPDATE audit_body SET body = body",
    "DELETE FROM audit_body",
    "TRUNCATE audit_body",
    "UPDATE audit_head SET size = 0",
    "UPDATE audit_head SET root = ''",
    "UPDATE audit_head SET origin = 'another'",
    "UPDATE audit_head SET last_time = 0",
    "INSERT INTO audit_head (single) VALUES (true)",
    "DELETE FROM audit_head",
    "TRUNCATE audit_head",
)
"""What would change the past."""


def a_log(database: Database, *, max_waiting: int = 4096, deadline: float = 8.0) -> AuditLog:
    clock = FixedClock()
    return AuditLog(database, NODE, origin=ORIGIN, max_waiting=max_waiting, clock=clock, deadline=deadline)


@pytest_asyncio.fixture(loop_scope="session")
async def log(database: Database) -> AsyncIterator[AuditLog]:
    log = a_log(database)
    await log.start()
    yield log
    await log.stop()


async def size(database: Database) -> int:
    return int(await database.pool.fetchval("SELECT size FROM audit_head"))


async def append_and_roll_back(log: AuditLog, database: Database) -> None:
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await log.append(connection, [an_entry()])
        await transaction.rollback()


async def assert_whole(database: Database, entries: int) -> None:
    async with database.connection() as connection:
        verdict = await verify(connection)
    assert (verdict.size, verdict.first_bad, verdict.reason) == (entries, None, None)


async def test_entries_that_come_together_are_committed_together(log: AuditLog, database: Database) -> None:
    receipts = await asyncio.gather(*(log.record([an_entry()]) for _ in range(200)))
    assert sorted(receipt.index for [receipt] in receipts) == list(range(200))
    times = {receipt.recorded for [receipt] in receipts}
    assert len(times) < 10, "each batch has one time"
    await assert_whole(database, 200)


async def test_a_thousand_patients_of_one_request_are_kept_together(
    log: AuditLog, database: Database
) -> None:
    entries = [an_entry(patient_key=PatientKey(key)) for key in range(1, BATCH_ENTRIES + 501)]
    receipts = await log.record(entries)
    assert [receipt.index for receipt in receipts] == list(range(len(entries)))
    assert len({receipt.recorded for receipt in receipts}) == 1
    await assert_whole(database, len(entries))


async def test_the_stored_body_is_the_event_byte_for_byte(log: AuditLog) -> None:
    entry = an_entry()
    await log.record([entry])
    found = await log.event(entry.id)
    assert found is not None
    assert found.body == audit_event(entry, node=NODE, recorded=NOON)


async def test_durability_does_not_depend_on_a_default_of_the_role(
    log: AuditLog, owner: Database, database: Database
) -> None:
    async with database.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = off")
        await log.append(connection, [an_entry()])
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_a_batch_of_the_log_is_durable_whatever_the_default(log: AuditLog, database: Database) -> None:
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.fetch("SELECT audit_grow(0, 1, '', '', 1, '{}', '{}', '{}')")
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
            assert await connection.fetchval("SHOW lock_timeout") == "5s"
        assert await connection.fetchval("SHOW lock_timeout") == "0", "for that transaction only"


async def test_one_process_alone_appends_in_one_round_trip(log: AuditLog, owner: Database) -> None:
    """The first batches look where the tree is; from then on the log goes on from where it left it."""
    for _ in range(3):
        await log.record([an_entry()])
    async with owner.connection() as connection:
        await connection.execute("ALTER FUNCTION audit_lock RENAME TO audit_lock_elsewhere")
        receipts = [
            (await log.record([an_entry(patient_key=PatientKey(key))]))[0].index for key in (1, 2, 1, 3)
        ]
        await connection.execute("ALTER FUNCTION audit_lock_elsewhere RENAME TO audit_lock")
    assert receipts == [3, 4, 5, 6]
    await assert_whole(owner, 7)


async def test_many_entries_of_one_transaction_are_appended_in_their_order(
    log: AuditLog, database: Database
) -> None:
    entries = [an_entry(patient_key=PatientKey(n % 3 + 1)) for n in range(1_101)]
    async with database.transaction() as connection:
        receipts = await log.append(connection, entries)
    assert [one.index for one in receipts] == list(range(1_101))
    assert [one.entry_id for one in receipts] == [one.id for one in entries]
    await assert_whole(database, 1_101)


async def test_a_process_that_was_alone_notices_another(log: AuditLog, database: Database) -> None:
    for _ in range(3):
        await log.record([an_entry(patient_key=PatientKey(7))])
    other = a_log(database)
    await other.start()
    await other.record([an_entry(patient_key=PatientKey(7))])
    async with database.transaction() as connection:
        await log.append(connection, [an_entry(patient_key=PatientKey(7))])
    for one in (other, log, log, other, log):
        await one.record([an_entry(patient_key=PatientKey(key)) for key in (7, 8)])
    await other.stop()
    await assert_whole(database, 15)


async def test_a_record_and_its_entry_are_kept_together_or_not_at_all(
    log: AuditLog, database: Database
) -> None:
    await append_and_roll_back(log, database)
    assert await size(database) == 0
    async with database.transaction() as connection:
        [kept] = await log.append(connection, [an_entry()])
    [next_one] = await log.record([an_entry()])
    assert (kept.index, next_one.index) == (0, 1)
    await assert_whole(database, 2)


async def test_two_appends_in_one_transaction_continue_each_other(log: AuditLog, database: Database) -> None:
    async with database.transaction() as connection:
        [first] = await log.append(connection, [an_entry()])
        [second] = await log.append(connection, [an_entry()])
    assert (first.index, second.index) == (0, 1)
    await assert_whole(database, 2)


async def test_rollbacks_leave_no_gap(log: AuditLog, database: Database) -> None:
    async def one(number: int) -> None:
        if number % 3:
            await log.record([an_entry(patient_key=PatientKey(number % 5 + 1))])
            return
        await append_and_roll_back(log, database)

    await asyncio.gather(*(one(number) for number in range(90)))
    await assert_whole(database, 60)
    sequences = await database.pool.fetchval(
        "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relname LIKE 'audit%'"
    )
    assert sequences == 0, "a sequence would leave gaps"


async def test_two_logs_on_one_database_share_one_tree(log: AuditLog, database: Database) -> None:
    other = a_log(database)
    await other.start()
    keys = [PatientKey(key) for key in (1, 2, 3)]
    calls = [
        one.record([an_entry(patient_key=key)]) for _ in range(40) for key in keys for one in (log, other)
    ]
    receipts = await asyncio.gather(*calls)
    await other.stop()
    assert sorted(receipt.index for [receipt] in receipts) == list(range(240))
    await assert_whole(database, 240)


async def test_cancelled_callers_do_not_stop_the_log_and_their_entries_are_kept(
    log: AuditLog, database: Database
) -> None:
    calls = [asyncio.create_task(log.record([an_entry()])) for _ in range(50)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 25
    receipts = await asyncio.gather(*(log.record([an_entry()]) for _ in range(50)))
    assert max(receipt.index for [receipt] in receipts) == 99
    await assert_whole(database, 100)


async def test_stopping_commits_what_waits(database: Database) -> None:
    log = a_log(database)
    await log.start()
    calls = [asyncio.create_task(log.record([an_entry()])) for _ in range(30)]
    await asyncio.sleep(0)
    await log.stop()
    assert len(await asyncio.gather(*calls)) == 30
    await assert_whole(database, 30)


async def test_a_log_that_is_not_running_records_nothing_and_says_so(database: Database) -> None:
    log = a_log(database)
    with pytest.raises(AuditUnavailable):
        await log.record([an_entry()])
    await log.start()
    assert log.running
    await log.stop()
    assert not log.running
    with pytest.raises(AuditUnavailable):
        await log.record([an_entry()])
    assert await size(database) == 0


async def test_a_log_keeps_its_name_and_refuses_another_nodes(database: Database) -> None:
    first = a_log(database)
    await first.start()
    await first.stop()
    stranger = AuditLog(database, NODE, origin="other.example/audit", max_waiting=1, clock=FixedClock())
    with pytest.raises(NotStarted, match="not of 'other"):
        await stranger.start()
    later = AuditLog(
        database, NODE, origin="candour.rx1.example/audit/2027h1", max_waiting=1, clock=FixedClock()
    )
    await later.start()
    await later.stop()
    assert later.origin == ORIGIN


async def test_more_than_may_wait_is_refused_at_once(database: Database, owner: Database) -> None:
    log = a_log(database, max_waiting=10, deadline=0.4)
    await log.start()
    async with owner.transaction() as blocking:
        await blocking.execute("SELECT 1 FROM audit_head FOR UPDATE")
        waiting = [asyncio.create_task(log.record([an_entry()])) for _ in range(10)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        with pytest.raises(Overloaded):
            await log.record([an_entry()])
        assert time.monotonic() - began < 0.1
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, AuditUnavailable) for outcome in outcomes)
    await log.stop()


async def test_a_locked_head_is_a_503_in_time_and_recovery_needs_no_restart(
    database: Database, owner: Database
) -> None:
    log = a_log(database, deadline=0.4)
    await log.start()
    async with owner.transaction() as blocking:
        await blocking.execute("SELECT 1 FROM audit_head FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(AuditUnavailable):
            await log.record([an_entry()])
        assert time.monotonic() - began < 1
    [receipt] = await log.record([an_entry()])
    assert receipt.index in (0, 1), "the entry that was told to have failed may have been kept"
    await log.stop()
    await assert_whole(database, receipt.index + 1)


async def test_the_applications_role_cannot_change_the_past(log: AuditLog, database: Database) -> None:
    await log.record([an_entry()])
    for statement in (
        *CHANGES,
        "UPDATE audit_patient_head SET psn = 1",
        "DELETE FROM audit_patient_head",
        "ALTER TABLE audit_leaf DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "DROP TABLE audit_leaf",
        "CREATE TABLE mine (a int)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.pool.execute(statement)
    await assert_whole(database, 1)


@pytest.mark.parametrize("role", ["origin", "replica"])
async def test_the_triggers_bind_the_owner_too(role: str, log: AuditLog, owner: Database) -> None:
    await log.record([an_entry()])
    async with owner.connection() as connection:
        await connection.execute(f"SET session_replication_role = {role}")
        for statement in CHANGES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.execute("RESET session_replication_role")
    await assert_whole(owner, 1)


async def test_the_applications_role_cannot_shrink_or_fork_the_tree(
    log: AuditLog, database: Database
) -> None:
    await log.record([an_entry(), an_entry()])
    grow = "SELECT audit_grow($1, $2, '', '', $3, '{}', '{}', '{}')"
    for before, after, new_time in [(2, 2, 10**15), (2, 1, 10**15), (1, 3, 10**15), (2, 3, 1)]:
        with pytest.raises((asyncpg.SerializationError, asyncpg.InsufficientPrivilegeError)):
            await database.pool.execute(grow, before, after, new_time)
    await assert_whole(database, 2)


async def test_a_patients_chain_counts_every_entry_once(log: AuditLog, owner: Database) -> None:
    for key in (1, 2, 1, 1, 2):
        await log.record([an_entry(patient_key=PatientKey(key))])
    await log.record([an_entry(patient_key=None)])
    rows = await owner.pool.fetch("SELECT patient_key, psn FROM audit_body ORDER BY idx")
    assert [tuple(row) for row in rows] == [(1, 1), (2, 1), (1, 2), (1, 3), (2, 2), (0, 0)]


async def test_a_clock_that_is_ahead_does_not_stop_the_others(database: Database) -> None:
    clock = FixedClock(NOON + timedelta(hours=2))
    ahead = AuditLog(database, NODE, origin=ORIGIN, max_waiting=9, clock=clock)
    behind = a_log(database)
    await ahead.start()
    await behind.start()
    [first] = await ahead.record([an_entry()])
    [second] = await behind.record([an_entry()])
    await ahead.stop()
    await behind.stop()
    assert second.recorded == first.recorded + timedelta(milliseconds=1)
    await assert_whole(database, 2)


async def test_every_kind_of_entry_verifies_even_with_a_trace_id_of_the_wrong_form(
    log: AuditLog, database: Database
) -> None:
    odd = [replace(REQUEST, trace_id=text) for text in ("", "not hex", "A" * 32, "\x00\ud800")]
    nobody = {"patient_key": None, "patient_reference": None}
    entries = [
        an_entry(interaction=interaction, request=request, **extra)
        for interaction in Interaction
        for request in (REQUEST, *odd)
        for extra in ({}, nobody, {**nobody, "basis": ()}, {"caller": None})
    ]
    await log.record(entries)
    await assert_whole(database, len(entries))


async def test_a_client_id_that_postgres_cannot_hold_does_not_stop_the_others(
    log: AuditLog, database: Database
) -> None:
    hostile = replace(CALLER, client_id="a\x00b\ud800")
    calls = [log.record([an_entry(caller=caller)]) for caller in (CALLER, hostile, CALLER)]
    receipts = await asyncio.gather(*calls)
    assert [receipt.index for [receipt] in receipts] == [0, 1, 2]
    await assert_whole(database, 3)
