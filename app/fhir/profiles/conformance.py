"""Whether a resource conforms: to one profile, or to all that it claims (R4 profiling, resource-operation-validate).

What R4 itself asks is ``app.fhir.validation``'s: ask that first. Here it is not asked again, and JSON that is
not R4's shape is passed over.
"""

from collections.abc import Callable, Mapping
from typing import Any

from app.errors import Issue
from app.fhir.findings import EnoughError
from app.fhir.profiles.items import Item, Json, whole
from app.fhir.profiles.library import Library, Profile, Resolve, require
from app.fhir.profiles.scene import Members, Scene, nobody_knows
from app.fhir.profiles.within import check_claims, check_within

__all__ = [
    "Library",
    "Members",
    "Profile",
    "Resolve",
    "compile_profile",
    "validate_claims",
    "validate_profile",
]

_NOT_AN_OBJECT = Issue("error", "structure", "A resource has to be a JSON object.")
_TOO_DEEP = Issue("error", "too-costly", "The resource or its profiles are nested too deeply to be checked.")


def compile_profile(structure_definition: Mapping[str, Any], resolve: Resolve) -> Profile:
    """The profile, ready for use again and again. ``resolve`` finds the further definitions that it names.

    Raises UnusableProfile, with a sentence, when nothing can be checked against it.
    """
    return Library(resolve).compile(structure_definition)


def validate_profile(
    resource: Json, profile: Profile, *, members: Members = nobody_knows, invariants: bool = True
) -> list[Issue]:
    """What is wrong with a parsed resource by the profile: errors, warnings, and what could not be checked.

    It conforms when no issue is an error. Resources in it are checked against the profiles that they claim.
    ``members`` gives a value set's codes by its canonical; what it does not know is said not to have been
    checked. Without ``invariants`` no FHIRPath is evaluated, and nothing is said of it.
    """

    def check(item: Item, scene: Scene) -> None:
        require(item, profile, scene)
        check_within(item, profile.library, scene)

    return _issues(resource, check, members, invariants)


def validate_claims(
    resource: Json, library: Library, *, members: Members = nobody_knows, invariants: bool = True
) -> list[Issue]:
    """The same for each profile of ``meta.profile``, and for extensions and resources in it when there is none."""

    def check(item: Item, scene: Scene) -> None:
        check_claims(item, library, scene)
        check_within(item, library, scene)

    return _issues(resource, check, members, invariants)


def _issues(
    resource: Json, check: Callable[[Item, Scene], None], members: Members, invariants: bool
) -> list[Issue]:
    if not isinstance(resource, dict):
        return [_NOT_AN_OBJECT]
    scene = Scene(resource, members, invariants=invariants)
    try:
        check(whole(resource), scene)
    except EnoughError:
        pass
    except RecursionError:
        return [*scene.verdict.issues, _TOO_DEEP]
    return scene.verdict.issues
