"""Recording designs: tuned once, replicates until precise, resumed, by name and with any executor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from small_results import cell_of, crossed_design, tuning_of

from fl_meta.data.federated import FederatedDataset
from fl_meta.evidence import crossed_recording, results
from fl_meta.evidence.crossed_recording import record_design
from fl_meta.evidence.crossed_results import recorded_cells, recorded_designs, seeds_of
from fl_meta.evidence.crossed_rules import LEAST_REPLICATES, MOST_REPLICATES
from fl_meta.experiments.crossed_settings import DESIGNS, Crossed, Design
from fl_meta.experiments.outcomes import CrossedOutcome, TuningOutcome

Command = Callable[..., tuple[Any, str, str]]
DESIGN = crossed_design()


@dataclass
class Simulated:
    """Takes the place of tuning and training; `spread` is the luck of each cell."""

    spread: float = 0.001
    tuned: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)

    def tune(self, design: Design, seed: int) -> TuningOutcome:
        self.tuned.append(seed)
        result = tuning_of(design, seed)
        return TuningOutcome(result.clients, result.choices, result.search, result.curves)

    def train(self, config: Crossed, seed: int) -> CrossedOutcome:
        self.trained.append(seed)
        cell = cell_of(config, seed, {}, spread=self.spread)
        return CrossedOutcome(cell.clients, cell.arms, cell.curves)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch, tiny_images: FederatedDataset) -> Simulated:
    one = Simulated()
    for kind, run in (("tuning", one.tune), ("crossed", one.train)):
        changed = replace(results.EXPERIMENTS[kind], run=run, data=lambda config: tiny_images)
        monkeypatch.setitem(results.EXPERIMENTS, kind, changed)
    return one


def record(folder: Path, design: Design = DESIGN, replicates: int | None = None) -> int:
    """How many replicates there are after recording, one cell after the other."""
    with ThreadPoolExecutor(1) as pool:
        cells = record_design(design, folder, replicates=replicates, executor=pool, progress=False)
    assert cells == recorded_cells(design, folder)
    return len(cells) // design.folds


def test_precise_designs_have_the_least_replicates_and_others_the_most(
    simulated: Simulated, tmp_path: Path
) -> None:
    assert record(tmp_path / "precise") == LEAST_REPLICATES
    assert simulated.tuned == [0, 1] and simulated.trained == seeds_of(DESIGN, range(LEAST_REPLICATES))
    simulated.spread = 0.2
    assert record(tmp_path / "wide") == MOST_REPLICATES


def test_replicates_are_added_until_intervals_are_narrow(
    simulated: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        crossed_recording, "is_precise", lambda cells: seen.append(len(cells) // 2) or len(cells) >= 12
    )
    assert record(tmp_path) == 6 and seen == [4, 5, 6]


def test_a_design_is_continued_and_more_replicates_can_be_asked_for(
    simulated: Simulated, tmp_path: Path
) -> None:
    assert record(tmp_path, replicates=1) == 1
    assert recorded_designs(tmp_path) == {}, "of another design"
    simulated.tuned.clear()
    simulated.trained.clear()
    assert record(tmp_path) == 4
    assert simulated.tuned == [] and simulated.trained == seeds_of(DESIGN, [1, 2, 3])
    assert record(tmp_path, replicates=MOST_REPLICATES + 1) == MOST_REPLICATES + 1, "all of them are read"


def test_a_fold_that_is_missing_ends_the_replicates(simulated: Simulated, tmp_path: Path) -> None:
    record(tmp_path)
    sorted(tmp_path.glob("crossed-*-seed5.json"))[0].unlink()
    assert [one.seed for one in recorded_cells(DESIGN, tmp_path)] == [0, 1, 2, 3]
    sorted(tmp_path.glob("tuning-*-seed0.json"))[0].unlink()
    assert recorded_cells(DESIGN, tmp_path) == []


def test_designs_with_enough_replicates_for_a_verdict(simulated: Simulated, tmp_path: Path) -> None:
    few, enough = DESIGNS["writers-stable"], DESIGNS["writers-unstable"]
    record(tmp_path, few, replicates=LEAST_REPLICATES - 1)
    record(tmp_path, enough)
    assert list(recorded_designs(tmp_path)) == ["writers-unstable"]
    assert len(recorded_designs(tmp_path)["writers-unstable"]) == 3 * LEAST_REPLICATES


class Elsewhere(Executor):
    """An executor that is not from `concurrent.futures`: what it computes is written when it arrives here."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool, self.tasks = pool, list[Any]()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        self.tasks.append(function)
        return self.pool.submit(function, *arguments, **named)


def test_any_executor_can_record_a_design(simulated: Simulated, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        executor = Elsewhere(pool)
        cells = record_design(DESIGN, tmp_path, executor=executor, progress=False)
    assert cells == recorded_cells(DESIGN, tmp_path)
    assert executor.tasks == [results.compute] * (DESIGN.folds * (1 + LEAST_REPLICATES))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # whatever the cluster's own packages warn of
def test_a_dask_cluster_records_a_design(simulated: Simulated, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    options: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with (
        distributed.LocalCluster(dashboard_address=None, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        cells = record_design(DESIGN, tmp_path, executor=client.get_executor(), progress=False)
    assert [cell.seed for cell in cells] == seeds_of(DESIGN, range(LEAST_REPLICATES))
    assert cells == recorded_cells(DESIGN, tmp_path)


# The command ----------------------------------------------------------------------------------------------


@pytest.fixture
def recorded_designs_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl_meta.command_line.results.RECORDED_EXPERIMENTS", {"crossed-one": DESIGN})

    @contextmanager
    def processes(number: int) -> Any:
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr("fl_meta.evidence.processes.processes", processes)
    monkeypatch.setattr(results, "processes", processes)


@pytest.mark.usefixtures("recorded_designs_of_one")
def test_record_says_how_many_replicates_there_are_and_whether_they_are_enough(
    simulated: Simulated, tmp_path: Path, fl_meta: Command
) -> None:
    asked = ("record", "crossed-one", "--results", tmp_path, "--workers", 2)
    status, printed, progress = fl_meta(*asked, "--replicates", 1)
    assert (status, printed) == (
        0,
        "[1/1] crossed-one: 1 replicate of 2 folds; there are no intervals with fewer than 3\n",
    )
    assert "writers, mlp, stable, tuning" in progress and "writers, mlp, stable:" in progress
    _, printed, _ = fl_meta(*asked)
    assert printed == "[1/1] crossed-one: 4 replicates of 2 folds; every interval is narrow enough\n"
    assert len(simulated.trained) == 8, "the first replicate was there"


@pytest.mark.usefixtures("recorded_designs_of_one")
def test_record_names_the_tests_whose_intervals_are_too_wide(
    simulated: Simulated, tmp_path: Path, fl_meta: Command
) -> None:
    simulated.spread = 0.2
    _, printed, _ = fl_meta("record", "--results", tmp_path)
    assert "10 replicates of 2 folds; NOT narrow enough are the intervals of 2a-initial, " in printed
    assert all(claim in printed for claim in ("2b-FedSGD", "3-matched"))


@pytest.mark.slow
def test_a_script_that_its_processes_would_run_again_is_told_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from fl_meta.evidence import load_or_run\n"
        "from fl_meta.experiments import DESIGNS\n"
        "load_or_run(DESIGNS['writers-stable'], [0], Path('results'), progress=False)\n"
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and 'put what it does below: if __name__ == "__main__":' in done.stderr
