"""Figures. Each function returns a Figure and touches no global state of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import seaborn
from matplotlib.colors import PowerNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import PersonalizationTable
from fl_meta.support.random_streams import stream

# Told apart by colour-blind readers; marks and underlines say the same without colour.
PALETTE = seaborn.color_palette("colorblind")


def glyph_sheet(
    data: FederatedDataset,
    client_ids: Sequence[str] | None = None,
    characters: str | Sequence[str] = "0Oo1Il7Z2zS5sg9qaAfbG",
    *,
    seed: int = 0,
) -> Figure:
    """One example of each character by each client, a row per client: who writes how, and what means what.

    A cell is blank where the client has no example of the character. Values run from 0, white, to 1, black.

    Args:
        data: grey images [examples, height, width], or with an axis for the one channel, and `class_names`.
        client_ids: whom to show, one row each; the first 12 if left out.
        characters: names of classes, one column each.
        seed: chooses the example where a client has several.

    Raises:
        ValueError: if `data` has no grey images or lacks a character, or if nothing is asked for.
        KeyError: for a client that `data` does not have.
    """
    image_shape = [length for length in data.x.shape[1:] if length > 1]
    if len(image_shape) != 2:
        shape = "×".join(str(length) for length in data.x.shape[1:])
        raise ValueError(f"{data.name!r} has examples of shape {shape}; a glyph sheet needs grey images")
    missing = [character for character in characters if character not in data.class_names]
    if missing:
        raise ValueError(f"{data.name!r} has no class named {missing[0]!r}; see its class_names")
    rows = tuple(data.client_ids[:12] if client_ids is None else client_ids)
    if not rows or not len(characters):
        raise ValueError("client_ids and characters must not be empty; give at least one of each")

    gap, (height, width) = 2, image_shape
    sheet = np.zeros((len(rows) * (height + gap), len(characters) * (width + gap)))
    for row, client_id in enumerate(rows):
        client = data[client_id]
        images = np.concatenate([client.train_x, client.test_x]).reshape(-1, height, width)
        labels = np.concatenate([client.train_y, client.test_y])
        random = stream(seed, "glyph sheet", client_id)
        for column, character in enumerate(characters):
            examples = np.flatnonzero(labels == data.class_names.index(character))
            if len(examples):
                top, left = row * (height + gap), column * (width + gap)
                sheet[top : top + height, left : left + width] = images[random.choice(examples)]

    figure = Figure(figsize=(1.4 + 0.4 * len(characters), 0.6 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(sheet, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(np.arange(len(characters)) * (width + gap) + width / 2, list(characters))
    axes.set_yticks(np.arange(len(rows)) * (height + gap) + height / 2, rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(data.label)
    return figure


def same_ink_sheet(data: FederatedDataset, *, count: int = 10, examples: int = 3000, seed: int = 0) -> Figure:
    """Pairs of nearly equal images by two clients who mean different things by them.

    Each column is the most alike pair of its two classes (cosine of the pixels) among `examples` images
    drawn at random; the most alike column comes first.

    Args:
        data: grey images with one label each and `class_names`.
        count: number of columns.
        examples: how many images to compare.
        seed: of the draw.
    """
    owners = np.repeat(np.arange(len(data)), data.counts)
    index = np.concatenate([start + np.arange(n) for start, n in zip(data.starts, data.counts, strict=True)])
    chosen = stream(seed, "same ink").permutation(len(index))[:examples]
    owners, index = owners[chosen], index[chosen]
    flat, labels = data.x[index].reshape(len(index), -1), data.y[index]
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(min=1e-9)
    alike = np.triu(flat @ flat.T)
    alike[(labels[:, None] == labels) | (owners[:, None] == owners)] = 0
    pairs: dict[frozenset[int], tuple[int, int]] = {}
    for place in np.argsort(-alike, axis=None)[: 400 * count]:
        first, second = divmod(int(place), len(index))
        pairs.setdefault(frozenset((int(labels[first]), int(labels[second]))), (first, second))
    figure = Figure(figsize=(1.05 * count, 3.0), layout="constrained")
    columns = list(pairs.values())[:count]
    grid = figure.subplots(2, len(columns), squeeze=False)
    for column, pair in enumerate(columns):
        for axes, i in zip(grid[:, column], pair, strict=True):
            axes.set_axis_off()
            axes.imshow(data.x[index[i]], cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
            writer = data.client_ids[owners[i]].rpartition("_")[2]
            axes.set_title(f"{writer}: {data.class_names[labels[i]]}", fontsize=9, pad=2)
    figure.suptitle(f"{data.label}: two clients, nearly the same ink, two classes", fontsize=10)
    return figure


def partition_plot(data: FederatedDataset) -> Figure:
    """Who has what: each client's share of every label as a shade, and its number of examples above it.

    A column is a client, a row a label. Labels that the same clients have much of are neighbours, and so are
    clients with the same most frequent label, the purest first. White is no example at all.

    Args:
        data: of any kind; train and test parts are counted together.
    """
    counts = data.class_counts()
    totals = counts.sum(axis=1)
    shares = counts / totals.clip(min=1)[:, None]
    shares = shares[:, (labels := _chain(shares))]
    clients = np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))
    height = min(max(0.22 * len(labels), 1.2), 7.0)
    figure = Figure(figsize=(8.0, 1.8 + height), layout="constrained")
    sizes, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, height))
    sizes.stairs(totals[clients], np.arange(len(clients) + 1) - 0.5, fill=True, color=PALETTE[0])
    sizes.set(
        ylabel="labels" if data.y.ndim > 1 else "examples", title=f"{data.label}: {len(data):,} clients"
    )
    image = axes.imshow(
        shares[clients].T,
        cmap="Blues",
        norm=PowerNorm(0.5, vmin=0, vmax=shares.max()),  # the eye tells few from none
        aspect="auto",
        interpolation="nearest",
    )
    names = [data.class_names[label] if data.class_names else str(label) for label in labels]
    every = -(-len(names) // 35)
    axes.set_yticks(np.arange(len(names))[::every], names[::every])
    axes.set(xlabel="clients, by their most frequent label", ylabel="label", xticks=[])
    figure.colorbar(image, ax=axes, label="share of the client's labels", pad=0.01)
    return figure


def _chain(shares: NDArray[np.float64]) -> list[int]:
    """Labels from shares [clients, labels]: after each the one left that most goes to the same clients."""
    centred = shares - shares.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=0).clip(min=1e-12)
    alike = centred.T @ centred
    chain = [0]
    while len(chain) < len(alike):
        left = np.setdiff1d(np.arange(len(alike)), chain)
        chain.append(int(left[alike[chain[-1], left].argmax()]))
    return chain


def prediction_sheet(
    data: FederatedDataset,
    client_id: str,
    initial: Sequence[int],
    personalized: Sequence[int],
    *,
    columns: int = 12,
    rows: int = 3,
) -> Figure:
    """A client's test images with what they mean, what the initial and what the personalized model reads.

    The images that the initial model gets wrong come first; "t: a → b" is the true class, the initial and the
    personalized prediction. Right predictions are blue, wrong ones orange and underlined.

    Args:
        data: grey images with `class_names`.
        client_id: whose test part is shown.
        initial: predicted classes of the test part before adaptation [test examples].
        personalized: the same after it.
        columns: images per row.
        rows: rows at most.

    Raises:
        KeyError: if the client is not in the data set.
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
        for x, text in ((0.22, initial[i]), (0.78, personalized[i])):
            right = int(text) == true
            axes.text(
                x,
                -0.04,
                data.class_names[int(text)] + ("" if right else "\u0332"),
                color=PALETTE[0] if right else PALETTE[3],
                fontweight="bold",
                ha="center",
                va="top",
                transform=axes.transAxes,
            )
        axes.text(0.5, -0.04, "→", ha="center", va="top", transform=axes.transAxes)
    figure.suptitle(f"{data.label}, {client_id}: initial → personalized", fontsize=10)
    return figure


