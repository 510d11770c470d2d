"""How different writers are: the recorded grid, and a computation that the sliders do not wait for."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from threading import Event

import ipywidgets
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from small_results import RESULTS

from fl_meta import laboratories
from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import reptile
from fl_meta.evaluation.personalization import Evaluation
from fl_meta.evidence.agreement import AGREEMENT
from fl_meta.evidence.result_files import read_result, write_result
from fl_meta.evidence.result_types import HeterogeneityResult
from fl_meta.evidence.results import compute, recorded
from fl_meta.experiments.heterogeneity import (
    Gain,
    gains,
    grid_settings,
    measure,
    recompute,
    writers_of,
)
from fl_meta.experiments.heterogeneity_settings import KNOBS, RECORDED_HETEROGENEITY
from fl_meta.experiments.outcomes import HeterogeneityCell, HeterogeneityOutcome
from fl_meta.laboratories.background_work import Work
from fl_meta.laboratories.panel import Panel
from fl_meta.models.images import logistic
from fl_meta.reproduction.runner import WIDGET_STATE, widget_failures
from fl_meta.training.run import train

TINY = replace(
    RECORDED_HETEROGENEITY,
    setting=replace(RECORDED_HETEROGENEITY.setting, num_clients=6),
    style=(0.0, 1.0),
    label_skew=(1.0,),
    mean_examples=(20,),
    clients_per_round=3,
    rounds=4,
)
KNOBS_OF_ONE = {"style": 1.0, "label_skew": 1.0, "mean_examples": 20}


@pytest.fixture(scope="module")
def grid() -> dict[tuple[float, ...], Gain]:
    return gains(recorded(RECORDED_HETEROGENEITY, RESULTS))


# --- the grid ----------------------------------------------------------------------------------------------


def test_a_cell_computed_again_agrees_with_the_recorded_one() -> None:
    config = RECORDED_HETEROGENEITY
    result = recorded(config, RESULTS)[1]
    cell = next(one for one in result.cells if [getattr(one, knob) for knob in KNOBS] == [0.5, 2.0, 25])
    data = writers_of(config, {knob: getattr(cell, knob) for knob in KNOBS}, population=0)
    *rounds, accuracy = measure(config, data, seed=1)
    assert rounds == [None] * config.rounds and accuracy is not None
    np.testing.assert_allclose(accuracy.mean(1), np.mean(cell.accuracy, 1), atol=AGREEMENT)


def test_a_cell_is_what_train_and_its_evaluation_give() -> None:
    data = writers_of(TINY, {"style": 0.0, "label_skew": 4.0, "mean_examples": 40}, population=0)
    training, held_out = data.fold(1, TINY.folds)
    algorithm = reptile(TINY.steps, client=SGD(0.5), server=SGD(1.0, momentum=0.8), batch_size=20)
    stages = [Stage(algorithm, TINY.rounds, TINY.clients_per_round)]
    evaluation = Evaluation(held_out, every=4, personalization_epochs=3)
    run = train(logistic(training), training, stages, seed=1, evaluation=evaluation, progress=False)
    expected = run.table.accuracies().loc[list(held_out.client_ids), [0, 3]].to_numpy().T
    *_, accuracy = measure(TINY, data, seed=1)
    np.testing.assert_array_equal(accuracy, expected)


def test_writers_who_are_alike_gain_nothing(grid: dict[tuple[float, ...], Gain]) -> None:
    for examples in RECORDED_HETEROGENEITY.mean_examples:
        assert grid[0.0, 0.0, examples].gain.low <= 0
        assert grid[0.0, 0.0, examples].gain.estimate < 1
        assert grid[2.0, 4.0, examples].gain.low > 20


def test_what_the_notebook_says_of_the_grid(grid: dict[tuple[float, ...], Gain]) -> None:
    config = RECORDED_HETEROGENEITY
    for skew, examples in product(config.label_skew, config.mean_examples):
        column = [grid[style, skew, examples] for style in config.style]
        initial = [one.initial for one in column]
        assert initial == sorted(initial, reverse=True), "style costs initial accuracy"
        assert column[-1].gain.low > column[0].gain.high, "and makes personalization gain more"
    together, style, skew = (grid[one].gain for one in ((1.0, 2.0, 100), (1.0, 0.0, 100), (0.0, 2.0, 100)))
    assert together.low > style.high + skew.high, "more than the sum"


def test_gains_of_all_seeds_together_by_hand() -> None:
    accuracies = [((0.5, 0.25), (0.75, 1.0)), ((0.5,), (0.25,))]
    results = [
        HeterogeneityOutcome((), (HeterogeneityCell(1.0, 2.0, 25, accuracy),)) for accuracy in accuracies
    ]
    ((cell, found),) = gains(results).items()
    assert cell == (1.0, 2.0, 25)
    assert found.initial == pytest.approx(125 / 3) and found.personalized == pytest.approx(200 / 3)
    assert found.gain.estimate == pytest.approx((25 + 75 - 25) / 3) and found.writers == 3
    assert -25 <= found.gain.low < 25 < found.gain.high <= 75
    assert "41.7 % → personalized 66.7 %, gain +25.0 points" in str(found)


def test_a_result_of_the_grid_is_a_result_like_others(tmp_path: Path) -> None:
    write_result(compute(TINY, 4), tmp_path / "one.json")
    result = read_result(tmp_path / "one.json")
    assert isinstance(result, HeterogeneityResult) and result.config == TINY and len(result.clients) == 2
    assert [{knob: getattr(cell, knob) for knob in KNOBS} for cell in result.cells] == list(
        grid_settings(TINY)
    )
    # The seeds 3, 4 and 5 are the folds of the writers with number 1.
    *_, accuracy = measure(TINY, writers_of(TINY, KNOBS_OF_ONE, population=1), 4)
    np.testing.assert_allclose(result.cells[1].accuracy, accuracy, atol=1e-5)


def test_a_cell_is_computed_with_each_writer_held_out_once() -> None:
    kept: list[Gain] = []
    shares = list(recompute(TINY, KNOBS_OF_ONE, 1, kept.append))
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1
    assert len(shares) == TINY.folds * (TINY.rounds + 1)
    data = writers_of(TINY, KNOBS_OF_ONE, population=1)
    parts = [list(measure(TINY, data, seed))[-1] for seed in (3, 4, 5)]
    assert kept == [Gain.of(np.concatenate([part for part in parts if part is not None], axis=1))]
    assert kept[0].writers == 6
    started = recompute(TINY, KNOBS_OF_ONE, 2, kept.append)
    next(started)
    assert len(kept) == 1


# --- the panel ---------------------------------------------------------------------------------------------


def finished(panel: Panel) -> Work:
    """The panel's work, whose thread must come to its end."""
    assert panel.work and panel.work.thread
    panel.work.thread.join(60)
    assert not panel.work.thread.is_alive()
    return panel.work


