"""Modules that users bring: each trains alike with both engines, or is refused before it trains."""

from __future__ import annotations

import itertools
import random
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tiny_tasks import assert_same_runs, content_of, one_round, quietly, same_bits
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.sent import LocalStep
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import LocalWork, fedavg, fedprox, fedsgd, fomaml, maml, reptile
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.interface import Engine
from fl_meta.engines.local_training import (
    LocalTraining,
    adapted,
    client_update,
    gradient,
    hessian_vector_product,
)
from fl_meta.engines.stacked.engine import StackedEngine
from fl_meta.engines.task import ENGINES
from fl_meta.evaluation.personalization import Evaluation, personalize
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, relative_error
from fl_meta.training import rounds
from fl_meta.training.baselines import train_centralized, train_local_only
from fl_meta.training.checkpoints import Checkpoint, CheckpointError, write_checkpoint

FEATURES, CLASSES = 12, 3
HEAVY = SGD(0.1, momentum=0.5, weight_decay=0.01)
ALGORITHMS = {
    "FedSGD": fedsgd(client=HEAVY, batch_size=4),
    "FedAvg": fedavg(2, client=SGD(0.1), batch_size=4),
    "FedAvg, heavy": fedavg(2, client=HEAVY, batch_size=4),
    "FedProx": fedprox(0.5, 2, client=HEAVY, batch_size=4),
    "Reptile": reptile(2, client=HEAVY, batch_size=4),
    "FOMAML": fomaml(2, client=HEAVY, batch_size=4),
    "MAML": maml(2, client=SGD(0.1), batch_size=4),
    "MAML, heavy": maml(2, client=HEAVY, batch_size=4),
}


@pytest.fixture(scope="module")
def data() -> FederatedDataset:
    """Five clients of 5 to 9 train examples."""
    generator = np.random.default_rng(0)
    owners = [f"client_{i}" for i in range(5) for _ in range(7 + i)]
    return FederatedDataset.from_arrays(
        generator.normal(size=(len(owners), FEATURES)).astype(np.float32),
        generator.integers(CLASSES, size=len(owners)),
        owners,
        num_classes=CLASSES,
    )


# --- modules that train ---------------------------------------------------------------------------------


def mlp(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.Tanh(), *middle, nn.Linear(6, CLASSES))


def frozen(module: nn.Module, *names: str) -> nn.Module:
    """The module with the parameters frozen whose names begin with one of these."""
    for name, parameter in module.named_parameters():
        if name.startswith(names):
            parameter.requires_grad_(False)
    return module


class Tied(nn.Module):
    """The output layer uses the embedding's weights, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(FEATURES, CLASSES), nn.Linear(FEATURES, CLASSES, bias=False)
        self.out.weight = self.into.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.into(x)) @ self.into.weight)


class FixedFeatures(nn.Module):
    """A random matrix in a buffer, which is only read."""

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(FEATURES, 6))
        self.linear = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.cos(x @ self.matrix.to(x.dtype)))


class Cached(nn.Module):
    """It fills a buffer in its first call and only reads it afterwards, as position encodings do."""

    table: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", None)
        self.linear = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0, 1, FEATURES, dtype=x.dtype)
        return self.linear(x + self.table)


class ByIndex(nn.Module):
    """A frozen table of whole numbers selects the features."""

    def __init__(self) -> None:
        super().__init__()
        self.order = nn.Parameter(torch.arange(FEATURES).flip(0), requires_grad=False)
        self.linear = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, self.order] * torch.arange(FEATURES))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.linear = nn.GRU(3, 4, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.recurrent(x.unflatten(1, (4, 3)))[0][:, -1])


class UsersDropout(nn.Dropout):
    pass


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs().clamp(max=4).long()


class Own(nn.Module):
    """A linear layer and a `forward` of the user's."""

    def __init__(self, forward: Callable[[Own, Tensor], object], **buffers: Tensor | None) -> None:
        super().__init__()
        self.linear, self.run, self.calls = nn.Linear(FEATURES, CLASSES), forward, 0
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> object:
        return self.run(self, x)


def kept_outputs(own: Own, x: Tensor) -> Tensor:
    own.features = own.linear(x)
    return own.features


def hooked_before_pooling() -> nn.Module:
    module = nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)),
        nn.Conv2d(1, 2, 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2, CLASSES),
    )
    module[2].register_forward_hook(lambda module, inputs, outputs: -outputs)
    return module


class ColumnDropout(nn.Dropout2d):
    """It drops whole features of the batch, by way of its parent."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.t()[None, :, :, None])[0, :, :, 0].t()


class InEvaluation(nn.Module):
    """A pretrained body whose batch normalization stays in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(FEATURES, 6), nn.BatchNorm1d(6)
        self.norm.running_mean += 0.3

    def train(self, mode: bool = True) -> InEvaluation:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.linear(x)))


def doubled(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return 2 * plain(x)


def patched() -> nn.Module:
    """Its first layer has a `forward` of its own, as adapters have."""
    module = mlp()
    module[0].forward = partial(doubled, module[0].forward)
    return module


def with_hook(register: str, hook: Callable[..., object], *middle: nn.Module) -> nn.Module:
    module = mlp(*middle)
    getattr(module[2], register)(hook)
    return module


def halved_gradient(
    module: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> tuple[Tensor]:
    return (inputs[0] / 2,)


def mixed(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
    return outputs - outputs.mean(0)


def backbone_of_images() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)),
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, CLASSES),
    )


