"""What a checkpoint must have in it: what the run itself would have written, and nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_tasks import assert_same_runs, content_of, quietly
from torch import Tensor, nn

from fl_meta.algorithms.optimizers import SGD, Adam
from fl_meta.algorithms.stages import Stage
from fl_meta.algorithms.table import fedavg
from fl_meta.data.federated import FederatedDataset
from fl_meta.evaluation.personalization import Evaluation
from fl_meta.models.images import logistic
from fl_meta.models.model import Model
from fl_meta.models.parameters import Params
from fl_meta.training import checkpoints
from fl_meta.training.checkpoints import Checkpoint, CheckpointError, write_checkpoint
from fl_meta.training.run import Run

CLIENT = SGD(0.1, momentum=0.5)
STAGES = [
    Stage(fedavg(1, client=CLIENT, server=SGD(1.0, momentum=0.9), batch_size=6), 1, 2),
    Stage(fedavg(1, client=CLIENT, server=Adam(0.01), batch_size=6, keeps_momentum=True), 3, 2),
]


def go(data: FederatedDataset, path: Path) -> Run:
    evaluation = Evaluation(data, 2, 1, client=CLIENT, keeps_momentum=True)
    return quietly(logistic(data), data, STAGES, evaluation=evaluation, checkpoint=Checkpoint(path, every=1))


@pytest.fixture(scope="module")
def after_three_rounds(tiny_images: FederatedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after the second round of the second stage."""
    path = tmp_path_factory.mktemp("run") / "run"
    write = checkpoints.write_checkpoint
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def stop(file: Path, tensors: dict[str, Tensor], *rest: Any) -> None:
            if int(tensors["round_number"]) == 4:
                raise KeyboardInterrupt
            write(file, tensors, *rest)

        patch.setattr("fl_meta.training.progress.write_checkpoint", stop)
        go(tiny_images, path)
    return path


def tensor(title: str, change: Callable[[Tensor], Tensor | None]) -> Callable[..., None]:
    """Change one tensor; None removes it."""

    def forge(tensors: dict[str, Tensor], *_: object) -> None:
        changed = change(tensors.pop(title))
        if changed is not None:
            tensors[title] = changed

    return forge


def added(title: str, value: Tensor) -> Callable[..., None]:
    return lambda tensors, *_: tensors.update({title: value})


def notes(*place: str | int, value: Any = ...) -> Callable[..., None]:
    """Change what the progress has in one place; without a value it is removed."""

    def forge(_: object, __: object, progress: Any) -> None:
        for step in place[:-1]:
            progress = progress[step]
        if value is ...:
            del progress[place[-1]]
        else:
            progress[place[-1]] = value

    return forge


