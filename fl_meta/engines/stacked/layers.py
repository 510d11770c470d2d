"""A model as a row of layers with rules, and the passes over it: forwards, backwards, and for curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from fl_meta.engines.stacked.character_lookup import LOOKUP, LOOKUP_CODES
from fl_meta.engines.stacked.layer_rules import ELEMENTWISE, OTHER, RULES, rule_of
from fl_meta.engines.stacked.rule import Draws, Moving, Rule
from fl_meta.models.model import draws_random_numbers
from fl_meta.models.parameters import Params
from fl_meta.models.text import Windows


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


def layers_of(module: nn.Module) -> list[Layer]:
    """The modules of nested `nn.Sequential`s in the order in which they run; any other model is one layer."""
    layers = [
        Layer(part, {own: f"{prefix}{own}" for own, _ in part.named_parameters()}, rule_of(part))
        for prefix, part in _parts("", module)
    ]
    for i, (one, after) in enumerate(pairwise(layers)):
        # The same numbers and the same gradients, with the activation on a quarter of the pixels.
        if type(one.module) is nn.ReLU and type(after.module) is nn.MaxPool2d:
            layers[i : i + 2] = after, one
    layers = _with_lookup(layers)
    names = [full for layer in layers for full in layer.names.values()]
    if sorted(names) != sorted(name for name, _ in module.named_parameters()):  # some are shared
        return [Layer(module, {name: name for name, _ in module.named_parameters()}, OTHER)]
    return layers


def _with_lookup(layers: list[Layer]) -> list[Layer]:
    """The same layers, with the first part of a model of characters as one."""
    kinds = [RULES[kind] for kind in (nn.Embedding, Windows, nn.Linear)]
    for i in range(len(layers) - 2):
        embedding, _, linear = parts = layers[i : i + 3]
        if [part.rule for part in parts] != kinds:
            continue
        if cast(nn.Embedding, embedding.module).num_embeddings <= LOOKUP_CODES:
            names = {"table": embedding.names["weight"], **linear.names}
            lookup = Layer(nn.Sequential(*[part.module for part in parts]), names, LOOKUP)
            return [*layers[:i], lookup, *layers[i + 3 :]]
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
    tape: list[tuple[Layer, Moving, bool]] = []
    moved: Tensor | None = None
    for layer in layers:
        assert layer.rule.push
        own, along = layer.own(params), layer.own(vector)
        y = layer.rule.forward(layer.module, own, x, None)
        y_moved = layer.rule.push(layer.module, own, along, x, moved, y)
        tape.append((layer, Moving(x, moved, y, y_moved), any(earlier.names for earlier, *_ in tape)))
        x, moved = y, y_moved
    assert moved is not None
    slopes: tuple[Tensor, Tensor] | None = loss_gradient(x, moved)
    for layer, moving, wanted in reversed(tape):
        if not (wanted or layer.names):
            break
        assert layer.rule.pull and slopes
        own, along, into = layer.own(params), layer.own(vector), layer.own(product)
        slopes = layer.rule.pull(layer.module, own, along, moving, *slopes, into, wanted)
