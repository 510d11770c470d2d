from .pipeline import reproduce
from .report import Report
from .sources import build_notebook, check_notebooks, choose_sources
from .written_verdicts import read_verdicts

__all__ = [
    "Report",
    "build_notebook",
    "check_notebooks",
    "choose_sources",
    "read_verdicts",
    "reproduce",
]
