"""What the experiment on claims 2 and 3 computes for one seed: one start, ways on from it, and rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import LocalWork, fedavg, fedsgd, reptile
from fl_meta.data.batches import batch_plan
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.local_training import LocalTraining, adapted, gradient, hessian_vector_product
from fl_meta.experiments.clients import MODELS, parts
from fl_meta.experiments.comparison_settings import (
    CONTINUED,
    CONTINUED_GRADIENTS,
    FEDSGD,
    LOCAL_ONLY,
    REPTILE,
    SMALL_E,
    Comparison,
)
from fl_meta.experiments.trajectories import BATCH, Snapshot, accuracies, path, rounded
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, dot, norm, zeros_like
from fl_meta.support.array_types import FloatArray
from fl_meta.training.rounds import TrainingDivergedError

DIAGNOSED_CLIENTS = 20  # how many held-out clients' gradients are looked at
FAR, CLOSE = 3.0, 3.0**0.25  # between points of a course, and between candidates for a match
# Models are matched a point below the highest initial accuracy that both have reached: at the very top one
# would be a maximum over noise and the other would not.
BELOW = 0.01


def geometric(most: int, factor: float) -> list[int]:
    """1, and each time about `factor` times as many, up to `most`."""
    numbers = [most]
    while numbers[-1] > 1:
        numbers.append(min(numbers[-1] - 1, round(numbers[-1] / factor)))
    return numbers[::-1]


class _Rivals:
    """The comparison of one seed, step by step: `compare` tells its story."""

    def __init__(self, config: Comparison, seed: int) -> None:
        self.config, self.seed = config, seed
        self.train, self.validation, self.held_out = parts(config.setting, seed % config.folds, config.folds)
        self.model = MODELS[config.setting.model](self.train)
        self.search: dict[str, list[dict[str, Any]]] = {}
        self.models: list[dict[str, Any]] = []
        self.courses: dict[str, list[dict[str, Any]]] = {}
        self.initials: dict[str, list[float]] = {}
        # One model stands at the fork of four ways, or at the end of a course: it is scored once.
        self.known: dict[tuple[int, bool], tuple[Params, float, FloatArray, FloatArray]] = {}

    def score(
        self, params: Params, data: FederatedDataset, rate: float, epochs: int, *, ends: bool = False
    ) -> FloatArray:
        return accuracies(self.model, params, data, rate, epochs, self.seed, ends=ends)

    def stage(self, epochs: int, rate: float, server: SGD, rounds: int) -> Stage:
        algorithm = fedavg(epochs, client=SGD(rate), server=server, batch_size=BATCH)
        return Stage(algorithm, rounds, self.config.clients_per_round)

    def initial(self, snapshot: Snapshot) -> float:
        """Mean initial accuracy of the validation clients."""
        return float(self.score(snapshot.params, self.validation, 1.0, 0)[0].mean())

    def personalized(self, snapshot: Snapshot, rate: float) -> float:
        """Mean personalized accuracy of the validation clients."""
        epochs = self.config.personalization_epochs
        return float(self.score(snapshot.params, self.validation, rate, epochs, ends=True)[-1].mean())

    def best(
        self,
        method: str,
        options: Sequence[Any],
        way: Callable[[Any], Iterable[Snapshot]],
        value: Callable[[list[Snapshot]], float],
    ) -> tuple[Any, list[Snapshot]]:
        """The option whose way has the highest value on the validation clients, and that way.

        Raises:
            TrainingDivergedError: if every option's training diverged.
        """
        tried: list[tuple[float, Any, list[Snapshot]]] = []
        for option in options:
            try:
                snapshots = list(way(option))
            except TrainingDivergedError:
                tried.append((0.0, option, []))
            else:
                tried.append((value(snapshots), option, snapshots))
        self.search[method] = [{"option": option, "validation": round(v, 5)} for v, option, _ in tried]
        _, option, snapshots = max(tried, key=lambda one: one[0])
        if not snapshots:
            raise TrainingDivergedError(f"{method}: all of {list(options)} diverged; give smaller rates")
        return option, snapshots

    def trained(
        self,
        name: str,
        options: Sequence[float],
        data: FederatedDataset,
        stage: Callable[[float], Stage],
    ) -> tuple[list[Snapshot], Snapshot, float]:
        """Training from the beginning: the best option's points, the best of them, and the option.

        The best point is where the initial accuracy of the validation clients is highest: early stopping. For
        a match `initials` keeps each point's initial accuracy on all clients that are not held out.
        """
        rounds = stage(options[0]).rounds
        course = geometric(rounds, FAR)
        at = {*geometric(rounds, CLOSE), *course}
        option, snapshots = self.best(
            name,
            options,
            lambda option: path(self.model, data, stage(option), self.seed, at),
            lambda snapshots: max(map(self.initial, snapshots)),
        )
        train, validation = (
            [self.score(snapshot.params, clients, 1.0, 0)[0] for snapshot in snapshots]
            for clients in (self.train, self.validation)
        )
        self.initials[name] = [
            float(np.concatenate(both).mean()) for both in zip(train, validation, strict=True)
        ]
        best = snapshots[int(np.argmax([accuracy.mean() for accuracy in validation]))]
        self.record(name, best, option)
        self.follow(name, [s for s in snapshots if s.round_number in course])
        return snapshots, best, option

    def scored(self, params: Params, *, ends: bool) -> tuple[float, FloatArray, FloatArray]:
        """The personalization rate under which the validation clients are best off, and accuracies by epoch.

        Of the validation clients the means [epochs + 1], of the held-out ones all [epochs + 1, clients]; or
        of both the `ends` alone, before and after adaptation, unless all are known.
        """
        key = id(params), ends and (id(params), False) not in self.known
        if key not in self.known:
            epochs = self.config.personalization_epochs
            means = {
                rate: self.score(params, self.validation, rate, epochs, ends=ends).mean(1)
                for rate in self.config.personalization_rates
            }
            rate = max(means, key=lambda rate: float(means[rate][-1]))
            found = self.score(params, self.held_out, rate, epochs, ends=ends)
            # With the parameters themselves, so that no others get their id.
            self.known[key] = params, rate, means[rate], found
        return self.known[key][1:]

    def record(self, name: str, snapshot: Snapshot, option: Any) -> None:
        """Personalize a model to the held-out clients and keep what comes out."""
        rate, means, found = self.scored(snapshot.params, ends=False)
        self.models.append(
            {
                "name": name,
                "option": option,
                "rounds": snapshot.round_number,
                "local_gradients": snapshot.local_gradients,
                "personalization_rate": rate,
                "validation": rounded(means),
                "accuracy": rounded(found),
                "why": diagnose(
                    self.model,
                    snapshot.params,
                    self.held_out,
                    rate,
                    self.config.personalization_epochs,
                    self.seed,
                ),
            }
        )

    def follow(self, method: str, snapshots: Sequence[Snapshot]) -> None:
        """Keep a method's course: mean accuracies of the held-out clients; the rate chosen at each point."""
        self.courses[method] = []
        for snapshot in snapshots:
            rate, _, found = self.scored(snapshot.params, ends=True)
            initial, *_, personalized = rounded(found.mean(1))
            self.courses[method].append(
                {
                    "round": snapshot.round_number,
                    "local_gradients": snapshot.local_gradients,
                    "personalization_rate": rate,
                    "initial": initial,
                    "personalized": personalized,
                }
            )