def filled(number: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.full_like(tensor, number)


def gone(_: Tensor) -> None:
    return None


W, BUFFER = "params/1.weight", "momentum/client_0"
FORGED = [
    # Parameters.
    (tensor(W, gone), rf"{W} is missing; this run has it, with shape \(4, 64\) and type float32"),
    (tensor(W, Tensor.t), rf"{W} has shape \(64, 4\) .*this run's has shape \(4, 64\)"),
    (tensor(W, Tensor.flatten), rf"{W} has shape \(256,\)"),
    (tensor(W, torch.sum), rf"{W} has shape \(\)"),
    (tensor(W, Tensor.double), rf"{W} has shape \(4, 64\) and type float64; .* type float32"),
    (tensor(W, Tensor.bfloat16), "type bfloat16"),
    (tensor(W, Tensor.bool), "type bool"),
    (tensor(W, Tensor.int), "type int32"),
    (tensor(W, filled(math.nan)), rf"{W} has NaN or infinity in it"),
    (tensor(W, lambda w: w.index_fill(1, torch.tensor(3), -math.inf)), rf"{W} has NaN or infinity in it"),
    (added("params/2.weight", torch.ones(3)), r"params/2\.weight is not part of this run after 3 rounds"),
    (added("optimizer", torch.ones(3)), "optimizer is not part of this run"),
    # How far it is.
    (tensor("round_number", gone), "round_number is missing"),
    (tensor("round_number", filled(999)), "round_number is 999, but this run has 4 rounds"),
    (tensor("round_number", filled(-1)), "round_number is -1, but"),
    (tensor("round_number", filled(2)), "/step is 2, but is 1 after 2 rounds of this run"),
    (tensor("round_number", Tensor.double), "round_number has .* type float64; .* type int64"),
    (tensor("round_number", Tensor.bool), "round_number has .* type bool"),
    (tensor("round_number", lambda number: number[None]), r"round_number has shape \(1,\)"),
    # The server's state.
    (tensor("server/1.bias/exp_avg", gone), r"server/1\.bias/exp_avg is missing"),
    (tensor("server/1.bias/exp_avg", lambda mean: mean[:2]), r"exp_avg has shape \(2,\)"),
    (tensor("server/1.bias/exp_avg", filled(math.inf)), "exp_avg has NaN or infinity"),
    (tensor("server/1.bias/exp_avg_sq", filled(math.nan)), "exp_avg_sq has NaN or infinity"),
    (tensor("server/1.bias/exp_avg_sq", Tensor.half), "exp_avg_sq has .* type float16"),
    (tensor("server/1.bias/step", filled(math.nan)), r"server/1\.bias/step is nan, but is 2 after 3"),
    (tensor("server/1.bias/step", filled(0)), r"server/1\.bias/step is 0, but"),
    (tensor("server/1.bias/step", Tensor.int), r"server/1\.bias/step has .* type int32"),
    (
        added("server/1.bias/momentum_buffer", torch.ones(4)),
        "momentum_buffer is not part of this run",
    ),
    (added("server/none/exp_avg", torch.ones(4)), "server/none/exp_avg is not part of this run"),
    (added("server/1.bias", torch.ones(4)), r"server/1\.bias is not part of this run"),
    # Clients' buffers.
    (added(BUFFER, torch.ones(3)), rf"{BUFFER} has shape \(3,\) .* has shape \(260,\) and type float32"),
    (added(BUFFER, torch.ones(260, dtype=torch.float64)), rf"{BUFFER} has .* type float64"),
    (added("momentum/nobody", torch.ones(260)), "momentum/nobody is not part of this run"),
    (added("evaluation/nobody", torch.ones(260)), "evaluation/nobody is not part of this run"),
    (tensor("evaluation/client_5", filled(math.nan)), "evaluation/client_5 has NaN or infinity"),
    (tensor("evaluation/client_5", torch.sum), r"evaluation/client_5 has shape \(\)"),
    # The history.
    (notes("history"), "history has no rows, not one for each round from 0 to 3"),
    (notes("history", value={"round": 0}), "history has no rows"),
    (notes("history", value=[]), "history has 0 rows"),
    (notes("history", 3), "history has 3 rows"),
    (notes("history", 2, value=[1]), r"history\[2\] is \[1\], not a row"),
    (notes("history", 2, value=None), r"history\[2\] is None, not a row"),
    (notes("history", 2, "round", value=1), r"history\[2\]\.round is 1, not 2"),
    (notes("history", 1, "round", value=True), r"history\[1\]\.round is True, not 1"),
    (notes("history", 2, "round"), r"history\[2\]\.round is None, not 2"),
    (notes("history", 1, "stage", value=1), r"history\[1\]\.stage is 1, not 0"),
    (notes("history", 3, "algorithm", value="none"), r"history\[3\]\.algorithm is 'none', not 'FedAvg"),
    (notes("history", 3, "clients"), r"history\[3\]\.clients is missing"),
    (notes("history", 3, "clients", value="2"), r"history\[3\]\.clients is '2', not of type int"),
    (notes("history", 3, "clients", value=2.0), r"history\[3\]\.clients is 2\.0, not of type int"),
    (notes("history", 3, "train_loss_before", value=True), "train_loss_before is True, not of type float"),
    (notes("history", 2, "held_out_initial_test_loss_by_client", value="x"), "is 'x', not of type float"),
    (notes("history", 3, "clients_left_out", value=-1), r"clients_left_out is -1, not in \[0, inf\]"),
    (notes("history", 2, "held_out_initial_test_accuracy_by_client", value=1.5), r"is 1\.5, not in \[0, 1\]"),
    (notes("history", 0, "clients", value=2), r"history\[0\]\.clients is not part of this run"),
    (notes("history", 3, "clients_left_out", value=None), "clients_left_out is None, not of type int"),
    (notes("history", 3, "gain", value=1.0), r"history\[3\]\.gain is not part of this run"),
    # The scores.
    (notes("table", value=[1]), r"table has the columns \[1\]; this run's has client_id, epoch, test_loss"),
    (notes("table", "epoch"), "table has the columns client_id, test_loss, .*; this run's has"),
    (notes("table", "test_loss", value=[1.0]), "table.test_loss does not have 12 rows"),
    (notes("table", "test_loss", value=1.0), "table.test_loss does not have 12 rows"),
    (
        notes("table", "test_loss", 3, value="low"),
        "test_loss has 'low' in it, not a value of type float",
    ),
    (
        notes("table", "test_accuracy", 3, value=1.5),
        r"test_accuracy has 1\.5 in it, which is not in \[0",
    ),
    (notes("table", "test_accuracy", 3, value=math.nan), "test_accuracy has nan in it"),
    (notes("table", "num_test_predictions", 0, value=True), "has True in it, not a value of type int"),
    (notes("table", "client_id", 0, value="nobody"), "table.client_id is not that of the evaluated clients"),
    (notes("table", "epoch", 0, value=7), "table.epoch is not that of the evaluated clients"),
    (notes("more", value=1), "unknown field 'more'"),
]


@pytest.mark.parametrize(("forge", "message"), FORGED)
def test_a_forged_checkpoint_with_a_right_checksum_is_refused_by_field(
    tiny_images: FederatedDataset,
    after_three_rounds: Path,
    tmp_path: Path,
    forge: Callable[..., None],
    message: str,
) -> None:
    path, content = tmp_path / "run", content_of(after_three_rounds)
    forge(*content)
    write_checkpoint(path, *content)
    before = path.read_bytes()
    told = rf"checkpoint {path} cannot be used: .*{message}.*; delete it to start again$"
    with pytest.raises(CheckpointError, match=told):
        go(tiny_images, path)
    assert path.read_bytes() == before


def test_the_genuine_one_goes_on(
    tiny_images: FederatedDataset, after_three_rounds: Path, tmp_path: Path
) -> None:
    path, killed = tmp_path / "run", tmp_path / ".run.0a.unfinished"
    path.write_bytes(after_three_rounds.read_bytes())
    killed.touch()  # what a kill during a save leaves
    assert_same_runs(go(tiny_images, path), go(tiny_images, tmp_path / "whole"))
    assert not killed.exists()
    killed.touch()
    go(tiny_images, path)  # nothing is left to do, and nothing is saved
    assert not killed.exists()


# What a run itself writes is never refused ----------------------------------------------------------------


class Scaled(nn.Module):
    """Has a parameter without dimensions, and one with a name that could be a path."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.add_module("a/step", nn.Linear(64, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.get_submodule("a/step")(x.flatten(1))


def interrupted_runs_agree(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: Model,
    data: FederatedDataset,
    stages: Sequence[Stage] = STAGES,
    params: Params | None = None,
) -> None:
    """Resume from the checkpoint of every round."""
    train = partial(quietly, model, data, stages, params=params)
    whole = train(checkpoint=Checkpoint(folder / "whole"))
    write = checkpoints.write_checkpoint
    for stop in range(4):
        checkpoint = Checkpoint(folder / f"{stop}", every=1)

        def stopping(file: Path, tensors: dict[str, Tensor], *rest: Any, stop: int = stop) -> None:
            write(file, tensors, *rest)
            if int(tensors["round_number"]) == stop:
                raise OSError("stopped")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="stopped"):
            patch.setattr("fl_meta.training.progress.write_checkpoint", stopping)
            train(checkpoint=checkpoint)
        assert_same_runs(train(checkpoint=checkpoint), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_model_resumes(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    model = Model("scaled", Scaled)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # Adam counts its steps in it
    try:
        params = model.init(0, dtype)
        interrupted_runs_agree(tmp_path, monkeypatch, model, tiny_images, params=params)
    finally:
        torch.set_default_dtype(default)


def test_squares_that_overflow_resume(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    # The pseudo-gradient's square is too large for its type, and Adam leaves the parameters as they are.
    stages = [Stage(fedavg(1, client=SGD(1e25), server=Adam(0.01), batch_size=None), 1, 2)]
    model, path = logistic(tiny_images), tmp_path / "run"
    params = model.init(0)
    done = quietly(model, tiny_images, stages, params=params, checkpoint=Checkpoint(path))
    assert torch.isinf(done.state.server["1.bias"]["exp_avg_sq"]).any()
    again = quietly(model, tiny_images, stages, params=params, checkpoint=Checkpoint(path))
    assert_same_runs(again, done)


# What is in the checkpoint's place ------------------------------------------------------------------------


def test_a_checkpoint_that_is_a_link_is_written_through(
    tiny_images: FederatedDataset, tmp_path: Path
) -> None:
    link, real = tmp_path / "run", tmp_path / "disk" / "real"
    link.symlink_to(real)
    whole = go(tiny_images, link)
    assert link.is_symlink() and real.is_file() and list(real.parent.iterdir()) == [real]
    assert_same_runs(go(tiny_images, link), whole)


def what_it_is(path: Path) -> tuple[int, int, int]:
    """Kind, file and time of the last change. Following a link moves the time of its last use."""
    status = path.lstat()
    return status.st_mode, status.st_ino, status.st_mtime_ns


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (os.mkfifo, CheckpointError, "is not a file; choose another path"),
        (lambda path: path.symlink_to("/dev/zero"), CheckpointError, "is not a file; choose another path"),
        (Path.mkdir, CheckpointError, "is a folder; name a file in it"),
        (lambda path: path.symlink_to(path), OSError, "its links lead in a circle; choose another name"),
    ],
    ids=["pipe", "device", "folder", "circle"],
)
def test_what_is_no_file_is_refused_and_stays(
    tiny_images: FederatedDataset,
    tmp_path: Path,
    make: Callable[[Path], None],
    error: type[Exception],
    message: str,
) -> None:
    path = tmp_path / "run"
    make(path)
    before = what_it_is(path)
    with pytest.raises(error, match=message):
        go(tiny_images, path)
    assert what_it_is(path) == before


def test_a_name_that_is_too_long_is_told(tiny_images: FederatedDataset, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long; choose a shorter name"):
        go(tiny_images, tmp_path / ("n" * 300))


def test_old_stages_are_not_refused_for_what_they_kept(
    tiny_images: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the other order: what the first stage keeps is gone in the second.
    stages = [replace(STAGES[1], rounds=2), replace(STAGES[0], rounds=2)]
    interrupted_runs_agree(tmp_path, monkeypatch, logistic(tiny_images), tiny_images, stages)
