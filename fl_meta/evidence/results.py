"""Results of experiments as files: computed once, found again, computed again and compared."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from tqdm import tqdm

from fl_meta.data.federated import FederatedDataset
from fl_meta.evidence.processes import processes
from fl_meta.experiments.clients import clients_of
from fl_meta.experiments.comparison import compare
from fl_meta.experiments.comparison_settings import (
    Comparison,
)
from fl_meta.experiments.heterogeneity import Heterogeneity, heterogeneity
from fl_meta.experiments.published_scores import benchmark, clients_of_row
from fl_meta.experiments.published_settings import Benchmark
from fl_meta.experiments.settings import Setting
from fl_meta.experiments.table_one import TableOne, table_one
from fl_meta.support.atomic_files import write_atomically
from fl_meta.support.folders import cache_folder, named_folder

USUAL_MODELS = ("mlp", "char_mlp")


def label_of(result: dict[str, Any]) -> str:
    """The data set's label, with the model where it is not the usual one."""
    model, label = result["config"]["setting"]["model"], str(result["data"]["label"])
    return label if model in USUAL_MODELS else f"{label}, {model}"


Experiment = TableOne | Comparison | Benchmark | Heterogeneity
Result = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A kind of experiment.

    Attributes:
        config: its type.
        data: a config to the clients that take part.
        run: a config and a seed to what is found out.
        parts: where in that the accuracies are.
    """

    config: type[Experiment]
    data: Callable[[Any], FederatedDataset]
    run: Callable[[Any, int], Result]
    parts: str


FORMAT = 1
STUDIES = {
    "table_one": Study(TableOne, lambda config: clients_of(config.setting), table_one, "cells"),
    "comparison": Study(Comparison, lambda config: clients_of(config.setting), compare, "models"),
    "benchmark": Study(Benchmark, clients_of_row, benchmark, "methods"),
    # Of the many data sets of its cells the header names the one that all knobs at 1 would draw.
    "heterogeneity": Study(Heterogeneity, lambda config: clients_of(config.setting), heterogeneity, "cells"),
}
AGREEMENT = 0.02  # largest difference of a mean accuracy that another machine's rounding may make


class ResultError(ValueError):
    """A file of results that cannot be used: damaged, or of something else."""


def kind_of(config: Experiment) -> str:
    """The name of an experiment's kind, as files have it."""
    return next(name for name, study in STUDIES.items() if isinstance(config, study.config))


def data_of(config: Experiment) -> FederatedDataset:
    """The clients that take part in an experiment.

    Raises:
        FileNotFoundError, ModuleNotFoundError, ValueError: if they cannot be loaded.
    """
    return STUDIES[kind_of(config)].data(config)


def compute(config: Experiment, seed: int) -> Result:
    """Run one experiment for one seed; what comes out is JSON.

    Beside what the study gives: format, kind, config, seed, versions, machine, seconds, and of the data its
    name, label and sha256.
    """
    begin = time.perf_counter()
    kind, data = kind_of(config), data_of(config)
    header = {
        "format": FORMAT,
        "kind": kind,
        "config": _as_json(asdict(config)),
        "seed": seed,
        "data": {"name": data.name, "label": data.label, "sha256": data.fingerprint},
        "fl_meta": version("fl_meta"),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    }
    found = STUDIES[kind].run(config, seed)
    return header | {"seconds": round(time.perf_counter() - begin, 1)} | found


