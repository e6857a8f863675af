"""Writing records: the current version, its index values and every superseded version, in a caller's transaction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from app.db import Database, Statement
from app.errors import Conflict
from app.fhir.composites import kept_rows
from app.fhir.facets import Facets
from app.fhir.indexing import RULES, IndexValues
from app.records.tables import (
    FACETS,
    index_composite,
    index_date,
    index_position,
    index_quantity,
    index_string,
    resource,
    resource_history,
    resource_home,
)
from app.vocabulary import NO_PATIENT, OdsCode, PatientKey


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a resource, ready to be kept. ``content`` is None for a deletion."""

    resource_type: str
    id: str
    version: int
    last_updated: datetime
    custodian: OdsCode
    content: str | None
    patient_keys: tuple[PatientKey, ...]
    """The compartments it is in, its home first; (0,) when in none."""
    facets: Facets
    index: IndexValues | None

    @property
    def home(self) -> PatientKey:
        return self.patient_keys[0]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a resource at present."""

    patient_key: PatientKey
    version: int
    last_updated: datetime
    deleted: bool
    custodian: OdsCode
    content: str | None
    also_patients: tuple[int, ...]


def _bind(name: str, kind: Any) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=kind)


_INSTANT = TIMESTAMP(timezone=True)
_KEY = ("patient_key", "resource_type", "id")


def _rows(table: sa.Table, *columns: tuple[str, Any]) -> sa.CTE:
    """``INSERT INTO table SELECT key, unnest(column), …`` as a CTE: all index rows of one kind, in one round trip."""
    key = [_bind(name, table.c[name].type) for name in _KEY]
    values = [sa.func.unnest(_bind(f"{table.name}_{name}", ARRAY(kind))) for name, kind in columns]
    return (
        table.insert()
        .from_select([*_KEY, *(name for name, _ in columns)], sa.select(*key, *values))
        .cte(f"keep_{table.name}")
    )


def _index_ctes() -> list[sa.CTE]:
    return [
        _rows(index_date, ("parameter", sa.Text), ("lo", _INSTANT), ("hi", _INSTANT)),
        _rows(index_string, ("parameter", sa.Text), ("folded", sa.Text), ("exact", sa.Text)),
        _rows(
            index_quantity,
            ("parameter", sa.Text),
            ("lo", sa.Numeric),
            ("hi", sa.Numeric),
            ("system", sa.Text),
            ("code", sa.Text),
            ("unit", sa.Text),
            ("comparator", sa.Text),
            ("canonical_lo", sa.Numeric),
            ("canonical_hi", sa.Numeric),
            ("canonical_unit", sa.Text),
        ),
        _rows(index_composite, ("parameter", sa.Text), ("parts", JSONB)),
    ]


def _insert(*, home: bool) -> Statement:
    columns = [*_KEY, *FACETS, "tokens", "present", "indexed"]
    values = {name: _bind(name, resource.c[name].type) for name in columns}
    statement = resource.insert().values(**values, home=home).add_cte(*_index_ctes())
    if home:
        directory = resource_home.insert().values(**{name: values[name] for name in _KEY}).cte("keep_home")
        statement = statement.add_cte(directory)
    return Statement(statement)


_INSERT_HOME = _insert(home=True)
_INSERT_BESIDE = _insert(home=False)

_KEPT = (
    resource.c.patient_key,
    resource.c.version,
    resource.c.last_updated,
    resource.c.deleted,
    resource.c.custodian,
    resource.c.content,
    resource.c.also_patients,
)
_current = (
    sa.select(*_KEPT)
    .join_from(
        resource_home, resource, sa.and_(*(resource_home.c[name] == resource.c[name] for name in _KEY))
    )
    .where(
        resource_home.c.resource_type == _bind("resource_type", sa.Text),
        resource_home.c.id == _bind("id", sa.Text),
    )
)
_CURRENT = Statement(_current.with_for_update(of=resource))
_SEEN = Statement(_current)

_asked = (
    sa.func.unnest(_bind("types", ARRAY(sa.Text)), _bind("ids", ARRAY(sa.Text)))
    .table_valued("resource_type", "id")
    .render_derived("asked")
)


_at_home = sa.and_(resource_home.c.resource_type == _asked.c.resource_type, resource_home.c.id == _asked.c.id)
_CURRENT_OF = Statement(
    sa.select(resource.c.resource_type, resource.c.id, *_KEPT)
    .select_from(
        _asked.join(resource_home, _at_home).join(
            resource, sa.and_(*(resource_home.c[name] == resource.c[name] for name in _KEY))
        )
    )
    .order_by(*(resource.c[name] for name in _KEY))
    .with_for_update(of=resource)
)
# The directory's rows, which stay when a record is replaced: who waited for one sees the record that is there then.
_LOCK_THEM = Statement(
    sa.select(resource_home.c.id)
    .select_from(_asked.join(resource_home, _at_home))
    .order_by(resource_home.c.resource_type, resource_home.c.id)
    .with_for_update(of=resource_home, key_share=True)
)

_KEEP_SUPERSEDED = Statement(
    resource_history.insert().from_select(
        [*_KEY, *FACETS],
        sa.select(*(resource.c[name] for name in [*_KEY, *FACETS])).where(
            *(resource.c[name] == _bind(name, resource.c[name].type) for name in _KEY)
        ),
    )
)

_INDEXES = (index_date, index_string, index_quantity, index_composite)


def _delete(table: sa.Table) -> sa.Delete:
    return table.delete().where(*(table.c[name] == _bind(name, table.c[name].type) for name in _KEY))


# One round trip: every part of a statement sees what was there before it.
_REMOVE = Statement(
    _delete(resource).add_cte(*(_delete(table).cte(f"remove_{table.name}") for table in _INDEXES))
)
_REMOVE_INDEX = Statement(
    _delete(_INDEXES[0]).add_cte(*(_delete(table).cte(f"remove_{table.name}") for table in _INDEXES[1:]))
)

# Positions have statements of their own: few records have any, and the others do not pay for them.
_REMOVE_POSITIONS = Statement(_delete(index_position))
_WITH_POSITIONS = frozenset({"Location"})
"""Types that have a search parameter by position."""
_KEEP_POSITION = Statement(
    index_position.insert().values(
        {column.name: _bind(column.name, column.type) for column in index_position.columns}
    )
)

_REPLACE = Statement(
    resource.insert()
    .values(
        **{
            name: _bind(name, resource.c[name].type)
            for name in [*_KEY, *FACETS, "tokens", "present", "indexed"]
        },
        home=True,
    )
    .add_cte(*_index_ctes())
)

_INDEX_ANEW = Statement(
    resource.update()
    .where(*(resource.c[name] == _bind(name, resource.c[name].type) for name in _KEY))
    .values(
        tokens=_bind("tokens", ARRAY(sa.BigInteger)),
        present=_bind("present", ARRAY(sa.BigInteger)),
        indexed=_bind("indexed", sa.SmallInteger),
    )
    .add_cte(*_index_ctes())
)

_INDEXED_BEFORE = Statement(
    sa.select(resource.c.patient_key, resource.c.resource_type, resource.c.id, resource.c.content)
    .where(resource.c.indexed < sa.literal_column(str(RULES)))
    .order_by(resource.c.patient_key, resource.c.resource_type, resource.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)

_COUNT_INDEXED_BEFORE = Statement(
    sa.select(sa.func.count().label("records"))
    .select_from(resource)
    .where(resource.c.indexed < sa.literal_column(str(RULES)))
)

_BURY = Statement(
    resource.update()
    .where(
        resource.c.resource_type == _bind("resource_type", sa.Text),
        resource.c.id == _bind("id", sa.Text),
        resource.c.patient_key == sa.any_(_bind("keys", ARRAY(sa.BigInteger))),
    )
    .values(
        deleted=True,
        content=None,
        tokens=sa.cast(sa.literal([], ARRAY(sa.BigInteger)), ARRAY(sa.BigInteger)),
        present=sa.cast(sa.literal([], ARRAY(sa.BigInteger)), ARRAY(sa.BigInteger)),
        version=resource.c.version + 1,
        last_updated=_bind("at", _INSTANT),
    )
)


async def current(connection: asyncpg.Connection, resource_type: str, id: str) -> Kept | None:
    """What is kept now, locked until the transaction ends; deleted ones too."""
    row = await connection.fetchrow(_CURRENT.sql, *_CURRENT.args({"resource_type": resource_type, "id": id}))
    return _kept(row) if row else None


async def seen(connection: asyncpg.Connection, resource_type: str, id: str) -> Kept | None:
    """What is kept now, not locked: for who does not change it."""
    row = await connection.fetchrow(_SEEN.sql, *_SEEN.args({"resource_type": resource_type, "id": id}))
    return _kept(row) if row else None


async def current_of(
    connection: asyncpg.Connection, addresses: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Kept]:
    """What is kept now under these (type, id), locked until the transaction ends; deleted ones too."""
    rows = await connection.fetch(_CURRENT_OF.sql, *_CURRENT_OF.args(_unzipped(addresses)))
    return {(row["resource_type"], row["id"]): _kept(row) for row in rows}


async def lock(connection: asyncpg.Connection, addresses: Sequence[tuple[str, str]]) -> None:
    """Against others that lock them, in one order, so that no two transactions wait for each other.

    To be read after, in a statement of its own: what the one before has written is seen then.
    """
    if addresses:
        await connection.execute(_LOCK_THEM.sql, *_LOCK_THEM.args(_unzipped(addresses)))


def _unzipped(addresses: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    return {"types": [one for one, _ in addresses], "ids": [one for _, one in addresses]}


def _kept(row: asyncpg.Record) -> Kept:
    return Kept(
        PatientKey(row["patient_key"]),
        row["version"],
        row["last_updated"],
        row["deleted"],
        OdsCode(row["custodian"]),
        row["content"],
        tuple(row["also_patients"]),
    )


async def create(connection: asyncpg.Connection, versions: Sequence[Version]) -> None:
    """Keeps first versions, pipelined. Raises Conflict when an id has been taken meanwhile."""
    try:
        if len(versions) == 1:
            await connection.execute(
                _INSERT_HOME.sql, *_INSERT_HOME.args(_values(versions[0], versions[0].home))
            )
        elif versions:
            rows = [_INSERT_HOME.args(_values(version, version.home)) for version in versions]
            await connection.executemany(_INSERT_HOME.sql, rows)
    except asyncpg.UniqueViolationError as error:
        raise Conflict from error
    await _keep_beside(connection, versions)


async def replace(connection: asyncpg.Connection, version: Version, before: Kept) -> None:
    """Keeps a later version; the one before goes to history. ``before`` was locked by ``current``."""
    key = {"patient_key": before.patient_key, "resource_type": version.resource_type, "id": version.id}
    await connection.execute(_KEEP_SUPERSEDED.sql, *_KEEP_SUPERSEDED.args(key))
    for patient_key in (before.patient_key, *before.also_patients):
        await _remove(connection, _REMOVE, {**key, "patient_key": patient_key})
    await connection.execute(_REPLACE.sql, *_REPLACE.args(_values(version, before.patient_key)))
    await _keep_beside(connection, [version])


async def tombstone(
    connection: asyncpg.Connection, resource_type: str, id: str, before: Kept, at: datetime
) -> int:
    """Marks as deleted; gives the version of the deletion. The facets stay, to decide who may know of it."""
    key = {"patient_key": before.patient_key, "resource_type": resource_type, "id": id}
    await connection.execute(_KEEP_SUPERSEDED.sql, *_KEEP_SUPERSEDED.args(key))
    keys = [before.patient_key, *before.also_patients]
    for patient_key in keys:
        await _remove(connection, _REMOVE_INDEX, {**key, "patient_key": patient_key})
    await connection.execute(_BURY.sql, *_BURY.args({**key, "keys": keys, "at": at}))
    return before.version + 1


@dataclass(frozen=True, slots=True)
class Stale:
    """A record whose index values were written by older rules."""

    patient_key: PatientKey
    resource_type: str
    id: str
    content: str | None


async def count_stale(database: Database) -> int:
    """How many records are to be indexed anew."""
    row = await database.fetchrow(_COUNT_INDEXED_BEFORE)
    return int(row["records"]) if row else 0


async def stale(connection: asyncpg.Connection, limit: int) -> list[Stale]:
    """Some of them, locked until the transaction ends."""
    rows = await connection.fetch(_INDEXED_BEFORE.sql, *_INDEXED_BEFORE.args({"limit": limit}))
    return [Stale(*row) for row in rows]


async def index_anew(connection: asyncpg.Connection, one: Stale, index: IndexValues | None) -> None:
    """Puts ``index`` in the place of the record's index values; its text and version stay."""
    values = {"patient_key": one.patient_key, "resource_type": one.resource_type, "id": one.id}
    await _remove(connection, _REMOVE_INDEX, values)
    if index is not None and index.positions:
        await connection.executemany(_KEEP_POSITION.sql, _positions(values, index))
    values |= _index_values(index)
    await connection.execute(_INDEX_ANEW.sql, *_INDEX_ANEW.args(values))


