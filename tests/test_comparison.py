"""What the experiments compute, against runs of the library by hand, and what may influence what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import Algorithm, fedavg, fedsgd, reptile
from fl_meta.data.batches import batch_plan
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.published.tensorflow_federated import TITLES
from fl_meta.evaluation.personalization import personalize
from fl_meta.evidence.comparison_verdicts import CONTRASTS, client_differences
from fl_meta.experiments import clients
from fl_meta.experiments.clients import clients_of, train_validation_held_out
from fl_meta.experiments.comparison import ComparisonRun, compare, geometric
from fl_meta.experiments.comparison_settings import (
    CONTINUED,
    CONTINUED_GRADIENTS,
    FEDSGD,
    LOCAL_ONLY,
    REPTILE,
    SMALL_E,
    Comparison,
)
from fl_meta.experiments.diagnosis import diagnose
from fl_meta.experiments.outcomes import ComparisonOutcome
from fl_meta.experiments.settings import Setting
from fl_meta.experiments.table_one import crossed_table_one
from fl_meta.experiments.table_one_settings import TABLE_ONE_DESIGNS, CrossedTableOne, TableOne
from fl_meta.experiments.trajectories import Snapshot, accuracies, path
from fl_meta.models.images import logistic, mlp
from fl_meta.models.model import Model
from fl_meta.models.parameters import relative_error
from fl_meta.training.baselines import train_local_only
from fl_meta.training.rounds import TrainingDivergedError
from fl_meta.training.run import train

SETTING = Setting("toy", "tiny", least=1, most=10)
# 24 clients: 6 held out, 14 that train, 4 for validation; 10 examples each, so that an epoch is one step.
CONFIG = Comparison(
    SETTING,
    folds=4,
    clients_per_round=3,
    local_epochs=2,
    rounds=6,
    fine_tuning_rounds=4,
    client_rates=(0.05, 0.2),
    reptile=((3, 0.01), (3, 0.05)),
    server_rates=(1.0, 0.3),
    adam_rates=(0.01, 0.05),
    centralized_rates=(0.05, 0.2),
    centralized_adam_rates=(0.01, 0.05),
    centralized_batch=20,
    personalization_rates=(0.5, 0.1, 0.01),
    personalization_epochs=2,
    local_only_epochs=3,
)
# Grids of one value each, where a test is about something else.
SINGLE: dict[str, Any] = {
    "client_rates": (0.2,),
    "reptile": ((3, 0.05),),
    "server_rates": (1.0,),
    "adam_rates": (0.05,),
    "centralized_rates": (0.2,),
    "centralized_adam_rates": (0.05,),
    "personalization_rates": (0.1,),
}
FEDERATED = [CONTINUED, REPTILE, FEDSGD, SMALL_E]
CENTRALIZED = ["centralized SGD", "centralized Adam"]
MATCHED = [title for name in CENTRALIZED for title in (f"{name}, matched", f"FedAvg, matched to {name}")]


def toy_data(clients: int = 24, classes: int = 4, features: int = 6) -> FederatedDataset:
    """Each client has 10 train and 10 test examples; what a class looks like is partly a client's own."""
    generator = np.random.default_rng(3)
    shared = generator.normal(size=(classes, features))
    x, y, owners = [], [], []
    for client in range(clients):
        own = shared + 0.7 * generator.normal(size=shared.shape)
        labels = generator.integers(classes, size=20)
        x.append(own[labels] + 0.4 * generator.normal(size=(20, features)))
        y.append(labels)
        owners += [f"client_{client:02}"] * 20
    return FederatedDataset.from_arrays(
        np.concatenate(x).astype(np.float32),
        np.concatenate(y),
        owners,
        test_fraction=0.5,
        num_classes=classes,
        name="toy",
    )


