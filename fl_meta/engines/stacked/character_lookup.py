"""The rule of an embedding that is followed by windows and a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fl_meta.engines.stacked.rule import Draws, Moving, Rule, _in_one_table
from fl_meta.models.parameters import Params


def _wide(weight: Tensor, features: int) -> Tensor:
    """A linear layer's weights [C, units, features · context] as [C, features, context · units]."""
    clients, units, _ = weight.shape
    return weight.view(clients, units, features, -1).permute(0, 2, 3, 1).reshape(clients, features, -1)


def _lookup_rows(params: Params, x: Tensor) -> tuple[Tensor, int]:
    """For each position the `context` rows of the clients' tables that it adds up, and the number of rows."""
    context = params["weight"].shape[2] // params["table"].shape[2]
    rows = _in_one_table(x, params["table"]).unfold(2, context, 1) * context
    rows = rows + torch.arange(context, device=x.device)
    return rows.reshape(-1, context), params["table"][..., 0].numel() * context


def _lookup(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    embedding, weight = params["table"], params["weight"]
    rows, _ = _lookup_rows(params, x)
    table = torch.bmm(embedding, _wide(weight, embedding.shape[2]))
    if "bias" in params:  # every position adds up one row of the first place in the window
        table[..., : weight.shape[1]].add_(params["bias"].unsqueeze(1))
    table = table.view(-1, weight.shape[1])
    if torch.is_grad_enabled():  # embedding_bag has no second derivative
        y = nn.functional.embedding(rows, table).sum(1)
    else:
        y = nn.functional.embedding_bag(rows, table, mode="sum")
    return y.view(*x.shape[:2], -1, weight.shape[1])


def _table_gradient(params: Params, x: Tensor, d: Tensor) -> Tensor:
    """Gradient of the clients' tables [C, codes, context · units], given that of the outputs."""
    rows, number = _lookup_rows(params, x)
    context, rows = rows.shape[1], rows.flatten()
    # Each row is the sum of a bag of positions. Short numbers are sorted faster.
    kind = torch.int16 if number < 2**15 else torch.int64
    order = torch.sort(rows.to(kind), stable=True).indices
    ends = torch.bincount(rows, minlength=number).cumsum(0)
    starts = nn.functional.pad(ends[:-1], (1, 0))
    positions = torch.div(order, context, rounding_mode="floor")
    total = nn.functional.embedding_bag(positions, d.reshape(-1, d.shape[-1]), starts, mode="sum")
    return total.view(*params["table"].shape[:2], -1)


def _add_factors(params: Params, table: Tensor, into: Params) -> None:
    """Pass a gradient of table = embedding · wide weights on to the two."""
    embedding, weight = params["table"], params["weight"]
    into["table"].baddbmm_(table, _wide(weight, embedding.shape[2]).mT)
    wide = torch.bmm(embedding.mT, table).view(len(table), embedding.shape[2], -1, weight.shape[1])
    into["weight"].add_(wide.permute(0, 3, 1, 2).reshape(weight.shape))


def _lookup_backward(
    module: nn.Module, params: Params, x: Tensor, y: Tensor, d: Tensor, gradients: Params, wanted: bool
) -> None:
    table = _table_gradient(params, x, d)
    _add_factors(params, table, gradients)
    if "bias" in params:
        gradients["bias"].add_(table[..., : d.shape[-1]].sum(1))


def _lookup_push(
    module: nn.Module, params: Params, vector: Params, x: Tensor, moved: Tensor | None, y: Tensor
) -> Tensor:
    y_moved = _lookup(module, vector | {"table": params["table"]}, x, None)
    still = {"table": vector["table"], "weight": params["weight"]}
    return y_moved.add_(_lookup(module, still, x, None))


def _lookup_pull(
    module: nn.Module,
    params: Params,
    vector: Params,
    at: Moving,
    d: Tensor,
    d_moved: Tensor,
    product: Params,
    wanted: bool,
) -> None:
    _lookup_backward(module, params, at.x, at.y, d_moved, product, wanted)
    _add_factors(vector, _table_gradient(params, at.x, d), product)


# An embedding of characters, windows over it and a linear layer, as one: what a character adds to the outputs
# from each place in the window is kept in a table, so that a position adds up `context` rows and multiplies
# nothing. Characters are few and positions many.
LOOKUP = Rule(_lookup, _lookup_backward, _lookup_push, _lookup_pull)
LOOKUP_CODES = 256  # with more codes, such as words, most rows of a table would never be read
