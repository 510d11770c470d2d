from pathlib import Path

import nbformat
import pytest

from fl_meta.reproduction import check_notebooks, runner

FOLDER = Path(__file__).parent.parent / "notebooks"
PATHS = runner.find(FOLDER, ".ipynb")


def test_every_notebook_agrees_with_its_source() -> None:
    assert check_notebooks(FOLDER) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_has_what_readers_expect(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert "**The question of this notebook:**" in cells[0].source
    assert "**What it costs:**" in cells[0].source
    assert set(runner.parameters_of(path)) >= {"profile", "seed"}
    solutions = [
        cell for cell in cells if cell.cell_type == "markdown" and cell.source.startswith("**Solution")
    ]
    assert len(solutions) >= 3
    assert all("solution" in cell.metadata.get("tags", []) for cell in solutions)
