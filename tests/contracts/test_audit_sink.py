"""What every audit log promises to those who record, and to those who read; once for each implementation."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from app.audit.entry import Interaction
from app.audit.log import AuditLog
from app.db import Database
from app.vocabulary import PatientKey
from tests.fakes_audit import NODE, NOON, AuditLogInMemory, FixedClock, an_entry

Log = AuditLog | AuditLogInMemory


class AuditSinkContract:
    """Subclassed once per implementation, which supplies ``log`` and ``clock``."""

    @pytest.fixture
    def clock(self) -> FixedClock:
        return FixedClock()

    async def test_nothing_recorded_gives_no_receipts(self, log: Log) -> None:
        assert list(await log.record([])) == []

    async def test_indices_are_contiguous_from_zero(self, log: Log) -> None:
        receipts = [(await log.record([an_entry()]))[0] for _ in range(3)]
        assert [receipt.index for receipt in receipts] == [0, 1, 2]

    async def test_receipts_come_in_the_order_of_the_entries(self, log: Log) -> None:
        entries = [an_entry(patient_key=PatientKey(number)) for number in (7, 3, 9)]
        receipts = await log.record(entries)
        assert [receipt.entry_id for receipt in receipts] == [entry.id for entry in entries]
        assert [receipt.index for receipt in receipts] == [0, 1, 2]

    async def test_the_same_entry_twice_is_one_leaf_and_one_receipt(self, log: Log) -> None:
        entry = an_entry()
        first = await log.record([entry])
        again = await log.record([an_entry(), entry])
        assert again[1] == first[0]
        assert again[0].index == 1
        assert len(await log.events([PatientKey(1)])) == 2

    async def test_the_same_entry_twice_in_one_call_is_one_leaf(self, log: Log) -> None:
        entry = an_entry()
        first, second = await log.record([entry, entry])
        assert first == second
        assert (await log.record([an_entry()]))[0].index == 1

    async def test_the_same_request_twice_is_two_accesses(self, log: Log) -> None:
        await log.record([an_entry()])
        await log.record([an_entry()])
        assert len(await log.events([PatientKey(1)])) == 2

    async def test_equal_entries_have_unequal_leaves(self, log: Log) -> None:
        first, second = await log.record([an_entry(), an_entry()])
        assert first.leaf_hash != second.leaf_hash

    async def test_the_time_never_goes_back_when_the_clock_does(self, log: Log, clock: FixedClock) -> None:
        before = (await log.record([an_entry()]))[0]
        clock.at = NOON - timedelta(hours=2)
        after = (await log.record([an_entry()]))[0]
        assert after.recorded > before.recorded >= NOON
        assert after.index > before.index

    async def test_events_are_read_newest_first_and_by_patient(self, log: Log) -> None:
        mine = [an_entry(patient_key=PatientKey(5)) for _ in range(3)]
        for entry in mine:
            await log.record([entry, an_entry(patient_key=PatientKey(6))])
        found = await log.events([PatientKey(5)])
        assert [one.entry_id for one in found] == [entry.id for entry in reversed(mine)]
        assert [json.loads(one.body or b"")["id"] for one in found] == [str(one.entry_id) for one in found]

    async def test_a_persons_several_patients_are_read_together(self, log: Log) -> None:
        await log.record([an_entry(patient_key=PatientKey(key)) for key in (5, 6, 7)])
        assert len(await log.events([PatientKey(5), PatientKey(7)])) == 2
        assert await log.events([]) == []

    async def test_a_period_includes_its_start_and_excludes_its_end(
        self, log: Log, clock: FixedClock
    ) -> None:
        for hour in range(4):
            clock.at = NOON + timedelta(hours=hour)
            await log.record([an_entry()])
        until = NOON + timedelta(hours=3)
        found = await log.events([PatientKey(1)], since=NOON + timedelta(hours=1), until=until)
        assert [one.index for one in found] == [2, 1]

    async def test_pages_neither_skip_nor_repeat_while_entries_come(self, log: Log) -> None:
        await log.record([an_entry() for _ in range(5)])
        first = await log.events([PatientKey(1)], limit=2)
        await log.record([an_entry()])
        second = await log.events([PatientKey(1)], limit=2, before=first[-1].index)
        third = await log.events([PatientKey(1)], limit=2, before=second[-1].index)
        assert [one.index for one in (*first, *second, *third)] == [4, 3, 2, 1, 0]

    async def test_one_entry_is_found_by_its_id(self, log: Log) -> None:
        entry = an_entry(interaction=Interaction.VREAD)
        await log.record([an_entry(), entry])
        found = await log.event(entry.id)
        assert found is not None
        assert found.body is not None
        assert (found.index, found.patient_key) == (1, entry.patient_key)
        assert json.loads(found.body)["id"] == str(entry.id)
        assert await log.event(an_entry().id) is None

    async def test_an_entry_about_no_patient_is_in_nobodys_trail(self, log: Log) -> None:
        await log.record([an_entry(patient_key=None, person_key=None, patient_reference=None)])
        assert await log.events([PatientKey(1)]) == []


class TestAuditLogInMemory(AuditSinkContract):
    @pytest.fixture
    def log(self, clock: FixedClock) -> AuditLogInMemory:
        return AuditLogInMemory(NODE, clock)


class TestAuditLog(AuditSinkContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def log(self, database: Database, clock: FixedClock) -> AsyncIterator[AuditLog]:
        log = AuditLog(database, NODE, origin="candour.rx1.example/audit", max_waiting=64, clock=clock)
        await log.start()
        yield log
        await log.stop()
