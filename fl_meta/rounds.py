"""One round: sample clients, collect what they send, let the server step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fl_meta.algorithms import Algorithm
from fl_meta.checks import whole_number
from fl_meta.data.batches import sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.local import engine_named
from fl_meta.models import Model
from fl_meta.optimizers import OptimizerState, server_step
from fl_meta.params import Params, add, all_finite, norm, scale, zeros_like


class TrainingDivergedError(RuntimeError):
    """Every client update of a round had NaN or infinity in it, or the server's step led there."""


@dataclass(frozen=True)
class Stage:
    """A number of rounds of one algorithm. Training is a list of stages.

    Attributes:
        algorithm: a row of the table of algorithms.
        rounds: number of rounds, at least 1.
        clients_per_round: number of clients sampled without replacement in each round.
    """

    algorithm: Algorithm
    rounds: int
    clients_per_round: int = 20

    def __post_init__(self) -> None:
        for name in ("rounds", "clients_per_round"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))


@dataclass(frozen=True)
class TrainingState:
    """What the next round needs, and nothing else.

    Attributes:
        round_number: number of rounds done, over all stages.
        params: the global model's parameters.
        server: the server optimizer's state in the current stage.
    """

    round_number: int
    params: Params
    server: OptimizerState


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
    """

    clients: int
    clients_left_out: int
    train_loss_before: float
    pseudo_gradient_norm: float
    local_gradients: int


def pseudo_gradient(
    model: Model,
    params: Params,
    data: FederatedDataset,
    client_ids: Sequence[str],
    algorithm: Algorithm,
    *,
    seed: int,
    round_number: int,
    engine: str = "loop",
) -> tuple[Params, RoundInfo]:
    """β times the weighted mean of what these clients send in this round; updates with NaN are left out.

    Raises:
        ValueError: if there are no clients.
        TrainingDivergedError: if every update has NaN or infinity.

    Source: the "pseudo-gradient" of the paper's reading of FedAvg's server step.
    """
    if not client_ids:
        raise ValueError("client_ids is empty; a round needs at least one client")
    total, total_weight, total_loss, left_out, local_gradients = zeros_like(params), 0, 0.0, 0, 0
    updates = engine_named(engine).client_updates(
        model, params, data, client_ids, algorithm, seed=seed, round_number=round_number
    )
    for update in updates:
        local_gradients += update.num_steps
        if not all_finite(update.gradient):
            left_out += 1
            continue
        weight = update.num_examples if algorithm.weights == "examples" else 1
        total = add(total, update.gradient, weight)
        total_loss += weight * update.loss_before
        total_weight += weight
    if left_out == len(client_ids):
        raise TrainingDivergedError(
            f"all {left_out} client updates of round {round_number} have NaN or infinity; lower the learning "
            f"rates (client {algorithm.client.learning_rate}, server {algorithm.server.learning_rate}) or "
            "look for extreme values in the data"
        )
    result = scale(total, algorithm.client.learning_rate / total_weight)
    info = RoundInfo(len(client_ids), left_out, total_loss / total_weight, norm(result), local_gradients)
    return result, info


def run_round(
    model: Model,
    data: FederatedDataset,
    state: TrainingState,
    stages: Sequence[Stage],
    number: int,
    seed: int,
    engine: str,
) -> tuple[TrainingState, RoundInfo]:
    """One round of stage `number`, counted from 0: a pure function of the state.

    The stage's server optimizer starts afresh in its first round.

    Raises:
        TrainingDivergedError: if every client update has NaN or infinity, or the new parameters have.
    """
    stage = stages[number]
    clients = sample_clients(seed, state.round_number, data.client_ids, stage.clients_per_round)
    direction, info = pseudo_gradient(
        model,
        state.params,
        data,
        clients,
        stage.algorithm,
        seed=seed,
        round_number=state.round_number,
        engine=engine,
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
    return TrainingState(state.round_number + 1, params, server), info
