"""Our keys and ciphertexts as bytes that Microsoft SEAL reads, and SEAL's as ours.

SEAL's CKKS keeps everything in NTT form, one prime after the other, in the order of `ring.ntt`. Its ciphertexts are
(c0, c1) with c0 + c1·s = m + e; ours are c = a·s + e + Δm with c in coefficients and a in NTT form, so c0 = c, c1 = −a.
Scale is only what SEAL's encoder divides by: Δ, for one of ours.

Of several primes SEAL sets the last one apart for switching keys, and no ciphertext has residues for it. A set of one
prime is the same set in SEAL; one of several is followed there by a special prime, the largest admissible one that is
not its own. Keys are written mod all of these, ciphertexts mod our primes. SEAL's table of secure moduli counts the
special prime too, so such a context needs `SEC_LEVEL_TYPE.NONE`; no ciphertext written here lives mod the longer one.
**Public, relinearisation and Galois keys made in SEAL would, and are not covered by the security of our set.**

Writing needs no SEAL: the objects are laid out as in microsoft/SEAL, native/src/seal/ (modulus.cpp,
encryptionparams.cpp; `seal_format` names the others), without compression. Reading needs the `tenseal` extra, because
SEAL's checks against the context are wanted, and its expansion of seeds.
"""

from __future__ import annotations

import hashlib
import math
import sys
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError
from secureagg.he.seal_files import SealFile, SealObject, sealapi
from secureagg.he.seal_format import words_object, write_object
from secureagg.ring import ntt, residues
from secureagg.ring.ntt import Words, check_words
from secureagg.ring.params import RingParameters, largest_primes
from secureagg.wire import Writer

__all__ = [
    "KEY_LIMIT",
    "export_ciphertext",
    "export_parameters",
    "export_secret_key",
    "import_ciphertext",
    "import_secret_key",
]

KEY_LIMIT = (1 << 31) - 1  # on |s_k|: the sum of 2^24 keys of at most 127 = 19σ; garbage mod a 52-bit prime is larger

_CKKS = 2  # encryptionparams.h, scheme_type
_CIPHERTEXT_POLYNOMIALS = 2


def export_parameters(ring: RingParameters) -> bytes:
    """Return SEAL's `EncryptionParameters`: CKKS of degree N over our primes, then the special prime if one is needed.

    SEAL object · scheme (1 byte) · N (8) · number of primes (8) · each prime and the plain modulus, which is zero in
    CKKS, a SEAL object of 8 bytes.
    """
    chain = _chain(ring.primes)
    writer = Writer().integer(_CKKS, 1).integer(ring.degree, 8).integer(len(chain), 8)
    for modulus in (*chain, 0):
        writer.raw(write_object(Writer().integer(modulus, 8)))
    return write_object(writer)


def export_secret_key(ring: RingParameters, key: NDArray[np.int64]) -> bytes:
    """Return SEAL's `SecretKey`, in the clear. key: int64[N], coefficients of s.

    SEAL object · id of all primes (32) · number of words (8) · scale 1.0 (8) · s in NTT form mod each prime.

    Raises: ParameterError unless `key` is int64[N] with |s_k| ≤ KEY_LIMIT, which any sum of our keys keeps.
    """
    if not _is_short(key):
        raise ParameterError(f"a coefficient of the key exceeds {KEY_LIMIT} in magnitude")
    chain = _chain(ring.primes)
    words = np.zeros((1, len(chain), ring.degree), dtype=np.uint64)
    residues.add_signed(words, key[None], chain)
    ntt.forward(words, chain)
    writer = Writer().raw(_parameters_id(ring.degree, chain)).integer(words.size, 8).real(1.0)
    return write_object(writer.raw(words_object(words)))


def export_ciphertext(ring: RingParameters, c: Words, a: Words, scale: float) -> bytes:
    """Return SEAL's `Ciphertext` (c, −a), which opens to c − a·s under the key s.

    c: uint64[1, primes, N], coefficients. a: uint64[1, primes, N], NTT form.

    SEAL object · id of our primes (32) · 1 for NTT form (1) · 2 polynomials (8) · N (8) · number of primes (8) ·
    scale (8) · the words of c0, then of c1.

    Raises: ParameterError for another shape, a residue not below its prime, a scale that is no positive normal number.
    """
    if not _is_scale(scale):
        raise ParameterError(f"scale = {scale} must be positive, finite and not subnormal")
    moduli = np.array(ring.primes, dtype=np.uint64)[:, None]
    for words in (c, a):
        check_words(words, ring.primes, (1, len(ring.primes), ring.degree))
        if (words >= moduli).any():
            raise ParameterError("a residue of the ciphertext is not below its prime")
    c0 = c.copy()
    ntt.forward(c0, ring.primes)
    writer = Writer().raw(_parameters_id(ring.degree, ring.primes)).integer(1, 1).integer(_CIPHERTEXT_POLYNOMIALS, 8)
    writer.integer(ring.degree, 8).integer(len(ring.primes), 8).real(scale)
    return write_object(writer.raw(words_object(np.concatenate((c0, _negated(a, ring.primes))))))


