"""Tables of which character follows which: a baseline for models of text, without any gradient."""

from __future__ import annotations

import numpy as np

from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.support.array_types import Array, FloatArray, IntArray
from fl_meta.support.validation import whole_number


def n_gram_accuracies(train: FederatedDataset, clients: FederatedDataset, order: int) -> FloatArray:
    """How often an n-gram guesses the next character of clients' test parts.

    It counts the training clients' characters after each context of at most `order` − 1 characters. Its guess
    is the character that most often followed the longest context seen in training (*back-off*); of several,
    the one with the smallest code. With order 1 this is always the most frequent character. As for
    `char_mlp`, an example begins with `BLANK`, so no context reaches into the example before it.

    Args:
        train: text data whose train parts are counted, all clients together.
        clients: text data with the same characters.
        order: the n of the n-gram.

    Returns:
        for each client the share of right guesses in its test part [clients].

    Raises:
        ValueError: if the order is below 1 or too large for 64-bit numbers (above 9 with 100 characters),
            the data are not text, or a client has no test part.

    Example:
        >>> train, held_out = fl_meta.load_dataset("shakespeare").split_clients(0.25, seed=0)
        >>> fl_meta.evaluation.n_gram_accuracies(train, held_out, order=1).mean()  # doctest: +SKIP
        0.16

    Source: Katz's backing off to a shorter context, without his discounts, as only the best guess counts.
    """
    classes = train.num_classes
    most = int(62 / np.log2(classes))
    if whole_number("order", order) > most:
        raise ValueError(f"order={order} is too large; with {classes} characters it is at most {most}")
    for data in (train, clients):
        if data.x.ndim != 2 or data.y.shape != data.x.shape or data.x.dtype.kind not in "iu":
            raise ValueError(f"{data.name!r} is no text: it needs a label for each position of an example")
    if not all(len(client.test_y) for client in clients):
        raise ValueError(f"some clients of {clients.name!r} have no test part, so they cannot be scored")
    x = np.concatenate([client.train_x for client in train])
    y = np.concatenate([client.train_y for client in train])
    tables = [_most_frequent(_contexts(x, n, classes), y, classes) for n in range(order)]
    accuracies = []
    for client in clients:
        guesses = np.zeros(client.test_y.shape, dtype=np.int64)
        for length, (seen, following) in enumerate(tables):
            contexts = _contexts(client.test_x, length, classes)
            places = np.minimum(np.searchsorted(seen, contexts), len(seen) - 1)
            guesses = np.where(seen[places] == contexts, following[places], guesses)
        accuracies.append((guesses == client.test_y)[client.test_y != PADDING].mean())
    return np.array(accuracies)


def _contexts(x: Array, length: int, classes: int) -> IntArray:
    """The last `length` characters at each position as one number [examples, positions]."""
    contexts = np.zeros(x.shape, dtype=np.int64)
    for back in range(length):
        blank = np.full((len(x), min(back, x.shape[1])), classes - 1)
        earlier = np.concatenate([blank, x[:, : x.shape[1] - back]], axis=1)
        contexts += earlier.astype(np.int64) * classes**back
    return contexts


def _most_frequent(contexts: IntArray, y: Array, classes: int) -> tuple[IntArray, IntArray]:
    """The contexts that occur, in ascending order, and the most frequent next character of each."""
    real = y != PADDING
    pairs, counts = np.unique(contexts[real] * classes + y[real].astype(np.int64), return_counts=True)
    seen, following = np.divmod(pairs, classes)
    order = np.lexsort((following, -counts, seen))  # by context, and the most frequent first
    seen, first = np.unique(seen[order], return_index=True)
    return seen, following[order][first]
