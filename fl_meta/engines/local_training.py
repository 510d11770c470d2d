"""The local loop, written once: every algorithm and personalization run these steps on a client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import Algorithm, SentGradients
from fl_meta.data.batches import BatchPlan, batch_plan
from fl_meta.data.federated import FederatedDataset
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, scale, unflatten, zeros_like
from fl_meta.support.random_streams import torch_seed

Batch = tuple[Tensor, Tensor, int]  # inputs, labels, dropout seed
ClientMomentum = dict[str, Tensor]  # client id -> its SGD momentum buffer, flat [num_parameters]


@dataclass(frozen=True)
class LocalStep:
    """Local step j of a client.

    Attributes:
        params: θ_{j−1}, where the step starts.
        batch: inputs, labels and dropout seed of batch j.
        loss: the batch's mean loss at θ_{j−1}, in nats.
        gradient: g_j, the gradient of that loss.
        direction: d_j with θ_j = θ_{j−1} − β d_j; it is g_j without momentum, weight decay and FedProx's
            term. With momentum it is also the buffer after the step.
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
        momentum: its buffer after the last step, where training keeps it.
    """

    client_id: str
    gradient: Params
    num_examples: int
    num_steps: int
    loss_before: float
    momentum: Params | None = None


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


def local_steps(
    model: Model,
    params: Params,
    batches: Iterator[Batch],
    client: SGD,
    *,
    proximal: float = 0.0,
    momentum: Params | None = None,
) -> Iterator[LocalStep]:
    """Local SGD from `params`, step by step; the work of a step is done when it is asked for.

    Args:
        model: the model.
        params: θ_0.
        batches: one for each step.
        client: the client optimizer.
        proximal: FedProx's μ.
        momentum: the momentum buffer before the first step; None is zero.

    Source: the paper's notation θ_j = θ_{j−1} − β g_j; momentum and weight decay as in `torch.optim.SGD`;
    FedProx's term is part of the loss (Li et al. 2020).
    """
    start = params
    momentum = zeros_like(params) if momentum is None else momentum
    for batch in batches:
        loss, inner_gradient = gradient(model, params, batch)
        direction = inner_gradient
        if proximal:
            direction = add(direction, add(params, start, -1.0), proximal)
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


@dataclass(frozen=True)
class LocalTraining:
    """What clients do in one round, or in personalization: all but who they are and what they send.

    Attributes:
        model: the model.
        params: the global parameters, where every client starts.
        data: the clients.
        client: the client optimizer.
        batch_size: examples per local batch; None means all of a client's train part.
        epochs: number of local epochs, 0 or more; None if the work is counted in steps.
        steps: number of local steps; None if counted in epochs.
        seed: of the run.
        round_number: the round; personalization is round 0.
        proximal: FedProx's μ.
        momentum: the clients' buffers before the first step, zero for who has none here; they are read and
            never written into. None: all start at zero and nobody's last buffer is wanted.

    Raises:
        ValueError: if there are buffers, but no client momentum, or of another size than the model.
    """

    model: Model
    params: Params
    data: FederatedDataset
    client: SGD
    batch_size: int | None
    epochs: int | None
    steps: int | None
    seed: int
    round_number: int = 0
    proximal: float = 0.0
    momentum: ClientMomentum | None = None

    def __post_init__(self) -> None:
        if self.momentum is not None and not self.client.momentum:
            raise ValueError(
                "momentum buffers are to be kept, but the client's momentum is 0; leave them out, or give it "
                "one, for example client=SGD(0.02, momentum=0.9)"
            )
        for client_id, buffer in (self.momentum or {}).items():
            if buffer.shape != (self.model.num_parameters,):
                raise ValueError(
                    f"the momentum buffer of client {client_id!r} has the shape {tuple(buffer.shape)}, but "
                    f"the model has {self.model.num_parameters} parameters; it belongs to another model"
                )

    @property
    def device(self) -> torch.device:
        """Where the parameters lie, and therefore where everything is computed."""
        return next(iter(self.params.values())).device

    def num_examples(self, client_id: str) -> int:
        """Size of the client's train part."""
        return int(self.data.train_counts[self.data.position(client_id)])

    def steps_of(self, client_id: str) -> Iterator[LocalStep]:
        """The client's local steps, in its planned batches."""
        kept = None if self.momentum is None else self.momentum.get(client_id)
        return local_steps(
            self.model,
            self.params,
            self.batches(client_id),
            self.client,
            proximal=self.proximal,
            momentum=None if kept is None else unflatten(kept, self.params),
        )

    def plan(self, client_id: str) -> BatchPlan:
        """The client's batches; ValueError if it has no train examples, unless no epoch is asked for."""
        if self.epochs == 0:
            return BatchPlan(np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64))
        return batch_plan(
            self.seed,
            self.round_number,
            client_id,
            self.num_examples(client_id),
            batch_size=self.batch_size,
            epochs=self.epochs,
            steps=self.steps,
        )

    def dropout_seed(self, client_id: str, step: int) -> int:
        """Of the client's dropout masks in a step."""
        first = torch_seed(self.seed, "dropout", self.round_number, client_id)
        return (first + step) % 2**63  # more bits do not fit torch's generator

    def batches(self, client_id: str) -> Iterator[Batch]:
        """The planned batches of the client's train part as tensors."""
        examples = self.data[client_id]
        for step, indices in enumerate(self.plan(client_id)):
            x, y = (torch.from_numpy(part[indices]) for part in (examples.train_x, examples.train_y))
            seed = self.dropout_seed(client_id, step) if self.model.has_dropout else 0
            yield x.to(self.device), y.to(self.device), seed


