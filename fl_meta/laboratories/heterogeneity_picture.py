"""What makes writers differ, and what that does to accuracy and gain, as a picture and as a panel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fl_meta.evidence.results import recorded
from fl_meta.experiments.heterogeneity import Gain, gains, recompute
from fl_meta.experiments.heterogeneity_settings import KNOBS, RECORDED_HETEROGENEITY, Heterogeneity
from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.panel import Panel, stops
from fl_meta.plots.style import PALETTE

GridPoint = tuple[float, ...]
"""A value of each of `KNOBS`."""

_LABELS = {
    "style": "style: how far hands differ",
    "label_skew": "label skew: how far classes differ",
    "mean_examples": "examples per writer",
}
_HALF_BAND = 0.32  # half the width of the band at the slider's value
_COMPUTED = PALETTE[2]
_ASIDE = 0.18  # shifts what was computed here to the right, so that it does not hide what was recorded


def heterogeneity_panel(
    folder: str | Path, *, style: float = 1.0, label_skew: float = 1.0, mean_examples: int = 100
) -> Panel:
    """What makes synthetic writers differ, and the gain from personalization, recorded or computed on demand.

    The values must be among those of `experiments.RECORDED_HETEROGENEITY`.

    Args:
        folder: the recorded results, `data/results` in the repository.
        style: how far the writers' hands differ.
        label_skew: how far their class frequencies differ.
        mean_examples: mean number of examples per writer.

    Raises:
        FileNotFoundError: if the folder holds no results of this experiment.
        ValueError: if a value is not in the grid.

    Example:
        >>> panel = heterogeneity_panel("../data/results", style=0.5)  # doctest: +SKIP
        >>> panel.work.start.click()  # doctest: +SKIP
    """
    config, folder = RECORDED_HETEROGENEITY, Path(folder)
    results = recorded(config, folder)
    if not results:
        raise FileNotFoundError(
            f"no heterogeneity results in {folder.absolute()}; give the folder of the repository's recorded "
            "results, '../data/results' in a notebook, or compute it: fl-meta record heterogeneity-writers"
        )
    values = {"style": style, "label_skew": label_skew, "mean_examples": mean_examples}
    labels = ("style (0: alike)", "label skew (0: alike)", "examples per writer")
    controls = {
        knob: stops(label, values[knob], getattr(config, knob))
        for knob, label in zip(KNOBS, labels, strict=True)
    }
    grid, label = gains(results), results[0].data.label
    computed: dict[GridPoint, Gain] = {}
    picture, populations = GridPicture(config, grid), count(1)

    def draw(**values: Any) -> tuple[Figure, str]:
        point = tuple(values[knob] for knob in KNOBS)
        words = f"{label}: {grid[point]} (recorded, {len(results)} seeds)."
        if point in computed:
            words += f" <b>Computed here, with other writers: {computed[point]}.</b>"
        return picture.show(point, computed), words

    def compute(**values: Any) -> Iterator[float]:
        point = tuple(values[knob] for knob in KNOBS)
        yield from recompute(config, values, next(populations), lambda gain: computed.update({point: gain}))

    work = ("compute this cell with other writers", compute)
    return Panel("heterogeneity_panel", controls, draw, fixed=repr(folder.as_posix()), work=work)


class _Column:
    """The artists that move in the two axes of a knob, and those among them that explain the marks."""

    def __init__(self, above: Axes, below: Axes) -> None:
        self._bands = [
            axes.axvspan(-_HALF_BAND, _HALF_BAND, color=PALETTE[8], alpha=0.35, linewidth=0)
            for axes in (above, below)
        ]
        styles = {"initial": ("o", PALETTE[0]), "personalized": ("s", PALETTE[1])}
        self._recorded, self._computed = [], []
        for name, (marker, colour) in styles.items():
            self._recorded += above.plot([], [], f"{marker}-", color=colour, markersize=8, label=name)
            self._computed += above.plot(
                [], [], marker, color=_COMPUTED, markersize=7, markerfacecolor="white"
            )
        self._recorded += below.plot([], [], "D-", color="0.2", markersize=5, label="recorded, 95 % interval")
        self._computed += below.plot([], [], "D", color=_COMPUTED, markersize=5, label="computed here")
        self._intervals = [below.vlines([], 0, 1, color=colour, linewidth=3) for colour in ("0.2", _COMPUTED)]
        self.accuracy_key, self.gain_key = self._recorded[:2], [self._recorded[2], self._computed[2]]
        self.moving = [*self._bands, *self._recorded, *self._intervals, *self._computed]

    def show(self, recorded: Sequence[Gain], computed: Mapping[int, Gain], position: int) -> None:
        """Show recorded gains along the knob, computed ones by their position, and the slider's position."""
        for band in self._bands:
            band.set_x(position - _HALF_BAND)
        for lines, intervals, x, points in (
            (self._recorded, self._intervals[0], list(range(len(recorded))), list(recorded)),
            (self._computed, self._intervals[1], [i + _ASIDE for i in computed], list(computed.values())),
        ):
            lines[0].set_data(x, [gain.initial for gain in points])
            lines[1].set_data(x, [gain.personalized for gain in points])
            lines[2].set_data(x, [gain.gain.estimate for gain in points])
            intervals.set_segments(
                [((at, gain.gain.low), (at, gain.gain.high)) for at, gain in zip(x, points, strict=True)]
            )


