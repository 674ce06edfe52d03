"""What `observe` is told during long calls."""

from __future__ import annotations

import numpy as np
import pytest

import secureagg as sa
from secureagg.events import Event
from secureagg.he import packing as packing_module
from tests.federation import federation


def test_contribute_tells_each_frame_and_how_it_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", 64)
    update = [np.linspace(-3, 3, 500)]
    with federation(layout=sa.Layout.of(update), l2_clip=10.0, value_bound=0.75) as everyone:
        told: list[Event] = []
        everyone.contribution(0, update=update, observe=told.append)
        frames = len(everyone.plan.packing.frames)
    assert frames > 2
    assert [(e.stage, e.done, e.total) for e in told] == [
        *(("encrypt", done, frames) for done in range(1, frames + 1)),
        ("clip", 1, 1),
    ]
    factor = 10 / np.linalg.norm(update[0])
    assert told[-1].clip_factor == pytest.approx(factor, rel=1e-9)
    assert told[-1].clamped == np.count_nonzero(np.abs(update[0]) * factor > 0.75) > 0
    assert {(e.clip_factor, e.clamped) for e in told[:-1]} == {(None, None)}


def test_nothing_clipped_is_told_too() -> None:
    with federation() as everyone:
        told: list[Event] = []
        everyone.contribution(0, observe=told.append)
    assert (told[-1].clip_factor, told[-1].clamped) == (1.0, 0)


def test_an_observer_that_raises_ends_the_call_with_its_own_error() -> None:
    def observe(event: Event) -> None:
        raise KeyError(event.stage)

    with federation() as everyone, pytest.raises(KeyError, match="encrypt"):
        everyone.contribution(0, observe=observe)
