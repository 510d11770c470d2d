"""Table 1 by the crossed design: what would refute its four statements, and what the runs say.

The rules were fixed before the recorded runs. Each is applied twice, at equal rounds and at equal work.

- **T1-gain.** In every cell personalization helps. The effect is the smallest gain of all cells. All cells
  must gain, so the lower end of its interval is the lowest of the cells' own intervals and needs no
  correction; the upper end is the lowest one after Bonferroni's, because any cell could be the smallest.
- **T1-spread.** Over the runs of a fold, the initial accuracy has a larger standard deviation than the
  personalized one. The effect is the ratio, as a geometric mean over cells; its interval is in
  `paired_spreads`. What counts is the mean over the held-out clients of a fold. With so few of them, chance
  in single clients is in both spreads, which brings the ratio nearer to 1.
- **T1-best-E.** The best E for the initial model is not always best for the personalized one. The effect is
  what a common choice would cost: for the E whose larger loss is smallest, how far that accuracy, initial or
  personalized, is behind its best. If one E is best for both, the effect is negative: minus its closest lead.
  The half of the table with the larger effect counts. An end of the interval is corrected for all comparisons
  that could have brought it about (Bonferroni), and no comparison is chosen by what the data show. Different
  curves of the two accuracies over E, an interaction, would not be enough: they may have the same maximum.
- **T1-largest-E.** At the largest E the initial accuracy is below that at the E before, as a mean over the
  halves of the table. The best of the smaller E would be one that the same data chose.

An interval of accuracies knows of clients and of training runs (`crossed_mean`). The four statements are not
corrected for each other. Verdicts:

- *reproduced*: the 95 % interval is above 0 (above 1 for a ratio). *Contradicted*: it is below.
- Either is *but small* if the effect is smaller than the margin of `crossed_rules`, or if the ratio is not
  more than `SEVERAL` times in its direction.
- *no difference*: neither, and the 90 % interval lies within ± the margin, or a factor of `ALIKE`.
- *undecided*: anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from fl_meta.evaluation.bootstrap import Interval
from fl_meta.evidence.crossed_rules import MARGIN, WIDE_DATASETS, WIDE_MARGIN
from fl_meta.evidence.crossed_statistics import CrossedEffect, crossed_mean
from fl_meta.evidence.paired_spreads import spread, spread_ratio
from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.evidence.table_one_runs import (
    READINGS,
    Accuracies,
    Cell,
    Reading,
    accuracies_of,
    cell_run_means,
)
from fl_meta.evidence.verdicts import Verdict
from fl_meta.experiments.outcomes import BOTH, Measure
from fl_meta.experiments.settings import RECORDED

SEVERAL, ALIKE = 2.0, 1.25  # times
Effect = tuple[Callable[[float], Interval], str, str]
STATEMENTS = {
    "T1-gain": "Personalization helps for every number of local epochs E and of clients a round",
    "T1-spread": "From run to run the initial accuracy varies more than the personalized one",
    "T1-best-E": "The best E for the initial model is not always the best for the personalized one",
    "T1-largest-E": "At the largest E the initial accuracy falls again",
}


@dataclass(frozen=True)
class TableOneFinding:
    """What the runs say about one statement on one data set.

    Attributes:
        claim: a name in `STATEMENTS`.
        dataset: label of the data set.
        reading: where the cells were read.
        verdict: reproduced or contradicted, both perhaps with ', but small'; no difference; undecided.
        effect: the effect with its 95 % interval; positive, or above 1 for a ratio, if the paper is right.
        within: the 90 % interval, which is held against the margin.
        unit: of the effect.
        detail: which cells are behind it.
    """

    claim: str
    dataset: str
    reading: Reading
    verdict: str
    effect: Interval
    within: Interval
    unit: str
    detail: str

    @property
    def statement(self) -> str:
        """The claim in one sentence."""
        return STATEMENTS[self.claim]

    def as_verdict(self) -> Verdict:
        """The finding for a `VerdictTable`; the reading is where others have their regime.

        Example:
            >>> VerdictTable(tuple(one.as_verdict() for one in findings))  # doctest: +SKIP
        """
        return Verdict(
            self.claim,
            self.statement,
            self.dataset,
            self.verdict,
            self.effect.estimate,
            (self.effect.low, self.effect.high),
            self.unit,
            RECORDED,
            regime=self.reading.replace("_", " "),
        )


def decide_crossed_table_one(
    results: Sequence[CrossedTableOneResult], reading: Reading
) -> list[TableOneFinding]:
    """The four findings for one data set, from one result for each fold and replicate.

    Raises:
        ValueError: if the results do not fit together (`accuracies_of`), there are fewer than three
            replicates, or the table has fewer than two E.

    Example:
        >>> config = fl_meta.experiments.TABLE_ONE_DESIGNS["unipen62"]
        >>> results = load_or_run(config, range(4 * config.folds), folder)  # doctest: +SKIP
        >>> [one.verdict for one in decide_crossed_table_one(results, "equal_work")]  # doctest: +SKIP
    """
    effects = table_one_effects(accuracies_of(results, reading))
    label, dataset = results[0].label, results[0].config.setting.dataset
    findings = []
    for claim, (bounds, unit, detail) in effects.items():
        effect, within = bounds(0.95), bounds(0.90)
        if unit == "times":
            verdict = _ratio_word(effect, within)
        else:
            margin = WIDE_MARGIN if dataset in WIDE_DATASETS else MARGIN
            verdict = word(effect, within, margin, margin)
        findings.append(TableOneFinding(claim, label, reading, verdict, effect, within, unit, detail))
    return findings


def table_one_findings(tables: Iterable[Sequence[CrossedTableOneResult]]) -> list[TableOneFinding]:
    """All findings of several data sets, by statement and data set, each at both readings.

    Raises:
        ValueError: as `decide_crossed_table_one` does.

    Example:
        >>> table_one_findings(recorded_tables(folder).values())  # doctest: +SKIP
    """
    found = [one for results in tables for by in READINGS for one in decide_crossed_table_one(results, by)]
    return sorted(found, key=lambda one: list(STATEMENTS).index(one.claim))


def table_one_effects(accuracies: Accuracies) -> dict[str, Effect]:
    """By claim its effect: the interval as a function of its level, the unit, and what is behind it.

    Raises:
        ValueError: if there are fewer than three replicates, or the table has fewer than two E.

    Example:
        >>> interval, unit, _ = table_one_effects(accuracies)["T1-gain"]  # doctest: +SKIP
        >>> print(interval(0.95), unit)  # doctest: +SKIP
        11.15 [9.6, 13.07] points
    """
    halves = sorted({clients for clients, _ in accuracies})
    epochs = sorted({local_epochs for _, local_epochs in accuracies})
    if len(epochs) < 2:
        raise ValueError(f"a table with E = {epochs[0]} alone cannot say which E is best")
    return {
        "T1-gain": _gain(accuracies),
        "T1-spread": _spread(accuracies),
        "T1-best-E": _best_epochs(accuracies, halves, epochs),
        "T1-largest-E": _fall(accuracies, halves, epochs),
    }


def word(effect: Interval, within: Interval, small: float, alike: float) -> str:
    """The verdict on an effect that is positive if the paper is right; see the top of this module.

    Args:
        effect: 95 % interval.
        within: 90 % interval.
        small: below this an effect is small, whatever its sign.
        alike: an effect within ± this makes no difference.

    Example:
        >>> word(Interval(0.3, 0.1, 0.5), Interval(0.3, 0.14, 0.46, 0.9), small=0.5, alike=0.5)
        'reproduced, but small'
    """
    if effect.low > 0 or effect.high < 0:
        verdict = "reproduced" if effect.low > 0 else "contradicted"
        return f"{verdict}, but small" if abs(effect.estimate) < small else verdict
    return "no difference" if -alike < within.low and within.high < alike else "undecided"


def _ratio_word(effect: Interval, within: Interval) -> str:
    def logarithm(one: Interval) -> Interval:
        return Interval(math.log(one.estimate), math.log(one.low), math.log(one.high), one.level)

    return word(logarithm(effect), logarithm(within), math.log(SEVERAL), math.log(ALIKE))


# --- the four effects -------------------------------------------------------------------------------------


def _gain(accuracies: Accuracies) -> Effect:
    gains = {cell: _mean(accuracies, (cell, "personalized"), (cell, "initial")) for cell in accuracies}
    clients, epochs = min(gains, key=lambda cell: gains[cell].estimate)
    effects = list(gains.values())
    return lambda level: _smallest(effects, level), "points", f"smallest: {clients} clients, E = {epochs}"


def _spread(accuracies: Accuracies) -> Effect:
    initial, personalized = (cell_run_means(accuracies, measure) for measure in BOTH)
    larger = int((spread(initial) > spread(personalized)).sum())
    detail = f"larger in {larger} of {len(accuracies)} cells"
    return lambda level: spread_ratio(initial, personalized, level), "times", detail


def _best_epochs(accuracies: Accuracies, halves: Sequence[int], epochs: Sequence[int]) -> Effect:
    # By half, for every E that might be common, how far it is behind each other one, in either accuracy.
    losses = [
        [
            [
                _mean(accuracies, ((half, other), measure), ((half, common), measure))
                for other, measure in product(epochs, BOTH)
                if other != common
            ]
            for common in epochs
        ]
        for half in halves
    ]
    best = (
        f"{half} clients: "
        + ", ".join(f"{measure} E = {_best(accuracies, half, epochs, measure)}" for measure in BOTH)
        for half in halves
    )
    return lambda level: _cost_of_one_for_both(losses, level), "points", "; ".join(best)


def _fall(accuracies: Accuracies, halves: Sequence[int], epochs: Sequence[int]) -> Effect:
    before, largest = epochs[-2:]
    falls = [
        [
            fold - last
            for fold, last in zip(
                accuracies[half, before]["initial"], accuracies[half, largest]["initial"], strict=True
            )
        ]
        for half in halves
    ]
    effect = crossed_mean([100 * np.mean(folds, axis=0) for folds in zip(*falls, strict=True)])
    return effect.interval, "points", f"E = {before} − E = {largest}"


def _mean(
    accuracies: Accuracies, minuend: tuple[Cell, Measure], subtrahend: tuple[Cell, Measure]
) -> CrossedEffect:
    """The mean difference of two cells or measures, in points."""
    (cell, measure), (other, other_measure) = minuend, subtrahend
    pairs = zip(accuracies[cell][measure], accuracies[other][other_measure], strict=True)
    return crossed_mean([100 * (ours - theirs) for ours, theirs in pairs])


def _best(accuracies: Accuracies, half: int, epochs: Sequence[int], measure: Measure) -> int:
    return max(epochs, key=lambda one: float(np.concatenate(accuracies[half, one][measure], axis=1).mean()))


def _smallest(effects: Sequence[CrossedEffect], level: float) -> Interval:
    """Interval of the smallest of several effects."""
    return Interval(
        min(effect.estimate for effect in effects),
        min(effect.interval(level).low for effect in effects),
        min(_corrected(effect, level, len(effects)).high for effect in effects),
        level,
    )


def _cost_of_one_for_both(halves: Sequence[list[list[CrossedEffect]]], level: float) -> Interval:
    """Interval of the largest cost over halves: a minimum over common E of the maximum of its losses."""

    def cost(value: Callable[[CrossedEffect], float]) -> float:
        return max(min(max(map(value, losses)) for losses in half) for half in halves)

    # If the lower end is too high, that comes from one of the losses of the best common E in some half; if
    # the upper end is too low, from the largest loss of one of the common E in the half that counts.
    losses, commons = len(halves) * len(halves[0][0]), len(halves[0])
    return Interval(
        cost(lambda effect: effect.estimate),
        cost(lambda effect: _corrected(effect, level, losses).low),
        cost(lambda effect: _corrected(effect, level, commons).high),
        level,
    )


def _corrected(effect: CrossedEffect, level: float, comparisons: int) -> Interval:
    """Bonferroni's interval."""
    return effect.interval(1 - (1 - level) / comparisons)
