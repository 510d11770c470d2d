"""The fast engine: clients side by side, in chunks that fit the processor's cache, on all idle cores."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from queue import SimpleQueue
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from fl_meta.algorithms.sent import SentGradients, WeightedGradients
from fl_meta.algorithms.table import Algorithm
from fl_meta.engines.interface import Collected, Score
from fl_meta.engines.local_training import LocalTraining
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.stacked.dual_layer import place_of_dual_layer, rounded
from fl_meta.engines.stacked.layers import Layer, layers_of, seeded_by_layer
from fl_meta.engines.stacked.stack import Stack, stackable, stays_in_span
from fl_meta.engines.threads import allowed_threads, idle_cores
from fl_meta.models.parameters import Params, map_params, zeros_like

T = TypeVar("T")

# What a chunk of clients may take. On a CPU it should stay in the cache; on a GPU it should fill it.
CHUNK_BYTES = {"cpu": 40 * 2**20, "cuda": 2**32}


# Threads that divide these among them change no bit: PyTorch computes what is left over at the end of a
# thread's part in another way than the rest, and only of a smooth activation that has other last digits.
DIVISIBLE = (nn.Linear, nn.Flatten, nn.ReLU, nn.Dropout)


def shares_operations(training: LocalTraining, layers: Sequence[Layer]) -> bool:
    """Whether threads divide each operation of one stack among them, instead of having a stack each.

    Where operations are short, threads with a stack each would wait for Python's lock between them. Only MKL
    lets every thread compute whole products (`Stack.divide_among_threads`).
    """
    divisible = stackable(layers) and all(type(layer.module) in DIVISIBLE for layer in layers)
    mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return divisible and mkl and training.device.type == "cpu"


@dataclass(frozen=True)
class StackedEngine:
    """Runs chunks of clients as stacks.

    A model that is an `nn.Sequential` of linear layers, activations and the like is stacked. On a CPU a
    client of any other model is a chunk of its own, because convolutions and recurrences gain nothing there
    from being stacked (see docs/speed.md); on a GPU all are stacked. A model that draws random numbers
    other than by `nn.Dropout` in an `nn.Sequential` is run by `LoopEngine`: its draws have one global state.

    Attributes:
        workers: number of threads; None takes as many as PyTorch may use. They divide every operation of one
            chunk after the other among them, as far as there are idle cores, or have a chunk each: see
            `shares_operations`. The numbers do not depend on it.
        chunk_bytes: bound of what the stacks and activations of one chunk take; None takes `CHUNK_BYTES`. A
            chunk has at least one client.
    """

    workers: int | None = None
    chunk_bytes: int | None = None

    def collect(
        self, training: LocalTraining, client_ids: Sequence[str], algorithm: Algorithm
    ) -> Iterator[Collected]:
        """See `Engine`."""
        layers = layers_of(training.model.module)
        # A rule of one's own that is a function of the steps is written for one client.
        if callable(algorithm.sends) or not seeded_by_layer(layers):
            return LoopEngine().collect(training, client_ids, algorithm)
        sends = algorithm.sends
        rule = sends if isinstance(sends, WeightedGradients) else None
        second_order = sends is SentGradients.LAST_THROUGH_STEPS
        last_only = second_order or sends is SentGradients.LAST

        def task(stack: Stack, check: Callable[[], None]) -> Collected:
            steps, trajectory = len(stack.plans[0]) - last_only, list[Params]()
            weighted = zeros_like(stack.direction_sum) if rule else Params()
            for step in range(steps):
                check()
                if second_order:
                    trajectory.append(map_params(torch.clone, stack.params))
                stack.step(step, stack.weighted_gradients(step, rule, weighted) if rule else None)
            sent = weighted if rule else stack.direction_sum
            if last_only:
                sent = zeros_like(sent)
                stack.add_gradients(steps, sent)
                sent = stack.through_steps(trajectory, sent)
            weights = [algorithm.weight(len(client.train_x)) for client in stack.clients]
            return Collected.of(
                sent,
                stack.losses_before.new_tensor(weights),
                stack.losses_before,
                local_gradients=sum(map(len, stack.plans)),
                places=stack.places,
                padding=stack.padding,
                add_up=stack.add_up,
                momentum=stack.last_buffers(),
            )

        return self._run(task, training, client_ids, second_order, layers)

    def scores(self, training: LocalTraining, client_ids: Sequence[str], every: int = 1) -> Iterator[Score]:
        """See `Engine`."""
        layers = layers_of(training.model.module)
        if not seeded_by_layer(layers):
            return LoopEngine().scores(training, client_ids, every)

        def task(stack: Stack, check: Callable[[], None]) -> list[Score]:
            found = list(stack.scores(0, len(stack.clients), 0))
            for step in range(len(stack.plans[0])):
                check()
                stack.step(step)
                epochs = [(step + 1) * (training.work.epochs or 0) / len(plan) for plan in stack.plans]
                first = 0
                for epoch, neighbours in groupby(epochs[: stack.active[step]]):
                    last = first + len(list(neighbours))
                    if epoch.is_integer() and (epoch % every == 0 or epoch == training.work.epochs):
                        found += stack.scores(first, last, int(epoch))
                    first = last
            return found

        return chain.from_iterable(self._run(task, training, client_ids, False, layers))

    def _run(
        self,
        task: Callable[[Stack, Callable[[], None]], T],
        training: LocalTraining,
        client_ids: Sequence[str],
        second_order: bool,
        layers: Sequence[Layer],
    ) -> Iterator[T]:
        """The task's results for every chunk, in the order of the chunks, whoever is ready first."""
        own, stop = threading.local(), threading.Event()
        in_span = stays_in_span(training, layers, second_order)

        def check() -> None:
            if stop.is_set():
                raise CancelledError

        def work(chunk: Sequence[str]) -> T:
            if not hasattr(own, "layers"):
                own.layers = spare.get_nowait()
            # A core that is idle now may be busy with the next chunk.
            inside = min(workers, idle_cores()) if share and workers > 1 else 1
            with torch.no_grad():
                return task(Stack(training, own.layers, chunk, in_span, inside), check)

        workers = self.workers or allowed_threads()
        module = training.model.module.to(training.device).train()
        chunks = self._chunks(training, client_ids, second_order, layers)
        share = shares_operations(training, layers)
        outside = 1 if share or training.device.type == "cuda" else min(workers, len(chunks))
        # To run a module with other parameters changes it for a moment: each thread has its own, copied
        # before any thread runs, since whoever asks for the results may run the model in between.
        spare = SimpleQueue[Sequence[Layer]]()
        for _ in range(outside):
            spare.put(layers_of(copy.deepcopy(module)) if outside > 1 else layers)
        # glibc takes the largest block ever freed (up to 32 MiB) as a hint how much to keep. Without it every
        # step gives its memory back to the system, and gets it again page by page.
        torch.empty(30 * 2**20, dtype=torch.uint8)
        if outside == 1:
            for chunk in chunks:
                before = torch.get_num_threads()
                try:
                    result = work(chunk)
                finally:
                    torch.set_num_threads(before)
                yield result
            return
        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(outside, initializer=partial(torch.set_num_threads, 1))
        running: deque[Future[T]] = deque()
        try:
            for chunk in chunks:
                # Results wait in memory until those before them are done: a few at most.
                if len(running) == 2 * outside:
                    yield running.popleft().result()
                running.append(pool.submit(work, chunk))
            while running:
                yield running.popleft().result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)  # a worker's number is that of all threads that come later

    def _chunks(
        self,
        training: LocalTraining,
        client_ids: Sequence[str],
        second_order: bool,
        layers: Sequence[Layer],
    ) -> list[list[str]]:
        """Clients with about equally many examples together, those with most first."""
        ordered = sorted(client_ids, key=training.num_examples, reverse=True)
        most = 1
        if training.device.type == "cuda" or stackable(layers):
            numbers = self._numbers(training, layers, training.num_examples(ordered[0]), second_order)
            itemsize = next(iter(training.params.values())).element_size()
            budget = self.chunk_bytes or CHUNK_BYTES[training.device.type]
            most = max(1, budget // (numbers * itemsize))
        if shares_operations(training, layers):
            size = -(-len(ordered) // -(-len(ordered) // most))
            size += size % 2 if size < most else 0  # so that two threads compute equally many
            return [ordered[first : first + size] for first in range(0, len(ordered), size)]
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
        batch = min(training.work.batch_size or num_examples, num_examples)
        parameters, examples = training.model.num_parameters, num_examples * features
        used = (
            batch * training.work.steps if training.work.steps else num_examples * (training.work.epochs or 0)
        )
        in_span = stays_in_span(training, layers, second_order)
        place = place_of_dual_layer(layers, features, num_examples, used) if in_span else None
        if place is not None:
            units, width = cast(Tensor, layers[place].module.weight).shape
            rows = rounded(num_examples + 1)
            parameters += units * (rows - width)
            examples = rows * (features + rows + units)
        # Parameters, directions, momentum; for the second order a trajectory and what walks back along it.
        copies = 3 + (6 + (training.work.steps or 0)) * second_order
        return examples + copies * parameters + 3 * batch * activations
