"""The results that the repository keeps, claim by claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from fl_meta.evidence.comparison_verdicts import CONTRASTS, centralized, decide_comparison, not_run
from fl_meta.evidence.result_types import ComparisonResult, Result, TableOneResult
from fl_meta.evidence.results import recorded
from fl_meta.evidence.table_one_verdicts import TABLE_ONE_CLAIMS, decide_table_one, table_one_cells
from fl_meta.evidence.verdicts import Verdict, VerdictTable
from fl_meta.experiments.comparison_settings import RECORDED_COMPARISON, REPTILE
from fl_meta.experiments.outcomes import Option
from fl_meta.experiments.settings import RECORDED
from fl_meta.experiments.table_one import PAPER_TABLE_ONE
from fl_meta.experiments.table_one_settings import RECORDED_TABLE_ONE
from fl_meta.laboratories.animated_figure import animate, png
from fl_meta.laboratories.panel import Panel, choice
from fl_meta.plots import results as result_plots
from fl_meta.plots.style import PALETTE

ResultT = TypeVar("ResultT", bound=Result)
_VIEWS: Mapping[str, Callable[..., Figure]] = {
    "initial → personalized": result_plots.arrow_plot,
    "epoch by epoch": result_plots.adaptation_plot,
    "each client's gain": result_plots.gain_plot,
}
_EFFECT = "effect, each seed"
_ALL, _CHOSEN = "all", "as chosen"
_CONTRASTS = {contrast.claim: contrast for contrast in CONTRASTS}
_SIZE, _LETTERS = (10.4, 5.4), 12  # inches and points: legible on a projector


@dataclass(frozen=True)
class _Evidence(Generic[ResultT]):
    """Results of all seeds or of one, the verdicts on them by claim, and the effects in a comparison."""

    results: Sequence[ResultT]
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
    """Choose a claim and a data set; see the figure and the verdict of the results that the repository keeps.

    Args:
        folder: the recorded results, `data/results` of the repository.
        dataset: a name in `RECORDED_COMPARISON`.
        claim: a name in `TABLE_ONE_CLAIMS`, or the claim of one of `CONTRASTS`.
        seed: the seed whose result to show, or "all"; the verdict is always on all seeds.
        clients_per_round: together with `local_epochs`, the cell of Table 1 that is put into words.
        local_epochs: E of that cell.
        steps: Reptile's K; shows how its options did on the validation clients. "as chosen" shows the result.
        view: what to draw for claims 2 and 3.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a value is not among its control's options.

    Example:
        >>> claim_explorer("../data/results", dataset="unipen62", claim="2a-personalized")  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder.absolute()}; give the folder of the repository's recorded results, for "
            "example '../data/results' in a notebook"
        )
    seeds = range(max(config.folds for config in RECORDED_COMPARISON.values()))
    tried = sorted({k for config in RECORDED_COMPARISON.values() for k, _ in config.reptile})
    controls = {
        "dataset": choice("data set", dataset, tuple(RECORDED_COMPARISON)),
        "claim": choice("claim", claim, (*TABLE_ONE_CLAIMS, *_CONTRASTS)),
        "seed": choice("seed", seed, (_ALL, *seeds)),
        "clients_per_round": choice("clients a round", clients_per_round, ClaimExplorer.halves),
        "local_epochs": choice("local epochs E", local_epochs, ClaimExplorer.epochs),
        "steps": choice("Reptile's local steps K", steps, (_CHOSEN, *tried)),
        "view": choice("figure", view, (*_VIEWS, _EFFECT)),
    }
    explorer = ClaimExplorer(folder, controls)
    return Panel("claim_explorer", controls, explorer.draw, fixed=repr(folder.as_posix()))


