from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from small_results import header_of, trained_model

from fl_meta.evidence.comparison_verdicts import decide_comparison
from fl_meta.evidence.result_types import ComparisonResult
from fl_meta.experiments.comparison_settings import (
    CONTINUED,
    CONTINUED_GRADIENTS,
    FEDSGD,
    HANDWRITING,
    LOCAL_ONLY,
    REPTILE,
    SMALL_E,
)
from fl_meta.experiments.outcomes import CoursePoint
from fl_meta.plots import results as result_plots

# Two seeds with two held-out clients each: accuracies after 0, 1 and 2 epochs.
FEDAVG = (
    [[0.4, 0.6], [0.5, 0.6], [0.6, 0.8]],
    [[0.3, 0.5], [0.3, 0.6], [0.2, 0.7]],
)


def comparison(seed: int) -> ComparisonResult:
    """A result of claims 2 and 3 in which every other model is FedAvg's, ten points lower in the end."""
    own = np.array(FEDAVG[seed])
    weaker = own - [[0.0], [0.05], [0.1]]
    centralized = ["centralized SGD", "centralized Adam"]
    accuracies = {"FedAvg": own, **{f"FedAvg, matched to {name}": own for name in centralized}}
    names = [CONTINUED, CONTINUED_GRADIENTS, FEDSGD, SMALL_E, *centralized]
    names += [f"{name}, matched" for name in centralized]
    accuracies |= dict.fromkeys(names, weaker) | {REPTILE: own, LOCAL_ONLY: own[[0, 2]] - 0.1}
    rates = dict.fromkeys(accuracies, 0.3) | {"FedAvg": 0.1 * (1 + seed)}
    models = [
        trained_model(
            name, accuracy, personalization_rate=rates[name], validation=tuple(accuracy.mean(1).tolist())
        )
        for name, accuracy in accuracies.items()
    ]
    course = (
        CoursePoint(1, 1, 0.3, 0.1, 0.2),
        CoursePoint(10, 10, 0.3, 0.2, 0.4 + 0.2 * seed),
        CoursePoint(40, 40, 0.3, 0.4 + 0.1 * seed, 0.6),
    )
    header = header_of("comparison", replace(HANDWRITING, local_only_epochs=7), seed, ["ann", "bob"])
    # The second seed trained for a point less, and its last round is another.
    courses = {"FedAvg": course[seed:], "centralized SGD": course}
    return ComparisonResult(**header, models=tuple(models), courses=courses, search={})


RESULTS = [comparison(0), comparison(1)]


def texts(legend_of: Axes) -> list[str]:
    legend = legend_of.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def vertical(axes: Axes, index: int = 0) -> tuple[float, float]:
    """The lowest and the highest point of a band."""
    outline = np.asarray(axes.collections[index].get_paths()[0].vertices)[:, 1]
    return float(outline.min()), float(outline.max())


def test_courses_are_matched_from_their_end() -> None:
    figure = result_plots.course_plot(RESULTS, ["FedAvg", "centralized SGD"])
    initial, personalized, gain = figure.axes
    assert "toy (synthetic)" in figure.get_suptitle()
    assert [axes.get_title() for axes in figure.axes] == ["initial accuracy", "personalized accuracy", "gain"]
    assert texts(initial) == ["FedAvg", "centralized SGD"]
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}
    # The last two points of each seed, at 10/40 and 40/40 of its training.
    np.testing.assert_allclose(initial.lines[0].get_xydata(), [(25, 20), (100, 45)])
    np.testing.assert_allclose(personalized.lines[0].get_ydata(), [50, 60])
    np.testing.assert_allclose(gain.lines[0].get_ydata(), [30, 15])
    assert vertical(initial) == pytest.approx((20, 50))
    assert vertical(gain) == pytest.approx((10, 40))
    assert len(np.asarray(initial.lines[1].get_xdata())) == 3
    assert initial.lines[0].get_marker() != initial.lines[1].get_marker()
    # A single seed has a band without height.
    assert vertical(result_plots.course_plot(RESULTS[:1], ["FedAvg"]).axes[0]) == pytest.approx((10, 40))


