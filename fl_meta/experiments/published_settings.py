"""Settings of the comparison with FedEM's published scores."""

from __future__ import annotations

from dataclasses import dataclass

from fl_meta.experiments.settings import Setting


@dataclass(frozen=True)
class Benchmark:
    """One method on one row of the published table (notebook 07).

    Attributes:
        setting: data and model; with a partition, the examples are divided among `num_clients`.
        folds: the clients are divided into this many folds; seed k leaves fold k unseen.
        partition: a name in `published_scores.PARTITIONS`; None keeps the data set's own clients.
        method: a name in `BENCHMARK_METHODS`.
        rounds: rounds with all clients; for local training, epochs.
        client_rate: learning rate of local SGD at the beginning.
        batch_size: examples in a local batch.
    """

    setting: Setting
    folds: int
    partition: str | None
    method: str
    rounds: int
    client_rate: float
    batch_size: int


BENCHMARK_METHODS = (
    "Local",
    "FedAvg",
    "FedProx",
    "Per-FedAvg (FOMAML)",
    "Per-FedAvg (MAML)",
    "Personalized FedAvg",
)
# Data set, largest number of examples in a client's part, partition, and number of clients.
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
    benchmarks = {}
    for name, most, partition, clients in rows:
        setting, training = Setting(name, model, 2, most, clients), (rounds, client_rate, batch_size)
        benchmarks[name] = {
            method: Benchmark(setting, 5, partition, method, *training) for method in BENCHMARK_METHODS
        }
    return benchmarks


BENCHMARKS = {
    "smoke": _benchmarks(_SYNTHETIC_ROWS, "linear_binary", 0.1, 128, 4)
    | _benchmarks(_HANDWRITING_ROWS, "mlp", 0.03, 128, 4)
    | _benchmarks(_IMAGE_ROWS, "colour_cnn", 0.03, 20, 4)
    | _benchmarks((("shakespeare_tff", 20, None, 30),), "char_mlp", 0.3, 20, 4),
    "laptop": _benchmarks(_SYNTHETIC_ROWS, "linear_binary", 0.1, 128, 200)
    | _benchmarks(_HANDWRITING_ROWS, "small_cnn", 0.03, 128, 100)
    | _benchmarks(_IMAGE_ROWS, "colour_cnn", 0.03, 20, 100)
    | _benchmarks((("shakespeare_tff", 40, None, None),), "char_mlp", 0.3, 20, 60)
    # One round of the published model takes two minutes of one core.
    | {MOBILENET: _benchmarks(_IMAGE_ROWS[:1], "mobilenet_v2", 0.01, 128, 10)["cifar10_subset"]}
    | {WHOLE_TEXT: _benchmarks(_WHOLE_TEXT_ROW, "char_mlp", 0.3, 20, 200)["shakespeare_tff"]},
    "full": _benchmarks(_SYNTHETIC_ROWS, "linear_binary", 0.1, 128, 200)
    | _benchmarks(_HANDWRITING_ROWS[:2], "fedem_cnn", 0.03, 128, 200)
    | _benchmarks(_HANDWRITING_ROWS[2:], "fedem_cnn", 0.01, 128, 200)
    | _benchmarks(_IMAGE_ROWS, "mobilenet_v2", 0.01, 128, 200)
    | _benchmarks(_WHOLE_TEXT_ROW, "char_lstm", 0.01, 128, 200),
}
