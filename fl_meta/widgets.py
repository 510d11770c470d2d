"""Laboratories: each function returns a `Panel`, to be shown by a notebook."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from fl_meta.explorer import claim_explorer
from fl_meta.mixing import MOST_ROUNDS, PRESETS
from fl_meta.panel import Panel, choice, slider
from fl_meta.playground import ROWS, SERVERS
from fl_meta.playground_plots import ROUNDS_IN_PLANE, MixPicture, PlanePicture

__all__ = ["claim_explorer", "federation_in_the_plane", "mix_your_own"]

# --- a federation in the plane ---------------------------------------------------------------------------


def federation_in_the_plane(
    *,
    algorithm: str = "FedAvg",
    steps: int = 5,
    client_rate: float = 0.3,
    server: str = "SGD",
    server_rate: float = 1.0,
    heterogeneity: float = 1.0,
    rounds: int = 30,
) -> Panel:
    """Five clients with quadratic losses: where the server goes, and where one step takes each client.

    Raises:
        ValueError: if a value is out of its control's bounds.
    """
    controls = {
        "algorithm": choice("algorithm", algorithm, tuple(ROWS)),
        "steps": slider("local steps K", steps, 1, 10, 1),
        "client_rate": slider("client rate β", client_rate, 0.02, 0.6, 0.02),
        "server": choice("server optimizer", server, tuple(SERVERS)),
        "server_rate": slider("server rate", server_rate, 0.05, 2.0, 0.05),
        "heterogeneity": slider("heterogeneity (0: alike)", heterogeneity, 0.0, 1.0, 0.05),
        "rounds": slider("rounds", rounds, 1, ROUNDS_IN_PLANE, 1),
    }
    picture = PlanePicture()

    def draw(**values: Any) -> tuple[Figure, str]:
        controls["steps"].disabled = values["algorithm"] == "FedSGD"
        return picture.show(**values)

    return Panel("federation_in_the_plane", controls, draw, 460)


# --- mix the inner gradients -----------------------------------------------------------------------------


def mix_your_own(
    *,
    g_1: float = 1.0,
    g_2: float = 1.0,
    g_3: float = 1.0,
    g_4: float = 1.0,
    g_5: float = 1.0,
    client_rate: float = 0.5,
    server_rate: float = 1.0,
    rounds: int = 20,
) -> Panel:
    """How much of each inner gradient is sent home; initial and personalized accuracy on small writers.

    Raises:
        ValueError: if a value is out of its control's bounds.
    """
    weights = {"g_1": g_1, "g_2": g_2, "g_3": g_3, "g_4": g_4, "g_5": g_5}
    controls = {
        **{name: slider(f"weight of {name}", value, -1.0, 5.0, 0.25) for name, value in weights.items()},
        "client_rate": slider("client rate β", client_rate, 0.05, 2.0, 0.05),
        "server_rate": slider("server rate (SGD)", server_rate, 0.1, 5.0, 0.1),
        "rounds": slider("rounds", rounds, 1, MOST_ROUNDS, 1),
    }
    picture = MixPicture()

    def draw(client_rate: float, server_rate: float, rounds: int, **mix: float) -> tuple[Figure, str]:
        return picture.show([mix[name] for name in weights], client_rate, server_rate, rounds)

    presets = {name: dict(zip(weights, mix, strict=True)) for name, mix in PRESETS.items()}
    return Panel("mix_your_own", controls, draw, 410, presets=presets)
