"""One training round: sample clients, aggregate what they send, step the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from torch import Tensor

from fl_meta.algorithms.optimizers import OptimizerState, server_step
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm
from fl_meta.data.batches import sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.client_momentum import ClientMomentum
from fl_meta.engines.interface import Engine
from fl_meta.engines.task import Task, engine_named
from fl_meta.engines.threads import one_thread
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, all_finite, flatten, norm, unflatten, with_zeros, zeros_like
from fl_meta.models.requirements import check_model
from fl_meta.support.error_notes import noting


class TrainingDivergedError(RuntimeError):
    """Every client update of a round had NaN or infinity in it, or the server's step led there."""


@dataclass(frozen=True)
class TrainingState:
    """What the next round needs, and nothing else.

    Attributes:
        round_number: number of rounds done, over all stages.
        params: the global model's parameters.
        server: the server optimizer's state in the current stage.
        momentum: the buffer of every client that took part so far, if the stage's algorithm keeps momentum.
    """

    round_number: int
    params: Params
    server: OptimizerState = field(default_factory=dict)
    momentum: ClientMomentum = field(default_factory=ClientMomentum)


@dataclass(frozen=True)
class RoundInfo:
    """Measurements of one round, which the next does not need.

    Attributes:
        clients: number of clients sampled.
        clients_left_out: how many of them sent NaN or infinity.
        train_loss_before: mean over clients of the first batch's loss at the global model, in nats, with the
            algorithm's client weights.
        pseudo_gradient_norm: Euclidean norm of the server's pseudo-gradient.
        local_gradients: number of gradients that all clients evaluated together.
        padding_share: share of the engine's work on examples that went into padding, in [0, 0.1].
    """

    clients: int
    clients_left_out: int
    train_loss_before: float
    pseudo_gradient_norm: float
    local_gradients: int
    padding_share: float


def pseudo_gradient(
    model: Model,
    params: Params,
    data: FederatedDataset,
    client_ids: Sequence[str],
    algorithm: Algorithm,
    *,
    seed: int,
    round_number: int,
    engine: str | Engine = "stacked",
) -> tuple[Params, RoundInfo]:
    """β times the weighted mean of what these clients send in this round; updates with NaN are left out.

    Every client's momentum starts at zero. Frozen parameters have a pseudo-gradient of zero.

    Example:
        >>> clients = train.client_ids[:5]
        >>> direction, info = fl_meta.pseudo_gradient(
        ...     model, params, train, clients, fl_meta.fedavg(1), seed=0, round_number=0
        ... )
        >>> info.clients
        5

    Raises:
        ValueError: if there are no clients, or `check_model` finds something wrong.
        TrainingDivergedError: if every update has NaN or infinity.

    Source: the "pseudo-gradient" of the paper's reading of FedAvg's server step.
    """
    task = Task(model, data, seed, engine_named(engine))
    direction, info, _ = aggregate(task, params, client_ids, algorithm, round_number, None)
    return with_zeros(direction, params), info


@one_thread()
def aggregate(
    task: Task,
    params: Params,
    client_ids: Sequence[str],
    algorithm: Algorithm,
    round_number: int,
    momentum: ClientMomentum | None,
) -> tuple[Params, RoundInfo, ClientMomentum | None]:
    """The pseudo-gradient of a round, what the round was like, and the clients' momentum after it.

    The pseudo-gradient has the trainable parameters only. A client that is left out keeps the momentum that
    it had. With `momentum=None` all clients start at zero and nothing is kept.

    Raises:
        ValueError: if there are no clients.
        TrainingDivergedError: if every update has NaN or infinity.
    """
    if not client_ids:
        raise ValueError("client_ids is empty; a round needs at least one client")
    check_model(task.model, params, task.data, second_order=algorithm.second_order)
    training = task.local_training(params, algorithm.local_work, round_number, momentum)
    total, buffers = flatten(zeros_like(training.params)), dict[str, Tensor]()
    weight, loss, left_out, local_gradients, places, padding = 0.0, 0.0, 0, 0, 0, 0
    for collected in task.engine.collect(training, client_ids, algorithm):
        total += collected.gradient
        weight += collected.weight
        loss += collected.loss_before
        left_out += collected.left_out
        local_gradients += collected.local_gradients
        places += collected.places
        padding += collected.padding
        buffers |= collected.momentum
    if left_out == len(client_ids):
        raise TrainingDivergedError(
            f"all {left_out} client updates of round {round_number} have NaN or infinity; lower the learning "
            f"rates (client {algorithm.client.learning_rate}, server {algorithm.server.learning_rate}) or "
            "look for extreme values in the data"
        )
    if momentum is not None:
        momentum = momentum.updated(buffers)
    direction = unflatten(total * (algorithm.client.learning_rate / weight), training.params)
    padding_share = padding / max(places, 1)
    info = RoundInfo(
        len(client_ids), left_out, loss / weight, norm(direction), local_gradients, padding_share
    )
    return direction, info, momentum


def run_round(task: Task, state: TrainingState, stage: Stage) -> tuple[TrainingState, RoundInfo]:
    """One round of a stage: a pure function of the state.

    Raises:
        TrainingDivergedError: if every client update has NaN or infinity, or the new parameters have.
    """
    algorithm = stage.algorithm
    count = len(task.data) if stage.clients_per_round is None else stage.clients_per_round
    clients = sample_clients(task.seed, state.round_number, task.data.client_ids, count)
    momentum = state.momentum if algorithm.keeps_momentum else None
    direction, info, momentum = aggregate(
        task, state.params, clients, algorithm, state.round_number, momentum
    )
    params, server = server_step(algorithm.server, state.params, state.server, direction)
    if not all_finite({name: params[name] for name in direction}):
        raise TrainingDivergedError(
            f"the server's step of round {state.round_number} led to NaN or infinity; lower the learning "
            f"rates (client {algorithm.client.learning_rate}, server {algorithm.server.learning_rate})"
        )
    return TrainingState(state.round_number + 1, params, server, momentum or ClientMomentum()), info


def rounds(
    task: Task, stages: Sequence[Stage], state: TrainingState, first_round: int = 0
) -> Iterator[tuple[int, TrainingState, RoundInfo]]:
    """Run the rounds that are left of these stages, one each time it is asked.

    A stage's server optimizer starts afresh in its first round. Clients' momentum does not, if this stage and
    the one before keep it.

    Args:
        task: what to train, on whose data.
        stages: in order.
        state: where to start, in whichever stage.
        first_round: the number of the first stage's first round; batches and clients depend on it.

    Yields:
        The number of the stage, from 0, the state after the round, and what the round was like.

    Raises:
        TrainingDivergedError: as `run_round`.
    """
    bounds = list(accumulate((stage.rounds for stage in stages), initial=first_round))
    for number, stage in enumerate(stages):
        for round_number in range(max(bounds[number], state.round_number), bounds[number + 1]):
            if round_number == bounds[number]:
                state = replace(state, server={})
            with noting(f"in round {round_number}, in stage {number}, {stage.algorithm.name}"):
                state, info = run_round(task, state, stage)
            yield number, state, info