async def _remove(connection: asyncpg.Connection, statement: Statement, key: Mapping[str, Any]) -> None:
    await connection.execute(statement.sql, *statement.args(key))
    if key["resource_type"] in _WITH_POSITIONS:
        await connection.execute(_REMOVE_POSITIONS.sql, *_REMOVE_POSITIONS.args(key))


async def _keep_beside(connection: asyncpg.Connection, versions: Sequence[Version]) -> None:
    """What of the versions does not go with their home's row: their rows in other compartments, their positions."""
    rows = [
        _INSERT_BESIDE.args(_values(version, patient_key))
        for version in versions
        for patient_key in version.patient_keys[1:]
    ]
    if rows:
        await connection.executemany(_INSERT_BESIDE.sql, rows)
    places = [
        place
        for version in versions
        for patient_key in version.patient_keys
        if version.index is not None and version.index.positions
        for place in _positions(_key_of(version, patient_key), version.index)
    ]
    if places:
        await connection.executemany(_KEEP_POSITION.sql, places)


def _key_of(version: Version, patient_key: PatientKey) -> dict[str, Any]:
    return {"patient_key": patient_key, "resource_type": version.resource_type, "id": version.id}


def _positions(key: Mapping[str, Any], index: IndexValues) -> list[list[Any]]:
    """Arguments of ``_KEEP_POSITION`` for each."""
    return [
        _KEEP_POSITION.args(
            {
                **key,
                "parameter": one.parameter,
                "latitude": float(one.latitude),
                "longitude": float(one.longitude),
            }
        )
        for one in index.positions
    ]


