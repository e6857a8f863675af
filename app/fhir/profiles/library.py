"""The profiles that a caller has, each compiled when first asked for (R4 structuredefinition).

A snapshot is read as it is. A differential without one is laid over the tree of what it derives from: that of
its base's definition, or R4's tables where a base is R4's own type and the caller has no definition of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import CandourError, UnusableProfile
from app.fhir.definitions import type_definition
from app.fhir.profiles.elements import Node, overlay, root, unversioned
from app.fhir.profiles.items import Item
from app.fhir.profiles.paths import is_a
from app.fhir.profiles.rules import Rule, compiled
from app.fhir.profiles.scene import Scene
from app.fhir.validation import validate

R4 = "http://hl7.org/fhir/StructureDefinition/"

Resolve = Callable[[str], Mapping[str, Any] | None]
"""The StructureDefinition with a canonical, without its version; None when there is none."""

DEEPEST_CHAIN = 32
"""Profiles derived from one another, or going into one another."""

_OWN: Mapping[str, Mapping[str, Any]] = {
    R4 + "SimpleQuantity": {
        "resourceType": "StructureDefinition",
        "url": R4 + "SimpleQuantity",
        "name": "SimpleQuantity",
        "status": "active",
        "kind": "complex-type",
        "abstract": False,
        "type": "Quantity",
        "baseDefinition": R4 + "Quantity",
        "derivation": "constraint",
        "differential": {
            "element": [{"id": "Quantity.comparator", "path": "Quantity.comparator", "max": "0"}]
        },
    }
}
"""R4's own profile of a datatype, which its resources use; for callers without the definitions of R4's types."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where an extension may stand (StructureDefinition.context)."""

    type: str
    """``element``, ``extension`` or ``fhirpath``."""
    expression: str


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A StructureDefinition, ready for use."""

    url: str
    name: str
    """For sentences."""
    type: str
    tree: Node
    rule: Rule
    contexts: tuple[Context, ...]
    context_invariants: tuple[str, ...]
    library: "Library"
    """Where the profiles are that this one names."""

    @property
    def is_modifier(self) -> bool:
        return self.tree.is_modifier


class Library:
    """Profiles by canonical. What ``resolve`` once gave is kept: a changed set of definitions needs a new library."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._definitions: dict[str, Mapping[str, Any]] = {}
        self._profiles: dict[str, Profile | UnusableProfile] = {}
        self._trees: dict[str, Node | UnusableProfile] = {}
        self._growing: set[str] = set()
        """Those whose differential is being read: it may lead back to itself."""

    def profile(self, canonical: str) -> Profile | None:
        """None when there is none. Raises UnusableProfile when nothing can be checked against it."""
        url = unversioned(canonical)
        definition = self._definition(url)
        if definition is None:
            return None
        if url not in self._profiles:
            try:
                self._profiles[url] = self._profile(definition, self._known_tree(url, definition, ()))
            except UnusableProfile as error:
                self._profiles[url] = error
        found = self._profiles[url]
        if isinstance(found, UnusableProfile):
            raise found.with_traceback(None)
        return found

    def compile(self, definition: Mapping[str, Any]) -> Profile:
        """A profile that need not be among those of the library. Raises UnusableProfile."""
        return self._profile(definition, self._tree(definition, ()))

    def _profile(self, definition: Mapping[str, Any], tree: Node) -> Profile:
        return Profile(
            url=definition["url"],
            name=definition["name"],
            type=definition["type"],
            tree=tree,
            rule=compiled(tree, definition["name"], self),
            contexts=tuple(Context(one["type"], one["expression"]) for one in definition.get("context", ())),
            context_invariants=tuple(definition.get("contextInvariant", ())),
            library=self,
        )

    # What rules need of other profiles (app.fhir.profiles.scene.Profiles).

    def tree(self, canonical: str) -> Node | None:
        definition = self._definition(canonical)
        if definition is None or canonical in self._growing or len(self._growing) > DEEPEST_CHAIN:
            return None
        try:
            return self._known_tree(canonical, definition, ())
        except UnusableProfile:
            return None

    def type_of(self, canonical: str) -> str:
        name = _r4_type(canonical)
        if name:
            return name
        definition = self._definition(canonical)
        return str(definition.get("type", "")) if definition else ""

    def conforms(self, item: Item, canonical: str, scene: Scene) -> bool | None:
        kind = self.type_of(canonical)
        if not kind or not item.kind:
            return None
        if not is_a(item.kind, kind):
            return False
        if self._is_r4s_own(canonical):
            return True
        profile = self._usable(canonical)
        if profile is None or (item.value is None and item.companion is None):
            return None
        return scene.conforms(item, canonical, profile.rule.check)

    def require(self, item: Item, canonical: str, scene: Scene) -> None:
        if self._is_r4s_own(canonical):
            return
        try:
            profile = self.profile(canonical)
        except UnusableProfile as error:
            self._say_unchecked(item, canonical, str(error), scene)
            return
        if profile is None:
            self._say_unchecked(item, canonical, "it is not known here", scene)
            return
        require(item, profile, scene)

    def _say_unchecked(self, item: Item, canonical: str, reason: str, scene: Scene) -> None:
        if canonical not in scene.said:
            scene.said.add(canonical)
            text = f"Not checked: the profile {canonical}; {reason.rstrip('.')}."
            scene.verdict.warning("not-found", item.place, text)

    def _usable(self, canonical: str) -> Profile | None:
        try:
            return self.profile(canonical)
        except UnusableProfile:
            return None

    # Definitions and their trees.

    def _is_r4s_own(self, canonical: str) -> bool:
        """Whether it asks nothing beyond R4: the definition of a type, which the caller does not have."""
        return bool(_r4_type(canonical)) and self._definition(canonical) is None

    def _definition(self, url: str) -> Mapping[str, Any] | None:
        if url in self._definitions:
            return self._definitions[url]
        found = self._resolve(url)
        if found is None or found.get("resourceType") != "StructureDefinition":
            found = _OWN.get(url)
        if found is not None:
            # What is not there is not kept: anybody may name anything as an extension or a profile.
            self._definitions[url] = found
        return found

    def _known_tree(self, url: str, definition: Mapping[str, Any], chain: tuple[str, ...]) -> Node:
        if url not in self._trees:
            try:
                self._trees[url] = self._tree(definition, chain)
            except UnusableProfile as error:
                self._trees[url] = error
        found = self._trees[url]
        if isinstance(found, UnusableProfile):
            raise found.with_traceback(None)  # which would grow each time
        return found

    def _tree(self, definition: Mapping[str, Any], chain: tuple[str, ...]) -> Node:
        _check_definition(definition)
        if "snapshot" in definition:
            tree = root(definition["type"])
            overlay(tree, definition["snapshot"]["element"], _nowhere)
            return tree
        url = definition["url"]
        tree = self._base(definition, (*chain, url)).copy()
        self._growing.add(url)
        try:
            overlay(tree, definition["differential"]["element"], self.tree)
        finally:
            self._growing.discard(url)
        return tree

    def _base(self, definition: Mapping[str, Any], chain: tuple[str, ...]) -> Node:
        url = unversioned(definition.get("baseDefinition", ""))
        if url in chain or len(chain) > DEEPEST_CHAIN:
            raise UnusableProfile("Its base definitions never end at a type of R4.")
        base = self._definition(url)
        if base is not None:
            return self._known_tree(url, base, chain)
        if name := _r4_type(url):
            return root(name)
        raise UnusableProfile(
            "It has no snapshot, and the definition that it derives from is not known here."
        )


