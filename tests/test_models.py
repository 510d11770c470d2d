import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, max_pool2d

from fl_meta import models
from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import fedavg
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, relative_error
from fl_meta.training.rounds import pseudo_gradient

IMAGE_MODELS = [models.logistic, models.mlp, models.small_cnn, models.emnist_cnn, models.fedem_cnn]
TEXT_MODELS = [models.char_mlp, models.char_lstm]


def images_of(height: int, width: int, classes: int, count: int = 3) -> FederatedDataset:
    x = np.random.default_rng(0).random((count, height, width), dtype=np.float32)
    return FederatedDataset.from_arrays(
        x, np.arange(count), ["a"] * count, test_fraction=0, num_classes=classes
    )


def text_of(positions: int, classes: int, count: int = 3) -> FederatedDataset:
    codes = np.random.default_rng(0).integers(classes, size=(count, positions))
    return FederatedDataset.from_arrays(
        codes.astype(np.uint8), codes, ["a"] * count, test_fraction=0, num_classes=classes
    )


EMNIST, SHAKESPEARE = images_of(28, 28, 62), text_of(12, 100)


def example_of(build: Callable[..., Model]) -> tuple[Model, FederatedDataset]:
    data = SHAKESPEARE if build in TEXT_MODELS else EMNIST
    return build(data), data


# Parameters -----------------------------------------------------------------------------------------------


def test_a_model_may_first_run_inside_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.mlp(EMNIST, hidden=10)
    params, (client,) = model.init(0), EMNIST
    x, y = torch.from_numpy(client.train_x), torch.from_numpy(client.train_y)
    gradient = torch.func.grad(lambda p: model.loss(p, x, y, dropout_seed=0))(params)
    # One worker runs the model's own module, which must not have stayed behind in the gradient.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    algorithm = fedavg(steps=1, client=SGD(1.0), batch_size=len(x))
    sent, _ = pseudo_gradient(model, params, EMNIST, ["a"], algorithm, seed=0, round_number=0)
    assert relative_error(sent, gradient) < 1e-6


@pytest.mark.parametrize(
    ("build", "data", "options", "expected"),
    [
        (models.logistic, EMNIST, {}, 784 * 62 + 62),
        (models.mlp, EMNIST, {}, (784 * 200 + 200) + (200 * 200 + 200) + (200 * 62 + 62)),
        (models.mlp, EMNIST, {"hidden": 10}, (784 * 10 + 10) + (10 * 10 + 10) + (10 * 62 + 62)),
        # 28 → 14 → 7 pixels.
        (models.small_cnn, EMNIST, {}, (25 * 16 + 16) + (9 * 16 * 32 + 32) + (7 * 7 * 32 * 62 + 62)),
        # The paper's, 1,206,590: 28 → 26 → 24 → 12 pixels.
        (
            models.emnist_cnn,
            EMNIST,
            {},
            (9 * 32 + 32) + (9 * 32 * 64 + 64) + (12 * 12 * 64 * 128 + 128) + (128 * 62 + 62),
        ),
        # FedEM's, 2,278,334: 28 → 24 → 12 → 8 → 4 pixels.
        (
            models.fedem_cnn,
            EMNIST,
            {},
            (25 * 32 + 32) + (25 * 32 * 64 + 64) + (4 * 4 * 64 * 2048 + 2048) + (2048 * 62 + 62),
        ),
        (models.char_mlp, SHAKESPEARE, {}, 100 * 16 + (8 * 16 * 128 + 128) + (128 * 100 + 100)),
        (models.char_mlp, SHAKESPEARE, {"context": 3, "embedding": 2, "hidden": 5}, 200 + 35 + 600),
        # Four gates, each with two biases; the second layer reads the first: 825,220.
        (
            models.char_lstm,
            SHAKESPEARE,
            {},
            100 * 8 + 4 * 256 * (8 + 256 + 2) + 4 * 256 * (256 + 256 + 2) + (256 * 100 + 100),
        ),
    ],
)
def test_numbers_of_parameters(
    build: Callable[..., Model], data: FederatedDataset, options: dict[str, int], expected: int
) -> None:
    model = build(data, **options)
    assert model.num_parameters == expected
    assert sum(tensor.numel() for tensor in model.init(0).values()) == expected