def _values(version: Version, patient_key: PatientKey) -> dict[str, Any]:
    facets, index = version.facets, version.index
    values: dict[str, Any] = {
        "patient_key": patient_key,
        "resource_type": version.resource_type,
        "id": version.id,
        "custodian": version.custodian,
        "version": version.version,
        "last_updated": version.last_updated,
        "deleted": version.content is None,
        "content": version.content,
        "also_patients": [key for key in version.patient_keys if key != patient_key and key != NO_PATIENT],
        "confidentiality": facets.confidentiality,
        "sensitivity": sorted(facets.sensitivity),
        "codes": list(facets.codes),
        "kinds": list(facets.kinds),
        "authors": list(facets.authors),
        "edges": list(facets.edges),
        "relevant_from": facets.relevant_from,
        "relevant_until": facets.relevant_until,
        **_index_values(index),
    }
    return values


def _index_values(index: IndexValues | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "tokens": list(index.tokens) if index else [],
        "present": list(index.present) if index else [],
        "indexed": RULES,
    }
    dates = index.dates if index else ()
    strings = index.strings if index else ()
    quantities = index.quantities if index else ()
    values["index_date_parameter"] = [row.parameter for row in dates]
    values["index_date_lo"] = [row.lo for row in dates]
    values["index_date_hi"] = [row.hi for row in dates]
    values["index_string_parameter"] = [row.parameter for row in strings]
    values["index_string_folded"] = [row.folded for row in strings]
    values["index_string_exact"] = [row.exact for row in strings]
    for name in _OF_QUANTITY:
        values[f"index_quantity_{name}"] = [getattr(row, name) for row in quantities]
    composites = kept_rows(index.composites) if index and index.composites else []
    values["index_composite_parameter"] = [parameter for parameter, _ in composites]
    values["index_composite_parts"] = [json.dumps(parts, ensure_ascii=False) for _, parts in composites]
    return values


_OF_QUANTITY = (
    "parameter",
    "lo",
    "hi",
    "system",
    "code",
    "unit",
    "comparator",
    "canonical_lo",
    "canonical_hi",
    "canonical_unit",
)
