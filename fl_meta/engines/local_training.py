"""The local steps of one client, which every algorithm and personalization share.

`engines.stacked` computes the same steps for many clients at once, and tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np
import torch

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.sent import Batch, LocalStep, SentGradients, WeightedGradients, formula_of
from fl_meta.algorithms.table import Algorithm, LocalWork
from fl_meta.data.batches import BatchPlan, batch_bounds, batch_plan
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.client_momentum import ClientMomentum
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, map_params, scale, with_zeros, zeros_like
from fl_meta.models.requirements import check_model, check_surroundings
from fl_meta.support.error_notes import noting
from fl_meta.support.random_streams import torch_seed


@dataclass(frozen=True)
class ClientUpdate:
    """What the server receives from a client.

    Attributes:
        client_id: whose update it is.
        gradient: the combination of inner gradients that the algorithm sends, in units of a gradient.
        num_examples: size of the client's train part.
        num_steps: number of gradients that the client evaluated.
        loss_before: mean loss of its first batch at the global parameters, in nats.
        momentum: its buffer after the last step, if training keeps momentum.
    """

    client_id: str
    gradient: Params
    num_examples: int
    num_steps: int
    loss_before: float
    momentum: Params | None = None


@torch.enable_grad()
def gradient(model: Model, params: Params, batch: Batch) -> tuple[float, Params]:
    """The mean loss of a batch, in nats, and its gradient, which is zero in frozen parameters."""
    check_surroundings()
    x, y, dropout_seed = batch
    bound, trainable = model.bound(params)
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in trainable.items()}
    loss = bound.loss(leaves, x, y, dropout_seed)
    # A parameter that the loss does not use has the gradient zero.
    grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return loss.item(), with_zeros(dict(zip(leaves, grads, strict=True)), params)


@torch.enable_grad()
def hessian_vector_product(model: Model, params: Params, batch: Batch, vector: Params) -> Params:
    """∇²L(params; batch) · vector, exactly, by differentiating the gradient once more.

    Frozen parameters are constants: what `vector` has there does not matter, and the product is zero there.
    """
    check_surroundings()
    x, y, dropout_seed = batch
    bound, trainable = model.bound(params)
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in trainable.items()}
    loss = bound.loss(leaves, x, y, dropout_seed)
    grads = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, materialize_grads=True)
    # Where the gradient is constant, the Hessian's row is zero.
    curved = [(g, vector[name]) for name, g in zip(leaves, grads, strict=True) if g.requires_grad]
    product = torch.autograd.grad(
        [g for g, _ in curved], list(leaves.values()), [v for _, v in curved], materialize_grads=True
    )
    return with_zeros(dict(zip(leaves, product, strict=True)), params)


def local_steps(
    model: Model,
    params: Params,
    batches: Iterator[Batch],
    client: SGD,
    *,
    proximal: float = 0.0,
    momentum: Params | None = None,
) -> Iterator[LocalStep]:
    """Local SGD from `params`, step by step. A generator: each step is computed when it is asked for.

    Args:
        model: the model.
        params: θ_0.
        batches: one for each step.
        client: the client optimizer.
        proximal: FedProx's μ.
        momentum: the momentum buffer before the first step; None is zero.

    Yields:
        Steps of the trainable parameters; frozen ones are not in them.

    Source: the paper's notation θ_j = θ_{j−1} − β g_j; momentum and weight decay as in `torch.optim.SGD`;
    FedProx's term is part of the loss (Li et al. 2020).
    """
    model, params = model.bound(params)
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
    hessians: Sequence[Callable[[Params], Params]], outer_gradient: Params, client: SGD
) -> Params:
    """The gradient with respect to θ_0 of a loss whose gradient at θ_K is given: MAML's second order.

    Walks the K steps backwards with one Hessian-vector product each, so memory holds the trajectory and one
    step's graph. Without momentum and weight decay the result is (∏_j (I − β∇²L(θ_{j−1}))) · outer_gradient.

    Args:
        hessians: for each local step j, from a vector to ∇²L(θ_{j−1}; batch j) · vector.
        outer_gradient: the gradient at θ_K.
        client: the client optimizer.
    """
    on_params = outer_gradient
    on_momentum = zeros_like(outer_gradient)
    for hessian in reversed(hessians):
        # Forwards: m_j = μ m_{j−1} + g_j(θ_{j−1}) + λ θ_{j−1} and θ_j = θ_{j−1} − β m_j.
        on_momentum = add(on_momentum, on_params, -client.learning_rate)
        on_params = add(on_params, hessian(on_momentum))
        on_params = add(on_params, on_momentum, client.weight_decay)
        on_momentum = scale(on_momentum, client.momentum)
    return on_params


@dataclass(frozen=True)
class LocalTraining:
    """What clients do in one round, or in personalization: all but who they are and what they send.

    Example:
        >>> work = LocalWork(SGD(0.02), batch_size=20, epochs=5)
        >>> training = LocalTraining(model, params, data, work, seed=0)
        >>> len(list(adapted(training, data.client_ids[0])))  # after 0, 1, …, 5 epochs
        6

    Attributes:
        model: the model. Its frozen parameters become constants of it (`Model.bound`).
        params: the global parameters, where every client starts. Of these, the trainable ones are kept.
        data: the clients.
        work: local steps and their optimizer.
        seed: of the run.
        round_number: the round; personalization is round 0.
        momentum: the clients' buffers before the first step. None: all start at zero, and their last buffers
            are not returned.

    Raises:
        ValueError: if there are buffers but no client momentum, or they belong to another model.
    """

    model: Model
    params: Params
    data: FederatedDataset
    work: LocalWork
    seed: int
    round_number: int = 0
    momentum: ClientMomentum | None = None

    def __post_init__(self) -> None:
        model, params = self.model.bound(self.params)
        if any(tensor.requires_grad for tensor in params.values()):  # a graph would grow from step to step
            params = {name: tensor.detach() for name, tensor in params.items()}
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "params", params)
        if self.momentum is None:
            return
        if not self.work.client.momentum:
            raise ValueError(
                "momentum buffers are given, but the client's momentum is 0; leave them out, or give it one, "
                "for example client=SGD(0.02, momentum=0.9)"
            )
        self.momentum.check(self.model.num_parameters)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie, and therefore where everything is computed."""
        return next(iter(self.params.values())).device

    def num_examples(self, client_id: str) -> int:
        """Size of the client's train part."""
        return int(self.data.train_counts[self.data.position(client_id)])

    def steps_of(self, client_id: str) -> Iterator[LocalStep]:
        """The client's local steps, in its planned batches."""
        steps = local_steps(
            self.model,
            self.params,
            self.batches(client_id),
            self.work.client,
            proximal=self.work.proximal,
            momentum=None if self.momentum is None else self.momentum.before(client_id, self.params),
        )
        for number in count():
            with noting(f"in local step {number}, counted from 0, of client {client_id!r}"):
                step = next(steps, None)
            if step is None:
                return
            yield step

    def plan(self, client_id: str) -> BatchPlan:
        """The client's batches; ValueError if it has no train examples, unless no epoch is asked for."""
        work = self.work
        if work.epochs == 0:
            return BatchPlan(np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64))
        return batch_plan(
            self.seed,
            self.round_number,
            client_id,
            self.num_examples(client_id),
            batch_size=work.batch_size,
            epochs=work.epochs,
            steps=work.steps,
        )

    def dropout_seed(self, client_id: str, step: int) -> int:
        """The seed of the client's dropout masks in a step."""
        first = torch_seed(self.seed, "dropout", self.round_number, client_id)
        return (first + step) % 2**63  # more bits do not fit torch's generator

    def batches(self, client_id: str) -> Iterator[Batch]:
        """The planned batches of the client's train part as tensors."""
        examples = self.data[client_id]
        for step, indices in enumerate(self.plan(client_id)):
            x, y = (torch.from_numpy(array[indices]) for array in (examples.train_x, examples.train_y))
            seed = self.dropout_seed(client_id, step) if self.model.has_dropout else 0
            yield x.to(self.device), y.to(self.device), seed


