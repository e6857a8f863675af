"""A profile's elements as a tree, read from ElementDefinitions (R4 elementdefinition).

A node says what the profile says of one element; what R4 itself says of it stands beside it, in ``base``. A
slice is a node of its own under the element that it slices, and asks more than that element: a value has to
satisfy both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from app.errors import UnusableProfile
from app.fhir.definitions import Element, json_names, type_definition
from app.fhir.text import DEEPEST

Json = Mapping[str, Any]

MAX_VALUE_SET = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet"
FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"

MOST_NODES = 20_000
"""Elements and slices of one profile. The largest of R4's own has some 400."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One type that the element may have."""

    code: str
    """FHIR type name; empty when R4's tables know no such type."""
    profiles: tuple[str, ...] = ()
    """Canonicals, of which a value has to satisfy one."""
    targets: tuple[str, ...] = ()
    """Canonicals of what a Reference may point to; empty means as R4 has it."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """``fixed[x]`` when ``exact``, otherwise ``pattern[x]``."""

    value: Any
    exact: bool


@dataclass(frozen=True, slots=True)
class Binding:
    strength: str
    value_set: str | None
    """Canonical without version; None when only a description binds."""
    max_value_set: str | None = None
    """How far an extensible or preferred binding may be extended (elementdefinition-maxValueSet)."""


@dataclass(frozen=True, slots=True)
class Constraint:
    key: str
    severity: str
    human: str
    expression: str | None


@dataclass(frozen=True, slots=True)
class Discriminator:
    type: str
    path: str


@dataclass(frozen=True, slots=True)
class Slicing:
    discriminators: tuple[Discriminator, ...] = ()
    rules: str = "open"
    ordered: bool = False


BY_URL = Slicing((Discriminator("value", "url"),))
BY_TYPE = Slicing((Discriminator("type", "$this"),))


@dataclass(slots=True, eq=False)
class Node:
    """One element or slice. Trees grow while they are read; afterwards nobody changes them."""

    id: str
    """As in ElementDefinition.id: ``Patient.identifier:nhsNumber.system``."""
    name: str
    """As in FHIRPath: ``value``, not ``value[x]``."""
    types: tuple[str, ...]
    """Names under which R4's tables know its children: ``HumanName``, or ``Patient.contact`` for a nested type."""
    base: Element | None = None
    min: int = 0
    max: int | None = None
    kinds: tuple[Kind, ...] = ()
    """Empty when the profile says nothing of the types."""
    fixed: Fixed | None = None
    binding: Binding | None = None
    max_length: int | None = None
    least: Any = None
    most: Any = None
    constraints: tuple[Constraint, ...] = ()
    slicing: Slicing | None = None
    content: "Node | None" = field(default=None, repr=False)
    """The element of the same definition whose content it has (a contentReference that is not absolute).

    One to R4's own definition asks nothing more, and a derived definition does not change what its base refers to:
    so have snapshot generators agreed.
    """
    is_modifier: bool = False
    granted: "Node | None" = field(default=None, repr=False)
    """The same element in the profile of its parent's type, which is checked anyway."""
    children: dict[str, "Node"] = field(default_factory=dict)
    slices: dict[str, "Node"] = field(default_factory=dict)

    def copy(self) -> "Node":
        return replace(
            self,
            children={name: child.copy() for name, child in self.children.items()},
            slices={name: one.copy() for name, one in self.slices.items()},
        )

    def add(self, child: "Node") -> "Node":
        self.children[child.name] = child
        return child

    def height(self) -> int:
        """How many nodes stand above one another, this one counted."""
        below = (one.height() for one in (*self.children.values(), *self.slices.values()))
        return 1 + max(below, default=0)

    def size(self) -> int:
        """How many nodes there are, this one counted."""
        return 1 + sum(one.size() for one in (*self.children.values(), *self.slices.values()))

    def find(self, id: str) -> "Node | None":
        """The node with this id in the tree that starts here; None when there is none."""
        node: Node | None = self
        for name, slice_name in _segments(id)[1:]:
            node = node.children.get(name.removesuffix("[x]")) if node else None
            if node and slice_name:
                node = _sliced_by(node, slice_name).slices.get(slice_name)
        return node


Trees = Callable[[str], Node | None]
"""The elements of a profile by its canonical; None when the profile is not known."""


def root(type_name: str) -> Node:
    """A tree that asks nothing of a ``type_name`` beyond R4."""
    return Node(type_name, type_name, (type_name,))


