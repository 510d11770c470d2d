"""A half of Table 1 of one's own beside the recorded ones: computed as they were, and compared with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from small_tables import DESIGN, FOLDS, RUNS, drawn, levels, results_of

from fl_meta.evidence import own_table_one, results
from fl_meta.evidence.crossed_rules import MOST_REPLICATES
from fl_meta.evidence.own_table_one import YourTableOne, table_one_beside_recorded, your_table_one
from fl_meta.evidence.paired_spreads import another_run
from fl_meta.evidence.result_types import CrossedTableOneResult
from fl_meta.evidence.table_one_runs import recorded_tables
from fl_meta.experiments.table_one_settings import CrossedTableOne

TRUTH = levels((50, 60, 70, 60), (70, 75, 80, 85))
OTHER = levels((70, 60, 50, 40), (80, 75, 70, 65))


def recorded(seed: int = 0) -> list[CrossedTableOneResult]:
    generator = np.random.default_rng(seed)
    return results_of(drawn(generator, TRUTH), drawn(generator, OTHER))


def half_of(result: CrossedTableOneResult) -> CrossedTableOneResult:
    """The half with five clients a round, as a run of one's own has it."""
    table = replace(result.config.table, clients_per_round=(5,))
    cells = tuple(cell for cell in result.cells if cell.clients_per_round == 5)
    return replace(result, config=replace(result.config, table=table), cells=cells)


def test_another_run_by_hand() -> None:
    means = np.array([[1.0, 2.0, 3.0], [10.0, 12.0, 14.0]])
    spread = np.sqrt((2 + 8) / 4)
    for fold, center in enumerate((2.0, 12.0)):
        found = another_run(means, fold, level=0.9)
        half = stats.t.ppf(0.95, 4) * spread * np.sqrt(4 / 3)
        assert (found.estimate, found.low, found.high) == pytest.approx(
            (center, center - half, center + half)
        )


def test_every_accuracy_is_compared_with_its_own_cell_reading_and_measure() -> None:
    found = recorded()
    # Seed 4 of 3 folds is replicate 1 of fold 1.
    own = half_of(found[4])
    table = table_one_beside_recorded(own, found)
    assert len(table) == 4 * 2 * 2 and set(table.clients_per_round) == {5}
    for row in table.to_dict("records"):
        place = [2, 5, 10, 20].index(row["local_epochs"])
        reading = getattr(own.cells[place], row["reading"])
        assert row["accuracy"] == pytest.approx(reading.accuracy_of(row["measure"]).mean())
        of_fold = [
            getattr(result.cells[place], row["reading"]).accuracy_of(row["measure"]).mean()
            for result in found[1::FOLDS]
        ]
        assert (row["low"] + row["high"]) / 2 == pytest.approx(np.mean(of_fold))
        assert row["within"] == (row["low"] <= row["accuracy"] <= row["high"])


def test_a_run_like_the_recorded_ones_lies_within_and_another_does_not() -> None:
    shares = []
    for seed in range(30):
        # One replicate more, which is not among the recorded ones.
        found, more = recorded(seed), recorded(seed)[-FOLDS]
        others = [one for one in found if one.seed < FOLDS * (RUNS - 1)]
        shares.append(table_one_beside_recorded(half_of(more), others).within.mean())
    assert 0.88 < np.mean(shares) < 0.99
    best = recorded()
    worse = replace(
        half_of(best[0]),
        cells=tuple(replace(cell, equal_rounds=cell.equal_work) for cell in half_of(best[0]).cells),
    )
    table = table_one_beside_recorded(worse, best)
    assert not table[(table.reading == "equal_rounds") & (table.local_epochs == 20)].within.any()


def test_a_run_of_another_design_is_refused() -> None:
    found = recorded()
    own = half_of(found[0])
    other = replace(own.config, table=replace(own.config.table, client_rate=1.0))
    with pytest.raises(ValueError, match="of another design"):
        table_one_beside_recorded(replace(own, config=other), found)


def test_the_sentence_counts() -> None:
    found = recorded()
    table = table_one_beside_recorded(half_of(found[0]), found)
    own = YourTableOne(found[0], table.assign(within=True))
    assert "Of the 16 mean accuracies of your run, **all lie within**" in own.sentence()
    some = YourTableOne(found[0], table.assign(within=[True] * 13 + [False] * 3))
    assert "**13 lie within**" in some.sentence()
    short = YourTableOne(found[0], table.drop(columns=["low", "high", "within"]))
    assert "cannot be compared" in short.sentence()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[CrossedTableOne, int]]:
    """What is computed, by one that gives back the recorded result of the same fold."""
    monkeypatch.setenv("FL_META_RECORDED", str(tmp_path))
    computed = []

    def load_or_run(config: CrossedTableOne, seeds: list[int], folder: Path) -> list[CrossedTableOneResult]:
        computed.extend((config, seed) for seed in seeds)
        result = half_of(recorded()[seeds[0] % FOLDS])
        return [replace(result, config=config, seed=seeds[0])]

    monkeypatch.setattr(own_table_one, "load_or_run", load_or_run)
    return computed


def test_the_seed_chooses_the_fold_and_no_recorded_replicate(
    asked: list[tuple[CrossedTableOne, int]], tmp_path: Path
) -> None:
    for result in recorded():
        results.write_result(result, tmp_path / results.file_name(result.config, result.seed))
    assert list(recorded_tables(tmp_path)) == ["writers"]
    for seed in (0, 1, 5):
        own = your_table_one("writers", "laptop", seed)
        assert own.run.seed % FOLDS == seed % FOLDS and own.run.seed // FOLDS >= MOST_REPLICATES
        assert "low" in own.accuracies
    half = replace(DESIGN, table=replace(DESIGN.table, clients_per_round=(5,)))
    assert {config for config, _ in asked} == {half}
    short = your_table_one("writers", "smoke", 0)
    assert "low" not in short.accuracies
    config, _ = asked[-1]
    assert (config.table.rounds, config.table.local_epochs) == (2, DESIGN.table.local_epochs)


@pytest.mark.usefixtures("asked")
def test_without_enough_recorded_results_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    for result in recorded()[: 3 * FOLDS]:
        results.write_result(result, tmp_path / results.file_name(result.config, result.seed))
    assert recorded_tables(tmp_path) == {}
    with pytest.raises(
        ValueError, match=r"9 recorded results of Table 1 on writers .* fl-meta record table_one-"
    ):
        your_table_one("writers", "laptop", 0)
    with pytest.raises(ValueError, match="no design 'mars'"):
        your_table_one("mars", "laptop", 0)
