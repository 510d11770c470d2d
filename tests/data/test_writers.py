import hashlib
import io
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import fl_meta
from fl_meta.data.encoding import CHARACTERS
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.synthetic import writers
from fl_meta.data.synthetic.handwriting import Knobs, render_writer
from fl_meta.data.synthetic.writers import load_writers
from fl_meta.plots.examples import glyph_sheet, same_ink_sheet

PARTS = ("train_x", "train_y", "test_x", "test_y")


def same_client(one: FederatedDataset, other: FederatedDataset, client_id: str) -> bool:
    mine, its = one[client_id], other[client_id]
    return all(np.array_equal(getattr(mine, part), getattr(its, part)) for part in PARTS)


def test_a_writer_is_the_same_in_any_set_and_order() -> None:
    few = load_writers(10, cache=False, mean_examples=30)
    many = load_writers(50, cache=False, mean_examples=30)
    assert few.client_ids == many.client_ids[:10]
    assert all(same_client(few, many, client_id) for client_id in few.client_ids)
    for writer in (9, 7):
        images, labels = render_writer(writer, Knobs(mean_examples=30))
        client = few[f"writer_{writer:05d}"]
        assert np.array_equal(images, np.concatenate([client.train_x, client.test_x]))
        assert np.array_equal(labels, np.concatenate([client.train_y, client.test_y]))


def test_the_split_does_not_change_the_examples() -> None:
    one = load_writers(4, cache=False, test_fraction=0.2)
    other = load_writers(4, cache=False, test_fraction=0.5)
    none = load_writers(4, cache=False, test_fraction=0)
    assert np.array_equal(one.x, other.x) and np.array_equal(one.y, none.y)
    assert (none.test_counts == 0).all()
    assert np.allclose(other.test_counts, other.counts / 2, atol=0.5)
    assert (load_writers(2, cache=False, mean_examples=10, test_fraction=0.01).test_counts == 1).all()
    assert (one.train_counts >= 1).all()


def test_images_are_ink_on_paper_inside_the_frame() -> None:
    data = load_writers(20, cache=False)
    assert data.x.dtype == np.float32 and data.x.shape[1:] == (28, 28) and data.y.dtype == np.int64
    assert data.x.min() == 0 and data.x.max() == 1
    assert np.array_equal(np.rint(data.x * 255) / np.float32(255), data.x)
    share = data.x.mean(axis=(1, 2))
    assert share.min() > 0.01 and share.max() < 0.5
    border = np.pad(np.zeros((26, 26), dtype=bool), 1, constant_values=True)
    assert data.x[:, border].mean() < 0.01 * data.x[:, ~border].mean()
    assert data.x[:, border].max(axis=1).mean() < 0.1


# The data set and its cache --------------------------------------------------------------------------------


