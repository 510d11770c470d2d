"""The mean over clients and training runs: numbers by hand, oracles, and how often its interval is right."""

import math
from typing import Any

import coverage_simulation as simulation
import numpy as np
import pytest
from coverage_simulation import Design, coverage
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fl_meta.evidence.crossed_statistics import AGREEMENT, DIFFERENCE, CrossedEffect, crossed_mean

SEEDS = st.integers(0, 10_000)
SIZES = st.lists(st.integers(2, 9), min_size=1, max_size=4)
BY_HAND = [[[1, 2, 3], [2, 2, 5], [0, 2, 4]]]


def drawn(seed: int, sizes: list[int], replicates: int = 4, **parts: Any) -> list[np.ndarray]:
    return Design(tuple(sizes), replicates, **parts).draw(np.random.default_rng(seed))


def numbers(effect: CrossedEffect) -> tuple[float, ...]:
    return tuple(float(one) for one in vars(effect).values())


# What it computes -----------------------------------------------------------------------------------------


def test_one_fold_by_hand() -> None:
    # Means of clients 1, 2, 4, of runs 2, 3, 2, of all 7/3. Variances of client means 7/3, of run means 1/3;
    # the squares of what is left sum to 2, with 4 degrees of freedom.
    effect = crossed_mean(BY_HAND)
    client, run, rest = (7 / 3) / 3, (1 / 3) / 3, (2 / 4) / 9
    assert effect.estimate == pytest.approx(7 / 3)
    assert effect.standard_error == pytest.approx(math.sqrt(client + run - rest))
    freedom = (client + run - rest) ** 2 / (client**2 / 2 + run**2 / 2 + rest**2 / 4)
    assert effect.degrees_of_freedom == pytest.approx(freedom)
    assert effect.rest_spread**2 == pytest.approx(1 / 2)
    assert effect.client_spread**2 == pytest.approx(7 / 3 - 1 / 2 / 3)
    assert effect.run_spread**2 == pytest.approx(1 / 3 - 1 / 2 / 3)
    assert effect.fold_spread == 0 and not effect.replicates_agree and not effect.folds_differ


def test_every_client_counts_the_same() -> None:
    # One fold of 2 clients with the mean 1, one of 4 with the mean 4.
    small, large = (
        np.array([[1.0, 1], [0, 2], [2, 0]]),
        np.array([[4.0, 4, 3, 5], [5, 4, 4, 3], [4, 3, 5, 4]]),
    )
    assert crossed_mean([small, large]).estimate == pytest.approx((2 * 1 + 4 * 4) / 6)


def analysis_of_variance(values: np.ndarray) -> tuple[float, float, bool, bool]:
    """Standard error, degrees of freedom and both decisions from mean squares."""
    folds, replicates, clients = values.shape  # equal folds
    mean = values.mean()
    by_fold, by_replicate = values.mean((1, 2)), values.mean((0, 2))
    by_run, by_client = values.mean(2), values.mean(1)
    free = {
        "fold": folds - 1,
        "replicate": replicates - 1,
        "both": (folds - 1) * (replicates - 1),
        "client": folds * (clients - 1),
        "rest": folds * (replicates - 1) * (clients - 1),
    }
    squares = {
        "fold": replicates * clients * ((by_fold - mean) ** 2).sum(),
        "replicate": folds * clients * ((by_replicate - mean) ** 2).sum(),
        "both": clients * ((by_run - by_fold[:, None] - by_replicate + mean) ** 2).sum(),
        "client": replicates * ((by_client - by_fold[:, None]) ** 2).sum(),
    }
    squares["rest"] = ((values - mean) ** 2).sum() - sum(squares.values())
    free["run"], squares["run"] = free["replicate"] + free["both"], squares["replicate"] + squares["both"]
    ms = {name: squares[name] / free[name] for name in squares}

    def combined(*signed: tuple[int, str]) -> tuple[float, float]:
        total = sum(sign * ms[name] for sign, name in signed)
        return total, total**2 / sum(ms[name] ** 2 / free[name] for _, name in signed)

    def inside(run: str) -> tuple[float, float]:
        run_shows = ms[run] > ms["rest"]
        return combined((1, "client"), (1, run), (-1, "rest")) if run_shows else combined((1, "client"))

    agree = stats.f.sf(ms["replicate"] / ms["both"], free["replicate"], free["both"]) < AGREEMENT
    within, freedom = inside("both" if agree else "run")
    differ = stats.f.sf(ms["fold"] / within, free["fold"], freedom) < DIFFERENCE
    if differ:
        total = combined((1, "fold"), (1, "replicate"), (-1, "both")) if agree else combined((1, "fold"))
    else:
        total = inside("replicate" if agree else "run")
    return math.sqrt(total[0] / values.size), total[1], bool(agree), bool(differ)


