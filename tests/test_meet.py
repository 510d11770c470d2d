"""What the panel of a client shows is what the library computes, for every client and epoch."""

from html import unescape

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from fl_meta import load_dataset, personalize
from fl_meta.data.encoding import BLANK, VOCABULARY, decode
from fl_meta.engines.local_training import LocalTraining
from fl_meta.laboratories import client as meet
from fl_meta.laboratories import panels as widgets
from fl_meta.laboratories.client_picture import GlyphPicture, LinePicture, _laid_out
from fl_meta.laboratories.panel import Panel
from fl_meta.support.random_streams import random_stream

DATASETS = tuple(meet.RECIPES)


@pytest.fixture(scope="module")
def panels() -> dict[str, Panel]:
    return {name: widgets.meet_a_client(dataset=name) for name in DATASETS}


@pytest.mark.parametrize("dataset", DATASETS)
def test_accuracies_are_those_of_personalize_at_every_epoch(dataset: str) -> None:
    people, recipe = meet.held_out_study(dataset), meet.RECIPES[dataset]
    some = people.offered[::6]
    table = personalize(
        people.adaptation.model,
        people.adaptation.params,
        people.adaptation.data.subset(some),
        epochs=meet.EPOCHS,
        client=recipe.adaptation,
        batch_size=recipe.stage.algorithm.batch_size,
        seed=meet.SEED,
        engine="loop",
    ).accuracies()
    for client in some:
        found = meet.meet(dataset, client).accuracies
        np.testing.assert_allclose(found, 100 * table.loc[client], rtol=1e-12)
        # The stacked engine, whose mean is drawn, may round a tie to the other side.
        np.testing.assert_allclose(found, 100 * people.table.accuracies().loc[client], atol=3.5)


