"""The experiments' clients, models and training; and what Table 1 computes for one seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_meta import models
from fl_meta.algorithms.optimizers import sgd
from fl_meta.algorithms.table import fedavg
from fl_meta.data import load_dataset
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.published.tensorflow_federated import play_of
from fl_meta.evaluation.personalization import personalize
from fl_meta.experiments.settings import Setting, TableOne
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.training.rounds import Stage, TrainingState, run_round

MODELS: dict[str, Callable[[FederatedDataset], Model]] = {
    "logistic": models.logistic,
    "mlp": models.mlp,
    "small_cnn": models.small_cnn,
    "emnist_cnn": models.emnist_cnn,
    "char_mlp": models.char_mlp,
    "char_lstm": models.char_lstm,
    "small_lstm": lambda data: models.char_lstm(data, hidden=64),
}
# A character of several plays is one person: on both sides of a split it would be no stranger.
TOGETHER: dict[str, Callable[[str], str]] = {
    "shakespeare": lambda role: role.split("/")[1],
    "shakespeare_tff": lambda role: role.removeprefix(play_of(role)),
}

# Names of models in a comparison, beside "FedAvg" and "centralized SGD" and "… Adam".
CONTINUED = "FedAvg, continued"
CONTINUED_GRADIENTS = "FedAvg, continued for as many gradients"
REPTILE = "Reptile with Adam"
FEDSGD = "FedSGD with Adam"
SMALL_E = "FedAvg(E=1)"
LOCAL_ONLY = "local only"

BATCH = 20

FloatArray = NDArray[np.float64]


def clients_of(setting: Setting) -> FederatedDataset:
    """The clients that take part, with as many examples of each as the setting allows.

    Raises:
        ValueError: for an unknown data set, or if no client has enough examples.
    """
    number, synthetic = setting.num_clients, setting.dataset == "writers"
    options = {"num_writers": number} if synthetic and number else {}
    data = load_dataset(setting.dataset, **options).limited(setting.least, setting.most)
    if number and not synthetic:
        data = data.subset(data.client_ids[:: max(1, len(data) // number)][:number])
    return data


def fold_of(setting: Setting, fold: int, folds: int) -> tuple[FederatedDataset, FederatedDataset]:
    """The other clients, and those of this fold, who are held out."""
    return clients_of(setting).fold(fold, folds, TOGETHER.get(setting.dataset, str))


def parts(setting: Setting, fold: int, folds: int) -> tuple[FederatedDataset, ...]:
    """Clients that train, that choose hyper-parameters (a fifth of the rest), and that are held out."""
    rest, held_out = fold_of(setting, fold, folds)
    train, validation = rest.fold(0, 5, TOGETHER.get(setting.dataset, str))
    return train, validation, held_out


@dataclass(frozen=True)
class Snapshot:
    """A global model on its way.

    Attributes:
        round_number: rounds (or centralized steps) since the beginning of training.
        params: its parameters.
        local_gradients: gradients of batches that were evaluated on the way, in this and earlier stages.
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
    """
    start = start or Snapshot(0, model.init(seed))
    # What came before counts as one stage: batches are a function of the number of the round.
    stages = [Stage(stage.algorithm, start.round_number), stage] if start.round_number else [stage]
    state, gradients = TrainingState(start.round_number, start.params, {}), start.local_gradients
    for done in range(stage.rounds + 1):
        if done:
            # A single client, the pool of centralized training, gains nothing from a stack.
            engine = "stacked" if len(data) > 1 else "loop"
            state, info = run_round(model, data, state, stages, len(stages) - 1, seed, engine)
            gradients += info.local_gradients
        if done in at:
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
    """Test accuracy after 0, 1, … epochs of adaptation [epochs + 1, clients]; of the `ends`, [2, clients]."""
    table = personalize(
        model,
        params,
        data,
        epochs=epochs,
        every=epochs if ends else 1,
        client=sgd(rate),
        batch_size=BATCH,
        seed=seed,
    )
    found: FloatArray = table.accuracies().loc[list(data.client_ids)].to_numpy().T
    return found


def rounded(values: FloatArray) -> Any:
    """Accuracies as lists; of at most 100,000 predictions nothing that matters is lost."""
    return np.round(values, 5).tolist()


def table_one(config: TableOne, seed: int) -> dict[str, Any]:
    """The paper's Table 1 for one seed, as JSON values.

    Each cell has `curve`, rows of round and mean initial and personalized accuracy of held-out clients, and
    `accuracy` at the end, [2, clients]: initial and personalized.
    """
    train, held_out = fold_of(config.setting, seed % config.folds, config.folds)
    model = MODELS[config.setting.model](train)
    cells = []
    for clients in config.clients_per_round:
        for epochs in config.local_epochs:
            algorithm = fedavg(epochs, client=sgd(config.client_rate), batch_size=BATCH)
            stage, curve = Stage(algorithm, config.rounds, clients), []
            for snapshot in path(model, train, stage, seed, range(0, config.rounds + 1, config.every)):
                found = accuracies(
                    model,
                    snapshot.params,
                    held_out,
                    config.client_rate,
                    config.personalization_epochs,
                    seed,
                    ends=True,
                )
                curve.append([snapshot.round_number, *rounded(found.mean(1))])
            cell = {"clients_per_round": clients, "local_epochs": epochs, "curve": curve}
            cells.append(cell | {"accuracy": rounded(found)})
    return {"clients": list(held_out.client_ids), "cells": cells}
