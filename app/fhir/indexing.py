"""Index values: all that R4's search parameters find in a resource, extracted once when it is written.

Each type's parameters are compiled when the type is first met, and grouped by the JSON property they start at, so
that a resource pays for the elements it has.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.fhir.composites import composite_plan
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.fhirpath import Selector, Sink, selectors
from app.fhir.keys import present_key
from app.fhir.parameters import Component, SearchParameter, parameters_of
from app.fhir.rows import (
    Composite,
    DateRow,
    Found,
    IndexValues,
    Position,
    QuantityRow,
    Reference,
    StringRow,
)
from app.fhir.writers import MAKERS, WITHOUT_ROWS

__all__ = [
    "NOT_EXTRACTED",
    "RULES",
    "Composite",
    "DateRow",
    "IndexValues",
    "Position",
    "QuantityRow",
    "Reference",
    "StringRow",
    "extract",
    "references_of",
    "sinks_of",
]

RULES = 2
"""Number of the rules by which index values are written. One more whenever they change: what was kept under older ones
is indexed anew by ``candour migrate``.
"""

NOT_EXTRACTED: Mapping[str, str] = {
    "_lastUpdated": "the store stamps it and keeps it in a column",
    "_text": "full text is not indexed",
    "_content": "full text is not indexed",
    "_query": "names an operation, not a value",
}
"""Parameters of R4 without index values, and why."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to write for one type: by the property that must be there, and what must always be tried."""

    by_property: Mapping[str, Sequence[Sink]]
    always: Sequence[Sink]


def extract(resource: Mapping[str, Any], base_url: str) -> IndexValues:
    """All index values of ``resource``, parsed JSON with numbers as int or Decimal.

    ``base_url`` (no trailing slash) tells references to our own records from others. Whatever stands in the
    resource, this does not fail; a shape that is not R4's leaves no values. Raises KeyError when
    ``resourceType`` is not one of R4's.
    """
    plan = _plan(resource["resourceType"])
    found = Found(resource, base_url)
    for name in resource:
        for write in plan.by_property.get(name, ()):
            write(resource, found)
    for write in plan.always:
        write(resource, found)
    return found.values()


@cache
def _plan(resource_type: str) -> _Plan:
    if resource_type not in RESOURCE_TYPES:
        raise KeyError(resource_type)
    by_property: dict[str, list[Sink]] = {}
    always: list[Sink] = []
    for parameter in parameters_of(resource_type).values():
        if parameter.code in NOT_EXTRACTED:
            continue
        for needs, sink in _sinks(parameter, resource_type):
            (always if needs is None else by_property.setdefault(needs, [])).append(sink)
    return _Plan(by_property, always)


def _sinks(parameter: SearchParameter, resource_type: str) -> list[tuple[str | None, Sink]]:
    """(property needed, what to do with the resource) for every way of the expression."""
    found = selectors(parameter.expression, resource_type)
    if parameter.type == "composite":
        plan = composite_plan(resource_type, parameter.code)
        kept = [one for one in found if one.steps or not plan.as_conjunction]
        return [pair for one in kept for pair in _composite_sinks(parameter, one, resource_type)]
    return [(one.needs, one.walk(_noting(parameter.code, _writer(parameter, one)))) for one in found]


@cache
def sinks_of(resource_type: str, code: str) -> tuple[Sink, ...]:
    """What writes the values of one parameter. Raises KeyError for one that the type does not have."""
    return tuple(sink for _, sink in _sinks(parameters_of(resource_type)[code], resource_type))


def references_of(resource: Mapping[str, Any], codes: Iterable[str], base_url: str) -> tuple[Reference, ...]:
    """Where the reference parameters ``codes`` of ``resource`` point to, in document order of each, each once."""
    found = Found(resource, base_url)
    for code in codes:
        for sink in sinks_of(resource["resourceType"], code):
            sink(resource, found)
    return tuple(dict.fromkeys(found.references))


def _writer(parameter: SearchParameter, found: Selector) -> Sink | None:
    kind = "phonetic" if parameter.usage == "phonetic" else parameter.type
    return next((sink for _, sink in _writers(parameter.code, kind, [found])), None)


def _writers(code: str, kind: str, found: Sequence[Selector]) -> list[tuple[Selector, Sink]]:
    return [
        (one, MAKERS[kind][one.type](code, one.element))
        for one in found
        if (kind, one.type) not in WITHOUT_ROWS
    ]


def _noting(code: str, then: Sink | None) -> Sink:
    """Notes that the parameter has a value, for ``:missing``, whatever comes of it."""
    key = present_key(code)

    def note(value: Any, found: Found) -> None:
        found.present.add(key)
        if then is not None:
            then(value, found)

    return note


def _composite_sinks(
    parameter: SearchParameter, base: Selector, resource_type: str
) -> list[tuple[str | None, Sink]]:
    parts = [_component(component, base.type, resource_type) for component in parameter.components]
    sinks = [[sink for _, sink in part] for part in parts]
    sink = base.walk(_composite(parameter.code, sinks))
    if base.steps:
        return [(base.needs, sink)]
    # The composite of a whole resource is tried only when its last component, the value, is there.
    return [(needs, sink) for needs in dict.fromkeys(needs for needs, _ in parts[-1])]


def _component(component: Component, context: str, resource_type: str) -> list[tuple[str | None, Sink]]:
    found = selectors(component.expression, context, resource_type)
    return [
        (one.needs, _from_resource(one.walk(sink)) if one.from_resource else one.walk(sink))
        for one, sink in _writers(component.code, component.type, found)
    ]


def _from_resource(walk: Sink) -> Sink:
    return lambda _, found: walk(found.resource, found)


def _composite(code: str, parts: Sequence[Sequence[Sink]]) -> Sink:
    """Writes a row when every part of the composite has a value in the same element."""

    def write(value: Any, found: Found) -> None:
        components: list[IndexValues] = []
        # The last component first: it is the value, and the one most often absent.
        for sinks in reversed(parts):
            part = Found(found.resource, found.base_url)
            for sink in sinks:
                sink(value, part)
            values = part.values()
            if not any(values):
                return
            components.append(values)
        found.composites.append(Composite(code, tuple(reversed(components))))

    return write
