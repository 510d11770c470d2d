"""Mixes of inner gradients and adaptation agree with the library on the same batches."""

import numpy as np
import pytest
import torch
from torch import nn

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import Algorithm, fedavg, fedsgd, fomaml, reptile
from fl_meta.evaluation.personalization import personalize
from fl_meta.laboratories.mixing import (
    BATCH_SIZE,
    PRESETS,
    SmallWriters,
    mixed_gradient,
    small_writers,
    train_mix,
)
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.training.rounds import pseudo_gradient

RATE = SGD(0.4)
ROWS = [
    ("FedSGD", fedsgd(client=RATE, batch_size=BATCH_SIZE, weights="equal")),
    ("FedAvg(5)", fedavg(steps=5, client=RATE, batch_size=BATCH_SIZE, weights="equal")),
    ("FedAvg(5)", reptile(5, client=RATE, batch_size=BATCH_SIZE)),
    ("FOMAML(4)", fomaml(4, client=RATE, batch_size=BATCH_SIZE)),
]
LINEAR = Model("linear", lambda: nn.Linear(49, 15))


@pytest.fixture(scope="module")
def writers() -> SmallWriters:
    return small_writers(num_writers=10)


def as_params(weights: np.ndarray) -> Params:
    return {"weight": torch.tensor(weights[:-1].T), "bias": torch.tensor(weights[-1])}


@pytest.mark.parametrize("number", [0, 11])
@pytest.mark.parametrize(("preset", "row"), ROWS)
def test_a_preset_is_a_row_of_the_table(
    writers: SmallWriters, preset: str, row: Algorithm, number: int
) -> None:
    params = np.random.default_rng(3).normal(size=(50, 15))
    ids = writers.train.client_ids
    expected, _ = pseudo_gradient(
        LINEAR, as_params(params), writers.train, ids, row, seed=0, round_number=number
    )
    gradients = as_params(mixed_gradient(writers.rounds[number], params, PRESETS[preset], 0.4))
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-12)


def test_a_mix_is_linear_in_what_is_sent(writers: SmallWriters) -> None:
    params = np.random.default_rng(4).normal(size=(50, 15))

    def mixed(*mix: float) -> np.ndarray:
        return mixed_gradient(writers.rounds[0], params, mix, 0.4)

    sum_of_gradients = 2 * mixed(0, 1, 0, 0, 0) - 0.5 * mixed(0, 0, 0, 1, 0)
    np.testing.assert_allclose(mixed(0, 2, 0, -0.5, 0), sum_of_gradients, atol=1e-12)
    assert not mixed(0, 0, 0, 0, 0).any()


def test_training_and_adaptation_equal_the_librarys(writers: SmallWriters) -> None:
    params = as_params(np.zeros((50, 15)))
    for number in range(4):
        step, _ = pseudo_gradient(
            LINEAR, params, writers.train, writers.train.client_ids, ROWS[1][1], seed=0, round_number=number
        )
        params = {name: tensor - 1.5 * step[name] for name, tensor in params.items()}
    table = personalize(LINEAR, params, writers.held_out, epochs=1, client=RATE, batch_size=BATCH_SIZE)
    learning = train_mix(writers, PRESETS["FedAvg(5)"], 0.4, 1.5, 4)
    assert (learning.initial[-1], learning.personalized[-1]) == pytest.approx(
        tuple(100 * table.accuracies().mean()), abs=1e-4
    )
    assert learning.rounds == (0, 1, 2, 3, 4)


def test_no_client_is_in_both_halves(writers: SmallWriters) -> None:
    assert len(writers.train) == len(writers.held_out) == 5
    assert not set(writers.train.client_ids) & set(writers.held_out.client_ids)
    assert writers.train.synthetic and "synthetic" in writers.train.label
