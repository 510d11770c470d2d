"""What each kind of layer does for several clients at once: forwards, and by hand backwards.

A *stack* holds the parameters of C clients along a leading axis, and their batches as [C, batch, ...]. A
linear layer then is one batched matrix product, and its gradient is added where it is wanted without a copy.
A layer that has no rule here is run by PyTorch: for one client as it is, for several through `torch.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.models import Blanks, Windows, draws_random_numbers
from fl_meta.params import Params

# For each client its generator of dropout masks and the size of its batch; None evaluates without dropout.
Draws = Sequence[tuple[torch.Generator, int]] | None


@dataclass(frozen=True)
class Rule:
    """How a kind of layer runs on a stack.

    Attributes:
        forward: (module, params, inputs, draws) to outputs, made of differentiable operations.
        backward: (module, params, inputs, outputs, gradient of the outputs, gradients, wanted): adds to the
            parameters' `gradients` and returns the gradient of the inputs if it is `wanted`; None leaves this
            layer, and it alone, to autograd.
    """

    forward: Callable[[nn.Module, Params, Tensor, Draws], Tensor]
    backward: Callable[[nn.Module, Params, Tensor, Tensor, Tensor, Params, bool], Tensor | None] | None = None


@dataclass(frozen=True)
class Layer:
    """One module of a model, the full names of its parameters by their own, and its rule."""

    module: nn.Module
    names: dict[str, str]
    rule: Rule

    @property
    def stackable(self) -> bool:
        """Whether it treats examples one by one and runs faster for several clients together."""
        return self.rule is not OTHER or type(self.module).__module__ == nn.ReLU.__module__

    def own(self, params: Params) -> Params:
        """This layer's share of the model's parameters."""
        return {own: params[full] for own, full in self.names.items()}


# Threads wait for each other at every operation, even at one that only makes a view: few are wanted.
def _rows(x: Tensor) -> Tensor:
    return x if x.ndim == 3 else x.flatten(1, -2)


def _linear(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    bias = params["bias"][:, None] if "bias" in params else x.new_zeros(())
    y = torch.baddbmm(bias, _rows(x), params["weight"].mT)
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


def _dropout(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    """The masks that `nn.Dropout` draws for each client from its own seed; padded rows become zero."""
    if draws is None:
        return x
    keep = 1 - cast(nn.Dropout, module).p
    masks = torch.zeros(x.shape, dtype=x.dtype)
    for mask, (generator, size) in zip(masks, draws, strict=True):
        # PyTorch's generators of CPU and GPU differ: the masks are the CPU's everywhere.
        mask[:size] = torch.empty_like(mask[:size]).bernoulli_(keep, generator=generator).div_(keep)
    return x * masks.to(x.device)


def _other(module: nn.Module, params: Params, x: Tensor, draws: Draws) -> Tensor:
    def call(own: Params, one: Tensor) -> Tensor:
        return cast(Tensor, functional_call(module, own, (one,)))

    if len(x) > 1:
        return torch.vmap(call)(params, x)
    one = x.squeeze(0)  # unlike x[0], its gradient is a view
    if isinstance(module, nn.Conv2d) and not one.is_cuda:
        # oneDNN's convolutions and poolings on a CPU are faster in this order.
        one = one.to(memory_format=torch.channels_last)
    return call({name: tensor.squeeze(0) for name, tensor in params.items()}, one).unsqueeze(0)


OTHER = Rule(_other)

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: Rule(_linear, _linear_backward),
    nn.Embedding: Rule(_embedding, _embedding_backward),
    nn.ReLU: Rule(
        lambda module, params, x, draws: torch.relu(x),
        lambda module, params, x, y, d, gradients, wanted: torch.ops.aten.threshold_backward(d, y, 0),
    ),
    nn.Tanh: Rule(
        lambda module, params, x, draws: torch.tanh(x),
        lambda module, params, x, y, d, gradients, wanted: torch.ops.aten.tanh_backward(d, y),
    ),
    nn.Flatten: Rule(
        lambda module, params, x, draws: x.flatten(2),
        # In the order of the inputs, which is not always that of the rows: mixed orders are slow.
        lambda module, params, x, y, d, gradients, wanted: torch.empty_like(x).copy_(d.view(x.shape)),
    ),
    nn.Dropout: Rule(_dropout),
    Blanks: Rule(lambda module, params, x, draws: module(x.flatten(0, 1)).unflatten(0, x.shape[:2])),
    Windows: Rule(lambda module, params, x, draws: module(x.flatten(0, 1)).unflatten(0, x.shape[:2])),
}


def _rule(module: nn.Module) -> Rule:
    rule = RULES.get(type(module), OTHER)
    if isinstance(module, nn.Embedding) and (module.padding_idx is not None or module.max_norm is not None):
        return OTHER
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        return OTHER
    return rule


def layers_of(module: nn.Module) -> list[Layer]:
    """The modules of nested `nn.Sequential`s in the order in which they run; any other model is one layer."""
    layers = [
        Layer(part, {own: f"{prefix}{own}" for own, _ in part.named_parameters()}, _rule(part))
        for prefix, part in _parts("", module)
    ]
    for i, (one, after) in enumerate(pairwise(layers)):
        # The same numbers and the same gradients, with the activation on a quarter of the pixels.
        if type(one.module) is nn.ReLU and type(after.module) is nn.MaxPool2d:
            layers[i : i + 2] = after, one
    names = [full for layer in layers for full in layer.names.values()]
    if sorted(names) != sorted(name for name, _ in module.named_parameters()):  # some are shared
        return [Layer(module, {name: name for name, _ in module.named_parameters()}, OTHER)]
    return layers


def _parts(prefix: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential:
        return [(prefix, module)]
    return [pair for name, child in module.named_children() for pair in _parts(f"{prefix}{name}.", child)]


def seeded_by_layer(layers: Sequence[Layer]) -> bool:
    """Whether all random numbers are drawn by layers that a client's own generator can serve."""
    return not any(
        draws_random_numbers(part)
        for layer in layers
        if type(layer.module) is not nn.Dropout
        for part in layer.module.modules()
    )


