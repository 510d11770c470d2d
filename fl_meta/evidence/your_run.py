"""One run of one's own beside the recorded ones: does it lie where another run of theirs would?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from fl_meta.evidence.crossed_rules import claim_tests, differences
from fl_meta.evidence.paired_spreads import run_means, spread
from fl_meta.evidence.result_types import CrossedResult


def beside_recorded(run: CrossedResult, cells: Sequence[CrossedResult], level: float = 0.95) -> pd.DataFrame:
    """For every test, the effect in one run and where another run of the same fold is expected.

    A single run decides nothing. But if it was computed as the recorded ones were, its effect lies in the
    *prediction interval* of its fold (mean ± t · s · √(1 + 1/R)) about `level` of the time. The spread s of
    training runs is taken from all folds together. The row says whether it does.

    Returns:
        columns claim, statement, dataset, regime, effect, recorded (mean of the fold's recorded runs), low,
        high (points) and within.

    Raises:
        ValueError: if the run is of another design than the cells, or if fewer than two replicates are
            recorded.

    Source: the prediction interval of one more observation from a normal distribution.

    Example:
        >>> cells = recorded_cells(design, folder)  # doctest: +SKIP
        >>> beside_recorded(run, cells)[["claim", "effect", "within"]]  # doctest: +SKIP
    """
    if not cells or len(cells) < 2 * cells[0].config.folds:
        raise ValueError(
            f"{len(cells)} recorded cells; the spread of runs takes two replicates of every fold"
        )
    if run.config != cells[0].config:
        raise ValueError("the run is of another design, or was tuned otherwise, than the recorded cells")
    fold, rows = run.seed % run.config.folds, []
    for test in claim_tests(cells):
        sides = [test.better], [test.worse], test.measure
        means = run_means(differences(cells, *sides))  # [folds, replicates]
        (own,) = differences([run], *sides)
        replicates = means.shape[1]
        t = float(stdtrit(means.size - len(means), (1 + level) / 2))
        half = t * float(spread(means)) * np.sqrt(1 + 1 / replicates)
        effect, center = float(own.mean()), float(means[fold].mean())
        rows.append(
            {
                "claim": test.claim,
                "statement": test.statement,
                "dataset": run.label,
                "regime": run.config.regime,
                "effect": effect,
                "recorded": center,
                "low": center - half,
                "high": center + half,
                "within": abs(effect - center) <= half,
            }
        )
    return pd.DataFrame(rows)
