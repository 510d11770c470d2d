"""The site: what readers see of a lesson, that no page is left out, and the address of the repository."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from email.message import Message
from pathlib import Path

import nbformat
import pytest
import yaml

from fl_meta import laboratories
from fl_meta.course.site import PAGE_OF_PANEL, lesson_for_site
from fl_meta.evidence.verdicts import MIME
from fl_meta.pages import PAGES
from fl_meta.support import repository
from fl_meta.support.repository import repository_address

ROOT = Path(__file__).parent.parent


def code(source: str, *tags: str, **data: str) -> nbformat.NotebookNode:
    outputs = [nbformat.v4.new_output("display_data", {kind.replace("_", "/"): data[kind] for kind in data})]
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}, outputs=outputs if data else [])


def text(source: str, *tags: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": list(tags)})


def shown(*cells: nbformat.NotebookNode, address: str = "") -> list[nbformat.NotebookNode]:
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    site = lesson_for_site(nbformat.writes(notebook), address)
    assert nbformat.validate(site) is None
    return list(site.cells)


def test_readers_see_blanks_and_folded_solutions_and_nothing_for_instructors() -> None:
    cells = shown(
        text("# Title"),
        code("sent = ...", "fill-in"),
        code("sent = K", "solution"),
        text("**Solution.** K.", "solution"),
        code("check.answer('01.1', sent)", "check"),
        text("Two minutes.", "instructor"),
        code("again = 1", "solution"),
    )
    sources = [cell.source for cell in cells]
    begin, end = sources[2], sources[5]
    assert begin.startswith("<details") and "Solution</summary>" in begin and end == "</details>"
    inside = ["sent = K", "**Solution.** K."]
    checked = "check.answer('01.1', sent)"
    assert sources == ["# Title", "sent = ...", begin, *inside, end, checked, begin, "again = 1", end]


def test_readers_see_sentences_without_code_and_settings_folded() -> None:
    sentence = code("Markdown(f'{gain}')", "prose", text_markdown="It gains.")
    first, second, third = shown(sentence, code("seed = 0", "parameters"), code("1 + 1"))
    assert "remove-input" in first.metadata.tags and first.outputs[0].data["text/markdown"] == "It gains."
    assert "hide-input" in second.metadata.tags
    assert not {"remove-input", "hide-input"} & set(third.metadata.tags)


def test_a_figure_is_described_and_verdicts_are_shown_as_a_table() -> None:
    figure = code("# alt: A rising line.\nplot()", image_png="AAAA")
    table = code("table", text_html="<table></table>")
    table.outputs[0].data[MIME] = {"verdicts": []}
    first, second = shown(figure, table)
    assert first.metadata.mystnb.image.alt == "A rising line."
    assert first.source == "plot()"
    assert list(second.outputs[0].data) == ["text/html"]


def test_a_panel_leads_to_its_page_with_sliders() -> None:
    panel = code("panel", text_plain="laboratories.mix_your_own(g_1=1.0)")
    assert '"../interactive/mix.html"' in shown(panel)[1].source
    assert len(shown(code("1 + 1", text_plain="2"))) == 1
    assert PAGE_OF_PANEL.keys() <= set(laboratories.__all__)
    assert set(PAGE_OF_PANEL.values()) == set(PAGES)


def test_colab_is_told_where_the_package_is_if_that_is_known() -> None:
    assert len(shown(text("# Title"), code("1"))) == 2
    _, note, _ = shown(text("# Title"), code("1"), address="https://x.org/me/course")
    assert "!git clone --depth 1 https://x.org/me/course repository" in note.source


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([], ""),
        (["Repository,"], ""),
        (["Homepage, https://x.org", "Repository, https://x.org/me/course/"], "https://x.org/me/course"),
    ],
)
def test_the_address_is_the_one_in_pyproject(
    lines: list[str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Message()
    for line in lines:
        package["Project-URL"] = line
    monkeypatch.setattr(repository, "metadata", lambda _: package)
    assert repository_address() == address


def test_every_page_of_docs_and_every_lesson_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    entries = [
        posixpath.normpath(posixpath.join("/docs", line))[1:]
        for block in re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL)
        for line in block.splitlines()
        if not line.startswith(":")
    ]
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    names = [str(page.relative_to(ROOT).with_suffix("")) for page in pages]
    for name in [*names, "README", "CONTRIBUTING"]:
        listed = sum(fnmatch.fnmatch(name, entry) for entry in entries)
        assert listed == (0 if name == "docs/index" else 1), f"{name} is {listed} times in docs/index.md"
    for entry in entries:
        assert "*" in entry or (ROOT / f"{entry}.md").exists(), entry


@pytest.mark.parametrize("file", [".github/workflows/site.yml", ".gitlab-ci.yml"])
def test_publishing_builds_the_site_as_everybody_does(file: str) -> None:
    jobs = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    if "jobs" in jobs:
        commands = [step["run"] for job in jobs["jobs"].values() for step in job["steps"] if "run" in step]
        assert commands == ["make site"]
    else:
        assert jobs["pages"]["script"] == ["make site", "mv build/site public"]
