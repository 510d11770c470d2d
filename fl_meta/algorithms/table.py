"""The table of algorithms. Its rows differ only in which inner gradients a client sends to the server.

Client i runs local SGD with rate β from the global parameters θ: θ_0 = θ, g_j = ∇L_i(θ_{j−1}; batch j),
θ_j = θ_{j−1} − β g_j. Then

| algorithm  | local steps | sends                  | client weights | usual server   |
|------------|-------------|------------------------|----------------|----------------|
| FedSGD     | 1           | g_1                    | examples       | SGD            |
| FedAvg(E)  | E epochs    | g_1 + … + g_K          | examples       | SGD + momentum |
| FedProx(E) | E epochs    | g_1 + … + g_K          | examples       | SGD + momentum |
| Reptile(K) | K           | g_1 + … + g_K          | equal          | Adam           |
| FOMAML(K)  | K + 1       | g_{K+1}                | equal          | Adam           |
| MAML(K)    | K + 1       | (∏(I − β∇²L)) g_{K+1}  | equal          | Adam           |

FedProx is FedAvg with one more term in each client's loss: L_i(θ) + μ/2·‖θ − θ_0‖².

The server's pseudo-gradient is β times the weighted mean of what the clients send, in every row. So FedAvg
with server SGD(1.0) is the plain average of the clients' models.

Source: the paper's sections on FedAvg, Reptile and MAML; MAML is Finn et al. 2017,
Reptile Nichol et al. 2018, FedProx Li et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.sent import SendingRule, SentGradients, WeightedGradients, formula_of
from fl_meta.support.validation import whole_number

ClientWeights = Literal["examples", "equal"]


@dataclass(frozen=True)
class LocalWork:
    """What a client does in a round, apart from what it sends.

    Attributes:
        client: the client optimizer.
        batch_size: examples per local batch; None means all of a client's train part.
        epochs: number of local epochs, 0 or more; None if the work is counted in steps.
        steps: number of local steps; None if counted in epochs.
        proximal: FedProx's μ.
    """

    client: SGD
    batch_size: int | None
    epochs: int | None
    steps: int | None = None
    proximal: float = 0.0


@dataclass(frozen=True)
class Algorithm:
    """One row of the table.

    A row of your own takes another `sends`; `examples/own_algorithm.py` has two.

    Example:
        >>> fedavg(epochs=5, client=SGD(0.05)).name
        'FedAvg(E=5)'

    Attributes:
        name: shown in histories and plots.
        sends: what goes to the server: one of the paper's combinations of inner gradients,
            `WeightedGradients`, or a function of the client's local steps.
        epochs: number of local epochs E; None if the work is counted in steps.
        steps: number of local steps K before the gradient that is sent; None if counted in epochs.
        weights: 'examples' weights a client by its number of train examples, 'equal' weights all the same.
        client: the client optimizer; its learning rate is β.
        server: the server optimizer.
        batch_size: examples per local batch; None means all of a client's train part.
        proximal: FedProx's μ, 0 or more: the local loss has the term μ/2·‖θ − θ_0‖².
        keeps_momentum: whether each client's momentum buffer carries over from round to round and from stage
            to stage, as if the client had one `torch.optim.SGD` for the whole run. Otherwise it starts at
            zero in every round.

    FOMAML and MAML, which send g_{K+1} alone, refuse `proximal` and `keeps_momentum`: they discard their
    local steps, and MAML's product has no such terms.
    """

    name: str
    sends: SentGradients | WeightedGradients | SendingRule
    epochs: int | None
    steps: int | None
    weights: ClientWeights
    client: SGD
    server: SGD | Adam
    batch_size: int | None
    proximal: float = 0.0
    keeps_momentum: bool = False

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"{self.name}: give either epochs or steps, not both or neither")
        for field in ("epochs", "steps", "batch_size"):
            if getattr(self, field) is not None:
                number = whole_number(f"{self.name}: {field}", getattr(self, field))
                object.__setattr__(self, field, number)
        if not isinstance(self.client, SGD) or not isinstance(self.server, (SGD, Adam)):
            raise ValueError(
                f"{self.name}: client={self.client!r} and server={self.server!r}; give optimizers, for "
                "example client=SGD(0.02), server=Adam(1e-3) (a client's is always SGD)"
            )
        if not isinstance(self.sends, (SentGradients, WeightedGradients)) and not callable(self.sends):
            raise ValueError(
                f"{self.name}: sends={self.sends!r}; give a SentGradients, WeightedGradients, or a "
                "function from a client's local steps to what it sends"
            )
        if self.sends is SentGradients.FIRST and self.steps != 1:
            raise ValueError(
                f"{self.name} sends g_1 alone, so it makes one local step: steps=1, not epochs={self.epochs} "
                f"or steps={self.steps}"
            )
        if self.weights not in ("examples", "equal"):
            raise ValueError(f"{self.name}: weights={self.weights!r}; choose 'examples' or 'equal'")
        if not 0 <= self.proximal < float("inf"):
            raise ValueError(f"{self.name}: proximal (FedProx's mu) = {self.proximal} is not 0 or more")
        object.__setattr__(self, "proximal", float(self.proximal))  # NumPy's numbers have no JSON
        if (self.proximal or self.keeps_momentum) and self.sends_last:
            raise ValueError(
                f"{self.name} sends {formula_of(self.sends)}, so it takes neither proximal={self.proximal} "
                f"nor keeps_momentum={self.keeps_momentum}; both are for FedAvg, FedProx, Reptile and FedSGD"
            )
        if self.keeps_momentum and not self.client.momentum:
            raise ValueError(
                f"{self.name}: keeps_momentum=True, but the client's momentum is 0; give it one, for example "
                "client=SGD(0.02, momentum=0.9)"
            )

    @property
    def sends_last(self) -> bool:
        """Whether g_{K+1} is sent, which is not followed by a local step."""
        return self.sends in (SentGradients.LAST, SentGradients.LAST_THROUGH_STEPS)

    @property
    def planned_steps(self) -> int | None:
        """Number of batches a client needs: K, or K + 1 if g_{K+1} is sent; None if counted in epochs."""
        if self.steps is None:
            return None
        return self.steps + self.sends_last

    @property
    def second_order(self) -> bool:
        """Whether what a client sends has second derivatives in it, as MAML's does."""
        return self.sends is SentGradients.LAST_THROUGH_STEPS

    @property
    def local_work(self) -> LocalWork:
        """What a client does in a round, apart from what it sends."""
        return LocalWork(self.client, self.batch_size, self.epochs, self.planned_steps, self.proximal)

    def weight(self, num_examples: int) -> int:
        """The weight of a client with `num_examples` train examples."""
        return num_examples if self.weights == "examples" else 1


