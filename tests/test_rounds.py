"""A round: who takes part, how updates are weighed, what the server does, and updates that are not finite."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_tasks import one_round, poisoned, same_bits

from fl_meta.algorithms.optimizers import SGD, Adam, OptimizerState, server_step
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm, LocalWork, fedavg, fedsgd, maml, reptile
from fl_meta.data.batches import sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.interface import Collected
from fl_meta.engines.local_training import LocalTraining, adapted, client_update
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.task import ENGINES, Task, engine_named
from fl_meta.models.images import logistic, mlp
from fl_meta.models.parameters import all_finite, map_params, relative_error
from fl_meta.training.rounds import (
    TrainingDivergedError,
    TrainingState,
    rounds,
    run_round,
)

IDS = ("client_5", "client_0", "client_2")


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
    task, start = Task(model, data, 4, engine_named(engine)), TrainingState(0, params)
    state, _ = run_round(task, start, Stage(algorithm, 1, 3))
    assert state.round_number == 1
    assert relative_error(state.params, expected) < 1e-14
    # Sizes differ, so the two ways to weigh do too.
    other = {"examples": "equal", "equal": "examples"}[weights]
    state, _ = run_round(task, start, Stage(replace(algorithm, weights=other), 1, 3))
    assert relative_error(state.params, expected) > 1e-4


@pytest.mark.parametrize("server", [SGD(0.7, momentum=0.5, weight_decay=0.1), Adam(0.02, 0.5)], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_server_steps_along_the_pseudo_gradient(
    tiny_images: FederatedDataset, server: SGD | Adam, engine: str
) -> None:
    model = logistic(tiny_images)
    algorithm = fedavg(1, client=SGD(0.3), server=server, batch_size=5)
    task = Task(model, tiny_images, 0, engine_named(engine))
    state = TrainingState(0, model.init(0, torch.float64))
    memory: OptimizerState = {}
    for number in range(4):
        clients = sample_clients(0, number, tiny_images.client_ids, 3)
        direction, _ = one_round(
            engine, model, state.params, tiny_images, algorithm, clients, seed=0, round_number=number
        )
        expected, memory = server_step(server, state.params, memory, direction)
        state, _ = run_round(task, state, Stage(algorithm, 4, 3))
        assert relative_error(state.params, expected) < 1e-14


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
    model = logistic(tiny_images)
    task = Task(model, tiny_images, 0, engine_named(engine))
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
    model, stage = logistic(tiny_images), Stage(reptile(2, server=server), 3, 2)
    task = Task(model, tiny_images, 0, engine_named(engine))
    before, _ = run_round(task, TrainingState(0, model.init(0)), stage)
    once, info = run_round(task, before, stage)
    torch.manual_seed(123)
    again, same_info = run_round(task, before, stage)
    assert info == same_info
    assert same_bits(again.params, once.params)
    assert all(same_bits(parts, again.server[name]) for name, parts in once.server.items())


# --- what the info says, and updates that are not finite ------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weights", ["examples", "equal"])
def test_the_info_of_a_round(tiny_images: FederatedDataset, weights: str, engine: str) -> None:
    model = logistic(tiny_images)
    params = model.init(0, torch.float64)
    algorithm = maml(2, weights=weights, batch_size=5)
    updates = [client_update(model, params, tiny_images, i, algorithm, seed=0, round_number=1) for i in IDS]
    shares = [u.num_examples if weights == "examples" else 1 for u in updates]
    direction, info = one_round(engine, model, params, tiny_images, algorithm, IDS, seed=0, round_number=1)
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
    assert not all_finite(bad)
    direction, info = one_round(engine, model, params, data, algorithm, IDS)
    expected, others = one_round(engine, model, params, tiny_images, algorithm, ["client_5", "client_2"])
    # The engine of stacks may put the others together in another way, and so round differently.
    tolerance = 0 if engine == "loop" else 1e-6
    assert relative_error(direction, expected) <= tolerance
    assert (info.clients, info.clients_left_out) == (3, 1)
    assert info.train_loss_before == pytest.approx(others.train_loss_before, rel=tolerance)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_entry_is_enough_to_be_left_out(tiny_images: FederatedDataset, value: float, size: int) -> None:
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

    direction, info = one_round(Fake(), model, params, tiny_images, fedavg(1, client=SGD(0.25)), IDS)
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
    model, data = logistic(tiny_images), poisoned(tiny_images, IDS)
    with pytest.raises(TrainingDivergedError, match="all 3 client updates of round 9 have NaN or infinity"):
        one_round(engine, model, model.init(0), data, fedavg(1), IDS, round_number=9)


def test_a_round_without_clients_is_refused(tiny_images: FederatedDataset) -> None:
    model = logistic(tiny_images)
    with pytest.raises(ValueError, match="client_ids is empty"):
        one_round("stacked", model, model.init(0), tiny_images, fedsgd(), [])
