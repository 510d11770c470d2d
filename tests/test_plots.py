import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import Algorithm, fedavg, fedsgd, fomaml, maml, reptile
from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import PersonalizationTable
from fl_meta.experiments.crossed_settings import CONTINUED, DESIGNS, REPTILE
from fl_meta.plots import examples as plots
from fl_meta.plots import personalization, rounds
from fl_meta.plots.fork import fork_diagram

# Three clients, two epochs: gains after the last epoch are +0.2, −0.1 and 0.
ACCURACIES = {"ann": (0.5, 0.6, 0.7), "bob": (0.6, 0.6, 0.5), "cy": (0.4, 0.5, 0.4)}


@pytest.fixture
def table() -> PersonalizationTable:
    rows = [
        (client_id, epoch, 1.0, accuracy, 10, 40)
        for client_id, accuracies in ACCURACIES.items()
        for epoch, accuracy in enumerate(accuracies)
    ]
    columns = [
        "client_id",
        "epoch",
        "test_loss",
        "test_accuracy",
        "num_test_predictions",
        "num_train_examples",
    ]
    return PersonalizationTable(pd.DataFrame(rows, columns=columns), "toy (synthetic)")


@pytest.fixture
def letters() -> FederatedDataset:
    random = np.random.default_rng(0)
    return FederatedDataset.from_arrays(
        random.random((20, 28, 28)).astype(np.float32),
        np.arange(20) % 4,
        ["ann"] * 20,
        class_names="ABCD",
        name="letters",
        synthetic=True,
    )


def test_the_adaptation_curve_shows_the_means_and_the_gains_interval(table: PersonalizationTable) -> None:
    (axes,) = personalization.adaptation_curve({"toy (synthetic)": table}).axes
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), [(0, 0.5), (1, 1.7 / 3), (2, 1.6 / 3)])
    (band,) = axes.collections
    summary = table.summary()
    outline = band.get_paths()[0].vertices
    assert outline[:, 1].max() == pytest.approx(0.5 + summary.gain_high.max())
    assert outline[:, 1].min() == pytest.approx(0.5 + min(0, summary.gain_low.min()))
    assert axes.get_legend().get_texts()[0].get_text() == "toy (synthetic)"


def test_the_histogram_counts_every_client_and_says_who_is_hurt(table: PersonalizationTable) -> None:
    left, right = personalization.gain_histogram({"one": table, "two": table}).axes
    assert (left.get_title(), right.get_title()) == ("one", "two")
    assert sum(bar.get_height() for bar in left.patches) == len(ACCURACIES)
    legend = left.get_legend()
    assert legend.get_title().get_text() == "33% of clients hurt"
    assert legend.get_texts()[0].get_text() == "mean +3.3"


def test_the_prediction_sheet_begins_with_the_mistakes(letters: FederatedDataset) -> None:
    truth = letters["ann"].test_y
    initial = truth.copy()
    initial[-1] = (truth[-1] + 1) % 4
    figure = personalization.prediction_sheet(letters, "ann", initial, truth, columns=3)
    assert "letters (synthetic), ann" in figure.get_suptitle()
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == len(truth) == 4
    np.testing.assert_array_equal(shown[0].images[0].get_array(), letters["ann"].test_x[-1])
    before, after, arrow = shown[0].texts
    assert before.get_text() == letters.class_names[initial[-1]] + "\u0332", "wrong is underlined"
    assert after.get_text() == letters.class_names[truth[-1]]
    assert before.get_color() != after.get_color()
    assert arrow.get_text() == "→"
    few = personalization.prediction_sheet(letters, "ann", truth, truth, columns=2, rows=1)
    assert sum(bool(axes.images) for axes in few.axes) == 2


def test_mistakes_in_text_are_marked_and_flipped_predictions_framed() -> None:
    html = personalization.mistakes_html("a<b", [True, False, True])
    assert html.count("<u") == 1 and ">&lt;</u>b" in html
    with pytest.raises(ValueError, match="shorter"):
        personalization.mistakes_html("abc", [True])
    html = personalization.mistakes_html("abcd", [True, True, False, False], [True, False, True, False])
    marked = re.findall(r'<(u|span) style="(.*?)">(.)</\1>', html)
    found = [(tag, "outline" in style, letter) for tag, style, letter in marked]
    assert found == [("span", True, "b"), ("u", True, "c"), ("u", False, "d")]