def relabelled(data: FederatedDataset, client_ids: Sequence[str]) -> FederatedDataset:
    """The labels of these clients, in both parts, are others."""
    y = data.y.copy()
    for client_id in client_ids:
        i = data.position(client_id)
        own = slice(data.starts[i], data.starts[i] + data.counts[i])
        y[own] = (y[own] + 1 + np.arange(data.counts[i]) % 2) % data.num_classes
    return replace(data, y=y)


def tiny(data: FederatedDataset) -> Model:
    return mlp(data, hidden=8)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> FederatedDataset:
    data = toy_data()
    monkeypatch.setattr(clients, "load_dataset", lambda name: data)
    monkeypatch.setitem(clients.MODELS, "tiny", tiny)
    return data


@pytest.fixture(scope="module")
def candidates() -> dict[str, list[Snapshot]]:
    """By name the points of training from which `result` took its matched models."""
    return {}


@pytest.fixture(scope="module")
def result(candidates: dict[str, list[Snapshot]]) -> ComparisonOutcome:
    """A comparison with seed 1, which many tests look at: do not write into it."""
    trained = ComparisonRun._train

    def watched(self: Any, name: str, *rest: Any) -> Any:
        found = trained(self, name, *rest)
        candidates[name] = found[0]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "load_dataset", lambda name: toy_data())
        patch.setitem(clients.MODELS, "tiny", tiny)
        patch.setattr(ComparisonRun, "_train", watched)
        return compare(CONFIG, 1)


# Points of a course ---------------------------------------------------------------------------------------


def test_geometric_by_hand() -> None:
    assert geometric(27, 3) == [1, 3, 9, 27]
    assert geometric(1, 3) == [1]
    # 60 / 3 = 20, 7 (6.7), 2 (2.3), 1.
    assert geometric(60, 3) == [1, 2, 7, 20, 60]
    assert geometric(4, 1.01) == [1, 2, 3, 4]


# Who takes part -------------------------------------------------------------------------------------------


def test_clients_of_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> FederatedDataset:
        asked.append({"name": name, **options})
        return toy_data(options.get("num_writers", 24))

    monkeypatch.setattr(clients, "load_dataset", load)
    assert len(clients_of(replace(SETTING, dataset="writers", num_clients=7))) == 7
    assert len(clients_of(replace(SETTING, dataset="writers"))) == 24
    assert clients_of(replace(SETTING, num_clients=5)).client_ids == tuple(
        f"client_{i:02}" for i in (0, 4, 8, 12, 16)
    )
    assert len(clients_of(replace(SETTING, num_clients=99))) == 24
    assert asked == [
        {"name": "writers", "num_writers": 7},
        {"name": "writers"},
        {"name": "toy"},
        {"name": "toy"},
    ]
    few = clients_of(replace(SETTING, least=3, most=4))
    assert set(few.train_counts) == set(few.test_counts) == {4}
    with pytest.raises(ValueError, match="no client of 'toy' has 11 train examples"):
        clients_of(replace(SETTING, least=11, most=20))


def test_parts_are_disjoint_and_over_the_folds_each_client_is_held_out_once(toy: FederatedDataset) -> None:
    held_out: list[str] = []
    for fold in range(4):
        groups = [set(part.client_ids) for part in train_validation_held_out(SETTING, fold, 4)]
        assert [len(group) for group in groups] == [14, 4, 6]
        assert set().union(*groups) == set(toy.client_ids)
        held_out += groups[2]
    assert sorted(held_out) == list(toy.client_ids)


