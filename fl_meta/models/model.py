"""The functional view of a module that everything else uses: init, apply, loss, score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.data.federated import PADDING
from fl_meta.models.parameters import Params


def draws_random_numbers(part: nn.Module) -> bool:
    """Whether a module itself, apart from its children, draws random numbers in training."""
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    if isinstance(part, nn.RNNBase | nn.MultiheadAttention):
        return part.dropout > 0
    return isinstance(part, nn.RReLU)


@dataclass(frozen=True)
class Model:
    """A functional view of a module: parameters are an argument, and nothing is kept between calls.

    Any module will do that maps inputs [batch, ...] to logits [batch, classes], or to
    [batch, positions, classes] for text. Random numbers in training must come from modules such as
    `nn.Dropout`, which are found and seeded; a call of `F.dropout` in `forward` is not.

    Example:
        >>> mine = fl_meta.Model("mine", lambda: torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(784, 62)))
        >>> mine.apply(mine.init(seed=0), torch.zeros(1, 28, 28)).shape
        torch.Size([1, 62])

    Attributes:
        name: shown in tables, and compared when a run is resumed from a checkpoint.
        build: makes the module, with fresh parameters drawn from torch's global generator.
    """

    name: str
    build: Callable[[], nn.Module]

    def __post_init__(self) -> None:
        if isinstance(self.build, nn.Module):
            raise ValueError(
                f"model {self.name!r}: build is a {type(self.build).__name__}; give a function that makes "
                "it, for example lambda: nn.Linear(784, 62), so that it can be made anew from a seed"
            )

    @cached_property
    def module(self) -> nn.Module:
        """The module that runs; its own parameters are never used.

        Raises:
            ValueError: if it keeps running statistics, which would make a client's result depend on the
                clients before it.
        """
        with torch.random.fork_rng(devices=[]):
            module = self.build()
        for title, part in module.named_modules():
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats:
                raise ValueError(
                    f"model {self.name!r}: {type(part).__name__} {title!r} keeps running statistics between "
                    "batches; use GroupNorm, or track_running_stats=False"
                )
        return module

    @cached_property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return any(map(draws_random_numbers, self.module.modules()))

    @cached_property
    def num_parameters(self) -> int:
        """The number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def init(self, seed: int, dtype: torch.dtype = torch.float32) -> Params:
        """Fresh parameters: a function of `seed` alone."""
        _ = self.module  # built now, because tensors made inside torch.func.grad would stay tied to it
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.build()
        return {name: tensor.detach().to(dtype) for name, tensor in module.named_parameters()}

    def check(self, params: Params, x: Tensor, num_classes: int) -> None:
        """Try the model on one example, so that a misfit is reported before any work.

        Args:
            params: parameters with the names and shapes of `init`.
            x: one example as a batch [1, ...].
            num_classes: number of labels of the data.

        Raises:
            ValueError: if the parameters do not fit the model, or the model does not fit the example.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in self.module.named_parameters()}
        given = {name: tuple(tensor.shape) for name, tensor in params.items()}
        if given != shapes:
            odd = next(n for n in [*shapes, *given] if shapes.get(n) != given.get(n))
            raise ValueError(
                f"params do not fit the model {self.name!r}: {odd!r} has shape {given.get(odd)}, the model's "
                f"has {shapes.get(odd)}; give model.init(seed) or the params of a run of this model"
            )
        try:
            with torch.no_grad():
                logits = self.apply(params, x.to(next(iter(params.values())).device))
        except (RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"the model {self.name!r} does not read examples of shape {tuple(x.shape[1:])} ({x.dtype}): "
                f"{error}"
            ) from error
        if logits.ndim < 2 or logits.shape[-1] < num_classes:
            raise ValueError(
                f"the model {self.name!r} gives logits of shape {tuple(logits.shape[1:])} for an example; "
                f"the data has {num_classes} classes"
            )

    def apply(self, params: Params, x: Tensor, dropout_seed: int | None = None) -> Tensor:
        """Logits [batch, classes] or [batch, positions, classes].

        Args:
            params: the parameters; floating-point inputs are cast to their type.
            x: inputs [batch, ...].
            dropout_seed: None evaluates without dropout; a number trains with the masks that it fixes.
        """
        if x.is_floating_point():
            x = x.to(next(iter(params.values())).dtype)
        training = dropout_seed is not None
        self.module.train(training)
        if not (training and self.has_dropout):
            return cast(Tensor, functional_call(self.module, params, (x,)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cast(int, dropout_seed))
            return cast(Tensor, functional_call(self.module, params, (x,)))

    def loss(self, params: Params, x: Tensor, y: Tensor, dropout_seed: int | None = None) -> Tensor:
        """Mean cross-entropy in nats over all labels that are not `PADDING`; a scalar.

        Args: as in `apply`; y: labels [batch] or [batch, positions].
        """
        logits = self.apply(params, x, dropout_seed)
        return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten().long(), ignore_index=PADDING)

    @torch.no_grad()
    def score(self, params: Params, x: Tensor, y: Tensor, chunk: int = 1024) -> tuple[float, int, int]:
        """Summed loss in nats, number of correct predictions and number of predictions, without dropout."""
        totals = [
            score_logits(self.apply(params, x_part).flatten(0, -2), y_part.flatten())
            for x_part, y_part in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True)
        ]
        loss, correct, count = (float(sum(column)) for column in zip(*totals, strict=True))
        return loss, int(correct), int(count)


def score_logits(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Summed loss in nats, number of correct predictions and number of predictions, over the last axis of y.

    Args:
        logits: [..., predictions, classes].
        y: labels [..., predictions]; those that are `PADDING` do not count.
    """
    valid = y != PADDING
    losses = nn.functional.cross_entropy(
        logits.flatten(0, -2), y.flatten().long(), ignore_index=PADDING, reduction="none"
    )
    # argmax of NaN is an arbitrary class: a model that has diverged is never right.
    right = (logits.argmax(-1) == y) & valid & ~logits.isnan().any(-1)
    return losses.view(y.shape).sum(-1), right.sum(-1), valid.sum(-1)
