"""The layers of a stack, compared with autograd for one client after the other."""

from collections.abc import Callable

import numpy as np
import pytest
import tiny_tasks
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fl_meta.data.federated import FederatedDataset
from fl_meta.engines import local_training as local
from fl_meta.engines.stacked.character_lookup import LOOKUP, LOOKUP_CODES
from fl_meta.engines.stacked.layers import (
    add_curvature,
    add_gradients,
    by_hand,
    forward,
    layers_of,
    seeded_by_layer,
)
from fl_meta.models.images import fedem_cnn, mlp
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, relative_error
from fl_meta.models.text import Blanks, Windows

CLIENTS = 3


class Square(nn.Module):
    """A module of a user, with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + x**2


def sixteen(data: FederatedDataset) -> Model:
    """FedEM's network needs 16×16 pixels: these are the data's, four times each."""
    inner = fedem_cnn(FederatedDataset.from_arrays(np.zeros((2, 16, 16)), [0, 3], ["a", "a"]))
    return Model("fedem_cnn", lambda: nn.Sequential(Doubled(), inner.build()))


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 1).repeat_interleave(2, 2)


def built(*layers: Callable[[], nn.Module]) -> Callable[[FederatedDataset], Model]:
    return lambda _: Model("built", lambda: nn.Sequential(*[layer() for layer in layers]))


IMAGES: dict[str, Callable[[FederatedDataset], Model]] = {
    **tiny_tasks.IMAGES,
    "mlp of tanh": lambda data: mlp(data, 7, nn.Tanh),
    "fedem_cnn": sixteen,
    "a user's": built(nn.Flatten, lambda: nn.Linear(64, 5), Square, nn.GELU, lambda: nn.Linear(5, 4)),
    "a user's first": built(Square, nn.Flatten, lambda: nn.Linear(64, 4)),
    "norms": built(
        nn.Flatten,
        lambda: nn.Linear(64, 6),
        lambda: nn.GroupNorm(3, 6),
        lambda: nn.LayerNorm(6),
        lambda: nn.BatchNorm1d(6, track_running_stats=False),
        lambda: nn.Linear(6, 4),
    ),
    "no bias": built(
        lambda: nn.Linear(8, 5, bias=False), nn.ReLU, nn.Flatten, lambda: nn.Linear(40, 4, bias=False)
    ),
    "pooling": built(
        lambda: nn.Unflatten(1, (1, 8)),
        lambda: nn.Conv2d(1, 3, 3),
        nn.ReLU,
        lambda: nn.MaxPool2d(2),
        nn.Flatten,
        lambda: nn.Linear(27, 4),
    ),
    "padded logits": built(nn.Flatten, lambda: nn.Linear(64, 2), lambda: nn.ZeroPad1d((2, 0)), nn.Tanh),
    "dropout": built(
        nn.Flatten,
        lambda: nn.Linear(64, 9),
        lambda: nn.Dropout(0.4),
        nn.ReLU,
        lambda: nn.Linear(9, 9),
        lambda: nn.Dropout(0.2),
        lambda: nn.Linear(9, 4),
    ),
}


def characters(
    codes: int, activation: Callable[[], nn.Module], context: int = 2
) -> Callable[[FederatedDataset], Model]:
    return built(
        lambda: Blanks(context - 1, blank=9),
        lambda: nn.Embedding(codes, 3),
        lambda: Windows(context),
        lambda: nn.Linear(3 * context, 5, bias=False),
        activation,
        lambda: nn.Linear(5, 10),
    )


TEXT: dict[str, Callable[[FederatedDataset], Model]] = {
    **tiny_tasks.TEXT,
    "characters, no bias": characters(10, nn.ReLU),
    "more rows than 16 bits count": characters(LOOKUP_CODES, nn.ReLU, context=64),
    "words": characters(LOOKUP_CODES + 1, nn.ReLU),
    "characters, an activation of the user": characters(10, nn.GELU),
}


@pytest.fixture(params=[*IMAGES, *TEXT])
def task(
    request: pytest.FixtureRequest, tiny_images: FederatedDataset, tiny_text: FederatedDataset
) -> tuple[Model, list[Params], Tensor, Tensor]:
    """A model, parameters for each of the clients, and their batches [clients, 4, ...] with labels."""
    data = tiny_images if request.param in IMAGES else tiny_text
    model = (IMAGES | TEXT)[request.param](data)
    x, y = (
        torch.from_numpy(part[: 4 * CLIENTS].reshape(CLIENTS, 4, *part.shape[1:]))
        for part in (data.x, data.y)
    )
    x = x.double() if x.is_floating_point() else x
    return model, [model.init(seed, torch.float64) for seed in range(CLIENTS)], x, y.long()


def together(clients: list[Params]) -> Params:
    return {name: torch.stack([params[name] for params in clients]) for name in clients[0]}


def losses(logits: Tensor, y: Tensor) -> Tensor:
    """The sum of the clients' mean losses."""
    pairs = zip(logits, y, strict=True)
    return sum(cross_entropy(one.flatten(0, -2), y.flatten(), ignore_index=-1) for one, y in pairs)


