"""Searching the local store: one statement per shape of question, compiled once and kept.

A question bound to patients is answered through the index on patient and token together, where it asks for tokens:
it costs what matches them. Where it asks for none it is answered through the primary key (patient, type), and costs
what the patient has. A question that is not bound goes through the GIN index on tokens, or that on ``_lastUpdated``.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from app.consent.predicate import And, Empty, Not, Or, Overlaps, Predicate
from app.consent.residual import compile_residual
from app.db import Fetching, Statement
from app.fhir.query import Criterion
from app.records.clauses import INSTANT, PATIENTS, Shape, by_token, clause_of, shape_of, values_of
from app.records.reading import (
    KEY_COLUMNS,
    Pointer,
    Record,
    Whose,
    active_client,
    columns,
    owner_columns,
    owner_of,
    record_of,
)
from app.records.tables import index_date, patient, person, resource
from app.vocabulary import PatientKey

_FOREVER = datetime.max.replace(tzinfo=UTC)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sort:
    """``parameter`` is ``_lastUpdated``, ``_id`` (type, then id) or a date parameter; ids break ties."""

    parameter: str = "_lastUpdated"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class After:
    """Where the page before ended."""

    key: datetime | str
    id: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the local store. ``patients`` None: of everybody's records."""

    resource_type: str | None
    patients: tuple[PatientKey, ...] | None
    criteria: tuple[Criterion, ...]
    residual: Predicate
    sort: Sort
    limit: int
    after: After | None = None
    count: bool = False
    each_asked_by: str | None = None
    """Each match is decided by its own person's decision, which may look at more than the residual does: whose it is
    is read along, and whether this client is still registered.
    """
    bare: bool = False
    """Records are found without their content, to be decided now and read later."""


@dataclass(frozen=True, slots=True)
class Row:
    record: Record
    key: datetime | str
    owner: Whose | None = None
    """Of a question in which each is decided by itself; None: nobody's."""


@dataclass(frozen=True, slots=True)
class Page:
    """At most ``limit`` rows, whether there are more, and how many match in all (None: not counted)."""

    rows: tuple[Row, ...]
    more: bool
    total: int | None
    shared: bool = False
    """Whether a match is about several people, so that the total counts what one of the others may keep back."""
    client_active: bool | None = None
    """Of a question in which each is decided by itself; None when nothing matches, so that it is not known."""


async def search(database: Fetching, question: Question) -> Page:
    statement = _statement(_shape(question), question.residual)
    rows = await database.fetch(statement, **_values(question))
    each = question.each_asked_by is not None
    records = [
        Row(record_of(row), row["sort_key"], owner_of(row) if each else None)
        for row in rows[: question.limit]
    ]
    total = (rows[0]["total"] if rows else 0) if question.count else None
    shared = bool(question.count and rows and rows[0]["shared"])
    active = rows[0]["client_active"] if each and rows else None
    return Page(tuple(records), len(rows) > question.limit, total, shared, active)


@dataclass(frozen=True, slots=True)
class Pointers:
    """What matches, in order and without its content: a snapshot. ``beyond``: where more would go on."""

    found: tuple[Pointer, ...]
    beyond: After | None


async def point(database: Fetching, question: Question) -> Pointers:
    """At most ``limit`` matches of one snapshot, as pointers."""
    statement = _statement(_shape(question), question.residual, pointers=True)
    rows = await database.fetch(statement, **_values(question))
    shown = rows[: question.limit]
    beyond = After(shown[-1]["sort_key"], shown[-1]["id"]) if len(rows) > question.limit else None
    found = (Pointer(row["resource_type"], row["id"], row["version"], row["patient_key"]) for row in shown)
    return Pointers(tuple(found), beyond)


# The shape of a question is everything that changes its SQL; its values are everything that does not.


def _shape(question: Question) -> Shape:
    return (
        question.resource_type is not None,
        question.patients is not None,
        tuple(shape_of(criterion) for criterion in question.criteria),
        question.sort,
        question.after is not None,
        question.count,
        question.each_asked_by is not None,
        question.bare,
    )


def _values(question: Question) -> dict[str, Any]:
    values: dict[str, Any] = {"limit": question.limit + 1}
    if question.resource_type is not None:
        values["resource_type"] = question.resource_type
    if question.patients is not None:
        values["patients"] = list(question.patients)
    if question.sort.parameter not in ("_lastUpdated", "_id"):
        values["sort_parameter"] = question.sort.parameter
    if question.each_asked_by is not None:
        values["client_id"] = question.each_asked_by
    if question.after is not None:
        values["after_key"], values["after_id"] = question.after.key, question.after.id
    for place, criterion in enumerate(question.criteria):
        values.update(values_of(f"c{place}", criterion))
    return values


