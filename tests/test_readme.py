import re
from pathlib import Path

import numpy as np
import pytest

import fl_meta

README = Path(__file__).parent.parent / "README.md"
SMALLER = {
    'load_dataset("writers")': 'load_dataset("writers", num_writers=8, cache=False)',
    "rounds=50, clients_per_round=20": "rounds=2, clients_per_round=3",
    "epochs=5": "epochs=1",
}


def test_the_code_of_the_readme_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    for large, small in SMALLER.items():
        assert large in code
        code = code.replace(large, small)
    names = {
        "x": np.zeros((20, 28, 28), dtype=np.float32),
        "y": np.arange(20) % 4,
        "client_ids": np.arange(20) % 5,
    }
    exec(code, names)
    assert "gain_by_client" in capsys.readouterr().out
    assert isinstance(names["run"], fl_meta.Run)
    assert names["run"].history.index[-1] == 2
    assert (tmp_path / "build" / "run.safetensors").exists()
