"""Figures of experiments' results. Each function returns a Figure; accuracies are in percent.

`results` are those of one experiment, one per seed; `names` are names of its models or courses, and `label`
is what the title calls the data, by default the data set's label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from fl_meta.evaluation.bootstrap import bootstrap_mean
from fl_meta.evidence.result_types import ComparisonResult, Result
from fl_meta.evidence.verdicts import LEVEL
from fl_meta.experiments.comparison_settings import LOCAL_ONLY
from fl_meta.plots.style import PALETTE, styled
from fl_meta.support.array_types import FloatArray

Comparisons = Sequence[ComparisonResult]


def _label(results: Sequence[Result], label: str | None) -> str:
    """What the title calls the data; the data set's label unless another is given."""
    labels = {result.data.label for result in results}
    if len(labels) != 1:
        raise ValueError(
            f"a figure shows the results of one data set, not of {len(labels)}: {sorted(labels)}"
        )
    return label or labels.pop()


def _percent(results: Comparisons, name: str) -> list[FloatArray]:
    """For each seed a model's accuracies in percent [epochs + 1, clients]."""
    return [100 * np.array(result.model_named(name).accuracy) for result in results]


def plane_plot(results: Comparisons, names: Sequence[str], *, label: str | None = None) -> Figure:
    """Branches from one start, in the plane of initial and personalized accuracy.

    The points are means over the seeds. Each evaluation has a marker; the largest is at the end. `names` are
    those of courses that begin at the fork.

    Example:
        >>> plane_plot(results, ["FedAvg, continued", "Reptile with Adam"])  # doctest: +SKIP
    """
    label = _label(results, label)
    figure = Figure(figsize=(6.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for name, colour, marker in styled(names):
        branch = 100 * np.mean(
            [[[p.initial, p.personalized] for p in result.courses[name]] for result in results], axis=0
        )
        axes.plot(*branch.T, color=colour, marker=marker, markersize=4, label=name)
        axes.plot(*branch[-1], color=colour, marker=marker, markersize=10)
    axes.set(
        xlabel="initial accuracy, %",
        ylabel="personalized accuracy, %",
        title=f"{label}: round by round after the fork",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return figure


def course_plot(results: Comparisons, names: Sequence[str], *, label: str | None = None) -> Figure:
    """Initial and personalized accuracy and the gain over the course of training, one line per course.

    A line is the mean over seeds; its band extends from the lowest to the highest seed. Points of different
    seeds are matched from the last one backwards, since seeds may train for slightly different times.

    Example:
        >>> course_plot(results, ["FedAvg", "centralized SGD"])  # doctest: +SKIP
    """
    label = _label(results, label)
    figure = Figure(figsize=(12, 3.9), layout="constrained")
    panels = figure.subplots(1, 3)
    for name, colour, marker in styled(names):
        courses = [result.courses[name] for result in results]
        length = min(map(len, courses))
        points = np.array(
            [
                [(p.round / course[-1].round, p.initial, p.personalized) for p in course[-length:]]
                for course in courses
            ]
        )
        share, initial, personalized = 100 * np.moveaxis(points, 2, 0)  # each [seeds, points]
        for axes, values in zip(panels, (initial, personalized, personalized - initial), strict=True):
            x = share.mean(0)
            axes.plot(x, values.mean(0), color=colour, marker=marker, markersize=5, label=name)
            axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
    titles = {"initial accuracy": "accuracy, %", "personalized accuracy": "accuracy, %", "gain": "points"}
    for axes, (title, unit) in zip(panels, titles.items(), strict=True):
        axes.set(xscale="log", xlabel="share of the training done", ylabel=unit, title=title)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g} %"))
        axes.grid(alpha=0.3)
    panels[2].axhline(0, color="black", linewidth=1)
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle(f"{label}: over the course of training (band: lowest to highest seed)")
    return figure


def adaptation_plot(results: Comparisons, names: Sequence[str], *, label: str | None = None) -> Figure:
    """Mean accuracy of all seeds' held-out clients after every epoch of adaptation, one line per model.

    The band is the 95 % bootstrap interval of the paired gain, drawn around the mean: it shows how certain
    the change is, not the level. Epoch 0 is the initial model. Training without federation, which has its
    own number of epochs, is a dashed line at its final accuracy.

    Example:
        >>> adaptation_plot(results, ["FedAvg", "centralized SGD"])  # doctest: +SKIP
    """
    label = _label(results, label)
    figure = Figure(figsize=(9.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, colour, marker in styled(names):
        accuracy = np.concatenate(_percent(results, name), axis=1)
        mean = accuracy.mean(1)
        # By seed, or one for all of them.
        rates = [f"{result.model_named(name).personalization_rate:g}" for result in results]
        chosen = f"rate {rates[0]}" if len(set(rates)) == 1 else f"rates {', '.join(rates)}"
        if name == LOCAL_ONLY:
            epochs = results[0].config.local_only_epochs
            title = f"{name}, {epochs} epochs ({chosen})"
            axes.axhline(mean[-1], color="0.4", linestyle="--", label=title)
            continue
        gains = [bootstrap_mean(after - accuracy[0]) for after in accuracy]
        axes.plot(mean, color=colour, marker=marker, label=f"{name} ({chosen})")
        low, high = mean[0] + np.array([(gain.low, gain.high) for gain in gains]).T
        axes.fill_between(np.arange(len(mean)), low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(
        xlabel="epochs of adaptation on the client's train part",
        ylabel="accuracy, mean of held-out clients, %",
        title=f"{label} (band: 95 % interval of the gain)",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def gain_plot(results: Comparisons, names: Sequence[str], *, label: str | None = None) -> Figure:
    """Histograms of the gain from personalization over all seeds' held-out clients, a panel for each model.

    Example:
        >>> gain_plot(results, ["FedAvg", "centralized SGD"])  # doctest: +SKIP
    """
    label = _label(results, label)
    gains = {}
    for name in names:
        accuracy = np.concatenate(_percent(results, name), axis=1)
        gains[name] = accuracy[-1] - accuracy[0]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.1 * columns, 2.8 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    bins = np.histogram_bin_edges(np.concatenate(list(gains.values())), bins=25)
    for axes, (name, gain) in zip(panels.flat, gains.items(), strict=False):
        axes.hist(gain, bins=bins, color=PALETTE[0], edgecolor="white", linewidth=0.5)
        axes.axvline(0, color="black", linewidth=1)
        axes.axvline(gain.mean(), color=PALETTE[1], linewidth=2, label=f"mean {gain.mean():+.1f}")
        axes.set(title=name, xlabel="gain in accuracy, points", ylabel="clients")
        axes.tick_params(labelbottom=True, labelleft=True)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, title=f"{(gain < 0).mean():.0%} of clients hurt")
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    figure.suptitle(f"{label}: gain from personalization, held-out clients")
    return figure


def effect_plot(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """A forest plot: for each claim and data set the effect with its 95 % interval, and each seed's effect.

    An effect to the right of 0 supports the claim. Full markers: p below 0.05 after Holm's correction.
    `tables` are those of `decide_comparison`, by the data set's label.

    Raises:
        ValueError: if there is nothing to show.

    Example:
        >>> verdicts, table = fl_meta.evidence.decide_comparison(results, "laptop")  # doctest: +SKIP
        >>> effect_plot({results[0].label: table})  # doctest: +SKIP
    """
    claims = list(dict.fromkeys(claim for table in tables.values() for claim in table.index))
    if not claims:
        raise ValueError("there are no effects to draw")
    figure = Figure(figsize=(9, 0.28 * len(claims) * (len(tables) + 0.8) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    for i, (label, colour, marker) in enumerate(styled(list(tables))):
        offset = 0.8 * ((i + 0.5) / len(tables) - 0.5)
        axes.plot([], [], color=colour, marker=marker, label=label)  # the legend shows a full marker
        for claim, row in tables[label].iterrows():
            y = claims.index(str(claim)) + offset
            axes.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=2)
            face = colour if row.p_holm < LEVEL else "white"
            axes.plot(100 * row.effect, y, marker, color=colour, markerfacecolor=face, markersize=7)
            seeds = 100 * np.array(row.seeds)
            axes.plot(seeds, np.full(len(seeds), y + 0.25 / len(tables)), ".", color="0.45", markersize=4)
    axes.axvline(0, color="black", linewidth=1)
    for between in range(1, len(claims)):
        axes.axhline(between - 0.5, color="0.85", linewidth=1)
    axes.set(
        xlabel="effect, points; right of 0 speaks for the claim (grey dots: seeds; full marker: p < 0.05)",
        yticks=range(len(claims)),
        yticklabels=claims,
        ylim=(len(claims) - 0.5, -0.5),
        title=next(iter(tables)) if len(tables) == 1 else "paired differences over held-out clients",
    )
    axes.grid(alpha=0.3, axis="x")
    if len(tables) > 1:
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
