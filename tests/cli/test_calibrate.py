"""`secureagg calibrate`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import secureagg as sa
from secureagg.cli.exit_codes import ExitCode
from secureagg.dp.accounting import epsilon
from secureagg.dp.dp_events import MAX_TRUNCATION_PROBABILITY, BatchSampling, DpSgd
from secureagg.dp.relation import Relation
from tests.cli.runs import Invoke, Spawn

SMALL_SGD = ("calibrate", "dp-sgd", "--examples", "2000", "--batch", "100", "--epochs", "2")
SUM = ("--clients", "200", "--rounds", "20", "--values", "5000", "--value-bits", "14")


def test_noise_for_a_target(invoke: Invoke) -> None:
    figures = json.loads(invoke(*SMALL_SGD, "--epsilon", "3", "--json").out)
    event = DpSgd(
        noise_multiplier=figures["noise"],
        expected_batch=100,
        examples=2000,
        steps=40,
        relation=Relation.ZERO_OUT,
        truncation_probability=2.0**-40,
    )
    assert figures["epsilon"] == epsilon(event, 1e-5) <= 3
    assert (figures["releases"], figures["relation"], figures["accountant"]) == (40, "zero-out", "PLD")


@pytest.mark.parametrize("examples", [155, 160, 260])
def test_an_epoch_has_as_many_steps_as_the_sampler_takes(invoke: Invoke, examples: int) -> None:
    """Two, not 1.55, 1.6, and three, not 2.6: the rounding goes either way, and it is what trains."""
    figures = invoke("calibrate", "dp-sgd", "--noise", "2", "--examples", str(examples), "--batch", "100", "--json").out
    sampling = pytest.importorskip("secureagg.dp.dpsgd").PoissonBatches
    batches = sampling(np.zeros((examples, 1)), np.zeros(examples), 100)
    assert json.loads(figures)["releases"] == 10 * len(batches)
    assert batches.truncation_probability <= MAX_TRUNCATION_PROBABILITY


def test_truncation_is_paid_for(invoke: Invoke) -> None:
    """Of many steps at a high ε, what truncated batches cost is seen in δ."""
    arguments = ("--noise", "3", "--epochs", "200", "--json")
    figures = json.loads(invoke(*SMALL_SGD[:-2], *arguments).out)
    event = DpSgd(
        noise_multiplier=3.0,
        expected_batch=100,
        examples=2000,
        steps=4000,
        relation=Relation.ZERO_OUT,
        truncation_probability=MAX_TRUNCATION_PROBABILITY,
    )
    assert figures["epsilon"] == epsilon(event, 1e-5) > epsilon(replace(event, truncation_probability=0.0), 1e-5)


def test_epsilon_of_a_noise_without_amplification(invoke: Invoke) -> None:
    ended = invoke(*SMALL_SGD, "--noise", "2", "--sampling", "fixed-size", "--delta", "1e-6", "--json")
    event = DpSgd(
        noise_multiplier=2.0,
        expected_batch=100,
        examples=2000,
        steps=40,
        relation=Relation.ZERO_OUT,
        sampling=BatchSampling.FIXED_SIZE,
        passes=2,
    )
    assert json.loads(ended.out)["epsilon"] == epsilon(event, 1e-6)


@pytest.mark.parametrize(
    ("mechanism", "kind", "asked"),
    [
        ("discrete-gaussian", sa.DistributedGaussian, []),
        ("skellam", sa.Skellam, []),
        ("discrete-gaussian", sa.DistributedGaussian, ["rotate"]),
        ("discrete-gaussian", sa.DistributedGaussian, ["proofs"]),
        ("skellam", sa.Skellam, ["rotate", "proofs"]),
    ],
)
def test_noise_in_a_sum_is_what_a_plan_calibrates(
    invoke: Invoke, mechanism: str, kind: type[sa.DistributedGaussian] | type[sa.Skellam], asked: list[str]
) -> None:
    plan = sa.RoundPlan(
        layout=sa.Layout.of([np.zeros(5000)]),
        clients=200,
        quorum=140,
        assumed_corrupt_clients=40,
        l2_clip=1.0,
        value_bits=10,
        committee=sa.Committee(5),
        noise=kind(epsilon=8, delta=1e-5, rounds=20, noise_by="clients"),
        rotate="rotate" in asked,
        proofs="proofs" in asked,
    )
    assert plan.noise is not None
    options = (
        "--clients",
        "200",
        "--quorum",
        "140",
        "--assumed-corrupt",
        "40",
        "--values",
        "5000",
        "--value-bits",
        "10",
    )
    flags = [f"--{each}" for each in asked]
    base = ("calibrate", mechanism, *options, "--rounds", "20", *flags, "--json")
    found = json.loads(invoke(*base, "--epsilon", "8").out)
    assert (found["noise"], found["grid_step"]) == (plan.noise.std, pytest.approx(1 / plan.quantiser.scale))
    assert found["epsilon"] == epsilon(plan.privacy_event(20), 1e-5)
    priced = json.loads(invoke(*base, "--noise", str(plan.noise.std)).out)
    assert priced == found


@pytest.mark.parametrize("mechanism", ["discrete-gaussian", "skellam"])
def test_dropouts_and_corruptions_need_more_noise(invoke: Invoke, mechanism: str) -> None:
    def noise(*options: str) -> float:
        figures = json.loads(invoke("calibrate", mechanism, "--epsilon", "4", *SUM, *options, "--json").out)
        assert figures["epsilon"] <= 4 and figures["protects"] == "one client"
        return float(figures["noise"])

    everybody, some = noise(), noise("--quorum", "140", "--assumed-corrupt", "40")
    assert some == pytest.approx(everybody * 2**0.5, rel=2e-3)


def test_the_mean_gets_the_noise_of_the_central_mechanism(invoke: Invoke) -> None:
    central = json.loads(invoke("calibrate", "central", "--epsilon", "4", *SUM[:4], "--json").out)
    inside = json.loads(invoke("calibrate", "discrete-gaussian", "--epsilon", "4", *SUM, "--json").out)
    assert (central["adversary"], inside["adversary"]) == ("recipients", "participants")
    assert central["mean_noise_std"] < inside["mean_noise_std"] < 1.1 * central["mean_noise_std"]


def test_table(invoke: Invoke) -> None:
    ended = invoke("calibrate", "skellam", "--noise", "3000", *SUM)
    assert ended.code == 0
    for text in ("skellam", "one client, zero-out", "δ = 1e-05, by RDP", "200 honest contributors", "grid step"):
        assert text in ended.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["central"], ExitCode.USAGE, "give one of the two"),
        (["central", "--noise", "1", "--epsilon", "1"], ExitCode.USAGE, "give one of the two"),
        (["central", "--noise", "1", "--examples", "5"], ExitCode.USAGE, "only dp-sgd uses it"),
        (["dp-sgd", "--noise", "1", "--quorum", "5"], ExitCode.USAGE, "only discrete-gaussian, skellam"),
        (["skellam", "--noise", "9", "--relation", "replace"], ExitCode.PARAMETERS, "accounted for zero-out"),
        (["central", "--noise", "1", "--rotate"], ExitCode.USAGE, "only discrete-gaussian, skellam"),
        (["central", "--noise", "nan"], ExitCode.PARAMETERS, "error: --noise must be"),
        (["central", "--noise", "-1"], ExitCode.PARAMETERS, "error: --noise must be"),
        (["central", "--epsilon", "inf"], ExitCode.PARAMETERS, "error: --epsilon must be"),
        (["central", "--epsilon", "0"], ExitCode.PARAMETERS, "error: --epsilon must be a number above 0"),
        (["central", "--epsilon", "1", "--delta", "1"], ExitCode.PARAMETERS, "error: --delta must"),
        (["skellam", "--epsilon", "1", "--quorum", "3", "--assumed-corrupt", "3"], ExitCode.PARAMETERS, "quorum=3"),
        (["dp-sgd", "--epsilon", "1", "--relation", "add-or-remove"], ExitCode.PARAMETERS, "zero-out"),
        (["dp-sgd", "--epsilon", "1", "--epochs", "nan"], ExitCode.PARAMETERS, "error: --epochs=nan must"),
    ],
)
def test_refusals(invoke: Invoke, arguments: list[str], code: ExitCode, said: str) -> None:
    ended = invoke("calibrate", *arguments)
    assert ended.code == code
    assert said in " ".join(ended.err.split())


def test_help_has_examples_and_loads_nothing_heavy(spawn: Spawn) -> None:
    heavy = "('dp_accounting', 'tensorflow', 'keras', 'numba', 'scipy')"
    before = f"import atexit\natexit.register(lambda: print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr))"
    ended = spawn("calibrate", "--help", before=before)
    assert ended.err == "[]\n"
    for text in ("secureagg calibrate discrete-gaussian", "quorum", "never cost privacy", "With dp-sgd"):
        assert text in " ".join(ended.out.split())


def test_without_dp_accounting(spawn: Spawn) -> None:
    ended = spawn("calibrate", "central", "--noise", "1", before="sys.modules['dp_accounting'] = None")
    assert ended.code == ExitCode.MISSING_EXTRA
    assert "pip install 'secureagg[dp]'" in ended.err