def local_training_of(
    algorithm: Algorithm,
    model: Model,
    params: Params,
    data: FederatedDataset,
    *,
    seed: int,
    round_number: int,
    momentum: ClientMomentum | None = None,
) -> LocalTraining:
    """The local training of one round of an algorithm; for `momentum` see `LocalTraining`."""
    return LocalTraining(
        model,
        params,
        data,
        algorithm.client,
        algorithm.batch_size,
        algorithm.epochs,
        algorithm.planned_steps,
        seed,
        round_number,
        algorithm.proximal,
        momentum,
    )


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
    training = local_training_of(algorithm, model, params, data, seed=seed, round_number=round_number)
    return client_update_in(training, client_id, algorithm)


def client_update_in(training: LocalTraining, client_id: str, algorithm: Algorithm) -> ClientUpdate:
    """What `client_update` returns, in a round that is laid out already by `local_training_of`."""
    model, params = training.model, training.params
    trajectory: list[tuple[Params, Batch]] = []
    losses: list[float] = []
    sent = zeros_like(params)
    for step in training.steps_of(client_id):
        losses.append(step.loss)
        # FedSGD's g_1 is the sum of its only step.
        summed = algorithm.sends in (SentGradients.FIRST, SentGradients.SUM)
        sent = add(sent, step.direction) if summed else step.gradient
        if algorithm.sends is SentGradients.LAST_THROUGH_STEPS:
            trajectory.append((step.params, step.batch))
    if trajectory:
        sent = through_local_steps(model, trajectory[:-1], sent, algorithm.client)
    kept = None if training.momentum is None else step.direction
    return ClientUpdate(client_id, sent, training.num_examples(client_id), len(losses), losses[0], kept)


def last_steps(training: LocalTraining, client_id: str) -> Iterator[LocalStep]:
    """The last step of each of the client's epochs."""
    if training.epochs:
        steps_per_epoch = len(training.plan(client_id)) // training.epochs
        steps = enumerate(training.steps_of(client_id), start=1)
        yield from (step for number, step in steps if number % steps_per_epoch == 0)


def adapted(training: LocalTraining, client_id: str) -> Iterator[Params]:
    """The client's parameters after 0, 1, … epochs of local training on its train part."""
    yield training.params
    for step in last_steps(training, client_id):
        yield add(step.params, step.direction, -training.client.learning_rate)
