"""From the notebooks to the report: everything that `fl-meta reproduce` does except printing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_meta.reproduction import report, runner
from fl_meta.reproduction.report import Report


def reproduce(
    notebooks: Path,
    output: Path,
    *,
    profile: str = "laptop",
    parameters: Mapping[str, Any] | None = None,
    command: str = "fl_meta.reproduction.reproduce",
) -> Report:
    """Run every notebook of a folder and write the report, `output/index.html`.

    A failing notebook does not stop the others. Ctrl-C stops the run; the report then has the notebooks that
    were done, and `Report.stopped` is true.

    Args:
        notebooks: folder of the notebooks; they are not changed.
        output: folder of the report; an earlier report in it is removed.
        profile: size of the experiments, one of `fl_meta.experiments.settings.PROFILES`.
        parameters: other parameters for every notebook, such as `{"seed": 1}`.
        command: what the report names as the command that made it.

    Raises:
        FileNotFoundError: if there are no notebooks.
        ValueError: if a notebook cannot be read or lacks one of the parameters, or `output` would overwrite
            the notebooks.
        OSError: if the report cannot be written; if that shows only at the end, `UnwrittenReportError`, which
            has the report.

    Example:
        >>> report = reproduce(Path("notebooks"), Path("build/report"), profile="smoke")  # doctest: +SKIP
        >>> print(report.verdicts)  # doctest: +SKIP
    """
    plan = runner.plan(notebooks, {"profile": profile, **(parameters or {})})
    folder = report.prepare(output, notebooks)
    # Notebooks that share an experiment compute it once; `prepare` has removed results of earlier runs.
    environment = {"FL_META_EXPERIMENTS": str((output / report.EXPERIMENTS).absolute())}
    runs: list[runner.NotebookRun] = []
    stopped = False
    try:
        for run in runner.run_all(plan, folder, profile, environment):
            runs.append(run)
    except KeyboardInterrupt:
        stopped = True
    names = tuple(path.stem for path in plan.paths)
    result = Report(profile, command, names, tuple(sorted(runs, key=lambda run: run.name)), stopped)
    report.write(result, output)
    return result
