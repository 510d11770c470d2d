"""A full disk, by a limit on the size of files: one line that names the file; what was finished is kept."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import nbformat
import papermill
import pytest
from small_notebooks import VERDICT, write_notebook
from small_results import TINY, tiny
from tiny_tasks import assert_same_runs, quietly

from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import fedavg
from fl_meta.data.federated import FederatedDataset
from fl_meta.evidence import results
from fl_meta.evidence.verdicts import Verdict
from fl_meta.models.images import logistic
from fl_meta.reproduction import report as report_module
from fl_meta.reproduction import runner
from fl_meta.reproduction.report import Report, UnwrittenReportError
from fl_meta.reproduction.runner import NotebookRun, Plan
from fl_meta.reproduction.written_verdicts import read_verdicts
from fl_meta.training import progress
from fl_meta.training.checkpoints import Checkpoint

Command = Callable[..., tuple[Any, str, str]]
FULL = "File too large; raise the limit on the size of files (ulimit -f)"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file may get larger than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_training_keeps_the_last_checkpoint_and_resumes(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stages, path = logistic(tiny_images), [Stage(fedavg(1), 3, 2)], tmp_path / "run"
    whole = quietly(model, tiny_images, stages, checkpoint=Checkpoint(tmp_path / "whole"))
    write = progress.write_checkpoint

    def full(file: Path, tensors: dict[str, Any], *rest: Any) -> None:
        with files_of_at_most(100 if int(tensors["round_number"]) == 2 else resource.RLIM_INFINITY):
            write(file, tensors, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(progress, "write_checkpoint", full)
        with pytest.raises(OSError, match=f"cannot write run into {tmp_path}: File too large"):
            quietly(model, tiny_images, stages, checkpoint=Checkpoint(path, every=1))
    assert {each.name for each in tmp_path.iterdir()} == {"run", "whole"}
    resumed = quietly(model, tiny_images, stages, checkpoint=Checkpoint(path, every=1))
    assert_same_runs(resumed, whole)


def test_record_says_which_result_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fl_meta: Command
) -> None:
    @contextmanager
    def threads(_: int) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(1) as pool:
            yield pool

    folder, missing = tmp_path / "results", tiny(local_epochs=(2,))
    monkeypatch.setenv("FL_META_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(results, "processes", threads)
    recorded = {"one": TINY, "two": missing}
    monkeypatch.setattr("fl_meta.command_line.results.RECORDED_EXPERIMENTS", recorded)
    done = results.load_or_run(TINY, (0, 1), folder, progress=False)
    with files_of_at_most(100):
        status, printed, errors = fl_meta("record", "--replicates", 1, "--results", folder)
    assert (status, printed) == (2, "[1/2] one: 1 replicate of 2 folds\n")
    last = errors.splitlines()[-1]
    assert last.endswith(FULL)
    assert any(f"cannot write {results.file_name(missing, seed)} into {folder}" in last for seed in (0, 1))
    assert results.recorded(TINY, folder) == done
    assert not list(folder.glob(".*.unfinished*"))


# The report -----------------------------------------------------------------------------------------------


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[NotebookRun, ...]:
    """A small notebook that has run, and one of which only half could be written."""
    folder = tmp_path / "report" / "notebooks"
    folder.mkdir(parents=True)
    write_notebook(folder / "01_gain.ipynb", ["effect = 1", VERDICT])
    (folder / "02_half.ipynb").write_text('{"cells": [{"cell_')
    verdict = Verdict("gain", "It helps", "toy", "reproduced", 1.5, (1.0, 2.0), "points", "smoke", "01_gain")
    gain = NotebookRun("01_gain", folder / "01_gain.ipynb", 1.0, {}, verdicts=(verdict,))
    return gain, NotebookRun("02_half", folder / "02_half.ipynb", 1.0, {})


def test_what_can_be_written_of_a_report_is(tmp_path: Path, two_runs: tuple[NotebookRun, ...]) -> None:
    folder = tmp_path / "report"
    report = Report("smoke", "make reproduce", ("01_gain", "02_half"), two_runs)
    with files_of_at_most(100_000), pytest.raises(UnwrittenReportError) as caught:  # pages are larger
        report_module.write(report, folder)
    assert caught.value.report is report
    assert f"not whole: cannot write 01_gain.html into {folder / 'notebooks'}: {FULL}" in str(caught.value)
    assert not list((folder / "notebooks").glob("*.html"))
    (verdict,) = read_verdicts(folder)[0]
    assert verdict.effect == 1.5 and "reproduced" in (folder / "index.html").read_text(encoding="utf-8")
    # With room again, only the half of a notebook is in the way.
    with pytest.raises(UnwrittenReportError, match=r"not whole: .*02_half\.html: Notebook does not appear"):
        report_module.write(report, folder)
    assert (folder / "notebooks" / "01_gain.html").exists()


def test_reproduce_prints_the_verdicts_that_it_cannot_write(
    tmp_path: Path,
    two_runs: tuple[NotebookRun, ...],
    monkeypatch: pytest.MonkeyPatch,
    fl_meta: Command,
) -> None:
    sources, folder = tmp_path / "sources", tmp_path / "report"
    sources.mkdir()
    write_notebook(sources / "01_gain.ipynb", ["effect = 1", VERDICT])

    def full(plan: Plan, output: Path, profile: str) -> Iterator[NotebookRun]:
        yield two_runs[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    monkeypatch.setattr(runner, "run_all", full)
    with files_of_at_most(resource.RLIM_INFINITY):
        status, printed, errors = fl_meta(
            "reproduce", "--profile", "smoke", "--notebooks", sources, "--output", folder
        )
    assert status == 2 and "gain   toy       ✔ reproduced  +1.50" in printed
    assert (
        errors
        == f"fl-meta: error: the report is not whole: cannot write verdicts.json into {folder}: {FULL}\n"
    )


def test_a_notebook_that_cannot_be_written_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "output").mkdir()
    for name in ("01_large", "02_small"):
        write_notebook(tmp_path / f"{name}.ipynb", ["1"])

    def execute(path: Path, output: Path, *_: object, **__: object) -> None:
        content = nbformat.read(path, as_version=4)
        if output.stem == "01_large":
            content.cells[1].source = "x" * 10_000
        with output.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content))

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with files_of_at_most(2_000):
        plan = runner.plan(tmp_path, {"profile": "smoke"})
        runs = {run.name: run for run in runner.run_all(plan, tmp_path / "output", "smoke")}
    assert runs["02_small"].failures == ()
    first, second = runs["01_large"].failures
    assert (first.error, second.place) == ("OSError", "executed notebook")
    assert "File too large" in capsys.readouterr().err
    assert list((tmp_path / "output").glob(".*")) == []


def test_names_that_are_no_text_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fl_meta: Command
) -> None:
    write_notebook(tmp_path / "01_gain.ipynb", ["1"])
    monkeypatch.setattr(runner, "run_all", Mock(side_effect=AssertionError))
    status, _, errors = fl_meta("reproduce", "--notebooks", tmp_path, "--output", tmp_path / "caf\udce9")
    assert status == 2 and "is not text in this locale; run it with PYTHONUTF8=1, or choose others" in errors
