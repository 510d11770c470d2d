"""Training: stages, history, evaluation, checkpoints and resuming bit for bit; its two end points."""

import inspect
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from tiny_tasks import assert_same_runs, poisoned, quietly
from torch import Tensor, nn

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage, personalized_fedavg
from fl_meta.algorithms.table import fedavg, fomaml, maml, reptile
from fl_meta.data.batches import batch_plan, sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.interface import Collected, Engine, Score
from fl_meta.engines.stacked.engine import StackedEngine
from fl_meta.engines.task import ENGINES
from fl_meta.evaluation.personalization import Evaluation, personalize
from fl_meta.models.images import emnist_cnn, logistic, mlp
from fl_meta.models.model import Model
from fl_meta.models.parameters import relative_error
from fl_meta.support import atomic_files as files
from fl_meta.training import checkpoints, rounds
from fl_meta.training import progress as saved_progress
from fl_meta.training import run as training
from fl_meta.training.baselines import train_centralized, train_local_only
from fl_meta.training.checkpoints import Checkpoint, CheckpointError
from fl_meta.training.rounds import TrainingDivergedError
from fl_meta.training.run import NonFiniteUpdateWarning, Run, train

TWO_STAGES = [
    Stage(fedavg(1, client=SGD(0.2, momentum=0.5), batch_size=6), rounds=3, clients_per_round=2),
    Stage(reptile(2, client=SGD(0.2), server=Adam(0.01), batch_size=6), rounds=3, clients_per_round=2),
]


@pytest.fixture
def split(tiny_images: FederatedDataset) -> tuple[FederatedDataset, FederatedDataset]:
    """Four clients to train on and two held out."""
    ids = tiny_images.client_ids
    return tiny_images.subset(ids[:4]), tiny_images.subset(ids[4:])


# --- rounds, stages and history -------------------------------------------------------------------------


def test_rounds_go_on_through_stages(tiny_images: FederatedDataset) -> None:
    # Rounds are counted over all stages: two stages of a plain server are one long one.
    model = logistic(tiny_images)
    row = fedavg(1, server=SGD(1.0), batch_size=6)
    one, two = (
        quietly(model, tiny_images, stages, seed=2)
        for stages in ([Stage(row, 5, 2)], [Stage(row, 2, 2), Stage(row, 3, 2)])
    )
    assert relative_error(two.params, one.params) == 0
    assert list(two.history.stage) == [0, 0, 0, 1, 1, 1]
    assert list(one.history.stage) == [0] * 6


def test_history(split: tuple[FederatedDataset, FederatedDataset]) -> None:
    data, held_out = split
    model = logistic(data)
    evaluation = Evaluation(held_out, every=4, personalization_epochs=2)
    run = quietly(model, data, TWO_STAGES, seed=1, evaluation=evaluation)
    history = run.history
    assert list(history.index) == [0, 1, 2, 3, 4, 5, 6]
    assert history.index.name == "round" and "Run of 6 rounds" in repr(run)
    assert list(history.algorithm) == ["none"] + ["FedAvg(E=1)"] * 3 + ["Reptile(2)"] * 3
    assert list(history.stage) == [0, 0, 0, 0, 1, 1, 1]
    scores = [
        f"held_out_{which}_test_{measure}_by_client"
        for which in ("initial", "personalized")
        for measure in ("accuracy", "loss")
    ]
    info = [
        "clients",
        "clients_left_out",
        "train_loss_before",
        "pseudo_gradient_norm",
        "local_gradients",
        "padding_share",
    ]
    assert set(history.columns) == {"stage", "algorithm", *info, *scores}
    # Before training no round was measured; scores are there before, at round 4 and after the last.
    assert history.loc[0, info].isna().all()
    assert history.loc[1:, info].notna().all(axis=None)
    assert history[scores].notna().all(axis=1).tolist() == [True, False, False, False, True, False, True]
    assert history[scores].isna().all(axis=1).tolist() == [False, True, True, True, False, True, False]
    assert set(history.clients.loc[1:]) == {2}
    assert set(history.local_gradients.loc[4:]) == {4}
    # The scores are what personalize says of the same parameters, with the stage's client optimizer.
    client = TWO_STAGES[1].algorithm.client
    table = personalize(model, run.params, held_out, epochs=2, client=client, batch_size=6, seed=1)
    assert run.table is not None and not run.evaluation_momentum.buffers
    pd.testing.assert_frame_equal(run.table.rows, table.rows)
    for which, epoch in (("initial", 0), ("personalized", 2)):
        rows = table.rows[table.rows.epoch == epoch]
        for measure in ("accuracy", "loss"):
            expected = rows[f"test_{measure}"].mean()
            assert history[f"held_out_{which}_test_{measure}_by_client"][6] == pytest.approx(expected)
    first = personalize(model, model.init(1), held_out, epochs=0).rows.test_accuracy.mean()
    assert history.held_out_initial_test_accuracy_by_client[0] == pytest.approx(first)
    # Without personalization there are no personalized scores, and without an evaluation none at all.
    for evaluation, names in ((Evaluation(held_out, every=1), scores[:2]), (None, [])):
        history = quietly(model, data, TWO_STAGES, evaluation=evaluation).history
        assert set(history.columns) == {"stage", "algorithm", *info, *names}
        assert history[names].notna().all(axis=None)


