import subprocess
import sys
from pkgutil import resolve_name
from typing import Any

import pytest

from fl_meta import load_dataset
from fl_meta.data import LOADERS, loading
from fl_meta.data.federated import FederatedDataset
from fl_meta.experiments.first_claim import CLAIM_ONE
from fl_meta.experiments.settings import FIRST_LOOK, PROFILES, for_profile


def load_mine(**options: Any) -> dict[str, Any]:
    """A loader that gives back its options."""
    return options


def test_a_name_finds_its_loader_and_options_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_mine", load_mine, raising=False)
    monkeypatch.setitem(LOADERS, "mine", "fl_meta.data.loading:load_mine")
    assert load_dataset("mine", num_writers=3, seed=1) == {"num_writers": 3, "seed": 1}
    data = load_dataset("writers", num_writers=2, cache=False)
    assert isinstance(data, FederatedDataset) and len(data) == 2 and data.synthetic


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_is_there_and_says_what_it_loads(name: str) -> None:
    assert (resolve_name(LOADERS[name]).__doc__ or "").strip()


def test_the_table_of_loaders_imports_no_reader() -> None:
    code = (
        "import sys, fl_meta.data.loading; "
        "print([name for name in sys.modules if name in {'torch', 'pandas'} or '.published' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("writer", "writers"), ("Writers", "writers"), ("Shakspeare", "shakespeare")],
)
def test_an_unknown_data_set_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"unknown data set '{name}'; did you mean '{nearest}'\\?") as caught:
        load_dataset(name)
    assert all(known in str(caught.value) for known in LOADERS)


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    with pytest.raises(ValueError, match=r"unknown data set '0123' \(choose one of .*shakespeare.*writers"):
        load_dataset("0123")


def test_an_option_that_no_loader_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'shakespeare': .*'num_writer'; its options are positions"):
        load_dataset("shakespeare", num_writer=3)


@pytest.mark.parametrize("table", [FIRST_LOOK, CLAIM_ONE])
def test_every_profile_has_a_size_and_an_unknown_one_lists_them(table: dict[str, Any]) -> None:
    assert tuple(table) == PROFILES
    assert all(for_profile(table, profile) is table[profile] for profile in PROFILES)
    message = "profile='fast' is unknown; choose one of 'smoke', 'laptop', 'full'"
    with pytest.raises(ValueError, match=message):
        for_profile(table, "fast")
