"""Cells of the crossed design whose effects are known, as if they had been computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from small_results import header_of, rows

from fl_meta.evidence.result_types import CrossedResult, TuningResult
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED_SGD,
    DESIGNS,
    FEDAVG,
    FEDSGD,
    REPTILE,
    SMALL_E,
    Choice,
    Crossed,
    Design,
    cell_seed,
    matched_arms,
    second_stage_arms,
)
from fl_meta.experiments.outcomes import CrossedArm

CENTRALIZED_MATCHED, FEDAVG_MATCHED = matched_arms(CENTRALIZED_SGD)
SECOND_STAGE = second_stage_arms()
TRAINED = (FEDAVG, *SECOND_STAGE, FEDSGD, SMALL_E, CENTRALIZED_SGD)
ARMS = (*TRAINED, CENTRALIZED_MATCHED, FEDAVG_MATCHED)


@dataclass(frozen=True)
class Spreads:
    """Standard deviations in points: over clients, folds, and runs of an arm, and of what is left.

    `common` is what clients differ in whatever the arm: it is not in any difference.
    """

    client: float = 1.2
    fold: float = 0.0
    run: float = 0.2
    rest: float = 1.5
    common: float = 8.0


def effects(mu: float) -> dict[str, tuple[float, float]]:
    """What arms add to initial and personalized accuracy, in points, for effects of `mu` in every claim.

    The rivals of claim 2b are one point better than Reptile initially, so that there is something to test.
    """
    return {
        REPTILE: (mu, mu),
        FEDSGD: (mu + 1, 0),
        SMALL_E: (mu + 1, 0),
        FEDAVG: (0, mu),
        FEDAVG_MATCHED: (0, mu),
    }


def config_of(design: Design, *, rate: float = 0.1, ceiling: Sequence[str] = ()) -> Crossed:
    """A design with choices, of this rate for each arm; these arms were ended by the ceiling in fold 1."""

    def choice(arm: str, fold: int) -> Choice:
        ended: Any = "ceiling" if fold == 1 and arm in ceiling else "fixed" if arm in SECOND_STAGE else "flat"
        return Choice(arm, rate, 9, ended, 0.1)

    return Crossed(design, tuple(tuple(choice(arm, f) for arm in TRAINED) for f in range(design.folds)))


def simulated(
    config: Crossed,
    of: Mapping[str, tuple[float, float]],
    *,
    seed: int = 0,
    replicates: int = 4,
    sizes: Sequence[int] = (20, 21, 19),
    spreads: Spreads = Spreads(),
    arms: Sequence[str] = ARMS,
    label: str = "",
) -> list[CrossedResult]:
    """Every cell of the design, replicate by replicate."""
    generator = np.random.default_rng(seed)
    kept = {}
    for fold, size in enumerate(sizes):
        common = spreads.common * generator.normal(size=(1, 1, size))
        own = spreads.client * generator.normal(size=(len(arms), 2, size))
        own += spreads.fold * generator.normal(size=(len(arms), 2, 1))
        kept[fold] = common + own
    cells = []
    for replicate in range(replicates):
        for fold, size in enumerate(sizes):
            points = kept[fold] + spreads.run * generator.normal(size=(len(arms), 2, 1))
            points = points + spreads.rest * generator.normal(size=(len(arms), 2, size))
            accuracy = [0.6, 0.7] + np.array([of.get(arm, (0, 0)) for arm in arms]) / 100
            values = np.round(accuracy[:, :, None] + points / 100, 4)
            made = [CrossedArm(arm, 9, 9, rows(value)) for arm, value in zip(arms, values, strict=True)]
            number = cell_seed(config.design, fold, replicate)
            ids = [f"client_{fold}_{i:02}" for i in range(size)]
            label_of = label or config.setting.dataset
            header = header_of("crossed", config, number, ids, label_of)
            cells.append(CrossedResult(**header, arms=tuple(made), curves={}))
    return cells


def tuning_of(config: Crossed) -> list[TuningResult]:
    """The results of tuning that lead to these choices."""
    return [
        TuningResult(**header_of("tuning", config.design, fold, ["v"]), choices=choices, search={}, curves={})
        for fold, choices in enumerate(config.choices)
    ]


def design_of(dataset: str, regime: Any = "stable", **fields: Any) -> Design:
    """A design for a data set of that name."""
    design = DESIGNS["writers-stable"]
    return replace(design, setting=replace(design.setting, dataset=dataset), regime=regime, **fields)
