"""Quizzes: what makes one, the files for learning platforms, and the lessons' own."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fl_meta.course import write_quizzes
from fl_meta.course.quiz import Quiz, quiz_of, read_quiz
from fl_meta.course.quiz_files import gift, page, qti, qti_package

ROOT = Path(__file__).parent.parent
LESSONS = sorted(path.stem[:2] for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
QTI = {"": "http://www.imsglobal.org/xsd/ims_qtiasiv1p2"}

# Everything that a format could take for its own: ~ = # { } : \ & < > and a percent sign.
FIRST = r"""
[[questions]]
text = "Is `a < b`: {x = 1} & y?"
right = "~yes = so#"
because = "a: 1 < 2"
[[questions.wrong]]
answer = "no"
because = "100 % \\wrong"
[[questions.wrong]]
answer = "perhaps -> not"
because = "It is > 0."
"""
OTHER = """
[[questions]]
text = "Question {number}?"
right = "right"
because = "It is."
[[questions.wrong]]
answer = "wrong"
because = "It is not."
[[questions.wrong]]
answer = "wrong as well"
because = "Nor is this."
"""
SMALL = 'title = "A & B"\n' + FIRST + "".join(OTHER.replace("{number}", str(n)) for n in range(2, 6))


@pytest.fixture
def small() -> Quiz:
    return read_quiz(SMALL, "99")


# --- what makes a quiz ----------------------------------------------------------------------------------


def test_a_quiz_has_its_questions_in_order_and_its_answers_in_one_of_their_own(small: Quiz) -> None:
    assert (small.lesson, small.title) == ("99", "A & B")
    assert [question.name for question in small.questions] == [f"99.q{n}" for n in range(1, 6)]
    assert [question.text for question in small.questions[1:]] == [f"Question {n}?" for n in range(2, 6)]
    for question in small.questions[1:]:
        assert {(one.text, one.because, one.is_right) for one in question.answers} == {
            ("right", "It is.", True),
            ("wrong", "It is not.", False),
            ("wrong as well", "Nor is this.", False),
        }
    places = {[one.is_right for one in question.answers].index(True) for question in small.questions}
    assert len(places) > 1, "the right answer is not always in the same place"
    assert read_quiz(SMALL, "99") == small


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('title = "A & B"', "", "the quiz of lesson 99: the file needs title"),
        ('because = "a: 1 < 2"', "", "question 1 needs because"),
        ('because = "100', 'why = "100', "a wrong answer to question 1 needs because"),
        ('because = "100', 'why = "100', "a wrong answer to question 1 has 'why', which means nothing"),
        ('answer = "wrong"', 'answer = "right"', "question 2 has the same answer twice"),
        (
            '[[questions.wrong]]\nanswer = "wrong"\nbecause = "It is not."\n',
            "",
            "question 2 has 1 wrong answers",
        ),
        (OTHER.replace("{number}", "3"), "", "it has 4 questions, not 5 to 8"),
        (OTHER.replace("{number}", "3"), 4 * OTHER + OTHER, "it has 9 questions, not 5 to 8"),
        ("title", "title = ", "the quiz of lesson 99 is no TOML"),
    ],
)
def test_what_is_wrong_with_a_quiz(old: str, new: str, problem: str) -> None:
    assert old in SMALL
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_quiz(SMALL.replace(old, new), "99")


# --- the files ------------------------------------------------------------------------------------------


def test_gift_by_hand(small: Quiz) -> None:
    category, first, second = gift(small).split("\n\n")[:3]
    assert category == "$CATEGORY: fl_meta/99 A & B"
    lines = first.splitlines()
    assert lines[0] == r"::99.q1::[html]Is <code>a &lt; b</code>\: \{x \= 1\} &amp; y? {"
    assert set(lines[1:-1]) == {
        "\t=" + r"\~yes \= so\##a\: 1 &lt; 2",
        "\t~" + r"no#100 % \\wrong",
        "\t~" + r"perhaps -&gt; not#It is &gt; 0.",
    }
    assert lines[-1] == "}"
    assert second.startswith("::99.q2::[html]Question 2? {\n\t") and second.count("\t=right#It is.\n") == 1


def read_item(item: ElementTree.Element) -> tuple[str, dict[str, tuple[str, str]], list[str]]:
    """A question as a platform reads it: its text, its answers with feedback, and those that score."""

    def text(place: str) -> str:
        (found,) = item.findall(place, QTI)
        return found.text or ""

    answers = {}
    for label in item.findall("presentation/response_lid/render_choice/response_label", QTI):
        ident = label.attrib["ident"]
        chosen = f"resprocessing/respcondition[conditionvar='{ident}']"
        shown = [
            one.find("displayfeedback", QTI)
            for one in item.findall("resprocessing/respcondition", QTI)
            if one.findtext("conditionvar/varequal", "", QTI) == ident and one.attrib["continue"] == "Yes"
        ]
        assert len(shown) == 1 and shown[0] is not None, chosen
        feedback = text(f"itemfeedback[@ident='{shown[0].attrib['linkrefid']}']/flow_mat/material/mattext")
        answers[ident] = (label.findtext("material/mattext", "", QTI), feedback)
    scoring = [
        one.findtext("conditionvar/varequal", "", QTI)
        for one in item.findall("resprocessing/respcondition", QTI)
        if one.findtext("setvar", "", QTI) == "100"
    ]
    return text("presentation/material/mattext"), answers, scoring


def test_qti_by_hand(small: Quiz) -> None:
    with zipfile.ZipFile(io.BytesIO(qti_package(small))) as package:
        manifest = ElementTree.fromstring(package.read("imsmanifest.xml"))
        (file,) = manifest.iter("{http://www.imsglobal.org/xsd/imscp_v1p1}file")
        root = ElementTree.fromstring(package.read(file.attrib["href"]))
        assert set(package.namelist()) == {"imsmanifest.xml", file.attrib["href"]}
    (assessment,) = root
    assert assessment.attrib == {"ident": "quiz_99", "title": "99 · A & B"}
    items = assessment.findall("section/item", QTI)
    assert len(items) == len({item.attrib["ident"] for item in items}) == 5
    text, answers, scoring = read_item(items[0])
    assert text == "<p>Is <code>a &lt; b</code>: {x = 1} &amp; y?</p>"
    assert set(answers.values()) == {
        ("<p>~yes = so#</p>", "<p>a: 1 &lt; 2</p>"),
        ("<p>no</p>", "<p>100 % \\wrong</p>"),
        ("<p>perhaps -&gt; not</p>", "<p>It is &gt; 0.</p>"),
    }
    (right,) = scoring
    assert answers[right][0] == "<p>~yes = so#</p>"


def test_qti_has_the_parts_of_an_item_in_the_order_of_the_specification(small: Quiz) -> None:
    order = ["itemmetadata", "presentation", "resprocessing", "itemfeedback", "itemfeedback", "itemfeedback"]
    root = ElementTree.fromstring(ElementTree.tostring(qti(small)))
    for item in root.findall("assessment/section/item", QTI):
        assert [part.tag.partition("}")[2] for part in item] == order
        for condition in item.findall("resprocessing/respcondition", QTI):
            assert condition[0].tag.endswith("}conditionvar") and len(condition) == 2


class Folded(HTMLParser):
    """The words of a page outside and inside its folded parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open = 0
        self.words: dict[bool, str] = {False: "", True: ""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open += tag == "details"

    def handle_endtag(self, tag: str) -> None:
        self.open -= tag == "details"

    def handle_data(self, data: str) -> None:
        self.words[bool(self.open)] += data


def test_a_page_shows_questions_and_folds_what_is_right(small: Quiz) -> None:
    words = Folded(page(small)).words
    assert "Is a < b: {x = 1} & y?" in words[False] and "~yes = so#" in words[False]
    assert "a: 1 < 2" in words[True] and "✔" in words[True] and "✔" not in words[False]


def test_quizzes_of_chosen_lessons_are_the_same_every_time(tmp_path: Path) -> None:
    written = write_quizzes(ROOT / "notebooks", tmp_path / "one", ["01_fedavg_is_meta_learning"])
    assert [path.name for path in written] == ["01.gift", "01-qti.zip", "01.html"]
    write_quizzes(ROOT / "notebooks", tmp_path / "two")
    assert len(list((tmp_path / "two").iterdir())) == 3 * len(LESSONS)
    for path in written:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


# --- the lessons' own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lesson", LESSONS)
def test_an_own_quiz_cannot_be_passed_without_reading(lesson: str) -> None:
    quiz = quiz_of(lesson)
    assert quiz, "a lesson has a quiz"
    right = [[one.is_right for one in question.answers].index(True) for question in quiz.questions]
    longest = [max(question.answers, key=lambda one: len(one.text)).is_right for question in quiz.questions]
    half = len(quiz.questions) / 2
    assert max(Counter(right).values()) <= half, "the right answer is mostly in one place"
    assert 1 <= sum(longest) <= half, "its length gives the right answer away"


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_answer_of_an_own_quiz_is_explained_in_words_of_its_own(lesson: str) -> None:
    quiz = quiz_of(lesson)
    assert quiz
    words = [one.because for question in quiz.questions for one in question.answers]
    assert len(set(words)) == len(words)
    for question in quiz.questions:
        assert question.text.endswith("?")
        for answer in question.answers:
            assert not answer.text.startswith("%"), "GIFT reads a weight"
            assert answer.because[-1] in ".?" and len(answer.because.split()) >= 4
