"""The n-gram baseline: what it guesses, by hand and against a slow and plain version."""

from collections import Counter, defaultdict

import numpy as np
import pytest

import fl_meta
from fl_meta.data.encoding import BLANK, VOCABULARY, encode, examples_of
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.evaluation.n_grams import n_gram_accuracies


def text_data(texts: dict[str, tuple[str, str]], positions: int = 80) -> FederatedDataset:
    """Clients with a train text and a test text each."""
    x, y, owners, for_test = [], [], [], []
    for client, parts in texts.items():
        for part, text in enumerate(parts):
            inputs, labels = examples_of(encode(text), positions)
            x.append(inputs)
            y.append(labels)
            owners += [client] * len(inputs)
            for_test += [part == 1] * len(inputs)
    return FederatedDataset.from_arrays(
        np.concatenate(x), np.concatenate(y), owners, test_mask=for_test, num_classes=len(VOCABULARY)
    )


def slow_accuracies(train: FederatedDataset, clients: FederatedDataset, order: int) -> list[float]:
    """The same by dictionaries of counts, one character after the other."""
    tables: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def characters(x: np.ndarray, y: np.ndarray) -> list[tuple[list[int], int]]:
        """Every character with all that is before it in its example."""
        found = []
        for inputs, labels in zip(x.tolist(), y.tolist(), strict=True):
            before = [BLANK] * order + inputs
            found += [(before[: order + i + 1], label) for i, label in enumerate(labels) if label != PADDING]
        return found

    for client in train:
        for before, label in characters(client.train_x, client.train_y):
            for length in range(order):
                tables[tuple(before[len(before) - length :])][label] += 1
    accuracies = []
    for client in clients:
        right = []
        for before, label in characters(client.test_x, client.test_y):
            contexts = (tuple(before[len(before) - n :]) for n in reversed(range(order)))
            counts = next(tables[context] for context in contexts if context in tables)
            right.append(min(counts, key=lambda one: (-counts[one], one)) == label)
        accuracies.append(float(np.mean(right)))
    return accuracies


def test_order_one_is_always_the_most_frequent_character() -> None:
    data = text_data({"a": ("aaab", "aab"), "b": ("abbb", "bbba"), "c": ("a", "c")})
    # a is the most frequent one of all train parts together, though not of b's.
    np.testing.assert_allclose(n_gram_accuracies(data, data, 1), [2 / 3, 1 / 4, 0])


def test_a_longer_context_knows_more_and_an_unseen_one_backs_off() -> None:
    train = text_data({"a": ("abacabac", "a")})
    # After b and c there is always an a. What follows an a, only what is before it says.
    held_out = text_data({"b": ("a", "abac"), "new": ("a", "xba")})
    one, two, three = (n_gram_accuracies(train, held_out, order) for order in (1, 2, 3))
    np.testing.assert_allclose(one, [2 / 4, 1 / 3])
    # At first a, as in training; after a, b (as often as c, with the smaller code); after b, a. After x,
    # which was never seen, it is the most frequent character, a.
    np.testing.assert_allclose(two, [3 / 4, 1 / 3])
    np.testing.assert_allclose(three, [1, 1 / 3])


@pytest.mark.parametrize("order", [1, 2, 4, 8])
def test_it_agrees_with_dictionaries_of_counts(order: int) -> None:
    random = np.random.default_rng(order)
    texts = ["".join(random.choice(list("to be,"), 60)) for _ in range(8)]
    data = text_data({f"{i}": (texts[i], texts[i + 4] + "!") for i in range(4)}, positions=25)
    train, held_out = data.subset(["0", "1"]), data.subset(["2", "3"])
    np.testing.assert_allclose(
        n_gram_accuracies(train, held_out, order), slow_accuracies(train, held_out, order)
    )


def test_only_the_train_parts_of_the_training_clients_are_counted() -> None:
    data = text_data({"a": ("xy", "zzzz"), "b": ("zzzz", "xz")})
    (share,) = n_gram_accuracies(data.subset(["a"]), data.subset(["b"]), 1)
    assert share == 1 / 2  # x, the first of two that are equally frequent


def test_it_says_what_it_cannot_do() -> None:
    data = text_data({"a": ("ab", "ab")})
    with pytest.raises(ValueError, match="order=10 is too large; with 100 characters it is at most 9"):
        n_gram_accuracies(data, data, 10)
    with pytest.raises(ValueError, match="order=0"):
        n_gram_accuracies(data, data, 0)
    images = fl_meta.load_dataset("writers", num_writers=2)
    with pytest.raises(ValueError, match="no text"):
        n_gram_accuracies(images, images, 1)
    silent = FederatedDataset.from_arrays(
        data.x, data.y, ["a"] * len(data.y), test_mask=[False] * len(data.y)
    )
    with pytest.raises(ValueError, match="no test part"):
        n_gram_accuracies(data, silent, 1)
