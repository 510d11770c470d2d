"""Settings of the evidence on claims 2 and 3: folds of clients crossed with training replicates.

What is written here was fixed before the first recorded run:

- **Crossed.** The clients are divided into folds; each is held out once. For every fold the whole comparison
  is trained several times. Such a *replicate* has its own seed for everything random in training: the first
  weights, which clients take part, the order of examples. All arms of a comparison share it.
- **Tuned once per fold**, on validation clients taken from the training clients, with replicates of its own.
  Every grid has three rates. If the best one is at an end of the grid, the grid is extended there by its own
  factor, at most `MOST_EXTENSIONS` times.
- **Long enough.** FedAvg, the rivals of claim 2b and centralized training end when the validation clients'
  initial accuracy has gained less than `FLAT` over the last third (`is_flat`), never before half the ceiling
  and at the latest at the ceiling. The result says which of the two ended it.
- **Two regimes**, as in the paper's Table 1: 20 clients a round and few local epochs (*stable*), 5 clients a
  round and many local epochs (*unstable*); in both the server has momentum 0.9.
- **The second stage taken apart**: FedAvg's update or Reptile's, with the server as before, with a smaller
  rate, or with Adam. FedAvg's update weighs clients by their examples and counts local work in epochs,
  Reptile's weighs them equally and counts steps: as many as FedAvg's epochs are for the mean training client,
  rounded (up to 6 % more). So as many rounds are as many gradients, and the two are not counted twice.
- **Claim 3** is about FedAvg at its best, so it is tested in the stable regime alone. Centralized SGD with
  momentum and the rate that is best for initial accuracy is what counts; notebook 05 shows a smaller and a
  larger rate, and Adam, beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from fl_meta.experiments.settings import RECORDED_SETTINGS, Setting

if TYPE_CHECKING:
    from fl_meta.experiments.table_one_settings import CrossedTableOne

Regime = Literal["stable", "unstable"]
Ended = Literal["flat", "ceiling", "fixed"]
"""What ended training: the rule, the ceiling, or a number of rounds set beforehand."""

FLAT = 0.001  # 0.1 points
MOST_EXTENSIONS = 2
MOMENTUM = 0.9  # of SGD at the server, and of centralized SGD

Update = Literal["FedAvg", "Reptile"]
Server = Literal["SGD as before", "SGD, smaller rate", "Adam"]
UPDATES: tuple[Update, ...] = ("FedAvg", "Reptile")
SERVERS: tuple[Server, ...] = ("SGD as before", "SGD, smaller rate", "Adam")


def second_stage_arm(update: Update, server: Server) -> str:
    """The name of an arm of the second stage.

    Example:
        >>> second_stage_arm("Reptile", "Adam")
        'Reptile, Adam'
    """
    return f"{update}, {server}"


def second_stage_arms(
    updates: Iterable[Update] = UPDATES, servers: Iterable[Server] = SERVERS
) -> tuple[str, ...]:
    """The names of the second stage's arms with these updates and servers.

    Example:
        >>> second_stage_arms(servers=["Adam"])
        ('FedAvg, Adam', 'Reptile, Adam')
    """
    servers = tuple(servers)
    return tuple(second_stage_arm(update, server) for update in updates for server in servers)


# Names of the arms. An arm is a trained model that is personalized to the held-out clients.
FEDAVG = "FedAvg"
CONTINUED = second_stage_arm("FedAvg", "SGD as before")
REPTILE = second_stage_arm("Reptile", "Adam")
FEDSGD = "FedSGD with Adam"
SMALL_E = "FedAvg(E=1)"
CENTRALIZED_SGD = "centralized SGD"
CENTRALIZED_SMALLER = "centralized SGD, smaller rate"
CENTRALIZED_LARGER = "centralized SGD, larger rate"
CENTRALIZED_ADAM = "centralized Adam"
CENTRALIZED = (CENTRALIZED_SGD, CENTRALIZED_SMALLER, CENTRALIZED_LARGER, CENTRALIZED_ADAM)


def matched_arms(centralized: str) -> tuple[str, str]:
    """The names of a centralized model and FedAvg's, at equal initial accuracy."""
    return f"{centralized}, matched", f"{FEDAVG}, matched to {centralized}"


@dataclass(frozen=True)
class Design:
    """The design for one data set, model and regime.

    Attributes:
        setting: data and model.
        regime: 'stable' or 'unstable'.
        folds: the clients are divided into this many folds.
        clients_per_round: clients sampled in each round.
        local_epochs: E of FedAvg.
        most_rounds: ceiling of FedAvg's rounds before the fork, and of the rivals' of claim 2b after it.
        every: rounds between evaluations of the validation clients.
        second_stage_rounds: rounds of each arm of the second stage.
        client_rates: grid for FedAvg's local SGD; the best is kept in all later federated arms.
        smaller_rates: grid for the smaller rate of SGD at the server, always below 1, the rate as before.
        adam_rates: grid for Adam at the server.
        small_e_rates: grid for the server of FedAvg(E=1), a rival of claim 2b.
        centralized_rates: grid for centralized SGD; empty where claim 3 is not tested.
        centralized_adam_rates: grid for centralized Adam.
        centralized_batch: examples in a centralized batch.
        most_steps: ceiling of centralized training.
        every_step: steps between evaluations of the validation clients.
        personalization_rates: grid for local SGD in personalization, for each arm separately.
        personalization_epochs: epochs of personalization.
        tuning_replicates: trainings whose mean decides in tuning; they have seeds of their own.

    Example:
        >>> design = DESIGNS["unipen62-unstable"]
        >>> design.clients_per_round, design.local_epochs
        (5, 10)
    """

    setting: Setting
    regime: Regime
    folds: int
    clients_per_round: int
    local_epochs: int
    most_rounds: int
    every: int
    second_stage_rounds: int
    client_rates: tuple[float, ...]
    smaller_rates: tuple[float, ...]
    adam_rates: tuple[float, ...]
    small_e_rates: tuple[float, ...]
    centralized_rates: tuple[float, ...]
    centralized_adam_rates: tuple[float, ...]
    centralized_batch: int
    most_steps: int
    every_step: int
    personalization_rates: tuple[float, ...]
    personalization_epochs: int
    tuning_replicates: int


