"""Run notebooks headless through papermill, and tell in full what failed."""

from __future__ import annotations

import ast
import asyncio
import difflib
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, ClassVar
from weakref import WeakSet

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from papermill.exceptions import PapermillExecutionError
from traitlets import Instance

from fl_meta.evidence.verdicts import Verdict, collect
from fl_meta.experiments.settings import RECORDED
from fl_meta.reproduction.progress import Progress, is_progress_line, plain
from fl_meta.support.atomic_files import write_atomically

KERNEL = "python3"
CELL_SECONDS = {"smoke": 300, "laptop": 1800, "paper": None}
"""Seconds after which a cell counts as hanging, by profile."""

AT_ONCE = 2
"""Notebooks that run at the same time."""

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PATTERN = "[0-9][0-9]_*"


@dataclass(frozen=True)
class Failure:
    """What went wrong in a notebook.

    Attributes:
        place: where, for example "cell 5 of 12".
        source: the code of the failing cell; empty if no cell is to blame.
        error: name of the error.
        message: its message.
        traceback: its traceback without colours.
    """

    place: str
    source: str
    error: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class NotebookRun:
    """One executed notebook.

    Attributes:
        name: file name without its suffix.
        path: the executed notebook.
        seconds: how long it took.
        parameters: the values that its parameters had.
        failures: what went wrong; empty if nothing did.
        verdicts: what its outputs say about the claims.
    """

    name: str
    path: Path
    seconds: float
    parameters: Mapping[str, Any]
    failures: tuple[Failure, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Notebooks to run, checked before the first one starts.

    Attributes:
        paths: the notebooks, in the order of their numbers.
        given: the parameters passed to every notebook.
        parameters: the parameters of each notebook with the values that they will have.
    """

    paths: tuple[Path, ...]
    given: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]


class _InterpretersOwnKernel(AsyncKernelManager):
    """Starts the kernel of this interpreter; one of the same name in the user's home does not count."""

    kernel_spec_manager = Instance(KernelSpecManager, args=(), kw={"kernel_dirs": []})
    existing: ClassVar[WeakSet[_InterpretersOwnKernel]] = WeakSet()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.existing.add(self)

    async def kill(self) -> None:
        """End the kernel, if it runs, and the processes that it has started."""
        if self.has_kernel:
            await self.signal_kernel(signal.SIGKILL)


def find(folder: Path, suffix: str) -> tuple[Path, ...]:
    """The notebooks, or their twins, in a folder, in the order of their numbers.

    Raises:
        FileNotFoundError: if there are none.
    """
    paths = tuple(sorted(folder.glob(PATTERN + suffix)))
    if not paths:
        raise FileNotFoundError(
            f"no notebook {PATTERN + suffix} in {folder.absolute()}; go to the root of the repository, "
            "or name the folder with --notebooks"
        )
    return paths


def plan(folder: Path, given: Mapping[str, Any]) -> Plan:
    """Find the notebooks `NN_*.ipynb` and check that each of them has the given parameters.

    papermill only warns of a parameter that a notebook does not have, and then runs it with its defaults.

    Raises:
        FileNotFoundError: if there are no notebooks.
        ValueError: if a file is no notebook, or a notebook does not have one of the parameters, or has one of
            another type.
    """
    paths = find(folder, ".ipynb")
    parameters = []
    for path in paths:
        known = parameters_of(path)
        for name, value in given.items():
            if name not in known:
                raise ValueError(_unknown(path.name, name, list(known)))
            default = known[name]
            kind = type(default)
            if not isinstance(value, (int, float) if kind is float else kind):
                raise ValueError(
                    f"{name}={value!r} is no {kind.__name__}, but {path.name} needs one, such as {default!r}"
                )
        parameters.append({**known, **given})
    return Plan(paths, dict(given), tuple(parameters))


def parameters_of(path: Path) -> dict[str, Any]:
    """The parameters of a notebook, those in its cell with the tag 'parameters', with the values there.

    Raises:
        ValueError: if the file is no notebook.
    """
    try:
        found = papermill.inspect_notebook(path)
    except (ValueError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} cannot be read as a notebook: {error}") from error
    return {name: _value(one["default"]) for name, one in found.items()}


def _unknown(notebook: str, name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    if not nearest:
        return f"{notebook} has no parameter {name!r}: none of its cells carries the tag 'parameters'"
    return f"{notebook} has no parameter {name!r}; did you mean {nearest[0]!r}? It has: {', '.join(known)}"


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def run_all(plan: Plan, output: Path, profile: str) -> Iterator[NotebookRun]:
    """Execute the planned notebooks where they lie, two at a time; write each with outputs into `output`.

    Most of them keep one core busy, and a few several. Shows one progress bar on a terminal, and one line per
    finished notebook everywhere. A notebook that fails, hangs or loses its kernel is reported in its
    `NotebookRun`; the others still run. At Ctrl-C all kernels end at once, with the processes that they
    have started.

    Args:
        plan: what to run.
        output: folder of the executed notebooks.
        profile: one of `verdicts.PROFILES`; a verdict of another one is a failure, since it was not computed.

    Yields:
        The runs in the order in which they finish.
    """
    stopped = Event()
    # Threads of two notebooks that wait for one another by turning round and round would waste the cores.
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // AT_ONCE))
    with (
        _private_jupyter(),
        _environment({"OMP_NUM_THREADS": threads}),
        Progress(len(plan.paths)) as progress,
        ThreadPoolExecutor(AT_ONCE) as lanes,
    ):

        def lane(path: Path, parameters: Mapping[str, Any]) -> NotebookRun:
            try:
                run = _execute(path, output / path.name, plan.given, profile, progress, path.parent, stopped)
            finally:
                ensure_event_loop().close()  # of this thread, which nobody else closes
            return replace(run, parameters=parameters)

        running = [lanes.submit(lane, *one) for one in zip(plan.paths, plan.parameters, strict=True)]
        try:
            for future in as_completed(running):
                yield future.result()
        finally:
            stopped.set()
            lanes.shutdown(wait=False, cancel_futures=True)
            for kernel in list(_InterpretersOwnKernel.existing):
                asyncio.run(kernel.kill())


def run_one(path: Path, output: Path, profile: str, folder: Path) -> NotebookRun:
    """Execute one notebook in `folder` with the parameters that it has in itself, as `run_all` does."""
    with _private_jupyter(), Progress(1) as progress:
        return _execute(path, output, {}, profile, progress, folder, Event())


def _execute(
    path: Path,
    output: Path,
    given: Mapping[str, Any],
    profile: str,
    bar: Progress,
    folder: Path,
    stopped: Event,
) -> NotebookRun:
    """Execute one notebook with `folder` as its working folder, and write the result to `output`."""
    output = output.absolute()
    began = time.monotonic()
    progress = bar.start(output.stem)

    def cell(cell: nbformat.NotebookNode, cell_index: int) -> None:
        if stopped.is_set():
            raise CancelledError
        progress.cell(cell, cell_index)

    failures: list[Failure] = []
    try:
        papermill.execute_notebook(
            path.absolute(),
            output,
            dict(given),
            kernel_name=KERNEL,
            # papermill's own `cwd` changes that of the whole process, and there are other threads.
            resources={"metadata": {"path": str(folder)}},
            progress_bar=False,
            stderr_file=progress,
            start_timeout=120,
            execution_timeout=CELL_SECONDS[profile],
            iopub_timeout=60,
            kernel_manager_class=_InterpretersOwnKernel,
            # The kernel's own log would run through the progress bar; errors arrive as messages.
            extra_arguments=["--log-level=CRITICAL"],
            on_notebook_start=progress.notebook,
            on_cell_start=cell,
        )
    except PapermillExecutionError as error:
        place = f"cell {error.cell_index + 1} of {progress.cells}"
        trace = plain("\n".join(error.traceback))
        failures.append(Failure(place, error.source, error.ename, error.evalue, trace))
    # Whatever else stops one notebook (a dead kernel, a cell that hangs) must not stop the others.
    except Exception as error:
        place = f"cell {progress.position} of {progress.cells}" if progress.cells else "start of the kernel"
        message = plain(str(error)).strip()
        failures.append(Failure(place, progress.source, type(error).__name__, message))
    verdicts: tuple[Verdict, ...] = ()
    if output.exists():
        notebook = nbformat.read(output, as_version=4)
        drop_progress_lines(notebook)
        write_atomically(output, lambda temporary: nbformat.write(notebook, temporary))
        failures += widget_failures(notebook)
        try:
            verdicts = _verdicts(notebook, output.stem, profile)
        except ValueError as error:
            failures.append(Failure("verdicts", "", "ValueError", str(error)))
    run = NotebookRun(output.stem, output, time.monotonic() - began, given, tuple(failures), verdicts)
    if not stopped.is_set():
        bar.finish(progress, _line(run))
    return run


def widget_failures(notebook: nbformat.NotebookNode) -> list[Failure]:
    """Errors that a slider's callback raised: they are in the state of the widgets, and fail no cell."""
    states = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    return [
        Failure(
            place="callback of a slider or button",
            source="",
            error=output["ename"],
            message=output["evalue"],
            traceback=plain("\n".join(output["traceback"])),
        )
        for state in states.values()
        for output in state.get("state", {}).get("outputs", ())
        if output["output_type"] == "error"
    ]


def drop_progress_lines(notebook: nbformat.NotebookNode) -> None:
    """Remove the lines of tqdm's bars from the outputs; other lines on stderr stay."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                lines = re.split(r"[\r\n]", output.text)
                output.text = "".join(f"{x}\n" for x in lines if plain(x).strip() and not is_progress_line(x))
        cell.outputs = [one for one in cell.outputs if one.output_type != "stream" or one.text]


def _verdicts(notebook: nbformat.NotebookNode, name: str, profile: str) -> tuple[Verdict, ...]:
    """The verdicts that a notebook shows, of the profile that it ran with, or on recorded results."""
    verdicts = collect(notebook.cells, name)
    for one in verdicts:
        if one.profile not in (profile, RECORDED):
            raise ValueError(
                f"claim {one.claim!r} has a verdict of profile {one.profile!r} in a run of profile "
                f"{profile!r}; it was stored, not computed"
            )
    return verdicts


def _line(run: NotebookRun) -> str:
    """What a log says about a notebook that is done."""
    lines = [f"{run.name}: {run.seconds:.1f} s"]
    for one in run.failures:
        first = one.message.partition("\n")[0]
        lines.append(f"    FAILED in {one.place}: {one.error}: {first}")
    return "\n".join(lines)


@contextmanager
def _private_jupyter() -> Iterator[None]:
    """Keep Jupyter out of the user's home, which may be unwritable, or hold settings that change results."""
    names = ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    with (
        tempfile.TemporaryDirectory(prefix="fl_meta_", ignore_cleanup_errors=True) as folder,
        _environment({name: str(Path(folder) / name.lower()) for name in names}),
    ):
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables, for this process and those that it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
