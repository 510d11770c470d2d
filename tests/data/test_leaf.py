import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import LINE, Users, leaf_content, leaf_images, leaf_windows, write_json

from fl_meta import models
from fl_meta.data import load_dataset
from fl_meta.data.encoding import VOCABULARY, encode
from fl_meta.data.federated import PADDING
from fl_meta.data.published.leaf import load_femnist_leaf, load_shakespeare_leaf


@pytest.fixture
def femnist(place: Path) -> Path:
    """Three writers in two files of train/, two of them in one file of test/."""
    folder = place / "femnist_leaf"
    for file, users in {
        "train/all_data_0_keep_0_train_9.json": {"f1_02": leaf_images(3, 61)},
        "train/all_data_1_keep_0_train_9.json": {"b": leaf_images(0), "a": leaf_images(9, 10)},
        "test/all_data_0_keep_0_test_9.json": {"a": leaf_images(36), "f1_02": leaf_images(35)},
    }.items():
        write_json(folder / file, leaf_content(users))
    return folder


def test_writers_of_all_files_have_their_images_with_ink_as_one(femnist: Path) -> None:
    data = load_dataset("femnist_leaf")
    assert data.client_ids == ("a", "b", "f1_02") and data.num_classes == 62
    assert data.x.shape == (7, 28, 28) and data.x.dtype == np.float32 and data.y.dtype == np.int64
    assert [client.train_y.tolist() for client in data] == [[9, 10], [0], [3, 61]]
    # b is in train/ only.
    assert [client.test_y.tolist() for client in data] == [[36], [], [35]]
    for image, label in zip(np.asarray(data.x).reshape(-1, 784), data.y, strict=True):
        assert np.flatnonzero(image).tolist() == [label] and image[label] == pytest.approx(0.75)


