"""A transaction: all of it is kept, with its audit entries, or nothing is (R4 http, 3.1.0.11.2).

The order is DELETE, POST, PUT and PATCH, GET and HEAD, whatever the order of the entries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

import asyncpg

from app.asked import Asked, Release, accounted
from app.disclosure import Disclosure, Reading
from app.errors import BadRequest, CandourError, TooCostly, in_entry
from app.exchange.conditional import Conditional
from app.exchange.keeping import Keeping
from app.exchange.responses import released_as
from app.exchange.steps import Step, steps_of
from app.exchange.within import Within
from app.fhir import bundle
from app.fhir.bundled import BundleRequest
from app.records.matching import homes
from app.submission import Submission, Written

Reads = Callable[[Disclosure, Asked, BundleRequest], Awaitable[Release]]
"""Answers an entry that reads as a request by itself would be answered, from the disclosure that it is given."""

MOST_ANSWERED: Final = 64 * 1024 * 1024
"""Characters of what is read in one transaction or batch."""


class Exchange(Conditional):
    """The use case behind ``POST [base]``, and the conditional interactions."""

    def __init__(self, submission: Submission, reading: Reading) -> None:
        super().__init__(submission)
        self._reading = reading

    @accounted
    async def transaction(self, asked: Asked, requests: Sequence[BundleRequest], reads: Reads) -> Release:
        """All or nothing; the answer keeps the order of the request."""
        steps = steps_of(requests)
        for step in steps:
            with step.named:
                self._submission.may(asked.caller, step.resource_type, step.letter)
        async with self._submission.transaction(asked.caller) as connection:
            within = Within(self._reading, connection)
            keeping = Keeping(self._submission, asked, connection, within.disclosure)
            await keeping.keep(steps)
            answers = await _read(asked, within, [one for one in requests if one.reads], reads)
            written = await self._submission.as_identified(connection, keeping.written)
            receipts = await self._submission.record(connection, asked, written, beside=within.entries)
        answers |= keeping.answers
        entries = [answers[one.place] for one in requests]
        return Release(bundle.response("transaction-response", entries), receipts)

    # For loading.

    async def known(self, connection: asyncpg.Connection, asked: Asked, steps: Sequence[Step]) -> list[Step]:
        """What is kept under its id already is updated, or left alone when another custodian keeps it."""
        kept = await homes(connection, [step.address for step in steps])
        return [
            step
            if step.reference not in kept
            else replace(step, existing=True)
            if kept[step.reference] != asked.caller.organisation
            else replace(step, method="PUT", criteria=None)
            for step in steps
        ]

    async def load(
        self, connection: asyncpg.Connection, asked: Asked, steps: Sequence[Step]
    ) -> list[Written]:
        """Carries out ``steps`` of the operator's own, and gives what was written."""
        keeping = Keeping(self._submission, asked, connection, None)
        await keeping.keep(steps)
        return await self._submission.as_identified(connection, keeping.written)


async def _read(
    asked: Asked, within: Within, requests: Sequence[BundleRequest], reads: Reads
) -> dict[int, str]:
    """Each as by itself, but seeing what the transaction wrote; the first that cannot be answered fails it all."""
    answers: dict[int, str] = {}
    size = 0
    for request in requests:
        with in_entry(request.place):
            if request.path.partition("/")[0] == "AuditEvent":
                raise BadRequest(
                    "The audit trail is not read in a transaction; send it in a batch, or by itself."
                )
            if size > MOST_ANSWERED:
                raise TooCostly("What is read would be too large for one answer. Read it in several.")
            release = await _one(asked, within, request, reads)
        size += len(release.body)
        answers[request.place] = released_as(asked, release, request.method)
    return answers


async def _one(asked: Asked, within: Within, request: BundleRequest, reads: Reads) -> Release:
    one = replace(asked, whose=None, recorded=False)
    one.request = replace(asked.request, method=request.method, target=f"/fhir/{request.url}")
    try:
        return await reads(within.disclosure, one, request)
    except CandourError:
        # Whose record it was that could not be read is told by the entry of the refusal.
        asked.whose = one.whose
        raise