TRAINED: dict[str, Callable[[], nn.Module]] = {
    "nothing frozen": mlp,
    "body frozen": lambda: frozen(mlp(nn.Linear(6, 6), nn.ReLU()), "0", "2"),
    "head frozen": lambda: frozen(mlp(), "2"),
    "middle frozen": lambda: frozen(mlp(nn.Linear(6, 6), nn.Tanh()), "2"),
    "weight frozen, bias not": lambda: frozen(mlp(), "0.weight"),
    "bias frozen, weight not": lambda: frozen(mlp(), "0.bias", "2.bias"),
    "convolution frozen": lambda: frozen(backbone_of_images(), "1"),
    "after a convolution frozen": lambda: frozen(backbone_of_images(), "4"),
    "embedding frozen": lambda: frozen(
        nn.Sequential(Rounded(), nn.Embedding(5, 4), nn.Flatten(), nn.Linear(48, CLASSES)), "1"
    ),
    "recurrence frozen": lambda: frozen(Recurrent(), "recurrent"),
    "half of a recurrence frozen": lambda: frozen(Recurrent(), "recurrent.weight_hh"),
    "own module frozen in part": lambda: frozen(nn.Sequential(Tied(), nn.Linear(CLASSES, CLASSES)), "0"),
    "dropout, frozen before it": lambda: frozen(mlp(nn.Dropout(0.3)), "0"),
    "normalization frozen": lambda: frozen(mlp(nn.LayerNorm(6)), "2"),
    "tied": Tied,
    "dropout": lambda: mlp(nn.Dropout(0.3)),
    "dropout of the user's kind": lambda: mlp(UsersDropout(0.3)),
    "buffer that is read": FixedFeatures,
    "buffer that is filled once": Cached,
    "frozen whole numbers": ByIndex,
    "batch norm without statistics": lambda: mlp(nn.BatchNorm1d(6, track_running_stats=False)),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(FEATURES, CLASSES))),
    "in place in the middle": lambda: nn.Sequential(
        nn.Linear(FEATURES, 6), nn.ReLU(inplace=True), nn.Linear(6, CLASSES)
    ),
    "dropout by way of its parent": lambda: mlp(ColumnDropout(0.3)),
    "statistics that are only read": lambda: frozen(
        nn.Sequential(InEvaluation(), nn.Linear(6, CLASSES)).double(), "0"
    ),
    "forward of a layer replaced": patched,
    "hook on a gradient": lambda: with_hook("register_full_backward_hook", halved_gradient, nn.Linear(6, 6)),
    "hook that mixes examples": lambda: with_hook("register_forward_hook", mixed, nn.GELU()),
    "hook before pooling": lambda: hooked_before_pooling(),
    "outputs kept": lambda: Own(kept_outputs),
    "sparse buffer": lambda: Own(
        lambda own, x: own.linear((own.graph.to(x.dtype) @ x.t()).t()), graph=torch.eye(FEATURES).to_sparse()
    ),
    "named parts": lambda: nn.Sequential(
        OrderedDict(body=nn.Linear(FEATURES, 6), act=nn.ReLU(), head=nn.Linear(6, CLASSES))
    ),
}


@pytest.fixture(params=["chunks", "one stack"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """As on a processor, and all clients in one stack, as on a GPU."""
    if request.param == "one stack":
        monkeypatch.setattr(
            StackedEngine,
            "_chunks",
            lambda _, training, ids, *__: [sorted(ids, key=training.num_examples, reverse=True)],
        )
    return StackedEngine(workers=2)


def in_every_run(module: str, name: str) -> bool:
    """All modules with two algorithms, and three modules with all; the campaign has the other pairs."""
    return name in ("FedAvg, heavy", "MAML, heavy") or module in (
        "body frozen",
        "tied",
        "weight frozen, bias not",
    )


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # weight norm in a stack
@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(*pair, marks=[] if in_every_run(*pair) else [pytest.mark.campaign])
        for pair in itertools.product(TRAINED, ALGORITHMS)
    ],
)
def test_engines_agree_and_frozen_parameters_are_constants(
    data: FederatedDataset, engine: Engine, module: str, name: str
) -> None:
    if module == "batch norm without statistics":  # it cannot take a batch of one example
        data = data.subset([c for c, n in zip(data.client_ids, data.train_counts, strict=True) if n % 4 != 1])
    model, algorithm = Model(module, TRAINED[module]), ALGORITHMS[name]
    params = model.init(0, torch.float64)
    expected, _ = one_round("loop", model, params, data, algorithm)
    found, _ = one_round(engine, model, params, data, algorithm)
    assert list(found) == list(params) and relative_error(found, expected) < 1e-11
    trainable = {name for name, p in model.build().named_parameters() if p.requires_grad}
    assert trainable == {name for name, tensor in found.items() if tensor.any()}

    constant = Model(module, lambda: with_buffers(TRAINED[module](), params))
    oracle, _ = one_round("loop", constant, {name: params[name] for name in trainable}, data, algorithm)
    assert relative_error({name: expected[name] for name in trainable}, oracle) < 1e-12


