"""The local loop against torch.optim and autograd through the unrolled steps; memory; independence."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_tasks import IMAGES, TEXT, LSTMWithDropout, same_bits
from torch import Tensor, nn
from torch.func import functional_call

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import Algorithm, LocalWork, fedavg, fedprox, fedsgd, fomaml, maml, reptile
from fl_meta.data.batches import batch_plan
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.engines import local_training as local
from fl_meta.engines.local_training import (
    Batch,
    LocalTraining,
    adapted,
    client_update,
    local_steps,
)
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.task import engine_named
from fl_meta.models.images import emnist_cnn, logistic, mlp
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, norm, relative_error, scale, unflatten
from fl_meta.support.random_streams import torch_seed

PLAIN = SGD(0.3)
HEAVY = SGD(0.1, momentum=0.8, weight_decay=0.05)
SEED, ROUND = 5, 3


@pytest.fixture(params=[*IMAGES, *TEXT])
def task(
    request: pytest.FixtureRequest, tiny_images: FederatedDataset, tiny_text: FederatedDataset
) -> tuple[Model, FederatedDataset, str]:
    """A model, data for it, and a client of more than one batch."""
    if request.param in IMAGES:
        return IMAGES[request.param](tiny_images), tiny_images, "client_3"
    return TEXT[request.param](tiny_text), tiny_text, "role_3"


def oracle_batches(
    data: FederatedDataset, client_id: str, algorithm: Algorithm
) -> list[tuple[Tensor, Tensor, int]]:
    """The batches that the plan names; dropout seeds count up from one of the client and round."""
    client = data[client_id]
    plan = batch_plan(
        SEED,
        ROUND,
        client_id,
        len(client.train_x),
        batch_size=algorithm.batch_size,
        epochs=algorithm.epochs,
        steps=algorithm.planned_steps,
    )
    first = torch_seed(SEED, "dropout", ROUND, client_id)
    return [
        (torch.from_numpy(client.train_x[i]), torch.from_numpy(client.train_y[i]), (first + j) % 2**63)
        for j, i in enumerate(plan)
    ]


def oracle_loss(forward: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor, int]) -> Tensor:
    """Cross-entropy written out: minus the mean log-probability of the labels that are there."""
    x, y, dropout_seed = batch
    torch.manual_seed(dropout_seed)
    logits = forward(x.double() if x.is_floating_point() else x)
    log_chances = torch.log_softmax(logits, dim=-1)
    there = y != PADDING
    return -log_chances[there].gather(1, y[there].long()[:, None]).mean()


def update(
    task: tuple[Model, FederatedDataset, str], params: Params, algorithm: Algorithm
) -> local.ClientUpdate:
    model, data, client_id = task
    return client_update(model, params, data, client_id, algorithm, seed=SEED, round_number=ROUND)


# --- oracles --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm",
    [fedavg(3, client=PLAIN, batch_size=4), fedprox(0.7, 3, client=HEAVY, batch_size=4)],
    ids=["plain", "FedProx with momentum and weight decay"],
)
def test_a_client_moves_as_torch_optim_does(
    task: tuple[Model, FederatedDataset, str], algorithm: Algorithm
) -> None:
    model, data, client_id = task
    params, client = model.init(SEED, torch.float64), algorithm.client
    module = model.build().double().train()
    module.load_state_dict(params)
    optimizer = torch.optim.SGD(
        module.parameters(), client.learning_rate, client.momentum, weight_decay=client.weight_decay
    )
    batches = oracle_batches(data, client_id, algorithm)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = oracle_loss(module, batch)
        losses.append(loss.item())
        squares = sum((p - params[name]).square().sum() for name, p in module.named_parameters())
        (loss + algorithm.proximal / 2 * squares).backward()
        optimizer.step()
    moved = add(params, {name: p.detach() for name, p in module.named_parameters()}, -1.0)
    sent = update(task, params, algorithm)
    assert relative_error(scale(sent.gradient, client.learning_rate), moved) < 1e-12
    assert sent.num_steps == len(batches) > 3
    assert sent.num_examples == len(data[client_id].train_x)
    assert sent.loss_before == pytest.approx(losses[0], rel=1e-12)


def unrolled(
    model: Model, params: Params, batches: Sequence[tuple[Tensor, Tensor, int]], client: SGD, through: bool
) -> Params:
    """MAML by autograd through the unrolled steps; FOMAML if the steps are cut off."""
    module = model.build().double().train()
    start = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    here, momentum = dict(start), {name: torch.zeros_like(tensor) for name, tensor in start.items()}
    for batch in batches[:-1]:
        loss = oracle_loss(lambda x, here=here: functional_call(module, here, (x,)), batch)
        slopes = torch.autograd.grad(loss, list(here.values()), create_graph=True)
        for name, slope in zip(list(here), slopes, strict=True):
            momentum[name] = client.momentum * momentum[name] + slope + client.weight_decay * here[name]
            here[name] = here[name] - client.learning_rate * momentum[name]
    if not through:
        here = start = {name: tensor.detach().requires_grad_() for name, tensor in here.items()}
    loss = oracle_loss(lambda x: functional_call(module, here, (x,)), batches[-1])
    return dict(zip(start, torch.autograd.grad(loss, list(start.values())), strict=True))


@pytest.mark.parametrize("client", [PLAIN, HEAVY], ids=["plain", "momentum and weight decay"])
@pytest.mark.parametrize("K", [1, 3])
def test_maml_is_the_gradient_through_the_unrolled_steps(
    task: tuple[Model, FederatedDataset, str], K: int, client: SGD
) -> None:
    model, data, client_id = task
    params = model.init(SEED, torch.float64)
    batches = oracle_batches(data, client_id, maml(K, batch_size=4))
    assert len(batches) == K + 1
    second, first = (
        update(task, params, row(K, client=client, batch_size=4)).gradient for row in (maml, fomaml)
    )
    assert relative_error(second, unrolled(model, params, batches, client, through=True)) < 1e-11
    assert relative_error(first, unrolled(model, params, batches, client, through=False)) < 1e-12
    # The oracle tells them apart: the second order is no rounding error.
    assert relative_error(first, second) > 1e-4


class AddedConstant(nn.Module):
    """Its offset enters all logits alike, so the loss does not depend on it, nor does any other slope."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.offset


