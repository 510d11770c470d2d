"""Exercises of lesson 01: FedAvg as a sum of first-order MAMLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fl_meta.course.answers import choice, number
from fl_meta.course.functions import Case, function
from fl_meta.course.registry import exercise
from fl_meta.experiments.expansion import COEFFICIENTS
from fl_meta.models.parameters import Params, add, scale, zeros_like

WEIGHTS = ("examples", "equal")
ALGORITHMS = ("FedAvg", "FedSGD", "FOMAML")


@exercise("01.1", stars=1)
def _gradients_of_reptile(answer: Any, K: int) -> str | None:
    """How many inner gradients a client of Reptile sends, summed up, after K local steps."""
    return number(
        answer,
        K,
        digits=None,
        mistakes={
            K + 1: "MAML and FOMAML take one more gradient, after the local steps. Does Reptile?",
            1: "One vector goes to the server. How many gradients are summed up in it?",
            K - 1: "With one local step, does Reptile send nothing? Count g₁ as well.",
            0: "The client sends where it ended up: the sum of its steps.",
        },
        hint="Each local step takes one gradient. Which of them does the sum leave out?",
    )


@exercise("01.2", stars=2)
def _weights_of_the_identity(answer: Any) -> str | None:
    """Client weights with which FedAvg(K) = FedSGD + FOMAML(1) + … + FOMAML(K−1) is exact.

    Either a word, FOMAML's weights beside the usual FedAvg and FedSGD, or a dictionary with all three's.
    """
    chosen = {"FedAvg": "examples", "FedSGD": "examples"}
    if isinstance(answer, Mapping):
        if set(map(str, answer)) != set(ALGORITHMS):
            return f"The dictionary needs the weights of {', '.join(ALGORITHMS)}, each once."
        chosen |= {name: answer[name] for name in ALGORITHMS}
    else:
        chosen["FOMAML"] = answer
    weights = {}
    for name, word in chosen.items():
        for option in WEIGHTS:
            if choice(word, option, WEIGHTS) is None:
                weights[name] = option
        if name not in weights:
            return choice(word, WEIGHTS, WEIGHTS)
    return _gap_of_the_identity(weights)


def _gap_of_the_identity(weights: Mapping[str, str]) -> str | None:
    """What is off with the identity, tried on random gradients of clients with unlike numbers of examples."""
    clients, steps = 4, 3
    gradients = torch.randn(
        clients, steps, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    counts = torch.tensor([1.0, 2.0, 5.0, 12.0], dtype=torch.float64)
    share = {"examples": counts / counts.sum(), "equal": torch.full_like(counts, 1 / clients)}

    def mean(sent: torch.Tensor, name: str) -> torch.Tensor:
        return share[weights[name]] @ sent

    whole = mean(gradients.sum(dim=1), "FedAvg")
    parts = mean(gradients[:, 0], "FedSGD")
    for later in range(1, steps):
        parts = parts + mean(gradients[:, later], "FOMAML")
    error = float((parts - whole).norm() / whole.norm())
    if error < 1e-12:
        return None
    return (
        f"With these weights the two sides are {error:.0%} apart, for four clients with 1 to 12 examples. "
        "Both sides are sums over the clients: what must a client count for on each?"
    )


@exercise("01.3", stars=2)
def _pseudo_gradient_of_fomaml(answer: Any) -> str | None:
    """FOMAML(K)'s pseudo-gradient from the inner gradients g₁ … g_{K+1} and the client rate."""

    def total(gradients: list[Params]) -> Params:
        result = zeros_like(gradients[0])
        for one in gradients:
            result = add(result, one)
        return result

    def in_both_forms(of_params: Any) -> Any:
        def apply(gradients: list[Any], rate: float) -> Any:
            if isinstance(gradients[0], dict):
                return of_params(gradients, rate)
            return of_params([{"": one} for one in gradients], rate)[""]

        return apply

    return function(
        answer,
        in_both_forms(lambda g, rate: scale(g[-1], rate)),
        _inner_gradients(),
        mistakes=[
            (in_both_forms(mistake), word)
            for mistake, word in (
                (
                    lambda g, rate: g[-1],
                    "This is what the client sends. The pseudo-gradient is as long as a local step would be: "
                    "what is missing?",
                ),
                (
                    lambda g, rate: scale(g[-2], rate),
                    "This is the gradient of the last local step. FOMAML looks at the loss after that step.",
                ),
                (
                    lambda g, rate: scale(g[0], rate),
                    "This is FedSGD: it looks before the local steps, not after.",
                ),
                (
                    lambda g, rate: scale(total(g), rate),
                    "This is FedAvg(K + 1): it sends the sum. FOMAML sends one gradient of the list.",
                ),
                (
                    lambda g, rate: scale(total(g[:-1]), rate),
                    "This is FedAvg(K), or Reptile(K): it sends the sum. FOMAML sends one gradient.",
                ),
                (
                    lambda g, rate: scale(total(g), rate / len(g)),
                    "This is the mean of all gradients. FOMAML sends one of them.",
                ),
                (
                    lambda g, rate: scale(g[-1], -rate),
                    "This is the step. The server steps against the pseudo-gradient: the minus is its own.",
                ),
            )
        ],
    )


def _inner_gradients() -> dict[str, list[Case]]:
    """Lists of K + 1 random gradients for several K, with a rate: as tensors, and as a model's parameters."""
    generator = torch.Generator().manual_seed(0)
    tensors: list[Case] = []
    params: list[Case] = []
    for steps, rate in ((1, 0.1), (2, 0.03), (3, 0.5), (5, 0.02)):
        flat = list(torch.randn(steps + 1, 6, generator=generator, dtype=torch.float64))
        tensors.append((flat, rate))
        params.append(([{"weight": one[:4].reshape(2, 2), "bias": one[4:]} for one in flat], rate))
    return {"parameters": params, "tensors": tensors}


@exercise("01.4", stars=3)
def _coefficient_of_fedavg(answer: Any) -> str | None:
    """The coefficient c of E[FedAvg(K)] = K · AvgGrad + c · AvgGradInner, as a function of K and β."""
    of_fedavg, of_fomaml, of_maml = (COEFFICIENTS[name] for name in ("FedAvg", "FOMAML", "MAML"))
    cases = [(1, 0.1), (2, 0.05), (3, 0.02), (5, 0.3), (8, 0.01)]
    return function(
        answer,
        lambda K, rate: of_fedavg(K) * rate,
        cases,
        mistakes=[
            (
                lambda K, rate: -of_fedavg(K) * rate,
                "The size is right. Look at the sign: the local steps go downhill, against the gradients.",
            ),
            (lambda K, rate: of_fedavg(K), "β is missing: without a step there is nothing but AvgGrad."),
            (lambda K, rate: -of_fedavg(K), "β is missing, and so is the sign of a step downhill."),
            (lambda K, rate: of_fomaml(K) * rate, "This is FOMAML(K)'s. FedAvg sums up several of these."),
            (lambda K, rate: of_maml(K) * rate, "This is MAML(K)'s."),
            (
                lambda K, rate: 2 * of_fedavg(K) * rate,
                "Twice too much: gradient j only feels the steps before it, so a pair of steps counts once.",
            ),
            (
                lambda K, rate: of_fedavg(K + 1) * rate,
                "Try K = 1: the only gradient is taken before any step. What must the coefficient be?",
            ),
            (
                lambda K, rate: -K * K / 2 * rate,
                "Try K = 1: the only gradient is taken before any step. What must the coefficient be?",
            ),
        ],
        hint="Write down what g₁, g₂ and g₃ are to first order in β, and add them up.",
    )
