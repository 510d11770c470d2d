"""What all workers share: reading the job and answering. Needs only NumPy."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
State = TypeVar("State")


@dataclass(frozen=True)
class Job:
    """The task for every system. All clients have equally many examples, so arrays are rectangular.

    Attributes:
        model: The model's name.
        num_classes: Number of labels.
        epochs: Local epochs of FedAvg.
        batch_size: Examples per local batch.
        learning_rate: Learning rate of the client's SGD.
        seed: Seed of the planned batches.
    """

    model: str
    num_classes: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    def write(self, folder: Path) -> None:
        """Write job.json.

        Beside it are x, y [clients, examples, ...] and plan [rounds, clients, steps, batch].
        """
        (folder / "job.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job that `write` wrote."""
        return cls(**json.loads((folder / "job.json").read_text()))


def array(folder: Path, name: str) -> NDArray[Any]:
    """One of the job's arrays, read from its file as it is used."""
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c"))


def initial(folder: Path) -> Arrays:
    """The initial parameters under PyTorch's names."""
    with np.load(folder / "initial.npz") as file:
        return dict(file)


def serve(
    one_round: Callable[[State, int], State],
    state: State,
    to_arrays: Callable[[State], Arrays],
    settle: Callable[[], str],
) -> None:
    """Answer each round's number on stdin with the seconds that the round took, until stdin ends.

    After round 0 comes one line more: on how many threads the system runs.

    Args:
        one_round: parameters and the round's number to new parameters, all of it computed on return.
        state: the initial parameters.
        to_arrays: parameters as arrays under PyTorch's names; saved after round 0, to be compared.
        settle: called after round 0, outside of any measured time; says on how many threads it runs.
    """
    folder, name = Path(sys.argv[1]), sys.argv[2]
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        number = int(line)
        begin = time.perf_counter()
        state = one_round(state, number)
        print(time.perf_counter() - begin, file=answers, flush=True)
        if number == 0:
            # After the answer, which ends the measured start-up.
            np.savez(folder / f"{name}.npz", **to_arrays(state))
            print(settle(), file=answers, flush=True)
