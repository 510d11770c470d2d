"""Understand and re-run "Improving Federated Learning Personalization via Model Agnostic Meta Learning".

A straight road from a federated data set to a verdict:

    data = fl_meta.load_dataset("writers")
    train, held_out = data.split_clients(held_out=0.25, seed=0)
    model = fl_meta.models.mlp(data)
    run = fl_meta.train(model, train, [fl_meta.Stage(fl_meta.fedavg(epochs=5), rounds=300)], seed=0)
    table = fl_meta.personalize(model, run.params, held_out, epochs=5)
    table.summary()

The paper: Jiang, Konečný, Rush, Kannan, 2019, arXiv 1909.12488.
"""

from importlib.metadata import version

from fl_meta import models
from fl_meta.algorithms.optimizers import SGD, Adam, adam, sgd
from fl_meta.algorithms.table import Algorithm, Sends, fedavg, fedprox, fedsgd, fomaml, maml, reptile
from fl_meta.data import load_dataset
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.local_training import client_update
from fl_meta.evaluation.personalization import Evaluation, PersonalizationTable, personalize
from fl_meta.evidence.statistics import bootstrap_mean
from fl_meta.models.model import Model
from fl_meta.training.checkpoints import CheckpointError
from fl_meta.training.rounds import Stage, TrainingDivergedError, decayed, pseudo_gradient
from fl_meta.training.train import (
    Checkpoint,
    NonFiniteUpdateWarning,
    Run,
    personalized_fedavg,
    train,
    train_centralized,
    train_local_only,
)

__version__ = version("fl_meta")

__all__ = [
    "SGD",
    "Adam",
    "Algorithm",
    "Checkpoint",
    "CheckpointError",
    "Evaluation",
    "FederatedDataset",
    "Model",
    "NonFiniteUpdateWarning",
    "PersonalizationTable",
    "Run",
    "Sends",
    "Stage",
    "TrainingDivergedError",
    "adam",
    "bootstrap_mean",
    "client_update",
    "decayed",
    "fedavg",
    "fedprox",
    "fedsgd",
    "fomaml",
    "load_dataset",
    "maml",
    "models",
    "personalize",
    "personalized_fedavg",
    "pseudo_gradient",
    "reptile",
    "sgd",
    "train",
    "train_centralized",
    "train_local_only",
]
