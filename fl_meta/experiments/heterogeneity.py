"""What personalization gains on synthetic writers who differ more or less from one another."""

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
from fl_meta.experiments.heterogeneity_settings import KNOBS, Heterogeneity
from fl_meta.experiments.outcomes import HeterogeneityCell, HeterogeneityOutcome, rounded
from fl_meta.experiments.trajectories import BATCH_SIZE, accuracies, path
from fl_meta.support.array_types import FloatArray


def grid_settings(config: Heterogeneity) -> Iterator[dict[str, Any]]:
    """The values of the knobs in each cell of the grid."""
    for values in product(*(getattr(config, knob) for knob in KNOBS)):
        yield dict(zip(KNOBS, values, strict=True))


def writers_of(config: Heterogeneity, knobs: Mapping[str, Any], population: int) -> FederatedDataset:
    """The writers of a cell, others in each population. Images are drawn when read: no step is long."""
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
    # FedAvg with a number of steps: everybody has the same number of examples, so all weigh the same.
    algorithm = reptile(config.steps, client=client, server=server, batch_size=BATCH_SIZE)
    stage = Stage(algorithm, config.rounds, config.clients_per_round)
    for snapshot in path(model, train, stage, seed, range(1, config.rounds + 1)):
        params = snapshot.params
        yield None
    epochs = config.personalization_epochs
    yield accuracies(model, params, held_out, config.client_rate, epochs, seed, ends=True)


def heterogeneity(config: Heterogeneity, seed: int) -> HeterogeneityOutcome:
    """Train and personalize in every cell of the grid for one seed.

    The writers come from seed // folds, so that the seeds of one population share them.
    """
    cells = []
    for knobs in grid_settings(config):
        data = writers_of(config, knobs, seed // config.folds)
        for accuracy in measure(config, data, seed):
            if accuracy is not None:
                cells.append(HeterogeneityCell(**knobs, accuracy=rounded(accuracy)))
    held_out = data.fold(seed % config.folds, config.folds)[1]
    return HeterogeneityOutcome(held_out.client_ids, tuple(cells))


@dataclass(frozen=True)
class Gain:
    """What personalization gained in a cell; every writer weighs the same.

    Attributes:
        initial: mean test accuracy of the global model, percent.
        personalized: mean test accuracy after adaptation, percent.
        gain: personalized − initial, points, with its 95 % paired bootstrap interval over writers.
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
        """Summarize test accuracies in [0, 1], initial and personalized [2, writers]."""
        initial, personalized = 100 * accuracy
        gain = bootstrap_mean(personalized - initial)
        return cls(float(initial.mean()), float(personalized.mean()), gain, len(initial))


def gains(outcomes: Sequence[HeterogeneityOutcome]) -> dict[tuple[float, ...], Gain]:
    """The gain in each cell over the writers of all seeds; keys are the knobs' values, in `KNOBS` order."""
    gain_of = {}
    for cells in zip(*(outcome.cells for outcome in outcomes), strict=True):
        accuracy = np.concatenate([np.array(cell.accuracy) for cell in cells], axis=1)
        gain_of[tuple(getattr(cells[0], knob) for knob in KNOBS)] = Gain.of(accuracy)
    return gain_of


def recompute(
    config: Heterogeneity, knobs: Mapping[str, Any], population: int, keep: Callable[[Gain], None]
) -> Iterator[float]:
    """Compute one cell with other writers, each of them held out once.

    Yields the share of the work that is done after every round; `keep` receives the gain at the end.
    """
    data = writers_of(config, knobs, population)
    steps_per_fold, accuracies_by_fold = config.rounds + 1, []
    for fold in range(config.folds):
        steps = measure(config, data, population * config.folds + fold)
        for done, accuracy in enumerate(steps, start=1):
            if accuracy is not None:
                accuracies_by_fold.append(accuracy)
            yield (fold * steps_per_fold + done) / (config.folds * steps_per_fold)
    keep(Gain.of(np.concatenate(accuracies_by_fold, axis=1)))
