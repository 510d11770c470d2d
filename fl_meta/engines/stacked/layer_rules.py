"""The rules of the common kinds of layer, with hand-written derivatives.

A *stack* holds the parameters of several clients along a leading axis, and their batches as
[clients, batch, ...]. A linear layer is then one batched matrix product, and its gradient is accumulated
without a copy. A layer without a rule of its own is run by PyTorch: directly for one client, through
`torch.vmap` for several.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.engines.stacked.rule import Draws, LayerRule, Tangents
from fl_meta.models.parameters import Params
from fl_meta.models.text import Blanks, Windows


def embedding_rows(x: Tensor, weight: Tensor) -> Tensor:
    """Codes as rows of the clients' embeddings [clients, codes, features], laid one below the other."""
    clients, codes = weight.shape[:2]
    shift = torch.arange(0, clients * codes, codes, device=x.device)
    return x.long() + shift.view(-1, *[1] * (x.ndim - 1))


def check_codes(x: Tensor, num_codes: int) -> None:
    """Raise IndexError for a code that the embedding lacks: its row would be that of another client."""
    least, most = (int(bound) for bound in torch.aminmax(x)) if x.numel() else (0, 0)
    if least < 0 or most >= num_codes:
        raise IndexError(f"code {least if least < 0 else most} is not in the embedding of {num_codes} codes")


# Every call costs time, even one that only makes a view.
def _as_matrices(x: Tensor) -> Tensor:
    return x if x.ndim == 3 else x.flatten(1, -2)


