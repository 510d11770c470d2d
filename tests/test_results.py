"""Results as files: computed once, found again, refused if they are something else, compared."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from functools import reduce
from itertools import product
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock
from killed_programs import fail_as
from small_results import RESULTS, TINY, rows, tiny

from fl_meta.command_line.errors import explained
from fl_meta.data.federated import FederatedDataset
from fl_meta.evidence import results
from fl_meta.evidence.agreement import largest_difference
from fl_meta.evidence.json_records import from_json
from fl_meta.evidence.processes import ProcessEndedError, processes
from fl_meta.evidence.recorded_table import recorded_table
from fl_meta.evidence.result_files import ResultError, file_name, read_result, write_result
from fl_meta.evidence.result_types import (
    CrossedResult,
    CrossedTableOneResult,
    DataFingerprint,
    Experiment,
    HeterogeneityResult,
    Result,
)
from fl_meta.evidence.results import compute, load_or_run, recorded
from fl_meta.experiments.crossed_settings import DESIGNS, FEDAVG
from fl_meta.experiments.heterogeneity_settings import RECORDED_HETEROGENEITY
from fl_meta.experiments.outcomes import (
    CrossedTableOneCell,
    CrossedTableOneOutcome,
    HeterogeneityCell,
    TableOneReading,
)
from fl_meta.experiments.settings import Setting
from fl_meta.experiments.table_one_settings import TABLE_ONE_DESIGNS, CrossedTableOne

ALL = [*TABLE_ONE_DESIGNS.values(), *DESIGNS.values(), RECORDED_HETEROGENEITY]


class FakeRun:
    """Takes the place of Table 1: says which seeds were computed, and fails where a test wants it to."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.before: Callable[[int], object] = lambda seed: None

    def __call__(self, config: Experiment, seed: int) -> CrossedTableOneOutcome:
        self.seeds.append(seed)
        self.before(seed)
        reading = TableOneReading(1, 2, ((0.5, 0.25), (0.75, 1.0)))
        cell = CrossedTableOneCell(2, 1, ((1, 0.1, 0.2),), reading, reading)
        return CrossedTableOneOutcome(("a", "b"), (cell,))


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch, tiny_images: FederatedDataset) -> FakeRun:
    run = FakeRun()
    kind = replace(results.EXPERIMENTS["crossed_table_one"], run=run, data=lambda config: tiny_images)
    monkeypatch.setitem(results.EXPERIMENTS, "crossed_table_one", kind)
    return run


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """One seed after the other, in this process."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Computed once --------------------------------------------------------------------------------------------


def test_a_result_says_what_it_is_of(fake_run: FakeRun, tiny_images: FederatedDataset) -> None:
    result = compute(TINY, 3)
    assert isinstance(result, CrossedTableOneResult)
    assert (result.kind, result.seed, result.config, result.format) == ("crossed_table_one", 3, TINY, 1)
    label = "tiny images (synthetic)"
    assert result.data == DataFingerprint("tiny images", label, tiny_images.fingerprint)
    assert result.cells == fake_run(TINY, 3).cells and result.seconds >= 0
    assert result.label == label
    other = tiny(setting=replace(TINY.setting, model="small_cnn"))
    assert replace(result, config=other).label == f"{label}, small_cnn"


def test_what_lies_in_the_folder_is_not_computed_again(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "results"
    first = load_or_run(TINY, [0, 2], folder, executor=executor, progress=False)
    assert fake_run.seeds == [0, 2] and [one.seed for one in first] == [0, 2]
    assert files_in(folder) == {file_name(TINY, seed) for seed in (0, 2)}
    again = load_or_run(TINY, [2, 1, 0], folder, executor=executor, progress=False)
    assert fake_run.seeds == [0, 2, 1], "only what is missing"
    assert [one.seed for one in again] == [2, 1, 0]
    assert (again[2], again[0]) == tuple(first)
    load_or_run(tiny(rounds=2), [0], folder, executor=executor, progress=False)
    assert fake_run.seeds == [0, 2, 1, 0], "another experiment has a file of its own"


def test_what_somebody_else_computes_at_the_moment_is_waited_for(fake_run: FakeRun, tmp_path: Path) -> None:
    begun = Event()

    def slow(_: int) -> None:
        begun.set()
        time.sleep(0.5)

    def ask() -> list[Result]:
        with ThreadPoolExecutor(1) as pool:
            return load_or_run(TINY, [0, 1], tmp_path, executor=pool, progress=False)

    fake_run.before = slow
    with ThreadPoolExecutor(1) as other:
        first = other.submit(ask)
        assert begun.wait(20)
        assert ask() == first.result()
    assert fake_run.seeds == [0, 1]


def test_the_lock_of_a_killed_process_is_removed_and_a_living_ones_is_not_waited_for(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    lock = tmp_path / f".{file_name(TINY, 0).removesuffix('-seed0.json')}.lock"
    lock.write_text("4242")
    load_or_run(TINY, [0], tmp_path, executor=executor, progress=False)
    assert files_in(tmp_path) == {file_name(TINY, 0)}
    # Killed after the last result was written.
    lock.write_text("4242")
    load_or_run(TINY, [0], tmp_path, executor=executor, progress=False)
    assert files_in(tmp_path) == {file_name(TINY, 0)}
    with FileLock(lock):  # somebody computes other seeds
        assert len(load_or_run(TINY, [0], tmp_path, executor=executor, progress=False)) == 1
        assert lock.exists()
    assert fake_run.seeds == [0]


def test_a_seed_that_fails_does_not_stop_the_others(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    def fail(seed: int) -> None:
        if seed == 1:
            raise ValueError("no luck")

    fake_run.before = fail
    with pytest.raises(ValueError, match="no luck"):
        load_or_run(TINY, range(4), tmp_path, executor=executor, progress=False)
    assert files_in(tmp_path) == {file_name(TINY, seed) for seed in (0, 2, 3)}
    fake_run.before = lambda seed: None
    assert len(load_or_run(TINY, range(4), tmp_path, executor=executor, progress=False)) == 4
    assert fake_run.seeds == [0, 1, 2, 3, 1]


def test_an_interrupt_keeps_what_is_done_and_stops_the_rest(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    def interrupt(seed: int) -> None:
        deadline = time.monotonic() + 30
        while seed and not (tmp_path / file_name(TINY, 0)).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if seed == 1:
            raise KeyboardInterrupt
        if seed > 1:
            time.sleep(0.5)  # so that the third is not over before the others are cancelled

    fake_run.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        load_or_run(TINY, range(6), tmp_path, executor=executor, progress=False)
    assert files_in(tmp_path) == {file_name(TINY, 0)}
    executor.shutdown()
    assert len(fake_run.seeds) < 6
    fake_run.before = lambda seed: None
    with ThreadPoolExecutor(1) as pool:
        load_or_run(TINY, range(2), tmp_path, executor=pool, progress=False)
    assert fake_run.seeds.count(0) == 1


def test_progress_is_shown_unless_silenced(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_or_run(TINY, [0], tmp_path, executor=executor, progress=False)
    assert capsys.readouterr() == ("", "")
    load_or_run(TINY, [1], tmp_path, executor=executor)
    printed, bar = capsys.readouterr()
    assert printed == "" and "writers, mlp" in bar and "0/1" in bar


@pytest.mark.parametrize("folder", ["file", "file/x"])
def test_a_folder_that_cannot_be_is_noticed_before_anything_is_computed(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        load_or_run(TINY, [0], tmp_path / folder, executor=executor, progress=False)
    assert fake_run.seeds == []


# Executors ------------------------------------------------------------------------------------------------


def timeless(result: Result) -> Result:
    """What does not depend on how long it took."""
    return replace(result, seconds=0.0)


def test_a_process_gives_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FL_META_CACHE", str(tmp_path / "cache"))
    expected, other = (compute(TINY, seed) for seed in (1, 0))
    (found,) = load_or_run(TINY, [1], tmp_path / "results", progress=False)
    assert timeless(found) == timeless(expected)
    assert isinstance(expected, CrossedTableOneResult) and isinstance(other, CrossedTableOneResult)
    assert expected.clients != other.clients and expected.cells != other.cells


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("unpicklable", RuntimeError, "UnpicklableError: 1 and 2"),
        ("memory", MemoryError, "of 8 TB"),
        ("exit", ProcessEndedError, "with exit status 7"),
        ("killed", ProcessEndedError, "by SIGKILL, probably for lack of memory"),
        ("crash", ProcessEndedError, "by SIGSEGV"),
        ("told", ProcessEndedError, "by SIGTERM"),
    ],
)
def test_how_a_process_ended_is_the_error_of_its_task_alone(
    kind: str, error: type[Exception], message: str
) -> None:
    with processes(2) as pool:
        failing, other = pool.submit(fail_as, kind), pool.submit(time.sleep, 0)
        with pytest.raises(error, match=message) as raised:
            failing.result()
        assert other.result() is None and pool.submit(abs, -3).result() == 3
    if error is not ProcessEndedError:
        assert ", in fail_as" in str(raised.value.__cause__), "it says where it was raised"
        # That is for a log: a message of one line is without it.
        assert isinstance(raised.value, Exception) and "Traceback" not in explained(raised.value)


def test_an_error_in_the_block_ends_the_processes_and_cancels_what_waits() -> None:
    with pytest.raises(ZeroDivisionError), processes(1) as pool:
        running, waiting = pool.submit(time.sleep, 60), pool.submit(time.sleep, 60)
        while not running.running():
            time.sleep(0.01)
        raise ZeroDivisionError
    with pytest.raises(ProcessEndedError):
        running.result(20)
    assert waiting.cancelled()


def test_lack_of_memory_names_the_files_and_keeps_the_others(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    def fail(seed: int) -> None:
        if seed == 1:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
            )
        if seed == 2:
            raise MemoryError

    fake_run.before = fail
    names = (
        f"the processes computing {file_name(TINY, 1)}, {file_name(TINY, 2)} were ended for lack of memory"
    )
    with pytest.raises(ProcessEndedError, match=f"{names}.*; what was finished is in .*--workers 1"):
        load_or_run(TINY, range(4), tmp_path, executor=executor, progress=False)
    assert files_in(tmp_path) == {file_name(TINY, seed) for seed in (0, 3)}


def test_a_file_that_cannot_be_written_stops_the_others(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "write_result", Mock(side_effect=OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        load_or_run(TINY, range(100), tmp_path, executor=executor, progress=False)
    executor.shutdown()
    assert len(fake_run.seeds) < 100
    assert files_in(tmp_path) == set()


@pytest.mark.slow
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
    assert list(map(timeless, found)) == [timeless(compute(TINY, seed)) for seed in (0, 1)]
    assert files_in(folder) == {file_name(TINY, seed) for seed in (0, 1)}


# Files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [(tiny(threshold=0.6), 0), (TINY, 1)])
def test_a_file_of_something_else_is_refused_and_kept(
    fake_run: FakeRun, executor: ThreadPoolExecutor, tmp_path: Path, other: tuple[CrossedTableOne, int]
) -> None:
    path = tmp_path / file_name(TINY, 0)
    write_result(compute(*other), path)
    before = path.read_bytes()
    fake_run.seeds.clear()
    with pytest.raises(ResultError, match=r"-seed0\.json is of another experiment; delete it"):
        load_or_run(TINY, [0, 1], tmp_path, executor=executor, progress=False)
    assert fake_run.seeds == [] and path.read_bytes() == before


@pytest.fixture
def good(fake_run: FakeRun) -> CrossedTableOneResult:
    result = compute(TINY, 0)
    assert isinstance(result, CrossedTableOneResult)
    return result


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"{}", b"NaN", b'"text"', b"\xff\xfe"])
def test_what_is_not_a_result_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with pytest.raises(ResultError, match=r"one\.json is not a result file: .*; delete it to compute"):
        read_result(path)


READING_JSON = {"rounds": 1, "local_gradients": 2, "accuracy": [[0.5], [0.7]]}
CELL_JSON: dict[str, Any] = {
    "clients_per_round": 2,
    "local_epochs": 1,
    "curve": [[0, 0.1, 0.2]],
    "equal_rounds": READING_JSON,
    "equal_work": READING_JSON,
}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("config", None, "config must be an object with the fields table, work, got None"),
        ("config", [], "config must be an object"),
        ("config", {}, "config must be an object .*is missing"),
        ("config.table.setting", {}, "config.table.setting must be .*dataset is missing"),
        ("config.table.setting.most", "9", "config.table.setting.most must be an "),
        ("config.table.setting.num_clients", 1.5, "setting.num_clients must be an integer or null, got 1.5"),
        ("config.rate", 1, "config must be .*rate is unknown"),
        ("config.table.rounds", 1.0, "config.table.rounds must be an integer, got 1.0"),
        ("config.table.threshold", True, "config.table.threshold must be a number, got True"),
        ("config.table.local_epochs", 3, "config.table.local_epochs must be a list, got 3"),
        ("kind", "heterogeneity", "must be an object with the fields"),
        ("kind", "table_two", "kind must be one of .*crossed_table_one.*, got 'table_two'"),
        ("kind", ["crossed_table_one"], "kind must be one of"),
        ("seed", None, "seed must be an integer, got None"),
        ("data.sha256", 3, "data.sha256 must be a string, got 3"),
        ("clients", ["a", 2], r"clients\[1\] must be a string, got 2"),
        ("cells", [CELL_JSON, CELL_JSON | {"curve": [[0, 0.1]]}], r"cells\[1\].curve\[0\] must be a list"),
        (
            "cells",
            [CELL_JSON | {"equal_work": READING_JSON | {"accuracy": [[None]]}}],
            r"\.accuracy\[0\]\[0\] must be a number, got None",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    good: CrossedTableOneResult, place: str, value: Any, message: str, tmp_path: Path
) -> None:
    path, content = tmp_path / "one.json", asdict(good)
    *outer, name = place.split(".")
    reduce(dict.__getitem__, outer, content)[name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=rf"one\.json is not a result file: .*{message}.*; delete it"):
        read_result(path)


@pytest.mark.parametrize("field", [field.name for field in fields(CrossedTableOneResult)])
def test_a_result_without_a_field_is_refused(good: CrossedTableOneResult, field: str, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    write_result(good, path)
    assert read_result(path) == good
    path.write_text(json.dumps({name: value for name, value in asdict(good).items() if name != field}))
    with pytest.raises(ResultError, match=f"is not a result file: .*{field}"):
        read_result(path)


def test_a_missing_file_and_one_of_another_format_are_refused(good: Result, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file"):
        read_result(tmp_path / "one.json")
    write_result(replace(good, format=99), tmp_path / "one.json")
    with pytest.raises(ResultError, match="has format 99; this version reads format 1"):
        read_result(tmp_path / "one.json")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_every_recorded_file_is_written_again_as_it_is(path: Path, tmp_path: Path) -> None:
    result = read_result(path)
    write_result(result, tmp_path / path.name)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert file_name(result.config, result.seed) == path.name
    assert hash(result.config), "lists are tuples again"


def test_a_truncated_file_is_refused_wherever_it_ends(good: Result, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    write_result(good, path)
    whole = path.read_bytes().rstrip()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ResultError, match="is not a result file"):
            read_result(path)


def test_what_cannot_be_written_leaves_the_old_file(
    good: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.json"
    write_result(good, path)
    with pytest.raises(ValueError, match="JSON"):
        write_result(replace(good, seconds=float("nan")), path)

    def half(self: Path, text: str, **options: Any) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="the disk is full"):
        write_result(replace(good, seed=1), path)
    assert read_result(path) == good and files_in(tmp_path) == {"one.json"}


# Configs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ALL, ids=lambda config: file_name(config, 0))
def test_a_config_comes_back_from_its_json(config: Experiment) -> None:
    back = from_json(type(config), json.loads(json.dumps(asdict(config))))
    assert back == config and hash(back) == hash(config), "lists are tuples again"


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, tuple):
        return (changed(value[0]), *value[1:])
    if isinstance(value, str):
        return f"{value}_"
    return 7 if value is None else value + 1


@pytest.mark.parametrize(
    "config", [RECORDED_HETEROGENEITY, DESIGNS["unipen62-stable"]], ids=lambda one: type(one).__name__
)
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
    name = file_name(TABLE_ONE_DESIGNS["unipen62"], 3)
    assert name.startswith("crossed_table_one-unipen62-mlp-") and name.endswith("-seed3.json")


# Recorded -------------------------------------------------------------------------------------------------


def test_recorded_results_are_those_of_all_folds_or_none(fake_run: FakeRun, tmp_path: Path) -> None:
    config = tiny(folds=3)
    for seed in (2, 0):
        write_result(compute(config, seed), tmp_path / file_name(config, seed))
    assert recorded(config, tmp_path) == []
    write_result(compute(config, 1), tmp_path / file_name(config, 1))
    assert [one.seed for one in recorded(config, tmp_path)] == [0, 1, 2]
    assert recorded(TINY, tmp_path) == recorded(TINY, tmp_path / "elsewhere") == []
    (tmp_path / file_name(config, 1)).write_text("{")
    with pytest.raises(ResultError, match="is not a result file"):
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


def with_accuracies(good: CrossedTableOneResult, kind: str, accuracies: list[Any]) -> Result:
    if kind == "heterogeneity":
        header = vars(good) | {"kind": kind, "config": RECORDED_HETEROGENEITY}
        cells = tuple(HeterogeneityCell(1, 1, 9, rows(accuracy)) for accuracy in accuracies)
        return HeterogeneityResult(**header | {"cells": cells})
    readings = [TableOneReading(1, 1, rows(accuracy)) for accuracy in accuracies]
    return replace(good, cells=tuple(CrossedTableOneCell(2, 1, (), one, one) for one in readings))


@pytest.mark.parametrize("kind", ["crossed_table_one", "heterogeneity"])
def test_the_largest_difference_is_of_means_over_clients(good: CrossedTableOneResult, kind: str) -> None:
    one = with_accuracies(good, kind, [((0.5, 0.7), (0.8, 0.8)), ((0.1, 0.1), (0.2, 0.2))])
    assert largest_difference(one, one) == 0
    # Clients differ by 0.2 and more, their means by 0.05, 0.1 and 0.
    other = with_accuracies(good, kind, [((0.7, 0.6), (0.6, 0.8)), ((0.0, 0.2), (0.2, 0.2))])
    assert largest_difference(one, other) == pytest.approx(0.1)
    assert largest_difference(other, one) == pytest.approx(0.1)
    # Wherever it is.
    for place in product(range(2), range(2)):
        accuracies = np.full((2, 2, 2), 0.5)
        first = with_accuracies(good, kind, list(accuracies))
        accuracies[place] -= 0.1
        assert largest_difference(first, with_accuracies(good, kind, list(accuracies))) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "another"),
        ("config", tiny(rounds=9)),
        ("seed", 9),
        ("data", DataFingerprint("tiny images", "", "")),
    ],
)
def test_results_of_different_things_are_not_compared(good: Result, field: str, value: Any) -> None:
    with pytest.raises(ResultError, match=f"the results differ in {field}"):
        largest_difference(good, replace(good, **{field: value}))


# One table of everything ----------------------------------------------------------------------------------


def test_the_table_of_everything_recorded_has_a_row_for_each_model_cell_and_method(tmp_path: Path) -> None:
    table = recorded_table(RESULTS)
    # A tuning is of validation clients.
    files = [path for path in RESULTS.glob("*.json") if not path.name.startswith("tuning-")]
    assert set(table.file) == {path.name for path in files}
    assert not table.duplicated(["file", "entry"]).any()
    for kind, entries in (("crossed_table_one", 16), ("heterogeneity", 48)):
        assert set(table[table.kind == kind].groupby("file").size()) == {entries}
    path = next(RESULTS.glob("crossed-*-seed2.json"))
    result = read_result(path)
    assert isinstance(result, CrossedResult)
    row = table[(table.file == path.name) & (table.entry == FEDAVG)].iloc[0]
    accuracy = next(arm for arm in result.arms if arm.name == FEDAVG).accuracy
    assert (row.initial, row.personalized) == pytest.approx((np.mean(accuracy[0]), np.mean(accuracy[-1])))
    assert (row.seed, row.clients, row.model) == (2, len(result.clients), result.config.setting.model)
    # Of a benchmark each method has one number: the global model's, or the adapted one's.
    methods = table[table.kind == "benchmark"].set_index("entry")
    assert methods.loc["FedAvg"].personalized.isna().all() and methods.loc["FedAvg"].initial.notna().all()
    for adapted in ("FedAvg+", "Local", "FedAvg+, as released"):
        assert (
            methods.loc[[adapted]].initial.isna().all() and methods.loc[[adapted]].personalized.notna().all()
        )
    assert recorded_table(tmp_path).empty and list(recorded_table(tmp_path)) == list(table)
    with pytest.raises(FileNotFoundError, match="nowhere; give a folder of result files"):
        recorded_table(tmp_path / "nowhere")


def test_recorded_experiments_are_known_without_torch() -> None:
    code = (
        "import sys; from fl_meta.experiments import RECORDED_EXPERIMENTS as known; assert len(known) == 17\n"
        "assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
