"""Global models on their way through training, and their accuracy on clients."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.stages import Stage
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.task import ENGINES, Task
from fl_meta.evaluation.personalization import personalize
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.support.array_types import FloatArray
from fl_meta.training.rounds import TrainingState, rounds

BATCH_SIZE = 20
"""Examples in a local batch of every experiment but the published benchmark."""


@dataclass(frozen=True)
class Snapshot:
    """A global model at one point of its training.

    Attributes:
        round_number: rounds (or centralized steps) since the beginning of training.
        params: the model's parameters.
        local_gradients: batch gradients evaluated so far, in this stage and earlier ones.

    Example:
        >>> start = Snapshot(0, model.init(0))
    """

    round_number: int
    params: Params
    local_gradients: int = 0


def path(
    model: Model,
    data: FederatedDataset,
    stage: Stage,
    seed: int,
    at: Collection[int],
    start: Snapshot | None = None,
) -> Iterator[Snapshot]:
    """Run a stage, from `start` or a fresh model, and give the model after these of its rounds.

    Args:
        at: numbers of rounds of this stage; 0 is its start.

    Example:
        >>> [snapshot.round_number for snapshot in path(model, train, stages[0], seed=0, at=(0, 2))]
        [0, 2]
    """
    start = start or Snapshot(0, model.init(seed))
    # A single client, the pool of centralized training, gains nothing from a stack.
    task = Task(model, data, seed, ENGINES["stacked" if len(data) > 1 else "loop"])
    if 0 in at:
        yield start
    gradients, before = start.local_gradients, TrainingState(start.round_number, start.params)
    for _, state, info in rounds(task, [stage], before, start.round_number):
        gradients += info.local_gradients
        if state.round_number - start.round_number in at:
            yield Snapshot(state.round_number, state.params, gradients)


def accuracies(
    model: Model,
    params: Params,
    data: FederatedDataset,
    rate: float,
    epochs: int,
    seed: int,
    *,
    ends: bool = False,
) -> FloatArray:
    """Test accuracy after 0, 1, … epochs of adaptation [epochs + 1, clients]; with `ends`, [2, clients].

    Example:
        >>> initial, personalized = accuracies(model, params, held_out, 0.1, 3, seed=0, ends=True)
    """
    every, client = epochs if ends else 1, SGD(rate)
    table = personalize(
        model, params, data, epochs=epochs, every=every, client=client, batch_size=BATCH_SIZE, seed=seed
    )
    by_client: FloatArray = table.accuracies().loc[list(data.client_ids)].to_numpy()
    return by_client.T
