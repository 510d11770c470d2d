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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor, nn

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage, personalized_fedavg
from fl_meta.algorithms.table import Algorithm, LocalWork, fedavg, fedsgd, fomaml, maml, reptile
from fl_meta.data.batches import batch_plan, sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.interface import Collected, Engine, Score
from fl_meta.engines.local_training import LocalTraining, adapted
from fl_meta.engines.loop import LoopEngine
from fl_meta.engines.stacked.engine import StackedEngine
from fl_meta.engines.task import ENGINES
from fl_meta.evaluation.personalization import Evaluation, personalize
from fl_meta.models.images import emnist_cnn, logistic, mlp
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params, relative_error
from fl_meta.support import atomic_files as files
from fl_meta.training import checkpoints, rounds
from fl_meta.training import train as training
from fl_meta.training.baselines import train_centralized, train_local_only
from fl_meta.training.checkpoints import Checkpoint, CheckpointError
from fl_meta.training.rounds import TrainingDivergedError
from fl_meta.training.train import NonFiniteUpdateWarning, Run, train

TWO_STAGES = [
    Stage(fedavg(1, client=SGD(0.2, momentum=0.5), batch_size=6), rounds=3, clients_per_round=2),
    Stage(reptile(2, client=SGD(0.2), server=Adam(0.01), batch_size=6), rounds=3, clients_per_round=2),
]


@pytest.fixture
def split(tiny_images: FederatedDataset) -> tuple[FederatedDataset, FederatedDataset]:
    """Four clients to train on and two held out."""
    ids = tiny_images.client_ids
    return tiny_images.subset(ids[:4]), tiny_images.subset(ids[4:])


def poisoned(data: FederatedDataset, client_ids: Sequence[str]) -> FederatedDataset:
    """The same data with NaN in the first train example of these clients."""
    x = data.x.copy()
    for client_id in client_ids:
        x[data.starts[data.position(client_id)]] = np.nan
    return replace(data, x=x)


def assert_same(a: Run, b: Run) -> None:
    """Parameters, server state and history, bit for bit."""

    def bits(tree: dict[str, Tensor]) -> dict[str, bytes]:
        return {name: tensor.numpy().tobytes() for name, tensor in tree.items()}

    assert a.state.round_number == b.state.round_number
    assert bits(a.params) == bits(b.params) == bits(a.state.params) == bits(b.state.params)
    assert a.state.server.keys() == b.state.server.keys()
    assert all(bits(a.state.server[name]) == bits(b.state.server[name]) for name in a.state.server)
    pd.testing.assert_frame_equal(a.history, b.history, check_exact=True)


# --- rounds, stages and history -------------------------------------------------------------------------


def test_rounds_go_on_through_stages(tiny_images: FederatedDataset) -> None:
    # Rounds are counted over all stages: two stages of a plain server are one long one.
    model = logistic(tiny_images)
    row = fedavg(1, server=SGD(1.0), batch_size=6)
    one, two = (
        train(model, tiny_images, stages, seed=2, progress=False)
        for stages in ([Stage(row, 5, 2)], [Stage(row, 2, 2), Stage(row, 3, 2)])
    )
    assert relative_error(two.params, one.params) == 0
    assert list(two.history.stage) == [0, 0, 0, 1, 1, 1]
    assert list(one.history.stage) == [0] * 6


def test_a_round_of_training_by_plain_torch(tiny_images: FederatedDataset) -> None:
    # One client a round, one full batch and a plain server: gradient descent on the clients drawn.
    model = mlp(tiny_images, hidden=5)
    stages = [Stage(fedsgd(client=SGD(0.3), batch_size=None), 6, 1)]
    run = train(model, tiny_images, stages, seed=8, params=model.init(1, torch.float64), progress=False)
    module = model.build().double()
    module.load_state_dict(model.init(1, torch.float64))
    drawn = set()
    for number in range(6):
        [client_id] = sample_clients(8, number, tiny_images.client_ids, 1)
        drawn.add(client_id)
        client = tiny_images[client_id]
        logits = module(torch.from_numpy(client.train_x).double())
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(client.train_y)).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.3 * parameter.grad
                parameter.grad = None
    assert len(drawn) > 2
    assert relative_error(run.params, dict(module.named_parameters())) < 1e-13


