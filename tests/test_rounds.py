"""A round: who takes part, how updates are weighed, what the server does, and updates that are not finite."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm, LocalWork, fedavg, fedsgd, maml, reptile
from fl_meta.data.batches import sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.interface import Collected
from fl_meta.engines.local_training import LocalTraining, adapted, client_update
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.task import ENGINES, Task, engine_named
from fl_meta.models.images import logistic, mlp
from fl_meta.models.parameters import Params, add, map_params, relative_error, scale
from fl_meta.training.rounds import (
    TrainingDivergedError,
    TrainingState,
    pseudo_gradient,
    rounds,
    run_round,
)

IDS = ("client_5", "client_0", "client_2")


def poisoned(data: FederatedDataset, client_ids: Sequence[str]) -> FederatedDataset:
    """The same data with NaN in the first train example of these clients."""
    x = data.x.copy()
    for client_id in client_ids:
        x[data.starts[data.position(client_id)]] = np.nan
    return replace(data, x=x)


@pytest.mark.parametrize("name", ["rounds", "clients_per_round"])
@pytest.mark.parametrize("wrong", [0, -1, 2.5])
def test_a_stage_needs_rounds_and_clients(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={wrong} must be a whole number of 1 or more"):
        Stage(**{"algorithm": fedavg(1), "rounds": 1, "clients_per_round": 1, name: wrong})


# --- weights and the server -----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weights", ["examples", "equal"])
def test_fedavg_with_a_plain_server_averages_the_clients_models(
    tiny_images: FederatedDataset, weights: str, engine: str
) -> None:
    data = tiny_images.subset(IDS)
    model = mlp(data, hidden=6)
    params = model.init(0, torch.float64)
    client = SGD(0.2, momentum=0.5, weight_decay=0.01)
    algorithm = fedavg(2, client=client, server=SGD(1.0), weights=weights, batch_size=5)
    models = [
        list(adapted(LocalTraining(model, params, data, LocalWork(client, 5, 2), 4), i))[-1]
        for i in data.client_ids
    ]
    shares = data.train_counts if weights == "examples" else np.ones(3)
    shares = torch.from_numpy(shares / shares.sum())
    expected = map_params(lambda *tensors: sum(w * t for w, t in zip(shares, tensors, strict=True)), *models)
    state, _ = run_round(
        Task(model, data, 4, engine_named(engine)), TrainingState(0, params), Stage(algorithm, 1, 3)
    )
    assert state.round_number == 1
    assert relative_error(state.params, expected) < 1e-14
    # Sizes differ, so the two ways to weigh do too.
    other = {"examples": "equal", "equal": "examples"}[weights]
    state, _ = run_round(
        Task(model, data, 4, engine_named(engine)),
        TrainingState(0, params),
        Stage(replace(algorithm, weights=other), 1, 3),
    )
    assert relative_error(state.params, expected) > 1e-4


def written_out(server: SGD | Adam, params: Params, directions: Sequence[Params]) -> Params:
    """The server's steps from the definitions of SGD with momentum and weight decay and of Adam."""
    first = second = map_params(torch.zeros_like, params)
    for t, direction in enumerate(directions, start=1):
        if isinstance(server, SGD):
            first = add(add(direction, params, server.weight_decay), first, server.momentum)
            params = add(params, first, -server.learning_rate)
        else:
            first = add(scale(first, server.beta1), direction, 1 - server.beta1)
            second = add(scale(second, server.beta2), map_params(torch.square, direction), 1 - server.beta2)
            step = map_params(
                lambda m, v, t=t: (
                    (m / (1 - server.beta1**t)) / ((v / (1 - server.beta2**t)).sqrt() + server.epsilon)
                ),
                first,
                second,
            )
            params = add(params, step, -server.learning_rate)
    return params


