from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.data import on_demand
from fl_meta.data.federated import FederatedDataset
from fl_meta.data.on_demand import OnDemand

COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any)
SHAPE = (2, 3)


def pair(counts: Sequence[int]) -> tuple[np.ndarray, OnDemand, list[int]]:
    """An array, the same on demand, and a list of the clients that have been made so far."""
    array = np.arange(sum(counts) * 6, dtype=np.float32).reshape(-1, *SHAPE)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    made: list[int] = []

    def make(client: int) -> np.ndarray:
        made.append(client)
        return array[bounds[client] : bounds[client + 1]].copy()

    return array, OnDemand(make, np.array(counts), SHAPE, array.dtype, "counted upwards"), made


# As an array -----------------------------------------------------------------------------------------------


@given(COUNTS, st.data())
def test_it_reads_like_the_array(counts: list[int], data: st.DataObject) -> None:
    array, lazy, _ = pair(counts)
    assert (lazy.shape, lazy.ndim, lazy.dtype, len(lazy)) == (array.shape, 3, array.dtype, len(array))
    bound = st.none() | st.integers(-len(array) - 2, len(array) + 2)
    some = slice(data.draw(bound), data.draw(bound))
    assert np.array_equal(lazy[some], array[some]) and lazy[some].shape == array[some].shape
    places = data.draw(st.lists(st.integers(-len(array), len(array) - 1), min_size=1))
    assert np.array_equal(lazy[places[0]], array[places[0]])
    assert np.array_equal(lazy[np.array(places)], array[np.array(places)])
    assert np.array_equal(np.asarray(lazy), array) and lazy.max() == array.max()
    assert np.asarray(lazy, dtype=np.float64).dtype == np.float64


@given(COUNTS, st.data())
def test_only_the_clients_of_a_slice_are_made_and_each_once(counts: list[int], data: st.DataObject) -> None:
    array, lazy, made = pair(counts)
    start = data.draw(st.integers(0, len(array) - 1))
    stop = data.draw(st.integers(start + 1, len(array)))
    lazy[start:stop]
    owners = np.repeat(np.arange(len(counts)), counts)[start:stop]
    # A client without examples that stands between two others may be asked for its none.
    assert sorted(set(made)) == sorted(made) and set(owners) <= set(made)
    assert all(client in owners or counts[client] == 0 for client in made)


@pytest.mark.parametrize("place", [5, -6, np.int64(5)])
def test_a_place_beyond_the_ends_is_an_index_error(place: int) -> None:
    _, lazy, _ = pair([2, 3])
    for index in (place, np.array([0, place])):
        with pytest.raises(IndexError):
            lazy[index]
    with pytest.raises(IndexError, match="read with step 1, not 2"):
        lazy[::2]
    assert len(list(lazy)) == 5  # a loop over it ends


@pytest.mark.parametrize(
    "read",
    [
        lambda data: data.x[:],
        lambda data: np.asarray(data.x),
        lambda data: data.x[np.arange(4)],
        lambda data: data.pooled(),
    ],
)
def test_more_than_there_is_room_for_is_refused_before_anything_is_made(
    read: Callable[[FederatedDataset], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_demand, "MOST_BYTES", 3 * 24)  # three examples of six float32
    _, data, made = both([2, 2])
    with pytest.raises(ValueError, match=r"4 examples .* GiB at once; .*data.subset.*without on_demand"):
        read(data)
    assert made == []
    assert len(data["client_1"].train_x) == 1 and len(data.subset(["client_0"]).pooled().x) == 2


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (
            np.zeros((3, 2, 3), np.float32),
            r"`make\(0\)` returned examples of shape \(3, 2, 3\) .*\(2, 2, 3\)",
        ),
        (np.zeros((2, 3, 2), np.float32), r"`make\(0\)` returned examples of shape \(2, 3, 2\)"),
        (np.zeros((2, 2, 3)), r"\(float64\); expected .* \(float32\)"),
        (np.ma.array(np.zeros((2, 2, 3), np.float32), mask=True), "x of client 0 has masked values"),
    ],
)
def test_other_examples_than_announced_are_refused(made: np.ndarray, problem: str) -> None:
    lazy = OnDemand(lambda _: made, np.array([2, 2]), SHAPE, np.dtype(np.float32), "zeros")
    for read in (lambda: lazy[0], lambda: lazy[:], lazy.max):
        with pytest.raises(ValueError, match=problem):
            read()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_found_when_a_client_is_read(bad: float) -> None:
    _, lazy, _ = both([2, 3])
    x = lazy.x
    assert isinstance(x, OnDemand)
    made = x.make

    def make(client: int) -> np.ndarray:
        examples = made(client)
        examples[-1, 0, 0] = bad if client == 1 else 0
        return examples

    data = replace(lazy, x=replace(x, make=make))
    assert len(data["client_0"].test_x) == 1
    with pytest.raises(ValueError, match=r"x has NaN or infinity, first in example 2 of client 'client_1'"):
        data["client_1"]


