"""What the audit log keeps of one answered request, and the bytes that its tree is built over.

One entry tells of one patient. Its body, an AuditEvent, holds personal data and can be erased; its leaf
holds none and stays for ever. The leaf commits to the body and to the patient's chain of entries with
salts, so that neither can be guessed from it.

Leaf, version 1: canonical JSON (RFC 8785: sorted keys, no white space, integers only) with exactly the
members ``b`` body commitment, ``id`` entry, ``k`` kind, ``o`` outcome, ``p`` link commitment, ``s`` schema
of the body, ``t`` milliseconds since 1970 in UTC, ``v`` 1.
"""

import re
from binascii import b2a_base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final, Literal, NamedTuple
from uuid import UUID

from app.vocabulary import Caller, NhsNumber, PatientKey, PersonKey, Request

Outcome = Literal["0", "4", "8", "12"]
"""R4 audit-event-outcome: success, minor failure (refused), serious failure, major failure (ours)."""

BODY_SCHEMA: Final = "balp-1.1.4/1"
"""Shape of the bodies written today: IHE BALP 1.1.4, our first rendering of it."""

SALT_BYTES: Final = 32
HASH_BYTES: Final = 32
NO_LINK: Final = bytes(HASH_BYTES)
"""``pprev`` of a patient's first entry."""

NO_TRACE: Final = UUID(int=0)
"""Stored in the place of a trace id of the wrong form."""

_BODY_TAG: Final = b"scr-audit-body/v1\x00"
_LINK_TAG: Final = b"scr-audit-link/v1\x00"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Interaction(StrEnum):
    """What was asked of the service: FHIR's RESTful interactions as R4 means them, and the service's own."""

    READ = "read"
    VREAD = "vread"
    SEARCH = "search"
    HISTORY = "history"
    EVERYTHING = "everything"
    OPERATION = "operation"
    EXPORT = "export"
    """A file of an export was downloaded."""
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    TRANSACTION = "transaction"
    BATCH = "batch"
    CONSENT = "consent"
    """The decision itself, apart from what was asked (BALP AuthZconsent): a refusal, or an override."""
    AUDIT_READ = "audit-read"
    TOKEN = "token"  # noqa: S105  # an interaction, not a secret
    ADMINISTRATION = "administration"

    @property
    def kind(self) -> str:
        """``k`` of the leaf: coarse, because a leaf is public."""
        return _KINDS[self]


_KINDS: Final = {
    Interaction.READ: "read",
    Interaction.VREAD: "read",
    Interaction.SEARCH: "query",
    Interaction.HISTORY: "query",
    Interaction.EVERYTHING: "query",
    Interaction.OPERATION: "query",
    Interaction.EXPORT: "query",
    Interaction.CREATE: "write",
    Interaction.UPDATE: "write",
    Interaction.PATCH: "write",
    Interaction.DELETE: "write",
    Interaction.TRANSACTION: "write",
    Interaction.BATCH: "write",
    Interaction.CONSENT: "decision",
    Interaction.AUDIT_READ: "audit-read",
    Interaction.TOKEN: "login",
    Interaction.ADMINISTRATION: "administration",
}


class Disclosed(NamedTuple):
    """One resource version that was released or written, e.g. ``Observation/x/_history/3``."""

    reference: str
    labels: tuple[tuple[str, str], ...] = ()
    """Its security labels as (system, code)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One answered request, as far as it concerned one patient (or none)."""

    id: UUID
    """Random; recording the same id again adds nothing."""
    interaction: Interaction
    outcome: Outcome
    description: str
    """In words, for a reader: what happened, or why it was refused."""
    request: Request
    caller: Caller | None
    """None: no valid token was shown."""
    patient_key: PatientKey | None
    person_key: PersonKey | None
    patient_reference: str | None
    """``Patient/x``"""
    nhs_number: NhsNumber | None
    resources: tuple[Disclosed, ...] = ()
    basis: tuple[str, ...] = ()
    """What permitted or refused it: ``Consent/x/_history/2`` or ``policy-uri|version``."""
    decision_id: str | None = None
    sources: tuple[str, ...] = ()
    """Lines of the manifest, e.g. ``RX1 fresh``."""


@dataclass(slots=True)
class Receipt:
    """Proof, to ourselves, that an entry is durable. Not changed after it was made."""

    index: int
    """The leaf's place in the tree, from 0."""
    entry_id: UUID
    leaf_hash: bytes
    recorded: datetime
    """``t`` of the leaf: the log's own time, which never goes back, in whole milliseconds."""


class Leaf(NamedTuple):
    """The members of a leaf as they stand in it, ``body`` and ``link`` in base64; in the leaf's own order."""

    body: bytes
    entry_id: bytes
    kind: bytes
    outcome: bytes
    link: bytes
    schema: bytes
    time: bytes


def leaf_bytes(
    *, entry_id: UUID, time: int, kind: str, outcome: str, body: bytes, link: bytes, schema: str = BODY_SCHEMA
) -> bytes:
    """The canonical leaf. ``time`` in ms since 1970; ``body`` and ``link`` are 32-byte commitments."""
    text = (
        f'{{"b":"{encoded(body).decode()}","id":"{entry_id}","k":"{kind}","o":"{outcome}",'
        f'"p":"{encoded(link).decode()}","s":"{schema}","t":{time},"v":1}}'
    )
    return text.encode("ascii")


def body_commitment(salt: bytes, body: bytes) -> bytes:
    """``b``: SHA-256 over a tag, 32 random bytes and the body's exact bytes."""
    return sha256(_BODY_TAG + salt + body).digest()


def link_bytes(*, body: bytes, previous: bytes, number: int) -> bytes:
    """The patient link record: ``number`` counts the patient's entries from 1, ``previous`` is the last
    ``p``.

    An entry about no patient has number 0, so that its leaf looks like any other.
    """
    return b'{"b":"%b","pprev":"%b","psn":%d}' % (encoded(body), encoded(previous), number)


def link_commitment(salt: bytes, link: bytes) -> bytes:
    """``p``: SHA-256 over a tag, 32 random bytes and the link record."""
    return sha256(_LINK_TAG + salt + link).digest()


def encoded(commitment: bytes) -> bytes:
    """A commitment as it stands in a leaf: base64 with padding."""
    return b2a_base64(commitment, newline=False)


_LEAF = re.compile(
    rb'\{"b":"([A-Za-z0-9+/]{43}=)","id":"([0-9a-f-]{36})","k":"([a-z-]{1,32})","o":"(0|4|8|12)",'
    rb'"p":"([A-Za-z0-9+/]{43}=)","s":"([a-z0-9./-]{1,32})","t":([1-9][0-9]{0,15}),"v":1\}'
)


def read_leaf(leaf: bytes) -> Leaf | None:
    """The members of a version 1 leaf, or None when the bytes are not exactly one."""
    match = _LEAF.fullmatch(leaf)
    return None if match is None else Leaf._make(match.groups())


def milliseconds(at: datetime) -> int:
    """Whole milliseconds since 1970 in UTC of an aware instant, exactly (no floating point)."""
    return (at - _EPOCH) // _MILLISECOND


def instant(time: int) -> datetime:
    """The aware UTC instant of ``t``."""
    return _EPOCH + time * _MILLISECOND
