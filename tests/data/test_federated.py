from collections import Counter, deque
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.data.federated import PADDING, FederatedDataset

Parts = dict[str, tuple[list[int], list[int]]]
SEEDS = st.integers(0, 2**32)


@st.composite
def owner_lists(draw: st.DrawFn, least: int = 2) -> list[str]:
    """The client of each example: 1 to 6 clients with at least `least` examples each, in any order."""
    counts = draw(st.lists(st.integers(least, 9), min_size=1, max_size=6))
    return draw(st.permutations([f"client_{i}" for i, count in enumerate(counts) for _ in range(count)]))


def numbered(owners: list[str], **options: Any) -> FederatedDataset:
    """Example i has x = [i, −i] and y = i, so that a test can see where it went."""
    number = np.arange(len(owners))
    x = np.stack([number, -number], axis=1).astype(np.float32)
    return FederatedDataset.from_arrays(x, number, owners, **options)


def parts(data: FederatedDataset) -> Parts:
    """The numbers of each client's train and test examples, after a look at x and y."""
    result = {}
    for client in data:
        for x, y in ((client.train_x, client.train_y), (client.test_x, client.test_y)):
            assert np.array_equal(x, np.stack([y, -y], axis=1))
        result[client.client_id] = (client.train_y.tolist(), client.test_y.tolist())
    return result


# From plain arrays ----------------------------------------------------------------------------------------


@given(owner_lists(), st.floats(0, 0.99), SEEDS)
def test_every_example_lands_in_one_part_of_its_own_client(
    owners: list[str], fraction: float, seed: int
) -> None:
    split = parts(numbered(owners, test_fraction=fraction, seed=seed))
    assert split.keys() == set(owners)
    for client_id, (train, test) in split.items():
        assert sorted(train + test) == [i for i, owner in enumerate(owners) if owner == client_id]
        assert train and bool(test) == (fraction > 0)


@given(owner_lists(least=1), st.data())
def test_a_mask_says_which_examples_are_for_testing(owners: list[str], data: st.DataObject) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(owners), max_size=len(owners)))
    for client_id, (train, test) in parts(numbered(owners, test_mask=mask)).items():
        own = [i for i, owner in enumerate(owners) if owner == client_id]
        assert train == [i for i in own if not mask[i]]
        assert test == [i for i in own if mask[i]]


@pytest.mark.parametrize(
    ("examples", "fraction", "test_examples"),
    [(10, 0.2, 2), (10, 0.24, 2), (10, 0.26, 3), (3, 0.2, 1), (2, 0.01, 1), (2, 0.99, 1), (50, 0.98, 49)],
)
def test_a_share_is_rounded_but_leaves_an_example_in_each_part(
    examples: int, fraction: float, test_examples: int
) -> None:
    data = numbered(["a"] * examples, test_fraction=fraction)
    assert data.test_counts.tolist() == [test_examples]
    assert data.train_counts.tolist() == [examples - test_examples]
    assert data.counts.tolist() == [examples]


@given(owner_lists(), st.data(), SEEDS)
def test_other_clients_do_not_touch_a_clients_split(
    owners: list[str], data: st.DataObject, seed: int
) -> None:
    chosen = data.draw(st.sampled_from(owners))
    own = [i for i, owner in enumerate(owners) if owner == chosen]
    others = data.draw(st.permutations([i for i in range(len(owners)) if i not in own]))
    # The client's rows in their order, and all rows of others, as one client or none, anywhere between them.
    others = others if len(others) > 1 and data.draw(st.booleans()) else []
    rows = list(data.draw(st.permutations([*[-1] * len(own), *others])))
    for i in own:
        rows[rows.index(-1)] = i
    whole = numbered(owners, seed=seed)[chosen]
    x = np.array([[i, -i] for i in rows], dtype=np.float32)
    few = [chosen if i in own else "other" for i in rows]
    alone = FederatedDataset.from_arrays(x, rows, few, num_classes=len(owners), seed=seed)[chosen]
    assert alone.train_y.tolist() == whole.train_y.tolist() == alone.train_x[:, 0].tolist()
    assert alone.test_y.tolist() == whole.test_y.tolist() == alone.test_x[:, 0].tolist()


