"""The batches of clients side by side: which clients share one, its padding, and its loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fl_meta.data.federated import PADDING
from fl_meta.engines.stacked.rule import Draws


def divide_among_threads(products: int, threads: int) -> None:
    """Give each thread whole matrix products, so that the result does not depend on the number of threads."""
    torch.set_num_threads(min(threads, products))


def segments(sizes: Sequence[int], limit: float) -> Iterator[tuple[int, int]]:
    """Divide a sequence of batch sizes into runs [first, last) that share a stack.

    Smaller batches of a run are padded to its largest; at most the share `limit` of a run is padding.
    """
    if sizes and min(sizes) == max(sizes):  # the usual case
        yield 0, len(sizes)
        return
    first = largest = total = 0
    for index, size in enumerate(sizes):
        places = (index - first + 1) * max(largest, size)
        if places - total - size > limit * places:
            yield first, index
            first, largest, total = index, 0, 0
        largest, total = max(largest, size), total + size
    if sizes:
        yield first, len(sizes)


@dataclass(frozen=True)
class StackBatch:
    """The batches of some clients, side by side.

    Attributes:
        x: inputs [clients, size, ...]; for a dual layer, row numbers of the examples [clients · size].
        y: labels [clients, predictions], `PADDING` where there is none.
        share: the weight of each prediction in its client's mean loss [clients, predictions]; a number if all
            are equal.
        draws: the generators of the dropout masks.
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
        """The gradient of each client's mean loss with respect to the logits: (softmax − one-hot) · share."""
        d = torch.softmax(logits, -1)
        # Where there is no label, the share is zero.
        labels = self.y if isinstance(self.share, float) else self.y.clamp(min=0)
        d.view(-1, d.shape[-1]).scatter_(1, labels.view(-1, 1), -1.0, reduce="add")
        return d.mul_(self._share_like(logits))

    def loss_gradient_and_tangent(self, logits: Tensor, logits_tangent: Tensor) -> tuple[Tensor, Tensor]:
        """`loss_gradient`, and its derivative when the logits move along `logits_tangent`."""
        probabilities = torch.softmax(logits, -1)
        change = probabilities * logits_tangent
        change = change - probabilities * change.sum(-1, keepdim=True)
        return self.loss_gradient(logits), change * self._share_like(logits)

    def _share_like(self, logits: Tensor) -> Tensor | float:
        return self.share if isinstance(self.share, float) else self.share.view(*logits.shape[:-1], 1)
