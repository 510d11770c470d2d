"""How far a run is: written into its checkpoint, and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fl_meta.algorithms.optimizers import OptimizerState
from fl_meta.engines.client_momentum import ClientMomentum
from fl_meta.evaluation.personalization import PersonalizationTable
from fl_meta.support.atomic_files import remove_unfinished
from fl_meta.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from fl_meta.training.resumable import Resumable, counts_steps, problems
from fl_meta.training.rounds import TrainingState


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        state: what the next round needs.
        table: the scores of the last evaluation; None before the first.
        evaluation_momentum: the evaluated clients' buffers, if the evaluation keeps momentum.
    """

    state: TrainingState
    table: PersonalizationTable | None = None
    evaluation_momentum: ClientMomentum = field(default_factory=ClientMomentum)


def write_progress(
    path: Path, config: dict[str, Any], progress: Progress, history: list[dict[str, Any]]
) -> None:
    """Write a checkpoint of a run; `config` is `run_config`'s, `history` has a row per round."""
    state, table = progress.state, progress.table
    tensors = {f"params/{name}": tensor for name, tensor in state.params.items()}
    for name, of_optimizer in state.server.items():
        tensors |= {f"server/{name}/{key}": tensor for key, tensor in of_optimizer.items()}
    tensors |= {f"momentum/{client}": buffer for client, buffer in state.momentum.buffers.items()}
    buffers = progress.evaluation_momentum.buffers
    tensors |= {f"evaluation/{client}": buffer for client, buffer in buffers.items()}
    tensors["round_number"] = torch.tensor(state.round_number)
    notes = {"history": history, "table": table.rows.to_dict("list") if table else None}
    write_checkpoint(path, tensors, config, notes)


def read_progress(path: Path, run: Resumable, device: str) -> tuple[Progress, list[dict[str, Any]]]:
    """The progress and the history in a checkpoint of this run; what a kill left beside it is removed.

    Raises:
        CheckpointError: as `read_checkpoint`, or if a field is not what this run would have written.
    """
    remove_unfinished(path)
    tensors, notes = read_checkpoint(path, run.config)
    for problem in problems(tensors, notes, run):
        raise CheckpointError(f"checkpoint {path} cannot be used: {problem}; delete it to start again")

    # Adam counts its steps on the processor, whatever the device. Copies, because in the file's memory
    # tensors are at any address, and products with them may round in another way.
    tensors = {t: tensor.to("cpu" if counts_steps(t) else device, copy=True) for t, tensor in tensors.items()}
    server: OptimizerState = {}
    for name in run.start:
        title = f"server/{name}/"
        if kept := {t.removeprefix(title): tensor for t, tensor in tensors.items() if t.startswith(title)}:
            server[name] = kept
    params = {name: tensors[f"params/{name}"] for name in run.start}
    momentum, of_evaluation = (
        ClientMomentum({t.removeprefix(kind): buffer for t, buffer in tensors.items() if t.startswith(kind)})
        for kind in ("momentum/", "evaluation/")
    )
    table = None
    if run.evaluation and notes.get("table"):
        table = PersonalizationTable(pd.DataFrame(notes["table"]), run.evaluation.held_out.label)
    state = TrainingState(int(tensors["round_number"]), params, server, momentum)
    return Progress(state, table, of_evaluation), notes["history"]
