"""Claims 2 and 3: what would refute them, and the verdicts.

The rules were fixed before the recorded runs:

- An effect is the mean over held-out clients of a paired difference in accuracy. Over the seeds each client
  is held out exactly once. The 95 % interval of an effect is the paired bootstrap over clients. Its p value
  comes from random sign flips, corrected by Holm over all tests of claims 2 and 3 on one data set.
- *Reproduced*: the sign is the paper's, the interval excludes 0, the corrected p is below 0.05, and all seeds
  but at most one agree in sign. *Not reproduced*: the same with the opposite sign. *Direction only*: less
  certain, but every seed has the paper's sign. *Undecided*: anything else.
- Of the two centralized optimizers, the one counts whose model is better on the validation clients after
  personalization.
- Models that were matched at equal initial accuracy, on clients that are not held out, must start alike for
  the held-out clients too: if their mean initial accuracies there differ by more than half the effect, the
  verdict is *undecided*.
- Smallest effect a design can see: with a spread over clients of `PLANNED_SPREAD`, 2.8 · spread / √clients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fl_meta.evaluation.bootstrap import bootstrap_mean
from fl_meta.evidence.result_types import ComparisonResult
from fl_meta.evidence.statistics import holm, sign_flip_p
from fl_meta.evidence.verdicts import Verdict, verdict_of
from fl_meta.experiments.comparison_settings import (
    CONTINUED,
    CONTINUED_GRADIENTS,
    FEDAVG,
    FEDSGD,
    REPTILE,
    SMALL_E,
)
from fl_meta.experiments.outcomes import Measure
from fl_meta.experiments.settings import RECORDED
from fl_meta.support.array_types import FloatArray

PLANNED_SPREAD = 0.10  # of paired differences in accuracy, over clients

CENTRALIZED = ("centralized SGD", "centralized Adam")


@dataclass(frozen=True)
class Contrast:
    """One test of claims 2 and 3.

    Attributes:
        statement: the claim in one sentence; a positive effect supports it.
        better: name of the model that the claim says is better.
        worse: name of the other model. In both names `{}` stands for the centralized optimizer that counts.
    """

    claim: str
    statement: str
    better: str
    worse: str
    measure: Measure


def _more_fedavg(claim: str, budget: str, continued: str, measure: Measure) -> Contrast:
    statement = f"After FedAvg, Reptile with Adam gives a better {measure} model than as many more {budget}"
    return Contrast(claim, f"{statement} of FedAvg", REPTILE, continued, measure)


def _global_accuracy(claim: str, fine_tuned: str) -> Contrast:
    statement = f"Fine-tuned for global accuracy alone ({fine_tuned}) the personalized model is weaker"
    return Contrast(claim, f"{statement} than after Reptile with Adam", REPTILE, fine_tuned, "personalized")


CONTRASTS = (
    _more_fedavg("2a-initial", "rounds", CONTINUED, "initial"),
    _more_fedavg("2a-personalized", "rounds", CONTINUED, "personalized"),
    _more_fedavg("2a-gradients-initial", "local gradients", CONTINUED_GRADIENTS, "initial"),
    _more_fedavg("2a-gradients-personalized", "local gradients", CONTINUED_GRADIENTS, "personalized"),
    _global_accuracy("2b-FedSGD", FEDSGD),
    _global_accuracy("2b-small-E", SMALL_E),
    Contrast(
        "3-matched",
        "At equal initial accuracy, a centralized model gains less from personalization than FedAvg's",
        "FedAvg, matched to {}",
        "{}, matched",
        "gain",
    ),
    Contrast(
        "3-best",
        "Each at its best, a centralized model is worse than FedAvg's after personalization",
        FEDAVG,
        "{}",
        "personalized",
    ),
)


def centralized(result: ComparisonResult) -> str:
    """The centralized optimizer that counts: the better one on the validation clients, personalized.

    Example:
        >>> result.model_named(centralized(result)).option  # doctest: +SKIP
    """

    def validation(name: str) -> float:
        by_epoch = result.model_named(name).validation
        return by_epoch[-1] if by_epoch else -math.inf

    return max(CENTRALIZED, key=validation)


def client_differences(results: Sequence[ComparisonResult], contrast: Contrast) -> list[FloatArray]:
    """For each seed the held-out clients' paired differences, better − worse [clients].

    Example:
        >>> client_differences(results, CONTRASTS[0])[0].mean()  # doctest: +SKIP
    """

    def accuracy(result: ComparisonResult, name: str) -> FloatArray:
        return result.model_named(name.format(centralized(result))).accuracy_of(contrast.measure)

    return [accuracy(result, contrast.better) - accuracy(result, contrast.worse) for result in results]


def not_run(claim: str | tuple[str, ...], label: str, profile: str) -> list[Verdict]:
    """The verdict "not run" on all claims whose name begins with `claim`, for a data set without results.

    Example:
        >>> [verdict.claim for verdict in not_run("2b", "mnist_by_writer", "recorded")]
        ['2b-FedSGD', '2b-small-E']
    """
    statements = {contrast.claim: contrast.statement for contrast in CONTRASTS}
    no_interval = (math.nan, math.nan)
    return [
        Verdict(name, statement, label, "not run", math.nan, no_interval, "", profile)
        for name, statement in statements.items()
        if name.startswith(claim)
    ]


def in_points(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `decide_comparison` rounded for reading: effects in points, p values to three digits.

    Example:
        >>> verdicts, table = decide_comparison(results, "laptop")  # doctest: +SKIP
        >>> in_points(table)  # doctest: +SKIP
    """
    numbers = table[["effect", "low", "high", "spread", "apart"]]
    seeds = [np.round(100 * np.array(effects), 1).tolist() for effects in table.seeds]
    return table.assign(**(100 * numbers).round(2), seeds=seeds).round(3).dropna(axis="columns", how="all")


