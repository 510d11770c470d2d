import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_tasks import IMAGES, TEXT
from torch import nn
from torch.nn.functional import cross_entropy

from fl_meta import fedavg, models
from fl_meta.algorithms.optimizers import SGD
from fl_meta.data.batches import batch_plan
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.engines.client_momentum import ClientMomentum
from fl_meta.engines.task import ENGINES, Task
from fl_meta.evaluation.bootstrap import bootstrap_mean
from fl_meta.evaluation.personalization import Evaluation, PersonalizationTable, personalize
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params


def small(data: FederatedDataset) -> Model:
    return TEXT["char_mlp"](data) if data.y.ndim == 2 else IMAGES["mlp"](data)


def start(data: FederatedDataset) -> Params:
    return small(data).init(1, torch.float64)


# Adaptation -----------------------------------------------------------------------------------------------


def plainly(
    data: FederatedDataset, client_id: str, client: SGD, epochs: int, batch_size: int | None, seed: int
) -> list[tuple[float, float, int]]:
    """Test loss, accuracy and number of predictions after each epoch: a module, torch.optim and a loop."""
    module = small(data).build().double()
    module.load_state_dict(start(data))
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=client.learning_rate,
        momentum=client.momentum,
        weight_decay=client.weight_decay,
    )
    here = data[client_id]

    def tensors(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.tensor(x)
        return inputs.double() if inputs.is_floating_point() else inputs, torch.tensor(y).long().flatten()

    def score() -> tuple[float, float, int]:
        x, labels = tensors(here.test_x, here.test_y)
        with torch.no_grad():
            logits = module(x).reshape(len(labels), -1)
        there = [i for i, label in enumerate(labels.tolist()) if label != PADDING]
        losses = [-torch.log_softmax(logits[i], 0)[labels[i]].item() for i in there]
        right = [logits[i].argmax().item() == labels[i].item() for i in there]
        return float(np.mean(losses)), float(np.mean(right)), len(there)

    scores = [score()]
    plan = list(batch_plan(seed, 0, client_id, len(here.train_y), batch_size=batch_size, epochs=epochs))
    for epoch in range(epochs):
        for indices in plan[epoch * len(plan) // epochs : (epoch + 1) * len(plan) // epochs]:
            x, labels = tensors(here.train_x[indices], here.train_y[indices])
            optimizer.zero_grad()
            logits = module(x)
            cross_entropy(logits.reshape(len(labels), -1), labels, ignore_index=PADDING).backward()
            optimizer.step()
        scores.append(score())
    return scores


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["tiny_images", "tiny_text"])
@pytest.mark.parametrize(
    ("client", "batch_size"),
    [(SGD(0.3), 3), (SGD(0.1), None), (SGD(0.2, momentum=0.5, weight_decay=0.01), 4)],
)
def test_scores_after_every_epoch_are_those_of_a_plain_loop(
    kind: str, client: SGD, batch_size: int | None, engine: str, request: pytest.FixtureRequest
) -> None:
    data: FederatedDataset = request.getfixturevalue(kind)
    table = personalize(
        small(data), start(data), data, epochs=3, client=client, batch_size=batch_size, seed=5, engine=engine
    )
    rows = table.rows.set_index(["client_id", "epoch"])
    assert list(rows.index) == [(client_id, epoch) for client_id in data.client_ids for epoch in range(4)]
    for client_id in data.client_ids:
        expected = plainly(data, client_id, client, 3, batch_size, 5)
        found = rows.loc[client_id][["test_loss", "test_accuracy", "num_test_predictions"]].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert (rows.loc[client_id].num_train_examples == len(data[client_id].train_y)).all()
    assert rows.test_loss.nunique() == len(rows)  # so that no epoch or client could stand for another


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("every", "epochs"), [(2, [0, 2, 4, 5]), (5, [0, 5]), (9, [0, 5])])
def test_scores_can_be_left_out_between_the_first_and_the_last(
    tiny_images: FederatedDataset, every: int, epochs: list[int], engine: str
) -> None:
    model, params = small(tiny_images), start(tiny_images)
    whole, some = (
        personalize(model, params, tiny_images, epochs=5, every=n, client=SGD(0.3), engine=engine).rows
        for n in (1, every)
    )
    pd.testing.assert_frame_equal(some, whole[whole.epoch.isin(epochs)].reset_index(drop=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_epoch_0_is_the_initial_model(tiny_images: FederatedDataset, engine: str) -> None:
    model, params = small(tiny_images), start(tiny_images)
    alone = personalize(model, params, tiny_images, epochs=0, engine=engine).rows
    longer = personalize(model, params, tiny_images, epochs=2, client=SGD(0.5), engine=engine).rows
    pd.testing.assert_frame_equal(alone, longer[longer.epoch == 0].reset_index(drop=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_is_adapted_alone(tiny_images: FederatedDataset, engine: str) -> None:
    settings: dict[str, Any] = {"epochs": 2, "client": SGD(0.5), "batch_size": 4, "engine": engine}
    model, params = small(tiny_images), start(tiny_images)
    whole = personalize(model, params, tiny_images, **settings).rows.set_index("client_id")
    some = tiny_images.subset(["client_5", "client_2"])
    few = personalize(model, params, some, **settings).rows.set_index("client_id")
    pd.testing.assert_frame_equal(few, whole.loc[["client_5", "client_2"]])


def test_the_initial_parameters_stay_as_they_are(tiny_images: FederatedDataset) -> None:
    params = start(tiny_images)
    personalize(small(tiny_images), params, tiny_images, epochs=1, client=SGD(0.5))
    assert all(torch.equal(params[name], value) for name, value in start(tiny_images).items())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_diverges_is_wrong_and_not_left_out(tiny_images: FederatedDataset, engine: str) -> None:
    model = models.logistic(tiny_images)
    params = {name: torch.zeros_like(value) for name, value in model.init(0).items()}
    table = personalize(model, params, tiny_images, epochs=3, client=SGD(3e38), batch_size=2, engine=engine)
    last = table.rows[table.rows.epoch == 3]
    assert len(last) == 6 and last.test_loss.isna().all() and (last.test_accuracy == 0).all()
    # All zeros predict the first class: only who has none of it in the test part was not hurt.
    right = [(client.test_y == 0).any() for client in tiny_images]
    assert 0 < np.mean(right) == table.summary().loc[3, "share_of_clients_hurt"]


@pytest.mark.parametrize("engine", ENGINES)
def test_one_thread_computes(tiny_images: FederatedDataset, engine: str) -> None:
    seen = set()

    class Watching(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(torch.get_num_threads())
            return super().forward(x.flatten(1))

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        model = Model("watching", lambda: Watching(64, 4))
        personalize(model, model.init(0), tiny_images, epochs=1, engine=engine)
        assert seen == {1} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


# The summary ----------------------------------------------------------------------------------------------

INITIAL = {"a": (0.5, 1.0), "b": (0.6, 2.0), "c": (0.8, 3.0), "d": (0.4, 4.0)}  # accuracy and loss
PERSONALIZED = {"a": (0.7, 0.5), "b": (0.6, 1.0), "c": (0.7, 1.5), "d": (0.9, 2.0)}
PREDICTIONS = {"a": 10, "b": 30, "c": 20, "d": 40}


def table_of(*epochs: dict[str, tuple[float, float]]) -> PersonalizationTable:
    rows = [
        {
            "client_id": client_id,
            "epoch": epoch,
            "test_loss": loss,
            "test_accuracy": accuracy,
            "num_test_predictions": PREDICTIONS[client_id],
            "num_train_examples": 5,
        }
        for epoch, scores in enumerate(epochs)
        for client_id, (accuracy, loss) in scores.items()
    ]
    return PersonalizationTable(pd.DataFrame(rows), "four clients (synthetic)")


@pytest.mark.parametrize(
    ("weights", "counts", "accuracies", "losses"),
    [
        ("client", [1, 1, 1, 1], [0.575, 0.725], [2.5, 1.25]),
        # (10 · 0.5 + 30 · 0.6 + 20 · 0.8 + 40 · 0.4) / 100 and (7 + 18 + 14 + 36) / 100;
        # (10 · 1 + 30 · 2 + 20 · 3 + 40 · 4) / 100, and half of it.
        ("example", [10, 30, 20, 40], [0.55, 0.75], [2.9, 1.45]),
    ],
)
def test_summary_by_hand(
    weights: Any, counts: list[int], accuracies: list[float], losses: list[float]
) -> None:
    summary = table_of(INITIAL, PERSONALIZED).summary(weights)
    assert list(summary.index) == [0, 1]
    expected = {
        f"test_loss_by_{weights}": losses,
        f"test_accuracy_by_{weights}": accuracies,
        f"gain_by_{weights}": [math.nan, accuracies[1] - accuracies[0]],
        "gain_low": [math.nan, bootstrap_mean([0.2, 0.0, -0.1, 0.5], counts).low],
        "gain_high": [math.nan, bootstrap_mean([0.2, 0.0, -0.1, 0.5], counts).high],
        # Shares and quantiles are of clients in either case. Only c fell; b stayed.
        "share_of_clients_hurt": [math.nan, 0.25],
        # 10 % of the way from the least to the greatest of four is 0.3 of the first step.
        "bottom_decile_of_clients": [0.4 + 0.3 * 0.1, 0.6 + 0.3 * 0.1],
    }
    assert list(summary.columns) == list(expected)
    for name, values in expected.items():
        assert summary[name].tolist() == pytest.approx(values, nan_ok=True), name


def test_gains_are_paired() -> None:
    # Everyone gains 0.1, however much they differ: there is no doubt about it.
    all_gain = {client_id: (accuracy + 0.1, loss) for client_id, (accuracy, loss) in INITIAL.items()}
    last = table_of(INITIAL, all_gain).summary().loc[1]
    assert [last.gain_low, last.gain_by_client, last.gain_high] == pytest.approx([0.1, 0.1, 0.1])


def test_every_epoch_is_compared_with_epoch_0() -> None:
    summary = table_of(INITIAL, PERSONALIZED, INITIAL).summary()
    assert summary.gain_by_client.iloc[1:].tolist() == pytest.approx([0.15, 0.0])
    assert summary.share_of_clients_hurt.iloc[1:].tolist() == [0.25, 0.0]


def test_clients_are_matched_by_id_and_not_by_place() -> None:
    table = table_of(INITIAL, dict(reversed(PERSONALIZED.items())))
    pd.testing.assert_frame_equal(
        table.summary("example"), table_of(INITIAL, PERSONALIZED).summary("example")
    )


def test_one_client_has_a_gain_and_no_interval() -> None:
    last = table_of({"a": INITIAL["a"]}, {"a": PERSONALIZED["a"]}).summary().loc[1]
    assert last.gain_by_client == pytest.approx(0.2)
    assert math.isnan(last.gain_low) and math.isnan(last.gain_high)


def test_accuracies_by_client_and_epoch() -> None:
    accuracies = table_of(INITIAL, PERSONALIZED).accuracies()
    assert list(accuracies.columns) == [0, 1]
    assert accuracies.loc["d"].tolist() == [0.4, 0.9] and accuracies.loc["b"].tolist() == [0.6, 0.6]


def test_text_and_html_name_the_data_and_the_weights() -> None:
    table = table_of(INITIAL, PERSONALIZED)
    for shown in (repr(table), table._repr_html_()):
        assert "4 clients of four clients (synthetic), by client" in shown
        assert "gain_by_client" in shown and "0.725" in shown
    assert "a &lt; b" in PersonalizationTable(table.rows, "a < b")._repr_html_()


def test_synthetic_data_says_so_in_the_table(tiny_images: FederatedDataset) -> None:
    table = personalize(small(tiny_images), start(tiny_images), tiny_images, epochs=0)
    assert table.data_label == "tiny images (synthetic)" and "tiny images (synthetic)" in repr(table)


# What can go wrong ----------------------------------------------------------------------------------------


def without(data: FederatedDataset, part: str) -> FederatedDataset:
    counts = getattr(data, f"{part}_counts").copy()
    counts[3] = 0
    return replace(data, **{f"{part}_counts": counts})


@pytest.mark.parametrize(
    ("missing", "options", "message"),
    [
        ("test", {}, r"client 'client_3' has no test part; leave it out with subset"),
        ("test", {"epochs": 0}, r"client 'client_3' has no test part"),
        ("train", {}, r"client 'client_3' has no train part; leave it out"),
        (None, {"every": 0}, r"personalize every=0"),
        (None, {"epochs": -1}, r"epochs=-1 is negative; use 0 for the initial model alone"),
        (None, {"engine": "lop"}, r"engine='lop' is unknown; choose one of 'stacked', 'loop'"),
        (None, {"batch_size": 0}, r"batch_size=0 for client 'client_\d'; it must be 1 or more"),
        (None, {"seed": -1}, r"seed=-1 is negative"),
    ],
)
def test_bad_requests_are_refused(
    tiny_images: FederatedDataset, missing: str | None, options: dict[str, Any], message: str
) -> None:
    data = tiny_images if missing is None else without(tiny_images, missing)
    with pytest.raises(ValueError, match=message):
        personalize(small(data), start(data), data, **options)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_initial_score_needs_no_train_part(tiny_images: FederatedDataset, engine: str) -> None:
    data = without(tiny_images, "train")
    rows = personalize(small(data), start(data), data, epochs=0, engine=engine).rows
    assert rows.num_train_examples.tolist()[3] == 0 and rows.test_loss.notna().all()


@pytest.mark.parametrize("weights", ["clients", "examples", "", None])
def test_misspelt_weights_are_refused(weights: Any) -> None:
    with pytest.raises(ValueError, match=rf"weights={weights!r}; choose 'client' or 'example'"):
        table_of(INITIAL, PERSONALIZED).summary(weights)


# Scores during training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [None, SGD(0.05)])
def test_scores_of_a_run_are_means_over_held_out_clients(
    tiny_images: FederatedDataset, own: SGD | None
) -> None:
    _, held_out = tiny_images.split_clients(0.5)
    model, params = small(tiny_images), start(tiny_images)
    algorithm = fedavg(epochs=1, client=SGD(0.4, momentum=0.5), batch_size=3)
    client = algorithm.client if own is None else own
    rows = personalize(model, params, held_out, epochs=2, client=client, batch_size=3, seed=4).rows
    evaluation = Evaluation(held_out, every=5, personalization_epochs=2, client=own)
    expected = {}
    for when, epoch in (("initial", 0), ("personalized", 2)):
        for measure in ("test_accuracy", "test_loss"):
            expected[f"held_out_{when}_{measure}_by_client"] = rows[rows.epoch == epoch][measure].mean()
    task = Task(model, tiny_images, 4, ENGINES["loop"])
    table, momentum = evaluation.score_clients(task, params, algorithm, ClientMomentum())
    assert evaluation.means(table) == pytest.approx(expected) and not momentum.buffers
    without = replace(evaluation, personalization_epochs=0)
    only_initial = without.means(without.score_clients(task, params, algorithm, ClientMomentum())[0])
    assert only_initial == pytest.approx({name: expected[name] for name in expected if "initial" in name})
