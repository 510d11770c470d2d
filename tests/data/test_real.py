import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_meta.data import load_dataset
from fl_meta.data.catalogue import CATALOGUE
from fl_meta.data.encoding import BLANK, VOCABULARY, decode, encode
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.data.published.handwriting import load_mnist_by_writer, load_unipen62
from fl_meta.data.published.shakespeare import read_roles
from fl_meta.data.published.tensorflow_federated import TITLES, load_shakespeare_tff, play_of

LOADERS = {
    "mnist_by_writer": load_mnist_by_writer,
    "unipen62": load_unipen62,
    "shakespeare_tff": load_shakespeare_tff,
}
FILES = {
    "mnist_by_writer": ["mnist_by_writer.npz"],
    "unipen62": ["unipen62.npz"],
    "shakespeare_tff": ["shakespeare_train.h5", "shakespeare_test.h5"],
}
# Written by hand: a role's train snippets and its test snippets, in an order that is not the alphabet's.
PUCK, ADAM = "THE_TRAGEDY_OF_KING_LEAR_PUCK", "ALL_S_WELL_THAT_ENDS_WELL_ADAM"
ROLES = {
    PUCK: (["How now,\nspirit!", "", "I go, I go"], ["Lord,"]),
    ADAM: (["Yonder comes"], ["", "my master."]),
}
HANDWRITING = ["mnist_by_writer", "unipen62"]


def image(number: int) -> np.ndarray:
    """One that can be told from all others: its number in black and grey, on nothing."""
    made = np.zeros((28, 28), dtype=np.uint8)
    made[0, 0], made[1, 2] = 255, number
    return made


def arrays(name: str) -> dict[str, np.ndarray]:
    """Twelve images of three writers, who have 5, 6 and 1, in the layout of the real file."""
    writers = [2, 0, 0, 1, 2, 2, 0, 2, 0, 2, 0, 2]
    made = {
        "images": np.stack([image(number) for number in range(12)]),
        "labels": np.array([7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9], dtype=np.uint8),
        "writers": np.array(writers, dtype=np.int16),
    }
    if name == "mnist_by_writer":
        return made | {"source_index": np.arange(12, dtype=np.int32)}
    return made | {
        "writer_codes": np.array(["abc00", "abc01", "xyz00"]),
        "classes": np.array([*"0123456789"]),
    }


def write_roles(path: Path, part: int, roles: dict[str, tuple[list[str], list[str]]] = ROLES) -> None:
    with h5py.File(path, "w") as file:
        for role, snippets in roles.items():
            encoded = [snippet.encode() for snippet in snippets[part]]
            file.create_dataset(f"examples/{role}/snippets", data=np.array(encoded, dtype="S40"))


