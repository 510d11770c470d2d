from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_meta.algorithms.optimizers import SGD
from fl_meta.algorithms.table import LocalWork
from fl_meta.data.batches import batch_plan, sample_clients
from fl_meta.data.federated import FederatedDataset
from fl_meta.engines.local_training import LocalTraining
from fl_meta.models.images import logistic

EXAMPLES = st.integers(1, 40)
SIZES = st.one_of(st.none(), st.integers(1, 45))
KEYS = st.tuples(st.integers(0, 2**32), st.integers(0, 1000), st.text(max_size=5))


def batches(key: tuple[int, int, str], examples: int, **options: Any) -> list[list[int]]:
    plan = batch_plan(*key, examples, **options)
    result = [batch.tolist() for batch in plan]
    assert len(result) == len(plan)
    return result


# The plan of one client -----------------------------------------------------------------------------------


@given(KEYS, EXAMPLES, SIZES, st.integers(1, 5))
def test_each_epoch_uses_each_example_exactly_once(
    key: tuple[int, int, str], examples: int, size: int | None, epochs: int
) -> None:
    plan = batches(key, examples, batch_size=size, epochs=epochs)
    full = examples if size is None else min(size, examples)
    # Batches of one epoch: as many full ones as there are, then what is left.
    sizes = [full] * (examples // full) + [examples % full] * (examples % full > 0)
    assert [len(batch) for batch in plan] == sizes * epochs
    for epoch in range(epochs):
        used = plan[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        assert sorted(i for batch in used for i in batch) == list(range(examples))


@given(KEYS, EXAMPLES, SIZES, st.integers(1, 60), st.integers(1, 60))
def test_fewer_steps_are_the_beginning_of_more_and_of_epochs(
    key: tuple[int, int, str], examples: int, size: int | None, few: int, more: int
) -> None:
    short = batches(key, examples, batch_size=size, steps=min(few, more))
    long = batches(key, examples, batch_size=size, steps=max(few, more))
    assert len(short) == min(few, more) and len(long) == max(few, more)
    assert long[: len(short)] == short
    epochs = batches(key, examples, batch_size=size, epochs=3)
    both = min(len(long), len(epochs))
    assert long[:both] == epochs[:both]


@given(KEYS, EXAMPLES, st.integers(0, 10))
def test_no_batch_size_means_all_examples_as_does_a_large_one(
    key: tuple[int, int, str], examples: int, beyond: int
) -> None:
    plan = batches(key, examples, batch_size=None, steps=4)
    assert [sorted(batch) for batch in plan] == [list(range(examples))] * 4
    assert plan == batches(key, examples, batch_size=examples + beyond, steps=4)


def test_bounds_by_hand() -> None:
    plan = batch_plan(0, 0, "a", 7, batch_size=3, epochs=2)
    assert plan.bounds.tolist() == [0, 3, 6, 7, 10, 13, 14]
    assert len(batch_plan(0, 0, "a", 7, batch_size=3, steps=4).indices) == 10


@given(st.lists(KEYS, min_size=1, max_size=6, unique=True), st.data())
def test_order_of_clients_and_rounds_is_irrelevant(keys: list[tuple], data: st.DataObject) -> None:
    alone = {key: batches(key, 30, batch_size=7, epochs=2) for key in keys}
    for key in data.draw(st.permutations(keys)):
        assert batches(key, 30, batch_size=7, epochs=2) == alone[key]


def test_seed_round_client_and_epoch_each_change_the_order() -> None:
    keys = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    orders = [order for key in keys for order in batches(key, 30, batch_size=None, epochs=2)]
    # 30! orders: two never agree by chance.
    assert len({tuple(order) for order in orders}) == 8


def test_every_example_comes_first_equally_often() -> None:
    first = [batch_plan(0, number, "a", 5, batch_size=2, steps=1).indices[0] for number in range(2000)]
    counts = np.bincount(first, minlength=5)
    # 400 expected, with a standard deviation of 17.9.
    assert counts.min() > 400 - 5 * 17.9 and counts.max() < 400 + 5 * 17.9


GOOD: dict[str, Any] = {
    "seed": 0,
    "round_number": 0,
    "client_id": "writer_3",
    "num_examples": 9,
    "batch_size": 4,
    "epochs": 2,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"epochs or steps=0 for client 'writer_3'; it must be 1 or more"),
        ({"epochs": -1}, r"epochs or steps=-1 for client 'writer_3'"),
        ({"epochs": None, "steps": 0}, r"epochs or steps=0 for client 'writer_3'"),
        ({"batch_size": 0}, r"batch_size=0 for client 'writer_3'; it must be 1 or more"),
        ({"batch_size": -5}, r"batch_size=-5 for client 'writer_3'"),
        ({"num_examples": 0}, r"num_examples=0 for client 'writer_3'"),
        ({"num_examples": 0, "batch_size": None}, r"num_examples=0 for client 'writer_3'"),
        ({"steps": 3}, r"give either epochs or steps, not both or neither \(epochs=2, steps=3\)"),
        ({"epochs": None}, r"give either epochs or steps, not both or neither \(epochs=None, steps=None\)"),
        ({"seed": -1}, r"seed=-1 is negative"),
    ],
)
def test_bad_plans_are_refused(change: dict[str, Any], message: str) -> None:
    assert len(batch_plan(**GOOD)) == 6
    with pytest.raises(ValueError, match=message):
        batch_plan(**(GOOD | change))


