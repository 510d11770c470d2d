"""Federated data sets, loaded by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from fl_meta.data.federated import FederatedDataset
from fl_meta.data.published.cifar import (
    load_cifar10,
    load_cifar10_subset,
    load_cifar100,
    load_cifar100_subset,
)
from fl_meta.data.published.emnist import load_emnist
from fl_meta.data.published.fedjax import load_emnist_fedjax, load_shakespeare_fedjax
from fl_meta.data.published.handwriting import load_mnist_by_writer, load_unipen62
from fl_meta.data.published.leaf import load_femnist_leaf, load_shakespeare_leaf
from fl_meta.data.published.shakespeare import load_shakespeare
from fl_meta.data.published.tensorflow_federated import (
    load_cifar100_tff,
    load_emnist_tff,
    load_shakespeare_tff,
)
from fl_meta.data.synthetic.linear_mixture import load_synthetic
from fl_meta.data.synthetic.writers import load_writers

LOADERS: dict[str, Callable[..., FederatedDataset]] = {
    "writers": load_writers,
    "shakespeare": load_shakespeare,
    "mnist_by_writer": load_mnist_by_writer,
    "unipen62": load_unipen62,
    "emnist_tff": load_emnist_tff,
    "shakespeare_tff": load_shakespeare_tff,
    "cifar100_tff": load_cifar100_tff,
    "emnist_fedjax": load_emnist_fedjax,
    "shakespeare_fedjax": load_shakespeare_fedjax,
    "femnist_leaf": load_femnist_leaf,
    "shakespeare_leaf": load_shakespeare_leaf,
    "emnist": load_emnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "cifar10_subset": load_cifar10_subset,
    "cifar100_subset": load_cifar100_subset,
    "synthetic": load_synthetic,
}


def load_dataset(name: str, **options: Any) -> FederatedDataset:
    """Load a federated data set by name: `load_dataset("writers", num_writers=50)`.

    Args:
        name: one of `LOADERS`.
        options: what the loader of that name takes.

    Raises:
        ValueError: if there is no data set of that name (the message names the nearest), or it has no such
            option.
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(name, LOADERS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}{hint} (there are {', '.join(sorted(LOADERS))})")
    signature = inspect.signature(LOADERS[name])
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(f"{name!r}: {error}; it has: {', '.join(signature.parameters)}") from None
    return LOADERS[name](**options)
