"""A run of one's own beside the recorded ones: where the next run of a fold is expected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from simulated_cells import Spreads, config_of, design_of, simulated
from small_results import cell_of

from fl_meta.evidence import own_run
from fl_meta.evidence.crossed_rules import CLAIM_TESTS
from fl_meta.evidence.own_run import beside_recorded
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.experiments.crossed_settings import CENTRALIZED_SGD, CONTINUED, DESIGNS, REPTILE
from fl_meta.experiments.crossed_training import Fold

CONFIG = config_of(design_of("toy", folds=2))
COLUMNS = ["claim", "statement", "dataset", "regime", "effect", "recorded", "low", "high", "within"]


def exact(seed: int, points: float) -> CrossedResult:
    """A cell in which Reptile is exactly so many points better initially, for each of its clients."""
    return cell_of(CONFIG, seed, {REPTILE: (points, 0)}, spread=0)


# Fold 0 has even seeds: mean 2, variance 1. Fold 1 has mean 7 and variance 4. Together the variance is 2.5.
CELLS = [exact(*cell) for cell in enumerate([1.0, 5.0, 2.0, 7.0, 3.0, 9.0])]


@pytest.mark.parametrize(("seed", "center"), [(6, 2.0), (7, 7.0)])
@pytest.mark.parametrize(("level", "t"), [(0.95, 2.776445), (0.8, 1.533206)])
def test_the_interval_by_hand(seed: int, center: float, level: float, t: float) -> None:
    # From a table of Student's t: two degrees of freedom in each of the two folds are 4.
    half = t * math.sqrt(2.5) * math.sqrt(1 + 1 / 3)
    for effect, within in ((center + half - 0.01, True), (center - half - 0.01, False)):
        table = beside_recorded(exact(seed, effect), CELLS, level)
        row = table.set_index("claim").loc["2a-initial"]
        assert [row.effect, row.recorded] == pytest.approx([effect, center])
        assert [row.low, row.high] == pytest.approx([center - half, center + half], abs=1e-5)
        assert row.within == within


def test_a_row_for_every_test_that_the_cells_can_make() -> None:
    table = beside_recorded(exact(6, 2.0), CELLS[::-1])
    assert table.columns.tolist() == COLUMNS
    assert table.claim.tolist() == [test.claim for test in CLAIM_TESTS]
    assert table.statement.tolist() == [test.statement for test in CLAIM_TESTS]
    assert set(table.dataset) == {"toy (synthetic)"} and set(table.regime) == {"stable"}
    without = [
        replace(cell, arms=tuple(arm for arm in cell.arms if CENTRALIZED_SGD not in arm.name))
        for cell in CELLS
    ]
    claims = beside_recorded(exact(6, 2.0), without).claim
    assert claims.tolist() == [test.claim for test in CLAIM_TESTS if not test.claim.startswith("3")]


def test_about_95_of_100_runs_lie_within() -> None:
    # Clients are the same in all runs of a fold and folds differ, so neither may widen the interval.
    spreads, draws, within = Spreads(client=3, fold=2, run=0.7, rest=1), 200, 0
    for seed in range(draws):
        options = {"seed": seed, "sizes": (9, 12), "replicates": 4, "arms": (REPTILE, CONTINUED)}
        cells = simulated(CONFIG, {}, spreads=spreads, **options)
        # The last replicate plays the part of one's own run, of either fold in turn.
        within += beside_recorded(cells[6 + seed % 2], cells[:6]).within[0]
    # 190 are expected, with a standard deviation of 3.
    assert 180 <= within <= 199


@pytest.mark.parametrize("changes", [{"rate": 0.3}, {"ceiling": (REPTILE,)}, {"regime": "unstable"}])
def test_a_run_of_another_design_or_tuning_is_refused(changes: Mapping[str, object]) -> None:
    design = design_of("toy", changes.get("regime", "stable"), folds=2)
    other = config_of(design, **{name: value for name, value in changes.items() if name != "regime"})
    with pytest.raises(ValueError, match="of another design, or was tuned otherwise"):
        beside_recorded(replace(CELLS[0], config=other), CELLS)


@pytest.mark.parametrize("number", [0, 2, 3])
def test_one_replicate_shows_no_spread(number: int) -> None:
    with pytest.raises(ValueError, match=f"^{number} recorded cells; .* two replicates of every fold"):
        beside_recorded(exact(6, 2.0), CELLS[:number])
    assert len(beside_recorded(exact(6, 2.0), CELLS[:4])) == len(CLAIM_TESTS)


def test_a_shortened_run_has_enough_clients_for_a_round() -> None:
    design = DESIGNS["writers-stable"]
    short = own_run._shortened(config_of(design)).design
    for fold in range(design.folds):
        assert len(Fold.of(short, fold).train) >= design.clients_per_round
