"""The expansion of FedAvg, FOMAML and MAML in the client rate β, measured without sampling error.

For one client with two or more fixed batches, each local step draws one of them with equal probability. The
expectation over the draws is a finite sum over all sequences of batches, so it is computed, not sampled:

    E[FedAvg(K)] = K · AvgGrad − ½K(K−1) · β · AvgGradInner + O(β²)
    E[FOMAML(K)] =     AvgGrad −    K    · β · AvgGradInner + O(β²)
    E[MAML(K)]   =     AvgGrad −   2K    · β · AvgGradInner + O(β²)

with AvgGrad = E[g_a] and AvgGradInner = ½ E[∇(g_a · g_b)] = E[∇²L_a · g_b] over two independent draws a, b.

Source: the paper, as quoted by others, after the analysis of Reptile by Nichol et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fl_meta.algorithms.sent import Batch
from fl_meta.engines.local_training import gradient, hessian_vector_product
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, add, dot, norm, scale

Method = Literal["FedAvg", "FOMAML", "MAML"]
GradientCache = dict[tuple[float, tuple[int, ...]], list[Params]]
"""A client's gradients by client rate and batches drawn so far, shared by methods and by numbers of steps."""

COEFFICIENTS: dict[Method, Callable[[int], float]] = {
    "FedAvg": lambda K: -K * (K - 1) / 2,
    "FOMAML": lambda K: -K,
    "MAML": lambda K: -2 * K,
}
"""The factor of β · AvgGradInner in the expansion, as a function of K."""


def _mean(trees: Sequence[Params]) -> Params:
    total = trees[0]
    for tree in trees[1:]:
        total = add(total, tree)
    return scale(total, 1 / len(trees))


def average_gradient(model: Model, params: Params, batches: Sequence[Batch]) -> Params:
    """AvgGrad: the mean of the batches' gradients at `params`.

    Example:
        >>> batches = fl_meta.experiments.fixed_batches(data, data.client_ids[0], 2, size=10, seed=0)
        >>> gradient = average_gradient(model, params, batches)
    """
    return _mean([gradient(model, params, batch)[1] for batch in batches])


def average_gradient_inner(model: Model, params: Params, batches: Sequence[Batch]) -> Params:
    """AvgGradInner: half the gradient of the mean inner product of two independently drawn gradients.

    Example:
        >>> batches = fl_meta.experiments.fixed_batches(data, data.client_ids[0], 2, size=10, seed=0)
        >>> inner = average_gradient_inner(model, params, batches)
    """
    mean_gradient = average_gradient(model, params, batches)
    return _mean([hessian_vector_product(model, params, batch, mean_gradient) for batch in batches])


def expected_update(
    model: Model,
    params: Params,
    batches: Sequence[Batch],
    method: Method,
    steps: int,
    rate: float,
    *,
    gradient_cache: GradientCache | None = None,
    drawn: tuple[int, ...] = (),
) -> Params:
    """The expectation of what a client sends, over all sequences of equally likely batches.

    A client at `params` that draws batch b continues from params − β g_b with one step fewer to take. FedAvg
    adds g_b to the outcome of that, MAML multiplies it by I − β∇²L_b, FOMAML passes it on. The cost grows as
    `len(batches) ** steps`. Gradients that are in the cache, after the batches `drawn`, are not computed
    again.

    Example:
        >>> batches = fl_meta.experiments.fixed_batches(data, data.client_ids[0], 2, size=10, seed=0)
        >>> update = expected_update(model, params, batches, "FedAvg", steps=2, rate=0.01)
    """
    cache = {} if gradient_cache is None else gradient_cache
    if (rate, drawn) not in cache:
        cache[rate, drawn] = [gradient(model, params, batch)[1] for batch in batches]
    gradients = cache[rate, drawn]
    if steps == (1 if method == "FedAvg" else 0):
        return _mean(gradients)
    outcomes = []
    for number, (inner_gradient, batch) in enumerate(zip(gradients, batches, strict=True)):
        ahead, now_drawn = add(params, inner_gradient, -rate), (*drawn, number)
        outcome = expected_update(
            model, ahead, batches, method, steps - 1, rate, gradient_cache=cache, drawn=now_drawn
        )
        if method == "FedAvg":
            outcome = add(inner_gradient, outcome)
        elif method == "MAML":
            outcome = add(outcome, hessian_vector_product(model, params, batch, outcome), -rate)
        outcomes.append(outcome)
    return _mean(outcomes)