def set_counts(monkeypatch: pytest.MonkeyPatch, name: str, counts: dict[str, int]) -> None:
    monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], counts=counts))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the formats of the three data sets, in the place of the real ones."""
    for name in FILES:
        (tmp_path / name).mkdir()
    for name in HANDWRITING:
        np.savez_compressed(tmp_path / name / f"{name}.npz", **arrays(name))
    for part, file in enumerate(FILES["shakespeare_tff"]):
        write_roles(tmp_path / "shakespeare_tff" / file, part)
    monkeypatch.setenv("FL_META_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = {
        "mnist_by_writer": {"classes": 10, "writers": 3, "images": 12},
        "unipen62": {"classes": 10, "writers": 3, "images": 12},
        "shakespeare_tff": {"roles": 2, "train_snippets": 4, "test_snippets": 3},
    }
    for name, counts in small.items():
        set_counts(monkeypatch, name, counts)
    return tmp_path


# Small files of handwriting -------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "ids"),
    [("mnist_by_writer", ("writer_0000", "writer_0002")), ("unipen62", ("abc00", "xyz00"))],
)
def test_every_writer_has_the_own_images_with_their_labels(name: str, ids: tuple[str, str]) -> None:
    data = load_dataset(name)
    assert data.name == name and not data.synthetic and data.label == name
    assert data.class_names == tuple("0123456789") and data.num_classes == 10
    assert data.x.dtype == np.float32 and data.x.shape == (11, 28, 28) and data.y.dtype == np.int64
    # The writer of one image cannot be split.
    assert data.client_ids == ids
    owner = dict(zip((0, 2), ids, strict=True))
    file = arrays(name)
    for writer, client in ((writer, data[client_id]) for writer, client_id in owner.items()):
        seen = np.concatenate([client.train_x, client.test_x])
        numbers = np.rint(seen[:, 1, 2] * 255).astype(int)
        assert sorted(numbers) == np.flatnonzero(file["writers"] == writer).tolist()
        assert (seen[:, 0, 0] == 1).all() and seen.min() == 0
        assert np.array_equal(np.concatenate([client.train_y, client.test_y]), file["labels"][numbers])
        # A fifth of five or six examples, rounded.
        assert len(client.test_x) == 1 and len(client.train_x) == len(numbers) - 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("load", LOADERS.values())
def test_a_data_set_is_the_same_in_every_call(load: Callable[[], FederatedDataset]) -> None:
    assert load().fingerprint == load().fingerprint


@given(writers=st.lists(st.integers(0, 5), min_size=2, max_size=40), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_writer_of_two_or_more_images_has_both_parts_and_no_image_is_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch, writers: list[int], data: st.DataObject
) -> None:
    number_of = Counter(writers)
    if max(number_of.values()) < 2:
        writers, number_of = [*writers, writers[0]], Counter([*writers, writers[0]])
    size = len(writers)
    labels = data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    np.savez(
        folder / "mnist_by_writer" / "mnist_by_writer.npz",
        images=np.stack([image(number) for number in range(size)]),
        labels=np.array(labels, dtype=np.uint8),
        writers=np.array(writers, dtype=np.int16),
    )
    counts = {"classes": 10, "writers": len(number_of), "images": size}
    set_counts(monkeypatch, "mnist_by_writer", counts)
    loaded = load_mnist_by_writer()
    assert dict(zip(loaded.client_ids, loaded.counts.tolist(), strict=True)) == {
        f"writer_000{writer}": count for writer, count in number_of.items() if count >= 2
    }
    assert loaded.train_counts.min() >= 1 and loaded.test_counts.min() >= 1
    numbers = np.rint(np.asarray(loaded.x)[:, 1, 2] * 255).astype(int)
    assert sorted(numbers) == [i for i, writer in enumerate(writers) if number_of[writer] >= 2]
    assert loaded.y.tolist() == [labels[number] for number in numbers]


# Small files of text --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_examples_of_a_role_by_hand() -> None:
    data = load_shakespeare_tff(positions=10)
    assert data.client_ids == (ADAM, PUCK)  # by name, whatever the order of the file
    puck = data[PUCK]
    # The empty snippet is an empty line, and the line inside the first one stays where it is.
    assert [decode(row) for row in puck.train_y] == ["How now,\ns", "pirit!\n\nI ", "go, I go\n"]
    assert puck.train_x[0].tolist() == [BLANK, *encode("How now,\n")]
    assert puck.train_x[1].tolist() == [*encode("spirit!\n\nI")]
    assert puck.train_x[2].tolist() == [*encode(" go, I go"), BLANK]
    assert puck.train_y[2].tolist() == [*encode("go, I go\n"), PADDING]
    # The test part begins anew.
    assert puck.test_x.tolist() == [[BLANK, *encode("Lord,"), *[BLANK] * 4]]
    assert decode(puck.test_y) == "Lord,\n"
    assert decode(data[ADAM].train_y) == "Yonder comes\n" and decode(data[ADAM].test_y) == "\nmy master.\n"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("positions", [1, 3, 80])
def test_the_length_of_examples_does_not_change_the_text(positions: int) -> None:
    data = load_dataset("shakespeare_tff", positions=positions)
    assert data.x.shape[1:] == data.y.shape[1:] == (positions,)
    assert (data.x.dtype, data.y.dtype) == (np.uint8, np.int16)
    assert data.name == "shakespeare_tff" and data.num_classes == 100
    assert "".join(data.class_names) == VOCABULARY
    for role, parts in ROLES.items():
        for snippets, labels in zip(parts, (data[role].train_y, data[role].test_y), strict=True):
            text = "".join(f"{snippet}\n" for snippet in snippets)
            assert decode(labels) == text and len(labels) == -(-len(text) // positions)


def test_strings_of_any_length_in_the_file_are_read_too(folder: Path) -> None:
    before = load_shakespeare_tff().fingerprint
    for part, file in enumerate(FILES["shakespeare_tff"]):
        with h5py.File(folder / "shakespeare_tff" / file, "w") as changed:
            for role, snippets in ROLES.items():
                changed.create_dataset(
                    f"examples/{role}/snippets", data=snippets[part], dtype=h5py.string_dtype("utf-8")
                )
    assert load_shakespeare_tff().fingerprint == before


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_out_of_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    printable = st.text(VOCABULARY[:BLANK], max_size=20)
    snippets = st.lists(printable, min_size=1, max_size=4)
    roles = data.draw(st.dictionaries(st.sampled_from("ABC"), st.tuples(snippets, snippets), min_size=1))
    for part, file in enumerate(FILES["shakespeare_tff"]):
        write_roles(folder / "shakespeare_tff" / file, part, roles)
    counts = {
        "roles": len(roles),
        "train_snippets": sum(len(train) for train, _ in roles.values()),
        "test_snippets": sum(len(test) for _, test in roles.values()),
    }
    set_counts(monkeypatch, "shakespeare_tff", counts)
    loaded = load_shakespeare_tff(positions=7)
    assert loaded.client_ids == tuple(sorted(roles))
    for role, (train, test) in roles.items():
        assert decode(loaded[role].train_y) == "".join(f"{snippet}\n" for snippet in train)
        assert decode(loaded[role].test_y) == "".join(f"{snippet}\n" for snippet in test)


@pytest.mark.parametrize(
    ("role", "title"),
    [
        (PUCK, "THE_TRAGEDY_OF_KING_LEAR"),
        (ADAM, "ALL_S_WELL_THAT_ENDS_WELL"),
        ("PERICLES__PRINCE_OF_TYRE_KING_RICHARD", "PERICLES__PRINCE_OF_TYRE"),
        (
            "THE_FIRST_PART_OF_KING_HENRY_THE_FOURTH_KING_HENRY",
            "THE_FIRST_PART_OF_KING_HENRY_THE_FOURTH",
        ),
    ],
)
def test_a_role_stands_under_the_title_that_begins_its_id(role: str, title: str) -> None:
    assert play_of(role) == title


@pytest.mark.parametrize(
    "role", ["hamlet/HAMLET", "", "THE_TRAGEDY_OF_KING_LEAR", "THE_TRAGEDY_OF_KING_LEARS_FOOL", "X_" + PUCK]
)
def test_a_role_of_no_title_is_an_error_that_names_it(role: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"role {role!r} begins with none of the titles")):
        play_of(role)


def test_no_title_begins_with_another() -> None:
    assert not [(a, b) for a in TITLES for b in TITLES if a != b and b.startswith(a)]


@pytest.mark.parametrize("positions", [0, -80])
def test_an_example_has_at_least_one_character(positions: int) -> None:
    with pytest.raises(ValueError, match=f"positions={positions} must be 1 or more"):
        load_shakespeare_tff(positions=positions)


# What is missing ------------------------------------------------------------------------------------------

EACH_FILE = [(name, file) for name, files in FILES.items() for file in files]


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("name", LOADERS)
def test_without_the_variable_an_error_says_what_to_set_and_what_to_put_there(
    name: str, value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("FL_META_DATA", raising=False)
    else:
        monkeypatch.setenv("FL_META_DATA", value)
    with pytest.raises(FileNotFoundError, match="environment variable FL_META_DATA is not set") as caught:
        load_dataset(name)
    file = FILES[name][0]
    path = tmp_path / "fl_meta" / "data" / name / file
    assert f"ut {file} there, as {path}. It is from: " in str(caught.value)


@pytest.mark.parametrize(("name", "file"), EACH_FILE)
def test_a_missing_file_is_an_error_that_says_which_and_where_from(
    folder: Path, name: str, file: str
) -> None:
    path = folder / name / file
    path.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        LOADERS[name]()
    message = str(caught.value)
    assert f"no file {path} nor " in message and f"ut {file} there, as {path}" in message
    where = {"mnist_by_writer": "qmnist", "unipen62": "Zenodo", "shakespeare_tff": "shakespeare.tar.bz2"}
    assert where[name] in message


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_folder_is_the_same_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FL_META_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=f"no file {tmp_path / 'nowhere' / name}"):
        LOADERS[name]()


@pytest.mark.usefixtures("folder")
def test_without_h5py_an_error_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)  # what importing it then finds
    with pytest.raises(ModuleNotFoundError, match=r"'h5py', which is not installed: run `pip install h5py`"):
        load_shakespeare_tff()
    assert len(load_unipen62()) == 2  # the others do not need it


# What is damaged ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
@pytest.mark.parametrize(("name", "file"), EACH_FILE)
def test_a_file_that_was_cut_off_is_an_error_that_names_it(
    folder: Path, name: str, file: str, share: float
) -> None:
    path = folder / name / file
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged")):
        LOADERS[name]()


@pytest.mark.parametrize(("name", "file"), EACH_FILE)
def test_another_kind_of_file_is_an_error_that_names_it(folder: Path, name: str, file: str) -> None:
    path = folder / name / file
    path.write_text("<html>404 Not Found</html>")
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged")):
        LOADERS[name]()


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_of_an_npz_is_harmless_or_an_error_that_names_the_file(
    folder: Path, data: st.DataObject
) -> None:
    path = folder / "unipen62" / "unipen62.npz"
    np.savez_compressed(path, **arrays("unipen62"))
    whole = load_unipen62().fingerprint
    changed = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        found = load_unipen62().fingerprint
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert found == whole  # a date, for example: the data is protected by checksums


@pytest.mark.parametrize("name", HANDWRITING)
def test_a_pickle_in_a_file_is_not_loaded(folder: Path, name: str) -> None:
    path = folder / name / f"{name}.npz"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "sprung",))

    trap = np.empty(12, dtype=object)
    trap[:] = [Trap() for _ in range(12)]
    np.savez(path, **arrays(name) | {"labels": trap})
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, or not an .npz file without pickled")):
        LOADERS[name]()
    assert not (folder / "sprung").exists()


def test_a_single_array_is_not_an_npz(folder: Path) -> None:
    path = folder / "unipen62" / "unipen62.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged")):
        load_unipen62()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (name, key)
        for name, keys in (
            ("mnist_by_writer", ["images", "labels", "writers"]),
            ("unipen62", ["images", "labels", "writers", "writer_codes", "classes"]),
        )
        for key in keys
    ],
)
def test_a_missing_array_is_an_error(folder: Path, name: str, key: str) -> None:
    path = folder / name / f"{name}.npz"
    np.savez(path, **{one: values for one, values in arrays(name).items() if one != key})
    with pytest.raises(ValueError, match=re.escape(f"{path}: has no array {key!r}")):
        LOADERS[name]()


@pytest.mark.parametrize("name", HANDWRITING)
@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("images", lambda images: images[:, :27], "images have shape (12, 27, 28) and type uint8"),
        ("images", lambda images: images.reshape(12, 784), "images have shape (12, 784)"),
        ("images", lambda images: images / 255, "type float64; expected (…, 28, 28) of uint8"),
        ("images", lambda images: images[:11], "labels have shape (12,) and type uint8; expected one whole"),
        ("labels", lambda labels: labels[:, None], "labels have shape (12, 1)"),
        ("labels", lambda labels: labels / 2, "labels have shape (12,) and type float64"),
        ("labels", lambda labels: labels + 1, "labels[10] is 10, out of range [0, 10)"),
        ("labels", lambda labels: labels.astype(int) - 1, "labels[1] is -1, out of range [0, 10)"),
        ("writers", lambda writers: writers[1:], "writers have shape (11,)"),
        ("writers", lambda writers: writers.astype(str), "writers have shape (12,) and type <U"),
        ("writers", lambda writers: writers * 0, "holds 10 classes, 1 writers, 12 images; the whole"),
    ],
)
def test_a_damaged_array_is_an_error_that_names_file_and_problem(
    folder: Path, name: str, key: str, change: Callable[[np.ndarray], np.ndarray], problem: str
) -> None:
    path, file = folder / name / f"{name}.npz", arrays(name)
    np.savez(path, **file | {key: change(file[key])})
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        LOADERS[name]()
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("key", "values", "problem"),
    [
        ("writer_codes", ["abc00", "abc01"], "writers[0] is 2, out of range [0, 2)"),
        ("writer_codes", ["abc00", "abc01", "abc00"], "writer_codes must be distinct strings in one row"),
        ("writer_codes", [1, 2, 3], "writer_codes must be distinct strings in one row"),
        ("classes", [["0", "1"]], "classes must be distinct strings in one row; it has shape (1, 2)"),
        ("classes", list("0123456789A"), "holds 11 classes, 3 writers, 12 images"),
    ],
)
def test_damaged_names_are_an_error(folder: Path, key: str, values: list[Any], problem: str) -> None:
    path = folder / "unipen62" / "unipen62.npz"
    np.savez(path, **arrays("unipen62") | {key: np.array(values)})
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        load_unipen62()
    assert str(caught.value).startswith(f"{path}: ")


def numbers_as_snippets(file: h5py.File) -> None:
    del file[f"examples/{PUCK}/snippets"]
    file[f"examples/{PUCK}/snippets"] = [1, 2, 3]


def bytes_of_no_text(file: h5py.File) -> None:
    number = len(file[f"examples/{PUCK}/snippets"])
    del file[f"examples/{PUCK}/snippets"]
    file[f"examples/{PUCK}/snippets"] = np.array([b"\xff\xfe"] * number, dtype="S2")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (
            lambda file: file.move("examples", "clients"),
            "damaged, or not an HDF5 file with arrays in examples/",
        ),
        (
            lambda file: file.move(f"examples/{PUCK}/snippets", f"examples/{PUCK}/lines"),
            f"client {PUCK!r} has no array 'snippets'; it has lines",
        ),
        (numbers_as_snippets, f"snippets of client {PUCK!r} has shape (3,) and type int64"),
        (bytes_of_no_text, f"a snippet of client {PUCK!r} is no text"),
    ],
)
@pytest.mark.parametrize("name", FILES["shakespeare_tff"])
def test_a_damaged_group_is_an_error_that_names_the_file(
    folder: Path, name: str, damage: Callable[[h5py.File], None], problem: str
) -> None:
    path = folder / "shakespeare_tff" / name
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_shakespeare_tff()


def test_roles_that_differ_between_the_two_files_are_an_error(folder: Path) -> None:
    path = folder / "shakespeare_tff" / "shakespeare_test.h5"
    write_roles(path, 1, {PUCK: ROLES[PUCK]})
    problem = (
        f"{path}: the clients of the test part are not those of the train part; {ADAM!r} has one of them"
    )
    with pytest.raises(ValueError, match=re.escape(problem)):
        load_shakespeare_tff()


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (0, "holds 2 roles, 6 train snippets; the whole data set has 2 roles, 4 train snippets"),
        (1, "holds 5 test snippets; the whole data set has 3 test snippets"),
    ],
)
def test_another_number_of_snippets_is_an_error(folder: Path, part: int, problem: str) -> None:
    path = folder / "shakespeare_tff" / FILES["shakespeare_tff"][part]
    write_roles(path, part, ROLES | {PUCK: tuple([*snippets, "One.", "Two."] for snippets in ROLES[PUCK])})
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_shakespeare_tff()


# The real files -------------------------------------------------------------------------------------------


def loaded(name: str) -> FederatedDataset:
    """The real data set, where its files are."""
    folder = os.environ.get("FL_META_DATA")
    if not folder:
        pytest.skip(f"FL_META_DATA is not set: the real {name} is not tested")
    if not (Path(folder) / name).is_dir():
        pytest.skip(f"there is no folder {name} in {folder}, which FL_META_DATA names")
    return LOADERS[name]()


@pytest.fixture(scope="module")
def roles() -> FederatedDataset:
    return loaded("shakespeare_tff")


@pytest.fixture(scope="module", params=["mnist_by_writer", "unipen62"])
def handwriting(request: pytest.FixtureRequest) -> Iterator[FederatedDataset]:
    return loaded(request.param)


def test_all_writers_are_there_with_all_their_images(handwriting: FederatedDataset) -> None:
    # Counted when the data was chosen.
    writers, images = {"mnist_by_writer": (539, 60_000), "unipen62": (252, 84_625)}[handwriting.name]
    assert len(handwriting) == writers and handwriting.counts.sum() == images == len(handwriting.x)
    x = np.asarray(handwriting.x)
    assert x.dtype == np.float32 and (x.min(), x.max()) == (0, 1)
    assert np.array_equal(handwriting.test_counts, np.rint(handwriting.counts * 0.2))
    assert f"{writers} clients" in repr(handwriting)
    # Ink is bright and rare, and in the middle rather than in the corners.
    assert x.mean() < 0.3 and x[:, 10:18, 10:18].mean() > 10 * x[:, :3, :3].mean()


def test_every_digit_of_mnist_is_there_as_often_as_mnist_has_it() -> None:
    data = loaded("mnist_by_writer")
    # The known composition of MNIST's training set.
    mnist = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.class_counts().sum(axis=0).tolist() == mnist
    assert data.class_names == tuple("0123456789")


def test_unipen_has_62_classes_and_the_two_writers_who_wrote_much() -> None:
    data = loaded("unipen62")
    assert "".join(data.class_names) == "".join(map(chr, [*range(48, 58), *range(65, 91), *range(97, 123)]))
    assert (data.class_counts().sum(axis=0) > 0).all()
    assert data.counts[[data.position("val00"), data.position("val01")]].sum() == 8_877


def test_the_roles_are_those_of_the_files(roles: FederatedDataset) -> None:
    assert len(roles) == 715 and roles.x.shape[1:] == (80,)
    folder, empty = Path(os.environ["FL_META_DATA"]) / "shakespeare_tff", 0
    for part, total in (("train", 16_068), ("test", 2_356)):
        with h5py.File(folder / f"shakespeare_{part}.h5", "r") as file:
            assert set(file["examples"]) == set(roles.client_ids)
            snippets = {role: file["examples"][role]["snippets"].asstr()[()] for role in roles.client_ids}
        assert sum(len(said) for said in snippets.values()) == total
        for client in roles:
            text = "".join(f"{snippet}\n" for snippet in snippets[client.client_id])
            assert decode(client.train_y if part == "train" else client.test_y) == text
            empty += part == "test" and not text.strip()
    assert f"the test part of {empty} roles" in " ".join((load_shakespeare_tff.__doc__ or "").split())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("THE_TRAGEDY_OF_KING_LEAR_MACBETH", "Is this a dagger which I see before me"),
        ("THE_TRAGEDY_OF_KING_LEAR_PORTIA", "The quality of mercy is not strain'd"),
        ("ALL_S_WELL_THAT_ENDS_WELL_JAQUES", "All the world's a stage"),
        ("PERICLES__PRINCE_OF_TYRE_GLOUCESTER", "Now is the winter of our discontent"),
    ],
)
def test_well_known_lines_are_spoken_by_their_role(roles: FederatedDataset, name: str, line: str) -> None:
    client = roles[name]
    assert line in decode(client.train_y) + decode(client.test_y)


def test_every_role_has_a_title_and_every_title_has_roles(roles: FederatedDataset) -> None:
    assert {play_of(role) for role in roles.client_ids} == set(TITLES)


def test_no_play_is_under_two_titles(roles: FederatedDataset) -> None:
    """The lines of each play, known from another edition, are all found under one title."""

    def plain(line: str) -> str:
        return " ".join(re.findall("[a-z]+", line.lower()))

    plays_with = defaultdict(set)
    for role, lines in read_roles().items():
        for line in lines:
            plays_with[plain(line)].add(role.partition("/")[0])
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for client in roles:
        for line in (decode(client.train_y) + decode(client.test_y)).splitlines():
            plays = plays_with.get(plain(line), set())
            if len(plays) == 1 and len(plain(line)) > 25:
                found[next(iter(plays))][play_of(client.client_id)] += 1
    # A single line may be in two plays by chance, or in one of them in this edition alone.
    titles = {play: {title for title, count in lines.items() if count > 1} for play, lines in found.items()}
    assert all(len(under) <= 1 for under in titles.values())
    # The plays that the titles name are not in the files.
    assert not {"king-lear", "the-taming-of-the-shrew", "much-ado-about-nothing"} & set(found)
    assert titles["macbeth"] == {"THE_TRAGEDY_OF_KING_LEAR"} and titles["othello"] == {TITLES[1]}
    assert max(Counter(title for under in titles.values() for title in under).values()) == 7
