"""The fast engine: clients are stacked in chunks that fit the processor's cache, and use all idle cores."""

from __future__ import annotations

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
from fl_meta.engines.local_training import LocalTraining, client_update_in
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.stacked.dual_layer import index_of_dual_layer, rounded
from fl_meta.engines.stacked.layers import Layer, layers_of, seeded_by_layer
from fl_meta.engines.stacked.stack import Stack, allows_dual_layer, stackable
from fl_meta.engines.threads import allowed_threads, idle_cores
from fl_meta.models.model import has_own_methods
from fl_meta.models.parameters import Params, map_params, zeros_like

T = TypeVar("T")

# The memory that a chunk of clients may take: little enough for a CPU's cache, enough to keep a GPU busy.
CHUNK_BYTES = {"cpu": 40 * 2**20, "cuda": 2**32}

# Layers whose operations threads can divide among them without changing a bit. PyTorch computes the remainder
# at the end of a thread's share in another way than the rest, which changes the last digits of a smooth
# activation.
DIVISIBLE = (nn.Linear, nn.Flatten, nn.ReLU, nn.Dropout)


def shares_operations(training: LocalTraining, layers: Sequence[Layer]) -> bool:
    """Whether threads divide each operation of one stack among them, instead of each running its own stack.

    Where operations are short, threads with a stack each would wait for Python's lock between operations.
    Only MKL lets every thread compute whole products (`batch.divide_among_threads`).
    """
    divisible = stackable(layers) and all(type(layer.module) in DIVISIBLE for layer in layers)
    mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return divisible and mkl and training.device.type == "cpu"


def _needs_the_loop(training: LocalTraining, layers: Sequence[Layer]) -> bool:
    """Whether clients must run one by one, through the model's own methods or with one random state."""
    return has_own_methods(training.model) or not seeded_by_layer(layers)


def _name_client(error: Exception, chunk: Sequence[str], alone: Callable[[str], object]) -> None:
    """Add a note to the error of a chunk that says whose it is."""
    for client_id in chunk:
        try:
            alone(client_id)
        except Exception as own:
            for note in getattr(own, "__notes__", []):
                error.add_note(note)
            return
    error.add_note(f"in a stack of the clients {', '.join(map(repr, chunk))}")


