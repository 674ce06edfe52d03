"""A collab site alone, called as the server would call it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg.adapters.nvflare import PrivateSite
from secureagg.adapters.nvflare.site import Site
from tests.adapters import common
from tests.adapters.nvflare.federation import Job
from tests.adapters.nvflare.names import named

DEAD, LIVE = named([tensor - 1 for tensor in common.MODEL]), named(common.MODEL)


class Overtaken(PrivateSite):
    """While it trains for round 1, the server calls it for round 2; `later` is what that call returned."""

    later = b""

    def __init__(self, job: Job) -> None:
        self.terms = job.terms  # type: ignore[misc]
        self._site = job.sites["site-1"]

    def train(self, model: Any, round_number: int) -> tuple[dict[str, np.ndarray], int]:
        if round_number == 1:
            self.later = self.contribute(2, LIVE)
        return named(common.update_of(0, round_number)), common.WEIGHTS[0]

    def _asked(self) -> Site:  # the caller is the server
        assert self._site is not None
        return self._site


def test_an_update_of_one_model_does_not_enter_the_sum_of_another(job: Job) -> None:
    job.convener.convene(1)
    site = Overtaken(job)
    with pytest.raises(sa.ParameterError, match="another round has begun at this site"):
        site.contribute(1, DEAD)
    assert job.begin(2).admit("site-1", site.later)
