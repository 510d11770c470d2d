"""What stays the same over the rounds of a run: made once, and handed down."""

from __future__ import annotations

from dataclasses import dataclass

from fl_meta.algorithms.table import LocalWork
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.client_momentum import ClientMomentum
from fl_meta.engines.interface import Engine
from fl_meta.engines.local_training import LocalTraining
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.stacked.engine import StackedEngine
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params

ENGINES: dict[str, Engine] = {"stacked": StackedEngine(), "loop": LoopEngine()}


def engine_named(name: str | Engine) -> Engine:
    """The engine of that name; an engine itself, such as `StackedEngine(workers=1)`, is taken as it is.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if not isinstance(name, str):
        return name
    if name not in ENGINES:
        raise ValueError(f"engine={name!r} is unknown; choose one of {', '.join(map(repr, ENGINES))}")
    return ENGINES[name]


@dataclass(frozen=True)
class Task:
    """What to train, on whose data, and how.

    Attributes:
        model: the model.
        data: the clients.
        seed: for the clients of each round, their batches and dropout.
        engine: what runs the clients' local training.
    """

    model: Model
    data: FederatedDataset
    seed: int
    engine: Engine

    def local_training(
        self, params: Params, work: LocalWork, round_number: int, momentum: ClientMomentum | None
    ) -> LocalTraining:
        """What the clients do in a round that starts from `params`."""
        return LocalTraining(self.model, params, self.data, work, self.seed, round_number, momentum)
