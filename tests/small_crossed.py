"""Clients and a design of the crossed evidence that are small enough to be computed in a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fl_meta.data.federated import FederatedDataset
from fl_meta.experiments import clients
from fl_meta.experiments.crossed_settings import Design
from fl_meta.experiments.settings import Setting
from fl_meta.models.images import mlp
from fl_meta.models.model import Model

CLIENTS, TEST_EXAMPLES = 24, 50  # accuracies have two decimals
# 24 clients in 3 folds: 8 are held out; of the others 12 train and 4 validate.
DESIGN = Design(
    Setting("toy", "tiny", least=1, most=60),
    "stable",
    folds=3,
    clients_per_round=3,
    local_epochs=3,
    most_rounds=12,
    every=2,
    second_stage_rounds=2,
    client_rates=(0.02, 0.06),
    smaller_rates=(0.1, 0.3),
    adam_rates=(0.003, 0.01),
    small_e_rates=(0.3, 1.0),
    centralized_rates=(0.01, 0.03, 0.1),
    centralized_adam_rates=(0.003, 0.01),
    centralized_batch=30,
    most_steps=24,
    every_step=2,
    personalization_rates=(0.03, 0.1),
    personalization_epochs=2,
    tuning_replicates=2,
)


def toy_clients(train_examples: Sequence[int] = (10, 30, 50)) -> FederatedDataset:
    """Clients with two classes, whose look is partly a client's own.

    Their train parts have these sizes in turn, in batches of 20 here 1, 2 or 3 of them.
    """
    generator = np.random.default_rng(3)
    shared = 0.6 * generator.normal(size=(2, 6))
    x, y, owners, test = [], [], [], []
    for client in range(CLIENTS):
        own = shared + 0.6 * generator.normal(size=shared.shape)
        examples = train_examples[client % len(train_examples)] + TEST_EXAMPLES
        labels = generator.integers(2, size=examples)
        x.append(own[labels] + 1.2 * generator.normal(size=(examples, 6)))
        y.append(labels)
        owners += [f"client_{client:02}"] * examples
        test.append(np.arange(examples) >= examples - TEST_EXAMPLES)
    return FederatedDataset.from_arrays(
        np.concatenate(x).astype(np.float32),
        np.concatenate(y),
        owners,
        test_mask=np.concatenate(test),
        num_classes=2,
        name="toy",
        synthetic=True,
    )


def flipped(
    data: FederatedDataset, client_ids: Sequence[str], *, train: bool = False, test: bool = False
) -> FederatedDataset:
    """The same examples, with the other label in these parts of these clients.

    A model that is wrong about a share of a test part is right about just that share of the flipped one.
    """
    y = data.y.copy()
    for i in map(data.position, client_ids):
        middle, end = data.starts[i] + data.train_counts[i], data.starts[i] + data.counts[i]
        for part, flips in ((slice(data.starts[i], middle), train), (slice(middle, end), test)):
            if flips:
                y[part] = 1 - y[part]
    return replace(data, y=y)


def tiny(data: FederatedDataset) -> Model:
    return mlp(data, hidden=8)


def use_clients(patch: pytest.MonkeyPatch, data: FederatedDataset) -> None:
    """Let the experiments find these clients under the name "toy", and the model "tiny"."""
    patch.setattr(clients, "load_dataset", lambda name: data)
    patch.setitem(clients.MODELS, "tiny", tiny)


def groups(data: FederatedDataset, fold: int) -> tuple[FederatedDataset, FederatedDataset, FederatedDataset]:
    """The clients of a fold of the design that train, that validate, and that are held out."""
    rest, held_out = data.fold(fold, DESIGN.folds)
    return (*rest.fold(0, 5), held_out)