def fedsgd(
    *,
    client: SGD = SGD(0.02),
    server: SGD | Adam = SGD(1.0),
    weights: ClientWeights = "examples",
    batch_size: int | None = 20,
) -> Algorithm:
    """FedSGD: one gradient per client and round. With server SGD(1.0) the step is β·g_1.

    Example:
        >>> fl_meta.fedsgd(client=fl_meta.SGD(0.1), server=fl_meta.Adam(1e-3)).planned_steps
        1
    """
    return Algorithm(
        name="FedSGD",
        sends=SentGradients.FIRST,
        epochs=None,
        steps=1,
        weights=weights,
        client=client,
        server=server,
        batch_size=batch_size,
    )


def fedavg(
    epochs: int | None = None,
    *,
    steps: int | None = None,
    client: SGD = SGD(0.02),
    server: SGD | Adam = SGD(1.0, momentum=0.9),
    weights: ClientWeights = "examples",
    batch_size: int | None = 20,
    keeps_momentum: bool = False,
) -> Algorithm:
    """FedAvg(E) with `epochs` local epochs, or FedAvg(K) with exactly `steps` local steps.

    Example:
        >>> fl_meta.fedavg(epochs=5).name, fl_meta.fedavg(steps=10).name
        ('FedAvg(E=5)', 'FedAvg(K=10)')

    With client momentum or weight decay a client still sends its whole movement, (θ_0 − θ_K) / β.
    The default server, SGD(1.0) with momentum 0.9, comes from published code that claims to follow the
    paper; `server=SGD(1.0)` is plain averaging.

    Source: McMahan et al. 2017; for the server's momentum, code that follows the paper (second-hand).
    """
    name = f"FedAvg(E={epochs})" if steps is None else f"FedAvg(K={steps})"
    return Algorithm(
        name=name,
        sends=SentGradients.SUM,
        epochs=epochs,
        steps=steps,
        weights=weights,
        client=client,
        server=server,
        batch_size=batch_size,
        keeps_momentum=keeps_momentum,
    )


