"""TensorFlow Federated's files, SQLite and HDF5; what may be wrong in any format is in test_readers.py."""

import lzma
import os
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import (
    ADAM,
    FORMATS,
    PUCK,
    ROLES,
    WRITERS,
    Split,
    example,
    hdf5_roles,
    papers,
    photo,
    tff_sqlite,
    write_tff_cifar,
    writer_examples,
)

from fl_meta.data import load_dataset
from fl_meta.data.catalogue import located
from fl_meta.data.encoding import BLANK, VOCABULARY, decode, encode
from fl_meta.data.federated import PADDING, FederatedDataset
from fl_meta.data.files.download import check_files
from fl_meta.data.files.tf_example import features
from fl_meta.data.published.cifar import CIFAR100_CLASSES
from fl_meta.data.published.shakespeare import read_roles
from fl_meta.data.published.tensorflow_federated import (
    TITLES,
    load_cifar100_tff,
    load_emnist_tff,
    load_shakespeare_tff,
    play_of,
)

# EMNIST ---------------------------------------------------------------------------------------------------


@pytest.fixture
def emnist(small: Callable[..., Path]) -> Path:
    return small("emnist_tff in SQLite") / "emnist_all.sqlite"


def assert_emnist_is_read() -> str:
    data = load_dataset("emnist_tff")
    assert data.client_ids == tuple(sorted(WRITERS)) and data.num_classes == 62
    assert "".join(data.class_names[i] for i in (0, 9, 10, 35, 36, 61)) == "09AZaz"
    assert data.x.dtype == np.float32 and data.x.shape == (7, 28, 28) and data.y.dtype == np.int64
    for writer, parts in WRITERS.items():
        client = data[writer]
        seen = ((client.train_x, client.train_y), (client.test_x, client.test_y))
        for labels, (x, y) in zip(parts, seen, strict=True):
            # Ink is 1 here, and examples are in the order of the file.
            assert y.tolist() == labels
            assert np.array_equal(x, 1 - papers(y))
            assert x.reshape(len(x), -1).sum(axis=1).tolist() == [0.75] * len(x)
    return data.fingerprint


@pytest.mark.usefixtures("emnist")
def test_the_digits_are_another_split() -> None:
    data = load_emnist_tff(only_digits=True)
    assert data.client_ids == ("f0000_14",) and data.class_names == tuple("0123456789")
    assert data["f0000_14"].train_y.tolist() == [3, 8] and data["f0000_14"].test_y.tolist() == [1]


def test_a_packed_file_is_unpacked_beside_it_once(emnist: Path, publish: Callable[[str, Path], None]) -> None:
    packed = emnist.with_suffix(".sqlite.lzma")
    packed.write_bytes(lzma.compress(emnist.read_bytes(), format=lzma.FORMAT_ALONE))
    publish("emnist_tff", packed)
    whole = emnist.read_bytes()
    emnist.unlink()
    # It is known to `data list` and `data check` too.
    assert located("emnist_tff") == [packed]
    assert [told for *_, told in check_files("emnist_tff")] == ["checksum as published"]
    assert_emnist_is_read()
    assert located("emnist_tff") == [emnist]
    assert emnist.read_bytes() == whole
    packed.write_bytes(b"no longer read")
    assert_emnist_is_read()
    assert sorted(path.name for path in emnist.parent.iterdir()) == [emnist.name, packed.name, "fetched.json"]
    # What was unpacked is known from then on.
    emnist.write_bytes(whole[:-1] + b"!")
    with pytest.raises(ValueError, match=re.escape(f"{emnist}: does not match the checksum sha256:")):
        load_emnist_tff()
    emnist.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{packed}: has 14 bytes, but must have ")):
        load_emnist_tff()


