"""Recorded results and experiments of the smallest size, which several tests share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fl_meta.evidence.result_types import DataFingerprint, Experiment
from fl_meta.experiments.outcomes import Accuracies, TrainedModel
from fl_meta.experiments.settings import Setting
from fl_meta.experiments.table_one_settings import TableOne

RESULTS = Path(__file__).parent.parent / "data" / "results"
# Small enough to be computed for real.
TINY = TableOne(
    Setting("writers", "mlp", least=20, most=20, num_clients=4),
    folds=2,
    clients_per_round=(2,),
    local_epochs=(1,),
    client_rate=0.1,
    rounds=1,
    every=1,
    personalization_epochs=1,
    threshold=0.5,
)


def rows(values: Any) -> Accuracies:
    """An array of accuracies as results keep it: a tuple of rows."""
    return tuple(map(tuple, np.asarray(values).tolist()))


def header_of(
    kind: str, config: Experiment, seed: int, clients: Sequence[str], label: str = "toy (synthetic)"
) -> dict[str, Any]:
    """The fields with which every result begins."""
    return {
        "format": 1,
        "kind": kind,
        "config": config,
        "seed": seed,
        "data": DataFingerprint("toy", label, ""),
        "fl_meta": "0",
        "torch": "0",
        "machine": "",
        "seconds": 0.0,
        "clients": tuple(clients),
    }


def trained_model(name: str, accuracy: Any, **fields: Any) -> TrainedModel:
    """A model of a comparison of which little but the accuracies matters."""
    usual = {"option": None, "rounds": 1, "local_gradients": 1, "personalization_rate": 0.1}
    return TrainedModel(name, accuracy=rows(accuracy), **usual | {"validation": None, "why": None} | fields)
