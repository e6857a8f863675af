"""Appending to the log inside an open transaction: the one way in which leaves get their places.

Everything that can be made without knowing the place — the body, the salts, the body's commitment — is made
before (``prepare``). Under the head row's lock remain the patient's number and link, the time, the leaf and
its hash. Places come from the head row and never from a sequence: a transaction that is rolled back leaves
no gap.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.audit import merkle
from app.audit.entry import (
    NO_LINK,
    NO_TRACE,
    SALT_BYTES,
    Entry,
    Receipt,
    body_commitment,
    instant,
    leaf_bytes,
    link_bytes,
    link_commitment,
    milliseconds,
    read_leaf,
)
from app.audit.event import NodeNames, audit_event
from app.audit.packing import pack

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_LOCK: Final = "SELECT * FROM audit_lock($1, $2)"
_LEARN: Final = """
    SELECT h.size, p.patient_key, p.psn, p.commitment
    FROM audit_head h LEFT JOIN audit_patient_head p ON p.patient_key = ANY ($1::bigint[])
"""
# One statement for the leaves, their bodies and the head: the lock is held for as few round trips as can be. COPY
# would be quicker for a thousand rows, but a batch is mostly a few dozen. ``audit_grow`` runs first (what modifies in
# a WITH runs after the query that does not read it), so the head is locked and compared before anything is written.
_EXTEND: Final = """
    WITH leaf AS (
        INSERT INTO audit_leaf (idx, entry_id, leaf, leaf_hash)
        SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bytea[], $4::bytea[])
    ), body AS (
        INSERT INTO audit_body (
            idx, recorded, patient_key, person_key, client_id, outcome, interaction, trace_id, psn, link_salt,
            body, salt
        )
        SELECT * FROM unnest(
            $1::bigint[], $5::timestamptz[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[],
            $11::uuid[], $12::bigint[], $13::bytea[], $14::bytea[], $15::bytea[]
        )
    )
    SELECT audit_grow($16, $17, $18, $19, $20, $21, $22, $23)
"""

OVERTAKEN: Final = (asyncpg.UniqueViolationError, asyncpg.SerializationError)
"""Another process has appended since the head was read, or an entry is in the log already. Nothing was kept."""

_CHAINS_KEPT: Final = 50_000


@dataclass(slots=True)
class Prepared:
    """An entry with everything but its place. Not changed after it was made."""

    entry: Entry
    recorded: datetime
    packed: bytes
    """The body as it is stored."""
    salt: bytes
    link_salt: bytes
    commitment: bytes
    """``b`` of the leaf."""
    patient_key: int
    """0: the entry is about no patient."""


def prepare(entry: Entry, *, node: NodeNames, recorded: datetime) -> Prepared:
    """The body of ``entry`` with fresh salts; ``recorded`` is cut to milliseconds, as the body tells it."""
    recorded = recorded.replace(microsecond=recorded.microsecond // 1000 * 1000)
    body = audit_event(entry, node=node, recorded=recorded)
    salts = os.urandom(2 * SALT_BYTES)
    salt = salts[:SALT_BYTES]
    return Prepared(
        entry,
        recorded,
        pack(body),
        salt,
        salts[SALT_BYTES:],
        body_commitment(salt, body),
        entry.patient_key or 0,
    )


@dataclass(slots=True)
class Head:
    """The tree, and the chains of some patients, as they stood at one moment: all that is needed to continue them."""

    size: int
    frontier: list[bytes]
    time: int
    """``t`` of the last leaf."""
    chains: dict[int, tuple[int, bytes]]
    """Number and commitment of each patient's last link; (0, NO_LINK) for a patient without one."""


async def append(
    connection: asyncpg.Connection, prepared: Sequence[Prepared], *, now: datetime, repeat: bool
) -> tuple[list[Receipt], Head]:
    """Appends in the connection's open transaction; durable when that commits. Receipts in the order given.

    The head's lock is held from here to the end of the transaction, so append last. ``repeat``: some
    entries may be in the log already; those get the receipt of the leaf that is there. Without it a known
    id is a unique violation. Whatever the database raises passes through.
    """
    keys = list({one.patient_key for one in prepared if one.patient_key})
    ids = [one.entry.id for one in prepared] if repeat else []
    row = await connection.fetchrow(_LOCK, keys, ids)
    receipts, head = _known(row), _head(row, keys)
    new = _unknown(prepared, receipts) if repeat else prepared
    if new:
        batch = _Batch(head, now)
        for one in new:
            receipts[one.entry.id] = batch.add(one)
        await batch.write(connection)
    return [receipts[one.entry.id] for one in prepared], head


async def append_after(
    connection: asyncpg.Connection, head: Head, prepared: Sequence[Prepared], *, now: datetime
) -> list[Receipt]:
    """Appends in a transaction of its own, one statement, if ``head`` is still the tree's; ``head`` goes along.

    Durable on return. Raises one of OVERTAKEN when it is not the tree's head any more, and whatever else the
    database raises; ``head`` is of no use then.
    """
    unknown = [key for key in {one.patient_key for one in prepared} if key and key not in head.chains]
    if unknown:
        await _learn(connection, head, unknown)
    batch = _Batch(head, now)
    receipts = [batch.add(one) for one in prepared]
    await batch.write(connection)
    return receipts


async def _learn(connection: asyncpg.Connection, head: Head, keys: Sequence[int]) -> None:
    """The chains of more patients, as of the same tree."""
    rows = await connection.fetch(_LEARN, keys)
    if rows[0]["size"] != head.size:
        raise asyncpg.SerializationError("the tree of the audit log has another size")
    if len(head.chains) > _CHAINS_KEPT:
        head.chains.clear()
    head.chains.update(dict.fromkeys(keys, (0, NO_LINK)))
    head.chains.update({row["patient_key"]: (row["psn"], row["commitment"]) for row in rows if row["psn"]})


def _head(row: Any, keys: Sequence[int]) -> Head:
    chains = dict.fromkeys(keys, (0, NO_LINK))
    links = zip(row["head_numbers"] or (), row["head_links"] or (), strict=True)
    chains.update(zip(row["head_keys"] or (), links, strict=True))
    return Head(row["size"], merkle.split_frontier(row["frontier"], row["size"]), row["last_time"], chains)


class _Batch:
    """Rows that continue the tree and the patients' chains from a head, which goes along."""

    def __init__(self, head: Head, now: datetime) -> None:
        self._head = head
        self._before = head.size
        # The log's time never goes back, whatever a process's clock does (audit notes T-12).
        head.time = max(milliseconds(now), head.time + 1)
        self._instant = instant(head.time)
        self._changed: set[int] = set()
        self._leaves: list[tuple[Any, ...]] = []
        self._bodies: list[tuple[Any, ...]] = []

    def add(self, one: Prepared) -> Receipt:
        entry, key = one.entry, one.patient_key
        number, previous = self._head.chains[key] if key else (-1, NO_LINK)
        number += 1
        link = link_commitment(
            one.link_salt, link_bytes(body=one.commitment, previous=previous, number=number)
        )
        if key:
            self._head.chains[key] = (number, link)
            self._changed.add(key)
        leaf = leaf_bytes(
            entry_id=entry.id,
            time=self._head.time,
            kind=entry.interaction.kind,
            outcome=entry.outcome,
            body=one.commitment,
            link=link,
        )
        index = self._before + len(self._leaves)
        hashed = merkle.leaf_hash(leaf)
        self._leaves.append((index, entry.id, leaf, hashed))
        self._bodies.append(_body_row(one, number))
        return Receipt(index, entry.id, hashed, self._instant)

    async def write(self, connection: asyncpg.Connection) -> None:
        head = self._head
        head.size = merkle.grow(head.frontier, self._before, [row[3] for row in self._leaves])
        # In the order of their keys, so that two logs' worth of processes never lock patients crosswise.
        keys = sorted(self._changed)
        await connection.fetchrow(
            _EXTEND,
            *map(list, zip(*self._leaves, strict=True)),
            *map(list, zip(*self._bodies, strict=True)),
            self._before,
            head.size,
            b"".join(head.frontier),
            merkle.root_of(head.frontier),
            head.time,
            keys,
            [head.chains[key][0] for key in keys],
            [head.chains[key][1] for key in keys],
        )


def _body_row(one: Prepared, number: int) -> tuple[Any, ...]:
    entry = one.entry
    return (
        one.recorded,
        one.patient_key,
        entry.person_key or 0,
        _client(entry),
        entry.outcome,
        entry.interaction.value,
        _trace(entry.request.trace_id),
        number,
        one.link_salt,
        one.packed,
        one.salt,
    )


def _client(entry: Entry) -> str:
    """PostgreSQL's text holds neither U+0000 nor half a surrogate pair."""
    if entry.caller is None:
        return ""
    return entry.caller.client_id.replace("\x00", "").encode(errors="replace").decode()


def _trace(text: str) -> str:
    """A trace id as PostgreSQL's uuid. One of the wrong form is told in the body, but nobody can search by it."""
    return text if _TRACE_ID.fullmatch(text) else NO_TRACE.hex


def _known(head: Any) -> dict[UUID, Receipt]:
    found = {}
    for entry_id, index, leaf in zip(
        head["known_ids"] or (), head["known_indices"] or (), head["known_leaves"] or (), strict=True
    ):
        members = read_leaf(leaf)
        time = int(members.time) if members is not None else 0
        found[entry_id] = Receipt(index, entry_id, merkle.leaf_hash(leaf), instant(time))
    return found


def _unknown(prepared: Sequence[Prepared], known: dict[UUID, Receipt]) -> list[Prepared]:
    """Each entry that is not in the log, once."""
    return list({one.entry.id: one for one in prepared if one.entry.id not in known}.values())
