"""Verdicts on the paper's Table 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fl_meta.evaluation.bootstrap import Interval, bootstrap_mean
from fl_meta.evidence.result_types import TableOneResult
from fl_meta.evidence.statistics import sign_flip_p
from fl_meta.evidence.verdicts import Verdict, verdict_of
from fl_meta.support.array_types import FloatArray
from fl_meta.support.random_streams import random_stream

SEVERAL = 2.0  # how many times larger the spread over seeds must be: initial / personalized accuracy
SURE = 0.975  # share of bootstrap samples; Table 1 has two halves
TABLE_ONE_CLAIMS = {
    "T1-gain": "Personalization helps for every number of local epochs E and of clients a round",
    "T1-spread": "From seed to seed the initial accuracy varies several times as much as the personalized",
    "T1-best-E": "The best E for the initial model is not always the best for the personalized one",
    "T1-largest-E": "At the largest E the initial accuracy falls again",
}


def table_one_cells(results: Sequence[TableOneResult]) -> pd.DataFrame:
    """Table 1 in long form: one row per seed and cell.

    The columns are clients_per_round, local_epochs, seed, initial, personalized (means over held-out clients)
    and `rounds_initial` and `rounds_personalized`, the rounds until the config's threshold; NaN if it was not
    reached.

    Example:
        >>> table_one_cells(results).groupby("local_epochs").personalized.mean()  # doctest: +SKIP
    """
    rows = []
    for result in results:
        threshold = result.config.threshold
        for cell in result.cells:
            rounds = (
                next((point[0] for point in cell.curve if point[measure] >= threshold), math.nan)
                for measure in (1, 2)
            )
            means = np.mean(cell.accuracy, axis=1)
            rows.append((cell.clients_per_round, cell.local_epochs, result.seed, *means, *rounds))
    accuracies = ["initial", "personalized", "rounds_initial", "rounds_personalized"]
    return pd.DataFrame(rows, columns=["clients_per_round", "local_epochs", "seed", *accuracies])


def _accuracy_by_cell(results: Sequence[TableOneResult]) -> dict[tuple[int, int], FloatArray]:
    """By clients per round and E, the accuracies of all seeds' held-out clients [2, clients]."""
    by_cell: dict[tuple[int, int], list[FloatArray]] = {}
    for result in results:
        for cell in result.cells:
            key = (cell.clients_per_round, cell.local_epochs)
            by_cell.setdefault(key, []).append(np.array(cell.accuracy))
    return {key: np.concatenate(by_seed, axis=1) for key, by_seed in by_cell.items()}


def decide_table_one(results: Sequence[TableOneResult], profile: str) -> list[Verdict]:
    """The four verdicts on Table 1 for one data set, from one result per seed.

    Example:
        >>> fl_meta.evidence.VerdictTable(tuple(decide_table_one(results, "laptop")))  # doctest: +SKIP
    """
    accuracy = _accuracy_by_cell(results)
    gains = {key: bootstrap_mean(values[1] - values[0]) for key, values in accuracy.items()}
    least = min(gains.values(), key=lambda gain: gain.estimate)
    helps = _verdict(min(gain.low for gain in gains.values()) > 0, least.high < 0, least.estimate > 0)

    cells = table_one_cells(results)
    spread = cells.groupby(["clients_per_round", "local_epochs"])[["initial", "personalized"]].std()
    ratio = (spread.initial / spread.personalized).to_numpy()
    # The interval of the median is a bootstrap over cells: eight numbers allow no more.
    picks = random_stream(0, "cells").integers(len(ratio), size=(5000, len(ratio)))
    low, high = np.quantile(np.median(ratio[picks], axis=1), [0.025, 0.975])
    median = float(np.median(ratio))
    varies = _verdict(low >= SEVERAL, high < 1, median > 1)

    halves = sorted({clients for clients, _ in accuracy})
    share = max(_share_of_other_best(accuracy, clients) for clients in halves)
    other = _verdict(share >= SURE, share <= 1 - SURE, share > 0.5)

    epochs = sorted({epochs for _, epochs in accuracy})
    falls = np.mean(
        [accuracy[clients, epochs[-2]][0] - accuracy[clients, epochs[-1]][0] for clients in halves], axis=0
    )
    fall, by_seed = bootstrap_mean(falls), _by_seed(falls, results)
    falls_again = verdict_of(fall.estimate, (fall.low, fall.high), sign_flip_p(falls), by_seed)
    numbers = {
        "T1-gain": (helps, *_in_points(least), "points, smallest"),
        "T1-spread": (varies, median, (low, high), "times, median of cells"),
        "T1-best-E": (other, 100 * share, (math.nan, math.nan), "% of bootstrap samples"),
        "T1-largest-E": (falls_again, *_in_points(fall), f"points, E = {epochs[-2]} − E = {epochs[-1]}"),
    }
    label = results[0].data.label
    return [
        Verdict(claim, TABLE_ONE_CLAIMS[claim], label, verdict, effect, interval, unit, profile)
        for claim, (verdict, effect, interval, unit) in numbers.items()
    ]


def _verdict(reproduced: bool, not_reproduced: bool, direction: bool) -> str:
    if reproduced:
        return "reproduced"
    if not_reproduced:
        return "not reproduced"
    return "direction only" if direction else "undecided"


def _in_points(interval: Interval) -> tuple[float, tuple[float, float]]:
    return 100 * interval.estimate, (100 * interval.low, 100 * interval.high)


def _share_of_other_best(accuracy: dict[tuple[int, int], FloatArray], clients: int) -> float:
    """Share of bootstrap samples of clients in which initial and personalized accuracy prefer different E."""
    values = np.stack([accuracy[key] for key in sorted(accuracy) if key[0] == clients])  # [E, 2, clients]
    picks = random_stream(0, "best E", clients).integers(values.shape[2], size=(2000, values.shape[2]))
    best = np.stack([values[:, :, pick].mean(2).argmax(0) for pick in picks])
    return float((best[:, 0] != best[:, 1]).mean())


def _by_seed(values: FloatArray, results: Sequence[TableOneResult]) -> list[float]:
    ends = np.cumsum([len(result.clients) for result in results])
    return [float(part.mean()) for part in np.split(values, ends[:-1])]
