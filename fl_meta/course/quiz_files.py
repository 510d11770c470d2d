"""Quizzes as files: GIFT for Moodle, QTI 1.2 for Canvas and others, and a page to read or print.

Why two formats: Moodle imports GIFT and no QTI. Canvas imports QTI 1.2, and so do Blackboard, Brightspace,
ILIAS and Sakai; fewer of them read version 2.1. The formats are described in Moodle's documentation ("GIFT
format") and in "IMS Question & Test Interoperability: ASI XML Binding Specification, Version 1.2".
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

from fl_meta.course.quiz import Question, Quiz, quiz_of
from fl_meta.reproduction.sources import choose_sources
from fl_meta.support.atomic_files import write_atomically

_QTI = "http://www.imsglobal.org/xsd/ims_qtiasiv1p2"
_PACKAGE = "http://www.imsglobal.org/xsd/imscp_v1p1"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that ZIP knows, so that a file is always the same

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quiz {lesson} · {title}</title>
<style>
body {{ max-width: 44em; margin: 2em auto; padding: 0 1em; font: 1rem/1.5 system-ui, sans-serif; }}
ol ol {{ list-style: upper-alpha; }}
details {{ margin: 0.5em 0 1.5em; }}
@media print {{ details {{ display: none; }} li {{ break-inside: avoid; }} }}
</style>
</head>
<body>
<h1>{lesson} · {title}</h1>
<ol>
{questions}
</ol>
</body>
</html>
"""


