"""The usual loop: for each client a deep copy, a DataLoader and torch.optim.SGD, then the average."""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from systems.plain_torch import build, train_client
from systems.worker import Job, array, initial, serve

StateDict = dict[str, Tensor]


class Rounds:
    """Rounds of FedAvg, one client after the other."""

    def __init__(self, folder: Path) -> None:
        job = Job.read(folder)
        self.module, self.learning_rate = build(job.model, job.num_classes), job.learning_rate
        x, y, self.plan = array(folder, "x"), array(folder, "y"), array(folder, "plan")
        # nn.Embedding and the loss want whole numbers of 64 bits.
        inputs = torch.from_numpy(x if x.dtype.kind == "f" else x.astype("int64"))
        self.clients = [
            TensorDataset(*tensors) for tensors in zip(inputs, torch.from_numpy(y).long(), strict=True)
        ]

    def __call__(self, state: StateDict, number: int, clients: int | None = None) -> StateDict:
        """The average model of all clients or of the first few. All have equally many examples."""
        self.module.load_state_dict(state)
        examples = self.clients[:clients]
        total = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        for client, batches in zip(examples, self.plan[number].tolist(), strict=False):
            module = copy.deepcopy(self.module)
            train_client(module, client, batches, self.learning_rate)
            for name, tensor in module.state_dict().items():
                total[name] += tensor
        return {name: tensor / len(examples) for name, tensor in total.items()}


def choose_threads(rounds: Rounds, state: StateDict) -> str:
    """Choose one thread or all cores, whichever trains two clients faster."""
    seconds: dict[int, list[float]] = {1: [], len(os.sched_getaffinity(0)): []}
    for count in (*seconds, *seconds):
        torch.set_num_threads(count)
        begin = last = time.perf_counter()
        while last - begin < 2.0:
            rounds(state, 0, clients=2)
            now = time.perf_counter()
            seconds[count].append(now - last)
            last = now
    fastest = min(seconds, key=lambda count: statistics.median(seconds[count]))
    torch.set_num_threads(fastest)
    return str(fastest)


def main() -> None:
    folder = Path(sys.argv[1])
    rounds = Rounds(folder)
    start = {name: torch.from_numpy(values) for name, values in initial(folder).items()}
    serve(
        rounds,
        start,
        lambda state: {name: tensor.numpy() for name, tensor in state.items()},
        lambda: choose_threads(rounds, start),
    )


if __name__ == "__main__":
    main()