def test_adaptation_shows_the_mean_of_all_clients_and_the_gains_interval() -> None:
    figure = result_plots.adaptation_plot(RESULTS, ["FedAvg", REPTILE, LOCAL_ONLY])
    (axes,) = figure.axes
    assert "toy (synthetic)" in axes.get_title()
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [(0, 45), (1, 50), (2, 57.5)])
    # Gains after the last epoch are 20, 20, −10 and 20 points; resampled they reach from 45 − 2.5 to 45 + 20.
    low, high = vertical(axes)
    assert 35 <= low <= 45
    assert high == pytest.approx(65)
    # The floor: FedAvg's clients, ten points lower.
    np.testing.assert_allclose(axes.lines[2].get_ydata(), [47.5, 47.5])
    assert texts(axes) == [
        "FedAvg (rates 0.1, 0.2)",
        "Reptile with Adam (rate 0.3)",
        "local only, 7 epochs (rate 0.3)",
    ]


def test_gains_are_counted_for_every_client_of_every_seed() -> None:
    figure = result_plots.gain_plot(RESULTS, ["FedAvg", FEDSGD, SMALL_E, "centralized SGD"])
    assert "toy (synthetic)" in figure.get_suptitle()
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == ["FedAvg", FEDSGD, SMALL_E, "centralized SGD"]
    for axes, mean in zip(shown, ("+12.5", "+2.5", "+2.5", "+2.5"), strict=True):
        assert sum(bar.get_height() for bar in axes.patches) == 4
        assert texts(axes) == [f"mean {mean}"]
        assert axes.get_legend().get_title().get_text() == "25% of clients hurt"


def test_effects_are_drawn_with_interval_and_seeds() -> None:
    row = {"effect": 0.02, "low": 0.01, "high": 0.04, "seeds": [0.01, 0.03], "p_holm": 0.01}
    other = {"effect": -0.01, "low": -0.03, "high": 0.01, "seeds": [-0.01, -0.01], "p_holm": 0.4}
    toy = pd.DataFrame([row, other], index=pd.Index(["2a", "3"], name="claim"))
    _, decided = decide_comparison(RESULTS, "smoke")
    assert set(toy) <= set(decided), "what the verdicts' table has"
    (axes,) = result_plots.effect_plot({"toy": toy, "real": toy.loc[["3"]]}).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["2a", "3"]
    assert texts(axes) == ["toy", "real"]
    legend, interval, effect, seeds, second, uncertain, *_ = axes.lines
    np.testing.assert_allclose(interval.get_xdata(), [1, 4])
    np.testing.assert_allclose(second.get_xdata(), [-3, 1])
    np.testing.assert_allclose(effect.get_xdata(), [2])
    np.testing.assert_allclose(seeds.get_xdata(), [1, 3])
    # Full where p is below 0.05 after the correction.
    assert effect.get_markerfacecolor() == effect.get_color() == legend.get_color()
    assert uncertain.get_markerfacecolor() == "white"
    assert any(list(np.asarray(line.get_xdata())) == [0, 0] for line in axes.lines)


def test_more_models_than_markers_are_all_drawn_and_told_apart() -> None:
    many = [model.name for model in RESULTS[0].models][:12]
    (axes,) = result_plots.adaptation_plot(RESULTS, many).axes
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == len(axes.lines) == 12


def test_a_title_can_call_the_data_otherwise() -> None:
    label = "toy, seed 1 alone"
    for plot in (result_plots.arrow_plot, result_plots.adaptation_plot):
        assert label in plot(RESULTS, ["FedAvg"], label=label).axes[0].get_title()
    title = result_plots.gain_plot(RESULTS, ["FedAvg"], label=label).get_suptitle()
    assert label in title and "synthetic" not in title


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="one data set, not of 0"):
        result_plots.gain_plot([], ["FedAvg"])
    other = replace(RESULTS[0], data=replace(RESULTS[0].data, label="real"))
    with pytest.raises(ValueError, match="'real', 'toy"):
        result_plots.gain_plot([RESULTS[0], other], ["FedAvg"])
    with pytest.raises(KeyError, match="no model 'MAML'; there are FedAvg"):
        result_plots.gain_plot(RESULTS, ["MAML"])
    with pytest.raises(ValueError, match="no effects"):
        result_plots.effect_plot({})