def with_buffers(module: nn.Module, params: Params) -> nn.Module:
    """The same module with buffers in place of frozen parameters: nothing could train them."""
    values = {id(parameter): params[name] for name, parameter in module.named_parameters()}
    for owner in list(module.modules()):
        for name, parameter in list(owner._parameters.items()):
            if parameter is not None and not parameter.requires_grad:
                del owner._parameters[name]
                owner.register_buffer(name, values[id(parameter)])
        if isinstance(owner, nn.GRU):
            owner._init_flat_weights()
    return module


@pytest.mark.parametrize(
    "server", [SGD(1.0, momentum=0.9, weight_decay=0.1), Adam(0.01)], ids=["SGD", "Adam"]
)
@pytest.mark.parametrize("kind", ["stacked", "loop"])
def test_no_optimizer_moves_frozen_parameters(
    data: FederatedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: SGD | Adam,
    kind: str,
) -> None:
    model = Model("frozen", TRAINED["body frozen"])
    algorithm = fedavg(2, client=HEAVY, batch_size=4, server=server, keeps_momentum=True)
    stages = [Stage(algorithm, 2, 3), Stage(reptile(2, client=SGD(0.1), server=server), 2, 3)]
    params = {name: tensor + 0.1 for name, tensor in model.init(0).items()}
    run = quietly(model, data, stages, params=params, engine=kind)
    moved = {name for name in params if not torch.equal(run.params[name], params[name])}
    assert moved == {"4.weight", "4.bias"}
    assert list(run.params) == list(params) and run.state.server.keys() == moved

    # A run that is resumed ends alike, and one that would train other parameters is not resumed.
    checkpoint = Checkpoint(tmp_path / "run.safetensors", every=1)
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "run_round", stops_after(2, rounds.run_round))
        with pytest.raises(KeyboardInterrupt):
            quietly(model, data, stages, params=params, engine=kind, checkpoint=checkpoint)
    other = Model("frozen", TRAINED["middle frozen"])
    with pytest.raises(
        CheckpointError, match=r"frozen is .'0.weight', '0.bias', '2.weight', '2.bias'. in the"
    ):
        quietly(other, data, stages, params=params, engine=kind, checkpoint=checkpoint)
    tensors, config, notes = content_of(tmp_path / "run.safetensors")
    forged = tmp_path / "forged.safetensors"
    write_checkpoint(forged, tensors | {"params/0.bias": tensors["params/0.bias"] + 1}, config, notes)
    with pytest.raises(CheckpointError, match=r"params/0.bias is frozen, but is not what it was"):
        quietly(model, data, stages, params=params, engine=kind, checkpoint=Checkpoint(forged))
    assert_same_runs(quietly(model, data, stages, params=params, engine=kind, checkpoint=checkpoint), run)


def stops_after(number: int, run_round: Callable[..., object]) -> Callable[..., object]:
    numbers = iter(range(number))

    def stopping(*arguments: object) -> object:
        if next(numbers, None) is None:
            raise KeyboardInterrupt
        return run_round(*arguments)

    return stopping


@pytest.mark.parametrize("kind", ["stacked", "loop"])
def test_personalizing_only_the_head(data: FederatedDataset, kind: str) -> None:
    model = Model("mlp", lambda: mlp(nn.Dropout(0.1)))
    params = quietly(model, data, [Stage(fedavg(2, batch_size=4), 2, 3)]).params
    head = model.only("3")
    table = personalize(head, params, data, epochs=2, client=SGD(0.5), batch_size=4, engine=kind)
    work = LocalWork(SGD(0.5), 4, 2)
    for client_id in data.client_ids:
        *_, own = adapted(LocalTraining(head, params, data, work, 0), client_id)
        assert {name for name in params if not torch.equal(own[name], params[name])} == {"3.weight", "3.bias"}
        client = data[client_id]
        logits = model.apply(own, torch.from_numpy(client.test_x))
        accuracy = (logits.argmax(-1).numpy() == client.test_y).mean()
        assert table.accuracies().loc[client_id, 2] == pytest.approx(accuracy)
    whole = personalize(model, params, data, epochs=2, client=SGD(0.5), batch_size=4, engine=kind)
    assert not table.rows.test_loss.equals(whole.rows.test_loss)
    losses, expected = (t.rows.test_loss[t.rows.epoch == 0] for t in (table, whole))
    assert losses.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)
    # The caller's own module is left as it was.
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_a_part_that_is_not_there_is_refused() -> None:
    model = Model("mlp", mlp)
    for parts in (["5"], ["2", "0.wei"], []):
        with pytest.raises(ValueError, match=r"'mlp' has no trainable parameters in .*0.weight, 0.bias, 2.w"):
            model.only(*parts)
    assert model.only("0.bias").num_parameters == 6


