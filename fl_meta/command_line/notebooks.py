"""`fl-meta reproduce`, `verdicts`, `play` and `notebooks`."""

from __future__ import annotations

import argparse
import ast
import os
import sys
from typing import Any, NoReturn

from fl_meta.command_line import stopping
from fl_meta.command_line.arguments import Subcommands, add_command, add_folder
from fl_meta.command_line.errors import bad_input
from fl_meta.command_line.executors import add_executor, executor
from fl_meta.command_line.output import print_json
from fl_meta.experiments.settings import PROFILES

REPRODUCE = """\
Run every notebook without a browser, from its first cell to its last, and write a report. No network
is needed. A notebook that fails does not stop the others: the report shows the failing cell and its
error, and the exit status is 1.

The verdicts on claims 2 and 3 come from the recorded results. One fold and one replicate of theirs
are computed here, and the report says whether they lie within the spread of the recorded runs. With
--profile full the evidence on claims 2 and 3 and on Table 1 is computed here first, in OUTPUT/evidence.
That takes days; after an interruption the same command goes on where it stopped.

The executed notebooks are in OUTPUT/notebooks, each with an HTML page beside it.
"""
VERDICTS = """\
Show the verdicts on claims 2 and 3 and on Table 1 that the recorded results give, and below them
those of the last report if there is one. docs/evidence.md explains them.
"""
PLAY = "Show the playground in the browser, without code. Other arguments go to Voilà: --port=8900"
NOTEBOOKS = """\
Each notebook NN_name.ipynb has its source NN_name.py beside it: the same cells as text, without
outputs. People edit and review the source; `build` executes it and writes the notebook; `check`
compares the two and says where they differ.
"""
BUILD = "Execute sources with the parameters written in them, and write the notebooks."
CHECK = "Compare each notebook with its source, cell by cell; the exit status is 1 if any differ."

NOT_ON_THE_PAGE = ("exercise", "prediction", "fill-in", "hint", "solution", "check", "instructor")
# The page is for this computer alone. It shows no exercises, which need code, and needs only the JupyterLab
# extensions for widgets.
VOILA_OPTIONS = (
    "--Voila.ip=127.0.0.1",
    "--show-margins",
    "--VoilaConfiguration.extension_allowlist="
    "['@jupyter-widgets/jupyterlab-manager', '@voila-dashboards/widgets-manager8']",
    "--TagRemovePreprocessor.enabled=True",
    *(f"--TagRemovePreprocessor.remove_cell_tags={tag}" for tag in NOT_ON_THE_PAGE),
)


def add_commands(subcommands: Subcommands) -> None:
    """Add the subcommands of this module."""
    parser = add_command(
        subcommands, "reproduce", _reproduce, "run every notebook and write the report", REPRODUCE
    )
    parser.add_argument(
        "--profile", choices=PROFILES, default="laptop", help="size of the experiments (default: laptop)"
    )
    parser.add_argument(
        "--set",
        action="append",
        type=_assignment,
        default=[],
        metavar="NAME=VALUE",
        help="another parameter for every notebook, for example seed=1; may be given more than once",
    )
    add_executor(parser)
    add_folder(parser, "--notebooks", "notebooks", "folder of the notebooks")
    add_folder(parser, "--output", "build/report", "folder of the report")

    summary = "show the recorded verdicts and those of the last report"
    parser = add_command(subcommands, "verdicts", _verdicts, summary, VERDICTS)
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON list: claim, statement, dataset, verdict, effect, interval, profile, …",
    )
    add_folder(parser, "--results", "data/results", "folder of the recorded results")
    add_folder(parser, "--output", "build/report", "folder of the report")

    summary = "the playground as a page, without code (Voilà)"
    parser = add_command(subcommands, "play", _play, summary, PLAY, passes_on_arguments=True)
    add_folder(parser, "--notebooks", "notebooks", "folder of the notebooks")

    summary = "build the notebooks from their sources, or check them"
    group = add_command(subcommands, "notebooks", None, summary, NOTEBOOKS)
    kinds = group.add_subparsers(dest="kind", required=True, metavar="build|check")
    parser = add_command(kinds, "build", _build, "write notebooks from their sources", BUILD)
    parser.add_argument("names", nargs="*", metavar="NAME", help="for example 01_name (default: all)")
    add_folder(parser, "--notebooks", "notebooks", "folder of the notebooks and their sources")
    parser = add_command(kinds, "check", _check, "compare notebooks with their sources", CHECK)
    add_folder(parser, "--notebooks", "notebooks", "folder of the notebooks and their sources")


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


