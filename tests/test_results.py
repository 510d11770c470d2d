"""Results as files: computed once, found again, refused if they are something else, compared."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.data.federated import FederatedDataset
from fl_meta.evidence import results
from fl_meta.evidence.results import (
    Experiment,
    Result,
    ResultError,
    compute,
    config_of,
    file_name,
    kind_of,
    largest_difference,
    load_or_run,
    read_result,
    recorded,
    write_result,
)
from fl_meta.experiments.comparison_settings import COMPARISON, RECORDED_COMPARISON
from fl_meta.experiments.heterogeneity import RECORDED_HETEROGENEITY
from fl_meta.experiments.settings import Setting
from fl_meta.experiments.table_one import RECORDED_TABLE_ONE, TABLE_ONE, TableOne

# Of the smallest size that can be computed for real.
TINY = TableOne(
    Setting("writers", "mlp", least=20, most=20, num_clients=4),
    folds=2,
    clients_per_round=(2,),
    local_epochs=(1,),
    client_rate=0.1,
    rounds=1,
    every=1,
    personalization_epochs=1,
    threshold=0.5,
)
SMALL_COMPARISON = COMPARISON["smoke"]["writers"]
ALL = [
    *[config for table in TABLE_ONE.values() for config in table.values()],
    *[config for table in COMPARISON.values() for config in table.values()],
    *RECORDED_TABLE_ONE.values(),
    *RECORDED_COMPARISON.values(),
    RECORDED_HETEROGENEITY,
]


class Study:
    """Takes the place of a study: says which seeds were computed, and fails where a test wants it to."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.before: Callable[[int], object] = lambda seed: None

    def __call__(self, config: Experiment, seed: int) -> Result:
        self.seeds.append(seed)
        self.before(seed)
        cell = {"accuracy": [[0.5, 0.25], [0.75, 1.0]], "curve": [[0, 0.1, 0.2]]}
        return {"clients": ["a", "b"], "cells": [cell]}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tiny_images: FederatedDataset) -> Study:
    one = Study()
    kind = replace(results.STUDIES["table_one"], run=one, data=lambda config: tiny_images)
    monkeypatch.setitem(results.STUDIES, "table_one", kind)
    return one


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """One seed after the other, in this process."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Computed once --------------------------------------------------------------------------------------------


def test_a_result_says_what_it_is_of(study: Study, tiny_images: FederatedDataset) -> None:
    result = compute(TINY, 3)
    assert (result["kind"], result["seed"], config_of(result)) == ("table_one", 3, TINY)
    label = {"name": "tiny images", "label": "tiny images (synthetic)"}
    assert result["data"] == label | {"sha256": tiny_images.fingerprint}
    assert result["cells"] == study(TINY, 3)["cells"] and result["seconds"] >= 0
    assert {"format", "fl_meta", "torch", "machine", "clients"} <= set(result)
    assert json.loads(json.dumps(result)) == result


def test_what_lies_in_the_folder_is_not_computed_again(
    study: Study, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "results"
    first = load_or_run(TINY, [0, 2], folder, executor=executor, progress=False)
    assert study.seeds == [0, 2] and [one["seed"] for one in first] == [0, 2]
    assert files_in(folder) == {file_name(TINY, seed) for seed in (0, 2)}
    again = load_or_run(TINY, [2, 1, 0], folder, executor=executor, progress=False)
    assert study.seeds == [0, 2, 1], "only what is missing"
    assert [one["seed"] for one in again] == [2, 1, 0]
    assert (again[2], again[0]) == tuple(first)
    load_or_run(replace(TINY, rounds=2), [0], folder, executor=executor, progress=False)
    assert study.seeds == [0, 2, 1, 0], "another experiment has a file of its own"


def test_what_somebody_else_computes_at_the_moment_is_waited_for(study: Study, tmp_path: Path) -> None:
    begun = Event()

    def slow(_: int) -> None:
        begun.set()
        time.sleep(0.5)

    def ask() -> list[Result]:
        with ThreadPoolExecutor(1) as pool:
            return load_or_run(TINY, [0, 1], tmp_path, executor=pool, progress=False)

    study.before = slow
    with ThreadPoolExecutor(1) as other:
        first = other.submit(ask)
        assert begun.wait(20)
        assert ask() == first.result()
    assert study.seeds == [0, 1]


def test_a_seed_that_fails_does_not_stop_the_others(
    study: Study, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    def fail(seed: int) -> None:
        if seed == 1:
            raise ValueError("no luck")

    study.before = fail
    with pytest.raises(ValueError, match="no luck"):
        load_or_run(TINY, range(4), tmp_path, executor=executor, progress=False)
    assert files_in(tmp_path) == {file_name(TINY, seed) for seed in (0, 2, 3)}
    study.before = lambda seed: None
    assert len(load_or_run(TINY, range(4), tmp_path, executor=executor, progress=False)) == 4
    assert study.seeds == [0, 1, 2, 3, 1]


def test_an_interrupt_keeps_what_is_done_and_stops_the_rest(
    study: Study, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    def interrupt(seed: int) -> None:
        deadline = time.monotonic() + 30
        while seed and not (tmp_path / file_name(TINY, 0)).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if seed == 1:
            raise KeyboardInterrupt
        if seed > 1:
            time.sleep(0.5)  # so that the third is not over before the others are cancelled

    study.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        load_or_run(TINY, range(6), tmp_path, executor=executor, progress=False)
    assert files_in(tmp_path) == {file_name(TINY, 0)}
    executor.shutdown()
    assert len(study.seeds) < 6
    study.before = lambda seed: None
    with ThreadPoolExecutor(1) as pool:
        load_or_run(TINY, range(2), tmp_path, executor=pool, progress=False)
    assert study.seeds.count(0) == 1


def test_progress_is_shown_unless_silenced(
    study: Study, executor: ThreadPoolExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_or_run(TINY, [0], tmp_path, executor=executor, progress=False)
    assert capsys.readouterr() == ("", "")
    load_or_run(TINY, [1], tmp_path, executor=executor)
    printed, bar = capsys.readouterr()
    assert printed == "" and "writers, mlp" in bar and "0/1" in bar


def test_a_folder_that_cannot_be_is_noticed_before_anything_is_computed(
    study: Study, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        load_or_run(TINY, [0], tmp_path / "file" / "x", executor=executor, progress=False)
    with pytest.raises(OSError):
        load_or_run(TINY, [0], tmp_path / "file", executor=executor, progress=False)
    assert study.seeds == []


# Executors ------------------------------------------------------------------------------------------------


def study_of(result: Result) -> Result:
    """What does not depend on how long it took."""
    return {name: value for name, value in result.items() if name != "seconds"}


def test_a_process_gives_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FL_META_CACHE", str(tmp_path / "cache"))
    expected, other = (compute(TINY, seed) for seed in (1, 0))
    (found,) = load_or_run(TINY, [1], tmp_path / "results", progress=False)
    assert study_of(found) == study_of(expected)
    assert expected["clients"] != other["clients"] and expected["cells"] != other["cells"]


@pytest.mark.filterwarnings("ignore")  # whatever the cluster's own packages warn of
def test_a_dask_cluster_gives_the_same_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("FL_META_CACHE", str(tmp_path / "cache"))
    options: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with (
        distributed.LocalCluster(dashboard_address=None, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        folder = tmp_path / "results"
        found = load_or_run(TINY, [0, 1], folder, executor=client.get_executor(), progress=False)
    assert list(map(study_of, found)) == [study_of(compute(TINY, seed)) for seed in (0, 1)]
    assert files_in(folder) == {file_name(TINY, seed) for seed in (0, 1)}


# Files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [(replace(TINY, threshold=0.6), 0), (TINY, 1)])
def test_a_file_of_something_else_is_refused_and_kept(
    study: Study, executor: ThreadPoolExecutor, tmp_path: Path, other: tuple[TableOne, int]
) -> None:
    path = tmp_path / file_name(TINY, 0)
    write_result(compute(*other), path)
    before = path.read_bytes()
    study.seeds.clear()
    with pytest.raises(ResultError, match=r"-seed0\.json is of another experiment; delete it"):
        load_or_run(TINY, [0, 1], tmp_path, executor=executor, progress=False)
    assert study.seeds == [] and path.read_bytes() == before


@pytest.fixture
def good(study: Study) -> Result:
    return compute(TINY, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"{}", b'"text"', b"\xff\xfe"])
def test_what_is_no_result_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with pytest.raises(ResultError, match=r"one\.json is no result .*; delete it to compute it again"):
        read_result(path)


@pytest.mark.parametrize(
    "change",
    [
        {"config": None},
        {"config": []},
        {"config": {}},
        {"config": asdict(TINY) | {"setting": None}},
        {"config": asdict(TINY) | {"setting": {}}},
        {"config": asdict(TINY) | {"rate": 1}},
        {"config": {k: v for k, v in asdict(TINY).items() if k != "rounds"}},
        {"kind": "comparison"},
        {"kind": "table_two"},
        {"kind": ["table_one"]},
        # Grids of different sizes.
        {"kind": "comparison", "config": asdict(SMALL_COMPARISON) | {"adam_rates": [0.1, 0.2]}},
    ],
)
def test_a_result_that_contradicts_itself_is_refused(
    good: Result, change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(good | change))
    with pytest.raises(ResultError, match=r"one\.json is no result"):
        read_result(path)


@pytest.mark.parametrize("field", ["format", "kind", "config", "seed", "data", "clients", "cells"])
def test_a_result_without_a_field_is_refused(good: Result, field: str, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    write_result(good, path)
    assert read_result(path) == good
    del good[field]
    path.write_text(json.dumps(good))
    with pytest.raises(ResultError, match=f"is no result .*{field}"):
        read_result(path)


def test_a_result_of_another_format_is_refused(good: Result, tmp_path: Path) -> None:
    write_result(good | {"format": 99}, tmp_path / "one.json")
    with pytest.raises(ResultError, match="has format 99; this version reads 1"):
        read_result(tmp_path / "one.json")


def test_a_truncated_file_is_refused_wherever_it_ends(good: Result, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    write_result(good, path)
    whole = path.read_bytes().rstrip()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ResultError, match="is no result"):
            read_result(path)


def test_a_missing_file_is_an_error_of_results(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file"):
        read_result(tmp_path / "one.json")


def test_what_cannot_be_written_leaves_the_old_file(
    good: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.json"
    write_result(good, path)
    with pytest.raises(ValueError, match="JSON"):
        write_result(good | {"seconds": float("nan")}, path)

    def half(self: Path, text: str, **options: Any) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="the disk is full"):
        write_result(good | {"seed": 1}, path)
    assert read_result(path) == good and files_in(tmp_path) == {"one.json"}


# Configs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ALL, ids=lambda config: file_name(config, 0))
def test_a_config_comes_back_from_its_json(config: Experiment) -> None:
    back = config_of(json.loads(json.dumps({"kind": kind_of(config), "config": asdict(config)})))
    assert back == config and type(back) is type(config)
    assert hash(back) == hash(config), "lists are tuples again"


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, tuple):
        return (changed(value[0]), *value[1:])
    if isinstance(value, str):
        return f"{value}_"
    return 7 if value is None else value + 1


@pytest.mark.parametrize("config", [TINY, SMALL_COMPARISON], ids=["table_one", "comparison"])
def test_every_field_changes_the_name_of_the_file(config: Experiment) -> None:
    others = [replace(config, **{f.name: changed(getattr(config, f.name))}) for f in fields(config)[1:]]
    for field in fields(Setting):
        setting = replace(config.setting, **{field.name: changed(getattr(config.setting, field.name))})
        others.append(replace(config, setting=setting))
    assert len(others) > 10
    names = [file_name(one, 0) for one in (config, *others)] + [file_name(config, 1)]
    assert len(set(names)) == len(names)
    # Only where they begin names say what they are of; the digits alone tell them apart as well.
    assert len({name.split("-")[-2] for name in names}) == len(others) + 1


def test_all_experiments_have_names_of_their_own() -> None:
    assert len({file_name(config, 0) for config in ALL}) == len(set(ALL))
    name = file_name(RECORDED_TABLE_ONE["unipen62"], 3)
    assert name.startswith("table_one-unipen62-mlp-") and name.endswith("-seed3.json")


def test_grids_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"grids of different sizes: .*every method has the same budget"):
        replace(SMALL_COMPARISON, adam_rates=(1e-3, 1e-2))


# Recorded -------------------------------------------------------------------------------------------------


def test_recorded_results_are_those_of_all_folds_or_none(study: Study, tmp_path: Path) -> None:
    config = replace(TINY, folds=3)
    for seed in (2, 0):
        write_result(compute(config, seed), tmp_path / file_name(config, seed))
    assert recorded(config, tmp_path) == []
    write_result(compute(config, 1), tmp_path / file_name(config, 1))
    assert [one["seed"] for one in recorded(config, tmp_path)] == [0, 1, 2]
    assert recorded(TINY, tmp_path) == recorded(TINY, tmp_path / "elsewhere") == []
    (tmp_path / file_name(config, 1)).write_text("{")
    with pytest.raises(ResultError, match="is no result"):
        recorded(config, tmp_path)


def test_ones_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FL_META_EXPERIMENTS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert results.own_folder() == tmp_path / ".cache" / "fl_meta" / "experiments"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert results.own_folder() == Path("/cache/fl_meta/experiments")
    monkeypatch.setenv("FL_META_EXPERIMENTS", "/own")
    assert results.own_folder() == Path("/own")


# Agreement ------------------------------------------------------------------------------------------------


def with_accuracies(good: Result, kind: str, parts: list[list[list[float]]]) -> Result:
    names = {"table_one": "cells", "comparison": "models"}
    return good | {"kind": kind, names[kind]: [{"accuracy": part} for part in parts]}


@pytest.mark.parametrize("kind", ["table_one", "comparison"])
def test_the_largest_difference_is_of_means_over_clients(good: Result, kind: str) -> None:
    one = with_accuracies(good, kind, [[[0.5, 0.7], [0.8, 0.8]], [[0.1, 0.1], [0.2, 0.2]]])
    assert largest_difference(one, one) == 0
    # Clients differ by 0.2 and more, their means by 0.05, 0.1 and 0.
    other = with_accuracies(good, kind, [[[0.7, 0.6], [0.6, 0.8]], [[0.0, 0.2], [0.2, 0.2]]])
    assert largest_difference(one, other) == pytest.approx(0.1)
    assert largest_difference(other, one) == pytest.approx(0.1)


@given(st.integers(0, 2), st.integers(0, 1), st.floats(0.001, 0.2))
def test_a_difference_anywhere_is_noticed(part: int, epoch: int, size: float) -> None:
    common: Result = {"config": {}, "seed": 0, "data": {}}
    one = with_accuracies(common, "table_one", [[[0.5, 0.7], [0.8, 0.8]] for _ in range(3)])
    other: Result = json.loads(json.dumps(one))
    other["cells"][part]["accuracy"][epoch][1] -= size
    assert largest_difference(one, other) == pytest.approx(size / 2)


@pytest.mark.parametrize("field", ["kind", "config", "seed", "data"])
def test_results_of_different_things_are_not_compared(good: Result, field: str) -> None:
    with pytest.raises(ResultError, match=f"the results differ in {field}"):
        largest_difference(good, good | {field: "another"})
