"""What is recorded of Table 1 as text: for a terminal, and for docs/evidence.md in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fl_meta.evidence import table_one_evidence
from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.evidence.table_one_evidence import STATEMENTS, TableOneFinding
from fl_meta.evidence.table_one_runs import READINGS, table_one_spreads
from fl_meta.evidence.verdicts import MARKS
from fl_meta.support.text_table import aligned, markdown_table, signed

Tables = Mapping[str, Sequence[CrossedTableOneResult]]
"""The results of Table 1 by data set, from `recorded_tables`."""


def table_one_rules() -> str:
    """The rules of the verdicts, as the module that applies them says."""
    text = table_one_evidence.__doc__ or ""
    return text[text.index("\n- ") :].strip()


def findings_text(findings: Sequence[TableOneFinding]) -> str:
    """The findings as a table for a terminal, grouped by statement.

    Example:
        >>> print(findings_text(table_one_findings(tables.values())))  # doctest: +SKIP
    """
    rows, seen = [], set[str]()
    for one in findings:
        claim = "" if one.claim in seen else one.claim
        seen.add(one.claim)
        rows.append((claim, *_entries(one)))
    return aligned(("statement", "data set", "compared at", "verdict", "effect, 95 % interval"), rows)


def findings_tables(findings: Sequence[TableOneFinding]) -> str:
    """For each statement a table of what was found, in Markdown.

    Example:
        >>> print(findings_tables(table_one_findings(tables.values())))  # doctest: +SKIP
    """
    head = ("data set", "compared at", "verdict", "effect, 95 % interval", "cells")
    parts = []
    for claim, statement in STATEMENTS.items():
        rows = [(*_entries(one), one.detail) for one in findings if one.claim == claim]
        parts.append(f"### {claim}\n\n{statement}.\n\n{markdown_table(head, rows)}")
    return "\n\n".join(parts)


def spread_tables(tables: Tables) -> str:
    """Table 1 of every data set at both readings, with its spreads over training runs beside the paper's.

    Example:
        >>> print(spread_tables(recorded_tables(folder)))  # doctest: +SKIP
    """
    head = ["clients", "E", "initial", "personalized", "ratio of spreads", "paper: initial"]
    head += ["paper: personalized", "paper: ratio"]
    parts = []
    for results in tables.values():
        for reading in READINGS:
            rows = []
            spreads = table_one_spreads(results, reading)
            for (clients, epochs), row in zip(spreads.index, spreads.to_dict("records"), strict=True):
                ours = [
                    f"{100 * row[measure]:.1f} ± {100 * row[f'{measure}_spread']:.2f}"
                    for measure in ("initial", "personalized")
                ]
                ours.append(f"{row['ratio']:.1f} [{row['ratio_low']:.1f}, {row['ratio_high']:.1f}]")
                theirs = [
                    _or_dash(100 * row[f"paper_{measure}_spread"], 2)
                    for measure in ("initial", "personalized")
                ]
                rows.append(
                    [str(clients), str(epochs), *ours, *theirs, _or_dash(float(row["paper_ratio"]), 1)]
                )
            replicates = len(results) // results[0].config.folds
            title = f"**{results[0].label}**, {reading.replace('_', ' ')} ({replicates} replicates)"
            parts.append(f"{title}\n\n{markdown_table(head, rows)}")
    return "\n\n".join(parts)


def _entries(finding: TableOneFinding) -> tuple[str, str, str, str]:
    verdict = f"{MARKS[finding.verdict]} {finding.verdict}"
    return finding.dataset, finding.reading.replace("_", " "), verdict, effect_text(finding)


def effect_text(finding: TableOneFinding) -> str:
    """The effect with its interval: signed points, or how many times as much.

    Example:
        >>> effect_text(finding)  # doctest: +SKIP
        '+3.02 [+2.11, +3.93] points'
    """
    effect = finding.effect
    numbers = (effect.estimate, effect.low, effect.high)
    first, low, high = (signed(x, 2) if finding.unit == "points" else f"{x:.2f}" for x in numbers)
    return f"{first} [{low}, {high}] {finding.unit}"


def _or_dash(number: float, digits: int) -> str:
    return "–" if math.isnan(number) else f"{number:.{digits}f}"
