"""What somebody with every right on the database can do to the log, and the index at which verification names it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from app.audit import merkle
from app.audit.entry import body_commitment, read_leaf
from app.audit.log import AuditLog
from app.audit.packing import pack, unpack
from app.audit.sequence import append, prepare
from app.audit.verify import TreeHead, Verdict, verify
from app.db import Database
from app.vocabulary import PatientKey
from tests.fakes_audit import NODE, NOON, FixedClock, an_entry

ENTRIES = 24
KEEPERS = ("audit_leaf", "audit_body", "audit_head")


@pytest.fixture
async def log_of_24(database: Database) -> AuditLog:
    """Entries of three patients in turn, in four batches."""
    log = AuditLog(database, NODE, origin="rx1.example/audit", max_waiting=99, clock=FixedClock())
    await log.start()
    for start in range(0, ENTRIES, 6):
        await log.record(
            [an_entry(patient_key=PatientKey(number % 3 + 1)) for number in range(start, start + 6)]
        )
    await log.stop()
    return log


async def tampered(owner: Database, *statements: str) -> None:
    """As the owner, who can disable the triggers."""
    async with owner.transaction() as connection:
        for table in KEEPERS:
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for statement in statements:
            await connection.execute(statement)
        for table in KEEPERS:
            await connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER refuse")


async def verdict_of(owner: Database, kept: TreeHead | None = None) -> Verdict:
    async with owner.connection() as connection:
        return await verify(connection, kept=kept)


async def head_of(owner: Database) -> TreeHead:
    row = await owner.pool.fetchrow("SELECT size, root FROM audit_head")
    return TreeHead(row["size"], row["root"])


async def test_an_untouched_log_is_whole(log_of_24: AuditLog, owner: Database) -> None:
    seen: list[tuple[int, int]] = []
    async with owner.connection() as connection:
        verdict = await verify(connection, progress=lambda done, total: seen.append((done, total)))
    assert (verdict.size, verdict.first_bad, verdict.reason) == (ENTRIES, None, None)
    assert verdict.root == (await head_of(owner)).root
    assert seen == [(ENTRIES, ENTRIES)]


async def test_an_empty_log_is_whole(owner: Database) -> None:
    verdict = await verdict_of(owner)
    assert (verdict.size, verdict.root, verdict.holds) == (0, merkle.EMPTY_ROOT, True)


SWAP = """
    UPDATE audit_{0} SET idx = 999 WHERE idx = 7;
    UPDATE audit_{0} SET idx = 7 WHERE idx = 16;
    UPDATE audit_{0} SET idx = 16 WHERE idx = 999
