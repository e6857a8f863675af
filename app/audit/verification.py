"""The pure part of verification: a log, row by row, is derived again from its stored bytes.

For each leaf in order: its place, its canonical form, its hash; the body's commitment; the link in its patient's
chain; the columns that searches go by. At the end: the frontier, the root, and the head of every chain. The first
index at which anything does not fit is named.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from app.audit import merkle
from app.audit.entry import (
    NO_LINK,
    NO_TRACE,
    Interaction,
    Leaf,
    body_commitment,
    encoded,
    link_bytes,
    link_commitment,
    read_leaf,
)
from app.audit.packing import unpack

ROW: Final = (
    "idx",
    "entry_id",
    "leaf",
    "leaf_hash",
    "body",
    "salt",
    "link_salt",
    "patient_key",
    "psn",
    "outcome",
    "interaction",
    "recorded",
    "trace_id",
)
"""What a row is made of, in this order; of a leaf without a body row everything from ``body`` on is None."""


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
        """Takes further rows (``ROW``); gives the verdict as soon as one does not fit, else None."""
        hashes: list[bytes] = []
        reason = ""
        for row in rows:
            reason = self._fault(self.size + len(hashes), *row)
            if reason:
                break
            hashes.append(row[3])
        self._grow(hashes)
        # A place that is empty is itself the first bad index, not the one found in its stead.
        return Verdict(self.size, self.root, self.size, reason) if reason else None

    @property
    def root(self) -> bytes:
        return merkle.root_of(self.frontier)

    def finish(self, head: Any, patient_heads: Iterable[tuple[int, int, bytes]]) -> Verdict:
        """The verdict over all rows against the stored head and chain heads."""
        reason = self._head_fault(head) or self._chains_fault(patient_heads) or self._kept_fault()
        missing = self.size if head["size"] > self.size else None
        return Verdict(self.size, self.root, missing if reason else None, reason or None)

    def _fault(
        self,
        place: int,
        index: int,
        entry_id: UUID,
        leaf: bytes,
        leaf_hash: bytes,
        packed: bytes | None,
        salt: bytes | None,
        link_salt: bytes | None,
        patient_key: int | None,
        number: int | None,
        outcome: str | None,
        interaction: str | None,
        recorded: datetime | None,
        trace_id: UUID | None,
    ) -> str:
        if index != place:
            return "there is no leaf at this index"
        if sha256(b"\x00" + leaf).digest() != leaf_hash:
            return "the leaf does not have the hash stored for it"
        told = read_leaf(leaf)
        if told is None:
            return "the leaf is not of the form of version 1"
        if told.entry_id != str(entry_id).encode():
            return "the leaf is of another entry"
        time = int(told.time)
        if time < self.last_time:
            return "the log's time goes back"
        self.last_time = time
        if link_salt is None or patient_key is None or number is None or recorded is None or trace_id is None:
            return "the entry has no body row"
        return (
            _body_fault(told.body, packed, salt, recorded, trace_id)
            or self._link_fault(told, link_salt, patient_key, number)
            or _column_fault(told, outcome, interaction)
        )

    def _link_fault(self, told: Leaf, salt: bytes, key: int, number: int) -> str:
        before, previous = self.chains.get(key, (0, NO_LINK)) if key else (-1, NO_LINK)
        if number != before + 1:
            return "the patient's chain has a gap here"
        record = link_bytes(body=b64decode(told.body), previous=previous, number=number)
        link = link_commitment(salt, record)
        if encoded(link) != told.link:
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


def _body_fault(
    committed: bytes, packed: bytes | None, salt: bytes | None, recorded: datetime, trace_id: UUID
) -> str:
    if packed is None and salt is None:
        return ""  # erased: the leaf and the chain still hold
    if packed is None or salt is None:
        return "half of the body is missing"
    try:
        body = unpack(packed)
    except ValueError:
        return "the body cannot be read"
    if encoded(body_commitment(salt, body)) != committed:
        return "the body is not what the leaf commits to"
    # Searches go by these columns: one that was changed would hide an entry.
    if recorded.isoformat(timespec="milliseconds").encode() not in body:
        return "the time stored for the entry is not the body's"
    if trace_id.hex.encode() not in body and (trace_id != NO_TRACE or _TRACED.search(body)):
        return "the trace id stored for the entry is not the body's"
    return ""


def _column_fault(told: Leaf, outcome: str | None, interaction: str | None) -> str:
    if outcome is None or outcome.encode() != told.outcome or _KINDS.get(interaction) != told.kind:
        return "the outcome or interaction stored for the entry is not the leaf's"
    return ""


_TRACED: Final = re.compile(rb'"trace-id","valueString":"[0-9a-f]{32}"')
_KINDS: Final[dict[str | None, bytes]] = {one.value: one.kind.encode() for one in Interaction}
