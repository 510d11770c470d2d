"""Held-out clients one by one: what the global model gets wrong, and what adaptation makes of it."""

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
from fl_meta.training.train import train

EPOCHS = 10
SEED = 0  # of training, adaptation and written text
_MOST_OFFERED = 12
_CONTEXT = 8  # characters that the text model sees


@dataclass(frozen=True)
class Recipe:
    """How a global model comes about in a few seconds; the rates are customary, not tuned.

    Attributes:
        setting: the clients; fold 0 of `folds` is held out.
        folds: how many.
        model: from the training clients.
        stage: of training; adaptation has its batch size.
        adaptation: the client optimizer of adaptation.
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
    """Held-out clients and the global model, which has never seen them.

    Attributes:
        adaptation: the global model, the clients, and how they adapt.
        table: what `personalize` makes of all of them.
        offered: whom to meet: the held-out clients with most test examples, at most twelve, whatever they
            gain. The fewer examples, the more of an accuracy is chance.
    """

    adaptation: LocalTraining
    table: PersonalizationTable
    offered: tuple[str, ...]


@cache
def held_out_study(dataset: str) -> HeldOutStudy:
    """Train the global model of a data set in `RECIPES` and score all held-out clients."""
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
    """A client's test part, as the global model and the client's own models read it.

    Attributes:
        client: whom we meet.
        truth: what is to be predicted: a class for each image, or all characters of the text [predictions].
        predicted: after 0, 1, … epochs of adaptation [epochs + 1, predictions].
        params: the same models' parameters.
    """

    client: Client
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    params: tuple[Params, ...]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which predictions are right [epochs + 1, predictions]."""
        right: NDArray[np.bool_] = self.predicted == self.truth
        return right

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Test accuracy in per cent [epochs + 1]."""
        accuracies: NDArray[np.float64] = 100 * self.right.mean(1)
        return accuracies


@cache
@one_thread()
def meet(dataset: str, client_id: str) -> ClientAdaptation:
    """Adapt to a held-out client, epoch after epoch, as `personalize` does."""
    adaptation = held_out_study(dataset).adaptation
    client = adaptation.data[client_id]
    real = client.test_y != PADDING
    params = tuple(adapted(adaptation, client_id))
    with torch.no_grad():
        x = torch.from_numpy(client.test_x)
        read = [adaptation.model.apply(own, x).argmax(-1).numpy()[real] for own in params]
    return ClientAdaptation(client, client.test_y[real].astype(np.int64), np.stack(read), params)


@cache
@one_thread()
def write_on(role: str, *, length: int = 200, temperature: float = 0.8) -> tuple[str, ...]:
    """What a role's models of all epochs, 0 first, write after the role's first unseen line.

    The random numbers are the same for every role and epoch, so that two models that agree write the same.

    Args:
        role: a held-out client of "shakespeare".
        length: characters to write.
        temperature: below 1 likely characters become likelier.
    """
    meeting, model = meet("shakespeare", role), held_out_study("shakespeare").adaptation.model
    params = {name: torch.stack([own[name] for own in meeting.params]) for name in meeting.params[0]}
    start = [BLANK] * _CONTEXT + encode(first_line(meeting) + "\n").tolist()
    codes = torch.tensor([start] * len(meeting.params))
    with torch.no_grad():
        for draw in random_stream(SEED, "sample of text").random(length):
            logits = torch.vmap(model.apply)(params, codes[:, None, -_CONTEXT:])[:, 0, -1].double()
            chances = torch.softmax(logits / temperature, -1).cumsum(-1)
            drawn = (chances <= draw * chances[:, -1:]).sum(-1, keepdim=True)
            codes = torch.cat([codes, drawn], 1)
    return tuple(decode(text[len(start) :]) for text in codes)


def first_line(meeting: ClientAdaptation) -> str:
    """The first line of a role's test part."""
    return decode(meeting.truth).partition("\n")[0]
