"""A held-out client: its glyphs or lines, which predictions are wrong, and its accuracy by epoch."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fl_meta.data.encoding import decode
from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.client import (
    EPOCHS,
    RECIPES,
    ClientAdaptation,
    adapt_client,
    first_line,
    held_out_study,
    write_on,
)
from fl_meta.laboratories.panel import Panel, choice, slider
from fl_meta.plots.personalization import mistakes_html
from fl_meta.plots.style import PALETTE

_GOOD, _BAD = PALETTE[0], PALETTE[3]
_COLUMNS, _ROWS = 9, 4  # of glyphs: room for the largest test part
_CELL_HEIGHT, _CELL_WIDTH, _GLYPH = 45, 34, 28  # in pixels of the images
_SHOWN_CHARACTERS = 480  # of a role's test part
_GAP = (np.nan, np.nan)
_FRAME = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0), _GAP])


def meet_a_client(*, dataset: str = "writers", client: str | None = None, epoch: int = 0) -> Panel:
    """Meet a held-out client: what the global model gets wrong, and which predictions flip as it adapts.

    The global model is trained at the first call, in a few seconds.

    Args:
        dataset: "writers" (synthetic handwriting), or "shakespeare", where the model also writes on.
        client: one of the twelve held-out clients with the most test examples; None takes the first.
        epoch: epochs of adaptation; 0 is the global model.

    Raises:
        ValueError: if the data set is unknown, the client is not among the twelve, or the epoch is out of
            bounds.
        ModuleNotFoundError: if "shakespeare" needs a package that is not installed; the message says how to
            install it.

    Example:
        >>> panel = meet_a_client(dataset="writers", epoch=1)  # doctest: +SKIP
        >>> panel.set(epoch=10)  # doctest: +SKIP
    """
    if dataset not in RECIPES:
        raise ValueError(f"data set: {dataset!r} is unknown; choose one of {', '.join(map(repr, RECIPES))}")
    offered = held_out_study(dataset).offered
    is_handwriting = dataset == "writers"
    label = "writer" if is_handwriting else "role"
    controls = {
        "client": choice(label, offered[0] if client is None else client, offered),
        "epoch": slider("epochs of adaptation", epoch, 0, EPOCHS, 1),
    }
    draw = GlyphPicture().show if is_handwriting else TextPicture().show
    return Panel("meet_a_client", controls, draw, fixed=f"dataset={dataset!r}")


class GlyphPicture:
    """A writer's test images and how they are misread on the left, the accuracy by epoch on the right.

    The figure is made once; `show` only changes what moves.
    """

    def __init__(self) -> None:
        self._figure = Figure(figsize=(10.4, 4.6875))
        axes = self._figure.add_axes((0.005, 0.13, 0.613, 0.8))  # two pixels for each pixel of an image
        self._curve = _AccuracyCurve(self._figure.add_axes((0.7, 0.17, 0.29, 0.75)), "writers")
        shape = (_ROWS * _CELL_HEIGHT, _COLUMNS * _CELL_WIDTH)
        extent = (0, shape[1], shape[0], 0)
        self._sheet = axes.imshow(
            np.zeros(shape), "Greys", vmin=0, vmax=1, extent=extent, interpolation="nearest"
        )
        axes.set(xticks=[], yticks=[], anchor="NW")
        axes.spines[:].set_visible(False)
        self._title = axes.set_title("", fontsize=13, loc="left")
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 12}
        self._captions = [
            axes.text((column + 0.5) * _CELL_WIDTH, (row + 0.88) * _CELL_HEIGHT, "", **style)
            for row in range(_ROWS)
            for column in range(_COLUMNS)
        ]
        self._frames = [
            *axes.plot([], [], color=_BAD, linewidth=1.5, label="misread: A→4 is an A, read as 4"),
            *axes.plot([], [], color=_GOOD, linewidth=2, linestyle=(0, (2, 1)), label="✔ now right"),
            *axes.plot([], [], color=_BAD, linewidth=4, label="✘ now wrong"),
        ]
        axes.legend(
            frameon=False,
            fontsize=11,
            ncols=3,
            loc="upper left",
            bbox_to_anchor=(-0.01, 0.0),
            handlelength=1.5,
            columnspacing=1.2,
        )
        animate([self._sheet, self._title], self._captions, self._frames, self._curve.moving)

    def show(self, client: str, epoch: int) -> tuple[Figure, str]:
        """The figure of a writer after so many epochs, and its words as HTML."""
        data, adaptation = held_out_study("writers").adaptation.data, adapt_client("writers", client)
        order = np.argsort(adaptation.truth, kind="stable")
        sheet = np.zeros((_ROWS * _CELL_HEIGHT, _COLUMNS * _CELL_WIDTH))
        corners = []
        for number, i in enumerate(order):
            row, column = divmod(number, _COLUMNS)
            top, left = row * _CELL_HEIGHT + 3, column * _CELL_WIDTH + 3
            sheet[top : top + _GLYPH, left : left + _GLYPH] = adaptation.client.test_x[i]
            corners.append((left - 1, top - 1))
        self._sheet.set_data(sheet)
        before, now = adaptation.right[0][order], adaptation.right[epoch][order]
        kinds = (~before & ~now, ~before & now, before & ~now)
        for line, kind in zip(self._frames, kinds, strict=True):
            _draw_frames(line, np.array(corners)[kind])
        for caption in self._captions:
            caption.set_text("")
        for caption, i, was, good in zip(self._captions, order, before, now, strict=False):
            labels = adaptation.truth[i], adaptation.predicted[epoch, i]
            true, read = (data.class_names[label] for label in labels)
            flip = "" if was == good else "✔ " if good else "✘ "
            caption.set_text(flip + (true if good else f"{true}→{read}"))
            caption.set_color("black" if good and was else _GOOD if good else _BAD)
        self._title.set_text(f"{client}, {data.label}: test images, {_when(epoch)}")
        self._curve.show(adaptation, epoch)
        return self._figure, _words("writers", adaptation, epoch, "test images", "train images")


class TextPicture:
    """A role's accuracy by epoch, its unseen lines with the wrong guesses, and what the model writes on."""

    def __init__(self) -> None:
        self._figure = Figure(figsize=(3.9, 3.2))
        self._curve = _AccuracyCurve(self._figure.add_axes((0.12, 0.16, 0.85, 0.74)), "shakespeare")
        animate(self._curve.moving)

    def show(self, client: str, epoch: int) -> tuple[Figure, str, str]:
        """The accuracy of a role as a figure, its words and its lines as HTML, after so many epochs."""
        adaptation = adapt_client("shakespeare", client)
        self._curve.show(adaptation, epoch)
        shown = slice(_SHOWN_CHARACTERS)
        before, now = adaptation.right[[0, epoch], shown].tolist()
        lines = mistakes_html(decode(adaptation.truth[shown]), now, before)
        page = (
            f'<div style="width:34em;max-width:100%"><b>{escape(client)}: unseen lines, {_when(epoch)}</b>'
            f"{_scrolling(lines, 13)}{_KEY}</div>"
        )
        before_text, now_text = (
            f'<div style="flex:1 1 24em"><b>{when} it writes on:</b>'
            f"{_scrolling(mistakes_html(text, [True] * len(text)), 8)}</div>"
            for when, text in (
                (f"before ({_when(0)})", write_on(client)[0]),
                (f"now ({_when(epoch)})", write_on(client)[epoch]),
            )
        )
        counts = _words("shakespeare", adaptation, epoch, "characters", "train examples of 80 characters")
        source = escape(held_out_study("shakespeare").adaptation.data.source)
        words = (
            f'<div style="display:flex;flex-wrap:wrap;gap:1em">{before_text}{now_text}</div>{counts} '
            f"Both texts go on after “{escape(first_line(adaptation))}”, with the same random numbers: they "
            f"part where the models disagree. {source}."
        )
        return self._figure, words, page