def test_it_says_that_it_is_synthetic() -> None:
    data = load_writers(3, cache=False, seed=4, style=0.5)
    assert data.synthetic and data.label == "writers (synthetic)"
    assert "writers (synthetic)" in repr(data) and "(synthetic)" in data._repr_html_()
    assert "generated" in data.source and "seed=4" in data.source and "style=0.5" in data.source
    assert data.client_ids == ("writer_00000", "writer_00001", "writer_00002")
    assert "".join(data.class_names) == CHARACTERS and data.num_classes == 62


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_writers": 0}, "num_writers=0"),
        ({"style": -0.1}, r"style=-0.1 is not in \[0, 10\]"),
        ({"style": float("nan")}, "style=nan"),
        ({"label_skew": -1}, "label_skew=-1"),
        ({"label_skew": float("inf")}, "label_skew=inf"),
        ({"size_skew": float("nan")}, "size_skew=nan"),
        ({"mean_examples": 9}, "mean_examples=9 must be 10 or more"),
        ({"mean_examples": float("nan")}, "mean_examples=nan"),
        ({"test_fraction": 1.0}, r"test_fraction=1.0 is not in \[0, 1\)"),
        ({"test_fraction": float("nan")}, "test_fraction=nan"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_writers(**({"num_writers": 2, "cache": False} | options))


def test_the_cache_gives_the_same_data(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FL_META_CACHE", str(tmp_path / "new folder"))
    drawn = load_writers(5, mean_examples=20)
    (file,) = (tmp_path / "new folder").iterdir()
    monkeypatch.setattr(writers, "_draw_all", lambda *_: pytest.fail("drawn although cached"))
    cached = load_writers(5, mean_examples=20)
    assert cached.fingerprint == drawn.fingerprint and cached.x.dtype == np.float32
    # The split is made after reading: no second file.
    load_writers(5, mean_examples=20, test_fraction=0.5)
    assert list((tmp_path / "new folder").iterdir()) == [file]


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("FL_META_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_writers(2, mean_examples=10)
    assert len(list((tmp_path / "fl_meta").iterdir())) == 1


def test_every_argument_and_the_generators_version_are_in_the_name(tmp_path, monkeypatch) -> None:
    def name(count: int = 2, **options: float) -> str:
        return writers._cache_file(count, Knobs(**options), tmp_path).name

    options = [{"seed": 1}, {"style": 0.9}, {"label_skew": 0.9}, {"size_skew": 0.9}, {"mean_examples": 99}]
    names = {name(), name(3), *(name(**option) for option in options)}
    assert len(names) == 7
    monkeypatch.setattr(writers, "GENERATOR_VERSION", writers.GENERATOR_VERSION + 1)
    assert name() not in names


def test_the_generator_draws_what_its_version_stands_for() -> None:
    """A change detector: if it fails and the change is wanted, raise GENERATOR_VERSION and renew the digest.

    Otherwise cached images and checkpoints of the old generator would pass for those of the new one. The mean
    ink of squares of 4×4 pixels, rounded, does not depend on the last bits of a processor's arithmetic.
    """
    images, labels = render_writer(7, Knobs(seed=3, mean_examples=30))
    squares = images.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4))
    digest = hashlib.sha256(labels.astype("<i8").tobytes())
    digest.update(np.rint(squares * 32).astype(np.uint8).tobytes())
    assert (writers.GENERATOR_VERSION, digest.hexdigest()) == (
        1,
        "e403f48fc6df897c856f749911e2afb654b89471c3de02174dad87ca8d3a64fc",
    )


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def other_arrays(_: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, images=np.zeros((2, 28, 28), np.uint8), labels=np.zeros(2, int), counts=np.array([2]))
    return file.getvalue()


def changed(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    """Another array of that name, with its right checksum."""

    def harm(content: bytes) -> bytes:
        with np.load(io.BytesIO(content)) as arrays:
            file = io.BytesIO()
            np.savez(file, **dict(arrays) | {key: change(arrays[key])})
        return file.getvalue()

    return harm


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[: len(content) // 2],
        lambda _: b"no archive",
        flipped,
        other_arrays,
        changed("labels", lambda labels: labels + 999),
        changed("labels", lambda labels: -1 - labels),
        changed("labels", lambda labels: labels * 1.0),
        changed("counts", lambda counts: counts * 1.0),
        changed("counts", lambda counts: counts * [-1, 1, 1] + [0, 2 * counts[0], 0]),
    ],
)
def test_a_damaged_cache_is_made_again(harm: Callable[[bytes], bytes], tmp_path) -> None:
    good = load_writers(3, mean_examples=20, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(harm(file.read_bytes()))
    with pytest.warns(UserWarning, match="drawn again"):
        again = load_writers(3, mean_examples=20, cache=tmp_path)
    assert again.fingerprint == good.fingerprint
    # Without a warning, which would be an error.
    assert load_writers(3, mean_examples=20, cache=tmp_path).fingerprint == good.fingerprint


def test_an_unwritable_cache_only_warns(tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="not cached"):
        data = load_writers(2, mean_examples=20, cache=tmp_path / "file" / "cache")
    assert data.fingerprint == load_writers(2, mean_examples=20, cache=False).fingerprint


# On demand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"seed": 5, "style": 0.5}, {"test_fraction": 0}, {"label_skew": 0, "size_skew": 3}]
)
def test_on_demand_the_images_are_the_same_bit_for_bit(options: dict[str, float]) -> None:
    eager = load_writers(9, cache=False, mean_examples=30, **options)
    lazy = load_writers(9, on_demand=True, mean_examples=30, **options)
    assert lazy.client_ids == eager.client_ids and lazy.source == eager.source and lazy.label == eager.label
    assert all(same_client(lazy, eager, client_id) for client_id in reversed(eager.client_ids))
    for mine, its in zip(lazy, eager, strict=True):
        arrays = [(getattr(mine, part), getattr(its, part)) for part in PARTS]
        assert all(one.dtype == other.dtype and one.flags.writeable for one, other in arrays)
    assert repr(lazy) == repr(eager) and np.array_equal(lazy.class_counts(), eager.class_counts())
    assert lazy.pooled().fingerprint == eager.pooled().fingerprint


def test_nothing_is_drawn_before_a_client_is_read(tmp_path, monkeypatch) -> None:
    drawn = []
    draw = writers.draw_writer
    monkeypatch.setattr(writers, "draw_writer", lambda i, knobs: drawn.append(i) or draw(i, knobs))
    monkeypatch.setenv("FL_META_CACHE", str(tmp_path / "cache"))
    data = load_writers(3000, on_demand=True, mean_examples=10)
    train, held_out = data.split_clients()
    assert "3,000 clients" in repr(data) and data.fingerprint != train.fingerprint != held_out.fingerprint
    assert data.class_counts().sum() == len(data.x) and len(data.subset(data.client_ids[:7])) == 7
    assert drawn == []
    assert not (tmp_path / "cache").exists()
    # Those who were read last are still there; read through any subset, they are the same clients.
    for whose in (data, data.subset(["writer_02000", "writer_00007"])):
        whose["writer_00007"], whose["writer_02000"]
    assert drawn == [7, 2000]


def test_few_images_are_kept_however_many_are_read(monkeypatch) -> None:
    monkeypatch.setattr(writers, "RECENT_BYTES", 10**6)
    data = load_writers(150, on_demand=True, mean_examples=100)
    data["writer_00000"]  # fonts are read once
    floats = data.x.shape[0] * 28 * 28 * 4
    tracemalloc.start()
    try:
        for client_id in data.client_ids:
            data[client_id]
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Beside what is kept, the peak has the work of drawing one writer of up to 500 examples.
    assert kept < 1.2 * 10**6 and peak < 0.3 * floats, (kept, peak, floats)


def test_a_client_larger_than_what_is_kept_can_be_read_and_what_is_done_to_it_stays_with_it(
    monkeypatch,
) -> None:
    eager = load_writers(2, cache=False, mean_examples=10)
    for most in (writers.RECENT_BYTES, 1):
        monkeypatch.setattr(writers, "RECENT_BYTES", most)
        data = load_writers(2, on_demand=True, mean_examples=10)
        data["writer_00001"].train_x[:] = -1
        assert same_client(data, eager, "writer_00001")


def test_threads_read_the_same_clients(monkeypatch) -> None:
    eager = load_writers(12, cache=False, mean_examples=20)
    monkeypatch.setattr(writers, "RECENT_BYTES", 28 * 28 * int(eager.counts.max()) * 3)  # three clients
    lazy = load_writers(12, on_demand=True, mean_examples=20)
    order = np.random.default_rng(0).integers(12, size=400)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda i: same_client(lazy, eager, f"writer_{i:05d}"), order))


