"""The second evaluator: a condition on facets as SQL over the columns of ``resource``.

It narrows a question before ORDER, LIMIT and COUNT. No term of it can be NULL: three-valued logic in SQL would let
NOT hide what the point evaluator releases.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

from app.consent.predicate import (
    And,
    Atom,
    Constant,
    CustodianIn,
    Empty,
    IdIn,
    LevelBetween,
    Meets,
    Not,
    Or,
    Overlaps,
    Predicate,
    Sensitive,
    Span,
    TypeIn,
    Undated,
    Within,
)

Clause = sa.ColumnElement[bool]
Columns = Mapping[str, sa.ColumnElement[Any]]

_INSTANT = TIMESTAMP(timezone=True)
_INSTANTS: ARRAY[datetime] = ARRAY(TIMESTAMP(timezone=True))


def compile_residual(predicate: Predicate, columns: Columns) -> Clause:
    """``predicate`` over ``columns``, named as those of ``resource``; every value is bound."""
    match predicate:
        case Constant(holds):
            return sa.true() if holds else sa.false()
        case And(parts):
            return sa.and_(*(compile_residual(part, columns) for part in parts))
        case Or(parts):
            return sa.or_(*(compile_residual(part, columns) for part in parts))
        case Not(part):
            return sa.not_(compile_residual(part, columns))
    return _atom(predicate, columns)


def _atom(atom: Atom, columns: Columns) -> Clause:
    match atom:
        case TypeIn(types):
            return columns["resource_type"] == sa.any_(_texts(types))
        case IdIn(resource_type, ids):
            return sa.and_(
                columns["resource_type"] == _text(resource_type), columns["id"] == sa.any_(_texts(ids))
            )
        case CustodianIn(codes):
            return columns["custodian"] == sa.any_(_texts(codes))
        case LevelBetween(lowest, highest):
            return columns["confidentiality"].between(_level(lowest), _level(highest))
        case Sensitive(codes):
            return columns["sensitivity"].op("&&", is_comparison=True)(_texts(codes))
        case Overlaps(column, keys):
            return columns[column].op("&&", is_comparison=True)(_keys(keys))
        case Empty(column):
            return sa.func.cardinality(columns[column]) == 0
        case Undated():
            return sa.and_(columns["relevant_from"].is_(None), columns["relevant_until"].is_(None))
        case Meets(spans):
            return _meets(spans, columns["relevant_from"], columns["relevant_until"])
        case Within(start, end):
            return _within(start, end, columns["relevant_from"], columns["relevant_until"])


def _meets(spans: tuple[Span, ...], first: sa.ColumnElement[Any], until: sa.ColumnElement[Any]) -> Clause:
    """Two arrays however many the spans: a statement has a limit of parameters, a patient's choices have none."""
    starts = sa.bindparam(None, [start for start, _ in spans], type_=_INSTANTS)
    ends = sa.bindparam(None, [end for _, end in spans], type_=_INSTANTS)
    table = sa.func.unnest(starts, ends).table_valued(sa.column("lo", _INSTANT), sa.column("hi", _INSTANT))
    span = table.render_derived(name="span")
    lower, upper = span.c.lo, span.c.hi
    touches = sa.and_(
        sa.or_(first.is_(None), upper.is_(None), first < upper),
        sa.or_(until.is_(None), lower.is_(None), until > lower),
    )
    return sa.and_(
        sa.or_(first.is_not(None), until.is_not(None)),
        sa.exists(sa.select(1).select_from(span).where(touches)),
    )


def _within(
    start: datetime | None, end: datetime | None, first: sa.ColumnElement[Any], until: sa.ColumnElement[Any]
) -> Clause:
    parts = [sa.or_(first.is_not(None), until.is_not(None))]
    if start is not None:
        parts.append(sa.and_(first.is_not(None), first >= _at(start)))
    if end is not None:
        parts.append(sa.and_(until.is_not(None), until <= _at(end)))
    return sa.and_(*parts)


def _text(value: str) -> sa.ColumnElement[str]:
    return sa.bindparam(None, value, type_=sa.Text)


def _texts(values: frozenset[str]) -> sa.ColumnElement[Any]:
    return sa.bindparam(None, sorted(values), type_=ARRAY(sa.Text))


def _keys(values: frozenset[int]) -> sa.ColumnElement[Any]:
    return sa.bindparam(None, sorted(values), type_=ARRAY(sa.BigInteger))


def _level(value: int) -> sa.ColumnElement[int]:
    return sa.bindparam(None, value, type_=sa.SmallInteger)


def _at(value: datetime) -> sa.ColumnElement[datetime]:
    return sa.bindparam(None, value, type_=_INSTANT)