def _linear(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    y = torch.bmm(_as_matrices(x), params["weight"].mT)
    if "bias" in params:  # torch.baddbmm with a broadcast bias takes 1.5 times as long
        y.add_(params["bias"].unsqueeze(1))
    return y if x.ndim == 3 else y.view(*x.shape[:-1], -1)


def _linear_backward(
    module: nn.Module,
    params: Params,
    x: Tensor,
    y: Tensor,
    d: Tensor,
    gradients: Params,
    needs_input_grad: bool,
) -> Tensor | None:
    d = _as_matrices(d)
    gradients["weight"].baddbmm_(d.mT, _as_matrices(x))
    if "bias" in params:
        gradients["bias"].add_(d.sum(1))
    if not needs_input_grad:
        return None
    return torch.bmm(d, params["weight"]) if x.ndim == 3 else torch.bmm(d, params["weight"]).view(x.shape)


def _linear_push(
    module: nn.Module, params: Params, vector: Params, x: Tensor, x_tangent: Tensor | None, y: Tensor
) -> Tensor:
    change = _linear(module, vector, x, None)
    if x_tangent is not None:
        _as_matrices(change).baddbmm_(_as_matrices(x_tangent), params["weight"].mT)
    return change


def _linear_pull(
    module: nn.Module,
    params: Params,
    vector: Params,
    at: Tangents,
    d: Tensor,
    d_tangent: Tensor,
    product: Params,
    needs_input_grad: bool,
) -> tuple[Tensor, Tensor] | None:
    d, d_tangent = _as_matrices(d), _as_matrices(d_tangent)
    product["weight"].baddbmm_(d_tangent.mT, _as_matrices(at.x))
    if at.x_tangent is not None:
        product["weight"].baddbmm_(d.mT, _as_matrices(at.x_tangent))
    if "bias" in params:
        product["bias"].add_(d_tangent.sum(1))
    if not needs_input_grad:
        return None
    pulled = torch.bmm(d_tangent, params["weight"]).baddbmm_(d, vector["weight"])
    return torch.bmm(d, params["weight"]).view(at.x.shape), pulled.view(at.x.shape)


def _embedding(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    weight = params["weight"]
    check_codes(x, weight.shape[1])
    return nn.functional.embedding(embedding_rows(x, weight), weight.flatten(0, 1))


def _embedding_backward(
    module: nn.Module,
    params: Params,
    x: Tensor,
    y: Tensor,
    d: Tensor,
    gradients: Params,
    needs_input_grad: bool,
) -> None:
    into = gradients["weight"]
    num_rows = into.shape[0] * into.shape[1]
    added = torch.ops.aten.embedding_dense_backward(d, embedding_rows(x, into), num_rows, -1, False)
    into.add_(added.view(into.shape))


def _windows_backward(module: nn.Module, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
    context = cast(Windows, module).context
    d, total = d.view(*d.shape[:-1], -1, context), torch.zeros_like(x)
    for k in range(context):
        total[:, :, k : k + d.shape[2]] += d[..., k]
    return total


def _dropout(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    """Apply the masks that `nn.Dropout` draws from each client's own seed; padded rows become zero."""
    keep = 1 - cast(nn.Dropout, module).p
    if draws is None or keep == 1:
        return x
    if keep == 0:  # nn.Dropout draws no random numbers here
        return x * 0
    masks = torch.zeros(x.shape, dtype=x.dtype)
    for mask, (generator, size) in zip(masks, draws, strict=True):
        # Generators on CPU and GPU draw different numbers, so all masks are drawn on the CPU.
        mask[:size] = torch.empty_like(mask[:size]).bernoulli_(keep, generator=generator).div_(keep)
    return x * masks.to(x.device)


def _other(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    def call(client_params: Params, client_x: Tensor) -> Tensor:
        if getattr(module, "inplace", False):
            client_x = client_x.clone()  # the layer before needs its outputs for its gradient
        return cast(Tensor, functional_call(module, client_params, (client_x,)))

    if len(x) == 1:
        client_x = x.squeeze(0)  # unlike x[0], its gradient is a view
        if isinstance(module, nn.Conv2d) and not client_x.is_cuda:
            # On a CPU, oneDNN's convolutions and poolings are faster in this memory format.
            client_x = client_x.to(memory_format=torch.channels_last)
        return call({name: tensor.squeeze(0) for name, tensor in params.items()}, client_x).unsqueeze(0)
    if not all(map(_fits_vmap, module.modules())):
        clients = ({name: tensor[i] for name, tensor in params.items()} for i in range(len(x)))
        return torch.stack([call(*client) for client in zip(clients, x, strict=True)])
    return torch.vmap(call)(params, x)


def _fits_vmap(module: nn.Module) -> bool:
    sparse = any(buffer.layout != torch.strided for buffer in module.buffers(recurse=False))
    return not (isinstance(module, nn.RNNBase) or sparse or does_more(module))


OTHER = LayerRule(_other)


def _constants(module: nn.Module) -> Params:
    """What a layer reads besides trainable parameters, and all clients share."""
    frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    return frozen | dict(module.named_buffers())


def _with_constants(rule: LayerRule, module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    shared = {name: tensor.expand(len(x), *tensor.shape) for name, tensor in _constants(module).items()}
    return rule.forward(module, shared | params, x, draws)


def _without_parameters(
    forward: Callable[[nn.Module, Tensor], Tensor],
    backward: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor],
    bend: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    push: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor] | None = None,
) -> LayerRule:
    """The rule of a layer without parameters.

    Args:
        forward: (module, x) returns y.
        backward: (module, x, y, d) returns the gradient of x, given d, that of y; linear in d.
        bend: (y, y_tangent, d) returns the derivative of `backward` along y_tangent; None if that is zero.
        push: (module, x, y, x_tangent) returns y_tangent; None if `forward` is linear.
    """

    def pushed(
        module: nn.Module, params: Params, vector: Params, x: Tensor, x_tangent: Tensor | None, y: Tensor
    ) -> Tensor | None:
        if x_tangent is None:
            return None
        return push(module, x, y, x_tangent) if push else forward(module, x_tangent)

    def pulled(
        module: nn.Module,
        params: Params,
        vector: Params,
        at: Tangents,
        d: Tensor,
        d_tangent: Tensor,
        product: Params,
        needs_input_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        change = backward(module, at.x, at.y, d_tangent)
        if bend:
            change = change + bend(at.y, cast(Tensor, at.y_tangent), d)
        return backward(module, at.x, at.y, d), change

    return LayerRule(
        lambda module, params, x, draws: forward(module, x),
        lambda module, params, x, y, d, gradients, needs_input_grad: backward(module, x, y, d),
        pushed,
        pulled,
    )


def _each(module: nn.Module, x: Tensor) -> Tensor:
    """Run a module that treats every example alone on the examples of all clients."""
    y: Tensor = module(x.flatten(0, 1))
    return y.view(*x.shape[:2], *y.shape[1:])


RULES: dict[type[nn.Module], LayerRule] = {
    nn.Linear: LayerRule(_linear, _linear_backward, _linear_push, _linear_pull),
    nn.Embedding: LayerRule(
        _embedding,
        _embedding_backward,
        lambda module, params, vector, x, x_tangent, y: _embedding(module, vector, x, None),
        lambda module, params, vector, at, d, d_tangent, product, needs_input_grad: _embedding_backward(
            module, params, at.x, at.y, d_tangent, product, needs_input_grad
        ),
    ),
    nn.ReLU: _without_parameters(
        lambda module, x: torch.relu(x),
        lambda module, x, y, d: torch.ops.aten.threshold_backward(d, y, 0),
        push=lambda module, x, y, x_tangent: torch.ops.aten.threshold_backward(x_tangent, y, 0),
    ),
    nn.Tanh: _without_parameters(
        # Within one or two units in the last place of 1, and three times faster than torch.tanh.
        lambda module, x: torch.rsub(torch.sigmoid(x + x), -1, alpha=-2),
        lambda module, x, y, d: torch.ops.aten.tanh_backward(d, y),
        lambda y, y_tangent, d: -2 * d * y * y_tangent,
        push=lambda module, x, y, x_tangent: torch.ops.aten.tanh_backward(x_tangent, y),
    ),
    nn.Flatten: _without_parameters(
        lambda module, x: x.flatten(2),
        # In the memory format of the inputs, which may be channels_last: mixed formats are slow.
        lambda module, x, y, d: torch.empty_like(x).copy_(d.view(x.shape)),
    ),
    nn.ZeroPad1d: _without_parameters(
        _each, lambda module, x, y, d: nn.functional.pad(d, [-n for n in cast(nn.ZeroPad1d, module).padding])
    ),
    nn.Dropout: LayerRule(_dropout),
    Blanks: _without_parameters(_each, lambda module, x, y, d: d),
    Windows: _without_parameters(_each, _windows_backward),
}

# They treat every number alone, so a stack needs no rule for them.
ELEMENTWISE = (nn.ELU, nn.GELU, nn.Hardtanh, nn.LeakyReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus)


def does_more(module: nn.Module) -> bool:
    """Whether a module does more than its kind: it has hooks, or a `forward` of its own."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    any_module = nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
    if any_module or any(getattr(module, kind) for kind in hooks):
        return True
    # A weight that is a plain tensor is computed by something.
    return "forward" in vars(module) or any(isinstance(value, Tensor) for value in vars(module).values())


def rule_of(module: nn.Module) -> LayerRule:
    """A module's rule; `OTHER` if its kind is unknown, or if options or hooks make it do more than that."""
    if does_more(module):
        return OTHER
    if isinstance(module, nn.Embedding) and (
        module.padding_idx is not None or module.max_norm is not None or module.scale_grad_by_freq
    ):
        return OTHER
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        return OTHER
    rule = RULES.get(type(module), OTHER)
    if rule is not OTHER and _constants(module):
        return LayerRule(partial(_with_constants, rule))
    return rule
