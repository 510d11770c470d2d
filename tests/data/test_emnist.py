"""EMNIST's IDX files; what is damaged is in test_readers.py."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_files import idx, letters

from fl_meta.data import load_dataset


@pytest.mark.parametrize("key", ["emnist", "emnist compressed"])
def test_letters_of_emnist_are_upright(small: Callable[..., Path], key: str) -> None:
    small(key)
    data = load_dataset("emnist")
    client = data["pooled"]
    assert client.train_y.tolist() == [0, 61, 35] and client.test_y.tolist() == [10]
    assert np.array_equal(np.rint(client.train_x * 255), letters([0, 61, 35]))
    assert (client.test_x[0, 0] == 1).all() and [data.class_names[i] for i in (0, 61, 35, 10)] == [*"0zZA"]


IMAGES, LABELS = letters([0, 61, 35]).transpose(0, 2, 1), np.array([0, 61, 35])


@pytest.mark.parametrize(
    ("kind", "data", "problem"),
    [
        ("images-idx3", idx(IMAGES) + b"\0", "has 2,353 bytes of values, but its header says 2,352"),
        ("images-idx3", idx(IMAGES, magic=9), "begins with 00000903"),
        ("images-idx3", idx(IMAGES)[:10], "begins with 00000803 and the sizes (3,)"),
        ("images-idx3", idx(IMAGES[:2]), "holds 2 train images; the whole data set has 3 train images"),
        ("labels-idx1", idx(LABELS[:2]), "holds 2 train images; the whole data set has 3 train images"),
        ("labels-idx1", idx(IMAGES), "begins with 00000803"),
    ],
)
def test_a_wrong_idx_file_is_an_error_that_names_it(
    small: Callable[..., Path], kind: str, data: bytes, problem: str
) -> None:
    path = small("emnist") / f"emnist-byclass-train-{kind}-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_dataset("emnist")
