"""Slides from the lessons: a deck of reveal.js for each, in one file that needs no network.

A deck is made from an executed notebook. Its first slide has the title and the question of the lesson. Then
tags of cells decide; a cell without one of the first three is on no slide.

| tag            | cell                                                                     |
|----------------|--------------------------------------------------------------------------|
| `slide`        | begins a slide                                                           |
| `same-slide`   | stands below the cell before                                             |
| `fragment`     | the same, but appears only when the lecturer goes on                     |
| `without-code` | besides one of these: only the output is shown, as always with `prose`   |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from traitlets.config import Config

from fl_meta.course.editions import tags_of
from fl_meta.reproduction.accessibility import make_accessible
from fl_meta.reproduction.formulas import with_pictures
from fl_meta.reproduction.runner import PROSE
from fl_meta.reproduction.sources import choose_sources
from fl_meta.support.atomic_files import write_atomically

SLIDE_TYPES = {"slide": "slide", "same-slide": "-", "fragment": "fragment"}
"""What nbconvert calls the slides that our tags make."""

WITHOUT_CODE = "without-code"

# A link to another file of the repository: the deck is given away alone.
_LOCAL_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://)[^)]*\)")
# Of Pygments; its colours are dark enough on the background of code.
_CODE_STYLE = "xcode"


def write_slides(folder: Path, output: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write a deck `output/NN_name.html` for each lesson that has slides.

    Args:
        folder: with the sources, `NN_name.py`, and their executed notebooks beside them.
        output: where the decks go.
        names: of some lessons, as in `choose_sources`; all of them if there are none.

    Returns:
        The paths of the decks.

    Raises:
        FileNotFoundError: if there is no such source, or it has no notebook.
        ValueError: if the first tag of a lesson does not begin a slide.

    Example:
        >>> write_slides(Path("notebooks"), Path("build/course/slides"))  # doctest: +SKIP
    """
    written = []
    for source in choose_sources(folder, names):
        path = source.with_suffix(".ipynb")
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; run: fl-meta notebooks build {source.stem}")
        slides = slides_of(nbformat.read(path, as_version=4), source.stem)
        if slides is not None:
            target = output / f"{source.stem}.html"
            html = _exported(slides)
            write_atomically(target, partial(Path.write_text, data=html, encoding="utf-8"))
            written.append(target)
    return written


def slides_of(notebook: NotebookNode, name: str) -> NotebookNode | None:
    """The cells of a notebook that are on slides, as nbconvert wants them; None if no cell is.

    Raises:
        ValueError: if the first tag does not begin a slide.
    """
    tagged = [cell for cell in notebook.cells if SLIDE_TYPES.keys() & set(tags_of(cell))]
    if not tagged:
        return None
    if "slide" not in tags_of(tagged[0]):
        begin = repr(tagged[0].source.partition("\n")[0])
        raise ValueError(f"{name}: the first cell on a slide needs the tag 'slide': {begin}")
    # The title, and the paragraph with the question.
    first = "\n\n".join(notebook.cells[0].source.split("\n\n")[:2])
    title = nbformat.v4.new_markdown_cell(first, metadata={"tags": ["slide"]})
    deck: NotebookNode = nbformat.from_dict({**notebook, "cells": [title, *tagged]})
    make_accessible(deck)
    for cell in deck.cells:
        tags = set(tags_of(cell))
        kind = next(kind for tag, kind in SLIDE_TYPES.items() if tag in tags)
        cell.metadata.slideshow = nbformat.from_dict({"slide_type": kind})
        if tags & {PROSE, WITHOUT_CODE}:
            cell.metadata.transient = nbformat.from_dict({"remove_source": True})
        if cell.cell_type == "markdown":
            cell.source = _prepared(cell.source)
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "text/markdown" in data:
                data["text/markdown"] = _prepared(data["text/markdown"])
    return deck


def _prepared(text: str) -> str:
    """A text without links to other files, and with pictures of its formulas."""
    return with_pictures(_LOCAL_LINK.sub(r"\1", text))


def _exported(slides: NotebookNode) -> str:
    deck = resources.files("fl_meta.course") / "deck"
    parts = {
        name.replace(".", "_"): (deck / name).read_text(encoding="utf-8")
        for name in ("reveal.css", "reveal.js", "deck.css")
    }
    parts["title"] = slides.cells[0].source.partition("\n")[0].lstrip("# ")
    exporter = SlidesExporter(
        raw_template=(deck / "deck.html.j2").read_text(encoding="utf-8"),
        embed_images=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        config=Config({"CSSHTMLHeaderPreprocessor": {"style": _CODE_STYLE}}),
    )
    html: str
    html, _ = exporter.from_notebook_node(slides, {"deck": parts})
    return html