@dataclass(frozen=True)
class StackedEngine:
    """Runs chunks of clients as stacks.

    On a GPU every model is stacked. On a CPU, only an `nn.Sequential` of linear layers, activations and the
    like is: convolutions and recurrences gain nothing there from being stacked (see benchmarks/README.md), so
    each client of such a model is a chunk of its own. A model that draws random numbers other than by
    `nn.Dropout` in an `nn.Sequential` is run by `LoopEngine`, because its draws share one global state.

    Attributes:
        workers: number of threads; None takes as many as PyTorch may use. Either they divide every operation
            among them, as far as cores are idle, or each runs its own chunk: see `shares_operations`. The
            results do not depend on this number.
        chunk_bytes: memory that the stacks and activations of one chunk may take; None takes `CHUNK_BYTES`. A
            chunk has at least one client.

    Example:
        >>> engine = StackedEngine(workers=2)
        >>> run = fl_meta.train(model, train, stages, engine=engine, progress=False)
    """

    workers: int | None = None
    chunk_bytes: int | None = None

    def collect(
        self, training: LocalTraining, client_ids: Sequence[str], algorithm: Algorithm
    ) -> Iterator[Collected]:
        """See `Engine`."""
        layers = layers_of(training.model.module)
        # A rule that is a function of the steps is written for one client.
        if callable(algorithm.sends) or _needs_the_loop(training, layers):
            return LoopEngine().collect(training, client_ids, algorithm)
        sends = algorithm.sends
        rule = sends if isinstance(sends, WeightedGradients) else None
        second_order = algorithm.second_order
        last_only = second_order or sends is SentGradients.LAST

        def collected(stack: Stack, check: Callable[[], None]) -> Collected:
            steps, trajectory = len(stack.plans[0]) - last_only, list[Params]()
            rule_weights = [rule.of(len(plan)) for plan in stack.plans] if rule else []
            weighted = zeros_like(stack.direction_sum) if rule else Params()
            for step in range(steps):
                check()
                if second_order:
                    trajectory.append(map_params(torch.clone, stack.params))
                stack.step(step, stack.weighted_gradients(step, rule_weights, weighted) if rule else None)
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

        def alone(client_id: str) -> object:
            return client_update_in(training, client_id, algorithm)

        return self._run(collected, alone, training, client_ids, second_order, layers)

    def scores(self, training: LocalTraining, client_ids: Sequence[str], every: int = 1) -> Iterator[Score]:
        """See `Engine`."""
        layers = layers_of(training.model.module)
        if _needs_the_loop(training, layers):
            return LoopEngine().scores(training, client_ids, every)

        def scored(stack: Stack, check: Callable[[], None]) -> list[Score]:
            scores = list(stack.scores(0, len(stack.clients), 0))
            for step in range(len(stack.plans[0])):
                check()
                stack.step(step)
                epochs = [(step + 1) * (training.work.epochs or 0) / len(plan) for plan in stack.plans]
                first = 0
                for epoch, neighbours in groupby(epochs[: stack.active[step]]):
                    last = first + len(list(neighbours))
                    if epoch.is_integer() and (epoch % every == 0 or epoch == training.work.epochs):
                        scores += stack.scores(first, last, int(epoch))
                    first = last
            return scores

        def alone(client_id: str) -> object:
            return list(LoopEngine().scores(training, [client_id], every))

        return chain.from_iterable(self._run(scored, alone, training, client_ids, False, layers))

    def _run(
        self,
        run: Callable[[Stack, Callable[[], None]], T],
        alone: Callable[[str], object],
        training: LocalTraining,
        client_ids: Sequence[str],
        second_order: bool,
        layers: Sequence[Layer],
    ) -> Iterator[T]:
        """What `run` returns for every chunk, in the order of the chunks.

        If it fails, `alone` is called for each client of the chunk, to find out which one it is.
        """
        own, stop = threading.local(), threading.Event()
        dual_allowed = allows_dual_layer(training, layers, second_order)

        def check() -> None:
            if stop.is_set():
                raise CancelledError

        def work(chunk: Sequence[str]) -> T:
            if not hasattr(own, "layers"):
                own.layers = spare.get_nowait()
            # Counted anew for each chunk, because other processes come and go.
            inside = min(workers, idle_cores()) if share and workers > 1 else 1
            with torch.no_grad():
                return run(Stack(training, own.layers, chunk, dual_allowed, inside), check)

        workers = self.workers or allowed_threads()
        training.model.module.to(training.device).train()

        def own_layers() -> Sequence[Layer]:
            return layers_of(training.model.copied_module().to(training.device).train())

        chunks = self._chunks(training, client_ids, second_order, layers)
        share = shares_operations(training, layers)
        outside = 1 if share or training.device.type == "cuda" else min(workers, len(chunks))
        # Running a module with other parameters changes it for a moment, so each thread has its own copy. All
        # are made before any thread runs, since the caller may run the model between two results.
        spare = SimpleQueue[Sequence[Layer]]()
        for _ in range(outside):
            spare.put(own_layers() if outside > 1 else layers)
        # glibc keeps as much freed memory as the largest block ever freed (up to 32 MiB). Without this hint,
        # every step would give its memory back to the system and get it again page by page.
        torch.empty(30 * 2**20, dtype=torch.uint8)
        if outside == 1:
            for chunk in chunks:
                before = torch.get_num_threads()
                try:
                    result = work(chunk)
                except Exception as error:
                    _name_client(error, chunk, alone)
                    raise
                finally:
                    torch.set_num_threads(before)
                yield result
            return
        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(outside, initializer=partial(torch.set_num_threads, 1))
        running: deque[tuple[Sequence[str], Future[T]]] = deque()

        def first_result() -> T:
            chunk, future = running.popleft()
            try:
                return future.result()
            except Exception as error:
                stop.set()
                pool.shutdown(cancel_futures=True)
                _name_client(error, chunk, alone)
                raise

        try:
            for chunk in chunks:
                # Results wait in memory for those before them, so their number is bounded.
                if len(running) == 2 * outside:
                    yield first_result()
                running.append((chunk, pool.submit(work, chunk)))
            while running:
                yield first_result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)  # a worker's setting would hold for all threads started later

    def _chunks(
        self,
        training: LocalTraining,
        client_ids: Sequence[str],
        second_order: bool,
        layers: Sequence[Layer],
    ) -> list[list[str]]:
        """Clients grouped by number of examples, largest first."""
        ordered = sorted(client_ids, key=training.num_examples, reverse=True)
        most = 1
        if training.device.type == "cuda" or stackable(layers):
            numbers = self._numbers(training, layers, training.num_examples(ordered[0]), second_order)
            itemsize = next(iter(training.params.values())).element_size()
            budget = self.chunk_bytes or CHUNK_BYTES[training.device.type]
            most = max(1, budget // (numbers * itemsize))
        if shares_operations(training, layers):
            size = -(-len(ordered) // -(-len(ordered) // most))
            size += size % 2 if size < most else 0  # so that two threads have equally many clients
            return [ordered[first : first + size] for first in range(0, len(ordered), size)]
        # An even number of chunks keeps two threads equally busy.
        number = min(2 * -(-len(ordered) // (2 * most)), len(ordered))
        return [list(chunk) for chunk in np.array_split(np.array(ordered, dtype=object), number)]

    def _numbers(
        self, training: LocalTraining, layers: Sequence[Layer], num_examples: int, second_order: bool
    ) -> int:
        """About how many numbers the stack of one client holds, including activations."""
        x = torch.from_numpy(np.array(training.data.x[:1])).to(training.device)[None]
        params = {name: tensor[None] for name, tensor in training.params.items()}
        x = x.to(next(iter(params.values())).dtype) if x.is_floating_point() else x
        features = activations = x.numel()
        with torch.no_grad():
            for layer in layers:
                x = layer.rule.forward(layer.module, layer.own(params), x, None)
                activations += x.numel()
        batch = min(training.work.batch_size or num_examples, num_examples)
        parameters, examples = training.model.num_parameters, num_examples * features
        used = (
            batch * training.work.steps if training.work.steps else num_examples * (training.work.epochs or 0)
        )
        dual_allowed = allows_dual_layer(training, layers, second_order)
        dual = index_of_dual_layer(layers, features, num_examples, used) if dual_allowed else None
        if dual is not None:
            units, width = cast(Tensor, layers[dual].module.weight).shape
            rows = rounded(num_examples + 1)
            parameters += units * (rows - width)
            examples = rows * (features + rows + units)
        # Parameters, directions and momentum; the second order adds the trajectory and its backward walk.
        copies = 3 + (6 + (training.work.steps or 0)) * second_order
        return examples + copies * parameters + 3 * batch * activations
