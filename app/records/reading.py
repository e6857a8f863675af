"""Reading one record, its versions, and which person a Patient id means: one statement each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, overload

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from app.db import Database, Statement
from app.fhir.facets import Facets
from app.records.tables import FACETS, patient, person, resource, resource_history, resource_home
from app.together import Together
from app.vocabulary import LocalPatient, NhsNumber, OdsCode, PatientIdentity, PatientKey, PersonKey

_client = sa.table("client", sa.column("client_id", sa.Text), sa.column("active", sa.Boolean))

_source = sa.table("source", sa.column("ods_code", sa.Text), sa.column("active", sa.Boolean))


@dataclass(slots=True)
class Record:
    """One version as kept: the text to release and the facets to decide by. Not changed after it was read."""

    resource_type: str
    id: str
    version: int
    last_updated: datetime
    deleted: bool
    custodian: OdsCode
    content: str
    patient_key: PatientKey
    also_patients: tuple[PatientKey, ...]
    facets: Facets

    @property
    def reference(self) -> str:
        return f"{self.resource_type}/{self.id}/_history/{self.version}"

    @property
    def pointer(self) -> "Pointer":
        return Pointer(self.resource_type, self.id, self.version, self.patient_key)

    @property
    def all_patients(self) -> tuple[PatientKey, ...]:
        """Everybody whom it is about, where they are several; nobody otherwise."""
        return (self.patient_key, *self.also_patients) if self.also_patients else ()

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'


class Pointer(NamedTuple):
    """Where one version of a record is kept: what an answer consists of, without its content."""

    resource_type: str
    id: str
    version: int
    patient_key: PatientKey


@dataclass(slots=True)
class Whose:
    """The person a record is about, as of the same snapshot as the record."""

    person: PersonKey
    patient: LocalPatient
    nhs_number: NhsNumber | None
    consent_epoch: int
    alone: bool = False
    """Known to have no other local Patient; False where that was not looked at."""


@dataclass(slots=True)
class Found:
    """A record, whose it is (None: nobody's), and whether the client that asks is still registered."""

    record: Record
    whose: Whose | None
    client_active: bool


class Keys(Sequence[int]):
    """A ``bigint[]`` as PostgreSQL writes it, read only when a rule asks: decoding every array costs more than the
    statement, and most decisions look at none.
    """

    __slots__ = ("_keys", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._keys: tuple[int, ...] | None = None

    def _read(self) -> tuple[int, ...]:
        if self._keys is None:
            self._keys = tuple(map(int, self._text[1:-1].split(","))) if len(self._text) > 2 else ()
        return self._keys

    def __len__(self) -> int:
        return len(self._read())

    def __bool__(self) -> bool:
        return len(self._text) > 2

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        return self._read()[index]


class _NotRead(Keys):
    """In place of an array that the decision does not look at. To look all the same is an error, never a permit."""

    def _read(self) -> tuple[int, ...]:
        raise LookupError("a facet was asked for that was not read")

    def __bool__(self) -> bool:
        return bool(self._read())


_NO_KEYS = Keys("{}")
_NOT_READ = _NotRead("")
KEY_COLUMNS = frozenset({"codes", "kinds", "authors", "edges"})


def columns(
    table: sa.Table, keys: frozenset[str] = KEY_COLUMNS, *, bare: bool = False
) -> list[sa.ColumnElement[Any]]:
    """What ``record_of`` reads, in its order; arrays as text, and of the key columns only ``keys``.

    ``bare``: without the content, to decide what is read later.
    """
    left_out = KEY_COLUMNS - keys | ({"content"} if bare else frozenset())
    return [_column(table.c[name], left_out) for name in ("patient_key", "resource_type", "id", *FACETS)]


def _column(column: sa.Column[Any], left_out: frozenset[str]) -> sa.ColumnElement[Any]:
    if column.name in left_out:
        return sa.null().label(column.name)
    return sa.cast(column, sa.Text).label(column.name) if isinstance(column.type, ARRAY) else column


def _keys(text: str | None) -> Sequence[int]:
    if text is None:
        return _NOT_READ
    return _NO_KEYS if text == "{}" else Keys(text)


def _texts(text: str) -> frozenset[str]:
    """A ``text[]`` of codes: no code holds a comma, a quote or a brace."""
    return frozenset(text[1:-1].split(",")) if text != "{}" else frozenset()


_KEY = ("patient_key", "resource_type", "id")


def active_client(client_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether the client is still registered, asked in the statement that reads the records."""
    still = sa.select(1).where(_client.c.client_id == client_id, _client.c.active)
    return sa.exists(still).label("client_active")


_siblings = patient.alias("siblings")


def owner_columns(resource_type: sa.ColumnElement[str]) -> list[sa.ColumnElement[Any]]:
    """Beside a record's columns, of ``patient`` and ``person`` joined to it: what ``owner_of`` reads."""
    other = sa.select(1).where(
        _siblings.c.person_key == patient.c.person_key, _siblings.c.patient_key != patient.c.patient_key
    )
    return [
        patient.c.patient_id,
        patient.c.person_key,
        patient.c.custodian.label("patient_custodian"),
        person.c.nhs_number,
        person.c.consent_epoch,
        # Asked only where it is released: of a Patient.
        sa.case((resource_type == sa.literal("Patient"), ~sa.exists(other)), else_=sa.false()).label("alone"),
    ]


_wanted = (
    sa.func.unnest(
        sa.bindparam("types", type_=ARRAY(sa.Text)),
        sa.bindparam("ids", type_=ARRAY(sa.Text)),
        sa.bindparam("clients", type_=ARRAY(sa.Text)),
    )
    .table_valued("resource_type", "id", "client_id", with_ordinality="place")
    .render_derived("wanted")
)

_READ = Statement(
    sa.select(
        *columns(resource),
        *owner_columns(resource.c.resource_type),
        active_client(_wanted.c.client_id),
        _wanted.c.place,
    ).select_from(
        _wanted.join(
            resource_home,
            sa.and_(
                resource_home.c.resource_type == _wanted.c.resource_type, resource_home.c.id == _wanted.c.id
            ),
        )
        .join(resource, sa.and_(*(resource_home.c[name] == resource.c[name] for name in _KEY)))
        .outerjoin(patient, patient.c.patient_key == resource.c.patient_key)
        .outerjoin(person, person.c.person_key == patient.c.person_key)
    )
)

_asked = patient.alias("asked")
_named = (
    sa.func.unnest(
        sa.bindparam("ids", type_=ARRAY(sa.Text)),
        sa.bindparam("clients", type_=ARRAY(sa.Text)),
    )
    .table_valued("id", "client_id", with_ordinality="place")
    .render_derived("named")
)

_WHO = Statement(
    sa.select(
        patient.c.patient_key,
        patient.c.patient_id,
        patient.c.custodian,
        person.c.person_key,
        person.c.nhs_number,
        person.c.birth_date,
        person.c.consent_epoch,
        active_client(_named.c.client_id),
        sa.exists(sa.select(1).where(_source.c.active)).label("has_sources"),
        _named.c.place,
    )
    .select_from(
        _named.join(_asked, _asked.c.patient_id == _named.c.id)
        .join(person, person.c.person_key == _asked.c.person_key)
        .join(patient, patient.c.person_key == _asked.c.person_key)
    )
    .order_by(_named.c.place, patient.c.patient_key)
)

_PERSONS = Statement(
    sa.select(
        patient.c.patient_key,
        patient.c.patient_id,
        patient.c.custodian,
        person.c.person_key,
        person.c.nhs_number,
        person.c.consent_epoch,
    )
    .join_from(patient, person, person.c.person_key == patient.c.person_key)
    .where(patient.c.patient_key == sa.any_(sa.bindparam("keys", type_=ARRAY(sa.BigInteger))))
)

_CLIENT_ACTIVE = Statement(sa.select(active_client(sa.bindparam("client_id", type_=sa.Text))))

_VERSIONS = Statement(
    sa.select(*columns(resource_history))
    .where(
        *(
            resource_history.c[name] == sa.bindparam(name, type_=resource_history.c[name].type)
            for name in _KEY
        )
    )
    .order_by(resource_history.c.version.desc())
)


_pointed = (
    sa.func.unnest(
        sa.bindparam("patient_keys", type_=ARRAY(sa.BigInteger)),
        sa.bindparam("types", type_=ARRAY(sa.Text)),
        sa.bindparam("ids", type_=ARRAY(sa.Text)),
        sa.bindparam("versions", type_=ARRAY(sa.Integer)),
    )
    .table_valued("patient_key", "resource_type", "id", "version", with_ordinality="place")
    .render_derived("pointed")
)


def _pointed_at(table: sa.Table, *more: str) -> Statement:
    same = sa.and_(*(table.c[name] == _pointed.c[name] for name in (*_KEY, *more)))
    return Statement(sa.select(*columns(table), _pointed.c.place).select_from(_pointed.join(table, same)))


_CURRENT, _SUPERSEDED = _pointed_at(resource), _pointed_at(resource_history, "version")


@dataclass(frozen=True, slots=True)
class Who:
    """A person found by a local Patient's id, and what else the question needs to know in the same snapshot."""

    identity: PatientIdentity
    birth_date: str | None
    client_active: bool
    has_sources: bool


class Reader:
    """Reads single records, and persons. Those asked for while a statement runs share the next one.

    Every answer is read after its question was asked, so a revocation that was committed before is seen. One
    statement of a kind at a time: two would be half as large each, and cost nearly as much as one.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records = Together(self._read, at_once=1, most=64)
        self._persons = Together(self._who, at_once=1, most=64)

    async def read(self, resource_type: str, id: str, client_id: str) -> Found | None:
        """The record as it is now. Raises DatabaseUnavailable."""
        return await self._records.ask((resource_type, id, client_id))

    async def who(self, patient_id: str, client_id: str) -> Who | None:
        """The person of a local Patient id, with every local Patient they have here. Raises DatabaseUnavailable."""
        return await self._persons.ask((patient_id, client_id))

    async def _read(self, asked: Sequence[tuple[str, str, str]]) -> list[Found | None]:
        types, ids, clients = zip(*asked, strict=True)
        rows = await self._database.fetch(_READ, types=list(types), ids=list(ids), clients=list(clients))
        found = {row["place"]: _found(row) for row in rows}
        return [found.get(place) for place in range(1, len(asked) + 1)]

    async def _who(self, asked: Sequence[tuple[str, str]]) -> list[Who | None]:
        ids, clients = zip(*asked, strict=True)
        rows: dict[int, list[asyncpg.Record]] = {}
        for row in await self._database.fetch(_WHO, ids=list(ids), clients=list(clients)):
            rows.setdefault(row["place"], []).append(row)
        return [_person(rows[place], id) if place in rows else None for place, id in enumerate(ids, start=1)]


def _found(row: asyncpg.Record) -> Found:
    return Found(record_of(row), owner_of(row), row["client_active"])


async def pointed(database: Database, pointers: Sequence[Pointer]) -> list[tuple[Record, ...]]:
    """For each pointer the record as it is, then the version pointed at if it is another; () where it is no more."""
    current = await _at(database, _CURRENT, dict(enumerate(pointers, start=1)))
    older = {
        place: one
        for place, one in enumerate(pointers, start=1)
        if place in current and current[place].version != one.version
    }
    superseded = await _at(database, _SUPERSEDED, older) if older else {}
    return [
        (current[place], *([superseded[place]] if place in superseded else []))
        if place in current and (place in superseded or place not in older)
        else ()
        for place in range(1, len(pointers) + 1)
    ]


async def _at(database: Database, statement: Statement, pointers: Mapping[int, Pointer]) -> dict[int, Record]:
    places, wanted = list(pointers), list(pointers.values())
    rows = await database.fetch(
        statement,
        patient_keys=[one.patient_key for one in wanted],
        types=[one.resource_type for one in wanted],
        ids=[one.id for one in wanted],
        versions=[one.version for one in wanted],
    )
    return {places[row["place"] - 1]: record_of(row) for row in rows}


async def versions(database: Database, record: Record) -> list[Record]:
    """Superseded versions, newest first."""
    rows = await database.fetch(
        _VERSIONS, patient_key=record.patient_key, resource_type=record.resource_type, id=record.id
    )
    return [record_of(row) for row in rows]


def _person(rows: Sequence[asyncpg.Record], patient_id: str) -> Who:
    local = tuple(_local(row) for row in rows)
    asked = next(one for one in local if one.id == patient_id)
    first = rows[0]
    identity = PatientIdentity(
        PersonKey(first["person_key"]), asked, local, _number(first), first["consent_epoch"]
    )
    return Who(identity, first["birth_date"], first["client_active"], first["has_sources"])


async def whose(database: Database, keys: Sequence[int]) -> dict[int, Whose]:
    """Whose records these Patients' are, by patient key."""
    rows = await database.fetch(_PERSONS, keys=sorted(set(keys)))
    return {
        row["patient_key"]: Whose(
            PersonKey(row["person_key"]), _local(row), _number(row), row["consent_epoch"]
        )
        for row in rows
    }


async def client_is_active(database: Database, client_id: str) -> bool:
    row = await database.fetchrow(_CLIENT_ACTIVE, client_id=client_id)
    return bool(row and row["client_active"])


def record_of(row: asyncpg.Record) -> Record:
    (
        patient_key,
        resource_type,
        id,
        custodian,
        version,
        last_updated,
        deleted,
        content,
        also_patients,
        confidentiality,
        sensitivity,
        codes,
        kinds,
        authors,
        edges,
        relevant_from,
        relevant_until,
    ) = row[:17]
    others = tuple(_keys(also_patients))
    facets = Facets(
        resource_type=resource_type,
        id=id,
        custodian=custodian,
        confidentiality=confidentiality,
        sensitivity=_texts(sensitivity),
        codes=_keys(codes),
        kinds=_keys(kinds),
        authors=_keys(authors),
        edges=_keys(edges),
        relevant_from=relevant_from,
        relevant_until=relevant_until,
        also_patients=others,
    )
    return Record(
        resource_type,
        id,
        version,
        last_updated,
        deleted,
        custodian,
        content or "",
        patient_key,
        tuple(PatientKey(key) for key in others),
        facets,
    )


def owner_of(row: asyncpg.Record) -> Whose | None:
    """Whose record a row is that has ``owner_columns``; None: nobody's."""
    if row["person_key"] is None:
        return None
    return Whose(
        PersonKey(row["person_key"]),
        LocalPatient(PatientKey(row["patient_key"]), row["patient_id"], OdsCode(row["patient_custodian"])),
        _number(row),
        row["consent_epoch"],
        row["alone"],
    )


def _local(row: asyncpg.Record) -> LocalPatient:
    return LocalPatient(PatientKey(row["patient_key"]), row["patient_id"], OdsCode(row["custodian"]))


def _number(row: asyncpg.Record) -> NhsNumber | None:
    digits = row["nhs_number"]
    return _checked(digits) if digits else None


@lru_cache(maxsize=50_000)
def _checked(digits: str) -> NhsNumber:
    return NhsNumber(digits)