@dataclass(frozen=True)
class Expansion:
    """How far one client's expected update departs from its leading term as β grows.

    The leading term is K · AvgGrad for FedAvg and AvgGrad for the others.

    Attributes:
        steps: K.
        rates: the client rates β [rates].
        errors: error of the expansion up to the term in β, divided by ‖AvgGrad‖ [rates].
        coefficient: the coefficient of β · AvgGradInner, fitted at β → 0.
    """

    method: Method
    steps: int
    rates: tuple[float, ...]
    errors: tuple[float, ...]
    coefficient: float

    @property
    def slope(self) -> float:
        """Slope of log error over log β: 2 if the remainder is O(β²)."""
        return float(np.polyfit(np.log(self.rates), np.log(self.errors), 1)[0])

    @property
    def coefficient_ratio(self) -> float:
        """The fitted coefficient divided by the predicted one: 1 if the expansion is right."""
        return self.coefficient / COEFFICIENTS[self.method](self.steps)


def measure_expansion(
    model: Model,
    params: Params,
    batches: Sequence[Batch],
    method: Method,
    steps: int,
    relative_rates: Sequence[float],
    *,
    gradient_cache: GradientCache | None = None,
) -> Expansion:
    """Compare `expected_update` with its expansion at several client rates.

    Args:
        params: where to expand; use float64, because the errors are tiny.
        batches: the client's fixed batches, each drawn with equal probability.
        steps: K, at least 2 for FedAvg (K = 1 has no term in β) and 1 for the others.
        relative_rates: β in units of ‖AvgGrad‖ / ‖AvgGradInner‖, so that they suit any model; at least two.
        gradient_cache: gradients of the same model, parameters and batches; the call adds to it.

    Raises:
        ValueError: if `steps` is too small or there are fewer than two rates or batches.

    Example:
        >>> batches = fl_meta.experiments.fixed_batches(data, data.client_ids[0], 2, size=10, seed=0)
        >>> start = model.init(0, torch.float64)
        >>> expansion = measure_expansion(model, start, batches, "MAML", 2, (1e-4, 1e-3))
        >>> print(f"slope {expansion.slope:.1f}, fitted / predicted {expansion.coefficient_ratio:.2f}")
        slope 2.0, fitted / predicted 1.00
    """
    least = 2 if method == "FedAvg" else 1
    if steps < least or len(relative_rates) < 2 or len(batches) < 2:
        raise ValueError(
            f"{method} with steps={steps}, {len(relative_rates)} rates and {len(batches)} batches; it needs "
            f"at least {least} steps, 2 rates and 2 batches"
        )
    mean_gradient = average_gradient(model, params, batches)
    inner = average_gradient_inner(model, params, batches)
    unit = norm(mean_gradient) / norm(inner)
    rates = tuple(unit * relative for relative in relative_rates)
    errors, slopes = [], []
    for rate in rates:
        update = expected_update(model, params, batches, method, steps, rate, gradient_cache=gradient_cache)
        difference = add(update, mean_gradient, -float(steps if method == "FedAvg" else 1))
        remainder = add(difference, inner, -COEFFICIENTS[method](steps) * rate)
        errors.append(norm(remainder) / norm(mean_gradient))
        slopes.append(dot(difference, inner) / dot(inner, inner) / rate)
    # difference / β = coefficient · AvgGradInner + O(β): a line in β, read at zero.
    coefficient = float(np.polyfit(rates, slopes, 1)[1])
    return Expansion(method, steps, rates, tuple(errors), coefficient)
