"""What a demo run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from secureagg.errors import ParameterError

__all__ = ["LOCAL_TRAINING", "DatasetName", "LocalTraining", "ModelName", "PartitionChoice", "Scheme", "Settings"]


class Scheme(StrEnum):
    """How updates are summed."""

    TENSEAL = "tenseal"
    PLAIN = "plain"


class DatasetName(StrEnum):
    DIGITS = "digits"
    BREAST_CANCER = "breast-cancer"
    MNIST = "mnist"


class ModelName(StrEnum):
    CNN = "cnn"
    MLP = "mlp"


@dataclass(frozen=True)
class PartitionChoice:
    """How examples are spread over clients: `iid`, `dirichlet:ALPHA` or `shards:LABELS`, as `parse` reads it."""

    kind: str
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> PartitionChoice:
        """Read one of the three forms. Raises: ParameterError for anything else."""
        kind, colon, value = text.partition(":")
        try:
            if kind == "iid" and not colon:
                return cls(kind)
            if kind == "dirichlet" and float(value) > 0:
                return cls(kind, float(value))
            if kind == "shards" and int(value) > 0:
                return cls(kind, int(value))
        except ValueError as error:
            raise ParameterError(f"{text!r}: {value!r} is not a number; write {_FORMS}") from error
        raise ParameterError(f"{text!r} is not a partition; write {_FORMS}")

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}:{self.value:g}"


_FORMS = "iid, dirichlet:0.5 (any number > 0) or shards:2 (any whole number > 0)"


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's figures.

    magnitude: largest |value| of an update that is taken, in weights' own units
    precision: largest error of a round's mean, in the same units
    drop: probability that a client vanishes in a round, before training or before sending
    """

    clients: int
    rounds: int
    dataset: DatasetName
    data_dir: Path | None
    partition: PartitionChoice
    scheme: Scheme
    model: ModelName
    seed: int
    magnitude: float
    precision: float
    drop: float


@dataclass(frozen=True)
class LocalTraining:
    """What each client does in a round: plain SGD."""

    epochs: int
    batch_size: int
    learning_rate: float = 0.1


LOCAL_TRAINING = {
    DatasetName.DIGITS: LocalTraining(epochs=2, batch_size=16),
    DatasetName.BREAST_CANCER: LocalTraining(epochs=2, batch_size=16),
    DatasetName.MNIST: LocalTraining(epochs=1, batch_size=32),
}