def overlay(tree: Node, elements: Sequence[Json], trees: Trees) -> None:
    """Adds what ``elements`` say to ``tree``: a snapshot to an empty tree, a differential to its base's.

    They are as R4's own rules have them. ``trees`` has the profiles of types into which a differential walks.
    Raises UnusableProfile for what R4's rules leave open.
    """
    growth = _Growth(tree, trees)
    ids = _ids(elements)
    for id, element in zip(ids, elements, strict=True):
        _read(growth.at(id), element)
    for id, element in zip(ids, elements, strict=True):
        if (reference := element.get("contentReference", "")).startswith("#"):
            growth.at(id).content = tree.find(reference[1:])


# Ids.


def _ids(elements: Sequence[Json]) -> list[str]:
    """The elements' ids; made of paths and slice names when some have none, which R4 allows in a differential."""
    ids = [element.get("id", "") for element in elements]
    given = all(
        id.count(".") == element["path"].count(".") for id, element in zip(ids, elements, strict=True)
    )
    return ids if given and all(ids) else list(_made_ids(elements))


def _made_ids(elements: Sequence[Json]) -> Iterator[str]:
    above: list[tuple[str, str]] = []
    for element in elements:
        path, slice_name = element["path"], element.get("sliceName")
        while above and not path.startswith(above[-1][0] + "."):
            above.pop()
        parent, id = above[-1] if above else ("", "")
        id += path.removeprefix(parent) + (f":{slice_name}" if slice_name else "")
        above.append((path, id))
        yield id


def _segments(id: str) -> list[tuple[str, str]]:
    """``Patient.identifier:nhs.system`` as (name, slice or nothing) of each step."""
    return [(name, slice_name) for name, _, slice_name in (part.partition(":") for part in id.split("."))]


# Growing.


class _Growth:
    """A tree while it is read."""

    def __init__(self, tree: Node, trees: Trees) -> None:
        self._tree = tree
        self._trees = trees
        self._room = MOST_NODES

    def at(self, id: str) -> Node:
        """The node with this id, which is made when there is none. Raises UnusableProfile when there are too many."""
        node = self._tree
        self._descend(id.count("."))
        for name, slice_name in _segments(id)[1:]:
            node = self._child(node, name)
            if slice_name:
                node = self._slice(node, slice_name)
        return node

    def _child(self, parent: Node, written: str) -> Node:
        """The child called ``value``, ``value[x]`` or, as differentials may write, ``valueQuantity``."""
        name = written.removesuffix("[x]")
        if name in parent.children:
            return parent.children[name]
        if (profiled := _in_profile(parent, name, self._trees)) is not None:
            self._take(profiled.size())
            self._descend(parent.id.count(".") + profiled.height())
            return parent.add(_granted(profiled, parent.id, profiled.id.rpartition(".")[0]))
        self._take(1)
        for type_name in parent.types:
            if element := type_definition(type_name).elements.get(name):
                return parent.add(_from_tables(parent, element))
            if name in json_names(type_name):
                return self._slice(self._child(parent, json_names(type_name)[name][0].name), name)
        return parent.add(Node(f"{parent.id}.{written}", name, ()))

    def _slice(self, of: Node, name: str) -> Node:
        of = _sliced_by(of, name)
        if name not in of.slices:
            self._take(1)
            of.slices[name] = _slice_of(of, name)
        return of.slices[name]

    def _descend(self, levels: int) -> None:
        if levels > DEEPEST:
            raise UnusableProfile(f"Its elements go more than {DEEPEST} levels deep.")

    def _take(self, nodes: int) -> None:
        self._room -= nodes
        if self._room < 0:
            raise UnusableProfile(
                f"With the profiles that it goes into it has more than {MOST_NODES} elements."
            )


def _in_profile(parent: Node, name: str, trees: Trees) -> Node | None:
    """The child in the profile of its parent's type, if there is just one."""
    profiles = [profile for kind in parent.kinds for profile in kind.profiles]
    tree = trees(profiles[0]) if len(profiles) == 1 else None
    return tree.children.get(name) if tree else None


def _granted(node: Node, parent: str, before: str) -> Node:
    """A copy of a node of another tree, under ``parent`` instead of ``before``."""
    return replace(
        node,
        id=parent + node.id.removeprefix(before),
        granted=node,
        children={name: _granted(child, parent, before) for name, child in node.children.items()},
        slices={name: _granted(one, parent, before) for name, one in node.slices.items()},
    )


def _from_tables(parent: Node, element: Element) -> Node:
    nested = element.path_type
    return Node(
        id=f"{parent.id}.{element.name}" + ("[x]" if element.is_choice else ""),
        name=element.name,
        types=(nested,) if nested else element.types,
        base=element,
        min=element.min,
        max=element.max,
        is_modifier=element.is_modifier,
    )


