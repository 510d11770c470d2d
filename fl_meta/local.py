"""The local loop, written once: every algorithm and personalization run these steps on a client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fl_meta.algorithms import Algorithm, Sends
from fl_meta.data.batches import BatchPlan, batch_plan
from fl_meta.data.federated import Array, FederatedDataset
from fl_meta.models import Model
from fl_meta.optimizers import SGD
from fl_meta.params import Params, add, scale, zeros_like
from fl_meta.streams import torch_seed

Batch = tuple[Tensor, Tensor, int]  # inputs, labels, dropout seed


@dataclass(frozen=True)
class LocalStep:
    """Local step j of a client.

    Attributes:
        params: θ_{j−1}, where the step starts.
        batch: inputs, labels and dropout seed of batch j.
        loss: the batch's mean loss at θ_{j−1}, in nats.
        gradient: g_j, the gradient of that loss.
        direction: d_j with θ_j = θ_{j−1} − β d_j; it is g_j without momentum and weight decay.
    """

    params: Params
    batch: Batch
    loss: float
    gradient: Params
    direction: Params


@dataclass(frozen=True)
class ClientUpdate:
    """What comes home from a client.

    Attributes:
        client_id: whose update it is.
        gradient: the combination of inner gradients that the algorithm sends, in units of a gradient.
        num_examples: size of the client's train part.
        num_steps: number of gradients that the client evaluated.
        loss_before: mean loss of its first batch at the global parameters, in nats.
    """

    client_id: str
    gradient: Params
    num_examples: int
    num_steps: int
    loss_before: float


def gradient(model: Model, params: Params, batch: Batch) -> tuple[float, Params]:
    """The mean loss of a batch, in nats, and its gradient."""
    x, y, dropout_seed = batch
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
    loss = model.loss(leaves, x, y, dropout_seed)
    # A parameter that the loss does not use has the gradient zero.
    grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return loss.item(), dict(zip(leaves, grads, strict=True))


def hessian_vector_product(model: Model, params: Params, batch: Batch, vector: Params) -> Params:
    """∇²L(params; batch) · vector, exact, by differentiating the gradient once more."""
    x, y, dropout_seed = batch
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
    loss = model.loss(leaves, x, y, dropout_seed)
    grads = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, materialize_grads=True)
    # Where the gradient is constant, the Hessian's row is zero.
    curved = [(g, vector[name]) for name, g in zip(leaves, grads, strict=True) if g.requires_grad]
    product = torch.autograd.grad(
        [g for g, _ in curved], list(leaves.values()), [v for _, v in curved], materialize_grads=True
    )
    return dict(zip(leaves, product, strict=True))


def local_steps(model: Model, params: Params, batches: Iterator[Batch], client: SGD) -> Iterator[LocalStep]:
    """Local SGD from `params`, step by step; the work of a step is done when it is asked for.

    Source: the paper's notation θ_j = θ_{j−1} − β g_j; momentum and weight decay as in `torch.optim.SGD`.
    """
    momentum = zeros_like(params)
    for batch in batches:
        loss, inner_gradient = gradient(model, params, batch)
        direction = inner_gradient
        if client.weight_decay:
            direction = add(direction, params, client.weight_decay)
        if client.momentum:
            momentum = direction = add(direction, momentum, client.momentum)
        yield LocalStep(params, batch, loss, inner_gradient, direction)
        params = add(params, direction, -client.learning_rate)


def through_local_steps(
    model: Model, trajectory: Sequence[tuple[Params, Batch]], outer_gradient: Params, client: SGD
) -> Params:
    """The gradient with respect to θ_0 of a loss whose gradient at θ_K is given: MAML's second order.

    Walks the K steps backwards with one Hessian-vector product each, so memory holds the trajectory and one
    step's graph. Without momentum and weight decay the result is (∏_j (I − β∇²L(θ_{j−1}))) · outer_gradient.
    """
    on_params = outer_gradient
    on_momentum = zeros_like(outer_gradient)
    for params, batch in reversed(trajectory):
        # Forwards: m_j = μ m_{j−1} + g_j(θ_{j−1}) + λ θ_{j−1} and θ_j = θ_{j−1} − β m_j.
        on_momentum = add(on_momentum, on_params, -client.learning_rate)
        on_params = add(on_params, hessian_vector_product(model, params, batch, on_momentum))
        on_params = add(on_params, on_momentum, client.weight_decay)
        on_momentum = scale(on_momentum, client.momentum)
    return on_params


def client_batches(
    data: FederatedDataset, client_id: str, plan: BatchPlan, dropout_seed: int
) -> Iterator[Batch]:
    """The planned batches of a client's train part as tensors; step j draws its dropout from its own seed."""
    client = data[client_id]
    for step, indices in enumerate(plan):
        # Seeds beyond 63 bits do not fit torch's generator.
        yield (
            _tensor(client.train_x[indices]),
            _tensor(client.train_y[indices]),
            (dropout_seed + step) % 2**63,
        )


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def client_update(
    model: Model,
    params: Params,
    data: FederatedDataset,
    client_id: str,
    algorithm: Algorithm,
    *,
    seed: int,
    round_number: int,
) -> ClientUpdate:
    """Run one client's local steps of one round and return what it sends home.

    Raises:
        KeyError: if the client is not in `data`.
        ValueError: if the client has no train examples.
    """
    num_examples = int(data.train_counts[data.position(client_id)])
    plan = batch_plan(
        seed,
        round_number,
        client_id,
        num_examples,
        batch_size=algorithm.batch_size,
        epochs=algorithm.epochs,
        steps=algorithm.planned_steps,
    )
    dropout_seed = torch_seed(seed, "dropout", round_number, client_id) if model.has_dropout else 0
    trajectory: list[tuple[Params, Batch]] = []
    losses: list[float] = []
    sent = zeros_like(params)
    for step in local_steps(
        model, params, client_batches(data, client_id, plan, dropout_seed), algorithm.client
    ):
        losses.append(step.loss)
        # FedSGD's g_1 is the sum of its only step.
        summed = algorithm.sends in (Sends.FIRST, Sends.SUM)
        sent = add(sent, step.direction) if summed else step.gradient
        if algorithm.sends is Sends.LAST_THROUGH_STEPS:
            trajectory.append((step.params, step.batch))
    if trajectory:
        sent = through_local_steps(model, trajectory[:-1], sent, algorithm.client)
    return ClientUpdate(client_id, sent, num_examples, len(losses), losses[0])


