"""Artificial clients for data sets without users: by Dirichlet shares of labels, or by Pachinko allocation.

Both functions divide the examples of all clients and both parts, usually those of the one client "pooled",
among new clients, and split the examples of each new client 80/20 into a train and a test part.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl_meta.data.federated import FederatedDataset
from fl_meta.support.array_types import Array, IntArray, plain_array
from fl_meta.support.random_streams import random_stream
from fl_meta.support.validation import positive_number, whole_number

LEAST_EXAMPLES = 2  # of a client: one to train on and one to test on
LARGEST_CONCENTRATION = 1e100  # the sums in a draw of much larger ones would be infinite


def by_labels_dirichlet(
    data: FederatedDataset,
    num_clients: int,
    *,
    alpha: float = 0.4,
    num_groups: int | None = None,
    fraction: float = 1.0,
    seed: int = 0,
) -> FederatedDataset:
    """Divide the examples of each label, or of each group of labels, by Dirichlet shares of the clients.

    For each group, p ~ Dirichlet(alpha, …, alpha) over the clients, and the numbers of its examples that the
    clients get are ~ Multinomial(p). A client with fewer than 2 examples is left out: there is a warning, and
    `source` says so.

    Args:
        data: one label for each example; its clients and parts are put together.
        num_clients: number of new clients.
        alpha: parameter of the Dirichlet distribution; the smaller, the more the clients differ.
        num_groups: number of groups, drawn at random and about equally large, that the labels are put into;
            by default each label is a group of its own.
        fraction: share of the examples to divide, drawn at random.
        seed: seed of all draws.

    Returns:
        Clients `client_000`, …; 80 % of each one's examples, rounded down, are its train part.

    Raises:
        ValueError: if `alpha` is not above 0 and finite, `fraction` not in (0, 1], `num_groups` not from 1 to
            the number of labels, there are fewer than two examples for each client, or several labels for an
            example.

    Source: Marfoq et al. 2021 and its code (EMNIST: 100 clients, a tenth of the images, each label a group;
    CIFAR-10: 80 clients, 3 groups), after Wang et al. 2020 (FedMA).

    Example:
        >>> pooled = FederatedDataset.from_arrays(np.zeros((60, 2)), np.arange(60) % 3, ["pooled"] * 60)
        >>> data = by_labels_dirichlet(pooled, num_clients=4, alpha=10.0)
    """
    alpha = _concentration("alpha", alpha)
    classes = data.num_classes
    num_groups = classes if num_groups is None else whole_number("num_groups", num_groups)
    if num_groups > classes:
        raise ValueError(
            f"num_groups={num_groups}, but {data.name!r} has {classes} labels; choose at most that many"
        )
    random = random_stream(seed, "partition by labels")
    positions, labels = _examples(data, num_clients, fraction, random)
    owners = np.empty(len(positions), dtype=np.int64)
    for group in np.array_split(random.permutation(classes), num_groups):
        members = random.permutation(np.flatnonzero(np.isin(labels, group)))
        shares = random.dirichlet(np.full(num_clients, alpha))
        owners[members] = np.repeat(np.arange(num_clients), random.multinomial(len(members), shares))
    grouping = "each label" if num_groups == classes else f"each of {num_groups} groups of labels"
    how = f"{grouping} by Dirichlet({alpha:g}) shares of {num_clients} clients, seed={seed}"
    return _divided(data, positions, owners, num_clients, how, random)


def pachinko(
    data: FederatedDataset,
    num_clients: int,
    coarse_of_class: ArrayLike,
    *,
    alpha: float = 0.4,
    beta: float = 10.0,
    fraction: float = 1.0,
    seed: int = 0,
) -> FederatedDataset:
    """Pachinko allocation: equally many examples per client, by its own shares of coarse and fine labels.

    A client's shares of the coarse labels are ~ Dirichlet(alpha), and those of the fine labels within each
    coarse one ~ Dirichlet(beta). For each of its examples a coarse label is drawn, then a fine one, then an
    example of that label that no client has yet. A label whose examples are used up is no longer drawn, and
    the shares of the others grow in proportion.

    Args:
        data: one label for each example, the fine one; its clients and parts are put together.
        num_clients: number of new clients; examples that do not divide evenly among them are left out.
        coarse_of_class: the coarse label of each fine one [num_classes], numbered from 0.
        alpha: parameter of the Dirichlet distribution over coarse labels.
        beta: parameter of those over the fine labels within a coarse one.
        fraction: share of the examples to divide, drawn at random.
        seed: seed of all draws.

    Returns:
        Clients `client_000`, …; 80 % of each one's examples, rounded down, are its train part.

    Raises:
        ValueError: if `alpha` or `beta` is not above 0 and finite, `fraction` not in (0, 1],
            `coarse_of_class` does not name a coarse label for each class, there are fewer than two examples
            for each client, or several labels for an example.

    Source: Reddi et al. 2021, appendix; CIFAR-100 with 100 clients of 600 images there and in Marfoq et al.
    2021. Pachinko: Li and McCallum 2006.

    Example:
        >>> pooled = FederatedDataset.from_arrays(np.zeros((60, 2)), np.arange(60) % 4, ["pooled"] * 60)
        >>> data = pachinko(pooled, num_clients=3, coarse_of_class=[0, 0, 1, 1])
    """
    alpha = _concentration("alpha", alpha)
    beta = _concentration("beta", beta)
    coarse = plain_array("coarse_of_class", coarse_of_class)
    if coarse.shape != (data.num_classes,) or coarse.dtype.kind not in "iu" or coarse.min() < 0:
        raise ValueError(
            f"coarse_of_class has shape {coarse.shape} and type {coarse.dtype}; give a whole number of 0 or "
            f"more for each of the {data.num_classes} classes of {data.name!r}"
        )
    random = random_stream(seed, "Pachinko allocation")
    positions, labels = _examples(data, num_clients, fraction, random)
    unused = [random.permutation(np.flatnonzero(labels == fine)).tolist() for fine in range(len(coarse))]
    branches = [np.flatnonzero(coarse == number) for number in np.unique(coarse)]
    owners = np.full(len(positions), -1)
    for client in range(num_clients):
        left = np.array([len(examples) for examples in unused])
        top = _Shares(alpha, np.array([left[fine].any() for fine in branches]), random)
        below = [_Shares(beta, left[fine] > 0, random) for fine in branches]
        for first, second in random.random((len(positions) // num_clients, 2)):
            branch = top.at(first)
            leaf = below[branch].at(second)
            examples = unused[branches[branch][leaf]]
            owners[examples.pop()] = client
            if not examples:
                below[branch].remove(leaf)
                if not below[branch].open.any():
                    top.remove(branch)
    given = owners >= 0
    how = f"Pachinko allocation ({alpha:g}, {beta:g}) to {num_clients} clients, seed={seed}"
    if not given.all():
        how += f"; a rest of {np.count_nonzero(~given)} examples is left out"
    return _divided(data, positions[given], owners[given], num_clients, how, random)


class _Shares:
    """Dirichlet shares of labels, from which a label can be removed."""

    def __init__(self, concentration: float, is_open: NDArray[np.bool_], random: np.random.Generator) -> None:
        self.concentration, self.open, self.random = concentration, is_open.copy(), random
        self._draw()

    def _draw(self) -> None:
        self.shares = np.zeros(len(self.open))
        if self.open.any():
            self.shares[self.open] = self.random.dirichlet(np.full(self.open.sum(), self.concentration))
            self._add_up()

    def _add_up(self) -> None:
        sums = np.cumsum(self.shares)
        self.ends = (sums / sums[-1]).tolist()

    def at(self, number: float) -> int:
        """The label at a number in [0, 1)."""
        return bisect_right(self.ends, number)

    def remove(self, label: int) -> None:
        """A label is used up: the others grow in proportion."""
        self.open[label], self.shares[label] = False, 0
        if self.shares.any():
            self._add_up()
        else:  # a tiny concentration gave all to this label and exactly nothing to the others
            self._draw()


def _concentration(name: str, value: float) -> float:
    value = positive_number(name, value)
    if value > LARGEST_CONCENTRATION:
        raise ValueError(
            f"{name}={value} must be a finite number above 0, and at most {LARGEST_CONCENTRATION:g}; then "
            "all shares are equal"
        )
    return value


def _examples(
    data: FederatedDataset, num_clients: int, fraction: float, random: np.random.Generator
) -> tuple[IntArray, Array]:
    """Positions in `data.x` of the examples to divide, and their labels."""
    num_clients = whole_number("num_clients", num_clients)
    if not (isinstance(fraction, int | float | np.number) and 0 < fraction <= 1):
        raise ValueError(f"fraction={fraction!r} is not in (0, 1]; it is a share of the examples")
    if data.y.ndim != 1:
        raise ValueError(
            f"{data.name!r} has labels of shape {data.y.shape[1:]} for each example; only examples with one "
            "label each can be divided by label"
        )
    parts = zip(data.starts, data.counts, strict=True)
    positions = np.concatenate([np.arange(start, start + count) for start, count in parts])
    if fraction < 1:
        positions = np.sort(random.permutation(positions)[: int(fraction * len(positions))])
    if len(positions) < LEAST_EXAMPLES * num_clients:
        most = len(positions) // LEAST_EXAMPLES
        advice = f"choose at most {most} clients" if most else "choose a larger fraction"
        raise ValueError(
            f"num_clients={num_clients}, but there are {len(positions)} examples of {data.name!r} to divide; "
            f"each client needs {LEAST_EXAMPLES}: {advice}"
        )
    return positions, data.y[positions]


def _divided(
    data: FederatedDataset,
    positions: IntArray,
    owners: IntArray,
    num_clients: int,
    how: str,
    random: np.random.Generator,
) -> FederatedDataset:
    """The data set of the clients that own the examples at these positions, each with its own split."""
    shuffled = random.permutation(len(positions))
    order = shuffled[np.argsort(owners[shuffled], kind="stable")]
    counts = np.bincount(owners, minlength=num_clients)
    enough = counts >= LEAST_EXAMPLES
    if not enough.all():
        lost = f"{np.sum(~enough)} clients, {counts[~enough].sum()} examples"
        how += f"; clients with fewer than 2 are left out: {lost}"
        warnings.warn(
            f"{enough.sum()} clients instead of {num_clients}: those with fewer than {LEAST_EXAMPLES} "
            f"examples are left out ({lost}). To lose fewer, choose a larger alpha, fewer clients or another "
            "seed",
            stacklevel=3,
        )
    ids = [f"client_{number:03d}" for number in np.flatnonzero(enough)]
    positions, counts = positions[order[enough[owners[order]]]], counts[enough]
    train_counts = counts * 4 // 5
    return replace(
        data,
        x=np.asarray(data.x)[positions],
        y=data.y[positions],
        client_ids=tuple(ids),
        starts=np.cumsum(counts) - counts,
        train_counts=train_counts,
        test_counts=counts - train_counts,
        source=f"{data.source}; divided among artificial clients: {how}",
    )
