import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_meta.evaluation.bootstrap import Interval, bootstrap_mean
from fl_meta.evidence.statistics import holm

NUMBERS = st.floats(-100, 100, allow_subnormal=False)
VALUES = st.integers(2, 12).flatmap(lambda n: arrays(np.float64, n, elements=NUMBERS))


def normal(size: int, seed: int, mean: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 2.0, size)


# The estimate ---------------------------------------------------------------------------------------------


def test_estimate_by_hand() -> None:
    assert bootstrap_mean([0.1, 0.2, 0.6]).estimate == pytest.approx(0.3)
    # (10 · 0.1 + 30 · 0.2 + 60 · 0.6) / 100
    assert bootstrap_mean([0.1, 0.2, 0.6], [10, 30, 60]).estimate == pytest.approx(0.43)


@given(VALUES, st.data())
def test_a_weight_counts_like_that_many_clients(values: np.ndarray, data: st.DataObject) -> None:
    weights = data.draw(arrays(np.int64, len(values), elements=st.integers(1, 5)))
    weighted = bootstrap_mean(values, weights, resamples=10).estimate
    assert weighted == pytest.approx(np.repeat(values, weights).mean(), abs=1e-9)


# The interval ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "least", "most"), [(0.95, 0.88, 0.99), (0.5, 0.38, 0.62)])
def test_coverage_of_a_known_mean(level: float, least: float, most: float) -> None:
    intervals = [
        bootstrap_mean(normal(40, seed), level=level, resamples=400, seed=seed) for seed in range(200)
    ]
    covered = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert least <= covered <= most
    # The misses lie on both sides.
    assert any(interval.low > 3.0 for interval in intervals)
    assert any(interval.high < 3.0 for interval in intervals)


@pytest.mark.parametrize(("level", "quantile"), [(0.95, 1.960), (0.8, 1.282)])
@pytest.mark.parametrize("weighted", [False, True])
def test_width_is_that_of_the_normal_approximation(level: float, quantile: float, weighted: bool) -> None:
    values = normal(400, 0)
    weights = np.random.default_rng(1).choice([1.0, 20.0], 400) if weighted else np.ones(400)
    interval = bootstrap_mean(values, weights if weighted else None, level=level)
    # Standard error of a ratio Σwx / Σw.
    error = np.sqrt((weights**2 * (values - interval.estimate) ** 2).sum()) / weights.sum()
    assert interval.level == level
    assert interval.estimate - interval.low == pytest.approx(quantile * error, rel=0.1)
    assert interval.high - interval.estimate == pytest.approx(quantile * error, rel=0.1)


@given(VALUES, NUMBERS, st.floats(0.01, 100), st.integers(0, 1000))
def test_units_do_not_matter(values: np.ndarray, shift: float, factor: float, seed: int) -> None:
    one = bootstrap_mean(values, resamples=200, seed=seed)
    other = bootstrap_mean(factor * values + shift, resamples=200, seed=seed)
    for end in ("estimate", "low", "high"):
        assert getattr(other, end) == pytest.approx(factor * getattr(one, end) + shift, abs=1e-8)


@given(VALUES, st.integers(0, 1000), st.data())
def test_an_interval_lies_within_the_values_and_grows_with_its_level(
    values: np.ndarray, seed: int, data: st.DataObject
) -> None:
    weights = data.draw(arrays(np.float64, len(values), elements=st.floats(0.1, 10)))
    narrow, wide = (
        bootstrap_mean(values, weights, level=level, resamples=200, seed=seed) for level in (0.5, 0.95)
    )
    ends = [values.min() - 1e-9, wide.low, narrow.low, narrow.high, wide.high, values.max() + 1e-9]
    assert ends == sorted(ends)


@given(NUMBERS, NUMBERS)
def test_a_client_without_weight_has_no_say(one: float, other: float) -> None:
    values = [0.0, 1.0, 2.0]
    first = bootstrap_mean([*values, one], [1, 2, 3, 0], resamples=100)
    assert bootstrap_mean([*values, other], [1, 2, 3, 0], resamples=100) == first
    assert -1e-9 <= first.low <= first.high <= 2 + 1e-9
    # Resamples of the second client alone have no mean; all others have this one.
    only = bootstrap_mean([one, other], [5, 0], resamples=50)
    assert (only.estimate, only.low, only.high) == pytest.approx((one, one, one))


def test_the_same_seed_gives_the_same_interval() -> None:
    values = normal(30, 0)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)
    assert bootstrap_mean(values, seed=1).low == pytest.approx(bootstrap_mean(values, seed=2).low, abs=0.1)


def test_one_client_has_a_mean_and_no_interval() -> None:
    interval = bootstrap_mean([0.4], [3])
    assert interval.estimate == pytest.approx(0.4)
    assert math.isnan(interval.low) and math.isnan(interval.high)


def test_text_of_an_interval() -> None:
    assert str(Interval(0.123456, -0.02, 1.0)) == "0.1235 [-0.02, 1]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": []}, r"values \(0,\) and weights \(0,\) must be \[clients\], at least one"),
        ({"values": 0.5}, r"values \(\) .* must be \[clients\]"),
        ({"values": [[0.1, 0.2]]}, r"values \(1, 2\) .* must be \[clients\]"),
        ({"weights": [1, 2, 3]}, r"values \(2,\) and weights \(3,\)"),
        *[({"values": [0.1, bad]}, "values must be finite") for bad in (math.nan, math.inf, -math.inf)],
        *[
            ({"weights": bad}, "weights 0 or more with a positive, finite sum")
            for bad in ([0, 0], [2, -1], [1, math.nan], [1, math.inf])
        ],
        *[({"level": bad}, f"level={bad} is not between 0 and 1") for bad in (0, 1, 95, -0.5, math.nan)],
        *[({"resamples": bad}, f"resamples={bad} must be 1 or more") for bad in (0, -1)],
        ({"seed": -1}, "seed=-1 is negative"),
        ({"values": np.ma.array([0.1, 0.2], mask=[True, False])}, "values has masked values"),
        ({"weights": np.ma.array([1, 2], mask=[True, False])}, "weights has masked values"),
    ],
)
def test_what_has_no_interval_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"values": [0.1, 0.2], "weights": None}
    assert bootstrap_mean(**good).estimate == pytest.approx(0.15)
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(**(good | change))


# Tests ----------------------------------------------------------------------------------------------------

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=10)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1: 0.02, 0.03, 0.06 and 0.04, which may not be less.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(P_VALUES, st.randoms())
def test_holm_corrects_upwards_in_order_and_whatever_the_order(p_values: list[float], random: Random) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    # No correction is larger than Bonferroni's, and the smallest p has just that.
    bonferroni = [min(1, len(p_values) * p) for p in p_values]
    assert all(c <= b for c, b in zip(corrected, bonferroni, strict=True))
    assert min(corrected) == min(bonferroni)
    in_order = [c for _, c in sorted(zip(p_values, corrected, strict=True))]
    assert in_order == sorted(in_order)
    places = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[i] for i in places]) == [corrected[i] for i in places]


@given(P_VALUES, st.floats(0, 1))
def test_another_test_in_the_family_makes_no_p_smaller(p_values: list[float], more: float) -> None:
    together = holm([*p_values, more])[:-1]
    assert all(few <= many for few, many in zip(holm(p_values), together, strict=True))
