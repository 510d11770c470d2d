"""The paper's Table 1: what is run for one seed."""

from __future__ import annotations

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import fedavg
from fl_meta.data.federated import FederatedDataset
from fl_meta.experiments.clients import MODELS, fold_of
from fl_meta.experiments.outcomes import (
    CROSSED_DIGITS,
    CrossedTableOneCell,
    CrossedTableOneOutcome,
    TableOneReading,
    rounded,
)
from fl_meta.experiments.table_one_settings import CrossedTableOne
from fl_meta.experiments.trajectories import BATCH_SIZE, accuracies, path
from fl_meta.models.model import Model


def crossed_table_one(config: CrossedTableOne, seed: int) -> CrossedTableOneOutcome:
    """Train and evaluate every cell of Table 1 for one fold and replicate.

    Args:
        config: the table, and the work at which its cells are compared besides.
        seed: of fold and replicate; its remainder by the number of folds is the fold.
    """
    table = config.table
    train, held_out = fold_of(table.setting, seed % table.folds, table.folds)
    model = MODELS[table.setting.model](train)
    cells = [
        _crossed_cell(config, model, train, held_out, clients, epochs, seed)
        for clients in table.clients_per_round
        for epochs in table.local_epochs
    ]
    return CrossedTableOneOutcome(held_out.client_ids, tuple(cells))


def _crossed_cell(
    config: CrossedTableOne,
    model: Model,
    train: FederatedDataset,
    held_out: FederatedDataset,
    clients: int,
    epochs: int,
    seed: int,
) -> CrossedTableOneCell:
    table, equal_work = config.table, config.rounds_at_equal_work(epochs)
    last = max(table.rounds, equal_work)
    algorithm = fedavg(epochs, client=SGD(table.client_rate), batch_size=BATCH_SIZE)
    curve, readings = [], {}
    at = range(table.every, last + 1, table.every)
    for snapshot in path(model, train, Stage(algorithm, last, clients), seed, at):
        number = snapshot.round_number
        accuracy = accuracies(
            model, snapshot.params, held_out, table.client_rate, table.personalization_epochs, seed, ends=True
        )
        curve.append((number, *rounded(accuracy.mean(1), CROSSED_DIGITS)))
        if number in (table.rounds, equal_work):
            readings[number] = TableOneReading(
                number, snapshot.local_gradients, rounded(accuracy, CROSSED_DIGITS)
            )
    return CrossedTableOneCell(clients, epochs, tuple(curve), readings[table.rounds], readings[equal_work])
