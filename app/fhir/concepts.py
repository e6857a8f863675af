"""Code systems: their concepts, and which of them are kinds of others (R4 codesystem).

A concept may have several parents: one that it stands inside, others named by the properties ``parent`` and ``child``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from app.errors import InvalidDefinition, NotEnumerable
from app.fhir.nodes import Node, shown

Value = str | bool | int | Decimal | Mapping[str, object]
"""Of a property: text for code, string and dateTime; an object for a Coding."""

_CONCEPT_PROPERTIES: Final = "http://hl7.org/fhir/concept-properties#"
_VALUES: Final[Mapping[str, tuple[str, type | tuple[type, ...]]]] = {
    "Code": ("code", str),
    "String": ("string", str),
    "DateTime": ("dateTime", str),
    "Boolean": ("boolean", bool),
    "Integer": ("integer", int),
    "Decimal": ("decimal", (int, Decimal)),
    "Coding": ("Coding", dict),
}
"""As JSON writes a type → R4's name of it, and what a value of it is."""
_ABSTRACT: Final = ("notSelectable", "abstract")
# R4's "deprecated does not mean inactive" (ValueSet.compose.inactive); v3 says retired where it means it.
_INACTIVE_STATUS: Final = ("retired", "inactive")
_NO_SUBSUMPTION: Final = ("part-of", "grouped-by")


