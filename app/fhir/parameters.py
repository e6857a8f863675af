"""R4's search parameters by resource type (HL7's SearchParameter definitions, 4.0.1).

Read from ``r4/search-parameters.json.xz`` (``scripts/derive_search_parameters.py`` derives it). The table is
part of the package; that reading is the only I/O here.
"""

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from app.fhir.definitions import RESOURCE_TYPES, type_definition

ParameterType = Literal[
    "number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"
]

_TABLE = Path(__file__).with_name("r4") / "search-parameters.json.xz"


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a composite; ``expression`` starts at the composite's own element."""

    code: str
    type: ParameterType
    expression: str


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """One parameter as it stands for one resource type."""

    code: str
    type: ParameterType
    expression: str
    """FHIRPath for every base type at once; empty for ``_text``, ``_content`` and ``_query``."""
    targets: tuple[str, ...]
    """Resource types that a reference may name; empty means the parameter does not say."""
    components: tuple[Component, ...]
    usage: str
    """``normal``, ``phonetic`` or ``nearby`` (SearchParameter.xpathUsage)."""
    documentation: str


@cache
def parameters_of(resource_type: str) -> Mapping[str, SearchParameter]:
    """Code → parameter, those of every Resource included. Raises KeyError for an unknown type."""
    if resource_type not in RESOURCE_TYPES:
        raise KeyError(resource_type)
    bases = {resource_type, "Resource", str(type_definition(resource_type).base)}
    return {row["code"]: _parameter(row, resource_type) for row in _table() if bases & row["base"]}


def parameter(resource_type: str, code: str) -> SearchParameter | None:
    """The type's parameter called ``code``, without a modifier; None when R4 has none."""
    return parameters_of(resource_type).get(code)


def _parameter(row: Mapping[str, Any], resource_type: str) -> SearchParameter:
    doc = row["doc"]
    return SearchParameter(
        code=row["code"],
        type=row["type"],
        expression=row.get("expression", ""),
        targets=tuple(row.get("target", ())),
        components=tuple(Component(*fields) for fields in row.get("component", ())),
        usage=row.get("usage", "normal"),
        documentation=doc if isinstance(doc, str) else doc.get(resource_type, ""),
    )


@cache
def _table() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(lzma.decompress(_TABLE.read_bytes()))
    for row in rows:
        row["base"] = frozenset(row["base"])
    return rows