@pytest.mark.parametrize("build", IMAGE_MODELS + TEXT_MODELS)
def test_fresh_parameters_are_a_function_of_the_seed(build: Callable[..., Model]) -> None:
    model, data = example_of(build)
    torch.manual_seed(1)
    first = model.init(5)
    torch.manual_seed(2)
    again, other = build(data).init(5), model.init(6)
    assert first.keys() == again.keys() == dict(model.module.named_parameters()).keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert not any(tensor.requires_grad for tensor in first.values())
    doubles = model.init(5, torch.float64)
    assert all(torch.equal(doubles[name], first[name].double()) for name in first)


@pytest.mark.parametrize("build", [models.logistic, models.emnist_cnn, models.char_lstm])
def test_the_global_generator_is_left_alone(build: Callable[..., Model]) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    model, data = example_of(build)
    params = model.init(0)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    model.apply(params, x)
    model.loss(params, x, y, dropout_seed=3)
    model.score(params, x, y)
    assert torch.equal(torch.random.get_rng_state(), before)


# What they compute ----------------------------------------------------------------------------------------


def by_hand(name: str, p: Params, x: Tensor) -> Tensor:
    """The logits of each model from its formula."""
    if name == "logistic":
        return x.reshape(len(x), -1) @ p["1.weight"].T + p["1.bias"]
    if name == "mlp":
        h = (x.reshape(len(x), -1) @ p["1.weight"].T + p["1.bias"]).clamp(min=0)
        h = (h @ p["3.weight"].T + p["3.bias"]).clamp(min=0)
        return h @ p["5.weight"].T + p["5.bias"]
    x = x[:, None] if x.ndim == 3 else x
    if name == "small_cnn":
        h = conv2d(x, p["1.weight"], p["1.bias"], stride=2, padding=2).clamp(min=0)
        h = conv2d(h, p["3.weight"], p["3.bias"], stride=2, padding=1).clamp(min=0)
        return h.flatten(1) @ p["6.weight"].T + p["6.bias"]
    if name == "emnist_cnn":
        h = conv2d(x, p["1.weight"], p["1.bias"]).clamp(min=0)
        h = max_pool2d(conv2d(h, p["3.weight"], p["3.bias"]).clamp(min=0), 2)
        h = (h.flatten(1) @ p["8.weight"].T + p["8.bias"]).clamp(min=0)
        return h @ p["11.weight"].T + p["11.bias"]
    if name == "fedem_cnn":
        h = max_pool2d(conv2d(x, p["1.weight"], p["1.bias"]).clamp(min=0), 2)
        h = max_pool2d(conv2d(h, p["4.weight"], p["4.bias"]).clamp(min=0), 2)
        h = (h.flatten(1) @ p["8.weight"].T + p["8.bias"]).clamp(min=0)
        return h @ p["10.weight"].T + p["10.bias"]
    if name == "char_mlp":
        logits = []
        for t in range(x.shape[1]):
            # The 8 characters up to this one; before the first there is the blank, number 99.
            window = [x[:, s].long() if s >= 0 else torch.full((len(x),), 99) for s in range(t - 7, t + 1)]
            # Embeddings side by side, each number of an embedding with its 8 places together.
            h = torch.stack([p["embed.weight"][c] for c in window], dim=2).flatten(1)
            h = torch.tanh(h @ p["hidden.weight"].T + p["hidden.bias"])
            logits.append(h @ p["output.weight"].T + p["output.bias"])
        return torch.stack(logits, dim=1)
    assert name == "char_lstm"
    h = p["embed.weight"][x.long()]
    for layer in (0, 1):
        state = cell = torch.zeros(len(x), 256, dtype=h.dtype)
        states = []
        for t in range(x.shape[1]):
            gates = h[:, t] @ p[f"lstm.weight_ih_l{layer}"].T + p[f"lstm.bias_ih_l{layer}"]
            gates = gates + state @ p[f"lstm.weight_hh_l{layer}"].T + p[f"lstm.bias_hh_l{layer}"]
            inward, forget, new, outward = gates.chunk(4, dim=1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(inward) * torch.tanh(new)
            state = torch.sigmoid(outward) * torch.tanh(cell)
            states.append(state)
        h = torch.stack(states, dim=1)
    return h @ p["output.weight"].T + p["output.bias"]


@pytest.mark.parametrize("build", IMAGE_MODELS + TEXT_MODELS)
def test_logits_are_those_of_the_formula_and_of_the_plain_module(build: Callable[..., Model]) -> None:
    model, data = example_of(build)
    params = model.init(1, torch.float64)
    x = torch.from_numpy(data.x)
    logits = model.apply(params, x)
    assert logits.shape == (*data.y.shape, data.num_classes) and logits.dtype == torch.float64
    plain = build(data).build().double().eval()
    plain.load_state_dict(params)
    inputs = x.double() if x.is_floating_point() else x
    torch.testing.assert_close(logits, plain(inputs))
    torch.testing.assert_close(logits, by_hand(build.__name__, params, inputs))


def test_an_mlp_of_other_units_says_so() -> None:
    smooth, rectified = models.mlp(EMNIST, activation=nn.Tanh), models.mlp(EMNIST)
    assert (smooth.name, rectified.name) == ("mlp of tanh", "mlp")
    p, x = rectified.init(0, torch.float64), torch.from_numpy(EMNIST.x).double()
    h = torch.tanh(x.reshape(len(x), -1) @ p["1.weight"].T + p["1.bias"])
    h = torch.tanh(h @ p["3.weight"].T + p["3.bias"])
    torch.testing.assert_close(smooth.apply(p, x), h @ p["5.weight"].T + p["5.bias"])


@pytest.mark.parametrize("build", IMAGE_MODELS)
@pytest.mark.parametrize("size", [(28, 28), (31, 18), (32, 32)])
def test_images_of_any_size_fit(build: Callable[..., Model], size: tuple[int, int]) -> None:
    data = images_of(*size, classes=5)
    model = build(data)
    assert model.apply(model.init(0), torch.from_numpy(data.x)).shape == (3, 5)


@pytest.mark.parametrize("build", [models.logistic, models.mlp])
def test_flat_models_read_colours_and_features_too(build: Callable[..., Model]) -> None:
    for shape in ((4, 4, 3), (7,)):
        x = np.zeros((2, *shape), dtype=np.float32)
        model = build(FederatedDataset.from_arrays(x, [0, 1], ["a", "a"]))
        assert model.apply(model.init(0), torch.from_numpy(x)).shape == (2, 2)


def test_the_models_own_parameters_are_never_used() -> None:
    model, data = example_of(models.mlp)
    params, x = model.init(0), torch.from_numpy(data.x)
    before = model.apply(params, x)
    for parameter in model.module.parameters():
        parameter.data.fill_(math.nan)
    assert torch.equal(model.apply(params, x), before)


def test_any_module_will_do(tiny_images: FederatedDataset) -> None:
    model = Model("mine", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False)))
    x = torch.from_numpy(tiny_images.x)
    params = {"1.weight": torch.eye(4, 64)}
    assert model.num_parameters == 256
    assert torch.equal(model.apply(params, x), x.flatten(1)[:, :4])


