"""Profiles, value sets and examples that others have published: from files of definitions in the shared data."""

import json
import lzma
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.fhir.profiles.conformance import Library
from app.fhir.profiles.scene import Codes

Json = dict[str, Any]


def resources(path: Path) -> Iterator[Json]:
    """Of an NDJSON file, or of the Bundle in a JSON file; both compressed."""
    is_bundle = path.name.endswith(".json.xz")
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            resource = json.loads(line, parse_float=Decimal)
            if is_bundle:
                yield from (entry["resource"] for entry in resource["entry"])
            else:
                yield resource


class Published:
    """What some files of definitions hold, by canonical."""

    def __init__(self, *paths: Path) -> None:
        found = [resource for path in paths for resource in resources(path)]
        self.structures = _by_url(found, "StructureDefinition")
        self._value_sets = _by_url(found, "ValueSet")
        self._systems = _by_url(found, "CodeSystem")
        self._members: dict[str, Codes | None] = {}
        self.library = Library(self.structures.get)

    def members(self, value_set: str) -> Codes | None:
        """A value set's codes; None when the files do not hold it or it cannot be enumerated from them."""
        if value_set not in self._members:
            self._members[value_set] = None  # while it is looked for, and if it contains itself
            self._members[value_set] = self._enumerated(value_set)
        return self._members[value_set]

    def _enumerated(self, value_set: str) -> Codes | None:
        known = self._value_sets.get(value_set)
        if known is None or "compose" not in known or "exclude" in known["compose"]:
            return None
        parts = [self._included(part) for part in known["compose"]["include"]]
        return None if None in parts else frozenset().union(*(part for part in parts if part is not None))

    def _included(self, part: Json) -> Codes | None:
        if "filter" in part or "valueSet" in part:
            [named] = part.get("valueSet", [""])[:1]
            return None if "filter" in part or "system" in part else self.members(named.partition("|")[0])
        system = part["system"]
        if "concept" in part:
            return frozenset((system, concept["code"]) for concept in part["concept"])
        known = self._systems.get(system)
        if known is None or known.get("content") != "complete":
            return None
        return frozenset((system, code) for code in _codes(known.get("concept", [])))


def _by_url(found: list[Json], kind: str) -> Mapping[str, Json]:
    return {one["url"]: one for one in reversed(found) if one["resourceType"] == kind and "url" in one}


def _codes(concepts: list[Json]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _codes(concept.get("concept", []))
