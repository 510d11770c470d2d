"""The evidence in words: marks, sentences, tables, and `fl-meta verdicts`, which shows them at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_notebooks import VERDICT, write_notebook
from small_results import crossed_design, crossed_results, tuning_of, write_design

from fl_meta.evidence import crossed_page, crossed_words
from fl_meta.evidence.crossed_rules import CLAIM_TESTS, VERDICTS
from fl_meta.evidence.crossed_tables import cause_table, evidence_table
from fl_meta.evidence.verdicts import MARKS, Verdict
from fl_meta.experiments.crossed_settings import DESIGNS, FEDSGD, REPTILE
from fl_meta.experiments.outcomes import TriedRate

Command = Callable[..., tuple[Any, str, str]]
STATEMENTS = {test.claim: test.statement for test in CLAIM_TESTS}


def evidence_of(*rows: tuple[str, str, str, str, float]) -> pd.DataFrame:
    """A table of evidence: claim, data set, regime, verdict and effect; half of the interval is 0.84."""
    columns = ("claim", "dataset", "regime", "verdict", "effect")
    table = pd.DataFrame(rows, columns=list(columns))
    table["statement"] = table.claim.map(STATEMENTS)
    table["low"], table["high"] = table.effect - 0.84, table.effect + 0.84
    fixed = {"margin": 0.5, "p": 0.01, "p_holm": 0.02, "replicates": 4, "clients": 20, "premise": np.nan}
    return table.assign(**fixed, ceiling=[()] * len(table))


SOME = evidence_of(
    ("2a-initial", "writers (synthetic)", "stable", "no difference", 0.04),
    ("2a-initial", "writers (synthetic)", "unstable", "reproduced", 2.13),
    ("2a-initial", "unipen62", "stable", "undecided", 0.3),
    ("2a-initial", "unipen62", "unstable", "undecided", -0.3),
    ("2a-initial", "shakespeare", "unstable", "undecided", -0.3),
    ("2a-personalized", "unipen62", "stable", "contradicted, but small", -0.26),
    ("3-best", "writers (synthetic)", "stable", "contradicted", -1.5),
    ("3-best", "unipen62", "stable", "contradicted", -2.5),
)


def test_a_sentence_says_where_which_verdict_was_found() -> None:
    found = crossed_words.sentences(SOME)
    assert list(found) == ["2a-initial", "2a-personalized", "3-best"], "of those tested"
    assert found["2a-initial"] == (
        "After FedAvg, Reptile with Adam gives a better initial model than as many more rounds of it: "
        "reproduced on writers (unstable); no difference on writers (stable); undecided on unipen62 (both "
        "regimes), shakespeare (unstable)."
    )
    assert found["3-best"].endswith("personalization: contradicted on writers and unipen62.")
    assert "contradicted, but too small to matter, on unipen62 (stable)." in found["2a-personalized"]


def test_the_answer_on_causes_counts_where_a_change_alone_helps() -> None:
    names = list(crossed_words.CHANGES)
    rows = [(name, "undecided") for name in (*names, "Adam instead of smaller rate")] * 2
    rows += [
        (names[0], "helps"),
        (names[0], "helps, but small"),
        (names[1], "harms"),
        (names[2], "undecided"),
    ]
    table = pd.DataFrame(rows, columns=["contrast", "verdict"])
    assert crossed_words.cause_answer(table) == (
        "Of the changes that the second stage makes, each taken alone, Adam at the server helps in 2 of 3 "
        "places (data set, regime, initial or personalized model), a smaller rate of the server in none and "
        "Reptile's update in none."
    )


def test_answers_count_the_verdicts_of_a_claim() -> None:
    first, last = crossed_words.answers(SOME)
    assert first.endswith(
        ": of 6 tests, 1 reproduces it, 1 shows no difference, 3 are undecided and 1 contradicts it by too "
        "little to matter."
    )
    assert last.startswith("Claim 3, ") and last.endswith(": of 2 tests, 2 contradict it.")


def test_every_verdict_has_a_mark_and_words() -> None:
    assert set(MARKS) >= set(VERDICTS)
    for verdict in VERDICTS:
        (answer,) = crossed_words.answers(evidence_of(("3-best", "a", "stable", verdict, 1.0)))
        assert ": of 1 test, 1 " in answer
    changed = {v.replace("reproduced", "helps").replace("contradicted", "harms") for v in VERDICTS}
    assert set(crossed_page.CAUSE_MARKS) == changed - {"premise not met"}


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ("reproduced", "✔ −0.3"),
        ("contradicted, but small", "✗ −0.3"),
        ("no difference", "= −0.3"),
        ("undecided", "? ±0.8"),
        ("premise not met", "∅"),
    ],
)
def test_an_entry_has_the_effect_or_how_uncertain_it_is(verdict: str, text: str) -> None:
    assert crossed_words.entry({"verdict": verdict, "effect": -0.31, "low": -1.15, "high": 0.53}) == text


def test_the_summary_has_both_regimes_and_says_what_is_not_recorded() -> None:
    head, _, second_stage, accuracy, central = crossed_words.summary_table(SOME).splitlines()
    assert head == "| claim | *writers* | *unipen62* | *shakespeare* |"

    def cells(line: str) -> list[str]:
        return line.strip("| ").split(" | ")[1:]

    assert cells(second_stage) == [
        "= 0.0 / ✔ +2.1<br>– / –",
        "? ±0.8 / ? ±0.8<br>✗ −0.3 / –",
        "– / ? ±0.8<br>– / –",
    ]
    assert cells(accuracy) == ["– / –<br>– / –"] * 3
    assert cells(central) == ["–<br>✖ −1.5", "–<br>✖ −2.5", "–<br>–"], "claim 3 has one regime"


def test_the_text_is_grouped_by_claim() -> None:
    lines = crossed_words.evidence_text(SOME).splitlines()
    assert lines[2].split("  ")[0] == "2a-initial" and lines[3].startswith("   ")
    assert "✔ reproduced" in lines[3] and "+2.13   [+1.29, +2.97]" in lines[3]
    assert "✗ contradicted, but small" in lines[7]
    assert [line.split()[0] for line in lines[2:] if line[0] != " "] == list(crossed_words.sentences(SOME))


# The command ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with results of one design in which Reptile is 2 points better."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/results").mkdir(parents=True)
    cells = crossed_results(DESIGNS["unipen62-stable"], {REPTILE: (2, 2), FEDSGD: (3, 1)})
    write_design(tmp_path / "data/results", cells)
    return tmp_path


def test_verdicts_are_there_without_a_report(folder: Path, fl_meta: Command) -> None:
    status, printed, errors = fl_meta("verdicts")
    assert (status, errors) == (0, "")
    (row,) = (line for line in printed.splitlines() if line.startswith("2a-initial "))
    assert row.split()[1:7] == ["toy", "(synthetic)", "stable", "✔", "reproduced", row.split()[6]]
    assert float(row.split()[6]) == pytest.approx(2, abs=0.1) and row.split()[-2:] == ["1", "4"]
    status, printed, _ = fl_meta("verdicts", "--json")
    values = {value["claim"]: value for value in json.loads(printed)}
    assert status == 0 and set(values) == {
        "2a-initial",
        "2a-personalized",
        "2b-FedSGD",
        "2b-small-E",
        "3-matched",
        "3-best",
    }
    fields = set(Verdict("a", "", "b", "undecided", 0, (0, 0), "points", "smoke").as_json())
    assert all(
        set(value) >= {*fields, "regime", "margin", "p_holm", "replicates"} for value in values.values()
    )
    one = values["2b-FedSGD"]
    assert (one["verdict"], one["profile"], one["unit"]) == ("reproduced", "recorded", "points")
    assert one["premise"] == pytest.approx(1, abs=0.1) and values["3-best"]["premise"] is None
    assert one["interval"][0] < one["effect"] < one["interval"][1]


def test_verdicts_of_a_report_follow_the_recorded_ones(folder: Path, fl_meta: Command) -> None:
    (folder / "notebooks").mkdir()
    write_notebook(
        folder / "notebooks/01_gain.ipynb", ["effect = seed" + VERDICT], 'profile = "smoke"\nseed = 1.0'
    )
    assert fl_meta("reproduce", "--profile", "smoke")[0] == 0
    printed = fl_meta("verdicts")[1]
    assert printed.index("2a-initial") < printed.index("report in build/report") < printed.index("gain ")
    values = json.loads(fl_meta("verdicts", "--json")[1])
    assert [value["claim"] for value in values][-2:] == ["3-best", "gain"]
    assert values[-1]["notebook"] == "01_gain" and values[-2]["notebook"] == ""


def test_a_damaged_result_is_named(folder: Path, fl_meta: Command) -> None:
    path = next((folder / "data/results").glob("crossed-*-seed4.json"))
    path.write_text("{")
    status, _, error = fl_meta("verdicts")
    assert status == 2 and f"data/results/{path.name} is not a result file" in error


def test_verdicts_do_not_wait_for_pytorch(folder: Path) -> None:
    program = """import sys
