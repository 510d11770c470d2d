"""Running notebooks, and building them from their sources, on toys."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from small_notebooks import VERDICT, write_notebook

from fl_meta.reproduction import runner, sources
from fl_meta.reproduction.progress import Progress, is_progress_line
from fl_meta.reproduction.runner import NotebookRun

SLIDER = """
import ipywidgets as widgets
slider = widgets.IntSlider(value=3)
def show(value):
    print("value", value)
    {action}
widgets.VBox([slider, widgets.interactive_output(show, {{"value": slider}})])
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NotebookRun]:
    """Every way in which a notebook ends, run once, in a home whose kernel `python3` is broken."""
    folder = tmp_path_factory.mktemp("toys")
    output = tmp_path_factory.mktemp("executed")
    write_notebook(
        folder / "01_good.ipynb",
        [
            "import os, sys, tqdm, pathlib\nfor _ in tqdm.tqdm(range(3), desc='FedAvg'): pass",
            "print('a real warning', file=sys.stderr)",
            "print(seed, pathlib.Path.cwd(), sys.executable)",
            "effect = 1.5" + VERDICT,
        ],
    )
    write_notebook(folder / "02_fails.ipynb", ["x = 1", "def f():\n    return x / 0\nf()", "print('never')"])
    write_notebook(folder / "03_slider.ipynb", [SLIDER.format(action="raise KeyError('broke')")])
    write_notebook(folder / "04_dead.ipynb", ["import os\nos._exit(3)"])
    write_notebook(folder / "05_stored.ipynb", ["effect, profile = 1.5, 'full'" + VERDICT])
    write_notebook(folder / "06_last.ipynb", [SLIDER.format(action="pass")])
    write_notebook(folder / "unnumbered.ipynb", ["raise RuntimeError('not to be run')"])
    home = tmp_path_factory.mktemp("home")
    kernel = home / ".local/share/jupyter/kernels/python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "broken"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("JUPYTER_PATH", str(kernel.parent.parent))
        plan = runner.plan(folder, {"profile": "smoke", "seed": 7})
        done = {run.name: run for run in runner.run_all(plan, output, "smoke")}
        assert "JUPYTER_RUNTIME_DIR" not in os.environ
    return done


def text_of(run: NotebookRun) -> str:
    cells = nbformat.read(run.path, as_version=4).cells
    return "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", ()))


@pytest.mark.slow
def test_all_numbered_notebooks_run_with_parameters_and_verdicts(
    runs: dict[str, NotebookRun],
) -> None:
    assert sorted(runs) == ["01_good", "02_fails", "03_slider", "04_dead", "05_stored", "06_last"]
    good = sorted(name for name, run in runs.items() if not run.failures)
    assert good == ["01_good", "06_last"], [run.failures for run in runs.values()]
    run = runs["01_good"]
    assert run.parameters == {"profile": "smoke", "seed": 7}
    assert [(one.claim, one.profile, one.notebook) for one in run.verdicts] == [("gain", "smoke", "01_good")]
    text = text_of(run)
    assert "a real warning" in text and "FedAvg" not in text, "the lines of progress bars are left out"
    assert "7 " in text and "toys" in text and "/bin/" in text
    assert run.seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place", "error", "message"),
    [
        # Cells are counted as in the source: the parameters add none.
        ("02_fails", "cell 3 of 4", "ZeroDivisionError", "division by zero"),
        ("03_slider", "callback of a slider or button", "KeyError", "'broke'"),
        ("04_dead", "cell 2 of 2", "DeadKernelError", "died"),
        ("05_stored", "", "", "profile 'full' in a run of profile 'smoke'; it was stored"),
    ],
)
def test_a_failure_is_told_with_its_place(
    runs: dict[str, NotebookRun], name: str, place: str, error: str, message: str
) -> None:
    (failure,) = runs[name].failures
    assert place in failure.place and error in failure.error and message in failure.message
    assert runs[name].verdicts == ()
    if name == "02_fails":
        assert failure.source == "def f():\n    return x / 0\nf()"
        assert "return x / 0" in failure.traceback and "\x1b" not in failure.traceback
        assert "never" not in text_of(runs[name])


def test_parameters_are_set_in_their_own_cell() -> None:
    cell = nbformat.v4.new_code_cell(
        'profile = "laptop"  # or "smoke"\nseed: int = 0\nrates = (\n    1,\n)',
        metadata={"tags": ["parameters", "hide"]},
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), cell])
    runner.set_parameters(notebook, {"profile": "smoke", "seed": 7, "rates": [2, "a b"]})
    assert [one.cell_type for one in notebook.cells] == ["markdown", "code"]
    assert cell.metadata.tags == ["parameters", "hide"]
    assert cell.source.splitlines()[:2] == ['profile = "smoke"  # or "smoke"', "seed: int = 7"]
    values: dict[str, object] = {}
    exec(cell.source, values)
    assert (values["profile"], values["seed"], values["rates"]) == ("smoke", 7, [2, "a b"])