@pytest.mark.parametrize("fold_luck", [0.0, 3.0])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("folds", "replicates", "size"), [(3, 4, 10), (5, 3, 6), (2, 7, 20)])
def test_equal_folds_are_a_textbook_analysis_of_variance(
    folds: int, replicates: int, size: int, shared: bool, fold_luck: float
) -> None:
    seen = set()
    for seed in range(20):
        parts = {"luck": 2.0, "shared": shared, "fold_luck": fold_luck}
        values = drawn(seed, [size] * folds, replicates, **parts)
        error, freedom, agree, differ = analysis_of_variance(np.array(values))
        effect = crossed_mean(values)
        assert effect.estimate == pytest.approx(np.mean(values))
        assert (effect.replicates_agree, effect.folds_differ) == (agree, differ)
        assert effect.standard_error == pytest.approx(error)
        assert effect.degrees_of_freedom == pytest.approx(freedom)
        seen.add((agree, differ))
    assert fold_luck == 0 or {(shared, False), (shared, True)} <= seen


@pytest.mark.parametrize("replicates", [3, 8])
def test_runs_without_clients_differences_are_a_t_test_over_runs(replicates: int) -> None:
    runs = np.random.default_rng(replicates).integers(-9, 10, replicates).astype(float)
    effect = crossed_mean([np.repeat(runs[:, None], 50, axis=1)])
    oracle = stats.ttest_1samp(runs, 0)
    ends = oracle.confidence_interval(0.95)
    interval = effect.interval()
    assert (interval.low, interval.high) == pytest.approx((ends.low, ends.high))
    assert effect.p == pytest.approx(oracle.pvalue)
    assert effect.degrees_of_freedom == pytest.approx(replicates - 1)


def test_replicates_that_are_all_alike_are_a_t_test_over_clients() -> None:
    clients = np.random.default_rng(0).normal(1.0, 2.0, 40)
    effect = crossed_mean([np.tile(clients, (5, 1))])
    oracle = stats.ttest_1samp(clients, 0)
    ends = oracle.confidence_interval(0.9)
    interval = effect.interval(0.9)
    assert (interval.low, interval.high, interval.level) == pytest.approx((ends.low, ends.high, 0.9))
    assert effect.p == pytest.approx(oracle.pvalue)
    assert effect.client_spread == pytest.approx(clients.std(ddof=1))
    assert effect.run_spread == 0 and effect.rest_spread == pytest.approx(0, abs=1e-12)


def test_more_clients_do_not_outvote_the_luck_of_training() -> None:
    # Three runs, each with its own luck for all clients: as (un)certain with 10,000 clients as with 20.
    def error(clients: int) -> float:
        generator = np.random.default_rng(0)
        runs = np.array([[0.0], [3.0], [-1.5]])
        return crossed_mean([runs + generator.normal(size=(3, clients))]).standard_error

    assert error(10_000) == pytest.approx(np.std([0, 3, -1.5], ddof=1) / math.sqrt(3), rel=0.02)
    assert error(20) == pytest.approx(error(10_000), rel=0.3)


def test_spreads_are_those_that_were_drawn() -> None:
    effects = [
        crossed_mean(drawn(seed, [60, 40, 50], 6, client=2.0, rest=3.0, luck=2.0, fold_luck=1.5))
        for seed in range(400)
    ]
    unit = Design((60, 40, 50), 6, client=2.0, rest=3.0).unit

    def variance(name: str) -> float:
        return float(np.mean([getattr(effect, name) ** 2 for effect in effects]))

    assert variance("client_spread") == pytest.approx(2.0**2, rel=0.05)
    assert variance("rest_spread") == pytest.approx(3.0**2, rel=0.05)
    assert variance("run_spread") == pytest.approx((2.0 * unit) ** 2, rel=0.1)
    # Cut off at 0 where the data show less than none, so that the mean is a little larger.
    assert (1.5 * unit) ** 2 < variance("fold_spread") < 1.5 * (1.5 * unit) ** 2


