"""One round: sample clients, collect what they send, let the server step; and what rounds are laid out by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fl_meta.algorithms.optimizers import OptimizerState, server_step
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm
from fl_meta.data.batches import sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.choice import engine_named
from fl_meta.engines.interface import Engine
from fl_meta.engines.local_training import ClientMomentum, local_training_of
from fl_meta.engines.threads import one_thread
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, all_finite, flatten, norm, unflatten, zeros_like


class TrainingDivergedError(RuntimeError):
    """Every client update of a round had NaN or infinity in it, or the server's step led there."""


@dataclass(frozen=True)
class TrainingState:
    """What the next round needs, and nothing else.

    Attributes:
        round_number: number of rounds done, over all stages.
        params: the global model's parameters.
        server: the server optimizer's state in the current stage.
        momentum: where the stage's algorithm keeps momentum, the buffer of every client that took part so
            far; a round replaces those of its own clients and copies no other.
        evaluation_momentum: the same of the evaluated clients, where the evaluation keeps momentum.
    """

    round_number: int
    params: Params
    server: OptimizerState
    momentum: ClientMomentum = field(default_factory=dict)
    evaluation_momentum: ClientMomentum = field(default_factory=dict)


@dataclass(frozen=True)
class RoundInfo:
    """What one round was like; training goes on without it.

    Attributes:
        clients: number of clients sampled.
        clients_left_out: how many of them sent NaN or infinity.
        train_loss_before: mean over clients of the first batch's loss at the global model, in nats, weighted
            as the algorithm weighs clients.
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


@one_thread()
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
    momentum: ClientMomentum | None = None,
) -> tuple[Params, RoundInfo]:
    """β times the weighted mean of what these clients send in this round; updates with NaN are left out.

    With `momentum` every client starts with its buffer in there, or with zero, and its last one takes the
    place of that, but for clients that are left out: they keep what they had. Without it all start at zero.

    Raises:
        ValueError: if there are no clients, or there is `momentum` and the algorithm does not keep it.
        TrainingDivergedError: if every update has NaN or infinity.

    Source: the "pseudo-gradient" of the paper's reading of FedAvg's server step.
    """
    if not client_ids:
        raise ValueError("client_ids is empty; a round needs at least one client")
    if momentum is not None and not algorithm.keeps_momentum:
        raise ValueError(f"momentum is given, but {algorithm.name} has keeps_momentum=False; set it to True")
    training = local_training_of(
        algorithm, model, params, data, seed=seed, round_number=round_number, momentum=momentum
    )
    kept: ClientMomentum = {}
    total = flatten(zeros_like(params))
    weight, loss, left_out, local_gradients, places, padding = 0.0, 0.0, 0, 0, 0, 0
    for part in engine_named(engine).collect(training, client_ids, algorithm):
        total += part.gradient
        weight += part.weight
        loss += part.loss_before
        left_out += part.left_out
        local_gradients += part.local_gradients
        places += part.places
        padding += part.padding
        kept |= part.momentum
    if left_out == len(client_ids):
        raise TrainingDivergedError(
            f"all {left_out} client updates of round {round_number} have NaN or infinity; lower the learning "
            f"rates (client {algorithm.client.learning_rate}, server {algorithm.server.learning_rate}) or "
            "look for extreme values in the data"
        )
    if momentum is not None:
        momentum |= kept
    result = unflatten(total * (algorithm.client.learning_rate / weight), params)
    info = RoundInfo(
        len(client_ids), left_out, loss / weight, norm(result), local_gradients, padding / max(places, 1)
    )
    return result, info


def run_round(
    model: Model,
    data: FederatedDataset,
    state: TrainingState,
    stages: Sequence[Stage],
    number: int,
    seed: int,
    engine: str | Engine,
) -> tuple[TrainingState, RoundInfo]:
    """One round of stage `number`, counted from 0: a pure function of the state.

    The stage's server optimizer starts afresh in its first round. Client momentum does not, where this stage
    and the one before keep it.

    Raises:
        TrainingDivergedError: if every client update has NaN or infinity, or the new parameters have.
    """
    stage = stages[number]
    count = len(data) if stage.clients_per_round is None else stage.clients_per_round
    clients = sample_clients(seed, state.round_number, data.client_ids, count)
    momentum = dict(state.momentum) if stage.algorithm.keeps_momentum else None
    direction, info = pseudo_gradient(
        model,
        state.params,
        data,
        clients,
        stage.algorithm,
        seed=seed,
        round_number=state.round_number,
        engine=engine,
        momentum=momentum,
    )
    begins = state.round_number == sum(earlier.rounds for earlier in stages[:number])
    params, server = server_step(
        stage.algorithm.server, state.params, {} if begins else state.server, direction
    )
    if not all_finite(params):
        client, server_rate = stage.algorithm.client, stage.algorithm.server.learning_rate
        raise TrainingDivergedError(
            f"the server's step of round {state.round_number} led to NaN or infinity; lower the learning "
            f"rates (client {client.learning_rate}, server {server_rate})"
        )
    number = state.round_number + 1
    return TrainingState(number, params, server, momentum or {}, state.evaluation_momentum), info
