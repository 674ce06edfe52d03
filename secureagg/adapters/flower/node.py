"""What a node keeps: its identity, its journal as a committee member, where it has contributed, what it has spent of
its privacy budget, and whom it trusts.

All of it is files, and nothing is in Flower's Context: a SuperNode hands every message a copy of that, takes back the
whole of whichever ends last, and forgets it when it restarts. Only a file that can be made once makes a second
identity, committee or answer impossible.

| file | holds |
|---|---|
| `seeds/<run>-<node>` | the seed of a node's identity in a run, unless the owner names a file for it |
| `<identity>/committee-<run>` | without a roster, the digest of the committee that it saw first in this run |
| `<identity>/journal-<run>` | its prekeys and answers as a member |
| `<identity>/claims` | an empty file for each round that it contributed to |
| `<identity>/ledger` | what it has spent |

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
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from secureagg.adapters.budgets import ledger_of
from secureagg.adapters.flower.engine import Context
from secureagg.committee import CommitteeMember
from secureagg.dp.ledger import Ledger
from secureagg.durable import make_directory, make_once
from secureagg.errors import EncodingError, ParameterError
from secureagg.identity import Identity
from secureagg.plan import RoundPlan
from secureagg.roster import Roster
from secureagg.session import Session

__all__ = ["Node"]

_LARGEST_FILE = 1 << 27  # a roster of two million identities


class Node:
    """This node, as its Context and its files have it. Raises: ParameterError for a file that cannot be used."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def enrol(self) -> Identity:
        """Return this node's identity, made now if it has none."""
        if self._setting("secureagg-identity") is None:
            path = self._seed()
            make_directory(path.parent)
            make_once(path, Identity.generate().to_seed())
        return self.identity()

    def identity(self) -> Identity:
        """Return this node's identity. Raises: ParameterError if it has none."""
        path = self._setting("secureagg-identity")
        if path is not None:
            return Identity(_read("secureagg-identity", path))
        if not self._seed().exists():
            raise ParameterError("this node has published no identity in this run; the server enrols it first")
        return Identity(_read("this run's identity", self._seed()))

    def member(self) -> CommitteeMember:
        """Return this node as a committee member, with this run's journal: what a run gives up is not another's."""
        identity = self.identity()
        return CommitteeMember(identity, journal=self._directory(identity) / f"journal-{self._context.run_id}")

    def trust(self, roster: Roster) -> None:
        """Return None if this node takes part in rounds of this roster.

        With a pinned roster file: the committee is the file's, and every client is among the file's. Without: the
        committee is the one of the first roster that this identity saw in the run (trust on first use).
        """
        pinned = self._pinned()
        if pinned is not None:
            if roster.committee != pinned.committee:
                raise ParameterError("the server's committee is not that of this node's pinned roster")
            for client_id, client in enumerate(roster.clients):
                if pinned.clients.position(client.encoded) is None:
                    raise ParameterError(f"client {client_id} of the server's roster is not on this node's pinned one")
            return
        digest = hashlib.sha256(roster.committee.encoded).digest()
        path = self._directory(self.identity()) / f"committee-{self._context.run_id}"
        make_once(path, digest)
        if _read("this run's committee", path) != digest:
            raise ParameterError("the server names another committee than earlier in this run")

    def _pinned(self) -> Roster | None:
        """Return the roster that is pinned, if one is."""
        path, ordered = self._setting("secureagg-roster"), _path(self._context.run_config, "secureagg-roster")
        try:
            named = ordered if path is None else path
            return None if named is None else Roster.from_bytes(_read("secureagg-roster", named))
        except (EncodingError, ParameterError) as error:
            if path is not None:
                raise
            # Who starts runs could have any file opened, and is not told what is there.
            raise ParameterError("the run config's secureagg-roster is no roster file of this node") from error

    def claim(self, session: Session) -> None:
        """Note, durably, that this node contributes to this round. Raises: ParameterError the second time.

        `Identity.claim` holds within one process, and Flower may start one for every message.
        """
        directory = self._directory(self.identity()) / "claims"
        make_directory(directory)
        path = directory / f"{session.roster.digest().hex()}-{session.round_number}"
        if not make_once(path, b""):
            raise ParameterError(f"this node has already contributed to round {session.round_number} under this roster")

    def ledger(self, plan: RoundPlan) -> AbstractContextManager[Ledger | None]:
        """Return this identity's ledger, as `budgets.ledger_of`."""
        return ledger_of(plan, self._directory(self.identity()) / "ledger", "all examples of this node")

    def _directory(self, identity: Identity) -> Path:
        directory = self._home() / identity.public.hex()[:32]
        make_directory(directory)
        return directory

    def _seed(self) -> Path:
        return self._home() / "seeds" / f"{self._context.run_id}-{self._context.node_id}"

    def _home(self) -> Path:
        named = self._setting("secureagg-directory")
        return Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr") / "secureagg" if named is None else named

    def _setting(self, key: str) -> Path | None:
        return _path(self._context.node_config, key)


def _path(config: Mapping[str, object], key: str) -> Path | None:
    value = config.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ParameterError(f"{key} has to be the path of a file, as text in quotes")
    return Path(value)


def _read(key: str, path: Path) -> bytes:
    try:
        if not path.is_file():  # a device may have no end
            raise ParameterError(f"{key}={path} cannot be read: no such file")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ParameterError(f"{key}={path} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise ParameterError(f"{key}={path} cannot be read: larger than {_LARGEST_FILE} bytes")
    return content
