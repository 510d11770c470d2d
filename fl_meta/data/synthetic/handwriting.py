"""Synthetic handwriting, one writer at a time, as a function of (seed, writer) and a few knobs.

Writers differ as real ones do: not only in slant and pen, but also in what a shape means. One writer's zero
is another's O; one draws the 1 as another draws the l, or the 7. Only their other examples can tell which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fl_meta.data.encoding import CHARACTERS, as_floats
from fl_meta.data.synthetic import strokes
from fl_meta.support.array_types import ByteArray, Float32Array, FloatArray, IntArray
from fl_meta.support.random_streams import random_stream

FEWEST_EXAMPLES = 10  # of any writer: enough for a train and a test part
CAPITAL_HEIGHT = 17.0  # pixels, of the average writer
PEN_WIDTH = 2.1  # pixels, of the average writer
WARP_TERMS = strokes.TERMS - 2
MOST_SKEW = 10.0  # the largest value of a knob; writers then have little in common
# How often each of `strokes.HANDS` is used: plain, script, formal script, roman, italic.
_HAND_SHARES = np.array([0.5, 0.26, 0.08, 0.08, 0.08])


@dataclass(frozen=True)
class Knobs:
    """What makes writers differ. With `style`, `label_skew` and `size_skew` at 0, all are identical in law.

    Every writer then has the same shapes, style, class frequencies and number of examples, while each example
    still has its own small jitter of slant, rotation, aspect, size, position, pen width and warp.

    Attributes:
        seed: seed of all draws.
        style: how far writers are from the average writer. It multiplies each writer's deviation in slant,
            rotation, aspect, size, pen width, warp (one for the hand and one for each character) and evenness
            (whether small letters are drawn as tall as capitals), until a deviation meets a limit that
            keeps it legible. It also multiplies three chances, until they are 1: that the writer leaves the
            common habit of a group of look-alikes (0.4; see `strokes.HABITS`), that they leave the plain
            hand (0.5), and that a character is in another hand than their usual one (0.25).
        label_skew: the logarithm of a class's frequency is this times a normal deviation of the writer: the
            sum of one for the class and one for its kind (digit, capital, small letter), each with standard
            deviation 0.6.
        size_skew: half of this is the standard deviation of the logarithm of a writer's number of examples.
        mean_examples: mean number of examples, before the limits of 10 and of 10 times this mean.
    """

    seed: int = 0
    style: float = 1.0
    label_skew: float = 1.0
    size_skew: float = 1.0
    mean_examples: int = 100

    def __post_init__(self) -> None:
        for name in ("style", "label_skew", "size_skew"):
            value = getattr(self, name)
            if not 0 <= value <= MOST_SKEW:
                raise ValueError(
                    f"{name}={value} is not in [0, {MOST_SKEW:g}]; with 0, writers do not differ in it"
                )
        if not FEWEST_EXAMPLES <= self.mean_examples < math.inf:
            raise ValueError(f"mean_examples={self.mean_examples} must be {FEWEST_EXAMPLES} or more")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must be 0 or more")


@dataclass(frozen=True, eq=False)
class Writer:
    """One writer, before any example is drawn.

    Attributes:
        shapes: the writer's shape of each class, a row of `strokes.glyphs()` [62].
        warp: coefficients of the smooth waves that bend each shape, in capital heights [62, WARP_TERMS, 2].
        affine: slant, rotation and aspect of each class, for row vectors (x, y) [62, 2, 2].
        size: pixels per capital height, for each class [62].
        pen: width of the pen in pixels.
        frequencies: probability of each class [62].
        examples: number of examples, train and test together.
    """

    shapes: IntArray
    warp: Float32Array
    affine: Float32Array
    size: Float32Array
    pen: float
    frequencies: FloatArray
    examples: int


def _affine(slant: Float32Array, rotation: Float32Array, log_aspect: Float32Array) -> Float32Array:
    """Matrices for row vectors (x, y), y down, areas kept: aspect, then slant, then rotation [..., 2, 2]."""
    wide, cosine, sine = np.exp(log_aspect / 2), np.cos(rotation), np.sin(rotation)
    lean = -slant / wide
    rows = [[wide * cosine, wide * sine], [lean * cosine - sine / wide, lean * sine + cosine / wide]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2).astype(np.float32)


def sample_writer(writer: int, knobs: Knobs) -> Writer:
    """The writer with this number, as a function of (seed, writer) and the knobs."""
    if writer < 0:
        raise ValueError(f"writer={writer} must be 0 or more")
    glyphs, classes = strokes.glyphs(), len(CHARACTERS)
    random = random_stream(knobs.seed, "writers: style", writer)

    def deviation(spread: float, limit: float, *shape: int) -> Float32Array:
        values = random.standard_normal(shape, dtype=np.float32)
        return (knobs.style * spread * values).clip(-limit, limit).astype(np.float32)

    leaves = random.random(len(glyphs.habits)) < 0.4 * knobs.style
    habit = (leaves * random.integers(0, glyphs.habits))[glyphs.group_of]
    other_hand = 1 + random.choice(len(_HAND_SHARES) - 1, p=_HAND_SHARES[1:] / _HAND_SHARES[1:].sum())
    usual = other_hand if random.random() < 0.5 * knobs.style else 0
    strays = random.random(classes) < 0.25 * knobs.style
    hand = np.where(strays, random.choice(len(_HAND_SHARES), classes, p=_HAND_SHARES), usual)
    shapes = glyphs.shape_of[np.arange(classes), habit, hand]

    slant = 0.06 + deviation(0.2, 0.7) + deviation(0.05, 0.2, classes)
    rotation = deviation(0.06, 0.3) + deviation(0.03, 0.2, classes)
    log_aspect = deviation(0.15, 0.5) + deviation(0.08, 0.3, classes)
    # Evenness 1 draws all characters to one height, 0 keeps small letters small.
    evenness = 0.4 + deviation(0.2, 0.4)
    log_size = deviation(0.1, 0.3) - evenness * np.log(glyphs.height[shapes])
    log_pen = deviation(0.2, 0.5)
    warp = deviation(0.02, 0.1, WARP_TERMS, 2) + deviation(0.02, 0.1, classes, WARP_TERMS, 2)
    frequencies, examples = _frequencies(writer, knobs)
    return Writer(
        shapes=shapes,
        warp=warp,
        affine=_affine(slant, rotation, log_aspect),
        size=(CAPITAL_HEIGHT * np.exp(log_size)).astype(np.float32),
        pen=PEN_WIDTH * math.exp(float(log_pen)),
        frequencies=frequencies,
        examples=examples,
    )


def _frequencies(writer: int, knobs: Knobs) -> tuple[FloatArray, int]:
    """The writer's probability of each class [62], and number of examples."""
    random = random_stream(knobs.seed, "writers: classes and number of examples", writer)
    kind = np.repeat([0, 1, 2], [10, 26, 26])
    normal = random.standard_normal(len(CHARACTERS)) + random.standard_normal(3)[kind]
    log_share = knobs.label_skew * 0.6 * normal
    shares = np.exp(log_share - log_share.max())
    spread = 0.5 * knobs.size_skew
    count = knobs.mean_examples * math.exp(spread * random.standard_normal() - spread**2 / 2)
    examples = round(min(max(count, FEWEST_EXAMPLES), 10 * knobs.mean_examples))
    return shares / shares.sum(), examples