@pytest.mark.parametrize("dataset", ["shakespeare", "shakespeare_tff"])
def test_a_character_of_several_plays_is_in_one_part(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    joint = "/" if dataset == "shakespeare" else "_"
    # PISTOL speaks in every play, the others in two each.
    people = [(play, f"ROLE_{(2 * i + k) % 12}") for i, play in enumerate(TITLES) for k in range(4)]
    people += [(play, "PISTOL") for play in TITLES]
    ids = np.repeat([joint.join(person) for person in people], 4)
    data = FederatedDataset.from_arrays(np.zeros((len(ids), 2)), np.arange(len(ids)) % 2, ids)
    monkeypatch.setattr(clients, "load_dataset", lambda name: data)
    held_out: list[str] = []
    for fold in range(2):
        groups = train_validation_held_out(replace(SETTING, dataset=dataset), fold, 2)
        names = [{person for play, person in people if joint.join((play, person)) in g} for g in groups]
        assert all(names) and sum(map(len, names)) == 13
        assert sum(map(len, groups)) == len(people)
        held_out += groups[2].client_ids
    assert sorted(held_out) == sorted(data.client_ids)


# Path -----------------------------------------------------------------------------------------------------

HEAVY = Stage(fedavg(2, client=SGD(0.1), server=SGD(1.0, momentum=0.9)), 5, 3)
TUNED = Stage(reptile(3, client=SGD(0.1), server=Adam(0.01)), 4, 2)


@pytest.mark.parametrize("rounds", [1, 3, 5])
@pytest.mark.parametrize("second", [HEAVY, TUNED])
def test_a_path_goes_on_from_a_fork_as_a_second_stage(second: Stage, rounds: int) -> None:
    # The server's optimizer starts afresh, and batches go on: as if the first stage had ended there.
    data = toy_data()
    model = tiny(data)
    *_, fork = path(model, data, HEAVY, 5, [rounds])
    found = list(path(model, data, second, 5, [0, 3], fork))
    assert found[0] == fork
    run = train(
        model, data, [replace(HEAVY, rounds=rounds), replace(second, rounds=3)], seed=5, progress=False
    )
    assert relative_error(found[1].params, run.params) == 0 and found[1].round_number == rounds + 3
    assert found[1].local_gradients == run.history.local_gradients.sum()
    # From the same point once more: the first way has left nothing behind.
    (again,) = path(model, data, second, 5, [3], fork)
    assert relative_error(again.params, run.params) == 0


def test_accuracies_are_in_the_order_of_the_clients() -> None:
    data = toy_data(6)
    some = data.subset(["client_04", "client_00", "client_05", "client_02"])
    model = tiny(data)
    found = accuracies(model, model.init(0), some, 0.5, 2, seed=0)
    assert len(np.unique(found, axis=1).T) == 4, "no two clients are alike"
    for place, client_id in enumerate(some.client_ids):
        alone = accuracies(model, model.init(0), data.subset([client_id]), 0.5, 2, seed=0)
        assert np.array_equal(alone[:, 0], found[:, place])


# Table 1 --------------------------------------------------------------------------------------------------


def test_the_crossed_table_is_read_at_equal_rounds_and_at_equal_work(toy: FederatedDataset) -> None:
    table = TableOne(
        SETTING, 4, (2, 3), (1, 2), 0.1, rounds=3, every=1, personalization_epochs=2, threshold=0.5
    )
    result = crossed_table_one(CrossedTableOne(table, work=4), 5)
    # Seed 5 of 4 folds is replicate 1 of fold 1.
    training, held_out = toy.fold(1, 4)
    assert result.clients == held_out.client_ids
    pairs = [(cell.clients_per_round, cell.local_epochs) for cell in result.cells]
    assert pairs == [(2, 1), (2, 2), (3, 1), (3, 2)]
    for cell in result.cells:
        assert [point[0] for point in cell.curve] == ([1, 2, 3, 4] if cell.local_epochs == 1 else [1, 2, 3])
        assert (cell.equal_rounds.rounds, cell.equal_work.rounds) == (3, 4 // cell.local_epochs)
        for reading in (cell.equal_rounds, cell.equal_work):
            algorithm = fedavg(cell.local_epochs, client=SGD(0.1), batch_size=20)
            stage = Stage(algorithm, reading.rounds, cell.clients_per_round)
            run = train(tiny(toy), training, [stage], seed=5, progress=False)
            personalized = personalize(tiny(toy), run.params, held_out, epochs=2, client=SGD(0.1), seed=5)
            expected = personalized.accuracies()[[0, 2]].to_numpy().T
            assert reading.accuracy == pytest.approx(expected, abs=1e-4)
            assert reading.local_gradients == run.history.local_gradients.sum()
            (point,) = (point for point in cell.curve if point[0] == reading.rounds)
            assert point[1:] == pytest.approx(expected.mean(1), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "work", "message"),
    [
        ({"rounds": 4}, 8, "rounds=4 must be a multiple of every=3"),
        ({}, 9, "work=9 must be a multiple of 2 local epochs × every=3"),
    ],
)
def test_a_crossed_table_is_evaluated_where_it_is_read(
    change: dict[str, int], work: int, message: str
) -> None:
    table = replace(TableOne(SETTING, 4, (2,), (1, 2), 0.1, 6, 3, 2, threshold=0.5), **change)
    with pytest.raises(ValueError, match=message):
        CrossedTableOne(table, work)


def test_the_recorded_crossed_tables_have_the_cells_of_the_paper() -> None:
    for design in TABLE_ONE_DESIGNS.values():
        assert (design.folds, design.table.clients_per_round) == (3, (5, 20))
        assert design.table.local_epochs == (2, 5, 10, 20)
        work = {epochs * design.rounds_at_equal_work(epochs) for epochs in design.table.local_epochs}
        assert work == {design.work}


# Comparison: structure and budgets ------------------------------------------------------------------------


def test_a_comparison_has_all_that_claims_look_at(result: ComparisonOutcome) -> None:
    _, _, held_out = toy_parts(1)
    assert result.clients == held_out.client_ids
    names = [model.name for model in result.models]
    assert sorted(names) == sorted(
        ["FedAvg", *FEDERATED, CONTINUED_GRADIENTS, *CENTRALIZED, *MATCHED, LOCAL_ONLY]
    )
    for model in result.models:
        epochs = 1 if model.name == LOCAL_ONLY else CONFIG.personalization_epochs
        assert np.array(model.accuracy).shape == (epochs + 1, 6)
        assert model.personalization_rate in CONFIG.personalization_rates
    assert all(len(client_differences([result], contrast)[0]) == 6 for contrast in CONTRASTS)
    assert set(result.courses) == {"FedAvg", *FEDERATED, *CENTRALIZED}
    assert [point.round for point in result.courses["FedAvg"]] == [1, 2, 6]
    start = result.model_named("FedAvg").rounds
    for name in FEDERATED:
        assert [point.round - start for point in result.courses[name]] == [0, 1, 2, 3, 4]
        # All begin at the same model, and it is personalized alike for all.
        first, continued = (result.courses[one][0] for one in (name, CONTINUED))
        assert first == continued


def test_every_method_has_the_same_budget(result: ComparisonOutcome) -> None:
    assert set(result.search) == {"FedAvg", *FEDERATED, *CENTRALIZED, LOCAL_ONLY}
    sizes = {name: len(options) for name, options in result.search.items()}
    # Local training has nothing but the rate of personalization, which every model is given besides.
    assert sizes.pop(LOCAL_ONLY) == 3 and set(sizes.values()) == {2}
    start = result.model_named("FedAvg").rounds
    for name in FEDERATED:
        assert result.model_named(name).rounds == start + CONFIG.fine_tuning_rounds
    # Gradients by hand: 3 clients, and of 10 examples each epoch is one step.
    gradients = {"FedAvg": 0, CONTINUED: 3 * 2, REPTILE: 3 * 3, FEDSGD: 3, SMALL_E: 3}
    for name, each in gradients.items():
        rounds = 0 if name == "FedAvg" else CONFIG.fine_tuning_rounds
        assert result.model_named(name).local_gradients == 6 * start + each * rounds
    # FedAvg sees 10 · 2 · 3 examples in each of 6 rounds, centralized training 20 in a step.
    for name in CENTRALIZED:
        course = result.courses[name]
        assert course[-1].round == course[-1].local_gradients == 10 * 2 * 3 * 6 / 20
        assert result.model_named(name).rounds <= course[-1].round


def test_the_best_option_on_the_validation_clients_wins(result: ComparisonOutcome) -> None:
    for name, tried in result.search.items():
        best = max(tried, key=lambda one: one.validation)
        assert result.model_named(name).option == best.option
    # Where the initial accuracy is what counts, it is that of the model.
    for name in ("FedAvg", FEDSGD, SMALL_E, *CENTRALIZED):
        assert result.model_named(name).validation[0] == max(one.validation for one in result.search[name])


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "rounds"), [(1, 2), (4, 8), (40, 16)])
def test_as_many_gradients_as_reptile_or_four_times_the_rounds(
    toy: FederatedDataset, steps: int, rounds: int
) -> None:
    # Reptile takes 4 · 3 · steps gradients, FedAvg 6 in each round; 16 rounds are the most.
    found = compare(replace(CONFIG, rounds=1, **SINGLE | {"reptile": ((steps, 0.01),)}), 0)
    start, tuned, continued = (found.model_named(name) for name in ("FedAvg", REPTILE, CONTINUED_GRADIENTS))
    assert continued.rounds - start.rounds == rounds
    assert continued.local_gradients - start.local_gradients == 6 * rounds
    if rounds < 16:
        assert 0 <= continued.local_gradients - tuned.local_gradients < 6


