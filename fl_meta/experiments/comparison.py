"""The experiment on claims 2 and 3 for one seed: one start, several branches from it, and other methods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import fedavg, fedsgd, reptile
from fl_meta.data.federated import FederatedDataset
from fl_meta.experiments.clients import MODELS, train_validation_held_out
from fl_meta.experiments.comparison_settings import (
    CONTINUED,
    CONTINUED_GRADIENTS,
    FEDAVG,
    FEDSGD,
    LOCAL_ONLY,
    REPTILE,
    SMALL_E,
    Comparison,
)
from fl_meta.experiments.diagnosis import diagnose
from fl_meta.experiments.outcomes import (
    ComparisonOutcome,
    CoursePoint,
    LocalOnlyOption,
    Option,
    TrainedModel,
    TriedOption,
    rounded,
)
from fl_meta.experiments.trajectories import BATCH_SIZE, Snapshot, accuracies, path
from fl_meta.models.parameters import Params
from fl_meta.support.array_types import FloatArray
from fl_meta.training.rounds import TrainingDivergedError

OptionT = TypeVar("OptionT", bound=float | tuple[int, float])

# Factors between the rounds at which a course is evaluated, and between candidates for a match.
COARSE, FINE = 3.0, 3.0**0.25
# Models are matched slightly below the highest initial accuracy that both have reached: at the very top one
# of them would be a maximum over noise and the other would not.
MATCHING_MARGIN = 0.01


def geometric(most: int, factor: float) -> list[int]:
    """Round numbers from 1 to `most`, each about `factor` times the one before."""
    numbers = [most]
    while numbers[-1] > 1:
        numbers.append(min(numbers[-1] - 1, round(numbers[-1] / factor)))
    return numbers[::-1]


def compare(config: Comparison, seed: int) -> ComparisonOutcome:
    """Run the comparison behind claims 2 and 3 for one seed.

    Raises:
        TrainingDivergedError: if training diverges with every option of a method.
    """
    run = ComparisonRun(config, seed)
    snapshots, start, rate = run.train_fedavg()
    run.branch(start, rate)
    run.train_centralized(snapshots)
    run.train_local_only()
    return ComparisonOutcome(run.held_out.client_ids, tuple(run.models), run.courses, run.search)


class ComparisonRun:
    """The comparison for one seed; `compare` calls its steps in order."""

    def __init__(self, config: Comparison, seed: int) -> None:
        self.config, self.seed = config, seed
        groups = train_validation_held_out(config.setting, seed % config.folds, config.folds)
        self.train, self.validation, self.held_out = groups
        self.model = MODELS[config.setting.model](self.train)
        self.search: dict[str, tuple[TriedOption | LocalOnlyOption, ...]] = {}
        self.models: list[TrainedModel] = []
        self.courses: dict[str, tuple[CoursePoint, ...]] = {}
        self._initial_accuracy: dict[str, list[float]] = {}
        # By method, by round and by whether only the ends of adaptation were evaluated. The model at the
        # fork begins four branches, and the last one of a course is a result: each is evaluated once.
        self._evaluations: dict[tuple[str, int, bool], tuple[float, FloatArray, FloatArray]] = {}

    # --- the steps ---------------------------------------------------------------------------------------

    def train_fedavg(self) -> tuple[list[Snapshot], Snapshot, float]:
        """FedAvg before the fork: points of its course, the best of them, and the client rate."""
        config = self.config
        return self._train(
            FEDAVG,
            config.client_rates,
            self.train,
            lambda rate: self._fedavg_stage(config.local_epochs, rate, SGD(1.0, momentum=0.9), config.rounds),
        )

    def branch(self, start: Snapshot, rate: float) -> None:
        """Claims 2a and 2b: four branches from one start, and FedAvg for as many gradients as Reptile."""
        config, rounds = self.config, self.config.fine_tuning_rounds
        client, clients = SGD(rate), config.clients_per_round

        def continued(server_rate: float, epochs: int = config.local_epochs, rounds: int = rounds) -> Stage:
            return self._fedavg_stage(epochs, rate, SGD(server_rate, momentum=0.9), rounds)

        def reptile_with_adam(option: tuple[int, float]) -> Stage:
            steps, server_rate = option
            algorithm = reptile(steps, client=client, server=Adam(server_rate), batch_size=BATCH_SIZE)
            return Stage(algorithm, rounds, clients)

        def fedsgd_with_adam(server_rate: float) -> Stage:
            algorithm = fedsgd(client=client, server=Adam(server_rate), batch_size=BATCH_SIZE)
            return Stage(algorithm, rounds, clients)

        def personalized(branch: list[Snapshot]) -> float:
            return self._validation_accuracy(branch[-1].params, rate, config.personalization_epochs)

        def initial(branch: list[Snapshot]) -> float:
            return self._validation_accuracy(branch[-1].params)

        at = {round(i * rounds / 4) for i in range(5)}

        def follow_branch(
            name: str,
            options: Sequence[OptionT],
            stage: Callable[[OptionT], Stage],
            criterion: Callable[[list[Snapshot]], float],
        ) -> tuple[OptionT, Snapshot]:
            option, snapshots = self._best(name, options, stage, criterion, self.train, at, start)
            self._record(name, name, snapshots[-1], option)
            self._follow(name, [(FEDAVG, start), *((name, snapshot) for snapshot in snapshots[1:])])
            return option, snapshots[-1]

        server_rate, _ = follow_branch(CONTINUED, config.server_rates, continued, personalized)
        _, tuned = follow_branch(REPTILE, config.reptile, reptile_with_adam, personalized)
        follow_branch(FEDSGD, config.adam_rates, fedsgd_with_adam, initial)
        follow_branch(SMALL_E, config.server_rates, partial(continued, epochs=1), initial)
        # The same start and server rate again, for as many gradients as Reptile took; at most four times as
        # many rounds.
        longest = continued(server_rate, rounds=4 * rounds)
        for snapshot in path(self.model, self.train, longest, self.seed, range(longest.rounds + 1), start):
            if snapshot.local_gradients >= tuned.local_gradients:
                break
        self._record(CONTINUED_GRADIENTS, CONTINUED_GRADIENTS, snapshot, server_rate)

    def train_centralized(self, fedavg_snapshots: Sequence[Snapshot]) -> None:
        """Claim 3: two optimizers on the pooled training clients, and models of equal initial accuracy."""
        config, pool = self.config, self.train.pooled()
        # As many examples as FedAvg has seen before the fork.
        examples = float(self.train.train_counts.mean()) * config.local_epochs * config.clients_per_round
        steps = max(2, round(examples * config.rounds / config.centralized_batch))
        optimizers: dict[str, tuple[Sequence[float], Callable[[float], SGD | Adam]]] = {
            "centralized SGD": (config.centralized_rates, partial(SGD, momentum=0.9)),
            "centralized Adam": (config.centralized_adam_rates, Adam),
        }
        for name, (rates, optimizer) in optimizers.items():

            def stage(rate: float, optimizer: Callable[[float], SGD | Adam] = optimizer) -> Stage:
                server, batch_size = optimizer(rate), config.centralized_batch
                algorithm = fedsgd(client=SGD(1.0), server=server, batch_size=batch_size)
                return Stage(algorithm, steps, clients_per_round=1)

            snapshots, _, _ = self._train(name, rates, pool, stage)
            initial = self._initial_accuracy
            target = min(max(initial[name]), max(initial[FEDAVG])) - MATCHING_MARGIN
            for title, method, candidates in (
                (f"{name}, matched", name, snapshots),
                (f"FedAvg, matched to {name}", FEDAVG, fedavg_snapshots),
            ):
                nearest = int(np.argmin(np.abs(np.array(initial[method]) - target)))
                self._record(title, method, candidates[nearest], None)

    def train_local_only(self) -> None:
        """The floor: each held-out client trains alone, from a fresh model."""
        config, start = self.config, self.model.init(self.seed)
        epochs = config.local_only_epochs
        rates = config.personalization_rates
        means = {rate: self._validation_accuracy(start, rate, epochs) for rate in rates}
        self.search[LOCAL_ONLY] = tuple(LocalOnlyOption(rate, round(mean, 5)) for rate, mean in means.items())
        rate = max(means, key=lambda rate: means[rate])
        accuracy = rounded(self._accuracies(start, self.held_out, rate, epochs, ends=True))
        self.models.append(
            TrainedModel(LOCAL_ONLY, rate, 0, 0, rate, validation=None, accuracy=accuracy, why=None)
        )

    # --- what the steps share ----------------------------------------------------------------------------

    def _accuracies(
        self, params: Params, data: FederatedDataset, rate: float, epochs: int, *, ends: bool = False
    ) -> FloatArray:
        return accuracies(self.model, params, data, rate, epochs, self.seed, ends=ends)

    def _fedavg_stage(self, epochs: int, rate: float, server: SGD, rounds: int) -> Stage:
        algorithm = fedavg(epochs, client=SGD(rate), server=server, batch_size=BATCH_SIZE)
        return Stage(algorithm, rounds, self.config.clients_per_round)

    def _validation_accuracy(self, params: Params, rate: float = 1.0, epochs: int = 0) -> float:
        """Mean accuracy of the validation clients after adaptation, by default before it."""
        return float(self._accuracies(params, self.validation, rate, epochs, ends=epochs > 0)[-1].mean())

    def _best(
        self,
        method: str,
        options: Sequence[OptionT],
        stage: Callable[[OptionT], Stage],
        criterion: Callable[[list[Snapshot]], float],
        data: FederatedDataset,
        at: Collection[int],
        start: Snapshot | None = None,
    ) -> tuple[OptionT, list[Snapshot]]:
        """The option whose training has the highest criterion, and the snapshots of that training."""
        attempts: list[tuple[float, OptionT, list[Snapshot]]] = []
        for option in options:
            try:
                snapshots = list(path(self.model, data, stage(option), self.seed, at, start))
            except TrainingDivergedError:
                attempts.append((0.0, option, []))
            else:
                attempts.append((criterion(snapshots), option, snapshots))
        self.search[method] = tuple(TriedOption(option, round(value, 5)) for value, option, _ in attempts)
        _, option, snapshots = max(attempts, key=lambda attempt: attempt[0])
        if not snapshots:
            raise TrainingDivergedError(
                f"{method}: training diverged with each of {list(options)}; use smaller rates"
            )
        return option, snapshots

    def _train(
        self, name: str, options: Sequence[float], data: FederatedDataset, stage: Callable[[float], Stage]
    ) -> tuple[list[Snapshot], Snapshot, float]:
        """Train from scratch: the snapshots of the best option, the best of them, and the option.

        The best snapshot is the one with the highest initial accuracy of the validation clients: early
        stopping. For the match, keep every snapshot's initial accuracy on all clients that are not held out.
        """
        rounds = stage(options[0]).rounds
        course = geometric(rounds, COARSE)
        at = {*geometric(rounds, FINE), *course}

        def highest_initial(snapshots: list[Snapshot]) -> float:
            return max(self._validation_accuracy(snapshot.params) for snapshot in snapshots)

        option, snapshots = self._best(name, options, stage, highest_initial, data, at)
        train, validation = (
            [self._accuracies(snapshot.params, clients, 1.0, 0)[0] for snapshot in snapshots]
            for clients in (self.train, self.validation)
        )
        self._initial_accuracy[name] = [
            float(np.concatenate(both).mean()) for both in zip(train, validation, strict=True)
        ]
        best = snapshots[int(np.argmax([accuracy.mean() for accuracy in validation]))]
        self._record(name, name, best, option)
        self._follow(name, [(name, snapshot) for snapshot in snapshots if snapshot.round_number in course])
        return snapshots, best, option

    def _evaluated(
        self, method: str, snapshot: Snapshot, *, ends: bool
    ) -> tuple[float, FloatArray, FloatArray]:
        """The personalization rate that is best for the validation clients, and accuracies by epoch.

        Of the validation clients the means [epochs + 1], of the held-out clients all values
        [epochs + 1, clients]. With `ends`, only the values before and after adaptation, unless all are known.
        """
        ends = ends and (method, snapshot.round_number, False) not in self._evaluations
        key = method, snapshot.round_number, ends
        if key not in self._evaluations:
            params, epochs = snapshot.params, self.config.personalization_epochs
            means = {
                rate: self._accuracies(params, self.validation, rate, epochs, ends=ends).mean(1)
                for rate in self.config.personalization_rates
            }
            rate = max(means, key=lambda rate: float(means[rate][-1]))
            held_out = self._accuracies(params, self.held_out, rate, epochs, ends=ends)
            self._evaluations[key] = rate, means[rate], held_out
        return self._evaluations[key]

    def _record(self, name: str, method: str, snapshot: Snapshot, option: Option) -> None:
        """Personalize a snapshot of a method to the held-out clients, and keep it as a model of this name."""
        rate, means, accuracy = self._evaluated(method, snapshot, ends=False)
        epochs = self.config.personalization_epochs
        why = diagnose(self.model, snapshot.params, self.held_out, rate, epochs, self.seed)
        rounds, gradients = snapshot.round_number, snapshot.local_gradients
        self.models.append(
            TrainedModel(name, option, rounds, gradients, rate, rounded(means), rounded(accuracy), why)
        )

    def _follow(self, name: str, course: Iterable[tuple[str, Snapshot]]) -> None:
        """Keep a course, given as the snapshots and the methods that trained them."""
        points = []
        for method, snapshot in course:
            rate, _, accuracy = self._evaluated(method, snapshot, ends=True)
            initial, *_, personalized = rounded(accuracy.mean(1))
            point = CoursePoint(snapshot.round_number, snapshot.local_gradients, rate, initial, personalized)
            points.append(point)
        self.courses[name] = tuple(points)
