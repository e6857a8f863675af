"""What a ``_filter`` asks, as criteria: each comparison is the single search that it stands for (R4 search_filter).

"The compareOp is always evaluated against the set of values produced by evaluating the param path": so ``ne`` finds
what has another value, and ``pr false`` and ``ni`` deny the whole path.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

from app.errors import MalformedSearch
from app.fhir import criteria
from app.fhir.criteria import (
    AnyCriterion,
    ChainCriterion,
    Criterion,
    DateCriterion,
    EveryCriterion,
    LastUpdatedCriterion,
    NotCriterion,
    NotSupported,
    StringComparison,
)
from app.fhir.fhirpath import Get, selectors
from app.fhir.filter_syntax import Comparison, Filter, Junction, Negation, Operator, Step
from app.fhir.parameters import parameter, parameters_of

Asking = TypeVar("Asking", bound="Asked")


class Asked(Protocol):
    """What single searches of one resource type mean."""

    resource_type: str

    def check(self, name: str) -> None:
        """Raises NotSupported for what cannot be searched by, MalformedSearch for a modifier that never fits."""

    def plain(self, name: str, alternatives: Sequence[str]) -> Criterion:
        """What ``name=alternatives`` asks, each still escaped. Raises as ``check``, and MalformedSearch."""

    def chained(self: Asking, head: str, inner: Callable[[Asking], Criterion]) -> ChainCriterion:
        """``param`` or ``param:Type``, and what is asked of the type it refers to. Raises NotSupported, TooCostly."""


def criterion_of(found: Filter, asked: Asked) -> Criterion:
    """Raises MalformedSearch and NotSupported, which name the character, and TooCostly."""
    match found:
        case Junction("and", parts):
            return EveryCriterion(tuple(criterion_of(part, asked) for part in parts))
        case Junction(_, parts):
            return AnyCriterion(tuple(criterion_of(part, asked) for part in parts))
        case Negation(part):
            return NotCriterion(criterion_of(part, asked))
        case Comparison():
            with _placed(found):
                return _compared(found, asked)


_PLACED = "at character "


@contextmanager
def _placed(one: Comparison) -> Iterator[None]:
    """Errors say where the comparison begins; those of a filter in brackets have said it already."""
    where = f"{_PLACED}{one.start + 1}, "
    try:
        yield
    except MalformedSearch as error:
        if str(error).startswith(f"_filter: {_PLACED}"):
            raise
        raise MalformedSearch(f"_filter: {where}{error}") from error
    except NotSupported as error:
        if str(error).startswith(_PLACED):
            raise
        raise NotSupported(where + str(error)) from error


# Comparisons.


def _compared(one: Comparison, asked: Asked) -> Criterion:
    if not one.value:
        raise MalformedSearch("a value is needed.")
    match one.path:
        case (Step(name, only), Step(child, None)) if only and (asked.resource_type, name) in _GROUPED:
            return _grouped(asked, name, only, child, one)
    match one.operator:
        case "pr":
            present = _along(one.path, asked, _present)
            return present if _is_true(one.value) else NotCriterion(present)
        case "ni":
            return NotCriterion(_along(one.path, asked, lambda at, name: _single(at, name, "in", one.value)))
    return _along(one.path, asked, lambda at, name: _single(at, name, one.operator, one.value))


def _is_true(value: str) -> bool:
    if value not in ("true", "false"):
        raise MalformedSearch("pr is followed by true or false.")
    return value == "true"


def _along(path: Sequence[Step], asked: Asked, last: Callable[[Asked, str], Criterion]) -> Criterion:
    """``last`` asked of whatever the path leads to."""
    step, *onward = path
    if not onward:
        return last(asked, step.name)

    def inner(target: Asked) -> Criterion:
        found = _along(onward, target, last)
        return found if step.only is None else EveryCriterion((criterion_of(step.only, target), found))

    return asked.chained(step.name, inner)


_STRINGS: Mapping[Operator, StringComparison] = {
    "eq": "eq",
    "ne": "ne",
    "co": "contains",
    "sw": "",
    "ew": "ew",
    "gt": "gt",
    "lt": "lt",
    "ge": "ge",
    "le": "le",
}
_TOKENS: Mapping[Operator, str] = {"eq": "", "in": ":in", "ss": ":below", "sb": ":above"}


def _check(asked: Asked, name: str) -> None:
    if ":" in name:
        raise NotSupported("a filter has operators in the place of modifiers")
    try:
        asked.check(name)
    except NotSupported as error:
        raise NotSupported(f"{name[:64]}: {error}") from error


def _present(asked: Asked, name: str) -> Criterion:
    _check(asked, name)
    return asked.plain(f"{name}:missing", ["false"])


def _single(asked: Asked, name: str, operator: Operator, value: str) -> Criterion:
    """One parameter of the type itself."""
    _check(asked, name)
    found = parameter(asked.resource_type, name)
    kind = found.type if found and found.usage == "normal" and found.expression else "special"
    if name == "_lastUpdated":
        kind = "date"
    match kind:
        case "string" if operator in _STRINGS:
            return criteria.string(name, _STRINGS[operator], [criteria.escape(value)])
        case "number" | "quantity" if operator in criteria.PREFIXES:
            return asked.plain(name, [operator + _with_namespace(value, 1)])
        case "date":
            return _date(asked, name, operator, value)
        case "token" if operator in _TOKENS:
            return asked.plain(name + _TOKENS[operator], [_with_namespace(value, 0)])
        case "reference" if operator in ("re", "eq"):
            return asked.plain(name, [criteria.escape(value)])
        case "uri" if operator == "eq":
            return asked.plain(name, [criteria.escape(value)])
        case "token" | "reference" | "uri" if operator == "ne":
            return _another(asked, name, value)
        case "composite" | "special" if operator == "eq":
            return asked.plain(name, [value])
    raise NotSupported(f"{operator} is not answered for {name}, a parameter of type {kind}")


def _date(asked: Asked, name: str, operator: Operator, value: str) -> Criterion:
    """``po``: the periods overlap. ``co``: the period found includes the one stated."""
    if operator in criteria.PREFIXES:
        return asked.plain(name, [operator + value])
    if operator not in ("po", "co"):
        raise NotSupported(f"{operator} is not answered for {name}, a parameter of type date")
    found = asked.plain(name, ["ap" + value])
    if operator == "po" or not isinstance(found, DateCriterion | LastUpdatedCriterion):
        return found
    return replace(found, alternatives=tuple(replace(one, prefix="co") for one in found.alternatives))


def _another(asked: Asked, name: str, value: str) -> Criterion:
    """``ne``: there is a value, and it is another. Of several, keys do not tell whether one of them is another."""
    if not _is_single(asked.resource_type, name):
        raise NotSupported(
            f"ne is not answered for {name}, which may have several values; not({name} eq …) is what has none that is"
        )
    return EveryCriterion((_present(asked, name), NotCriterion(_single(asked, name, "eq", value))))


def _is_single(resource_type: str, name: str) -> bool:
    """Whether the parameter has one value at most: one element, of whatever type it may choose, that never repeats."""
    found = selectors(parameters_of(resource_type)[name].expression, resource_type)
    names = {one.element.name if one.element else "" for one in found}
    parents = {one.path[:-1] for one in found}
    repeats = any(
        step.repeats and step.place is None for one in found for step in one.steps if isinstance(step, Get)
    )
    return len(names) == len(parents) == 1 and not repeats


_NAMESPACES = {
    "loinc": "http://loinc.org",
    "snomed": "http://snomed.info/sct",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ucum": "http://unitsofmeasure.org",
}
"""Names that R4 has defined for use in a filter."""


def _with_namespace(value: str, place: int) -> str:
    """``value`` with the namespace in full whose short name stands at ``place`` between the bars."""
    parts = criteria.split(value, "|")
    if len(parts) > place + 1:
        parts[place] = _NAMESPACES.get(parts[place], parts[place])
    return "|".join(parts)


# Names that R4 has added for filters, where search parameters of today stand for them ("Additional Parameters").

_GROUPED: Mapping[tuple[str, str], tuple[str, tuple[str, str]]] = {
    ("Group", "characteristic"): ("characteristic-value", ("code", "value")),
    ("DocumentReference", "relatesTo"): ("relationship", ("code", "target")),
}
"""The composite whose components the two names are, in its order."""


def _grouped(asked: Asked, name: str, only: Filter, child: str, one: Comparison) -> Criterion:
    """``relatesTo[code eq replaces].target re DocumentReference/1``: both of the same element."""
    composite, (first, second) = _GROUPED[asked.resource_type, name]
    match only:
        case Comparison((Step(other, None),), "eq" | "re") if {other, child} == {first, second}:
            values = {other: only.value, child: one.value}
            if one.operator in ("eq", "re"):
                return asked.plain(
                    composite, ["$".join(_component(values[part]) for part in (first, second))]
                )
    raise NotSupported(f"of {name} only {first} and {second} are compared, each by eq or re")


def _component(value: str) -> str:
    return "\\$".join(criteria.split(_with_namespace(value, 0), "$"))
