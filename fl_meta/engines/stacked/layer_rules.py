"""What each kind of layer does for several clients at once: forwards, and by hand backwards.

A *stack* holds the parameters of C clients along a leading axis, and their batches as [C, batch, ...]. A
linear layer then is one batched matrix product, and its gradient is added where it is wanted without a copy.
A layer that has no rule here is run by PyTorch: for one client as it is, for several through `torch.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.models.model import Blanks, Windows
from fl_meta.models.parameters import Params

# For each client its generator of dropout masks and the size of its batch; None evaluates without dropout.
Draws = Sequence[tuple[torch.Generator, int]] | None


class Moving(NamedTuple):
    """A layer's inputs and outputs, and their change along a direction; None where nothing moves."""

    x: Tensor
    x_moved: Tensor | None
    y: Tensor
    y_moved: Tensor | None


@dataclass(frozen=True)
class Rule:
    """How a kind of layer runs on a stack.

    Attributes:
        forward: (module, params, inputs, draws) to outputs, made of differentiable operations.
        backward: (module, params, inputs, outputs, gradient of the outputs, gradients, wanted): adds to the
            parameters' `gradients` and returns the gradient of the inputs if it is `wanted`; None leaves this
            layer, and it alone, to autograd.
        push: (module, params, vector, inputs, change of the inputs, outputs) to the change of the outputs
            when the parameters move along `vector`; where nothing moved before, the inputs' change is None.
        pull: like backward, for the change of the gradients: (module, params, vector, `Moving`, gradient of
            the outputs, its change, product, wanted) to the gradient of the inputs and its change. With
            `push` it makes Hessian-vector products (Pearlmutter 1994).
    """

    forward: Callable[[nn.Module, Params, Tensor, Draws], Tensor]
    backward: Callable[[nn.Module, Params, Tensor, Tensor, Tensor, Params, bool], Tensor | None] | None = None
    push: Callable[[nn.Module, Params, Params, Tensor, Tensor | None, Tensor], Tensor | None] | None = None
    pull: (
        Callable[
            [nn.Module, Params, Params, Moving, Tensor, Tensor, Params, bool], tuple[Tensor, Tensor] | None
        ]
        | None
    ) = None


# Every operation has its price, also one that only makes a view.
def _rows(x: Tensor) -> Tensor:
    return x if x.ndim == 3 else x.flatten(1, -2)


