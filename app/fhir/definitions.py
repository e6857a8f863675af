"""What R4 4.0.1 says about its types, as look-ups: elements, cardinalities, targets, required codes.

Read from the tables that ``scripts/derive_definitions.py`` derives. A type is parsed when first asked for,
so that a process pays only for the types it meets. The tables are part of the package; that reading is the
only I/O here.
"""

import json
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["resource", "complex", "primitive", "backbone"]

_TABLES = Path(__file__).with_name("r4")


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type, as its StructureDefinition's snapshot has it."""

    name: str
    """Without ``[x]``: ``value``, not ``valueQuantity``."""
    types: tuple[str, ...]
    """FHIR type names in R4's order; ``BackboneElement`` or ``Element`` when ``path_type`` is set."""
    targets: tuple[str, ...]
    """Resource types that a Reference may point to; empty or holding ``Resource`` means any."""
    min: int
    max: int | None
    """None means unbounded. JSON writes an array exactly when this is not 1."""
    binding: str | None
    """Canonical, without version, of the value set when the binding is required."""
    is_choice: bool
    is_summary: bool
    is_modifier: bool
    path_type: str | None
    """The nested type's name, ``Observation.component``; a contentReference is already followed."""

    @property
    def repeats(self) -> bool:
        return self.max != 1


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """A resource, a datatype, a primitive or a nested (backbone) type, inherited elements included."""

    name: str
    kind: Kind
    base: str | None
    """What it specialises, ``Quantity`` for ``Age``; None for ``Resource`` and ``Element``."""
    elements: Mapping[str, Element]
    """By element name, in the order of R4. A resource's ``resourceType`` is not an element."""


@cache
def type_definition(name: str) -> TypeDefinition:
    """The type called ``name``: ``Observation``, ``HumanName``, ``code`` or ``Observation.component``.

    Abstract types (``Resource``, ``DomainResource``, ``Element``, ``BackboneElement``) are there too.
    Raises KeyError for a name that R4 does not define.
    """
    row = json.loads(_type_rows()[name])
    elements = {fields[0]: _element(fields) for fields in row["e"]}
    return TypeDefinition(name, row["k"], row.get("b"), elements)


@cache
def json_names(type_name: str) -> Mapping[str, tuple[Element, str]]:
    """JSON property → (element, concrete type), choices expanded: ``valueQuantity`` → (value, ``Quantity``).

    For a nested element the concrete type is its path (``Observation.component``). The ``_name`` companions
    of primitives are not listed. Raises KeyError for an unknown type.
    """
    names: dict[str, tuple[Element, str]] = {}
    for element in type_definition(type_name).elements.values():
        if element.is_choice:
            names |= {element.name + kind[0].upper() + kind[1:]: (element, kind) for kind in element.types}
        else:
            names[element.name] = (element, element.path_type or element.types[0])
    return names


def is_primitive(type_name: str) -> bool:
    """FHIR's primitive types begin with a lower-case letter, all others with a capital (datatypes.html)."""
    return type_name[0].islower()


@cache
def specialises(type_name: str, ancestor: str) -> bool:
    """Whether every ``type_name`` is an ``ancestor``: ``Age`` is a Quantity, an Element and itself."""
    while type_name != ancestor:
        base = type_definition(type_name).base
        if base is None:
            return False
        type_name = base
    return True


@cache
def value_set(canonical: str) -> Mapping[str, frozenset[str]] | None:
    """System → codes of a required binding's value set; None when it cannot be enumerated.

    ``canonical`` is without version. Raises KeyError for a value set that no required binding names.
    """
    table = json.loads(_code_rows()[canonical])
    return None if table is None else {system: frozenset(codes) for system, codes in table.items()}


@cache
def codes(canonical: str) -> frozenset[str] | None:
    """A value set's codes whatever their system, as elements of type ``code`` take them; None as above."""
    table = value_set(canonical)
    return None if table is None else frozenset().union(*table.values())


def bound_value_sets() -> frozenset[str]:
    """Every value set that a required binding names."""
    return frozenset(_code_rows())


def unchecked_value_sets() -> frozenset[str]:
    """Those that have no end (media types, UCUM) or are not published with R4 (a LOINC answer list)."""
    return frozenset(canonical for canonical in _code_rows() if value_set(canonical) is None)


def _element(fields: list[Any]) -> Element:
    name, types, least, most, flags, targets, binding, path_type = fields
    return Element(
        name=name,
        types=tuple(types),
        targets=tuple(targets),
        min=least,
        max=most,
        binding=binding,
        is_choice="c" in flags,
        is_summary="s" in flags,
        is_modifier="m" in flags,
        path_type=path_type,
    )


def _rows(file_name: str) -> Iterator[tuple[str, bytes]]:
    for line in lzma.decompress((_TABLES / file_name).read_bytes()).splitlines():
        name, _, row = line.partition(b"\t")
        yield name.decode(), row


@cache
def _type_rows() -> Mapping[str, bytes]:
    return dict(_rows("types.tsv.xz"))


@cache
def _code_rows() -> Mapping[str, bytes]:
    return dict(_rows("codes.tsv.xz"))


ABSTRACT_TYPES = frozenset({"Resource", "DomainResource"})


def _resource_types() -> frozenset[str]:
    named = {name for name, row in _type_rows().items() if b'"k":"resource"' in row}
    return frozenset(named - ABSTRACT_TYPES)


RESOURCE_TYPES: frozenset[str] = _resource_types()
"""The 146 concrete resource types."""
