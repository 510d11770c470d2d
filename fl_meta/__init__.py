"""Understand and rerun "Improving Federated Learning Personalization via Model Agnostic Meta Learning".

Example:
    >>> data = fl_meta.load_dataset("writers", num_writers=40)
    >>> train, held_out = data.split_clients(held_out=0.25, seed=0)
    >>> model = fl_meta.models.mlp(data)
    >>> stage = fl_meta.Stage(fl_meta.fedavg(epochs=5), rounds=2)
    >>> run = fl_meta.train(model, train, [stage], seed=0, progress=False)
    >>> table = fl_meta.personalize(model, run.params, held_out, epochs=5)
    >>> table.accuracies().shape  # held-out clients, epochs 0 to 5
    (10, 6)

The paper: Jiang, Konečný, Rush, Kannan, 2019, arXiv 1909.12488.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("fl_meta")