@pytest.mark.parametrize("dataset", DATASETS)
def test_training_has_not_seen_who_is_met(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor another client of the same name, such as Falstaff of the other play."""
    seen = []

    def train(model, data, stages, **options):  # type: ignore[no-untyped-def]
        seen.extend(data.client_ids)
        raise InterruptedError

    monkeypatch.setattr(meet, "train", train)
    with pytest.raises(InterruptedError):
        meet.held_out_study.__wrapped__(dataset)
    names = {client.split("/")[-1] for client in seen}
    assert len(names) > 50
    assert names.isdisjoint(c.split("/")[-1] for c in meet.held_out_study(dataset).adaptation.data.client_ids)


@pytest.mark.parametrize("dataset", DATASETS)
def test_those_with_most_test_examples_are_offered(dataset: str) -> None:
    people = meet.held_out_study(dataset)
    data = people.adaptation.data
    counts = [len(data[client].test_x) for client in people.offered]
    others = [len(data[client].test_x) for client in data.client_ids if client not in people.offered]
    assert len(set(people.offered)) == len(counts) == 12
    assert counts == sorted(counts, reverse=True) and counts[-1] >= max(others, default=0)
    assert set(people.table.rows.client_id) == set(data.client_ids)


def counted(panel: Panel) -> tuple[int, int]:
    """How many the words call now right, and now wrong."""
    right, wrong = (
        unescape(panel.words.value).partition("<b>")[2].partition("<b>")[2].split("</b>")[0].split(", ")
    )
    return int(right.removesuffix(" ✔ now right")), int(wrong.removesuffix(" ✘ now wrong"))


@pytest.mark.parametrize("dataset", DATASETS)
def test_words_count_what_flipped(panels: dict[str, Panel], dataset: str) -> None:
    panel = panels[dataset]
    falls = 0
    for client in meet.held_out_study(dataset).offered[:3]:
        meeting = meet.meet(dataset, client)
        for epoch in (0, 1, 10):
            panel.set(client=client, epoch=epoch)
            right, wrong = counted(panel)
            was, now = (round(meeting.accuracies[e] / 100 * len(meeting.truth)) for e in (0, epoch))
            assert now - was == right - wrong
            assert f"{now} of {len(meeting.truth)} " in panel.words.value
            assert (right, wrong) == (0, 0) or epoch
            falls += now < was
    assert "shakespeare" not in dataset or falls  # a client whose accuracy falls is shown as well


def test_glyphs_are_marked_by_what_the_models_read(panels: dict[str, Panel]) -> None:
    panel, people = panels["writers"], meet.held_out_study("writers")
    names = people.adaptation.data.class_names
    for client in people.offered:
        panel.set(client=client, epoch=4)
        meeting = meet.meet("writers", client)
        axes = panel.figure.axes[0]
        captions = [text.get_text() for text in axes.texts if text.get_text()]
        with torch.no_grad():
            x = torch.from_numpy(meeting.client.test_x)
            before, now = (
                people.adaptation.model.apply(meeting.params[epoch], x).argmax(-1) for epoch in (0, 4)
            )
        expected, kinds = [], {"misread": 0, "now right": 0, "now wrong": 0}
        for true, first, last in sorted(
            zip(meeting.client.test_y, before, now, strict=True), key=lambda t: t[0]
        ):
            text = names[true] if last == true else f"{names[true]}→{names[last]}"
            flip = {(False, True): "✔ ", (True, False): "✘ "}.get(
                (bool(first == true), bool(last == true)), ""
            )
            expected.append(flip + text)
            kinds["misread"] += bool(first != true and last != true)
            kinds["now right"] += flip == "✔ "
            kinds["now wrong"] += flip == "✘ "
        assert captions == expected
        # A frame is five corners and a gap.
        assert [len(line.get_xdata()) / 6 for line in axes.lines] == list(kinds.values())


def test_every_glyph_lies_in_its_own_place() -> None:
    client = meet.held_out_study("writers").offered[0]
    figure, _ = GlyphPicture().show(client, 0)
    axes = figure.axes[0]
    sheet = np.asarray(axes.images[0].get_array())
    meeting = meet.meet("writers", client)
    assert sheet.sum() == pytest.approx(meeting.client.test_x.sum(), rel=1e-5)
    texts = [text for text in axes.texts if text.get_text()]
    for text, i in zip(texts, np.argsort(meeting.truth, kind="stable"), strict=True):
        x, y = text.get_position()
        cell = sheet[int(y) - 36 : int(y) + 8, int(x) - 17 : int(x) + 17]
        assert cell.sum() == pytest.approx(meeting.client.test_x[i].sum(), rel=1e-5)


def test_lines_are_the_unseen_ones_with_wrong_guesses_underlined(panels: dict[str, Panel]) -> None:
    panel, role = panels["shakespeare"], meet.held_out_study("shakespeare").offered[1]
    panel.set(client=role, epoch=3)
    page = panel.figure.axes[0]
    shown = "".join(text.get_text() for text in page.texts)
    unseen = decode(load_dataset("shakespeare")[role].test_y)
    assert len(shown) > 200 and unseen.replace("\n", "↵").startswith(shown)
    meeting = meet.meet("shakespeare", role)
    wrong, *flips = page.lines
    starts = wrong.get_xydata()[::3]
    rows = [text.get_text() for text in page.texts]
    underlined = {(int(column), int(row)) for column, row in starts}
    letters = [(column, row) for row, line in enumerate(rows) for column in range(len(line))]
    assert [place not in underlined for place in letters] == meeting.right[3][: len(shown)].tolist()
    framed = [{tuple(np.floor(corner).astype(int)) for corner in line.get_xydata()[::6]} for line in flips]
    assert framed[0].isdisjoint(underlined) and framed[1] <= underlined
    changed = (meeting.right[0] != meeting.right[3])[: len(shown)].sum()
    assert len(framed[0]) + len(framed[1]) == changed > 0


def test_both_texts_are_the_models_own(panels: dict[str, Panel]) -> None:
    """The same by a plain loop over characters, for one model at a time."""
    role = meet.held_out_study("shakespeare").offered[2]
    meeting, model = meet.meet("shakespeare", role), meet.held_out_study("shakespeare").adaptation.model
    written = meet.write_on(role)
    for epoch in (0, 7):
        codes = [BLANK] * 8 + [VOCABULARY.index(letter) for letter in meet.first_line(meeting) + "\n"]
        start = len(codes)
        for draw in random_stream(meet.SEED, "sample of text").random(60):
            with torch.no_grad():
                logits = model.apply(meeting.params[epoch], torch.tensor([codes]))[0, -1].double().numpy()
            chances = np.exp((logits - logits.max()) / 0.8)
            codes.append(int(np.searchsorted(chances.cumsum(), draw * chances.sum(), side="right")))
        assert written[epoch].startswith(decode(codes[start:]))
    panel = panels["shakespeare"]
    panel.set(client=role, epoch=7)
    for axes, epoch in zip(panel.figure.axes[1:3], (0, 7), strict=True):
        text = "".join(text.get_text() for text in axes.texts)
        assert len(text) > 100 and written[epoch].replace("\n", "↵").startswith(text)
    panel.set(epoch=0)
    first, second = ([text.get_text() for text in axes.texts] for axes in panel.figure.axes[1:3])
    assert first == second


def test_the_course_has_its_mark_at_the_epoch(panels: dict[str, Panel]) -> None:
    for dataset, panel in panels.items():
        panel.set(epoch=6)
        meeting = meet.meet(dataset, panel.controls["client"].value)
        mean, client, mark = next(axes for axes in panel.figure.axes if axes.get_xlabel()).lines
        np.testing.assert_allclose(client.get_ydata(), meeting.accuracies)
        np.testing.assert_allclose(mark.get_xydata(), [[6, meeting.accuracies[6]]])
        table = meet.held_out_study(dataset).table.summary()
        np.testing.assert_allclose(mean.get_ydata(), 100 * table.test_accuracy_by_client)
        assert mean.get_linestyle() == "--" and to_rgb(mean.get_color()) != to_rgb(client.get_color())


def test_moving_the_epoch_computes_nothing(panels: dict[str, Panel], monkeypatch: pytest.MonkeyPatch) -> None:
    for dataset, panel in panels.items():
        panel.set(client=meet.held_out_study(dataset).offered[0], epoch=0)
    for name in ("adapted", "personalize", "train"):
        monkeypatch.setattr(meet, name, None)
    monkeypatch.setattr(LocalTraining, "steps_of", None)
    for dataset, panel in panels.items():
        meeting = meet.meet(dataset, panel.controls["client"].value)
        for epoch in range(meet.EPOCHS + 1):
            panel.controls["epoch"].value = epoch
            assert f"{meeting.right[epoch].sum()} of {len(meeting.truth)} " in panel.words.value


def test_text_is_laid_out_letter_by_letter() -> None:
    lines, places = _laid_out("ab\nlonger\n\nx", 4)
    assert lines == ["ab↵", "long", "er↵", "↵", "x"]
    assert ["".join(lines[row][column] for column, row in places)] == ["ab↵longer↵↵x"]
    assert _laid_out("", 4)[0] == [""]


def test_marks_of_another_role_do_not_stay() -> None:
    first, second = meet.held_out_study("shakespeare").offered[:2]
    used, fresh = LinePicture(), LinePicture()
    used.show(first, 5)
    one, words = used.show(second, 2)
    other, same_words = fresh.show(second, 2)
    assert words == same_words
    for axes, same in zip(one.axes, other.axes, strict=True):
        assert [text.get_text() for text in axes.texts] == [text.get_text() for text in same.texts]
        for line, same_line in zip(axes.lines, same.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), same_line.get_xydata())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "emnist"}, "data set: 'emnist' is unknown; choose one of 'writers', 'shakespeare'"),
        ({"client": "writer_99999"}, "writer: 'writer_99999' is unknown; choose one of 'writer_"),
        ({"dataset": "shakespeare", "client": ""}, "role: '' is unknown"),
        ({"epoch": 11}, "epochs of adaptation: 11 is out of bounds; choose a number from 0 to 10"),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        widgets.meet_a_client(**options)  # type: ignore[arg-type]
