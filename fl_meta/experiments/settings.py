"""Frozen configurations of the notebooks' experiments, in a size for each profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fl_meta.evidence.verdicts import PROFILES

Config = TypeVar("Config")


@dataclass(frozen=True)
class FirstLook:
    """Notebook 00: one global model per data set, personalized to held-out clients.

    Attributes:
        num_writers: size of the synthetic data set.
        num_roles: how many speaking roles take part.
        rounds: rounds of FedAvg per data set.
        clients_per_round: clients sampled in each round.
        local_epochs: E on handwriting; on text E is 1.
        personalization_epochs: epochs of adaptation on held-out clients.
    """

    num_writers: int
    num_roles: int
    rounds: int
    clients_per_round: int
    local_epochs: int
    personalization_epochs: int


@dataclass(frozen=True)
class ClaimOne:
    """Notebook 01: the identities, the expansion and the second order, in float64.

    Attributes:
        num_clients: clients per data set.
        steps: K of the identities.
        batch_size: examples per local batch.
        expansion_steps: the K of the expansion.
        expansion_clients: clients whose expansion is measured.
    """

    num_clients: int
    steps: int
    batch_size: int
    expansion_steps: tuple[int, ...]
    expansion_clients: int


@dataclass(frozen=True)
class Setting:
    """Which clients, and which model.

    Attributes:
        dataset: a name that `load_dataset` knows.
        model: a name in `studies.MODELS`.
        least: clients with fewer train examples take no part.
        most: of each client's train part and test part at most so many examples are used.
        num_clients: how many take part, of the synthetic writers the first ones, of others evenly chosen
            among those with enough examples; None takes all.
    """

    dataset: str
    model: str
    least: int
    most: int
    num_clients: int | None = None


@dataclass(frozen=True)
class TableOne:
    """Notebook 02, the paper's Table 1: clients a round × local epochs.

    Attributes:
        setting: data and model.
        folds: seed k holds out fold k of so many.
        clients_per_round: the table's two halves.
        local_epochs: the table's rows, E.
        client_rate: of local SGD, in training and in personalization; customary, not tuned.
        rounds: rounds of FedAvg in each cell.
        every: rounds between evaluations.
        personalization_epochs: of the personalized accuracy.
        threshold: accuracy that is waited for; set before the first run.
    """

    setting: Setting
    folds: int
    clients_per_round: tuple[int, ...]
    local_epochs: tuple[int, ...]
    client_rate: float
    rounds: int
    every: int
    personalization_epochs: int
    threshold: float


@dataclass(frozen=True)
class Comparison:
    """Notebooks 03 to 06, claims 2 and 3: one start, several ways on from it, and centralized training.

    Every rate is chosen among as many values as every other method has, on a fifth of the training clients,
    which then take no part in training.

    Attributes:
        setting: data and model.
        folds: seed k holds out fold k of so many.
        clients_per_round: sampled in each round.
        local_epochs: E of FedAvg before and after the fork.
        rounds: rounds of FedAvg before the fork.
        fine_tuning_rounds: rounds of each method after the fork.
        client_rates: of FedAvg's local SGD before the fork; that of the best goes on.
        reptile: pairs of K and Adam's rate at the server.
        server_rates: of FedAvg's SGD at the server after the fork, with momentum 0.9.
        adam_rates: of FedSGD's Adam at the server after the fork.
        centralized_rates: of centralized SGD with momentum 0.9.
        centralized_adam_rates: of centralized Adam.
        centralized_batch: examples per centralized batch; it sees as many examples as FedAvg before the fork.
        personalization_rates: of local SGD in personalization, chosen for each model by itself.
        personalization_epochs: of the personalized accuracy.
        local_only_epochs: of training without any federation.
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
        grids = (
            "client_rates",
            "reptile",
            "server_rates",
            "adam_rates",
            "centralized_rates",
            "centralized_adam_rates",
        )
        sizes = {name: len(getattr(self, name)) for name in grids}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"grids of different sizes: {sizes}; every method has the same budget for tuning"
            )


@dataclass(frozen=True)
class Benchmark:
    """Notebook 07: one method on one row of the published table.

    Attributes:
        setting: data and model; where there is a partition, `num_clients` is among how many to divide.
        folds: seed k leaves fold k of so many unseen.
        partition: a name in `benchmark.PARTITIONS`; None takes the data set's own clients.
        method: a name in `benchmark.METHODS`.
        rounds: rounds with all clients; of local training, epochs.
        client_rate: of local SGD at the beginning.
        batch_size: examples per local batch.
    """

    setting: Setting
    folds: int
    partition: str | None
    method: str
    rounds: int
    client_rate: float
    batch_size: int