# What may not matter --------------------------------------------------------------------------------------


@given(SEEDS, SIZES, st.floats(-50, 50), st.floats(0.01, 100), st.booleans())
def test_a_shift_moves_the_estimate_and_a_unit_scales_all(
    seed: int, sizes: list[int], shift: float, factor: float, flip: bool
) -> None:
    values = drawn(seed, sizes, luck=1.0)
    one = crossed_mean(values)
    factor = -factor if flip else factor
    other = crossed_mean([factor * fold + shift for fold in values])
    assert other.estimate == pytest.approx(factor * one.estimate + shift, abs=1e-9)
    assert other.degrees_of_freedom == pytest.approx(one.degrees_of_freedom)
    for name in ("standard_error", "client_spread", "run_spread", "fold_spread", "rest_spread"):
        # A spread is a root of a difference, in which rounding may leave a little more than 0.
        assert getattr(other, name) == pytest.approx(abs(factor) * getattr(one, name), abs=1e-5)
    assert (other.replicates_agree, other.folds_differ) == (one.replicates_agree, one.folds_differ)
    assert crossed_mean([-fold for fold in values]).p == pytest.approx(one.p)


@given(SEEDS, SIZES)
def test_the_order_of_clients_replicates_and_folds_does_not_matter(seed: int, sizes: list[int]) -> None:
    values = drawn(seed, sizes, luck=1.0)
    one, generator = numbers(crossed_mean(values)), np.random.default_rng(seed)
    clients = [generator.permutation(fold, axis=1) for fold in values]
    order = generator.permutation(4)
    for other in (clients, [fold[order] for fold in values], values[::-1]):
        assert numbers(crossed_mean(other)) == pytest.approx(one, abs=1e-6)


# What it says ---------------------------------------------------------------------------------------------


@given(SEEDS, SIZES, st.floats(-3, 3), st.floats(0.01, 0.99), st.floats(0.01, 5))
def test_p_values_say_what_the_intervals_say(
    seed: int, sizes: list[int], shift: float, level: float, margin: float
) -> None:
    effect = crossed_mean(drawn(seed, sizes, luck=1.0, effect=shift))
    interval = effect.interval(level)
    assert interval.low < effect.estimate < interval.high
    assert (effect.p < 1 - level) == (interval.low > 0 or interval.high < 0)
    if level > 0.5:
        inside = -margin < interval.low and interval.high < margin
        assert (effect.equivalence_p(margin) < (1 - level) / 2) == inside


def test_values_that_never_vary() -> None:
    none, all_one = crossed_mean(np.zeros((3, 4, 5))), crossed_mean(np.ones((3, 4, 5)))
    assert (none.estimate, none.standard_error, none.p) == (0, 0, 1)
    assert (none.interval().low, none.interval().high) == (0, 0)
    assert none.equivalence_p(0.1) == 0
    assert (all_one.estimate, all_one.p) == (1, 0)
    assert [all_one.equivalence_p(margin) for margin in (0.5, 1, 2)] == [1, 0.5, 0]


FOLD = np.arange(12.0).reshape(3, 4) % 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "values has no folds; give one array"),
        ([FOLD, FOLD[0]], r"fold 1 has shape \(4,\); give \[replicates, clients\] with at least two"),
        ([FOLD, FOLD[:, :1]], r"fold 1 has shape \(3, 1\)"),
        ([FOLD[:2]], "fold 0 has 2 replicates, .* no fewer than 3; train it with other seeds"),
        ([FOLD, np.vstack([FOLD, FOLD])], "fold 1 has 6 replicates and fold 0 has 3; give all as many"),
        *[
            (
                [FOLD, np.where(FOLD == 4, bad, FOLD)],
                "fold 1 has values that are not finite; leave such clients",
            )
            for bad in (math.nan, math.inf, -math.inf)
        ],
        ([FOLD, np.ma.array(FOLD, mask=FOLD == 4)], "fold 1 has masked values"),
        ([[[1, 2], [1, 2], [1]]], "fold 0 of type list cannot be read as one array"),
        ([[["a", "b"]] * 3], "fold 0 has values of type <U1; give numbers"),
    ],
)
def test_what_has_no_crossed_mean_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crossed_mean(values)


