"""Which resource the criteria of a conditional write mean, and that nobody else makes a second one meanwhile."""

from collections.abc import Iterable
from urllib.parse import parse_qsl

import asyncpg

from app.asked import Asked
from app.errors import BadRequest, NotUnique
from app.fhir.keys import key64
from app.fhir.query import SearchQuery, parse_search
from app.records.matching import matching_ids

_LOCK = "SELECT pg_advisory_xact_lock($1)"


def criteria_of(resource_type: str, text: str, base_url: str) -> SearchQuery:
    """Always strict: what was misspelt and passed over would let a write mean anything (R4 http, 3.1.0.7)."""
    pairs = parse_qsl(text.lstrip("?"), keep_blank_values=True)
    query = parse_search(resource_type, pairs, strict=True, base_url=base_url)
    if query.is_open:
        raise BadRequest(
            "Criteria that mean one resource are its own and its index's: no chain, _has, _list, _text or _content."
        )
    if not query.criteria or query.ignored:
        raise BadRequest("The criteria select nothing in particular; name search parameters with values.")
    return query


def lock_key(query: SearchQuery) -> int:
    """The same for the same criteria, however they are ordered and encoded."""
    spelt = sorted("=".join(pair) for pair in query.used_pairs)
    return key64("conditional", query.resource_type, *spelt)


async def lock(connection: asyncpg.Connection, queries: Iterable[SearchQuery]) -> None:
    """Against anybody who acts by the same criteria, in one order, so that two never wait for each other."""
    for key in sorted({lock_key(query) for query in queries}):
        await connection.execute(_LOCK, key)


async def the_one(connection: asyncpg.Connection, asked: Asked, query: SearchQuery) -> str | None:
    """The id of the one resource that matches, of those that the caller's organisation may change or refer to.

    Raises NotUnique.
    """
    found = await matching_ids(connection, query, asked.caller.organisation)
    if len(found) > 1:
        raise NotUnique
    return found[0] if found else None
