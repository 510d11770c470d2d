"""The tables of the crossed design: the verdict on every test, and the second stage taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fl_meta.evidence.crossed_rules import (
    CONTRASTS,
    claim_tests,
    differences,
    margin_of,
    number_of_clients,
    verdict_of_effect,
)
from fl_meta.evidence.crossed_statistics import CrossedEffect, crossed_mean
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.evidence.statistics import holm
from fl_meta.evidence.verdicts import Verdict
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED,
    CONTINUED,
    FEDAVG,
    matched_arms,
    second_stage_arms,
)
from fl_meta.experiments.outcomes import BOTH, Measure
from fl_meta.experiments.settings import RECORDED


def evidence_table(designs: Iterable[Sequence[CrossedResult]]) -> pd.DataFrame:
    """The verdict on every test, from the cells of each design.

    The columns are claim, statement, dataset, regime, verdict, effect, low, high (95 %), margin (points), p,
    p_holm, replicates, clients, ceiling (the test's arms that the ceiling ended in some fold) and premise (by
    how many points the rival's initial accuracy is above Reptile's; NaN where nothing is presupposed).

    Example:
        >>> evidence = evidence_table([recorded_cells(design, folder)])  # doctest: +SKIP
    """
    rows = [row for cells in designs if cells for row in _claim_rows(cells)]
    return _corrected(rows, ("reproduced", "contradicted"))


def cause_table(designs: Iterable[Sequence[CrossedResult]]) -> pd.DataFrame:
    """What each factor of the second stage brings: a row for each contrast, measure, data set and regime.

    The columns are as in `evidence_table`, with contrast and measure in place of claim and statement. The
    verdict is *helps* or *harms*, perhaps *but small*, *no difference* or *undecided*.

    Example:
        >>> causes = cause_table([recorded_cells(design, folder)])  # doctest: +SKIP
    """
    rows = [row for cells in designs if cells for row in _contrast_rows(cells)]
    return _corrected(rows, ("helps", "harms"))


def arm_table(designs: Iterable[Sequence[CrossedResult]]) -> pd.DataFrame:
    """Every arm of the second stage minus FedAvg continued as before, with 95 % intervals, in points.

    The columns are dataset, regime, replicates, clients, arm, measure, effect, low and high.

    Example:
        >>> arms = arm_table([recorded_cells(design, folder)])  # doctest: +SKIP
    """
    rows = [
        {**_header(cells), "arm": arm, "measure": measure}
        | _numbers(crossed_mean(differences(cells, [arm], [CONTINUED], measure)))
        for cells in designs
        if cells
        for arm in second_stage_arms()
        for measure in BOTH
    ]
    return pd.DataFrame(rows).drop(columns="p", errors="ignore")


def rival_table(designs: Iterable[Sequence[CrossedResult]]) -> pd.DataFrame:
    """The rivals of claim 2b minus Reptile with Adam in both accuracies, with 95 % intervals, in points.

    The claim is that a rival is better in initial accuracy and worse in personalized accuracy. The columns
    are dataset, regime, replicates, clients, rival (the arm), measure, effect, low and high.

    Example:
        >>> rivals = rival_table([recorded_cells(design, folder)])  # doctest: +SKIP
    """
    rows = [
        {**_header(cells), "rival": test.worse, "measure": measure}
        | _numbers(crossed_mean(differences(cells, [test.worse], [test.better], measure)))
        for cells in designs
        if cells
        for test in claim_tests(cells)
        if test.premise
        for measure in BOTH
    ]
    return pd.DataFrame(rows).drop(columns="p", errors="ignore")


def centralized_table(designs: Iterable[Sequence[CrossedResult]]) -> pd.DataFrame:
    """The two comparisons of claim 3 with every centralized optimizer, in points, with 95 % intervals.

    The claim is decided with `CENTRALIZED_SGD` alone, which was fixed before; the others have no verdict, and
    no interval here is corrected for several tests.

    The columns are dataset, regime, replicates, clients, arm, comparison ('matched': FedAvg's gain minus the
    centralized model's at equal initial accuracy; 'best': the difference of personalized accuracies at the
    end), margin, effect, low and high. Designs without centralized training have no rows.

    Example:
        >>> rivals = centralized_table([recorded_cells(design, folder)])  # doctest: +SKIP
    """
    rows = []
    for cells in filter(None, designs):
        for arm in (arm for arm in CENTRALIZED if arm in cells[0].curves):
            at_match, fedavg_there = matched_arms(arm)
            pairs: dict[str, tuple[str, str, Measure]] = {
                "matched": (fedavg_there, at_match, "gain"),
                "best": (FEDAVG, arm, "personalized"),
            }
            for comparison, (ours, theirs, measure) in pairs.items():
                effect = crossed_mean(differences(cells, [ours], [theirs], measure))
                row = {**_header(cells), "arm": arm, "comparison": comparison}
                rows.append(row | {"margin": margin_of(cells, "3"), **_numbers(effect)})
    return pd.DataFrame(rows).drop(columns="p", errors="ignore")


def as_verdicts(evidence: pd.DataFrame, claim: str | tuple[str, ...] = "") -> list[Verdict]:
    """The verdicts of an evidence table on claims whose names begin with `claim`, for a `VerdictTable`.

    Example:
        >>> VerdictTable(tuple(as_verdicts(evidence, "2a")))  # doctest: +SKIP
    """
    chosen = evidence[evidence.claim.str.startswith(claim)] if len(evidence) else evidence
    return [
        Verdict(
            row["claim"],
            row["statement"],
            row["dataset"],
            row["verdict"],
            row["effect"],
            (row["low"], row["high"]),
            "points",
            RECORDED,
            regime=row["regime"],
        )
        for row in chosen.to_dict("records")
    ]


def _claim_rows(cells: Sequence[CrossedResult]) -> list[dict[str, Any]]:
    rows = []
    for test in claim_tests(cells):
        effect = crossed_mean(differences(cells, [test.better], [test.worse], test.measure))
        rival = differences(cells, [test.worse], [test.better], "initial") if test.premise else None
        row = {"claim": test.claim, "statement": test.statement, **_header(cells)}
        row |= _numbers(effect) | {"of": effect, "margin": margin_of(cells, test.claim)}
        row |= {"ceiling": _ended_by_ceiling(cells, (test.better, test.worse))}
        rows.append(row | {"premise": crossed_mean(rival).estimate if rival else np.nan})
    return rows


def _contrast_rows(cells: Sequence[CrossedResult]) -> list[dict[str, Any]]:
    rows = []
    for contrast, (better, worse) in CONTRASTS.items():
        for measure in BOTH:
            effect = crossed_mean(differences(cells, better, worse, measure))
            row = {"contrast": contrast, "measure": measure, **_header(cells), **_numbers(effect)}
            rows.append(row | {"of": effect, "margin": margin_of(cells)})
    return rows


def _header(cells: Sequence[CrossedResult]) -> dict[str, object]:
    first = cells[0]
    return {
        "dataset": first.label,
        "regime": first.config.regime,
        "replicates": len(cells) // first.config.folds,
        "clients": number_of_clients(cells),
    }


def _numbers(effect: CrossedEffect) -> dict[str, float]:
    interval = effect.interval()
    return {"effect": effect.estimate, "low": interval.low, "high": interval.high, "p": effect.p}


def _ended_by_ceiling(cells: Sequence[CrossedResult], arms: Sequence[str]) -> tuple[str, ...]:
    # The arms of the second stage begin with FedAvg's model, and those matched to others lie on its path.
    of = {FEDAVG, *(arm.split(", matched")[0] for arm in arms)}
    ended = {choice.arm for fold in cells[0].config.choices for choice in fold if choice.ended == "ceiling"}
    return tuple(sorted(of & ended))


def _corrected(rows: list[dict[str, Any]], words: tuple[str, str]) -> pd.DataFrame:
    """The table with Holm's correction over each data set, and the verdicts."""
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    table["p_holm"] = table.groupby("dataset", sort=False).p.transform(lambda p: holm(list(p)))
    columns = zip(table.of, table.p_holm, table.margin, strict=True)
    table["verdict"] = [verdict_of_effect(of, p, margin, words) for of, p, margin in columns]
    if "premise" in table:
        table.loc[table.premise <= 0, "verdict"] = "premise not met"
    return table.drop(columns="of")
