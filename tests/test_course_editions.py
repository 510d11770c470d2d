"""The editions of the lessons: what each leaves out, and that both run."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from small_lesson import LESSON, write_lessons

from fl_meta.course import build_course, write_otter_tests
from fl_meta.course.editions import problems, questions, tags_of
from fl_meta.course.registry import exercise_named
from fl_meta.reproduction import runner
from fl_meta.reproduction.sources import read_source

ROOT = Path(__file__).parent.parent
EDITIONS = ("student", "instructor")


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def text_of(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The editions of the small lessons."""
    folder = tmp_path_factory.mktemp("course")
    build_course(write_lessons(folder), folder / "build" / "course")
    return folder / "build" / "course"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The editions of the project's lessons."""
    output = tmp_path_factory.mktemp("own")
    build_course(ROOT / "notebooks", output)
    return output


def problems_of(lesson: str, tmp_path: Path) -> list[str]:
    source = tmp_path / "01_changed.py"
    source.write_text(lesson, encoding="utf-8")
    return problems(read_source(source))


# --- what an edition holds ------------------------------------------------------------------------------


def test_students_get_blanks_and_instructors_get_solutions(small: Path) -> None:
    student, instructor = (read(small / name / "01_small.ipynb") for name in EDITIONS)
    assert "sent = ..." in text_of(student) and "sent = K" not in text_of(student)
    assert "One gradient for each" not in text_of(student) and "Who says six" not in text_of(student)
    assert "sent = ..." not in text_of(instructor) and "sent = K" in text_of(instructor)
    assert "One gradient for each" in text_of(instructor) and "Who says six" in text_of(instructor)
    for notebook, note in ((student, "for students"), (instructor, "for instructors")):
        assert note in notebook.cells[1].source
        assert '"01.1", sent, K=K' in text_of(notebook) and "Look at the loop" in text_of(notebook)
        assert not any(cell.get("outputs") for cell in notebook.cells)


def test_an_edition_is_the_same_every_time(small: Path, tmp_path: Path) -> None:
    written = build_course(small.parent.parent / "notebooks", tmp_path / "again")
    assert len(written) == 4
    for path in written:
        assert path.read_bytes() == (small / path.relative_to(tmp_path / "again")).read_bytes()


def test_one_lesson_alone_leaves_the_others_as_they_were(small: Path, tmp_path: Path) -> None:
    folder = small.parent.parent / "notebooks"
    assert [path.name for path in build_course(folder, tmp_path, ["02_more"])] == ["02_more.ipynb"] * 2
    with pytest.raises(FileNotFoundError, match="did you mean 02_more"):
        build_course(folder, tmp_path, ["02_mor"])


@pytest.mark.parametrize("edition", EDITIONS)
def test_own_editions_are_whole_notebooks(own: Path, edition: str) -> None:
    folder = own / edition
    paths = sorted(folder.iterdir())
    assert [path.stem for path in paths] == [path.stem for path in runner.find(ROOT / "notebooks", ".py")]
    for path in paths:
        notebook = read(path)
        nbformat.validate(notebook)
        assert {"profile", "seed"} <= set(runner.parameters_of(path))
        text = text_of(notebook)
        for link in re.findall(r"\]\(([^)#]+\.ipynb)", text):
            assert (folder / link).is_file(), f"{path.name} links to {link}"
        for place in re.findall(r'"(\.\./[^"]+)"', text):
            assert any((folder / place).iterdir()), f"{path.name} reads {place}"


def test_own_students_see_no_solution(own: Path) -> None:
    for source in runner.find(ROOT / "notebooks", ".py"):
        shown = text_of(read(own / "student" / f"{source.stem}.ipynb"))
        for cell in read_source(source).cells:
            if {"solution", "instructor"} & set(tags_of(cell)):
                assert cell.source not in shown
        assert "**Solution" not in shown


