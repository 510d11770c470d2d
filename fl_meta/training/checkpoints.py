"""Checkpoints: tensors in safetensors, everything else as JSON in its header; never unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fl_meta.support.atomic_files import write_atomically


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, or written by another configuration."""


def _digest(tensors: dict[str, Tensor], notes: str) -> str:
    digest = hashlib.sha256(notes.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(
    path: Path, tensors: dict[str, Tensor], config: dict[str, Any], progress: dict[str, Any]
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file.
        tensors: what to keep bit for bit.
        config: what a run that resumes must have in common with this one, as JSON values.
        progress: how far this run is, as JSON values.

    Raises:
        OSError: if the folder cannot be written to.
    """
    notes = json.dumps({"config": config, "progress": progress})
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    metadata = {"notes": notes, "sha256": _digest(tensors, notes)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def read_checkpoint(path: Path, config: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the progress of a checkpoint.

    Raises:
        CheckpointError: if the file is damaged, or its config differs (the message says in which fields).
    """
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder; name a file in it")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        notes = metadata["notes"]
        intact = metadata["sha256"] == _digest(tensors, notes)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({error}); delete it to start again"
        ) from error
    if not intact:
        raise CheckpointError(f"checkpoint {path} is damaged (checksum differs); delete it to start again")
    content = json.loads(notes)
    differences = [
        f"{field} is {content['config'].get(field)!r} in the checkpoint and {config.get(field)!r} in this run"
        for field in {**config, **content["config"]}  # the seed first, then what depends on it
        # What is off need not be named: a file from before there was such an option goes on.
        if (content["config"].get(field) or None) != (config.get(field) or None)
    ]
    if differences:
        raise CheckpointError(
            f"checkpoint {path} is from another configuration: {'; '.join(differences)}. "
            "Use the same configuration to resume, or another path to start a new run"
        )
    return tensors, content["progress"]
