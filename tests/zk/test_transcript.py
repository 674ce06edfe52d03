"""The chain against hashlib by hand; challenges that depend on every item, its label and its place; uniform draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secureagg.errors import ParameterError
from secureagg.ring.params import PRIMES
from secureagg.ring.xof import PublicExpansion
from secureagg.zk.transcript import Transcript, distinct_positions, field_elements
from tests.ring import reference

Q = PRIMES[0]
SEED = bytes(range(32))

Call = tuple[str, str, bytes]  # "absorb" or "challenge", label, data
CALLS = st.lists(
    st.tuples(st.sampled_from(["absorb", "challenge"]), st.text(max_size=3), st.binary(max_size=3)).map(
        lambda call: call if call[0] == "absorb" else (*call[:2], b"")
    ),
    max_size=4,
)


def sized(part: bytes) -> bytes:
    return len(part).to_bytes(8, "little") + part


def by_hand(name: str, calls: list[Call]) -> list[bytes]:
    """Return every challenge of these calls, from hashlib alone."""
    drawn = []
    state = hashlib.sha256(b"secureagg/zk/transcript/v1" + sized(name.encode())).digest()
    for kind, label, item in calls:
        if kind == "absorb":
            state = hashlib.sha256(state + b"absorb" + sized(label.encode()) + sized(item)).digest()
        else:
            drawn.append(hashlib.sha256(state + b"challenge" + sized(label.encode())).digest())
            state = hashlib.sha256(state + b"advance" + sized(label.encode())).digest()
    return drawn


def played(name: str, calls: list[Call]) -> list[bytes]:
    """Return every challenge of these calls."""
    transcript, drawn = Transcript(name), []
    for kind, label, item in calls:
        if kind == "absorb":
            transcript.absorb(label, item)
        else:
            drawn.append(transcript.challenge(label))
    return drawn


def last(calls: list[Call], name: str = "t") -> bytes:
    return played(name, [*calls, ("challenge", "end", b"")])[-1]


# Vectors


def test_challenges_are_the_documented_hashes() -> None:
    calls: list[Call] = [
        ("absorb", "sid", SEED),
        ("challenge", "α", b""),
        ("absorb", "empty", b""),
        ("absorb", "", b"x" * 1000),
        ("challenge", "β", b""),
        ("challenge", "β", b""),
    ]
    assert played("a proof", calls) == by_hand("a proof", calls)


def test_known_challenge() -> None:
    """A change of the format must change the version: this value is fixed."""
    transcript = Transcript("x")
    transcript.absorb("a", b"b")
    assert transcript.challenge("c").hex() == "d523751035c2200b228972098b51ae1ea54d27a6cfeef3ba0a9970e52e8e69a2"


def test_field_elements_are_the_words_cut_to_52_bits() -> None:
    key = reference.public_key(SEED, "field/rho")
    expected = [reference.keystream_word(key, i) % 2**52 for i in range(101)]
    assert max(expected) < Q, "none of these words is refused"
    assert field_elements(SEED, "rho", 101, Q).tolist() == expected


def test_refused_word_is_replaced_by_its_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words above q are too rare to find, so one is planted."""
    honest = PublicExpansion.fill

    def planted(self: PublicExpansion, first: int, out: np.ndarray) -> None:
        honest(self, first, out)
        out.reshape(-1)[7] = Q

    monkeypatch.setattr(PublicExpansion, "fill", planted)
    spare = reference.keystream_word(reference.public_key(SEED, "field/rho"), 2 * ((1 << 127) + (7 << 32)))
    assert field_elements(SEED, "rho", 20, Q)[7] == spare % 2**52 < Q


def test_positions_are_the_first_different_low_bits() -> None:
    key = reference.public_key(SEED, "positions/queries")
    chosen: list[int] = []
    word = 0
    while len(chosen) < 40:
        position = reference.keystream_word(key, word) % 64
        word += 1
        if position not in chosen:
            chosen.append(position)
    assert word > 40, "a repeat was refused"
    assert distinct_positions(SEED, "queries", 40, 64).tolist() == sorted(chosen)


