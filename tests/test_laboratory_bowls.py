"""The closed forms of the bowls agree with training step by step and with searching for the smallest loss."""

import numpy as np
import pytest

from fl_meta.laboratories.bowls import Bowls, steep_and_flat

BOWLS = [
    steep_and_flat(distance=3.0, steepness=4.0),
    Bowls(np.array([1.0, 4.0, -3.0]), np.array([0.3, 1.1, 2.4]), rate=0.3),
]
LINE = np.linspace(-5, 5, 100_001)[:, None]


def walked(bowls: Bowls, at: float, steps: int) -> np.ndarray:
    """Where gradient descent, one step after the other, takes each client."""
    places = np.full(len(bowls.optima), at)
    for _ in range(steps):
        places = places - bowls.rate * bowls.curvatures * (places - bowls.optima)
    return places


@pytest.mark.parametrize("bowls", BOWLS)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_losses_are_those_after_gradient_descent(bowls: Bowls, steps: int) -> None:
    after = walked(bowls, 0.7, steps)
    np.testing.assert_allclose(bowls.adapted(np.array([0.7]), steps), after)
    by_hand = [h * (x - a) ** 2 / 2 for h, x, a in zip(bowls.curvatures, after, bowls.optima, strict=True)]
    np.testing.assert_allclose(bowls.losses(np.array([0.7]), steps), by_hand)


@pytest.mark.parametrize("bowls", BOWLS)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_no_other_start_is_better(bowls: Bowls, steps: int) -> None:
    smallest = LINE[bowls.losses(LINE, steps).mean(1).argmin(), 0]
    assert bowls.best_start(steps) == pytest.approx(smallest, abs=1e-4)
    if steps == 0:
        assert bowls.best_average() == pytest.approx(smallest, abs=1e-4)


@pytest.mark.parametrize("bowls", BOWLS)
@pytest.mark.parametrize("steps", [1, 4])
def test_fedavg_comes_to_rest_where_it_is_said_to(bowls: Bowls, steps: int) -> None:
    at = 5.0
    for _ in range(500):
        at = walked(bowls, at, steps).mean()
    assert bowls.resting_point(steps) == pytest.approx(at)


def test_with_two_bowls_fedavg_rests_on_the_way_to_the_best_start() -> None:
    for steepness in (1.5, 4.0, 9.0):
        bowls = steep_and_flat(3.0, steepness)
        assert bowls.resting_point(1) == pytest.approx(bowls.best_average()), "as FedSGD"
        for steps in (2, 5, 12):
            assert bowls.best_average() < bowls.resting_point(steps) < bowls.best_start(steps)
    equal = steep_and_flat(3.0, 1.0)
    assert equal.best_start(4) == pytest.approx(equal.best_average()), "no price where bowls are alike"


def test_without_a_step_fedavg_rests_nowhere() -> None:
    with pytest.raises(ValueError, match=r"steps=0: .* give 1 or more"):
        BOWLS[0].resting_point(0)
