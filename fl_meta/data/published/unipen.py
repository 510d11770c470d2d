"""The images of `unipen62`, drawn from UNIPEN's archive of pen trajectories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fl_meta.data.catalogue import CATALOGUE, check_counts
from fl_meta.data.encoding import CHARACTERS
from fl_meta.data.files.unipen import Character, UnipenArchive
from fl_meta.support.array_types import Array

ARCHIVE = "unipen-CDROM-train_r01_v07.tgz"
# The folders of isolated digits, capitals and small letters.
KINDS = ("1a", "1b", "1c")
# The writers of the data set; the archive has others. A contributor's writers are numbered by their sorted
# ids, capitals before small letters.
WRITERS = {
    "aga": "0-5 7-8 10 12-13",
    "apa": "0-2 4-8",
    "apb": "0-3 5-6 8 10-18 20-32 34-37 39-48 50",
    "app": "0-6 9-13",
    "art": "2",
    "cea": "1 3-5",
    "ceb": "0-1 3",
    "ced": "0-2 6-8 10-12 15 18-27 29-33 35-38 40-41",
    "gmd": "0-2",
    "ibm": "1-9 11-16 19-21",
    "imp": "2-6 8 10-16 18-25 27-33",
    "kai": "0 2 4 8 11-12",
    "lav": "0-3",
    "lou": "0",
    "mot": "0-7",
    "pri": "0-1",
    "sie": "2",
    "syn": "0-6 10-16",
    "tos": "0-3 5-6 8-9 11-12 14-18 20-35 37 39 41-42 44-52 54-56",
    "uqb": "0-3",
    "val": "0-1",
}
SIDE, BOX = 28, 20  # pixels: the image, and the box in its middle that a character fills
PEN = 2.2  # pixels
_FINE = 8  # drawn this many times as large, for smooth edges
_PROGRESS = 1_000  # images

# Called with how many bytes of images are drawn, and how many there will be.
Drawn = Callable[[int, int], object]


def read_unipen(path: Path, progress: Drawn) -> dict[str, Array]:
    """The arrays of unipen62.npz, made from UNIPEN's archive train_r01_v07 in one or two minutes.

    Returns:
        `images` [images, 28, 28] uint8 (ink = 255), `labels` [images] uint8, `writers` [images] int16,
        `writer_codes` and `classes`, the names of writers and labels. A writer's images are together, in the
        order of the archive's sorted files.

    Raises:
        ValueError: if the archive is damaged, or does not hold the whole data set.

    Source: UNIPEN train_r01_v07 (Guyon et al. 1994), https://zenodo.org/records/1195803.
    """
    (download,) = CATALOGUE["unipen62"].forms[0].downloads
    by_writer = _by_writer(UnipenArchive(path, download.unpacked_bytes))
    codes = sorted(by_writer)
    characters = [character for code in codes for character in by_writer[code]]
    # Before they are drawn, and before the archive is deleted.
    check_counts(path, "unipen62", classes=len(CHARACTERS), writers=len(codes), images=len(characters))
    images = np.empty((len(characters), SIDE, SIDE), np.uint8)
    for number, character in enumerate(characters):
        images[number] = draw(character.strokes(path))
        if (number + 1) % _PROGRESS == 0 or number + 1 == len(images):
            progress((number + 1) * SIDE * SIDE, images.size)
    return {
        "images": images,
        "labels": np.array([CHARACTERS.index(c.label) for c in characters], np.uint8),
        "writers": np.repeat(np.arange(len(codes), dtype=np.int16), [len(by_writer[code]) for code in codes]),
        "writer_codes": np.array(codes),
        "classes": np.array([*CHARACTERS]),
    }


def draw(strokes: Sequence[Array]) -> Array:
    """The image [28, 28] uint8 (ink = 255) of strokes, each [points, 2]: x to the right and y upwards.

    Their larger extent fills the box; a single point becomes a dot in the middle.
    """
    points = np.concatenate(strokes)
    lowest, highest = points.min(axis=0), points.max(axis=0)
    extent = (highest - lowest).max()
    scale = BOX / extent if extent else 0.0
    width = int(PEN * _FINE)
    canvas = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    pen = ImageDraw.Draw(canvas)
    for stroke in strokes:
        placed = (stroke - (lowest + highest) / 2) * scale * (1, -1)
        corners = [(float(x), float(y)) for x, y in (placed + SIDE / 2) * _FINE]
        pen.line(corners, fill=255, width=width, joint="curve")
        for x, y in (corners[0], corners[-1]):  # round ends
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX))


def _by_writer(archive: UnipenArchive) -> dict[str, list[Character]]:
    """The characters of each writer of the data set, by the writer's code, such as aga00."""
    placed = [(file, *file.split("/")[1:3]) for file in archive.files if file.count("/") >= 3]
    wanted = [
        (file, contributor)
        for file, kind, contributor in placed
        if file.startswith("data/") and kind in KINDS and contributor in WRITERS
    ]
    found = defaultdict[tuple[str, str], list[tuple[str, Character]]](list)
    # What the three kinds include is the same, and is read once if they come one after the other.
    for file, contributor in sorted(wanted, key=lambda each: each[0].split("/", 2)[2]):
        for character in archive.characters(file):
            on_paper = any(component.down for component, _ in character.parts)
            if on_paper and len(character.label) == 1 and character.label in CHARACTERS:
                found[contributor, character.writer].append((file, character))
    by_writer = dict[str, list[Character]]()
    for contributor, numbers in WRITERS.items():
        chosen = {n for part in numbers.split() for n in _whole(part)}
        for number, key in enumerate(sorted(key for key in found if key[0] == contributor)):
            if number in chosen:
                in_order = sorted(found[key], key=lambda each: each[0])
                by_writer[f"{contributor}{number:02d}"] = [character for _, character in in_order]
    return by_writer


def _whole(part: str) -> range:
    """The numbers of a range such as 3 or 3-5."""
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)
