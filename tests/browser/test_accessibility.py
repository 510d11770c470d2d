"""The site and a report, opened from their folders: nothing is fetched, nothing sticks out, all can read it.

axe-core finds what keeps readers out who cannot see, or cannot use a mouse: missing texts, weak contrast,
lost headings. 400 pixels are a phone, 640 a screen of 1280 at a zoom of 200 %.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from driver import Tab
from playwright.sync_api import Browser, expect

from fl_meta.evidence.verdicts import Verdict
from fl_meta.reproduction import report
from fl_meta.reproduction.findings import findings
from fl_meta.reproduction.runner import Failure, NotebookRun

PAGES = ("docs/index", "notebooks/01_fedavg_is_meta_learning", "interactive/mix", "docs/evidence")
LESSON = "00_start_here"
# axe would fetch style sheets, which a page from a folder may not.
AXE = {"preload": False}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The site, built as by `make site`: the address of its folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "--conf-dir", "docs"]
    places = ["--doctree-dir", folder / "doctrees", ".", folder / "site"]
    subprocess.run([*command, *places], cwd=ROOT, check=True)
    return (folder / "site").as_uri()


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report with a notebook that ran and one that failed: the address of its folder."""
    folder = tmp_path_factory.mktemp("report")
    notebooks = report.prepare(folder, ROOT / "notebooks")
    shutil.copy(ROOT / "notebooks" / f"{LESSON}.ipynb", notebooks)
    gain = Verdict("gain", "It helps", "writers", "reproduced", 2.0, (1.0, 3.0), "points", "smoke", LESSON)
    failure = Failure("cell 4 of 5", "f(x)", "ValueError", "no", "Traceback: f(x)")
    runs = (
        NotebookRun(LESSON, notebooks / f"{LESSON}.ipynb", 1.0, {"seed": 0}, (), (gain,)),
        NotebookRun("01_b", notebooks / "01_b.ipynb", 1.0, {"seed": 0}, (failure,)),
    )
    found = findings(ROOT / "data/results", folder / report.EXPERIMENTS)
    names = tuple(run.name for run in runs)
    report.write(report.Report("smoke", "make reproduce", names, runs, findings=found), folder)
    return folder.as_uri()


@pytest.fixture
def dark_tab(browser: Browser, screenshots: Path) -> Iterator[Tab]:
    """A page of a reader who prefers dark pages."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    yield Tab(context, screenshots)
    context.close()


def violations(tab: Tab) -> list[str]:
    """What axe finds on the page."""
    found = Axe().run(tab.page, options=AXE).response["violations"]
    return [f"{one['id']}: {one['help']} ({node['html']})" for one in found for node in one["nodes"]]


def assert_all_can_read(tab: Tab, address: str) -> None:
    tab.page.goto(address)
    tab.page.wait_for_load_state("networkidle")
    if found := violations(tab):
        # A page that has just been opened may still be changing its colours; what counts is what stays.
        tab.page.wait_for_timeout(2000)
        found = violations(tab)
    assert not found, "\n".join(found)
    for width in (1280, 640, 400):
        tab.page.set_viewport_size({"width": width, "height": 800})
        tab.look(f"{Path(address).stem}-{width}")
        wide: int = tab.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{address} scrolls sideways: it is {wide} wide in a window of {width}"
    assert not tab.told()
    assert not tab.foreign


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_site_can_be_read_by_all(tab: Tab, site: str, name: str) -> None:
    assert_all_can_read(tab, f"{site}/{name}.html")


def test_a_dark_page_of_the_site_can_be_read_by_all(dark_tab: Tab, site: str) -> None:
    assert_all_can_read(dark_tab, f"{site}/notebooks/{LESSON}.html")
    assert dark_tab.page.locator("html").get_attribute("data-theme") == "dark"


@pytest.mark.parametrize("name", ["index", f"notebooks/{LESSON}"])
def test_a_page_of_a_report_can_be_read_by_all(tab: Tab, reported: str, name: str) -> None:
    assert_all_can_read(tab, f"{reported}/{name}.html")


def test_a_reader_finds_a_lesson_and_unfolds_a_solution_without_a_mouse(tab: Tab, site: str) -> None:
    tab.page.goto(f"{site}/index.html")
    tab.page.wait_for_url(f"{site}/docs/index.html")
    tab.page.keyboard.press("Control+K")
    tab.page.keyboard.type("inner gradients coefficient")
    tab.page.keyboard.press("Enter")
    result = tab.page.locator("#search-results").get_by_role("link", name="Is FedAvg a meta-learning")
    result.first.press("Enter")
    tab.page.wait_for_url(f"{site}/notebooks/01_fedavg_is_meta_learning.html**")
    solution = tab.page.locator("details.solution").first
    expect(solution.get_by_text("Solution 01.1.")).to_be_hidden()
    solution.locator("summary").press("Enter")
    expect(solution.get_by_text("Solution 01.1.")).to_be_visible()
    assert tab.page.locator("math").count() > 20
    tab.page.get_by_role("link", name="Move it on a page of its own").first.press("Enter")
    tab.page.wait_for_url(f"{site}/interactive/mix.html")
    assert not tab.foreign
