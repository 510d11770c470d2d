import hashlib
import subprocess
import sys
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from fl_meta.data import strokes, writers
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.strokes import CHARACTERS, HABITS
from fl_meta.data.writers import Knobs, Writer, load_writers, render_writer, sample_writer
from fl_meta.plots import glyph_sheet

IDENTICAL = Knobs(style=0, label_skew=0, size_skew=0)


def same_client(one: FederatedDataset, other: FederatedDataset, client_id: str) -> bool:
    parts = ("train_x", "train_y", "test_x", "test_y")
    return all(
        np.array_equal(getattr(one[client_id], part), getattr(other[client_id], part)) for part in parts
    )


def draw_class(who: Writer, character: str) -> np.ndarray:
    """The writer's shape of a character, without the jitter of an example."""
    label = CHARACTERS.index(character)
    bent = np.concatenate([np.eye(2, dtype=np.float32), who.warp[label]]) @ who.affine[label]
    pen, shift = np.array([who.pen], dtype=np.float32), np.zeros((1, 2), dtype=np.float32)
    return strokes.draw(who.shapes[[label]], bent[None], who.size[[label]], pen, shift)[0]


# A writer is a function of (seed, writer) ------------------------------------------------------------------


def test_a_writer_is_the_same_in_any_set_and_order() -> None:
    few = load_writers(10, cache=False, mean_examples=30)
    many = load_writers(50, cache=False, mean_examples=30)
    assert few.client_ids == many.client_ids[:10]
    assert all(same_client(few, many, client_id) for client_id in few.client_ids)

    knobs = Knobs(mean_examples=30)
    backwards = {writer: render_writer(writer, knobs) for writer in (9, 7)}
    for writer, (images, labels) in backwards.items():
        client = few[f"writer_{writer:05d}"]
        assert np.array_equal(images, np.concatenate([client.train_x, client.test_x]))
        assert np.array_equal(labels, np.concatenate([client.train_y, client.test_y]))


def test_far_writers_are_drawn_on_demand() -> None:
    images, labels = render_writer(99_999)
    assert len(images) == len(labels) == sample_writer(99_999, Knobs()).examples


def test_seeds_and_writers_give_different_hands() -> None:
    base = sample_writer(7, Knobs())
    for other in (sample_writer(8, Knobs()), sample_writer(7, Knobs(seed=1))):
        assert not np.array_equal(base.shapes, other.shapes)
        assert not np.array_equal(base.frequencies, other.frequencies)


def test_another_process_draws_the_same_bytes() -> None:
    code = (
        "import hashlib; from fl_meta.data.writers import render_writer; images, labels = render_writer(3); "
        "print(hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    images, labels = render_writer(3)
    assert there.stdout.strip() == hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def test_the_split_does_not_change_the_examples() -> None:
    one = load_writers(4, cache=False, test_fraction=0.2)
    other = load_writers(4, cache=False, test_fraction=0.5)
    none = load_writers(4, cache=False, test_fraction=0)
    assert np.array_equal(one.x, other.x) and np.array_equal(one.y, none.y)
    assert (none.test_counts == 0).all()
    assert np.allclose(other.test_counts, other.counts / 2, atol=0.5)
    assert (one.test_counts >= 1).all() and (one.train_counts >= 1).all()


# Knobs -----------------------------------------------------------------------------------------------------


def test_knobs_at_zero_make_writers_identical_in_law() -> None:
    first = sample_writer(0, IDENTICAL)
    for writer in range(1, 8):
        other = sample_writer(writer, IDENTICAL)
        for field in fields(Writer):
            assert np.array_equal(getattr(first, field.name), getattr(other, field.name)), field.name
    assert (first.frequencies == 1 / 62).all()
    assert first.examples == 100
    # But no two of their examples are the same.
    assert not np.array_equal(render_writer(0, IDENTICAL)[0], render_writer(1, IDENTICAL)[0])


@pytest.mark.parametrize(
    ("knob", "concerns"),
    [
        ("style", {"shapes", "warp", "affine", "size", "pen"}),
        ("label_skew", {"frequencies"}),
        ("size_skew", {"examples"}),
    ],
)
def test_each_knob_moves_its_own_part_alone(knob: str, concerns: set[str]) -> None:
    base = sample_writer(5, IDENTICAL)
    moved = sample_writer(5, replace(IDENTICAL, **{knob: 1.0}))
    changed = {
        f.name for f in fields(Writer) if not np.array_equal(getattr(base, f.name), getattr(moved, f.name))
    }
    assert changed == concerns


def test_a_small_knob_is_a_small_change() -> None:
    base, near = (
        sample_writer(5, IDENTICAL),
        sample_writer(5, Knobs(style=1e-4, label_skew=1e-4, size_skew=1e-4)),
    )
    for field in fields(Writer):
        expected = getattr(base, field.name)
        assert np.allclose(getattr(near, field.name), expected, rtol=1e-3, atol=1e-3), field.name


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0, 2.0])
def test_numbers_of_examples_are_log_normal(skew: float) -> None:
    knobs = Knobs(size_skew=skew, mean_examples=1000)
    logs = np.log([sample_writer(writer, knobs).examples / 1000 for writer in range(300)])
    # The mean of 300 logarithms has a standard error of spread / √300; 4 of them.
    spread = 0.5 * skew
    assert abs(logs.mean() + spread**2 / 2) <= 4 * spread / np.sqrt(300) + 1e-3
    assert logs.std() == pytest.approx(spread, rel=0.25, abs=1e-3)


