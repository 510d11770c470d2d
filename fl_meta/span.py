"""A first linear layer in coordinates of a client's own examples.

The gradient of a linear layer that reads the examples themselves is dᵀx: a combination of examples. So local
SGD from W_0 never leaves W_0 + CᵀX, where X [n, features] are the client's examples and C [n, units] says how
much of each was added. With the Gram matrix G = XXᵀ and Z = XW_0ᵀ, both known before the first step,
the layer gives Z_i + G_i C for example i, and a step adds to rows of C what it would have added to W. Nothing
of the size of W is touched before the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fl_meta.layers import Layer
from fl_meta.params import Params
from fl_meta.rules import RULES, Draws, Rule


def place_in_span(layers: Sequence[Layer], num_features: int, num_examples: int, num_used: int) -> int | None:
    """The place of a linear layer that reads the examples as they are, if coordinates pay off there.

    They do if G, Z, CᵀX and the steps in coordinates need fewer multiplications than plain steps. A plain
    step's count double: they are many small products with a matrix that is read and written each time.

    Args:
        layers: of the model; before the linear layer the examples may be flattened and nothing else.
        num_features: numbers in an example; a linear layer that reads fewer reads its rows, one by one.
        num_examples: n, of one client.
        num_used: examples in all its batches together, so n times the number of epochs.
    """
    for place, layer in enumerate(layers):
        if layer.rule is RULES[nn.Linear]:
            units, features = cast(Tensor, layer.module.weight).shape
            if features != num_features:
                return None
            once = num_examples * features * (num_examples + 2 * units)
            steps = 2 * num_used * num_examples * units
            return place if once + steps < 2 * (2 * num_used * features * units) else None
        if layer.rule is not RULES[nn.Flatten]:
            return None
    return None


def table(examples: Tensor, weight: Tensor) -> Tensor:
    """For each example [G_i, its place among the n as one-hot, Z_i]: [clients, n, 2n + units]."""
    gram = torch.bmm(examples, examples.transpose(1, 2))
    outputs = torch.mm(examples.flatten(0, 1), weight.t()).view(*examples.shape[:2], -1)
    places = torch.eye(examples.shape[1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    return torch.cat([gram, places, outputs], 2)


def _forward(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    n = params["weight"].shape[1]
    y = torch.baddbmm(x[..., 2 * n :], x[..., :n], params["weight"])
    return y.add_(params["bias"][:, None]) if "bias" in params else y


def _backward(
    module: nn.Module, params: Params, x: Tensor, y: Tensor, d: Tensor, gradients: Params, wanted: bool
) -> None:
    n = params["weight"].shape[1]
    gradients["weight"].baddbmm_(x[..., n : 2 * n].transpose(1, 2), d)
    if "bias" in params:
        gradients["bias"].add_(d.sum(1))


def _push(
    module: nn.Module, params: Params, vector: Params, x: Tensor, moved: Tensor | None, y: Tensor
) -> Tensor:
    n = params["weight"].shape[1]
    bias = vector["bias"][:, None] if "bias" in params else x.new_zeros(())
    return torch.baddbmm(bias, x[..., :n], vector["weight"])


# "weight" are the coordinates C [clients, n, units]; the inputs are rows of `table`. The output is linear in
# C, so that a Hessian-vector product takes the backward pass for the change of the gradient.
IN_SPAN = Rule(
    _forward,
    _backward,
    _push,
    lambda module, params, vector, at, d, d_moved, product, wanted: _backward(
        module, params, at.x, at.y, d_moved, product, wanted
    ),
)