"""

TAMPERINGS: dict[str, tuple[Sequence[str], int | None, str]] = {
    "a leaf is edited": (["UPDATE audit_leaf SET leaf = leaf || ' ' WHERE idx = 5"], 5, "hash"),
    "a leaf is edited with its hash": (
        [
            "UPDATE audit_leaf SET leaf = overlay(leaf placing '\\x38' from position('\"o\":\"0\"' in leaf) + 5)"
            " WHERE idx = 5",
            "UPDATE audit_leaf SET leaf_hash = sha256('\\x00' || leaf) WHERE idx = 5",
        ],
        5,
        "outcome",
    ),
    "a leaf's time is moved with its hash": (
        [
            "UPDATE audit_leaf SET leaf = overlay(leaf placing '\\x39' from position('\"t\":' in leaf) + 4)"
            " WHERE idx = 5",
            "UPDATE audit_leaf SET leaf_hash = sha256('\\x00' || leaf) WHERE idx = 5",
        ],
        6,
        "time goes back",
    ),
    "a hash is edited": (["UPDATE audit_leaf SET leaf_hash = sha256('') WHERE idx = 9"], 9, "hash"),
    "an entry's id is edited": (
        ["UPDATE audit_leaf SET entry_id = gen_random_uuid() WHERE idx = 2"],
        2,
        "another entry",
    ),
    "a body is edited": (
        [
            "UPDATE audit_body SET body = convert_to('{\"resourceType\":\"AuditEvent\"}', 'UTF8') WHERE idx = 11"
        ],
        11,
        "body is not what",
    ),
    "a body is damaged": (["UPDATE audit_body SET body = '\\x00' WHERE idx = 11"], 11, "cannot be read"),
    "a body is exchanged for another": (
        ["UPDATE audit_body b SET body = a.body FROM audit_body a WHERE b.idx = 11 AND a.idx = 12"],
        11,
        "body is not what",
    ),
    "a body goes and its salt stays": (["UPDATE audit_body SET body = NULL WHERE idx = 4"], 4, "half"),
    "a salt is edited": (["UPDATE audit_body SET salt = sha256('') WHERE idx = 4"], 4, "body is not what"),
    "a leaf is deleted": (["DELETE FROM audit_leaf WHERE idx = 13"], 13, "no leaf"),
    "a body is deleted": (["DELETE FROM audit_body WHERE idx = 13"], 13, "no body"),
    "an entry is deleted": (
        ["DELETE FROM audit_leaf WHERE idx = 13", "DELETE FROM audit_body WHERE idx = 13"],
        13,
        "no leaf",
    ),
    "the first entry is deleted": (
        ["DELETE FROM audit_leaf WHERE idx = 0", "DELETE FROM audit_body WHERE idx = 0"],
        0,
        "no leaf",
    ),
    "the last entry is deleted": (
        ["DELETE FROM audit_leaf WHERE idx = 23", "DELETE FROM audit_body WHERE idx = 23"],
        23,
        "another size",
    ),
    "an entry is deleted and the rest moved up": (
        [
            "DELETE FROM audit_leaf WHERE idx = 13",
            "DELETE FROM audit_body WHERE idx = 13",
            *(
                f"UPDATE audit_{table} SET idx = idx - 1 WHERE idx = {place}"
                for place in range(14, 24)
                for table in ("leaf", "body")
            ),
        ],
        15,
        "gap",
    ),
    "two leaves are exchanged": ([SWAP.format("leaf")], 7, "body is not what"),
    "two bodies are exchanged": ([SWAP.format("body")], 7, "body is not what"),
    "two entries are exchanged": ([SWAP.format("leaf"), SWAP.format("body")], 7, "gap"),
    "an entry is hidden from its patient": (
        ["UPDATE audit_body SET patient_key = 99 WHERE idx = 8"],
        8,
        "gap",
    ),
    "an entry is given to no patient": (["UPDATE audit_body SET patient_key = 0 WHERE idx = 8"], 8, "gap"),
    "a patient's numbers are moved": (["UPDATE audit_body SET psn = psn + 1 WHERE idx = 8"], 8, "gap"),
    "a link's salt is edited": (["UPDATE audit_body SET link_salt = sha256('') WHERE idx = 8"], 8, "link"),
    "an outcome is whitewashed": (["UPDATE audit_body SET outcome = '8' WHERE idx = 3"], 3, "outcome"),
    "an interaction is renamed": (
        ["UPDATE audit_body SET interaction = 'search' WHERE idx = 3"],
        3,
        "interaction",
    ),
    "an entry is hidden from a search by date": (
        ["UPDATE audit_body SET recorded = recorded - interval '1 year' WHERE idx = 3"],
        3,
        "time stored",
    ),
    "an entry is hidden from a search by trace": (
        ["UPDATE audit_body SET trace_id = gen_random_uuid() WHERE idx = 3"],
        3,
        "trace id",
    ),
    "a body is slipped in": (
        [
            "INSERT INTO audit_body SELECT 24, recorded, patient_key, person_key, client_id, outcome, interaction,"
            " trace_id, psn, link_salt, body, salt FROM audit_body WHERE idx = 3"
        ],
        24,
        "without a leaf",
    ),
    "a leaf is slipped in": (
        ["INSERT INTO audit_leaf VALUES (24, gen_random_uuid(), '{}', sha256('\\x00' || '{}'::bytea))"],
        24,
        "form of version 1",
    ),
    "everything is truncated": (["TRUNCATE audit_leaf", "TRUNCATE audit_body"], 0, "another size"),
    "the head is shrunk": (["UPDATE audit_head SET size = 12"], None, "another size"),
    "the root is edited": (["UPDATE audit_head SET root = sha256('')"], None, "root"),
    "the frontier is edited": (["UPDATE audit_head SET frontier = sha256('') || sha256('')"], None, "root"),
    "a patient's head is edited": (
        ["UPDATE audit_patient_head SET psn = 3 WHERE patient_key = 1"],
        None,
        "heads",
    ),
    "a patient's head is deleted": (["DELETE FROM audit_patient_head WHERE patient_key = 2"], None, "heads"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_a_tampering_is_named_by_its_first_bad_index(
    tampering: str, log_of_24: AuditLog, owner: Database
) -> None:
    statements, first_bad, reason = TAMPERINGS[tampering]
    await tampered(
        owner, *(part for statement in statements for part in statement.split(";") if part.strip())
    )
    verdict = await verdict_of(owner)
    assert verdict.first_bad == first_bad, verdict.reason
    assert reason in (verdict.reason or "")


async def test_an_erased_body_leaves_the_log_whole(log_of_24: AuditLog, owner: Database) -> None:
    await tampered(owner, "UPDATE audit_body SET body = NULL, salt = NULL WHERE idx = 10")
    assert (await verdict_of(owner)).holds


async def test_a_kept_head_shows_that_the_log_was_cut_short(
    log_of_24: AuditLog, database: Database, owner: Database
) -> None:
    kept = await head_of(owner)
    assert (await verdict_of(owner, kept)).holds
    await rewritten(owner, keep=12, change=None)
    assert (await verdict_of(owner)).holds, "by itself the shorter log is whole"
    assert "shorter" in ((await verdict_of(owner, kept)).reason or "")


async def test_a_kept_head_shows_that_the_log_was_rewritten(log_of_24: AuditLog, owner: Database) -> None:
    kept = await head_of(owner)

    def whitewash(body: bytes) -> bytes:
        return body.replace(b"Dr A. Khan", b"Dr B. Nemo")

    await rewritten(owner, keep=24, change=whitewash)
    assert (await verdict_of(owner)).holds, "by itself the rewritten log is whole"
    assert "does not continue" in ((await verdict_of(owner, kept)).reason or "")
    leaves = [
        row["leaf_hash"] for row in await owner.pool.fetch("SELECT leaf_hash FROM audit_leaf ORDER BY idx")
    ]
    proof = merkle.consistency_proof(24, leaves)
    forged = merkle.tree_root(leaves)
    assert not merkle.is_consistent(old=24, old_root=kept.root, size=24, root=forged, proof=proof)


@pytest.mark.parametrize("size", [0, 1, 12, 23, 24])
async def test_every_earlier_head_is_continued(size: int, log_of_24: AuditLog, owner: Database) -> None:
    rows = await owner.pool.fetch("SELECT leaf_hash FROM audit_leaf WHERE idx < $1 ORDER BY idx", size)
    root = merkle.tree_root([row["leaf_hash"] for row in rows])
    assert (await verdict_of(owner, TreeHead(size, root))).holds
    assert not (await verdict_of(owner, TreeHead(size, bytes(32)))).holds


async def rewritten(owner: Database, *, keep: int, change: Callable[[bytes], bytes] | None) -> None:
    """Writes the whole log anew, as somebody could who owns the database and the code."""
    rows = await owner.pool.fetch(
        "SELECT b.*, l.entry_id FROM audit_body b JOIN audit_leaf l USING (idx) ORDER BY idx LIMIT $1", keep
    )
    await tampered(
        owner,
        "TRUNCATE audit_leaf",
        "TRUNCATE audit_body",
        "TRUNCATE audit_patient_head",
        "UPDATE audit_head SET size = 0, frontier = '', root = sha256(''), last_time = 0",
    )
    async with owner.transaction() as connection:
        for row in rows:
            await _again(connection, row, change)


async def _again(connection: asyncpg.Connection, row: Any, change: Callable[[bytes], bytes] | None) -> None:
    prepared = prepare(
        an_entry(id=row["entry_id"], patient_key=PatientKey(row["patient_key"])), node=NODE, recorded=NOON
    )
    assert prepared.recorded == row["recorded"]
    if change is not None:
        body = unpack(prepared.packed)
        changed = change(body)
        assert changed != body
        commitment = body_commitment(prepared.salt, changed)
        prepared = replace(prepared, packed=pack(changed), commitment=commitment)
    [receipt], _ = await append(connection, [prepared], now=NOON, repeat=False)
    leaf = await connection.fetchval("SELECT leaf FROM audit_leaf WHERE idx = $1", receipt.index)
    assert read_leaf(leaf) is not None
