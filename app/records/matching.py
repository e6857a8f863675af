"""Which resources criteria of a conditional write mean: only what the writer may know of."""

from collections.abc import Sequence

import asyncpg

from app.consent.decision import TRUE
from app.db import Transaction
from app.errors import TooCostly
from app.fhir.query import SearchQuery
from app.records.searching import Question, Sort, search
from app.vocabulary import NO_PATIENT, OdsCode

_MOST = 100


async def matching_ids(
    connection: asyncpg.Connection, query: SearchQuery, organisation: OdsCode
) -> list[str]:
    """Ids of the writer's own matching resources, and of matching ones that are in nobody's record.

    Others' patients' records never count, so that a conditional write is no oracle for them.
    """
    question = Question(query.resource_type, None, query.criteria, TRUE, Sort(), _MOST)
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
