"""Train a model in stages of rounds, with evaluation and checkpoints."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.client_momentum import ClientMomentum
from fl_meta.engines.interface import Engine
from fl_meta.engines.local_training import smallest_batch
from fl_meta.engines.task import Task, engine_named
from fl_meta.engines.threads import one_thread
from fl_meta.evaluation.personalization import Evaluation, PersonalizationTable
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.models.requirements import check_model
from fl_meta.support.error_notes import noting
from fl_meta.training.checkpoints import Checkpoint, run_config
from fl_meta.training.progress import Progress, read_progress, write_progress
from fl_meta.training.resumable import Resumable
from fl_meta.training.rounds import TrainingState, rounds


class NonFiniteUpdateWarning(UserWarning):
    """A client update with NaN or infinity was left out of its round."""


@dataclass(frozen=True, repr=False)
class Run:
    """A finished training run.

    Example:
        >>> run.history.algorithm.tolist()
        ['none', 'FedAvg(E=1)', 'FedAvg(E=1)']

    Attributes:
        params: the global model's parameters after the last round.
        history: one row per round done, from 0 (before training), indexed by `round`: `stage` (from 0),
            `algorithm`, the fields of `RoundInfo`, and in rounds that were evaluated
            `held_out_initial_test_accuracy_by_client`, `held_out_initial_test_loss_by_client` (nats) and
            the same two of the personalized model; NaN where not measured.
        state: what training would need to go on.
        table: the scores of every evaluated client after the last round; None without `evaluation`.
        evaluation_momentum: the evaluated clients' momentum buffers, if the evaluation keeps momentum.
    """

    params: Params
    history: pd.DataFrame
    state: TrainingState
    table: PersonalizationTable | None = None
    evaluation_momentum: ClientMomentum = field(default_factory=ClientMomentum)

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
    """Train a global model, stage after stage.

    The server optimizer starts afresh in each stage. Clients start afresh in every round, unless the
    algorithm keeps their momentum.

    A run that is stopped and resumed from its checkpoint ends with the same parameters, bit for bit, as one
    that was never stopped: everything random is a function of (seed, round, client). A client update with
    NaN or infinity is left out of its round and counted; the first one causes a warning.

    Example:
        >>> train, held_out = data.split_clients(held_out=0.25, seed=0)
        >>> stages = [fl_meta.Stage(fl_meta.fedavg(epochs=1), rounds=3)]
        >>> run = fl_meta.train(model, train, stages, seed=0, progress=False)
        >>> run.state.round_number
        3

    Args:
        model: the model.
        data: the training clients; their train parts are used.
        stages: what to run, in this order.
        seed: of the initial parameters, the clients of each round and their batches.
        params: the initial parameters, with the names and shapes of `model.init`; None takes
            `model.init(seed)`.
        evaluation: when and on whom to score.
        checkpoint: where and how often to save. It recognizes a model by its name, its printed modules and
            its initial parameters: if you change only a `forward`, change the name as well.
        engine: what runs the clients: 'stacked' is fast, 'loop' is readable, and both give the same numbers.
        device: where to compute, for example 'cuda'. The examples stay in the computer's memory and are
            copied batch by batch.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if there are no stages, a client has no train part, a stage wants more clients a round
            than there are, or model, `params` and data do not fit together.
        OSError: if the checkpoint cannot be written, which is tried before any training; the message names
            the file, and an earlier checkpoint is kept.
        CheckpointError: if the checkpoint is damaged, of another configuration, or not of this run.
        TrainingDivergedError: if every update of a round has NaN or infinity; the checkpoint is kept.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    _check_training(model, data, stages)
    task = Task(model, data, seed, engine_named(engine))
    start = model.init(seed) if params is None else params
    # Copies, at addresses that suit the processor: at others, products may round in another way.
    start = {name: tensor.detach().to(device, copy=True) for name, tensor in start.items()}
    for stage in stages:
        check_model(
            model,
            start,
            data,
            train_batch=smallest_batch(data, stage.algorithm.local_work),
            second_order=stage.algorithm.second_order,
        )
    saver = _Saver(checkpoint, run_config(task, stages, start, evaluation) if checkpoint else {})
    # Not Path.exists, which has an error of its own for a name that is too long.
    if checkpoint and os.path.exists(checkpoint.path):  # noqa: PTH110
        run = Resumable(saver.config, data, stages, start, evaluation)
        done, history = read_progress(Path(checkpoint.path), run, device)
        saver.saved = done.state.round_number
    else:
        done = Progress(TrainingState(0, start))
        history = [{"round": 0, "stage": 0, "algorithm": "none"}]
        if evaluation:
            done, scores = _evaluated(evaluation, task, done, stages[0].algorithm)
            history[0] |= scores
        saver.save(done, history)  # a folder that cannot be written to is noticed now, not after hours
    total = sum(stage.rounds for stage in stages)
    with tqdm(
        total=total, initial=done.state.round_number, unit="round", disable=not progress, leave=False
    ) as bar:
        try:
            for number, state, info in rounds(task, stages, done.state):
                algorithm, last = stages[number].algorithm, state.round_number == total
                after = replace(done, state=state)
                row = {"round": state.round_number, "stage": number, "algorithm": algorithm.name}
                row |= asdict(info)
                if info.clients_left_out and not any(r.get("clients_left_out") for r in history):
                    warnings.warn(
                        f"round {state.round_number}: {info.clients_left_out} of {info.clients} client "
                        "updates have NaN or infinity and are left out (reported once; see "
                        "clients_left_out in the history)",
                        NonFiniteUpdateWarning,
                        stacklevel=3,  # one more than usual, for the decorator
                    )
                if evaluation and (last or state.round_number % evaluation.every == 0):
                    after, scores = _evaluated(evaluation, task, after, algorithm)
                    row |= scores
                    bar.set_postfix(
                        {k.split("_")[2]: f"{v:.3f}" for k, v in scores.items() if "accuracy" in k}
                    )
                history.append(row)
                # An interrupt before this line repeats the round, after it keeps it: never half of one.
                done = after
                bar.set_description(algorithm.name, refresh=False)
                bar.update()
                if checkpoint and (last or state.round_number % checkpoint.every == 0):
                    saver.save(done, history)
        except KeyboardInterrupt:
            saver.save(done, history)
            if checkpoint is None:
                raise
            raise KeyboardInterrupt(
                f"stopped after round {done.state.round_number}; the same call resumes from {checkpoint.path}"
            ) from None
    return Run(
        done.state.params,
        pd.DataFrame(history).set_index("round"),
        done.state,
        done.table,
        done.evaluation_momentum,
    )


@dataclass
class _Saver:
    """Writes the checkpoint of a run, if there is to be one, and only if there is something new."""

    checkpoint: Checkpoint | None
    config: dict[str, Any]
    saved: int | None = None

    def save(self, done: Progress, history: list[dict[str, Any]]) -> None:
        if self.checkpoint and self.saved != done.state.round_number:
            # A row beyond the state belongs to a round that was interrupted before it was kept.
            rows = history[: done.state.round_number + 1]
            write_progress(Path(self.checkpoint.path), self.config, done, rows)
            self.saved = done.state.round_number


def _evaluated(
    evaluation: Evaluation, task: Task, done: Progress, algorithm: Algorithm
) -> tuple[Progress, dict[str, float]]:
    params, momentum = done.state.params, done.evaluation_momentum
    with noting(f"in the evaluation after round {done.state.round_number}, {algorithm.name}"):
        table, momentum = evaluation.score_clients(task, params, algorithm, momentum)
    return replace(done, table=table, evaluation_momentum=momentum), evaluation.means(table)


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
