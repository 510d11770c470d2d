"""Benchmark rows: who trains, what each method's numbers are of, and the table beside the published ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import fedavg
from fl_meta.data import LOADERS
from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import Evaluation, personalize
from fl_meta.experiments import published_scores as rows
from fl_meta.experiments.outcomes import Accuracies, BenchmarkOutcome, MethodScore
from fl_meta.experiments.published_scores import (
    METHODS,
    PARTITIONS,
    PUBLISHED_ROWS,
    benchmark,
    beside_published,
    clients_of_row,
    protocol_differences,
)
from fl_meta.experiments.published_settings import (
    BENCHMARK_METHODS,
    BENCHMARKS,
    MOBILENET,
    WHOLE_TEXT,
    Benchmark,
)
from fl_meta.experiments.settings import Setting
from fl_meta.models.images import logistic
from fl_meta.training.run import train

CONFIG = Benchmark(Setting("toy", "tiny", 1, 50), 5, None, "FedAvg", 8, 0.5, 4)


def toy_data(clients: int = 10) -> FederatedDataset:
    """Clients whose two classes lie at places of their own; of differing size."""
    generator = np.random.default_rng(0)
    x, y, owners = [], [], []
    for client in range(clients):
        count = 20 + 5 * (client % 3)
        labels = generator.integers(2, size=count)
        centres = generator.normal(size=(2, 3))
        x.append(centres[labels] + 0.3 * generator.normal(size=(count, 3)))
        y.append(labels)
        owners += [f"client_{client}"] * count
    arrays = np.concatenate(x).astype(np.float32), np.concatenate(y), owners
    return FederatedDataset.from_arrays(*arrays, test_fraction=0.5, num_classes=2, name="toy")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> FederatedDataset:
    data = toy_data()
    monkeypatch.setattr(rows, "load_dataset", lambda name: data)
    monkeypatch.setitem(rows.BENCHMARK_MODELS, "tiny", logistic)
    return data


def accuracy(result: BenchmarkOutcome, name: str) -> Accuracies:
    (found,) = (method.accuracy for method in result.methods if method.name == name)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_seen_and_unseen_clients(toy: FederatedDataset, method: str) -> None:
    result = benchmark(replace(CONFIG, method=method), 1)
    assert result.seen == 8 and sorted(result.clients) == sorted(toy.client_ids)
    tests = [int(toy.test_counts[toy.position(client)]) for client in result.clients]
    assert list(result.predictions) == tests
    names = [one.name for one in result.methods]
    assert names[0] == method and (method == "Local" or names[1] == f"{method}+")
    for one in result.methods:
        parts = [8] if one.name == rows.AS_RELEASED else [8, 2]
        assert [len(part) for part in one.accuracy] == parts
        assert all(0 <= value <= 1 for part in one.accuracy for value in part)


def test_over_the_seeds_every_client_is_unseen_once(toy: FederatedDataset) -> None:
    config = replace(CONFIG, method="Local", rounds=1)
    results = [benchmark(config, seed) for seed in range(5)]
    unseen = [client for result in results for client in result.clients[result.seen :]]
    assert sorted(unseen) == sorted(toy.client_ids)


def by_hand(data: FederatedDataset, every: int = 10) -> tuple[Any, Any, Any]:
    """FedAvg as the protocol has it: 4 rounds at the rate, 2 at a tenth, 2 at a hundredth."""
    seen, unseen = data.fold(1, 5)

    def client(rate: float) -> Any:
        return SGD(rate, momentum=0.9, weight_decay=5e-4)

    def stage(rate: float, rounds: int) -> Stage:
        algorithm = fedavg(1, client=client(rate), server=SGD(1.0), batch_size=4, keeps_momentum=True)
        return Stage(algorithm, rounds, clients_per_round=8)

    stages = [stage(0.5, 4), stage(0.05, 2), stage(0.005, 2)]
    evaluation = Evaluation(seen, every, 1, client(0.5), keeps_momentum=True)
    run = train(logistic(data), seen, stages, seed=1, evaluation=evaluation, progress=False)
    last = client(0.005)
    tables = [
        personalize(logistic(data), run.params, group, epochs=1, client=last, batch_size=4, seed=1)
        for group in (seen, unseen)
    ]
    return run, tables, (seen, unseen)


def test_fedavg_keeps_momentum_decays_and_is_personalized_at_the_decayed_rate(toy: FederatedDataset) -> None:
    result = benchmark(CONFIG, 1)
    run, tables, groups = by_hand(toy)
    for i, (table, group) in enumerate(zip(tables, groups, strict=True)):
        for epoch, name in enumerate(("FedAvg", "FedAvg+")):
            expected = table.accuracies().loc[list(group.client_ids), epoch].to_numpy()
            assert accuracy(result, name)[i] == pytest.approx(expected, abs=1e-5)
    released = run.table.accuracies().loc[list(groups[0].client_ids), 1].to_numpy()
    assert accuracy(result, rows.AS_RELEASED)[0] == pytest.approx(released, abs=1e-5)
    # At a hundredth of the rate hardly anything moves; at the whole rate it does.
    assert accuracy(result, rows.AS_RELEASED)[0] != accuracy(result, "FedAvg+")[0]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "Local"])
def test_unseen_clients_have_no_part_in_training(
    toy: FederatedDataset, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    config = replace(CONFIG, method=method)
    before = benchmark(config, 1)
    y = toy.y.copy()
    for client in before.clients[before.seen :]:
        i = toy.position(client)
        y[toy.starts[i] : toy.starts[i] + toy.counts[i]] ^= 1
    monkeypatch.setattr(rows, "load_dataset", lambda name: replace(toy, y=y))
    after = benchmark(config, 1)
    assert accuracy(after, method)[0] == accuracy(before, method)[0]
    assert accuracy(after, method)[1] != accuracy(before, method)[1]


def test_examples_are_divided_where_the_data_set_has_no_clients(toy: FederatedDataset) -> None:
    config = replace(CONFIG, setting=Setting("toy", "tiny", 1, 50, 4), partition="labels")
    data = clients_of_row(config)
    assert 2 <= len(data) <= 4 and not set(data.client_ids) & set(toy.client_ids)
    natural = clients_of_row(replace(CONFIG, setting=Setting("toy", "tiny", 1, 50, 4)))
    assert natural.client_ids == toy.client_ids[:4]


def result_of(
    method: str, seen: tuple[float, ...], unseen: tuple[float, ...], predictions: tuple[int, ...]
) -> BenchmarkOutcome:
    return BenchmarkOutcome((), len(seen), predictions, (MethodScore(method, (seen, unseen)),))


def test_the_table_by_hand() -> None:
    results = [
        result_of("FedAvg", (0.5, 1.0), (0.2,), (30, 10, 5)),
        result_of("FedAvg", (0.7, 0.7), (0.8,), (10, 10, 15)),
        result_of("FedProx", (0.4, 0.4), (0.4,), (30, 10, 5)),
    ]
    table = beside_published("cifar10_subset", results)
    # (0.5 · 30 + 1.0 · 10 + 0.7 · 20) / 60, and (0.2 · 5 + 0.8 · 15) / 20; of the seeds 0.625 and 0.7.
    row = table.loc["FedAvg"]
    assert [row.seeds, row.seen, row.unseen] == pytest.approx([2, 65.0, 65.0])
    assert row.spread == pytest.approx(7.5 / np.sqrt(2))
    # Sorted 0.5, 0.7, 0.7, 1.0; place 0.3 is at 0.5 + 0.3 · 0.2.
    assert row.decile == pytest.approx(56.0)
    assert row.low <= row.seen <= row.high
    assert row.published == 78.2
    assert pd.isna(table.loc["FedProx", "published"]) and pd.isna(table.loc["FedProx", "spread"])
    # A method of others is only published, and is not ours.
    assert table.loc["FedEM", "published"] == 84.3 and pd.isna(table.loc["FedEM", "seen"])


def test_every_row_can_be_asked_for() -> None:
    assert tuple(METHODS) == BENCHMARK_METHODS
    for profile in BENCHMARKS.values():
        assert set(profile) - {MOBILENET, WHOLE_TEXT} == set(PUBLISHED_ROWS) <= set(LOADERS)
        for name, methods in profile.items():
            dataset = name.split("-")[0]
            assert tuple(methods) == BENCHMARK_METHODS
            for config in methods.values():
                assert config.setting.dataset == dataset and config.setting.model in rows.BENCHMARK_MODELS
                assert config.partition is None or config.partition in PARTITIONS
    stand_ins = {name for name, row in PUBLISHED_ROWS.items() if "STAND-IN" in row.data}
    assert stand_ins == {"mnist_by_writer", "unipen62"}


def test_what_differs_from_the_published_row_is_said() -> None:
    for name, methods in BENCHMARKS["full"].items():
        said = protocol_differences(methods["FedAvg"])
        assert "published: 200" not in said and "(published: 128)" not in said
        assert ("IN for" in said) == (name in ("mnist_by_writer", "unipen62"))
    said = protocol_differences(BENCHMARKS["laptop"]["cifar10_subset"]["FedAvg"])
    model = "model colour_cnn (published: mobilenet_v2)"
    assert all(part in said for part in (model, "rounds 100 (published: 200)", "12,000 of 60,000"))
