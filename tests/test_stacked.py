"""The stacked engine gives the same numbers as the loop; and its threads, chunks and padding."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tasks import (
    IMAGES,
    TEXT,
    LSTMWithDropout,
    assert_same_runs,
    one_round,
    poisoned,
    quietly,
    same_bits,
)
from torch import Tensor, nn

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm, LocalWork, fedavg, fedprox, fedsgd, fomaml, maml, reptile
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.data.on_demand import OnDemand
from fl_meta.engines.interface import Collected, Engine, Score
from fl_meta.engines.local_training import LocalTraining
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.stacked import engine as stacked
from fl_meta.engines.stacked import stack
from fl_meta.engines.stacked.batch import segments
from fl_meta.engines.stacked.engine import StackedEngine
from fl_meta.engines.stacked.layers import add_gradients, layers_of
from fl_meta.engines.threads import one_thread
from fl_meta.evaluation.personalization import Evaluation
from fl_meta.models.images import emnist_cnn, fedem_cnn, linear_binary, logistic, mlp, small_cnn
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, relative_error
from fl_meta.training.checkpoints import Checkpoint
from fl_meta.training.rounds import RoundInfo
from fl_meta.training.run import Run

PLAIN = SGD(0.1)
HEAVY = SGD(0.05, momentum=0.8, weight_decay=0.05)
STAGES = [
    Stage(fedavg(1, client=SGD(0.2, momentum=0.5), batch_size=4), 2, 4),
    Stage(reptile(3, client=SGD(0.2), server=Adam(0.01), batch_size=4), 2, 4),
    Stage(maml(2, client=SGD(0.2), server=Adam(0.01), batch_size=4), 2, 4),
]


def vectors(sizes: Sequence[int], features: int = 30) -> FederatedDataset:
    """Clients of so many train examples, and between 2 and 4 test examples each."""
    generator = np.random.default_rng(4)
    owners, is_test = [], []
    for client, size in enumerate(sizes):
        test = 2 + client % 3
        owners += [f"client_{client:03}"] * (size + test)
        is_test += [False] * size + [True] * test
    return FederatedDataset.from_arrays(
        generator.normal(size=(len(owners), features)),
        generator.integers(4, size=len(owners)),
        owners,
        test_mask=is_test,
        num_classes=4,
    )


def training_of(model: Model, data: FederatedDataset, algorithm: Algorithm) -> LocalTraining:
    """A round of the algorithm from the model's initial parameters."""
    return LocalTraining(model, model.init(0), data, algorithm.local_work, 3, 2)


def adaptation_of(
    model: Model,
    data: FederatedDataset,
    client: SGD = PLAIN,
    batch_size: int | None = 4,
    epochs: int = 1,
    dtype: torch.dtype = torch.float64,
) -> LocalTraining:
    """Personalization by so many epochs."""
    return LocalTraining(model, model.init(1, dtype), data, LocalWork(client, batch_size, epochs), 5)


# --- models ---------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """A module with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(30, 30), nn.Linear(30, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(x + torch.tanh(self.first(x)))


class Spare(nn.Module):
    """It has a parameter that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x


class Louder(nn.Module):
    """It does something else in training than in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if self.training else x


class Stop(nn.Module):
    """Nothing before it learns."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Scaled(nn.Module):
    """Pixels as whole numbers to [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float() / 255


def tied() -> nn.Module:
    one, other = nn.Linear(30, 30), nn.Linear(30, 30)
    other.weight = one.weight
    return nn.Sequential(one, nn.Tanh(), other, nn.Tanh(), nn.Linear(30, 4))


def one_layer_twice() -> nn.Module:
    layer = nn.Linear(30, 30)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(30, 4))


def one_activation_twice() -> nn.Module:
    tanh = nn.Tanh()
    return nn.Sequential(nn.Linear(30, 6), tanh, nn.Linear(6, 6), tanh, nn.Linear(6, 4))


def hooked() -> nn.Module:
    layer = nn.Linear(30, 6)
    layer.register_forward_hook(lambda module, inputs, outputs: 2 * outputs)
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(6, 4))


