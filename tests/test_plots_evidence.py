"""Figures of the crossed evidence show what is in its tables, and can be read at the width of the README."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from fl_meta.evidence import crossed_rules
from fl_meta.evidence.verdicts import MARKS
from fl_meta.experiments.crossed_settings import (
    CONTINUED,
    DESIGNS,
    SERVERS,
    UPDATES,
    second_stage_arm,
    second_stage_arms,
)
from fl_meta.experiments.outcomes import BOTH
from fl_meta.plots import evidence as evidence_plots
from fl_meta.plots import forest_plot, second_stage, second_stage_figure
from fl_meta.plots.intervals import REGIMES, limits

CNN = "mnist_by_writer, small_cnn"
DATASETS = ("writers (synthetic)", "shakespeare", "mnist_by_writer", "unipen62", "shakespeare_tff", CNN)
ARMS = second_stage_arms()


def evidence_table(datasets: tuple[str, ...] = DATASETS, regimes: Iterable[str] = REGIMES) -> Any:
    """A table as large as the real one, with claim 3 in one regime and the CNN in the other."""
    random, verdicts = np.random.default_rng(0), np.resize(crossed_rules.VERDICTS, 200)
    rows = []
    for dataset, test, regime in product(datasets, crossed_rules.CLAIM_TESTS, regimes):
        third = test.claim.startswith("3")
        if (third and regime == "unstable") or (dataset == CNN and (third or regime == "stable")):
            continue
        low, effect, high = np.sort(random.normal(0.5, 1.5, 3))
        margin = 1.0 if third or dataset == "unipen62" else 0.5
        header = (test.claim, test.statement, dataset, regime, verdicts[len(rows)])
        rows.append((*header, effect, low, high, margin, 4, 0.01))
    columns = "claim statement dataset regime verdict effect low high margin replicates p_holm"
    return pd.DataFrame(rows, columns=columns.split())


def second_stage_tables(
    datasets: tuple[str, ...] = DATASETS, regimes: Iterable[str] = REGIMES
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of arms and of causes: the server's optimizer helps, and the update does not."""
    random, verdicts = np.random.default_rng(0), np.resize(list(second_stage.CAUSES), 200)
    arms, causes = [], []
    for dataset, regime, measure in product(datasets, regimes, BOTH):
        if dataset == CNN and regime == "stable":
            continue
        here = {"dataset": dataset, "regime": regime, "measure": measure}
        for arm in ARMS:
            effect = 0.0 if arm == CONTINUED else 1.5 * ("as before" not in arm) + random.normal(0, 0.3)
            half = 0.0 if arm == CONTINUED else random.uniform(0.2, 1)
            arms.append({**here, "arm": arm, "effect": effect, "low": effect - half, "high": effect + half})
        for contrast in crossed_rules.CONTRASTS:
            numbers = {
                "effect": 0.2,
                "low": 0.1,
                "high": 0.3,
                "margin": 1.0 if dataset == "unipen62" else 0.5,
            }
            causes.append({**here, "contrast": contrast, **numbers, "verdict": verdicts[len(causes)]})
    return pd.DataFrame(arms), pd.DataFrame(causes)


def one_test(effect: float, low: float, high: float, **fields: Any) -> dict[str, Any]:
    usual = {"claim": "2a-initial", "statement": "Reptile is better", "dataset": "toy", "regime": "stable"}
    usual |= {"verdict": "undecided", "margin": 0.5}
    return usual | {"effect": effect, "low": low, "high": high} | fields


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Text, Bbox]]:
    """All texts that are drawn, with their boxes in pixels."""
    drawn, draw = [], Text.draw

    def record(self: Text, renderer: Any) -> None:
        if self.get_visible() and self.get_text().strip():
            drawn.append((self, self.get_window_extent(renderer)))
        draw(self, renderer)

    with monkeypatch.context() as patched:
        patched.setattr(Text, "draw", record)
        FigureCanvasAgg(figure).draw()
    return drawn


