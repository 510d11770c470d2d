"""EMNIST without writers, from its IDX files."""

from __future__ import annotations

from fl_meta.data.catalogue import check_counts
from fl_meta.data.encoding import CHARACTERS
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.arrays import check_range
from fl_meta.data.files.checksum import verified_file
from fl_meta.data.files.idx import read_idx
from fl_meta.data.published.assembly import Examples, pooled_client


def load_emnist() -> FederatedDataset:
    """EMNIST by class: 62 classes (0-9, A-Z, a-z), 697,932 train and 116,323 test images, without writers.

    All of them belong to one client, "pooled". Read from emnist/emnist-byclass-{train,test}-images-idx3-ubyte
    and …-labels-idx1-ubyte, compressed (.gz) or not. The images take 2.6 GB of memory.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), upright; the files hold them
        transposed. `y` [examples] int64.

    Source: Cohen et al. (2017).
    """
    splits = list[Examples]()
    for split in ("train", "test"):
        paths = [
            verified_file("emnist", f"{file}.gz", file)
            for file in (f"emnist-byclass-{split}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
        ]
        images, labels = read_idx(paths[0], (28, 28)), read_idx(paths[1], ())
        for path, values in zip(paths, (images, labels), strict=True):
            check_counts(path, "emnist", **{f"{split}_images": len(values)})
        check_range(paths[1], "labels", labels, len(CHARACTERS))
        splits.append((images.transpose(0, 2, 1), labels))
    return pooled_client("emnist", splits[:1], splits[1:], CHARACTERS)
