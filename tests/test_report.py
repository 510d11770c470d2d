"""The report: what it shows, that it needs no network, and that no stale one is left."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from fl_meta.evidence.verdicts import Verdict
from fl_meta.reproduction import report
from fl_meta.reproduction.accessibility import undescribed
from fl_meta.reproduction.links import with_links_that_work
from fl_meta.reproduction.pages import WIDGET_VIEW, write_page
from fl_meta.reproduction.report import Report
from fl_meta.reproduction.runner import WIDGET_STATE, Failure, NotebookRun
from fl_meta.reproduction.written_verdicts import read_verdicts

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
GAIN = Verdict(
    "gain", "It helps", "writers (synthetic)", "reproduced", 2.0, (1.0, 3.0), "points", "smoke", "01_gain"
)
NAN = float("nan")
NOTHING = replace(GAIN, dataset="roles", verdict="premise not met", effect=NAN, interval=(NAN, NAN))


def run_of(folder: Path, name: str, failures: tuple[Failure, ...] = ()) -> NotebookRun:
    cells = [nbformat.v4.new_markdown_cell("# Formula $\\alpha^2$"), nbformat.v4.new_code_cell("1 + 1")]
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    verdicts = () if failures else (GAIN, NOTHING)
    return NotebookRun(name, path, 1.25, {"profile": "smoke", "seed": 3}, failures, verdicts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sources").mkdir()
    report.prepare(tmp_path / "report", tmp_path / "sources")
    return tmp_path / "report"


class Links(HTMLParser):
    """Everything that a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


def write_both(folder: Path) -> tuple[Report, str]:
    failure = Failure("cell 4 of 5", "f(<x>)", "ValueError", "x & y\nmore", "Traceback: <x>")
    notebooks = folder / "notebooks"
    runs = run_of(notebooks, "01_gain"), run_of(notebooks, "02_speed", (failure,))
    result = Report("smoke", "fl-meta reproduce --profile smoke", ("01_gain", "02_speed", "03_late"), runs)
    index = report.write(result, folder)
    assert index == folder / "index.html"
    return result, index.read_text(encoding="utf-8")


def test_index_has_verdicts_notebooks_failures_and_facts(folder: Path) -> None:
    result, html = write_both(folder)
    assert result.failed == ("02_speed", "03_late")
    places = [
        html.index(text) for text in ("2 of 3 notebooks failed", "Verdicts<", "cell 4 of 5", "This run")
    ]
    assert places == sorted(places)
    for text in ("writers (synthetic)", "✔ reproduced", "+2.00 [+1.00, +3.00] points", "smoke · <a"):
        assert text in html
    assert (
        "f(&lt;x&gt;)" in html and "<b>ValueError</b>: x &amp; y" in html and "Traceback: &lt;x&gt;" in html
    )
    assert "not run (stopped)" in html and "seed=3" in html and "<td>1.2</td>" in html
    assert "fl-meta reproduce --profile smoke" in html
    assert re.search(r"Python 3\.\d+\.\d+, fl_meta \d\S+, torch \d\S+, numpy \d", html)
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", html) and re.search(r"\d+ cores", html)


def test_links_lead_to_files_of_the_report(folder: Path) -> None:
    _, html = write_both(folder)
    links = {link for link in Links(html).found if not link.startswith("#")}
    assert links == {"notebooks/01_gain.html", "notebooks/02_speed.html"}
    for link in links:
        page = (folder / link).read_text(encoding="utf-8")
        assert "\\alpha^2" in page, "formulas stay readable"
        inside = [one for one in Links(page).found if not one.startswith(("#", "data:"))]
        assert inside == ["../index.html"], "no script, style or picture from elsewhere"


def test_verdicts_can_be_read_back(folder: Path) -> None:
    result, _ = write_both(folder)
    table, failed = read_verdicts(folder)
    assert failed == result.failed
    assert table.verdicts[0] == GAIN and len(table) == 2
    value = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    assert (value["format"], value["profile"]) == (1, "smoke")
    assert value["verdicts"][1]["effect"] is None and value["verdicts"][1]["interval"] == [None, None]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"verdicts": [{}], "failed": []}', '{"verdicts": []}', '{"verdicts": 1, "failed": []}'],
)
def test_no_report_or_a_damaged_one_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"no report in .* make reproduce"):
        read_verdicts(tmp_path)
    (tmp_path / "verdicts.json").write_text(text)
    with pytest.raises(ValueError, match=r"verdicts.json is damaged .*make reproduce"):
        read_verdicts(tmp_path)


def test_preparing_removes_an_earlier_report_and_nothing_else(folder: Path) -> None:
    write_both(folder)
    (folder / "mine.txt").touch()
    # What was being written when a run was killed.
    (folder / "experiments").mkdir()
    for place in ("", "notebooks", "experiments"):
        (folder / place / ".x.json.123").touch()
    report.prepare(folder, folder.parent / "sources")
    assert sorted(path.name for path in folder.rglob("*")) == ["experiments", "mine.txt", "notebooks"]


