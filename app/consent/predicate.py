"""Conditions on facets: one small tree with two evaluators, in memory here and in SQL by ``residual``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from app.fhir.facets import Facets

KeyColumn = Literal["codes", "kinds", "authors", "edges"]
Test = Callable[[Facets], bool]


@dataclass(frozen=True, slots=True)
class Constant:
    holds: bool


@dataclass(frozen=True, slots=True)
class And:
    parts: "tuple[Predicate, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    parts: "tuple[Predicate, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    part: "Predicate"


@dataclass(frozen=True, slots=True)
class TypeIn:
    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class IdIs:
    resource_type: str
    id: str


@dataclass(frozen=True, slots=True)
class CustodianIn:
    codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class LevelBetween:
    """Confidentiality from ``lowest`` to ``highest``, both included; 0 is unlabelled."""

    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class Sensitive:
    """Any of these sensitivities."""

    codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Any of these keys in a column."""

    column: KeyColumn
    keys: frozenset[int]


@dataclass(frozen=True, slots=True)
class Empty:
    column: KeyColumn


@dataclass(frozen=True, slots=True)
class Undated:
    pass


@dataclass(frozen=True, slots=True)
class Meets:
    """The relevant interval has an instant in [start, end); None is open. Never for undated data."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Within:
    """The relevant interval lies in [start, end) with all its instants; None is open. Never for undated data."""

    start: datetime | None
    end: datetime | None


Atom = TypeIn | IdIs | CustodianIn | LevelBetween | Sensitive | Overlaps | Empty | Undated | Meets | Within
Predicate = Constant | And | Or | Not | Atom

TRUE: Final = Constant(True)
FALSE: Final = Constant(False)


def all_of(*parts: Predicate) -> Predicate:
    return _joined(parts, And, neutral=TRUE, absorbing=FALSE)


def any_of(*parts: Predicate) -> Predicate:
    return _joined(parts, Or, neutral=FALSE, absorbing=TRUE)


def negated(part: Predicate) -> Predicate:
    match part:
        case Constant(holds):
            return FALSE if holds else TRUE
        case Not(inner):
            return inner
    return Not(part)


def _joined(
    parts: Iterable[Predicate], kind: type[And] | type[Or], *, neutral: Constant, absorbing: Constant
) -> Predicate:
    """The parts without what adds nothing, in their order; one that decides alone decides."""
    kept: dict[Predicate, None] = {}
    for part in parts:
        for one in part.parts if isinstance(part, kind) else (part,):
            if one == absorbing:
                return absorbing
            if one != neutral:
                kept[one] = None
    if any(isinstance(one, Not) and one.part in kept for one in kept):
        return absorbing
    return kind(tuple(kept)) if len(kept) > 1 else next(iter(kept), neutral)


def specialised(predicate: Predicate, facets: Facets) -> Predicate:
    """What is left of a condition for every resource of the same type, custodian and labels as this one."""
    match predicate:
        case And(parts):
            return all_of(*(specialised(part, facets) for part in parts))
        case Or(parts):
            return any_of(*(specialised(part, facets) for part in parts))
        case Not(part):
            return negated(specialised(part, facets))
        case TypeIn() | CustodianIn() | LevelBetween() | Sensitive():
            return TRUE if test_of(predicate)(facets) else FALSE
        case IdIs(resource_type, _) if resource_type != facets.resource_type:
            return FALSE
    return predicate


def test_of(predicate: Predicate) -> Test:
    """The condition as a function of one resource's facets."""
    match predicate:
        case Constant(holds):
            return lambda facets: holds
        case And(parts):
            return _both(parts)
        case Or(parts):
            return _either(parts)
        case Not(part):
            inner = test_of(part)
            return lambda facets: not inner(facets)
    return _test_of_atom(predicate)


def _both(parts: tuple[Predicate, ...]) -> Test:
    first, rest = test_of(parts[0]), test_of(all_of(*parts[1:]))
    return lambda facets: first(facets) and rest(facets)


def _either(parts: tuple[Predicate, ...]) -> Test:
    first, rest = test_of(parts[0]), test_of(any_of(*parts[1:]))
    return lambda facets: first(facets) or rest(facets)


def _test_of_atom(atom: Atom) -> Test:
    match atom:
        case TypeIn(types):
            return lambda facets: facets.resource_type in types
        case IdIs(resource_type, id):
            return lambda facets: facets.id == id and facets.resource_type == resource_type
        case CustodianIn(codes):
            return lambda facets: facets.custodian in codes
        case LevelBetween(lowest, highest):
            return lambda facets: lowest <= facets.confidentiality <= highest
        case Sensitive(codes):
            return lambda facets: not codes.isdisjoint(facets.sensitivity)
        case Overlaps(column, keys):
            return _overlap_test(column, keys)
        case Empty(column):
            return lambda facets: not getattr(facets, column)
        case Undated():
            return lambda facets: facets.relevant_from is None and facets.relevant_until is None
        case Meets(start, end):
            return _meets_test(start, end)
        case Within(start, end):
            return _within_test(start, end)


def _overlap_test(column: KeyColumn, keys: frozenset[int]) -> Test:
    match column:
        case "codes":
            return lambda facets: not keys.isdisjoint(facets.codes)
        case "kinds":
            return lambda facets: not keys.isdisjoint(facets.kinds)
        case "authors":
            return lambda facets: not keys.isdisjoint(facets.authors)
        case "edges":
            return lambda facets: not keys.isdisjoint(facets.edges)


def _meets_test(start: datetime | None, end: datetime | None) -> Test:
    def meets(facets: Facets) -> bool:
        first, until = facets.relevant_from, facets.relevant_until
        if first is None and until is None:
            return False
        return (first is None or end is None or first < end) and (
            until is None or start is None or until > start
        )

    return meets


def _within_test(start: datetime | None, end: datetime | None) -> Test:
    def within(facets: Facets) -> bool:
        first, until = facets.relevant_from, facets.relevant_until
        if first is None and until is None:
            return False
        return (start is None or (first is not None and first >= start)) and (
            end is None or (until is not None and until <= end)
        )

    return within
