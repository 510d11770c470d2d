"""The readable engine: one client after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from fl_meta.algorithms.table import Algorithm
from fl_meta.engines.interface import Collected, Score
from fl_meta.engines.local_training import LocalTraining, client_update_in, last_steps
from fl_meta.models.parameters import add, flatten
from fl_meta.support.error_notes import noting


class LoopEngine:
    """Runs one client after the other; the oracle for every faster engine.

    Example:
        >>> run = fl_meta.train(model, data, stages, engine=LoopEngine())
    """

    def collect(
        self, training: LocalTraining, client_ids: Sequence[str], algorithm: Algorithm
    ) -> Iterator[Collected]:
        """See `Engine`."""
        for client_id in client_ids:
            update = client_update_in(training, client_id, algorithm)
            sent = {name: tensor[None] for name, tensor in update.gradient.items()}
            weights, losses = (
                next(iter(sent.values())).new_tensor([number])
                for number in (algorithm.weight(update.num_examples), update.loss_before)
            )
            buffer = None if update.momentum is None else {client_id: flatten(update.momentum)}
            yield Collected.of(sent, weights, losses, local_gradients=update.num_steps, momentum=buffer)

    def scores(self, training: LocalTraining, client_ids: Sequence[str], every: int = 1) -> Iterator[Score]:
        """See `Engine`."""
        for client_id in client_ids:
            examples = training.data[client_id]
            x, y = (
                torch.from_numpy(array).to(training.device) for array in (examples.test_x, examples.test_y)
            )
            with noting(f"in scoring client {client_id!r} before adaptation"):
                score = training.model.score(training.params, x, y)
            yield Score(client_id, 0, *score)
            epochs, rate = training.work.epochs, training.work.client.learning_rate
            for epoch, step in enumerate(last_steps(training, client_id), start=1):
                if epoch % every and epoch != epochs:
                    continue
                params = add(step.params, step.direction, -rate)
                keeps = training.momentum is not None and epoch == epochs
                buffer = flatten(step.direction) if keeps else None
                with noting(f"in scoring client {client_id!r} after epoch {epoch}"):
                    score = training.model.score(params, x, y)
                yield Score(client_id, epoch, *score, buffer)
