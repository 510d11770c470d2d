"""Files with which Otter-Grader marks students' notebooks: a test for each check, a point for each star.

Otter runs a notebook, blanks and errors included, and calls the same checks as the student. So what is right
is written down once, and a remark on an answer is the word that the student has read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fl_meta.course.editions import Question, questions, read_lessons
from fl_meta.course.registry import exercise_named
from fl_meta.support.atomic_files import write_atomically

TEST = """\
from otter.test_files import test_case

OK_FORMAT = False

name = "{name}"
points = {stars}


@test_case(points={stars})
def answer({uses}):
    from fl_meta.course import check

    reply = {code}
    assert reply, reply
"""


def write_otter_tests(folder: Path, output: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write the tests for `otter generate` of each lesson that has checks, into `output/NN_name`.

    Args:
        folder: with the sources, `NN_name.py`.
        output: where the folders go, one for each lesson.
        names: of some lessons; all of them if there are none.

    Returns:
        The folders of the lessons.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if a source has something wrong with its exercises, or none has a check.

    Example:
        >>> write_otter_tests(Path("notebooks"), Path("build/course/otter"))  # doctest: +SKIP
    """
    lessons = {name: questions(lesson) for name, lesson in read_lessons(folder, names).items()}
    if not any(lessons.values()):
        raise ValueError(f"no lesson in {folder} has a cell tagged 'check', so there is nothing to mark")
    for name, asked in lessons.items():
        for question in asked:
            target = output / name / f"{question.name.replace('.', '_')}.py"
            write_atomically(target, partial(Path.write_text, data=_test(question), encoding="utf-8"))
    return [output / name for name, asked in lessons.items() if asked]


def _test(question: Question) -> str:
    stars = exercise_named(question.name).stars
    return TEST.format(name=question.name, stars=stars, uses=", ".join(question.uses), code=question.code)
