"""`secureagg demo` with a privacy budget: what is spent is what the ledgers say, and training ends when it is gone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import secureagg as sa
from secureagg.cli.exit_codes import ExitCode
from tests.cli.runs import Ended, Invoke

SMALL = ("demo", "--dataset", "breast-cancer", "--clients", "8", "--partition", "iid", "--drop", "0")
CLIENT = (*SMALL, "--epsilon", "6", "--delta", "1e-4", "--rounds", "4", "--budget-rounds", "2")
EXAMPLE = (*SMALL, "--dp-sgd-epsilon", "6", "--delta", "1e-4", "--rounds", "3", "--budget-rounds", "2")


@dataclass(frozen=True)
class PrivateRun:
    """A run whose budget was gone before its last round."""

    ended: Ended
    figures: dict[str, Any]
    page: str
    ledger: Path


def run_once(invoke: Invoke, folder: Path, *arguments: str) -> PrivateRun:
    report, ledger = folder / "report.html", folder / "spent"
    ended = invoke(*arguments, "--json", "--report", str(report), "--ledger", str(ledger))
    assert ended.code == 0, ended.err
    return PrivateRun(ended, json.loads(ended.out), report.read_text(), ledger)


@pytest.fixture(scope="module")
def by_client(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> PrivateRun:
    return run_once(invoke, tmp_path_factory.mktemp("client"), *CLIENT)


@pytest.fixture(scope="module")
def by_example(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> PrivateRun:
    return run_once(invoke, tmp_path_factory.mktemp("example"), *EXAMPLE)


def reopened(path: Path) -> sa.Ledger:
    """Open a ledger on the terms its first line has."""
    from secureagg.dp.dp_events import event_from_fields

    terms = json.loads(path.read_text().splitlines()[0])["body"]
    planned = [event_from_fields(fields) for fields in terms["filter"]["planned"]]
    return sa.Ledger(
        path, (terms["epsilon"], terms["delta"]), sa.Relation(terms["relation"]), planned=planned, unit=terms["unit"]
    )


class TestClient:
    def test_stops_when_the_budget_is_gone(self, by_client: PrivateRun) -> None:
        privacy = by_client.figures["privacy"]
        assert "round 3 is more than what is left of ε = 6 at δ = 0.0001 (zero-out)" in privacy["stopped"]
        for lane in ("plain", "floating", "private"):
            assert [r["round_number"] for r in by_client.figures[lane]["rounds"]] == [1, 2]
        assert "Stopped after round 2 of 4" in by_client.page

    def test_epsilon_is_the_ledgers(self, by_client: PrivateRun) -> None:
        spent = [r["epsilon"] for r in by_client.figures["private"]["rounds"]]
        with reopened(by_client.ledger) as ledger:
            assert by_client.figures["privacy"]["spent"] == spent[-1] == ledger.spent().epsilon
            assert [debit.note.split(",")[0] for debit in ledger] == ["round 1", "round 2"]
        assert 0 < spent[0] < spent[1] <= 6
        assert all(r["epsilon"] is None for r in by_client.figures["plain"]["rounds"])

    def test_report_has_the_curve_and_its_numbers(self, by_client: PrivateRun) -> None:
        for text in (
            *("Accuracy on the test examples, %, over ε spent", "ε at δ = 0.0001, one client", "budget, ε = 6"),
            *("It claims no privacy", "float noise", "compared with the same run with zeros in place"),
            "the aggregator together with 1 committee member and 0 clients",
        ):
            assert text in by_client.page
        for r in by_client.figures["private"]["rounds"]:
            assert f"<td>{r['round_number']}</td><td>{r['epsilon']:.4f}</td>" in by_client.page
        assert "Distance to the plain mean" not in by_client.page and "The mean carries no noise" not in by_client.page
        assert by_client.figures["comparison"]["max_deviation"] is None

    def test_no_clients_loss_is_told(self, by_client: PrivateRun) -> None:
        assert all(r["client_loss"] is None for r in by_client.figures["private"]["rounds"])

    def test_ledger_survives_and_refuses_a_rerun(self, by_client: PrivateRun, invoke: Invoke) -> None:
        before = by_client.ledger.read_bytes()
        again = invoke(*CLIENT, "--no-report", "--ledger", str(by_client.ledger))
        assert again.code == ExitCode.BUDGET
        assert "round 1 is more than what is left of ε = 6" in again.err
        assert by_client.ledger.read_bytes() == before

    def test_ledger_of_other_terms_is_refused(self, by_client: PrivateRun, invoke: Invoke) -> None:
        again = invoke(*CLIENT, "--no-report", "--epsilon", "7", "--ledger", str(by_client.ledger))
        assert again.code == ExitCode.PARAMETERS
        assert "made with other terms (epsilon" in again.err

    def test_a_saved_run_keeps_its_ledger(self, invoke: Invoke, tmp_path: Path) -> None:
        common = (*CLIENT, "--state-dir", str(tmp_path), "--no-report", "--json")
        first = json.loads(invoke(*common, "--rounds", "1").out)
        resumed = json.loads(invoke(*common, "--resume").out)
        assert len((tmp_path / "aggregator.ledger").read_text().splitlines()) == 1 + 2
        first_round, _ = resumed["private"]["rounds"]
        assert first_round["epsilon"] == first["privacy"]["spent"] < resumed["privacy"]["spent"]
        assert "round 3" in resumed["privacy"]["stopped"]

    def test_with_proofs_the_committee_adds_the_noise(self, invoke: Invoke) -> None:
        ended = invoke(*SMALL, "--epsilon", "6", "--rounds", "1", "--proofs", "--json", "--no-report")
        privacy = json.loads(ended.out)["privacy"]
        assert privacy["noise_by"] == "committee" and privacy["stopped"] is None

    def test_terminal(self, invoke: Invoke) -> None:
        ended = invoke(*CLIENT, "--rounds", "1", "--budget-rounds", "1", "--no-report")
        assert "Spent after round 1: ε = 5.9" in ended.out and "for one client (zero-out)" in ended.out
        assert "One client is the unit" in ended.out and "Stopped" not in ended.out


class TestExample:
    def test_stops_when_the_budget_is_gone(self, by_example: PrivateRun) -> None:
        assert "0 of 8 clients can afford round 3 within ε = 6" in by_example.figures["privacy"]["stopped"]
        assert len(by_example.figures["private"]["rounds"]) == len(by_example.figures["plain"]["rounds"]) == 2
        assert by_example.figures["floating"] is None

    def test_epsilon_is_each_clients_ledgers(self, by_example: PrivateRun) -> None:
        clients = by_example.figures["privacy"]["clients"]
        assert {c["examples"] for c in clients} == {56, 57}  # 455 among 8, and the fewer take more noise
        noise = {c["examples"]: c["noise_multiplier"] for c in clients}
        assert noise[56] > noise[57]
        for c in clients:
            with reopened(by_example.ledger / f"client-{c['client']:04d}.ledger") as ledger:
                assert c["epsilon"] == pytest.approx(ledger.spent().epsilon, rel=1e-12)
                assert len(ledger) == c["rounds"] == 2
                assert 5.9 < c["epsilon"] <= 6
        assert by_example.figures["private"]["rounds"][-1]["epsilon"] == max(c["epsilon"] for c in clients)

    def test_means_are_as_exact_as_without_a_budget(self, by_example: PrivateRun) -> None:
        comparison = by_example.figures["comparison"]
        assert 0 < comparison["max_deviation"] <= 1.001 * comparison["deviation_limit"]

    def test_report_tells_of_both_units(self, by_example: PrivateRun) -> None:
        for text in (
            *(
                "One example is the unit",
                "DP-SGD left it",
                "What each client has spent",
                "ε at δ = 0.0001, one example",
            ),
            *("It holds against everybody", "its own: who cannot afford a round", "Poisson batches of 32 expected"),
        ):
            assert text in by_example.page

    def test_ledgers_refuse_a_rerun(self, by_example: PrivateRun, invoke: Invoke) -> None:
        again = invoke(*EXAMPLE, "--no-report", "--ledger", str(by_example.ledger))
        assert again.code == ExitCode.BUDGET
        assert "0 of 8 clients can afford round 1" in again.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--epsilon", "4", "--dp-sgd-epsilon", "3"], "not combined with --epsilon"),
        (["--epsilon", "4", "--attack", "scale"], "no budget"),
        (["--epsilon", "4", "--scheme", "tenseal"], "--scheme one-shot"),
        (["--dp-sgd-epsilon", "3", "--scheme", "plain"], "--scheme one-shot"),
        (["--delta", "1e-6"], "only --epsilon and"),
        (["--budget-rounds", "3"], "only --epsilon and"),
        (["--ledger", "x"], "only --epsilon and"),
        (["--proofs", "--attack", "scale"], "one with and one without"),
    ],
)
def test_options_that_do_not_go_together(invoke: Invoke, arguments: list[str], told: str) -> None:
    ended = invoke(*SMALL, "--no-report", *arguments)
    assert ended.code == ExitCode.USAGE
    assert told in " ".join(ended.err.split())


@pytest.mark.parametrize(
    "arguments", [("--epsilon", "0"), ("--epsilon", "4", "--delta", "1"), ("--dp-sgd-epsilon", "0")]
)
def test_budgets_that_cannot_be(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    assert invoke(*SMALL, "--no-report", *arguments).code == ExitCode.PARAMETERS
