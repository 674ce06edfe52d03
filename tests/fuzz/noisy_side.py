"""Mutated contributions of rounds with noise: a client's with its own noise in it, and a committee member's noise
alone, without proofs and with them.

Noise is a contribution like another to whoever reads it; what differs is who is blamed, what is proven, and who answers
when it is left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import secureagg as sa
from tests.cheating import Parts
from tests.fuzz import client_side, proven_side
from tests.fuzz.client_side import Row, delivered
from tests.fuzz.outcome import judge
from tests.fuzz.world import LIAR, MALLORY, MEMBERS, World, make_world
from tests.noise import given

__all__ = ["contributions", "misplaced", "noise", "proven_contributions", "proven_noise"]

NOISY = {"l2_clip": 1.0, "value_bound": None, "value_bits": 7, "max_weight": 1}
NOISE_ID = 4 + LIAR  # of the liar's contribution, behind four clients


def contributions(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Mallory's contribution with its share of Skellam noise."""
    with make_world(MALLORY, noise=given(sa.Skellam, noise_by="clients"), **NOISY) as noisy:
        yield from client_side.contributions(noisy, rounds, draw)


def noise(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """The liar's discrete Gaussians, beside the noise of the other members."""
    with make_world(NOISE_ID, noise=given(noise_by="committee"), **NOISY) as noisy:
        yield from client_side.contributions(noisy, rounds, draw)


def proven_contributions(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Mallory's contribution with its share of discrete Gaussians, within the bound that it proves."""
    with proven_side.make_proven_world(MALLORY, noise=given(noise_by="clients"), value_bits=7) as proven:
        yield from proven_side.mutated(proven, rounds, draw)


def proven_noise(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """The liar's Skellam noise with its proof, of another statement and length than a client's."""
    changes = {"noise": given(sa.Skellam, noise_by="committee"), "value_bits": 7, "committee": sa.Committee(MEMBERS)}
    with proven_side.make_proven_world(NOISE_ID, **changes) as proven:
        yield from proven_side.mutated(proven, rounds, draw)


def misplaced(world: World) -> Iterator[Row]:
    """Valid noise in other sessions and under other ids, others' contributions as noise, and noise twice."""
    with make_world(NOISE_ID, noise=given(noise_by="committee"), **NOISY) as noisy:
        everyone, session, noise = noisy.everyone, noisy.session, noisy.payloads[NOISE_ID]
        own = NOISE_ID.to_bytes(4, "little")
        elsewhere = noisy.another(NOISE_ID, everyone.session_of(2))
        stolen = [noisy.payloads[each][:37] + own + noisy.payloads[each][41:] for each in (1, 4)]
        as_client = noise[:37] + (3).to_bytes(4, "little") + noise[41:]
        for kind, encoded in (
            ("replayed elsewhere", elsewhere),
            ("replayed elsewhere", elsewhere[:5] + session.sid + elsewhere[37:]),
            *(("another's as one's own", each) for each in (*stolen, as_client)),
        ):
            yield kind, False, judge(lambda e=encoded: delivered(noisy, noisy.aggregator(noisy.others), e))
            if encoded[5:37] == session.sid:
                signed = Parts.of(session, encoded).signed(session, noisy.identity)
                yield kind, True, judge(lambda e=signed: delivered(noisy, noisy.aggregator(noisy.others), e))
        for encoded in (noise, noisy.another(NOISE_ID)):
            yield "duplicated", False, judge(lambda e=encoded: str(noisy.aggregator().admit(e)))
        for changed in (None, given(noise_by="clients"), given(noise_by="committee", rounds=2, epsilon=40.0)):
            other = everyone.session_of(1, plan=replace(everyone.plan, noise=changed))
            yield "replayed elsewhere", False, judge(lambda s=other: str(sa.Aggregator(s).admit(noise)))
