"""Imports point in one direction, and a few things are kept to one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fl_meta"

# A module imports only modules above it.
ROOMS = (
    ("streams", "files", "threads", "checks"),
    ("data.on_demand", "data.federated", "data.batches", "data.partition", "data.strokes"),
    (
        "data.catalogue",
        "data.archives",
        "data.download",
        "data.handwriting",
        "data.writers",
        "data.shakespeare",
    ),
    ("data.plain_pickle", "data.database", "data.parts", "data.images", "data.idx", "data.tf_example"),
    ("data.synthetic", "data.real", "data.tff", "data.fedjax", "data.leaf"),
    (
        "data",
        "params",
        "optimizers",
        "models",
        "mobilenet",
        "algorithms",
        "local",
        "loop",
        "rules",
        "layers",
        "span",
        "stack",
        "stacked",
        "engines",
        "expansion",
    ),
    ("statistics", "personalization", "rounds", "checkpoints", "training"),
    (
        "verdicts",
        "experiments",
        "claim_one",
        "studies",
        "heterogeneity",
        "comparison",
        "benchmark",
        "results",
        "claims",
    ),
    (
        "playground",
        "mixing",
        "meet",
        "plots",
        "result_plots",
        "playground_plots",
        "heterogeneity_plots",
        "meet_plots",
        "panel",
        "explorer",
        "widgets",
    ),
    ("progress", "notebooks", "twins", "pages", "report", "cli"),
)
ORDER = [module for room in ROOMS for module in room]

# Where alone these may be imported; everywhere else they are forbidden.
ONLY_IN = {
    "ipywidgets": {"panel"},
    "tqdm": {"training", "results", "progress", "cli"},
    "papermill": {"notebooks"},
    "pickle": {"data.plain_pickle"},
    "matplotlib": {
        "plots",
        "meet_plots",
        "result_plots",
        "playground_plots",
        "heterogeneity_plots",
        "panel",
        "explorer",
        "widgets",
    },
    "seaborn": {"plots", "widgets"},
    "nbformat": {"progress", "notebooks", "twins", "pages"},
}
# They compute: what they read or write goes through `data`, `files` or `checkpoints`.
COMPUTING = {
    *ROOMS[4],
    "statistics",
    "personalization",
    "rounds",
    "training",
    "claim_one",
    "studies",
    "heterogeneity",
    "comparison",
    "claims",
} - {"data"}


def name_of(path: Path) -> str:
    """The module's name inside the package: `data.federated`; `__init__` has the name of its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, module: str, modules: set[str], is_package: bool) -> Iterator[str]:
    """Absolute names of all that is imported, wherever in the file it stands."""
    here = ["fl_meta", *filter(None, module.split("."))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                drop = node.level - 1 if is_package else node.level
                base = ".".join([*here[: len(here) - drop], *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                # `from fl_meta.data import batches` names a module, `from fl_meta.data import load` does not.
                yield inner if inner.removeprefix("fl_meta.") in modules else base


def faults(source: str, module: str, modules: set[str], is_package: bool = False) -> list[str]:
    """What the source of a module does that the rules forbid, one line each."""
    tree = ast.parse(source)
    found = []
    if module and module not in ORDER:
        return [f"{module} is new: put it into ROOMS in this test, below all that it imports"]
    for name in imports(tree, module, modules, is_package):
        top = name.partition(".")[0]
        if top in ONLY_IN and module not in ONLY_IN[top]:
            found.append(f"{module} imports {top}; only {sorted(ONLY_IN[top])} may")
        if top == "fl_meta" and module:
            target = name.removeprefix("fl_meta").removeprefix(".")
            if not target:
                found.append(f"{module} imports fl_meta itself; import the module that has the name")
            elif target not in ORDER:
                found.append(f"{module} imports {target}, which is no module in ROOMS")
            elif ORDER.index(target) >= ORDER.index(module):
                found.append(f"{module} imports {target}, which stands below it")
        if top in ("dill", "cloudpickle", "joblib"):
            found.append(f"{module} imports {top}: loading such a file can run any code")
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        keywords = {one.arg: ast.unparse(one.value) for one in call.keywords}
        if name in ("pickle.load", "pickle.loads"):
            found.append(f"{module} calls {name}: loading such a file can run any code")
        if name == "torch.load" and keywords.get("weights_only") != "True":
            found.append(f"{module} calls torch.load without weights_only=True")
        if keywords.get("allow_pickle") == "True":
            found.append(f"{module} allows pickle")
        if module in COMPUTING and name == "open":
            found.append(f"{module} opens a file; computing modules do not")
    return found


PATHS = sorted(PACKAGE.rglob("*.py"))
MODULES = {name_of(path) for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: name_of(path) or "__init__")
def test_module_keeps_the_rules(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert faults(source, name_of(path), MODULES, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("local", "from fl_meta.training import train", "local imports training, which stands below it"),
        ("local", "from fl_meta import training", "local imports training, which stands below it"),
        ("local", "from . import training", "local imports training, which stands below it"),
        ("local", "def f():\n    import fl_meta.training", "local imports training, which stands below it"),
        ("local", "from fl_meta import local", "local imports local, which stands below it"),
        ("data.batches", "from ..params import add", "data.batches imports params, which stands below it"),
        ("data.federated", "from . import batches", "data.federated imports data.batches, which stands"),
        (
            "data.federated",
            "from fl_meta.data import load",
            "data.federated imports data, which stands below",
        ),
        ("report", "from fl_meta import load_dataset", "report imports fl_meta itself"),
        ("report", "import fl_meta", "report imports fl_meta itself"),
        ("report", "import fl_meta.stray", "imports stray, which is no module in ROOMS"),
        ("stray", "", "stray is new: put it into ROOMS"),
        ("report", "import ipywidgets.widgets", "report imports ipywidgets"),
        ("training", "from matplotlib import pyplot", "training imports matplotlib"),
        ("local", "from tqdm import tqdm", "local imports tqdm"),
        ("training", "open('x')", "training opens a file"),
        ("checkpoints", "import pickle", "checkpoints imports pickle"),
        ("data.plain_pickle", "pickle.load(file)", "data.plain_pickle calls pickle.load"),
        ("checkpoints", "torch.load('x', weights_only=False)", "torch.load without weights_only=True"),
        ("data.writers", "np.load('x', allow_pickle=True)", "data.writers allows pickle"),
    ],
)
def test_a_fault_is_found(module: str, source: str, fault: str) -> None:
    found = faults(source, module, {*ORDER, ""})
    assert len(found) == 1 and fault in found[0]


@pytest.mark.parametrize(
    ("module", "source", "is_package"),
    [
        ("local", "from fl_meta import params\nfrom fl_meta.data.federated import Client", False),
        ("data.batches", "from .federated import Client\nfrom ..streams import stream", False),
        ("data", "from . import batches\nfrom .federated import Client", True),
        ("", "from fl_meta import data\nfrom fl_meta.cli import main\nfrom . import report", True),
        ("checkpoints", "torch.load('x', weights_only=True)\nopen('x')", False),
    ],
)
def test_what_is_allowed_is_not_a_fault(module: str, source: str, is_package: bool) -> None:
    assert faults(source, module, {*ORDER, ""}, is_package) == []
