"""The examples in the docstrings of public things run as they stand."""

import doctest
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fl_meta

WALK = pkgutil.walk_packages(fl_meta.__path__, "fl_meta.")
MODULES = ["fl_meta", *sorted(name for _, name, package in WALK if not package)]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NAMES = [name for name in fl_meta.__all__ if not isinstance(getattr(fl_meta, name), type(doctest))]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples take for granted."""
    data = fl_meta.load_dataset("writers", num_writers=40)
    train, held_out = data.split_clients(held_out=0.25, seed=0)
    model = fl_meta.models.logistic(data)
    stage = fl_meta.Stage(fl_meta.fedavg(epochs=1, client=fl_meta.SGD(0.1)), rounds=2)
    run = fl_meta.train(model, train, [stage], progress=False)
    return {
        "fl_meta": fl_meta,
        "np": np,
        "torch": torch,
        "data": data,
        "train": train,
        "held_out": held_out,
        "model": model,
        "params": run.params,
        "run": run,
        "stages": [stage],
    }


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=names):
        report: list[str] = []
        failed = runner.run(example, out=report.append).failed
        assert not failed, "".join(report)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_package_offers_shows_an_example(name: str) -> None:
    assert "Example:\n" in (getattr(fl_meta, name).__doc__ or ""), f"fl_meta.{name} has no Example"
