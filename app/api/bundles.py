"""transaction and batch: POST at the base (R4 http, 3.1.0.11).

What an entry asks is answered by the handler that would answer it as a request by itself: nothing is offered by one way
and not by the other, and what is refused is refused in the same words.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from starlette.requests import Request as HttpRequest
from starlette.routing import Route, compile_path
from starlette.types import Message, Scope

from app.api.caller import resource_body
from app.api.endpoints import Address, UseCases, endpoint, pairs_of, recorded
from app.api.forwarded import linked
from app.api.interactions import ADDRESSES, AT_BASE, Handlers, answers
from app.api.outcome import outcome
from app.asked import Asked, Release
from app.audit.entry import Interaction, Receipt
from app.disclosure import Disclosure
from app.errors import BadRequest, CandourError, MethodNotAllowed, TooCostly, UnknownRoute
from app.exchange.responses import released_as, status_line
from app.exchange.transaction import MOST_ANSWERED
from app.fhir import bundle
from app.fhir.bundle_links import referring
from app.fhir.bundled import BundleRequest, read_bundle
from app.fhir.instants import http_date


async def exchange(use: UseCases, asked: Asked, http: HttpRequest) -> Release:
    body = await resource_body(http, use.max_body_bytes)
    # Out of the event loop: a large Bundle takes a second to read.
    bundled = await asyncio.to_thread(read_bundle, body, use.door.base_url)
    prefer = http.headers.get("prefer", "")
    if bundled.kind == "batch":
        asked.interaction = Interaction.BATCH
        return await _batch(use, asked, bundled.requests, prefer)
    return await use.exchange.transaction(asked, bundled.requests, partial(_read, use, prefer))


async def _read(
    use: UseCases, prefer: str, disclosure: Disclosure, asked: Asked, request: BundleRequest
) -> Release:
    """An entry of a transaction that reads, from ``disclosure``."""
    return await _carry_out(replace(use, disclosure=disclosure), asked, request, prefer)


async def _batch(use: UseCases, asked: Asked, requests: Sequence[BundleRequest], prefer: str) -> Release:
    """Each entry is a request of its own, with its own outcome and audit entry (R4 http, 3.1.0.11.1).

    "Servers execute the batch in the same order as that specified for transactions."
    """
    if not requests:
        release = await use.exchange.transaction(asked, (), partial(_read, use, prefer))
        return replace(release, body=bundle.response("batch-response", []))
    dependent = _dependent(requests)
    receipts: list[Receipt] = []
    answers: dict[int, str] = {}
    size = 0
    for request in sorted(requests, key=lambda one: one.order):
        one = replace(asked, recorded=False, whose=None)
        one.request = replace(asked.request, method=request.method, target=f"/fhir/{request.url}")
        try:
            if request.place in dependent:
                raise BadRequest(
                    "In a batch no entry refers to what another one creates; send a transaction."
                )
            if size > MOST_ANSWERED:
                raise TooCostly("The batch has read too much for one answer. Read it in several.")
            release = await _carry_out(use, one, request, prefer)
        except CandourError as error:
            error = await recorded(use, one, error)
            error.at_entry(request.place)
            answers[request.place] = bundle.response_entry(
                status=status_line(error.status), outcome=outcome(error.issues)
            )
        else:
            receipts += release.receipts
            size += len(release.body)
            answers[request.place] = released_as(one, release, request.method)
    return Release(bundle.response("batch-response", [answers[one.place] for one in requests]), receipts)


def _dependent(requests: Sequence[BundleRequest]) -> frozenset[int]:
    """Entries with a link to what another one is to create: "considered to be non-conformant"."""
    created = frozenset(one.full_url for one in requests if one.method == "POST" and one.full_url)
    if not created:
        return frozenset()
    return frozenset(referring([one.text for one in requests], created))


async def _carry_out(use: UseCases, asked: Asked, request: BundleRequest, prefer: str) -> Release:
    """As the request that it is. Raises what that raises."""
    handlers, parameters = _address(request.path)
    method = "GET" if request.method == "HEAD" else request.method
    if method not in handlers:
        raise MethodNotAllowed(sorted(handlers))
    asked.interaction, handler = handlers[method]
    if asked.interaction in _OF_ONE and "id" in parameters:
        _refuse_criteria(request)
    if asked.interaction in _WRITTEN and parameters.get("type") == "Binary" != request.resource_type:
        raise BadRequest("In a Bundle a Binary is sent as a resource, not as what it holds.")
    release = await (await handler(use, asked, _http(request, parameters, prefer))).whole()
    text = linked(release.body, asked.interaction, asked.request.base_url, asked.links_under)
    return release if text is release.body else replace(release, body=text)


_OF_ONE = frozenset(
    {
        Interaction.READ,
        Interaction.VREAD,
        Interaction.UPDATE,
        Interaction.PATCH,
        Interaction.DELETE,
    }
)
_WRITTEN = frozenset({Interaction.CREATE, Interaction.UPDATE})
_SHAPING = frozenset({"_format", "_pretty", "_summary", "_elements"})


def _refuse_criteria(request: BundleRequest) -> None:
    """Who names one resource and criteria as well has meant something that is not done here."""
    if any(name not in _SHAPING for name, _ in pairs_of(request.query)):
        raise BadRequest("request.url is [type]/[id] or [type]?[criteria], not both.")


_COMPILED = [(*compile_path(path)[::2], handlers) for path, handlers in (*ADDRESSES, ("/fhir/", AT_BASE))]


def _address(path: str) -> tuple[Handlers, dict[str, str]]:
    """What is offered at a path below the base, and the parameters in it. Raises UnknownRoute."""
    for pattern, convertors, handlers in _COMPILED:
        if found := pattern.match(f"/fhir/{path}"):
            parameters = {name: convertors[name].convert(text) for name, text in found.groupdict().items()}
            return handlers, parameters
    raise UnknownRoute


def _http(request: BundleRequest, parameters: dict[str, str], prefer: str) -> HttpRequest:
    media_type, body = request.sent
    headers = {"content-type": media_type, "content-length": str(len(body)), **dict(_conditions(request))}
    if prefer:
        headers["prefer"] = prefer
    scope: Scope = {
        "type": "http",
        "method": request.method,
        "path": f"/fhir/{request.path}",
        "query_string": request.query.encode(),
        "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
        "path_params": parameters,
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return HttpRequest(scope, receive)


def _conditions(request: BundleRequest) -> Iterator[tuple[str, str]]:
    since = request.if_modified_since
    for name, text in (
        ("if-none-exist", request.if_none_exist),
        ("if-match", request.if_match),
        ("if-none-match", request.if_none_match),
        ("if-modified-since", http_date(since) if since else None),
    ):
        if text is not None:
            yield name, text


def routes(use: UseCases) -> list[Route]:
    at_base = Address({**answers(use, AT_BASE), "POST": endpoint(use, Interaction.TRANSACTION, exchange)})
    return [Route("/fhir", at_base), Route("/fhir/", at_base)]
