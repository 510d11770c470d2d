"""The Synthetic benchmark of Marfoq et al. 2021: each client's labels follow a mixture of linear rules."""

from __future__ import annotations

import numpy as np

from fl_meta.data.federated import FederatedDataset
from fl_meta.support.array_types import IntArray
from fl_meta.support.random_streams import random_stream
from fl_meta.support.validation import positive_number, whole_number

NOISE = 0.1  # standard deviation


def load_synthetic(
    num_clients: int = 300,
    *,
    dimension: int = 150,
    components: int = 3,
    alpha: float = 0.4,
    test_examples: int = 5000,
    as_released: bool = True,
    seed: int = 0,
) -> FederatedDataset:
    """Uniform vectors, with binary labels by linear rules that each client mixes in its own shares.

    theta_m ~ U[−1, 1)^dimension for each component m, x ~ U[−1, 1)^dimension, and a client's shares of the
    components ~ Dirichlet(alpha). An example of component m has the label 1 where theta_m · x + N(0, 0.1²) is
    above 0, which is round(sigmoid(…)). A client has min(floor(lognormal(4, 2)) + 50, 1000) train examples;
    the number of each component's is multinomial.

    The authors' published program does not do what their paper describes: it writes the labels of every
    component from the first example on, instead of after those of the component before. With n_m examples of
    component m in a part, example i is labelled by the last m with n_m > i, or 0 if there is none. With the
    defaults, about 27 % of the examples have the label 0 whatever x is, and 37 % have the label 1, not 50 %.

    Client i is a function of the seed and the other arguments, but not of `num_clients`.

    Args:
        num_clients: number of clients.
        dimension: dimension of x.
        components: number of linear rules in the mixture.
        alpha: parameter of the Dirichlet distribution; the smaller, the nearer a client is to a single rule.
        test_examples: test examples per client. The benchmark's 300 · 5000 take 0.9 GB; 500 do for a trial.
        as_released: label as the authors' program does; False follows their paper.
        seed: seed of all draws.

    Returns:
        `x` [examples, dimension] float32, `y` [examples] int64, 2 classes.

    Source: Marfoq et al. 2021 (arXiv 2108.10252) and its code.
    """
    num_clients = whole_number("num_clients", num_clients)
    dimension = whole_number("dimension", dimension)
    components = whole_number("components", components)
    test_examples = whole_number("test_examples", test_examples)
    alpha = positive_number("alpha", alpha)
    rules = (
        random_stream(seed, "synthetic components").uniform(-1, 1, (components, dimension)).astype(np.float32)
    )
    randoms = [random_stream(seed, "synthetic client", client) for client in range(num_clients)]
    train_counts = np.array([min(int(random.lognormal(4, 2)) + 50, 1000) for random in randoms])
    counts = train_counts + test_examples
    starts = np.cumsum(counts) - counts
    x = np.empty((int(counts.sum()), dimension), dtype=np.float32)
    y = np.empty(len(x), dtype=np.int64)
    for random, start, train in zip(randoms, starts, train_counts, strict=True):
        shares = random.dirichlet(np.full(components, alpha))
        for first, number in ((start, train), (start + train, test_examples)):
            part = x[first : first + number]
            random.random(dtype=np.float32, out=part)
            part *= 2
            part -= 1
            scores = part @ rules.T + random.normal(scale=NOISE, size=(number, 1))
            ones = np.column_stack([scores > 0, np.zeros(number, dtype=bool)])
            component = random.permutation(_components(random.multinomial(number, shares), as_released))
            y[first : first + number] = ones[np.arange(number), component]
    return FederatedDataset(
        name="synthetic",
        x=x,
        y=y,
        client_ids=tuple(f"client_{number:03d}" for number in range(num_clients)),
        starts=starts,
        train_counts=train_counts,
        test_counts=np.full(num_clients, test_examples),
        num_classes=2,
        synthetic=True,
        source=(
            f"generated as in the {'program' if as_released else 'paper'} of Marfoq et al. 2021: "
            f"dimension={dimension}, components={components}, alpha={alpha:g}, seed={seed}"
        ),
    )


def _components(numbers: IntArray, as_released: bool) -> IntArray:
    """The component that labels each example [examples], in order; `len(numbers)` means the label 0."""
    if not as_released:
        return np.repeat(np.arange(len(numbers)), numbers)
    component = np.full(numbers.sum(), len(numbers))
    for m, number in enumerate(numbers):
        component[:number] = m
    return component
