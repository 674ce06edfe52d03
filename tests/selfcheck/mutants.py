"""Faults, each planted in the library as a monkeypatch: what the laws are there to find."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from secureagg import committee, verification
from secureagg.aggregator import Aggregator
from secureagg.dp import accounting, noise
from secureagg.dp import ledger as ledger_module
from secureagg.dp.ledger_file import LedgerFile
from secureagg.dp.mechanisms import CentralGaussian
from secureagg.dp.quantise import Quantiser
from secureagg.errors import EncodingError
from secureagg.he import deal, encrypt, reconstruct, sharing
from secureagg.he.reconstruct import Decoder
from secureagg.payload import Dealing
from secureagg.ring import gaussian, masks, ntt, residues
from secureagg.selfcheck import vectors
from secureagg.tally import _InnerProducts
from secureagg.zk import iop, validity
from secureagg.zk.relations import ValidityRelations

__all__ = ["MUTANTS", "Plant", "scaled_gaussian"]

Plant = Callable[[pytest.MonkeyPatch], None]


def wrong_twiddle(patch: pytest.MonkeyPatch) -> None:
    real = ntt.tables

    def tables(primes: tuple[int, ...], degree: int) -> ntt.Tables:
        right = real(primes, degree)
        roots = right.roots.copy()
        roots[0, 3] = (roots[0, 3] + np.uint64(1)) % np.uint64(primes[0])
        return dataclasses.replace(right, roots=roots, root_companions=ntt._companions(roots, right.constants))

    patch.setattr(ntt, "tables", tables)


def product_off_by_one(patch: pytest.MonkeyPatch) -> None:
    real = ntt.multiply

    def multiply(values: ntt.Words, others: ntt.Words, primes: tuple[int, ...]) -> None:
        real(values, others, primes)
        values[..., -1] = (values[..., -1] + np.uint64(1)) % np.uint64(min(primes))

    patch.setattr(ntt, "multiply", multiply)


def _unreduced(name: str) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        real = getattr(residues, name)

        def add(total: ntt.Words, values: Any, primes: tuple[int, ...]) -> None:
            real(total, values, primes)
            total[..., 0] += np.uint64(1)

        patch.setattr(residues, name, add)

    return plant


def decodes_one_more(patch: pytest.MonkeyPatch) -> None:
    real = Decoder.values

    def values(self: Decoder, total: Any, index: int) -> Any:
        found = real(self, total, index)
        return found + (np.arange(found.size) == 0) * (index == 0)

    patch.setattr(Decoder, "values", values)


def wrong_scale(patch: pytest.MonkeyPatch) -> None:
    real = encrypt.message_factors
    patch.setattr(
        encrypt, "message_factors", lambda packing: real(dataclasses.replace(packing, delta=packing.delta - 1))
    )


def wrong_lagrange(patch: pytest.MonkeyPatch) -> None:
    real = sharing.lagrange_at

    def lagrange_at(of: sharing.Sharing, points: Any, at: int) -> list[int]:
        first, *others = real(of, points, at)
        return [(first + 1) % of.modulus, *others]

    patch.setattr(sharing, "lagrange_at", lagrange_at)


def narrow_field(patch: pytest.MonkeyPatch) -> None:
    real = reconstruct.decoding_constants

    def decoding_constants(packing: Any) -> Any:
        return real(dataclasses.replace(packing, field_limit=packing.field_limit // 2))

    patch.setattr(reconstruct, "decoding_constants", decoding_constants)


def blind_decoder(patch: pytest.MonkeyPatch) -> None:
    def values(self: Decoder, total: Any, index: int) -> Any:
        first, last = self._packing.frame_coordinates(self._packing.frames[index])
        return self._decode(total, index)[0].reshape(-1)[: last - first]

    patch.setattr(Decoder, "values", values)


def scaled_gaussian(factor: float) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        real = gaussian.gaussian_table
        patch.setattr(gaussian, "gaussian_table", lambda sigma: real(round(factor * sigma, 6)))

    return plant


def _altered_draws(alter: Callable[[Any], None]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        real = gaussian._draw

        def draw(out: Any, span: Any, offset: int, table: Any) -> None:
            real(out, span, offset, table)
            alter(out)

        patch.setattr(gaussian, "_draw", draw)

    return plant


def _twins(out: Any) -> None:
    out[1::2] = out[: 2 * (out.size // 2) : 2]


def _no_tails(out: Any) -> None:
    out.clip(-22, 22, out=out)


def wide_noise(patch: pytest.MonkeyPatch) -> None:
    real = noise.noise_table
    patch.setattr(noise, "noise_table", lambda law, parameter: real(law, Fraction(parameter) * Fraction(3, 2)))


def adds_no_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CentralGaussian, "draw", lambda self, size, stream=None: np.zeros(size, dtype=np.int64))


def rounds_to_nearest(patch: pytest.MonkeyPatch) -> None:
    real = Quantiser.quantise

    def quantise(self: Quantiser, values: Any, clip: float, share: float, words: Any) -> Any:
        return real(self, values, clip, share, np.full_like(words, 1 << 31))

    patch.setattr(Quantiser, "quantise", quantise)


def half_the_field(patch: pytest.MonkeyPatch) -> None:
    real = deal._uniform
    patch.setattr(deal, "_uniform", lambda modulus, shape: real(modulus, shape) // 2)


def narrow_words(patch: pytest.MonkeyPatch) -> None:
    real = masks.fill_public

    def fill_public(out: Any, expansion: Any, first: int, primes: tuple[int, ...]) -> None:
        real(out, expansion, first, primes)
        out >>= np.uint64(1)

    patch.setattr("secureagg.selfcheck.samplers.fill_public", fill_public)


def refuses_everything(patch: pytest.MonkeyPatch) -> None:
    def verify(*arguments: Any) -> None:
        raise EncodingError("proof: refused")

    patch.setattr(iop, "verify", verify)


def accepts_everything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(validity, "verify", lambda *arguments: None)


def without(**parts: slice) -> Plant:
    """Leave these challenges' relations out, of prover and verifier alike."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = ValidityRelations._coefficients

        def coefficients(self: ValidityRelations, seed: bytes, repetition: int) -> Any:
            drawn = real(self, seed, repetition)
            changed = {name: getattr(drawn, name).copy() for name in parts}
            for name, where in parts.items():
                changed[name][where] = 0
            return dataclasses.replace(drawn, **changed)

        patch.setattr(ValidityRelations, "_coefficients", coefficients)

    return plant