def _labels(writer: int, knobs: Knobs) -> tuple[IntArray, np.random.Generator]:
    """The labels of the writer's examples, and the generator that then draws their images."""
    frequencies, examples = _frequencies(writer, knobs)
    random = random_stream(knobs.seed, "writers: examples", writer)
    return random.choice(len(CHARACTERS), examples, p=frequencies).astype(np.int64), random


def draw_labels(writer: int, knobs: Knobs) -> IntArray:
    """The labels of the writer's examples [examples], about thirty times faster than with their images."""
    return _labels(writer, knobs)[0]


def draw_writer(writer: int, knobs: Knobs) -> tuple[ByteArray, IntArray]:
    """As `render_writer`, but with images of bytes from 0 (paper) to 255 (ink), a quarter of the size."""
    who = sample_writer(writer, knobs)
    labels, random = _labels(writer, knobs)
    n = who.examples

    def jitter(spread: float, *shape: int) -> Float32Array:
        # No example strays beyond three standard deviations: none leaves the frame.
        values = random.standard_normal((n, *shape), dtype=np.float32)
        return np.float32(spread) * np.clip(values, -3, 3)

    bent = np.zeros((n, strokes.TERMS, 2), dtype=np.float32)
    bent[:, :2] = np.eye(2)
    bent[:, 2:] = who.warp[labels] + jitter(0.014, WARP_TERMS, 2)
    affine = who.affine[labels] @ _affine(jitter(0.07), jitter(0.05), jitter(0.07))
    images = strokes.draw(
        who.shapes[labels],
        (bent @ affine).astype(np.float32, copy=False),
        size=who.size[labels] * (1 + jitter(0.05)),
        pen=who.pen * (1 + jitter(0.06)),
        shift=jitter(0.4, 2),
    )
    return images, labels


def render_writer(writer: int, knobs: Knobs | None = None) -> tuple[Float32Array, IntArray]:
    """One writer's examples in random order: writer 7 is the same alone, among 10, and among 100,000.

    Images [examples, 28, 28] are float32 in steps of 1/255 from 0 (paper) to 1 (ink); labels [examples] are
    int64, positions in `CHARACTERS`.
    """
    images, labels = draw_writer(writer, knobs or Knobs())
    return as_floats(images), labels
