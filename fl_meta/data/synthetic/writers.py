"""Synthetic handwriting by any number of writers, as a federated data set that needs no download."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import astuple
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from fl_meta.data.encoding import CHARACTERS, as_floats
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.files.arrays import check_range, read_arrays
from fl_meta.data.on_demand import OnDemand
from fl_meta.data.synthetic.handwriting import Knobs, draw_labels, draw_writer
from fl_meta.data.synthetic.strokes import IMAGE_SIZE
from fl_meta.support.array_types import ByteArray, Float32Array, IntArray
from fl_meta.support.atomic_files import write_atomically
from fl_meta.support.folders import cache_folder, named_folder
from fl_meta.support.validation import share, whole_number

# Raise this when the same knobs and seed begin to give other images. Cached images are then drawn again, and
# checkpoints of images on demand are refused.
GENERATOR_VERSION = 1
# Recently drawn images are kept, because personalization reads a client again after every epoch.
RECENT_BYTES = 64 * 2**20


def load_writers(
    num_writers: int = 200,
    *,
    seed: int = 0,
    style: float = 1.0,
    label_skew: float = 1.0,
    size_skew: float = 1.0,
    mean_examples: int = 100,
    test_fraction: float = 0.2,
    on_demand: bool = False,
    cache: bool | str | Path = True,
) -> FederatedDataset:
    """Synthetic handwriting, 62 classes (0-9, A-Z, a-z), with one client per writer.

    Client `writer_00007` is a function of the seed and the knobs, but not of `num_writers`.

    Args:
        num_writers: number of writers, who are numbered from 0.
        seed: seed of all draws.
        style: how much the writers' hands, and the meanings of their shapes, differ; 0 gives all the same
            style. See `Knobs`.
        label_skew: how much their class frequencies differ; 0 makes all classes equally frequent.
        size_skew: how much their numbers of examples differ; 0 gives everyone `mean_examples`.
        mean_examples: mean number of examples per writer, 10 or more.
        test_fraction: share of each writer's examples in the test part (rounded; at least one in each part);
            0 leaves the test parts empty.
        on_demand: draw a writer's images, always the same ones, whenever that client is read, instead of
            keeping them: for more writers than fit into memory. The labels are drawn at once (10 to 15
            seconds for 100,000 writers).
        cache: where to cache the drawn images: a folder; `True` for `$FL_META_CACHE`, else
            `$XDG_CACHE_HOME/fl_meta`, else `~/.cache/fl_meta`; `False` for no cache. If the file cannot be
            read or written, there is a warning, and the images are drawn. Images on demand are not cached.

    Returns:
        `x` [examples, 28, 28] float32 from 0 (paper) to 1 (ink), `y` [examples] int64.
    """
    knobs = Knobs(seed, style, label_skew, size_skew, mean_examples)
    num_writers = whole_number("num_writers", num_writers)
    test_fraction = share("test_fraction", test_fraction)
    if on_demand and not isinstance(cache, bool):
        raise ValueError(
            f"cache={str(cache)!r}, but images on demand are not cached; leave out one of the two"
        )
    x: Float32Array | OnDemand
    if on_demand:
        x, labels, counts = _on_demand(num_writers, knobs)
    else:
        images, labels, counts = _drawn_or_cached(num_writers, knobs, cache)
        x = as_floats(images)
    test_counts = np.rint(counts * test_fraction).astype(np.int64)
    if test_fraction > 0:
        test_counts = np.clip(test_counts, 1, counts - 1)
    # A writer's examples come in random order, so the first ones are a random train part.
    return FederatedDataset(
        name="writers",
        x=x,
        y=labels,
        client_ids=tuple(f"writer_{writer:05d}" for writer in range(num_writers)),
        starts=np.cumsum(counts) - counts,
        train_counts=counts - test_counts,
        test_counts=test_counts,
        num_classes=len(CHARACTERS),
        class_names=tuple(CHARACTERS),
        synthetic=True,
        source=(
            f"generated from Hershey strokes, not written by people: seed={seed}, style={style:g}, "
            f"label_skew={label_skew:g}, size_skew={size_skew:g}, mean_examples={mean_examples}"
        ),
    )


Drawn = tuple[ByteArray, IntArray, IntArray]


def _draw_all(num_writers: int, knobs: Knobs) -> Drawn:
    """Images and labels of all writers, one after another, and each writer's number of examples."""
    images, labels = zip(*(draw_writer(writer, knobs) for writer in range(num_writers)), strict=True)
    counts = np.array([len(drawn) for drawn in labels], dtype=np.int64)
    return np.concatenate(images), np.concatenate(labels), counts


def _on_demand(num_writers: int, knobs: Knobs) -> tuple[OnDemand, IntArray, IntArray]:
    """Images on demand and labels of all writers, and each writer's number of examples."""
    labels = [draw_labels(writer, knobs) for writer in range(num_writers)]
    counts = np.array([len(drawn) for drawn in labels], dtype=np.int64)
    recent_clients = RECENT_BYTES // (int(counts.max()) * IMAGE_SIZE**2)
    recent = lru_cache(recent_clients)(partial(draw_writer, knobs=knobs))
    images = OnDemand(
        make=lambda writer: as_floats(recent(writer)[0]),
        counts=counts,
        example_shape=(IMAGE_SIZE, IMAGE_SIZE),
        dtype=np.dtype(np.float32),
        recipe=_recipe(knobs),
    )
    return images, np.concatenate(labels), counts


def _recipe(knobs: Knobs) -> str:
    """A digest of all that the images depend on: the knobs, the generator and what it calls."""
    versions = [GENERATOR_VERSION, np.__version__, version("Hershey-Fonts")]
    return hashlib.sha256("\n".join(map(str, [*astuple(knobs), *versions])).encode()).hexdigest()


def _cache_file(num_writers: int, knobs: Knobs, cache: Literal[True] | str | Path) -> Path:
    folder = named_folder("FL_META_CACHE") or cache_folder() if cache is True else Path(cache).expanduser()
    return folder / f"writers-{num_writers}-{_recipe(knobs)[:16]}.npz"


def _drawn_or_cached(num_writers: int, knobs: Knobs, cache: bool | str | Path) -> Drawn:
    if cache is False:
        return _draw_all(num_writers, knobs)
    path = _cache_file(num_writers, knobs, cache)
    try:
        return _read(path, num_writers)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # a damaged archive can make zipfile and numpy raise almost anything
        warnings.warn(f"{path} cannot be read; the images are drawn again ({error})", stacklevel=3)
    images, labels, counts = drawn = _draw_all(num_writers, knobs)
    try:
        write_atomically(path, lambda file: np.savez(file, images=images, labels=labels, counts=counts))
    except OSError as error:
        warnings.warn(f"the drawn images are not cached: {error}", stacklevel=3)
    return drawn


def _read(path: Path, num_writers: int) -> Drawn:
    images, labels, counts = read_arrays(path, "images", "labels", "counts")
    if labels.dtype != np.int64 or counts.dtype != np.int64:
        raise ValueError(f"it holds labels of type {labels.dtype} and counts of type {counts.dtype}")
    shapes = (images.shape, labels.shape, counts.shape)
    examples = int(counts.sum())
    expected = ((examples, IMAGE_SIZE, IMAGE_SIZE), (examples,), (num_writers,))
    if shapes != expected or images.dtype != np.uint8:
        raise ValueError(f"it holds arrays of shape {shapes}, not {expected}")
    check_range(path, "labels", labels, len(CHARACTERS))
    check_range(path, "counts", counts, examples + 1)
    return images, labels, counts