@lru_cache(maxsize=2048)
def _statement(shape: Shape, residual: Predicate, *, pointers: bool = False) -> Statement:
    typed, bound, criteria, sort, paged, counted, each, bare = shape
    where = [~resource.c.deleted, _compiled_residual(residual)]
    if typed:
        where.append(resource.c.resource_type == sa.bindparam("resource_type", type_=sa.Text))
    if bound:
        # Where an index on tokens says which of the patients' records match, the primary key would only say it again:
        # an expression keeps the planner from reading it as well.
        indexed = any(by_token(criterion) for criterion in criteria)
        key = resource.c.patient_key + sa.literal_column("0") if indexed else resource.c.patient_key
        where.append(key == sa.any_(PATIENTS))
    else:
        where.append(resource.c.home)
    where += [clause_of(f"c{place}", criterion, bound=bound) for place, criterion in enumerate(criteria)]
    key, source = _sort_key(sort, bound)
    each = each and not pointers
    found = (
        sa.select(*(_POINTER if pointers else _content(residual, each, bare)), key.label("sort_key"))
        .select_from(source)
        .where(*where)
    )
    if not bound and any(by_token(criterion) for criterion in criteria):
        # Materialised, so that a rare token is found by its index and not by walking the sort order.
        found = sa.select(found.cte("found", nesting=True).prefix_with("MATERIALIZED"))
    page = _paged(found, sort, paged, counted)
    return Statement(_with_owners(page, sort) if each else page)


def _with_owners(page: sa.Select[Any], sort: Sort) -> sa.Select[Any]:
    found = page.subquery("page")
    owned = found.outerjoin(patient, patient.c.patient_key == found.c.patient_key)
    return (
        sa.select(
            *found.c,
            *owner_columns(found.c.resource_type),
            active_client(sa.bindparam("client_id", type_=sa.Text)),
        )
        .select_from(owned.outerjoin(person, person.c.person_key == patient.c.person_key))
        .order_by(*_order(found, sort))
    )


def _order(found: sa.FromClause, sort: Sort) -> tuple[sa.ColumnElement[Any], ...]:
    key = found.c.sort_key.desc() if sort.descending else found.c.sort_key.asc()
    return key, found.c.id.asc()


_POINTER = tuple(resource.c[name] for name in Pointer._fields)


def _content(residual: Predicate, each: bool, bare: bool) -> list[sa.ColumnElement[Any]]:
    """Everything to decide by and to release; of what one decision is about, no more than the residual needs."""
    return columns(resource, KEY_COLUMNS if each else _looked_at(residual), bare=bare)


def _paged(found: sa.Select[Any], sort: Sort, paged: bool, counted: bool) -> sa.Select[Any]:
    inner = found.subquery("found_here")
    chosen: list[sa.ColumnElement[Any]] = list(inner.c)
    if counted:
        chosen.append(sa.func.count().over().label("total"))
        chosen.append(sa.func.bool_or(inner.c.also_patients != sa.literal("{}")).over().label("shared"))
    statement = sa.select(*chosen)
    key, id = inner.c.sort_key, inner.c.id
    if paged:
        kind = sa.Text() if sort.parameter == "_id" else INSTANT
        after_key, after_id = sa.bindparam("after_key", type_=kind), sa.bindparam("after_id", type_=sa.Text)
        beyond = key < after_key if sort.descending else key > after_key
        statement = statement.where(sa.or_(beyond, sa.and_(key == after_key, id > after_id)))
    return statement.order_by(*_order(inner, sort)).limit(sa.bindparam("limit", type_=sa.BigInteger))


def _sort_key(sort: Sort, bound: bool) -> tuple[sa.ColumnElement[Any], sa.FromClause]:
    """The column to sort by and what to select from; missing dates come last in both directions."""
    if sort.parameter == "_lastUpdated":
        return resource.c.last_updated, resource
    if sort.parameter == "_id":
        return resource.c.resource_type, resource
    scope = [
        index_date.c.resource_type == sa.bindparam("resource_type", type_=sa.Text),
        index_date.c.parameter == sa.bindparam("sort_parameter", type_=sa.Text),
    ]
    if bound:
        scope.append(index_date.c.patient_key == sa.any_(PATIENTS))
    edge = sa.func.max(index_date.c.lo) if sort.descending else sa.func.min(index_date.c.lo)
    dates = (
        sa.select(index_date.c.patient_key, index_date.c.id, edge.label("key"))
        .where(*scope)
        .group_by(index_date.c.patient_key, index_date.c.id)
        .subquery("dates")
    )
    missing = _NEVER if sort.descending else _FOREVER
    same = sa.and_(dates.c.patient_key == resource.c.patient_key, dates.c.id == resource.c.id)
    return sa.func.coalesce(dates.c.key, sa.literal(missing, INSTANT)), resource.outerjoin(dates, same)


def _looked_at(residual: Predicate) -> frozenset[str]:
    """The key columns that the residual, and so the decision, looks at."""
    match residual:
        case And(parts) | Or(parts):
            return frozenset().union(*map(_looked_at, parts))
        case Not(part):
            return _looked_at(part)
        case Overlaps(column, _) | Empty(column):
            return frozenset({column})
    return frozenset()


def _compiled_residual(residual: Predicate) -> sa.ColumnElement[bool]:
    return compile_residual(residual, {column.name: column for column in resource.c})
