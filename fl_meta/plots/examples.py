"""Figures of a data set. Each function returns a Figure and leaves matplotlib's global state alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fl_meta.data.federated import FederatedDataset
from fl_meta.plots.style import PALETTE
from fl_meta.support.random_streams import random_stream


def glyph_sheet(
    data: FederatedDataset,
    client_ids: Sequence[str] | None = None,
    characters: str | Sequence[str] = "0Oo1Il7Z2zS5sg9qaAfbG",
    *,
    seed: int = 0,
) -> Figure:
    """Show one example of each character by each client, a row per client.

    A square is blank where the client has no example of the character. Pixels run from 0, white, to 1, black.

    Args:
        data: grey images [examples, height, width], or with an axis for the one channel, and `class_names`.
        client_ids: the clients to show, one row each; the first 12 by default.
        characters: names of classes, one column each.
        seed: chooses the example where a client has several.

    Raises:
        ValueError: if `data` has no grey images or lacks a character, or if there is nothing to show.
        KeyError: if a client is not in the data set.

    Example:
        >>> figure = glyph_sheet(data, characters="0Oo1Il")
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
        random = random_stream(seed, "glyph sheet", client_id)
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
    """Show pairs of nearly equal images that two clients mean as different classes.

    Each column is the most similar pair of its two classes (by the cosine of the pixels) among `examples`
    images drawn at random; the most similar column comes first.

    Args:
        data: grey images with one label each and `class_names`.
        count: number of columns.

    Example:
        >>> figure = same_ink_sheet(data, count=4, examples=300)
    """
    owners = np.repeat(np.arange(len(data)), data.counts)
    index = np.concatenate([start + np.arange(n) for start, n in zip(data.starts, data.counts, strict=True)])
    chosen = random_stream(seed, "same ink").permutation(len(index))[:examples]
    owners, index = owners[chosen], index[chosen]
    flat, labels = data.x[index].reshape(len(index), -1), data.y[index]
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(min=1e-9)
    similarity = np.triu(flat @ flat.T)
    similarity[(labels[:, None] == labels) | (owners[:, None] == owners)] = 0
    pairs: dict[frozenset[int], tuple[int, int]] = {}
    for position in np.argsort(-similarity, axis=None)[: 400 * count]:
        first, second = divmod(int(position), len(index))
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
    """Show how labels are spread over clients: each label's share as a shade, the number of examples above.

    A column is a client, a row a label. Neighbouring labels are frequent in the same clients; clients with
    the same most frequent label are neighbours, ordered by its share. White means no example at all. Train
    and test parts are counted together.

    Example:
        >>> figure = partition_plot(data)
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
        norm=PowerNorm(0.5, vmin=0, vmax=shares.max()),  # makes small shares visible
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
    """Order the labels of shares [clients, labels] so that each is followed by the most similar one left."""
    centred = shares - shares.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=0).clip(min=1e-12)
    similarity = centred.T @ centred
    chain = [0]
    while len(chain) < len(similarity):
        left = np.setdiff1d(np.arange(len(similarity)), chain)
        chain.append(int(left[similarity[chain[-1], left].argmax()]))
    return chain