def test_training_evaluation_and_resuming_see_no_difference(tmp_path) -> None:
    def run(on_demand: bool, path: str) -> fl_meta.Run:
        data = load_writers(8, mean_examples=12, cache=False, on_demand=on_demand)
        train, held_out = data.split_clients()
        return fl_meta.train(
            fl_meta.models.mlp(data),
            train,
            [fl_meta.Stage(fl_meta.fedavg(epochs=1), rounds=3, clients_per_round=4)],
            evaluation=fl_meta.Evaluation(held_out, every=1, personalization_epochs=1),
            checkpoint=fl_meta.Checkpoint(tmp_path / path, every=1),
            progress=False,
        )

    eager, lazy = run(False, "eager"), run(True, "lazy")
    assert eager.history.equals(lazy.history)
    assert all(torch.equal(eager.params[name], lazy.params[name]) for name in eager.params)
    assert run(True, "lazy").history.equals(lazy.history)
    # Which images a checkpoint is of is known from their recipe, without drawing them.
    with pytest.raises(fl_meta.training.checkpoints.CheckpointError, match="data"):
        run(True, "eager")


def test_a_fingerprint_on_demand_changes_with_the_knobs_and_the_version(monkeypatch) -> None:
    def fingerprint(**options: float) -> str:
        return load_writers(5, on_demand=True, mean_examples=10, size_skew=0, **options).fingerprint

    base = fingerprint()
    # Other styles have the same labels, and differ in their images alone.
    assert len({base, fingerprint(style=0.9), fingerprint(style=0.9000001), fingerprint(seed=1)}) == 4
    few = load_writers(9, on_demand=True, mean_examples=10, size_skew=0)
    assert few.subset(few.client_ids[:5]).fingerprint == base == fingerprint()
    monkeypatch.setattr(writers, "GENERATOR_VERSION", writers.GENERATOR_VERSION + 1)
    assert fingerprint() != base


