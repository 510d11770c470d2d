"""The results that the repository keeps, claim by claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from fl_meta.evidence import comparison_verdicts as claims
from fl_meta.evidence import table_one_verdicts
from fl_meta.evidence.results import label_of, recorded
from fl_meta.evidence.verdicts import Verdict, VerdictTable
from fl_meta.experiments.comparison_settings import RECORDED_COMPARISON, REPTILE
from fl_meta.experiments.settings import RECORDED
from fl_meta.experiments.table_one import PAPER_TABLE_ONE, RECORDED_TABLE_ONE
from fl_meta.laboratories.animated_figure import animate, png
from fl_meta.laboratories.panel import Panel, choice
from fl_meta.plots import results as result_plots
from fl_meta.plots.style import PALETTE

Results = list[dict[str, Any]]

_VIEWS: Mapping[str, Callable[[Sequence[dict[str, Any]], Sequence[str]], Figure]] = {
    "initial → personalized": result_plots.arrow_plot,
    "epoch by epoch": result_plots.adaptation_plot,
    "each client's gain": result_plots.gain_plot,
}
_EFFECT = "effect, each seed"
_ALL, _CHOSEN = "all", "as chosen"
_CONTRASTS = {contrast.claim: contrast for contrast in claims.CONTRASTS}
_SIZE, _LETTERS = (10.4, 5.4), 12  # inches and points: to be read on a projector


@dataclass(frozen=True)
class _Kept:
    """Results of all seeds or of one, and what they say.

    Attributes:
        results: one per seed; none if there are none.
        verdicts: by claim.
        effects: second value of `claims.decide_comparison`; empty for Table 1.
    """

    results: Results
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    effects: pd.DataFrame = field(default_factory=pd.DataFrame)


def claim_explorer(
    folder: str | Path,
    *,
    dataset: str = "mnist_by_writer",
    claim: str = "T1-gain",
    seed: int | str = _ALL,
    clients_per_round: int = 20,
    local_epochs: int = 5,
    steps: int | str = _CHOSEN,
    view: str = "initial → personalized",
) -> Panel:
    """A claim on a data set: the figure and the verdict of the results that the repository keeps.

    Args:
        folder: of the results, `data/results` of the repository.
        dataset: a name of a recorded comparison.
        claim: a name in `table_one_verdicts.TABLE_ONE`, or of one of `claims.CONTRASTS`.
        seed: whose result to show, or "all"; the verdict is always of all.
        clients_per_round: of the cell of Table 1 that is told in words.
        local_epochs: of the same, E.
        steps: Reptile's K: how its options did on the validation clients; "as chosen" shows what came out.
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
    table_one = next(iter(RECORDED_TABLE_ONE.values()))  # all have the same cells
    halves, epochs = table_one.clients_per_round, table_one.local_epochs
    seeds = range(max(config.folds for config in RECORDED_COMPARISON.values()))
    grid = sorted({k for config in RECORDED_COMPARISON.values() for k, _ in config.reptile})
    controls = {
        "dataset": choice("data set", dataset, tuple(RECORDED_COMPARISON)),
        "claim": choice("claim", claim, (*table_one_verdicts.TABLE_ONE, *_CONTRASTS)),
        "seed": choice("seed", seed, (_ALL, *seeds)),
        "clients_per_round": choice("clients a round", clients_per_round, halves),
        "local_epochs": choice("local epochs E", local_epochs, epochs),
        "steps": choice("Reptile's local steps K", steps, (_CHOSEN, *grid)),
        "view": choice("figure", view, (*_VIEWS, _EFFECT)),
    }

    @cache
    def kept(dataset: str, in_table: bool, seed: int | str) -> _Kept:
        config = (RECORDED_TABLE_ONE if in_table else RECORDED_COMPARISON).get(dataset)
        results = recorded(config, folder) if config else []
        if seed != _ALL:
            results = [result for result in results if result["seed"] == seed]
        if not results:
            return _Kept([])
        if in_table:
            verdicts, effects = table_one_verdicts.decide_table_one(results, RECORDED), pd.DataFrame()
        else:
            verdicts, effects = claims.decide_comparison(results, RECORDED)
        return _Kept(_titled(results, seed), {verdict.claim: verdict for verdict in verdicts}, effects)

    @cache
    def table_figure(dataset: str) -> Figure:
        """Drawn once; then the lines move, so that a seed is followed at once on the same axes."""
        figure = _readable(result_plots.table_plot(kept(dataset, True, _ALL).results))
        for axes in figure.axes[: len(halves)]:
            axes.axvline(epochs[0], color="black", linestyle=":", linewidth=2)
            animate(axes.lines)
        animate(figure.texts)
        for legend in figure.findobj(Legend):
            legend.remove()
        # More clients are more accurate: on a row's common axis its last has room below the curves.
        for axes in figure.axes[len(halves) - 1 :: len(halves)]:
            axes.legend(frameon=False, fontsize=_LETTERS, ncols=2, loc="lower right")
        png(figure)  # what does not move is drawn, and put in its place, before the lines are other seeds'
        return figure

    @cache
    def table_of(dataset: str, seed: int | str) -> Figure:
        return result_plots.table_plot(kept(dataset, True, seed).results)

    @lru_cache(maxsize=16)  # drawn figures take a few MB each
    def figure_of(dataset: str, claim: str, seed: int | str, steps: int | str, view: str) -> Figure:
        here = kept(dataset, False, seed)
        if steps != _CHOSEN:
            return _readable(_search_plot(here.results, int(steps)))
        if view == _EFFECT:
            rows = [kept(dataset, False, which) for which in dict.fromkeys((_ALL, seed))]
            tables = {row.results[0]["data"]["label"]: row.effects.loc[[claim]] for row in rows}
            return _readable(result_plots.effect_plot(tables))
        rivals = {
            model.format(claims.centralized(result)): None
            for model in (_CONTRASTS[claim].better, _CONTRASTS[claim].worse)
            for result in here.results
        }
        return _readable(_VIEWS[view](here.results, list(rivals)))

    def draw(
        dataset: str,
        claim: str,
        seed: int | str,
        clients_per_round: int,
        local_epochs: int,
        steps: int | str,
        view: str,
    ) -> tuple[Figure, str]:
        in_table = claim in table_one_verdicts.TABLE_ONE
        has_steps = not in_table and _CONTRASTS[claim].better == REPTILE
        steps = steps if has_steps else _CHOSEN
        controls["clients_per_round"].disabled = controls["local_epochs"].disabled = not in_table
        controls["steps"].disabled = not has_steps
        controls["view"].disabled = in_table or steps != _CHOSEN

        everything, here = (kept(dataset, in_table, which) for which in (_ALL, seed))
        if not everything.results:
            (verdict,) = (one for one in claims.not_run(claim, dataset, RECORDED) if one.claim == claim)
            text = f"The repository keeps no results of {dataset!r}\nfor claim {claim!r}: choose another one."
            return _nothing(text), VerdictTable((verdict,)).to_html()
        words = VerdictTable((everything.verdicts[claim],)).to_html()
        if not here.results:
            last = len(everything.results) - 1
            return _nothing(f"{dataset!r} has no seed {seed}: choose one from 0 to {last}."), words
        if seed != _ALL:
            words = _alone(here, everything, claim) + words
        if in_table:
            figure, found = table_figure(dataset), table_of(dataset, seed)
            figure.suptitle(found.get_suptitle())
            for clients, axes, its in zip(halves, figure.axes, found.axes, strict=False):
                *lines, cell = axes.lines
                cell.set(xdata=[local_epochs] * 2, visible=clients == clients_per_round)
                for line, own in zip(lines, its.lines, strict=True):
                    line.set_data(*own.get_data())
            return figure, _cell(here.results, clients_per_round, local_epochs) + words
        if has_steps:
            tried = sorted({k for k, _ in _options(here.results[0])})
            if steps not in (_CHOSEN, *tried):
                text = f"Reptile was not tried with K = {steps} on {dataset!r}:\nchoose K from {tried}."
                return _nothing(text), words
            words = _chosen(here.results) + words
        return figure_of(dataset, claim, seed, steps, view), words

    return Panel("claim_explorer", controls, draw, fixed=repr(folder.as_posix()))


