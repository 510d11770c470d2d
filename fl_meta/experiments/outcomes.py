"""What each experiment finds for one seed, as plain values that JSON can hold.

Everywhere `accuracy` holds test accuracies in [0, 1]; its last axis runs over clients. Where models are
personalized, its first axis runs from the initial model to the personalized one. A result file holds an
outcome and where it came from; see `fl_meta.evidence.result_types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fl_meta.experiments.crossed_settings import Choice
from fl_meta.support.array_types import FloatArray

Accuracies = tuple[tuple[float, ...], ...]
Option = float | tuple[int, float] | None
"""A value of a tuning grid: a rate, or Reptile's K and server rate; None where nothing was tuned."""
Measure = Literal["initial", "personalized", "gain"]
BOTH: tuple[Measure, ...] = ("initial", "personalized")
"""The two accuracies of a model; its gain is their difference."""
CROSSED_DIGITS = 4
"""Digits of accuracies in the many cells of the crossed designs: no test part has 10,000 predictions."""


def rounded(values: FloatArray, digits: int = 5) -> Any:
    """Accuracies as nested tuples, to five decimals: no test part has 100,000 predictions."""
    return _as_tuples(np.round(values, digits).tolist())


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


class Personalized:
    """Has `accuracy` from the initial to the personalized model."""

    accuracy: Accuracies

    def accuracy_of(self, measure: Measure) -> FloatArray:
        """Each held-out client's initial or personalized accuracy, or the gain between them [clients]."""
        initial, personalized = np.array(self.accuracy[0]), np.array(self.accuracy[-1])
        gain: FloatArray = personalized - initial
        return {"initial": initial, "personalized": personalized, "gain": gain}[measure]


@dataclass(frozen=True)
class TableOneReading(Personalized):
    """A cell of the crossed Table 1 at one point of its training.

    Attributes:
        rounds: rounds since the beginning of training.
        local_gradients: batch gradients that training evaluated.
        accuracy: initial and personalized accuracy of the held-out clients [2, clients].
    """

    rounds: int
    local_gradients: int
    accuracy: Accuracies


@dataclass(frozen=True)
class CrossedTableOneCell:
    """One cell of the crossed Table 1.

    Attributes:
        curve: round, mean initial accuracy and mean personalized accuracy at each evaluation.
        equal_rounds: after as many rounds as every other cell.
        equal_work: after as many local epochs as every other cell.
    """

    clients_per_round: int
    local_epochs: int
    curve: tuple[tuple[int, float, float], ...]
    equal_rounds: TableOneReading
    equal_work: TableOneReading


@dataclass(frozen=True)
class CrossedTableOneOutcome:
    """Table 1 for one fold and replicate: the held-out clients, and the cells."""

    clients: tuple[str, ...]
    cells: tuple[CrossedTableOneCell, ...]


@dataclass(frozen=True)
class TriedRate:
    """A rate that tuning tried for an arm of the crossed design.

    Attributes:
        rate: of the client, the server or centralized training, as in `Choice`.
        validation: the validation clients' mean accuracy by which rates are compared; 0 after divergence.
        rounds: rounds or steps until training ended by the rule; 0 where their number is set beforehand.
    """

    rate: float
    validation: float
    rounds: int


@dataclass(frozen=True)
class TuningOutcome:
    """What tuning chose for one fold of the crossed design.

    Attributes:
        clients: ids of the validation clients.
        choices: the arms in the order in which they are trained.
        search: by arm everything that was tried.
        curves: by arm the round (or step) and the validation clients' mean initial accuracy.
    """

    clients: tuple[str, ...]
    choices: tuple[Choice, ...]
    search: dict[str, tuple[TriedRate, ...]]
    curves: dict[str, tuple[tuple[int, float], ...]]


@dataclass(frozen=True)
class CrossedArm(Personalized):
    """A trained model of one cell of the crossed design.

    Attributes:
        rounds: rounds (or centralized steps) since the beginning of training.
        local_gradients: batch gradients that training evaluated.
        accuracy: initial and personalized accuracy of the held-out clients [2, clients].
    """

    name: str
    rounds: int
    local_gradients: int
    accuracy: Accuracies


@dataclass(frozen=True)
class CrossedOutcome:
    """One cell of the crossed design.

    Attributes:
        clients: ids of the held-out clients.
        arms: the trained models.
        curves: by arm the round (or step), mean initial and mean personalized accuracy.
    """

    clients: tuple[str, ...]
    arms: tuple[CrossedArm, ...]
    curves: dict[str, tuple[tuple[int, float, float], ...]]


@dataclass(frozen=True)
class MethodScore:
    """One method's accuracies.

    Attributes:
        name: name of the method; a `+` at the end marks one local epoch of adaptation.
        accuracy: of the clients seen in training and, unless it was not measured, of the unseen ones.
    """

    name: str
    accuracy: Accuracies


@dataclass(frozen=True)
class BenchmarkOutcome:
    """One method on one row of the published table for one seed.

    Attributes:
        clients: ids, first of those that trained, then of those that are unseen.
        seen: how many trained.
        predictions: number of test predictions of each client.
        methods: the method itself and its adapted variants.
    """

    clients: tuple[str, ...]
    seen: int
    predictions: tuple[int, ...]
    methods: tuple[MethodScore, ...]


@dataclass(frozen=True)
class HeterogeneityCell(Personalized):
    """One cell of the grid: its knobs, and the held-out writers' accuracy [2, writers]."""

    style: float
    label_skew: float
    mean_examples: int
    accuracy: Accuracies


@dataclass(frozen=True)
class HeterogeneityOutcome:
    """The whole grid for one seed: the held-out writers, and a cell for each combination of the knobs."""

    clients: tuple[str, ...]
    cells: tuple[HeterogeneityCell, ...]
