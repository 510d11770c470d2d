"""The figures of Table 1: what is drawn is what the tables say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from small_tables import drawn, levels, results_of

from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.evidence.table_one_runs import table_one_spreads
from fl_meta.experiments.paper_table_one import PAPER_TABLE_ONE
from fl_meta.plots.table_one import paper_table_plot, table_plot

ROUNDS = levels((50, 60, 55, 50), (70, 75, 80, 75), (60, 65, 70, 75), (80, 85, 90, 85))
WORK = levels((55, 50, 45, 40), (75, 70, 65, 60))


@pytest.fixture(scope="module")
def results() -> list[CrossedTableOneResult]:
    tables = (drawn(np.random.default_rng(seed), truth) for seed, truth in enumerate((ROUNDS, WORK)))
    return results_of(*tables)


def lines_of(axes: Axes) -> Mapping[str, Sequence[float]]:
    """The values of each line with a name."""
    return {
        str(bars.get_label()): np.asarray(bars.lines[0].get_ydata()).tolist()
        for bars in axes.containers
        if not str(bars.get_label()).startswith("_")
    }


def test_every_panel_has_the_means_of_its_half_and_reading(results: list[CrossedTableOneResult]) -> None:
    figure = table_plot(results)
    assert "toy (synthetic)" in figure.get_suptitle()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        f"{clients} clients a round, {reading}"
        for clients in (5, 20)
        for reading in ("equal rounds", "equal work")
    ]
    for place, axes in enumerate(figure.axes):
        clients, reading = (5, 20)[place // 2], ("equal_rounds", "equal_work")[place % 2]
        table = 100 * table_one_spreads(results, reading).loc[clients]
        shown = lines_of(axes)
        assert shown["initial"] == pytest.approx(table.initial.tolist())
        assert shown["personalized"] == pytest.approx(table.personalized.tolist())
        assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "5", "10", "20"]
        # Bars are the spread over the runs of a fold.
        (segments,) = axes.containers[0].lines[2]
        lengths = [np.ptp(segment[:, 1]) for segment in segments.get_segments()]
        assert lengths == pytest.approx((2 * table.initial_spread).tolist())


def test_ones_own_run_is_drawn_where_it_belongs(results: list[CrossedTableOneResult]) -> None:
    own = pd.DataFrame(
        {
            "clients_per_round": 5,
            "local_epochs": [2, 20],
            "reading": ["equal_rounds", "equal_work"],
            "measure": ["initial", "personalized"],
            "accuracy": [0.51, 0.62],
            "low": [0.4, 0.5],
            "high": [0.6, 0.7],
        }
    )
    panels = table_plot(results, own).axes
    stars = [
        [
            (round(float(x)), float(y))
            for line in axes.lines
            if line.get_marker() == "*"
            for x, y in line.get_xydata()  # type: ignore[union-attr]
        ]
        for axes in panels
    ]
    assert stars == [[(2, 51.0)], [(22, 62.0)], [], []]
    assert "your run" in [text.get_text() for text in panels[0].get_legend().get_texts()]
    drawn_paths = [path for lines in panels[0].collections for path in lines.get_paths()]
    ends = [path.vertices[:, 1].tolist() for path in drawn_paths]  # type: ignore[index]
    assert any(one == pytest.approx([40, 60]) for one in ends), "where another run is expected"


def test_the_papers_table_is_drawn() -> None:
    five, twenty = paper_table_plot().axes
    assert lines_of(five)["initial"] == pytest.approx([74.73, 80.28, 78.79, 74.30])
    assert lines_of(twenty)["personalized"] == pytest.approx([89.57, 90.57, 90.32, 89.53])


def test_the_papers_table_is_the_papers() -> None:
    gain = PAPER_TABLE_ONE.personalized - PAPER_TABLE_ONE.initial
    assert (round(gain.min(), 4), round(gain.max(), 4)) == (0.0552, 0.1352)
    # What the paper prints in bold.
    for column, best in (("initial", (5, 10)), ("personalized", (10, 5))):
        values = PAPER_TABLE_ONE[column].unstack()
        assert tuple(values.idxmax(axis=1)) == best