def test_a_cell_is_computed_by_the_button(grid: dict[tuple[float, ...], Gain]) -> None:
    panel = laboratories.heterogeneity_panel(RESULTS, mean_examples=25)
    words, picture = panel.words.value, panel.picture.value
    assert str(grid[1.0, 1.0, 25]) in words and "(synthetic)" in words and "recorded" in words
    assert panel.work
    panel.work.start.click()
    assert (finished(panel).said.value, panel.work.bar.value) == ("done", 1.0)
    assert panel.errors.outputs == ()
    assert panel.words.value.startswith(words) and "Computed here, with other writers" in panel.words.value
    assert panel.picture.value != picture
    panel.set(style=0.0)
    assert "Computed here" not in panel.words.value
    assert str(grid[0.0, 1.0, 25]) in panel.words.value


def test_the_picture_shows_the_cells_along_each_knob(grid: dict[tuple[float, ...], Gain]) -> None:
    panel = laboratories.heterogeneity_panel(RESULTS, style=0.5, label_skew=4.0, mean_examples=300)
    along = ([(style, 4.0, 300) for style in RECORDED_HETEROGENEITY.style], [(0.5, 4.0, 25)])
    gain = next(line for line in panel.figure.axes[3].lines if "recorded" in str(line.get_label()))
    assert list(gain.get_ydata()) == [grid[cell].gain.estimate for cell in along[0]]
    above = {line.get_label(): line for line in panel.figure.axes[2].lines}
    assert above["initial"].get_ydata()[0] == grid[along[1][0]].initial
    assert above["personalized"].get_ydata()[0] == grid[along[1][0]].personalized


# --- work beside the sliders -------------------------------------------------------------------------------