def _reproduce(options: argparse.Namespace) -> int:
    with bad_input():
        from fl_meta.reproduction import reproduce
        from fl_meta.reproduction.report import UnwrittenReportError

        if (options.workers or options.dask) and options.profile != "full":
            raise ValueError("--workers and --dask compute the evidence of --profile full, and nothing else")
        problem = None
        try:
            with executor(options) as pool:
                report = reproduce(
                    options.notebooks,
                    options.output,
                    profile=options.profile,
                    parameters=dict(options.set),
                    command=options.command_line,
                    executor=pool,
                )
        except UnwrittenReportError as error:
            report, problem = error.report, error
    if report.stopped:
        print("fl-meta: stopped; the report has what was done", file=sys.stderr)
    print(f"\n{report.verdicts}\n")
    if report.findings:
        lines = (*report.findings.answers, report.findings.own_sentence)
        print("\n".join(f"- {line}" for line in lines), end="\n\n")
    if report.failed:
        print(f"{'NOT DONE' if report.stopped else 'FAILED'}: {', '.join(report.failed)}\n")
    with bad_input():
        if problem:
            raise problem
    print(f"report: {options.output / 'index.html'}")
    if report.stopped:
        return stopping.exit_status()
    return 1 if report.failed else 0


def _verdicts(options: argparse.Namespace) -> int:
    with bad_input():
        from fl_meta.evidence.crossed_results import recorded_designs
        from fl_meta.evidence.crossed_tables import evidence_table
        from fl_meta.evidence.crossed_words import evidence_json, evidence_text
        from fl_meta.evidence.table_one_evidence import table_one_findings
        from fl_meta.evidence.table_one_page import findings_text
        from fl_meta.evidence.table_one_runs import recorded_tables
        from fl_meta.evidence.verdicts import VerdictTable
        from fl_meta.reproduction import read_verdicts

        evidence = evidence_table(recorded_designs(options.results).values())
        findings = table_one_findings(recorded_tables(options.results).values())
        table: VerdictTable | None = None
        failed: tuple[str, ...] = ()
        try:
            table, failed = read_verdicts(options.output)
        except FileNotFoundError as error:
            if evidence.empty and not findings:
                raise FileNotFoundError(
                    f"{error}; nothing is recorded in {options.results} either"
                ) from error
    if options.json:
        verdicts = (*(one.as_verdict() for one in findings), *(table or ()))
        print_json([*evidence_json(evidence), *(verdict.as_json() for verdict in verdicts)])
    else:
        if not evidence.empty:
            print(f"recorded in {options.results}; effects and margins are points of accuracy\n")
            print(f"{evidence_text(evidence)}\n")
        if findings:
            print(f"Table 1, recorded in {options.results}\n\n{findings_text(findings)}\n")
        if table is not None:
            print(f"report in {options.output}\n\n{table}")
    if failed:
        print(f"fl-meta: these notebooks failed in that report: {', '.join(failed)}", file=sys.stderr)
    return 0


def _play(options: argparse.Namespace) -> NoReturn:
    from importlib.util import find_spec

    from fl_meta.support.run_folder import environment_of, run_folder

    playground = options.notebooks / "08_playground.ipynb"
    with bad_input():
        if find_spec("voila") is None:
            raise ModuleNotFoundError(
                "Voilà is not installed; run: pip install 'fl_meta[play]', or make play"
            )
        if not playground.is_file():
            raise FileNotFoundError(f"no notebook {playground}; go to the root of the repository")
    # The kernel of this environment, not one of the same name in the user's home.
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}
    # Replaces this process, so that Ctrl-C reaches the server alone, which then stops its kernels. However it
    # ends, the guard of the folder ends what is left of them.
    command = [sys.executable, "-m", "voila", str(playground), *VOILA_OPTIONS, *options.unknown_arguments]
    with run_folder(also_after_exec=True) as folder:
        os.execve(sys.executable, command, environment | environment_of(folder))


def _build(options: argparse.Namespace) -> int:
    failed = False
    with bad_input():
        from fl_meta.reproduction import build_notebook, choose_sources

        for source in choose_sources(options.notebooks, options.names):
            failed = bool(build_notebook(source).failures) or failed
    return 1 if failed else 0


def _check(options: argparse.Namespace) -> int:
    with bad_input():
        from fl_meta.reproduction import check_notebooks

        problems = check_notebooks(options.notebooks)
    print("\n".join(problems) or "every notebook agrees with its source")
    return 1 if problems else 0