# Batches of a data set ------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6)), min_size=1, max_size=5),
    SIZES,
    st.integers(1, 3),
    st.data(),
)
def test_train_examples_are_used_e_times_and_test_examples_never(
    sizes: list[tuple[int, int]], size: int | None, epochs: int, data: st.DataObject
) -> None:
    """Train example i has x = [i] and y = i; test examples have x = [−1], which no batch may hold."""
    owners = [f"client_{c}" for c, (train, test) in enumerate(sizes) for _ in range(train + test)]
    mask = [which >= train for train, test in sizes for which in range(train + test)]
    order = data.draw(st.permutations(range(len(owners))))
    x = np.array([[-1.0 if mask[i] else i] for i in order], dtype=np.float32)
    whole = FederatedDataset.from_arrays(
        x, order, [owners[i] for i in order], test_mask=[mask[i] for i in order]
    )
    some = data.draw(st.lists(st.sampled_from(whole.client_ids), min_size=1, unique=True))
    subset = whole.subset(some)
    clients = [(subset, client_id, {client_id}) for client_id in some]
    for group, client_id, members in [*clients, (subset.pooled(), "pooled", set(some))]:
        model = logistic(group)
        training = LocalTraining(model, model.init(0), group, LocalWork(SGD(1.0), size, epochs), 0)
        used: list[int] = []
        for inputs, labels, _ in training.batches(client_id):
            assert inputs[:, 0].tolist() == labels.tolist()  # so none is −1, and pairs stay together
            used += labels.tolist()
        own = [i for i in range(len(owners)) if owners[i] in members and not mask[i]]
        assert sorted(used) == sorted(own * epochs)


# Clients of a round ---------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**32),
    st.integers(0, 1000),
    st.lists(st.text(max_size=4), min_size=1, max_size=20, unique=True),
    st.data(),
)
def test_clients_are_drawn_without_replacement_whatever_their_order(
    seed: int, round_number: int, ids: list[str], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(ids)))
    drawn = sample_clients(seed, round_number, ids, count)
    assert len(drawn) == len(set(drawn)) == count and set(drawn) <= set(ids)
    sample_clients(seed, round_number + 1, ids, count)  # history changes nothing
    assert sample_clients(seed, round_number, data.draw(st.permutations(ids)), count) == drawn


def test_each_client_and_each_pair_is_drawn_equally_often() -> None:
    ids = [f"client_{i:02d}" for i in range(20)]
    together = np.zeros((20, 20))
    for round_number in range(2000):
        places = [ids.index(client_id) for client_id in sample_clients(0, round_number, ids, 5)]
        together[np.ix_(places, places)] += 1
    single, pairs = together.diagonal(), together[np.triu_indices(20, 1)]
    # 2000 · 5/20 = 500 with a standard deviation of 19.4, and 2000 · (5·4)/(20·19) = 105 with one of 10.
    assert np.abs(single - 500).max() < 5 * 19.4
    assert np.abs(pairs - 105.3).max() < 5.5 * 10


def test_rounds_and_seeds_draw_others() -> None:
    ids = [f"client_{i}" for i in range(50)]
    assert len({sample_clients(seed, number, ids, 10) for seed in range(5) for number in range(20)}) == 100


@pytest.mark.parametrize("count", [0, -1, 4])
def test_as_many_clients_as_there_are(count: int) -> None:
    assert sample_clients(0, 0, ["c", "a", "b"], 3) == ("a", "b", "c")
    with pytest.raises(
        ValueError, match=rf"clients_per_round={count}, but there are 3 .* number from 1 to 3"
    ):
        sample_clients(0, 0, ["c", "a", "b"], count)
