from . import check
from .answers import choice, number, subset
from .editions import build_course
from .functions import function, values
from .grading import write_otter_tests
from .registry import exercise

__all__ = [
    "build_course",
    "check",
    "choice",
    "exercise",
    "function",
    "number",
    "subset",
    "values",
    "write_otter_tests",
]
