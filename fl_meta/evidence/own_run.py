"""One run of one's own beside the recorded ones: does it lie where another run of theirs would?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from fl_meta.evidence.crossed_results import recorded_cells
from fl_meta.evidence.crossed_rules import LEAST_REPLICATES, MOST_REPLICATES, claim_tests, differences
from fl_meta.evidence.crossed_words import rows_of
from fl_meta.evidence.paired_spreads import another_run, run_means
from fl_meta.evidence.result_files import name_without_seed, read_result
from fl_meta.evidence.result_types import CrossedResult, Result
from fl_meta.evidence.results import load_or_run, own_folder, recorded_folder
from fl_meta.experiments.crossed_settings import DESIGNS, Choice, Crossed
from fl_meta.experiments.settings import PROFILES, for_profile
from fl_meta.support.text_table import signed

LEVEL = 0.95
# Of a run that only shows that everything works.
# 24 of the clients train, and 20 of them take part in a round of the stable regime.
SHORT_ROUNDS, SHORT_STEPS, FEW_CLIENTS = 4, 40, 45


@dataclass(frozen=True)
class YourRun:
    """A run of a recorded design that was computed here, and what it says.

    Attributes:
        run: its result: one fold and one replicate, which is none of the recorded ones.
        cells: the recorded results of the design.
        effects: the table of `beside_recorded`; of a shortened run, what is expected is NaN.

    Example:
        >>> own = your_run("writers-unstable", "laptop", seed=0)  # doctest: +SKIP
        >>> print(own.sentence("2a-initial"))  # doctest: +SKIP
    """

    run: CrossedResult
    cells: list[CrossedResult]
    effects: pd.DataFrame

    def sentence(self, claim: str) -> str:
        """What the run says about a test of a claim, beside the recorded runs.

        Raises:
            KeyError: if the design has no such test.
        """
        if claim not in set(self.effects.claim):
            raise KeyError(f"no test {claim!r}; there are {', '.join(self.effects.claim)}")
        (row,) = rows_of(self.effects, claim)
        found = f"On {row['dataset']}, {row['regime']} regime, the effect in your run is "
        found += f"{signed(row['effect'])} points"
        if np.isnan(row["low"]):
            return f"{found}. The run was shortened and cannot be compared with recorded ones."
        low, high = signed(row["low"]), signed(row["high"])
        place = "within" if row["within"] else "outside"
        return (
            f"{found}. In another run of the same fold it is expected between {low} and {high}, 19 times in "
            f"20: your run lies **{place}** the spread of the recorded runs."
        )


def your_run(
    name: str, profile: str, seed: int, *, executor: Executor | None = None, progress: bool = True
) -> YourRun:
    """Compute one fold and one replicate of a recorded design, with the rates that were chosen for it.

    The replicate is none of the recorded ones, so the run is a new draw from their distribution. What was
    computed is kept in `own_folder`. With the profile 'smoke' the run is shortened to a few rounds and
    clients, and says nothing.

    Args:
        name: of `DESIGNS`.
        seed: chooses the fold, by its remainder, and the replicate.
        executor: as in `load_or_run`.

    Raises:
        FileNotFoundError: if there is no folder of recorded results.
        ValueError: if there is no such design or profile, or too little is recorded of it.
        ResultError: if a recorded file cannot be used.

    Example:
        >>> own = your_run("writers-unstable", "laptop", seed=0)  # doctest: +SKIP
        >>> own.effects[["claim", "effect", "within"]]  # doctest: +SKIP
    """
    short = is_short(profile)
    if name not in DESIGNS:
        raise ValueError(f"no design {name!r}; there are {', '.join(DESIGNS)}")
    design, folder = DESIGNS[name], recorded_folder()
    cells = recorded_cells(design, folder)
    own = own_seed(seed, design.folds, cells, f"cells of {name} in {folder}", f"crossed-{name}")
    config = _shortened(cells[0].config) if short else cells[0].config
    (run,) = load_or_run(config, [own], own_folder(), executor=executor, progress=progress)
    effects = _effects(run, cells) if short else beside_recorded(run, cells)
    return YourRun(run, cells, effects)


def is_short(profile: str) -> bool:
    """Whether a run is shortened with this profile.

    Raises:
        ValueError: if there is no such profile.
    """
    return for_profile({one: one == "smoke" for one in PROFILES}, profile)


def own_seed(seed: int, folds: int, recorded: Sequence[Result], what: str, experiment: str) -> int:
    """The seed of a replicate that is never recorded, if enough is recorded to compare it with.

    Args:
        seed: its remainder by the number of folds is the fold.
        what: the recorded results, as an error calls them.
        experiment: the name by which `fl-meta record` computes them.

    Raises:
        ValueError: if too little is recorded.
    """
    if len(recorded) < LEAST_REPLICATES * folds:
        raise ValueError(
            f"{len(recorded)} recorded {what}, and a comparison takes {LEAST_REPLICATES * folds}; compute "
            f"them with: fl-meta record {experiment}"
        )
    # Recorded replicates are numbered from 0, and there are never more than this.
    return folds * MOST_REPLICATES + seed


def own_runs(designs: Iterable[Sequence[CrossedResult]], folder: Path) -> pd.DataFrame:
    """The tables of `beside_recorded` of all runs in a folder of the same designs, one below the other.

    Args:
        designs: the recorded cells of each design.
        folder: of one's own results; runs that were shortened are of other designs.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> own_runs(recorded_designs(recorded_folder()).values(), own_folder())  # doctest: +SKIP
    """
    tables = []
    for cells in designs:
        for path in sorted(folder.glob(f"{name_without_seed(cells[0].config)}-seed*.json")):
            run = read_result(path)
            if isinstance(run, CrossedResult):
                tables.append(beside_recorded(run, cells))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def beside_recorded(run: CrossedResult, cells: Sequence[CrossedResult], level: float = LEVEL) -> pd.DataFrame:
    """For every test, the effect in one run and where another run of the same fold is expected.

    A single run decides nothing. But if it was computed as the recorded ones were, its effect lies in the
    prediction interval of its fold (`another_run`) about `level` of the time. The row says whether it does.

    Returns:
        columns claim, statement, dataset, regime, effect, recorded (mean of the fold's recorded runs), low,
        high (points) and within.

    Raises:
        ValueError: if the run is of another design than the cells, or if fewer than two replicates are
            recorded.

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
    table, fold = _effects(run, cells), run.seed % run.config.folds
    for i, test in enumerate(claim_tests(cells)):
        means = run_means(
            differences(cells, [test.better], [test.worse], test.measure)
        )  # [folds, replicates]
        expected = another_run(means, fold, level)
        table.loc[i, ["recorded", "low", "high"]] = expected.estimate, expected.low, expected.high
        table.loc[i, "within"] = expected.low <= table.effect[i] <= expected.high
    return table


def _effects(run: CrossedResult, cells: Sequence[CrossedResult]) -> pd.DataFrame:
    """The table of `beside_recorded` without what is expected."""
    rows = []
    for test in claim_tests(cells):
        (own,) = differences([run], [test.better], [test.worse], test.measure)
        rows.append(
            {
                "claim": test.claim,
                "statement": test.statement,
                "dataset": run.label,
                "regime": run.config.regime,
                "effect": float(own.mean()),
                "recorded": np.nan,
                "low": np.nan,
                "high": np.nan,
                "within": False,
            }
        )
    return pd.DataFrame(rows)


def _shortened(config: Crossed) -> Crossed:
    """The same with few clients and rounds."""

    def short(choice: Choice) -> Choice:
        most = SHORT_STEPS if choice.arm.startswith("centralized") else SHORT_ROUNDS
        return replace(choice, rounds=min(choice.rounds, most))

    setting = replace(config.setting, num_clients=FEW_CLIENTS)
    design = replace(config.design, setting=setting, second_stage_rounds=SHORT_ROUNDS)
    return Crossed(design, tuple(tuple(map(short, fold)) for fold in config.choices))
