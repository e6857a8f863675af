"""The tree against RFC 6962's own definition, public vectors, and itself as it grows."""

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.audit import merkle

# From RFC 6962's reference implementation: seven roots that this repository can check without other files.
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
}


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def hashes(count: int) -> list[bytes]:
    return [merkle.leaf_hash(str(number).encode()) for number in range(count)]


@pytest.mark.parametrize("size", ROOTS)
def test_the_root_is_that_of_the_reference_tree(size: int) -> None:
    leaves = [merkle.leaf_hash(leaf) for leaf in LEAVES[:size]]
    assert merkle.tree_root(leaves).hex() == ROOTS[size]


def test_growing_leaf_by_leaf_gives_the_root_of_the_definition_at_every_size() -> None:
    frontier: list[bytes] = []
    leaves = hashes(70)
    for size in range(70):
        assert merkle.root_of(frontier) == naive_root(leaves[:size])
        assert merkle.grow(frontier, size, leaves[size : size + 1]) == size + 1


def test_every_inclusion_proof_of_every_small_tree_verifies_at_its_own_place_only() -> None:
    for size in range(1, 20):
        leaves = hashes(size)
        root = naive_root(leaves)
        for index in range(size):
            proof = merkle.inclusion_proof(index, leaves)
            for claimed in range(size):
                shown = merkle.includes(root=root, size=size, index=claimed, leaf=leaves[index], proof=proof)
                assert shown == (claimed == index)


def test_every_consistency_proof_between_small_trees_verifies() -> None:
    leaves = hashes(33)
    for size in range(1, 34):
        root = naive_root(leaves[:size])
        for old in range(1, size + 1):
            proof = merkle.consistency_proof(old, leaves[:size])
            old_root = naive_root(leaves[:old])
            assert merkle.is_consistent(old=old, old_root=old_root, size=size, root=root, proof=proof)
            forged = merkle.leaf_hash(old_root)
            assert not merkle.is_consistent(old=old, old_root=forged, size=size, root=root, proof=proof)


def test_a_rewritten_past_has_no_consistency_proof() -> None:
    kept, leaves = hashes(13), hashes(21)
    leaves[4] = merkle.leaf_hash(b"rewritten")
    root = merkle.tree_root(leaves)
    proof = merkle.consistency_proof(13, leaves)
    assert not merkle.is_consistent(old=13, old_root=merkle.tree_root(kept), size=21, root=root, proof=proof)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_inclusion_proof_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(IndexError):
        merkle.inclusion_proof(index, hashes(size))


@pytest.mark.parametrize("old", [-1, 0, 4])
def test_there_is_no_consistency_proof_from_nothing_or_from_the_future(old: int) -> None:
    with pytest.raises(IndexError):
        merkle.consistency_proof(old, hashes(3))


@pytest.mark.parametrize(("length", "size"), [(31, 1), (32, 3), (64, 1), (0, 1), (0, -1)])
def test_a_frontier_of_the_wrong_length_is_refused(length: int, size: int) -> None:
    with pytest.raises(ValueError, match="frontier"):
        merkle.split_frontier(bytes(length), size)


@given(st.integers(1, 300), st.data())
def test_a_proof_with_any_byte_changed_shows_nothing(size: int, draw: st.DataObject) -> None:
    leaves = hashes(size)
    index = draw.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, leaves)
    root = merkle.tree_root(leaves)
    if proof:
        place = draw.draw(st.integers(0, len(proof) - 1))
        flipped = bytearray(proof[place])
        flipped[draw.draw(st.integers(0, 31))] ^= draw.draw(st.integers(1, 255))
        proof[place] = bytes(flipped)
        assert not merkle.includes(root=root, size=size, index=index, leaf=leaves[index], proof=proof)
    longer = [*merkle.inclusion_proof(index, leaves), bytes(32)]
    assert not merkle.includes(root=root, size=size, index=index, leaf=leaves[index], proof=longer)


