"""Quizzes: a few questions with one right answer for each lesson, and why the others are wrong.

Those of lesson NN are in `fl_meta/course/quizzes/lesson_NN.toml`:

    title = "Start here"

    [[questions]]
    text = "What leaves a client?"
    right = "Its sum of local steps"
    because = "The server adds …"

    [[questions.wrong]]
    answer = "Its examples"
    because = "No example leaves a client."

Words between backticks are code; there is no other markup. The answers have an order of their own: by the
SHA-256 of the question's name and the answer's text. So it looks like chance, and is the same everywhere.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

FEWEST_QUESTIONS, MOST_QUESTIONS = 5, 8
FEWEST_WRONG = 2


@dataclass(frozen=True)
class Answer:
    """One of the answers to choose from, and the word about it."""

    text: str
    because: str
    is_right: bool


@dataclass(frozen=True)
class Question:
    """A question with its answers, in the order in which they are shown."""

    name: str
    text: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Quiz:
    """The quiz of a lesson.

    Attributes:
        lesson: its number, "01".
        title: the lesson's.
        questions: named "01.q1" and so on.
    """

    lesson: str
    title: str
    questions: tuple[Question, ...]


def quiz_of(lesson: str) -> Quiz | None:
    """The quiz of a lesson by its number, "01"; None if it has none."""
    source = resources.files("fl_meta.course") / "quizzes" / f"lesson_{lesson}.toml"
    return read_quiz(source.read_text(encoding="utf-8"), lesson) if source.is_file() else None


def read_quiz(text: str, lesson: str) -> Quiz:
    """Read a quiz from TOML.

    Raises:
        ValueError: if something is missing, or does not make a quiz; the message says what.

    Example:
        >>> wrong = '[[questions.wrong]]\\nanswer = "{}"\\nbecause = "Count."\\n'
        >>> one = '[[questions]]\\ntext = "2 + 2?"\\nright = "4"\\nbecause = "Count."\\n'
        >>> one += wrong.format(3) + wrong.format(5)
        >>> quiz = read_quiz('title = "Sums"\\n' + 5 * one, "99")
        >>> quiz.questions[0].name, sorted(answer.text for answer in quiz.questions[0].answers)
        ('99.q1', ['3', '4', '5'])
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the quiz of lesson {lesson} is no TOML: {error}") from None
    found = list(_problems(table))
    if found:
        raise ValueError("\n".join(f"the quiz of lesson {lesson}: {one}" for one in found))
    questions = tuple(
        _question(f"{lesson}.q{number}", one) for number, one in enumerate(table["questions"], start=1)
    )
    return Quiz(lesson, table["title"], questions)


def _question(name: str, table: dict[str, Any]) -> Question:
    answers = [Answer(table["right"], table["because"], True)]
    answers += [Answer(one["answer"], one["because"], False) for one in table["wrong"]]

    def place(answer: Answer) -> str:
        return hashlib.sha256(f"{name} {answer.text}".encode()).hexdigest()

    return Question(name, table["text"], tuple(sorted(answers, key=place)))


def _problems(table: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a quiz's table."""
    yield from _other_keys(table, {"title": str, "questions": list}, "the file")
    questions = table.get("questions")
    if not isinstance(questions, list):
        return
    if not FEWEST_QUESTIONS <= len(questions) <= MOST_QUESTIONS:
        yield f"it has {len(questions)} questions, not {FEWEST_QUESTIONS} to {MOST_QUESTIONS}"
    for number, one in enumerate(questions, start=1):
        where = f"question {number}"
        wrong = one.get("wrong")
        yield from _other_keys(one, {"text": str, "right": str, "because": str, "wrong": list}, where)
        if not isinstance(wrong, list):
            continue
        if len(wrong) < FEWEST_WRONG:
            yield f"{where} has {len(wrong)} wrong answers, not at least {FEWEST_WRONG}"
        for other in wrong:
            yield from _other_keys(other, {"answer": str, "because": str}, f"a wrong answer to {where}")
        texts = [one.get("right"), *(other.get("answer") for other in wrong)]
        if len(set(texts)) < len(texts):
            yield f"{where} has the same answer twice"


def _other_keys(table: dict[str, Any], keys: dict[str, type], where: str) -> Iterator[str]:
    for key, kind in keys.items():
        if not isinstance(table.get(key), kind) or not table[key]:
            yield f"{where} needs {key}"
    for key in table.keys() - keys.keys():
        yield f"{where} has {key!r}, which means nothing"
