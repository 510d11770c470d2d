"""Clients side by side: their parameters along a leading axis, and local training on all of them at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_meta.algorithms.sent import WeightedGradients
from fl_meta.data.federated import PADDING
from fl_meta.engines.interface import Score, weighted_sum
from fl_meta.engines.local_training import LocalTraining
from fl_meta.engines.stacked.dual_layer import (
    DUAL,
    pieces_of,
    place_of_dual_layer,
    rounded,
    tables,
    without_coordinates,
)
from fl_meta.engines.stacked.layers import Layer, add_curvature, add_gradients, by_hand, forward
from fl_meta.engines.stacked.rule import Draws
from fl_meta.models.model import score_logits
from fl_meta.models.parameters import Params, add, flatten, scale, zeros_like
from fl_meta.support.array_types import Array

# At most this share of the places in a stack is left empty where clients' batches differ in size.
PADDING_LIMIT = 0.1
SCORING_LIMIT = 0.5  # the same for test parts: a forward pass of few examples costs little but its calls
TEST_ROWS = 1024  # examples of one client that are scored at a time


def stays_in_span(training: LocalTraining, layers: Sequence[Layer], second_order: bool) -> bool:
    """Whether a first linear layer's weight can be kept in coordinates of the examples (`dual_layer`).

    Weight decay and kept momentum leave the span. FedProx would change the coordinates, which are the sum of
    directions itself, before the gradient is taken at them. Autograd's second derivatives are none of them.
    """
    simple = (
        not training.work.client.weight_decay and not training.work.proximal and training.momentum is None
    )
    return simple and (not second_order or by_hand(layers))


def stackable(layers: Sequence[Layer]) -> bool:
    """Whether several clients together run faster than one after the other on a CPU."""
    return all(layer.stackable for layer in layers)


def segments(sizes: Sequence[int], limit: float) -> Iterator[tuple[int, int]]:
    """Cut a row of batches into runs [first, last) that are stacked with at most `limit` of padding each."""
    if sizes and min(sizes) == max(sizes):  # as most often
        yield 0, len(sizes)
        return
    first = most = total = 0
    for place, size in enumerate(sizes):
        places = (place - first + 1) * max(most, size)
        if places - total - size > limit * places:
            yield first, place
            first, most, total = place, 0, 0
        most, total = max(most, size), total + size
    if sizes:
        yield first, len(sizes)


@dataclass(frozen=True)
class Batch:
    """The batches of neighbours in a stack.

    Attributes:
        x: inputs [clients, size, ...]; in coordinates, `dual_layer`, rows of tables [clients · size].
        y: labels [clients, predictions], `PADDING` where there is none.
        share: of each prediction in its client's mean loss [clients, predictions]; a number if all are equal.
        draws: for dropout.
    """

    x: Tensor
    y: Tensor
    share: Tensor | float
    draws: Draws

    def losses(self, logits: Tensor) -> Tensor:
        """Each client's mean loss in nats [clients]."""
        flat = nn.functional.cross_entropy(
            logits.flatten(0, -2), self.y.flatten(), ignore_index=PADDING, reduction="none"
        )
        return (flat.view(self.y.shape) * self.share).sum(1)

    def loss_gradient(self, logits: Tensor) -> Tensor:
        """Gradient of each client's mean loss: (softmax − one-hot) · share."""
        d = torch.softmax(logits, -1)
        # Where there is no label the share is zero.
        labels = self.y if isinstance(self.share, float) else self.y.clamp(min=0)
        d.view(-1, d.shape[-1]).scatter_(1, labels.view(-1, 1), -1.0, reduce="add")
        return d.mul_(self._share_like(logits))

    def _share_like(self, logits: Tensor) -> Tensor | float:
        return self.share if isinstance(self.share, float) else self.share.view(*logits.shape[:-1], 1)

    def change_of_loss_gradient(self, logits: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of each client's mean loss, and its change when the logits move along `moved`."""
        chances = torch.softmax(logits, -1)
        change = chances * moved
        change = change - chances * change.sum(-1, keepdim=True)
        return self.loss_gradient(logits), change * self._share_like(logits)


class Stack:
    """Some clients' parameters along a leading axis, and what happens to them in local training.

    `params`, `direction_sum` and `momentum` are the model's parameters [clients, ...], each a tensor of its
    own: PyTorch batches products only if they are added to whole tensors. A first linear layer may be in
    coordinates of the examples instead (`dual_layer`): then they stand for its weight and bias together,
    under the weight's name, and the entry in `params` is that in `direction_sum`.

    Args:
        training: what the clients do.
        layers: of a copy of the model for this thread alone.
        client_ids: ordered by falling number of steps, so that those who are done leave at the end.
        in_span: whether the first linear layer may be kept in coordinates.
        threads: inside operations, at most.
    """

    def __init__(
        self,
        training: LocalTraining,
        layers: Sequence[Layer],
        client_ids: Sequence[str],
        in_span: bool,
        threads: int,
    ) -> None:
        self.training, self.model_layers, self.layers, self.threads = training, layers, layers, threads
        self.clients = [training.data[client_id] for client_id in client_ids]
        self.plans = [training.plan(client_id) for client_id in client_ids]
        self.limit, self.scoring_limit = (PADDING_LIMIT, SCORING_LIMIT) if stackable(layers) else (0.0, 0.0)
        self.places = self.padding = 0
        self.dtype = next(iter(training.params.values())).dtype
        used = [plan.indices for plan in self.plans]
        parts = [(client.train_x, client.train_y) for client in self.clients]
        if any(len(rows) < len(x) for rows, (x, _) in zip(used, parts, strict=True)):
            # Of large clients only what is used is copied.
            parts = [(x[rows], y[rows]) for rows, (x, y) in zip(used, parts, strict=True)]
            used = [np.arange(len(rows)) for rows in used]
        self.size = max(len(x) for x, _ in parts)
        features = math.prod(parts[0][0].shape[1:])
        place = place_of_dual_layer(layers, features, self.size, len(used[0])) if in_span else None
        # Another row, with nothing in it, fills up smaller batches.
        self.height = self.size + 1 if place is None else rounded(self.size + 1)
        x = self._stacked([x for x, _ in parts], self.height)
        self.y = self._stacked([y for _, y in parts], self.height, PADDING).flatten(0, 1)
        self._lay_out(used)
        self.complete = all(bool((y != PADDING).all()) for _, y in parts)
        self.start = dict(training.params)
        self.weight, self.bias, self.tables = "", "", Params()
        if place is not None:
            names = layers[place].names
            self.weight, self.bias, self.examples = names["weight"], names.get("bias", ""), x.flatten(2)
            self.divide_among_threads(len(self.clients))
            weight, bias = self.start[self.weight], self.start.pop(self.bias, None)
            self.tables = tables(self.examples, weight, bias, training.work.client.learning_rate)
            self.start[self.weight] = weight.new_zeros(self.height, len(weight))
            names = {"weight": self.weight} | {name: name for name in self.tables}
            self.layers = [replace(layers[place], rule=DUAL, names=names), *layers[place + 1 :]]
        self.x = x.flatten(0, 1)
        self.params = {n: t.expand(len(self.clients), *t.shape) for n, t in self.start.items()}
        self.direction_sum = {  # Σ d_j, so that θ_j = θ_0 − β Σ d_j
            name: tensor.new_zeros(tensor.shape) for name, tensor in self.params.items()
        }
        if self.weight:
            self.params[self.weight] = self.direction_sum[self.weight]
        self.momentum = (
            zeros_like(self.direction_sum) if training.work.client.momentum else self.direction_sum
        )
        for i, client_id in enumerate(client_ids):
            before = training.momentum.before(client_id, self.start) if training.momentum else None
            for name, tensor in (before or {}).items():
                self.momentum[name][i] = tensor
        self.losses_before = x.new_zeros(len(self.clients), dtype=self.dtype)

    def _lay_out(self, used: Sequence[NDArray[np.int64]]) -> None:
        """Each batch's examples, as rows of `self.x` [clients, steps, size], and how many they are."""
        lengths = [len(plan) for plan in self.plans]
        self.sizes = np.zeros((len(lengths), max(lengths)), dtype=np.int64)
        for sizes, plan in zip(self.sizes, self.plans, strict=True):
            sizes[: len(plan)] = plan.bounds[1:] - plan.bounds[:-1]
        self.rows = np.full((*self.sizes.shape, self.sizes.max(initial=0)), self.size)  # the empty row
        for rows, sizes, indices in zip(self.rows, self.sizes, used, strict=True):
            rows[np.arange(rows.shape[1]) < sizes[:, None]] = indices
        # How many clients have a step of a number: the first ones.
        self.active = np.count_nonzero(self.sizes, 0).tolist()
        # One client's rows below the other's.
        self.rows += (np.arange(len(lengths)) * self.height)[:, None, None]

    def divide_among_threads(self, products: int) -> None:
        """Let each thread compute whole ones of a batch of products: then their number changes no bit."""
        torch.set_num_threads(min(self.threads, products))

    def _stacked(self, parts: Sequence[Array], size: int, fill: int = 0) -> Tensor:
        # Labels are of any integer type, also of one without a sign.
        dtype = np.dtype(np.int64) if fill == PADDING else parts[0].dtype
        stacked = np.empty((len(parts), size, *parts[0].shape[1:]), dtype)
        for place, part in zip(stacked, parts, strict=True):
            place[: len(part)], place[len(part) :] = part, fill
        tensor = torch.from_numpy(stacked).to(self.training.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def add_up(self, weights: Tensor, sent: Params) -> Tensor:
        """Weighted sum of what is sent [clients, ...], without coordinates [num_parameters]."""
        total = weighted_sum(weights, {name: t for name, t in sent.items() if name != self.weight})
        if self.weight:
            examples = self.examples
            if not weights.all():
                # A client that is left out may have examples that are not finite: 0 · NaN is NaN.
                examples = examples.where((weights != 0)[:, None, None], 0)
            coordinates = sent[self.weight] * weights[:, None, None]
            pieces = pieces_of(examples.shape[2])
            self.divide_among_threads(pieces)
            total[self.weight] = without_coordinates(coordinates, examples, pieces)
            if self.bias:
                total[self.bias] = coordinates.sum((0, 1))
        return flatten({name: total[name] for name in self.training.params})

    def batches(self, step: int) -> Iterator[tuple[slice, Batch]]:
        """The batches of step number `step`, neighbours of about equal size together."""
        sizes = self.sizes[: self.active[step], step].tolist()
        for first, last in segments(sizes, self.limit):
            self.divide_among_threads(last - first)
            clients, size = last - first, max(sizes[first:last])
            rows = torch.from_numpy(self.rows[first:last, step, :size].reshape(-1)).to(self.y.device)
            y = self.y.index_select(0, rows).view(clients, -1)
            if self.weight:
                x = rows - first * self.height
            else:
                x = self.x.index_select(0, rows).view(clients, size, *self.x.shape[1:])
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
            yield slice(first, last), Batch(x, y, share, draws)

    def add_gradients(self, step: int, into: Params) -> None:
        """Add each active client's inner gradient to the tensors `into` [clients, ...]."""
        for where, batch in self.batches(step):

            def loss_gradient(logits: Tensor, where: slice = where, batch: Batch = batch) -> Tensor:
                if step == 0:
                    self.losses_before[where] = batch.losses(logits)
                return batch.loss_gradient(logits)

            params, gradients = (self.part_of(tree | self.tables, where) for tree in (self.params, into))
            add_gradients(self.layers, params, gradients, batch.x, batch.draws, loss_gradient)

    def part_of(self, tree: Params, where: slice) -> Params:
        """Some clients' part of tensors [clients, ...]."""
        if where == slice(0, len(self.clients)):
            return tree
        return {name: tensor[where] for name, tensor in tree.items()}

    def weighted_gradients(self, step: int, rule: WeightedGradients, into: Params) -> Params:
        """The active clients' inner gradients [clients, ...]; each is added to `into` times its weight."""
        gradients, active = zeros_like(into), slice(0, self.active[step])
        self.add_gradients(step, gradients)
        weights = [rule.of(len(plan))[step] for plan in self.plans[active]]
        for name, tensor in self.part_of(gradients, active).items():
            factors = tensor.new_tensor(weights).view(-1, *[1] * (tensor.ndim - 1))
            into[name][active].addcmul_(tensor, factors)
        return gradients

    def step(self, step: int, gradients: Params | None = None) -> None:
        """Local step number `step` of the clients that have one; as `local_training.local_steps`.

        Args:
            step: counted from 0.
            gradients: the inner gradients [clients, ...] if they are known already.
        """
        client, active = self.training.work.client, slice(0, self.active[step])
        total, direction, params = (
            self.part_of(tree, active) for tree in (self.direction_sum, self.momentum, self.params)
        )
        for name, tensor in direction.items():
            if client.momentum:
                tensor.mul_(client.momentum)
            # First, since without momentum the direction is added to the sum itself.
            if self.training.work.proximal:
                # θ_{j−1} − θ_0 = −β Σ d, so nothing of the size of the parameters is subtracted.
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
            if name == self.weight:
                continue
            if step == 0:  # until now they shared the global model's
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
        if self.weight:  # in the unit of the parameters' coordinates
            vector = vector | {self.weight: vector[self.weight] / -self.training.work.client.learning_rate}
        for where, batch in self.batches(step):
            here, along, into = (
                self.part_of(tree | self.tables, where) for tree in (params, vector, product)
            )
            if by_hand(self.layers):
                add_curvature(self.layers, here, along, into, batch.x, batch.change_of_loss_gradient)
            else:
                for name, tensor in self._curvature(batch, here, along).items():
                    into[name].copy_(tensor)
        return product

    def _curvature(self, batch: Batch, params: Params, vector: Params) -> Params:
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        tensors = list(leaves.values())
        with torch.enable_grad():
            loss = batch.losses(forward(self.layers, leaves, batch.x, batch.draws)).sum()
            gradient = torch.autograd.grad(loss, tensors, create_graph=True, materialize_grads=True)
        # Where the gradient is constant, the Hessian's row is zero.
        curved = [(g, v) for g, v in zip(gradient, vector.values(), strict=True) if g.requires_grad]
        found = torch.autograd.grad(
            [g for g, _ in curved], tensors, [v for _, v in curved], materialize_grads=True
        )
        return dict(zip(leaves, found, strict=True))

    def through_steps(self, trajectory: Sequence[Params], outer_gradient: Params) -> Params:
        """MAML's second order for each client; as `fl_meta.engines.local_training.through_local_steps`."""
        client = self.training.work.client
        on_params, on_momentum = outer_gradient, zeros_like(outer_gradient)
        for step in reversed(range(len(trajectory))):
            on_momentum = add(on_momentum, on_params, -client.learning_rate)
            on_params = add(on_params, self.hessian_vector_product(step, trajectory[step], on_momentum))
            on_params = add(on_params, on_momentum, client.weight_decay)
            on_momentum = scale(on_momentum, client.momentum)
        return on_params

    def scores(self, first: int, last: int, epoch: int) -> Iterator[Score]:
        """Scores of neighbours with their present parameters."""
        training, layers, rate = self.training, self.model_layers, self.training.work.client.learning_rate
        for layer in layers:
            layer.module.eval()
        params = {n: t[first:last] for n, t in self.params.items()}
        if self.weight:
            self.divide_among_threads(len(params[self.weight]))
            added = torch.bmm(params[self.weight].mT, self.examples[first:last])
            params[self.weight] = torch.add(training.params[self.weight], added, alpha=-rate)
        if self.bias:
            added = self.params[self.weight][first:last].sum(1)
            params[self.bias] = torch.add(training.params[self.bias], added, alpha=-rate)
        clients = self.clients[first:last]
        for a, b in segments([len(client.test_y) for client in clients], self.scoring_limit):
            x, y = (
                self._stacked(parts, max(map(len, parts)), fill)
                for parts, fill in (
                    ([client.test_x for client in clients[a:b]], 0),
                    ([client.test_y for client in clients[a:b]], PADDING),
                )
            )
            self.divide_among_threads(b - a)
            own = {name: tensor[a:b] for name, tensor in params.items()}
            parts = [
                score_logits(forward(layers, own, x_part).flatten(1, -2), y_part.flatten(1))
                for x_part, y_part in zip(*(torch.split(z, TEST_ROWS, 1) for z in (x, y)), strict=True)
            ]
            losses, correct, counts = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
            keeps = training.momentum is not None and epoch == training.work.epochs
            for i, client in enumerate(clients[a:b]):
                kept = self._buffer(first + a + i) if keeps else None
                yield Score(client.client_id, epoch, float(losses[i]), int(correct[i]), int(counts[i]), kept)
        for layer in layers:
            layer.module.train()
