"""What the page of one client shows: its examples, and what is read after every epoch of adaptation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fl_meta.data.encoding import decode
from fl_meta.laboratories.client import (
    EPOCHS,
    ClientAdaptation,
    HeldOutStudy,
    adapt_client,
    first_line,
    held_out_study,
    write_on,
)
from fl_meta.pages.encoding import bits, ink_strip

SHOWN_CHARACTERS = 480  # of a role's test part


def client_data() -> dict[str, Any]:
    """The offered writers and roles; the two small models are trained first, which takes seconds.

    Raises:
        ModuleNotFoundError: if the package with Shakespeare's plays is not installed; the message says how to
            install it.

    Example:
        >>> list(client_data()["studies"])  # doctest: +SKIP
        ['writers', 'shakespeare']
    """
    return {"epochs": EPOCHS, "studies": {"writers": _writers(), "shakespeare": _roles()}}


def _writers() -> dict[str, Any]:
    study = held_out_study("writers")
    names = study.adaptation.data.class_names
    clients = {}
    for name in study.offered:
        met = adapt_client("writers", name)
        order = np.argsort(met.truth, kind="stable")
        clients[name] = _numbers(met) | {
            "ink": ink_strip(met.client.test_x[order]),
            "truth": [names[label] for label in met.truth[order]],
            "read": [[names[label] for label in read[order]] for read in met.predicted],
        }
    return _header(study) | {"tests": "test images", "trains": "train images", "clients": clients}


def _roles() -> dict[str, Any]:
    study = held_out_study("shakespeare")
    clients = {}
    for name in study.offered:
        met = adapt_client("shakespeare", name)
        clients[name] = _numbers(met) | {
            "text": decode(met.truth[:SHOWN_CHARACTERS]),
            "right": [bits(right[:SHOWN_CHARACTERS]) for right in met.right],
            "written": write_on(name),
            "after": first_line(met),
        }
    trains = f"train examples of {study.adaptation.data.x.shape[1]} characters"
    return _header(study) | {"tests": "characters", "trains": trains, "clients": clients}


def _header(study: HeldOutStudy) -> dict[str, Any]:
    accuracies = 100 * study.table.accuracies().to_numpy()
    return {
        "label": study.adaptation.data.label,
        "source": study.adaptation.data.source,
        "heldOut": len(accuracies),
        "mean": accuracies.mean(axis=0).round(3).tolist(),
        "range": [float(accuracies.min()), float(accuracies.max())],
    }


def _numbers(met: ClientAdaptation) -> dict[str, Any]:
    """Of all predictions: how many there are, and after each epoch are right, newly right, newly wrong."""
    before = met.right[0]
    return {
        "predictions": len(met.truth),
        "trainExamples": len(met.client.train_x),
        "rightAfter": met.right.sum(axis=1).tolist(),
        "nowRight": (~before & met.right).sum(axis=1).tolist(),
        "nowWrong": (before & ~met.right).sum(axis=1).tolist(),
    }