def test_history(split: tuple[FederatedDataset, FederatedDataset]) -> None:
    data, held_out = split
    model = logistic(data)
    evaluation = Evaluation(held_out, every=4, personalization_epochs=2)
    run = train(model, data, TWO_STAGES, seed=1, evaluation=evaluation, progress=False)
    history = run.history
    assert list(history.index) == [0, 1, 2, 3, 4, 5, 6]
    assert history.index.name == "round"
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
    for which, epoch in (("initial", 0), ("personalized", 2)):
        rows = table.rows[table.rows.epoch == epoch]
        for measure in ("accuracy", "loss"):
            expected = rows[f"test_{measure}"].mean()
            assert history[f"held_out_{which}_test_{measure}_by_client"][6] == pytest.approx(expected)
    first = personalize(model, model.init(1), held_out, epochs=0).rows.test_accuracy.mean()
    assert history.held_out_initial_test_accuracy_by_client[0] == pytest.approx(first)
    assert "Run of 6 rounds" in repr(run)


def test_history_without_evaluation_has_no_scores(tiny_images: FederatedDataset) -> None:
    run = train(logistic(tiny_images), tiny_images, TWO_STAGES, progress=False)
    assert not [column for column in run.history.columns if "held_out" in column]


def test_without_personalization_there_is_no_personalized_score(
    split: tuple[FederatedDataset, FederatedDataset],
) -> None:
    data, held_out = split
    run = train(logistic(data), data, TWO_STAGES, evaluation=Evaluation(held_out, every=1), progress=False)
    assert [c for c in run.history.columns if "held_out" in c] == [
        "held_out_initial_test_accuracy_by_client",
        "held_out_initial_test_loss_by_client",
    ]
    assert run.history.held_out_initial_test_loss_by_client.notna().all()


def test_evaluation_does_not_change_training(split: tuple[FederatedDataset, FederatedDataset]) -> None:
    data, held_out = split
    model = emnist_cnn(data)
    evaluation = Evaluation(held_out, every=1, personalization_epochs=1)
    plain = train(model, data, TWO_STAGES, progress=False)
    scored = train(model, data, TWO_STAGES, evaluation=evaluation, progress=False)
    assert relative_error(scored.params, plain.params) == 0


def test_the_order_of_clients_in_the_data_changes_nothing(tiny_images: FederatedDataset) -> None:
    model = logistic(tiny_images)
    backwards = tiny_images.subset(tiny_images.client_ids[::-1])
    runs = [train(model, data, TWO_STAGES, seed=3, progress=False) for data in (tiny_images, backwards)]
    assert_same(*runs)


def test_another_seed_is_another_run(tiny_images: FederatedDataset) -> None:
    model = logistic(tiny_images)
    start = model.init(0)
    a, b = (train(model, tiny_images, TWO_STAGES, seed=s, params=start, progress=False) for s in (1, 2))
    assert relative_error(a.params, b.params) > 1e-3


