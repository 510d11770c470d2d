"""Artificial clients with the examples of a few synthetic writers, divided by labels."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fl_meta.data.federated import FederatedDataset
from fl_meta.data.loading import load_dataset
from fl_meta.data.partition import by_labels_dirichlet

ALPHAS = (0.04, 0.1, 0.4, 1.0, 4.0, 40.0)
CLIENTS = 30


@cache
def few_writers() -> FederatedDataset:
    """The writers whose examples are divided, as many as there are artificial clients."""
    return load_dataset("writers", num_writers=CLIENTS)


def artificial_clients(alpha: float) -> NDArray[np.int64]:
    """How often each of 30 artificial clients has each label [clients, labels], by Dirichlet(α) shares.

    A client without examples has a row of zeros.

    Raises:
        ValueError: if `alpha` is not above 0 and finite.

    Example:
        >>> artificial_clients(0.4).shape
        (30, 62)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a client with fewer than two examples is left out
        counts = by_labels_dirichlet(few_writers().pooled(), CLIENTS, alpha=alpha, seed=0).class_counts()
    return np.pad(counts, ((0, CLIENTS - len(counts)), (0, 0)))
