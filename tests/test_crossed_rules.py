"""The rules of the crossed evidence on cells with known effects, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_cells import (
    ARMS,
    CENTRALIZED_MATCHED,
    FEDAVG_MATCHED,
    SECOND_STAGE,
    Spreads,
    config_of,
    design_of,
    effects,
    simulated,
)
from small_results import rows

from fl_meta.evaluation.bootstrap import bootstrap_mean
from fl_meta.evidence.crossed_rules import (
    CLAIM_TESTS,
    CONTRASTS,
    VERDICTS,
    differences,
    is_precise,
    margin_of,
    verdict_of_effect,
)
from fl_meta.evidence.crossed_statistics import crossed_mean
from fl_meta.evidence.crossed_tables import arm_table, cause_table, evidence_table, rival_table
from fl_meta.evidence.result_types import CrossedResult
from fl_meta.evidence.statistics import holm
from fl_meta.experiments.crossed_settings import (
    CENTRALIZED_SGD,
    CONTINUED,
    FEDAVG,
    FEDSGD,
    REPTILE,
    SMALL_E,
)

CLAIMS = [test.claim for test in CLAIM_TESTS]
CONFIG = config_of(design_of("toy"))
PRECISE = Spreads(client=0.05, run=0.005, rest=0.05)


def words(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table.claim, table.verdict, strict=True))


def shifted(cells: Sequence[CrossedResult], points: Mapping[str, Any]) -> list[CrossedResult]:
    """The same cells with so many points added to both accuracies of these arms."""

    def moved(cell: CrossedResult) -> CrossedResult:
        arms = [
            replace(arm, accuracy=rows(np.array(arm.accuracy) + np.asarray(points.get(arm.name, 0)) / 100))
            for arm in cell.arms
        ]
        return replace(cell, arms=tuple(arms))

    return [moved(cell) for cell in cells]


# Effects --------------------------------------------------------------------------------------------------


def test_differences_are_paired_and_in_points() -> None:
    cells = simulated(CONFIG, effects(2.0), spreads=Spreads(0, 0, 0, 0, common=20), replicates=3)
    # In whatever order cells are given.
    found = differences(cells[::-1], [REPTILE], [CONTINUED], "initial")
    assert [fold.shape for fold in found] == [(3, 20), (3, 21), (3, 19)]
    for fold in found:
        assert fold == pytest.approx(np.full_like(fold, 2.0), abs=0.011)
    # A mean of arms minus a mean of others, here (2 + 0 + 0) / 3 − 0; and the gain.
    (first, *_) = differences(cells, SECOND_STAGE[3:], SECOND_STAGE[:3], "personalized")
    assert first == pytest.approx(np.full_like(first, 2 / 3), abs=0.011)
    (first, *_) = differences(cells, [FEDAVG_MATCHED], [CENTRALIZED_MATCHED], "gain")
    assert first == pytest.approx(np.full_like(first, 2.0), abs=0.021)


def test_replicates_and_folds_are_told_apart_by_the_seed() -> None:
    cells = [
        replace(cell, arms=shifted([cell], {REPTILE: cell.seed})[0].arms)
        for cell in simulated(CONFIG, {}, spreads=Spreads(0, 0, 0, 0))
    ]
    found = differences(cells, [REPTILE], [CONTINUED], "personalized")
    # Seeds of fold 0 are 0, 3, 6, 9.
    assert [fold[:, 0] == pytest.approx([f, f + 3, f + 6, f + 9]) for f, fold in enumerate(found)] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("claim", "arm", "moves"),
    [
        ("2a-initial", REPTILE, (3, 0)),
        ("2a-initial", CONTINUED, (-3, 0)),
        ("2a-personalized", REPTILE, (0, 3)),
        ("2a-personalized", CONTINUED, (0, -3)),
        ("2b-FedSGD", FEDSGD, (3, -3)),
        ("2b-small-E", "FedAvg(E=1)", (3, -3)),
        ("3-matched", FEDAVG_MATCHED, (0, 3)),
        ("3-matched", CENTRALIZED_MATCHED, (0, -3)),
        ("3-best", FEDAVG, (0, 3)),
        ("3-best", CENTRALIZED_SGD, (0, -3)),
    ],
)
def test_the_effect_that_supports_a_claim_is_positive(claim: str, arm: str, moves: tuple[int, int]) -> None:
    cells = simulated(CONFIG, {}, spreads=PRECISE)
    for sign, verdict in ((1, "reproduced"), (-1, "contradicted")):
        # A rival of claim 2b stays the better one initially.
        initial, personalized = moves[0] if claim.startswith("2b") else sign * moves[0], sign * moves[1]
        moved = shifted(cells, {arm: [[initial], [personalized]]})
        table = evidence_table([moved]).set_index("claim").loc[claim]
        assert table.verdict == verdict
        assert table.effect == pytest.approx(3 * sign, abs=0.2)
        assert table.low < table.effect < table.high


@pytest.mark.parametrize(
    ("mu", "spreads", "verdicts"),
    [
        (3.0, PRECISE, {"reproduced"}),
        (-3.0, PRECISE, {"contradicted"}),
        (0.3, PRECISE, {"reproduced, but small"}),
        (-0.3, PRECISE, {"contradicted, but small"}),
        (0.0, Spreads(client=0.2, run=0.02, rest=0.4), {"no difference"}),
        (0.3, Spreads(client=9, run=2, rest=9), {"undecided"}),
        # 0.7 points are small in claim 3, whose margin is 1.
        (0.7, PRECISE, {"reproduced", "reproduced, but small"}),
    ],
)
def test_verdicts_that_no_luck_changes(mu: float, spreads: Spreads, verdicts: set[str]) -> None:
    # The rivals of claim 2b are ahead by far, so that luck leaves the premise alone.
    of = effects(mu) | dict.fromkeys((FEDSGD, SMALL_E), (mu + 20, 0))
    found = words(evidence_table([simulated(CONFIG, of, spreads=spreads, seed=5)]))
    assert set(found) == set(CLAIMS) and set(found.values()) == verdicts
    if mu == 0.7:
        assert {claim for claim in CLAIMS if "small" in found[claim]} == {"3-matched", "3-best"}


def test_verdicts_over_many_draws() -> None:
    """Effects of 1.5 points are found, those of 0.3 are not made much of, and none are not found."""
    draws, counts = 25, dict[float, dict[str, int]]()
    reproduced_families = 0
    for mu in (0.0, 0.3, 1.5):
        counts[mu] = dict.fromkeys(VERDICTS, 0)
        for seed in range(draws):
            found = words(evidence_table([simulated(CONFIG, effects(mu), seed=seed)]))
            for verdict in found.values():
                counts[mu][verdict] += 1
            reproduced_families += mu == 0 and any(v.startswith("reproduced") for v in found.values())
    assert reproduced_families <= 1
    tests = draws * len(CLAIMS)
    assert counts[0.0]["no difference"] + counts[0.0]["undecided"] >= 0.98 * tests
    # A third of the tests, those of claim 3, have a margin that is wide beside their intervals.
    assert counts[0.0]["no difference"] >= 0.2 * tests
    assert counts[0.3]["reproduced"] <= 0.05 * tests and counts[0.3]["contradicted"] == 0
    assert counts[1.5]["reproduced"] >= 0.9 * tests
    assert not counts[1.5]["no difference"] + counts[1.5]["contradicted"]


@pytest.mark.campaign
def test_at_most_one_family_in_twenty_has_a_false_discovery() -> None:
    # Families of both regimes of a data set: of 300, 15 at most are expected, and 26 with luck (1 in 500).
    configs = [config_of(design_of("toy", regime)) for regime in ("stable", "unstable")]
    false = 0
    for seed in range(300):
        cells = [simulated(config, effects(0), seed=2 * seed + i) for i, config in enumerate(configs)]
        verdicts = set(evidence_table(cells).verdict)
        false += any(verdict.startswith(("reproduced", "contradicted")) for verdict in verdicts)
    assert false <= 26


def test_a_bootstrap_over_rows_would_be_too_narrow() -> None:
    # Every run moves all clients of its fold: there are 12 runs, and not 240 independent rows.
    spreads = Spreads(client=0.5, run=1.0, rest=0.5)
    within, narrow, draws = 0, 0, 60
    for seed in range(draws):
        values = differences(
            simulated(CONFIG, {}, seed=seed, spreads=spreads, arms=[REPTILE, CONTINUED]),
            [REPTILE],
            [CONTINUED],
            "initial",
        )
        interval = crossed_mean(values).interval()
        by_rows = bootstrap_mean(np.concatenate([fold.ravel() for fold in values]), resamples=500)
        within += interval.low <= 0 <= interval.high
        narrow += by_rows.low <= 0 <= by_rows.high
    assert within >= 0.9 * draws and narrow <= 0.6 * draws


# Rules ----------------------------------------------------------------------------------------------------


def test_margins() -> None:
    # 1 point on unipen62 and in claim 3, elsewhere half a point.
    for dataset, claim, margin in [
        ("toy", "2a-initial", 0.5),
        ("toy", "2b-FedSGD", 0.5),
        ("toy", "", 0.5),
        ("toy", "3-best", 1.0),
        ("unipen62", "2a-initial", 1.0),
        ("unipen62", "", 1.0),
        ("unipen62", "3-matched", 1.0),
    ]:
        cells = simulated(config_of(design_of(dataset)), {}, replicates=1, arms=[REPTILE])
        assert margin_of(cells, claim) == margin
    table = evidence_table([simulated(CONFIG, effects(0.7), spreads=PRECISE)]).set_index("claim")
    assert (table.margin == [1.0 if claim.startswith("3") else 0.5 for claim in table.index]).all()


@pytest.mark.parametrize(
    ("shift", "corrected_p", "margin", "verdict"),
    [
        (0.0, 0.01, 0.5, "reproduced"),
        # Just significant alone, and not among others.
        (0.0, 0.051, 0.5, "undecided"),
        (0.0, 0.01, 3.0, "reproduced, but small"),
        (-4.5, 0.01, 0.5, "contradicted"),
        (-4.5, 0.01, 3.0, "contradicted, but small"),
        (-2.25, 0.01, 0.5, "undecided"),
        # The 90 % interval is 2.25 ± 1.31 (t of 0.95 with about 3 degrees): within ± 4.
        (-2.25, 0.9, 2.0, "no difference"),
        (0.0, 0.9, 5.0, "no difference"),
    ],
)
def test_the_rule_by_hand(shift: float, corrected_p: float, margin: float, verdict: str) -> None:
    values = np.array([[1.0, 2, 3, 2], [2, 2, 4, 3], [1, 2, 3, 3]]) + shift
    effect = crossed_mean([values])
    assert verdict_of_effect(effect, corrected_p, margin, ("reproduced", "contradicted")) == verdict
    ends = effect.interval(0.9)
    if verdict == "no difference":
        assert -margin < ends.low and ends.high < margin


def test_holm_is_over_both_regimes_of_a_data_set_and_over_no_other() -> None:
    wide = Spreads(client=3, run=0.5, rest=3)
    configs = [config_of(design_of("toy", regime)) for regime in ("stable", "unstable")]
    designs = [simulated(config, effects(0.8), spreads=wide, seed=i) for i, config in enumerate(configs)]
    other = simulated(config_of(design_of("other")), effects(0.8), spreads=wide, seed=2)
    table = evidence_table([*designs, other])
    assert list(table.regime) == ["stable"] * 6 + ["unstable"] * 6 + ["stable"] * 6
    assert table.p_holm[:12].tolist() == pytest.approx(holm(table.p[:12].tolist()))
    assert table.p_holm[12:].tolist() == pytest.approx(holm(table.p[12:].tolist()))
    smallest = table.p[:12].idxmin()
    assert table.p_holm[smallest] == pytest.approx(12 * table.p[smallest])
    # Contrasts are a family of their own: 4 of them, two measures, two regimes.
    causes = cause_table([*designs, other])
    assert len(causes) == 3 * 8
    smallest = causes.p[:16].idxmin()
    assert causes.p_holm[smallest] == pytest.approx(min(16 * causes.p[smallest], 1))


@pytest.mark.parametrize(("ahead", "met"), [(1.0, True), (-1.0, False), (-0.05, False)])
def test_a_rival_that_is_not_better_globally_tests_nothing(ahead: float, met: bool) -> None:
    of = effects(0.0) | {REPTILE: (0.0, 3.0), FEDSGD: (ahead, 0.0), SMALL_E: (1.0, 0.0)}
    table = evidence_table([simulated(CONFIG, of, spreads=Spreads(0, 0, 0, 0, 5))]).set_index("claim")
    row = table.loc["2b-FedSGD"]
    assert row.verdict == ("reproduced" if met else "premise not met")
    assert row.premise == pytest.approx(ahead, abs=0.02)
    assert table.loc["2b-small-E"].verdict == "reproduced"
    assert table.premise.drop(["2b-FedSGD", "2b-small-E"]).isna().all()
    # Its numbers are there all the same.
    assert row.effect == pytest.approx(3.0, abs=0.02)


def test_designs_without_centralized_training_do_not_test_claim_3() -> None:
    arms = [arm for arm in ARMS if "entralized" not in arm]
    table = evidence_table([simulated(CONFIG, effects(1.0), arms=arms)])
    assert list(table.claim) == [claim for claim in CLAIMS if not claim.startswith("3")]


def test_what_the_ceiling_ended_is_named() -> None:
    def of(ceiling: Sequence[str]) -> dict[str, tuple[str, ...]]:
        config = config_of(design_of("toy"), ceiling=ceiling)
        table = evidence_table([simulated(config, {}, replicates=3)])
        return dict(zip(table.claim, table.ceiling, strict=True))

    assert set(of([]).values()) == {()}
    # Everything begins with FedAvg's model, and matched models lie on the path to others.
    assert set(of([FEDAVG]).values()) == {(FEDAVG,)}
    found = of([FEDSGD, CENTRALIZED_SGD])
    assert found.pop("2b-FedSGD") == (FEDSGD,)
    assert found.pop("3-matched") == found.pop("3-best") == (CENTRALIZED_SGD,)
    assert set(found.values()) == {()}


def test_precision_is_about_widths_alone() -> None:
    cells = simulated(CONFIG, effects(0.0), spreads=Spreads(client=0.8, run=0.1, rest=0.8))
    assert is_precise(cells)
    wide = simulated(CONFIG, effects(0.0), spreads=Spreads(client=4, run=0.1, rest=0.8))
    assert not is_precise(wide)
    for arm in (REPTILE, CONTINUED, FEDAVG):
        for points in (-20, 0.37, 20):
            assert is_precise(shifted(cells, {arm: points})) and not is_precise(shifted(wide, {arm: points}))
    # Nor is an interval that leaves 0 out by far any narrower.
    far = {REPTILE: 20, FEDAVG: 20, FEDAVG_MATCHED: [[0], [20]]}
    assert min(evidence_table([shifted(wide, far)]).low) > 10
    assert is_precise(shifted(cells, far)) and not is_precise(shifted(wide, far))


@pytest.mark.parametrize(("arm", "spread", "precise"), [(REPTILE, 1.6, True), (REPTILE, 3.0, False)])
def test_one_test_that_is_not_precise_is_enough(arm: str, spread: float, precise: bool) -> None:
    cells = simulated(CONFIG, {}, spreads=Spreads(0, 0, 0, 0))
    generator = np.random.default_rng(1)
    own = {fold: spread * generator.normal(size=size) for fold, size in enumerate((20, 21, 19))}
    moved = [shifted([cell], {arm: own[cell.seed % 3]})[0] for cell in cells]
    # The half-width is about 2 · spread / √60: 0.41 and 0.77, beside a margin of 0.5.
    assert is_precise(moved) is precise
    # On unipen62, with a margin of 1, both are.
    config = config_of(design_of("unipen62"))
    assert is_precise([replace(cell, config=config) for cell in moved])


def test_too_few_replicates_are_one_error_that_says_so() -> None:
    for replicates in (1, 2):
        cells = simulated(CONFIG, {}, replicates=replicates)
        for table in (evidence_table, cause_table, arm_table, rival_table):
            with pytest.raises(ValueError, match=f"fold 0 has {replicates} replicates, .* no fewer than 3"):
                table([cells])
    assert len(evidence_table([simulated(CONFIG, {}, replicates=3)])) == 6


def test_nothing_recorded_gives_empty_tables() -> None:
    for table in (evidence_table, cause_table, arm_table, rival_table):
        assert table([]).empty and table([[]]).empty


def test_causes_of_the_second_stage() -> None:
    # Reptile's update brings 1 point, the smaller rate 2, Adam 4.
    brings = {"Reptile": 1, "SGD, smaller rate": 2, "Adam": 4}
    of = {arm: (float(sum(p for name, p in brings.items() if name in arm)),) * 2 for arm in SECOND_STAGE}
    cells = simulated(CONFIG, of, spreads=PRECISE)
    table = cause_table([cells])
    expected = dict(zip(CONTRASTS, [1, 2, 4, 2], strict=True))
    assert dict(zip(table.contrast, table.effect, strict=True)) == pytest.approx(expected, abs=0.15)
    assert set(table.verdict) == {"helps"} and set(table.measure) == {"initial", "personalized"}
    negative = {arm: (-points, -points) for arm, (points, _) in of.items()}
    assert set(cause_table([simulated(CONFIG, negative, spreads=PRECISE)]).verdict) == {"harms"}
    arms = arm_table([cells])
    assert arms.arm.tolist() == [arm for arm in SECOND_STAGE for _ in range(2)]
    for row in arms.itertuples():
        assert row.effect == pytest.approx(of[row.arm][0], abs=0.15) and row.low <= row.effect <= row.high
    assert (arms[arms.arm == CONTINUED][["effect", "low", "high"]] == 0).all().all()


def test_rivals_are_minus_reptile_in_both_accuracies() -> None:
    of = {REPTILE: (1.0, 2.0), FEDSGD: (1.5, -1.0), SMALL_E: (0.0, 3.0)}
    table = rival_table([simulated(CONFIG, of, spreads=PRECISE)]).set_index(["rival", "measure"])
    assert list(table.index) == [
        (rival, m) for rival in (FEDSGD, SMALL_E) for m in ("initial", "personalized")
    ]
    assert table.effect.tolist() == pytest.approx([0.5, -3.0, -1.0, 1.0], abs=0.15)
    assert (table.low < table.effect).all() and (table.effect < table.high).all()