def draws(seeds: range, size: int = 4) -> list[tuple[torch.Generator, int]]:
    return [(torch.Generator().manual_seed(seed), size) for seed in seeds]


@pytest.mark.parametrize("number", [1, CLIENTS])
def test_gradients_are_added_to_what_is_there(
    task: tuple[Model, list[Params], Tensor, Tensor], number: int
) -> None:
    model, clients, x, y = task
    clients, x, y = clients[:number], x[:number], y[:number]
    before = together([model.init(10 + i, torch.float64) for i in range(number)])
    gradients = {name: tensor.clone() for name, tensor in before.items()}
    params = together(clients)

    def loss_gradient(logits: Tensor) -> Tensor:
        leaf = logits.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(losses(leaf, y), leaf)[0]

    layers = layers_of(model.build().train())
    masks = draws(range(20, 20 + number)) if model.has_dropout else None
    with torch.no_grad():
        add_gradients(layers, params, gradients, x, masks, loss_gradient)
    for i, own in enumerate(clients):
        loss, expected = local.gradient(model, own, (x[i], y[i], 20 + i))
        assert loss > 0
        found = {name: gradients[name][i] - before[name][i] for name in gradients}
        assert relative_error(found, expected) < 1e-12
        assert all(torch.equal(params[name][i], own[name]) for name in own)


def test_the_second_derivative_goes_through_a_stack(
    task: tuple[Model, list[Params], Tensor, Tensor],
) -> None:
    model, clients, x, y = task
    along = together([model.init(10 + i, torch.float64) for i in range(CLIENTS)])
    leaves = {name: tensor.requires_grad_() for name, tensor in together(clients).items()}
    masks = draws(range(20, 20 + CLIENTS)) if model.has_dropout else None
    loss = losses(forward(layers_of(model.build().train()), leaves, x, masks), y)
    slopes = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    inner = sum((slope * along[name]).sum() for name, slope in zip(leaves, slopes, strict=True))
    found = dict(zip(leaves, torch.autograd.grad(inner, list(leaves.values())), strict=True))
    for i, params in enumerate(clients):
        own = {name: tensor[i] for name, tensor in along.items()}
        expected = local.hessian_vector_product(model, params, (x[i], y[i], 20 + i), own)
        assert relative_error({name: tensor[i] for name, tensor in found.items()}, expected) < 1e-11