def import_secret_key(ring: RingParameters, encoded: bytes | memoryview) -> NDArray[np.int64]:
    """Return the coefficients of a key that SEAL made, or we exported, under `export_parameters(ring)`: int64[N].

    Guarantees: import_secret_key(ring, export_secret_key(ring, key)) equals key. SEAL's own keys are ternary.

    Raises: EncodingError if SEAL refuses the bytes (other parameters, a wrong length, a residue that is too large),
    or if they are not one polynomial with |s_k| ≤ KEY_LIMIT; MissingExtraError without TenSEAL.
    """
    chain = _chain(ring.primes)
    key = sealapi().SecretKey()
    with SealFile() as file:
        file.load(key, _context(ring.degree, chain), encoded, "secret key")
    words = _words_of(key.data(), (1, len(chain), ring.degree))
    ntt.inverse(words, chain)
    rows = residues.centred(words, chain)[0]
    coefficients: NDArray[np.int64] = rows[0].copy()
    if not (_is_short(coefficients) and (rows == coefficients).all()):
        raise EncodingError(f"secret key: not one polynomial with coefficients of at most {KEY_LIMIT} in magnitude")
    return coefficients


def import_ciphertext(ring: RingParameters, encoded: bytes | memoryview) -> tuple[Words, Words, float]:
    """Return c, a and the scale of a ciphertext that SEAL made, or we exported, under `export_parameters(ring)`.

    c = c0: uint64[1, primes, N], coefficients. a = −c1: uint64[1, primes, N], NTT form. Seeded ciphertexts are
    expanded.

    Guarantees: import_ciphertext(ring, export_ciphertext(ring, c, a, scale)) equals (c, a, scale).

    Raises: EncodingError if SEAL refuses the bytes, or if they are not two polynomials in NTT form mod all our
    primes with a scale that can be written; MissingExtraError without TenSEAL.
    """
    context = _context(ring.degree, _chain(ring.primes))
    ciphertext = sealapi().Ciphertext()
    with SealFile() as file:
        file.load(ciphertext, context, encoded, "ciphertext")
    if ciphertext.size() != _CIPHERTEXT_POLYNOMIALS:
        raise EncodingError(f"ciphertext: {ciphertext.size()} polynomials, {_CIPHERTEXT_POLYNOMIALS} expected")
    if not _is_scale(ciphertext.scale):
        raise EncodingError("ciphertext: the scale is not positive, finite and normal")
    if not ciphertext.is_ntt_form() or ciphertext.parms_id() != context.first_parms_id():
        raise EncodingError(f"ciphertext: not in NTT form mod {len(ring.primes)} primes")
    words = _words_of(ciphertext, (_CIPHERTEXT_POLYNOMIALS, len(ring.primes), ring.degree))
    c, c1 = words[:1], words[1:]
    ntt.inverse(c, ring.primes)
    return c, _negated(c1, ring.primes), float(ciphertext.scale)


def _chain(primes: tuple[int, ...]) -> tuple[int, ...]:
    """The primes of SEAL's key level: ours, then a special one unless there is only one."""
    if len(primes) == 1:
        return primes
    special = next(q for q in largest_primes(len(primes) + 1) if q not in primes)
    return (*primes, special)


@lru_cache(maxsize=16)
def _context(degree: int, chain: tuple[int, ...]) -> SealObject:
    """SEAL's context of `export_parameters`; unlike `seal_context`, without SEAL's own view on security."""
    seal = sealapi()
    literal = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    literal.set_poly_modulus_degree(degree)
    literal.set_coeff_modulus([seal.Modulus(prime) for prime in chain])
    context = seal.SEALContext(literal, True, seal.SEC_LEVEL_TYPE.NONE)
    assert context.parameters_set(), context.parameters_error_message()
    return context


def _parameters_id(degree: int, primes: tuple[int, ...]) -> bytes:
    """SEAL's parms_id (compute_parms_id in encryptionparams.cpp): BLAKE2b-256 of scheme, N, primes, plain modulus 0."""
    words = np.array((_CKKS, degree, *primes, 0), dtype="<u8")
    return hashlib.blake2b(words.tobytes(), digest_size=32).digest()


def _words_of(holder: SealObject, shape: tuple[int, ...]) -> Words:
    """The words of a SEAL ciphertext or plaintext, whose number SEAL has checked.

    One by one: there is no other way, and 10^5 take some 60 ms.
    """
    array = holder.dyn_array()
    return np.fromiter(map(array.at, range(array.size())), dtype=np.uint64).reshape(shape)


def _negated(values: Words, primes: tuple[int, ...]) -> Words:
    out = np.zeros_like(values)
    residues.subtract(out, values, primes)
    return out


def _is_short(key: NDArray[np.int64]) -> bool:
    return bool(((key >= -KEY_LIMIT) & (key <= KEY_LIMIT)).all())


def _is_scale(scale: float) -> bool:
    return math.isfinite(scale) and scale >= sys.float_info.min
