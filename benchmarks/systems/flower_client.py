"""Flower's client, in its own module so that Ray's workers import it instead of unpickling it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from systems.plain import Rounds
from systems.plain_torch import train_client

client_app = ClientApp()
rounds_of = cache(Rounds)  # data and module stay in the worker from round to round


@client_app.train()
def train(message: Message, context: Context) -> Message:
    config = cast(ConfigRecord, message.content["config"])
    rounds = rounds_of(Path(cast(str, config["folder"])))
    client = int(context.node_config["partition-id"])
    rounds.module.load_state_dict(cast(ArrayRecord, message.content["arrays"]).to_torch_state_dict())
    examples = rounds.clients[client]
    batches = rounds.plan[cast(int, config["number"]), client].tolist()
    train_client(rounds.module, examples, batches, rounds.learning_rate)
    reply = {
        "arrays": ArrayRecord(rounds.module.state_dict()),
        "metrics": MetricRecord({"num-examples": len(examples)}),
    }
    return Message(RecordDict(reply), reply_to=message)