@pytest.mark.slow
def test_a_cell_that_hangs_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_notebook(tmp_path / "01_hangs.ipynb", ["import time\ntime.sleep(60)"])
    monkeypatch.setitem(runner.CELL_SECONDS, "smoke", 1)
    (tmp_path / "out").mkdir()
    run = runner.run_one(tmp_path / "01_hangs.ipynb", tmp_path / "out/01_hangs.ipynb", "smoke", tmp_path)
    (failure,) = run.failures
    assert (failure.error, failure.place) == ("CellTimeoutError", "cell 2 of 2")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"profil": "smoke"}, r"01_a.ipynb has no parameter 'profil'; did you mean 'profile'\?"),
        *(
            ({"seed": bad}, rf"seed must be of type int in 01_a.ipynb \(default: 0\), got {bad!r}")
            for bad in ("abc", 1.5, None)
        ),
        ({"profile": "smoke"}, r"02_b.ipynb has no parameter 'profile': none of its cells"),
        ({}, "03_c.ipynb cannot be read as a notebook"),
    ],
)
def test_bad_input_is_an_error_before_anything_runs(
    tmp_path: Path, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(FileNotFoundError, match="--notebooks"):
        runner.plan(tmp_path, {})
    write_notebook(tmp_path / "01_a.ipynb", [])
    assert runner.plan(tmp_path, {"seed": 7}).parameters[0]["seed"] == 7
    if message.startswith("02"):
        write_notebook(tmp_path / "02_b.ipynb", [], parameters="# nothing here")
    if message.startswith("03"):
        (tmp_path / "03_c.ipynb").write_text("{")
    with pytest.raises(ValueError, match=message):
        runner.plan(tmp_path, parameters)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_shows_the_cell_and_the_notebooks_own_bar(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x") for _ in range(4)])
    with Progress(2) as progress:
        one, other = progress.start("01_a"), progress.start("02_b")
        one.start_notebook(notebook)
        one.start_cell(notebook.cells[2], 2)
        monkeypatch.setattr("fl_meta.reproduction.progress.time.monotonic", lambda: 1e9)
        one.write("\rFedAvg:  33%|███▎      | 1/3 [00:00<00:01]\rFedAvg:  67%|██████▋   | 2/3 [00:01<00:00]")
        progress.finish(one, "01_a: 2.0 s")
        other.start_notebook(notebook)
        other.start_cell(notebook.cells[0], 0)
    shown = stream.getvalue()
    assert "[1/2] 01_a: 2.0 s\n" in shown
    if stream.isatty():
        assert "01_a · cell 3 of 4 · FedAvg 2/3 (0 of 2 done)" in shown
        assert " 25%|" in shown, "half of the first of two notebooks"
        assert "02_b · cell 1 of 4 (1 of 2 done)" in shown
    else:
        assert shown == "[1/2] 01_a: 2.0 s\n", "a log has one line per notebook"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("FedAvg:  40%|████      | 120/300 [00:04<00:06, 29.1it/s]", True),
        ("100%|██████████| 3/3 [00:00<00:00, 9.1it/s]\x1b[A", True),
        ("accuracy: 40% of 120/300 [clients]", False),
        ("", False),
    ],
)
def test_lines_of_progress_bars_are_recognised(line: str, expected: bool) -> None:
    assert is_progress_line(line) is expected


