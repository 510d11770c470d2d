"""The lessons' own exercises: right answers in several forms, and wrong ones that students give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from course_answers import assert_right, assert_wrong

from fl_meta.course import check
from fl_meta.evaluation.personalization import PersonalizationTable
from fl_meta.laboratories.artificial_clients import artificial_clients
from fl_meta.models import add, scale

K = 5


def same(weights: str) -> dict[str, str]:
    return dict.fromkeys(("FedAvg", "FedSGD", "FOMAML"), weights)


def table_of_epochs(*means: float) -> PersonalizationTable:
    """Two clients with the same accuracy after each epoch."""
    rows = [
        {"client_id": client, "epoch": epoch, "test_loss": 1.0, "test_accuracy": mean}
        | {"num_test_predictions": 10, "num_train_examples": 40}
        for client in "ab"
        for epoch, mean in enumerate(means)
    ]
    return PersonalizationTable(pd.DataFrame(rows), "toy (synthetic)")


EPOCHS = {"table": table_of_epochs(0.5, 0.6, 0.63)}
CLIENTS = {"artificial_clients": artificial_clients}
DIFFERENT = {"gain_of_different": 8.4}


def labels_of(alpha: float, statistic: Any = np.median) -> float:
    counts = artificial_clients(alpha)
    counts = counts[counts.any(axis=1)]
    return float(statistic((counts > 0).sum(axis=1)))


def bowls(weights: Callable[[Any, float, int], Any]) -> Callable[..., float]:
    """A student's function: a mean of the optima with weights from curvatures, rate and steps."""

    def point(optima: Any, curvatures: Any, rate: float, steps: int) -> float:
        return float(np.average(optima, weights=weights(curvatures, rate, steps)))

    return point


def searched(optima: Any, curvatures: Any, rate: float, steps: int) -> float:
    """The best start without the formula: the slope of the loss afterwards is linear in the start."""

    def slope(at: float) -> float:
        left = at - optima
        for _ in range(steps):
            left = left - rate * curvatures * left
        return float((curvatures * left * (1 - rate * curvatures) ** steps).sum())

    return -slope(0.0) / (slope(1.0) - slope(0.0))


def name_of(role: str) -> str:
    return role.split("/")[1]


def share_known(training: list[str], new: list[str]) -> float:
    return float(np.mean([name_of(role) in map(name_of, training) for role in new]))


def guess(
    counts: dict[str, dict[str, int]], text: str, *, choose: Callable[..., str] = max, end: int = 0
) -> str:
    """The 8-gram's guess, with an end left out of the text."""
    context = text[: len(text) - end][-7:]
    while context not in counts:
        context = context[1:]
    return choose(counts[context], key=counts[context].get)


def guess_by_cutting_the_end(counts: dict[str, dict[str, int]], text: str) -> str:
    context = text[-7:]
    while context not in counts:
        context = context[:-1]
    return max(counts[context], key=lambda one: counts[context][one])


def longest_first(counts: dict[str, dict[str, int]], text: str) -> str:
    ends = sorted((one for one in counts if text.endswith(one)), key=len)
    return sorted(counts[ends[-1]].items(), key=lambda pair: pair[1])[-1][0]


