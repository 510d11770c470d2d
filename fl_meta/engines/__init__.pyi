from .interface import Engine
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
    "ClientUpdate",
    "Engine",
    "LocalTraining",
    "LoopEngine",
    "StackedEngine",
    "adapted",
    "client_update",
    "gradient",
    "hessian_vector_product",
    "local_steps",
]
