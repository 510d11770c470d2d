"""The progress of a run of notebooks: one bar, with the running notebook's own progress inside it."""

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
    """The text without the codes that colour it or move the cursor."""
    return _ANSI.sub("", text)


def is_progress_line(line: str) -> bool:
    """Whether tqdm wrote it."""
    return _BAR.match(plain(line)) is not None


class Progress:
    """One bar over notebooks; beside it what was last heard of one that runs.

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
        """A notebook starts."""
        one = NotebookProgress(name, self.draw)
        self._running.append(one)
        self.draw(name)
        return one

    def finish(self, one: NotebookProgress, line: str) -> None:
        """A notebook is done: leave a line about it."""
        self._running.remove(one)
        self._done += 1
        tqdm.write(f"[{self._done}/{self._total}] {line}", file=sys.stderr)

    def draw(self, text: str) -> None:
        """Show how far all are, and a text."""
        self._bar.n = self._done + sum(one.share for one in self._running)
        self._bar.set_description_str(f"{text} ({self._done} of {self._total} done)")


class NotebookProgress:
    """Where one notebook is. papermill hands it each cell, and what the notebook writes to stderr."""

    def __init__(self, name: str, draw: Callable[[str], None]) -> None:
        self.cells = 0
        self.position = 0  # of the running cell, from 1; 0 before the first
        self.source = ""
        self._name, self._draw = name, draw
        self._drawn = 0.0

    @property
    def share(self) -> float:
        """Of the cells that are done."""
        return max(self.position - 1, 0) / max(self.cells, 1)

    def notebook(self, notebook: NotebookNode) -> None:
        """Its kernel is ready."""
        self.cells = len(notebook.cells)

    def cell(self, cell: NotebookNode, cell_index: int) -> None:
        """A cell starts."""
        self.position, self.source = cell_index + 1, cell.source
        self._show()

    def write(self, text: str) -> None:
        """The notebook wrote to stderr: show the state of its own bar, if that is what it is."""
        if time.monotonic() - self._drawn < 0.2:
            return
        bars = [bar for line in re.split(r"[\r\n]", text) if (bar := _BAR.match(plain(line)))]
        if bars:
            self._show(f"{bars[-1]['title'] or ''} {bars[-1]['count']}".strip())

    def flush(self) -> None:
        """Nothing waits to be written; a file has this, and papermill calls it."""

    def _show(self, inner: str = "") -> None:
        self._drawn = time.monotonic()
        parts = (self._name, f"cell {self.position} of {self.cells}", inner)
        self._draw(" · ".join(part for part in parts if part))
