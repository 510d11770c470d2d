"""Turn an executed notebook into one HTML file that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from fl_meta.reproduction.accessibility import make_accessible
from fl_meta.reproduction.formulas import with_pictures
from fl_meta.reproduction.links import with_links_that_work
from fl_meta.reproduction.runner import PROSE, WIDGET_STATE, WIDGET_VIEW
from fl_meta.support.atomic_files import write_atomically
from fl_meta.support.repository import repository_address

# nbconvert's template without the scripts that a browser would have to fetch, and with alternative texts.
_OFFLINE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_css %}<style>
main { max-width: 62em; margin: 0 auto; }
:root { --jp-cell-editor-background: #fff; --jp-content-link-color: #004d75; }
.jp-RenderedHTMLCommon a:link { text-decoration: underline; }
</style>{% endblock %}
{% block data_png scoped %}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
{%- set alt = output | get_metadata("alt", "image/png") %}
<img src="data:image/png;base64,{{ output.data["image/png"] }}"
{%- if alt %} alt="{{ alt | escape_html }}"{% endif %}>
</div>{% endblock %}
{% block body_header %}{{ super() }}
<p style="margin: 1em"><a href="../index.html">← report</a></p>{% endblock %}
"""


def write_page(notebook_path: Path, page: Path) -> None:
    """Convert an executed notebook to HTML.

    A slider cannot move without a kernel; the page has what it showed at the end of the run.
    """
    notebook = nbformat.read(notebook_path, as_version=4)
    make_accessible(notebook)
    _unfold_widgets(notebook)
    prepare_texts(notebook)
    for cell in notebook.cells:
        if PROSE in cell.metadata.get("tags", ()):
            cell.metadata["transient"] = {"remove_source": True}
    exporter = HTMLExporter(
        raw_template=_OFFLINE, embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    resources = {"metadata": {"name": notebook_path.stem, "path": str(notebook_path.parent)}}
    html, _ = exporter.from_notebook_node(notebook, resources)
    write_atomically(page, lambda temporary: temporary.write_text(html, encoding="utf-8"))


def prepare_texts(notebook: NotebookNode) -> None:
    """Lead links to where their files are, and replace formulas by pictures.

    What usually draws formulas in a browser would have to be fetched.
    """
    repository = repository_address()

    def prepared(text: str) -> str:
        return with_pictures(with_links_that_work(text, repository))

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = prepared(cell.source)
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "text/markdown" in data:
                data["text/markdown"] = prepared(data["text/markdown"])


def _unfold_widgets(notebook: NotebookNode) -> None:
    """Replace each view of a widget by its picture, if it has one, and by the outputs inside it."""
    widgets = notebook.metadata.pop("widgets", {})
    states = widgets.get(WIDGET_STATE, {}).get("state", {})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [inner for output in cell.outputs for inner in _unfold(output, states)]


def _unfold(output: NotebookNode, states: dict[str, Any]) -> list[NotebookNode]:
    view = output.get("data", {}).get(WIDGET_VIEW)
    if view is None:
        return [output]
    note = nbformat.v4.new_output(
        "display_data",
        {"text/html": "<i>Sliders and buttons work in the notebook; here is what they showed:</i>"},
    )
    # A panel comes with a still of itself: its picture, or HTML if it has a page of text.
    pictures = {kind: data for kind, data in output.data.items() if kind.startswith(("image/", "text/html"))}
    still = [nbformat.v4.new_output("display_data", pictures, metadata=output.metadata)] if pictures else []
    return [note, *still, *_outputs_inside(view["model_id"], states)]


def _outputs_inside(model: str, states: dict[str, Any]) -> list[NotebookNode]:
    """The outputs that a widget and its children hold."""
    state = states.get(model, {}).get("state", {})
    outputs = [nbformat.from_dict(output) for output in state.get("outputs", ())]
    for child in state.get("children", ()):
        outputs += _outputs_inside(child.removeprefix("IPY_MODEL_"), states)
    return outputs
