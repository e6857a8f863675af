"""transaction and batch: many writes in one request (R4 http, 3.1.0.11).

A transaction is one database transaction: all of it is kept, with its audit entries, or nothing is. A batch is its
entries one by one, each recorded as a request of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

import asyncpg

from app.asked import Asked, Release, accounted
from app.audit.entry import Interaction, Outcome
from app.errors import BadRequest, CandourError, Conflict, InvalidResource, Issue, NotFound, NotUnique
from app.fhir import bundle
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.instants import instant
from app.fhir.keys import key64
from app.fhir.query import SearchQuery, parse_search
from app.fhir.text import Parsed, array_item_spans, member_spans, parse, reference_rewriter
from app.records.matching import homes, matching_ids
from app.submission import Draft, Submission, Written, release_of

_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2}
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_INSTANCE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})\Z")


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a transaction, as asked."""

    place: int
    method: str
    resource_type: str
    id: str
    """The id it will have: given in the address, or chosen by the server."""
    full_url: str | None
    text: str | None
    criteria: str | None
    """Of a conditional create (``ifNoneExist``), update or deletion."""
    if_match: str | None
    existing: bool = False
    """Whether a conditional create found the resource ``id`` here, so that nothing is written."""

    @property
    def reference(self) -> str:
        return f"{self.resource_type}/{self.id}"