def fedprox(
    mu: float,
    epochs: int | None = None,
    *,
    steps: int | None = None,
    client: SGD = SGD(0.02),
    server: SGD | Adam = SGD(1.0, momentum=0.9),
    weights: ClientWeights = "examples",
    batch_size: int | None = 20,
    keeps_momentum: bool = False,
) -> Algorithm:
    """FedProx: FedAvg whose clients also minimize μ/2·‖θ − θ_0‖², so that they stay near the global model.

    With `mu=0` it is FedAvg. The term is part of the loss, so with momentum its gradient μ(θ − θ_0) goes
    through the momentum buffer like the rest.

    Example:
        >>> fl_meta.fedprox(0.1, epochs=5).name
        'FedProx(mu=0.1, E=5)'

    Source: Li et al. 2020, "Federated Optimization in Heterogeneous Networks". FedEM's released code (Marfoq
    et al. 2021) runs FedProx without client momentum, so there it does not matter where the term is added.
    """
    name = f"FedProx(mu={mu}, E={epochs})" if steps is None else f"FedProx(mu={mu}, K={steps})"
    return Algorithm(
        name=name,
        sends=SentGradients.SUM,
        epochs=epochs,
        steps=steps,
        weights=weights,
        client=client,
        server=server,
        batch_size=batch_size,
        proximal=mu,
        keeps_momentum=keeps_momentum,
    )


def reptile(
    steps: int,
    *,
    client: SGD = SGD(0.02),
    server: SGD | Adam = Adam(1e-3),
    weights: ClientWeights = "equal",
    batch_size: int | None = 20,
    keeps_momentum: bool = False,
) -> Algorithm:
    """Reptile(K): K local steps, all clients weighted the same (Nichol et al. 2018).

    Example:
        >>> fl_meta.reptile(10, server=fl_meta.Adam(1e-3)).weights
        'equal'
    """
    name = f"Reptile({steps})"
    return Algorithm(
        name=name,
        sends=SentGradients.SUM,
        epochs=None,
        steps=steps,
        weights=weights,
        client=client,
        server=server,
        batch_size=batch_size,
        keeps_momentum=keeps_momentum,
    )


def fomaml(
    steps: int,
    *,
    client: SGD = SGD(0.02),
    server: SGD | Adam = Adam(1e-3),
    weights: ClientWeights = "equal",
    batch_size: int | None = 20,
) -> Algorithm:
    """First-order MAML(K): the gradient of batch K + 1 at θ_K, as if it were taken at θ_0.

    Example:
        >>> fl_meta.fomaml(5).planned_steps
        6
    """
    return Algorithm(
        name=f"FOMAML({steps})",
        sends=SentGradients.LAST,
        epochs=None,
        steps=steps,
        weights=weights,
        client=client,
        server=server,
        batch_size=batch_size,
    )


def maml(
    steps: int,
    *,
    client: SGD = SGD(0.02),
    server: SGD | Adam = Adam(1e-3),
    weights: ClientWeights = "equal",
    batch_size: int | None = 20,
) -> Algorithm:
    """MAML(K) with its exact second order: the gradient of batch K + 1 through the K local steps.

    Example:
        >>> fl_meta.maml(5).sends.value
        '(∏(I − β∇²L)) g_{K+1}'
    """
    return Algorithm(
        name=f"MAML({steps})",
        sends=SentGradients.LAST_THROUGH_STEPS,
        epochs=None,
        steps=steps,
        weights=weights,
        client=client,
        server=server,
        batch_size=batch_size,
    )
