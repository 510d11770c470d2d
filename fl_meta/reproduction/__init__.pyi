from .pipeline import reproduce
from .report import Report, read_verdicts
from .sources import build_notebook, check_notebooks, choose_sources

__all__ = [
    "Report",
    "build_notebook",
    "check_notebooks",
    "choose_sources",
    "read_verdicts",
    "reproduce",
]
