"""Run notebooks through papermill, two at a time, and report in full what failed."""

from __future__ import annotations

import ast
import asyncio
import difflib
import logging
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
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets import Instance, Type

from fl_meta.evidence.verdicts import Verdict, collect
from fl_meta.experiments.settings import RECORDED
from fl_meta.reproduction.kernel_client import AttentiveClient
from fl_meta.reproduction.progress import Progress, is_progress_line, plain
from fl_meta.support.atomic_files import write_atomically
from fl_meta.support.guard import MARK, clean_up
from fl_meta.support.run_folder import environment_of, run_folder

KERNEL = "python3"
CELL_SECONDS = {"smoke": 300, "laptop": 1800, "full": None}
"""Seconds after which a cell counts as hanging, by profile; None sets no limit."""

AT_ONCE = 2
"""How many notebooks run at the same time."""

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PATTERN = "[0-9][0-9]_*"
PROSE = "prose"
"""The tag of a cell that writes a sentence with computed numbers: readers see the sentence, not the code."""

# The report says what they would print about a kernel that has died.
for _logger in ("papermill", "traitlets"):
    logging.getLogger(_logger).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Failure:
    """What went wrong, in "cell 5 of 12" for example, with the code of that cell and the error's class."""

    place: str
    source: str
    error: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class NotebookRun:
    """One executed notebook.

    Attributes:
        name: its file name without the suffix.
        path: the executed notebook.
        seconds: how long it took.
        parameters: its parameters by name, with the values they had in this run.
        failures: what went wrong; empty if nothing did.
        verdicts: the verdicts on the claims in its outputs.
    """

    name: str
    path: Path
    seconds: float
    parameters: Mapping[str, Any]
    failures: tuple[Failure, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Notebooks to run, the parameters given to all of them, and the values of all parameters of each."""

    paths: tuple[Path, ...]
    given: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]


class _InterpretersOwnKernel(AsyncKernelManager):
    """Starts the kernel of this interpreter, never one of the same name in the user's home.

    What the kernel leaves, processes and temporary files, goes when it ends, however it does.
    """

    kernel_spec_manager = Instance(KernelSpecManager, args=(), kw={"kernel_dirs": []})
    client_factory = Type(AttentiveClient)
    existing: ClassVar[WeakSet[_InterpretersOwnKernel]] = WeakSet()
    _folder: Path | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.existing.add(self)

    async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
        """Start the kernel with a folder of its own inside that of the run."""
        self._folder = Path(tempfile.mkdtemp(dir=os.environ[MARK]))
        self.connection_file = str(self._folder / "connection.json")
        await super().start_kernel(env={**os.environ, **environment_of(self._folder)}, **options)

    async def cleanup_resources(self, restart: bool = False) -> None:  # type: ignore[override]
        """Also clean up after the kernel."""
        await super().cleanup_resources(restart)
        if self._folder is not None:
            clean_up(self._folder)

    async def kill(self) -> None:
        """Kill the kernel, if it is running, and the processes that it has started."""
        if self.has_kernel:
            await self.signal_kernel(signal.SIGKILL)


def find(folder: Path, suffix: str) -> tuple[Path, ...]:
    """The notebooks of a folder (suffix `.ipynb`) or their sources (`.py`), in the order of their numbers."""
    paths = tuple(sorted(folder.glob(PATTERN + suffix)))
    if not paths:
        raise FileNotFoundError(
            f"no notebook {PATTERN + suffix} in {folder.absolute()}; go to the root of the repository, "
            "or name the folder with --notebooks"
        )
    return paths


def plan(folder: Path, given: Mapping[str, Any]) -> Plan:
    """Find the notebooks `NN_*.ipynb` and check that each of them has the given parameters.

    papermill itself only warns of an unknown parameter, and then runs the notebook with its defaults.
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
                    f"{name} must be of type {kind.__name__} in {path.name} (default: {default!r}), "
                    f"got {value!r}"
                )
        parameters.append({**known, **given})
    return Plan(paths, dict(given), tuple(parameters))


