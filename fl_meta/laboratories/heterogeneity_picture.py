"""The picture of how different writers are, and of what that does to accuracy and gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fl_meta.experiments.heterogeneity import Gain
from fl_meta.experiments.heterogeneity_settings import KNOBS, Heterogeneity
from fl_meta.laboratories.animated_figure import animate
from fl_meta.plots.style import PALETTE

_LABELS = {
    "style": "style: how far hands differ",
    "label_skew": "label skew: how far classes differ",
    "mean_examples": "examples per writer",
}
_HALF = 0.32  # width of the band at which a slider stands
_FRESH = PALETTE[2]
_ASIDE = 0.18  # of what was computed here, so that it does not hide what was recorded


class _Column:
    """What moves in the two axes of a knob.

    Attributes:
        moving: all of it.
        ways: initial and personalized accuracy.
        kinds: gain as recorded, and as computed here.
    """

    def __init__(self, above: Axes, below: Axes) -> None:
        self._here = [
            axes.axvspan(-_HALF, _HALF, color=PALETTE[8], alpha=0.35, linewidth=0) for axes in (above, below)
        ]
        styles = {"initial": ("o", PALETTE[0]), "personalized": ("s", PALETTE[1])}
        self._recorded, self._fresh = [], []
        for name, (marker, colour) in styles.items():
            self._recorded += above.plot([], [], f"{marker}-", color=colour, markersize=8, label=name)
            self._fresh += above.plot([], [], marker, color=_FRESH, markersize=7, markerfacecolor="white")
        self._recorded += below.plot([], [], "D-", color="0.2", markersize=5, label="recorded, 95 % interval")
        self._fresh += below.plot([], [], "D", color=_FRESH, markersize=5)
        self._fresh[-1].set_label("computed here")
        self._intervals = [below.vlines([], 0, 1, color=colour, linewidth=3) for colour in ("0.2", _FRESH)]
        self.ways, self.kinds = self._recorded[:2], [self._recorded[2], self._fresh[2]]
        self.moving = [*self._here, *self._recorded, *self._intervals, *self._fresh]

    def show(self, recorded: Sequence[Gain], fresh: Mapping[int, Gain], here: int) -> None:
        """The cells along this knob, those of them computed here, and at which one the slider stands."""
        for band in self._here:
            band.set_x(here - _HALF)
        places = [place + _ASIDE for place in fresh]
        for lines, intervals, x, gains in (
            (self._recorded, self._intervals[0], list(range(len(recorded))), list(recorded)),
            (self._fresh, self._intervals[1], places, list(fresh.values())),
        ):
            lines[0].set_data(x, [gain.initial for gain in gains])
            lines[1].set_data(x, [gain.personalized for gain in gains])
            lines[2].set_data(x, [gain.gain.estimate for gain in gains])
            ends = zip(x, gains, strict=True)
            intervals.set_segments([((at, one.gain.low), (at, one.gain.high)) for at, one in ends])


class GridPicture:
    """A column for each knob, the others where they are: above initial and personalized accuracy, below gain.

    Attributes:
        figure: what `show` changes.
    """

    def __init__(self, config: Heterogeneity, recorded: Mapping[tuple[float, ...], Gain]) -> None:
        self._config, self._recorded = config, recorded
        self.figure = Figure(figsize=(10.4, 5.2))
        above, below = self.figure.subplots(2, len(KNOBS), sharex="col", sharey="row")
        self.figure.subplots_adjust(0.075, 0.115, 0.995, 0.92, 0.06, 0.09)
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
        keys = [
            above[0].legend(handles=self._columns[0].ways, loc="lower left", **style),
            below[0].legend(handles=self._columns[0].kinds, loc="upper left", **style),
        ]
        for column in self._columns:
            animate(column.moving)
        animate([self._title], keys)  # the keys, too, so that they lie over the band

    def show(self, cell: tuple[float, ...], fresh: Mapping[tuple[float, ...], Gain]) -> Figure:
        """The figure around a cell, with what was computed here."""
        for place, (knob, column) in enumerate(zip(KNOBS, self._columns, strict=True)):
            values = getattr(self._config, knob)
            along = [(*cell[:place], value, *cell[place + 1 :]) for value in values]
            column.show(
                [self._recorded[one] for one in along],
                {i: fresh[one] for i, one in enumerate(along) if one in fresh},
                values.index(cell[place]),
            )
        writers = self._recorded[cell].writers
        self._title.set_text(
            f"synthetic writers, {writers} held out: a column turns one knob, which stands at the band"
        )
        return self.figure