class Exchange:
    """The use case behind ``POST [base]``."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission

    async def refuse(self, asked: Asked, error: CandourError, *, outcome: Outcome = "4") -> None:
        await self._submission.refuse(asked, error, outcome=outcome)

    @accounted
    async def transaction(self, asked: Asked, parsed: Parsed) -> Release:
        """All or nothing, in the order DELETE, POST, PUT; the answer keeps the order of the request."""
        steps = steps_of(parsed, asked.request.base_url)
        for step in steps:
            with _named(step.place):
                self._may(asked, step)
        async with self._submission.transaction(asked.caller) as connection:
            steps, written = await self.keep(connection, asked, parsed, steps)
            receipts = await self._submission.record(
                connection, asked, [one for one in written.values() if one]
            )
        entries = [_response(asked, step, written.get(step.place)) for step in steps]
        return Release(bundle.response("transaction-response", entries), receipts)

    async def keep(
        self, connection: asyncpg.Connection, asked: Asked, parsed: Parsed, steps: Sequence[Step]
    ) -> tuple[list[Step], dict[int, Written | None]]:
        """Carries out all steps in the open transaction; gives them as matched, and what each left behind."""
        _refuse_overlaps(steps)
        await self._lock_criteria(connection, asked, steps)
        matched = [await self._matched(connection, asked, step) for step in steps]
        _refuse_overlaps([step for step in matched if step.criteria is not None or not step.existing])
        mapping = await self._rewritten(connection, asked, parsed, matched)
        return matched, await self._carry_out(connection, asked, matched, mapping)

    @accounted
    async def create_if_none_exist(
        self, asked: Asked, resource_type: str, body: bytes | str, criteria: str
    ) -> Release:
        """POST with If-None-Exist: creates unless one matches, and never twice (R4 http, 3.1.0.8.1)."""
        self._submission.may(asked.caller, resource_type, "c")
        draft = self._submission.draft(asked, resource_type, str(uuid4()), body)
        async with self._submission.transaction(asked.caller) as connection:
            found = await self.existing(connection, asked, resource_type, criteria)
            if found:
                await self._submission.about(connection, asked, resource_type, found)
            written = [] if found else await self._submission.keep_new(connection, asked, [draft])
            receipts = await self._submission.record(connection, asked, written)
        if found:
            return Release("", receipts, 200, location=f"{asked.request.base_url}/{resource_type}/{found}")
        return release_of(asked, written[0], receipts)

    @accounted
    async def update_if_one_matches(
        self,
        asked: Asked,
        resource_type: str,
        body: bytes | str,
        criteria: str,
        *,
        if_match: str | None = None,
    ) -> Release:
        """PUT [type]?[criteria]: updates the one that matches, creates when none does (R4 http, 3.1.0.7.1)."""
        self._submission.may(asked.caller, resource_type, "u")
        parsed = parse(body)
        async with self._submission.transaction(asked.caller) as connection:
            id = await self._updated_id(connection, asked, resource_type, parsed.value.get("id"), criteria)
            draft = self._submission.draft_parsed(asked, resource_type, id, parsed)
            written = await self._submission.keep(connection, asked, draft, if_match=if_match)
            receipts = await self._submission.record(connection, asked, [written])
        return release_of(asked, written, receipts)

    async def _updated_id(
        self, connection: asyncpg.Connection, asked: Asked, resource_type: str, given: object, criteria: str
    ) -> str:
        """Of the resource that a conditional update means; one of the body's or of ours when none matches."""
        found = await self.existing(connection, asked, resource_type, criteria)
        if given is not None and (not isinstance(given, str) or not _ID.fullmatch(given)):
            raise BadRequest("the body's id is not one of FHIR R4.", expression=f"{resource_type}.id")
        if found is not None:
            if given not in (None, found):
                raise BadRequest(
                    "The body's id is not that of the resource that matches.",
                    expression=f"{resource_type}.id",
                )
            return found
        self._submission.may(asked.caller, resource_type, "c")
        if isinstance(given, str) and await homes(connection, [(resource_type, given)]):
            raise Conflict("The body's id is in use, by a resource that does not match.")
        return given if isinstance(given, str) else str(uuid4())

    @accounted
    async def delete_if_one_matches(self, asked: Asked, resource_type: str, criteria: str) -> Release:
        """DELETE [type]?[criteria]: the one that matches; none is no error, several are (R4 http, 3.1.0.7.1)."""
        self._submission.may(asked.caller, resource_type, "d")
        async with self._submission.transaction(asked.caller) as connection:
            found = await self.existing(connection, asked, resource_type, criteria)
            removed = found and await self._submission.remove(connection, asked, resource_type, found)
            receipts = await self._submission.record(connection, asked, [removed] if removed else [])
        return Release("", receipts, 204, removed.etag if removed else None)

    async def one_that_matches(self, asked: Asked, resource_type: str, criteria: str) -> str:
        """Its id. Raises NotFound or NotUnique, and records nothing: for a write that follows."""
        self._submission.may(asked.caller, resource_type, "u")
        async with self._submission.transaction(asked.caller) as connection:
            found = await self.existing(connection, asked, resource_type, criteria)
        if found is None:
            raise NotFound
        return found

    def _may(self, asked: Asked, step: Step) -> None:
        letter = {"POST": "c", "PUT": "u", "DELETE": "d"}[step.method]
        self._submission.may(asked.caller, step.resource_type, letter)

    async def known(self, connection: asyncpg.Connection, asked: Asked, steps: Sequence[Step]) -> list[Step]:
        """For loading: what is kept under its id already is updated, or left alone when another custodian keeps it."""
        kept = await homes(connection, [(step.resource_type, step.id) for step in steps])
        return [
            step
            if step.reference not in kept
            else replace(step, existing=True)
            if kept[step.reference] != asked.caller.organisation
            else replace(step, method="PUT", criteria=None)
            for step in steps
        ]

    async def _matched(self, connection: asyncpg.Connection, asked: Asked, step: Step) -> Step:
        """A conditional create that finds its resource here writes nothing and means that resource.

        A conditional update or deletion means the one that matches; a deletion of none does nothing.
        """
        if step.criteria is None or step.existing:
            return step
        with _named(step.place):
            if step.method == "PUT":
                given = parse(step.text or "").value.get("id")
                id = await self._updated_id(connection, asked, step.resource_type, given, step.criteria)
                return replace(step, id=id)
            found = await self.existing(connection, asked, step.resource_type, step.criteria)
        if step.method == "DELETE":
            return replace(step, id=found) if found else step
        return replace(step, id=found, existing=True) if found else step

    async def _lock_criteria(
        self, connection: asyncpg.Connection, asked: Asked, steps: Sequence[Step]
    ) -> None:
        """All at once and in one order, so that two transactions never wait for each other."""
        keys = []
        for step in steps:
            if step.criteria is not None and not step.existing:
                with _named(step.place):
                    query = _criteria(step.resource_type, step.criteria, asked.request.base_url)
                keys.append(_lock_key(query))
        if len(set(keys)) < len(keys):
            raise BadRequest("Two entries have the same criteria: they mean the same resource.")
        for key in sorted(keys):
            await connection.execute(_LOCK, key)

    async def existing(
        self, connection: asyncpg.Connection, asked: Asked, resource_type: str, criteria: str
    ) -> str | None:
        """The one resource that matches, locked against a second creation. Raises NotUnique, MalformedSearch."""
        query = _criteria(resource_type, criteria, asked.request.base_url)
        await connection.execute(_LOCK, _lock_key(query))
        found = await matching_ids(connection, query, asked.caller.organisation)
        if len(found) > 1:
            raise NotUnique
        return found[0] if found else None

    async def _rewritten(
        self, connection: asyncpg.Connection, asked: Asked, parsed: Parsed, steps: Sequence[Step]
    ) -> dict[str, str]:
        """What each reference to another entry becomes: by fullUrl, and by conditional reference."""
        mapping = {
            step.full_url: step.reference for step in steps if step.full_url and step.method != "DELETE"
        }
        for reference in sorted(_conditional_references(parsed.value)):
            if reference not in mapping:
                mapping[reference] = await self._resolved(connection, asked, reference)
        return mapping

    async def _resolved(self, connection: asyncpg.Connection, asked: Asked, reference: str) -> str:
        resource_type, _, criteria = reference.partition("?")
        if resource_type not in RESOURCE_TYPES:
            raise BadRequest("A conditional reference names an unknown resource type.")
        found = await self.existing(
            connection, asked, resource_type, unquote(criteria) if "%" in criteria else criteria
        )
        if found is None:
            raise NotUnique(f"A conditional reference to {resource_type} matches nothing here.")
        return f"{resource_type}/{found}"

    async def _carry_out(
        self, connection: asyncpg.Connection, asked: Asked, steps: Sequence[Step], mapping: Mapping[str, str]
    ) -> dict[int, Written | None]:
        drafts = self._drafts(asked, steps, mapping)
        written: dict[int, Written | None] = {}
        for step in steps:
            if step.method == "DELETE":
                with _named(step.place):
                    written[step.place] = await self._submission.remove(
                        connection, asked, step.resource_type, step.id, if_match=step.if_match
                    )
        written |= await self._created(
            connection, asked, [one for one in steps if one.method == "POST"], drafts
        )
        for step in steps:
            if step.method == "PUT":
                with _named(step.place):
                    written[step.place] = await self._submission.keep(
                        connection, asked, drafts[step.place], if_match=step.if_match
                    )
        return written

    async def _created(
        self, connection: asyncpg.Connection, asked: Asked, steps: Sequence[Step], drafts: Mapping[int, Draft]
    ) -> dict[int, Written | None]:
        new = [step for step in steps if not step.existing]
        kept = await self._submission.keep_new(connection, asked, [drafts[step.place] for step in new])
        return {step.place: one for step, one in zip(new, kept, strict=True)}

    def _drafts(self, asked: Asked, steps: Sequence[Step], mapping: Mapping[str, str]) -> dict[int, Draft]:
        rewritten = reference_rewriter(mapping)
        drafts: dict[int, Draft] = {}
        issues: list[Issue] = []
        for step in steps:
            if step.text is None or step.existing:
                continue
            try:
                parsed = parse(rewritten(step.text))
                if step.method == "PUT" and parsed.value.get("id", step.id) != step.id:
                    raise BadRequest("The body's id is not that of the address.", expression="Resource.id")
                drafts[step.place] = self._submission.draft_parsed(asked, step.resource_type, step.id, parsed)
            except CandourError as error:
                issues += _placed(error, step.place)
        if issues:
            raise InvalidResource(issues)
        return drafts


