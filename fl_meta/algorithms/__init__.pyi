from .optimizers import SGD, Adam, OptimizerState, server_step
from .sent import Batch, LocalStep, SendingRule, SentGradients, WeightedGradients, formula_of
from .stages import Stage, decayed, personalized_fedavg
from .table import Algorithm, LocalWork, fedavg, fedprox, fedsgd, fomaml, maml, reptile

__all__ = [
    "SGD",
    "Adam",
    "Algorithm",
    "Batch",
    "LocalStep",
    "LocalWork",
    "OptimizerState",
    "SendingRule",
    "SentGradients",
    "Stage",
    "WeightedGradients",
    "decayed",
    "fedavg",
    "fedprox",
    "fedsgd",
    "fomaml",
    "formula_of",
    "maml",
    "personalized_fedavg",
    "reptile",
    "server_step",
]