def test_the_progress_bar_can_be_silenced(
    tiny_images: FederatedDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    model = logistic(tiny_images)
    train(model, tiny_images, TWO_STAGES, progress=False)
    assert capfd.readouterr() == ("", "")
    train(model, tiny_images, TWO_STAGES)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "/6" in shown.err


# --- bad input ------------------------------------------------------------------------------------------


def test_bad_input_is_told(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    model = logistic(tiny_images)
    with pytest.raises(ValueError, match=r"stages=\[\]; give a list of at least one Stage"):
        train(model, tiny_images, [])
    with pytest.raises(ValueError, match="clients_per_round=7, but 'tiny images' has 6 training clients"):
        train(model, tiny_images, [Stage(fedavg(1), 1, 6), Stage(fedavg(1), 1, 7)])
    counts = tiny_images.train_counts.copy()
    counts[4] = 0
    with pytest.raises(ValueError, match="client 'client_4' has no train part; leave it out"):
        train(model, replace(tiny_images, train_counts=counts), TWO_STAGES)
    with pytest.raises(ValueError, match="engine='rocket' is unknown"):
        train(model, tiny_images, TWO_STAGES, engine="rocket")
    for every in (0, -3):
        with pytest.raises(ValueError, match=f"every={every}"):
            Checkpoint(tmp_path / "run", every=every)
        with pytest.raises(ValueError, match=f"every={every}"):
            Evaluation(tiny_images, every=every)
    with pytest.raises(ValueError, match="personalization_epochs=-1 must be a whole number of 0 or more"):
        Evaluation(tiny_images, every=1, personalization_epochs=-1)
    for steps in (0, -5):
        with pytest.raises(ValueError, match=f"rounds={steps}"):
            train_centralized(model, tiny_images, SGD(0.1), steps=steps)
    with pytest.raises(ValueError, match="epochs=-1"):
        train_local_only(model, tiny_images, epochs=-1)


def test_a_checkpoint_in_a_folder_that_cannot_be(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checkpoint = Checkpoint(tmp_path / "file" / "run", every=1)
    with pytest.raises(OSError, match=r"cannot write run into .*file"):
        train(logistic(tiny_images), tiny_images, TWO_STAGES, checkpoint=checkpoint, progress=False)


# --- interrupted and resumed ----------------------------------------------------------------------------


ONE_BY_ONE = {"loop": LoopEngine(), "stacked": StackedEngine(chunk_bytes=1)}
"""Engines that collect a part for every client."""


class Interrupter:
    """An engine that raises KeyboardInterrupt before the given parts, counted over everything it collects."""

    def __init__(self, at: set[int], engine: str = "loop") -> None:
        self.at, self.engine, self.count = at, ONE_BY_ONE[engine], 0

    def collect(self, *args: Any) -> Iterator[Collected]:
        for part in self.engine.collect(*args):
            self.count += 1
            if self.count in self.at:
                raise KeyboardInterrupt
            yield part

    def scores(self, *args: Any) -> Iterator[Score]:
        return self.engine.scores(*args)


def test_interrupted_at_every_client_of_every_round(
    split: tuple[FederatedDataset, FederatedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, held_out = split
    engine, model = "stacked", logistic(data)
    evaluation = Evaluation(held_out, every=2, personalization_epochs=1)

    def go(path: Path | None, engine: str | Engine = ONE_BY_ONE[engine]) -> Run:
        checkpoint = None if path is None else Checkpoint(path, every=4)
        return train(
            model,
            data,
            TWO_STAGES,
            seed=6,
            evaluation=evaluation,
            checkpoint=checkpoint,
            engine=engine,
            progress=False,
        )

    never_stopped = go(None)
    # Two clients a round and six rounds: interrupted at client 1, 2, …, 12, and once at all of them.
    for number in range(1, 13):
        path = tmp_path / f"{number}.safetensors"
        monkeypatch.setitem(ENGINES, "interrupted", Interrupter({number}, engine))
        with pytest.raises(KeyboardInterrupt):
            go(path, "interrupted")
        # Whole rounds are kept: at the third client that is one.
        rounds_done = (number - 1) // 2
        assert path.exists(), "the start is kept as well"
        if rounds_done:
            assert read_round(path) == rounds_done
        assert_same(go(path), never_stopped)
        assert read_round(path) == 6
    # A round that is always interrupted at its second client is done at the next start at last.
    path = tmp_path / "often.safetensors"
    starts = 0
    while starts < 6:
        starts += 1
        monkeypatch.setitem(ENGINES, "interrupted", Interrupter({3}, engine))
        try:
            last = go(path, "interrupted")
            break
        except KeyboardInterrupt:
            assert read_round(path) == starts
    assert starts == 6
    assert_same(last, never_stopped)


def read_round(path: Path) -> int:
    # safe_open opens a file twice, and another process may have replaced it in between.
    return int(load(path.read_bytes())["round_number"])


def test_interrupted_in_every_evaluation(
    split: tuple[FederatedDataset, FederatedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, held_out = split
    model = logistic(data)
    means = Evaluation.means
    countdown = [0]

    def interrupted(self: Evaluation, *args: Any) -> dict[str, float]:
        countdown[0] -= 1
        if countdown[0] == 0:
            raise KeyboardInterrupt
        return means(self, *args)

    monkeypatch.setattr(Evaluation, "means", interrupted)

    def go(path: Path | None) -> Run:
        return train(
            model,
            data,
            TWO_STAGES,
            evaluation=Evaluation(held_out, every=2),
            checkpoint=None if path is None else Checkpoint(path),
            progress=False,
        )

    never_stopped = go(None)
    # Before the first round and after rounds 2, 4 and 6.
    for number, rounds_done in ((1, 0), (2, 1), (3, 3), (4, 5)):
        path = tmp_path / f"{number}.safetensors"
        countdown[0] = number
        with pytest.raises(KeyboardInterrupt):
            go(path)
        assert (read_round(path) if path.exists() else 0) == rounds_done
        assert_same(go(path), never_stopped)


@pytest.mark.slow
def test_interrupted_at_every_line(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    # Ctrl-C comes between any two lines of training, saving and writing, whether or not a save is due.
    model = logistic(tiny_images)
    row = fedavg(1, client=SGD(0.2), server=SGD(1.0, momentum=0.9), batch_size=6)
    stages = [Stage(row, 2, 1)]
    watched = {module.__file__ for module in (training, rounds, checkpoints, files)}

    def go(path: Path) -> Run:
        return train(model, tiny_images, stages, checkpoint=Checkpoint(path, every=2), progress=False)

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
        assert_same(go(path), never_stopped)
    # Far more places than lines of train: rounds repeat them, and saving has its own.
    assert line > len(inspect.getsourcelines(inspect.unwrap(train))[0])
    assert kept == {0, 1, 2}


def test_a_finished_run_is_read_back(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = logistic(tiny_images)
    checkpoint = Checkpoint(tmp_path / "run", every=4)
    done = train(model, tiny_images, TWO_STAGES, checkpoint=checkpoint, progress=False)
    monkeypatch.setitem(ENGINES, "stacked", Interrupter({1}))
    assert_same(train(model, tiny_images, TWO_STAGES, checkpoint=checkpoint, progress=False), done)


def test_checkpoints_come_every_n_rounds_and_at_the_end(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = checkpoints.write_checkpoint

    def watch(path: Path, tensors: dict[str, Tensor], *rest: Any) -> None:
        written.append(int(tensors["round_number"]))
        write(path, tensors, *rest)

    monkeypatch.setattr(checkpoints, "write_checkpoint", watch)
    model = logistic(tiny_images)
    for every, expected in ((1, [0, 1, 2, 3, 4, 5, 6]), (4, [0, 4, 6]), (3, [0, 3, 6]), (100, [0, 6])):
        written.clear()
        checkpoint = Checkpoint(tmp_path / f"{every}", every=every)
        train(model, tiny_images, TWO_STAGES, checkpoint=checkpoint, progress=False)
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


# --- another configuration or a damaged file ------------------------------------------------------------


def changed_stage(**changes: Any) -> list[Stage]:
    return [replace(TWO_STAGES[0], algorithm=replace(TWO_STAGES[0].algorithm, **changes)), TWO_STAGES[1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 in the checkpoint and 1 in this run"),
        (
            {"stages": changed_stage(client=SGD(0.3, momentum=0.5))},
            "stages[0].algorithm.client.learning_rate is 0.2 in the checkpoint and 0.3 in this run",
        ),
        (
            {"stages": changed_stage(client=SGD(0.2))},
            "stages[0].algorithm.client.momentum is 0.5 in the checkpoint and 0.0 in this run",
        ),
        (
            {"stages": changed_stage(server=Adam(1.0))},
            "stages[0].algorithm.server.beta1 is None in the checkpoint and 0.9 in this run",
        ),
        (
            {"stages": changed_stage(batch_size=None)},
            "stages[0].algorithm.batch_size is 6 in the checkpoint and None in this run",
        ),
        (
            {"stages": changed_stage(weights="equal")},
            "stages[0].algorithm.weights is 'examples' in the checkpoint and 'equal' in this run",
        ),
        ({"stages": TWO_STAGES[:1]}, "stages[1].rounds is 3 in the checkpoint and None in this run"),
        (
            {"stages": [TWO_STAGES[0], replace(TWO_STAGES[1], rounds=4)]},
            "stages[1].rounds is 3 in the checkpoint and 4 in this run",
        ),
        (
            {"stages": [TWO_STAGES[0], replace(TWO_STAGES[1], clients_per_round=3)]},
            "stages[1].clients_per_round is 2 in the checkpoint and 3 in this run",
        ),
        ({"model": "mlp"}, "model is 'logistic' in the checkpoint and 'mlp' in this run"),
        ({"params": 5}, "initial parameters is"),
        ({"data": "fewer"}, "data is"),
        ({"data": "other labels"}, "data is"),
        ({"evaluation": "less often"}, "evaluation.every is 2 in the checkpoint and 3 in this run"),
        ({"evaluation": "more epochs"}, "evaluation.personalization_epochs is 0 in the checkpoint and 1 in"),
        ({"evaluation": "other clients"}, "evaluation.held_out is"),
        ({"evaluation": "none"}, "evaluation.every is 2 in the checkpoint and None in this run"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_another_configuration_is_refused(
    split: tuple[FederatedDataset, FederatedDataset], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    data, held_out = split
    path = tmp_path / "run"
    options: dict[str, Any] = {
        "stages": TWO_STAGES,
        "seed": 0,
        "params": 0,
        "model": "logistic",
        "data": "all",
        "evaluation": "usual",
    }

    def go(options: dict[str, Any]) -> Run:
        model = {"logistic": logistic, "mlp": mlp}[options["model"]](data)
        return train(
            model,
            {
                "all": data,
                "fewer": data.subset(data.client_ids[:3]),
                "other labels": replace(data, y=3 - data.y),
            }[options["data"]],
            options["stages"],
            seed=options["seed"],
            params=model.init(options["params"]),
            evaluation={
                "usual": Evaluation(held_out, 2),
                "less often": Evaluation(held_out, 3),
                "more epochs": Evaluation(held_out, 2, 1),
                "other clients": Evaluation(held_out.subset(held_out.client_ids[:1]), 2),
                "none": None,
            }[options["evaluation"]],
            checkpoint=Checkpoint(path),
            progress=False,
        )

    go(options)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=re.escape(message)):
        go(options | change)
    assert path.read_bytes() == before
    # Where and how often one saves is no part of the configuration.
    go(options)


def test_a_damaged_checkpoint_is_refused_and_kept(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    model = logistic(tiny_images)
    path = tmp_path / "run"

    def go() -> Run:
        return train(model, tiny_images, TWO_STAGES, checkpoint=Checkpoint(path, every=2), progress=False)

    go()
    whole = path.read_bytes()
    in_tensors = bytearray(whole)
    in_tensors[-100] ^= 4
    for damaged in (whole[: len(whole) // 2], b"", bytes(in_tensors)):
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
    path = tmp_path / "run"
    with pytest.warns(NonFiniteUpdateWarning, match="round 1: 1 of 6 client updates have NaN") as caught:
        run = train(model, data, stages, checkpoint=Checkpoint(path), engine=engine, progress=False)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert list(run.history.clients_left_out.loc[1:]) == [1, 1, 1, 1]
    assert list(run.history.clients.loc[1:]) == [6, 6, 6, 6]
    without = tiny_images.subset([c for c in tiny_images.client_ids if c != "client_3"])
    expected = train(model, without, [Stage(fedavg(1), 4, 5)], engine=engine, progress=False)
    assert relative_error(run.params, expected.params) <= tolerance


def test_once_means_once_over_resumed_runs(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = logistic(tiny_images)
    data = poisoned(tiny_images, ["client_3"])

    def go(engine: str) -> Run:
        checkpoint = Checkpoint(tmp_path / "run")
        return train(
            model, data, [Stage(fedavg(1), 4, 6)], checkpoint=checkpoint, engine=engine, progress=False
        )

    monkeypatch.setitem(ENGINES, "interrupted", Interrupter({13}))
    with pytest.raises(KeyboardInterrupt), pytest.warns(NonFiniteUpdateWarning):
        go("interrupted")
    with warnings.catch_warnings(record=True) as caught:
        go("loop")
    assert caught == []


def test_a_seed_of_numpy_is_a_seed(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    # `for seed in np.arange(3)` hands them out; JSON does not know them.
    model = logistic(tiny_images)
    checkpoint = Checkpoint(tmp_path / "run")
    run = train(model, tiny_images, TWO_STAGES, seed=np.int64(2), checkpoint=checkpoint, progress=False)
    assert_same(train(model, tiny_images, TWO_STAGES, seed=2, checkpoint=checkpoint, progress=False), run)


def test_if_nothing_is_left_training_stops_and_keeps_its_checkpoint(
    tiny_images: FederatedDataset, tmp_path: Path
) -> None:
    model = logistic(tiny_images)
    draws = [sample_clients(0, number, tiny_images.client_ids, 1)[0] for number in range(9)]
    fatal = next(number for number in range(3, 9) if draws[number] not in draws[:number])
    data = poisoned(tiny_images, [draws[fatal]])
    path = tmp_path / "run"
    checkpoint = Checkpoint(path, every=2)
    stages = [Stage(fedavg(1), 9, 1)]
    with pytest.raises(TrainingDivergedError, match=f"all 1 client updates of round {fatal} have NaN"):
        train(model, data, stages, checkpoint=checkpoint, progress=False)
    # The last one that was due, after an even number of rounds.
    kept = path.read_bytes()
    assert read_round(path) == fatal // 2 * 2
    with pytest.raises(TrainingDivergedError):
        train(model, data, stages, checkpoint=checkpoint, progress=False)
    assert path.read_bytes() == kept


def test_a_server_that_leaps_to_infinity_does_not_overwrite_the_checkpoint(
    tiny_images: FederatedDataset, tmp_path: Path
) -> None:
    # Every client's update is finite here; it is the server's rate that is not of this world.
    model = logistic(tiny_images)
    path = tmp_path / "run"
    stages = [Stage(fedavg(1), 2, 2), Stage(fedavg(1, client=SGD(50.0), server=SGD(3e38)), 2, 2)]
    with pytest.raises(TrainingDivergedError, match="the server's step of round 2 led to NaN or infinity"):
        train(model, tiny_images, stages, checkpoint=Checkpoint(path, every=1), progress=False)
    assert read_round(path) == 2


# --- two stages, and the two end points -----------------------------------------------------------------


def test_personalized_fedavg_is_fedavg_then_reptile() -> None:
    client = SGD(0.07, momentum=0.3)
    first = Stage(fedavg(10, client=client, batch_size=13), 50, 7)
    one, two = personalized_fedavg(first, steps=6, rounds=8, server=Adam(0.002))
    assert one is first
    assert two == Stage(reptile(6, client=client, server=Adam(0.002), batch_size=13), 8, 7)


@pytest.mark.parametrize(
    "optimizer", [SGD(0.2), SGD(0.1, momentum=0.9, weight_decay=0.01), Adam(0.01, 0.8, 0.95, 1e-6)], ids=str
)
def test_centralized_training_is_a_plain_loop_of_torch_optim(
    tiny_images: FederatedDataset, optimizer: SGD | Adam, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mlp(tiny_images, hidden=7)
    params = model.init(9, torch.float64)
    monkeypatch.setattr(Model, "init", lambda self, seed: params)
    run = train_centralized(model, tiny_images, optimizer, steps=12, batch_size=7, seed=9, progress=False)
    train_x = np.concatenate([client.train_x for client in tiny_images])
    train_y = np.concatenate([client.train_y for client in tiny_images])
    module = model.build().double()
    module.load_state_dict(params)
    if isinstance(optimizer, SGD):
        plain: torch.optim.Optimizer = torch.optim.SGD(
            module.parameters(),
            optimizer.learning_rate,
            optimizer.momentum,
            weight_decay=optimizer.weight_decay,
        )
    else:
        plain = torch.optim.Adam(module.parameters(), 0.01, (0.8, 0.95), 1e-6)
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
    model = logistic(tiny_images)

    def go(path: Path | None) -> Run:
        checkpoint = None if path is None else Checkpoint(path, every=2)
        return train_centralized(
            model, tiny_images, Adam(0.01), steps=5, checkpoint=checkpoint, progress=False
        )

    never_stopped = go(None)
    with monkeypatch.context() as patch:
        patch.setitem(ENGINES, "loop", Interrupter({4}, "loop"))
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "run")
    assert_same(go(tmp_path / "run"), never_stopped)


def test_local_only_training_is_every_client_alone(tiny_images: FederatedDataset) -> None:
    model = logistic(tiny_images)
    table = train_local_only(model, tiny_images, epochs=3, client=SGD(0.4), batch_size=5, seed=2).rows
    assert len(table) == 6 * 4
    for client in tiny_images:
        module = model.build()
        module.load_state_dict(model.init(2))
        optimizer = torch.optim.SGD(module.parameters(), 0.4)
        plan = batch_plan(2, 0, client.client_id, len(client.train_x), batch_size=5, epochs=3)
        for indices in plan:
            optimizer.zero_grad()
            logits = module(torch.from_numpy(client.train_x[indices]))
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(client.train_y[indices])).backward()
            optimizer.step()
        logits = module(torch.from_numpy(client.test_x))
        labels = torch.from_numpy(client.test_y)
        last = table[(table.client_id == client.client_id) & (table.epoch == 3)].iloc[0]
        assert last.test_accuracy == (logits.argmax(1) == labels).double().mean().item()
        expected = torch.nn.functional.cross_entropy(logits, labels).item()
        assert last.test_loss == pytest.approx(expected, rel=1e-4)
    # Nobody learns from anybody: a client alone has the same rows.
    alone = train_local_only(
        model, tiny_images.subset(["client_2"]), epochs=3, client=SGD(0.4), batch_size=5, seed=2
    ).rows
    pd.testing.assert_frame_equal(
        alone, table[table.client_id == "client_2"].reset_index(drop=True), check_exact=True
    )


@pytest.mark.parametrize("row", [fedsgd(), fedavg(2), reptile(3), fomaml(3), maml(3)], ids=lambda a: a.name)
def test_every_row_lowers_its_own_loss(tiny_images: FederatedDataset, row: Algorithm) -> None:
    model = logistic(tiny_images)
    row = replace(row, client=SGD(0.3), server=SGD(0.5))
    # MAML and FOMAML look at the loss after the local steps, and need not lower the one before.
    epochs = 3 if row.planned_steps == 4 else 0

    def loss(params: Params) -> float:
        losses = []
        for client in tiny_images:
            training = LocalTraining(model, params, tiny_images, LocalWork(SGD(0.3), 20, epochs), 0)
            *_, state = adapted(training, client.client_id)
            batch = (torch.from_numpy(client.train_x), torch.from_numpy(client.train_y))
            losses.append(model.loss(state, *batch).item())
        return sum(losses) / len(losses)

    run = train(model, tiny_images, [Stage(row, 30, 6)], progress=False)
    assert loss(run.params) < 0.9 * loss(model.init(0))


@pytest.mark.parametrize("whole", [np.int64(2), np.uint8(2)])
def test_numbers_of_numpy_are_as_good_as_pythons(
    tiny_images: FederatedDataset, tmp_path: Path, whole: Any
) -> None:
    held_out = tiny_images.subset(tiny_images.client_ids[:2])
    algorithm = fedavg(whole, client=SGD(np.float32(0.5)), server=Adam(np.float64(0.1)), batch_size=whole)
    run = train(
        logistic(tiny_images),
        tiny_images,
        [Stage(algorithm, whole, whole)],
        evaluation=Evaluation(held_out, whole, whole, client=SGD(np.float32(0.5))),
        checkpoint=Checkpoint(tmp_path / "run", every=whole),
        progress=False,
    )
    assert run.state.round_number == 2
    assert read_round(tmp_path / "run") == 2


@pytest.mark.parametrize("wrong", [True, 2.0, "2", 0, -1])
def test_what_is_no_count_is_refused(tiny_images: FederatedDataset, wrong: Any) -> None:
    for build in (
        lambda: Stage(fedavg(1), wrong),
        lambda: fedavg(wrong),
        lambda: fedavg(1, batch_size=wrong),
        lambda: Evaluation(tiny_images, wrong),
        lambda: Checkpoint("run", wrong),
    ):
        with pytest.raises(ValueError, match=f"={wrong!r} must be a whole number of 1 or more"):
            build()


def test_a_folder_that_cannot_be_written_to_is_noticed_before_training(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("fl_meta.training.rounds.run_round", lambda *_: pytest.fail("trained in vain"))
    with pytest.raises(OSError, match="choose a folder you may write to"):
        train(
            logistic(tiny_images),
            tiny_images,
            [Stage(fedavg(1), 1, 1)],
            checkpoint=Checkpoint(tmp_path / "file" / "run"),
            progress=False,
        )


def test_parameters_that_do_not_fit_are_told(tiny_images: FederatedDataset) -> None:
    model, stages = logistic(tiny_images), [Stage(fedavg(1), 1, 1)]
    fresh = model.init(0)
    for params, message in (
        ({}, r"'1\.weight' has shape None, the model's has \(4, 64\)"),
        (fresh | {"1.bias": torch.zeros(3)}, r"'1\.bias' has shape \(3,\), the model's has \(4,\)"),
        (fresh | {"more": torch.zeros(1)}, r"'more' has shape \(1,\), the model's has None"),
    ):
        with pytest.raises(ValueError, match=message):
            train(model, tiny_images, stages, params=params, progress=False)
    learning = {name: tensor.clone().requires_grad_() for name, tensor in fresh.items()}
    run = train(model, tiny_images, stages, params=learning, progress=False)
    assert not any(tensor.requires_grad for tensor in run.params.values())


def test_another_architecture_of_the_same_name_does_not_resume(
    tiny_images: FederatedDataset, tmp_path: Path
) -> None:
    def named(activation: type[nn.Module]) -> Model:
        return Model("mine", mlp(tiny_images, 4, activation).build)

    checkpoint, stages = Checkpoint(tmp_path / "run"), [Stage(fedavg(1), 1, 1)]
    train(named(nn.ReLU), tiny_images, stages, checkpoint=checkpoint, progress=False)
    with pytest.raises(CheckpointError, match="architecture is"):
        train(named(nn.Tanh), tiny_images, stages, checkpoint=checkpoint, progress=False)


def test_what_does_not_fit_together_is_told(tiny_images: FederatedDataset) -> None:
    def images(width: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width))

    stages = [Stage(fedavg(1), 1, 1)]
    few = Model("few", lambda: images(3))
    other = Model("other", lambda: nn.Linear(7, 4))
    for model, message in (
        (few, r"'few' gives logits of shape \(3,\) for an example; the data has 4 classes"),
        (other, r"'other' does not read examples of shape \(8, 8\)"),
        (images(4), "model is a Sequential; wrap a module"),
    ):
        with pytest.raises(ValueError, match=message):
            train(model, tiny_images, stages, progress=False)
    good = Model("good", lambda: images(4))
    with pytest.raises(ValueError, match="give a list of at least one Stage"):
        train(good, tiny_images, stages[0], progress=False)
    with pytest.raises(ValueError, match="build is a Sequential; give a function that makes it"):
        Model("mine", images(4))
    with pytest.raises(ValueError, match=r"client=0\.1 and server=.*; give optimizers"):
        fedavg(1, client=0.1)
    with pytest.raises(ValueError, match=r"params do not fit the model 'good': .* or the params of a run"):
        personalize(good, {"a": torch.zeros(3)}, tiny_images, epochs=1)


def test_an_interrupt_says_how_to_go_on(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "interrupted", Interrupter({3}))
    with pytest.raises(KeyboardInterrupt, match=r"stopped after round \d; the same call resumes from .*run"):
        train(
            logistic(tiny_images),
            tiny_images,
            [Stage(fedavg(1), 4, 2)],
            checkpoint=Checkpoint(tmp_path / "run"),
            engine="interrupted",
            progress=False,
        )
