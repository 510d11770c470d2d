"""The plane agrees with the library, where the same quadratic losses are a torch model with autograd."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fl_meta.algorithms.optimizers import SGD, Adam, server_step
from fl_meta.data.federated import FederatedDataset
from fl_meta.laboratories.plane import (
    PLANE_ALGORITHMS,
    SERVERS,
    START,
    Quadratics,
    quadratics,
    round_in_plane,
    server_steps,
    train_in_plane,
)
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.training.rounds import pseudo_gradient


class Point(nn.Module):
    """A model whose parameters are a point in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(2))


class QuadraticModel(Model):
    """Its loss is ½ (θ − a)ᵀ H (θ − a), where an example is the four numbers of H and then a."""

    def loss(self, params: Params, x: Tensor, y: Tensor, dropout_seed: int | None = None) -> Tensor:
        away = params["theta"] - x[:, 4:]
        return 0.5 * torch.einsum("ni,nij,nj->n", away, x[:, :4].view(-1, 2, 2), away).mean()


def as_data(clients: Quadratics) -> FederatedDataset:
    rows = np.column_stack([clients.curvatures.reshape(-1, 4), clients.optima])
    x = np.repeat(rows, clients.examples, axis=0)
    owners = np.repeat(np.arange(len(rows)), clients.examples)
    return FederatedDataset.from_arrays(x, np.zeros(len(x), int), owners, test_fraction=0.0, num_classes=1)


MODEL = QuadraticModel("quadratic", Point)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", PLANE_ALGORITHMS)
@pytest.mark.parametrize("steps", [1, 3])
def test_three_rounds_equal_the_librarys(name: str, server: str, steps: int) -> None:
    clients = quadratics(0.8)
    assert len(set(clients.examples)) > 1, "weights matter"
    data = as_data(clients)
    row = PLANE_ALGORITHMS[name](steps, SGD(0.3), SERVERS[server](0.4))
    params, state = {"theta": torch.tensor(START)}, {}
    for number in range(3):
        direction, _ = pseudo_gradient(
            MODEL, params, data, data.client_ids, row, seed=0, round_number=number, engine="loop"
        )
        params, state = server_step(row.server, params, state, direction)
    path, _ = train_in_plane(clients, row, 3)
    np.testing.assert_allclose(path[-1], params["theta"].numpy(), rtol=1e-9)


@pytest.mark.parametrize("optimizer", [SGD(0.3), SGD(0.3, momentum=0.9), Adam(0.1, 0.8, 0.95, 1e-3)])
def test_server_steps_equal_the_librarys(optimizer: SGD | Adam) -> None:
    step, params, state = server_steps(optimizer), {"theta": torch.zeros(4, 3, dtype=torch.float64)}, {}
    at = np.zeros((4, 3))
    for gradient in np.random.default_rng(0).normal(size=(6, 4, 3)):
        at = at - step(gradient)
        params, state = server_step(optimizer, params, state, {"theta": torch.tensor(gradient)})
        np.testing.assert_allclose(at, params["theta"].numpy(), rtol=1e-10)


def test_one_client_by_hand() -> None:
    # L = ½ (2 x² + y²) around 0. With β = 0.25 a step halves x and leaves three quarters of y.
    client = Quadratics(np.zeros((1, 2)), np.diag([2.0, 1.0])[None], np.array([3]))
    at = np.array([8.0, 16.0])
    for name, path in (("FedSGD", [(8, 16), (4, 12)]), ("MAML", [(8, 16), (4, 12), (2, 9)])):
        _, local = round_in_plane(client, at, PLANE_ALGORITHMS[name](2, SGD(0.25), SGD(1.0)))
        np.testing.assert_allclose(local[:, 0], path, err_msg=name)
    np.testing.assert_allclose(client.adapted(at, 0.25), [(4, 12)])
    np.testing.assert_allclose(client.losses(at[None]), [64 + 128])


def test_without_heterogeneity_all_clients_are_equal() -> None:
    clients = quadratics(0.0)
    assert np.ptp(clients.optima, axis=0).max() == 0
    assert np.ptp(clients.curvatures, axis=0).max() == pytest.approx(0)


def test_fedsgd_and_maml_converge_to_the_best_possible() -> None:
    clients = replace(quadratics(1.0), examples=np.full(5, 1))
    initial, after = clients.smallest_losses(0.3)
    ends = {
        name: train_in_plane(clients, PLANE_ALGORITHMS[name](1, SGD(0.3), SGD(2.0, momentum=0.9)), 600)[0][-1]
        for name in ("FedSGD", "MAML")
    }
    losses = {name: clients.losses(end[None]).mean() for name, end in ends.items()}
    adapted = {name: clients.losses(clients.adapted(end, 0.3)).mean() for name, end in ends.items()}
    assert losses["FedSGD"] == pytest.approx(initial) and losses["MAML"] > initial + 0.1
    assert adapted["MAML"] == pytest.approx(after) and adapted["FedSGD"] > after + 0.1
