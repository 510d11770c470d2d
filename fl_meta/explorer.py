"""The results that the repository keeps, claim by claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fl_meta import claims, result_plots
from fl_meta.experiments import RECORDED_COMPARISON, RECORDED_TABLE_ONE
from fl_meta.panel import Panel, choice
from fl_meta.results import recorded
from fl_meta.verdicts import RECORDED, Verdict, VerdictTable

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
        "dataset": choice("data set", dataset, tuple(RECORDED_COMPARISON)),
        "claim": choice("claim", claim, names),
        "clients_per_round": choice("clients a round", clients_per_round, halves),
        "local_epochs": choice("local epochs E", local_epochs, epochs),
        "view": choice("figure", view, (*_VIEWS, _EFFECT)),
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
