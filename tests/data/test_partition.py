"""Every example goes to one client at most, and the clients' shares follow the laws that are promised."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.data.federated import FederatedDataset
from fl_meta.data.partition import _Shares, by_labels_dirichlet, pachinko

# Where clients are left out on purpose; that there is a warning then is tested below.
few_clients = pytest.mark.filterwarnings("ignore:.* clients instead of")
COARSE = np.arange(8) // 2  # four coarse labels of two fine ones each


def pooled(labels: Any, num_classes: int | None = None) -> FederatedDataset:
    """One client; the one feature of an example is its number."""
    labels = np.asarray(labels)
    return FederatedDataset.from_arrays(
        np.arange(len(labels), dtype=np.int32)[:, None],
        labels,
        ["pooled"] * len(labels),
        test_mask=np.zeros(len(labels), dtype=bool),  # they stay in order
        num_classes=num_classes,
        source="numbers",
    )


def numbers(data: FederatedDataset) -> list[int]:
    """The examples of all clients, both parts."""
    return [int(x) for client in data for x in (*client.train_x[:, 0], *client.test_x[:, 0])]


def left_out(data: FederatedDataset) -> tuple[int, int]:
    """How many clients and examples were left out, by the data set's own words."""
    found = re.search(r"fewer than 2 are left out: (\d+) clients, (\d+) examples", data.source)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def by_client(data: FederatedDataset, num_clients: int) -> np.ndarray:
    """`class_counts` with a row of zeros for who is left out [num_clients, classes]."""
    table = np.zeros((num_clients, data.num_classes), dtype=np.int64)
    table[[int(client_id.removeprefix("client_")) for client_id in data.client_ids]] = data.class_counts()
    return table


def assert_examples(data: FederatedDataset, labels: np.ndarray, num_clients: int, expected: int) -> None:
    """No example twice, each with its label, all that are promised, and 80 % of each client to train on."""
    found = numbers(data)
    clients, examples = left_out(data)
    assert len(set(found)) == len(found) == expected - examples
    assert len(data) == num_clients - clients and examples <= clients
    np.testing.assert_array_equal(labels[np.asarray(data.x)[:, 0]], data.y)
    for client in data:
        both = len(client.train_y) + len(client.test_y)
        assert len(client.train_y) == int(0.8 * both) and len(client.test_y) >= 1
    assert data.x.dtype == np.int32


# Every example once ---------------------------------------------------------------------------------------

TASKS = st.fixed_dictionaries(
    {
        "num_clients": st.integers(1, 12),
        "alpha": st.floats(0.001, 100),
        "fraction": st.sampled_from([1.0, 1.0, 0.81]),
        "seed": st.integers(0, 2**40),
    }
)
LABELS = st.lists(st.integers(0, 7), min_size=30, max_size=90).map(np.array)


@few_clients
@given(TASKS, LABELS, st.none() | st.integers(1, 8))
def test_dirichlet_divides_every_example(
    task: dict[str, Any], labels: np.ndarray, num_groups: int | None
) -> None:
    whole = pooled(labels, 8)
    data = by_labels_dirichlet(whole, **task, num_groups=num_groups)
    assert_examples(data, labels, task["num_clients"], int(task["fraction"] * len(labels)))
    assert by_labels_dirichlet(whole, **task, num_groups=num_groups).fingerprint == data.fingerprint


@given(TASKS, LABELS, st.floats(0.001, 100), st.permutations(list(COARSE)))
def test_pachinko_gives_every_client_equally_many(
    task: dict[str, Any], labels: np.ndarray, beta: float, coarse: list[int]
) -> None:
    options = task | {"beta": beta, "coarse_of_class": coarse}
    data = pachinko(pooled(labels, 8), **options)
    each, rest = divmod(int(task["fraction"] * len(labels)), task["num_clients"])
    assert_examples(data, labels, task["num_clients"], each * task["num_clients"])
    assert (data.counts == each).all()
    assert (f"a rest of {rest} examples is left out" in data.source) == (rest > 0)
    assert pachinko(pooled(labels, 8), **options).fingerprint == data.fingerprint