def adapted(
    model: Model,
    params: Params,
    data: FederatedDataset,
    client_id: str,
    client: SGD,
    *,
    epochs: int,
    batch_size: int | None,
    seed: int,
) -> Iterator[Params]:
    """The client's parameters after 0, 1, …, `epochs` epochs of local training on its train part."""
    yield params
    if epochs == 0:
        return
    num_examples = int(data.train_counts[data.position(client_id)])
    plan = batch_plan(seed, 0, client_id, num_examples, batch_size=batch_size, epochs=epochs)
    dropout_seed = torch_seed(seed, "dropout", 0, client_id) if model.has_dropout else 0
    steps_per_epoch = len(plan) // epochs
    steps = local_steps(model, params, client_batches(data, client_id, plan, dropout_seed), client)
    for number, step in enumerate(steps, start=1):
        if number % steps_per_epoch == 0:
            yield add(step.params, step.direction, -client.learning_rate)


class Engine(Protocol):
    """Runs the local loop for many clients; every engine gives the same numbers, some sooner."""

    def client_updates(
        self,
        model: Model,
        params: Params,
        data: FederatedDataset,
        client_ids: Sequence[str],
        algorithm: Algorithm,
        *,
        seed: int,
        round_number: int,
    ) -> Iterator[ClientUpdate]:
        """One update per client, in the order of `client_ids`."""

    def adapted(
        self,
        model: Model,
        params: Params,
        data: FederatedDataset,
        client_ids: Sequence[str],
        client: SGD,
        *,
        epochs: int,
        batch_size: int | None,
        seed: int,
    ) -> Iterator[tuple[str, int, Params]]:
        """Client id, epoch and adapted parameters, for every client and epoch 0 … `epochs`."""


class LoopEngine:
    """The readable engine: one client after the other. It is the oracle for any faster one."""

    def client_updates(
        self,
        model: Model,
        params: Params,
        data: FederatedDataset,
        client_ids: Sequence[str],
        algorithm: Algorithm,
        *,
        seed: int,
        round_number: int,
    ) -> Iterator[ClientUpdate]:
        """See `Engine`."""
        for client_id in client_ids:
            yield client_update(
                model, params, data, client_id, algorithm, seed=seed, round_number=round_number
            )

    def adapted(
        self,
        model: Model,
        params: Params,
        data: FederatedDataset,
        client_ids: Sequence[str],
        client: SGD,
        *,
        epochs: int,
        batch_size: int | None,
        seed: int,
    ) -> Iterator[tuple[str, int, Params]]:
        """See `Engine`."""
        for client_id in client_ids:
            states = adapted(
                model, params, data, client_id, client, epochs=epochs, batch_size=batch_size, seed=seed
            )
            for epoch, state in enumerate(states):
                yield client_id, epoch, state


ENGINES: dict[str, Engine] = {"loop": LoopEngine()}


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in ENGINES:
        raise ValueError(f"engine={name!r} is unknown; choose one of {', '.join(map(repr, ENGINES))}")
    return ENGINES[name]
