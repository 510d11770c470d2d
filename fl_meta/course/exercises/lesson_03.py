"""Exercises of lesson 03: the second stage."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fl_meta.course.answers import choice
from fl_meta.course.functions import function, values
from fl_meta.course.registry import exercise
from fl_meta.experiments.crossed_settings import second_stage_arms

_FIRST_GRADIENTS = (0.002, -0.5, 30.0)
_RATE = 0.01


@exercise("03.1", stars=1)
def _first_step(answer: Any) -> str | None:
    """How Adam's first step changes three parameters: by the rate, against the sign of each."""
    right = [-_RATE if gradient > 0 else _RATE for gradient in _FIRST_GRADIENTS]
    mistakes = {
        "This is a step of SGD. Adam divides by the root of the squares.": [
            -_RATE * gradient for gradient in _FIRST_GRADIENTS
        ],
        "This leaves out the divisions by 1 − 0.9ᵗ and 1 − 0.999ᵗ.": [
            change * 0.1 / 0.001**0.5 for change in right
        ],
    }
    for word, mistake in mistakes.items():
        if values(answer, mistake) is None:
            return word
    return values(answer, right, hint="What is m / √s in the first round?")


@exercise("03.2", stars=1)
def _one_change(answer: Any) -> str | None:
    """Two arms of the second stage that differ in the clients' update alone: any two with one server."""
    if isinstance(answer, str) or not isinstance(answer, Collection) or len(answer) != 2:
        return "Give the names of two arms: ['…', '…']."
    arms = second_stage_arms()
    for arm in answer:
        if wrong := choice(arm, arms, arms):
            return wrong
    first, second = (arm.casefold() for arm in answer)
    if ("reptile" in first) == ("reptile" in second):
        return "These two have the same update."
    if any((server in first) != (server in second) for server in ("adam", "smaller")):
        return "Their servers differ as well. To which of the two changes would the difference be due?"
    return None


@exercise("03.3", stars=2)
def _noise(answer: Any) -> str | None:
    """A function of rate η, pull c and clients M: the variance of the model once training has settled."""
    return function(
        answer,
        lambda rate, pull, clients: rate * pull / (2 - rate * pull) / clients,
        [(1.0, 0.5, 5), (0.1, 0.5, 20), (0.3, 0.9, 2), (1.5, 1.0, 10)],
        mistakes=[
            (
                lambda rate, pull, clients: rate * pull / 2 / clients,
                "This is right for small ηc only. Do not drop a term of (1 − ηc)².",
            ),
            (
                lambda rate, pull, clients: (rate * pull) ** 2 / clients,
                "This is what one round adds. What is left of earlier rounds?",
            ),
            (
                lambda rate, pull, clients: rate * pull / (2 - rate * pull),
                "What do more clients a round change?",
            ),
            (
                lambda rate, pull, clients: rate * pull / (2 - rate * pull) / clients**2,
                "The mean of M numbers has the variance σ² / M.",
            ),
            (
                lambda rate, pull, clients: (rate * pull / (2 - rate * pull) / clients) ** 0.5,
                "This is the standard deviation. The question asks for the variance.",
            ),
        ],
        hint="Bring all terms with v to one side.",
    )


@exercise("03.4", stars=3)
def _share_left(answer: Any) -> str | None:
    """A function of K and β: the share of the excess loss that personalization leaves."""
    return function(
        answer,
        lambda steps, beta: (1 - beta) ** (2 * steps),
        [(1, 0.1), (5, 0.1), (3, 0.5), (10, 0.02)],
        mistakes=[
            (
                lambda steps, beta: (1 - beta) ** steps,
                "This is the share of the distance. How does the loss depend on the distance?",
            ),
            (
                lambda steps, beta: 1 - (1 - beta) ** (2 * steps),
                "This is the share that personalization takes away. How much is left?",
            ),
            (
                lambda steps, beta: 1 - (1 - beta) ** steps,
                "This is the way that a client comes to its optimum. How much of the excess loss is left?",
            ),
            (
                lambda steps, beta: (1 - steps * beta) ** 2,
                "This is right for a single step. Further steps go on from where the last one ended.",
            ),
        ],
        hint="Begin with one step: what becomes of θ − a?",
    )
