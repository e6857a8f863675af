"""Verification of a whole log: everything the database says about itself is derived again from the stored
bytes.

For each leaf in order: its place, its canonical form, its hash; the body's commitment; the link in its
patient's chain; the columns that searches go by. At the end: the frontier, the root, and the head of every
chain. The first index at which anything does not fit is named.

What a log alone cannot show is that it was cut short or rewritten as a whole: for that, keep a tree head
and pass it as ``kept``.
"""

from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import sqlalchemy as sa

from app.audit import merkle, tables
from app.audit.entry import (
    NO_LINK,
    Interaction,
    body_commitment,
    encoded,
    link_bytes,
    link_commitment,
    read_leaf,
)
from app.audit.packing import unpack
from app.db import Statement

_ROWS_AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A size and the root of the tree of that size."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found; ``reason`` is None when everything fits."""

    size: int
    """Leaves that were looked at."""
    root: bytes
    """The root derived from them."""
    first_bad: int | None
    """The first index at which something does not fit; None also when only the tree as a whole does not."""
    reason: str | None

    @property
    def holds(self) -> bool:
        return self.reason is None


class Row(NamedTuple):
    """One leaf with its body as they are stored; what is missing is None."""

    place: int
    entry_id: UUID
    leaf: bytes
    leaf_hash: bytes
    packed: bytes | None
    salt: bytes | None
    link_salt: bytes | None
    patient_key: int | None
    number: int | None
    outcome: str | None
    interaction: str | None
    recorded: datetime | None
    trace_id: UUID | None


class Verification:
    """The pure part: fed with rows in order, it remembers the tree and every patient's chain."""

    def __init__(self, kept: TreeHead | None = None) -> None:
        self.size = 0
        self.frontier: list[bytes] = []
        self.chains: dict[int, tuple[int, bytes]] = {}
        """Of each patient: how many entries, and the last link's commitment."""
        self.last_time = 0
        self._kept = kept
        self._kept_root = merkle.EMPTY_ROOT if kept is not None and kept.size == 0 else None

    def feed(self, rows: Iterable[Sequence[Any]]) -> Verdict | None:
        """Takes further rows; gives the verdict as soon as one does not fit, else None."""
        hashes: list[bytes] = []
        for row in rows:
            entry = Row(*row)
            reason = self._fault(entry, self.size + len(hashes))
            if reason:
                # A place that is empty is itself the first bad index, not the one found in its stead.
                place = self.size + len(hashes)
                return Verdict(place, self.root, place, reason)
            hashes.append(entry.leaf_hash)
        self._grow(hashes)
        return None

    @property
    def root(self) -> bytes:
        return merkle.root_of(self.frontier)

    def finish(self, head: Any, patient_heads: Iterable[tuple[int, int, bytes]]) -> Verdict:
        """The verdict over all rows against the stored head and chain heads."""
        reason = self._head_fault(head) or self._chains_fault(patient_heads) or self._kept_fault()
        missing = self.size if head["size"] > self.size else None
        return Verdict(self.size, self.root, missing if reason else None, reason or None)

    def _fault(self, row: Row, place: int) -> str:
        if row.place != place:
            return "there is no leaf at this index"
        if merkle.leaf_hash(row.leaf) != row.leaf_hash:
            return "the leaf does not have the hash stored for it"
        leaf = read_leaf(row.leaf)
        if leaf is None:
            return "the leaf is not of the form of version 1"
        if leaf.entry_id != str(row.entry_id):
            return "the leaf is of another entry"
        if leaf.time < self.last_time:
            return "the log's time goes back"
        self.last_time = leaf.time
        if row.link_salt is None or row.number is None or row.patient_key is None:
            return "the entry has no body row"
        return (
            self._body_fault(row, leaf.body)
            or self._link_fault(row, leaf.body, leaf.link)
            or _column_fault(row, leaf.kind, leaf.outcome)
        )

    def _body_fault(self, row: Row, committed: bytes) -> str:
        if row.packed is None and row.salt is None:
            return ""  # erased: the leaf and the chain still hold
        if row.packed is None or row.salt is None:
            return "half of the body is missing"
        try:
            body = unpack(row.packed)
        except ValueError:
            return "the body cannot be read"
        if encoded(body_commitment(row.salt, body)) != committed:
            return "the body is not what the leaf commits to"
        # Searches go by these columns: one that was changed would hide an entry.
        if row.recorded is None or row.recorded.isoformat(timespec="milliseconds").encode() not in body:
            return "the time stored for the entry is not the body's"
        if row.trace_id is None or row.trace_id.hex.encode() not in body:
            return "the trace id stored for the entry is not the body's"
        return ""

    def _link_fault(self, row: Row, body: bytes, committed: bytes) -> str:
        key, number = row.patient_key or 0, row.number or 0
        before, previous = self.chains.get(key, (0, NO_LINK)) if key else (-1, NO_LINK)
        if number != before + 1:
            return "the patient's chain has a gap here"
        record = link_bytes(body=b64decode(body), previous=previous, number=number)
        link = link_commitment(row.link_salt or b"", record)
        if encoded(link) != committed:
            return "the link to the patient's chain is not what the leaf commits to"
        if key:
            self.chains[key] = (number, link)
        return ""

    def _grow(self, hashes: list[bytes]) -> None:
        kept = self._kept
        if kept is not None and self.size < kept.size <= self.size + len(hashes):
            until = kept.size - self.size
            self.size = merkle.grow(self.frontier, self.size, hashes[:until])
            self._kept_root = self.root
            hashes = hashes[until:]
        self.size = merkle.grow(self.frontier, self.size, hashes)

    def _head_fault(self, head: Any) -> str:
        if head["size"] != self.size:
            return "the stored tree has another size than there are leaves"
        if head["frontier"] != b"".join(self.frontier) or head["root"] != self.root:
            return "the stored root is not that of the leaves"
        if head["last_time"] != self.last_time:
            return "the stored time of the tree is not that of its last leaf"
        return ""

    def _chains_fault(self, patient_heads: Iterable[tuple[int, int, bytes]]) -> str:
        stored = {key: (number, link) for key, number, link in patient_heads}
        return (
            ""
            if stored == self.chains
            else "the stored heads of the patients' chains are not those of the links"
        )

    def _kept_fault(self) -> str:
        if self._kept is None or self._kept_root == self._kept.root:
            return ""
        if self._kept_root is None:
            return "the log is shorter than the tree head that was kept"
        return "the log does not continue the tree head that was kept"


def _column_fault(row: Row, kind: str, outcome: str) -> str:
    if row.outcome != outcome or _KINDS.get(row.interaction or "") != kind:
        return "the outcome or interaction stored for the entry is not the leaf's"
    return ""


_KINDS: Final = {interaction.value: interaction.kind for interaction in Interaction}

_leaf, _body = tables.leaves.c, tables.bodies.c
_ROWS: Final = Statement(
    sa.select(
        _leaf.idx,
        _leaf.entry_id,
        _leaf.leaf,
        _leaf.leaf_hash,
        _body.body,
        _body.salt,
        _body.link_salt,
        _body.patient_key,
        _body.psn,
        _body.outcome,
        _body.interaction,
        _body.recorded,
        _body.trace_id,
    )
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
