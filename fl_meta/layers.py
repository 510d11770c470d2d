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
        push: (module, params, vector, inputs, change of the inputs, outputs) to the change of the outputs
            when the parameters move along `vector`; where nothing moved before, the inputs' change is None.
        pull: like backward, for the change of the gradients: (module, params, vector, inputs, their change,
            outputs, their change, gradient of the outputs, its change, product, wanted) to the gradient of
            the inputs and its change. With `push` it makes Hessian-vector products (Pearlmutter 1994).
    """

    forward: Callable[[nn.Module, Params, Tensor, Draws], Tensor]
    backward: Callable[[nn.Module, Params, Tensor, Tensor, Tensor, Params, bool], Tensor | None] | None = None
    push: Callable[[nn.Module, Params, Params, Tensor, Tensor | None, Tensor], Tensor | None] | None = None
    pull: Callable[..., tuple[Tensor, Tensor] | None] | None = None


@dataclass(frozen=True)
class Layer:
    """One module of a model, the full names of its parameters by their own, and its rule."""

    module: nn.Module
    names: dict[str, str]
    rule: Rule

    @property
    def stackable(self) -> bool:
        """Whether it treats examples one by one and runs faster for several clients together."""
        return self.rule is not OTHER or type(self.module) in ELEMENTWISE

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
    x: Tensor,
    moved: Tensor | None,
    y: Tensor,
    y_moved: Tensor,
    d: Tensor,
    d_moved: Tensor,
    product: Params,
    wanted: bool,
) -> tuple[Tensor, Tensor] | None:
    d, d_moved = _rows(d), _rows(d_moved)
    product["weight"].baddbmm_(d_moved.mT, _rows(x))
    if moved is not None:
        product["weight"].baddbmm_(d.mT, _rows(moved))
    if "bias" in params:
        product["bias"].add_(d_moved.sum(1))
    if not wanted:
        return None
    pulled = torch.bmm(d_moved, params["weight"]).baddbmm_(d, vector["weight"])
    return torch.bmm(d, params["weight"]).view(x.shape), pulled.view(x.shape)


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
        x: Tensor,
        moved: Tensor | None,
        y: Tensor,
        y_moved: Tensor,
        d: Tensor,
        d_moved: Tensor,
        product: Params,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        change = backward(module, x, y, d_moved)
        return backward(module, x, y, d), change + bend(y, y_moved, d) if bend else change

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
        lambda module, params, vector, x, moved, y, y_moved, d, d_moved, product, wanted: _embedding_backward(
            module, params, x, y, d_moved, product, wanted
        ),
    ),
    nn.ReLU: _without_parameters(
        lambda module, x: torch.relu(x),
        lambda module, x, y, d: torch.ops.aten.threshold_backward(d, y, 0),
        push=lambda module, x, y, moved: torch.ops.aten.threshold_backward(moved, y, 0),
    ),
    nn.Tanh: _without_parameters(
        lambda module, x: torch.tanh(x),
        lambda module, x, y, d: torch.ops.aten.tanh_backward(d, y),
        lambda y, y_moved, d: -2 * d * y * y_moved,
        push=lambda module, x, y, moved: torch.ops.aten.tanh_backward(moved, y),
    ),
    nn.Flatten: _without_parameters(
        lambda module, x: x.flatten(2),
        # In the order of the inputs, which is not always that of the rows: mixed orders are slow.
        lambda module, x, y, d: torch.empty_like(x).copy_(d.view(x.shape)),
    ),
    nn.Dropout: Rule(_dropout),
    Blanks: _without_parameters(_each, lambda module, x, y, d: d),
    Windows: _without_parameters(_each, _windows_backward),
}


# They treat every number alone, so that it does not matter whose it is.
ELEMENTWISE = (nn.ELU, nn.GELU, nn.Hardtanh, nn.LeakyReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus)


def _rule(module: nn.Module) -> Rule:
    if module._forward_hooks or module._forward_pre_hooks:
        return OTHER
    if isinstance(module, nn.Embedding) and (
        module.padding_idx is not None or module.max_norm is not None or module.scale_grad_by_freq
    ):
        return OTHER
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        return OTHER
    return RULES.get(type(module), OTHER)


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
    if type(module) is not nn.Sequential or module._forward_hooks or module._forward_pre_hooks:
        return [(prefix, module)]
    # named_children() would leave out a layer that occurs for the second time.
    children = module._modules.items()
    return [pair for name, child in children if child for pair in _parts(f"{prefix}{name}.", child)]


def seeded_by_layer(layers: Sequence[Layer]) -> bool:
    """Whether all random numbers are drawn by layers that a client's own generator can serve."""
    return not any(
        draws_random_numbers(part)
        for layer in layers
        if type(layer.module) is not nn.Dropout
        for part in layer.module.modules()
    )


def by_hand(layers: Sequence[Layer]) -> bool:
    """Whether all layers have rules for Hessian-vector products."""
    return all(layer.rule.pull for layer in layers)


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
            if not y.requires_grad:  # a layer that uses no parameters, or stops gradients
                d = torch.zeros_like(x)
                continue
            found = list(torch.autograd.grad(y, leaves, d, materialize_grads=True))
            d = found.pop(0) if wanted else None
            for gradient, more in zip(into.values(), found, strict=True):
                gradient.add_(more)
        else:
            d = layer.rule.backward(layer.module, own, x, y, cast(Tensor, d), into, wanted)


def add_curvature(
    layers: Sequence[Layer],
    params: Params,
    vector: Params,
    product: Params,
    x: Tensor,
    loss_gradient: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> None:
    """Add each client's Hessian times `vector` to `product`, in place, for layers with all rules.

    It is the change of `add_gradients` along the vector, pass by pass (Pearlmutter 1994).

    Args:
        layers: of the model.
        params: the clients' parameters [C, ...].
        vector: one direction for each client [C, ...].
        product: where to add [C, ...].
        x: inputs [C, batch, ...].
        loss_gradient: gradient of the loss with respect to the logits and its change, given the logits and
            their change.
    """
    tape: list[tuple[Layer, Tensor, Tensor | None, Tensor, Tensor | None, bool]] = []
    moved: Tensor | None = None
    for layer in layers:
        assert layer.rule.push
        own, along = layer.own(params), layer.own(vector)
        y = layer.rule.forward(layer.module, own, x, None)
        y_moved = layer.rule.push(layer.module, own, along, x, moved, y)
        tape.append((layer, x, moved, y, y_moved, any(earlier.names for earlier, *_ in tape)))
        x, moved = y, y_moved
    assert moved is not None
    slopes: tuple[Tensor, Tensor] | None = loss_gradient(x, moved)
    for layer, x, moved, y, y_moved, wanted in reversed(tape):
        if not (wanted or layer.names):
            break
        assert layer.rule.pull and slopes
        own, along, into = layer.own(params), layer.own(vector), layer.own(product)
        slopes = layer.rule.pull(layer.module, own, along, x, moved, y, y_moved, *slopes, into, wanted)
