"""Figures. Each function returns a Figure and touches no global state of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fl_meta.data.federated import FederatedDataset
from fl_meta.streams import stream


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
    images = data.x.squeeze(axis=tuple(axis for axis in range(1, data.x.ndim) if data.x.shape[axis] == 1))
    if images.ndim != 3:
        shape = "×".join(str(length) for length in data.x.shape[1:])
        raise ValueError(f"{data.name!r} has examples of shape {shape}; a glyph sheet needs grey images")
    missing = [character for character in characters if character not in data.class_names]
    if missing:
        raise ValueError(f"{data.name!r} has no class named {missing[0]!r}; see its class_names")
    rows = tuple(data.client_ids[:12] if client_ids is None else client_ids)
    if not rows or not len(characters):
        raise ValueError("client_ids and characters must not be empty; give at least one of each")

    gap, (height, width) = 2, images.shape[1:]
    sheet = np.zeros((len(rows) * (height + gap), len(characters) * (width + gap)))
    for row, client_id in enumerate(rows):
        position = data.position(client_id)
        start = data.starts[position]
        labels = data.y[start : start + data.counts[position]]
        random = stream(seed, "glyph sheet", client_id)
        for column, character in enumerate(characters):
            examples = start + np.flatnonzero(labels == data.class_names.index(character))
            if len(examples):
                top, left = row * (height + gap), column * (width + gap)
                sheet[top : top + height, left : left + width] = images[random.choice(examples)]

    figure = Figure(figsize=(1.4 + 0.4 * len(characters), 0.6 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(sheet, cmap="Greys", vmin=0, vmax=1)
    axes.set_xticks(np.arange(len(characters)) * (width + gap) + width / 2, list(characters))
    axes.set_yticks(np.arange(len(rows)) * (height + gap) + height / 2, rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(data.label)
    return figure
