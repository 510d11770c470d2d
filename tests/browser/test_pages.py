"""The pages with sliders in a browser without a network, by mouse and by keyboard, and what they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from driver import QUICK, Tab, wait_until
from playwright.sync_api import Browser, Locator, expect

from fl_meta.algorithms import SGD
from fl_meta.evidence import CLAIM_TESTS, crossed_mean, differences, evidence_table
from fl_meta.evidence.crossed_results import recorded_designs
from fl_meta.evidence.crossed_rules import verdict_of_effect
from fl_meta.laboratories import (
    PLANE_ALGORITHMS,
    SERVERS,
    adapt_client,
    held_out_study,
    quadratics,
    small_writers,
    train_in_plane,
    train_mix,
)
from fl_meta.laboratories.mixing import mixed_gradient
from fl_meta.pages import PAGES, build_pages

RESULTS = ROOT / "data" / "results"
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
WIDTHS = {"a phone": 400, "200 % zoom": 640, "a screen": 1280}


@pytest.fixture(scope="session")
def folder_of_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, built once."""
    folder = tmp_path_factory.mktemp("pages")
    build_pages(RESULTS, folder)
    return folder


@pytest.fixture
def offline(browser: Browser, screenshots: Path) -> Iterator[Tab]:
    """A tab that has no network at all."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    yield Tab(context, screenshots)
    context.close()


@pytest.fixture
def page(offline: Tab, folder_of_pages: Path, request: pytest.FixtureRequest) -> Tab:
    """The page with this name."""
    offline.page.goto((folder_of_pages / f"{request.param}.html").as_uri())
    settle(offline)
    return offline


def settle(tab: Tab) -> None:
    """Wait until what takes longer than a moment is drawn."""
    tab.page.wait_for_selector(".picture > *")
    wait_until(lambda: not tab.page.locator("[aria-busy=true]").count(), QUICK, "the picture")


def named(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [name], indirect=True)


def picture(panel: Locator) -> str:
    """What a panel shows, with the colours of a canvas."""
    shown: str = panel.locator(".picture").evaluate(
        "one => one.innerHTML + [...one.querySelectorAll('canvas')].map(canvas => canvas.toDataURL()).join()"
    )
    return shown


def moves(control: Locator) -> dict[str, list[Callable[[], None]]]:
    """How a reader moves a control, by mouse and by keyboard."""

    def press(key: str) -> Callable[[], None]:
        return lambda: control.press(key)

    if control.evaluate("one => one.tagName") == "SELECT":
        now, options = control.input_value(), control.locator("option").all_text_contents()
        others = [option for option in options if option != now]
        return {
            "mouse": [
                lambda option=option: control.select_option(option) for option in {others[0], others[-1]}
            ],
            "keyboard": [press("ArrowDown"), press("ArrowUp")],
        }

    def click(share: float) -> Callable[[], None]:
        def act() -> None:
            control.scroll_into_view_if_needed()
            box = control.bounding_box()
            assert box
            control.click(position={"x": 9 + share * (box["width"] - 18), "y": box["height"] / 2})

        return act

    return {"mouse": [click(0.0), click(1.0)], "keyboard": [press("Home"), press("ArrowRight"), press("End")]}


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_every_control_moves_the_picture_by_mouse_and_by_keyboard(page: Tab) -> None:
    for panel in page.page.locator(".panel").all():
        first, reset = picture(panel), panel.get_by_role("button", name="reset")
        for control in panel.locator("form input, form select").all():
            label = control.get_attribute("id")
            for way, actions in moves(control).items():
                shown = set()
                for act in actions:
                    act()
                    settle(page)
                    shown.add(picture(panel))
                assert shown - {first}, f"{label} by {way} does not change the picture"
                reset.click()
                settle(page)
                assert picture(panel) == first, f"{label}: reset does not go back"
        page.look(f"page-{panel.get_attribute('id')}")
    assert not page.told() and not page.foreign


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_buttons_in_the_text_and_the_address_set_the_same(page: Tab) -> None:
    buttons = page.page.locator("button.set")
    for number in range(buttons.count()):
        button = buttons.nth(number)
        button.click()
        for name, value in button.evaluate("one => Object.entries(JSON.parse(one.dataset.set))"):
            control = page.page.locator(f"#{name}")
            got = control.evaluate(
                "one => one.dataset.stops ? JSON.parse(one.dataset.stops)[one.value] : one.value"
            )
            assert str(got) == str(value), name
    settle(page)
    page.page.wait_for_timeout(1000)  # the address follows a while after the last move
    before = [picture(panel) for panel in page.page.locator(".panel").all()]
    page.page.reload()
    settle(page)
    assert [picture(panel) for panel in page.page.locator(".panel").all()] == before
    assert not page.told()


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_a_sentence_is_said_when_a_control_rests(page: Tab) -> None:
    for panel in page.page.locator(".panel").all():
        said, words = panel.locator("[role=status]"), panel.locator(".words")
        expect(said).to_have_text(words.text_content() or "")
        first = said.text_content()
        control = panel.locator("form input, form select").first
        for key in ("End", "Home"):
            if words.text_content() == first:
                control.press(key)
                settle(page)
        assert words.text_content() not in ("", first)
        expect(said).to_have_text(words.text_content() or "")


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_nothing_sticks_out_and_the_focus_is_visible(page: Tab) -> None:
    for width in WIDTHS.values():
        page.page.set_viewport_size({"width": width, "height": 800})
        settle(page)
        page.page.wait_for_timeout(200)  # the observer of the width has drawn anew
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        out = page.page.evaluate(
            """width => [...document.querySelectorAll("main *:not(.said)")].filter(one =>
                one.getBoundingClientRect().right > width + 1 && !one.closest("defs, clipPath, g")
            ).map(one => one.outerHTML.slice(0, 80))""",
            width,
        )
        assert not out, out
    for control in page.page.locator("main :is(input, select, button)").all():
        control.focus()
        page.page.keyboard.press("Shift")
        assert control.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_synthetic_data_are_called_so_where_they_are_drawn(page: Tab) -> None:
    name = page.page.url.rpartition("/")[2].removesuffix(".html")
    panels = page.page.locator(".panel").all()
    synthetic = {"mix": panels, "writers": panels, "client": panels[:1], "evidence": panels[:1]}
    for panel in synthetic.get(name, []):
        assert "synthetic" in panel.inner_text()


# --- what the pages compute is what the library computes ---


@named("plane")
def test_the_plane_is_that_of_the_library(page: Tab) -> None:
    train = """([name, steps, rate, server, serverRate, heterogeneity, rounds]) => {
        const given = page.data, plane = planeModel.quadratics(given, heterogeneity);
        const row = given.algorithms[name][steps - 1];
        const run = planeModel.train(given, plane, row, rate, given.servers[server], serverRate, rounds);
        const means = run.path.map(at => planeModel.meanLoss(plane, planeModel.adapted(plane, at, rate)));
        return [run.path, run.local, means, planeModel.smallestLosses(plane, rate)];
    }"""
    random = np.random.default_rng(0)
    for name in PLANE_ALGORITHMS:
        for server in SERVERS:
            for _ in range(4):
                steps, rounds = int(random.integers(1, 11)), int(random.integers(1, 61))
                rate, server_rate = float(random.uniform(0.02, 0.6)), float(random.uniform(0.05, 1.0))
                heterogeneity = float(random.choice([0.0, 0.35, 1.0]))
                given = [name, steps, rate, server, server_rate, heterogeneity, rounds]
                path, local, after, best = page.page.evaluate(train, given)
                clients = quadratics(heterogeneity)
                row = PLANE_ALGORITHMS[name](steps, SGD(rate), SERVERS[server](server_rate))
                ours, ways = train_in_plane(clients, row, rounds)
                np.testing.assert_allclose(path, ours, **CLOSE, err_msg=str(given))
                np.testing.assert_allclose(np.swapaxes(local, 0, 1), ways, **CLOSE)
                losses = clients.losses(clients.adapted(ours, rate)).mean(1)
                np.testing.assert_allclose(after, losses, **CLOSE)
                np.testing.assert_allclose(best, clients.smallest_losses(rate), **CLOSE)


@named("mix")
@pytest.mark.parametrize(
    ("mix", "rate", "server_rate", "rounds"),
    [
        ((1.0, 0.0, 0.0, 0.0, 0.0), 0.5, 1.0, 40),
        ((1.0, 1.0, 1.0, 1.0, 1.0), 0.5, 1.0, 20),
        ((0.0, 0.0, 0.0, 0.0, 1.0), 0.5, 3.0, 20),
        ((-0.25, 0.5, 0.0, 2.0, 0.0), 0.2, 1.5, 13),
        ((0.0, 0.0, 0.0, 0.0, 0.0), 0.5, 1.0, 3),
    ],
)
def test_the_mix_is_trained_as_in_the_library(
    page: Tab, mix: tuple[float, ...], rate: float, server_rate: float, rounds: int
) -> None:
    writers = small_writers()
    learning = train_mix(writers, mix, rate, server_rate, rounds)
    params = np.zeros((writers.tests.x.shape[-1], writers.tests.targets.shape[-1]))
    for batches in writers.rounds[:rounds]:
        params = params - server_rate * mixed_gradient(batches, params, mix, rate)
    run = """([mix, rate, serverRate, rounds]) => {
        const run = model.run(mix, rate, serverRate);
        for (const round of rounds) while (!run.advance(round));
        return [rounds.map(round => run.at(round)), [...run.params[rounds.at(-1)]]];
    }"""
    accuracies, own = page.page.evaluate(run, [mix, rate, server_rate, learning.rounds])
    np.testing.assert_allclose(np.reshape(own, params.T.shape).T, params, **CLOSE)
    np.testing.assert_allclose(accuracies, np.transpose([learning.initial, learning.personalized]), **CLOSE)


@named("client")
def test_frames_and_marks_are_the_flips(page: Tab) -> None:
    client = held_out_study("writers").offered[1]
    page.page.locator("#writer").select_option(client)
    for epoch in (0, 3, 10):
        page.page.locator("#writer_epoch").fill(str(epoch))
        right = adapt_client("writers", client).right[[0, epoch]]
        counts = {
            "misread": ~right[0] & ~right[1],
            "gained": ~right[0] & right[1],
            "lost": right[0] & ~right[1],
        }
        for kind, is_so in counts.items():
            assert page.page.locator(f".glyphs .{kind}").count() == is_so.sum(), (epoch, kind)
    role = held_out_study("shakespeare").offered[2]
    page.page.locator("#role").select_option(role)
    wrong = page.page.locator("#roles .lines u").evaluate_all(
        "all => all.map(one => one.textContent.replaceAll('↵', '').length).reduce((sum, one) => sum + one, 0)"
    )
    assert wrong == (~adapt_client("shakespeare", role).right[5][:480]).sum()


@named("evidence")
def test_the_forest_has_every_verdict_and_another_margin_is_judged_by_the_same_rule(page: Tab) -> None:
    designs = recorded_designs(RESULTS)
    evidence = evidence_table(designs.values())
    shown = page.page.locator(".forest input").evaluate_all(
        "all => all.map(one => [one.value, one.closest('tr').querySelector('.verdict').innerText])"
    )
    found = {tuple(key.split("|")): words.split(" ", 1)[1] for key, words in shown}
    rows: list[dict[str, Any]] = evidence.to_dict("records")  # type: ignore[assignment]
    assert found == {(row["claim"], row["dataset"], row["regime"]): row["verdict"] for row in rows}
    cells = {(some[0].label, some[0].config.regime): some for some in designs.values()}
    tests = {test.claim: test for test in CLAIM_TESTS}
    for number, row in enumerate(rows):
        test = tests[row["claim"]]
        some = cells[row["dataset"], row["regime"]]
        effect = crossed_mean(differences(some, [test.better], [test.worse], test.measure))
        for margin in (0.1, 0.5, 2.0, 8.0):
            ours = page.page.evaluate(f"verdictOf(page.data.tests[{number}], {margin})")
            verdict = verdict_of_effect(effect, row["p_holm"], margin, ("reproduced", "contradicted"))
            assert ours == ("premise not met" if row["premise"] <= 0 else verdict)


@named("evidence")
def test_a_chosen_row_shows_its_replicates(page: Tab) -> None:
    rows = page.page.locator(".forest input")
    for number in (3, 1):
        rows.nth(number).check()
        key = rows.nth(number).get_attribute("value")
        test = page.page.evaluate("key => page.data.tests.find(test => keyOf(test) === key)", key)
        dots = page.page.locator(".forest .more circle")
        assert dots.count() == sum(map(len, test["folds"]))
        assert test["dataset"] in page.page.locator("#forest .words").inner_text()
    rows.nth(1).press("ArrowDown")
    chosen = page.page.locator(".forest input:checked")
    assert chosen.get_attribute("value") == rows.nth(2).get_attribute("value")
    assert chosen.evaluate("one => one === document.activeElement"), "the focus goes with the choice"
    assert not page.told()
