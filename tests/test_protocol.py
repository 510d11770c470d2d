"""FedEM's protocol: kept momentum, weight decay, a decayed rate, full participation; FedProx and FedAvg+."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from tiny_tasks import IMAGES, assert_same_runs, poisoned, quietly, same_bits
from torch import nn

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.stages import Stage, decayed
from fl_meta.algorithms.table import Algorithm, LocalWork, fedavg, fedprox, fomaml, maml, reptile
from fl_meta.data.batches import batch_plan, sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.client_momentum import ClientMomentum
from fl_meta.engines.interface import Engine
from fl_meta.engines.local_training import LocalTraining
from fl_meta.engines.stacked.engine import StackedEngine
from fl_meta.engines.task import ENGINES, Task
from fl_meta.evaluation.personalization import Evaluation, score_clients
from fl_meta.models.images import mlp
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, relative_error
from fl_meta.training.checkpoints import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from fl_meta.training.rounds import TrainingState, rounds, run_round
from fl_meta.training.run import Run

SEED, BATCH = 3, 4
CLIENT = SGD(0.1, momentum=0.9, weight_decay=5e-4)
AVERAGE = SGD(1.0)
ENGINES_TRIED: dict[str, Engine] = ENGINES | {
    "one worker": StackedEngine(workers=1),
    # Three clients a chunk at most, two chunks at once.
    "two workers": StackedEngine(workers=2, chunk_bytes=40_000),
}


@pytest.fixture(params=ENGINES_TRIED)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES_TRIED[request.param]


def kept(mu: float = 0.0, client: object = CLIENT) -> Algorithm:
    """FedAvg, or FedProx, of one epoch, whose clients keep their momentum."""
    return fedprox(mu, 1, client=client, server=AVERAGE, batch_size=BATCH, keeps_momentum=True)


def schedule(algorithm: Algorithm, clients: int | None) -> list[Stage]:
    """Six rounds, with a tenth of the rate from the third on and a hundredth from the fifth."""
    return decayed(Stage(algorithm, 6, clients), at=(2, 4))


# --- an oracle: one torch.optim.SGD per client for the whole run ----------------------------------------


class Client:
    """A client with a module and an optimizer of its own, as one would write it by hand."""

    def __init__(self, model: Model, data: FederatedDataset, client_id: str) -> None:
        self.module = model.build().double()
        self.examples, self.client_id = data[client_id], client_id
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

    def epoch(self, params: Params, rate: float, round_number: int, mu: float) -> Params:
        """One epoch from `params`; the optimizer goes on where it was."""
        self.module.load_state_dict(params)
        self.optimizer.param_groups[0]["lr"] = rate
        x, y = (torch.from_numpy(part) for part in (self.examples.train_x, self.examples.train_y))
        for rows in batch_plan(SEED, round_number, self.client_id, len(x), batch_size=BATCH, epochs=1):
            loss = nn.functional.cross_entropy(self.module(x[rows].double()), y[rows])
            for name, parameter in self.module.named_parameters():
                loss = loss + mu / 2 * (parameter - params[name]).square().sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return {name: tensor.detach().clone() for name, tensor in self.module.named_parameters()}

    def score(self) -> tuple[float, float]:
        """Loss and accuracy on the test part."""
        with torch.no_grad():
            logits = self.module(torch.from_numpy(self.examples.test_x).double())
        y = torch.from_numpy(self.examples.test_y)
        return float(nn.functional.cross_entropy(logits, y)), float((logits.argmax(1) == y).double().mean())


def oracle(model: Model, data: FederatedDataset, clients: int | None, mu: float) -> Iterator[Params]:
    """The global parameters before the first and after every round of `schedule`."""
    everyone = {client_id: Client(model, data, client_id) for client_id in data.client_ids}
    params = model.init(SEED, torch.float64)
    yield params
    for number, rate in enumerate((0.1, 0.1, 0.01, 0.01, 0.001, 0.001)):
        chosen = sample_clients(SEED, number, data.client_ids, clients or len(data))
        sizes = np.array([len(data[client_id].train_x) for client_id in chosen])
        ends = [everyone[client_id].epoch(params, rate, number, mu) for client_id in chosen]
        shares = sizes / sizes.sum()
        params = {
            name: sum((share * end[name] for share, end in zip(shares, ends, strict=True)), torch.zeros(()))
            for name in params
        }
        yield params


# Each of two values of each option, but not all of their combinations.
@pytest.mark.parametrize(
    ("name", "clients", "mu"),
    [("mlp", None, 0.0), ("mlp", 3, 0.7), ("small_cnn", 3, 0.0), ("small_cnn", None, 0.7)],
)
def test_clients_have_one_optimizer_for_the_whole_run(
    tiny_images: FederatedDataset, engine: Engine, name: str, clients: int | None, mu: float
) -> None:
    model = IMAGES[name](tiny_images)
    *_, expected = oracle(model, tiny_images, clients, mu)
    stages = schedule(kept(mu), clients)
    start = model.init(SEED, torch.float64)
    run = quietly(model, tiny_images, stages, seed=SEED, params=start, engine=engine)
    assert relative_error(run.params, expected) < 1e-12
    # It matters that they keep it.
    afresh = [replace(stage, algorithm=replace(stage.algorithm, keeps_momentum=False)) for stage in stages]
    other = quietly(model, tiny_images, afresh, seed=SEED, params=start, engine=engine)
    assert relative_error(other.params, expected) > 1e-3


@pytest.mark.parametrize("every", [1, 3])
def test_an_evaluation_that_keeps_momentum_has_optimizers_of_its_own(
    tiny_images: FederatedDataset, engine: Engine, every: int
) -> None:
    # As in FedEM's code: never the training's buffers, never the decayed rate, from the untrained model on.
    model = mlp(tiny_images, hidden=7)
    held_out = tiny_images.subset(tiny_images.client_ids[:4])
    evaluation = Evaluation(held_out, every, 1, client=CLIENT, keeps_momentum=True)
    start, stages = model.init(SEED, torch.float64), schedule(kept(), None)
    run = quietly(model, tiny_images, stages, seed=SEED, params=start, evaluation=evaluation, engine=engine)
    evaluated = {client_id: Client(model, held_out, client_id) for client_id in held_out.client_ids}
    for number, params in enumerate(oracle(model, tiny_images, None, 0.0)):
        if number % every == 0:
            for client in evaluated.values():
                client.epoch(params, 0.1, 0, 0.0)
            scores = np.array([client.score() for client in evaluated.values()])
            row = run.history.loc[number]
            assert row.held_out_personalized_test_loss_by_client == pytest.approx(scores[:, 0].mean())
            assert row.held_out_personalized_test_accuracy_by_client == pytest.approx(scores[:, 1].mean())
    assert run.table is not None
    last = run.table.rows[run.table.rows.epoch == 1].set_index("client_id").loc[list(evaluated)]
    np.testing.assert_allclose(last[["test_loss", "test_accuracy"]], scores, rtol=1e-10)
    assert run.evaluation_momentum.buffers.keys() == evaluated.keys()


# --- what is kept, and of whom --------------------------------------------------------------------------


def rounds_of(
    model: Model, data: FederatedDataset, stages: Sequence[Stage], engine: Engine
) -> list[TrainingState]:
    """The states before the first round and after each."""
    start = TrainingState(0, model.init(SEED, torch.float64))
    task = Task(model, data, SEED, engine)
    return [start, *(state for _, state, _ in rounds(task, stages, start))]


def scored(
    model: Model, params: Params, data: FederatedDataset, engine: Engine, momentum: ClientMomentum
) -> ClientMomentum:
    """The buffers after an epoch of personalization."""
    task = Task(model, data, SEED, engine)
    _, after = score_clients(task, params, LocalWork(CLIENT, BATCH, 1), momentum=momentum)
    assert after is not None
    return after


def test_a_round_touches_its_own_clients_and_copies_no_other(
    tiny_images: FederatedDataset, engine: Engine
) -> None:
    model = mlp(tiny_images, hidden=7)
    states = rounds_of(model, tiny_images, [Stage(kept(), 5, 2)], engine)
    seen: set[str] = set()
    for number, (before, after) in enumerate(pairwise(states)):
        chosen = sample_clients(SEED, number, tiny_images.client_ids, 2)
        seen |= set(chosen)
        assert after.momentum.buffers.keys() == seen
        for client_id in seen:
            same = after.momentum.buffers[client_id] is before.momentum.buffers.get(client_id)
            assert same == (client_id not in chosen)
    # A round is a function of the state, which it leaves as it is.
    again, _ = run_round(Task(model, tiny_images, SEED, engine), states[1], Stage(kept(), 5, 2))
    assert same_bits(again.momentum.buffers, states[2].momentum.buffers)


def test_a_buffer_holds_no_memory_but_its_own(tiny_images: FederatedDataset, engine: Engine) -> None:
    # A view would keep the memory of a whole chunk, of clients that took part long ago too.
    model = mlp(tiny_images, hidden=7)
    [_, state] = rounds_of(model, tiny_images, [Stage(kept(), 1, None)], engine)
    momentum = scored(model, state.params, tiny_images, engine, ClientMomentum())
    for buffers in (state.momentum.buffers, momentum.buffers):
        assert len(buffers) == 6
        assert {b.untyped_storage().nbytes() for b in buffers.values()} == {model.num_parameters * 8}


def test_without_weight_decay_too(tiny_images: FederatedDataset, engine: Engine) -> None:
    # Then the fast engine could do without the first layer's weights, but not with a buffer in them.
    model = mlp(tiny_images, hidden=7)
    stages = [Stage(kept(0.2, SGD(0.1, momentum=0.9)), 3, 4)]
    found, expected = (rounds_of(model, tiny_images, stages, one)[-1] for one in (engine, ENGINES["loop"]))
    assert relative_error(found.params, expected.params) < 1e-12
    assert relative_error(found.momentum.buffers, expected.momentum.buffers) < 1e-12


def test_a_stage_that_keeps_no_momentum_drops_it(tiny_images: FederatedDataset) -> None:
    model = mlp(tiny_images, hidden=7)
    keeping, dropping = Stage(kept(), 1, None), Stage(replace(kept(), keeps_momentum=False), 1, None)
    states = rounds_of(model, tiny_images, [keeping, keeping, dropping, keeping], ENGINES["stacked"])
    assert [len(state.momentum.buffers) for state in states] == [0, 6, 6, 0, 6]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_client_that_is_left_out_keeps_what_it_had(
    tiny_images: FederatedDataset, engine: Engine, value: float
) -> None:
    model = mlp(tiny_images, hidden=7)
    [first, second] = rounds_of(model, tiny_images, [Stage(kept(), 1, None)], engine)
    assert not first.momentum.buffers
    bad = tiny_images.client_ids[2]
    broken = poisoned(tiny_images, [bad], value)
    after, info = run_round(Task(model, broken, SEED, engine), second, Stage(kept(), 2, None))
    assert info.clients_left_out == 1
    assert after.momentum.buffers[bad] is second.momentum.buffers[bad]
    # The others' are as if it had not been there.
    rest = tiny_images.subset([name for name in tiny_images.client_ids if name != bad])
    expected, _ = run_round(Task(model, rest, SEED, ENGINES["loop"]), second, Stage(kept(), 2, None))
    for name in rest.client_ids:
        found = after.momentum.buffers[name]
        torch.testing.assert_close(found, expected.momentum.buffers[name], rtol=1e-10, atol=1e-14)
    # Left out from the first round on, it has none, and starts at zero once its data are mended.
    never, _ = run_round(Task(model, broken, SEED, engine), first, Stage(kept(), 2, None))
    assert bad not in never.momentum.buffers and len(never.momentum.buffers) == 5


def test_a_buffer_that_diverged_is_not_kept(tiny_images: FederatedDataset, engine: Engine) -> None:
    model = mlp(tiny_images, hidden=7)
    params = model.init(SEED, torch.float64)
    before = scored(model, params, tiny_images, engine, ClientMomentum())
    after = scored(model, params, poisoned(tiny_images, ["client_1"]), engine, before)
    changed = [after.buffers[name] is not before.buffers[name] for name in tiny_images.client_ids]
    assert changed == [True, False, True, True, True, True]


# --- resuming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [None, 2])
def test_resumed_bit_for_bit(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clients: int | None
) -> None:
    model = mlp(tiny_images, hidden=7)
    # A client may be called what it likes.
    names = {name: f"{name}/of: a play" for name in tiny_images.client_ids}
    data = replace(tiny_images, client_ids=tuple(names.values()))
    evaluation = Evaluation(data, 2, 1, client=CLIENT, keeps_momentum=True)

    def go(path: Path) -> Run:
        stages, checkpoint = schedule(kept(0.1), clients), Checkpoint(path, every=100)
        return quietly(model, data, stages, seed=SEED, evaluation=evaluation, checkpoint=checkpoint)

    whole = go(tmp_path / "whole")
    assert_same_runs(go(tmp_path / "whole"), whole)  # read back, without a round
    for stop in range(6):
        path = tmp_path / f"{stop}"

        def interrupted(*arguments: object, stop: int = stop) -> object:
            if arguments[1].round_number == stop:
                raise KeyboardInterrupt
            return run_round(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr("fl_meta.training.rounds.run_round", interrupted)
            with pytest.raises(KeyboardInterrupt):
                go(path)
        assert_same_runs(go(path), whole)


def test_a_checkpoint_from_before_there_were_such_options_goes_on(
    tiny_images: FederatedDataset, tmp_path: Path
) -> None:
    model = mlp(tiny_images, hidden=7)

    def go(algorithm: Algorithm) -> Run:
        evaluation, checkpoint = Evaluation(tiny_images, 1), Checkpoint(tmp_path / "run")
        stages = [Stage(algorithm, 2, 3)]
        return quietly(model, tiny_images, stages, evaluation=evaluation, checkpoint=checkpoint)

    plain = fedavg(1, client=CLIENT, batch_size=BATCH)
    whole = go(plain)
    with pytest.raises(CheckpointError) as error:
        go(replace(plain, proximal=0.5, keeps_momentum=True))
    for told in ("proximal is 0.0 in the checkpoint and 0.5", "keeps_momentum is False in the checkpoint"):
        assert told in str(error.value)
    with safe_open(tmp_path / "run", framework="pt") as file:
        written = json.loads(file.metadata()["notes"])["config"]
    tensors, progress = read_checkpoint(tmp_path / "run", written)
    new = {name for name in written if re.search("proximal|keeps_momentum", name)}
    assert len(new) == 3
    old = {name: value for name, value in written.items() if name not in new}
    write_checkpoint(tmp_path / "run", tensors, old, {"history": progress["history"]})
    again = go(plain)
    pd.testing.assert_frame_equal(again.history, whole.history, check_exact=True)
    with pytest.raises(CheckpointError, match=r"proximal is None in the checkpoint and 0\.5"):
        go(replace(plain, proximal=0.5))


# --- the decayed rate and full participation ------------------------------------------------------------


def test_fedems_schedule() -> None:
    algorithm = kept(client=SGD(0.03, momentum=0.9, weight_decay=5e-4))
    stages = decayed(Stage(algorithm, 200, None), at=(100, 150))
    assert [stage.rounds for stage in stages] == [100, 50, 50]
    rates = [stage.algorithm.client.learning_rate for stage in stages]
    assert rates == pytest.approx([0.03, 0.003, 0.0003], rel=1e-14)
    back = [replace(stage.algorithm, client=algorithm.client) for stage in stages]
    assert back == [algorithm] * 3
    assert {stage.clients_per_round for stage in stages} == {None}
    assert decayed(Stage(algorithm, 7), at=()) == [Stage(algorithm, 7)]


def test_none_is_all_clients_in_every_round(tiny_images: FederatedDataset) -> None:
    model = mlp(tiny_images, hidden=7)
    everyone, counted = (quietly(model, tiny_images, [Stage(kept(), 2, number)]) for number in (None, 6))
    assert list(everyone.history.clients[1:]) == [6, 6]
    assert_same_runs(everyone, counted)


# --- what does not go together --------------------------------------------------------------------------


BOTH = "both are for FedAvg, FedProx, Reptile and FedSGD"
decay = partial(decayed, Stage(kept(), 9))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: replace(fomaml(2, client=CLIENT), proximal=0.1), BOTH),
        (lambda: replace(fomaml(2, client=CLIENT), keeps_momentum=True), BOTH),
        (lambda: replace(maml(2, client=CLIENT), proximal=0.1), BOTH),
        (lambda: replace(maml(2, client=CLIENT), keeps_momentum=True), BOTH),
        (lambda: fedavg(1, client=SGD(0.1), keeps_momentum=True), "but the client's momentum is 0; give it"),
        (lambda: reptile(1, client=SGD(0.1), keeps_momentum=True), "but the client's momentum is 0; give it"),
        (lambda: fedprox(-0.1, 1), "proximal (FedProx's mu) = -0.1 is not 0 or more"),
        (lambda: fedprox(np.nan, 1), "proximal (FedProx's mu) = nan is not 0 or more"),
        (lambda: fedprox(np.inf, 1), "proximal (FedProx's mu) = inf is not 0 or more"),
        (lambda: decay((2, 2)), "at=(2, 2) must rise, above 0 and below the stage's 9 rounds"),
        (lambda: decay((4, 3)), "at=(4, 3) must rise"),
        (lambda: decay((9,)), "at=(9,) must rise"),
        (lambda: decay((0,)), "at=0 must be a whole number of 1 or more"),
        (lambda: decay((3.5,)), "at=3.5 must be a whole number"),
        (lambda: decay((3,), 1.0), "factor=1.0 is not above 0 and below 1"),
        (lambda: decay((3,), 0.0), "factor=0.0 is not"),
        (lambda: decay((3,), np.nan), "factor=nan is not"),
        (lambda: decayed(Stage(fedavg(1), 9), (3,)), "would start afresh at every decay; take server=SGD"),
        (lambda: decayed(Stage(reptile(1), 9), (3,)), "would start afresh at every decay; take server=SGD"),
    ],
)
def test_what_does_not_go_together_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize(
    ("momentum", "client", "message"),
    [
        (ClientMomentum(), SGD(0.1), "the client's momentum is 0"),
        (
            ClientMomentum({"client_1": torch.zeros(3)}),
            CLIENT,
            r"has the shape \(3,\), but the model has \d+ parameters",
        ),
    ],
)
def test_momentum_that_is_not_there_cannot_be_kept(
    tiny_images: FederatedDataset, momentum: ClientMomentum, client: SGD, message: str
) -> None:
    model = mlp(tiny_images, hidden=7)
    with pytest.raises(ValueError, match=message):
        LocalTraining(model, model.init(0), tiny_images, LocalWork(client, 4, 1), 0, momentum=momentum)


@pytest.mark.parametrize(("epochs", "client"), [(1, None), (1, SGD(0.1)), (0, CLIENT)])
def test_an_evaluation_keeps_momentum_of_an_optimizer_of_its_own(
    tiny_images: FederatedDataset, epochs: int, client: SGD | None
) -> None:
    with pytest.raises(ValueError, match="needs at least one epoch and a client optimizer of its own"):
        Evaluation(tiny_images, 1, epochs, client=client, keeps_momentum=True)
