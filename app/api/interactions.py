"""The FHIR RESTful interactions (R4 http): parse, call one use case, render."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from app.api.caller import body as sent_body
from app.api.caller import form_body, resource_body
from app.api.endpoints import Address, Handler, UseCases, endpoint, pairs_of, recorded
from app.api.outcome import outcome
from app.api.terminology import OPERATIONS
from app.api.validating import validate_resource
from app.asked import Asked, Release
from app.audit.entry import Interaction, Receipt
from app.errors import (
    BadRequest,
    CandourError,
    MalformedSearch,
    MethodNotAllowed,
    NotFound,
    UnknownType,
)
from app.exchange import Part, parts_of
from app.fhir import bundle
from app.fhir.compartments import COMPARTMENTS
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.history import history_window
from app.fhir.instants import instant, read_http_date
from app.fhir.patching.fhirpath_patch import apply_fhirpath_patch
from app.fhir.patching.json_patch import apply_json_patch
from app.fhir.patching.narrative import with_safe_narrative
from app.fhir.query import Compartment, parse_search
from app.fhir.several import parse_several
from app.fhir.subset import Subset, read_subset
from app.fhir.text import Parsed, parse

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_WHOLE = re.compile(r"[0-9]{1,18}\Z")
_VERSION = re.compile(r"[1-9][0-9]{0,9}\Z")
DEFAULT_COUNT = 20
JSON_PATCH = "application/json-patch+json"


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


async def create(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    resource_type = _type(http)
    body = await resource_body(http, use.max_body_bytes)
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
        await resource_body(http, use.max_body_bytes),
        if_match=http.headers.get("if-match"),
        if_none_match=http.headers.get("if-none-match"),
    )


async def update_where(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """PUT [type]?[criteria]."""
    body = await resource_body(http, use.max_body_bytes)
    criteria = _criteria(http)
    return await use.exchange.update_if_one_matches(
        asked, _type(http), body, criteria, if_match=http.headers.get("if-match")
    )


async def delete_where(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """DELETE [type]?[criteria]."""
    return await use.exchange.delete_if_one_matches(asked, _type(http), _criteria(http))


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
    """What the body makes of a resource's text, with a narrative that is still true of it."""
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON_PATCH:
        operations = await sent_body(http, limit)
        return lambda text: with_safe_narrative(text, apply_json_patch(text, operations))
    parameters = parse(await resource_body(http, limit))
    return lambda text: with_safe_narrative(text, apply_fhirpath_patch(text, parameters))


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
        resource_type, pairs, strict=_strict(http), base_url=use.door.base_url, default_count=DEFAULT_COUNT
    )
    return await use.disclosure.search(asked, query)


