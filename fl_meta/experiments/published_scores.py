"""One method on one row of a published benchmark that lists this method, for one seed.

The protocol is that of FedEM (Marfoq et al. 2021, arXiv 2108.10252): full participation, one local epoch per
round, client momentum 0.9 that is carried from round to round, weight decay 5e-4, a client rate that falls to
a tenth after half and again after three quarters of the rounds, and plain averaging weighted by the number of
train examples. A fifth of the clients is unseen: they take no part in training. Accuracies are weighted by
the number of test predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from fl_meta import models
from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage, decayed
from fl_meta.algorithms.table import Algorithm, fedavg, fedprox, fomaml, maml, reptile
from fl_meta.data import load_dataset
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.partition import by_labels_dirichlet, pachinko
from fl_meta.data.published.cifar import COARSE_OF_FINE
from fl_meta.evaluation.bootstrap import bootstrap_mean
from fl_meta.evaluation.personalization import Evaluation, PersonalizationTable, personalize
from fl_meta.experiments.clients import MODELS, PERSON_OF
from fl_meta.experiments.outcomes import BenchmarkOutcome, MethodScore
from fl_meta.experiments.published_settings import Benchmark
from fl_meta.models.mobilenet import mobilenet_v2
from fl_meta.training.run import train

AVERAGE = SGD(1.0)  # at the server: plain averaging of the clients' models
EVALUATED_EVERY = 10  # rounds; FedEM's published runs had 5 or 10
MU = 0.1  # FedProx's
ADAPTED = "+"  # FedAvg+ is FedAvg, then one local epoch; the same mark for the other methods
AS_RELEASED = "FedAvg+, as released"

BENCHMARK_MODELS = MODELS | {
    "fedem_cnn": models.fedem_cnn,
    "linear_binary": models.linear_binary,
    "colour_cnn": models.colour_cnn,
    "mobilenet_v2": mobilenet_v2,
}
PARTITIONS: dict[str, Callable[[FederatedDataset, int], FederatedDataset]] = {
    "labels": by_labels_dirichlet,
    "labels, a tenth": partial(by_labels_dirichlet, fraction=0.1),
    "groups of labels": partial(by_labels_dirichlet, num_groups=3),
    "Pachinko": partial(pachinko, coarse_of_class=COARSE_OF_FINE),
}


@dataclass(frozen=True)
class PublishedRow:
    """A row of the published table.

    Attributes:
        published: average accuracy by method, percent; only numbers that we could confirm.
        model: the name in `BENCHMARK_MODELS` that is nearest to the published model.
        client_rate: the published client rate of FedAvg+.
        data: how our data differ from those of the published row; empty if they do not differ.
    """

    published: Mapping[str, float]
    model: str
    client_rate: float
    data: str


PUBLISHED_ROUNDS, PUBLISHED_BATCH_SIZE = 200, 128  # the same in every row
FEMNIST = {"Local": 71.0, "FedAvg": 78.6, "FedAvg+": 75.3, "FedEM": 79.9}
EMNIST = {"Local": 71.9, "FedAvg": 82.6, "FedAvg+": 83.1, "FedEM": 83.5}
CIFAR10 = {"Local": 70.2, "FedAvg": 78.2, "FedAvg+": 82.3, "FedEM": 84.3}
CIFAR100 = {"Local": 31.5, "FedAvg": 40.9, "FedAvg+": 39.0, "FedEM": 44.1}
SHAKESPEARE = {"Local": 32.0, "FedAvg": 46.7, "FedAvg+": 40.0, "FedEM": 43.7}
UNTRIED = "our loader has never met the real files"
# FedEM's MobileNet-v2 began with weights from ImageNet, and had batch normalization.
SCRATCH = "from scratch, not from ImageNet's weights"
LINES = "lines of 80 characters, scored at every position (published: windows, one prediction each)"
OTHER_LABELS = (
    "labels as the authors' program makes them (which is not as their paper says), from other seeds"
)
DIGITS = "a STAND-IN for FEMNIST: digits only, 10 classes and not 62"
STROKES = "a STAND-IN for EMNIST: characters drawn from pen strokes"

# Source: FedEM's own README; for Synthetic the list of benchmarks that cites the method.
PUBLISHED_ROWS = {
    "synthetic": PublishedRow({"FedAvg+": 68.9}, "linear_binary", 0.1, OTHER_LABELS),
    "shakespeare_tff": PublishedRow(SHAKESPEARE, "char_lstm", 0.01, f"TFF's files, not LEAF's; {LINES}"),
    "mnist_by_writer": PublishedRow(FEMNIST, "fedem_cnn", 0.03, DIGITS),
    "emnist_tff": PublishedRow(
        FEMNIST, "fedem_cnn", 0.03, f"the first 539 writers of TFF's files; {UNTRIED}"
    ),
    "unipen62": PublishedRow(EMNIST, "fedem_cnn", 0.01, STROKES),
    "emnist": PublishedRow(EMNIST, "fedem_cnn", 0.01, UNTRIED),
    "cifar10_subset": PublishedRow(CIFAR10, "mobilenet_v2", 0.01, f"12,000 of 60,000 images; {SCRATCH}"),
    "cifar10": PublishedRow(CIFAR10, "mobilenet_v2", 0.01, f"{UNTRIED}; {SCRATCH}"),
    "cifar100_subset": PublishedRow(CIFAR100, "mobilenet_v2", 0.01, f"12,000 of 60,000 images; {SCRATCH}"),
    "cifar100": PublishedRow(CIFAR100, "mobilenet_v2", 0.01, f"{UNTRIED}; {SCRATCH}"),
}


def protocol_differences(config: Benchmark) -> str:
    """How a configuration differs from the published protocol of its row, in one line.

    Example:
        >>> config = fl_meta.experiments.BENCHMARKS["laptop"]["unipen62"]["FedAvg"]
        >>> protocol_differences(config).split("; ")[:2]
        ['a STAND-IN for EMNIST: characters drawn from pen strokes', 'model small_cnn (published: fedem_cnn)']
    """
    row = PUBLISHED_ROWS[config.setting.dataset]
    differences = [row.data] if row.data else []
    for what, ours, published in (
        ("model", config.setting.model, row.model),
        ("rounds", config.rounds, PUBLISHED_ROUNDS),
        ("client rate", config.client_rate, row.client_rate),
        ("batch size", config.batch_size, PUBLISHED_BATCH_SIZE),
    ):
        if ours != published:
            differences.append(f"{what} {ours} (published: {published})")
    differences.append("a fifth of the clients does not train")
    return "; ".join(differences)


def clients_of_row(config: Benchmark) -> FederatedDataset:
    """The clients of a row; where the data set has none of its own, its examples are divided among some."""
    setting = config.setting
    data = load_dataset(setting.dataset)
    if config.partition is not None:
        data = PARTITIONS[config.partition](data, setting.num_clients or len(data))
    elif setting.num_clients:
        data = data.subset(data.client_ids[: setting.num_clients])
    return data.limited(setting.least, setting.most)


def _steps_per_epoch(config: Benchmark, data: FederatedDataset) -> int:
    """Local steps in an epoch of the average client."""
    return max(1, round(float(data.train_counts.mean()) / config.batch_size))


def _fedem_client(config: Benchmark) -> SGD:
    return SGD(config.client_rate, momentum=0.9, weight_decay=5e-4)


def _in_epochs(make: Callable[..., Algorithm], config: Benchmark, data: FederatedDataset) -> list[Stage]:
    algorithm = make(
        client=_fedem_client(config), server=AVERAGE, batch_size=config.batch_size, keeps_momentum=True
    )
    stage = Stage(algorithm, config.rounds, clients_per_round=None)
    return decayed(stage, at=(config.rounds // 2, 3 * config.rounds // 4))


def _in_steps(config: Benchmark, make: Callable[..., Algorithm], steps: int, rounds: int) -> Stage:
    algorithm = make(steps, client=SGD(config.client_rate), server=Adam(1e-3), batch_size=config.batch_size)
    return Stage(algorithm, rounds, clients_per_round=None)


def _per_fedavg(make: Callable[..., Algorithm], config: Benchmark, data: FederatedDataset) -> list[Stage]:
    # These algorithms evaluate one more gradient than they take steps.
    return [_in_steps(config, make, max(1, _steps_per_epoch(config, data) - 1), config.rounds)]


def _personalized_fedavg(config: Benchmark, data: FederatedDataset) -> list[Stage]:
    second = config.rounds // 4
    first = fedavg(1, client=SGD(config.client_rate), batch_size=config.batch_size)
    averaging = Stage(first, config.rounds - second, clients_per_round=None)
    return [averaging, _in_steps(config, reptile, _steps_per_epoch(config, data), second)]


# How each method trains. Methods that count local steps take about as many as there are in one epoch.
METHODS: dict[str, Callable[[Benchmark, FederatedDataset], list[Stage]]] = {
    "Local": lambda config, data: [],
    "FedAvg": partial(_in_epochs, partial(fedavg, 1)),
    "FedProx": partial(_in_epochs, partial(fedprox, MU, 1)),
    "Per-FedAvg (FOMAML)": partial(_per_fedavg, fomaml),
    "Per-FedAvg (MAML)": partial(_per_fedavg, maml),
    "Personalized FedAvg": _personalized_fedavg,
}


def benchmark(config: Benchmark, seed: int) -> BenchmarkOutcome:
    """Train and score one method on one row of the published table for one seed; fold `seed` is unseen.

    Each method is scored as the global model and, under its name with a `+`, after one local epoch. FedAvg+
    adapts with the decayed rate and a fresh momentum; "as released" is what FedEM's code does, see
    `Evaluation`.
    """
    data = clients_of_row(config)
    seen, unseen = data.fold(seed % config.folds, config.folds, PERSON_OF.get(config.setting.dataset, str))
    model = BENCHMARK_MODELS[config.setting.model](data)
    stages, evaluation = METHODS[config.method](config, seen), None
    if config.method == "FedAvg":
        client = stages[0].algorithm.client
        evaluation = Evaluation(seen, EVALUATED_EVERY, 1, client, keeps_momentum=True)
    if stages:
        run = train(model, seen, stages, seed=seed, evaluation=evaluation, progress=False)
        params, released, epochs, client = run.params, run.table, 1, stages[-1].algorithm.client
    else:  # alone, from a fresh model
        params, released, epochs, client = model.init(seed), None, config.rounds, _fedem_client(config)
    batch_size = config.batch_size
    tables = [
        personalize(
            model, params, group, epochs=epochs, every=epochs, client=client, batch_size=batch_size, seed=seed
        )
        for group in (seen, unseen)
    ]
    initial, adapted = zip(*map(_ends, tables), strict=True)
    methods = [MethodScore(config.method, initial if stages else adapted)]
    if stages:
        methods.append(MethodScore(config.method + ADAPTED, adapted))
    if released is not None:
        methods.append(MethodScore(AS_RELEASED, (_ends(released)[1],)))
    predictions = [table.rows[table.rows.epoch == 0].num_test_predictions for table in tables]
    return BenchmarkOutcome(
        clients=(*seen.client_ids, *unseen.client_ids),
        seen=len(seen),
        predictions=tuple(int(number) for numbers in predictions for number in numbers),
        methods=tuple(methods),
    )


def _ends(table: PersonalizationTable) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Accuracy of each client before and after adaptation, in the order of the data set."""
    epoch, accuracy = table.rows.epoch, table.rows.test_accuracy.round(5)
    return tuple(accuracy[epoch == 0].tolist()), tuple(accuracy[epoch == epoch.max()].tolist())


