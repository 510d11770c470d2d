"""`fl-meta course`."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter

from fl_meta.command_line.arguments import Subcommands, add_command, add_folder
from fl_meta.command_line.errors import bad_input

COURSE = """\
Write two editions of the lessons from their sources. OUTPUT/student has cells to fill in, folded
hints and checks, and no solutions. OUTPUT/instructor has solutions, expected answers, common
misconceptions and minutes. OUTPUT/data has the recorded results that both read.

Nothing is executed. To try the instructors' edition from its first cell to its last:
fl-meta reproduce --notebooks OUTPUT/instructor --output build/course-report
"""


def add_commands(subcommands: Subcommands) -> None:
    """Add the subcommand of this module."""
    summary = "notebooks for students, with blanks and checks, and for instructors"
    parser = add_command(subcommands, "course", _course, summary, COURSE)
    parser.add_argument("names", nargs="*", metavar="NAME", help="for example 01_name (default: all)")
    parser.add_argument(
        "--for",
        choices=("otter",),
        dest="grader",
        help="also write the tests with which Otter-Grader marks students' notebooks, into OUTPUT/otter",
    )
    add_folder(parser, "--notebooks", "notebooks", "folder of the sources")
    add_folder(parser, "--output", "build/course", "folder of the editions")


def _course(options: argparse.Namespace) -> int:
    with bad_input():
        from fl_meta.course import build_course, write_otter_tests

        written = build_course(options.notebooks, options.output, options.names)
        tests = []
        if options.grader:
            tests = write_otter_tests(options.notebooks, options.output / "otter", options.names)
    for folder, notebooks in Counter(path.parent for path in written).items():
        print(f"{folder}: {notebooks} notebook{'' if notebooks == 1 else 's'}")
    for folder in tests:
        print(f"{folder}: otter generate -t {shlex.quote(str(folder))} -o {folder.name}.zip")
    return 0
