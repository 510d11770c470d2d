"""The verdicts of a report that was written before; reading them needs neither notebooks nor PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

from fl_meta.evidence.verdicts import Verdict, VerdictTable

FILE = "verdicts.json"


def read_verdicts(folder: Path) -> tuple[VerdictTable, tuple[str, ...]]:
    """The verdicts of the last report, and the names of the notebooks that failed in it.

    Raises:
        FileNotFoundError: if there is no report.
        ValueError: if its file of verdicts is damaged.

    Example:
        >>> verdicts, failed = read_verdicts(Path("build/report"))  # doctest: +SKIP
    """
    path = folder / FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        verdicts = tuple(Verdict.from_json(verdict) for verdict in value["verdicts"])
        return VerdictTable(verdicts), tuple(value["failed"])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no report in {folder}; make one with: make reproduce") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); make a new one with: make reproduce") from error
