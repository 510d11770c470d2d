"""What every engine does: collect what clients send, and score clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from fl_meta.algorithms.table import Algorithm
from fl_meta.engines.local_training import LocalTraining
from fl_meta.models.parameters import Params, flatten


def weighted_sum(weights: Tensor, sent: Params) -> Params:
    """The sum over clients of what they send [clients, ...], each times its weight."""
    return {name: torch.tensordot(weights, tensor, 1) for name, tensor in sent.items()}


def flat_weighted_sum(weights: Tensor, sent: Params) -> Tensor:
    """`weighted_sum` as one vector [num_parameters]."""
    return flatten(weighted_sum(weights, sent))


@dataclass(frozen=True)
class Collected:
    """What some clients of a round send home, added up; every field is a sum over them.

    Attributes:
        gradient: what they send, each times the client's weight, flat [num_parameters].
        weight: of the clients in `gradient`.
        loss_before: of the same clients, the first batch's mean loss times the weight, in nats.
        left_out: number of clients that sent NaN or infinity.
        local_gradients: number of gradients that all these clients evaluated.
        places: number of places for examples in the stacks of an engine that has stacks.
        padding: how many of those places were empty, and computed for nothing.
        momentum: the last buffers of the clients in `gradient`, flat [num_parameters] by client, if training
            keeps momentum.
    """

    gradient: Tensor
    weight: float
    loss_before: float
    left_out: int
    local_gradients: int
    places: int = 0
    padding: int = 0
    momentum: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        sent: Params,
        weights: Tensor,
        losses: Tensor,
        *,
        local_gradients: int,
        places: int = 0,
        padding: int = 0,
        add_up: Callable[[Tensor, Params], Tensor] = flat_weighted_sum,
        momentum: Mapping[str, Tensor] | None = None,
    ) -> Collected:
        """Add up what clients send, without those that send NaN or infinity.

        Args:
            sent: one row per client in each tensor [clients, ...].
            weights: of the clients [clients].
            losses: of their first batches [clients], in nats.
            local_gradients, places, padding: as in the class.
            add_up: makes the weighted sum [num_parameters] of the rows.
            momentum: of all clients, in the order of the rows, if training keeps momentum.
        """
        left_out, buffers, gradient = 0, momentum or {}, add_up(weights, sent)
        # A sum of finite numbers may overflow, but one with NaN or infinity in it is never finite.
        if not math.isfinite(gradient.sum()):
            rows = [tensor.reshape(len(tensor), -1) for tensor in sent.values()]
            finite = torch.stack([torch.isfinite(row).all(1) for row in rows]).all(0)
            good = [
                row.where(finite[:, None], 0).view_as(tensor)
                for row, tensor in zip(rows, sent.values(), strict=True)
            ]
            weights, losses = weights.where(finite, 0), losses.where(finite, 0)
            gradient = add_up(weights, dict(zip(sent, good, strict=True)))
            left_out = int((~finite).sum())
            buffers = {
                client_id: buffers[client_id]
                for client_id, is_finite in zip(buffers, finite, strict=False)
                if is_finite
            }
        weight, loss = float(weights.sum()), float(weights @ losses)
        return cls(gradient, weight, loss, left_out, local_gradients, places, padding, buffers)


@dataclass(frozen=True)
class Score:
    """A client's test part under its parameters after `epoch` epochs of adaptation.

    Attributes:
        client_id: whose it is.
        epoch: 0 is the initial model.
        loss: summed over predictions, in nats.
        correct: number of correct predictions.
        predictions: number of predictions.
        momentum: the client's buffer after the last epoch, flat [num_parameters], if training keeps momentum.
    """

    client_id: str
    epoch: int
    loss: float
    correct: int
    predictions: int
    momentum: Tensor | None = None


class Engine(Protocol):
    """Runs the local loop for many clients; every engine gives the same numbers, some sooner."""

    def collect(
        self, training: LocalTraining, client_ids: Sequence[str], algorithm: Algorithm
    ) -> Iterator[Collected]:
        """What the clients send in this round, in as many parts as the engine likes."""

    def scores(self, training: LocalTraining, client_ids: Sequence[str], every: int = 1) -> Iterator[Score]:
        """Scores of every client at epochs 0, `every`, 2·`every`, … and the last one, in any order."""