def test_test_examples_are_drawn_evenly_and_anew_for_each_client_and_seed() -> None:
    owners = np.repeat([f"client_{i}" for i in range(400)], 10).tolist()
    splits = [parts(numbered(owners, test_fraction=0.3, seed=seed)) for seed in (0, 1)]
    assert splits[0] == parts(numbered(owners, test_fraction=0.3, seed=0))
    for split in splits:
        places = [sorted(i % 10 for i in test) for _, test in split.values()]
        counts = np.bincount(np.concatenate(places), minlength=10)
        # 400 draws of 3 out of 10: 120 each, with a standard deviation of 9.2.
        assert counts.min() > 120 - 5 * 9.2 and counts.max() < 120 + 5 * 9.2
        assert len({tuple(place) for place in places}) > 60  # of 120 possible ones
    agree = sum(set(splits[0][c][1]) == set(splits[1][c][1]) for c in splits[0])
    assert agree < 20  # 400 / 120 expected


def test_lists_ids_of_any_type_and_options_arrive() -> None:
    data = FederatedDataset.from_arrays(
        [[0.5], [1.5], [2.5], [3.5]],
        [0, 1, 0, 1],
        [7, 3, 7, 3],
        test_mask=[False, True, True, False],
        num_classes=3,
        class_names="xyz",
        name="mine",
        source="my drawer",
    )
    assert (data.num_classes, data.class_names) == (3, ("x", "y", "z"))
    assert (data.name, data.source, data.synthetic) == ("mine", "my drawer", False)
    assert data.client_ids == ("3", "7")
    assert data["7"].train_x.tolist() == [[0.5]] and data["3"].test_y.tolist() == [1]


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ([2**63, 2**63 + 1, -1], ("-1", "9223372036854775808", "9223372036854775809")),
        ([2**53, 2**53 + 1, 0.5], ("0.5", "9007199254740992", "9007199254740993")),
        ([2**64 - 1, 3], ("18446744073709551615", "3")),
        (np.array([2**64 - 1, 3], np.uint64), ("18446744073709551615", "3")),
        (np.arange(2).astype(np.longdouble), ("0.0", "1.0")),
        (["é".encode(), b"a"], ("a", "é")),
        (np.array(["é".encode(), b"a"]), ("a", "é")),
        ([torch.tensor(4), torch.tensor(5)], ("4", "5")),
        (["nan", "None"], ("None", "nan")),  # names of people, given as a list
        (pd.Categorical(["u", "v"]), ("u", "v")),
        (deque(["a", 1]), ("1", "a")),
    ],
)
def test_different_ids_stay_different_clients(ids: Any, names: tuple[str, ...]) -> None:
    examples = np.arange(len(ids))
    data = FederatedDataset.from_arrays(examples[:, None] * 1.0, examples * 0, ids, test_fraction=0)
    assert data.client_ids == names and data.counts.tolist() == [1] * len(names)


def test_a_mask_of_pandas_without_gaps_is_a_mask() -> None:
    mask = pd.Series([True, False, True, False], dtype="boolean")
    data = FederatedDataset.from_arrays(**GOOD, test_mask=mask)
    assert data.test_counts.tolist() == [1, 1]


def test_a_given_array_is_left_as_it_was() -> None:
    x, y = np.arange(6.0).reshape(6, 1), np.arange(6)
    data = FederatedDataset.from_arrays(x, y, ["b", "a"] * 3)
    data.x[:] = -1
    assert x.ravel().tolist() == y.tolist() == [0, 1, 2, 3, 4, 5]


def test_padding_is_a_label_of_texts_only_and_not_counted() -> None:
    y = np.array([[1, PADDING], [1, 0], [2, PADDING]], dtype=np.int16)
    data = FederatedDataset.from_arrays(np.zeros((3, 2)), y, ["a", "a", "b"], test_fraction=0)
    assert data.class_counts().tolist() == [[1, 2, 0], [0, 0, 1]]