@pytest.mark.parametrize("share", [0, 0.4, 0.9])
def test_a_packed_file_that_was_cut_off_is_an_error_and_leaves_nothing(
    emnist: Path, publish: Callable[[str, Path], None], share: float
) -> None:
    """Also if the checksum is that of the damaged file."""
    packed = emnist.with_suffix(".sqlite.lzma")
    whole = lzma.compress(emnist.read_bytes())
    packed.write_bytes(whole[: int(share * len(whole))])
    publish("emnist_tff", packed)
    emnist.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{packed}: damaged")):
        load_emnist_tff()
    assert {path.name for path in emnist.parent.iterdir()} == {packed.name, "fetched.json"}


def test_emnist_has_the_writers_images_with_ink_as_one_in_both_formats(
    emnist: Path, small: Callable[..., Path]
) -> None:
    before = assert_emnist_is_read()
    emnist.unlink()
    small("emnist_tff in HDF5")
    assert assert_emnist_is_read() == before


def example_of(**changed: Any) -> bytes:
    return example(**({"label": 5, "pixels": papers([5])[0]} | changed))


TRAIN, TEST = writer_examples(0), writer_examples(1)
DAMAGED = "an example of client 'f0000_14' is damaged"
WRONG_EXAMPLES = [
    ([example_of(label=[1, 2])], "label of client 'f0000_14' has shape (1, 2)"),
    ([example_of(pixels=b"\0" * 784)], "pixels of client 'f0000_14' has shape (1, 1) and type object"),
    ([example(label=5)], "client 'f0000_14' has no array 'pixels'; it has label"),
    ([example_of()[:-9]], DAMAGED),
    ([b""], "client 'f0000_14' has no array 'pixels'"),
    ([example_of(), example_of(pixels=papers([5])[0][1:])], f"{DAMAGED}, or unlike the others"),
]


