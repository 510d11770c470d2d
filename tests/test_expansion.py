"""The expansion in the client rate: expectations by brute force, AvgGradInner by autograd, slopes by hand."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.local_training import Batch
from fl_meta.experiments.expansion import (
    COEFFICIENTS,
    Expansion,
    GradientCache,
    Method,
    average_gradient,
    average_gradient_inner,
    expected_update,
    measure_expansion,
)
from fl_meta.models.images import logistic
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, relative_error

METHODS: tuple[Method, ...] = ("FedAvg", "FOMAML", "MAML")
RATES = (1e-4, 2e-4, 5e-4, 1e-3)


def tanh(data: FederatedDataset) -> Model:
    features = data.x[0].size
    return Model(
        "tanh", lambda: nn.Sequential(nn.Flatten(), nn.Linear(features, 5), nn.Tanh(), nn.Linear(5, 4))
    )


@pytest.fixture(params=[logistic, tanh], ids=["logistic", "tanh"])
def model(request: pytest.FixtureRequest, tiny_images: FederatedDataset) -> Model:
    return request.param(tiny_images)


@pytest.fixture
def batches(tiny_images: FederatedDataset) -> list[Batch]:
    """Three batches of one client."""
    client = tiny_images["client_5"]
    return [
        (torch.from_numpy(client.train_x[i : i + 5]), torch.from_numpy(client.train_y[i : i + 5]), 0)
        for i in (0, 5, 10)
    ]


# --- written once more, with plain autograd -------------------------------------------------------------


def loss_at(model: Model, params: Params, batch: Batch) -> Tensor:
    logits = functional_call(model.build().double(), params, (batch[0].double(),))
    return nn.functional.cross_entropy(logits, batch[1])


def leaves(params: Params) -> Params:
    return {name: tensor.clone().requires_grad_() for name, tensor in params.items()}


def slopes(loss: Tensor, params: Params, graph: bool = False) -> Params:
    found = torch.autograd.grad(loss, list(params.values()), create_graph=graph)
    return dict(zip(params, found, strict=True))


def sent(model: Model, params: Params, sequence: Sequence[Batch], method: Method, rate: float) -> Params:
    """What a client sends after meeting these batches in this order."""
    first = here = leaves(params)
    total = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
    steps = sequence if method == "FedAvg" else sequence[:-1]
    for batch in steps:
        slope = slopes(loss_at(model, here, batch), here, graph=True)
        total = {name: total[name] + slope[name] for name in total}
        here = {name: here[name] - rate * slope[name] for name in here}
    if method == "FedAvg":
        return {name: tensor.detach() for name, tensor in total.items()}
    if method == "FOMAML":
        first = here = leaves({name: tensor.detach() for name, tensor in here.items()})
    return slopes(loss_at(model, here, sequence[-1]), first)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("K", [1, 2, 3])
def test_expectations_are_sums_over_all_sequences(
    model: Model, batches: list[Batch], method: Method, K: int
) -> None:
    params, rate = model.init(4, torch.float64), 0.5
    length = K if method == "FedAvg" else K + 1
    sequences = list(itertools.product(batches, repeat=length))
    assert len(sequences) == 3**length
    total = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
    for sequence in sequences:
        total = add(total, sent(model, params, sequence, method, rate), 1 / len(sequences))
    assert relative_error(expected_update(model, params, batches, method, K, rate), total) < 1e-13


def test_average_gradient_inner_is_half_the_slope_of_mean_inner_products(
    model: Model, batches: list[Batch]
) -> None:
    params = model.init(4, torch.float64)
    here = leaves(params)
    gradients = [slopes(loss_at(model, here, batch), here, graph=True) for batch in batches]
    products = [sum((a[name] * b[name]).sum() for name in here) for a in gradients for b in gradients]
    half_mean = sum(products) / len(products) / 2
    expected = slopes(half_mean, here)
    assert relative_error(average_gradient_inner(model, params, batches), expected) < 1e-13
    mean = {name: sum(g[name] for g in gradients).detach() / 3 for name in here}
    assert relative_error(average_gradient(model, params, batches), mean) < 1e-14


# --- slopes and coefficients ----------------------------------------------------------------------------


def test_the_coefficients_of_the_paper() -> None:
    table = {method: [COEFFICIENTS[method](K) for K in (1, 2, 3, 4)] for method in METHODS}
    assert table == {"FedAvg": [0, -1, -3, -6], "FOMAML": [-1, -2, -3, -4], "MAML": [-2, -4, -6, -8]}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("K", [2, 4])
def test_second_order_remainder_and_fitted_coefficient(
    model: Model, batches: list[Batch], method: Method, K: int
) -> None:
    result = measure_expansion(model, model.init(7, torch.float64), batches[:2], method, K, RATES)
    assert abs(result.slope - 2) < 0.1
    assert abs(result.coefficient_ratio - 1) < 0.02


def test_gradients_in_the_cache_change_nothing(model: Model, batches: list[Batch]) -> None:
    params, cache = model.init(3, torch.float64), GradientCache()
    for method in METHODS:
        for K in (3, 2):
            fresh, shared = (
                measure_expansion(model, params, batches[:2], method, K, (1e-3, 2e-3), gradient_cache=one)
                for one in (None, cache)
            )
            assert fresh == shared
    assert len(cache) == 2 * (1 + 2 + 4 + 8), "two rates, and all places up to three steps, once"


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_coefficient_is_noticed(
    model: Model, batches: list[Batch], method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = COEFFICIENTS[method]
    monkeypatch.setitem(COEFFICIENTS, method, lambda K: 1.05 * right(K))
    result = measure_expansion(model, model.init(0, torch.float64), batches[:2], method, 3, RATES)
    # What is left is then of first order, and the fit gives the right coefficient all the same.
    assert abs(result.slope - 1) < 0.1
    assert result.coefficient_ratio == pytest.approx(1 / 1.05, abs=1e-3)


def test_slope_and_ratio_by_hand() -> None:
    # Errors that grow ninefold as β triples have slope 2; FOMAML(3) should have the coefficient −3.
    result = Expansion("FOMAML", 3, (0.1, 0.3, 0.9), (0.02, 0.18, 1.62), -2.4)
    assert result.slope == pytest.approx(2)
    assert result.coefficient_ratio == pytest.approx(0.8)
    assert replace(result, errors=(0.02, 0.06, 0.18)).slope == pytest.approx(1)


@pytest.mark.parametrize(
    ("method", "K", "rates", "count"),
    [
        ("FedAvg", 1, (1e-3, 1e-2), 2),
        ("FOMAML", 0, (1e-3, 1e-2), 2),
        ("MAML", 1, (1e-3,), 2),
        ("MAML", 1, (1e-3, 1e-2), 1),
    ],
)
def test_what_cannot_be_measured_is_told(
    model: Model, batches: list[Batch], method: Method, K: int, rates: tuple[float, ...], count: int
) -> None:
    with pytest.raises(ValueError, match=rf"{method} with steps={K}, {len(rates)} rates and {count} batches"):
        measure_expansion(model, model.init(0, torch.float64), batches[:count], method, K, rates)