@pytest.mark.parametrize("edition", EDITIONS)
def test_every_name_in_own_editions_is_defined(own: Path, edition: str) -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "--no-cache"]
    done = subprocess.run([*ruff, own / edition], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_own_exercise_is_asked_with_what_it_needs() -> None:
    for source in runner.find(ROOT / "notebooks", ".py"):
        for question in questions(read_source(source)):
            for needed in exercise_named(question.name).needs:
                assert f"{needed}=" in question.code, f"{source.name}: {question.code} lacks {needed}"


# --- what is wrong with a lesson ------------------------------------------------------------------------


def test_a_good_lesson_has_no_problems(tmp_path: Path) -> None:
    assert problems_of(LESSON, tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("sent = ...", "sent = 0", "a cell to fill in has no `...`: 'sent = 0'"),
        ("sent = ...", "sent = ... gradients", "a cell to fill in is no Python (invalid syntax): "),
        ("sent = ...", "received = ...", "no solution fills in received"),
        ("<details><summary>Hint", "<p>Hint", "a hint begins with <details><summary>Hint</summary>, "),
        ("**Exercise 01.1 ★ ·", "**Exercise 1**", "an exercise begins with **Exercise NN.M ★ · Title.**"),
        ("**Exercise 01.1 ★ ·", "**Exercise 01.1 ★★ ·", "exercise 01.1 has ★ where its answer is judged"),
        ("**Exercise 01.1 ★ ·", "**Exercise 01.2 ★★ ·", "exercise 01.1 has a check, but no cell tagged"),
        ("**Exercise 01.1 ★ ·", "**Exercise 01.2 ★★ ·", "exercise 01.2 has no cell tagged 'check'"),
        ('check.answer("01.1"', 'check.answer("01.111"', "there is no exercise '01.111'; did you mean 01.1"),
        ('check.answer("01.3", fomaml)', "fomaml", "a check calls check.answer('NN.M', …), which 'fomaml'"),
        ('[markdown] tags=["hint"]', 'tags=["hint"]', "a cell tagged 'hint' is code"),
    ],
)
def test_problems_of_a_lesson(old: str, new: str, problem: str, tmp_path: Path) -> None:
    assert LESSON.count(old) >= 1
    found = problems_of(LESSON.replace(old, new), tmp_path)
    assert any(one.startswith(problem) for one in found), found


def test_a_lesson_with_a_problem_writes_nothing(tmp_path: Path) -> None:
    folder = write_lessons(tmp_path, LESSON.replace("sent = ...", "sent = 0"))
    with pytest.raises(ValueError, match=r"01_small\.py: a cell to fill in has no `...`"):
        build_course(folder, tmp_path / "course")
    assert not (tmp_path / "course").exists()


# --- the command ----------------------------------------------------------------------------------------


def test_the_command_says_what_it_wrote(fl_meta: Callable[..., Any], tmp_path: Path) -> None:
    folder, course = write_lessons(tmp_path), tmp_path / "course"
    for source in runner.find(folder, ".py"):
        nbformat.write(read_source(source), source.with_suffix(".ipynb"))
    status, printed, _ = fl_meta("course", "--notebooks", folder, "--output", course)
    assert status == 0
    files = {"student": "2 files", "instructor": "2 files", "slides": "1 file", "quiz": "6 files"}
    assert printed.splitlines() == [f"{course / name}: {count}" for name, count in files.items()]
    assert all((course / name).is_dir() for name in files)
    status, printed, _ = fl_meta(
        "course", "01_small", "--for", "otter", "--notebooks", folder, "--output", course
    )
    tests = course / "otter" / "01_small"
    assert status == 0
    assert printed.splitlines()[-1] == f"{tests}: otter generate -t {tests} -o 01_small.zip"
    status, _, errors = fl_meta("course", "--notebooks", tmp_path / "nowhere")
    assert status == 2 and "no notebook" in errors


# --- marking --------------------------------------------------------------------------------------------


