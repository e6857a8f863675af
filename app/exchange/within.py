"""Reading what an open transaction has written: decided as any reading is, and recorded when it commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import asyncpg

from app.audit.entry import Entry, Receipt
from app.consent.register import ConsentRegister
from app.db import Transaction
from app.disclosure import Disclosure, Reading
from app.records.federation import NotAsked
from app.records.reading import Reader
from app.records.results import ResultSets
from app.records.sources import SourceRegister


class Within:
    """THE READ on the transaction's own connection, which needs no second one.

    What it releases has no receipt yet: ``entries`` are appended in the transaction, and nothing of it leaves before
    the commit. Decisions are kept apart, because the directives and epochs they are made from may never come to be.
    """

    def __init__(self, reading: Reading, connection: asyncpg.Connection) -> None:
        transaction = Transaction(connection)
        self.entries: list[Entry] = []
        self.disclosure = Disclosure(
            replace(
                reading,
                database=transaction,
                reader=Reader(transaction),
                decider=reading.decider.apart(ConsentRegister(transaction)),
                audit=self,
                federation=NotAsked(SourceRegister(transaction)),
                result_sets=ResultSets(transaction),
            )
        )

    async def record(self, entries: Sequence[Entry]) -> Sequence[Receipt]:
        """Keeps them for the end of the transaction; whoever releases it has their receipts then."""
        self.entries += entries
        return ()
