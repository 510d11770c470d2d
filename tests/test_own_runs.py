"""Runs of one's own: which notebooks ask for, computed with the recorded choices, and told in the report."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from markupsafe import escape
from small_notebooks import write_notebook
from small_results import cell_of, crossed_design, tuning_of, write_design

from fl_meta.evidence import crossed_recording, crossed_results, own_run, results
from fl_meta.evidence.crossed_results import seeds_of, with_choices
from fl_meta.evidence.crossed_rules import LEAST_REPLICATES, MOST_REPLICATES
from fl_meta.evidence.own_run import YourRun, beside_recorded, own_runs
from fl_meta.evidence.results import recorded_folder
from fl_meta.experiments.clients import train_validation_held_out
from fl_meta.experiments.crossed_settings import DESIGNS, REPTILE, Crossed, Design
from fl_meta.experiments.outcomes import CrossedOutcome
from fl_meta.experiments.table_one_settings import CrossedTableOne
from fl_meta.reproduction import pipeline, report
from fl_meta.reproduction.findings import findings
from fl_meta.reproduction.own_runs import asked_runs
from fl_meta.reproduction.report import Report

DESIGN = crossed_design()
CONFIG = with_choices(DESIGN, [tuning_of(DESIGN, fold) for fold in range(2)])
CELLS = [cell_of(CONFIG, seed, {REPTILE: (2, 2)}) for seed in range(2 * LEAST_REPLICATES)]


@dataclass
class Trained:
    """Takes the place of training; `points` is by how much Reptile is ahead."""

    points: float = 2.0
    asked: list[tuple[Crossed, int]] = field(default_factory=list)

    def run(self, config: Crossed, seed: int) -> CrossedOutcome:
        self.asked.append((config, seed))
        cell = cell_of(config, seed, {REPTILE: (self.points, self.points)})
        return CrossedOutcome(cell.clients, cell.arms, cell.curves)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one recorded design, "toy", and an empty one for own results."""
    write_design(tmp_path / "recorded", CELLS)
    for module in (own_run, crossed_results):
        monkeypatch.setattr(module, "DESIGNS", {"toy": DESIGN})
    monkeypatch.setenv("FL_META_RECORDED", str(tmp_path / "recorded"))
    monkeypatch.setenv("FL_META_EXPERIMENTS", str(tmp_path / "own"))
    return tmp_path / "recorded"


@pytest.fixture
def trained(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    one, data = Trained(), SimpleNamespace(name="toy", label=CELLS[0].label, fingerprint="")
    changed = replace(results.EXPERIMENTS["crossed"], run=one.run, data=lambda config: data)
    monkeypatch.setitem(results.EXPERIMENTS, "crossed", changed)
    return one


def run(profile: str = "laptop", seed: int = 0, name: str = "toy") -> YourRun:
    with ThreadPoolExecutor(1) as pool:
        return own_run.your_run(name, profile, seed, executor=pool, progress=False)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_is_a_replicate_that_is_never_recorded(trained: Trained, seed: int) -> None:
    own = run(seed=seed)
    ((config, used),) = trained.asked
    assert config == CONFIG and used % DESIGN.folds == seed % DESIGN.folds
    assert used not in seeds_of(DESIGN, range(MOST_REPLICATES))
    assert own.effects.equals(beside_recorded(own.run, CELLS)) and own.cells == CELLS
    assert run(seed=seed).run == own.run and len(trained.asked) == 1, "it is kept"


@pytest.mark.parametrize(("points", "place"), [(2.0, "within"), (9.0, "outside")])
def test_a_sentence_says_where_the_run_lies(trained: Trained, points: float, place: str) -> None:
    trained.points = points
    own = run()
    row = own.effects.set_index("claim").loc["2a-initial"]
    text = own.sentence("2a-initial")
    assert f"**{place}**" in text and f"+{row.effect:.1f} points" in text
    assert f"between +{row.low:.1f} and +{row.high:.1f}" in text
    with pytest.raises(KeyError, match=r"no test '4'; there are 2a-initial"):
        own.sentence("4")


def test_a_short_run_is_of_another_design_and_is_not_compared(trained: Trained, tmp_path: Path) -> None:
    own = run("smoke")
    ((config, _),) = trained.asked
    assert config.setting.num_clients == own_run.FEW_CLIENTS
    assert max(choice.rounds for fold in config.choices for choice in fold) <= own_run.SHORT_STEPS
    assert [one.rate for one in config.choices[0]] == [one.rate for one in CONFIG.choices[0]]
    assert own.effects.low.isna().all() and not own.effects.within.any()
    assert "cannot be compared" in own.sentence("2a-initial")
    assert own_runs([CELLS], tmp_path / "own").empty


@pytest.mark.parametrize("name", ["writers-stable", "shakespeare-stable"])
def test_a_short_run_has_enough_clients_for_a_round(name: str) -> None:
    design = DESIGNS[name]
    setting = replace(design.setting, num_clients=own_run.FEW_CLIENTS)
    for fold in range(design.folds):
        train, _, _ = train_validation_held_out(setting, fold, design.folds)
        assert len(train) >= design.clients_per_round


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "mars"}, "no design 'mars'; there are toy"),
        ({"profile": "huge"}, "'huge' is unknown; choose one of 'smoke', 'laptop', 'full'"),
    ],
)
def test_bad_input_names_what_is_allowed(recorded: Path, values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**values)


