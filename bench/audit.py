"""How fast the audit log is by itself: durable entries a second, what a caller waits, verification, disk.

    python -m bench.audit --callers 64 --seconds 10

Embedded PostgreSQL in a directory of its own, one process, everything on: salts, links, all indexes, commits with
``synchronous_commit``. Prints one JSON object.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop

from app.audit.entry import Disclosed, Entry, Interaction
from app.audit.event import NodeNames, audit_event
from app.audit.log import AuditLog
from app.audit.sequence import prepare
from app.audit.verify import verify
from app.db import APPLICATION_ROLE, Database
from app.embedded import EmbeddedPostgres
from app.main import collect_seldom
from app.migrate import migrate
from app.vocabulary import Caller, NhsNumber, OdsCode, PatientKey, PersonKey, PurposeOfUse, Request

BASE = "https://candour.rx1.example/fhir"
NODE = NodeNames("RX1", "urn:ietf:rfc:3986", "urn:candour:node:rx1", BASE)
PATIENTS = 5_000
MOST_A_SECOND = 16_000
"""Entries are made for so many; should a machine record more, the run says so by failing."""

_CALLER = Caller(
    subject="dr-khan",
    client_id="ward-app",
    organisation=OdsCode("RX1"),
    organisation_name="Royal X NHS Foundation Trust",
    purpose=PurposeOfUse.TREAT,
    scopes=("system/*.rs",),
    token_id="0b6f7a52-7d3a-4f3c-9d58-3f7f5a0c1e2d",  # noqa: S106  # a made-up jti
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    name="Dr A. Khan",
    roles=("http://snomed.info/sct|309943004",),
    practitioner="https://fhir.hl7.org.uk/Id/gmc-number|1234567",
    issuer="https://candour.rx1.example",
)
_NHS_NUMBER = NhsNumber("9434765919")
_CALLERS = [replace(_CALLER, subject=f"dr-{number}", name=f"Dr {number}") for number in range(40)]


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def an_entry(number: int) -> Entry:
    """A read of one Observation, as the service records it."""
    patient = number % PATIENTS + 1
    trace = uuid4()
    return Entry(
        id=uuid4(),
        interaction=Interaction.READ,
        outcome="0",
        description="The resource was released.",
        request=Request(
            trace_id=trace.hex,
            request_id=str(trace),
            at=datetime.now(UTC),
            method="GET",
            target=f"/fhir/Observation/{trace}",
            client_address="10.1.2.3",
            base_url=BASE,
        ),
        caller=_CALLERS[number % len(_CALLERS)],
        patient_key=PatientKey(patient),
        person_key=PersonKey(patient),
        patient_reference=f"Patient/{patient}",
        nhs_number=_NHS_NUMBER,
        resources=(Disclosed(f"Observation/{trace}/_history/1"),),
        basis=("https://candour.example/policy|1",),
        sources=("RX1 fresh",),
    )


async def recorded(log: AuditLog, callers: int, seconds: float) -> dict[str, Any]:
    """``callers`` that record one entry after another."""
    # Made beforehand, for making an entry is its caller's work; collected as the service does it.
    made = iter([an_entry(number) for number in range(int(seconds * MOST_A_SECOND))])
    collect_seldom()
    waits: list[float] = []

    async def one() -> None:
        while time.perf_counter() < start + seconds:
            entry = next(made)
            began = time.perf_counter()
            await log.record([entry])
            waits.append(time.perf_counter() - began)

    start, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(callers)))
    took, busy = time.perf_counter() - start, time.process_time() - busy
    waits.sort()
    return {
        "callers": callers,
        "entries": len(waits),
        "entries_per_second": round(len(waits) / took),
        "cpu_us_per_entry": round(busy / len(waits) * 1e6, 1),
        "p50_ms": round(waits[len(waits) // 2] * 1000, 2),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 2),
    }


def prepared_cost(entries: int = 5_000) -> dict[str, float]:
    """Microseconds of this process for what is made outside the lock."""
    made, now = [an_entry(number) for number in range(entries)], datetime.now(UTC)
    began = time.perf_counter()
    for entry in made:
        audit_event(entry, node=NODE, recorded=now)
    written = time.perf_counter()
    for entry in made:
        prepare(entry, node=NODE, recorded=now)
    done = time.perf_counter()
    return {
        "event_us": round((written - began) / entries * 1e6, 1),
        "prepare_us": round((done - written) / entries * 1e6, 1),
        "body_bytes": len(audit_event(made[0], node=NODE, recorded=now)),
    }


async def verified(database: Database) -> dict[str, Any]:
    async with database.connection() as connection:
        began = time.perf_counter()
        verdict = await verify(connection)
        took = time.perf_counter() - began
        size = await connection.fetchval(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class"
            " WHERE relname LIKE 'audit%' AND relkind = 'r'"
        )
    assert verdict.holds, verdict
    return {
        "leaves": verdict.size,
        "verified_per_second": round(verdict.size / took),
        "disk_bytes_per_entry": round(size / verdict.size),
    }


async def measure(home: Path, callers: list[int], seconds: float) -> dict[str, Any]:
    server = EmbeddedPostgres(home)
    server.start()
    try:
        await migrate(server.url())
        database = await Database.connect(server.url(user=APPLICATION_ROLE), size=4)
        log = AuditLog(database, NODE, origin="rx1.example/audit", max_waiting=100_000, clock=SystemClock())
        await log.start()
        await recorded(log, 16, 1.0)
        runs = [await recorded(log, number, seconds) for number in callers]
        await log.stop()
        owner = await Database.connect(server.url(), size=1)
        result = {"runs": runs, **prepared_cost(), **await verified(owner)}
        await owner.close()
        await database.close()
        return result
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="candour-bench-") as home:
        result = uvloop.run(measure(Path(home), given.callers, given.seconds))
    command = " ".join(["python -m bench.audit", *sys.argv[1:]])
    print(json.dumps({"command": command, **result}, indent=2))


if __name__ == "__main__":
    main()
