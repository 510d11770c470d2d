from .baselines import train_centralized, train_local_only
from .checkpoints import Checkpoint, CheckpointError
from .rounds import TrainingDivergedError, pseudo_gradient
from .train import NonFiniteUpdateWarning, Run

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "NonFiniteUpdateWarning",
    "Run",
    "TrainingDivergedError",
    "pseudo_gradient",
    "train_centralized",
    "train_local_only",
]