def test_one_output_for_two_classes_is_binary_cross_entropy() -> None:
    random = np.random.default_rng(0)
    data = FederatedDataset.from_arrays(random.normal(size=(9, 150)), random.integers(2, size=9), ["a"] * 9)
    model = models.linear_binary(data)
    assert model.num_parameters == 151
    params, x, y = model.init(0, torch.float64), torch.from_numpy(data.x), torch.from_numpy(data.y)
    z = x @ params["1.weight"][0] + params["1.bias"]
    torch.testing.assert_close(model.apply(params, x), torch.stack([torch.zeros_like(z), z], dim=1))
    error = torch.sigmoid(z) - y
    gradient = torch.func.grad(model.loss)(params, x, y)
    torch.testing.assert_close(gradient["1.weight"][0], error @ x / 9)
    torch.testing.assert_close(gradient["1.bias"][0], error.mean())
    assert model.score(params, x, y)[1] == int(((z > 0) == (y == 1)).sum())


def test_colours_by_hand() -> None:
    x = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    data = FederatedDataset.from_arrays(x, [0, 1, 9], ["a"] * 3, name="colours")
    model = models.colour_cnn(data)
    # 32 → 16 → 8 pixels.
    expected = (3 * 25 * 16 + 16) + (16 * 9 * 32 + 32) + (8 * 8 * 32 * 10 + 10)
    assert model.num_parameters == expected == 26_346
    p = model.init(0)
    h = conv2d(torch.from_numpy(x), p["0.weight"], p["0.bias"], stride=2, padding=2).clamp(min=0)
    h = conv2d(h, p["2.weight"], p["2.bias"], stride=2, padding=1).clamp(min=0)
    logits = h.flatten(1) @ p["5.weight"].T + p["5.bias"]
    torch.testing.assert_close(model.apply(p, torch.from_numpy(x)), logits)


# Dropout --------------------------------------------------------------------------------------------------


