"""Local training of several clients at once, with their parameters along a leading axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_meta.data.federated import PADDING
from fl_meta.engines.interface import Score
from fl_meta.engines.local_training import LocalTraining, through_local_steps
from fl_meta.engines.stacked.batch import StackBatch, divide_among_threads, segments
from fl_meta.engines.stacked.dual_layer import index_of_dual_layer, rounded
from fl_meta.engines.stacked.first_layer import DualFirstLayer, PlainFirstLayer
from fl_meta.engines.stacked.layers import Layer, add_curvature, add_gradients, by_hand, forward
from fl_meta.models.model import score_logits
from fl_meta.models.parameters import Params, flatten, zeros_like
from fl_meta.support.array_types import Array

# Where clients' batches differ in size, at most this share of a stack's places for examples is padding.
PADDING_LIMIT = 0.1
SCORING_LIMIT = 0.5  # the same for test parts, where the calls cost more than the examples
TEST_ROWS = 1024  # examples of one client that are scored at a time


def allows_dual_layer(training: LocalTraining, layers: Sequence[Layer], second_order: bool) -> bool:
    """Whether a first linear layer can be computed in its dual form (`dual_layer`).

    Not with weight decay or kept momentum: they leave the span of the examples. Not with FedProx: it would
    change the coordinates, which are the sum of directions, before the gradient at them is taken. And not if
    autograd computes the second derivatives: it would do so for the weights.
    """
    simple = (
        not training.work.client.weight_decay and not training.work.proximal and training.momentum is None
    )
    return simple and (not second_order or by_hand(layers))


def stackable(layers: Sequence[Layer]) -> bool:
    """Whether several clients run faster together than one after the other, on a CPU."""
    return all(layer.stackable for layer in layers)


class Stack:
    """The parameters of some clients along a leading axis, and what local training does to them.

    `params`, `direction_sum` and `momentum` are the clients' parameters [clients, ...], each a tensor of its
    own, because PyTorch accumulates batched products only into whole tensors. Their names and shapes are
    those of `first_layer.start`: the model's, unless the first layer is dual.

    Args:
        training: what the clients do.
        layers: the layers of a copy of the model that no other thread uses.
        client_ids: ordered by falling number of steps, so that clients that are done leave at the end.
        dual_allowed: whether the first linear layer may be in its dual form.
        threads: the most threads that one operation may use.
    """

    def __init__(
        self,
        training: LocalTraining,
        layers: Sequence[Layer],
        client_ids: Sequence[str],
        dual_allowed: bool,
        threads: int,
    ) -> None:
        self.training, self.model_layers, self.threads = training, layers, threads
        self.clients = [training.data[client_id] for client_id in client_ids]
        self.plans = [training.plan(client_id) for client_id in client_ids]
        self.limit, self.scoring_limit = (PADDING_LIMIT, SCORING_LIMIT) if stackable(layers) else (0.0, 0.0)
        self.places = self.padding = 0
        self.dtype = next(iter(training.params.values())).dtype
        used = [plan.indices for plan in self.plans]
        examples = [(client.train_x, client.train_y) for client in self.clients]
        if any(len(indices) < len(x) for indices, (x, _) in zip(used, examples, strict=True)):
            # Of a large client, only the examples that are used are copied.
            examples = [(x[indices], y[indices]) for indices, (x, y) in zip(used, examples, strict=True)]
            used = [np.arange(len(indices)) for indices in used]
        self.size = max(len(x) for x, _ in examples)
        num_features = math.prod(examples[0][0].shape[1:])
        dual = index_of_dual_layer(layers, num_features, self.size, len(used[0])) if dual_allowed else None
        # One more row, which is empty, pads the smaller batches.
        self.height = self.size + 1 if dual is None else rounded(self.size + 1)
        x = self._stacked([x for x, _ in examples], self.height)
        self.y = self._stacked([y for _, y in examples], self.height, PADDING).flatten(0, 1)
        self._lay_out_batches(used)
        self.complete = all(bool((y != PADDING).all()) for _, y in examples)
        self.first_layer = (
            PlainFirstLayer(layers, training.params, x)
            if dual is None
            else DualFirstLayer(layers, dual, training.params, x, training.work.client.learning_rate, threads)
        )
        self.layers, self.start = self.first_layer.layers, self.first_layer.start
        self.params = {n: t.expand(len(self.clients), *t.shape) for n, t in self.start.items()}
        self.direction_sum = {  # Σ d_j, so that θ_j = θ_0 − β Σ d_j
            name: tensor.new_zeros(tensor.shape) for name, tensor in self.params.items()
        }
        for name in self.first_layer.coordinates:
            self.params[name] = self.direction_sum[name]
        self.momentum = (
            zeros_like(self.direction_sum) if training.work.client.momentum else self.direction_sum
        )
        for i, client_id in enumerate(client_ids):
            before = training.momentum.before(client_id, self.start) if training.momentum else None
            for name, tensor in (before or {}).items():
                self.momentum[name][i] = tensor
        self.losses_before = x.new_zeros(len(self.clients), dtype=self.dtype)

    def _lay_out_batches(self, used: Sequence[NDArray[np.int64]]) -> None:
        """Set the batches' sizes [clients, steps] and their rows in the stack [clients, steps, size]."""
        lengths = [len(plan) for plan in self.plans]
        self.sizes = np.zeros((len(lengths), max(lengths)), dtype=np.int64)
        for sizes, plan in zip(self.sizes, self.plans, strict=True):
            sizes[: len(plan)] = plan.bounds[1:] - plan.bounds[:-1]
        self.rows = np.full((*self.sizes.shape, self.sizes.max(initial=0)), self.size)  # the empty row
        for rows, sizes, indices in zip(self.rows, self.sizes, used, strict=True):
            rows[np.arange(rows.shape[1]) < sizes[:, None]] = indices
        # The number of clients that take each step: they are the first ones.
        self.active = np.count_nonzero(self.sizes, 0).tolist()
        # One client's rows follow the other's.
        self.rows += (np.arange(len(lengths)) * self.height)[:, None, None]

    def _stacked(self, arrays: Sequence[Array], size: int, fill: int = 0) -> Tensor:
        """Clients' arrays as one tensor [clients, size, ...], each filled up at its end."""
        # Labels may be of an unsigned type, which could not hold `PADDING`.
        dtype = np.dtype(np.int64) if fill == PADDING else arrays[0].dtype
        stacked = np.empty((len(arrays), size, *arrays[0].shape[1:]), dtype)
        for rows, array in zip(stacked, arrays, strict=True):
            rows[: len(array)], rows[len(array) :] = array, fill
        tensor = torch.from_numpy(stacked).to(self.training.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def add_up(self, weights: Tensor, sent: Params) -> Tensor:
        """The weighted sum of what the clients send [clients, ...], flat [num_parameters]."""
        total = self.first_layer.add_up(weights, sent)
        return flatten({name: total[name] for name in self.training.params})

    def batches(self, step: int) -> Iterator[tuple[slice, StackBatch]]:
        """The batches of step number `step`; neighbours in the stack share one if their sizes are close."""
        sizes = self.sizes[: self.active[step], step].tolist()
        for first, last in segments(sizes, self.limit):
            clients, size = last - first, max(sizes[first:last])
            divide_among_threads(clients, self.threads)
            rows = torch.from_numpy(self.rows[first:last, step, :size].reshape(-1)).to(self.y.device)
            y = self.y.index_select(0, rows).view(clients, -1)
            x = self.first_layer.inputs(rows, first, clients)
            if self.complete and size == min(sizes[first:last]):
                share: Tensor | float = 1 / y.shape[1]
            else:
                valid = y != PADDING
                share = valid / valid.sum(1, keepdim=True).clamp(min=1).to(self.dtype)
            draws = None
            if self.training.model.has_dropout:
                draws = [
                    (
                        torch.Generator().manual_seed(self.training.dropout_seed(client.client_id, step)),
                        number,
                    )
                    for client, number in zip(self.clients[first:last], sizes[first:last], strict=True)
                ]
            self.places += clients * size
            self.padding += clients * size - sum(sizes[first:last])
            yield slice(first, last), StackBatch(x, y, share, draws)

    def add_gradients(self, step: int, into: Params) -> None:
        """Add each active client's inner gradient to the tensors `into` [clients, ...]."""
        for clients, batch in self.batches(step):

            def loss_gradient(logits: Tensor, clients: slice = clients, batch: StackBatch = batch) -> Tensor:
                if step == 0:
                    self.losses_before[clients] = batch.losses(logits)
                return batch.loss_gradient(logits)

            params, gradients = self._for_layers(clients, self.params, into)
            add_gradients(self.layers, params, gradients, batch.x, batch.draws, loss_gradient)

    def _of_clients(self, clients: slice, tensors: Params) -> Params:
        """Some clients' part of tensors [clients, ...]."""
        if clients == slice(0, len(self.clients)):
            return tensors
        return {name: tensor[clients] for name, tensor in tensors.items()}

    def _for_layers(self, clients: slice, *trees: Params) -> Iterator[Params]:
        """Some clients' part of each of the trees, with what the first layer has precomputed."""
        return (self._of_clients(clients, tree | self.first_layer.precomputed) for tree in trees)

    def weighted_gradients(self, step: int, weights: Sequence[Sequence[float]], into: Params) -> Params:
        """The active clients' inner gradients [clients, ...]; each is added to `into` times its weight.

        Args:
            step: counted from 0.
            weights: of each client's steps.
            into: where to add [clients, ...].
        """
        gradients, active = zeros_like(into), slice(0, self.active[step])
        self.add_gradients(step, gradients)
        of_step = [of_client[step] for of_client in weights[active]]
        for name, tensor in self._of_clients(active, gradients).items():
            factors = tensor.new_tensor(of_step).view(-1, *[1] * (tensor.ndim - 1))
            into[name][active].addcmul_(tensor, factors)
        return gradients

    def step(self, step: int, gradients: Params | None = None) -> None:
        """Take local step number `step`, counted from 0, with every client that has one.

        The steps are those of `local_training.local_steps`. The inner gradients [clients, ...] are computed
        unless they are given.
        """
        client, active = self.training.work.client, slice(0, self.active[step])
        total, direction, params = (
            self._of_clients(active, tree) for tree in (self.direction_sum, self.momentum, self.params)
        )
        for name, tensor in direction.items():
            if client.momentum:
                tensor.mul_(client.momentum)
            # These terms come before the gradient, because without momentum `direction` is the sum itself.
            if self.training.work.proximal:
                # θ_{j−1} − θ_0 is −β Σ d: computed so, two nearly equal numbers need not be subtracted.
                tensor.add_(total[name], alpha=-self.training.work.proximal * client.learning_rate)
            if client.weight_decay:
                tensor.add_(params[name], alpha=client.weight_decay)
        if gradients is None:
            self.add_gradients(step, self.momentum)
        else:
            for name, tensor in direction.items():
                tensor.add_(gradients[name][active])
        for name, start in self.start.items():
            if client.momentum:
                total[name].add_(direction[name])
            if name in self.first_layer.coordinates:
                continue
            if step == 0:  # so far, all clients share the global model's tensor
                self.params[name] = torch.add(start, total[name], alpha=-client.learning_rate)
            else:
                torch.add(start, total[name], alpha=-client.learning_rate, out=params[name])

    def last_buffers(self) -> dict[str, Tensor] | None:
        """A copy of each client's buffer, so that the stack can be freed; None if training keeps none."""
        if self.training.momentum is None:
            return None
        return {client.client_id: self._buffer(i) for i, client in enumerate(self.clients)}

    def _buffer(self, client: int) -> Tensor:
        return flatten({name: tensor[client] for name, tensor in self.momentum.items()})

    def hessian_vector_product(self, step: int, params: Params, vector: Params) -> Params:
        """∇²L(params; batch of this step) · vector for each client [clients, ...]."""
        product = zeros_like(vector)
        vector = self.first_layer.tangent(vector)
        for clients, batch in self.batches(step):
            point, along, into = self._for_layers(clients, params, vector, product)
            if by_hand(self.layers):
                add_curvature(self.layers, point, along, into, batch.x, batch.loss_gradient_and_tangent)
            else:
                for name, tensor in self._curvature_by_autograd(batch, point, along).items():
                    into[name].copy_(tensor)
        return product

    def _curvature_by_autograd(self, batch: StackBatch, params: Params, vector: Params) -> Params:
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        tensors = list(leaves.values())
        with torch.enable_grad():
            loss = batch.losses(forward(self.layers, leaves, batch.x, batch.draws)).sum()
            gradient = torch.autograd.grad(loss, tensors, create_graph=True, materialize_grads=True)
        # Where the gradient is constant, the Hessian's row is zero.
        curved = [(g, v) for g, v in zip(gradient, vector.values(), strict=True) if g.requires_grad]
        product = torch.autograd.grad(
            [g for g, _ in curved], tensors, [v for _, v in curved], materialize_grads=True
        )
        return dict(zip(leaves, product, strict=True))

    def through_steps(self, trajectory: Sequence[Params], outer_gradient: Params) -> Params:
        """MAML's second order for each client."""
        hessians = [
            partial(self.hessian_vector_product, step, params) for step, params in enumerate(trajectory)
        ]
        return through_local_steps(hessians, outer_gradient, self.training.work.client)

    def scores(self, first: int, last: int, epoch: int) -> Iterator[Score]:
        """The scores of clients [first, last) with their present parameters."""
        training, layers = self.training, self.model_layers
        for layer in layers:
            layer.module.eval()
        params = self.first_layer.model_params(self.params, first, last)
        clients = self.clients[first:last]
        for a, b in segments([len(client.test_y) for client in clients], self.scoring_limit):
            x, y = (
                self._stacked(arrays, max(map(len, arrays)), fill)
                for arrays, fill in (
                    ([client.test_x for client in clients[a:b]], 0),
                    ([client.test_y for client in clients[a:b]], PADDING),
                )
            )
            divide_among_threads(b - a, self.threads)
            own = {name: tensor[a:b] for name, tensor in params.items()}
            pieces = [
                score_logits(forward(layers, own, x_piece).flatten(1, -2), y_piece.flatten(1))
                for x_piece, y_piece in zip(*(torch.split(z, TEST_ROWS, 1) for z in (x, y)), strict=True)
            ]
            losses, correct, counts = (torch.stack(column).sum(0) for column in zip(*pieces, strict=True))
            keeps = training.momentum is not None and epoch == training.work.epochs
            for i, client in enumerate(clients[a:b]):
                kept = self._buffer(first + a + i) if keeps else None
                yield Score(client.client_id, epoch, float(losses[i]), int(correct[i]), int(counts[i]), kept)
        for layer in layers:
            layer.module.train()
