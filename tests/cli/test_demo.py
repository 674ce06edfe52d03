"""`secureagg demo`: the same figures for the same seed, privately and in the clear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.runs import SMALL, Invoke, SmallRun, without_times

STAGES = {"train", "contribute", "admit", "finish", "update", "evaluate"}


class TestJson:
    def test_is_all_there_is_on_stdout(self, small_run: SmallRun) -> None:
        assert small_run.ended.out.startswith("{") and small_run.ended.out.endswith("}\n")
        assert "round   1/6" in small_run.ended.err

    def test_schema(self, small_run: SmallRun) -> None:
        figures = small_run.figures
        assert set(figures) == {
            *("version", "settings", "versions", "model_values", "local_training"),
            *("holdings", "parameters", "key_bytes", "plain", "private", "comparison"),
        }
        assert figures["settings"]["partition"] == "iid"
        assert sum(map(sum, figures["holdings"])) == 455  # four fifths of 569 diagnoses
        for training in (figures["plain"], figures["private"]):
            assert set(training["seconds"]) == STAGES
            assert training["bytes_down_per_client"] == 4 * figures["model_values"]
            assert [entry["round_number"] for entry in training["rounds"]] == [1, 2, 3, 4, 5, 6]
            assert sum(training["seconds"].values()) == pytest.approx(training["seconds_total"])
            late = [entry["accuracy"] for entry in training["rounds"][-5:]]
            assert training["late_accuracy"] == pytest.approx(sum(late) / 5)
            assert training["final_accuracy"] == late[-1]
        assert figures["comparison"]["ratio_bytes_up"] > 1
        assert set(figures["comparison"]["ratio_seconds"]) == STAGES

    def test_private_metrics_agree_with_plain_ones(self, small_run: SmallRun) -> None:
        plain, private = small_run.figures["plain"], small_run.figures["private"]
        for open_round, encrypted_round in zip(plain["rounds"], private["rounds"], strict=True):
            assert encrypted_round["loss"] == pytest.approx(open_round["loss"], abs=1e-4)
            assert encrypted_round["clients"] == open_round["clients"]
            assert encrypted_round["deviation"] <= 1e-6
            assert open_round["deviation"] is None
        assert small_run.figures["comparison"]["max_deviation"] == max(r["deviation"] for r in private["rounds"])

    def test_tells_who_was_dropped_and_why(self, small_run: SmallRun) -> None:
        for training in (small_run.figures["plain"], small_run.figures["private"]):
            reasons = {reason for entry in training["rounds"] for reason in entry["dropped"].values()}
            assert reasons == {"vanished before training", "vanished before sending"}
            for entry in training["rounds"]:
                assert sorted([*entry["clients"], *map(int, entry["dropped"])]) == [0, 1, 2, 3, 4]


class TestSeeds:
    def test_one_seed_gives_identical_metrics(self, small_run: SmallRun, invoke: Invoke) -> None:
        again = invoke(*SMALL, "--drop", "0.3", "--json", "--no-report")
        assert without_times(json.loads(again.out)) == without_times(small_run.figures)

    def test_another_seed_does_not(self, invoke: Invoke) -> None:
        losses = {
            json.loads(invoke(*SMALL, "--rounds", "1", "--json", "--no-report", "--seed", seed).out)["plain"][
                "final_loss"
            ]
            for seed in ("0", "1")
        }
        assert len(losses) == 2


class TestResume:
    def test_goes_on_to_the_same_figures(self, small_run: SmallRun, invoke: Invoke, tmp_path: Path) -> None:
        common = [*SMALL, "--drop", "0.3", "--json", "--no-report", "--state-dir", str(tmp_path)]
        assert invoke(*common, "--rounds", "2").code == 0
        resumed = invoke(*common, "--resume")
        assert without_times(json.loads(resumed.out)) == without_times(small_run.figures)

    def test_a_finished_run_is_read_back(self, small_run: SmallRun, invoke: Invoke) -> None:
        again = invoke(
            *SMALL, "--drop", "0.3", "--json", "--no-report", "--state-dir", str(small_run.state_dir), "--resume"
        )
        assert without_times(json.loads(again.out)) == without_times(small_run.figures)

    def test_must_be_asked_for(self, small_run: SmallRun, invoke: Invoke) -> None:
        ended = invoke(*SMALL, "--drop", "0.3", "--no-report", "--state-dir", str(small_run.state_dir))
        assert ended.code == 4
        assert "resume" in ended.err

    def test_another_seed_is_another_run(self, small_run: SmallRun, invoke: Invoke) -> None:
        state_dir = str(small_run.state_dir)
        ended = invoke(*SMALL, "--no-report", "--seed", "1", "--state-dir", state_dir, "--resume")
        assert ended.code == 4
        assert "seed" in ended.err

    def test_another_precision_is_another_run(self, small_run: SmallRun, invoke: Invoke) -> None:
        state_dir = str(small_run.state_dir)
        ended = invoke(
            *SMALL, "--drop", "0.3", "--no-report", "--precision", "1e-5", "--state-dir", state_dir, "--resume"
        )
        assert ended.code == 4
        assert "precision=1e-06" in ended.err

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"encryption": "", "deviation": {"a": 1}}'])
    def test_damaged_deviations_are_refused(
        self, small_run: SmallRun, invoke: Invoke, tmp_path: Path, content: str
    ) -> None:
        (tmp_path / "private").mkdir()
        (tmp_path / "private" / "deviation.json").write_text(content)
        ended = invoke(*SMALL, "--drop", "0.3", "--no-report", "--state-dir", str(tmp_path), "--resume")
        assert ended.code == 4
        assert "damaged" in ended.err


class TestTerminal:
    def test_table_and_warning(self, invoke: Invoke) -> None:
        ended = invoke(*SMALL, "--no-report", "--rounds", "1")
        assert ended.code == 0
        for text in (
            "Trained on encrypted updates",
            "bytes up",
            "private ÷ plain",
            "seconds, total",
            "No round's mean",
        ):
            assert text in ended.out
        assert "The key holder can open any single update" in ended.out
        assert "WARNING" not in ended.err and "oneDNN" not in ended.err

    def test_plain_alone(self, invoke: Invoke) -> None:
        ended = invoke(*SMALL, "--no-report", "--rounds", "1", "--scheme", "plain")
        assert ended.code == 0
        assert "Trained in the clear" in ended.out
        assert "encrypted" not in ended.out and "private ÷ plain" not in ended.out

    def test_an_update_above_the_magnitude_is_reported(self, invoke: Invoke) -> None:
        ended = invoke(*SMALL, "--json", "--no-report", "--rounds", "8", "--clients", "8", "--magnitude", "0.2")
        figures = json.loads(ended.out)
        reasons = {reason for r in figures["private"]["rounds"] for reason in r["dropped"].values()}
        assert len(reasons) > 0 and all("magnitude=0.2" in reason for reason in reasons)
        assert all(not r["dropped"] for r in figures["plain"]["rounds"])
