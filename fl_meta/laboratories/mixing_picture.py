"""A mix of inner gradients, as a picture and as a panel."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure

from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.mixing import MOST_ROUNDS, PRESETS, small_writers, train_mix
from fl_meta.laboratories.panel import Panel, slider
from fl_meta.plots.style import PALETTE

_OWN = "your mix"


def mix_your_own(
    *,
    g_1: float = 1.0,
    g_2: float = 1.0,
    g_3: float = 1.0,
    g_4: float = 1.0,
    g_5: float = 1.0,
    client_rate: float = 0.5,
    server_rate: float = 1.0,
    rounds: int = 20,
) -> Panel:
    """Choose how much of each inner gradient is sent: initial and personalized accuracy on small writers.

    The arguments are the first settings of the controls.

    Args:
        g_1: weight of the gradient at the global model; g_2 … g_5: of those after 1 … 4 local steps.
        client_rate: the clients' learning rate β, also for adaptation.
        server_rate: the learning rate of the server's SGD.
        rounds: number of rounds.

    Raises:
        ValueError: if a value is out of its control's bounds.

    Example:
        >>> panel = mix_your_own(g_1=0.0, g_5=2.0)  # doctest: +SKIP
        >>> panel.buttons["FOMAML(4)"].click()  # doctest: +SKIP
    """
    weights = {"g_1": g_1, "g_2": g_2, "g_3": g_3, "g_4": g_4, "g_5": g_5}
    controls = {
        **{
            name: slider(f"weight of g{subscript}", value, -1.0, 5.0, 0.25)
            for subscript, (name, value) in zip("₁₂₃₄₅", weights.items(), strict=True)
        },
        "client_rate": slider("client rate β", client_rate, 0.05, 2.0, 0.05),
        "server_rate": slider("server rate (SGD)", server_rate, 0.1, 5.0, 0.1),
        "rounds": slider("rounds", rounds, 1, MOST_ROUNDS, 1),
    }
    picture = MixPicture()

    def draw(client_rate: float, server_rate: float, rounds: int, **mix: float) -> tuple[Figure, str]:
        return picture.show([mix[name] for name in weights], client_rate, server_rate, rounds)

    presets = {name: dict(zip(weights, mix, strict=True)) for name, mix in PRESETS.items()}
    return Panel("mix_your_own", controls, draw, presets=presets)


class MixPicture:
    """Initial → personalized accuracy of the presets and of a mix on the left, the mix by round on the right.

    The figure is made once; `show` only moves its lines, so that the picture follows a slider at once.
    """

    def __init__(self) -> None:
        self._figure = Figure(figsize=(10.4, 4.2))
        ends, course = self._figure.subplots(1, 2)
        self._figure.subplots_adjust(0.11, 0.14, 0.99, 0.91, 0.14)
        names = [*PRESETS, _OWN]
        self._lines, self._texts = [], []
        for row, name in enumerate(names):
            colour = PALETTE[1] if name == _OWN else "0.45"
            style = {"linewidth": 3, "marker": "o", "markersize": 9, "markerfacecolor": "white"}
            self._lines += ends.plot([], [], color=colour, markevery=[0], **style)
            self._lines += ends.plot([], [], "s", color=colour, markersize=10)
            self._texts.append(ends.text(2, row + 0.36, "", fontsize=12))
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
        animate(self._lines, self._texts, self._curves, [self._title])

    def show(
        self, mix: Sequence[float], client_rate: float, server_rate: float, rounds: int
    ) -> tuple[Figure, str]:
        """The figure for these settings, and its words as HTML."""
        writers = small_writers()
        runs = {
            name: train_mix(writers, weights, client_rate, server_rate, rounds)
            for name, weights in {**PRESETS, _OWN: tuple(mix)}.items()
        }
        for row, run in enumerate(runs.values()):
            start, end = run.initial[-1], run.personalized[-1]
            self._lines[2 * row].set_data([start, end], [row, row])
            self._lines[2 * row + 1].set_data([end], [row])
            self._texts[row].set_text(f"{start:.1f} → {end:.1f}  ({end - start:+.1f})")
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
        return self._figure, words
