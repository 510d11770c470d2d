"""How often intervals cover the truth when the differences are drawn with known parts.

`python tests/coverage_simulation.py` writes the tables of docs/evidence.md. It takes about a quarter of an
hour on one core; `python tests/coverage_simulation.py 200` draws less and takes a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

from fl_meta.evaluation.bootstrap import bootstrap_mean
from fl_meta.evidence import crossed_statistics
from fl_meta.evidence.crossed_statistics import crossed_mean
from fl_meta.evidence.statistics import holm
from fl_meta.support.array_types import FloatArray

RESAMPLES = 500

Ends = tuple[float, float]
Method = Callable[[Sequence[FloatArray], int], Ends]


@dataclass(frozen=True)
class Design:
    """Where the differences come from; all spreads are standard deviations, in points.

    Attributes:
        sizes: number of clients in each fold.
        luck: the run effects' spread, in units of what the luck of the clients alone does to the mean of one
            run, √(client² + rest²) / √clients.
        shared: whether a replicate has the same effect in every fold, rather than one of its own in each.
        fold_luck: the spread of fold effects, in the same unit.
        examples: None for normal differences; otherwise each difference is between two shares of so many test
            examples, so that most are 0 or one of a few values.
    """

    sizes: tuple[int, ...]
    replicates: int
    client: float = 2.0
    rest: float = 2.5
    luck: float = 0.0
    shared: bool = False
    fold_luck: float = 0.0
    effect: float = 0.0
    examples: int | None = None

    @property
    def unit(self) -> float:
        return float(np.hypot(self.client, self.rest) / np.sqrt(np.mean(self.sizes)))

    def draw(self, generator: np.random.Generator) -> list[FloatArray]:
        """For each fold the differences [replicates, clients]."""
        folds, replicates = len(self.sizes), self.replicates
        runs = generator.normal(size=(1 if self.shared else folds, replicates, 1)) * self.luck * self.unit
        fold_effects = generator.normal(size=folds) * self.fold_luck * self.unit
        drawn = []
        for fold, size in enumerate(self.sizes):
            mean = self.effect + fold_effects[fold] + runs[0 if self.shared else fold]
            own = mean + self.client * generator.normal(size=size)
            if self.examples is None:
                drawn.append(own + self.rest * generator.normal(size=(replicates, size)))
            else:
                drawn.append(self._steps(own, generator))
        return drawn

    def _steps(self, points: FloatArray, generator: np.random.Generator) -> FloatArray:
        """Differences of two accuracies on the same test examples, with means `points` and the rest's spread.

        The client's own difference comes from examples that change in one direction, the rest from examples
        that change in either; on all others both arms agree.
        """
        assert self.examples is not None
        # A change is a step of 100 / examples points: so many of them give the variance of the rest.
        either = self.examples * (self.rest / 100) ** 2 / 2
        gained = generator.binomial(self.examples, either + np.maximum(points / 100, 0))
        lost = generator.binomial(self.examples, either + np.maximum(-points / 100, 0))
        return 100 / self.examples * (gained - lost)


def crossed(folds: Sequence[FloatArray], seed: int) -> Ends:
    interval = crossed_mean(folds).interval()
    return interval.low, interval.high


def plain_satterthwaite(folds: Sequence[FloatArray], seed: int) -> Ends:
    """The same without a look at whether replicates agree and folds differ."""
    with (
        mock.patch.object(crossed_statistics, "AGREEMENT", 0.0),
        mock.patch.object(crossed_statistics, "DIFFERENCE", 0.0),
    ):
        return crossed(folds, seed)


def bootstrap_of_clients(folds: Sequence[FloatArray], seed: int) -> Ends:
    means = np.concatenate([fold.mean(axis=0) for fold in folds])
    interval = bootstrap_mean(means, resamples=RESAMPLES, seed=seed)
    return interval.low, interval.high


def bootstrap_of_rows(folds: Sequence[FloatArray], seed: int) -> Ends:
    """As if every client in every run were another client."""
    rows = np.concatenate([fold.ravel() for fold in folds])
    interval = bootstrap_mean(rows, resamples=RESAMPLES, seed=seed)
    return interval.low, interval.high


def crossed_bootstrap(folds: Sequence[FloatArray], seed: int) -> Ends:
    """Percentiles when clients and runs are resampled, each within their fold."""
    generator = np.random.default_rng(seed)
    sums = np.zeros(RESAMPLES)
    for fold in folds:
        replicates, clients = fold.shape
        runs = generator.multinomial(replicates, np.full(replicates, 1 / replicates), RESAMPLES) / replicates
        picked = generator.multinomial(clients, np.full(clients, 1 / clients), RESAMPLES)
        sums += ((runs @ fold) * picked).sum(axis=1)
    low, high = np.quantile(sums / sum(fold.shape[1] for fold in folds), [0.025, 0.975])
    return float(low), float(high)


METHODS: dict[str, Method] = {
    "bootstrap over rows": bootstrap_of_rows,
    "bootstrap over clients": bootstrap_of_clients,
    "bootstrap over clients and runs": crossed_bootstrap,
    "mean squares alone": plain_satterthwaite,
    "crossed_mean": crossed,
}


def intervals(method: Method, design: Design, draws: int, seed: int = 0) -> FloatArray:
    """Lower and upper ends [draws, 2]."""
    generator = np.random.default_rng(seed)
    return np.array([method(design.draw(generator), draw) for draw in range(draws)])


def coverage(method: Method, design: Design, draws: int, seed: int = 0) -> float:
    """The share of intervals that have the design's effect in them."""
    low, high = intervals(method, design, draws, seed).T
    return float(((low <= design.effect) & (design.effect <= high)).mean())


