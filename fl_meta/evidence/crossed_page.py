"""The parts of docs/evidence.md that come from the recorded results and from docstrings, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from fl_meta.evidence import crossed_rules
from fl_meta.evidence.crossed_rules import (
    CLAIM_TESTS,
    CONTRASTS,
    accuracies_by_fold,
    differences,
    number_of_clients,
)
from fl_meta.evidence.crossed_words import interval_text, rows_of
from fl_meta.evidence.paired_spreads import run_means, spread
from fl_meta.evidence.result_types import CrossedResult, TuningResult
from fl_meta.evidence.verdicts import MARKS
from fl_meta.experiments import crossed_settings
from fl_meta.experiments.crossed_settings import (
    CONTINUED,
    FEDAVG,
    MOST_EXTENSIONS,
    REPTILE,
    Choice,
    Design,
)
from fl_meta.experiments.outcomes import BOTH, TriedRate
from fl_meta.support.text_table import markdown_table, signed

Cells = Sequence[CrossedResult]
Designs = Mapping[str, Cells]
"""The cells of designs by the design's name, from `recorded_designs`."""

CAUSE_MARKS = {
    "helps": "▲",
    "helps, but small": "△",
    "no difference": "=",
    "undecided": "?",
    "harms, but small": "▽",
    "harms": "▼",
}
SHOWN_ARMS = (FEDAVG, CONTINUED, REPTILE)
AT_THE_END, BY_THE_CEILING = "†", "‡"


def design_rules() -> str:
    """How the crossed design was set up, as its settings say."""
    return _list_of(crossed_settings.__doc__)


def verdict_rules() -> str:
    """The rules of the verdicts, as the module that applies them says."""
    return _list_of(crossed_rules.__doc__)


def _list_of(docstring: str | None) -> str:
    text = docstring or ""
    return text[text.index("\n- ") :].strip()


