"""The report of a reproduction: `index.html` with the verdicts, a page per notebook, `verdicts.json`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fl_meta.evidence.verdicts import Verdict, VerdictTable
from fl_meta.reproduction.pages import write_page
from fl_meta.reproduction.runner import PATTERN, NotebookRun
from fl_meta.support.atomic_files import write_atomically

NOTEBOOKS = "notebooks"  # the folder of executed notebooks and their pages, inside that of the report
EXPERIMENTS = "experiments"  # the folder of results that the notebooks compute, beside it
FORMAT = 1

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 76em; margin: 2em auto;
  padding: 0 1.5em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; } th, td { text-align: left; vertical-align: top; padding: .5em .9em; }
tr { border-bottom: 1px solid #ddd; } thead th { border-bottom: 2px solid #888; }
.wide { overflow-x: auto; }
.verdicts th p { font-weight: normal; margin: 0; min-width: 15em; max-width: 24em; }
.verdict { margin-bottom: .6em; } .numbers { font-variant-numeric: tabular-nums; }
.origin, .facts td, .quiet { color: #555; font-size: .9em; } a { color: #004d75; }
.failure { border-left: 5px solid #b3400b; background: #fdf1ea; padding: .6em 1.2em; margin: 1em 0; }
.failure h3 { margin: .2em 0; }
pre { overflow-x: auto; background: #f6f6f6; padding: .7em; font-size: .85em; }
.ok { color: #004d75; } .failed { color: #8a2f00; font-weight: bold; }
"""


@dataclass(frozen=True)
class Report:
    """What a reproduction did.

    Attributes:
        profile: one of `verdicts.PROFILES`.
        command: how it was started.
        planned: names of all notebooks that were to run.
        runs: those that did.
    """

    profile: str
    command: str
    planned: tuple[str, ...]
    runs: tuple[NotebookRun, ...]

    @property
    def verdicts(self) -> VerdictTable:
        """The verdicts of all notebooks, in their order."""
        return VerdictTable(tuple(verdict for run in self.runs for verdict in run.verdicts))

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the notebooks that failed, or did not run because the reproduction was stopped."""
        good = {run.name for run in self.runs if not run.failures}
        return tuple(name for name in self.planned if name not in good)


def prepare(folder: Path, sources: Path) -> Path:
    """Empty the folder of an earlier report's files, and give the folder for executed notebooks.

    Args:
        folder: of the report.
        sources: folder of the notebooks to run.

    Raises:
        ValueError: if the executed notebooks would replace those to run.
        OSError: if the folder cannot be written to.
    """
    notebooks = folder / NOTEBOOKS
    if notebooks.resolve() == sources.resolve():
        raise ValueError(
            f"a report in {folder} would overwrite the notebooks in {sources}; choose another --output"
        )
    try:
        notebooks.mkdir(parents=True, exist_ok=True)
        stale = [folder / "index.html", folder / "verdicts.json"]
        stale += [path for suffix in (".ipynb", ".html") for path in notebooks.glob(PATTERN + suffix)]
        stale += (folder / EXPERIMENTS).glob("*.json")
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


def write(report: Report, folder: Path) -> Path:
    """Write pages, `verdicts.json` and last `index.html`, whose path is returned.

    Raises:
        OSError: if a file cannot be written.
    """
    for run in report.runs:
        if run.path.exists():
            write_page(run.path, folder / NOTEBOOKS / f"{run.name}.html")
    value = {
        "format": FORMAT,
        "fl_meta": version("fl_meta"),
        "profile": report.profile,
        "failed": report.failed,
        "verdicts": [verdict.as_json() for verdict in report.verdicts],
    }
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / "verdicts.json", lambda path: path.write_text(text, encoding="utf-8"))
    index = folder / "index.html"
    write_atomically(index, lambda path: path.write_text(_html(report), encoding="utf-8"))
    return index


def read_verdicts(folder: Path) -> tuple[VerdictTable, tuple[str, ...]]:
    """The verdicts of the last report, and the names of the notebooks that failed in it.

    Raises:
        FileNotFoundError: if there is no report.
        ValueError: if the file is damaged.
    """
    path = folder / "verdicts.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        verdicts = tuple(Verdict.from_json(one) for one in value["verdicts"])
        return VerdictTable(verdicts), tuple(value["failed"])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no report in {folder}; make one with: make reproduce") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); make a new one with: make reproduce") from error


def _html(report: Report) -> str:
    table = report.verdicts
    verdicts = table.to_matrix_html(_link) if table.verdicts else "<p>No notebook gave a verdict.</p>"
    failures = "".join(_failures(run) for run in report.runs if run.failures)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fl_meta: report of a reproduction</title><style>{_STYLE}</style></head><body>
<h1>Improving Federated Learning Personalization via Model Agnostic Meta Learning</h1>
<p class="quiet">Jiang, Konečný, Rush and Kannan (2019), reproduced with profile
<b>{escape(report.profile)}</b>. Every number here was computed by this run, except those
marked as recorded: they come from files of the repository, see <code>fl-meta rerun</code>.</p>
{_headline(report)}
<h2>Verdicts</h2><div class="wide">{verdicts}</div>
<div id="failures">{failures}</div>
<h2>Notebooks</h2><div class="wide"><table><thead><tr><th>notebook</th><th>status</th><th>seconds</th>
<th>parameters</th></tr></thead><tbody>{_notebook_rows(report)}</tbody></table></div>
<h2>This run</h2><table class="facts">{_facts(report)}</table>
</body></html>
"""


