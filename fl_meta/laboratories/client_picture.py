"""Pictures of a client: its glyphs or lines, what is misread, and its accuracy epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fl_meta.data.encoding import decode
from fl_meta.data.federated import FederatedDataset
from fl_meta.laboratories.animated_figure import animate
from fl_meta.laboratories.client import EPOCHS, ClientAdaptation, first_line, held_out_study, meet, write_on
from fl_meta.plots.style import PALETTE

_WIDTH = 10.4  # inches
_GOOD, _BAD = PALETTE[0], PALETTE[3]
_COLUMNS, _ROWS = 9, 4  # of glyphs: room for the largest test part
_CELL_HEIGHT, _CELL_WIDTH, _GLYPH = 45, 34, 28  # in pixels of the images
_LETTERS, _LINES, _WRITTEN_LETTERS, _WRITTEN_LINES = 58, 9, 54, 6  # of text
_POINTS, _LINE_POINTS = 11, 15.5  # font size and line height
_LETTER_POINTS = 0.602 * _POINTS  # advance of DejaVu Sans Mono
_GAP = (np.nan, np.nan)
_FRAME = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0), _GAP])
_UNDERLINE = np.array([(0, 0.93), (1, 0.93), _GAP])


class GlyphPicture:
    """Left a writer's test images and what is misread, right the accuracy over epochs of adaptation.

    Attributes:
        figure: what `show` changes.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(_WIDTH, 4.6875))
        axes = self.figure.add_axes((0.005, 0.13, 0.613, 0.8))  # two pixels for each of an image
        self._course = _Course(self.figure.add_axes((0.7, 0.17, 0.29, 0.75)), "writers")
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
        _key(axes)
        animate([self._sheet, self._title], self._captions, self._frames, self._course.moving)

    def show(self, client: str, epoch: int) -> tuple[Figure, str]:
        """The figure of a writer after so many epochs, and what it says in words, as HTML."""
        data, meeting = held_out_study("writers").adaptation.data, meet("writers", client)
        order = np.argsort(meeting.truth, kind="stable")
        sheet = np.zeros((_ROWS * _CELL_HEIGHT, _COLUMNS * _CELL_WIDTH))
        corners = []
        for place, i in enumerate(order):
            row, column = divmod(place, _COLUMNS)
            top, left = row * _CELL_HEIGHT + 3, column * _CELL_WIDTH + 3
            sheet[top : top + _GLYPH, left : left + _GLYPH] = meeting.client.test_x[i]
            corners.append((left - 1, top - 1))
        self._sheet.set_data(sheet)
        before, now = meeting.right[0][order], meeting.right[epoch][order]
        kinds = (~before & ~now, ~before & now, before & ~now)
        for frame, kind in zip(self._frames, kinds, strict=True):
            _drawn(frame, np.array(corners)[kind], _FRAME * (_GLYPH + 2))
        for caption in self._captions:
            caption.set_text("")
        for caption, i, was, good in zip(self._captions, order, before, now, strict=False):
            labels = meeting.truth[i], meeting.predicted[epoch, i]
            true, read = (data.class_names[label] for label in labels)
            flip = "" if was == good else "✔ " if good else "✘ "
            caption.set_text(flip + (true if good else f"{true}→{read}"))
            caption.set_color("black" if good and was else _GOOD if good else _BAD)
        self._title.set_text(f"{client}, {data.label}: test images, {_when(epoch)}")
        self._course.show(meeting, epoch)
        return self.figure, _words("writers", meeting, epoch, "test images", "train images")


class LinePicture:
    """A role's unseen lines and what is not guessed, its accuracy, and what the model writes before and now.

    Attributes:
        figure: the last role's; what changes with the epoch moves, as drawing all the text takes longer.
    """

    def __init__(self) -> None:
        self._client = ""

    def show(self, client: str, epoch: int) -> tuple[Figure, str]:
        """The figure of a role after so many epochs, and what it says in words, as HTML."""
        if client != self._client:
            self._begin(client)
        data, meeting = held_out_study("shakespeare").adaptation.data, meet("shakespeare", client)
        count = len(self._places)
        before, now = meeting.right[0, :count], meeting.right[epoch, :count]
        _drawn(self._wrong, self._places[~now], _UNDERLINE)
        for frame, kind in zip(self._flips, (~before & now, before & ~now), strict=True):
            _drawn(frame, self._places[kind], _FRAME * (1, 0.93))
        self._page.title.set_text(f"{client}: unseen lines, {_when(epoch)}")
        self._now.title.set_text(f"now ({_when(epoch)}) it writes on:")
        self._now.show(_laid_out(write_on(client)[epoch], _WRITTEN_LETTERS)[0])
        self._course.show(meeting, epoch)
        words = _words("shakespeare", meeting, epoch, "characters", "train examples of 80 characters")
        return self.figure, words + (
            f" Both texts go on after “{escape(first_line(meeting))}”, with the same random numbers: they "
            f"part where the models disagree. {escape(data.source)}."
        )

    def _begin(self, client: str) -> None:
        self._client = client
        self.figure = Figure(figsize=(_WIDTH, 4.6))
        self._page = _Page(self.figure, 0.01, 0.94, _LETTERS, _LINES)
        before, self._now = (
            _Page(self.figure, left, 0.32, _WRITTEN_LETTERS, _WRITTEN_LINES) for left in (0.01, 0.51)
        )
        self._course = _Course(self.figure.add_axes((0.64, 0.5, 0.35, 0.43)), "shakespeare")
        text = decode(meet("shakespeare", client).truth[: _LETTERS * _LINES])
        lines, places = _laid_out(text, _LETTERS)
        self._places = places[places[:, 1] < _LINES]
        self._page.show(lines)
        before.title.set_text(f"before ({_when(0)}) it writes on:")
        before.show(_laid_out(write_on(client)[0], _WRITTEN_LETTERS)[0])
        axes = self._page.axes
        (self._wrong,) = axes.plot([], [], color=_BAD, linewidth=2, label="underlined: wrong guess")
        self._flips = [
            *axes.plot([], [], color=_GOOD, linewidth=1.3, label="framed: now right"),
            *axes.plot([], [], color=_BAD, linewidth=1.3, label="both: now wrong"),
        ]
        _key(axes)
        animate([self._wrong, self._page.title, self._now.title], self._flips, self._now.lines)
        animate(self._course.moving)


