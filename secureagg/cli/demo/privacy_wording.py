"""A budget's figures as a reader wants them, the same in table and report."""

from __future__ import annotations

from secureagg.cli.demo.figures import Figures
from secureagg.cli.demo.privacy_figures import PrivacyFigures
from secureagg.cli.demo.settings import DP_SGD, Unit
from secureagg.cli.demo.wording import LANE_TITLES, late_title

__all__ = ["BASELINE", "budget_rows", "client_rows", "curve_heads", "curve_rows", "spent_line", "stop_line"]

BASELINE = (
    "“Float noise” is the same training with floating-point Gaussian noise on the plain mean, as much as a trusted "
    "server would need for the same ε. It claims no privacy: the server sees every update, and the noise follows from "
    "the seed. The encrypted sum carries somewhat more, as what the fewest honest parties add must be enough."
)
_UNITS = {Unit.CLIENT: "one client", Unit.EXAMPLE: "one example of a client"}


def spent_line(figures: Figures) -> str:
    """Return what is spent, of what, for whom, and what it cost in accuracy; nothing without a budget."""
    privacy, private = figures.privacy, figures.private
    if privacy is None or private is None:
        return ""
    cost = f"in the clear {figures.plain.late_accuracy:.1%}"
    if figures.floating is not None:
        cost += f", with float noise in the clear {figures.floating.late_accuracy:.1%}"
    return (
        f"Spent after round {private.rounds[-1].round_number}: ε = {privacy.spent:.3f} of {privacy.epsilon:g} at "
        f"δ = {privacy.delta:g}, for {_UNITS[privacy.unit]} ({privacy.relation}). "
        f"Accuracy {private.late_accuracy:.1%} ({late_title(figures.trainings.values())}); {cost}."
    )


def stop_line(figures: Figures) -> str:
    """Return why training ended early, or nothing."""
    privacy = figures.privacy
    if privacy is None or privacy.stopped is None or figures.private is None:
        return ""
    done = figures.private.rounds[-1].round_number
    return (
        f"Stopped after round {done} of {figures.settings.rounds}: the privacy budget, made for {privacy.rounds} "
        f"rounds, is gone. {_sentence(privacy.stopped)} To train longer at the same ε, plan for more rounds from the "
        "start; each then gets more noise."
    )


def budget_rows(figures: Figures) -> list[tuple[str, str]]:
    """Return name and value of everything the ε is about."""
    privacy = figures.privacy
    assert privacy is not None
    rows = [
        ("unit", f"{_UNITS[privacy.unit]}, {privacy.relation}"),
        ("budget", f"ε = {privacy.epsilon:g} at δ = {privacy.delta:g}, for {privacy.rounds} rounds together"),
        ("spent", f"ε = {privacy.spent:.6g}{' by the client that spent most' if privacy.clients else ''}"),
    ]
    return [*rows, *(_of_examples(figures) if privacy.unit is Unit.EXAMPLE else _of_clients(privacy))]


def _of_examples(figures: Figures) -> list[tuple[str, str]]:
    training = DP_SGD[figures.settings.dataset]
    return [
        ("ledgers", "one a client, its own: who cannot afford a round does not take part in it"),
        (
            "DP-SGD",
            f"{training.steps} steps a round at {training.learning_rate:g}, Poisson batches of {training.batch} "
            f"expected examples, gradients of examples clipped to {training.l2_clip:g}",
        ),
    ]


def _of_clients(privacy: PrivacyFigures) -> list[tuple[str, str]]:
    sized = f"the clients, sized for {privacy.quorum} that must be there less {privacy.corrupt} assumed corrupt"
    if privacy.noise_by == "committee":
        sized = f"the committee, sized for the members that must answer less {privacy.colluding} that may collude"
    return [("ledger", "the aggregator's: it counts the models released"), ("noise by", sized)]


def curve_heads(figures: Figures) -> list[str]:
    """Return the titles of the columns of `curve_rows`."""
    return ["round", "ε so far", *(f"accuracy {LANE_TITLES[lane]}" for lane in figures.trainings)]


def curve_rows(figures: Figures) -> list[tuple[str, ...]]:
    """Return one row a round: ε so far, and each training's accuracy."""
    assert figures.private is not None
    lanes = [{r.round_number: r for r in training.rounds} for training in figures.trainings.values()]
    return [
        (
            str(r.round_number),
            "" if r.epsilon is None else f"{r.epsilon:.4f}",
            *(f"{lane[r.round_number].accuracy:.2%}" if r.round_number in lane else "" for lane in lanes),
        )
        for r in figures.private.rounds
    ]


def client_rows(figures: Figures) -> list[tuple[str, ...]]:
    """Return one row a client: examples, noise, rounds, ε; nothing if the unit is a client."""
    assert figures.privacy is not None
    return [
        (str(c.client), str(c.examples), f"{c.noise_multiplier:.3f}", str(c.rounds), f"{c.epsilon:.4f}")
        for c in figures.privacy.clients
    ]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
