"""A drawing of the experiment behind claim 2a: one start, two ways on, a comparison client by client."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from fl_meta.experiments.crossed_settings import CONTINUED, REPTILE, Design
from fl_meta.plots.style import PALETTE

_FORK, _ENDS = 3.6, 7.1  # where the road forks, and where both ways end


def fork_diagram(design: Design) -> Figure:
    """Draw the fork of a design: FedAvg's rounds, the two ways on with their rounds, and what is compared.

    Example:
        >>> from fl_meta.experiments import DESIGNS
        >>> figure = fork_diagram(DESIGNS["writers-unstable"])
    """
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 10), ylim=(-1.45, 1.45))
    axes.set_axis_off()

    def arrow(start: tuple[float, float], end: tuple[float, float], colour: Any) -> None:
        style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 16}
        axes.annotate("", end, start, arrowprops=style | {"color": colour, "linewidth": 2.5})

    words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10}
    arrow((0.2, 0), (_FORK, 0), "0.3")
    first = f"FedAvg: up to {design.most_rounds} rounds,\n{design.clients_per_round} clients a round"
    axes.text(_FORK / 2, 0.4, first, **words)
    axes.text(0.2, -0.28, "random\nweights", **words | {"ha": "left", "va": "top", "color": "0.4"})
    axes.text(_FORK, -0.28, "the fork", **words | {"va": "top", "color": "0.4"})
    ways = ((1, CONTINUED, PALETTE[0]), (-1, REPTILE, PALETTE[3]))
    for side, name, colour in ways:
        arrow((_FORK, 0), (_ENDS, 0.95 * side), colour)
        label = f"{name}:\n{design.second_stage_rounds} rounds"
        bold = {"color": colour, "ha": "right", "weight": "bold"}
        axes.text((_FORK + _ENDS) / 2 - 0.05, 0.95 * side, label, **words | bold)
        arrow((_ENDS + 0.15, 0.95 * side), (8.1, 0.95 * side), "0.6")
        after = f"{design.personalization_epochs} epochs on each\nheld-out client's own data"
        axes.text(8.2, 0.95 * side, after, **words | {"ha": "left"})
        axes.plot(_ENDS, 0.95 * side, "o", color=colour, markersize=9)
    axes.plot(_FORK, 0, "ko", markersize=9)
    for place, measure in ((_ENDS, "initial"), (9.1, "personalized")):
        both = {"arrowstyle": "<->", "linestyle": ":", "color": "0.4", "linewidth": 1.3}
        axes.annotate("", (place, -0.6), (place, 0.6), arrowprops=both)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(place, 0, f"{measure}\naccuracy?", **words | {"bbox": box})
    return figure
