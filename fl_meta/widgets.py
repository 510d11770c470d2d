"""Controls above a picture that follows them. Each function returns a `Panel`, to be shown by a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from fl_meta import claims, result_plots
from fl_meta.experiments import RECORDED_COMPARISON, RECORDED_TABLE_ONE
from fl_meta.mixing import MOST_ROUNDS, PRESETS
from fl_meta.playground import ROWS, SERVERS
from fl_meta.playground_plots import ROUNDS_IN_PLANE, MixPicture, PlanePicture, png
from fl_meta.results import recorded
from fl_meta.verdicts import RECORDED, Verdict, VerdictTable


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """Controls, the line of code that brings them back, a picture and what it says in words.

    A callback that raises shows its traceback below; in plain Python it raises.

    Attributes:
        controls: by the name of the argument that they stand for.
        buttons: set several controls at once, by what they say; "reset" sets all as they were at first.
        picture: PNG of `figure`.
        figure: the last one drawn.
        words: what the picture says, as HTML.
    """

    def __init__(
        self,
        name: str,
        controls: Mapping[str, ipywidgets.ValueWidget],
        draw: Callable[..., tuple[Figure, str]],
        height: int,
        *,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        fixed: str = "",
    ) -> None:
        """Draw for the first time.

        Args:
            name: of the function that makes this panel.
            controls: by the name of the argument that they stand for.
            draw: from the controls' values to a figure, and HTML below it.
            height: of the picture, in pixels.
            presets: values for some controls, by what the button says.
            fixed: code of the arguments that no control stands for.
        """
        self.controls, self._name, self._draw, self._fixed = dict(controls), name, draw, fixed
        first = {argument: control.value for argument, control in controls.items()}
        everything = {**(presets or {}), "reset": first}
        self.buttons = {text: ipywidgets.Button(description=text) for text in everything}
        for text, values in everything.items():
            self.buttons[text].on_click(lambda _, values=values: self.set(**values))
        layout = ipywidgets.Layout(height=f"{height}px", width="100%", object_fit="scale-down")
        self.picture = ipywidgets.Image(format="png", layout=layout)
        self.words, self._code = ipywidgets.HTML(), ipywidgets.HTML()
        # One redrawing for a button that moves several controls: they are silent, then this one changes.
        self._silent, self._pushes = False, ipywidgets.IntText()
        errors = ipywidgets.interactive_output(self._follow, {**controls, "_": self._pushes})
        wrapped = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                ipywidgets.Box(list(controls.values()), layout=wrapped),
                ipywidgets.Box(list(self.buttons.values()), layout=wrapped),
                self._code,
                self.picture,
                self.words,
                errors,
            ]
        )

    def set(self, **values: Any) -> None:
        """Move several controls and draw once."""
        self._silent = True
        try:
            for argument, value in values.items():
                self.controls[argument].value = value
        finally:
            self._silent = False
        self._pushes.value += 1

    @property
    def state(self) -> str:
        """Code that makes this panel with its controls as they are."""
        values = ((argument, control.value) for argument, control in self.controls.items())
        given = [f"{name}={round(v, 6) if isinstance(v, float) else v!r}" for name, v in values]
        return f"widgets.{self._name}({', '.join([self._fixed, *given] if self._fixed else given)})"

    def _follow(self, _: int, **values: Any) -> None:
        if not self._silent:
            self.figure, self.words.value = self._draw(**values)
            self.picture.value = png(self.figure)
            self._code.value = f"these settings: <code>{escape(self.state)}</code>"


def _slider(label: str, value: float, low: float, high: float, step: float) -> Any:
    """A slider for whole numbers if `step` is one.

    Raises:
        ValueError: if the value is out of bounds; ipywidgets would move it without a word.
    """
    if not low <= value <= high:
        raise ValueError(f"{label}: {value} is out of bounds; choose a number from {low:g} to {high:g}")
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(value, min=low, max=high, step=step, continuous_update=False, **_look(label))


def _choice(label: str, value: Any, options: Sequence[Any]) -> ipywidgets.Dropdown:
    """A drop-down list.

    Raises:
        ValueError: if the value is none of the options.
    """
    if value not in options:
        raise ValueError(f"{label}: {value!r} is unknown; choose one of {', '.join(map(repr, options))}")
    return ipywidgets.Dropdown(value=value, options=options, **_look(label))


def _look(label: str) -> dict[str, Any]:
    width = {"description_width": "150px"}
    return {"description": label, "style": width, "layout": ipywidgets.Layout(width="400px")}


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
        "algorithm": _choice("algorithm", algorithm, tuple(ROWS)),
        "steps": _slider("local steps K", steps, 1, 10, 1),
        "client_rate": _slider("client rate β", client_rate, 0.02, 0.6, 0.02),
        "server": _choice("server optimizer", server, tuple(SERVERS)),
        "server_rate": _slider("server rate", server_rate, 0.05, 2.0, 0.05),
        "heterogeneity": _slider("heterogeneity (0: alike)", heterogeneity, 0.0, 1.0, 0.05),
        "rounds": _slider("rounds", rounds, 1, ROUNDS_IN_PLANE, 1),
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
        **{name: _slider(f"weight of {name}", value, -1.0, 5.0, 0.25) for name, value in weights.items()},
        "client_rate": _slider("client rate β", client_rate, 0.05, 2.0, 0.05),
        "server_rate": _slider("server rate (SGD)", server_rate, 0.1, 5.0, 0.1),
        "rounds": _slider("rounds", rounds, 1, MOST_ROUNDS, 1),
    }
    picture = MixPicture()

    def draw(client_rate: float, server_rate: float, rounds: int, **mix: float) -> tuple[Figure, str]:
        return picture.show([mix[name] for name in weights], client_rate, server_rate, rounds)

    presets = {name: dict(zip(weights, mix, strict=True)) for name, mix in PRESETS.items()}
    return Panel("mix_your_own", controls, draw, 410, presets=presets)


# --- the recorded results --------------------------------------------------------------------------------

_VIEWS: Mapping[str, Callable[[Sequence[dict[str, Any]], Sequence[str]], Figure]] = {
    "initial → personalized": result_plots.arrow_plot,
    "epoch by epoch": result_plots.adaptation_plot,
    "each client's gain": result_plots.gain_plot,
}
_EFFECT = "effect, each seed"


def claim_explorer(
    folder: str | Path,
    *,
    dataset: str = "mnist_by_writer",
    claim: str = "T1-gain",
    clients_per_round: int = 20,
    local_epochs: int = 5,
    view: str = "initial → personalized",
) -> Panel:
    """A claim on a data set: the figure and the verdict of the results that the repository keeps.

    Args:
        folder: of the results, `data/results` of the repository.
        dataset: a name of a recorded comparison.
        claim: a name in `claims.TABLE_ONE`, or of one of `claims.CONTRASTS`.
        clients_per_round: of the cell of Table 1 that is told in words.
        local_epochs: of the same, E.
        view: what to draw for claims 2 and 3.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a value is none of its control's options.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder.absolute()}; give that of the repository's recorded results, for example "
            "'../data/results' in a notebook"
        )
    names = [*claims.TABLE_ONE, *(contrast.claim for contrast in claims.CONTRASTS)]
    table_one = next(iter(RECORDED_TABLE_ONE.values()))  # all have the same cells
    halves, epochs = table_one.clients_per_round, table_one.local_epochs
    controls = {
        "dataset": _choice("data set", dataset, tuple(RECORDED_COMPARISON)),
        "claim": _choice("claim", claim, names),
        "clients_per_round": _choice("clients a round", clients_per_round, halves),
        "local_epochs": _choice("local epochs E", local_epochs, epochs),
        "view": _choice("figure", view, (*_VIEWS, _EFFECT)),
    }

    @cache
    def of_table_one(dataset: str) -> tuple[list[dict[str, Any]], list[Verdict]]:
        config = RECORDED_TABLE_ONE.get(dataset)
        results = recorded(config, folder) if config else []
        return results, claims.decide_table_one(results, RECORDED) if results else []

    @cache
    def of_comparison(dataset: str) -> tuple[list[dict[str, Any]], list[Verdict], Any]:
        results = recorded(RECORDED_COMPARISON[dataset], folder)
        return results, *(claims.decide_comparison(results, RECORDED) if results else ([], None))

    def draw(
        dataset: str, claim: str, clients_per_round: int, local_epochs: int, view: str
    ) -> tuple[Figure, str]:
        in_table = claim in claims.TABLE_ONE
        controls["clients_per_round"].disabled = controls["local_epochs"].disabled = not in_table
        controls["view"].disabled = in_table
        if in_table:
            results, verdicts = of_table_one(dataset)
        else:
            results, verdicts, effects = of_comparison(dataset)
        if not results:
            verdicts = claims.not_run(claim, dataset, RECORDED)
        (verdict,) = (one for one in verdicts if one.claim == claim)
        words = VerdictTable((verdict,)).to_html()
        if not results:
            return _nothing(dataset, claim), words
        if in_table:
            figure = result_plots.table_plot(results)
            place = halves.index(clients_per_round)
            figure.axes[place].axvline(local_epochs, color="black", linestyle=":", linewidth=2)
            return figure, _cell(results, clients_per_round, local_epochs) + words
        if view == _EFFECT:
            return result_plots.effect_plot({verdict.dataset: effects.loc[[claim]]}), words
        contrast = next(one for one in claims.CONTRASTS if one.claim == claim)
        rivals = {
            model.format(claims.centralized(result)): None
            for model in (contrast.better, contrast.worse)
            for result in results
        }
        return _VIEWS[view](results, list(rivals)), words

    return Panel("claim_explorer", controls, draw, 520, fixed=repr(folder.as_posix()))


def _nothing(dataset: str, claim: str) -> Figure:
    figure = Figure(figsize=(9, 3))
    text = f"The repository keeps no results of {dataset!r}\nfor claim {claim!r} yet."
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=16)
    return figure


def _cell(results: Sequence[dict[str, Any]], clients_per_round: int, local_epochs: int) -> str:
    """One cell of Table 1 in words, and the paper's own, as HTML."""
    cells = claims.cells(results)
    here = (cells.clients_per_round == clients_per_round) & (cells.local_epochs == local_epochs)
    ours = 100 * cells.loc[here, ["initial", "personalized"]]
    mean, spread = ours.mean(), ours.std()
    table = result_plots.PAPER_TABLE_ONE
    paper = 100 * table.xs((clients_per_round, local_epochs))
    return (
        f"<b>{clients_per_round} clients a round, E = {local_epochs}</b> (dotted line): initial "
        f"{mean.initial:.1f} % ± {spread.initial:.1f}, personalized {mean.personalized:.1f} % ± "
        f"{spread.personalized:.1f} (mean and spread of {len(results)} seeds). The paper, on EMNIST-62: "
        f"{paper.initial:.1f} → {paper.personalized:.1f} %."
    )
