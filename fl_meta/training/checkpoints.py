"""Checkpoints: tensors in a safetensors file, everything else as JSON in its header; no pickles."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fl_meta.algorithms.sent import formula_of
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm
from fl_meta.engines.task import Task
from fl_meta.evaluation.personalization import Evaluation
from fl_meta.models.parameters import Params
from fl_meta.support.atomic_files import write_atomically
from fl_meta.support.validation import whole_number


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, or written by another configuration."""


def _content(name: str, tensor: Tensor) -> bytes:
    """A tensor's name, shape, type and bytes."""
    # NumPy does not have all types.
    numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + numbers


def _digest(tensors: dict[str, Tensor], notes: str) -> str:
    digest = hashlib.sha256(notes.encode())
    for name in sorted(tensors):
        digest.update(_content(name, tensors[name]))
    return digest.hexdigest()


def write_checkpoint(
    path: Path, tensors: dict[str, Tensor], config: dict[str, Any], progress: dict[str, Any]
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file.
        tensors: kept bit for bit.
        config: settings that a resuming run must share, as JSON values.
        progress: how far this run has come, as JSON values.

    Raises:
        OSError: if the file cannot be written; what was there before is kept.
    """
    notes = json.dumps({"config": config, "progress": progress})
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    metadata = {"notes": notes, "sha256": _digest(tensors, notes)}
    # Not save_file, which puts another temporary file beside this one, and has its own error for a full disk.
    write_atomically(path, lambda temporary: temporary.write_bytes(save(tensors, metadata)))


def read_checkpoint(path: Path, config: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the progress of a checkpoint.

    Raises:
        CheckpointError: if the file is damaged, or its config differs (the message says in which fields).
    """
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder; name a file in it")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise CheckpointError(f"checkpoint {path} is not a file; choose another path")
    try:
        path.open("rb").close()  # safetensors would call whatever the system refuses a missing file
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({error.strerror}); it may be whole, so keep it"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        intact = metadata.get("sha256") == _digest(tensors, metadata.get("notes", ""))
        content = json.loads(metadata.get("notes", "")) if intact else {}
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({error}); delete it to start again"
        ) from error
    _require(path, metadata, ("notes", "sha256"), str)
    if not intact:
        raise CheckpointError(f"checkpoint {path} is damaged (checksum differs); delete it to start again")
    _require(path, content, ("config", "progress"), dict)
    _compare(path, content["config"], config)
    return tensors, content["progress"]


def _require(path: Path, content: Any, fields: Iterable[str], kind: type) -> None:
    for field in fields:
        if not isinstance(content, dict) or not isinstance(content.get(field), kind):
            raise CheckpointError(
                f"checkpoint {path} cannot be used: it has no {field}; delete it to start again"
            )


def _compare(path: Path, kept: dict[str, Any], config: dict[str, Any]) -> None:
    differences = [
        f"{field} is {kept.get(field)!r} in the checkpoint and {config.get(field)!r} in this run"
        for field in {**config, **kept}  # the seed first, then what depends on it
        # A missing option counts as off, so that older checkpoints still load.
        if (kept.get(field) or None) != (config.get(field) or None)
    ]
    if differences:
        raise CheckpointError(
            f"checkpoint {path} is from another configuration: {'; '.join(differences)}. "
            "Use the same configuration to resume, or another path to start a new run"
        )


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run is saved, so that it can be resumed.

    Example:
        >>> checkpoint = fl_meta.Checkpoint("run.safetensors", every=50)
        >>> resumable = fl_meta.train(model, train, stages, checkpoint=checkpoint, progress=False)

    Attributes:
        path: the file, kept as an absolute path. If it exists, training resumes from it.
        every: save after this many rounds; also at the start, on Ctrl-C and after the last round.
    """

    path: Path | str
    every: int = 10

    def __post_init__(self) -> None:
        # The working folder may change during a run. Unlike Path's, this leaves a user who does not exist.
        path = Path(os.path.expanduser(self.path)).absolute()  # noqa: PTH111
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "every", whole_number("checkpoint every", self.every))


def run_config(
    task: Task, stages: Sequence[Stage], start: Params, evaluation: Evaluation | None
) -> dict[str, Any]:
    """Everything that decides a run's numbers, one entry per field, as JSON values."""
    model, data = task.model, task.data
    digest = hashlib.sha256(b"".join(_content(name, tensor) for name, tensor in start.items()))
    buffers = b"".join(_content(name, tensor.to_dense()) for name, tensor in model.module.named_buffers())
    config: dict[str, Any] = {
        "seed": int(task.seed),  # NumPy's integers have no JSON
        "model": model.name,
        "architecture": hashlib.sha256(str(model.module).encode()).hexdigest()[:16],
        "initial parameters": digest.hexdigest()[:16],
        "frozen": [name for name in start if name in model.frozen],
        "buffers": hashlib.sha256(buffers).hexdigest()[:16] if buffers else None,
        "data": f"{data.name} {data.fingerprint[:16]}",
        "evaluation.every": evaluation.every if evaluation else None,
        "evaluation.personalization_epochs": evaluation.personalization_epochs if evaluation else None,
        "evaluation.client": asdict(evaluation.client) if evaluation and evaluation.client else None,
        "evaluation.held_out": evaluation.held_out.fingerprint[:16] if evaluation else None,
        "evaluation.keeps_momentum": evaluation.keeps_momentum if evaluation else None,
    }
    for i, stage in enumerate(stages):
        settings = asdict(stage)
        settings["algorithm"]["sends"] = formula_of(stage.algorithm.sends)
        _check_rule_has_a_name(stage.algorithm)
        config |= _flat(f"stages[{i}]", settings)
    return config


def _check_rule_has_a_name(algorithm: Algorithm) -> None:
    name = formula_of(algorithm.sends)
    if callable(algorithm.sends) and ("<lambda>" in name or not hasattr(algorithm.sends, "__qualname__")):
        raise ValueError(
            f"{algorithm.name}: a checkpoint recognizes a rule by its name, and {algorithm.sends!r} has none "
            "of its own; define it as a function"
        )


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _flat(f"{prefix}.{key}", part).items()}
    return {prefix: value}
