"""One cell of the crossed design: every arm of one fold, trained with one replicate seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fl_meta.algorithms.stages import Stage
from fl_meta.data.federated import FederatedDataset
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED,
    FEDAVG,
    FEDSGD,
    SERVERS,
    SMALL_E,
    UPDATES,
    Choice,
    Crossed,
    matched_arms,
    second_stage_arm,
)
from fl_meta.experiments.crossed_training import Fold
from fl_meta.experiments.outcomes import CROSSED_DIGITS, CrossedArm, CrossedOutcome, rounded
from fl_meta.experiments.trajectories import Snapshot
from fl_meta.experiments.trajectories import path as training_path
from fl_meta.support.array_types import FloatArray

# Factors between the rounds at which a curve is kept, and between those at which models may be matched.
COARSE, FINE = 2.0, 1.3
# Models are matched slightly below the highest initial accuracy that both have reached: at the very top one
# of them would be a maximum over noise and the other would not.
MATCHING_MARGIN = 0.01


def crossed(config: Crossed, seed: int) -> CrossedOutcome:
    """Train every arm of a cell and personalize it to the held-out clients.

    Args:
        config: the design and what tuning chose.
        seed: of the cell; its remainder by the number of folds is the fold.

    Raises:
        TrainingDivergedError: if an arm diverges.
    """
    return Cell(config, seed).run()


class Cell:
    """The arms of one cell; `run` trains them in the order of the choices."""

    def __init__(self, config: Crossed, seed: int) -> None:
        number = seed % config.folds
        self.fold, self.seed = Fold.of(config.design, number), seed
        self.choices = {choice.arm: choice for choice in config.choices[number]}
        self.arms: list[CrossedArm] = []
        self.curves: dict[str, tuple[tuple[int, float, float], ...]] = {}
        # By arm and round: models are matched along the same path several times.
        self._initial_accuracies: dict[tuple[str, int], float] = {}
        self._accuracies: dict[tuple[str, int], FloatArray] = {}

    def run(self) -> CrossedOutcome:
        """Train the arms."""
        fold = self.fold
        first = self.choices[FEDAVG]
        fedavg = self._path(FEDAVG, fold.fedavg_stage(first.rate, first.rounds), fold.train)
        start = fedavg[-1]
        for update in UPDATES:
            for server in SERVERS:
                choice = self.choices[second_stage_arm(update, server)]
                stage = fold.second_stage(update, server, choice.rate, first.rate)
                (end,) = training_path(fold.model, fold.train, stage, self.seed, [stage.rounds], start)
                self._keep(choice.arm, end, choice)
        for arm, stage_of in ((FEDSGD, fold.fedsgd_stage), (SMALL_E, fold.small_e_stage)):
            choice = self.choices[arm]
            stage = stage_of(choice.rate, first.rate, choice.rounds)
            (end,) = training_path(fold.model, fold.train, stage, self.seed, [stage.rounds], start)
            self._keep(arm, end, choice)
        for arm in CENTRALIZED:
            if arm in self.choices:
                self._centralized(arm, fedavg)
        return CrossedOutcome(fold.held_out.client_ids, tuple(self.arms), self.curves)

    def _path(self, arm: str, stage: Stage, data: FederatedDataset) -> list[Snapshot]:
        """Train from scratch; keep the last model as an arm, and the curve of both accuracies."""
        choice = self.choices[arm]
        course = geometric(stage.rounds, COARSE)[-6:]
        at = {*geometric(stage.rounds, FINE), *course}
        snapshots = list(training_path(self.fold.model, data, stage, self.seed, at))
        points = []
        for snapshot in snapshots:
            if snapshot.round_number in course:
                means = self._accuracy(snapshot, choice).mean(1)
                points.append((snapshot.round_number, *rounded(means, CROSSED_DIGITS)))
        self.curves[arm] = tuple(points)
        self._keep(arm, snapshots[-1], choice)
        return snapshots

    def _centralized(self, arm: str, fedavg: Sequence[Snapshot]) -> None:
        """A centralized model at its best, and matched to FedAvg's at equal initial accuracy."""
        choice = self.choices[arm]
        stage = self.fold.centralized_stage(arm, choice.rate, choice.rounds)
        snapshots = self._path(arm, stage, self.fold.pool)
        paths = ((snapshots, choice), (fedavg, self.choices[FEDAVG]))
        curves = [[self._initial(snapshot, choice) for snapshot in path] for path, choice in paths]
        target = min(max(curve) for curve in curves) - MATCHING_MARGIN
        for name, (path, choice), curve in zip(matched_arms(arm), paths, curves, strict=True):
            self._match(name, path, choice, curve, target)

    def _match(
        self, name: str, path: Sequence[Snapshot], choice: Choice, curve: Sequence[float], target: float
    ) -> None:
        """Interpolate along a path to where its mean initial accuracy first reaches the target."""
        after = next(i for i, accuracy in enumerate(curve) if accuracy >= target)
        before = max(after - 1, 0)
        share = (target - curve[before]) / (curve[after] - curve[before]) if after else 1.0
        ends = [(1 - share, path[before]), (share, path[after])]
        accuracy = np.sum([weight * self._accuracy(snapshot, choice) for weight, snapshot in ends], axis=0)
        rounds = sum(weight * snapshot.round_number for weight, snapshot in ends)
        gradients = sum(weight * snapshot.local_gradients for weight, snapshot in ends)
        self._add(name, round(rounds), round(gradients), accuracy)

    # --- what the steps share ----------------------------------------------------------------------------

    def _initial(self, snapshot: Snapshot, choice: Choice) -> float:
        """The held-out clients' mean initial accuracy."""
        key = choice.arm, snapshot.round_number
        if key not in self._initial_accuracies:
            mean = self.fold.initial(snapshot.params, self.fold.held_out).mean()
            self._initial_accuracies[key] = float(mean)
        return self._initial_accuracies[key]

    def _accuracy(self, snapshot: Snapshot, choice: Choice) -> FloatArray:
        """The held-out clients' initial and personalized accuracies [2, clients]."""
        key = choice.arm, snapshot.round_number
        if key not in self._accuracies:
            rate = choice.personalization_rate
            self._accuracies[key] = self.fold.both(snapshot.params, self.fold.held_out, rate, self.seed)
        return self._accuracies[key]

    def _keep(self, name: str, snapshot: Snapshot, choice: Choice) -> None:
        accuracy = self._accuracy(snapshot, choice)
        self._add(name, snapshot.round_number, snapshot.local_gradients, accuracy)

    def _add(self, name: str, rounds: int, gradients: int, accuracy: FloatArray) -> None:
        self.arms.append(CrossedArm(name, rounds, gradients, rounded(accuracy, CROSSED_DIGITS)))


def geometric(most: int, factor: float) -> list[int]:
    """Round numbers from 1 to `most`, each about `factor` times the one before."""
    numbers = [most]
    while numbers[-1] > 1:
        numbers.append(min(numbers[-1] - 1, round(numbers[-1] / factor)))
    return numbers[::-1]