class GridPicture:
    """A column for each knob, with the others held where they are: accuracy above, gain below.

    The figure is made once; `show` only moves its lines.
    """

    def __init__(self, config: Heterogeneity, recorded: Mapping[GridPoint, Gain]) -> None:
        self._config, self._recorded = config, recorded
        self._figure = Figure(figsize=(10.4, 5.2))
        above, below = self._figure.subplots(2, len(KNOBS), sharex="col", sharey="row")
        self._figure.subplots_adjust(0.075, 0.115, 0.995, 0.92, 0.06, 0.09)
        self._columns = [_Column(*pair) for pair in zip(above, below, strict=True)]
        self._title = above[1].set_title("", fontsize=13)
        for knob, top, bottom in zip(KNOBS, above, below, strict=True):
            values = getattr(config, knob)
            bottom.set_xlabel(_LABELS[knob], fontsize=12)
            bottom.set(xlim=(-0.4, len(values) - 0.6), xticks=range(len(values)))
            bottom.set_xticklabels([f"{value:g}" for value in values])
            bottom.axhline(0, color="black", linewidth=1)
            for axes in (top, bottom):
                axes.tick_params(labelsize=11)
                axes.grid(alpha=0.3)
        above[0].set(ylim=(0, 104))
        above[0].set_ylabel("accuracy, %", fontsize=12)
        bounds = [bound for gain in recorded.values() for bound in (gain.gain.low, gain.gain.high)]
        below[0].set(ylim=(min(bounds) - 4, max(bounds) + 4))
        below[0].set_ylabel("gain, points", fontsize=12)
        style: dict[str, Any] = {"frameon": False, "fontsize": 11}
        legends = [
            above[0].legend(handles=self._columns[0].accuracy_key, loc="lower left", **style),
            below[0].legend(handles=self._columns[0].gain_key, loc="upper left", **style),
        ]
        for column in self._columns:
            animate(column.moving)
        animate([self._title], legends)  # the legends, too, so that they lie over the band

    def show(self, point: GridPoint, computed: Mapping[GridPoint, Gain]) -> Figure:
        """The figure around a point of the grid, with the gains computed here."""
        for number, (knob, column) in enumerate(zip(KNOBS, self._columns, strict=True)):
            values = getattr(self._config, knob)
            along = [(*point[:number], value, *point[number + 1 :]) for value in values]
            column.show(
                [self._recorded[neighbour] for neighbour in along],
                {i: computed[neighbour] for i, neighbour in enumerate(along) if neighbour in computed},
                values.index(point[number]),
            )
        writers = self._recorded[point].writers
        self._title.set_text(
            f"synthetic writers, {writers} held out: each column varies one knob; the band marks its value"
        )
        return self._figure