def test_lists_and_the_name_of_a_type_will_do() -> None:
    array, lazy, _ = pair([2, 1])
    other = replace(lazy, counts=[2, 1], example_shape=list(SHAPE), dtype=np.float32)  # type: ignore[arg-type]
    assert np.array_equal(other[:], array) and other.shape == array.shape and repr(other) == repr(lazy)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"counts": np.array([-5, 45])}, r"counts has shape \(2,\) and type int64; give a whole number of 0"),
        ({"counts": np.array([1.0])}, r"type float64; give a whole number"),
        ({"counts": []}, r"counts has shape \(0,\)"),
        ({"example_shape": 3}, r"example_shape=3; give a tuple"),
        ({"example_shape": (2, -3)}, r"a length in example_shape=-3 must be a whole number"),
    ],
)
def test_counts_and_shapes_that_are_none_are_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(pair([2, 1])[1], **change)


def test_examples_in_the_other_byte_order_arrive_in_this_one() -> None:
    array, lazy, _ = pair([2, 1])
    swapped = replace(lazy, make=lambda client: lazy.make(client).astype(array.dtype.newbyteorder()))
    assert np.array_equal(swapped[:], array) and swapped[:].dtype.isnative


@pytest.mark.parametrize("kind", [">f4", "u2", "O", "U3", "c8", "g", "M8[s]"])
def test_a_type_that_pytorch_lacks_is_refused_at_once(kind: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be made on demand|which PyTorch lacks"):
        OnDemand(lambda _: np.zeros(1), np.array([1]), (), np.dtype(kind), "none")


# As the inputs of a federated data set ---------------------------------------------------------------------


def both(counts: Sequence[int]) -> tuple[FederatedDataset, FederatedDataset, list[int]]:
    """Clients with one test example each, in memory and on demand, and the list of clients made."""
    array, lazy, made = pair(counts)
    in_memory = FederatedDataset(
        name="numbers",
        x=array,
        y=np.arange(len(array)) % 4,
        client_ids=tuple(f"client_{i}" for i in range(len(counts))),
        starts=np.cumsum(counts) - counts,
        train_counts=np.array(counts) - 1,
        test_counts=np.ones(len(counts), dtype=np.int64),
        num_classes=4,
    )
    return in_memory, replace(in_memory, x=lazy), made


def same(one: FederatedDataset, other: FederatedDataset) -> bool:
    return one.client_ids == other.client_ids and all(
        np.array_equal(getattr(mine, part), getattr(its, part))
        for mine, its in zip(one, other, strict=True)
        for part in ("train_x", "train_y", "test_x", "test_y")
    )


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.data())
def test_clients_subsets_and_splits_are_those_in_memory(counts: list[int], data: st.DataObject) -> None:
    in_memory, lazy, _ = both(counts)
    some = data.draw(st.lists(st.sampled_from(lazy.client_ids), min_size=1, unique=True))
    assert same(in_memory, lazy) and same(in_memory.subset(some), lazy.subset(some))
    for mine, its in zip(in_memory.split_clients(0.5), lazy.split_clients(0.5), strict=True):
        assert same(mine, its)
    pooled = lazy.subset(some).pooled()
    assert isinstance(pooled.x, np.ndarray)
    assert pooled.fingerprint == in_memory.subset(some).pooled().fingerprint


def test_a_client_is_made_once_when_it_is_read_and_never_before() -> None:
    in_memory, lazy, made = both([3, 1, 4])
    train, held_out = lazy.split_clients(0.3)
    assert repr(lazy) == repr(in_memory) and lazy._repr_html_() == in_memory._repr_html_()
    assert repr(lazy.x) == "8 examples of shape 2×3 (float32), made on demand"
    assert np.array_equal(lazy.class_counts(), in_memory.class_counts())
    assert lazy.fingerprint and len(train) == 2 and len(held_out) == 1
    assert made == []
    assert len(lazy["client_2"].train_x) == 3
    assert made == [2]


def test_a_fingerprint_on_demand_is_of_recipe_places_parts_and_labels() -> None:
    _, lazy, _ = both([3, 2, 4])
    lazy = replace(lazy, y=np.zeros_like(lazy.y))  # so that labels do not tell where a client lies
    assert isinstance(lazy.x, OnDemand)
    step = np.array([0, 0, 1])
    others = [
        replace(lazy, x=replace(lazy.x, recipe="counted downwards")),
        replace(lazy, starts=lazy.starts - step),
        replace(lazy, y=(lazy.y + 1) % 4),
        replace(lazy, client_ids=("client_9", *lazy.client_ids[1:])),
        replace(lazy, train_counts=lazy.train_counts - step, test_counts=lazy.test_counts + step),
        lazy.subset(lazy.client_ids[::-1]),
        lazy.subset(lazy.client_ids[:2]),
    ]
    assert replace(lazy).fingerprint == lazy.fingerprint
    assert len({lazy.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)
