"""Verifies validity proofs from their bytes alone: Python integers, hashlib and AES-CTR, and no code of the library.

Every polynomial is evaluated as it is defined: values on H by Lagrange's formula, coefficients by Horner's rule, a_j by
the definition of its transform. Letters as in docs/proofs: ℓ, n, t, k' = ℓ + 2t, m, R1 to R5.
`python -m tests.zk.slow_verifier FILE…` prints what each stored proof shows, or the reason for which it is refused.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.zk.slow_arithmetic import (
    Cubic,
    Row,
    coefficients_of,
    domain,
    dot,
    expansion_key,
    field_elements,
    horner,
    invert,
    lagrange,
    require,
    residues,
    sha256,
    times,
    words,
    words_bytes,
)
from tests.zk.slow_format import (
    LINEAR,
    MASKS,
    PRODUCTS,
    PROXIMITY,
    ROWS_OF_R,
    SHARES,
    Challenges,
    Numbers,
    Proof,
    Public,
    Sizes,
    check_public,
    check_tree,
    draw,
    parse,
)

# The statement as tests of rows


@dataclass(frozen=True)
class Combination:
    """One repetition of the linear test: rows of L_r on H, τ of the V and of the E rows, and the target."""

    functional: list[Row]
    taus: tuple[int, int]
    target: int


class Statement:
    """R1 to R5 for one instance, with the challenges that were drawn after the first root."""

    def __init__(self, z: Sizes, public: Public, seed: bytes, alpha: Cubic) -> None:
        self.z, self.s, self.q, self.public, self.alpha = z, z.s, z.s.prime, public, alpha
        self.signs = [signs for _, signs in zip(range((z.v + z.e) * z.ell), ternary(seed), strict=False)]
        key = expansion_key(public.sid, public.label)
        transformed = (residues(key, j * z.s.degree, z.s.degree, self.q) for j in range(z.chunks))
        self.polynomials = [coefficients_of(row, self.q) for row in transformed]
        limit = z.s.value_limit if z.table else -1
        self.table = [invert(((alpha[0] - a) % self.q, *alpha[1:]), self.q) for a in range(-limit, limit + 1)]

    def places(self) -> Iterator[tuple[int, int]]:
        """(coefficient, factor Δ·2^(Wk)) of every coordinate, values and weight first."""
        s = self.s
        for start in range(0, s.coefficients, s.degree):
            size = min(s.degree, s.coefficients - start)
            for k, i in itertools.product(range(s.fields), range(size)):
                yield start + i, s.delta * 2 ** (s.field_bits * k)

    def key_coefficients(self, rho: Row) -> Row:
        """Σ ρ_i·(a_j·s)_i as coefficients of the keys: X^c·X^(i − c), and X^N = −1."""
        s, out = self.s, [0] * self.z.secrets
        for j, a in enumerate(self.polynomials):
            start = j // s.chunks_per_key * s.degree
            for i in range(j * s.degree, min((j + 1) * s.degree, s.coefficients)):
                for c in range(s.degree):
                    difference = i % s.degree - c
                    out[start + c] += rho[i] * (a[difference] if difference >= 0 else -a[difference])
        return out

    def bit_coefficients(self, gamma: Row, tau: Row, omega: Row) -> Row:
        """Of the projections' bits, both norms', and those of w less its least and of max_weight − w."""
        norm, error, weight = self.z.widths
        out = [-g * 2**b for g in gamma for b in range(self.z.m + 1)]
        for factor, width in ((tau[0], norm), (tau[1], error), (-omega[0], weight), (omega[1], weight)):
            out += [factor * 2**b for b in range(width)]
        return out

    def combination(self, seed: bytes, repetition: int) -> Combination:
        s, z, q, public = self.s, self.z, self.q, self.public
        counts = (s.coefficients, ROWS_OF_R, 2, 2, SHARES * s.threshold, 3)
        drawn = iter(field_elements(seed, f"repetition {repetition}", sum(counts), q))
        rho, gamma, tau, omega, sigma, lookup = (list(itertools.islice(drawn, count)) for count in counts)
        v, e, mult, target = [0] * (z.v * z.ell), [0] * (z.e * z.ell), [0] * (z.mult * z.ell), 0
        polynomials = [[0] * z.secrets for _ in range(s.threshold)]
        masks, weight = [0] * (SHARES * s.threshold), 0

        # R1: (a_j·s)_i + e_i + Σ_k Δ·2^(Wk)·v = c_i, the weight at coordinate d
        polynomials[0] = self.key_coefficients(rho)
        for i in range(s.coefficients):
            e[i] += rho[i]
        for coordinate, (at, factor) in zip(range(s.values + 1), self.places(), strict=False):
            if coordinate < s.values:
                v[coordinate] += rho[at] * factor
            else:
                weight += rho[at] * factor
        target += dot(rho, public.ciphertext)

        # R2, R3: 128 projections, Σ_i R_ki·x_i − Σ_b 2^b·bit = −2^m; norms, Σ u² + Σ_b 2^b·bit = B²
        for i, (plus, minus) in enumerate(self.signs):
            total = sum(gamma[k] for k in plus) - sum(gamma[k] for k in minus)
            if i < len(v):
                v[i] += total
            else:
                e[i - len(v)] += total
        target -= 2**z.m * sum(gamma)
        target += tau[0] * s.norm_bound + tau[1] * s.error_bound

        # R4: w − Σ_b 2^b·bit = 1, or 0 if max_weight is 0, and w + Σ_b 2^b·bit = max_weight
        weight += omega[0] + omega[1]
        target += omega[0] * z.least_weight + omega[1] * s.max_weight

        # R5: ⟨ρ'_r, r_k⟩ + μ_(k, r) = T_(k, r)
        for k, r in itertools.product(range(s.threshold), range(SHARES)):
            coefficient = sigma[SHARES * k + r]
            polynomials[k] = [p + coefficient * x for p, x in zip(polynomials[k], public.combination[r], strict=True)]
            masks[SHARES * k + r] += coefficient
            target += coefficient * public.check[k][r]

        # The range argument: Σ_j h_j − Σ_a m_a/(α − a) = 0, component by component
        for entry, inverse in enumerate(self.table):
            mult[entry] -= dot(lookup, inverse)
        inverses = [lookup[i] for _ in range(z.v) for i in range(3) for _ in range(z.ell)] if z.table else []

        bits = self.bit_coefficients(gamma, tau, omega)
        dealt = [x for polynomial in polynomials for x in polynomial] + [*masks, weight]
        functional: list[Row] = []
        counted = ((v, z.v), (e, z.e), (dealt, z.d), (mult, z.mult), (bits, z.b), (inverses, z.inverses))
        for values, count in counted:
            padded = [x % q for x in values] + [0] * (count * z.ell - len(values))
            functional += [padded[i * z.ell : (i + 1) * z.ell] for i in range(count)]
        return Combination(functional, (tau[0], tau[1]), target % q)

    def product(self, beta: Row, u: Row) -> int:
        """Σ β·F: bit² − bit of the bits, the components of (α − v)·h − 1 of the inverses, at one point."""
        z, start = self.z, self.z.first
        total = sum(b * x * (x - 1) for b, x in zip(beta, u[start : start + z.b], strict=False))
        if z.table:
            for j in range(z.v):
                at = 3 * j + z.b
                h = (u[start + at], u[start + at + 1], u[start + at + 2])
                found = times(((self.alpha[0] - u[j]) % self.q, *self.alpha[1:]), h, self.q)
                total += dot(beta[at : at + 3], [found[0] - 1, found[1], found[2]])
        return total % self.q


def ternary(seed: bytes) -> Iterator[tuple[Row, Row]]:
    """Column by column, the rows of R that have 1, and those that have −1."""
    key = expansion_key(seed, "projection")
    for first in itertools.count(0, 4 * 256):
        drawn = words(key, first, 4 * 256)
        for i in range(0, len(drawn), 4):
            plus, minus = drawn[i] + (drawn[i + 1] << 64), drawn[i + 2] + (drawn[i + 3] << 64)
            only = plus ^ minus
            yield [k for k in range(128) if plus & only & 1 << k], [k for k in range(128) if minus & only & 1 << k]


# Verification


def verify(numbers: Numbers, shape: tuple[int, int, int], public: Public, root: bytes, encoded: bytes) -> Challenges:
    """Return the challenges of a proof that convinces. shape: ℓ, n, t. Raises: ValueError with what does not hold."""
    z = Sizes(numbers, *shape)
    check_public(z, public)
    proof = parse(z, encoded)
    drawn = draw(z, public, root, proof)
    oracles = zip(("first", "second"), (root, proof.root), proof.columns, proof.salts, proof.paths, strict=True)
    for which, committed, rows, salts, path in oracles:
        columns = zip(*rows, strict=True)
        leaves = [sha256(b"\x00", salt, words_bytes(column)) for salt, column in zip(salts, columns, strict=True)]
        check_tree(z.n, drawn.positions, leaves, path, committed, which)
    points = [domain(numbers.prime, z.n)[position] for position in drawn.positions]
    opened = [list(column) for column in zip(*proof.columns[0], *proof.columns[1], strict=True)]
    statement = Statement(z, public, drawn.projection, drawn.alpha)
    check_proximity(z, drawn.proximity, proof, points, opened)
    check_products(statement, drawn.products, proof, points, opened)
    check_linear(statement, drawn.linear, proof, points, opened)
    return drawn


def check_proximity(z: Sizes, seed: bytes, proof: Proof, points: Row, opened: list[Row]) -> None:
    count = z.first + z.second + MASKS
    drawn = field_elements(seed, "rows", PROXIMITY * count, z.s.prime)
    for i in range(PROXIMITY):
        factors = drawn[i * count : (i + 1) * count]
        factors[count - PROXIMITY :] = [int(i == j) for j in range(PROXIMITY)]  # its own mask and no other
        for x, u in zip(points, opened, strict=True):
            difference = dot(factors, u) - horner(proof.proximity[i], x, z.s.prime)
            require(difference % z.s.prime == 0, "proximity: response")


def check_products(statement: Statement, seed: bytes, proof: Proof, points: Row, opened: list[Row]) -> None:
    z, q = statement.z, statement.q
    mask = z.first + z.second + 2 * LINEAR
    for i in range(PRODUCTS):
        beta = field_elements(seed, f"repetition {i}", z.b + z.inverses, q)
        for x, u in zip(points, opened, strict=True):
            product = (horner(proof.quotients[i], x, q) - u[mask + i]) * (pow(x, z.ell, q) + 1)
            require((product - statement.product(beta, u)) % q == 0, "products: response")


def check_linear(statement: Statement, seed: bytes, proof: Proof, points: Row, opened: list[Row]) -> None:
    z, q = statement.z, statement.q
    weights = [lagrange(q, z.ell, x) for x in points]
    rows = z.first + z.second
    for i, response in enumerate(proof.linear):
        combination = statement.combination(seed, i)
        sum_on_h = sum((-1) ** (c // z.ell) * response[c] for c in range(0, z.quadratic, z.ell)) * z.ell
        require((sum_on_h - combination.target - proof.sums[i]) % q == 0, "linear: sum over H")
        for x, u, at_x in zip(points, opened, weights, strict=True):
            total = sum(dot(at_x, row) % q * y for row, y in zip(combination.functional, u[:rows], strict=True))
            total += combination.taus[0] * sum(y * y for y in u[: z.v])
            total += combination.taus[1] * sum(y * y for y in u[z.v : z.v + z.e])
            total += u[rows + 2 * i] + (pow(x, z.ell, q) + 1) * u[rows + 2 * i + 1]
            require((total - horner(response, x, q)) % q == 0, "linear: response")


def verify_stored(stored: dict[str, Any]) -> str:
    """Return what a stored proof shows. Raises: ValueError with the reason."""
    require(stored["format"] == "secureagg proof vector v1", "vector: format")
    numbers, shape = Numbers(**stored["statement"]), stored["shape"]
    arrays = (stored["ciphertext"], stored["combination"], stored["check"])
    public = Public(bytes.fromhex(stored["context"]), bytes.fromhex(stored["sid"]), stored["label"], *arrays)
    proof = zlib.decompress(base64.b64decode(stored["proof"]))
    require(sha256(proof).hex() == stored["proof_sha256"], "vector: digest of the proof")
    drawn = verify(numbers, (shape[0], shape[1], shape[2]), public, bytes.fromhex(stored["root"]), proof)
    found = {name: x.hex() if isinstance(x, bytes) else list(x) for name, x in asdict(drawn).items()}
    require(found == stored["challenges"], "vector: challenges")
    return f"{numbers.values} values, {len(proof)} bytes"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {verify_stored(json.loads(Path(name).read_text()))}")
