"""`secureagg plan`."""

from __future__ import annotations

import json

from secureagg.he.tenseal import choose_parameters
from tests.cli.runs import Invoke


def test_prints_the_report_of_the_choice(invoke: Invoke) -> None:
    ended = invoke("plan", "--clients", "7", "--magnitude", "0.25", "--precision", "1e-5", "--max-weight", "30")
    assert ended.code == 0
    assert ended.out.rstrip("\n") == choose_parameters(7, 0.25, 1e-5, 30).report()


def test_json_holds_the_same_choice(invoke: Invoke) -> None:
    ended = invoke("plan", "--scheme", "tenseal", "--clients", "7", "--max-weight", "30", "--json")
    figures, chosen = json.loads(ended.out), choose_parameters(7, 1.0, 1e-6, 30)
    assert figures["scheme"] == "tenseal"
    assert figures["ring_degree"] == chosen.ring_degree
    assert figures["prime_bits"] == [prime.bit_length() for prime in chosen.primes]
    assert figures["modulus_bits"] <= figures["modulus_limit_bits"]
    assert figures["mean_error"] <= figures["precision"] == 1e-6
    assert figures["report"] == chosen.report()
