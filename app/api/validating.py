"""$validate: what R4 and the profiles say of a resource (R4 resource-operation-validate).

A profile is a StructureDefinition that is kept here. What the answer names as not checked was not checked. The answer
is 200 whatever was found, for the operation did what was asked.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request as HttpRequest

from app.api.caller import resource_body
from app.api.endpoints import UseCases, pairs_of
from app.api.outcome import outcome
from app.asked import Asked, Release
from app.errors import (
    InvalidDefinition,
    InvalidInput,
    InvalidResource,
    Issue,
    NotEnumerable,
    TooCostly,
    UnsupportedInput,
    UnusableProfile,
)
from app.fhir.profiles.conformance import Library, validate_claims, validate_profile
from app.fhir.terminology import ON_BOARD
from app.fhir.text import parse
from app.fhir.validation import validate

_ROUNDS = 12
"""A profile names others, which name others."""

_CONFORMS = Issue("information", "informational", "No fault was found.")


@dataclass(frozen=True, slots=True)
class _Asked:
    """The resource to validate, None for the one that is kept, and the profile to validate it against."""

    resource: dict[str, Any] | None
    profile: str | None


async def validate_resource(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = http.path_params["type"], http.path_params.get("id")
    given = await _given(use, http)
    resource = given.resource
    if resource is None and id is not None:
        resource = parse((await use.disclosure.read(asked, resource_type, id)).body).value
    if resource is None:
        raise InvalidInput("resource", "a resource to validate is needed.")
    issues = await _issues(use, asked, resource_type, resource, given.profile)
    text = outcome(issues or [_CONFORMS])
    if asked.recorded:
        return Release(text, ())
    return await use.disclosure.of_nobody(asked, resource_type, text, letters="crus")


async def _given(use: UseCases, http: HttpRequest) -> _Asked:
    named = dict(pairs_of(http.scope["query_string"].decode("latin-1")))
    unknown = named.keys() - {"profile", "mode", "_format", "_pretty"}
    if unknown:
        raise UnsupportedInput(min(unknown), "this operation does not know it.")
    if http.method != "POST":
        return _Asked(None, _profile(named))
    body = parse(await resource_body(http, use.max_body_bytes)).value
    if body.get("resourceType") != "Parameters" or http.path_params["type"] == "Parameters":
        return _Asked(body, _profile(named))
    parts = body.get("parameter", [])
    found = {part.get("name"): part for part in parts if isinstance(part, dict)}
    said = {name: _text(part) for name, part in found.items() if name in ("profile", "mode")}
    resource = found.get("resource", {}).get("resource")
    if resource is not None and not isinstance(resource, dict):
        raise InvalidInput("resource", "a resource is needed.")
    return _Asked(resource, _profile({**named, **said}))


def _text(part: Mapping[str, Any]) -> str:
    return next((str(value) for name, value in part.items() if name.startswith("value")), "")


def _profile(named: Mapping[str, str]) -> str | None:
    if named.get("mode", "profile") not in ("create", "update", "profile"):
        raise UnsupportedInput(
            "mode", "create, update or profile; whether a resource may be deleted is not told."
        )
    return named.get("profile") or None


async def _issues(
    use: UseCases, asked: Asked, resource_type: str, resource: dict[str, Any], profile: str | None
) -> list[Issue]:
    """Once more as long as definitions are found that the last round has missed."""
    try:
        validate(resource, expected_type=resource_type)
    except InvalidResource as error:
        return list(error.issues)
    known: dict[str, Mapping[str, Any] | None] = {}
    for _ in range(_ROUNDS):
        missed: set[str] = set()
        issues = await asyncio.to_thread(_checked, resource, profile, known, missed)
        found = await use.disclosure.definitions("StructureDefinition", sorted(missed))
        if not found:
            return issues
        known |= found
    raise TooCostly("The profiles name too many others to be checked.")


def _checked(
    resource: dict[str, Any],
    profile: str | None,
    known: Mapping[str, Mapping[str, Any] | None],
    missed: set[str],
) -> list[Issue]:
    def resolve(url: str) -> Mapping[str, Any] | None:
        if url not in known:
            missed.add(url)
        return known.get(url)

    library = Library(resolve)
    try:
        if profile is None:
            return validate_claims(resource, library, members=_members)
        wanted = library.profile(profile)
    except UnusableProfile as error:
        return list(error.issues)
    if wanted is None:
        return [Issue("error", "not-found", "The profile is not known here; nothing was checked against it.")]
    return validate_profile(resource, wanted, members=_members)


def _members(value_set: str) -> frozenset[tuple[str, str]] | None:
    try:
        return ON_BOARD.members(value_set)
    except (NotEnumerable, InvalidDefinition, TooCostly):
        return None