async def search_compartment(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    """GET [compartment]/[id]/[type], or ``*`` for every type of it (R4 http, 3.1.0.9)."""
    resource_type, id = _instance(http)
    if resource_type not in COMPARTMENTS:
        raise NotFound
    compartment, kind = Compartment(resource_type, id), http.path_params["kind"]
    pairs = pairs_of(http.scope["query_string"].decode("latin-1"))
    base_url, strict = use.door.base_url, _strict(http)
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
    several = parse_several(pairs, strict=_strict(http), base_url=use.door.base_url)
    return await use.disclosure.search_several(asked, several)


async def _audit_events(use: UseCases, asked: Asked, given: dict[str, str]) -> Release:
    unknown = set(given) - {"patient", "_count", "_before", "_format"}
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


async def everything(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    id = http.path_params["id"]
    if not _ID.match(id):
        raise NotFound
    unknown = {name for name, _ in pairs_of(http.scope["query_string"].decode("latin-1"))} - {
        "_count",
        "_format",
    }
    if unknown:
        raise MalformedSearch(f"$everything does not support {', '.join(sorted(unknown))} here.")
    return await use.disclosure.everything(asked, id, count=_count(http))


async def next_page(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    return await use.disclosure.next_page(asked, http.query_params.get("_cursor", ""))


async def exchange(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    parsed = parse(await resource_body(http, use.max_body_bytes))
    if parsed.value.get("resourceType") != "Bundle":
        raise BadRequest("Only a Bundle of type transaction or batch is accepted here.", expression="Bundle")
    kind = parsed.value.get("type")
    if kind == "transaction":
        return await use.exchange.transaction(asked, parsed)
    if kind == "batch":
        return await batch(use, asked, parsed)
    raise BadRequest("Only a Bundle of type transaction or batch is accepted here.", expression="Bundle.type")


async def batch(use: UseCases, asked: Asked, parsed: Parsed) -> Release:
    """Each entry is a request of its own, with its own outcome and audit entry (R4 http, 3.1.0.11.1)."""
    receipts: list[Receipt] = []
    entries: list[str] = []
    for place, part in enumerate(parts_of(parsed)):
        one = replace(asked, recorded=False, whose=None, interaction=part.interaction)
        one.request = replace(asked.request, method=part.method, target=f"/fhir/{part.url}")
        try:
            release = await _carry_out(use, one, part)
        except CandourError as error:
            error = await recorded(use, one, error)
            error.at_entry(place)
            entries.append(bundle.response_entry(status=_status(error.status), outcome=outcome(error.issues)))
        else:
            receipts += release.receipts
            entries.append(_response(release))
    return Release(bundle.response("batch-response", entries), receipts)


async def _carry_out(use: UseCases, asked: Asked, part: Part) -> Release:
    address, _, query = part.url.partition("?")
    resource_type, _, id = address.partition("/")
    if resource_type not in RESOURCE_TYPES:
        raise UnknownType
    if part.method == "GET" and not id and resource_type == "AuditEvent":
        asked.interaction = Interaction.AUDIT_READ
        return await _audit_events(use, asked, dict(pairs_of(query)))
    if part.method == "GET" and not id:
        parsed = parse_search(
            resource_type,
            pairs_of(query),
            strict=False,
            base_url=use.door.base_url,
            default_count=DEFAULT_COUNT,
        )
        return await use.disclosure.search(asked, parsed)
    if part.method == "POST" and not id and part.if_none_exist is not None:
        return await use.exchange.create_if_none_exist(asked, resource_type, part.body, part.if_none_exist)
    if part.method == "POST" and not id:
        return await use.submission.create(asked, resource_type, part.body)
    if part.method == "PUT" and not id and query:
        return await use.exchange.update_if_one_matches(
            asked, resource_type, part.body, query, if_match=part.if_match
        )
    if part.method == "DELETE" and not id and query:
        return await use.exchange.delete_if_one_matches(asked, resource_type, query)
    if not _ID.match(id) or query:
        raise BadRequest("In a batch, request.url is [type], [type]?[parameters] or [type]/[id].")
    if part.method == "GET":
        return await use.disclosure.read(asked, resource_type, id)
    if part.method == "PUT":
        return await use.submission.update(asked, resource_type, id, part.body, if_match=part.if_match)
    if part.method == "DELETE":
        return await use.submission.delete(asked, resource_type, id, if_match=part.if_match)
    raise MethodNotAllowed(["GET", "POST", "PUT", "DELETE"])


def _response(release: Release) -> str:
    return bundle.response_entry(
        status=_status(release.status),
        location=release.location or "",
        etag=release.etag or "",
        last_modified=instant(release.last_modified) if release.last_modified else "",
        resource=release.body or None,
    )


def _status(code: int) -> str:
    return f"{int(code)} {HTTPStatus(code).phrase}"


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


def _count(http: HttpRequest) -> int | None:
    count = http.query_params.get("_count")
    if count is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", count, re.ASCII):
        raise MalformedSearch("_count is a whole number.")
    return int(count)


def _strict(http: HttpRequest) -> bool:
    return "handling=strict" in http.headers.get("prefer", "").replace(" ", "")


class _TypeSegment(StringConvertor):
    """What has the form of a resource type; anything else is at no address."""

    regex = "[A-Z][A-Za-z]+"


class _KindSegment(StringConvertor):
    """A resource type, or ``*`` for all."""

    regex = r"[A-Z][A-Za-z]+|\*"


class _IdSegment(StringConvertor):
    """An id of R4's form."""

    regex = r"[A-Za-z0-9\-.]{1,64}"


register_url_convertor("r4type", _TypeSegment())
register_url_convertor("r4id", _IdSegment())
register_url_convertor("r4kind", _KindSegment())


def routes(use: UseCases) -> list[Route]:
    """The FHIR interactions under the base, the most frequent first."""
    one, kind = "/fhir/{type:r4type}/{id:r4id}", "/fhir/{type:r4type}"

    def route(path: str, **handlers: tuple[Interaction, Handler]) -> Route:
        by_method = {method: endpoint(use, *handler) for method, handler in handlers.items()}
        if "GET" in by_method:
            by_method["HEAD"] = by_method["GET"]
        return Route(path, Address(by_method))

    return [
        route(
            one,
            GET=(Interaction.READ, read),
            PUT=(Interaction.UPDATE, update),
            PATCH=(Interaction.PATCH, patch),
            DELETE=(Interaction.DELETE, delete),
        ),
        route(
            kind,
            GET=(Interaction.SEARCH, search),
            POST=(Interaction.CREATE, create),
            PUT=(Interaction.UPDATE, update_where),
            PATCH=(Interaction.PATCH, patch_where),
            DELETE=(Interaction.DELETE, delete_where),
        ),
        route(f"{kind}/_search", POST=(Interaction.SEARCH, search_by_post)),
        route(f"{kind}/$validate", POST=(Interaction.OPERATION, validate_resource)),
        route(
            f"{one}/$validate",
            GET=(Interaction.OPERATION, validate_resource),
            POST=(Interaction.OPERATION, validate_resource),
        ),
        route("/fhir/_page", GET=(Interaction.SEARCH, next_page)),
        route("/fhir/Patient/{id:r4id}/$everything", GET=(Interaction.EVERYTHING, everything)),
        *(
            route(path, GET=(Interaction.OPERATION, handler), POST=(Interaction.OPERATION, handler))
            for (resource_type, name, on_instances), handler in OPERATIONS.items()
            for path in (
                f"/fhir/{resource_type}/{name}",
                *([f"/fhir/{resource_type}/{{id:r4id}}/{name}"] if on_instances else []),
            )
        ),
        route(f"{one}/_history", GET=(Interaction.HISTORY, history)),
        route(f"{one}/_history/{{version}}", GET=(Interaction.VREAD, vread)),
        route(f"{one}/{{kind:r4kind}}", GET=(Interaction.SEARCH, search_compartment)),
        route("/fhir/_search", POST=(Interaction.SEARCH, search_system)),
        *(
            route(root, GET=(Interaction.SEARCH, search_system), POST=(Interaction.TRANSACTION, exchange))
            for root in ("/fhir", "/fhir/")
        ),
    ]
