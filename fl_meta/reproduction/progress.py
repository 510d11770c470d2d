"""Progress of a run of notebooks: one bar for all, which also shows the running notebook's own bar."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable

from nbformat import NotebookNode
from tqdm import tqdm

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# A line of tqdm: "FedAvg:  40%|████      | 120/300 [00:04<00:06, 29.1round/s]".
_BAR = re.compile(r"^(?:(?P<title>.*?):)?\s*\d+%\|.*\|\s*(?P<count>\S+/\S+) \[.*$")


def plain(text: str) -> str:
    """The text without the control codes that colour it or move the cursor."""
    return _ANSI.sub("", text)


def is_progress_line(line: str) -> bool:
    """Whether tqdm wrote the line."""
    return _BAR.match(plain(line)) is not None


class Progress:
    """One bar over all notebooks, with the latest news of one that is running.

    Where there is no terminal, as in a log, there is no bar: only a line for each finished notebook.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._running: list[NotebookProgress] = []
        self._bar = tqdm(
            total=total,
            disable=None,
            leave=False,
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}%|{bar:16}| {elapsed} {desc}",
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def start(self, name: str) -> NotebookProgress:
        """Start a notebook."""
        notebook = NotebookProgress(name, self.draw)
        self._running.append(notebook)
        self.draw(name)
        return notebook

    def finish(self, notebook: NotebookProgress, line: str) -> None:
        """Count a notebook as done and print a line about it."""
        self._running.remove(notebook)
        self._done += 1
        tqdm.write(f"[{self._done}/{self._total}] {line}", file=sys.stderr)

    def draw(self, text: str) -> None:
        """Draw the bar with a text beside it."""
        self._bar.n = self._done + sum(notebook.fraction_done for notebook in self._running)
        self._bar.set_description_str(f"{text} ({self._done} of {self._total} done)")


class NotebookProgress:
    """How far one notebook is. papermill hands it each cell, and what the notebook writes to stderr.

    Attributes:
        cells: number of cells; 0 until the kernel is ready.
        position: number of the running cell, from 1; 0 before the first.
        source: code of the running cell.
    """

    def __init__(self, name: str, draw: Callable[[str], None]) -> None:
        self.cells = 0
        self.position = 0
        self.source = ""
        self._name, self._draw = name, draw
        self._drawn = 0.0

    @property
    def fraction_done(self) -> float:
        """The fraction of its cells that are done."""
        return max(self.position - 1, 0) / max(self.cells, 1)

    def start_notebook(self, notebook: NotebookNode) -> None:
        """Called by papermill when the kernel is ready."""
        self.cells = len(notebook.cells)

    def start_cell(self, cell: NotebookNode, cell_index: int) -> None:
        """Called by papermill when a cell starts."""
        self.position, self.source = cell_index + 1, cell.source
        self._show()

    def write(self, text: str) -> None:
        """Called with what the notebook writes to stderr: show its own bar, at most five times a second."""
        if time.monotonic() - self._drawn < 0.2:
            return
        bars = [bar for line in re.split(r"[\r\n]", text) if (bar := _BAR.match(plain(line)))]
        if bars:
            self._show(f"{bars[-1]['title'] or ''} {bars[-1]['count']}".strip())

    def flush(self) -> None:
        """Do nothing; papermill calls it, as on a file."""

    def _show(self, inner_bar: str = "") -> None:
        self._drawn = time.monotonic()
        texts = (self._name, f"cell {self.position} of {self.cells}", inner_bar)
        self._draw(" · ".join(text for text in texts if text))
