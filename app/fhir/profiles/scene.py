"""Where a check takes place: the resource, what contains it, and what the caller knows of codes."""

from collections.abc import Callable, Iterator
from copy import copy
from functools import cache
from typing import Any, Protocol

from app.fhir import definitions
from app.fhir.fhirpath import target_type
from app.fhir.findings import EnoughError, Place
from app.fhir.profiles.elements import Node
from app.fhir.profiles.items import Item, Json, resource_type
from app.fhir.profiles.verdict import Verdict

Codes = frozenset[tuple[str, str]]
"""(system, code)."""

Members = Callable[[str], Codes | None]
"""A value set's codes by its canonical without version; None when it is not known or has no end."""


class Profiles(Protocol):
    """What one profile's rules need of other profiles, by their canonical without version."""

    def tree(self, canonical: str) -> Node | None:
        """Its elements; None when the profile is not known or cannot be used."""

    def type_of(self, canonical: str) -> str:
        """The type that a profile, or R4's own definition of a type, is about; empty when not known."""

    def conforms(self, item: Item, canonical: str, scene: "Scene") -> bool | None:
        """Whether the item conforms, without saying where not; None when that cannot be told."""

    def require(self, item: Item, canonical: str, scene: "Scene") -> None:
        """Says in the verdict where the item does not conform, or that the profile is not known."""


def nobody_knows(value_set: str) -> None:
    """The Members of a caller who has no terminology."""


class Scene:
    """One resource under check. ``inside`` gives that of a resource in it; the verdict is the same one."""

    def __init__(self, resource: Json, known: Members, *, invariants: bool) -> None:
        self.resource = resource
        """FHIRPath's %resource."""
        self.container: Json
        """FHIRPath's %rootResource: what ``#id`` is looked for in."""
        self.invariants = invariants
        self.verdict = Verdict()
        self.said: set[object] = set()
        """What was remarked upon once and need not be again."""
        self.checked: set[tuple[str, int | Place]] = set()
        """(profile, id of the JSON object, or place of a primitive) that the verdict has already."""
        self._trials: dict[tuple[str, int, int], bool] = {}
        self._known = known
        self._bundles: tuple[dict[str, Json], ...] = ()
        self._enter(resource)

    def _enter(self, container: Json) -> None:
        self.container = container
        contained = container.get("contained")
        items = [one for one in contained if one.__class__ is dict] if contained.__class__ is list else []
        self._contained = frozenset(map(id, items))
        self._local = {"#": container}
        for one in items:
            if one.get("id").__class__ is str:
                self._local.setdefault("#" + one["id"], one)
        if container.get("resourceType") == "Bundle":
            self._bundles = (_entries(container), *self._bundles)

    def inside(self, resource: Json) -> "Scene":
        """The scene of a resource within this one: contained, an entry, or a target of a Reference."""
        scene = copy(self)
        scene.resource = resource
        if id(resource) not in self._contained:
            scene._enter(resource)
        return scene

    # Whether something conforms, without saying so.

    def conforms(self, item: Item, profile: str, check: Callable[[Item, "Scene"], None]) -> bool:
        """Whether ``check``, which is that of ``profile``, finds no error. While it runs, itself is no error."""
        key = (profile, id(item.value), id(item.companion))
        if key not in self._trials:
            self._trials[key] = True
            self._trials[key] = self._tried(item, check)
        return self._trials[key]

    def _tried(self, item: Item, check: Callable[[Item, "Scene"], None]) -> bool:
        scene = copy(self)
        scene.verdict, scene.said, scene.checked = Verdict(most=1), set(), set()
        try:
            check(item, scene)
        except EnoughError:
            return False
        return True

    # Codes.

    def codes(self, value_set: str) -> Codes | None:
        """What the caller knows, or else what R4's tables hold of the value sets that R4 requires."""
        found = self._known(value_set)
        return found if found is not None else _required_by_r4(value_set)

    # References.

    def find(self, reference: Any) -> Json | None:
        """The resource that a Reference points to, when it is contained or another entry of the Bundle."""
        text = reference.get("reference") if reference.__class__ is dict else None
        if text.__class__ is not str:
            return None
        if text[:1] == "#":
            return self._local.get(text)
        return next((bundle[text] for bundle in self._bundles if text in bundle), None)

    def target_type(self, reference: Any) -> str:
        """The type of what a Reference points to, as far as can be told from here; otherwise empty."""
        found = self.find(reference)
        return resource_type(found) if found is not None else target_type(reference) or ""


def _entries(bundle: Json) -> dict[str, Json]:
    """Reference text → resource: the fullUrl, and ``Type/id`` for those under one base (R4 bundle#references)."""
    found: dict[str, Json] = {}
    for url, resource in _resources(bundle):
        kind, id = resource_type(resource), resource.get("id")
        if url:
            found.setdefault(url, resource)
        if kind and id.__class__ is str and (not url or url.endswith(f"/{kind}/{id}")):
            found.setdefault(f"{kind}/{id}", resource)
    return found


def _resources(bundle: Json) -> Iterator[tuple[str, Json]]:
    entries = bundle.get("entry")
    for entry in entries if entries.__class__ is list else []:
        if entry.__class__ is dict and entry.get("resource").__class__ is dict:
            url = entry.get("fullUrl")
            yield (url if url.__class__ is str else ""), entry["resource"]


@cache
def _required_by_r4(value_set: str) -> Codes | None:
    try:
        table = definitions.value_set(value_set)
    except KeyError:
        return None
    if table is None:
        return None
    return frozenset((system, code) for system, codes in table.items() for code in codes)