GOOD: dict[str, Any] = {"x": np.zeros((4, 2)), "y": [0, 1, 0, 1], "client_ids": ["a", "a", "b", "b"]}
IN_THIRD = np.eye(4, 2, k=-2)  # 1 in the third example first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((3, 2))}, r"x, y and client_ids have 3, 4 and 4 entries; they must be equal"),
        ({"y": [0, 1]}, r"4, 2 and 4 entries"),
        ({"client_ids": ["a", "b"]}, r"4, 4 and 2 entries"),
        ({"x": np.zeros((0, 2)), "y": [], "client_ids": []}, r"x is empty; give at least one example"),
        (
            {"x": np.where(IN_THIRD, np.nan, 0)},
            r"x has NaN or infinity, first in example 2; remove",
        ),
        ({"x": np.where(IN_THIRD, -np.inf, 0)}, r"NaN or infinity, first in example 2"),
        ({"x": np.array(["a", "b", "a", "b"])}, r"x has type <U1; give numbers"),
        ({"y": [0, 1, 0, 5], "num_classes": 5}, r"label 5 of example 3 is out of range \[0, 5\)"),
        ({"y": [0, -1, 0, 1]}, r"label -1 of example 1 is out of range \[0, 2\)"),
        ({"y": [[0, 1], [-2, 0], [0, 1], [0, -1]]}, r"label -2 of example 1 is out of range \[0, 2\)"),
        ({"y": np.full((4, 2), PADDING)}, r"there is no label at all"),
        ({"y": [0.0, 1.0, 0.0, 1.0]}, r"y has type float64; labels must be whole numbers"),
        ({"y": [True, False, True, False]}, r"y has type bool"),
        ({"y": ["a", "b", "a", "b"]}, r"y has type <U1"),
        ({"test_fraction": 1.0}, r"test_fraction=1.0 is not in \[0, 1\)"),
        ({"test_fraction": -0.1}, r"test_fraction=-0.1 is not in"),
        ({"test_fraction": float("nan")}, r"test_fraction=nan is not in"),
        ({"test_mask": [True, False]}, r"test_mask has shape \(2,\); expected \(4,\)"),
        ({"client_ids": ["a", "a", "b", "a"]}, r"client 'b' has 1 example; .* leave the client out, or use"),
        ({"seed": -1}, r"seed=-1 is negative"),
        *(
            (
                {name: np.ma.array(GOOD[name], mask=IN_THIRD if name == "x" else IN_THIRD[:, 0])},
                rf"{name} has masked values, .*with \.filled",
            )
            for name in ("x", "y", "client_ids")
        ),
        ({"test_mask": np.ma.array([True] * 4, mask=IN_THIRD[:, 0])}, r"test_mask has masked values"),
        ({"x": [np.ma.array([1, 2], mask=[False, True])] * 4}, r"x has masked values"),
        ({"test_mask": ["no", "no", "yes", "yes"]}, r"test_mask has type <U3; give True or False"),
        ({"test_mask": [0.5, 0, 1, 1]}, r"test_mask has type float64; give True or False"),
        ({"x": np.zeros((4, 2), np.longdouble)}, r"x has type float128, which PyTorch lacks; use x.astype"),
        ({"x": np.zeros((4, 2), complex)}, r"x has type complex128; give numbers"),
        ({"x": np.zeros(4, [("a", "f4")])}, r"x has type .*; give numbers"),
        ({"x": np.zeros((4, 2), object)}, r"x has type object; give numbers"),
        ({"x": np.zeros((4, 2), "M8[s]")}, r"x has type datetime64\[s\]; give numbers"),
        ({"x": np.full((4, 2), 2**63, np.uint64)}, r"x has 9223372036854775808, which PyTorch cannot count"),
        ({"x": torch.zeros(4, 2, requires_grad=True)}, r"x of type Tensor cannot .*\.detach\(\)"),
        ({"x": torch.zeros(4, 2, dtype=torch.bfloat16)}, r"x of type Tensor cannot .*\.float\(\)"),
        ({"x": torch.zeros(4, 2).to_sparse()}, r"x of type Tensor cannot .*\.to_dense\(\)"),
        ({"x": torch.zeros(4, 2, device="meta")}, r"x of type Tensor cannot be read as one array"),
        ({"x": [[1.0, 2.0], [3.0], [4.0], [5.0]]}, r"x of type list cannot be read as one array"),
        ({"x": 5.0}, r"x is a single float without an axis of examples"),
        ({"x": (number for number in range(4))}, r"x is a single generator without an axis"),
        ({"x": pd.DataFrame({"a": [1, 2, None, 4]}, dtype="Int64")}, r"x has (type object|NaN)"),
        ({"y": np.zeros(4, "m8[s]")}, r"y has type timedelta64"),
        ({"y": np.zeros((4, 0), int)}, r"y has shape \(4, 0\); give labels"),
        ({"y": np.zeros((4, 2, 2), int)}, r"y has shape \(4, 2, 2\); give labels"),
        ({"client_ids": ["a", "a", None, "b"]}, r"the client of example 2 is missing"),
        ({"client_ids": [1.0, 1.0, float("nan"), 2.0]}, r"the client of example 2 is missing"),
        ({"client_ids": np.array([1, 1, "1", "1"], object)}, r"different clients have the same name '1'"),
        ({"client_ids": np.array([["a"], ["a"], ["b"], ["b"]])}, r"client_ids has shape \(4, 1\); give one"),
        ({"client_ids": [["a"], ["a"], ["b"], ["b"]]}, r"client_ids of type list cannot be read as text"),
        ({"client_ids": [("a", 1), ("a", 1), ("b", 1), ("b", 1)]}, r"client_ids has a tuple, \('a', 1\)"),
        ({"client_ids": [b"a", b"a", b"\xff", b"\xff"]}, r"client_ids of type list cannot be read as text"),
        ({"client_ids": np.array(["a", "a", "\ud800", "a"])}, r"ndarray \(<U1\) cannot be read as text"),
        # What NumPy would make equal, or text, if it first gave all of a list one type.
        ({"client_ids": ["a", "a", float("nan"), "b"]}, r"the client of example 2 is missing"),
        ({"client_ids": ["a", "a", pd.NA, "b"]}, r"the client of example 2 is missing"),
        ({"client_ids": np.array(["a", "a", float("nan"), "b"])}, r"example 2 is 'nan', which NumPy writes"),
        ({"client_ids": [1, 1, "1", "1"]}, r"different clients have the same name '1'"),
        ({"client_ids": [True, True, "True", "True"]}, r"different clients have the same name 'True'"),
        ({"client_ids": [True, True, 1, 1]}, r"'True' and '1' in client_ids are equal, but have different"),
        ({"client_ids": [1, 1, 1.0, 1.0]}, r"'1' and '1.0' in client_ids are equal"),
        ({"client_ids": np.array([0.0, 0.0, -0.0, -0.0])}, r"'0.0' and '-0.0' in client_ids are equal"),
        ({"client_ids": ["a", "a", "a\0", "a\0"]}, r"'a.x00' ends with a zero byte"),
        ({"x": [[np.ma.array([1, 2], mask=[False, True])]] * 4}, r"x has masked values"),
        ({"x": deque([[[np.ma.masked, 2]]] * 4)}, r"x has masked values"),
        (
            {"test_mask": pd.Series([True, pd.NA, True, False], dtype="boolean")},
            r"test_mask has type object; give True or False",
        ),
        ({"test_mask": np.array(["True"] * 4, object)}, r"test_mask has type object; give True or False"),
        ({"num_classes": "3"}, r"num_classes='3' must be a whole number of 1 or more"),
        ({"num_classes": 2.5}, r"num_classes=2.5 must be a whole number"),
        ({"test_fraction": "0.2"}, r"test_fraction='0.2' is not in \[0, 1\)"),
        ({"test_fraction": None}, r"test_fraction=None is not in"),
        ({"seed": None}, r"seed=None is not a whole number"),
        ({"seed": 1.5}, r"seed=1.5 is not a whole number"),
    ],
)
def test_bad_arrays_are_refused(change: dict[str, Any], message: str) -> None:
    assert FederatedDataset.from_arrays(**GOOD).num_classes == 2
    with pytest.raises(ValueError, match=message):
        FederatedDataset.from_arrays(**(GOOD | change))


TYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "plain": lambda x: x,
    "the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "backwards": lambda x: x[::-1].copy()[::-1],
    "in columns": np.asfortranarray,
    "with gaps": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "not aligned": lambda x: np.frombuffer(b"-" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "nothing masked": lambda x: np.ma.array(x, mask=False),
    "a table": pd.DataFrame,
    "lists": lambda x: list(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", TYPES)
def test_numbers_of_every_type_and_layout_arrive_as_pytorch_can_use_them(kind: str, layout: str) -> None:
    x = (np.arange(12).reshape(6, 2) % (2 if kind == "?" else 12)).astype(kind)
    data = FederatedDataset.from_arrays(LAYOUTS[layout](x), np.arange(6), ["a", "b"] * 3, test_fraction=0)
    order = np.argsort(data.y)
    assert isinstance(data.x, np.ndarray) and type(data.x) is np.ndarray and data.x.flags.writeable
    assert np.array_equal(data.x[order], x)
    tensor = torch.from_numpy(data.x)
    assert torch.equal(tensor[torch.from_numpy(order)].double(), torch.tensor(x.astype(float)))
    assert (data.x.dtype == x.dtype) == (kind not in ("u2", "u4", "u8"))


@pytest.mark.parametrize("kind", [">i2", ">i8", "u2", ">u4", "u8", "i1"])
def test_labels_of_every_whole_type_are_counted(kind: str) -> None:
    labels = np.array([0, 1, 2, 2, 0, 1]).astype(kind)
    data = FederatedDataset.from_arrays(np.eye(6), labels, ["a", "b"] * 3)
    assert data.class_counts().tolist() == [[2, 0, 1], [0, 2, 1]]
    assert torch.from_numpy(data.y).long().sum() == 6


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_data_set_put_together_by_hand_has_plain_arrays_too(
    tiny_images: FederatedDataset, name: str
) -> None:
    values = getattr(tiny_images, name)
    other = replace(tiny_images, **{name: values.astype(values.dtype.newbyteorder())})
    assert getattr(other, name).dtype.isnative and other.fingerprint == tiny_images.fingerprint
    with pytest.raises(ValueError, match=f"{name} has masked values"):
        replace(tiny_images, **{name: np.ma.array(values, mask=values == values)})
    with pytest.raises(ValueError, match="the client ids of 'tiny images' are not all text"):
        replace(tiny_images, client_ids=(0, *tiny_images.client_ids[1:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"client_ids": ()}, r"'tiny images' has no clients; give at least one"),
        ({"client_ids": ("a", "b", "a", "c", "d", "e")}, r"client id 'a' occurs twice in 'tiny images'"),
        ({"starts": np.zeros(5, dtype=np.int64)}, r"starts has shape \(5,\); expected \(6,\)"),
        ({"train_counts": np.zeros((6, 1), dtype=np.int64)}, r"train_counts has shape \(6, 1\)"),
        ({"test_counts": np.zeros(7, dtype=np.int64)}, r"test_counts has shape \(7,\)"),
        ({"y": np.zeros(89, dtype=np.int64)}, r"x has 90 examples but y has 89; they must be equal"),
        ({"starts": np.array([-1, 0, 0, 0, 0, 0])}, r"must be 0 or more"),
        ({"train_counts": np.array([0, -1, 0, 0, 0, 0])}, r"must be 0 or more"),
        ({"test_counts": np.array([0, -1, 0, 0, 0, 0])}, r"must be 0 or more"),
        ({"starts": np.array([0, 0, 0, 0, 0, 71])}, r"end beyond the 90 examples of x"),
        ({"train_counts": np.full(6, 1.5)}, r"train_counts has type float64; give whole"),
        ({"x": np.full((90, 1), None)}, r"x has type object; give numbers"),
        ({"x": np.full((90, 1), "1")}, r"x has type <U1; give numbers"),
        ({"y": np.full(90, 5)}, r"label 5 of example 0 is out of range \[0, 4\)"),
        ({"y": np.arange(90) - 80}, r"label -80 of example 0 is out of range"),
        ({"y": np.full(90, PADDING)}, r"label -1 of example 0 is out of range"),
        ({"y": np.full(90, 0.6)}, r"y has type float64; labels must be whole numbers"),
        ({"y": np.zeros((90, 1, 1), int)}, r"y has shape \(90, 1, 1\); give labels"),
        ({"num_classes": None}, r"num_classes=None must be a whole number"),
    ],
)
def test_a_data_set_that_contradicts_itself_is_refused(
    tiny_images: FederatedDataset, change: dict[str, Any], message: str
) -> None:
    assert len(tiny_images.x) == 90 and tiny_images.counts[5] == 20
    with pytest.raises(ValueError, match=message):
        replace(tiny_images, **change)


# Choosing clients -----------------------------------------------------------------------------------------


def test_lists_and_small_types_of_counts_are_whole_numbers(tiny_images: FederatedDataset) -> None:
    parts = {name: getattr(tiny_images, name) for name in ("starts", "train_counts", "test_counts")}
    lists: dict[str, Any] = {name: values.tolist() for name, values in parts.items()}
    other = replace(tiny_images, **lists, client_ids=list(tiny_images.client_ids))  # type: ignore[arg-type]
    assert other.fingerprint == tiny_images.fingerprint and other.client_ids == tiny_images.client_ids
    # 200 and 100 together are 44 in one byte.
    ids, numbers = ("a",), (np.zeros(1, np.uint8), np.array([200], np.uint8), np.array([100], np.uint8))
    small = FederatedDataset("small", np.zeros((300, 1)), np.zeros(300, int), ids, *numbers, num_classes=1)
    assert len(small["a"].test_y) == 100


def test_clients_by_id(tiny_images: FederatedDataset) -> None:
    assert [client.client_id for client in tiny_images] == list(tiny_images.client_ids)
    assert "client_3" in tiny_images and "nobody" not in tiny_images and 3 not in tiny_images
    assert tiny_images.position("client_3") == 3
    assert len(tiny_images["client_3"].train_x) == tiny_images.train_counts[3]
    assert len(tiny_images["client_3"].test_x) == tiny_images.test_counts[3]


@pytest.mark.parametrize(
    "look",
    [lambda d: d["nobody"], lambda d: d.position("nobody"), lambda d: d.subset(["client_1", "nobody"])],
)
def test_an_unknown_client_is_named_with_some_known(
    tiny_images: FederatedDataset, look: Callable[[FederatedDataset], Any]
) -> None:
    with pytest.raises(KeyError, match=r"no client 'nobody' among the 6 of 'tiny images' \('client_0', "):
        look(tiny_images)


@given(owner_lists(), st.data())
def test_a_subset_has_the_same_clients_in_the_order_asked_for(owners: list[str], data: st.DataObject) -> None:
    whole = numbered(owners)
    some = data.draw(st.lists(st.sampled_from(whole.client_ids), min_size=1, unique=True))
    subset = whole.subset(some)
    assert subset.client_ids == tuple(some)
    assert parts(subset) == {client_id: parts(whole)[client_id] for client_id in some}
    assert np.shares_memory(subset.x, whole.x) and np.shares_memory(subset.y, whole.y)
    assert subset.num_classes == whole.num_classes


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda data: data.subset([]), "no clients"),
        (lambda data: data.subset(["client_1", "client_0", "client_1"]), "'client_1' occurs twice"),
        *(
            (lambda data, share=share: data.split_clients(share), rf"held_out={share} is not between 0 and 1")
            for share in (0, 1, -0.5, 25, float("nan"))
        ),
        (
            lambda data: data.subset(["client_0"]).split_clients(),
            "has one client; a split into two groups needs at least two",
        ),
        *(
            (
                lambda data, limits=(least, most): data.limited(*limits),
                f"least={least} and most={most}; they must be 1 or more",
            )
            for least, most in ((0, 5), (-1, 5), (3, 2))
        ),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(
    tiny_images: FederatedDataset, choose: Callable[[FederatedDataset], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose(tiny_images)


@given(owner_lists().filter(lambda owners: len(set(owners)) > 1), st.floats(0.01, 0.99), SEEDS, st.data())
def test_training_and_held_out_clients_are_all_and_share_none(
    owners: list[str], share: float, seed: int, data: st.DataObject
) -> None:
    whole = numbered(owners)
    train, held_out = whole.split_clients(share, seed)
    assert set(train.client_ids).isdisjoint(held_out.client_ids)
    assert parts(train) | parts(held_out) == parts(whole)
    nearest = np.clip(share * len(whole), 1, len(whole) - 1)
    assert abs(len(held_out) - nearest) <= 0.5
    # The order of clients is irrelevant, and it is kept.
    shuffled = whole.subset(data.draw(st.permutations(whole.client_ids)))
    for group, again in zip((train, held_out), shuffled.split_clients(share, seed), strict=True):
        assert list(again.client_ids) == [c for c in shuffled.client_ids if c in group]


def test_each_client_is_held_out_about_equally_often(tiny_images: FederatedDataset) -> None:
    draws = [tiny_images.split_clients(1 / 3, seed=seed)[1].client_ids for seed in range(600)]
    counts = Counter(client_id for pair in draws for client_id in pair)
    # 600 draws of 2 out of 6: 200 each, with a standard deviation of 11.5.
    assert len(set(draws)) == 15 and len(counts) == 6
    assert min(counts.values()) > 200 - 5 * 11.5 and max(counts.values()) < 200 + 5 * 11.5


@given(st.data())
def test_who_is_in_which_fold_depends_on_the_set_of_ids_alone(data: st.DataObject) -> None:
    whole = numbered([f"client_{i}" for i in range(9) for _ in range(2)])
    shuffled = whole.subset(data.draw(st.permutations(whole.client_ids)))
    for number in range(3):
        for group, again in zip(whole.fold(number, 3), shuffled.fold(number, 3), strict=True):
            assert set(group.client_ids) == set(again.client_ids)
            assert list(again.client_ids) == [c for c in shuffled.client_ids if c in group]


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=12).filter(lambda groups: len(set(groups)) > 1),
    st.booleans(),
    st.data(),
)
def test_over_all_folds_each_client_is_held_out_once_and_with_its_group(
    groups: list[int], grouped: bool, data: st.DataObject
) -> None:
    def group_of(client_id: str) -> str:
        return client_id.split("/")[0] if grouped else client_id

    whole = numbered([f"{group}/{i}" for i, group in enumerate(groups) for _ in range(2)])
    number_of_groups = len({group_of(client_id) for client_id in whole.client_ids})
    of = data.draw(st.integers(2, number_of_groups))
    sizes, seen = [], list[str]()
    for number in range(of):
        train, fold = whole.fold(number, of, group_of) if grouped else whole.fold(number, of)
        here, there = ({group_of(c) for c in part.client_ids} for part in (fold, train))
        assert here.isdisjoint(there) and parts(train) | parts(fold) == parts(whole)
        sizes.append(len(here))
        seen += fold.client_ids
    assert sorted(seen) == sorted(whole.client_ids) and sum(sizes) == number_of_groups
    assert max(sizes) - min(sizes) <= 1