@pytest.mark.parametrize(
    ("train", "test", "numbers", "problem"),
    [
        *((TRAIN | {"f0000_14": blobs}, TEST, (), problem) for blobs, problem in WRONG_EXAMPLES),
        (
            *(TRAIN, TEST, [("lost", "all_train", 2)]),
            "client 'lost' has 0 examples in split 'all_train', but the table client_",
        ),
        (
            *(TRAIN, TEST, [("f0000_14", "all_test", 7)]),
            "client 'f0000_14' has 1 examples in split 'all_test', but the table client_metadata says 7",
        ),
        (
            *(TRAIN, {"f0000_14": TEST["f0000_14"]}, ()),
            "client 'f4099_10' is only in one of the train part and the test part",
        ),
        ({}, {}, (), "holds 0 writers, 0 train images; the whole data set has 2 writers, 4 train images"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_file_and_client(
    emnist: Path, train: Split, test: Split, numbers: Sequence[tuple[str, str, int]], problem: str
) -> None:
    tff_sqlite(emnist, {"all_train": train, "all_test": test, "train": TRAIN, "test": TEST}, numbers)
    with pytest.raises(ValueError, match=re.escape(f"{emnist}: {problem}")):
        load_emnist_tff()


def test_an_example_of_a_client_that_the_table_lacks_is_an_error(emnist: Path) -> None:
    with closing(sqlite3.connect(emnist)) as connection, connection:
        connection.execute("DELETE FROM client_metadata WHERE client_id = 'f4099_10'")
    with pytest.raises(ValueError, match=r"'f4099_10' has 1 examples in split 'all_train', but .* says 0"):
        load_emnist_tff()


def test_a_client_that_the_table_says_has_no_examples_has_an_empty_part(
    emnist: Path, expect: Callable[..., None]
) -> None:
    expect("emnist_tff", writers=2, train_images=4, test_images=1)
    lacking = [("f4099_10", "all_test", 0)]
    test = {"f0000_14": TEST["f0000_14"]}
    tff_sqlite(emnist, {"all_train": TRAIN, "all_test": test}, lacking)
    client = load_emnist_tff()["f4099_10"]
    assert client.train_y.tolist() == [0] and client.test_x.shape == (0, 28, 28)


def test_the_digits_have_counts_of_their_own(emnist: Path, expect: Callable[..., None]) -> None:
    expect("emnist_tff", digits_writers=3_383, digits_train_images=341_873, digits_test_images=40_832)
    problem = "holds 1 digits writers, 2 digits train images; the whole data set has 3,383 digits writers"
    with pytest.raises(ValueError, match=re.escape(f"{emnist}: {problem}")):
        load_emnist_tff(only_digits=True)


@given(
    floats=st.lists(st.floats(width=32, allow_nan=False), min_size=1),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    text=st.binary(),
)
def test_any_feature_is_read_as_it_was_written(floats: list[float], numbers: list[int], text: bytes) -> None:
    blob = example(floats=np.array(floats, np.float32), numbers=np.array(numbers, np.int64), text=text)
    read = features(Path("file"), "client", [blob, blob])
    assert read["floats"].tolist() == [floats] * 2 and read["floats"].dtype == np.float32
    assert read["numbers"].tolist() == [numbers] * 2
    assert read["text"].tolist() == [[text]] * 2


# HDF5 -----------------------------------------------------------------------------------------------------


def test_an_empty_array_in_hdf5_is_an_empty_part_whatever_type_it_has(
    small: Callable[..., Path], expect: Callable[..., None]
) -> None:
    folder = small("emnist_tff in HDF5")
    expect("emnist_tff", writers=2, train_images=4, test_images=2)
    with h5py.File(folder / "fed_emnist_test.h5", "a") as file:
        group = file["examples/f0000_14"]
        for key in ("pixels", "label"):
            del group[key]
            group[key] = np.array([])
    data = load_emnist_tff()
    assert data["f0000_14"].test_x.shape == (0, 28, 28) and data["f0000_14"].test_y.dtype == np.int64


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (h5py.Empty("f"), "client 'f0000_14' has no array 'label'"),
        (np.float32(5), "client 'f0000_14' has no array 'label'"),
        ("text", "client 'f0000_14' has no array 'label'"),
    ],
)
def test_what_is_no_array_in_hdf5_is_an_error(
    small: Callable[..., Path], values: object, problem: str
) -> None:
    path = small("emnist_tff in HDF5") / "fed_emnist_test.h5"
    with h5py.File(path, "a") as file:
        del file["examples/f0000_14/label"]
        file["examples/f0000_14/label"] = values
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_emnist_tff()


def test_a_name_of_an_array_that_is_no_text_is_an_error(small: Callable[..., Path]) -> None:
    path = small("emnist_tff in HDF5") / "fed_emnist_test.h5"
    path.write_bytes(path.read_bytes().replace(b"pixels", b"pixel\xe4"))
    with pytest.raises(ValueError, match=re.escape(f"{path}: client 'f0000_14' has no array 'pixels'")):
        load_emnist_tff()


@pytest.mark.parametrize("damage", ["of length 0", "too long", "cut off"])
def test_a_damaged_heap_is_refused_before_hdf5_loops_over_it(small: Callable[..., Path], damage: str) -> None:
    """The library reads a value with the number 0 and the length 0 again and again."""
    path = small("shakespeare_tff in HDF5") / "shakespeare_train.h5"
    with h5py.File(path, "w") as file:
        for role, (said, _) in ROLES.items():
            file.create_dataset(f"examples/{role}/snippets", data=said, dtype=h5py.string_dtype())
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    if damage == "of length 0":
        content[heap + 16 : heap + 32] = bytes(16)
    elif damage == "too long":
        content[heap + 26] = 1
    else:
        content[heap + 8 : heap + 16] = (2**40).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, the heap at byte {heap} does not end")):
        load_shakespeare_tff()


def test_a_shape_larger_than_the_file_is_not_filled_into_memory(small: Callable[..., Path]) -> None:
    path = small("emnist_tff in HDF5") / "fed_emnist_test.h5"
    with h5py.File(path, "a") as file:
        del file["examples/f0000_14/pixels"]
        file["examples/f0000_14"].create_dataset("pixels", (10**9, 28, 28), np.float32, chunks=(100, 28, 28))
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged, pixels of 'f0000_14' is larger")):
        load_emnist_tff()


# CIFAR-100 ------------------------------------------------------------------------------------------------


def test_cifar_100_has_training_and_test_clients_each_with_both_parts(small: Callable[..., Path]) -> None:
    small("cifar100_tff")
    data = load_dataset("cifar100_tff")
    # Both client 0 are there: they are not the same client.
    assert data.client_ids == ("test_0", "train_0", "train_7")
    assert data.train_counts.tolist() == [8, 4, 4] and data.test_counts.tolist() == [2, 1, 1]
    assert data.x.dtype == np.float32 and data.x.shape == (20, 3, 32, 32)
    assert data.class_names == CIFAR100_CLASSES
    for client, labels in zip(data, ([*range(50, 60)], [*range(5)], [96, 97, 98, 99, 99]), strict=True):
        x = np.concatenate([client.train_x, client.test_x])
        y = np.concatenate([client.train_y, client.test_y])
        assert sorted(y.tolist()) == labels
        assert (x[:, 0, 0, 31] == 0).all() and (x[:, 0, 31, 0] == 1).all()
        assert np.allclose(x[:, 1, 1:], 10 / 255) and np.allclose(x[:, 2, 1, 1] * 255, y)


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (
            photo(3, coarse_label=7),
            "example 5 of client '0' has label 3 with coarse label 7; CIFAR-100 has 8",
        ),
        (photo(3, image=np.full(3072, -1)), "pixels of client '0' are not all in 0 to 255"),
        (photo(3, image=np.full(3072, 256)), "pixels of client '0' are not all in 0 to 255"),
    ],
)
def test_a_mislabelled_photo_is_an_error(small: Callable[..., Path], blob: bytes, problem: str) -> None:
    path = small("cifar100_tff") / "cifar100.sqlite"
    write_tff_cifar(path.parent, more=[blob])
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_cifar100_tff()


