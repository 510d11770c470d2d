"""Training: stages of rounds, evaluated, checkpointed, resumed; and its two end points."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from fl_meta.algorithms.stages import Stage
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.choice import engine_named
from fl_meta.engines.interface import Engine
from fl_meta.engines.threads import one_thread
from fl_meta.evaluation.personalization import Evaluation, PersonalizationTable
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.training.checkpoints import (
    Checkpoint,
    _config,
    _pack,
    _unpack,
    read_checkpoint,
    write_checkpoint,
)
from fl_meta.training.rounds import TrainingState, run_round


class NonFiniteUpdateWarning(UserWarning):
    """A client update with NaN or infinity was left out of its round."""


@dataclass(frozen=True, repr=False)
class Run:
    """A finished training run.

    Attributes:
        params: the global model's parameters after the last round.
        history: one row per round done, from 0 (before training), indexed by `round`: `stage` (from 0),
            `algorithm`, the fields of `RoundInfo`, and in rounds that were evaluated
            `held_out_initial_test_accuracy_by_client`, `held_out_initial_test_loss_by_client` (nats) and
            the same two of the personalized model; NaN where not measured.
        state: what training would need to go on.
        table: the scores of every evaluated client after the last round; None without `evaluation`.
    """

    params: Params
    history: pd.DataFrame
    state: TrainingState
    table: PersonalizationTable | None = None

    def __repr__(self) -> str:
        return f"Run of {self.state.round_number} rounds\n{self.history.tail(3).round(4).T.to_string()}"


@one_thread()
def train(
    model: Model,
    data: FederatedDataset,
    stages: Sequence[Stage],
    *,
    seed: int = 0,
    params: Params | None = None,
    evaluation: Evaluation | None = None,
    checkpoint: Checkpoint | None = None,
    engine: str | Engine = "stacked",
    device: str = "cpu",
    progress: bool = True,
) -> Run:
    """Train a global model, stage after stage; the server optimizer starts afresh in each stage.

    Clients start afresh in every round, unless the algorithm keeps their momentum.

    A run that is stopped and resumed from its checkpoint ends with the same parameters, bit for bit, as one
    that was never stopped: all that is random is a function of (seed, round, client). A client update with
    NaN or infinity is left out of its round, counted, and warned of once.

    Args:
        model: the model.
        data: the training clients; their train parts are used.
        stages: what to run, in this order.
        seed: of the initial parameters, the clients of each round and their batches.
        params: where to start, with the names and shapes of `model.init`; None takes `model.init(seed)`.
        evaluation: when and on whom to score.
        checkpoint: where and how often to save. It recognizes a model by its name, its modules as printed and
            its initial parameters: if you change a `forward` alone, change the name as well.
        engine: how the local loop is run: 'stacked' is fast, 'loop' is readable, and both give the same.
        device: where parameters lie and everything is computed, for example 'cuda'; the examples stay in the
            computer's memory and follow batch by batch.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if there are no stages, a client has no train part, a stage wants more clients a round
            than there are, or model, `params` and data do not fit together.
        OSError: if the checkpoint's folder cannot be written to, before any training.
        CheckpointError: if the checkpoint is damaged or of another configuration.
        TrainingDivergedError: if every update of a round has NaN or infinity; the checkpoint is kept.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written.
    """
    _check_training(model, data, stages)
    engine_named(engine)
    start = model.init(seed) if params is None else params
    start = {name: tensor.detach().to(device) for name, tensor in start.items()}
    model.check(start, torch.from_numpy(data.x[:1]), data.num_classes)
    state, rows, table = TrainingState(0, start, {}), [], None
    config = _config(model, data, stages, seed, start, evaluation) if checkpoint else {}
    if checkpoint and Path(checkpoint.path).exists():
        tensors, done = read_checkpoint(Path(checkpoint.path), config)
        # Counters, tensors of no dimension, are the processor's everywhere.
        tensors = {name: tensor.to(device) if tensor.ndim else tensor for name, tensor in tensors.items()}
        state, rows = _unpack(tensors, list(start)), done["history"]
        if evaluation and done.get("table"):  # files of earlier versions have none
            table = PersonalizationTable(pd.DataFrame(done["table"]), evaluation.held_out.label)
    saved = state.round_number if rows else None
    if not rows:
        rows = [{"round": 0, "stage": 0, "algorithm": "none"}]
        if evaluation:
            state, table = _evaluated(evaluation, model, state, stages[0], seed, engine)
            rows[0] |= evaluation.scores(table)
    schedule = [(i, stage) for i, stage in enumerate(stages) for _ in range(stage.rounds)]

    def save() -> None:
        nonlocal saved
        if checkpoint and saved != state.round_number:
            # A row beyond the state belongs to a round that was interrupted before it was kept.
            history = rows[: state.round_number + 1]
            scored = table.rows.to_dict("list") if table else None
            write_checkpoint(
                Path(checkpoint.path), _pack(state), config, {"history": history, "table": scored}
            )
            saved = state.round_number

    save()  # a folder that cannot be written to is noticed now, not after hours
    with tqdm(
        total=len(schedule), initial=state.round_number, unit="round", disable=not progress, leave=False
    ) as bar:
        try:
            while state.round_number < len(schedule):
                number, stage = schedule[state.round_number]
                bar.set_description(stage.algorithm.name, refresh=False)
                new_state, info = run_round(model, data, state, stages, number, seed, engine)
                row = {"round": new_state.round_number, "stage": number, "algorithm": stage.algorithm.name}
                row |= asdict(info)
                if info.clients_left_out and not any(r.get("clients_left_out") for r in rows):
                    warnings.warn(
                        f"round {new_state.round_number}: {info.clients_left_out} of {info.clients} client "
                        "updates have NaN or infinity and are left out (said once; see clients_left_out in "
                        "the history)",
                        NonFiniteUpdateWarning,
                        stacklevel=3,  # one more than usual, for the decorator
                    )
                last = new_state.round_number == len(schedule)
                if evaluation and (last or new_state.round_number % evaluation.every == 0):
                    new_state, table = _evaluated(evaluation, model, new_state, stage, seed, engine)
                    scores = evaluation.scores(table)
                    row |= scores
                    bar.set_postfix(
                        {k.split("_")[2]: f"{v:.3f}" for k, v in scores.items() if "accuracy" in k}
                    )
                rows.append(row)
                # An interrupt before this line repeats the round, after it keeps it: never half of one.
                state = new_state
                bar.update()
                if checkpoint and (last or state.round_number % checkpoint.every == 0):
                    save()
        except KeyboardInterrupt:
            save()
            if checkpoint is None:
                raise
            message = (
                f"stopped after round {state.round_number}; the same call resumes from {checkpoint.path}"
            )
            raise KeyboardInterrupt(message) from None
    history = pd.DataFrame(rows).set_index("round")
    return Run(state.params, history, state, table)


def _evaluated(
    evaluation: Evaluation, model: Model, state: TrainingState, stage: Stage, seed: int, engine: str | Engine
) -> tuple[TrainingState, PersonalizationTable]:
    """The scores of a state, and the state with the momentum that the evaluation keeps."""
    momentum = dict(state.evaluation_momentum) if evaluation.keeps_momentum else None
    table = evaluation.table(model, state.params, stage.algorithm, seed, engine, momentum)
    return replace(state, evaluation_momentum=momentum or {}), table


def _check_training(model: Model, data: FederatedDataset, stages: Sequence[Stage]) -> None:
    if not isinstance(model, Model):
        raise ValueError(
            f"model is a {type(model).__name__}; wrap a module: Model('mine', lambda: nn.Linear(784, 62))"
        )
    if isinstance(stages, Stage) or not stages:
        raise ValueError(f"stages={stages!r}; give a list of at least one Stage(algorithm, rounds)")
    for stage in stages:
        if stage.clients_per_round is not None and stage.clients_per_round > len(data):
            raise ValueError(
                f"clients_per_round={stage.clients_per_round}, but {data.name!r} has {len(data)} training "
                f"clients; choose a number from 1 to {len(data)}, or None for all"
            )
    if data.train_counts.min() == 0:
        raise ValueError(
            f"client {data.client_ids[int(data.train_counts.argmin())]!r} has no train part; leave it out"
        )