def test_a_cache_folder_has_nothing_to_keep_of_images_on_demand(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"cache='.*', but images on demand are not cached; leave out one"):
        load_writers(2, on_demand=True, cache=tmp_path)


def test_pictures_of_writers_on_demand() -> None:
    eager, lazy = (load_writers(5, cache=False, mean_examples=40, on_demand=o) for o in (False, True))
    for sheet in (glyph_sheet, same_ink_sheet):
        assert np.array_equal(drawn_sheet(sheet(lazy)), drawn_sheet(sheet(eager)))


# The sheet -------------------------------------------------------------------------------------------------


def drawn_sheet(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_the_sheet_shows_one_example_per_cell_and_says_synthetic() -> None:
    data = load_writers(4, cache=False, label_skew=0, mean_examples=300)
    figure = glyph_sheet(data, ["writer_00002", "writer_00000"], "0Oo")
    axes = figure.axes[0]
    assert "(synthetic)" in axes.get_title()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "O", "o"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["writer_00002", "writer_00000"]
    client = data["writer_00002"]
    labels = np.concatenate([client.train_y, client.test_y])
    images = np.concatenate([client.train_x, client.test_x])[labels == CHARACTERS.index("O")]
    assert any(np.allclose(drawn_sheet(figure)[:28, 30:58], image) for image in images)
    figure.savefig(io.BytesIO())


def test_the_sheet_leaves_a_blank_where_there_is_no_example() -> None:
    x = np.ones((4, 28, 28, 1), dtype=np.float32)
    data = FederatedDataset.from_arrays(x, [0, 0, 1, 1], ["ann", "ann", "bob", "bob"], class_names="ab")
    sheet = drawn_sheet(glyph_sheet(data, characters="ab"))
    assert [sheet[0, 0], sheet[0, 30], sheet[30, 0], sheet[30, 30]] == [1, 0, 0, 1]


def test_the_sheet_refuses_what_it_cannot_draw() -> None:
    data = load_writers(2, cache=False)
    coloured = FederatedDataset.from_arrays(np.zeros((2, 8, 8, 3)), [0, 0], ["a", "a"], class_names="c")
    for drawn, options, message in (
        (data, {"characters": "é"}, "no class named 'é'"),
        (data, {"client_ids": []}, "must not be empty"),
        (coloured, {"characters": "c"}, "8×8×3"),
    ):
        with pytest.raises(ValueError, match=message):
            glyph_sheet(drawn, **options)
    with pytest.raises(KeyError, match="nobody"):
        glyph_sheet(data, client_ids=["nobody"])