def _fedavg(rivals: _Rivals) -> tuple[list[Snapshot], Snapshot, float]:
    """FedAvg before the fork."""
    config = rivals.config
    return rivals.trained(
        "FedAvg",
        config.client_rates,
        rivals.train,
        lambda rate: rivals.stage(config.local_epochs, rate, SGD(1.0, momentum=0.9), config.rounds),
    )


def _ways_on(rivals: _Rivals, start: Snapshot, rate: float) -> None:
    """Claims 2a and 2b: four ways on from one start."""
    config, rounds = rivals.config, rivals.config.fine_tuning_rounds
    client, clients = SGD(rate), config.clients_per_round

    def continued(server_rate: float, epochs: int = config.local_epochs, rounds: int = rounds) -> Stage:
        return rivals.stage(epochs, rate, SGD(server_rate, momentum=0.9), rounds)

    def tuned(option: tuple[int, float]) -> Stage:
        steps, server_rate = option
        algorithm = reptile(steps, client=client, server=Adam(server_rate), batch_size=BATCH)
        return Stage(algorithm, rounds, clients)

    def global_alone(server_rate: float) -> Stage:
        return Stage(fedsgd(client=client, server=Adam(server_rate), batch_size=BATCH), rounds, clients)

    def personalized(snapshots: list[Snapshot]) -> float:
        return rivals.personalized(snapshots[-1], rate)

    def initial(snapshots: list[Snapshot]) -> float:
        return rivals.initial(snapshots[-1])

    ways: dict[str, tuple[Sequence[Any], Callable[[Any], Stage], Callable[[list[Snapshot]], float]]] = {
        CONTINUED: (config.server_rates, continued, personalized),
        REPTILE: (config.reptile, tuned, personalized),
        FEDSGD: (config.adam_rates, global_alone, initial),
        SMALL_E: (config.server_rates, partial(continued, epochs=1), initial),
    }
    at = sorted({round(i * rounds / 4) for i in range(5)})
    ends, options = {}, {}
    for name, (grid, stage, value) in ways.items():

        def way(option: Any, stage: Callable[[Any], Stage] = stage) -> Iterator[Snapshot]:
            return path(rivals.model, rivals.train, stage(option), rivals.seed, at, start)

        options[name], snapshots = rivals.best(name, grid, way, value)
        rivals.record(name, snapshots[-1], options[name])
        rivals.follow(name, snapshots)
        ends[name] = snapshots[-1]
    # The same start and server rate again, for as many gradients as Reptile took; at most four times as long.
    longest = continued(options[CONTINUED], rounds=4 * rounds)
    everywhere = path(rivals.model, rivals.train, longest, rivals.seed, range(longest.rounds + 1), start)
    for snapshot in everywhere:
        if snapshot.local_gradients >= ends[REPTILE].local_gradients:
            break
    rivals.record(CONTINUED_GRADIENTS, snapshot, options[CONTINUED])


