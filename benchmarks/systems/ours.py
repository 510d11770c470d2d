"""Our engines, `loop` and `stacked`, through the public `fl_meta.training.rounds.pseudo_gradient`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fl_meta import SGD, FederatedDataset, Model, models
from fl_meta.algorithms import table as algorithms
from fl_meta.models.parameters import Params, add
from fl_meta.training.rounds import pseudo_gradient
from systems.worker import Job, array, initial, serve


def dataset(folder: Path, num_classes: int) -> FederatedDataset:
    """The job's random arrays as a data set without test parts, not copied."""
    x, y = array(folder, "x"), array(folder, "y")
    clients, examples = y.shape[:2]
    return FederatedDataset(
        name="random arrays",
        x=x.reshape(-1, *x.shape[2:]),
        y=y.reshape(-1, *y.shape[2:]),
        client_ids=tuple(f"{i:04d}" for i in range(clients)),
        starts=np.arange(clients) * examples,
        train_counts=np.full(clients, examples),
        test_counts=np.zeros(clients, dtype=np.int64),
        num_classes=num_classes,
        synthetic=True,
    )


def model_named(name: str, data: FederatedDataset) -> Model:
    """The model without dropout, because no two frameworks draw the same masks."""
    model: Model = getattr(models, name)(data)

    def build() -> nn.Module:
        module = model.build()
        for title, part in list(module.named_modules()):
            if isinstance(part, nn.Dropout):
                module.set_submodule(title, nn.Identity())
        return module

    return replace(model, build=build)


class Rounds:
    """Rounds of one job with one of our engines; MAML and FOMAML take 5 local steps."""

    def __init__(self, folder: Path, engine: str, algorithm: str = "fedavg") -> None:
        job = Job.read(folder)
        self.engine, self.seed = engine, job.seed
        self.data = dataset(folder, job.num_classes)
        self.model = model_named(job.model, self.data)
        amount = {"epochs": job.epochs} if algorithm == "fedavg" else {"steps": 5}
        self.algorithm = getattr(algorithms, algorithm)(
            **amount, client=SGD(job.learning_rate), batch_size=job.batch_size
        )

    def __call__(self, params: Params, number: int) -> Params:
        """The parameters after a round with server SGD(1.0), as in the other systems."""
        direction, _ = pseudo_gradient(
            self.model,
            params,
            self.data,
            self.data.client_ids,
            self.algorithm,
            seed=self.seed,
            round_number=number,
            engine=self.engine,
        )
        return add(params, direction, -1.0)


def main() -> None:
    folder, (engine, *algorithm) = Path(sys.argv[1]), sys.argv[2].split()
    start = {name: torch.from_numpy(values) for name, values in initial(folder).items()}
    serve(
        Rounds(folder, engine, *algorithm),
        start,
        lambda params: {name: tensor.numpy() for name, tensor in params.items()},
        lambda: "1" if engine == "loop" else str(torch.get_num_threads()),
    )


if __name__ == "__main__":
    main()
