"""Exercises of lesson 05: FedAvg's model and a centrally trained one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from fl_meta.course.answers import number
from fl_meta.course.functions import function
from fl_meta.course.registry import exercise
from fl_meta.data.federated import Client
from fl_meta.engines.local_training import gradient
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, dot, norm

# The table of exercise 05.1: initial and personalized accuracy along two trainings, in percent.
_FEDAVG = {40: 56, 50: 65, 60: 72}
_CENTRALIZED = {40: 54, 50: 62, 60: 71, 66: 74}


@exercise("05.1", stars=1)
def _two_comparisons(answer: Any) -> str | None:
    """FedAvg minus centralized: the gains at 50 % ('matched'), the personalized ends ('best'), in points."""
    if not isinstance(answer, Mapping) or set(answer) != {"matched", "best"}:
        return "Give two numbers, under the names 'matched' and 'best'."
    (start, end), (other_start, other_end) = list(_FEDAVG.items())[-1], list(_CENTRALIZED.items())[-1]
    gains = (end - start) - (other_end - other_start)
    of_gains = "These are the gains at the ends of both trainings."
    mistakes: dict[str, dict[float, str]] = {
        "matched": {gains: f"{of_gains} Where do both start from the same accuracy?"},
        "best": {
            gains: f"{of_gains} Here only the accuracy after personalization counts.",
            end - _CENTRALIZED[start]: "Centralized training goes on after that. Each at its own end.",
            start - other_start: "These are initial accuracies. What do users get in the end?",
        },
    }
    right = {"matched": _FEDAVG[50] - _CENTRALIZED[50], "best": end - other_end}
    for name, expected in right.items():
        words = mistakes[name] | {-expected: "The size is right. It is FedAvg minus centralized."}
        wrong = number(answer[name], expected, digits=None, mistakes=words)
        if wrong:
            return f"{name}: {wrong}"
    return None


Path = Sequence[float]


def _gain_at(target: float, initial: Path, personalized: Path) -> float:
    after = next(i for i, accuracy in enumerate(initial) if accuracy >= target)
    share = (target - initial[after - 1]) / (initial[after] - initial[after - 1])
    return personalized[after - 1] + share * (personalized[after] - personalized[after - 1]) - target


def _gain_after(target: float, initial: Path, personalized: Path) -> float:
    after = next(i for i, accuracy in enumerate(initial) if accuracy >= target)
    return personalized[after] - initial[after]


def _gain_nearest(target: float, initial: Path, personalized: Path) -> float:
    nearest = int(np.argmin(np.abs(np.array(initial) - target)))
    return personalized[nearest] - initial[nearest]


@exercise("05.2", stars=2)
def _interpolated_gain(answer: Any) -> str | None:
    """A function of a target and of both accuracies along a path: the gain where it first has the target."""
    falls_back = [20.0, 46.0, 30.0, 35.0, 42.0, 38.0, 60.0], [32.0, 66.0, 50.0, 54.0, 60.0, 58.0, 75.0]
    cases = [
        (50.0, [20.0, 40.0, 60.0], [30.0, 58.0, 74.0]),
        (45.0, [10.0, 42.0, 58.0, 64.0], [22.0, 60.0, 70.0, 77.0]),
        (40.0, *falls_back),
        (52.0, *falls_back),
    ]
    between = (
        "This is the gain of one of the points. Go between the point before the target and the one after."
    )
    return function(
        answer,
        _gain_at,
        cases,
        mistakes=[
            (_gain_after, between),
            (_gain_nearest, between),
            (
                lambda target, initial, personalized: _gain_at(target, initial, personalized) + target,
                "This is the personalized accuracy. The gain is what it adds to the initial one.",
            ),
        ],
        hint="Find the first point that has the target. How far is the target between it and the one before?",
    )


@exercise("05.3", stars=2)
def _best_of_four(answer: Any) -> str | None:
    """The chance that of four 95 % intervals around nothing at least one lies above 0."""
    above, rivals = 0.025, 4
    return number(
        answer,
        1 - (1 - above) ** rivals,
        unit="share",
        mistakes={
            1 - (1 - 2 * above) ** rivals: "This also counts intervals below 0, which nobody would report.",
            2 * above: "This is for one rival, and for both sides of 0.",
            above: "This is for one rival. How large is the chance that none of the four lies above 0?",
            rivals * above: "Nearly. The sum counts twice what happens to two rivals at once.",
            rivals * 2 * above: "The sum counts twice what happens to two at once, and both sides of 0.",
            (1 - above) ** rivals: "This is the chance that none does.",
            above**rivals: "This is the chance that all four do.",
        },
        hint="What is the chance that one interval lies above 0, and that none of the four does?",
    )


@exercise("05.4", stars=3)
def _agreement_of_halves(answer: Any, model: Model, clients: Sequence[Client]) -> str | None:
    """A function of model, params and client: the cosine of the gradients of two halves of its train part."""

    def half_gradients(params: Params, client: Client) -> list[Params]:
        x, y = torch.from_numpy(client.train_x), torch.from_numpy(client.train_y)
        middle = len(x) // 2
        halves = ((x[:middle], y[:middle], 0), (x[middle:], y[middle:], 0))
        return [gradient(model, params, half)[1] for half in halves]

    def agreement(params: Params, client: Client) -> float:
        first, second = half_gradients(params, client)
        return dot(first, second) / (norm(first) * norm(second))

    return function(
        partial(answer, model) if callable(answer) else answer,
        agreement,
        [(model.init(number), client) for number, client in enumerate(clients)],
        mistakes=[
            (
                lambda *case: dot(*half_gradients(*case)),
                "This is the inner product, which grows with the gradients' lengths. Divide by both.",
            ),
            (
                lambda *case: float(np.degrees(np.arccos(agreement(*case)))),
                "This is the angle. The cosine itself is asked for.",
            ),
            (lambda *case: 1.0, "1 for each client: are these the gradients of two different halves?"),
        ],
        hint="All parameters together make one long vector; do not average cosines of single layers.",
    )
