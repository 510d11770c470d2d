import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_meta.models import parameters as params
from fl_meta.models.parameters import Params

NUMBERS = st.floats(-100, 100, allow_subnormal=False)
VECTOR = arrays(np.float64, 5, elements=NUMBERS)


def tree(vector: np.ndarray) -> Params:
    """Two tensors, of shapes [2, 2] and [], that hold the five numbers."""
    return {"weight": torch.from_numpy(vector[:4].reshape(2, 2).copy()), "bias": torch.tensor(vector[4])}


def flat(some: Params) -> np.ndarray:
    assert list(some) == ["weight", "bias"] and some["weight"].shape == (2, 2) and some["bias"].shape == ()
    return np.r_[some["weight"].numpy().ravel(), some["bias"].numpy()]


@given(VECTOR, VECTOR, NUMBERS)
def test_arithmetic_is_that_of_vectors(a: np.ndarray, b: np.ndarray, factor: float) -> None:
    x, y = tree(a), tree(b)
    np.testing.assert_allclose(flat(params.add(x, y)), a + b)
    np.testing.assert_allclose(flat(params.add(x, y, factor)), a + factor * b, atol=1e-9)
    np.testing.assert_allclose(flat(params.scale(x, factor)), factor * a)
    np.testing.assert_allclose(flat(params.map_params(torch.maximum, x, y)), np.maximum(a, b))
    np.testing.assert_array_equal(flat(params.zeros_like(x)), np.zeros(5))
    assert params.dot(x, y) == pytest.approx(a @ b, abs=1e-9)
    assert params.norm(x) == pytest.approx(np.linalg.norm(a))
    np.testing.assert_array_equal(flat(x), a)  # nothing happened in place
    np.testing.assert_array_equal(flat(y), b)


def test_relative_error_by_hand() -> None:
    a = tree(np.array([3.0, 0, 0, 0, 4]))
    # (0, 0, 0, 0, 1) is the difference of the first two, and ‖(3, 0, 0, 0, 4)‖ = 5.
    assert params.relative_error(tree(np.array([3.0, 0, 0, 0, 5])), a) == 0.2


def test_sums_are_taken_in_the_precision_of_the_parameters() -> None:
    a = {"w": torch.tensor([1.0, 1e-12], dtype=torch.float64)}
    assert params.dot(a, {"w": torch.ones(2, dtype=torch.float64)}) > 1.0


@pytest.mark.parametrize("where", ["weight", "bias"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_number_is_not_finite(where: str, bad: float) -> None:
    a = tree(np.arange(5.0))
    assert params.all_finite(a)
    a[where].view(-1)[-1] = bad
    assert not params.all_finite(a)


@pytest.mark.parametrize("function", [params.add, params.dot, params.relative_error])
def test_other_names_are_refused(function) -> None:
    a, b = {"w": torch.zeros(2), "b": torch.zeros(1)}, {"w": torch.zeros(2), "c": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"\['b', 'c'\] in one and not the other"):
        function(a, b)
    with pytest.raises(ValueError, match=r"\['b'\] in one and not the other"):
        function({"w": torch.zeros(2)}, a)


def test_names_in_another_order_are_the_same_parameters() -> None:
    a = {"w": torch.tensor([1.0]), "b": torch.tensor([2.0])}
    b = {"b": torch.tensor([20.0]), "w": torch.tensor([10.0])}
    assert {name: value.item() for name, value in params.add(a, b).items()} == {"w": 11.0, "b": 22.0}
