"""Whether a checkpoint fits the run that is resumed from it: every field is one that the run has written."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from reprlib import repr as short
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import Evaluation
from fl_meta.models.parameters import Params, all_finite
from fl_meta.training.rounds import RoundInfo


@dataclass(frozen=True)
class Resumable:
    """The run that a checkpoint must fit.

    Attributes:
        config: `run_config`'s.
        data: the training clients.
        stages: what the run trains.
        start: its initial parameters.
        evaluation: when and on whom it scores.
    """

    config: dict[str, Any]
    data: FederatedDataset
    stages: Sequence[Stage]
    start: Params
    evaluation: Evaluation | None


def problems(tensors: dict[str, Tensor], notes: dict[str, Any], run: Resumable) -> Iterator[str]:
    """What this run would not have saved, by field; what follows the first problem may depend on it."""
    yield from _misfit("round_number", tensors.get("round_number"), (), (torch.int64,))
    number, total = int(tensors["round_number"]), sum(stage.rounds for stage in run.stages)
    if not 0 <= number <= total:
        yield f"round_number is {number}, but this run has {total} rounds"
    yield from _tensor_problems(tensors, number, run)
    for name in notes:
        if name not in ("history", "table"):
            yield f"it has the unknown field {short(name)}"
    yield from _history_problems(notes.get("history"), number, run)
    if notes.get("table") is not None:
        yield from _table_problems(notes["table"], run.evaluation)


def _misfit(
    title: str, tensor: Tensor | None, shape: tuple[int, ...], types: tuple[torch.dtype, ...]
) -> Iterator[str]:
    expected = f"shape {shape} and type {' or '.join(str(kind).removeprefix('torch.') for kind in types)}"
    if tensor is None:
        yield f"{title} is missing; this run has it, with {expected}"
    elif tuple(tensor.shape) != shape or tensor.dtype not in types:
        kind = str(tensor.dtype).removeprefix("torch.")
        yield f"{title} has shape {tuple(tensor.shape)} and type {kind}; this run's has {expected}"


def _stage_after(stages: Sequence[Stage], number: int) -> tuple[int, int]:
    """The stage of the last of so many rounds, from 0, and how many of them were in it."""
    ends = list(accumulate(stage.rounds for stage in stages))
    stage = bisect_left(ends, number)
    return stage, number - (ends[stage] - stages[stage].rounds)


def _tensor_problems(tensors: dict[str, Tensor], number: int, run: Resumable) -> Iterator[str]:
    forms, buffers = _forms(run, number), _buffers(run, number)
    for title, form in forms.items():
        yield from _misfit(title, tensors.get(title), *form)
    for name in run.config["frozen"]:
        if not torch.equal(tensors[f"params/{name}"], run.start[name].cpu()):
            yield f"params/{name} is frozen, but is not what it was at the start"
    for title, tensor in tensors.items():
        if title in buffers:
            yield from _misfit(title, tensor, *buffers[title])
        elif title not in forms:
            yield f"{title} is not part of this run after {number} rounds"
        if counts_steps(title):
            done = _stage_after(run.stages, number)[1]
            # Beyond this number its type has no other.
            if tensor.item() != min(done, 2 / torch.finfo(tensor.dtype).eps):
                yield f"{title} is {tensor.item():g}, but is {done} after {number} rounds of this run"
        elif _spoiled(title, tensor, run.start):
            yield f"{title} has NaN or infinity in it"


def _spoiled(title: str, tensor: Tensor, start: Params) -> bool:
    """Whether a tensor has NaN or infinity in it and no run would have saved that."""
    kind, _, name = title.partition("/")
    # A run goes on from what it was given, and a rule may send less than the client's momentum has in it.
    if kind == "momentum" or (kind == "params" and not all_finite({name: start[name]})):
        return False
    if title.endswith("/exp_avg_sq"):  # an overflow of squares only stops its parameter
        return bool(tensor.isnan().any())
    return not all_finite({title: tensor})


_Form: TypeAlias = "tuple[tuple[int, ...], tuple[torch.dtype, ...]]"  # a shape, and the types allowed
_REAL = torch.float32, torch.float64, torch.float16, torch.bfloat16


def _forms(run: Resumable, number: int) -> dict[str, _Form]:
    """The tensors that this run has saved after so many rounds, apart from clients' buffers."""
    stage, done = _stage_after(run.stages, number)
    keys = _server_keys(run.stages[stage].algorithm.server) if done else ()
    forms: dict[str, _Form] = {"round_number": ((), (torch.int64,))}
    for name, tensor in run.start.items():
        form = tuple(tensor.shape), (tensor.dtype,)
        forms[f"params/{name}"] = form
        for key in () if name in run.config["frozen"] else keys:
            forms[f"server/{name}/{key}"] = ((), _REAL) if key == "step" else form
    return forms


