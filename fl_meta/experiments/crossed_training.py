"""What tuning and the cells of the crossed design share: the clients, the stages, the rule of long enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm, fedavg, fedsgd, reptile
from fl_meta.data.federated import FederatedDataset
from fl_meta.experiments.clients import MODELS, train_validation_held_out
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED_ADAM,
    FLAT,
    MOMENTUM,
    Design,
    Ended,
    Server,
    Update,
)
from fl_meta.experiments.trajectories import BATCH_SIZE, Snapshot, accuracies
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.support.array_types import FloatArray

Curve = list[tuple[int, float]]
"""Rounds (or steps) since the start, and the validation clients' mean initial accuracy there."""


@dataclass(frozen=True)
class Fold:
    """One fold of a design: its clients in three groups, and the model."""

    design: Design
    train: FederatedDataset
    validation: FederatedDataset
    held_out: FederatedDataset
    model: Model

    @classmethod
    def of(cls, design: Design, number: int) -> Fold:
        """Load the fold with this number, from 0.

        Example:
            >>> fold = Fold.of(DESIGNS["writers-stable"], 0)  # doctest: +SKIP
        """
        train, validation, held_out = train_validation_held_out(design.setting, number, design.folds)
        return cls(design, train, validation, held_out, MODELS[design.setting.model](train))

    @cached_property
    def pool(self) -> FederatedDataset:
        """The training clients as one, for centralized training."""
        return self.train.pooled()

    def initial(self, params: Params, data: FederatedDataset) -> FloatArray:
        """The initial accuracy of each client [clients]."""
        initial: FloatArray = accuracies(self.model, params, data, rate=1.0, epochs=0, seed=0)[0]
        return initial

    def both(self, params: Params, data: FederatedDataset, rate: float, seed: int) -> FloatArray:
        """Initial and personalized accuracy of each client [2, clients]."""
        epochs = self.design.personalization_epochs
        return accuracies(self.model, params, data, rate, epochs, seed, ends=True)

    # --- the stages of the arms --------------------------------------------------------------------------

    def fedavg_stage(self, client_rate: float, rounds: int) -> Stage:
        """FedAvg before the fork."""
        return self._stage(self._fedavg(self.design.local_epochs, client_rate, SGD(1.0, MOMENTUM)), rounds)

    def second_stage(self, update: Update, server: Server, rate: float, client_rate: float) -> Stage:
        """An arm of the second stage."""
        optimizer = Adam(rate) if server == "Adam" else SGD(rate, MOMENTUM)
        if update == "FedAvg":
            algorithm = self._fedavg(self.design.local_epochs, client_rate, optimizer)
        else:
            # As many steps as FedAvg's epochs are for the mean training client.
            batches = float(np.ceil(self.train.train_counts / BATCH_SIZE).mean())
            steps = round(self.design.local_epochs * batches)
            algorithm = reptile(steps, client=SGD(client_rate), server=optimizer, batch_size=BATCH_SIZE)
        return self._stage(algorithm, self.design.second_stage_rounds)

    def fedsgd_stage(self, rate: float, client_rate: float, rounds: int) -> Stage:
        """FedSGD with Adam: a rival that improves global accuracy alone."""
        return self._stage(fedsgd(client=SGD(client_rate), server=Adam(rate), batch_size=BATCH_SIZE), rounds)

    def small_e_stage(self, rate: float, client_rate: float, rounds: int) -> Stage:
        """FedAvg(E=1): the other rival."""
        return self._stage(self._fedavg(1, client_rate, SGD(rate, MOMENTUM)), rounds)

    def centralized_stage(self, arm: str, rate: float, steps: int) -> Stage:
        """Centralized training on the pool; the arm's name says with which optimizer."""
        optimizer = Adam(rate) if arm == CENTRALIZED_ADAM else SGD(rate, MOMENTUM)
        batch = self.design.centralized_batch
        return Stage(fedsgd(client=SGD(1.0), server=optimizer, batch_size=batch), steps, clients_per_round=1)

    def _stage(self, algorithm: Algorithm, rounds: int) -> Stage:
        return Stage(algorithm, rounds, self.design.clients_per_round)

    def _fedavg(self, epochs: int, client_rate: float, server: SGD | Adam) -> Algorithm:
        return fedavg(epochs, client=SGD(client_rate), server=server, batch_size=BATCH_SIZE)


def is_flat(curve: Curve) -> bool:
    """Whether the accuracy gained less than `FLAT` over the last third.

    Single rounds are too noisy to compare, so this compares two means: of the last sixth, and of the sixth
    that ends where the last third begins.

    Example:
        >>> is_flat([(10, 0.2), (20, 0.5), (30, 0.8), (40, 0.9), (50, 0.9), (60, 0.9)])
        True
    """
    last = curve[-1][0]
    before = [accuracy for number, accuracy in curve if last / 2 < number <= last * 2 / 3]
    return bool(before) and late_mean(curve) - float(np.mean(before)) < FLAT


def late_mean(curve: Curve) -> float:
    """The mean accuracy over the last sixth."""
    last = curve[-1][0]
    return float(np.mean([accuracy for number, accuracy in curve if number > last * 5 / 6]))


def check_points(most: int, every: int) -> list[int]:
    """When the rule of long enough is asked: at half the ceiling, and three times more up to the ceiling.

    Example:
        >>> check_points(most=320, every=5)
        [160, 205, 255, 320]
    """
    return sorted({every * max(1, round(most * share / every)) for share in (0.5, 0.64, 0.8, 1.0)})


def train_until_flat(
    paths: Sequence[Iterator[Snapshot]], score: Callable[[Params], float], most: int, every: int
) -> tuple[Curve, list[Snapshot], Ended]:
    """Train several replicates side by side until their mean accuracy is flat.

    Args:
        paths: of each replicate the snapshots at every, 2 · every, … most.
        score: accuracy of a model.

    Returns:
        the mean curve, the last snapshot of each replicate, and what ended training.
    """
    curve: Curve = []
    checks = check_points(most, every)
    snapshots: Sequence[Snapshot] = ()
    for number, snapshots in zip(range(every, most + 1, every), zip(*paths, strict=True), strict=True):
        curve.append((number, float(np.mean([score(snapshot.params) for snapshot in snapshots]))))
        if number in checks and is_flat(curve):
            return curve, list(snapshots), "flat"
    return curve, list(snapshots), "ceiling"
