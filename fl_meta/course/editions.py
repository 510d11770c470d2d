"""Two editions of every lesson from its one source: for students, with blanks, and for instructors.

Tags of cells decide. A cell without one of these is in both.

| tag          | cell     | what it holds                                                  | left out of    |
|--------------|----------|----------------------------------------------------------------|----------------|
| `exercise`   | markdown | `**Exercise 01.2 ★★ · Title.**` and the question               |                |
| `prediction` | code     | `check.predict("01.a", ...)`                                   |                |
| `fill-in`    | code     | what students see, with `...` where they write                 | the instructor |
| `hint`       | markdown | one or more hints, each folded: `<details><summary>Hint</summary>` |            |
| `solution`   | both     | a right answer, under the names of the blanks                  | the student    |
| `check`      | code     | `check.answer("01.2", answer, K=K)`, after the solution        |                |
| `instructor` | both     | expected answers, misconceptions, minutes                      | the student    |
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from fl_meta.course.registry import exercise_named
from fl_meta.reproduction.sources import choose_sources, read_source
from fl_meta.support.atomic_files import write_atomically

KIND_OF_TAG = {
    "exercise": ("markdown",),
    "prediction": ("code",),
    "fill-in": ("code",),
    "hint": ("markdown",),
    "solution": ("code", "markdown"),
    "check": ("code",),
    "instructor": ("code", "markdown"),
}
"""The tags of the course, and the types of cell that may have each."""

HEADING = re.compile(r"\*\*Exercise (\d\d\.\d+) (★{1,3}) · ")
FOLDED = "<details><summary>Hint"


@dataclass(frozen=True)
class Edition:
    """What makes an edition: the tags of cells that it leaves out, and what it says about itself."""

    name: str
    leaves_out: str
    note: str


STUDENT = Edition(
    "student",
    "solution instructor",
    "*Edition for students.* Write where you see `...`, and run the cells from the top. A check says "
    "✔ (right), ✘ (and what is off) or … (nothing filled in yet). Until you have filled in a blank, cells "
    "that use it may fail. Keep your work under another name: `make course` writes this file again.",
)
INSTRUCTOR = Edition(
    "instructor",
    "fill-in",
    "*Edition for instructors.* The solutions are where students have blanks, followed by expected answers, "
    "common misconceptions and minutes. To run all of it: `fl-meta reproduce --notebooks` with this folder.",
)
EDITIONS = (STUDENT, INSTRUCTOR)


def tags_of(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", ()))


@dataclass(frozen=True)
class Question:
    """A call of `check.answer` in a notebook.

    Attributes:
        name: of the exercise.
        code: the call.
        uses: the names that it takes from the notebook, in their order.
    """

    name: str
    code: str
    uses: tuple[str, ...]


def questions(notebook: NotebookNode) -> list[Question]:
    """The checks of a notebook, in their order."""
    return [
        question for cell in notebook.cells if "check" in tags_of(cell) for question in _asked(cell.source)
    ]


def read_lessons(folder: Path, names: Sequence[str] = ()) -> dict[str, NotebookNode]:
    """The lessons of a folder by the names of their sources; all of them if there are no `names`.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if a source has something wrong with its exercises; the message says what.
    """
    lessons = {source.stem: read_source(source) for source in choose_sources(folder, names)}
    wrong = [f"{name}.py: {one}" for name, lesson in lessons.items() for one in problems(lesson)]
    if wrong:
        raise ValueError("\n".join(wrong))
    return lessons


def build_course(folder: Path, output: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write both editions of the lessons, into `output/student` and `output/instructor`.

    They are not executed. Recorded results are copied to `output/data/results`, so that the folder can be
    given away as it is: from an edition they are at ../data/results, as from `folder`.

    Args:
        folder: with the sources, `NN_name.py`.
        output: where the editions go; those there are written again.
        names: of some lessons, as in `choose_sources`; all of them if there are none.

    Returns:
        The paths of the notebooks.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if a source has something wrong with its exercises; the message says what.

    Example:
        >>> build_course(Path("notebooks"), Path("build/course"))  # doctest: +SKIP
    """
    lessons = read_lessons(folder, names)
    written: list[Path] = []
    for edition in EDITIONS:
        for name, notebook in lessons.items():
            target = output / edition.name / f"{name}.ipynb"
            text = nbformat.writes(edition_of(notebook, edition)) + "\n"
            write_atomically(target, partial(Path.write_text, data=text, encoding="utf-8"))
            written.append(target)
    for result in sorted((folder.parent / "data" / "results").glob("*.json")):
        target = output / "data" / "results" / result.name
        write_atomically(target, partial(shutil.copyfile, result))
    return written