def _titled(results: Results, seed: int | str) -> Results:
    """Results whose label, which stands over the figures, tells the model and the seed."""
    label = label_of(results[0]) + ("" if seed == _ALL else f", seed {seed} alone")
    return [{**result, "data": {**result["data"], "label": label}} for result in results]


def _nothing(text: str) -> Figure:
    figure = Figure(figsize=_SIZE)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=16)
    return figure


def _readable(figure: Figure) -> Figure:
    """In the size of the other panels' pictures, with larger letters."""
    figure.set_size_inches(_SIZE)
    for axes in figure.axes:
        axes.tick_params(labelsize=_LETTERS)
    for text in figure.findobj(Text):
        text.set_fontsize(max(_LETTERS, text.get_fontsize()))
    return figure


def _options(result: dict[str, Any]) -> dict[tuple[int, float], float]:
    """Validation accuracy of Reptile's options (K, server rate), in percent."""
    return {tuple(one["option"]): 100 * one["validation"] for one in result["search"][REPTILE]}


def _takers(results: Results) -> dict[tuple[int, float], list[int]]:
    """For each of Reptile's options the seeds whose validation clients chose it."""
    takers: dict[tuple[int, float], list[int]] = {option: [] for option in _options(results[0])}
    for result in results:
        takers[tuple(claims.model_named(result, REPTILE)["option"])].append(result["seed"])
    return takers