def _headline(report: Report) -> str:
    if not report.failed:
        return ""
    names = escape(", ".join(report.failed))
    count = f"{len(report.failed)} of {len(report.planned)} notebooks"
    return f'<p class="failed">✘ {count} failed or did not run: <a href="#failures">{names}</a></p>'


def _failures(run: NotebookRun) -> str:
    parts = []
    for one in run.failures:
        source = f"<pre>{escape(one.source)}</pre>" if one.source else ""
        trace = f"<details><summary>traceback</summary><pre>{escape(one.traceback)}</pre></details>"
        parts.append(
            f'<div class="failure"><h3>✘ {_page(run.name)}, {escape(one.place)}</h3>{source}'
            f"<pre><b>{escape(one.error)}</b>: {escape(one.message)}</pre>"
            f"{trace if one.traceback else ''}</div>"
        )
    return "".join(parts)


def _notebook_rows(report: Report) -> str:
    runs = {run.name: run for run in report.runs}
    rows = []
    for name in report.planned:
        run = runs.get(name)
        if run is None:
            rows.append(
                f'<tr><td>{escape(name)}</td><td class="failed">not run (stopped)</td><td></td><td></td></tr>'
            )
            continue
        status = '<td class="failed">✘ failed</td>' if run.failures else '<td class="ok">✔ ok</td>'
        page = _page(name) if run.path.exists() else escape(name)
        values = escape(", ".join(f"{key}={value!r}" for key, value in run.parameters.items()))
        rows.append(f"<tr><td>{page}</td>{status}<td>{run.seconds:.1f}</td><td>{values}</td></tr>")
    return "".join(rows)


def _facts(report: Report) -> str:
    facts: Mapping[str, Any] = {
        "command": report.command,
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": f"{sum(run.seconds for run in report.runs):.0f}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}"]
            + [f"{name} {version(name)}" for name in ("fl_meta", "torch", "numpy")]
        ),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
    }
    return "".join(f"<tr><td>{key}</td><td>{escape(str(value))}</td></tr>" for key, value in facts.items())


def _processor() -> str:
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _page(name: str) -> str:
    return f'<a href="{NOTEBOOKS}/{escape(name)}.html">{escape(name)}</a>'


def _link(verdict: Verdict) -> str:
    return _page(verdict.notebook)
