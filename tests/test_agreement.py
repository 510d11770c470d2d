"""Computed again: differences of cells in points and in spreads between replicates, and of tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from small_results import cell_of, crossed_design, crossed_results, tuning_of, write_design

from fl_meta.evidence import results
from fl_meta.evidence.agreement import agreement, arm_differences, recorded_replicates
from fl_meta.evidence.result_files import ResultError, file_name
from fl_meta.evidence.result_types import CrossedResult, TuningResult
from fl_meta.experiments.crossed_settings import FEDAVG, FEDSGD, REPTILE
from fl_meta.experiments.outcomes import TriedRate

Command = Callable[..., tuple[Any, str, str]]
DESIGN = crossed_design()


def exact(values: Mapping[int, float], arm: str = FEDAVG) -> list[CrossedResult]:
    """Cells of which an arm is exactly so many points above 50 (initial), by seed; the others are 50."""
    (cell, *_) = crossed_results(DESIGN, {}, replicates=1, spread=0)
    return [cell_of(cell.config, seed, {arm: (points, 0)}, spread=0) for seed, points in values.items()]


def test_the_difference_is_in_units_of_the_spread_between_replicates_of_the_fold() -> None:
    recorded = exact({0: 1.0, 2: 2.0, 4: 4.5})
    (again,) = exact({0: 3.0})
    found = {(one.arm, one.measure): one for one in arm_differences(recorded[0], again, recorded)}
    one = found[FEDAVG, "initial"]
    assert one.points == pytest.approx(2.0) and one.spread == pytest.approx(stdev([1.0, 2.0, 4.5]))
    assert one.spreads == pytest.approx(2.0 / stdev([1.0, 2.0, 4.5]))
    others = [one for key, one in found.items() if key != (FEDAVG, "initial")]
    assert len(others) == 2 * len(again.arms) - 1
    assert all(one.points == one.spreads == 0 for one in others), "no difference is none in any unit"


@pytest.mark.parametrize(
    ("moved", "replicates", "agrees"),
    [
        (1.9, 1, True),  # within two points, whatever the spread
        (2.1, 1, False),
        (2.1, 2, False),  # two say little of a spread
        (2.1, 3, True),  # spread 1: 2.1 of it
        (3.1, 3, False),
    ],
)
def test_two_points_or_three_spreads_are_allowed(moved: float, replicates: int, agrees: bool) -> None:
    recorded = exact({0: 0.0, 2: 1.0, 4: -1.0})
    (again,) = exact({0: moved})
    found = agreement(recorded[0], again, recorded[:replicates])
    assert found.agrees == agrees
    assert f"is {moved:.2f} points (FedAvg, initial)" in found.text
    assert ("fewer than 3 replicates are recorded" in found.text) == (replicates < 3)
    if replicates == 3:
        assert f"{moved:.1f} times the spread between the 3 recorded replicates" in found.text


def test_one_arm_that_is_far_away_is_enough_to_disagree() -> None:
    recorded = [replace(cell) for cell in exact({0: 0.0, 2: 4.0, 4: -4.0})]
    again = cell_of(recorded[0].config, 0, {FEDAVG: (5, 0), REPTILE: (0, 3)}, spread=0)
    found = agreement(recorded[0], again, recorded)
    assert not found.agrees, "FedAvg is within 2 spreads; Reptile, whose replicates are all equal, is not"
    assert "is 5.00 points (FedAvg, initial), and inf times" in found.text
    assert len(found.table.splitlines()) == 2 + 2 * len(again.arms)


def test_replicates_are_the_files_beside_it_of_the_same_fold(tmp_path: Path) -> None:
    cells = crossed_results(DESIGN, {}, replicates=3)
    write_design(tmp_path, cells)
    other = crossed_design(local_epochs=9)
    write_design(tmp_path, crossed_results(other, {}, replicates=1))
    path = tmp_path / file_name(cells[3].config, 3)
    assert sorted(one.seed for one in recorded_replicates(path, cells[3])) == [1, 3, 5]
    alone = tmp_path / "elsewhere" / "copy.json"
    alone.parent.mkdir()
    assert recorded_replicates(alone, cells[3]) == [cells[3]]
    assert recorded_replicates(path, tuning_of(DESIGN, 0)) == []
    (tmp_path / file_name(cells[0].config, 5)).write_text("{")
    with pytest.raises(ResultError, match=r"seed5\.json is not a result file"):
        recorded_replicates(path, cells[3])


def test_cells_and_tuning_of_different_things_are_not_compared() -> None:
    first, second = crossed_results(DESIGN, {}, replicates=1)
    with pytest.raises(ResultError, match="the results differ in seed: 0 and 1"):
        agreement(first, second)
    with pytest.raises(ResultError, match="the results differ in seed: 0 and 1"):
        agreement(tuning_of(DESIGN, 0), tuning_of(DESIGN, 1))


def tuned(validation: float, rate: float = 0.1) -> TuningResult:
    result = tuning_of(DESIGN, 0)
    tried = (TriedRate(0.1, validation, 60), TriedRate(0.3, 0.5, 60))
    changed = [replace(one, rate=rate) if one.arm == FEDSGD else one for one in result.choices]
    return replace(result, choices=tuple(changed), search={**result.search, FEDSGD: tried})


def test_of_a_tuning_validation_and_choices_are_compared() -> None:
    found = agreement(tuned(0.70), tuned(0.719))
    assert found.agrees and found.table == ""
    assert "validation accuracy is 1.90 points" in found.text and "the same options were chosen" in found.text
    assert not agreement(tuned(0.70), tuned(0.73)).agrees
    found = agreement(tuned(0.70), tuned(0.70, rate=0.3))
    assert found.agrees and "other options were chosen" in found.text
    assert found.table.splitlines()[2:] == ["FedSGD with Adam  rate    0.1       0.3"]


def test_what_only_one_tuning_has_tried_is_not_compared() -> None:
    result = tuned(0.7)
    more = replace(
        result, search={**result.search, FEDSGD: (*result.search[FEDSGD], TriedRate(1.0, 0.9, 60))}
    )
    assert agreement(result, more).agrees and agreement(more, result).agrees
    # An arm that only one of them has is another choice.
    fewer = replace(result, choices=result.choices[:-1])
    assert "centralized Adam" in agreement(result, fewer).table


def test_rerun_of_a_cell_says_spreads_and_the_exit_status(
    tmp_path: Path, fl_meta: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = exact({0: 0.0, 2: 1.0, 4: -1.0})
    write_design(tmp_path, cells)
    path = tmp_path / file_name(cells[0].config, 0)
    monkeypatch.setattr(results, "data_of", lambda config: type("Data", (), {"fingerprint": ""}))
    for moved, status, says in ((2.5, 0, "agrees"), (3.5, 1, "DOES NOT AGREE")):
        monkeypatch.setattr(results, "compute", lambda config, seed, moved=moved: exact({seed: moved})[0])
        ended, printed, _ = fl_meta("rerun", path)
        lines = printed.splitlines()
        assert ended == status
        difference = f"the largest difference of a mean accuracy is {moved:.2f} points"
        assert lines[0].startswith(f"{path}: {says}, {difference}")
        assert lines[3].split() == ["FedAvg", "initial", f"{moved:.2f}", f"{moved:.1f}"]
