"""The figures of claim 3 show what is in the recorded cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from small_results import crossed_design, crossed_results

from fl_meta.evidence.crossed_tables import centralized_table
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.experiments.crossed_settings import CENTRALIZED, CENTRALIZED_SGD, FEDAVG, matched_arms
from fl_meta.plots import centralized_figure, curve_plot, matched_and_best_cartoon
from fl_meta.plots.curves import mean_curves


def cells_of() -> list[CrossedResult]:
    """Two folds, four replicates. FedAvg ends 4 points higher, and gains 1 more at the match with SGD."""
    _, fedavg_at_match = matched_arms(CENTRALIZED_SGD)
    cells = crossed_results(crossed_design(), {FEDAVG: (1, 4), fedavg_at_match: (0, 1)})
    return [replace(cell, curves={arm: curve(cell) for arm in (FEDAVG, *CENTRALIZED)}) for cell in cells]


def curve(cell: CrossedResult) -> tuple[tuple[int, float, float], ...]:
    """Fold 1 trains twice as long as fold 0, and is 10 points higher; each replicate is 2 points higher."""
    replicate, fold = divmod(cell.seed, 2)
    higher = (10 * fold + 2 * replicate) / 100
    return tuple((n * (1 + fold), 0.1 * n + higher, 0.1 * n + 0.2 + higher) for n in (1, 2, 4))


def drawn(axes: Axes, name: str) -> tuple[np.ndarray, np.ndarray]:
    (line,) = [line for line in axes.lines if line.get_label() == name]
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_curves_are_means_over_folds_at_shares_of_training() -> None:
    cells = cells_of()
    for order in (cells, cells[::-1]):
        shares, accuracy = mean_curves(order, FEDAVG)
        np.testing.assert_allclose(shares, [0.25, 0.5, 1])
        np.testing.assert_allclose(accuracy[0], [[15, 25, 45], [17, 27, 47], [19, 29, 49], [21, 31, 51]])
        np.testing.assert_allclose(accuracy[1], accuracy[0] + 20)


def test_a_curve_is_the_mean_over_replicates_with_a_band_around_it() -> None:
    figure = curve_plot(cells_of(), [FEDAVG, CENTRALIZED_SGD])
    initial, personalized = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["initial accuracy", "personalized accuracy"]
    np.testing.assert_allclose(drawn(initial, FEDAVG), [[0.25, 0.5, 1], [18, 28, 48]])
    np.testing.assert_allclose(drawn(personalized, CENTRALIZED_SGD), [[0.25, 0.5, 1], [38, 48, 68]])
    band = initial.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(15) and band[:, 1].max() == pytest.approx(51)
    assert "share of its own training" in initial.get_xlabel()


def test_cells_without_the_curve_are_refused() -> None:
    cells = cells_of()
    with pytest.raises(
        ValueError, match="cell 0 has no curve of 'Reptile, Adam'; the first cell has FedAvg, "
    ):
        curve_plot(cells, ["Reptile, Adam"])
    shorter = [replace(cells[0], curves={FEDAVG: cells[0].curves[FEDAVG][1:]}), *cells[1:]]
    with pytest.raises(ValueError, match="'FedAvg' have different numbers of points"):
        mean_curves(shorter, FEDAVG)


def test_a_row_for_both_comparisons_with_each_centralized_optimizer() -> None:
    cells = cells_of()
    without = [replace(cell, curves={}) for cell in cells]
    table = centralized_table([cells, [], without])
    assert table.arm.tolist() == [arm for arm in CENTRALIZED for _ in range(2)]
    effects = table.set_index(["arm", "comparison"]).effect
    assert effects[CENTRALIZED_SGD, "matched"] == pytest.approx(1, abs=0.1)
    for arm in CENTRALIZED:
        assert effects[arm, "best"] == pytest.approx(4, abs=0.1)
    for arm in CENTRALIZED[1:]:
        assert effects[arm, "matched"] == pytest.approx(0, abs=0.1)
    assert (table.low < table.effect).all() and (table.effect < table.high).all()
    assert set(table.margin) == {1.0} and set(table.dataset) == {"toy (synthetic)"}
    assert centralized_table([without]).empty


def test_the_figure_has_every_effect_with_its_interval() -> None:
    table = pd.concat([centralized_table([cells_of()]).assign(dataset=name) for name in ("one", "two")])
    table[["effect", "low", "high"]] += np.arange(len(table))[:, None] / 100  # no two are equal
    figure = centralized_figure(table)
    for axes, comparison in zip(figure.axes, ("matched", "best"), strict=True):
        rows = table[table.comparison == comparison]
        points = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "None"]
        assert sorted(points) == pytest.approx(sorted(rows.effect))
        intervals = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
        for ends in rows[["low", "high"]].to_numpy():
            assert any(np.allclose(ends, interval) for interval in intervals)
    assert {"SGD", "Adam"} <= {text.get_text() for text in figure.texts}


def test_what_cannot_be_drawn_is_refused() -> None:
    table = centralized_table([cells_of()])
    with pytest.raises(ValueError, match="rival table has no rows"):
        centralized_figure(table[:0])
    with pytest.raises(ValueError, match="arm 'LAMB' of the rival table is not one of centralized SGD"):
        centralized_figure(table.replace({"arm": {CENTRALIZED_SGD: "LAMB"}}))
    with pytest.raises(ValueError, match="two rows for toy"):
        centralized_figure(pd.concat([table, table]))


def test_in_the_cartoon_the_two_comparisons_differ() -> None:
    left, right = matched_and_best_cartoon().axes

    def arrows(axes: Axes) -> list[tuple[float, float]]:
        found = [text for text in axes.texts if getattr(text, "arrow_patch", None)]
        return [(text.xyann[1], text.xy[1]) for text in found]

    (a_start, a_end), (b_start, b_end) = arrows(left)
    assert a_start == b_start and a_end > b_end
    (a_start, a_end), (b_start, b_end) = arrows(right)
    assert a_end - a_start > b_end - b_start and a_end < b_end