class OtterModule(ModuleType):
    """As much of Otter-Grader as its tests import: a decorator that keeps the function and its points."""

    @staticmethod
    def test_case(points: int) -> Callable[[Callable[..., None]], tuple[int, Callable[..., None]]]:
        return lambda function: (points, function)


def test_marks_by_the_checks_of_the_lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [folder] = write_otter_tests(write_lessons(tmp_path), tmp_path / "otter")
    assert [path.name for path in sorted(folder.iterdir())] == ["01_1.py", "01_3.py"]
    monkeypatch.setitem(sys.modules, "otter.test_files", OtterModule("otter.test_files"))
    first, third = (runpy.run_path(str(folder / name)) for name in ("01_1.py", "01_3.py"))
    assert (first["OK_FORMAT"], first["name"], first["answer"][0]) == (False, "01.1", 1)
    assert third["answer"][0] == 2
    of_first, of_third = first["answer"][1], third["answer"][1]
    of_first(sent=5, K=5)
    of_third(fomaml=lambda gradients, rate: rate * gradients[-1])
    with pytest.raises(AssertionError, match=r"✘ 01\.1: MAML and FOMAML"):
        of_first(sent=6, K=5)
    with pytest.raises(AssertionError, match="nothing is filled in yet"):
        of_first(sent=..., K=5)
    with pytest.raises(AssertionError, match="the function returns nothing yet"):
        of_third(fomaml=lambda gradients, rate: None)


def test_lessons_without_checks_have_nothing_to_mark(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has a cell tagged 'check', so there is nothing to mark"):
        write_otter_tests(write_lessons(tmp_path), tmp_path / "otter", ["02_more"])


# --- both run -------------------------------------------------------------------------------------------


def outputs_of(path: Path) -> list[str]:
    """The text of every output, cell by cell."""
    return [
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in read(path).cells
        for output in cell.get("outputs", ())
    ]


@pytest.mark.slow
def test_the_instructors_edition_runs_to_its_end(small: Path, tmp_path: Path) -> None:
    path = small / "instructor" / "01_small.ipynb"
    run = runner.run_one(path, tmp_path / path.name, "smoke", path.parent)
    assert not run.failures
    shown = outputs_of(run.path)
    assert "recorded.json\n" in shown and "as many as in two rounds: 10\n" in shown
    assert [line for line in shown if "✔" in line] == ["✔ 01.1: right.", "✔ 01.3: right."]


@pytest.mark.slow
def test_the_students_edition_runs_up_to_the_blank(small: Path, tmp_path: Path) -> None:
    path = small / "student" / "01_small.ipynb"
    run = runner.run_one(path, tmp_path / path.name, "smoke", path.parent)
    shown = outputs_of(run.path)
    assert "… 01.1: nothing is filled in yet: replace `...` and run this again." in shown
    assert "… 01.a: you made no prediction; the run gives 0.25." in shown
    [failure] = run.failures
    assert (failure.error, "2 * sent" in failure.source) == ("TypeError", True)


@pytest.mark.slow
def test_a_students_edition_that_is_filled_in_runs_to_its_end(small: Path, tmp_path: Path) -> None:
    notebook = read(small / "student" / "01_small.ipynb")
    filled = {
        "sent = ...": "sent = 5.0",
        '"01.a", ...': '"01.a", 0.5',
        "    ...": "    return gradients[-2] * rate",
    }
    for cell in notebook.cells:
        for old, new in filled.items():
            cell.source = cell.source.replace(old, new) if cell.cell_type == "code" else cell.source
    path = small / "student" / "01_filled_in.ipynb"
    nbformat.write(notebook, path)
    run = runner.run_one(path, tmp_path / path.name, "smoke", path.parent)
    path.unlink()
    assert not run.failures
    shown = "\n".join(outputs_of(run.path))
    assert "✔ 01.1: right." in shown and "lower by 0.25" in shown
    assert "✘ 01.3: This is the gradient of the last local step." in shown
