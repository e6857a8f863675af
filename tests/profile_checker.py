"""Checks a resource against a profile, driven by the profile's own snapshot: enough of FHIR for BALP's AuditEvents.

Cardinality, slices (by value of a path, open or closed), fixed and pattern values, required bindings to value sets
that the definitions hold, targets of references, unknown elements, and the two kinds of invariant that BALP uses.
"""

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Element = dict[str, Any]


class Definitions:
    """Profiles and value sets from an NDJSON file of definitions."""

    def __init__(self, path: Path) -> None:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            found = [json.loads(line) for line in lines]
        self.profiles = {one["url"]: one for one in found if one["resourceType"] == "StructureDefinition"}
        self._value_sets = {one["url"]: one for one in found if one["resourceType"] == "ValueSet"}
        self._systems = {one["url"]: one for one in found if one["resourceType"] == "CodeSystem"}

    def allows(self, value_set: str, coding: dict[str, Any]) -> bool:
        """Whether ``coding`` is in the value set; true when the definitions do not hold that value set."""
        known = self._value_sets.get(value_set.partition("|")[0])
        return known is None or any(self._included(part, coding) for part in known["compose"]["include"])

    def _included(self, part: dict[str, Any], coding: dict[str, Any]) -> bool:
        if coding.get("system") != part["system"]:
            return False
        concepts = part.get("concept") or self._systems.get(part["system"], {}).get("concept")
        return concepts is None or coding.get("code") in {concept["code"] for concept in concepts}


class Checker:
    """Faults of resources against one profile; none means that the resource conforms."""

    def __init__(self, definitions: Definitions, profile: str) -> None:
        self._definitions = definitions
        elements = definitions.profiles[profile]["snapshot"]["element"]
        self._elements: dict[str, Element] = {element["id"]: element for element in elements}
        self._children: dict[str, list[Element]] = {}
        self._slices: dict[str, list[Element]] = {}
        for element in elements:
            parent, _, name = element["id"].rpartition(".")
            base, colon, _ = name.partition(":")
            if colon:
                self._slices.setdefault(f"{parent}.{base}", []).append(element)
            elif parent:
                self._children.setdefault(parent, []).append(element)

    def faults(self, resource: dict[str, Any]) -> list[str]:
        root = {key: value for key, value in resource.items() if key != "resourceType"}
        return list(self._inside(root, resource["resourceType"], resource))

    def _inside(self, value: Any, id: str, resource: dict[str, Any]) -> Iterator[str]:
        children = self._children.get(id, [])
        if children and isinstance(value, dict):
            names = {child["path"].rpartition(".")[2] for child in children}
            for key in value:
                if key not in names and not any(
                    key.startswith(name[:-3]) for name in names if name.endswith("[x]")
                ):
                    yield f"{id}.{key}: no such element"
        for child in children:
            yield from self._element(_get(value, child["path"].rpartition(".")[2]), child, resource)

    def _element(self, values: list[Any], element: Element, resource: dict[str, Any]) -> Iterator[str]:
        yield from self._count(values, element)
        for value in values:
            yield from self._value(value, element, resource)
        slices = self._slices.get(element["id"], [])
        if slices:
            yield from self._sliced(values, element, slices, resource)

    def _count(self, values: list[Any], element: Element) -> Iterator[str]:
        most = element["max"]
        if len(values) < element["min"] or (most != "*" and len(values) > int(most)):
            yield f"{element['id']}: {len(values)} where {element['min']}..{most} are allowed"

    def _value(self, value: Any, element: Element, resource: dict[str, Any]) -> Iterator[str]:
        id = element["id"]
        if not self._fits(value, element):
            yield f"{id}: not the value or code that is required"
        if not _refers_to(value, element):
            yield f"{id}: a reference to another type"
        for rule in element.get("constraint", []):
            if not _holds(rule.get("expression", ""), value, resource):
                yield f"{id}: {rule['key']}"
        yield from self._inside(value, id, resource)

    def _sliced(
        self, values: list[Any], element: Element, slices: list[Element], resource: dict[str, Any]
    ) -> Iterator[str]:
        slicing = element["slicing"]
        matched: set[int] = set()
        for one in slices:
            inside = [place for place, value in enumerate(values) if self._is_of(value, one, slicing)]
            matched.update(inside)
            yield from self._count([values[place] for place in inside], one)
            for place in inside:
                yield from self._value(values[place], one, resource)
        if slicing["rules"] == "closed" and len(matched) < len(values):
            yield f"{element['id']}: something outside the closed slices"

    def _is_of(self, value: Any, one: Element, slicing: dict[str, Any]) -> bool:
        for discriminator in slicing["discriminator"]:
            path = discriminator["path"]
            if path == "$this":
                found, decisive = [value], one
            else:
                found, decisive = _get(value, path), self._elements[f"{one['id']}.{path}"]
            if not found or not all(self._fits(item, decisive) for item in found):
                return False
        return True

    def _fits(self, value: Any, element: Element) -> bool:
        for key, wanted in element.items():
            if key.startswith("pattern") and not _contains(value, wanted):
                return False
            if key.startswith("fixed") and value != wanted:
                return False
        binding = element.get("binding", {})
        if binding.get("strength") != "required" or not isinstance(value, dict):
            return True
        codings = value.get("coding", []) if "coding" in value else [value]
        return any(self._definitions.allows(binding["valueSet"], coding) for coding in codings)


def _get(value: Any, name: str) -> list[Any]:
    if not isinstance(value, dict):
        return []
    if name.endswith("[x]"):
        return [found for key, found in value.items() if key.startswith(name[:-3])]
    found = value.get(name, [])
    return found if isinstance(found, list) else [found]


def _refers_to(value: Any, element: Element) -> bool:
    """Whether a literal reference is to one of the types that the element allows."""
    allowed = {
        target.rpartition("/")[2]
        for type in element.get("type", [])
        for target in type.get("targetProfile", [])
    }
    reference = value.get("reference", "") if isinstance(value, dict) else ""
    kind = reference.partition("/_history")[0].rpartition("/")[0].rpartition("/")[2]
    return not allowed or not kind or kind in allowed or "Resource" in allowed


def _contains(value: Any, wanted: Any) -> bool:
    """A pattern: what it states must be there, more may be."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            _contains(value.get(key), part) for key, part in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and all(
            any(_contains(item, part) for item in value) for part in wanted
        )
    return bool(value == wanted)


def _holds(expression: str, value: Any, resource: dict[str, Any]) -> bool:
    if expression == "$this.who = %resource.source.observer":
        return bool(value.get("who") == resource["source"]["observer"])
    if expression == "name.empty() or query.empty()":
        return not ("name" in value and "query" in value)
    return True