@pytest.mark.parametrize("divide", [by_labels_dirichlet, lambda d, n: pachinko(d, n, [0, 0, 1, 1])])
def test_clients_and_parts_are_put_together(
    divide: Callable[[FederatedDataset, int], FederatedDataset], tiny_images: FederatedDataset
) -> None:
    some = tiny_images.subset(tiny_images.client_ids[1:5])  # not those where the arrays begin and end
    data = divide(some, 2)
    wanted = np.sort([x.sum() for c in some for x in (*c.train_x, *c.test_x)])
    np.testing.assert_array_equal(np.sort([x.sum() for c in data for x in (*c.train_x, *c.test_x)]), wanted)
    assert (data.num_classes, data.name, data.synthetic) == (4, "tiny images", True)
    assert data.source.startswith("drawn for the tests; divided among artificial clients: ")


@pytest.mark.parametrize("divide", [by_labels_dirichlet, lambda d, n, **o: pachinko(d, n, COARSE, **o)])
def test_other_seeds_divide_otherwise(divide: Callable[..., FederatedDataset]) -> None:
    whole = pooled(np.arange(200) % 8)
    assert len({tuple(numbers(divide(whole, 4, seed=seed))) for seed in range(3)}) == 3


def test_the_train_part_is_random() -> None:
    data = by_labels_dirichlet(pooled(np.repeat(np.arange(4), 500)), 1)
    assert abs(data["client_000"].train_x.mean() - 999.5) < 4 * 577 / np.sqrt(1600)
    assert set(data["client_000"].test_y) == set(range(4))


# The benchmark rows ---------------------------------------------------------------------------------------


def test_emnist_row_divides_a_tenth_of_the_images_among_100_clients() -> None:
    labels = np.random.default_rng(0).integers(62, size=814_255)
    data = by_labels_dirichlet(pooled(labels), 100, fraction=0.1)
    assert int(data.counts.sum()) == 81_425 and len(data) == 100


@few_clients
def test_cifar10_row_has_groups_of_3_3_and_4_labels_with_shares_of_their_own() -> None:
    data = by_labels_dirichlet(pooled(np.arange(60_000) % 10), 80, num_groups=3)
    shares = by_client(data, 80) / 6000
    distance = np.abs(shares[:, :, None] - shares[:, None, :]).sum(axis=0)
    together = distance < 0.3  # two draws of 6,000 by the same shares; those of two groups are about 1 apart
    assert sorted(len(group) for group in {tuple(np.flatnonzero(row)) for row in together}) == [3, 3, 4]
    assert distance[~together].min() > 0.6