def test_only_the_papers_cnn_drops_and_by_its_rates() -> None:
    rates = {
        build.__name__: [
            part.p for part in example_of(build)[0].module.modules() if isinstance(part, nn.Dropout)
        ]
        for build in IMAGE_MODELS + TEXT_MODELS
    }
    assert rates.pop("emnist_cnn") == [0.25, 0.5]
    assert all(rate == [] for rate in rates.values())
    assert models.emnist_cnn(EMNIST).has_dropout and not models.small_cnn(EMNIST).has_dropout
    assert not Model("none", lambda: nn.Dropout(0.0)).has_dropout


def test_dropout_masks_are_those_of_their_seed() -> None:
    model, data = example_of(models.emnist_cnn)
    params, x, y = model.init(0), torch.from_numpy(data.x), torch.from_numpy(data.y)
    first = model.apply(params, x, dropout_seed=1)
    torch.rand(3)
    evaluated = model.apply(params, x)
    assert torch.equal(model.apply(params, x, dropout_seed=1), first)
    assert torch.equal(model.apply(params, x), evaluated)
    assert not torch.equal(model.apply(params, x, dropout_seed=2), first)
    assert not torch.equal(first, evaluated)
    assert model.loss(params, x, y, 1) == cross_entropy(first, y)
    assert model.loss(params, x, y) == cross_entropy(evaluated, y)
    # Scoring after training is without dropout.
    assert model.score(params, x, y)[0] == pytest.approx(3 * cross_entropy(evaluated, y).item(), rel=1e-5)


def test_a_mask_keeps_and_rescales() -> None:
    model = Model("drop", lambda: nn.Sequential(nn.Dropout(0.25), nn.Linear(1, 1)))
    identity = {"1.weight": torch.ones(1, 1), "1.bias": torch.zeros(1)}
    out = model.apply(identity, torch.ones(4000, 1), dropout_seed=0)
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert 1000 - 5 * 27.4 < (out == 0).sum() < 1000 + 5 * 27.4
    # Seed 0 is a seed like any other: it does not mean "no dropout".
    assert torch.equal(model.apply(identity, torch.ones(9, 1)), torch.ones(9, 1))


# Loss and score -------------------------------------------------------------------------------------------

AS_IT_IS = Model("as it is", nn.Identity)
IDENTITY = Model("identity", lambda: nn.Linear(2, 2, bias=False))
EYE = {"weight": torch.eye(2, dtype=torch.float64)}


def test_loss_and_score_by_hand() -> None:
    x = torch.tensor([[math.log(3), 0.0], [0.0, math.log(4)], [0.0, 0.0]], dtype=torch.float64)
    # Probabilities of the labels: 3/4, 1/5, 1/2; the first is predicted, the second not.
    y = torch.tensor([0, 0, 1])
    total = math.log(4 / 3) + math.log(5) + math.log(2)
    assert IDENTITY.loss(EYE, x, y).item() == pytest.approx(total / 3)
    assert IDENTITY.score(EYE, x[:2], y[:2]) == (pytest.approx(math.log(4 / 3) + math.log(5)), 1, 2)
    assert IDENTITY.score(EYE, x, y)[0] == pytest.approx(total)


def test_padding_is_neither_a_loss_nor_a_prediction() -> None:
    x = torch.tensor(
        [[[math.log(3), 0.0], [0.0, 5.0]], [[9.0, 0.0], [0.0, math.log(4)]]], dtype=torch.float64
    )
    y = torch.tensor([[0, PADDING], [PADDING, 1]], dtype=torch.int16)
    # The two labels that are there have probabilities 3/4 and 4/5, and both are predicted.
    total = math.log(4 / 3) + math.log(5 / 4)
    assert IDENTITY.loss(EYE, x, y).item() == pytest.approx(total / 2)
    assert IDENTITY.score(EYE, x, y) == (pytest.approx(total), 2, 2)


@given(st.integers(1, 40), st.integers(1, 50))
def test_the_size_of_chunks_does_not_change_a_score(rows: int, chunk: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 3, 2, generator=generator, dtype=torch.float64)
    y = torch.randint(PADDING, 2, (rows, 3), generator=generator)
    whole, parts = IDENTITY.score(EYE, x, y), IDENTITY.score(EYE, x, y, chunk=chunk)
    assert parts == (pytest.approx(whole[0]), *whole[1:])
    valid = y != PADDING
    assert whole[1] == ((x[..., 1] > x[..., 0]).long() == y)[valid].sum() and whole[2] == valid.sum()


