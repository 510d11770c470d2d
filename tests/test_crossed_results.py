"""Result files of the crossed design: which are read, what is refused, and the table of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from simulated_cells import ARMS, config_of, design_of, effects, simulated, tuning_of
from small_results import write_all

from fl_meta.evidence.crossed_results import COLUMNS, crossed_table, recorded_cells, recorded_tuning
from fl_meta.evidence.crossed_tables import evidence_table
from fl_meta.evidence.result_files import ResultError, file_name
from fl_meta.experiments.crossed_settings import CONTINUED, FEDAVG, REPTILE

CONFIG = config_of(design_of("toy"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tuning, and four replicates of a design."""
    write_all(tuning_of(CONFIG), tmp_path)
    write_all(simulated(CONFIG, effects(1.5)), tmp_path)
    return tmp_path


def test_recorded_cells_are_what_was_written(folder: Path) -> None:
    cells = simulated(CONFIG, effects(1.5))
    found = recorded_cells(CONFIG.design, folder)
    assert found == cells
    assert [cell.seed for cell in found] == list(range(12))
    pd.testing.assert_frame_equal(evidence_table([found]), evidence_table([cells]))
    table = evidence_table([found])
    assert table.columns.tolist()[:5] == ["claim", "statement", "dataset", "regime", "replicates"]
    assert set(table.replicates) == {4} and set(table.clients) == {60}
    assert (table.low < 1.5).all() and (table.high > 1.5).sum() >= 6


def test_a_replicate_of_which_a_fold_is_missing_ends_the_list(folder: Path) -> None:
    # Fold 1 of replicate 2 has seed 7.
    (folder / file_name(CONFIG, 7)).unlink()
    assert [cell.seed for cell in recorded_cells(CONFIG.design, folder)] == list(range(6))
    (folder / file_name(CONFIG, 0)).unlink()
    assert recorded_cells(CONFIG.design, folder) == []


def test_without_the_tuning_of_every_fold_there_are_no_cells(folder: Path) -> None:
    assert [result.seed for result in recorded_tuning(CONFIG.design, folder)] == [0, 1, 2]
    (folder / file_name(CONFIG.design, 2)).unlink()
    assert recorded_tuning(CONFIG.design, folder) == [] == recorded_cells(CONFIG.design, folder)
    assert recorded_cells(CONFIG.design, folder / "nowhere") == []


def test_cells_of_other_choices_are_others(folder: Path) -> None:
    other = config_of(CONFIG.design, rate=0.3)
    write_all(tuning_of(other), folder)
    assert recorded_cells(CONFIG.design, folder) == []


def test_the_tidy_table_has_a_row_for_each_client_of_each_arm(folder: Path) -> None:
    config = config_of(design_of("unipen62", "unstable"))
    more = simulated(config, {}, replicates=1, arms=[FEDAVG, REPTILE], label="UNIPEN")
    write_all(more, folder)
    table = crossed_table(str(folder))
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 4 * 60 * len(ARMS) + 60 * 2
    keys = ["dataset", "model", "regime", "arm", "fold", "replicate", "client"]
    assert not table.duplicated(keys).any()
    by_key = table.set_index(keys).sort_index()
    for cell, replicate in [
        *((cell, cell.seed // 3) for cell in simulated(CONFIG, effects(1.5))),
        *((c, 0) for c in more),
    ]:
        regime = cell.config.design.regime
        for arm in cell.arms:
            found = by_key.loc[(cell.label, "mlp", regime, arm.name, cell.seed % 3, replicate)]
            assert tuple(found.index) == cell.clients
            assert (tuple(found.initial), tuple(found.personalized)) == arm.accuracy
    # The same effect from the table as from the cells.
    means = table[table.dataset == "toy"].pivot_table(index="client", columns="arm", values="initial")
    effect = 100 * (means[REPTILE] - means[CONTINUED]).mean()
    first = evidence_table([recorded_cells(CONFIG.design, folder)]).iloc[0]
    assert first.effect == pytest.approx(effect)


def test_a_folder_without_cells_and_one_that_is_missing(tmp_path: Path) -> None:
    write_all(tuning_of(CONFIG), tmp_path)
    table = crossed_table(tmp_path)
    assert table.empty and tuple(table.columns) == COLUMNS
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; give a folder of result files"):
        crossed_table(tmp_path / "nowhere")


def test_a_damaged_file_is_named(folder: Path) -> None:
    path = folder / file_name(CONFIG, 4)
    path.write_text(path.read_text()[:-20])
    for read in (lambda: crossed_table(folder), lambda: recorded_cells(CONFIG.design, folder)):
        with pytest.raises(ResultError, match=f"{path.name} is not a result file"):
            read()


@pytest.mark.parametrize("kind", ["tuning", "crossed"])
def test_a_file_of_another_experiment_is_named(folder: Path, kind: str) -> None:
    # Such as one that was renamed, or whose settings somebody changed by hand.
    config: Any = CONFIG.design if kind == "tuning" else CONFIG
    path = folder / file_name(config, 1)
    path.write_text(path.read_text().replace('"toy"', '"other"', 1))
    with pytest.raises(ResultError, match=f"{path.name} is of another experiment; delete it"):
        recorded_cells(CONFIG.design, folder)
    path.write_text((folder / file_name(config, 2)).read_text())
    with pytest.raises(ResultError, match=f"{path.name} is of another experiment; delete it"):
        recorded_cells(CONFIG.design, folder)
    if kind == "crossed":
        with pytest.raises(ResultError, match=f"{path.name} is of another experiment; delete it"):
            crossed_table(folder)