def _in_words(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _search_plot(results: Results, steps: int) -> Figure:
    """Validation accuracy of Reptile's options, those with K = `steps` in colour, a thin line per seed."""
    accuracy = pd.DataFrame([_options(result) for result in results])  # [seeds, options]
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    takers = _takers(results)
    rows = range(len(takers))
    for _, values in accuracy.iterrows():
        axes.plot(values, rows, color="0.8", linewidth=1, zorder=1)
    for row, (option, seeds) in zip(rows, takers.items(), strict=True):
        colour = PALETTE[0] if option[0] == steps else "0.6"
        axes.plot(accuracy[option], np.full(len(accuracy), row), "o", color=colour, markersize=7)
        best = [_options(result)[option] for result in results if result["seed"] in seeds]
        axes.plot(best, np.full(len(best), row), "*", color=colour, markersize=20, markeredgecolor="black")
        text = f"{accuracy[option].mean():.1f} %; " + (
            f"chosen in {_in_words(seeds)}" if seeds else "never chosen"
        )
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center")
    axes.set(
        xlabel="personalized accuracy of the validation clients, %\n(thin line: one seed; ★: chosen by it)",
        yticks=rows,
        yticklabels=[f"K = {k}, server rate {rate:g}" for k, rate in takers],
        ylim=(len(rows) - 0.5, -0.5),
        title=f"{results[0]['data']['label']}: the search for Reptile's K",
    )
    axes.grid(alpha=0.3, axis="x")
    return figure


def _chosen(results: Results) -> str:
    """Which of Reptile's options came out of the search, as HTML."""
    told = [
        f"K = {k} with server rate {rate:g} in {_in_words(seeds)}"
        for (k, rate), seeds in _takers(results).items()
        if seeds
    ]
    return (
        f"Reptile's options, chosen by the validation clients: <b>{'; '.join(told)}</b>. Only what was "
        "chosen has been personalized to the held-out clients, whom the verdict is about.<br>"
    )


def _alone(here: _Kept, everything: _Kept, claim: str) -> str:
    """What one seed says of a claim, as HTML."""
    (result,) = here.results
    effect, interval = here.verdicts[claim].numbers()
    told = f"effect {effect} {here.verdicts[claim].unit}"
    if effect == "—":
        told = "no effect, since a spread over seeds needs several"
    elif interval != "—":
        told += f", 95 % interval {interval}"
    return (
        f"<b>Seed {result['seed']} alone</b> ({len(result['clients'])} held-out clients): {told}. "
        f"The verdict is of all {len(everything.results)} seeds, each of which holds out other clients.<br>"
    )


def _cell(results: Results, clients_per_round: int, local_epochs: int) -> str:
    """One cell of Table 1 in words, and the paper's own, as HTML."""
    cells = table_one_verdicts.cells(results)
    here = (cells.clients_per_round == clients_per_round) & (cells.local_epochs == local_epochs)
    ours = 100 * cells.loc[here, ["initial", "personalized"]]
    mean, spread = ours.mean(), ours.std()
    told = f"initial {mean.initial:.1f} %, personalized {mean.personalized:.1f} %"
    if len(results) > 1:
        told = (
            f"initial {mean.initial:.1f} % ± {spread.initial:.1f}, personalized {mean.personalized:.1f} % ± "
            f"{spread.personalized:.1f} (mean and spread of {len(results)} seeds)"
        )
    paper = 100 * PAPER_TABLE_ONE.xs((clients_per_round, local_epochs))
    return (
        f"<b>{clients_per_round} clients a round, E = {local_epochs}</b> (dotted line): {told}. The "
        f"paper, on EMNIST-62: {paper.initial:.1f} → {paper.personalized:.1f} %.<br>"
    )