def _linear(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    y = torch.bmm(_rows(x), params["weight"].mT)
    if "bias" in params:  # torch.baddbmm with a bias for all rows takes half as long again
        y.add_(params["bias"].unsqueeze(1))
    return y if x.ndim == 3 else y.view(*x.shape[:-1], -1)


def _linear_backward(
    module: nn.Module, params: Params, x: Tensor, y: Tensor, d: Tensor, gradients: Params, wanted: bool
) -> Tensor | None:
    d = _rows(d)
    gradients["weight"].baddbmm_(d.mT, _rows(x))
    if "bias" in params:
        gradients["bias"].add_(d.sum(1))
    if not wanted:
        return None
    return torch.bmm(d, params["weight"]) if x.ndim == 3 else torch.bmm(d, params["weight"]).view(x.shape)


def _linear_push(
    module: nn.Module, params: Params, vector: Params, x: Tensor, moved: Tensor | None, y: Tensor
) -> Tensor:
    change = _linear(module, vector, x, None)
    if moved is not None:
        _rows(change).baddbmm_(_rows(moved), params["weight"].mT)
    return change


def _linear_pull(
    module: nn.Module,
    params: Params,
    vector: Params,
    at: Moving,
    d: Tensor,
    d_moved: Tensor,
    product: Params,
    wanted: bool,
) -> tuple[Tensor, Tensor] | None:
    d, d_moved = _rows(d), _rows(d_moved)
    product["weight"].baddbmm_(d_moved.mT, _rows(at.x))
    if at.x_moved is not None:
        product["weight"].baddbmm_(d.mT, _rows(at.x_moved))
    if "bias" in params:
        product["bias"].add_(d_moved.sum(1))
    if not wanted:
        return None
    pulled = torch.bmm(d_moved, params["weight"]).baddbmm_(d, vector["weight"])
    return torch.bmm(d, params["weight"]).view(at.x.shape), pulled.view(at.x.shape)


def _embedding(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    weight = params["weight"]
    return nn.functional.embedding(_in_one_table(x, weight), weight.flatten(0, 1))


def _embedding_backward(
    module: nn.Module, params: Params, x: Tensor, y: Tensor, d: Tensor, gradients: Params, wanted: bool
) -> None:
    table = gradients["weight"]
    rows = table.shape[0] * table.shape[1]
    table.add_(
        torch.ops.aten.embedding_dense_backward(d, _in_one_table(x, table), rows, -1, False).view(table.shape)
    )


def _in_one_table(x: Tensor, weight: Tensor) -> Tensor:
    """Codes as rows of the clients' tables, one below the other."""
    clients, codes = weight.shape[:2]
    shift = torch.arange(0, clients * codes, codes, device=x.device)
    return x.long() + shift.view(-1, *[1] * (x.ndim - 1))


def _windows_backward(module: nn.Module, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
    context = cast(Windows, module).context
    d, total = d.view(*d.shape[:-1], -1, context), torch.zeros_like(x)
    for k in range(context):
        total[:, :, k : k + d.shape[2]] += d[..., k]
    return total


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


def _dropout(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    """The masks that `nn.Dropout` draws for each client from its own seed; padded rows become zero."""
    keep = 1 - cast(nn.Dropout, module).p
    if draws is None or keep == 1:
        return x
    if keep == 0:  # drawn from nothing, as nn.Dropout does it
        return x * 0
    masks = torch.zeros(x.shape, dtype=x.dtype)
    for mask, (generator, size) in zip(masks, draws, strict=True):
        # PyTorch's generators of CPU and GPU differ: the masks are the CPU's everywhere.
        mask[:size] = torch.empty_like(mask[:size]).bernoulli_(keep, generator=generator).div_(keep)
    return x * masks.to(x.device)


def _other(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    def call(own: Params, one: Tensor) -> Tensor:
        if getattr(module, "inplace", False):
            one = one.clone()  # what the layer before keeps for its gradient
        return cast(Tensor, functional_call(module, own, (one,)))

    if len(x) == 1:
        one = x.squeeze(0)  # unlike x[0], its gradient is a view
        if isinstance(module, nn.Conv2d) and not one.is_cuda:
            # oneDNN's convolutions and poolings on a CPU are faster in this order.
            one = one.to(memory_format=torch.channels_last)
        return call({name: tensor.squeeze(0) for name, tensor in params.items()}, one).unsqueeze(0)
    if any(isinstance(part, nn.RNNBase) for part in module.modules()):  # vmap does not know them
        return torch.stack([call({n: t[i] for n, t in params.items()}, one) for i, one in enumerate(x)])
    return torch.vmap(call)(params, x)


OTHER = Rule(_other)
# An embedding of characters, windows over it and a linear layer, as one: what a character adds to the outputs
# from each place in the window is kept in a table, so that a position adds up `context` rows and multiplies
# nothing. Characters are few and positions many.
LOOKUP = Rule(_lookup, _lookup_backward, _lookup_push, _lookup_pull)
LOOKUP_CODES = 256  # with more codes, such as words, most rows of a table would never be read


def _without_parameters(
    forward: Callable[[nn.Module, Tensor], Tensor],
    backward: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor],
    bend: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    push: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Rule:
    """The rule of a layer that has nothing to learn.

    Args:
        forward: (module, inputs) to outputs.
        backward: (module, inputs, outputs, gradient) to the inputs' gradient, linear in the gradient.
        bend: (outputs, their change, gradient) to how the backward pass itself changes; None if it does not.
        push: (module, inputs, outputs, change) to the outputs' change; None if `forward` is linear.
    """

    def pushed(
        module: nn.Module, params: Params, vector: Params, x: Tensor, moved: Tensor | None, y: Tensor
    ) -> Tensor | None:
        if moved is None:
            return None
        return push(module, x, y, moved) if push else forward(module, moved)

    def pulled(
        module: nn.Module,
        params: Params,
        vector: Params,
        at: Moving,
        d: Tensor,
        d_moved: Tensor,
        product: Params,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        change = backward(module, at.x, at.y, d_moved)
        return backward(module, at.x, at.y, d), change + bend(
            at.y, cast(Tensor, at.y_moved), d
        ) if bend else change

    return Rule(
        lambda module, params, x, draws: forward(module, x),
        lambda module, params, x, y, d, gradients, wanted: backward(module, x, y, d),
        pushed,
        pulled,
    )


def _each(module: nn.Module, x: Tensor) -> Tensor:
    """Run a module that treats examples one by one on those of all clients."""
    y: Tensor = module(x.flatten(0, 1))
    return y.view(*x.shape[:2], *y.shape[1:])


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: Rule(_linear, _linear_backward, _linear_push, _linear_pull),
    nn.Embedding: Rule(
        _embedding,
        _embedding_backward,
        lambda module, params, vector, x, moved, y: _embedding(module, vector, x, None),
        lambda module, params, vector, at, d, d_moved, product, wanted: _embedding_backward(
            module, params, at.x, at.y, d_moved, product, wanted
        ),
    ),
    nn.ReLU: _without_parameters(
        lambda module, x: torch.relu(x),
        lambda module, x, y, d: torch.ops.aten.threshold_backward(d, y, 0),
        push=lambda module, x, y, moved: torch.ops.aten.threshold_backward(moved, y, 0),
    ),
    nn.Tanh: _without_parameters(
        # Equal to the last bit or two of 1, and three times faster than torch.tanh.
        lambda module, x: torch.rsub(torch.sigmoid(x + x), -1, alpha=-2),
        lambda module, x, y, d: torch.ops.aten.tanh_backward(d, y),
        lambda y, y_moved, d: -2 * d * y * y_moved,
        push=lambda module, x, y, moved: torch.ops.aten.tanh_backward(moved, y),
    ),
    nn.Flatten: _without_parameters(
        lambda module, x: x.flatten(2),
        # In the order of the inputs, which is not always that of the rows: mixed orders are slow.
        lambda module, x, y, d: torch.empty_like(x).copy_(d.view(x.shape)),
    ),
    nn.ZeroPad1d: _without_parameters(
        _each, lambda module, x, y, d: nn.functional.pad(d, [-n for n in cast(nn.ZeroPad1d, module).padding])
    ),
    nn.Dropout: Rule(_dropout),
    Blanks: _without_parameters(_each, lambda module, x, y, d: d),
    Windows: _without_parameters(_each, _windows_backward),
}


# They treat every number alone, so that it does not matter whose it is.
ELEMENTWISE = (nn.ELU, nn.GELU, nn.Hardtanh, nn.LeakyReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus)


def rule_of(module: nn.Module) -> Rule:
    """A module's rule; `OTHER` for one of an unknown kind, or that does more than its kind."""
    if module._forward_hooks or module._forward_pre_hooks:
        return OTHER
    if isinstance(module, nn.Embedding) and (
        module.padding_idx is not None or module.max_norm is not None or module.scale_grad_by_freq
    ):
        return OTHER
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        return OTHER
    return RULES.get(type(module), OTHER)