_LOCK = "SELECT pg_advisory_xact_lock($1)"


def _criteria(resource_type: str, text: str, base_url: str) -> SearchQuery:
    """Always strict: what was misspelt and passed over would let a write mean anything (R4 http, 3.1.0.7)."""
    pairs = parse_qsl(text.lstrip("?"), keep_blank_values=True)
    query = parse_search(resource_type, pairs, strict=True, base_url=base_url)
    if query.is_looked_up:
        raise BadRequest(
            "The criteria of a conditional write are of the resource itself: no chain, _has or _list."
        )
    if not query.criteria or query.ignored:
        raise BadRequest("The criteria select nothing in particular; name search parameters with values.")
    return query


def _lock_key(query: SearchQuery) -> int:
    """The same for the same criteria, however they are ordered and encoded."""
    spelt = sorted("=".join(pair) for pair in query.used_pairs)
    return key64("conditional", query.resource_type, *spelt)


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of a batch, as asked."""

    method: str
    url: str
    body: bytes
    if_none_exist: str | None
    if_match: str | None

    @property
    def interaction(self) -> Interaction:
        if self.method == "GET":
            return Interaction.READ if "/" in self.url.partition("?")[0] else Interaction.SEARCH
        return _WRITES.get(self.method, Interaction.BATCH)


_WRITES = {"POST": Interaction.CREATE, "PUT": Interaction.UPDATE, "DELETE": Interaction.DELETE}


def parts_of(parsed: Parsed) -> list[Part]:
    """The entries of a batch, each resource's text cut out as it was sent. Raises BadRequest."""
    return [_part(place, value, text) for place, (value, text) in enumerate(_entries(parsed))]


