"""What the page of mixes needs to train: the small writers' images, and which are in which local batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_meta.data.batches import BatchPlan
from fl_meta.data.federated import FederatedDataset
from fl_meta.laboratories.mixing import (
    BATCH_SIZE,
    INNER_GRADIENTS,
    MOST_ROUNDS,
    PRESETS,
    local_plans,
    small_writers,
)
from fl_meta.pages.encoding import packed

NOTHING = 255
"""Stands for no image where a batch has fewer than the others."""


def mix_data() -> dict[str, Any]:
    """Images of the training and the held-out writers, and positions [steps, writers, batch] in train parts.

    Example:
        >>> sorted(mix_data()["presets"])
        ['FOMAML(4)', 'FedAvg(5)', 'FedSGD']
    """
    writers = small_writers()
    rounds = [local_plans(writers.train, 0, number, steps=INNER_GRADIENTS) for number in range(MOST_ROUNDS)]
    adaptation = local_plans(writers.held_out, 0, 0, epochs=1)
    return {
        "label": writers.held_out.label,
        "source": writers.held_out.source,
        "presets": PRESETS,
        "mostRounds": MOST_ROUNDS,
        "innerGradients": INNER_GRADIENTS,
        "batchSize": BATCH_SIZE,
        "classes": writers.train.num_classes,
        "nothing": NOTHING,
        "train": _part(writers.train, "train"),
        "heldOut": _part(writers.held_out, "train"),
        "tests": _part(writers.held_out, "test"),
        "rounds": packed(np.stack([_positions(plans) for plans in rounds])),
        "adaptation": packed(_positions(adaptation)),
    }


def _part(data: FederatedDataset, part: str) -> dict[str, Any]:
    """Pixels, labels and numbers of images of all clients' train or test parts, one after the other."""
    x, y = ([getattr(data[name], f"{part}_{axis}") for name in data.client_ids] for axis in "xy")
    labels = np.concatenate(y).astype(np.uint8)
    return {
        "x": packed(np.concatenate(x).astype(np.float32)),
        "y": packed(labels),
        "counts": [len(one) for one in y],
    }


def _positions(plans: Sequence[BatchPlan]) -> NDArray[np.uint8]:
    positions = np.full((max(map(len, plans)), len(plans), BATCH_SIZE), NOTHING, np.uint8)
    for client, plan in enumerate(plans):
        for step, batch in enumerate(plan):
            positions[step, client, : len(batch)] = batch
    return positions
