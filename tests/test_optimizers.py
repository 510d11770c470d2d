import math
from dataclasses import FrozenInstanceError
from functools import partial

import pytest
import torch
from torch import nn

from fl_meta.algorithms.optimizers import SGD, Adam, OptimizerState, server_step
from fl_meta.models.parameters import Params

OPTIMIZERS = {
    "plain": (SGD(0.3), partial(torch.optim.SGD, lr=0.3)),
    "momentum": (SGD(0.3, momentum=0.9), partial(torch.optim.SGD, lr=0.3, momentum=0.9)),
    "decay": (SGD(0.3, weight_decay=0.1), partial(torch.optim.SGD, lr=0.3, weight_decay=0.1)),
    "both": (SGD(0.3, 0.5, 0.1), partial(torch.optim.SGD, lr=0.3, momentum=0.5, weight_decay=0.1)),
    "adam": (Adam(0.3), partial(torch.optim.Adam, lr=0.3)),
    "other adam": (Adam(0.3, 0.5, 0.7, 0.1), partial(torch.optim.Adam, lr=0.3, betas=(0.5, 0.7), eps=0.1)),
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
    assert (state == {}) == (name == "plain" or name == "decay")


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


RATES = (0, 0.0, -0.1, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize(
    ("make", "name", "value", "message"),
    [
        *[
            (make, "learning_rate", rate, "must be a finite number above 0")
            for make in (SGD, Adam)
            for rate in RATES
        ],
        *[(SGD, "momentum", value, r"is not in \[0, 1\)") for value in (-0.1, 1.0, 1.5, math.nan)],
        *[(SGD, "weight_decay", value, "is not 0 or more") for value in (-0.1, math.nan, math.inf)],
        *[(Adam, beta, value, r"is not in \[0, 1\)") for beta in ("beta1", "beta2") for value in (-0.1, 1.0)],
        *[(Adam, "epsilon", value, "must be a finite number above 0") for value in (0.0, -1e-8, math.nan)],
    ],
)
def test_bad_numbers_are_refused(make, name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} {message}"):
        make(**{"learning_rate": 0.1, name: value})


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(0.1)])
def test_a_configuration_is_frozen(optimizer: SGD | Adam) -> None:
    with pytest.raises(FrozenInstanceError):
        optimizer.learning_rate = 1.0  # type: ignore[misc]