def test_centralized_and_local_only_training_leave_frozen_parameters(data: FederatedDataset) -> None:
    model = Model("frozen", TRAINED["head frozen"])
    start = model.init(0)
    run = train_centralized(model, data, Adam(0.1), steps=3, progress=False)
    assert {n for n in start if torch.equal(run.params[n], start[n])} == {"2.weight", "2.bias"}
    table = train_local_only(model, data, epochs=1, client=SGD(0.3))
    expected = personalize(model, start, data, epochs=1, client=SGD(0.3), engine="loop")
    assert np.allclose(table.rows.test_loss, expected.rows.test_loss)


def test_gradients_and_steps_of_frozen_parameters(data: FederatedDataset) -> None:
    model, whole = Model("frozen", TRAINED["head frozen"]), Model("whole", mlp)
    params = model.init(0, torch.float64)
    client = data["client_1"]
    batch = (torch.from_numpy(client.train_x), torch.from_numpy(client.train_y), 0)
    (loss, slope), (expected_loss, expected) = (gradient(each, params, batch) for each in (model, whole))
    assert loss == expected_loss
    vector = {name: torch.ones_like(tensor) for name, tensor in params.items()}
    product = hessian_vector_product(model, params, batch, vector)
    inside = {name: tensor * (not name.startswith("2")) for name, tensor in vector.items()}
    curved = hessian_vector_product(whole, params, batch, inside)
    for name in params:
        if name.startswith("2"):
            assert not slope[name].any() and not product[name].any()
        else:
            assert torch.equal(slope[name], expected[name]) and torch.allclose(product[name], curved[name])
    update = client_update(model, params, data, "client_1", fedavg(1), seed=0, round_number=0)
    assert update.gradient.keys() == params.keys() and not update.gradient["2.weight"].any()


def test_a_rule_of_ones_own_has_the_trainable_parameters(data: FederatedDataset) -> None:
    model = Model("frozen", TRAINED["head frozen"])

    def first_gradient(steps: Sequence[LocalStep]) -> Params:
        assert list(steps[0].params) == ["0.weight", "0.bias"]
        return steps[0].gradient

    found, _ = one_round("stacked", model, model.init(0), data, replace(fedavg(1), sends=first_gradient))
    assert not found["2.weight"].any() and found["0.weight"].any()


def at_an_odd_address(tensor: Tensor) -> Tensor:
    """The same numbers where safetensors might leave them in the memory of a file."""
    room = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)[1:]
    return room.copy_(tensor.flatten()).view(tensor.shape)


@pytest.mark.parametrize("kind", ["stacked", "loop"])
def test_where_parameters_are_in_memory_changes_no_bit(
    data: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model = Model("frozen", lambda: frozen(mlp(nn.Linear(6, 6), nn.ReLU()), "0", "2"))
    stages = [Stage(fedavg(2, client=HEAVY, batch_size=4, keeps_momentum=True), 4, 3)]
    start = model.init(0)
    expected = quietly(model, data, stages, params=start, engine=kind)
    odd = {name: at_an_odd_address(tensor) for name, tensor in start.items()}
    assert_same_runs(quietly(model, data, stages, params=odd, engine=kind), expected)
    for number in (1, 2, 3):
        checkpoint = Checkpoint(tmp_path / f"{number}.safetensors", every=1)
        with monkeypatch.context() as patch:
            patch.setattr(rounds, "run_round", stops_after(number, rounds.run_round))
            with pytest.raises(KeyboardInterrupt):
                quietly(model, data, stages, params=start, engine=kind, checkpoint=checkpoint)
        assert_same_runs(
            quietly(model, data, stages, params=start, engine=kind, checkpoint=checkpoint), expected
        )


def test_a_rule_may_give_any_order_and_write_into_what_it_gets(data: FederatedDataset) -> None:
    model = Model("mlp", mlp)
    params = model.init(0)

    def sum_of_gradients(steps: Sequence[LocalStep]) -> Params:
        total = steps[0].gradient
        for step in steps[1:]:
            total = add(total, step.gradient)
        for step in steps:
            for tensor in step.params.values():
                tensor.zero_()
        return dict(reversed(total.items()))

    expected, _ = one_round("loop", model, params, data, fedavg(2, client=SGD(0.1), batch_size=4))
    rule = replace(fedavg(2, client=SGD(0.1), batch_size=4), sends=sum_of_gradients)
    found, _ = one_round("stacked", model, params, data, rule)
    assert list(found) == list(params) and relative_error(found, expected) < 1e-6
    assert same_bits(params, model.init(0))


def test_a_rule_that_sends_no_tensors_is_refused(data: FederatedDataset) -> None:
    model = Model("mlp", mlp)
    rule = replace(fedavg(1), sends=numbers_alone)
    with pytest.raises(ValueError, match="must return a dictionary of tensors") as caught:
        one_round("loop", model, model.init(0), data, rule)
    assert any("'client_0'" in note for note in caught.value.__notes__)


def numbers_alone(steps: Sequence[LocalStep]) -> dict[str, float]:
    return dict.fromkeys(steps[0].params, 1.0)


def test_what_is_tied_is_not_half_frozen() -> None:
    model = Model("tied", Tied)
    with pytest.raises(
        ValueError, match=r"'out.weight' and 'into.weight' are one parameter.*name both parts"
    ):
        model.only("out")
    assert model.only("into", "out").num_parameters == model.num_parameters


def test_a_loss_of_ones_own_is_that_of_both_engines(data: FederatedDataset) -> None:
    class Smoothed(Model):
        def loss(self, params: Params, x: Tensor, y: Tensor, dropout_seed: int | None = None) -> Tensor:
            logits = self.apply(params, x, dropout_seed)
            return nn.functional.cross_entropy(logits, y.long(), label_smoothing=0.3)

    found = [
        one_round(e, Smoothed("own", mlp), Model("mlp", mlp).init(0), data, fedavg(1))[0] for e in ENGINES
    ]
    assert relative_error(*found) < 1e-6
    plain, _ = one_round("loop", Model("mlp", mlp), Model("mlp", mlp).init(0), data, fedavg(1))
    assert relative_error(found[0], plain) > 0.01


def test_freezing_after_the_first_use_is_refused(data: FederatedDataset) -> None:
    module = mlp().eval()
    model, stages = Model("own", lambda: module), [Stage(fedavg(1), 1, 2)]
    quietly(model, data, stages)
    assert not any(part.training for part in module.modules())  # the caller's module is as it was
    module[0].requires_grad_(False)
    with pytest.raises(
        ValueError, match="were frozen, or trained again, after it was first used; make a new"
    ):
        quietly(model, data, stages)
    run = quietly(Model("own", lambda: module), data, stages)
    assert torch.equal(run.params["0.weight"], module[0].weight)
    assert run.params["0.weight"].data_ptr() != module[0].weight.data_ptr()


def test_a_frozen_mask_may_be_infinite(data: FederatedDataset) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask = nn.Parameter(torch.tensor([0.0, 0.0, -torch.inf]), requires_grad=False)
            self.linear = nn.Linear(FEATURES, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) + self.mask.where(self.mask == 0, -9.0)

    run = quietly(Model("masked", Masked), data, [Stage(fedavg(1), 2, 2)])
    assert run.params["mask"].isinf().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_parameters_of_any_type_and_in_one_memory_are_saved(
    data: FederatedDataset, tmp_path: Path, dtype: torch.dtype
) -> None:
    def two_of_one() -> nn.Module:
        module = nn.Sequential(
            nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, 3)
        )
        module[1].weight.data = module[0].weight.data
        return module

    model, stages = Model("two of one", two_of_one), [Stage(fedavg(1), 2, 2)]
    params = {name: tensor.to(dtype) for name, tensor in model.init(0).items()}
    params["1.weight"] = params["0.weight"]
    checkpoint = Checkpoint(tmp_path / "run.safetensors", every=1)
    run = quietly(model, data, stages, params=params, checkpoint=checkpoint)
    again = quietly(model, data, stages, params=params, checkpoint=checkpoint)
    assert all(torch.equal(run.params[name], again.params[name]) for name in params)


