"""Figures of experiments' results. Each function returns a Figure; accuracies are in percent.

`results` are those of one experiment, one per seed; `names` are names of its models or courses, and `label`
is what the title calls the data, by default the data set's label.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from fl_meta.evidence.result_types import Result, TableOneResult
from fl_meta.evidence.table_one_verdicts import table_one_cells
from fl_meta.experiments.table_one import PAPER_TABLE_ONE
from fl_meta.plots.style import PALETTE


def _label(results: Sequence[Result], label: str | None) -> str:
    """What the title calls the data; the data set's label unless another is given."""
    labels = {result.data.label for result in results}
    if len(labels) != 1:
        raise ValueError(
            f"a figure shows the results of one data set, not of {len(labels)}: {sorted(labels)}"
        )
    return label or labels.pop()


def table_plot(results: Sequence[TableOneResult], *, label: str | None = None) -> Figure:
    """Table 1: accuracy against the number of local epochs, a panel for each number of clients per round.

    A line is the mean over seeds, each small dot a seed. The paper's own values are below in grey. They are
    on other data and after other training, so shapes can be compared but levels cannot.

    Example:
        >>> table_plot(results)  # doctest: +SKIP
    """
    label = _label(results, label)
    measures = {"initial": (PALETTE[0], "o"), "personalized": (PALETTE[1], "s")}
    cells, paper = table_one_cells(results), PAPER_TABLE_ONE.reset_index()
    halves = sorted(cells.clients_per_round.unique())
    papers = sorted(paper.clients_per_round.unique())
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    grid = figure.subplots(2, max(len(halves), len(papers)), sharey="row", squeeze=False)
    for axes, clients in zip(grid[0], halves, strict=False):
        half = cells[cells.clients_per_round == clients]
        for name, (colour, marker) in measures.items():
            mean = 100 * half.groupby("local_epochs")[name].mean()
            axes.plot(mean.index, mean, color=colour, marker=marker, label=name)
            axes.plot(half.local_epochs, 100 * half[name], ".", color=colour, markersize=4, alpha=0.6)
        axes.set_title(f"{clients} clients a round")
    for axes, clients in zip(grid[1], papers, strict=False):
        half = paper[paper.clients_per_round == clients]
        for name, (_, marker) in measures.items():
            mean, spread = 100 * half[name], 100 * half[f"{name}_spread"]
            style = {"marker": marker, "markerfacecolor": "white" if name == "initial" else "0.55"}
            style |= {"color": "0.55", "label": f"paper, {name}"}
            axes.errorbar(half.local_epochs, mean, spread, capsize=3, **style)
        axes.set_title(f"paper: EMNIST-62, {clients} clients a round", color="0.4")
    for row, panels, source in zip(grid, (halves, papers), (cells, paper), strict=True):
        ticks = sorted(source.local_epochs.unique())
        for axes in row[: len(panels)]:
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.set(xlabel="local epochs E")
            axes.grid(alpha=0.3)
        row[0].set_ylabel("accuracy, %")
        row[0].legend(frameon=False, fontsize=9)
        for axes in row[len(panels) :]:
            axes.set_axis_off()
    figure.suptitle(f"{label}: mean of held-out clients (small dots: each seed)")
    return figure
