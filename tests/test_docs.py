"""README, CONTRIBUTING and docs: code runs, links lead somewhere, numbers are the recorded ones."""

import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import matplotlib.pyplot as plt
import numpy as np
import pytest
from small_results import crossed_results, write_design
from small_tables import drawn, levels, results_of

import fl_meta
from fl_meta import evidence, experiments
from fl_meta.command_line.main import main
from fl_meta.evidence import crossed_words
from fl_meta.evidence.result_files import write_result
from fl_meta.experiments.crossed_settings import REPTILE

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
# What a test changes, so that the code is run in seconds.
SMALLER = {
    "README.md": {
        'load_dataset("writers")': 'load_dataset("writers", num_writers=8, cache=False)',
        "rounds=50, clients_per_round=20": "rounds=2, clients_per_round=3",
        "epochs=5": "epochs=1",
    },
    "using_the_library.md": {
        "num_writers=100": "num_writers=8, cache=False",
        "rounds=50, clients_per_round=20": "rounds=2, clients_per_round=3",
        "steps=200": "steps=20",
        "epochs=5": "epochs=1",
    },
    "evidence_claim_1.md": {"num_writers=100": "num_writers=8, cache=False", "7)  # in": "2)  # in"},
    "evidence_published.md": {"num_clients=20": "num_clients=2"},
    "course.md": {},
    "data.md": {"num_writers=1_000": "num_writers=20"},
}


def named(paths: tuple[Path, ...]) -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def code_of(path: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE))


