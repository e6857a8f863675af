"""Conditions on facets: one small tree with two evaluators, in memory here and in SQL by ``residual``."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
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
class IdIn:
    resource_type: str
    ids: frozenset[str]


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
    """The relevant interval has an instant in one of the spans. Never for undated data."""

    spans: tuple["Span", ...]
    """[start, end) each, apart from one another and in order; None is open."""


@dataclass(frozen=True, slots=True)
class Within:
    """The relevant interval lies in [start, end) with all its instants; None is open. Never for undated data."""

    start: datetime | None
    end: datetime | None


Span = tuple[datetime | None, datetime | None]

Atom = TypeIn | IdIn | CustodianIn | LevelBetween | Sensitive | Overlaps | Empty | Undated | Meets | Within
Predicate = Constant | And | Or | Not | Atom

_FEW: Final = 8
"""Repetitions are looked for among so many conditions; among more the search would cost more than it saves."""

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)

TRUE: Final = Constant(True)
FALSE: Final = Constant(False)
"""The only two constants: they are compared by identity."""


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
    kept: list[Predicate] = []
    for part in parts:
        if part is absorbing:
            return absorbing
        if isinstance(part, kind):
            kept.extend(part.parts)
        elif part is not neutral:
            kept.append(part)
    if kind is Or and len(kept) > 1:
        kept = _merged(kept)
    return kind(tuple(kept)) if len(kept) > 1 else kept[0] if kept else neutral


def _merged(parts: list[Predicate]) -> list[Predicate]:
    """One look at a column instead of many: the keys that any of the parts asks for, together."""
    keys: dict[KeyColumn, set[int]] = {}
    sensitivities: set[str] = set()
    ids: dict[str, set[str]] = {}
    spans: list[Span] = []
    others: list[Predicate] = []
    for part in parts:
        match part:
            case Overlaps(column, wanted):
                keys.setdefault(column, set()).update(wanted)
            case Sensitive(codes):
                sensitivities |= codes
            case IdIn(resource_type, named):
                ids.setdefault(resource_type, set()).update(named)
            case Meets(more):
                spans.extend(more)
            case _ if len(others) > _FEW or part not in others:
                others.append(part)
    if len(others) == len(parts):
        return others
    labels = [Sensitive(frozenset(sensitivities))] if sensitivities else []
    instances = [IdIn(resource_type, frozenset(named)) for resource_type, named in ids.items()]
    periods = [Meets(_united(spans))] if spans else []
    columns = [Overlaps(column, frozenset(wanted)) for column, wanted in keys.items()]
    return [*labels, *others, *instances, *periods, *columns]


def _united(spans: list[Span]) -> tuple[Span, ...]:
    """The same instants in as few spans as possible, in order."""
    united: list[Span] = []
    for start, end in sorted(spans, key=lambda span: span[0] or _EARLIEST):
        before = united[-1] if united else None
        if before is None or (before[1] is not None and start is not None and start > before[1]):
            united.append((start, end))
        elif before[1] is not None and (end is None or end > before[1]):
            united[-1] = (before[0], end)
    return tuple(united)


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
        case IdIn(resource_type, _) if resource_type != facets.resource_type:
            return FALSE
    return predicate


def test_of(predicate: Predicate) -> Test:
    """The condition as a function of one resource's facets."""
    match predicate:
        case Constant(holds):
            return lambda facets: holds
        case And(parts):
            return _test_of_all(parts)
        case Or(parts):
            return _test_of_any(parts)
        case Not(part):
            inner = test_of(part)
            return lambda facets: not inner(facets)
    return _test_of_atom(predicate)


# In halves: as deep as the logarithm of their number, however many rules there are.


def _test_of_all(parts: tuple[Predicate, ...]) -> Test:
    if len(parts) == 1:
        return test_of(parts[0])
    half = len(parts) // 2
    first, second = _test_of_all(parts[:half]), _test_of_all(parts[half:])
    return lambda facets: first(facets) and second(facets)


def _test_of_any(parts: tuple[Predicate, ...]) -> Test:
    if len(parts) == 1:
        return test_of(parts[0])
    half = len(parts) // 2
    first, second = _test_of_any(parts[:half]), _test_of_any(parts[half:])
    return lambda facets: first(facets) or second(facets)


def _test_of_atom(atom: Atom) -> Test:
    match atom:
        case TypeIn(types):
            return lambda facets: facets.resource_type in types
        case IdIn(resource_type, ids):
            return lambda facets: facets.id in ids and facets.resource_type == resource_type
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
        case Meets(spans):
            return _meets_test(spans)
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


def _meets_test(spans: tuple[Span, ...]) -> Test:
    starts = [start or _EARLIEST for start, _ in spans]
    ends = [end or _LATEST for _, end in spans]

    def meets(facets: Facets) -> bool:
        first, until = facets.relevant_from, facets.relevant_until
        if first is None and until is None:
            return False
        # The last span that starts before the data ends also ends last of those that do.
        last = bisect_left(starts, until or _LATEST) - 1
        return last >= 0 and ends[last] > (first or _EARLIEST)

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