def relative_widths(design: Design, draws: int, seed: int = 0) -> tuple[float, float]:
    """Width relative to that with mean squares alone: ratio of the means, and of the medians."""
    ours, alone = (
        np.diff(intervals(method, design, draws, seed)) for method in (crossed, plain_satterthwaite)
    )
    return float(ours.mean() / alone.mean()), float(np.median(ours) / np.median(alone))


def power(effect: float, replicates: int, draws: int, seed: int = 0) -> dict[str, float]:
    """How often three true effects of one size, tested together, are decided, and how.

    Three folds of 84 clients, training runs with a spread of 0.2 points. Different: p < 0.05 after Holm's
    correction. Equivalent: within 0.5 points by two one-sided tests at 5 %. Wrong: different without an
    effect or with the wrong sign, or equivalent with an effect of 0.5 points or more.
    """
    design = Design((84, 84, 84), replicates, effect=effect)
    design = replace(design, luck=0.2 / design.unit)
    generator = np.random.default_rng(seed)
    decided = []
    for _ in range(draws):
        family = [crossed_mean(design.draw(generator)) for _ in range(3)]
        for found, p in zip(family, holm([one.p for one in family]), strict=True):
            equivalent = found.equivalence_p(0.5) < 0.05
            decided.append((p < 0.05, equivalent, np.sign(found.estimate) != np.sign(effect)))
    different, equivalent, wrong_sign = np.array(decided).T
    return {
        "different": float(different.mean()),
        "wrong": float(((different & wrong_sign) | (equivalent & (abs(effect) >= 0.5))).mean()),
        "equivalent": float(equivalent.mean()),
        "undecided": float((~different & ~equivalent).mean()),
    }


# What the tables show ------------------------------------------------------------------------------------

# Client and rest spreads: alike, mostly the rest, mostly the clients.
SPREADS = ((2.0, 2.5), (1.0, 9.0), (4.0, 2.0))
SIZES = tuple((size,) * folds for folds in (3, 5) for size in (25, 85))
CASES: dict[str, dict[str, Any]] = {
    "no run effects": {},
    "run effects of 1 luck": {"luck": 1.0},
    "run effects of 5 lucks": {"luck": 5.0},
    "shared by all folds, 1 luck": {"luck": 1.0, "shared": True},
    "shared by all folds, 5 lucks": {"luck": 5.0, "shared": True},
    "fold effects of ½ luck, run effects of 1": {"luck": 1.0, "fold_luck": 0.5},
    "fold effects of 2 lucks, run effects of 1": {"luck": 1.0, "fold_luck": 2.0},
    "shares of 20 examples, run effects of 1 luck": {"luck": 1.0, "examples": 20, "effect": 1.0},
}


def grid(case: str, replicates: int) -> list[Design]:
    """The designs of a case with so many replicates."""
    return [
        Design(sizes, replicates, client=client, rest=rest, **CASES[case])
        for sizes in SIZES
        for client, rest in SPREADS
    ]


def main(draws: int) -> None:
    print("| 3 folds of 84 clients, 4 replicates |", " | ".join(METHODS), "|")
    print("|---|" + "--:|" * len(METHODS))
    for case, parts in CASES.items():
        design = Design((84, 84, 84), 4, **parts)
        shares = [coverage(method, design, draws // 2) for method in METHODS.values()]
        print(f"| {case} |", " | ".join(f"{100 * share:.1f}" for share in shares), "|", flush=True)
    replicates = (3, 4, 5, 7, 10)
    print("\n| crossed_mean, replicates |", " | ".join(map(str, replicates)), "|")
    print("|---|" + "--:|" * len(replicates))
    for case in CASES:
        cells = []
        for number in replicates:
            shares = [100 * coverage(crossed, design, draws) for design in grid(case, number)]
            cells.append(f"{min(shares):.1f}–{max(shares):.1f}")
        print(f"| {case} |", " | ".join(cells), "|", flush=True)
    print("\n| width to that with mean squares alone: mean (median) | 4 replicates | 10 replicates |")
    print("|---|--:|--:|")
    for case in list(CASES)[:3]:
        both = [relative_widths(Design((84,) * 3, number, **CASES[case]), draws) for number in (4, 10)]
        print(f"| {case} |", " | ".join(f"{mean:.2f} ({median:.2f})" for mean, median in both), "|")
    print("\n| true effect, replicates | different | wrong | equivalent | undecided |")
    print("|---|--:|--:|--:|--:|")
    for number in (4, 10):
        for effect in (0.0, 0.3, 1.5):
            shares = [100 * share for share in power(effect, number, draws).values()]
            print(f"| {effect:g} points, {number} |", " | ".join(f"{share:.1f}" for share in shares), "|")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
