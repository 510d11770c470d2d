"""The texts of lessons: no typed results, not too long, formulas that can be drawn."""

import re
from pathlib import Path

import nbformat
import pytest

from fl_meta.reproduction.accessibility import make_accessible, undescribed
from fl_meta.reproduction.formulas import FORMULA, formulas, with_pictures
from fl_meta.reproduction.runner import PROSE

FOLDER = Path(__file__).parent.parent / "notebooks"
# The lessons whose texts have been written by these rules; the list grows.
LESSONS = (
    "00_start_here",
    "01_fedavg_is_meta_learning",
    "02_initial_and_personalized",
    "03_personalized_fedavg",
    "04_global_accuracy_is_not_the_goal",
    "05_centralized_training",
    "06_next_character",
    "07_benchmarks",
    "08_playground",
)
MOST_WORDS = 1200

# A decimal number, or a whole one with a unit of a result. Not the name of an exercise, which is bold.
TYPED = re.compile(r"\d+[.,]\d+|\d+(?: %| per cent| points?| times)")
GIVEN = re.compile(
    r"`[^`]*`"  # code and settings
    r"|\]\([^)]*\)"  # where a link leads
    r"|arXiv [\d.]+"
    r"|(?:Exercise|Solution) \d\d\.\d+"
    r"|95 % interval"
)


def texts_of(name: str) -> list[str]:
    """What readers of a lesson read: its Markdown and the sentences with computed numbers, no solutions."""
    texts = []
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells:
        tags = cell.metadata.get("tags", ())
        if {"solution", "instructor"} & set(tags):
            continue
        if cell.cell_type == "markdown":
            texts.append(cell.source)
        elif PROSE in tags:
            texts += [output.data["text/markdown"] for output in cell.outputs]
    return texts


def typed_numbers(text: str) -> list[str]:
    return TYPED.findall(GIVEN.sub(" ", FORMULA.sub(" ", text)))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("one epoch adds 8.3 points", ["8.3"]),
        ("the gap is 12 points, or 40 %", ["12 points", "40 %"]),
        ("it is 4 times as long", ["4 times"]),
        ("in 2019, 62 classes, 5 epochs", []),
        ("at $\\beta = 0.05$ and `rate=0.1`, [here](page_1.5.html)", []),
        ("$$x = 0.5$$ **Exercise 01.2 ★ · Try.**", []),
    ],
)
def test_a_typed_number_is_found_and_a_setting_is_not(text: str, numbers: list[str]) -> None:
    assert typed_numbers(text) == numbers


@pytest.mark.parametrize("name", LESSONS)
def test_no_result_in_the_text_of_a_lesson_is_typed(name: str) -> None:
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not typed_numbers(cell.source), cell.source


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_can_be_read_in_twenty_minutes(name: str) -> None:
    text = re.sub(r"\]\([^)]*\)|<[^>]*>", " ", FORMULA.sub(" ", "\n".join(texts_of(name))))
    words = re.findall(r"[^\W\d][\w'’-]*", text)
    assert len(words) <= MOST_WORDS


@pytest.mark.parametrize("name", LESSONS)
def test_the_numbers_of_a_lesson_are_sentences_without_code(name: str) -> None:
    cells = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    prose = [cell for cell in cells if PROSE in cell.metadata.get("tags", ())]
    assert prose
    for cell in prose:
        assert cell.metadata.jupyter.source_hidden
        assert not re.search(r"\bnan\b|\binf\b", cell.outputs[0].data["text/markdown"])


@pytest.mark.parametrize("name", LESSONS)
def test_every_figure_of_a_lesson_has_an_alternative_text(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    make_accessible(notebook)
    assert not undescribed(notebook)
    assert not any("# alt:" in cell.source for cell in notebook.cells), "it begins its cell"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_can_be_drawn(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            drawn = with_pictures(cell.source)
            assert drawn.count('src="data:image/svg+xml') == len(formulas(cell.source))
            assert not formulas(drawn)
