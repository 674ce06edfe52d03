"""Private aggregation for federated learning: encrypted sums that nobody can open for a single client.

`protocol.run_round` tells the whole story on one page. `he.tenseal` is the reference path over SEAL.
The engine that trains and applies the sums is a separate package, `fl_core`.
"""

from secureagg.aggregator import Aggregator, Result
from secureagg.client import contribute
from secureagg.committee import CommitteeMember
from secureagg.dp.ledger import Ledger
from secureagg.dp.mechanisms import CentralGaussian, DistributedGaussian, Skellam
from secureagg.dp.relation import Relation
from secureagg.errors import (
    BudgetExhausted,
    EncodingError,
    FaultyClientError,
    FaultyMemberError,
    MissingExtraError,
    ParameterError,
    QuorumError,
    SecureAggError,
    UnattributedFault,
)
from secureagg.events import Event
from secureagg.identity import Identity
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan
from secureagg.protocol import Participant, run_round
from secureagg.roster import Roster
from secureagg.session import Session
from secureagg.tally import verify_tally
from secureagg.warm import warm_up

__all__ = [
    "Aggregator",
    "BudgetExhausted",
    "CentralGaussian",
    "Committee",
    "CommitteeMember",
    "DistributedGaussian",
    "EncodingError",
    "Event",
    "FaultyClientError",
    "FaultyMemberError",
    "Identity",
    "Layout",
    "Ledger",
    "MissingExtraError",
    "ParameterError",
    "Participant",
    "QuorumError",
    "Relation",
    "Result",
    "Roster",
    "RoundPlan",
    "SecureAggError",
    "Session",
    "Skellam",
    "UnattributedFault",
    "__version__",
    "contribute",
    "run_round",
    "verify_tally",
    "warm_up",
]

__version__ = "0.1.0"
