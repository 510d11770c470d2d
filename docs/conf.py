"""Settings of the site, which `make site` builds with Sphinx from the root of the repository."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import ziamath
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

from fl_meta.pages import build_pages
from fl_meta.support.repository import repository_address

REPOSITORY = repository_address()

project = "fl_meta"
html_title = "Federated learning and personalization"
author = "The fl_meta authors"
copyright = "the fl_meta authors, Apache-2.0"
extensions = ["myst_nb"]
root_doc = "docs/index"
# The source folder is the repository, so that links between its files become links between pages.
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**.md", "benchmarks/README.md", "notebooks/*.ipynb"]
templates_path = ["_templates"]

nb_execution_mode = "off"
nb_custom_formats = {".ipynb": ["fl_meta.course.site.lesson_for_site", {"repository": REPOSITORY}, False]}
nb_render_markdown_format = "myst"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

html_theme = "sphinx_book_theme"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"**": ["home.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
html_additional_pages = {"index": "first_page.html"}
html_context = {"default_mode": "auto"}
html_copy_source = False
html_theme_options = {
    "navbar_persistent": [],  # the search field of the side bar is enough
    "use_download_button": False,
    "use_repository_button": bool(REPOSITORY),
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "launch_buttons": {
        "notebook_interface": "jupyterlab",
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
    }
    if REPOSITORY
    else {},
}


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, which browsers draw and screen readers read without a script."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.connect("build-finished", _bring_font)
    app.connect("build-finished", _bring_sliders)


def _visit_inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _visit_block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(_mathml(node.astext(), "block"))
    raise nodes.SkipNode


def _mathml(formula: str, display: str) -> str:
    # It would slant a single upright letter.
    written: str = convert(formula.replace(r"\mathrm", r"\text"), display=display)
    if unknown := re.search(r"\\\w+", written):
        raise ValueError(f"latex2mathml does not know {unknown[0]} in the formula {formula!r}")
    return written


def _bring_font(app: Sphinx, error: Exception | None) -> None:
    """Copy STIX Two Math, which ziamath brings: without a font for formulas, browsers set them badly."""
    if error is None:
        font = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
        shutil.copy(font, app.outdir / "_static")


def _bring_sliders(app: Sphinx, error: Exception | None) -> None:
    """Add the pages with sliders, to which the side bar and the lessons lead."""
    if error is None:
        build_pages(Path(app.srcdir) / "data/results", Path(app.outdir) / "interactive")
