"""An ordinary ServerApp. What makes it private is the grid."""

from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from private_flower.task import accuracy, new_model
from private_flower.terms import TERMS
from secureagg.adapters.flower import SecureGrid

app = ServerApp()


def evaluated(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Return the accuracy of the round's model."""
    return MetricRecord({"accuracy": accuracy({name: array.numpy() for name, array in arrays.items()})})


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for some rounds."""
    strategy = FedAvg(min_train_nodes=4, min_available_nodes=4, fraction_evaluate=0.0)
    strategy.start(
        grid=SecureGrid(grid, strategy, TERMS),
        initial_arrays=ArrayRecord({name: Array(tensor) for name, tensor in new_model().items()}),
        num_rounds=int(context.run_config["rounds"]),
        evaluate_fn=evaluated,
    )
