"""The rule of long enough on curves made by hand, and what the stages of the crossed design do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_crossed import DESIGN, groups, toy_clients, use_clients

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.table import fedavg, fedsgd, reptile
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED,
    CENTRALIZED_ADAM,
    DESIGNS,
    SERVERS,
    UPDATES,
    Server,
    Update,
)
from fl_meta.experiments.crossed_training import (
    Curve,
    Fold,
    check_points,
    is_flat,
    late_mean,
    train_until_flat,
)
from fl_meta.experiments.trajectories import Snapshot, path
from fl_meta.training.rounds import TrainingDivergedError

# The rule of long enough ----------------------------------------------------------------------------------


def curve(*accuracies: float, every: int = 10) -> Curve:
    return [(every * (i + 1), accuracy) for i, accuracy in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("points", "flat"),
    [
        # Of six points the fourth and the sixth are compared.
        (curve(0.2, 0.5, 0.8, 0.9, 0.9, 0.9009), True),
        (curve(0.2, 0.5, 0.8, 0.9, 0.9, 0.9011), False),
        (curve(0.9, 0.9, 0.9, 0.9, 0.9, 0.91), False),
        (curve(0.0, 0.0, 0.99, 0.9, 0.0, 0.9), True),
        (curve(0.2, 0.5, 0.8, 0.9, 0.8, 0.7), True),
        # Of twelve, the mean of the seventh and eighth, and that of the last two.
        (curve(*[0.5] * 6, 0.80, 0.82, 0.5, 0.5, 0.79, 0.8309, every=5), True),
        (curve(*[0.5] * 6, 0.80, 0.82, 0.5, 0.5, 0.79, 0.8321, every=5), False),
        # Of five, the third (30 of 50) and the fifth.
        (curve(0.1, 0.2, 0.9, 0.1, 0.9), True),
        (curve(0.1, 0.9, 0.1, 0.9, 0.9), False),
        # Of one or two there is nothing to compare with.
        (curve(0.9), False),
        (curve(0.9, 0.9), False),
    ],
)
def test_flat_by_hand(points: Curve, flat: bool) -> None:
    assert is_flat(points) is flat


@settings(max_examples=50)
@given(st.lists(st.floats(0, 0.9), min_size=5, max_size=15), st.floats(0.01, 0.1), st.integers(1, 20))
def test_only_what_the_last_third_gained_counts(values: list[float], shift: float, every: int) -> None:
    points = curve(*values, every=every)
    # A better start changes nothing. If the end is better, it is not flat.
    start = [(number, accuracy + shift * (number <= every * len(values) / 2)) for number, accuracy in points]
    assert is_flat(start) == is_flat(points)
    end = [(n, 1.0 if n > every * len(values) * 5 / 6 else accuracy) for n, accuracy in points]
    assert not is_flat(end)
    constant = [(number, 0.5) for number, _ in points]
    assert is_flat(constant)


def test_late_mean_by_hand() -> None:
    assert late_mean(curve(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)) == 0.6
    assert late_mean(curve(*np.arange(12) / 10)) == pytest.approx((1.0 + 1.1) / 2)
    # 5/6 of 70 is 58.3.
    assert late_mean(curve(0, 0, 0, 0, 0, 0.5, 0.9)) == pytest.approx(0.7)
    assert late_mean(curve(0.3)) == 0.3


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 50))
def test_the_rule_is_asked_from_half_the_ceiling_on(points: int, every: int) -> None:
    most = points * every
    checks = check_points(most, every)
    assert checks == sorted(set(checks)) and 1 <= len(checks) <= 4
    assert checks[-1] == most and all(number % every == 0 for number in checks)
    assert checks[0] >= every and abs(checks[0] - most / 2) <= max(every / 2, every - most / 2)


@pytest.mark.parametrize("name", DESIGNS)
def test_recorded_designs_end_at_their_ceiling_and_never_before_half_of_it(name: str) -> None:
    design = DESIGNS[name]
    lengths = [(design.most_rounds, design.every)]
    if design.centralized_rates:
        lengths.append((design.most_steps, design.every_step))
    for most, every in lengths:
        checks = check_points(most, every)
        assert len(checks) == 4 and checks[0] >= most / 2 and checks[-1] == most


class FakePath:
    """Snapshots whose parameters are an accuracy; keeps how far it was asked."""

    def __init__(self, accuracies: list[float], every: int) -> None:
        self.accuracies, self.every, self.asked = accuracies, every, 0

    def __iter__(self) -> Iterator[Snapshot]:
        for i, accuracy in enumerate(self.accuracies):
            self.asked = self.every * (i + 1)
            if math.isnan(accuracy):
                raise TrainingDivergedError("on purpose")
            yield Snapshot(self.asked, cast(Any, accuracy))


RISING = [i / 20 for i in range(1, 13)]


@pytest.mark.parametrize(
    ("one", "other", "last", "ended"),
    [
        # The ceiling is 24, so it is asked at 12, 16, 20 (0.8 · 24 = 19.2) and 24.
        ([0.5] * 12, [0.7] * 12, 12, "flat"),
        (RISING, RISING, 24, "ceiling"),
        # The mean of both counts: one that still rises is not outweighed by one that is flat.
        (RISING, [0.5] * 12, 24, "ceiling"),
        (RISING, RISING[::-1], 12, "flat"),
        # Flat from the fifth point on: of 16, (8, 10.7] is compared with (13.3, 16], 5 with 7 and 8.
        ([*RISING[:4], *[0.3] * 8], [*RISING[:4], *[0.3] * 8], 16, "flat"),
        # From the sixth on: of 20 it is point 6 and points 9, 10.
        ([*RISING[:5], *[0.3] * 7], [*RISING[:5], *[0.3] * 7], 20, "flat"),
        # Flat only at the ceiling, which is flat all the same.
        ([*RISING[:6], *[0.4] * 6], [*RISING[:6], *[0.4] * 6], 24, "flat"),
        ([*RISING[:7], *[0.4] * 5], [*RISING[:7], *[0.4] * 5], 24, "ceiling"),
    ],
)
def test_training_ends_at_the_first_check_that_is_flat(
    one: list[float], other: list[float], last: int, ended: str
) -> None:
    paths = [FakePath(one, 2), FakePath(other, 2)]
    curve, snapshots, why = train_until_flat([iter(p) for p in paths], lambda p: cast(Any, p), 24, 2)
    assert (curve[-1][0], why) == (last, ended)
    assert [number for number, _ in curve] == list(range(2, last + 1, 2))
    means = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    assert [accuracy for _, accuracy in curve] == pytest.approx(means[: last // 2])
    assert [(s.round_number, s.params) for s in snapshots] == [
        (last, one[last // 2 - 1]),
        (last, other[last // 2 - 1]),
    ]
    assert [p.asked for p in paths] == [last, last], "nothing is trained in vain"


def test_a_replicate_that_diverges_ends_the_trial() -> None:
    paths = [iter(FakePath([0.5] * 12, 2)), iter(FakePath([0.5, 0.5, math.nan, *[0.5] * 9], 2))]
    with pytest.raises(TrainingDivergedError, match="on purpose"):
        train_until_flat(paths, lambda p: cast(Any, p), 24, 2)


# The stages -----------------------------------------------------------------------------------------------


@pytest.fixture
def fold(monkeypatch: pytest.MonkeyPatch) -> Fold:
    use_clients(monkeypatch, toy_clients())
    return Fold.of(DESIGN, 1)


def test_the_clients_of_a_fold(fold: Fold) -> None:
    train, validation, held_out = groups(toy_clients(), 1)
    assert fold.train.client_ids == train.client_ids and len(train) == 12
    assert fold.validation.client_ids == validation.client_ids and len(validation) == 4
    assert fold.held_out.client_ids == held_out.client_ids and len(held_out) == 8
    assert fold.pool.train_counts.tolist() == [train.train_counts.sum()]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("update", UPDATES)
def test_an_arm_of_the_second_stage_is_its_update_and_its_server(
    fold: Fold, update: Update, server: Server
) -> None:
    stage = fold.second_stage(update, server, 0.25, 0.07)
    optimizer = Adam(0.25) if server == "Adam" else SGD(0.25, momentum=0.9)
    if update == "FedAvg":
        expected = fedavg(3, client=SGD(0.07), server=optimizer, batch_size=20)
        assert stage.algorithm.weights == "examples"
    else:
        # The 12 clients have 1, 2 or 3 batches of 20.
        batches = sum(math.ceil(count / 20) for count in fold.train.train_counts) / 12
        expected = reptile(round(3 * batches), client=SGD(0.07), server=optimizer, batch_size=20)
        assert stage.algorithm.weights == "equal"
    assert stage.algorithm == expected
    assert (stage.rounds, stage.clients_per_round) == (2, 3)


def test_the_stages_of_the_other_arms(fold: Fold) -> None:
    stages = [
        (fold.fedavg_stage(0.07, 5), fedavg(3, client=SGD(0.07), server=SGD(1.0, momentum=0.9))),
        (fold.fedsgd_stage(0.01, 0.07, 5), fedsgd(client=SGD(0.07), server=Adam(0.01))),
        (
            fold.small_e_stage(0.3, 0.07, 5),
            fedavg(1, client=SGD(0.07), server=SGD(0.3, momentum=0.9)),
        ),
    ]
    for stage, algorithm in stages:
        assert stage.algorithm == algorithm and algorithm.batch_size == 20
        assert (stage.rounds, stage.clients_per_round) == (5, 3)
    for arm in CENTRALIZED:
        server = Adam(0.01) if arm == CENTRALIZED_ADAM else SGD(0.01, momentum=0.9)
        stage = fold.centralized_stage(arm, 0.01, 7)
        # The client's rate is 1, so that the rate is the server's alone.
        assert stage.algorithm == fedsgd(client=SGD(1.0), server=server, batch_size=30)
        assert (stage.rounds, stage.clients_per_round) == (7, 1)


# Gradients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", [40, 50])
def test_as_many_rounds_of_the_second_stage_are_as_many_gradients(
    monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    # All clients have as many batches as their mean, 2 or 3, so that no rounding is needed.
    use_clients(monkeypatch, toy_clients([examples]))
    fold = Fold.of(DESIGN, 0)
    for update in UPDATES:
        for server in SERVERS:
            stage = fold.second_stage(update, server, 0.1, 0.05)
            (end,) = path(fold.model, fold.train, stage, 4, [stage.rounds])
            # 2 rounds of 3 clients, 3 epochs.
            assert end.local_gradients == 2 * 3 * 3 * math.ceil(examples / 20)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 20))
def test_reptile_takes_as_many_steps_as_fedavg_up_to_rounding(sizes: list[int], epochs: int) -> None:
    train: Any = SimpleNamespace(train_counts=np.array(sizes))
    fold = Fold(replace(DESIGN, local_epochs=epochs), train, train, train, cast(Any, None))
    steps = fold.second_stage("Reptile", "Adam", 0.1, 0.1).algorithm.steps
    assert steps is not None and steps >= epochs
    wanted = epochs * sum(math.ceil(size / 20) for size in sizes) / len(sizes)
    assert abs(steps - wanted) <= 0.5 + 1e-9
