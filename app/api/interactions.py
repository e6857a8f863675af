"""The FHIR RESTful interactions (R4 http): parse, call one use case, render."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlencode

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request as HttpRequest
from starlette.routing import Route
from starlette.types import Scope

from app.api import operations
from app.api.binaries import binary_body, wanted_of_binary, wanted_of_write
from app.api.caller import body as sent_body
from app.api.caller import form_body, resource_body
from app.api.endpoints import (
    Address,
    Answering,
    Handler,
    Shaping,
    UseCases,
    endpoint,
    is_strict,
    pairs_of,
)
from app.api.representation import Representation, wanted
from app.api.terminology import OPERATIONS
from app.api.validating import validate_resource
from app.asked import Asked, Release
from app.audit.entry import Interaction
from app.errors import BadRequest, MalformedSearch, NotFound, UnknownType
from app.exchange.steps import JSON_PATCH, patch_of
from app.fhir.bundled import FHIR_JSON
from app.fhir.compartments import COMPARTMENTS
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.history import history_window
from app.fhir.instants import read_http_date
from app.fhir.query import KEPT_APART, Compartment, parse_search
from app.fhir.several import parse_several
from app.fhir.subset import Subset, read_subset

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_WHOLE = re.compile(r"[0-9]{1,18}\Z")
_VERSION = re.compile(r"[1-9][0-9]{0,9}\Z")
DEFAULT_COUNT = 20
DEFAULT_HISTORY = 100
"""Versions a page of the history of a type: a client that keeps up with a node reads all of them."""


# One record.


async def read(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    subset = _subset(http) if http.scope["query_string"] else None
    release = await use.disclosure.read(
        asked,
        resource_type,
        id,
        if_none_match=http.headers.get("if-none-match"),
        if_modified_since=read_http_date(http.headers.get("if-modified-since")),
    )
    return replace(release, body=subset.of(release.body)) if subset and release.body else release


def _subset(http: HttpRequest) -> Subset | None:
    """The part that a read may ask for. Raises MalformedSearch."""
    found = read_subset(http.query_params.get("_summary"), http.query_params.get("_elements"))
    if http.query_params.get("_summary") == "count":
        raise MalformedSearch("_summary=count: one resource is read, there is nothing to count.")
    return found


async def vread(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    version = http.path_params["version"]
    if not _VERSION.match(version):
        raise NotFound
    return await use.disclosure.vread(asked, resource_type, id, version)


async def history(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    window, count = history_window(pairs_of(http.scope["query_string"].decode("latin-1")))
    return await use.disclosure.history(asked, resource_type, id, window, count=count)


async def history_of_type(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """GET [type]/_history, and GET _history."""
    resource_type = _type(http) if "type" in http.path_params else None
    window, count = history_window(pairs_of(http.scope["query_string"].decode("latin-1")))
    return await use.disclosure.history_of_types(
        asked, resource_type, window, count=DEFAULT_HISTORY if count is None else count
    )


async def create(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type = _type(http)
    body = await _resource(use, asked, http, resource_type)
    criteria = http.headers.get("if-none-exist")
    if criteria is not None:
        return await use.exchange.create_if_none_exist(asked, resource_type, body, criteria)
    return await use.submission.create(asked, resource_type, body)


async def update(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    return await use.submission.update(
        asked,
        resource_type,
        id,
        await _resource(use, asked, http, resource_type, id),
        if_match=http.headers.get("if-match"),
        if_none_match=http.headers.get("if-none-match"),
    )


async def _resource(
    use: UseCases, asked: Asked, http: HttpRequest, resource_type: str, id: str | None = None
) -> bytes | str:
    """The resource that was sent. A Binary may come as bytes, and is then made of them."""
    if resource_type == "Binary":
        return await binary_body(asked, http, use.max_body_bytes, id)
    return await resource_body(http, use.max_body_bytes)


async def update_where(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """PUT [type]?[criteria]."""
    body = await _resource(use, asked, http, _type(http))
    return await use.exchange.update_if_one_matches(
        asked,
        _type(http),
        body,
        _criteria(http),
        if_match=http.headers.get("if-match"),
        if_none_match=http.headers.get("if-none-match"),
    )


async def delete_where(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """DELETE [type]?[criteria]."""
    return await use.exchange.delete_if_one_matches(
        asked, _type(http), _criteria(http), if_match=http.headers.get("if-match")
    )


async def patch_where(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """PATCH [type]?[criteria]."""
    resource_type = _type(http)
    apply = await _patch_of(http, use.max_body_bytes)
    id = await use.exchange.one_that_matches(asked, resource_type, _criteria(http))
    return await _patched(use, asked, http, resource_type, id, apply)


def _criteria(http: HttpRequest) -> str:
    """Without what only shapes the answer. Raises BadRequest where there are none."""
    pairs = pairs_of(http.scope["query_string"].decode("latin-1"))
    criteria = [pair for pair in pairs if pair[0] not in ("_format", "_pretty")]
    if not criteria:
        raise BadRequest("At a type, criteria are needed that select one resource: [type]?[parameters].")
    return urlencode(criteria)


async def patch(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """JSON Patch, or FHIRPath Patch in a Parameters resource; by who may read the record as well as change it."""
    resource_type, id = _instance(http)
    apply = await _patch_of(http, use.max_body_bytes)
    return await _patched(use, asked, http, resource_type, id, apply)


async def _patched(
    use: UseCases, asked: Asked, http: HttpRequest, resource_type: str, id: str, apply: Callable[[str], str]
) -> Release:
    seen = await use.disclosure.seen(asked, resource_type, id)
    return await use.submission.patch(
        asked, resource_type, id, apply, seen=seen, if_match=http.headers.get("if-match")
    )


async def _patch_of(http: HttpRequest, limit: int) -> Callable[[str], str]:
    media_type = http.headers.get("content-type", "")
    if media_type.partition(";")[0].strip().lower() == JSON_PATCH:
        return patch_of(JSON_PATCH, await sent_body(http, limit))
    return patch_of(FHIR_JSON, await resource_body(http, limit))


async def delete(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type, id = _instance(http)
    return await use.submission.delete(asked, resource_type, id, if_match=http.headers.get("if-match"))


# Many.


async def search(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    return await _search(use, asked, http, pairs_of(http.scope["query_string"].decode("latin-1")))


async def search_by_post(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """POST _search: the parameters of the form and of the address together (R4 search, 3.1.1.2)."""
    form = pairs_of(await form_body(http, use.max_body_bytes))
    return await _search(use, asked, http, pairs_of(http.scope["query_string"].decode("latin-1")) + form)


async def _search(use: UseCases, asked: Asked, http: HttpRequest, pairs: list[tuple[str, str]]) -> Release:
    resource_type = _type(http)
    if resource_type == "AuditEvent":
        asked.interaction = Interaction.AUDIT_READ
        return await _audit_events(use, asked, dict(pairs))
    query = parse_search(
        resource_type, pairs, strict=is_strict(http), base_url=use.door.base_url, default_count=DEFAULT_COUNT
    )
    return await use.disclosure.search(asked, query)


async def search_compartment(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """GET [compartment]/[id]/[type], or ``*`` for every type of it (R4 http, 3.1.0.9)."""
    resource_type, id = _instance(http)
    if resource_type not in COMPARTMENTS:
        raise NotFound
    compartment, kind = Compartment(resource_type, id), http.path_params["kind"]
    pairs = pairs_of(http.scope["query_string"].decode("latin-1"))
    base_url, strict = use.door.base_url, is_strict(http)
    if kind == "*":
        several = parse_several(pairs, strict=strict, base_url=base_url, compartment=compartment)
        return await use.disclosure.search_several(asked, several)
    query = parse_search(kind, pairs, strict=strict, base_url=base_url, compartment=compartment)
    return await use.disclosure.search(asked, query)


async def search_system(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """GET [base]?_type=…, by GET and by POST [base]/_search."""
    pairs = pairs_of(http.scope["query_string"].decode("latin-1"))
    if http.method == "POST":
        pairs += pairs_of(await form_body(http, use.max_body_bytes))
    several = parse_several(pairs, strict=is_strict(http), base_url=use.door.base_url)
    return await use.disclosure.search_several(asked, several)


async def _audit_events(use: UseCases, asked: Asked, given: dict[str, str]) -> Release:
    unknown = set(given) - {"patient", "_count", "_before", "_format", "_pretty"}
    if unknown or "patient" not in given:
        raise MalformedSearch("AuditEvent is searched by patient, with _count; nothing else is supported.")
    count = given.get("_count", "50")
    before = given.get("_before")
    if not _WHOLE.match(count) or (before is not None and not _WHOLE.match(before)):
        raise MalformedSearch("_count and _before are whole numbers.")
    return await use.disclosure.audit_events(
        asked,
        given["patient"].removeprefix("Patient/"),
        count=max(1, min(int(count), 1000)),
        before=int(before) if before else None,
    )


async def next_page(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    return await use.disclosure.next_page(asked, http.query_params.get("_cursor", ""))


# Parts.


def _type(http: HttpRequest) -> str:
    resource_type: str = http.path_params["type"]
    if resource_type not in RESOURCE_TYPES:
        raise UnknownType
    return resource_type


def _instance(http: HttpRequest) -> tuple[str, str]:
    resource_type, id = _type(http), http.path_params["id"]
    if not _ID.match(id):
        raise NotFound
    return resource_type, id


class _TypeSegment(StringConvertor):
    """What has the form of a resource type; anything else is at no address."""

    regex = "[A-Z][A-Za-z]+"


class _KeptSegment(StringConvertor):
    """A type whose resources are read and written one by one."""

    regex = rf"(?!(?:{'|'.join(sorted(KEPT_APART))})/)[A-Z][A-Za-z]+"


class _KindSegment(StringConvertor):
    """A resource type, or ``*`` for all."""

    regex = r"[A-Z][A-Za-z]+|\*"


class _IdSegment(StringConvertor):
    """An id of R4's form."""

    regex = r"[A-Za-z0-9\-.]{1,64}"


