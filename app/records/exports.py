"""Exports as they are kept: jobs, which any process may take over, and pointers to what they found.

A job is made by whoever holds its lease. Each step writes what it found and where the making goes on, in one
transaction that fails when the lease is somebody else's: a process that was held up cannot write twice, and one that
was killed loses nothing but a step. No connection is held while records are read and decided.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from app.db import Database, Statement
from app.errors import TooManyExports
from app.fhir.query import Criterion
from app.records.clauses import INSTANT, Shape, clause_of, shape_of, values_of
from app.records.reading import Pointer, Record, columns, record_of
from app.records.tables import resource, resource_history, resource_home
from app.vocabulary import PatientKey

LIFETIME = timedelta(hours=24)
"""How long a job can be asked for once it is complete."""
LEASE = timedelta(seconds=30)
"""How long a job waits for a process that is gone."""
FILE_RESOURCES = 10_000
"""Most resources that one file points to."""

_MOST_KEPT = 50
"""Jobs of one client that are kept at a time, complete ones included."""
_KICK_OFF = 0x4558504F5254
"""Advisory lock: kick-offs are counted one after the other."""
_REMOVED_AT_ONCE = 10_000
_LINGERS = timedelta(hours=1)
"""After it expired nobody gets into a job any more; who is downloading from it then may finish."""


@dataclass(frozen=True, slots=True)
class NewJob:
    client_id: str
    bound_to: bytes
    """Who may ask for it: digest of everything about a caller that a decision may depend on."""
    asked: Mapping[str, Any]
    """As JSON: whatever the making of it needs to know."""
    patients: Sequence[PatientKey] | None
    transaction_time: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """One export. ``state`` is ``making``, ``made`` or ``failed``."""

    id: UUID
    asked: Mapping[str, Any]
    patients: tuple[PatientKey, ...] | None
    transaction_time: datetime
    state: str
    failure: Mapping[str, str] | None
    failures: int
    """How often in a row a step of its making went wrong."""
    place: Mapping[str, Any]
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A stretch of a job's pointers: of one type, in the order of (patient, id)."""

    id: UUID
    resource_type: str
    deleted: bool
    """It tells of deletions."""
    first: tuple[int, str]
    next: tuple[int, str] | None
    """With which pointer the following file begins."""


class LostLease(Exception):
    """Somebody else makes this job now, or nobody: it was removed."""