@dataclass(frozen=True)
class Choice:
    """What tuning chose for one arm of one fold.

    Attributes:
        arm: the arm's name.
        rate: of the client (FedAvg before the fork), of the server, or of centralized training.
        rounds: rounds after the arm's start, or steps of centralized training.
        ended: what ended it.
        personalization_rate: rate of local SGD in personalization.
    """

    arm: str
    rate: float
    rounds: int
    ended: Ended
    personalization_rate: float


@dataclass(frozen=True)
class Crossed:
    """A design with what tuning chose for each of its folds: what one cell needs to be computed.

    Attributes:
        choices: for each fold the arms in the order in which they are trained.

    Example:
        >>> config = tuned(design, results)  # doctest: +SKIP
        >>> seeds = [cell_seed(design, fold=1, replicate=0)]  # doctest: +SKIP
        >>> fl_meta.evidence.load_or_run(config, seeds, folder)  # doctest: +SKIP
    """

    design: Design
    choices: tuple[tuple[Choice, ...], ...]

    @property
    def setting(self) -> Setting:
        """Data and model."""
        return self.design.setting

    @property
    def regime(self) -> Regime:
        """The design's regime."""
        return self.design.regime

    @property
    def folds(self) -> int:
        """Number of folds."""
        return self.design.folds


def cell_seed(design: Design | Crossed | CrossedTableOne, fold: int, replicate: int) -> int:
    """The seed of a cell: every cell has its own, so that runs of different folds are independent.

    Example:
        >>> cell_seed(DESIGNS["unipen62-stable"], fold=2, replicate=1)
        5
    """
    return fold + design.folds * replicate


_STABLE = Design(
    RECORDED_SETTINGS["unipen62"],
    "stable",
    folds=3,
    clients_per_round=20,
    local_epochs=2,
    most_rounds=240,
    every=5,
    second_stage_rounds=40,
    client_rates=(0.03, 0.1, 0.3),
    smaller_rates=(0.03, 0.1, 0.3),
    adam_rates=(1e-3, 3e-3, 1e-2),
    small_e_rates=(0.1, 0.3, 1.0),
    centralized_rates=(0.03, 0.1, 0.3),
    centralized_adam_rates=(3e-4, 1e-3, 3e-3),
    centralized_batch=50,
    most_steps=2400,
    every_step=50,
    personalization_rates=(0.03, 0.1, 0.3),
    personalization_epochs=5,
    tuning_replicates=1,
)
# E = 10 is the paper's best for the personalized model with 5 clients a round. Single trainings differ so
# much that tuning needs more than one.
_UNSTABLE: dict[str, Any] = {
    "regime": "unstable",
    "clients_per_round": 5,
    "local_epochs": 10,
    "centralized_rates": (),
    "tuning_replicates": 2,
}
# A role has at most one batch of lines, so there is less local work, yet on text it takes longer.
_TEXT: dict[str, Any] = {
    "most_rounds": 160,
    "second_stage_rounds": 30,
    "client_rates": (0.3, 1.0, 3.0),
    "centralized_rates": (0.1, 0.3, 1.0),
    "centralized_batch": 40,
    "most_steps": 1000,
    "every_step": 25,
    "personalization_rates": (0.1, 0.3, 1.0),
    "personalization_epochs": 3,
}
_UNSTABLE_TEXT = _UNSTABLE | {"local_epochs": 5, "tuning_replicates": 1}


def _designs() -> dict[str, Design]:
    designs = {}
    for name, setting in RECORDED_SETTINGS.items():
        text = "shakespeare" in name
        stable = replace(_STABLE, setting=setting, **(_TEXT if text else {}))
        designs[f"{name}-stable"] = stable
        designs[f"{name}-unstable"] = replace(stable, **(_UNSTABLE_TEXT if text else _UNSTABLE))
    # A CNN takes several times as long: fewer clients and rounds, and the regime in which claim 2a is told.
    designs["mnist_by_writer-small_cnn-unstable"] = replace(
        designs["mnist_by_writer-unstable"],
        setting=replace(RECORDED_SETTINGS["mnist_by_writer"], model="small_cnn", num_clients=120),
        local_epochs=5,
        most_rounds=120,
        second_stage_rounds=30,
        tuning_replicates=1,
    )
    return designs


DESIGNS = _designs()
"""The designs whose results the repository keeps, by name."""