def decide_comparison(
    results: Sequence[ComparisonResult], profile: str
) -> tuple[list[Verdict], pd.DataFrame]:
    """The verdicts on claims 2 and 3 for one data set, from a result per seed, and the numbers behind them.

    The table has a row for each claim and the columns effect, low, high, p, p_holm, seeds (the effect of each
    seed), spread (over clients), clients, apart (where gains are compared, the difference in mean initial
    accuracy; otherwise NaN).

    Example:
        >>> verdicts, table = decide_comparison(results, "laptop")  # doctest: +SKIP
        >>> table.loc["2a-personalized", ["effect", "low", "high", "p_holm"]]  # doctest: +SKIP
    """
    rows = [_effect(results, contrast) for contrast in CONTRASTS]
    corrected = holm([row["p"] for row in rows])
    table = pd.DataFrame(rows, index=pd.Index([contrast.claim for contrast in CONTRASTS], name="claim"))
    table.insert(4, "p_holm", corrected)
    verdicts = []
    for contrast, row, p in zip(CONTRASTS, rows, corrected, strict=True):
        effect, low, high = row["effect"], row["low"], row["high"]
        verdict = verdict_of(effect, (low, high), p, row["seeds"])
        if abs(row["apart"]) > abs(effect) / 2:
            verdict = "undecided"
        effect, ends = 100 * effect, (100 * low, 100 * high)
        claim, statement, label = contrast.claim, contrast.statement, results[0].label
        verdicts.append(Verdict(claim, statement, label, verdict, effect, ends, "points", profile))
    return verdicts, table


def _effect(results: Sequence[ComparisonResult], contrast: Contrast) -> dict[str, Any]:
    by_seed = client_differences(results, contrast)
    values = np.concatenate(by_seed)
    interval, apart = bootstrap_mean(values), math.nan
    if contrast.measure == "gain":
        at_start = client_differences(results, replace(contrast, measure="initial"))
        apart = float(np.concatenate(at_start).mean())
    return {
        "effect": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "p": sign_flip_p(values),
        "seeds": [float(differences.mean()) for differences in by_seed],
        "spread": float(values.std()),
        "clients": len(values),
        "apart": apart,
    }


def decide_recorded(
    recorded: Mapping[str, Sequence[ComparisonResult]], claim: str | tuple[str, ...]
) -> tuple[list[Verdict], dict[str, pd.DataFrame]]:
    """What the repository's results say about the claims whose name begins with `claim`.

    `recorded` has the results of each recorded comparison by name. Returns the verdicts, *not run* where
    there are no results, and by label the tables of `decide_comparison`.

    Example:
        >>> verdicts, tables = decide_recorded({"unipen62": []}, "2a")
        >>> verdicts[0].verdict
        'not run'
    """
    verdicts: list[Verdict] = []
    tables = {}
    for name, results in recorded.items():
        if not results:
            verdicts += not_run(claim, name, RECORDED)
            continue
        decided, table = decide_comparison(results, RECORDED)
        verdicts += [verdict for verdict in decided if verdict.claim.startswith(claim)]
        tables[f"{results[0].label}, {RECORDED}"] = table[table.index.str.startswith(claim)]
    return verdicts, tables