def between(*middle: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """These layers between two linear ones."""
    return lambda: nn.Sequential(nn.Linear(30, 6), *[build() for build in middle], nn.Linear(6, 4))


def square() -> nn.Module:
    return nn.Linear(6, 6)


USERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(30, 4),
    "no bias": lambda: nn.Sequential(
        nn.Linear(30, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False), nn.Tanh(), nn.Linear(6, 4)
    ),
    "nested": lambda: nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(30, 6), nn.Sequential(nn.Tanh(), square())), nn.Linear(6, 4)
    ),
    "own forward": Residual,
    "own forward inside": lambda: nn.Sequential(nn.Linear(30, 30), Residual(), nn.Tanh(), nn.Linear(4, 4)),
    "GELU, Sigmoid": between(nn.GELU, square, nn.Sigmoid),
    "PReLU": between(lambda: nn.PReLU(6)),
    "LayerNorm first": lambda: nn.Sequential(nn.LayerNorm(30), nn.Linear(30, 4)),
    "GroupNorm": between(lambda: nn.GroupNorm(2, 6), nn.ReLU),
    "dropout": between(nn.ReLU, lambda: nn.Dropout(0.4), square, lambda: nn.Dropout(0.2), nn.Tanh),
    "dropout first": lambda: nn.Sequential(nn.Dropout(0.4), nn.Linear(30, 4)),
    "dropout in place": between(lambda: nn.Dropout(0.4, inplace=True)),
    "dropout of nothing": between(lambda: nn.Dropout(0.0), square, lambda: nn.Dropout(0.4)),
    "dropout of everything": between(lambda: nn.Dropout(1.0), square, lambda: nn.Dropout(0.4)),
    "spare parameter": between(Spare, nn.Tanh),
    "spare parameter first": lambda: nn.Sequential(Spare(), nn.Linear(30, 6), nn.Tanh(), nn.Linear(6, 4)),
    "ReLU in place": between(lambda: nn.ReLU(inplace=True)),
    "ELU in place": between(lambda: nn.ELU(inplace=True)),
    "other in training": between(Louder),
    "stop": between(nn.Tanh, Stop),
    "tied weights": tied,
    "one layer twice": one_layer_twice,
    "one activation twice": one_activation_twice,
    "hook": hooked,
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(30, 6)), nn.Tanh(), nn.Linear(6, 4)
    ),
    "softmax over examples": between(lambda: nn.Softmax(0)),
}
OF_IMAGES: dict[str, Callable[[], nn.Module]] = {
    "no bias, no flatten": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 3, 3, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 4),
    ),
    "batch norm": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 4)
    ),
    "two poolings": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4, 4),
    ),
    "linear on rows": lambda: nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4)),
}
OF_TEXT: dict[str, Callable[[], nn.Module]] = {
    "embedding of blank": lambda: nn.Sequential(
        nn.Embedding(10, 4, padding_idx=9), nn.Tanh(), nn.Linear(4, 10)
    ),
    "embedding by frequency": lambda: nn.Sequential(
        nn.Embedding(10, 4, scale_grad_by_freq=True), nn.Linear(4, 10)
    ),
    "embedding and dropout": lambda: nn.Sequential(nn.Embedding(10, 4), nn.Dropout(0.3), nn.Linear(4, 10)),
}
ALL = [*IMAGES, *TEXT, *USERS, *OF_IMAGES, *OF_TEXT, "fedem_cnn", "linear_binary"]


@pytest.fixture
def task(
    request: pytest.FixtureRequest, tiny_images: FederatedDataset, tiny_text: FederatedDataset
) -> tuple[Model, FederatedDataset]:
    """A model and data for it."""
    name = request.param
    if name in IMAGES:
        return IMAGES[name](tiny_images), tiny_images
    if name in TEXT:
        return TEXT[name](tiny_text), tiny_text
    if name in OF_IMAGES:
        return Model(name, OF_IMAGES[name]), tiny_images
    if name in OF_TEXT:
        return Model(name, OF_TEXT[name]), replace(tiny_text, x=tiny_text.x.astype(np.int64))
    if name == "fedem_cnn":  # it needs 16×16 pixels
        wide = replace(tiny_images, x=tiny_images.x.repeat(2, 1).repeat(2, 2))
        return fedem_cnn(wide), wide
    data = vectors([9, 4, 7, 9, 3, 8])
    if name == "linear_binary":
        data = replace(data, y=data.y % 2, num_classes=2)
        return linear_binary(data), data
    return Model(name, USERS[name]), data


