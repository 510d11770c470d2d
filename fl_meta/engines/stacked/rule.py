"""What a layer rule consists of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

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


def _in_one_table(x: Tensor, weight: Tensor) -> Tensor:
    """Codes as rows of the clients' tables, one below the other."""
    clients, codes = weight.shape[:2]
    shift = torch.arange(0, clients * codes, codes, device=x.device)
    return x.long() + shift.view(-1, *[1] * (x.ndim - 1))