# Laws


@given(CALLS)
def test_any_sequence_matches_the_hashes_by_hand(calls: list[Call]) -> None:
    assert played("t", calls) == by_hand("t", calls)


@given(CALLS, CALLS)
def test_different_calls_never_meet(first: list[Call], second: list[Call]) -> None:
    assume(first != second)
    assert last(first) != last(second)


def test_every_challenge_depends_on_every_item_before_it_and_on_none_after() -> None:
    calls: list[Call] = [
        ("absorb", "one", b"1"),
        ("challenge", "a", b""),
        ("absorb", "two", b"2"),
        ("absorb", "three", b"3"),
        ("challenge", "b", b""),
        ("challenge", "c", b""),
    ]
    honest = played("t", calls)
    for place, (kind, label, item) in enumerate(calls):
        kept = sum(before == "challenge" for before, _, _ in calls[:place])
        others = [(kind, label + "'", item)]
        if kind == "absorb":
            others += [(kind, label, item + b"\x00"), (kind, label, b""), (kind, label, b"9")]
        for other in others:
            changed = played("t", [*calls[:place], other, *calls[place + 1 :]])
            assert changed[:kept] == honest[:kept]
            assert not set(changed[kept:]) & set(honest[kept:])


def test_data_of_any_buffer_counts_by_its_bytes() -> None:
    words = np.arange(6, dtype="<u8").reshape(2, 3)
    expected = last([("absorb", "w", words.tobytes())])
    for view in (memoryview(words), memoryview(words.tobytes()), memoryview(bytearray(words.tobytes()))):
        transcript = Transcript("t")
        transcript.absorb("w", view)
        assert transcript.challenge("end") == expected
    transcript = Transcript("t")
    transcript.absorb("w", memoryview(np.empty((0, 3))))
    assert transcript.challenge("end") == last([("absorb", "w", b"")])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 15, 16, (1 << 15) - 1, (1 << 15) + 1, 70_000])
def test_shorter_draws_begin_longer_ones(count: int) -> None:
    elements = field_elements(SEED, "l", count, Q)
    assert elements.dtype == np.uint64 and elements.shape == (count,)
    assert np.array_equal(elements, field_elements(SEED, "l", 70_001, Q)[:count])


def test_field_elements_are_uniform() -> None:
    """16 equal bins of [0, q): chi-square within six standard deviations; half of q would be far outside."""
    counts = np.bincount(field_elements(SEED, "u", 1 << 16, Q).astype(np.int64) * 16 // Q, minlength=16)

    def chi_square(expected: float) -> float:
        return float(((counts - expected) ** 2 / expected).sum())

    assert chi_square((1 << 16) / 16) < 15 + 6 * 30**0.5
    assert chi_square((1 << 16) / 8) > 1000


@given(st.integers(1, 12), st.data())
def test_positions_are_ascending_distinct_and_in_range(bits: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, min(2**bits, 80)))
    positions = distinct_positions(data.draw(st.binary(max_size=32)), "p", count, 2**bits)
    assert positions.dtype == np.int64 and positions.shape == (count,)
    assert sorted(set(positions.tolist())) == positions.tolist()
    assert all(0 <= position < 2**bits for position in positions.tolist())


def test_positions_may_take_all_of_a_range_or_the_largest_range() -> None:
    assert distinct_positions(SEED, "all", 16, 16).tolist() == list(range(16))
    assert max(distinct_positions(SEED, "wide", 30, 2**63).tolist()) > 2**61


def test_positions_are_uniform() -> None:
    """3 of 8, 4000 times: each position 1500 times, within six standard deviations."""
    drawn = [distinct_positions(i.to_bytes(4, "little"), "u", 3, 8) for i in range(4000)]
    counts = np.bincount(np.concatenate(drawn), minlength=8)
    assert np.abs(counts - 1500).max() < 6 * (4000 * 3 / 8 * 5 / 8) ** 0.5


