from .interface import Engine
from .local_training import (
    ClientUpdate,
    LocalStep,
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
    "ClientUpdate",
    "Engine",
    "LocalStep",
    "LocalTraining",
    "LoopEngine",
    "StackedEngine",
    "adapted",
    "client_update",
    "gradient",
    "hessian_vector_product",
    "local_steps",
]
