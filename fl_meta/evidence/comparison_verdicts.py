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
from numpy.typing import NDArray

from fl_meta.evidence.statistics import bootstrap_mean, holm, sign_flip_p
from fl_meta.evidence.verdicts import RECORDED, Verdict
from fl_meta.experiments.trajectories import CONTINUED, CONTINUED_GRADIENTS, FEDSGD, REPTILE, SMALL_E
from fl_meta.support.random_streams import stream

PLANNED_SPREAD = 0.10  # of paired differences in accuracy, over clients
LEVEL = 0.05
SEVERAL = 2.0  # times larger: the spread over seeds of the initial accuracy than of the personalized one
SURE = 0.975  # share of bootstrap samples; there are two halves of Table 1

USUAL_MODELS = ("mlp", "char_mlp")
CENTRALIZED = ("centralized SGD", "centralized Adam")
Measure = Literal["initial", "personalized", "gain"]
FloatArray = NDArray[np.float64]


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


def verdict_of(effect: float, interval: tuple[float, float], p: float, seeds: Sequence[float]) -> str:
    """The rule at the top of this module.

    Args:
        effect: positive speaks for the claim.
        interval: of the effect, 95 %.
        p: corrected.
        seeds: the effect for each seed.
    """
    low, high = interval
    agree = sum(np.sign(seed) == np.sign(effect) for seed in seeds)
    if p < LEVEL and (low > 0 or high < 0) and agree >= max(len(seeds) - 1, 1):
        return "reproduced" if effect > 0 else "not reproduced"
    return "direction only" if all(seed > 0 for seed in seeds) else "undecided"


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


def label_of(result: dict[str, Any]) -> str:
    """The data set's label, with the model where it is not the usual one."""
    model, label = result["config"]["setting"]["model"], str(result["data"]["label"])
    return label if model in USUAL_MODELS else f"{label}, {model}"


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

TABLE_ONE = {
    "T1-gain": "Personalization helps for every number of local epochs E and of clients a round",
    "T1-spread": "From seed to seed the initial accuracy varies several times as much as the personalized",
    "T1-best-E": "The best E for the initial model is not always the best for the personalized one",
    "T1-largest-E": "At the largest E the initial accuracy falls again",
}


def cells(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Table 1 in long form: a row per seed and cell.

    Columns seed, clients_per_round, local_epochs, initial, personalized, and `rounds_initial` and
    `rounds_personalized` to the config's threshold; NaN where it was not reached.
    """
    rows = []
    for result in results:
        threshold = result["config"]["threshold"]
        for cell in result["cells"]:
            initial, personalized = np.mean(cell["accuracy"], axis=1)
            row = {"seed": result["seed"], "initial": initial, "personalized": personalized}
            for i, name in enumerate(("initial", "personalized"), start=1):
                row[f"rounds_{name}"] = next((p[0] for p in cell["curve"] if p[i] >= threshold), math.nan)
            rows.append({key: cell[key] for key in ("clients_per_round", "local_epochs")} | row)
    return pd.DataFrame(rows)


def _accuracy(results: Sequence[dict[str, Any]]) -> dict[tuple[int, int], FloatArray]:
    """For each cell (clients a round, E) the held-out clients' accuracies of all seeds [2, clients]."""
    found: dict[tuple[int, int], list[FloatArray]] = {}
    for result in results:
        for cell in result["cells"]:
            key = (cell["clients_per_round"], cell["local_epochs"])
            found.setdefault(key, []).append(np.array(cell["accuracy"]))
    return {key: np.concatenate(parts, axis=1) for key, parts in found.items()}


def decide_table_one(results: Sequence[dict[str, Any]], profile: str) -> list[Verdict]:
    """The four verdicts on Table 1 for one data set, from one result per seed."""
    accuracy = _accuracy(results)
    gains = {key: bootstrap_mean(values[1] - values[0]) for key, values in accuracy.items()}
    least = min(gains.values(), key=lambda gain: gain.estimate)
    if min(gain.low for gain in gains.values()) > 0:
        helps = "reproduced"
    elif least.high < 0:
        helps = "not reproduced"
    else:
        helps = "direction only" if least.estimate > 0 else "undecided"

    spread = cells(results).groupby(["clients_per_round", "local_epochs"])[["initial", "personalized"]].std()
    ratio = (spread.initial / spread.personalized).to_numpy()
    # Bootstrap over cells, of the median: eight numbers say no more.
    picks = stream(0, "cells").integers(len(ratio), size=(5000, len(ratio)))
    low, high = np.quantile(np.median(ratio[picks], axis=1), [0.025, 0.975])
    median = float(np.median(ratio))
    varies = "undecided"
    if low >= SEVERAL:
        varies = "reproduced"
    elif high < 1:
        varies = "not reproduced"
    elif median > 1:
        varies = "direction only"

    halves = sorted({clients for clients, _ in accuracy})
    shares = [_share_of_other_best(accuracy, clients) for clients in halves]
    other = "undecided"
    if max(shares) >= SURE:
        other = "reproduced"
    elif max(shares) <= 1 - SURE:
        other = "not reproduced"
    elif max(shares) > 0.5:
        other = "direction only"

    epochs = sorted({epochs for _, epochs in accuracy})
    falls = np.mean(
        [accuracy[clients, epochs[-2]][0] - accuracy[clients, epochs[-1]][0] for clients in halves], axis=0
    )
    fall, by_seed = bootstrap_mean(falls), _by_seed(falls, results)
    numbers = {
        "T1-gain": (helps, 100 * least.estimate, (100 * least.low, 100 * least.high), "points, smallest"),
        "T1-spread": (varies, median, (float(low), float(high)), "times, median of cells"),
        "T1-best-E": (other, 100 * max(shares), (math.nan, math.nan), "% of bootstrap samples"),
        "T1-largest-E": (
            verdict_of(fall.estimate, (fall.low, fall.high), sign_flip_p(falls), by_seed),
            100 * fall.estimate,
            (100 * fall.low, 100 * fall.high),
            f"points, E = {epochs[-2]} − E = {epochs[-1]}",
        ),
    }
    label = results[0]["data"]["label"]
    return [
        Verdict(claim, TABLE_ONE[claim], label, verdict, effect, interval, unit, profile)
        for claim, (verdict, effect, interval, unit) in numbers.items()
    ]


def _share_of_other_best(accuracy: dict[tuple[int, int], FloatArray], clients: int) -> float:
    """Share of bootstrap samples of clients in which initial and personalized accuracy prefer different E."""
    values = np.stack([accuracy[key] for key in sorted(accuracy) if key[0] == clients])  # [E, 2, clients]
    picks = stream(0, "best E", clients).integers(values.shape[2], size=(2000, values.shape[2]))
    best = np.stack([values[:, :, pick].mean(2).argmax(0) for pick in picks])
    return float((best[:, 0] != best[:, 1]).mean())


def _by_seed(values: FloatArray, results: Sequence[dict[str, Any]]) -> list[float]:
    ends = np.cumsum([len(result["clients"]) for result in results])
    return [float(part.mean()) for part in np.split(values, ends[:-1])]