class Toy:
    """A panel whose work goes on when it is let."""

    def __init__(self, steps: Callable[[], Iterator[float]]) -> None:
        self.begun: list[int] = []
        self.level = 0

        def compute(a: int) -> Iterator[float]:
            self.begun.append(a)
            yield from steps()
            self.level = a

        def draw(a: int) -> tuple[Figure, str]:
            return Figure(), f"a is {a}, level {self.level}"

        self.panel = Panel("toy", {"a": ipywidgets.IntSlider(1)}, draw, work=("go", compute))
        assert self.panel.work
        self.work = self.panel.work


def endless() -> Iterator[float]:
    while True:
        Event().wait(0.01)
        yield 0.5


def test_sliders_answer_while_work_goes_on() -> None:
    go, there = Event(), Event()

    def steps() -> Iterator[float]:
        yield 0.25
        there.set()
        assert go.wait(20)
        yield 1.0

    toy = Toy(steps)
    toy.work.start.click()
    assert there.wait(20)
    assert (toy.work.bar.value, toy.work.start.disabled, toy.work.cancel.disabled) == (0.25, True, False)
    toy.panel.controls["a"].value = 7
    assert toy.panel.words.value == "a is 7, level 0"
    toy.work.start.click()
    assert toy.begun == [1], "a second click is refused"
    toy.panel.buttons["reset"].click()
    assert (toy.work.said.value, toy.work.start.disabled) == ("computing …", True)
    toy.panel.controls["a"].value = 7
    go.set()
    finished(toy.panel)
    # Drawn for where the slider is now, with what was computed for where it was.
    assert toy.panel.words.value == "a is 7, level 1"
    assert (toy.work.said.value, toy.work.start.disabled, toy.work.cancel.disabled) == ("done", False, True)


@pytest.mark.parametrize("stop", [lambda toy: toy.work.cancel.click(), lambda toy: toy.panel.close()])
def test_cancelled_work_leaves_everything_as_it_was(stop: Callable[[Toy], None]) -> None:
    toy = Toy(endless)
    words, picture = toy.panel.words.value, toy.panel.picture.value
    toy.work.start.click()
    stop(toy)
    assert not toy.work.start.disabled and "cancelled" in toy.work.said.value
    finished(toy.panel)
    assert (toy.panel.words.value, toy.panel.picture.value, toy.level) == (words, picture, 0)
    assert "cancelled" in toy.work.said.value and toy.work.errors.outputs == ()


def test_work_begun_anew_is_not_disturbed_by_what_was_cancelled() -> None:
    toy = Toy(endless)
    threads = []
    for _ in range(2):
        toy.work.start.click()
        threads.append(toy.work.thread)
        if len(threads) == 1:
            toy.work.cancel.click()
    assert threads[0] and threads[1]
    threads[0].join(20)
    assert not threads[0].is_alive() and threads[1].is_alive()
    assert (toy.work.said.value, toy.work.start.disabled) == ("computing …", True)
    toy.work.cancel.click()
    finished(toy.panel)


def test_an_error_in_work_stays_until_it_is_started_again_or_reset() -> None:
    broken = True

    def steps() -> Iterator[float]:
        yield 0.5
        if broken:
            raise KeyError("broke")

    toy = Toy(steps)
    assert toy.work.errors in toy.panel.children

    def press_go() -> None:
        toy.work.start.click()
        finished(toy.panel)

    def told() -> tuple[list[str], str]:
        return [output["evalue"] for output in toy.work.errors.outputs], toy.work.said.value

    failed = ["'broke'"], "failed, see below"
    press_go()
    assert told() == failed and not toy.work.start.disabled
    # As the notebooks' run finds it: in the saved state of the widgets.
    state = {"state": {"one": {"state": toy.work.errors.get_state()}}}
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {WIDGET_STATE: state}})
    (failure,) = widget_failures(notebook)
    assert (failure.error, failure.message) == ("KeyError", "'broke'")
    assert 'raise KeyError("broke")' in failure.traceback
    toy.panel.controls["a"].value = 5
    assert (told(), toy.panel.words.value) == (failed, "a is 5, level 0")
    toy.panel.buttons["reset"].click()
    assert (told(), toy.panel.words.value, toy.work.bar.value) == (([], ""), "a is 1, level 0", 0.0)
    press_go()
    assert told() == failed
    broken = False
    press_go()
    assert told() == ([], "done")


def test_the_process_ends_while_work_goes_on() -> None:
    code = (
        "from fl_meta.laboratories.background_work import Work; import itertools, time\n"
        "steps = lambda: (time.sleep(0.01) or 0.5 for _ in itertools.count())\n"
        "Work('go', steps, print).start.click()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
