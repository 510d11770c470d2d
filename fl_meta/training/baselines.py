"""Centralized and local-only training: the two extremes of federated training."""

from __future__ import annotations

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import fedsgd
from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import Evaluation, PersonalizationTable, personalize
from fl_meta.models.model import Model
from fl_meta.training.checkpoints import Checkpoint
from fl_meta.training.run import Run, train


def train_centralized(
    model: Model,
    data: FederatedDataset,
    optimizer: SGD | Adam,
    *,
    steps: int,
    batch_size: int = 20,
    seed: int = 0,
    evaluation: Evaluation | None = None,
    checkpoint: Checkpoint | None = None,
    progress: bool = True,
) -> Run:
    """Datacenter training: `steps` steps of `optimizer` on batches from all clients' pooled train parts.

    This is FedSGD with a single client that owns all examples and a client rate of 1, so a round is one step
    of torch.optim. Each batch is drawn from the whole pool, without replacement within the batch; there are
    no epochs.

    Example:
        >>> run = fl_meta.train_centralized(model, data, fl_meta.Adam(1e-3), steps=5, progress=False)
        >>> run.state.round_number
        5

    Raises:
        ValueError: if `evaluation` personalizes without naming a client optimizer: training has none.

    Source: the "centralized" comparison of the paper's claim 3.
    """
    if evaluation and evaluation.personalization_epochs and evaluation.client is None:
        raise ValueError(
            "centralized training has no client optimizer to personalize with; give one: "
            "Evaluation(..., client=SGD(0.02))"
        )
    algorithm = fedsgd(client=SGD(1.0), server=optimizer, batch_size=batch_size)
    return train(
        model,
        data.pooled(),
        [Stage(algorithm, steps, clients_per_round=1)],
        seed=seed,
        evaluation=evaluation,
        checkpoint=checkpoint,
        engine="loop",  # a single client and step: a stack costs more than it saves
        progress=progress,
    )


def train_local_only(
    model: Model,
    data: FederatedDataset,
    *,
    epochs: int,
    client: SGD = SGD(0.02),
    batch_size: int | None = 20,
    seed: int = 0,
) -> PersonalizationTable:
    """Train every client alone, for `epochs` epochs on its own train part, from one common initialization.

    Epoch 0 of the table is the untrained model, so a "gain" is everything that a client learns by itself.

    Example:
        >>> table = fl_meta.train_local_only(model, held_out, epochs=2)
        >>> table.summary().index.tolist()
        [0, 1, 2]
    """
    start = model.init(seed)
    return personalize(model, start, data, epochs=epochs, client=client, batch_size=batch_size, seed=seed)