@pytest.mark.parametrize(
    "server",
    [
        SGD(0.5),
        SGD(1.0, momentum=0.9),
        SGD(0.7, momentum=0.5, weight_decay=0.1),
        Adam(0.01),
        Adam(0.02, beta1=0.5, beta2=0.9, epsilon=1e-3),
    ],
    ids=str,
)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_server_steps_along_the_pseudo_gradient(
    tiny_images: FederatedDataset, server: SGD | Adam, engine: str
) -> None:
    model = logistic(tiny_images)
    algorithm = fedavg(1, client=SGD(0.3), server=server, batch_size=5)
    stages = [Stage(algorithm, 4, 3)]
    state = TrainingState(0, model.init(0, torch.float64))
    start, directions = state.params, []
    for round_number in range(4):
        clients = sample_clients(0, round_number, tiny_images.client_ids, 3)
        direction, _ = pseudo_gradient(
            model,
            state.params,
            tiny_images,
            clients,
            algorithm,
            seed=0,
            round_number=round_number,
            engine=engine,
        )
        directions.append(direction)
        state, _ = run_round(Task(model, tiny_images, 0, engine_named(engine)), state, stages[0])
    expected = written_out(server, start, directions)
    assert relative_error(add(state.params, start, -1.0), add(expected, start, -1.0)) < 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stage_begins_with_a_fresh_server(tiny_images: FederatedDataset, engine: str) -> None:
    model = logistic(tiny_images)
    heavy = fedavg(1, server=SGD(1.0, momentum=0.9), batch_size=5)
    stages = [Stage(heavy, 2, 2), Stage(heavy, 2, 2)]
    task = Task(model, tiny_images, 0, engine_named(engine))

    def states(stages: list[Stage], before: TrainingState) -> list[TrainingState]:
        return [state for _, state, _ in rounds(task, stages, before)]

    fresh = TrainingState(0, model.init(0))
    after = states(stages, fresh)
    assert [number for number, _, _ in rounds(task, stages, fresh)] == [0, 0, 1, 1]
    # Round 2 is the first of stage 1: what the server knew before makes no difference. In round 3 it does.
    for round_number, matters in ((1, True), (2, False), (3, True)):
        before = after[round_number - 1]
        resumed, forgetful = states(stages, before)[0], states(stages, replace(before, server={}))[0]
        assert relative_error(resumed.params, after[round_number].params) == 0
        assert (relative_error(forgetful.params, resumed.params) > 1e-6) == matters
    # If both halves were one stage, it would make one in round 2 as well.
    going_on = states([Stage(heavy, 4, 2)], after[1])[0]
    assert relative_error(going_on.params, after[2].params) > 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_rounds_may_count_from_another_one(tiny_images: FederatedDataset, engine: str) -> None:
    model, task_engine = logistic(tiny_images), engine_named(engine)
    task = Task(model, tiny_images, 0, task_engine)
    first, second = Stage(fedavg(1, batch_size=5), 2, 2), Stage(reptile(2), 2, 2)
    *_, (_, expected, _) = rounds(task, [first, second], TrainingState(0, model.init(0)))
    *_, (_, half, _) = rounds(task, [first], TrainingState(0, model.init(0)))
    *_, (number, found, _) = rounds(task, [second], half, first_round=2)
    assert number == 0 and found.round_number == 4
    assert relative_error(found.params, expected.params) == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("server", [SGD(1.0, momentum=0.9), Adam(0.01)], ids=["momentum", "adam"])
def test_a_round_is_a_pure_function_of_the_state(
    tiny_images: FederatedDataset, server: SGD | Adam, engine: str
) -> None:
    model = logistic(tiny_images)
    stages = [Stage(reptile(2, server=server), 3, 2)]
    before, _ = run_round(
        Task(model, tiny_images, 0, engine_named(engine)), TrainingState(0, model.init(0)), stages[0]
    )
    once, info = run_round(Task(model, tiny_images, 0, engine_named(engine)), before, stages[0])
    torch.manual_seed(123)
    again, same_info = run_round(Task(model, tiny_images, 0, engine_named(engine)), before, stages[0])
    assert info == same_info
    assert relative_error(again.params, once.params) == 0
    for name, parts in once.server.items():
        assert all(torch.equal(parts[key], again.server[name][key]) for key in parts)


# --- who takes part -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    round_number=st.integers(0, 10**6),
    ids=st.lists(st.text(max_size=4), min_size=1, max_size=12, unique=True),
    share=st.floats(0, 1),
    shuffle=st.randoms(use_true_random=False),
)
def test_clients_are_drawn_without_replacement_whatever_their_order(
    seed: int, round_number: int, ids: list[str], share: float, shuffle: object
) -> None:
    count = max(1, round(share * len(ids)))
    drawn = sample_clients(seed, round_number, ids, count)
    assert len(drawn) == len(set(drawn)) == count
    assert set(drawn) <= set(ids)
    other_order = list(ids)
    shuffle.shuffle(other_order)
    assert sample_clients(seed, round_number, other_order, count) == drawn


def test_every_client_is_drawn_about_as_often() -> None:
    ids = [f"client {i}" for i in range(10)]
    drawn = [client for number in range(2000) for client in sample_clients(1, number, ids, 3)]
    expected, deviation = 600, (2000 * 0.3 * 0.7) ** 0.5
    assert all(abs(drawn.count(client) - expected) < 5 * deviation for client in ids)
    assert sample_clients(1, 0, ids, 3) != sample_clients(2, 0, ids, 3)


@pytest.mark.parametrize("count", [0, -1, 7])
def test_the_number_of_clients_must_fit(tiny_images: FederatedDataset, count: int) -> None:
    with pytest.raises(ValueError, match=f"clients_per_round={count}, but there are 6 training clients"):
        sample_clients(0, 0, tiny_images.client_ids, count)