register_url_convertor("r4type", _TypeSegment())
register_url_convertor("r4id", _IdSegment())
register_url_convertor("r4kept", _KeptSegment())
register_url_convertor("r4kind", _KindSegment())


_ONE, _KIND = "/fhir/{type:r4type}/{id:r4id}", "/fhir/{type:r4type}"
Handlers = Mapping[str, tuple[Interaction, Handler]]

ADDRESSES: Sequence[tuple[str, Handlers]] = (
    (
        _ONE,
        {
            "GET": (Interaction.READ, read),
            "PUT": (Interaction.UPDATE, update),
            "PATCH": (Interaction.PATCH, patch),
            "DELETE": (Interaction.DELETE, delete),
        },
    ),
    (
        _KIND,
        {
            "GET": (Interaction.SEARCH, search),
            "POST": (Interaction.CREATE, create),
            "PUT": (Interaction.UPDATE, update_where),
            "PATCH": (Interaction.PATCH, patch_where),
            "DELETE": (Interaction.DELETE, delete_where),
        },
    ),
    (f"{_KIND}/_search", {"POST": (Interaction.SEARCH, search_by_post)}),
    (f"{_KIND}/$validate", {"POST": (Interaction.OPERATION, validate_resource)}),
    (
        f"{_ONE}/$validate",
        {
            "GET": (Interaction.OPERATION, validate_resource),
            "POST": (Interaction.OPERATION, validate_resource),
        },
    ),
    ("/fhir/_page", {"GET": (Interaction.SEARCH, next_page)}),
    *operations.OPERATIONS,
    *(
        (path, {"GET": (Interaction.OPERATION, handler), "POST": (Interaction.OPERATION, handler)})
        for (resource_type, name, on_instances), handler in OPERATIONS.items()
        for path in (
            f"/fhir/{resource_type}/{name}",
            *([f"/fhir/{resource_type}/{{id:r4id}}/{name}"] if on_instances else []),
        )
    ),
    (f"{_KIND}/_history", {"GET": (Interaction.HISTORY, history_of_type)}),
    ("/fhir/_history", {"GET": (Interaction.HISTORY, history_of_type)}),
    (f"{_ONE}/_history", {"GET": (Interaction.HISTORY, history)}),
    (f"{_ONE}/_history/{{version}}", {"GET": (Interaction.VREAD, vread)}),
    (f"{_ONE}/{{kind:r4kind}}", {"GET": (Interaction.SEARCH, search_compartment)}),
    ("/fhir/_search", {"POST": (Interaction.SEARCH, search_system)}),
)
"""The FHIR interactions under the base, the most frequent first; HEAD is GET without its body."""

