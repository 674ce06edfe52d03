"""The whole campaign: every message, every field, every class of mutation; and the table of what refused what."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from tests.fuzz import client_side, member_side, noisy_side, proven_side, public_side
from tests.fuzz.client_side import Row
from tests.fuzz.sequences import misplaced
from tests.fuzz.world import World, make_world

__all__ = ["SEED", "Campaign", "run"]

SEED = 20261122
# How often each class of mutation is drawn for each field of a message.
ROUNDS: dict[str, tuple[Callable[[World, int, random.Random], Iterator[Row]], int]] = {
    "contribution": (client_side.contributions, 20),
    "proven contribution": (proven_side.contributions, 2),
    "noisy contribution": (noisy_side.contributions, 2),
    "member's noise": (noisy_side.noise, 2),
    "proven noisy contribution": (noisy_side.proven_contributions, 1),
    "member's proven noise": (noisy_side.proven_noise, 1),
    "request": (client_side.requests, 3),
    "share check": (member_side.share_checks, 10),
    "reveal answer": (member_side.answers, 10),
    "prekey": (member_side.prekeys, 16),
    "tally": (public_side.tallies, 5),
    "roster": (public_side.rosters, 2),
    "plan": (public_side.plans, 1),
    "layout": (public_side.layouts, 6),
}


@dataclass
class Campaign:
    """Counts by (message, mutation class, signed by the mutating party, check), and what went wrong."""

    counts: Counter[tuple[str, str, bool, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def signed(self) -> int:
        return sum(count for (_, _, signed, _), count in self.counts.items() if signed)

    def by(self, *places: int) -> Counter[tuple[object, ...]]:
        """Return the counts summed over all but these places of their keys."""
        out: Counter[tuple[object, ...]] = Counter()
        for key, count in self.counts.items():
            out[tuple(key[place] for place in places)] += count
        return out

    def table(self) -> list[str]:
        """Return the lines of two tables in Markdown: message by check, and class of mutation by check."""
        lines: list[str] = []
        checks = sorted(
            {check for (check,) in self.by(3)}, key=lambda check: (":" in str(check), -self.by(3)[(check,)])
        )
        for place in (0, 1):
            rows = list(dict.fromkeys(key[place] for key in self.counts))
            counts, sent = self.by(place, 3), self.by(place, 2)
            lines += [f"| check, or what became of it | {' | '.join(map(str, rows))} | all |"]
            lines += ["|---|" + "---:|" * (len(rows) + 1)]
            for check in checks:
                cells = [str(counts[(row, check)] or "") for row in rows]
                lines.append(f"| {check} | {' | '.join(cells)} | {self.by(3)[(check,)]} |")
            totals = [str(sent[(row, False)] + sent[(row, True)]) for row in rows]
            lines.append(f"| **all** | {' | '.join(totals)} | {self.total} |")
            signed = [str(sent[(row, True)]) for row in rows]
            lines += [f"| *signed by the mutating party* | {' | '.join(signed)} | {self.signed} |", ""]
        return lines


def run(seed: int = SEED) -> Campaign:
    """Run everything; half a minute."""
    campaign = Campaign()
    with make_world() as world:
        sources: dict[str, Callable[[], Iterator[Row]]] = {
            name: partial(source, world, rounds, random.Random(f"{seed} {name}"))
            for name, (source, rounds) in ROUNDS.items()
        }
        sources["any, misplaced"] = lambda: chain(misplaced(world), noisy_side.misplaced(world))
        for message, rows in sources.items():
            for kind, signed, verdict in rows():
                campaign.counts[(message, kind, signed, verdict.check)] += 1
                if verdict.failure:
                    campaign.failures.append(f"{message}, {kind}, signed={signed}: {verdict.failure}")
    return campaign