# --- what the info says, and updates that are not finite ------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weights", ["examples", "equal"])
def test_the_info_of_a_round(tiny_images: FederatedDataset, weights: str, engine: str) -> None:
    model = logistic(tiny_images)
    params = model.init(0, torch.float64)
    algorithm = maml(2, weights=weights, batch_size=5)
    updates = [client_update(model, params, tiny_images, i, algorithm, seed=0, round_number=1) for i in IDS]
    shares = [u.num_examples if weights == "examples" else 1 for u in updates]
    direction, info = pseudo_gradient(
        model, params, tiny_images, IDS, algorithm, seed=0, round_number=1, engine=engine
    )
    assert (info.clients, info.clients_left_out, info.local_gradients) == (3, 0, 9)
    assert info.train_loss_before == pytest.approx(
        np.average([u.loss_before for u in updates], weights=shares)
    )
    squares = sum(float(tensor.square().sum()) for tensor in direction.values())
    assert info.pseudo_gradient_norm == pytest.approx(squares**0.5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("algorithm", [fedsgd(batch_size=None), fedavg(1), maml(1)], ids=lambda a: a.name)
def test_an_update_that_is_not_finite_is_left_out(
    tiny_images: FederatedDataset, algorithm: Algorithm, engine: str
) -> None:
    model = logistic(tiny_images)
    params = model.init(0)
    data = poisoned(tiny_images, ["client_0"])
    bad = client_update(model, params, data, "client_0", algorithm, seed=0, round_number=0).gradient
    assert not all(torch.isfinite(tensor).all() for tensor in bad.values())
    direction, info = pseudo_gradient(
        model, params, data, IDS, algorithm, seed=0, round_number=0, engine=engine
    )
    expected, others = pseudo_gradient(
        model, params, tiny_images, ["client_5", "client_2"], algorithm, seed=0, round_number=0, engine=engine
    )
    # The engine of stacks may put the others together in another way, and so round differently.
    tolerance = 0 if engine == "loop" else 1e-6
    assert relative_error(direction, expected) <= tolerance
    assert (info.clients, info.clients_left_out) == (3, 1)
    assert info.train_loss_before == pytest.approx(others.train_loss_before, rel=tolerance)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_entry_is_enough_to_be_left_out(
    tiny_images: FederatedDataset, value: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether clients come one by one or several in a part.
    model = logistic(tiny_images)
    params = model.init(0)

    class Fake(LoopEngine):
        def collect(
            self, training: LocalTraining, client_ids: Sequence[str], algorithm: Algorithm
        ) -> Iterator[Collected]:
            sent = {name: torch.ones(3, *tensor.shape) for name, tensor in params.items()}
            sent["1.bias"][1, 2] = value
            weights, losses = torch.tensor([10.0, 20.0, 30.0]), torch.full((3,), 0.5)
            for rows in torch.arange(3).split(size):
                some = {name: tensor[rows] for name, tensor in sent.items()}
                yield Collected.of(some, weights[rows], losses[rows], local_gradients=len(rows))

    monkeypatch.setitem(ENGINES, "fake", Fake())
    algorithm = fedavg(1, client=SGD(0.25))
    direction, info = pseudo_gradient(
        model, params, tiny_images, IDS, algorithm, seed=0, round_number=0, engine="fake"
    )
    assert (info.clients_left_out, info.local_gradients) == (1, 3)
    assert info.train_loss_before == 0.5
    assert all(bool((tensor == 0.25).all()) for tensor in direction.values())


def test_large_numbers_are_no_infinity() -> None:
    # Their sum is one, so the quick look at the sum of a row does not decide.
    sent = torch.full((2, 4), 3e38)
    part = Collected.of({"weight": sent}, torch.tensor([0.25, 0.25]), torch.zeros(2), local_gradients=2)
    assert part.left_out == 0
    assert torch.equal(part.gradient, torch.full((4,), 1.5e38))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_round_of_which_nothing_is_left_is_an_error(tiny_images: FederatedDataset, engine: str) -> None:
    model = logistic(tiny_images)
    data = poisoned(tiny_images, IDS)
    with pytest.raises(TrainingDivergedError, match="all 3 client updates of round 9 have NaN or infinity"):
        pseudo_gradient(model, model.init(0), data, IDS, fedavg(1), seed=0, round_number=9, engine=engine)


def test_a_round_without_clients_is_refused(tiny_images: FederatedDataset) -> None:
    model = logistic(tiny_images)
    with pytest.raises(ValueError, match="client_ids is empty"):
        pseudo_gradient(model, model.init(0), tiny_images, [], fedsgd(), seed=0, round_number=0)
