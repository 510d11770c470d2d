"""Decks of slides: which cells they have, and that they need nothing but themselves."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from fl_meta.course import write_slides
from fl_meta.course.slides import slides_of

ROOT = Path(__file__).parent.parent
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
TITLE = "# 01 · A small lesson\n\n**The question of this notebook:** who?\n\n**What it costs:** nothing."


def code(source: str, tags: str, data: dict[str, str]) -> NotebookNode:
    output = nbformat.v4.new_output("execute_result", data, execution_count=1)
    return nbformat.v4.new_code_cell(source, outputs=[output], metadata={"tags": tags.split()})


def text(source: str, tags: str = "") -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": tags.split()})


@pytest.fixture
def lesson() -> NotebookNode:
    return nbformat.v4.new_notebook(
        cells=[
            text(TITLE),
            text("nobody sees this"),
            text(
                "## A puzzle\n\nSee [the next one](02_more.ipynb) and [a page](https://example.org).", "slide"
            ),
            code("shown_code()", "same-slide", {"image/png": PNG, "text/plain": "<Figure>"}),
            code("hidden_code()", "fragment without-code", {"text/plain": "its output"}),
            code(
                "computed()",
                "slide prose",
                {"text/markdown": "It gains 3 points for $K$ steps, by [rules](rules.md)."},
            ),
        ]
    )


def deck_of(lesson: NotebookNode, folder: Path) -> str:
    """The deck of a lesson that is written as 01_small."""
    (folder / "01_small.py").write_text("# %%\n")
    nbformat.write(lesson, folder / "01_small.ipynb")
    (path,) = write_slides(folder, folder / "slides")
    return path.read_text(encoding="utf-8")


class Sections(HTMLParser):
    """The words of every slide, and of the fragments among them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.slides: list[str] = []
        self.fragments = ""
        self.inside: list[bool] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "section":
            self.slides.append("")
        if tag == "div":
            self.inside.append("fragment" in (dict(attrs).get("class") or "").split())

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.slides:
            self.slides[-1] += data
        if any(self.inside):
            self.fragments += data


def test_tags_make_the_slides(lesson: NotebookNode, tmp_path: Path) -> None:
    html = deck_of(lesson, tmp_path)
    sections = Sections(html[: html.index("</main>")])
    # Each slide is a column of its own, of one slide.
    title, puzzle, result = (words for words in sections.slides if words.strip())
    assert "A small lesson" in title and "who?" in title and "What it costs" not in title
    assert "A puzzle" in puzzle and "shown_code" in puzzle and "its output" in puzzle
    assert "its output" in sections.fragments and "A puzzle" not in sections.fragments
    assert "It gains 3 points" in result
    assert "hidden_code" not in html and "computed()" not in html and "nobody sees this" not in html
    assert "<title>01 · A small lesson</title>" in html


def test_a_deck_needs_no_other_file_and_no_network(lesson: NotebookNode, tmp_path: Path) -> None:
    html = deck_of(lesson, tmp_path)
    assert "See the next one and" in html and "by rules." in html and '<a href="https://example.org"' in html
    markup = re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.DOTALL)
    assert re.findall(r"<(?:script|link|iframe)\b[^>]*>", markup) == []
    pictures = re.findall(r'src="([^"]{0,14})', markup)
    assert sorted(pictures) == ["data:image/png", "data:image/svg"]
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL))
    assert "@import" not in styles and not re.findall(r"url\((?!['\"]?data:)", styles)


def test_a_lesson_without_tags_has_no_deck(lesson: NotebookNode, tmp_path: Path) -> None:
    for cell in lesson.cells:
        cell.metadata.tags = []
    assert slides_of(lesson, "01_small") is None
    (tmp_path / "01_small.py").write_text("# %%\n")
    with pytest.raises(FileNotFoundError, match=r"01_small\.ipynb is missing; run: fl-meta notebooks build"):
        write_slides(tmp_path, tmp_path / "slides")
    nbformat.write(lesson, tmp_path / "01_small.ipynb")
    assert write_slides(tmp_path, tmp_path / "slides") == []


def test_the_first_tag_begins_a_slide(lesson: NotebookNode) -> None:
    lesson.cells[2].metadata.tags = ["fragment"]
    with pytest.raises(
        ValueError, match="01_small: the first cell on a slide needs the tag 'slide': '## A p"
    ):
        slides_of(lesson, "01_small")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_own_decks_have_eight_to_fifteen_slides(path: Path) -> None:
    slides = slides_of(nbformat.read(path, as_version=4), path.stem)
    if slides is not None:
        begun = [cell for cell in slides.cells if cell.metadata.slideshow.slide_type == "slide"]
        assert 8 <= len(begun) <= 15