def anchors_of(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    plt.close("all")


@pytest.mark.parametrize("path", named(tuple(path for path in DOCUMENTS if code_of(path))))
def test_the_code_runs_as_it_stands(
    path: Path, in_a_folder_of_its_own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = code_of(path)
    for large, small in SMALLER[path.name].items():
        assert large in code
        code = code.replace(large, small)
    names: dict[str, object] = {}
    exec(code, names)
    if path.name == "README.md":
        assert "gain_by_client" in capsys.readouterr().out
        assert isinstance(names["run"], fl_meta.Run)
    if path.name == "using_the_library.md":
        assert (in_a_folder_of_its_own / "build" / "run.safetensors").exists()


@pytest.mark.parametrize("path", named(DOCUMENTS))
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if not link.startswith(("https://", "http://")):
            file, _, anchor = unquote(link).partition("#")
            target = path.parent / file if file else path
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("path", named(DOCUMENTS))
def test_names_and_files_in_the_text_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    for name in re.findall(r"\bfl_meta(?:\.\w+)+", text):
        pkgutil.resolve_name(name)
    for file in re.findall(r"`([\w/]+/[\w/]+\.\w+)`", text):
        if "NN_name" not in file and not file.startswith("build/"):
            assert (ROOT / file).exists() or (ROOT / "fl_meta" / file).exists(), file


@pytest.mark.parametrize("path", named(sorted((ROOT / "notebooks").glob("*.py"))))
def test_names_in_a_notebook_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    packages = re.findall(r"\b((?:experiments|evidence|laboratories|plots)\.(?!md\b)\w+)", text)
    names = re.findall(r"\bfl_meta(?:\.\w+)+", text) + [f"fl_meta.{name}" for name in packages]
    assert names
    for name in names:
        assert pkgutil.resolve_name(name.removesuffix(".py")) is not None


def test_the_readme_leads_to_every_page() -> None:
    readme = README.read_text("utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{path.name})" in readme


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= 9000


def test_generated_text_and_figures_are_up_to_date(generate: ModuleType) -> None:
    for path in generate.DOCUMENTS:
        text = path.read_text("utf-8")
        assert generate.filled(text) == text, f"{path.name} is out of date; run: python docs/generate.py"
    for name, image in generate.figures().items():
        assert (ROOT / "docs" / name).read_bytes() == image, f"{name}: run python docs/generate.py"


def test_figures_of_the_evidence_were_drawn_from_the_result_files(generate: ModuleType) -> None:
    for name, (_, tables) in generate.evidence_figures().items():
        digest = generate.checksum(tables)
        assert generate.drawn_from(ROOT / "docs" / name) == digest, f"{name}: run python docs/generate.py"
    moved = generate.judged().assign(effect=lambda table: table.effect + 0.01)
    assert generate.checksum([moved]) != generate.checksum([generate.judged()])


def test_every_claim_of_the_readme_is_in_its_table(generate: ModuleType) -> None:
    rows = generate.claims().splitlines()[2:]
    assert re.findall(r"\*\*(.*?)\.\*\*", "".join(rows)) == ["1", "Table 1"]
    tested = [claim for claims in crossed_words.SUMMARY.values() for claim in claims]
    assert tested == [test.claim for test in evidence.CLAIM_TESTS]
    assert re.findall(r"\*\*(.*?)\.\*\*", "\n".join(crossed_words.SUMMARY)) == ["2a", "2b", "3"]
    assert generate.points(2.449) == "+2.4"
    assert generate.points(-0.04) == "0.0"


def test_the_evidence_is_that_of_the_result_files(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_design(tmp_path, crossed_results(experiments.DESIGNS["unipen62-stable"], {REPTILE: (2, -2)}))
    truth = levels((60, 60, 60, 60), (70, 75, 63, 75)), levels((60, 60, 60, 60), (65, 75, 59, 75))
    for result in results_of(
        *(drawn(np.random.default_rng(0), one, run=(0.04, 0.01), rest=0.01) for one in truth)
    ):
        write_result(result, tmp_path / evidence.file_name(result.config, result.seed))
    monkeypatch.setattr(generate, "RESULTS", tmp_path)
    for kept in (generate.designs, generate.judged, generate.tables_one, generate.findings):
        monkeypatch.setattr(generate, kept.__name__, kept.__wrapped__)
    page, readme = (generate.filled(path.read_text("utf-8")) for path in (ROOT / "docs/evidence.md", README))
    assert generate.NOTHING not in page + readme
    assert "a better initial model than as many more rounds of it: reproduced on toy (stable)." in page
    assert "a better personalized model than as many more rounds of it: contradicted on toy (stable)." in page
    assert (
        "helps for every number of local epochs E and of clients a round (reproduced 1, contradicted 1); "
        in readme
    )
    gains = re.findall(r"\| toy \(synthetic\) \| (equal .*?) \| (.*?) \| (\S+) ", page)
    assert gains[:2] == [("equal rounds", "✔ reproduced", "+2.99"), ("equal work", "✖ contradicted", "−1.01")]
    assert re.search(r"\| 5 \| 2 \| .*? ± 0\.0\d \| .* \| 2\.60 \| 0\.61 \| 4\.3 \|", page), (
        "beside the paper's"
    )
    assert "3. Claim 2a, that Reptile after FedAvg is better than more FedAvg: of 2 tests, 1 repr" in readme
    assert "| ✔ +2.0 / –<br>✖ −2.0 / – |" in readme


def test_the_recorded_verdicts_in_notebooks_are_those_of_the_result_files(generate: ModuleType) -> None:
    decided = {(one.claim, one.dataset, one.regime): one for one in evidence.as_verdicts(generate.judged())}
    decided |= {
        (one.claim, one.dataset, one.regime): one
        for one in (finding.as_verdict() for finding in generate.findings())
    }
    shown = [one for one in generate.shown() if one.profile == "recorded"]
    assert {one.claim for one in shown} == {claim for claim, *_ in decided}
    for one in shown:
        other = decided[one.claim, one.dataset, one.regime]
        assert one.verdict == other.verdict
        assert (one.effect, *one.interval) == pytest.approx((other.effect, *other.interval), nan_ok=True)


def test_table_one_in_its_lesson_is_that_of_the_result_files(generate: ModuleType) -> None:
    tables = evidence.recorded_tables(ROOT / "data" / "results").values()
    decided = [one.as_verdict() for one in evidence.table_one_findings(tables)]
    name = "02_initial_and_personalized"
    shown = generate.collect(generate.notebooks()[name].cells, name)
    for one, other in zip(decided, shown, strict=True):
        ours, theirs = ((x.claim, x.dataset, x.regime, x.verdict) for x in (one, other))
        assert ours == theirs, f"run: make notebooks ARGS={name}"
        assert (one.effect, *one.interval) == pytest.approx((other.effect, *other.interval), rel=1e-6)


def test_every_command_exists(capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(path.read_text("utf-8") for path in DOCUMENTS)
    code = "\n".join(re.findall(r"`[^`\n]+`|^```sh$.*?^```$", text, re.MULTILINE | re.DOTALL))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z][a-z-]+)", code)) <= {*targets, "help"}
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert set(re.findall(r"\bfl-meta ([a-z]+)", code)) <= set(commands)
