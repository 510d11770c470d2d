"""Initial and personalized accuracy of each client, after every epoch of adaptation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import Literal

import numpy as np
import pandas as pd

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import Algorithm, LocalWork
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.client_momentum import ClientMomentum
from fl_meta.engines.interface import Engine
from fl_meta.engines.local_training import smallest_batch
from fl_meta.engines.task import Task, engine_named
from fl_meta.engines.threads import one_thread
from fl_meta.evaluation.bootstrap import bootstrap_mean
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.models.requirements import check_model
from fl_meta.support.validation import whole_number


@dataclass(frozen=True, repr=False)
class PersonalizationTable:
    """One row per client and epoch; epoch 0 is the initial model, the others are personalized.

    Example:
        >>> table = fl_meta.personalize(model, params, held_out, epochs=1)
        >>> table.accuracies().shape  # clients, epochs
        (10, 2)

    Attributes:
        rows: columns client_id, epoch, test_loss (nats per prediction), test_accuracy (in [0, 1]),
            num_test_predictions, num_train_examples.
        data_label: the data set's name for plots.
    """

    rows: pd.DataFrame
    data_label: str

    def accuracies(self) -> pd.DataFrame:
        """Test accuracy in [0, 1]: one row per client, one column per epoch."""
        return self.rows.pivot(index="client_id", columns="epoch", values="test_accuracy")

    def summary(self, weights: Literal["client", "example"] = "client", *, seed: int = 0) -> pd.DataFrame:
        """One row per epoch, compared with epoch 0 of the same clients.

        In the columns below `…` is `by_client` (all clients count the same) or `by_example` (all test
        predictions count the same):

        - `test_loss_…`: in nats;
        - `test_accuracy_…`: in [0, 1];
        - `gain_…`: personalized − initial accuracy, with `gain_low` and `gain_high`, its 95 % paired
          bootstrap interval over clients; NaN at epoch 0;
        - `share_of_clients_hurt`: the share whose accuracy fell below the initial one; NaN at epoch 0;
        - `bottom_decile_of_clients`: the 10 % quantile of accuracy over clients (NumPy's method "linear"),
          with every client counted once whatever `weights` is.

        Raises:
            ValueError: if `weights` is neither 'client' nor 'example'.
        """
        if weights not in ("client", "example"):
            raise ValueError(f"weights={weights!r}; choose 'client' or 'example'")
        initial = self.rows[self.rows.epoch == 0].set_index("client_id")
        weight = initial.num_test_predictions.to_numpy(float)
        weight = weight if weights == "example" else np.ones_like(weight)
        result = []
        for epoch, rows in self.rows.groupby("epoch"):
            now = rows.set_index("client_id").loc[initial.index]
            difference = (now.test_accuracy - initial.test_accuracy).to_numpy(float)
            gain = bootstrap_mean(difference, weight, seed=seed)
            personalized = epoch != 0
            result.append(
                {
                    "epoch": epoch,
                    f"test_loss_by_{weights}": np.average(now.test_loss, weights=weight),
                    f"test_accuracy_by_{weights}": np.average(now.test_accuracy, weights=weight),
                    f"gain_by_{weights}": gain.estimate if personalized else np.nan,
                    "gain_low": gain.low if personalized else np.nan,
                    "gain_high": gain.high if personalized else np.nan,
                    "share_of_clients_hurt": (difference < 0).mean() if personalized else np.nan,
                    "bottom_decile_of_clients": np.quantile(now.test_accuracy, 0.1),
                }
            )
        return pd.DataFrame(result).set_index("epoch")

    def __repr__(self) -> str:
        clients = self.rows.client_id.nunique()
        return f"{clients} clients of {self.data_label}, by client\n{self.summary().round(4).to_string()}"

    def _repr_html_(self) -> str:
        clients = self.rows.client_id.nunique()
        title = escape(f"{clients} clients of {self.data_label}, by client")
        return f"<b>{title}</b>{self.summary().round(4).to_html()}"


def personalize(
    model: Model,
    params: Params,
    data: FederatedDataset,
    *,
    epochs: int = 5,
    every: int = 1,
    client: SGD = SGD(0.02),
    batch_size: int | None = 20,
    seed: int = 0,
    engine: str | Engine = "stacked",
) -> PersonalizationTable:
    """Adapt to each client's train part for `epochs` epochs; score on its test part before and after each.

    `epochs=0` scores the initial model only. From untrained parameters this is local-only training. One
    epoch with the client optimizer of the last training stage is FedAvg+ (Marfoq et al. 2021).

    Example:
        >>> table = fl_meta.personalize(model, params, held_out, epochs=2, client=fl_meta.SGD(0.1))
        >>> table.summary().columns[1]
        'test_accuracy_by_client'

    Args:
        model: the model.
        params: the parameters of the initial (global) model; they are adapted on the device where they are.
        data: the clients, usually ones that training never saw.
        epochs: number of adaptation epochs, 0 or more.
        every: score after this many epochs; also before the first and after the last.
        client: the client optimizer; the paper uses that of training.
        batch_size: examples per local batch; None means all.
        seed: for the local batches.
        engine: what runs the clients: 'stacked' is fast, 'loop' is readable, and both give the same numbers.

    Raises:
        ValueError: if `epochs` is negative, `every` is not a positive whole number, a client has no train or
            no test part, or model, `params` and data do not fit together.

    Source: the paper's step 3 of Personalized FedAvg; the protocol (scored after each epoch) is second-hand.
    """
    if epochs < 0:
        raise ValueError(f"epochs={epochs} is negative; use 0 for the initial model alone")
    epochs = whole_number("personalize epochs", epochs, least=0)
    every = whole_number("personalize every", every)
    task = Task(model, data, seed, engine_named(engine))
    return score_clients(task, params, LocalWork(client, batch_size, epochs), every=every)[0]


@one_thread()
def score_clients(
    task: Task, params: Params, work: LocalWork, *, every: int = 1, momentum: ClientMomentum | None = None
) -> tuple[PersonalizationTable, ClientMomentum | None]:
    """The table of `personalize`, and the clients' momentum after the last epoch.

    A buffer that ends with NaN or infinity is not kept: the client goes on with the one it had. With
    `momentum=None` all clients start at zero and nothing is kept.

    Raises:
        ValueError: as `personalize`, or if there is `momentum` and the client optimizer has none.
    """
    data = task.data
    for name, counts in (("test", data.test_counts), ("train", data.train_counts)):
        if counts.min() == 0 and (name == "test" or work.epochs):
            raise ValueError(
                f"client {data.client_ids[int(counts.argmin())]!r} has no {name} part; leave it out with "
                f"subset(), or split its examples with test_fraction above 0"
            )
    check_model(
        task.model,
        params,
        data,
        train_batch=smallest_batch(data, work) if work.epochs else None,
        test_batch=int(data.test_counts.min()),
    )
    training = task.local_training(params, work, 0, momentum)
    scores = list(task.engine.scores(training, data.client_ids, every))
    if momentum is not None:
        buffers = {score.client_id: score.momentum for score in scores if score.momentum is not None}
        momentum = momentum.updated({name: b for name, b in buffers.items() if bool(b.isfinite().all())})
    rows = [
        {
            "client_id": score.client_id,
            "epoch": score.epoch,
            "test_loss": score.loss / score.predictions,
            "test_accuracy": score.correct / score.predictions,
            "num_test_predictions": score.predictions,
            "num_train_examples": int(data.train_counts[data.position(score.client_id)]),
        }
        for score in sorted(scores, key=lambda score: (data.position(score.client_id), score.epoch))
    ]
    return PersonalizationTable(pd.DataFrame(rows), data.label), momentum


@dataclass(frozen=True)
class Evaluation:
    """When and on whom a run is scored.

    With one personalization epoch after FedAvg this is FedAvg+ (Marfoq et al. 2021). By default adaptation
    uses the client rate of the current stage, decayed as in training, and a fresh optimizer each time.

    The authors' released code (github.com/omarfoq/FedEM) behaves like
    `Evaluation(held_out, every=5, personalization_epochs=1, client=undecayed, keeps_momentum=True)`. There
    each client has a second optimizer for evaluation, copied before the first round, so that the momentum of
    training and of evaluation never mix. The momentum of the second optimizer carries over from one
    evaluation to the next; the first evaluation is of the untrained model. Its rate scheduler counts
    evaluations instead of rounds: with one evaluation every 5 or 10 of 200 rounds, as in the published runs,
    it never reaches its first decay at 100. What that code reports therefore depends on `every`.

    Example:
        >>> evaluation = fl_meta.Evaluation(held_out, every=1, personalization_epochs=1)
        >>> scored = fl_meta.train(model, train, stages, evaluation=evaluation, progress=False)
        >>> scored.history.held_out_personalized_test_accuracy_by_client.count()  # rounds 0, 1 and 2
        np.int64(3)

    Attributes:
        held_out: clients that training does not see, or the training clients, to score their test parts.
        every: score after this many rounds; also before the first and after the last.
        personalization_epochs: epochs of adaptation for the personalized scores; 0 omits them.
        client: the client optimizer of adaptation; None takes that of the stage's algorithm.
        keeps_momentum: whether a client's momentum carries over from one evaluation to the next. It needs a
            `client` with momentum and at least one epoch.
    """

    held_out: FederatedDataset
    every: int
    personalization_epochs: int = 0
    client: SGD | None = None
    keeps_momentum: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", whole_number("evaluation every", self.every))
        epochs = whole_number("personalization_epochs", self.personalization_epochs, least=0)
        object.__setattr__(self, "personalization_epochs", epochs)
        if self.keeps_momentum and not (epochs and self.client and self.client.momentum):
            raise ValueError(
                f"keeps_momentum=True with client={self.client} and personalization_epochs={epochs}; an "
                "evaluation that keeps momentum needs at least one epoch and a client optimizer of its own "
                "that has momentum, for example client=SGD(0.02, momentum=0.9)"
            )

    def score_clients(
        self, task: Task, params: Params, algorithm: Algorithm, momentum: ClientMomentum
    ) -> tuple[PersonalizationTable, ClientMomentum]:
        """Scores of each client, in batches as large as the algorithm's, and the momentum that is kept."""
        work = LocalWork(self.client or algorithm.client, algorithm.batch_size, self.personalization_epochs)
        table, kept = score_clients(
            replace(task, data=self.held_out),
            params,
            work,
            momentum=momentum if self.keeps_momentum else None,
        )
        return table, kept or ClientMomentum()

    def means(self, table: PersonalizationTable) -> dict[str, float]:
        """Plain means over the clients of a table, under the names of the history's columns."""
        means = table.rows.groupby("epoch")[["test_accuracy", "test_loss"]].mean()
        result = {}
        for title, epoch in {"initial": 0, "personalized": self.personalization_epochs}.items():
            if title == "initial" or epoch > 0:
                for measure in ("test_accuracy", "test_loss"):
                    result[f"held_out_{title}_{measure}_by_client"] = float(means[measure].loc[epoch])
        return result
