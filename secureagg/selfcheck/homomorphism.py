"""Laws of the ring, of ciphertexts and of shares: what is done to the sum is done to every summand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from secureagg.he.deal import Dealer
from secureagg.he.encrypt import Encryptor, OneTimeKey
from secureagg.he.reconstruct import Decoder
from secureagg.he.sharing import key_sum, unpack_elements
from secureagg.he.total import Total
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan
from secureagg.ring import ntt, residues
from secureagg.ring.params import PARAMETER_NAMES, PRIMES, minimal_root
from secureagg.selfcheck.law import Case, Law, require
from secureagg.selfcheck.parties import draw_plan

__all__ = ["LAWS", "decoded_sum"]

_Integers = NDArray[np.int64]


def _ring(case: Case) -> tuple[tuple[int, ...], int]:
    """Draw primes and a degree; every degree from 16 to 2^17 in turn."""
    return PRIMES[: int(case.random.choice([1, 2, 4]))], 1 << (4 + case.number % 14)


def _uniform(random: np.random.Generator, primes: tuple[int, ...], degree: int) -> ntt.Words:
    """Draw an element of the ring; one in five of its residues is 0, 1 or q − 1."""
    out = np.empty((1, len(primes), degree), dtype=np.uint64)
    for p, q in enumerate(primes):
        out[0, p] = random.integers(0, q, degree, dtype=np.uint64)
        extremes = random.choice(np.array([0, 1, q - 1], dtype=np.uint64), degree)
        out[0, p] = np.where(random.random(degree) < 0.2, extremes, out[0, p])
    return out


def _transform(case: Case) -> None:
    primes, degree = _ring(case)
    values = _uniform(case.random, primes, degree)
    transformed = values.copy()
    ntt.forward(transformed, primes)
    position, bits = int(case.random.integers(degree)), degree.bit_length() - 1
    reversed_position = int(f"{position:0{bits}b}"[::-1], 2)
    for p, q in enumerate(primes):
        point, value = pow(minimal_root(q, 2 * degree), 2 * reversed_position + 1, q), 0
        for coefficient in reversed(values[0, p].tolist()):
            value = (value * point + coefficient) % q
        require(int(transformed[0, p, position]) == value, f"N = {degree}: position {position} is not the value there")
    ntt.inverse(transformed, primes)
    require(np.array_equal(transformed, values), f"N = {degree}: forth and back is not the identity")


def _product(case: Case) -> None:
    primes, degree = _ring(case)
    values, monomials = _uniform(case.random, primes, degree), np.zeros((1, len(primes), degree), dtype=np.uint64)
    places = case.random.choice(degree, 3, replace=False)
    expected = [[0] * degree for _ in primes]
    for p, q in enumerate(primes):
        for place in places.tolist():
            factor = int(case.random.integers(q))
            monomials[0, p, place] = factor
            row = [factor * coefficient % q for coefficient in values[0, p].tolist()]
            shifted = [-x for x in row[degree - place :]] + row[: degree - place]  # X^N = −1
            expected[p] = [(a + b) % q for a, b in zip(expected[p], shifted, strict=True)]
    found = values.copy()
    ntt.forward(found, primes)
    ntt.forward(monomials, primes)
    ntt.multiply(found, monomials, primes)
    ntt.inverse(found, primes)
    require(found[0].tolist() == expected, f"N = {degree}: a product in the ring is not that of the polynomials")


def _sums(case: Case) -> None:
    primes, count = PRIMES[: int(case.random.choice([1, 2, 4]))], 16 * int(case.random.integers(1, 65))
    shape = (1, len(primes), count)
    parts = [_uniform(case.random, primes, count) for _ in range(5)]
    total = np.zeros(shape, dtype=np.uint64)
    for part in parts:
        packed = bytearray(residues.packed_bytes(shape))
        residues.pack(packed, part, primes)
        unpacked = np.empty(shape, dtype=np.uint64)
        residues.unpack(unpacked, bytes(packed), primes)
        require(np.array_equal(unpacked, part), "residues do not come out of their bytes as they went in")
        residues.add_packed(total, bytes(packed), primes)
    for p, q in enumerate(primes):
        columns = zip(*(part[0, p].tolist() for part in parts), strict=True)
        require(total[0, p].tolist() == [sum(column) % q for column in columns], "a sum of residues is wrong")
    for part in reversed(parts):
        residues.subtract(total, part, primes)
    require(not total.any(), "what is taken out of a sum again is not what was added")


def decoded_sum(plan: RoundPlan, grids: list[_Integers], *, lie: int = 0) -> list[int]:
    """Encrypt each grid under a key of its own; return what the sum of ciphertexts decodes to under that of the keys.

    lie: added to the key sum's first coefficient.
    """
    packing, sid = plan.packing, b"selfcheck session".ljust(32)
    total, keys = Total(packing), np.zeros(packing.keys * packing.ring.degree, dtype=np.int64)
    for grid in grids:
        key = OneTimeKey.generate(packing)
        encryptor = Encryptor(packing, sid, key)
        keys += key.coefficients
        for index, frame in enumerate(packing.frames):
            total.add(index, bytes(encryptor.encrypt(frame, grid[slice(*packing.frame_coordinates(frame))])))
    keys[0] += lie
    decoder = Decoder(packing, sid, plan.error_bound, keys)
    values = [decoder.values(total, index).tolist() for index in range(len(packing.frames))]
    decoder.verify_residuals()
    return [value for frame in values for value in frame]


def _encryption(case: Case) -> None:
    plan = draw_plan(case.random)
    grids = [_grid(case.random, plan) for _ in range(plan.clients)]
    _require_exact(plan, grids)


def _secure_encryption(case: Case) -> None:
    """As `_encryption`, on the rings that protect."""
    size = int(case.random.integers(1, 50_000))
    plan = RoundPlan(
        layout=Layout(((size,),), ("float32",)),
        clients=int(case.random.integers(2, 100)),
        quorum=2,
        l2_clip=1.0,
        value_bits=int(case.random.integers(2, 25)),
        committee=Committee(3),
        parameters=PARAMETER_NAMES[case.number % len(PARAMETER_NAMES)],
    )
    _require_exact(plan, [_grid(case.random, plan) for _ in range(2)])


def _grid(random: np.random.Generator, plan: RoundPlan) -> _Integers:
    limit = plan.value_limit
    values = random.integers(-limit, limit, plan.layout.size, endpoint=True)
    if random.random() < 0.3:
        values = np.full_like(values, limit * random.choice([-1, 1]))
    return np.append(values, random.integers(1, plan.max_weight, endpoint=True))


def _require_exact(plan: RoundPlan, grids: list[_Integers]) -> None:
    expected = [sum(column) for column in zip(*(grid.tolist() for grid in grids), strict=True)]
    require(decoded_sum(plan, grids) == expected, f"{plan.packing.ring.name}: the sum decodes to other integers")


def _shares(case: Case) -> None:
    plan = draw_plan(case.random)
    sharing, clients = plan.sharing, plan.clients
    keys = [OneTimeKey.generate(plan.packing).coefficients for _ in range(clients)]
    dealers = [Dealer(sharing, key) for key in keys]
    sums = {}
    for member in range(sharing.members):
        sums[member] = np.zeros(sharing.secrets, dtype=np.int64)
        for dealer in dealers:
            elements = unpack_elements(sharing, dealer.shares(member), sharing.secrets + sharing.repetitions)
            sharing.add(sums[member], elements[: sharing.secrets])
    expected = np.sum(keys, axis=0).tolist()
    for members in combinations(range(sharing.members), sharing.threshold):
        found = key_sum(sharing, members, sums).tolist()
        require(found == expected, f"members {members}: their sums of shares are not shares of the sum of keys")


_SUBJECT = "homomorphism"
LAWS = (
    Law(
        _SUBJECT,
        "transform",
        "The transform gives a polynomial's value at ψ^(2·rev(k)+1), and its inverse gives the polynomial back.",
        "secureagg/ring/ntt.py; docs/protocol.md",
        _transform,
        14,
        84,
    ),
    Law(
        _SUBJECT,
        "product",
        "A product in the ring is the product of the polynomials mod X^N + 1, by Python's integers.",
        "secureagg/ring/ntt.py; docs/protocol.md",
        _product,
        14,
        84,
    ),
    Law(
        _SUBJECT,
        "sums",
        "Packed residues add up mod each prime, and come out again.",
        "secureagg/ring/residues.py; docs/wire-format.md",
        _sums,
        50,
        2000,
    ),
    Law(
        _SUBJECT,
        "encryption",
        "Ciphertexts under different keys add up to a ciphertext of the sum of grids under the sum of keys.",
        "docs/protocol.md, Encryption; docs/protocol.md, Opening",
        _encryption,
        60,
        2000,
    ),
    Law(
        _SUBJECT,
        "encryption-on-secure-rings",
        "The same on each parameter set that has a security figure, with up to 50,000 values.",
        "docs/protocol.md, Encryption; docs/protocol.md, Opening",
        _secure_encryption,
        6,
        60,
    ),
    Law(
        _SUBJECT,
        "shares",
        "Sums of any t members' shares are shares of the sum of keys.",
        "docs/protocol.md, Dealing; docs/proofs/shares.md",
        _shares,
        40,
        1000,
    ),
)
