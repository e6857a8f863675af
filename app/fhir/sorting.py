"""``_sort``: by any parameter, by several, what has no value last (R4 search, 3.1.1.5.2).

Of several values the least counts, in descending order the greatest. Tokens go by code, then system; quantities by
their value in UCUM's canonical unit where they have one; strings by what is compared when they are searched.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar

from app.fhir.fhirpath import Selector, selectors
from app.fhir.indexing import sinks_of
from app.fhir.parameters import parameters_of
from app.fhir.rows import Found, text_of

T = TypeVar("T")


class SortKey(NamedTuple):
    """One key of ``_sort``."""

    parameter: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Sortable:
    """What a resource is put in order by. ``place`` breaks ties: it differs for any two."""

    place: tuple[str, ...]
    last_updated: datetime | None
    body: Callable[[], Mapping[str, Any]]
    """Its parsed JSON, asked for only when a key looks at it."""
    base_url: str


def ordered(found: Iterable[T], keys: Sequence[SortKey], seen: Callable[[T], Sortable]) -> list[T]:
    """``found`` in the order of ``keys``, ties by place. A stable sort for each key, the last one first."""
    pairs = sorted(((seen(one), one) for one in found), key=lambda pair: pair[0].place)
    for key in reversed(keys):
        valued = [(_value(pair[0], key), pair) for pair in pairs]
        present = sorted(
            (one for one in valued if one[0] is not None), key=lambda one: one[0], reverse=key.descending
        )
        pairs = [pair for _, pair in present] + [pair for value, pair in valued if value is None]
    return [one for _, one in pairs]


SORTABLE_TYPES = frozenset({"date", "string", "token", "reference", "uri", "number", "quantity"})


def _value(one: Sortable, key: SortKey) -> Any:
    if key.parameter == "_lastUpdated":
        return one.last_updated
    body = one.body()
    if key.parameter == "_id":
        return body.get("id")
    values = list(_values(body, key.parameter, one.base_url))
    if not values:
        return None
    return max(values) if key.descending else min(values)


def _values(body: Mapping[str, Any], code: str, base_url: str) -> Iterable[Any]:
    """What the parameter finds, as values that compare with each other."""
    kind = parameters_of(body["resourceType"])[code].type
    if kind in ("token", "uri"):
        return (text for found in _ways(body["resourceType"], code) for text in _texts(found, body))
    found = Found(body, base_url)
    for sink in sinks_of(body["resourceType"], code):
        sink(body, found)
    match kind:
        case "date":
            return (row.lo for row in found.dates)
        case "string":
            return ((row.folded, row.exact) for row in found.strings if row.parameter == code)
        case "reference":
            return (f"{row.type}/{row.id}" if row.type else row.url or "" for row in found.references)
    return (row.lo if row.canonical_lo is None else row.canonical_lo for row in found.quantities)


@cache
def _ways(resource_type: str, code: str) -> tuple[Selector, ...]:
    return selectors(parameters_of(resource_type)[code].expression, resource_type)


def _texts(way: Selector, body: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Code and system of what is found, or the text itself."""
    for value in way.select(body):
        match value:
            case str():
                yield value, ""
            case bool():
                yield ("true" if value else "false"), ""
            case {"coding": list(codings)}:
                yield from (_coded(one, "code") for one in codings if text_of(one, "code"))
            case dict():
                name = "value" if "value" in value else "code"
                if text_of(value, name):
                    yield _coded(value, name)


def _coded(value: Mapping[str, Any], name: str) -> tuple[str, str]:
    return str(value[name]), text_of(value, "system") or ""