# The same marks as in the text: whether each character is guessed now, and whether it was before.
_KEY = mistakes_html(
    "wrong guess   now right   now wrong",
    [False] * 11 + [True] * 15 + [False] * 9,
    [False] * 11 + [True] * 3 + [False] * 9 + [True] * 12,
)


def _scrolling(content: str, lines: int) -> str:
    """HTML in a box of fixed height, so that nothing below it jumps; the keyboard can scroll it."""
    return f'<div style="height:{1.5 * lines}em;overflow-y:auto" tabindex="0">{content}</div>'


class _AccuracyCurve:
    """Accuracy by epoch: of the client, and the mean of all held-out clients."""

    def __init__(self, axes: Axes, dataset: str) -> None:
        accuracies = 100 * held_out_study(dataset).table.accuracies()
        name = f"mean of all {len(accuracies)} held-out"
        axes.plot(accuracies.mean(), color="0.45", linestyle="--", linewidth=2, label=name)
        (self._line,) = axes.plot([], [], "o-", color=_GOOD, markersize=6, label="this client")
        (self._now,) = axes.plot([], [], "D", color=PALETTE[1], markersize=12, markeredgecolor="black")
        self._title = axes.set_title("", fontsize=13)
        low, high = np.quantile(accuracies, (0, 1)).tolist()
        axes.set(xlim=(-0.5, EPOCHS + 0.5), xticks=range(0, EPOCHS + 1, 2))
        axes.set_ylim(max(low - 0.35 * (high - low), 0), high + 0.05 * (high - low))  # legend at the bottom
        axes.set_xlabel("epochs of adaptation", fontsize=12)
        axes.tick_params(labelsize=11)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=11, loc="lower right")
        self.moving = [self._line, self._now, self._title]

    def show(self, adaptation: ClientAdaptation, epoch: int) -> None:
        """Draw a client's curve, with a mark at the epoch."""
        accuracies = adaptation.accuracies
        self._line.set_data(np.arange(EPOCHS + 1), accuracies)
        self._now.set_data([epoch], [accuracies[epoch]])
        self._title.set_text(f"test accuracy: {accuracies[0]:.1f} → {accuracies[epoch]:.1f} %")