def _slice_of(of: Node, name: str) -> Node:
    parent, dot, last = of.id.rpartition(".")
    return Node(
        id=f"{parent}{dot}{last.partition(':')[0]}:{name}",
        name=of.name,
        types=of.types,
        base=of.base,
        max=of.max,
        kinds=_kind_named(of, name) or of.kinds,
        is_modifier=of.is_modifier,
    )


def _sliced_by(of: Node, name: str) -> Node:
    """``a/b`` slices the slice ``a`` again, if that has a slicing of its own (profiling, re-slicing)."""
    outer = of.slices.get(name.rpartition("/")[0])
    return outer if outer is not None and outer.slicing is not None else of


def _kind_named(of: Node, name: str) -> tuple[Kind, ...]:
    """A slice of a choice may tell its type by its name alone: ``valueQuantity``."""
    if of.base is None or not of.base.is_choice:
        return ()
    return tuple(Kind(kind) for kind in of.base.types if name == of.name + kind[0].upper() + kind[1:])


# Reading.


def _read(node: Node, element: Json) -> None:
    node.min = element.get("min", node.min)
    if "max" in element:
        node.max = _most(element)
    if "type" in element:
        _read_types(node, element["type"])
    if "binding" in element:
        node.binding = _binding(element["binding"], node.binding)
    if "slicing" in element:
        node.slicing = _slicing(element["slicing"])
    node.max_length = element.get("maxLength", node.max_length)
    node.is_modifier = element.get("isModifier", node.is_modifier)
    node.fixed = _fixed(element) or node.fixed
    node.least = _choice(element, "minValue", node.least)
    node.most = _choice(element, "maxValue", node.most)
    node.constraints = _constraints(element, node.constraints)


def _most(element: Json) -> int | None:
    text = element["max"]
    if text != "*" and not (text.isascii() and text.isdecimal()):
        raise UnusableProfile(f"The max of {_named(element)} is neither a number nor *.")
    return None if text == "*" else int(text)


def _named(element: Json) -> str:
    name: str = element.get("id") or element["path"]
    return name


def _read_types(node: Node, types: Sequence[Json]) -> None:
    node.kinds = tuple(_kinds(types))
    if not (node.base and node.base.path_type):
        node.types = tuple(kind.code for kind in node.kinds if kind.code)


def _kinds(types: Sequence[Json]) -> Iterator[Kind]:
    for one in types:
        profiles, targets = one.get("profile", ()), one.get("targetProfile", ())
        yield Kind(_code(one), tuple(map(unversioned, profiles)), tuple(map(unversioned, targets)))


def _code(type: Json) -> str:
    """The type's name; ids and urls are FHIRPath's System types, whose FHIR type an extension tells."""
    code: str = type["code"]
    if "/" in code:
        told = (one for one in type.get("extension", ()) if one["url"] == FHIR_TYPE)
        code = next((one.get("valueUrl") or one.get("valueUri") or "" for one in told), "")
    try:
        return type_definition(code).name
    except KeyError:
        return ""


def _binding(element: Json, before: Binding | None) -> Binding:
    """A differential may change the strength alone."""
    extensions = element.get("extension", ())
    widest = next((one.get("valueCanonical") for one in extensions if one["url"] == MAX_VALUE_SET), None)
    value_set = element.get("valueSet")
    earlier = before or Binding("example", None)
    return Binding(
        element["strength"],
        unversioned(value_set) if value_set else earlier.value_set,
        unversioned(widest) if widest else earlier.max_value_set,
    )


def _slicing(element: Json) -> Slicing:
    found = element.get("discriminator", ())
    return Slicing(
        tuple(Discriminator(one["type"], one["path"]) for one in found),
        element["rules"],
        element.get("ordered", False),
    )


def _fixed(element: Json) -> Fixed | None:
    for prefix, exact in (("fixed", True), ("pattern", False)):
        value = _choice(element, prefix, None)
        if value is not None:
            return Fixed(value, exact)
    return None


def _choice(element: Json, prefix: str, otherwise: Any) -> Any:
    """The value of a choice of any type. No other element of ElementDefinition begins like these."""
    for name, value in element.items():
        if name.startswith(prefix):
            return _exact(value)
    return otherwise


def _exact(value: Any) -> Any:
    """Decimals as Decimal, whichever parser read them."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {name: _exact(member) for name, member in value.items()}
    return [_exact(item) for item in value] if isinstance(value, list) else value


def _constraints(element: Json, before: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
    """A constraint with a key that was there before says it again."""
    kept = {one.key: one for one in before}
    for one in element.get("constraint", ()):
        kept[one["key"]] = Constraint(one["key"], one["severity"], one["human"], one.get("expression"))
    return tuple(kept.values())


def unversioned(canonical: str) -> str:
    return canonical.partition("|")[0]
