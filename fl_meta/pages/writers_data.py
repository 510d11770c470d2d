"""What the page of different writers shows: recorded gains for every setting, and who has which labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_meta.evidence.results import recorded
from fl_meta.experiments.heterogeneity import gains
from fl_meta.experiments.heterogeneity_settings import KNOBS, RECORDED_HETEROGENEITY
from fl_meta.laboratories.artificial_clients import ALPHAS, artificial_clients, few_writers


def writers_data(results: Path) -> dict[str, Any]:
    """Recorded gains by the values of the knobs, and counts [clients][labels] of writers and partitions.

    Args:
        results: the folder of recorded results.

    Raises:
        FileNotFoundError: if the folder holds no results of this experiment.

    Example:
        >>> len(writers_data(Path("data/results"))["alphas"])  # doctest: +SKIP
        6
    """
    config = RECORDED_HETEROGENEITY
    found = recorded(config, results)
    if not found:
        raise FileNotFoundError(
            f"no heterogeneity results in {results.absolute()}; give the folder of recorded results, or "
            "compute it: fl-meta record heterogeneity-writers"
        )
    writers = few_writers()
    return {
        "label": found[0].data.label,
        "seeds": len(found),
        "knobs": {knob: getattr(config, knob) for knob in KNOBS},
        "gains": {
            " ".join(f"{value:g}" for value in point): {
                "initial": round(gain.initial, 2),
                "personalized": round(gain.personalized, 2),
                "gain": round(gain.gain.estimate, 2),
                "low": round(gain.gain.low, 2),
                "high": round(gain.gain.high, 2),
                "writers": gain.writers,
            }
            for point, gain in gains(found).items()
        },
        "labels": writers.class_names,
        "ofWriters": _sorted(writers.class_counts()),
        "alphas": ALPHAS,
        "ofArtificial": [_sorted(artificial_clients(alpha)) for alpha in ALPHAS],
    }


def _sorted(counts: NDArray[np.int64]) -> list[list[int]]:
    """Counts [clients, labels], clients by their most frequent label and how large its share is."""
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    order = np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))
    sorted_counts: list[list[int]] = counts[order].tolist()
    return sorted_counts
