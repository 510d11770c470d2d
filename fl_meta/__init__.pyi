from . import (
    algorithms,
    course,
    data,
    engines,
    evaluation,
    evidence,
    experiments,
    laboratories,
    models,
    plots,
    reproduction,
    training,
)
from .algorithms.optimizers import SGD, Adam
from .algorithms.stages import Stage, personalized_fedavg
from .algorithms.table import Algorithm, fedavg, fedprox, fedsgd, fomaml, maml, reptile
from .data.federated import Client, FederatedDataset
from .data.loading import load_dataset
from .evaluation.personalization import Evaluation, PersonalizationTable, personalize
from .models.model import Model
from .training.baselines import train_centralized, train_local_only
from .training.checkpoints import Checkpoint
from .training.rounds import pseudo_gradient
from .training.run import Run, train

__all__ = [
    "SGD",
    "Adam",
    "Algorithm",
    "Checkpoint",
    "Client",
    "Evaluation",
    "FederatedDataset",
    "Model",
    "PersonalizationTable",
    "Run",
    "Stage",
    "algorithms",
    "course",
    "data",
    "engines",
    "evaluation",
    "evidence",
    "experiments",
    "fedavg",
    "fedprox",
    "fedsgd",
    "fomaml",
    "laboratories",
    "load_dataset",
    "maml",
    "models",
    "personalize",
    "personalized_fedavg",
    "plots",
    "pseudo_gradient",
    "reproduction",
    "reptile",
    "train",
    "train_centralized",
    "train_local_only",
    "training",
]

__version__: str