AT_BASE: Handlers = {"GET": (Interaction.SEARCH, search_system)}
"""Beside transaction and batch."""


def _for_binaries(of_binary: Shaping) -> Shaping:
    """``of_binary`` at the addresses of Binary, the usual everywhere else."""

    def shaped(scope: Scope, headers: Mapping[bytes, bytes]) -> Representation:
        return (of_binary if scope["path_params"].get("type") == "Binary" else wanted)(scope, headers)

    return shaped


_SHAPINGS: Mapping[Interaction, Shaping] = {
    Interaction.READ: _for_binaries(wanted_of_binary),
    Interaction.VREAD: _for_binaries(wanted_of_binary),
    Interaction.CREATE: _for_binaries(wanted_of_write),
    Interaction.UPDATE: _for_binaries(wanted_of_write),
}


def routes(use: UseCases) -> list[Route]:
    return [Route(path, Address(answers(use, handlers))) for path, handlers in ADDRESSES]


def answers(use: UseCases, handlers: Handlers) -> dict[str, Answering]:
    by_method = {
        method: endpoint(use, interaction, handler, _SHAPINGS.get(interaction, wanted))
        for method, (interaction, handler) in handlers.items()
    }
    return {**by_method, "HEAD": by_method["GET"]} if "GET" in by_method else by_method
