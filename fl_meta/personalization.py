"""Initial and personalized accuracy of every client, after every epoch of adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
import pandas as pd
import torch

from fl_meta.algorithms import Algorithm
from fl_meta.checks import whole_number
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines import engine_named
from fl_meta.local import LocalTraining
from fl_meta.loop import Engine
from fl_meta.models import Model
from fl_meta.optimizers import SGD, sgd
from fl_meta.params import Params
from fl_meta.statistics import bootstrap_mean
from fl_meta.threads import one_thread


@dataclass(frozen=True, repr=False)
class PersonalizationTable:
    """One row per client and epoch; epoch 0 is the initial model, the others are personalized.

    Attributes:
        rows: columns client_id, epoch, test_loss (nats per prediction), test_accuracy (in [0, 1]),
            num_test_predictions, num_train_examples.
        data_label: the data set, as a plot must name it.
    """

    rows: pd.DataFrame
    data_label: str

    def accuracies(self) -> pd.DataFrame:
        """Test accuracy in [0, 1]: one row per client, one column per epoch."""
        return self.rows.pivot(index="client_id", columns="epoch", values="test_accuracy")

    def summary(self, weights: Literal["client", "example"] = "client", *, seed: int = 0) -> pd.DataFrame:
        """One row per epoch, compared with epoch 0 of the same clients.

        Columns, where `…` is `by_client` (every client weighs the same) or `by_example` (every test
        prediction does): `test_loss_…` in nats; `test_accuracy_…`; `gain_…` = personalized − initial
        accuracy, with its 95 % paired bootstrap interval over clients `gain_low`, `gain_high`;
        `share_of_clients_hurt` = share whose accuracy fell below the initial one; `bottom_decile_of_clients`
        = 10 % quantile of accuracy over clients. At epoch 0 gain and share are not defined: NaN.

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
            measured = epoch != 0
            result.append(
                {
                    "epoch": epoch,
                    f"test_loss_by_{weights}": np.average(now.test_loss, weights=weight),
                    f"test_accuracy_by_{weights}": np.average(now.test_accuracy, weights=weight),
                    f"gain_by_{weights}": gain.estimate if measured else np.nan,
                    "gain_low": gain.low if measured else np.nan,
                    "gain_high": gain.high if measured else np.nan,
                    "share_of_clients_hurt": (difference < 0).mean() if measured else np.nan,
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


@one_thread()
def personalize(
    model: Model,
    params: Params,
    data: FederatedDataset,
    *,
    epochs: int = 5,
    client: SGD = sgd(0.02),
    batch_size: int | None = 20,
    seed: int = 0,
    engine: str | Engine = "stacked",
) -> PersonalizationTable:
    """Adapt to each client's train part for `epochs` epochs; score on its test part before and after each.

    `epochs=0` scores the initial model only. Starting from untrained parameters this is local-only training.

    Args:
        model: the model.
        params: the initial (global) model's parameters; what device they lie on computes.
        data: the clients, usually those that training never saw.
        epochs: number of adaptation epochs, 0 or more.
        client: the client optimizer; the paper uses the one of training.
        batch_size: examples per local batch; None means all.
        seed: of the local batches.
        engine: how the local loop is run: 'stacked' is fast, 'loop' is readable, and both give the same.

    Raises:
        ValueError: if `epochs` is negative, a client has no train or no test part, or model, `params` and
            data do not fit together.

    Source: the paper's step 3 of Personalized FedAvg; the protocol (scored after each epoch) is second-hand.
    """
    if epochs < 0:
        raise ValueError(f"epochs={epochs} is negative; use 0 for the initial model alone")
    for part, counts in (("test", data.test_counts), ("train", data.train_counts)):
        if counts.min() == 0 and (part == "test" or epochs > 0):
            raise ValueError(
                f"client {data.client_ids[int(counts.argmin())]!r} has no {part} part; leave it out with "
                f"subset(), or split its examples with test_fraction above 0"
            )
    model.check(params, torch.from_numpy(data.x[:1]), data.num_classes)
    adaptation = LocalTraining(model, params, data, client, batch_size, epochs, None, seed)
    scores = engine_named(engine).scores(adaptation, data.client_ids)
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
    return PersonalizationTable(pd.DataFrame(rows), data.label)


@dataclass(frozen=True)
class Evaluation:
    """When and on whom a run is scored.

    Attributes:
        held_out: clients that training does not see.
        every: score after this many rounds, and before the first and after the last one.
        personalization_epochs: epochs of adaptation for the personalized scores; 0 leaves them out.
        client: the client optimizer of adaptation; None takes the one of the stage's algorithm.
    """

    held_out: FederatedDataset
    every: int
    personalization_epochs: int = 0
    client: SGD | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", whole_number("evaluation every", self.every))
        epochs = whole_number("personalization_epochs", self.personalization_epochs, least=0)
        object.__setattr__(self, "personalization_epochs", epochs)

    def scores(
        self, model: Model, params: Params, algorithm: Algorithm, seed: int, engine: str | Engine
    ) -> dict[str, float]:
        """Plain means over the held-out clients; batches are as large as the algorithm's."""
        table = personalize(
            model,
            params,
            self.held_out,
            epochs=self.personalization_epochs,
            client=self.client or algorithm.client,
            batch_size=algorithm.batch_size,
            seed=seed,
            engine=engine,
        )
        means = table.rows.groupby("epoch")[["test_accuracy", "test_loss"]].mean()
        result = {}
        for title, epoch in {"initial": 0, "personalized": self.personalization_epochs}.items():
            if title == "initial" or epoch > 0:
                for measure in ("test_accuracy", "test_loss"):
                    result[f"held_out_{title}_{measure}_by_client"] = float(means[measure].loc[epoch])
        return result
