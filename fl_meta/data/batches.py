"""Which clients take part in a round, and which examples are in each of their local batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fl_meta.support.array_types import IntArray
from fl_meta.support.random_streams import random_stream


@dataclass(frozen=True)
class BatchPlan:
    """Which of a client's train examples are in the batch of each local step.

    Attributes:
        indices: positions in the train part, batch after batch [examples used].
        bounds: batch `j` is `indices[bounds[j] : bounds[j + 1]]` [steps + 1].

    Example:
        >>> plan = batch_plan(0, 0, "ann", num_examples=5, batch_size=2, steps=4)
        >>> len(plan), len(plan[2])
        (4, 1)
    """

    indices: IntArray
    bounds: IntArray

    def __len__(self) -> int:
        """Number of local steps."""
        return len(self.bounds) - 1

    def __getitem__(self, step: int) -> IntArray:
        """The batch of local step number `step`, counted from 0."""
        return self.indices[self.bounds[step] : self.bounds[step + 1]]

    def __iter__(self) -> Iterator[IntArray]:
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

    The plan is a function of its arguments alone. Each epoch is a new random permutation of the examples, cut
    into batches of `batch_size`. The last batch of an epoch is smaller if the examples do not divide evenly,
    so every epoch uses each example exactly once. A plan with fewer steps is the beginning of one with more:
    FedSGD, FedAvg, Reptile, FOMAML and MAML see the same batches in the same order.

    Args:
        seed: the seed of the whole run.
        round_number: the round, counted from 0.
        client_id: the client's id.
        num_examples: number of the client's train examples, at least 1.
        batch_size: examples per batch; None puts all of them into one batch.
        epochs: number of local epochs E (give this or `steps`).
        steps: number of local steps K (give this or `epochs`).

    Raises:
        ValueError: if a number is not positive, or not exactly one of `epochs` and `steps` is given.

    Example:
        >>> plan = batch_plan(0, 0, "ann", num_examples=5, batch_size=2, epochs=1)
        >>> [len(batch) for batch in plan]
        [2, 2, 1]
    """
    bounds = batch_bounds(client_id, num_examples, batch_size=batch_size, epochs=epochs, steps=steps)
    num_epochs = -(-int(bounds[-1]) // num_examples)
    generator = random_stream(seed, "local batches", round_number, client_id)
    indices = np.concatenate([generator.permutation(num_examples) for _ in range(num_epochs)])
    return BatchPlan(indices[: bounds[-1]].astype(np.int64, copy=False), bounds)


def batch_bounds(
    client_id: str, num_examples: int, *, batch_size: int | None, epochs: int | None, steps: int | None
) -> IntArray:
    """The `bounds` of a client's `batch_plan`, which are the same in every round [steps + 1].

    Raises:
        ValueError: as `batch_plan`.
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
    return _bounds(num_examples, size, num_steps)


@lru_cache(maxsize=1024)  # many clients have equally many examples
def _bounds(num_examples: int, size: int, num_steps: int) -> IntArray:
    steps_per_epoch = -(-num_examples // size)
    step = np.arange(num_steps + 1)
    bounds = step // steps_per_epoch * num_examples + step % steps_per_epoch * size
    bounds.flags.writeable = False
    return bounds


def sample_clients(seed: int, round_number: int, client_ids: Sequence[str], count: int) -> tuple[str, ...]:
    """Draw `count` clients without replacement, as a function of seed, round and the set of ids.

    Raises:
        ValueError: if `count` is below 1, or exceeds the number of clients.

    Example:
        >>> sample_clients(seed=0, round_number=0, client_ids=["ann", "bob", "eve"], count=3)
        ('ann', 'bob', 'eve')
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
