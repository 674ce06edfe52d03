"""Every role of a round in a process of its own. Only bytes cross, in files and pipes.

PUBLIC is what all parties have pinned: plan, roster, model, prekeys, round number. HOME is the role's own directory;
nobody reads another's.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

import secureagg as sa
from tests.federation import Federation, Update

__all__ = ["Died", "Party", "Refused", "publish", "publish_federation", "read_tensors", "serve", "write_tensors"]

ROOT = Path(__file__).resolve().parents[1]


def write_tensors(path: Path, tensors: Iterable[np.ndarray]) -> None:
    np.savez(path, *tensors)


def read_tensors(path: Path) -> Update:
    with np.load(path) as file:
        return [file[name] for name in file.files]


def publish(public: Path, plan: sa.RoundPlan, roster: sa.Roster, model: Update, round_number: int = 1) -> None:
    """Write what everybody pins, all but the prekeys."""
    public.mkdir(parents=True, exist_ok=True)
    (public / "plan").write_bytes(plan.to_bytes())
    (public / "roster").write_bytes(roster.to_bytes())
    (public / "round").write_text(str(round_number))
    write_tensors(public / "model.npz", model)


def publish_federation(public: Path, everyone: Federation, round_number: int = 1) -> None:
    """Write what everybody pins for a federation made in this process, prekeys included."""
    publish(public, everyone.plan, everyone.roster, everyone.model, round_number)
    for member_id, member in enumerate(everyone.members):
        (public / f"prekey-{member_id}").write_bytes(member.prekey(round_number))


def session_of(public: Path) -> sa.Session:
    """Rebuild the session from what is pinned."""
    plan = sa.RoundPlan.from_bytes((public / "plan").read_bytes(), allow_insecure=True)
    return sa.Session(
        plan,
        sa.Roster.from_bytes((public / "roster").read_bytes()),
        prekeys=[(public / f"prekey-{i}").read_bytes() for i in range(plan.committee.size)],
        round_number=int((public / "round").read_text()),
        model=read_tensors(public / "model.npz"),
    )


def identity_of(home: Path) -> sa.Identity:
    """Return the role's identity, made and kept in its home on first use."""
    seed = home / "seed"
    if not seed.exists():
        seed.write_bytes(sa.Identity.generate().to_seed())
    return sa.Identity(seed.read_bytes())


def member_of(home: Path) -> sa.CommitteeMember:
    return sa.CommitteeMember(identity_of(home), journal=home / "journal")


def enrol(home: Path, public: Path, given: bytes) -> bytes:
    """Return the public identity."""
    return identity_of(home).public


def prekey(home: Path, public: Path, given: bytes) -> bytes:
    """Return the member's prekey of the round."""
    return member_of(home).prekey(int((public / "round").read_text()))


def contribute(home: Path, public: Path, given: bytes) -> bytes:
    """Return the contribution to the update in HOME."""
    update, rng = read_tensors(home / "update.npz"), np.random.default_rng(int((home / "rounding").read_text()))
    weight = int((home / "weight").read_text())
    payload = sa.contribute(session_of(public), identity_of(home), update, weight, rounding_rng=rng)
    (home / "sent").write_bytes(payload)
    return payload


def admit(home: Path, public: Path, given: bytes) -> bytes:
    """Admit one contribution; return the client's id."""
    return str(sa.Aggregator(session_of(public), spool=home / "spool").admit(io.BytesIO(given))).encode()


def ask(home: Path, public: Path, given: bytes) -> bytes:
    """Return what members check."""
    return bytes(sa.Aggregator(session_of(public), spool=home / "spool").share_check())


def check(home: Path, public: Path, given: bytes) -> bytes:
    """Return the member's share check of a request."""
    return member_of(home).check(session_of(public), io.BytesIO(given))


def close(home: Path, public: Path, given: bytes, *reports: str) -> bytes:
    """Return the request that members answer."""
    aggregator = sa.Aggregator(session_of(public), spool=home / "spool")
    return bytes(aggregator.close([Path(report).read_bytes() for report in reports] or None))


def respond(home: Path, public: Path, given: bytes) -> bytes:
    """Return the member's answer to a request."""
    return member_of(home).respond(session_of(public), io.BytesIO(given))


def open_sum(home: Path, public: Path, given: bytes, mean: str, tally: str, *messages: str) -> bytes:
    """Write the mean and the tally; `messages` are share checks and answers, told apart by their magic."""
    received = [Path(message).read_bytes() for message in messages]
    aggregator = sa.Aggregator(session_of(public), spool=home / "spool")
    aggregator.close([each for each in received if each.startswith(b"SAch")] or None)
    result = aggregator.open([each for each in received if each.startswith(b"SAan")])
    write_tensors(Path(mean), result.mean)
    Path(tally).write_bytes(result.tally or b"")
    return f"{result.total_weight} {list(result.clients)} {dict(result.refused)} {dict(result.faults)}".encode()


def verify(home: Path, public: Path, given: bytes, *contributions: str) -> bytes:
    """Check a tally: with the own contribution in HOME, if there is one, and with others'."""
    mine = (home / "sent").read_bytes() if (home / "sent").exists() else None
    others = [Path(each).read_bytes() for each in contributions]
    sa.verify_tally(session_of(public), given, mine=mine, contributions=others)
    return b""


ROLES: dict[str, Callable[..., bytes]] = {
    role.__name__: role for role in (enrol, prekey, contribute, admit, ask, check, close, respond, open_sum, verify)
}


def serve(home: Path) -> None:
    """Take calls from the standard input, one after the other, and answer on the standard output."""
    home.mkdir(parents=True, exist_ok=True)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while line := source.readline():
        role, pinned, *arguments, length = json.loads(line)
        given = source.read(length)
        try:
            returned, error = ROLES[role](home, Path(pinned), given, *arguments), ""
        except sa.SecureAggError as caught:
            returned, error = b"", f"{type(caught).__name__}: {caught}"
        target.write(json.dumps([error, len(returned)]).encode() + b"\n" + returned)
        target.flush()


class Party:
    """A process of its own for one party; `before` are statements that run first in it.

    Calls cross as bytes through pipes. A refusal comes back as the error's name and text; a process that dies is
    reported by `Died`.
    """

    def __init__(self, home: Path, public: Path, before: str = "") -> None:
        start = f"from pathlib import Path\nfrom tests import roles\n{before}\n"
        start += f"roles.serve(Path({str(home)!r}))"
        self.public = public  # may be set to another round's
        self._process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def call(self, role: str, *arguments: object, given: bytes = b"") -> bytes:
        """Return what a role returned. Raises: Refused if it raised; Died if the process ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        call = json.dumps([role, str(self.public), *(str(each) for each in arguments), len(given)])
        self._process.stdin.write(call.encode() + b"\n" + given)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Died(self._process.wait())
        error, length = json.loads(line)
        if error:
            raise Refused(error)
        return self._process.stdout.read(length)

    def __enter__(self) -> Party:
        return self

    def __exit__(self, *caught: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class Refused(Exception):
    """A role raised a SecureAggError."""


class Died(Exception):
    """A process ended during a call; its argument is the exit code."""
