"""Move the initial accuracy at which FedAvg's model and a centralized one are compared."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from matplotlib.figure import Figure

from fl_meta.evidence.crossed_results import recorded_cells
from fl_meta.evidence.crossed_rules import differences
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.evidence.results import recorded_folder
from fl_meta.experiments.crossed_settings import CENTRALIZED, CENTRALIZED_SGD, DESIGNS, FEDAVG, matched_arms
from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.matching import TARGETS, matched_everywhere
from fl_meta.laboratories.panel import Panel, choice, slider
from fl_meta.plots.style import PALETTE
from fl_meta.support.array_types import FloatArray
from fl_meta.support.text_table import signed


def match_elsewhere(
    design: str = "writers-stable", *, rival: str = CENTRALIZED_SGD, target: int = 50
) -> Panel:
    """Compare the gains of FedAvg's model and a centralized one at any initial accuracy.

    Args:
        design: of which the recorded runs are shown; claim 3 is tested in the stable regime.
        rival: one of `CENTRALIZED`.
        target: the initial accuracy of both models, in percent.

    Raises:
        FileNotFoundError: if there is no folder of recorded results.
        ValueError: if there is no such design, rival or target, or nothing is recorded of the design.

    Example:
        >>> panel = match_elsewhere(rival="centralized Adam", target=40)  # doctest: +SKIP
    """
    if design not in DESIGNS:
        raise ValueError(f"no design {design!r}; there are {', '.join(DESIGNS)}")
    cells = recorded_cells(DESIGNS[design], recorded_folder())
    if not cells or CENTRALIZED_SGD not in cells[0].curves:
        raise ValueError(f"no centralized training is recorded for {design!r}")
    picture = MatchingPicture(cells)
    controls = {
        "rival": choice("centralized with", rival, CENTRALIZED),
        "target": slider("match at, % initially", target, *picture.ends, 1),
    }
    return Panel("match_elsewhere", controls, picture.show, fixed=repr(design))


class MatchingPicture:
    """Left: personalized over initial accuracy of both; right: the difference of the gains at each match.

    The figure is made once; `show` changes only what depends on the controls.

    Attributes:
        ends: the lowest and the highest initial accuracy that all runs of FedAvg have, in percent.
    """

    def __init__(self, cells: list[CrossedResult]) -> None:
        self._cells = cells
        self._fedavg = matched_everywhere(cells, FEDAVG)
        reached = TARGETS[~np.isnan(self._fedavg).any(axis=0)]
        self.ends = int(reached[0]), int(reached[-1])
        self._figure = Figure(figsize=(9.6, 4.4), layout="constrained")
        left, right = self._figure.subplots(1, 2)
        self._figure.suptitle(f"{cells[0].label}, {cells[0].config.regime} regime", fontsize=12)
        left.plot(TARGETS, self._fedavg.mean(0), color=PALETTE[0], linewidth=2, label=FEDAVG)
        (self._path,) = left.plot([], [], "--", color=PALETTE[1], linewidth=2, label="centralized")
        left.plot([0, 100], [0, 100], ":", color="0.5", linewidth=1, label="no gain")
        low, high = self.ends
        left.set(xlim=(max(0, low - 3), high + 3), ylim=(max(0, low - 3), min(100, high + 22)))
        left.set(xlabel="initial accuracy, %", ylabel="personalized accuracy, %")
        left.legend(loc="lower right", frameon=False)
        every = np.concatenate([self._apart[arm].ravel() for arm in CENTRALIZED])
        right.axhline(0, color="black", linewidth=0.8)
        right.set(xlim=left.get_xlim(), ylim=(np.nanmin(every) - 1, np.nanmax(every) + 1))
        right.set(xlabel="initial accuracy at the match, %", ylabel="FedAvg's gain minus the other's, points")
        for axes in (left, right):
            axes.grid(alpha=0.3)
        thin = {"color": "0.6", "linewidth": 0.8}
        self._replicates = [right.plot([], [], **thin)[0] for _ in self._fedavg]
        (self._mean,) = right.plot(
            [], [], color=PALETTE[2], linewidth=2.5, label="mean (thin: each replicate)"
        )
        (self._test,) = right.plot([], [], "kD", markersize=7, label="where the recorded test matches")
        right.legend(loc="upper right", frameon=False, fontsize=9)
        self._lines = [axes.axvline(0, color=PALETTE[3], linewidth=1.2) for axes in (left, right)]
        (self._pair,) = left.plot([], [], "o", color=PALETTE[3], markersize=7)
        (self._point,) = right.plot([], [], "o", color=PALETTE[3], markersize=8)
        moving = [self._path, *self._replicates, self._mean, self._test, self._pair, self._point]
        legends = [axes.get_legend() for axes in (left, right)]
        animate(moving, self._lines, filter(None, legends))

    def show(self, rival: str, target: int) -> tuple[Figure, str]:
        """The figure for a centralized optimizer and an initial accuracy, and its words as HTML."""
        theirs, apart = self._theirs[rival].mean(0), self._apart[rival]
        self._path.set_data(TARGETS, theirs)
        for line, values in zip(self._replicates, apart, strict=True):
            line.set_data(TARGETS, values)
        self._mean.set_data(TARGETS, apart.mean(0))
        self._test.set_data(*([value] for value in self._tested(rival)))
        for line in self._lines:
            line.set_xdata([target, target])
        place = int(np.searchsorted(TARGETS, target))
        ours, other, points = self._fedavg.mean(0)[place], theirs[place], apart[:, place]
        self._pair.set_data([target, target], [ours, other])
        self._point.set_data([target], [points.mean()])
        if np.isnan(other):
            return self._figure, (
                f"At {target} % there is nothing to compare: some runs of {rival} never have this initial "
                "accuracy, or have more at the first point of their curves."
            )
        return self._figure, (
            f"Matched at an initial accuracy of {target} %, FedAvg's model is personalized to {ours:.1f} %, "
            f"that of {rival} to {other:.1f} %. The gains differ by {signed(points.mean())} points; in "
            f"single replicates by {signed(points.min())} to {signed(points.max())}."
        )

    @cached_property
    def _theirs(self) -> dict[str, FloatArray]:
        """Of each centralized optimizer the personalized accuracies at each match [replicates, targets]."""
        return {arm: matched_everywhere(self._cells, arm) for arm in CENTRALIZED}

    @cached_property
    def _apart(self) -> dict[str, FloatArray]:
        """FedAvg's gain minus each centralized model's: they start alike [replicates, targets]."""
        return {arm: self._fedavg - theirs for arm, theirs in self._theirs.items()}

    def _tested(self, rival: str) -> tuple[float, float]:
        """Where the recorded runs were matched, in percent, and the difference of the gains there."""
        theirs, ours = matched_arms(rival)
        initial = [
            arm.accuracy_of("initial") for cell in self._cells for arm in cell.arms if arm.name == ours
        ]
        effect = differences(self._cells, [ours], [theirs], "gain")
        mean = np.concatenate([fold.mean(axis=0) for fold in effect]).mean()
        return 100 * float(np.concatenate(initial).mean()), float(mean)