_BEGIN = """
    INSERT INTO export_job (id, client_id, bound_to, asked, patients, transaction_time, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, now() + $7)
"""
_COUNT = """
    SELECT count(*) FILTER (WHERE state = 'making') AS making,
        count(*) FILTER (WHERE state = 'making' AND client_id = $1) AS own_making,
        count(*) FILTER (WHERE client_id = $1) AS own
    FROM export_job WHERE state <> 'removed' AND expires_at > now()
"""
_FIND = """
    SELECT * FROM export_job
    WHERE id = $1 AND bound_to = $2 AND state <> 'removed' AND expires_at > now()
"""
_REMOVE = """
    UPDATE export_job SET state = 'removed', leased_by = NULL
    WHERE id = $1 AND bound_to = $2 AND state <> 'removed' AND expires_at > now()
"""
_TAKE = """
    UPDATE export_job SET leased_by = $1, lease_until = now() + $2
    WHERE id = (
        SELECT id FROM export_job WHERE state = 'making' AND lease_until <= now() AND expires_at > now()
        ORDER BY waits_since LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING *
"""
_HOLD = """
    UPDATE export_job SET lease_until = now() + $3
    WHERE id = $1 AND leased_by = $2 AND state = 'making' RETURNING id
"""
_LEAVE = """
    UPDATE export_job SET leased_by = NULL, lease_until = now() + $3, waits_since = now(), failures = $4
    WHERE id = $1 AND leased_by = $2
"""
_POINT = """
    INSERT INTO export_pointer (job_id, deleted, resource_type, patient_key, id, version)
    SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[], $5::text[], $6::int[]) ON CONFLICT DO NOTHING
"""
_GO_ON = "UPDATE export_job SET place = $2, failures = 0 WHERE id = $1"
_DIVIDE = """
    INSERT INTO export_file
        (id, job_id, deleted, resource_type, place, first_patient, first_id, next_patient, next_id)
    SELECT gen_random_uuid(), $1, deleted, resource_type, number, patient_key, id,
        lead(patient_key) OVER same, lead(id) OVER same
    FROM (
        SELECT deleted, resource_type, patient_key, id,
            row_number() OVER (PARTITION BY deleted, resource_type ORDER BY patient_key, id) - 1 AS number
        FROM export_pointer WHERE job_id = $1
    ) AS numbered
    WHERE number % $2 = 0
    WINDOW same AS (PARTITION BY deleted, resource_type ORDER BY number)
"""
_MADE = "UPDATE export_job SET state = 'made', leased_by = NULL, expires_at = now() + $2 WHERE id = $1"
_FAIL = (
    "UPDATE export_job SET state = 'failed', leased_by = NULL, failure = $3 WHERE id = $1 AND leased_by = $2"
)
_FILES = """
    SELECT id, resource_type, deleted, first_patient, first_id, next_patient, next_id
    FROM export_file WHERE job_id = $1 ORDER BY deleted, resource_type, place
"""
_FILE = """
    SELECT id, resource_type, deleted, first_patient, first_id, next_patient, next_id
    FROM export_file WHERE job_id = $1 AND id = $2
"""
_POINTERS = """
    SELECT resource_type, id, version, patient_key FROM export_pointer
    WHERE job_id = $1 AND deleted = $2 AND resource_type = $3
        AND ({reached}) AND ($6::bigint IS NULL OR (patient_key, id) < ($6, $7))
    ORDER BY patient_key, id LIMIT $8
"""
_FROM, _BEYOND = (
    _POINTERS.format(reached=f"(patient_key, id) {comparison} ($4, $5)") for comparison in (">=", ">")
)
_TARGETS = """
    SELECT resource_type, id FROM unnest($2::text[], $3::text[]) AS named (resource_type, id)
    JOIN resource_home USING (resource_type, id)
    JOIN export_pointer AS found USING (resource_type, patient_key, id)
    WHERE found.job_id = $1 AND NOT found.deleted
"""
_OVER = """
    SELECT id FROM export_job WHERE state = 'removed' OR expires_at < now() - $1::interval
    LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_SWEEP = """
    DELETE FROM export_pointer WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM export_pointer WHERE job_id = $1 LIMIT $2
    ))
"""
# Whoever writes has a virtual transaction of its own from BEGIN on, and every role may look at the locks on them. What
# nobody logged in for, autovacuum above all, writes no records.
_UNDER_WAY = """
    SELECT own.virtualtransaction AS name, EXISTS (
        SELECT 1 FROM pg_locks AS written
        WHERE written.locktype = 'transactionid' AND written.pid = own.pid AND written.mode = 'ExclusiveLock'
    ) AS writes
    FROM pg_locks AS own JOIN pg_stat_activity AS session ON session.pid = own.pid
    WHERE own.locktype = 'virtualxid' AND own.mode = 'ExclusiveLock' AND own.pid <> pg_backend_pid()
        AND session.datname = current_database() AND session.usesysid IS NOT NULL
"""
_PATIENTS_OF = """
    SELECT patient_key FROM patient
    WHERE person_key IN (SELECT person_key FROM patient WHERE patient_id = ANY ($1)) ORDER BY patient_key