def test_numbers_of_examples_stay_within_their_limits() -> None:
    knobs = Knobs(size_skew=6, mean_examples=20)
    counts = [sample_writer(writer, knobs).examples for writer in range(100)]
    assert min(counts) == 10 and max(counts) <= 200


def test_labels_follow_the_writers_own_frequencies() -> None:
    knobs = Knobs(mean_examples=4000, size_skew=0, label_skew=1)
    _, labels = render_writer(2, knobs)
    expected = 4000 * sample_writer(2, knobs).frequencies
    observed = np.bincount(labels, minlength=62)
    # Pearson's statistic has mean 61 and standard deviation √122 ≈ 11.
    assert ((observed - expected) ** 2 / expected).sum() < 61 + 5 * 11
    assert expected.max() / expected.min() > 5


# Images ----------------------------------------------------------------------------------------------------


def test_images_are_ink_on_paper_inside_the_frame() -> None:
    data = load_writers(20, cache=False)
    assert data.x.dtype == np.float32 and data.x.shape[1:] == (28, 28) and data.y.dtype == np.int64
    assert data.x.min() == 0 and data.x.max() == 1
    assert np.array_equal(np.rint(data.x * 255) / np.float32(255), data.x)
    share = data.x.mean(axis=(1, 2))
    assert share.min() > 0.01 and share.max() < 0.5
    border = np.ones((28, 28), dtype=bool)
    border[1:-1, 1:-1] = False
    assert data.x[:, border].mean() < 0.01 * data.x[:, ~border].mean()
    assert data.x[:, border].max(axis=1).mean() < 0.1


@pytest.mark.parametrize("style", [0.0, 1.0, 4.0])
def test_every_class_can_be_drawn(style: float) -> None:
    knobs = Knobs(style=style, label_skew=0, size_skew=0, mean_examples=1500)
    images, labels = render_writer(1, knobs)
    assert set(labels) == set(range(62))
    assert images.max(axis=(1, 2)).min() > 0.5


def test_a_straight_stroke_is_as_wide_as_the_pen() -> None:
    # A vertical bar between the columns 13 and 14: at half the pen's width from its middle the ink is half.
    upright = np.concatenate([np.eye(2), np.zeros((strokes.TERMS - 2, 2))]).astype(np.float32)
    bar = strokes.glyphs().shape_of[CHARACTERS.index("l"), :1, 0]
    for width, column in ((1, 13), (3, 12), (5, 11)):
        image = strokes.draw(
            bar,
            upright[None],
            np.array([18], dtype=np.float32),
            np.array([width], dtype=np.float32),
            np.zeros((1, 2), dtype=np.float32),
        )[0]
        assert image[14, column] == pytest.approx(127.5, abs=3)
        assert (image[:, 13] > 100).sum() == pytest.approx(18, abs=2)


def test_a_slant_leans_to_the_right_and_keeps_the_area() -> None:
    matrix = writers._affine(np.float32(0.5), np.float32(0.3), np.float32(0.2))
    assert np.linalg.det(matrix) == pytest.approx(1, rel=1e-5)
    top = np.array([0.0, -1.0]) @ writers._affine(np.float32(0.5), np.float32(0), np.float32(0))
    assert top == pytest.approx([0.5, -1.0])


