"""Understand and re-run "Improving Federated Learning Personalization via Model Agnostic Meta Learning".

A straight road from a federated data set to a verdict:

    data = fl_meta.load_dataset("writers")
    train, held_out = data.split_clients(held_out=0.25, seed=0)
    model = fl_meta.models.mlp(data)
    run = fl_meta.train(model, train, [fl_meta.Stage(fl_meta.fedavg(epochs=5), rounds=300)], seed=0)
    table = fl_meta.personalize(model, run.params, held_out, epochs=5)
    table.summary()

The paper: Jiang, Konečný, Rush, Kannan, 2019, arXiv 1909.12488.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("fl_meta")