class ClaimExplorer:
    """The figures and words behind `claim_explorer`; `halves` and `epochs` are the axes of Table 1."""

    _table_one = next(iter(RECORDED_TABLE_ONE.values()))  # all of them have the same cells
    halves, epochs = _table_one.clients_per_round, _table_one.local_epochs

    def __init__(self, folder: Path, controls: Mapping[str, Any]) -> None:
        self._folder, self._controls = folder, controls
        self._table_one_of = cache(self._read_table_one)
        self._comparison_of = cache(self._read_comparison)
        self._moving_table = cache(self._draw_moving_table)
        self._table_of = cache(self._draw_table)
        self._comparison_figure = lru_cache(maxsize=16)(self._draw_comparison)  # a few MB each

    def draw(
        self,
        dataset: str,
        claim: str,
        seed: int | str,
        clients_per_round: int,
        local_epochs: int,
        steps: int | str,
        view: str,
    ) -> tuple[Figure, str]:
        """The figure and, as HTML, the words for the values of the controls."""
        in_table_one = claim in TABLE_ONE_CLAIMS
        has_steps = not in_table_one and _CONTRASTS[claim].better == REPTILE
        steps = steps if has_steps else _CHOSEN
        for name in ("clients_per_round", "local_epochs"):
            self._controls[name].disabled = not in_table_one
        self._controls["steps"].disabled = not has_steps
        self._controls["view"].disabled = in_table_one or steps != _CHOSEN

        read = self._table_one_of if in_table_one else self._comparison_of
        all_seeds, chosen = read(dataset, _ALL), read(dataset, seed)
        if not all_seeds.results:
            (verdict,) = (verdict for verdict in not_run(claim, dataset, RECORDED) if verdict.claim == claim)
            text = f"The repository keeps no results of {dataset!r}\nfor claim {claim!r}: choose another one."
            return _nothing(text), VerdictTable((verdict,)).to_html()
        words = VerdictTable((all_seeds.verdicts[claim],)).to_html()
        if not chosen.results:
            last = len(all_seeds.results) - 1
            return _nothing(f"{dataset!r} has no seed {seed}: choose one from 0 to {last}."), words
        if seed != _ALL:
            words = _alone(chosen, all_seeds, claim) + words
        if in_table_one:
            results = self._table_one_of(dataset, seed).results
            figure = self._table_one_figure(dataset, seed, clients_per_round, local_epochs)
            return figure, _cell(results, clients_per_round, local_epochs) + words
        if has_steps:
            searched = self._comparison_of(dataset, seed).results
            tried = sorted({k for k, _ in _options(searched[0])})
            if steps not in (_CHOSEN, *tried):
                text = f"Reptile was not tried with K = {steps} on {dataset!r}:\nchoose K from {tried}."
                return _nothing(text), words
            words = _chosen(searched) + words
        return self._comparison_figure(dataset, claim, seed, steps, view), words

    def _read_table_one(self, dataset: str, seed: int | str) -> _Evidence[TableOneResult]:
        config = RECORDED_TABLE_ONE.get(dataset)
        results = _of_seed(recorded(config, self._folder) if config else [], seed)
        verdicts = decide_table_one(results, RECORDED) if results else []
        return _Evidence(results, {verdict.claim: verdict for verdict in verdicts})

    def _read_comparison(self, dataset: str, seed: int | str) -> _Evidence[ComparisonResult]:
        results = _of_seed(recorded(RECORDED_COMPARISON[dataset], self._folder), seed)
        if not results:
            return _Evidence(results)
        verdicts, effects = decide_comparison(results, RECORDED)
        return _Evidence(results, {verdict.claim: verdict for verdict in verdicts}, effects)

    def _table_one_figure(
        self, dataset: str, seed: int | str, clients_per_round: int, local_epochs: int
    ) -> Figure:
        """The figure of all seeds, with the lines of the chosen ones and a mark at the chosen cell."""
        figure, own_figure = self._moving_table(dataset), self._table_of(dataset, seed)
        figure.suptitle(own_figure.get_suptitle())
        for clients, axes, own_axes in zip(self.halves, figure.axes, own_figure.axes, strict=False):
            *lines, mark = axes.lines
            mark.set(xdata=[local_epochs] * 2, visible=clients == clients_per_round)
            for line, own_line in zip(lines, own_axes.lines, strict=True):
                line.set_data(*own_line.get_data())
        return figure

    def _draw_moving_table(self, dataset: str) -> Figure:
        """Drawn once; then only the lines move, so that another seed appears at once on the same axes."""
        figure = _readable(self._draw_table(dataset, _ALL))
        for axes in figure.axes[: len(self.halves)]:
            axes.axvline(self.epochs[0], color="black", linestyle=":", linewidth=2)
            animate(axes.lines)
        animate(figure.texts)
        for legend in figure.findobj(Legend):
            legend.remove()
        # More clients are more accurate: the last axes of a row have room below the curves.
        for axes in figure.axes[len(self.halves) - 1 :: len(self.halves)]:
            axes.legend(frameon=False, fontsize=_LETTERS, ncols=2, loc="lower right")
        png(figure)  # draws what does not move, and fixes the layout before lines of other seeds come
        return figure

    def _draw_table(self, dataset: str, seed: int | str) -> Figure:
        results = self._table_one_of(dataset, seed).results
        return result_plots.table_plot(results, label=_label(results[0], seed))

    def _draw_comparison(
        self, dataset: str, claim: str, seed: int | str, steps: int | str, view: str
    ) -> Figure:
        results = self._comparison_of(dataset, seed).results
        label = _label(results[0], seed)
        if steps != _CHOSEN:
            return _readable(_search_plot(results, int(steps), label))
        if view == _EFFECT:
            tables = {}
            for shown in dict.fromkeys((_ALL, seed)):
                evidence = self._comparison_of(dataset, shown)
                tables[_label(evidence.results[0], shown)] = evidence.effects.loc[[claim]]
            return _readable(result_plots.effect_plot(tables))
        names = [
            name.format(centralized(result))
            for name in (_CONTRASTS[claim].better, _CONTRASTS[claim].worse)
            for result in results
        ]
        return _readable(_VIEWS[view](results, list(dict.fromkeys(names)), label=label))


