"""Mutations of a message's bytes, by class, aimed at each of its fields in turn; everything drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

__all__ = ["CLASSES", "Field", "Mutation", "mutations"]


@dataclass(frozen=True)
class Field:
    """A run of bytes with one meaning: a position class of its message."""

    name: str
    start: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Mutation:
    """Altered bytes, how they were altered, and in which field."""

    kind: str
    field: str
    encoded: bytes


def _put(message: bytes, start: int, piece: bytes) -> bytes:
    return message[:start] + piece + message[start + len(piece) :]


def _flip(message: bytes, field: Field, draw: random.Random, others: Sequence[bytes]) -> bytes:
    place = draw.randrange(field.start, field.stop)
    return _put(message, place, bytes([message[place] ^ 1 << draw.randrange(8)]))


def _replace(message: bytes, field: Field, draw: random.Random, others: Sequence[bytes]) -> bytes:
    place = draw.randrange(field.start, field.stop)
    return _put(message, place, bytes([draw.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, draw.randrange(256)])]))


def _refill(message: bytes, field: Field, draw: random.Random, others: Sequence[bytes]) -> bytes:
    filling = draw.choice([bytes(field.size), b"\xff" * field.size, draw.randbytes(field.size)])
    return _put(message, field.start, filling)


def _truncate(message: bytes, field: Field, draw: random.Random, others: Sequence[bytes]) -> bytes:
    return message[: draw.choice([field.start, draw.randrange(field.start, field.stop)])]


def _cut_out(message: bytes, field: Field, draw: random.Random, others: Sequence[bytes]) -> bytes:
    return message[: field.start] + message[field.start + draw.choice([1, field.size]) :]


def _extend(message: bytes, field: Field, draw: random.Random, others: Sequence[bytes]) -> bytes:
    piece = draw.choice([b"\0", draw.randbytes(draw.randrange(1, 40)), message[field.start : field.stop], message])
    return draw.choice([message + piece, message[: field.stop] + piece + message[field.stop :]])


def _splice(message: bytes, field: Field, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """The same field of another valid message: another sender's, session's or recipient's."""
    return _put(message, field.start, draw.choice(others)[field.start : field.stop])


CLASSES: dict[str, Callable[[bytes, Field, random.Random, Sequence[bytes]], bytes]] = {
    "bit flipped": _flip,
    "byte replaced": _replace,
    "field refilled": _refill,
    "truncated": _truncate,
    "bytes cut out": _cut_out,
    "extended": _extend,
    "field of another": _splice,
}


def mutations(
    message: bytes, fields: Sequence[Field], others: Sequence[bytes], rounds: int, draw: random.Random
) -> Iterator[Mutation]:
    """Yield `rounds` mutations of each class in each field, and swaps of each two fields of one size.

    Mutations that happen to change nothing are drawn again a few times, then left out.
    """
    for field in fields:
        for kind, mutate in CLASSES.items():
            for _ in range(rounds):
                altered = (mutate(message, field, draw, others) for _ in range(5))
                encoded = next((each for each in altered if each != message), None)
                if encoded is not None:
                    yield Mutation(kind, field.name, encoded)
    pairs = [(a, b) for a, b in combinations(fields, 2) if a.size == b.size]
    for first, second in draw.sample(pairs, min(len(pairs), rounds * len(fields))):
        a, b = message[first.start : first.stop], message[second.start : second.stop]
        if a != b:
            yield Mutation("fields swapped", first.name, _put(_put(message, first.start, b), second.start, a))
