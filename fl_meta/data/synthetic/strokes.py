"""Pen strokes of the 62 characters: the shapes there are, which may stand for which class, and drawing.

A shape (*allograph*) has a short name: a character, then the hand it is written in, then an extra stroke.
`"Os"` is a script O, `"0/"` a slashed zero, `"7p-"` a plain seven with a bar. Where no hand is named, it is
the hand that the writer uses for that class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from fl_meta.data.encoding import CHARACTERS
from fl_meta.support.array_types import ByteArray, Float32Array, IntArray

Stroke = list[tuple[float, float]]

IMAGE_SIZE = 28  # pixels
POINTS = 96  # on the pen's path of one glyph, enough for the longest at the thinnest pen
TERMS = 7  # of `place_terms`
_BAND_ROWS = 64  # images drawn at once: their intermediate arrays stay in the processor's cache
_MARGIN = 3  # pixels of the frame that the pen's path leaves free on each side
_GAIN = np.float32(1.5)
_PIXELS = np.arange(IMAGE_SIZE, dtype=np.float32)
_CAP_LINE, _BASE_LINE = -12.0, 9.0  # of every Hershey font of normal size; y points down

# Of the 32 Hershey fonts, these five have 62 Latin shapes of their own that can pass for a pen's work at
# 28×28. Left out: copies (rowmans, cursive, music …), bold ones (futuram, timesrb …: we choose the
# pen's width), and Greek, Cyrillic, Gothic and symbol fonts.
HANDS = {"p": "futural", "s": "scripts", "c": "scriptc", "r": "timesr", "i": "timesi"}

# Shapes that people write and Hershey did not draw, in his units. "h" names them: "4h" is an open four.
_BY_HAND: dict[str, list[Stroke]] = {
    "1": [[(-6, -4), (1, -12), (1, 9)]],
    "4": [[(-3, -12), (-6, 3), (8, 3)], [(4, -4), (3, 9)]],
    "9": [[(5, -9), (0, -12), (-5, -10), (-6, -5), (-2, -1), (3, -3), (5, -9), (4, 9)]],
    "I": [[(0, -12), (0, 9)], [(-5, -12), (5, -12)], [(-5, 9), (5, 9)]],
    "E": [[(7, -10), (0, -13), (-6, -9), (-4, -3), (3, -2), (-5, -1), (-7, 5), (-2, 9), (8, 6)]],
    "t": [[(0, -10), (-1, 7), (3, 10), (7, 6)], [(-6, -4), (6, -5)]],
    "y": [[(-6, -5), (-6, 3), (0, 5), (5, 1), (6, -5)], [(6, -5), (5, 12), (1, 17), (-5, 13)]],
}

# Extra strokes, in shares of the glyph's width and height from its centre.
_MARKS: dict[str, Stroke] = {
    "/": [(-0.62, 0.55), (0.62, -0.55)],
    "-": [(-0.45, 0.02), (0.5, -0.02)],
    "_": [(-0.6, 0.5), (0.6, 0.5)],
}

# How one writer tells apart what others write alike. The key is a group of classes; each entry is one habit,
# a shape for every class of the group. The first habit is the common one, and the only one at `style=0`.
# Within a habit the shapes differ, if only in size; between habits the same ink means different classes.
HABITS: dict[str, tuple[str, ...]] = {
    "0Oo": ("0 O o", "0/ 0 o", "O Os o", "0/ O o", "O 0 os", "0 Os os", "0/ 0 O"),
    "17Il": (
        "1p 7 Ih Ip",
        "Ip 7 Ih ls",
        "7 7- Ih Ip",
        "1r 7- Ip ls",
        "1p 7 Ip ls",
        "Ip 7- Is 1_",
        "1h 7- Ih Ip",
        "7 7- Ip ls",
    ),
    "2ZzQ": ("2 Z z Q", "2 Z- z- Qp", "Z Z- z- Qr", "2s 2p zs Qp", "2 Zs zs Qp", "Zp 2 z- Qs", "2p zp zs Qs"),
    "5Ss": ("5 S s", "S Ss ss", "5 Ss ss", "S Sc ss", "5_ 5 s", "s 5 ss"),
    "6bG": ("6 b G", "b bs G", "6_ 6 Gs", "G bp Gs", "6 bs 6_", "b 6 Gp"),
    "9gq": ("9 g q", "q g qs", "g gs q", "q 9 q-", "9h 9 qs", "9 gs g", "gs 9 9h"),
    "4Yy": ("4 Y y", "4h Yp ys", "4h y yh", "4 yh ys", "yh Y ys"),
    "UuVv": ("U u V v", "Us us U u", "u us V v", "U us u vs", "V vs Vs v", "U v us vs"),
    "aA": ("a A", "as a", "a As", "ar ap"),
    "Ee": ("E e", "Eh e", "e es", "Es er"),
    "nN": ("n N", "ns n", "n Ns", "nr np"),
    "mM": ("m M", "ms m", "m Ms"),
    "hH": ("h H", "hs Hs", "H Hs", "hs h"),
    "tTfF": ("t T f F", "th T f Fs", "T Ts f F", "th T fs f", "f t- fs Fs", "tp Tr fs Fr"),
    "jJ": ("j J", "js Js", "J Js", "jp j"),
    "kK": ("k K", "K Ks", "ks k", "k Ks"),
    "pP": ("p P", "ps p", "P Ps", "p Ps"),
    "wW": ("w W", "ws w", "w ws"),
    "xX": ("x X", "xs x", "X- X"),
    "rR": ("r R", "rs R", "R Rs"),
    "dD": ("d D", "ds Ds", "D Ds"),
}


@dataclass(frozen=True)
class Glyphs:
    """Every shape as points along the pen's path.

    Attributes:
        basis: `place_terms` of each point [shapes, POINTS, TERMS].
        length: of the path, in heights of a capital letter [shapes].
        height: of the shape, in heights of a capital letter [shapes].
        shape_of: the row of `basis` that a class has by habit and hand [62, most habits, hands].
        group_of: the group of `HABITS` that each class belongs to, or one of its own [62].
        habits: number of habits of each group [groups].
    """

    basis: Float32Array
    length: Float32Array
    height: Float32Array
    shape_of: IntArray
    group_of: IntArray
    habits: IntArray


def place_terms(points: Float32Array) -> Float32Array:
    """What a drawn point is a linear function of: x, y, and five smooth functions [..., 2] -> [..., TERMS].

    A matrix [TERMS, 2] then is a whole way of writing: two rows of slant, aspect and rotation, five of warp.
    """
    x, y = points[..., 0], points[..., 1]
    wave = 2 * np.pi * 0.8
    return np.stack(
        [x, y, x * y, np.sin(wave * x), np.cos(wave * x), np.sin(wave * y), np.cos(wave * y)], axis=-1
    ).astype(np.float32)


def _rounded(stroke: Stroke) -> Stroke:
    """The stroke with its corners cut twice, ends kept: a polygon of few points becomes a curve."""
    path = np.array(stroke)
    for _ in range(2):
        cut = np.stack([0.75 * path[:-1] + 0.25 * path[1:], 0.25 * path[:-1] + 0.75 * path[1:]], axis=1)
        path = np.concatenate([path[:1], cut.reshape(-1, 2), path[-1:]])
    return [(float(x), float(y)) for x, y in path]


def _mark(mark: str, strokes: list[Stroke]) -> Stroke:
    points = np.concatenate([np.array(stroke) for stroke in strokes])
    low, high = points.min(axis=0), points.max(axis=0)
    # A bar through a stem of no width still needs some.
    extent = np.maximum(high - low, (8.0, 0.0))
    return [(float(x), float(y)) for x, y in (low + high) / 2 + np.array(_MARKS[mark]) * extent]


def _sample(strokes: list[Stroke]) -> tuple[Float32Array, float]:
    """Points at equal steps along the strokes, centred, in capital heights [POINTS, 2]; and the length."""
    paths = [np.array(stroke) / (_BASE_LINE - _CAP_LINE) for stroke in strokes]
    starts = np.concatenate([path[:-1] for path in paths])
    steps = np.concatenate([np.diff(path, axis=0) for path in paths])
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    ends = np.cumsum(lengths)
    along = (np.arange(POINTS) + 0.5) / POINTS * ends[-1]
    segment = np.minimum(np.searchsorted(ends, along, side="right"), len(ends) - 1)
    part = 1 - (ends[segment] - along) / lengths[segment]
    points = starts[segment] + part[:, None] * steps[segment]
    corners = np.concatenate(paths)
    return (points - (corners.min(axis=0) + corners.max(axis=0)) / 2).astype(np.float32), float(ends[-1])


def _parse(name: str, hand: str) -> tuple[str, str, str]:
    """Character, hand and extra strokes of a shape's short name; `hand` is for names that say none."""
    marks = "".join(mark for mark in name[1:] if mark in _MARKS)
    return name[0], name[1:].replace(marks, "") or hand, marks


