"""An attacked run as a reader wants it, the same in table and report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from secureagg.cli.demo.attack_figures import AttackedTraining, AttackFigures
from secureagg.cli.demo.settings import Attack
from secureagg.cli.demo.wording import as_bytes, as_seconds, late_title

__all__ = ["CAVEAT", "STORIES", "attack_headline", "attack_rows", "attackers", "events", "round_ranges"]

STORIES = {
    Attack.SCALE: "Malicious clients encrypt their update times the largest negative factor whose values the grid "
    "holds, far beyond the L2 clip, and prove that the honest update is within it.",
    Attack.NOISE: "Malicious clients encrypt random values drawn from all the grid, far beyond the L2 clip, and prove "
    "that an honest update is within it.",
    Attack.NAN: "The training of the malicious clients has left the finite numbers. The library would refuse the "
    "update on the client; theirs encrypts what is left of it, integers far beyond the grid.",
    Attack.REPLAY: "Malicious clients send once, honestly, and from then on the bytes of that earlier round: their "
    "own, or those of another malicious client. Each round has a session id of its own in every "
    "signature, so these are refused with proofs and without.",
    Attack.WRONG_SHARES: "Malicious clients encrypt honestly, and deal every second committee member shares of another "
    "key. Those members complain. Without proofs the committee is asked once, and too few answers are left; with "
    "proofs it always checks shares before it reveals any (which a robust committee does without proofs too).",
}

CAVEAT = (
    "Proofs bound what a client sends; they do not make it a good update: any vector within the L2 clip, with any "
    "weight up to the largest, is still taken."
)


def attack_headline(figures: AttackFigures) -> str:
    """Return what the run came to, in a sentence."""
    honest, unproven, proven = (each.late_accuracy for each in figures.trainings.values())
    return (
        f"Under attack ({figures.attack.kind}) by {attackers(figures)}: {proven:.1%} accuracy with proofs, "
        f"{unproven:.1%} without, {honest:.1%} if nobody attacks ({late_title(figures.trainings.values())})."
    )


def attackers(figures: AttackFigures) -> str:
    """Return how many are malicious, and who."""
    clients = figures.attack.clients
    return f"{len(clients)} of {figures.settings.clients} clients ({', '.join(map(str, clients))})"


def attack_rows(figures: AttackFigures) -> list[list[tuple[str, ...]]]:
    """Return the table in three groups: a name, and a cell for each lane."""

    def row(name: str, cell: Callable[[AttackedTraining], str]) -> tuple[str, ...]:
        return (name, *(cell(lane) for lane in figures.lanes.values()))

    def stage(name: str, title: str) -> tuple[str, ...]:
        return row(f"seconds, {title}", lambda lane: as_seconds(lane.figures.seconds[name]))

    return [
        [
            row("accuracy, last round", lambda lane: f"{lane.figures.final_accuracy:.2%}"),
            row(
                f"accuracy, {late_title(figures.trainings.values())}", lambda lane: f"{lane.figures.late_accuracy:.2%}"
            ),
        ],
        [
            row("malicious contributions sent", lambda lane: str(lane.sent)),
            row("… refused", lambda lane: _refused(lane, malicious=True)),
            row("… in a mean", lambda lane: str(lane.summed)),
            row("honest contributions refused", lambda lane: _refused(lane, malicious=False)),
            row("rounds lost", lambda lane: str(len(lane.lost))),
        ],
        [
            row("bytes up, a client and round", lambda lane: as_bytes(lane.figures.bytes_up_per_client)),
            stage("contribute", "encode, encrypt, prove"),
            stage("admit", "verify, add"),
            stage("finish", "open, divide"),
            row("seconds, total", lambda lane: as_seconds(lane.figures.seconds_total)),
        ],
    ]


def events(lane: AttackedTraining) -> Iterable[tuple[str, str, str]]:
    """Yield what happened to a training: rounds, to whom, and why."""
    for refusal in lane.refusals:
        who = f"client {refusal.client}" + ("" if refusal.malicious else ", honest")
        yield round_ranges(refusal.rounds), who, refusal.reason
    reasons: dict[str, list[int]] = {}
    for round_number, reason in lane.lost.items():
        reasons.setdefault(reason, []).append(round_number)
    for reason, rounds in reasons.items():
        yield round_ranges(rounds), "everybody: the round is lost", reason
    if lane.collapsed is not None:
        yield "the end", "everybody: too few could still train", lane.collapsed


def _refused(lane: AttackedTraining, *, malicious: bool) -> str:
    return str(sum(len(each.rounds) for each in lane.refusals if each.malicious == malicious))


def round_ranges(rounds: Sequence[int]) -> str:
    """Return ascending numbers with runs drawn together: 1–3, 5."""
    runs: list[list[int]] = []
    for number in rounds:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
