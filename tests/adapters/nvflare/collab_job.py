"""A job by the collab API: fixed updates; in the second round one site asks another for its part, and fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nvflare.collab import CollabCallError, collab

from secureagg.adapters.nvflare import PrivateSite, PrivateSum, Terms
from tests.adapters import common
from tests.adapters.nvflare.components import record
from tests.adapters.nvflare.names import client_of, named

TERMS = Terms(
    committee=["site-1", "site-2", "site-3"],
    quorum=common.QUORUM,
    l2_clip=common.L2_CLIP,
    value_bits=common.VALUE_BITS,
    max_weight=common.MAX_WEIGHT,
    roster="collected",
)
FAILS_IN_ROUND_2 = "site-4"


class Trainer(PrivateSite):
    terms = TERMS

    def train(self, model: dict[str, np.ndarray], round_number: int) -> tuple[dict[str, np.ndarray], int]:
        client = client_of(collab.site_name)
        if collab.site_name == FAILS_IN_ROUND_2 and round_number == 2:
            try:
                collab.get_clients(["site-1"])[0].contribute(round_number, model)
            except CollabCallError as error:
                raise RuntimeError("it refused") from error
        return named(common.update_of(client, round_number)), common.WEIGHTS[client]

    def rounding(self, site: str, round_number: int) -> np.random.Generator:
        return common.rounding_of(client_of(site), round_number)


class Server:
    @collab.main
    def run(self) -> None:
        private, model = PrivateSum(TERMS), named(common.MODEL)
        for round_number in (1, 2):
            outcome = private.round(round_number, model)
            record(Path(collab.workspace.get_root_dir()), round_number, outcome)
            model = {name: model[name] + outcome.mean[name] for name in model}
