"""Train a linear model on small handwriting with any mix of the inner gradients, in a tenth of a second.

A NumPy copy of the library's training, vectorized over clients; `tests/test_laboratory_mixing.py` compares
it with `fl_meta.training.pseudo_gradient` and `fl_meta.personalize`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from fl_meta.data import load_dataset
from fl_meta.data.batches import BatchPlan, batch_plan
from fl_meta.data.federated import FederatedDataset
from fl_meta.support.array_types import FloatArray

INNER_GRADIENTS = 5
BATCH_SIZE = 10
MOST_ROUNDS = 40
CHARACTERS = "0123456789OIZlo"
PRESETS: Mapping[str, tuple[float, ...]] = {
    "FedSGD": (1, 0, 0, 0, 0),
    "FedAvg(5)": (1, 1, 1, 1, 1),
    "FOMAML(4)": (0, 0, 0, 0, 1),
}
"""Weights of g_1 … g_5 that give algorithms of the table, with equal weights for all clients."""


@dataclass(frozen=True)
class Batches:
    """Local batches of several clients, padded to the same size; padding has weight 0.

    Attributes:
        x: inputs, the last of which is always 1 [steps, clients, batch, features].
        targets: one-hot labels, all 0 in padding [steps, clients, batch, classes].
        weights: 1 / batch size, 0 in padding [steps, clients, batch].
    """

    x: FloatArray
    targets: FloatArray
    weights: FloatArray

    def gradients(self, params: FloatArray, step: int) -> FloatArray:
        """Gradients of the clients' mean losses, each at its own parameters [clients, features, classes]."""
        x = self.x[step]
        scores = x @ params
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        errors = (scores - self.targets[step]) * self.weights[step][..., None]
        product: FloatArray = x.swapaxes(1, 2) @ errors
        return product


@dataclass(frozen=True, eq=False)
class SmallWriters:
    """Writers as small images: half of them train a linear model, the others personalize it.

    Attributes:
        train: the training clients, all of which take part in every round.
        held_out: the clients that personalize.
        rounds: for each round, the training clients' batches for g_1 … g_5.
        adaptation: one epoch of batches for each held-out client.
        tests: the held-out clients' test parts, one batch each.
    """

    train: FederatedDataset
    held_out: FederatedDataset
    rounds: tuple[Batches, ...]
    adaptation: Batches
    tests: Batches

    def accuracy(self, params: FloatArray) -> float:
        """Mean test accuracy of the held-out clients in percent, with shared parameters or one set each."""
        right = self.tests.targets[0].argmax(-1) == (self.tests.x[0] @ params).argmax(-1)
        return float(100 * (right * self.tests.weights[0]).sum(1).mean())


@cache
def small_writers(num_writers: int = 48, seed: int = 0) -> SmallWriters:
    """Synthetic writers of `CHARACTERS` in 7×7 pixels, every second one held out, with all their batches.

    Example:
        >>> writers = small_writers()
        >>> len(writers.train), len(writers.held_out)
        (24, 24)
    """
    writers = load_dataset("writers", num_writers=num_writers, mean_examples=200, size_skew=0.0)
    chosen = [writers.class_names.index(character) for character in CHARACTERS]
    owners = np.repeat(writers.client_ids, writers.counts)
    test = np.concatenate(
        [np.arange(n) >= m for n, m in zip(writers.counts, writers.train_counts, strict=True)]
    )
    is_chosen = np.isin(writers.y, chosen)
    # Centring the pixels lets a linear model learn in fewer rounds.
    pooled = np.asarray(writers.x).reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49)
    data = FederatedDataset.from_arrays(
        2 * (pooled - pooled.mean(0))[is_chosen],
        np.searchsorted(np.sort(chosen), writers.y[is_chosen]),
        owners[is_chosen],
        test_mask=test[is_chosen],
        class_names=sorted(CHARACTERS, key=writers.class_names.index),
        name="small writers",
        synthetic=True,
        source=f"synthetic handwriting in 7×7 pixels, characters {CHARACTERS}",
    )
    train, held_out = (data.subset(data.client_ids[first::2]) for first in (0, 1))
    tests = [BatchPlan(np.arange(n), np.array([0, n])) for n in held_out.test_counts]
    return SmallWriters(
        train,
        held_out,
        tuple(_planned(train, seed, number, steps=INNER_GRADIENTS) for number in range(MOST_ROUNDS)),
        _planned(held_out, seed, 0, epochs=1),
        _batches(held_out, tests, "test"),
    )


