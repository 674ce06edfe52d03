"""What a run keeps from whom, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from secureagg.cli.demo.figures import Figures
from secureagg.cli.demo.privacy_figures import PrivacyFigures
from secureagg.cli.demo.settings import OneShotSettings, Scheme, Unit

__all__ = ["Protection", "protection"]


@dataclass(frozen=True)
class Protection:
    """What is kept from whom, and what is not; the first of `exposed` is the one to know."""

    kept: tuple[str, ...]
    exposed: tuple[str, ...]


_ONE_PROCESS = "In this demo every role runs in one process, and the test examples are known to it."
_TENSEAL = Protection(
    kept=(
        "Whoever adds up the encrypted updates, without the secret key, learns who took part and the shapes of "
        "the model, but nothing of an update's values.",
    ),
    exposed=(
        "The key holder can open any single update: keep the secret key away from whoever receives them.",
        "The mean is exact and carries no noise, so it may itself tell something about a client's examples.",
        "Nothing authenticates a sender, or shows that an update is a sensible one.",
        _ONE_PROCESS,
    ),
)
_PLAIN = Protection(kept=(), exposed=("Every update is open to whoever receives it.",))


def protection(figures: Figures) -> Protection:
    """Return it for this run's scheme, proofs and budget."""
    encryption = figures.settings.encryption
    if isinstance(encryption, OneShotSettings):
        return Protection(tuple(_kept(figures.privacy)), tuple(_exposed(figures.privacy, proofs=encryption.proofs)))
    return _TENSEAL if figures.settings.scheme is Scheme.TENSEAL else _PLAIN


def _kept(privacy: PrivacyFigures | None) -> Iterator[str]:
    if privacy is not None:
        yield _claim(privacy)
    yield (
        "Nobody holds a key that opens one client's update: the aggregator has ciphertexts, and each committee "
        "member a share of every client's one-time key, of which it gives away the sum alone. This holds while no "
        "more members collude with the aggregator than the parameters allow for."
    )
    if privacy is None:
        yield "Weights are summed with the values: nobody learns how many examples a client has."
    else:
        yield "All clients weigh alike, so that the sum holds no count of examples."
    yield "Every message is signed, and a client that vanishes after its one message still counts."


def _claim(privacy: PrivacyFigures) -> str:
    promise = f"(ε = {privacy.epsilon:g}, δ = {privacy.delta:g})"
    if privacy.unit is Unit.EXAMPLE:
        return (
            f"One example: all that a client sends in {privacy.rounds} rounds is {promise}-differentially private, "
            "compared with the same where that example adds nothing to any gradient. It holds against everybody, "
            "aggregator, committee and other clients included, since each client adds the noise itself as it trains."
        )
    adders = "the committee's members" if privacy.noise_by == "committee" else "the clients"
    members = f"{privacy.colluding} committee member{'' if privacy.colluding == 1 else 's'}"
    against = f"the aggregator together with {members} and {privacy.corrupt} clients"
    if privacy.noise_by == "committee":
        against = f"the aggregator together with {members} and any clients"
    return (
        f"One client: all models of {privacy.rounds} rounds together are {promise}-differentially private, compared "
        f"with the same run with zeros in place of that client's updates. It holds against {against}, and whoever "
        f"gets the models. The noise is added inside the encrypted sum by {adders}, sized for the fewest honest ones "
        "that must take part: who vanishes takes no privacy away."
    )


def _exposed(privacy: PrivacyFigures | None, *, proofs: bool) -> Iterator[str]:
    if privacy is None:
        yield "The mean carries no noise: two means whose clients differ by one reveal that one's update."
    elif privacy.unit is Unit.CLIENT:
        yield (
            "One client is the unit: for k clients that act alike ε is k times as large, and who takes part is not "
            "hidden at all."
        )
    else:
        yield (
            "One example is the unit: who takes part, how many examples a client has, and what its examples have in "
            "common is not hidden."
        )
        yield (
            "The sum carries no noise of its own: two means whose clients differ by one reveal that one's update, as "
            "DP-SGD left it."
        )
    if proofs:
        yield "Proofs hold an update to its clip; nothing shows that it is a good one."
    else:
        yield "Nothing shows that an update or a weight is an honest one."
    if privacy is not None and privacy.noise_by == "clients":
        yield (
            f"Nothing shows that a client added its noise; {privacy.corrupt} clients are counted as if they had not, "
            "and more would make ε larger."
        )
    yield "The aggregator and the committee see who takes part."
    if privacy is not None:
        yield "No ε covers the counts of clipped updates and the distances to a plain mean that a demo can show."
    yield _ONE_PROCESS
