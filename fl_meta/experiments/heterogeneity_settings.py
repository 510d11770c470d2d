"""Settings of the grid of synthetic writers who differ more or less from one another."""

from __future__ import annotations

from dataclasses import dataclass

from fl_meta.experiments.settings import Setting


@dataclass(frozen=True)
class Heterogeneity:
    """Synthetic writers who differ more or less from one another (notebook 08), in every cell of a grid.

    Attributes:
        setting: the synthetic writers, how many, and the model.
        folds: the writers are divided into this many folds; seed k holds out fold k. From seed `folds` on
            the writers are others.
        style: how much the writers' hands differ, see `Knobs` of the synthetic writers.
        label_skew: how much their class frequencies differ.
        mean_examples: examples of every writer, train and test part together.
        clients_per_round: writers sampled in each round.
        steps: local steps K in each round, the same in every cell.
        rounds: rounds of FedAvg.
        client_rate: learning rate of local SGD in training and in personalization; not tuned for any cell.
        server_momentum: momentum of SGD with rate 1 at the server.
        personalization_epochs: epochs of personalization.
    """

    setting: Setting
    folds: int
    style: tuple[float, ...]
    label_skew: tuple[float, ...]
    mean_examples: tuple[int, ...]
    clients_per_round: int
    steps: int
    rounds: int
    client_rate: float
    server_momentum: float
    personalization_epochs: int


RECORDED_HETEROGENEITY = Heterogeneity(
    Setting("writers", "logistic", least=1, most=1000, num_clients=60),
    folds=3,
    style=(0.0, 0.5, 1.0, 2.0),
    label_skew=(0.0, 1.0, 2.0, 4.0),
    mean_examples=(25, 100, 300),
    clients_per_round=10,
    steps=5,
    rounds=20,
    client_rate=0.5,
    server_momentum=0.8,
    personalization_epochs=3,
)

KNOBS = ("style", "label_skew", "mean_examples")
"""The options of `load_writers` that the grid varies; all writers have the same number of examples."""
