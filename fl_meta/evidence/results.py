"""Results of experiments: computed once, kept as files, read again."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import current_process
from pathlib import Path
from typing import Any, overload

import torch
from tqdm import tqdm

from fl_meta.data.federated import FederatedDataset
from fl_meta.evidence.locks import alone, remove_stale
from fl_meta.evidence.processes import OwnProcesses, ProcessEndedError, processes, undisturbed
from fl_meta.evidence.result_files import (
    FORMAT,
    KINDS,
    ResultError,
    file_name,
    kind_of,
    name_without_seed,
    read_result,
    write_result,
)
from fl_meta.evidence.result_types import (
    BenchmarkResult,
    CrossedResult,
    CrossedTableOneResult,
    DataFingerprint,
    Experiment,
    HeterogeneityResult,
    Result,
    TuningResult,
)
from fl_meta.experiments.clients import clients_of
from fl_meta.experiments.crossed import crossed
from fl_meta.experiments.crossed_settings import Crossed, Design
from fl_meta.experiments.crossed_tuning import tune
from fl_meta.experiments.heterogeneity import heterogeneity
from fl_meta.experiments.heterogeneity_settings import Heterogeneity
from fl_meta.experiments.published_scores import benchmark, clients_of_row
from fl_meta.experiments.published_settings import Benchmark
from fl_meta.experiments.table_one import crossed_table_one
from fl_meta.experiments.table_one_settings import CrossedTableOne
from fl_meta.support.folders import cache_folder, named_folder


@dataclass(frozen=True)
class ExperimentKind:
    """How to load the clients of a kind of experiment, and to run it for a seed."""

    data: Callable[[Any], FederatedDataset]
    run: Callable[[Any, int], Any]


def _clients(config: Experiment) -> FederatedDataset:
    return clients_of(config.setting)


EXPERIMENTS = {
    "benchmark": ExperimentKind(clients_of_row, benchmark),
    # Its cells have many data sets. The result names the one in which all knobs are 1.
    "heterogeneity": ExperimentKind(_clients, heterogeneity),
    "tuning": ExperimentKind(_clients, tune),
    "crossed": ExperimentKind(_clients, crossed),
    "crossed_table_one": ExperimentKind(_clients, crossed_table_one),
}


def data_of(config: Experiment) -> FederatedDataset:
    """The clients that take part in an experiment."""
    return EXPERIMENTS[kind_of(config)].data(config)


def compute(config: Experiment, seed: int) -> Result:
    """Run one experiment for one seed."""
    begin = time.perf_counter()
    kind, data = kind_of(config), data_of(config)
    outcome = EXPERIMENTS[kind].run(config, seed)
    return KINDS[kind][1](
        format=FORMAT,
        kind=kind,
        config=config,
        seed=seed,
        data=DataFingerprint(data.name, data.label, data.fingerprint),
        fl_meta=version("fl_meta"),
        torch=torch.__version__,
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        seconds=round(time.perf_counter() - begin, 1),
        **vars(outcome),
    )


Seeds = Sequence[int]


@overload
def load_or_run(
    config: CrossedTableOne,
    seeds: Seeds,
    folder: Path,
    *,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[CrossedTableOneResult]: ...
@overload
def load_or_run(
    config: Benchmark, seeds: Seeds, folder: Path, *, executor: Executor | None = None, progress: bool = True
) -> list[BenchmarkResult]: ...
@overload
def load_or_run(
    config: Design, seeds: Seeds, folder: Path, *, executor: Executor | None = None, progress: bool = True
) -> list[TuningResult]: ...
@overload
def load_or_run(
    config: Crossed, seeds: Seeds, folder: Path, *, executor: Executor | None = None, progress: bool = True
) -> list[CrossedResult]: ...
@overload
def load_or_run(
    config: Experiment, seeds: Seeds, folder: Path, *, executor: Executor | None = None, progress: bool = True
) -> Sequence[Result]: ...
def load_or_run(
    config: Experiment, seeds: Seeds, folder: Path, *, executor: Executor | None = None, progress: bool = True
) -> Sequence[Result]:
    """The results of all seeds: read those that are in the folder, compute the others side by side.

    Each result is written as soon as it is computed, by the process that computed it, so that after an
    interruption the same call computes only what is missing. A seed that fails does not stop the others,
    unless files cannot be read or written; its error is raised at the end.

    Args:
        executor: runs the seeds, for example dask's `Client.get_executor()`; None starts a process per core.
            What one that is not from `concurrent.futures` computes is written when it has arrived here.

    Raises:
        ResultError: if a file in the folder cannot be used.
        OSError: if the folder cannot be written to; nothing is computed then.
        ProcessEndedError: if a process was killed, for lack of memory perhaps; the message names the file.
        Exception: the first error that a seed raised.

    Example:
        >>> config = fl_meta.experiments.DESIGNS["writers-stable"]
        >>> tuning = load_or_run(config, range(config.folds), own_folder())  # doctest: +SKIP
        >>> [choice.rate for choice in tuning[0].choices]  # doctest: +SKIP
    """
    results = _in_folder(config, seeds, folder)
    lock = folder / f".{name_without_seed(config)}.lock"
    if len(results) == len(seeds):
        remove_stale(lock)
    else:
        # Its processes import the script that called this. One without a guard would call it there again, and
        # wait for the process that waits for them.
        if getattr(current_process(), "_inheriting", False):
            raise RuntimeError(
                "this script computes results while its own processes import it; put what it does below: "
                'if __name__ == "__main__":'
            )
        # Find out now, not after hours, whether the folder can be written to.
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        # Two notebooks may ask for the same results at the same time: one computes, the other waits for it.
        awaited = [folder / file_name(config, seed) for seed in seeds]
        with alone(lock, awaited, progress):
            results = _in_folder(config, seeds, folder)
            if missing := [seed for seed in seeds if seed not in results]:
                results |= _computed(config, missing, folder, executor, progress)
    return [results[seed] for seed in seeds]


def _in_folder(config: Experiment, seeds: Seeds, folder: Path) -> dict[int, Result]:
    """The results in the folder by seed."""
    paths = {seed: folder / file_name(config, seed) for seed in seeds}
    results = {seed: read_result(path) for seed, path in paths.items() if path.exists()}
    for seed, result in results.items():
        if (result.config, result.seed) != (config, seed):
            raise ResultError(f"{paths[seed]} is of another experiment; delete it to compute it again")
    return results


def _computed(
    config: Experiment, seeds: Seeds, folder: Path, executor: Executor | None, progress: bool
) -> dict[int, Result]:
    """Newly computed results by seed, each written into the folder as soon as it is there."""
    results: dict[int, Result] = {}
    errors: list[Exception] = []
    ended: dict[int, str] = {}
    # One process more than cores: three seeds then leave no core idle for long.
    number = min(len(seeds), (os.cpu_count() or 1) + 1)
    with processes(number) if executor is None else nullcontext(executor) as pool:
        # Executors of other kinds, such as dask's, may compute on machines that do not have this folder.
        here = executor is None or isinstance(pool, OwnProcesses | ProcessPoolExecutor | ThreadPoolExecutor)
        task = partial(_compute_and_write, folder.absolute()) if here else compute
        futures: dict[Future[Result], int] = {pool.submit(task, config, seed): seed for seed in seeds}
        title = _title(config)
        try:
            for future in tqdm(
                as_completed(futures), title, len(futures), False, unit="seed", disable=not progress
            ):
                seed = futures[future]
                try:
                    results[seed] = future.result()
                    if not here:
                        write_result(results[seed], folder / file_name(config, seed))
                except BrokenExecutor as error:
                    ended[seed] = str(error) if isinstance(error, ProcessEndedError) else "abruptly"
                except OSError:  # the others could not be written either
                    raise
                except Exception as error:
                    if _lacked_memory(error):
                        ended[seed] = f"for lack of memory ({type(error).__name__})"
                    else:
                        errors.append(error)
        finally:
            for future in futures:
                future.cancel()
    if ended:
        raise _lost(config, ended, folder)
    if errors:
        raise errors[0]
    return results


def _title(config: Experiment) -> str:
    """The title of the progress bar."""
    parts = [config.setting.dataset, config.setting.model]
    if isinstance(config, Design | Crossed):
        parts.append(config.regime)
    if isinstance(config, Design):
        parts.append("tuning")
    return ", ".join(parts)


def _compute_and_write(folder: Path, config: Experiment, seed: int) -> Result:
    """Compute a result and write it where it is computed, so that it is kept whoever ends meanwhile."""
    result = compute(config, seed)
    with undisturbed:
        write_result(result, folder / file_name(config, seed))
    return result


def _lacked_memory(error: Exception) -> bool:
    # PyTorch has a class for it on a GPU only.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _lost(config: Experiment, ended: Mapping[int, str], folder: Path) -> ProcessEndedError:
    names = ", ".join(file_name(config, seed) for seed in sorted(ended))
    many = len(ended) > 1
    return ProcessEndedError(
        f"the process{'es' if many else ''} computing {names} {'were' if many else 'was'} ended "
        f"{next(iter(ended.values()))}; what was finished is in {folder}. Run it again for the rest, with "
        "fewer processes at once (fl-meta record --workers 1) or more free memory"
    )


@overload
def recorded(config: Heterogeneity, folder: Path) -> list[HeterogeneityResult]: ...
@overload
def recorded(config: Experiment, folder: Path) -> Sequence[Result]: ...
def recorded(config: Experiment, folder: Path) -> Sequence[Result]:
    """The results that the repository keeps of an experiment, one per fold; empty if any is missing.

    Raises:
        ResultError: if a file cannot be used.

    Example:
        >>> config = fl_meta.experiments.RECORDED_HETEROGENEITY
        >>> results = recorded(config, Path("data/results"))
    """
    paths = [folder / file_name(config, seed) for seed in range(config.folds)]
    return [read_result(path) for path in paths] if all(path.exists() for path in paths) else []


def own_folder() -> Path:
    """The folder of one's own results: `$FL_META_EXPERIMENTS`, or a folder in the user's cache.

    Example:
        >>> results = sorted(own_folder().glob("*.json"))
    """
    return named_folder("FL_META_EXPERIMENTS") or cache_folder() / "experiments"


def recorded_folder() -> Path:
    """The folder of the recorded results: `$FL_META_RECORDED`, or `data/results` here or further up.

    Raises:
        FileNotFoundError: if there is no such folder.

    Example:
        >>> table = crossed_table(recorded_folder())  # doctest: +SKIP
    """
    here, named = Path.cwd(), named_folder("FL_META_RECORDED")
    for folder in [named] if named else [parent / "data/results" for parent in (here, *here.parents)]:
        if folder.is_dir():
            return folder
    missing = named or f"data/results in {here} or above it"
    raise FileNotFoundError(
        f"no folder {missing} with recorded results; work in the repository, or set the environment variable "
        "FL_META_RECORDED to such a folder"
    )