def parameters_of(path: Path) -> dict[str, Any]:
    """A notebook's parameters with their defaults, read from its cell with the tag 'parameters'."""
    try:
        declared = papermill.inspect_notebook(path)
    except (ValueError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} cannot be read as a notebook: {error}") from error
    return {name: _value(parameter["default"]) for name, parameter in declared.items()}


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


def set_parameters(notebook: nbformat.NotebookNode, given: Mapping[str, Any]) -> None:
    """Write values into the cell with the tag 'parameters'.

    papermill would add a second cell after it, which readers of the page would have to tell from the first.
    """
    if not given:
        return
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    lines, missing = cell.source.splitlines(), dict(given)
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and target.id in missing and node.lineno == node.end_lineno:
                line, begin, end = lines[node.lineno - 1], node.value.col_offset, node.value.end_col_offset
                lines[node.lineno - 1] = f"{line[:begin]}{_literal(missing.pop(target.id))}{line[end:]}"
    cell.source = "\n".join([*lines, *(f"{name} = {_literal(value)}" for name, value in missing.items())])


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) and value.isidentifier() else repr(value)


def run_all(plan: Plan, output: Path, profile: str) -> Iterator[NotebookRun]:
    """Execute the planned notebooks in their own folder, two at a time, and write them into `output`.

    Yields the runs in the order in which they finish. A notebook that fails, hangs or loses its kernel does
    not stop the others. A verdict of another profile counts as a failure, because it was not computed by this
    run. Ctrl-C, or whatever else ends this process, ends all kernels at once. What a kernel has started, or
    put into its temporary folder, always goes with it.
    """
    stopped = Event()
    # With a thread per core in each notebook, idle threads that wait by spinning would waste the cores.
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // AT_ONCE))
    with (
        _private_jupyter(),
        environment({"OMP_NUM_THREADS": threads}),
        Progress(len(plan.paths)) as progress,
        ThreadPoolExecutor(AT_ONCE) as lanes,
    ):

        def lane(path: Path, parameters: Mapping[str, Any]) -> NotebookRun:
            try:
                run = _execute(path, output / path.name, plan.given, profile, progress, path.parent, stopped)
            finally:
                ensure_event_loop().close()  # this thread's own, which nobody else closes
            return replace(run, parameters=parameters)

        running = [lanes.submit(lane, *pair) for pair in zip(plan.paths, plan.parameters, strict=True)]
        try:
            for future in as_completed(running):
                yield future.result()
        finally:
            stopped.set()
            lanes.shutdown(wait=False, cancel_futures=True)
            for kernel in list(_InterpretersOwnKernel.existing):
                asyncio.run(kernel.kill())


def run_one(path: Path, output: Path, profile: str, folder: Path) -> NotebookRun:
    """Execute one notebook in `folder` with its own parameters, otherwise as in `run_all`."""
    with _private_jupyter(), Progress(1) as progress:
        return _execute(path, output, {}, profile, progress, folder, Event())


