"""EMNIST without writers, from its IDX files."""

from __future__ import annotations

from fl_meta.data.catalogue import check_counts
from fl_meta.data.encoding import CHARACTERS
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.arrays import any_of, check_range
from fl_meta.data.files.idx import read_idx
from fl_meta.data.published.assembly import Examples, pooled_client


def load_emnist() -> FederatedDataset:
    """EMNIST by class: 62 classes (0-9, A-Z, a-z), 697,932 train and 116,323 test images, without writers.

    They all belong to one client, "pooled". Read from emnist/emnist-byclass-{train,test}-images-idx3-ubyte
    and …-labels-idx1-ubyte, as they are or with .gz. As floats they take 2.6 GB of memory.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), upright: in the files the images are
        transposed. `y` [examples] int64.

    Raises:
        FileNotFoundError: if a file is not there; the message says what to run.
        ValueError: if a file is damaged or does not hold the whole data set.

    Source: Cohen et al. (2017).
    """
    parts = list[Examples]()
    for part in ("train", "test"):
        paths = [
            any_of("emnist", f"emnist-byclass-{part}-{kind}-ubyte.gz", f"emnist-byclass-{part}-{kind}-ubyte")
            for kind in ("images-idx3", "labels-idx1")
        ]
        images, labels = read_idx(paths[0], (28, 28)), read_idx(paths[1], ())
        for path, values in zip(paths, (images, labels), strict=True):
            check_counts(path, "emnist", **{f"{part}_images": len(values)})
        check_range(paths[1], "labels", labels, len(CHARACTERS))
        parts.append((images.transpose(0, 2, 1), labels))
    return pooled_client("emnist", parts[:1], parts[1:], CHARACTERS)