def test_maml_where_a_parameter_does_nothing() -> None:
    data = FederatedDataset.from_arrays(
        np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([0, 1]), np.array(["a", "a"]), test_fraction=0
    )
    model = Model("constant", AddedConstant)
    params = model.init(0, torch.float64)
    sent = update((model, data, "a"), params, maml(2, batch_size=1)).gradient
    assert abs(sent["offset"].item()) < 1e-15
    assert norm(sent) > 0.1


# --- memory ---------------------------------------------------------------------------------------------


class Kept:
    """A tensor that autograd keeps, counted while it is kept."""

    now = most = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        Kept.now += 1
        Kept.most = max(Kept.most, Kept.now)

    def __del__(self) -> None:
        Kept.now -= 1


def most_kept(work: Callable[[], object]) -> int:
    Kept.now = Kept.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        work()
    assert Kept.now == 0
    return Kept.most


def test_graphs_of_maml_do_not_grow_with_the_number_of_steps(tiny_images: FederatedDataset) -> None:
    model, data = mlp(tiny_images, hidden=8), tiny_images
    params = model.init(0)

    def ours(K: int) -> int:
        algorithm = maml(K, client=HEAVY, batch_size=4)
        return most_kept(lambda: update((model, data, "client_0"), params, algorithm))

    def through_graph(K: int) -> int:
        batches = oracle_batches(data, "client_0", maml(K, batch_size=4))
        return most_kept(lambda: unrolled(model, model.init(0, torch.float64), batches, HEAVY, through=True))

    assert ours(2) == ours(12) > 0
    # The count would notice: one graph through all the steps does grow.
    assert through_graph(12) > 3 * through_graph(2)


def test_first_order_methods_keep_no_trajectory(
    tiny_images: FederatedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Params:
        raise AssertionError("second-order work")

    monkeypatch.setattr(local, "through_local_steps", refuse)
    monkeypatch.setattr(local, "hessian_vector_product", refuse)
    task = (logistic(tiny_images), tiny_images, "client_0")
    for algorithm in (fedsgd(), fedavg(2), reptile(2), fomaml(2)):
        update(task, task[0].init(0), algorithm)
    with pytest.raises(AssertionError, match="second-order work"):
        update(task, task[0].init(0), maml(1))


# --- independence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [fedavg(2, batch_size=4), maml(2, batch_size=4)], ids=lambda a: a.name)
def test_other_clients_and_their_order_change_no_update(
    tiny_images: FederatedDataset, algorithm: Algorithm
) -> None:
    model = emnist_cnn(tiny_images)
    params = model.init(0)

    def updates(data: FederatedDataset, ids: Sequence[str]) -> dict[str, Params]:
        training = LocalTraining(model, params, data, algorithm.local_work, SEED, ROUND)
        found = LoopEngine().collect(training, ids, algorithm)
        weights = [algorithm.weight(len(data[client_id].train_x)) for client_id in ids]
        parts = zip(ids, weights, found, strict=True)
        return {i: unflatten(part.gradient / weight, params) for i, weight, part in parts}

    everyone = updates(tiny_images, tiny_images.client_ids)
    assert list(everyone) == list(tiny_images.client_ids)
    backwards = tiny_images.client_ids[::-1]
    for some in (backwards, backwards[1:3], ["client_2"]):
        found = updates(tiny_images.subset(some), some)
        assert list(found) == list(some)
        assert all(same_bits(found[one], everyone[one]) for one in some)
    assert not same_bits(everyone["client_0"], everyone["client_1"])


def test_an_update_is_a_function_of_seed_round_and_client_alone(tiny_images: FederatedDataset) -> None:
    model, algorithm = emnist_cnn(tiny_images), fedavg(1, batch_size=4)
    params = model.init(0)

    def sent(seed: int = SEED, round_number: int = ROUND, client_id: str = "client_1") -> Params:
        return client_update(
            model, params, tiny_images, client_id, algorithm, seed=seed, round_number=round_number
        ).gradient

    torch.manual_seed(98)
    once = sent()
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    assert same_bits(sent(), once)
    assert torch.equal(torch.random.get_rng_state(), before)
    for other in (sent(seed=SEED + 1), sent(round_number=ROUND + 1), sent(client_id="client_2")):
        assert not same_bits(other, once)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)
        self.output = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.attention(x, x, x, need_weights=False)[0].flatten(1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Flatten(), nn.AlphaDropout(0.4), nn.Linear(64, 4)),
        lambda: nn.Sequential(nn.Dropout1d(0.4), nn.Flatten(), nn.Linear(64, 4)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.RReLU()),
        Attention,
        LSTMWithDropout,
    ],
    ids=["AlphaDropout", "Dropout1d", "RReLU", "attention", "LSTM"],
)
def test_whatever_draws_random_numbers_is_seeded(
    tiny_images: FederatedDataset, build: Callable[[], nn.Module]
) -> None:
    model = Model("random", build)
    params = model.init(0)

    def sent(round_number: int) -> Params:
        algorithm = fedsgd(batch_size=None)
        return client_update(
            model, params, tiny_images, "client_1", algorithm, seed=SEED, round_number=round_number
        ).gradient

    torch.manual_seed(98)
    once = sent(0)
    torch.manual_seed(99)
    assert same_bits(sent(0), once)
    # The batch is the whole train part in either round: only what is drawn differs.
    assert relative_error(sent(1), once) > 1e-3