def _part(place: int, value: Any, text: str) -> Part:
    with _named(place):
        request = _request(value)
        spans = member_spans(text)
        body = text[slice(*spans["resource"])] if "resource" in spans else ""
        return Part(
            str(request.get("method")),
            request["url"],
            body.encode(),
            request.get("ifNoneExist"),
            request.get("ifMatch"),
        )


def _entries(parsed: Parsed) -> list[tuple[Any, str]]:
    """Each entry as a value and as its own text."""
    spans = member_spans(parsed.text)
    values = parsed.value.get("entry", [])
    if not isinstance(values, list):
        raise BadRequest("entry is an array.", expression="Bundle.entry")
    if "entry" not in spans:
        return []
    items = array_item_spans(parsed.text, spans["entry"][0])
    return [(value, parsed.text[slice(*span)]) for value, span in zip(values, items, strict=True)]


def _request(value: Any) -> dict[str, Any]:
    request = value.get("request") if isinstance(value, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("url"), str):
        raise BadRequest("request.method and request.url are needed.")
    for given, name in (
        (request, "method"),
        (request, "ifNoneExist"),
        (request, "ifMatch"),
        (value, "fullUrl"),
    ):
        if not isinstance(given.get(name, ""), str):
            raise BadRequest(f"{name} is a string.")
    return request


def steps_of(parsed: Parsed, base_url: str) -> list[Step]:
    """The entries of a transaction. Raises BadRequest, naming the entry."""
    return [_step(place, value, text, base_url) for place, (value, text) in enumerate(_entries(parsed))]