@pytest.mark.parametrize("label", [0, 1])
def test_a_model_that_has_diverged_is_never_right(label: int) -> None:
    for x in ([[math.nan, math.nan]], [[math.nan, 0.0]], [[0.0, math.nan]]):
        loss, correct, count = AS_IT_IS.score(
            EYE, torch.tensor(x, dtype=torch.float64), torch.tensor([label])
        )
        assert (correct, count) == (0, 1) and math.isnan(loss)


def test_a_score_needs_no_gradient() -> None:
    params = {"weight": torch.eye(2, requires_grad=True)}
    assert IDENTITY.score(params, torch.ones(1, 2), torch.tensor([0]))[2] == 1
    assert params["weight"].grad is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_whole_type(dtype: torch.dtype) -> None:
    x = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    assert IDENTITY.loss(EYE, x, torch.tensor([0], dtype=dtype)).item() == pytest.approx(math.log(4 / 3))


# Text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", TEXT_MODELS)
def test_a_later_character_never_changes_an_earlier_logit(build: Callable[..., Model]) -> None:
    model, data = example_of(build)
    params, x = model.init(0), torch.from_numpy(data.x)
    before = model.apply(params, x)
    for position in range(12):
        changed = x.clone()
        changed[:, position] = (changed[:, position].long() + 1) % 100
        after = model.apply(params, changed)
        # The first logit that changes is the one at the changed character itself.
        same = [torch.equal(after[:, t], before[:, t]) for t in range(12)]
        assert same[: position + 1] == [True] * position + [False]
        # An LSTM remembers to the end; the window holds 8 characters.
        reach = 8 if build is models.char_mlp else 12
        assert same[position:] == [t >= reach for t in range(12 - position)]


# The wrong data -------------------------------------------------------------------------------------------


def arrays(x: np.ndarray, y: Any = (0, 1), **options: Any) -> FederatedDataset:
    """The two examples of one client."""
    return FederatedDataset.from_arrays(x, y, ["a", "a"], **options)


CODES = np.array([[0, 1], [1, 0]])
TEXT, PIXELS = text_of(6, 10), images_of(8, 8, 4)
COLOURS = arrays(np.zeros((2, 32, 32, 3), dtype=np.float32))
CNNS = [models.small_cnn, models.emnist_cnn, models.fedem_cnn]


@pytest.mark.parametrize(
    ("builds", "data", "message"),
    [
        (IMAGE_MODELS, TEXT, r"labels of shape \(6,\).*use char_mlp or char_lstm"),
        (IMAGE_MODELS, arrays(np.zeros((2, 28, 28), np.uint8)), r"'custom' has examples of .*uint8.* floats"),
        (CNNS, COLOURS, r"examples of shape \(32, 32, 3\).*grey images \[height, width\]"),
        (TEXT_MODELS, PIXELS, r"examples of shape \(8, 8\) \(float32\).*use mlp"),
        (TEXT_MODELS, arrays(CODES), "whole numbers .* with a label at every position"),
        (TEXT_MODELS, arrays(CODES / 2, CODES), "whole numbers .* with a label at every position"),
        (
            TEXT_MODELS,
            arrays(5 + 0 * CODES, CODES, num_classes=5),
            "character code 5 in x, but only 5 classes",
        ),
        *[
            ([models.colour_cnn], arrays(x), r"has .*colour images \[3, height, width\] of floats.*transpose")
            for x in (np.zeros((2, 32, 32, 3)), np.zeros((2, 3, 32, 32), np.uint8), np.zeros((2, 28, 28)))
        ],
        ([models.linear_binary], images_of(4, 4, 5), "has 5 classes; linear_binary tells two apart, use log"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    builds: list[Callable[..., Model]], data: FederatedDataset, message: str
) -> None:
    for build in builds:
        with pytest.raises(ValueError, match=message):
            build(data)


@pytest.mark.parametrize(("build", "least"), [(models.emnist_cnn, 6), (models.fedem_cnn, 16)])
def test_images_too_small_for_the_convolutions_are_refused(build: Callable[..., Model], least: int) -> None:
    model = build(images_of(least, least, 2, count=2))
    assert model.apply(model.init(0), torch.zeros(1, least, least)).shape == (1, 2)
    with pytest.raises(ValueError, match=f"this model needs {least}×{least} or more"):
        build(images_of(least - 1, least - 1, 2, count=2))