# What the same ink means -----------------------------------------------------------------------------------


def test_habits_name_a_shape_for_every_class_and_classes_once() -> None:
    grouped = "".join(HABITS)
    assert len(set(grouped)) == len(grouped) and set(grouped) <= set(CHARACTERS)
    for group, habits in HABITS.items():
        for habit in habits:
            shapes = habit.split()
            assert len(shapes) == len(set(shapes)) == len(group), habit


@pytest.mark.parametrize("pair", ["0O", "1l", "17", "2Z", "5S", "6b", "9q", "Ss", "Cc", "UV"])
def test_the_same_ink_means_different_classes_for_different_writers(pair: str) -> None:
    crowd = [sample_writer(writer, Knobs()) for writer in range(60)]
    first = np.stack([draw_class(who, pair[0]) for who in crowd]).reshape(60, -1) / 255
    second = np.stack([draw_class(who, pair[1]) for who in crowd]).reshape(60, -1) / 255
    # For some two writers, one's first class is nearer to the other's second class than to the other's first.
    to_second = ((first[:, None] - second[None]) ** 2).sum(axis=2)
    to_first = ((first[:, None] - first[None]) ** 2).sum(axis=2)
    assert (to_second < 0.5 * to_first).any()


def test_without_style_the_same_ink_means_the_same_class() -> None:
    who = sample_writer(0, IDENTICAL)
    drawn = np.stack([draw_class(who, character) for character in CHARACTERS]).reshape(62, -1) / 255
    distance = ((drawn[:, None] - drawn[None]) ** 2).sum(axis=2) + 1e9 * np.eye(62)
    assert distance.min() > 1


def test_one_writer_tells_his_own_classes_apart() -> None:
    # The nearest example of a writer's own names most of his others; that of the next writer names far fewer.
    knobs = Knobs(label_skew=0, size_skew=0, mean_examples=400)
    own, others = [], []
    drawn = [render_writer(writer, knobs) for writer in range(4)]
    for i, (images, labels) in enumerate(drawn):
        flat, asked = images.reshape(400, -1), images[200:].reshape(200, -1)
        strangers, their_labels = drawn[(i + 1) % 4]
        for known, names, scores in (
            (flat[:200], labels[:200], own),
            (strangers[:200].reshape(200, -1), their_labels[:200], others),
        ):
            nearest = (-2 * asked @ known.T + (known**2).sum(axis=1)).argmin(axis=1)
            scores.append((names[nearest] == labels[200:]).mean())
    assert np.mean(own) > np.mean(others) + 0.2


# The data set and its cache --------------------------------------------------------------------------------


