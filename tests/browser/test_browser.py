"""The panels in JupyterLab and on the playground's page, as a reader uses them.

The playground has every panel. One other notebook, the first that a reader opens, shows that panels also
work in the middle of a lesson; that the rest run without an error is tested without a browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
import pytest
from conftest import Server
from driver import QUICK, SLOW, Tab, wait_until

PLAYGROUND, LESSON = "08_playground", "00_start_here"
# Voilà's template asks for icons that the page neither uses nor needs.
ICONS = re.compile(r"https://cdn\.jsdelivr\.net/npm/@fortawesome/")
TOY = """
import time
from matplotlib.figure import Figure
from fl_meta.laboratories.panel import Panel, slider

def draw(value, idle):
    if value == 10:
        time.sleep(300)
    if value == 5:
        raise KeyError("broke")
    figure = Figure((6, 3))
    figure.text(0.5, 0.5, f"value {value}", fontsize=40)
    return figure, f"the value is {value}"

Panel("toy", {"value": slider("value", 1, 0, 10, 1), "idle": slider("idle", 1, 0, 10, 1)}, draw)
"""


@pytest.fixture
def notebook(tab: Tab, lab: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """Open a notebook in JupyterLab and give its name; stop its kernel afterwards."""
    name: str = request.param
    tab.page.goto(f"{lab.url}lab/tree/{name}.ipynb?reset&token={lab.token}")
    tab.await_kernel()
    yield name
    lab.stop_kernels()


def assert_panels_work(tab: Tab, name: str) -> None:
    """Everything moves, by mouse and by keyboard, and fits at 125 %, with no error anywhere."""
    panels = tab.panels()
    assert panels, f"no panel in {name}; run fl-meta notebooks build {name}"
    for number, panel in enumerate(panels):
        panel.move_everything()
        tab.look(f"{name}-{number}")
    panels[0].use_keyboard()
    with tab.zoomed(1.25):
        for number, panel in enumerate(panels):
            panel.place.scroll_into_view_if_needed()
            tab.look(f"{name}-{number}-at-125-percent")
            assert not (clashes := panel.clashes()), clashes
    assert not tab.told()
    assert not [url for url in tab.foreign if not ICONS.match(url)]


def assert_text_follows_its_slider(tab: Tab) -> None:
    """The panel with a page of text shows the marks that belong to the epoch."""
    (panel,) = (panel for panel in tab.panels() if panel.place.locator("pre").count())
    page, wrong = panel.place.locator("pre").first, panel.place.locator("pre u").first
    assert page.is_visible() and wrong.is_visible()
    before = page.inner_html()
    _, epoch = panel.controls()
    # JupyterLab renders only what is near the window.
    panel.place.scroll_into_view_if_needed()
    wait_until(lambda: "after 5 epochs" in panel.place.inner_text(), QUICK, "the text of the first epoch")
    epoch.focus.press("ArrowRight")
    wait_until(lambda: "after 6 epochs" in panel.place.inner_text(), QUICK, "the text of the next epoch")
    assert page.inner_html() != before


@pytest.mark.parametrize("notebook", [PLAYGROUND, LESSON], indirect=True)
def test_panels_in_jupyterlab(tab: Tab, notebook: str) -> None:
    tab.look(f"{notebook}-opened")
    tab.run_all()
    assert_panels_work(tab, notebook)
    if notebook == PLAYGROUND:
        assert_text_follows_its_slider(tab)


@pytest.mark.parametrize("notebook", [PLAYGROUND], indirect=True)
def test_the_playground_works_again_after_an_interruption_and_a_restart(tab: Tab, notebook: str) -> None:
    tab.begin_all()
    wait_until(tab.panels, SLOW, "the first panel")
    tab.interrupt()
    tab.run_all()
    panel = tab.panels()[0]
    settings, pixels = panel.settings(), panel.pixels()
    panel.move_control(panel.controls()[1])
    tab.restart()
    tab.look("restarted")
    tab.run_all()
    panel = tab.panels()[0]
    assert panel.is_as(settings, pixels)
    panel.move_everything()
    assert not tab.told()


def test_the_playground_as_a_page(tab: Tab, play: str) -> None:
    tab.page.goto(play)
    wait_until(lambda: tab.panels(), SLOW, "panels on the page")
    tab.page.wait_for_load_state("networkidle")
    tab.look("page")
    text = tab.page.locator("body").inner_text()
    assert "The question of this notebook" in text
    for word in ("Exercise", "Solution", "For instructors", "no prediction"):
        assert word not in text, f"the page shows an exercise: {word}"
    for code in (".jp-InputArea-editor", ".highlight", ".jp-InputPrompt"):
        assert tab.page.locator(code).locator("visible=true").count() == 0, f"{code} shows"
    assert "import" not in text
    assert tab.page.locator(".fl-meta-panel pre u").first.is_visible(), "the page of text has its marks"
    assert_panels_work(tab, "page")


@pytest.fixture(scope="session")
def toy(lab: Server) -> str:
    """A notebook whose panel raises in the middle of a slider, hangs at its end, and ignores the other."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TOY)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, lab.notebooks / "toy.ipynb")
    return "toy"


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("notebook", ["toy"], indirect=True)
def test_faults_are_noticed_and_a_panel_that_hangs_works_again_after_a_restart(
    tab: Tab, lab: Server, notebook: str
) -> None:
    tab.run_all()
    (panel,) = tab.panels()
    value, idle = panel.controls()
    settings, pixels = panel.settings(), panel.pixels()
    with pytest.raises(AssertionError, match="broke"):
        panel.move(value, value.moves()[2])
    tab.look("broken")
    # The error goes when a control moves.
    panel.reset(settings, pixels)
    assert not tab.errors()
    with pytest.raises(AssertionError, match="idle does not change the picture"):
        panel.move_control(idle)
    # A slider keeps the arrow keys from JupyterLab, but not the keys that save.
    idle.focus.press("ArrowRight")
    idle.focus.press("Control+s")
    saved = lab.notebooks / f"{notebook}.ipynb"
    wait_until(
        lambda: tab.told() or "laboratories.toy(" in saved.read_text("utf-8"),
        QUICK,
        "the notebook to be saved",
    )
    # JupyterLab runs a slider's callback outside the cells, so that an interruption does not stop it.
    value.moves()[1]()
    tab.restart()
    tab.run_all()
    (panel,) = tab.panels()
    panel.move(panel.controls()[0], panel.controls()[0].moves()[0])
    panel.reset(settings, pixels)
    # Errors of the page are noticed.
    tab.page.evaluate("console.error('told'); setTimeout(() => { throw new Error('thrown') })")
    wait_until(lambda: len(tab.told()) == 2, QUICK, "two problems")
