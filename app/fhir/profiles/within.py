"""What is asked of a resource whatever its profile: of its extensions and the resources in it (R4 extensibility).

An extension whose definition is known has to conform to it and to stand where it may. A modifier extension
that is not known cannot be understood, so the resource cannot be either. A resource within the resource is
checked against the profiles that it claims.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from app.errors import UnusableProfile
from app.fhir.definitions import json_names
from app.fhir.findings import Place
from app.fhir.profiles.engine import holds
from app.fhir.profiles.items import Item, Json, resource_type
from app.fhir.profiles.library import R4, Context, Library, Profile, require
from app.fhir.profiles.paths import is_a
from app.fhir.profiles.scene import Scene

_MEANT = {
    R4 + "structuredefinition-fhir-type": "ElementDefinition.type",
    R4 + "structuredefinition-normative-version": "DomainResource",
}
"""Where R4 itself uses extensions of its own, other than their contexts have it."""


@dataclass(frozen=True, slots=True)
class Spot:
    """An element as contexts of extensions name it."""

    value: Json
    """For a primitive, what stands under ``_name``."""
    name: str
    kind: str
    place: Place
    parent: "Spot | None" = None
    """None for a resource."""

    def names(self) -> Iterator[str]:
        """``Patient.contact.name`` from each type on the way down; its own last."""
        path, spot = "", self
        while spot.parent is not None:
            yield spot.kind + path
            path = f".{spot.name}{path}"
            spot = spot.parent
        yield spot.kind + path


def check_claims(item: Item, library: Library, scene: Scene) -> None:
    """The resource against each profile of its ``meta.profile``. Raises EnoughError with the verdict."""
    meta = item.value.get("meta")
    claims = meta.get("profile") if meta.__class__ is dict else None
    for index, canonical in enumerate(claims if claims.__class__ is list else []):
        if canonical.__class__ is str:
            place = ((item.place, "meta", None), "profile", index)
            _check_claim(item, canonical, place, library, scene)


def _check_claim(item: Item, canonical: str, place: Place, library: Library, scene: Scene) -> None:
    try:
        profile = library.profile(canonical)
    except UnusableProfile as error:
        scene.verdict.warning("not-supported", place, f"Not checked: this profile. {error}")
        return
    if profile is not None:
        require(item, profile, scene)
    elif not is_a(item.kind, library.type_of(canonical)):
        scene.verdict.warning("not-found", place, "Not checked: this profile is not known here.")


def check_within(item: Item, library: Library, scene: Scene) -> None:
    """All extensions of a resource, and all resources in it. Raises EnoughError with the verdict."""
    _Walk(library, scene).inside(Spot(item.value, item.kind, item.kind, item.place))


@cache
def _members(kind: str) -> Mapping[str, tuple[str, str]]:
    """JSON property → (element name, type), companions of primitives included."""
    try:
        named = json_names(kind)
    except KeyError:
        return {}
    plain = {key: (element.name, concrete) for key, (element, concrete) in named.items()}
    return plain | {"_" + key: found for key, found in plain.items()}


class _Walk:
    def __init__(self, library: Library, scene: Scene) -> None:
        self._library = library
        self._scene = scene

    def inside(self, spot: Spot) -> None:
        members = _members(spot.kind)
        for key, member in spot.value.items():
            if member.__class__ is dict:
                name, kind = members.get(key, (key, ""))
                self._one(Spot(member, name, kind, (spot.place, name, None), spot))
            elif member.__class__ is list:
                name, kind = members.get(key, (key, ""))
                for index, one in enumerate(member):
                    if one.__class__ is dict:
                        self._one(Spot(one, name, kind, (spot.place, name, index), spot))

    def _one(self, spot: Spot) -> None:
        if spot.kind == "Resource":
            self._resource(spot)
            return
        if spot.kind == "Extension":
            self._extension(spot)
        self.inside(spot)

    def _resource(self, spot: Spot) -> None:
        item = Item(spot.value, None, resource_type(spot.value), spot.place)
        scene = self._scene.inside(spot.value)
        check_claims(item, self._library, scene)
        check_within(item, self._library, scene)

    # Extensions.

    def _extension(self, spot: Spot) -> None:
        url = spot.value.get("url")
        if url.__class__ is not str or (":" not in url and _kind(spot.parent) == "Extension"):
            return  # a part of an extension is described by the definition of the whole
        try:
            profile = self._library.profile(url)
        except UnusableProfile as error:
            self._not_understood(spot, f"its definition cannot be used. {error}")
            return
        if profile is None or profile.type != "Extension":
            self._not_understood(spot, "its definition is not known here.")
            return
        require(Item(spot.value, None, "Extension", spot.place), profile, self._scene)
        self._check_property(spot, profile)
        self._check_context(spot, profile)

    def _not_understood(self, spot: Spot, reason: str) -> None:
        if spot.name == "modifierExtension":
            text = f"This modifier extension is not understood, so the resource is not: {reason}"
            self._scene.verdict.error("extension", spot.place, text)
        else:
            self._scene.verdict.information("not-found", spot.place, f"Not checked: this extension; {reason}")

    def _check_property(self, spot: Spot, profile: Profile) -> None:
        needed = "modifierExtension" if profile.is_modifier else "extension"
        if spot.name != needed:
            self._scene.verdict.error("extension", spot.place, f"{profile.name} has to stand in {needed}.")

    def _check_context(self, spot: Spot, profile: Profile) -> None:
        holder = spot.parent
        if holder is None:
            return
        answers = {_is_context(context, holder) for context in profile.contexts}
        if (meant := _MEANT.get(profile.url)) and _is_named(meant, holder):
            return
        where = ", ".join(context.expression for context in profile.contexts)
        if answers == {False}:
            self._scene.verdict.error("extension", spot.place, f"{profile.name} may stand only in: {where}.")
        elif answers and True not in answers:
            text = f"Not checked: whether {profile.name} may stand here, but only in: {where}."
            self._scene.verdict.information("not-supported", spot.place, text)
        for expression in profile.context_invariants if self._scene.invariants else ():
            self._check_context_invariant(spot, holder, expression, profile)

    def _check_context_invariant(self, spot: Spot, holder: Spot, expression: str, profile: Profile) -> None:
        item = Item(holder.value, None, holder.kind, holder.place)
        answer = holds(expression, item, self._scene, {"extension": (spot.value, "Extension")})
        text = f"{profile.name} may stand only where this holds: {expression}"
        if answer is False:
            self._scene.verdict.error("extension", spot.place, text)
        elif answer is None:
            self._scene.verdict.information("not-supported", spot.place, f"Not checked: {text}")


def _kind(spot: Spot | None) -> str:
    return spot.kind if spot else ""


def _is_context(context: Context, holder: Spot) -> bool | None:
    """Whether an extension may stand in ``holder`` by this context; None when that cannot be told."""
    if context.type == "extension":
        return holder.kind == "Extension" and holder.value.get("url") == context.expression
    if context.type != "element":
        return None
    return _is_named(context.expression.rpartition("#")[2].replace("[x]", ""), holder)


def _is_named(element: str, holder: Spot) -> bool:
    # R4's authors mean a resource too when they say Element: its own examples have such extensions there.
    return element == "Element" or element in holder.names() or is_a(holder.kind, element)
