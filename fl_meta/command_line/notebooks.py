"""`fl-meta reproduce`, `verdicts`, `lab`, `play` and `notebooks`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import NoReturn

from fl_meta.command_line.errors import _bad_input

REPRODUCE = """\
Run every notebook headless, from its first cell to its last, and write a report. Nothing is
taken from an earlier run, and no network is needed. A notebook that fails does not stop the
others: the report shows the failing cell and its error, and the exit status is 1.

The executed notebooks lie in OUTPUT/notebooks, beside their pages in HTML.
"""
NOTEBOOKS = """\
Each notebook NN_name.ipynb, with outputs, has a twin NN_name.py beside it: the same cells as
text. People edit and review the twin; `build` executes it and writes the notebook; `check`
compares the two and says where they differ.
"""
# Other computers cannot reach the page. It shows no solutions, and of JupyterLab's extensions it needs those
# for widgets.
PLAY = (
    "--Voila.ip=127.0.0.1",
    "--show-margins",
    "--VoilaConfiguration.extension_allowlist="
    "['@jupyter-widgets/jupyterlab-manager', '@voila-dashboards/widgets-manager8']",
    "--TagRemovePreprocessor.enabled=True",
    "--TagRemovePreprocessor.remove_cell_tags=solution",
)


def _reproduce(options: argparse.Namespace) -> int:
    from fl_meta.reproduction import report
    from fl_meta.reproduction import runner as notebooks

    with _bad_input():
        plan = notebooks.plan(options.notebooks, {"profile": options.profile, **dict(options.set)})
        folder = report.prepare(options.output, options.notebooks)
    # Experiments that several notebooks share are computed once, but never found from an earlier run.
    os.environ["FL_META_EXPERIMENTS"] = str((options.output / report.EXPERIMENTS).absolute())
    runs: list[notebooks.NotebookRun] = []
    stopped = False
    try:
        for run in notebooks.run_all(plan, folder, options.profile):
            runs.append(run)
    except KeyboardInterrupt:
        stopped = True
        print("fl-meta: stopped; the report has what was done", file=sys.stderr)
    names = tuple(path.stem for path in plan.paths)
    runs.sort(key=lambda run: run.name)
    result = report.Report(options.profile, options.line, names, tuple(runs))
    with _bad_input():
        index = report.write(result, options.output)
    print(f"\n{result.verdicts}\n")
    if result.failed:
        print(f"{'NOT DONE' if stopped else 'FAILED'}: {', '.join(result.failed)}\n")
    print(f"report: {index}")
    if stopped:
        return 130
    return 1 if result.failed else 0


def _verdicts(options: argparse.Namespace) -> int:
    from fl_meta.reproduction import report

    with _bad_input():
        table, failed = report.read_verdicts(options.output)
    if options.json:
        print(json.dumps([verdict.as_json() for verdict in table], indent=1, ensure_ascii=False))
    else:
        print(table)
    if failed:
        print(f"fl-meta: these notebooks failed in that report: {', '.join(failed)}", file=sys.stderr)
    return 0


def _lab(options: argparse.Namespace) -> NoReturn:
    from fl_meta.reproduction.runner import find

    with _bad_input():
        find(options.notebooks, "")
    _become("jupyterlab", str(options.notebooks), *options.rest)


def _play(options: argparse.Namespace) -> NoReturn:
    from importlib.util import find_spec

    playground = options.notebooks / "08_playground.ipynb"
    with _bad_input():
        if find_spec("voila") is None:
            raise ModuleNotFoundError("Voilà is missing; run: pip install -e '.[play]', or make play")
        if not playground.is_file():
            raise FileNotFoundError(f"no notebook {playground}; go to the root of the repository")
    _become("voila", str(playground), *PLAY, *options.rest)


def _become(server: str, *arguments: str) -> NoReturn:
    # The kernel of this environment, not one of the same name in the user's home.
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}
    # Replaces this process, so that Ctrl-C reaches the server alone, which then stops its kernels.
    os.execve(sys.executable, [sys.executable, "-m", server, *arguments], environment)


def _build(options: argparse.Namespace) -> int:
    from fl_meta.reproduction import sources as twins

    with _bad_input():
        chosen = twins.choose(options.notebooks, options.names)
    failed = False
    for twin in chosen:
        with _bad_input():
            run = twins.build(twin)
        failed = failed or bool(run.failures)
    return 1 if failed else 0


def _check(options: argparse.Namespace) -> int:
    from fl_meta.reproduction import sources as twins

    with _bad_input():
        problems = twins.check(options.notebooks)
    print("\n".join(problems) or "every notebook agrees with its twin")
    return 1 if problems else 0
