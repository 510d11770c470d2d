from typing import Any

import pytest

from fl_meta import load_dataset
from fl_meta.data import LOADERS
from fl_meta.data.federated import FederatedDataset
from fl_meta.experiments.first_claim import CLAIM_ONE
from fl_meta.experiments.settings import FIRST_LOOK, PROFILES, for_profile


def test_a_name_finds_its_loader_and_options_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def load(**options: Any) -> str:
        seen.append(options)
        return "loaded"

    monkeypatch.setitem(LOADERS, "mine", load)
    assert load_dataset("mine", num_writers=3, seed=1) == "loaded"
    assert seen == [{"num_writers": 3, "seed": 1}]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("writer", "writers"),
        ("Writers", "writers"),
        ("shakespear", "shakespeare"),
        ("Shakspeare", "shakespeare"),
    ],
)
def test_an_unknown_data_set_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"unknown data set '{name}'; did you mean '{nearest}'\\?") as caught:
        load_dataset(name)
    assert all(known in str(caught.value) for known in LOADERS)


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    with pytest.raises(ValueError, match=r"unknown data set '0123' \(there are .*shakespeare.*writers"):
        load_dataset("0123")


def test_an_option_that_no_loader_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'shakespeare': .*'num_writer'; it has: positions"):
        load_dataset("shakespeare", num_writer=3)


def test_a_loader_gives_a_data_set() -> None:
    data = load_dataset("writers", num_writers=2, cache=False)
    assert isinstance(data, FederatedDataset) and len(data) == 2 and data.synthetic


@pytest.mark.parametrize("table", [FIRST_LOOK, CLAIM_ONE])
def test_every_profile_has_a_size_and_an_unknown_one_lists_them(table: dict[str, Any]) -> None:
    assert tuple(table) == PROFILES
    for profile in PROFILES:
        assert for_profile(table, profile) is table[profile]
    with pytest.raises(
        ValueError, match="profile='fast' is unknown; choose one of 'smoke', 'laptop', 'paper'"
    ):
        for_profile(table, "fast")
