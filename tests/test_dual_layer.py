"""A first linear layer in its dual form gives the same numbers as plain steps."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tasks import one_round
from torch import nn

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import Algorithm, LocalWork, fedavg, fedprox, fedsgd, fomaml, maml, reptile
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.local_training import LocalTraining
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.stacked import first_layer, stack
from fl_meta.engines.stacked.dual_layer import (
    DUAL,
    gram_and_outputs,
    index_of_dual_layer,
    num_pieces,
    summed_weights,
)
from fl_meta.engines.stacked.engine import StackedEngine
from fl_meta.engines.stacked.layers import Layer, layers_of
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, relative_error


def dual_index(features: int, units: int, num_examples: int, num_used: int) -> int | None:
    return index_of_dual_layer(layers_of(nn.Linear(features, units)), features, num_examples, num_used)


def test_where_coordinates_pay_off_by_hand() -> None:
    # n = 20 examples of 100 features and 10 units. Gram matrix, outputs and the way back: 20·20·100 +
    # 20·100·10 + 20·100·10 = 80,000 multiplications; then 2·20·10 = 400 for each example used, where a
    # plain step takes 2·100·10 = 2,000.
    assert dual_index(100, 10, num_examples=20, num_used=200) == 0  # 160,000 and 400,000
    assert dual_index(100, 10, num_examples=20, num_used=20) is None  # 88,000 and 40,000: a single epoch
    # With three times more examples than features a step in coordinates itself takes three times more.
    assert dual_index(10, 10, num_examples=30, num_used=30 * 10**6) is None


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], 0),
        ([nn.Flatten], 1),
        ([nn.Flatten, nn.Flatten], 2),
        ([nn.Tanh], None),
        ([lambda: nn.Dropout(0.5)], None),
        ([nn.Flatten, lambda: nn.Dropout(0.5)], None),
        ([lambda: nn.LayerNorm(500)], None),
        ([lambda: nn.Linear(500, 500), nn.Tanh], 0),
    ],
)
def test_the_layer_reads_the_examples_as_they_are(
    before: list[Callable[[], nn.Module]], expected: int | None
) -> None:
    module = nn.Sequential(*[build() for build in before], nn.Linear(500, 10))
    assert index_of_dual_layer(layers_of(module), 500, 20, 2000) == expected
    # Of an example of 1,500 numbers it reads three rows, one after the other.
    assert index_of_dual_layer(layers_of(module), 1500, 20, 2000) is None
    assert (
        index_of_dual_layer(layers_of(nn.Sequential(nn.Flatten(), nn.Conv1d(3, 3, 3))), 500, 20, 2000) is None
    )


@pytest.mark.parametrize("num_examples", [4, 20])
@pytest.mark.parametrize("bias", [True, False])
def test_the_rule_is_that_of_the_whole_matrix(bias: bool, num_examples: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n, start, start_bias = num_examples, drawn(3, 7), drawn(3) if bias else None
    examples, coordinates = drawn(2, n, 7), drawn(2, n, 3)  # two clients, 7 features, 3 units
    params = {"weight": coordinates} | gram_and_outputs(examples, start, start_bias, 0.3)
    batch = torch.tensor([[0, 2, 2, 3, n - 1], [3, 3, 3, 0, n // 2]])  # examples may come twice
    rows = (batch + torch.tensor([[0], [n]])).flatten()
    x = torch.stack([one[places] for one, places in zip(examples, batch, strict=True)])
    expected = x @ (start - 0.3 * coordinates.mT @ examples).mT
    if start_bias is not None:
        expected += (start_bias - 0.3 * coordinates.sum(1))[:, None]
    y = DUAL.forward(nn.Linear(7, 3), params, rows, None)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)

    d, gradients = drawn(2, 5, 3), {"weight": coordinates.clone()}
    assert DUAL.backward is not None
    DUAL.backward(nn.Linear(7, 3), params, rows, y, d, gradients, False)
    added = gradients["weight"] - coordinates
    torch.testing.assert_close(added.mT @ examples, d.mT @ x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(added.sum(1), d.sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("features", "pieces"), [(1, 1), (7, 1), (6, 3), (14, 2), (784, 4), (45, 3)])
def test_the_way_back_in_pieces(features: int, pieces: int) -> None:
    generator = torch.Generator().manual_seed(features)
    coordinates, examples = (
        torch.randn(3, 5, width, generator=generator, dtype=torch.float64) for width in (2, features)
    )
    assert num_pieces(features) == pieces
    expected = (coordinates.mT @ examples).sum(0)
    found = summed_weights(coordinates, examples, pieces)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# --- in the engine --------------------------------------------------------------------------------------


def data_of(sizes: Sequence[int], features: int, repeated: bool = False) -> FederatedDataset:
    """Clients of so many train and two test examples; if repeated, all of a client's are two."""
    generator = np.random.default_rng(8)
    owners = np.concatenate([[f"client_{i}"] * (size + 2) for i, size in enumerate(sizes)])
    is_test = np.concatenate([[False] * size + [True] * 2 for size in sizes])
    x, y = generator.normal(size=(len(owners), features)), generator.integers(3, size=len(owners))
    if repeated:
        x = x[::2].repeat(2, axis=0)[: len(x)]
    return FederatedDataset.from_arrays(x, y, owners, test_mask=is_test, num_classes=3)