def beside_published(dataset: str, outcomes: Sequence[BenchmarkOutcome]) -> pd.DataFrame:
    """Our scores beside the published ones of one row, in percent.

    The outcomes (or results) on `dataset`, a name in `PUBLISHED_ROWS`, are of any methods and seeds. The
    table has a row per method, and the columns seeds, seen, low, high (average over the clients of all
    seeds, weighted by test predictions, with its 95 % bootstrap interval over clients), spread (standard
    deviation over seeds), decile (10 % quantile over seen clients), unseen, published. NaN marks what was
    not measured or not published.

    Example:
        >>> score = MethodScore("FedAvg+", accuracy=((0.7, 0.6),))
        >>> outcome = BenchmarkOutcome(("a", "b"), seen=2, predictions=(30, 10), methods=(score,))
        >>> beside_published("synthetic", [outcome]).loc["FedAvg+", ["seen", "published"]].to_dict()
        {'seen': 67.5, 'published': 68.9}
    """
    by_method: dict[str, list[tuple[MethodScore, BenchmarkOutcome]]] = {}
    for outcome in outcomes:
        for score in outcome.methods:
            by_method.setdefault(score.name, []).append((score, outcome))
    published = PUBLISHED_ROWS[dataset].published
    rows = {}
    for name in [*by_method, *(name for name in published if name not in by_method)]:
        rows[name] = {"published": published.get(name, np.nan)}
        scores = by_method.get(name, [])
        if not scores:
            continue
        seen = np.concatenate([score.accuracy[0] for score, _ in scores])
        weights = np.concatenate([outcome.predictions[: outcome.seen] for _, outcome in scores])
        interval = bootstrap_mean(seen, weights.astype(float))
        means = [np.average(score.accuracy[0], weights=o.predictions[: o.seen]) for score, o in scores]
        rows[name] |= {
            "seen": 100 * interval.estimate,
            "low": 100 * interval.low,
            "high": 100 * interval.high,
            "spread": 100 * float(np.std(means, ddof=1)) if len(means) > 1 else np.nan,
            "decile": 100 * float(np.quantile(seen, 0.1)),
            "seeds": len(scores),
        }
        if len(scores[0][0].accuracy) > 1:
            unseen = np.concatenate([score.accuracy[1] for score, _ in scores])
            weights = np.concatenate([outcome.predictions[outcome.seen :] for _, outcome in scores])
            rows[name]["unseen"] = 100 * float(np.average(unseen, weights=weights))
    columns = ["seeds", "seen", "low", "high", "spread", "decile", "unseen", "published"]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns).rename_axis("method")