# Comparison: the models, once more by hand ----------------------------------------------------------------


def toy_parts(fold: int) -> tuple[FederatedDataset, FederatedDataset, FederatedDataset]:
    rest, held_out = toy_data().fold(fold, 4)
    return (*rest.fold(0, 5), held_out)


def stages_of(result: ComparisonOutcome, name: str) -> list[Stage]:
    """What made a model, from nothing but what the result says of it."""
    first, model = result.model_named("FedAvg"), result.model_named(name)
    client = SGD(first.option)

    def averaging(epochs: int, rate: float) -> Algorithm:
        return fedavg(epochs, client=client, server=SGD(rate, momentum=0.9), batch_size=20)

    start = Stage(averaging(2, 1.0), first.rounds, 3)
    if name == "FedAvg" or name.startswith("FedAvg, matched"):
        return [replace(start, rounds=model.rounds)]
    option = model.option
    algorithm = {
        CONTINUED: lambda: averaging(2, option),
        CONTINUED_GRADIENTS: lambda: averaging(2, option),
        REPTILE: lambda: reptile(option[0], client=client, server=Adam(option[1]), batch_size=20),
        FEDSGD: lambda: fedsgd(client=client, server=Adam(option), batch_size=20),
        SMALL_E: lambda: averaging(1, option),
    }[name]()
    return [start, Stage(algorithm, model.rounds - first.rounds, 3)]


