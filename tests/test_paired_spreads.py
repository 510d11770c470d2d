"""How many times as much one quantity varies as another: by hand, invariants, how often it is right."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fl_meta.evidence.paired_spreads import spread, spread_ratio

SEEDS = st.integers(0, 10_000)


def drawn(
    generator: np.random.Generator,
    ratio: float = 1.0,
    cells: int = 8,
    folds: int = 3,
    runs: int = 4,
    *,
    shared: float = 0.5,
    paired: float = 0.7,
    freedom: float = math.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Two quantities [cells, folds, runs] whose spreads have a ratio.

    Cells have a part in common, the two quantities are correlated, and with finite degrees of freedom some
    runs are outliers in everything.
    """
    shape = (2, cells, folds, runs)
    common = generator.standard_normal((2, 1, folds, runs))
    ours, other = math.sqrt(shared) * common + math.sqrt(1 - shared) * generator.standard_normal(shape)
    theirs = paired * ours + math.sqrt(1 - paired**2) * other
    size = 1.0 if math.isinf(freedom) else np.sqrt(freedom / generator.chisquare(freedom, (folds, runs)))
    return ratio * ours * size, theirs * size


# What it computes -----------------------------------------------------------------------------------------


def test_a_spread_by_hand() -> None:
    # Squares around the folds' means: 1 + 0 + 1 and 4 + 0 + 4; two degrees of freedom each.
    assert spread(np.array([[1.0, 2, 3], [10, 12, 14]])) == pytest.approx(math.sqrt(10 / 4))
    # What separates folds is not the luck of training.
    assert spread(np.array([[1.0, 2, 3], [100, 102, 104]])) == pytest.approx(math.sqrt(10 / 4))


def test_a_ratio_by_hand() -> None:
    ours, theirs = [0.0, 2.0, 4.0, 6.0], [0.0, 0.0, 1.0, 1.0]
    # Variances 20 / 3 and 1 / 3. Without one run after the other, squares 8, 56/3, 56/3, 8; four times 2/3.
    found = spread_ratio([[ours]], [[theirs]])
    assert found.estimate == pytest.approx(math.sqrt(20))
    logarithms = [math.log(12) / 2, math.log(28) / 2, math.log(28) / 2, math.log(12) / 2]
    error = math.sqrt(3 / 4 * 4) * (math.log(28) - math.log(12)) / 4
    assert error == pytest.approx(math.sqrt(3 / 4 * 4 * np.var(logarithms)))
    factor = math.exp(stats.t(3).ppf(0.975) * error)
    assert (found.low, found.high) == pytest.approx((math.sqrt(20) / factor, math.sqrt(20) * factor))


@given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.integers(3, 6))
def test_a_run_is_left_out_with_all_its_values(seed: int, cells: int, folds: int, runs: int) -> None:
    ours, theirs = drawn(np.random.default_rng(seed), 2.0, cells, folds, runs)

    def squares(values: np.ndarray, fold: int, run: int) -> float:
        parts = [np.delete(one, run) if number == fold else one for number, one in enumerate(values)]
        return sum(float(((part - part.mean()) ** 2).sum()) for part in parts)

    pairs = list(zip(ours, theirs, strict=True))
    without = [
        np.mean([math.log(squares(a, fold, run) / squares(b, fold, run)) / 2 for a, b in pairs])
        for fold in range(folds)
        for run in range(runs)
    ]
    number = folds * runs
    half = stats.t(folds * (runs - 1)).ppf(0.95) * math.sqrt((number - 1) * np.var(without))
    found = spread_ratio(ours, theirs, 0.9)
    assert math.log(found.high / found.estimate) == pytest.approx(half)
    assert math.log(found.estimate / found.low) == pytest.approx(half)


@given(SEEDS, st.floats(0.1, 10))
def test_what_the_ratio_does_not_depend_on(seed: int, factor: float) -> None:
    generator = np.random.default_rng(seed)
    ours, theirs = drawn(generator)

    def numbers(*pair: np.ndarray) -> np.ndarray:
        found = spread_ratio(*pair)
        return np.log([found.estimate, found.low, found.high])

    usual = numbers(ours, theirs)
    levels = generator.normal(0, 10, (8, 3, 1))  # of the clients of a fold
    assert numbers(ours + levels, theirs - levels) == pytest.approx(usual, abs=1e-6)
    assert numbers(factor * ours, theirs) == pytest.approx(usual + math.log(factor))
    assert numbers(theirs, ours) == pytest.approx(-usual[[0, 2, 1]])
    cell, fold, run = generator.permutation(8), generator.permutation(3), generator.permutation(4)
    shuffled = (values[cell][:, fold][:, :, run] for values in (ours, theirs))
    assert numbers(*shuffled) == pytest.approx(usual)
    # Every cell counts the same, whatever its unit.
    units = generator.uniform(0.1, 10, (8, 1, 1))
    assert numbers(units * ours, units * theirs) == pytest.approx(usual)


# How often it is right ------------------------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.parametrize("runs", [3, 4, 10])
@pytest.mark.parametrize(
    "case",
    [
        {"cells": 1, "paired": 0.0},
        {"cells": 1, "paired": 0.9},
        {"shared": 0.0},
        {"shared": 0.9, "paired": 0.0},
        {"shared": 0.9, "freedom": 6.0},
    ],
    ids=str,
)
def test_the_interval_has_its_coverage(case: dict[str, Any], runs: int) -> None:
    generator = np.random.default_rng(runs)
    draws, truth = 2000, 3.0
    found = [spread_ratio(*drawn(generator, truth, runs=runs, **case)) for _ in range(draws)]
    too_low = sum(one.high < truth for one in found) / draws
    too_high = sum(one.low > truth for one in found) / draws
    # 95 %, with three standard errors of the simulation; with few runs it is a little too wide.
    assert 0.935 < 1 - too_low - too_high < 0.995
    assert max(too_low, too_high) < 0.04


# What it refuses ------------------------------------------------------------------------------------------

GOOD = np.arange(24.0).reshape(2, 3, 4) ** 2


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (GOOD, GOOD[:1], "ours .2, 3, 4. and theirs .1, 3, 4. must have the same shape"),
        (GOOD[0], GOOD[0], "ours .3, 4. must be .cells, folds, runs. with 3 runs or more"),
        (GOOD[..., :2], GOOD[..., :2], "ours .2, 3, 2. must be"),
        (GOOD[:0], GOOD[:0], "ours .0, 3, 4. must be"),
        (GOOD, np.where(GOOD == 9, np.nan, GOOD), "theirs has values that are not finite"),
        (GOOD, GOOD.astype(str), "theirs has values of type <U"),
        (GOOD, np.full_like(GOOD, 0.1), "theirs varies in at most one run of a cell"),
        (np.eye(1, 12).reshape(1, 3, 4), GOOD[:1], "ours varies in at most one run of a cell"),
        (np.ma.masked_less(GOOD, 3), GOOD, "ours has masked"),
    ],
)
def test_broken_values_are_refused(ours: Any, theirs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spread_ratio(ours, theirs)


@pytest.mark.parametrize("level", [0, 1, -0.5, math.nan])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="is not between 0 and 1"):
        spread_ratio(GOOD, GOOD**2, level)