def test_a_folder_of_notebooks_or_an_unwritable_one_is_refused(tmp_path: Path) -> None:
    sources = tmp_path / "notebooks"
    sources.mkdir()
    (sources / "01_a.ipynb").touch()
    with pytest.raises(ValueError, match="would overwrite the notebooks"):
        report.prepare(tmp_path, sources)
    with pytest.raises(OSError, match=r"cannot write the report into .*01_a.ipynb/report: .*--output"):
        report.prepare(sources / "01_a.ipynb" / "report", tmp_path / "sources")
    assert (sources / "01_a.ipynb").exists()


def test_a_report_without_verdicts_says_so(folder: Path) -> None:
    index = report.write(Report("smoke", "", (), ()), folder)
    assert "No notebook gave a verdict." in index.read_text(encoding="utf-8")


def test_a_page_shows_what_a_slider_showed(tmp_path: Path) -> None:
    held = {"output_type": "stream", "name": "stdout", "text": "held by the slider"}
    box = {"state": {"children": ["IPY_MODEL_out", "IPY_MODEL_gone"]}}
    view = nbformat.v4.new_output("display_data", {WIDGET_VIEW: {"model_id": "box"}, "text/plain": "VBox()"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("slider", outputs=[view])])
    states = {"box": box, "out": {"state": {"outputs": [held]}}}
    notebook.metadata.widgets = {WIDGET_STATE: {"state": states, "version_major": 2, "version_minor": 0}}
    nbformat.write(notebook, tmp_path / "01_a.ipynb")
    write_page(tmp_path / "01_a.ipynb", tmp_path / "01_a.html")
    page = (tmp_path / "01_a.html").read_text(encoding="utf-8")
    assert "held by the slider" in page and "Sliders and buttons work in the notebook" in page
    assert "VBox()" not in page


def test_a_page_draws_formulas_and_shows_sentences_without_their_code(tmp_path: Path) -> None:
    sentence = nbformat.v4.new_output("display_data", {"text/markdown": r"It is $\beta^2$ long."})
    prose = nbformat.v4.new_code_cell("say(beta)", outputs=[sentence], metadata={"tags": ["prose"]})
    text = nbformat.v4.new_markdown_cell("A step $-\\beta\\, g_1$ costs `$5`.\n\n$$\\theta_0\n= \\theta$$")
    nbformat.write(nbformat.v4.new_notebook(cells=[text, prose]), tmp_path / "01_a.ipynb")
    write_page(tmp_path / "01_a.ipynb", tmp_path / "01_a.html")
    page = (tmp_path / "01_a.html").read_text(encoding="utf-8")
    for formula in (r"-\beta\, g_1", r"\theta_0 = \theta", r"\beta^2"):
        assert f'<img alt="{formula}"' in page
    assert "$5" in page and "It is" in page
    assert "say" not in page


def test_a_page_says_what_a_figure_shows(tmp_path: Path) -> None:
    picture = nbformat.v4.new_output("display_data", {"image/png": PIXEL})
    code = "# alt: A line that rises\n# from 0 to 1.\nplt.plot([0, 1])"
    table = nbformat.v4.new_output(
        "display_data", {"text/html": "<table><tr><th></th><th>a</th></tr></table>"}
    )
    cells = [
        nbformat.v4.new_code_cell(code, outputs=[picture]),
        nbformat.v4.new_code_cell("table", outputs=[table]),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert undescribed(notebook) == [code]
    nbformat.write(notebook, tmp_path / "01_a.ipynb")
    write_page(tmp_path / "01_a.ipynb", tmp_path / "01_a.html")
    page = (tmp_path / "01_a.html").read_text(encoding="utf-8")
    assert 'alt="A line that rises from 0 to 1."' in page
    assert "# alt:" not in page and "No description" not in page
    assert "<th></th>" not in page and "<td></td><th>a</th>" in page


@pytest.mark.parametrize(
    ("link", "without", "address"),
    [
        ("[00](00_start_here.ipynb#b)", "[00](00_start_here.html#b)", "[00](00_start_here.html#b)"),
        (
            "[the *terms*](../docs/a.md#b)",
            "the *terms*",
            "[the *terms*](https://x.org/r/blob/HEAD/docs/a.md#b)",
        ),
        ("[paper](https://x.org/a.md)", "[paper](https://x.org/a.md)", "[paper](https://x.org/a.md)"),
        ("[above](#b)", "[above](#b)", "[above](#b)"),
        ("![a picture](a.png)", "![a picture](a.png)", "![a picture](a.png)"),
    ],
)
def test_links_lead_to_pages_or_to_the_repository(link: str, without: str, address: str) -> None:
    assert with_links_that_work(f"see {link}.", "") == f"see {without}."
    assert with_links_that_work(f"see {link}.", "https://x.org/r") == f"see {address}."


def test_a_page_has_no_link_that_leads_nowhere(tmp_path: Path) -> None:
    for source in sorted(NOTEBOOKS.glob("0[01]_*.ipynb")):
        write_page(source, tmp_path / f"{source.stem}.html")
        page = (tmp_path / f"{source.stem}.html").read_text(encoding="utf-8")
        links = re.findall(r'<a href="([^"#]+)', page)
        links.remove("../index.html")
        assert all((NOTEBOOKS / link).with_suffix(".ipynb").exists() for link in links), links