def test_cifar100_row_has_480_train_and_120_test_images_of_each_client() -> None:
    data = pachinko(pooled(np.arange(60_000) % 100), 100, np.arange(100) // 5)
    assert set(data.train_counts) == {480} and set(data.test_counts) == {120} and len(data) == 100
    np.testing.assert_array_equal(data.class_counts().sum(axis=0), 600)


# Laws -----------------------------------------------------------------------------------------------------


def four_errors(values: np.ndarray) -> float:
    """Four standard errors of a mean."""
    return float(4 * values.std(ddof=1) / np.sqrt(len(values)))


def assert_shares(shares: np.ndarray, parts: int, concentration: float, examples: int) -> None:
    """Mean and variance of one Dirichlet share, seen through so many multinomial examples."""
    mean = 1 / parts
    variance = mean * (1 - mean) / (parts * concentration + 1)
    variance += (mean - mean**2 - variance) / examples
    assert abs(shares.mean() - mean) < four_errors(shares)
    squares = (shares - mean) ** 2
    assert abs(squares.mean() - variance) < four_errors(squares)


def first_clients_shares(**options: Any) -> np.ndarray:
    """The first of five clients' shares of two labels of 300 examples each [labels, seeds]."""
    whole = pooled(np.arange(600) % 2)
    tables = [by_client(by_labels_dirichlet(whole, 5, **options, seed=seed), 5) for seed in range(600)]
    return np.array(tables)[:, 0].T / 300


@few_clients
@pytest.mark.parametrize("alpha", [0.1, 0.4, 5.0])
def test_shares_of_a_label_are_dirichlet_and_those_of_two_labels_independent(alpha: float) -> None:
    one, other = first_clients_shares(alpha=alpha)
    assert_shares(one, 5, alpha, 300)
    assert_shares(other, 5, alpha, 300)
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(600)


@few_clients
def test_shares_of_two_clients_follow_the_arcsine_law() -> None:
    # Dirichlet(½, ½) is the arcsine law: a share is below x with the probability 2/π · arcsin √x.
    whole = pooled(np.zeros(400, dtype=int))
    shares = np.array(
        [by_client(by_labels_dirichlet(whole, 2, alpha=0.5, seed=s), 2)[0, 0] / 400 for s in range(600)]
    )
    for x, probability in ((0.25, 1 / 3), (0.5, 1 / 2), (0.75, 2 / 3)):
        assert abs((shares < x).mean() - probability) < 4 * 0.5 / np.sqrt(600)


@few_clients
def test_labels_of_one_group_have_the_same_shares() -> None:
    one, other = first_clients_shares(num_groups=1)
    assert np.corrcoef(one, other)[0, 1] > 0.95
    # Both labels by one share: 600 examples, not 300 twice.
    assert_shares((one + other) / 2, 5, 0.4, 600)


def test_labels_of_pachinko_are_dirichlet_of_dirichlet() -> None:
    whole, beta = pooled(np.arange(320) % 8), 1.0
    # The first client has 32 examples and there are 40 of each label: nothing is used up.
    tables = np.array(
        [pachinko(whole, 10, COARSE, beta=beta, seed=seed).class_counts()[0] for seed in range(500)]
    )
    coarse = tables.reshape(500, 4, 2).sum(axis=2)
    for column in coarse.T:
        assert_shares(column / 32, 4, 0.4, 32)
    # Within a coarse label of m examples: beta-binomial(m, beta, beta).
    first = tables[:, ::2]
    excess = (first - coarse / 2) ** 2 - coarse / 4 * (2 * beta + coarse) / (2 * beta + 1)
    assert abs((first - coarse / 2).mean()) < four_errors((first - coarse / 2).mean(axis=1))
    assert abs(excess.mean()) < four_errors(excess.mean(axis=1))


def test_first_and_last_clients_of_pachinko_have_the_same_mean() -> None:
    whole = pooled(np.arange(800) % 8)
    tables = np.array([pachinko(whole, 8, COARSE, seed=seed).class_counts() for seed in range(60)])
    for client in (0, 7):
        for label in range(8):
            assert abs(tables[:, client, label].mean() - 12.5) < four_errors(tables[:, client, label])


def test_what_is_left_grows_in_proportion() -> None:
    shares = _Shares(1.0, np.array([True, True, False, True]), np.random.default_rng(0))
    before = shares.shares.copy()
    assert before[2] == 0 and before.sum() == pytest.approx(1)
    shares.remove(1)
    assert shares.at(0.0) == 0 and shares.at(1 - 1e-9) == 3
    border = before[0] / (before[0] + before[3])
    assert shares.at(border - 1e-9) == 0 and shares.at(border + 1e-9) == 3


def test_pachinko_with_shares_so_small_that_they_are_zero() -> None:
    labels = np.arange(80) % 8
    data = pachinko(pooled(labels), 4, COARSE, alpha=1e-8, beta=1e-8)
    assert_examples(data, labels, 4, 80)
    # A client takes up whole labels: 20 examples of 10 each.
    assert (np.sort(data.class_counts(), axis=1)[:, -2:] == 10).all()


# Bad input ------------------------------------------------------------------------------------------------


def test_clients_with_too_few_examples_are_left_out_and_counted() -> None:
    labels = np.zeros(60, dtype=int)
    with pytest.warns(UserWarning, match=r"clients instead of 30: .*choose a larger alpha") as caught:
        data = by_labels_dirichlet(pooled(labels), 30, alpha=0.1)
    clients, examples = left_out(data)
    (warning,) = caught
    assert warning.filename == __file__
    assert str(warning.message).startswith(f"{len(data)} clients instead of 30: ")
    assert f"({clients} clients, {examples} examples)" in str(warning.message)
    assert 5 < clients == 30 - len(data) and data.counts.min() >= 2
    assert_examples(data, labels, 30, 60)


def divide_coarsely(data: FederatedDataset, num_clients: int, **options: Any) -> FederatedDataset:
    return pachinko(data, num_clients, **{"coarse_of_class": COARSE} | options)


WRONG: list[tuple[int, dict[str, Any], str]] = [
    (21, {}, r"num_clients=21, but there are 40 examples.*at most 20 clients"),
    (3, {"fraction": 0.1}, "num_clients=3, but there are 4 examples"),
    *((count, {}, f"num_clients={count}") for count in (0, -2, 2.0, True)),
    *((2, {"fraction": share}, f"fraction={share} is not in") for share in (0, -0.1, 1.01, float("nan"))),
    *(
        (2, {"alpha": alpha}, f"alpha={alpha!r} must be a finite number above 0")
        for alpha in (0, -1.0, float("nan"), float("inf"), "x", None)
    ),
    (2, {"alpha": 1e308}, r"alpha=1e\+308 must be .* at most 1e\+100"),
    (2, {"fraction": "0.5"}, "fraction='0.5' is not in"),
    (2, {"fraction": 0.01}, "num_clients=2, but there are 0 examples .* choose a larger fraction"),
    (2, {"seed": 1.5}, "seed=1.5 is not a whole number"),
    (2, {"seed": -1}, "seed=-1 is negative"),
]


@pytest.mark.parametrize(
    ("divide", "num_clients", "options", "message"),
    [(divide, *wrong) for divide in (by_labels_dirichlet, divide_coarsely) for wrong in WRONG]
    + [(by_labels_dirichlet, 2, {"num_groups": groups}, f"num_groups={groups}") for groups in (0, 9)]
    + [
        (divide_coarsely, 2, {"coarse_of_class": coarse}, "coarse_of_class has masked values")
        for coarse in (np.ma.array(COARSE, mask=COARSE == 0),)
    ]
    + [
        (divide_coarsely, 2, {"coarse_of_class": coarse}, "coarse_of_class has shape")
        for coarse in ([0] * 7, [0.0] * 8, [0] * 7 + [-1], [[0] * 8])
    ]
    + [(divide_coarsely, 2, {"beta": beta}, f"beta={beta} must be") for beta in (0, float("nan"))],
)
def test_what_cannot_be_divided(
    divide: Callable[..., FederatedDataset], num_clients: int, options: dict[str, Any], message: str
) -> None:
    whole = pooled(np.arange(40) % 8)
    assert len(divide_coarsely(whole, 20)) == 20
    with pytest.raises(ValueError, match=message):
        divide(whole, num_clients, **options)


def test_text_has_no_label_to_divide_by(tiny_text: FederatedDataset) -> None:
    with pytest.raises(ValueError, match=r"'tiny text' has labels of shape \(6,\)"):
        by_labels_dirichlet(tiny_text, 2)


@pytest.mark.parametrize("divide", [by_labels_dirichlet, divide_coarsely])
def test_the_largest_concentration_gives_equal_shares(divide: Callable[..., FederatedDataset]) -> None:
    data = divide(pooled(np.arange(400) % 8), 4, alpha=1e100)
    assert len(data) == 4 and data.counts.min() >= 60
