"""Recorded results and experiments of the smallest size, which several tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fl_meta.evidence.crossed_results import seeds_of, with_choices
from fl_meta.evidence.result_files import file_name, write_result
from fl_meta.evidence.result_types import CrossedResult, DataFingerprint, Experiment, TuningResult
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED,
    DESIGNS,
    FEDAVG,
    FEDSGD,
    SMALL_E,
    Choice,
    Crossed,
    Design,
    matched_arms,
    second_stage_arms,
)
from fl_meta.experiments.outcomes import Accuracies, CrossedArm, TriedRate
from fl_meta.experiments.settings import Setting
from fl_meta.experiments.table_one_settings import CrossedTableOne, TableOne

RESULTS = Path(__file__).parent.parent / "data" / "results"


def tiny(**fields: Any) -> CrossedTableOne:
    """A Table 1 that is small enough to be computed for real."""
    usual: dict[str, Any] = {
        "setting": Setting("writers", "mlp", least=20, most=20, num_clients=4),
        "folds": 2,
        "clients_per_round": (2,),
        "local_epochs": (1,),
        "client_rate": 0.1,
        "rounds": 1,
        "every": 1,
        "personalization_epochs": 1,
        "threshold": 0.5,
    }
    table = TableOne(**usual | fields)
    return CrossedTableOne(table, work=max(table.local_epochs) * table.every)


TINY = tiny()


def rows(values: Any) -> Accuracies:
    """An array of accuracies as results keep it: a tuple of rows."""
    return tuple(map(tuple, np.asarray(values).tolist()))


def header_of(
    kind: str, config: Experiment, seed: int, clients: Sequence[str], label: str = "toy (synthetic)"
) -> dict[str, Any]:
    """The fields with which every result begins."""
    return {
        "format": 1,
        "kind": kind,
        "config": config,
        "seed": seed,
        "data": DataFingerprint("toy", label, ""),
        "fl_meta": "0",
        "torch": "0",
        "machine": "",
        "seconds": 0.0,
        "clients": tuple(clients),
    }


def crossed_design(**fields: Any) -> Design:
    """A design with two folds; the other fields are those of a recorded one."""
    return replace(DESIGNS["writers-stable"], **{"folds": 2} | fields)


def tuning_of(design: Design, fold: int, **fields: Any) -> TuningResult:
    """What tuning chose if every grid had its best rate in the middle, and how good that was."""
    arms = [FEDAVG, *second_stage_arms(), FEDSGD, SMALL_E]
    arms += CENTRALIZED if design.centralized_rates else ()
    choices = tuple(Choice(arm, 0.1, 60, "flat", 0.1) for arm in arms)
    tried = tuple(TriedRate(rate, 0.6 + (rate == 0.1) / 10, 60) for rate in (0.03, 0.1, 0.3))
    outcome = {"choices": choices, "search": dict.fromkeys(arms, tried), "curves": {}}
    return TuningResult(**header_of("tuning", design, fold, ["v"]) | outcome | fields)


def cell_of(
    config: Crossed, seed: int, above: Mapping[str, tuple[float, float]], spread: float = 0.001
) -> CrossedResult:
    """A simulated cell: every arm is so many points above 50 (initial) and 60 (personalized), with luck."""
    luck = np.random.default_rng(seed)
    arms = [choice.arm for choice in config.choices[0]]
    arms += [arm for name in arms if name in CENTRALIZED for arm in matched_arms(name)]
    accuracy = {
        arm: np.array([[0.5], [0.6]])
        + np.array([above.get(arm, (0, 0))]).T / 100
        + luck.normal(0, spread, (2, 10))
        for arm in arms
    }
    clients = [f"client {number}" for number in range(10)]
    label = "toy (synthetic)"
    return CrossedResult(
        **header_of("crossed", config, seed, clients, label),
        arms=tuple(CrossedArm(arm, 60, 100, rows(values)) for arm, values in accuracy.items()),
        curves={},
    )


def crossed_results(
    design: Design, above: Mapping[str, tuple[float, float]], replicates: int = 4, **fields: Any
) -> list[CrossedResult]:
    """Simulated cells of every fold and replicate of a design."""
    config = with_choices(design, [tuning_of(design, fold) for fold in range(design.folds)])
    seeds = seeds_of(design, range(replicates))
    return [cell_of(config, seed, above, **fields) for seed in seeds]


def write_design(folder: Path, cells: Sequence[CrossedResult]) -> None:
    """The files of a simulated design."""
    design = cells[0].config.design
    write_all([*(tuning_of(design, fold) for fold in range(design.folds)), *cells], folder)


def write_all(results: Sequence[CrossedResult | TuningResult], folder: Path) -> list[Path]:
    """Write results under their own names, as a computation does."""
    paths = [folder / file_name(result.config, result.seed) for result in results]
    for result, path in zip(results, paths, strict=True):
        write_result(result, path)
    return paths
