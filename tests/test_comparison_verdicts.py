"""Verdicts on claims 2 and 3, from results made by hand whose effects are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_results import header_of, rows, trained_model

from fl_meta.evidence import comparison_verdicts as claims
from fl_meta.evidence.comparison_verdicts import (
    CENTRALIZED,
    CONTRASTS,
    Contrast,
    centralized,
    client_differences,
    decide_comparison,
    decide_recorded,
    in_points,
    not_run,
    verdict_of,
)
from fl_meta.evidence.result_types import ComparisonResult
from fl_meta.evidence.statistics import sign_flip_p
from fl_meta.evidence.verdicts import Verdict
from fl_meta.experiments.comparison_settings import (
    CONTINUED,
    CONTINUED_GRADIENTS,
    FEDSGD,
    HANDWRITING,
    REPTILE,
    SMALL_E,
)
from fl_meta.experiments.outcomes import TrainedModel

Accuracy = dict[str, tuple[float, float]]

SGD, ADAM = CENTRALIZED
CLIENTS, SEEDS = 20, 3
# As the paper has it. Initial and personalized; of two matched models the initial ones are equal.
AS_THE_PAPER: Accuracy = {
    "FedAvg": (0.60, 0.70),
    REPTILE: (0.66, 0.80),
    CONTINUED: (0.62, 0.72),
    CONTINUED_GRADIENTS: (0.63, 0.73),
    FEDSGD: (0.64, 0.69),
    SMALL_E: (0.65, 0.71),
    SGD: (0.61, 0.64),
    ADAM: (0.59, 0.62),
    f"{SGD}, matched": (0.58, 0.60),
    f"{ADAM}, matched": (0.58, 0.61),
    f"FedAvg, matched to {SGD}": (0.58, 0.68),
    f"FedAvg, matched to {ADAM}": (0.57, 0.65),
}
# In points, by subtraction: SGD is better on the validation clients.
EFFECTS = {
    "2a-initial": 4.0,
    "2a-personalized": 8.0,
    "2a-gradients-initial": 3.0,
    "2a-gradients-personalized": 7.0,
    "2b-FedSGD": 11.0,
    "2b-small-E": 9.0,
    "3-matched": 8.0,
    "3-best": 6.0,
}


def comparison(seed: int, accuracy: Accuracy, noise: float = 0.01, better: str = SGD) -> ComparisonResult:
    """One seed; clients differ much from each other, and a little in what a model does for them.

    The noise of a model sums up to nothing over clients. `better` is the centralized optimizer that has the
    higher accuracy on the validation clients.
    """
    models = []
    for number, (name, (initial, personalized)) in enumerate(accuracy.items()):
        own = np.random.default_rng([seed, number]).normal(0, noise, (2, CLIENTS))
        own -= own.mean(1, keepdims=True)
        first, last = np.array([[initial], [personalized]]) + np.linspace(-0.2, 0.2, CLIENTS) + own
        validation = (0.3, 0.4, 0.9 if name == better else 0.5)
        models.append(trained_model(name, [first, (first + last) / 2, last], validation=validation))
    header = header_of("comparison", HANDWRITING, seed, client_ids(seed))
    return ComparisonResult(**header, models=tuple(models), courses={}, search={})


def client_ids(seed: int) -> list[str]:
    return [f"client_{seed}_{i}" for i in range(CLIENTS)]


def with_accuracies(result: ComparisonResult, accuracy: Callable[[TrainedModel], Any]) -> ComparisonResult:
    """The same result with other accuracies of its models."""
    models = tuple(replace(model, accuracy=rows(accuracy(model))) for model in result.models)
    return replace(result, models=models)


def comparisons(accuracy: Accuracy, **options: Any) -> list[ComparisonResult]:
    return [comparison(seed, accuracy, **options) for seed in range(SEEDS)]


def words(verdicts: Sequence[Verdict]) -> dict[str, str]:
    return {one.claim: one.verdict for one in verdicts}


# Claims 2 and 3 -------------------------------------------------------------------------------------------


def test_every_effect_is_that_of_its_contrast() -> None:
    results = comparisons(AS_THE_PAPER)
    verdicts, table = decide_comparison(results, "laptop")
    assert words(verdicts) == dict.fromkeys(EFFECTS, "reproduced")
    assert list(table.index) == list(EFFECTS)
    for one in verdicts:
        assert one.effect == pytest.approx(EFFECTS[one.claim])
        low, high = one.interval
        assert EFFECTS[one.claim] - 1 < low < EFFECTS[one.claim] < high < EFFECTS[one.claim] + 1
        assert (one.unit, one.dataset, one.profile) == ("points", "toy (synthetic)", "laptop")
    for claim, row in table.iterrows():
        effect = EFFECTS[str(claim)] / 100
        assert [row.effect, *row.seeds] == pytest.approx([effect] * (1 + SEEDS))
        assert row.low < effect < row.high and row.p <= row.p_holm
        assert row.clients == SEEDS * CLIENTS
        (contrast,) = (contrast for contrast in CONTRASTS if contrast.claim == claim)
        values = np.concatenate(client_differences(results, contrast))
        assert row.spread == pytest.approx(math.sqrt(((values - effect) ** 2).mean()))
        assert row.p == sign_flip_p(values)


@pytest.mark.parametrize("contrast", CONTRASTS, ids=lambda contrast: contrast.claim)
def test_equal_models_are_never_told_apart(contrast: Contrast) -> None:
    better, worse = (name.format(SGD) for name in (contrast.better, contrast.worse))
    equal = AS_THE_PAPER | {worse: AS_THE_PAPER[better]}
    # Not even the noise differs.
    results = comparisons(equal, noise=0.0)
    verdicts, table = decide_comparison(results, "laptop")
    assert words(verdicts)[contrast.claim] == "undecided"
    row = table.loc[contrast.claim]
    assert row.effect == pytest.approx(0, abs=1e-12) and row.p == row.p_holm == 1


def test_one_deviating_seed_is_allowed_and_two_are_not() -> None:
    # Personalized: Reptile is worse by 8 points in the odd seeds, and better by 28 elsewhere.
    up = AS_THE_PAPER | {REPTILE: (0.66, 1.00)}
    down = AS_THE_PAPER | {REPTILE: AS_THE_PAPER[CONTINUED], CONTINUED: AS_THE_PAPER[REPTILE]}
    for deviating, verdict in ((0, "reproduced"), (1, "reproduced"), (2, "undecided")):
        results = [comparison(seed, down if seed < deviating else up) for seed in range(6)]
        decided, table = decide_comparison(results, "laptop")
        assert table.loc["2a-personalized"].low > 0 and table.loc["2a-personalized"].p_holm < 0.05
        assert words(decided)["2a-personalized"] == verdict


def test_among_eight_tests_an_effect_must_be_surer_than_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # All methods are alike but for noise, and Reptile is better by about 2.4 standard errors, in every seed.
    results = []
    for seed in range(SEEDS):
        alike = comparison(seed, dict.fromkeys(AS_THE_PAPER, (0.5, 0.5)), noise=0.0)
        generator = np.random.default_rng(seed)
        own = generator.normal(0, 1, CLIENTS)
        own = (own - own.mean()) / own.std() * 0.1
        own += 2.4 * 0.1 / math.sqrt(SEEDS * CLIENTS)
        lead = np.array([own, np.zeros(CLIENTS), np.zeros(CLIENTS)])
        results.append(
            with_accuracies(alike, lambda model, lead=lead: model.accuracy + lead * (model.name == REPTILE))
        )
    decided, table = decide_comparison(results, "laptop")
    row = table.loc["2a-initial"]
    assert row.low > 0 and row.p < 0.05 < row.p_holm
    # Six of eight tests have p = 1, and two are about Reptile's initial accuracy.
    assert row.p_holm == pytest.approx(8 * row.p)
    assert words(decided)["2a-initial"] == "direction only"
    monkeypatch.setattr(claims, "CONTRASTS", CONTRASTS[:1])
    assert words(decide_comparison(results, "laptop")[0]) == {"2a-initial": "reproduced"}


def test_the_centralized_optimizer_is_chosen_by_validation_not_by_held_out_accuracy() -> None:
    both = [comparison(0, AS_THE_PAPER, better=SGD), comparison(1, AS_THE_PAPER, better=ADAM)]
    assert decide_comparison(both, "laptop")[1].loc["3-best"].seeds == pytest.approx([0.06, 0.08])
    for better, worse in ((SGD, ADAM), (ADAM, SGD)):
        # The held-out clients say the opposite.
        accuracy = AS_THE_PAPER | {worse: (0.9, 0.99), f"{worse}, matched": (0.5, 0.99)}
        results = comparisons(accuracy, better=better)
        assert {centralized(result) for result in results} == {better}
        table = decide_comparison(results, "laptop")[1]
        assert table.loc["3-best"].effect == pytest.approx(0.70 - AS_THE_PAPER[better][1])
        federated, matched = AS_THE_PAPER[f"FedAvg, matched to {better}"], AS_THE_PAPER[f"{better}, matched"]
        gain = (federated[1] - federated[0]) - (matched[1] - matched[0])
        assert table.loc["3-matched"].effect == pytest.approx(gain)


@pytest.mark.parametrize("apart, expected", [(0.02, "reproduced"), (-0.05, "undecided"), (0.06, "undecided")])
def test_a_match_that_does_not_hold_when_held_out_decides_nothing(apart: float, expected: str) -> None:
    name = f"FedAvg, matched to {SGD}"
    initial, _ = AS_THE_PAPER[f"{SGD}, matched"]
    # The effect on the gain is 8 points, whatever the start.
    moved = AS_THE_PAPER | {name: (initial + apart, initial + apart + 0.10)}
    verdicts, table = decide_comparison(comparisons(moved, better=SGD), "laptop")
    assert table.loc["3-matched"].effect == pytest.approx(0.08)
    assert table.loc["3-matched"].apart == pytest.approx(apart)
    assert table.apart.drop("3-matched").isna().all()
    assert words(verdicts)["3-matched"] == expected


def test_recorded_results_are_judged_by_name_and_the_missing_ones_are_not_run() -> None:
    config = replace(HANDWRITING, setting=replace(HANDWRITING.setting, model="small_cnn"))
    small = [replace(result, config=config) for result in comparisons(AS_THE_PAPER)]
    recorded = {"usual": comparisons(AS_THE_PAPER), "other": small, "missing": []}
    verdicts, tables = decide_recorded(recorded, "2a")
    label = recorded["usual"][0].label
    assert [one.dataset for one in verdicts] == [label] * 4 + [f"{label}, small_cnn"] * 4 + ["missing"] * 4
    assert {one.profile for one in verdicts} == {"recorded"}
    assert all((one.verdict == "not run") == (one.dataset == "missing") for one in verdicts)
    assert list(tables) == [f"{label}, recorded", f"{label}, small_cnn, recorded"]
    for table in tables.values():
        assert list(table.index) == [one.claim for one in verdicts[:4]]
    both, _ = decide_recorded({"missing": []}, ("2", "3"))
    assert {one.claim for one in both} == {contrast.claim for contrast in CONTRASTS}


def test_effects_are_shown_in_points() -> None:
    table = decide_comparison(comparisons(AS_THE_PAPER), "laptop")[1]
    shown = in_points(table)
    assert shown.loc["3-best", "effect"] == pytest.approx(100 * table.loc["3-best", "effect"], abs=0.005)
    assert shown.loc["3-best", "seeds"] == pytest.approx([100 * s for s in table.loc["3-best", "seeds"]])
    assert shown.loc["3-best", "p_holm"] == pytest.approx(table.loc["3-best", "p_holm"], abs=0.0005)
    # How far starts are apart is known only where gains are compared.
    assert "apart" in shown and "apart" not in in_points(table.loc[["2a-initial"]])


def test_differences_are_of_the_same_client() -> None:
    (difference,) = client_differences([comparison(0, AS_THE_PAPER, noise=0.0)], CONTRASTS[0])
    # Clients differ by up to 0.4; within one client all is equal but the method.
    assert difference == pytest.approx(np.full(CLIENTS, 0.04))


def test_measures_by_hand() -> None:
    model = trained_model("a model", ((0.1, 0.5), (0.9, 0.9), (0.3, 0.4)))
    assert model.accuracy_of("initial").tolist() == [0.1, 0.5]
    assert model.accuracy_of("personalized").tolist() == [0.3, 0.4]
    assert model.accuracy_of("gain") == pytest.approx([0.2, -0.1])


@pytest.mark.parametrize("name", [REPTILE, ADAM, f"FedAvg, matched to {SGD}"])
def test_a_model_that_is_missing_is_named(name: str) -> None:
    results = comparisons({k: v for k, v in AS_THE_PAPER.items() if k != name})
    with pytest.raises(KeyError, match=f"no model '{name}'; there are FedAvg, "):
        decide_comparison(results, "laptop")


def test_claims_have_names_and_statements_of_their_own() -> None:
    assert len({contrast.claim for contrast in CONTRASTS}) == len(CONTRASTS) == 8
    assert len({contrast.statement for contrast in CONTRASTS}) == len(CONTRASTS)


# The rule -------------------------------------------------------------------------------------------------

UP, AROUND, DOWN = (0.01, 0.03), (-0.01, 0.03), (-0.03, -0.01)


@pytest.mark.parametrize(
    ("effect", "interval", "p", "seeds", "verdict"),
    [
        (0.02, UP, 0.01, [0.02, 0.02, 0.02], "reproduced"),
        (0.02, UP, 0.01, [0.05, 0.02, -0.01], "reproduced"),
        (0.02, UP, 0.01, [0.08, -0.01, -0.01], "undecided"),
        (0.02, UP, 0.05, [0.02, 0.02, 0.02], "direction only"),
        (0.02, UP, 0.05, [0.05, 0.02, -0.01], "undecided"),
        (0.02, AROUND, 0.01, [0.02, 0.02, 0.02], "direction only"),
        (0.02, (0.0, 0.03), 0.01, [0.02, 0.02, 0.02], "direction only"),
        (0.02, AROUND, 0.5, [0.02, 0.02, 0.0], "undecided"),
        (-0.02, DOWN, 0.01, [-0.02, -0.02, -0.02], "not reproduced"),
        (-0.02, DOWN, 0.01, [-0.05, -0.02, 0.01], "not reproduced"),
        (-0.02, DOWN, 0.01, [-0.08, 0.01, 0.01], "undecided"),
        (-0.02, DOWN, 0.05, [-0.02, -0.02, -0.02], "undecided"),
        (-0.02, (-0.03, 0.0), 0.01, [-0.02, -0.02, -0.02], "undecided"),
        (0.0, (-0.01, 0.01), 1.0, [0.0, 0.0, 0.0], "undecided"),
        # A single seed must agree: none may differ then.
        (0.02, UP, 0.01, [0.02], "reproduced"),
        (0.02, UP, 0.01, [-0.02], "undecided"),
        (0.02, UP, 0.01, [0.05, -0.01], "reproduced"),
        (0.02, (math.nan, math.nan), 0.01, [0.02], "direction only"),
    ],
)
def test_the_rule_by_hand(
    effect: float, interval: tuple[float, float], p: float, seeds: list[float], verdict: str
) -> None:
    assert verdict_of(effect, interval, p, seeds) == verdict


EFFECT = st.floats(-1, 1)


@given(EFFECT, EFFECT, st.floats(0, 1), st.lists(EFFECT, min_size=1, max_size=6))
def test_the_rule_is_fair(one: float, other: float, p: float, seeds: list[float]) -> None:
    low, high = sorted((one, other))
    effect = (low + high) / 2
    found = verdict_of(effect, (low, high), p, seeds)
    against = verdict_of(-effect, (-high, -low), p, [-seed for seed in seeds])
    # What would reproduce the claim refutes its contrary, by the same standard.
    assert (found == "reproduced") == (against == "not reproduced")
    assert (found == "not reproduced") == (against == "reproduced")
    if p >= 0.05 or low <= 0 <= high:
        assert found in ("direction only", "undecided")
    if found == "direction only":
        assert min(seeds) > 0


def test_what_was_not_run_says_so() -> None:
    assert set(words(not_run("2a", "toy", "smoke"))) == {c.claim for c in CONTRASTS if "2a" in c.claim}
    everything = not_run("", "toy", "smoke")
    assert set(words(everything)) == {c.claim for c in CONTRASTS}
    for one in everything:
        assert (one.verdict, one.dataset, one.profile) == ("not run", "toy", "smoke")
        assert math.isnan(one.effect) and all(map(math.isnan, one.interval)) and one.statement
    assert not_run("9", "toy", "smoke") == []