SOURCE = f"""# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # A toy
# with two lines

# %% tags=["parameters"]
profile = "smoke"

# %%
from PIL import Image
colours = [Image.linear_gradient("L").rotate(turn) for turn in (0, 90, 180)]
display(Image.merge("RGB", colours))
{SLIDER.format(action="pass")}
# %%
1 + 1

# %%
1 + 1
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    (folder / "01_toy.py").write_text(SOURCE)
    assert sources.build_notebook(folder / "01_toy.py").failures == ()
    return folder


@pytest.fixture
def pair(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "pair"))


def test_a_built_notebook_agrees_with_its_source(built: Path) -> None:
    assert sources.check_notebooks(built) == []
    notebook = nbformat.read(built / "01_toy.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code", "code", "code"]
    assert notebook.cells[3].outputs[0].data["text/plain"] == "2"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert sorted(path.name for path in built.iterdir()) == ["01_toy.ipynb", "01_toy.py"]


def test_pictures_are_kept_in_fewer_colours(built: Path) -> None:
    output = nbformat.read(built / "01_toy.ipynb", as_version=4).cells[2].outputs[0]
    kept = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert kept.mode == "P"
    drawn = Image.merge("RGB", [Image.linear_gradient("L").rotate(turn) for turn in (0, 90, 180)])
    apart = np.abs(np.asarray(kept.convert("RGB"), dtype=float) - np.asarray(drawn))
    assert apart.mean() < 8, "levels of 255; these are the most colours that there can be"


def test_blank_lines_around_a_cell_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "01_a.py").write_text("# %%\n\n\ndef f():\n    pass\n\n\n# %%\nf()\n")
    cells = sources.read_source(tmp_path / "01_a.py").cells
    assert [cell.source for cell in cells] == ["def f():\n    pass", "f()"]


def test_the_code_of_a_sentence_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "01_a.py").write_text('# %% tags=["prose"]\nsay(1)\n\n# %% tags=["check"]\nsay(2)\n')
    hidden, shown = sources.read_source(tmp_path / "01_a.py").cells
    assert hidden.metadata == {"tags": ["prose"], "jupyter": {"source_hidden": True}}
    assert shown.metadata == {"tags": ["check"]}


def test_cell_ids_depend_on_the_source_alone(pair: Path) -> None:
    before = [cell.id for cell in sources.read_source(pair / "01_toy.py").cells]
    assert len(set(before)) == 5
    (pair / "01_toy.py").write_text(SOURCE.replace("# %%\n1 + 1", "# %%\n'new'\n\n# %%\n1 + 1", 1))
    after = [cell.id for cell in sources.read_source(pair / "01_toy.py").cells]
    assert [one for one in after if one in before] == before


@pytest.mark.parametrize(
    ("old", "new", "cell", "difference"),
    [
        ("1 + 1\n\n", "1 + 2\n\n", "cell #4", "+1 + 1"),
        ('# %% tags=["parameters"]', "# %%", "cell #2", "parameters"),
        ("# %%\n1 + 1", "# %% [markdown]\n# 1 + 1", "cell #4", "expecting a markdown cell, but got a code"),
        ("# with two lines\n", "", "cell #1", "+with two lines"),
        ("\n# %%\n1 + 1\n", "", "Additional code cell", "1 + 1"),
        ("\n# %%\n1 + 1\n", "\n# %%\n1 + 1\n" * 2, "cell #6", "1 + 1"),
    ],
)
def test_check_finds_a_changed_source(pair: Path, old: str, new: str, cell: str, difference: str) -> None:
    (pair / "01_toy.py").write_text(SOURCE.replace(old, new, 1))
    (problem,) = sources.check_notebooks(pair)
    assert problem.startswith("01_toy.ipynb differs from its source. ")
    assert cell in problem and difference in problem


def test_check_finds_what_is_wrong_with_a_notebook(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pair / "01_toy.ipynb"
    good = nbformat.read(path, as_version=4)
    good.cells[2].execution_count = None
    nbformat.write(good, path)
    assert sources.check_notebooks(pair) == ["01_toy.ipynb was not executed from top to bottom"]
    good.cells[2].execution_count = 2
    good.cells[3].outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]
    nbformat.write(good, path)
    assert sources.check_notebooks(pair) == ["01_toy.ipynb shows an error"]
    good.cells[3].outputs = []
    nbformat.write(good, path)
    monkeypatch.setattr(sources, "MAXIMUM_BYTES", 100)
    assert "at most 100 are allowed" in sources.check_notebooks(pair)[0]
    path.rename(pair / "02_other.ipynb")
    assert sources.check_notebooks(pair) == [
        "02_other.ipynb has no source 02_other.py",
        "01_toy.ipynb is missing; run: fl-meta notebooks build 01_toy",
    ]


@pytest.mark.slow
def test_building_again_changes_nothing_and_a_failure_changes_nothing(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, before = pair / "01_toy.py", (pair / "01_toy.ipynb").read_bytes()
    sources.build_notebook(source)
    assert (pair / "01_toy.ipynb").read_bytes() == before
    profile = '# %% tags=["parameters"]\nprofile = "smoke"\n'
    source.write_text(f"{profile}\n# %%\n1 / 0\n")
    assert sources.build_notebook(source).failures[0].error == "ZeroDivisionError"
    monkeypatch.setattr(sources, "MAXIMUM_BYTES", 100)
    for text, message in (
        ("# %%\n1\n", r"01_toy.py needs a parameter profile, one of smoke"),
        (profile, r"01_toy.ipynb has \d+ bytes, but at most 100 are allowed"),
    ):
        source.write_text(text)
        with pytest.raises(ValueError, match=message):
            sources.build_notebook(source)
    assert (pair / "01_toy.ipynb").read_bytes() == before


def test_choosing_sources_by_name(pair: Path) -> None:
    (pair / "02_more.py").write_text("")
    everything = (pair / "01_toy.py", pair / "02_more.py")
    assert sources.choose_sources(pair, []) == everything
    assert sources.choose_sources(pair, ["notebooks/02_more.ipynb", "01_toy"]) == everything[::-1]
    with pytest.raises(FileNotFoundError, match="did you mean 01_toy"):
        sources.choose_sources(pair, ["01_tou"])
