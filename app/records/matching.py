"""Which resources criteria of a conditional write mean: only what the writer may know of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import asyncpg

from app.consent.decision import TRUE
from app.consent.predicate import CustodianIn
from app.db import Transaction
from app.errors import TooCostly
from app.fhir.compartments import in_patient_compartment
from app.fhir.query import SearchQuery
from app.fhir.text import parse
from app.records.searching import Question, Sort, search
from app.vocabulary import NO_PATIENT, OdsCode

_MOST = 100


async def matching_ids(
    connection: asyncpg.Connection, query: SearchQuery, organisation: OdsCode
) -> list[str]:
    """Ids of the writer's own matching resources, and of directory-like ones that are in nobody's record.

    Others' patients' records never count, so that a conditional write is no oracle for them.
    """
    owned = in_patient_compartment(query.resource_type)
    residual = CustodianIn(frozenset({organisation})) if owned else TRUE
    question = Question(query.resource_type, None, query.criteria, residual, Sort(), _MOST)
    page = await search(Transaction(connection), question)
    if page.more:
        raise TooCostly("The criteria match too many resources to mean one. Name an identifier.")
    return [
        row.record.id
        for row in page.rows
        if row.record.custodian == organisation or row.record.patient_key == NO_PATIENT
    ]


async def homes(connection: asyncpg.Connection, addresses: Sequence[tuple[str, str]]) -> dict[str, OdsCode]:
    """Which of these (type, id) are kept here, and whose they are, by reference."""
    rows = await connection.fetch(
        """
        SELECT resource_type, id, custodian
        FROM unnest($1::text[], $2::text[]) AS asked (resource_type, id)
        JOIN resource_home USING (resource_type, id)
        JOIN resource USING (patient_key, resource_type, id)
        """,
        [resource_type for resource_type, _ in addresses],
        [id for _, id in addresses],
    )
    return {f"{row['resource_type']}/{row['id']}": OdsCode(row["custodian"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Described:
    """Who or what a reference names, as kept here: its identifiers (``system|value``) and the references out of it."""

    identifiers: frozenset[str]
    references: frozenset[str]


async def described(
    connection: asyncpg.Connection, references: Sequence[str], base_url: str
) -> dict[str, Described]:
    """What is kept here under these references; what is not is left out."""
    addresses = {one: one.removeprefix(f"{base_url}/").split("/") for one in references}
    known = {one: (parts[0], parts[1]) for one, parts in addresses.items() if len(parts) == 2}
    rows = await connection.fetch(
        """
        SELECT resource_type, id, content
        FROM unnest($1::text[], $2::text[]) AS asked (resource_type, id)
        JOIN resource_home USING (resource_type, id)
        JOIN resource USING (patient_key, resource_type, id)
        WHERE NOT deleted
        """,
        [resource_type for resource_type, _ in known.values()],
        [id for _, id in known.values()],
    )
    found = {(row["resource_type"], row["id"]): _described(row["content"]) for row in rows}
    return {one: found[address] for one, address in known.items() if address in found}


def _described(content: str) -> Described:
    body = parse(content).value
    identifiers = frozenset(
        f"{one.get('system', '')}|{one['value']}" for one in body.get("identifier", ()) if "value" in one
    )
    return Described(identifiers, frozenset(_references(body)))


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)
