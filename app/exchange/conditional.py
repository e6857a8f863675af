"""Conditional interactions: one resource, meant by what it is like instead of by its id (R4 http, 3.1.0.7)."""

from __future__ import annotations

import re
from uuid import uuid4

import asyncpg

from app.asked import Asked, Release, accounted
from app.audit.entry import Outcome
from app.errors import BadRequest, CandourError, Conflict, NotFound
from app.exchange.criteria import criteria_of, lock, the_one
from app.fhir.text import parse
from app.records.matching import homes
from app.submission import Submission, release_of

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


class Conditional:
    """The use cases behind If-None-Exist and ``[type]?[criteria]``."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission

    async def refuse(self, asked: Asked, error: CandourError, *, outcome: Outcome = "4") -> None:
        await self._submission.refuse(asked, error, outcome=outcome)

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
                there = await self._submission.about(connection, asked, resource_type, found)
                receipts = await self._submission.record(connection, asked, [])
            else:
                written = await self._submission.keep_new(connection, asked, [draft])
                receipts = await self._submission.record(connection, asked, written)
        if found:
            return Release(
                "",
                receipts,
                200,
                there.etag,
                there.last_updated,
                f"{asked.request.base_url}/{there.versioned}",
            )
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
        if_none_match: str | None = None,
    ) -> Release:
        """PUT [type]?[criteria]: updates the one that matches, creates when none does (R4 http, 3.1.0.7.1)."""
        self._submission.may(asked.caller, resource_type, "u")
        parsed = parse(body)
        async with self._submission.transaction(asked.caller) as connection:
            found = await self.existing(connection, asked, resource_type, criteria)
            given = parsed.value.get("id")
            id = await updated_id(self._submission, connection, asked, resource_type, given, found)
            draft = self._submission.draft_parsed(asked, resource_type, id, parsed)
            written = await self._submission.keep(
                connection, asked, draft, if_match=if_match, if_none_match=if_none_match
            )
            receipts = await self._submission.record(connection, asked, [written])
        return release_of(asked, written, receipts)

    @accounted
    async def delete_if_one_matches(
        self, asked: Asked, resource_type: str, criteria: str, *, if_match: str | None = None
    ) -> Release:
        """DELETE [type]?[criteria]: the one that matches; none is no error, several are (R4 http, 3.1.0.7.1)."""
        self._submission.may(asked.caller, resource_type, "d")
        async with self._submission.transaction(asked.caller) as connection:
            found = await self.existing(connection, asked, resource_type, criteria)
            removed = found and await self._submission.remove(
                connection, asked, resource_type, found, if_match=if_match
            )
            receipts = await self._submission.record(connection, asked, [removed] if removed else [])
        if not removed:
            return Release("", receipts, 204)
        return Release("", receipts, 204, removed.etag, removed.last_updated)

    async def one_that_matches(self, asked: Asked, resource_type: str, criteria: str) -> str:
        """Its id. Raises NotFound or NotUnique, and records nothing: for a write that follows."""
        self._submission.may(asked.caller, resource_type, "u")
        async with self._submission.transaction(asked.caller) as connection:
            found = await self.existing(connection, asked, resource_type, criteria)
        if found is None:
            raise NotFound
        return found

    async def existing(
        self, connection: asyncpg.Connection, asked: Asked, resource_type: str, criteria: str
    ) -> str | None:
        """The one resource that matches, locked against a second creation. Raises NotUnique, MalformedSearch."""
        query = criteria_of(resource_type, criteria, asked.request.base_url)
        await lock(connection, [query])
        return await the_one(connection, asked, query)


async def updated_id(
    submission: Submission,
    connection: asyncpg.Connection,
    asked: Asked,
    resource_type: str,
    given: object,
    found: str | None,
) -> str:
    """Of the resource that a conditional update means: the one that was found; else one of the body's or of ours."""
    if given is not None and (not isinstance(given, str) or not _ID.fullmatch(given)):
        raise BadRequest("the body's id is not one of FHIR R4.", expression=f"{resource_type}.id")
    if found is not None:
        if given not in (None, found):
            raise BadRequest(
                "The body's id is not that of the resource that matches.",
                expression=f"{resource_type}.id",
            )
        return found
    submission.may(asked.caller, resource_type, "c")
    if isinstance(given, str) and await homes(connection, [(resource_type, given)]):
        raise Conflict("The body's id is in use, by a resource that does not match.")
    return given if isinstance(given, str) else str(uuid4())