def _draw_frames(line: Line2D, corners: NDArray[np.int64]) -> None:
    """Draw a frame around the glyph at every upper left corner [n, 2], as one line with gaps."""
    line.set_data(*(corners[:, None] + _FRAME * (_GLYPH + 2)).reshape(-1, 2).T)


def _when(epoch: int) -> str:
    return f"after {epoch} epoch{'s' * (epoch > 1)}" if epoch else "global model"


def _words(dataset: str, adaptation: ClientAdaptation, epoch: int, tests: str, trains: str) -> str:
    """Accuracies and flips, as HTML."""
    study = held_out_study(dataset)
    data = study.adaptation.data
    before, now = adaptation.right[0], adaptation.right[epoch]
    first, last = adaptation.accuracies[[0, epoch]]
    mean = 100 * study.table.accuracies().mean()
    count = len(adaptation.truth)
    error = (last * (100 - last) / count) ** 0.5  # for independent predictions, which characters are not
    return (
        f"<b>{escape(adaptation.client.client_id)}</b>, {escape(data.label)}, {_when(epoch)}: {now.sum()} of "
        f"{count} {tests} right, {last:.1f} %; with the global model {before.sum()}, {first:.1f} %. "
        f"<b>{(~before & now).sum()} ✔ now right, {(before & ~now).sum()} ✘ now wrong</b>, "
        f"{last - first:+.1f} points. It adapts with its {len(adaptation.client.train_x)} {trains}. "
        f"Mean of all {len(data)} held-out clients: {mean[0]:.1f} → {mean[epoch]:.1f} %. One client is an "
        f"anecdote: {count} predictions leave a standard error of at least {error:.1f} points."
    )
