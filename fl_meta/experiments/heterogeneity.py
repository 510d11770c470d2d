"""Synthetic writers who differ by more or by less, and what personalization gains on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import reptile
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.synthetic.writers import load_writers
from fl_meta.evaluation.bootstrap import Interval, bootstrap_mean
from fl_meta.experiments.clients import MODELS
from fl_meta.experiments.settings import Setting
from fl_meta.experiments.trajectories import BATCH, accuracies, path, rounded
from fl_meta.support.array_types import FloatArray


@dataclass(frozen=True)
class Heterogeneity:
    """Notebook 08: synthetic writers who differ by more or by less, in every cell of a grid.

    Attributes:
        setting: the synthetic writers, how many, and the model.
        folds: seed k holds out fold k of so many; seeds from `folds` on have other writers.
        style: how far hands differ, see `data.handwriting.Knobs`.
        label_skew: how far class frequencies differ.
        mean_examples: of each writer, train and test together; all have as many.
        clients_per_round: sampled in each round.
        steps: local steps K in each round, in every cell the same.
        rounds: of FedAvg.
        client_rate: of local SGD, in training and in personalization; tuned for no cell.
        server_momentum: of SGD with rate 1 at the server.
        personalization_epochs: of the personalized accuracy.
    """

    setting: Setting
    folds: int
    style: tuple[float, ...]
    label_skew: tuple[float, ...]
    mean_examples: tuple[int, ...]
    clients_per_round: int
    steps: int
    rounds: int
    client_rate: float
    server_momentum: float
    personalization_epochs: int


RECORDED_HETEROGENEITY = Heterogeneity(
    Setting("writers", "logistic", least=1, most=1000, num_clients=60),
    folds=3,
    style=(0.0, 0.5, 1.0, 2.0),
    label_skew=(0.0, 1.0, 2.0, 4.0),
    mean_examples=(25, 100, 300),
    clients_per_round=10,
    steps=5,
    rounds=20,
    client_rate=0.5,
    server_momentum=0.8,
    personalization_epochs=3,
)


KNOBS = ("style", "label_skew", "mean_examples")
"""Of `load_writers`; `size_skew` is 0, so that every writer has as many examples as all others."""


def cells(config: Heterogeneity) -> Iterator[dict[str, Any]]:
    """The knobs' values in each cell of the grid."""
    for values in product(*(getattr(config, knob) for knob in KNOBS)):
        yield dict(zip(KNOBS, values, strict=True))


def writers_of(config: Heterogeneity, knobs: Mapping[str, Any], population: int) -> FederatedDataset:
    """The writers of a cell. Their images are drawn when they are read, so that no step takes long.

    Args:
        config: how many there are.
        knobs: by the names in `KNOBS`.
        population: a number, the seed of the writers; each has other writers.
    """
    setting = config.setting
    data = load_writers(setting.num_clients or 200, seed=population, size_skew=0.0, on_demand=True, **knobs)
    return data.limited(setting.least, setting.most)


def measure(config: Heterogeneity, data: FederatedDataset, seed: int) -> Iterator[FloatArray | None]:
    """Train on the writers outside fold `seed % folds`, adapt those in it.

    Yields None after each of the `config.rounds` rounds, then test accuracies in [0, 1], initial and
    personalized [2, writers of the fold].
    """
    train, held_out = data.fold(seed % config.folds, config.folds)
    model = MODELS[config.setting.model](train)
    client, server = SGD(config.client_rate), SGD(1.0, momentum=config.server_momentum)
    # FedAvg with a number of steps: nobody has more examples than others, so all weigh the same.
    algorithm = reptile(config.steps, client=client, server=server, batch_size=BATCH)
    stage = Stage(algorithm, config.rounds, config.clients_per_round)
    for snapshot in path(model, train, stage, seed, range(1, config.rounds + 1)):
        params = snapshot.params
        yield None
    epochs = config.personalization_epochs
    yield accuracies(model, params, held_out, config.client_rate, epochs, seed, ends=True)


def heterogeneity(config: Heterogeneity, seed: int) -> dict[str, Any]:
    """All cells for one seed, as JSON values; so many seeds as there are folds share their writers.

    Each cell has the values of its knobs, and `accuracy` [2, clients]: initial and personalized.
    """
    found = []
    for knobs in cells(config):
        data = writers_of(config, knobs, seed // config.folds)
        for accuracy in measure(config, data, seed):
            if accuracy is not None:
                found.append({**knobs, "accuracy": rounded(accuracy)})
    held_out = data.fold(seed % config.folds, config.folds)[1]
    return {"clients": list(held_out.client_ids), "cells": found}


@dataclass(frozen=True)
class Gain:
    """What personalization gained in a cell, in per cent and points, every writer weighing the same.

    Attributes:
        initial: mean test accuracy of the global model.
        personalized: the same after adaptation.
        gain: personalized − initial, with its 95 % paired bootstrap interval over writers.
        writers: number of held-out writers.
    """

    initial: float
    personalized: float
    gain: Interval
    writers: int

    def __str__(self) -> str:
        return (
            f"initial {self.initial:.1f} % → personalized {self.personalized:.1f} %, gain "
            f"{self.gain.estimate:+.1f} points [{self.gain.low:.1f}, {self.gain.high:.1f}], "
            f"{self.writers} held-out writers"
        )

    @classmethod
    def of(cls, accuracy: FloatArray) -> Gain:
        """Of test accuracies in [0, 1], initial and personalized [2, writers]."""
        initial, personalized = 100 * accuracy
        gain = bootstrap_mean(personalized - initial)
        return cls(float(initial.mean()), float(personalized.mean()), gain, len(initial))


def gains(results: Sequence[Mapping[str, Any]]) -> dict[tuple[float, ...], Gain]:
    """The writers of all seeds together, by the values of the knobs in the order of `KNOBS`.

    Args:
        results: of `heterogeneity`, one per seed.
    """
    found = {}
    for same in zip(*(result["cells"] for result in results), strict=True):
        accuracy = np.concatenate([np.array(cell["accuracy"]) for cell in same], axis=1)
        found[tuple(same[0][knob] for knob in KNOBS)] = Gain.of(accuracy)
    return found


def recompute(
    config: Heterogeneity, knobs: Mapping[str, Any], population: int, keep: Callable[[Gain], None]
) -> Iterator[float]:
    """One cell with other writers, each of them held out once.

    Yields the share that is done after every round; `keep` gets the outcome, at the end.
    """
    data = writers_of(config, knobs, population)
    each, parts = config.rounds + 1, []
    for fold in range(config.folds):
        steps = measure(config, data, population * config.folds + fold)
        for done, accuracy in enumerate(steps, start=1):
            if accuracy is not None:
                parts.append(accuracy)
            yield (fold * each + done) / (config.folds * each)
    keep(Gain.of(np.concatenate(parts, axis=1)))
