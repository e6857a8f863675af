"""Criteria as SQL over ``resource`` and its index rows: a shape, the values that go into it, and the condition.

The shape of a criterion is everything that changes its SQL, its values everything that does not: one statement is
compiled for each shape and kept. Three functions for each kind of criterion, side by side.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, array

from app.fhir.criteria import (
    AnyCriterion,
    ChainCriterion,
    CompositeCriterion,
    Criterion,
    DateCriterion,
    EveryCriterion,
    HasCriterion,
    HierarchyCriterion,
    IdCriterion,
    LastUpdatedCriterion,
    ListCriterion,
    MissingCriterion,
    NearCriterion,
    NotCriterion,
    NumberCriterion,
    QuantityCriterion,
    ReferenceCriterion,
    StringCriterion,
    TokenCriterion,
    UriCriterion,
    WordsCriterion,
    parts_of,
)
from app.fhir.positions import Circle
from app.fhir.quantities import QuantityAlternative
from app.records.tables import (
    index_composite,
    index_date,
    index_position,
    index_quantity,
    index_string,
    resource,
)

Shape = tuple[Any, ...]
Clause = sa.ColumnElement[bool]
_Column = sa.ColumnElement[Any]

INSTANT = TIMESTAMP(timezone=True)
KEYS = ARRAY(sa.BigInteger)
PATIENTS = sa.bindparam("patients", type_=KEYS)

_PREFIX = 60
"""Characters of a folded string that its index holds."""

_TOKENS = (TokenCriterion, ReferenceCriterion, UriCriterion)
_within = sa.func.keys_within(array([resource.c.patient_key]), resource.c.tokens, type_=KEYS)


class _Named:
    """In a shape: a criterion that only names the patient, which no index helps with."""


def by_token(shape: Shape) -> bool:
    """Whether an index on tokens finds what fulfils the criterion."""
    match shape:
        case (kind, parts) if kind is EveryCriterion:
            return any(map(by_token, parts))
        case (kind, parts) if kind is AnyCriterion:
            return bool(parts) and all(map(by_token, parts))
    return shape[0] in _TOKENS


# Shapes.


def shape_of(criterion: Criterion) -> Shape:
    match criterion:
        case ReferenceCriterion(names_the_patient=True):
            return (_Named, len(criterion.keys))
        case TokenCriterion() | ReferenceCriterion() | UriCriterion():
            return (type(criterion),)
        case IdCriterion():
            return (IdCriterion,)
        case DateCriterion(alternatives=found) | LastUpdatedCriterion(alternatives=found):
            return (type(criterion), tuple(one.prefix for one in found))
        case NumberCriterion(alternatives=numbers):
            return (NumberCriterion, tuple((one.prefix, "") for one in numbers))
        case QuantityCriterion(alternatives=quantities):
            return (QuantityCriterion, tuple((one.prefix, _unit_asked(one)) for one in quantities))
        case StringCriterion():
            return (StringCriterion, criterion.modifier, len(criterion.alternatives))
        case NearCriterion(alternatives=circles):
            return (NearCriterion, len(circles))
        case NotCriterion() | EveryCriterion() | AnyCriterion():
            return (type(criterion), tuple(map(shape_of, _parts_asked(criterion))))
        case MissingCriterion(missing=missing):
            return (MissingCriterion, missing)
        case CompositeCriterion(in_whole=whole, in_elements=elements):
            return (CompositeCriterion, _shapes(whole), _shapes(elements))
        case ChainCriterion() | HasCriterion() | ListCriterion() | HierarchyCriterion() | WordsCriterion():
            raise TypeError("what no index tells is settled before the store is asked")


def _parts_asked(criterion: Criterion) -> tuple[Criterion, ...]:
    """Its parts. One of several keys is one question of the index: those among alternatives are put together."""
    parts = parts_of(criterion)
    if not isinstance(criterion, AnyCriterion):
        return parts
    keys = tuple(key for part in parts if isinstance(part, _TOKENS) for key in part.keys)
    others = tuple(part for part in parts if not isinstance(part, _TOKENS))
    return (TokenCriterion("", (), keys), *others) if keys else others


def _shapes(alternatives: Iterable[Iterable[Criterion]]) -> tuple[tuple[Shape, ...], ...]:
    return tuple(tuple(shape_of(part) for part in parts) for parts in alternatives)


def _unit_asked(one: QuantityAlternative) -> str:
    """What of the unit is compared (``app.fhir.quantities.matches``)."""
    if one.canonical_unit:
        return "canonical"
    if one.system:
        return "system and code" if one.code else "system"
    return "code" if one.code else ""


# Values.


def values_of(name: str, criterion: Criterion) -> dict[str, Any]:
    match criterion:
        case TokenCriterion(keys=keys) | ReferenceCriterion(keys=keys) | UriCriterion(keys=keys):
            return {name: list(keys), f"{name}_texts": [str(key) for key in keys]} | _numbered(name, keys)
        case IdCriterion(ids):
            return {name: list(ids)}
        case DateCriterion(alternatives=found) | LastUpdatedCriterion(alternatives=found):
            return _of_param(name, criterion) | _each(name, found, "lo", "hi")
        case NumberCriterion(alternatives=numbers):
            return _of_param(name, criterion) | _each(name, numbers, "lo", "hi")
        case QuantityCriterion(alternatives=quantities):
            return _of_param(name, criterion) | _each(name, [*map(_compared, quantities)], *_OF_QUANTITY)
        case StringCriterion():
            return _of_param(name, criterion) | _string_values(name, criterion)
        case NearCriterion(alternatives=circles):
            return _of_param(name, criterion) | _near_values(name, circles)
        case NotCriterion() | EveryCriterion() | AnyCriterion():
            return _parts(name, [_parts_asked(criterion)])
        case MissingCriterion(key=key):
            return {name: key}
        case CompositeCriterion(in_whole=whole, in_elements=elements):
            return _of_param(name, criterion) | _parts(f"{name}_w", whole) | _parts(f"{name}_e", elements)
        case ChainCriterion() | HasCriterion() | ListCriterion() | HierarchyCriterion() | WordsCriterion():
            return {}


def _of_param(name: str, criterion: Any) -> dict[str, Any]:
    return {f"{name}_p": getattr(criterion, "param", None)}


def _numbered(name: str, values: Iterable[Any]) -> dict[str, Any]:
    return {f"{name}_{place}": value for place, value in enumerate(values)}


def _each(name: str, alternatives: Sequence[Any], *members: str) -> dict[str, Any]:
    return {
        f"{name}_{place}_{member}": getattr(one, member)
        for place, one in enumerate(alternatives)
        for member in members
    }


_OF_QUANTITY = ("lo", "hi", "system", "code", "canonical_unit")


def _compared(one: QuantityAlternative) -> QuantityAlternative:
    """With a canonical unit its bounds say it all."""
    if one.canonical_lo is None or one.canonical_hi is None:
        return one
    return QuantityAlternative(
        one.prefix,
        one.canonical_lo,
        one.canonical_hi,
        one.system,
        one.code,
        canonical_unit=one.canonical_unit,
    )


def _string_values(name: str, criterion: StringCriterion) -> dict[str, Any]:
    starts = [one[:_PREFIX] for one in criterion.folded]
    return (
        _numbered(name, criterion.alternatives)
        | {f"{name}_{place}_start": start for place, start in enumerate(starts)}
        | {f"{name}_{place}_end": start + "\U0010ffff" for place, start in enumerate(starts)}
    )


_EDGES = ("west", "south", "east", "north")


def _near_values(name: str, circles: Sequence[Circle]) -> dict[str, Any]:
    return _each(name, circles, "latitude", "longitude", "most") | {
        f"{name}_{place}_{box}_{edge}": getattr(circle.boxes[box], edge)
        for place, circle in enumerate(circles)
        for box in range(2)
        for edge in _EDGES
    }


def _parts(name: str, alternatives: Sequence[Sequence[Criterion]]) -> dict[str, Any]:
    return {
        key: value
        for place, parts in enumerate(alternatives)
        for part, criterion in enumerate(parts)
        for key, value in values_of(f"{name}{place}_{part}", criterion).items()
    }


# Conditions on a resource.


def clause_of(name: str, shape: Shape, *, bound: bool, indexed: bool = True) -> Clause:
    """``bound``: the question is bound to ``patients``. ``indexed``: an index may find what fulfils the criterion."""
    match shape:
        case (kind, *_) if kind is IdCriterion:
            return resource.c.id == sa.any_(sa.bindparam(name, type_=ARRAY(sa.Text)))
        case (kind, prefixes) if kind is LastUpdatedCriterion:
            # An instant is a range of one millisecond, its precision.
            lo = resource.c.last_updated
            return sa.or_(*_date_clauses(name, prefixes, lo, lo + sa.text("interval '1 millisecond'")))
        case (kind, count) if kind is _Named:
            return _has_one_of(name, count)
        case (kind, parts) if kind in _LOGICAL:
            indexed = indexed and by_token(shape)
            found = [
                clause_of(f"{name}0_{part}", shape, bound=bound, indexed=indexed)
                for part, shape in enumerate(parts)
            ]
            return _LOGICAL[kind](found)
        case (kind, missing) if kind is MissingCriterion:
            present = sa.bindparam(name, type_=sa.BigInteger) == sa.any_(resource.c.present)
            return sa.not_(present) if missing else present
        case (kind, *_) if kind in _TOKENS:
            return _token_clause(name, bound=bound and indexed)
        case (kind, whole, elements) if kind is CompositeCriterion:
            return sa.or_(
                sa.false(),
                *_whole_clauses(f"{name}_w", whole, bound=bound),
                *_element_clauses(name, elements, bound=bound),
            )
    table = _TABLES[shape[0]]
    return _has_row(table, name, bound, _row_clauses(name, shape, table.c))


_LOGICAL: Mapping[type, Callable[[Sequence[Clause]], Clause]] = {
    NotCriterion: lambda parts: sa.not_(parts[0]),
    EveryCriterion: lambda parts: sa.and_(sa.true(), *parts),
    AnyCriterion: lambda parts: sa.or_(sa.false(), *parts),
}

_TABLES: Mapping[type, sa.Table] = {
    DateCriterion: index_date,
    StringCriterion: index_string,
    NumberCriterion: index_quantity,
    QuantityCriterion: index_quantity,
    NearCriterion: index_position,
}


def _has_one_of(name: str, count: int) -> Clause:
    """Tested on each row; no index is asked."""
    keys = [sa.bindparam(f"{name}_{place}", type_=sa.BigInteger) for place in range(count)]
    return sa.or_(sa.false(), *(key == sa.any_(resource.c.tokens) for key in keys))


def _token_clause(name: str, *, bound: bool) -> Clause:
    asked = sa.bindparam(name, type_=KEYS)
    clause: Clause = (
        _within.overlap(sa.func.keys_within(PATIENTS, asked, type_=KEYS))
        if bound
        else resource.c.tokens.overlap(asked)
    )
    return clause


def _has_row(table: sa.Table, name: str, bound: bool, alternatives: Sequence[Clause]) -> Clause:
    scope = [
        table.c.resource_type == resource.c.resource_type,
        table.c.parameter == sa.bindparam(f"{name}_p", type_=sa.Text),
        table.c.patient_key == resource.c.patient_key,
        table.c.id == resource.c.id,
    ]
    if bound:
        scope.append(table.c.patient_key == sa.any_(PATIENTS))
    return sa.exists(sa.select(1).where(*scope, sa.or_(*alternatives)).correlate(resource))


def _whole_clauses(name: str, alternatives: Sequence[Sequence[Shape]], *, bound: bool) -> Iterable[Clause]:
    for place, parts in enumerate(alternatives):
        yield sa.and_(
            *(clause_of(f"{name}{place}_{part}", shape, bound=bound) for part, shape in enumerate(parts))
        )


def _element_clauses(name: str, alternatives: Sequence[Sequence[Shape]], *, bound: bool) -> Iterable[Clause]:
    if alternatives:
        found = [
            sa.and_(
                *(
                    _part_clause(f"{name}_e{place}_{part}", shape, index_composite.c.parts[part])
                    for part, shape in enumerate(parts)
                )
            )
            for place, parts in enumerate(alternatives)
        ]
        yield _has_row(index_composite, name, bound, found)


# Conditions on one part of an element, which is kept as JSON (``app.fhir.composites``).


def _part_clause(name: str, shape: Shape, part: Any) -> Clause:
    if shape[0] in _TOKENS:
        texts = sa.bindparam(f"{name}_texts", type_=ARRAY(sa.Text))
        return sa.func.jsonb_exists_any(part["tokens"], texts, type_=sa.Boolean)
    member, columns = _MEMBERS[shape[0]]
    rows = sa.func.jsonb_to_recordset(sa.func.coalesce(part[member], sa.cast(sa.literal("[]"), JSONB)))
    row = rows.table_valued(*columns).render_derived(with_types=True)
    return sa.exists(sa.select(1).select_from(row).where(sa.or_(*_row_clauses(name, shape, row.c))))


_QUANTITY_COLUMNS = (
    *(sa.column(name, sa.Numeric) for name in ("lo", "hi", "canonical_lo", "canonical_hi")),
    *(sa.column(name, sa.Text) for name in ("comparator", "system", "code", "unit", "canonical_unit")),
)
_MEMBERS: Mapping[type, tuple[str, tuple[sa.ColumnClause[Any], ...]]] = {
    DateCriterion: ("dates", (sa.column("lo", INSTANT), sa.column("hi", INSTANT))),
    StringCriterion: ("strings", (sa.column("folded", sa.Text), sa.column("exact", sa.Text))),
    NumberCriterion: ("quantities", _QUANTITY_COLUMNS),
    QuantityCriterion: ("quantities", _QUANTITY_COLUMNS),
}


# Conditions on a row, wherever it stands.


def _row_clauses(name: str, shape: Shape, row: Any) -> list[Clause]:
    """One for each alternative."""
    match shape:
        case (kind, prefixes) if kind is DateCriterion:
            return _date_clauses(name, prefixes, row.lo, row.hi)
        case (kind, modifier, count) if kind is StringCriterion:
            return [_string_clause(f"{name}_{place}", modifier, row) for place in range(count)]
        case (kind, count) if kind is NearCriterion:
            return [_near_clause(f"{name}_{place}", row) for place in range(count)]
        case (_, asked):
            return [
                _quantity_clause(f"{name}_{place}", prefix, unit, row)
                for place, (prefix, unit) in enumerate(asked)
            ]
    raise TypeError(shape)


def _date_clauses(name: str, prefixes: Sequence[str], lo: _Column, hi: _Column) -> list[Clause]:
    return [
        _DATES[prefix](
            lo,
            hi,
            sa.bindparam(f"{name}_{place}_lo", type_=INSTANT),
            sa.bindparam(f"{name}_{place}_hi", type_=INSTANT),
        )
        for place, prefix in enumerate(prefixes)
    ]


_DATES: Mapping[str, Callable[[_Column, _Column, _Column, _Column], Clause]] = {
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
    "co": lambda lo, hi, a, b: sa.and_(lo <= a, hi >= b),
}


def _quantity_clause(name: str, prefix: str, unit: str, row: Any) -> Clause:
    """``app.fhir.quantities.matches`` says what each prefix finds, and why."""
    canonical = unit == "canonical"
    lo, hi = (row.canonical_lo, row.canonical_hi) if canonical else (row.lo, row.hi)
    a, b = (sa.bindparam(f"{name}_{end}", type_=sa.Numeric) for end in ("lo", "hi"))
    return sa.and_(_unit_clause(name, unit, row), _NUMBERS[prefix](lo, hi, row.comparator, a, b))


def _unit_clause(name: str, unit: str, row: Any) -> Any:
    system, code, canonical = (
        sa.bindparam(f"{name}_{member}", type_=sa.Text) for member in ("system", "code", "canonical_unit")
    )
    match unit:
        case "canonical":
            return row.canonical_unit == canonical
        case "system and code":
            return sa.and_(row.system == system, row.code == code)
        case "system":
            return row.system == system
        case "code":
            return sa.or_(row.code == code, row.unit == code)
    return sa.true()


def _below(hi: _Column, comparator: _Column, a: _Column) -> Clause:
    return sa.or_(hi < a, sa.and_(hi == a, comparator == sa.literal("<")))


def _above(lo: _Column, comparator: _Column, a: _Column) -> Clause:
    return sa.or_(lo > a, sa.and_(lo == a, comparator == sa.literal(">")))


_NUMBERS: Mapping[str, Callable[[_Column, _Column, _Column, _Column, _Column], Clause]] = {
    "eq": lambda lo, hi, comparator, a, b: sa.and_(lo >= a, hi < b),
    "ne": lambda lo, hi, comparator, a, b: sa.not_(sa.and_(lo >= a, hi < b)),
    "gt": lambda lo, hi, comparator, a, b: hi > a,
    "lt": lambda lo, hi, comparator, a, b: lo < a,
    "ge": lambda lo, hi, comparator, a, b: sa.not_(_below(hi, comparator, a)),
    "le": lambda lo, hi, comparator, a, b: sa.not_(_above(lo, comparator, a)),
    "sa": lambda lo, hi, comparator, a, b: _above(lo, comparator, a),
    "eb": lambda lo, hi, comparator, a, b: _below(hi, comparator, a),
    "ap": lambda lo, hi, comparator, a, b: sa.and_(lo <= b, hi >= a),
}


def _near_clause(name: str, row: Any) -> Clause:
    """``app.fhir.positions.Circle.holds``."""
    latitude, longitude, most = (_double(f"{name}_{one}") for one in ("latitude", "longitude", "most"))
    north, east = sa.func.radians(row.latitude - latitude) / 2, sa.func.radians(row.longitude - longitude) / 2
    cosines = sa.func.cos(sa.func.radians(latitude)) * sa.func.cos(sa.func.radians(row.latitude))
    haversine = sa.func.power(sa.func.sin(north), 2) + cosines * sa.func.power(sa.func.sin(east), 2)
    place = sa.func.point(row.longitude, row.latitude)
    boxes = (place.op("<@", is_comparison=True)(_box(f"{name}_{box}")) for box in range(2))
    return sa.and_(sa.or_(*boxes), haversine <= most)


def _box(name: str) -> _Column:
    west, south, east, north = (_double(f"{name}_{edge}") for edge in _EDGES)
    return sa.func.box(sa.func.point(west, south), sa.func.point(east, north))


def _double(name: str) -> sa.BindParameter[float]:
    return sa.bindparam(name, type_=sa.Double)


def _string_clause(name: str, modifier: str, row: Any) -> Clause:
    text = sa.bindparam(name, type_=sa.Text)
    if modifier in _STRINGS:
        return _STRINGS[modifier](row.folded, text)
    start = sa.func.left(row.folded, _PREFIX)
    near = sa.and_(
        start >= sa.bindparam(f"{name}_start", type_=sa.Text),
        start < sa.bindparam(f"{name}_end", type_=sa.Text),
    )
    match modifier:
        case "exact":
            return sa.and_(near, row.exact == text)
        case "eq":
            return sa.and_(near, row.folded == text)
    return sa.and_(near, sa.func.starts_with(row.folded, text))


_STRINGS: Mapping[str, Callable[[_Column, _Column], Clause]] = {
    # The column's collation is C: strings are in the order of their code points.
    "contains": lambda folded, text: sa.func.strpos(folded, text) > 0,
    "ew": lambda folded, text: sa.func.right(folded, sa.func.length(text)) == text,
    "ne": lambda folded, text: folded != text,
    "gt": lambda folded, text: folded > text,
    "lt": lambda folded, text: folded < text,
    "ge": lambda folded, text: folded >= text,
    "le": lambda folded, text: folded <= text,
}
