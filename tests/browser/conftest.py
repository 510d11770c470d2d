"""A browser, and servers that serve a copy of the notebooks, so that nothing in the repository changes."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.font_manager
import nbformat
import pytest
import requests
from driver import SLOW, Tab, wait_until
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "build" / "browser"
HOMES = (
    "HOME",
    "XDG_CACHE_HOME",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "IPYTHONDIR",
)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: its address, which ends in a slash.
        token: the token that it requires.
        notebooks: the folder that it serves.
    """

    url: str
    token: str
    notebooks: Path

    def stop_kernels(self) -> None:
        """Stop all running kernels."""
        headers = {"Authorization": f"token {self.token}"}
        for session in requests.get(f"{self.url}api/sessions", headers=headers, timeout=SLOW).json():
            requests.delete(f"{self.url}api/sessions/{session['id']}", headers=headers, timeout=SLOW)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A home, and a copy of the notebooks for profile smoke; its path is short, since sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="fl_meta_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "notebooks").mkdir()
        for path in (ROOT / "notebooks").glob("*.ipynb"):
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if "parameters" in cell.metadata.get("tags", ()):
                    cell.source = cell.source.replace('profile = "laptop"', 'profile = "smoke"')
            nbformat.write(notebook, folder / "notebooks" / path.name)
        (folder / "data").symlink_to(ROOT / "data")
        # JupyterLab would ask whether it may fetch news from the network.
        settings = folder / "JUPYTER_CONFIG_DIR/lab/user-settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(
            '{"fetchNews": "false", "checkForUpdates": false}'
        )
        yield folder


@contextmanager
def serving(folder: Path, name: str, *command: str | Path) -> Iterator[str]:
    """Run a server on a free port, with a home of its own, and give its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {home: str(folder / home) for home in HOMES} | {"OMP_NUM_THREADS": "1"}
    environment["FL_META_EXPERIMENTS"] = str(folder / "experiments")
    environment["JUPYTER_PREFER_ENV_PATH"] = "1"  # not a kernel of the same name in the user's home
    # Use the list of fonts that exists: building one prints a message among a cell's outputs.
    environment["MPLCONFIGDIR"] = matplotlib.get_cachedir()
    log = SCREENSHOTS / f"{name}.log"
    with log.open("w") as text:
        process = subprocess.Popen(
            [*command, "--no-browser", f"--port={port}"], cwd=ROOT, env=environment, stdout=text, stderr=text
        )
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        assert process.poll() is None, f"{name} has ended:\n{log.read_text()}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, SLOW, f"{name} to answer; its log is {log}")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="session")
def lab(folder: Path) -> Iterator[Server]:
    """JupyterLab."""
    token, notebooks = secrets.token_hex(), folder / "notebooks"
    options = [f"--IdentityProvider.token={token}", "--ServerApp.port_retries=0"]
    if os.geteuid() == 0:
        options.append("--allow-root")
    with serving(folder, "lab", sys.executable, "-m", "jupyterlab", notebooks, *options) as url:
        yield Server(url, token, notebooks)


@pytest.fixture(scope="session")
def play(folder: Path) -> Iterator[str]:
    """The address of the playground as a page."""
    program = Path(sys.executable).with_name("fl-meta")
    with serving(folder, "play", program, "play", "--notebooks", folder / "notebooks") as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    found = [path for name in CHROMIUM if (path := shutil.which(name))]
    assert found, f"none of {', '.join(CHROMIUM)} was found; install one, for example: apt install chromium"
    # Root and containers may not have its sandbox; it opens only our own pages.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session", autouse=True)
def screenshots() -> Path:
    """An empty folder for them."""
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    return SCREENSHOTS


@pytest.fixture
def tab(browser: Browser, screenshots: Path, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """A page as large as a projector's screen."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    tab = Tab(context, screenshots)
    yield tab
    tab.look(f"end-of-{request.node.name}".replace("[", "-").replace("]", ""))
    context.close()
