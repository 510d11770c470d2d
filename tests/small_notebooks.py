"""Notebooks of a few cells, which several tests write and run."""

from collections.abc import Sequence
from pathlib import Path

import nbformat

KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
# Needs the names `profile` and `effect`.
VERDICT = """
from fl_meta.evidence import Verdict, VerdictTable
numbers = effect, (1.0, 2.0), "points"
VerdictTable((Verdict("gain", "It helps", "toy (synthetic)", "reproduced", *numbers, profile),))
"""


def write_notebook(
    path: Path, cells: Sequence[str], parameters: str = 'profile = "laptop"\nseed = 0'
) -> None:
    cell = nbformat.v4.new_code_cell
    both = [cell(parameters, metadata={"tags": ["parameters"]}), *map(cell, cells)]
    nbformat.write(nbformat.v4.new_notebook(cells=both, metadata={"kernelspec": KERNELSPEC}), path)
