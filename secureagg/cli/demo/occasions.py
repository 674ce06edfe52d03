"""What a demo run is for, and the defaults that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from secureagg.cli.demo.settings import DatasetName, ModelName

__all__ = ["DEFAULT_DELTA", "Defaults", "Occasion", "default_model"]

DEFAULT_DELTA = 1e-5


@dataclass(frozen=True)
class Defaults:
    """What an option is if it is not given. A model of None follows from the data."""

    clients: int
    rounds: int
    partition: str
    model: ModelName | None
    drop: float
    l2_clip: float
    value_bits: int


class Occasion(Enum):
    """Why somebody runs the demo."""

    TRAINING = Defaults(10, 40, "dirichlet:0.5", None, 0.3, 10.0, 16)
    ATTACK = Defaults(10, 15, "dirichlet:0.5", None, 0.0, 10.0, 16)
    # Noise in the sum is shared by all clients, and its length grows with the model: many clients, a small model. The
    # grid may be coarse, since its steps are far below the noise.
    CLIENT_PRIVACY = Defaults(100, 20, "iid", ModelName.MLP, 0.1, 1.0, 8)
    # Noise in each client's training asks for many examples a client.
    EXAMPLE_PRIVACY = Defaults(10, 30, "iid", ModelName.MLP, 0.1, 30.0, 16)


def default_model(occasion: Occasion, dataset: DatasetName) -> ModelName:
    """Return the model: the occasion's, or a small CNN for images."""
    of_data = ModelName.MLP if dataset is DatasetName.BREAST_CANCER else ModelName.CNN
    return occasion.value.model or of_data
