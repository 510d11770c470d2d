from .baselines import train_centralized, train_local_only
from .checkpoints import Checkpoint, CheckpointError
from .rounds import RoundInfo, TrainingDivergedError, TrainingState, pseudo_gradient
from .train import NonFiniteUpdateWarning, Run

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "NonFiniteUpdateWarning",
    "RoundInfo",
    "Run",
    "TrainingDivergedError",
    "TrainingState",
    "pseudo_gradient",
    "train_centralized",
    "train_local_only",
]