def test_folds_do_not_follow_the_order_of_names() -> None:
    # Names often begin with a place or a year: neighbours in the alphabet must not be held out together.
    whole = numbered([f"client_{i:02}" for i in range(40) for _ in range(2)])
    folds = [whole.fold(number, 2)[1].client_ids for number in range(2)]
    evenly = {whole.client_ids[0::2], whole.client_ids[1::2], whole.client_ids[:20], whole.client_ids[20:]}
    assert evenly.isdisjoint(folds)


@pytest.mark.parametrize(
    ("number", "of", "groups"), [(0, 1, 6), (0, 0, 6), (0, 7, 6), (3, 3, 6), (-1, 3, 6), (0, 3, 2)]
)
def test_a_fold_that_is_not_there_is_refused(
    tiny_images: FederatedDataset, number: int, of: int, groups: int
) -> None:
    together = {c: str(i % groups) for i, c in enumerate(tiny_images.client_ids)}
    message = rf"fold {number} of {of}: 'tiny images' has {groups} groups of clients; choose 2 to {groups}"
    with pytest.raises(ValueError, match=message):
        tiny_images.fold(number, of, together.__getitem__)


@given(owner_lists(least=1), st.data(), st.integers(1, 9), st.integers(0, 9))
def test_limited_keeps_the_last_train_and_the_first_test_examples(
    owners: list[str], data: st.DataObject, least: int, more: int
) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(owners), max_size=len(owners)))
    whole, most = numbered(owners, test_mask=mask), least + more
    expected = {
        client_id: (train[-most:], test[:most])
        for client_id, (train, test) in parts(whole).items()
        if len(train) >= least and test
    }
    if not expected:
        largest = whole.train_counts.max()
        message = f"no client of 'custom' has {least} train .*; the largest train part has {largest}"
        with pytest.raises(ValueError, match=message):
            whole.limited(least, most)
        return
    limited = whole.limited(least, most)
    assert parts(limited) == expected
    assert list(limited.client_ids) == [c for c in whole.client_ids if c in expected]
    assert limited.x is whole.x and limited.y is whole.y
    assert parts(limited.limited(least, most)) == expected


