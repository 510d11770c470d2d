"""Arithmetic on parameters: a model's parameters, a gradient and an update are all `dict[str, Tensor]`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Params = dict[str, Tensor]


def map_params(function: Callable[..., Tensor], *trees: Params) -> Params:
    """Apply `function` to the tensors of the same name: `map_params(torch.add, a, b)` is a + b.

    Raises:
        ValueError: if the trees do not have the same names.
    """
    first = trees[0]
    for other in trees[1:]:
        if other.keys() != first.keys():
            raise ValueError(
                f"parameters differ in names: {sorted(first.keys() ^ other.keys())} in one and not the other"
            )
    return {name: function(*(tree[name] for tree in trees)) for name in first}


def add(a: Params, b: Params, scale: float = 1.0) -> Params:
    """`a + scale · b`."""
    return map_params(lambda x, y: torch.add(x, y, alpha=scale), a, b)


def scale(a: Params, factor: float) -> Params:
    """`factor · a`."""
    return {name: tensor * factor for name, tensor in a.items()}


def zeros_like(a: Params) -> Params:
    """Zeros of the same shapes."""
    return map_params(torch.zeros_like, a)


def with_zeros(a: Params, like: Params) -> Params:
    """`a` with zeros for what it lacks of `like`, in the order of `like`."""
    if a.keys() == like.keys():
        return a
    dtype = next(iter(a.values())).dtype
    return {n: a[n] if n in a else torch.zeros_like(tensor, dtype=dtype) for n, tensor in like.items()}


def dot(a: Params, b: Params) -> float:
    """The inner product over all entries."""
    return sum(map_params(lambda x, y: (x * y).sum(), a, b).values(), start=torch.zeros(())).item()


def norm(a: Params) -> float:
    """The Euclidean norm over all entries."""
    return math.sqrt(dot(a, a))


def relative_error(actual: Params, expected: Params) -> float:
    """`‖actual − expected‖ / ‖expected‖`."""
    return norm(add(actual, expected, -1.0)) / norm(expected)


def all_finite(a: Params) -> bool:
    """Whether no entry is NaN or infinite."""
    # A sum of finite numbers may overflow, but one with NaN or infinity in it is never finite; it is fast.
    return all(
        math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all()) for tensor in a.values()
    )


def flatten(a: Params) -> Tensor:
    """All entries one after the other [num_parameters], in the order of the names."""
    return torch.cat([tensor.flatten() for tensor in a.values()])


def unflatten(flat: Tensor, like: Params) -> Params:
    """The named tensors inside `flat` [..., num_parameters], as views of shape [..., *shape]."""
    sizes = [tensor.numel() for tensor in like.values()]
    parts = zip(like.items(), torch.split(flat, sizes, dim=-1), strict=True)
    return {name: part.view((*flat.shape[:-1], *tensor.shape)) for (name, tensor), part in parts}