# --- the steps, adaptation and errors -------------------------------------------------------------------


def test_steps_are_worked_out_when_asked_for(tiny_images: FederatedDataset) -> None:
    model, client = logistic(tiny_images), tiny_images["client_0"]
    handed_out = []

    def batches() -> Iterator[Batch]:
        for number in range(5):
            handed_out.append(number)
            batch: Batch = (torch.from_numpy(client.train_x), torch.from_numpy(client.train_y), 0)
            yield batch

    steps = local_steps(model, model.init(0), batches(), PLAIN)
    assert handed_out == []
    first, second = next(steps), next(steps)
    assert handed_out == [0, 1]
    assert relative_error(second.params, add(first.params, first.direction, -PLAIN.learning_rate)) == 0


def test_adaptation_is_fedavg_of_one_client_in_round_0(task: tuple[Model, FederatedDataset, str]) -> None:
    model, data, client_id = task
    params = model.init(SEED, torch.float64)
    training = LocalTraining(model, params, data, LocalWork(HEAVY, 4, 3), SEED)
    states = list(adapted(training, client_id))
    assert len(states) == 4
    assert same_bits(states[0], params)
    for epochs, state in enumerate(states[1:], start=1):
        algorithm = fedavg(epochs=epochs, client=HEAVY, batch_size=4)
        sent = client_update(model, params, data, client_id, algorithm, seed=SEED, round_number=0)
        assert relative_error(add(params, sent.gradient, -HEAVY.learning_rate), state) < 1e-13


def test_adaptation_of_no_epochs_needs_no_train_part(tiny_images: FederatedDataset) -> None:
    empty = replace(tiny_images, train_counts=np.zeros_like(tiny_images.train_counts))
    model = logistic(empty)
    params = model.init(0)
    training = LocalTraining(model, params, empty, LocalWork(PLAIN, 4, 0), 0)
    [state] = adapted(training, "client_0")
    assert state is params


def test_errors_name_the_cause(tiny_images: FederatedDataset) -> None:
    model = logistic(tiny_images)
    params = model.init(0)
    with pytest.raises(KeyError, match="no client 'nobody' among the 6 of 'tiny images'"):
        update((model, tiny_images, "nobody"), params, fedavg(1))
    empty = replace(tiny_images, train_counts=np.zeros_like(tiny_images.train_counts))
    with pytest.raises(ValueError, match="num_examples=0 for client 'client_0'"):
        update((model, empty, "client_0"), params, fedavg(1))
    with pytest.raises(ValueError, match="engine='rocket' is unknown; choose one of 'stacked', 'loop'"):
        engine_named("rocket")


def test_a_parameter_that_is_not_used_does_not_move(tiny_images: FederatedDataset) -> None:
    class WithSpare(nn.Linear):
        def __init__(self) -> None:
            super().__init__(64, 4)
            self.spare = nn.Parameter(torch.ones(3))

    model = Model("with spare", lambda: nn.Sequential(nn.Flatten(), WithSpare()))
    for algorithm in (fedavg(1), maml(2)):
        sent = update((model, tiny_images, "client_0"), model.init(0), algorithm).gradient
        assert sent["1.weight"].any() and not sent["1.spare"].any()