# Right answers in forms that students may write, and wrong ones with a word that the reply must have.
RIGHT: list[tuple[str, Any, dict[str, Any]]] = [
    ("00.1", 3.0, EPOCHS),
    ("00.1", 2.99, EPOCHS),
    ("00.2", {"count more": "many", "gain more": "Many"}, {}),
    ("00.3", -1.3, DIFFERENT),
    ("00.3", np.float64(0.4), DIFFERENT),
    ("00.3", 0, DIFFERENT),
    ("04.1", 1.5, {}),
    ("04.1", (4 - 1) / 2, {}),
    ("04.2", bowls(lambda h, rate, K: h * (1 - rate * h) ** (2 * K)), {}),
    ("04.2", searched, {}),
    ("04.3", bowls(lambda h, rate, K: 1 - (1 - rate * h) ** K), {}),
    ("04.3", bowls(lambda h, rate, K: sum(rate * h * (1 - rate * h) ** j for j in range(K))), {}),
    ("04.4", "premise not met", {}),
    ("04.4", "Premise not met.", {}),
    ("06.1", 1 / 6, {}),
    ("06.1", 0.17, {}),
    ("06.2", lambda logits, temperature: torch.softmax(logits / temperature, dim=-1), {}),
    ("06.2", lambda z, t: (z / t - torch.logsumexp(z / t, -1, keepdim=True)).exp(), {}),
    ("06.2", lambda z, t: np.exp(z.numpy() / t) / np.exp(z.numpy() / t).sum(-1, keepdims=True), {}),
    ("06.3", share_known, {}),
    (
        "06.3",
        lambda old, new: len([r for r in new if any(name_of(r) == name_of(o) for o in old)]) / len(new),
        {},
    ),
    ("06.4", guess, {}),
    ("06.4", longest_first, {}),
    ("07.1", 0.001, {}),
    ("07.1", 0.1 * 0.1 * 0.1, {}),
    ("07.2", {"by example": 0.86, "by client": 0.7}, {}),
    ("07.3", labels_of, CLIENTS),
    ("01.1", K, {"K": K}),
    ("01.1", 5.0, {"K": K}),
    ("01.1", 1, {"K": 1}),
    ("01.2", "examples", {}),
    ("01.2", " Examples", {}),
    ("01.2", same("examples"), {}),
    ("01.2", same("equal"), {}),
    ("01.3", lambda gradients, rate: rate * gradients[-1], {}),
    ("01.3", lambda gradients, rate: scale(gradients[-1], rate), {}),
    ("01.3", lambda gradients, rate: {n: rate * g for n, g in gradients[-1].items()}, {}),
    ("01.3", lambda gradients, rate: torch.stack(gradients)[-1] * rate, {}),
    ("01.3", lambda gradients, rate: np.asarray(gradients[len(gradients) - 1]) * rate, {}),
    ("01.3", lambda gradients, rate: gradients.pop() * rate, {}),
    ("01.4", lambda K, beta: -K * (K - 1) / 2 * beta, {}),
    ("01.4", lambda K, beta: -beta * sum(range(K)), {}),
    ("01.4", lambda K, beta: -beta * sum(1 for j in range(K) for _ in range(j)), {}),
]
WRONG: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("00.1", 0.03, "share", EPOCHS),
    ("00.1", 13.0, "both epochs", EPOCHS),
    ("00.1", 10.0, "first epoch", EPOCHS),
    ("00.1", -3.0, "sign", EPOCHS),
    ("00.2", {"count more": "few", "gain more": "many"}, "count more: In a mean over examples", {}),
    ("00.2", {"count more": "many", "gain more": "few"}, "gain more: With how many", {}),
    ("00.2", "many", "two words", {}),
    ("00.3", 8.0, "style=0 and label_skew=0", DIFFERENT),
    ("00.3", "none", "number", DIFFERENT),
    ("00.3", float("nan"), "is nan", DIFFERENT),
    ("04.1", 2.5, "half of their distance", {}),
    ("04.1", 4, "Who needs an advantage", {}),
    ("04.1", 0.7, "What remains the same", {}),
    ("04.2", bowls(lambda h, rate, K: h * (1 - rate * h) ** K), "square of the distance", {}),
    ("04.2", bowls(lambda h, rate, K: (1 - rate * h) ** (2 * K)), "how much loss", {}),
    ("04.2", bowls(lambda h, rate, K: h), "Where do the steps", {}),
    ("04.2", bowls(lambda h, rate, K: np.ones_like(h)), "the middle", {}),
    ("04.2", bowls(lambda h, rate, K: 1 - (1 - rate * h) ** K), "where FedAvg", {}),
    ("04.2", lambda optima, curvatures, rate, steps: optima, "shape", {}),
    ("04.2", 0.72, "without parentheses", {}),
    ("04.3", bowls(lambda h, rate, K: h), "a single local step", {}),
    ("04.3", bowls(lambda h, rate, K: np.ones_like(h)), "very many steps", {}),
    ("04.3", bowls(lambda h, rate, K: h * (1 - rate * h) ** (2 * K)), "the best start", {}),
    ("04.3", bowls(lambda h, rate, K: (1 - rate * h) ** K), "How far has the client moved", {}),
    ("04.3", bowls(lambda h, rate, K: 1 - (1 - rate * h) ** (K + 1)), "add up to 0", {}),
    ("04.4", "reproduced", "better in initial accuracy", {}),
    ("04.4", "contradicted", "presuppose", {}),
    ("04.4", "undecided", "speak of such a rival", {}),
    ("04.4", "no difference", "speak of such a rival", {}),
    ("04.4", "not met", "none of", {}),
    ("06.1", 0.83, "anybody's messages", {}),
    ("06.1", 0.3, "the points", {}),
    ("06.1", 0.2, "it is the whole", {}),
    ("06.1", 17, "per cent", {}),
    ("06.2", lambda z, t: torch.softmax(z * t, -1), "less sure", {}),
    ("06.2", lambda z, t: torch.softmax(z, -1) / t, "add up to 1", {}),
    ("06.2", lambda z, t: torch.softmax(z, -1), "changes nothing", {}),
    ("06.2", lambda z, t: torch.softmax(z / t, 0), "last axis", {}),
    ("06.2", lambda z, t: z / t, "then take the softmax", {}),
    ("06.3", lambda old, new: share_known(new, old), "new or training", {}),
    ("06.3", lambda old, new: len(set(old) & set(new)) / len(new), "Whole ids never meet", {}),
    ("06.3", lambda old, new: 100 * share_known(old, new), "per cent", {}),
    ("06.3", lambda old, new: 1 - share_known(old, new), "names are new", {}),
    ("06.3", lambda old, new: share_known(old, new) * len(new), "how many", {}),
    (
        "06.3",
        lambda old, new: np.mean([r.split("/")[0] in {o.split("/")[0] for o in old} for r in new]),
        "These are the plays",
        {},
    ),
    ("06.4", lambda counts, text: guess(counts, text, choose=min), "*least* frequent", {}),
    ("06.4", lambda counts, text: guess(counts, text[:7]), "*last* seven", {}),
    ("06.4", lambda counts, text: guess(counts, text, end=1), "returns", {}),
    ("06.4", lambda counts, text: guess(counts, text[-2:]), "returns", {}),
    ("06.4", lambda counts, text: guess(counts, text[-6:]), "last* seven", {}),
    ("06.4", lambda counts, text: guess(counts, ""), "last* seven", {}),
    ("06.4", guess_by_cutting_the_end, "at the *front*", {}),
    ("06.4", lambda counts, text: max(counts[text]), "raises KeyError", {}),
    ("06.4", "e", "without parentheses", {}),
    ("07.1", 0.01, "twice", {}),
    ("07.1", 0.1, "released", {}),
    ("07.2", {"by example": 0.7, "by client": 0.86}, "wrong way round", {}),
    ("07.2", {"by example": 86, "by client": 0.7}, "per cent", {}),
    ("07.2", 0.86, "both means", {}),
    ("07.3", lambda alpha: labels_of(alpha, np.mean), "the mean", CLIENTS),
    (
        "07.3",
        lambda alpha: float(np.median((artificial_clients(alpha) > 0).sum(0))),
        "clients of a label",
        CLIENTS,
    ),
    ("07.3", lambda alpha: 62, "above 0", CLIENTS),
    ("01.1", K + 1, "MAML and FOMAML", {"K": K}),
    ("01.1", 1, "summed up", {"K": K}),
    ("01.1", K - 1, "Count g₁", {"K": K}),
    ("01.1", 0, "where it ended up", {"K": K}),
    ("01.1", 2 * K, "too large", {"K": K}),
    ("01.1", 3, "Each local step takes one", {"K": K}),
    ("01.1", "K", "without quotation marks", {"K": K}),
    ("01.2", "equal", "apart", {}),
    ("01.2", same("equal") | {"FOMAML": "examples"}, "apart", {}),
    ("01.2", same("examples") | {"FOMAML": "equal"}, "apart", {}),
    ("01.2", same("examples") | {"FedSGD": "equal"}, "apart", {}),
    ("01.2", {"FOMAML": "examples"}, "FedAvg, FedSGD, FOMAML", {}),
    ("01.2", "number of examples", "none of: examples, equal", {}),
    ("01.2", [0.1, 0.9], "between quotation marks", {}),
    ("01.3", lambda gradients, rate: gradients[-1], "what is missing", {}),
    ("01.3", lambda gradients, rate: rate * gradients[-2], "last local step", {}),
    ("01.3", lambda gradients, rate: rate * gradients[0], "FedSGD", {}),
    ("01.3", lambda gradients, rate: rate * sum(gradients), "the sum", {}),
    ("01.3", lambda gradients, rate: rate * sum(gradients[:-1]), "Reptile(K)", {}),
    ("01.3", lambda gradients, rate: rate * sum(gradients) / len(gradients), "mean of all", {}),
    ("01.3", lambda gradients, rate: -rate * gradients[-1], "minus is its own", {}),
    ("01.3", lambda gradients, rate: scale(gradients[-2], rate), "last local step", {}),
    ("01.3", lambda gradients, rate: scale(add(gradients[0], gradients[-1]), rate), "right for 0", {}),
    ("01.3", lambda gradients: gradients[-1], "raises TypeError", {}),
    ("01.3", lambda gradients, rate: rate * gradients, "raises TypeError", {}),
    ("01.3", torch.zeros(6), "without parentheses", {}),
    ("01.4", lambda K, beta: K * (K - 1) / 2 * beta, "downhill", {}),
    ("01.4", lambda K, beta: -K * (K - 1) / 2, "β is missing", {}),
    ("01.4", lambda K, beta: K * (K - 1) / 2, "sign", {}),
    ("01.4", lambda K, beta: -K * (K - 1) * beta, "counts once", {}),
    ("01.4", lambda K, beta: -K * (K + 1) / 2 * beta, "Try K = 1", {}),
    ("01.4", lambda K, beta: -K * K / 2 * beta, "Try K = 1", {}),
    ("01.4", lambda K, beta: -K * beta, "FOMAML(K)", {}),
    ("01.4", lambda K, beta: -2 * K * beta, "MAML(K)", {}),
    ("01.4", lambda K, beta: -K * (K - 1) / 2 * beta**2, "One where it is not: 2, 0.05", {}),
    ("01.4", lambda K, beta: -(K - 1) * beta, "g₁, g₂ and g₃", {}),
    ("01.4", -10 * 0.1, "without parentheses", {}),
]


@pytest.mark.parametrize(("name", "answer", "given"), RIGHT)
def test_right_answers(name: str, answer: Any, given: dict[str, Any]) -> None:
    assert_right(name, answer, **given)


@pytest.mark.parametrize(("name", "answer", "word", "given"), WRONG)
def test_wrong_answers_get_a_useful_word(name: str, answer: Any, word: str, given: dict[str, Any]) -> None:
    assert_wrong(name, answer, word, **given)


@pytest.mark.parametrize("steps", [13, 27])
def test_no_reply_tells_how_many_gradients(steps: int) -> None:
    for answer in (*range(steps), *range(steps + 1, 40)):
        assert str(steps) not in repr(check.answer("01.1", answer, K=steps)).replace("01.1", "")
