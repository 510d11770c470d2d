"""What the page of the plane needs to train in it: the clients, the table of algorithms, the servers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.sent import formula_of
from fl_meta.laboratories import plane

MOST_STEPS = 10


def plane_data() -> dict[str, Any]:
    """The clients' losses, the rows of the table for each K, and the server optimizers.

    Example:
        >>> plane_data()["algorithms"]["FOMAML"][4]["name"]
        'FOMAML(5)'
    """
    return {
        "start": plane.START.tolist(),
        "optima": plane.OPTIMA.tolist(),
        "curvatures": plane.CURVATURES.tolist(),
        "angles": plane.ANGLES.tolist(),
        "commonCurvatures": plane.COMMON_CURVATURES.tolist(),
        "algorithms": {
            name: [_row(name, steps) for steps in range(1, MOST_STEPS + 1)] for name in plane.PLANE_ALGORITHMS
        },
        "servers": {name: asdict(make(1.0)) for name, make in plane.SERVERS.items()},
    }


def _row(name: str, steps: int) -> dict[str, Any]:
    row = plane.PLANE_ALGORITHMS[name](steps, SGD(1.0), SGD(1.0))
    return {
        "name": row.name,
        "sends": formula_of(row.sends),
        "steps": row.planned_steps,
        "sendsLast": row.sends_last,
        "secondOrder": row.second_order,
        "byExamples": row.weights == "examples",
        "weights": [row.weight(int(number)) for number in plane.EXAMPLES],
    }