def divided(counts: list[list[int]]) -> FederatedDataset:
    """Clients with so many examples of each label [clients, labels]."""
    labels = [np.repeat(np.arange(len(row)), row) for row in counts]
    owners = np.repeat([f"client_{i:02d}" for i in range(len(counts))], [sum(row) for row in counts])
    return FederatedDataset.from_arrays(
        np.zeros((len(owners), 1), dtype=np.float32),
        np.concatenate(labels),
        owners,
        num_classes=len(counts[0]),
        class_names="ABCDEF"[: len(counts[0])],
        name="toy",
        synthetic=True,
    )


def test_the_partition_plot_puts_alike_labels_and_clients_together() -> None:
    # A and C are the first and the third client's, B and D the others'.
    figure = plots.partition_plot(divided([[6, 0, 4, 0], [0, 8, 0, 2], [7, 0, 1, 0], [0, 3, 0, 2]]))
    sizes, heat, bar = figure.axes
    assert sizes.get_title() == "toy (synthetic): 4 clients" and sizes.get_ylabel() == "examples"
    assert "".join(tick.get_text() for tick in heat.get_yticklabels()) in ("ACBD", "ACDB")
    (image,) = heat.images
    shares = np.asarray(image.get_array())
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    # The purest first: seven of eight, six of ten; then eight of ten, three of five.
    np.testing.assert_allclose(shares[:2], [[7 / 8, 0.6, 0, 0], [1 / 8, 0.4, 0, 0]])
    np.testing.assert_allclose(np.sort(shares[2:], axis=0), [[0, 0, 0.2, 0.4], [0, 0, 0.8, 0.6]])
    np.testing.assert_array_equal(sizes.patches[0].get_data().values, [8, 10, 10, 5])
    assert image.get_clim() == (0, 7 / 8)
    assert bar.get_ylabel() == "share of the client's labels"


def test_the_partition_plot_of_text_counts_labels(tiny_text: FederatedDataset) -> None:
    figure = plots.partition_plot(tiny_text)
    assert figure.axes[0].get_ylabel() == "labels"
    assert figure.axes[0].patches[0].get_data().values.sum() == (tiny_text.y >= 0).sum()


def test_the_partition_plot_names_at_most_35_labels_of_many() -> None:
    data = divided([[2] * 6, [1, 2, 3, 4, 5, 6]])
    many = replace(data, num_classes=100, class_names=())
    names = [tick.get_text() for tick in plots.partition_plot(many).axes[1].get_yticklabels()]
    assert len(names) == 34 and len(set(names)) == 34


@pytest.mark.parametrize(
    ("algorithm", "sent", "not_sent", "server"),
    [
        (fedsgd(), ["g_1"], [], "by examples;\nthen a step with\nSGD"),
        (fedavg(epochs=5), ["g_1 + g_2 + g_3 + g_4"], [], "SGD with momentum"),
        (reptile(2), ["g_1 + g_2"], [], "all clients equal;\nthen a step with\nAdam"),
        (
            fomaml(3, server=SGD(1.0)),
            ["g_4"],
            ["g_1", "g_2", "g_3"],
            "all clients equal;\nthen a step with\nSGD",
        ),
        (maml(1), [r"(I - \beta H_1)\,g_2"], ["g_1"], "Adam"),
    ],
    ids=lambda value: value.name if isinstance(value, Algorithm) else "",
)
def test_the_drawing_of_a_round_marks_what_is_sent(
    algorithm: Algorithm, sent: list[str], not_sent: list[str], server: str
) -> None:
    (axes,) = rounds.round_diagram(algorithm).axes
    texts = [text for text in axes.texts if text.get_text()]
    blue = [text.get_text().strip("$") for text in texts if text.get_color() == rounds.PALETTE[0]]
    grey = [text.get_text().strip("$") for text in texts if text.get_color() == "0.4"]
    assert set(sent) <= set(blue)
    assert grey == 3 * not_sent, "for each of three clients"
    assert any(server in text.get_text() for text in texts)
    assert algorithm.name in axes.get_title()


def test_a_drawing_of_too_many_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Reptile\(7\) takes 7 local steps; draw at most 6"):
        rounds.round_diagram(reptile(7))


@pytest.mark.parametrize("name", ["writers-unstable", "shakespeare-stable"])
def test_the_drawing_of_the_fork_has_the_designs_numbers(name: str) -> None:
    design = DESIGNS[name]
    (axes,) = fork_diagram(design).axes
    texts = [text.get_text() for text in axes.texts if text.get_text()]
    first = f"up to {design.most_rounds} rounds,\n{design.clients_per_round} clients a round"
    assert sum(first in text for text in texts) == 1
    for arm in (CONTINUED, REPTILE):
        assert f"{arm}:\n{design.second_stage_rounds} rounds" in texts
    epochs = f"{design.personalization_epochs} epochs"
    assert sum(text.startswith(epochs) for text in texts) == 2
