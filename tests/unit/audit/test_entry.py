"""The bytes that last: leaves and commitments, locked to their schema and to golden files."""

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.entry import (
    NO_LINK,
    Interaction,
    body_commitment,
    instant,
    leaf_bytes,
    link_bytes,
    link_commitment,
    milliseconds,
    read_leaf,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "audit"
SALT, BODY = bytes(range(32)), b'{"resourceType":"AuditEvent"}'
ID = UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8")

hashes = st.binary(min_size=32, max_size=32)
kinds = st.sampled_from(sorted({interaction.kind for interaction in Interaction}))


def a_leaf() -> bytes:
    body = body_commitment(SALT, BODY)
    link = link_commitment(SALT[::-1], link_bytes(body=body, previous=NO_LINK, number=1))
    return leaf_bytes(entry_id=ID, time=1_793_707_200_123, kind="read", outcome="0", body=body, link=link)


def test_a_leaf_has_the_same_bytes_as_last_year() -> None:
    assert a_leaf() == (GOLDEN / "leaf-v1.json").read_bytes().rstrip(b"\n")


def test_a_link_record_has_the_same_bytes_as_last_year() -> None:
    link = link_bytes(body=body_commitment(SALT, BODY), previous=sha256(b"before").digest(), number=12)
    assert link == (GOLDEN / "link-v1.json").read_bytes().rstrip(b"\n")


def test_a_commitment_is_the_hash_of_tag_zero_salt_and_bytes() -> None:
    assert body_commitment(SALT, BODY) == sha256(b"scr-audit-body/v1" + b"\0" + SALT + BODY).digest()
    assert link_commitment(SALT, b"{}") == sha256(b"scr-audit-link/v1" + b"\0" + SALT + b"{}").digest()


def test_a_leaf_has_exactly_the_members_of_its_schema() -> None:
    members = json.loads(a_leaf())
    assert list(members) == ["b", "id", "k", "o", "p", "s", "t", "v"]
    assert len(b64decode(members["b"])) == len(b64decode(members["p"])) == 32
    assert len(a_leaf()) < 256


@given(st.uuids(), st.integers(1, 2**50), kinds, st.sampled_from(["0", "4", "8", "12"]), hashes, hashes)
def test_a_leaf_is_canonical_json_and_reads_back(
    id: UUID, time: int, kind: str, outcome: str, body: bytes, link: bytes
) -> None:
    leaf = leaf_bytes(entry_id=id, time=time, kind=kind, outcome=outcome, body=body, link=link)
    assert json.dumps(json.loads(leaf), sort_keys=True, separators=(",", ":")).encode() == leaf
    read = read_leaf(leaf)
    assert read is not None
    assert (read.entry_id.decode(), int(read.time)) == (str(id), time)
    assert (read.kind.decode(), read.outcome.decode()) == (kind, outcome)
    assert (b64decode(read.body), b64decode(read.link)) == (body, link)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"v":1', b'"v":2'),
        (b'"v":1}', b'"v":1,"z":0}'),
        (b'{"b"', b'{ "b"'),
        (b'"o":"0"', b'"o":"1"'),
        (b'"o":"0",', b""),
        (b'"t":1', b'"t":0'),
        (b'"k":"read"', b'"k":"Patient/p1"'),
        (b"}", b"}\n"),
    ],
)
def test_bytes_that_are_not_exactly_a_leaf_are_none(old: bytes, new: bytes) -> None:
    assert read_leaf(a_leaf()) is not None
    assert old in a_leaf()
    assert read_leaf(a_leaf().replace(old, new)) is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_not_a_leaf_and_raise_nothing(junk: bytes) -> None:
    assert read_leaf(junk) is None


def test_equal_bodies_with_other_salts_are_not_linkable() -> None:
    assert body_commitment(SALT, BODY) != body_commitment(SALT[::-1], BODY)


@given(st.timedeltas(timedelta(days=1), timedelta(days=80_000)))
def test_milliseconds_are_exact_and_cut_off(since: timedelta) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + since
    assert instant(milliseconds(at)) == at.replace(microsecond=at.microsecond // 1000 * 1000)
    assert milliseconds(at.astimezone(timezone(timedelta(hours=1)))) == milliseconds(at)


def test_every_interaction_has_a_kind() -> None:
    assert {interaction.kind for interaction in Interaction} == {
        "read",
        "query",
        "write",
        "decision",
        "audit-read",
        "login",
        "administration",
    }
