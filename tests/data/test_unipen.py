"""UNIPEN's format, which of its characters are taken, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_files import (
    LINE_DOWN,
    LINE_RIGHT,
    REMOVED,
    UNIPEN,
    UP,
    pen,
    write_archive,
    write_unipen,
)

from fl_meta.data.encoding import CHARACTERS
from fl_meta.data.files.errors import DataFileError
from fl_meta.data.files.unipen import Character, UnipenArchive
from fl_meta.data.published.unipen import WRITERS, draw, read_unipen

HERE = "data/1a/x/a.dat"
POINTS = [(1, 2), (3, 4), (5, 6), (7, 8)]


def characters(folder: Path, files: dict[str, str] | str) -> list[Character]:
    """The characters of one file, in an archive with others that it includes."""
    if isinstance(files, str):
        files = {HERE: files}
    write_archive(folder / UNIPEN, {path: text.encode("latin-1") for path, text in files.items()})
    return list(UnipenArchive(folder / UNIPEN, 10**6).characters(HERE))


def strokes(folder: Path, files: dict[str, str] | str) -> list[list[list[float]]]:
    (character,) = characters(folder, files)
    return [stroke.tolist() for stroke in character.strokes(folder)]


def a_character(*components: str, delineation: str, head: str = ".WRITER_ID me\n") -> str:
    return f'{head}{"".join(components)}.SEGMENT CHARACTER {delineation} OK "A"\n'


def as_lists(*points: tuple[int, ...]) -> list[list[float]]:
    return [list(map(float, point)) for point in points]


# The format -----------------------------------------------------------------------------------------------

FOUR = [pen(*[(10 * component + x, y) for x, y in POINTS]) for component in range(4)]


@pytest.mark.parametrize(
    ("delineation", "expected"),
    [
        ("2", [(2, 0, 4)]),
        ("1-2", [(1, 0, 4), (2, 0, 4)]),
        ("2-2", [(2, 0, 4)]),
        ("0,3", [(0, 0, 4), (3, 0, 4)]),
        ("3,0-1", [(3, 0, 4), (0, 0, 4), (1, 0, 4)]),
        ("1:2-1:3", [(1, 2, 4)]),
        ("0:3-2:1,3", [(0, 3, 4), (1, 0, 4), (2, 0, 2), (3, 0, 4)]),
        ("2:1", [(2, 1, 4)]),
    ],
)
def test_a_range_of_components_and_points_is_taken_out(
    tmp_path: Path, delineation: str, expected: list[tuple[int, int, int]]
) -> None:
    points = [as_lists(*[(10 * c + x, y) for x, y in POINTS])[start:stop] for c, start, stop in expected]
    assert strokes(tmp_path, a_character(*FOUR, delineation=delineation)) == points


def test_what_the_pen_does_in_the_air_counts_if_it_has_points_and_is_not_drawn(tmp_path: Path) -> None:
    air = pen((0, 0), (99, 99), down=False)
    text = a_character(FOUR[0], UP, FOUR[1], air, ".DT 270\n", air, UP, FOUR[2], delineation="1-4")
    assert strokes(tmp_path, text) == [as_lists(*[(10 * c + x, y) for x, y in POINTS]) for c in (1, 2)]
    with pytest.raises(DataFileError, match="there are no components 5, but 5 in all"):
        characters(tmp_path, text.replace("1-4", "5"))


@pytest.mark.parametrize(
    ("head", "points", "expected"),
    [
        (".COORD T X Y\n", [(9, 1, 2)], (1, 2)),
        (".COORD Y P X\n", [(1, 9, 2)], (2, 1)),
        (".COORD X Y\n", [(-1, 2, 3)], (-1, 2)),
        (".X_POINTS_PER_INCH 100\n.Y_POINTS_PER_INCH 50.0\n", [(8, 3)], (4, 3)),
        (".X_POINTS_PER_MM 2\n.Y_POINTS_PER_MM 8\n", [(8, 3)], (32, 3)),
        (".X_POINTS_PER_INCH 100\n", [(8, 3)], (8, 3)),
        (".COMMENT .X_POINTS_PER_INCH 7\n.X_POINTS_PER_SECOND 5\n", [(8, 3)], (8, 3)),
    ],
)
def test_coordinates_are_in_the_order_and_the_units_that_the_file_says(
    tmp_path: Path, head: str, points: list[tuple[int, ...]], expected: tuple[int, int]
) -> None:
    text = a_character(pen(*points), delineation="0", head=f".WRITER_ID me\n{head}")
    assert strokes(tmp_path, text) == [as_lists(expected)]


def test_files_are_included_where_they_are_named_and_may_include_others(tmp_path: Path) -> None:
    files = {
        HERE: f".INCLUDE x/doc\n.INCLUDE x/data/a.dat\n{a_character(delineation='0', head='')}",
        "include/x/doc": ".COORD Y X\n",
        "include/x/data/a.dat": f".INCLUDE x/who\n{pen((1, 2))}.WRITER_ID another\n{pen((5, 6))}",
        "include/x/who": ".WRITER_ID   J\xe9r\xf4me\n.COMMENT caf\xe9\n",
    }
    (character,) = characters(tmp_path, files)
    assert (character.label, character.writer) == ("A", "Jérôme")
    assert character.strokes(tmp_path)[0].tolist() == [[2.0, 1.0]]
    text = files[HERE].replace("CHARACTER 0", "CHARACTER 1")
    assert characters(tmp_path, files | {HERE: text})[0].writer == "another"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    text = a_character(pen(*POINTS), delineation="0").replace("\n", end)
    assert strokes(tmp_path, text) == [as_lists(*POINTS)]


@pytest.mark.parametrize("label", ["A", "ab", "", '\\"', "\\\\", "."])
@pytest.mark.parametrize("quality", ["OK ", "? ", ""])
def test_a_label_is_what_the_quotes_hold_whatever_the_quality(
    tmp_path: Path, label: str, quality: str
) -> None:
    text = f'.WRITER_ID me\n{pen((1, 2))}.SEGMENT CHARACTER 0 {quality}"{label}" \n.SEGMENT WORD 0 ? "x"\n'
    assert [character.label for character in characters(tmp_path, text)] == [label]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("CHARACTER 0", "CHARACTER 1", "there are no components 1, but 1 in all"),
        ("CHARACTER 0", "CHARACTER 0-99999999999", "there are no components 0-99999999999"),
        ("CHARACTER 0", "CHARACTER 1-0", "there are no components 1-0"),
        ("CHARACTER 0", "CHARACTER 0--1", "'0--1' is no range of components"),
        ("CHARACTER 0", "CHARACTER zero", "is not of the form CHARACTER 0-2"),
        ('"A"', "A", "is not of the form CHARACTER 0-2"),
        (".WRITER_ID me", ".STYLE mine", "data/1a/x/a.dat has no .WRITER_ID"),
        ("1 2", "1", "IndexError"),
        ("1 2", "1 two", "could not convert string to float: 'two'"),
        ("1 2", "1 nan", "is not a number below 1,000,000,000"),
        ("1 2", "-1e300 2", "is not a number below 1,000,000,000"),
        (".WRITER_ID", ".COORD T P\n.WRITER_ID", "tuple.index"),
        (".WRITER_ID", ".X_POINTS_PER_MM 0\n.WRITER_ID", r".X_POINTS_PER_MM is 0.0, which is no density"),
        (".WRITER_ID", ".Y_POINTS_PER_MM many\n.WRITER_ID", "could not convert string to float: 'many'"),
        (".WRITER_ID", ".INCLUDE x/none.dat\n.WRITER_ID", "lacks include/x/none.dat, which another"),
        (".WRITER_ID", ".INCLUDE\n.WRITER_ID", "IndexError"),
        ("PEN_DOWN", "PEN_UP", "a character 'A' of me has no stroke on the paper"),
        ("CHARACTER 0", "CHARACTER 0:7", "a character 'A' of me has no stroke on the paper"),
    ],
)
def test_what_is_wrong_is_an_error_that_names_the_archive_and_the_file(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    text = a_character(pen((1, 2)), delineation="0").replace(old, new)
    with pytest.raises(DataFileError, match=problem) as caught:
        strokes(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}") and (HERE in str(caught.value) or "lacks" in problem)


def test_files_that_include_each_other_are_an_error(tmp_path: Path) -> None:
    files = {HERE: ".INCLUDE x/a\n", "include/x/a": ".INCLUDE x/b\n", "include/x/b": ".INCLUDE x/a\n"}
    with pytest.raises(DataFileError, match="is included by itself"):
        characters(tmp_path, files)


def test_an_archive_that_never_ends_is_not_read_to_its_end(tmp_path: Path) -> None:
    write_archive(tmp_path / UNIPEN, {"data/a": bytes(10**6), "include/b": bytes(10**6)})
    UnipenArchive(tmp_path / UNIPEN, 2 * 10**6)
    with pytest.raises(DataFileError, match="holds more than 1,999,999 bytes"):
        UnipenArchive(tmp_path / UNIPEN, 2 * 10**6 - 1)


# What is taken --------------------------------------------------------------------------------------------


def test_the_data_set_has_the_writers_that_it_says() -> None:
    numbers = [part for parts in WRITERS.values() for part in parts.split()]
    ends = [tuple(map(int, part.split("-"))) for part in numbers]
    assert sum(end[-1] - end[0] + 1 for end in ends) == 252


def test_isolated_characters_are_taken_by_writer_kind_and_file(small: Callable[..., Path]) -> None:
    path = small("unipen62 archive") / UNIPEN
    told: list[tuple[int, int]] = []
    made = read_unipen(path, lambda *now: told.append(now))
    # Of pri, the writers 0 and 15 come before 9, and a sign that is no letter or digit is left out.
    assert made["writer_codes"].tolist() == ["lou00", "pri00", "pri01"]
    assert made["writers"].tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    labels = "".join(CHARACTERS[label] for label in made["labels"])
    assert labels == "1L17l17l" and "".join(made["classes"]) == CHARACTERS
    assert told == [(8 * 784, 8 * 784)]
    assert [made[key].dtype for key in ("images", "labels", "writers")] == [np.uint8, np.uint8, np.int16]
    one, ell, _, seven, with_air, *second = made["images"]
    # The same strokes are the same image, whatever the pen does between them.
    assert np.array_equal(second, made["images"][2:5]) and np.array_equal(seven, with_air)
    assert not np.array_equal(one, ell) and not np.array_equal(ell, seven)


def test_a_writer_s_characters_are_in_the_order_of_the_kinds(
    tmp_path: Path, expect: Callable[..., None]
) -> None:
    expect("unipen62", classes=62, writers=1, images=6)
    files = {
        f"data/{kind}/lou/{name}.dat": a_character(pen((1, 2)), delineation="0").replace('"A"', f'"{label}"')
        for kind, name, label in [
            *(("1a", "b", "1"), ("1a", "a/z", "0"), ("1b", "a/z", "C"), ("1b", "c", "D")),
            *(("1c", "a/z", "e"), ("1c", "b", "f"), ("2", "b", "g"), ("1d", "b", "!")),
        ]
    }
    write_unipen(tmp_path, files=files)
    made = read_unipen(tmp_path / UNIPEN, lambda *_: None)
    assert "".join(CHARACTERS[label] for label in made["labels"]) == "01CDef"


def test_writers_are_numbered_by_their_ids_capitals_first(
    tmp_path: Path, expect: Callable[..., None]
) -> None:
    expect("unipen62", classes=62, writers=4, images=4)
    files = {
        f"data/1a/uqb/{number}.dat": a_character(
            pen((1, 2)), delineation="0", head=f".WRITER_ID {writer}\n"
        ).replace('"A"', f'"{number}"')
        for number, writer in enumerate(["ann", "Bob", "al", "Al"])
    }
    write_unipen(tmp_path, files=files)
    made = read_unipen(tmp_path / UNIPEN, lambda *_: None)
    assert made["writer_codes"].tolist() == ["uqb00", "uqb01", "uqb02", "uqb03"]
    # Al, Bob, al, ann
    assert made["labels"].tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize("files", [{}, {"README": "nothing"}, {"data/1a": "a"}])
def test_an_archive_of_something_else_is_an_error(tmp_path: Path, files: dict[str, str]) -> None:
    write_unipen(tmp_path, files=files)
    with pytest.raises(ValueError, match="holds 62 classes, 0 writers, 0 images; the whole data set has"):
        read_unipen(tmp_path / UNIPEN, lambda *_: None)


# How it is drawn ------------------------------------------------------------------------------------------


def test_an_image_is_upright_in_its_box_and_a_pen_wide() -> None:
    image = draw([np.array(LINE_DOWN, float), np.array(LINE_RIGHT, float)]).astype(float) / 255
    assert image.shape == (28, 28) and image.max() == 1
    # The larger extent, here the height, is 20 pixels; the width is half of it. With the pen's they are 22.
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 25, 7, 20)
    # An L: its foot is at the bottom and its back on the left, each about 2.2 pixels wide.
    assert np.abs(image[5:20].sum(axis=1) - 2.2).max() < 0.2
    assert np.abs(image[:, 12:18].sum(axis=0) - 2.2).max() < 0.2
    assert image[22:26, 12:18].sum() > 0.99 * image[:, 12:18].sum()


def test_corners_are_as_round_as_ends() -> None:
    """A stroke with a corner looks like two strokes that meet there; a missing joint would leave a notch."""
    down, right = np.array(LINE_DOWN, float), np.array(LINE_RIGHT, float)
    whole, halves = draw([np.concatenate([down, right[1:]])]), draw([down, right])
    assert np.abs(whole.astype(int) - halves).max() <= 255 / 6


@pytest.mark.parametrize("points", [[(3, 3)], [(3, 3)] * 5, [(0, 0)]])
def test_a_single_point_is_a_dot_in_the_middle(points: list[tuple[int, int]]) -> None:
    image = draw([np.array(points, float)])
    assert np.array_equal(image, image[::-1]) and np.array_equal(image, image[:, ::-1])
    assert not image[:12].any() and image[12:16, 12:16].sum() == image.sum() > 3 * 255


some_strokes = st.lists(
    arrays(float, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(-64, 64).map(float)),
    min_size=1,
    max_size=4,
)


@given(some_strokes, st.integers(-100, 100), st.integers(-100, 100), st.sampled_from([0.25, 2.0, 1024.0]))
def test_neither_where_nor_how_large_it_was_written_changes_the_image(
    written: list[np.ndarray], x: int, y: int, size: float
) -> None:
    image = draw(written)
    assert image.any() and not image[:2].any() and not image[:, :2].any()
    assert not image[26:].any() and not image[:, 26:].any()
    assert np.array_equal(draw([size * (stroke + np.array([x, y])) for stroke in written]), image)
    assert np.array_equal(draw(written[::-1]), image)


def test_removed_components_leave_no_ink(tmp_path: Path) -> None:
    """In the archive, components that belong to none of its segments are a single point at 0 0."""
    text = a_character(REMOVED, UP, pen(*LINE_DOWN), UP, REMOVED, delineation="1")
    assert strokes(tmp_path, text) == [as_lists(*LINE_DOWN)]
