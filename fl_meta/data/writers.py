"""Synthetic handwriting by any number of writers: the data set that needs no download.

Writers differ as real ones do: not only in slant and pen, but in what their ink means. One writer's zero is
another's O; one draws the 1 as another draws the l, or the 7. Only his other examples can tell which.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import sys
import warnings
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_meta import streams
from fl_meta.data import strokes
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.strokes import CHARACTERS, FloatArray, IntArray
from fl_meta.files import write_atomically
from fl_meta.streams import stream

FEWEST_EXAMPLES = 10  # of any writer: enough for a train and a test part
CAPITAL_HEIGHT = 17.0  # pixels, of the average writer
PEN_WIDTH = 2.1  # pixels, of the average writer
WARP_TERMS = strokes.TERMS - 2
MOST_SKEW = 10.0  # of a knob: by then writers have little in common
# How often each of `strokes.HANDS` is used: plain, script, formal script, roman, italic.
_HAND_SHARES = np.array([0.5, 0.26, 0.08, 0.08, 0.08])


@dataclass(frozen=True)
class Knobs:
    """What makes writers differ. With `style`, `label_skew` and `size_skew` at 0, all are identical in law.

    Identical in law: every writer then has the same shapes, style, class frequencies and number of examples,
    while each drawn example keeps its own small jitter of slant, rotation, aspect, size, place, pen and warp.

    Attributes:
        seed: of everything.
        style: how far writers are from the average writer. It multiplies each writer's deviation in slant,
            rotation, aspect, size, pen width, warp (one for the hand and one for each character) and evenness
            (whether small letters are drawn as tall as capitals), until a deviation meets a limit that
            keeps it legible. It also multiplies three chances, until they are 1: that the writer leaves the
            common habit of a group of look-alikes (0.4; see `strokes.HABITS`), that he leaves the plain hand
            (0.5), and that one character is in another hand than his usual one (0.25).
        label_skew: the logarithm of a class's frequency is this times a normal deviation of the writer: the
            sum of one for the class and one for its kind (digit, capital, small letter), each with standard
            deviation 0.6.
        size_skew: half of this is the standard deviation of the logarithm of a writer's number of examples.
        mean_examples: mean number of examples, before the limits of 10 and of 10 times this mean.

    Raises:
        ValueError: for one of the three knobs outside [0, 10], `mean_examples` below 10, or a negative seed.
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
                    f"{name}={value} is not in [0, {MOST_SKEW:g}]; 0 makes writers identical in it"
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
        frequencies: chance of each class [62].
        examples: number of examples, train and test together.
    """

    shapes: IntArray
    warp: FloatArray
    affine: FloatArray
    size: FloatArray
    pen: float
    frequencies: NDArray[np.float64]
    examples: int


def _affine(slant: FloatArray, rotation: FloatArray, log_aspect: FloatArray) -> FloatArray:
    """Matrices for row vectors (x, y), y down, areas kept: aspect, then slant, then rotation [..., 2, 2]."""
    wide, cosine, sine = np.exp(log_aspect / 2), np.cos(rotation), np.sin(rotation)
    lean = -slant / wide
    rows = [[wide * cosine, wide * sine], [lean * cosine - sine / wide, lean * sine + cosine / wide]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2).astype(np.float32)


def sample_writer(writer: int, knobs: Knobs) -> Writer:
    """The writer of this number: a function of (seed, writer) and the knobs, of no other writer.

    Raises:
        ValueError: if `writer` is negative.
    """
    if writer < 0:
        raise ValueError(f"writer={writer} must be 0 or more")
    glyphs, classes = strokes.glyphs(), len(CHARACTERS)
    random = stream(knobs.seed, "writers: style", writer)

    def deviation(spread: float, limit: float, *shape: int) -> FloatArray:
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

    random = stream(knobs.seed, "writers: classes and number of examples", writer)
    kind = np.repeat([0, 1, 2], [10, 26, 26])
    log_share = knobs.label_skew * 0.6 * (random.standard_normal(classes) + random.standard_normal(3)[kind])
    shares = np.exp(log_share - log_share.max())
    spread = 0.5 * knobs.size_skew
    count = knobs.mean_examples * math.exp(spread * random.standard_normal() - spread**2 / 2)
    return Writer(
        shapes=shapes,
        warp=warp,
        affine=_affine(slant, rotation, log_aspect),
        size=(CAPITAL_HEIGHT * np.exp(log_size)).astype(np.float32),
        pen=PEN_WIDTH * math.exp(float(log_pen)),
        frequencies=shares / shares.sum(),
        examples=round(min(max(count, FEWEST_EXAMPLES), 10 * knobs.mean_examples)),
    )


def _render(writer: int, knobs: Knobs) -> tuple[NDArray[np.uint8], IntArray]:
    who = sample_writer(writer, knobs)
    random = stream(knobs.seed, "writers: examples", writer)
    n = who.examples
    labels = random.choice(len(CHARACTERS), n, p=who.frequencies)

    def jitter(spread: float, *shape: int) -> FloatArray:
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
    return images, labels.astype(np.int64)


def _as_floats(images: NDArray[np.uint8]) -> FloatArray:
    return (images / np.float32(255)).astype(np.float32, copy=False)


def render_writer(writer: int, knobs: Knobs | None = None) -> tuple[FloatArray, IntArray]:
    """One writer's examples, on demand: writer 7 is the same alone, among 10, and among 100,000.

    Args:
        writer: number of the writer, 0 or more.
        knobs: of the generator; the defaults if left out.

    Returns:
        images [examples, 28, 28], float32 in steps of 1/255 from 0 (paper) to 1 (ink), and labels [examples]
        int64, places in `strokes.CHARACTERS`; in random order.

    Raises:
        ValueError: if `writer` is negative.
    """
    images, labels = _render(writer, knobs or Knobs())
    return _as_floats(images), labels


def load_writers(
    num_writers: int = 200,
    *,
    seed: int = 0,
    style: float = 1.0,
    label_skew: float = 1.0,
    size_skew: float = 1.0,
    mean_examples: int = 100,
    test_fraction: float = 0.2,
    cache: bool | str | Path = True,
) -> FederatedDataset:
    """Synthetic handwriting, 62 classes (0-9, A-Z, a-z), as a federated data set with one client per writer.

    Client `writer_00007` is a function of the seed and the knobs alone, whatever `num_writers` is.

    Args:
        num_writers: how many, numbered from 0.
        seed: of everything.
        style: how far writers' hands differ, and what their ink means; 0 is one style. See `Knobs`.
        label_skew: how far their class frequencies differ; 0 makes all classes equally frequent.
        size_skew: how far their numbers of examples differ; 0 gives everyone `mean_examples`.
        mean_examples: mean number of examples of a writer, 10 or more.
        test_fraction: share of each writer's examples in the test part (rounded; at least one in each part);
            0 leaves the test parts empty.
        cache: where the drawn images are kept: `True` for `$FL_META_CACHE`, else `$XDG_CACHE_HOME/fl_meta`,
            else `~/.cache/fl_meta`; a folder; or `False` for nowhere. A file that cannot be read or written
            is a warning, and the images are drawn.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), `y` [examples] int64.

    Raises:
        ValueError: for a number of writers below 1, a test fraction outside [0, 1), or what `Knobs` refuses.
    """
    knobs = Knobs(seed, style, label_skew, size_skew, mean_examples)
    if num_writers < 1:
        raise ValueError(f"num_writers={num_writers} must be 1 or more")
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction} is not in [0, 1)")
    images, labels, counts = _drawn_or_cached(num_writers, knobs, cache)
    test_counts = np.rint(counts * test_fraction).astype(np.int64)
    if test_fraction > 0:
        test_counts = np.clip(test_counts, 1, counts - 1)
    # A writer's examples come in random order, so the first ones are a random train part.
    return FederatedDataset(
        name="writers",
        x=_as_floats(images),
        y=labels,
        client_ids=tuple(f"writer_{writer:05d}" for writer in range(num_writers)),
        starts=np.cumsum(counts) - counts,
        train_counts=counts - test_counts,
        test_counts=test_counts,
        num_classes=len(CHARACTERS),
        class_names=tuple(CHARACTERS),
        synthetic=True,
        source=(
            f"generated from Hershey strokes, not written by people: seed={seed}, style={style:g}, "
            f"label_skew={label_skew:g}, size_skew={size_skew:g}, mean_examples={mean_examples}"
        ),
    )


Drawn = tuple[NDArray[np.uint8], IntArray, IntArray]


def _draw_all(num_writers: int, knobs: Knobs) -> Drawn:
    """Images and labels of all writers, one after another, and the number of each writer's."""
    images, labels = zip(*(_render(writer, knobs) for writer in range(num_writers)), strict=True)
    counts = np.array([len(part) for part in labels], dtype=np.int64)
    return np.concatenate(images), np.concatenate(labels), counts


