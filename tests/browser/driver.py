"""Acts for a reader: opens a page, moves its controls, and notices errors."""

from __future__ import annotations

import re
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect

# Seconds to load JupyterLab or start a kernel on a busy machine, and to draw a picture.
SLOW, QUICK = 300.0, 60.0

ERROR = "application/vnd.jupyter.error"
STDERR = "application/vnd.jupyter.stderr"

# While a new picture arrives, the address of the old one may be invalid: try again.
_PNG = """async image => {
    for (let left = 20; ; left--) {
        try { await image.decode(); break; }
        catch (error) { if (!left) throw error; }
        await new Promise(resolve => setTimeout(resolve, 50));
    }
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
}"""

_CLASHES = """panel => {
    const parts = [...panel.querySelectorAll(
        ".widget-slider, .widget-dropdown, .widget-button, .widget-html, .widget-image, .widget-hprogress"
    )].filter(part => part.offsetHeight > 0);
    const name = part => part.textContent.trim().slice(0, 40) || part.className;
    const edge = panel.getBoundingClientRect();
    const found = [];
    parts.forEach((part, number) => {
        const here = part.getBoundingClientRect();
        if (here.right > edge.right + 1) found.push(`${name(part)} sticks out`);
        for (const other of parts.slice(number + 1)) {
            const there = other.getBoundingClientRect();
            const wide = Math.min(here.right, there.right) - Math.max(here.left, there.left);
            const high = Math.min(here.bottom, there.bottom) - Math.max(here.top, there.top);
            if (wide > 1 && high > 1) found.push(`${name(part)} lies over ${name(other)}`);
        }
    });
    for (const text of panel.querySelectorAll("label, button"))
        if (text.scrollWidth > text.clientWidth) found.push(`${name(text)} is cut off`);
    return found;
}"""

# Prompts of code cells that are not empty: "[ ]:", "[*]:", "[3]:".
_PROMPTS = """() => [...document.querySelectorAll(".jp-Notebook .jp-CodeCell .jp-InputArea-prompt")]
    .map(prompt => prompt.textContent)"""


