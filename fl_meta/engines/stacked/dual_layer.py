"""A first linear layer in coordinates of a client's own examples.

The gradient of a linear layer that reads the examples themselves is dᵀx: a combination of examples. So local
SGD from W_0 never leaves W_0 − βCᵀX, where X [n, features] are the client's examples and C [n, units] the sum
of what came back to each. With the Gram matrix G = XXᵀ and Z = XW_0ᵀ, both known before the first step, the
layer gives Z_i − βG_i C for example i, and a step adds the d of its batch to rows of C. Nothing of the size
of W is touched before the end. A bias is the weight of one more feature, which is 1 in every example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fl_meta.engines.stacked.layer_rules import RULES
from fl_meta.engines.stacked.layers import Layer
from fl_meta.engines.stacked.rule import Draws, Rule
from fl_meta.models.parameters import Params


def place_of_dual_layer(
    layers: Sequence[Layer], num_features: int, num_examples: int, num_used: int
) -> int | None:
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


def tables(examples: Tensor, weight: Tensor, bias: Tensor | None, learning_rate: float) -> Params:
    """For each example [clients, n] its row of −βG, "gram" [n], and of Z, "outputs" [units]."""
    # The matrix is symmetric: one of its four parts is copied.
    upper, lower = torch.tensor_split(examples, [rounded(examples.shape[1] // 2)], 1)
    above, below = torch.bmm(upper, examples.mT), torch.bmm(lower, lower.mT)
    gram = torch.cat([above, torch.cat([above[:, :, upper.shape[1] :].mT, below], 2)], 1)
    units = len(weight)
    wide = nn.functional.pad(weight, (0, 0, 0, rounded(units) - units)).t()
    outputs = torch.bmm(examples, wide.expand(len(examples), -1, -1))[..., :units]
    if bias is not None:
        gram.add_(1)
        outputs.add_(bias)
    return {"gram": gram.mul_(-learning_rate), "outputs": outputs}


def rounded(number: int) -> int:
    """The next number of rows or columns with which matrix products are fast."""
    return -(-number // 8) * 8


def pieces_of(features: int) -> int:
    """In how many equal pieces, up to four, `without_coordinates` can compute its sum."""
    return max(pieces for pieces in range(1, 5) if features % pieces == 0)


def without_coordinates(coordinates: Tensor, examples: Tensor, pieces: int) -> Tensor:
    """Σ CᵀX over clients [units, features], of C [clients, n, units] and X [clients, n, features]."""
    left = coordinates.flatten(0, 1).t()
    right = examples.view(-1, pieces, examples.shape[2] // pieces).transpose(0, 1)
    return torch.bmm(left.expand(pieces, *left.shape), right).transpose(0, 1).flatten(1)


def _rows(table: Tensor, x: Tensor) -> Tensor:
    return table.flatten(0, 1).index_select(0, x).view(len(table), -1, table.shape[2])


def _forward(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    return _rows(params["outputs"], x).baddbmm_(_rows(params["gram"], x), params["weight"])


def _backward(
    module: nn.Module, params: Params, x: Tensor, y: Tensor, d: Tensor, gradients: Params, wanted: bool
) -> None:
    gradients["weight"].view(-1, d.shape[2]).index_add_(0, x, d.flatten(0, 1))


def _push(
    module: nn.Module, params: Params, vector: Params, x: Tensor, moved: Tensor | None, y: Tensor
) -> Tensor:
    return torch.bmm(_rows(params["gram"], x), vector["weight"])


# "weight" are the coordinates C [clients, n, units], also of the bias; "gram" and "outputs" are `tables`. The
# inputs [clients · batch] say in which of their rows an example is, one client's below the other's. The
# output is linear in C, so that a Hessian-vector product takes the backward pass for the gradient's change.
DUAL = Rule(
    _forward,
    _backward,
    _push,
    lambda module, params, vector, at, d, d_moved, product, wanted: _backward(
        module, params, at.x, at.y, d_moved, product, wanted
    ),
)
