"""The smallest federated-learning engine that can drive any aggregation end to end.

`run_rounds` is the story; importing this package needs numpy alone.
"""

from fl_core.aggregation import Aggregate, Aggregation, Beside, PlainMean, Round, Weights
from fl_core.data import (
    Dataset,
    LocalData,
    Partition,
    breast_cancer,
    digits,
    dirichlet,
    iid,
    localise,
    mnist,
    shards,
)
from fl_core.errors import (
    ClientTrainingError,
    DataError,
    FederationError,
    MissingExtraError,
    NoContributionsError,
    ParameterError,
    QuorumError,
    Refused,
    StateError,
    TrainingDivergedError,
)
from fl_core.faults import Fault, Faults, seeded_faults
from fl_core.federation import ClientSampling, Federation
from fl_core.models import mlp, small_cnn
from fl_core.noisy_mean import FloatNoiseMean
from fl_core.results import STAGES, Event, Observer, RoundResult
from fl_core.round import read_history, run_rounds
from fl_core.server import FedAdam, FedAvg, FedAvgM, ServerOptimizer, ServerState
from fl_core.training import KerasTrainer, LocalUpdate, Trainer

__all__ = [
    "STAGES",
    "Aggregate",
    "Aggregation",
    "Beside",
    "ClientSampling",
    "ClientTrainingError",
    "DataError",
    "Dataset",
    "Event",
    "Fault",
    "Faults",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "Federation",
    "FederationError",
    "FloatNoiseMean",
    "KerasTrainer",
    "LocalData",
    "LocalUpdate",
    "MissingExtraError",
    "NoContributionsError",
    "Observer",
    "ParameterError",
    "Partition",
    "PlainMean",
    "QuorumError",
    "Refused",
    "Round",
    "RoundResult",
    "ServerOptimizer",
    "ServerState",
    "StateError",
    "Trainer",
    "TrainingDivergedError",
    "Weights",
    "breast_cancer",
    "digits",
    "dirichlet",
    "iid",
    "localise",
    "mlp",
    "mnist",
    "read_history",
    "run_rounds",
    "seeded_faults",
    "shards",
    "small_cnn",
]
