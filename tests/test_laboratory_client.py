"""The panel of a client shows what the library computes, for every client and epoch."""

import re
from base64 import b64encode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from fl_meta import laboratories, load_dataset, personalize
from fl_meta.data.encoding import BLANK, VOCABULARY, decode
from fl_meta.engines.local_training import LocalTraining
from fl_meta.laboratories import client as laboratory
from fl_meta.laboratories.client_picture import GlyphPicture
from fl_meta.laboratories.panel import Panel
from fl_meta.reproduction.pages import write_page
from fl_meta.support.random_streams import random_stream

DATASETS = tuple(laboratory.RECIPES)


@pytest.fixture(scope="module")
def panels() -> dict[str, Panel]:
    return {name: laboratories.meet_a_client(dataset=name) for name in DATASETS}


@pytest.mark.parametrize("dataset", ["writers", pytest.param("shakespeare", marks=pytest.mark.slow)])
def test_accuracies_are_those_of_personalize_at_every_epoch(dataset: str) -> None:
    study, recipe = laboratory.held_out_study(dataset), laboratory.RECIPES[dataset]
    clients = study.offered[::6]
    table = personalize(
        study.adaptation.model,
        study.adaptation.params,
        study.adaptation.data.subset(clients),
        epochs=laboratory.EPOCHS,
        client=recipe.adaptation,
        batch_size=recipe.stage.algorithm.batch_size,
        seed=laboratory.SEED,
        engine="loop",
    ).accuracies()
    for client in clients:
        accuracies = laboratory.adapt_client(dataset, client).accuracies
        np.testing.assert_allclose(accuracies, 100 * table.loc[client], rtol=1e-12)
        # The stacked engine, whose mean is drawn, may round a tie to the other side.
        np.testing.assert_allclose(accuracies, 100 * study.table.accuracies().loc[client], atol=3.5)