def tasks(names: Sequence[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("task", names, indirect=True)


def pairs(
    models: Sequence[str], few_others: Sequence[Any], others: Sequence[Any], few_models: Sequence[str]
) -> list[tuple[str, Any]]:
    """All of the models with a few others, and all others with a few of the models, instead of all pairs."""
    return list(
        dict.fromkeys([*itertools.product(models, few_others), *itertools.product(few_models, others)])
    )


ALGORITHMS = {
    "FedSGD": fedsgd(client=PLAIN, batch_size=4),
    "FedSGD of everything": fedsgd(client=HEAVY, batch_size=None),
    "FedAvg of epochs": fedavg(4, client=PLAIN, batch_size=4),
    "FedAvg of epochs, momentum": fedavg(4, client=SGD(0.05, momentum=0.8), batch_size=3),
    "FedAvg of epochs, heavy": fedavg(2, client=HEAVY, batch_size=5),
    "FedAvg of 20 steps": fedavg(steps=20, client=PLAIN, batch_size=4, weights="equal"),
    "FedAvg of full batches": fedavg(3, client=PLAIN, batch_size=None),
    "FedProx": fedprox(0.8, 4, client=PLAIN, batch_size=4),
    "FedProx of 20 steps, momentum": fedprox(0.3, steps=20, client=SGD(0.05, momentum=0.8), batch_size=4),
    "FedProx, heavy": fedprox(0.5, 2, client=HEAVY, batch_size=5),
    "FedProx, weight decay": fedprox(0.7, 2, client=SGD(0.1, weight_decay=0.2), batch_size=5),
    "Reptile": reptile(3, client=HEAVY, batch_size=4),
    "FOMAML": fomaml(3, client=SGD(0.1, momentum=0.5), batch_size=4),
    "FOMAML, plain": fomaml(9, client=PLAIN, batch_size=4, weights="examples"),
    "MAML": maml(4, client=PLAIN, batch_size=4),
    "MAML, heavy": maml(3, client=HEAVY, batch_size=4, weights="examples"),
}


def assert_equal_to_the_loop(
    model: Model,
    data: FederatedDataset,
    algorithm: Algorithm,
    tolerance: float = 1e-12,
    dtype: torch.dtype = torch.float64,
    engine: str | Engine = "stacked",
) -> RoundInfo:
    """Both engines give the same round, but for padding; the info is the stacks'."""
    params = model.init(1, dtype)
    (expected, loop), (found, info) = (one_round(e, model, params, data, algorithm) for e in ("loop", engine))
    assert list(found) == list(params)
    assert relative_error(found, expected) < tolerance
    assert info.train_loss_before == pytest.approx(loop.train_loss_before, rel=tolerance)
    counts = ("clients", "clients_left_out", "local_gradients")
    assert [getattr(info, name) for name in counts] == [getattr(loop, name) for name in counts]
    assert same_bits(params, model.init(1, dtype))
    assert not any(tensor.requires_grad for tensor in params.values())
    assert loop.padding_share == 0 <= info.padding_share <= 0.1
    return info


@pytest.fixture
def one_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients in one chunk, whatever the model: as it may be on a GPU."""

    def chunks(_: object, training: LocalTraining, ids: Sequence[str], *__: object) -> list[list[str]]:
        return [sorted(ids, key=training.num_examples, reverse=True)]

    monkeypatch.setattr(StackedEngine, "_chunks", chunks)


# --- equal to the loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "name"),
    pairs(ALL, ["FedAvg of epochs", "MAML, heavy"], list(ALGORITHMS), ["mlp", "small_cnn"]),
    indirect=["task"],
)
def test_equal_to_the_loop(task: tuple[Model, FederatedDataset], name: str) -> None:
    assert_equal_to_the_loop(*task, ALGORITHMS[name])


@pytest.mark.parametrize(
    ("task", "name"), pairs([*IMAGES, *TEXT], ["MAML"], ["FedAvg of 20 steps"], ["mlp"]), indirect=["task"]
)
def test_equal_to_the_loop_in_float32(task: tuple[Model, FederatedDataset], name: str) -> None:
    info = assert_equal_to_the_loop(*task, ALGORITHMS[name], 1e-4, torch.float32)
    assert info.pseudo_gradient_norm > 1e-3


@pytest.mark.parametrize(
    ("task", "name"),
    pairs(
        ["mlp", "small_cnn", "emnist_cnn", "char_mlp", "char_lstm", "own forward inside", "batch norm"],
        ["MAML, heavy"],
        ["FedAvg of epochs", "FedAvg of epochs, heavy", "FOMAML"],
        ["small_cnn", "char_mlp"],
    ),
    indirect=["task"],
)
def test_equal_to_the_loop_in_one_stack(
    task: tuple[Model, FederatedDataset], name: str, one_stack: None
) -> None:
    # Layers without a rule go through vmap, and clients of other sizes are not padded there.
    info = assert_equal_to_the_loop(*task, ALGORITHMS[name])
    stackable = all(layer.stackable for layer in layers_of(task[0].module))
    assert info.padding_share == 0 or stackable


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_whole_numbers_of_any_type(
    tiny_images: FederatedDataset, tiny_text: FederatedDataset, dtype: Any
) -> None:
    data = replace(tiny_text, x=tiny_text.x.astype(dtype))
    assert_equal_to_the_loop(TEXT["char_mlp"](data), data, fedavg(1, batch_size=2))
    assert_equal_to_the_loop(TEXT["char_lstm"](data), data, fedavg(1, batch_size=2))
    data = replace(tiny_images, y=tiny_images.y.astype(dtype))
    assert_equal_to_the_loop(mlp(data, 5), data, fedavg(2, batch_size=4))
    assert_equal_to_the_loop(small_cnn(data), data, fedavg(1, batch_size=4))


def test_inputs_of_whole_numbers_stay_so(tiny_images: FederatedDataset) -> None:
    data = replace(tiny_images, x=(tiny_images.x * 255).astype(np.uint8))
    model = Model("pixels", lambda: nn.Sequential(Scaled(), nn.Flatten(), nn.Linear(64, 4)))
    assert_equal_to_the_loop(model, data, fedavg(2, batch_size=4), 1e-5, torch.float32)


@pytest.mark.parametrize("name", ["FedAvg of epochs", "MAML"])
@tasks(TEXT)
def test_labels_that_are_not_there(task: tuple[Model, FederatedDataset], name: str) -> None:
    # Of one client nothing is known, so it stands still; of another a few whole examples.
    model, data = task
    y = data.y.copy()
    y[data.starts[1] : data.starts[1] + data.train_counts[1]] = PADDING
    y[data.starts[2] : data.starts[2] + 2] = PADDING
    params = model.init(1, torch.float64)
    one, other = (
        one_round(e, model, params, replace(data, y=y), ALGORITHMS[name]) for e in ("loop", "stacked")
    )
    assert relative_error(other[0], one[0]) < 1e-12
    assert other[1].clients_left_out == 0
    silent = one_round("stacked", model, params, replace(data, y=y).subset(["role_1"]), ALGORITHMS[name])[0]
    assert all(not tensor.any() for tensor in silent.values())


def test_a_smaller_batch_between_larger_ones(one_stack: None) -> None:
    # In the second step the first client's batch has 12 examples, the second's 11, and the third begins anew.
    data = vectors([24, 23, 12])
    assert (
        assert_equal_to_the_loop(mlp(data, 4), data, fedavg(steps=2, batch_size=12)).padding_share == 1 / 72
    )


@pytest.mark.parametrize("algorithm", [fedavg(2, batch_size=2), maml(2, batch_size=2)], ids=lambda a: a.name)
def test_one_short_text_among_full_ones(
    tiny_text: FederatedDataset, algorithm: Algorithm, one_stack: None
) -> None:
    # By two, so that there are no places to fill up but only labels that are not there.
    y = np.where(tiny_text.y == PADDING, 3, tiny_text.y)
    y[tiny_text.starts[2], 2:] = PADDING
    data = replace(tiny_text, y=y)
    assert_equal_to_the_loop(TEXT["char_mlp"](data), data, algorithm)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=9),
    batch_size=st.none() | st.integers(1, 13),
    work=st.tuples(st.sampled_from(["epochs", "steps"]), st.integers(1, 6)),
    client=st.sampled_from([PLAIN, HEAVY, SGD(0.1, momentum=0.5), SGD(0.1, weight_decay=0.1)]),
    hidden=st.integers(0, 3),
    chunk_bytes=st.sampled_from([None, 1, 20_000]),
)
def test_equal_to_the_loop_whatever_the_sizes(
    sizes: list[int],
    batch_size: int | None,
    work: tuple[str, int],
    client: SGD,
    hidden: int,
    chunk_bytes: int | None,
) -> None:
    data = vectors(sizes, features=7)
    model = mlp(data, hidden) if hidden else logistic(data)
    algorithm = fedavg(**dict([work]), client=client, batch_size=batch_size)
    # Where the pseudo-gradient nearly vanishes, both are rounding errors of what was added up.
    assert_equal_to_the_loop(model, data, algorithm, 1e-11, engine=StackedEngine(1, chunk_bytes))


@pytest.mark.parametrize(
    "build",
    [lambda: nn.Sequential(nn.Dropout2d(0.4), nn.Flatten(), nn.Linear(64, 4)), LSTMWithDropout],
    ids=["Dropout2d", "LSTM"],
)
@pytest.mark.filterwarnings("ignore:dropout2d")
def test_random_numbers_that_have_one_state_go_through_the_loop(
    tiny_images: FederatedDataset, build: Callable[[], nn.Module]
) -> None:
    model, algorithm = Model("random", build), fedavg(1, batch_size=4)
    assert_same_bits(*(outputs(e, model, tiny_images, algorithm) for e in (StackedEngine(3), LoopEngine())))


def test_the_global_generator_is_neither_read_nor_advanced(tiny_images: FederatedDataset) -> None:
    model = emnist_cnn(tiny_images)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = one_round("stacked", model, model.init(0), tiny_images, fedavg(1))[0]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert relative_error(one_round("stacked", model, model.init(0), tiny_images, fedavg(1))[0], first) == 0


def test_examples_made_on_demand(tiny_images: FederatedDataset) -> None:
    clients = list(tiny_images)
    x = OnDemand(
        lambda i: np.concatenate([clients[i].train_x, clients[i].test_x]),
        tiny_images.counts,
        (8, 8),
        tiny_images.x.dtype,
        "the tiny images",
    )
    model = mlp(tiny_images, 5)
    on_demand, in_memory = (
        one_round("stacked", model, model.init(0), data, fedavg(2, batch_size=4))[0]
        for data in (replace(tiny_images, x=x), tiny_images)
    )
    assert relative_error(on_demand, in_memory) == 0


# --- threads --------------------------------------------------------------------------------------------


Outputs = tuple[list[Collected], list[Score]]


def outputs(engine: Engine, model: Model, data: FederatedDataset, algorithm: Algorithm) -> Outputs:
    """What the clients send in a round, and their scores after an epoch of personalization."""
    training = training_of(model, data, algorithm)
    adaptation = replace(training, work=replace(training.work, epochs=1, steps=None), round_number=0)
    collected = list(engine.collect(training, data.client_ids, algorithm))
    return collected, list(engine.scores(adaptation, data.client_ids))


def assert_same_bits(expected: Outputs, found: Outputs) -> None:
    for a, b in zip(expected[0], found[0], strict=True):
        for field in fields(Collected):
            x, y = getattr(a, field.name), getattr(b, field.name)
            assert torch.equal(x, y) if isinstance(x, Tensor) else x == y
    assert found[1] == expected[1]


@pytest.fixture
def threads_inside(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Eight cores are idle; the set of all numbers of threads that gradients were computed with."""
    numbers: set[int] = set()

    def watch(*args: Any) -> None:
        numbers.add(torch.get_num_threads())
        add_gradients(*args)

    monkeypatch.setattr(stacked, "idle_cores", lambda: 8)
    monkeypatch.setattr(stack, "add_gradients", watch)
    return numbers


def assert_workers_change_no_bit(model: Model, data: FederatedDataset, algorithm: Algorithm) -> None:
    with one_thread():
        alone, *others = (outputs(StackedEngine(n), model, data, algorithm) for n in (1, 2, 3, 8))
        assert torch.get_num_threads() == 1
    for other in others:
        assert_same_bits(alone, other)


@tasks(["logistic", "emnist_cnn", "char_lstm", "dropout", "own forward"])
def test_the_number_of_workers_changes_no_bit(
    task: tuple[Model, FederatedDataset], threads_inside: set[int]
) -> None:
    assert_workers_change_no_bit(*task, maml(1, batch_size=4))


@pytest.mark.parametrize(
    "algorithm",
    [
        fedavg(2, client=SGD(0.05), batch_size=20),
        fedavg(1, client=SGD(0.05, weight_decay=0.1), batch_size=20),  # not dual
        maml(2, client=SGD(0.05), batch_size=20),
    ],
    ids=lambda a: f"{a.name} {a.client.weight_decay}",
)
@pytest.mark.parametrize("features", [784, pytest.param(785, marks=pytest.mark.slow)])
def test_threads_inside_operations_change_no_bit(
    algorithm: Algorithm, features: int, threads_inside: set[int]
) -> None:
    # Products of this size are divided among threads, and stacks of one client are left at the end.
    data = vectors([100, 100, 61, 40, 40, 7], features)
    assert_workers_change_no_bit(mlp(data), data, algorithm)
    assert {1, 2, 3} <= threads_inside


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU])
def test_threads_change_no_bit_of_any_activation(
    activation: type[nn.Module], threads_inside: set[int]
) -> None:
    # 15 · 13 · 200 numbers: enough that PyTorch divides an activation, into parts of no round number.
    data = vectors([26] * 15, 50)
    model = Model("mlp", lambda: nn.Sequential(nn.Linear(50, 200), activation(), nn.Linear(200, 4)))
    assert_workers_change_no_bit(model, data, fedavg(1, client=SGD(0.1), batch_size=13))