# Shakespeare ----------------------------------------------------------------------------------------------


@pytest.fixture
def roles(small: Callable[..., Path]) -> Path:
    return small("shakespeare_tff in HDF5")


@pytest.mark.usefixtures("roles")
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


def test_strings_of_any_length_in_the_file_are_read_too(roles: Path) -> None:
    before = load_shakespeare_tff().fingerprint
    for part, file in enumerate(FORMATS["shakespeare_tff in HDF5"].files):
        with h5py.File(roles / file, "w") as changed:
            for role, snippets in ROLES.items():
                changed.create_dataset(
                    f"examples/{role}/snippets", data=snippets[part], dtype=h5py.string_dtype("utf-8")
                )
    assert load_shakespeare_tff().fingerprint == before


@pytest.mark.parametrize("kind", ["HDF5", "SQLite"])
@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_out_of_the_files(
    small: Callable[..., Path], expect: Callable[..., None], kind: str, data: st.DataObject
) -> None:
    folder = small(f"shakespeare_tff in {kind}")
    said = st.lists(st.text(VOCABULARY[:BLANK], max_size=20), min_size=1, max_size=4)
    roles = data.draw(st.dictionaries(st.sampled_from("ABC"), st.tuples(said, said), min_size=1))
    positions = data.draw(st.sampled_from([1, 3, 7, 80]))
    if kind == "HDF5":
        for part, file in enumerate(("shakespeare_train.h5", "shakespeare_test.h5")):
            hdf5_roles(folder / file, part, roles)
    else:
        splits = {
            split: {
                role: [example(snippets=text.encode()) for text in parts[i]] for role, parts in roles.items()
            }
            for i, split in enumerate(("train", "test"))
        }
        tff_sqlite(folder / "shakespeare.sqlite", splits)
    train, test = (sum(len(parts[i]) for parts in roles.values()) for i in (0, 1))
    expect("shakespeare_tff", roles=len(roles), train_snippets=train, test_snippets=test)
    loaded = load_dataset("shakespeare_tff", positions=positions)
    assert loaded.client_ids == tuple(sorted(roles))
    assert "".join(loaded.class_names) == VOCABULARY and loaded.x.shape[1:] == (positions,)
    for role, parts in roles.items():
        for snippets, labels in zip(parts, (loaded[role].train_y, loaded[role].test_y), strict=True):
            text = "".join(f"{snippet}\n" for snippet in snippets)
            assert decode(labels) == text and len(labels) == -(-len(text) // positions)


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [
        ("examples", "clients", "damaged, or not an HDF5 file with arrays in examples/"),
        (
            f"examples/{PUCK}/snippets",
            f"examples/{PUCK}/lines",
            f"client {PUCK!r} has no array 'snippets'; it has lines",
        ),
        (f"examples/{ADAM}", "ADAM", f"client {ADAM!r} is only in one of"),
    ],
)
def test_a_group_of_another_name_is_an_error(roles: Path, source: str, target: str, problem: str) -> None:
    path = roles / "shakespeare_test.h5"
    with h5py.File(path, "r+") as file:
        file.move(source, target)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_shakespeare_tff()


