"""A process that records for ever and tells each entry once it has its receipt: ``recorder.py URL CALLERS``."""

import asyncio
import sys
from datetime import UTC, datetime
from uuid import UUID

from app.audit.log import AuditLog
from app.db import Database
from app.errors import Unavailable
from app.vocabulary import PatientKey
from tests.fakes_audit import NODE, an_entry


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


async def main(url: str, callers: int) -> None:
    database = await Database.connect(url, size=2)
    log = AuditLog(database, NODE, origin="rx1.example/audit", max_waiting=4096, clock=SystemClock())
    await log.start()
    await asyncio.gather(*(_record_for_ever(log, caller) for caller in range(callers)))


async def _record_for_ever(log: AuditLog, caller: int) -> None:
    while True:
        entry = an_entry(patient_key=PatientKey(caller % 7 + 1))
        try:
            await log.record([entry])
        except Unavailable:
            await asyncio.sleep(0.05)
        else:
            _tell(entry.id)


def _tell(entry_id: UUID) -> None:
    sys.stdout.write(f"{entry_id}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
