"""The values that a profile's rules look at: what stands where, and of which type (R4 json).

Nothing here fails, whatever the JSON: where a shape is not R4's, nothing is found. That shape is the base
check's business.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from app.fhir.definitions import RESOURCE_TYPES, is_primitive, type_definition
from app.fhir.findings import Place

Json = dict[str, Any]
Keys = tuple[tuple[str, str], ...]
"""JSON property and the type of what stands there; several for a choice."""


class Item:
    """One value in a resource."""

    __slots__ = ("companion", "kind", "place", "value")

    def __init__(self, value: Any, companion: Any, kind: str, place: Place) -> None:
        self.value = value
        """Parsed JSON; None for a primitive of which there are only extensions."""
        self.companion = companion
        """What stands under ``_name`` for a primitive."""
        self.kind = kind
        """FHIR type name, or a nested type's (``Patient.contact``); a resource's own type; empty when unknown."""
        self.place = place

    @property
    def holder(self) -> Json | None:
        """The JSON object that holds the children: for a primitive its ``_name``."""
        if self.value.__class__ is dict:
            return self.value
        return self.companion if self.companion.__class__ is dict else None


def whole(resource: Json) -> Item:
    """A resource that stands on its own."""
    kind = resource_type(resource)
    return Item(resource, None, kind, (None, kind or "Resource", None))


def resource_type(resource: Any) -> str:
    """The resource's type; empty when it is none of R4's."""
    name = resource.get("resourceType") if resource.__class__ is dict else None
    return name if name.__class__ is str and name in RESOURCE_TYPES else ""


@cache
def keys_of(kind: str, name: str) -> Keys:
    """Where an element of a type stands in JSON."""
    try:
        element = type_definition(kind).elements.get(name)
    except KeyError:
        element = None
    if element is None:
        return ((name, ""),)
    if element.is_choice:
        return tuple((name + type[0].upper() + type[1:], type) for type in element.types)
    return ((name, element.path_type or element.types[0]),)


def children(item: Item, name: str) -> list[Item]:
    """The values of the element ``name`` of ``item``, in order."""
    holder = item.holder
    if name == "value" and item.kind and is_primitive(item.kind):
        # A primitive's value is an element to a profile, though not to JSON.
        return [] if item.value is None else [Item(item.value, None, item.kind, item.place)]
    if holder is None:
        return []
    found: list[Item] = []
    for key, kind in keys_of(item.kind, name):
        value = holder.get(key)
        companion = holder.get("_" + key)
        if value is None and companion is None:
            continue
        if value.__class__ is list or companion.__class__ is list:
            found.extend(_listed(value, companion, kind, item.place, name))
        else:
            found.append(Item(value, companion, _actual(kind, value), (item.place, name, None)))
    return found


def _listed(values: Any, companions: Any, kind: str, place: Place, name: str) -> Iterator[Item]:
    values = values if values.__class__ is list else []
    companions = companions if companions.__class__ is list else []
    for index in range(max(len(values), len(companions))):
        value = values[index] if index < len(values) else None
        companion = companions[index] if index < len(companions) else None
        if value is not None or companion is not None:
            yield Item(value, companion, _actual(kind, value), (place, name, index))


def _actual(kind: str, value: Any) -> str:
    return resource_type(value) if kind == "Resource" else kind
