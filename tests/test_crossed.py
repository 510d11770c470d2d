"""A cell of the crossed design against runs of the library by hand, and what may influence what."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from small_crossed import DESIGN, flipped, groups, tiny, toy_clients, use_clients

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.sent import WeightedGradients
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm, fedavg, fedsgd, reptile
from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import personalize
from fl_meta.experiments import crossed_training, trajectories
from fl_meta.experiments.crossed import crossed
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED,
    CENTRALIZED_ADAM,
    CENTRALIZED_SGD,
    CENTRALIZED_SMALLER,
    CONTINUED,
    FEDAVG,
    FEDSGD,
    REPTILE,
    SMALL_E,
    Choice,
    Crossed,
    matched_arms,
    second_stage_arm,
    second_stage_arms,
)
from fl_meta.experiments.crossed_training import Fold
from fl_meta.experiments.outcomes import CrossedArm, CrossedOutcome
from fl_meta.experiments.trajectories import path
from fl_meta.training.run import train

SEED, FOLD = 4, 1  # 4 is 1 more than the number of folds
SECOND_STAGE = second_stage_arms()
# What no tuning would choose: everything differs from everything else.
CHOICES = (
    Choice(FEDAVG, 0.06, 5, "flat", 0.05),
    Choice(CONTINUED, 1.0, 2, "fixed", 0.1),
    Choice(second_stage_arm("FedAvg", "SGD, smaller rate"), 0.3, 2, "fixed", 0.2),
    Choice(second_stage_arm("FedAvg", "Adam"), 0.01, 2, "fixed", 0.15),
    Choice(second_stage_arm("Reptile", "SGD as before"), 1.0, 2, "fixed", 0.12),
    Choice(second_stage_arm("Reptile", "SGD, smaller rate"), 0.2, 2, "fixed", 0.07),
    Choice(REPTILE, 0.1, 2, "fixed", 0.25),
    Choice(FEDSGD, 0.02, 3, "flat", 0.08),
    Choice(SMALL_E, 0.5, 4, "ceiling", 0.09),
    Choice(CENTRALIZED_SGD, 0.1, 9, "flat", 0.3),
    Choice(CENTRALIZED_SMALLER, 0.03, 12, "ceiling", 0.11),
    Choice(CENTRALIZED_ADAM, 0.03, 11, "flat", 0.13),
)
CHOICE = {choice.arm: choice for choice in CHOICES}
# Of the other folds nothing is used, so that a cell that takes the wrong fold's choices fails.
CONFIG = Crossed(DESIGN, ((), CHOICES, ()))
ARMS = [*SECOND_STAGE, FEDSGD, SMALL_E]
CENTRALIZED_ARMS = [arm for arm in CENTRALIZED if arm in CHOICE]


def cell(data: FederatedDataset, config: Crossed = CONFIG, seed: int = SEED) -> CrossedOutcome:
    with pytest.MonkeyPatch.context() as patch:
        use_clients(patch, data)
        return crossed(config, seed)


@pytest.fixture(scope="module")
def result() -> CrossedOutcome:
    """A cell that many tests look at."""
    return cell(toy_clients())


def arm_named(outcome: CrossedOutcome, name: str) -> CrossedArm:
    (arm,) = [arm for arm in outcome.arms if arm.name == name]
    return arm


# The models, once more by hand ----------------------------------------------------------------------------


def averaging(epochs: int, server: SGD | Adam) -> Algorithm:
    return fedavg(epochs, client=SGD(0.06), server=server, batch_size=20)


START = Stage(averaging(3, SGD(1.0, momentum=0.9)), 5, 3)


def stages_of(arm: str, training: FederatedDataset) -> tuple[Stage, ...]:
    """From nothing but the choices above and the design."""
    choice = CHOICE[arm]
    if arm == FEDAVG:
        return (START,)
    if arm in CENTRALIZED:
        server = Adam(choice.rate) if arm == CENTRALIZED_ADAM else SGD(choice.rate, momentum=0.9)
        return (Stage(fedsgd(client=SGD(1.0), server=server, batch_size=30), choice.rounds, 1),)
    if arm == FEDSGD:
        algorithm = fedsgd(client=SGD(0.06), server=Adam(choice.rate), batch_size=20)
    elif arm == SMALL_E:
        algorithm = averaging(1, SGD(choice.rate, momentum=0.9))
    else:
        server = Adam(choice.rate) if arm.endswith("Adam") else SGD(choice.rate, momentum=0.9)
        batches = np.mean([math.ceil(count / 20) for count in training.train_counts])
        if arm.startswith("Reptile"):
            algorithm = reptile(round(3 * batches), client=SGD(0.06), server=server, batch_size=20)
        else:
            algorithm = averaging(3, server)
    return (START, Stage(algorithm, choice.rounds, 3))


@cache
def by_hand(arm: str, stages: tuple[Stage, ...]) -> tuple[np.ndarray, int]:
    """Accuracies of the held-out clients [2, clients], and the gradients that the model took."""
    rate = CHOICE[arm].personalization_rate
    training, _, held_out = groups(toy_clients(), FOLD)
    model = tiny(training)
    if arm in CENTRALIZED:
        run = train(model, training.pooled(), stages, seed=SEED, engine="loop", progress=False)
    else:
        run = train(model, training, stages, seed=SEED, progress=False)
    table = personalize(model, run.params, held_out, epochs=2, client=SGD(rate), batch_size=20, seed=SEED)
    assert tuple(table.accuracies().index) == held_out.client_ids
    return table.accuracies()[[0, 2]].to_numpy().T, int(run.history.local_gradients.sum())


@pytest.mark.parametrize("name", [FEDAVG, *SECOND_STAGE, FEDSGD, SMALL_E, *CENTRALIZED_ARMS])
def test_an_arm_is_what_training_and_personalization_give(result: CrossedOutcome, name: str) -> None:
    training, _, held_out = groups(toy_clients(), FOLD)
    stages = stages_of(name, training)
    accuracy, gradients = by_hand(name, stages)
    arm = arm_named(result, name)
    assert result.clients == held_out.client_ids
    assert arm.accuracy == pytest.approx(accuracy, abs=1e-9), "50 test examples need no rounding"
    assert arm.rounds == sum(stage.rounds for stage in stages)
    assert arm.local_gradients == gradients


def test_every_arm_is_there_once(result: CrossedOutcome) -> None:
    matched = [name for arm in CENTRALIZED_ARMS for name in matched_arms(arm)]
    names = [arm.name for arm in result.arms]
    assert sorted(names) == sorted([FEDAVG, *ARMS, *CENTRALIZED_ARMS, *matched])
    for arm in result.arms:
        assert np.shape(arm.accuracy) == (2, len(result.clients)) == (2, 8)
    # The toy data tell arms apart, or tests here would prove little.
    assert len({arm.accuracy for arm in result.arms}) >= 12


def test_fedavg_goes_on_at_the_fork_with_fresh_momentum(result: CrossedOutcome) -> None:
    unbroken, _ = by_hand(CONTINUED, (replace(START, rounds=7),))
    assert arm_named(result, CONTINUED).accuracy != pytest.approx(unbroken, abs=1e-9)


# Matched models -------------------------------------------------------------------------------------------


# Where models may be matched: each round is 1.3 times the one before, at least one more; and on the curves.
POINTS = {
    FEDAVG: [1, 2, 3, 4, 5],
    CENTRALIZED_SGD: [1, 2, 3, 4, 5, 7, 9],
    CENTRALIZED_SMALLER: [1, 2, 3, 4, 5, 6, 7, 9, 12],
    CENTRALIZED_ADAM: [1, 2, 3, 4, 5, 6, 8, 11],
}
# From the end, half: of 9 it is 4 (4.5), of 5 and 3 it is 2 (2.5, 1.5), of 11 it is 6 (5.5).
CURVES = {
    FEDAVG: [1, 2, 5],
    CENTRALIZED_SGD: [1, 2, 4, 9],
    CENTRALIZED_SMALLER: [1, 2, 3, 6, 12],
    CENTRALIZED_ADAM: [1, 2, 3, 6, 11],
}


@pytest.fixture(scope="module")
def paths() -> dict[str, dict[int, np.ndarray]]:
    """By arm and round: mean initial and personalized accuracy, and the gradients that it took."""
    training, _, held_out = groups(toy_clients(), FOLD)
    model = tiny(training)
    found: dict[str, dict[int, np.ndarray]] = {}
    for arm, numbers in POINTS.items():
        (stage,) = stages_of(arm, training)
        data, client = (
            training.pooled() if arm in CENTRALIZED else training,
            SGD(CHOICE[arm].personalization_rate),
        )
        found[arm] = {}
        for snapshot in path(model, data, stage, SEED, numbers):
            table = personalize(model, snapshot.params, held_out, epochs=2, client=client, seed=SEED)
            means = table.accuracies()[[0, 2]].mean()
            found[arm][snapshot.round_number] = np.array([*means, snapshot.local_gradients])
    return found


@pytest.mark.parametrize("arm", CENTRALIZED_ARMS)
def test_matched_models_are_equal_at_the_start_and_between_two_points(
    result: CrossedOutcome, paths: dict[str, dict[int, np.ndarray]], arm: str
) -> None:
    target = min(max(initial for initial, *_ in paths[name].values()) for name in (arm, FEDAVG)) - 0.01
    for title, name in zip(matched_arms(arm), (arm, FEDAVG), strict=True):
        found = arm_named(result, title)
        initial, personalized = np.mean(found.accuracy, axis=1)
        assert initial == pytest.approx(target, abs=1e-4)
        after = next(number for number in POINTS[name] if paths[name][number][0] >= target)
        before = POINTS[name][POINTS[name].index(after) - 1]
        assert before < after
        share = (target - paths[name][before][0]) / (paths[name][after][0] - paths[name][before][0])
        assert 0 < share <= 1
        _, expected, gradients = (1 - share) * paths[name][before] + share * paths[name][after]
        assert personalized == pytest.approx(expected, abs=1e-4)
        assert found.rounds == pytest.approx((1 - share) * before + share * after, abs=0.51)
        assert found.local_gradients == pytest.approx(gradients, abs=0.51)


@pytest.mark.parametrize("arm", [FEDAVG, *CENTRALIZED_ARMS])
def test_curves_are_means_over_the_held_out_clients(
    result: CrossedOutcome, paths: dict[str, dict[int, np.ndarray]], arm: str
) -> None:
    assert set(result.curves) == {FEDAVG, *CENTRALIZED_ARMS}
    assert [number for number, *_ in result.curves[arm]] == CURVES[arm]
    for number, initial, personalized in result.curves[arm]:
        assert (initial, personalized) == pytest.approx(tuple(paths[arm][number][:2]), abs=1e-4)


# What may influence what ----------------------------------------------------------------------------------


def test_another_seed_is_another_run_and_its_remainder_is_the_fold(result: CrossedOutcome) -> None:
    few = Crossed(DESIGN, (CHOICES[:9], CHOICES[:9], CHOICES[:9]))
    again, other = cell(toy_clients(), few, SEED), cell(toy_clients(), few, SEED + DESIGN.folds)
    # Deterministic, and what is trained later changes nothing of what is trained before.
    assert again.arms == result.arms[: len(again.arms)]
    assert other.clients == again.clients
    changed = [a.accuracy != b.accuracy for a, b in zip(again.arms, other.arms, strict=True)]
    assert all(changed)
    gradients = {arm.name: arm.local_gradients for arm in other.arms}
    assert gradients != {arm.name: arm.local_gradients for arm in again.arms}


@pytest.mark.parametrize(("seed", "fold"), [(3, 0), (8, 2)])
def test_the_clients_of_a_cell_are_those_of_its_fold(seed: int, fold: int) -> None:
    short = tuple(replace(choice, rounds=1) for choice in CHOICES[:9])
    choices = tuple(short if number == fold else () for number in range(3))
    outcome = cell(toy_clients(), Crossed(DESIGN, choices), seed)
    assert outcome.clients == groups(toy_clients(), fold)[2].client_ids


def opposite(arm: CrossedArm) -> Any:
    return pytest.approx(1 - np.array(arm.accuracy), abs=1e-9)


def test_test_examples_of_held_out_clients_are_only_looked_at(result: CrossedOutcome) -> None:
    # With all their test labels flipped, models that are as before are right where they were wrong.
    data = toy_clients()
    _, _, held_out = groups(data, FOLD)
    other = cell(flipped(data, held_out.client_ids, test=True))
    # A match depends on them, by definition.
    for one, changed in zip(result.arms, other.arms, strict=True):
        assert one.name == changed.name
        if "matched" not in one.name:
            assert changed.accuracy == opposite(one)
            assert (changed.rounds, changed.local_gradients) == (one.rounds, one.local_gradients)


def test_train_examples_of_held_out_clients_are_for_personalization_alone(result: CrossedOutcome) -> None:
    data = toy_clients()
    _, validation, held_out = groups(data, FOLD)
    other = flipped(data, held_out.client_ids, train=True)
    # Clients that validate have had their say in tuning.
    other = cell(flipped(other, validation.client_ids, train=True, test=True))
    for one, changed in zip(result.arms, other.arms, strict=True):
        assert (one.name, one.rounds) == (changed.name, changed.rounds)
        assert changed.accuracy[0] == one.accuracy[0] and changed.accuracy[1] != one.accuracy[1]


# That these tests would notice ----------------------------------------------------------------------------


def sees_test_examples(model: Any, params: Any, data: FederatedDataset, **options: Any) -> Any:
    """Personalization that trains on the test part too."""
    y, x = np.concatenate([data.y, data.y]), np.concatenate([data.x, data.x])
    starts, counts, order = [], [], []
    for start, train_count, count in zip(data.starts, data.train_counts, data.counts, strict=True):
        starts.append(len(order))
        order += [*range(start, start + count), *range(start + train_count, start + count)]
        counts.append(count)
    leaky = replace(data, x=x[order], y=y[order], starts=np.array(starts), train_counts=np.array(counts))
    return personalize(model, params, leaky, **options)


@pytest.mark.parametrize("leaks", [False, True])
def test_a_personalization_that_sees_test_examples_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, leaks: bool
) -> None:
    if leaks:
        monkeypatch.setattr(trajectories, "personalize", sees_test_examples)
    data = toy_clients()
    training, _, held_out = groups(data, FOLD)
    fold = Fold(DESIGN, training, training, held_out, tiny(training))
    params = fold.model.init(SEED)
    other = flipped(data, held_out.client_ids, test=True).subset(held_out.client_ids)
    accuracy, changed = (fold.both(params, clients, 0.3, SEED) for clients in (held_out, other))
    assert changed[0] == pytest.approx(1 - accuracy[0])
    assert (changed[1] == pytest.approx(1 - accuracy[1])) is not leaks


def test_a_reptile_that_drops_its_last_gradient_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    drops = WeightedGradients("g_1 + … + g_{K-1}", lambda count: [1.0] * (count - 1) + [0.0])

    def broken(*arguments: Any, **options: Any) -> Algorithm:
        return replace(reptile(*arguments, **options), sends=drops)

    training, _, _ = groups(toy_clients(), FOLD)
    monkeypatch.setattr(crossed_training, "reptile", broken)
    outcome = cell(toy_clients(), Crossed(DESIGN, ((), CHOICES[:9], ())))
    for name in SECOND_STAGE:
        accuracy, _ = by_hand(name, stages_of(name, training))
        same = arm_named(outcome, name).accuracy == pytest.approx(accuracy, abs=1e-9)
        assert same is not name.startswith("Reptile")
