"""Held-out clients one by one: what the global model gets wrong, and how adaptation changes that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from fl_meta import models
from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import LocalWork, fedavg
from fl_meta.data.encoding import BLANK, decode, encode
from fl_meta.data.federated import PADDING, Client, FederatedDataset
from fl_meta.engines.local_training import LocalTraining, adapted
from fl_meta.engines.threads import one_thread
from fl_meta.evaluation.personalization import PersonalizationTable, personalize
from fl_meta.experiments.clients import fold_of
from fl_meta.experiments.settings import WRITERS, Setting
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.support.random_streams import random_stream
from fl_meta.training.run import train

EPOCHS = 10
SEED = 0  # for training, adaptation and written text
_MOST_OFFERED = 12
_CONTEXT = 8  # characters that the text model sees


@dataclass(frozen=True)
class Recipe:
    """How to train a global model in a few seconds, with customary learning rates that are not tuned.

    Fold 0 of the clients is held out. Adaptation uses its own optimizer, and the batch size of the training.
    """

    setting: Setting
    folds: int
    model: Callable[[FederatedDataset], Model]
    stage: Stage
    adaptation: SGD


RECIPES: Mapping[str, Recipe] = {
    "writers": Recipe(
        WRITERS,
        4,
        lambda data: models.mlp(data, hidden=100),
        Stage(fedavg(2, client=SGD(0.1), batch_size=10), rounds=30, clients_per_round=10),
        SGD(0.1),
    ),
    "shakespeare": Recipe(
        Setting("shakespeare", "char_mlp", least=100, most=100),
        10,
        lambda data: models.char_mlp(data, context=_CONTEXT, hidden=64),
        Stage(fedavg(1, client=SGD(0.7), server=SGD(1.0), batch_size=10), rounds=40, clients_per_round=5),
        SGD(0.3),
    ),
}


@dataclass(frozen=True, eq=False)
class HeldOutStudy:
    """Held-out clients, and a global model that has never seen them.

    Attributes:
        adaptation: the global model, the held-out clients, and how they adapt.
        table: the scores of all held-out clients, from `personalize`.
        offered: ids of the clients to choose from: those with the most test examples, at most twelve,
            whatever they gain. The fewer the examples, the more an accuracy depends on chance.
    """

    adaptation: LocalTraining
    table: PersonalizationTable
    offered: tuple[str, ...]


@cache
def held_out_study(dataset: str) -> HeldOutStudy:
    """Train the global model for a data set and score all held-out clients; the result is cached.

    Args:
        dataset: a key of `RECIPES`, "writers" or "shakespeare".

    Example:
        >>> held_out_study("writers").table.summary()  # doctest: +SKIP
    """
    recipe = RECIPES[dataset]
    training, held_out = fold_of(recipe.setting, 0, recipe.folds)
    model = recipe.model(training)
    params = train(model, training, [recipe.stage], seed=SEED, progress=False).params
    size = recipe.stage.algorithm.batch_size
    adaptation = LocalTraining(model, params, held_out, LocalWork(recipe.adaptation, size, EPOCHS), SEED)
    table = personalize(
        model, params, held_out, epochs=EPOCHS, client=recipe.adaptation, batch_size=size, seed=SEED
    )
    most = np.argsort(-held_out.test_counts, kind="stable")[:_MOST_OFFERED]
    return HeldOutStudy(adaptation, table, tuple(held_out.client_ids[i] for i in most))


@dataclass(frozen=True, eq=False)
class ClientAdaptation:
    """Predictions on a client's test part, by the global model and after every epoch of adaptation.

    Attributes:
        client: the held-out client.
        truth: the true labels: a class per image, or every character of the text [predictions].
        predicted: the predicted labels after 0, 1, … epochs of adaptation [epochs + 1, predictions].
        params: the parameters after 0, 1, … epochs.
    """

    client: Client
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    params: tuple[Params, ...]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is right [epochs + 1, predictions]."""
        right: NDArray[np.bool_] = self.predicted == self.truth
        return right

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Test accuracy in percent [epochs + 1]."""
        accuracies: NDArray[np.float64] = 100 * self.right.mean(1)
        return accuracies


@cache
@one_thread()
def adapt_client(dataset: str, client_id: str) -> ClientAdaptation:
    """Adapt the global model to one held-out client as `personalize` does; the result is cached.

    Args:
        dataset: a key of `RECIPES`, "writers" or "shakespeare".
        client_id: a held-out client.

    Example:
        >>> study = held_out_study("writers")  # doctest: +SKIP
        >>> adapt_client("writers", study.offered[0]).accuracies  # doctest: +SKIP
    """
    adaptation = held_out_study(dataset).adaptation
    client = adaptation.data[client_id]
    real = client.test_y != PADDING
    params = tuple(adapted(adaptation, client_id))
    with torch.no_grad():
        x = torch.from_numpy(client.test_x)
        predicted = [adaptation.model.apply(own, x).argmax(-1).numpy()[real] for own in params]
    return ClientAdaptation(client, client.test_y[real].astype(np.int64), np.stack(predicted), params)


@cache
@one_thread()
def write_on(role: str, *, length: int = 200, temperature: float = 0.8) -> tuple[str, ...]:
    """Continue a role's first unseen line with its model after 0, 1, … epochs of adaptation.

    All roles and epochs share the same random numbers, so models that agree write the same text. A
    temperature below 1 makes likely characters likelier.
    """
    adaptation, model = adapt_client("shakespeare", role), held_out_study("shakespeare").adaptation.model
    params = {name: torch.stack([own[name] for own in adaptation.params]) for name in adaptation.params[0]}
    start = [BLANK] * _CONTEXT + encode(first_line(adaptation) + "\n").tolist()
    codes = torch.tensor([start] * len(adaptation.params))
    with torch.no_grad():
        for draw in random_stream(SEED, "sample of text").random(length):
            logits = torch.vmap(model.apply)(params, codes[:, None, -_CONTEXT:])[:, 0, -1].double()
            chances = torch.softmax(logits / temperature, -1).cumsum(-1)
            drawn = (chances <= draw * chances[:, -1:]).sum(-1, keepdim=True)
            codes = torch.cat([codes, drawn], 1)
    return tuple(decode(text[len(start) :]) for text in codes)


def first_line(adaptation: ClientAdaptation) -> str:
    """The first line of a role's test part."""
    return decode(adaptation.truth).partition("\n")[0]
