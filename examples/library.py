"""One round with every party in a process of its own; only bytes cross, as files.

    python examples/library.py [DIRECTORY]

DIRECTORY/shared is what a host system's transport would carry: what all have agreed on, and the messages. Every other
directory belongs to one party, and no other process reads it: its seed, a client's update, a member's journal, the
aggregator's spool. Here a parent process starts them one after the other; four clients are on the roster, one of them
vanishes before it sends, and one of four committee members is away when the sum is opened.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import secureagg as sa

CLIENTS, MEMBERS, ROUND = 4, 4, 7
VANISHED_CLIENT, ABSENT_MEMBER = 3, 0


def identity(home: Path) -> sa.Identity:
    """Return the party's identity, made on first use. The seed is secret: keep it where the host keeps its secrets."""
    seed = home / "seed"
    if not seed.exists():
        seed.write_bytes(sa.Identity.generate().to_seed())
        seed.chmod(0o600)
    return sa.Identity(seed.read_bytes())


def committee_member(home: Path) -> sa.CommitteeMember:
    return sa.CommitteeMember(identity(home), journal=home / "journal")


def session(shared: Path) -> sa.Session:
    """Return the session, built anew by each party. A host pins plan and roster, instead of trusting whoever serves
    these files: two parties that have different ones refuse each other's messages.
    """
    plan = sa.RoundPlan.from_bytes((shared / "plan").read_bytes())
    roster = sa.Roster.from_bytes((shared / "roster").read_bytes())
    prekeys = [(shared / f"prekey-{index}").read_bytes() for index in range(plan.committee.size)]
    return sa.Session(plan, roster, prekeys=prekeys, round_number=ROUND, model=tensors(shared / "model.npz"))


def tensors(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in file.files]


# What each party does: its own directory, the shared one, and its number among its like.


def enrol(home: Path, shared: Path, index: int) -> None:
    """A client or member makes its identity and publishes the public half."""
    (shared / f"{home.name}.public").write_bytes(identity(home).public)


def agree(home: Path, shared: Path, index: int) -> None:
    """The operator writes down what all parties then look at and pin: plan, roster, model."""
    model = [np.zeros((20, 8), np.float32), np.zeros(8, np.float32)]
    plan = sa.RoundPlan(
        layout=sa.Layout.of(model),
        clients=CLIENTS,
        quorum=2,
        l2_clip=2.0,
        value_bits=16,
        max_weight=500,
        committee=sa.Committee(MEMBERS),
    )
    roster = sa.Roster(
        [(shared / f"client-{i}.public").read_bytes() for i in range(CLIENTS)],
        [(shared / f"member-{i}.public").read_bytes() for i in range(MEMBERS)],
    )
    (shared / "plan").write_bytes(plan.to_bytes())
    (shared / "roster").write_bytes(roster.to_bytes())
    np.savez(shared / "model.npz", *model)


def publish_prekey(home: Path, shared: Path, index: int) -> None:
    """A member publishes its key for this round; it erases the secret half once it has answered."""
    (shared / f"prekey-{index}").write_bytes(committee_member(home).prekey(ROUND))


def contribute(home: Path, shared: Path, index: int) -> None:
    """A client trains (here: draws an update) and sends its one message."""
    rng = np.random.default_rng(index)
    update = [rng.normal(0, 0.02, w.shape).astype(w.dtype) for w in tensors(shared / "model.npz")]
    np.savez(home / "update.npz", *update)
    with (shared / f"contribution-{index}").open("w+b") as out:
        sa.contribute(session(shared), identity(home), update, weight=100 * (index + 1), out=out)


def admit_and_ask(home: Path, shared: Path, index: int) -> None:
    """The aggregator adds what has come, and asks the members. It holds no secret."""
    aggregator = sa.Aggregator(session(shared), spool=home / "spool")
    for path in sorted(shared.glob("contribution-*")):
        with path.open("rb") as contribution:
            aggregator.admit(contribution)
    request = aggregator.close()
    for member in range(MEMBERS):
        (shared / f"request-{member}").write_bytes(request.for_member(member))


def respond(home: Path, shared: Path, index: int) -> None:
    """A member answers once, with the sum of its shares."""
    answer = committee_member(home).respond(session(shared), (shared / f"request-{index}").read_bytes())
    (shared / f"answer-{index}").write_bytes(answer)


def open_sum(home: Path, shared: Path, index: int) -> None:
    """The aggregator, in a new process: the spool remembers the contributions. It publishes the mean and the tally."""
    aggregator = sa.Aggregator(session(shared), spool=home / "spool")
    aggregator.close()
    result = aggregator.open([path.read_bytes() for path in sorted(shared.glob("answer-*"))])
    np.savez(shared / "mean.npz", *result.mean)
    (shared / "tally").write_bytes(result.tally or b"")
    print(f"opened the sum of clients {list(result.clients)}, total weight {result.total_weight}")


def look(home: Path, shared: Path, index: int) -> None:
    """A client checks that what it sent is in the sum."""
    mine = (shared / f"contribution-{index}").read_bytes()
    sa.verify_tally(session(shared), (shared / "tally").read_bytes(), mine=mine)


STEPS: dict[str, Callable[[Path, Path, int], None]] = {
    step.__name__: step for step in (enrol, agree, publish_prekey, contribute, admit_and_ask, respond, open_sum, look)
}


def run(directory: Path) -> None:
    """Start every party's process, in the order of the round."""
    (directory / "shared").mkdir(parents=True)
    clients, members = range(CLIENTS), range(MEMBERS)

    def start(party: str, step: str) -> None:
        subprocess.run([sys.executable, __file__, str(directory), party, step], check=True)

    for client in clients:
        start(f"client-{client}", "enrol")
    for member in members:
        start(f"member-{member}", "enrol")
    start("operator", "agree")
    for member in members:
        start(f"member-{member}", "publish_prekey")
    for client in set(clients) - {VANISHED_CLIENT}:
        start(f"client-{client}", "contribute")
    start("aggregator", "admit_and_ask")
    for member in set(members) - {ABSENT_MEMBER}:
        start(f"member-{member}", "respond")
    start("aggregator", "open_sum")
    for client in set(clients) - {VANISHED_CLIENT}:
        start(f"client-{client}", "look")


def main(arguments: list[str]) -> None:
    match arguments:
        case [directory, party, step]:
            home, shared = Path(directory) / party, Path(directory) / "shared"
            home.mkdir(exist_ok=True)
            STEPS[step](home, shared, int(party.partition("-")[2] or 0))
        case [directory]:
            run(Path(directory))
        case []:
            with tempfile.TemporaryDirectory() as directory:
                run(Path(directory))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
