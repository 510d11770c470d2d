"""From the notebooks to the report: everything that `fl-meta reproduce` does except printing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from fl_meta.evidence.crossed_recording import record_all
from fl_meta.evidence.results import recorded_folder
from fl_meta.reproduction import report, runner
from fl_meta.reproduction.findings import findings
from fl_meta.reproduction.own_runs import asked_runs, compute_own_runs
from fl_meta.reproduction.report import Report


def reproduce(
    notebooks: Path,
    output: Path,
    *,
    profile: str = "laptop",
    parameters: Mapping[str, Any] | None = None,
    command: str = "fl_meta.reproduction.reproduce",
    executor: Executor | None = None,
) -> Report:
    """Run every notebook of a folder and write the report, `output/index.html`.

    First the runs that notebooks show beside the recorded evidence are computed. With the profile 'full' the
    evidence itself is computed before, in `output/evidence`; what is there is kept, so that the same call
    goes on after an interruption.

    A failing notebook does not stop the others. Ctrl-C stops the run; the report then has the notebooks that
    were done, and `Report.stopped` is true.

    Args:
        notebooks: folder of the notebooks; they are not changed.
        output: folder of the report; an earlier report in it is removed.
        profile: size of the experiments, one of `fl_meta.experiments.settings.PROFILES`.
        parameters: other parameters for every notebook, such as `{"seed": 1}`.
        command: what the report names as the command that made it.
        executor: computes the evidence of the profile 'full', for example dask's `Client.get_executor()`.

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
    experiments = (output / report.EXPERIMENTS).absolute()
    environment = {"FL_META_EXPERIMENTS": str(experiments)}
    runs: list[runner.NotebookRun] = []
    began, stopped, left_out = time.monotonic(), False, list[str]()
    evidence = (output / report.EVIDENCE).absolute()
    if profile == "full":
        evidence.mkdir(exist_ok=True)
        environment["FL_META_RECORDED"] = str(evidence)
    with runner.environment(environment):
        try:
            if profile == "full":
                left_out = record_all(evidence, executor=executor)
            if asked := asked_runs(plan.paths):
                compute_own_runs(asked, profile, plan.parameters[0].get("seed", 0))
            for run in runner.run_all(plan, folder, profile):
                runs.append(run)
        except KeyboardInterrupt:
            stopped = True
        result = Report(
            profile=profile,
            command=command,
            planned=tuple(path.stem for path in plan.paths),
            runs=tuple(sorted(runs, key=lambda run: run.name)),
            stopped=stopped,
            seconds=time.monotonic() - began,
            left_out=tuple(left_out),
            findings=findings(recorded_folder(), experiments) if asked else None,
        )
    report.write(result, output)
    return result
