"""Verdicts on claim 1, and the tolerances by which it is decided."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from fl_meta.data.federated import FederatedDataset
from fl_meta.evidence.verdicts import Verdict

IDENTITY_TOLERANCE = 1e-12  # largest relative error, float64
SLOPE_TOLERANCE = 0.1  # allowed distance from 2 of the slope of log error over log β
COEFFICIENT_TOLERANCE = 0.02  # allowed distance from 1 of the ratio fitted / predicted
FINITE_DIFFERENCE_TOLERANCE = 1e-6  # largest relative error, float64
STATEMENTS = {
    "1a": "with the same client weights FedAvg(K) = FedSGD + FOMAML(1) + … + FOMAML(K−1), and with equal "
    "ones it is Reptile(K)",
    "1b-order": "what the expansion of FedAvg, FOMAML and MAML in β leaves out is O(β²): slope 2",
    "1b-coefficient": "AvgGradInner enters with −½K(K−1), −K and −2K: fitted / predicted = 1",
    "1c": "MAML's second order is exact: it agrees with finite differences of the personalized loss",
}


def decide_errors(
    claim: str, errors: pd.Series[float], tolerance: float, data: FederatedDataset, profile: str
) -> Verdict:
    """Reproduced if the largest relative error is within the tolerance; the interval is the errors' range.

    A NaN exceeds any tolerance.
    """
    largest = float(errors.max(skipna=False))
    verdict = "reproduced" if largest <= tolerance else "not reproduced"
    unit = f"largest relative error (accepted: {tolerance:g})"
    low = float(errors.min(skipna=False))
    return Verdict(claim, STATEMENTS[claim], data.label, verdict, largest, (low, largest), unit, profile)


def decide_band(
    claim: str,
    values: pd.Series[float],
    expected: float,
    tolerance: float,
    data: FederatedDataset,
    profile: str,
) -> Verdict:
    """Reproduced if every value is within `expected` ± `tolerance`; the interval is the values' range.

    The effect is the value that is furthest off. The expectations behind the values are computed, not
    sampled, so a single value beyond the tolerance refutes the claim; a mean over clients could hide it. The
    verdict is undecided if a value is not finite.
    """
    unit = f"furthest off of {len(values)} (accepted: {expected:g} ± {tolerance:g})"
    verdict, effect, ends = "undecided", math.nan, (math.nan, math.nan)
    if np.isfinite(values).all():
        effect = float(values.iloc[int((values - expected).abs().argmax())])
        ends = (float(values.min()), float(values.max()))
        verdict = "reproduced" if abs(effect - expected) <= tolerance else "not reproduced"
    return Verdict(claim, STATEMENTS[claim], data.label, verdict, effect, ends, unit, profile)


def decide_claim_one(
    identities: pd.DataFrame,
    expansions: pd.DataFrame,
    differences: pd.DataFrame,
    data: FederatedDataset,
    profile: str,
) -> list[Verdict]:
    """The four verdicts on claim 1 for one data set, from the three tables of measurements.

    Example:
        >>> config = fl_meta.experiments.CLAIM_ONE["smoke"]
        >>> identities = fl_meta.experiments.identity_errors([model], data, config)
        >>> expansions = fl_meta.experiments.expansion_rows(model, data, config)
        >>> differences = fl_meta.experiments.finite_difference_errors([model], data, config)
        >>> verdicts = decide_claim_one(identities, expansions, differences, data, "smoke")
        >>> [verdict.claim for verdict in verdicts if verdict.verdict == "reproduced"]
        ['1a', '1b-order', '1b-coefficient', '1c']
    """
    slopes, ratios = expansions.slope, expansions.coefficient_ratio
    return [
        decide_errors("1a", identities.relative_error, IDENTITY_TOLERANCE, data, profile),
        decide_band("1b-order", slopes, 2.0, SLOPE_TOLERANCE, data, profile),
        decide_band("1b-coefficient", ratios, 1.0, COEFFICIENT_TOLERANCE, data, profile),
        decide_errors("1c", differences.relative_error, FINITE_DIFFERENCE_TOLERANCE, data, profile),
    ]