class _Page:
    """Lines of monospaced text on axes that have a letter as unit across, and a line downwards."""

    def __init__(self, figure: Figure, left: float, top: float, letters: int, lines: int) -> None:
        width, height = 72 * figure.get_size_inches()
        size = letters * _LETTER_POINTS / width, lines * _LINE_POINTS / height
        self.axes = figure.add_axes((left, top - size[1], *size))
        self.axes.set(xlim=(0, letters), ylim=(lines, 0))
        self.axes.set_axis_off()
        self.title = self.axes.set_title("", fontsize=13, loc="left")
        style: dict[str, Any] = {"family": "DejaVu Sans Mono", "fontsize": _POINTS, "parse_math": False}
        self.lines = [self.axes.text(0, i + 0.75, "", **style) for i in range(lines)]

    def show(self, lines: Sequence[str]) -> None:
        """As many lines as there is room for."""
        for i, text in enumerate(self.lines):
            text.set_text(lines[i] if i < len(lines) else "")


class _Course:
    """Accuracy over epochs: of the client, and the mean of all held-out ones."""

    def __init__(self, axes: Axes, dataset: str) -> None:
        accuracies = 100 * held_out_study(dataset).table.accuracies()
        name = f"mean of all {len(accuracies)} held-out"
        axes.plot(accuracies.mean(), color="0.45", linestyle="--", linewidth=2, label=name)
        (self._line,) = axes.plot([], [], "o-", color=_GOOD, markersize=6, label="this client")
        (self._now,) = axes.plot([], [], "D", color=PALETTE[1], markersize=12, markeredgecolor="black")
        self._title = axes.set_title("", fontsize=13)
        low, high = np.quantile(accuracies, (0, 1)).tolist()
        axes.set(xlim=(-0.5, EPOCHS + 0.5), xticks=range(0, EPOCHS + 1, 2))
        axes.set_ylim(max(low - 0.35 * (high - low), 0), high + 0.05 * (high - low))  # below is the legend
        axes.set_xlabel("epochs of adaptation", fontsize=12)
        axes.tick_params(labelsize=11)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=11, loc="lower right")
        self.moving = [self._line, self._now, self._title]

    def show(self, meeting: ClientAdaptation, epoch: int) -> None:
        """With a mark at the epoch."""
        accuracies = meeting.accuracies
        self._line.set_data(np.arange(EPOCHS + 1), accuracies)
        self._now.set_data([epoch], [accuracies[epoch]])
        self._title.set_text(f"test accuracy: {accuracies[0]:.1f} → {accuracies[epoch]:.1f} %")


def _key(axes: Axes) -> None:
    axes.legend(
        frameon=False,
        fontsize=11,
        ncols=3,
        loc="upper left",
        bbox_to_anchor=(-0.01, 0.0),
        handlelength=1.5,
        columnspacing=1.2,
    )


def _drawn(line: Line2D, corners: NDArray[np.int64], outline: NDArray[np.float64]) -> None:
    """The same outline at every upper left corner [n, 2], as one line with gaps."""
    line.set_data(*(corners[:, None] + outline).reshape(-1, 2).T)


def _laid_out(text: str, width: int) -> tuple[list[str], NDArray[np.int64]]:
    """Text in lines of at most `width` letters, ↵ for the end of a line, and each letter's place there.

    Returns:
        The lines, and column and line of every character of the text [characters, 2].
    """
    lines, places = [""], []
    for character in text:
        if len(lines[-1]) == width:
            lines.append("")
        places.append((len(lines[-1]), len(lines) - 1))
        lines[-1] += "↵" if character == "\n" else character
        if character == "\n":
            lines.append("")
    return lines, np.array(places, dtype=np.int64).reshape(-1, 2)


def _when(epoch: int) -> str:
    return f"after {epoch} epoch{'s' * (epoch > 1)}" if epoch else "global model"


def _words(dataset: str, meeting: ClientAdaptation, epoch: int, tests: str, trains: str) -> str:
    """Accuracies and flips, as HTML."""
    people = held_out_study(dataset)
    data: FederatedDataset = people.adaptation.data
    before, now = meeting.right[0], meeting.right[epoch]
    first, last = meeting.accuracies[[0, epoch]]
    mean = 100 * people.table.accuracies().mean()
    count = len(meeting.truth)
    error = (last * (100 - last) / count) ** 0.5  # of independent predictions, which characters are not
    return (
        f"<b>{escape(meeting.client.client_id)}</b>, {escape(data.label)}, {_when(epoch)}: {now.sum()} of "
        f"{count} {tests} right, {last:.1f} %; with the global model {before.sum()}, {first:.1f} %. "
        f"<b>{(~before & now).sum()} ✔ now right, {(before & ~now).sum()} ✘ now wrong</b>, "
        f"{last - first:+.1f} points. It adapts with its {len(meeting.client.train_x)} {trains}. "
        f"Mean of all {len(data)} held-out clients: {mean[0]:.1f} → {mean[epoch]:.1f} %. One client is an "
        f"anecdote: {count} predictions leave a standard error of at least {error:.1f} points."
    )