def _server_keys(optimizer: SGD | Adam) -> tuple[str, ...]:
    if isinstance(optimizer, Adam):
        return "step", "exp_avg", "exp_avg_sq"
    return ("momentum_buffer",) if optimizer.momentum else ()


def _buffers(run: Resumable, number: int) -> dict[str, _Form]:
    """The clients' buffers that this run may have saved after so many rounds."""
    stage, done = _stage_after(run.stages, number)
    trainable = [tensor for name, tensor in run.start.items() if name not in run.config["frozen"]]
    form = (sum(tensor.numel() for tensor in trainable),), (trainable[0].dtype,)
    titles: list[str] = []
    if done and run.stages[stage].algorithm.keeps_momentum:
        titles += [f"momentum/{client_id}" for client_id in run.data.client_ids]
    if run.evaluation and run.evaluation.keeps_momentum:
        titles += [f"evaluation/{client_id}" for client_id in run.evaluation.held_out.client_ids]
    return dict.fromkeys(titles, form)


def _history_problems(history: Any, number: int, run: Resumable) -> Iterator[str]:
    if not isinstance(history, list) or len(history) != number + 1:
        rows = f"{len(history)} rows" if isinstance(history, list) else "no rows"
        yield f"history has {rows}, not one for each round from 0 to {number}"
    types = {"int": int, "float": float}
    measured = {field.name: types[str(field.type)] for field in fields(RoundInfo)}
    for i, row in enumerate(history):
        if not isinstance(row, dict):
            yield f"history[{i}] is {short(row)}, not a row"
        stage, _ = _stage_after(run.stages, i)
        algorithm = run.stages[stage].algorithm.name if i else "none"
        place = {"round": i, "stage": stage, "algorithm": algorithm}
        for name, value in place.items():
            if type(row.get(name)) is not type(value) or row[name] != value:
                yield f"history[{i}].{name} is {short(row.get(name))}, not {value!r}"
        measured_here = measured if i else {}
        for name in (name for name in measured_here if name not in row):
            yield f"history[{i}].{name} is missing"
        for name in (name for name in row if name not in place):
            scored = run.evaluation is not None and name.startswith("held_out_")
            if name not in measured_here and not scored:
                yield f"history[{i}].{name} is not part of this run"
            kind = measured_here.get(name, float)
            if type(row[name]) is not kind:
                yield f"history[{i}].{name} is {short(row[name])}, not of type {kind.__name__}"
            least, most = 0 if kind is int else -math.inf, math.inf
            if scored and "accuracy" in name:
                least, most = 0, 1
            if row[name] < least or row[name] > most:
                yield f"history[{i}].{name} is {short(row[name])}, not in [{least}, {most}]"


# The columns of a table of scores, and what their values are.
_COLUMNS: dict[str, type] = {
    "client_id": str,
    "epoch": int,
    "test_loss": float,
    "test_accuracy": float,
    "num_test_predictions": int,
    "num_train_examples": int,
}


def _table_problems(table: Any, evaluation: Evaluation | None) -> Iterator[str]:
    if evaluation is None:
        yield "it has a table of scores, but this run does not evaluate"
        return
    if not isinstance(table, dict) or table.keys() != _COLUMNS.keys():
        columns = ", ".join(map(str, table)) if isinstance(table, dict) else short(table)
        yield f"table has the columns {columns}; this run's has {', '.join(_COLUMNS)}"
    epochs = range(evaluation.personalization_epochs + 1)
    rows = [(client_id, epoch) for client_id in evaluation.held_out.client_ids for epoch in epochs]
    for name, kind in _COLUMNS.items():
        if not isinstance(table[name], list) or len(table[name]) != len(rows):
            yield f"table.{name} does not have {len(rows)} rows, one for each client and epoch"
        for value in table[name]:
            if type(value) is not kind:
                yield f"table.{name} has {short(value)} in it, not a value of type {kind.__name__}"
            if name == "test_accuracy" and not 0 <= value <= 1:
                yield f"table.{name} has {short(value)} in it, which is not in [0, 1]"
    for name, expected in zip(("client_id", "epoch"), zip(*rows, strict=True), strict=True):
        if tuple(table[name]) != expected:
            yield f"table.{name} is not that of the evaluated clients, in their order"


def counts_steps(title: str) -> bool:
    """Whether a tensor of this title is Adam's number of steps."""
    return title.startswith("server/") and title.endswith("/step")
