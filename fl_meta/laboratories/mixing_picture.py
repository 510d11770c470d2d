"""The picture of a mix of inner gradients."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure

from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.mixing import MOST_ROUNDS, PRESETS, small_writers, train_mix
from fl_meta.plots.style import PALETTE

_OWN = "your mix"


class MixPicture:
    """Left initial → personalized accuracy of the table's rows and of a mix, right the mix over the rounds.

    Attributes:
        figure: what `show` changes.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(10.4, 4.2))
        ends, course = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(0.11, 0.14, 0.99, 0.91, 0.14)
        names = [*PRESETS, _OWN]
        self._ways, self._texts = [], []
        for place, name in enumerate(names):
            colour = PALETTE[1] if name == _OWN else "0.45"
            style = {"linewidth": 3, "marker": "o", "markersize": 9, "markerfacecolor": "white"}
            self._ways += ends.plot([], [], color=colour, markevery=[0], **style)
            self._ways += ends.plot([], [], "s", color=colour, markersize=10)
            self._texts.append(ends.text(2, place + 0.36, "", fontsize=12))
        ends.set(xlim=(0, 100), ylim=(len(names) - 0.4, -0.6), yticks=range(len(names)))
        ends.set_yticklabels(names, fontsize=12)
        ends.set_xlabel("accuracy, %:  ○ initial → ■ personalized", fontsize=12)
        self._title = ends.set_title("", fontsize=13)
        self._curves = [
            *course.plot([], [], "o-", color=PALETTE[0], markersize=8, label="initial"),
            *course.plot([], [], "s-", color=PALETTE[1], markersize=8, label="personalized"),
        ]
        course.set(xlim=(-1, MOST_ROUNDS + 1), ylim=(0, 100))
        course.set_xlabel("round", fontsize=12)
        course.set_title(f"{_OWN}: accuracy, %", fontsize=13)
        course.legend(frameon=False, fontsize=12, loc="upper left")
        for axes in (ends, course):
            axes.tick_params(axis="x", labelsize=11)
            axes.grid(alpha=0.3)
        animate(self._ways, self._texts, self._curves, [self._title])

    def show(
        self, mix: Sequence[float], client_rate: float, server_rate: float, rounds: int
    ) -> tuple[Figure, str]:
        """The figure at these settings, and what it says in words, as HTML."""
        writers = small_writers()
        runs = {
            name: train_mix(writers, weights, client_rate, server_rate, rounds)
            for name, weights in {**PRESETS, _OWN: tuple(mix)}.items()
        }
        for place, run in enumerate(runs.values()):
            start, end = run.initial[-1], run.personalized[-1]
            self._ways[2 * place].set_data([start, end], [place, place])
            self._ways[2 * place + 1].set_data([end], [place])
            self._texts[place].set_text(f"{start:.1f} → {end:.1f}  ({end - start:+.1f})")
        self._title.set_text(f"after {rounds} rounds, {len(writers.held_out)} held-out writers")
        own = runs[_OWN]
        for curve, values in zip(self._curves, (own.initial, own.personalized), strict=True):
            curve.set_data(own.rounds, values)
        terms = [
            f"{'−' if weight < 0 else '+'} {abs(weight):g} g<sub>{j}</sub>"
            for j, weight in enumerate(mix, start=1)
            if weight
        ]
        mixed = " ".join(terms).removeprefix("+ ") or "0"
        tests = int(writers.held_out.test_counts.sum())
        words = (
            f"{escape(writers.held_out.label)}: the server steps against {mixed}. The "
            f"held-out writers have {tests} test images in all: differences of a point or two are noise."
        )
        return self.figure, words
