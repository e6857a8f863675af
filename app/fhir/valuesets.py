"""Value sets: what they take from which code systems (R4 valueset, content logical definition)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.fhir.concepts import Designation, read_designations
from app.fhir.nodes import Node

_OPEN = frozenset(
    {
        "http://hl7.org/fhir/StructureDefinition/valueset-toocostly",
        "http://hl7.org/fhir/StructureDefinition/valueset-unclosed",
    }
)


@dataclass(frozen=True, slots=True)
class Filter:
    property: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A code that a value set names, with what it may say of it."""

    code: str
    display: str | None = None
    designations: tuple[Designation, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """An include or exclude: codes of ``system`` that are listed, or pass all filters, or all; and are in all
    ``value_sets``."""

    system: str | None
    version: str | None = None
    listed: tuple[Listed, ...] = ()
    filters: tuple[Filter, ...] = ()
    value_sets: tuple[str, ...] = ()

    @property
    def is_whole_system(self) -> bool:
        return self.system is not None and not self.listed and not self.filters


@dataclass(frozen=True, slots=True)
class ValueSet:
    """One version of a value set."""

    url: str
    includes: tuple[Part, ...]
    excludes: tuple[Part, ...] = ()
    version: str | None = None
    name: str | None = None
    title: str | None = None
    status: str | None = None
    experimental: bool | None = None
    copyright: str | None = None
    inactive: bool | None = None
    """Whether inactive codes are in it; None leaves it open."""
    locked: str | None = None
    """The date whose versions of code systems count."""
    expansion: tuple[Part, ...] | None = None
    """The whole content as it was published, if it was: lists only."""

    def references(self) -> frozenset[str]:
        """Canonicals of the code systems and value sets that its content comes from."""
        parts = (*self.includes, *self.excludes)
        systems = {
            f"{part.system}|{part.version}" if part.version else part.system for part in parts if part.system
        }
        return frozenset(systems.union(*(part.value_sets for part in parts)))


def read_value_set(resource: Mapping[str, object]) -> ValueSet:
    """A ValueSet from its parsed JSON. Raises InvalidDefinition; one without a URL has the empty one.

    Contained resources count for nothing; a part may list codes of any system.
    """
    root = Node(resource, "ValueSet")
    compose = root.node("compose")
    return ValueSet(
        url=root.text("url") or "",
        includes=_parts(compose, "include"),
        excludes=_parts(compose, "exclude"),
        version=root.text("version"),
        name=root.text("name"),
        title=root.text("title"),
        status=root.text("status"),
        experimental=root.flag("experimental"),
        copyright=root.text("copyright"),
        inactive=compose.flag("inactive") if compose else None,
        locked=compose.text("lockedDate") if compose else None,
        expansion=_whole_expansion(root.node("expansion")),
    )


def _parts(compose: Node | None, kind: str) -> tuple[Part, ...]:
    return tuple(_part(node) for node in compose.nodes(kind)) if compose else ()


def _part(node: Node) -> Part:
    """Keeps vsd-1, vsd-2 and vsd-3: what breaks them says nothing that could be followed."""
    system, value_sets = node.text("system"), node.texts("valueSet")
    listed, filters = node.nodes("concept"), node.nodes("filter")
    if not system and (listed or filters or not value_sets):
        raise node.refused("system", "a system is needed, or a value set alone (vsd-1, vsd-2)")
    if listed and filters:
        raise node.refused("filter", "concepts and filters cannot both be given (vsd-3)")
    return Part(
        system,
        node.text("version"),
        tuple(_listed(one) for one in listed),
        tuple(Filter(one.needed("property"), one.needed("op"), one.needed("value")) for one in filters),
        value_sets,
    )


def _listed(node: Node) -> Listed:
    return Listed(node.needed("code"), node.text("display"), read_designations(node))


def _whole_expansion(expansion: Node | None) -> tuple[Part, ...] | None:
    """None unless every code of the value set is there."""
    if expansion is None or any(one.text("url") in _OPEN for one in expansion.nodes("extension")):
        return None
    found = list(_contained(expansion))
    total, offset = expansion.value.get("total"), expansion.value.get("offset")
    if (total is not None and total != len(found)) or offset:
        return None
    return tuple(found)


def _contained(expansion: Node) -> Iterable[Part]:
    """A list of one code for each, in order; what has no code only groups others."""
    waiting = list(reversed(expansion.nodes("contains")))
    while waiting:
        node = waiting.pop()
        if node.text("code"):
            yield Part(node.needed("system"), node.text("version"), (_listed(node),))
        waiting += reversed(node.nodes("contains"))