def file_name(config: Experiment, seed: int) -> str:
    """Of a result: what it is, and 8 digits that change with every field of the config."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:8]
    return f"{kind_of(config)}-{config.setting.dataset}-{config.setting.model}-{digest}-seed{seed}.json"


def read_result(path: Path) -> Result:
    """A result from its file.

    Raises:
        ResultError: if the file is damaged or of another format.
    """
    try:
        result: Result = json.loads(path.read_text(encoding="utf-8"))
        if result["format"] != FORMAT:
            raise ResultError(f"{path} has format {result['format']}; this version reads {FORMAT}")
        config_of(result)
        for field in ("seed", "data", "clients", STUDIES[result["kind"]].parts):
            result[field]  # a KeyError names what is missing
    except ResultError:
        raise
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ResultError(f"{path} is no result ({error!r}); delete it to compute it again") from error
    return result


def config_of(result: Result) -> Experiment:
    """The experiment that a result is of.

    Raises:
        KeyError, TypeError, ValueError: if it is of none.
    """
    fields = {name: _tuples(value) for name, value in result["config"].items()}
    return STUDIES[result["kind"]].config(**fields | {"setting": Setting(**result["config"]["setting"])})


def load_or_run(
    config: Experiment,
    seeds: Sequence[int],
    folder: Path,
    *,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[Result]:
    """The results of all seeds: those that lie in the folder, and the others computed, side by side.

    Each is written when it is there, so that after a stop the same call computes only what is missing. A seed
    that fails does not stop the others; its error comes at the end.

    Args:
        config: the experiment.
        seeds: one result each.
        folder: of the files.
        executor: runs the seeds, for example dask's `Client.get_executor()`; None takes a process per core.
        progress: whether to show a progress bar.

    Raises:
        ResultError: if a file in the folder cannot be used.
        OSError: if the folder cannot be written to; nothing is computed then.
        Exception: what a seed raised.
    """
    found = _found(config, seeds, folder)
    if len(found) < len(seeds):
        # A folder that cannot be written to is noticed now, not after hours.
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        # Two notebooks may ask for the same at the same time: one computes, the other waits and finds it.
        name = hashlib.sha256(str((folder / file_name(config, 0)).absolute()).encode()).hexdigest()
        with FileLock(Path(tempfile.gettempdir(), f"fl_meta-{name}.lock")):
            found = _found(config, seeds, folder)
            if missing := [seed for seed in seeds if seed not in found]:
                found |= _computed(config, missing, folder, executor, progress)
    return [found[seed] for seed in seeds]


def _found(config: Experiment, seeds: Sequence[int], folder: Path) -> dict[int, Result]:
    """By seed the results that lie in the folder."""
    paths = {seed: folder / file_name(config, seed) for seed in seeds}
    found = {seed: read_result(path) for seed, path in paths.items() if path.exists()}
    for seed, result in found.items():
        if (config_of(result), result["seed"]) != (config, seed):
            raise ResultError(f"{paths[seed]} is of another experiment; delete it to compute it again")
    return found


def _computed(
    config: Experiment, seeds: Sequence[int], folder: Path, executor: Executor | None, progress: bool
) -> dict[int, Result]:
    """By seed new results, each written into the folder when it is there."""
    found: dict[int, Result] = {}
    errors: list[Exception] = []
    # One process more than cores: three seeds then leave no core idle for long.
    number = min(len(seeds), (os.cpu_count() or 1) + 1)
    with processes(number) if executor is None else nullcontext(executor) as pool:
        futures: dict[Future[Result], int] = {pool.submit(compute, config, s): s for s in seeds}
        title = f"{config.setting.dataset}, {config.setting.model}"
        try:
            for future in tqdm(
                as_completed(futures), title, len(futures), False, unit="seed", disable=not progress
            ):
                seed = futures[future]
                try:
                    result = future.result()
                except Exception as error:
                    errors.append(error)
                    continue
                write_result(result, folder / file_name(config, seed))
                found[seed] = result
        finally:
            for future in futures:
                future.cancel()
    if errors:
        raise errors[0]
    return found


def recorded(config: Experiment, folder: Path) -> list[Result]:
    """The results that the repository keeps of an experiment, one per fold; none if one is missing.

    Raises:
        ResultError: if a file cannot be used.
    """
    paths = [folder / file_name(config, seed) for seed in range(config.folds)]
    return [read_result(path) for path in paths] if all(path.exists() for path in paths) else []


def own_folder() -> Path:
    """Where one's own results are kept: `$FL_META_EXPERIMENTS`, else in the user's cache folder."""
    return named_folder("FL_META_EXPERIMENTS") or cache_folder() / "experiments"


def write_result(result: Result, path: Path) -> None:
    """Write a result atomically.

    Raises:
        OSError: if the folder cannot be written to.
    """
    text = json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def largest_difference(one: Result, other: Result) -> float:
    """Of all mean accuracies of two results of one experiment and seed; 0.02 are two points.

    Raises:
        ResultError: if they are not of the same experiment, seed and data.
    """
    for field in ("kind", "config", "seed", "data"):
        if one[field] != other[field]:
            raise ResultError(f"the results differ in {field}: {one[field]} and {other[field]}")
    differences = [0.0]
    for a, b in zip(_accuracies(one), _accuracies(other), strict=True):
        differences += [abs(_mean(x) - _mean(y)) for x, y in zip(a, b, strict=True)]
    return max(differences)


def _accuracies(result: Result) -> list[list[list[float]]]:
    return [part["accuracy"] for part in result[STUDIES[result["kind"]].parts]]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
