"""The fast engine: clients side by side, in chunks that fit the processor's cache, one thread for each."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from queue import SimpleQueue
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from fl_meta.algorithms import Algorithm, Sends
from fl_meta.data.federated import PADDING, Array
from fl_meta.layers import (
    Layer,
    add_curvature,
    add_gradients,
    by_hand,
    forward,
    layers_of,
    seeded_by_layer,
)
from fl_meta.local import ClientMomentum, LocalTraining
from fl_meta.loop import Collected, LoopEngine, Score, collected
from fl_meta.models import score_logits
from fl_meta.params import Params, flatten, unflatten
from fl_meta.rules import Draws
from fl_meta.span import IN_SPAN, place_in_span, table
from fl_meta.threads import allowed_threads

T = TypeVar("T")

# At most this share of the places in a stack is left empty where clients' batches differ in size.
PADDING_LIMIT = 0.1
SCORING_LIMIT = 0.5  # the same for test parts: a forward pass of few examples costs little but its calls
# What a chunk of clients may take. On a CPU it should stay in the cache; on a GPU it should fill it.
CHUNK_BYTES = {"cpu": 12 * 2**20, "cuda": 2**32}
TEST_ROWS = 1024  # examples of one client that are scored at a time


def stays_in_span(training: LocalTraining) -> bool:
    """Whether local training only ever adds the round's own examples to a first linear layer's weight."""
    return not training.client.weight_decay and training.momentum is None


def segments(sizes: Sequence[int], limit: float) -> Iterator[tuple[int, int]]:
    """Cut a row of batches into runs [first, last) that are stacked with at most `limit` of padding each."""
    first = 0
    for last in range(1, len(sizes) + 1):
        run = sizes[first : last + 1]
        if last == len(sizes) or len(run) * max(run) - sum(run) > limit * len(run) * max(run):
            yield first, last
            first = last


@dataclass(frozen=True)
class Batch:
    """The batches of neighbours in a stack.

    Attributes:
        x: inputs [clients, size, ...].
        y: labels [clients, predictions], `PADDING` where there is none.
        share: of each prediction in its client's mean loss [clients, predictions].
        draws: for dropout.
    """

    x: Tensor
    y: Tensor
    share: Tensor
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
        d.view(-1, d.shape[-1]).scatter_(1, self.y.clamp(min=0).view(-1, 1), -1.0, reduce="add")
        return d.mul_(self.share.view(*logits.shape[:-1], 1))

    def change_of_loss_gradient(self, logits: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of each client's mean loss, and its change when the logits move along `moved`."""
        chances = torch.softmax(logits, -1)
        change = chances * moved
        change = change - chances * change.sum(-1, keepdim=True)
        return self.loss_gradient(logits), change * self.share.view(*logits.shape[:-1], 1)


