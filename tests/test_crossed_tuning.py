"""Tuning of the crossed design: what is tried, what is chosen, and what may influence it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_crossed import DESIGN, flipped, groups, tiny, toy_clients, use_clients

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import fedavg
from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import personalize
from fl_meta.evidence.crossed_rules import MOST_REPLICATES
from fl_meta.experiments import crossed_tuning
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED,
    CENTRALIZED_ADAM,
    CENTRALIZED_LARGER,
    CENTRALIZED_SGD,
    CENTRALIZED_SMALLER,
    CONTINUED,
    FEDAVG,
    FEDSGD,
    REPTILE,
    SMALL_E,
    Choice,
    Design,
    cell_seed,
)
from fl_meta.experiments.crossed_training import Fold
from fl_meta.experiments.crossed_tuning import Trial, Tuning, tune
from fl_meta.experiments.outcomes import TuningOutcome
from fl_meta.models.parameters import Params
from fl_meta.training.rounds import TrainingDivergedError
from fl_meta.training.run import train

SMALLER, ADAM = "FedAvg, SGD, smaller rate", "FedAvg, Adam"
REPTILE_AS_BEFORE, REPTILE_SMALLER = "Reptile, SGD as before", "Reptile, SGD, smaller rate"
SECOND_STAGE = (CONTINUED, SMALLER, ADAM, REPTILE_AS_BEFORE, REPTILE_SMALLER, REPTILE)
# Few trainings, where a test is about a real one.
SMALL = replace(
    DESIGN,
    most_rounds=4,
    second_stage_rounds=1,
    smaller_rates=(0.3,),
    adam_rates=(0.01,),
    small_e_rates=(1.0,),
    centralized_rates=(0.1,),
    centralized_adam_rates=(0.01,),
    most_steps=4,
    personalization_rates=(0.1,),
)

# What is tried, with training that is made up ---------------------------------------------------------------


def arm_of(stage: Stage) -> str:
    """The arm that a stage is of; the smaller rates of centralized SGD count as centralized SGD."""
    algorithm, server = stage.algorithm, stage.algorithm.server
    if stage.clients_per_round == 1:
        return CENTRALIZED_ADAM if isinstance(server, Adam) else CENTRALIZED_SGD
    if algorithm.name == "FedSGD":
        return FEDSGD
    if stage.rounds != DESIGN.second_stage_rounds:
        return SMALL_E if algorithm.name == "FedAvg(E=1)" else FEDAVG
    update = algorithm.name.split("(")[0]
    if isinstance(server, Adam):
        return f"{update}, Adam"
    return f"{update}, SGD as before" if server.learning_rate == 1 else f"{update}, SGD, smaller rate"


class MadeUp:
    """Training without training: an arm is the better the nearer its rate is to its best one.

    From `diverges` on it diverges.
    """

    def __init__(
        self,
        best: dict[str, float] | None = None,
        best_personalization: dict[str, float] | None = None,
        diverges: dict[str, float] | None = None,
    ) -> None:
        self.best, self.best_personalization = best or {}, best_personalization or {}
        self.diverges = diverges or {}
        self.personalized: list[tuple[str, float]] = []

    def trial(self, arm: str, rate: float, ended: Any, rounds: int) -> Trial:
        if rate >= self.diverges.get(arm, math.inf):
            return Trial(rate, 0.0)
        quality = 0.8 - 0.1 * abs(math.log(rate / self.best.get(arm, rate)))
        curve = [(rounds, quality)] if rounds else []
        snapshots: Any = [arm]
        return Trial(rate, quality, ended, curve, snapshots)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        def until_flat(tuning: Tuning, stage: Stage, data: Any, rate: float, most: int, *rest: Any) -> Trial:
            arm = arm_of(stage)
            # FedAvg ends half-way, the others at the ceiling.
            return self.trial(arm, rate, *(("flat", most // 2) if arm == FEDAVG else ("ceiling", most)))

        def second_stage(tuning: Tuning, stage: Stage, start: Trial, rate: float) -> Trial:
            assert start.snapshots == [FEDAVG]
            return self.trial(arm_of(stage), rate, "fixed", 0)

        def mean(tuning: Tuning, snapshots: Sequence[Any], rate: float) -> float:
            (arm,) = snapshots
            self.personalized.append((arm, rate))
            return 0.9 - 0.1 * abs(math.log(rate / self.best_personalization.get(arm, rate)))

        patch.setattr(Tuning, "_until_flat", until_flat)
        patch.setattr(Tuning, "_second_stage", second_stage)
        patch.setattr(Tuning, "_mean", mean)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> FederatedDataset:
    data = toy_clients()
    use_clients(monkeypatch, data)
    return data


def made_up(patch: pytest.MonkeyPatch, design: Design = DESIGN, **options: Any) -> TuningOutcome:
    MadeUp(**options).install(patch)
    return tune(design, 0)


def chosen(outcome: TuningOutcome, arm: str) -> Choice:
    (choice,) = [choice for choice in outcome.choices if choice.arm == arm]
    return choice


def rates(outcome: TuningOutcome, arm: str) -> list[float]:
    return [tried.rate for tried in outcome.search[arm]]


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (0.1, [0.03, 0.1, 0.3]),
        # 0.3 · 0.3 / 0.1 = 0.9 and 0.9 · 0.9 / 0.3 = 2.7; downwards likewise.
        (0.3, [0.03, 0.1, 0.3, 0.9]),
        (0.9, [0.03, 0.1, 0.3, 0.9, 2.7]),
        (1e9, [0.03, 0.1, 0.3, 0.9, 2.7]),
        (0.03, [0.03, 0.1, 0.3, 0.009]),
        (1e-9, [0.03, 0.1, 0.3, 0.009, 0.0027]),
    ],
)
def test_a_grid_is_extended_while_its_end_is_the_best_at_most_twice(
    toy: FederatedDataset, monkeypatch: pytest.MonkeyPatch, best: float, tried: list[float]
) -> None:
    grid = (0.03, 0.1, 0.3)
    arms = {FEDAVG: "client_rates", ADAM: "adam_rates", SMALL_E: "small_e_rates"}
    arms |= {CENTRALIZED_SGD: "centralized_rates", CENTRALIZED_ADAM: "centralized_adam_rates"}
    design = replace(DESIGN, **dict.fromkeys(arms.values(), grid))
    outcome = made_up(monkeypatch, design, best=dict.fromkeys(arms, best))
    for arm in arms:
        assert rates(outcome, arm) == pytest.approx(tried)
        nearest = min(tried, key=lambda rate: abs(math.log(rate / best)))
        assert chosen(outcome, arm).rate == pytest.approx(nearest)


@pytest.mark.parametrize(
    ("grid", "tried"),
    [
        ((0.03, 0.1, 0.3), [0.03, 0.1, 0.3, 0.9]),
        # The next would be the rate as before.
        ((0.25, 0.5), [0.25, 0.5]),
        ((0.1, 0.2), [0.1, 0.2, 0.4, 0.8]),
    ],
)
def test_a_smaller_rate_stays_below_the_rate_as_before(
    toy: FederatedDataset, monkeypatch: pytest.MonkeyPatch, grid: tuple[float, ...], tried: list[float]
) -> None:
    design = replace(DESIGN, smaller_rates=grid)
    outcome = made_up(monkeypatch, design, best={SMALLER: 100.0, REPTILE_SMALLER: 100.0})
    for arm in (SMALLER, REPTILE_SMALLER):
        assert rates(outcome, arm) == pytest.approx(tried)
        assert chosen(outcome, arm).rate == pytest.approx(tried[-1])


def test_a_grid_of_one_is_not_extended(toy: FederatedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    design = replace(DESIGN, adam_rates=(0.01,), personalization_rates=(0.1,))
    outcome = made_up(monkeypatch, design, best={ADAM: 1.0}, best_personalization={ADAM: 3.0})
    assert rates(outcome, ADAM) == [0.01] and chosen(outcome, ADAM).personalization_rate == 0.1


@pytest.mark.parametrize(
    ("best", "chosen_rate", "tried"),
    [
        (0.1, 0.1, {0.03, 0.1, 0.3}),
        (0.3, 0.3, {0.03, 0.1, 0.3, 0.9}),
        (50.0, 2.7, {0.03, 0.1, 0.3, 0.9, 2.7}),
        (0.001, 0.0027, {0.03, 0.1, 0.3, 0.009, 0.0027}),
    ],
)
def test_every_arm_has_the_personalization_rate_that_suits_it(
    toy: FederatedDataset,
    monkeypatch: pytest.MonkeyPatch,
    best: float,
    chosen_rate: float,
    tried: set[float],
) -> None:
    training = MadeUp(best_personalization={REPTILE: best, FEDAVG: 0.1, CONTINUED: 0.03})
    training.install(monkeypatch)
    outcome = tune(replace(DESIGN, personalization_rates=(0.03, 0.1, 0.3)), 0)
    assert chosen(outcome, REPTILE).personalization_rate == chosen_rate
    assert chosen(outcome, FEDAVG).personalization_rate == 0.1
    assert chosen(outcome, CONTINUED).personalization_rate == 0.03
    assert {rate for arm, rate in training.personalized if arm == REPTILE} == tried


def test_both_updates_have_the_same_budget(toy: FederatedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = made_up(monkeypatch, best=dict.fromkeys(SECOND_STAGE, 0.2))
    for one, other in zip(SECOND_STAGE[:3], SECOND_STAGE[3:], strict=True):
        assert rates(outcome, one) == rates(outcome, other)
        assert chosen(outcome, one).rounds == chosen(outcome, other).rounds == DESIGN.second_stage_rounds
        assert chosen(outcome, one).ended == chosen(outcome, other).ended == "fixed"
    # The server as before has no rate to choose.
    assert rates(outcome, CONTINUED) == [1.0]
    # 0.2 is nearer to 0.3 than to 0.1, and 0.9 is the next; 0.01 · 0.01 / 0.003 = 0.033, and 0.11 after it.
    assert rates(outcome, SMALLER) == [0.1, 0.3, 0.9] and rates(outcome, ADAM) == [0.003, 0.01, 0.033, 0.11]


def test_choices_are_in_the_order_of_training_and_say_what_ended_them(
    toy: FederatedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = made_up(monkeypatch, best={CENTRALIZED_SGD: 0.03})
    assert [choice.arm for choice in outcome.choices] == [
        FEDAVG,
        *SECOND_STAGE,
        FEDSGD,
        SMALL_E,
        *CENTRALIZED,
    ]
    assert outcome.clients == groups(toy, 0)[1].client_ids
    ends = {choice.arm: (choice.rounds, choice.ended) for choice in outcome.choices}
    assert ends.pop(FEDAVG) == (6, "flat")
    assert ends == {
        **dict.fromkeys(SECOND_STAGE, (2, "fixed")),
        **dict.fromkeys((FEDSGD, SMALL_E), (12, "ceiling")),
        **dict.fromkeys(CENTRALIZED, (24, "ceiling")),
    }
    # Whatever has a curve ended by the rule or by the ceiling.
    assert {arm: points[-1][0] for arm, points in outcome.curves.items()} == {
        arm: rounds for arm, (rounds, ended) in {**ends, FEDAVG: (6, "flat")}.items() if ended != "fixed"
    }
    without = made_up(monkeypatch, replace(DESIGN, centralized_rates=()))
    assert not {choice.arm for choice in without.choices} & {*CENTRALIZED}
    assert not without.search.keys() & {*CENTRALIZED}


@pytest.mark.parametrize(
    ("best", "diverges", "smaller", "larger"),
    [
        (0.03, 9.0, 0.01, 0.1),
        # One neighbour is beyond the grid: 0.1 · 0.1 / 0.03 = 0.33, and 1.1 after it.
        (0.1, 9.0, 0.03, 0.33),
        (0.33, 9.0, 0.1, 1.1),
        # There is none beyond the last extension, and none that diverged.
        (99.0, 999.0, 0.33, None),
        (0.0001, 9.0, None, 0.0033),
        (0.03, 0.1, 0.01, None),
    ],
)
def test_centralized_rates_shown_beside_the_best_are_its_neighbours(
    toy: FederatedDataset,
    monkeypatch: pytest.MonkeyPatch,
    best: float,
    diverges: float,
    smaller: float | None,
    larger: float | None,
) -> None:
    outcome = made_up(monkeypatch, best={CENTRALIZED_SGD: best}, diverges={CENTRALIZED_SGD: diverges})
    found = {choice.arm: choice.rate for choice in outcome.choices}
    assert found.get(CENTRALIZED_SMALLER) == smaller and found.get(CENTRALIZED_LARGER) == larger


def test_rates_that_diverge_score_nothing_and_stop_nothing(
    toy: FederatedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The best one would diverge: the largest that does not is at no end.
    outcome = made_up(
        monkeypatch,
        replace(DESIGN, client_rates=(0.03, 0.1, 0.3)),
        best={FEDAVG: 1.0},
        diverges={FEDAVG: 0.2},
    )
    assert [tried.validation > 0 for tried in outcome.search[FEDAVG]] == [True, True, False]
    assert outcome.search[FEDAVG][2].rounds == 0 and chosen(outcome, FEDAVG).rate == 0.1
    # The whole grid diverges, and what it is extended by does not.
    outcome = made_up(monkeypatch, best={ADAM: 0.001}, diverges={ADAM: 0.001})
    assert rates(outcome, ADAM) == [0.003, 0.01, 0.0009, 0.00027] and chosen(outcome, ADAM).rate == 0.0009
    with pytest.raises(
        TrainingDivergedError, match=r"Reptile, Adam: training diverged with each of \[0.0009"
    ):
        made_up(monkeypatch, diverges={REPTILE: 1e-9})


# Real training --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds_used() -> set[int]:
    """The seeds with which `result` trained and personalized."""
    return set()


@pytest.fixture(scope="module")
def result(seeds_used: set[int]) -> TuningOutcome:
    """The tuning of fold 2, which many tests look at."""
    original_path, original_both = crossed_tuning.path, Fold.both

    def path(*arguments: Any) -> Any:
        seeds_used.add(arguments[3])
        return original_path(*arguments)

    def both(fold: Fold, params: Params, data: FederatedDataset, rate: float, seed: int) -> Any:
        seeds_used.add(seed)
        assert data.client_ids == fold.validation.client_ids
        return original_both(fold, params, data, rate, seed)

    with pytest.MonkeyPatch.context() as patch:
        use_clients(patch, toy_clients())
        patch.setattr(crossed_tuning, "path", path)
        patch.setattr(Fold, "both", both)
        return tune(SMALL, 2)


def test_tuning_has_seeds_that_no_cell_has(result: TuningOutcome, seeds_used: set[int]) -> None:
    # Two replicates for each fold, of which this is the third.
    assert seeds_used == {1_000_004, 1_000_005}
    most = 100 * MOST_REPLICATES
    cells = {cell_seed(SMALL, fold, replicate) for fold in range(3) for replicate in range(most)}
    assert not seeds_used & cells


def test_what_counts_is_the_accuracy_of_the_validation_clients(
    result: TuningOutcome,
) -> None:
    training, validation, _ = groups(toy_clients(), 2)
    model, seeds = tiny(training), (1_000_004, 1_000_005)

    def averaging(rate: float, rounds: int) -> Stage:
        algorithm = fedavg(3, client=SGD(rate), server=SGD(1.0, momentum=0.9), batch_size=20)
        return Stage(algorithm, rounds, 3)

    def mean(stages: list[Stage], rate: float, epochs: int) -> float:
        """Over replicates and validation clients."""
        values = []
        for seed in seeds:
            run = train(model, training, stages, seed=seed, progress=False)
            client = SGD(rate)
            table = personalize(model, run.params, validation, epochs=epochs, client=client, seed=seed)
            values.append(table.accuracies()[epochs].mean())
        return float(np.mean(values))

    # FedAvg by initial accuracy; the last sixth of at most four rounds is the last round.
    first = chosen(result, FEDAVG)
    for tried in result.search[FEDAVG]:
        assert tried.validation == pytest.approx(
            mean([averaging(tried.rate, tried.rounds)], 1.0, 0), abs=1e-5
        )
    assert first.rate == max(result.search[FEDAVG], key=lambda tried: tried.validation).rate
    # The second stage by personalized accuracy with the client rate of training, after a fresh server.
    stages = [averaging(first.rate, first.rounds), averaging(first.rate, 1)]
    (tried,) = result.search[CONTINUED]
    assert tried.validation == pytest.approx(mean(stages, first.rate, 2), abs=1e-5)


def test_held_out_clients_and_test_parts_of_others_influence_no_choice(
    result: TuningOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_clients()
    training, validation, held_out = groups(data, 2)
    other = flipped(data, held_out.client_ids, train=True, test=True)
    use_clients(monkeypatch, flipped(other, training.client_ids, test=True))
    assert tune(SMALL, 2) == result
    # While those who validate decide.
    use_clients(monkeypatch, flipped(data, validation.client_ids, test=True))
    opposite = tune(SMALL, 2)
    for arm, tried in result.search.items():
        both = zip(tried, opposite.search[arm], strict=False)
        same_rate = [(a.validation, b.validation) for a, b in both if a.rate == b.rate]
        assert arm != FEDAVG or same_rate[0][0] == pytest.approx(1 - same_rate[0][1], abs=0.3)
        assert all(a != b for a, b in same_rate)


def test_rates_that_really_diverge(toy: FederatedDataset) -> None:
    # A client that is too fast diverges at once, a server in the round after its first step.
    small = replace(SMALL, most_rounds=2, second_stage_rounds=2, centralized_rates=(), tuning_replicates=1)
    outcome = tune(replace(small, client_rates=(0.05, 1e30), adam_rates=(0.01, 1e37)), 0)
    for arm, rate in ((FEDAVG, 1e30), (ADAM, 1e37), (REPTILE, 1e37), (FEDSGD, 1e37)):
        assert {tried.rate for tried in outcome.search[arm] if tried.validation == 0} == {rate}
        assert chosen(outcome, arm).rate < rate
    with pytest.raises(TrainingDivergedError, match=r"FedAvg: training diverged with each of \[1e\+30\]"):
        tune(replace(small, client_rates=(1e30,)), 0)
