"""The progress of a run of notebooks: one bar, with the running notebook's own progress inside it."""

from __future__ import annotations

import re
import sys
import time

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
    """One bar over notebooks; beside it the cell that runs, and the last line of the notebook's own bar.

    papermill hands it each cell (`cell`) and whatever the notebook writes to stderr (`write`).
    Where there is no terminal, as in a log, there is no bar: only a line for each finished notebook.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self.cells = 0
        self.position = 0  # of the running cell, from 1; 0 before the first
        self.source = ""
        self._name = ""
        self._drawn = 0.0
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

    def start(self, name: str) -> None:
        """A notebook starts."""
        self._name, self.position, self.cells, self.source = name, 0, 0, ""
        self._draw()

    def notebook(self, notebook: NotebookNode) -> None:
        """Its kernel is ready."""
        self.cells = len(notebook.cells)

    def cell(self, cell: NotebookNode, cell_index: int) -> None:
        """A cell starts."""
        self.position, self.source = cell_index + 1, cell.source
        self._draw()

    def write(self, text: str) -> None:
        """The notebook wrote to stderr: show the state of its own bar, if that is what it is."""
        if time.monotonic() - self._drawn < 0.2:
            return
        bars = [bar for line in re.split(r"[\r\n]", text) if (bar := _BAR.match(plain(line)))]
        if bars:
            self._draw(f"{bars[-1]['title'] or ''} {bars[-1]['count']}".strip())

    def flush(self) -> None:
        """Nothing waits to be written; a file has this, and papermill calls it."""

    def finish(self, line: str) -> None:
        """A notebook is done: leave a line about it."""
        self._done += 1
        tqdm.write(f"[{self._done}/{self._total}] {line}", file=sys.stderr)

    def _draw(self, inner: str = "") -> None:
        self._drawn = time.monotonic()
        self._bar.n = self._done + max(self.position - 1, 0) / max(self.cells, 1)
        cell = f"cell {self.position} of {self.cells}" if self.cells else "starting"
        parts = (f"{self._name} ({self._done + 1} of {self._total})", cell, inner)
        self._bar.set_description_str(" · ".join(part for part in parts if part))