@pytest.mark.parametrize("title", TITLES)
def test_a_role_stands_under_the_title_that_begins_its_id(title: str) -> None:
    assert play_of(f"{title}_KING_RICHARD") == title
    assert not [other for other in TITLES if other != title and other.startswith(title)]


@pytest.mark.parametrize(
    "role", ["hamlet/HAMLET", "", "THE_TRAGEDY_OF_KING_LEAR", "THE_TRAGEDY_OF_KING_LEARS_FOOL", "X_" + PUCK]
)
def test_a_role_of_no_title_is_an_error_that_names_it(role: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"role {role!r} begins with none of the titles")):
        play_of(role)


# The real files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_roles() -> FederatedDataset:
    folder = os.environ.get("FL_META_DATA")
    if not folder or not (Path(folder) / "shakespeare_tff").is_dir():
        pytest.skip("FL_META_DATA names no folder with shakespeare_tff: the real files are not tested")
    return load_shakespeare_tff()


def test_the_roles_are_those_of_the_files(real_roles: FederatedDataset) -> None:
    assert len(real_roles) == 715 and real_roles.x.shape[1:] == (80,)
    folder, empty = Path(os.environ["FL_META_DATA"]) / "shakespeare_tff", 0
    for part, total in (("train", 16_068), ("test", 2_356)):
        with h5py.File(folder / f"shakespeare_{part}.h5", "r") as file:
            assert set(file["examples"]) == set(real_roles.client_ids)
            snippets = {
                role: file["examples"][role]["snippets"].asstr()[()] for role in real_roles.client_ids
            }
        assert sum(len(said) for said in snippets.values()) == total
        for client in real_roles:
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
def test_well_known_lines_are_spoken_by_their_role(
    real_roles: FederatedDataset, name: str, line: str
) -> None:
    client = real_roles[name]
    assert line in decode(client.train_y) + decode(client.test_y)


def test_every_role_has_a_title_and_every_title_has_roles(real_roles: FederatedDataset) -> None:
    assert {play_of(role) for role in real_roles.client_ids} == set(TITLES)


def test_no_play_is_under_two_titles(real_roles: FederatedDataset) -> None:
    """The lines of each play, known from another edition, are all found under one title."""

    def plain(line: str) -> str:
        return " ".join(re.findall("[a-z]+", line.lower()))

    plays_with = defaultdict(set)
    for role, lines in read_roles().items():
        for line in lines:
            plays_with[plain(line)].add(role.partition("/")[0])
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for client in real_roles:
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