def model_of(features: int, bias: bool = True, hidden: int = 5) -> Model:
    return Model(
        "mlp",
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(features, hidden, bias=bias), nn.Tanh(), nn.Linear(hidden, 3)
        ),
    )


@pytest.fixture(params=[False, True], ids=["chunks", "one stack"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """In coordinates whether it pays off or not; a list of how many examples were used each time."""
    times: list[int] = []

    def always(layers: Sequence[Layer], *numbers: int) -> int:
        times.append(numbers[-1])
        return next(i for i, layer in enumerate(layers) if isinstance(layer.module, nn.Linear))

    def chunks(_: object, training: LocalTraining, ids: Sequence[str], *__: object) -> list[list[str]]:
        return [sorted(ids, key=training.num_examples, reverse=True)]

    monkeypatch.setattr(stack, "index_of_dual_layer", always)
    if request.param:
        monkeypatch.setattr(StackedEngine, "_chunks", chunks)
    return times


PLAIN, HEAVY = SGD(0.2), SGD(0.1, momentum=0.8)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("features", [2, 40])
@pytest.mark.parametrize(
    "algorithm",
    [
        fedsgd(client=PLAIN, batch_size=4),
        fedavg(4, client=PLAIN, batch_size=3),
        fedavg(3, client=HEAVY, batch_size=4),
        fedavg(3, client=HEAVY, batch_size=None),
        # Two batches of three out of as many as 11: of some clients only a part is used.
        reptile(2, client=PLAIN, batch_size=3),
        reptile(20, client=HEAVY, batch_size=3),
        fomaml(5, client=HEAVY, batch_size=4),
        maml(6, client=PLAIN, batch_size=3),
        maml(5, client=HEAVY, batch_size=4),
    ],
    ids=lambda a: f"{a.name} {a.client.momentum} {a.batch_size}",
)
def test_in_coordinates_as_in_the_loop(
    algorithm: Algorithm, features: int, repeated: bool, asked: list[int]
) -> None:
    data = data_of([11, 4, 7, 10, 3, 11], features, repeated)
    for bias in (True, False):
        model = model_of(features, bias)
        params = model.init(0, torch.float64)
        (expected, one), (found, other) = (
            one_round(engine, model, params, data, algorithm) for engine in ("loop", StackedEngine(1))
        )
        assert relative_error(found, expected) < 1e-12
        assert other.train_loss_before == pytest.approx(one.train_loss_before, rel=1e-12)
    assert asked


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    features=st.integers(1, 12),
    batch_size=st.none() | st.integers(1, 9),
    epochs=st.integers(1, 4),
    momentum=st.sampled_from([0.0, 0.7]),
    repeated=st.booleans(),
)
def test_scores_in_coordinates_as_in_the_loop(
    sizes: list[int], features: int, batch_size: int | None, epochs: int, momentum: float, repeated: bool
) -> None:
    data = data_of(sizes, features, repeated)
    model = model_of(features, hidden=3)
    client = SGD(0.2, momentum=momentum)
    training = LocalTraining(
        model, model.init(0, torch.float64), data, LocalWork(client, batch_size, epochs), 1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "index_of_dual_layer", lambda *_: 1)
        found = {(s.client_id, s.epoch): s for s in StackedEngine(1).scores(training, data.client_ids)}
    expected = list(LoopEngine().scores(training, data.client_ids))
    assert len(found) == len(expected)
    for score in expected:
        other = found[score.client_id, score.epoch]
        assert other.loss == pytest.approx(score.loss, rel=1e-11)
        assert (other.correct, other.predictions) == (score.correct, score.predictions)


def test_second_derivatives_by_autograd_are_not_in_coordinates(asked: list[int]) -> None:
    data = data_of([11, 4, 7], 40)
    model = Model("gelu", lambda: nn.Sequential(nn.Flatten(), nn.Linear(40, 5), nn.GELU(), nn.Linear(5, 3)))
    params = model.init(0, torch.float64)
    for algorithm, in_coordinates in ((maml(3, client=PLAIN, batch_size=3), False), (fomaml(3), True)):
        asked.clear()
        expected, found = (
            one_round(engine, model, params, data, algorithm)[0] for engine in ("loop", StackedEngine(1))
        )
        assert relative_error(found, expected) < 1e-12
        assert bool(asked) == in_coordinates


def test_weight_decay_and_fedprox_leave_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise AssertionError("in coordinates")

    data, model = data_of([5, 4], 40), model_of(40)
    params = model.init(0, torch.float64)

    go = partial(one_round, "stacked", model, params, data)
    monkeypatch.setattr(stack, "index_of_dual_layer", refuse)
    go(fedavg(9, client=SGD(0.1, weight_decay=0.1), batch_size=4))
    go(fedprox(0.5, epochs=9, client=PLAIN, batch_size=4))
    with pytest.raises(AssertionError, match="in coordinates"):
        go(fedavg(9, client=PLAIN, batch_size=4))


def test_many_epochs_go_through_coordinates_and_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def watch(*args: Any) -> Params:
        made.append(args)
        return gram_and_outputs(*args)

    monkeypatch.setattr(first_layer, "gram_and_outputs", watch)
    data, model = data_of([20, 20], 100), model_of(100, hidden=10)
    for epochs, expected in ((1, False), (20, True)):
        one_round("stacked", model, model.init(0), data, fedavg(epochs, batch_size=4))
        assert bool(made) == expected
