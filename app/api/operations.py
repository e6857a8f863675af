"""Operations on what is kept here (R4 operations, 3.2.0): parameters read, one use case called."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request as HttpRequest

from app.api.caller import resource_body
from app.api.endpoints import Handler, UseCases, is_strict, pairs_of
from app.asked import Asked, Release
from app.audit.entry import Interaction
from app.errors import (
    BadRequest,
    InvalidInput,
    NotFound,
    UnknownType,
    UnsupportedInput,
    UnsupportedOperation,
)
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.extent import OF_A_PATIENT, OF_AN_ENCOUNTER, read_extent
from app.fhir.metadata import Labels, adding, meta_of, removing, sent_labels
from app.fhir.patching.json_patch import apply_json_patch
from app.fhir.query import MOST_COUNT, parse_search
from app.fhir.terminology_inputs import Inputs, Kind, from_pairs, from_parameters
from app.fhir.text import parse

Given = list[tuple[str, str]] | dict[str, Any]

_OF_A_DOCUMENT: Final[Mapping[str, Kind]] = {"persist": "boolean", "graph": "unsupported"}
_OF_ANY_DOCUMENT: Final[Mapping[str, Kind]] = {"id": "text", **_OF_A_DOCUMENT}
_MOST_OF_A_CODE = 1_000
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


async def everything(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    extent = read_extent(await sent_to_operation(use, http), OF_A_PATIENT)
    return await use.disclosure.everything(asked, http.path_params["id"], extent)


async def everything_of_encounter(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    extent = read_extent(await sent_to_operation(use, http), OF_AN_ENCOUNTER)
    return await use.disclosure.everything_of_encounter(asked, http.path_params["id"], extent)


async def last_of_each(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """Observation/$lastn: ``max``, and what a search for Observations is asked with."""
    inputs = _search_inputs(await sent_to_operation(use, http))
    most = inputs.number("max")
    if most is not None and not 0 < most <= _MOST_OF_A_CODE:
        raise InvalidInput("max", f"a whole number, 1 to {_MOST_OF_A_CODE:,}, is needed.")
    pairs = [(name, value) for name, values in inputs.values.items() if name != "max" for value in values]
    query = parse_search(
        "Observation",
        pairs,
        strict=is_strict(http),
        base_url=use.door.base_url,
        default_count=MOST_COUNT,
    )
    if query.sort:
        raise UnsupportedInput("_sort", "the newest come first.")
    if query.patient_scope is None:
        raise InvalidInput("patient", "a patient or a subject is needed: one Patient of this node.")
    address = use.door.base_url + asked.request.target.removeprefix("/fhir")
    return await use.disclosure.last_of_each(asked, query, address, most=most or 1)


def _search_inputs(given: Given) -> Inputs:
    """Every parameter as text, repeated ones too, but ``max``: which others there are the search knows."""
    names: dict[str, Kind]
    if isinstance(given, list):
        names = {name: "text" for name, _ in given}
        return from_pairs(given, {**names, "max": "whole"}, repeating=names.keys() - {"max"})
    listed = given.get("parameter")
    parts = listed if isinstance(listed, list) else []
    names = {str(one.get("name")): "text" for one in parts if isinstance(one, dict)}
    return from_parameters(given, {**names, "max": "whole"}, repeating=names.keys() - {"max"})


async def document(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """Composition/[id]/$document, and Composition/$document?id=[id]."""
    given = await sent_to_operation(use, http)
    named = http.path_params.get("id")
    kinds = _OF_ANY_DOCUMENT if named is None else _OF_A_DOCUMENT
    inputs = from_pairs(given, kinds) if isinstance(given, list) else from_parameters(given, kinds)
    if inputs.flag("persist"):
        raise UnsupportedInput("persist", "documents are made when they are asked for, and not kept.")
    id = named or inputs.needed("id")
    if not _ID.fullmatch(id):
        raise InvalidInput("id", "the id of a Composition that is kept here is needed.")
    return await use.disclosure.document(asked, id)


async def meta(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """The profiles, tags and labels of what may be read, with its version."""
    _nothing_but_presentation(http)
    resource_type, id = _instance(http)
    version = http.path_params.get("version")
    if version is None:
        release = await use.disclosure.read(asked, resource_type, id)
    elif version.isascii() and version.isdigit() and len(version) < 10:
        release = await use.disclosure.vread(asked, resource_type, id, version)
    else:
        raise NotFound
    return replace(release, body=meta_of(release.body))


async def meta_of_type(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    _type(http)
    raise UnsupportedOperation(
        "$meta is answered for one resource: to tell what is in use in a type, all of it would be read."
    )


async def add_meta(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    return await _relabelled(use, asked, http, adding)


async def delete_meta(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    return await _relabelled(use, asked, http, removing)


async def _relabelled(
    use: UseCases, asked: Asked, http: HttpRequest, change: Callable[[str, Labels], str]
) -> Release:
    """As a patch is: by who may read the record as well as change it, and as a later version."""
    resource_type, id = _instance(http)
    labels = sent_labels(parse(await resource_body(http, use.max_body_bytes)))
    seen = await use.disclosure.seen(asked, resource_type, id)

    def apply(text: str) -> str:
        return apply_json_patch(text, change(text, labels))

    release = await use.submission.patch(
        asked, resource_type, id, apply, seen=seen, if_match=http.headers.get("if-match")
    )
    return replace(release, body=meta_of(release.body))


def _instance(http: HttpRequest) -> tuple[str, str]:
    return _type(http), http.path_params["id"]


def _type(http: HttpRequest) -> str:
    resource_type: str = http.path_params["type"]
    if resource_type not in RESOURCE_TYPES:
        raise UnknownType
    return resource_type


def _nothing_but_presentation(http: HttpRequest) -> None:
    """Raises UnsupportedInput."""
    from_pairs(pairs_of(http.scope["query_string"].decode("latin-1")), {})


_Route = tuple[str, Mapping[str, tuple[Interaction, Handler]]]


def _asked_by(
    handler: Handler, *methods: str, interaction: Interaction = Interaction.OPERATION
) -> Mapping[str, tuple[Interaction, Handler]]:
    return dict.fromkeys(methods, (interaction, handler))


_KIND = "/fhir/{type:r4kept}"
_ONE = f"{_KIND}/{{id:r4id}}"

OPERATIONS: Sequence[_Route] = (
    (
        "/fhir/Patient/{id:r4id}/$everything",
        _asked_by(everything, "GET", "POST", interaction=Interaction.EVERYTHING),
    ),
    (
        "/fhir/Encounter/{id:r4id}/$everything",
        _asked_by(everything_of_encounter, "GET", "POST", interaction=Interaction.EVERYTHING),
    ),
    ("/fhir/Observation/$lastn", _asked_by(last_of_each, "GET", "POST")),
    ("/fhir/Composition/$document", _asked_by(document, "GET", "POST")),
    ("/fhir/Composition/{id:r4id}/$document", _asked_by(document, "GET", "POST")),
    (f"{_ONE}/$meta", _asked_by(meta, "GET")),
    (f"{_ONE}/_history/{{version}}/$meta", _asked_by(meta, "GET")),
    (f"{_KIND}/$meta", _asked_by(meta_of_type, "GET", "POST")),
    (f"{_ONE}/$meta-add", _asked_by(add_meta, "POST", interaction=Interaction.PATCH)),
    (f"{_ONE}/$meta-delete", _asked_by(delete_meta, "POST", interaction=Interaction.PATCH)),
)
"""By address, and by method."""


async def sent_to_operation(use: UseCases, http: HttpRequest) -> Given:
    """The parameters of the address, or a Parameters resource."""
    if http.method != "POST":
        pairs = pairs_of(http.scope["query_string"].decode("latin-1"))
        return [pair for pair in pairs if pair[0] not in ("_format", "_pretty")]
    body = parse(await resource_body(http, use.max_body_bytes)).value
    if body.get("resourceType") != "Parameters":
        raise BadRequest("An operation is sent a Parameters resource.", expression="Parameters")
    return body
