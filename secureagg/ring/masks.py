"""The public polynomials a_j, and the masks a_j·s that a one-time key s makes of them.

a_j is uniform in R_q and drawn in NTT form: coefficient k mod prime p (of P) is residue number (j·P + p)·N + k of a
`PublicExpansion`. Residue number r is word r of the expansion, cut to its low 52 bits, if that is below the prime,
otherwise the first of the spare words for r that is, likewise cut. So a_j is exactly uniform if the words are, and
depends on j alone. With the named primes a word is refused with probability 2^-28 at most.
"""

from __future__ import annotations

import numpy as np

from secureagg.ring import ntt, residues, workers
from secureagg.ring.ntt import Words, block_chunks, check_words
from secureagg.ring.params import PRIME_BITS
from secureagg.ring.xof import PublicExpansion

__all__ = ["fill_masks", "fill_public"]

_CUT = (1 << PRIME_BITS) - 1


def fill_public(out: Words, expansion: PublicExpansion, first: int, primes: tuple[int, ...]) -> None:
    """Fill `out`: uint64[chunks, primes, N] with a_first, a_(first+1), …, in NTT form.

    They are just uniform residues, so other uses may take any even N, not only a ring's degree.
    """
    check_words(out, primes)
    q = residues.moduli(primes)

    def piece(start: int, stop: int) -> None:
        _draw(out[start:stop], expansion, first + start, q)

    workers.run(piece, len(out), block_chunks(out))


def fill_masks(out: Words, expansion: PublicExpansion, first: int, key: Words, primes: tuple[int, ...]) -> None:
    """Fill `out`: uint64[chunks, primes, N] with the coefficients of a_j·s for j = first, first + 1, …

    key: uint64[primes, N], s in NTT form. What comes out is as secret as the key until an error has been added.
    """
    check_words(out, primes)
    q = residues.moduli(primes)
    key_companions = ntt.companions(key, primes)

    def piece(start: int, stop: int) -> None:
        block = out[start:stop]
        _draw(block, expansion, first + start, q)
        ntt.multiply_fixed(block, key, key_companions, primes)
        ntt.inverse(block, primes)

    workers.run(piece, len(out), block_chunks(out))


def _draw(out: Words, expansion: PublicExpansion, first: int, q: Words) -> None:
    from secureagg.ring import residues_kernels

    position = first * out.shape[1] * out.shape[2]
    expansion.fill(position, out)
    if residues_kernels.truncate(out, q):
        _replace_refused(out, expansion, position, q)


def _replace_refused(out: Words, expansion: PublicExpansion, position: int, q: Words) -> None:
    flat = out.reshape(-1)
    limits = np.broadcast_to(q[:, None], out.shape).reshape(-1)
    for index in np.flatnonzero(flat >= limits).tolist():
        spares = (word & _CUT for word in expansion.spares(position + index))
        flat[index] = next(word for word in spares if word < int(limits[index]))