W = {"w": leaf_images(5)}
DAMAGED = "damaged, or not LEAF's JSON"
JSON = f"{DAMAGED} with users, num_samples and user_data"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            leaf_content({"w": leaf_images(5, 6) | {"y": ["5", "6"]}}),
            "y of client 'w' has shape (2,) and type",
        ),
        (leaf_content({"w": leaf_images(5, 6) | {"x": [[1.0] * 784, [1.0]]}}), DAMAGED),
        (leaf_content(W, num_samples=[2]), "user 'w' has 1 examples, but num_samples says 2"),
        (leaf_content(W, num_samples=[1, 2]), DAMAGED),
        (
            leaf_content(W, users=["w", "v"], num_samples=[1, 1]),
            "user 'v' is listed in users, but is not in user_data",
        ),
        (
            leaf_content(W | {"v": leaf_images(6)}, users=["w"], num_samples=[1]),
            "user 'v' has 1 examples, but num_samples says 0",
        ),
        (leaf_content(W, users=["w", "w"], num_samples=[1, 1]), "lists a user twice among its 2"),
        ([1, 2], DAMAGED),
        (
            leaf_content({"w": leaf_images(5) | {"x": [["0.25"] * 784]}}),
            f"{JSON} (ValueError('a pixel",
        ),
        (
            leaf_content({"w": leaf_images(5) | {"x": [[True] * 783 + [0.5]]}}),
            f"{JSON} (ValueError('a pixel",
        ),
        (
            leaf_content({"w": leaf_images(5, 6) | {"y": [5, True]}}),
            f"{JSON} (ValueError('a label",
        ),
        (leaf_content(W, users=[None], num_samples=[1]), "the client id None is not UTF-8 text"),
        (leaf_content(W, users=[True], num_samples=[1]), "the client id True is not UTF-8 text"),
        (leaf_content({"\ud800": leaf_images(5)}), r"the client id '\ud800' is not UTF-8 text"),
        (leaf_content(W, num_samples=[10**400]), "user 'w' has 1 examples, but num_samples says 1000"),
        (
            leaf_content({"w": leaf_images(5) | {"y": [10**30]}}),
            "y of client 'w' has shape (1,) and type obj",
        ),
        (leaf_content({"w": {"x": [[float("inf")] * 784], "y": [5]}}), "pixels of client 'w' are not all in"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it(femnist: Path, written: object, problem: str) -> None:
    path = write_json(femnist / "test/all_data_0_keep_0_test_9.json", written)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_femnist_leaf()


@pytest.mark.parametrize("key", ["w", "x"])
def test_a_name_that_is_there_twice_is_an_error(femnist: Path, key: str) -> None:
    """Python's json would take the second."""
    path = write_json(femnist / "test/all_data_0_keep_0_test_9.json", leaf_content(W))
    text = path.read_text()
    at = text.index(f'"{key}": ', text.index("user_data"))
    other = json.dumps(leaf_images(7)) if key == "w" else "[]"
    path.write_text(f'{text[:at]}"{key}": {other}, {text[at:]}')
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: {JSON} (ValueError('an object has a name twice')")
    ):
        load_femnist_leaf()


def test_what_is_no_file_of_the_data_set_is_said_or_passed_over(femnist: Path) -> None:
    expected = load_femnist_leaf().fingerprint
    (femnist / "train/._all_data_0_keep_0_train_9.json").write_bytes(b"\0\5\x16\7")  # by macOS
    assert load_femnist_leaf().fingerprint == expected
    for make in (Path.mkdir, lambda path: path.symlink_to(femnist / "nothing")):
        path = femnist / "train/x.json"
        make(path)
        with pytest.raises(ValueError, match=re.escape(f"{path}: is a folder, or a link that leads nowhere")):
            load_femnist_leaf()
        path.unlink() if path.is_symlink() else path.rmdir()


def test_a_user_in_two_files_of_one_part_is_an_error(femnist: Path) -> None:
    path = write_json(femnist / "train/all_data_2_keep_0_train_9.json", leaf_content({"a": leaf_images(1)}))
    with pytest.raises(ValueError, match=re.escape(f"{path}: user 'a' is in another file of train/ too")):
        load_femnist_leaf()


def test_users_of_a_single_example_that_leaf_left_empty_are_no_clients(femnist: Path) -> None:
    users = {"a": leaf_images(36), "lone": {"x": [], "y": []}}
    content = leaf_content(users, users=["a"], num_samples=[1])
    write_json(femnist / "test/all_data_0_keep_0_test_9.json", content)
    assert load_femnist_leaf().client_ids == ("a", "b", "f1_02")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_user_without_examples_has_an_empty_part(femnist: Path, part: str) -> None:
    users = {"a": leaf_images(36), "f1_02": {"x": [], "y": []}}
    file = next((femnist / part).glob("*0_keep*"))
    others = [path for path in femnist.glob("*/*.json") if path.parent.name == part and path != file]
    for path in others:
        path.unlink()
    write_json(file, leaf_content(users))
    data = load_femnist_leaf()
    client = data["f1_02"]
    empty = (client.train_x, client.train_y) if part == "train" else (client.test_x, client.test_y)
    assert [values.shape for values in empty] == [(0, 28, 28), (0,)]
    assert (data.x.dtype, data.y.dtype) == (np.float32, np.int64)


def test_all_users_of_both_folders_may_be_empty_but_none_is_an_error(femnist: Path) -> None:
    for path in list(femnist.glob("*/*.json")):
        write_json(path, leaf_content({}))
    with pytest.raises(
        ValueError, match=re.escape(f"{femnist}: the files in train/ and test/ hold no users")
    ):
        load_femnist_leaf()
    write_json(path, leaf_content({"w": {"x": [], "y": []}}))
    data = load_femnist_leaf()
    assert data.client_ids == ("w",) and data.x.shape == (0, 28, 28) and data.y.dtype == np.int64


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_a_mark_of_the_byte_order_and_its_encoding_are_understood(femnist: Path, encoding: str) -> None:
    before = load_femnist_leaf().fingerprint
    for path in femnist.glob("*/*.json"):
        path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    assert load_femnist_leaf().fingerprint == before


def test_users_may_be_numbers(femnist: Path) -> None:
    """In a list JSON has numbers, but the names of an object are always text."""
    users = {"7": leaf_images(3), "1.5": leaf_images(4)}
    write_json(femnist / "test/all_data_0_keep_0_test_9.json", leaf_content(users, users=[7, 1.5]))
    data = load_femnist_leaf()
    assert data["7"].test_y.tolist() == [3] and data["1.5"].test_y.tolist() == [4]


# Shakespeare ----------------------------------------------------------------------------------------------


def write_roles(place: Path, train: Users) -> Path:
    """RICHARD's LINE in the test part; returns the file of the train part."""
    paths = [
        write_json(
            place / f"shakespeare_leaf/{part}/all_data_{part}_9.json",
            leaf_content(users, hierarchies=["A_PLAY"] * len(users)),
        )
        for part, users in (("test", {"RICHARD": leaf_windows(LINE)}), ("train", train))
    ]
    return paths[1]


@given(st.text("To be, or\n", min_size=1, max_size=100))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_the_last_position_of_a_window_has_a_label(place: Path, line: str) -> None:
    write_roles(place, {"RICHARD": leaf_windows(line)})
    data = load_dataset("shakespeare_leaf")
    client = data["RICHARD"]
    assert client.train_x.shape == client.train_y.shape == (len(line), 80)
    assert data.x.dtype == np.uint8 and data.y.dtype == np.int16 and "".join(data.class_names) == VOCABULARY
    assert (client.train_y[:, :-1] == PADDING).all()
    assert client.train_y[:, -1].tolist() == encode(line).tolist()
    # The last character of each window is the one before its label.
    assert client.train_x[1:, -1].tolist() == encode(line)[:-1].tolist()
    assert client.train_x[0].tolist() == encode(" " * 80).tolist()
    assert len(client.test_y) == len(LINE)


def test_a_text_model_is_scored_on_one_character_of_each_window(place: Path) -> None:
    write_roles(place, {"RICHARD": leaf_windows(LINE)})
    data = load_shakespeare_leaf()
    assert data.class_counts().sum() == 2 * len(LINE)
    model = models.char_mlp(data)
    x, y = (torch.as_tensor(part[:4].astype(np.int64)) for part in (data.x, data.y))
    params = model.init(0)
    # By hand: the mean over the four labels that there are.
    at_the_end = torch.log_softmax(model.apply(params, x)[:, -1], dim=-1)[range(4), y[:, -1]]
    assert model.loss(params, x, y).item() == pytest.approx(-at_the_end.mean().item(), rel=1e-5)


def test_a_role_without_windows_has_an_empty_part(place: Path) -> None:
    write_roles(place, {"RICHARD": {"x": [], "y": []}})
    client = load_shakespeare_leaf()["RICHARD"]
    assert client.train_x.shape == client.train_y.shape == (0, 80)
    assert client.train_x.dtype == np.uint8 and client.train_y.dtype == np.int16
    assert len(client.test_y) == len(LINE)


def test_text_that_nests_without_end_is_damaged(place: Path) -> None:
    path = write_roles(place, {"A": leaf_windows("ab")})
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {DAMAGED}")):
        load_shakespeare_leaf()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"x": ["too short"] * 2}, "x of client 'A' has shape (2, 9)"),
        ({"x": [" " * 80, "short"]}, DAMAGED),
        ({"x": [5, 6]}, DAMAGED),
        ({"y": ["ab", "cd"]}, "y of client 'A' has shape (2, 2)"),
        ({"y": ["a"]}, "user 'A' has 2 windows but 1 labels"),
    ],
)
def test_a_wrong_window_is_an_error(place: Path, changed: dict[str, Any], problem: str) -> None:
    path = write_roles(place, {"A": leaf_windows("ab") | changed})
    with pytest.raises(ValueError, match=re.escape(f"{path}: {problem}")):
        load_shakespeare_leaf()
