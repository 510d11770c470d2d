"""The plan of local batches: a function of (seed, round, client) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fl_meta.support.random_streams import random_stream


@dataclass(frozen=True)
class BatchPlan:
    """Which examples of a client's train part make up each local step's batch.

    Attributes:
        indices: positions in the train part, batch after batch [examples used].
        bounds: batch `j` is `indices[bounds[j] : bounds[j + 1]]` [steps + 1].
    """

    indices: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of local steps."""
        return len(self.bounds) - 1

    def __getitem__(self, step: int) -> NDArray[np.int64]:
        """The batch of local step number `step`, counted from 0."""
        return self.indices[self.bounds[step] : self.bounds[step + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return map(self.__getitem__, range(len(self)))


def batch_plan(
    seed: int,
    round_number: int,
    client_id: str,
    num_examples: int,
    *,
    batch_size: int | None,
    epochs: int | None = None,
    steps: int | None = None,
) -> BatchPlan:
    """Plan `epochs` local epochs, or exactly `steps` local steps, of one client in one round.

    Each epoch is a fresh permutation of the examples, cut into batches of `batch_size`; the last batch of
    an epoch is smaller if it does not divide evenly, so an epoch uses every example exactly once. A plan of
    fewer steps is the beginning of a plan of more: FedSGD, FedAvg, Reptile, FOMAML and MAML meet the same
    batches in the same order.

    Args:
        seed: of the whole run.
        round_number: the round, counted from 0.
        client_id: whose batches these are.
        num_examples: number of the client's train examples, at least 1.
        batch_size: examples per batch; None means all of them in one batch.
        epochs: number of local epochs E (give this or `steps`).
        steps: number of local steps K (give this or `epochs`).

    Raises:
        ValueError: if a number is not positive, or not exactly one of `epochs` and `steps` is given.
    """
    if (epochs is None) == (steps is None):
        raise ValueError(f"give either epochs or steps, not both or neither (epochs={epochs}, steps={steps})")
    size = num_examples if batch_size is None else batch_size
    amount = epochs if epochs is not None else steps
    for name, value in {"num_examples": num_examples, "batch_size": size, "epochs or steps": amount}.items():
        if value is None or value < 1:
            raise ValueError(f"{name}={value} for client {client_id!r}; it must be 1 or more")
    size = min(size, num_examples)
    steps_per_epoch = -(-num_examples // size)
    num_steps = steps if steps is not None else steps_per_epoch * amount  # type: ignore[operator]
    num_epochs = -(-num_steps // steps_per_epoch)
    generator = random_stream(seed, "local batches", round_number, client_id)
    indices = np.concatenate([generator.permutation(num_examples) for _ in range(num_epochs)])
    bounds = _bounds(num_examples, size, num_steps)
    return BatchPlan(indices[: bounds[-1]].astype(np.int64, copy=False), bounds)


@lru_cache(maxsize=1024)  # many clients have equally many examples
def _bounds(num_examples: int, size: int, num_steps: int) -> NDArray[np.int64]:
    steps_per_epoch = -(-num_examples // size)
    step = np.arange(num_steps + 1)
    bounds = step // steps_per_epoch * num_examples + step % steps_per_epoch * size
    bounds.flags.writeable = False
    return bounds


def sample_clients(seed: int, round_number: int, client_ids: Sequence[str], count: int) -> tuple[str, ...]:
    """Draw `count` clients without replacement: a function of seed, round and the set of ids alone.

    Raises:
        ValueError: if `count` is below 1, or more than there are clients.
    """
    if not 1 <= count <= len(client_ids):
        raise ValueError(
            f"clients_per_round={count}, but there are {len(client_ids)} training clients; "
            f"choose a number from 1 to {len(client_ids)}"
        )
    generator = random_stream(seed, "clients of the round", round_number)
    chosen = generator.choice(len(client_ids), size=count, replace=False)
    ids = sorted(client_ids)
    return tuple(sorted(ids[i] for i in chosen))
