"""Both accuracies over the course of training, from the cells of the crossed design."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fl_meta.evidence.result_types import CrossedResult
from fl_meta.plots.style import styled
from fl_meta.support.array_types import FloatArray


def mean_curves(cells: Sequence[CrossedResult], arm: str) -> tuple[FloatArray, FloatArray]:
    """The curve of an arm in each replicate, as a mean over its folds.

    Args:
        cells: of one design, all folds of each replicate.
        arm: an arm with a curve: FedAvg, or a centralized one.

    Returns:
        the share of the arm's own training that was done at each point [points], and the initial and the
        personalized accuracy there, in percent [2, replicates, points].

    Raises:
        ValueError: if a cell has no curve of the arm, or cells have different numbers of points.

    Example:
        >>> shares, accuracy = mean_curves(cells, FEDAVG)  # doctest: +SKIP
    """
    if missing := [cell.seed for cell in cells if arm not in cell.curves]:
        known = ", ".join(cells[0].curves) or "none"
        raise ValueError(f"cell {missing[0]} has no curve of {arm!r}; the first cell has {known}")
    if len({len(cell.curves[arm]) for cell in cells}) > 1:
        raise ValueError(f"the curves of {arm!r} have different numbers of points")
    folds = cells[0].config.folds
    ordered = sorted(cells, key=lambda cell: cell.seed)
    curves = np.array([cell.curves[arm] for cell in ordered], dtype=float)  # [cells, points, 3]
    rounds = curves[..., 0]
    shares: FloatArray = (rounds / rounds[:, -1:]).mean(axis=0)
    by_replicate = 100 * curves[..., 1:].reshape(-1, folds, rounds.shape[1], 2).mean(axis=1)
    return shares, by_replicate.transpose(2, 0, 1)


def curve_plot(cells: Sequence[CrossedResult], arms: Sequence[str]) -> Figure:
    """Initial and personalized accuracy over each arm's own training; a band from replicate to replicate.

    A line is the mean over replicates, its band reaches from the lowest replicate to the highest. Rounds and
    steps are of different size, so the horizontal axis counts neither.

    Args:
        cells: of one design, all folds of each replicate.
        arms: names of arms with curves: FedAvg and the centralized ones.

    Raises:
        ValueError: as in `mean_curves`.

    Example:
        >>> curve_plot(recorded_cells(design, folder), [FEDAVG, *CENTRALIZED])  # doctest: +SKIP
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for arm, colour, marker in styled(arms):
        shares, accuracies = mean_curves(cells, arm)
        for axes, values in zip(panels, accuracies, strict=True):
            axes.fill_between(shares, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
            axes.plot(shares, values.mean(0), color=colour, marker=marker, markersize=4, label=arm)
    for axes, title in zip(panels, ("initial", "personalized"), strict=True):
        axes.set_xscale("log", base=2)
        axes.set_xticks(
            [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1], ["1/32", "1/16", "1/8", "1/4", "1/2", "all"]
        )
        axes.set(title=f"{title} accuracy", xlabel="share of its own training, rounds or steps (logarithmic)")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on held-out clients, %")
    panels[1].legend(frameon=False, fontsize=9, loc="lower right")
    figure.suptitle(f"{cells[0].label}, {cells[0].config.regime} regime")
    return figure