def require_readable(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = drawn_texts(figure, monkeypatch)
    page = figure.bbox
    assert len(texts) > 10
    assert round(page.width) <= 900
    for text, box in texts:
        assert text.get_fontsize() >= 8, text.get_text()
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.width and box.y1 <= page.height
        assert inside, f"{text.get_text()!r} leaves the page: {box}"
    for (one, first), (other, second) in combinations(texts, 2):
        assert not first.overlaps(second), f"{one.get_text()!r} and {other.get_text()!r} overlap"


def points(axes: Axes) -> dict[tuple[float, float], Any]:
    """Markers of effects by where they are; not those that are arrows at an end of the axis."""
    single = [line for line in axes.lines if line.get_clip_on() and len(np.asarray(line.get_xdata())) == 1]
    return {tuple(line.get_xydata()[0]): line for line in single}


def arrows(axes: Axes) -> list[tuple[str, float, float]]:
    """Arrows where an interval goes on: their marker and where they are."""
    return [(line.get_marker(), *line.get_xydata()[0]) for line in axes.lines if not line.get_clip_on()]


def spans(axes: Axes, place: float) -> list[tuple[float, float]]:
    """From where to where lines extend that lie at a height."""
    ends = [line.get_xydata() for line in axes.lines if len(np.asarray(line.get_xdata())) == 2]
    return [(x[0], x[1]) for x, y in (end.T for end in ends) if y[0] == y[1] == place]


def words(axes: Axes) -> dict[float, str]:
    """What is written right of the axes, by its height."""
    beside = ("axes fraction", "data")
    return {text.xy[1]: text.get_text() for text in axes.texts if getattr(text, "xycoords", "") == beside}


def test_the_forest_shows_every_row_of_the_table() -> None:
    table = evidence_table()
    figure = forest_plot(table)
    handles = {line.get_label(): line for line in figure.legends[0].legend_handles}
    assert list(handles) == list(DATASETS)
    assert len({line.get_marker() for line in handles.values()}) == 6, "told apart without colours"
    stable, unstable = figure.axes
    assert (stable.get_xlim(), stable.get_ylim()) == (unstable.get_xlim(), unstable.get_ylim())
    heights: dict[tuple[str, str], set[float]] = {}
    for axes, regime in zip(figure.axes, REGIMES, strict=True):
        tests, drawn, said = table[table.regime == regime], points(axes), words(axes)
        bands = {round(bar.get_y() + bar.get_height() / 2, 6): bar for bar in axes.patches}
        assert len(drawn) == len(bands) == len(tests)
        for row in tests.itertuples():
            ((x, y),) = [place for place in drawn if place[0] == row.effect]
            marker, handle, band = drawn[x, y], handles[row.dataset], bands[round(y, 6)]
            assert (marker.get_color(), marker.get_marker()) == (handle.get_color(), handle.get_marker())
            hollow = row.verdict in ("undecided", "premise not met")
            assert marker.get_markerfacecolor() == ("white" if hollow else marker.get_color())
            assert spans(axes, y) == [(row.low, row.high)]
            assert (band.get_x(), band.get_width()) == (-row.margin, 2 * row.margin)
            assert said[y] == f"{MARKS[row.verdict]} {row.verdict}"
            heights.setdefault((row.claim, row.dataset), set()).add(y)
    assert all(len(places) == 1 for places in heights.values()), "both regimes share a line"


def test_every_test_has_its_statement_above_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    table = evidence_table()
    figure = forest_plot(table)
    boxes = {text.get_text(): box for text, box in drawn_texts(figure, monkeypatch)}
    heights = [boxes[test.claim].y0 for test in crossed_rules.CLAIM_TESTS]
    assert heights == sorted(heights, reverse=True)
    axes = figure.axes[0]
    at = {x: axes.transData.transform((x, y))[1] for x, y in points(axes)}
    for test, below in zip(crossed_rules.CLAIM_TESTS, [*heights[1:], 0], strict=True):
        own = boxes[test.claim]
        (statement,) = [box for text, box in boxes.items() if test.statement.startswith(text)]
        assert statement.y0 == pytest.approx(own.y0, abs=2)
        effects = table[(table.claim == test.claim) & (table.regime == "stable")].effect
        assert all(below < at[effect] < own.y0 for effect in effects)


def test_what_was_not_tested_is_said() -> None:
    stable, unstable = forest_plot(evidence_table()).axes
    texts = [text.get_text() for text in unstable.texts]
    assert texts.count("not tested in this regime") == 2  # both tests of claim 3
    assert "not tested" not in texts
    assert list(words(stable).values()).count("not tested") == 4  # the CNN in claims 2a and 2b
    # Nothing was measured: there is a word and no point.
    (axes,) = forest_plot(pd.DataFrame([one_test(np.nan, np.nan, np.nan, verdict="premise not met")])).axes
    assert not points(axes) and list(words(axes).values()) == ["∅ premise not met"]


def test_tests_of_a_claim_stay_together() -> None:
    rows = [one_test(1, 0, 2, claim=claim) for claim in ("2a-initial", "2b-FedSGD")]
    rows += [
        one_test(2, 1, 3, claim=claim, dataset="more") for claim in ("2a-initial", "2a-gradients-initial")
    ]
    (axes,) = forest_plot(pd.DataFrame(rows)).axes
    order = sorted(points(axes), key=lambda place: place[1])
    assert [x for x, _ in order] == [1, 2, 2, 1]


def test_one_wide_interval_does_not_squeeze_the_others() -> None:
    rows = [one_test(0.5, -1, 2, dataset=f"toy {i}") for i in range(3)]
    rows += [one_test(1, -40, 1.5, dataset="wide"), one_test(-20, -21, -19, dataset="far")]
    (axes,) = forest_plot(pd.DataFrame(rows)).axes
    low, high = axes.get_xlim()
    assert low == -6, "three times what most intervals reach"
    assert 2 < high < 2.5, "nothing is clipped on this side"
    *_, wide, far = sorted(words(axes))  # from the first data set to the last
    assert arrows(axes) == [("<", low, wide), ("<", low, far)]
    assert spans(axes, wide) == [(-40, 1.5)], "the line itself is whole"
    assert {x for x, _ in points(axes)} == {0.5, 1}
    (number,) = [text for text in axes.texts if text.get_text() == "−20.0"]
    assert number.xy == (low, far)


def test_limits_follow_most_intervals() -> None:
    few = pd.DataFrame({"low": [-0.2, np.nan], "high": [0.1, np.nan]})
    assert limits(few, margin=1) == (-1.5, 1.5), "always more than the margin"
    assert limits(few[1:], margin=1) == (-1.5, 1.5), "nothing was measured"
    one = pd.DataFrame({"low": [1.0], "high": [40.0]})
    assert limits(one, margin=1) == pytest.approx((-1.5, 42)), "a single interval is shown whole"


def test_the_arms_are_drawn_by_update_and_server() -> None:
    arms, causes = second_stage_tables()
    figure = second_stage_figure(arms, causes)
    handles = {line.get_label(): line for line in figure.legends[0].legend_handles}
    assert list(handles) == ["FedAvg's update", "Reptile's update"]
    places = [key for key in product(REGIMES, BOTH, DATASETS) if key[::2] != ("stable", CNN)]
    for axes, (regime, measure, dataset) in zip(figure.axes, places, strict=True):
        here = {"dataset": dataset, "regime": regime, "measure": measure}
        rows = arms[(arms[list(here)] == here).all(axis=1)].set_index("arm")
        assert [label.get_text() for label in axes.get_xticklabels()] == [
            "same\nrate",
            "smaller\nrate",
            "Adam",
        ]
        drawn = points(axes)
        assert len(drawn) == len(rows) == 6
        for update, line in zip(UPDATES, handles.values(), strict=True):
            effects = [rows.effect[second_stage_arm(update, server)] for server in SERVERS]
            (joined,) = [other for other in axes.lines if list(np.asarray(other.get_ydata())) == effects]
            assert joined.get_color() == line.get_color()
            for i, (x, y) in enumerate(joined.get_xydata()):
                assert round(x) == i, "above its server"
                assert drawn[x, y].get_marker() == line.get_marker()
                row = rows.loc[second_stage_arm(update, SERVERS[i])]
                uprights = [list(other.get_ydata()) for other in axes.lines if set(other.get_xdata()) == {x}]
                assert [row.low, row.high] in uprights
    assert len({line.get_marker() for line in handles.values()}) == 2


def test_the_verdicts_stand_below_their_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    arms, causes = second_stage_tables(DATASETS[:3])
    figure = second_stage_figure(arms, causes)
    texts = drawn_texts(figure, monkeypatch)
    titles = list(second_stage.CONTRASTS.values())
    marks = tuple(mark for mark, _ in second_stage.CAUSES.values())
    for axes, key in zip(figure.axes, product(REGIMES, BOTH, DATASETS[:3]), strict=True):
        plot = axes.get_window_extent()
        below = [(text.get_text(), box) for text, box in texts if plot.y0 - 120 < box.y0 < plot.y0 - 30]
        verdicts = {box.y0: text for text, box in below if plot.x0 <= box.x0 < plot.x1 and text[0] in marks}
        here = causes[(causes[["regime", "measure", "dataset"]] == list(key)).all(axis=1)]
        expected = here.set_index("contrast").verdict[list(second_stage.CONTRASTS)]
        found = [verdicts[y] for y in sorted(verdicts, reverse=True)]
        assert found == [f"{second_stage.CAUSES[verdict][0]} {verdict}" for verdict in expected]
        heights = {text: box.y0 for text, box in below if text in titles}
        assert list(heights.values()) == pytest.approx(sorted(verdicts, reverse=True), abs=1)
        assert list(heights) == titles


def test_an_arm_that_leaves_its_plot_has_an_arrow() -> None:
    arms, causes = second_stage_tables(DATASETS[:1], ["stable"])
    here = (arms.measure == "initial") & (arms.arm == second_stage_arm("Reptile", "Adam"))
    arms.loc[here, "high"] = 50.0
    initial, personalized = second_stage_figure(arms, causes).axes
    ((marker, x, y),) = arrows(initial)
    assert (marker, round(x), y) == ("^", 2, initial.get_ylim()[1])
    assert y < 20
    assert not arrows(personalized)


@pytest.mark.parametrize(("count", "regimes"), [(1, [*REGIMES]), (2, ["stable"]), (6, ["unstable"])])
def test_text_can_be_read(count: int, regimes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = DATASETS[:count]
    require_readable(forest_plot(evidence_table(datasets, regimes)), monkeypatch)
    require_readable(second_stage_figure(*second_stage_tables(datasets, regimes)), monkeypatch)


def test_effects_beyond_the_axis_and_long_names_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    long = tuple(f"{name}, another model" for name in DATASETS[:5])
    table = evidence_table(long)
    table.loc[::9, ["low", "effect", "high"]] += 90
    require_readable(forest_plot(table), monkeypatch)


@pytest.mark.slow
def test_the_largest_figures_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    require_readable(forest_plot(evidence_table()), monkeypatch)
    require_readable(second_stage_figure(*second_stage_tables()), monkeypatch)


def test_names_are_those_of_the_evidence() -> None:
    assert set(evidence_plots.COLOURS) == set(crossed_rules.VERDICTS)
    assert set(second_stage.CONTRASTS) == set(crossed_rules.CONTRASTS)
    assert set(REGIMES) == {design.regime for design in DESIGNS.values()}


def test_what_cannot_be_drawn_is_refused() -> None:
    arms, causes = second_stage_tables(DATASETS[:1])
    for empty in (pd.DataFrame(), evidence_table()[:0]):
        with pytest.raises(ValueError, match="evidence table has no rows: there is nothing to draw"):
            forest_plot(empty)
        with pytest.raises(ValueError, match="arm table has no rows"):
            second_stage_figure(empty, causes)
        with pytest.raises(ValueError, match="cause table has no rows"):
            second_stage_figure(arms, empty)
    good = one_test(1, 0, 2)
    with pytest.raises(ValueError, match="verdict 'proved' of the evidence table is not one of reproduced, "):
        forest_plot(pd.DataFrame([good | {"verdict": "proved"}]))
    with pytest.raises(
        ValueError, match="regime 'calm' of the evidence table is not one of stable, unstable"
    ):
        forest_plot(pd.DataFrame([good | {"regime": "calm"}]))
    with pytest.raises(ValueError, match="two rows for 2a-initial, toy, stable"):
        forest_plot(pd.DataFrame([good, good]))
    with pytest.raises(ValueError, match="arm 'MAML, Adam' of the arm table is not one of FedAvg, SGD"):
        second_stage_figure(arms.replace({"arm": {ARMS[1]: "MAML, Adam"}}), causes)
