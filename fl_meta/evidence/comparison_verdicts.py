"""Table 1 and the paper's claims 2 and 3: what would refute them, and the verdict. (Claim 1: `claim_one`.)

Written before the recorded runs. The rules:

- An effect is a mean over held-out clients of a paired difference of accuracies. Over the seeds each client
  is held out exactly once. Its 95 % interval is the paired bootstrap over clients, its p value that of random
  signs, corrected by Holm over all tests of claims 2 and 3 on one data set.
- *Reproduced*: the sign is the paper's, the interval does not reach 0, the corrected p is below 0.05, and all
  seeds but at most one agree in sign. *Not reproduced*: the same with the other sign. *Direction only*: not
  so sure, but every seed has the paper's sign. *Undecided*: anything else.
- Between two centralized optimizers the one counts whose model is better personalized on the validation
  clients.
- Models that were matched at equal initial accuracy, on clients that are not held out, must start alike for
  the held-out clients too: if their mean initial accuracies there are further apart than half the effect,
  the verdict is *undecided*.
- Smallest effect a design can see: with a spread over clients of `PLANNED_SPREAD`, 2.8 · spread / √clients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from fl_meta.evaluation.bootstrap import bootstrap_mean
from fl_meta.evidence.results import label_of
from fl_meta.evidence.statistics import holm, sign_flip_p
from fl_meta.evidence.table_one_verdicts import TABLE_ONE
from fl_meta.evidence.verdicts import Verdict, verdict_of
from fl_meta.experiments.comparison_settings import CONTINUED, CONTINUED_GRADIENTS, FEDSGD, REPTILE, SMALL_E
from fl_meta.experiments.settings import RECORDED
from fl_meta.support.array_types import FloatArray

PLANNED_SPREAD = 0.10  # of paired differences in accuracy, over clients

CENTRALIZED = ("centralized SGD", "centralized Adam")
Measure = Literal["initial", "personalized", "gain"]


@dataclass(frozen=True)
class Contrast:
    """One test of claims 2 and 3.

    Attributes:
        claim: short name.
        statement: the claim in one sentence, so that a positive effect speaks for it.
        better: name of the model that should be better.
        worse: name of the other; `{}` stands for the centralized optimizer that counts.
        measure: of each client: accuracy before or after personalization, or the gain.
    """

    claim: str
    statement: str
    better: str
    worse: str
    measure: Measure


CONTRASTS = (
    Contrast(
        "2a-initial",
        "After FedAvg, Reptile with Adam gives a better initial model than as many more rounds of FedAvg",
        REPTILE,
        CONTINUED,
        "initial",
    ),
    Contrast(
        "2a-personalized",
        "After FedAvg, Reptile with Adam gives a better personalized model than as many more rounds of "
        "FedAvg",
        REPTILE,
        CONTINUED,
        "personalized",
    ),
    Contrast(
        "2a-gradients-initial",
        "After FedAvg, Reptile with Adam gives a better initial model than as many more local gradients of "
        "FedAvg",
        REPTILE,
        CONTINUED_GRADIENTS,
        "initial",
    ),
    Contrast(
        "2a-gradients-personalized",
        "After FedAvg, Reptile with Adam gives a better personalized model than as many more local gradients "
        "of FedAvg",
        REPTILE,
        CONTINUED_GRADIENTS,
        "personalized",
    ),
    Contrast(
        "2b-FedSGD",
        "Fine-tuned for global accuracy alone (FedSGD with Adam) the personalized model is weaker than after "
        "Reptile with Adam",
        REPTILE,
        FEDSGD,
        "personalized",
    ),
    Contrast(
        "2b-small-E",
        "Fine-tuned for global accuracy alone (FedAvg(E=1)) the personalized model is weaker than after "
        "Reptile with Adam",
        REPTILE,
        SMALL_E,
        "personalized",
    ),
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
        "FedAvg",
        "{}",
        "personalized",
    ),
)


def model_named(result: dict[str, Any], name: str) -> dict[str, Any]:
    """One of a comparison's models.

    Raises:
        KeyError: if there is none of that name; the message lists those there are.
    """
    named: dict[str, dict[str, Any]] = {model["name"]: model for model in result["models"]}
    if name not in named:
        raise KeyError(f"no model {name!r}; there are {', '.join(named)}")
    return named[name]


def centralized(result: dict[str, Any]) -> str:
    """The centralized optimizer that counts: better personalized on the validation clients."""
    return max(CENTRALIZED, key=lambda name: model_named(result, name)["validation"][-1])


def measured(model: dict[str, Any], measure: Measure) -> FloatArray:
    """A model's accuracy on each held-out client, or its gain [clients]."""
    accuracy = np.array(model["accuracy"])
    initial, personalized = accuracy[0], accuracy[-1]
    found: FloatArray = {"initial": initial, "personalized": personalized, "gain": personalized - initial}[
        measure
    ]
    return found


