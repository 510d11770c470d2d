from dataclasses import fields, replace

import numpy as np
import pytest

from fl_meta.data.encoding import CHARACTERS
from fl_meta.data.synthetic import handwriting, strokes
from fl_meta.data.synthetic.handwriting import (
    Knobs,
    Writer,
    draw_labels,
    draw_writer,
    render_writer,
    sample_writer,
)
from fl_meta.data.synthetic.strokes import HABITS

IDENTICAL = Knobs(style=0, label_skew=0, size_skew=0)


def draw_bent(shapes: np.ndarray, bend: np.ndarray, size: float, width: float) -> np.ndarray:
    """One image of a shape, bent, without the jitter of an example."""
    numbers = [np.array([value], dtype=np.float32) for value in (size, width)]
    return strokes.draw(shapes, bend[None], *numbers, np.zeros((1, 2), dtype=np.float32))[0]


def draw_class(who: Writer, character: str) -> np.ndarray:
    label = CHARACTERS.index(character)
    bent = np.concatenate([np.eye(2, dtype=np.float32), who.warp[label]]) @ who.affine[label]
    return draw_bent(who.shapes[[label]], bent, who.size[label], who.pen)


# A writer is a function of (seed, writer) ------------------------------------------------------------------


def test_far_writers_are_drawn_alone_and_negative_ones_never() -> None:
    images, labels = render_writer(99_999)
    assert len(images) == len(labels) == sample_writer(99_999, Knobs()).examples
    with pytest.raises(ValueError, match="writer=-1"):
        render_writer(-1)


@pytest.mark.parametrize("knobs", [Knobs(), Knobs(seed=3, style=2, label_skew=0.5, size_skew=2)])
def test_labels_alone_and_ink_in_bytes_are_those_of_the_rendered_writer(knobs: Knobs) -> None:
    images, labels = render_writer(7, knobs)
    ink, its_labels = draw_writer(7, knobs)
    assert np.array_equal(draw_labels(7, knobs), labels) and np.array_equal(its_labels, labels)
    assert ink.dtype == np.uint8 and np.array_equal(ink / np.float32(255), images)


def test_seeds_and_writers_give_different_hands() -> None:
    base = sample_writer(7, Knobs())
    for other in (sample_writer(8, Knobs()), sample_writer(7, Knobs(seed=1))):
        assert not np.array_equal(base.shapes, other.shapes)
        assert not np.array_equal(base.frequencies, other.frequencies)


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
    small = Knobs(style=1e-4, label_skew=1e-4, size_skew=1e-4)
    base, near = (sample_writer(5, knobs) for knobs in (IDENTICAL, small))
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
        image = draw_bent(bar, upright, 18, width)
        assert image[14, column] == pytest.approx(127.5, abs=3)
        assert (image[:, 13] > 100).sum() == pytest.approx(18, abs=2)


def test_a_slant_leans_to_the_right_and_keeps_the_area() -> None:
    matrix = handwriting._affine(np.float32(0.5), np.float32(0.3), np.float32(0.2))
    assert np.linalg.det(matrix) == pytest.approx(1, rel=1e-5)
    top = np.array([0.0, -1.0]) @ handwriting._affine(np.float32(0.5), np.float32(0), np.float32(0))
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
    first, second = (
        np.stack([draw_class(who, character) for who in crowd]).reshape(60, -1) / 255 for character in pair
    )
    # For some two writers, one's first class is nearer to the other's second class than to the other's first.
    to_second, to_first = (((first[:, None] - other) ** 2).sum(axis=2) for other in (second, first))
    assert (to_second < 0.5 * to_first).any()


def test_without_style_the_same_ink_means_the_same_class() -> None:
    who = sample_writer(0, IDENTICAL)
    drawn = np.stack([draw_class(who, character) for character in CHARACTERS]).reshape(62, -1) / 255
    distance = ((drawn[:, None] - drawn[None]) ** 2).sum(axis=2) + 1e9 * np.eye(62)
    assert distance.min() > 1


def test_one_writer_tells_his_own_classes_apart() -> None:
    # The nearest example of a writer's own names most of his others; that of the next writer names far fewer.
    knobs = Knobs(label_skew=0, size_skew=0, mean_examples=400)
    drawn = [(x.reshape(400, -1), y) for x, y in (render_writer(writer, knobs) for writer in range(4))]
    own, others = [], []
    for i, (images, labels) in enumerate(drawn):
        for scores, (known, names) in ((own, drawn[i]), (others, drawn[(i + 1) % 4])):
            nearest = (-2 * images[200:] @ known[:200].T + (known[:200] ** 2).sum(axis=1)).argmin(axis=1)
            scores.append((names[nearest] == labels[200:]).mean())
    assert np.mean(own) > np.mean(others) + 0.2
