from .client_momentum import ClientMomentum
from .interface import Collected, Engine, Score
from .local_training import (
    ClientUpdate,
    LocalTraining,
    adapted,
    client_update,
    gradient,
    hessian_vector_product,
    local_steps,
)
from .loop import LoopEngine
from .stacked.engine import StackedEngine

__all__ = [
    "ClientMomentum",
    "ClientUpdate",
    "Collected",
    "Engine",
    "LocalTraining",
    "LoopEngine",
    "Score",
    "StackedEngine",
    "adapted",
    "client_update",
    "gradient",
    "hessian_vector_product",
    "local_steps",
]