def test_other_values_in_a_buffer_are_another_run(data: FederatedDataset, tmp_path: Path) -> None:
    def features(scale: float) -> Model:
        return Model(
            "features", lambda: Own(lambda own, x: own.linear(x * own.scale), scale=torch.tensor(scale))
        )

    stages, checkpoint = [Stage(fedavg(1), 1, 2)], Checkpoint(tmp_path / "run.safetensors")
    quietly(features(1.0), data, stages, checkpoint=checkpoint)
    quietly(features(1.0), data, stages, checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match=r"buffers is .* in the checkpoint and .* in this run"):
        quietly(features(5.0), data, stages, checkpoint=checkpoint)


def test_a_model_may_run_in_several_threads(data: FederatedDataset) -> None:
    model, stages = (
        Model("mlp", lambda: mlp(nn.Linear(6, 6), nn.ReLU())),
        [Stage(fedavg(4, batch_size=2), 3, 3)],
    )
    expected = [quietly(model, data, stages, seed=seed, engine="loop") for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: quietly(model, data, stages, seed=seed, engine="loop"), range(4)))
    for run, same in zip(found, expected, strict=True):
        assert_same_runs(run, same)


def test_a_checkpoint_stays_where_it_was_named(
    data: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    home, here = Checkpoint("~/run.safetensors"), Checkpoint("run.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for place in (home, here):
        quietly(Model("mlp", mlp), data, [Stage(fedavg(1), 1, 2)], checkpoint=place)
    assert (tmp_path / "home/run.safetensors").exists() and (tmp_path / "run.safetensors").exists()
    assert list(Path().iterdir()) == []


def test_parameters_that_are_not_there_are_an_error() -> None:
    model = Model("mlp", mlp)
    params = model.init(0)
    del params["2.weight"]
    with pytest.raises(ValueError, match=r"params lack 2.weight of the model 'mlp'"):
        model.apply(params, torch.zeros(1, FEATURES))


# --- modules that are refused ---------------------------------------------------------------------------


def running_mean(own: Own, x: Tensor) -> Tensor:
    own.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
    return own.linear(x - own.mean)


def running_mean_in_training(own: Own, x: Tensor) -> Tensor:
    if own.training:
        own.mean.data.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return own.linear(x)
    return own.linear(x - own.mean)


def another_buffer(own: Own, x: Tensor) -> Tensor:
    own.mean = 0.9 * own.mean + 0.1 * x.detach().mean(0)
    return own.linear(x - own.mean)


def counted(own: Own, x: Tensor) -> Tensor:
    own.calls += 1
    return own.linear(x) * own.calls


def remembered(own: Own, x: Tensor) -> Tensor:
    last, own.last = getattr(own, "last", x.detach()), x.detach()
    return own.linear(x + last.mean())


def clipped(own: Own, x: Tensor) -> Tensor:
    with torch.no_grad():
        own.linear.weight.clamp_(-9, 9)
    return own.linear(x)


def normalized(own: Own, x: Tensor) -> Tensor:
    own.linear.weight.data /= own.linear.weight.data.norm()
    return own.linear(x)


def centred_in_place(own: Own, x: Tensor) -> Tensor:
    x -= x.mean()
    return own.linear(x)


def noisy(draw: Callable[[Tensor], object]) -> Callable[[Own, Tensor], Tensor]:
    return lambda own, x: own.linear(x + draw(x) if own.training else x)


def only_evaluates(own: Own, x: Tensor) -> Tensor:
    if own.training:
        raise NotImplementedError("not in training")
    return own.linear(x)


class InAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, FEATURES))
        self.weights = [self.weight]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weights[0].t()


