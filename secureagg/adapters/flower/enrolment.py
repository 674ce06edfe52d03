"""Whom the server knows: the nodes' public identities, which nodes are the committee, and the members' prekeys."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from secureagg.adapters.flower import envelope
from secureagg.adapters.flower.engine import Grid, Message
from secureagg.adapters.flower.exchange import replies
from secureagg.errors import EncodingError, ParameterError, QuorumError
from secureagg.identity import KeyChallenge
from secureagg.roster import Label, PublicIdentity
from secureagg.session import Prekey

__all__ = ["Enrolment"]


class Enrolment:
    """Public identities and prekeys, as nodes published them through the server.

    committee_nodes: the committee's nodes, or None to choose them among those asked first. It stays the same for the
    run: nodes refuse another. Round numbers start at the microsecond this is made, since a member answers a number
    once in its life.
    """

    def __init__(self, grid: Grid, size: int, committee_nodes: Sequence[int] | None, prekey_rounds: int) -> None:
        self._grid = grid
        self._size = size
        self._prekey_rounds = prekey_rounds
        self._prekeys: dict[int, dict[int, bytes]] = {}
        self._chosen = None if committee_nodes is None else list(committee_nodes)
        self.identities: dict[int, bytes] = {}
        self._settings: dict[int, bytes] = {}
        self.committee: list[int] = []
        self.round_number = time.time_ns() // 1000

    def enrol(self, nodes: Sequence[int], message_type: str, timeout: float | None) -> dict[int, str]:
        """Ask nodes that are not known yet; return why some could not be enrolled.

        The first call also makes the committee. No exchange if all are known and the members' prekeys suffice.
        Raises: QuorumError if too few nodes can be members.
        """
        self.round_number += 1
        failures: dict[int, str] = {}
        candidates = self._candidates(nodes)
        while True:
            members = self.committee or candidates[: self._size]
            if len(members) < self._size:
                raise QuorumError(f"{len(members)} nodes can be committee members, the terms ask for {self._size}")
            bare = [node for node in members if self.round_number not in self._prekeys.get(node, {})]
            new = [node for node in nodes if node not in self.identities and node not in failures]
            if bare or new:
                failures |= self._ask(bare, new, message_type, timeout)
            lost = [node for node in members if node in failures]
            if not lost:
                self.committee = members
                return failures
            if self.committee or self._chosen is not None:
                raise QuorumError(
                    f"committee node {lost[0]} has no prekey for this round, and all must have one: {failures[lost[0]]}"
                )
            candidates = [node for node in candidates if node not in failures]

    def settings(self, nodes: Iterable[int]) -> tuple[bytes, dict[int, str]]:
        """Return the run config's digest, as most of these enrolled nodes have it, and why the others cannot train.

        Requires: at least one node.

        Nodes bind it to the session: a server cannot give one of them another learning rate than the rest.
        """
        found = {node: self._settings[node] for node in nodes}
        ((agreed, _),) = Counter(found.values()).most_common(1)
        others = [node for node, each in found.items() if each != agreed]
        return agreed, dict.fromkeys(others, "its run config is another than that of most nodes")

    def prekeys(self) -> list[bytes]:
        """Return the members' prekeys for this round, in the committee's order, and forget those of earlier rounds."""
        for kept in self._prekeys.values():
            for number in [number for number in kept if number < self.round_number]:
                del kept[number]
        return [self._prekeys[node][self.round_number] for node in self.committee]

    def wanted(self, node: int) -> tuple[int, int]:
        """Return (first round, count) of the prekeys to ask a member for: none while half a batch is left."""
        last = max(self._prekeys[node], default=self.round_number)
        if last - self.round_number > self._prekey_rounds // 2:
            return 0, 0
        return last + 1, self._prekey_rounds

    def keep(self, node: int, prekeys: Iterable[bytes]) -> None:
        """Keep a member's prekeys for rounds soon to come. Raises: EncodingError if they are not its own."""
        for encoded in prekeys:
            prekey = Prekey.from_bytes(encoded)
            if prekey.member.encoded != self.identities[node]:
                raise EncodingError(f"node {node} published another member's prekey")
            if 0 <= prekey.round_number - self.round_number <= 2 * self._prekey_rounds:  # no more than was asked for
                self._prekeys.setdefault(node, {})[prekey.round_number] = encoded

    def _candidates(self, nodes: Sequence[int]) -> list[int]:
        """Return nodes that may be members, those of the cohort first, others that are connected after them."""
        if self._chosen is not None:
            return self._chosen
        others = (int(node) for node in self._grid.get_node_ids()) if len(nodes) < self._size else ()
        return list(dict.fromkeys(chain(sorted(nodes), others)))

    def _ask(
        self, members: Sequence[int], others: Sequence[int], message_type: str, timeout: float | None
    ) -> dict[int, str]:
        challenge = KeyChallenge()
        counts = dict.fromkeys(others, 0) | dict.fromkeys(members, self._prekey_rounds)
        messages = [
            Message(
                envelope.marked(envelope.SETUP, first=self.round_number, count=count, challenge=challenge.public),
                dst_node_id=node,
                message_type=message_type,
            )
            for node, count in counts.items()
        ]
        failures = dict.fromkeys(counts, "it did not answer")
        for node, reply in replies(self._grid, messages, timeout):
            if reply.has_error():
                failures[node] = str(reply.error.reason)
                continue
            try:
                self._take(node, int(messages[0].metadata.run_id), reply, challenge)
                del failures[node]
            except (EncodingError, ParameterError) as error:
                failures[node] = str(error)
        return failures

    def _take(self, node: int, run: int, reply: Message, challenge: KeyChallenge) -> None:
        """Keep what a node published. Raises: EncodingError or ParameterError if it cannot be, or is not its own."""
        identity, signature = envelope.part_in(reply, "identity"), envelope.part_in(reply, "signature")
        confirmation = envelope.part_in(reply, "confirmation")
        settings, prekeys = envelope.part_in(reply, "settings"), envelope.parts_in(reply, "prekeys")
        party, enrolment = PublicIdentity(identity), envelope.enrolment_of(identity, run, node)
        party.verify(Label.ENROLMENT, enrolment, signature)
        challenge.verify(party, enrolment, confirmation)
        halves = {half for other, each in self.identities.items() if other != node for half in _halves(each)}
        if not halves.isdisjoint(_halves(identity)):
            raise ParameterError("it published another node's key; a roster with both would be refused")
        if self.identities.setdefault(node, identity) != identity:
            raise ParameterError("it published another identity than before")
        self._settings[node] = settings
        self.keep(node, prekeys)


def _halves(identity: bytes) -> tuple[bytes, bytes]:
    return identity[:32], identity[32:]