def require(item: Item, profile: Profile, scene: Scene) -> None:
    """Says in the verdict where the item breaks the profile. Raises EnoughError with it."""
    key = (profile.url, id(item.value) if isinstance(item.value, dict) else item.place)
    if key in scene.checked:
        return
    scene.checked.add(key)
    if not is_a(item.kind, profile.type):
        text = f"{profile.name} is a profile of {profile.type}, which this is not."
        scene.verdict.error("structure", item.place, text)
        return
    profile.rule.check(item, scene)


def _nowhere(canonical: str) -> None:
    """A snapshot has walked into the profiles of types already."""


def _check_definition(definition: Mapping[str, Any]) -> None:
    """What can be relied on from here on."""
    try:
        validate(dict(definition), expected_type="StructureDefinition")
    except CandourError as error:
        first = next(iter(error.issues))
        raise UnusableProfile(
            f"It breaks R4's own rules: {first.text}", expression=first.expression
        ) from error
    except RecursionError as error:
        raise UnusableProfile("It is nested too deeply.") from error
    if definition["kind"] == "logical" or not _is_r4(definition["type"]):
        raise UnusableProfile("It is not about a type of R4.")
    if "snapshot" not in definition and "differential" not in definition:
        raise UnusableProfile("It has neither a snapshot nor a differential.")


def _r4_type(canonical: str) -> str:
    """``Patient`` for R4's own definition of it; empty for any other canonical."""
    name = canonical.removeprefix(R4)
    return name if name != canonical and _is_r4(name) else ""


def _is_r4(name: str) -> bool:
    try:
        type_definition(name)
    except KeyError:
        return False
    return "." not in name
