"""What a run is said to have come to: over which rounds, on which side, and how many of what."""

from __future__ import annotations

import pytest

import fl_core
from fl_core import STAGES, RoundResult
from secureagg.cli.demo.experiment import Lane
from secureagg.cli.demo.figures import Comparison, Figures, of_lane
from secureagg.cli.demo.occasions import Occasion
from secureagg.cli.demo.page import unfolding
from secureagg.cli.demo.settings import DatasetName, ModelName, OneShotSettings, PartitionChoice, Scheme, Settings
from secureagg.cli.demo.wording import comparison_rows, headline, late_title

SECONDS = dict.fromkeys(STAGES, 0.5)


def lane(name: str, *accuracies: float) -> Lane:
    results = [
        RoundResult(number, (0,), {}, {"accuracy": accuracy, "loss": 1.0}, {0: 1.0}, {0: 9}, {0: 9}, SECONDS, SECONDS)
        for number, accuracy in enumerate(accuracies, 1)
    ]
    return Lane(name, fl_core.PlainMean(), results=results)


def figures(plain: list[float], private: list[float] | None) -> Figures:
    in_the_clear = of_lane(lane("plain", *plain))
    encrypted = None if private is None else of_lane(lane("private", *private))
    points = 0.0 if encrypted is None else 100 * (encrypted.late_accuracy - in_the_clear.late_accuracy)
    settings = Settings(
        clients=1, rounds=len(plain), dataset=DatasetName.DIGITS, data_dir=None, partition=PartitionChoice("iid"),
        scheme=Scheme.ONE_SHOT, encryption=OneShotSettings(1.0, 8, 5, 1), model=ModelName.MLP, seed=0,
        drop=Occasion.TRAINING.value.drop,
    )  # fmt: skip
    return Figures(
        version="", settings=settings, versions={}, model_values=1, local_training=settings.local_training,
        holdings=((1,),), parameters=None, key_bytes=None, plain=in_the_clear, private=encrypted, floating=None,
        comparison=encrypted and Comparison(points, None, None, 0, 12.0, 1.0, {}, 3.0), privacy=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("plain", "private", "said"),
    [
        ([0.1, *[0.8] * 5], [0.1, *[0.9] * 5], "90.0% accuracy (mean of the last five rounds), 10.0 points above that"),
        ([0.9, 0.9], [0.8, 0.9], "85.0% accuracy (mean of the last two rounds), 5.0 points below that in the clear,"),
        ([0.9], [0.9004], "90.0% accuracy (last round), the same as in the clear, for 12× the upload and 3.00× the"),
        ([0.9], None, "Trained in the clear to 90.0% accuracy (last round)."),
    ],
)
def test_headline_says_what_is_compared_and_which_is_better(
    plain: list[float], private: list[float] | None, said: str
) -> None:
    assert said in headline(figures(plain, private))


def test_the_table_names_as_many_rounds_as_there_were() -> None:
    names = [row.name for row in comparison_rows(figures([0.5] * 3, [0.5] * 3))[0]]
    assert names == ["accuracy, last round", "accuracy, mean of the last three rounds"]


def test_trainings_that_ended_in_different_rounds() -> None:
    lanes = [of_lane(lane("honest", *[0.5] * count)) for count in (7, 2)]
    assert late_title(lanes) == "mean of the last rounds, five at most"


@pytest.mark.parametrize(("count", "said"), [(1, "1 client"), (3, "3 clients")])
def test_a_folded_table_says_what_its_rows_are(count: int, said: str) -> None:
    assert f"<summary>{said}</summary>" in unfolding("client", ["client"], [("0",)] * count)
