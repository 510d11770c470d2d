"""A linear model of small handwriting, trained with any mix of the inner gradients, in a tenth of a second.

A NumPy twin of the library, vectorized over clients; `tests/test_mixing.py` holds it against
`fl_meta.pseudo_gradient` and `fl_meta.personalize`.
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
"""Weights of g_1 … g_5 that make the table's rows, every client weighing the same."""


@dataclass(frozen=True)
class Batches:
    """Local batches of several clients; places that are empty weigh 0.

    Attributes:
        x: inputs, the last of which is 1 [steps, clients, batch, features].
        wanted: one-hot labels, all 0 where a place is empty [steps, clients, batch, classes].
        weights: 1 / batch size, 0 where a place is empty [steps, clients, batch].
    """

    x: FloatArray
    wanted: FloatArray
    weights: FloatArray

    def gradients(self, params: FloatArray, step: int) -> FloatArray:
        """Of softmax regression's mean cross-entropy [clients, features, classes] at each client's own."""
        x = self.x[step]
        scores = x @ params
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        errors = (scores - self.wanted[step]) * self.weights[step][..., None]
        product: FloatArray = x.swapaxes(1, 2) @ errors
        return product


@dataclass(frozen=True, eq=False)
class SmallWriters:
    """Writers in small images: some train a linear model, the others personalize it.

    Attributes:
        train: the clients that train, all of them in every round.
        held_out: the clients that personalize.
        rounds: for each round the batches of g_1 … g_5 of the clients that train.
        adaptation: one epoch of each held-out client.
        tests: the held-out clients' test parts, one batch each.
    """

    train: FederatedDataset
    held_out: FederatedDataset
    rounds: tuple[Batches, ...]
    adaptation: Batches
    tests: Batches

    def accuracy(self, params: FloatArray) -> float:
        """Mean over held-out clients, in per cent, of parameters of each one's own or common ones."""
        right = self.tests.wanted[0].argmax(-1) == (self.tests.x[0] @ params).argmax(-1)
        return float(100 * (right * self.tests.weights[0]).sum(1).mean())


@cache
def small_writers(num_writers: int = 48, seed: int = 0) -> SmallWriters:
    """Synthetic writers of `CHARACTERS` in 7×7 pixels, every other one held out, with all their batches."""
    writers = load_dataset("writers", num_writers=num_writers, mean_examples=200, size_skew=0.0)
    chosen = [writers.class_names.index(character) for character in CHARACTERS]
    owners = np.repeat(writers.client_ids, writers.counts)
    test = np.concatenate(
        [np.arange(n) >= m for n, m in zip(writers.counts, writers.train_counts, strict=True)]
    )
    kept = np.isin(writers.y, chosen)
    # Pixels that are often inked vary; a linear model learns sooner when they are centred.
    pooled = np.asarray(writers.x).reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49)
    data = FederatedDataset.from_arrays(
        2 * (pooled - pooled.mean(0))[kept],
        np.searchsorted(np.sort(chosen), writers.y[kept]),
        owners[kept],
        test_mask=test[kept],
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


def _planned(data: FederatedDataset, seed: int, number: int, **amount: int) -> Batches:
    plans = [
        batch_plan(seed, number, name, int(count), batch_size=BATCH_SIZE, **amount)
        for name, count in zip(data.client_ids, data.train_counts, strict=True)
    ]
    return _batches(data, plans, "train")


def _batches(data: FederatedDataset, plans: Sequence[BatchPlan], part: str) -> Batches:
    """The planned batches of all clients in one array; clients with fewer of them have empty ones."""
    size = max(int(np.diff(plan.bounds).max()) for plan in plans)
    shape = (max(map(len, plans)), len(plans), size)
    x, wanted = np.zeros((*shape, data.x.shape[1] + 1)), np.zeros((*shape, data.num_classes))
    weights = np.zeros(shape)
    for client, (name, plan) in enumerate(zip(data.client_ids, plans, strict=True)):
        inputs, labels = (getattr(data[name], f"{part}_{axis}") for axis in "xy")
        for step, indices in enumerate(plan):
            places = (step, client, np.arange(len(indices)))
            x[(*places, slice(-1))], x[(*places, -1)] = inputs[indices], 1
            wanted[(*places, labels[indices])] = 1
            weights[places] = 1 / len(indices)
    return Batches(x, wanted, weights)


def mixed_gradient(
    batches: Batches, params: FloatArray, mix: Sequence[float], client_rate: float
) -> FloatArray:
    """The pseudo-gradient of a mix: β times the mean over clients of Σ mix_j g_j [features, classes].

    Args:
        batches: of the round.
        params: the global model's [features, classes].
        mix: a weight for each of g_1 … g_5.
        client_rate: β.
    """
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
    """Accuracies of held-out clients in per cent, before and after one epoch of adaptation.

    Attributes:
        rounds: after how many rounds.
        initial: of the global model [evaluations].
        personalized: of each client's own [evaluations].
    """

    rounds: tuple[int, ...]
    initial: tuple[float, ...]
    personalized: tuple[float, ...]


@lru_cache(maxsize=64)
def train_mix(
    writers: SmallWriters, mix: tuple[float, ...], client_rate: float, server_rate: float, rounds: int
) -> Learning:
    """Train from zero with SGD at the server; adaptation is local SGD with the same client rate."""
    params = np.zeros((writers.tests.x.shape[-1], writers.tests.wanted.shape[-1]))
    every = max(rounds // 8, 1)
    rows = []
    for number in range(rounds + 1):
        if number % every == 0 or number == rounds:
            own = np.broadcast_to(params, (len(writers.held_out), *params.shape))
            for step in range(len(writers.adaptation.x)):
                own = own - client_rate * writers.adaptation.gradients(own, step)
            rows.append((number, writers.accuracy(params), writers.accuracy(own)))
        if number < rounds:
            params = params - server_rate * mixed_gradient(writers.rounds[number], params, mix, client_rate)
    return Learning(*zip(*rows, strict=True))