def _centralized(rivals: _Rivals, federated: Sequence[Snapshot]) -> None:
    """Claim 3: both optimizers on the pool of the same clients, and models of equal initial accuracy."""
    config, pool = rivals.config, rivals.train.pooled()
    # As many examples as FedAvg has seen before the fork.
    examples = float(rivals.train.train_counts.mean()) * config.local_epochs * config.clients_per_round
    steps = max(2, round(examples * config.rounds / config.centralized_batch))
    optimizers: dict[str, tuple[Sequence[float], Callable[[float], SGD | Adam]]] = {
        "centralized SGD": (config.centralized_rates, partial(SGD, momentum=0.9)),
        "centralized Adam": (config.centralized_adam_rates, Adam),
    }
    for name, (grid, optimizer) in optimizers.items():

        def stage(rate: float, optimizer: Callable[[float], SGD | Adam] = optimizer) -> Stage:
            algorithm = fedsgd(client=SGD(1.0), server=optimizer(rate), batch_size=config.centralized_batch)
            return Stage(algorithm, steps, clients_per_round=1)

        snapshots, _, _ = rivals.trained(name, grid, pool, stage)
        target = min(max(rivals.initials[one]) for one in (name, "FedAvg")) - BELOW
        for title, one, some in (
            (f"{name}, matched", name, snapshots),
            (f"FedAvg, matched to {name}", "FedAvg", federated),
        ):
            nearest = int(np.argmin(np.abs(np.array(rivals.initials[one]) - target)))
            rivals.record(title, some[nearest], None)


