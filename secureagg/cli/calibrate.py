"""`secureagg calibrate`: the noise that a target ε needs, or the ε that a given noise costs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from secureagg.cli.failures import reported
from secureagg.cli.options import L2_CLIP, VALUE_BITS, DebugOption, JsonOption, flag, option, refuse_given
from secureagg.dp.accounting import HIGHEST_EPSILON, accountant, epsilon
from secureagg.dp.calibration import calibrate_noise
from secureagg.dp.client_sampling import Adversary
from secureagg.dp.dp_events import MAX_TRUNCATION_PROBABILITY, BatchSampling, CentralGaussian, DpSgd, PrivacyEvent
from secureagg.dp.mechanisms import DistributedGaussian, Exposure, Skellam
from secureagg.dp.noisy_sums import honest_contributors
from secureagg.dp.quantise import Quantiser
from secureagg.dp.relation import Relation
from secureagg.dp.rotation import clip_in_steps
from secureagg.errors import ParameterError

__all__ = ["calibrate"]


class Mechanism(StrEnum):
    DP_SGD = "dp-sgd"
    CENTRAL = "central"
    DISCRETE_GAUSSIAN = "discrete-gaussian"
    SKELLAM = "skellam"


_DP_SGD, _CLIENTS, _GRID = "With dp-sgd", "With central, discrete-gaussian, skellam", "With discrete-gaussian, skellam"
_NOISE = (
    "Find the ε of this noise: dp-sgd: std ÷ clip; central: std on the mean; otherwise the std of one contributor's "
    "noise, in grid steps."
)
_QUORUM = (
    "Fewest noise contributions (clients', or committee members') in a sum that is opened; by default all clients, "
    "that is, none drops out."
)
_SUMS: dict[Mechanism, type[DistributedGaussian] | type[Skellam]] = {
    Mechanism.DISCRETE_GAUSSIAN: DistributedGaussian,
    Mechanism.SKELLAM: Skellam,
}
_USED_BY: dict[str, tuple[Mechanism, ...]] = {
    **dict.fromkeys(("examples", "batch", "epochs", "sampling"), (Mechanism.DP_SGD,)),
    **dict.fromkeys(("clients", "rounds", "l2_clip"), (Mechanism.CENTRAL, *_SUMS)),
    **dict.fromkeys(("quorum", "assumed_corrupt", "value_bits", "values", "rotate", "proofs"), tuple(_SUMS)),
}
_ALIASES = {"target_epsilon": "--epsilon"} | dict.fromkeys(
    ("noise_std", "noise_std_grid", "noise_multiplier"), "--noise"
)
_AGAINST = {
    Adversary.PARTICIPANTS: "participants, the aggregator among them",
    Adversary.RECIPIENTS: "who sees the noisy means; not the aggregator, which adds the noise",
}


@dataclass(frozen=True)
class Calibration:
    """The answer, as `--json` prints it. ε is never without δ, relation and whom it holds against.

    noise: for dp-sgd, the multiplier (std of the noise on the summed gradients ÷ the clip); for central, the std of the
    noise on the mean; otherwise the std of one contributor's noise, in grid steps. mean_noise_std: what each value of
    the mean gets, in the update's units (None for dp-sgd). contributors: honest ones whose noise is counted.
    """

    mechanism: str
    protects: str
    relation: str
    adversary: Adversary
    epsilon: float
    delta: float
    noise: float
    noise_is: str
    releases: int
    accountant: str
    mean_noise_std: float | None
    contributors: int | None
    grid_step: float | None


@dataclass(frozen=True)
class _Setting:
    """A mechanism with everything fixed but its noise."""

    make_event: Callable[[float], PrivacyEvent]
    find: Callable[[float], float]  # the noise for a target ε
    noise_is: str
    mean_noise_std: Callable[[float], float] | None = None
    contributors: int | None = None
    grid_step: float | None = None


def calibrate(
    context: typer.Context,
    mechanism: Annotated[Mechanism, typer.Argument(help="Where the noise is added.")],
    target: Annotated[
        float | None, typer.Option("--epsilon", metavar="E", help="Find the least noise with at most this ε.")
    ] = None,
    noise: Annotated[float | None, option("X", _NOISE)] = None,
    delta: Annotated[float, option("D", "δ; well below 1 ÷ the number of units protected.")] = 1e-5,
    relation: Annotated[
        Relation, typer.Option(help="Neighbouring relation; noise in sums is for zero-out.")
    ] = Relation.ZERO_OUT,
    examples: Annotated[int, option("N", "Examples a client trains on.", _DP_SGD)] = 60_000,
    batch: Annotated[int, option("N", "Expected batch.", _DP_SGD)] = 256,
    epochs: Annotated[float, option("X", "Epochs over all rounds of training.", _DP_SGD)] = 10.0,
    sampling: Annotated[
        BatchSampling,
        typer.Option(help="How batches are really drawn; fixed-size earns no amplification.", rich_help_panel=_DP_SGD),
    ] = BatchSampling.POISSON,
    clients: Annotated[int, option("N", "Clients counted in the mean of a round.", _CLIENTS)] = 100,
    rounds: Annotated[int, option("N", "Rounds a client may be in.", _CLIENTS)] = 100,
    l2_clip: Annotated[float, option("X", L2_CLIP, _CLIENTS)] = 1.0,
    quorum: Annotated[int | None, option("N", _QUORUM, _GRID)] = None,
    assumed_corrupt: Annotated[int, option("C", "Contributors that may add no noise.", _GRID)] = 0,
    value_bits: Annotated[int, option("B", VALUE_BITS, _GRID)] = 16,
    values: Annotated[int, option("N", "Values in an update.", _GRID)] = 1_000_000,
    rotate: Annotated[bool, flag("--rotate", "As in a plan that rotates updates.", _GRID)] = False,
    proofs: Annotated[bool, flag("--proofs", "As in a plan with proofs.", _GRID)] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the noise that a target ε needs, or the ε that a noise costs.

    dp-sgd protects one example, in the client's own training, from everybody. The others protect one client.

    central is noise on the revealed mean: it protects from who sees models, not from who sees the sum.

    discrete-gaussian and skellam are noise inside the encrypted sum. They count the quorum less the contributors
    assumed corrupt, so that dropouts never cost privacy. The noise is what a
    plan of the same numbers calibrates for itself.

    Examples:

    secureagg calibrate dp-sgd --epsilon 3 --examples 60000 --batch 256 --epochs 15

    secureagg calibrate dp-sgd --noise 1.1 --sampling fixed-size

    secureagg calibrate discrete-gaussian --epsilon 8 --clients 200 --quorum 140 --assumed-corrupt 20 --value-bits 14
    """
    with reported(context, debug, _ALIASES):
        for name, users in _USED_BY.items():
            if mechanism not in users:
                refuse_given(context, name, f"only {', '.join(users)} uses it, and this is {mechanism}")
        if (target is None) == (noise is None):
            raise typer.BadParameter("give one of the two", param_hint="--epsilon / --noise")
        match mechanism:
            case Mechanism.DP_SGD:
                setting = _dp_sgd(examples, batch, epochs, sampling, relation, delta)
            case Mechanism.CENTRAL:
                setting = _central(clients, rounds, l2_clip, relation, delta)
            case Mechanism.DISCRETE_GAUSSIAN | Mechanism.SKELLAM:
                if relation is not Relation.ZERO_OUT:
                    raise ParameterError(f"relation={relation}: noise in a sum is accounted for zero-out; use that")
                honest = honest_contributors(clients if quorum is None else quorum, assumed_corrupt)
                grid = _Grid(value_bits=value_bits, values=values, l2_clip=l2_clip, rotate=rotate, proofs=proofs)
                setting = _sum(_SUMS[mechanism], grid, clients, honest, rounds, delta)
        answer = _answer(mechanism, setting, target, noise, delta)
        typer.echo(json.dumps(asdict(answer), indent=2)) if as_json else _print(answer)


