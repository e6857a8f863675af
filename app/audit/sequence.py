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
# One statement for the leaves, their bodies and the head: the lock is held for as few round trips as can be. COPY
# would be quicker for a thousand rows, but a batch is mostly a few dozen.
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entry with everything but its place."""

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


async def append(
    connection: asyncpg.Connection, prepared: Sequence[Prepared], *, now: datetime, repeat: bool
) -> list[Receipt]:
    """Appends in the connection's open transaction; durable when that commits. Receipts in the order given.

    The head's lock is held from here to the end of the transaction, so append last. ``repeat``: some
    entries may be in the log already; those get the receipt of the leaf that is there. Without it a known
    id is a unique violation. Whatever the database raises passes through.
    """
    keys = list({one.patient_key for one in prepared if one.patient_key})
    ids = [one.entry.id for one in prepared] if repeat else []
    head = await connection.fetchrow(_LOCK, keys, ids)
    receipts = _known(head)
    new = _unknown(prepared, receipts) if repeat else prepared
    if new:
        batch = _Batch(head, now)
        for one in new:
            receipts[one.entry.id] = batch.add(one)
        await batch.write(connection)
    return [receipts[one.entry.id] for one in prepared]


class _Batch:
    """Rows that continue the tree and the patients' chains from a locked head."""

    def __init__(self, head: Any, now: datetime) -> None:
        self._before: int = head["size"]
        self._frontier = merkle.split_frontier(head["frontier"], self._before)
        # The log's time never goes back, whatever a process's clock does (audit notes T-12).
        self._time = max(milliseconds(now), head["last_time"] + 1)
        self._instant = instant(self._time)
        self._chains: dict[int, tuple[int, bytes]] = {
            key: (number, link)
            for key, number, link in zip(
                head["head_keys"] or (), head["head_numbers"] or (), head["head_links"] or (), strict=True
            )
        }
        self._leaves: list[tuple[Any, ...]] = []
        self._bodies: list[tuple[Any, ...]] = []

    def add(self, one: Prepared) -> Receipt:
        entry, key = one.entry, one.patient_key
        number, previous = self._chains.get(key, (0, NO_LINK)) if key else (-1, NO_LINK)
        number += 1
        link = link_commitment(
            one.link_salt, link_bytes(body=one.commitment, previous=previous, number=number)
        )
        if key:
            self._chains[key] = (number, link)
        leaf = leaf_bytes(
            entry_id=entry.id,
            time=self._time,
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
        size = merkle.grow(self._frontier, self._before, [row[3] for row in self._leaves])
        # In the order of their keys, so that two logs' worth of processes never lock patients crosswise.
        chains = sorted(self._chains.items())
        await connection.execute(
            _EXTEND,
            *map(list, zip(*self._leaves, strict=True)),
            *map(list, zip(*self._bodies, strict=True)),
            self._before,
            size,
            b"".join(self._frontier),
            merkle.root_of(self._frontier),
            self._time,
            [key for key, _ in chains],
            [number for _, (number, _) in chains],
            [link for _, (_, link) in chains],
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