"""


class Exports:
    """The jobs, in the database."""

    def __init__(self, database: Database, *, at_once: int, per_client: int) -> None:
        self._database = database
        self._at_once = at_once
        self._per_client = per_client

    # For who asks.

    async def begin(self, new: NewJob) -> UUID:
        """Keeps a job to be made. Raises TooManyExports."""
        id = uuid4()
        patients = None if new.patients is None else list(new.patients)
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _KICK_OFF)
            row = await connection.fetchrow(_COUNT, new.client_id)
            if row["own"] >= _MOST_KEPT:
                raise TooManyExports(
                    "Too many of your exports are kept. Delete those that you are done with."
                )
            if row["making"] >= self._at_once or row["own_making"] >= self._per_client:
                raise TooManyExports
            asked = orjson.dumps(new.asked).decode()
            await connection.execute(
                _BEGIN, id, new.client_id, new.bound_to, asked, patients, new.transaction_time, LIFETIME
            )
        return id

    async def find(self, id: UUID, bound_to: bytes) -> Job | None:
        """The caller's own job; somebody else's is None like one that never was."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, id, bound_to)
        return None if row is None else _job(row)

    async def remove(self, id: UUID, bound_to: bytes) -> bool:
        """Whether there was such a job of the caller's; it is gone from now on, and not made any further."""
        async with self._database.connection() as connection:
            done: str = await connection.execute(_REMOVE, id, bound_to)
        return done == "UPDATE 1"

    async def files(self, id: UUID) -> list[ExportFile]:
        async with self._database.connection() as connection:
            return [_file(row) for row in await connection.fetch(_FILES, id)]

    async def file(self, id: UUID, file_id: UUID) -> ExportFile | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FILE, id, file_id)
        return None if row is None else _file(row)

    async def pointers(
        self, id: UUID, file: ExportFile, *, after: Pointer | None, limit: int
    ) -> list[Pointer]:
        """A slice of a file."""
        start = file.first if after is None else (after.patient_key, after.id)
        end = file.next or (None, None)
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                _FROM if after is None else _BEYOND, id, file.deleted, file.resource_type, *start, *end, limit
            )
        return [_pointer(row) for row in rows]

    async def is_made(self, id: UUID) -> bool:
        """Whether it is complete and not removed; also when it has just expired."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval("SELECT state = 'made' FROM export_job WHERE id = $1", id))

    async def patients_of(self, ids: Sequence[str]) -> tuple[PatientKey, ...]:
        """Every local Patient of the persons whom these Patient ids mean."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PATIENTS_OF, list(ids))
        return tuple(PatientKey(row["patient_key"]) for row in rows)

    # For who makes them.

    async def take(self, worker: UUID) -> Job | None:
        """The job that has waited longest for somebody to go on with it."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_TAKE, worker, LEASE)
        return None if row is None else _job(row)

    async def keep(
        self,
        id: UUID,
        worker: UUID,
        found: Sequence[Pointer],
        deleted: Sequence[Pointer],
        place: Mapping[str, Any],
    ) -> None:
        """Keeps what a step found, and where the next one begins. Raises LostLease."""
        async with self._held(id, worker) as connection:
            for pointers, of_deleted in ((found, False), (deleted, True)):
                if pointers:
                    types, ids, versions, keys = (list(column) for column in zip(*pointers, strict=True))
                    await connection.execute(_POINT, id, of_deleted, types, keys, ids, versions)
            await connection.execute(_GO_ON, id, orjson.dumps(place).decode())

    async def finish(self, id: UUID, worker: UUID) -> None:
        """Divides what was found into files; the job is complete. Raises LostLease."""
        async with self._held(id, worker) as connection:
            await connection.execute(_DIVIDE, id, FILE_RESOURCES, timeout=3600)
            await connection.execute(_MADE, id, LIFETIME)

    async def fail(self, id: UUID, worker: UUID, *, code: str, text: str) -> None:
        """Gives a job up for good; ``text`` is safe for its caller to read."""
        async with self._database.connection() as connection:
            failure = orjson.dumps({"code": code, "text": text}).decode()
            await connection.execute(_FAIL, id, worker, failure)

    async def leave(
        self, id: UUID, worker: UUID, *, failures: int = 0, pause: timedelta = timedelta()
    ) -> None:
        """Lets somebody else go on with it, after ``pause``."""
        async with self._database.connection() as connection:
            await connection.execute(_LEAVE, id, worker, pause, failures)

    async def sweep(self) -> bool:
        """Takes away a part of what is over; whether there may be more. Side by side, each process has its own job."""
        async with self._database.transaction() as connection:
            id = await connection.fetchval(_OVER, _LINGERS)
            if id is None:
                return False
            if await connection.execute(_SWEEP, id, _REMOVED_AT_ONCE) == "DELETE 0":
                await connection.execute("DELETE FROM export_file WHERE job_id = $1", id)
                await connection.execute("DELETE FROM export_job WHERE id = $1", id)
        return True

    async def under_way(self) -> dict[str, bool]:
        """Transactions of this database that have not ended, and whether they have written anything yet."""
        async with self._database.connection() as connection:
            return {row["name"]: row["writes"] for row in await connection.fetch(_UNDER_WAY)}

    async def among_found(self, id: UUID, references: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these (type, id) the job has found so far."""
        if not references:
            return set()
        types, ids = (list(column) for column in zip(*references, strict=True))
        async with self._database.connection() as connection:
            rows = await connection.fetch(_TARGETS, id, types, ids)
        return {(row["resource_type"], row["id"]) for row in rows}

    @asynccontextmanager
    async def _held(self, id: UUID, worker: UUID) -> AsyncIterator[asyncpg.Connection]:
        async with self._database.transaction() as connection:
            if await connection.fetchval(_HOLD, id, worker, LEASE) is None:
                raise LostLease
            yield connection


