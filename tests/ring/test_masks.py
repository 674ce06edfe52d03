"""Public polynomials and masks against plain integers; their independence of ranges and threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring import PublicExpansion, fill_masks, fill_public, ntt, residues
from secureagg.ring.params import PRIMES
from tests.ring import reference

SID = bytes(range(32))


def public(chunks: int, primes: tuple[int, ...], n: int, first: int = 0) -> ntt.Words:
    """Return a_first, … of the test's session."""
    out = np.empty((chunks, len(primes), n), dtype=np.uint64)
    fill_public(out, PublicExpansion(SID, "a"), first, primes)
    return out


@pytest.mark.parametrize("count", [1, 2, 4])
def test_residues_are_the_words_of_the_expansion(count: int) -> None:
    primes, n, first = PRIMES[:count], 16, 5
    key = reference.public_key(SID, "a")
    expected = [
        [
            [reference.public_residue(key, ((first + j) * count + p) * n + k, q) for k in range(n)]
            for p, q in enumerate(primes)
        ]
        for j in range(3)
    ]
    assert public(3, primes, n, first).tolist() == expected


class Rigged:
    """An expansion whose words are mostly not acceptable, and whose spares say which word they stand in for."""

    def __init__(self, refused: set[int]) -> None:
        self.refused = refused

    def fill(self, first: int, out: NDArray[np.uint64]) -> None:
        numbers = range(first, first + out.size)
        top = 0xABC << 52  # cut away
        words = [top | (PRIMES[0] + i % 2 if i in self.refused else i) for i in numbers]
        out.reshape(-1)[:] = np.array(words, dtype=np.uint64)

    def spares(self, index: int) -> Iterator[int]:
        yield (1 << 64) - 1  # refused as well
        yield PRIMES[0]
        yield (0xFFF << 52) | (1 << 51) + index
        raise AssertionError("an acceptable spare was passed over")


def test_refused_words_are_replaced_by_their_own_spares() -> None:
    refused = {0, 17, 63, 64, 95}
    out = np.empty((3, 1, 32), dtype=np.uint64)
    fill_public(out, Rigged({16 * 32 + i for i in refused}), 16, PRIMES[:1])  # type: ignore[arg-type]
    expected = [(1 << 51) + 512 + i if i in refused else 512 + i for i in range(96)]
    assert out.ravel().tolist() == expected


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("n", [16, 64])
def test_masks_are_the_schoolbook_products(count: int, n: int) -> None:
    primes = PRIMES[:count]
    random = np.random.default_rng([count, n])
    integers = random.integers(-40, 41, (1, n))
    key = np.zeros((1, count, n), dtype=np.uint64)
    residues.add_signed(key, integers, primes)
    ntt.forward(key, primes)
    out = np.empty((5, count, n), dtype=np.uint64)
    fill_masks(out, PublicExpansion(SID, "a"), 2, key[0], primes)
    coefficients = public(5, primes, n, 2)
    ntt.inverse(coefficients, primes)
    for j in range(5):
        for p, q in enumerate(primes):
            expected = reference.negacyclic(coefficients[j, p].tolist(), integers[0].tolist(), q)
            assert out[j, p].tolist() == expected


@pytest.mark.parametrize("threads", ["1", "3"])
def test_ranges_and_threads_do_not_show(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECUREAGG_THREADS", threads)
    primes, n, chunks = PRIMES[:2], 1024, 41
    expansion = PublicExpansion(SID, "a")
    key = public(1, primes, n, 10**6)[0]
    whole, pieces = np.empty((2, chunks, 2, n), dtype=np.uint64)
    fill_masks(whole, expansion, 7, key, primes)
    for start, stop in ((0, 1), (1, 30), (30, 41)):
        fill_masks(pieces[start:stop], expansion, 7 + start, key, primes)
    assert np.array_equal(whole, pieces)
    assert np.array_equal(public(chunks, primes, n)[20:], public(chunks - 20, primes, n, 20))


def test_residues_look_uniform() -> None:
    """2^18 residues in 256 equal bins: P(χ² deviates this far) ≤ e^-20 (Laurent and Massart 2000, Lemma 1)."""
    values = public(128, PRIMES[:1], 2048).ravel()
    bins = np.bincount((values >> np.uint64(44)).astype(np.int64), minlength=256)
    expected = values.size / 256
    statistic, freedom, t = float(((bins - expected) ** 2 / expected).sum()), 255, 20.0
    assert freedom - 2 * (freedom * t) ** 0.5 <= statistic <= freedom + 2 * (freedom * t) ** 0.5 + 2 * t


def test_key_of_another_form_is_refused() -> None:
    out = np.empty((2, 1, 32), dtype=np.uint64)
    for key in (np.zeros((1, 16), np.uint64), np.zeros((2, 32), np.uint64), np.zeros((1, 32), np.int64)):
        with pytest.raises(ParameterError, match="needed"):
            fill_masks(out, PublicExpansion(SID, "a"), 0, key, PRIMES[:1])  # type: ignore[arg-type]
