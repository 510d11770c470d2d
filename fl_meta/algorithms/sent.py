"""What a client sends to the server, as a function of its local steps: where algorithms differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from fl_meta.models.parameters import Params

Batch = tuple[Tensor, Tensor, int]  # inputs, labels, dropout seed


@dataclass(frozen=True)
class LocalStep:
    """Local step j of a client.

    Attributes:
        params: θ_{j−1}, where the step starts.
        batch: inputs, labels and dropout seed of batch j.
        loss: the mean loss of the batch at θ_{j−1}, in nats.
        gradient: g_j, the gradient of that loss.
        direction: d_j with θ_j = θ_{j−1} − β d_j; it equals g_j without momentum, weight decay and FedProx's
            term. With momentum it is also the buffer after the step.
    """

    params: Params
    batch: Batch
    loss: float
    gradient: Params
    direction: Params


class SentGradients(Enum):
    """What the paper's algorithms send, in terms of the inner gradients.

    SUM is the client's whole movement, (θ_0 − θ_K) / β. With momentum, weight decay or FedProx's term that is
    the sum of the directions d_j.
    """

    FIRST = "g_1"
    SUM = "g_1 + … + g_K"
    LAST = "g_{K+1}"
    LAST_THROUGH_STEPS = "(∏(I − β∇²L)) g_{K+1}"


@dataclass(frozen=True)
class WeightedGradients:
    """A rule of your own that both engines run: w_1 g_1 + … + w_K g_K.

    Momentum, weight decay and FedProx's term shape the client's path but are not part of what is sent.

    Example:
        >>> average = WeightedGradients("g_1/K + … + g_K/K", lambda count: [1 / count] * count)
        >>> average.weights(4)
        [0.25, 0.25, 0.25, 0.25]

    Attributes:
        formula: what is sent, for histories and checkpoints; two rules of one formula count as the same.
        weights: given a client's number of local steps K, its K weights.
    """

    formula: str
    weights: Callable[[int], Sequence[float]]

    def of(self, steps: int) -> list[float]:
        """The weights of a client with that many local steps.

        Raises:
            ValueError: if the rule gives another number of weights.
        """
        weights = [float(weight) for weight in self.weights(steps)]
        if len(weights) != steps:
            raise ValueError(
                f"the rule {self.formula!r} gives {len(weights)} weights for a client with {steps} local "
                "steps; give one for each step"
            )
        return weights


# Any other rule: from a client's local steps to what it sends, with the names and shapes of the parameters.
# The loop engine runs it, whichever engine is asked for.
SendingRule = Callable[[Sequence[LocalStep]], Params]


def formula_of(sends: SentGradients | WeightedGradients | SendingRule) -> str:
    """What is sent, in a few characters; a function goes by its name."""
    if isinstance(sends, SentGradients):
        return sends.value
    if isinstance(sends, WeightedGradients):
        return sends.formula
    return getattr(sends, "__qualname__", type(sends).__qualname__)
