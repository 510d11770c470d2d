"""The exercises of lesson 03: right answers in several forms, and wrong ones that students give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from course_answers import assert_right, assert_wrong

RIGHT: list[tuple[str, Any]] = [
    ("03.1", [-0.01, 0.01, -0.01]),
    ("03.1", -0.01 * np.sign([0.002, -0.5, 30])),
    ("03.1", torch.tensor([-0.01, 0.01, -0.01])),
    ("03.2", ["FedAvg, Adam", "Reptile, Adam"]),
    ("03.2", {"Reptile, SGD as before", "FedAvg, SGD as before"}),
    ("03.2", ("reptile, sgd, smaller rate", "FedAvg, SGD, smaller rate")),
    ("03.3", lambda rate, pull, clients: rate * pull / (2 - rate * pull) / clients),
    ("03.3", lambda eta, c, M: (eta * c) ** 2 / M / (1 - (1 - eta * c) ** 2)),
    ("03.4", lambda steps, beta: (1 - beta) ** (2 * steps)),
    ("03.4", lambda K, b: np.exp(2 * K * np.log(1 - b))),
]
WRONG: list[tuple[str, Any, str]] = [
    ("03.1", [-0.00002, 0.005, -0.3], "SGD"),
    ("03.1", [0.01, -0.01, 0.01], "sign"),
    ("03.1", [0.01, 0.01, 0.01], "m / √s"),
    ("03.1", [-0.0316228, 0.0316228, -0.0316228], "divisions by 1 − 0.9"),
    ("03.1", 0.01, "shape"),
    ("03.2", "FedAvg, Adam", "two arms"),
    ("03.2", ["FedAvg, Adam"], "two arms"),
    ("03.2", ["FedAvg", "Reptile"], "none of"),
    ("03.2", ["FedAvg, SGD as before", "Reptile, Adam"], "servers differ"),
    ("03.2", ["FedAvg, SGD as before", "Reptile, SGD, smaller rate"], "servers differ"),
    ("03.2", ["FedAvg, Adam", "FedAvg, SGD as before"], "same update"),
    ("03.2", ["FedAvg, Adam", 3], "no choice"),
    ("03.3", lambda rate, pull, clients: rate * pull / 2 / clients, "small ηc only"),
    ("03.3", lambda rate, pull, clients: (rate * pull) ** 2 / clients, "one round adds"),
    ("03.3", lambda rate, pull, clients: rate * pull / (2 - rate * pull), "more clients"),
    ("03.3", lambda rate, pull, clients: rate * pull / (2 - rate * pull) / clients**2, "M numbers"),
    ("03.3", lambda rate, pull, clients: (rate * pull / (2 - rate * pull) / clients) ** 0.5, "standard"),
    ("03.3", lambda rate, pull, clients: rate / (2 - rate) / clients, "terms with v"),
    ("03.4", lambda steps, beta: (1 - beta) ** steps, "share of the distance"),
    ("03.4", lambda steps, beta: 1 - (1 - beta) ** (2 * steps), "takes away"),
    ("03.4", lambda steps, beta: 1 - (1 - beta) ** steps, "to its optimum"),
    ("03.4", lambda steps, beta: (1 - steps * beta) ** 2, "single step"),
    ("03.4", lambda steps, beta: beta ** (2 * steps), "θ − a"),
    ("03.4", 0.35, "without parentheses"),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers(name: str, answer: Any) -> None:
    assert_right(name, answer)


@pytest.mark.parametrize(("name", "answer", "word"), WRONG)
def test_wrong_answers_get_a_useful_word(name: str, answer: Any, word: str) -> None:
    assert_wrong(name, answer, word)