class Stack:
    """Some clients' parameters along a leading axis, and what happens to them in local training.

    `params`, `direction_sum` and `momentum` are flat [clients, numbers]. The numbers are the model's
    parameters, but that a first linear layer's weight may be in coordinates of the examples (`fl_meta.span`).

    Args:
        training: what the clients do.
        module: a copy of the model for this thread alone.
        client_ids: ordered by falling number of steps, so that those who are done leave at the end.
        in_span: whether the first linear layer may be kept in coordinates.
    """

    def __init__(
        self, training: LocalTraining, module: nn.Module, client_ids: Sequence[str], in_span: bool
    ) -> None:
        self.training, self.module, self.layers = training, module, layers_of(module)
        self.clients = [training.data[client_id] for client_id in client_ids]
        self.plans = [training.plan(client_id) for client_id in client_ids]
        stackable = all(layer.stackable for layer in self.layers)
        self.limit, self.scoring_limit = (PADDING_LIMIT, SCORING_LIMIT) if stackable else (0.0, 0.0)
        self.places = self.padding = 0
        self.dtype = next(iter(training.params.values())).dtype
        self.rows = [plan.indices for plan in self.plans]
        parts = [(client.train_x, client.train_y) for client in self.clients]
        if any(len(rows) < len(x) for rows, (x, _) in zip(self.rows, parts, strict=True)):
            # Of large clients only what is used is copied.
            parts = [(x[rows], y[rows]) for rows, (x, y) in zip(self.rows, parts, strict=True)]
            self.rows = [np.arange(len(rows)) for rows in self.rows]
        self.size = max(len(x) for x, _ in parts)
        self.rows = [rows + i * (self.size + 1) for i, rows in enumerate(self.rows)]
        # One more row, with nothing in it, fills up smaller batches.
        x = self._stacked([x for x, _ in parts], self.size + 1)
        self.y = self._stacked([y for _, y in parts], self.size + 1, PADDING).flatten(0, 1)
        self.complete = all(bool((y != PADDING).all()) for _, y in parts)
        self.like = dict(training.params)
        self.weight: str | None = None
        place = place_in_span(self.layers, x[0, 0].numel(), self.size, len(self.rows[0])) if in_span else None
        if place is not None:
            linear = self.layers[place]
            self.weight, self.examples = linear.names["weight"], x.flatten(2)
            units = self.like[self.weight].shape[0]
            x = table(self.examples, self.like[self.weight])
            self.like[self.weight] = x.new_zeros(self.size + 1, units)
            self.layers = [replace(linear, rule=IN_SPAN), *self.layers[place + 1 :]]
        self.x = x.flatten(0, 1)
        self.start = flatten(self.like)
        self.params = self.start.expand(len(self.clients), -1).clone()
        self.direction_sum = torch.zeros_like(self.params)  # Σ d_j, so that θ_j = θ_0 − β Σ d_j
        self.momentum = torch.zeros_like(self.params) if training.client.momentum else self.direction_sum
        for i, client_id in enumerate(client_ids):
            if training.momentum and client_id in training.momentum:
                self.momentum[i] = training.momentum[client_id]
        self.params_by_name = unflatten(self.params, self.like)
        self.momentum_by_name = unflatten(self.momentum, self.like)
        self.losses_before = self.start.new_zeros(len(self.clients))

    def _stacked(self, parts: Sequence[Array], size: int, fill: int = 0) -> Tensor:
        # Labels are of any integer type, also of one without a sign.
        dtype = np.dtype(np.int64) if fill == PADDING else parts[0].dtype
        stacked = np.full((len(parts), size, *parts[0].shape[1:]), fill, dtype)
        for place, part in zip(stacked, parts, strict=True):
            place[: len(part)] = part
        tensor = torch.from_numpy(stacked).to(self.training.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def add_up(self, weights: Tensor, directions: Tensor) -> Tensor:
        """Weighted sum of directions [clients, numbers], without coordinates [num_parameters]."""
        if self.weight is None:
            return weights @ directions
        examples = self.examples
        if not weights.all():
            # A client that is left out may have examples that are not finite: 0 · NaN is NaN.
            examples = examples.where((weights != 0)[:, None, None], 0)
        total = unflatten(weights @ directions, self.like)
        coordinates = unflatten(directions, self.like)[self.weight] * weights[:, None, None]
        total[self.weight] = coordinates.flatten(0, 1).t() @ examples.flatten(0, 1)
        return flatten(total)

    def active(self, step: int) -> int:
        """How many clients have a step of this number: the first ones."""
        return sum(step < len(plan) for plan in self.plans)

    def batches(self, step: int) -> Iterator[tuple[slice, Batch]]:
        """The batches of step number `step`, neighbours of about equal size together."""
        chosen = [
            rows[plan.bounds[step] : plan.bounds[step + 1]]
            for rows, plan in zip(self.rows[: self.active(step)], self.plans, strict=False)
        ]
        sizes = [len(rows) for rows in chosen]
        for first, last in segments(sizes, self.limit):
            clients, size = last - first, max(sizes[first:last])
            full = size == min(sizes[first:last])
            if full:
                index = np.concatenate(chosen[first:last])
            else:
                index = np.full(clients * size, self.size)  # the empty row
                for i, rows in enumerate(chosen[first:last]):
                    index[i * size : i * size + len(rows)] = rows
            taken = torch.from_numpy(index).to(self.x.device)
            x = self.x.index_select(0, taken).view(clients, size, *self.x.shape[1:])
            y = self.y.index_select(0, taken).view(clients, -1)
            draws = None
            if self.complete and full:
                share = self.start.new_full(y.shape, 1 / y.shape[1])
            else:
                valid = y != PADDING
                share = valid / valid.sum(1, keepdim=True).clamp(min=1).to(self.dtype)
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

            params, gradients = self.params_by_name, into
            if where != slice(0, len(self.clients)):
                params, gradients = ({n: t[where] for n, t in all_.items()} for all_ in (params, gradients))
            add_gradients(self.layers, params, gradients, batch.x, batch.draws, loss_gradient)

    def step(self, step: int) -> None:
        """Local step number `step` of the clients that have one; as `fl_meta.local.local_steps`."""
        active, client = self.active(step), self.training.client
        total, direction, params = self.direction_sum, self.momentum, self.params
        if active < len(self.clients):
            total, direction, params = (flat[:active] for flat in (total, direction, params))
        if client.momentum:
            direction.mul_(client.momentum)
        if client.weight_decay:
            direction.add_(params, alpha=client.weight_decay)
        if self.training.proximal:
            # θ_{j−1} − θ_0 = −β Σ d, so nothing of the size of the parameters is subtracted.
            direction.add_(total, alpha=-self.training.proximal * client.learning_rate)
        self.add_gradients(step, self.momentum_by_name)
        if client.momentum:
            total.add_(direction)
        torch.add(self.start, total, alpha=-client.learning_rate, out=params)

    def kept_momentum(self) -> ClientMomentum | None:
        """Each client's buffer by itself, so that the stack's memory can go; None if training keeps none."""
        if self.training.momentum is None:
            return None
        ids = (client.client_id for client in self.clients)
        return {client_id: row.clone() for client_id, row in zip(ids, self.momentum, strict=True)}

    def hessian_vector_product(self, step: int, params: Tensor, vector: Tensor) -> Tensor:
        """∇²L(params; batch of this step) · vector for each client [clients, numbers]."""
        product = torch.zeros_like(vector)
        for where, batch in self.batches(step):
            here, along, into = (unflatten(flat[where], self.like) for flat in (params, vector, product))
            for name, tensor in self._curvature(batch, here, along).items():
                into[name].copy_(tensor)
        return product

    def _curvature(self, batch: Batch, params: Params, vector: Params) -> Params:
        if by_hand(self.layers):
            product = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
            add_curvature(self.layers, params, vector, product, batch.x, batch.change_of_loss_gradient)
            return product
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

    def through_steps(self, trajectory: Sequence[Tensor], outer_gradient: Tensor) -> Tensor:
        """MAML's second order for each client; as `fl_meta.local.through_local_steps`."""
        client = self.training.client
        on_params, on_momentum = outer_gradient, torch.zeros_like(outer_gradient)
        for step in reversed(range(len(trajectory))):
            on_momentum.sub_(on_params, alpha=client.learning_rate)
            on_params.add_(self.hessian_vector_product(step, trajectory[step], on_momentum))
            on_params.add_(on_momentum, alpha=client.weight_decay)
            on_momentum.mul_(client.momentum)
        return on_params

    def scores(self, first: int, last: int, epoch: int) -> Iterator[Score]:
        """Scores of neighbours with their present parameters."""
        training, layers = self.training, layers_of(self.module.eval())
        params = {n: t[first:last] for n, t in self.params_by_name.items()}
        if self.weight is not None:
            moved = torch.bmm(params[self.weight].mT, self.examples[first:last])
            params[self.weight] = training.params[self.weight] + moved
        clients = self.clients[first:last]
        for a, b in segments([len(client.test_y) for client in clients], self.scoring_limit):
            x, y = (
                self._stacked(parts, max(map(len, parts)), fill)
                for parts, fill in (
                    ([client.test_x for client in clients[a:b]], 0),
                    ([client.test_y for client in clients[a:b]], PADDING),
                )
            )
            own = {name: tensor[a:b] for name, tensor in params.items()}
            parts = [
                score_logits(forward(layers, own, x_part).flatten(1, -2), y_part.flatten(1))
                for x_part, y_part in zip(*(torch.split(z, TEST_ROWS, 1) for z in (x, y)), strict=True)
            ]
            losses, correct, counts = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
            keeps = training.momentum is not None and epoch == training.epochs
            for i, client in enumerate(clients[a:b]):
                kept = self.momentum[first + a + i].clone() if keeps else None
                yield Score(client.client_id, epoch, float(losses[i]), int(correct[i]), int(counts[i]), kept)
        self.module.train()


@dataclass(frozen=True)
class StackedEngine:
    """Runs chunks of clients as stacks, several chunks at once.

    A model that is an `nn.Sequential` of linear layers, activations and the like is stacked. On a CPU a
    client of any other model is a chunk of its own, because convolutions and recurrences gain nothing there
    from being stacked (see benchmarks/README.md); on a GPU all are stacked. A model that draws random numbers
    other than by `nn.Dropout` in an `nn.Sequential` is run by `LoopEngine`: its draws have one global state.

    Attributes:
        workers: number of threads, each with one chunk at a time; None takes as many as PyTorch may use.
            The numbers do not depend on it.
        chunk_bytes: bound of what the stacks and activations of one chunk take; None takes `CHUNK_BYTES`. A
            chunk has at least one client.
    """

    workers: int | None = None
    chunk_bytes: int | None = None

    def collect(
        self, training: LocalTraining, client_ids: Sequence[str], algorithm: Algorithm
    ) -> Iterator[Collected]:
        """See `Engine`."""
        if not seeded_by_layer(layers_of(training.model.module)):
            return LoopEngine().collect(training, client_ids, algorithm)
        second_order = algorithm.sends is Sends.LAST_THROUGH_STEPS
        last_only = second_order or algorithm.sends is Sends.LAST

        def task(stack: Stack, check: Callable[[], None]) -> Collected:
            steps, trajectory = len(stack.plans[0]) - last_only, []
            for step in range(steps):
                check()
                if second_order:
                    trajectory.append(stack.params.clone())
                stack.step(step)
            sent = stack.direction_sum
            if last_only:
                sent = torch.zeros_like(sent)
                stack.add_gradients(steps, unflatten(sent, stack.like))
                sent = stack.through_steps(trajectory, sent)
            weights = [algorithm.weight(len(client.train_x)) for client in stack.clients]
            gradients = sum(map(len, stack.plans))
            return collected(
                sent,
                sent.new_tensor(weights),
                stack.losses_before,
                gradients,
                stack.places,
                stack.padding,
                stack.add_up,
                stack.kept_momentum(),
            )

        return self._run(task, training, client_ids, second_order)

    def scores(self, training: LocalTraining, client_ids: Sequence[str], every: int = 1) -> Iterator[Score]:
        """See `Engine`."""
        if not seeded_by_layer(layers_of(training.model.module)):
            return LoopEngine().scores(training, client_ids, every)

        def task(stack: Stack, check: Callable[[], None]) -> list[Score]:
            found = list(stack.scores(0, len(stack.clients), 0))
            for step in range(len(stack.plans[0])):
                check()
                stack.step(step)
                epochs = [(step + 1) * (training.epochs or 0) / len(plan) for plan in stack.plans]
                first = 0
                for epoch, neighbours in groupby(epochs[: stack.active(step)]):
                    last = first + len(list(neighbours))
                    if epoch.is_integer() and (epoch % every == 0 or epoch == training.epochs):
                        found += stack.scores(first, last, int(epoch))
                    first = last
            return found

        return chain.from_iterable(self._run(task, training, client_ids, second_order=False))

    def _run(
        self,
        task: Callable[[Stack, Callable[[], None]], T],
        training: LocalTraining,
        client_ids: Sequence[str],
        second_order: bool,
    ) -> Iterator[T]:
        """The task's results for every chunk, in the order of the chunks, whoever is ready first."""
        own, stop = threading.local(), threading.Event()
        in_span = stays_in_span(training)

        def check() -> None:
            if stop.is_set():
                raise CancelledError

        def work(chunk: Sequence[str]) -> T:
            if not hasattr(own, "module"):
                own.module = spare.get_nowait().to(training.device).train()
            with torch.no_grad():
                return task(Stack(training, own.module, chunk, in_span), check)

        chunks = self._chunks(training, client_ids, second_order)
        workers = min(self.workers or allowed_threads(), len(chunks))
        # To run a module with other parameters changes it for a moment: each thread has its own, copied
        # before any thread runs, since whoever asks for the results may run the model in between.
        module, spare = training.model.module, SimpleQueue[nn.Module]()
        for _ in range(workers):
            spare.put(copy.deepcopy(module) if workers > 1 else module)
        # glibc takes the largest block ever freed (up to 32 MiB) as a hint how much to keep. Without it every
        # step gives its memory back to the system, and gets it again page by page.
        torch.empty(30 * 2**20, dtype=torch.uint8)
        if workers == 1 or training.device.type == "cuda":
            yield from map(work, chunks)
            return
        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1))
        running: deque[Future[T]] = deque()
        try:
            for chunk in chunks:
                # Results wait in memory until those before them are done: a few at most.
                if len(running) == 2 * workers:
                    yield running.popleft().result()
                running.append(pool.submit(work, chunk))
            while running:
                yield running.popleft().result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)  # a worker's number is that of all threads that come later

    def _chunks(
        self, training: LocalTraining, client_ids: Sequence[str], second_order: bool
    ) -> list[list[str]]:
        """Clients with about equally many examples together, those with most first."""
        ordered = sorted(client_ids, key=training.num_examples, reverse=True)
        layers, device = layers_of(training.model.module), training.device.type
        most = 1
        if device == "cuda" or all(layer.stackable for layer in layers):
            numbers = self._numbers(training, layers, training.num_examples(ordered[0]), second_order)
            itemsize = next(iter(training.params.values())).element_size()
            most = max(1, (self.chunk_bytes or CHUNK_BYTES[device]) // (numbers * itemsize))
        # An even number of chunks gives two threads equally much to do.
        number = min(2 * -(-len(ordered) // (2 * most)), len(ordered))
        return [list(part) for part in np.array_split(np.array(ordered, dtype=object), number)]

    def _numbers(
        self, training: LocalTraining, layers: Sequence[Layer], num_examples: int, second_order: bool
    ) -> int:
        """About how many numbers the stack of one client holds, with those between the layers."""
        x = torch.from_numpy(np.array(training.data.x[:1])).to(training.device)[None]
        one = {name: tensor[None] for name, tensor in training.params.items()}
        x = x.to(next(iter(one.values())).dtype) if x.is_floating_point() else x
        features = activations = x.numel()
        with torch.no_grad():
            for layer in layers:
                x = layer.rule.forward(layer.module, layer.own(one), x, None)
                activations += x.numel()
        batch = min(training.batch_size or num_examples, num_examples)
        parameters, examples = training.model.num_parameters, num_examples * features
        used = batch * training.steps if training.steps else num_examples * (training.epochs or 0)
        place = place_in_span(layers, features, num_examples, used) if stays_in_span(training) else None
        if place is not None:
            units, width = cast(Tensor, layers[place].module.weight).shape
            parameters += units * (num_examples - width)
            examples += num_examples * (2 * num_examples + units)
        # Parameters, directions, momentum; for the second order a trajectory and what walks back along it.
        copies = 3 + (4 + (training.steps or 0)) * second_order
        return examples + copies * parameters + 3 * batch * activations
