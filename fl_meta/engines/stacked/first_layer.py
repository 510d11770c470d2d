"""The two forms of a stack's first layer: plain, or dual if that is less work.

Both classes have the same attributes and methods, so a `Stack` need not know which it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fl_meta.engines.interface import weighted_sum
from fl_meta.engines.stacked.batch import divide_among_threads
from fl_meta.engines.stacked.dual_layer import DUAL, gram_and_outputs, num_pieces, summed_weights
from fl_meta.engines.stacked.layers import Layer
from fl_meta.models.parameters import Params


class PlainFirstLayer:
    """The first layer has the model's own parameters, like every other layer.

    Args:
        layers: the model's layers.
        params: the global parameters.
        examples: each client's examples [clients, n, ...], padded to equal n.

    Attributes:
        layers: those that passes over the stack run through.
        start: θ_0, under the names and with the shapes that a client's parameters have in the stack.
        coordinates: names of the parameters that are coordinates, and so equal the sum of directions.
        precomputed: further tensors [clients, ...] that the layers read.
    """

    def __init__(self, layers: Sequence[Layer], params: Params, examples: Tensor) -> None:
        self.layers, self.start = layers, dict(params)
        self.coordinates, self.precomputed = frozenset[str](), Params()
        self._examples = examples.flatten(0, 1)

    def inputs(self, rows: Tensor, first: int, num_clients: int) -> Tensor:
        """The layers' inputs for a batch of clients, given its examples' row numbers in the stack."""
        size = len(rows) // num_clients
        return self._examples.index_select(0, rows).view(num_clients, size, *self._examples.shape[1:])

    def add_up(self, weights: Tensor, sent: Params) -> Params:
        """The weighted sum over clients of what they send, as tensors of the model."""
        return weighted_sum(weights, sent)

    def tangent(self, vector: Params) -> Params:
        """The direction of the stack's parameters when the model's move along a gradient-like vector."""
        return vector

    def model_params(self, params: Params, first: int, last: int) -> Params:
        """The parameters of clients [first, last) as tensors of the model."""
        return {name: tensor[first:last] for name, tensor in params.items()}


class DualFirstLayer:
    """The first linear layer's weight and bias are coordinates of the examples; see `dual_layer`.

    The coordinates are kept under the weight's name; the bias has no name in the stack.

    Args:
        layers: the model's layers.
        index: the linear layer's index in `layers`.
        params: the global parameters.
        examples: each client's examples [clients, n, ...], padded to equal n.
        learning_rate: the clients' β.
        threads: the most threads that one operation may use.

    Attributes: those of `PlainFirstLayer`.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        index: int,
        params: Params,
        examples: Tensor,
        learning_rate: float,
        threads: int,
    ) -> None:
        names = layers[index].names
        self._weight, self._bias = names["weight"], names.get("bias")
        self._params, self._learning_rate, self._threads = params, learning_rate, threads
        self._examples = examples.flatten(2)
        self.start = dict(params)
        weight, bias = params[self._weight], self.start.pop(self._bias) if self._bias else None
        divide_among_threads(len(examples), threads)
        self.precomputed = gram_and_outputs(self._examples, weight, bias, learning_rate)
        self.start[self._weight] = weight.new_zeros(examples.shape[1], len(weight))
        self.coordinates = frozenset([self._weight])
        names = {"weight": self._weight} | {name: name for name in self.precomputed}
        self.layers = [replace(layers[index], rule=DUAL, names=names), *layers[index + 1 :]]

    def inputs(self, rows: Tensor, first: int, num_clients: int) -> Tensor:
        """The row numbers themselves, counted from the batch's first client."""
        return rows - first * self._examples.shape[1]

    def add_up(self, weights: Tensor, sent: Params) -> Params:
        """See `PlainFirstLayer`."""
        total = weighted_sum(weights, {name: t for name, t in sent.items() if name != self._weight})
        examples = self._examples
        if not weights.all():
            # The examples of a client that is left out may not be finite, and 0 · NaN is NaN.
            examples = examples.where((weights != 0)[:, None, None], 0)
        coordinates = sent[self._weight] * weights[:, None, None]
        pieces = num_pieces(examples.shape[2])
        divide_among_threads(pieces, self._threads)
        total[self._weight] = summed_weights(coordinates, examples, pieces)
        if self._bias:
            total[self._bias] = coordinates.sum((0, 1))
        return total

    def tangent(self, vector: Params) -> Params:
        """See `PlainFirstLayer`. Where coordinates move by C, the weights move by −βCᵀX."""
        return vector | {self._weight: vector[self._weight] / -self._learning_rate}

    def model_params(self, params: Params, first: int, last: int) -> Params:
        """See `PlainFirstLayer`: W_0 − βCᵀX, and the bias."""
        clients = {name: tensor[first:last] for name, tensor in params.items()}
        coordinates, rate = clients[self._weight], self._learning_rate
        divide_among_threads(len(coordinates), self._threads)
        added = torch.bmm(coordinates.mT, self._examples[first:last])
        clients[self._weight] = torch.add(self._params[self._weight], added, alpha=-rate)
        if self._bias:
            clients[self._bias] = torch.add(self._params[self._bias], coordinates.sum(1), alpha=-rate)
        return clients
