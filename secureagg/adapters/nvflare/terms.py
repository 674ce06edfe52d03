"""What the parties of a job agree on beside the model and the sites, and models as NVFlare has them: by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.mechanisms import Mechanism, mechanism_from_json
from secureagg.errors import ParameterError
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan

__all__ = ["COLLECTED", "PINNED", "Model", "Terms", "by_name", "require_model", "tensors"]

PINNED, COLLECTED = "pinned", "collected"

Model = Mapping[str, NDArray[np.floating[Any]]]
"""A model or an update: tensors by name. Their order is that of the names, whatever the mapping's own."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of a job, the same at every party; they travel with the job, which its submitter signs.

    committee: names of the sites that hold shares of one-time keys; threshold, assumed_corrupt: as in `Committee`.
    quorum, l2_clip, value_bits, value_bound, max_weight, assumed_corrupt_clients, proofs, parameters: as in
    `RoundPlan`. With max_weight 1 every site counts alike; above, a site's weight is its number of local steps.
    noise: a mechanism (`sa.DistributedGaussian`, …) whose `rounds` are those of all jobs together that train on the
    same examples; kept as its JSON fields. Weights are uniform then.
    roster: "pinned", and a site without a roster file of its own takes no part; "collected", and such a site takes the
    roster the server hands out at the start of the job: whoever runs the server then could be every other site.

    Raises: ParameterError for what is no kind of roster or mechanism; what no plan allows is refused by `plan`.
    """

    committee: Sequence[str]
    quorum: int
    l2_clip: float
    value_bits: int = 16
    value_bound: float | None = None
    max_weight: int = 1
    threshold: int | None = None
    assumed_corrupt: int | None = None
    assumed_corrupt_clients: int = 0
    proofs: bool = False
    parameters: str = "auto"
    noise: Mechanism | Mapping[str, object] | None = None
    roster: str = PINNED

    def __post_init__(self) -> None:
        object.__setattr__(self, "committee", list(self.committee))  # a list, as it comes back from a job's JSON
        if len(set(self.committee)) != len(self.committee):
            raise ParameterError(f"committee {list(self.committee)}: every site stands once")
        if self.noise is not None and not isinstance(self.noise, Mapping):
            object.__setattr__(self, "noise", self.noise.to_json())
        self.mechanism()
        if self.roster not in (PINNED, COLLECTED):
            raise ParameterError(f"roster is {PINNED!r} or {COLLECTED!r}, not {self.roster!r}")

    def mechanism(self) -> Mechanism | None:
        """Return the noise the terms ask for. Raises: ParameterError if they ask for what is none."""
        if self.noise is None or not isinstance(self.noise, Mapping):
            return self.noise
        try:
            return mechanism_from_json(self.noise)
        except (KeyError, TypeError, ValueError) as error:
            raise ParameterError(f"noise is no mechanism, or the JSON fields of one: {error}") from error

    def electorate(self) -> Committee:
        """Return the committee as the plan has it. Raises: ParameterError."""
        return Committee(len(self.committee), self.threshold, self.assumed_corrupt)

    def plan(self, layout: Layout, clients: int) -> RoundPlan:
        """Return the plan of a round over this many sites. Raises: ParameterError."""
        return RoundPlan(
            layout=layout,
            clients=clients,
            quorum=self.quorum,
            l2_clip=self.l2_clip,
            value_bits=self.value_bits,
            value_bound=self.value_bound,
            max_weight=self.max_weight,
            committee=self.electorate(),
            assumed_corrupt_clients=self.assumed_corrupt_clients,
            proofs=self.proofs,
            parameters=self.parameters,
            noise=self.mechanism(),
        )


def require_model(model: object) -> dict[str, NDArray[np.floating[Any]]]:
    """Return the tensors of `model`, numpy scalars as arrays; raise ParameterError unless all are floats with names."""
    if not isinstance(model, Mapping) or not model:
        raise ParameterError("the model is not a mapping of names to numpy arrays, or empty")
    for name, tensor in model.items():
        if not isinstance(name, str):
            raise ParameterError("a tensor's name is not a string")
        if not isinstance(tensor, np.ndarray | np.generic) or tensor.dtype.kind != "f":
            kind = tensor.dtype.name if isinstance(tensor, np.ndarray | np.generic) else type(tensor).__name__
            raise ParameterError(f"tensor {name!r} is of {kind}; only numpy arrays of floats can be averaged")
    return {name: np.asarray(tensor) for name, tensor in model.items()}  # what was () may be a scalar after a sum


def tensors(model: Model) -> list[NDArray[np.floating[Any]]]:
    """Return the tensors in the order of their names. Requires: `require_model(model)` passed."""
    return [model[name] for name in sorted(model)]


def by_name(names: Iterable[str], ordered: Sequence[NDArray[np.floating[Any]]]) -> dict[str, NDArray[np.floating[Any]]]:
    """Return under their names what stands in the order of `tensors` of a model with these names."""
    return dict(zip(sorted(names), ordered, strict=True))
