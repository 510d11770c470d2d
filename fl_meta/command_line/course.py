"""`fl-meta course`."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter

from fl_meta.command_line.arguments import Subcommands, add_command, add_folder
from fl_meta.command_line.errors import bad_input

COURSE = """\
Write a course from the lessons. OUTPUT/student has notebooks with cells to fill in, folded hints and
checks, and no solutions. OUTPUT/instructor has solutions, expected answers, common misconceptions and
minutes. OUTPUT/data has the recorded results that both read. OUTPUT/slides has a deck for each lesson
with cells tagged for slides, and OUTPUT/quiz its quiz: for Moodle (GIFT), for Canvas and others (QTI),
and as a page.

Nothing is executed. To try the instructors' edition from its first cell to its last:
fl-meta reproduce --notebooks OUTPUT/instructor --output build/course-report
"""


def add_commands(subcommands: Subcommands) -> None:
    """Add the subcommand of this module."""
    summary = "notebooks for students and for instructors, slides and quizzes"
    parser = add_command(subcommands, "course", _course, summary, COURSE)
    parser.add_argument("names", nargs="*", metavar="NAME", help="for example 01_name (default: all)")
    parser.add_argument(
        "--for",
        choices=("otter",),
        dest="grader",
        help="also write the tests with which Otter-Grader marks students' notebooks, into OUTPUT/otter",
    )
    add_folder(parser, "--notebooks", "notebooks", "folder of the lessons")
    add_folder(parser, "--output", "build/course", "folder of the course")


def _course(options: argparse.Namespace) -> int:
    with bad_input():
        from fl_meta.course import build_course, write_otter_tests, write_quizzes, write_slides

        folder, output, names = options.notebooks, options.output, options.names
        written = build_course(folder, output, names)
        written += write_slides(folder, output / "slides", names)
        written += write_quizzes(folder, output / "quiz", names)
        tests = write_otter_tests(folder, output / "otter", names) if options.grader else []
    for parent, files in Counter(path.parent for path in written).items():
        print(f"{parent}: {files} file{'' if files == 1 else 's'}")
    for test in tests:
        print(f"{test}: otter generate -t {shlex.quote(str(test))} -o {test.name}.zip")
    return 0
