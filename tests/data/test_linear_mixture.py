"""The Synthetic benchmark: its laws, and the two ways in which labels are given to examples."""

import math
from typing import Any

import numpy as np
import pytest

from fl_meta.data.federated import Client
from fl_meta.data.synthetic.linear_mixture import _components, load_synthetic

SMALL: dict[str, Any] = {"test_examples": 40}


def test_what_it_has() -> None:
    data = load_synthetic(5, **SMALL)
    assert data.x.shape == (len(data.y), 150) and data.x.dtype == np.float32
    assert (len(data), data.num_classes, data.synthetic) == (5, 2, True)
    assert set(data.test_counts) == {40} and data.train_counts.min() >= 50
    assert data.label == "synthetic (synthetic)"
    assert set(np.unique(data.y)) == {0, 1}


def test_a_client_is_a_function_of_the_seed() -> None:
    few, many = load_synthetic(3, **SMALL), load_synthetic(7, **SMALL)
    assert few.fingerprint == load_synthetic(3, **SMALL).fingerprint
    assert few.fingerprint == many.subset(few.client_ids).fingerprint
    assert few.fingerprint != load_synthetic(3, **SMALL, seed=1).fingerprint
    assert not np.array_equal(few["client_000"].test_x, few["client_001"].test_x)


def test_sizes_are_those_of_the_lognormal() -> None:
    sizes = load_synthetic(6000, dimension=1, test_examples=1).train_counts
    assert sizes.min() == 50 and sizes.max() == 1000
    # floor(lognormal(4, 2)) + 50 is above 50 + k with the probability 1 − Φ((ln(k + 1) − 4) / 2).
    for k in (0, 10, 54, 200, 949):
        probability = 0.5 * math.erfc((math.log(k + 1) - 4) / 2 / math.sqrt(2))
        error = math.sqrt(probability * (1 - probability) / 6000)
        assert abs((sizes > 50 + k).mean() - probability) < 4 * error


def test_inputs_are_uniform() -> None:
    x = np.asarray(load_synthetic(10, test_examples=500).x, dtype=np.float64)
    assert -1 <= x.min() < -0.999 and 0.999 < x.max() <= 1
    error = 4 / math.sqrt(x.size)
    assert abs(x.mean()) < error * math.sqrt(1 / 3)
    assert abs((x**2).mean() - 1 / 3) < error * math.sqrt(4 / 45)
    assert abs(np.corrcoef(x[:, 0], x[:, 1])[0, 1]) < 4 / math.sqrt(len(x))


def test_components_by_hand() -> None:
    # Three, one and two examples. As released, the second writes over the first of the first one's labels,
    # the third over two, and 3, no component, has the rest.
    numbers = np.array([3, 1, 2])
    assert _components(numbers, as_released=False).tolist() == [0, 0, 0, 1, 2, 2]
    assert _components(numbers, as_released=True).tolist() == [2, 2, 0, 3, 3, 3]
    assert _components(np.array([0, 0, 0]), as_released=True).tolist() == []


def fit_of_one_rule(known: Client, other: Client) -> float:
    """The accuracy on one client of the linear rule that least squares finds in another's test part."""
    weights = np.linalg.lstsq(known.test_x, known.test_y - 0.5, rcond=None)[0]
    return float(((other.test_x @ weights > 0) == other.test_y).mean())


@pytest.mark.parametrize("as_released", [True, False])  # with one component both do what the paper says
def test_one_component_is_one_rule_for_all_clients(as_released: bool) -> None:
    options: dict[str, Any] = {"dimension": 20, "components": 1, "test_examples": 20_000}
    assert fit_of_one_rule(*load_synthetic(2, **options, as_released=as_released)) > 0.95


def test_the_noise_has_a_standard_deviation_of_a_tenth() -> None:
    # In one dimension noise of deviation s turns about s / (|theta| √(2π)) of the labels, and the median of
    # |theta| is ½: 0.08 for s = 0.1, and 0.25 if 0.1 were the variance.
    turned = []
    for seed in range(60):
        data = load_synthetic(1, dimension=1, components=1, test_examples=1000, seed=seed)
        wrong = float(((np.asarray(data.x)[:, 0] > 0) == data.y).mean())
        turned.append(min(wrong, 1 - wrong))
    assert 0.05 < np.median(turned) < 0.13


def test_ones_are_half_in_a_mixture_and_rarer_as_released() -> None:
    largest = np.random.default_rng(0).dirichlet([0.4] * 3, 20_000).max(axis=1).mean()
    options: dict[str, Any] = {"dimension": 20, "test_examples": 200}
    released = load_synthetic(400, **options).y.mean()
    mixture = load_synthetic(400, **options, as_released=False).y.mean()
    assert mixture == pytest.approx(0.5, abs=0.01)
    assert released == pytest.approx(largest / 2, abs=0.02)


def test_each_part_of_a_client_has_its_shares_in_random_order() -> None:
    # Equal shares of three: as released, a third of a part is labelled by a rule and the rest is 0.
    for client in load_synthetic(4, alpha=1e6, test_examples=6000):
        for half in (client.test_y[:3000], client.test_y[3000:]):
            assert half.mean() == pytest.approx(1 / 6, abs=0.03)
        assert client.train_y.mean() == pytest.approx(1 / 6, abs=4 * 0.4 / math.sqrt(len(client.train_y)))


def agreement(alpha: float) -> np.ndarray:
    """How much of each client the one rule explains that fits it best by least squares [clients]."""
    data = load_synthetic(60, dimension=20, alpha=alpha, test_examples=1000, as_released=False)
    return np.array([fit_of_one_rule(client, client) for client in data])


def test_a_small_alpha_gives_clients_of_one_rule() -> None:
    pure, mixed = agreement(0.001), agreement(1e6)
    assert np.mean(pure > 0.93) > 0.9
    assert np.mean(mixed > 0.93) == 0


@pytest.mark.parametrize("name", ["num_clients", "dimension", "components", "test_examples"])
@pytest.mark.parametrize("bad", [0, -3, 2.5])
def test_numbers_must_be_whole_and_positive(name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}={bad} must be a whole number"):
        load_synthetic(**{name: bad})


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_alpha_must_be_positive(bad: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={bad} must be a finite number above 0"):
        load_synthetic(2, alpha=bad)