@cache
def _strokes_of(hand: str) -> dict[str, list[Stroke]]:
    if hand == "h":
        return {
            character: [_rounded(stroke) for stroke in strokes] for character, strokes in _BY_HAND.items()
        }
    from HersheyFonts import HersheyFonts  # 40 ms that only handwriting needs

    font = HersheyFonts()
    font.load_default_font(HANDS[hand])
    return {character: list(font.all_glyphs[character].strokes) for character in CHARACTERS}


@cache
def glyphs() -> Glyphs:
    """All shapes; the fonts are read on the first call (about 0.2 s)."""
    grouped = "".join(HABITS)
    groups = dict(HABITS) | {c: (c,) for c in CHARACTERS if c not in grouped}
    most = max(len(habits) for habits in groups.values())
    shape_of = np.zeros((len(CHARACTERS), most, len(HANDS)), dtype=np.int64)
    group_of = np.zeros(len(CHARACTERS), dtype=np.int64)
    rows: dict[tuple[str, ...], int] = {}
    samples: list[tuple[Float32Array, float]] = []
    for group, (classes, habits) in enumerate(groups.items()):
        for habit, entry in enumerate(habits):
            for character, name in zip(classes, entry.split(), strict=True):
                label = CHARACTERS.index(character)
                group_of[label] = group
                for column, hand in enumerate(HANDS):
                    key = _parse(name, hand)
                    if key not in rows:
                        rows[key] = len(samples)
                        strokes = _strokes_of(key[1])[key[0]]
                        samples.append(_sample(strokes + [_mark(mark, strokes) for mark in key[2]]))
                    shape_of[label, habit, column] = rows[key]
    points = np.stack([sample for sample, _ in samples])
    return Glyphs(
        basis=place_terms(points),
        length=np.array([length for _, length in samples], dtype=np.float32),
        height=np.ptp(points[..., 1], axis=1),
        shape_of=shape_of,
        group_of=group_of,
        habits=np.array([len(habits) for habits in groups.values()]),
    )