def write_quizzes(folder: Path, output: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write the quizzes of lessons in every format: `NN.gift`, `NN-qti.zip` and `NN.html`.

    Args:
        folder: with the sources, `NN_name.py`.
        output: where the files go.
        names: of some lessons, as in `choose_sources`; all of them if there are none.

    Returns:
        The paths of the files.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if there is something wrong with a quiz; the message says what.

    Example:
        >>> write_quizzes(Path("notebooks"), Path("build/course/quiz"))  # doctest: +SKIP
    """
    lessons = [source.stem[:2] for source in choose_sources(folder, names)]
    quizzes = [quiz for lesson in lessons if (quiz := quiz_of(lesson))]
    formats: dict[str, Callable[[Quiz], bytes]] = {
        ".gift": lambda quiz: gift(quiz).encode(),
        "-qti.zip": qti_package,
        ".html": lambda quiz: page(quiz).encode(),
    }
    written = []
    for quiz in quizzes:
        for ending, form in formats.items():
            target = output / f"{quiz.lesson}{ending}"
            write_atomically(target, partial(Path.write_bytes, data=form(quiz)))
            written.append(target)
    return written


def html(text: str) -> str:
    """A text with code between backticks, as HTML.

    Example:
        >>> html("is `a < b`?")
        'is <code>a &lt; b</code>?'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def gift(quiz: Quiz) -> str:
    """A quiz in Moodle's GIFT."""
    parts = [f"$CATEGORY: fl_meta/{quiz.lesson} {_in_category(quiz.title)}"]
    for question in quiz.questions:
        answers = "".join(
            f"\t{'=' if answer.is_right else '~'}{_in_gift(answer.text)}#{_in_gift(answer.because)}\n"
            for answer in question.answers
        )
        parts.append(f"::{question.name}::[html]{_in_gift(question.text)} {{\n{answers}}}")
    return "\n\n".join(parts) + "\n"


def _in_gift(text: str) -> str:
    return re.sub(r"([\\~=#{}:])", r"\\\1", html(text))


def _in_category(title: str) -> str:
    # In the name of a category two slashes stand for one.
    return title.replace("/", "//")


def qti_package(quiz: Quiz) -> bytes:
    """A quiz as a ZIP archive with a manifest and an assessment in QTI 1.2."""
    name = f"quiz_{quiz.lesson}"
    manifest = ElementTree.Element("manifest", {"xmlns": _PACKAGE, "identifier": f"{name}_manifest"})
    metadata = _add(manifest, "metadata")
    _add(metadata, "schema").text = "IMS Content"
    _add(metadata, "schemaversion").text = "1.1.3"
    _add(manifest, "organizations")
    file = f"{name}/{name}.xml"
    resources = _add(manifest, "resources")
    resource = _add(resources, "resource", identifier=name, type="imsqti_xmlv1p2")
    _add(resource, "file", href=file)
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, root in (("imsmanifest.xml", manifest), (file, qti(quiz))):
            ElementTree.indent(root)
            text = ElementTree.tostring(root, "utf-8", xml_declaration=True)
            archive.writestr(zipfile.ZipInfo(path, _LONG_AGO), text)
    return buffer.getvalue()


def qti(quiz: Quiz) -> ElementTree.Element:
    """A quiz as an assessment in QTI 1.2."""
    root = ElementTree.Element("questestinterop", {"xmlns": _QTI})
    title = f"{quiz.lesson} · {quiz.title}"
    assessment = _add(root, "assessment", ident=f"quiz_{quiz.lesson}", title=title)
    section = _add(assessment, "section", ident="root_section")
    for question in quiz.questions:
        _add_item(section, question)
    return root


def _add_item(section: ElementTree.Element, question: Question) -> None:
    item = _add(section, "item", ident=f"question_{question.name.replace('.', '_')}", title=question.name)
    fields = _add(_add(item, "itemmetadata"), "qtimetadata")
    for label, entry in (("question_type", "multiple_choice_question"), ("points_possible", "1")):
        field = _add(fields, "qtimetadatafield")
        _add(field, "fieldlabel").text = label
        _add(field, "fieldentry").text = entry
    presentation = _add(item, "presentation")
    _add_text(presentation, question.text)
    response = _add(presentation, "response_lid", ident="response", rcardinality="Single")
    choices = _add(response, "render_choice")
    processing = _add(item, "resprocessing")
    outcomes = _add(processing, "outcomes")
    _add(outcomes, "decvar", varname="SCORE", vartype="Decimal", minvalue="0", maxvalue="100")
    named = {f"answer_{letter}": answer for letter, answer in zip("abcdefgh", question.answers, strict=False)}
    for ident, answer in named.items():
        _add_text(_add(choices, "response_label", ident=ident), answer.text)
        chosen = _add_condition(processing, ident, goes_on="Yes")
        _add(chosen, "displayfeedback", feedbacktype="Response", linkrefid=f"{ident}_fb")
        _add_text(_add(_add(item, "itemfeedback", ident=f"{ident}_fb"), "flow_mat"), answer.because)
    (right,) = (ident for ident, answer in named.items() if answer.is_right)
    _add(
        _add_condition(processing, right, goes_on="No"), "setvar", action="Set", varname="SCORE"
    ).text = "100"


def _add_condition(processing: ElementTree.Element, chosen: str, *, goes_on: str) -> ElementTree.Element:
    condition = _add(processing, "respcondition", {"continue": goes_on})
    _add(_add(condition, "conditionvar"), "varequal", respident="response").text = chosen
    return condition


def _add(
    parent: ElementTree.Element, tag: str, attributes: dict[str, str] | None = None, **more: str
) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, {**(attributes or {}), **more})


def _add_text(parent: ElementTree.Element, text: str) -> None:
    _add(_add(parent, "material"), "mattext", texttype="text/html").text = f"<p>{html(text)}</p>"


def page(quiz: Quiz) -> str:
    """A quiz as a page: the answers are folded, and are not printed."""
    return _PAGE.format(
        lesson=quiz.lesson,
        title=escape(quiz.title),
        questions="\n".join(_on_page(question) for question in quiz.questions),
    )


def _on_page(question: Question) -> str:
    choices = "".join(f"<li>{html(answer.text)}</li>\n" for answer in question.answers)
    words = "".join(
        f"<li>{'✔' if answer.is_right else '✘'} {html(answer.because)}</li>\n" for answer in question.answers
    )
    return (
        f"<li>{html(question.text)}\n<ol>\n{choices}</ol>\n"
        f"<details><summary>Answer</summary>\n<ol>\n{words}</ol>\n</details></li>"
    )