def test_it_says_that_it_is_synthetic() -> None:
    data = load_writers(3, cache=False, seed=4, style=0.5)
    assert data.synthetic and data.label == "writers (synthetic)"
    assert "writers (synthetic)" in repr(data) and "(synthetic)" in data._repr_html_()
    assert "generated" in data.source and "seed=4" in data.source and "style=0.5" in data.source
    assert data.client_ids == ("writer_00000", "writer_00001", "writer_00002")
    assert "".join(data.class_names) == CHARACTERS and data.num_classes == 62


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_writers": 0}, "num_writers=0"),
        ({"style": -0.1}, r"style=-0.1 is not in \[0, 10\]"),
        ({"style": float("nan")}, "style=nan"),
        ({"label_skew": -1}, "label_skew=-1"),
        ({"label_skew": float("inf")}, "label_skew=inf"),
        ({"size_skew": float("nan")}, "size_skew=nan"),
        ({"mean_examples": 9}, "mean_examples=9 must be 10 or more"),
        ({"mean_examples": float("nan")}, "mean_examples=nan"),
        ({"test_fraction": 1.0}, r"test_fraction=1.0 is not in \[0, 1\)"),
        ({"test_fraction": float("nan")}, "test_fraction=nan"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_writers(**({"num_writers": 2, "cache": False} | options))


def test_a_negative_writer_is_refused() -> None:
    with pytest.raises(ValueError, match="writer=-1"):
        render_writer(-1)


def test_the_cache_gives_the_same_data(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FL_META_CACHE", str(tmp_path / "new folder"))
    drawn = load_writers(5, mean_examples=20)
    (file,) = (tmp_path / "new folder").iterdir()
    monkeypatch.setattr(writers, "_draw_all", lambda *_: pytest.fail("drawn although cached"))
    cached = load_writers(5, mean_examples=20)
    assert cached.fingerprint == drawn.fingerprint and cached.x.dtype == np.float32
    # The split is made after reading: no second file.
    load_writers(5, mean_examples=20, test_fraction=0.5)
    assert list((tmp_path / "new folder").iterdir()) == [file]


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("FL_META_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_writers(2, mean_examples=10)
    assert len(list((tmp_path / "fl_meta").iterdir())) == 1


def test_every_argument_and_the_code_are_in_the_name(tmp_path, monkeypatch) -> None:
    def name(count: int = 2, **options: float) -> str:
        return writers._cache_file(count, Knobs(**options), tmp_path).name

    options = [{"seed": 1}, {"style": 0.9}, {"label_skew": 0.9}, {"size_skew": 0.9}, {"mean_examples": 99}]
    names = {name(), name(3), *(name(**option) for option in options)}
    assert len(names) == 7
    monkeypatch.setattr(writers.inspect, "getsource", lambda module: "another generator")
    assert name() not in names


@pytest.mark.parametrize("harm", ["cut", "garbage", "flipped", "empty", "other arrays"])
def test_a_damaged_cache_is_made_again(harm: str, tmp_path) -> None:
    good = load_writers(3, mean_examples=20, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    middle = len(content) // 2
    damaged = {
        "cut": content[:middle],
        "garbage": b"no archive at all",
        "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
        "empty": b"",
    }
    if harm == "other arrays":
        np.savez(file, images=np.zeros((2, 28, 28), np.uint8), labels=np.zeros(2, int), counts=np.array([2]))
    else:
        file.write_bytes(damaged[harm])
    with pytest.warns(UserWarning, match="made again"):
        again = load_writers(3, mean_examples=20, cache=tmp_path)
    assert again.fingerprint == good.fingerprint
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_writers(3, mean_examples=20, cache=tmp_path).fingerprint == good.fingerprint


def test_an_unwritable_cache_only_warns(tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="not cached"):
        data = load_writers(2, mean_examples=20, cache=tmp_path / "file" / "cache")
    assert data.fingerprint == load_writers(2, mean_examples=20, cache=False).fingerprint


# The sheet -------------------------------------------------------------------------------------------------


def drawn_sheet(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_the_sheet_shows_one_example_per_cell_and_says_synthetic(tmp_path) -> None:
    data = load_writers(4, cache=False, label_skew=0, mean_examples=300)
    figure = glyph_sheet(data, ["writer_00002", "writer_00000"], "0Oo")
    axes = figure.axes[0]
    assert "(synthetic)" in axes.get_title()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "O", "o"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["writer_00002", "writer_00000"]
    client = data["writer_00002"]
    candidates = np.concatenate([client.train_x, client.test_x])[
        np.concatenate([client.train_y, client.test_y]) == CHARACTERS.index("O")
    ]
    cell = drawn_sheet(figure)[:28, 30:58]
    assert any(np.allclose(cell, candidate) for candidate in candidates)
    figure.savefig(tmp_path / "sheet.png")


def test_the_sheet_leaves_a_blank_where_there_is_no_example() -> None:
    x = np.ones((4, 28, 28, 1), dtype=np.float32)
    data = FederatedDataset.from_arrays(x, [0, 0, 1, 1], ["ann", "ann", "bob", "bob"], class_names="ab")
    sheet = drawn_sheet(glyph_sheet(data, characters="ab"))
    assert [sheet[0, 0], sheet[0, 30], sheet[30, 0], sheet[30, 30]] == [1, 0, 0, 1]


def test_the_sheet_refuses_what_it_cannot_draw() -> None:
    data = load_writers(2, cache=False)
    with pytest.raises(ValueError, match="no class named 'é'"):
        glyph_sheet(data, characters="é")
    with pytest.raises(ValueError, match="must not be empty"):
        glyph_sheet(data, client_ids=[])
    with pytest.raises(KeyError, match="nobody"):
        glyph_sheet(data, client_ids=["nobody"])
    coloured = FederatedDataset.from_arrays(np.zeros((2, 8, 8, 3)), [0, 0], ["a", "a"], class_names="c")
    with pytest.raises(ValueError, match="8×8×3"):
        glyph_sheet(coloured, characters="c")
