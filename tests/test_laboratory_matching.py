"""Matching FedAvg's model and a centralized one at any initial accuracy, on paths whose gains are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_results import crossed_design, crossed_results, write_design

from fl_meta.evidence.crossed_rules import differences
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED,
    CENTRALIZED_ADAM,
    CENTRALIZED_SGD,
    DESIGNS,
    FEDAVG,
    matched_arms,
)
from fl_meta.laboratories import TARGETS, match_elsewhere, matched_everywhere, personalized_at
from fl_meta.laboratories.panel import Panel

Curve = tuple[tuple[int, float, float], ...]


def curve(points: float, initial: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)) -> Curve:
    """A path whose gain is so many points, from any initial accuracy."""
    return tuple((round(10 * 2**i), at, at + points / 100) for i, at in enumerate(initial))


def cells_of(design: str = "writers-stable") -> list[CrossedResult]:
    """Two folds and four replicates. Replicate r of FedAvg gains 10 + r points, the rivals gain 8."""
    toy = crossed_design() if design == "writers-stable" else DESIGNS[design]
    cells = crossed_results(toy, {})
    return [
        replace(
            cell,
            curves={FEDAVG: curve(10 + cell.seed // toy.folds)}
            | dict.fromkeys(CENTRALIZED, curve(8))
            | {CENTRALIZED_ADAM: curve(8, (0.2, 0.35, 0.5, 0.6))},
        )
        for cell in cells
    ]


def test_where_a_path_first_reaches_an_accuracy() -> None:
    path = ((1, 0.3, 0.4), (2, 0.5, 0.8), (4, 0.4, 0.7), (8, 0.6, 0.9))
    targets = np.array([20, 30, 40, 45, 50, 55, 60, 61])
    # 45 lies before the path falls back; 55 after it, three quarters of the way from 40 to 60.
    expected = [np.nan, 40, 60, 70, 80, 85, 90, np.nan]
    np.testing.assert_allclose(personalized_at(path, targets), expected)


def test_a_replicate_is_the_mean_over_its_folds() -> None:
    cells = cells_of()
    assert (TARGETS[0], TARGETS[-1]) == (1, 99)
    place = list(TARGETS).index(50)
    for order in (cells, cells[::-1]):
        found = matched_everywhere(order, FEDAVG)
        assert found.shape == (4, len(TARGETS))
        np.testing.assert_allclose(found[:, place], [60, 61, 62, 63])
    assert np.isnan(found[:, list(TARGETS).index(71)]).all()


@pytest.fixture
def panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Panel:
    monkeypatch.setenv("FL_META_RECORDED", str(tmp_path))
    monkeypatch.setitem(DESIGNS, "toy-stable", crossed_design())
    write_design(tmp_path, cells_of())
    return match_elsewhere("toy-stable", target=50)


def test_the_panel_tells_the_difference_of_the_gains(panel: Panel) -> None:
    # FedAvg gains 10 to 13 points, the rivals 8.
    assert "FedAvg's model is personalized to 61.5 %, that of centralized SGD to 58.0 %" in panel.words.value
    assert "differ by +3.5 points; in single replicates by +2.0 to +5.0" in panel.words.value
    assert (panel.controls["target"].min, panel.controls["target"].max) == (10, 70)
    before = panel.picture.value
    panel.set(target=30)
    assert "personalized to 41.5 %" in panel.words.value and panel.picture.value != before


def test_where_a_rival_never_comes_nothing_is_compared(panel: Panel) -> None:
    for target in (15, 65):
        panel.set(rival=CENTRALIZED_ADAM, target=target)
        assert f"At {target} % there is nothing to compare" in panel.words.value
    panel.set(target=20)
    assert "The gains differ by +3.5 points" in panel.words.value


def test_the_mark_is_where_the_recorded_test_matched(panel: Panel) -> None:
    right = panel.figure.axes[1]
    marks = [line for line in right.lines if line.get_label() == "where the recorded test matches"]
    theirs, ours = matched_arms(CENTRALIZED_SGD)
    cells = cells_of()
    effect = np.concatenate(differences(cells, [ours], [theirs], "gain"), axis=1).mean()
    assert marks[0].get_xdata()[0] == pytest.approx(50, abs=0.1)
    assert marks[0].get_ydata()[0] == pytest.approx(effect)


def test_what_cannot_be_shown_is_refused(panel: Panel) -> None:
    with pytest.raises(ValueError, match="no design 'writers'; there are writers-stable"):
        match_elsewhere("writers")
    with pytest.raises(ValueError, match="no centralized training is recorded for 'writers-stable'"):
        match_elsewhere("writers-stable")
    with pytest.raises(ValueError, match="centralized with: 'FedAvg' is unknown"):
        match_elsewhere("toy-stable", rival=FEDAVG)
    with pytest.raises(ValueError, match="80 is out of bounds; choose a number from 10 to 70"):
        match_elsewhere("toy-stable", target=80)