def local_plans(data: FederatedDataset, seed: int, number: int, **amount: int) -> list[BatchPlan]:
    """Every client's batches in a round, of so many `steps` or `epochs`."""
    return [
        batch_plan(seed, number, name, int(count), batch_size=BATCH_SIZE, **amount)
        for name, count in zip(data.client_ids, data.train_counts, strict=True)
    ]


def _planned(data: FederatedDataset, seed: int, number: int, **amount: int) -> Batches:
    return _batches(data, local_plans(data, seed, number, **amount), "train")


def _batches(data: FederatedDataset, plans: Sequence[BatchPlan], part: str) -> Batches:
    """The planned batches of all clients in one array, padded where a client has fewer or smaller ones."""
    size = max(int(np.diff(plan.bounds).max()) for plan in plans)
    shape = (max(map(len, plans)), len(plans), size)
    x, targets = np.zeros((*shape, data.x.shape[1] + 1)), np.zeros((*shape, data.num_classes))
    weights = np.zeros(shape)
    for client, (name, plan) in enumerate(zip(data.client_ids, plans, strict=True)):
        inputs, labels = (getattr(data[name], f"{part}_{axis}") for axis in "xy")
        for step, indices in enumerate(plan):
            rows = (step, client, np.arange(len(indices)))
            x[(*rows, slice(-1))], x[(*rows, -1)] = inputs[indices], 1
            targets[(*rows, labels[indices])] = 1
            weights[rows] = 1 / len(indices)
    return Batches(x, targets, weights)


def mixed_gradient(
    batches: Batches, params: FloatArray, mix: Sequence[float], client_rate: float
) -> FloatArray:
    """The pseudo-gradient of a mix: β times the mean over clients of Σ mix_j g_j [features, classes]."""
    local = np.broadcast_to(params, (batches.x.shape[1], *params.shape))
    sent = np.zeros_like(params)
    last = max((j for j, weight in enumerate(mix) if weight), default=-1)
    for j in range(last + 1):
        gradients = batches.gradients(local, j)
        sent += mix[j] * gradients.mean(0)
        if j < last:
            local = local - client_rate * gradients
    return client_rate * sent


@dataclass(frozen=True)
class Learning:
    """Mean accuracies of held-out clients in percent, before and after one epoch of adaptation.

    Attributes:
        rounds: rounds of training before each evaluation [evaluations].
        initial: accuracy of the global model [evaluations].
        personalized: accuracy of the clients' own models [evaluations].
    """

    rounds: tuple[int, ...]
    initial: tuple[float, ...]
    personalized: tuple[float, ...]


@lru_cache(maxsize=64)
def train_mix(
    writers: SmallWriters, mix: tuple[float, ...], client_rate: float, server_rate: float, rounds: int
) -> Learning:
    """Train from zero with SGD at the server; adaptation is local SGD with the same client rate.

    Args:
        writers: the clients.
        mix: a weight for each of g_1 … g_5.
        client_rate: β.
        server_rate: the server's learning rate.
        rounds: number of rounds, at most `MOST_ROUNDS`.

    Example:
        >>> learning = train_mix(small_writers(), (1, 1, 1, 1, 1), 0.5, 1.0, rounds=20)
        >>> bool(learning.personalized[-1] > learning.personalized[0])
        True
    """
    params = np.zeros((writers.tests.x.shape[-1], writers.tests.targets.shape[-1]))
    every = max(rounds // 8, 1)
    evaluations = []
    for number in range(rounds + 1):
        if number % every == 0 or number == rounds:
            own = np.broadcast_to(params, (len(writers.held_out), *params.shape))
            for step in range(len(writers.adaptation.x)):
                own = own - client_rate * writers.adaptation.gradients(own, step)
            evaluations.append((number, writers.accuracy(params), writers.accuracy(own)))
        if number < rounds:
            params = params - server_rate * mixed_gradient(writers.rounds[number], params, mix, client_rate)
    return Learning(*zip(*evaluations, strict=True))
