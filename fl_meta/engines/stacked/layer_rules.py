"""What each kind of layer does for several clients at once: forwards, and by hand backwards.

A *stack* holds the parameters of C clients along a leading axis, and their batches as [C, batch, ...]. A
linear layer then is one batched matrix product, and its gradient is added where it is wanted without a copy.
A layer that has no rule here is run by PyTorch: for one client as it is, for several through `torch.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.engines.stacked.rule import Draws, Moving, Rule, _in_one_table
from fl_meta.models.parameters import Params
from fl_meta.models.text import Blanks, Windows


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


def _windows_backward(module: nn.Module, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
    context = cast(Windows, module).context
    d, total = d.view(*d.shape[:-1], -1, context), torch.zeros_like(x)
    for k in range(context):
        total[:, :, k : k + d.shape[2]] += d[..., k]
    return total


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