def smallest_batch(data: FederatedDataset, work: LocalWork) -> int:
    """The number of examples in the smallest batch that any client of this data has."""
    # All epochs have batches of the same sizes.
    sizes = {"batch_size": work.batch_size, "epochs": work.epochs and 1, "steps": work.steps}
    counts, clients = np.unique(data.train_counts, return_index=True)
    return min(
        int(np.diff(batch_bounds(data.client_ids[i], int(count), **sizes)).min())
        for count, i in zip(counts, clients, strict=True)
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
    """Run one client's local steps of one round and return what it sends.

    Example:
        >>> client, algorithm = data.client_ids[0], fl_meta.fedavg(1)
        >>> update = client_update(model, params, data, client, algorithm, seed=0, round_number=0)
        >>> update.gradient.keys() == params.keys()
        True

    Raises:
        KeyError: if the client is not in `data`.
        ValueError: if the client has no train examples, or `check_model` finds something wrong.
    """
    check_model(model, params, data, second_order=algorithm.second_order)
    training = LocalTraining(model, params, data, algorithm.local_work, seed, round_number)
    update = client_update_in(training, client_id, algorithm)
    return replace(update, gradient=with_zeros(update.gradient, params))


def client_update_in(training: LocalTraining, client_id: str, algorithm: Algorithm) -> ClientUpdate:
    """Run one client's local training and return what it sends.

    Raises:
        ValueError: if the algorithm's rule returns anything but tensors like the parameters.
    """
    sends = algorithm.sends
    rule = sends if callable(sends) else None
    with noting(f"in the weights of {algorithm.name} for client {client_id!r}"):
        weights = sends.of(len(training.plan(client_id))) if isinstance(sends, WeightedGradients) else None
    losses: list[float] = []
    trajectory: list[LocalStep] = []
    sent = zeros_like(training.params)
    for number, step in enumerate(training.steps_of(client_id)):
        losses.append(step.loss)
        if rule and not trajectory:
            # The rule may write into the tensors that it gets, and these are everybody's.
            step = replace(step, params=map_params(torch.clone, step.params))
        if rule or algorithm.second_order:
            trajectory.append(step)
        elif weights:
            sent = add(sent, step.gradient, weights[number])
        elif sends is SentGradients.LAST:
            sent = step.gradient
        else:  # FedSGD's g_1 is the sum of its only step
            sent = add(sent, step.direction)
    if rule:
        with noting(f"in the rule of {algorithm.name} for client {client_id!r}"):
            sent = rule(trajectory)
            sent = _checked(sent, training.params, algorithm)
    elif trajectory:
        hessians = [
            partial(hessian_vector_product, training.model, past.params, past.batch)
            for past in trajectory[:-1]
        ]
        with noting(f"in the second derivatives of client {client_id!r}"):
            sent = through_local_steps(hessians, step.gradient, training.work.client)
    buffer = None if training.momentum is None else step.direction
    return ClientUpdate(client_id, sent, training.num_examples(client_id), len(losses), losses[0], buffer)


def _checked(sent: Params, params: Params, algorithm: Algorithm) -> Params:
    """What a rule returns, in the order of the parameters."""
    shapes = {name: tuple(tensor.shape) for name, tensor in params.items()}
    fits = isinstance(sent, dict) and all(isinstance(tensor, torch.Tensor) for tensor in sent.values())
    if not fits or {name: tuple(t.shape) for name, t in sent.items()} != shapes:
        raise ValueError(
            f"{algorithm.name}: the rule {formula_of(algorithm.sends)!r} must return a dictionary of tensors "
            f"with the names and shapes of the parameters, {shapes}"
        )
    return {name: sent[name] for name in params}


def last_steps(training: LocalTraining, client_id: str) -> Iterator[LocalStep]:
    """The last step of each of the client's epochs."""
    if training.work.epochs:
        steps_per_epoch = len(training.plan(client_id)) // training.work.epochs
        steps = enumerate(training.steps_of(client_id), start=1)
        yield from (step for number, step in steps if number % steps_per_epoch == 0)


def adapted(training: LocalTraining, client_id: str) -> Iterator[Params]:
    """The client's parameters after 0, 1, … epochs of local training on its train part.

    Raises:
        ValueError: if `check_model` finds something wrong.
    """
    check_model(training.model, training.model.complete(training.params), training.data)
    yield training.model.complete(training.params)
    for step in last_steps(training, client_id):
        params = add(step.params, step.direction, -training.work.client.learning_rate)
        yield training.model.complete(params)