def test_the_second_derivative_by_hand(task: tuple[Model, list[Params], Tensor, Tensor]) -> None:
    model, clients, x, y = task
    layers = layers_of(model.build().train())
    dense = ("logistic", "mlp", "mlp of relu", "mlp of tanh", "char_mlp")
    assert by_hand(layers) or model.name not in dense
    if not by_hand(layers):
        return
    along, before = (together([model.init(k + i, torch.float64) for i in range(CLIENTS)]) for k in (10, 30))
    product = {name: tensor.clone() for name, tensor in before.items()}

    def loss_gradient(logits: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        leaf = logits.detach().requires_grad_()
        [slope] = torch.autograd.grad(losses(leaf, y), leaf, create_graph=True)
        return slope.detach(), torch.autograd.grad(slope, leaf, moved)[0]

    add_curvature(layers, together(clients), along, product, x, loss_gradient)
    for i, params in enumerate(clients):
        own = {name: tensor[i] for name, tensor in along.items()}
        expected = local.hessian_vector_product(model, params, (x[i], y[i], 0), own)
        found = {name: product[name][i] - before[name][i] for name in product}
        assert relative_error(found, expected) < 1e-11


def test_masks_of_smaller_batches_are_those_of_the_client_alone() -> None:
    # Rows beyond a client's own batch are padding; they take no random numbers, and come out as zeros.
    [layer] = layers_of(nn.Dropout(0.3))
    x = torch.rand(2, 5, 6, dtype=torch.float64) + 1
    masks = [(torch.Generator().manual_seed(seed), size) for seed, size in ((1, 3), (2, 5))]
    found = layer.rule.forward(layer.module, {}, x, masks)
    for i, (seed, size) in enumerate(((1, 3), (2, 5))):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = nn.functional.dropout(x[i, :size], 0.3, training=True)
        torch.testing.assert_close(found[i, :size], expected, rtol=1e-15, atol=0)
        assert not found[i, size:].any()
    assert torch.equal(layer.rule.forward(layer.module, {}, x, None), x)


# --- which layers ---------------------------------------------------------------------------------------


def test_nested_layers_in_the_order_in_which_they_run() -> None:
    module = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 3))),
        nn.Linear(3, 2),
    )
    layers = layers_of(module)
    assert [type(layer.module) for layer in layers] == [nn.Flatten, nn.Linear, nn.Tanh, nn.Linear, nn.Linear]
    assert [list(layer.names.values()) for layer in layers] == [
        [],
        ["1.0.weight", "1.0.bias"],
        [],
        ["1.1.1.weight", "1.1.1.bias"],
        ["2.weight", "2.bias"],
    ]
    assert all(list(layer.names) in ([], ["weight", "bias"]) for layer in layers)


@pytest.mark.parametrize(
    ("embedding", "as_one"),
    [
        (nn.Embedding(LOOKUP_CODES, 3), True),
        (nn.Embedding(LOOKUP_CODES + 1, 3), False),
        (nn.Embedding(4, 3, padding_idx=0), False),
    ],
)
def test_when_a_model_of_characters_begins_with_a_table(embedding: nn.Module, as_one: bool) -> None:
    layers = layers_of(nn.Sequential(embedding, Windows(2), nn.Linear(6, 5), nn.GELU()))
    assert [layer.rule is LOOKUP for layer in layers] == ([True, False] if as_one else [False] * 4)


def test_a_module_that_is_no_sequence_is_one_layer() -> None:
    class Own(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    for module in (Own(nn.Linear(2, 2), nn.ReLU()), nn.LSTM(2, 2), nn.Linear(2, 2)):
        [layer] = layers_of(module)
        assert layer.module is module
        assert list(layer.names.values()) == [name for name, _ in module.named_parameters()]


def test_which_layers_gain_by_standing_beside_others() -> None:
    gaining = [
        *(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), nn.Embedding(2, 2), nn.Dropout(0.5), nn.Flatten()),
        *(nn.ReLU(), nn.Tanh(), nn.GELU(), nn.Sigmoid()),
    ]
    others = [
        *(nn.Conv2d(1, 1, 3), nn.LSTM(2, 2), nn.LayerNorm(2), Square()),
        nn.BatchNorm1d(2, track_running_stats=False),
    ]
    assert all(layers_of(module)[0].stackable for module in gaining)
    assert not any(layers_of(module)[0].stackable for module in others)


@pytest.mark.parametrize(
    ("module", "seeded"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), True),
        (nn.Sequential(nn.Sequential(nn.Dropout(0.5)), nn.Tanh()), True),
        (nn.LSTM(2, 2, num_layers=2), True),
        (nn.Sequential(nn.Dropout2d(0.0)), True),
        (nn.Sequential(nn.Dropout2d(0.5)), False),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.5), False),
        (nn.RReLU(), False),
        # Not in a sequence: what comes before it in `forward` is not known.
        (nn.ModuleList([nn.Dropout(0.5)]), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_which_models_draw_from_seeds_of_their_clients(module: nn.Module, seeded: bool) -> None:
    assert seeded_by_layer(layers_of(module)) == seeded