def adaptation_curve(tables: Mapping[str, PersonalizationTable]) -> Figure:
    """Mean test accuracy over clients after every adaptation epoch, with the 95 % interval of the gain.

    The band is that of the paired gain, drawn around the mean: how sure we are of the change, not of the
    level. Epoch 0 is the initial model.

    Args:
        tables: one personalization table per label in the legend.
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
    """How the gain in test accuracy after the last epoch is spread over clients, and the share it hurts.

    Args:
        tables: one personalization table per panel title.
    """
    figure = Figure(figsize=(4.4 * len(tables), 3.2), layout="constrained")
    for axes, (title, table) in zip(
        figure.subplots(1, len(tables), squeeze=False).flat, tables.items(), strict=True
    ):
        accuracies = table.accuracies()
        gain = 100 * (accuracies[accuracies.columns.max()] - accuracies[0])
        seaborn.histplot(gain, ax=axes, color=PALETTE[0], bins=20)
        axes.axvline(0, color="black", linewidth=1)
        axes.axvline(gain.mean(), color=PALETTE[1], linewidth=2, label=f"mean {gain.mean():+.1f}")
        axes.set(title=title, xlabel="gain in test accuracy, percentage points", ylabel="clients")
        axes.legend(frameon=False, title=f"{(gain < 0).mean():.0%} of clients hurt")
    return figure


def mistakes_html(text: str, right: Sequence[bool]) -> str:
    """Text as HTML with every character that was predicted wrongly set in orange and underlined.

    Args:
        text: what was really said [characters].
        right: whether each character was predicted [characters].
    """
    wrong = f"color:{to_hex(PALETTE[3])};text-decoration:underline"
    marked = "".join(
        escape(character) if good else f'<span style="{wrong}">{escape(character)}</span>'
        for character, good in zip(text, right, strict=True)
    )
    return f'<pre style="white-space:pre-wrap;line-height:1.5">{marked}</pre>'
