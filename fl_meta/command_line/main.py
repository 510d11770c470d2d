"""The command line `fl-meta`; the Makefile calls nothing else."""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fl_meta.command_line.data import CHECK, DATA, FETCH, _data_check, _data_fetch, _data_list
from fl_meta.command_line.notebooks import (
    NOTEBOOKS,
    REPRODUCE,
    _build,
    _check,
    _lab,
    _play,
    _reproduce,
    _verdicts,
)
from fl_meta.command_line.results import BENCH, RECORD, RERUN, _bench, _record, _rerun
from fl_meta.experiments.recorded import RECORDED_EXPERIMENTS
from fl_meta.experiments.settings import PROFILES

# The subcommands import what they need themselves, so that --help answers at once.

DESCRIPTION = """\
Understand and re-run "Improving Federated Learning Personalization via Model Agnostic
Meta Learning" (Jiang, Konečný, Rush and Kannan 2019).

Run it in the root of the repository, where the folders notebooks/ and tests/ are.
"""

EXAMPLES = """\
examples:
  fl-meta reproduce --profile smoke     does everything work? two minutes on two cores
  fl-meta reproduce                     the laptop profile, about 13 minutes
  fl-meta verdicts                      the verdicts of the last report, as a table
  fl-meta verdicts --json               the same for a program
  fl-meta lab                           read and change the notebooks in JupyterLab
  fl-meta play                          the playground as a page without code
  fl-meta data list                     the data sets: which are here, and how to get the others
  fl-meta notebooks build 01_name       after a change of notebooks/01_name.py
  fl-meta bench --dataset synthetic     a row of the published benchmarks: ours | published
  fl-meta record table_one-writers      compute a recorded result, hours; what is there stays
  fl-meta rerun data/results/NAME.json  compute it once more: does it agree?

exit status:
  0 all is well   1 a notebook or test failed, or a result or data set is not as it must be
  2 bad input
  130 stopped with Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status. `arguments` are those of the process if left out.

    Raises:
        SystemExit: with status 2 for bad input, 0 after --help or --version.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options, rest = parser.parse_known_args(given)
    if rest and options.command not in ("lab", "play", "test"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest, options.line = rest, shlex.join(["fl-meta", *given])
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader, `head` say, has seen enough; Python must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("fl-meta: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("fl-meta", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("-V", "--version", action="version", version=f"fl_meta {version('fl_meta')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    def add(name: str, run: Any, line: str, text: str, to: Any = commands) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = to.add_parser(
            name, help=line, description=text, formatter_class=raw, allow_abbrev=False
        )
        one.set_defaults(run=run)
        return one

    def add_folder(to: argparse.ArgumentParser, option: str, default: str, text: str) -> None:
        to.add_argument(
            option, type=Path, default=Path(default), metavar="DIR", help=f"{text} (default: {default})"
        )

    one = add("reproduce", _reproduce, "run every notebook and write the report", REPRODUCE)
    one.add_argument(
        "--profile", choices=PROFILES, default="laptop", help="size of the experiments (default: laptop)"
    )
    one.add_argument(
        "--set",
        action="append",
        type=_assignment,
        default=[],
        metavar="NAME=VALUE",
        help="another parameter for every notebook, for example seed=1; may be given more than once",
    )
    add_folder(one, "--notebooks", "notebooks", "folder of the notebooks")
    add_folder(one, "--output", "build/report", "folder of the report")

    one = add(
        "verdicts", _verdicts, "show the verdicts of the last report", "Show the verdicts of the last report."
    )
    one.add_argument(
        "--json",
        action="store_true",
        help="a JSON list: claim, statement, dataset, verdict, effect, interval, …",
    )
    add_folder(one, "--output", "build/report", "folder of the report")

    text = "Open JupyterLab on the notebooks. Other arguments go to JupyterLab: fl-meta lab --no-browser"
    one = add("lab", _lab, "open JupyterLab on the notebooks", text)
    add_folder(one, "--notebooks", "notebooks", "folder of the notebooks")

    text = "Show the playground in the browser, without code. Other arguments go to Voilà: --port=8900"
    one = add("play", _play, "the playground as a page, without code (Voilà)", text)
    add_folder(one, "--notebooks", "notebooks", "folder of the notebooks")

    text = "Run ruff, mypy and pytest, each in any case. Other arguments go to pytest: fl-meta test -k cli"
    add("test", _test, "run ruff, mypy and pytest", text)

    group = add("notebooks", None, "build or check the notebooks from their twins", NOTEBOOKS)
    kinds = group.add_subparsers(dest="kind", required=True, metavar="build|check")
    text = "Execute twins with the parameters written in them, and write the notebooks."
    one = add("build", _build, "write notebooks from their twins", text, kinds)
    one.add_argument("names", nargs="*", metavar="NAME", help="for example 01_name (default: all)")
    add_folder(one, "--notebooks", "notebooks", "folder of notebooks and twins")
    text = "Compare notebooks with their twins cell by cell; exit status 1 if any differ."
    one = add("check", _check, "compare notebooks with their twins", text, kinds)
    add_folder(one, "--notebooks", "notebooks", "folder of notebooks and twins")

    group = add("data", None, "list, fetch or check the data sets", DATA)
    kinds = group.add_subparsers(dest="kind", required=True, metavar="list|fetch|check")
    add("list", _data_list, "what there is, and what is here", DATA, kinds)
    for kind, run, line, text in (
        ("fetch", _data_fetch, "download the files of a data set", FETCH),
        ("check", _data_check, "verify the files of a data set, and load it", CHECK),
    ):
        one = add(kind, run, line, text, kinds)
        one.add_argument("name", metavar="NAME", help="a name of fl-meta data list")

    one = add("bench", _bench, "a row of the published benchmarks: ours | published", BENCH)
    one.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="the row: a name of fl-meta data list, or cifar10_subset-mobilenet_v2",
    )
    one.add_argument(
        "--method", action="append", metavar="NAME", help="may be given several times (default: all)"
    )
    one.add_argument("--profile", choices=PROFILES, default="laptop", help="size (default: %(default)s)")
    one.add_argument(
        "--seeds", type=_at_least_one, default=1, metavar="N", help="seeds 0 to N − 1 (default: 1)"
    )
    one.add_argument(
        "--results", type=Path, metavar="FOLDER", help="where results are kept (default: in your cache)"
    )

    text = RECORD + "\n".join(f"  {name}" for name in RECORDED_EXPERIMENTS)
    one = add("record", _record, "compute the recorded results that are missing", text)
    one.add_argument("names", nargs="*", metavar="NAME", help="which experiments (default: all)")
    one.add_argument(
        "--workers",
        type=_at_least_one,
        metavar="N",
        help="processes at once, each for one seed (default: one more than cores)",
    )
    add_folder(one, "--results", "data/results", "folder of the results")

    one = add("rerun", _rerun, "compute a recorded result again and compare", RERUN)
    one.add_argument("files", nargs="+", type=Path, metavar="FILE", help="for example data/results/….json")
    return parser


def _at_least_one(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _assignment(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not (sign and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    if name == "profile":
        raise argparse.ArgumentTypeError("choose the profile with --profile")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _test(options: argparse.Namespace) -> int:
    if not (Path("pyproject.toml").is_file() and Path("tests").is_dir()):
        print("fl-meta: error: no tests in this folder; go to the root of the repository", file=sys.stderr)
        return 2
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["pytest", *options.rest])
    failed = []
    for check in checks:
        print(f"── {shlex.join(check)}", flush=True)
        if subprocess.run([sys.executable, "-m", *check], check=False).returncode:
            failed.append(shlex.join(check))
    if failed:
        print(f"FAILED: {'; '.join(failed)}")
    return 1 if failed else 0