def _job(row: asyncpg.Record) -> Job:
    patients = row["patients"]
    return Job(
        row["id"],
        orjson.loads(row["asked"]),
        None if patients is None else tuple(PatientKey(key) for key in patients),
        row["transaction_time"],
        row["state"],
        orjson.loads(row["failure"]) if row["failure"] else None,
        row["failures"],
        orjson.loads(row["place"]),
        row["created_at"],
        row["expires_at"],
    )


def _file(row: asyncpg.Record) -> ExportFile:
    following = None if row["next_patient"] is None else (row["next_patient"], row["next_id"])
    first = (row["first_patient"], row["first_id"])
    return ExportFile(row["id"], row["resource_type"], row["deleted"], first, following)


def _pointer(row: asyncpg.Record) -> Pointer:
    return Pointer(row["resource_type"], row["id"], row["version"], PatientKey(row["patient_key"]))


# Candidates: slices of the store, each read once, without content. Where the next slice begins is told by its last.

Since = tuple[datetime, str]
"""(last updated, id)"""

_EVER = datetime.min.replace(tzinfo=UTC)


def beginning(since: datetime | None) -> Since:
    """Before everything that was changed after ``since``: instants are whole milliseconds."""
    if since is None:
        return _EVER, ""
    return since.replace(microsecond=since.microsecond // 1000 * 1000) + timedelta(milliseconds=1), ""


def _facets() -> list[sa.ColumnElement[Any]]:
    """What ``record_of`` reads, without the content."""
    return [sa.null().label("content") if one is resource.c.content else one for one in columns(resource)]


def _of_type(*, deleted: bool) -> Statement:
    """By the index on (type, last updated, id): what is changed meanwhile only ever moves towards the end."""
    after = sa.tuple_(sa.bindparam("at", type_=INSTANT), sa.bindparam("id", type_=sa.Text))
    return Statement(
        sa.select(*_facets())
        .where(
            resource.c.home,
            resource.c.deleted if deleted else ~resource.c.deleted,
            resource.c.resource_type == sa.bindparam("resource_type", type_=sa.Text),
            sa.tuple_(resource.c.last_updated, resource.c.id) > after,
        )
        .order_by(resource.c.last_updated, resource.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


_LIVE, _DELETED = _of_type(deleted=False), _of_type(deleted=True)

_OF_PATIENT = Statement(
    sa.select(*_facets(), resource_home.c.patient_key.label("home_key"))
    .join_from(
        resource,
        resource_home,
        sa.and_(
            resource_home.c.resource_type == resource.c.resource_type, resource_home.c.id == resource.c.id
        ),
    )
    .where(
        resource.c.patient_key == sa.bindparam("patient_key", type_=sa.BigInteger),
        resource.c.resource_type == sa.any_(sa.bindparam("types", type_=ARRAY(sa.Text))),
        sa.tuple_(resource.c.resource_type, resource.c.id)
        > sa.tuple_(sa.bindparam("after_type", type_=sa.Text), sa.bindparam("after_id", type_=sa.Text)),
    )
    .order_by(resource.c.resource_type, resource.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


async def walk_type(
    database: Database, resource_type: str, after: Since, *, deleted: bool, limit: int
) -> list[Record]:
    """What was changed after ``after``, in order: everything that is there throughout is met at least once."""
    at, id = after
    rows = await database.fetch(
        _DELETED if deleted else _LIVE, resource_type=resource_type, at=at, id=id, limit=limit
    )
    return [record_of(row) for row in rows]


async def walk_patient(
    database: Database, key: PatientKey, types: Sequence[str], after: tuple[str, str], *, limit: int
) -> list[tuple[Record, PatientKey]]:
    """A compartment by type and id, deleted records too, each with the Patient at whom it is kept."""
    after_type, after_id = after
    rows = await database.fetch(
        _OF_PATIENT, patient_key=key, types=list(types), after_type=after_type, after_id=after_id, limit=limit
    )
    return [(record_of(row), PatientKey(row["home_key"])) for row in rows]


_wanted = (
    sa.func.unnest(
        sa.bindparam("patient_keys", type_=ARRAY(sa.BigInteger)),
        sa.bindparam("types", type_=ARRAY(sa.Text)),
        sa.bindparam("ids", type_=ARRAY(sa.Text)),
    )
    .table_valued("patient_key", "resource_type", "id")
    .render_derived("wanted")
)


def _same(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == _wanted.c[name] for name in ("patient_key", "resource_type", "id")))


@lru_cache(maxsize=256)
def _meeting(shapes: tuple[tuple[Shape, ...], ...]) -> Statement:
    alternatives = (
        sa.and_(
            sa.true(), *(clause_of(f"f{n}c{m}", shape, bound=False) for m, shape in enumerate(alternative))
        )
        for n, alternative in enumerate(shapes)
    )
    return Statement(
        sa.select(resource.c.id)
        .select_from(_wanted.join(resource, _same(resource)))
        .where(sa.or_(sa.false(), *alternatives))
    )


async def meeting(
    database: Database, records: Sequence[Record], alternatives: Sequence[Sequence[Criterion]]
) -> set[str]:
    """Ids of those of ``records``, all of one type, that fulfil every criterion of one of the alternatives."""
    shapes = tuple(tuple(shape_of(one) for one in criteria) for criteria in alternatives)
    values: dict[str, Any] = {}
    for n, criteria in enumerate(alternatives):
        for m, criterion in enumerate(criteria):
            values.update(values_of(f"f{n}c{m}", criterion))
    rows = await database.fetch(_meeting(shapes), **_keys(records), **values)
    return {row["id"] for row in rows}


_AS_OF = Statement(
    sa.select(
        resource_history.c.resource_type,
        resource_history.c.id,
        resource_history.c.version,
        resource_history.c.patient_key,
        resource_history.c.last_updated,
        resource_history.c.deleted,
    )
    .select_from(_wanted.join(resource_history, _same(resource_history)))
    .where(resource_history.c.last_updated <= sa.bindparam("at", type_=INSTANT))
    .ext(distinct_on(resource_history.c.patient_key, resource_history.c.resource_type, resource_history.c.id))
    .order_by(
        resource_history.c.patient_key,
        resource_history.c.resource_type,
        resource_history.c.id,
        resource_history.c.version.desc(),
    )
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The version that a record had at some instant."""

    pointer: Pointer
    last_updated: datetime
    deleted: bool


async def as_of(database: Database, records: Sequence[Record], at: datetime) -> list[Earlier]:
    """The versions that these records, kept at their homes, had ``at`` an instant; of some there was none yet."""
    if not records:
        return []
    rows = await database.fetch(_AS_OF, at=at, **_keys(records))
    return [Earlier(_pointer(row), row["last_updated"], row["deleted"]) for row in rows]


def _keys(records: Iterable[Record]) -> dict[str, list[Any]]:
    found = list(records)
    return {
        "patient_keys": [one.patient_key for one in found],
        "types": [one.resource_type for one in found],
        "ids": [one.id for one in found],
    }
