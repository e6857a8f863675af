"""The Merkle tree of RFC 6962, section 2, with SHA-256: hashes, growth, and proofs with their verification.

A tree is grown from its *frontier*: the roots of the perfect subtrees that its size is made of, largest
first (one for each 1 bit of the size). That is all a log has to remember to append, and to give its root.
"""

from collections.abc import Iterable, MutableSequence, Sequence
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """``SHA-256(0x00 || leaf)``: 32 bytes."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """``SHA-256(0x01 || left || right)``: 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def grow(frontier: MutableSequence[bytes], size: int, hashes: Iterable[bytes]) -> int:
    """Appends leaf ``hashes`` to a tree of ``size`` leaves: changes ``frontier``, gives the new size."""
    for node in hashes:
        level = size
        while level & 1:
            node = sha256(b"\x01" + frontier.pop() + node).digest()
            level >>= 1
        frontier.append(node)
        size += 1
    return size


def root_of(frontier: Sequence[bytes]) -> bytes:
    """The tree's root: the frontier hashed together, smallest subtree first."""
    if not frontier:
        return EMPTY_ROOT
    node = frontier[-1]
    for left in reversed(frontier[:-1]):
        node = node_hash(left, node)
    return node


def split_frontier(joined: bytes, size: int) -> list[bytes]:
    """A frontier stored as one string. Raises ValueError when it cannot belong to a tree of ``size``."""
    if size < 0 or len(joined) != HASH_BYTES * size.bit_count():
        raise ValueError("the frontier does not fit the size of the tree")
    return [joined[start : start + HASH_BYTES] for start in range(0, len(joined), HASH_BYTES)]


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in index order (RFC 6962, 2.1)."""
    frontier: list[bytes] = []
    grow(frontier, 0, leaves)
    return root_of(frontier)


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Audit path of leaf ``index``: 32-byte hashes, nearest sibling first (RFC 6962, 2.1.1).

    ``leaves`` are leaf hashes in index order. Raises IndexError outside ``0 <= index < len(leaves)``.
    """
    if not 0 <= index < len(leaves):
        raise IndexError("no such leaf in a tree of that size")
    proof: list[bytes] = []
    start, end = 0, len(leaves)
    while end - start > 1:
        middle = start + _left_size(end - start)
        if index < middle:
            proof.append(tree_root(leaves[middle:end]))
            end = middle
        else:
            proof.append(tree_root(leaves[start:middle]))
            start = middle
    proof.reverse()
    return proof


def consistency_proof(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Proof that the tree over the first ``old`` leaves is a prefix of the whole (RFC 6962, 2.1.2).

    Raises IndexError outside ``0 < old <= len(leaves)``: from nothing, nothing can be proved.
    """
    if not 0 < old <= len(leaves):
        raise IndexError("no such earlier tree")
    proof: list[bytes] = []
    start, end, is_old_root = 0, len(leaves), True
    while end > old:
        middle = start + _left_size(end - start)
        if old <= middle:
            proof.append(tree_root(leaves[middle:end]))
            end = middle
        else:
            proof.append(tree_root(leaves[start:middle]))
            start, is_old_root = middle, False
    if not is_old_root:
        proof.append(tree_root(leaves[start:end]))
    proof.reverse()
    return proof


def includes(*, root: bytes, size: int, index: int, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` shows that the leaf hash ``leaf`` stands at ``index`` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or not _are_hashes(root, leaf, *proof):
        return False
    node, last = leaf, size - 1
    for sibling in proof:
        if last == 0:
            return False
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and node == root


def is_consistent(*, old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` shows the ``old`` tree to be a prefix of that of ``size`` (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= size or not _are_hashes(old_root, root, *proof):
        return False
    if old == size:
        return not proof and old_root == root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    first, last = old - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and before == old_root and after == root


def _left_size(size: int) -> int:
    """The largest power of two smaller than ``size`` (``k`` of RFC 6962, 2.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _are_hashes(*candidates: bytes) -> bool:
    return all(len(candidate) == HASH_BYTES for candidate in candidates)
