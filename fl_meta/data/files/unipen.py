"""UNIPEN's format 1.0, in which the trajectories of pens and their labels are published as text.

A keyword begins a line with a dot and a capital letter; all up to the next keyword belongs to it. A file of
labels names, with .INCLUDE, the files of the pen's points, which may name others in turn. Definition:
http://unipen.nici.ru.nl/unipen.def
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from fl_meta.data.files.archives import members
from fl_meta.data.files.errors import DataFileError, reading
from fl_meta.support.array_types import Array

_KEYWORD = re.compile(r"^\.(?=[A-Z])", re.MULTILINE)
_NUMBER = re.compile(r"[ \t]*[-+]?\.?\d")
_POINT = re.compile(f"^{_NUMBER.pattern}", re.MULTILINE)
# Which components, what quality, which label: `CHARACTER 0-2,4 OK "A"`.
_CHARACTER = re.compile(r'[ \t]*CHARACTER[ \t]+([\d:,-]+)[ \t]+(?:[^\s"]+[ \t]+)?"(.*)"\s*')
_RANGE = re.compile(r"(\d+)(?::(\d+))?(?:-(\d+)(?::(\d+))?)?")
_DEEPEST = 8  # files that include each other, one in another; UNIPEN's have two
_LARGEST = 1e9  # no tablet has as many points to a side


@dataclass(frozen=True)
class Component:
    """What the pen did between two changes of its state, on the paper or above it."""

    file: str
    down: bool
    text: str
    columns: tuple[str, ...]
    # How many units of y are as long as one of x.
    ratio: float
    writer: str

    def points(self) -> Array:
        """The points [points, 2]: x to the right and y upwards, in units of y."""
        x, y = self.columns.index("X"), self.columns.index("Y")
        rows = [line.split() for line in self.text.splitlines() if _NUMBER.match(line)]
        points = np.array([(float(row[x]), float(row[y])) for row in rows]) * (self.ratio, 1.0)
        if not (np.abs(points) < _LARGEST).all():  # written so that NaN is refused too
            raise ValueError(f"a coordinate in {self.file} is not a number below {_LARGEST:,.0f}")
        return points


@dataclass(frozen=True)
class Character:
    """One labelled character; `parts` are its components, each with the points that belong to it."""

    label: str
    writer: str
    parts: tuple[tuple[Component, slice], ...]

    def strokes(self, archive: Path) -> list[Array]:
        """The points [points, 2] of each stroke on the paper, as `Component.points`.

        Raises:
            DataFileError: if there are none, or they are not numbers; the message names `archive`.
        """
        first = self.parts[0][0]
        with reading(archive, f"UNIPEN files ({first.file})"):
            points = (component.points()[part] for component, part in self.parts if component.down)
            if strokes := [stroke for stroke in points if len(stroke)]:
                return strokes
            raise ValueError(f"a character {self.label!r} of {self.writer} has no stroke on the paper")


@dataclass
class _State:
    """What the keywords have said so far."""

    columns: tuple[str, ...] = ("X", "Y")
    # Points per length along each axis, by the keyword without its first letter.
    density: dict[str, dict[str, float]] = field(default_factory=lambda: {"X": {}, "Y": {}})
    writer: str = ""
    components: list[Component] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        for unit, along_x in self.density["X"].items():
            if unit in self.density["Y"]:
                return self.density["Y"][unit] / along_x
        return 1.0


class UnipenArchive:
    """The text files below data/ and include/ in an archive, which is read to its end.

    They are held compressed: UNIPEN's files are 490 MB of text.

    Raises:
        DataFileError: if the archive is damaged, unsafe, or more than `limit` bytes come out of it.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.statements = lru_cache(maxsize=8)(self._statements)
        self._texts = dict[str, bytes]()
        with closing(members(path, "", limit)) as opened:
            for name, pieces in opened:
                held = zlib.compressobj(1)
                compressed = [held.compress(piece) for piece in pieces]
                # The archive has folders of its own above these two.
                if place := re.search(r"(?:^|/)((?:data|include)/.*)", name):
                    self._texts[place[1]] = b"".join([*compressed, held.flush()])

    @property
    def files(self) -> list[str]:
        """The paths of all files, from data/ or include/ on, sorted."""
        return sorted(self._texts)

    def characters(self, file: str) -> Iterator[Character]:
        """The labelled characters of a file, in its order.

        Raises:
            DataFileError: if it is not in UNIPEN's format, or what it includes is missing.
        """
        with reading(self.path, f"UNIPEN files ({file})"):
            state = _State()
            self._read(file, state, 0)
            for segment in state.segments:
                yield from self._character(segment, state.components)

    def _statements(self, file: str) -> list[tuple[str, str]]:
        """The keywords of a file, each with the text that follows."""
        if file not in self._texts:
            raise DataFileError(f"{self.path}: lacks {file}, which another of its files includes")
        text = zlib.decompress(self._texts[file]).decode("latin-1")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        statements = list[tuple[str, str]]()
        for statement in _KEYWORD.split(text)[1:]:
            keyword = statement.split(maxsplit=1)[0]
            statements.append((keyword, statement[len(keyword) :]))
        return statements

    def _read(self, file: str, state: _State, depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError(f"{file} is included by itself")
        for keyword, rest in self.statements(file):
            match keyword:
                case "INCLUDE":
                    self._read(f"include/{rest.split()[0]}", state, depth + 1)
                case "COORD":
                    state.columns = tuple(rest.upper().split())
                case "WRITER_ID":
                    state.writer = rest.strip().partition("\n")[0].strip()
                case "PEN_DOWN" | "PEN_UP":
                    if _POINT.search(rest):  # else it says only that the last component has ended
                        down = keyword == "PEN_DOWN"
                        state.components.append(
                            Component(file, down, rest, state.columns, state.ratio, state.writer)
                        )
                case "SEGMENT":
                    state.segments.append(rest)
                case _ if "_POINTS_PER_" in keyword and keyword[0] in "XY":
                    state.density[keyword[0]][keyword[1:]] = _density(keyword, rest)

    def _character(self, segment: str, components: list[Component]) -> Iterator[Character]:
        if segment.split()[:1] != ["CHARACTER"]:
            return  # of a word or a text
        if not (matched := _CHARACTER.fullmatch(segment)):
            raise ValueError(f'.SEGMENT{segment.rstrip()} is not of the form CHARACTER 0-2 OK "A"')
        parts = [part for each in matched[1].split(",") for part in _parts(each, components)]
        if not (writer := parts[0][0].writer):
            raise ValueError(f"{parts[0][0].file} has no .WRITER_ID")
        yield Character(matched[2], writer, tuple(parts))


def _density(keyword: str, rest: str) -> float:
    value = float(rest.split()[0])
    if not 0 < value < _LARGEST:
        raise ValueError(f".{keyword} is {value}, which is no density of points")
    return value


def _parts(text: str, components: list[Component]) -> Iterator[tuple[Component, slice]]:
    """The components of a range such as 3, 3-5, or 3:12-5:7, which begins and ends at points of its ends."""
    if not (matched := _RANGE.fullmatch(text)):
        raise ValueError(f"{text!r} is no range of components")
    first, begin, last, end = (None if number is None else int(number) for number in matched.groups())
    last = first if last is None else last
    assert first is not None and last is not None
    if not first <= last < len(components):
        raise ValueError(f"there are no components {text}, but {len(components)} in all")
    for number in range(first, last + 1):
        start = begin if number == first else None
        stop = end + 1 if end is not None and number == last else None
        yield components[number], slice(start, stop)
