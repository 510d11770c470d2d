"""The report of a reproduction: `index.html` with the verdicts, a page per notebook, `verdicts.json`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jinja2
from markupsafe import Markup

from fl_meta.evidence.verdicts import Verdict, VerdictTable
from fl_meta.reproduction.findings import Findings
from fl_meta.reproduction.pages import write_page
from fl_meta.reproduction.runner import PATTERN, NotebookRun
from fl_meta.reproduction.written_verdicts import FILE
from fl_meta.support.atomic_files import write_atomically

# Inside the folder of the report: the executed notebooks with their pages, and the results they compute.
NOTEBOOKS = "notebooks"
EXPERIMENTS = "experiments"
EVIDENCE = "evidence"  # the recorded evidence computed anew; kept from report to report
FORMAT = 1


@dataclass(frozen=True)
class Report:
    """The outcome of a reproduction.

    Attributes:
        profile: size of the experiments, one of `settings.PROFILES`.
        command: the command that started it.
        planned: names of all notebooks that were to run.
        runs: the notebooks that did run, in the order of their names.
        stopped: whether Ctrl-C or another signal ended it before all of them had run.
        seconds: from the first computation to the last.
        left_out: designs that the profile 'full' could not compute, because their data are not here.
        findings: what the recorded evidence says; None if no notebook builds on it.

    Example:
        >>> report = Report("smoke", "make reproduce", planned=("01_claim",), runs=())
        >>> report.failed
        ('01_claim',)
    """

    profile: str
    command: str
    planned: tuple[str, ...]
    runs: tuple[NotebookRun, ...]
    stopped: bool = False
    seconds: float = 0.0
    left_out: tuple[str, ...] = ()
    findings: Findings | None = None

    @property
    def verdicts(self) -> VerdictTable:
        """The verdicts of all notebooks, in the order of the notebooks."""
        return VerdictTable(tuple(verdict for run in self.runs for verdict in run.verdicts))

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the notebooks that failed, or did not run because the reproduction was stopped."""
        good = {run.name for run in self.runs if not run.failures}
        return tuple(name for name in self.planned if name not in good)


def prepare(folder: Path, sources: Path) -> Path:
    """Remove an earlier report from a folder and return the folder for the executed notebooks."""
    try:
        f"{folder.absolute()}{sources.absolute()}".encode()
    except UnicodeEncodeError as error:  # executed notebooks have both names in them
        raise ValueError(
            f"the name of the folder {folder} or {sources} is not text in this locale; run it with "
            "PYTHONUTF8=1, or choose others with --notebooks and --output"
        ) from error
    notebooks = folder / NOTEBOOKS
    if notebooks.resolve() == sources.resolve():
        raise ValueError(
            f"a report in {folder} would overwrite the notebooks in {sources}; choose another --output"
        )
    try:
        notebooks.mkdir(parents=True, exist_ok=True)
        stale = [folder / "index.html", folder / FILE]
        stale += [path for suffix in (".ipynb", ".html") for path in notebooks.glob(PATTERN + suffix)]
        stale += (folder / EXPERIMENTS).glob("*.json")
        # What an earlier run was writing when it was killed; its names may not come again.
        for place in (folder, notebooks, folder / EXPERIMENTS):
            stale += (path for path in place.glob(".*") if path.is_file())
        for path in stale:
            path.unlink(missing_ok=True)
        for probe in (folder / ".probe", notebooks / ".probe"):
            write_atomically(probe, Path.touch)
            probe.unlink()
    except OSError as error:
        raise OSError(
            f"cannot write the report into {folder}: {error.strerror or error}; "
            "choose a folder that you may write to with --output"
        ) from error
    return notebooks


class UnwrittenReportError(OSError):
    """Files of a report that could not be written; `report` has what they would show."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def write(report: Report, folder: Path) -> Path:
    """Write `verdicts.json`, the pages and finally `index.html`, and return the path of the latter.

    Raises:
        UnwrittenReportError: if a file cannot be written; the others are, if they can.
    """
    problems: list[str] = []

    def attempt(path: Path, write: Callable[[Path], object]) -> None:
        try:
            write(path)
        except OSError as error:
            problems.append(str(error))
        except ValueError as error:  # a notebook of which only half could be written
            problems.append(f"{path}: {error}")

    value = {
        "format": FORMAT,
        "fl_meta": version("fl_meta"),
        "profile": report.profile,
        "failed": report.failed,
        "verdicts": [verdict.as_json() for verdict in report.verdicts],
    }
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    attempt(folder / FILE, partial(_write, text))
    for run in report.runs:
        if run.path.exists():
            attempt(folder / NOTEBOOKS / f"{run.name}.html", partial(write_page, run.path))
    index = folder / "index.html"
    attempt(index, partial(_write, _html(report)))
    if problems:
        raise UnwrittenReportError(f"the report is not whole: {problems[0]}", report)
    return index


def _write(text: str, path: Path) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _html(report: Report) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fl_meta.reproduction", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["repr"] = repr
    table = report.verdicts
    return environment.get_template("report.html.j2").render(
        report=report,
        folder=NOTEBOOKS,
        runs={run.name: run for run in report.runs},
        verdicts=Markup(table.to_grouped_html(_link)) if table.verdicts else "",
        facts=_facts(report),
    )


def _link(verdict: Verdict) -> str:
    return Markup('<a href="{0}/{1}.html">{1}</a>').format(NOTEBOOKS, verdict.notebook)


def _facts(report: Report) -> dict[str, str]:
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in ("fl_meta", "torch", "numpy")]
    facts = {
        "command": report.command,
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "time": f"{report.seconds / 60:.1f} minutes",
        "versions": ", ".join(versions),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
    }
    if report.left_out:
        facts["not computed, without data"] = ", ".join(report.left_out)
    return facts


def _processor() -> str:
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
