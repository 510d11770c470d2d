"""Laboratories: each function returns a `Panel`, to be shown by a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fl_meta.evidence.results import recorded
from fl_meta.experiments.heterogeneity import Gain, gains, recompute
from fl_meta.experiments.heterogeneity_settings import KNOBS, RECORDED_HETEROGENEITY
from fl_meta.laboratories.client import EPOCHS, RECIPES, held_out_study
from fl_meta.laboratories.client_picture import GlyphPicture, LinePicture
from fl_meta.laboratories.heterogeneity_picture import GridPicture
from fl_meta.laboratories.mixing import MOST_ROUNDS, PRESETS
from fl_meta.laboratories.mixing_picture import MixPicture
from fl_meta.laboratories.panel import Panel, choice, slider, stops
from fl_meta.laboratories.plane import ROWS, SERVERS
from fl_meta.laboratories.plane_picture import ROUNDS_IN_PLANE, PlanePicture
from fl_meta.laboratories.recorded_claims import claim_explorer

__all__ = [
    "claim_explorer",
    "federation_in_the_plane",
    "heterogeneity_panel",
    "meet_a_client",
    "mix_your_own",
]

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

    return Panel("federation_in_the_plane", controls, draw)


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
        **{
            name: slider(f"weight of g{subscript}", value, -1.0, 5.0, 0.25)
            for subscript, (name, value) in zip("₁₂₃₄₅", weights.items(), strict=True)
        },
        "client_rate": slider("client rate β", client_rate, 0.05, 2.0, 0.05),
        "server_rate": slider("server rate (SGD)", server_rate, 0.1, 5.0, 0.1),
        "rounds": slider("rounds", rounds, 1, MOST_ROUNDS, 1),
    }
    picture = MixPicture()

    def draw(client_rate: float, server_rate: float, rounds: int, **mix: float) -> tuple[Figure, str]:
        return picture.show([mix[name] for name in weights], client_rate, server_rate, rounds)

    presets = {name: dict(zip(weights, mix, strict=True)) for name, mix in PRESETS.items()}
    return Panel("mix_your_own", controls, draw, presets=presets)


# --- meet a client ---------------------------------------------------------------------------------------


def meet_a_client(*, dataset: str = "writers", client: str | None = None, epoch: int = 0) -> Panel:
    """A held-out client: what the global model gets wrong, and which predictions flip as it adapts.

    The global model is trained at the first call, in a few seconds.

    Args:
        dataset: "writers" (synthetic handwriting), or "shakespeare", where the model also writes on.
        client: one of the twelve held-out clients with most test examples; None is the first of them.
        epoch: of adaptation; 0 is the global model.

    Raises:
        ValueError: if there is no such data set, the client is not among the twelve, or the epoch is out of
            bounds.
        ModuleNotFoundError: if "shakespeare" needs a package that is not installed; the message says how.
    """
    if dataset not in RECIPES:
        raise ValueError(f"data set: {dataset!r} is unknown; choose one of {', '.join(map(repr, RECIPES))}")
    offered = held_out_study(dataset).offered
    writes = dataset == "writers"
    controls = {
        "client": choice("writer" if writes else "role", offered[0] if client is None else client, offered),
        "epoch": slider("epochs of adaptation", epoch, 0, EPOCHS, 1),
    }
    picture = GlyphPicture() if writes else LinePicture()
    return Panel("meet_a_client", controls, picture.show, fixed=f"dataset={dataset!r}")


# --- how different writers are ---------------------------------------------------------------------------


def heterogeneity_panel(
    folder: str | Path, *, style: float = 1.0, label_skew: float = 1.0, mean_examples: int = 100
) -> Panel:
    """What makes synthetic writers differ, against the gain from personalization: recorded, or computed here.

    Args:
        folder: of the recorded results, `data/results` of the repository.
        style: how far hands differ, a value of `experiments.RECORDED_HETEROGENEITY` like the others.
        label_skew: how far class frequencies differ.
        mean_examples: of each writer.

    Raises:
        FileNotFoundError: if the grid is not in the folder.
        ValueError: if a value is not in the grid.
    """
    config, folder = RECORDED_HETEROGENEITY, Path(folder)
    results = recorded(config, folder)
    if not results:
        raise FileNotFoundError(
            f"no grid of heterogeneity in {folder.absolute()}; give the folder of the repository's recorded "
            "results, '../data/results' in a notebook, or compute it: fl-meta record heterogeneity-writers"
        )
    values = {"style": style, "label_skew": label_skew, "mean_examples": mean_examples}
    labels = ("style (0: alike)", "label skew (0: alike)", "examples per writer")
    controls = {
        knob: stops(label, values[knob], getattr(config, knob))
        for knob, label in zip(KNOBS, labels, strict=True)
    }
    grid, label = gains(results), results[0].data.label
    here: dict[tuple[float, ...], Gain] = {}
    picture, populations = GridPicture(config, grid), count(1)

    def draw(**values: Any) -> tuple[Figure, str]:
        cell = tuple(values[knob] for knob in KNOBS)
        words = f"{label}: {grid[cell]} (recorded, {len(results)} seeds)."
        if cell in here:
            words += f" <b>Computed here, with other writers: {here[cell]}.</b>"
        return picture.show(cell, here), words

    def compute(**values: Any) -> Iterator[float]:
        cell = tuple(values[knob] for knob in KNOBS)
        yield from recompute(config, values, next(populations), lambda found: here.update({cell: found}))

    work = ("compute this cell with other writers", compute)
    return Panel("heterogeneity_panel", controls, draw, fixed=repr(folder.as_posix()), work=work)