def _cache_file(num_writers: int, knobs: Knobs, cache: bool | str | Path) -> Path:
    """A name that changes with the arguments, with the code that draws, and with what that code calls."""
    if isinstance(cache, bool):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = os.environ.get("FL_META_CACHE") or Path(home) / "fl_meta"
    code = [inspect.getsource(module) for module in (sys.modules[__name__], strokes, streams)]
    recipe = [num_writers, *astuple(knobs), np.__version__, version("Hershey-Fonts"), *code]
    digest = hashlib.sha256("\n".join(map(str, recipe)).encode()).hexdigest()
    return Path(cache).expanduser() / f"writers-{num_writers}-{digest[:16]}.npz"


def _drawn_or_cached(num_writers: int, knobs: Knobs, cache: bool | str | Path) -> Drawn:
    if cache is False:
        return _draw_all(num_writers, knobs)
    path = _cache_file(num_writers, knobs, cache)
    try:
        return _read(path, num_writers)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # a damaged archive can make zipfile and numpy raise almost anything
        warnings.warn(f"{path} cannot be read and is made again ({error})", stacklevel=3)
    images, labels, counts = drawn = _draw_all(num_writers, knobs)
    try:
        write_atomically(path, lambda file: np.savez(file, images=images, labels=labels, counts=counts))
    except OSError as error:
        warnings.warn(f"handwriting is not cached: {error}", stacklevel=3)
    return drawn


def _read(path: Path, num_writers: int) -> Drawn:
    # Opened here, because numpy leaves a file that it cannot read open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        images, labels, counts = stored["images"], stored["labels"], stored["counts"]
    shapes = (images.shape, labels.shape, counts.shape)
    examples = int(counts.sum())
    expected = ((examples, strokes.IMAGE_SIZE, strokes.IMAGE_SIZE), (examples,), (num_writers,))
    if shapes != expected or images.dtype != np.uint8:
        raise ValueError(f"it holds arrays of shape {shapes}, not {expected}")
    return images, labels, counts
