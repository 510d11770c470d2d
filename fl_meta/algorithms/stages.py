"""Stages: rounds of one algorithm, laid end to end."""

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
    """The stage with a step-decayed client rate: times `factor` from each of the rounds `at` on.

    `decayed(Stage(algorithm, 200), at=(100, 150))` has 100 rounds with the rate β, 50 with β/10 and 50 with
    β/100, as `torch.optim.lr_scheduler.MultiStepLR` has. A kept client momentum goes on from one to the next.

    Args:
        stage: what to run; its server must be SGD without momentum, as others start afresh in each stage.
        at: numbers of rounds in the stage after which the rate falls, rising, above 0 and below
            `stage.rounds`.
        factor: above 0 and below 1.

    Raises:
        ValueError: if `at`, `factor` or the server is none of these.

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
    """Personalized FedAvg's two stages of training: FedAvg(E), then Reptile(K) with Adam at the server.

    Its third step is `personalize` with the client optimizer of training.

    Args:
        first: the FedAvg stage, with a relatively large E and momentum at the server.
        steps: Reptile's number of local steps K. The paper's K is not known to us.
        rounds: number of rounds of fine-tuning.
        server: the server optimizer of fine-tuning; the paper's learning rate is not known to us.

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
