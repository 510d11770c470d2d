"""Federated data sets, loaded by name."""

from __future__ import annotations

import difflib
import inspect
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fl_meta.data.federated import FederatedDataset

_PUBLISHED, _SYNTHETIC = "fl_meta.data.published", "fl_meta.data.synthetic"

# The loader of each data set, as "module:function": a reader is imported when it is asked for.
LOADERS: dict[str, str] = {
    "writers": f"{_SYNTHETIC}.writers:load_writers",
    "shakespeare": f"{_PUBLISHED}.shakespeare:load_shakespeare",
    "mnist_by_writer": f"{_PUBLISHED}.handwriting:load_mnist_by_writer",
    "unipen62": f"{_PUBLISHED}.handwriting:load_unipen62",
    "emnist_tff": f"{_PUBLISHED}.tensorflow_federated:load_emnist_tff",
    "shakespeare_tff": f"{_PUBLISHED}.tensorflow_federated:load_shakespeare_tff",
    "cifar100_tff": f"{_PUBLISHED}.tensorflow_federated:load_cifar100_tff",
    "emnist_fedjax": f"{_PUBLISHED}.fedjax:load_emnist_fedjax",
    "shakespeare_fedjax": f"{_PUBLISHED}.fedjax:load_shakespeare_fedjax",
    "femnist_leaf": f"{_PUBLISHED}.leaf:load_femnist_leaf",
    "shakespeare_leaf": f"{_PUBLISHED}.leaf:load_shakespeare_leaf",
    "emnist": f"{_PUBLISHED}.emnist:load_emnist",
    "cifar10": f"{_PUBLISHED}.cifar:load_cifar10",
    "cifar100": f"{_PUBLISHED}.cifar:load_cifar100",
    "cifar10_subset": f"{_PUBLISHED}.cifar:load_cifar10_subset",
    "cifar100_subset": f"{_PUBLISHED}.cifar:load_cifar100_subset",
    "synthetic": f"{_SYNTHETIC}.linear_mixture:load_synthetic",
}


def load_dataset(name: str, **options: Any) -> FederatedDataset:
    """Load a federated data set by name.

    Args:
        name: one of `LOADERS`.
        options: the options of that data set's loader, for example `num_writers` of "writers".

    Raises:
        ValueError: if there is no data set of that name (the message suggests the nearest), it has no such
            option or refuses its value, or a file is damaged or does not hold the whole data set.
        FileNotFoundError: if a file is missing; the message says what to run or what to put where.
        ModuleNotFoundError: if the package that reads the files is not installed; the message says how to.

    Example:
        >>> data = load_dataset("writers", num_writers=50)
        >>> train, held_out = data.split_clients(held_out=0.25, seed=0)
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(name, LOADERS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}{hint} (choose one of {', '.join(sorted(LOADERS))})")
    load = resolve_name(LOADERS[name])
    signature = inspect.signature(load)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(f"{name!r}: {error}; its options are {', '.join(signature.parameters)}") from None
    data: FederatedDataset = load(**options)
    return data