def _local_only(rivals: _Rivals) -> None:
    """The floor: held-out clients alone, from a fresh model."""
    config, start = rivals.config, rivals.model.init(rivals.seed)
    epochs = config.local_only_epochs
    means = {
        rate: float(rivals.score(start, rivals.validation, rate, epochs, ends=True)[-1].mean())
        for rate in config.personalization_rates
    }
    rivals.search[LOCAL_ONLY] = [
        {"option": o, "validation_personalized": round(s, 5)} for o, s in means.items()
    ]
    rate = max(means, key=lambda rate: means[rate])
    found = rivals.score(start, rivals.held_out, rate, epochs, ends=True)
    rivals.models.append(
        {
            "name": LOCAL_ONLY,
            "option": rate,
            "rounds": 0,
            "local_gradients": 0,
            "personalization_rate": rate,
            "validation": None,
            "accuracy": rounded(found),
            "why": None,
        }
    )


def diagnose(
    model: Model, params: Params, data: FederatedDataset, rate: float, epochs: int, seed: int
) -> dict[str, float]:
    """Why a model may be easy to personalize: means over at most 20 clients, on their train parts.

    `gradient_cosine` and `gradient_product` are of two batches' gradients of one client: AvgGradInner is the
    gradient of half that product. `avg_grad_inner_norm` is the norm of its mean over clients, relative to the
    mean gradient's. `distance` is how far personalization moves a client's parameters (Euclidean norm), and
    `distance_share` the same relative to the norm of the parameters.
    """
    cosines, products, distances = [], [], []
    inner, mean = zeros_like(params), zeros_like(params)
    ids = [c for c, n in zip(data.client_ids, data.train_counts, strict=True) if n >= 2][:DIAGNOSED_CLIENTS]
    for client_id in ids:
        client = data[client_id]
        half = min(BATCH, len(client.train_x) // 2)
        plan = batch_plan(seed, 0, client_id, len(client.train_x), batch_size=half, steps=2)
        batches = [
            (torch.from_numpy(client.train_x[i]), torch.from_numpy(client.train_y[i]), 0) for i in plan
        ]
        (_, a), (_, b) = (gradient(model, params, batch) for batch in batches)
        for batch, other in ((batches[0], b), (batches[1], a)):
            inner = add(inner, hessian_vector_product(model, params, batch, other), 0.5)
        mean = add(add(mean, a, 0.5), b, 0.5)
        products.append(dot(a, b))
        cosines.append(dot(a, b) / (norm(a) * norm(b)))
        adaptation = LocalTraining(model, params, data, LocalWork(SGD(rate), BATCH, epochs), seed)
        *_, end = adapted(adaptation, client_id)
        distances.append(norm(add(end, params, -1.0)))
    return {
        "clients": len(ids),
        "gradient_cosine": float(np.mean(cosines)),
        "gradient_product": float(np.mean(products)),
        "avg_grad_inner_norm": norm(inner) / norm(mean),
        "distance": float(np.mean(distances)),
        "distance_share": float(np.mean(distances)) / norm(params),
    }


def compare(config: Comparison, seed: int) -> dict[str, Any]:
    """Claims 2 and 3 for one seed, as JSON values.

    `models` are those that a claim is decided by: name, chosen option, rounds, gradients, personalization
    rate, accuracy of held-out clients [epochs + 1, clients], and `why`, see `diagnose`. `courses` are mean
    accuracies on the way there. `search` is every option that was tried, with its score on the validation
    clients.
    """
    rivals = _Rivals(config, seed)
    snapshots, start, rate = _fedavg(rivals)
    _ways_on(rivals, start, rate)
    _centralized(rivals, snapshots)
    _local_only(rivals)
    return {
        "clients": list(rivals.held_out.client_ids),
        "models": rivals.models,
        "courses": rivals.courses,
        "search": rivals.search,
    }