from fl_meta.command_line.main import main
main(["verdicts"])
print(*{"torch", "nbformat", "matplotlib"} & set(sys.modules), file=sys.stderr)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "✔ reproduced" in done.stdout and done.stderr.split() == []


# The parts of the page ------------------------------------------------------------------------------------


def rows_of(table: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def test_the_page_quotes_the_rules() -> None:
    assert crossed_page.design_rules().startswith("- **Crossed.** The clients are divided into folds;")
    assert "- **Reproduced**: the 95 % interval is above 0" in crossed_page.verdict_rules()


def test_the_page_has_a_table_for_each_claim() -> None:
    table = SOME.assign(ceiling=[("FedAvg",), *[()] * 7], premise=[np.nan] * 8)
    parts = crossed_page.claim_tables(table).split("### ")[1:]
    assert [part.split("\n")[0] for part in parts] == list(crossed_words.sentences(SOME))
    assert parts[0].count("\n| ") == 2 + 5
    row = "| stable | = no difference | +0.04 [−0.80, +0.88] | 0.84 | 0.5 | 0.020 | 4 | FedAvg |"
    assert row in parts[0] and "rival" not in parts[0]
    rival = evidence_of(("2b-FedSGD", "a", "stable", "premise not met", 1.0)).assign(
        premise=-0.25, p_holm=1e-9
    )
    assert "| < 0.001 | 4 |  | −0.25 |" in crossed_page.claim_tables(rival)


def test_the_page_shows_causes_for_both_accuracies() -> None:
    design = crossed_design()
    better = {REPTILE: (2.0, 0.0)}
    text = crossed_page.cause_tables(cause_table([crossed_results(design, better)]))
    initial, personalized = text.split("**Personalized accuracy**")
    # Reptile's update is 2 points better with one of three servers, Adam with one of two updates.
    found = initial.strip().splitlines()[-1].split(" | ")[2:]
    assert [cell.split()[0] for cell in found] == ["▲", "=", "▲", "▲"]
    assert [round(float(cell.split()[1].replace("−", "-"))) for cell in found] == [1, 0, 1, 1]
    assert "▲" not in personalized and "▼" not in personalized


def test_spreads_are_those_of_replicates_within_folds() -> None:
    # Folds differ by 10 points, which is no luck of training.
    cells = []
    for cell in crossed_results(crossed_design(), {}, spread=0):
        fold, replicate = cell.seed % 2, cell.seed // 2
        shift = 0.1 * fold + 0.01 * (replicate % 2) * (1 + fold)
        arms = tuple(
            replace(arm, accuracy=tuple(tuple(a + shift for a in row) for row in arm.accuracy))
            for arm in cell.arms
        )
        cells.append(replace(cell, arms=arms))
    (row,) = rows_of(crossed_page.spread_table({"one": cells}))
    # Variances over 0, 1, 0, 1 and 0, 2, 0, 2 points: 1/3 and 4/3.
    assert row[2:] == [f"{((1 / 3 + 4 / 3) / 2) ** 0.5:.2f}"] * 6 + ["0.00"] * 2


def test_tuning_marks_what_is_still_at_an_end() -> None:
    design = crossed_design()
    first, second = tuning_of(design, 0), tuning_of(design, 1)
    tried = (TriedRate(0.1, 0.7, 60), TriedRate(0.01, 0.4, 60))
    changed = {
        REPTILE: {"ended": "fixed"},  # 0.1 is the largest that was tried
        FEDSGD: {
            "rounds": 320,
            "ended": "ceiling",
            "personalization_rate": 0.0033,
        },  # two below the grid's 0.03
        "FedAvg": {"personalization_rate": 1.0},  # one above it: the next one was tried, too
        "FedAvg(E=1)": {"personalization_rate": 3.3},
    }
    choices = tuple(replace(one, **changed.get(one.arm, {})) for one in first.choices)
    first = replace(first, choices=choices, search={**first.search, REPTILE: tried}, seconds=5400.0)
    second = replace(second, choices=second.choices[:-1])
    text = crossed_page.tuning_tables({"one": [first, second]})
    rows = {row[0]: row[1:] for row in rows_of(text.split("\n\n")[1])}
    assert rows[REPTILE] == ["0.1† · 0.1", "0.1 · 60 · 0.1"]
    assert rows[FEDSGD] == ["0.1 · 320‡ · 0.0033†", "0.1 · 60 · 0.1"]
    assert rows["FedAvg"][0] == "0.1 · 60 · 1" and rows["FedAvg(E=1)"][0] == "0.1 · 60 · 3.3†"
    assert rows["centralized Adam"][1] == "–"
    assert "<code>one</code>: 3 options at an end; 1.5 hours" in text


def test_designs_and_costs() -> None:
    design = crossed_design(most_rounds=320, second_stage_rounds=60)
    cells = [replace(cell, seconds=600.0, machine="m") for cell in crossed_results(design, {})]
    (row,) = rows_of(crossed_page.designs_table({"one": cells}))
    assert row == ["`one`", "20", "2", "20", "2", "320", "60", "4", "1.3"]
    tuning = [replace(tuning_of(design, fold), seconds=1800.0, machine="m") for fold in (0, 1)]
    assert crossed_page.costs({"one": cells}, {"one": tuning}) == (
        "2 tunings and 8 cells took 2.3 hours of one process; "
        "a cell took 600 seconds on average (m, PyTorch 0)."
    )


def test_evidence_of_simulated_cells_goes_through_all_parts() -> None:
    designs = {"one": crossed_results(crossed_design(), {REPTILE: (2, 2)})}
    evidence = evidence_table(designs.values())
    assert crossed_words.sentences(evidence)["2a-initial"].endswith(": reproduced on toy (stable).")
    assert crossed_page.claim_tables(evidence).count("### ") == 6
