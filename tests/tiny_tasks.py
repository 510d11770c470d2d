"""What the tests of models, engines and training share: tiny models, a round, spoiled data, comparisons."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open
from torch import Tensor, nn

from fl_meta.algorithms.table import Algorithm
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.interface import Engine
from fl_meta.models.images import emnist_cnn, logistic, mlp, small_cnn
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.models.text import char_lstm, char_mlp
from fl_meta.training.checkpoints import read_checkpoint
from fl_meta.training.rounds import RoundInfo, pseudo_gradient
from fl_meta.training.run import Run, train

IMAGES: dict[str, Callable[[FederatedDataset], Model]] = {
    "logistic": logistic,
    "mlp": lambda data: mlp(data, hidden=12),
    "small_cnn": small_cnn,
    "emnist_cnn": emnist_cnn,
}
TEXT: dict[str, Callable[[FederatedDataset], Model]] = {
    "char_mlp": lambda data: char_mlp(data, context=3, embedding=4, hidden=8),
    "char_lstm": lambda data: char_lstm(data, embedding=3, hidden=5),
}


class LSTMWithDropout(nn.Module):
    """Its random numbers have one state, which no layer can be given alone."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 4, num_layers=2, dropout=0.4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1]


quietly = partial(train, progress=False)


def one_round(
    engine: str | Engine,
    model: Model,
    params: Params,
    data: FederatedDataset,
    algorithm: Algorithm,
    client_ids: Sequence[str] | None = None,
    *,
    seed: int = 3,
    round_number: int = 2,
) -> tuple[Params, RoundInfo]:
    """The pseudo-gradient of a round in which these clients take part, by default all of them."""
    ids = data.client_ids if client_ids is None else client_ids
    return pseudo_gradient(
        model, params, data, ids, algorithm, seed=seed, round_number=round_number, engine=engine
    )


def poisoned(
    data: FederatedDataset, client_ids: Sequence[str], value: float = np.nan, *, examples: int | None = 1
) -> FederatedDataset:
    """The same data with `value` in so many examples of these clients; None for all, the test part too."""
    x = data.x.astype(np.float64)
    for position in map(data.position, client_ids):
        x[data.starts[position] :][: data.counts[position] if examples is None else examples] = value
    return replace(data, x=x)


def same_bits(a: Params, b: Params) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].numpy().tobytes() == b[name].numpy().tobytes()
        for name in a
    )


def content_of(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """The tensors, the config and the progress in a checkpoint."""
    with safe_open(checkpoint, framework="pt") as file:
        config = json.loads(file.metadata()["notes"])["config"]
    tensors, progress = read_checkpoint(checkpoint, config)
    return tensors, config, progress


def assert_same_runs(a: Run, b: Run) -> None:
    """Parameters, server state, kept momentum, history and table, bit for bit."""
    assert a.state.round_number == b.state.round_number
    assert same_bits(a.params, b.params) and same_bits(a.state.params, b.params)
    assert a.state.server.keys() == b.state.server.keys()
    assert all(same_bits(a.state.server[name], b.state.server[name]) for name in a.state.server)
    assert same_bits(a.state.momentum.buffers, b.state.momentum.buffers)
    assert same_bits(a.evaluation_momentum.buffers, b.evaluation_momentum.buffers)
    pd.testing.assert_frame_equal(a.history, b.history, check_exact=True)
    assert (a.table is None) == (b.table is None)
    if a.table is not None and b.table is not None:
        pd.testing.assert_frame_equal(a.table.rows, b.table.rows, check_exact=True)
