"""The register of directives in PostgreSQL: every version kept, and the person's epoch moved on with each."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import sqlalchemy as sa

from app.consent.provision import DELETED, PRIVACY, Directive, Effect, Provision
from app.consent.stored import from_json, to_json
from app.db import Database, Statement, translated
from app.errors import Conflict
from app.vocabulary import PatientKey, PersonKey

_KEEP = """
    INSERT INTO directive (patient_key, consent_id, version, slot, status, recorded_at, body)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_LATEST = """
    SELECT consent_id, version, slot, status, recorded_at, body FROM directive
    WHERE patient_key = $1 AND consent_id = $2 ORDER BY version DESC LIMIT 1
"""
_MOVE_ON = "UPDATE person SET consent_epoch = consent_epoch + 1 WHERE person_key = $1"

_OF_PERSON = Statement(
    sa.text("""
        SELECT d.consent_id, d.version, d.slot, d.status, d.recorded_at, d.body
        FROM patient p JOIN directive d USING (patient_key)
        WHERE p.person_key = :person
        ORDER BY d.patient_key, d.consent_id, d.version
    """)
)


class ConsentRegister:
    """What every patient has decided. Reads are of committed state; a write joins the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(
        self,
        connection: asyncpg.Connection,
        patient: PatientKey,
        person: PersonKey,
        consent_id: str,
        version: int,
        directive: Directive | None,
    ) -> None:
        """Keeps one version, and voids every decision about the person from the commit on.

        ``directive`` is None when the Consent was deleted. Raises Conflict when that version is there already.
        """
        kept = directive or await self._ended(connection, patient, consent_id, version)
        if kept is not None:
            row = (consent_id, version, kept.slot, kept.status, kept.recorded_at, to_json(kept))
            try:
                await connection.execute(_KEEP, patient, *row)
            except asyncpg.UniqueViolationError as error:
                raise Conflict from error
        await connection.execute(_MOVE_ON, person)

    async def directives(
        self, person: PersonKey, connection: asyncpg.Connection | None = None
    ) -> list[Directive]:
        """Every version of every Consent of the person's Patients, for ``decision.decide``.

        One that cannot be read denies everything. Raises DatabaseUnavailable.
        """
        if connection is None:
            rows = await self._database.fetch(_OF_PERSON, person=person)
        else:
            with translated():
                rows = await connection.fetch(_OF_PERSON.sql, *_OF_PERSON.args({"person": person}))
        return [_read(row) for row in rows]

    async def _ended(
        self, connection: asyncpg.Connection, patient: PatientKey, consent_id: str, version: int
    ) -> Directive | None:
        """A deleted Consent goes on holding its slot; None when it never had one."""
        row = await connection.fetchrow(_LATEST, patient, consent_id)
        return None if row is None else replace(_read(row), version=version, status=DELETED)


class DirectiveCache:
    """Directives by (person, epoch): under another epoch they are read again."""

    def __init__(self, register: ConsentRegister, *, keep: int = 10_000) -> None:
        self._register = register
        self._keep = keep
        self._kept: OrderedDict[tuple[PersonKey, int], Sequence[Directive]] = OrderedDict()

    async def directives(self, person: PersonKey, epoch: int) -> Sequence[Directive]:
        """``epoch`` must have been read from the database for this very request."""
        key = (person, epoch)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = await self._register.directives(person)
            if len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found


def _read(row: asyncpg.Record) -> Directive:
    try:
        return from_json(row["body"])
    except ValueError:
        return _denial(row)


def _denial(row: asyncpg.Record) -> Directive:
    """In place of what cannot be read, a denial of everything in the same place (ARCHITECTURE 3.4)."""
    return Directive(
        consent_id=row["consent_id"],
        version=row["version"],
        status=row["status"],
        scope=PRIVACY,
        slot=row["slot"],
        recorded_at=row["recorded_at"],
        server_time=datetime.min.replace(tzinfo=UTC),
        rule=Provision(Effect.DENY, "Consent.provision"),
    )
