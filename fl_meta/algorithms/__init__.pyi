from .optimizers import SGD, Adam, OptimizerState, server_step
from .stages import Stage, decayed, personalized_fedavg
from .table import Algorithm, SentGradients, fedavg, fedprox, fedsgd, fomaml, maml, reptile

__all__ = [
    "SGD",
    "Adam",
    "Algorithm",
    "OptimizerState",
    "SentGradients",
    "Stage",
    "decayed",
    "fedavg",
    "fedprox",
    "fedsgd",
    "fomaml",
    "maml",
    "personalized_fedavg",
    "reptile",
    "server_step",
]