def wait_until(is_so: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for the first true result and return it."""
    end = time.monotonic() + seconds
    while not (result := is_so()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}, awaited for {seconds:g} s")
        time.sleep(0.03)
    return result


class Tab:
    """A page of a server on this machine; requests to other machines are refused.

    Attributes:
        problems: errors in the console or on the page, and requests that failed.
        foreign: addresses on other machines that the page requested.
    """

    def __init__(self, context: BrowserContext, folder: Path) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(1000 * QUICK)
        self.page.set_default_navigation_timeout(1000 * SLOW)
        self.problems: list[str] = []
        self.foreign: list[str] = []
        self._folder = folder
        self.page.route(lambda url: urlsplit(url).hostname not in ("127.0.0.1", None), self._refuse)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.problems.append(f"page: {error}"))
        self.page.on("response", lambda one: one.ok or one.status < 400 or self._failed(one.status, one.url))

    def _refuse(self, route: Any) -> None:
        self.foreign.append(route.request.url)
        route.abort()

    def _failed(self, status: int, url: str) -> None:
        self.problems.append(f"response {status}: {url}")

    def _heard(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        # Refused requests are in `foreign`, failed responses are already among the problems.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.problems.append(f"console: {message.text} ({where})")

    def look(self, name: str) -> None:
        """Keep a screenshot."""
        self.page.screenshot(path=self._folder / f"{name}.png")

    def errors(self) -> list[str]:
        """Tracebacks that the page shows, and what a panel wrote to stderr."""
        panel = ".fl-meta-panel"
        shown = self.page.locator(f'[data-mime-type="{ERROR}"], {panel} [data-mime-type="{STDERR}"]')
        return shown.all_text_contents()

    def told(self) -> list[str]:
        """The problems so far; messages only arrive while Playwright waits."""
        self.page.wait_for_timeout(100)
        return self.problems

    def panels(self) -> list[Panel]:
        """The panels of the page, from its top."""
        shown = self.page.locator(".fl-meta-panel")
        return [Panel(self, shown.nth(number)) for number in range(shown.count())]

    @contextmanager
    def zoomed(self, zoom: float) -> Iterator[None]:
        """Shrink the viewport as the browser's zoom would."""
        size = self.page.viewport_size
        assert size
        self.page.set_viewport_size({name: round(pixels / zoom) for name, pixels in size.items()})
        yield
        self.page.set_viewport_size(size)

    # --- JupyterLab ---

    def menu(self, *names: str) -> None:
        """Choose from JupyterLab's menus."""
        labels = self.page.locator(".lm-MenuBar-itemLabel, .lm-Menu-itemLabel")
        for name in names:
            labels.filter(has_text=re.compile(f"^{re.escape(name)}$"), visible=True).click()

    def await_kernel(self) -> None:
        """Wait for the notebook and for an idle kernel."""
        expect(self.page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=1000 * SLOW)
        kernel = self.page.locator(".jp-Toolbar-kernelName").first
        expect(kernel).to_contain_text("Python 3", timeout=1000 * SLOW)
        idle = self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first
        expect(idle).to_be_attached(timeout=1000 * SLOW)

    def restart(self) -> None:
        """Restart the kernel, and wait for it."""
        self.menu("Kernel", "Restart Kernel…")
        self.page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
        self.await_kernel()

    def run_all(self) -> None:
        """Run all cells, and wait for the last."""
        self.begin_all()
        wait_until(lambda: "[*]:" not in self._prompts(), SLOW, "all cells to have run")
        assert not self.errors(), "\n".join(self.errors())
        assert "[ ]:" not in self._prompts(), "a cell was left out"

    def begin_all(self) -> None:
        """Run all cells, and wait for the first to begin."""
        self.menu("Run", "Run All Cells")
        wait_until(lambda: "[*]:" in self._prompts(), QUICK, "the cells to begin")

    def interrupt(self) -> None:
        """Interrupt the running cell, and wait until nothing runs and the cells after it were left out."""
        self.menu("Kernel", "Interrupt Kernel")

        # Not by the traceback: the kernel shows none if the interruption meets it while it ends a cell.
        def stopped() -> bool:
            prompts = self._prompts()
            return "[*]:" not in prompts and "[ ]:" in prompts

        wait_until(stopped, QUICK, "the cell to stop")
        self.await_kernel()

    def _prompts(self) -> list[str]:
        prompts: list[str] = self.page.evaluate(_PROMPTS)
        return prompts


class Panel:
    """Controls above a picture, in the page of `tab`."""

    def __init__(self, tab: Tab, place: Locator) -> None:
        self._tab, self.place = tab, place
        self.picture = place.locator("img.widget-image")

    def controls(self) -> list[Control]:
        """Sliders and lists, in order."""
        shown = self.place.locator(".widget-slider, .widget-dropdown")
        return [Control(shown.nth(number)) for number in range(shown.count())]

    def button(self, text: str) -> Locator:
        """A button by its text."""
        return self.place.get_by_role("button", name=text, exact=True)

    def pixels(self) -> Any:
        """What the picture shows: colours [height, width, 3]."""
        png = b64decode(self.picture.evaluate(_PNG))
        return np.asarray(Image.open(BytesIO(png)).convert("RGB"))

    def settings(self) -> str:
        """The code that recreates the panel."""
        return self.place.locator(".fl-meta-code code").text_content() or ""

    def do(self, action: Callable[[], None], what: str, is_done: Callable[[], bool]) -> None:
        """Act, and wait until it is done; no error may show, and nothing below may jump."""
        height = self.picture.evaluate("image => image.offsetHeight")
        action()
        wait_until(lambda: is_done() or self._tab.errors(), QUICK, f"an answer to {what}")
        assert not self._tab.errors(), f"{what}: {self._tab.errors()}"
        assert self.picture.evaluate("image => image.offsetHeight") == height, f"{what}: the picture jumps"

    def move(self, control: Control, move: Callable[[], None]) -> None:
        """Move a control, and wait for the panel to follow if that has changed its value."""
        settings, value = self.settings(), control.value()
        self.do(move, control.label(), lambda: control.value() == value or self.settings() != settings)

    def is_as(self, settings: str, pixels: Any) -> bool:
        """Whether these are its settings and, except for a few smoothed pixels, its picture."""
        now = self.pixels()
        alike = now.shape == pixels.shape and (now != pixels).any(-1).mean() < 1e-3
        return self.settings() == settings and alike

    def reset(self, settings: str, pixels: Any) -> None:
        """Press "reset", and wait for the first settings and picture."""
        self.do(self.button("reset").click, "reset", lambda: self.is_as(settings, pixels))

    def enable(self, control: Control) -> bool:
        """Choose from one list after the other until a control is enabled; return whether it is."""
        settings, pixels = self.settings(), self.pixels()
        for other in self.controls():
            for choose in other.moves() if other.is_list and not control.enabled() else ():
                self.move(other, choose)
                if control.enabled():
                    return True
            if not control.enabled():
                self.reset(settings, pixels)
        return control.enabled()

    def move_control(self, control: Control) -> None:
        """Move a control to two places; tests/test_panels.py goes through all of them without a browser."""
        assert self.enable(control), f"{control.label()} is always off"
        first, changed = self.pixels(), False
        for move in control.moves()[0], control.moves()[-1]:
            self.move(control, move)
            changed = changed or not np.array_equal(self.pixels(), first)
        assert changed, f"{control.label()} does not change the picture"

    def move_everything(self) -> None:
        """Move every control, press every button, and each time go back with "reset"."""
        settings, pixels = self.settings(), self.pixels()
        for control in self.controls():
            self.move_control(control)
            self.reset(settings, pixels)
        cancel = self.button("cancel")
        for button in self.place.get_by_role("button").all():
            text = button.text_content() or ""
            if text == "cancel":
                continue
            if cancel.count() and text != "reset":  # it starts what takes seconds
                self.do(button.click, text, cancel.is_enabled)
                self.do(cancel.click, "cancel", cancel.is_disabled)
            else:
                self.do(button.click, text, lambda: True)
        self.reset(settings, pixels)

    def use_keyboard(self) -> None:
        """Go from control to control with Tab, move each with an arrow key, and press "reset" with Enter."""
        settings, pixels = self.settings(), self.pixels()
        keyboard = self.place.page.keyboard
        controls = self.controls()
        next(control for control in controls if control.enabled()).focus.focus()
        for control in controls:
            if not control.enabled():  # perhaps since the one before has moved
                continue
            self._tab_to(control.focus, control.label())
            there = control.place.bounding_box()
            value = control.value()
            for key in ("ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight"):
                if control.value() == value:
                    self.move(control, partial(keyboard.press, key))
            assert control.value() != value, f"{control.label()} does not follow the arrow keys"
            assert control.place.bounding_box() == there, f"the page runs away from {control.label()}"
        self._tab_to(self.button("reset"), "reset")
        self.do(partial(keyboard.press, "Enter"), "reset", lambda: self.is_as(settings, pixels))

    def _tab_to(self, place: Locator, what: str) -> None:
        for _ in range(20):
            if place.evaluate("element => element === document.activeElement"):
                return
            self.place.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {what}")

    def clashes(self) -> list[str]:
        """Parts that overlap, stick out, or have a label that is cut off."""
        found: list[str] = self.place.evaluate(_CLASHES)
        return found


class Control:
    """A slider or a list."""

    def __init__(self, place: Locator) -> None:
        self.place = place
        self.is_list = place.locator("select").count() == 1
        self.focus = place.locator("select" if self.is_list else "[role=slider]")

    def label(self) -> str:
        """The label beside it."""
        return self.place.locator("label").text_content() or ""

    def enabled(self) -> bool:
        """Whether it can be moved."""
        off = self.place.locator("select:disabled, .slider[disabled]")
        return off.count() == 0

    def value(self) -> str:
        """The current value, as text."""
        if self.is_list:
            return self.focus.input_value()
        return self.focus.get_attribute("aria-valuetext") or ""

    def moves(self) -> list[Callable[[], None]]:
        """Each option of a list; both ends of a slider and its middle."""
        if not self.is_list:
            return [partial(self.drag, share) for share in (0.0, 1.0, 0.5)]
        options = self.place.locator("option").all_text_contents()
        return [partial(self.choose, number) for number in range(len(options))]

    def choose(self, number: int) -> None:
        """Choose from a list."""
        self.focus.select_option(index=number)

    def drag(self, share: float) -> None:
        """Drag a slider's handle with the mouse to this share of its way."""
        self.focus.scroll_into_view_if_needed()
        mouse = self.place.page.mouse
        handle, way = self.focus.bounding_box(), self.place.locator(".slider").bounding_box()
        assert handle and way
        height = handle["y"] + handle["height"] / 2
        mouse.move(handle["x"] + handle["width"] / 2, height)
        mouse.down()
        mouse.move(way["x"] + share * way["width"], height, steps=4)
        mouse.up()
