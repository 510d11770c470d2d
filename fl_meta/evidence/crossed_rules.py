"""Claims 2 and 3 by the crossed design: the tests and the rules, fixed before the first recorded run.

- An **effect** is a mean over held-out clients and training replicates of a paired difference in accuracy, in
  points (per cent of accuracy). Positive effects support the paper. Its interval and p value come from
  `crossed_mean`, which knows of the luck of clients and that of training.
- p values are corrected by Holm over all **tests of claims** on a data set, in both regimes; those of the
  **contrasts of the second stage** likewise, as a family of their own.
- The **margin**, below which a difference does not matter in practice, is 0.5 points; 1 point on unipen62,
  where a client has few test characters, and in claim 3.
- **Reproduced**: the 95 % interval is above 0 and the corrected p value is below 0.05. **Contradicted**: the
  same, below 0. Either is *but small* if the effect is smaller than the margin. **No difference**: neither,
  and the 90 % interval lies within ± the margin (two one-sided tests). **Undecided**: anything else.
- **Premise not met**: claim 2b is about a model that was tuned for global accuracy and is better in it. Where
  the rival's initial accuracy is not above Reptile's, there is nothing to test.
- Replicates are added until every half-width of a claim's 95 % interval is below its margin (`is_precise`),
  at least 4 and at most 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_meta.evidence.crossed_statistics import CrossedEffect, crossed_mean
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.evidence.verdicts import LEVEL
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED_SGD,
    CONTINUED,
    FEDAVG,
    FEDSGD,
    REPTILE,
    SERVERS,
    SMALL_E,
    matched_arms,
    second_stage_arms,
)
from fl_meta.experiments.outcomes import Measure
from fl_meta.support.array_types import FloatArray

LEAST_REPLICATES, MOST_REPLICATES = 4, 10
MARGIN, WIDE_MARGIN = 0.5, 1.0  # points
WIDE_DATASETS = ("unipen62",)
VERDICTS = (
    "reproduced",
    "reproduced, but small",
    "no difference",
    "undecided",
    "premise not met",
    "contradicted, but small",
    "contradicted",
)


@dataclass(frozen=True)
class ClaimTest:
    """A test of claims 2 and 3.

    Attributes:
        statement: what the claim says; a positive effect supports it.
        better: the arm that the claim says is better.
        worse: the other arm.
        measure: which accuracy is compared.
        premise: whether the other arm must be better in initial accuracy for the claim to apply.
    """

    claim: str
    statement: str
    better: str
    worse: str
    measure: Measure
    premise: bool = False


def _second_stage(measure: Measure) -> ClaimTest:
    statement = (
        f"After FedAvg, Reptile with Adam gives a better {measure} model than as many more rounds of it"
    )
    return ClaimTest(f"2a-{measure}", statement, REPTILE, CONTINUED, measure)


def _global_accuracy(claim: str, rival: str) -> ClaimTest:
    statement = f"Tuned for global accuracy alone ({rival}), the model is better in it and worse personalized"
    statement += " than after Reptile with Adam"
    return ClaimTest(claim, statement, REPTILE, rival, "personalized", premise=True)


_CENTRALIZED_MATCHED, _FEDAVG_MATCHED = matched_arms(CENTRALIZED_SGD)
CLAIM_TESTS = (
    _second_stage("initial"),
    _second_stage("personalized"),
    _global_accuracy("2b-FedSGD", FEDSGD),
    _global_accuracy("2b-small-E", SMALL_E),
    ClaimTest(
        "3-matched",
        "At equal initial accuracy, a centralized model gains less from personalization than FedAvg's",
        _FEDAVG_MATCHED,
        _CENTRALIZED_MATCHED,
        "gain",
    ),
    ClaimTest(
        "3-best",
        "Each at its best, a centralized model is worse than FedAvg's after personalization",
        FEDAVG,
        CENTRALIZED_SGD,
        "personalized",
    ),
)


_AS_BEFORE, _SMALLER, _ADAM = (second_stage_arms(servers=(server,)) for server in SERVERS)
CONTRASTS = {
    "Reptile's update instead of FedAvg's": (
        second_stage_arms(updates=("Reptile",)),
        second_stage_arms(updates=("FedAvg",)),
    ),
    "smaller server rate instead of as before": (_SMALLER, _AS_BEFORE),
    "Adam instead of as before": (_ADAM, _AS_BEFORE),
    "Adam instead of smaller rate": (_ADAM, _SMALLER),
}
"""The second stage taken apart: the mean of some arms minus the mean of others."""


def accuracies_by_fold(
    cells: Sequence[CrossedResult], arms: Sequence[str], measure: Measure
) -> list[FloatArray]:
    """For each fold the accuracies of its clients, in [0, 1], as a mean over some arms.

    Returns:
        for each fold an array [replicates, clients of the fold].

    Example:
        >>> accuracies_by_fold(cells, [FEDAVG], "initial")[0].shape  # doctest: +SKIP
        (4, 84)
    """
    by_fold: dict[int, list[FloatArray]] = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        by_name = {arm.name: arm for arm in cell.arms}
        mean = np.mean([by_name[name].accuracy_of(measure) for name in arms], axis=0)
        by_fold.setdefault(cell.seed % cell.config.folds, []).append(mean)
    return [np.array(by_fold[fold]) for fold in sorted(by_fold)]


def differences(
    cells: Sequence[CrossedResult], better: Sequence[str], worse: Sequence[str], measure: Measure
) -> list[FloatArray]:
    """For each fold the paired differences, mean of the better arms − mean of the worse, in points.

    Returns:
        for each fold an array [replicates, clients of the fold].

    Example:
        >>> differences(cells, [REPTILE], [CONTINUED], "initial")[0].shape  # doctest: +SKIP
        (4, 84)
    """
    sides = (accuracies_by_fold(cells, arms, measure) for arms in (better, worse))
    return [100 * (ours - theirs) for ours, theirs in zip(*sides, strict=True)]


def number_of_clients(cells: Sequence[CrossedResult]) -> int:
    """How many clients a design holds out, over all folds."""
    return sum(len(cell.clients) for cell in cells if cell.seed < cell.config.folds)


def margin_of(cells: Sequence[CrossedResult], claim: str = "") -> float:
    """The margin of a claim, or of a contrast of the second stage, in points."""
    wide = claim.startswith("3") or cells[0].config.setting.dataset in WIDE_DATASETS
    return WIDE_MARGIN if wide else MARGIN


def verdict_of_effect(
    effect: CrossedEffect, corrected_p: float, margin: float, words: tuple[str, str]
) -> str:
    """The verdict on an effect, by the rules above; `words` are for a positive and a negative one.

    Example:
        >>> effect = crossed_mean([[[1.0, 2, 3, 2], [2, 2, 4, 3], [1, 2, 3, 3]]])
        >>> verdict_of_effect(effect, 0.01, 0.5, ("reproduced", "contradicted"))
        'reproduced'
    """
    if effect.p < LEVEL and corrected_p < LEVEL:
        word = words[0] if effect.estimate > 0 else words[1]
        return f"{word}, but small" if abs(effect.estimate) < margin else word
    return "no difference" if effect.equivalence_p(margin) < LEVEL else "undecided"


def claim_tests(cells: Sequence[CrossedResult]) -> list[ClaimTest]:
    """The tests that the cells of a design can make."""
    arms = {arm.name for cell in cells for arm in cell.arms}
    return [test for test in CLAIM_TESTS if {test.better, test.worse} <= arms]


def is_precise(cells: Sequence[CrossedResult]) -> bool:
    """Whether every test's 95 % interval is narrower to each side than its margin; effects are not looked at.

    Example:
        >>> is_precise(recorded_cells(design, folder))  # doctest: +SKIP
        True
    """
    return not too_wide(cells)


def too_wide(cells: Sequence[CrossedResult]) -> list[str]:
    """The tests whose 95 % interval is not narrower to each side than their margin.

    Example:
        >>> too_wide(recorded_cells(design, folder))  # doctest: +SKIP
        ['3-matched']
    """
    wide = []
    for test in claim_tests(cells):
        interval = crossed_mean(differences(cells, [test.better], [test.worse], test.measure)).interval()
        if (interval.high - interval.low) / 2 >= margin_of(cells, test.claim):
            wide.append(test.claim)
    return wide