def forward(layers: Sequence[Layer], params: Params, x: Tensor, draws: Draws = None) -> Tensor:
    """Logits [C, batch, ..., classes] of a stack, differentiable."""
    for layer in layers:
        x = layer.rule.forward(layer.module, layer.own(params), x, draws)
    return x


def add_gradients(
    layers: Sequence[Layer],
    params: Params,
    gradients: Params,
    x: Tensor,
    draws: Draws,
    loss_gradient: Callable[[Tensor], Tensor],
) -> None:
    """Run a stack forwards and backwards, and add each client's gradient to `gradients`, in place.

    Args:
        layers: of the model.
        params: the clients' parameters [C, ...].
        gradients: where to add [C, ...].
        x: inputs [C, batch, ...].
        draws: for dropout.
        loss_gradient: the gradient of the loss with respect to the logits, given the logits.
    """
    tape: list[tuple[Layer, Params, Tensor, Tensor, bool]] = []
    for layer in layers:
        wanted = any(earlier.names for earlier, *_ in tape)
        own = layer.own(params)
        if layer.rule.backward is None:
            own = {name: tensor.detach().requires_grad_() for name, tensor in own.items()}
            x = x.detach().requires_grad_(wanted)
            with torch.enable_grad():
                y = layer.rule.forward(layer.module, own, x, draws)
            tape.append((layer, own, x, y, wanted))
            x = y.detach()
        else:
            y = layer.rule.forward(layer.module, own, x, draws)
            tape.append((layer, own, x, y, wanted))
            x = y
    d: Tensor | None = loss_gradient(x)
    for layer, own, x, y, wanted in reversed(tape):
        if not (wanted or layer.names):
            break
        into = layer.own(gradients)
        if layer.rule.backward is None:
            leaves = [x, *own.values()] if wanted else list(own.values())
            found = list(torch.autograd.grad(y, leaves, d, materialize_grads=True))
            d = found.pop(0) if wanted else None
            for gradient, more in zip(into.values(), found, strict=True):
                gradient.add_(more)
        else:
            d = layer.rule.backward(layer.module, own, x, y, cast(Tensor, d), into, wanted)
