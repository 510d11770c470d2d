"""Exercises of lesson 05: right answers in several forms, and wrong ones that students give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from course_answers import assert_right, assert_wrong
from small_crossed import tiny, toy_clients

DATA = toy_clients()
MODEL = {"model": tiny(DATA), "clients": [DATA[client_id] for client_id in DATA.client_ids[1:4]]}


def along(target: float, initial: Any, personalized: Any) -> float:
    """The gain, from the two points around the target."""
    around = slice(first_at_least(target, initial) - 1, first_at_least(target, initial) + 1)
    return float(np.interp(target, initial[around], personalized[around])) - target


def first_at_least(target: float, initial: Any) -> int:
    return int(np.argmax(np.array(initial) >= target))


def halves(model: Any, params: Any, client: Any, middle: int | None = None) -> list[torch.Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in params.values()]
    x, y = torch.from_numpy(client.train_x), torch.from_numpy(client.train_y)
    middle, found = len(x) // 2 if middle is None else middle, []
    for part in (slice(0, middle), slice(middle, None)):
        loss = model.loss(dict(zip(params, leaves, strict=True)), x[part], y[part])
        found.append(torch.autograd.grad(loss, leaves))
    return found


def flat(gradients: Any) -> torch.Tensor:
    return torch.cat([part.flatten() for part in gradients])


def cosine(*case: Any) -> float:
    first, second = map(flat, halves(*case))
    return float(first @ second / first.norm() / second.norm())


def cosine_of_layers(*case: Any) -> float:
    pairs = zip(*halves(*case), strict=True)
    cosines = [torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in pairs]
    return float(torch.stack(cosines).mean())


def same_batch(model: Any, params: Any, client: Any) -> float:
    _, everything = halves(model, params, client, middle=1)
    return float(torch.cosine_similarity(flat(everything), flat(everything), dim=0))


NONE: dict[str, Any] = {}
RIGHT: list[tuple[str, Any, dict[str, Any]]] = [
    ("05.1", {"matched": 3, "best": -2}, NONE),
    ("05.1", {"best": np.float64(-2), "matched": 3.0}, NONE),
    ("05.2", along, NONE),
    ("05.2", lambda target, initial, personalized: np.float32(along(target, initial, personalized)), NONE),
    ("05.3", 0.096, NONE),
    ("05.3", 1 - 0.975**4, NONE),
    ("05.4", cosine, MODEL),
    ("05.4", lambda *case: torch.tensor(cosine(*case)), MODEL),
]
WRONG: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("05.1", {"matched": 4, "best": -2}, "matched: These are the gains at the ends", NONE),
    ("05.1", {"matched": 3, "best": 2}, "best: The size is right. It is FedAvg minus", NONE),
    ("05.1", {"matched": 3, "best": 1}, "best: Centralized training goes on", NONE),
    ("05.1", {"matched": 3, "best": 4}, "Here only the accuracy after personalization", NONE),
    ("05.1", {"matched": 3, "best": -6}, "initial accuracies", NONE),
    ("05.1", {"matched": -3, "best": -2}, "FedAvg minus", NONE),
    ("05.1", 3, "two numbers", NONE),
    (
        "05.2",
        lambda target, i, p: p[first_at_least(target, i)] - i[first_at_least(target, i)],
        "Go between",
        NONE,
    ),
    ("05.2", lambda target, i, p: along(target, i, p) + target, "personalized accuracy", NONE),
    ("05.2", lambda target, i, p: -along(target, i, p), "sign", NONE),
    ("05.2", lambda target, i, p: p[-1] - i[-1], "first point that has the target", NONE),
    ("05.2", 12.0, "without parentheses", NONE),
    ("05.3", 0.05, "one rival, and for both sides", NONE),
    ("05.3", 0.025, "for one rival", NONE),
    ("05.3", 0.1, "twice", NONE),
    ("05.3", 0.2, "both sides", NONE),
    ("05.3", 1 - 0.95**4, "below 0", NONE),
    ("05.3", 0.975**4, "that none does", NONE),
    ("05.3", 9.6, "share", NONE),
    ("05.4", lambda *case: float(torch.dot(*map(flat, halves(*case)))), "Divide by both", MODEL),
    ("05.4", lambda *case: float(np.degrees(np.arccos(cosine(*case)))), "the angle", MODEL),
    ("05.4", same_batch, "two different halves", MODEL),
    ("05.4", cosine_of_layers, "one long vector", MODEL),
    ("05.4", lambda *case: -cosine(*case), "sign", MODEL),
]


@pytest.mark.parametrize(("name", "answer", "given"), RIGHT)
def test_right_answers(name: str, answer: Any, given: dict[str, Any]) -> None:
    assert_right(name, answer, **given)


@pytest.mark.parametrize(("name", "answer", "word", "given"), WRONG)
def test_wrong_answers_get_a_useful_word(name: str, answer: Any, word: str, given: dict[str, Any]) -> None:
    assert_wrong(name, answer, word, **given)