@pytest.mark.parametrize("name", ["FedAvg", *FEDERATED, CONTINUED_GRADIENTS, *CENTRALIZED, *MATCHED])
def test_a_model_can_be_made_again(result: ComparisonOutcome, name: str) -> None:
    training, validation, held_out = toy_parts(1)
    model, expected = tiny(training), result.model_named(name)
    if name.startswith("centralized"):
        option = result.model_named(name.removesuffix(", matched")).option
        server: SGD | Adam = SGD(option, momentum=0.9) if "SGD" in name else Adam(option)
        stages = [Stage(fedsgd(client=SGD(1.0), server=server, batch_size=20), expected.rounds, 1)]
        run = train(model, training.pooled(), stages, seed=1, engine="loop", progress=False)
    else:
        run = train(model, training, stages_of(result, name), seed=1, progress=False)

    def adapted(data: FederatedDataset, rate: float) -> pd.DataFrame:
        return personalize(model, run.params, data, epochs=2, client=SGD(rate), seed=1).accuracies()

    # The rate is the better one for the validation clients, and accuracies are those of the held-out.
    means = {rate: adapted(validation, rate).mean().to_numpy() for rate in CONFIG.personalization_rates}
    rate = expected.personalization_rate
    assert means[rate][-1] == max(mean[-1] for mean in means.values())
    assert expected.validation == pytest.approx(means[rate], abs=1e-5)
    found = adapted(held_out, rate)
    assert list(found.index) == list(held_out.client_ids)
    assert expected.accuracy == pytest.approx(found.to_numpy().T, abs=1e-5)
    if name in (CONTINUED, REPTILE):
        # Tuned for the personalized accuracy of the validation clients, with the client rate of training.
        best = max(one.validation for one in result.search[name])
        with_training_rate = adapted(validation, result.model_named("FedAvg").option)
        assert best == pytest.approx(with_training_rate.mean()[2], abs=1e-5)


