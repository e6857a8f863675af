"""The code systems and value sets that are published with R4 4.0.1, read when they are first asked for.

``scripts/derive_terminology.py`` derives the tables and says how they are written. They are part of the package; that
reading is the only I/O here. What is kept in memory is bounded: the index once anything is asked for, and what was
asked for last.
"""

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from app.fhir.concepts import CodeSystem, Concept, Designation, Property, code_system, concept
from app.fhir.valuesets import Filter, Listed, Part, ValueSet

Kind = Literal["CodeSystem", "ValueSet"]

_TABLES = Path(__file__).with_name("r4")


@dataclass(frozen=True, slots=True)
class Published:
    """A line of the index."""

    offset: int
    length: int
    version: str | None
    content: str | None
    """Of a code system: R4's codesystem-content-mode."""
    has_hierarchy: bool
    value_set: str | None
    """Of a code system: the canonical of the value set of all its codes, when that is not published itself."""


@cache
def index() -> Mapping[tuple[Kind, str], Published]:
    """(kind, URL) → what is published, in code point order."""
    lines = lzma.decompress((_TABLES / "terminology-index.tsv.xz").read_bytes()).splitlines()
    cells = (line.decode().split("\t") for line in lines)
    return {_name(kind, url): _published(json.loads(entry)) for kind, url, entry in cells}


@cache
def whole_systems() -> Mapping[str, str]:
    """Canonical of a value set of all codes that is not published itself → URL of the code system."""
    return {one.value_set: url for (_, url), one in index().items() if one.value_set}


@lru_cache(maxsize=64)
def packaged_code_system(url: str) -> CodeSystem | None:
    row = _row("CodeSystem", url)
    return None if row is None else _code_system(url, row)


@lru_cache(maxsize=256)
def packaged_value_set(url: str) -> ValueSet | None:
    row = _row("ValueSet", url)
    return None if row is None else _value_set(url, row)


def _name(kind: str, url: str) -> tuple[Kind, str]:
    return ("CodeSystem" if kind == "CodeSystem" else "ValueSet"), url


def _published(entry: Mapping[str, Any]) -> Published:
    offset, length = entry["at"]
    return Published(
        offset,
        length,
        entry.get("version"),
        entry.get("content"),
        entry.get("hierarchy", False),
        entry.get("valueSet"),
    )


def _row(kind: Kind, url: str) -> dict[str, Any] | None:
    found = index().get((kind, url))
    if found is None:
        return None
    start = f"{url}\t".encode()
    for line in _stream(found.offset, found.length).splitlines():
        if line.startswith(start):
            row: dict[str, Any] = json.loads(line[len(start) :])
            return row
    raise ValueError(f"the table does not hold what its index says: {url}")


@lru_cache(maxsize=4)
def _stream(offset: int, length: int) -> bytes:
    """The lines of one stream, some 256 kB."""
    with (_TABLES / "terminology.tsv.xz").open("rb") as table:
        table.seek(offset)
        return lzma.decompress(table.read(length))


def _code_system(url: str, row: Mapping[str, Any]) -> CodeSystem:
    codes = row.get("code", [])
    return code_system(
        _concepts(row, codes),
        url=url,
        content=row["content"],
        version=row.get("version"),
        name=row.get("name"),
        title=row.get("title"),
        case_sensitive=row.get("caseSensitive"),
        hierarchy_meaning=row.get("hierarchyMeaning"),
        value_set=row.get("valueSet"),
    )


def _concepts(row: Mapping[str, Any], codes: Sequence[str]) -> list[Concept]:
    blank = [None] * len(codes)
    displays, definitions = row.get("display", blank), row.get("definition", blank)
    parents = row.get("parent", [[]] * len(codes))
    properties = _by_place(row.get("property", ()), lambda code, kind, value: Property(code, kind, value))
    designations = _designations(row)
    return [
        concept(
            code,
            display=displays[place],
            definition=displays[place] if definitions[place] is True else definitions[place],
            parents=tuple(codes[parent] for parent in parents[place]),
            properties=properties.get(place, ()),
            designations=designations.get(place, ()),
            meaning={},
        )
        for place, code in enumerate(codes)
    ]


def _designations(row: Mapping[str, Any]) -> Mapping[int, tuple[Designation, ...]]:
    def designation(language: str | None, use: dict[str, str] | None, value: str) -> Designation:
        coded = (use.get("system"), use.get("code"), use.get("display")) if use else None
        return Designation(value, language, coded)

    return _by_place(row.get("designation", ()), designation)


def _by_place(rows: Sequence[Sequence[Any]], make: Any) -> Mapping[int, tuple[Any, ...]]:
    found: dict[int, list[Any]] = {}
    for place, *fields in rows:
        found.setdefault(place, []).append(make(*fields))
    return {place: tuple(made) for place, made in found.items()}


def _value_set(url: str, row: Mapping[str, Any]) -> ValueSet:
    return ValueSet(
        url=url,
        includes=tuple(_part(part) for part in row["include"]),
        excludes=tuple(_part(part) for part in row.get("exclude", ())),
        version=row.get("version"),
        name=row.get("name"),
        title=row.get("title"),
        status=row.get("status"),
        experimental=row.get("experimental"),
        copyright=row.get("copyright"),
        inactive=row.get("inactive"),
        locked=row.get("locked"),
        expansion=tuple(_part(part) for part in row["expansion"]) if "expansion" in row else None,
    )


def _part(row: Mapping[str, Any]) -> Part:
    codes = row.get("code", [])
    displays, designations = row.get("display", [None] * len(codes)), _designations(row)
    return Part(
        row.get("system"),
        row.get("version"),
        tuple(Listed(code, displays[place], designations.get(place, ())) for place, code in enumerate(codes)),
        tuple(Filter(*fields) for fields in row.get("filter", ())),
        tuple(row.get("valueSet", ())),
    )