@dataclass(frozen=True)
class Heterogeneity:
    """Notebook 08: synthetic writers who differ by more or by less, in every cell of a grid.

    Attributes:
        setting: the synthetic writers, how many, and the model.
        folds: seed k holds out fold k of so many; seeds from `folds` on have other writers.
        style: how far hands differ, see `data.handwriting.Knobs`.
        label_skew: how far class frequencies differ.
        mean_examples: of each writer, train and test together; all have as many.
        clients_per_round: sampled in each round.
        steps: local steps K in each round, in every cell the same.
        rounds: of FedAvg.
        client_rate: of local SGD, in training and in personalization; tuned for no cell.
        server_momentum: of SGD with rate 1 at the server.
        personalization_epochs: of the personalized accuracy.
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


FIRST_LOOK = {
    "smoke": FirstLook(60, 40, 10, 10, 2, 2),
    "laptop": FirstLook(200, 200, 80, 20, 2, 5),
    "paper": FirstLook(3400, 715, 1500, 20, 10, 10),
}
CLAIM_ONE = {
    "smoke": ClaimOne(2, 2, 4, (2,), 4),
    "laptop": ClaimOne(4, 4, 10, (2, 3), 9),
    "paper": ClaimOne(20, 10, 20, (2, 3, 4, 5), 100),
}


WRITERS = Setting("writers", "mlp", least=20, most=60, num_clients=100)
SHAKESPEARE = Setting("shakespeare", "char_mlp", least=10, most=20, num_clients=75)

# Rates of handwriting and of text differ in scale; every method has as many values to choose from.
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
_PAPER: dict[str, Any] = {"folds": 5, "personalization_epochs": 10}
COMPARISON = {
    "smoke": {
        "writers": replace(HANDWRITING, setting=replace(WRITERS, num_clients=24), **_SMOKE),
        "shakespeare": replace(TEXT, setting=replace(SHAKESPEARE, num_clients=24), **_SMOKE),
    },
    "laptop": {"writers": HANDWRITING, "shakespeare": TEXT},
    "paper": {
        "writers": replace(
            HANDWRITING,
            setting=Setting("writers", "emnist_cnn", 20, 400, 3400),
            local_epochs=10,
            rounds=500,
            fine_tuning_rounds=100,
            local_only_epochs=50,
            **_PAPER,
        ),
        "shakespeare": replace(
            TEXT,
            setting=Setting("shakespeare", "char_lstm", 10, 400),
            local_epochs=5,
            rounds=300,
            fine_tuning_rounds=60,
            local_only_epochs=50,
            **_PAPER,
        ),
    },
}

_CELLS: dict[str, Any] = {"clients_per_round": (5, 20), "local_epochs": (2, 5, 10, 20)}
LAPTOP_TABLE_ONE = {
    "writers": TableOne(
        WRITERS,
        folds=3,
        client_rate=0.06,
        rounds=24,
        every=4,
        personalization_epochs=3,
        threshold=0.5,
        **_CELLS,
    ),
    "shakespeare": TableOne(
        SHAKESPEARE,
        folds=3,
        client_rate=0.3,
        rounds=9,
        every=3,
        personalization_epochs=2,
        threshold=0.3,
        **_CELLS,
    ),
}
TABLE_ONE = {
    "smoke": {
        name: replace(
            table,
            setting=replace(table.setting, num_clients=24),
            folds=2,
            clients_per_round=(3, 5),
            local_epochs=(1, 2),
            rounds=2,
            every=1,
        )
        for name, table in LAPTOP_TABLE_ONE.items()
    },
    "laptop": LAPTOP_TABLE_ONE,
    "paper": {
        "writers": TableOne(
            COMPARISON["paper"]["writers"].setting,
            client_rate=0.02,
            rounds=500,
            every=10,
            threshold=0.8,
            **_PAPER,
            **_CELLS,
        ),
        "shakespeare": TableOne(
            COMPARISON["paper"]["shakespeare"].setting,
            client_rate=0.2,
            rounds=300,
            every=10,
            threshold=0.4,
            **_PAPER,
            **_CELLS,
        ),
    },
}

# What the repository keeps the results of: five folds, every client of a data set held out once.
_RECORDED: dict[str, Any] = {
    "folds": 5,
    "fine_tuning_rounds": 25,
    "personalization_epochs": 5,
    "local_only_epochs": 30,
}
_SETTINGS = {
    "writers": replace(WRITERS, num_clients=200),
    "mnist_by_writer": Setting("mnist_by_writer", "mlp", least=20, most=60, num_clients=250),
    "unipen62": Setting("unipen62", "mlp", least=20, most=60),
    "shakespeare": replace(SHAKESPEARE, num_clients=250),
    "shakespeare_tff": Setting("shakespeare_tff", "char_mlp", least=10, most=20, num_clients=250),
}
_THRESHOLDS = {
    "writers": 0.6,
    "mnist_by_writer": 0.9,
    "unipen62": 0.6,
    "shakespeare": 0.35,
    "shakespeare_tff": 0.35,
}
_RECORDED_HANDWRITING = replace(HANDWRITING, rounds=80, clients_per_round=20, **_RECORDED)
_RECORDED_TEXT = replace(TEXT, rounds=60, **_RECORDED | {"personalization_epochs": 3})
RECORDED_COMPARISON = {
    name: replace(_RECORDED_TEXT if "shakespeare" in name else _RECORDED_HANDWRITING, setting=setting)
    for name, setting in _SETTINGS.items()
}
# The same questions put to other models, which take several times as long: fewer clients, rounds and folds.
RECORDED_COMPARISON["mnist_by_writer-small_cnn"] = replace(
    _RECORDED_HANDWRITING,
    setting=replace(_SETTINGS["mnist_by_writer"], model="small_cnn", num_clients=100),
    folds=3,
    rounds=40,
    clients_per_round=10,
)
RECORDED_COMPARISON["shakespeare_tff-small_lstm"] = replace(
    _RECORDED_TEXT,
    setting=replace(_SETTINGS["shakespeare_tff"], model="small_lstm", num_clients=100),
    folds=3,
    rounds=40,
)
RECORDED_TABLE_ONE = {
    name: TableOne(
        setting,
        folds=5,
        client_rate=0.3 if "shakespeare" in name else 0.06,
        rounds=25 if "shakespeare" in name else 60,
        every=5,
        personalization_epochs=3,
        threshold=_THRESHOLDS[name],
        **_CELLS,
    )
    for name, setting in _SETTINGS.items()
}

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

BENCHMARK_METHODS = (
    "Local",
    "FedAvg",
    "FedProx",
    "Per-FedAvg (FOMAML)",
    "Per-FedAvg (MAML)",
    "Personalized FedAvg",
)


# Data set, most examples of a client's part, how its examples are divided and among how many clients.
_HANDWRITING_ROWS = (
    ("mnist_by_writer", 400, None, None),
    ("emnist_tff", 400, None, 539),
    ("unipen62", 400, "labels", 100),
    ("emnist", 10_000, "labels, a tenth", 100),
)
_IMAGE_ROWS = (
    ("cifar10_subset", 10_000, "groups of labels", 80),
    ("cifar10", 10_000, "groups of labels", 80),
    ("cifar100_subset", 1000, "Pachinko", 100),
    ("cifar100", 1000, "Pachinko", 100),
)
_SYNTHETIC_ROWS = (("synthetic", 10_000, None, None),)
_WHOLE_TEXT_ROW = (("shakespeare_tff", 10_000, None, None),)
MOBILENET = "cifar10_subset-mobilenet_v2"
WHOLE_TEXT = "shakespeare_tff-whole"  # every line of every role, and as many rounds as published


def _benchmarks(
    rows: tuple[tuple[str, int, str | None, int | None], ...],
    model: str,
    client_rate: float,
    batch_size: int,
    rounds: int,
) -> dict[str, dict[str, Benchmark]]:
    """Rows by data set and method that share a model and its training."""
    return {
        name: {
            method: Benchmark(
                Setting(name, model, 2, most, clients), 5, partition, method, rounds, client_rate, batch_size
            )
            for method in BENCHMARK_METHODS
        }
        for name, most, partition, clients in rows
    }


BENCHMARKS = {
    "smoke": _benchmarks(_SYNTHETIC_ROWS, "linear_binary", 0.1, 128, 4)
    | _benchmarks(_HANDWRITING_ROWS, "mlp", 0.03, 128, 4)
    | _benchmarks(_IMAGE_ROWS, "colour_cnn", 0.03, 20, 4)
    | _benchmarks((("shakespeare_tff", 20, None, 30),), "char_mlp", 0.3, 20, 4),
    "laptop": _benchmarks(_SYNTHETIC_ROWS, "linear_binary", 0.1, 128, 200)
    | _benchmarks(_HANDWRITING_ROWS, "small_cnn", 0.03, 128, 100)
    | _benchmarks(_IMAGE_ROWS, "colour_cnn", 0.03, 20, 100)
    | _benchmarks((("shakespeare_tff", 40, None, None),), "char_mlp", 0.3, 20, 60)
    # The published model takes two minutes of a core for one round.
    | {MOBILENET: _benchmarks(_IMAGE_ROWS[:1], "mobilenet_v2", 0.01, 128, 10)["cifar10_subset"]}
    | {WHOLE_TEXT: _benchmarks(_WHOLE_TEXT_ROW, "char_mlp", 0.3, 20, 200)["shakespeare_tff"]},
    "paper": _benchmarks(_SYNTHETIC_ROWS, "linear_binary", 0.1, 128, 200)
    | _benchmarks(_HANDWRITING_ROWS[:2], "fedem_cnn", 0.03, 128, 200)
    | _benchmarks(_HANDWRITING_ROWS[2:], "fedem_cnn", 0.01, 128, 200)
    | _benchmarks(_IMAGE_ROWS, "mobilenet_v2", 0.01, 128, 200)
    | _benchmarks(_WHOLE_TEXT_ROW, "char_lstm", 0.01, 128, 200),
}


def for_profile(table: dict[str, Config], profile: str) -> Config:
    """The configuration of a profile.

    Raises:
        ValueError: if there is no such profile; the message lists those there are.
    """
    if profile not in table:
        raise ValueError(f"profile={profile!r} is unknown; choose one of {', '.join(map(repr, PROFILES))}")
    return table[profile]