@pytest.mark.parametrize(("idle", "used"), [(1, 1), (2, 2), (5, 3)])
def test_only_idle_cores_are_used(
    idle: int, used: int, threads_inside: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = vectors([5] * 12)
    monkeypatch.setattr(stacked, "idle_cores", lambda: idle)
    training = training_of(logistic(data), data, fedavg(1))
    before = torch.get_num_threads()
    chunks = StackedEngine(3, chunk_bytes=1).collect(training, data.client_ids, fedavg(1))
    next(chunks)
    assert torch.get_num_threads() == before  # also between the chunks
    list(chunks)
    assert threads_inside == {1}  # stacks of one client
    list(StackedEngine(3).collect(training, data.client_ids, fedavg(1)))
    assert threads_inside == {1, used}
    assert torch.get_num_threads() == before


def test_the_number_of_cores_changes_no_bit_of_a_run(tiny_images: FederatedDataset) -> None:
    data, held_out = tiny_images.split_clients(0.5)
    stages = [replace(stage, rounds=1, clients_per_round=3) for stage in STAGES]
    evaluation = Evaluation(held_out, every=2, personalization_epochs=2)
    before = torch.get_num_threads()
    runs: list[Run] = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            runs.append(quietly(emnist_cnn(data), data, stages, evaluation=evaluation))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert_same_runs(run, runs[0])


class Watched(nn.Module):
    """A linear layer that tells `seen` of every call, and does as `during` says."""

    seen: list[tuple[int, int]]
    during: Callable[[Tensor], None]

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(30, 4)

    def forward(self, x: Tensor) -> Tensor:
        Watched.seen.append((threading.get_ident(), torch.get_num_threads()))
        Watched.during(x)
        return self.inner(x)


@pytest.fixture
def watched() -> Iterator[Model]:
    """A model of one chunk per client; when the test ends, so has every thread that it started."""
    Watched.seen = []
    Watched.during = lambda _: None
    before = set(threading.enumerate())
    yield Model("watched", Watched)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("workers", [None, 1, 2, 3])
def test_as_many_threads_as_asked_for_or_allowed(watched: Model, workers: int | None) -> None:
    data = vectors([5] * 12)
    Watched.during = lambda _: time.sleep(0.005)
    outside = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        training = training_of(watched, data, fedavg(1))
        with one_thread():
            list(StackedEngine(workers).collect(training, data.client_ids, fedavg(1)))
        list(StackedEngine(3).collect(training, data.client_ids, fedavg(1)))
        # Nothing is left of one thread, neither here nor in threads that are started later.
        with ThreadPoolExecutor(1) as pool:
            assert torch.get_num_threads() == pool.submit(torch.get_num_threads).result() == 4
    finally:
        torch.set_num_threads(outside)
    calls = Watched.seen[: len(Watched.seen) // 2]
    threads = {thread for thread, _ in calls}
    assert len(threads) == (workers or 4)
    assert (threading.get_ident() in threads) == (workers == 1)
    assert {number for _, number in Watched.seen} == {1}


class OwnError(Exception):
    pass


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_one_client_reaches_the_caller_as_it_is(watched: Model, workers: int) -> None:
    data = vectors([5] * 12)

    def fail(inputs: Tensor) -> None:
        if inputs.max() > 900:
            raise OwnError("client 4 cannot")

    Watched.during = fail
    training = training_of(watched, poisoned(data, ["client_004"], 1000.0), fedavg(1))
    adaptation = replace(training, work=replace(training.work, epochs=1))
    with pytest.raises(OwnError, match="client 4 cannot"):
        list(StackedEngine(workers).collect(training, data.client_ids, fedavg(1)))
    with pytest.raises(OwnError, match="client 4 cannot"):
        list(StackedEngine(workers).scores(adaptation, data.client_ids))
    with pytest.raises(ValueError, match="num_examples=0 for client"):
        none = replace(training, data=replace(data, train_counts=0 * data.train_counts))
        list(StackedEngine(workers).collect(none, data.client_ids, fedavg(1)))


@pytest.mark.parametrize("what", ["collect", "scores"])
def test_closed_in_the_middle(watched: Model, what: str) -> None:
    data = vectors([5] * 12)
    data = poisoned(data, data.client_ids[:1], 100.0, examples=None)
    release = threading.Event()
    # The first client has its 50 steps at once; each of the others waits in its first.
    Watched.during = lambda x: None if x.max() > 50 else release.wait(30) and None
    training = training_of(watched, data, fedavg(50))
    engine = StackedEngine(2)
    more = [fedavg(50)] if what == "collect" else []
    parts = [getattr(engine, what)(training, data.client_ids, *more)]
    next(parts[0])
    before = len(Watched.seen)
    assert before >= 50
    closing = threading.Thread(target=parts.clear)  # nobody holds it any longer
    closing.start()
    time.sleep(0.2)
    release.set()
    closing.join()
    # Two were in a step, or about to begin one; they have begun no other.
    assert len(Watched.seen) - before <= 4


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_interrupted_while_waiting(watched: Model) -> None:
    data = vectors([5] * 12)
    calls = itertools.count(1)

    def interrupt(_: Tensor) -> None:
        time.sleep(0.002)
        if next(calls) == 30:
            os.kill(os.getpid(), signal.SIGINT)

    Watched.during = interrupt
    params = watched.init(0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            one_round(StackedEngine(2), watched, params, data, fedavg(50))
    finally:
        signal.signal(signal.SIGINT, before)
    # There would have been 600 steps.
    assert 30 <= len(Watched.seen) < 300


def test_results_wait_for_a_slow_reader_in_small_numbers(
    tiny_images: FederatedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = vectors([3] * 60)
    reads = []
    read = FederatedDataset.__getitem__
    monkeypatch.setattr(
        FederatedDataset, "__getitem__", lambda self, name: reads.append(name) or read(self, name)
    )
    engine = StackedEngine(2, chunk_bytes=1)
    training = training_of(logistic(data), data, fedavg(1))
    for number, _ in enumerate(engine.collect(training, data.client_ids, fedavg(1)), start=1):
        time.sleep(0.002)  # time enough for the workers to run ahead, if they could
        assert len(reads) <= number + 2 * 2
    assert number == len(reads) == 60


# --- chunks and padding ---------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), max_size=40), st.sampled_from([0.0, 0.05, 0.1, 0.5]))
def test_segments_are_long_runs_with_little_padding(sizes: list[int], limit: float) -> None:
    def fits(first: int, last: int) -> bool:
        places = (last - first) * max(sizes[first:last])
        return places - sum(sizes[first:last]) <= limit * places

    found = list(segments(sizes, limit))
    assert [i for first, last in found for i in range(first, last)] == list(range(len(sizes)))
    assert all(first < last and fits(first, last) for first, last in found)
    assert not any(fits(first, last + 1) for first, last in found[:-1])


@pytest.mark.parametrize(
    ("algorithm", "places", "padding"),
    [
        # Sizes 10, 9, 9, 5, 3: the first three together in 30 places, the others alone.
        (fedsgd(batch_size=None), 30 + 5 + 3, 2),
        (fedavg(3, batch_size=None), 3 * 38, 3 * 2),
        # By two. The second batches are 2, 2, 2, 2, 1 in 10 places, the third 2, 2, 2 and then 1, the fourth
        # 2, 2, 2, and the last 2 and then 1, 1.
        (fedsgd(batch_size=2), 5 * 2, 0),
        (fedavg(1, batch_size=2), 10 + 10 + 7 + 6 + 4, 1),
        # By six: 6, 6, 6, 5 together, and 3.
        (fedsgd(batch_size=6), 24 + 3, 1),
        # And then 4, 3, 3, 5, 3: no neighbours but the first threes come close enough.
        (fedavg(steps=2, batch_size=6), 24 + 3 + 4 + 6 + 5 + 3, 1),
        # MAML runs the batch of its local step once more, backwards.
        (fomaml(1, batch_size=None), 2 * 38, 2 * 2),
        (maml(1, batch_size=None), 3 * 38, 3 * 2),
    ],
    ids=lambda value: value.name if isinstance(value, Algorithm) else "",
)
def test_padding_by_hand(algorithm: Algorithm, places: int, padding: int, one_stack: None) -> None:
    data = vectors([9, 10, 3, 9, 5])
    model = logistic(data)
    training = training_of(model, data, algorithm)
    [part] = StackedEngine().collect(training, data.client_ids, algorithm)
    assert (part.places, part.padding) == (places, padding)
    info = one_round("stacked", model, model.init(0), data, algorithm)[1]
    assert info.padding_share == padding / places


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.integers(1, 30),
    st.tuples(st.sampled_from(["epochs", "steps"]), st.integers(1, 4)),
)
def test_padding_is_at_most_a_tenth(sizes: list[int], batch_size: int, work: tuple[str, int]) -> None:
    data = vectors(sizes, features=2)
    model, algorithm = logistic(data), fedavg(**dict([work]), batch_size=batch_size)
    training = training_of(model, data, algorithm)
    parts = list(StackedEngine(1).collect(training, data.client_ids, algorithm))
    places, padding = sum(part.places for part in parts), sum(part.padding for part in parts)
    # Whatever is no padding is an example of the plan.
    assert places - padding == sum(len(training.plan(name).indices) for name in data.client_ids)
    assert padding <= 0.1 * places
    info = one_round("stacked", model, model.init(0), data, algorithm)[1]
    assert info.padding_share == padding / places


def chunks_of(engine: StackedEngine, model: Model, data: FederatedDataset) -> list[tuple[int, float]]:
    """The number of clients and of their examples in each chunk."""
    algorithm = fedsgd(batch_size=5)  # one gradient per client
    training = training_of(model, data, algorithm)
    parts = engine.collect(training, data.client_ids, algorithm)
    return [(part.local_gradients, part.weight) for part in parts]


def test_chunks_shrink_with_the_bytes_they_may_take() -> None:
    sizes = [3 + i % 7 for i in range(50)]
    data = vectors(sizes)
    model = mlp(data, 20)
    numbers = []
    for chunk_bytes in (2**40, 10**6, 10**5, 3 * 10**4, 1):
        chunks = chunks_of(StackedEngine(chunk_bytes=chunk_bytes), model, data)
        numbers.append(len(chunks))
        assert sum(clients for clients, _ in chunks) == 50
        assert sum(examples for _, examples in chunks) == sum(sizes)
        # A client's parameters and their change are the least that it takes.
        most = max(clients for clients, _ in chunks)
        assert most == 1 or most * 2 * 4 * model.num_parameters <= chunk_bytes
        assert min(clients for clients, _ in chunks) >= 1
    assert numbers == sorted(numbers)
    assert numbers[0] <= 4 < numbers[2] < numbers[-1] == 50


def test_a_chunk_of_larger_batches_or_of_second_order_has_fewer_clients() -> None:
    data = vectors([40] * 40)
    model = mlp(data, 20)

    def number(algorithm: Algorithm) -> int:
        training = training_of(model, data, algorithm)
        return len(list(StackedEngine(chunk_bytes=10**5).collect(training, data.client_ids, algorithm)))

    assert number(fedsgd(batch_size=1)) < number(fedsgd(batch_size=40)) == number(fedsgd(batch_size=None))
    assert number(fomaml(4, batch_size=1)) < number(maml(4, batch_size=1)) <= number(maml(9, batch_size=1))


def test_clients_with_more_examples_come_first() -> None:
    data = vectors([4, 9, 2, 7, 7, 1])
    chunks = chunks_of(StackedEngine(chunk_bytes=1), logistic(data), data)
    assert chunks == [(1, size) for size in (9, 7, 7, 4, 2, 1)]


@tasks(["small_cnn", "char_lstm", "own forward"])
def test_on_a_processor_clients_of_other_layers_are_alone(task: tuple[Model, FederatedDataset]) -> None:
    model, data = task
    assert [clients for clients, _ in chunks_of(StackedEngine(), model, data)] == [1] * len(data)


# --- scores ---------------------------------------------------------------------------------------------


def assert_equal_scores(training: LocalTraining, tolerance: float = 1e-12) -> list[Score]:
    expected = list(LoopEngine().scores(training, training.data.client_ids))
    found = list(StackedEngine().scores(training, training.data.client_ids))
    assert len(found) == len(expected)
    by_key = {(score.client_id, score.epoch): score for score in found}
    assert len(by_key) == len(expected)
    for score in expected:
        other = by_key[score.client_id, score.epoch]
        assert other.loss == pytest.approx(score.loss, rel=tolerance)
        assert (other.correct, other.predictions) == (score.correct, score.predictions)
    return found


@pytest.mark.parametrize(
    ("task", "work"),
    pairs(
        [
            *IMAGES,
            *TEXT,
            "dropout",
            "own forward",
            "other in training",
            "batch norm",
            "embedding of blank",
            "no bias",
            "linear",
        ],
        [(SGD(0.1, momentum=0.8), 4, 3)],
        [(PLAIN, 4, 0), (HEAVY, 3, 1), (PLAIN, None, 4)],
        ["mlp", "char_lstm"],
    ),
    indirect=["task"],
)
def test_scores_are_those_of_the_loop(
    task: tuple[Model, FederatedDataset], work: tuple[SGD, int | None, int]
) -> None:
    assert len(assert_equal_scores(adaptation_of(*task, *work))) == len(task[1]) * (work[-1] + 1)


@tasks(["mlp", "emnist_cnn", "char_lstm"])
def test_scores_are_those_of_the_loop_in_one_stack(
    task: tuple[Model, FederatedDataset], one_stack: None
) -> None:
    assert_equal_scores(adaptation_of(*task, HEAVY, epochs=2))
    # In single precision the loss is that of sums in another order.
    assert_equal_scores(adaptation_of(*task, HEAVY, epochs=2, dtype=torch.float32), 1e-4)


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=8),
    st.none() | st.integers(1, 6),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_scores_are_those_of_the_loop_whatever_the_sizes(
    sizes: list[int], batch_size: int | None, epochs: int, hidden: int
) -> None:
    data = vectors(sizes, features=9)
    model = mlp(data, hidden) if hidden else logistic(data)
    assert_equal_scores(adaptation_of(model, data, PLAIN, batch_size, epochs))


@pytest.mark.parametrize("rows", [1024, 3])
@pytest.mark.parametrize("name", ["logistic", "mlp"])
def test_very_unequal_test_parts_share_a_stack(
    name: str, rows: int, one_stack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "TEST_ROWS", rows)
    sizes = [5, 9, 1, 8, 20, 1, 2, 30, 7, 1]
    data = vectors([4 + size for size in sizes])
    # Whatever comes after a client's first four examples is its test part.
    tests = data.counts - 4
    data = replace(data, train_counts=0 * tests + 4, test_counts=tests)
    # The share of padding that is allowed here puts clients together that the one for training does not.
    loose, tight = (
        len(list(segments(tests.tolist(), limit))) for limit in (stack.SCORING_LIMIT, stack.PADDING_LIMIT)
    )
    assert 1 < loose < tight
    model = logistic(data) if name == "logistic" else mlp(data, 5)
    scores = assert_equal_scores(adaptation_of(model, data, PLAIN, 3, 2))
    assert {s.client_id: s.predictions for s in scores} == dict(zip(data.client_ids, tests, strict=True))


# --- clients that diverge -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("task", "name"),
    pairs(
        ["logistic", "mlp", "nested"],
        ["FedAvg of epochs"],
        ["FedSGD", "FedAvg of epochs, heavy", "FOMAML", "MAML"],
        ["mlp"],
    ),
    indirect=["task"],
)
def test_clients_that_diverge_do_not_touch_their_neighbours(
    task: tuple[Model, FederatedDataset], value: float, name: str, one_stack: None
) -> None:
    model, data = task
    bad, algorithm = [data.client_ids[2], data.client_ids[4]], ALGORITHMS[name]
    params = model.init(1, torch.float64)
    found, info = one_round("stacked", model, params, poisoned(data, bad, value, examples=None), algorithm)
    others = data.subset([client_id for client_id in data.client_ids if client_id not in bad])
    expected, without = one_round("loop", model, params, others, algorithm)
    assert relative_error(found, expected) < 1e-12
    assert (info.clients, info.clients_left_out) == (6, 2)
    assert info.train_loss_before == pytest.approx(without.train_loss_before, rel=1e-12)


@pytest.mark.parametrize("in_first_epoch", [True, False])
@tasks(["logistic", "mlp", "dropout", "small_cnn"])
def test_neighbours_of_clients_that_diverge_keep_every_bit(
    task: tuple[Model, FederatedDataset], in_first_epoch: bool, one_stack: None
) -> None:
    model, data = task
    bad = list(data.client_ids[1:3])
    value = np.nan if in_first_epoch else 1e200
    clean, beside = (
        list(StackedEngine().scores(adaptation_of(model, some, epochs=3), data.client_ids))
        for some in (data, poisoned(data, bad, value, examples=None))
    )
    assert sum(score.client_id not in bad for score in clean) == (len(data) - 2) * 4
    for one, other in zip(clean, beside, strict=True):
        assert (one == other) == (one.client_id not in bad)


# --- end to end -----------------------------------------------------------------------------------------


def test_training_by_either_engine(tiny_images: FederatedDataset) -> None:
    data, held_out = tiny_images.split_clients(0.25)
    model = mlp(data, 8)
    evaluation = Evaluation(held_out, every=2, personalization_epochs=2)

    go = partial(quietly, model, data, STAGES, params=model.init(3, torch.float64), evaluation=evaluation)
    one, other = go(engine="loop"), go(engine="stacked")
    assert relative_error(other.params, one.params) < 1e-12
    columns = [c for c in one.history.columns if c not in ("algorithm", "padding_share")]
    np.testing.assert_allclose(
        other.history[columns].to_numpy(float), one.history[columns].to_numpy(float), rtol=1e-9
    )
    assert (one.history.padding_share.loc[1:] == 0).all()
    assert other.history.padding_share.loc[1:].between(0, 0.1).all()


# --- on a GPU -------------------------------------------------------------------------------------------

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def moved(params: Params, device: str) -> Params:
    return {name: tensor.to(device) for name, tensor in params.items()}


@on_gpu
@pytest.mark.parametrize("name", ["FedAvg of epochs", "MAML, heavy"])
@tasks(ALL)
def test_gpu_equals_the_loop(task: tuple[Model, FederatedDataset], name: str) -> None:
    model, data = task
    params = model.init(1)
    expected, loop = one_round("loop", model, params, data, ALGORITHMS[name])
    found, info = one_round("stacked", model, moved(params, "cuda"), data, ALGORITHMS[name])
    assert all(tensor.is_cuda for tensor in found.values())
    assert relative_error(moved(found, "cpu"), expected) < 1e-3
    assert info.train_loss_before == pytest.approx(loop.train_loss_before, rel=1e-3)
    assert info.padding_share <= 0.1


@on_gpu
@tasks(["mlp", "emnist_cnn", "char_lstm"])
def test_gpu_scores_equal_the_loop(task: tuple[Model, FederatedDataset]) -> None:
    data = task[1]
    training = adaptation_of(*task, epochs=2, dtype=torch.float32)
    expected = {(s.client_id, s.epoch): s for s in LoopEngine().scores(training, data.client_ids)}
    there = replace(training, params=moved(training.params, "cuda"))
    found = list(StackedEngine().scores(there, data.client_ids))
    assert len(found) == len(expected)
    for score in found:
        other = expected[score.client_id, score.epoch]
        assert score.loss == pytest.approx(other.loss, rel=1e-3)
        assert score.predictions == other.predictions


@on_gpu
def test_training_on_a_gpu(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    data, held_out = tiny_images.split_clients(0.25)
    model = emnist_cnn(data)

    def go(device: str, checkpoint: Checkpoint | None = None) -> Run:
        evaluation = Evaluation(held_out, every=3, personalization_epochs=1)
        params = moved(model.init(0), device)
        return quietly(model, data, STAGES, params=params, evaluation=evaluation, checkpoint=checkpoint)

    here, there = go("cpu"), go("cuda")
    assert all(tensor.is_cuda for tensor in there.params.values())
    assert relative_error(moved(there.params, "cpu"), here.params) < 1e-2
    checkpoint = Checkpoint(tmp_path / "run", every=2)
    kept = go("cuda", checkpoint)
    resumed = go("cuda", checkpoint)
    assert all(tensor.is_cuda for tensor in resumed.params.values())
    assert relative_error(resumed.params, kept.params) == 0
