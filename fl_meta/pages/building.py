"""Build the pages: templates, scripts and data in one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from fl_meta.pages.client_data import client_data
from fl_meta.pages.evidence_data import evidence_data
from fl_meta.pages.mix_data import mix_data
from fl_meta.pages.plane_data import plane_data
from fl_meta.pages.writers_data import writers_data
from fl_meta.support.atomic_files import write_atomically


@dataclass(frozen=True)
class Page:
    """A page with sliders.

    Attributes:
        title: its heading.
        summary: the question that it answers, in a sentence.
        lesson: the lesson to which it belongs.
        scripts: its scripts in `web`, in the order in which they run, after the one that all share.
        data: computes what the page embeds, from the folder of recorded results.
    """

    title: str
    summary: str
    lesson: str
    scripts: tuple[str, ...]
    data: Callable[[Path], dict[str, Any]]


PAGES: Mapping[str, Page] = {
    "plane": Page(
        "A federation in the plane",
        "Why is the best model for everybody not the best one to start from?",
        "08 · Playground, section 1",
        ("plane_model.js", "plane.js"),
        lambda _: plane_data(),
    ),
    "mix": Page(
        "Mix your own algorithm",
        "How much of each inner gradient should a client send home?",
        "08 · Playground, section 2",
        ("mix_model.js", "mix.js"),
        lambda _: mix_data(),
    ),
    "writers": Page(
        "How different are they?",
        "What makes clients differ, and when does personalization pay?",
        "08 · Playground, section 4, and 07 · Benchmarks",
        ("writers.js",),
        writers_data,
    ),
    "client": Page(
        "Meet a client",
        "What does a model get wrong for one client, and what changes as it adapts?",
        "08 · Playground, section 3",
        ("client.js",),
        lambda _: client_data(),
    ),
    "evidence": Page(
        "The evidence explorer",
        "What do the recorded experiments say about the paper's claims 2 and 3, and how surely?",
        "03 · Personalized FedAvg, 04 · Is global accuracy the goal?, 05 · Centralized training",
        ("evidence.js",),
        evidence_data,
    ),
}
"""The pages by their names."""


def build_pages(results: Path, output: Path) -> list[Path]:
    """Write every page and an index, each as one file that loads nothing.

    Args:
        results: the folder of recorded results, `data/results` in the repository.
        output: the folder of the pages; it is made if it is not there.

    Returns:
        The files, the index first.

    Raises:
        FileNotFoundError: if recorded results are missing.
        ModuleNotFoundError: if a package is missing; the message says how to install it.
        OSError: if a file cannot be written.

    Example:
        >>> build_pages(Path("data/results"), Path("build/interactive"))  # doctest: +SKIP
    """
    index = _templates().get_template("index.html.j2").render(pages=PAGES)
    texts = {"index": index} | {name: page_html(name, results) for name in PAGES}
    written = []
    for name, html in texts.items():
        written.append(output / f"{name}.html")
        write_atomically(written[-1], partial(Path.write_text, data=html, encoding="utf-8"))
    return written


def page_html(name: str, results: Path) -> str:
    """One of `PAGES`, with the folder of recorded results.

    Raises:
        FileNotFoundError: if recorded results are missing.
        ModuleNotFoundError: if a package is missing; the message says how to install it.

    Example:
        >>> page_html("plane", Path("data/results"))[:15]
        '<!DOCTYPE html>'
    """
    page = PAGES[name]
    template = _templates().get_template(f"{name}.html.j2")
    return template.render(name=name, page=page, pages=PAGES, data=page.data(results)).lstrip()


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("fl_meta.pages", "web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}  # the order is that of the picture
    return templates
