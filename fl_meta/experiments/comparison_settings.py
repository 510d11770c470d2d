"""Settings of the comparison behind claims 2 and 3."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fl_meta.experiments.settings import (
    PAPER_BUDGET,
    PAPER_SHAKESPEARE,
    PAPER_WRITERS,
    RECORDED_SETTINGS,
    SHAKESPEARE,
    WRITERS,
    Setting,
)


@dataclass(frozen=True)
class Comparison:
    """Claims 2 and 3 (notebooks 03 to 06): one start, several branches from it, and centralized training.

    Every method chooses its rate among the same number of values, on a fifth of the training clients. These
    validation clients take no part in training.

    Attributes:
        setting: data and model.
        folds: the clients are divided into this many folds; seed k holds out fold k.
        clients_per_round: clients sampled in each round.
        local_epochs: E of FedAvg before and after the fork.
        rounds: rounds of FedAvg before the fork.
        fine_tuning_rounds: rounds of each method after the fork.
        client_rates: rates tried for FedAvg's local SGD before the fork; the best is kept afterwards.
        reptile: pairs tried for Reptile, each K and the rate of Adam at the server.
        server_rates: rates tried for FedAvg's SGD at the server after the fork, with momentum 0.9.
        adam_rates: rates tried for FedSGD's Adam at the server after the fork.
        centralized_rates: rates tried for centralized SGD with momentum 0.9.
        centralized_adam_rates: rates tried for centralized Adam.
        centralized_batch: examples in a centralized batch. Centralized training sees as many examples as
            FedAvg before the fork.
        personalization_rates: rates tried for local SGD in personalization, for each model separately.
        personalization_epochs: epochs of personalization.
        local_only_epochs: epochs of training without any federation.

    Example:
        >>> config = replace(COMPARISON["laptop"]["writers"], rounds=20)
    """

    setting: Setting
    folds: int
    clients_per_round: int
    local_epochs: int
    rounds: int
    fine_tuning_rounds: int
    client_rates: tuple[float, ...]
    reptile: tuple[tuple[int, float], ...]
    server_rates: tuple[float, ...]
    adam_rates: tuple[float, ...]
    centralized_rates: tuple[float, ...]
    centralized_adam_rates: tuple[float, ...]
    centralized_batch: int
    personalization_rates: tuple[float, ...]
    personalization_epochs: int
    local_only_epochs: int

    def __post_init__(self) -> None:
        centralized = "centralized_rates", "centralized_adam_rates"
        grids = "client_rates", "reptile", "server_rates", "adam_rates", *centralized
        sizes = {name: len(getattr(self, name)) for name in grids}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"grids of different sizes: {sizes}; every method must have the same tuning budget"
            )


# Good rates for handwriting and for text differ in scale; every method has three values to choose from.
HANDWRITING = Comparison(
    WRITERS,
    folds=3,
    clients_per_round=10,
    local_epochs=5,
    rounds=40,
    fine_tuning_rounds=12,
    client_rates=(0.03, 0.08, 0.2),
    reptile=((5, 1e-3), (5, 4e-3), (15, 1e-3)),
    server_rates=(1.0, 0.3, 0.1),
    adam_rates=(3e-4, 1e-3, 3e-3),
    centralized_rates=(0.03, 0.1, 0.3),
    centralized_adam_rates=(1e-3, 3e-3, 1e-2),
    centralized_batch=200,
    personalization_rates=(0.03, 0.1, 0.3),
    personalization_epochs=3,
    local_only_epochs=15,
)
TEXT = replace(
    HANDWRITING,
    setting=SHAKESPEARE,
    local_epochs=3,
    rounds=20,
    fine_tuning_rounds=6,
    client_rates=(0.3, 0.6, 1.2),
    reptile=((2, 1e-3), (2, 4e-3), (5, 1e-3)),
    centralized_rates=(0.1, 0.3, 1.0),
    centralized_batch=40,
    personalization_rates=(0.1, 0.3, 1.0),
    personalization_epochs=2,
)
_SMOKE: dict[str, Any] = {
    "folds": 2,
    "clients_per_round": 3,
    "rounds": 3,
    "fine_tuning_rounds": 2,
    "local_epochs": 1,
    "client_rates": (0.1,),
    "reptile": ((2, 1e-3),),
    "server_rates": (0.3,),
    "adam_rates": (1e-3,),
    "centralized_rates": (0.1,),
    "centralized_adam_rates": (1e-3,),
    "personalization_rates": (0.1,),
    "personalization_epochs": 1,
    "local_only_epochs": 2,
}
_PAPER = PAPER_BUDGET | {"local_only_epochs": 50}
COMPARISON = {
    "smoke": {
        "writers": replace(HANDWRITING, setting=replace(WRITERS, num_clients=24), **_SMOKE),
        "shakespeare": replace(TEXT, setting=replace(SHAKESPEARE, num_clients=24), **_SMOKE),
    },
    "laptop": {"writers": HANDWRITING, "shakespeare": TEXT},
    "full": {
        "writers": replace(
            HANDWRITING, setting=PAPER_WRITERS, local_epochs=10, rounds=500, fine_tuning_rounds=100, **_PAPER
        ),
        "shakespeare": replace(
            TEXT, setting=PAPER_SHAKESPEARE, local_epochs=5, rounds=300, fine_tuning_rounds=60, **_PAPER
        ),
    },
}
# The repository keeps the results of these: five folds, so that every client is held out once.
_RECORDED: dict[str, Any] = {"folds": 5, "fine_tuning_rounds": 25, "local_only_epochs": 30}
_RECORDED_HANDWRITING = replace(
    HANDWRITING, rounds=80, clients_per_round=20, personalization_epochs=5, **_RECORDED
)
_RECORDED_TEXT = replace(TEXT, rounds=60, personalization_epochs=3, **_RECORDED)
RECORDED_COMPARISON = {
    name: replace(_RECORDED_TEXT if "shakespeare" in name else _RECORDED_HANDWRITING, setting=setting)
    for name, setting in RECORDED_SETTINGS.items()
}
# The same comparison with models that take several times as long: fewer clients, rounds and folds.
RECORDED_COMPARISON["mnist_by_writer-small_cnn"] = replace(
    _RECORDED_HANDWRITING,
    setting=replace(RECORDED_SETTINGS["mnist_by_writer"], model="small_cnn", num_clients=100),
    folds=3,
    rounds=40,
    clients_per_round=10,
)
RECORDED_COMPARISON["shakespeare_tff-small_lstm"] = replace(
    _RECORDED_TEXT,
    setting=replace(RECORDED_SETTINGS["shakespeare_tff"], model="small_lstm", num_clients=100),
    folds=3,
    rounds=40,
)

# Names of the models in a comparison; those of claim 3 follow from `CENTRALIZED`.
FEDAVG = "FedAvg"
CONTINUED = "FedAvg, continued"
CONTINUED_GRADIENTS = "FedAvg, continued for as many gradients"
REPTILE = "Reptile with Adam"
FEDSGD = "FedSGD with Adam"
SMALL_E = "FedAvg(E=1)"
LOCAL_ONLY = "local only"