@dataclass(frozen=True, slots=True)
class Designation:
    """Another way to say it. ``use`` is (system, code, display) of a Coding."""

    value: str
    language: str | None = None
    use: tuple[str | None, str | None, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Property:
    """``type`` is R4's name of the value's type: ``code``, ``boolean``, ``dateTime``."""

    code: str
    type: str
    value: Value


@dataclass(frozen=True, slots=True)
class Concept:
    code: str
    display: str | None = None
    definition: str | None = None
    parents: tuple[str, ...] = ()
    properties: tuple[Property, ...] = ()
    designations: tuple[Designation, ...] = ()
    is_abstract: bool = False
    """Not meant to be chosen in a record: it groups others."""
    is_inactive: bool = False


@dataclass(frozen=True, slots=True)
class CodeSystem:
    """One version of a code system, or of the part of it that is known."""

    url: str
    version: str | None
    name: str | None
    title: str | None
    content: str
    """R4's codesystem-content-mode."""
    case_sensitive: bool
    hierarchy_meaning: str | None
    value_set: str | None
    """Canonical of the value set of all codes."""
    concepts: Mapping[str, Concept]
    """By code, in the order of the code system."""
    children: Mapping[str, tuple[str, ...]]
    properties: frozenset[str]
    """Codes of the properties that it declares or that a concept has."""
    _folded: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_present(self) -> bool:
        return self.content in ("complete", "fragment", "example")

    @property
    def is_complete(self) -> bool:
        return self.content == "complete"

    def concept(self, code: str) -> Concept | None:
        """Whatever its case where the code system says that case does not matter."""
        return self.concepts.get(code) or self.concepts.get(self._folded.get(code.casefold(), ""))

    def ancestors(self, code: str) -> frozenset[str]:
        """Codes of everything that ``code`` is a kind of, itself apart; none for an unknown code.

        Raises NotEnumerable when the hierarchy means something else.
        """
        self._check_subsumption()
        return _reached(code, lambda one: self.concepts[one].parents if one in self.concepts else ())

    def descendants(self, code: str) -> frozenset[str]:
        """Codes of all kinds of ``code``, itself apart; otherwise as ``ancestors``."""
        self._check_subsumption()
        return _reached(code, lambda one: self.children.get(one, ()))

    def subsumes(self, general: str, special: str) -> bool:
        """Whether every ``special`` is a ``general``; each is itself. Raises NotEnumerable as ``ancestors``."""
        return general == special or general in self.ancestors(special)

    def _check_subsumption(self) -> None:
        if self.hierarchy_meaning in _NO_SUBSUMPTION:
            raise NotEnumerable(
                f"The hierarchy of {shown(self.url)} says what is {self.hierarchy_meaning}, not what is a kind of what."
            )


def _reached(start: str, step: Callable[[str], Iterable[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = [*step(start)]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += step(one)
    return frozenset(found)


def code_system(
    concepts: Iterable[Concept],
    *,
    url: str,
    content: str,
    version: str | None = None,
    name: str | None = None,
    title: str | None = None,
    case_sensitive: bool | None = None,
    hierarchy_meaning: str | None = None,
    value_set: str | None = None,
    declared: Iterable[str] = (),
) -> CodeSystem:
    """Raises InvalidDefinition for a code that is there twice (csd-1) and a hierarchy that runs in a circle.

    Codes are told apart by their case unless the code system says that it does not matter.
    """
    by_code = _by_code(concepts, url)
    children = _children(by_code)
    if not _has_an_order(by_code, children):
        raise InvalidDefinition(f"The hierarchy of {shown(url)} runs in a circle.")
    folded = {code.casefold(): code for code in by_code} if case_sensitive is False else {}
    return CodeSystem(
        url,
        version,
        name,
        title,
        content,
        case_sensitive is not False,
        hierarchy_meaning,
        value_set,
        by_code,
        children,
        frozenset(declared) | {one.code for concept in by_code.values() for one in concept.properties},
        folded,
    )


def _by_code(concepts: Iterable[Concept], url: str) -> Mapping[str, Concept]:
    found: dict[str, Concept] = {}
    for concept in concepts:
        if concept.code in found:
            raise InvalidDefinition(f"A code is twice in {shown(url)} (csd-1).")
        found[concept.code] = concept
    return found


def _children(concepts: Mapping[str, Concept]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for concept in concepts.values():
        for parent in concept.parents:
            found.setdefault(parent, []).append(concept.code)
    return {parent: tuple(codes) for parent, codes in found.items()}


def _has_an_order(concepts: Mapping[str, Concept], children: Mapping[str, Sequence[str]]) -> bool:
    """Whether every concept can stand behind all its parents."""
    open_parents = {code: len(concept.parents) for code, concept in concepts.items()}
    ready = [code for code, count in open_parents.items() if not count]
    for code in ready:
        for child in children.get(code, ()):
            open_parents[child] -= 1
            if not open_parents[child]:
                ready.append(child)
    return len(ready) == len(concepts)


# Reading a CodeSystem resource.


def read_code_system(resource: Mapping[str, object]) -> CodeSystem:
    """A CodeSystem from its parsed JSON. Raises InvalidDefinition; one without a URL has the empty one."""
    root = Node(resource, "CodeSystem")
    meaning = _meanings(root)
    concepts = [_concept(node, parent, meaning) for node, parent in _with_parents(root)]
    return code_system(
        _with_named_parents(concepts, meaning),
        url=root.text("url") or "",
        content=root.needed("content"),
        version=root.text("version"),
        name=root.text("name"),
        title=root.text("title"),
        case_sensitive=root.flag("caseSensitive"),
        hierarchy_meaning=root.text("hierarchyMeaning"),
        value_set=root.text("valueSet"),
        declared=[node.needed("code") for node in root.nodes("property")],
    )


def _meanings(root: Node) -> Mapping[str, str]:
    """A property's code → what R4's concept-properties call what it means."""
    uris = {node.needed("code"): node.text("uri") or "" for node in root.nodes("property")}
    return {
        code: uri.removeprefix(_CONCEPT_PROPERTIES)
        for code, uri in uris.items()
        if uri.startswith(_CONCEPT_PROPERTIES)
    }


def _with_parents(root: Node) -> Iterator[tuple[Node, str | None]]:
    """In the order of the resource, however deep: (concept, code of the one that it stands in)."""
    stack: list[tuple[Node, str | None]] = [(node, None) for node in reversed(root.nodes("concept"))]
    while stack:
        node, parent = stack.pop()
        yield node, parent
        code = node.needed("code")
        stack += [(child, code) for child in reversed(node.nodes("concept"))]


def _concept(node: Node, parent: str | None, meaning: Mapping[str, str]) -> Concept:
    return concept(
        node.needed("code"),
        display=node.text("display"),
        definition=node.text("definition"),
        parents=(parent,) if parent else (),
        properties=tuple(_property(one) for one in node.nodes("property")),
        designations=read_designations(node),
        meaning=meaning,
    )


def concept(
    code: str,
    *,
    display: str | None,
    definition: str | None,
    parents: tuple[str, ...],
    properties: tuple[Property, ...],
    designations: tuple[Designation, ...],
    meaning: Mapping[str, str],
) -> Concept:
    """What the properties say, by ``meaning`` or by their own names, is said of the concept."""
    said = [(meaning.get(one.code, one.code), one.value) for one in properties]
    return Concept(
        code,
        display,
        definition,
        parents,
        properties,
        designations,
        is_abstract=any(name in _ABSTRACT and value is True for name, value in said),
        is_inactive=any(
            (name == "inactive" and value is True) or (name == "status" and value in _INACTIVE_STATUS)
            for name, value in said
        ),
    )


def _property(node: Node) -> Property:
    written, value = node.choice("value")
    kind, form = _VALUES.get(written, ("", ()))
    # In Python a bool is an int too.
    fits = isinstance(value, form) and isinstance(value, bool) == (kind == "boolean")
    if not fits:
        raise node.refused("value", "a value of its type is needed here")
    return Property(node.needed("code"), kind, value)


def read_designations(node: Node) -> tuple[Designation, ...]:
    """``designation`` of a concept, in a code system or in a value set."""
    return tuple(
        Designation(one.needed("value"), one.text("language"), _use(one.node("use")))
        for one in node.nodes("designation")
    )


def _use(node: Node | None) -> tuple[str | None, str | None, str | None] | None:
    return None if node is None else (node.text("system"), node.text("code"), node.text("display"))


def _with_named_parents(concepts: Sequence[Concept], meaning: Mapping[str, str]) -> Iterator[Concept]:
    """With the parents that ``parent`` and ``child`` name; a name that no concept has counts for nothing."""
    known = {one.code for one in concepts}
    more: dict[str, list[str]] = {}
    for one in concepts:
        for named in one.properties:
            match meaning.get(named.code, named.code), named.value:
                case "parent", str(code) if code in known:
                    more.setdefault(one.code, []).append(code)
                case "child", str(code) if code in known:
                    more.setdefault(code, []).append(one.code)
    for one in concepts:
        parents = tuple(dict.fromkeys((*one.parents, *more.get(one.code, ()))))
        yield one if parents == one.parents else replace(one, parents=parents)
