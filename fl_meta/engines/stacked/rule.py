"""The interface of a layer rule: how one kind of layer runs for several clients at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fl_meta.models.parameters import Params

# For each client, the generator of its dropout masks and the size of its batch; None turns dropout off.
Draws = Sequence[tuple[torch.Generator, int]] | None


class Tangents(NamedTuple):
    """A layer's inputs and outputs, each with its derivative along a direction (None if that is zero)."""

    x: Tensor
    x_tangent: Tensor | None
    y: Tensor
    y_tangent: Tensor | None


@dataclass(frozen=True)
class LayerRule:
    """How one kind of layer runs on a stack.

    Every function takes the layer's module first, then its parameters [clients, ...] by their own names.

    Attributes:
        forward: (module, params, x, draws) returns the outputs. Differentiable.
        backward: (module, params, x, y, d, gradients, needs_input_grad), with d the gradient of the outputs
            y, adds to the parameters' `gradients` in place and returns the gradient of x if it is needed. A
            rule without `backward` leaves this one layer to autograd.
        push: (module, params, vector, x, x_tangent, y) returns the derivative of the outputs when the
            parameters move along `vector`, or None if it is zero.
        pull: (module, params, vector, `Tangents`, d, d_tangent, product, needs_input_grad) is `backward`
            differentiated: it adds to `product` and returns the gradient of x and its derivative. Together
            with `push` it gives Hessian-vector products (Pearlmutter 1994).
    """

    forward: Callable[[nn.Module, Params, Tensor, Draws], Tensor]
    backward: Callable[[nn.Module, Params, Tensor, Tensor, Tensor, Params, bool], Tensor | None] | None = None
    push: Callable[[nn.Module, Params, Params, Tensor, Tensor | None, Tensor], Tensor | None] | None = None
    pull: (
        Callable[
            [nn.Module, Params, Params, Tangents, Tensor, Tensor, Params, bool], tuple[Tensor, Tensor] | None
        ]
        | None
    ) = None