def differences(results: Sequence[dict[str, Any]], contrast: Contrast) -> list[FloatArray]:
    """For each seed the held-out clients' paired differences, better − worse [clients]."""
    found = []
    for result in results:
        one, other = (
            measured(model_named(result, name.format(centralized(result))), contrast.measure)
            for name in (contrast.better, contrast.worse)
        )
        found.append(one - other)
    return found


def not_run(claim: str | tuple[str, ...], label: str, profile: str) -> list[Verdict]:
    """Verdicts that say so of all claims whose name begins with `claim`, on a data set without results."""
    statements = {contrast.claim: contrast.statement for contrast in CONTRASTS} | TABLE_ONE
    none = (math.nan, math.nan)
    return [
        Verdict(name, statement, label, "not run", math.nan, none, "", profile)
        for name, statement in statements.items()
        if name.startswith(claim)
    ]


def in_points(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `decide_comparison`, rounded for reading: effects in points, p values to three digits."""
    numbers = table[["effect", "low", "high", "spread", "apart"]]
    seeds = [np.round(100 * np.array(effects), 1).tolist() for effects in table.seeds]
    return table.assign(**(100 * numbers).round(2), seeds=seeds).round(3).dropna(axis="columns", how="all")


def decide_comparison(results: Sequence[dict[str, Any]], profile: str) -> tuple[list[Verdict], pd.DataFrame]:
    """The verdicts on claims 2 and 3 for one data set, from a result per seed, and the numbers behind them.

    The table has a row for each claim: effect, low, high, p, p_holm, seeds (the effect of each), spread (over
    clients), clients, apart (where gains are compared, the difference of the initial accuracies, else NaN).
    """
    by_seed = [differences(results, contrast) for contrast in CONTRASTS]
    clients = [np.concatenate(values) for values in by_seed]
    intervals = [bootstrap_mean(values) for values in clients]
    p_values = [sign_flip_p(values) for values in clients]
    corrected = holm(p_values)
    seeds = [[float(values.mean()) for values in one] for one in by_seed]
    table = pd.DataFrame(
        {
            "effect": [interval.estimate for interval in intervals],
            "low": [interval.low for interval in intervals],
            "high": [interval.high for interval in intervals],
            "p": p_values,
            "p_holm": corrected,
            "seeds": seeds,
            "spread": [float(values.std()) for values in clients],
            "clients": [len(values) for values in clients],
            "apart": [_apart(results, contrast) for contrast in CONTRASTS],
        },
        index=pd.Index([contrast.claim for contrast in CONTRASTS], name="claim"),
    )
    verdicts = [
        Verdict(
            contrast.claim,
            contrast.statement,
            label_of(results[0]),
            "undecided"
            if abs(apart) > abs(interval.estimate) / 2
            else verdict_of(interval.estimate, (interval.low, interval.high), p, of_seeds),
            100 * interval.estimate,
            (100 * interval.low, 100 * interval.high),
            "points",
            profile,
        )
        for contrast, interval, p, of_seeds, apart in zip(
            CONTRASTS, intervals, corrected, seeds, table["apart"], strict=True
        )
    ]
    return verdicts, table


def decide_recorded(
    recorded: Mapping[str, Sequence[dict[str, Any]]], claim: str | tuple[str, ...]
) -> tuple[list[Verdict], dict[str, pd.DataFrame]]:
    """What the repository's results say of the claims whose name begins with `claim`.

    Args:
        recorded: results by the name of the recorded comparison; empty where there are none yet.
        claim: begin of the name, or several.

    Returns:
        The verdicts, *not run* where there are no results, and by label the rows of `decide_comparison`.
    """
    verdicts: list[Verdict] = []
    tables = {}
    for name, results in recorded.items():
        if not results:
            verdicts += not_run(claim, name, RECORDED)
            continue
        decided, table = decide_comparison(results, RECORDED)
        verdicts += [verdict for verdict in decided if verdict.claim.startswith(claim)]
        tables[f"{label_of(results[0])}, {RECORDED}"] = table[table.index.str.startswith(claim)]
    return verdicts, tables


def _apart(results: Sequence[dict[str, Any]], contrast: Contrast) -> float:
    """How much higher the better model starts; NaN unless gains are compared."""
    if contrast.measure != "gain":
        return math.nan
    return float(np.concatenate(differences(results, replace(contrast, measure="initial"))).mean())


# --- Table 1 ---------------------------------------------------------------------------------------------
