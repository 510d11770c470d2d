"""Move every control of every panel; an exception or an empty picture fails."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from html import unescape
from io import BytesIO
from time import perf_counter
from typing import Any

import ipywidgets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from small_results import RESULTS

from fl_meta import laboratories
from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.evidence.crossed_results import recorded_cells
from fl_meta.evidence.crossed_rules import CLAIM_TESTS, differences
from fl_meta.evidence.crossed_statistics import crossed_mean
from fl_meta.experiments.crossed_settings import DESIGNS
from fl_meta.laboratories.artificial_clients import artificial_clients
from fl_meta.laboratories.bowls import steep_and_flat
from fl_meta.laboratories.fork import AS_BEFORE, FORK, distances, mean_optima, train_past_fork
from fl_meta.laboratories.mixing import PRESETS
from fl_meta.laboratories.panel import Panel
from fl_meta.laboratories.plane import PLANE_ALGORITHMS, quadratics, train_in_plane

MAKERS: dict[str, Callable[[], Panel]] = {
    "plane": laboratories.federation_in_the_plane,
    "bowls": laboratories.two_bowls,
    "mix": laboratories.mix_your_own,
    "writer": laboratories.meet_a_client,
    "role": lambda: laboratories.meet_a_client(dataset="shakespeare"),
    "different": lambda: laboratories.heterogeneity_panel(RESULTS),
    "evidence": lambda: laboratories.evidence_explorer(RESULTS),
    "labels": laboratories.who_has_what,
    "fork": laboratories.after_the_fork,
    "match": laboratories.match_elsewhere,
}


@pytest.fixture(scope="module")
def made() -> dict[str, Panel]:
    return {name: make() for name, make in MAKERS.items()}


@pytest.fixture(params=MAKERS)
def panel(request: pytest.FixtureRequest, made: dict[str, Panel]) -> Iterator[Panel]:
    """Each panel in turn, or the one that a test chooses; reset afterwards."""
    panel = made[request.param]
    yield panel
    panel.buttons["reset"].click()


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("panel", names, indirect=True)


def pixels(panel: Panel) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(panel.picture.value)).convert("RGB"))


def assert_drawn(panel: Panel) -> None:
    """The picture and the words are not empty, and the state is that of the controls."""
    image = pixels(panel)
    assert 0.002 < (image != 255).any(-1).mean() < 0.9, panel.state
    assert image.shape[:2] == (int(panel.picture.height), int(panel.picture.width))
    assert len(panel.words.value) > 40
    assert unescape(panel.code.value).endswith(f"<code>{panel.state}</code>")


def values_of(control: Any) -> list[Any]:
    """Both ends and the middle of a slider; all options of a list."""
    if isinstance(control, ipywidgets.Dropdown | ipywidgets.SelectionSlider):
        return list(control.options)
    middle = control.min + (control.max - control.min) // control.step // 2 * control.step
    return [control.min, middle, control.max]


def test_every_control_can_be_moved_to_its_ends_and_the_middle(panel: Panel) -> None:
    size = pixels(panel).shape
    for name, control in panel.controls.items():
        start, seen = control.value, set()
        for value in values_of(control):
            control.value = value
            assert_drawn(panel)
            assert pixels(panel).shape == size, f"what lies below jumps at {panel.state}"
            seen.add((bytes(panel.picture.value), panel.text.value, panel.words.value))
        assert len(seen) > 1 or control.disabled, f"{name} changes nothing"
        control.value = start


@pytest.mark.slow
def test_how_long_from_a_move_to_the_picture_is_reported(
    panel: Panel, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    generator, taken = np.random.default_rng(0), []
    controls = list(panel.controls.values())
    for _ in range(40):
        control = controls[generator.integers(len(controls))]
        others = [value for value in values_of(control) if value != control.value]
        value = others[generator.integers(len(others))]
        begin = perf_counter()
        control.value = value
        taken.append(1000 * (perf_counter() - begin))
        assert_drawn(panel)
    median, most = np.quantile(taken, [0.5, 0.95])
    name = request.node.callspec.params["panel"]
    record_property(f"{name}, from move to picture", f"median {median:.0f} ms, 95th percentile {most:.0f} ms")


def combinations(panel: Panel) -> st.SearchStrategy[dict[str, Any]]:
    def value(control: Any) -> st.SearchStrategy[Any]:
        if isinstance(control, ipywidgets.Dropdown | ipywidgets.SelectionSlider):
            return st.sampled_from(control.options)
        steps = round((control.max - control.min) / control.step)
        return st.integers(0, steps).map(lambda n: type(control.value)(control.min + n * control.step))

    return st.fixed_dictionaries({name: value(control) for name, control in panel.controls.items()})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "examples"),
    [
        ("plane", 15),
        ("bowls", 15),
        ("mix", 6),
        ("writer", 6),
        ("role", 4),
        ("different", 6),
        ("evidence", 3),
        ("labels", 3),
        ("fork", 6),
    ],
)
def test_any_combination_can_be_drawn(made: dict[str, Panel], name: str, examples: int) -> None:
    panel = made[name]

    @settings(max_examples=examples)
    @given(combinations(panel))
    def draw(values: dict[str, Any]) -> None:
        panel.set(**values)
        assert_drawn(panel)

    draw()
    panel.buttons["reset"].click()


def test_the_state_brings_back_controls_and_picture_and_reset_where_it_began(panel: Panel) -> None:
    state, picture = panel.state, pixels(panel)
    for control in panel.controls.values():
        control.value = values_of(control)[1]
    other = eval(panel.state, {"laboratories": laboratories})
    assert {name: control.value for name, control in other.controls.items()} == pytest.approx(
        {name: control.value for name, control in panel.controls.items()}
    )
    # A picture whose lines have moved looks like one drawn from scratch.
    assert (pixels(other) != pixels(panel)).mean() < 1e-3
    assert (other.words.value, other.text.value) == (panel.words.value, panel.text.value)
    assert panel.state != state
    panel.buttons["reset"].click()
    assert panel.state == state
    assert (pixels(panel) != picture).mean() < 1e-3


@only("mix")
def test_a_preset_moves_the_sliders_of_the_gradients(panel: Panel) -> None:
    for name, mix in PRESETS.items():
        panel.set(client_rate=1.0, g_2=3.5)
        panel.buttons[name].click()
        assert tuple(panel.controls[f"g_{j}"].value for j in range(1, 6)) == mix
        assert panel.controls["client_rate"].value == 1.0
        # Drawn as the mix and as the preset of that name: the same two accuracies.
        texts = [text.get_text() for text in panel.figure.axes[0].texts]
        assert texts[-1] == texts[list(PRESETS).index(name)] != ""


def test_a_button_draws_once() -> None:
    drawn = []

    def draw(**values: int) -> tuple[Figure, str]:
        drawn.append(values)
        return Figure(), "drawn"

    controls = {name: ipywidgets.IntSlider(1) for name in "ab"}
    panel = Panel("toy", controls, draw, presets={"both": {"a": 5, "b": 6}})
    panel.buttons["both"].click()
    assert drawn == [{"a": 1, "b": 1}, {"a": 5, "b": 6}]
    controls["a"].value = 7
    panel.buttons["reset"].click()
    assert drawn[2:] == [{"a": 7, "b": 6}, {"a": 1, "b": 1}]


def test_a_callback_that_raises_is_not_silent() -> None:
    def draw(a: int) -> tuple[Figure, str]:
        if a > 5:
            raise KeyError("broke")
        return Figure(), "drawn"

    control = ipywidgets.IntSlider(1)
    panel = Panel("toy", {"a": control}, draw)
    with pytest.raises(KeyError, match="broke"):
        panel.set(a=9)
    with pytest.raises(KeyError, match="broke"):
        control.value = 8
    control.value = 2
    assert panel.words.value == "drawn"


def test_controls_without_a_meaning_are_disabled(made: dict[str, Panel]) -> None:
    steps, algorithm = (made["plane"].controls[name] for name in ("steps", "algorithm"))
    algorithm.value = "FedSGD"
    assert steps.disabled
    algorithm.value = "FOMAML"
    assert not steps.disabled
    made["plane"].buttons["reset"].click()


@only("plane")
def test_the_plane_shows_what_was_computed(panel: Panel) -> None:
    panel.set(algorithm="MAML", steps=2, client_rate=0.2, heterogeneity=0.5, rounds=7)
    clients = quadratics(0.5)
    path, local = train_in_plane(clients, PLANE_ALGORITHMS["MAML"](2, SGD(0.2), SGD(1.0)), 7)
    drawn = [line for line in panel.figure.axes[0].lines if len(np.atleast_1d(line.get_xdata()))]

    def marked(marker: str) -> list[np.ndarray]:
        return [line.get_xydata() for line in drawn if line.get_marker() == marker]

    np.testing.assert_allclose(np.concatenate(marked("o")), clients.optima)
    np.testing.assert_allclose(np.array(marked("^"))[:, 1], clients.adapted(path[-1], 0.2))
    np.testing.assert_allclose(marked("*"), [path[-1:]])
    *ways, server = marked(".")
    np.testing.assert_allclose(np.array(ways), local.swapaxes(0, 1))
    np.testing.assert_allclose(server, path)
    initial, after = (
        line.get_ydata()[-1] for line in panel.figure.axes[1].lines if line.get_marker() in "os"
    )
    assert f"{initial:.2f} at the global model, and {after:.2f} after" in panel.words.value
    assert initial == pytest.approx(clients.losses(path[-1][None]).mean())


@only("bowls")
def test_the_bowls_show_what_was_computed(panel: Panel) -> None:
    panel.set(distance=2.0, steepness=6.0, steps=5)
    bowls = steep_and_flat(2.0, 6.0)
    points = [bowls.best_average(), bowls.resting_point(5), bowls.best_start(5)]
    for axes, steps in zip(panel.figure.axes, (0, 5), strict=True):
        marked = {
            line.get_marker(): line.get_xydata()[0] for line in axes.lines if line.get_marker() in "os*"
        }
        for marker, point in zip("os*", points, strict=True):
            loss = bowls.losses(np.array([point]), steps).mean()
            np.testing.assert_allclose(marked[marker], [point, loss])
    steep, flat = (line.get_xydata() for line in panel.figure.axes[0].lines if line.get_marker() == ".")
    assert len(steep) == len(flat) == 6
    np.testing.assert_allclose([steep[-1, 0], flat[-1, 0]], bowls.adapted(np.array(points[:1]), 5))
    costs = [bowls.losses(np.array([point]), 5).mean() for point in points]
    assert f"costs {costs[0] - costs[2]:.2f}" in panel.words.value


@only("plane")
def test_a_path_that_leaves_the_picture_is_reported(panel: Panel) -> None:
    assert "leaves the picture" not in panel.words.value
    panel.set(algorithm="FOMAML", steps=1, client_rate=0.6, server="SGD, momentum 0.9")
    assert "leaves the picture" in panel.words.value


@only("fork")
def test_the_fork_shows_what_was_computed(panel: Panel) -> None:
    panel.set(server="Adam", server_rate=0.3, clients_per_round=20)
    path = train_past_fork(mean_optima(20), Adam(0.3), FORK)
    as_before = distances(train_past_fork(mean_optima(20), AS_BEFORE, FORK))
    plane, curves = panel.figure.axes
    lines = {line.get_label(): line for axes in (plane, curves) for line in axes.lines}
    np.testing.assert_allclose(lines["after it"].get_xydata(), path[FORK:, 0])
    assert lines["after the fork, as chosen"].get_xdata()[0] == 0
    np.testing.assert_allclose(lines["after the fork, as chosen"].get_ydata(), distances(path)[FORK:])
    reference = lines["FedAvg as before"]
    np.testing.assert_allclose(reference.get_ydata()[reference.get_xdata() >= 0], as_before[FORK:])
    for distance in (distances(path)[-1], as_before[-1]):
        assert f"{distance:.2f}" in panel.words.value
    panel.buttons["smaller rate"].click()
    assert panel.controls["server"].value == "SGD, momentum 0.9"
    assert panel.controls["clients_per_round"].value == 20


@only("evidence")
def test_fewer_replicates_move_the_interval_and_not_the_verdict(panel: Panel) -> None:
    panel.set(claim="2a-initial", place="unipen62, unstable")
    cells = recorded_cells(DESIGNS["unipen62-unstable"], RESULTS)
    test = next(test for test in CLAIM_TESTS if test.claim == "2a-initial")
    folds = differences(cells, [test.better], [test.worse], test.measure)
    badge = re.search(r"<span.*?</span>", panel.words.value)
    for replicates in (3, 5):
        panel.set(replicates=replicates)
        interval = crossed_mean([fold[:replicates] for fold in folds]).interval()
        drawn = next(line for line in panel.figure.axes[0].lines if line.get_ydata()[0] == len(folds))
        np.testing.assert_allclose(drawn.get_xdata(), [interval.low, interval.high])
        assert f"first {replicates} replicates alone" in panel.words.value
        assert re.search(r"<span.*?</span>", panel.words.value)[0] == badge[0]
        runs = [line.get_xdata() for line in panel.figure.axes[0].lines if line.get_marker() == "o"]
        assert {len(some) for some in runs[1::2]} == {replicates}, "those that count"
    panel.set(claim="3-best")
    assert "3-best is not tested on unipen62, unstable" in panel.words.value
    assert_drawn(panel)


@only("labels")
def test_fewer_labels_with_a_smaller_alpha_from_the_same_examples(panel: Panel) -> None:
    medians, guessed = [], []
    for alpha in panel.controls["alpha"].options:
        panel.set(alpha=alpha)
        counts = artificial_clients(alpha)
        labels, right = re.findall(r"(\d+) of 62 labels.*? (\d+) %", panel.words.value)[1]
        shares = [client.max() / client.sum() for client in counts if client.sum()]
        assert int(labels) == round(
            float(np.median([(client > 0).sum() for client in counts if client.sum()]))
        )
        assert int(right) == round(100 * float(np.mean(shares)))
        medians.append(int(labels))
        guessed.append(int(right))
        left, image = (axes.images[0] for axes in panel.figure.axes[:2])
        assert left.get_clim() == image.get_clim(), "one scale of shades"
        np.testing.assert_allclose(np.sort(image.get_array().sum(0)) > 0, np.sort(counts.sum(1) > 0))
    assert medians == sorted(medians) and medians[0] < medians[-1]
    assert guessed == sorted(guessed, reverse=True)
    assert len({axes.get_title() for axes in panel.figure.axes[:2]}) == 2


@pytest.mark.parametrize(
    ("maker", "options", "message"),
    [
        ("federation_in_the_plane", {"steps": 11}, "steps K: 11 .* from 1 to 10"),
        ("federation_in_the_plane", {"algorithm": "SCAFFOLD"}, "'SCAFFOLD'.*'MAML'"),
        ("mix_your_own", {"g_3": float("nan")}, "g₃: nan .* from -1 to 5"),
        ("evidence_explorer", {"claim": "4"}, "test: '4' .*'2b-FedSGD'"),
        ("evidence_explorer", {"replicates": 2}, "replicates: 2 .*3, 4, 5"),
        ("evidence_explorer", {"place": "mars"}, r"data set: 'mars' .*'writers \(synthetic\), unstable'"),
        ("evidence_explorer", {"results": "nowhere"}, "nowhere; give the folder of"),
        ("two_bowls", {"steepness": 0.5}, "times as steep: 0.5 .* from 1 to 9"),
        ("after_the_fork", {"server_rate": 0.2}, "server rate: 0.2 .* 0.03, 0.1, 0.3"),
        ("after_the_fork", {"server": "Adagrad"}, "'Adagrad' is unknown; .*'Adam'"),
        ("who_has_what", {"alpha": 0.3}, "α of the partition: 0.3 .* 0.04, 0.1, 0.4"),
        ("heterogeneity_panel", {"style": 0.7}, "style.*: 0.7 .* 0.0, 0.5, 1.0, 2.0"),
        ("heterogeneity_panel", {"results": "nowhere"}, "nowhere; .* fl-meta record hetero"),
        ("meet_a_client", {"dataset": "emnist"}, "'emnist' is unknown; choose one of 'writers', 'shakes"),
        ("meet_a_client", {"client": "writer_99999"}, "'writer_99999' is unknown; choose one of 'writer_"),
        ("meet_a_client", {"dataset": "shakespeare", "client": ""}, "role: '' is unknown"),
        ("meet_a_client", {"epoch": 11}, "11 is out of bounds; choose a number from 0 to 10"),
    ],
)
def test_settings_out_of_bounds_are_refused(maker: str, options: dict[str, Any], message: str) -> None:
    make = getattr(laboratories, maker)
    if maker in ("evidence_explorer", "heterogeneity_panel"):
        make = partial(make, options.get("results", RESULTS))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make(**{name: value for name, value in options.items() if name != "results"})
