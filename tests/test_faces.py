"""The faces: the public names of each package, and that users' programs need no others."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fl_meta

ROOT = Path(__file__).parent.parent
STUBS = sorted((ROOT / "fl_meta").rglob("__init__.pyi"))
PACKAGES = {".".join(stub.parent.relative_to(ROOT).parts): stub for stub in STUBS}


def imported_in(stub: Path) -> set[str]:
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_listed_and_can_be_imported(package: str) -> None:
    face = importlib.import_module(package)
    assert set(face.__all__) == imported_in(PACKAGES[package])
    assert set(face.__all__) <= set(dir(face))
    for name in face.__all__:
        value = getattr(face, name)
        if inspect.isfunction(value) or inspect.isclass(value) or inspect.ismodule(value):
            assert inspect.getdoc(value), f"{package}.{name} has no docstring"


@pytest.mark.parametrize(
    "name", [name for name in fl_meta.__all__ if not isinstance(getattr(fl_meta, name), ModuleType)]
)
def test_every_function_and_class_of_fl_meta_has_an_example(name: str) -> None:
    documentation = inspect.getdoc(getattr(fl_meta, name)) or ""
    assert re.search(r"^Examples?:\n+ +\S", documentation, re.MULTILINE), f"fl_meta.{name} has no Example"


def programs() -> Iterator[tuple[str, str]]:
    """Where users' code is, and the code."""
    for folder in ("notebooks", "examples"):
        for path in sorted((ROOT / folder).glob("*.py")):
            yield path.name, path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), start=1):
            yield f"{path.name}, code {number}", code


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in programs()])
def test_users_import_only_from_faces(code: str) -> None:
    # Cells of notebooks may have lines for IPython.
    lines = (line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name.partition(".")[0] != "fl_meta" or alias.name in PACKAGES
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fl_meta":
            assert node.module in PACKAGES, f"{node.module} is a module, not a package with public names"
            names = {alias.name for alias in node.names}
            assert names <= set(importlib.import_module(node.module).__all__)