def draw(
    shapes: IntArray, transform: Float32Array, size: Float32Array, pen: Float32Array, shift: Float32Array
) -> ByteArray:
    """Draw shapes with a soft round pen, centred: one grey image for each.

    A point of the path leaves a Gaussian spot, which is a product of a row and a column, so that an image is
    one product of matrices [28, POINTS] × [POINTS, 28].

    Args:
        shapes: rows of `glyphs().basis` [images].
        transform: from `place_terms` to places in capital heights [images, TERMS, 2].
        size: pixels per capital height [images]; made smaller where the shape would not fit the frame.
        pen: width of the stroke in pixels, where the ink is half [images].
        shift: of the centre in pixels, x and y [images, 2].

    Returns:
        ink from 0 (none) to 255 [images, 28, 28].
    """
    table = glyphs()
    images = np.empty((len(shapes), IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for first in range(0, len(shapes), _BAND_ROWS):
        band = slice(first, first + _BAND_ROWS)
        points = table.basis[shapes[band]] @ transform[band]
        low, high = points.min(axis=1), points.max(axis=1)
        room = np.float32(IMAGE_SIZE - 2 * _MARGIN) / (high - low).max(axis=1)
        scale = np.minimum(size[band], room)
        centre = (IMAGE_SIZE - 1) / 2 + shift[band] - (low + high) / 2 * scale[:, None]
        points = points * scale[:, None, None] + centre[:, None, :].astype(np.float32)
        # With this gain a stroke is flat on top and half as dark at half the pen's width.
        sigma = pen[band] / np.float32(2 * np.sqrt(2 * np.log(2 * _GAIN)))
        sharpness = (-0.5 / sigma**2)[:, None, None, None]
        spots = np.exp(sharpness * (points[..., None] - _PIXELS) ** 2)
        # Along a straight stroke the spots, one per step, add up to sigma √(2π) / step.
        step = table.length[shapes[band]] * scale / POINTS
        spots[:, :, 0] *= (_GAIN * step / (sigma * np.float32(np.sqrt(2 * np.pi))))[:, None, None]
        ink = spots[:, :, 1].transpose(0, 2, 1) @ spots[:, :, 0]
        images[band] = np.rint(np.minimum(ink, 1) * 255)
    return images
