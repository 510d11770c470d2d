"""The rules of the crossed Table 1: tables made by hand with known effects, and how often they are right."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_results import rows
from small_tables import CELLS, DESIGN, EPOCHS, FOLDS, HALVES, RUNS, SIZES, Levels, drawn, levels, results_of

from fl_meta.evaluation.bootstrap import Interval
from fl_meta.evidence.agreement import largest_difference
from fl_meta.evidence.crossed_rules import MARGIN
from fl_meta.evidence.crossed_statistics import crossed_mean
from fl_meta.evidence.recorded_table import recorded_table
from fl_meta.evidence.result_files import file_name, read_result, write_result
from fl_meta.evidence.result_types import CrossedTableOneResult, DataFingerprint
from fl_meta.evidence.table_one_evidence import (
    STATEMENTS,
    TableOneFinding,
    decide_crossed_table_one,
    table_one_effects,
)
from fl_meta.evidence.table_one_runs import (
    Accuracies,
    Reading,
    accuracies_of,
    recorded_table_one,
    table_one_spreads,
)
from fl_meta.experiments.outcomes import BOTH
from fl_meta.experiments.paper_table_one import PAPER_TABLE_ONE
from fl_meta.experiments.table_one_settings import TABLE_ONE_DESIGNS
from fl_meta.support.array_types import FloatArray

# Hardly any noise: what a rule says of a table whose truth is plain.
QUIET = {"run": (0.04, 0.01), "rest": 0.01}


def found(
    truth: Levels, reading: Reading = "equal_rounds", seed: int = 0, **noise: Any
) -> dict[str, TableOneFinding]:
    table = drawn(np.random.default_rng(seed), truth, **QUIET | noise)
    return {one.claim: one for one in decide_crossed_table_one(results_of(table), reading)}


RISING = (70.0, 75.0, 80.0, 85.0)


@pytest.mark.parametrize(
    ("claim", "truth", "verdict", "effect"),
    [
        # The smallest gain is what counts, positive or not.
        ("T1-gain", levels((60, 60, 60, 60), (70, 75, 63, 75)), "reproduced", 3),
        ("T1-gain", levels((60, 60, 60, 60), (70, 75, 60.3, 75)), "reproduced, but small", 0.3),
        ("T1-gain", levels((60, 60, 60, 60), (70, 75, 58, 75)), "contradicted", -2),
        ("T1-gain", levels((60, 60, 60, 60), (70, 75, 59.7, 75)), "contradicted, but small", -0.3),
        # Initial accuracy has its peak at E = 10. Whichever E both had in common, 5 points would be lost.
        ("T1-best-E", levels((50, 60, 70, 65), RISING), "reproduced", 5),
        ("T1-best-E", levels((50, 60, 70, 69.7), RISING), "reproduced, but small", 0.3),
        # The same E is best for both, ahead of the second by three points, in personalized accuracy alone.
        ("T1-best-E", levels((50, 60, 70, 60), (70, 75, 80, 77)), "contradicted", -3),
        ("T1-best-E", levels((50, 60, 70, 60), (70, 75, 80, 79.8)), "contradicted, but small", -0.2),
        # In one half the best E is another: the claim is 'not always'.
        ("T1-best-E", levels((50, 60, 70, 60), (70, 75, 80, 77), (50, 60, 70, 66), RISING), "reproduced", 4),
        ("T1-largest-E", levels((50, 60, 70, 65), RISING), "reproduced", 5),
        ("T1-largest-E", levels((50, 60, 70, 69.7), RISING), "reproduced, but small", 0.3),
        ("T1-largest-E", levels((50, 60, 70, 72), RISING), "contradicted", -2),
        # It is a mean over the halves.
        ("T1-largest-E", levels((50, 60, 70, 66), RISING, (50, 60, 70, 69), RISING), "reproduced", 2.5),
    ],
)
def test_plain_tables(claim: str, truth: Levels, verdict: str, effect: float) -> None:
    one = found(truth)[claim]
    assert one.effect.estimate == pytest.approx(effect, abs=0.1)
    assert one.effect.low < effect < one.effect.high
    assert one.effect.low < one.within.low <= one.effect.estimate <= one.within.high < one.effect.high
    assert (one.verdict, one.unit, one.dataset) == (verdict, "points", "toy (synthetic)")
    shown = one.as_verdict()
    assert (shown.claim, shown.statement, shown.verdict) == (claim, STATEMENTS[claim], verdict)
    assert (shown.effect, *shown.interval) == (one.effect.estimate, one.effect.low, one.effect.high)
    assert (shown.regime, shown.profile) == ("equal rounds", "recorded")


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        ("T1-best-E", levels((50, 60, 70, 70), RISING)),
        ("T1-largest-E", levels((50, 60, 70, 70), RISING)),
        ("T1-gain", levels((70, 60, 60, 60), RISING)),
    ],
)
def test_what_makes_no_difference_is_known_or_not_by_the_noise(claim: str, truth: Levels) -> None:
    assert found(truth, run=(0.0, 0.0), rest=0.5, seed=3)[claim].verdict == "no difference"
    assert found(truth, run=(2.0, 2.0), seed=3)[claim].verdict == "undecided"


def test_the_papers_own_table() -> None:
    # 5 clients: E = 5 is 1.08 points behind in personalized accuracy, E = 10 is 1.49 behind in initial.
    # 20 clients: E = 5 is 0.09 behind in initial accuracy.
    paper = 100 * PAPER_TABLE_ONE
    truth = {cell: (paper.initial[cell], paper.personalized[cell]) for cell in CELLS}
    findings = found(truth, run=(0.004, 0.001), rest=0.002)
    best, gain, fall = (findings[claim] for claim in ("T1-best-E", "T1-gain", "T1-largest-E"))
    assert best.effect.estimate == pytest.approx(1.08, abs=0.01)
    assert best.detail == (
        "5 clients: initial E = 5, personalized E = 10; 20 clients: initial E = 10, personalized E = 5"
    )
    assert gain.effect.estimate == pytest.approx(5.52, abs=0.01)
    assert gain.detail == "smallest: 20 clients, E = 10"
    assert fall.effect.estimate == pytest.approx((4.49 + 0.89) / 2, abs=0.01)
    assert fall.detail == "E = 10 − E = 20"
    assert {one.verdict for one in findings.values()} == {"reproduced"}


@pytest.mark.parametrize(
    ("ratio", "verdict", "larger"),
    [
        (4.0, "reproduced", "8"),
        (0.25, "contradicted", "0"),
        (1.6, "reproduced, but small", "8"),
        (0.625, "contradicted, but small", "0"),
        (1.0, "no difference", "[1-7]"),
    ],
)
def test_spreads_of_runs(ratio: float, verdict: str, larger: str) -> None:
    # The luck of a run moves both accuracies alike, but for a little that is either's own.
    generator = np.random.default_rng(0)
    luck = generator.standard_normal((FOLDS, RUNS, 1))
    table: Accuracies = {}
    for cell in CELLS:
        first, second = luck + 0.1 * generator.standard_normal((2, FOLDS, RUNS, 1))
        both = {"initial": 0.60 + 0.01 * ratio * first, "personalized": 0.80 + 0.01 * second}
        table[cell] = {
            measure: [np.repeat(part, size, axis=1) for part, size in zip(both[measure], SIZES, strict=True)]
            for measure in BOTH
        }
    findings = decide_crossed_table_one(results_of(table), "equal_rounds")
    (one,) = (finding for finding in findings if finding.claim == "T1-spread")
    assert (one.verdict, one.unit) == (verdict, "times")
    assert one.effect.estimate == pytest.approx(ratio, rel=0.1)
    assert re.fullmatch(f"larger in {larger} of 8 cells", one.detail)


def test_each_reading_has_its_own_accuracies() -> None:
    generator = np.random.default_rng(0)
    rounds = drawn(generator, levels((50, 60, 70, 65), RISING), **QUIET)
    work = drawn(generator, levels((65, 70, 60, 50), (85, 80, 75, 70)), **QUIET)
    results = results_of(rounds, work)
    for reading, table in (("equal_rounds", rounds), ("equal_work", work)):
        assert words(decide_crossed_table_one(results, reading)) == words(  # type: ignore[arg-type]
            decide_crossed_table_one(results_of(table), "equal_rounds")
        )
        accuracies = accuracies_of(results, reading)  # type: ignore[arg-type]
        for cell in CELLS:
            for fold in range(FOLDS):
                assert np.array_equal(accuracies[cell]["initial"][fold], table[cell]["initial"][fold])


def words(findings: Sequence[TableOneFinding]) -> list[tuple[str, str, float]]:
    return [(one.claim, one.verdict, one.effect.estimate) for one in findings]


@pytest.mark.parametrize("dataset", ["writers", "unipen62"])
def test_one_data_set_has_a_wider_margin(dataset: str) -> None:
    table = drawn(np.random.default_rng(0), levels((50, 60, 70, 69.3), RISING), **QUIET)
    config = TABLE_ONE_DESIGNS[dataset]
    results = [replace(result, config=config) for result in results_of(table)]
    verdicts = {one.claim: one.verdict for one in decide_crossed_table_one(results, "equal_rounds")}
    small = "reproduced, but small" if dataset == "unipen62" else "reproduced"
    assert verdicts["T1-largest-E"] == small


# What the effects are, by a second way -------------------------------------------------------------------


@given(st.integers(0, 10_000))
@settings(max_examples=5)
def test_the_cost_of_one_choice_for_both(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = levels(*generator.normal(70, 2, (4, 4)).tolist())
    table = drawn(generator, truth, sizes=(4, 5, 6))
    interval, unit, _ = table_one_effects(table)["T1-best-E"]
    found_here = interval(0.95)

    def cost(correction: float, end: Callable[[Interval], float]) -> float:
        """By brute force: the largest over halves of the smallest over a common E of the largest loss."""
        by_half = []
        for half in HALVES:
            by_common = []
            for common in EPOCHS:
                losses = []
                for other in set(EPOCHS) - {common}:
                    for measure in ("initial", "personalized"):
                        pairs = zip(table[half, other][measure], table[half, common][measure], strict=True)
                        effect = crossed_mean([100 * (first - second) for first, second in pairs])
                        losses.append(end(effect.interval(1 - 0.05 / correction)))
                by_common.append(max(losses))
            by_half.append(min(by_common))
        return max(by_half)

    # Six losses in two halves may put the lower end too high; four common E the upper end too low.
    assert found_here.estimate == pytest.approx(cost(1, lambda one: one.estimate))
    assert found_here.low == pytest.approx(cost(2 * 6, lambda one: one.low))
    assert found_here.high == pytest.approx(cost(4, lambda one: one.high))
    assert unit == "points"


@given(st.integers(0, 10_000))
@settings(max_examples=5)
def test_the_smallest_gain_and_the_fall(seed: int) -> None:
    generator = np.random.default_rng(seed)
    table = drawn(generator, levels((60, 60, 60, 60), (62, 62, 62, 62)), sizes=(4, 5, 6))
    effects = table_one_effects(table)
    gains = [
        crossed_mean([100 * (last - first) for first, last in zip(*by.values(), strict=True)])
        for by in table.values()
    ]
    smallest = effects["T1-gain"][0](0.95)
    assert smallest.estimate == pytest.approx(min(gain.estimate for gain in gains))
    assert smallest.low == pytest.approx(min(gain.interval(0.95).low for gain in gains))
    assert smallest.high == pytest.approx(min(gain.interval(1 - 0.05 / 8).high for gain in gains))
    falls = [
        50 * sum(table[half, 10]["initial"][fold] - table[half, 20]["initial"][fold] for half in HALVES)
        for fold in range(FOLDS)
    ]
    assert vars(effects["T1-largest-E"][0](0.9)) == pytest.approx(vars(crossed_mean(falls).interval(0.9)))


@given(st.integers(0, 10_000))
@settings(max_examples=5)
def test_what_the_findings_do_not_depend_on(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = levels(*generator.normal(70, 2, (4, 4)).tolist())
    table = drawn(generator, truth)

    def numbers(changed: Accuracies) -> list[float]:
        intervals = [interval(0.95) for interval, *_ in table_one_effects(changed).values()]
        return [number for one in intervals for number in (one.estimate, one.low, one.high)]

    usual = numbers(table)
    runs, clients, folds = generator.permutation(RUNS), generator.permutation(SIZES[0]), [2, 0, 1]

    def changed(change: Callable[[list[FloatArray]], list[FloatArray]]) -> Accuracies:
        return {cell: {measure: change(by[measure]) for measure in BOTH} for cell, by in table.items()}

    # The order of runs, clients and folds, and what all runs of a client have in common in both accuracies.
    own = [generator.normal(0, 0.1, size) for size in SIZES]
    assert numbers(changed(lambda parts: [part[runs] for part in parts])) == pytest.approx(usual)
    assert numbers(changed(lambda parts: [parts[0][:, clients], *parts[1:]])) == pytest.approx(usual)
    assert numbers(changed(lambda parts: [parts[fold] for fold in folds])) == pytest.approx(usual)
    moved = changed(lambda parts: [part + one for part, one in zip(parts, own, strict=True)])
    assert numbers(moved) == pytest.approx(usual)
    # Initial and personalized accuracy are alike for the best E, opposite for gain and spread.
    swapped: Accuracies = {
        cell: {"initial": by["personalized"], "personalized": by["initial"]} for cell, by in table.items()
    }
    assert numbers(swapped)[6:9] == pytest.approx(usual[6:9])
    assert numbers(swapped)[3] == pytest.approx(1 / usual[3])


# The table of spreads ------------------------------------------------------------------------------------


def test_the_table_of_spreads() -> None:
    table = drawn(np.random.default_rng(0), levels((50, 60, 70, 65), RISING))
    spreads = table_one_spreads(results_of(table), "equal_rounds")
    assert list(spreads.index) == CELLS and spreads.index.names == ["clients_per_round", "local_epochs"]
    for cell in CELLS:
        row = spreads.loc[cell]
        for measure in BOTH:
            folds = table[cell][measure]
            pooled = math.sqrt(np.mean([fold.mean(axis=1).var(ddof=1) for fold in folds]))
            assert row[f"{measure}_spread"] == pytest.approx(pooled)
            assert row[measure] == pytest.approx(np.concatenate(folds, axis=1).mean())
            assert row[f"{measure}_run_spread"] == pytest.approx(crossed_mean(folds).run_spread)
            assert row[f"paper_{measure}_spread"] == PAPER_TABLE_ONE.loc[cell][f"{measure}_spread"]
        assert row.ratio == pytest.approx(row.initial_spread / row.personalized_spread)
        assert row.ratio_low < row.ratio < row.ratio_high
    assert spreads.loc[(5, 2), "paper_ratio"] == pytest.approx(260 / 61)


def test_cells_that_the_paper_does_not_have() -> None:
    truth = {(3, 1): (50.0, 60.0), (3, 2): (55.0, 65.0)}
    table = drawn(np.random.default_rng(0), truth)
    config = replace(DESIGN, table=replace(DESIGN.table, clients_per_round=(3,), local_epochs=(1, 2)))
    results = [replace(result, config=config) for result in results_of(table)]
    spreads = table_one_spreads(results, "equal_work")
    assert spreads.paper_ratio.isna().all() and spreads.ratio.notna().all()
    findings = {one.claim: one for one in decide_crossed_table_one(results, "equal_work")}
    assert findings["T1-largest-E"].detail == "E = 1 − E = 2"
    one_row = replace(DESIGN, table=replace(DESIGN.table, clients_per_round=(3,), local_epochs=(2,)))
    alone = [replace(result, config=one_row, cells=result.cells[1:]) for result in results]
    with pytest.raises(ValueError, match="a table with E = 2 alone cannot say which E is best"):
        decide_crossed_table_one(alone, "equal_work")


# What is refused -----------------------------------------------------------------------------------------

TABLE = drawn(np.random.default_rng(0), levels((50, 60, 70, 65), RISING))
RESULTS = results_of(TABLE)


def with_one(**change: Any) -> list[CrossedTableOneResult]:
    return [replace(RESULTS[0], **change), *RESULTS[1:]]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "there are no results"),
        (RESULTS[:-1], "have the seeds 0, 1, .*, 10; give each from 0 once, as many for each of the 3 folds"),
        (RESULTS[1:], "have the seeds 1, 2"),
        ([*RESULTS[:-1], RESULTS[0]], "have the seeds 0, 0, 1"),
        (RESULTS[:6], "fold 0 has 2 replicates, and the luck of training shows in no fewer than 3"),
        (with_one(config=TABLE_ONE_DESIGNS["unipen62"]), "are of several settings or data sets"),
        (
            with_one(data=DataFingerprint("toy", "toy (synthetic)", "other")),
            "are of several settings or data",
        ),
        (
            with_one(clients=RESULTS[1].clients[:20]),
            "the replicates of fold 0 have different held-out clients",
        ),
        (with_one(cells=RESULTS[0].cells[::-1]), "a result has other cells than its settings"),
        (with_one(cells=RESULTS[0].cells[1:]), "a result has other cells than its settings"),
    ],
)
def test_results_that_do_not_fit_together(results: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide_crossed_table_one(results, "equal_rounds")


def test_a_reading_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="reading='equal_time' is not one of equal_rounds, equal_work"):
        decide_crossed_table_one(RESULTS, "equal_time")  # type: ignore[arg-type]


def test_accuracies_that_never_vary_have_no_ratio_of_spreads() -> None:
    still = drawn(np.random.default_rng(0), levels((50, 60, 70, 65), RISING), run=(0, 0), rest=0, client=0)
    with pytest.raises(ValueError, match="varies in at most one run of a cell"):
        decide_crossed_table_one(results_of(still), "equal_rounds")


# Files ---------------------------------------------------------------------------------------------------


def test_a_result_file_keeps_both_readings(tmp_path: Path) -> None:
    other = drawn(np.random.default_rng(1), levels((51, 61, 71, 66), RISING))
    result = results_of(TABLE, other)[4]
    path = tmp_path / file_name(DESIGN, 4)
    write_result(result, path)
    assert path.name.startswith("crossed_table_one-writers-mlp-") and read_result(path) == result
    table = recorded_table(tmp_path).set_index("entry")
    assert len(table) == 16
    row = table.loc["20 clients, E = 5, equal work"]
    assert (row.initial, row.clients) == (pytest.approx(other[20, 5]["initial"][1][1].mean()), 21)
    assert row.personalized == pytest.approx(other[20, 5]["personalized"][1][1].mean())
    # Replicates are read until one is not whole.
    for seed in (*range(7), 8):
        write_result(results_of(TABLE, other)[seed], tmp_path / file_name(DESIGN, seed))
    assert [one.seed for one in recorded_table_one(DESIGN, tmp_path)] == [0, 1, 2, 3, 4, 5]
    assert recorded_table_one(TABLE_ONE_DESIGNS["unipen62"], tmp_path) == []
    # Results are compared at both readings.
    cell = result.cells[0]
    worse = replace(cell.equal_work, accuracy=rows(np.array(cell.equal_work.accuracy) - 0.25))
    changed = replace(result, cells=(replace(cell, equal_work=worse), *result.cells[1:]))
    assert largest_difference(result, changed) == pytest.approx(0.25)


# How often the rules are right ---------------------------------------------------------------------------

FLAT = (60.0, 60.0, 60.0, 60.0)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("claim", "truth", "effect"),
    [
        # One cell of eight gains nothing; all eight gain the same, so that any may look smallest.
        ("T1-gain", levels(FLAT, (60, 70, 70, 70), FLAT, (70, 70, 70, 70)), 0.0),
        ("T1-gain", levels(FLAT, (62, 62, 62, 62)), 2.0),
        # To the initial accuracy E is all the same, the personalized one has a peak: nothing need be lost.
        ("T1-best-E", levels(FLAT, (65, 68, 70, 67)), 0.0),
        ("T1-best-E", levels(FLAT, FLAT), 0.0),
        (
            "T1-best-E",
            levels((55, 60, 59.5, 58), (65, 69.5, 70, 67), (55, 58, 60, 57), (65, 68, 70, 67)),
            0.5,
        ),
        ("T1-best-E", levels((55, 60, 56, 52), (65, 70, 74, 73)), 4.0),
        ("T1-largest-E", levels((50, 55, 60, 60), FLAT), 0.0),
    ],
)
def test_how_often_an_interval_misses(claim: str, truth: Levels, effect: float) -> None:
    generator = np.random.default_rng(0)
    draws = 250
    ends = []
    for _ in range(draws):
        interval = table_one_effects(drawn(generator, truth))[claim][0](0.95)
        ends.append((interval.low, interval.high))
    low, high = np.array(ends).T
    # At most 2.5 % on either side, with three standard errors of the simulation.
    assert (low > effect + 1e-9).mean() < 0.055
    assert (high < effect - 1e-9).mean() < 0.055


@pytest.mark.campaign
def test_no_difference_is_seldom_said_of_one_at_the_margin() -> None:
    generator = np.random.default_rng(0)
    truth = levels((50, 55, 60, 60 - MARGIN), RISING)
    draws, said = 400, 0
    for _ in range(draws):
        table = drawn(generator, truth, run=(0.2, 0.2), rest=1.0)
        interval = table_one_effects(table)["T1-largest-E"][0]
        within = interval(0.90)
        said += within.low > -MARGIN and within.high < MARGIN
    # 5 %, with three standard errors of the simulation.
    assert said / draws < 0.083