class Merging(nn.Module):
    """A low-rank adapter that is merged into the weight in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.adapter = nn.Linear(FEATURES, CLASSES), nn.Parameter(torch.ones(CLASSES, FEATURES))
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        if self.merged == mode:
            self.linear.weight.data += self.adapter.data * (-1 if mode else 1)
            self.merged = not mode
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if self.merged else self.linear(x) + x @ self.adapter.t()


class Referring(nn.Module):
    """A function in it refers to the module that it was made for."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES)
        self.function = lambda x: self.linear(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo: object) -> Uncopied:
        return self


class Reversed(torch.autograd.Function):
    """The gradient backwards, as strong as the number of calls says, or random."""

    calls = 0

    @staticmethod
    def forward(context: object, x: Tensor, random: bool) -> Tensor:
        context.random = random
        return x.clone()

    @staticmethod
    def backward(context: object, slope: Tensor) -> tuple[Tensor, None]:
        Reversed.calls += 1
        return -slope * (torch.rand(()) if context.random else Reversed.calls), None


class FromNumPy(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return x * np.random.binomial(1, 0.5) if self.training else x  # noqa: NPY002


class Scheduled(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.p = min(0.9, self.p + 0.1)
        return super().forward(x)


def checkpointed(own: Own, x: Tensor) -> Tensor:
    return checkpoint(lambda x: own.linear(x).square(), x, use_reentrant=False)


def first_batch(own: Own, x: Tensor) -> Tensor:
    if own.mean is None:
        own.mean = x.detach().mean(0)
    return own.linear(x - own.mean)


def kept_in_evaluation(own: Own, x: Tensor) -> Tensor:
    if own.training:
        own.weight = None
        return own.linear(x)
    if getattr(own, "weight", None) is None:
        own.weight = 2 * own.linear.weight.detach()
    return x @ own.weight.t()


def running_mean_of_many(own: Own, x: Tensor) -> Tensor:
    if len(x) > 3:
        own.mean += x.detach().mean(0)
    return own.linear(x - own.mean)


def with_lock() -> nn.Module:
    module = mlp()
    module.lock = threading.Lock()
    return module


def masked_gradient() -> nn.Module:
    module = nn.Linear(FEATURES, CLASSES)
    module.weight.register_hook(lambda gradient: gradient * 0)
    return module


def of_two_types() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES, dtype=torch.complex64))


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(FEATURES, CLASSES)))


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "running mean": (lambda: Own(running_mean, mean=torch.zeros(FEATURES)), "changes the buffer 'mean'"),
    "running mean in training": (
        lambda: Own(running_mean_in_training, mean=torch.zeros(FEATURES)),
        "changes the buffer 'mean'",
    ),
    "buffer replaced": (lambda: Own(another_buffer, mean=torch.zeros(FEATURES)), "changes the buffer 'mean'"),
    "spectral norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(FEATURES, CLASSES))),
        "changes the buffer '0.parametrizations.weight.0._u'",
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, CLASSES)),
        "BatchNorm1d '0' keeps running statistics",
    ),
    "running mean of many examples": (
        lambda: Own(running_mean_of_many, mean=torch.zeros(FEATURES)),
        "changes the buffer 'mean'",
    ),
    "first batch": (lambda: Own(first_batch, mean=None), "returns something else when it is called again"),
    "weight kept in evaluation": (
        lambda: Own(kept_in_evaluation),
        "returns something else when it is called",
    ),
    "parameters in a list": (InAList, "computes with other parameters than those it is given"),
    "computed again": (lambda: Own(checkpointed), "computes with other parameters than those it is given"),
    "adapter merged": (Merging, "changes the module's own parameter 'linear.weight'"),
    "function of another module": (Referring, "cannot be copied.*its copy computes something else"),
    "its own copy": (lambda: Uncopied(FEATURES, CLASSES), "__deepcopy__ returns the module itself"),
    "lock": (lambda: with_lock(), "cannot be copied, as each thread needs a module of its own"),
    "mask on a gradient": (masked_gradient, "the parameter 'weight' has a hook on its gradient"),
    "gradient by number of calls": (
        lambda: Own(lambda own, x: own.linear(Reversed.apply(x * own.linear.weight.sum(), False))),
        "its gradient is another one when it is computed again",
    ),
    "random gradient": (
        lambda: Own(lambda own, x: own.linear(Reversed.apply(x * own.linear.weight.sum(), True))),
        "backward draws random numbers by itself",
    ),
    "dropout of NumPy": (lambda: mlp(FromNumPy(0.3)), "draws random numbers by itself"),
    "dropout on a schedule": (lambda: mlp(Scheduled(0.1)), "returns something else when it is called again"),
    "logits of less precision": (
        lambda: Own(lambda own, x: own.linear(x).bfloat16()),
        "returns torch.bfloat16; logits must be of the parameters' type, torch.float32",
    ),
    "counter": (lambda: Own(counted), "returns something else when it is called again"),
    "memory": (lambda: Own(remembered), "returns something else when it is called again"),
    "clipped parameter": (lambda: Own(clipped), "changes its parameter 'linear.weight'"),
    "normalized parameter": (lambda: Own(normalized), "changes its parameter 'linear.weight'"),
    "input in place": (lambda: Own(centred_in_place), "changes its input"),
    "first layer in place": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(FEATURES, CLASSES)),
        "changes its input",
    ),
    "dropout as a function": (
        lambda: Own(noisy(lambda x: nn.functional.dropout(x, 0.5))),
        "draws random numbers by itself",
    ),
    "noise": (lambda: Own(noisy(torch.randn_like)), "draws random numbers by itself"),
    "noise of NumPy": (lambda: Own(noisy(lambda x: np.random.normal())), "draws random numbers by itself"),  # noqa: NPY002
    "noise of Python": (lambda: Own(noisy(lambda x: random.random())), "draws random numbers by itself"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(CLASSES)), "'0.weight' of a lazy module has no shape"),
    "no values": (lambda: nn.Linear(FEATURES, CLASSES, device="meta"), "'weight' is on the device meta"),
    "tuple": (lambda: Own(lambda own, x: (own.linear(x), x)), "returns a tuple; it must return the logits"),
    "dictionary": (lambda: Own(lambda own, x: {"logits": own.linear(x)}), "returns a dict; it must return"),
    "predictions": (
        lambda: Own(lambda own, x: own.linear(x).argmax(-1)),
        "returns torch.int64; logits must be of the parameters' type, torch.float32",
    ),
    "logits of the batch": (
        lambda: Own(lambda own, x: own.linear(x).mean(0)),
        r"of shape \(\) for an example",
    ),
    "logits of other examples": (
        lambda: Own(lambda own, x: own.linear(x)[:1]),
        r"of shape \(1, 3\) for labels",
    ),
    "no parameters": (nn.Identity, "no parameters to train: it has none at all"),
    "all frozen": (lambda: nn.Linear(FEATURES, CLASSES).requires_grad_(False), "all of its 2 are frozen"),
    "complex": (
        of_two_types,
        "one floating-point type, but '0.bias' is torch.float32, '1.bias' is torch.comp",
    ),
    "only evaluates": (lambda: Own(only_evaluates), "does not run in training mode: not in training"),
    "not differentiable": (lambda: Own(lambda own, x: own.linear(x).detach()), "has no first derivatives"),
    "activation changed in place": (
        lambda: mlp(nn.ReLU(inplace=True)),
        "has no first derivatives: one of the variables needed .* modified by an inplace operation",
    ),
    "sparse": (
        lambda: nn.Sequential(
            Rounded(), nn.Embedding(5, 4, sparse=True), nn.Flatten(), nn.Linear(48, CLASSES)
        ),
        "sparse gradients in '1.weight'",
    ),
    "rows renormalized": (
        lambda: nn.Sequential(
            Rounded(), nn.Embedding(5, 4, max_norm=0.1), nn.Flatten(), nn.Linear(48, CLASSES)
        ),
        "changes its parameter '1.weight'",
    ),
    "old weight norm": (old_weight_norm, "cannot be copied"),
    "not a module": (lambda: torch.relu, "build returns a builtin_function_or_method; it must"),
    "batch norm of one example": (
        lambda: mlp(nn.BatchNorm1d(6, track_running_stats=False)),
        "cannot take a (local batch|test part) of one example .* and there is one",
    ),
}


