"""`secureagg demo`: the same figures for the same seed, privately and in the clear."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from secureagg import Event
from secureagg.cli.exit_codes import ExitCode
from secureagg.cli.warm_up import telling
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
            *("holdings", "parameters", "key_bytes", "plain", "floating", "private", "comparison", "privacy"),
        }
        assert figures["settings"]["encryption"] == {
            "l2_clip": 10.0,
            "value_bits": 16,
            "members": 5,
            "absent_members": 1,
            "proofs": False,
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
        assert figures["key_bytes"] is None
        assert figures["comparison"]["ratio_bytes_up"] > 1
        assert set(figures["comparison"]["ratio_seconds"]) == STAGES

    def test_private_metrics_agree_with_plain_ones(self, small_run: SmallRun) -> None:
        plain, private = small_run.figures["plain"], small_run.figures["private"]
        for open_round, encrypted_round in zip(plain["rounds"], private["rounds"], strict=True):
            assert encrypted_round["loss"] == pytest.approx(open_round["loss"], abs=1e-2)
            assert encrypted_round["clients"] == open_round["clients"]
            assert 0 < encrypted_round["deviation"] <= self.limit(small_run, encrypted_round["clients"])
            assert encrypted_round["clipped"] == 0
            assert open_round["deviation"] is None
        comparison = small_run.figures["comparison"]
        assert comparison["max_deviation"] == max(r["deviation"] for r in private["rounds"])
        limits = [self.limit(small_run, r["clients"]) for r in private["rounds"]]
        assert comparison["deviation_limit"] == pytest.approx(max(limits))

    def limit(self, small_run: SmallRun, clients: list[int]) -> float:
        """n·max_weight / (scale·Σw), on a grid of 16 bits up to 10."""
        weights = [sum(held) for held in small_run.figures["holdings"]]
        return len(clients) * max(weights) * 10 / (2**15 - 1) / sum(weights[client] for client in clients)

    def test_tells_who_was_dropped_and_why(self, small_run: SmallRun) -> None:
        for training in (small_run.figures["plain"], small_run.figures["private"]):
            reasons = {reason for entry in training["rounds"] for reason in entry["dropped"].values()}
            assert reasons == {"vanished before training", "vanished before sending"}
            for entry in training["rounds"]:
                assert sorted([*entry["clients"], *map(int, entry["dropped"])]) == [0, 1, 2, 3, 4]


class TestSeeds:
    def test_one_seed_gives_identical_metrics(self, small_run: SmallRun, invoke: Invoke) -> None:
        again = invoke(*SMALL, "--json", "--no-report")
        assert without_times(json.loads(again.out)) == without_times(small_run.figures)

    def test_another_seed_does_not(self, invoke: Invoke) -> None:
        losses = {
            json.loads(invoke(*SMALL, "--rounds", "1", "--json", "--no-report", "--seed", seed).out)["plain"][
                "final_loss"
            ]
            for seed in ("0", "1")
        }
        assert len(losses) == 2


class TestTenseal:
    def test_means_are_as_precise_as_asked_for(self, invoke: Invoke) -> None:
        figures = json.loads(invoke(*SMALL, "--scheme", "tenseal", "--rounds", "2", "--json", "--no-report").out)
        assert figures["settings"]["encryption"] == {"magnitude": 1.0, "precision": 1e-6}
        assert figures["key_bytes"] > 0
        assert figures["comparison"]["max_deviation"] <= figures["comparison"]["deviation_limit"] == 1e-6

    def test_an_update_above_the_magnitude_is_reported(self, invoke: Invoke) -> None:
        scheme = ("--scheme", "tenseal", "--magnitude", "0.2", "--drop", "0")
        ended = invoke(*SMALL, "--json", "--no-report", "--rounds", "8", "--clients", "8", *scheme)
        figures = json.loads(ended.out)
        reasons = {reason for r in figures["private"]["rounds"] for reason in r["dropped"].values()}
        assert len(reasons) > 0 and all("magnitude=0.2" in reason for reason in reasons)
        assert all(not r["dropped"] for r in figures["plain"]["rounds"])


class TestOneShot:
    def test_clipped_updates_are_counted_and_told(self, invoke: Invoke, tmp_path: Path) -> None:
        common = [*SMALL, "--l2-clip", "0.01", "--drop", "0", "--state-dir", str(tmp_path)]
        ended = invoke(*common, "--no-report", "--rounds", "1")
        assert "5 updates were clipped" in ended.out
        resumed = json.loads(invoke(*common, "--no-report", "--rounds", "2", "--json", "--resume").out)
        assert [r["clipped"] for r in resumed["private"]["rounds"]] == [5, 5]
        assert resumed["comparison"]["max_deviation"] > resumed["comparison"]["deviation_limit"]

    @pytest.mark.parametrize(
        ("chosen", "told"),
        [
            (("--absent-members", "2"), "--members 5 and --absent-members 2 leave 3 that answer, and 4 must"),
            (("--members", "2"), "--members 2 and --absent-members 1 leave 1 that answer, and 2 must"),
        ],
    )
    def test_too_few_members_are_refused_before_anything_is_loaded(
        self, invoke: Invoke, chosen: tuple[str, ...], told: str
    ) -> None:
        ended = invoke(*SMALL, "--no-report", *chosen)
        assert ended.code == ExitCode.PARAMETERS
        assert told in ended.err and "Preparing" not in ended.err

    def test_says_so_when_kernels_take_their_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = iter([10.0, 13.0])
        monkeypatch.setattr("secureagg.cli.warm_up.time.perf_counter", lambda: next(clock))
        said = Console(file=io.StringIO())
        observe = telling(said)
        observe(Event("compile a", 0, 2))
        observe(Event("compile b", 1, 2))
        assert isinstance(said.file, io.StringIO)
        assert said.file.getvalue() == "Compiling kernels, once per machine: 1 of 2 modules …\n"

    def test_kernels_can_be_made_ready_beforehand(self, invoke: Invoke) -> None:
        ended = invoke("warm-up")
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith("Kernels are ready")


class TestResume:
    def test_goes_on_to_the_same_figures(self, small_run: SmallRun, invoke: Invoke, tmp_path: Path) -> None:
        common = [*SMALL, "--json", "--no-report", "--state-dir", str(tmp_path)]
        assert invoke(*common, "--rounds", "2").code == 0
        resumed = invoke(*common, "--resume")
        assert without_times(json.loads(resumed.out)) == without_times(small_run.figures)

    def test_a_finished_run_is_read_back(self, small_run: SmallRun, invoke: Invoke) -> None:
        again = invoke(*SMALL, "--json", "--no-report", "--state-dir", str(small_run.state_dir), "--resume")
        assert without_times(json.loads(again.out)) == without_times(small_run.figures)

    def test_what_was_never_saved_is_refused(self, invoke: Invoke, tmp_path: Path) -> None:
        ended = invoke(*SMALL, "--no-report", "--state-dir", str(tmp_path / "typo"), "--resume")
        assert ended.code == ExitCode.USAGE
        assert "no run is saved in" in ended.err and not (tmp_path / "typo").exists()

    def test_must_be_asked_for(self, small_run: SmallRun, invoke: Invoke) -> None:
        ended = invoke(*SMALL, "--no-report", "--state-dir", str(small_run.state_dir))
        assert ended.code == 4
        assert "resume" in ended.err

    def test_another_seed_is_another_run(self, small_run: SmallRun, invoke: Invoke) -> None:
        state_dir = str(small_run.state_dir)
        ended = invoke(*SMALL, "--no-report", "--seed", "1", "--state-dir", state_dir, "--resume")
        assert ended.code == 4
        assert "seed" in ended.err

    @pytest.mark.parametrize(
        ("option", "value", "kept"),
        [
            ("--l2-clip", "9", "l2_clip=10.0"),
            ("--value-bits", "12", "value_bits=16"),
            ("--members", "7", "members=5"),
            ("--absent-members", "0", "absent_members=1"),
            ("--scheme", "tenseal", "scheme=one-shot"),
        ],
    )
    def test_another_encryption_is_another_run(
        self, small_run: SmallRun, invoke: Invoke, option: str, value: str, kept: str
    ) -> None:
        ended = invoke(*SMALL, "--no-report", option, value, "--state-dir", str(small_run.state_dir), "--resume")
        assert ended.code == 4
        assert kept in ended.err

    @pytest.mark.parametrize(
        "content",
        [
            *("", "[]", "{}", '{"encryption": "", "deviation": {"a": 1}, "clipped": {}, "spent": {}}'),
            '{"encryption": "", "deviation": {}, "clipped": [1], "spent": {}}',
            '{"encryption": "", "deviation": {}, "clipped": {}, "spent": {"1": "much"}}',
        ],
    )
    def test_damaged_notes_are_refused(self, small_run: SmallRun, invoke: Invoke, tmp_path: Path, content: str) -> None:
        (tmp_path / "private").mkdir()
        (tmp_path / "private" / "notes.json").write_text(content)
        ended = invoke(*SMALL, "--no-report", "--state-dir", str(tmp_path), "--resume")
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
        assert "The mean carries no noise" in ended.out
        assert "rounding to 16 bits allows" in ended.out and "updates were clipped" not in ended.out
        assert "WARNING" not in ended.err and "oneDNN" not in ended.err

    def test_plain_alone(self, invoke: Invoke) -> None:
        ended = invoke(*SMALL, "--no-report", "--rounds", "1", "--scheme", "plain")
        assert ended.code == 0
        assert "Trained in the clear" in ended.out
        assert "encrypted" not in ended.out and "private ÷ plain" not in ended.out
