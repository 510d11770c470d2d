"""A notebook and its twin: `NN_name.py` is what people edit and review, `NN_name.ipynb` what they read.

The twin has the cells as text (jupytext's percent format). Building executes it and writes the notebook with
its outputs. What would differ from build to build although nothing changed (times, random names) is left out.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tempfile
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode
from PIL import Image

from fl_meta.experiments.settings import PROFILES
from fl_meta.reproduction.runner import (
    KERNEL,
    PATTERN,
    WIDGET_VIEW,
    NotebookRun,
    find,
    parameters_of,
    run_one,
)
from fl_meta.support.atomic_files import write_atomically

MOST_BYTES = 500_000
"""A larger notebook would burden every clone of the repository."""


def choose(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The twins with these names (`01_name`, with or without a suffix); all of them if no name is given.

    Raises:
        FileNotFoundError: if the folder has no twins, or a name is none of theirs.
    """
    twins = {path.stem: path for path in find(folder, ".py")}
    chosen = []
    for name in names:
        stem = Path(name).stem
        if stem not in twins:
            nearest = difflib.get_close_matches(stem, twins, n=1, cutoff=0.0)[0]
            raise FileNotFoundError(f"no twin {stem}.py in {folder}; did you mean {nearest}?")
        chosen.append(twins[stem])
    return tuple(chosen) if names else tuple(twins.values())


def read_twin(path: Path) -> NotebookNode:
    """The notebook that the twin describes, without outputs.

    A cell's id depends on its source alone, so that a cell put in between changes no other one.
    """
    notebook: NotebookNode = jupytext.read(path, fmt="py:percent")
    kernel = {"name": KERNEL, "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        # A formatter puts blank lines before a function in the twin, and none at the top of a cell.
        cell.source = cell.source.strip("\n")
        digest = hashlib.sha256(f"{cell.cell_type}:{cell.source}".encode()).hexdigest()[:8]
        cell.id = f"{digest}-{seen[digest]}"
        seen[digest] += 1
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def build(twin: Path) -> NotebookRun:
    """Execute a twin with the parameters written in it, and write the notebook beside it.

    Where it fails, the notebook that was there stays as it was.

    Raises:
        ValueError: if it has no parameter `profile`, or the notebook is larger than `MOST_BYTES`.
        OSError: if it cannot be written.
    """
    target = twin.with_suffix(".ipynb")
    with tempfile.TemporaryDirectory(prefix="fl_meta_") as folder:
        # Executed from the twin's own folder, where a reader executes it too.
        source = Path(folder) / "source.ipynb"
        nbformat.write(read_twin(twin), source)
        profile = parameters_of(source).get("profile")
        if profile not in PROFILES:
            raise ValueError(f"{twin.name} needs a parameter profile, one of {', '.join(PROFILES)}")
        run = run_one(source, Path(folder) / target.name, profile, twin.parent)
        if not run.failures:
            notebook = nbformat.read(run.path, as_version=4)
            _without_widgets(notebook)
            _in_fewer_colours(notebook)
            text = _stable_text(notebook)
            if (size := len(text.encode())) > MOST_BYTES:
                raise ValueError(
                    f"{target.name} has {size:,} bytes, more than {MOST_BYTES:,}; show less in it"
                )
            write_atomically(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return run


def check(folder: Path) -> list[str]:
    """What is wrong between the notebooks of a folder and their twins, one line each; empty if nothing is.

    Raises:
        FileNotFoundError: if the folder has no twins.
    """
    problems = [
        f"{path.name} has no twin {path.stem}.py"
        for path in sorted(folder.glob(PATTERN + ".ipynb"))
        if not path.with_suffix(".py").exists()
    ]
    for twin in find(folder, ".py"):
        path = twin.with_suffix(".ipynb")
        if path.exists():
            problems += [f"{path.name}: {problem}" for problem in _differences(twin, path)]
        else:
            problems.append(f"{path.name} is missing; run: fl-meta notebooks build {twin.stem}")
    return problems


def _differences(twin: Path, path: Path) -> list[str]:
    problems = []
    expected = read_twin(twin).cells
    cells = nbformat.read(path, as_version=4).cells
    if len(cells) != len(expected):
        problems.append(f"has {len(cells)} cells, its twin {len(expected)}")
    for number, (cell, wanted) in enumerate(zip(cells, expected, strict=False), start=1):
        for name, here, there in (
            ("type", cell.cell_type, wanted.cell_type),
            ("source", cell.source.strip(), wanted.source.strip()),
            ("tags", _tags(cell), _tags(wanted)),
        ):
            if here != there:
                problems.append(
                    f"cell {number} differs from its twin in {name}: {_first_difference(here, there)}"
                )
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    if any(cell.execution_count is None for cell in code) or not any(cell.outputs for cell in code):
        problems.append("is not executed from top to bottom")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        problems.append("shows an error")
    if (size := path.stat().st_size) > MOST_BYTES:
        problems.append(f"has {size:,} bytes, more than {MOST_BYTES:,}")
    return problems


def _tags(cell: NotebookNode) -> list[str]:
    return sorted(cell.metadata.get("tags", []))


def _first_difference(here: Any, there: Any) -> str:
    if not isinstance(here, str):
        return f"{here} | {there}"
    lines = zip_longest(here.splitlines(), there.splitlines(), fillvalue="")
    return next(f"{a!r} | {b!r}" for a, b in lines if a != b)


def _without_widgets(notebook: NotebookNode) -> None:
    """Until the cells are run again no slider moves anything; what a panel has shown stays as a picture."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)


def _in_fewer_colours(notebook: NotebookNode) -> None:
    """Pictures in 256 colours: figures look as before and take a third of the bytes."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = Image.open(BytesIO(b64decode(data["image/png"]))).convert("RGB")
                buffer = BytesIO()
                picture.quantize(256).save(buffer, "png", optimize=True)
                data["image/png"] = b64encode(buffer.getvalue()).decode()


def _stable_text(notebook: NotebookNode) -> str:
    """The file of an executed notebook, without what changes from one execution to the next."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.language_info = nbformat.from_dict({"name": "python"})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags" and v})
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
