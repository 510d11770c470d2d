"""Claim 1: small errors for right code, large ones for code broken on purpose, and verdicts that notice."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import Algorithm, LocalWork, fedsgd, fomaml
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines import local_training as local
from fl_meta.engines.local_training import LocalTraining
from fl_meta.engines.task import Task
from fl_meta.evidence.first_claim_verdicts import (
    COEFFICIENT_TOLERANCE,
    FINITE_DIFFERENCE_TOLERANCE,
    IDENTITY_TOLERANCE,
    SLOPE_TOLERANCE,
    decide_band,
    decide_claim_one,
    decide_errors,
)
from fl_meta.experiments import expansion
from fl_meta.experiments import first_claim as claim_one
from fl_meta.experiments.expansion import Method
from fl_meta.experiments.first_claim import (
    RELATIVE_RATES,
    ClaimOne,
    averaged_models,
    expansion_rows,
    finite_difference_errors,
    identity_errors,
)
from fl_meta.models.images import emnist_cnn, logistic, mlp
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.models.text import char_lstm, char_mlp

CONFIG = ClaimOne(num_clients=3, steps=3, batch_size=4, expansion_steps=(2, 3), expansion_clients=3)
GOOD_ERRORS = pd.DataFrame({"relative_error": [1e-15, 1e-14]})
GOOD_EXPANSIONS = pd.DataFrame(
    {"client_id": ["a", "a", "b", "b"], "slope": [2.0] * 4, "coefficient_ratio": [1.0] * 4}
)


def tanh(data: FederatedDataset) -> Model:
    return Model("tanh", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 4)))


@pytest.fixture
def image_models(tiny_images: FederatedDataset) -> list[Model]:
    return [logistic(tiny_images), mlp(tiny_images, hidden=6), emnist_cnn(tiny_images)]


def verdicts(data: FederatedDataset, **tables: pd.DataFrame) -> dict[str, str]:
    """What is decided if the tables that are not given are good ones."""
    good = {"identities": GOOD_ERRORS, "expansions": GOOD_EXPANSIONS, "differences": GOOD_ERRORS}
    decided = decide_claim_one(*(good | tables).values(), data, "smoke")
    assert [one.claim for one in decided] == ["1a", "1b-order", "1b-coefficient", "1c"]
    return {one.claim: one.verdict for one in decided}


# --- 1a: identities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 11])
def test_the_identities_hold(
    image_models: list[Model], tiny_images: FederatedDataset, tiny_text: FederatedDataset, seed: int
) -> None:
    text_models = [char_mlp(tiny_text, hidden=8), char_lstm(tiny_text, embedding=3, hidden=4)]
    for models, data in ((image_models, tiny_images), (text_models, tiny_text)):
        errors = identity_errors(models, data, CONFIG, seed=seed)
        assert list(errors.columns) == ["model", "identity", "relative_error"]
        assert len(errors) == 3 * len(models)
        assert errors.relative_error.between(0, IDENTITY_TOLERANCE).all()
        # Both sides come from runs of their own: nothing is compared with itself.
        assert (errors.relative_error > 0).any()
        assert verdicts(data, identities=errors)["1a"] == "reproduced"


@pytest.mark.parametrize("weights", ["examples", "equal"])
def test_averaging_models_by_hand(tiny_images: FederatedDataset, weights: str) -> None:
    # One full batch and one step: the gradient of softmax regression is (p − onehot) xᵀ.
    model = logistic(tiny_images)
    params = model.init(0, torch.float64)
    ids = ["client_0", "client_3", "client_5"]
    mean = averaged_models(
        model, params, tiny_images, ids, steps=1, client=SGD(0.5), batch_size=99, weights=weights, seed=0
    )
    moved, shares = [], []
    for client_id in ids:
        client = tiny_images[client_id]
        x = client.train_x.reshape(len(client.train_x), -1).astype(np.float64)
        logits = x @ params["1.weight"].numpy().T + params["1.bias"].numpy()
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        slope = (chances - np.eye(4)[client.train_y]).T @ x / len(x)
        moved.append(params["1.weight"].numpy() - 0.5 * slope)
        shares.append(len(x) if weights == "examples" else 1)
    expected = np.average(moved, axis=0, weights=shares)
    np.testing.assert_allclose(mean["1.weight"].numpy(), expected, rtol=1e-12, atol=1e-14)


local_training = Task.local_training


def wrong_rate(task: Task, params: Params, work: LocalWork, *rest: Any) -> LocalTraining:
    client = replace(work.client, learning_rate=work.client.learning_rate * 1.001)
    return local_training(task, params, replace(work, client=client), *rest)


def batches_of_the_next_round(
    task: Task, params: Params, work: LocalWork, round_number: int, *rest: Any
) -> LocalTraining:
    return local_training(task, params, work, round_number + 1, *rest)


@pytest.mark.parametrize(
    ("module", "name", "broken"),
    [
        pytest.param(Task, "local_training", wrong_rate, id="rate of local steps"),
        pytest.param(Task, "local_training", batches_of_the_next_round, id="other batches"),
        # FOMAML(1) is dropped for a second FedSGD.
        pytest.param(
            claim_one,
            "fomaml",
            lambda K, **o: fedsgd(**o) if K == 1 else fomaml(K, **o),
            id="a term left out",
        ),
        pytest.param(claim_one, "fomaml", lambda K, **o: fomaml(K + 1, **o), id="terms off by one"),
        pytest.param(claim_one, "fomaml", lambda K, **o: fomaml(K, **o | {"weights": "equal"}), id="weights"),
        pytest.param(claim_one, "fomaml", lambda K, **o: fomaml(K, **o | {"batch_size": 5}), id="batch size"),
        pytest.param(
            claim_one, "fedsgd", lambda **o: fedsgd(**o | {"client": SGD(0.051)}), id="rate of FedSGD"
        ),
    ],
)
def test_a_broken_library_is_noticed(
    tiny_images: FederatedDataset,
    module: Any,
    name: str,
    broken: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, name, broken)
    errors = identity_errors([logistic(tiny_images)], tiny_images, CONFIG)
    assert errors.relative_error.max() > 1e-5
    assert verdicts(tiny_images, identities=errors)["1a"] == "not reproduced"


def test_dropout_that_does_not_advance_is_noticed(
    tiny_images: FederatedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(LocalTraining):
        def dropout_seed(self, client_id: str, step: int) -> int:
            return 0

    monkeypatch.setattr(Task, "local_training", lambda *args: Stuck(**vars(local_training(*args))))
    errors = identity_errors([emnist_cnn(tiny_images)], tiny_images, CONFIG)
    assert errors.relative_error.max() > 1e-2


# --- 1b: expansion --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 23])
@pytest.mark.parametrize("build", [logistic, tanh], ids=["logistic", "tanh"])
def test_the_expansion_holds(
    tiny_images: FederatedDataset, build: Callable[[FederatedDataset], Model], seed: int
) -> None:
    rows = expansion_rows(build(tiny_images), tiny_images, CONFIG, RELATIVE_RATES, seed=seed)
    assert list(rows.columns) == ["model", "client_id", "method", "steps", "slope", "coefficient_ratio"]
    assert len(rows) == 3 * 3 * 2
    # Clients of fewer than two batches of 4 are passed over; all of these have enough.
    assert list(rows.client_id.unique()) == ["client_0", "client_1", "client_2"]
    assert rows.slope.between(2 - SLOPE_TOLERANCE, 2 + SLOPE_TOLERANCE).all()
    assert rows.coefficient_ratio.between(1 - COEFFICIENT_TOLERANCE, 1 + COEFFICIENT_TOLERANCE).all()
    decided = verdicts(tiny_images, expansions=rows)
    assert (decided["1b-order"], decided["1b-coefficient"]) == ("reproduced", "reproduced")


def test_small_clients_are_passed_over(tiny_images: FederatedDataset) -> None:
    sizes = dict(zip(tiny_images.client_ids, tiny_images.train_counts, strict=True))
    config = replace(CONFIG, batch_size=6, expansion_steps=(2,), expansion_clients=2)
    rows = expansion_rows(logistic(tiny_images), tiny_images, config, RELATIVE_RATES)
    enough = [client_id for client_id, size in sizes.items() if size >= 12]
    assert list(rows.client_id.unique()) == enough[:2]
    assert enough[0] != "client_0"
    with pytest.raises(ValueError, match="no client of 'tiny images' has 40 train examples"):
        expansion_rows(logistic(tiny_images), tiny_images, replace(CONFIG, batch_size=20), RELATIVE_RATES)


def half(function: Callable[..., Params]) -> Callable[..., Params]:
    return lambda *args: {name: tensor / 2 for name, tensor in function(*args).items()}


def without_second_order(
    model: Model, params: Params, batches: Any, method: Method, *rest: Any, **known: Any
) -> Params:
    # MAML without its second order is FOMAML: half the coefficient.
    return whole_update(model, params, batches, "FOMAML" if method == "MAML" else method, *rest, **known)


whole_update = expansion.expected_update


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("expected_update", without_second_order),
        ("hessian_vector_product", half(local.hessian_vector_product)),
    ],
)
def test_a_broken_expansion_is_noticed(
    tiny_images: FederatedDataset, name: str, broken: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, name, broken)
    rows = expansion_rows(logistic(tiny_images), tiny_images, CONFIG, RELATIVE_RATES)
    decided = verdicts(tiny_images, expansions=rows)
    assert (decided["1b-order"], decided["1b-coefficient"]) == ("not reproduced", "not reproduced")


# --- 1c: finite differences -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 5])
def test_maml_agrees_with_finite_differences(tiny_images: FederatedDataset, seed: int) -> None:
    models = [logistic(tiny_images), tanh(tiny_images)]
    errors = finite_difference_errors(models, tiny_images, CONFIG, rate=0.5, seed=seed)
    assert list(errors.columns) == ["model", "client_id", "steps", "relative_error", "first_order_error"]
    assert len(errors) == 6
    assert errors.relative_error.max() < FINITE_DIFFERENCE_TOLERANCE
    assert verdicts(tiny_images, differences=errors)["1c"] == "reproduced"
    # The first-order method is off by far more than the tolerance, for every client.
    assert errors.first_order_error.min() > 1e3 * FINITE_DIFFERENCE_TOLERANCE


def test_finite_differences_through_dropout(tiny_images: FederatedDataset) -> None:
    errors = finite_difference_errors([emnist_cnn(tiny_images)], tiny_images, CONFIG)
    assert errors.relative_error.max() < FINITE_DIFFERENCE_TOLERANCE


def test_fomaml_in_the_place_of_maml_is_noticed(
    tiny_images: FederatedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_order(*args: Any, **kwargs: Any) -> Algorithm:
        return fomaml(*args, **kwargs)

    monkeypatch.setattr(claim_one, "maml", first_order)
    errors = finite_difference_errors([logistic(tiny_images)], tiny_images, CONFIG)
    assert errors.relative_error.min() > 1e2 * FINITE_DIFFERENCE_TOLERANCE
    assert verdicts(tiny_images, differences=errors)["1c"] == "not reproduced"


# --- decisions, by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.125, 0.25], "reproduced"),
        ([0.125, 0.2500001], "not reproduced"),
        ([0.0], "reproduced"),
        ([math.inf, 0.0], "not reproduced"),
        ([math.nan], "not reproduced"),
        # pandas would pass over NaN.
        ([0.0, math.nan, 0.0], "not reproduced"),
    ],
)
def test_errors_at_the_boundary(tiny_images: FederatedDataset, errors: list[float], expected: str) -> None:
    decided = decide_errors("1a", pd.Series(errors), 0.25, tiny_images, "smoke")
    assert decided.verdict == expected
    if not np.isnan(errors).any():
        assert (decided.effect, decided.interval) == (max(errors), (min(errors), max(errors)))
    assert decided.unit == "largest relative error (accepted: 0.25)"
    assert decided.dataset == "tiny images (synthetic)"


@pytest.mark.parametrize(
    ("values", "expected", "furthest"),
    [
        ([2.0, 2.0, 2.0], "reproduced", 2.0),
        # The ends of the band belong to it.
        ([2.0, 2.25], "reproduced", 2.25),
        ([1.75, 2.1], "reproduced", 1.75),
        ([2.26], "not reproduced", 2.26),
        # No mean hides a single failure, to either side.
        ([2.0] * 99 + [2.3], "not reproduced", 2.3),
        ([2.0] * 99 + [1.7], "not reproduced", 1.7),
        ([1.0, 3.5, 1.0, 2.0], "not reproduced", 3.5),
        # Not everything measured.
        ([2.0, math.nan, 2.0], "undecided", math.nan),
        ([2.0, math.inf], "undecided", math.nan),
    ],
)
def test_a_band_is_left_by_one_value(
    tiny_images: FederatedDataset, values: list[float], expected: str, furthest: float
) -> None:
    decided = decide_band("1b-order", pd.Series(values), 2.0, 0.25, tiny_images, "laptop")
    assert decided.verdict == expected
    assert decided.effect == pytest.approx(furthest, nan_ok=True)
    if not math.isnan(furthest):
        assert decided.interval == (min(values), max(values))
    assert decided.unit == f"furthest off of {len(values)} (accepted: 2 ± 0.25)"
    assert decided.profile == "laptop"


@pytest.mark.parametrize("column", ["slope", "coefficient_ratio"])
@pytest.mark.parametrize("rows", [[0], [0, 1], [3]])
def test_what_could_not_be_measured_is_not_passed_over(
    tiny_images: FederatedDataset, column: str, rows: list[int]
) -> None:
    table = GOOD_EXPANSIONS.copy()
    table.loc[rows, column] = math.nan
    decided = verdicts(tiny_images, expansions=table)
    expected = {"slope": ("undecided", "reproduced"), "coefficient_ratio": ("reproduced", "undecided")}
    assert (decided["1b-order"], decided["1b-coefficient"]) == expected[column]


@pytest.mark.parametrize(
    ("claim", "table", "column", "good", "bad"),
    [
        ("1a", "identities", "relative_error", 1e-12, 1.01e-12),
        ("1c", "differences", "relative_error", 1e-6, 1.01e-6),
        ("1b-order", "expansions", "slope", 2.099, 2.101),
        ("1b-order", "expansions", "slope", 1.901, 1.899),
        ("1b-coefficient", "expansions", "coefficient_ratio", 1.019, 1.021),
        ("1b-coefficient", "expansions", "coefficient_ratio", 0.981, 0.979),
    ],
)
def test_tolerances_are_the_ones_announced(
    tiny_images: FederatedDataset, claim: str, table: str, column: str, good: float, bad: float
) -> None:
    for value, expected in ((good, "reproduced"), (bad, "not reproduced")):
        changed = (GOOD_EXPANSIONS if table == "expansions" else GOOD_ERRORS).copy()
        changed.loc[1, column] = value
        assert verdicts(tiny_images, **{table: changed})[claim] == expected
