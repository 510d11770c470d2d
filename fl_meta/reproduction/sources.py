"""Notebooks and their sources: people edit and review `NN_name.py`, and read `NN_name.ipynb`.

The source has the cells as text, in jupytext's percent format. Building executes it and writes the notebook
with its outputs. Whatever changes from build to build by itself, such as times, is left out.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import jupytext
import nbformat
from jupytext.compare import NotebookDifference, compare_notebooks
from nbformat import NotebookNode
from PIL import Image

from fl_meta.experiments.settings import PROFILES
from fl_meta.reproduction.runner import (
    KERNEL,
    PATTERN,
    PROSE,
    WIDGET_VIEW,
    NotebookRun,
    find,
    parameters_of,
    run_one,
)
from fl_meta.support.atomic_files import write_atomically
from fl_meta.support.run_folder import run_folder

FORMAT = "py:percent"
MAXIMUM_BYTES = 500_000
"""The largest notebook allowed: every clone of the repository downloads it."""


def choose_sources(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The sources with these names (`01_name`, with or without a suffix); all of them if no name is given.

    Raises:
        FileNotFoundError: if the folder has no sources, or none of one of the names.

    Example:
        >>> choose_sources(Path("notebooks"), ["02_initial_and_personalized"])  # doctest: +SKIP
    """
    sources = {path.stem: path for path in find(folder, ".py")}
    chosen = []
    for name in names:
        stem = Path(name).stem
        if stem not in sources:
            nearest = difflib.get_close_matches(stem, sources, n=1, cutoff=0.0)[0]
            raise FileNotFoundError(f"no source {stem}.py in {folder}; did you mean {nearest}?")
        chosen.append(sources[stem])
    return tuple(chosen) if names else tuple(sources.values())


def read_source(path: Path) -> NotebookNode:
    """The notebook that a source describes, without outputs.

    A cell's id depends on its text alone, so that inserting a cell changes no other cell's id.
    """
    notebook: NotebookNode = jupytext.read(path, fmt=FORMAT)
    kernel = {"name": KERNEL, "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        # A formatter puts blank lines before a function in the source, and none at the top of a cell.
        cell.source = cell.source.strip("\n")
        digest = hashlib.sha256(f"{cell.cell_type}:{cell.source}".encode()).hexdigest()[:8]
        cell.id = f"{digest}-{seen[digest]}"
        cell.metadata = _kept_metadata(cell)
        seen[digest] += 1
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _kept_metadata(cell: NotebookNode) -> NotebookNode:
    """The tags of a cell. Of a cell tagged `prose`, whose output is a sentence, JupyterLab hides the code."""
    tags = cell.metadata.get("tags", [])
    hidden = {"jupyter": {"source_hidden": True}} if PROSE in tags else {}
    kept: NotebookNode = nbformat.from_dict(({"tags": tags} if tags else {}) | hidden)
    return kept


def build_notebook(source: Path) -> NotebookRun:
    """Execute a source with the parameters written in it, and write the notebook beside it.

    If a cell fails, the existing notebook stays as it was.

    Raises:
        ValueError: if the source has no parameter `profile`, or the notebook is larger than `MAXIMUM_BYTES`.
        OSError: if the notebook cannot be written.

    Example:
        >>> build_notebook(Path("notebooks/02_initial_and_personalized.py")).failures  # doctest: +SKIP
    """
    target = source.with_suffix(".ipynb")
    with run_folder() as folder:
        without_outputs = folder / "source.ipynb"
        nbformat.write(read_source(source), without_outputs)
        profile = parameters_of(without_outputs).get("profile")
        if profile not in PROFILES:
            raise ValueError(f"{source.name} needs a parameter profile, one of {', '.join(PROFILES)}")
        # Executed in the source's own folder, where a reader executes it too.
        run = run_one(without_outputs, folder / target.name, profile, source.parent)
        if not run.failures:
            notebook = nbformat.read(run.path, as_version=4)
            _remove_widgets(notebook)
            _reduce_colours(notebook)
            text = _stable_text(notebook)
            if (size := len(text.encode())) > MAXIMUM_BYTES:
                raise ValueError(
                    f"{target.name} has {size:,} bytes, but at most {MAXIMUM_BYTES:,} are allowed; "
                    "show less in it"
                )
            write_atomically(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return run


def check_notebooks(folder: Path) -> list[str]:
    """The problems with the notebooks of a folder and their sources; an empty list if there are none.

    Raises:
        FileNotFoundError: if the folder has no sources.

    Example:
        >>> check_notebooks(Path("notebooks"))  # doctest: +SKIP
    """
    problems = [
        f"{path.name} has no source {path.stem}.py"
        for path in sorted(folder.glob(PATTERN + ".ipynb"))
        if not path.with_suffix(".py").exists()
    ]
    for source in find(folder, ".py"):
        path = source.with_suffix(".ipynb")
        if path.exists():
            problems += [f"{path.name} {problem}" for problem in _problems(source, path)]
        else:
            problems.append(f"{path.name} is missing; run: fl-meta notebooks build {source.stem}")
    return problems


def _problems(source: Path, path: Path) -> list[str]:
    problems = []
    notebook = nbformat.read(path, as_version=4)
    try:
        compare_notebooks(notebook, read_source(source), FORMAT)
    except NotebookDifference as difference:
        problems.append(f"differs from its source. {difference}")
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if any(cell.execution_count is None for cell in code) or not any(cell.outputs for cell in code):
        problems.append("was not executed from top to bottom")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        problems.append("shows an error")
    if (size := path.stat().st_size) > MAXIMUM_BYTES:
        problems.append(f"has {size:,} bytes, but at most {MAXIMUM_BYTES:,} are allowed")
    return problems


def _remove_widgets(notebook: NotebookNode) -> None:
    """Remove sliders, which move nothing until the cells are run again; a panel's picture stays."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)


def _reduce_colours(notebook: NotebookNode) -> None:
    """Store pictures in 256 colours: figures look the same and take a third of the bytes."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = Image.open(BytesIO(b64decode(data["image/png"]))).convert("RGB")
                buffer = BytesIO()
                picture.quantize(256).save(buffer, "png", optimize=True)
                data["image/png"] = b64encode(buffer.getvalue()).decode()


def _stable_text(notebook: NotebookNode) -> str:
    """An executed notebook as JSON, without what changes from one execution to the next."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.language_info = nbformat.from_dict({"name": "python"})
    for cell in notebook.cells:
        cell.metadata = _kept_metadata(cell)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
