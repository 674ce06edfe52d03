"""`secureagg plan`."""

from __future__ import annotations

import json
from dataclasses import replace

from secureagg import Committee, Layout, RoundPlan
from secureagg.he.tenseal import choose_parameters
from tests.cli.runs import Invoke

ONE_SHOT = ("plan", "--clients", "40", "--values", "30000", "--max-weight", "200", "--quorum", "9", "--l2-clip", "3")
COMMITTEE = ("--members", "7", "--threshold", "6", "--assumed-corrupt", "2", "--value-bits", "12")


def one_shot(parameters: str = "auto") -> RoundPlan:
    return RoundPlan(
        layout=Layout(((30000,),), ("float32",)),
        clients=40,
        quorum=9,
        l2_clip=3.0,
        value_bits=12,
        committee=Committee(7, 6, 2),
        max_weight=200,
        parameters=parameters,
    )


class TestOneShot:
    def test_prints_the_report_of_the_plan(self, invoke: Invoke) -> None:
        ended = invoke(*ONE_SHOT, *COMMITTEE)
        assert ended.code == 0
        assert ended.out.rstrip("\n") == one_shot().report()

    def test_parameters_can_be_named(self, invoke: Invoke) -> None:
        ended = invoke(*ONE_SHOT, *COMMITTEE, "--parameters", "N4096_Q104")
        assert ended.out.rstrip("\n") == one_shot("N4096_Q104").report()

    def test_json_holds_the_same_plan(self, invoke: Invoke) -> None:
        figures, plan = json.loads(invoke(*ONE_SHOT, *COMMITTEE, "--json").out), one_shot()
        assert figures["scheme"] == "one-shot"
        assert figures["bytes_per_client"] == plan.bytes_per_client
        assert figures["value_bytes"] == plan.bytes_per_client / 30000
        assert figures["parameters"] == plan.packing.ring.name
        assert figures["fields_per_coefficient"] * figures["field_bits"] < figures["modulus_bits"]
        assert figures["grid_step"] == 3 / (2**11 - 1)
        assert (figures["members"], figures["threshold"], figures["assumed_corrupt"]) == (7, 6, 2)
        assert figures["security_bits"] >= 128
        assert figures["failure"] == 2**-39
        assert figures["report"] == plan.report()

    def test_proofs_and_their_cost(self, invoke: Invoke) -> None:
        asked = ("--proofs", "--corrupt-clients", "2", "--value-bound", "0.5", "--json")
        figures = json.loads(invoke(*ONE_SHOT, *COMMITTEE, *asked).out)
        plan = replace(one_shot(), proofs=True, assumed_corrupt_clients=2, value_bound=0.5)
        assert figures["proof_bytes"] == plan.proof_bytes > 0 and figures["soundness_bits"] >= 100
        assert figures["report"] == plan.report() and "2 corrupt clients" in figures["report"]
        without = json.loads(invoke(*ONE_SHOT, *COMMITTEE, "--json").out)
        assert (without["proof_bytes"], without["soundness_bits"]) == (0, None)

    def test_counts_one_of_a_thing(self, invoke: Invoke) -> None:
        sizes = ("--values", "300", "--value-bits", "24", "--max-weight", "50000", "--clients", "100")
        report = invoke("plan", *sizes).out
        assert "300 values in 1 tensor, 100 clients, quorum 2\n" in report
        assert "packing: 1 field of" in report and "1 chunk, 1 one-time key\n" in report
        assert "with weight 1\n" in invoke("plan", "--values", "300", "--value-bits", "8", "--proofs").out


class TestTenseal:
    def test_prints_the_report_of_the_choice(self, invoke: Invoke) -> None:
        choice = ("--magnitude", "0.25", "--precision", "1e-5", "--max-weight", "30")
        ended = invoke("plan", "--scheme", "tenseal", "--clients", "7", *choice)
        assert ended.code == 0
        assert ended.out.rstrip("\n") == choose_parameters(7, 0.25, 1e-5, 30).report()

    def test_json_holds_the_same_choice(self, invoke: Invoke) -> None:
        ended = invoke("plan", "--scheme", "tenseal", "--clients", "7", "--max-weight", "30", "--json")
        figures, chosen = json.loads(ended.out), choose_parameters(7, 1.0, 1e-6, 30)
        assert figures["scheme"] == "tenseal"
        assert figures["ring_degree"] == chosen.ring_degree
        assert figures["prime_bits"] == [prime.bit_length() for prime in chosen.primes]
        assert figures["modulus_bits"] <= figures["modulus_limit_bits"]
        assert figures["mean_error"] <= figures["precision"] == 1e-6
        assert figures["report"] == chosen.report()
