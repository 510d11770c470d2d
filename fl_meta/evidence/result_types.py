"""What a result holds: the outcome of an experiment, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass

from fl_meta.experiments.crossed_settings import Crossed, Design
from fl_meta.experiments.heterogeneity_settings import Heterogeneity
from fl_meta.experiments.outcomes import (
    BenchmarkOutcome,
    CrossedOutcome,
    CrossedTableOneOutcome,
    HeterogeneityOutcome,
    TuningOutcome,
)
from fl_meta.experiments.published_settings import Benchmark
from fl_meta.experiments.table_one_settings import CrossedTableOne

USUAL_MODELS = ("mlp", "char_mlp")

Experiment = CrossedTableOne | Benchmark | Heterogeneity | Design | Crossed
"""The configuration of an experiment."""


@dataclass(frozen=True)
class DataFingerprint:
    """Which data a result was computed on: name, label (see `FederatedDataset`), checksum of all examples."""

    name: str
    label: str
    sha256: str


@dataclass(frozen=True)
class Result:
    """What every result file begins with; each kind of experiment adds its outcome.

    Attributes:
        format: version of the file format.
        kind: a name in `KINDS`.
        fl_meta: version of this package.
        torch: version of PyTorch.
        machine: processor, number of cores and operating system.
        seconds: time the run took.
        clients: ids of the clients that were evaluated.
    """

    format: int
    kind: str
    config: Experiment
    seed: int
    data: DataFingerprint
    fl_meta: str
    torch: str
    machine: str
    seconds: float
    clients: tuple[str, ...]

    @property
    def label(self) -> str:
        """The label of the data set, followed by the model unless it is the usual one."""
        model = self.config.setting.model
        return self.data.label if model in USUAL_MODELS else f"{self.data.label}, {model}"


@dataclass(frozen=True)
class CrossedTableOneResult(CrossedTableOneOutcome, Result):
    """Table 1 for one fold and replicate."""

    config: CrossedTableOne


@dataclass(frozen=True)
class BenchmarkResult(BenchmarkOutcome, Result):
    """One method on one row of the published table for one seed."""

    config: Benchmark


@dataclass(frozen=True)
class HeterogeneityResult(HeterogeneityOutcome, Result):
    """The grid of different writers for one seed."""

    config: Heterogeneity


@dataclass(frozen=True)
class TuningResult(TuningOutcome, Result):
    """The tuning of one fold of the crossed design; the seed is the fold."""

    config: Design


@dataclass(frozen=True)
class CrossedResult(CrossedOutcome, Result):
    """One cell of the crossed design: a fold and a replicate."""

    config: Crossed
