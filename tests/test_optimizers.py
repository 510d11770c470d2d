import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn

from fl_meta.algorithms.optimizers import SGD, Adam, OptimizerState, server_step
from fl_meta.models.parameters import Params

OPTIMIZERS = {
    "plain": (SGD(0.3), lambda p: torch.optim.SGD(p, lr=0.3)),
    "momentum": (SGD(0.3, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9)),
    "decay": (SGD(0.3, weight_decay=0.1), lambda p: torch.optim.SGD(p, lr=0.3, weight_decay=0.1)),
    "both": (
        SGD(0.3, momentum=0.5, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.5, weight_decay=0.1),
    ),
    "adam": (Adam(0.3), lambda p: torch.optim.Adam(p, lr=0.3)),
    "adam with other settings": (
        Adam(0.3, beta1=0.5, beta2=0.7, epsilon=0.1),
        lambda p: torch.optim.Adam(p, lr=0.3, betas=(0.5, 0.7), eps=0.1),
    ),
}


def initial() -> Params:
    return {"weight": torch.tensor([[1.0, -2.0], [3.0, 0.5]]), "bias": torch.tensor([0.1])}


def gradients(step: int) -> Params:
    generator = torch.Generator().manual_seed(step)
    return {name: torch.randn(value.shape, generator=generator) for name, value in initial().items()}


def copy_of(tree: dict) -> dict:
    return {k: copy_of(v) if isinstance(v, dict) else v.clone() for k, v in tree.items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        same(a[k], b[k]) if isinstance(a[k], dict) else torch.equal(a[k], b[k]) for k in a
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_torch(name: str) -> None:
    optimizer, build = OPTIMIZERS[name]
    oracle = {name: nn.Parameter(value) for name, value in initial().items()}
    torch_optimizer = build(oracle.values())
    params: Params = initial()
    state: OptimizerState = {}
    for step in range(5):
        params, state = server_step(optimizer, params, state, gradients(step))
        for key, value in gradients(step).items():
            oracle[key].grad = value
        torch_optimizer.step()
        for key, value in oracle.items():
            torch.testing.assert_close(params[key], value.detach())
    assert not any(value.requires_grad for value in params.values())


def test_momentum_by_hand() -> None:
    # m = 1, θ = 10 − 0.1; m = 0.5·1 + 1 = 1.5, θ = 9.9 − 0.15; m = 0.5·1.5 + 1 = 1.75, θ = 9.75 − 0.175.
    params, state, one = {"w": torch.tensor([10.0])}, {}, {"w": torch.tensor([1.0])}
    seen = []
    for _ in range(3):
        params, state = server_step(SGD(0.1, momentum=0.5), params, state, one)
        seen.append(params["w"].item())
    assert seen == pytest.approx([9.9, 9.75, 9.575])


def test_first_step_of_adam_by_hand() -> None:
    # Both means are corrected to g and g², so the step is g / (|g| + ε): 0.1·3/(3 + 1) and 0.1·(−1)/(1 + 1).
    gradient = {"w": torch.tensor([3.0, -1.0])}
    params, _ = server_step(Adam(0.1, epsilon=1.0), {"w": torch.zeros(2)}, {}, gradient)
    assert params["w"].tolist() == pytest.approx([-0.075, 0.05])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_changes_nothing_in_place_and_repeats(name: str) -> None:
    optimizer, _ = OPTIMIZERS[name]
    params, state = server_step(optimizer, initial(), {}, gradients(0))
    before = copy_of(params), copy_of(state), gradients(1)
    given = gradients(1)
    first = server_step(optimizer, params, state, given)
    assert same(params, before[0]) and same(state, before[1]) and same(given, before[2])
    again = server_step(optimizer, params, state, given)
    assert same(first[0], again[0]) and same(first[1], again[1])
    # What comes out shares no memory with what went in.
    for tensor in first[0].values():
        tensor.zero_()
    for tensors in first[1].values():
        for tensor in tensors.values():
            tensor.zero_()
    assert same(params, before[0]) and same(state, before[1]) and same(given, before[2])


def test_plain_sgd_keeps_no_state() -> None:
    assert server_step(SGD(0.1), initial(), {}, gradients(0))[1] == {}


@pytest.mark.parametrize("make", [SGD, Adam])
@pytest.mark.parametrize("rate", [0, 0.0, -0.1, math.nan, math.inf, -math.inf])
def test_a_bad_learning_rate_is_refused(make, rate: float) -> None:
    with pytest.raises(ValueError, match=rf"learning_rate={rate} must be a finite number above 0"):
        make(rate)


@pytest.mark.parametrize(
    ("make", "name", "value", "message"),
    [
        *[(SGD, "momentum", value, r"is not in \[0, 1\)") for value in (-0.1, 1.0, 1.5, math.nan)],
        *[(SGD, "weight_decay", value, "is not 0 or more") for value in (-0.1, math.nan, math.inf)],
        *[(Adam, beta, value, r"is not in \[0, 1\)") for beta in ("beta1", "beta2") for value in (-0.1, 1.0)],
        *[(Adam, "epsilon", value, "must be a finite number above 0") for value in (0.0, -1e-8, math.nan)],
    ],
)
def test_other_bad_numbers_are_refused(make, name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} {message}"):
        make(0.1, **{name: value})


def test_the_short_names_fill_the_fields_of_the_same_name() -> None:
    assert SGD(0.1, 0.2, 0.3) == SGD(learning_rate=0.1, momentum=0.2, weight_decay=0.3)
    assert Adam(0.1, 0.2, 0.3, 0.4) == Adam(learning_rate=0.1, beta1=0.2, beta2=0.3, epsilon=0.4)


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(0.1)])
def test_a_configuration_is_frozen(optimizer: SGD | Adam) -> None:
    with pytest.raises(FrozenInstanceError):
        optimizer.learning_rate = 1.0  # type: ignore[misc]
