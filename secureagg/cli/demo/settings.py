"""What a demo run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from secureagg.errors import ParameterError

__all__ = [
    "DP_SGD",
    "Attack",
    "AttackSettings",
    "DatasetName",
    "DpSgdTraining",
    "LocalTraining",
    "ModelName",
    "OneShotSettings",
    "PartitionChoice",
    "PrivacySettings",
    "Scheme",
    "Settings",
    "TensealSettings",
    "Unit",
]


class Scheme(StrEnum):
    """How updates are summed."""

    ONE_SHOT = "one-shot"
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
class OneShotSettings:
    """Of the one-shot scheme.

    l2_clip: largest L2 norm of an update, in weights' own units; larger ones are scaled down to it
    value_bits: bits of a value on the grid that reaches from -l2_clip to l2_clip
    members, absent_members: size of the committee, and how many of it never answer
    proofs: whether every contribution is proven to be well-formed and within the clip
    """

    l2_clip: float
    value_bits: int
    members: int
    absent_members: int
    proofs: bool = False


@dataclass(frozen=True)
class TensealSettings:
    """Of CKKS under one key pair.

    magnitude: largest |value| of an update that is taken, in weights' own units
    precision: largest error of a round's mean, in the same units
    """

    magnitude: float
    precision: float


class Unit(StrEnum):
    """Whose data a guarantee is about."""

    CLIENT = "client"
    EXAMPLE = "example"


@dataclass(frozen=True)
class PrivacySettings:
    """A budget of differential privacy: (ε, δ) for `rounds` rounds together, after which training stops.

    unit: one client, by noise in the encrypted sum; or one example of a client, by DP-SGD in that client's training
    """

    unit: Unit
    epsilon: float
    delta: float
    rounds: int


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's figures.

    encryption: what the scheme needs to know; None if it is plain
    drop: probability that a client vanishes in a round, before training or before sending
    privacy: None if the mean is exact
    """

    clients: int
    rounds: int
    dataset: DatasetName
    data_dir: Path | None
    partition: PartitionChoice
    scheme: Scheme
    encryption: OneShotSettings | TensealSettings | None
    model: ModelName
    seed: int
    drop: float
    privacy: PrivacySettings | None = None

    @property
    def local_training(self) -> LocalTraining:
        """What clients do in the clear and, unless they use DP-SGD, in private."""
        by_unit = self.privacy is not None and self.privacy.unit is Unit.CLIENT
        return (_OF_MANY_CLIENTS if by_unit else _LOCAL_TRAINING)[self.dataset]


class Attack(StrEnum):
    """What malicious clients do."""

    NONE = "none"
    SCALE = "scale"
    NOISE = "noise"
    NAN = "nan"
    REPLAY = "replay"
    WRONG_SHARES = "wrong-shares"


@dataclass(frozen=True)
class AttackSettings:
    """An attack on a run.

    clients: who is malicious, a minority drawn by the run's seed
    """

    kind: Attack
    clients: tuple[int, ...]


@dataclass(frozen=True)
class LocalTraining:
    """What each client does in a round: plain SGD."""

    epochs: int
    batch_size: int
    learning_rate: float = 0.1


@dataclass(frozen=True)
class DpSgdTraining:
    """What each client does in a round of DP-SGD: `steps` steps on Poisson batches of `batch` expected examples.

    l2_clip: of an example's gradient
    """

    steps: int
    batch: int
    learning_rate: float
    l2_clip: float = 1.0


_LOCAL_TRAINING = {
    DatasetName.DIGITS: LocalTraining(epochs=2, batch_size=16),
    DatasetName.BREAST_CANCER: LocalTraining(epochs=2, batch_size=16),
    DatasetName.MNIST: LocalTraining(epochs=1, batch_size=32),
}
# Noise in the sum asks for many clients, who then have few examples each, and for few rounds that go far.
_OF_MANY_CLIENTS = {
    DatasetName.DIGITS: LocalTraining(epochs=4, batch_size=8, learning_rate=0.5),
    DatasetName.BREAST_CANCER: LocalTraining(epochs=2, batch_size=8),
    DatasetName.MNIST: LocalTraining(epochs=1, batch_size=32, learning_rate=0.4),
}
DP_SGD = {
    DatasetName.DIGITS: DpSgdTraining(steps=4, batch=72, learning_rate=1.0),
    DatasetName.BREAST_CANCER: DpSgdTraining(steps=4, batch=32, learning_rate=0.5),
    DatasetName.MNIST: DpSgdTraining(steps=5, batch=128, learning_rate=2.0),
}
