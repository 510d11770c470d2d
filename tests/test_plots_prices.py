"""The figure of premise and price shows every row of the table where it belongs, and can be read."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from test_plots_evidence import CNN, DATASETS, require_readable

from fl_meta.experiments.crossed_settings import FEDSGD, SMALL_E
from fl_meta.experiments.outcomes import BOTH
from fl_meta.plots import price_plot
from fl_meta.plots.intervals import REGIMES


def rival_table(regimes: tuple[str, ...] = tuple(REGIMES)) -> pd.DataFrame:
    """A table as large as the real one can be."""
    random, rows = np.random.default_rng(0), []
    for dataset, regime, rival, measure in product(DATASETS, regimes, (FEDSGD, SMALL_E), BOTH):
        if dataset == CNN and regime == "stable":
            continue
        effect, half = random.normal(0, 0.6), random.uniform(0.1, 1.0)
        numbers = {"effect": effect, "low": effect - half, "high": effect + half}
        rows.append({"dataset": dataset, "regime": regime, "rival": rival, "measure": measure} | numbers)
    return pd.DataFrame(rows)


def test_a_cross_has_initial_accuracy_across_and_personalized_accuracy_up() -> None:
    table = rival_table()
    figure = price_plot(table)
    assert len(figure.axes) == 4
    handles = {line.get_label(): line for line in figure.legends[0].legend_handles}
    places = product(REGIMES, (FEDSGD, SMALL_E))
    for axes, (regime, rival) in zip(figure.axes, places, strict=True):
        here = table[(table.regime == regime) & (table.rival == rival)]
        drawn = [line.get_xydata().tolist() for line in axes.lines]
        for dataset, pair in here.groupby("dataset"):
            across, up = (pair.set_index("measure").loc[measure] for measure in BOTH)
            at = [line for line in axes.lines if line.get_xydata().tolist() == [[across.effect, up.effect]]]
            assert {line.get_marker() for line in at} == {handles[dataset].get_marker()}
            assert [[across.low, up.effect], [across.high, up.effect]] in drawn
            assert [[across.effect, up.low], [across.effect, up.high]] in drawn
        assert axes.get_xlim() == axes.get_ylim() == figure.axes[0].get_xlim()


def test_the_claims_quarter_is_the_lower_right_one() -> None:
    axes = price_plot(rival_table()).axes[0]
    claim, unmet = (shade.get_datalim(axes.transData) for shade in axes.collections)
    assert (claim.x0, claim.y1) == (0, 0) and claim.x1 > 0 and claim.y0 < 0
    assert unmet.x1 == 0 and unmet.y0 < 0 < unmet.y1
    (words,) = [text for text in axes.texts if "the claim" in text.get_text()]
    assert words.get_position()[0] > 0.5 > words.get_position()[1]


def test_one_regime_alone_is_one_row() -> None:
    figure = price_plot(rival_table(("unstable",)))
    assert len(figure.axes) == 2
    assert not any("stable: 20" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize("regimes", [("unstable",), tuple(REGIMES)])
def test_it_can_be_read(regimes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    require_readable(price_plot(rival_table(regimes)), monkeypatch)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="rival table has no rows"):
        price_plot(rival_table()[:0])
    with pytest.raises(ValueError, match="measure 'gain' of the rival table is not one of initial, pers"):
        price_plot(rival_table().replace({"measure": {"initial": "gain"}}))
    twice = pd.concat([rival_table()] * 2)
    with pytest.raises(ValueError, match="two rows for FedSGD with Adam, writers"):
        price_plot(twice)
