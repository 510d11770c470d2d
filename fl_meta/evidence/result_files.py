"""Result files: their names, and reading and writing them, which needs no PyTorch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Never

from fl_meta.evidence.json_records import FieldError, from_json
from fl_meta.evidence.result_types import (
    BenchmarkResult,
    CrossedResult,
    CrossedTableOneResult,
    Experiment,
    HeterogeneityResult,
    Result,
    TuningResult,
)
from fl_meta.experiments.crossed_settings import Crossed, Design
from fl_meta.experiments.heterogeneity_settings import Heterogeneity
from fl_meta.experiments.published_settings import Benchmark
from fl_meta.experiments.table_one_settings import CrossedTableOne
from fl_meta.support.atomic_files import write_atomically

FORMAT = 1
KINDS: dict[str, tuple[type[Experiment], type[Result]]] = {
    "benchmark": (Benchmark, BenchmarkResult),
    "heterogeneity": (Heterogeneity, HeterogeneityResult),
    "tuning": (Design, TuningResult),
    "crossed": (Crossed, CrossedResult),
    "crossed_table_one": (CrossedTableOne, CrossedTableOneResult),
}
"""The kinds of experiments by their names in files: the types of their configurations and results."""


class ResultError(ValueError):
    """A result file that cannot be used: it is damaged or belongs to something else."""


def kind_of(config: Experiment) -> str:
    """The name of the experiment's kind, as in files."""
    return next(name for name, (kind, _) in KINDS.items() if isinstance(config, kind))


def file_name(config: Experiment, seed: int) -> str:
    """The name of a result file: what it is of, and 8 digits that change with every field of the config.

    Example:
        >>> file_name(fl_meta.experiments.DESIGNS["unipen62-unstable"], seed=0)
        'tuning-unipen62-mlp-70cba59b-seed0.json'
    """
    return f"{name_without_seed(config)}-seed{seed}.json"


def name_without_seed(config: Experiment) -> str:
    """How the names of an experiment's result files begin.

    Example:
        >>> name_without_seed(fl_meta.experiments.DESIGNS["unipen62-unstable"])
        'tuning-unipen62-mlp-70cba59b'
    """
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:8]
    return f"{kind_of(config)}-{config.setting.dataset}-{config.setting.model}-{digest}"


def read_result(path: Path) -> Result:
    """Read a result file.

    Raises:
        ResultError: if the file is damaged or has another format; the message names file and field.

    Example:
        >>> result = read_result(Path("data/results", file_name(config, seed=0)))  # doctest: +SKIP
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if type(value) is not dict or not value.keys() >= {"format", "kind"}:
            raise FieldError("", "an object with the fields format and kind", value)
        if value["format"] == FORMAT:
            if value["kind"] not in tuple(KINDS):
                raise FieldError("kind", f"one of {', '.join(KINDS)}", value["kind"])
            return from_json(KINDS[value["kind"]][1], value)
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} is not a result file: {error}; delete it to compute it again") from error
    raise ResultError(f"{path} has format {value['format']}; this version reads format {FORMAT}")


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number")


def write_result(result: Result, path: Path) -> None:
    """Write a result atomically; a number that is not finite is a ValueError."""
    text = json.dumps(asdict(result), ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