class GrowingLog(RuleBasedStateMachine):
    """Whatever is appended, the frontier gives the root of the definition, and every earlier tree is a prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.leaves: list[bytes] = []
        self.frontier: list[bytes] = []
        self.heads: list[tuple[int, bytes]] = []

    @rule(batch=st.lists(st.binary(max_size=8), max_size=9))
    def append(self, batch: list[bytes]) -> None:
        added = [merkle.leaf_hash(leaf) for leaf in batch]
        size = merkle.grow(self.frontier, len(self.leaves), added)
        self.leaves += added
        assert size == len(self.leaves)
        self.heads.append((size, merkle.root_of(self.frontier)))

    @rule()
    def store_and_load_the_frontier(self) -> None:
        joined = b"".join(self.frontier)
        assert merkle.split_frontier(joined, len(self.leaves)) == self.frontier

    @invariant()
    def the_root_is_that_of_the_definition(self) -> None:
        assert merkle.root_of(self.frontier) == naive_root(self.leaves)

    @invariant()
    def every_earlier_head_is_consistent(self) -> None:
        root = merkle.root_of(self.frontier)
        for old, old_root in self.heads:
            if old:
                proof = merkle.consistency_proof(old, self.leaves)
                assert merkle.is_consistent(
                    old=old, old_root=old_root, size=len(self.leaves), root=root, proof=proof
                )


TestGrowingLog = GrowingLog.TestCase
TestGrowingLog.settings = settings(max_examples=30, stateful_step_count=12, deadline=None)


# The public vectors (transparency-dev, Apache-2.0), where the shared data set is present.


def vectors(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "merkle-vectors" / name).read_text().splitlines()]


def decoded(vector: dict[str, Any]) -> list[bytes]:
    return [b64decode(text) for text in vector["proof"] or []]


def binary(text: str | None) -> bytes:
    return b64decode(text or "")


def test_every_public_inclusion_vector_is_answered_as_published(shared_data: Path) -> None:
    found = vectors(shared_data, "inclusion.ndjson")
    for vector in found:
        shown = merkle.includes(
            root=binary(vector["root"]),
            size=vector["treeSize"],
            index=vector["leafIdx"],
            leaf=binary(vector["leafHash"]),
            proof=decoded(vector),
        )
        assert shown != vector["wantErr"], vector["id"]
    assert len(found) == 49


def test_every_public_consistency_vector_is_answered_as_published(shared_data: Path) -> None:
    found = vectors(shared_data, "consistency.ndjson")
    for vector in found:
        shown = merkle.is_consistent(
            old=vector["size1"],
            old_root=binary(vector["root1"]),
            size=vector["size2"],
            root=binary(vector["root2"]),
            proof=decoded(vector),
        )
        assert shown != vector["wantErr"], vector["id"]
    assert len(found) == 49


def test_the_reference_tree_has_our_hashes_at_every_node(shared_data: Path) -> None:
    tree = json.loads((shared_data / "merkle-vectors" / "rfc6962-reference-tree.json").read_text())
    leaves = [merkle.leaf_hash(bytes.fromhex(text)) for text in tree["leaf_inputs_hex"]]
    level = leaves
    for published in tree["node_hashes_hex_by_level"]:
        assert [node.hex() for node in level] == published
        level = [merkle.node_hash(*pair) for pair in zip(level[::2], level[1::2], strict=False)]
    for size, root in enumerate(tree["root_hashes_hex_by_size"]):
        assert merkle.tree_root(leaves[:size]).hex() == root


def test_the_roots_of_a_published_log_are_ours(shared_data: Path) -> None:
    for vector in vectors(shared_data, "tessera-log.ndjson"):
        leaves = [merkle.leaf_hash(bytes.fromhex(text)) for text in vector["entries_hex"]]
        assert [leaf.hex() for leaf in leaves] == vector["leaf_hashes_hex"]
        assert merkle.tree_root(leaves) == b64decode(vector["root_base64"])