def _execute(
    path: Path,
    output: Path,
    given: Mapping[str, Any],
    profile: str,
    progress: Progress,
    folder: Path,
    stopped: Event,
) -> NotebookRun:
    """Execute one notebook with `folder` as its working folder, and write the result to `output`."""
    output = output.absolute()
    began = time.monotonic()
    notebook_progress = progress.start(output.stem)

    def start_cell(cell: nbformat.NotebookNode, cell_index: int) -> None:
        if stopped.is_set():
            raise CancelledError
        notebook_progress.start_cell(cell, cell_index)

    failures: list[Failure] = []
    try:
        notebook = nbformat.read(path, as_version=4)
        set_parameters(notebook, given)
        write_atomically(output, lambda temporary: nbformat.write(notebook, temporary))
        papermill.execute_notebook(
            output,
            output,
            kernel_name=KERNEL,
            # papermill's `cwd` would change the folder of the whole process, and so of the other threads.
            resources={"metadata": {"path": str(folder)}},
            progress_bar=False,
            stderr_file=notebook_progress,
            start_timeout=120,
            execution_timeout=CELL_SECONDS[profile],
            iopub_timeout=60,
            kernel_manager_class=_InterpretersOwnKernel,
            # The kernel's log would break the progress bar; its errors arrive as messages anyway.
            extra_arguments=["--log-level=CRITICAL"],
            on_notebook_start=notebook_progress.start_notebook,
            on_cell_start=start_cell,
        )
    except PapermillExecutionError as error:
        place = f"cell {error.cell_index + 1} of {notebook_progress.cells}"
        trace = plain("\n".join(error.traceback))
        failures.append(Failure(place, error.source, error.ename, error.evalue, trace))
    # Whatever else ends a notebook, such as a dead kernel or a hanging cell, must not stop the others.
    except Exception as error:
        place = "start of the kernel"
        if notebook_progress.cells:
            place = f"cell {notebook_progress.position} of {notebook_progress.cells}"
        message = plain(str(error)).strip()
        if isinstance(error, DeadKernelError):
            message += "; if memory ran out, free some or choose a smaller profile, and run it again"
        failures.append(Failure(place, notebook_progress.source, type(error).__name__, message))
    verdicts: tuple[Verdict, ...] = ()
    if output.exists():
        place = "executed notebook"  # the disk may be full
        try:
            executed = nbformat.read(output, as_version=4)
            drop_progress_lines(executed)
            write_atomically(output, lambda temporary: nbformat.write(executed, temporary))
            failures += widget_failures(executed)
            place = "verdicts"
            verdicts = _verdicts(executed, output.stem, profile)
        except (OSError, ValueError) as error:
            failures.append(Failure(place, "", type(error).__name__, str(error)))
    run = NotebookRun(output.stem, output, time.monotonic() - began, given, tuple(failures), verdicts)
    if not stopped.is_set():
        progress.finish(notebook_progress, _line(run))
    return run


def widget_failures(notebook: nbformat.NotebookNode) -> list[Failure]:
    """Errors raised in a slider's callback: they fail no cell, but the state of the widgets has them."""
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
    """Remove the lines of tqdm's bars from the outputs; keep the other lines on stderr."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                lines = re.split(r"[\r\n]", output.text)
                output.text = "".join(
                    f"{line}\n" for line in lines if plain(line).strip() and not is_progress_line(line)
                )
        cell.outputs = [output for output in cell.outputs if output.output_type != "stream" or output.text]


def _verdicts(notebook: nbformat.NotebookNode, name: str, profile: str) -> tuple[Verdict, ...]:
    """The verdicts in a notebook's outputs, all of this run's profile or on recorded results."""
    verdicts = collect(notebook.cells, name)
    for verdict in verdicts:
        if verdict.profile not in (profile, RECORDED):
            raise ValueError(
                f"claim {verdict.claim!r} has a verdict of profile {verdict.profile!r} in a run of profile "
                f"{profile!r}; it was stored, not computed"
            )
    return verdicts


def _line(run: NotebookRun) -> str:
    """What a log says about a finished notebook."""
    lines = [f"{run.name}: {run.seconds:.1f} s"]
    for failure in run.failures:
        first_line = failure.message.partition("\n")[0]
        lines.append(f"    FAILED in {failure.place}: {failure.error}: {first_line}")
    return "\n".join(lines)


@contextmanager
def _private_jupyter() -> Iterator[None]:
    """Keep Jupyter out of the user's home, which may be read-only or have settings that change results."""
    with (
        run_folder() as folder,
        environment(
            {
                MARK: str(folder),
                "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
                "IPYTHONDIR": str(folder / "ipython"),
            }
        ),
    ):
        yield


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process and of those it starts, and restore them at the end."""
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