def _step(place: int, value: Any, text: str, base_url: str) -> Step:
    with _named(place):
        request = _request(value)
        method, url = request.get("method"), request["url"].removeprefix(base_url + "/")
        if method not in _ORDER:
            raise BadRequest(f"{method!s} is not offered in a transaction; {', '.join(_ORDER)} are.")
        resource_type, id, criteria = _address(method, url)
        if method != "DELETE" and not isinstance(value.get("resource"), dict):
            raise BadRequest("resource is needed.")
        body = text[slice(*member_spans(text)["resource"])] if method != "DELETE" else None
        return Step(
            place,
            method,
            resource_type,
            id,
            value.get("fullUrl"),
            body,
            criteria or request.get("ifNoneExist"),
            request.get("ifMatch"),
        )


def loadable_steps(parsed: Parsed, base_url: str) -> list[Step]:
    """The entries of any Bundle as writes under the ids the resources already have, for loading from files.

    A POST keeps its resource's id, so that loading the same file twice finds what the first time left.
    """
    steps = []
    for place, (value, text) in enumerate(_entries(parsed)):
        with _named(place):
            spans = member_spans(text)
            resource = value.get("resource") if isinstance(value, dict) else None
            if not isinstance(resource, dict) or "resource" not in spans:
                raise BadRequest("resource is needed.")
            resource_type, id = str(resource.get("resourceType")), str(resource.get("id") or uuid4())
            if resource_type not in RESOURCE_TYPES or not _INSTANCE.match(f"{resource_type}/{id}"):
                raise BadRequest("the resource's type or id is not one of FHIR R4.")
            request = value.get("request") or {}
            body = text[slice(*spans["resource"])]
            criteria = request.get("ifNoneExist")
            steps.append(Step(place, "POST", resource_type, id, value.get("fullUrl"), body, criteria, None))
    return steps


def _address(method: str, url: str) -> tuple[str, str, str | None]:
    """Type, id and the criteria of a conditional update or deletion; an id of our own until it is known."""
    kind, asks, criteria = url.partition("?")
    if method == "POST" or asks:
        if kind not in RESOURCE_TYPES or (method == "POST" and asks):
            raise BadRequest("request.url of a POST is a resource type of FHIR R4.")
        return kind, str(uuid4()), criteria if asks else None
    found = _INSTANCE.match(url)
    if found is None or found[1] not in RESOURCE_TYPES:
        raise BadRequest(f"request.url of a {method} is [type]/[id] or [type]?[criteria].")
    return found[1], found[2], None


def _refuse_overlaps(steps: Sequence[Step]) -> None:
    """No two entries may mean the same resource (R4 http, 3.1.0.11.2)."""
    seen: set[str] = set()
    urls: set[str] = set()
    for step in steps:
        with _named(step.place):
            if step.reference in seen or (step.full_url or step.place) in urls:
                raise BadRequest("Two entries mean the same resource.")
        seen.add(step.reference)
        if step.full_url:
            urls.add(step.full_url)


def _conditional_references(value: Any) -> set[str]:
    """Every ``Reference.reference`` of the form ``Type?criteria``."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            reference = one.get("reference")
            if (
                isinstance(reference, str)
                and "?" in reference
                and reference.partition("?")[0] in RESOURCE_TYPES
            ):
                found.add(reference)
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return found


def _response(asked: Asked, step: Step, written: Written | None) -> str:
    if step.existing:
        return bundle.response_entry(status="200 OK", location=f"{asked.request.base_url}/{step.reference}")
    if written is None or written.content is None:
        return bundle.response_entry(status="204 No Content", etag=written.etag if written else "")
    return bundle.response_entry(
        status="201 Created" if written.created else "200 OK",
        location=f"{asked.request.base_url}/{written.versioned}",
        etag=written.etag,
        last_modified=instant(written.last_updated),
        resource=written.content if asked.prefers_representation else None,
    )


class _named:  # noqa: N801  # reads as a clause: ``with _named(place):``
    """Whatever is refused inside names its entry, e.g. ``Bundle.entry[57].resource.status``."""

    __slots__ = ("_place",)

    def __init__(self, place: int) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CandourError):
            error.at_entry(self._place)


def _placed(error: CandourError, place: int) -> list[Issue]:
    error.at_entry(place)
    return list(error.issues)