@pytest.mark.parametrize(
    "draw",
    [lambda *source: field_elements(*source, 4, Q), lambda *source: distinct_positions(*source, 4, 2**63)],
    ids=["field", "positions"],
)
def test_draws_differ_by_seed_and_label(draw: Callable[[bytes, str], np.ndarray]) -> None:
    sources = [(SEED, "a"), (SEED, "b"), (SEED[::-1], "a"), (b"", "a"), (b"bc", "a"), (b"c", "ab")]
    assert len({draw(*source).tobytes() for source in sources}) == len(sources)


def test_positions_and_elements_share_no_words() -> None:
    low = np.sort(field_elements(SEED, "a", 20, Q) % 1024).tolist()
    assert distinct_positions(SEED, "a", 20, 1024).tolist() != low


# Rejects: what must not be mistaken for one another

AMBIGUOUS: dict[str, tuple[list[Call], list[Call]]] = {
    "label and data boundary": ([("absorb", "a", b"bc")], [("absorb", "ab", b"c")]),
    "label and data swapped": ([("absorb", "a", b"b")], [("absorb", "b", b"a")]),
    "one item or two": ([("absorb", "a", b"b"), ("absorb", "a", b"b")], [("absorb", "a", b"bb")]),
    "boundary of two items": (
        [("absorb", "a", b"xy"), ("absorb", "a", b"z")],
        [("absorb", "a", b"x"), ("absorb", "a", b"yz")],
    ),
    "order": ([("absorb", "a", b"1"), ("absorb", "b", b"2")], [("absorb", "b", b"2"), ("absorb", "a", b"1")]),
    "item left out": ([("absorb", "a", b"1")], []),
    "empty item": ([("absorb", "a", b"")], []),
    "item twice": ([("absorb", "a", b"1")] * 2, [("absorb", "a", b"1")]),
    "trailing zero": ([("absorb", "a", b"1\x00")], [("absorb", "a", b"1")]),
    "absorb or challenge": ([("absorb", "a", b"")], [("challenge", "a", b"")]),
    "challenge left out": ([("challenge", "a", b"")], []),
    "challenge after or before": (
        [("absorb", "a", b"1"), ("challenge", "c", b"")],
        [("challenge", "c", b""), ("absorb", "a", b"1")],
    ),
    "an item that spells another": (
        [("absorb", "a", b"1"), ("absorb", "b", b"2")],
        [("absorb", "a", b"1absorb" + sized(b"b") + sized(b"2"))],
    ),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_calls_are_told_apart(name: str) -> None:
    first, second = AMBIGUOUS[name]
    assert last(first) != last(second)


def test_transcripts_of_another_name_and_repeated_challenges_differ() -> None:
    assert last([], "t") != last([], "u")
    assert last([("absorb", "", b"a")], "") != last([("absorb", "a", b"")], "")
    drawn = played("t", [("challenge", "c", b"")] * 5)
    assert len(set(drawn)) == 5


def test_views_with_gaps_are_refused() -> None:
    with pytest.raises(ParameterError, match="rows: only a contiguous buffer"):
        Transcript("t").absorb("rows", memoryview(b"abcdef")[::2])
    with pytest.raises(ParameterError, match="contiguous"):
        Transcript("t").absorb("rows", memoryview(np.zeros((2, 3)).T))


def test_impossible_draws_are_refused() -> None:
    with pytest.raises(ParameterError, match="-1 field elements"):
        field_elements(SEED, "l", -1, Q)
    with pytest.raises(ParameterError, match="prime"):
        field_elements(SEED, "l", 4, Q + 2)
    for bound in (-2, 0, 1, 3, 48, 2**64):
        with pytest.raises(ParameterError, match="power of two"):
            distinct_positions(SEED, "l", 1, bound)
    for count in (-1, 17):
        with pytest.raises(ParameterError, match="distinct positions from 16"):
            distinct_positions(SEED, "l", count, 16)
