"""Verification of the log in a database: everything it says about itself is derived again (see ``verification``).

What a log alone cannot show is that it was cut short or rewritten as a whole: for that, keep a tree head and pass
it as ``kept``.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import asyncpg
import sqlalchemy as sa

from app.audit import merkle, tables
from app.audit.verification import ROW, TreeHead, Verdict, Verification
from app.db import Statement

__all__ = ["TreeHead", "Verdict", "verify"]

_ROWS_AT_ONCE: Final = 2_000

_leaf, _body = tables.leaves.c, tables.bodies.c
_ROWS: Final = Statement(
    sa.select(*(_leaf[name] if name in _leaf else _body[name] for name in ROW))
    .select_from(tables.leaves.outerjoin(tables.bodies, _body.idx == _leaf.idx))
    .order_by(_leaf.idx)
)
_HEAD: Final = Statement(
    sa.select(tables.head.c.size, tables.head.c.frontier, tables.head.c.root, tables.head.c.last_time)
)
_PATIENT_HEADS: Final = Statement(
    sa.select(
        tables.patient_heads.c.patient_key, tables.patient_heads.c.psn, tables.patient_heads.c.commitment
    )
)
_STRAY: Final = Statement(
    sa.select(sa.func.min(_body.idx)).where(_body.idx >= sa.bindparam("size", type_=sa.BigInteger))
)


async def verify(
    connection: asyncpg.Connection,
    *,
    kept: TreeHead | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Derives the whole log again, in one snapshot, while it may grow; memory is that of one batch and the
    chains.

    ``progress`` is called with (leaves done, leaves in all). Raises what the database raises.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        head = await connection.fetchrow(_HEAD.sql)
        if head is None:
            return Verdict(0, merkle.EMPTY_ROOT, None, "the tree head is missing")
        verification = Verification(kept)
        async for rows in _batches(connection):
            if verdict := verification.feed(rows):
                return verdict
            if progress is not None:
                progress(verification.size, head["size"])
        stray = await connection.fetchval(_STRAY.sql, verification.size)
        if stray is not None:
            return Verdict(verification.size, verification.root, stray, "there is a body without a leaf")
        heads = await connection.fetch(_PATIENT_HEADS.sql)
        return verification.finish(head, ((row[0], row[1], row[2]) for row in heads))


async def _batches(connection: asyncpg.Connection) -> AsyncIterator[list[Any]]:
    cursor = await connection.cursor(_ROWS.sql)
    while rows := await cursor.fetch(_ROWS_AT_ONCE):
        yield rows
