"""The ledger: what is acknowledged stays, whatever is killed or cut; what is damaged is refused; the budget holds."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from secureagg.dp.accounting import Guarantee, epsilon
from secureagg.dp.calibration import calibrate_noise
from secureagg.dp.dp_events import BatchSampling, CentralGaussian, DpSgd, PrivacyEvent, QuantileCount
from secureagg.dp.ledger import Debit, Ledger
from secureagg.dp.ledger_file import LedgerFile
from secureagg.dp.noisy_sums import DiscreteGaussianSum
from secureagg.dp.relation import Relation
from secureagg.errors import BudgetExhausted, EncodingError, ParameterError

ZERO_OUT = Relation.ZERO_OUT
BUDGET = (4.0, 1e-5)
ROUND = CentralGaussian(noise_std=0.1, l2_clip=1.0, clients=100, rounds=1, relation=ZERO_OUT)
COUNT = QuantileCount(noise_std=10.0, rounds=1, relation=ZERO_OUT)
SUM = DiscreteGaussianSum(
    noise_std_grid=400.0, honest=70, l2_bound_grid=100.0, dimension=1000, rounds=1, relation=ZERO_OUT
)


def opened(path: Path, *, planned: list[PrivacyEvent] | None = None, unit: str = "") -> Ledger:
    return Ledger(path, BUDGET, ZERO_OUT, planned=planned, unit=unit)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.ledger"


def three_debits(path: Path) -> bytes:
    with opened(path) as ledger:
        for number, event in enumerate((ROUND, COUNT, SUM)):
            ledger.debit(event, f"round {number}")
    return path.read_bytes()


class TestRecords:
    def test_survives_reopening(self, path: Path) -> None:
        three_debits(path)
        with opened(path) as ledger:
            assert list(ledger) == [Debit(ROUND, "round 0"), Debit(COUNT, "round 1"), Debit(SUM, "round 2")]
            assert ledger.spent() == Guarantee(epsilon([ROUND, COUNT, SUM], 1e-5), 1e-5, ZERO_OUT)
            assert ledger.remaining().epsilon == 4.0 - ledger.spent().epsilon

    def test_spent_is_what_dp_accounting_says(self, path: Path) -> None:
        from dp_accounting import GaussianDpEvent, SelfComposedDpEvent, pld

        with opened(path) as ledger:
            for _ in range(3):
                ledger.debit(ROUND)
            direct = pld.PLDAccountant().compose(SelfComposedDpEvent(GaussianDpEvent(10.0), 3))
            assert ledger.spent().epsilon == direct.get_epsilon(1e-5)

    def test_nothing_is_spent_at_first(self, path: Path) -> None:
        with opened(path) as ledger:
            assert (ledger.spent().epsilon, ledger.remaining().epsilon, len(ledger)) == (0.0, 4.0, 0)

    def test_head_names_the_whole_history(self, path: Path, tmp_path: Path) -> None:
        heads = set()
        with opened(path) as ledger:
            for _ in range(3):
                heads.add(ledger.head)
                ledger.debit(ROUND)
            last = ledger.head
        assert len(heads | {last}) == 4
        with opened(path) as ledger:
            assert ledger.head == last

    def test_is_readable_by_its_owner_alone(self, path: Path) -> None:
        opened(path).close()
        assert path.stat().st_mode & 0o777 == 0o600

    def test_every_debit_is_synced_before_it_counts(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[bytes] = []
        ledger, real = opened(path), os.fsync

        def fsync(descriptor: int) -> None:
            synced.append(path.read_bytes())
            assert len(ledger) == 0
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        ledger.debit(ROUND, "first")
        terms, debit = synced  # the first debit fixes the terms
        assert b"first" not in terms and debit == path.read_bytes() and b"first" in debit


class TestCrashes:
    def test_killed_at_random(self, tmp_path: Path) -> None:
        program = Path(__file__).with_name("killed_ledger.py")
        command = [sys.executable, str(program), str(tmp_path), "60", "7"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        kills = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
        assert len(kills) == 60 and kills[-1][1] > 60
        assert all(acknowledged <= found <= acknowledged + 1 for acknowledged, found in kills)

    def test_cut_anywhere(self, path: Path) -> None:
        """A crash within the last append: everything before stays, the torn line goes, or is whole and stays."""
        content = three_debits(path)
        ends = [end for end, byte in enumerate(content, 1) if byte == 0x0A]
        last = len(content) - 80
        for cut in (*range(0, last, 4), *range(last, len(content))):
            path.write_bytes(content[:cut])
            with opened(path) as ledger:
                whole = sum(end <= cut + 1 for end in ends)
                assert len(ledger) == max(0, whole - 1)
                ledger.debit(ROUND, "after")
            with opened(path) as ledger:
                assert [debit.note for debit in ledger][-1] == "after"

    def test_a_write_that_fails_stops_the_ledger(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger, real = opened(path), os.write

        def half(descriptor: int, line: bytes) -> int:
            real(descriptor, line[: len(line) // 2])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", half)
            with pytest.raises(ParameterError, match="No space left"):
                ledger.debit(ROUND)
        with pytest.raises(ParameterError, match="failed before"):
            ledger.debit(ROUND)
        ledger.close()
        with opened(path) as again:
            assert len(again) == 0
            again.debit(ROUND)


class TestDamage:
    def test_any_changed_byte(self, path: Path) -> None:
        content = three_debits(path)
        for position in range(0, len(content), 3):
            for changed in (content[position] ^ 1, 0x0A, 0x00):
                if changed != content[position]:
                    path.write_bytes(content[:position] + bytes([changed]) + content[position + 1 :])
                    with pytest.raises((EncodingError, ParameterError)):
                        opened(path)

    def test_the_last_line_feed(self, path: Path) -> None:
        content = three_debits(path)
        for changed in (b"x", b" ", b"\0", b"\r"):
            path.write_bytes(content[:-1] + changed)
            with pytest.raises(EncodingError, match="no crash leaves"):
                opened(path)

    def test_a_line_removed_repeated_or_moved(self, path: Path) -> None:
        first, second, third, fourth = three_debits(path).splitlines(keepends=True)
        for lines in ((first, third, fourth), (first, second, second), (first, third, second), (second, third)):
            path.write_bytes(b"".join(lines))
            with pytest.raises(EncodingError):
                opened(path)

    def test_a_line_in_another_spelling(self, path: Path) -> None:
        content = three_debits(path)
        path.write_bytes(content.replace(b'{"body":', b'{ "body":', 2))
        with pytest.raises(EncodingError, match="line 1"):
            opened(path)

    def test_another_file(self, path: Path) -> None:
        for content in (b"epsilon: 1\n", b"\n", b"\x00" * 100, b"[]\n", b"PK\x03\x04"):
            path.write_bytes(content)
            with pytest.raises(EncodingError):
                opened(path)
            assert path.read_bytes() == content


class TestBudget:
    def test_admits_until_the_renyi_budget_is_gone(self, path: Path) -> None:
        with opened(path) as ledger:
            while ledger.affords(ROUND):
                ledger.debit(ROUND)
            before = path.read_bytes()
            with pytest.raises(BudgetExhausted, match="order"):
                ledger.debit(ROUND)
            assert path.read_bytes() == before
            assert 3.4 < ledger.spent().epsilon <= 4.0
            count = len(ledger)
        with opened(path) as ledger:
            assert len(ledger) == count
            assert not ledger.affords(ROUND)

    def test_a_smaller_event_may_still_fit(self, path: Path) -> None:
        with opened(path) as ledger:
            ledger.debit(replace(ROUND, noise_std=0.02))
            assert not ledger.affords(replace(ROUND, noise_std=0.01))
            ledger.debit(COUNT)

    def test_the_order_is_fixed_before_the_first_event(self, path: Path) -> None:
        """A sum of bests over orders would admit more than any one order does."""
        with opened(path) as ledger:
            ledger.debit(ROUND)
        header = path.read_text().splitlines()[0]
        assert '"filter":{"bound":' in header and '"order":' in header

    def test_a_plan_may_spend_the_whole_budget_by_loss_distributions(self, path: Path) -> None:
        def training(noise: float) -> CentralGaussian:
            return replace(ROUND, noise_std=noise, rounds=60)

        planned = training(calibrate_noise(BUDGET[0], BUDGET[1], training))
        with opened(path, planned=[planned]) as ledger:
            for _ in range(3):
                ledger.debit(replace(planned, rounds=20))
            assert 3.95 < ledger.spent().epsilon <= 4.0
            with pytest.raises(BudgetExhausted, match="61 > 60 planned"):
                ledger.debit(replace(planned, rounds=1))
            with pytest.raises(BudgetExhausted, match="1 > 0 planned"):
                ledger.debit(replace(planned, rounds=1, noise_std=90.0))

    def test_parts_of_epochs_are_not_cheaper_than_the_plan(self, path: Path) -> None:
        def shuffled(multiplier: float, steps: int = 20, passes: int = 2) -> DpSgd:
            return DpSgd(
                noise_multiplier=multiplier,
                expected_batch=100,
                examples=1000,
                steps=steps,
                relation=ZERO_OUT,
                sampling=BatchSampling.FIXED_SIZE,
                passes=passes,
            )

        multiplier = calibrate_noise(BUDGET[0], BUDGET[1], shuffled)
        with opened(path, planned=[shuffled(multiplier)]) as ledger:
            ledger.debit(shuffled(multiplier, 5, 1))
            ledger.debit(shuffled(multiplier, 5, 1))
            with pytest.raises(BudgetExhausted, match="3 > 2 planned"):
                ledger.debit(shuffled(multiplier, 10, 1))

    def test_a_plan_beyond_the_budget(self, path: Path) -> None:
        for planned, said in (([replace(ROUND, rounds=1000)], "> budget"), ([], "no events")):
            with pytest.raises(ParameterError, match=said):
                opened(path, planned=planned)
        assert not path.exists()

    def test_truncated_batches_have_a_share_of_delta(self, path: Path) -> None:
        step = DpSgd(noise_multiplier=2.0, expected_batch=50, examples=5000, steps=10, relation=ZERO_OUT)
        with opened(path) as ledger:
            ledger.debit(replace(step, truncation_probability=1e-12))
            with pytest.raises(BudgetExhausted, match="truncated batches"):
                ledger.debit(replace(step, truncation_probability=1e-9))


class TestRejects:
    def test_another_relation(self, path: Path) -> None:
        with opened(path) as ledger:
            for ask in (ledger.debit, ledger.affords):
                with pytest.raises(ParameterError, match="this ledger is for zero-out"):
                    ask(replace(ROUND, relation=Relation.REPLACE))
            assert len(ledger) == 0

    def test_who_only_asks_fixes_no_terms(self, path: Path) -> None:
        with opened(path, unit="hospital") as ledger:
            assert ledger.affords(ROUND)
        with opened(path, planned=[ROUND], unit="clinic") as ledger:
            ledger.debit(ROUND)

    def test_other_terms(self, path: Path) -> None:
        with opened(path, unit="hospital") as ledger:
            ledger.debit(ROUND)
        for terms, said in (
            (((8.0, 1e-5), ZERO_OUT, "hospital"), "epsilon"),
            (((4.0, 1e-6), ZERO_OUT, "hospital"), "delta"),
            (((4.0, 1e-5), Relation.REPLACE, "hospital"), "relation"),
            (((4.0, 1e-5), ZERO_OUT, "clinic"), "unit"),
        ):
            with pytest.raises(ParameterError, match=rf"other terms \(.*{said}"):
                Ledger(path, terms[0], terms[1], unit=terms[2])
        with pytest.raises(ParameterError, match="filter"):
            opened(path, planned=[ROUND], unit="hospital")

    def test_another_format_version(self, path: Path) -> None:
        three_debits(path)
        with closing(LedgerFile(path)) as file:
            terms, *debits = file.bodies
        path.unlink()
        with closing(LedgerFile(path)) as file:
            for body in ({**terms, "version": 1}, *debits):
                file.append(body)
        with pytest.raises(EncodingError, match=r"format version 1, and this library reads version 2; open it with"):
            opened(path)

    @pytest.mark.parametrize("budget", [(0.0, 1e-5), (float("nan"), 1e-5), (1.0, 0.0), (1.0, 1.0), (float("inf"), 0.1)])
    def test_a_budget_that_is_none(self, path: Path, budget: tuple[float, float]) -> None:
        with pytest.raises(ParameterError, match=r"epsilon|delta|ε"):
            Ledger(path, budget, ZERO_OUT)
        assert not path.exists()

    @pytest.mark.parametrize("note", ["x" * 201, "a\nb", "\x00", None, 3.14])
    def test_a_note_that_is_none(self, path: Path, note: str) -> None:
        with opened(path) as ledger, pytest.raises(ParameterError, match="note"):
            ledger.debit(ROUND, note)

    def test_a_second_holder(self, path: Path) -> None:
        with opened(path):
            with pytest.raises(ParameterError, match="open elsewhere"):
                opened(path)
            code = (
                "import sys; from secureagg.dp.ledger import Ledger; from secureagg.dp.relation import Relation\n"
                "try: Ledger(sys.argv[1], (4.0, 1e-5), Relation.ZERO_OUT)\n"
                "except Exception as error: print(type(error).__name__, 'open elsewhere' in str(error))"
            )
            done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
            assert done.stdout == "ParameterError True\n", done.stderr
        opened(path).close()

    def test_a_closed_one_and_a_forked_one(self, path: Path) -> None:
        ledger = opened(path)
        child = os.fork()
        if child == 0:
            try:
                ledger.debit(ROUND)
            except ParameterError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ledger.close()
        with pytest.raises(ParameterError, match="closed"):
            ledger.debit(ROUND)

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="cannot be used"):
            opened(tmp_path / "none" / "a.ledger")