def edition_of(notebook: NotebookNode, edition: Edition) -> NotebookNode:
    """An edition of a lesson: without the cells that it leaves out, and with its note below the title."""
    kept = [cell for cell in notebook.cells if not set(tags_of(cell)) & set(edition.leaves_out.split())]
    note = nbformat.v4.new_markdown_cell(edition.note, id=f"edition-{edition.name}")
    copy: NotebookNode = nbformat.from_dict({**notebook, "cells": [*kept[:1], note, *kept[1:]]})
    return copy


def problems(notebook: NotebookNode) -> list[str]:
    """What is wrong with the exercises of a lesson; an empty list if nothing is."""
    found: list[str] = []
    headings: dict[str, int] = {}
    for cell in notebook.cells:
        found += _problems_of_cell(cell)
        if "exercise" in tags_of(cell) and (heading := HEADING.search(cell.source)):
            headings[heading[1]] = len(heading[2])
    asked = questions(notebook)
    for question in asked:
        try:
            exercise = exercise_named(question.name)
        except ValueError as error:
            found.append(str(error))
            continue
        if question.name not in headings:
            found.append(f"exercise {question.name} has a check, but no cell tagged 'exercise' asks it")
        elif headings[question.name] != exercise.stars:
            stars = "★" * exercise.stars
            found.append(
                f"exercise {question.name} has {stars} where its answer is judged, and other stars here"
            )
    for name in headings.keys() - {question.name for question in asked}:
        found.append(f"exercise {name} has no cell tagged 'check' with check.answer({name!r}, …)")
    blanks = {
        name for cell in notebook.cells if "fill-in" in tags_of(cell) for name in _assigned(cell.source)
    }
    solved = {
        name for cell in notebook.cells if _is_code(cell, "solution") for name in _assigned(cell.source)
    }
    found += [f"no solution fills in {name}" for name in sorted(blanks - solved)]
    return found


def _problems_of_cell(cell: NotebookNode) -> Iterator[str]:
    begin = repr(cell.source.partition("\n")[0])
    for tag in tags_of(cell):
        kinds = KIND_OF_TAG.get(tag)
        if kinds and cell.cell_type not in kinds:
            yield f"a cell tagged {tag!r} is {cell.cell_type}: {begin}"
            return
    if "exercise" in tags_of(cell) and not HEADING.search(cell.source):
        yield f"an exercise begins with **Exercise NN.M ★ · Title.**, not with {begin}"
    if "hint" in tags_of(cell) and not cell.source.startswith(FOLDED):
        yield f"a hint begins with {FOLDED}</summary>, so that it is folded, not with {begin}"
    if "fill-in" in tags_of(cell):
        try:
            tree = ast.parse(cell.source)
        except SyntaxError as error:
            yield f"a cell to fill in is no Python ({error.msg}): {begin}"
            return
        if not any(isinstance(node, ast.Constant) and node.value is ... for node in ast.walk(tree)):
            yield f"a cell to fill in has no `...`: {begin}"
    if "check" in tags_of(cell) and not _asked(cell.source):
        yield f"a check calls check.answer('NN.M', …), which {begin} does not"


def _is_code(cell: NotebookNode, tag: str) -> bool:
    return cell.cell_type == "code" and tag in tags_of(cell)


def _asked(source: str) -> list[Question]:
    asked = []
    for node in ast.walk(_parsed(source)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="check"), attr="answer"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                uses = [
                    inner.id
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Name) and inner.id != "check"
                ]
                asked.append(Question(name, ast.unparse(node), tuple(dict.fromkeys(uses))))
    return asked


def _parsed(source: str) -> ast.Module:
    """The cell's program; an empty one if it is none, as a cell with a magic is."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.parse("")


def _assigned(source: str) -> set[str]:
    """The names that a cell defines at its top level."""
    names = set()
    for node in _parsed(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
            }
    return names