@pytest.mark.parametrize("kind", ["stacked", "loop"])
@pytest.mark.parametrize("module", REFUSED)
def test_what_cannot_be_trained_is_refused_before_it_is(
    data: FederatedDataset, module: str, kind: str
) -> None:
    build, message = REFUSED[module]
    model = Model(module, build)  # type: ignore[arg-type]
    state = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    before = data.x.copy()
    params: Params = {}
    with pytest.raises(ValueError, match=message):
        params = model.init(0)
        quietly(model, data, [Stage(fedavg(1, batch_size=4), 1, 2)], params=dict(params), engine=kind)
    with pytest.raises(ValueError, match=message):
        personalize(model, model.init(0), data, epochs=1, batch_size=4, engine=kind)
    if module != "batch norm of one example":
        with pytest.raises(ValueError, match=message):
            one_round(kind, model, model.init(0), data, fomaml(1, batch_size=4))
    assert np.array_equal(before, data.x)
    fresh = model.init(0) if params else {}
    assert all(torch.equal(params[name], fresh[name]) for name in params)
    assert (torch.get_rng_state() == state[0]).all()
    assert (random.getstate(), repr(np.random.get_state())) == state[1:]  # noqa: NPY002


def test_a_batch_of_one_example_counts_only_if_there_is_one(data: FederatedDataset) -> None:
    model = Model("batch norm", lambda: mlp(nn.BatchNorm1d(6, track_running_stats=False)))
    counts = dict(zip(data.client_ids, data.train_counts.tolist(), strict=True))
    assert 9 in counts.values()
    # One step of four examples of five: the last batch is never reached.
    quietly(model, data, [Stage(fedsgd(batch_size=4), 1, 3)])
    with pytest.raises(ValueError, match="cannot take a local batch of one example"):
        quietly(model, data, [Stage(fedsgd(batch_size=4), 1, 3), Stage(fedavg(1, batch_size=4), 1, 3)])