def designs_table(designs: Designs) -> str:
    """What the recorded designs are: data, model, regime, numbers of clients and rounds, replicates, hours.

    Example:
        >>> print(designs_table(recorded_designs(folder)))  # doctest: +SKIP
    """
    head = ("name", "clients", "folds", "a round", "E", "most rounds", "second stage", "replicates", "hours")
    rows = []
    for name, cells in designs.items():
        design = cells[0].config.design
        numbers = [number_of_clients(cells), design.folds, design.clients_per_round, design.local_epochs]
        numbers += [design.most_rounds, design.second_stage_rounds, len(cells) // design.folds]
        hours = sum(cell.seconds for cell in cells) / 3600
        rows.append([f"`{name}`", *map(str, numbers), f"{hours:.1f}"])
    return markdown_table(head, rows)


def claim_tables(evidence: pd.DataFrame) -> str:
    """For each claim a table of its tests, from `evidence_table`.

    Example:
        >>> print(claim_tables(evidence))  # doctest: +SKIP
    """
    parts = []
    for test in CLAIM_TESTS:
        if rows := rows_of(evidence, test.claim):
            head = ["data set", "regime", "verdict", "effect, 95 % interval", "± half", "margin", "p (Holm)"]
            head += ["replicates", "ended by the ceiling", *(["rival better by"] if test.premise else [])]
            table = markdown_table(head, [_claim_row(row, test.premise) for row in rows])
            parts.append(f"### {test.claim}\n\n{test.statement}.\n\n{table}")
    return "\n\n".join(parts)


def _claim_row(row: dict[str, Any], premise: bool) -> list[str]:
    mark = MARKS[row["verdict"]]
    cells = [row["dataset"], row["regime"], f"{mark} {row['verdict']}"]
    cells += [f"{signed(row['effect'], 2)} {interval_text(row)}", f"{(row['high'] - row['low']) / 2:.2f}"]
    cells += [f"{row['margin']:g}", _p_text(row["p_holm"]), str(row["replicates"]), ", ".join(row["ceiling"])]
    return [*cells, signed(row["premise"], 2)] if premise else cells


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cause_tables(causes: pd.DataFrame) -> str:
    """What each factor of the second stage brings, a table for each accuracy, from `cause_table`.

    Example:
        >>> print(cause_tables(causes))  # doctest: +SKIP
    """
    parts = []
    for measure in BOTH:
        by_place: dict[tuple[str, str], dict[str, str]] = {}
        for row in rows_of(causes):
            if row["measure"] == measure:
                text = f"{CAUSE_MARKS[row['verdict']]} {signed(row['effect'], 2)} {interval_text(row)}"
                by_place.setdefault((row["dataset"], row["regime"]), {})[row["contrast"]] = text
        rows = [[*place, *(found[name] for name in CONTRASTS)] for place, found in by_place.items()]
        table = markdown_table(["data set", "regime", *CONTRASTS], rows)
        parts.append(f"**{measure.capitalize()} accuracy**\n\n{table}")
    return "\n\n".join(parts)


def spread_table(designs: Designs) -> str:
    """How much replicates of a fold differ: standard deviations of mean accuracies, in points.

    Example:
        >>> print(spread_table(recorded_designs(folder)))  # doctest: +SKIP
    """
    head = ["data set", "regime", *(f"{arm}: {m}" for arm in SHOWN_ARMS for m in BOTH)]
    head += [f"Reptile − FedAvg: {measure}" for measure in BOTH]
    rows = []
    for cells in designs.values():
        accuracies = [accuracies_by_fold(cells, [arm], measure) for arm in SHOWN_ARMS for measure in BOTH]
        spreads = [100 * spread(run_means(folds)) for folds in accuracies]
        leads = [differences(cells, [REPTILE], [CONTINUED], measure) for measure in BOTH]
        spreads += [spread(run_means(folds)) for folds in leads]
        texts = [f"{one:.2f}" for one in spreads]
        rows.append([cells[0].label, cells[0].config.regime, *texts])
    return markdown_table(head, rows)


def tuning_tables(tuning: Mapping[str, Sequence[TuningResult]]) -> str:
    """What tuning chose for every arm and fold of designs, by their names, folded away.

    Example:
        >>> print(tuning_tables({"unipen62-stable": recorded_tuning(design, folder)}))  # doctest: +SKIP
    """
    parts = []
    for name, results in tuning.items():
        arms = dict.fromkeys(choice.arm for result in results for choice in result.choices)
        rows = []
        for arm in arms:
            found = [{choice.arm: choice for choice in result.choices}.get(arm) for result in results]
            pairs = zip(found, results, strict=True)
            rows.append([arm, *(_choice_text(choice, result) if choice else "–" for choice, result in pairs)])
        at_an_end = sum(text.count(AT_THE_END) for row in rows for text in row)
        hours = sum(result.seconds for result in results) / 3600
        options = f"{at_an_end} option{'' if at_an_end == 1 else 's'} at an end"
        summary = f"<code>{name}</code>: {options}; {hours:.1f} hours"
        table = markdown_table(["arm", *(f"fold {number}" for number in range(len(results)))], rows)
        parts.append(f"<details><summary>{summary}</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts)


def _choice_text(choice: Choice, result: TuningResult) -> str:
    """Rate, rounds if a rule ended training, and the rate of personalization."""
    design, tried = result.config, result.search.get(choice.arm, ())
    parts = [f"{choice.rate:g}{AT_THE_END if _at_an_end(choice.rate, tried) else ''}"]
    if choice.ended != "fixed":
        parts.append(f"{choice.rounds}{BY_THE_CEILING if choice.ended == 'ceiling' else ''}")
    end = AT_THE_END if _extended_to_its_end(choice.personalization_rate, design) else ""
    return " · ".join([*parts, f"{choice.personalization_rate:g}{end}"])


def _at_an_end(rate: float, tried: Iterable[TriedRate]) -> bool:
    rates = {one.rate for one in tried}
    return len(rates) > 1 and rate in (min(rates), max(rates))


def _extended_to_its_end(rate: float, design: Design) -> bool:
    # Which rates of personalization were tried is not recorded. The next one is tried whenever the best lies
    # at an end, so that only the last extension can be an end.
    grid = sorted(design.personalization_rates)
    ends = ((grid[0], grid[0] / grid[1]), (grid[-1], grid[-1] / grid[-2]))
    return any(round(math.log(rate / end, factor)) >= MOST_EXTENSIONS for end, factor in ends)


def costs(designs: Designs, tuning: Mapping[str, Sequence[TuningResult]]) -> str:
    """Where the recorded results were computed, and how long it took, in a sentence.

    Example:
        >>> print(costs(designs, tuning))  # doctest: +SKIP
    """
    cells = [cell for some in designs.values() for cell in some]
    tuned = [result for some in tuning.values() for result in some]
    machines = dict.fromkeys((one.machine, one.torch) for one in (*tuned, *cells))
    places = "; ".join(f"{machine}, PyTorch {torch}" for machine, torch in machines)
    hours = sum(one.seconds for one in (*tuned, *cells)) / 3600
    return (
        f"{len(tuned)} tunings and {len(cells)} cells took {hours:.1f} hours of one process; a cell took "
        f"{fmean(cell.seconds for cell in cells):.0f} seconds on average ({places})."
    )