def test_the_floor_is_training_alone(result: ComparisonOutcome) -> None:
    _, validation, held_out = toy_parts(1)
    model, found = tiny(held_out), result.model_named(LOCAL_ONLY)
    scores = {
        rate: train_local_only(model, validation, epochs=3, client=SGD(rate), seed=1).accuracies()[3].mean()
        for rate in CONFIG.personalization_rates
    }
    assert found.option == max(scores, key=scores.__getitem__)
    alone = train_local_only(model, held_out, epochs=3, client=SGD(found.option), seed=1).accuracies()
    assert found.accuracy == pytest.approx(alone[[0, 3]].to_numpy().T, abs=1e-5)


@pytest.mark.parametrize("name", CENTRALIZED)
def test_matched_models_are_as_good_as_candidates_allow(
    result: ComparisonOutcome, candidates: dict[str, list[Snapshot]], name: str
) -> None:
    training, validation, held_out = toy_parts(1)
    everyone = toy_data()
    rest = everyone.subset([one for one in everyone.client_ids if one not in held_out.client_ids])
    assert len(rest) == len(training) + len(validation)

    def initial(snapshot: Snapshot) -> float:
        """On all clients that are not held out: few would leave the match to chance."""
        table = personalize(tiny(training), snapshot.params, rest, epochs=0)
        return float(table.accuracies()[0].mean())

    reached = {
        side: {one.round_number: initial(one) for one in candidates[side]} for side in (name, "FedAvg")
    }
    target = min(max(reached[name].values()), max(reached["FedAvg"].values())) - 0.01
    matched = []
    for side, title in ((name, f"{name}, matched"), ("FedAvg", f"FedAvg, matched to {name}")):
        matched.append(reached[side][result.model_named(title).rounds])
        assert abs(matched[-1] - target) == min(abs(one - target) for one in reached[side].values())
    # Between candidates there is at most a third of what training gained altogether.
    assert abs(matched[0] - matched[1]) <= (target - 1 / 4) / 3


# Comparison: what may influence what ----------------------------------------------------------------------


def choices(result: ComparisonOutcome) -> Any:
    """All that was chosen on the way to a result."""
    models = [replace(model, accuracy=(), why=None) for model in result.models]
    courses = {
        name: [replace(point, initial=0.0, personalized=0.0) for point in course]
        for name, course in result.courses.items()
    }
    return models, courses, result.search


@pytest.mark.slow
def test_held_out_clients_influence_no_choice(
    toy: FederatedDataset, result: ComparisonOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, validation, held_out = train_validation_held_out(SETTING, 1, 4)
    monkeypatch.setattr(clients, "load_dataset", lambda name: relabelled(toy, held_out.client_ids))
    other = compare(CONFIG, 1)
    assert choices(other) == choices(result)
    for one, changed in zip(result.models, other.models, strict=True):
        assert one.accuracy != changed.accuracy
        assert one.why is None or one.why != changed.why
    # And validation clients influence choices alone, not what an option leads to.
    monkeypatch.setattr(clients, "load_dataset", lambda name: relabelled(toy, validation.client_ids))
    run = ComparisonRun(CONFIG, 1)
    snapshots, *_ = run.train_fedavg()
    assert run.search["FedAvg"] != result.search["FedAvg"]
    stages = [replace(stages_of(result, "FedAvg")[0], rounds=6)]
    client = SGD(run.models[0].option)
    stages = [replace(stages[0], algorithm=replace(stages[0].algorithm, client=client))]
    expected = train(run.model, run.train, stages, seed=1, progress=False)
    assert relative_error(snapshots[-1].params, expected.params) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "bad", "name"),
    [
        ("client_rates", 1e30, "FedAvg"),
        ("reptile", (3, 1e30), REPTILE),
        ("centralized_rates", 1e30, "centralized SGD"),
    ],
)
def test_an_option_that_diverges_scores_nothing_and_stops_nothing(
    toy: FederatedDataset, grid: str, bad: Any, name: str
) -> None:
    good = getattr(CONFIG, grid)[0]
    small = replace(CONFIG, rounds=2, fine_tuning_rounds=2, personalization_rates=(0.1,))
    found = compare(replace(small, **{grid: (bad, good)}), 1)
    assert [one.option for one in found.search[name]] == [bad, good]
    assert found.search[name][0].validation == 0 < found.search[name][1].validation
    assert found.model_named(name).option == good


