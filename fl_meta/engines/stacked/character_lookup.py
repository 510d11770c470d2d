"""One rule for the start of a character model: an embedding, windows over it and a linear layer.

There are few characters and many positions. So the rule first computes what each character adds to the
outputs from each offset in the window (embedding · weights, `contributions`). A position then only adds up
`context` rows of that matrix and multiplies nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fl_meta.engines.stacked.layer_rules import check_codes, embedding_rows
from fl_meta.engines.stacked.rule import Draws, LayerRule, Tangents
from fl_meta.models.parameters import Params

LOOKUP_CODES = 256  # with more codes, such as words, most contributions would never be read


def _by_offset(weight: Tensor, features: int) -> Tensor:
    """The weights [clients, units, features · context] as [clients, features, context · units]."""
    clients, units, _ = weight.shape
    return weight.view(clients, units, features, -1).permute(0, 2, 3, 1).reshape(clients, features, -1)


def _lookup_rows(params: Params, x: Tensor) -> tuple[Tensor, int]:
    """The `context` rows of the contributions that each position adds up, and how many rows there are."""
    embedding = params["embedding"]
    context = params["weight"].shape[2] // embedding.shape[2]
    rows = embedding_rows(x, embedding).unfold(2, context, 1) * context
    rows = rows + torch.arange(context, device=x.device)
    return rows.reshape(-1, context), embedding[..., 0].numel() * context


def _lookup(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    embedding, weight = params["embedding"], params["weight"]
    check_codes(x, embedding.shape[1])
    rows, _ = _lookup_rows(params, x)
    contributions = torch.bmm(embedding, _by_offset(weight, embedding.shape[2]))
    if "bias" in params:  # each position adds up exactly one row of the window's first offset
        contributions[..., : weight.shape[1]].add_(params["bias"].unsqueeze(1))
    contributions = contributions.view(-1, weight.shape[1])
    if torch.is_grad_enabled():  # embedding_bag has no second derivative
        y = nn.functional.embedding(rows, contributions).sum(1)
    else:
        y = nn.functional.embedding_bag(rows, contributions, mode="sum")
    return y.view(*x.shape[:2], -1, weight.shape[1])


def _contributions_gradient(params: Params, x: Tensor, d: Tensor) -> Tensor:
    """The gradient of the contributions [clients, codes, context · units], given that of the outputs."""
    rows, number = _lookup_rows(params, x)
    context, rows = rows.shape[1], rows.flatten()
    # Each row's gradient is a sum over the positions that read it. Short integers are sorted faster.
    dtype = torch.int16 if number < 2**15 else torch.int64
    order = torch.sort(rows.to(dtype), stable=True).indices
    ends = torch.bincount(rows, minlength=number).cumsum(0)
    starts = nn.functional.pad(ends[:-1], (1, 0))
    positions = torch.div(order, context, rounding_mode="floor")
    total = nn.functional.embedding_bag(positions, d.reshape(-1, d.shape[-1]), starts, mode="sum")
    return total.view(*params["embedding"].shape[:2], -1)


def _add_to_factors(params: Params, contributions: Tensor, gradients: Params) -> None:
    """Add to the gradients of embedding and weights, given that of their product."""
    embedding, weight = params["embedding"], params["weight"]
    features = embedding.shape[2]
    gradients["embedding"].baddbmm_(contributions, _by_offset(weight, features).mT)
    by_offset = torch.bmm(embedding.mT, contributions).view(len(weight), features, -1, weight.shape[1])
    gradients["weight"].add_(by_offset.permute(0, 3, 1, 2).reshape(weight.shape))


def _lookup_backward(
    module: nn.Module,
    params: Params,
    x: Tensor,
    y: Tensor,
    d: Tensor,
    gradients: Params,
    needs_input_grad: bool,
) -> None:
    contributions = _contributions_gradient(params, x, d)
    _add_to_factors(params, contributions, gradients)
    if "bias" in params:
        gradients["bias"].add_(contributions[..., : d.shape[-1]].sum(1))


def _lookup_push(
    module: nn.Module, params: Params, vector: Params, x: Tensor, x_tangent: Tensor | None, y: Tensor
) -> Tensor:
    # The product rule: first the weights and bias move, then the embedding.
    y_tangent = _lookup(module, vector | {"embedding": params["embedding"]}, x, None)
    embedding_moves = {"embedding": vector["embedding"], "weight": params["weight"]}
    return y_tangent.add_(_lookup(module, embedding_moves, x, None))


def _lookup_pull(
    module: nn.Module,
    params: Params,
    vector: Params,
    at: Tangents,
    d: Tensor,
    d_tangent: Tensor,
    product: Params,
    needs_input_grad: bool,
) -> None:
    _lookup_backward(module, params, at.x, at.y, d_tangent, product, needs_input_grad)
    _add_to_factors(vector, _contributions_gradient(params, at.x, d), product)


# Its parameters are "embedding" [clients, codes, features] and the linear layer's "weight" and "bias".
LOOKUP = LayerRule(_lookup, _lookup_backward, _lookup_push, _lookup_pull)