@pytest.mark.parametrize("bad", [0, 1, 95, -0.5, math.nan])
def test_what_is_no_level_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=f"level={bad} is not between 0 and 1"):
        crossed_mean(BY_HAND).interval(bad)


@pytest.mark.parametrize("bad", [0, -1, math.inf, math.nan])
def test_what_is_no_margin_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=f"margin={bad} must be a finite number above 0"):
        crossed_mean(BY_HAND).equivalence_p(bad)


# How often it is right ------------------------------------------------------------------------------------

# The coverage must be 93 to 97 %. Allowing for run effects may add one more where there are none, or where
# most differences are 0.
MOST = {"no run effects": 0.98, "shares of 20 examples, run effects of 1 luck": 0.98}
KNOWN = [case for case in simulation.CASES if not case.startswith("fold")]


@pytest.mark.parametrize("case", KNOWN)
def test_an_interval_covers_the_truth_as_often_as_it_says(case: str) -> None:
    for sizes, replicates in (((84, 84, 84), 4), ((25,) * 5, 10)):
        design = Design(sizes, replicates, **simulation.CASES[case])
        covered = coverage(simulation.crossed, design, 1500, seed=1)
        assert 0.93 <= covered <= MOST.get(case, 0.97), (case, design, covered)


def test_the_simulation_tells_a_bad_interval_from_a_good_one() -> None:
    design = Design((84, 84, 84), 4, luck=1.0)
    assert coverage(simulation.bootstrap_of_clients, design, 300) < 0.92
    assert coverage(simulation.bootstrap_of_rows, design, 100) < 0.85
    strong = Design((84, 84, 84), 4, luck=5.0)
    assert coverage(simulation.bootstrap_of_clients, strong, 300) < 0.55
    assert coverage(simulation.crossed_bootstrap, strong, 100) < 0.95
    # Without a look at whether replicates agree over folds, a shared effect is taken for independent luck.
    shared = Design((84, 84, 84), 4, luck=5.0, shared=True)
    assert coverage(simulation.plain_satterthwaite, shared, 300) < 0.85
    # No effects of runs at all: a bootstrap over clients is right.
    assert 0.91 < coverage(simulation.bootstrap_of_clients, Design((84, 84, 84), 4), 300) < 0.98


def test_looking_for_what_folds_share_costs_little_where_they_share_nothing() -> None:
    for replicates, most in ((4, 1.3), (10, 1.2)):
        mean, median = simulation.relative_widths(Design((84, 84, 84), replicates, luck=0.5), 500)
        assert 1 <= median < mean < most and median < 1.1


def test_folds_of_unequal_size() -> None:
    covered = coverage(simulation.crossed, Design((25, 40, 85), 5, luck=1.0), 2000)
    assert 0.93 <= covered <= 0.97


def test_decisions_about_three_effects() -> None:
    none = simulation.power(0.0, 4, 300)
    # At most 5 % of families have a false difference, so that at most 5 % of effects have.
    assert none["wrong"] == none["different"] < 0.05 and none["equivalent"] > 0.5
    large = simulation.power(1.5, 4, 300)
    assert large["different"] > 0.95 and large["equivalent"] == large["wrong"] == 0
    few, many = simulation.power(0.3, 4, 300), simulation.power(0.3, 10, 300)
    assert few["wrong"] < 0.01 and many["undecided"] < few["undecided"]


@pytest.mark.campaign
@pytest.mark.parametrize("replicates", [3, 4, 5, 7, 10])
@pytest.mark.parametrize("case", KNOWN)
def test_coverage_on_the_whole_grid(case: str, replicates: int) -> None:
    # Three replicates have too few degrees of freedom for an effect that all folds share.
    least = 0.91 if replicates == 3 and "shared" in case else 0.93
    for design in simulation.grid(case, replicates):
        covered = coverage(simulation.crossed, design, 1000, seed=2)
        # Four standard deviations of 1000 draws are 2.2 points at 97 %, 3.2 at 93 %.
        assert least - 0.02 <= covered <= MOST.get(case, 0.97) + 0.015, (design, covered)