def test_a_method_of_which_every_option_diverges_says_so(toy: FederatedDataset) -> None:
    with pytest.raises(TrainingDivergedError, match="FedAvg: training diverged with each of"):
        compare(replace(CONFIG, rounds=2, **(SINGLE | {"client_rates": (1e30,)})), 1)


# Why ------------------------------------------------------------------------------------------------------


def softmax_gradient(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the mean loss of logistic regression, [classes, features + 1], the bias last."""
    x = np.column_stack([x, np.ones(len(x))])
    scores = x @ theta.T
    chances = np.exp(scores - scores.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    return (chances - np.eye(len(theta))[y]).T @ x / len(x)


@pytest.mark.parametrize("clients", [3, 24])
def test_why_by_hand(clients: int) -> None:
    data = toy_data(clients)
    # The first client has one example: two batches cannot be made of it.
    data = replace(data, x=data.x.astype(np.float64), train_counts=np.r_[1, data.train_counts[1:]])
    model, rate, epochs, seed = logistic(data), 0.3, 2, 4
    params = model.init(seed, torch.float64)
    weight, bias = (tensor.numpy() for tensor in params.values())
    theta = np.column_stack([weight, bias])
    cosines, products, distances = [], [], []
    inner, mean = np.zeros_like(theta), np.zeros_like(theta)
    chosen = data.client_ids[1:21]
    for client_id in chosen:
        client = data[client_id]
        one, other = (
            (client.train_x[rows], client.train_y[rows])
            for rows in batch_plan(seed, 0, client_id, 10, batch_size=5, steps=2)
        )

        def half_product(at: np.ndarray, one: Any = one, other: Any = other) -> float:
            return float((softmax_gradient(at, *one) * softmax_gradient(at, *other)).sum() / 2)

        a, b = softmax_gradient(theta, *one), softmax_gradient(theta, *other)
        products.append((a * b).sum())
        cosines.append((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))
        mean += (a + b) / 2
        # AvgGradInner by its definition, in central differences.
        for place in np.ndindex(theta.shape):
            step = np.zeros_like(theta)
            step[place] = 1e-5
            inner[place] += (half_product(theta + step) - half_product(theta - step)) / 2e-5
        end = theta.copy()
        for rows in batch_plan(seed, 0, client_id, 10, batch_size=20, epochs=epochs):
            end -= rate * softmax_gradient(end, client.train_x[rows], client.train_y[rows])
        distances.append(math.sqrt(((end - theta) ** 2).sum()))
    found = diagnose(model, params, data, rate, epochs, seed)
    assert asdict(found) == pytest.approx(
        {
            "clients": len(chosen),
            "gradient_cosine": np.mean(cosines),
            "gradient_product": np.mean(products),
            "avg_grad_inner_norm": np.linalg.norm(inner) / np.linalg.norm(mean),
            "distance": np.mean(distances),
            "distance_share": np.mean(distances) / np.linalg.norm(theta),
        },
        rel=1e-6,
    )
