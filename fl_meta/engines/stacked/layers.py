"""A model as a sequence of layers with rules, and the passes over them: forward, backward, second order.

The second order is written by hand where all layers have the rules for it, and left to autograd elsewhere:
with autograd everywhere, MAML(5) takes 2.1, 2.3, 1.0 and 1.7 times as long on logistic, mlp, small_cnn and
char_mlp (medians of 8 interleaved runs on 2 cores).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from fl_meta.engines.stacked.character_lookup import LOOKUP, LOOKUP_CODES
from fl_meta.engines.stacked.layer_rules import ELEMENTWISE, OTHER, RULES, does_more, rule_of
from fl_meta.engines.stacked.rule import Draws, LayerRule, Tangents
from fl_meta.models.model import draws_random_numbers
from fl_meta.models.parameters import Params
from fl_meta.models.text import Windows


@dataclass(frozen=True)
class Layer:
    """One layer of a model.

    Attributes:
        module: the layer's module.
        names: the names of its trainable parameters in the model, by the names that its rule uses.
        rule: how it runs on a stack.
    """

    module: nn.Module
    names: dict[str, str]
    rule: LayerRule

    @property
    def stackable(self) -> bool:
        """Whether it treats every example alone and runs faster for several clients together."""
        if type(self.module) in ELEMENTWISE:
            return not does_more(self.module)
        return self.rule is not OTHER

    def own(self, params: Params) -> Params:
        """This layer's parameters, by the names that its rule uses."""
        return {own_name: params[name] for own_name, name in self.names.items()}


def layers_of(module: nn.Module) -> list[Layer]:
    """The modules of nested `nn.Sequential`s in the order in which they run; any other model is one layer."""
    layers = [
        Layer(child, _trainable(child, prefix), rule_of(child)) for prefix, child in _flattened("", module)
    ]
    for i, (layer, following) in enumerate(pairwise(layers)):
        # Swapped, they give the same outputs and gradients, with ReLU on a quarter of the pixels.
        kinds = type(layer.module), type(following.module)
        if kinds == (nn.ReLU, nn.MaxPool2d) and not any(map(does_more, (layer.module, following.module))):
            layers[i : i + 2] = following, layer
    layers = _with_lookup(layers)
    names = [name for layer in layers for name in layer.names.values()]
    if sorted(names) != sorted(_trainable(module)):  # layers share parameters
        return [Layer(module, _trainable(module), OTHER)]
    return layers


def _trainable(module: nn.Module, prefix: str = "") -> dict[str, str]:
    """The names of a module's trainable parameters in the model, by their names in the module."""
    return {name: f"{prefix}{name}" for name, p in module.named_parameters() if p.requires_grad}


def _with_lookup(layers: list[Layer]) -> list[Layer]:
    """The same layers, with an embedding of characters, windows and a linear layer fused into one."""
    fused_rules = [RULES[kind] for kind in (nn.Embedding, Windows, nn.Linear)]
    for i in range(len(layers) - 2):
        embedding, _, linear = run = layers[i : i + 3]
        if [layer.rule for layer in run] != fused_rules:
            continue
        if cast(nn.Embedding, embedding.module).num_embeddings <= LOOKUP_CODES:
            names = {"embedding": embedding.names["weight"], **linear.names}
            lookup = Layer(nn.Sequential(*[layer.module for layer in run]), names, LOOKUP)
            return [*layers[:i], lookup, *layers[i + 3 :]]
    return layers


def _flattened(prefix: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential or does_more(module):
        return [(prefix, module)]
    # named_children() would skip a module that occurs a second time.
    children = module._modules.items()
    return [pair for name, child in children if child for pair in _flattened(f"{prefix}{name}.", child)]


def seeded_by_layer(layers: Sequence[Layer]) -> bool:
    """Whether all random numbers come from `nn.Dropout` layers, whose masks are seeded per client."""
    return not any(
        draws_random_numbers(module)
        for layer in layers
        if type(layer.module) is not nn.Dropout
        for module in layer.module.modules()
    )


def by_hand(layers: Sequence[Layer]) -> bool:
    """Whether all layers have rules for Hessian-vector products."""
    return all(layer.rule.pull for layer in layers)


def forward(layers: Sequence[Layer], params: Params, x: Tensor, draws: Draws = None) -> Tensor:
    """Logits [clients, batch, ..., classes] of a stack, differentiable."""
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
    """Run a stack forward and backward, and add each client's gradient to `gradients` in place.

    `loss_gradient` returns the loss's gradient with respect to the logits, given the logits.
    """
    tape: list[tuple[Layer, Params, Tensor, Tensor, bool]] = []
    for layer in layers:
        needs_input_grad = any(before.names for before, *_ in tape)
        own = layer.own(params)
        if layer.rule.backward is None:
            own = {name: tensor.detach().requires_grad_() for name, tensor in own.items()}
            x = x.detach().requires_grad_(needs_input_grad)
            with torch.enable_grad():
                y = layer.rule.forward(layer.module, own, x, draws)
            tape.append((layer, own, x, y, needs_input_grad))
            x = y.detach()
        else:
            y = layer.rule.forward(layer.module, own, x, draws)
            tape.append((layer, own, x, y, needs_input_grad))
            x = y
    d: Tensor | None = loss_gradient(x)
    for layer, own, x, y, needs_input_grad in reversed(tape):
        if not (needs_input_grad or layer.names):
            break
        into = layer.own(gradients)
        if layer.rule.backward is None:
            leaves = [x, *own.values()] if needs_input_grad else list(own.values())
            if not y.requires_grad:  # the layer uses no parameters, or stops gradients
                d = torch.zeros_like(x)
                continue
            added = list(torch.autograd.grad(y, leaves, d, materialize_grads=True))
            d = added.pop(0) if needs_input_grad else None
            for gradient, more in zip(into.values(), added, strict=True):
                gradient.add_(more)
        else:
            d = layer.rule.backward(layer.module, own, x, y, cast(Tensor, d), into, needs_input_grad)


def add_curvature(
    layers: Sequence[Layer],
    params: Params,
    vector: Params,
    product: Params,
    x: Tensor,
    loss_gradient: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> None:
    """Add each client's Hessian times `vector` to `product` in place; all layers need `push` and `pull`.

    Differentiates both passes of `add_gradients` along the vector (Pearlmutter 1994). `loss_gradient` maps
    the logits and their derivative to the loss's gradient with respect to the logits and its derivative.
    """
    tape: list[tuple[Layer, Tangents, bool]] = []
    x_tangent: Tensor | None = None
    for layer in layers:
        assert layer.rule.push
        own, along = layer.own(params), layer.own(vector)
        y = layer.rule.forward(layer.module, own, x, None)
        y_tangent = layer.rule.push(layer.module, own, along, x, x_tangent, y)
        needs_input_grad = any(before.names for before, *_ in tape)
        tape.append((layer, Tangents(x, x_tangent, y, y_tangent), needs_input_grad))
        x, x_tangent = y, y_tangent
    assert x_tangent is not None
    slopes: tuple[Tensor, Tensor] | None = loss_gradient(x, x_tangent)
    for layer, at, needs_input_grad in reversed(tape):
        if not (needs_input_grad or layer.names):
            break
        assert layer.rule.pull and slopes
        own, along, into = layer.own(params), layer.own(vector), layer.own(product)
        slopes = layer.rule.pull(layer.module, own, along, at, *slopes, into, needs_input_grad)