EVERYWHERE, FIRST, SECOND = slice(None), slice(0, 1), slice(1, 2)


def unsigned_is_fine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dealing, "verify", lambda self, session: None)


def without_digests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verification, "_require_digest", lambda part, expected, what: None)
    patch.setattr(validity, "verify", lambda *arguments: None)


def twice_is_fine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Aggregator, "_require_new", lambda self, client_id: None)


def takes_any_share(patch: pytest.MonkeyPatch) -> None:
    def verify_shares(of: sharing.Sharing, member_id: int, challenge: bytes, check: bytes, plain: bytes) -> Any:
        return sharing.unpack_elements(of, plain, of.secrets + of.repetitions)[: of.secrets]

    patch.setattr(committee, "verify_shares", verify_shares)


def believes_members(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("secureagg.aggregator.agreeing", lambda session, sums, opens: tuple(sorted(sums)))


def tally_of_nothing(patch: pytest.MonkeyPatch) -> None:
    real = _InnerProducts.of
    patch.setattr(_InnerProducts, "of", lambda self, frames: tuple(0 for _ in real(self, frames)))


def hash_of_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LedgerFile, "_following", lambda self, text: bytes(32))


def forgets_a_debit(patch: pytest.MonkeyPatch) -> None:
    real = LedgerFile.append

    def append(self: LedgerFile, body: dict[str, object]) -> None:
        if body.get("note") != "round 0":
            real(self, body)

    patch.setattr(LedgerFile, "append", append)


def counts_one_round(patch: pytest.MonkeyPatch) -> None:
    real = accounting.compose

    def compose(events: Any) -> Any:
        found = real(events)
        uses = tuple(use._replace(times=1) for use in found.uses)
        return found._replace(uses=uses, curves=tuple((event, 1) for event, _ in found.curves))

    patch.setattr(accounting, "compose", compose)


def drops_the_last_event(patch: pytest.MonkeyPatch) -> None:
    real = accounting.compose

    def compose(events: Any) -> Any:
        return real(events[:-1] or events if isinstance(events, tuple | list) else events)

    patch.setattr(accounting, "compose", compose)


def generous_budget(patch: pytest.MonkeyPatch) -> None:
    real = ledger_module.renyi_budget

    def renyi_budget(epsilon: float, delta: float) -> tuple[float, float]:
        order, bound = real(epsilon, delta)
        return order, 4 * bound

    patch.setattr(ledger_module, "renyi_budget", renyi_budget)


def unplanned_is_fine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger_module._Planned, "admit", lambda self, debited, event: None)