@given(owner_lists(), st.floats(0, 0.9), st.data())
def test_pooled_is_one_client_with_the_parts_of_all(
    owners: list[str], fraction: float, data: st.DataObject
) -> None:
    whole = numbered(owners, test_fraction=fraction)
    some = whole.subset(data.draw(st.lists(st.sampled_from(whole.client_ids), min_size=1, unique=True)))
    pooled = parts(some.pooled())
    each = parts(some).values()
    assert pooled == {
        "pooled": ([i for train, _ in each for i in train], [i for _, test in each for i in test])
    }
    assert not np.shares_memory(some.pooled().x, whole.x)


# What a reader sees ---------------------------------------------------------------------------------------


def by_hand() -> FederatedDataset:
    """Client a has 3 + 1 examples, b 1 + 1, c 6 + 2."""
    owners = ["a"] * 4 + ["b"] * 2 + ["c"] * 8
    test = [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    labels = [0, 0, 0, 1, 2, 2, 0, 1, 2, 3, 3, 3, 3, 3]
    return FederatedDataset.from_arrays(
        np.zeros((14, 3, 5), dtype=np.float32), labels, owners, test_mask=test, num_classes=10, name="mine"
    )


def test_counts_of_labels() -> None:
    expected = np.zeros((3, 10))
    expected[0, :2], expected[1, 2], expected[2, :4] = (3, 1), 2, (1, 1, 1, 5)
    assert np.array_equal(by_hand().class_counts(), expected)


def test_table_of_counts_and_quantiles() -> None:
    table = by_hand().table()
    assert list(table.columns) == ["total", "min", "10 %", "median", "90 %", "max"]
    # Of 1, 3, 6 the 10 % quantile is 1.4 and the 90 % quantile 5.4; of 1, 1, 2 it is 1.8; of 1, 2, 4 3.6.
    assert table.loc["train examples"].tolist() == [10, 1, 1, 3, 5, 6]
    assert table.loc["test examples"].tolist() == [4, 1, 1, 1, 2, 2]
    assert table.loc["distinct labels"].tolist() == [10, 1, 1, 2, 4, 4]


def test_text_and_html_show_the_table() -> None:
    data = by_hand()
    assert "<table" in data._repr_html_()
    for shown in (repr(data), data._repr_html_()):
        assert "mine: 3 clients, 14 examples of shape 3×5 (float32), 10 classes" in shown
        assert "arrays given by the user" in shown and "synthetic" not in shown
        for title in ("train examples", "test examples", "distinct labels", "median", "90 %"):
            assert title in shown
    html = replace(data, name="a<b", source="x < y & z")._repr_html_()
    assert "a&lt;b" in html and "x &lt; y &amp; z" in html


def test_synthetic_data_says_so_wherever_it_is_shown(tiny_images: FederatedDataset) -> None:
    train, held_out = tiny_images.split_clients()
    for data in (tiny_images, train, held_out, tiny_images.pooled(), tiny_images.subset(["client_0"])):
        assert data.label == "tiny images (synthetic)"
        assert "tiny images (synthetic)" in repr(data) and "tiny images (synthetic)" in data._repr_html_()
    assert replace(tiny_images, synthetic=False).label == "tiny images"


# Identity -------------------------------------------------------------------------------------------------


def test_fingerprint_is_of_the_clients_and_not_of_where_they_lie(tiny_images: FederatedDataset) -> None:
    some = ["client_4", "client_1"]
    lean = tiny_images.subset(some)
    clients = [tiny_images[client_id] for client_id in some]
    moved = replace(
        lean,
        x=np.concatenate([part for c in clients for part in (c.train_x, c.test_x)]),
        y=np.concatenate([part for c in clients for part in (c.train_y, c.test_y)]),
        starts=np.array([0, tiny_images.counts[4]]),
    )
    assert moved.fingerprint == lean.fingerprint != tiny_images.fingerprint
    assert tiny_images.subset(some[::-1]).fingerprint != lean.fingerprint


def test_fingerprint_sees_every_change(tiny_images: FederatedDataset) -> None:
    x, y = tiny_images.x.copy(), tiny_images.y.copy()
    x[-1, 0, 0] += 1e-6
    y[-1] = (y[-1] + 1) % 4
    step = np.array([0, 0, 0, 0, 0, 1])
    assert replace(tiny_images).fingerprint == tiny_images.fingerprint
    for change in (
        {"x": x},
        {"y": y},
        {"train_counts": tiny_images.train_counts + step, "test_counts": tiny_images.test_counts - step},
        {"client_ids": ("client_9", *tiny_images.client_ids[1:])},
        {"num_classes": 5},
    ):
        assert replace(tiny_images, **change).fingerprint != tiny_images.fingerprint, change.keys()


def test_a_data_set_is_frozen(tiny_images: FederatedDataset) -> None:
    with pytest.raises(FrozenInstanceError):
        tiny_images.name = "other"  # type: ignore[misc]
