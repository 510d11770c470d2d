from .baselines import train_centralized, train_local_only
from .checkpoints import Checkpoint, CheckpointError
from .rounds import RoundInfo, TrainingDivergedError, TrainingState, pseudo_gradient
from .run import NonFiniteUpdateWarning, Run, train

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "NonFiniteUpdateWarning",
    "RoundInfo",
    "Run",
    "TrainingDivergedError",
    "TrainingState",
    "pseudo_gradient",
    "train",
    "train_centralized",
    "train_local_only",
]
