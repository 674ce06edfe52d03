"""An ordinary ClientApp. What makes it private is the mod."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from private_flower.task import trained
from private_flower.terms import TERMS
from secureagg.adapters.flower import secure_mod

app = ClientApp(mods=[secure_mod(TERMS)])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on this node's examples."""
    model = {name: array.numpy() for name, array in message.content["arrays"].items()}
    new, loss, count = trained(model, int(context.node_config["partition-id"]))
    arrays = ArrayRecord({name: Array(tensor) for name, tensor in new.items()})
    metrics = MetricRecord({"num-examples": count, "loss": loss})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