def _dp_sgd(
    examples: int, batch: int, epochs: float, sampling: BatchSampling, relation: Relation, delta: float
) -> _Setting:
    if not 0 < epochs <= 1e6:
        raise ParameterError(f"epochs={epochs:g} must be above 0, at most a million")
    if not 1 <= batch <= examples:
        raise ParameterError(f"batch={batch} must be within 1 … examples={examples}")
    is_poisson = sampling is BatchSampling.POISSON
    # What an epoch of `PoissonBatches` and of `FixedSizeBatches` is.
    steps = math.ceil(epochs * (max(1, round(examples / batch)) if is_poisson else examples // batch))

    def make_event(multiplier: float) -> DpSgd:
        return DpSgd(
            noise_multiplier=multiplier,
            expected_batch=batch,
            examples=examples,
            steps=steps,
            relation=relation,
            sampling=sampling,
            passes=0 if is_poisson else math.ceil(epochs),
            truncation_probability=MAX_TRUNCATION_PROBABILITY if is_poisson else 0.0,
        )

    return _Setting(
        make_event,
        find=lambda target: calibrate_noise(target, delta, make_event, minimum=2.0**-4),
        noise_is="multiplier (std of the noise on summed gradients ÷ clip)",
    )


def _central(clients: int, rounds: int, l2_clip: float, relation: Relation, delta: float) -> _Setting:
    if clients < 1 or not l2_clip > 0:
        raise ParameterError(f"clients={clients} and l2_clip={l2_clip:g} must be positive")

    def make_event(std: float) -> CentralGaussian:
        return CentralGaussian(
            noise_std=std,
            l2_clip=l2_clip,
            clients=clients,
            rounds=rounds,
            relation=relation,
            adversary=Adversary.RECIPIENTS,
        )

    return _Setting(
        make_event,
        find=lambda target: calibrate_noise(target, delta, make_event, minimum=2.0**-6 * l2_clip / clients),
        noise_is="std on each value of the mean",
        mean_noise_std=lambda std: std,
    )


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """What a plan's clients put on its grid."""

    value_bits: int
    values: int
    l2_clip: float
    rotate: bool
    proofs: bool

    def __post_init__(self) -> None:
        if not 0 < self.l2_clip < math.inf:
            raise ParameterError(f"l2_clip={self.l2_clip:g} must be positive")

    @property
    def clip(self) -> float:
        """The L2 clip in grid steps."""
        limit = Quantiser(self.value_bits, self.l2_clip).limit
        return clip_in_steps(limit, self.values, rotate=self.rotate)


def _sum(
    kind: type[DistributedGaussian] | type[Skellam],
    grid: _Grid,
    clients: int,
    honest: int,
    rounds: int,
    delta: float,
) -> _Setting:
    if clients < 1:
        raise ParameterError(f"clients={clients} must be positive")
    exposure = Exposure.of(grid.clip, grid.values, honest, conditional=kind.redraws(proofs=grid.proofs))
    scale = grid.clip / grid.l2_clip
    return _Setting(
        lambda std: kind(epsilon=HIGHEST_EPSILON, delta=delta, rounds=rounds, noise_std_grid=std).event(exposure),
        find=lambda target: kind(epsilon=target, delta=delta, rounds=rounds).calibrated(exposure, "clients").std,
        noise_is="std of one contributor's noise, in grid steps",
        # With everybody there; at the quorum the noise is what ε was computed for, and less.
        # With proofs the members add it, and how many there are is not known here.
        mean_noise_std=None if grid.proofs else lambda std: std * math.sqrt(clients) / scale / clients,
        contributors=honest,
        grid_step=1 / scale,
    )


def _answer(
    mechanism: Mechanism, setting: _Setting, target: float | None, noise: float | None, delta: float
) -> Calibration:
    if noise is None:
        assert target is not None
        noise = setting.find(target)
    event = setting.make_event(noise)
    found = epsilon(event, delta)
    if not math.isfinite(found):
        raise ParameterError(f"noise={noise:g} gives no finite ε at delta={delta:g}")
    return Calibration(
        mechanism=mechanism,
        protects="one example" if mechanism is Mechanism.DP_SGD else "one client",
        relation=event.relation,
        adversary=getattr(event, "adversary", Adversary.PARTICIPANTS),
        epsilon=found,
        delta=delta,
        noise=noise,
        noise_is=setting.noise_is,
        releases=event.count,
        accountant=accountant(event),
        mean_noise_std=setting.mean_noise_std(noise) if setting.mean_noise_std else None,
        contributors=setting.contributors,
        grid_step=setting.grid_step,
    )


def _print(answer: Calibration) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("mechanism", answer.mechanism)
    table.add_row("protects", f"{answer.protects}, {answer.relation}")
    table.add_row("against", _AGAINST[answer.adversary])
    table.add_row("ε", f"{answer.epsilon:.4g} at δ = {answer.delta:.3g}, by {answer.accountant}")
    table.add_row("noise", f"{answer.noise:.5g}, {answer.noise_is}")
    table.add_row("releases", f"{answer.releases}")
    if answer.contributors is not None:
        table.add_row("noise counted of", f"{answer.contributors} honest contributors")
        table.add_row("grid step", f"{answer.grid_step:.4g}")
    if answer.mean_noise_std is not None:
        table.add_row("noise on the mean", f"{answer.mean_noise_std:.4g} for each value")
    Console(soft_wrap=True).print(table, highlight=False)
