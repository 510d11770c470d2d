"""What readers who do not see a page are told: alternative texts of figures, and headings of tables.

The cell that draws a figure begins with its text, as a comment that may go on over several lines:

    # alt: Two line charts over the number of local steps, for two client rates: the share of the
    # update that the expansion predicts, the share that was measured, and the rest.

Panels describe themselves: their text is in the output's metadata, where nbconvert looks for it.
"""

from __future__ import annotations

import re

from nbformat import NotebookNode

PNG = "image/png"
_ALT = re.compile(r"# alt: (?P<text>[^\n]*(?:\n# [^\n]*)*)\n")


def make_accessible(notebook: NotebookNode) -> None:
    """Move alternative texts from the code to the pictures, and let no empty cell of a table be a heading.

    Example:
        >>> import nbformat
        >>> cell = nbformat.v4.new_code_cell("# alt: A rising line.\\nplt.plot([0, 1])")
        >>> make_accessible(nbformat.v4.new_notebook(cells=[cell]))
        >>> cell.source
        'plt.plot([0, 1])'
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found = _ALT.match(cell.source)
            cell.source = cell.source[found.end() :] if found else cell.source
            for output in cell.outputs:
                if found and PNG in output.get("data", {}):
                    text = " ".join(found["text"].replace("\n#", " ").split())
                    output.metadata.setdefault(PNG, {}).setdefault("alt", text)
                if html := output.get("data", {}).get("text/html"):
                    output.data["text/html"] = html.replace("<th></th>", "<td></td>")


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
        if PNG in output.get("data", {}) and not output.metadata.get(PNG, {}).get("alt")
    ]
