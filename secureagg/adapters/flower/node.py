"""What a node keeps: its identity, its journal as a committee member, where it has contributed, what it has spent of
its privacy budget, and whom it trusts.

The identity's seed is in the Context that Flower keeps for a run, or in a file that the node's owner names. Journal,
claims and ledger are files of that identity, since Flower may run several messages of a node at once, each with its own
copy of the Context: only a file that can be made once makes a second answer impossible.

| key of node config | says |
|---|---|
| `secureagg-roster` | a file with `Roster.to_bytes()`: the only clients and committee this node takes part with |
| `secureagg-identity` | a file with the 32 bytes of `Identity.to_seed()`, for an identity that outlives the run |
| `secureagg-directory` | where all else goes, by default `$FLWR_HOME/secureagg` or `~/.flwr/secureagg` |

`secureagg-roster` may stand in the run config instead, for simulations. Run config comes with the run, so from whoever
starts it: there it protects no more than trust on first use does. Identity and directory are the owner's alone.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from pathlib import Path

from secureagg.adapters.budgets import ledger_of
from secureagg.adapters.flower.engine import ConfigRecord, Context
from secureagg.committee import CommitteeMember
from secureagg.dp.ledger import Ledger
from secureagg.errors import ParameterError
from secureagg.identity import Identity
from secureagg.plan import RoundPlan
from secureagg.roster import Roster
from secureagg.session import Session

__all__ = ["Node"]

_STATE = "secureagg"


class Node:
    """This node, as its Context and its files have it. Raises: ParameterError for a file that cannot be used."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def enrol(self) -> Identity:
        """Return this node's identity, made now if it has none."""
        if self._setting("secureagg-identity") is None and "seed" not in self._state():
            self._state()["seed"] = Identity.generate().to_seed()
        return self.identity()

    def identity(self) -> Identity:
        """Return this node's identity. Raises: ParameterError if it has none."""
        path = self._setting("secureagg-identity")
        if path is not None:
            return Identity(_read("secureagg-identity", path))
        seed = self._state().get("seed")
        if not isinstance(seed, bytes):
            raise ParameterError("this node has published no identity in this run; the server enrols it first")
        return Identity(seed)

    def member(self) -> CommitteeMember:
        """Return this node as a committee member, with this run's journal: what a run gives up is not another's."""
        identity = self.identity()
        return CommitteeMember(identity, journal=self._directory(identity) / f"journal-{self._context.run_id}")

    def trust(self, roster: Roster) -> None:
        """Return None if this node takes part in rounds of this roster.

        With a pinned roster file: the committee is the file's, and every client is among the file's. Without: the
        committee is the one of the first roster this node saw in the run (trust on first use).
        """
        path = self._setting("secureagg-roster") or _path(self._context.run_config.get("secureagg-roster"))
        if path is not None:
            pinned = Roster.from_bytes(_read("secureagg-roster", path))
            if roster.committee != pinned.committee:
                raise ParameterError("the server's committee is not that of this node's pinned roster")
            for client_id, client in enumerate(roster.clients):
                if pinned.clients.position(client.encoded) is None:
                    raise ParameterError(f"client {client_id} of the server's roster is not on this node's pinned one")
            return
        digest = hashlib.sha256(roster.committee.encoded).digest()
        if self._state().setdefault("committee", digest) != digest:
            raise ParameterError("the server names another committee than earlier in this run")

    def claim(self, session: Session) -> None:
        """Note, durably, that this node contributes to this round. Raises: ParameterError the second time.

        `Identity.claim` holds within one process, and Flower may start one for every message.
        """
        directory = self._directory(self.identity()) / "claims"
        _make(directory)
        path = directory / f"{session.roster.digest().hex()}-{session.round_number}"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError as error:
            raise ParameterError(
                f"this node has already contributed to round {session.round_number} under this roster"
            ) from error
        except OSError as error:
            raise ParameterError(f"{path} cannot be written: {error.strerror}") from error

    def ledger(self, plan: RoundPlan) -> AbstractContextManager[Ledger | None]:
        """Return this identity's ledger, as `budgets.ledger_of`."""
        return ledger_of(plan, self._directory(self.identity()) / "ledger", "all examples of this node")

    def _directory(self, identity: Identity) -> Path:
        named = self._setting("secureagg-directory")
        home = Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr") / "secureagg" if named is None else named
        directory = home / identity.public.hex()[:32]
        _make(directory)
        return directory

    def _setting(self, key: str) -> Path | None:
        return _path(self._context.node_config.get(key))

    def _state(self) -> ConfigRecord:
        return self._context.state.setdefault(_STATE, ConfigRecord())


def _path(value: object) -> Path | None:
    return Path(value) if isinstance(value, str) else None


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ParameterError(f"{key}={path} cannot be read: {error.strerror}") from error


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"{directory} cannot be made: {error.strerror}") from error