def _of_seed(results: list[ResultT], seed: int | str) -> list[ResultT]:
    return [result for result in results if seed in (_ALL, result.seed)]


def _label(result: Result, seed: int | str) -> str:
    return result.label if seed == _ALL else f"{result.label}, seed {seed} alone"


def _nothing(text: str) -> Figure:
    figure = Figure(figsize=_SIZE)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=16)
    return figure


def _readable(figure: Figure) -> Figure:
    """Give a figure the size of the other panels' figures, and larger letters."""
    figure.set_size_inches(_SIZE)
    for axes in figure.axes:
        axes.tick_params(labelsize=_LETTERS)
    for text in figure.findobj(Text):
        text.set_fontsize(max(_LETTERS, text.get_fontsize()))
    return figure


def _options(result: ComparisonResult) -> dict[tuple[int, float], float]:
    """Validation accuracy of Reptile's options (K, server rate), in percent."""
    return {_pair(tried.option): 100 * tried.validation for tried in result.search[REPTILE]}


def _pair(option: Option) -> tuple[int, float]:
    assert isinstance(option, tuple), "Reptile's options are pairs"
    return option


def _takers(results: Sequence[ComparisonResult]) -> dict[tuple[int, float], list[int]]:
    """For each of Reptile's options the seeds whose validation clients chose it."""
    takers: dict[tuple[int, float], list[int]] = {option: [] for option in _options(results[0])}
    for result in results:
        takers[_pair(result.model_named(REPTILE).option)].append(result.seed)
    return takers


def _in_words(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _search_plot(results: Sequence[ComparisonResult], steps: int, label: str) -> Figure:
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
        best = [_options(result)[option] for result in results if result.seed in seeds]
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
        title=f"{label}: the search for Reptile's K",
    )
    axes.grid(alpha=0.3, axis="x")
    return figure


def _chosen(results: Sequence[ComparisonResult]) -> str:
    """Which of Reptile's options were chosen, as HTML."""
    told = [
        f"K = {k} with server rate {rate:g} in {_in_words(seeds)}"
        for (k, rate), seeds in _takers(results).items()
        if seeds
    ]
    return (
        f"Reptile's options, chosen by the validation clients: <b>{'; '.join(told)}</b>. Only what was "
        "chosen has been personalized to the held-out clients, whom the verdict is about.<br>"
    )


def _alone(chosen: _Evidence[Any], all_seeds: _Evidence[Any], claim: str) -> str:
    """What one seed says about a claim, as HTML."""
    (result,) = chosen.results
    effect, interval = chosen.verdicts[claim].numbers()
    told = f"effect {effect} {chosen.verdicts[claim].unit}"
    if effect == "—":
        told = "no effect, since a spread over seeds needs several"
    elif interval != "—":
        told += f", 95 % interval {interval}"
    return (
        f"<b>Seed {result.seed} alone</b> ({len(result.clients)} held-out clients): {told}. "
        f"The verdict is on all {len(all_seeds.results)} seeds, each of which holds out other clients.<br>"
    )


def _cell(results: Sequence[TableOneResult], clients_per_round: int, local_epochs: int) -> str:
    """One cell of Table 1 in words, and the paper's own, as HTML."""
    cells = table_one_cells(results)
    in_cell = (cells.clients_per_round == clients_per_round) & (cells.local_epochs == local_epochs)
    ours = 100 * cells.loc[in_cell, ["initial", "personalized"]]
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
