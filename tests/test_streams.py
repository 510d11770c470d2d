import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.engines import threads
from fl_meta.engines.threads import idle_cores, one_thread
from fl_meta.support import random_streams as streams
from fl_meta.support.random_streams import random_stream, torch_seed

KEYS = st.tuples(st.integers(0, 2**40), st.text(max_size=5), st.integers(0, 1000), st.text(max_size=5))


def draw(key: tuple[int, str, int, str]) -> list[int]:
    return random_stream(*key).integers(2**62, size=3).tolist()


@given(KEYS, KEYS)
def test_a_stream_belongs_to_its_key_alone(one: tuple, other: tuple) -> None:
    first = draw(one)
    draw(other)  # history changes nothing
    assert draw(one) == first
    assert (draw(other) == first) == (one == other)
    assert (torch_seed(*one) == torch_seed(*other)) == (one == other)


def test_the_global_generator_is_neither_read_nor_advanced() -> None:
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = random_stream(0, "p").random()
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert random_stream(0, "p").random() == first


def test_another_process_with_other_string_hashes_draws_the_same() -> None:
    code = (
        "import runpy, sys; m = runpy.run_path(sys.argv[1]);"
        "print(hash('writer_3'), m['torch_seed'](5, 'batches', 7, 'writer_3'))"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code, streams.__file__],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert answers[0][0] != answers[1][0]
    assert answers[0][1] == answers[1][1] == str(torch_seed(5, "batches", 7, "writer_3"))


def test_a_torch_seed_fits_torch_and_a_signed_integer() -> None:
    seeds = [torch_seed(0, "dropout", i) for i in range(2000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # all 63 bits are used
    torch.Generator().manual_seed(max(seeds))


@pytest.mark.parametrize("function", [lambda *key: random_stream(*key).integers(2**62), torch_seed])
def test_a_seed_may_be_of_any_length(function) -> None:
    seeds = [0, 2**32 - 1, 2**32, 2**64 - 1, 2**64, 2**70, 2**127, 2**127 + 1]
    assert len({function(seed, "p", "key") for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("function", [random_stream, torch_seed])
def test_a_negative_seed_is_refused(function) -> None:
    with pytest.raises(ValueError, match=r"seed=-1 is negative; use an integer of 0 or more"):
        function(-1, "p")


@pytest.mark.parametrize("fails", [False, True])
def test_one_thread_inside_and_the_old_number_after(fails: bool) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyError) if fails else one_thread(), one_thread():
            assert torch.get_num_threads() == 1
            if fails:
                raise KeyError
        assert torch.get_num_threads() == 3
        assert one_thread()(torch.get_num_threads)() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_cores_that_others_use_are_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(threads, "OWN", tmp_path / "task")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert idle_cores() == 4  # nothing is known
    for number, state in enumerate("RSR"):
        (tmp_path / "task" / str(number)).mkdir(parents=True)
        (tmp_path / "task" / str(number) / "stat").write_text(f"{number} (a) S b) {state} 1 2 3")
    (tmp_path / "task" / "gone").mkdir()
    for running, idle in {1: 4, 2: 4, 3: 3, 5: 1, 60: 1}.items():
        (tmp_path / "loadavg").write_text(f"0.55 1.02 1.00 {running}/78 31415\n")
        assert idle_cores() == idle


@pytest.mark.parametrize("content", [b"", b"0.1 0.2 0.3 many/78 5", b"\xff\xfe"])
def test_what_the_system_says_may_be_anything(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(threads, "OWN", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    (tmp_path / "loadavg").write_bytes(content)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(b"7 (cut\xc3) R 1")
    assert idle_cores() == 4
