"""The command `fl-meta`: assembles the subcommands and runs one of them."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version

from fl_meta.command_line import course, data, notebooks, pages, results, stopping
from fl_meta.command_line.output import prepare_output, report_failure
from fl_meta.support.folders import fix_named_folders

# This package imports nothing heavy at its top: each subcommand imports what it needs when it runs, so that
# --help answers at once.

DESCRIPTION = """\
Understand and rerun "Improving Federated Learning Personalization via Model Agnostic
Meta Learning" (Jiang, Konečný, Rush and Kannan 2019).

Run it in the root of the repository, where the folder notebooks/ is.
"""

EXAMPLES = """\
examples:
  fl-meta reproduce --profile smoke      does everything work? a few minutes
  fl-meta reproduce                      the laptop profile, about four minutes on two cores
  fl-meta verdicts                       the recorded verdicts, and those of the last report
  fl-meta verdicts --json                the same for a program
  fl-meta play                           the playground as a page without code
  fl-meta data list                      the data sets: which are here, and how to get the others
  fl-meta notebooks build 01_name        after a change of notebooks/01_name.py
  fl-meta course                         notebooks for students and for instructors
  fl-meta pages                          pages with sliders that need neither kernel nor network
  fl-meta published --dataset synthetic  our scores beside those that others published
  fl-meta record crossed-writers-stable  compute missing recorded results; takes hours
  fl-meta rerun data/results/NAME.json   compute a recorded result again: does it agree?

exit status:
  0    success
  1    a notebook or a check failed
  2    bad input
  130  stopped with Ctrl-C; by another signal, 128 and its number
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand, by default that of this process's arguments, and return the exit status."""
    prepare_output()
    if arguments is None:
        stopping.stop_in_order()
    try:
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()
    except BaseException as error:
        # A library that a signal interrupts, in its import for example, may raise an error of its own.
        if isinstance(error, KeyboardInterrupt) or stopping.received():
            print("fl-meta: stopped", file=sys.stderr)
            return stopping.exit_status()
        if isinstance(error, OSError):
            return report_failure(error)
        raise
    finally:
        if arguments is None:
            stopping.last_moments()


def _run(given: Sequence[str]) -> int:
    parser = _parser()
    options, unknown = parser.parse_known_args(given)
    if unknown and not options.passes_on_arguments:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    fix_named_folders()
    command_line = os.fsencode(shlex.join(["fl-meta", *given])).decode("utf-8", "replace")
    options.unknown_arguments, options.command_line = unknown, command_line
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fl-meta",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"fl_meta {version('fl_meta')}")
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    notebooks.add_commands(subcommands)
    course.add_commands(subcommands)
    pages.add_commands(subcommands)
    data.add_commands(subcommands)
    results.add_commands(subcommands)
    return parser
