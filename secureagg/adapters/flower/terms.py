"""Terms: what the server plans rounds with, and the least that a node accepts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from secureagg.checks import require_between, require_whole
from secureagg.dp.mechanisms import Mechanism
from secureagg.errors import ParameterError
from secureagg.layout import Layout
from secureagg.plan import MAX_VALUES, Committee, RoundPlan

__all__ = ["Terms", "metric_unit", "update_clip"]

# A metric's coordinate is at most an eighth of the largest value, or where vectors are rotated of the clip: three bits
# less of resolution than values have, and a bound on the whole vector that is hardly longer than the clip.
_METRIC_SHARE = 8


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Settings of private rounds, the same text on server and nodes.

    quorum, l2_clip, value_bits, value_bound, committee, assumed_corrupt_clients, proofs, rotate: as in `RoundPlan`,
    whose clients are each round's cohort. l2_clip is that of the update; what a metric adds to the vector comes on top.
    noise: a mechanism (`sa.DistributedGaussian`, …), sized for that whole vector; its `rounds` are those of all runs
    together that train on the same examples. It needs max_weight=1.
    max_weight: the largest `weighted_by`; 1 counts every client alike, whatever it reports.
    weighted_by: the strategy's `weighted_by_key`, a whole number that the app reports as a metric.
    metrics: further metrics that the app reports, such as a loss, each with the largest magnitude it may have (larger
    ones are clamped). Their weighted means are revealed, as coordinates of the sum. All others stay on the node.
    max_values: the most values, with metrics, that a model may have. A committee member makes as much noise as the
    plan says, of a model that it has not seen; this bounds what a server can make it allocate.

    Raises: ParameterError; from `plan` if no plan fits.
    """

    l2_clip: float
    max_weight: int
    quorum: int
    committee: Committee
    value_bits: int = 16
    value_bound: float | None = None
    assumed_corrupt_clients: int = 0
    proofs: bool = False
    noise: Mechanism | None = None
    rotate: bool = False
    weighted_by: str = "num-examples"
    metrics: Mapping[str, float] = field(default_factory=dict)
    max_values: int = 2**28

    def __post_init__(self) -> None:
        if self.quorum < self.assumed_corrupt_clients + 2:
            raise ParameterError(
                f"quorum ≥ 2 + assumed_corrupt_clients fails: {self.quorum} < 2 + {self.assumed_corrupt_clients}"
            )
        require_whole("max_values", self.max_values, 1, MAX_VALUES)
        if self.weighted_by in self.metrics:
            raise ParameterError(f"{self.weighted_by!r} is the weight, whose sum is revealed anyway; not a metric")
        for name, bound in self.metrics.items():
            require_between(f"the bound of metric {name!r}", bound, 1e-100, 1e100)

    def plan(self, model: Layout, clients: int) -> RoundPlan:
        """Return the plan of a round over a cohort of this size, of models of this layout.

        Raises: ParameterError if none fits.
        """
        if (values := self.layout(model).size) > self.max_values:
            raise ParameterError(f"the model has {values} values, max_values is {self.max_values}; raise it")
        return RoundPlan(
            layout=self.layout(model),
            clients=clients,
            quorum=self.quorum,
            l2_clip=self._vector_clip,
            value_bits=self.value_bits,
            value_bound=self._bound,
            committee=self.committee,
            assumed_corrupt_clients=self.assumed_corrupt_clients,
            max_weight=self.max_weight,
            proofs=self.proofs,
            noise=self.noise,
            rotate=self.rotate,
        )

    @property
    def _bound(self) -> float | None:
        """The plan's value_bound: with metrics not the longer clip of the whole vector, so values keep resolution."""
        return self.l2_clip if self.metrics and self.value_bound is None and not self.rotate else self.value_bound

    @property
    def _vector_clip(self) -> float:
        """The plan's l2_clip, of update and metrics together."""
        if not self.metrics:
            return self.l2_clip
        unit = (self.l2_clip if self._bound is None or self.rotate else self._bound) / _METRIC_SHARE
        return math.hypot(self.l2_clip, unit * math.sqrt(len(self.metrics)))

    def layout(self, model: Layout) -> Layout:
        """Return the layout of what is summed: the model's, and a tensor of the metrics if there are any."""
        if not self.metrics:
            return model
        return Layout((*model.shapes, (len(self.metrics),)), (*model.dtypes, "float64"))

    def accept(self, plan: RoundPlan) -> None:
        """Return None if a plan from the server offers this node no less than these terms.

        Raises: ParameterError with the first that is less.
        """
        mine = self.committee
        floors = [
            ("quorum", plan.quorum, self.quorum),
            ("assumed_corrupt_clients", plan.assumed_corrupt_clients, self.assumed_corrupt_clients),
            ("committee.size", plan.committee.size, mine.size),
            ("committee.threshold", plan.committee.members_needed, mine.members_needed),
            ("committee.assumed_corrupt", plan.committee.colluding, mine.colluding),
            ("proofs", plan.proofs, self.proofs),
        ]
        for name, offered, asked in floors:
            if offered < asked:
                raise ParameterError(f"the server's plan has {name} {offered}, this node asks for at least {asked}")
        if plan.layout.size > self.max_values:
            raise ParameterError(
                f"the server's plan has {plan.layout.size} values, this node asks for at most {self.max_values}"
            )
        if mine.mode == "robust" and plan.committee.mode != "robust":
            raise ParameterError("the server's plan has an optimistic committee, this node asks for a robust one")
        if plan.max_weight != self.max_weight:
            raise ParameterError(
                f"the server's plan has max_weight {plan.max_weight}, this node asks for {self.max_weight}"
            )
        self._accept_noise(plan)
        if (clip := update_clip(plan, len(self.metrics))) > self.l2_clip * (1 + 1e-12):
            raise ParameterError(f"the server's plan has l2_clip {clip}, this node asks for at most {self.l2_clip}")

    def _accept_noise(self, plan: RoundPlan) -> None:
        """Return None if a plan's noise is what these terms ask for; that it costs at most their ε, the plan checks."""
        offered, asked = _named(plan, plan.noise), _named(plan, self.noise)
        if offered != asked:
            raise ParameterError(f"the server's plan has {offered}, this node asks for {asked}")
        if plan.noise is not None and self.noise is not None and self.noise.noise_std_grid is not None:
            self._accept_std(plan, plan.noise.std, self.noise.noise_std_grid)
        if plan.rotate != self.rotate:
            raise ParameterError(f"the server's plan has rotate {plan.rotate}, this node asks for {self.rotate}")

    def _accept_std(self, plan: RoundPlan, offered: float, asked: float) -> None:
        """Return None if noise that is so many of a plan's grid steps is no less beside the clip than these terms ask.

        A plan may have a finer grid than the terms: what protects is the noise's ratio to the clip, in whatever steps.
        """
        grid = replace(plan, noise=None, l2_clip=self._vector_clip, value_bits=self.value_bits, value_bound=self._bound)
        if (std := offered / plan.clip_grid * grid.clip_grid) < asked * (1 - 1e-12):
            raise ParameterError(
                f"the server's plan has noise_std_grid {std:.6g} in this node's grid, this node asks for {asked:.6g}"
            )


def _named(plan: RoundPlan, noise: Mechanism | None) -> str:
    """Return a mechanism in such a plan, but for how much noise that is: what two parties compare."""
    if noise is None:
        return "no noise"
    by = noise.added_by(proofs=plan.proofs, members=plan.committee.size)
    return (
        f"{type(noise).__name__}(epsilon={float(noise.epsilon)}, delta={float(noise.delta)}, rounds={noise.rounds}, "
        f"noise_by={by!r})"
    )


def metric_unit(plan: RoundPlan, metrics: int) -> float:
    """Return what a metric at its bound is as a coordinate, in the update's units, in a plan with so many metrics."""
    if plan.rotate:  # no coordinate is bounded by itself; the whole vector's clip is √(l2_clip² + metrics · unit²)
        return plan.l2_clip / math.sqrt(_METRIC_SHARE**2 + metrics)
    return plan.quantiser.bound / _METRIC_SHARE


def update_clip(plan: RoundPlan, metrics: int) -> float:
    """Return the L2 clip of the update alone, in a plan whose vector ends with so many metrics."""
    if not metrics:
        return plan.l2_clip
    return math.sqrt(max(0.0, plan.l2_clip**2 - metrics * metric_unit(plan, metrics) ** 2))
