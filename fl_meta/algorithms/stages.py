"""Stages: rounds of one algorithm; training is a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.table import Algorithm, reptile
from fl_meta.support.validation import whole_number


@dataclass(frozen=True)
class Stage:
    """A number of rounds of one algorithm. Training is a list of stages.

    Example:
        >>> stage = fl_meta.Stage(fl_meta.fedavg(epochs=5), rounds=300, clients_per_round=20)
        >>> stage.algorithm.name
        'FedAvg(E=5)'

    Attributes:
        algorithm: a row of the table of algorithms.
        rounds: number of rounds, at least 1.
        clients_per_round: number of clients sampled without replacement in each round; None takes all
            clients in every round (full participation).
    """

    algorithm: Algorithm
    rounds: int
    clients_per_round: int | None = 20

    def __post_init__(self) -> None:
        for name in ("rounds", "clients_per_round"):
            if name == "rounds" or self.clients_per_round is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name)))


def decayed(stage: Stage, at: Sequence[int], factor: float = 0.1) -> list[Stage]:
    """Divide a stage into several whose client rate falls by `factor` at each of the rounds `at`.

    Like `torch.optim.lr_scheduler.MultiStepLR`. Client momentum that the algorithm keeps carries over.

    Example:
        >>> algorithm = fl_meta.fedavg(1, client=SGD(0.1), server=SGD(1.0))
        >>> stages = decayed(Stage(algorithm, 200), at=(100, 150))
        >>> [(stage.rounds, round(stage.algorithm.client.learning_rate, 6)) for stage in stages]
        [(100, 0.1), (50, 0.01), (50, 0.001)]

    Args:
        stage: what to run. Its server must be SGD without momentum, because any other server optimizer
            starts afresh in each stage.
        at: round numbers within the stage after which the rate falls: increasing, above 0 and below
            `stage.rounds`.
        factor: between 0 and 1, both excluded.

    Raises:
        ValueError: if `at`, `factor` or the server does not meet these conditions.

    Source: FedEM's protocol (Marfoq et al. 2021): 200 rounds, ×0.1 at rounds 100 and 150.
    """
    algorithm = stage.algorithm
    if isinstance(algorithm.server, Adam) or algorithm.server.momentum:
        raise ValueError(
            f"{algorithm.name} has the server {algorithm.server}, which would start afresh at every decay; "
            "take server=SGD(1.0) to average the clients' models"
        )
    bounds = [0, *(whole_number("at", number) for number in at), stage.rounds]
    if any(later <= earlier for earlier, later in pairwise(bounds)):
        raise ValueError(f"at={tuple(at)} must rise, above 0 and below the stage's {stage.rounds} rounds")
    if not 0 < factor < 1:
        raise ValueError(f"factor={factor} is not above 0 and below 1")
    rate = algorithm.client.learning_rate
    clients = [replace(algorithm.client, learning_rate=rate * factor**i) for i in range(len(bounds) - 1)]
    return [
        replace(stage, algorithm=replace(algorithm, client=client), rounds=last - first)
        for client, (first, last) in zip(clients, pairwise(bounds), strict=True)
    ]


def personalized_fedavg(
    first: Stage, *, steps: int, rounds: int, server: SGD | Adam = Adam(1e-3)
) -> list[Stage]:
    """The two training stages of Personalized FedAvg: FedAvg(E), then Reptile(K) with Adam at the server.

    The third step is `personalize`, with the same client optimizer.

    Example:
        >>> first = fl_meta.Stage(fl_meta.fedavg(epochs=10), rounds=300)
        >>> [stage.algorithm.name for stage in fl_meta.personalized_fedavg(first, steps=10, rounds=60)]
        ['FedAvg(E=10)', 'Reptile(10)']

    Args:
        first: the FedAvg stage, with a fairly large E and momentum at the server.
        steps: Reptile's number of local steps K. We do not know the paper's K.
        rounds: number of rounds of fine-tuning.
        server: the server optimizer of fine-tuning. We do not know the paper's learning rate.

    Source: the paper's algorithm "Personalized FedAvg".
    """
    algorithm = first.algorithm
    fine_tuning = reptile(
        steps,
        client=algorithm.client,
        server=server,
        batch_size=algorithm.batch_size,
        keeps_momentum=algorithm.keeps_momentum,
    )
    return [first, Stage(fine_tuning, rounds, first.clients_per_round)]
