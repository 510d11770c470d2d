"""Table 1 as text: every finding is there, in the words of its verdict, and the command prints it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_tables import CELLS, RUNS, drawn, levels, results_of

from fl_meta.evidence import table_one_page
from fl_meta.evidence.result_files import file_name, write_result
from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.evidence.table_one_evidence import STATEMENTS, decide_crossed_table_one, table_one_findings
from fl_meta.evidence.table_one_runs import READINGS, table_one_spreads

Command = Callable[..., tuple[Any, str, str]]


@pytest.fixture(scope="module")
def results() -> list[CrossedTableOneResult]:
    """The smallest gain is 3 points at equal rounds and −2 at equal work."""
    truths = levels((60, 60, 70, 60), (70, 75, 73, 75)), levels((60, 60, 70, 60), (70, 75, 68, 75))
    return results_of(*(drawn(np.random.default_rng(0), one, run=(1, 0.2), rest=0.1) for one in truths))


def test_findings_are_those_of_both_readings_in_the_order_of_the_statements(
    results: list[CrossedTableOneResult],
) -> None:
    findings = table_one_findings([results])
    assert [(one.claim, one.reading) for one in findings] == [
        (claim, reading) for claim in STATEMENTS for reading in READINGS
    ]
    for reading in READINGS:
        assert [one for one in findings if one.reading == reading] == decide_crossed_table_one(
            results, reading
        )
    assert table_one_findings([]) == []


def test_the_text_for_a_terminal_names_each_statement_once(results: list[CrossedTableOneResult]) -> None:
    lines = table_one_page.findings_text(table_one_findings([results])).splitlines()[2:]
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(STATEMENTS)
    assert re.search(r"^T1-gain .*equal rounds  ✔ reproduced +\+[23]\.\d\d \[.*\] points$", lines[0])
    assert re.search(r"equal work +✖ contradicted +−[12]\.\d\d \[.*\] points$", lines[1])
    assert re.search(r"^T1-spread .* \d\.\d\d \[\d+\.\d\d, \d+\.\d\d\] times$", lines[2]), (
        "a ratio has no sign"
    )


def test_the_page_has_a_table_for_each_statement(results: list[CrossedTableOneResult]) -> None:
    text = table_one_page.findings_tables(table_one_findings([results]))
    assert re.findall(r"^### (.*)$", text, re.MULTILINE) == list(STATEMENTS)
    assert all(f"{statement}." in text for statement in STATEMENTS.values())
    assert "smallest: " in text and text.count("| toy (synthetic) |") == len(STATEMENTS) * len(READINGS)


def test_the_page_quotes_the_rules() -> None:
    rules = table_one_page.table_one_rules()
    assert rules.startswith("- **T1-gain.**") and rules.endswith("*undecided*: anything else.")


def test_spreads_stand_beside_the_papers(results: list[CrossedTableOneResult]) -> None:
    text = table_one_page.spread_tables({"writers": results})
    titles = [f"**toy (synthetic)**, {name} ({RUNS} replicates)" for name in ("equal rounds", "equal work")]
    assert [line for line in text.splitlines() if line.startswith("**")] == titles
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d", line)]
    assert [(int(row[0]), int(row[1])) for row in rows] == CELLS * 2
    for row, (_, spreads) in zip(rows, table_one_spreads(results, "equal_rounds").iterrows(), strict=False):
        assert row[2] == f"{100 * spreads.initial:.1f} ± {100 * spreads.initial_spread:.2f}"
        assert row[3] == f"{100 * spreads.personalized:.1f} ± {100 * spreads.personalized_spread:.2f}"
    # The paper's first cell.
    assert rows[0][-3:] == ["2.60", "0.61", "4.3"]


def test_verdicts_prints_table_one(
    results: list[CrossedTableOneResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fl_meta: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/results").mkdir(parents=True)
    assert fl_meta("verdicts")[0] == 2, "nothing is recorded"
    for result in results:
        write_result(result, tmp_path / "data/results" / file_name(result.config, result.seed))
    status, printed, errors = fl_meta("verdicts")
    assert (status, errors) == (0, "") and "Table 1, recorded in data/results" in printed
    assert table_one_page.findings_text(table_one_findings([results])) in printed
    values = json.loads(fl_meta("verdicts", "--json")[1])
    expected = [one.as_verdict().as_json() for one in table_one_findings([results])]
    assert [value["claim"] for value in values] == [value["claim"] for value in expected]
    assert [value["regime"] for value in values] == ["equal rounds", "equal work"] * len(STATEMENTS)
