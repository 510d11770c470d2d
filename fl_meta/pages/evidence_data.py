"""What the evidence explorer shows: every test of claims 2 and 3, and the second stage taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fl_meta.evidence.crossed_page import CAUSE_MARKS
from fl_meta.evidence.crossed_results import recorded_designs
from fl_meta.evidence.crossed_rules import CLAIM_TESTS, CONTRASTS, claim_tests, differences
from fl_meta.evidence.crossed_statistics import crossed_mean
from fl_meta.evidence.crossed_tables import arm_table, cause_table, evidence_table
from fl_meta.evidence.crossed_words import LEGEND, rows_of, sentences
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.evidence.verdicts import LEVEL, MARKS
from fl_meta.experiments.crossed_settings import SERVERS, UPDATES, second_stage_arm
from fl_meta.experiments.outcomes import BOTH
from fl_meta.plots.intervals import REGIMES
from fl_meta.support.array_types import FloatArray

FEWEST_REPLICATES = 3  # that `crossed_mean` takes


def evidence_data(results: Path) -> dict[str, Any]:
    """Tests with their verdicts and the effects of their replicates; arms and contrasts of the second stage.

    Args:
        results: the folder of recorded results.

    Raises:
        FileNotFoundError: if the folder has no evidence.
        ResultError: if a file cannot be used.

    Example:
        >>> evidence_data(Path("data/results"))["tests"][0]["verdict"]  # doctest: +SKIP
        'undecided'
    """
    designs = recorded_designs(results).values()
    if not designs:
        raise FileNotFoundError(
            f"no evidence on claims 2 and 3 in {results.absolute()}; give the folder of recorded results, or "
            "compute it: fl-meta record"
        )
    evidence = evidence_table(designs)
    said = sentences(evidence)
    return {
        "claims": {
            test.claim: {"statement": test.statement, "sentence": said[test.claim]}
            for test in CLAIM_TESTS
            if test.claim in said
        },
        "regimes": REGIMES,
        "marks": MARKS | CAUSE_MARKS,
        "legend": LEGEND,
        "level": LEVEL,
        "tests": _tests(evidence, designs),
        "second": {
            "measures": BOTH,
            "servers": SERVERS,
            "updates": {
                update: [second_stage_arm(update, server) for server in SERVERS] for update in UPDATES
            },
            "contrasts": list(CONTRASTS),
            "arms": _selected(arm_table(designs), "arm"),
            "causes": _selected(cause_table(designs), "contrast", "margin", "verdict"),
        },
    }


def _tests(evidence: pd.DataFrame, designs: Iterable[Sequence[CrossedResult]]) -> list[dict[str, Any]]:
    found = {
        (test.claim, cells[0].label, cells[0].config.regime): differences(
            cells, [test.better], [test.worse], test.measure
        )
        for cells in designs
        for test in claim_tests(cells)
    }
    tests = []
    for row in rows_of(evidence):
        folds = found[row["claim"], row["dataset"], row["regime"]]
        narrow = crossed_mean(folds).interval(1 - 2 * LEVEL)
        numbers = ("effect", "low", "high", "margin", "p", "p_holm")
        tests.append(
            {name: row[name] for name in ("claim", "dataset", "regime", "verdict", "replicates", "clients")}
            | {name: _rounded(row[name]) for name in numbers}
            | {
                "ceiling": row["ceiling"],
                "premise": None if np.isnan(row["premise"]) else _rounded(row["premise"]),
                "equivalence": [_rounded(narrow.low), _rounded(narrow.high)],
                "folds": [[_rounded(run) for run in fold.mean(axis=1)] for fold in folds],
                "fewer": _with_fewer_replicates(folds),
            }
        )
    return tests


def _with_fewer_replicates(folds: Sequence[FloatArray]) -> dict[int, list[float]]:
    """Effect and 95 % interval from the first replicates alone, by their number."""
    found = {}
    for number in range(FEWEST_REPLICATES, len(folds[0]) + 1):
        interval = crossed_mean([fold[:number] for fold in folds]).interval()
        found[number] = [_rounded(value) for value in (interval.estimate, interval.low, interval.high)]
    return found


def _selected(table: pd.DataFrame, *more: str) -> list[dict[str, Any]]:
    numbers = ("effect", "low", "high", "margin")
    return [
        {name: row[name] for name in ("dataset", "regime", "measure", *more)}
        | {name: _rounded(row[name]) for name in numbers if name in row}
        for row in rows_of(table)
    ]


def _rounded(value: float) -> float:
    """Six digits are more than the page shows and do not move a verdict."""
    return float(f"{value:.6g}")