def test_too_few_recorded_replicates_are_an_error(recorded: Path) -> None:
    next(recorded.glob("crossed-*-seed7.json")).unlink()
    with pytest.raises(ValueError, match=r"^6 recorded cells of toy .* fl-meta record crossed-toy"):
        run()


def test_recorded_results_are_found_from_a_folder_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FL_META_RECORDED", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"above it with recorded results; .*FL_META_RECORDED"):
        recorded_folder()
    (tmp_path / "data/results").mkdir(parents=True)
    (tmp_path / "build/course").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "build/course")
    assert recorded_folder() == tmp_path / "data/results"
    monkeypatch.setenv("FL_META_RECORDED", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        recorded_folder()


def test_the_notebooks_say_which_runs_they_need(tmp_path: Path) -> None:
    one, other = tmp_path / "01_a.ipynb", tmp_path / "02_b.ipynb"
    write_notebook(one, ['own = evidence.your_run("writers-unstable", profile, seed)', "your_run = 3"])
    write_notebook(other, ["a = your_run(\n    'toy', profile, 0)\nb = your_run('writers-unstable')"])
    assert asked_runs([one, other]) == ["writers-unstable", "toy"]


def test_the_report_tells_the_evidence_and_where_own_runs_lie(
    recorded: Path, trained: Trained, tmp_path: Path
) -> None:
    without = findings(recorded, tmp_path / "own")
    assert without and without.own == [] and "No run here can be compared" in without.own_sentence
    trained.points = 9.0
    own = run()
    found = findings(recorded, tmp_path / "own")
    assert found and found.figure.startswith(b"\x89PNG") and found.figure != without.figure
    assert [row["test"] for row in found.own] == own.effects.claim.tolist()
    assert found.outside == (~own.effects.within).sum() > 0
    assert f"Of {len(own.effects)} tests in your runs, {own.effects.within.sum()} lie" in found.own_sentence
    (tmp_path / "sources").mkdir()
    report.prepare(tmp_path / "report", tmp_path / "sources")
    index = report.write(Report("laptop", "", (), (), findings=found), tmp_path / "report")
    html = index.read_text(encoding="utf-8")
    for sentence in (*found.answers, found.own_sentence, *found.sentences):
        assert escape(sentence) in html
    assert html.index("In short") < html.index("<img") < html.index("Verdicts<") < html.index("Your runs<")
    assert "✘ outside" in html
    assert findings(tmp_path / "sources", tmp_path / "own") is None


@pytest.mark.slow
def test_the_profile_full_computes_the_evidence_first_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, order = list[Path](), list[str]()

    def record(folder: Path, **options: object) -> list[str]:
        order.append("evidence")
        folders.append(folder)
        folder.mkdir(exist_ok=True)
        (folder / f"{len(folders)}.json").touch()
        return ["mars-stable"]

    monkeypatch.setattr(pipeline, "record_all", record)
    monkeypatch.setattr(pipeline, "compute_own_runs", lambda names, *_: order.append(" ".join(names)))
    (tmp_path / "notebooks").mkdir()
    write_notebook(
        tmp_path / "notebooks/01_a.ipynb",
        ["import os\nprint(sorted(os.listdir(os.environ['FL_META_RECORDED'])))  # your_run(\"toy\")"],
    )
    for _ in range(2):
        found = pipeline.reproduce(tmp_path / "notebooks", tmp_path / "report", profile="full")
        assert not found.failed and found.left_out == ("mars-stable",)
    assert order == ["evidence", "toy"] * 2 and set(folders) == {tmp_path / "report/evidence"}
    notebook = nbformat.read(tmp_path / "report/notebooks/01_a.ipynb", as_version=4)
    assert "['1.json', '2.json']" in notebook.cells[-1].outputs[0].text
    assert "mars-stable" in (tmp_path / "report/index.html").read_text(encoding="utf-8")


def test_recording_everything_leaves_out_what_has_no_data(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Design | CrossedTableOne] = []

    def data_of(design: Design | CrossedTableOne) -> None:
        if design.setting.dataset == "unipen62":
            raise FileNotFoundError

    monkeypatch.setattr(crossed_recording, "data_of", data_of)
    for record in ("record_design", "record_table_one"):
        monkeypatch.setattr(crossed_recording, record, lambda design, *_, **__: done.append(design))
    missing = crossed_recording.record_all(recorded)
    assert missing == ["unipen62-stable", "unipen62-unstable", "table_one-unipen62"]
    everything = {**crossed_recording.DESIGNS, **crossed_recording.TABLE_ONE_DESIGNS}
    assert len(done) == len(everything) - 3
