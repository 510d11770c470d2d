"""Rows of one's own: what a client sends as a function of its local steps."""

import runpy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.sent import LocalStep, SendingRule, SentGradients, WeightedGradients, formula_of
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm, fedavg, fedprox, fedsgd, fomaml
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.local_training import client_update
from fl_meta.engines.task import ENGINES
from fl_meta.models.images import logistic, mlp, small_cnn
from fl_meta.models.parameters import Params, add, relative_error, scale
from fl_meta.training.checkpoints import Checkpoint, CheckpointError
from fl_meta.training.rounds import pseudo_gradient
from fl_meta.training.run import train

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_algorithm.py"
PLAIN = SGD(0.1)


def weighted(weights: Sequence[float] | None, algorithm: Algorithm, formula: str = "own") -> Algorithm:
    """The same local steps with weights of one's own; None halves from each step to the one before it."""

    def rule(steps: int) -> list[float]:
        return [0.5 ** (steps - 1 - j) for j in range(steps)] if weights is None else list(weights)

    return replace(algorithm, sends=WeightedGradients(formula, rule))


def direction(data: FederatedDataset, algorithm: Algorithm, engine: str, model: str = "mlp") -> Params:
    built = {"mlp": mlp, "logistic": logistic, "small_cnn": small_cnn}[model](data)
    params = built.init(0, torch.float64)
    return pseudo_gradient(
        built, params, data, data.client_ids, algorithm, seed=3, round_number=1, engine=engine
    )[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("own", "row"),
    [
        (weighted([1, 1, 1], fedavg(steps=3, client=PLAIN)), fedavg(steps=3, client=PLAIN)),
        (weighted([0, 0, 1], fedavg(steps=3, client=PLAIN)), fomaml(2, client=PLAIN, weights="examples")),
        (weighted([1, 0, 0], fedavg(steps=3, client=PLAIN)), fedsgd(client=PLAIN)),
    ],
    ids=["the sum is FedAvg", "the last is FOMAML", "the first is FedSGD"],
)
def test_the_papers_rows_are_weightings(
    tiny_images: FederatedDataset, own: Algorithm, row: Algorithm, engine: str
) -> None:
    own, row = (replace(algorithm, batch_size=4) for algorithm in (own, row))
    error = relative_error(direction(tiny_images, own, engine), direction(tiny_images, row, engine))
    assert error < 1e-12


@pytest.mark.parametrize("model", ["logistic", "mlp", "small_cnn"])
@pytest.mark.parametrize(
    "algorithm",
    [
        fedavg(2, client=PLAIN, batch_size=4),
        fedavg(2, client=SGD(0.1, momentum=0.8, weight_decay=0.1), batch_size=4, weights="equal"),
        fedprox(0.5, 2, client=PLAIN, batch_size=4),
    ],
    ids=lambda row: f"{row.name} {row.client.momentum}",
)
def test_the_fast_engine_weighs_as_the_readable_one(
    tiny_images: FederatedDataset, algorithm: Algorithm, model: str
) -> None:
    # Clients have different numbers of steps, and so different weights in the same step.
    own = weighted(None, algorithm)
    found, expected = (direction(tiny_images, own, engine, model) for engine in ("stacked", "loop"))
    assert relative_error(found, expected) < 1e-12
    assert relative_error(found, direction(tiny_images, algorithm, "loop", model)) > 0.01


def movement(steps: Sequence[LocalStep]) -> Params:
    total = steps[0].direction
    for step in steps[1:]:
        total = add(total, step.direction)
    return total


@pytest.mark.parametrize("engine", ENGINES)
def test_any_function_of_the_steps(tiny_images: FederatedDataset, engine: str) -> None:
    algorithm = fedavg(2, client=SGD(0.1, momentum=0.8), batch_size=4)
    own, double = (
        replace(algorithm, sends=rule) for rule in (movement, lambda steps: scale(movement(steps), 2.0))
    )
    expected = direction(tiny_images, algorithm, engine)
    assert relative_error(direction(tiny_images, own, engine), expected) < 1e-12
    assert relative_error(direction(tiny_images, double, engine), scale(expected, 2.0)) < 1e-12


def test_a_rule_sees_the_whole_trajectory(tiny_images: FederatedDataset) -> None:
    model, seen = logistic(tiny_images), list[LocalStep]()

    def watch(steps: Sequence[LocalStep]) -> Params:
        seen.extend(steps)
        return steps[-1].gradient

    algorithm = replace(fedavg(steps=3, client=PLAIN, batch_size=4), sends=watch)
    params = model.init(0, torch.float64)
    client_update(model, params, tiny_images, "client_0", algorithm, seed=0, round_number=0)
    assert len(seen) == 3 and relative_error(seen[0].params, params) == 0
    for step, after in pairwise(seen):
        assert relative_error(after.params, add(step.params, step.direction, -0.1)) < 1e-15


def test_a_wrong_rule_is_named(tiny_images: FederatedDataset) -> None:
    def half(steps: Sequence[LocalStep]) -> Params:
        return {"0.weight": torch.zeros(1)}

    for engine in ENGINES:
        with pytest.raises(ValueError, match=r"'own' gives 2 weights for a client with 3 local steps"):
            direction(tiny_images, weighted([1, 1], fedavg(steps=3)), engine)
        with pytest.raises(ValueError, match=r"half.* must return a dictionary of tensors with the names"):
            direction(tiny_images, replace(fedavg(1), sends=half), engine)
    with pytest.raises(ValueError, match="sends='g_1'; give a SentGradients, WeightedGradients, or a func"):
        replace(fedavg(1), sends="g_1")


def test_a_checkpoint_knows_a_rule_by_its_formula(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    def go(sends: WeightedGradients | SendingRule) -> Params:
        stage = Stage(replace(fedavg(1, client=PLAIN), sends=sends), 2, 2)
        checkpoint = Checkpoint(tmp_path / "run", every=1)
        return train(
            logistic(tiny_images), tiny_images, [stage], checkpoint=checkpoint, progress=False
        ).params

    first = go(WeightedGradients("mean", lambda steps: [1 / steps] * steps))
    again = go(WeightedGradients("mean", lambda steps: pytest.fail("all rounds are done")))
    assert relative_error(again, first) == 0
    with pytest.raises(CheckpointError, match=r"sends is 'mean' in the checkpoint and 'sum' in this run"):
        go(WeightedGradients("sum", lambda steps: [1.0] * steps))
    for nameless in (lambda steps: steps[0].gradient, partial(movement)):
        with pytest.raises(ValueError, match="a checkpoint recognizes a rule by its name"):
            go(nameless)


def test_formulas() -> None:
    assert formula_of(SentGradients.FIRST) == "g_1"
    assert formula_of(WeightedGradients("own", lambda steps: [])) == "own"
    assert formula_of(movement) == "movement"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE))["main"](num_writers=16, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("sends")[0].strip() for line in lines] == [
        "FedAvg(E=5)",
        "mean of gradients",
        "clipped",
    ]
    accuracies = [float(line.split("personalized ")[1].split()[0]) for line in lines]
    assert all(np.isfinite(accuracies)) and all(0 <= accuracy <= 1 for accuracy in accuracies)
