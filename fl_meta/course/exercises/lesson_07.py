"""Exercises of lesson 07: published scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_meta.course.answers import number
from fl_meta.course.functions import function
from fl_meta.course.registry import exercise


@exercise("07.1", stars=1)
def _last_rate(answer: Any) -> str | None:
    """The client rate of FedAvg+'s local epoch: the first one, 0.1, divided by ten twice."""
    return number(
        answer,
        0.1 / 100,
        mistakes={
            0.01: "It falls twice: after half of the rounds, and again after three quarters.",
            0.1: "This is the rate of the released program. The one described decays it.",
        },
        hint="How often is it divided by ten?",
    )


@exercise("07.2", stars=2)
def _means(answer: Any) -> str | None:
    """The mean accuracy of two clients by example and by client, under these names."""
    if not isinstance(answer, Mapping) or set(answer) != {"by example", "by client"}:
        return "Give both means, under the names 'by example' and 'by client'."
    by_example = (90 * 0.9 + 10 * 0.5) / (90 + 10)
    by_client = (0.9 + 0.5) / 2
    swapped = "You have the two the wrong way round: by example, the large client decides."
    for name, right, other in (
        ("by example", by_example, by_client),
        ("by client", by_client, by_example),
    ):
        wrong = number(answer[name], right, unit="share", mistakes={other: swapped})
        if wrong:
            return f"{name}: {wrong}"
    return None


@exercise("07.3", stars=3)
def _median_labels(answer: Any, artificial_clients: Callable[[float], NDArray[np.int64]]) -> str | None:
    """A function of α: the median number of labels of the artificial clients that have examples."""

    def labels_of(alpha: float) -> NDArray[np.int64]:
        counts = artificial_clients(alpha)
        labels: NDArray[np.int64] = (counts[counts.any(axis=1)] > 0).sum(axis=1)
        return labels

    return function(
        answer,
        lambda alpha: float(np.median(labels_of(alpha))),
        [(0.04,), (0.4,), (40.0,)],
        mistakes=[
            (lambda alpha: float(labels_of(alpha).mean()), "This is the mean. What is the median?"),
            (
                lambda alpha: float(np.median((artificial_clients(alpha) > 0).sum(axis=0))),
                "This counts the clients of a label. Count the labels of a client.",
            ),
        ],
        hint="A client has a label if its count is above 0.",
    )