def test_second_derivatives_are_tried_for_maml_alone(data: FederatedDataset) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 4), nn.Linear(FEATURES, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner(x.view(-1, 1, 3, 4))
            return self.outer(nn.functional.scaled_dot_product_attention(y, y, y).flatten(1))

    model = Model("attention", Attention)
    quietly(model, data, [Stage(fomaml(1), 1, 3)])
    with pytest.raises(ValueError, match=r"no second derivatives: .*; only MAML needs them"):
        quietly(model, data, [Stage(fomaml(1), 1, 3), Stage(maml(1), 1, 3)])


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (lambda: torch.autocast("cpu", torch.bfloat16), "torch.autocast is on for cpu"),
        (torch.inference_mode, "torch.inference_mode is on"),
    ],
)
def test_modes_without_these_gradients_are_refused(
    data: FederatedDataset, mode: Callable[[], AbstractContextManager[object]], message: str
) -> None:
    model = Model("mlp", mlp)
    params = model.init(0)
    with mode(), pytest.raises(ValueError, match=message):
        quietly(model, data, [Stage(fedavg(1), 1, 2)])
    with mode(), pytest.raises(ValueError, match=message):
        personalize(model, params, data, epochs=1)
    with mode(), pytest.raises(ValueError, match=message):
        client_update(model, params, data, "client_0", fedavg(1), seed=0, round_number=0)
    with torch.inference_mode():
        copies = {name: tensor.clone() for name, tensor in params.items()}
    with pytest.raises(ValueError, match=r"'0.weight' was made inside torch.inference_mode"):
        personalize(model, copies, data, epochs=1)


@pytest.mark.parametrize("kind", ["stacked", "loop"])
def test_without_gradients_around_it_training_is_the_same(data: FederatedDataset, kind: str) -> None:
    model, stages = Model("mlp", mlp), [Stage(maml(2, batch_size=4), 2, 3)]
    with torch.no_grad():
        inside = quietly(model, data, stages, engine=kind)
    assert same_bits(inside.params, quietly(model, data, stages, engine=kind).params)


# --- errors in the middle of a round --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stacked", "loop"])
def test_an_error_in_a_round_says_where(data: FederatedDataset, kind: str) -> None:
    """A code that the embedding does not have, in one example of one client."""
    codes = np.abs(data.x).clip(max=4).astype(np.int64)
    position = data.position("client_3")
    codes[data.starts[position] :][: data.train_counts[position]][-1] = 7
    data = replace(data, x=codes)
    model = Model("codes", lambda: nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(48, CLASSES)))
    with pytest.raises(IndexError) as caught:
        quietly(
            model,
            data,
            [Stage(fedsgd(batch_size=None), 1, 1), Stage(fedavg(1, batch_size=1), 1, 5)],
            engine=kind,
        )
    notes = "; ".join(caught.value.__notes__)
    assert re.search(
        r"in local step \d, counted from 0, of client 'client_3'.* in round 1, in stage 1, Fed", notes
    )
    with pytest.raises(IndexError) as caught:
        personalize(model, model.init(0), data, epochs=1, batch_size=1, engine=kind)
    assert any("'client_3'" in note for note in caught.value.__notes__)
    sound = data.subset([client_id for client_id in data.client_ids if client_id != "client_3"])
    evaluation = Evaluation(data, every=1, personalization_epochs=1)
    with pytest.raises(IndexError) as caught:
        quietly(model, sound, [Stage(fedavg(1), 1, 3)], evaluation=evaluation, engine=kind)
    notes = "; ".join(caught.value.__notes__)
    assert "'client_3'" in notes and "in the evaluation after round 0, FedAvg(E=1)" in notes


def test_a_thread_that_cannot_be_started_is_its_own_error(
    data: FederatedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Mock(side_effect=RuntimeError("can't start new thread"))
    monkeypatch.setattr("fl_meta.engines.stacked.engine.ThreadPoolExecutor.submit", refused)
    model = Model("convolution", backbone_of_images)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        quietly(model, data, [Stage(fedavg(1), 1, 5)], engine=StackedEngine(workers=2))
