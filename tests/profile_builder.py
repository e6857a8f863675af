"""StructureDefinitions for tests, as small as they may be, and checks against them."""

import copy
import re
from collections.abc import Mapping
from typing import Any

from app.errors import Issue
from app.fhir import validation
from app.fhir.profiles.conformance import Library, Members, validate_profile
from app.fhir.profiles.scene import nobody_knows

Json = dict[str, Any]

R4 = "http://hl7.org/fhir/StructureDefinition/"
HERE = "https://example.org/StructureDefinition/"


def element(id: str, **facts: Any) -> Json:
    """An ElementDefinition; its path and slice name are told by its id."""
    slice_name = id.rpartition(".")[2].partition(":")[2]
    named = {"sliceName": slice_name} if slice_name else {}
    return {"id": id, "path": re.sub(r":[^.]+", "", id), **named, **facts}


def structure(name: str, type: str, *elements: Json, snapshot: bool = False, **more: Any) -> Json:
    """A profile called ``name``, derived from R4's own ``type``; with a differential unless a snapshot is wanted."""
    kind = (
        "complex-type" if type == "Extension" or type in ("HumanName", "Coding", "Quantity") else "resource"
    )
    body = [element(type), *elements]
    return {
        "resourceType": "StructureDefinition",
        "url": HERE + name,
        "name": name,
        "status": "active",
        "kind": kind,
        "abstract": False,
        "type": type,
        "baseDefinition": R4 + type,
        "derivation": "constraint",
        **({"snapshot": {"element": body}} if snapshot else {"differential": {"element": body}}),
        **more,
    }


def extension(name: str, *elements: Json, context: str = "Element", **more: Any) -> Json:
    """The definition of an extension with this name."""
    url = element("Extension.url", fixedUri=HERE + name)
    contexts = [{"type": "element", "expression": context}]
    return structure(name, "Extension", *elements, url, context=contexts, **more)


def library(*definitions: Json) -> Library:
    return Library({one["url"]: one for one in definitions}.get)


def codes(sets: Mapping[str, list[tuple[str, str]]]) -> Members:
    def members(value_set: str) -> frozenset[tuple[str, str]] | None:
        return frozenset(sets[value_set]) if value_set in sets else None

    return members


def check(resource: Json, *definitions: Json, members: Members = nobody_knows) -> list[Issue]:
    """The issues of a resource, which R4 itself has nothing against, by the first of the definitions."""
    before = copy.deepcopy(resource)
    validation.validate(resource)
    profile = library(*definitions).profile(definitions[0]["url"])
    assert profile is not None
    issues = validate_profile(resource, profile, members=members)
    assert resource == before, "a check changes nothing"
    return issues


def errors(resource: Json, *definitions: Json, members: Members = nobody_knows) -> list[tuple[str, str]]:
    """(issue code, expression) of each error."""
    issues = check(resource, *definitions, members=members)
    return [(one.code, one.expression or "") for one in issues if one.severity == "error"]
