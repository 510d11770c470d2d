"""The table of algorithms: its rows, numbers computed by hand, closed forms in NumPy, and the identities."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_tasks import one_round
from torch import nn

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.table import Algorithm, SentGradients, fedavg, fedprox, fedsgd, fomaml, maml, reptile
from fl_meta.data.batches import batch_plan
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.local_training import client_update
from fl_meta.models.images import logistic
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, relative_error

Vector = NDArray[np.float64]

# --- the rows -------------------------------------------------------------------------------------------


def test_the_rows() -> None:
    rows = [fedsgd(), fedavg(epochs=3), reptile(3), fomaml(3), maml(3)]
    assert [row.name for row in rows] == ["FedSGD", "FedAvg(E=3)", "Reptile(3)", "FOMAML(3)", "MAML(3)"]
    assert [row.sends for row in rows] == [
        SentGradients.FIRST,
        SentGradients.SUM,
        SentGradients.SUM,
        SentGradients.LAST,
        SentGradients.LAST_THROUGH_STEPS,
    ]
    assert [row.planned_steps for row in rows] == [1, None, 3, 4, 4]
    assert [row.epochs for row in rows] == [None, 3, None, None, None]
    assert [row.weights for row in rows] == ["examples", "examples", "equal", "equal", "equal"]
    assert [row.server for row in rows[:2]] == [SGD(1.0), SGD(1.0, momentum=0.9)]
    assert all(isinstance(row.server, Adam) for row in rows[2:])
    # FedProx is FedAvg and a term in the loss.
    assert fedprox(0.1, 3).name == "FedProx(mu=0.1, E=3)"
    assert replace(fedprox(0.1, 3), name="FedAvg(E=3)", proximal=0.0) == fedavg(3)
    assert fedprox(0.1, steps=4).name == "FedProx(mu=0.1, K=4)"


def test_fedavg_counts_epochs_or_steps() -> None:
    assert fedavg(steps=4).planned_steps == 4
    assert fedavg(steps=4).name == "FedAvg(K=4)"
    for both_or_neither in ({}, {"epochs": 1, "steps": 1}):
        with pytest.raises(ValueError, match="either epochs or steps"):
            fedavg(**both_or_neither)


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="choose 'examples' or 'equal'"):
        fedavg(1, weights="size")


# --- in closed form: softmax regression in NumPy --------------------------------------------------------


def vector(params: Params) -> Vector:
    return np.concatenate([params["1.weight"].numpy().ravel(), params["1.bias"].numpy()])


def slope_and_curvature(
    theta: Vector, x: Vector, y: NDArray[np.int64], classes: int
) -> tuple[Vector, Vector]:
    """Gradient and full Hessian of the mean cross-entropy; θ is weight [classes, features], then bias."""
    features = x.shape[1]
    weight, bias = theta[: classes * features].reshape(classes, features), theta[classes * features :]
    logits = x @ weight.T + bias
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    with_one = np.hstack([x, np.ones((len(x), 1))])
    slope = (chances - np.eye(classes)[y]).T @ with_one / len(x)
    curvature = np.zeros((classes, features + 1, classes, features + 1))
    for p, z in zip(chances, with_one, strict=True):
        curvature += np.einsum("ab,i,j->aibj", np.diag(p) - np.outer(p, p), z, z) / len(x)
    order = np.arange(classes * (features + 1)).reshape(classes, features + 1)
    order = np.concatenate([order[:, :-1].ravel(), order[:, -1]])
    flat = curvature.reshape(len(order), len(order))
    return slope.ravel()[order], flat[np.ix_(order, order)]


def sent_in_numpy(
    theta: Vector, data: FederatedDataset, client_id: str, algorithm: Algorithm, seed: int, round_number: int
) -> Vector:
    client, rate = data[client_id], algorithm.client.learning_rate
    plan = batch_plan(
        seed,
        round_number,
        client_id,
        len(client.train_x),
        batch_size=algorithm.batch_size,
        epochs=algorithm.epochs,
        steps=algorithm.planned_steps,
    )
    slopes, through = [], np.eye(len(theta))
    for number, indices in enumerate(plan, start=1):
        x = client.train_x[indices].reshape(len(indices), -1).astype(np.float64)
        slope, curvature = slope_and_curvature(theta, x, client.train_y[indices], data.num_classes)
        slopes.append(slope)
        if number < len(plan):
            through = through @ (np.eye(len(theta)) - rate * curvature)
        theta = theta - rate * slope
    return {
        SentGradients.FIRST: lambda: slopes[0],
        SentGradients.SUM: lambda: np.sum(slopes, axis=0),
        SentGradients.LAST: lambda: slopes[-1],
        SentGradients.LAST_THROUGH_STEPS: lambda: through @ slopes[-1],
    }[algorithm.sends]()


@pytest.mark.parametrize("weights", ["examples", "equal"])
@pytest.mark.parametrize(
    "algorithm",
    [
        fedsgd(client=SGD(0.7), batch_size=4),
        fedavg(epochs=2, client=SGD(0.7), batch_size=4),
        fedavg(steps=5, client=SGD(0.7), batch_size=4),
        reptile(5, client=SGD(0.7), batch_size=4),
        fomaml(4, client=SGD(0.7), batch_size=4),
        maml(4, client=SGD(0.7), batch_size=4),
        maml(1, client=SGD(0.7), batch_size=None),
    ],
    ids=lambda algorithm: f"{algorithm.name}, batch {algorithm.batch_size}",
)
def test_pseudo_gradients_in_closed_form(
    algorithm: Algorithm, weights: str, tiny_images: FederatedDataset
) -> None:
    # Every fourth pixel will do: a Hessian of 68 parameters is a quick one.
    small = replace(tiny_images, x=tiny_images.x[:, ::2, ::2])
    algorithm = replace(algorithm, weights=weights)
    model = logistic(small)
    params = model.init(3, torch.float64)
    ids = ["client_4", "client_0", "client_2"]
    sent = [sent_in_numpy(vector(params), small, i, algorithm, seed=3, round_number=7) for i in ids]
    shares = [len(small[i].train_x) if weights == "examples" else 1 for i in ids]
    expected = 0.7 * np.average(sent, axis=0, weights=shares)
    actual, _ = one_round("stacked", model, params, small, algorithm, ids, round_number=7)
    np.testing.assert_allclose(vector(actual), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


# --- the identities, in any round -----------------------------------------------------------------------


@st.composite
def federations(draw: st.DrawFn) -> FederatedDataset:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return FederatedDataset.from_arrays(
        generator.normal(size=(sum(sizes), 3)),
        generator.integers(3, size=sum(sizes)),
        np.repeat([f"client {i}" for i in range(len(sizes))], sizes),
        test_fraction=0,
        num_classes=3,
    )


@settings(max_examples=25, deadline=None)
@given(
    data=federations(),
    K=st.integers(1, 5),
    batch_size=st.one_of(st.none(), st.integers(1, 6)),
    rate=st.floats(0.01, 1.0),
    weights=st.sampled_from(["examples", "equal"]),
    seed=st.integers(0, 1000),
    round_number=st.integers(0, 1000),
)
def test_fedavg_is_a_sum_of_meta_learning_updates(
    data: FederatedDataset,
    K: int,
    batch_size: int | None,
    rate: float,
    weights: str,
    seed: int,
    round_number: int,
) -> None:
    model = Model("tanh", lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)))
    params = model.init(seed, torch.float64)
    options = {"client": SGD(rate), "batch_size": batch_size}

    def sends(algorithm: Algorithm) -> Params:
        return one_round("stacked", model, params, data, algorithm, seed=seed, round_number=round_number)[0]

    whole = sends(fedavg(steps=K, weights=weights, **options))
    parts = sends(fedsgd(weights=weights, **options))
    for j in range(1, K):
        parts = add(parts, sends(fomaml(j, weights=weights, **options)))
    assert relative_error(whole, parts) <= 1e-12
    equal = sends(fedavg(steps=K, weights="equal", **options))
    assert relative_error(equal, sends(reptile(K, **options))) <= 1e-12


@settings(max_examples=10, deadline=None)
@given(data=federations(), epochs=st.integers(1, 3), batch_size=st.integers(1, 9))
def test_epochs_are_steps_where_all_clients_have_as_many(
    data: FederatedDataset, epochs: int, batch_size: int
) -> None:
    model = Model("logistic", lambda: nn.Linear(3, 3))
    params = model.init(0, torch.float64)
    for client_id, count in zip(data.client_ids, data.train_counts, strict=True):
        steps = epochs * math.ceil(count / batch_size)
        by_epochs, by_steps = (
            client_update(model, params, data, client_id, algorithm, seed=1, round_number=2)
            for algorithm in (
                fedavg(epochs=epochs, batch_size=batch_size),
                fedavg(steps=steps, batch_size=batch_size),
            )
        )
        assert by_epochs.num_steps == by_steps.num_steps == steps
        assert relative_error(by_epochs.gradient, by_steps.gradient) == 0
