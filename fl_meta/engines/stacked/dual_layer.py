"""A first linear layer in its dual form: in coordinates of a client's own examples.

The gradient of a linear layer that reads the examples themselves is dᵀx: a combination of examples. So local
SGD from W_0 never leaves W_0 − βCᵀX, where X [n, features] are the client's examples and row i of C [n,
units] is the sum of all gradients d that came back to example i. With the Gram matrix G = XXᵀ and the initial
outputs Z = XW_0ᵀ, both known before the first step, the layer's output for example i is Z_i − βG_i C, and a
step adds the d of its batch to rows of C. Nothing of the size of W is touched before the last step is done. A
bias is the weight of one more feature, which is 1 in every example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fl_meta.engines.stacked.layer_rules import RULES
from fl_meta.engines.stacked.layers import Layer
from fl_meta.engines.stacked.rule import Draws, LayerRule
from fl_meta.models.parameters import Params


def index_of_dual_layer(
    layers: Sequence[Layer], num_features: int, num_examples: int, num_used: int
) -> int | None:
    """The index of a linear layer that reads the examples themselves, if the dual form is faster there.

    It is faster if G, Z, CᵀX and the steps in coordinates need fewer multiplications than plain steps. Those
    of plain steps count double: they are many small products with a matrix that is read and written each
    time. `num_used` counts the examples in all batches of a client together. Only flattening may come before
    the layer, and one that reads fewer than `num_features` is applied to the rows of an example.
    """
    for index, layer in enumerate(layers):
        if layer.rule is RULES[nn.Linear]:
            units, features = cast(Tensor, layer.module.weight).shape
            if features != num_features:
                return None
            once = num_examples * features * (num_examples + 2 * units)
            steps = 2 * num_used * num_examples * units
            return index if once + steps < 2 * (2 * num_used * features * units) else None
        if layer.rule is not RULES[nn.Flatten]:
            return None
    return None


def gram_and_outputs(examples: Tensor, weight: Tensor, bias: Tensor | None, learning_rate: float) -> Params:
    """−βG as "gram" [clients, n, n] and Z as "outputs" [clients, n, units]."""
    # G is symmetric: one of its four blocks is copied instead of computed.
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
    """The next larger number of rows or columns with which matrix products are fast."""
    return -(-number // 8) * 8


def num_pieces(features: int) -> int:
    """Into how many equal pieces, at most four, `summed_weights` can divide its product."""
    return max(pieces for pieces in range(1, 5) if features % pieces == 0)


def summed_weights(coordinates: Tensor, examples: Tensor, pieces: int) -> Tensor:
    """Σ CᵀX over clients [units, features], of C [clients, n, units] and X [clients, n, features]."""
    left = coordinates.flatten(0, 1).t()
    right = examples.view(-1, pieces, examples.shape[2] // pieces).transpose(0, 1)
    return torch.bmm(left.expand(pieces, *left.shape), right).transpose(0, 1).flatten(1)


def _select_rows(matrices: Tensor, rows: Tensor) -> Tensor:
    """Rows of matrices [clients, n, width], one client's below the other's, as [clients, batch, width]."""
    return matrices.flatten(0, 1).index_select(0, rows).view(len(matrices), -1, matrices.shape[2])


def _forward(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    return _select_rows(params["outputs"], x).baddbmm_(_select_rows(params["gram"], x), params["weight"])


def _backward(
    module: nn.Module,
    params: Params,
    x: Tensor,
    y: Tensor,
    d: Tensor,
    gradients: Params,
    needs_input_grad: bool,
) -> None:
    gradients["weight"].view(-1, d.shape[2]).index_add_(0, x, d.flatten(0, 1))


def _push(
    module: nn.Module, params: Params, vector: Params, x: Tensor, x_tangent: Tensor | None, y: Tensor
) -> Tensor:
    return torch.bmm(_select_rows(params["gram"], x), vector["weight"])


# Its parameter "weight" is C [clients, n, units], which also stands for the bias; "gram" and "outputs" come
# from `gram_and_outputs`. Its inputs x [clients · batch] are row numbers of the examples, one client's below
# the other's. The outputs are linear in C, so `pull` is `backward` of the gradient's derivative.
DUAL = LayerRule(
    _forward,
    _backward,
    _push,
    lambda module, params, vector, at, d, d_tangent, product, needs_input_grad: _backward(
        module, params, at.x, at.y, d_tangent, product, needs_input_grad
    ),
)