@pytest.mark.parametrize("dataset", DATASETS)
def test_training_has_not_seen_the_held_out_clients(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a client of the same name, such as Falstaff in another play."""
    held_out = laboratory.held_out_study(dataset).adaptation.data.client_ids
    seen = []

    def train(model, data, stages, **options):  # type: ignore[no-untyped-def]
        seen.extend(data.client_ids)
        raise InterruptedError

    monkeypatch.setattr(laboratory, "train", train)
    with pytest.raises(InterruptedError):
        laboratory.held_out_study.__wrapped__(dataset)
    names = {client.split("/")[-1] for client in seen}
    assert len(names) > 50
    assert names.isdisjoint(client.split("/")[-1] for client in held_out)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_clients_with_most_test_examples_are_offered(dataset: str) -> None:
    study = laboratory.held_out_study(dataset)
    data = study.adaptation.data
    counts = [len(data[client].test_x) for client in study.offered]
    others = [len(data[client].test_x) for client in data.client_ids if client not in study.offered]
    assert len(set(study.offered)) == len(counts) == 12
    assert counts == sorted(counts, reverse=True) and counts[-1] >= max(others, default=0)
    assert set(study.table.rows.client_id) == set(data.client_ids)


def counted(panel: Panel) -> tuple[int, int]:
    """How many predictions are now right, and now wrong, according to the words."""
    counts = re.search(r"<b>(\d+) ✔ now right, (\d+) ✘ now wrong</b>", panel.words.value)
    assert counts
    return int(counts[1]), int(counts[2])


@pytest.mark.parametrize("dataset", DATASETS)
def test_words_count_what_flipped(panels: dict[str, Panel], dataset: str) -> None:
    panel = panels[dataset]
    falls = 0
    for client in laboratory.held_out_study(dataset).offered[:3]:
        adaptation = laboratory.adapt_client(dataset, client)
        for epoch in (0, 1, 10):
            panel.set(client=client, epoch=epoch)
            right, wrong = counted(panel)
            was, now = (round(adaptation.accuracies[e] / 100 * len(adaptation.truth)) for e in (0, epoch))
            assert now - was == right - wrong
            assert f"{now} of {len(adaptation.truth)} " in panel.words.value
            assert (right, wrong) == (0, 0) or epoch
            falls += now < was
    assert "shakespeare" not in dataset or falls  # clients whose accuracy falls are offered as well


def test_glyphs_are_marked_by_what_the_models_read(panels: dict[str, Panel]) -> None:
    panel, study = panels["writers"], laboratory.held_out_study("writers")
    names = study.adaptation.data.class_names
    for client in study.offered:
        panel.set(client=client, epoch=4)
        adaptation = laboratory.adapt_client("writers", client)
        axes = panel.figure.axes[0]
        captions = [text.get_text() for text in axes.texts if text.get_text()]
        with torch.no_grad():
            x = torch.from_numpy(adaptation.client.test_x)
            before, now = (
                study.adaptation.model.apply(adaptation.params[epoch], x).argmax(-1) for epoch in (0, 4)
            )
        truth, expected = adaptation.client.test_y, []
        for i in np.argsort(truth, kind="stable"):
            true, first, last = truth[i], before[i], now[i]
            text = names[true] if last == true else f"{names[true]}→{names[last]}"
            flip = "✔ " if first != true == last else "✘ " if first == true != last else ""
            expected.append(flip + text)
        assert captions == expected
        # A frame, of five corners and a gap, is around all that are misread twice, now right, or now wrong.
        old, new = before.numpy() == truth, now.numpy() == truth
        framed = [int(group.sum()) for group in (~old & ~new, ~old & new, old & ~new)]
        assert [len(line.get_xdata()) / 6 for line in axes.lines] == framed


def test_every_glyph_is_above_its_caption() -> None:
    client = laboratory.held_out_study("writers").offered[0]
    figure, _ = GlyphPicture().show(client, 0)
    axes = figure.axes[0]
    sheet = np.asarray(axes.images[0].get_array())
    adaptation = laboratory.adapt_client("writers", client)
    assert sheet.sum() == pytest.approx(adaptation.client.test_x.sum(), rel=1e-5)
    texts = [text for text in axes.texts if text.get_text()]
    for text, i in zip(texts, np.argsort(adaptation.truth, kind="stable"), strict=True):
        x, y = text.get_position()
        cell = sheet[int(y) - 36 : int(y) + 8, int(x) - 17 : int(x) + 17]
        assert cell.sum() == pytest.approx(adaptation.client.test_x[i].sum(), rel=1e-5)


class Letters(HTMLParser):
    """Reads the characters of each <pre> in a page, with the style of the element around them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.blocks: list[list[tuple[str, str]]] = []
        self._inside, self._style = False, ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "pre":
            self.blocks.append([])
            self._inside = True
        elif self._inside:
            self._style = dict(attributes).get("style") or ""

    def handle_endtag(self, tag: str) -> None:
        self._style = ""
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[-1] += [(character, self._style) for character in data]


def texts(page: str) -> Iterator[str]:
    return ("".join(character for character, _ in block) for block in Letters(page).blocks)


def test_lines_are_the_unseen_ones_with_wrong_guesses_underlined(panels: dict[str, Panel]) -> None:
    panel, role = panels["shakespeare"], laboratory.held_out_study("shakespeare").offered[1]
    panel.set(client=role, epoch=3)
    assert role in panel.text.value and "after 3 epochs" in panel.text.value
    lines, key = Letters(panel.text.value).blocks
    letters = [letter for letter in lines if letter[0] != "↵"]
    unseen = decode(load_dataset("shakespeare")[role].test_y)
    assert len(letters) > 400 and unseen.startswith("".join(character for character, _ in letters))
    before, now = laboratory.adapt_client("shakespeare", role).right[[0, 3], : len(letters)]
    assert ["underline" not in style for _, style in letters] == now.tolist()
    assert ["outline" in style for _, style in letters] == (before != now).tolist()
    assert {(a, b) for a, b in zip(before, now, strict=True)} >= {(True, False), (False, True)}
    styles = [(good, style) for good, (_, style) in zip(now, letters, strict=True) if style]
    colours = {(good, re.findall("#[0-9a-f]{6}", style)[0]) for good, style in styles}
    assert len(colours) == 2, "one colour for right, another for wrong"
    # The key shows each mark that occurs in the text.
    assert {style for _, style in key} == {style for _, style in letters}


def test_a_line_end_that_is_marked_can_be_seen(panels: dict[str, Panel]) -> None:
    panel = panels["shakespeare"]
    for role in laboratory.held_out_study("shakespeare").offered[:3]:
        panel.set(client=role, epoch=2)
        lines = Letters(panel.text.value).blocks[0]
        ends = [(lines[i - 1][0] == "↵", bool(style)) for i, (c, style) in enumerate(lines) if c == "\n"]
        assert {marked for _, marked in ends} == {True, False}
        assert all(shown == marked for shown, marked in ends)


def test_both_texts_are_the_models_own(panels: dict[str, Panel]) -> None:
    """The same by a plain loop over characters, for one model at a time."""
    role = laboratory.held_out_study("shakespeare").offered[2]
    adaptation = laboratory.adapt_client("shakespeare", role)
    model = laboratory.held_out_study("shakespeare").adaptation.model
    written = laboratory.write_on(role)
    for epoch in (0, 7):
        first_line = laboratory.first_line(adaptation) + "\n"
        codes = [BLANK] * 8 + [VOCABULARY.index(letter) for letter in first_line]
        start = len(codes)
        for draw in random_stream(laboratory.SEED, "sample of text").random(60):
            with torch.no_grad():
                logits = model.apply(adaptation.params[epoch], torch.tensor([codes]))[0, -1].double().numpy()
            chances = np.exp((logits - logits.max()) / 0.8)
            codes.append(int(np.searchsorted(chances.cumsum(), draw * chances.sum(), side="right")))
        assert written[epoch].startswith(decode(codes[start:]))
    panel = panels["shakespeare"]
    panel.set(client=role, epoch=7)
    assert list(texts(panel.words.value)) == [written[0], written[7]]
    panel.set(epoch=0)
    assert list(texts(panel.words.value)) == [written[0], written[0]]


def test_a_saved_notebook_and_its_page_show_the_text_and_the_curve(
    panels: dict[str, Panel], tmp_path: Path
) -> None:
    panel = panels["shakespeare"]
    bundle, _ = panel._repr_mimebundle_()
    assert "image/png" not in bundle, "one still picture is enough"
    still, metadata = panels["writers"]._repr_mimebundle_()
    assert "text/html" not in still
    assert "test images right" in metadata["image/png"]["alt"] and "<" not in metadata["image/png"]["alt"]
    shown = nbformat.v4.new_output("display_data", bundle)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("panel", outputs=[shown])])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    write_page(tmp_path / "a.ipynb", tmp_path / "a.html")
    for html in (bundle["text/html"], (tmp_path / "a.html").read_text("utf-8")):
        blocks = Letters(html).blocks
        assert all(block in blocks for block in Letters(panel.text.value + panel.words.value).blocks)
        assert "now right" in html and "described below" in html
        assert f'src="data:image/png;base64,{b64encode(panel.picture.value).decode()}"' in html


