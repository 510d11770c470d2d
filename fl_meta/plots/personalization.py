"""Figures of personalization, client by client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

import numpy as np
import seaborn
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import PersonalizationTable
from fl_meta.plots.style import PALETTE

_WRONG = "#a84300"  # the orange of the figures, darker: letters are thinner than marks


def prediction_sheet(
    data: FederatedDataset,
    client_id: str,
    initial: Sequence[int],
    personalized: Sequence[int],
    *,
    columns: int = 12,
    rows: int = 3,
) -> Figure:
    """Show a client's test images with the true class, and the initial → personalized prediction.

    The images that the initial model gets wrong come first. Right predictions are blue, wrong ones orange and
    underlined.

    Args:
        data: grey images with `class_names`.
        initial: predicted classes of the test part before adaptation [test examples].
        personalized: the same after adaptation.
        rows: maximal number of rows.

    Raises:
        KeyError: if the client is not in the data set.

    Example:
        >>> client_id = held_out.client_ids[0]
        >>> true = held_out[client_id].test_y
        >>> figure = prediction_sheet(held_out, client_id, initial=0 * true, personalized=true)
    """
    client = data[client_id]
    order = np.argsort(np.asarray(initial) == client.test_y, kind="stable")[: columns * rows]
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(0.95 * columns, 1.45 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, i in zip(grid.flat, order, strict=False):
        axes.imshow(client.test_x[i], cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        true = int(client.test_y[i])
        axes.set_title(f"is {data.class_names[true]}", fontsize=9, pad=2)
        below = {"ha": "center", "va": "top", "transform": axes.transAxes}
        for x, predicted in ((0.22, int(initial[i])), (0.78, int(personalized[i]))):
            right = predicted == true
            text, colour = data.class_names[predicted], PALETTE[0 if right else 3]
            text = text if right else f"{text}\u0332"
            axes.text(x, -0.04, text, color=colour, fontweight="bold", **below)
        axes.text(0.5, -0.04, "→", **below)
    figure.suptitle(f"{data.label}, {client_id}: initial → personalized", fontsize=10)
    return figure


def adaptation_curve(tables: Mapping[str, PersonalizationTable]) -> Figure:
    """Show the mean test accuracy over clients after every adaptation epoch, with the gain's 95 % interval.

    The band is the interval of the paired gain, drawn around the mean: it tells how certain the change is,
    not the level. Epoch 0 is the initial model. The keys of `tables` are the labels in the legend.

    Example:
        >>> table = fl_meta.personalize(model, params, held_out, client=fl_meta.SGD(0.1))
        >>> figure = adaptation_curve({"FedAvg": table})
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for (label, table), colour, marker in zip(tables.items(), PALETTE, "osD^vP", strict=False):
        summary = table.summary()
        mean = summary.test_accuracy_by_client
        initial = mean.loc[0]
        axes.plot(summary.index, mean, color=colour, marker=marker, label=label)
        low, high = (initial + summary[name].fillna(0) for name in ("gain_low", "gain_high"))
        axes.fill_between(summary.index, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(
        xlabel="epochs of adaptation on the client's train part", ylabel="test accuracy, mean of clients"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def gain_histogram(tables: Mapping[str, PersonalizationTable]) -> Figure:
    """Show how the gain in test accuracy after the last epoch varies over clients, and how many it hurts.

    The keys of `tables` are the titles of the panels.

    Example:
        >>> table = fl_meta.personalize(model, params, held_out, client=fl_meta.SGD(0.1))
        >>> figure = gain_histogram({"FedAvg": table})
    """
    figure = Figure(figsize=(4.4 * len(tables), 3.2), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False).flat
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        accuracies = table.accuracies()
        gain = 100 * (accuracies[accuracies.columns.max()] - accuracies[0])
        seaborn.histplot(gain, ax=axes, color=PALETTE[0], bins=20)
        axes.axvline(0, color="black", linewidth=1)
        axes.axvline(gain.mean(), color=PALETTE[1], linewidth=2, label=f"mean {gain.mean():+.1f}")
        axes.set(title=title, xlabel="gain in test accuracy, percentage points", ylabel="clients")
        axes.legend(frameon=False, title=f"{(gain < 0).mean():.0%} of clients hurt")
    return figure


def mistakes_html(text: str, right: Sequence[bool], before: Sequence[bool] | None = None) -> str:
    """Text as HTML, with wrongly predicted characters in orange and underlined.

    A marked line end shows as ↵.

    Args:
        text: the true characters [characters].
        right: whether each character was predicted [characters].
        before: the same for an earlier model; characters that have flipped since get a frame [characters].

    Raises:
        ValueError: if the lengths differ.

    Example:
        >>> html = mistakes_html("to be", [True, True, True, False, True])
        >>> "<u " in html
        True
    """
    marked = []
    letters = zip(text, right, right if before is None else before, strict=True)
    for (good, flipped), run in groupby(
        letters, key=lambda letter: (bool(letter[1]), letter[1] != letter[2])
    ):
        content = escape("".join(character for character, _, _ in run))
        if good and not flipped:
            marked.append(content)
            continue
        colour = to_hex(PALETTE[0]) if good else _WRONG
        style = f"outline:1.5px solid {colour}" if flipped else ""
        if not good:
            style = f"color:{colour};text-decoration:underline;{style}"
        tag = "span" if good else "u"
        content = content.replace("\n", "↵\n")
        marked.append(f'<{tag} style="{style}">{content}</{tag}>')
    layout = "white-space:pre-wrap;word-break:normal;line-height:1.5"  # JupyterLab breaks within words
    return f'<pre style="{layout}">{"".join(marked)}</pre>'
