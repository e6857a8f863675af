"""Searching the local store: one statement per shape of question, compiled once and kept.

A question bound to patients is answered through the index on patient and token together, where it asks for tokens:
it costs what matches them. Where it asks for none it is answered through the primary key (patient, type), and costs
what the patient has. A question that is not bound goes through the GIN index on tokens, or that on ``_lastUpdated``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP, array

from app.consent.predicate import And, Empty, Not, Or, Overlaps, Predicate
from app.consent.residual import compile_residual
from app.db import Fetching, Statement
from app.fhir.query import (
    Criterion,
    DateCriterion,
    IdCriterion,
    LastUpdatedCriterion,
    ReferenceCriterion,
    StringCriterion,
    TokenCriterion,
    UriCriterion,
)
from app.records.reading import KEY_COLUMNS, Record, columns, record_of
from app.records.tables import index_date, index_string, resource
from app.vocabulary import PatientKey

_INSTANT = TIMESTAMP(timezone=True)
_FOREVER = datetime.max.replace(tzinfo=UTC)
_NEVER = datetime.min.replace(tzinfo=UTC)
_PREFIX = 60
"""Characters of a folded string that its index holds."""


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


@dataclass(frozen=True, slots=True)
class Row:
    record: Record
    key: datetime | str


@dataclass(frozen=True, slots=True)
class Page:
    """At most ``limit`` rows, whether there are more, and how many match in all (None: not counted)."""

    rows: tuple[Row, ...]
    more: bool
    total: int | None
    shared: bool = False
    """Whether a match is about several people, so that the total counts what one of the others may keep back."""


async def search(database: Fetching, question: Question) -> Page:
    statement = _statement(_shape(question), question.residual)
    rows = await database.fetch(statement, **_values(question))
    records = [Row(record_of(row), row["sort_key"]) for row in rows[: question.limit]]
    total = (rows[0]["total"] if rows else 0) if question.count else None
    shared = bool(question.count and rows and rows[0]["shared"])
    return Page(tuple(records), len(rows) > question.limit, total, shared)


# The shape of a question is everything that changes its SQL; its values are everything that does not.

_Shape = tuple[Any, ...]


def _shape(question: Question) -> _Shape:
    return (
        question.resource_type is not None,
        question.patients is not None,
        tuple(_criterion_shape(criterion) for criterion in question.criteria),
        question.sort,
        question.after is not None,
        question.count,
    )


def _criterion_shape(criterion: Criterion) -> _Shape:
    if isinstance(criterion, DateCriterion | LastUpdatedCriterion):
        return (type(criterion), tuple(one.prefix for one in criterion.alternatives))
    if isinstance(criterion, StringCriterion):
        return (type(criterion), criterion.modifier, len(criterion.alternatives))
    if isinstance(criterion, IdCriterion):
        return (type(criterion),)
    if isinstance(criterion, ReferenceCriterion) and criterion.names_the_patient:
        return (_Named, len(criterion.keys))
    return (type(criterion), len(criterion.keys))


class _Named:
    """In a shape: a criterion that only names the patient."""


def _values(question: Question) -> dict[str, Any]:
    values: dict[str, Any] = {"limit": question.limit + 1}
    if question.resource_type is not None:
        values["resource_type"] = question.resource_type
    if question.patients is not None:
        values["patients"] = list(question.patients)
    if question.sort.parameter not in ("_lastUpdated", "_id"):
        values["sort_parameter"] = question.sort.parameter
    if question.after is not None:
        values["after_key"], values["after_id"] = question.after.key, question.after.id
    for place, criterion in enumerate(question.criteria):
        values.update(_criterion_values(f"c{place}", criterion))
    return values


def _criterion_values(name: str, criterion: Criterion) -> Mapping[str, Any]:
    if isinstance(criterion, IdCriterion):
        return {name: list(criterion.ids)}
    if isinstance(criterion, DateCriterion | LastUpdatedCriterion):
        bounds = {f"{name}_{i}_lo": one.lo for i, one in enumerate(criterion.alternatives)}
        bounds |= {f"{name}_{i}_hi": one.hi for i, one in enumerate(criterion.alternatives)}
        return (
            bounds if isinstance(criterion, LastUpdatedCriterion) else bounds | {f"{name}_p": criterion.param}
        )
    if isinstance(criterion, StringCriterion):
        texts = {f"{name}_{i}": one for i, one in enumerate(criterion.alternatives)}
        starts = {f"{name}_{i}_start": one[:_PREFIX] for i, one in enumerate(criterion.folded)}
        ends = {f"{name}_{i}_end": one[:_PREFIX] + "\U0010ffff" for i, one in enumerate(criterion.folded)}
        return texts | starts | ends | {f"{name}_p": criterion.param}
    keys = {f"{name}_{i}": key for i, key in enumerate(criterion.keys)}
    return keys | {name: list(criterion.keys)}


@lru_cache(maxsize=2048)
def _statement(shape: _Shape, residual: Predicate) -> Statement:
    typed, bound, criteria, sort, paged, counted = shape
    where = [~resource.c.deleted, _compiled_residual(residual)]
    if typed:
        where.append(resource.c.resource_type == sa.bindparam("resource_type", type_=sa.Text))
    if bound:
        # Where an index on tokens says which of the patients' records match, the primary key would only say it again:
        # an expression keeps the planner from reading it as well.
        by_token = any(criterion[0] in _TOKENS for criterion in criteria)
        key = resource.c.patient_key + sa.literal_column("0") if by_token else resource.c.patient_key
        where.append(key == sa.any_(_PATIENTS))
    else:
        where.append(resource.c.home)
    where += [_clause(f"c{place}", criterion, bound) for place, criterion in enumerate(criteria)]
    key, source = _sort_key(sort, bound)
    found = (
        sa.select(*columns(resource, _looked_at(residual) if bound else KEY_COLUMNS), key.label("sort_key"))
        .select_from(source)
        .where(*where)
    )
    if not bound and any(criterion[0] in _TOKENS for criterion in criteria):
        # Materialised, so that a rare token is found by its index and not by walking the sort order.
        found = sa.select(found.cte("found", nesting=True).prefix_with("MATERIALIZED"))
    return Statement(_paged(found, sort, paged, counted))


_TOKENS = (TokenCriterion, ReferenceCriterion, UriCriterion)
_PATIENTS = sa.bindparam("patients", type_=ARRAY(sa.BigInteger))
_KEYS = ARRAY(sa.BigInteger)
_within = sa.func.keys_within(array([resource.c.patient_key]), resource.c.tokens, type_=_KEYS)


def _paged(found: sa.Select[Any], sort: Sort, paged: bool, counted: bool) -> sa.Select[Any]:
    inner = found.subquery("found_here")
    chosen: list[sa.ColumnElement[Any]] = list(inner.c)
    if counted:
        chosen.append(sa.func.count().over().label("total"))
        chosen.append(sa.func.bool_or(inner.c.also_patients != sa.literal("{}")).over().label("shared"))
    statement = sa.select(*chosen)
    key, id = inner.c.sort_key, inner.c.id
    if paged:
        kind = sa.Text() if sort.parameter == "_id" else _INSTANT
        after_key, after_id = sa.bindparam("after_key", type_=kind), sa.bindparam("after_id", type_=sa.Text)
        beyond = key < after_key if sort.descending else key > after_key
        statement = statement.where(sa.or_(beyond, sa.and_(key == after_key, id > after_id)))
    order = (key.desc() if sort.descending else key.asc(), id.asc())
    return statement.order_by(*order).limit(sa.bindparam("limit", type_=sa.BigInteger))


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
        scope.append(index_date.c.patient_key == sa.any_(_PATIENTS))
    edge = sa.func.max(index_date.c.lo) if sort.descending else sa.func.min(index_date.c.lo)
    dates = (
        sa.select(index_date.c.patient_key, index_date.c.id, edge.label("key"))
        .where(*scope)
        .group_by(index_date.c.patient_key, index_date.c.id)
        .subquery("dates")
    )
    missing = _NEVER if sort.descending else _FOREVER
    same = sa.and_(dates.c.patient_key == resource.c.patient_key, dates.c.id == resource.c.id)
    return sa.func.coalesce(dates.c.key, sa.literal(missing, _INSTANT)), resource.outerjoin(dates, same)


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


def _clause(name: str, shape: _Shape, bound: bool) -> sa.ColumnElement[bool]:
    kind = shape[0]
    if kind is IdCriterion:
        return resource.c.id == sa.any_(sa.bindparam(name, type_=ARRAY(sa.Text)))
    if kind is LastUpdatedCriterion:
        # An instant is a range of one millisecond, its precision.
        lo = resource.c.last_updated
        return sa.or_(*_date_clauses(name, shape[1], lo, lo + sa.text("interval '1 millisecond'")))
    if kind is DateCriterion:
        return _has_row(
            index_date, name, bound, _date_clauses(name, shape[1], index_date.c.lo, index_date.c.hi)
        )
    if kind is StringCriterion:
        return _has_row(
            index_string, name, bound, [_string_clause(f"{name}_{i}", shape[1]) for i in range(shape[2])]
        )
    if kind is _Named:
        keys = [sa.bindparam(f"{name}_{i}", type_=sa.BigInteger) for i in range(shape[1])]
        return sa.or_(sa.false(), *(key == sa.any_(resource.c.tokens) for key in keys))
    asked = sa.bindparam(name, type_=_KEYS)
    overlap: sa.ColumnElement[bool] = (
        _within.overlap(sa.func.keys_within(_PATIENTS, asked, type_=_KEYS))
        if bound
        else resource.c.tokens.overlap(asked)
    )
    return overlap


def _has_row(
    table: sa.Table, name: str, bound: bool, alternatives: Sequence[sa.ColumnElement[bool]]
) -> sa.ColumnElement[bool]:
    scope = [
        table.c.resource_type == resource.c.resource_type,
        table.c.parameter == sa.bindparam(f"{name}_p", type_=sa.Text),
        table.c.patient_key == resource.c.patient_key,
        table.c.id == resource.c.id,
    ]
    if bound:
        scope.append(table.c.patient_key == sa.any_(_PATIENTS))
    return sa.exists(sa.select(1).where(*scope, sa.or_(*alternatives)).correlate(resource))


def _date_clauses(
    name: str, prefixes: Sequence[str], lo: sa.ColumnElement[Any], hi: sa.ColumnElement[Any]
) -> list[sa.ColumnElement[bool]]:
    return [
        _PREFIXES[prefix](
            lo,
            hi,
            sa.bindparam(f"{name}_{i}_lo", type_=_INSTANT),
            sa.bindparam(f"{name}_{i}_hi", type_=_INSTANT),
        )
        for i, prefix in enumerate(prefixes)
    ]


_Bound = sa.ColumnElement[Any]
_PREFIXES: Mapping[str, Callable[[_Bound, _Bound, _Bound, _Bound], sa.ColumnElement[bool]]] = {
    # lo, hi: what the record says; a, b: what is asked; every range is half-open (R4 search, 3.1.1.4.5 and 3.1.1.4.6).
    "eq": lambda lo, hi, a, b: sa.and_(lo >= a, hi <= b),
    "ne": lambda lo, hi, a, b: sa.not_(sa.and_(lo >= a, hi <= b)),
    "gt": lambda lo, hi, a, b: hi > b,
    "ge": lambda lo, hi, a, b: sa.or_(hi > b, sa.and_(lo >= a, hi <= b)),
    "lt": lambda lo, hi, a, b: lo < a,
    "le": lambda lo, hi, a, b: sa.or_(lo < a, sa.and_(lo >= a, hi <= b)),
    "sa": lambda lo, hi, a, b: lo >= b,
    "eb": lambda lo, hi, a, b: hi <= a,
    "ap": lambda lo, hi, a, b: sa.and_(lo < b, hi > a),
}


def _string_clause(name: str, modifier: str) -> sa.ColumnElement[bool]:
    text = sa.bindparam(name, type_=sa.Text)
    start = sa.func.left(index_string.c.folded, _PREFIX)
    if modifier == "contains":
        return sa.func.strpos(index_string.c.folded, text) > 0
    near = sa.and_(
        start >= sa.bindparam(f"{name}_start", type_=sa.Text),
        start < sa.bindparam(f"{name}_end", type_=sa.Text),
    )
    if modifier == "exact":
        return sa.and_(near, index_string.c.exact == text)
    return sa.and_(near, sa.func.starts_with(index_string.c.folded, text))
