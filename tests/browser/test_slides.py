"""The decks of slides on a projector's screen: nothing is cut off, and nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT
from driver import QUICK, Tab, wait_until

from fl_meta.course import write_slides

LEAST_HEIGHT = 150  # of a picture, in pixels of the screen

# A cut-off slide scrolls, or a part of it sticks out. Parts of no size are boxes that only hold others.
_SHOWN = """() => {
    const slide = Reveal.getCurrentSlide(), edge = slide.getBoundingClientRect();
    const parts = [...slide.querySelectorAll("*")].filter(part => part.getClientRects().length);
    const out = parts.filter(part => {
        const here = part.getBoundingClientRect();
        return here.bottom > edge.bottom + 1 || here.right > edge.right + 1 || here.left < edge.left - 1;
    });
    return {
        words: slide.innerText.trim().length,
        scrolls: slide.scrollHeight > slide.clientHeight || slide.scrollWidth > slide.clientWidth,
        out: out.map(part => `${part.tagName} ${part.className} ${part.textContent.trim().slice(0, 40)}`),
        inside: edge.top >= 0 && edge.bottom <= innerHeight && edge.left >= 0 && edge.right <= innerWidth,
        heights: [...slide.querySelectorAll(".jp-RenderedImage img")]
            .map(image => image.getBoundingClientRect().height),
    };
}"""


@pytest.fixture(scope="session")
def decks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The decks of our lessons."""
    return write_slides(ROOT / "notebooks", tmp_path_factory.mktemp("slides"))


def test_every_slide_fits(tab: Tab, decks: list[Path]) -> None:
    assert decks
    tab.page.set_viewport_size({"width": 1280, "height": 720})
    for path in decks:
        tab.page.goto(path.as_uri())
        tab.page.wait_for_function("Reveal.isReady()")
        for number in range(tab.page.evaluate("Reveal.getTotalSlides()")):
            # With all that appears step by step.
            tab.page.evaluate("number => Reveal.slide(number, 0, 99)", number)
            tab.look(f"{path.stem}-slide-{number + 1}")
            shown = tab.page.evaluate(_SHOWN)
            where = f"{path.name}, slide {number + 1}"
            assert shown["words"] or shown["heights"], f"{where} is empty"
            assert not shown["scrolls"] and not shown["out"] and shown["inside"], f"{where}: {shown}"
            assert all(height >= LEAST_HEIGHT for height in shown["heights"]), f"{where}: {shown}"
    assert not tab.told() and not tab.foreign


def test_the_keyboard_goes_on(tab: Tab, decks: list[Path]) -> None:
    tab.page.goto(decks[0].as_uri())
    tab.page.wait_for_function("Reveal.isReady()")
    assert re.search(r"^\s*1\s*/", tab.page.locator(".slide-number").inner_text())
    tab.page.keyboard.press("Space")
    assert re.search(r"^\s*2\s*/", tab.page.locator(".slide-number").inner_text())


def test_each_slide_is_one_printed_page(tab: Tab, decks: list[Path]) -> None:
    tab.page.goto(decks[0].as_uri())
    tab.page.wait_for_function("Reveal.isReady()")
    slides = tab.page.evaluate("Reveal.getTotalSlides()")
    tab.page.goto(f"{decks[0].as_uri()}?view=print")
    pages = tab.page.locator(".pdf-page")
    wait_until(lambda: pages.count() > 0, QUICK, "the pages to be laid out")
    cut = """pages => pages.flatMap(page => [...page.querySelectorAll("section")])
        .filter(slide => slide.scrollHeight > slide.clientHeight).length"""
    assert pages.count() == slides and pages.evaluate_all(cut) == 0
