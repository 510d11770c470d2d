"""Tuning for the crossed design: once per fold, on validation clients, with replicates of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from fl_meta.algorithms.stages import Stage
from fl_meta.data.federated import FederatedDataset
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED_ADAM,
    CENTRALIZED_LARGER,
    CENTRALIZED_SGD,
    CENTRALIZED_SMALLER,
    FEDAVG,
    FEDSGD,
    MOST_EXTENSIONS,
    SERVERS,
    SMALL_E,
    UPDATES,
    Choice,
    Design,
    Ended,
    Server,
    Update,
    second_stage_arm,
)
from fl_meta.experiments.crossed_training import Curve, Fold, late_mean, train_until_flat
from fl_meta.experiments.outcomes import TriedRate, TuningOutcome
from fl_meta.experiments.trajectories import Snapshot, path
from fl_meta.models.parameters import Params
from fl_meta.training.rounds import TrainingDivergedError

AttemptT = TypeVar("AttemptT")

# Apart from the seeds of cells, which count up from 0.
FIRST_TUNING_SEED = 1_000_000


@dataclass
class Trial:
    """One option of an arm, trained with every tuning replicate."""

    rate: float
    validation: float
    ended: Ended = "fixed"
    curve: Curve = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    def as_tried(self) -> TriedRate:
        """The trial as the result file keeps it."""
        rounds = self.curve[-1][0] if self.curve else 0
        return TriedRate(self.rate, round(self.validation, 5), rounds)


def tune(design: Design, seed: int) -> TuningOutcome:
    """Tune every arm of a fold; the seed is the fold's number.

    Raises:
        TrainingDivergedError: if training diverges with every option of an arm.
    """
    return Tuning(design, seed).run()


class Tuning:
    """The tuning of one fold; `run` goes through the arms."""

    def __init__(self, design: Design, number: int) -> None:
        self.design = design
        self.fold = Fold.of(design, number)
        first = FIRST_TUNING_SEED + number * design.tuning_replicates
        self.seeds = range(first, first + design.tuning_replicates)
        self.choices: list[Choice] = []
        self.search: dict[str, tuple[TriedRate, ...]] = {}
        self.curves: dict[str, tuple[tuple[int, float], ...]] = {}

    def run(self) -> TuningOutcome:
        """Tune the arms one after the other."""
        design, fold = self.design, self.fold
        every = (design.most_rounds, design.every)

        def fedavg(rate: float) -> Trial:
            return self._until_flat(fold.fedavg_stage(rate, design.most_rounds), fold.train, rate, *every)

        start = self._tune(FEDAVG, design.client_rates, fedavg)
        for update in UPDATES:
            for server in SERVERS:

                def arm(rate: float, update: Update = update, server: Server = server) -> Trial:
                    return self._second_stage(
                        fold.second_stage(update, server, rate, start.rate), start, rate
                    )

                grids = {"SGD as before": (1.0,), "SGD, smaller rate": design.smaller_rates}
                # The rate as before, 1, is not a smaller one.
                below = 1.0 if server == "SGD, smaller rate" else np.inf
                self._tune(second_stage_arm(update, server), grids.get(server, design.adam_rates), arm, below)

        def rival(stage_of: Callable[[float, float, int], Stage]) -> Callable[[float], Trial]:
            def train(rate: float) -> Trial:
                stage = stage_of(rate, start.rate, design.most_rounds)
                return self._until_flat(stage, fold.train, rate, *every, start.snapshots)

            return train

        self._tune(FEDSGD, design.adam_rates, rival(fold.fedsgd_stage))
        self._tune(SMALL_E, design.small_e_rates, rival(fold.small_e_stage))
        if design.centralized_rates:
            self._tune_centralized()
        return TuningOutcome(fold.validation.client_ids, tuple(self.choices), self.search, self.curves)

    def _tune_centralized(self) -> None:
        design, fold = self.design, self.fold
        tried: dict[float, Trial] = {}

        def train(arm: str, rate: float) -> Trial:
            stage = fold.centralized_stage(arm, rate, design.most_steps)
            trial = self._until_flat(stage, fold.pool, rate, design.most_steps, design.every_step)
            if arm == CENTRALIZED_SGD:
                tried[rate] = trial
            return trial

        sgd, adam = (partial(train, arm) for arm in (CENTRALIZED_SGD, CENTRALIZED_ADAM))
        best = self._tune(CENTRALIZED_SGD, design.centralized_rates, sgd)
        neighbours = {
            CENTRALIZED_SMALLER: max((rate for rate in tried if rate < best.rate), default=None),
            CENTRALIZED_LARGER: min((rate for rate in tried if rate > best.rate), default=None),
        }
        for arm, rate in neighbours.items():
            if rate is not None and tried[rate].snapshots:
                self._choose(arm, tried[rate])
        self._tune(CENTRALIZED_ADAM, design.centralized_adam_rates, adam)

    # --- what the arms share -----------------------------------------------------------------------------

    def _tune(
        self,
        arm: str,
        grid: Sequence[float],
        train: Callable[[float], Trial],
        below: float = np.inf,
    ) -> Trial:
        """Try every rate of the grid, extend it if its end is the best, and choose."""
        tried = _searched(grid, train, lambda trial: trial.validation, below)
        self.search[arm] = tuple(trial.as_tried() for trial in tried.values())
        best = max(tried.values(), key=lambda trial: trial.validation)
        if not best.snapshots:
            rates = sorted(tried)
            raise TrainingDivergedError(f"{arm}: training diverged with each of {rates}; use smaller rates")
        self._choose(arm, best)
        return best

    def _choose(self, arm: str, trial: Trial) -> None:
        """Tune the trial's personalization rate and keep it as the choice for the arm."""
        design = self.design
        values = _searched(design.personalization_rates, partial(self._mean, trial.snapshots), float)
        rate = max(values, key=values.__getitem__)
        rounds = trial.curve[-1][0] if trial.curve else design.second_stage_rounds
        self.choices.append(Choice(arm, trial.rate, rounds, trial.ended, rate))
        if trial.curve:
            self.curves[arm] = tuple((number, round(accuracy, 5)) for number, accuracy in trial.curve)

    def _mean(self, snapshots: Sequence[Snapshot], rate: float) -> float:
        """The validation clients' mean personalized accuracy, over all tuning replicates."""
        pairs = zip(snapshots, self.seeds, strict=True)
        values = [self.fold.both(snap.params, self.fold.validation, rate, seed)[1] for snap, seed in pairs]
        return float(np.mean(values))

    def _paths(
        self, stage: Stage, data: FederatedDataset, every: int, starts: Sequence[Snapshot] | None
    ) -> list[Iterator[Snapshot]]:
        at, model = range(every, stage.rounds + 1, every), self.fold.model
        begins: Sequence[Snapshot | None] = starts or [None] * len(self.seeds)
        return [
            path(model, data, stage, seed, at, start) for seed, start in zip(self.seeds, begins, strict=True)
        ]

    def _until_flat(
        self,
        stage: Stage,
        data: FederatedDataset,
        rate: float,
        most: int,
        every: int,
        starts: Sequence[Snapshot] | None = None,
    ) -> Trial:
        """Train until flat; what counts is the mean initial accuracy over the last sixth."""

        def score(params: Params) -> float:
            return float(self.fold.initial(params, self.fold.validation).mean())

        try:
            paths = self._paths(stage, data, every, starts)
            curve, snapshots, ended = train_until_flat(paths, score, most, every)
        except TrainingDivergedError:
            return Trial(rate, 0.0)
        return Trial(rate, late_mean(curve), ended, curve, snapshots)

    def _second_stage(self, stage: Stage, start: Trial, rate: float) -> Trial:
        """Train from FedAvg's models; what counts is the personalized accuracy at the end."""
        try:
            paths = self._paths(stage, self.fold.train, stage.rounds, start.snapshots)
            snapshots = [next(path) for path in paths]
        except TrainingDivergedError:
            return Trial(rate, 0.0)
        return Trial(rate, self._mean(snapshots, start.rate), snapshots=snapshots)


def _searched(
    grid: Sequence[float],
    attempt: Callable[[float], AttemptT],
    value: Callable[[AttemptT], float],
    below: float = np.inf,
) -> dict[float, AttemptT]:
    """What every rate of a grid gives, in the order of the attempts.

    While the best value lies at an end of the grid, the grid is extended there, to rates below `below`, at
    most `MOST_EXTENSIONS` times. A single rate is no grid.
    """
    tried = {rate: attempt(rate) for rate in grid}
    for _ in range(MOST_EXTENSIONS if len(grid) > 1 else 0):
        further = _beyond(list(tried), max(tried, key=lambda rate: value(tried[rate])))
        if further is None or further >= below:
            break
        tried[further] = attempt(further)
    return tried


def _beyond(rates: Sequence[float], best: float) -> float | None:
    """The next rate beyond the end of the grid at which the best one lies; None if it is not at an end."""
    ordered = sorted(rates)
    if best == ordered[-1]:
        return float(f"{best * best / ordered[-2]:.2g}")
    if best == ordered[0]:
        return float(f"{best * best / ordered[1]:.2g}")
    return None