def test_evaluation_does_not_change_training(split: tuple[FederatedDataset, FederatedDataset]) -> None:
    data, held_out = split
    model = emnist_cnn(data)
    evaluation = Evaluation(held_out, every=1, personalization_epochs=1)
    plain, scored = (quietly(model, data, TWO_STAGES, evaluation=some) for some in (None, evaluation))
    assert relative_error(scored.params, plain.params) == 0


def test_the_order_of_clients_in_the_data_changes_nothing(tiny_images: FederatedDataset) -> None:
    model = logistic(tiny_images)
    backwards = tiny_images.subset(tiny_images.client_ids[::-1])
    runs = [quietly(model, data, TWO_STAGES, seed=3) for data in (tiny_images, backwards)]
    assert_same_runs(*runs)


def test_the_progress_bar_can_be_silenced(
    tiny_images: FederatedDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    model = logistic(tiny_images)
    quietly(model, tiny_images, TWO_STAGES)
    assert capfd.readouterr() == ("", "")
    train(model, tiny_images, TWO_STAGES)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "/6" in shown.err


# --- bad input ------------------------------------------------------------------------------------------


# --- interrupted and resumed ----------------------------------------------------------------------------


class Interrupter:
    """An engine that raises KeyboardInterrupt before one of the parts that it collects, from 1 on."""

    def __init__(self, at: int, engine: Engine = ENGINES["loop"]) -> None:
        self.at, self.engine, self.count = at, engine, 0

    def collect(self, *args: Any) -> Iterator[Collected]:
        for part in self.engine.collect(*args):
            self.count += 1
            if self.count == self.at:
                raise KeyboardInterrupt
            yield part

    def scores(self, *args: Any) -> Iterator[Score]:
        return self.engine.scores(*args)


def test_interrupted_at_every_client_of_every_round(
    split: tuple[FederatedDataset, FederatedDataset], tmp_path: Path
) -> None:
    data, held_out = split
    options = {"seed": 6, "evaluation": Evaluation(held_out, every=2, personalization_epochs=1)}
    one_by_one = StackedEngine(chunk_bytes=1)
    go = partial(quietly, logistic(data), data, TWO_STAGES, **options)
    never_stopped = go(engine=one_by_one)
    # Two clients a round and six rounds: interrupted at client 1, 2, …, 12, and once at all of them.
    for number in range(1, 13):
        path = tmp_path / f"{number}.safetensors"
        checkpoint = Checkpoint(path, every=4)
        told = f"stopped after round {(number - 1) // 2}; the same call resumes from .*{path.name}"
        with pytest.raises(KeyboardInterrupt, match=told):
            go(checkpoint=checkpoint, engine=Interrupter(number, one_by_one))
        # Whole rounds are kept: at the third client that is one.
        rounds_done = (number - 1) // 2
        assert path.exists(), "the start is kept as well"
        if rounds_done:
            assert read_round(path) == rounds_done
        assert_same_runs(go(checkpoint=checkpoint, engine=one_by_one), never_stopped)
        assert read_round(path) == 6
    # A round that is always interrupted at its second client is done at the next start at last.
    path = tmp_path / "often.safetensors"
    for starts in range(1, 6):
        with pytest.raises(KeyboardInterrupt):
            go(checkpoint=Checkpoint(path, every=4), engine=Interrupter(3, one_by_one))
        assert read_round(path) == starts
    last = go(checkpoint=Checkpoint(path, every=4), engine=Interrupter(3, one_by_one))
    assert_same_runs(last, never_stopped)


def read_round(path: Path) -> int:
    # safe_open opens a file twice, and another process may have replaced it in between.
    return int(load(path.read_bytes())["round_number"])


def test_interrupted_in_every_evaluation(
    split: tuple[FederatedDataset, FederatedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, held_out = split
    means = Evaluation.means
    countdown = [0]

    def interrupted(self: Evaluation, *args: Any) -> dict[str, float]:
        countdown[0] -= 1
        if countdown[0] == 0:
            raise KeyboardInterrupt
        return means(self, *args)

    monkeypatch.setattr(Evaluation, "means", interrupted)
    go = partial(quietly, logistic(data), data, TWO_STAGES, evaluation=Evaluation(held_out, every=2))
    never_stopped = go()
    # Before the first round and after rounds 2, 4 and 6.
    for number, rounds_done in ((1, 0), (2, 1), (3, 3), (4, 5)):
        path = tmp_path / f"{number}.safetensors"
        countdown[0] = number
        with pytest.raises(KeyboardInterrupt):
            go(checkpoint=Checkpoint(path))
        assert (read_round(path) if path.exists() else 0) == rounds_done
        assert_same_runs(go(checkpoint=Checkpoint(path)), never_stopped)


# An interrupt on the last line of `with` leaves the file to be closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_interrupted_at_every_line(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    # Ctrl-C comes between any two lines of training, saving and writing, whether or not a save is due.
    model = logistic(tiny_images)
    row = fedavg(1, client=SGD(0.2), server=SGD(1.0, momentum=0.9), batch_size=6)
    stages = [Stage(row, 2, 1)]
    watched = {module.__file__ for module in (training, rounds, checkpoints, saved_progress, files)}

    def go(path: Path) -> Run:
        return quietly(model, tiny_images, stages, checkpoint=Checkpoint(path, every=2))

    def go_until(path: Path, line: int) -> bool:
        """Whether training got to the `line`-th line that it runs, where it is interrupted once."""
        passed = 0

        def trace(frame: Any, event: str, _: object) -> Any:
            nonlocal passed
            if frame.f_code.co_filename not in watched:
                return None
            if event == "line":
                passed += 1
                if passed == line:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            go(path)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    never_stopped = go(tmp_path / "whole")
    line = 0
    kept = set()
    while True:
        line += 1
        path = tmp_path / f"{line}"
        if not go_until(path, line):
            break
        kept.add(read_round(path) if path.exists() else 0)
        assert_same_runs(go(path), never_stopped)
    # Far more places than lines of train: rounds repeat them, and saving has its own.
    assert line > len(inspect.getsourcelines(inspect.unwrap(train))[0])
    assert kept == {0, 1, 2}
    assert not list(tmp_path.glob(".*")), "the next call removes what an interrupted one left"


def test_a_finished_run_is_read_back(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run", every=4)
    go = partial(quietly, logistic(tiny_images), tiny_images, TWO_STAGES, checkpoint=checkpoint)
    done = go()
    assert_same_runs(go(engine=Interrupter(1)), done)


def test_checkpoints_come_every_n_rounds_and_at_the_end(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = checkpoints.write_checkpoint

    def watch(path: Path, tensors: dict[str, Tensor], *rest: Any) -> None:
        written.append(int(tensors["round_number"]))
        write(path, tensors, *rest)

    monkeypatch.setattr(saved_progress, "write_checkpoint", watch)
    model = logistic(tiny_images)
    for every, expected in ((1, [0, 1, 2, 3, 4, 5, 6]), (4, [0, 4, 6]), (3, [0, 3, 6]), (100, [0, 6])):
        written.clear()
        checkpoint = Checkpoint(tmp_path / f"{every}", every=every)
        quietly(model, tiny_images, TWO_STAGES, checkpoint=checkpoint)
        assert written == expected


# --- killed ---------------------------------------------------------------------------------------------

# Imports take seconds, so one process imports and forks a child for each run that it reads from its input.
SERVER = textwrap.dedent(
    """
    import os
    import signal
    import sys
    import time
    import traceback

    import numpy as np
    import torch

    from fl_meta import Checkpoint, FederatedDataset, Stage, Adam, fedavg, models, reptile, SGD, train
    from fl_meta.training import rounds
    from fl_meta.algorithms.optimizers import server_step

    # What a shell starts in the background ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    server_step(Adam(1), {"w": torch.ones(1)}, {}, {"w": torch.ones(1)})  # imports more
    run_round = rounds.run_round
    generator = np.random.default_rng(0)
    data = FederatedDataset.from_arrays(
        generator.random((60, 8, 8), dtype=np.float32),
        generator.integers(4, size=60),
        np.arange(60) % 6,
        num_classes=4,
    )
    stages = [
        Stage(fedavg(1, client=SGD(0.1), batch_size=4), 20, 2),
        Stage(reptile(2, client=SGD(0.1), server=Adam(0.01), batch_size=4), 20, 2),
    ]


    def go(path, every, pause, stop_at):
        def slow_round(task, state, stage):
            time.sleep(pause)
            if state.round_number == stop_at:
                print("waiting", flush=True)
                time.sleep(60)
            return run_round(task, state, stage)

        rounds.run_round = slow_round
        checkpoint = Checkpoint(path, every)
        train(models.emnist_cnn(data), data, stages, seed=4, progress=False, checkpoint=checkpoint)


    for line in sys.stdin:
        every, pause, stop_at, path = line.rstrip().split(" ", 3)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                go(path, int(every), float(pause), int(stop_at))
                status = 0
            except KeyboardInterrupt:
                status = 130
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")
@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path) -> None:
    path, whole = tmp_path / "killed", tmp_path / "whole"
    generator = np.random.default_rng()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:

        def start(path: Path, every: int, pause: float = 0.0, stop_at: int = -1) -> int:
            server.stdin.write(f"{every} {pause} {stop_at} {path}\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        start(whole, every=1000)
        assert server.stdout.readline() == "0\n"
        # SIGKILL at any moment leaves no time to save: what counts is the file of the last save.
        for number in (1, 5, 9, 13, 17):
            child = start(path, every=1, pause=0.02)
            give_up = time.monotonic() + 60
            while not (path.exists() and read_round(path) >= number):
                assert time.monotonic() < give_up
                time.sleep(0.002)
            time.sleep(generator.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            assert server.stdout.readline() == f"{-signal.SIGKILL}\n"
            assert number <= read_round(path) < 40
        # SIGINT leaves the time; no save was due here.
        child = start(path, every=1000, stop_at=38)
        assert server.stdout.readline() == "waiting\n"
        os.kill(child, signal.SIGINT)
        assert server.stdout.readline() == "130\n"
        assert read_round(path) == 38
        start(path, every=1000)
        assert server.stdout.readline() == "0\n"
        server.stdin.close()
    # Parameters, server state, history, configuration and checksum; the order in the file is left open.
    contents = []
    for file in (path, whole):
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name).numpy().tobytes() for name in sorted(opened.keys())}
            contents.append((opened.metadata(), tensors))
    assert contents[0] == contents[1]
    assert read_round(path) == 40
    assert set(tmp_path.iterdir()) == {path, whole}, "what a kill left during a save is gone"


# --- another configuration or a damaged file ------------------------------------------------------------


def changed_stage(**changes: Any) -> list[Stage]:
    return [replace(TWO_STAGES[0], algorithm=replace(TWO_STAGES[0].algorithm, **changes)), TWO_STAGES[1]]


def test_another_configuration_is_refused(
    split: tuple[FederatedDataset, FederatedDataset], tmp_path: Path
) -> None:
    data, held_out = split
    path, model = tmp_path / "run", logistic(data)
    one_more = Model("logistic", lambda: nn.Sequential(*model.build(), nn.Identity()))
    usual: dict[str, Any] = {
        "model": model,
        "data": data,
        "stages": TWO_STAGES,
        "params": model.init(0),
        "evaluation": Evaluation(held_out, 2),
    }

    def go(**options: Any) -> None:
        quietly(**usual | options, checkpoint=Checkpoint(path))

    go()
    before = path.read_bytes()
    stage = "stages[0].algorithm"
    for options, field, was, now in [
        ({"seed": 1}, "seed", 0, 1),
        ({"stages": changed_stage(client=SGD(0.3, momentum=0.5))}, f"{stage}.client.learning_rate", 0.2, 0.3),
        ({"stages": changed_stage(client=SGD(0.2))}, f"{stage}.client.momentum", 0.5, 0.0),
        ({"stages": changed_stage(server=Adam(1.0))}, f"{stage}.server.beta1", None, 0.9),
        ({"stages": changed_stage(batch_size=None)}, f"{stage}.batch_size", 6, None),
        ({"stages": changed_stage(weights="equal")}, f"{stage}.weights", "examples", "equal"),
        ({"stages": TWO_STAGES[:1]}, "stages[1].rounds", 3, None),
        ({"stages": [TWO_STAGES[0], replace(TWO_STAGES[1], rounds=4)]}, "stages[1].rounds", 3, 4),
        (
            {"stages": [TWO_STAGES[0], replace(TWO_STAGES[1], clients_per_round=3)]},
            "stages[1].clients_per_round",
            *(2, 3),
        ),
        ({"model": mlp(data), "params": mlp(data).init(0)}, "model", "logistic", "mlp"),
        ({"model": one_more}, "architecture", ..., ...),
        ({"params": model.init(5)}, "initial parameters", ..., ...),
        ({"data": data.subset(data.client_ids[:3])}, "data", ..., ...),
        ({"data": replace(data, y=3 - data.y)}, "data", ..., ...),
        ({"evaluation": Evaluation(held_out, 3)}, "evaluation.every", 2, 3),
        ({"evaluation": Evaluation(held_out, 2, 1)}, "evaluation.personalization_epochs", 0, 1),
        ({"evaluation": Evaluation(held_out.subset(["client_4"]), 2)}, "evaluation.held_out", ..., ...),
        ({"evaluation": None}, "evaluation.every", 2, None),
    ]:
        told = f"{field} is " + ("" if was is ... else f"{was!r} in the checkpoint and {now!r} in this run")
        with pytest.raises(CheckpointError, match=re.escape(told)):
            go(**options)
        assert path.read_bytes() == before
    go()


@pytest.mark.parametrize("share", [0.5, 0])
def test_a_damaged_checkpoint_is_refused_and_kept(
    tiny_images: FederatedDataset, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "run"
    go = partial(quietly, logistic(tiny_images), tiny_images, TWO_STAGES, checkpoint=Checkpoint(path))
    go()
    whole = path.read_bytes()
    damaged = whole[: int(share * len(whole))]
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="delete it to start again"):
        go()
    assert path.read_bytes() == damaged


# --- updates that are not finite ------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "tolerance"), [("loop", 0), ("stacked", 1e-6)])
def test_a_poisoned_client_is_left_out_counted_and_warned_of_once(
    tiny_images: FederatedDataset, tmp_path: Path, engine: str, tolerance: float
) -> None:
    model = logistic(tiny_images)
    data = poisoned(tiny_images, ["client_3"])
    stages = [Stage(fedavg(1), 4, 6)]
    with pytest.warns(NonFiniteUpdateWarning, match="round 1: 1 of 6 client updates have NaN") as caught:
        run = quietly(model, data, stages, checkpoint=Checkpoint(tmp_path / "run"), engine=engine)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert list(run.history.clients_left_out.loc[1:]) == [1, 1, 1, 1]
    assert list(run.history.clients.loc[1:]) == [6, 6, 6, 6]
    without = tiny_images.subset([c for c in tiny_images.client_ids if c != "client_3"])
    expected = quietly(model, without, [Stage(fedavg(1), 4, 5)], engine=engine)
    assert relative_error(run.params, expected.params) <= tolerance


def test_once_means_once_over_resumed_runs(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    data, checkpoint = poisoned(tiny_images, ["client_3"]), Checkpoint(tmp_path / "run")
    go = partial(quietly, logistic(tiny_images), data, [Stage(fedavg(1), 4, 6)], checkpoint=checkpoint)
    with pytest.raises(KeyboardInterrupt), pytest.warns(NonFiniteUpdateWarning):
        go(engine=Interrupter(13))
    with warnings.catch_warnings(record=True) as caught:
        go(engine="loop")
    assert caught == []


def test_if_nothing_is_left_training_stops_and_keeps_its_checkpoint(
    tiny_images: FederatedDataset, tmp_path: Path
) -> None:
    draws = [sample_clients(0, number, tiny_images.client_ids, 1)[0] for number in range(9)]
    fatal = next(number for number in range(3, 9) if draws[number] not in draws[:number])
    data = poisoned(tiny_images, [draws[fatal]])
    path = tmp_path / "run"
    checkpoint, stages = Checkpoint(path, every=2), [Stage(fedavg(1), 9, 1)]
    go = partial(quietly, logistic(tiny_images), data, stages, checkpoint=checkpoint)
    with pytest.raises(TrainingDivergedError, match=f"all 1 client updates of round {fatal} have NaN"):
        go()
    # The last one that was due, after an even number of rounds.
    kept = path.read_bytes()
    assert read_round(path) == fatal // 2 * 2
    with pytest.raises(TrainingDivergedError):
        go()
    assert path.read_bytes() == kept


def test_a_server_that_leaps_to_infinity_does_not_overwrite_the_checkpoint(
    tiny_images: FederatedDataset, tmp_path: Path
) -> None:
    # Every client's update is finite here; it is the server's rate that is not of this world.
    model = logistic(tiny_images)
    path = tmp_path / "run"
    stages = [Stage(fedavg(1), 2, 2), Stage(fedavg(1, client=SGD(50.0), server=SGD(3e38)), 2, 2)]
    with pytest.raises(TrainingDivergedError, match="the server's step of round 2 led to NaN or infinity"):
        quietly(model, tiny_images, stages, checkpoint=Checkpoint(path, every=1))
    assert read_round(path) == 2


# --- two stages, and the two end points -----------------------------------------------------------------


@pytest.mark.parametrize("keeps", [True, False])
def test_personalized_fedavg_is_fedavg_then_reptile(keeps: bool) -> None:
    options = {"client": SGD(0.07, momentum=0.3), "batch_size": 13, "keeps_momentum": keeps}
    first = Stage(fedavg(10, **options), 50, 7)
    one, two = personalized_fedavg(first, steps=6, rounds=8, server=Adam(0.002))
    assert one is first
    assert two == Stage(reptile(6, server=Adam(0.002), **options), 8, 7)


def test_local_only_training_is_personalization_of_the_untrained_model(tiny_images: FederatedDataset) -> None:
    options: dict[str, Any] = {"epochs": 3, "client": SGD(0.4), "batch_size": 5, "seed": 2}
    model = logistic(tiny_images)
    alone = train_local_only(model, tiny_images, **options).rows
    pd.testing.assert_frame_equal(alone, personalize(model, model.init(2), tiny_images, **options).rows)


@pytest.mark.parametrize(
    ("optimizer", "build"),
    [
        (SGD(0.1, 0.9, 0.01), partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01)),
        (Adam(0.01, 0.8, 0.95, 1e-6), partial(torch.optim.Adam, lr=0.01, betas=(0.8, 0.95), eps=1e-6)),
    ],
    ids=["SGD", "Adam"],
)
def test_centralized_training_is_a_plain_loop_of_torch_optim(
    tiny_images: FederatedDataset, optimizer: SGD | Adam, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mlp(tiny_images, hidden=7)
    params = model.init(9, torch.float64)
    monkeypatch.setattr(Model, "init", lambda self, seed: params)
    run = train_centralized(model, tiny_images, optimizer, steps=12, batch_size=7, seed=9, progress=False)
    train_x = np.concatenate([client.train_x for client in tiny_images])
    train_y = np.concatenate([client.train_y for client in tiny_images])
    module = model.build().double()
    module.load_state_dict(params)
    plain = build(module.parameters())
    seen = set()
    for number in range(12):
        [indices] = batch_plan(9, number, "pooled", len(train_x), batch_size=7, steps=1)
        assert len(set(indices)) == 7
        seen |= set(indices)
        plain.zero_grad()
        logits = module(torch.from_numpy(train_x[indices]).double())
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(train_y[indices])).backward()
        plain.step()
    # Batches come from the whole pool, not from a first client.
    assert len(seen) > 30
    moved = {name: run.params[name] - tensor for name, tensor in params.items()}
    expected = {name: p.detach() - params[name] for name, p in module.named_parameters()}
    assert relative_error(moved, expected) < 1e-12
    assert list(run.history.clients.loc[1:]) == [1] * 12


def test_centralized_training_resumes(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = partial(train_centralized, logistic(tiny_images), tiny_images, Adam(0.01), steps=5, progress=False)
    checkpoint = Checkpoint(tmp_path / "run", every=2)
    never_stopped = go()
    with monkeypatch.context() as patch:
        patch.setitem(ENGINES, "loop", Interrupter(4))
        with pytest.raises(KeyboardInterrupt):
            go(checkpoint=checkpoint)
    assert_same_runs(go(checkpoint=checkpoint), never_stopped)


def test_a_folder_that_cannot_be_written_to_is_noticed_before_training(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("fl_meta.training.rounds.run_round", lambda *_: pytest.fail("trained in vain"))
    checkpoint = Checkpoint(tmp_path / "file" / "run")
    with pytest.raises(OSError, match=r"cannot write run into .*file.*choose a folder you may write to"):
        quietly(logistic(tiny_images), tiny_images, TWO_STAGES, checkpoint=checkpoint)


# --- bad input and unusual numbers ----------------------------------------------------------------------


@pytest.mark.parametrize("whole", [np.int64(2), np.uint8(2)])
def test_numbers_of_numpy_are_as_good_as_pythons(
    tiny_images: FederatedDataset, tmp_path: Path, whole: Any
) -> None:
    # `for seed in np.arange(3)` hands them out; JSON does not know them.
    def go(whole: Any, rate: Any, server_rate: Any) -> Run:
        algorithm = fedavg(whole, client=SGD(rate), server=Adam(server_rate), batch_size=whole)
        return quietly(
            logistic(tiny_images),
            tiny_images,
            [Stage(algorithm, whole, whole)],
            seed=whole,
            evaluation=Evaluation(tiny_images, whole, whole, client=SGD(rate)),
            checkpoint=Checkpoint(tmp_path / "run", every=whole),
        )

    run = go(whole, np.float32(0.5), np.float64(0.1))
    assert run.state.round_number == read_round(tmp_path / "run") == 2
    assert_same_runs(go(2, 0.5, 0.1), run)


@pytest.mark.parametrize("wrong", [True, 2.0, 1.5, "2", 0, -1])
def test_what_is_no_count_is_refused(tiny_images: FederatedDataset, wrong: Any) -> None:
    for build in (
        lambda: Stage(fedavg(1), wrong),
        lambda: Stage(fedavg(1), 1, wrong),
        lambda: fedavg(wrong),
        lambda: fedavg(steps=wrong),
        lambda: fedavg(1, batch_size=wrong),
        lambda: reptile(wrong),
        lambda: fomaml(wrong),
        lambda: maml(wrong),
        lambda: Evaluation(tiny_images, wrong),
        lambda: Checkpoint("run", wrong),
    ):
        with pytest.raises(ValueError, match=f"={wrong!r} must be a whole number of 1 or more"):
            build()


def test_bad_input_is_told(tiny_images: FederatedDataset) -> None:
    def images(width: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width))

    model = logistic(tiny_images)
    fresh = model.init(0)

    def go(model: Any = model, data: Any = tiny_images, stages: Any = TWO_STAGES, **options: Any) -> Run:
        return quietly(model, data, stages, **options)

    without = replace(tiny_images, train_counts=tiny_images.train_counts * (np.arange(6) != 4))
    for build, message in [
        (lambda: go(stages=[]), r"stages=\[\]; give a list of at least one Stage"),
        (lambda: go(stages=TWO_STAGES[0]), "give a list of at least one Stage"),
        (
            lambda: go(stages=[Stage(fedavg(1), 1, 6), Stage(fedavg(1), 1, 7)]),
            "clients_per_round=7, but 'tiny images' has 6 training clients; choose a number from 1 to 6",
        ),
        (lambda: go(data=without), "client 'client_4' has no train part; leave it out"),
        (lambda: go(engine="rocket"), "engine='rocket' is unknown"),
        (lambda: go(params={}), r"'1\.weight' has shape None, the model's has \(4, 64\)"),
        (
            lambda: go(params=fresh | {"1.bias": torch.zeros(3)}),
            r"'1\.bias' has shape \(3,\), the model's has \(4,\)",
        ),
        (
            lambda: go(params=fresh | {"more": torch.zeros(1)}),
            r"'more' has shape \(1,\), the model's has None",
        ),
        (
            lambda: personalize(model, {"a": torch.zeros(3)}, tiny_images, epochs=1),
            "params do not fit the model 'logistic': .* or the params of a run",
        ),
        (
            lambda: go(Model("few", lambda: images(3))),
            r"'few' gives logits of shape \(3,\) for an example; the data has 4 classes",
        ),
        (
            lambda: go(Model("other", lambda: nn.Linear(7, 4))),
            r"'other' does not read examples of shape \(8, 8\)",
        ),
        (lambda: go(images(4)), "model is a Sequential; wrap a module"),
        (lambda: Model("mine", images(4)), "build is a Sequential; give a function that makes it"),
        (lambda: fedavg(1, client=0.1), r"client=0\.1 and server=.*; give optimizers"),
        (
            lambda: Evaluation(tiny_images, every=1, personalization_epochs=-1),
            "personalization_epochs=-1 must be a whole number of 0 or more",
        ),
        *[
            (lambda n=n: train_centralized(model, tiny_images, SGD(0.1), steps=n), f"rounds={n}")
            for n in (0, -5)
        ],
        (lambda: train_local_only(model, tiny_images, epochs=-1), "epochs=-1"),
    ]:
        with pytest.raises(ValueError, match=message):
            build()


def test_parameters_that_want_gradients_are_as_good_as_others(tiny_images: FederatedDataset) -> None:
    model = logistic(tiny_images)
    learning = {name: tensor.requires_grad_() for name, tensor in model.init(0).items()}
    run = quietly(model, tiny_images, TWO_STAGES, params=learning)
    assert not any(tensor.requires_grad for tensor in run.params.values())
