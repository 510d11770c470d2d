"""Optimizers: frozen settings, and one step of the server optimizer as a pure function."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fl_meta.models.parameters import Params
from fl_meta.support.validation import positive_number


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent for clients and the server, as in `torch.optim.SGD`.

    Example:
        >>> SGD(1.0, momentum=0.9)
        SGD(learning_rate=1.0, momentum=0.9, weight_decay=0.0)

    Attributes:
        learning_rate: step size, above 0.
        momentum: in [0, 1).
        weight_decay: factor of the L2 penalty's gradient, 0 or more.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        positive_number("learning_rate", self.learning_rate)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum} is not in [0, 1)")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay={self.weight_decay} is not 0 or more")
        _to_floats(self)


@dataclass(frozen=True)
class Adam:
    """Adam for the server, as in `torch.optim.Adam`.

    Example:
        >>> Adam(1e-3)
        Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08)

    Attributes:
        learning_rate: step size, above 0.
        beta1: decay of the mean of gradients, in [0, 1).
        beta2: decay of the mean of squared gradients, in [0, 1).
        epsilon: added to the root of the mean of squares, above 0.
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        positive_number("learning_rate", self.learning_rate)
        positive_number("epsilon", self.epsilon)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not in [0, 1)")
        _to_floats(self)


def _to_floats(optimizer: SGD | Adam) -> None:
    # A checkpoint keeps the configuration as JSON, which NumPy's numbers do not have.
    for field in fields(optimizer):
        object.__setattr__(optimizer, field.name, float(getattr(optimizer, field.name)))


OptimizerState = dict[str, dict[str, Tensor]]  # parameter name -> what torch.optim would keep for it


def server_step(
    optimizer: SGD | Adam, params: Params, state: OptimizerState, pseudo_gradient: Params
) -> tuple[Params, OptimizerState]:
    """One step of the server optimizer, with the pseudo-gradient in place of a gradient.

    The arithmetic is that of torch.optim, whose objects take longer to create than a step of a small model,
    and seconds to import. Nothing is changed in place, so an interrupt during a step leaves `params` and
    `state` intact. Before the first step the state is empty. A parameter without a pseudo-gradient is frozen
    and stays as it is, whatever the weight decay.

    Source: the "server optimizer" of the paper's section on Personalized FedAvg.
    """
    stepped = {
        name: _tensor_step(optimizer, tensor, state.get(name, {}), pseudo_gradient[name])
        for name, tensor in params.items()
        if name in pseudo_gradient
    }
    new_state = {name: kept for name, (_, kept) in stepped.items() if kept}
    return params | {name: tensor for name, (tensor, _) in stepped.items()}, new_state


def _tensor_step(
    optimizer: SGD | Adam, tensor: Tensor, state: dict[str, Tensor], gradient: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    if isinstance(optimizer, SGD):
        direction = gradient
        if optimizer.weight_decay:
            direction = direction.add(tensor, alpha=optimizer.weight_decay)
        kept = {}
        if optimizer.momentum:
            if state:
                direction = state["momentum_buffer"].mul(optimizer.momentum).add_(direction)
            kept["momentum_buffer"] = direction.clone()
        return tensor.add(direction, alpha=-optimizer.learning_rate), kept
    if not state:
        zeros = torch.zeros_like(tensor)
        state = {"step": torch.tensor(0.0), "exp_avg": zeros, "exp_avg_sq": zeros}
    number, beta1, beta2 = state["step"] + 1, optimizer.beta1, optimizer.beta2
    mean = state["exp_avg"].lerp(gradient, 1 - beta1)
    square = state["exp_avg_sq"].mul(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    # Both means start at zero and are corrected for it.
    root = (square.sqrt() / (1 - beta2 ** number.item()) ** 0.5).add_(optimizer.epsilon)
    rate = optimizer.learning_rate / (1 - beta1 ** number.item())
    return tensor.addcdiv(mean, root, value=-rate), {"step": number, "exp_avg": mean, "exp_avg_sq": square}
