"""Alternative texts: what a figure shows, in words, for readers who do not see it.

The cell that draws a figure begins with it, as a comment that may go on over several lines:

    # alt: Two line charts over the number of local steps, for two client rates: the share of the
    # update that the expansion predicts, the share that was measured, and the rest.

Panels describe themselves: their text is in the output's metadata, where nbconvert looks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nbformat import NotebookNode

_ALT = re.compile(r"# alt: (?P<text>[^\n]*(?:\n# [^\n]*)*)\n")


def describe_pictures(notebook: NotebookNode) -> None:
    """Move the alternative texts from the cells' code to the metadata of the pictures that they drew.

    Example:
        >>> import nbformat
        >>> cell = nbformat.v4.new_code_cell("# alt: A rising line.\\nplt.plot([0, 1])")
        >>> describe_pictures(nbformat.v4.new_notebook(cells=[cell]))
        >>> cell.source
        'plt.plot([0, 1])'
    """
    for cell in notebook.cells:
        if cell.cell_type == "code" and (found := _ALT.match(cell.source)):
            cell.source = cell.source[found.end() :]
            text = " ".join(found["text"].replace("\n#", " ").split())
            for output in cell.outputs:
                for kind in _pictures(output):
                    output.setdefault("metadata", {}).setdefault(kind, {}).setdefault("alt", text)


def undescribed(notebook: NotebookNode) -> list[str]:
    """The code of the cells with a picture that no alternative text describes; an empty list if all have one.

    Example:
        >>> import nbformat
        >>> undescribed(nbformat.v4.new_notebook())
        []
    """
    return [
        cell.source
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if any(not output.metadata.get(kind, {}).get("alt") for kind in _pictures(output))
    ]


def _pictures(output: NotebookNode) -> Iterator[str]:
    return (kind for kind in output.get("data", {}) if kind.startswith("image/"))
