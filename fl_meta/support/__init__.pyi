from .random_streams import random_stream, torch_seed

__all__ = ["random_stream", "torch_seed"]
