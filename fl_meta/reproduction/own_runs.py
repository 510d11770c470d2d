"""The runs that notebooks ask for, computed before them, so that no notebook waits for another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from tqdm import tqdm

from fl_meta.evidence.own_run import your_run
from fl_meta.evidence.processes import processes
from fl_meta.reproduction.runner import AT_ONCE

ASKED = re.compile(r"""your_run\(\s*["']([\w-]+)""")


def asked_runs(notebooks: Sequence[Path]) -> list[str]:
    """The names of the designs in calls of `your_run`, in the order of the notebooks."""
    cells = (cell for path in notebooks for cell in nbformat.read(path, as_version=4).cells)
    return list(dict.fromkeys(name for cell in cells for name in ASKED.findall(cell.source)))


def compute_own_runs(names: Sequence[str], profile: str, seed: int) -> None:
    """Compute these runs side by side and keep them in `own_folder`; a bar shows how many are done.

    A run that fails is left to the notebook that asks for it, whose page then shows the error.
    """
    with processes(AT_ONCE) as pool, ThreadPoolExecutor(AT_ONCE) as threads:
        running = [
            threads.submit(your_run, name, profile, seed, executor=pool, progress=False) for name in names
        ]
        for _ in tqdm(as_completed(running), "your runs", len(running), False, unit="run"):
            pass