def _altered(name: str, change: Callable[[dict[str, Any]], None]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        real = vectors.load

        def load(asked: str) -> dict[str, Any]:
            stored = copy.deepcopy(real(asked))
            if asked == name:
                change(stored)
            return stored

        patch.setattr(vectors, "load", load)

    return plant


def _flip(encoded: str) -> str:
    return encoded[:-1] + ("0" if encoded[-1] != "0" else "1")


def _other_mean(stored: dict[str, Any]) -> None:
    stored["result"]["mean"][0] = _flip(stored["result"]["mean"][0])


def _other_tally(stored: dict[str, Any]) -> None:
    stored["tally"] = _flip(stored["tally"])


def _other_contribution(stored: dict[str, Any]) -> None:
    stored["contributions"][0]["bytes"] = _flip(stored["contributions"][0]["bytes"])


def _less_noise(stored: dict[str, Any]) -> None:
    """A plan for one round less, which the same noise is enough for."""
    stored["plan"] = stored["plan"].replace('"rounds":2', '"rounds":1')


def _other_noise(stored: dict[str, Any]) -> None:
    stored["noise_contributions"][0]["bytes"] = _flip(stored["noise_contributions"][0]["bytes"])


def _other_residue(stored: dict[str, Any]) -> None:
    stored["residues"][1]["residue"] += 1


MUTANTS: tuple[tuple[str, Plant], ...] = (
    ("homomorphism/transform", wrong_twiddle),
    ("homomorphism/product", product_off_by_one),
    ("homomorphism/product", wrong_twiddle),
    ("homomorphism/sums", _unreduced("add_packed")),
    ("homomorphism/encryption", decodes_one_more),
    ("homomorphism/encryption", wrong_scale),
    ("homomorphism/encryption-on-secure-rings", wrong_scale),
    ("homomorphism/shares", wrong_lagrange),
    ("exactness/round", decodes_one_more),
    ("exactness/proven-round", decodes_one_more),
    ("exactness/largest-sums", narrow_field),
    ("exactness/wrong-key-sum", blind_decoder),
    ("samplers/keys-and-errors", scaled_gaussian(1.5)),
    ("samplers/keys-and-errors", scaled_gaussian(2 / 3)),
    ("samplers/keys-and-errors", _altered_draws(_twins)),
    ("samplers/keys-and-errors", _altered_draws(_no_tails)),
    ("samplers/discrete-gaussian-noise", wide_noise),
    ("samplers/discrete-laplace-noise", wide_noise),
    ("samplers/skellam-noise", wide_noise),
    ("samplers/noise-in-sums", wide_noise),
    ("samplers/noise-in-sums", adds_no_noise),
    ("samplers/rounding", rounds_to_nearest),
    ("samplers/uniform-elements", half_the_field),
    ("samplers/uniform-elements", narrow_words),
    ("soundness/honest-forgery", refuses_everything),
    ("soundness/long-vector", accepts_everything),
    ("soundness/long-vector", without(norms=FIRST)),
    ("soundness/short-mod-q", accepts_everything),
    ("soundness/short-mod-q", without(projection=EVERYWHERE)),
    ("soundness/long-errors", accepts_everything),
    ("soundness/long-errors", without(norms=SECOND, projection=EVERYWHERE)),
    ("soundness/weight", accepts_everything),
    ("soundness/weight", without(weight=EVERYWHERE)),
    ("soundness/range", accepts_everything),
    ("soundness/two-faced", accepts_everything),
    ("soundness/two-faced", without(ciphertext=EVERYWHERE)),
    ("soundness/two-faced", without(shares=EVERYWHERE)),
    ("soundness/altered-contribution", accepts_everything),
    ("soundness/altered-contribution", without_digests),
    ("soundness/altered-contribution", unsigned_is_fine),
    ("soundness/stolen-contribution", accepts_everything),
    ("soundness/stolen-contribution", twice_is_fine),
    ("accountability/bad-shares", takes_any_share),
    ("accountability/lying-member", believes_members),
    ("accountability/altered-sum", tally_of_nothing),
    ("ledger/file", hash_of_nothing),
    ("ledger/remembers", forgets_a_debit),
    ("ledger/composition", drops_the_last_event),
    ("ledger/gaussian", counts_one_round),
    ("ledger/budget", generous_budget),
    ("ledger/planned", unplanned_is_fine),
    ("vectors/expansion", _altered("expansion", _other_residue)),
    ("vectors/round-optimistic", _altered("optimistic", _other_mean)),
    ("vectors/round-optimistic", decodes_one_more),
    ("vectors/round-robust", _altered("robust", _other_tally)),
    ("vectors/round-tiny", _altered("tiny", _other_contribution)),
    ("vectors/noisy-gaussian-clients", decodes_one_more),
    ("vectors/noisy-gaussian-clients", _altered("noisy/gaussian-clients", _other_mean)),
    ("vectors/noisy-skellam-clients", _altered("noisy/skellam-clients", _less_noise)),
    ("vectors/noisy-gaussian-committee", _altered("noisy/gaussian-committee", _other_noise)),
    ("vectors/noisy-skellam-committee", _altered("noisy/skellam-committee", _other_tally)),
    ("vectors/noisy-central", _altered("noisy/central", _other_mean)),
    ("vectors/noisy-central", wide_noise),
    ("vectors/noisy-central", adds_no_noise),
    ("vectors/proofs", _altered("proofs/range", lambda stored: stored.update(root=_flip(stored["root"])))),
    ("vectors/proofs", accepts_everything),
    ("vectors/proven-contribution", _altered("contributions/proven", lambda stored: stored.update(client=0))),
    ("vectors/proven-contribution", without_digests),
    ("vectors/proven-own-noise", _altered("contributions/proven-own-noise", _less_noise)),
    ("vectors/proven-own-noise", without_digests),
    ("vectors/proven-noise", _altered("contributions/proven-noise", lambda stored: stored.update(client=3))),
    ("vectors/proven-noise", without_digests),
    ("seal/ciphertexts", _unreduced("add")),
    ("seal/keys", wrong_twiddle),
)
