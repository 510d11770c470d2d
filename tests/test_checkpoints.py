"""Checkpoints: bit for bit there and back, refused when damaged or foreign, never unpickled, always whole."""

import math
import pickle  # noqa: TID251
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fl_meta.training.checkpoints import CheckpointError, _digest, read_checkpoint, write_checkpoint

TENSORS = {
    "params/0.weight": torch.tensor([[1.5, -0.0, math.nan], [math.inf, 1e-45, 3.0]]),
    "params/0.bias": torch.linspace(0, 1, 5, dtype=torch.float64),
    "server/0.bias/step": torch.tensor(7.0),
    "round_number": torch.tensor(12),
    "nothing": torch.empty(0),
    "not contiguous": torch.arange(6.0).reshape(2, 3).T,
}
CONFIG = {"seed": 3, "model": "mlp", "evaluation.every": None}
PROGRESS = {"history": [{"round": 0, "loss": math.nan}, {"round": 1, "loss": 0.1 + 0.2}]}


def bits(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().numpy().tobytes()


def written(folder: Path) -> Path:
    path = folder / "run.safetensors"
    write_checkpoint(path, TENSORS, CONFIG, PROGRESS)
    return path


def assert_content(tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    assert {name: bits(t) for name, t in tensors.items()} == {name: bits(t) for name, t in TENSORS.items()}
    # repr tells NaN equal to NaN, and shows every bit of a float.
    assert repr(progress) == repr(PROGRESS)


def test_there_and_back_bit_for_bit(tmp_path: Path) -> None:
    assert_content(*read_checkpoint(written(tmp_path), CONFIG))


def test_folders_are_made_and_nothing_else_is_left_there(tmp_path: Path) -> None:
    path = written(tmp_path / "runs" / "today")
    written(tmp_path / "runs" / "today")
    assert list(path.parent.iterdir()) == [path]


def test_another_configuration_is_refused_by_field(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, {"seed": 4, "evaluation.every": 5, "stages[1].rounds": 9})
    told = str(caught.value)
    assert f"{path} is from another configuration: seed is 3 in the checkpoint and 4 in this run; " in told
    for told_of in (
        "model is 'mlp' {} None",
        "evaluation.every is None {} 5",
        "stages[1].rounds is None {} 9",
    ):
        assert told_of.format("in the checkpoint and") + " in this run" in told
    assert "Use the same configuration" in told
    assert path.read_bytes() == before


# --- damage ---------------------------------------------------------------------------------------------


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cannot be read .* delete it to start again"):
            read_checkpoint(path, CONFIG)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError):
        read_checkpoint(path, CONFIG)


@pytest.mark.slow
def test_every_flipped_bit_is_noticed_or_does_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = bytearray(path.read_bytes())
    numbers = len(whole) - sum(t.numel() * t.element_size() for t in TENSORS.values())
    for place in range(len(whole)):
        for bit in range(8):
            whole[place] ^= 1 << bit
            path.write_bytes(whole)
            whole[place] ^= 1 << bit
            try:
                content = read_checkpoint(path, CONFIG)
            except CheckpointError:
                continue
            # A header has room for another blank; a number has not.
            assert place < numbers
            assert_content(*content)


@pytest.mark.parametrize("content", [b"\0" * 8, b"\xff" * 64, b'{"params": 1}', None], ids=repr)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.safetensors cannot be read"):
        read_checkpoint(path, CONFIG)
    with pytest.raises(CheckpointError, match="is a folder; name a file in it"):
        read_checkpoint(tmp_path, CONFIG)


def test_what_the_system_does_not_let_read_is_not_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\); it may be whole"):
        read_checkpoint(path, CONFIG)


def test_somebody_elses_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    for metadata, message in (
        (None, "it has no notes; delete it"),
        ({"sha256": "0" * 64}, "it has no notes; delete it"),
        ({"notes": "{}"}, "it has no sha256; delete it"),
        ({"notes": "{}", "sha256": "0" * 64}, r"is damaged \(checksum differs\)"),
    ):
        save_file({"weight": torch.ones(2)}, path, metadata)
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(path, {})
    # With the right tensors, but a number changed behind the checksum's back:
    good = written(tmp_path).read_bytes()
    path.write_bytes(good.replace(np.float64(0.25).tobytes(), np.float64(0.5).tobytes()))
    assert path.read_bytes() != good
    with pytest.raises(CheckpointError, match=r"is damaged \(checksum differs\)"):
        read_checkpoint(path, CONFIG)


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"config": {"seed": ' + "1" * 5000 + '}, "progress": {}}', "cannot be read"),
        ("null", "it has no config"),
        ("[1]", "it has no config"),
        ("{}", "it has no config"),
        ('{"config": [], "progress": {}}', "it has no config"),
        ('{"config": {"seed": 3, "model": "mlp"}}', "it has no progress"),
        ('{"config": {"seed": 3, "model": "mlp"}, "progress": [1]}', "it has no progress"),
        (
            '{"config": {"seed": [3], "model": "mlp"}, "progress": {}}',
            r"seed is \[3\] in the checkpoint",
        ),
    ],
)
def test_forged_notes_with_a_right_checksum_are_refused_by_field(
    tmp_path: Path, notes: str, message: str
) -> None:
    path = tmp_path / "run"
    tensors = {"params/w": torch.ones(2)}
    save_file(tensors, path, {"notes": notes, "sha256": _digest(tensors, notes)})
    with pytest.raises(CheckpointError, match=rf"checkpoint {path} .*{message}"):
        read_checkpoint(path, CONFIG)


TYPES = (torch.bool, torch.int8, torch.bfloat16, torch.complex64, torch.float8_e4m3fn)


@pytest.mark.parametrize("kind", TYPES)
def test_any_type_of_number_is_kept(tmp_path: Path, kind: torch.dtype) -> None:
    tensors = {name: torch.ones(shape).to(kind) for name, shape in (("vector", (3,)), ("number", ()))}
    write_checkpoint(tmp_path / "run", tensors, CONFIG, {})
    read, _ = read_checkpoint(tmp_path / "run", CONFIG)
    assert {name: tensor.dtype for name, tensor in read.items()} == dict.fromkeys(tensors, kind)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_never_opened(tmp_path: Path) -> None:
    went_off = tmp_path / "went off"
    by_pickle, by_torch = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    by_pickle.write_bytes(pickle.dumps(Bomb(went_off)))
    torch.save(Bomb(went_off), by_torch)
    for path in (by_pickle, by_torch):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(path, {})
    assert not went_off.exists()
    pickle.loads(by_pickle.read_bytes())  # noqa: S301
    assert went_off.exists()
