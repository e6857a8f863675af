"""Composite parameters: "two values that belong together", found in one element (R4 search, 3.1.1.5.3).

A composite of a whole resource needs nothing kept of its own: where each component can be there once only, it is the
conjunction of ordinary parameters. What may repeat inside a resource (components, goals, relations) is kept element by
element.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.fhir.fhirpath import Get, Step, selectors
from app.fhir.parameters import Component, SearchParameter, parameters_of
from app.fhir.rows import Composite, IndexValues


@dataclass(frozen=True, slots=True)
class CompositePlan:
    """How one composite of one type is searched."""

    components: tuple[Component, ...]
    as_conjunction: tuple[str, ...]
    """Parameters of the type that say the same of the whole resource, one for each component; empty when none do."""
    by_element: bool
    """Whether rows of single elements have to be asked as well."""


@cache
def composite_plan(resource_type: str, code: str) -> CompositePlan:
    """Raises KeyError when ``code`` is no composite of the type."""
    parameter = parameters_of(resource_type)[code]
    if parameter.type != "composite":
        raise KeyError(code)
    bases = selectors(parameter.expression, resource_type)
    of_the_whole = any(not base.steps for base in bases)
    same = [_same_as(one, resource_type) if of_the_whole else None for one in parameter.components]
    conjunction = tuple(one for one in same if one is not None)
    if len(conjunction) < len(same):
        return CompositePlan(parameter.components, (), by_element=True)
    return CompositePlan(parameter.components, conjunction, any(base.steps for base in bases))


def _same_as(component: Component, resource_type: str) -> str | None:
    """The type's parameter that finds in the whole resource what the component finds, in elements that do not repeat.

    It may find a little more (``value-quantity`` finds SampledData too): the component's definition names it.
    """
    wanted = {(one.path, one.type) for one in selectors(component.expression, resource_type)}
    found = {
        code: ways
        for code, one in parameters_of(resource_type).items()
        if one.type == component.type and (ways := _ways(one, resource_type)) and wanted <= ways
    }
    return min(found, key=lambda code: (len(found[code]), code), default=None) if wanted else None


def _ways(parameter: SearchParameter, resource_type: str) -> set[tuple[tuple[str, ...], str]]:
    """Where a parameter looks, if it can find only one value in a resource; empty otherwise."""
    found = selectors(parameter.expression, resource_type) if parameter.expression else ()
    return {(one.path, one.type) for one in found} if all(_once(one.steps) for one in found) else set()


def _once(steps: tuple[Step, ...]) -> bool:
    return not any(isinstance(step, Get) and step.repeats and step.place is None for step in steps)


def kept_rows(composites: tuple[Composite, ...]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(parameter, one JSON object for each component) of every element."""
    return [(one.parameter, [_part(values) for values in one.components]) for one in composites]


def _part(values: IndexValues) -> dict[str, Any]:
    """Numbers, instants and keys as text: JSON has no infinity, and not every reader has 64 bits."""
    found: dict[str, Any] = {}
    if values.tokens:
        found["tokens"] = [str(key) for key in values.tokens]
    if values.dates:
        found["dates"] = [{"lo": row.lo.isoformat(), "hi": row.hi.isoformat()} for row in values.dates]
    if values.strings:
        found["strings"] = [{"folded": row.folded, "exact": row.exact} for row in values.strings]
    if values.quantities:
        found["quantities"] = [_numbers(row._asdict()) for row in values.quantities]
    return found


def _numbers(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(value)
        for name, value in row.items()
        if name not in ("parameter", "value") and value is not None
    }