def test_the_curve_has_its_mark_at_the_epoch(panels: dict[str, Panel]) -> None:
    for dataset, panel in panels.items():
        panel.set(epoch=6)
        adaptation = laboratory.adapt_client(dataset, panel.controls["client"].value)
        mean, client, mark = next(axes for axes in panel.figure.axes if axes.get_xlabel()).lines
        np.testing.assert_allclose(client.get_ydata(), adaptation.accuracies)
        np.testing.assert_allclose(mark.get_xydata(), [[6, adaptation.accuracies[6]]])
        table = laboratory.held_out_study(dataset).table.summary()
        np.testing.assert_allclose(mean.get_ydata(), 100 * table.test_accuracy_by_client)
        assert mean.get_linestyle() == "--" and to_rgb(mean.get_color()) != to_rgb(client.get_color())


def test_moving_the_epoch_computes_nothing(panels: dict[str, Panel], monkeypatch: pytest.MonkeyPatch) -> None:
    for dataset, panel in panels.items():
        panel.set(client=laboratory.held_out_study(dataset).offered[0], epoch=0)
    for name in ("adapted", "personalize", "train"):
        monkeypatch.setattr(laboratory, name, None)
    monkeypatch.setattr(LocalTraining, "steps_of", None)
    for dataset, panel in panels.items():
        adaptation = laboratory.adapt_client(dataset, panel.controls["client"].value)
        for epoch in range(laboratory.EPOCHS + 1):
            panel.controls["epoch"].value = epoch
            assert f"{adaptation.right[epoch].sum()} of {len(adaptation.truth)} " in panel.words.value


def test_marks_of_another_role_do_not_stay(panels: dict[str, Panel]) -> None:
    first, second = laboratory.held_out_study("shakespeare").offered[:2]
    panels["shakespeare"].set(client=first, epoch=5)
    panels["shakespeare"].set(client=second, epoch=2)
    fresh = laboratories.meet_a_client(dataset="shakespeare", client=second, epoch=2)
    for part in ("text", "words", "picture"):
        assert getattr(panels["shakespeare"], part).value == getattr(fresh, part).value
