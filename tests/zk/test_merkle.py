"""Trees against a recursive reference; multiproofs of any positions; a wrong byte changes the root or is refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError
from secureagg.zk.merkle import SALT_BYTES, Tree, leaf, leaves, proof_nodes, root_of


def random_columns(rows: int, n: int) -> NDArray[np.uint64]:
    return np.random.default_rng(rows * n).integers(0, 2**64, (rows, n), dtype=np.uint64)


def salts_of(n: int) -> bytes:
    return np.random.default_rng(n).bytes(n * SALT_BYTES)


def leaf_by_hand(values: list[int], salt: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + salt + b"".join(value.to_bytes(8, "little") for value in values)).digest()


def root_by_hand(nodes: list[bytes]) -> bytes:
    if len(nodes) == 1:
        return nodes[0]
    half = len(nodes) // 2
    return hashlib.sha256(b"\x01" + root_by_hand(nodes[:half]) + root_by_hand(nodes[half:])).digest()


def proof_by_hand(nodes: list[bytes], positions: list[int]) -> list[bytes]:
    """Return the siblings nobody can compute, level by level from the leaves up, left to right."""
    if len(nodes) == 1:
        return []
    siblings = [nodes[i] for i in range(len(nodes)) if i not in positions and i ^ 1 in positions]
    above = [hashlib.sha256(b"\x01" + nodes[i] + nodes[i + 1]).digest() for i in range(0, len(nodes), 2)]
    return siblings + proof_by_hand(above, sorted({position // 2 for position in positions}))


def tree_of(n: int) -> tuple[Tree, list[bytes]]:
    """Return a tree over n different leaves, and these."""
    nodes = [hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(n)]
    return Tree(as_array(nodes)), nodes


def as_array(nodes: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(nodes), dtype=np.uint8).reshape(-1, 32)


@st.composite
def openings(draw: st.DrawFn) -> tuple[int, list[int]]:
    n = 1 << draw(st.integers(1, 6))
    return n, sorted(draw(st.sets(st.integers(0, n - 1), min_size=1)))


# Vectors


@pytest.mark.parametrize(("rows", "n"), [(0, 4), (1, 1), (3, 7), (5, 64), (380, 200), (40_000, 9)])
def test_leaves_are_salted_hashes_of_columns(rows: int, n: int) -> None:
    """Sizes on both sides of a block of columns, which is 8 to 2^15 wide."""
    columns, salts = random_columns(rows, n), salts_of(n)
    expected = [leaf_by_hand(columns[:, i].tolist(), salts[16 * i : 16 * i + 16]) for i in range(n)]
    assert [each.tobytes() for each in leaves(columns, salts)] == expected
    assert [leaf(columns[:, i], salts[16 * i : 16 * i + 16]) for i in range(n)] == expected


def test_leaves_of_many_columns_and_other_memory_orders() -> None:
    columns, salts = random_columns(2, 40_000), salts_of(40_000)
    expected = leaves(columns, salts)
    for i in (0, 16_383, 16_384, 32_768, 39_999):
        assert expected[i].tobytes() == leaf_by_hand(columns[:, i].tolist(), salts[16 * i : 16 * i + 16])
    assert np.array_equal(leaves(np.asfortranarray(columns), salts), expected)
    assert np.array_equal(leaves(np.repeat(columns, 2, axis=1)[:, ::2], salts), expected)


@pytest.mark.parametrize("n", [2, 4, 32, 256])
def test_root_is_the_recursive_one(n: int) -> None:
    tree, nodes = tree_of(n)
    assert tree.root == root_by_hand(nodes)


def test_known_root() -> None:
    """A change of the format must change this value: sha256sum of 0x01 and twice the leaf of nothing."""
    empty = hashlib.sha256(bytes(17)).digest()
    tree = Tree(leaves(np.empty((0, 2), dtype=np.uint64), bytes(32)))
    assert tree.root == hashlib.sha256(b"\x01" + empty + empty).digest()


def test_proof_nodes_go_up_and_from_left_to_right() -> None:
    tree, nodes = tree_of(8)

    def above(left: int) -> bytes:
        return hashlib.sha256(b"\x01" + nodes[left] + nodes[left + 1]).digest()

    assert tree.multiproof([1, 4]) == nodes[0] + nodes[5] + above(2) + above(6)
    assert tree.multiproof([6, 7]) == above(4) + hashlib.sha256(b"\x01" + above(0) + above(2)).digest()
    assert tree.multiproof(range(8)) == b""


# Laws


@given(openings())
def test_any_positions_lead_to_the_root(opening: tuple[int, list[int]]) -> None:
    n, positions = opening
    tree, nodes = tree_of(n)
    proof = tree.multiproof(positions)
    assert proof == b"".join(proof_by_hand(nodes, positions))
    assert len(proof) == 32 * proof_nodes(n, positions)
    assert root_of(n, positions, [nodes[i] for i in positions], proof) == tree.root
    array = np.array(positions, dtype=np.int64)
    assert tree.multiproof(array) == proof
    assert root_of(n, array, [nodes[i] for i in positions], memoryview(proof)) == tree.root


@given(openings(), st.data())
def test_any_changed_byte_changes_the_root(opening: tuple[int, list[int]], data: st.DataObject) -> None:
    n, positions = opening
    tree, nodes = tree_of(n)
    proof = tree.multiproof(positions)
    shown = b"".join(nodes[i] for i in positions) + proof
    at, flip = data.draw(st.integers(0, len(shown) - 1)), data.draw(st.integers(1, 255))
    bad = shown[:at] + bytes([shown[at] ^ flip]) + shown[at + 1 :]
    cut = 32 * len(positions)
    assert root_of(n, positions, [bad[i : i + 32] for i in range(0, cut, 32)], bad[cut:]) != tree.root


@given(openings(), st.data())
def test_any_moved_position_changes_the_root_or_is_refused(opening: tuple[int, list[int]], data: st.DataObject) -> None:
    n, positions = opening
    tree, nodes = tree_of(n)
    moved = data.draw(st.integers(0, len(positions) - 1))
    other = [*positions[:moved], data.draw(st.integers(0, n - 1)), *positions[moved + 1 :]]
    if other == positions:
        return
    try:
        root = root_of(n, other, [nodes[i] for i in positions], tree.multiproof(positions))
    except EncodingError:
        return
    assert root != tree.root


@given(openings(), st.integers(0, 7), st.integers(1, 255))
def test_any_changed_salt_or_value_changes_the_leaf(opening: tuple[int, list[int]], at: int, flip: int) -> None:
    n, positions = opening
    columns, salts = random_columns(3, n), salts_of(n)
    column, salt = columns[:, positions[0]].copy(), bytearray(salts[16 * positions[0] : 16 * positions[0] + 16])
    honest = leaf(column, bytes(salt))
    salt[2 * at] ^= flip
    assert leaf(column, bytes(salt)) != honest
    salt[2 * at] ^= flip
    column[at % 3] ^= np.uint64(flip << 8 * at)
    assert leaf(column, bytes(salt)) != honest


def test_tree_keeps_its_own_leaves() -> None:
    _, nodes = tree_of(4)
    array = as_array(nodes).copy()
    tree = Tree(array)
    array[:] = 0
    assert root_of(4, [1], [nodes[1]], tree.multiproof([1])) == tree.root


# Rejects


def test_swapped_leaves_and_proof_nodes_give_another_root() -> None:
    tree, nodes = tree_of(8)
    proof = tree.multiproof([1, 4])
    swapped = proof[32:64] + proof[:32] + proof[64:]
    assert root_of(8, [1, 4], [nodes[4], nodes[1]], proof) != tree.root
    assert root_of(8, [1, 4], [nodes[1], nodes[4]], swapped) != tree.root
    assert root_of(8, [0, 4], [nodes[1], nodes[4]], proof) != tree.root


def test_node_cannot_be_opened_as_a_leaf_of_a_smaller_tree_with_a_known_column() -> None:
    """An inner node hashes 0x01 ‖ 64 bytes; the column that spells these 64 bytes hashes after 0x00 and a salt."""
    _, nodes = tree_of(4)
    pair = nodes[0] + nodes[1]
    inner = hashlib.sha256(b"\x01" + pair).digest()
    column = np.frombuffer(pair[16:], dtype="<u8").astype(np.uint64)
    assert leaf(column, pair[:16]) == hashlib.sha256(b"\x00" + pair).digest() != inner


def test_leaf_cannot_be_opened_as_a_node_of_a_larger_tree() -> None:
    """A column that spells two leaves does not make them leaves of the tree."""
    _, nodes = tree_of(2)
    pair = nodes[0] + nodes[1]
    column = np.frombuffer(pair[16:], dtype="<u8").astype(np.uint64)
    tree = Tree(as_array([leaf(column, pair[:16]), leaf(column, bytes(16))]))
    assert root_of(4, [0], [nodes[0]], nodes[1] + tree.multiproof([0])) != tree.root


def test_tree_of_another_size_needs_another_proof() -> None:
    tree, nodes = tree_of(8)
    for n in (4, 16):
        with pytest.raises(EncodingError, match="bytes, "):
            root_of(n, [1], [nodes[1]], tree.multiproof([1]))


@pytest.mark.parametrize(
    "change", [lambda p: p[:-32], lambda p: p[:-1], lambda p: p + b"\x00", lambda p: p + bytes(32)]
)
def test_proof_of_another_length_is_refused(change: object) -> None:
    tree, nodes = tree_of(16)
    assert callable(change)
    with pytest.raises(EncodingError, match="expected for these positions"):
        root_of(16, [3, 9], [nodes[3], nodes[9]], change(tree.multiproof([3, 9])))


@pytest.mark.parametrize("positions", [[9, 3], [3, 3], [-1, 3], [3, 16], []])
def test_positions_out_of_order_are_refused(positions: list[int]) -> None:
    tree, nodes = tree_of(16)
    for refused, call in (
        (ParameterError, lambda: tree.multiproof(positions)),
        (ParameterError, lambda: proof_nodes(16, positions)),
        (EncodingError, lambda: root_of(16, positions, [nodes[3]] * len(positions), bytes(32 * 6))),
    ):
        with pytest.raises(refused, match="position"):
            call()


@pytest.mark.parametrize("shown", [[], [bytes(32)], [bytes(32)] * 3, [bytes(32), bytes(31)], [bytes(33), bytes(32)]])
def test_leaves_of_another_number_or_length_are_refused(shown: list[bytes]) -> None:
    tree, _ = tree_of(16)
    with pytest.raises(EncodingError, match="2 positions need as many leaves of 32 bytes"):
        root_of(16, [3, 9], shown, tree.multiproof([3, 9]))


@pytest.mark.parametrize("n", [0, 1, 3, 12])
def test_tree_of_no_power_of_two_is_refused(n: int) -> None:
    for call in (lambda: Tree(np.zeros((n, 32), np.uint8)), lambda: proof_nodes(n, [0])):
        with pytest.raises(ParameterError, match="power of two"):
            call()
    with pytest.raises(ParameterError, match="power of two"):
        root_of(n, [0], [bytes(32)], b"")


def test_arrays_of_another_kind_are_refused() -> None:
    good = np.zeros((3, 4), np.uint64)
    for columns in (good.astype(np.int64), good.reshape(-1), good.astype(">u8")):
        with pytest.raises(ParameterError, match="uint64"):
            leaves(columns, bytes(64))
    for salts in (b"", bytes(63), bytes(65)):
        with pytest.raises(ParameterError, match="16 each"):
            leaves(good, salts)
    for column, salt in ((good, bytes(16)), (good[:, 0], bytes(15)), (good[:, 0].astype(np.int64), bytes(16))):
        with pytest.raises(ParameterError, match="salt of"):
            leaf(column, salt)
    for nodes in (np.zeros((4, 31), np.uint8), np.zeros((4, 32), np.int8), np.zeros(128, np.uint8)):
        with pytest.raises(ParameterError, match="uint8"):
            Tree(nodes)
