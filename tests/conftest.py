"""Small data sets that many tests use."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small tensors, shared cores

import numpy as np
import pytest
from hypothesis import settings

from fl_meta.command_line import main as cli
from fl_meta.data.federated import PADDING, FederatedDataset

# Tests share modules that are beside this one.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("tiny_tasks")

# The same examples in every run and no time limits; `--hypothesis-profile=search` looks further.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("repeatable")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell what tests have measured and recorded, and judge it not: machines differ."""
    reports = terminalreporter.getreports("passed")
    measured = [f"{name}: {value}" for report in reports for name, value in report.user_properties]
    if measured:
        terminalreporter.section("measured")
        terminalreporter.write("\n".join([*measured, ""]))


@pytest.fixture
def fl_meta(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Runs a command; gives its exit status, what it printed, and its errors."""

    def run(*arguments: object) -> tuple[Any, str, str]:
        try:
            status: Any = cli.main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            status = stopped.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def tiny_images() -> FederatedDataset:
    """Six clients with images of 8×8 pixels in 4 classes; how a class looks is partly a client's own.

    They have 8 to 15 train and 2 to 5 test examples. Shared by all tests: do not write into it.
    """
    generator = np.random.default_rng(1)
    shared = generator.random((4, 8, 8))
    images, labels, owners = [], [], []
    for client in range(6):
        own = generator.random((4, 8, 8))
        label = generator.integers(4, size=10 + 2 * client)
        noise = generator.random((len(label), 8, 8))
        images.append(0.5 * shared[label] + 0.3 * own[label] + 0.2 * noise)
        labels.append(label)
        owners += [f"client_{client}"] * len(label)
    return FederatedDataset.from_arrays(
        np.concatenate(images).astype(np.float32),
        np.concatenate(labels),
        owners,
        test_fraction=0.25,
        num_classes=4,
        name="tiny images",
        synthetic=True,
        source="drawn for the tests",
    )


@pytest.fixture(scope="session")
def tiny_text() -> FederatedDataset:
    """Four clients with 5 to 8 texts of 6 positions over 10 characters, the last of which stands for blank.

    A text has 2 to 6 characters, then `PADDING`. Shared by all tests: do not write into it.
    """
    generator = np.random.default_rng(2)
    x, y, owners = [], [], []
    for client in range(4):
        for _ in range(5 + client):
            characters = (generator.integers(9) + generator.integers(1, 3, size=6).cumsum()) % 9
            length = int(generator.integers(2, 7))
            x.append(np.where(np.arange(6) < length, np.r_[9, characters[:-1]], 9))
            y.append(np.where(np.arange(6) < length, characters, PADDING))
            owners.append(f"role_{client}")
    return FederatedDataset.from_arrays(
        np.array(x, dtype=np.uint8),
        np.array(y, dtype=np.int16),
        owners,
        test_fraction=0.4,
        num_classes=10,
        class_names=tuple("abcdefghi_"),
        name="tiny text",
        synthetic=True,
        source="drawn for the tests",
    )
