"""Federated data sets, loaded by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from fl_meta.data.federated import FederatedDataset
from fl_meta.data.real import load_mnist_by_writer, load_shakespeare_tff, load_unipen62
from fl_meta.data.shakespeare import load_shakespeare
from fl_meta.data.writers import load_writers

LOADERS: dict[str, Callable[..., FederatedDataset]] = {
    "writers": load_writers,
    "shakespeare": load_shakespeare,
    "mnist_by_writer": load_mnist_by_writer,
    "unipen62": load_unipen62,
    "shakespeare_tff": load_shakespeare_tff,
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
